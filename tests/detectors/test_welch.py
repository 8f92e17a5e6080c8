"""The Welch test against scipy, and signed combination of looks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compoundwatch.detectors.welch import DETECTOR
from compoundwatch.formulas import stouffer


def _series(seed: int, pixels: int, dates: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.normal(-12, 1, (dates, pixels))
    values[dates // 2 :] = rng.normal(-12, 2.5, (dates - dates // 2, pixels))
    values[rng.random(values.shape) < 0.2] = np.nan
    return values.astype(np.float32), 18_000 + 12 * np.arange(dates)


def test_equals_scipy() -> None:
    values, days = _series(1, 200)
    found = DETECTOR.test(values, days, int(days[20]))
    a, b = values[20:].astype(float), values[:20].astype(float)
    theirs = stats.ttest_ind(a, b, equal_var=False, nan_policy="omit")
    np.testing.assert_allclose(found.p_value, theirs.pvalue, rtol=1e-3)
    np.testing.assert_allclose(
        found.statistic, np.sign(theirs.statistic) * stats.norm.isf(theirs.pvalue / 2), atol=1e-3
    )
    np.testing.assert_allclose(found.effect, np.nanmean(a, axis=0) - np.nanmean(b, axis=0), atol=1e-4)


def test_unequal_variances_and_counts_keep_the_size() -> None:
    values, days = _series(2, 60_000)
    p = DETECTOR.test(values, days, int(days[20])).p_value
    for level in (0.05, 0.01):
        assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size))


def test_a_constant_pixel_is_not_tested() -> None:
    values = np.full((40, 3), -12, np.float32)
    found = DETECTOR.test(values, 18_000 + 12 * np.arange(40), 18_240)
    assert np.isnan(found.p_value).all()
    assert np.isnan(found.day).all()


def test_stouffer_keeps_the_sign() -> None:
    assert stouffer([2.0, 2.0]) == pytest.approx(2 * np.sqrt(2))
    assert stouffer([2.0, -2.0]) == 0
    assert stouffer([3.0, np.nan]) == 3.0
    assert np.isnan(stouffer([np.nan, np.nan]))
    assert stouffer([1.0, 2.0], weights=[3.0, 4.0]) == pytest.approx(11 / 5)


def test_stouffer_of_four_looks_keeps_the_size() -> None:
    values, days = _series(3, 4 * 40_000)
    z = DETECTOR.test(values, days, int(days[20])).statistic.reshape(4, -1)
    p = 2 * stats.norm.sf(np.abs(stouffer(z)))
    assert np.mean(p < 0.01) == pytest.approx(0.01, abs=3 * np.sqrt(0.01 * 0.99 / p.size))


def test_stouffer_of_polarisations_that_share_the_weather() -> None:
    assert stouffer([2.0, 1.0], correlation=0.5) == pytest.approx(3 / np.sqrt(3))
    assert stouffer([1.0, 2.0], weights=[3.0, 4.0], correlation=1.0) == pytest.approx(11 / 7)
    assert stouffer([3.0, np.nan], correlation=0.5) == pytest.approx(3.0)
    days = 18_000 + 12 * np.arange(40)
    rng = np.random.default_rng(4)
    shared = np.sqrt(0.4) * rng.standard_normal((40, 40_000))
    looks = [shared + np.sqrt(0.6) * rng.standard_normal(shared.shape) for _ in range(2)]
    z = [DETECTOR.test(v.astype(np.float32), days, int(days[20])).statistic for v in looks]
    apart, together = (2 * stats.norm.sf(np.abs(stouffer(z, correlation=r))) for r in (0.0, 0.4))
    assert np.mean(apart < 0.01) > 0.02, "taken for independent, they promise too much"
    assert np.mean(together < 0.01) == pytest.approx(0.01, abs=3 * np.sqrt(0.01 * 0.99 / 40_000))
