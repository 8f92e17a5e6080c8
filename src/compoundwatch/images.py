"""Pure functions on single images: smoothing that knows of gaps, noise, thresholds, small patches.

Images are float (rows, cols) with NaN = no view; no function touches its input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats
from scipy.special import gammaincc, gammaln

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

MAD_TO_SIGMA = 1.4826
TINY = 1e-12


def gaussian(image: FloatArray, sigma: float) -> Array:
    """Mean of the seen pixels around each pixel with Gaussian weights, sigma in pixels; NaN stays NaN.

    Unseen pixels have no weight, so that the mean beside a gap is a mean of fewer pixels, not a smaller one.
    """
    seen = np.isfinite(image)
    total = ndimage.gaussian_filter(np.where(seen, image, 0.0).astype(np.float64), sigma)
    weight = ndimage.gaussian_filter(seen.astype(np.float64), sigma)
    return np.where(seen, total / np.maximum(weight, TINY), np.nan)


def fill_nearest(image: FloatArray) -> Array:
    """Give each unseen pixel the value of the nearest seen one; all zero where nothing was seen."""
    seen = np.isfinite(image)
    if seen.all():
        return image.astype(np.float64)
    if not seen.any():
        return np.zeros(image.shape)
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(nearest)], dtype=np.float64)


def noise_sigma(image: FloatArray) -> float:
    """Standard deviation of the noise of one pixel, in the unit of the image; 0 where too few pixels were seen.

    From the mixed second differences, which see neither slopes nor edges along the axes (after Immerkaer 1996,
    doi:10.1006/cviu.1996.0060, with a median in place of the mean).
    """
    twist = image[1:, 1:] - image[:-1, 1:] - image[1:, :-1] + image[:-1, :-1]
    twist = twist[np.isfinite(twist)]
    return float(MAD_TO_SIGMA * np.median(np.abs(twist)) / 2.0) if twist.size else 0.0


def total_variation(image: FloatArray, weight: float, rounds: int = 100) -> Array:
    """The piecewise smooth image nearest to a noisy one; NaN stays NaN. ``weight`` is in the unit of the image.

    Least squares with the total variation as penalty (Rudin, Osher and Fatemi 1992, doi:10.1016/0167-2789(92)90242-F)
    by the iteration of Chambolle (2004, doi:10.1023/B:JMIV.0000011325.36760.1e). Cut at any level, the result is the
    region that best trades fit for a short outline, as a graph cut would find it (Chambolle 2005,
    doi:10.1007/11585978_10).
    """
    from skimage.restoration import denoise_tv_chambolle

    if weight <= 0 or min(image.shape) < 2:
        return image.astype(np.float64)
    filled = fill_nearest(image)
    smooth = denoise_tv_chambolle(filled, weight=weight, eps=1e-4, max_num_iter=rounds)  # type: ignore[no-untyped-call]
    return np.where(np.isfinite(image), smooth, np.nan)


def nonlocal_mean(image: FloatArray, strength: float, patch: int = 3, reach: int = 11) -> Array:
    """Mean of the pixels whose surroundings look alike; NaN stays NaN.

    Non-local means (Buades, Coll and Morel 2005, doi:10.1109/CVPR.2005.38): within ``reach`` pixels each pixel is
    weighted by exp(-d / strength^2), d the mean squared difference of the two patches of 2 x ``patch`` + 1 pixels.
    Unseen pixels have no weight; in patches they stand with the value of the nearest seen one.
    """
    if strength <= 0:
        return image.astype(np.float64)
    edge = patch + reach
    filled = np.pad(fill_nearest(image).astype(np.float32), edge, mode="symmetric")
    seen = np.pad(np.isfinite(image).astype(np.float32), edge)
    smooth = _nonlocal_mean(filled, seen, np.float32(strength), patch, reach)
    return np.where(np.isfinite(image), smooth, np.nan)


@numba.njit(cache=True, fastmath=True, nogil=True, parallel=True)
def _nonlocal_mean(image: Float32, seen: Float32, strength: np.float32, patch: int, reach: int) -> Float32:
    """Rows are worked off in strips; for each shift the patch distances are running sums, down and along the rows.

    exp(-x) is taken as (1 - x / 32)^32, which is cheap and differs from it by less than 0.01.
    """
    edge, strip, wide = patch + reach, 32, 2 * patch + 1
    rows, cols = image.shape[0] - 2 * edge, image.shape[1] - 2 * edge
    scale = np.float32(1.0) / (np.float32(32 * wide * wide) * strength * strength)
    out = np.empty((rows, cols), dtype=np.float32)
    for part in numba.prange((rows + strip - 1) // strip):
        first, last = part * strip, min(rows, (part + 1) * strip)
        total, weights = np.zeros((strip, cols), np.float32), np.zeros((strip, cols), np.float32)
        column, distance = np.empty(cols + 2 * patch, np.float32), np.empty(cols, np.float32)
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                column[:] = 0.0
                for row in range(first - patch, last + patch):
                    here, there = image[row + edge], image[row + edge + dy]
                    for x in range(cols + 2 * patch):
                        gap = here[x + reach] - there[x + reach + dx]
                        column[x] += gap * gap
                    if row < first + patch:
                        continue
                    centre = row - patch
                    if centre > first:
                        here, there = image[centre - patch - 1 + edge], image[centre - patch - 1 + edge + dy]
                        for x in range(cols + 2 * patch):
                            gap = here[x + reach] - there[x + reach + dx]
                            column[x] -= gap * gap
                    running = np.float32(0.0)
                    for x in range(wide - 1):
                        running += column[x]
                    for x in range(cols):
                        running += column[x + wide - 1]
                        distance[x] = running
                        running -= column[x]
                    value, known = image[centre + edge + dy], seen[centre + edge + dy]
                    line = centre - first
                    for x in range(cols):
                        w = max(np.float32(1.0) - max(distance[x], np.float32(0.0)) * scale, np.float32(0.0))
                        w = w * w
                        w = w * w
                        w = w * w
                        w = w * w
                        w = w * w * known[x + edge + dx]
                        total[line, x] += w * value[x + edge + dx]
                        weights[line, x] += w
        for line in range(last - first):
            for x in range(cols):
                w = weights[line, x]
                out[first + line, x] = total[line, x] / w if w > 0 else image[first + line + edge, x + edge]
    return out


def triangle(size: FloatArray, bins: int = 256, spread: float = 3.0) -> float:
    """Threshold of a population with one mode and a tail; infinite where there is no tail.

    The corner of the histogram, that is, the bin farthest below the line between its peak and its last bin (Zack,
    Rogers and Latt 1977, doi:10.1177/25.7.70454; Rosin 2001, doi:10.1016/S0031-3203(00)00136-9). One value in ten
    thousand is let beyond the last bin, so that a single spike does not stretch the line, and the counts are smoothed
    over ``spread`` bins.
    """
    top = float(np.quantile(size, 0.9999)) if size.size else 0.0
    if top <= 0:
        return float("inf")
    count, edge = np.histogram(size[size <= top], bins, range=(0.0, top))
    smooth = ndimage.gaussian_filter1d(count.astype(np.float64), spread)
    peak = int(smooth.argmax())
    if peak >= bins - 2:
        return float("inf")
    tail = smooth[peak:]
    line = np.linspace(tail[0], tail[-1], tail.size)
    return float(edge[peak + int((line - tail).argmax()) + 1])


@dataclass(frozen=True)
class Tail:
    """Sizes told apart into noise and change: ``threshold`` between them, and the noise as exp(-(size / scale)^shape).

    ``threshold`` is infinite where no change was found.
    """

    threshold: float
    scale: float
    shape: float

    def p_value(self, size: FloatArray) -> Array:
        """Chance that noise alone gives a size at least this large (0-1, NaN where the size is NaN)."""
        if self.scale <= 0:
            return np.where(np.isnan(size), np.nan, np.where(size > 0, 0.0, 1.0))
        return np.asarray(gammaincc(1 / self.shape, (np.maximum(size, 0) / self.scale) ** self.shape))


SHAPES = np.arange(0.6, 2.01, 0.1)
"""Exponents of the noise that are tried: 2 = normal, 1 = double exponential, below 1 = heavier tails still."""


def split_tail(size: FloatArray, bins: int = 400, fewest: int = 20) -> Tail:
    """Threshold between noise, which is half a generalised normal, and change, which is normal around its own mean.

    Minimum-error thresholding (Kittler and Illingworth 1986, doi:10.1016/0031-3203(86)90030-0) with the generalised
    normal of Bazi, Bruzzone and Melgani (2005, doi:10.1109/TGRS.2004.842441), here for the half of it that lies on one
    side of zero. For each cut of the histogram both laws are fitted to their own part by maximum likelihood; the cut
    with the best fit wins. Unlike Otsu's, it does not expect the two parts to be of like size, and with noise alone it
    cuts off next to nothing.

    Parameters
    ----------
    size : float (n,), >= 0, no NaN.
    bins : bins of the histogram, which ends at the 99.95th percentile.
    fewest : sizes above the threshold below which nothing is called change.
    """
    if size.size < 2 * fewest or not size.max() > 0:
        return Tail(np.inf, float(np.sqrt(2 * np.mean(size**2))) if size.size else 0.0, 2.0)
    top = float(np.quantile(size, 0.9995)) or float(size.max())
    count, edges = np.histogram(np.minimum(size, top), bins, range=(0.0, top))
    x = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(count)
    above = size.size - below
    allowed = (below > 0.5 * size.size) & (above > fewest)
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = np.array([_noise_cost(x, count, below, shape) for shape in SHAPES])
        mean = (np.sum(count * x) - np.cumsum(count * x)) / above
        spread = np.sqrt(np.maximum((np.sum(count * x**2) - np.cumsum(count * x**2)) / above - mean**2, 1e-9 * top**2))
        share = below / size.size
        cost = (
            share * (costs.min(axis=0) - np.log(share))
            + (1 - share) * (0.5 + np.log(spread * np.sqrt(2 * np.pi)) - np.log(1 - share))
        )  # fmt: skip
    cost[~(allowed & np.isfinite(cost))] = np.inf
    cut = int(cost.argmin()) if np.isfinite(cost).any() else bins - 1
    best = int(costs[:, cut].argmin())
    shape = float(SHAPES[best])
    scale = float((shape * np.sum(count[: cut + 1] * x[: cut + 1] ** shape) / below[cut]) ** (1 / shape))
    return Tail(float(edges[cut + 1]) if np.isfinite(cost[cut]) else np.inf, scale, shape)


def _noise_cost(x: Array, count: npt.NDArray[np.int64], below: npt.NDArray[np.int64], shape: float) -> Array:
    """Mean minus log-likelihood of the sizes below each cut under half a generalised normal fitted to them."""
    scale = (shape * np.cumsum(count * x**shape) / below) ** (1 / shape)
    return np.asarray(1 / shape - np.log(shape / scale) + gammaln(1 / shape))


def without_halo(size: FloatArray, window: int, share: float) -> BoolArray:
    """True where ``size`` is at least ``share`` of the largest within ``window`` x ``window`` pixels; False at NaN.

    Smoothing bleeds a strong change over its edge; what bleeds is weak beside its origin, not beside the noise.
    """
    return np.asarray(size >= share * ndimage.maximum_filter(np.nan_to_num(size), window))


def drop_small(mask: BoolArray, pixels: int) -> BoolArray:
    """The mask without its patches of fewer than ``pixels`` pixels (neighbours share a side)."""
    patch, n = ndimage.label(mask)
    keep = np.bincount(patch.ravel(), minlength=n + 1) >= pixels
    keep[0] = False
    return np.asarray(keep[patch], dtype=np.bool_)


def noise_of_means(image: FloatArray, widths: tuple[float, ...] = (1.5, 3.0, 6.0)) -> tuple[Array, Array]:
    """How noisy means over patches are: areas in pixels, and the standard deviation of a mean over each area.

    Noise that neighbours share does not average out as fast as the root of the area, so it is measured: robustly, from
    the differences of Gaussian means of each of the ``widths`` (pixels) taken four widths apart, which a slow drift
    over the image does not enter and changed places enter only where they are many. Both arrays are empty where the
    image is too small for any of the widths.
    """
    areas, sigmas = [], []
    for width in widths:
        lag = int(np.ceil(4 * width))
        if min(image.shape) <= 1.5 * lag:
            break
        mean = gaussian(image, width)
        gaps = np.concatenate([(mean[lag:] - mean[:-lag]).ravel(), (mean[:, lag:] - mean[:, :-lag]).ravel()])
        gaps = gaps[np.isfinite(gaps)]
        if gaps.size == 0:
            break
        areas.append(4 * np.pi * width**2)
        sigmas.append(max(MAD_TO_SIGMA * float(np.median(np.abs(gaps))) / np.sqrt(2), TINY))
    return np.array(areas), np.array(sigmas)


def patches_beyond_noise(mask: BoolArray, sure: BoolArray, image: FloatArray, pixels: int, alpha: float) -> BoolArray:
    """The patches of a mask that noise does not explain; neighbours share a side.

    A patch is kept if it has at least ``pixels`` pixels, if at least half of them are ``sure``, and if the mean of
    ``image`` (float (rows, cols), 0 where nothing changed) over it is too large for the noise of means over its area,
    at the level ``alpha`` shared among all patches of its area that the image holds (Bonferroni). Areas beyond the
    largest that was measured count as that one, because slow drift does not average out. In images too small to measure
    the noise of means, that last question is left out.
    """
    patch, n = ndimage.label(mask)
    label = patch.ravel()
    size = np.bincount(label, minlength=n + 1)
    keep = (size >= pixels) & (np.bincount(label, weights=sure.ravel(), minlength=n + 1) >= 0.5 * size)
    areas, sigmas = noise_of_means(image)
    if n > 0 and areas.size > 0:
        used = np.clip(size, 1.0, areas[-1])
        sigma = np.exp(np.interp(np.log(used), np.log(areas), np.log(sigmas))) * np.sqrt(np.maximum(areas[0] / used, 1))
        mean = np.abs(np.bincount(label, weights=np.nan_to_num(image).ravel(), minlength=n + 1)) / np.maximum(size, 1)
        limit = stats.norm.isf(np.minimum(0.5 * alpha * used / np.isfinite(image).sum(), 0.5))
        keep &= mean > limit * sigma
    keep[0] = False
    return np.asarray(keep[patch], dtype=np.bool_)
