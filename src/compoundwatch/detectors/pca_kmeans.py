"""Any pair: principal components of the neighbourhoods of the difference image, in two clusters."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from compoundwatch import images
from compoundwatch.formulas import MAD_TO_SIGMA
from compoundwatch.model import FloatArray, PairChange

Array = npt.NDArray[np.float64]


class PcaKMeans:
    """Two clusters of neighbourhoods of the absolute difference, which is what others are usually measured against."""

    kind: Literal["pair"] = "pair"
    name = "pca_kmeans"
    title = "Two clusters of neighbourhoods (PCA and k-means)"
    source = "Celik 2009, doi:10.1109/LGRS.2009.2025059"
    suits: tuple[Literal["optical", "radar"], ...] = ("optical", "radar")
    gain_invariant = False

    block = 4
    components = 3

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Part the pixels into a changed and an unchanged cluster.

        Parameters
        ----------
        before, after : float32 (bands, rows, cols), NaN = no view. One or two bands are taken for radar and compared by
            their log-ratio, more by the difference of the standardised bands.
        alpha : significance level per pixel, 0-1.

        Returns
        -------
        PairChange. ``statistic`` is the place between the cluster centres, 0 unchanged and 1 changed, with the sign of
        the mean difference. ``p_value`` is the chance that noise alone lies so far out along the first component, if
        the central part of the pixels is noise and normal. ``direction`` is the sign in the changed cluster where the
        p-value is below ``alpha``.
        """
        seen = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
        if not seen.any():
            nothing = np.full(seen.shape, np.nan, dtype=np.float32)
            return PairChange(nothing, nothing.copy(), np.zeros(seen.shape, dtype=np.int8))
        difference = _difference(np.where(seen, before, np.nan), np.where(seen, after, np.nan))
        features = self._features(images.fill_nearest(np.sqrt(np.sum(difference**2, axis=0))))
        low, high = two_means(features)
        way = high - low
        length = float(way @ way)
        place = ((features - low) @ way / length if length > 0 else np.zeros(len(features))).reshape(seen.shape)
        first = features[:, 0].reshape(seen.shape)
        centre = np.median(first[seen])
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(first[seen] - centre)))
        p = np.where(
            seen, norm.sf((first - centre) / sigma) if sigma > 0 else np.where(first > centre, 0.0, 1.0), np.nan
        )
        sign = np.where(np.nan_to_num(images.gaussian(difference.mean(axis=0), self.block / 4)) < 0, -1, 1)
        direction = np.where(seen & (place > 0.5) & (p < alpha), sign, 0)
        statistic = np.where(seen, place * sign, np.nan)
        return PairChange(statistic.astype(np.float32), p.astype(np.float32), direction.astype(np.int8))

    def _features(self, size: Array) -> Array:
        """Components of the block x block neighbourhood of each pixel, (pixels, components)."""
        h = self.block
        rows, cols = size.shape
        size = np.pad(size, ((0, max(0, h - rows)), (0, max(0, h - cols))), mode="edge")
        high, wide = size.shape
        whole = size[: high // h * h, : wide // h * h]
        tiles: Array = whole.reshape(high // h, h, wide // h, h).swapaxes(1, 2).reshape(-1, h * h)
        mean = tiles.mean(axis=0)
        axes = np.linalg.eigh((tiles - mean).T @ (tiles - mean))[1][:, ::-1][:, : self.components]
        axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
        padded = np.pad(size, ((h // 2, h - 1 - h // 2),) * 2, mode="reflect")
        features = np.full((rows, cols, axes.shape[1]), -(mean @ axes))
        # One shift of the image at a time: the neighbourhoods of all pixels at once would take h * h images of memory.
        for k in range(h * h):
            i, j = divmod(k, h)
            features += padded[i : i + rows, j : j + cols, None] * axes[k]
        return features.reshape(rows * cols, -1)


def two_means(features: Array, rounds: int = 100) -> tuple[Array, Array]:
    """Centres of the cluster of small and the cluster of large first components of (pixels, components)."""
    first = features[:, 0]
    bottom, top = np.quantile(first, [0.05, 0.99])
    low, high = features[first <= bottom].mean(axis=0), features[first >= top].mean(axis=0)
    whole = features.sum(axis=0)
    old: npt.NDArray[np.bool_] | None = None
    for _ in range(rounds):
        large = features @ (high - low) > 0.5 * (high @ high - low @ low)
        if large.all() or not large.any() or (old is not None and np.array_equal(old, large)):
            break
        part = large.astype(np.float64) @ features
        low, high = (whole - part) / np.sum(~large), part / np.sum(large)
        old = large
    return low, high


def _difference(before: FloatArray, after: FloatArray) -> Array:
    """Signed difference of each band, float64 (bands, rows, cols), NaN = not seen."""
    a, b = before.astype(np.float64), after.astype(np.float64)
    if a.shape[0] <= 2 and min(np.nanmin(a), np.nanmin(b)) >= 0:
        # The floor keeps black pixels finite: 1 for the usual 8-bit images, small for images in physical units.
        floor = min(1.0, 0.02 * float(np.nanmedian([np.nanmedian(a), np.nanmedian(b)])) or 1.0)
        return np.asarray(np.log(b + floor) - np.log(a + floor), dtype=np.float64)
    return _standardised(b) - _standardised(a)


def _standardised(image: Array) -> Array:
    mean = np.nanmean(image, axis=(1, 2), keepdims=True)
    return np.asarray((image - mean) / np.maximum(np.nanstd(image, axis=(1, 2), keepdims=True), images.TINY))


DETECTOR = PcaKMeans()
