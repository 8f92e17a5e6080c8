"""Gamma omnibus test of radar intensities: are all views after the reference period like those before?

Method, limits and measured false-alarm rates: docs/detectors/omnibus.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import prange

from compoundwatch.formulas import omnibus_p_value
from compoundwatch.model import FloatArray, PixelChange
from compoundwatch.regression import compiled, compiled_parallel, log32

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
TILE = 256
CHUNKS = 64
"""Runs of tiles that threads share out; each has its own arrays, made once."""
ZERO, ONE, TINY, LARGEST = np.float32(0), np.float32(1), np.float32(1e-30), np.float32(3e38)
SLOTS = 11
"""Rows of ``sums``: one flat array, ``sums[NAME + pixel]``, spares the compiler the proof that rows do not overlap."""
N_BEFORE, BEFORE, N_AFTER, AFTER, LOGS = 0 * TILE, 1 * TILE, 2 * TILE, 3 * TILE, 4 * TILE
"""Views and their sum before and after the reference end; sum of logarithms after."""
N_LATE, LATE, BEST, FIRST, N_CHANGED, CHANGED = 5 * TILE, 6 * TILE, 7 * TILE, 8 * TILE, 9 * TILE, 10 * TILE
"""Views and their sum from the date at hand on; the least cost so far, its first date, and both of it."""


class Omnibus:
    """Tests whether the speckle of one pixel's intensities has one mean, before and after.

    Setting: ``looks``, the equivalent number of looks of the product (no unit; 4.4 for Sentinel-1 ground range detected
    at 10 m; ``formulas.estimate_looks`` measures it). Too large a number makes false alarms.
    """

    kind: Literal["series"] = "series"
    name = "omnibus"
    title = "Gamma omnibus test (radar intensity, linear power)"
    source = "Conradsen et al. 2016, doi:10.1109/TGRS.2015.2510160"
    unit: str | None = "linear power"
    min_before = 4
    min_after = 2

    def __init__(self, looks: float = 4.4) -> None:
        self.looks = looks

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test each pixel for a change on or after ``reference_end``.

        Parameters
        ----------
        values : float32 (n_dates, n_pixels), intensity in linear power, of one orbit and polarisation; NaN = no view.
            A value that is not positive has no logarithm and counts as no view.
        days : int64 (n_dates,), days since 1970-01-01, sorted.
        reference_end : first day (since 1970-01-01) that may hold a change.

        Returns
        -------
        PixelChange. ``statistic`` is -2 rho ln Q of the factors of the later dates (positive for a rise): about
        chi-square with ``n_after`` degrees of freedom. ``day`` divides the views into the two groups that a gamma law
        fits best; ``effect`` is the difference of their means (linear power). ``day_earliest`` is the last view before,
        ``day_latest`` = ``day``. All are NaN for a pixel with fewer than ``min_before`` or ``min_after`` views.
        """
        cube = np.ascontiguousarray(values, dtype=np.float32)
        dates = int(np.searchsorted(days, reference_end, side="left"))
        pixels = cube.shape[1]
        log_ratio, before, after = (np.zeros(pixels, np.float32) for _ in range(3))
        first, last, n_before, n_after, n_changed = (np.full(pixels, -1, np.int32) for _ in range(5))
        _tiles(cube, dates, log_ratio, before, after, first, last, n_before, n_after, n_changed)
        tested = (n_before >= self.min_before) & (n_after >= self.min_after)
        z, p = (np.full(pixels, np.nan) for _ in range(2))
        z[tested], p[tested] = omnibus_p_value(log_ratio[tested], n_before[tested], n_after[tested], self.looks)
        effect = np.where(tested, after - before, np.nan)
        n_rest = np.maximum(n_before + n_after - n_changed, 1)
        spread = np.sqrt((after**2 / np.maximum(n_changed, 1) + before**2 / n_rest) / self.looks)
        known = np.append(np.asarray(days, dtype=np.float64), np.nan)
        day = known[np.where(tested, first, -1)]
        return PixelChange(
            statistic=(z * np.sign(effect)).astype(np.float32),
            p_value=p.astype(np.float32),
            effect=effect.astype(np.float32),
            effect_se=np.where(tested, spread, np.nan).astype(np.float32),
            day=day,
            day_earliest=known[np.where(tested, last, -1)],
            day_latest=day.copy(),
            n_before=n_before,
            n_after=n_after,
        )


