"""Compiled kernels for per-pixel season models: robust fit, recursive residuals, moving sums.

All kernels work on tiles of pixels held in rows, one row per date, pixels innermost: a tile stays in the processor's
cache, and the inner loops run over pixels, which compilers turn into vector instructions. Missing views are zeros in
``rows`` and in ``seen``; no kernel here ever sees a NaN in its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

from compoundwatch.formulas import harmonic_design

F32 = npt.NDArray[np.float32]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a kernel at its first call and keep the result on disk.

    NaN and infinity keep their meaning, which the tests for missing values need. A division by zero gives infinity, not
    an exception, without which loops would not become vector instructions.
    """
    liberties = {"contract", "reassoc", "nsz", "arcp"}
    return cast(F, njit(fastmath=liberties, error_model="numpy", cache=True)(function))


def compiled_parallel(function: F) -> F:
    """As ``compiled``, for functions that share their outer loop among threads."""
    liberties = {"contract", "reassoc", "nsz", "arcp"}
    return cast(F, njit(parallel=True, fastmath=liberties, error_model="numpy", cache=True)(function))


TINY = np.float32(1e-30)
LARGEST = np.float32(3e38)
RESOLUTION = np.float32(1e-6)
"""Smallest noise, as a share of the largest value: below it, float32 cannot tell noise from rounding."""


def padded(rows: npt.ArrayLike, multiple: int = 4) -> F32:
    """Float32 copy with zero rows added up to a multiple, so that kernels may read four dates at a time."""
    array = np.asarray(rows, dtype=np.float32)
    missing = -len(array) % multiple
    return np.ascontiguousarray(np.concatenate([array, np.zeros((missing, *array.shape[1:]), np.float32)]))


def product_sums(days: npt.ArrayLike, harmonics: int) -> tuple[F32, npt.NDArray[np.int64], F32]:
    """Regressors of which every product of two season regressors is a combination of two.

    cos a cos b = (cos(a-b) + cos(a+b)) / 2 and so on: the q (q+1) / 2 products of q = 1 + 2k regressors are made of
    only 1 + 4k sums, which is what makes the normal equations cheap.

    Returns
    -------
    sums : float32 (n_dates, 1 + 4 x harmonics): 1, then cosine and sine of each harmonic up to twice ``harmonics``.
    which : int64 (q, q, 2), the two sums that make product (i, j).
    factor : float32 (q, q, 2), what they are multiplied with.
    """
    wide = harmonic_design(days, 2 * harmonics).astype(np.float32)
    q = 1 + 2 * harmonics
    which = np.zeros((q, q, 2), np.int64)
    factor = np.zeros((q, q, 2), np.float32)
    for i in range(q):
        for j in range(q):
            a, b = (i + 1) // 2, (j + 1) // 2
            sine_i, sine_j = i > 0 and i % 2 == 0, j > 0 and j % 2 == 0
            low, high = abs(a - b), a + b
            if sine_i != sine_j:  # sine of one times cosine of the other
                sign = np.sign(a - b) if sine_i else np.sign(b - a)
                which[i, j] = 2 * low, 2 * high
                factor[i, j] = 0.5 * sign, 0.5
            else:
                which[i, j] = max(2 * low - 1, 0), max(2 * high - 1, 0)
                factor[i, j] = (-0.5 if sine_i else 0.5) * np.array([-1, 1]) if sine_i else (0.5, 0.5)
    return wide, which, factor


@compiled
def load(values: F32, first: int, count: int, rows: F32, seen: F32, shift: F32) -> None:
    """Copy a tile; missing becomes 0 in both. Each pixel's first value is taken off, which saves float32 digits."""
    for p in range(shift.size):
        shift[p] = 0
    for t in range(values.shape[0] - 1, -1, -1):
        for p in range(count):
            v = values[t, first + p]
            shift[p] = v if abs(v) < LARGEST else shift[p]
    for t in range(values.shape[0]):
        for p in range(count):
            v = values[t, first + p]
            ok = abs(v) < LARGEST
            rows[t, p] = v - shift[p] if ok else np.float32(0)
            seen[t, p] = np.float32(1) if ok else np.float32(0)
        for p in range(count, rows.shape[1]):
            rows[t, p] = 0
            seen[t, p] = 0


