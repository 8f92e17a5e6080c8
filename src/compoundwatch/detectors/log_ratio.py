"""Radar pairs by the logarithm of their ratio: speckle multiplies, so that ratios of bright and dark places compare."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from compoundwatch import images
from compoundwatch.model import FloatArray, PairChange

Array = npt.NDArray[np.float64]
Signs = npt.NDArray[np.int8]

DECIBELS_PER_NEPER = 10.0 / np.log(10.0)


class LogRatio:
    """Log-ratio of lightly averaged images, smoothed but for its edges, with a minimum-error threshold per sign."""

    kind: Literal["pair"] = "pair"
    name = "log_ratio"
    title = "Log-ratio for radar images"
    source = "Rignot and van Zyl 1993, doi:10.1109/36.239913; Bazi et al. 2005, doi:10.1109/TGRS.2004.842441"
    suits: tuple[Literal["optical", "radar"], ...] = ("radar",)
    gain_invariant = False
    """A gain cancels, an offset does not: it is part of the ratio."""

    blur_pixels = 0.55
    stiffness = 1.0
    likeness = 1.0
    min_patch = 5

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Find where the backscatter rose or fell.

        Parameters
        ----------
        before, after : float32 (bands, rows, cols), intensity or amplitude in any unit, or decibels (taken as such if
            the median of a band is negative), NaN = no view; several bands are polarisations and are averaged.
        alpha : significance level per pixel, 0-1.

        Returns
        -------
        PairChange. ``statistic`` is the smoothed log-ratio (natural logarithm) after over before, less the median of
        what is not called. ``p_value`` is the chance that the noise of the pixel's own sign, a generalised normal
        distribution fitted to the pair, reaches this far out. ``direction`` is the sign where the pixel passes the
        threshold of that sign and belongs to a patch of at least ``min_patch`` pixels, of which at least half have a
        p-value below ``alpha`` and whose mean unsmoothed log-ratio is beyond the noise of means over such an area, at a
        false discovery rate of ``alpha`` (see ``images.patches_beyond_noise``); and where it joins such a patch, has a
        p-value below ``alpha`` and reaches half the mean height of the changes of its sign.
        """
        pairs = [self._ratio(a, b) for a, b in zip(before, after, strict=True)]
        raw, ratio = np.mean([r for r, _ in pairs], axis=0), np.mean([s for _, s in pairs], axis=0)
        direction, _ = self._called(raw, ratio, alpha)
        rest = np.isfinite(ratio) & ~ndimage.binary_dilation(direction != 0, iterations=2)
        if direction.any() and rest.any():
            # Where much changed one way, the median of all lies off that of the unchanged, which is the true zero.
            raw, ratio = raw - np.median(raw[rest]), ratio - np.median(ratio[rest])
        direction, p = self._called(raw, ratio, alpha)
        return PairChange(ratio.astype(np.float32), p.astype(np.float32), direction)

    def _called(self, raw: Array, ratio: Array, alpha: float) -> tuple[Signs, Array]:
        """Direction and p-value from the log-ratio as it is and smoothed (rows, cols), both 0 where nothing changed."""
        p = np.full(ratio.shape, np.nan)
        beyond, near = np.zeros(ratio.shape, dtype=np.int8), np.zeros(ratio.shape, dtype=np.int8)
        for sign in (1, -1):
            side = sign * ratio >= 0
            size = np.abs(ratio[side])
            tail = images.split_tail(size)
            p[side] = tail.p_value(size)
            half = half_height(size, tail.threshold)
            beyond[side] = sign * (size > max(tail.threshold, half))
            near[side] = sign * ((size > half) & (p[side] < alpha))
        kept = images.patches_beyond_noise(beyond, p < alpha, raw[None], self.min_patch, alpha)
        direction = np.where(kept, beyond, 0).astype(np.int8)
        for sign in (1, -1):
            called = direction == sign
            direction[ndimage.binary_propagation(called, mask=called | (near == sign))] = sign
        return direction, p

    def _ratio(self, before: FloatArray, after: FloatArray) -> tuple[Array, Array]:
        """Log-ratio of one band, less its middle: as it is, and smoothed by as much as one pixel is noisy.

        The mean of two smoothers that keep edges and fail differently: total variation rounds off thin shapes,
        non-local means leave grains where nothing looks alike.
        """
        seen = np.isfinite(before) & np.isfinite(after)
        if not seen.any():
            nothing = np.full(before.shape, np.nan)
            return nothing, nothing
        a, b = np.where(seen, before, np.nan).astype(np.float64), np.where(seen, after, np.nan).astype(np.float64)
        if min(np.nanmedian(a), np.nanmedian(b)) < 0:
            a, b = np.exp(a / DECIBELS_PER_NEPER), np.exp(b / DECIBELS_PER_NEPER)
        raw = _log(b) - _log(a)
        noise = images.noise_sigma(raw)
        ratio = _log(images.gaussian(b, self.blur_pixels)) - _log(images.gaussian(a, self.blur_pixels))
        smooth = images.total_variation(ratio, self.stiffness * noise)
        smooth += images.nonlocal_mean(ratio, self.likeness * noise)
        smooth *= 0.5
        low, high = images.usual_half(smooth[seen])
        usual = (smooth >= low) & (smooth <= high)
        return raw - np.median(raw[usual]), smooth - np.median(smooth[usual])


def half_height(size: FloatArray, threshold: float) -> float:
    """Half the mean of ``size``, an array of any shape, over what passes ``threshold``; infinite where nothing does.

    Smoothing spreads an edge evenly to both sides, so that the true outline of a change runs where half its height is
    reached. For changes far stronger than the noise, a threshold just above the noise would draw it too wide.
    """
    beyond = size[size > threshold]
    return 0.5 * float(beyond.mean()) if beyond.size else float("inf")


def _log(image: FloatArray) -> Array:
    """Logarithm with a floor of a fiftieth of the median, which keeps the darkest pixels from ruling."""
    middle = float(np.nanmedian(image))
    floor = 0.02 * middle if middle > 0 else max(1e-6 * float(np.nanmax(image)), images.TINY)
    return np.asarray(np.log(np.maximum(image, 0.0) + floor), dtype=np.float64)


DETECTOR = LogRatio()
