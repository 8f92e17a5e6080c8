"""Multispectral pairs: unchanged pixels by canonical correlation, then the spectral difference measured against them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from compoundwatch import images
from compoundwatch.formulas import robust_sigma
from compoundwatch.model import FloatArray, PairChange

Array = npt.NDArray[np.float64]


class IrMad:
    """Iteratively reweighted multivariate alteration detection."""

    kind: Literal["pair"] = "pair"
    name = "irmad"
    title = "Multispectral change against unchanged pixels (IR-MAD)"
    source = "Nielsen 2007, doi:10.1109/TIP.2006.888195; Canty and Nielsen 2008, doi:10.1016/j.rse.2007.07.013"
    suits: tuple[Literal["optical", "radar"], ...] = ("optical",)
    gain_invariant = True

    smooth_pixels = 1.0
    max_rounds = 50

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Compare two images."""
        seen = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
        size = np.full(seen.shape, np.nan)
        p = np.full(seen.shape, np.nan)
        direction = np.zeros(seen.shape, dtype=np.int8)
        x, y = before[:, seen].astype(np.float64), after[:, seen].astype(np.float64)
        weight = no_change(x, y, self.max_rounds)
        residual = normalised(x, y, weight)
        z = np.empty_like(residual)
        for i, band in enumerate(residual):
            image = np.full(seen.shape, np.nan)
            image[seen] = band
            z[i] = images.gaussian(image, self.smooth_pixels)[seen]
            z[i] = (z[i] - np.median(z[i])) / max(float(robust_sigma(z[i])), 1e-9)
        q = (z**2).mean(axis=0)
        n = x.shape[0]
        p[seen] = chi2.sf(q / np.median(q) * chi2.ppf(0.5, n), n)
        s = np.sqrt(q / np.median(q))
        changed = (s > images.triangle(s)) & (p[seen] < alpha)
        sign = np.sign(z.mean(axis=0))
        size[seen] = s * sign
        direction[seen] = np.where(changed, sign, 0)
        return PairChange(size.astype(np.float32), p.astype(np.float32), direction)


def no_change(x: Array, y: Array, max_rounds: int) -> Array:
    """Probability of no change of each pixel by IR-MAD."""
    n = x.shape[0]
    weight = np.ones(x.shape[1])
    old = np.zeros(n)
    for _ in range(max_rounds):
        total = weight.sum()
        xc = x - (x @ weight / total)[:, None]
        yc = y - (y @ weight / total)[:, None]
        sxx, syy, sxy = (xc * weight) @ xc.T / total, (yc * weight) @ yc.T / total, (xc * weight) @ yc.T / total
        sxx += 1e-9 * np.trace(sxx) / n * np.eye(n)
        syy += 1e-9 * np.trace(syy) / n * np.eye(n)
        lx, ly = np.linalg.cholesky(sxx), np.linalg.cholesky(syy)
        u, rho, vt = np.linalg.svd(np.linalg.solve(lx, np.linalg.solve(ly, sxy.T).T))
        a, b = np.linalg.solve(lx.T, u), np.linalg.solve(ly.T, vt.T)
        mad = a.T @ xc - b.T @ yc
        variance = np.maximum(2 * (1 - np.minimum(rho, 1 - 1e-9)), 1e-9)
        weight = chi2.sf((mad**2 / variance[:, None]).sum(axis=0), n)
        if np.abs(rho - old).max() < 1e-4:
            break
        old = rho
    return weight


def normalised(x: Array, y: Array, weight: Array) -> Array:
    """Difference of each band after the orthogonal line through the unchanged pixels was taken off."""
    total = weight.sum()
    xc = x - (x @ weight / total)[:, None]
    yc = y - (y @ weight / total)[:, None]
    sx, sy = np.sqrt((xc**2) @ weight), np.sqrt((yc**2) @ weight)
    sign = np.sign((xc * yc) @ weight)
    return yc / sy[:, None] - sign[:, None] * xc / sx[:, None]


DETECTOR = IrMad()