@compiled
def weighted_sums(sums: F32, factors: F32, rows: F32) -> None:
    """sums[k] = sum over dates of factors[t, k] x rows[t]; four dates per pass over the sums."""
    for k in range(factors.shape[1]):
        total = sums[k]
        total[:] = 0
        for t in range(0, factors.shape[0], 4):
            a, b, c, d = factors[t, k], factors[t + 1, k], factors[t + 2, k], factors[t + 3, k]
            for p in range(total.size):
                total[p] += (a * rows[t, p] + b * rows[t + 1, p]) + (c * rows[t + 2, p] + d * rows[t + 3, p])


@compiled
def invert_gram(sums: F32, which: Any, factor: F32, ridge: float, inverse: F32) -> None:
    """Inverse of each pixel's X'X by sweeping (Goodnight 1979, doi:10.1080/00031305.1979.10482685).

    ``ridge`` times the number of views is added to the harmonics: it keeps a season that was never seen finite.
    """
    q = inverse.shape[0]
    for i in range(q):
        for j in range(q):
            a, b, fa, fb = which[i, j, 0], which[i, j, 1], factor[i, j, 0], factor[i, j, 1]
            for p in range(sums.shape[1]):
                inverse[i, j, p] = fa * sums[a, p] + fb * sums[b, p]
        for p in range(sums.shape[1]):
            inverse[i, i, p] += ridge * sums[0, p] if i > 0 else TINY
    for k in range(q):
        pivot = inverse[k, k]
        for p in range(pivot.size):
            pivot[p] = np.float32(1) / max(pivot[p], TINY)
        for i in range(q):
            if i != k:
                for p in range(pivot.size):
                    inverse[i, k, p] *= -pivot[p]
        for i in range(q):
            for j in range(q):
                if i != k and j != k:
                    for p in range(pivot.size):
                        inverse[i, j, p] += inverse[i, k, p] * inverse[k, j, p]
        for j in range(q):
            if j != k:
                for p in range(pivot.size):
                    inverse[k, j, p] *= pivot[p]


@compiled
def apply(inverse: F32, moment: F32, step: F32) -> None:
    """step = inverse x moment, for each pixel."""
    q = moment.shape[0]
    for i in range(q):
        step[i, :] = 0
        for j in range(q):
            for p in range(moment.shape[1]):
                step[i, p] += inverse[i, j, p] * moment[j, p]


@compiled
def take_off(rows: F32, seen: F32, design: F32, step: F32, dates: int, fit: F32) -> None:
    """Subtract design x step from the rows of the first ``dates`` dates where they were seen; ``fit`` is scratch."""
    for t in range(dates):
        fit[:] = 0
        for i in range(step.shape[0]):
            x = design[t, i]
            for p in range(fit.size):
                fit[p] += x * step[i, p]
        for p in range(fit.size):
            rows[t, p] -= fit[p] * seen[t, p]


@compiled
def clipped(rows: F32, limit: F32, dates: int, out: F32) -> None:
    """Rows of the first ``dates`` dates, held between plus and minus ``limit``."""
    for t in range(dates):
        for p in range(limit.size):
            out[t, p] = min(max(rows[t, p], -limit[p]), limit[p])


@compiled
def sum_of_squares(rows: F32, limit: F32, dates: int, total: F32) -> None:
    """Sum over the first ``dates`` dates of the squared rows, held between plus and minus ``limit``."""
    total[:] = 0
    for t in range(dates):
        for p in range(limit.size):
            v = min(max(rows[t, p], -limit[p]), limit[p])
            total[p] += v * v


@compiled
def huber_fit(
    rows: F32,
    seen: F32,
    design: F32,
    inverse: F32,
    tuning: float,
    efficiency: float,
    rounds: int,
    dates: int,
    work: tuple[F32, F32, F32, F32, F32],
    coefficients: F32,
    sigma: F32,
) -> None:
    """Harmonic regression and scale by Huber's proposal 2, with pseudo-values.

    Each round moves the coefficients by (X'X)^-1 X' psi(residuals): the matrix stays that of least squares, so one
    inverse serves all rounds (Huber and Dutter 1974; Huber 1981, doi:10.1002/0471725250, chapter 7). ``rows`` become
    residuals. ``rounds`` = 0 is least squares. ``efficiency`` = E min(z^2, tuning^2) for a standard normal z.
    """
    held, moment, step, fit, views = work
    count = np.float32(design.shape[1])
    coefficients[:] = 0
    for r in range(rounds + 1):
        if r == 0:
            weighted_sums(moment, design, rows)
        else:
            for p in range(sigma.size):
                fit[p] = tuning * sigma[p]
            clipped(rows, fit, dates, held)
            weighted_sums(moment, design, held)
        apply(inverse, moment, step)
        for i in range(step.shape[0]):
            for p in range(sigma.size):
                coefficients[i, p] += step[i, p]
        take_off(rows, seen, design, step, dates, fit)
        if r == 0:
            sigma[:] = 0
            for t in range(dates):
                for p in range(sigma.size):
                    sigma[p] += abs(rows[t, p])
            for p in range(sigma.size):  # mean absolute residual: half as touchy as the standard deviation
                free = max(views[p] - count, np.float32(1))
                sigma[p] *= np.float32(1.2533141) / np.sqrt(free * max(views[p], np.float32(1)))
        else:
            for p in range(sigma.size):
                fit[p] = tuning * sigma[p]
            sum_of_squares(rows, fit, dates, moment[0])
            for p in range(sigma.size):
                sigma[p] = np.sqrt(moment[0, p] / (efficiency * max(views[p] - count, np.float32(1))))


