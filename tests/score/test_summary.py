"""Counts of uncertain sites: exact against enumeration, mirrored, covering; sentences whole in every case."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from compoundwatch import score
from compoundwatch.errors import ContractError
from compoundwatch.model import State, Timing, VerdictSettings
from compoundwatch.score.dates import date
from compoundwatch.score.summary import count, count_distribution

from .test_dates import event, state
from .test_panel import table
from .test_verdicts import NO_DATE, VIEWS, unchanged

chances = st.lists(st.floats(0, 1), max_size=8)


@given(chances)
def test_distribution_is_that_of_enumeration(p):
    wanted = np.zeros(len(p) + 1)
    for outcome in itertools.product((0, 1), repeat=len(p)):
        wanted[sum(outcome)] += np.prod([a if happens else 1 - a for a, happens in zip(p, outcome, strict=True)])
    assert count_distribution(p) == pytest.approx(wanted, abs=1e-12)
    assert count_distribution(p).sum() == pytest.approx(1)


def test_equal_chances_give_the_binomial():
    assert count_distribution([0.3] * 53) == pytest.approx(binom.pmf(np.arange(54), 53, 0.3))


def test_a_count_by_hand():
    """Chances 0.9, 0.8, 0.1: P(0..3) = 0.018, 0.236, 0.674, 0.072, so 90 % leaves out 0 but neither 1 nor 3."""
    found = count([0.9, 0.8, 0.1], 4, 0.9)
    assert count_distribution([0.9, 0.8, 0.1]) == pytest.approx([0.018, 0.236, 0.674, 0.072])
    assert (found.expected, found.low, found.high) == (pytest.approx(1.8), 1, 3)
    assert (found.of, found.at_most) == (3, 7)


def test_certain_answers_leave_no_interval_and_nobody_asked_none():
    assert (count([1, 1, 0], 0, 0.9).low, count([1, 1, 0], 0, 0.9).high) == (2, 2)
    assert (count([], 5, 0.9).high, count([], 5, 0.9).at_most) == (0, 5)


def test_labels_would_mislead():
    """Twenty sites called emptied with 0.82 each: the labels say 20, the truth is 16.4 on average, 13 to 19."""
    found = count([0.82] * 20, 0, 0.9)
    assert found.expected == pytest.approx(16.4)
    assert (found.low, found.high) == (binom.ppf(0.05, 20, 0.82), binom.ppf(0.95, 20, 0.82)) == (13, 19)


@given(chances, st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_the_interval_holds_what_it_says_and_mirrors(p, level):
    found = count(p, 0, level)
    inside = count_distribution(p)[found.low : found.high + 1].sum()
    assert inside >= level - 1e-6
    assert found.low <= found.expected + 1
    assert found.high >= found.expected - 1
    other = count([1 - x for x in p], 0, level)
    assert (other.low, other.high) == (len(p) - found.high, len(p) - found.low)


def test_impossible_probabilities_are_refused():
    with pytest.raises(ContractError, match="between 0 and 1"):
        count([0.5, 1.2], 0, 0.9)


def summarise(states, events=(), told=None):
    empty = table({"s": ([100], [np.nan])})
    views = {s.site_id: VIEWS for s in states}
    return score.summarise(states, states, [], events, told, empty, views, np.random.default_rng(0), VerdictSettings())


def unseen(site_id, probability):
    return state(site_id=site_id, state=State.NOT_OBSERVABLE, **NO_DATE | {"probability": probability})


def test_sites_without_an_answer_are_in_no_count_but_in_what_may_be():
    quiet = unchanged(site_id="q")
    found = summarise([state({103: 1.0}), quiet, unseen("a", {}), unseen("b", {State.UNCHANGED: 0.5})])
    assert (found.n_sites, found.n_answered, found.unseen, found.inconclusive) == (4, 2, ("a",), ("b",))
    assert found.counts[State.EMPTIED].expected == pytest.approx(0.85 + 0.1)
    assert found.counts[State.EMPTIED].of == 2
    assert found.counts[State.EMPTIED].at_most == found.counts[State.EMPTIED].high + 2
    assert State.NOT_OBSERVABLE not in found.counts
    assert "1 inconclusive and 1 not observable" in found.sentence


def test_nothing_seen_is_said_as_such():
    found = summarise([unseen("a", {}), unseen("b", {})])
    assert found.sentence == (
        f"Of 2 sites judged on {date(400)}, none has an answer: 0 inconclusive and 2 not observable."
    )
    assert found.holding is None
    with pytest.raises(ContractError):
        summarise([])


def test_falls_are_parted_by_the_timing_of_the_change():
    """P(fall) = 0.9 of one site as in the verdict worked by hand; the quiet one may have emptied, undated, with 0.1."""
    raid = event(108, scope=("s", "q", "a"))
    found = summarise([state({103: 0.5, 106: 0.5}), unchanged(site_id="q"), unseen("a", {})], [raid])
    (about,) = found.events
    expected = {timing: c.expected for timing, c in about.fell.items()}
    assert expected == pytest.approx({Timing.BEFORE: 0.585, Timing.AT: 0.27, Timing.AFTER: 0.045, Timing.UNDATED: 0.1})
    assert sum(expected.values()) == pytest.approx(0.9 + 0.1)
    assert about.fell_first.expected == pytest.approx(0.675)
    assert (about.fell_first.of, about.fell_first.at_most) == (2, about.fell_first.high + 1)
    assert not about.study.testable
    assert not about.displacement.testable


def test_construction_is_not_a_fall():
    built = state({103: 1.0}, state=State.BUILDING, probability={State.BUILDING: 1.0})
    (about,) = summarise([built], [event(150)]).events
    assert sum(c.expected for c in about.fell.values()) == 0


def test_raids_are_told_by_default_and_others_when_asked():
    events = [event(108), event(108, event_id="cut", kind="power"), event(20, event_id="early")]
    found = summarise([state({103: 1.0})], events)
    assert [e.event.event_id for e in found.events] == ["e"]
    assert found.events[0].confounded == ("s",)
    assert "confounded there" in found.events[0].caveat
    asked = summarise([state({103: 1.0})], events, ["cut", "early"])
    assert [e.event.event_id for e in asked.events] == ["cut", "early"]
    assert asked.events[1].sentence.startswith("Not observable")
