"""Search kernels on errors written down by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch import change_search as c
from compoundwatch.regression import SLOTS, TILE, VIEWS


def _collected(errors: list[float], views_before: int = 10) -> tuple[np.ndarray, ...]:
    """One pixel's errors, NaN = no view, after two dates of history, gaps closed."""
    n = len(errors)
    rows, seen = np.zeros((n + 3, TILE), np.float32), np.zeros((n + 3, TILE), np.float32)
    state = np.zeros(SLOTS * TILE, np.float32)
    state[VIEWS : VIEWS + TILE] = views_before
    values = np.array(errors)
    rows[2 : n + 2, 0], seen[2 : n + 2, 0] = np.nan_to_num(values), np.isfinite(values)
    closed, order = np.full((n + 1, TILE), 99, np.float32), np.zeros((n + 1, TILE), np.int32)
    c.collect(rows, seen, 2, state, closed, order)
    total, fade, faded = (np.empty((n + 1, TILE), np.float32) for _ in range(3))
    c.running_sums(closed, state, total, fade, faded)
    return state, closed, order, total, fade, faded


def test_gaps_are_closed() -> None:
    state, closed, order, total, *_ = _collected([np.nan, 1.0, np.nan, 2.0, -0.5, np.nan])
    assert state[c.AFTER] == 3
    np.testing.assert_array_equal(closed[:, 0], [0, 1, 2, -0.5, 0, 0, 0])
    np.testing.assert_array_equal(order[1:4, 0], [3, 5, 6])
    np.testing.assert_array_equal(total[:4, 0], [0, 1, 3, 2.5])
    assert state[c.AFTER + 1] == 0


def test_largest_window_and_its_place() -> None:
    state, _, _, total, *_ = _collected([0.5, -3, np.nan, -3, -3, -3, 1, 1])
    c.largest_window(total, np.array([2, 4], np.int32), state)
    assert state[c.WINDOW] == pytest.approx(-12 / 2)
    assert (state[c.WINDOW_BEGIN], state[c.WINDOW_END]) == (1, 5)


def test_windows_do_not_reach_beyond_the_last_view() -> None:
    state, _, _, total, *_ = _collected([1.0, 1.0, 1.0, np.nan, np.nan])
    c.largest_window(total, np.array([4], np.int32), state)
    assert state[c.WINDOW] == 0


def test_lasting_step_is_the_two_sample_test() -> None:
    """Errors of a pure level: the weighted sum is the difference of two means over its standard error."""
    y = np.array([0.0, 1.0, 0.5, -0.5, 0.2, 0.3, 2.0, 2.5, 1.5, 2.2])
    errors = [(y[k] - y[:k].mean()) / np.sqrt(1 + 1 / k) for k in range(4, y.size)]
    state, _, _, _, _, faded = _collected(errors, views_before=4)
    c.largest_step(faded, state)
    best = {m: (y[m:].mean() - y[:m].mean()) / np.sqrt(1 / m + 1 / (y.size - m)) for m in range(4, y.size - 2)}
    m = max(best, key=lambda key: abs(best[key]))
    assert state[c.STEP] == pytest.approx(best[m], rel=1e-5)
    assert state[c.STEP_BEGIN] == m - 4
