"""Smoothing, noise and thresholds of single images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compoundwatch import images

SHAPE = (70, 110)


def block():
    image = np.zeros(SHAPE)
    image[20:50, 30:80] = 1.0
    return image


@pytest.mark.parametrize("smooth", [images.total_variation, images.nonlocal_mean])
def test_smoothers_take_noise_off_and_leave_edges(smooth):
    noisy = block() + np.random.default_rng(1).normal(0, 0.2, SHAPE)
    found = smooth(noisy, 0.2)
    assert found[:15].std() < 0.07  # of 0.2
    assert found[25:45, 31:33].mean() - found[25:45, 27:29].mean() > 0.7  # of 1.0, across two pixels


@pytest.mark.parametrize("smooth", [images.total_variation, images.nonlocal_mean])
def test_smoothers_mirror_keep_gaps_and_turn_with_the_image(smooth):
    noisy = block() + np.random.default_rng(2).normal(0, 0.2, SHAPE)
    np.testing.assert_allclose(smooth(-noisy, 0.2), -smooth(noisy, 0.2), atol=1e-6)
    np.testing.assert_allclose(smooth(noisy + 5, 0.2), smooth(noisy, 0.2) + 5, atol=1e-4)
    noisy[3:6, 9] = np.nan
    kept = noisy.copy()
    np.testing.assert_array_equal(np.isnan(smooth(noisy, 0.2)), np.isnan(noisy))
    np.testing.assert_array_equal(noisy, kept)
    assert np.array_equal(smooth(noisy, 0.0), noisy, equal_nan=True)


def test_nonlocal_mean_by_definition():
    image = np.random.default_rng(3).normal(0, 1, (9, 13))
    around, patch, reach, strength = np.pad(image, 3, mode="symmetric"), 1, 2, 1.5
    i, j, total, weights = 4, 6, 0.0, 0.0
    for y in range(i - reach, i + reach + 1):
        for x in range(j - reach, j + reach + 1):
            a = around[i + 3 - patch : i + 4 + patch, j + 3 - patch : j + 4 + patch]
            b = around[y + 3 - patch : y + 4 + patch, x + 3 - patch : x + 4 + patch]
            w = np.exp(-np.mean((a - b) ** 2) / strength**2)
            total, weights = total + w * image[y, x], weights + w
    assert images.nonlocal_mean(image, strength, patch, reach)[i, j] == pytest.approx(total / weights, abs=0.02)


def test_noise_alone_is_not_split():
    for seed in range(5):
        size = np.abs(np.random.default_rng(seed).normal(0, 2, 40_000))
        found = images.split_tail(size)
        assert (size > found.threshold).mean() < 0.002
        assert found.p_value(np.array([2 * stats.norm.isf(0.005)]))[0] == pytest.approx(0.01, abs=0.004)


@pytest.mark.parametrize("share", [0.004, 0.05, 0.3])
def test_a_second_population_of_any_size_is_found(share):
    rng = np.random.default_rng(4)
    noise, change = np.abs(rng.normal(0, 1, 50_000)), np.abs(rng.normal(9, 1, int(50_000 * share)))
    threshold = images.split_tail(np.concatenate([noise, change])).threshold
    assert 3 < threshold < 6.5
    assert images.split_tail(7 * np.concatenate([noise, change])).threshold == pytest.approx(7 * threshold)


def test_nothing_to_split():
    assert images.split_tail(np.zeros(500)).threshold == np.inf
    assert images.split_tail(np.zeros(500)).p_value(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]
    assert images.split_tail(np.array([])).threshold == np.inf


def test_noise_of_means_falls_with_the_root_of_the_area():
    noise = np.random.default_rng(5).normal(0, 2, (300, 420))
    areas, sigmas = images.noise_of_means(noise)
    np.testing.assert_allclose(sigmas * np.sqrt(areas), 2.0, rtol=0.15)
    slope = noise + np.indices(noise.shape)[1] / 2000
    np.testing.assert_allclose(images.noise_of_means(slope)[1], sigmas, rtol=0.25)
    assert images.noise_of_means(noise[:5, :7])[0].size == 0


def test_patches_are_judged_by_size_certainty_and_noise():
    image = np.random.default_rng(6).normal(0, 1, (120, 160))
    mask = np.zeros(image.shape, dtype=bool)
    strong, small, doubtful, weak = np.s_[10:30, 10:40], np.s_[50, 10:13], np.s_[60:75, 10:30], np.s_[60:75, 60:80]
    for place in (strong, small, doubtful, weak):
        mask[place] = True
    image[strong] += 3
    image[small] += 30
    image[doubtful] += 3
    sure = mask.copy()
    sure[doubtful] = False
    wanted = np.zeros(image.shape, dtype=bool)
    wanted[strong] = True
    np.testing.assert_array_equal(images.patches_beyond_noise(mask, sure, image, 5, 0.01), wanted)
