"""Verdicts: the probabilities of before, at and after, by hand and as laws; what may not be said."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoundwatch.events import KINDS
from compoundwatch.model import State, Timing, VerdictSettings
from compoundwatch.score.dates import date
from compoundwatch.score.verdicts import CONFOUNDING, verdict, verdicts

from .test_dates import event, normal, posteriors, state, view_days

SETTINGS = VerdictSettings()
VIEWS = list(range(40, 400, 10))
NO_DATE = {"change_date": None, "change_date_earliest": None, "change_date_latest": None, "change_dates": {}}


def unchanged(**more):
    probability = {State.UNCHANGED: 0.9, State.EMPTIED: 0.1}
    return state(state=State.UNCHANGED, **(NO_DATE | {"probability": probability} | more))


def test_before_at_and_after_by_hand():
    """Change anywhere between views on days 100 and 110 (a tenth a day), event on day 108, P(changed) = 0.9.

    Up to day 106: 0.05 + 6 x 0.1 = 0.65; days 107 to 109: 0.3; day 110: 0.05. Before day 108 at all: 0.75.
    """
    found = verdict(state({103: 0.5, 106: 0.5}), event(108), SETTINGS, views=VIEWS)
    assert found.probability == pytest.approx(
        {Timing.BEFORE: 0.585, Timing.AT: 0.27, Timing.AFTER: 0.045, Timing.UNDATED: 0, Timing.NONE: 0.1}
    )
    assert found.change_first == pytest.approx(0.9 * 0.75)
    assert found.departure_first == pytest.approx((0.85 + 0.05) * 0.75)
    assert (found.days, found.days_low, found.days_high) == (-3, -7, 1)
    assert found.timing is Timing.INCONCLUSIVE
    assert found.reason.startswith("Inconclusive against the raid e (before 58%, at 27%, after ")
    assert found.reason.endswith("none 10%; change minus event -3 days, 90% interval -7 to +1).")


def test_a_departure_well_before_the_raid_is_called():
    found = verdict(state({103: 0.5, 106: 0.5}), event(115), SETTINGS, views=VIEWS)
    assert found.timing is Timing.BEFORE
    assert found.probability[Timing.BEFORE] == pytest.approx(0.9)
    assert found.reason.startswith("Consistent with a fall of activity before the raid e (before 90%")


def test_a_change_after_the_raid_is_called():
    found = verdict(state({103: 0.5, 106: 0.5}), event(95), SETTINGS, views=VIEWS)
    assert found.timing is Timing.AFTER
    assert found.change_first == pytest.approx(0)


def test_construction_before_a_raid_is_no_departure():
    built = state({103: 1.0}, state=State.BUILDING, probability={State.BUILDING: 0.97, State.UNCHANGED: 0.03})
    found = verdict(built, event(150), SETTINGS, views=VIEWS)
    assert found.change_first == pytest.approx(0.97)
    assert found.departure_first == 0


def test_an_event_known_to_the_month_is_spread_over_it():
    """Change on 100..110 as before, event on any of the days 101..130: P(change - event <= -2) by enumeration."""
    weights = {d: 0.1 for d in range(101, 110)} | {100: 0.05, 110: 0.05}
    early = sum(p * sum(1 for e in range(101, 131) if d - e <= -2) / 30 for d, p in weights.items())
    found = verdict(state({103: 0.5, 106: 0.5}), event(101, 130), SETTINGS, views=VIEWS)
    assert found.probability[Timing.BEFORE] == pytest.approx(0.9 * early)


def test_no_change_needs_views_after_the_event():
    enough = verdict(unchanged(), event(350), SETTINGS, views=VIEWS)  # views on 360, 370, 380, 390
    assert enough.timing is Timing.NONE
    assert enough.days is None
    assert enough.probability[Timing.UNDATED] == pytest.approx(0.1)
    too_late = verdict(unchanged(), event(361), SETTINGS, views=VIEWS)
    assert too_late.timing is Timing.NOT_OBSERVABLE
    assert too_late.probability == {}
    assert "only 3 usable views" in too_late.reason


def test_an_event_before_changes_were_looked_for_is_not_observable():
    """Six views before the end of the reference period: the sixth is day 90."""
    assert verdict(unchanged(), event(90), SETTINGS, views=VIEWS).timing is Timing.NONE
    early = verdict(state({103: 1.0}), event(89), SETTINGS, views=VIEWS)
    assert early.timing is Timing.NOT_OBSERVABLE
    assert early.days is None
    assert str(date(90)) in early.reason


@pytest.mark.parametrize("probability", [{}, {State.UNCHANGED: 0.9, State.EMPTIED: 0.1}, {State.EMPTIED: 0.9}])
def test_not_observable_stays_so(probability):
    unseen = state(state=State.NOT_OBSERVABLE, probability=probability, **NO_DATE)
    found = verdict(unseen, event(), SETTINGS, views=VIEWS)
    assert found.timing is Timing.NOT_OBSERVABLE
    assert found.probability == {}
    assert found.change_first is None
    assert found.departure_first is None
    assert "not the same as no change" in found.reason


def test_a_site_between_change_and_no_change_is_inconclusive():
    found = verdict(unchanged(probability={State.UNCHANGED: 0.5, State.EMPTIED: 0.5}), event(), SETTINGS, views=VIEWS)
    assert found.timing is Timing.INCONCLUSIVE
    assert found.probability[Timing.UNDATED] == pytest.approx(0.5)


def test_probabilities_are_as_frequent_as_they_say():
    """A change at any moment of 60 days, views at noon 3 to 15 days apart, raids near it: 2,000 made-up sites."""
    rng = np.random.default_rng(11)
    said, true = [], []
    for _ in range(2000):
        moment = 100 + 60 * rng.random()
        views = (60 + np.cumsum(rng.integers(3, 16, 30))).tolist()
        a, b = next(pair for pair in itertools.pairwise(views) if pair[0] + 0.5 <= moment < pair[1] + 0.5)
        grid = {day: 1.0 for day in range(60, 300, 3) if a < day <= b}
        raid = int(moment + rng.integers(-12, 13))
        told = state(normal(grid), a, b, probability={State.EMPTIED: 1.0}, n_before=1)
        said.append(verdict(told, event(raid), VerdictSettings(at_days=0), views=views).change_first)
        true.append(int(moment) < raid)
    said, true = np.array(said), np.array(true)
    for low in (0, 0.2, 0.4, 0.6, 0.8):
        part = (said >= low) & (said <= low + 0.2)
        assert abs(true[part].mean() - said[part].mean()) <= 3 * 0.5 / np.sqrt(part.sum())
    assert np.mean((said - true) ** 2) < 0.12  # sharper than a coin, which has 0.25


def test_what_confounds_is_told_not_explained_away():
    plain = verdict(state({103: 1.0}), event(115), SETTINGS, views=VIEWS)
    cut = event(85, event_id="cut", kind="power")
    found = verdict(state({103: 1.0}), event(115), SETTINGS, [cut, event(115)], VIEWS)
    assert found.confounded_by == ("cut",)
    assert found.probability == plain.probability
    assert "Confounded by cut" in found.reason


@pytest.mark.parametrize(
    ("other", "flagged"),
    [
        (event(70, event_id="x", kind="conflict"), True),  # 45 days before the event
        (event(50, event_id="x", kind="conflict"), False),  # 50 before the change, 65 before the event
        (event(160, event_id="x", kind="holiday"), True),  # 45 after the event
        (event(161, event_id="x", kind="holiday"), False),
        (event(20, 300, event_id="x", kind="conflict"), True),  # goes on all the time
        (event(110, event_id="x", kind="publication"), False),  # moves nothing on the ground
        (event(110, event_id="x", kind="power", scope=("other",)), False),
        (event(110, event_id="x", kind="power", scope=("*",)), True),
    ],
)
def test_which_events_confound(other, flagged):
    found = verdict(state({106: 1.0}), event(115), SETTINGS, [other], VIEWS)
    assert (found.confounded_by == ("x",)) is flagged


def test_a_power_cut_confounds_itself():
    found = verdict(state({103: 1.0}), event(115, kind="power", event_id="cut"), SETTINGS, views=VIEWS)
    assert found.confounded_by == ("cut",)


def test_war_weeks_before_the_exodus_confounds_it():
    """O'Smach was shelled from 8 December 2025 on; departures are reported for mid-January 2026, 38 days later."""
    war = replace(event(event_id="war", kind="conflict"), earliest=date(20_430), latest=date(20_430))
    raid = replace(event(), earliest=date(20_468), latest=date(20_468))
    assert verdict(unchanged(as_of=date(20_600)), raid, SETTINGS, [war]).confounded_by == ("war",)


