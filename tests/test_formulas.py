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
