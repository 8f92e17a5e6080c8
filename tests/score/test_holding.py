"""How long stillness holds: spells by hand, Kaplan-Meier against a textbook and scipy, censoring told."""

from __future__ import annotations

import datetime as dt
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf, norm

from compoundwatch.model import Spell, State
from compoundwatch.score.dates import date
from compoundwatch.score.effects import SHAPES
from compoundwatch.score.holding import BACK_REACH_DAYS, holding, revival_text, spells, survival

from .test_dates import state

# Weeks in remission under 6-mercaptopurine, + = still in remission: Freireich et al. 1963 (doi:10.1182/
# blood.V21.6.699.699), as in Gehan 1965 (doi:10.1093/biomet/52.1-2.203) and in most textbooks of survival analysis.
ENDED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
STILL = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
WEEKS = np.array(ENDED + STILL, dtype=float)
GONE = np.array([True] * len(ENDED) + [False] * len(STILL))
# Time, share (Kleinbaum and Klein, Survival Analysis, chapter 2: 18/21, x 16/17, x 14/15, x 11/12, x 10/11, x 6/7,
# x 5/6), standard error and 95 % interval on the log(-log) scale as statistical packages print them for these data.
TEXTBOOK = [
    (6, 0.8571, 0.0764, 0.6197, 0.9516),
    (7, 0.8067, 0.0869, 0.5631, 0.9228),
    (10, 0.7529, 0.0963, 0.5032, 0.8894),
    (13, 0.6902, 0.1068, 0.4316, 0.8491),
    (16, 0.6275, 0.1141, 0.3675, 0.8049),
    (22, 0.5378, 0.1282, 0.2678, 0.7468),
    (23, 0.4482, 0.1346, 0.1881, 0.6801),
]


def spell(shortest, longest=None, ended=True, site_id="s"):
    longest = shortest if longest is None else longest
    began = dt.date(2026, 1, 1)
    return Spell(site_id, began, ended, None, began + dt.timedelta(days=int(longest)), float(shortest), float(longest))


def exact(durations, ended):
    return [spell(d, d, bool(e), f"s{k}") for k, (d, e) in enumerate(zip(durations, ended, strict=True))]


def test_kaplan_meier_of_the_textbook():
    share, variance, at_risk = survival(WEEKS, GONE, [row[0] for row in TEXTBOOK])
    assert share == pytest.approx([row[1] for row in TEXTBOOK], abs=5e-5)
    assert np.sqrt(variance) == pytest.approx([row[2] for row in TEXTBOOK], abs=5e-5)
    assert at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    found = holding(exact(WEEKS, GONE), np.random.default_rng(0), [row[0] for row in TEXTBOOK], level=0.95)
    assert found.low == pytest.approx([row[3] for row in TEXTBOOK], abs=1e-4)
    assert found.high == pytest.approx([row[4] for row in TEXTBOOK], abs=1e-4)
    assert found.median_days == 23
    assert (found.n_sites, found.n_ended, found.n_interval_censored) == (21, 9, 0)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=2, max_size=25).filter(
        lambda rows: any(e for _, e in rows)
    ),
    st.sampled_from([0.8, 0.9, 0.95]),
)
def test_the_same_as_scipy(rows, level):
    durations = np.array([d for d, _ in rows], dtype=float)
    ended = np.array([e for _, e in rows])
    curve = ecdf(CensoredData(uncensored=durations[ended], right=durations[~ended])).sf
    days = [5, 10, 20, 40]
    share, variance, _ = survival(durations, ended, days)
    assert share == pytest.approx(curve.evaluate(days))
    found = holding(exact(durations, ended), np.random.default_rng(0), days, level)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy says that the interval has no value at 0 and 1
        interval = curve.confidence_interval(level, method="log-log")
        low, high = interval.low.evaluate(days), interval.high.evaluate(days)
    for k in range(len(days)):
        if 0 < share[k] < 1:
            assert (found.low[k], found.high[k]) == pytest.approx((low[k], high[k]), abs=1e-9)
    assert np.all(np.diff(share) <= 0)
    assert np.all(variance >= 0)


def test_no_revival_among_twelve_sites_says_something_of_twelve():
    """Clopper and Pearson: 0.05 ** (1/12) = 0.779 at 90 %."""
    found = holding([spell(100, ended=False)] * 12, np.random.default_rng(0), [90, 120])
    assert found.share == (1, 1)
    assert found.low[0] == pytest.approx(0.7791, abs=1e-4)
    assert found.high[0] == 1
    assert (found.low[1], found.high[1]) == (None, None)
    assert found.median_days is None


