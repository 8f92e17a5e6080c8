"""The plainest comparison of two images: the mean difference of all bands, in units of its own robust spread."""

from typing import Literal

import numpy as np
from scipy.stats import norm

from compoundwatch.model import FloatArray, PairChange


class PlainDifference:
    """Calls what stands out among the differences of a pair; the p-value supposes that most of it did not change."""

    kind: Literal["pair"] = "pair"
    name = "plain_difference"
    title = "Mean difference of all bands"
    source = "Singh 1989, doi:10.1080/01431168908903939"
    suits: tuple[Literal["optical", "radar"], ...] = ("optical",)
    gain_invariant = False

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Compare float32 images (bands, rows, cols), NaN = no view, at significance level ``alpha``."""
        difference = (after - before).mean(axis=0, dtype=np.float64)
        known = difference[np.isfinite(difference)]
        # Half of all differences lie within 0.6745 standard deviations of their median.
        spread = np.median(np.abs(known - np.median(known))) / norm.ppf(0.75) if known.size else np.nan
        z = (difference - np.median(known)) / spread if spread > 0 else np.where(np.isfinite(difference), 0.0, np.nan)
        p = 2 * norm.sf(np.abs(z))
        direction = np.where(p < alpha, np.sign(z), 0)
        return PairChange(z.astype(np.float32), p.astype(np.float32), direction.astype(np.int8))


DETECTOR = PlainDifference()
