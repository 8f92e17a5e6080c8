"""Multispectral pairs: IR-MAD finds the unchanged pixels, and every pixel's difference is measured against those."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from compoundwatch import images
from compoundwatch.formulas import MAD_TO_SIGMA, false_discovery
from compoundwatch.model import FloatArray, PairChange

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
        ``min_patch`` pixels.
        """
        seen = np.asarray(np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0))
        p = np.full(seen.shape, np.nan)
        statistic = p.copy()
        changed = np.zeros(seen.shape, dtype=bool)
        if seen.any():
            z = self._differences(before, after, seen)
            square = np.mean(z**2, axis=0)
            freedom = degrees_of_freedom(z[:, seen])
            # Images without noise, equal but for the change: any difference is far beyond nothing.
            scale = max(float(np.median(square[seen])), 1e-12 * float(square[seen].max()), images.TINY)
            p[seen] = chi2.sf(square[seen] / scale * chi2.ppf(0.5, freedom), freedom)
            statistic = np.sqrt(square / scale) * np.where(z.mean(axis=0) < 0, -1, 1)
            # The square root, because the corner of a less skewed histogram is told more sharply.
            corner = images.triangle(np.sqrt(np.abs(statistic[seen]))) ** 2
            sure = (p < alpha) & (false_discovery(p.ravel(), dependent=False).reshape(p.shape) < self.max_false_share)
            sharp = images.without_halo(np.abs(statistic), self.halo_window, self.halo_share)
            changed = images.drop_small(sure & sharp & (np.abs(statistic) > corner), self.min_patch)
        direction = np.where(changed, np.sign(np.nan_to_num(statistic)), 0)
        return PairChange(statistic.astype(np.float32), p.astype(np.float32), direction.astype(np.int8))

    def _differences(self, before: FloatArray, after: FloatArray, seen: npt.NDArray[np.bool_]) -> Array:
        """After minus before per band (bands, rows, cols), piecewise smooth, robustly standardised; NaN = not seen.

        Both images are brought to mean 0 and variance 1 of the unchanged pixels, which is the orthogonal regression of
        each band, and symmetric: swapped images give the negative.
        """
        step = max(1, int(seen.sum()) // self.sample)
        x, y = before[:, seen][:, ::step].astype(np.float64), after[:, seen][:, ::step].astype(np.float64)
        weight = no_change(x, y, self.max_rounds)
        (mean_x, sd_x), (mean_y, sd_y) = _moments(x, weight), _moments(y, weight)
        z = np.full(before.shape, np.nan)
        for k in range(before.shape[0]):
            band = (after[k] - mean_y[k]) / sd_y[k] - (before[k] - mean_x[k]) / sd_x[k]
            band = np.where(seen, band, np.nan)
            smooth = images.total_variation(band, self.stiffness * images.noise_sigma(band))
            smooth -= np.median(smooth[seen])
            sigma = MAD_TO_SIGMA * float(np.median(np.abs(smooth[seen])))
            z[k] = smooth / (sigma if sigma > 0 else 1.0)
        return z


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


def degrees_of_freedom(z: Array) -> float:
    """How many independent bands vary as correlated ones do (Satterthwaite 1946, doi:10.2307/3002019), 1 to bands.

    ``z`` is (bands, pixels), standardised; values beyond 3 are pulled in so that changes do not rule.
    """
    clipped = np.clip(z, -3, 3)
    spread = np.mean(clipped * clipped, axis=1)
    cover = clipped @ clipped.T / clipped.shape[1]
    scale = np.sqrt(np.maximum(np.outer(spread, spread), images.TINY))
    correlation = cover / scale
    np.fill_diagonal(correlation, 1.0)
    return float(z.shape[0] ** 2 / np.sum(correlation**2))


def _moments(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each band; a band without spread gets 1."""
    total = weight.sum()
    mean = values @ weight / total
    sd = np.sqrt(((values - mean[:, None]) ** 2) @ weight / total)
    return mean, np.where(sd > 0, sd, 1.0)


DETECTOR = IrMad()
