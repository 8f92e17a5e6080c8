"""Monitoring view by view: each new image moves a pixel's state, nothing is fitted again.

The state holds what the next view needs and no view itself: the season and its uncertainty, the noise of the reference
period, the cumulative sum of the prediction errors and the last of them for a moving sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import prange

from compoundwatch.errors import ContractError
from compoundwatch.formulas import cusum_crossing
from compoundwatch.monitoring import huber_efficiency
from compoundwatch.regression import (
    COEFFICIENTS,
    FREE_SLOT,
    LARGEST,
    ONE,
    SHIFT,
    SIGMA,
    SIZE,
    TILE,
    VIEWS,
    aligned,
    compiled,
    compiled_parallel,
    cycles,
    fit,
    load,
    log32,
    pick,
    prediction_errors,
)

F32 = npt.NDArray[np.float32]
AFTER, TOTAL, ALARM, SIDE = FREE_SLOT, FREE_SLOT + TILE, FREE_SLOT + 2 * TILE, FREE_SLOT + 3 * TILE
"""Views after the reference period; their errors' sum; its largest excess over the boundary so far, and its sign."""
SLOTS = SIDE // TILE + 1
"""Rows of a tile's state."""


@dataclass
class OnlineState:
    """What is known of every pixel after the views so far; ``update`` changes it in place.

    ``tiles`` float32 (n_tiles, slots) and ``ring`` float32 (n_tiles, window, pixels of a tile) belong to the kernels.
    ``reference_end`` and ``last_day`` are days since 1970-01-01; ``window`` is the moving sum's length in views.
    """

    tiles: F32
    ring: F32
    n_pixels: int
    reference_end: int
    last_day: int
    window: int
    min_before: int

    def _pixels(self, slot: int) -> F32:
        return self.tiles[:, slot : slot + TILE].reshape(-1)[: self.n_pixels]

    @property
    def n_after(self) -> npt.NDArray[np.int32]:
        """Views of each pixel since the reference period, int32 (n_pixels,)."""
        return self._pixels(AFTER).astype(np.int32)

    @property
    def cusum(self) -> F32:
        """Sum of each pixel's errors, in units of their noise and of sqrt(views before); NaN = not tested."""
        n, sigma = self._pixels(VIEWS), self._pixels(SIGMA)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n >= self.min_before, self._pixels(TOTAL) / (sigma * np.sqrt(n)), np.nan).astype(np.float32)

    @property
    def mosum(self) -> F32:
        """Sum of each pixel's last ``window`` errors, standard normal where nothing happens; NaN = fewer views."""
        known = (self._pixels(VIEWS) >= self.min_before) & (self._pixels(AFTER) >= self.window)
        sums = np.moveaxis(self.ring, 1, 0).sum(axis=0).reshape(-1)[: self.n_pixels]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(known, sums / (self._pixels(SIGMA) * np.sqrt(self.window)), np.nan).astype(np.float32)

    @property
    def p_value(self) -> F32:
        """Chance that the cumulative sum ever strays this far, however long one goes on watching; NaN = not tested.

        Two-sided; Robbins and Siegmund 1970, doi:10.1214/aoms/1177696787. The noise is taken as known: with fewer than
        about 50 views before, the chance is larger than it says (see docs/detectors/harmonic_cusum.md).
        """
        tested = (self._pixels(VIEWS) >= self.min_before) & (self._pixels(AFTER) > 0)
        p = cusum_crossing(np.sqrt(np.maximum(self._pixels(ALARM), 0)))
        return np.where(tested, np.minimum(p, 1), np.nan).astype(np.float32)

    @property
    def direction(self) -> npt.NDArray[np.int8]:
        """Sign of the cumulative sum where it strayed farthest, int8 (n_pixels,): -1, 0 or 1."""
        return self._pixels(SIDE).astype(np.int8)


