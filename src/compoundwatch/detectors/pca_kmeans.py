"""Principal components of neighbourhoods of the difference image, in two clusters."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from compoundwatch import images
from compoundwatch.model import FloatArray, PairChange

Array = npt.NDArray[np.float64]


class PcaKMeans:
    """Two clusters of the principal components of blocks."""

    kind: Literal["pair"] = "pair"
    name = "pca_kmeans"
    title = "Two clusters of neighbourhoods (PCA k-means)"
    source = "Celik 2009, doi:10.1109/LGRS.2009.2025059"
    suits: tuple[Literal["optical", "radar"], ...] = ("optical", "radar")
    gain_invariant = False

    block = 4
    components = 3

    def compare(self, before: FloatArray, after: FloatArray, alpha: float) -> PairChange:
        """Compare two images."""
        seen = np.isfinite(before).all(axis=0) & np.isfinite(after).all(axis=0)
        signed = self._difference(before, after)
        size = np.sqrt((signed**2).sum(axis=0))
        score = self._membership(images.fill_nearest(np.where(seen, size, np.nan)))
        p = np.where(seen, alpha ** np.maximum(score, 0), np.nan)
        sign = np.sign(signed.sum(axis=0))
        direction = np.where(seen & (p < alpha), sign, 0)
        return PairChange((score * sign).astype(np.float32), p.astype(np.float32), direction.astype(np.int8))

    def _difference(self, before: FloatArray, after: FloatArray) -> Array:
        if before.shape[0] <= 2:
            return images.log_ratio(before, after)
        return images.standardised(after) - images.standardised(before)

    def _membership(self, size: Array) -> Array:
        """0 at the centre of the unchanged cluster, 1 half-way, 2 at the centre of the changed one."""
        h = self.block
        rows, cols = size.shape
        blocks = size[: rows // h * h, : cols // h * h].reshape(rows // h, h, cols // h, h).transpose(0, 2, 1, 3)
        blocks = blocks.reshape(-1, h * h)
        mean = blocks.mean(axis=0)
        axes = np.linalg.eigh(np.cov((blocks - mean).T))[1][:, ::-1][:, : self.components]
        axes = axes * np.where(axes.sum(axis=0) < 0, -1, 1)
        padded = np.pad(size, ((h // 2, h - 1 - h // 2),) * 2, mode="reflect")
        around = np.lib.stride_tricks.sliding_window_view(padded, (h, h)).reshape(rows * cols, h * h)
        features = (around - mean) @ axes
        low, high = _two_means(features)
        way = high - low
        return (2 * (features - low) @ way / max(float(way @ way), 1e-12)).reshape(rows, cols)


def _two_means(features: Array) -> tuple[Array, Array]:
    first = features[:, 0]
    low, high = (
        features[first <= np.quantile(first, 0.05)].mean(axis=0),
        features[first >= np.quantile(first, 0.99)].mean(axis=0),
    )
    old = None
    for _ in range(100):
        changed = ((features - high) ** 2).sum(axis=1) < ((features - low) ** 2).sum(axis=1)
        if old is not None and np.array_equal(old, changed):
            break
        old = changed
        if changed.all() or not changed.any():
            break
        low, high = features[~changed].mean(axis=0), features[changed].mean(axis=0)
    return low, high


DETECTOR = PcaKMeans()
