"""Pure formulas on plain arrays: indices, robust statistics, regressors, multiple testing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

DAYS_PER_YEAR = 365.25
MAD_TO_SIGMA = 1.4826
"""Factor that makes the median absolute deviation estimate the standard deviation of normal noise."""


def decibel(power: FloatArray) -> FloatArray:
    """Linear power in decibels, float32 of the same shape; NaN where the power is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(power > 0, 10 * np.log10(power), np.nan).astype(np.float32)


def linear_power(decibels: FloatArray) -> FloatArray:
    """Decibels as linear power, float32 of the same shape; NaN stays NaN."""
    return np.asarray(10 ** (decibels / 10), dtype=np.float32)


def normalised_difference(a: FloatArray, b: FloatArray) -> FloatArray:
    """(a - b) / (a + b), any shape; NaN where an input is NaN or the sum is not positive.

    With near infrared and red this is the NDVI (Rouse et al. 1974, NASA SP-351), with short-wave and near infrared
    the NDBI (Zha et al. 2003, doi:10.1080/01431160304987). Small negative reflectances, which atmospheric correction
    leaves over shadow, are set to zero first so that the index stays between -1 and 1.
    """
    x, y = np.maximum(a, 0), np.maximum(b, 0)
    total = x + y
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (x - y) / total, np.nan).astype(a.dtype)


def ndvi(bands: Mapping[str, FloatArray]) -> FloatArray:
    """Normalised difference of ``bands`` nir and red, arrays alike: vegetation (Rouse et al. 1974, NASA SP-351)."""
    return normalised_difference(bands["nir"], bands["red"])


def ndbi(bands: Mapping[str, FloatArray]) -> FloatArray:
    """Normalised difference of ``bands`` swir16 and nir, arrays alike: built-up, bare ground (Zha et al. 2003)."""
    return normalised_difference(bands["swir16"], bands["nir"])


def brightness(bands: Mapping[str, FloatArray]) -> FloatArray:
    """Mean reflectance of ``bands`` green and red, arrays alike; NaN where one of them is."""
    return (bands["green"] + bands["red"]) / 2


def harmonic_design(days: npt.ArrayLike, harmonics: int, trend: bool = False) -> npt.NDArray[np.float64]:
    """Regressors of a yearly season: float64 (n_dates, 1 + trend + 2 x harmonics).

    Columns: 1, the time in years since 1970-01-01 if ``trend``, then cosine and sine of each harmonic of 365.25 days.
    ``days`` are days since 1970-01-01.
    """
    t = np.asarray(days, dtype=np.float64) / DAYS_PER_YEAR
    columns = [np.ones_like(t)]
    if trend:
        columns.append(t)
    for k in range(1, harmonics + 1):
        columns += [np.cos(2 * np.pi * k * t), np.sin(2 * np.pi * k * t)]
    return np.stack(columns, axis=1)


def robust_sigma(values: FloatArray, axis: int | None = None) -> Any:
    """Standard deviation of arrays by the median absolute deviation, NaN ignored (Hampel 1974, doi:10.2307/2285666)."""
    centre = np.nanmedian(values, axis=axis, keepdims=axis is not None)
    return MAD_TO_SIGMA * np.nanmedian(np.abs(values - centre), axis=axis)


