"""Radar pairs by the logarithm of their ratio: speckle multiplies, so that ratios of bright and dark places compare."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

from compoundwatch import images
from compoundwatch.formulas import false_discovery
from compoundwatch.model import FloatArray, PairChange

DECIBELS_PER_NEPER = 10.0 / np.log(10.0)


class LogRatio:
    """Log-ratio of lightly averaged images, made piecewise smooth, with one threshold per sign."""

    kind: Literal["pair"] = "pair"
    name = "log_ratio"
    title = "Log-ratio for radar images"
    source = "Rignot and van Zyl 1993, doi:10.1109/36.239913; Rudin et al. 1992, doi:10.1016/0167-2789(92)90242-F"
    suits: tuple[Literal["optical", "radar"], ...] = ("radar",)
    gain_invariant = False
    """A gain cancels, an offset does not: it is part of the ratio."""

    blur_pixels = 0.7
    stiffness = 1.0
    min_patch = 9
    max_false_share = 0.2

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Find where the backscatter rose or fell.

        Parameters
        ----------
        before, after : float32 (bands, rows, cols), intensity or amplitude in any unit, or decibels (taken as such if
            the median of a band is negative), NaN = no view; several bands are polarisations and are averaged.
        alpha : significance level per pixel, 0-1.

        Returns
        -------
        PairChange. ``statistic`` is the smoothed log-ratio after over before, less its median, in standard deviations
        of the unchanged pixels. ``p_value`` is two-sided, from the normal distribution. ``direction`` is its sign where
        the pixel passes the threshold of that sign, ``alpha``, a false discovery rate of ``max_false_share``
        (Benjamini and Hochberg 1995), and belongs to a patch of ``min_patch`` pixels.
        """
        ratio = np.mean([self._ratio(a, b) for a, b in zip(before, after, strict=True)], axis=0)
        seen = np.isfinite(ratio)
        p = np.full(ratio.shape, np.nan)
        statistic = p.copy()
        changed = np.zeros(ratio.shape, dtype=bool)
        if seen.any():
            up, down = thresholds(ratio[seen])
            sigma = images.central_sigma(np.abs(ratio[seen]), min(up, down))
            # Images without noise, equal but for the change: any difference is far beyond nothing.
            sigma = max(sigma, 1e-6 * float(np.abs(ratio[seen]).max()), images.TINY)
            statistic = ratio / sigma
            p = erfc(np.abs(statistic) / np.sqrt(2))
            sure = (p < alpha) & (false_discovery(p.ravel(), dependent=False).reshape(p.shape) < self.max_false_share)
            changed = images.drop_small(sure & ((ratio > up) | (ratio < -down)), self.min_patch)
        direction = np.where(changed, np.sign(np.nan_to_num(ratio)), 0)
        return PairChange(statistic.astype(np.float32), p.astype(np.float32), direction.astype(np.int8))

    def _ratio(self, before: FloatArray, after: FloatArray) -> npt.NDArray[np.float64]:
        """Piecewise smooth log-ratio of one band, median 0, smoothed by as much as one pixel is noisy."""
        seen = np.isfinite(before) & np.isfinite(after)
        if not seen.any():
            return np.full(before.shape, np.nan)
        a, b = np.where(seen, before, np.nan).astype(np.float64), np.where(seen, after, np.nan).astype(np.float64)
        if min(np.nanmedian(a), np.nanmedian(b)) < 0:
            a, b = np.exp(a / DECIBELS_PER_NEPER), np.exp(b / DECIBELS_PER_NEPER)
        noise = images.noise_sigma(_log(b) - _log(a))
        ratio = _log(images.gaussian(b, self.blur_pixels)) - _log(images.gaussian(a, self.blur_pixels))
        smooth = images.total_variation(ratio, self.stiffness * noise)
        return np.asarray(smooth - np.nanmedian(smooth), dtype=np.float64)


def thresholds(ratio: FloatArray) -> tuple[float, float]:
    """Sizes above which a rise and a fall count, both > 0.

    Otsu's threshold between small and large ratios of either sign; a sign whose own ratios part farther out gets that
    threshold. A sign without changes of its own thus keeps the common one.
    """
    common = images.otsu(np.abs(ratio))
    own = [images.otsu(part) for part in (ratio[ratio > 0], -ratio[ratio < 0])]
    up, down = (max(common, t) if np.isfinite(t) else common for t in own)
    return up, down


def _log(image: FloatArray) -> npt.NDArray[np.float64]:
    """Logarithm with a floor of a fiftieth of the median, which keeps the darkest pixels from ruling."""
    middle = float(np.nanmedian(image))
    floor = 0.02 * middle if middle > 0 else max(1e-6 * float(np.nanmax(image)), images.TINY)
    return np.asarray(np.log(np.maximum(image, 0.0) + floor), dtype=np.float64)


DETECTOR = LogRatio()
