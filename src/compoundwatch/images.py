"""Pure functions on single images: smoothing that knows of gaps, noise, thresholds.

Every image is float (rows, cols) with NaN = no view, and no function touches its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]

MAD_TO_SIGMA = 1.4826


def gaussian(image: FloatArray, sigma: float) -> npt.NDArray[np.float64]:
    """Mean of the seen pixels around each pixel with Gaussian weights (sigma in pixels); NaN stays NaN.

    Unseen pixels have no weight, so that the mean beside a gap is a mean of fewer pixels, not a smaller one.
    """
    seen = np.isfinite(image)
    total = ndimage.gaussian_filter(np.where(seen, image, 0.0).astype(np.float64), sigma)
    weight = ndimage.gaussian_filter(seen.astype(np.float64), sigma)
    return np.where(seen, total / np.maximum(weight, 1e-12), np.nan)


def fill_nearest(image: FloatArray) -> npt.NDArray[np.float64]:
    """Give each unseen pixel the value of the nearest seen one; all zero where nothing was seen."""
    seen = np.isfinite(image)
    if seen.all():
        return image.astype(np.float64)
    if not seen.any():
        return np.zeros(image.shape)
    nearest = ndimage.distance_transform_edt(~seen, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(nearest)], dtype=np.float64)


def noise_sigma(image: FloatArray) -> float:
    """Standard deviation of the noise of one pixel, from the mixed second differences, which see no slopes or edges
    along the axes (after Immerkaer 1996, doi:10.1006/cviu.1996.0060, with a median in place of the mean); 0 if too
    few pixels were seen.
    """
    twist = image[1:, 1:] - image[:-1, 1:] - image[1:, :-1] + image[:-1, :-1]
    twist = twist[np.isfinite(twist)]
    return float(MAD_TO_SIGMA * np.median(np.abs(twist)) / 2.0) if twist.size else 0.0


def total_variation(image: FloatArray, weight: float) -> npt.NDArray[np.float64]:
    """The piecewise smooth image nearest to a noisy one; NaN stays NaN.

    Least squares with the total variation as penalty (Rudin, Osher and Fatemi 1992, doi:10.1016/0167-2789(92)90242-F;
    Chambolle 2004, doi:10.1023/B:JMIV.0000011325.36760.1e). Cut at any level, the result is the region that best
    trades fit for a short outline, as a graph cut would find it (Chambolle 2005, doi:10.1007/11585978_10).
    """
    from skimage.restoration import denoise_tv_chambolle

    if weight <= 0:
        return image.astype(np.float64)
    smooth = denoise_tv_chambolle(fill_nearest(image), weight=weight, eps=1e-4, max_num_iter=300)
    return np.where(np.isfinite(image), smooth, np.nan)


def triangle(size: FloatArray, bins: int = 256) -> float:
    """Threshold of a population with one mode and a tail.

    The corner of the histogram: the bin farthest from the line between its peak and its last bin (Zack, Rogers and
    Latt 1977, doi:10.1177/25.7.70454).
    """
    top = float(np.quantile(size, 0.9999))
    count, edge = np.histogram(np.minimum(size, top), bins)
    peak = int(count.argmax())
    if peak >= bins - 2:
        return float("inf")
    step = np.arange(bins - peak)
    line = count[peak] + (count[-1] - count[peak]) * step / step[-1]
    gap = (line - count[peak:]) / count[peak]
    return float(edge[peak + int(gap.argmax()) + 1])


def log_ratio(before: FloatArray, after: FloatArray) -> npt.NDArray[np.float64]:
    """Log of after over before, per band, less its median."""
    return np.log(after.astype(np.float64) + 1) - np.log(before.astype(np.float64) + 1)


def standardised(image: FloatArray) -> npt.NDArray[np.float64]:
    """Each band with mean 0 and standard deviation 1."""
    mean = np.nanmean(image, axis=(1, 2), keepdims=True)
    return np.asarray((image - mean) / np.maximum(np.nanstd(image, axis=(1, 2), keepdims=True), 1e-9), dtype=np.float64)
