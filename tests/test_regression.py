"""Season kernels against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch import regression as r
from compoundwatch.formulas import harmonic_design

ORIGIN = 18_000


def _tile(seed: int, dates: int = 61, missing: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    days = ORIGIN + np.sort(rng.choice(1300, dates, replace=False))
    values = rng.normal(5, 1, (dates, 200)) + 2 * np.cos(2 * np.pi * days / 365.25)[:, None]
    values[rng.random(values.shape) < missing] = np.nan
    return values.astype(np.float32), days


def _fit(
    values: np.ndarray, days: np.ndarray, n: int, rounds: int, clip: float = 3.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, seen = (np.empty((len(days) + 1, r.TILE), np.float32) for _ in range(2))
    state = np.zeros(r.SLOTS * r.TILE, np.float32)
    r.load(values, 0, values.shape[1], rows, seen, state)
    r.fit(rows, seen, r.cycles(days), n, (0.0, 1.5, 0.7785, rounds, clip), state)
    return rows, seen, state, harmonic_design(days, 1)


def _slot(state: np.ndarray, name: int, count: int = 200) -> np.ndarray:
    return state[name : name + count].astype(float)


def test_cycles_are_the_season_regressors_and_a_row_of_zeros() -> None:
    days = np.array([0, 100, 20_000])
    waves = r.cycles(days)
    np.testing.assert_allclose(waves[:-1], harmonic_design(days, 2)[:, 1:], atol=1e-6)
    np.testing.assert_array_equal(waves[-1], 0)


def _residuals(values: np.ndarray, X: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Values minus the fitted season, 0 = no view."""
    level = _slot(state, r.LEVEL) + _slot(state, r.SHIFT)
    return np.nan_to_num(values - X @ np.stack([level, _slot(state, r.COSINE), _slot(state, r.SINE)]))


@pytest.mark.parametrize("n", [28, 29, 30, 31])
def test_least_squares(n: int) -> None:
    values, days = _tile(1)
    _rows, _seen, state, X = _fit(values, days, n, rounds=0, clip=1e6)
    for p in range(0, 200, 11):
        ok = np.isfinite(values[:n, p])
        beta, *_ = np.linalg.lstsq(X[:n][ok], values[:n, p][ok].astype(float), rcond=None)
        ours = [_slot(state, name)[p] for name in (r.LEVEL, r.COSINE, r.SINE)]
        assert ours[0] + _slot(state, r.SHIFT)[p] == pytest.approx(beta[0], abs=2e-5)
        np.testing.assert_allclose(ours[1:], beta[1:], atol=2e-5)
        inverse = np.linalg.inv(X[:n][ok].T @ X[:n][ok])
        for name, (i, j) in zip(
            (r.A00, r.A01, r.A02, r.A11, r.A12, r.A22), ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), strict=True
        ):
            assert _slot(state, name)[p] == pytest.approx(inverse[i, j], abs=1e-5)
        left = values[:n, p][ok] - X[:n][ok] @ beta
        assert _slot(state, r.SIZE)[p] == pytest.approx(left @ left, rel=1e-4)
        assert _slot(state, r.CROSS)[p] == pytest.approx(left[1:] @ left[:-1], abs=1e-4 * (left @ left))


def test_residuals_are_held_within_their_bound() -> None:
    values, days = _tile(7)
    values[11] += 30
    *_, state, X = _fit(values, days, 40, rounds=3, clip=2.0)
    bound = 2 * _slot(state, r.SIGMA)
    held = np.clip(_residuals(values, X, state)[:40], -bound, bound)
    np.testing.assert_allclose(_slot(state, r.SIZE), np.sum(held**2, axis=0), rtol=1e-4)
    for p in range(0, 200, 19):
        views = held[np.isfinite(values[:40, p]), p]
        assert _slot(state, r.CROSS)[p] == pytest.approx(views[1:] @ views[:-1], abs=1e-3)


def test_huber_fit_solves_hubers_equations() -> None:
    values, days = _tile(2)
    values[:40][np.random.default_rng(3).random((40, 200)) < 0.1] += 8
    _rows, seen, state, X = _fit(values, days, 40, rounds=500)
    sigma = _slot(state, r.SIGMA)
    held = np.clip(_residuals(values, X, state)[:40], -1.5 * sigma, 1.5 * sigma)
    np.testing.assert_allclose(X[:40].T @ held, 0, atol=2e-4)
    n = seen[:40, :200].sum(axis=0)
    np.testing.assert_allclose(np.sqrt(np.sum(held**2, axis=0) / (0.7785 * (n - 3))), sigma, rtol=1e-4)
    assert np.median(sigma) == pytest.approx(1.2, abs=0.2)  # least squares would say 2.6


def test_prediction_errors_are_recursive_residuals() -> None:
    values, days = _tile(4)
    n = 30
    rows, seen, state, X = _fit(values, days, n, rounds=0)
    state[r.LIMIT : r.LIMIT + r.TILE] = 1e6
    r.prediction_errors(rows, seen, r.cycles(days), n, state)
    for p in range(0, 200, 17):
        ok = np.isfinite(values[:, p])
        for t in np.flatnonzero(ok[n:])[::5] + n:
            before = ok & (np.arange(len(days)) < t)
            inverse = np.linalg.inv(X[before].T @ X[before])
            guess = X[t] @ inverse @ X[before].T @ values[before, p].astype(float)
            expected = (values[t, p] - guess) / np.sqrt(1 + X[t] @ inverse @ X[t])
            assert rows[t, p] == pytest.approx(expected, abs=5e-5)


def test_a_tile_may_be_partly_filled() -> None:
    values, days = _tile(5)
    whole, part = _fit(values, days, 30, 3), _fit(np.ascontiguousarray(values[:, :7]), days, 30, 3)
    np.testing.assert_array_equal(whole[0][:, :7], part[0][:, :7])
    for name in (r.LEVEL, r.COSINE, r.SINE, r.SIGMA, r.SIZE, r.CROSS):
        np.testing.assert_array_equal(_slot(whole[2], name, 7), _slot(part[2], name, 7))
    assert (part[1][:, 7:] == 0).all()


@pytest.mark.parametrize("rows", [1, 7, 181])
def test_aligned_memory(rows: int) -> None:
    made = r.aligned(rows, r.TILE)
    assert made.shape == (rows, r.TILE)
    assert made.ctypes.data % 64 == 0


def test_pick_takes_one_of_two_and_nothing_of_the_other() -> None:
    @r.compiled
    def best(x: np.ndarray, out: np.ndarray) -> None:
        for k in range(x.size):
            out[k] = r.pick(x[k] > out[k], x[k], out[k])

    nan, inf = np.nan, np.inf
    out = np.array([2, 2, nan, 2, inf, -inf, nan], np.float32)
    best(np.array([1, 3, 1, nan, nan, -1, inf], np.float32), out)
    np.testing.assert_array_equal(out, [2, 3, nan, 2, inf, -1, nan])


def test_logarithm() -> None:
    @r.compiled
    def logs(x: np.ndarray, out: np.ndarray) -> None:
        for k in range(x.size):
            out[k] = r.log32(x[k])

    x = np.concatenate([np.geomspace(1e-30, 1e30, 5001), np.linspace(0.9, 1.1, 1001)]).astype(np.float32)
    out = np.empty_like(x)
    logs(x, out)
    np.testing.assert_allclose(out, np.log(x.astype(float)), rtol=3e-6, atol=3e-7)
