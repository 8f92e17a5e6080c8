"""Signed Welch test: is the mean after the reference period the mean before it?

Method, limits and measured false-alarm rates: docs/detectors/welch.md.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import prange
from scipy import special

from compoundwatch.model import FloatArray, PixelChange
from compoundwatch.regression import compiled, compiled_parallel

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
TILE = 256
CHUNKS = 64
"""Runs of tiles that threads share out; each has its own arrays, made once."""
ONE = np.float32(1)
LARGEST = np.float32(3e38)


class Welch:
    """Compares two means, whatever their variances, for values without a season (radar of one orbit, in decibels)."""

    kind: Literal["series"] = "series"
    name = "welch"
    title = "Signed Welch test of means (no season)"
    source = "Welch 1947, doi:10.1093/biomet/34.1-2.28"
    unit: str | None = None
    min_before = 5
    min_after = 5

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test each pixel for a change of mean at ``reference_end``.

        Parameters
        ----------
        values : float32 (n_dates, n_pixels), any unit, of one orbit and polarisation; NaN = no view.
        days : int64 (n_dates,), days since 1970-01-01, sorted.
        reference_end : first day (since 1970-01-01) that may hold a change.

        Returns
        -------
        PixelChange. ``statistic`` is the standard normal value with the p-value and the sign of Welch's t: several
        orbits or polarisations are put together with ``formulas.stouffer``. ``effect`` = mean after - mean before.
        ``day`` is the view from ``reference_end`` on at which two means divide the series best, ``day_earliest`` the
        view before it, ``day_latest`` = ``day``. All are NaN for a pixel with fewer than ``min_before`` or
        ``min_after`` views, or without any variance.
        """
        cube = np.ascontiguousarray(values, dtype=np.float32)
        dates = int(np.searchsorted(days, reference_end, side="left"))
        pixels = cube.shape[1]
        moments = np.zeros((6, pixels), np.float32)
        first, last = np.full(pixels, -1, np.int32), np.full(pixels, -1, np.int32)
        _tiles(cube, dates, moments, first, last)
        n0, mean0, var0, n1, mean1, var1 = moments.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            part0, part1 = var0 / n0, var1 / n1
            error = np.sqrt(part0 + part1)
            freedom = (part0 + part1) ** 2 / (part0**2 / (n0 - 1) + part1**2 / (n1 - 1))
            t = (mean1 - mean0) / error
        tested = (n0 >= self.min_before) & (n1 >= self.min_after) & (error > 0)
        p, z, effect, effect_se = (np.full(pixels, np.nan) for _ in range(4))
        tail = special.stdtr(freedom[tested], -np.abs(t[tested]))
        p[tested] = 2 * tail
        z[tested] = -np.sign(t[tested]) * special.ndtri(np.maximum(tail, np.finfo(float).tiny))
        effect[tested], effect_se[tested] = (mean1 - mean0)[tested], error[tested]
        known = np.append(np.asarray(days, dtype=np.float64), np.nan)
        day = known[np.where(tested, first, -1)]
        return PixelChange(
            statistic=z.astype(np.float32),
            p_value=p.astype(np.float32),
            effect=effect.astype(np.float32),
            effect_se=effect_se.astype(np.float32),
            day=day,
            day_earliest=known[np.where(tested, last, -1)],
            day_latest=day.copy(),
            n_before=n0.astype(np.int32),
            n_after=n1.astype(np.int32),
        )


@compiled
def _load(values: F32, at: int, count: int, rows: F32, seen: F32, shift: F32) -> None:
    """Copy a tile; each pixel's first value is taken off, so that float32 sums of squares stay exact."""
    if count < TILE:
        rows[:] = 0
        seen[:] = 0
    shift[:] = 0
    for t in range(values.shape[0] - 1, -1, -1):
        date = values[t, at : at + count]
        for p in range(count):
            v = date[p]
            shift[p] = v if abs(v) < LARGEST else shift[p]
    for t in range(values.shape[0]):
        date = values[t, at : at + count]
        for p in range(count):
            v = date[p]
            ok = abs(v) < LARGEST
            rows[t, p] = v - shift[p] if ok else np.float32(0)
            seen[t, p] = ONE if ok else np.float32(0)


@compiled
def _moments(rows: F32, seen: F32, start: int, stop: int, n: F32, mean: F32, variance: F32) -> None:
    """Number of views, mean and variance of the dates [start, stop), in two passes."""
    n[:] = 0
    mean[:] = 0
    variance[:] = 0
    for t in range(start, stop):
        for p in range(TILE):
            n[p] += seen[t, p]
            mean[p] += rows[t, p]
    for p in range(TILE):
        mean[p] /= max(n[p], ONE)
    for t in range(start, stop):
        for p in range(TILE):
            d = (rows[t, p] - mean[p]) * seen[t, p]
            variance[p] += d * d
    for p in range(TILE):
        variance[p] /= max(n[p] - ONE, ONE)


@compiled
def _split(rows: F32, seen: F32, dates: int, work: F32, date: F32) -> None:
    """The date from ``dates`` on that divides the views best into two means: the largest between-group variance."""
    total, views, late, k, best = work[0], work[1], work[2], work[3], work[4]
    work[:] = 0
    for t in range(rows.shape[0]):
        for p in range(TILE):
            total[p] += rows[t, p]
            views[p] += seen[t, p]
    best[:] = -1
    for t in range(rows.shape[0] - 1, dates - 1, -1):
        now = np.float32(t)
        for p in range(TILE):
            late[p] += rows[t, p]
            k[p] += seen[t, p]
            m = max(views[p] - k[p], ONE)
            gap = (total[p] - late[p]) / m - late[p] / max(k[p], ONE)
            between = gap * gap * m * k[p]
            more = (seen[t, p] > 0) & (between > best[p])
            best[p] = between if more else best[p]
            date[p] = now if more else date[p]


@compiled
def _dates(seen: F32, date: F32, found: F32, at: int, count: int, first: I32, last: I32) -> None:
    """First date after the division and last view before it, for pixels with views on both sides."""
    for p in range(count):
        if found[0, p] > 0 and found[3, p] > 0:
            first[at + p] = int(date[p])
            t = int(date[p]) - 1
            while t > 0 and seen[t, p] == 0:
                t -= 1
            last[at + p] = t


@compiled_parallel
def _tiles(values: F32, dates: int, moments: F32, first: I32, last: I32) -> None:
    """For every pixel: views, mean and variance before and after, and the dates around the best division."""
    T, pixels = values.shape
    tiles = (pixels + TILE - 1) // TILE
    chunks = min(tiles, CHUNKS)
    for chunk in prange(chunks):
        rows, seen, shift = np.empty((T, TILE), np.float32), np.empty((T, TILE), np.float32), np.empty(TILE, np.float32)
        found, work, date = np.empty((6, TILE), np.float32), np.empty((5, TILE), np.float32), np.zeros(TILE, np.float32)
        for tile in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
            at = tile * TILE
            count = min(TILE, pixels - at)
            _load(values, at, count, rows, seen, shift)
            _moments(rows, seen, 0, dates, found[0], found[1], found[2])
            _moments(rows, seen, dates, T, found[3], found[4], found[5])
            _split(rows, seen, dates, work, date)
            moments[:, at : at + count] = found[:, :count]
            _dates(seen, date, found, at, count, first, last)


DETECTOR = Welch()