@compiled
def recursive_residuals(
    rows: F32,
    seen: F32,
    design: F32,
    start: int,
    clip: float,
    coefficients: F32,
    inverse: F32,
    sigma: F32,
    work: tuple[F32, F32, F32, F32],
) -> None:
    """Turn the rows from ``start`` on into standardised one-step prediction errors.

    Each view is predicted from all views before it and its error divided by what that prediction's own uncertainty
    makes of the noise; under "nothing happened" they are independent with one variance, however few views the season
    was fitted on (Brown, Durbin and Evans 1975, doi:10.1111/j.2517-6161.1975.tb01532.x). Errors are held within
    ``clip`` sigma before they move the season, as in robust filtering (Masreliez and Martin 1977,
    doi:10.1109/TAC.1977.1101538). ``coefficients`` and ``inverse`` are brought up to the last date.
    """
    gain, variance, error, limit = work
    q = design.shape[1]
    for p in range(sigma.size):
        limit[p] = clip * sigma[p]
    for t in range(start, rows.shape[0]):
        variance[:] = 1
        error[:] = rows[t]
        for i in range(q):
            x = design[t, i]
            g = gain[i]
            g[:] = 0
            for j in range(q):
                y = design[t, j]
                for p in range(limit.size):
                    g[p] += y * inverse[i, j, p]
            for p in range(limit.size):
                variance[p] += x * g[p]
            for p in range(limit.size):
                error[p] -= x * coefficients[i, p]
        for p in range(limit.size):
            spread = np.float32(1) / np.sqrt(variance[p])
            e = min(max(error[p] * spread, -limit[p]), limit[p]) * seen[t, p]
            rows[t, p] = e
            error[p] = e * spread
            variance[p] = seen[t, p] * spread * spread
        for i in range(q):
            for p in range(limit.size):
                coefficients[i, p] += gain[i, p] * error[p]
            for j in range(q):
                for p in range(limit.size):
                    inverse[i, j, p] -= gain[i, p] * gain[j, p] * variance[p]


@compiled
def fit_season(
    values: F32,
    at: int,
    count: int,
    season: tuple[F32, F32, Any, F32],
    dates: int,
    numbers: tuple[float, float, float, int],
    rows: F32,
    seen: F32,
    found: tuple[F32, F32, F32, F32],
) -> None:
    """Load the tile of ``count`` pixels from ``at`` on and fit the season on its first ``dates`` dates.

    ``season`` = design float32 (n_dates, q), its product sums over the reference period, and how to combine them.
    ``numbers`` = ridge, Huber tuning, its efficiency, rounds. ``rows`` become residuals of the first ``dates`` dates;
    later ones stay values less the pixel's shift. ``found`` = coefficients (q, n), inverse (q, q, n), sigma (n,) and
    number of views (n,).
    """
    design, wide, which, factor = season
    ridge, tuning, efficiency, rounds = numbers
    coefficients, inverse, sigma, views = found
    q, B = coefficients.shape
    sums = np.empty((wide.shape[1], B), np.float32)
    held = np.zeros((wide.shape[0] if rounds > 0 else 1, B), np.float32)
    fit, moment, step = np.empty(B, np.float32), np.empty((q, B), np.float32), np.empty((q, B), np.float32)
    shift = np.empty(B, np.float32)
    load(values, at, count, rows, seen, shift)
    weighted_sums(sums, wide, seen)
    views[:] = sums[0]
    invert_gram(sums, which, factor, ridge, inverse)
    history = design[: wide.shape[0]]
    work = (held, moment, step, fit, views)
    huber_fit(rows, seen, history, inverse, tuning, efficiency, rounds, dates, work, coefficients, sigma)
    for p in range(B):
        sigma[p] = max(sigma[p], RESOLUTION * abs(shift[p]) + TINY)
