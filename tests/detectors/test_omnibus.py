"""The gamma omnibus test against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from compoundwatch.detectors import change_map, combine
from compoundwatch.detectors.omnibus import Omnibus
from compoundwatch.formulas import decibel, estimate_looks, omnibus_factors, omnibus_p_value


def _speckle(seed: int, dates: int, pixels: int, looks: float = 4.4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (0.05 * rng.gamma(looks, 1 / looks, (dates, pixels))).astype(np.float32), 18_000 + 12 * np.arange(dates)


def test_ratio_is_that_of_maximised_gamma_likelihoods() -> None:
    """-2 ln Q = twice the gain in log likelihood when each later date has a mean of its own."""
    values, days = _speckle(1, 9, 1)
    x, looks, m = values[:, 0].astype(float), 4.4, 5

    def best(part: np.ndarray) -> float:
        def loss(log_mean: float) -> float:
            return -float(stats.gamma.logpdf(part, looks, scale=np.exp(log_mean) / looks).sum())

        return -float(optimize.minimize_scalar(loss, bracket=(-4, -2), tol=1e-12).fun)

    gain = best(x[:m]) + sum(best(x[k : k + 1]) for k in range(m, 9)) - best(x)
    k = 9 - m
    rho = 1 - sum(1 + 1 / (j * (j - 1)) for j in range(m + 1, 10)) / (6 * looks * k)
    found = Omnibus(looks=looks).test(values, days, int(days[m]))
    assert abs(found.statistic[0]) == pytest.approx(2 * rho * gain, rel=1e-4)


def test_factors_multiply_to_the_whole() -> None:
    values, days = _speckle(2, 30, 50)
    factors, _ = omnibus_factors(values.astype(float), 4.4)
    found = Omnibus().test(values, days, int(days[10]))
    np.testing.assert_allclose(factors[9:].sum(axis=0), np.abs(found.statistic), rtol=3e-3)


def test_factors_of_two_dates_are_a_ratio_test() -> None:
    """R_2 depends on the ratio of two intensities only, which has an F distribution: exact p-values to compare with."""
    ratio = np.array([1.0, 1.5, 2.0, 3.0, 5.0])
    looks = 8.0
    _, p = omnibus_factors(np.stack([np.ones(5), ratio]), looks)
    exact = 2 * stats.f.sf(ratio, 2 * looks, 2 * looks)
    np.testing.assert_allclose(p[0], exact, rtol=0.02)


@pytest.mark.parametrize("level", [0.05, 0.01])
@pytest.mark.parametrize("looks", [1.0, 4.4, 12.0])
def test_size(level: float, looks: float) -> None:
    values, days = _speckle(3, 24, 60_000, looks)
    p = Omnibus(looks=looks).test(values, days, int(days[12])).p_value
    slack = 0.05 * level if looks < 2 else 0  # Box's expansion is coarse for a single look
    assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size) + slack)


def test_effect_date_and_what_is_not_an_intensity() -> None:
    values, days = _speckle(4, 40, 300, looks=100.0)
    values[25:] *= 0.5
    values[3, 0] = 0
    values[30, 1] = -1
    found = Omnibus(looks=100.0).test(values, days, int(days[20]))
    assert (found.statistic < 0).all()
    assert np.mean(found.day == days[25]) > 0.99
    assert np.median(found.effect) == pytest.approx(-0.025, rel=0.02)
    z = (found.effect + 0.025) / found.effect_se
    assert np.std(z) == pytest.approx(1, abs=0.15)
    assert found.n_before[0] == 19
    assert found.n_after[1] == 19
    assert found.n_before[2] == 20


def test_p_value_is_one_where_nothing_varies() -> None:
    z, p = omnibus_p_value(0.0, 5, 5, 4.4)
    assert z == 0
    assert p == pytest.approx(1)


def test_decibels_are_no_intensities() -> None:
    """Negative numbers have no logarithm: a series in decibels is not tested rather than tested wrongly."""
    values, days = _speckle(6, 20, 50)
    found = Omnibus().test((10 * np.log10(values)).astype(np.float32), days, int(days[10]))
    assert np.isnan(found.p_value).all()
    assert (found.n_before == 0).all()
    assert Omnibus.unit == "linear power"


def test_decibels_become_power_again_before_the_test() -> None:
    values, days = _speckle(7, 20, 60)
    images = values.reshape(20, 6, 10)
    looks = np.full(20, "one", dtype=object)
    direct = change_map(images, days, looks, int(days[10]), Omnibus(), 0.01, "linear power")
    again = change_map(decibel(images), days, looks, int(days[10]), Omnibus(), 0.01, "dB")
    np.testing.assert_allclose(again["p_value"], direct["p_value"], atol=1e-3)


def test_three_orbits_together_keep_the_size() -> None:
    """Speckle is skewed, so that a fall is called a little more often than a rise."""
    found = []
    for seed in (11, 12, 13):
        values, days = _speckle(seed, 24, 60_000)
        found.append(Omnibus().test(values, days, int(days[12])))
    p = combine(found).p_value
    for level in (0.05, 0.01):
        assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size) + 0.05 * level)


def test_estimated_looks_serve_the_test() -> None:
    values, days = _speckle(14, 24, 60_000, looks=9.0)
    looks = estimate_looks(values)
    p = Omnibus(looks=looks).test(values, days, int(days[12])).p_value
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=3 * np.sqrt(0.01 * 0.99 / p.size) + 0.0005)