def false_discovery(p_values: npt.ArrayLike, dependent: bool = True) -> npt.NDArray[np.float64]:
    """q-values of a family of tests; NaN stays NaN and does not count.

    Benjamini and Yekutieli (2001, doi:10.1214/aos/1013699998) when ``dependent``: valid under any dependence, which
    sites under one weather have; else Benjamini and Hochberg (1995, doi:10.1111/j.2517-6161.1995.tb02031.x).

    Parameters
    ----------
    p_values : float (n,), 0-1, NaN = not tested.

    Returns
    -------
    float64 (n,): smallest rate of false discoveries at which each test would be called.
    """
    p = np.asarray(p_values, dtype=np.float64)
    q = np.full_like(p, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    n = tested.size
    if n == 0:
        return q
    order = tested[np.argsort(p[tested], kind="stable")]
    penalty = np.sum(1.0 / np.arange(1, n + 1)) if dependent else 1.0
    raw = p[order] * n * penalty / np.arange(1, n + 1)
    q[order] = np.minimum(1.0, np.minimum.accumulate(raw[::-1])[::-1])
    return q


def simes(p_values: npt.ArrayLike) -> float:
    """One p-value for several tests of the same question (Simes 1986, doi:10.1093/biomet/73.3.751); NaN does not count.

    The smallest of n p(i) / i over the sorted p-values p(1) ... p(n): never below the smallest of them, and valid under
    the positive dependence that neighbouring pixels have (Sarkar 1998, doi:10.1214/aos/1028144846).

    Parameters
    ----------
    p_values : float (n,), 0-1, NaN = not tested.

    Returns
    -------
    0-1, NaN where nothing was tested.
    """
    p = np.asarray(p_values, dtype=np.float64)
    p = np.sort(p[np.isfinite(p)])
    if p.size == 0:
        return float("nan")
    return float(np.min(p * p.size / np.arange(1, p.size + 1)))


def dilate(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """Grow the True parts of a mask by a disc of ``pixels`` in the last two dimensions (rows, cols)."""
    from scipy.ndimage import binary_dilation

    offset = np.arange(-pixels, pixels + 1)
    disc = offset[:, None] ** 2 + offset[None, :] ** 2 <= pixels**2
    return np.asarray(binary_dilation(mask, disc.reshape((1,) * (mask.ndim - 2) + disc.shape)))


def huber_season(
    values: FloatArray,
    days: npt.NDArray[np.int64],
    reference_end: int,
    harmonics: int = 1,
    min_views: int = 8,
    ridge: float = 0.5,
    rounds: int = 4,
    tuning: float = 1.5,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Residuals from each pixel's usual season, fitted robustly on the reference period alone.

    Harmonic regression by iteratively re-weighted least squares with Huber weights (Huber 1964,
    doi:10.1214/aoms/1177703732) and a small ridge on the harmonics, which keeps pixels with few views from inventing a
    season.

    Parameters
    ----------
    values : float32 (n_dates, n_pixels), NaN = no view.
    days : int64 (n_dates,), days since 1970-01-01.
    reference_end : first day that is not used for the fit.
    min_views : views in the reference period below which a pixel has no season.

    Returns
    -------
    Residuals float32 (n_dates, n_pixels) over all dates and their robust standard deviation in the reference period
    float32 (n_pixels,), both NaN for a pixel without a season.
    """
    design = harmonic_design(days, harmonics)
    before = days < reference_end
    X, y = design[before], np.asarray(values[before], dtype=np.float64)
    known = np.isfinite(y)
    y0 = np.where(known, y, 0.0)
    weights = known.astype(np.float64)
    q = X.shape[1]
    products = (X[:, :, None] * X[:, None, :]).reshape(len(X), q * q)
    penalty = np.diag([1e-6] + [ridge] * (q - 1))
    enough = known.sum(axis=0) >= min_views
    sigma = np.full(values.shape[1], np.nan)
    beta = np.full((values.shape[1], q), np.nan)
    if enough.any():
        for _ in range(rounds):
            gram = (weights[:, enough].T @ products).reshape(-1, q, q) + penalty
            moment = (weights[:, enough] * y0[:, enough]).T @ X
            beta[enough] = np.linalg.solve(gram, moment[..., None])[..., 0]
            size = np.abs(np.where(known, y - X @ beta.T, np.nan))
            sigma[enough] = MAD_TO_SIGMA * np.nanmedian(size[:, enough], axis=0) + 1e-6
            with np.errstate(invalid="ignore"):
                weights = known * np.minimum(1.0, tuning * sigma / np.maximum(np.nan_to_num(size), 1e-9))
    residual = values - (design @ beta.T).astype(np.float32)
    return residual.astype(np.float32), sigma.astype(np.float32)


def cusum_process(residuals: npt.ArrayLike, n_history: int, parameters: int) -> npt.NDArray[np.float64]:
    """Cumulative sums of the residuals after the history, in units of their noise (OLS-CUSUM monitoring).

    Chu, Stinchcombe and White 1996, doi:10.2307/2171955, as in R's strucchange (Zeileis et al. 2005,
    doi:10.1002/jae.776).

    Parameters
    ----------
    residuals : float (n,), of the model fitted to the first ``n_history``; no NaN.
    parameters : of the model; they cost degrees of freedom.

    Returns
    -------
    float64 (n - n_history,), standardised by sigma x sqrt(n_history).
    """
    r = np.asarray(residuals, dtype=np.float64)
    scale = np.sqrt(np.sum(r[:n_history] ** 2) / (n_history - parameters) * n_history)
    return np.asarray(np.cumsum(r[n_history:]) / scale)


def mosum_process(
    residuals: npt.ArrayLike, n_history: int, parameters: int, share: float = 0.25
) -> npt.NDArray[np.float64]:
    """As ``cusum_process``, but sums over the last floor(``share`` x n_history) residuals only (OLS-MOSUM monitoring).

    Windows of the first dates reach back into the history. Gives float64 (n - n_history,).
    """
    r = np.asarray(residuals, dtype=np.float64)
    width = int(np.floor(share * n_history))
    scale = np.sqrt(np.sum(r[:n_history] ** 2) / (n_history - parameters) * n_history)
    sums = np.concatenate([[0.0], np.cumsum(r)])
    end = np.arange(n_history + 1, r.size + 1)
    return np.asarray((sums[end] - sums[end - width]) / scale)


def cusum_boundary(ratio: npt.ArrayLike, critical: float) -> npt.NDArray[np.float64]:
    """Boundary of ``cusum_process`` at ``ratio`` = views so far / views in the history, above 1; an array of its shape.

    sqrt(x (x-1) (critical^2 + log(x / (x-1)))), Chu et al. 1996; crossed once in an endless monitoring of independent
    noise with the probability of ``cusum_crossing``.
    """
    x = np.asarray(ratio, dtype=np.float64)
    return np.asarray(np.sqrt(x * (x - 1) * (critical**2 + np.log(x / (x - 1)))))


def cusum_crossing(critical: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Probability that ``cusum_process`` ever crosses ``cusum_boundary``: 2 (1 - Phi(a) + a phi(a)).

    ``critical`` (a) is a number or an array of any shape; the answer has the same.
    """
    from scipy.stats import norm

    a = np.asarray(critical, dtype=np.float64)
    return np.asarray(2 * (norm.sf(a) + a * norm.pdf(a)))


def mosum_boundary(ratio: npt.ArrayLike, critical: float) -> npt.NDArray[np.float64]:
    """Boundary of ``mosum_process``: critical x sqrt(2 max(log x, 1 if x <= e)), Leisch et al. 2000.

    doi:10.1017/S0266466600166022; ``critical`` depends on the share of the window and the horizon. Has the shape of
    ``ratio``.
    """
    x = np.asarray(ratio, dtype=np.float64)
    return np.asarray(critical * np.sqrt(2 * np.where(x > math.e, np.log(x), 1.0)))


def omnibus_p_value(
    log_ratio: npt.ArrayLike, n_before: npt.ArrayLike, n_after: npt.ArrayLike, looks: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Statistic and p-value of the gamma omnibus test's factors for the dates after the first ``n_before``.

    The omnibus ratio Q of k dates is the product of independent factors R_2 ... R_k, each asking whether date j is like
    the mean of those before it; the product of the last ``n_after`` asks whether all of them are like the first
    ``n_before`` (Conradsen et al. 2016, doi:10.1109/TGRS.2015.2510160, equations 8 to 22, one polarisation). Box's
    correction with rho and omega2 is that of the paper, summed over the factors.

    Parameters
    ----------
    log_ratio : ln of the product of factors per look: sum of logarithms of the later intensities + n_before x log(mean
        before) - (n_before + n_after) x log(mean of all). Zero or negative.
    n_before, n_after : views, 1 or more each.
    looks : equivalent number of looks of one intensity.

    Returns
    -------
    -2 rho ln of the product, and its p-value, float64 of the shape that the arrays have together.
    """
    from scipy.special import chdtrc, gammaln

    m, k = np.asarray(n_before, dtype=np.float64), np.asarray(n_after, dtype=np.float64)
    rho = 1 - (k + 1 / m - 1 / (m + k)) / (6 * looks * k)
    omega = -k / 4 * (1 - 1 / rho) ** 2
    z = np.maximum(-2 * rho * looks * np.asarray(log_ratio, dtype=np.float64), 0)
    with np.errstate(divide="ignore"):  # the chance that four degrees of freedom more add
        term = np.exp(k / 2 * np.log(z / 2) - z / 2 - gammaln(k / 2 + 1))
    return z, np.clip(chdtrc(k, z) + omega * term * (1 + z / (k + 2)), 0, 1)


def omnibus_factors(
    intensities: npt.ArrayLike, looks: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """-2 rho_j ln R_j of every date j = 2 ... k and its p-value: which date is not like the mean of those before it?

    Conradsen et al. 2016, doi:10.1109/TGRS.2015.2510160; the factors are independent where nothing changes, so that
    1 - (1 - smallest p)^(k-1) is an honest p-value of the family.

    Parameters
    ----------
    intensities : float (k, ...), linear power, positive, no NaN.

    Returns
    -------
    Two float64 arrays (k - 1, ...).
    """
    x = np.asarray(intensities, dtype=np.float64)
    j = np.arange(2, len(x) + 1).reshape((-1,) + (1,) * (x.ndim - 1))
    mean = np.cumsum(x, axis=0) / np.arange(1, len(x) + 1).reshape((-1,) + (1,) * (x.ndim - 1))
    log_ratio = (j - 1) * np.log(mean[:-1]) + np.log(x[1:]) - j * np.log(mean[1:])
    return omnibus_p_value(log_ratio, j - 1, np.ones_like(j), looks)


def stouffer(
    z: npt.ArrayLike, weights: npt.ArrayLike | None = None, axis: int = 0, correlation: float = 0.0
) -> npt.NDArray[np.float64]:
    """One signed z from several, of orbits or polarisations: the weighted sum over its own standard deviation.

    Stouffer et al. 1949; with a ``correlation`` of every two of them where nothing changes, Strube 1985
    (doi:10.1037/0033-2909.97.2.334): sum w z / sqrt((1 - r) sum w^2 + r (sum w)^2). Orbits are independent (r = 0);
    polarisations share the weather, and to call them independent makes false alarms. The sign is kept: opposite changes
    cancel, and nothing is inflated by taking the larger of several. Arrays are of any shape and lose ``axis``. NaN =
    not tested and does not count; NaN where nothing was tested.
    """
    score = np.asarray(z, dtype=np.float64)
    w = np.ones_like(score) if weights is None else np.broadcast_to(np.asarray(weights, dtype=np.float64), score.shape)
    known = np.isfinite(score)
    w = np.where(known, w, 0)
    power = (1 - correlation) * np.sum(w**2, axis=axis) + correlation * np.sum(w, axis=axis) ** 2
    total = np.sum(np.where(known, score, 0) * w, axis=axis)
    return np.asarray(np.where(power > 0, total / np.sqrt(np.where(power > 0, power, 1)), np.nan))


def estimate_looks(intensities: npt.ArrayLike, quantile: float = 0.5) -> float:
    """Equivalent number of looks of a series of intensity images, from how much each pixel moves from view to view.

    The ratio of two intensities of L looks and equal mean has an F distribution with 2L and 2L degrees of freedom
    (Touzi, Lopes and Bousquet 1988, doi:10.1109/36.7708). The number returned is the L at which the ``quantile`` of
    |ln ratio| over all pairs of successive views is the one that was found. No homogeneous area has to be chosen,
    seasons are too slow to count, and the median leaves the pixels that change out of it. A change of the whole picture
    from one view to the next (rain, calibration) is taken off first.

    Parameters
    ----------
    intensities : float (n_dates, ...), linear power of one orbit and polarisation; NaN or not positive = no view.
    quantile : 0-1, of the sizes of the ratios; a higher one gives fewer looks where some pixels are less steady.

    Returns
    -------
    Looks between 0.3 and 10 000; NaN where no pixel has two successive views.
    """
    from scipy.optimize import brentq
    from scipy.special import fdtri

    x = np.asarray(intensities, dtype=np.float64)
    x = x.reshape(x.shape[0], -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.where(x > 0, np.log(x), np.nan)
    sizes = []
    for step in np.diff(logs, axis=0):
        known = step[np.isfinite(step)]
        if known.size:
            sizes.append(np.abs(known - np.median(known)))
    if not sizes:
        return float("nan")
    found = float(np.quantile(np.concatenate(sizes), quantile))

    def excess(log_looks: float) -> float:
        degrees = 2 * np.exp(log_looks)
        return float(np.log(fdtri(degrees, degrees, (1 + quantile) / 2)) - found)

    fewest, most = np.log(0.3), np.log(10_000.0)
    if excess(most) >= 0:
        return 10_000.0
    return float(np.exp(brentq(excess, fewest, most, xtol=1e-6))) if excess(fewest) > 0 else 0.3


def image_shift(
    before: FloatArray, after: FloatArray, largest: float = 6.0, finest: float = 0.15
) -> tuple[float, float]:
    """By how many pixels the second of two like images lies further right (columns) and down (rows) than the first.

    Phase correlation (Kuglin and Hines 1975), with the amplitude damped to its square root and frequencies above
    ``finest`` played down, where speckle drowns the picture; the peak is found between the pixels by evaluating the
    correlation there (Guizar-Sicairos, Thurman and Fienup 2008, doi:10.1364/OL.33.000156).

    Parameters
    ----------
    before, after : float (rows, cols) of equal shape, radar in decibels; NaN = not seen, replaced by the median.
    largest : shifts up to so many pixels are looked for.
    finest : frequency in cycles per pixel at which the weight has fallen to 0.61.

    Returns
    -------
    Columns and rows, to 0.005 pixels; both NaN where one image has nothing in it.
    """
    spectra = []
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in before.shape))
    for image in (before, after):
        seen = np.isfinite(image)
        if not seen.any():
            return float("nan"), float("nan")
        flat = np.where(seen, image, np.median(image[seen])).astype(np.float64)
        spectra.append(np.fft.fft2((flat - np.average(flat, weights=window)) * window))
    cross = spectra[1] * np.conj(spectra[0])
    down, right = (np.fft.fftfreq(n) for n in before.shape)
    cross *= np.exp(-0.5 * (down[:, None] ** 2 + right**2) / finest**2) / np.sqrt(np.maximum(np.abs(cross), 1e-300))
    row = col = 0.0
    for reach, step in ((largest, 0.5), (0.5, 0.1), (0.1, 0.02), (0.02, 0.005)):
        offsets = np.arange(-round(reach / step), round(reach / step) + 1) * step
        rows, cols = row + offsets, col + offsets
        left, top = np.exp(2j * np.pi * np.outer(right, cols)), np.exp(2j * np.pi * np.outer(rows, down))
        surface = (top @ cross @ left).real
        at = np.unravel_index(np.argmax(surface), surface.shape)
        row, col = float(rows[at[0]]), float(cols[at[1]])
    return col, row


def remove_cycle(
    days: npt.NDArray[np.int64], values: npt.ArrayLike, reference_end: int, period: int = 16
) -> npt.NDArray[np.float64]:
    """Take out of a series what repeats every ``period`` days, as the angle of view of an orbit does.

    Each phase (day modulo ``period``) has a mean deviation from the running median of the series. The means are those
    of a random effect, shrunken by the share of their variance that noise does not explain, so that nothing is taken
    out where there is no cycle: best linear prediction with the analysis-of-variance estimate for unequal counts
    (Searle, Casella and McCulloch 1992, Variance Components, doi:10.1002/9780470316856, chapter 3). They are estimated
    before ``reference_end`` alone: a later change neither enters them nor is weakened by them.

    Parameters
    ----------
    days : int64 (n,), sorted days since 1970-01-01.
    values : float (n,), NaN = no view.
    reference_end : first day that is not used for the estimate.
    period : days, 2 or more.

    Returns
    -------
    float64 (n,): the values without the cycle, NaN where there were none; unchanged where the reference period has
    fewer than four views per phase, or views of one phase only.
    """
    day, y = np.asarray(days, dtype=np.int64), np.asarray(values, dtype=np.float64)
    used = np.flatnonzero((day < reference_end) & np.isfinite(y))
    if used.size < 4 * period:
        return y.copy()
    t, phase = day[used], day[used] % period
    first, last = np.searchsorted(t, t - 2 * period), np.searchsorted(t, t + 2 * period, side="right")
    deviation = y[used] - [np.median(y[used[a:b]]) for a, b in zip(first, last, strict=True)]
    centre = np.array([np.median(deviation[phase == p]) if (phase == p).any() else 0.0 for p in range(period)])
    limit = 4 * robust_sigma(deviation - centre[phase])
    # A cloud that the mask missed must not become part of the cycle.
    deviation = np.clip(deviation, centre[phase] - limit, centre[phase] + limit)

    count = np.bincount(phase, minlength=period).astype(np.float64)
    mean = np.bincount(phase, deviation, minlength=period) / np.maximum(count, 1)
    seen, n = count > 0, float(used.size)
    phases, overall = int(seen.sum()), deviation.mean()
    if phases < 2:
        return y.copy()
    within = np.sum((deviation - mean[phase]) ** 2) / (n - phases)
    between = np.sum(count * (mean - overall) ** 2) / (phases - 1)
    typical = (n - np.sum(count**2) / n) / (phases - 1)
    variance = max(0.0, (between - within) / typical)
    if variance == 0:
        return y.copy()
    effect = np.where(seen, variance / (variance + within / np.maximum(count, 1)) * (mean - overall), 0.0)
    effect -= np.sum(count * effect) / n  # the level of the reference period stays
    return np.asarray(y - effect[day % period])