def start(
    values: npt.NDArray[np.floating[Any]],
    days: npt.NDArray[np.int64],
    reference_end: int,
    *,
    window: int = 16,
    min_before: int = 12,
    clip: float = 3.0,
    tuning: float = 1.5,
    rounds: int = 3,
) -> OnlineState:
    """Fit the season of every pixel to the views before ``reference_end``.

    Parameters
    ----------
    values : float32 (n_dates, n_pixels), NaN = no view.
    days : int64 (n_dates,), days since 1970-01-01, sorted, all before ``reference_end``.
    window : views of the moving sum.
    min_before : views below which a pixel is not tested.
    clip, tuning, rounds : as for ``monitoring.monitor``.

    Raises
    ------
    ContractError : a date lies on or after ``reference_end``; give it to ``update``.
    """
    if len(days) and days[-1] >= reference_end:
        raise ContractError(f"day {days[-1]} is not before the reference end {reference_end}; give it to update()")
    cube = np.ascontiguousarray(values, dtype=np.float32)
    n_tiles = -(-cube.shape[1] // TILE)
    tiles = aligned(n_tiles, SLOTS * TILE)
    tiles[:] = 0
    _fit_tiles(
        cube, cycles(np.asarray(days) - reference_end), (1e-4, tuning, huber_efficiency(tuning), rounds, clip), tiles
    )
    ring = np.zeros((n_tiles, window, TILE), np.float32)
    return OnlineState(tiles, ring, cube.shape[1], int(reference_end), int(reference_end) - 1, window, min_before)


def update(state: OnlineState, values: npt.NDArray[np.floating[Any]], day: int) -> None:
    """Add one image to the state.

    Parameters
    ----------
    values : float32 (n_pixels,), NaN = no view.
    day : days since 1970-01-01, not before the last one.

    Raises
    ------
    ContractError : the day lies before the last one, or the image has another number of pixels.
    """
    image = np.ascontiguousarray(values, dtype=np.float32)
    if day < state.last_day or image.shape != (state.n_pixels,):
        raise ContractError(
            f"an image of day {day} with shape {image.shape} does not follow day {state.last_day} with "
            f"{state.n_pixels} pixels"
        )
    _update_tiles(image, cycles(np.array([day - state.reference_end])), state.tiles, state.ring)
    state.last_day = int(day)


@compiled_parallel
def _fit_tiles(values: F32, waves: F32, numbers: tuple[float, float, float, int, float], tiles: F32) -> None:
    T, pixels = values.shape
    for k in prange(tiles.shape[0]):
        rows, seen = np.empty((T + 1, TILE), np.float32), np.empty((T + 1, TILE), np.float32)
        state = tiles[k]
        load(values, k * TILE, min(TILE, pixels - k * TILE), rows, seen, state)
        fit(rows, seen, waves, T, numbers, state)
        for p in range(TILE):
            free = max(state[VIEWS + p] - COEFFICIENTS, ONE)
            state[SIGMA + p] = np.sqrt(state[SIZE + p] / free)


@compiled
def _error_of_view(image: F32, at: int, count: int, wave: F32, row: F32, seen: F32, state: F32) -> None:
    """``row`` = standardised prediction error of each pixel, 0 without a view; the season learns it."""
    part = image[at : at + count]
    row[0, count:] = 0
    seen[0, count:] = 0
    for p in range(count):
        v = part[p]
        ok = abs(v) < LARGEST
        row[0, p] = pick(ok, v - state[SHIFT + p], np.float32(0))
        seen[0, p] = pick(ok, ONE, np.float32(0))
    prediction_errors(row, seen, wave, 0, state)


@compiled
def _cumulate(row: F32, seen: F32, state: F32) -> None:
    """Running sum; ALARM = largest a^2 with |sum| / (sigma sqrt(n)) = sqrt((1 + t) (a^2 + log(1 + t))), t = k / n."""
    for p in range(TILE):
        state[AFTER + p] += seen[0, p]
        state[TOTAL + p] += row[0, p]
        n = max(state[VIEWS + p], ONE)
        u = ONE + state[AFTER + p] / n
        z = state[TOTAL + p] / state[SIGMA + p]
        row[1, p] = z * z / (n * u)
        row[2, p] = u
    for p in range(TILE):
        excess = row[1, p] - log32(row[2, p])
        more = excess > state[ALARM + p]
        state[ALARM + p] = pick(more, excess, state[ALARM + p])
        state[SIDE + p] = pick(more, np.sign(state[TOTAL + p]), state[SIDE + p])


@compiled_parallel
def _update_tiles(image: F32, wave: F32, tiles: F32, ring: F32) -> None:
    for k in prange(tiles.shape[0]):
        row, seen, state, last = np.empty((3, TILE), np.float32), np.empty((2, TILE), np.float32), tiles[k], ring[k]
        count = min(TILE, image.size - k * TILE)
        _error_of_view(image, k * TILE, count, wave, row[:2], seen, state)
        for p in range(count):
            if seen[0, p] > 0:
                last[int(state[AFTER + p]) % last.shape[0], p] = row[0, p]
        _cumulate(row, seen, state)
