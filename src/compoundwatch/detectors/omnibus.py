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
ONE = np.float32(1)


class Omnibus:
    """Tests whether the speckle of one pixel's intensities has one mean, before and after.

    Setting: ``looks``, the equivalent number of looks of the product (no unit; 4.4 for Sentinel-1 ground range detected
    at 10 m). Too large a number makes false alarms.
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
def _load(values: F32, at: int, count: int, dates: int, rows: F32, seen: F32, sums: F32) -> None:
    """Copy a tile; sums = views and intensities before, views and intensities after, logarithms after."""
    if count < TILE:
        rows[:] = 0
        seen[:] = 0
    sums[:] = 0
    for t in range(values.shape[0]):
        date = values[t, at : at + count]
        group = 0 if t < dates else 2
        for p in range(count):
            v = date[p]
            ok = (v > 0) & (v < np.float32(3e38))
            rows[t, p] = v if ok else np.float32(0)
            seen[t, p] = ONE if ok else np.float32(0)
        for p in range(TILE):
            sums[group, p] += seen[t, p]
            sums[group + 1, p] += rows[t, p]
        if t >= dates:
            for p in range(TILE):
                x = rows[t, p] if seen[t, p] > 0 else ONE
                sums[4, p] += log32(x)


@compiled
def _split(rows: F32, seen: F32, dates: int, sums: F32, best: F32) -> None:
    """Best division into an early and a late group; best = likelihood, first date, views and intensity from it on.

    With m views of mean a before and k of mean b after, -log likelihood per look is m log a + k log b; the smallest
    wins. A date without a view repeats the division of the next one, and does not win against it.
    """
    late = np.zeros((2, TILE), np.float32)
    best[:] = 0
    best[0, :] = np.float32(3e38)
    for t in range(rows.shape[0] - 1, dates - 1, -1):
        date = np.float32(t)
        for p in range(TILE):
            k, s = late[0, p] + seen[t, p], late[1, p] + rows[t, p]
            late[0, p] = k
            late[1, p] = s
            m, early = sums[0, p] + sums[2, p] - k, sums[1, p] + sums[3, p] - s
            early_mean, late_mean = max(early, np.float32(1e-30)) / max(m, ONE), s / max(k, ONE)
            cost = m * log32(max(early_mean, np.float32(1e-30))) + k * log32(max(late_mean, np.float32(1e-30)))
            better = (seen[t, p] > 0) & (cost < best[0, p])
            best[0, p] = cost if better else best[0, p]
            best[1, p] = date if better else best[1, p]
            best[2, p] = k if better else best[2, p]
            best[3, p] = s if better else best[3, p]


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
        rows, seen = np.empty((T, TILE), np.float32), np.empty((T, TILE), np.float32)
        sums, best = np.empty((5, TILE), np.float32), np.empty((4, TILE), np.float32)
        for tile in range(chunk * tiles // chunks, (chunk + 1) * tiles // chunks):
            at = tile * TILE
            count = min(TILE, pixels - at)
            _load(values, at, count, dates, rows, seen, sums)
            _split(rows, seen, dates, sums, best)
            _results(seen, sums, best, at, count, log_ratio, before, after, first, last, n_before, n_after, n_changed)


@compiled
def _results(
    seen: F32,
    sums: F32,
    best: F32,
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
        m, k = sums[0, p], sums[2, p]
        n_before[at + p], n_after[at + p], n_changed[at + p] = int(m), int(k), int(best[2, p])
        if m > 0 and k > 0:
            whole = np.log((sums[1, p] + sums[3, p]) / (m + k))
            log_ratio[at + p] = sums[4, p] - k * whole + m * (np.log(sums[1, p] / m) - whole)
            after[at + p] = best[3, p] / best[2, p]
            before[at + p] = (sums[1, p] + sums[3, p] - best[3, p]) / (m + k - best[2, p])
            t = int(best[1, p])
            first[at + p] = t
            t -= 1
            while t > 0 and seen[t, p] == 0:
                t -= 1
            last[at + p] = t


DETECTOR = Omnibus()