def test_unknown_durations_widen_the_interval_and_keep_the_middle():
    rng = np.random.default_rng(1)
    true = rng.integers(20, 200, 30)
    known = holding(exact(true, np.ones(30)), rng, [60, 120])
    vague = holding([spell(t - 15, t + 15) for t in true], rng, [60, 120])
    for k in range(2):
        assert vague.high[k] - vague.low[k] > known.high[k] - known.low[k]
        assert vague.share[k] == pytest.approx(known.share[k], abs=0.08)
    assert vague.n_interval_censored == 30


def test_interval_covers_the_truth_as_often_as_it_says():
    """Exponential stillness of mean 100 days, judged after 150, each end known to a fortnight: 90 % within 3 s.e."""
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(150):
        true = rng.exponential(100, 25)
        ended = true <= 150
        seen = np.minimum(true, 150)
        low = np.maximum(0, seen - rng.uniform(0, 14, 25))
        rows = [spell(a, a + 14, bool(e)) for a, e in zip(low, ended, strict=True)]
        found = holding(rows, rng, [60], draws=20)
        hits.append(found.low[0] <= np.exp(-0.6) <= found.high[0])
    assert np.mean(hits) >= 0.9 - 3 * np.sqrt(0.09 / 150)


def test_a_spell_that_ended_lies_between_its_views():
    """Fell between days 100 and 110, back on day 180 or 25 days from it: 155 - 110 to 205 - 100, but judged on 200."""
    told = [
        state(as_of=date(150)),
        state(as_of=date(200), state=State.REOCCUPIED, back_date=date(180)),
        state(as_of=date(170)),
    ]
    (found,), withdrawn = spells(told)
    assert (found.shortest, found.longest, found.ended) == (45, 100, True)
    assert found.revived == date(180)
    assert withdrawn == ()
    assert f"came back on about {date(180)}" in revival_text(found)


def test_a_return_is_known_no_better_than_the_pauses_that_are_tried():
    tried = sorted(int(name.removeprefix("pulse")) for name in SHAPES["pulse"])
    assert max(b - a for a, b in itertools.pairwise(tried)) <= 2 * BACK_REACH_DAYS


def test_a_return_without_a_date_may_have_been_at_any_time():
    (found,), _ = spells([state(as_of=date(200), state=State.REOCCUPIED)])
    assert (found.shortest, found.longest, found.revived) == (0, 100, None)
    assert f"came back by {date(200)}" in revival_text(found)


def test_a_spell_that_goes_on_is_censored_when_last_judged():
    unseen = {"state": State.NOT_OBSERVABLE, "probability": {}, "change_date": None}
    (found,), _ = spells([state(as_of=date(300)), state(as_of=date(400), **unseen)])
    assert (found.shortest, found.longest, found.ended) == (190, 200, False)
    assert found.last_judged == date(300)
    assert "so far" in revival_text(found)


def test_construction_ends_the_watch_not_the_spell():
    built = state(as_of=date(400), state=State.BUILDING, probability={State.BUILDING: 1.0})
    (found,), _ = spells([state(as_of=date(300)), built])
    assert not found.ended
    assert found.last_judged == date(300)


def test_a_withdrawn_statement_is_no_spell():
    quiet = state(as_of=date(400), state=State.UNCHANGED, change_date=None)
    found, withdrawn = spells([state(as_of=date(300)), quiet, state(as_of=date(300), site_id="t")])
    assert [s.site_id for s in found] == ["t"]
    assert withdrawn == ("s",)
    assert spells([quiet]) == ((), ())


def test_nothing_emptied_gives_no_curve():
    assert holding([], np.random.default_rng(0)) is None


def test_normal_quantile_of_the_interval_by_hand():
    """One of two ended at 5: S = 0.5, Greenwood 0.125, exp(1.6449 x 0.35355 / 0.34657) = 5.356."""
    assert norm.isf(0.05) == pytest.approx(1.6449, abs=1e-4)
    found = holding([spell(5), spell(9, ended=False)], np.random.default_rng(0), [7])
    assert found.low[0] == pytest.approx(0.5**5.356, abs=1e-4)
    assert found.high[0] == pytest.approx(0.5 ** (1 / 5.356), abs=1e-4)
