"""Two clusters of neighbourhoods: clusters, radar and optical, what the p-value means."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch.detectors.pca_kmeans import DETECTOR, two_means

SHAPE = (70, 95)


def test_two_clusters_are_found_where_they_are():
    rng = np.random.default_rng(1)
    features = np.concatenate([rng.normal([0, 0], 0.5, (900, 2)), rng.normal([10, 4], 0.5, (100, 2))])
    low, high = two_means(features)
    np.testing.assert_allclose(low, [0, 0], atol=0.06)
    np.testing.assert_allclose(high, [10, 4], atol=0.16)


@pytest.mark.parametrize("bands", [1, 2, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_patch_in_radar_and_optical_images(bands, sign):
    rng = np.random.default_rng(2)
    before, after = (rng.uniform(90, 110, (bands, *SHAPE)).astype(np.float32) for _ in range(2))
    after[:, 20:40, 50:80] *= np.float32(2.0**sign)
    found = DETECTOR.compare(before, after, 0.01)
    assert (found.direction[22:38, 52:78] == sign).all()
    outside = np.ones(SHAPE, dtype=bool)
    outside[17:43, 47:83] = False
    assert (found.direction[outside] != 0).mean() < 0.02


def test_the_p_value_of_the_median_pixel_is_one_half():
    rng = np.random.default_rng(3)
    before, after = (rng.normal(100, 5, (4, *SHAPE)).astype(np.float32) for _ in range(2))
    p = DETECTOR.compare(before, after, 0.01).p_value
    assert np.median(p) == pytest.approx(0.5, abs=1e-3)
    assert (p < 0.1).mean() == pytest.approx(0.1, abs=0.04)


def test_only_the_changed_cluster_below_alpha_is_called():
    rng = np.random.default_rng(4)
    before, after = (rng.normal(100, 5, (4, *SHAPE)).astype(np.float32) for _ in range(2))
    after[:, 20:40, 50:80] += 60
    loose, strict = DETECTOR.compare(before, after, 0.2), DETECTOR.compare(before, after, 1e-6)
    for found, alpha in ((loose, 0.2), (strict, 1e-6)):
        called = found.direction != 0
        assert (np.abs(found.statistic[called]) > 0.5).all()
        assert (found.p_value[called] < alpha).all()
    assert (strict.direction[22:38, 52:78] == 1).all()
