"""View-by-view monitoring: the same errors as all at once, and honest chances."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch import online
from compoundwatch.errors import ContractError
from compoundwatch.formulas import harmonic_design


def _series(seed: int, pixels: int, before: int, after: int, missing: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    days = 18_000 + np.cumsum(rng.integers(4, 14, before + after))
    values = rng.normal(0.4, 0.05, (before + after, pixels)) + 0.1 * np.cos(2 * np.pi * days / 365.25)[:, None]
    values[rng.random(values.shape) < missing] = np.nan
    return values.astype(np.float32), days


def _watch(values: np.ndarray, days: np.ndarray, n: int, **settings: float) -> online.OnlineState:
    state = online.start(values[:n], days[:n], int(days[n]), **settings)  # type: ignore[arg-type]
    for k in range(n, len(days)):
        online.update(state, values[k], int(days[k]))
    return state


def test_sums_are_those_of_recursive_residuals() -> None:
    values, days = _series(1, 300, 60, 25)
    n = 60
    state = _watch(values, days, n, rounds=0, clip=1e6)
    X = harmonic_design(days, 1)
    for p in range(0, 300, 29):
        ok = np.isfinite(values[:, p])
        y, Z, m = values[ok, p].astype(float), X[ok], int(ok[:n].sum())
        beta = np.linalg.lstsq(Z[:m], y[:m], rcond=None)[0]
        sigma = np.sqrt(np.sum((y[:m] - Z[:m] @ beta) ** 2) / (m - 3))
        errors = []
        for k in range(m, y.size):
            inverse = np.linalg.inv(Z[:k].T @ Z[:k])
            errors.append((y[k] - Z[k] @ inverse @ Z[:k].T @ y[:k]) / np.sqrt(1 + Z[k] @ inverse @ Z[k]) / sigma)
        assert state.n_after[p] == len(errors)
        assert state.cusum[p] == pytest.approx(np.sum(errors) / np.sqrt(m), abs=2e-3)
        if len(errors) >= 16:
            assert state.mosum[p] == pytest.approx(np.sum(errors[-16:]) / 4, abs=2e-3)


def test_watching_without_end_raises_no_more_alarms_than_promised() -> None:
    values, days = _series(2, 20_000, 200, 150, missing=0)
    p = _watch(values, days, 200).p_value
    assert np.mean(p < 0.05) < 0.05
    assert np.mean(p < 0.3) > 0.001  # and it is not blind


def test_a_change_is_found_with_its_direction() -> None:
    values, days = _series(3, 400, 50, 30)
    values[60:, :200] -= 0.3
    values[60:, 200:] += 0.3
    state = _watch(values, days, 50)
    assert np.mean(state.p_value < 0.01) > 0.99
    assert (state.direction[:200] == -1).all()
    assert (state.direction[200:] == 1).all()


def test_too_few_views_are_not_tested() -> None:
    values, days = _series(4, 5, 30, 10, missing=0)
    values[:25, 0] = np.nan
    values[30:, 1] = np.nan
    state = _watch(values, days, 30)
    assert np.isnan(state.p_value[:2]).all()
    assert np.isfinite(state.p_value[2:]).all()
    assert np.isnan(state.cusum[0])
    assert np.isnan(state.mosum).all()  # ten views are fewer than a window


def test_images_must_follow_each_other() -> None:
    values, days = _series(5, 9, 30, 5)
    state = _watch(values, days, 30)
    with pytest.raises(ContractError, match="does not follow day"):
        online.update(state, values[0], int(days[-1]) - 1)
    with pytest.raises(ContractError, match="9 pixels"):
        online.update(state, values[0][:4], int(days[-1]) + 1)
    with pytest.raises(ContractError, match="not before the reference end"):
        online.start(values, days, int(days[30]))
