"""Consecutive anomalies: exact chances, by enumeration and by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from compoundwatch.detectors.ccdc import Ccdc, chance_of_run


@pytest.mark.parametrize(("n", "length"), [(3, 3), (7, 3), (9, 4)])
def test_chance_of_a_run_by_enumeration(n: int, length: int) -> None:
    """Every sequence of {below, between, above}, with the probabilities of a normal error beyond one sigma."""
    q = stats.norm.sf(1.0)
    weight = {-1: q, 0: 1 - 2 * q, 1: q}
    total = 0.0
    for word in product((-1, 0, 1), repeat=n):
        rows = (word[k : k + length] for k in range(n - length + 1))
        if any(abs(sum(row)) == length for row in rows):
            total += np.prod([weight[w] for w in word])
    assert chance_of_run(1.0, 1e5, n, length) == pytest.approx(total, rel=1e-3)


def test_chance_of_a_run_with_estimated_noise() -> None:
    rng = np.random.default_rng(1)
    errors = rng.standard_normal((400_000, 12)) / np.sqrt(rng.chisquare(9, 400_000) / 9)[:, None]
    rows = np.stack([errors[:, k : k + 4] for k in range(9)])
    size = np.maximum(rows.min(axis=2), (-rows).min(axis=2)).max(axis=0)
    for level in (0.5, 1.0, 1.5):
        share = np.mean(size > level)
        expected = chance_of_run(level, 9, 12, 4)
        assert share == pytest.approx(expected, abs=3 * np.sqrt(share / 400_000))


@pytest.mark.parametrize("consecutive", [4, 6])
def test_size_for_any_number_of_views(consecutive: int) -> None:
    rng = np.random.default_rng(2)
    days = 18_000 + np.sort(rng.choice(900, 50, replace=False))
    values = rng.normal(0, 1, (50, 60_000)).astype(np.float32)
    values[rng.random(values.shape) < 0.3] = np.nan
    found = Ccdc(consecutive=consecutive).test(values, days, int(days[25]))
    p = found.p_value[np.isfinite(found.p_value)]
    for level in (0.05, 0.01):
        assert np.mean(p < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / p.size))


def test_statistic_is_the_smallest_anomaly_of_the_best_row() -> None:
    rng = np.random.default_rng(3)
    days = 18_000 + 10 * np.arange(80)
    values = rng.normal(0, 0.01, (80, 50)).astype(np.float32)
    values[60:66] -= 1
    found = Ccdc().test(values, days, int(days[50]))
    assert (found.statistic < -3).all()
    np.testing.assert_array_equal(found.day, days[60])
    np.testing.assert_array_equal(found.day_earliest, days[59])


def test_five_of_six_are_not_enough() -> None:
    rng = np.random.default_rng(4)
    days = 18_000 + 10 * np.arange(80)
    values = rng.normal(0, 0.01, (80, 500)).astype(np.float32)
    values[60:65] -= 1
    values[65:] += 0.02
    found = Ccdc().test(values, days, int(days[50]))
    assert np.mean(np.abs(found.statistic) < 3) > 0.99
