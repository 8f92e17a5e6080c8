"""Consecutive anomalies after a season: six views in a row on one side of the prediction.

Method, limits and measured false-alarm rates: docs/detectors/ccdc.md.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from numba import prange
from scipy import stats

from compoundwatch import regression as r
from compoundwatch.change_search import (
    BEGIN,
    COUNT,
    CROSS,
    END,
    EXTRA,
    MEAN,
    SLOPE,
    SQUARE,
    WINDOW,
    WINDOW_BEGIN,
    collect,
    first_residuals,
    mean_effect,
    season_variance,
    sharpen_date,
)
from compoundwatch.model import FloatArray, PixelChange

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
RIDGE = 1e-4
CLIP = np.float32(4)
"""Errors beyond this many sigma count as this many: a few clouds must not teach the season a new level."""
SIZES = np.linspace(0, 12, 241)
"""Anomaly sizes, in sigma, at which probabilities are tabulated."""
SCORES = np.linspace(-6, 6, 61)
"""Normal scores of the noise estimate's distribution, over which probabilities are averaged."""
FREEDOM = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 45, 70, 120, 300, 1000, 100_000)
"""Degrees of freedom of the tables; between them, linear in their inverse."""


class Ccdc:
    """Looks for ``consecutive`` views in a row that all err to the same side, and asks how rare that is by chance.

    ``consecutive`` is a number of views. The size of an anomaly is that of the smallest of the row.
    """

    kind: Literal["series"] = "series"
    name = "ccdc"
    title = "Season and consecutive anomalies"
    source = "after Zhu and Woodcock 2014, doi:10.1016/j.rse.2014.01.011"
    unit: str | None = None
    min_before = 8

    def __init__(self, consecutive: int = 6) -> None:
        self.consecutive = consecutive
        self.min_after = consecutive

    def test(self, values: FloatArray, days: npt.NDArray[np.int64], reference_end: int) -> PixelChange:
        """Test each pixel for a change on or after ``reference_end``.

        Parameters
        ----------
        values : float32 (n_dates, n_pixels), any unit, NaN = no view.
        days : int64 (n_dates,), days since 1970-01-01, sorted.
        reference_end : first day (since 1970-01-01) that may hold a change.

        Returns
        -------
        PixelChange. ``statistic`` is the size of the smallest of the ``consecutive`` standardised prediction errors, in
        the row where it is largest (at most 4), positive for a rise. ``day`` is the first view of the new level,
        ``day_earliest`` the last view before it, ``day_latest`` = ``day``. ``effect`` is the mean of value minus season
        of the reference period, from then on to the end of the series or of a spell that passes. All are NaN for a
        pixel with fewer than ``min_before`` or ``min_after`` views.
        """
        cube = np.ascontiguousarray(values, dtype=np.float32)
        dates, pixels = int(np.searchsorted(days, reference_end, side="left")), cube.shape[1]
        statistic, effect, effect_se = (np.full(pixels, np.nan, np.float32) for _ in range(3))
        p, first, last = np.full(pixels, np.nan, np.float32), *(np.full(pixels, -1, np.int32) for _ in range(2))
        counts = np.isfinite(cube)
        n_before, n_after = counts[:dates].sum(axis=0), counts[dates:].sum(axis=0)
        tested = (n_before >= self.min_before) & (n_after >= self.min_after)
        if tested.any():
            out = (statistic, effect, effect_se, first, last)
            _tiles(cube, r.cycles(days - reference_end), dates, self.consecutive, tested, out)
            size = statistic[tested]
            p[tested] = chance_of_run(size, n_before[tested] - 3, n_after[tested], self.consecutive)
        known = np.append(np.asarray(days, dtype=np.float64), np.nan)
        return PixelChange(
            statistic=statistic,
            p_value=p,
            effect=effect,
            effect_se=effect_se,
            day=known[first],
            day_earliest=known[last],
            day_latest=known[first],
            n_before=n_before.astype(np.int32),
            n_after=n_after.astype(np.int32),
        )


