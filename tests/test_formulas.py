"""Formulas against numbers worked out by hand or by another program."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compoundwatch.formulas import (
    brightness,
    decibel,
    dilate,
    estimate_looks,
    false_discovery,
    harmonic_design,
    huber_season,
    linear_power,
    ndbi,
    ndvi,
    normalised_difference,
    remove_cycle,
    robust_sigma,
)


def test_normalised_difference():
    a = np.array([0.30, -0.01, 0.0, np.nan, 0.2], dtype=np.float32)
    b = np.array([0.06, 0.05, 0.0, 0.1, np.nan], dtype=np.float32)
    got = normalised_difference(a, b)
    np.testing.assert_allclose(got, [0.24 / 0.36, -1.0, np.nan, np.nan, np.nan], rtol=1e-6)
    assert got.dtype == np.float32


def test_measures_of_a_surface_by_hand():
    bands = {"green": 0.10, "red": 0.06, "nir": 0.30, "swir16": 0.20}
    arrays = {k: np.array([[v]], dtype=np.float32) for k, v in bands.items()}
    assert ndvi(arrays)[0, 0] == pytest.approx(0.24 / 0.36)
    assert ndbi(arrays)[0, 0] == pytest.approx(-0.10 / 0.50)
    assert brightness(arrays)[0, 0] == pytest.approx(0.08)


def test_harmonic_design():
    got = harmonic_design([0, 365.25 / 4], 2, trend=True)
    np.testing.assert_allclose(got, [[1, 0, 1, 0, 1, 0], [1, 0.25, 0, 1, -1, 0]], atol=1e-12)


def test_robust_sigma_is_that_of_normal_noise_and_ignores_outliers():
    x = np.random.default_rng(1).normal(3, 2, 20_000)
    x[:500] = 1e6
    x[500] = np.nan
    assert robust_sigma(x) == pytest.approx(2, rel=0.05)


def test_false_discovery_against_scipy_and_by_hand():
    p = np.random.default_rng(2).uniform(size=50) ** 3
    np.testing.assert_allclose(false_discovery(p, dependent=True), stats.false_discovery_control(p, method="by"))
    np.testing.assert_allclose(false_discovery(p, dependent=False), stats.false_discovery_control(p, method="bh"))
    np.testing.assert_allclose(false_discovery([0.01, np.nan, 0.02], dependent=False), [0.02, np.nan, 0.02])
    assert np.isnan(false_discovery([np.nan, np.nan])).all()


def test_dilate_by_a_disc():
    mask = np.zeros((2, 7, 9), dtype=bool)
    mask[0, 3, 4] = True
    rows, cols = np.mgrid[0:7, 0:9]
    np.testing.assert_array_equal(dilate(mask, 2)[0], (rows - 3) ** 2 + (cols - 4) ** 2 <= 4)
    assert not dilate(mask, 2)[1].any()


def season(days):
    return 0.5 + 0.1 * np.cos(2 * np.pi * days / 365.25) - 0.05 * np.sin(2 * np.pi * days / 365.25)


def test_huber_season_recovers_season_and_noise_and_shrugs_off_clouds():
    rng = np.random.default_rng(3)
    days = np.sort(rng.choice(1500, 160, replace=False)).astype(np.int64)
    truth = season(days)[:, None] + np.zeros(200)
    noise = rng.normal(0, 0.02, truth.shape)
    cloud = rng.random(truth.shape) < 0.08
    values = np.where(cloud, 0.9, truth + noise).astype(np.float32)
    residual, sigma = huber_season(values, days, 1000)
    clear = ~cloud
    assert np.abs(residual[clear] - noise[clear]).mean() < 0.006
    assert np.median(sigma) == pytest.approx(0.02, rel=0.15)


def test_huber_season_looks_at_the_reference_period_only_and_never_guesses():
    rng = np.random.default_rng(4)
    days = np.arange(0, 1500, 10).astype(np.int64)
    values = (season(days)[:, None] + rng.normal(0, 0.02, (150, 3))).astype(np.float32)
    later = values.copy()
    later[days >= 900] += 5
    one, other = huber_season(values, days, 900), huber_season(later, days, 900)
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(one[0][days < 900], other[0][days < 900])
    values[days < 900, 1] = np.nan
    residual, sigma = huber_season(values, days, 900)
    assert np.isnan(residual[:, 1]).all()
    assert np.isnan(sigma[1])
    assert np.isfinite(residual[:, [0, 2]]).all()


def test_decibels_and_back():
    power = np.array([1.0, 10.0, 0.01, 0.0, -1.0, np.nan], dtype=np.float32)
    got = decibel(power)
    np.testing.assert_allclose(got[:3], [0, 10, -20], atol=1e-5)
    assert np.isnan(got[3:]).all()
    np.testing.assert_allclose(linear_power(got)[:3], power[:3], rtol=1e-5)


@pytest.mark.parametrize("looks", [1.0, 4.4, 30.0])
def test_looks_are_estimated_from_speckle_whatever_the_ground(looks):
    """Pixels of every brightness, a tenth of which change their brightness at every view, and views of other gain."""
    rng = np.random.default_rng(5)
    power = 0.05 * rng.gamma(looks, 1 / looks, (12, 90, 120)) * rng.lognormal(0, 1, (90, 120))
    assert estimate_looks(power) == pytest.approx(looks, rel=0.04)
    assert estimate_looks(power, 0.9) == pytest.approx(looks, rel=0.04)
    power *= rng.uniform(0.5, 2, (12, 1, 1))
    power[:, :9] *= rng.lognormal(0, 1, (12, 9, 120))
    assert 0.72 * looks < estimate_looks(power) < 1.04 * looks  # (0.674 / 0.765)^2 = 0.78 where all changes are large
    power[3, 5:20] = np.nan
    power[4, 20:30] = 0
    assert 0.72 * looks < estimate_looks(power) < 1.04 * looks


def test_looks_of_nothing_and_of_no_speckle():
    assert np.isnan(estimate_looks(np.full((5, 3), np.nan)))
    assert np.isnan(estimate_looks(np.ones((1, 3))))
    assert estimate_looks(np.ones((5, 3))) == 10_000


# ------------------------------------------------------------------------------------------ cycle of the angle of view


def night_series(rng, cycle=0.0, step=0.0, n=1100, clear=0.4, noise=0.25, season=0.1):
    """Log radiance of one place: season, slow wandering, a cycle of 16 nights of that size, a step on night 700."""
    days = np.arange(20_000, 20_000 + n)
    shape = rng.normal(size=16)
    shape = cycle * (shape - shape.mean()) / shape.std()
    values = 3 + season * np.cos(2 * np.pi * days / 365.25) + np.cumsum(rng.normal(0, 0.005, n))
    values += shape[days % 16] + rng.normal(0, noise, n)
    values[700:] += step
    values[rng.random(n) > clear] = np.nan
    return days, values, shape[days % 16]


def wobble(values):
    """Variance from view to view, in which the level and the season have no part."""
    known = values[np.isfinite(values)]
    return np.mean(np.diff(known) ** 2) / 2


def test_a_cycle_is_removed_also_after_the_reference_period():
    rng = np.random.default_rng(1)
    left, kept = [], []
    for _ in range(40):
        days, values, cycle = night_series(rng, cycle=0.3)
        clean = remove_cycle(days, values, 20_550)
        after = days >= 20_550
        left.append(np.nanvar((values - clean - cycle)[after]) / 0.3**2)
        kept.append(wobble(clean[after]) / 0.25**2)
    # With 14 views a phase the mean of a phase is known to 0.25 / sqrt(14) = 0.067: 5 % of the cycle's variance.
    assert np.mean(left) == pytest.approx(0.05, abs=0.015)
    assert np.mean(kept) == pytest.approx(1.07, abs=0.05)


def test_where_there_is_no_cycle_the_variance_does_not_grow():
    rng = np.random.default_rng(2)
    grown, untouched = [], 0
    for _ in range(200):
        days, values, _ = night_series(rng)
        clean = remove_cycle(days, values, 20_550)
        after = days >= 20_550
        grown.append(wobble(clean[after]) / wobble(values[after]))
        untouched += np.array_equal(clean, values, equal_nan=True)
    assert np.mean(grown) < 1.01
    assert np.quantile(grown, 0.95) < 1.05
    assert untouched > 80, "about half of the estimates of the variance are zero or less"


@pytest.mark.parametrize("cycle", [0.0, 0.3])
def test_a_step_stays_as_it_is(cycle):
    """The same nights with and without a step after the reference period: the difference is the step, exactly."""
    rng = np.random.default_rng(3)
    for _ in range(10):
        days, values, _ = night_series(rng, cycle=cycle)
        stepped = values - 0.7 * (days >= 20_700)
        difference = remove_cycle(days, stepped, 20_550) - remove_cycle(days, values, 20_550)
        known = np.isfinite(values)
        np.testing.assert_allclose(difference[known], (stepped - values)[known], atol=1e-12)


def test_a_step_in_the_reference_period_is_not_taken_for_a_cycle():
    rng = np.random.default_rng(4)
    for _ in range(10):
        days, values, _ = night_series(rng)
        stepped = values - 1.5 * (days >= 20_300)
        before = np.nanmean(stepped[:300]) - np.nanmean(stepped[300:550])
        clean = remove_cycle(days, stepped, 20_550)
        assert np.nanmean(clean[:300]) - np.nanmean(clean[300:550]) == pytest.approx(before, abs=0.03)


def test_the_level_and_missing_views_stay():
    rng = np.random.default_rng(5)
    days, values, _ = night_series(rng, cycle=0.3)
    kept = values.copy()
    clean = remove_cycle(days, values, 20_550)
    np.testing.assert_array_equal(values, kept)
    np.testing.assert_array_equal(np.isnan(clean), np.isnan(values))
    assert np.nanmean(clean[:550]) == pytest.approx(np.nanmean(values[:550]), abs=1e-9)


def test_outliers_do_not_make_a_cycle():
    """One night in fifty far too bright, all in one phase."""
    rng = np.random.default_rng(6)
    days, values, _ = night_series(rng, clear=1.0, noise=0.1, season=0)
    values[(days % 16 == 5) & (days % 3 == 0)] += 8
    clean = remove_cycle(days, values, 20_550)
    fine = (days % 16 == 5) & (days % 3 != 0)
    assert abs(np.mean((clean - values)[fine])) < 0.25


@pytest.mark.parametrize("n", [0, 1, 63])
def test_too_few_views_are_left_alone(n):
    rng = np.random.default_rng(7)
    days = np.arange(20_000, 20_000 + n)
    values = rng.normal(size=n) + days % 16
    np.testing.assert_array_equal(remove_cycle(days, values, 30_000), values)


def test_another_period_and_an_exact_cycle():
    days = np.arange(20_000, 20_400)
    values = 3.0 + np.array([0.0, 1.0, 5.0, -2.0, 0.5])[days % 5]
    np.testing.assert_allclose(remove_cycle(days, values, 20_200, period=5), values.mean(), atol=1e-9)
    one_phase = np.arange(20_000, 22_000, 16)
    steady = np.sin(np.arange(len(one_phase)))
    np.testing.assert_array_equal(remove_cycle(one_phase, steady, 30_000), steady)
    constant = np.ones(400)
    np.testing.assert_array_equal(remove_cycle(days, constant, 20_200), constant)
