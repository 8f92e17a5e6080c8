"""Search kernels on errors written down by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch import change_search as c
from compoundwatch.regression import CROSS, SIZE, SLOTS, TILE, VIEWS

START = 2


class Pixel:
    """One pixel's errors, NaN = no view, after two dates of history with ``before`` views; the first of a tile."""

    def __init__(self, errors: list[float], before: int = 10) -> None:
        n = len(errors)
        self.rows, self.seen = np.zeros((n + 3, TILE), np.float32), np.zeros((n + 3, TILE), np.float32)
        self.state = np.zeros(SLOTS * TILE, np.float32)
        self.state[VIEWS : VIEWS + TILE] = before
        values = np.array(errors)
        self.rows[START : n + START, 0], self.seen[START : n + START, 0] = np.nan_to_num(values), np.isfinite(values)
        self.total, self.fade = np.full((n + 1, TILE), 99, np.float32), np.empty((n, TILE), np.float32)
        self.places = np.zeros(TILE, np.uint32)
        c.add_up_errors(self.rows, self.seen, START, self.places, self.total, self.state)

    def windows(self, *lengths: int) -> np.ndarray:
        found = np.zeros((2 * len(lengths), TILE), np.float32)
        c.largest_windows(self.total, np.array(lengths, np.int32), found, self.state)
        return found[:, 0]

    def step(self) -> None:
        c.largest_step(self.rows, self.seen, START, self.fade, self.state)

    def __getitem__(self, slot: int) -> float:
        return float(self.state[slot])


def test_gaps_are_closed() -> None:
    pixel = Pixel([np.nan, 1.0, np.nan, 2.0, -0.5, np.nan])
    assert pixel[c.AFTER] == 3
    np.testing.assert_array_equal(pixel.total[:4, 0], [0, 1, 3, 2.5])
    assert pixel[c.SQUARES] == pytest.approx(1 + 4 + 0.25)
    assert pixel[c.LAG] == pytest.approx(1 * 2 + 2 * -0.5)
    assert pixel.state[c.AFTER + 1] == 0


def test_largest_window_and_its_place() -> None:
    pixel = Pixel([0.5, -3, np.nan, -3, -3, -3, 1, 1])
    found = pixel.windows(2, 4)
    np.testing.assert_allclose(found, [-6 / np.sqrt(2), 1, -12 / 2, 1], rtol=1e-6)
    assert pixel[c.BEST] == pytest.approx(-12 / 2)
    assert (pixel[c.BEST_BEGIN], pixel[c.BEST_END]) == (1, 5)


def test_windows_do_not_reach_beyond_the_last_view() -> None:
    pixel = Pixel([1.0, 1.0, 1.0, np.nan, np.nan])
    pixel.windows(4)
    assert pixel[c.BEST] == 0


def test_lasting_step_is_the_two_sample_test() -> None:
    """Errors of a pure level: the weighted sum is the difference of two means over its standard error."""
    y = np.array([0.0, 1.0, 0.5, -0.5, 0.2, 0.3, 2.0, 2.5, 1.5, 2.2])
    pixel = Pixel([(y[k] - y[:k].mean()) / np.sqrt(1 + 1 / k) for k in range(4, y.size)], before=4)
    pixel.step()
    best = {m: (y[m:].mean() - y[:m].mean()) / np.sqrt(1 / m + 1 / (y.size - m)) for m in range(4, y.size - 2)}
    m = max(best, key=lambda key: abs(best[key]))
    assert pixel[c.STEP] == pytest.approx(best[m], rel=1e-5)
    assert pixel[c.STEP_BEGIN] == m - 4


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("shift", [0, 3, 6])
def test_correlation_of_neighbours_without_the_change(shift: int, gap: bool) -> None:
    """The window lies at the begin, in the middle, at the end; a missing view does not part its neighbours."""
    errors = np.array([0.4, -0.2, 0.9, 0.1, -0.7, 0.3, -0.1, 0.6, 0.2, -0.4])
    errors[shift : shift + 4] += 5
    listed = [*errors[:5], np.nan, *errors[5:]] if gap else list(errors)
    pixel = Pixel(listed, before=30)
    pixel.state[CROSS], pixel.state[SIZE] = 1.5, 20.0
    pixel.windows(4)
    pixel.step()
    pixel.state[c.RHO] = 1
    c.correlation_without_mean(pixel.total, c.BEST_BEGIN, c.BEST_END, pixel.state)
    rest = errors.copy()
    rest[shift : shift + 4] -= errors[shift : shift + 4].mean()
    window = (1.5 + rest[1:] @ rest[:-1]) / (20 + rest @ rest)
    assert pixel[c.RHO] == pytest.approx(window, abs=1e-5)
    c.correlation_without_step(pixel.rows, pixel.seen, START, pixel.fade, pixel.state)
    m = 30 + np.arange(1, errors.size + 1)
    weights = np.where(np.arange(errors.size) >= pixel[c.STEP_BEGIN], 1 / np.sqrt(m * (m - 1)), 0)
    rest = errors - weights * (weights @ errors) / (weights @ weights)
    step = (1.5 + rest[1:] @ rest[:-1]) / (20 + rest @ rest)
    assert pixel[c.RHO] == pytest.approx(step, abs=1e-5)
    c.correlation_without_mean(pixel.total, c.BEST_BEGIN, c.BEST_END, pixel.state)
    assert pixel[c.RHO] == pytest.approx(min(step, window), abs=1e-5)


@pytest.mark.parametrize("length", [1, 2, 5, 32, 300])
@pytest.mark.parametrize("rho", [0.0, 0.2, 0.8])
def test_variance_of_a_sum_of_correlated_values(rho: float, length: int) -> None:
    lag = abs(np.subtract.outer(np.arange(length), np.arange(length)))
    expected = np.sum(rho**lag) / length
    assert c.variance_of_sum(np.float32(rho), np.float32(length)) == pytest.approx(expected, rel=2e-5)


def test_what_an_error_inherits_is_taken_off() -> None:
    pixel = Pixel([1.0, np.nan, 0.5, 2.0, -1.0])
    pixel.state[c.RHO] = 0.6
    c.whiten(pixel.rows, pixel.seen, START, pixel.places, pixel.total, pixel.state)
    np.testing.assert_allclose(pixel.total[1:, 0], [1, -0.1 / 0.8, 1.7 / 0.8, -2.2 / 0.8, 0], atol=1e-6)


def test_run_is_as_large_as_its_smallest_error() -> None:
    pixel = Pixel([1.0, np.nan, -2.0, -3.0, -1.5, -4.0, 0.5, 3.0])
    for length, size, begin in ((3, -1.5, 1), (4, -1.5, 1), (5, 0.0, 0), (1, -4.0, 4)):
        c.whiten(pixel.rows, pixel.seen, START, pixel.places, pixel.total, pixel.state)
        c.largest_run(pixel.total, length, pixel.state)
        assert (pixel[c.STATISTIC], pixel[c.BEGIN]) == (size, begin)