def chance_of_run(size: npt.ArrayLike, freedom: npt.ArrayLike, n: npt.ArrayLike, length: int) -> F64:
    """Chance that some ``length`` consecutive ones of ``n`` independent errors are all beyond ``size`` on one side.

    ``size`` is in units of a noise estimate with ``freedom`` degrees of freedom (the errors' joint law is then a
    multivariate t): the chance for known noise, averaged over the chi distribution of the estimate. It is 1 for size 0,
    which says that no such row exists.
    """
    size, freedom = np.abs(np.asarray(size, dtype=np.float64)), np.asarray(freedom, dtype=np.float64)
    n = np.asarray(n, dtype=np.int64)
    table = _table(int(n.max()), length)
    at = np.interp(1 / freedom, 1 / np.array(FREEDOM[::-1]), np.arange(len(FREEDOM))[::-1])
    row = np.minimum(at.astype(np.int64), len(FREEDOM) - 2)
    column = np.minimum((size / SIZES[1]).astype(np.int64), SIZES.size - 2)
    u, v = at - row, np.minimum(size / SIZES[1] - column, 1)
    logs = np.zeros(size.shape)
    for i, wi in ((0, 1 - u), (1, u)):
        for j, wj in ((0, 1 - v), (1, v)):
            logs = logs + wi * wj * table[row + i, column + j, n]
    return np.where(size > 0, np.exp(logs), 1.0)


@lru_cache(maxsize=8)
def _table(most: int, length: int) -> F64:
    """Logarithm of ``chance_of_run`` for FREEDOM, SIZES and 0 ... ``most`` errors: float64 (freedom, size, n).

    A chain over the length of the row at hand, rows of either side together: an error beyond ``size`` on the same side
    lengthens it, one on the other side starts a new one, any other ends it.
    """
    weight = stats.norm.pdf(SCORES)
    scale = np.sqrt(np.stack([stats.chi2.ppf(stats.norm.cdf(SCORES), f) / f for f in FREEDOM]))
    beyond = stats.norm.sf(SIZES[None, :, None] * scale[:, None, :])
    none, rows = np.ones_like(beyond), [np.zeros_like(beyond) for _ in range(length - 1)]
    found, table = np.zeros_like(beyond), np.full((len(FREEDOM), SIZES.size, most + 1), -np.inf)
    for n in range(1, most + 1):
        found = found + rows[-1] * beyond
        in_row = np.sum(rows, axis=0)
        rows = [2 * beyond * none + beyond * in_row] + [beyond * row for row in rows[:-1]]
        none = (1 - 2 * beyond) * (none + in_row)
        with np.errstate(divide="ignore"):
            table[:, :, n] = np.log(found @ weight / weight.sum())
    return np.asarray(np.maximum(table, -700.0))


@r.compiled
def _smallest_of_row(errors: F32, length: int, state: F32) -> None:
    """WINDOW = the largest, over rows of ``length`` errors on one side, of a row's smallest error; and its begin."""
    least, most = np.empty(r.TILE, np.float32), np.empty(r.TILE, np.float32)
    state[WINDOW : WINDOW_BEGIN + r.TILE] = 0
    for k in range(errors.shape[0] - length):
        at = np.float32(k)
        least[:] = r.LARGEST
        most[:] = -r.LARGEST
        for j in range(length):
            for p in range(r.TILE):
                least[p] = min(least[p], errors[k + j + 1, p])  # zero beyond the last view, which is no anomaly
                most[p] = max(most[p], errors[k + j + 1, p])
        for p in range(r.TILE):
            size = max(least[p], np.float32(0)) + min(most[p], np.float32(0))
            more = abs(size) > abs(state[WINDOW + p])
            state[WINDOW + p] = size if more else state[WINDOW + p]
            state[WINDOW_BEGIN + p] = at if more else state[WINDOW_BEGIN + p]


