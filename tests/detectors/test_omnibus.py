"""The gamma omnibus test against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from compoundwatch.detectors.omnibus import Omnibus
from compoundwatch.formulas import omnibus_factors, omnibus_p_value


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
