"""A site against its controls: sizes, dates and p-values that can be trusted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from compoundwatch.score.effects import (
    dates_to_try,
    difference,
    evidence,
    noise,
    synthetic_weights,
    templates,
    winsorise,
)

START, END = 18_000, 19_095
REFERENCE_END = START + 548


def ar1(rng, days, sigma, tau=60.0):
    out = np.empty(len(days))
    out[0] = rng.normal(0, sigma)
    for i in range(1, len(days)):
        keep = np.exp(-(days[i] - days[i - 1]) / tau)
        out[i] = keep * out[i - 1] + rng.normal(0, sigma * np.sqrt(1 - keep**2))
    return out


def world(rng, *, step=0.0, day=REFERENCE_END + 150, shared_step=0.0, n_controls=6, revisit=10, gone=0.4):
    """A site and its controls: shared weather, own noise, a step at the site, and one that all share."""
    every = np.arange(START, END, revisit)
    days = every[rng.random(every.size) > gone]
    weather = ar1(rng, days, 0.5) + 0.3 * np.sin(2 * np.pi * days / 365.25)
    late = days >= day

    def place(change):
        own = ar1(rng, days, 0.08) + rng.normal(0, 0.2, days.size)
        return pd.Series(weather + own + late * (shared_step + change), index=days)

    return place(step), [place(0.0) for _ in range(n_controls)]


def find(site, controls, seed=0):
    taus = dates_to_try(site.dropna().index.tolist(), REFERENCE_END, 4)
    return evidence("s", "optical", "nadir", "f", site, controls, REFERENCE_END, taus, np.random.default_rng(seed))


def test_difference_by_hand():
    site = pd.Series([1.0, np.nan, 3.0, 5.0], index=[10, 20, 30, 40])
    controls = [
        pd.Series([0.0, 1.0, 2.0], index=[10, 31, 39]),
        pd.Series([2.0, 2.0, 9.0], index=[11, 30, 60]),
        pd.Series([4.0], index=[10]),
    ]
    days, d, centre, placebos = difference(site, controls)
    assert days.tolist() == [10, 30], "day 40 has one control only, day 20 was not seen"
    assert centre.tolist() == [2.0, 1.5]
    assert d.tolist() == [-1.0, 1.5]
    np.testing.assert_array_equal(placebos[0], [0.0 - 3.0, 1.0 - 2.0])
    np.testing.assert_array_equal(placebos[2], [4.0 - 1.0, np.nan])


def test_weights_of_controls_by_hand():
    """The site is 2 + 0.7 a + 0.3 b before day 40; c, which runs against it, gets no weight."""
    days = np.arange(0, 60, 2)
    a, b = np.sin(days / 5), np.cos(days / 3)
    after = days >= 40
    site = pd.Series(2 + 0.7 * a + 0.3 * b - 5.0 * after, index=days)
    table = np.array([a, b, -a])
    np.testing.assert_allclose(synthetic_weights(site.to_numpy(), table, ~after), [0.7, 0.3, 0.0], atol=1e-4)
    found, d, _, _ = difference(site, [pd.Series(c, index=days) for c in table], weighted_before=40)
    np.testing.assert_allclose(d, np.where(found >= 40, -3.0, 2.0), atol=1e-3)


def test_weights_sum_to_one_where_no_control_runs_like_the_site():
    days = np.arange(30.0)
    weights = synthetic_weights(-days, np.array([days, 2 * days]), days < 20)
    np.testing.assert_allclose(weights, [1.0, 0.0], atol=1e-4)
    np.testing.assert_array_equal(synthetic_weights(days, np.ones((4, 30)), days < 0), np.full(4, 0.25))


def test_noise_is_told_apart():
    rng = np.random.default_rng(3)
    days = np.arange(0, 3000, 6)
    white, wander = noise(days, rng.normal(0, 0.3, days.size) + ar1(rng, days, 0.4))
    assert white == pytest.approx(0.3, rel=0.15)
    assert wander == pytest.approx(0.4, rel=0.35)
    white, wander = noise(days, rng.normal(0, 0.3, days.size))
    assert white == pytest.approx(0.3, rel=0.1)
    assert wander < 0.1


def test_winsorise_pulls_in_a_spike_and_leaves_a_step():
    rng = np.random.default_rng(4)
    y = rng.normal(0, 1, 60) + np.where(np.arange(60) >= 30, 10, 0)
    spiked = y.copy()
    spiked[12] = 50
    assert winsorise(spiked)[12] < 6
    np.testing.assert_allclose(
        winsorise(y)[30:].mean() - winsorise(y)[:30].mean(), y[30:].mean() - y[:30].mean(), atol=0.3
    )


def test_templates_by_hand():
    days, taus = np.array([0, 50, 100, 200]), np.array([50])
    got = {k: v[:, 0].tolist() for k, v in templates(days, taus).items()}
    assert got["step"] == [0, 1, 1, 1]
    assert got["ramp120"] == pytest.approx([0, 0, 50 / 120, 1])
    assert got["pulse60"] == [0, 1, 1, 0]
    assert got["regrowth"] == pytest.approx([0, 0, 30 / 180, 130 / 180])


@pytest.mark.parametrize("step", [0.8, -0.8])
def test_a_step_is_sized_and_dated(step):
    errors, days_off, covered = [], [], 0
    for seed in range(24):
        site, controls = world(np.random.default_rng(seed), step=step)
        e = find(site, controls)
        a, b = e.fits["step"]
        best = int(np.argmax(np.abs(a) / np.sqrt(b)))
        size, se = a[best] / b[best] * e.white, e.white / np.sqrt(b[best])
        errors.append(size - step)
        covered += abs(size - step) < 1.96 * se
        days_off.append(e.taus[best] - (REFERENCE_END + 150))
    assert abs(np.mean(errors)) < 0.1
    assert np.median(np.abs(days_off)) <= 17, "views are about 17 days apart, and within a gap all dates are alike"
    assert covered >= 18, "of 24; 23 expected, and the date is chosen to make the step look largest"


def test_mirror():
    site, controls = world(np.random.default_rng(5), step=0.5)
    one, other = find(site, controls), find(-site, [-c for c in controls])
    np.testing.assert_allclose(one.fits["step"][0], -other.fits["step"][0], atol=1e-9)
    assert one.p_value == other.p_value


def test_what_controls_share_is_no_effect():
    p = [find(*world(np.random.default_rng(seed), shared_step=1.5)).p_value for seed in range(100, 160)]
    assert np.mean(np.array(p) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_p_values_are_honest_without_a_change():
    p = np.array([find(*world(np.random.default_rng(seed))).p_value for seed in range(1000, 1150)])
    for level in (0.05, 0.2):
        assert np.mean(p < level) <= level + 3 * np.sqrt(level * (1 - level) / p.size)


def test_p_values_find_a_change():
    p = np.array([find(*world(np.random.default_rng(seed), step=0.8)).p_value for seed in range(30)])
    assert (p < 0.01).mean() > 0.9


def test_two_wild_views_at_the_end_say_nothing_of_a_change():
    """Of a change after which it has fewer than three views, a measurement says nothing, however wild these are."""
    site, controls = world(np.random.default_rng(3))
    days = site.dropna().index.to_numpy()
    quiet, wild = site.copy(), site.copy()
    wild.loc[days[-2:]] += 50.0
    taus = np.arange(REFERENCE_END, days[-1] + 10, 3)
    for given in (quiet, wild):
        found = evidence("s", "optical", "n", "f", given, controls, REFERENCE_END, taus, np.random.default_rng(0))
        a, b = found.fits["step"]
        late = found.taus > days[-3]
        assert late.any()
        assert not a[late].any()
        assert (b[late] <= 1e-12).all()
        assert (b[~late] > 1e-6).all()


def test_without_controls_the_answer_is_less_sure():
    site, controls = world(np.random.default_rng(6), step=0.6)
    alone, together = find(site, []), find(site, controls)
    assert alone.n_controls == 0
    assert together.n_controls == 6
    se = [float(np.median(e.white / np.sqrt(e.fits["step"][1]))) for e in (alone, together)]
    assert se[0] > 1.3 * se[1]


def test_a_constant_factor_changes_nothing():
    site, controls = world(np.random.default_rng(7), step=0.4)
    one, other = find(site, controls), find(25 * site, [25 * c for c in controls])
    np.testing.assert_allclose(one.fits["step"][0], other.fits["step"][0], rtol=1e-6)
    assert other.white == pytest.approx(25 * one.white)


def test_too_few_dates_give_no_evidence():
    site, controls = world(np.random.default_rng(8))
    assert find(site[site.index >= REFERENCE_END - 20], controls) is None
