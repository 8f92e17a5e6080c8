"""Log-ratio of two radar images: speckle multiplies, so a ratio tells change from brightness."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

from compoundwatch import images
from compoundwatch.formulas import robust_sigma
from compoundwatch.model import FloatArray, PairChange


class LogRatio:
    """Ratio of the smoothed images, its own piecewise smooth part, and a threshold between its two modes."""

    kind: Literal["pair"] = "pair"
    name = "log_ratio"
    title = "Log-ratio for radar"
    source = "Rignot and van Zyl 1993, doi:10.1109/36.239913; Rudin et al. 1992, doi:10.1016/0167-2789(92)90242-F"
    suits: tuple[Literal["optical", "radar"], ...] = ("radar",)
    gain_invariant = False

    smooth_pixels = 0.7
    stiffness = 1.0

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Compare two images."""
        ratio = np.mean([self._ratio(a, b) for a, b in zip(before, after, strict=True)], axis=0)
        seen = np.isfinite(ratio)
        statistic = np.full(ratio.shape, np.nan)
        p = np.full(ratio.shape, np.nan)
        direction = np.zeros(ratio.shape, dtype=np.int8)
        if seen.any():
            sigma = float(robust_sigma(ratio[seen]))
            statistic[seen] = ratio[seen] / max(sigma, 1e-9)
            p[seen] = erfc(np.abs(statistic[seen]) / np.sqrt(2))
            size = np.abs(ratio[seen])
            threshold = _otsu(size)
            changed = (np.abs(ratio) > threshold) & (p < alpha)
            direction[changed] = np.sign(ratio[changed])
        return PairChange(statistic.astype(np.float32), p.astype(np.float32), direction)

    def _ratio(self, before: FloatArray, after: FloatArray) -> npt.NDArray[np.float64]:
        raw = _log(after) - _log(before)
        smooth = _log(images.gaussian(after, self.smooth_pixels)) - _log(images.gaussian(before, self.smooth_pixels))
        found = images.total_variation(smooth, self.stiffness * images.noise_sigma(raw))
        return found - np.nanmedian(found)


def _log(image: FloatArray) -> npt.NDArray[np.float64]:
    floor = 0.02 * np.nanmedian(image)
    return np.log(np.maximum(image, 0) + floor)


def _otsu(size: npt.NDArray[np.float64]) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(size)) if np.ptp(size) > 0 else np.inf


DETECTOR = LogRatio()
