"""Multispectral pairs: IR-MAD finds the unchanged pixels, and every pixel's difference is measured against those."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import chi2

from compoundwatch import images
from compoundwatch.formulas import MAD_TO_SIGMA, false_discovery
from compoundwatch.model import BoolArray, FloatArray, PairChange

Array = npt.NDArray[np.float64]


class IrMad:
    """Iteratively re-weighted multivariate alteration detection as normalisation, then the standardised difference.

    The difference, not the sum of squared MAD variates, is what is tested: the variates weigh the last canonical pair,
    which is mostly noise and misregistration, as much as the first.
    """

    kind: Literal["pair"] = "pair"
    name = "irmad"
    title = "Multispectral difference against the unchanged pixels (IR-MAD)"
    source = "Nielsen 2007, doi:10.1109/TIP.2006.888195; Canty and Nielsen 2008, doi:10.1016/j.rse.2007.07.013"
    suits: tuple[Literal["optical", "radar"], ...] = ("optical",)
    gain_invariant = True

    stiffness = 1.5
    max_rounds = 15
    sample = 100_000
    components = 3
    least_shift, most_shift = 0.1, 2.0
    halo_window = 5
    halo_share = 0.25
    min_patch = 9
    max_false_share = 0.2

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Find where the spectrum changed more than the unchanged pixels vary.

        Parameters
        ----------
        before, after : float32 (bands, rows, cols), any unit, NaN = no view (a pixel needs all bands of both images).
        alpha : significance level per pixel, 0-1.

        Returns
        -------
        PairChange. ``statistic`` is the root of the mean square difference over the bands, 1 at the median pixel, with
        the sign of the mean difference (+ brighter after). ``p_value`` is from the chi-square distribution whose
        degrees of freedom count the bands less their correlation, scaled to the median pixel. ``direction`` is the sign
        where the pixel is beyond the corner of the histogram, passes ``alpha`` and a false discovery rate of
        ``max_false_share`` (Benjamini and Hochberg 1995), is no halo of a stronger neighbour, and belongs to a patch of
        at least ``min_patch`` pixels whose mean unsmoothed difference is beyond the noise of means over such an area,
        at a false discovery rate of ``alpha`` (see ``images.patches_beyond_noise``).
        """
        seen = np.asarray(np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0))
        p = np.full(seen.shape, np.nan)
        statistic = p.copy()
        changed = np.zeros(seen.shape, dtype=bool)
        if seen.any():
            raw, z = self._differences(before, after, seen)
            square = np.mean(z**2, axis=0)
            freedom = images.degrees_of_freedom(z[:, seen])
            # Images without noise, equal but for the change: any difference is far beyond nothing.
            scale = max(float(np.median(square[seen])), 1e-12 * float(square[seen].max()), images.TINY)
            p[seen] = chi2.sf(square[seen] / scale * chi2.ppf(0.5, freedom), freedom)
            statistic = np.sqrt(square / scale) * np.where(z.mean(axis=0) < 0, -1, 1)
            # The square root, because the corner of a less skewed histogram is told more sharply.
            corner = images.triangle(np.sqrt(np.abs(statistic[seen]))) ** 2
            sure = (p < alpha) & (false_discovery(p.ravel(), dependent=False).reshape(p.shape) < self.max_false_share)
            sharp = images.without_halo(np.abs(statistic), self.halo_window, self.halo_share)
            beyond = sure & sharp & (np.abs(statistic) > corner)
            changed = images.patches_beyond_noise(beyond.astype(np.int8), sure, raw, self.min_patch, alpha)
        direction = np.where(changed, np.sign(np.nan_to_num(statistic)), 0)
        return PairChange(statistic.astype(np.float32), p.astype(np.float32), direction.astype(np.int8))

    def _differences(self, before: FloatArray, after: FloatArray, seen: BoolArray) -> tuple[FloatArray, FloatArray]:
        """After minus before per band (bands, rows, cols), as it is and piecewise smooth, standardised; NaN = not seen.

        Both images are brought to mean 0 and variance 1 of the unchanged pixels, which is the orthogonal regression of
        each band, and symmetric: swapped images give the negative. Of the difference as it is, the noise that edges
        make is evened out, so that a patch along an edge must be the stronger.
        """
        first, second = self._aligned(before, after, seen)
        step = max(1, int(seen.sum()) // self.sample)
        x, y = first[:, seen][:, ::step].astype(np.float64), second[:, seen][:, ::step].astype(np.float64)
        weight = no_change(x, y, self.max_rounds)
        (mean_x, sd_x), (mean_y, sd_y) = _moments(x, weight), _moments(y, weight)
        raw, z = np.full(before.shape, np.nan, dtype=np.float32), np.full(before.shape, np.nan, dtype=np.float32)
        for k in range(before.shape[0]):
            a, b = (first[k] - mean_x[k]) / sd_x[k], (second[k] - mean_y[k]) / sd_y[k]
            band = np.where(seen, b - a, np.nan)
            band -= np.median(band[seen])
            smooth = images.total_variation(band, self.stiffness * images.noise_sigma(band))[seen]
            smooth -= np.median(smooth)
            sigma = MAD_TO_SIGMA * float(np.median(np.abs(smooth)))
            smooth /= sigma if sigma > 0 else 1.0
            contrast = np.minimum(*(ndimage.gaussian_gradient_magnitude(x, 1.0)[seen] for x in (a, b)))
            rough = images.noise_by_contrast(smooth, contrast)
            usual = float(np.median(rough))
            z[k, seen] = smooth
            raw[k, seen] = band[seen] / (np.maximum(rough / usual, images.TINY) if usual > 0 else 1.0)
        return raw, z

    def _aligned(self, before: FloatArray, after: FloatArray, seen: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Both images filled, and moved half of what they lie apart each, if that is worth it.

        The shift is measured in the main component of the bands' mean image. Shifts too small to matter are left,
        because moving an image smooths its noise; so are those too large to be measured.
        """
        first, second = (np.array([images.fill_nearest(np.where(seen, b, np.nan)) for b in x], np.float32)
                         for x in (before, after))  # fmt: skip
        step = max(1, int(seen.sum()) // self.sample)
        scaled = []
        for image in (first, second):
            values = image[:, seen][:, ::step].astype(np.float64)
            middle = np.median(values, axis=1)
            spread = MAD_TO_SIGMA * np.median(np.abs(values - middle[:, None]), axis=1)
            scaled.append((middle, np.where(spread > 0, spread, np.inf)))
        (middle_a, spread_a), (middle_b, spread_b) = scaled
        mean = (first[:, seen][:, ::step] - middle_a[:, None]) / spread_a[:, None]
        mean = mean + (second[:, seen][:, ::step] - middle_b[:, None]) / spread_b[:, None]
        main = np.linalg.eigh(mean @ mean.T)[1][:, -self.components :].T
        a = np.tensordot(main / spread_a, first, axes=1)
        b = np.tensordot(main / spread_b, second, axes=1)
        shift = images.residual_shift(a, b, seen)
        if not self.least_shift < max(map(abs, shift)) < self.most_shift:
            return first, second
        down, right = shift[0] / 2, shift[1] / 2
        return (
            np.array([images.shifted(x, down, right) for x in first]),
            np.array([images.shifted(x, -down, -right) for x in second]),
        )


def no_change(x: Array, y: Array, max_rounds: int) -> Array:
    """Probability of no change of each pixel by IR-MAD, float64 (pixels,), from bands x and y (bands, pixels).

    Canonical correlations of the two images, weighted by the probabilities of the round before. The chi-square
    distances are scaled so that their median is that of the distribution: otherwise the set of unchanged pixels can
    shrink from round to round on to one kind of surface.
    """
    n = x.shape[0]
    weight = np.ones(x.shape[1])
    old = np.full(n, -1.0)
    for _ in range(max_rounds):
        (mean_x, sd_x), (mean_y, sd_y) = _moments(x, weight), _moments(y, weight)
        u, v = (x - mean_x[:, None]) / sd_x[:, None], (y - mean_y[:, None]) / sd_y[:, None]
        total = weight.sum()
        ridge = 1e-9 * np.eye(n)
        root_u = np.linalg.cholesky((u * weight) @ u.T / total + ridge)
        root_v = np.linalg.cholesky((v * weight) @ v.T / total + ridge)
        cross = np.linalg.solve(root_u, np.linalg.solve(root_v, (v * weight) @ u.T / total).T)
        left, rho, right = np.linalg.svd(cross)
        mad = np.linalg.solve(root_u.T, left).T @ u - np.linalg.solve(root_v.T, right.T).T @ v
        distance = (mad**2 / np.maximum(2 * (1 - rho[:, None]), 1e-9)).sum(axis=0)
        middle = float(np.median(distance))
        if middle <= 1e-12 or np.abs(rho - old).max() < 1e-4:
            break
        weight = chi2.sf(distance * (chi2.ppf(0.5, n) / middle), n)
        old = rho
    return weight


def _moments(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each band; a band without spread gets 1."""
    total = weight.sum()
    mean = values @ weight / total
    sd = np.sqrt(((values - mean[:, None]) ** 2) @ weight / total)
    return mean, np.where(sd > 0, sd, 1.0)


DETECTOR = IrMad()