def test_every_confounding_kind_is_a_kind_of_event():
    assert set(CONFOUNDING) <= set(KINDS)


def test_only_the_sites_of_an_event_are_held_against_it():
    states = [state({103: 1.0}), state({103: 1.0}, site_id="t")]
    events = [event(115), event(115, event_id="all", scope=("*",)), event(115, event_id="none", scope=())]
    found = verdicts(states, events, SETTINGS, {"s": VIEWS})
    assert [(v.site_id, v.event_id) for v in found] == [("s", "e"), ("s", "all"), ("t", "all")]


@given(posteriors, view_days, st.integers(80, 240), st.integers(0, 30), st.floats(0, 1), st.integers(0, 5))
def test_probabilities_sum_to_one(dates, views, first, span, p_unchanged, at_days):
    probability = {State.UNCHANGED: p_unchanged, State.EMPTIED: 1 - p_unchanged}
    settings = VerdictSettings(at_days=at_days)
    found = verdict(state(normal(dates), probability=probability, n_before=1), event(first, first + span), settings)
    assert sum(found.probability.values()) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in found.probability.values())
    assert found.days_low <= found.days <= found.days_high
    assert found.departure_first <= found.change_first + 1e-12
    assert found.change_first >= found.probability[Timing.BEFORE] - 1e-12


@given(posteriors, st.integers(80, 240), st.integers(0, 15), st.integers(0, 4))
def test_swapping_before_and_after_mirrors(dates, first, span, at_days):
    """The same story told backwards around day 160, from the interval alone and with one gap."""
    settings = VerdictSettings(at_days=at_days)
    told = state(normal(dates), 20, 300)
    back = state({320 - d: p for d, p in normal(dates).items()}, 20, 300)
    forward = verdict(told, event(first, first + span), settings)
    backward = verdict(back, event(320 - first - span, 320 - first), settings)
    assert backward.probability[Timing.BEFORE] == pytest.approx(forward.probability[Timing.AFTER])
    assert backward.probability[Timing.AT] == pytest.approx(forward.probability[Timing.AT])
    assert backward.days == pytest.approx(-forward.days)


@given(st.sampled_from(list(State)), st.floats(0, 1), st.booleans(), st.integers(0, 400), view_days)
def test_not_observable_never_becomes_none(kind, p_unchanged, empty, first, views):
    probability = {} if empty else {State.UNCHANGED: p_unchanged, State.EMPTIED: 1 - p_unchanged}
    found = verdict(state(state=kind, probability=probability, **NO_DATE), event(first), SETTINGS, views=views)
    if kind is State.NOT_OBSERVABLE or empty:
        assert found.timing is Timing.NOT_OBSERVABLE
        assert not found.probability
