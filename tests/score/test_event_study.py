"""Pooled event study: numbers by hand and by an independent regression, honest p-values, planted effects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compoundwatch.score.event_study import StudySettings, event_study, pooled

from .test_dates import event
from .test_panel import site, table

SMALL = StudySettings(bin_days=10, before_days=40, anticipation_days=0, after_days=20, min_sites=2)
DAYS = np.arange(0, 1000, 10)


def world(rng, n=6, effect=0.0, at=700, slope=0.0, wander=0.0, days=DAYS):
    """Sites with three controls each of their own, white noise and perhaps slow wandering; activity falls at a date."""
    values, sites = {}, []
    for k in range(n):
        names = [f"s{k}", *(f"c{k}{j}" for j in range(3))]
        for j, name in enumerate(names):
            noise = rng.normal(0, 0.3, days.size)
            if wander:
                noise = noise + wander * ar1(rng, days.size)
            change = effect * (days >= at) + slope * days / 30
            values[name] = (days, noise + change if j == 0 else noise)
        sites.append(site(names[0], names[1:]))
    return table(values), sites


def ar1(rng, n, rho=0.8):
    steps = rng.normal(0, np.sqrt(1 - rho**2), n)
    out = np.empty(n)
    out[0] = rng.normal()
    for k in range(1, n):
        out[k] = rho * out[k - 1] + steps[k]
    return out


ALL = ("*",)


def test_effect_and_errors_by_hand():
    """Two sites, controls at 0: means before 1 and 2, after -2 and 1, so effects -3 and -1: mean -2, error 1."""
    flat = {c: (range(0, 60, 10), [0.0] * 6) for c in "abcd"}
    series = table(flat | {"s": (range(0, 60, 10), [0, 1, 1, 2, -3, -1]), "t": (range(0, 60, 10), [2, 2, 1, 3, 1, 1])})
    found = event_study(series, [site("s", "ab"), site("t", "cd")], event(40, scope=ALL), SMALL)
    assert found.effect == pytest.approx(-2)
    assert found.std_error == pytest.approx(1)
    # Student's t with one degree of freedom: 97.5 % point 12.706, P(|t| > 2) = 0.2952 (tables).
    assert (found.low, found.high) == pytest.approx((-2 - 12.706, -2 + 12.706), abs=1e-3)
    assert found.p_value == pytest.approx(0.2952, abs=1e-4)
    first = found.bins[0]
    assert (first.day_from, first.day_to, first.n_sites) == (-40, -30, 2)
    assert first.effect == pytest.approx((0 - 1 + 2 - 2) / 2)
    assert found.placebo_p is None
    assert "Inconclusive" in found.reason


def test_errors_are_those_of_a_regression_clustered_by_site():
    """Site effects and one dummy for the days after; sandwich with clusters and the factor n/(n-1), written out."""
    rng = np.random.default_rng(3)
    series, sites = world(rng, n=5, effect=-0.5, at=40, wander=0.5)
    settings = StudySettings(bin_days=10, before_days=40, anticipation_days=0, after_days=40, min_sites=2)
    found = event_study(series, sites, event(40, scope=ALL), settings)
    y = np.array([series[series.site_id == f"s{k}"].value.to_numpy()[:8] for k in range(5)])
    for k in range(5):
        y[k] -= np.median([series[series.site_id == f"c{k}{j}"].value.to_numpy()[:8] for j in range(3)], axis=0)
    after = np.tile(np.arange(8) >= 4, 5).astype(float)
    who = np.repeat(np.arange(5), 8)
    design = np.column_stack([after, *(who == k for k in range(5))]).astype(float)
    beta = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    residual = y.ravel() - design @ beta
    bread = np.linalg.inv(design.T @ design)
    scores = np.array([design[who == k].T @ residual[who == k] for k in range(5)])
    error = np.sqrt((bread @ scores.T @ scores @ bread)[0, 0] * 5 / 4)
    assert found.effect == pytest.approx(beta[0])
    assert found.std_error == pytest.approx(error)


def test_days_just_before_an_event_are_no_reference():
    """Departures five spans ahead of the event do not spoil what is compared with."""
    rng = np.random.default_rng(4)
    series, sites = world(rng, effect=-2.0, at=680)
    found = event_study(series, sites, event(700, scope=ALL), StudySettings(anticipation_days=45))
    assert found.effect == pytest.approx(-2, abs=0.2)
    ahead = {b.day_from: b.effect for b in found.bins}
    assert ahead[-15] == pytest.approx(-2, abs=0.4)
    assert ahead[-45] == pytest.approx(0, abs=0.4)


def test_a_planted_fall_is_found_with_its_rank_among_placebos():
    found = event_study(*world(np.random.default_rng(5), effect=-1.0), event(700, scope=ALL))
    assert found.low < -1 < found.high
    assert found.high < 0
    n = len(found.placebo_effects)
    assert found.placebo_p == pytest.approx(1 / (1 + n))
    # Spans begin on days -5, 10, ...: dates from -5 + 360 to 670 - 90 (the event less 30, less 90), every 15 days.
    assert n == (580 - 355) // 15 + 1
    assert found.reason.startswith("Consistent with a fall: activity of 6 sites")


def test_false_alarms_are_as_rare_as_the_level_says():
    """Worlds without an effect, sites wandering: a tenth of p-values below 0.1, within three standard errors."""
    rng = np.random.default_rng(6)
    short, days = StudySettings(bin_days=10, before_days=60, anticipation_days=0, after_days=30), DAYS[:10]
    worlds = [event_study(*world(rng, 4, wander=0.4, days=days), event(60, scope=ALL), short) for _ in range(100)]
    for name in ("p_value", "pre_trend_p"):
        p = np.array([getattr(w, name) for w in worlds])
        assert abs((p < 0.1).mean() - 0.1) <= 3 * np.sqrt(0.1 * 0.9 / p.size)
        assert stats.kstest(p, "uniform").pvalue > 0.001


def test_sites_that_did_not_run_parallel_before_are_told():
    found = event_study(*world(np.random.default_rng(7), slope=0.05), event(700, scope=ALL))
    assert found.pre_trend_p < 0.01
    assert "did not run parallel" in found.reason


def test_too_few_sites_are_not_tested():
    series, sites = world(np.random.default_rng(8), n=3)
    found = event_study(series, sites, event(700, scope=ALL))
    assert not found.testable
    assert found.effect is None
    assert found.bins == ()
    assert found.reason.startswith("Not testable: 3 sites")


@pytest.mark.parametrize("day", [-50, 20, 1200])
def test_an_event_outside_the_series_is_not_tested(day):
    assert not event_study(*world(np.random.default_rng(9)), event(day, scope=ALL)).testable


def test_only_sites_of_the_event_are_pooled():
    found = event_study(*world(np.random.default_rng(10)), event(700, scope=("s0", "s1", "s2", "s3")))
    assert found.site_ids == ("s0", "s1", "s2", "s3")


def test_pooling_few_values():
    assert pooled(np.array([np.nan, 2.0]))[0] == 2
    assert np.isnan(pooled(np.array([np.nan, 2.0]))[1])
    assert pooled(np.array([1.0, 1.0]))[4] == 0
