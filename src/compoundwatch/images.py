"""Pure functions on single images: smoothing that knows of gaps, noise, thresholds, small patches.

Images are float (rows, cols) with NaN = no view; no function touches its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]

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


def otsu(size: FloatArray) -> float:
    """Threshold between two populations (Otsu 1979, doi:10.1109/TSMC.1979.4310076); infinite if all are equal.

    ``size`` holds finite values in any shape.
    """
    from skimage.filters import threshold_otsu

    if size.size == 0 or np.ptp(size) == 0:
        return float("inf")
    return float(threshold_otsu(size))  # type: ignore[no-untyped-call]


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


def central_sigma(size: FloatArray, cut: float) -> float:
    """Standard deviation of normal noise of which only absolute values below ``cut`` are looked at.

    The sigma at which the median of a normal distribution cut at +-``cut`` equals the median found, so that changes
    beyond the cut do not inflate it and noise beyond the cut is not forgotten. ``size`` holds finite values >= 0.
    """
    inside = size[size < cut]
    if inside.size == 0:
        return 0.0
    middle = float(np.median(inside))
    if not np.isfinite(cut) or middle <= 0:
        return MAD_TO_SIGMA * middle
    low, high = middle, 10 * cut
    for _ in range(60):
        sigma = 0.5 * (low + high)
        expected = sigma * stats.norm.ppf(0.5 + 0.25 * (2 * stats.norm.cdf(cut / sigma) - 1))
        low, high = (sigma, high) if expected < middle else (low, sigma)
    return float(sigma)


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
