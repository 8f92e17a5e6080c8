"""Days of change and of events: worked by hand, and as laws that hold for any dates."""

from __future__ import annotations

import datetime as dt
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoundwatch.model import Event, SiteState, State
from compoundwatch.score.dates import DayWeights, change_days, date, day_number, event_days, later_by

EPOCH = dt.date(1970, 1, 1)


def state(dates=None, earliest=100, latest=110, **more):
    """A site whose change is dated by days since 1970-01-01."""
    values = {
        "site_id": "s",
        "as_of": date(400),
        "state": State.EMPTIED,
        "probability": {State.EMPTIED: 0.85, State.REOCCUPIED: 0.05, State.UNCHANGED: 0.1},
        "score": 90.0,
        "change_date": date((earliest + latest) / 2),
        "change_date_earliest": date(earliest),
        "change_date_latest": date(latest),
        "p_value": 0.001,
        "q_value": 0.01,
        "n_views": 30,
        "n_before": 6,
        "n_after": 24,
        "n_controls": 6,
        "valid_fraction": 0.7,
        "min_detectable": 0.2,
        "sensors": ("sentinel2",),
        "reason": "",
        "change_dates": {date(d): p for d, p in (dates or {}).items()},
    }
    return SiteState(**(values | more))


def event(earliest=108, latest=None, event_id="e", kind="raid", scope=("s",)):
    first, last = date(earliest), date(earliest if latest is None else latest)
    return Event(event_id, first, last, "somewhere", scope, kind, "", "test", "")


def test_a_change_is_spread_over_the_gap_between_two_views():
    """Views on days 100 and 110: nine whole days inside with a tenth each, half of that for the views' own days."""
    found = change_days(state({103: 0.5, 106: 0.5}), [90, 100, 110, 120])
    assert found.first == 100
    assert found.weight == pytest.approx([0.05] + [0.1] * 9 + [0.05])


def test_each_gap_keeps_its_share():
    """A date on the day of a view belongs to the gap that ends there: the view shows the change."""
    found = change_days(state({102: 0.5, 105: 0.25, 108: 0.25}), [99, 105, 111])
    assert found.between(100, 104) == pytest.approx(0.75 * 5 / 6)
    assert found.between(99, 99) == pytest.approx(0.75 / 12)
    assert found.between(105, 105) == pytest.approx((0.75 + 0.25) / 12)
    assert found.between(106, 110) == pytest.approx(0.25 * 5 / 6)


def test_views_of_every_day_leave_each_date_its_neighbours():
    """Dates three days apart and a view a day: thirds for three days, each spread over the day before it."""
    found = change_days(state({103: 1.0, 106: 0.0}), range(90, 120))
    assert (found.first, found.weight) == (101, pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6]))


def test_without_views_the_reported_interval_is_one_gap():
    found = change_days(state({105: 1.0}, 100, 110))
    assert found.weight == pytest.approx([0.05] + [0.1] * 9 + [0.05])


def test_an_interval_alone_holds_nine_tenths():
    found = change_days(state(None, 100, 110))
    assert found.between(100, 110) == pytest.approx(0.9 + 2 * 0.05 * 0.05)  # and half a day of each tail
    assert (found.first, int(found.days[-1])) == (90, 120)
    assert found.weight.sum() == pytest.approx(1)


def test_a_state_without_a_change_has_no_days():
    nothing = {"change_date": None, "change_date_earliest": None, "change_date_latest": None}
    assert change_days(state(state=State.UNCHANGED, **nothing)) is None
    assert change_days(state(state=State.NOT_OBSERVABLE, probability={}, **nothing)) is None


def test_an_event_is_equally_probable_on_each_of_its_days():
    assert event_days(event(10, 13)).weight == pytest.approx([0.25] * 4)
    # Change on day 10 or 12, event on day 11 or 12: differences -2, -1, 0, 1 with a quarter each.
    apart = later_by(DayWeights(10, np.array([0.5, 0, 0.5])), event_days(event(11, 12)))
    assert dict(zip(apart.days.tolist(), apart.weight, strict=True)) == pytest.approx(
        {-2: 0.25, -1: 0.25, 0: 0.25, 1: 0.25}
    )
    assert apart.median == -0.5


def test_interval_and_median_by_hand():
    weights = DayWeights(5, np.array([0.04, 0.06, 0.4, 0.4, 0.1]))
    assert weights.interval(0.9) == (6, 9)
    assert weights.interval(0.8) == (7, 8)
    assert weights.median == 7.5  # half lies up to day 7, half from day 8 on
    assert DayWeights(0, np.array([0.5, 0.5])).median == 0.5


def test_days_and_dates_are_inverse():
    assert day_number(dt.date(2026, 1, 15)) == 20_468
    assert date(20_468) == dt.date(2026, 1, 15)


posteriors = st.dictionaries(st.integers(0, 40).map(lambda k: 100 + 3 * k), st.floats(0.01, 1), min_size=1, max_size=8)
view_days = st.lists(st.integers(80, 240), min_size=2, max_size=20, unique=True).map(sorted)


def normal(dates):
    total = sum(dates.values())
    return {day: p / total for day, p in dates.items()}


@given(posteriors, view_days)
def test_probabilities_sum_to_one_and_are_never_sharper_than_a_gap(dates, views):
    found = change_days(state(normal(dates)), views)
    assert found.weight.sum() == pytest.approx(1)
    assert np.all(found.weight >= 0)
    for a, b in itertools.pairwise(views):
        inside = found.weight[(found.days > a) & (found.days < b)]
        # Within a gap no day is more probable than another.
        assert np.ptp(inside) < 1e-9 if inside.size else True


@given(posteriors, view_days, st.integers(90, 230), st.integers(0, 20))
def test_time_running_backwards_mirrors_everything(dates, views, first, span):
    change = change_days(state(normal(dates)), views)
    happened = event_days(event(first, first + span))
    forward = later_by(change, happened)
    backward = later_by(change.mirrored(), happened.mirrored())
    assert backward.between(1, np.inf) == pytest.approx(forward.between(-np.inf, -1))
    assert backward.median == -forward.median
    low, high = forward.interval(0.9)
    assert backward.interval(0.9) == (-high, -low)


@given(posteriors, view_days, st.integers(90, 230), st.integers(0, 10), st.integers(0, 10))
def test_a_wider_event_never_sharpens_the_difference(dates, views, first, span, wider):
    change = change_days(state(normal(dates)), views)
    narrow = later_by(change, event_days(event(first, first + span)))
    wide = later_by(change, event_days(event(first - wider, first + span + wider)))
    assert wide.deviation >= narrow.deviation - 1e-9


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 12), st.integers(0, 12), st.sampled_from([0.5, 0.8, 0.9]))
def test_a_wider_event_never_narrows_the_interval_of_a_date_with_one_peak(a, b, span, wider, level):
    """For log-concave dates any interval of quantiles can only widen (dispersive order: Shaked and Shanthikumar 2007,
    doi:10.1007/978-0-387-34675-5, theorem 3.B.8); a day is lost at most to rounding."""
    change = DayWeights(100, np.convolve(np.full(a, 1 / a), np.full(b, 1 / b)))
    narrow = later_by(change, event_days(event(110, 110 + span))).interval(level)
    wide = later_by(change, event_days(event(110 - wider, 110 + span + wider))).interval(level)
    assert wide[1] - wide[0] >= narrow[1] - narrow[0] - 1