@compiled
def _load(values: F32, at: int, count: int, dates: int, rows: F32, sums: F32) -> None:
    """Copy a tile, 0 = no view; ``sums`` = views and intensities before, views, intensities and logarithms after."""
    if count < TILE:
        rows[:] = 0
    sums[:] = 0
    for t in range(values.shape[0]):
        date = values[t, at : at + count]
        for p in range(count):
            v = date[p]
            rows[t, p] = v if (v > ZERO) & (v < LARGEST) else ZERO
    for t in range(dates):
        for p in range(TILE):
            sums[N_BEFORE + p] += ONE if rows[t, p] > ZERO else ZERO
            sums[BEFORE + p] += rows[t, p]
    for t in range(dates, values.shape[0]):
        for p in range(TILE):
            x = rows[t, p]
            seen = ONE if x > ZERO else ZERO
            sums[N_AFTER + p] += seen
            sums[AFTER + p] += x
            sums[LOGS + p] += seen * log32(max(x, TINY))  # a product: a choice would cost the vector instructions


@compiled
def _split(rows: F32, dates: int, sums: F32) -> None:
    """Best division into an early and a late group, into ``sums``: first date, views and intensity from it on.

    With m views of mean a before and k of mean b after, -log likelihood per look is m log a + k log b; the smallest
    wins. A date without a view repeats the division of the next one, and does not win against it.
    """
    sums[BEST : BEST + TILE] = LARGEST
    for t in range(rows.shape[0] - 1, dates - 1, -1):
        date = np.float32(t)
        for p in range(TILE):
            x = rows[t, p]
            k, s = sums[N_LATE + p] + (ONE if x > ZERO else ZERO), sums[LATE + p] + x
            sums[N_LATE + p] = k
            sums[LATE + p] = s
            m, early = sums[N_BEFORE + p] + sums[N_AFTER + p] - k, sums[BEFORE + p] + sums[AFTER + p] - s
            early_mean, late_mean = max(early, TINY) / max(m, ONE), s / max(k, ONE)
            cost = m * log32(max(early_mean, TINY)) + k * log32(max(late_mean, TINY))
            better = (x > ZERO) & (cost < sums[BEST + p])
            sums[BEST + p] = cost if better else sums[BEST + p]
            sums[FIRST + p] = date if better else sums[FIRST + p]
            sums[N_CHANGED + p] = k if better else sums[N_CHANGED + p]
            sums[CHANGED + p] = s if better else sums[CHANGED + p]


@compiled_parallel
def _tiles(
    values: F32,
    dates: int,
    log_ratio: F32,
    before: F32,
    after: F32,
    first: I32,
    last: I32,
    n_before: I32,
    n_after: I32,
    n_changed: I32,
) -> None:
    """For every pixel: ln Q of the later dates' factors per look, the means before and after the best division."""
    T, pixels = values.shape
    tiles = (pixels + TILE - 1) // TILE
    chunks = min(tiles, CHUNKS)
    for chunk in prange(chunks):
        rows, sums = np.empty((T, TILE), np.float32), np.empty(SLOTS * TILE, np.float32)
        for tile in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
            at = tile * TILE
            count = min(TILE, pixels - at)
            _load(values, at, count, dates, rows, sums)
            _split(rows, dates, sums)
            _results(rows, sums, at, count, log_ratio, before, after, first, last, n_before, n_after, n_changed)


@compiled
def _results(
    rows: F32,
    sums: F32,
    at: int,
    count: int,
    log_ratio: F32,
    before: F32,
    after: F32,
    first: I32,
    last: I32,
    n_before: I32,
    n_after: I32,
    n_changed: I32,
) -> None:
    """Write one tile's results; see ``_tiles``."""
    for p in range(count):
        m, k = sums[N_BEFORE + p], sums[N_AFTER + p]
        n_before[at + p], n_after[at + p], n_changed[at + p] = int(m), int(k), int(sums[N_CHANGED + p])
        if m > ZERO and k > ZERO:
            total, changed = sums[BEFORE + p] + sums[AFTER + p], sums[CHANGED + p]
            whole = np.log(total / (m + k))
            log_ratio[at + p] = sums[LOGS + p] - k * whole + m * (np.log(sums[BEFORE + p] / m) - whole)
            after[at + p] = changed / sums[N_CHANGED + p]
            before[at + p] = (total - changed) / (m + k - sums[N_CHANGED + p])
            t = int(sums[FIRST + p])
            first[at + p] = t
            t -= 1
            while t > 0 and rows[t, p] == 0:
                t -= 1
            last[at + p] = t


DETECTOR = Omnibus()
