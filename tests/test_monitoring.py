"""The monitoring statistics against R's strucchange, plain numpy, and their own null distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from compoundwatch import monitoring, monitoring_null
from compoundwatch.detectors import ccdc, harmonic_cusum, harmonic_mosum
from compoundwatch.formulas import (
    cusum_boundary,
    cusum_crossing,
    cusum_process,
    harmonic_design,
    mosum_boundary,
    mosum_process,
)

DETECTORS = {module.DETECTOR.name: module.DETECTOR for module in (harmonic_mosum, harmonic_cusum, ccdc)}
ORACLE = Path(__file__).parent / "oracles" / "ndvi_series.csv"
N_HISTORY_DATES = 100
# strucchange: efp(type = "OLS-CUSUM" / "OLS-MOSUM"), mefp, monitor; last value of the process and of its boundary
R_CUSUM = (-2.08012374769124, -1.12995172579522, -2.15542212057762, -0.79442012574963, -0.58697646124325)
R_CUSUM_BOUNDARY = (2.18830070730796, 1.98733665145684, 2.04326467805047, 2.11813508260143, 2.2290661988851)
R_MOSUM = (-1.69177611187887, -1.386073902846, -2.26730211762919, -0.869815342848812, -0.87205523089781)
R_MOSUM_BOUNDARY = 1.89762642047451
R_SIGMA = (0.0845696151305743, 0.111496760744149, 0.13391729121629, 0.105347770829644, 0.117748321287538)
R_HISTORY_VIEWS = (63, 68, 56, 61, 56)
R_CRITICAL = {0.01: 3.368214, 0.05: 2.795483, 0.1: 2.500278}  # OLS-CUSUM monitoring
MOSUM_CRITICAL = R_MOSUM_BOUNDARY / np.sqrt(2)  # the table of strucchange for level 0.05, window 0.25, horizon 10


def recursive_residuals(y: np.ndarray, X: np.ndarray, start: int) -> np.ndarray:
    """By definition: predict view k from the least squares fit to views 0 ... k-1."""
    out = np.full(y.size, np.nan)
    for k in range(start, y.size):
        inverse = np.linalg.inv(X[:k].T @ X[:k])
        beta = inverse @ X[:k].T @ y[:k]
        out[k] = (y[k] - X[k] @ beta) / np.sqrt(1 + X[k] @ inverse @ X[k])
    return out


@pytest.mark.parametrize("k", range(5))
def test_processes_and_boundaries_are_those_of_strucchange(k: int) -> None:
    table = pd.read_csv(ORACLE)
    y, X = table[f"y{k + 1}"].to_numpy(), table[["one", "x1", "x2", "x3", "x4"]].to_numpy()
    seen = np.isfinite(y)
    n = int(seen[:N_HISTORY_DATES].sum())
    assert n == R_HISTORY_VIEWS[k]
    y, X = y[seen], X[seen]
    beta = np.linalg.lstsq(X[:n], y[:n], rcond=None)[0]
    residuals = y - X @ beta
    assert np.sqrt(np.sum(residuals[:n] ** 2) / (n - 5)) == pytest.approx(R_SIGMA[k], rel=1e-6)
    assert cusum_process(residuals, n, 5)[-1] == pytest.approx(R_CUSUM[k], rel=1e-5)
    assert mosum_process(residuals, n, 5)[-1] == pytest.approx(R_MOSUM[k], rel=1e-5)
    assert cusum_boundary(y.size / n, R_CRITICAL[0.05]) == pytest.approx(R_CUSUM_BOUNDARY[k], rel=1e-6)
    assert mosum_boundary(y.size / n, MOSUM_CRITICAL) == pytest.approx(R_MOSUM_BOUNDARY, rel=1e-9)


@pytest.mark.parametrize("k", range(5))
def test_recursive_residuals_are_those_of_strucchange(k: int) -> None:
    table = pd.read_csv(ORACLE)
    y, X = table[f"y{k + 1}"].to_numpy(), table[["one", "x1", "x2", "x3", "x4"]].to_numpy()
    seen = np.isfinite(y)
    theirs = table[f"r{k + 1}"].to_numpy()[seen]
    ours = recursive_residuals(y[seen], X[seen], 12)
    both = np.isfinite(theirs) & np.isfinite(ours)
    assert both.sum() > 40
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("level", "critical"), R_CRITICAL.items())
def test_critical_values_are_those_of_strucchange(level: float, critical: float) -> None:
    assert cusum_crossing(critical) == pytest.approx(level, rel=1e-4)


def _series(seed: int, pixels: int = 60) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(seed)
    days = 18_000 + np.sort(rng.choice(1200, 70, replace=False))
    values = 0.4 + 0.2 * np.cos(2 * np.pi * days / 365.25)[:, None] + rng.normal(0, 0.04, (70, pixels))
    values[rng.random(values.shape) < 0.3] = np.nan
    return values.astype(np.float32), days, int(days[35])


def _variance(rho: float, length: int) -> float:
    """Of a sum of correlated values, over that of uncorrelated ones."""
    lag = abs(np.subtract.outer(np.arange(length), np.arange(length)))
    return float(np.sum(rho**lag) / length)


def _by_definition(y: np.ndarray, X: np.ndarray, n: int, windows: tuple[int, ...], run: int = 0) -> float:
    """Statistic without Huber rounds and clipping, one pixel, float64, loops as in the text."""
    w = recursive_residuals(y, X, n)[n:]
    sums = np.concatenate([[0], np.cumsum(w)])
    z = {(k, k + h): (sums[k + h] - sums[k]) / np.sqrt(h) for h in windows for k in range(w.size - h + 1)}
    m = np.arange(n, y.size - 2)
    weights = [
        np.where(np.arange(w.size) + n >= k, 1 / np.sqrt((np.arange(w.size) + n + 1) * (np.arange(w.size) + n)), 0)
        for k in m
    ]
    step = np.array([g @ w / np.sqrt(g @ g) for g in weights])
    at = int(np.argmax(abs(step)))
    g = weights[at]
    lasts = np.arange(w.size) >= at
    rests = [w - g * (g @ w) / (g @ g), w - lasts * w[lasts].mean()]
    best = step[at]
    if windows:
        place = max(z, key=lambda key: abs(z[key]))
        best = z[place]
        inside = (np.arange(w.size) >= place[0]) & (np.arange(w.size) < place[1])
        rests.append(w - inside * best / np.sqrt(place[1] - place[0]))
    beta = np.linalg.lstsq(X[:n], y[:n], rcond=None)[0]
    history = y[:n] - X[:n] @ beta
    sigma = np.sqrt((history @ history + w @ w - best**2) / (y.size - 4))
    r = min((x[1:] @ x[:-1] + history[1:] @ history[:-1]) / (x @ x + history @ history) for x in rests)
    rho = float(np.clip((1 + 16 / y.size) * (r + 7 / y.size), 0, 0.8))
    if run:
        fresh = np.concatenate([w[:1], (w[1:] - rho * w[:-1]) / np.sqrt(1 - rho**2)])
        rows = np.lib.stride_tricks.sliding_window_view(fresh, run)
        smallest = np.maximum(rows.min(axis=1), 0) + np.minimum(rows.max(axis=1), 0)
        return float(smallest[np.argmax(abs(smallest))] / sigma)
    if not windows:
        return float(best / sigma / np.sqrt(_variance(rho, y.size - m[at])))
    scaled = [v / np.sqrt(_variance(rho, end - begin)) for (begin, end), v in z.items()]
    return float(max(scaled, key=abs) / sigma)


@pytest.mark.parametrize(("windows", "run"), [((4, 8, 16, 32), 0), ((4,), 0), ((), 0), ((4, 8, 16, 32), 4)])
def test_statistic_equals_its_definition(windows: tuple[int, ...], run: int) -> None:
    values, days, end = _series(3)
    for t in range(1, 70):  # correlated, so that the allowance for it is not always zero
        values[t] = np.where(np.isfinite(values[t - 1]), values[t] + 0.5 * (values[t - 1] - 0.4), values[t])
    values[50:, ::2] -= 0.15
    found = monitoring.monitor(values, days, end, windows=windows, run=run, rounds=0, clip=1e6, ridge=0)
    X = harmonic_design(days, 1)
    for p in range(values.shape[1]):
        seen = np.isfinite(values[:, p])
        y, n = values[seen, p].astype(float), int(seen[:35].sum())
        expected = _by_definition(y, X[seen], n, windows, run)
        assert found.statistic[p] == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_effect_is_the_mean_residual_from_the_first_season() -> None:
    values, days, end = _series(4)
    values[48:] += 0.5
    found = monitoring.monitor(values, days, end, windows=(4, 8, 16, 32), rounds=0)
    X = harmonic_design(days, 1)
    for p in range(0, values.shape[1], 7):
        seen = np.isfinite(values[:, p])
        history = seen & (np.arange(70) < 35)
        beta, *_ = np.linalg.lstsq(X[history], values[history, p].astype(float), rcond=None)
        later = seen & (np.arange(70) >= 48)
        assert found.first[p] == np.flatnonzero(later)[0]
        assert found.effect[p] == pytest.approx(np.mean(values[later, p] - X[later] @ beta), abs=0.01)


def test_standard_error_of_the_effect_is_its_spread_or_a_little_more() -> None:
    rng = np.random.default_rng(5)
    days = 18_000 + np.sort(rng.choice(1000, 60, replace=False))
    values = rng.normal(0, 1, (60, 4000)).astype(np.float32)
    values[40:] += 12
    found = monitoring.monitor(values, days, int(days[30]), windows=(4, 8, 16, 32))
    z = (found.effect - 12) / found.effect_se
    assert np.mean(z) == pytest.approx(0, abs=0.1)
    assert 0.75 < np.std(z) < 1.05


def test_outliers_in_the_reference_period_do_not_hide_a_change() -> None:
    values, days, end = _series(6, pixels=500)
    rng = np.random.default_rng(7)
    cloudy = values.copy()
    cloudy[:35][rng.random((35, 500)) < 0.1] -= 0.6
    cloudy[48:] -= 0.15
    robust = monitoring.monitor(cloudy, days, end, windows=(4, 8, 16, 32))
    plain = monitoring.monitor(cloudy, days, end, windows=(4, 8, 16, 32), rounds=0, clip=1e6)
    table = monitoring_null.MOVING_SUM
    found, missed = (np.nanmean(monitoring.p_values(m, table) < 0.01) for m in (robust, plain))
    assert found > 0.6
    assert found > missed + 0.3


def test_single_outliers_after_it_are_no_change() -> None:
    values, days, end = _series(8, pixels=2000)
    rng = np.random.default_rng(9)
    values[35:][rng.random((35, 2000)) < 0.05] -= 0.6
    found = monitoring.monitor(values, days, end, windows=(4, 8, 16, 32))
    assert np.nanmean(monitoring.p_values(found, monitoring_null.MOVING_SUM) < 0.01) < 0.05


@pytest.mark.parametrize("name", DETECTORS)
def test_correlated_noise_is_allowed_for(name: str) -> None:
    """Without the allowance there are five to twenty times too many alarms; the rest is what no short series tells."""
    rng = np.random.default_rng(10)
    days = 18_000 + 12 * np.arange(120)
    noise = rng.normal(0, 1, (120, 20_000))
    for t in range(1, 120):
        noise[t] = 0.4 * noise[t - 1] + np.sqrt(1 - 0.4**2) * noise[t]
    found = DETECTORS[name].test(noise.astype(np.float32), days, int(days[60]))
    assert np.mean(found.p_value < 0.01) < 0.022


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_size_on_a_million_pixels(name: str) -> None:
    rng = np.random.default_rng(1)
    days = 18_500 + np.sort(rng.choice(1400, 80, replace=False))
    values = rng.standard_normal((80, 1_000_000), dtype=np.float32)
    values[rng.random(values.shape, dtype=np.float32) < 0.4] = np.nan
    p = DETECTORS[name].test(values, days, int(days[40])).p_value
    p = p[np.isfinite(p)]
    for level in (0.05, 0.01):  # the table itself is simulated: 3 % of the level beside three standard errors
        assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size) + 0.03 * level)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_season_is_no_change(name: str) -> None:
    rng = np.random.default_rng(3)
    days = 18_500 + np.sort(rng.choice(1400, 80, replace=False))
    values = rng.standard_normal((80, 20_000), dtype=np.float32)
    values[rng.random(values.shape, dtype=np.float32) < 0.4] = np.nan
    season = (5 * np.sin(2 * np.pi * days / 365.25 + 1))[:, None].astype(np.float32)
    plain, seasonal = (DETECTORS[name].test(v, days, int(days[40])) for v in (values, values + season))
    differ = abs(seasonal.p_value - plain.p_value)
    assert np.median(differ) < 1e-3
    # Rounding may lose a row that hardly is one, and decide which of two like changes leaves less correlation.
    assert np.mean(differ > 0.02) < 0.0005


def test_p_values_are_the_tabulated_levels_at_the_tabulated_quantiles() -> None:
    table, levels = monitoring_null.MOVING_SUM, np.array(monitoring_null.LEVELS)
    i, j = 3, 5
    n = levels.size
    found = monitoring.Monitored(
        *(np.array(table[i][j], np.float32) for _ in range(3)),
        *(np.zeros(n, np.int32) for _ in range(2)),
        np.full(n, monitoring_null.VIEWS_BEFORE[i], np.int32),
        np.full(n, monitoring_null.VIEWS_AFTER[j], np.int32),
    )
    np.testing.assert_allclose(monitoring.p_values(found, table), levels, rtol=0.01)


def test_p_values_fall_with_the_statistic_and_go_on_beyond_the_table() -> None:
    size = np.linspace(0, 15, 400).astype(np.float32)
    counts = np.full(400, 37, np.int32)
    nothing = np.zeros(400, np.int32)
    for sign in (1, -1):
        found = monitoring.Monitored(sign * size, size, size, nothing, nothing, counts, counts)
        p = monitoring.p_values(found, monitoring_null.MOVING_SUM)
        assert p[0] == 1
        assert (np.diff(p) < 0).all()
        assert 0 < p[-1] < 1e-12


def test_huber_efficiency_makes_the_scale_consistent() -> None:
    z = np.linspace(-8, 8, 200_001)
    expected = np.trapezoid(np.minimum(z**2, 1.5**2) * stats.norm.pdf(z), z)
    assert monitoring.huber_efficiency(1.5) == pytest.approx(expected, rel=1e-6)


def test_dates_of_indices() -> None:
    days = np.array([100, 105, 111])
    np.testing.assert_array_equal(monitoring.days_of(np.array([2, -1, 0], np.int32), days), [111, np.nan, 100])