@r.compiled
def _end_of_change(first: F32, seen: F32, start: int, state: F32) -> None:
    """END = the date up to which the residuals from BEGIN on have the largest standardised sum, with WINDOW's sign."""
    state[CROSS : SQUARE + r.TILE] = 0
    state[SLOPE : SLOPE + r.TILE] = -r.LARGEST
    for t in range(first.shape[0]):
        date = np.float32(start + t)
        for p in range(r.TILE):
            on = seen[start + t, p] if date >= state[BEGIN + p] else np.float32(0)
            state[CROSS + p] += on * first[t, p] * np.sign(state[WINDOW + p])
            state[SQUARE + p] += on
            z = state[CROSS + p] / np.sqrt(max(state[SQUARE + p], np.float32(1)))
            more = (on > 0) & (z > state[SLOPE + p])
            state[SLOPE + p] = z if more else state[SLOPE + p]
            state[END + p] = date if more else state[END + p]


@r.compiled_parallel
def _tiles(
    values: F32,
    waves: F32,
    dates: int,
    length: int,
    tested: npt.NDArray[np.bool_],
    out: tuple[F32, F32, F32, I32, I32],
) -> None:
    """Statistic, effect, its standard error, first date of the change and last view before it, where ``tested``."""
    T, pixels = values.shape
    for tile in prange((pixels + r.TILE - 1) // r.TILE):
        at = tile * r.TILE
        count = min(r.TILE, pixels - at)
        rows, seen = np.empty((T + 1, r.TILE), np.float32), np.empty((T + 1, r.TILE), np.float32)
        state = np.zeros(r.SLOTS * r.TILE, np.float32)
        r.load(values, at, count, rows, seen, state)
        r.fit(rows, seen, waves, dates, (RIDGE, 1.0, 1.0, 0, 1e6), state)
        first, matrix = np.empty((T - dates, r.TILE), np.float32), state[r.A00 : r.A22 + r.TILE].copy()
        first_residuals(rows, seen, waves, dates, state, first)
        for p in range(r.TILE):  # least squares, unlike the scale that the fit starts from: its law is known
            free = max(state[r.VIEWS + p] - r.COEFFICIENTS, np.float32(1))
            state[r.SIGMA + p] = max(np.sqrt(state[r.SIZE + p] / free), r.RESOLUTION * abs(state[r.SHIFT + p]) + r.TINY)
            state[r.LIMIT + p] = CLIP * state[r.SIGMA + p]
        r.prediction_errors(rows, seen, waves, dates, state)
        errors, order = np.empty((T - dates + 1, r.TILE), np.float32), np.zeros((T - dates + 1, r.TILE), np.int32)
        collect(rows, seen, dates, state, errors, order)
        _smallest_of_row(errors, length, state)
        for p in range(r.TILE):
            state[BEGIN + p] = order[min(int(state[WINDOW_BEGIN + p]) + 1, T - dates), p]
            state[r.LIMIT + p] = np.float32(2.5) * state[r.SIGMA + p]
        _end_of_change(first, seen, dates, state)
        mean_effect(first, seen, waves, dates, state)
        sharpen_date(first, seen, dates, state)
        state[r.A00 : r.A22 + r.TILE] = matrix
        season_variance(state)
        for p in range(count):
            if tested[at + p]:
                sigma, t = state[r.SIGMA + p], int(state[BEGIN + p])
                out[0][at + p] = state[WINDOW + p] / sigma
                out[1][at + p] = state[MEAN + p]
                out[2][at + p] = sigma * np.sqrt(1 / max(state[COUNT + p], np.float32(1)) + state[EXTRA + p])
                out[3][at + p] = t
                t -= 1
                while t > 0 and seen[t, p] == 0:
                    t -= 1
                out[4][at + p] = t


DETECTOR = Ccdc()
