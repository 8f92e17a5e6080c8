"""Smoothing, noise and thresholds of single images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.special import polygamma

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


@pytest.mark.parametrize("looks", [1, 4, 16])
def test_the_noise_of_a_ratio_of_speckle(looks):
    """The logarithm of the mean of L looks of power has the variance trigamma(L), in dark as in bright places."""
    rng = np.random.default_rng(15)
    bright = np.exp(np.indices((180, 270))[1] / 90)
    noise, slope = images.ratio_noise(*(bright * rng.gamma(looks, 1 / looks, bright.shape) for _ in range(2)))
    # The quietest tenth of the tiles lies below the whole, but not by half.
    assert 0.6 < noise / np.sqrt(polygamma(1, looks)) < 1
    assert slope == pytest.approx(0, abs=0.1)


def test_noise_that_adds_fades_where_it_is_bright_and_rough_ground_cancels():
    rng = np.random.default_rng(16)
    bright = 100 * np.exp(np.indices((180, 270))[1] / 90) * rng.uniform(0.8, 1.2, (180, 270))
    noise, slope = images.ratio_noise(*(bright + rng.normal(0, 5, bright.shape) for _ in range(2)))
    assert slope == pytest.approx(-1, abs=0.1)
    assert 5 / bright.max() / 2 < noise < 5 / bright.mean()
    gaps = bright.copy()
    gaps[::9] = np.nan
    assert np.isnan(images.ratio_noise(bright, gaps)).all()
    assert np.isnan(images.ratio_noise(bright, -bright)).all()
    assert np.isnan(images.ratio_noise(np.ones((4, 5)), np.ones((4, 5)))).all()
    large = np.tile(bright, (8, 4))
    sample = images.ratio_noise(*(large + rng.normal(0, 5, large.shape) for _ in range(2)), most=100_000)
    np.testing.assert_allclose(sample, (noise, slope), rtol=0.15)


def test_noise_alone_is_not_split():
    for seed in range(5):
        size = np.abs(np.random.default_rng(seed).normal(0, 2, 40_000))
        found = images.split_tail(size)
        assert (size > found.threshold).mean() < 0.002
        assert found.p_value(np.array([2 * stats.norm.isf(0.005)]))[0] == pytest.approx(0.01, abs=0.004)


def test_few_sizes_that_neighbours_share_are_not_split_by_their_waves():
    """Where the noise law is fitted to half of a side of a pair of 60 x 90 pixels, most of the side looks changed."""
    shares = []
    for seed in range(30):
        noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(60, 90)), 1.2)
        for side in (noise[noise >= 0], -noise[noise < 0]):
            found = images.split_tail(side)
            shares.append([(found.p_value(side) < 0.05).mean(), (side > found.threshold).mean()])
    size, beyond = np.mean(shares, axis=0)
    assert size == pytest.approx(0.05, abs=0.01)
    assert beyond < 0.02
    assert np.max(shares) < 0.2


@pytest.mark.parametrize("share", [0.004, 0.05, 0.3])
def test_a_second_population_of_any_size_is_found(share):
    rng = np.random.default_rng(4)
    noise, change = np.abs(rng.normal(0, 1, 50_000)), np.abs(rng.normal(9, 1, int(50_000 * share)))
    threshold = images.split_tail(np.concatenate([noise, change])).threshold
    assert 3 < threshold < 6.5
    assert images.split_tail(7 * np.concatenate([noise, change])).threshold == pytest.approx(7 * threshold)


def test_a_broad_second_population_that_touches_the_first():
    """Half-normal noise of spread 1 and, for each five of it, two changes around 3: they meet between 1.5 and 2.5."""
    rng = np.random.default_rng(14)
    noise, change = np.abs(rng.normal(0, 1, 30_000)), np.abs(rng.normal(3, 1, 12_000))
    found = images.split_tail(np.concatenate([noise, change]))
    assert 1.4 < found.threshold < 2.6
    assert found.p_value(np.array([stats.norm.isf(0.05)]))[0] == pytest.approx(0.1, abs=0.05)


def test_the_usual_half():
    rng = np.random.default_rng(17)
    noise = rng.normal(0, 1, 20_000)
    low, high = images.usual_half(noise)
    np.testing.assert_allclose((low, high), stats.norm.ppf((0.25, 0.75)), atol=0.05)
    low, high = images.usual_half(np.concatenate([noise, rng.normal(9, 1, 10_000)]))
    # Half of all values is three quarters of the noise.
    np.testing.assert_allclose((low, high), stats.norm.ppf((0.125, 0.875)), atol=0.25)
    assert images.usual_half(np.array([3.0])) == (3.0, 3.0)
    np.testing.assert_allclose(images.usual_half(rng.uniform(0, 1, 20_000)), (0.25, 0.75), atol=0.02)


def test_nothing_to_split():
    assert images.split_tail(np.zeros(500)).threshold == np.inf
    assert images.split_tail(np.zeros(500)).p_value(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]
    assert images.split_tail(np.array([])).threshold == np.inf


def test_noise_of_means_falls_with_the_root_of_the_area_where_pixels_are_independent():
    pixels = np.random.default_rng(5).normal(0, 2, (3, 300, 420))
    found = images.patch_noise(pixels, np.zeros(pixels.shape[1:], dtype=bool))
    np.testing.assert_allclose(found.areas, 4 * np.pi * np.array([1.5, 3, 6, 12]) ** 2)
    np.testing.assert_allclose(found.sigma * np.sqrt(found.areas)[:, None], 2.0, rtol=0.25)
    np.testing.assert_allclose(found.freedom, 3, atol=0.4)
    for area in found.areas:
        # Three independent normal means: the chance that the sum of their squares exceeds 11.34 sigma^2 is 0.01.
        mean = np.full((3, 1), np.sqrt(11.34 / 3) * 2 / np.sqrt(area))
        assert 0.002 < found.p_value(mean, np.array([area]))[0] < 0.05


def test_noise_that_neighbours_share_and_heavy_tails_are_measured():
    rng = np.random.default_rng(8)
    smooth = ndimage.gaussian_filter(rng.normal(0, 1, (1, 300, 420)), (0, 10, 10))
    smooth /= smooth.std()
    nothing = np.zeros(smooth.shape[1:], dtype=bool)
    found = images.patch_noise(smooth, nothing)
    # Waves of this length stand in any patch much smaller than they are as they stand in a pixel.
    np.testing.assert_allclose(found.sigma[:2, 0], 1.0, rtol=0.25)
    heavy = images.patch_noise(smooth**3, nothing)
    assert heavy.stretch[0] < 0.6 < 0.85 < found.stretch[0]
    three = np.full((1, 1), 3.0)
    area = found.areas[:1]
    normal = found.p_value(three, area)[0]
    assert normal == pytest.approx(stats.norm.sf(3) * 2, abs=0.008)
    assert heavy.p_value(three * heavy.sigma[0, 0], area)[0] > 10 * normal


def test_what_is_left_out_has_no_say():
    noise = np.random.default_rng(9).normal(0, 1, (1, 200, 260))
    changed = np.zeros(noise.shape[1:], dtype=bool)
    changed[50:100, 60:200] = True
    with_change = noise + 30 * changed
    found, plain = (images.patch_noise(x, changed) for x in (with_change, noise))
    np.testing.assert_allclose(found.sigma[:2], plain.sigma[:2], rtol=0.05)


def test_the_highest_of_the_noise_comes_as_often_as_reckoned():
    """Pieces of moving means beyond four standard deviations, counted, against their chance side by side."""
    rng = np.random.default_rng(18)
    nothing = np.zeros((400, 500), dtype=bool)
    noise = images.patch_noise(rng.normal(size=(1, 400, 500)), nothing)
    area = np.array([4 * np.pi * 3.0**2])
    pieces = 0
    for _ in range(40):
        means = ndimage.gaussian_filter(rng.normal(size=nothing.shape), 3.0, mode="wrap") * np.sqrt(area)
        pieces += sum(ndimage.label(sign * means > 4)[1] for sign in (1, -1))
    chance = 2 * stats.norm.sf(np.array([4.0]))
    side_by_side = 40 * nothing.size / area[0] * chance[0]
    assert pieces > 5 * side_by_side
    assert side_by_side * noise.peaks(chance, area)[0] == pytest.approx(pieces, rel=0.35)
    assert noise.peaks(np.array([0.0, 1.0]), area) == pytest.approx([1373, 1], rel=0.01)


def test_a_patch_chosen_for_being_the_highest_of_the_noise_is_not_believed():
    """Of 3 x 3 pixels, 5 standard deviations out, in an image that holds 3,600 of them; and at 6 it is."""
    mask = np.zeros((120, 270), dtype=bool)
    mask[30:33, 40:43] = True
    for far, believed in ((5.0, False), (6.0, True)):
        image = np.random.default_rng(19).normal(0, 1, (1, *mask.shape))
        image[0][mask] = far / 3
        found = images.patches_beyond_noise(mask.astype(np.int8), mask, image, 5, 0.01)
        assert found.any() == believed


def test_images_too_small_for_means_of_patches():
    assert images.patch_noise(np.ones((2, 5, 7)), np.zeros((5, 7), dtype=bool)) is None


def patches():
    """Noise with a strong, a small, a doubtful and a weak patch; the masks of all, of the sure ones, of the strong."""
    image = np.random.default_rng(6).normal(0, 1, (1, 120, 160))
    mask = np.zeros(image.shape[1:], dtype=bool)
    strong, small, doubtful, weak = np.s_[10:30, 10:40], np.s_[50, 10:13], np.s_[60:75, 10:30], np.s_[60:75, 60:80]
    for place in (strong, small, doubtful, weak):
        mask[place] = True
    image[0][strong] += 3
    image[0][small] += 30
    image[0][doubtful] += 3
    sure = mask.copy()
    sure[doubtful] = False
    wanted = np.zeros(mask.shape, dtype=bool)
    wanted[strong] = True
    return image, mask, sure, wanted


@pytest.mark.parametrize("bands", [1, 3])
def test_patches_are_judged_by_size_certainty_and_noise(bands):
    image, mask, sure, wanted = patches()
    found = images.patches_beyond_noise(mask.astype(np.int8), sure, np.repeat(image, bands, axis=0), 5, 0.01)
    np.testing.assert_array_equal(found, wanted)


def test_among_many_changes_a_doubtful_one_is_believed_sooner():
    rng = np.random.default_rng(7)
    image, mask = rng.normal(0, 1, (1, 200, 260)), np.zeros((200, 260), dtype=bool)
    lonely = np.s_[4:7, 4:7]
    mask[lonely] = True
    image[0][lonely] = 1.4
    assert not images.patches_beyond_noise(mask.astype(np.int8), mask, image, 5, 0.01).any()
    for row in range(20, 190, 16):
        for col in range(20, 250, 16):
            mask[row : row + 4, col : col + 4] = True
    image += 5 * mask
    image[0][lonely] = 1.4
    found = images.patches_beyond_noise(mask.astype(np.int8), mask, image, 5, 0.01)
    assert found[lonely].all()
    np.testing.assert_array_equal(found, mask)


def textured(seed, shape=(140, 180)):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, 1.5, 1.5))
    return field / field.std()


@pytest.mark.parametrize(("down", "right"), [(0.0, 0.0), (0.3, -0.2), (-1.2, 0.7), (0.0, 1.5)])
def test_a_shift_is_measured_though_places_changed(down, right):
    scene = textured(10)
    waves = np.fft.fft2(scene)
    move = np.exp(-2j * np.pi * (np.fft.fftfreq(140)[:, None] * down + np.fft.fftfreq(180) * right))
    moved = np.fft.ifft2(waves * move).real
    rng = np.random.default_rng(11)
    moved += rng.normal(0, 0.1, moved.shape)
    moved[:, 40:80, 50:90] += 3
    found = images.residual_shift(scene, moved, np.ones(scene.shape[1:], dtype=bool))
    np.testing.assert_allclose(found, (down, right), atol=0.03)
    back = images.residual_shift(moved, scene, np.ones(scene.shape[1:], dtype=bool))
    np.testing.assert_allclose(back, (-down, -right), atol=0.03)


def test_moving_an_image():
    scene = textured(12)[0]
    np.testing.assert_allclose(images.shifted(scene, 0.0, 0.0), scene, atol=1e-6)
    # Moved a pixel down and two to the left: each pixel shows what lay one above it and two to its right.
    np.testing.assert_allclose(images.shifted(scene, 1.0, -2.0)[5:-5, 5:-5], scene[4:-6, 7:-3], atol=1e-5)
    half = images.shifted(images.shifted(scene, 0.5, 0.25), -0.5, -0.25)
    assert np.abs(half - scene)[8:-8, 8:-8].max() < 0.05  # of a standard deviation of 1


def test_noise_among_pixels_of_like_contrast():
    rng = np.random.default_rng(13)
    contrast = rng.uniform(0, 1, 60_000)
    sigma = images.noise_by_contrast(rng.normal(0, 1 + 3 * contrast), contrast)
    np.testing.assert_allclose(sigma, np.clip(1 + 3 * contrast, 1.1, 3.9), rtol=0.1)
    assert (np.diff(sigma[np.argsort(contrast)]) >= 0).all()
    assert images.noise_by_contrast(np.array([1.0, -1.0]), np.zeros(2)).tolist() == pytest.approx([1.4826, 1.4826])


@pytest.mark.parametrize(("copies", "expected"), [(1, 6.0), (2, 3.0), (6, 1.0)])
def test_bands_that_say_the_same_count_once(copies, expected):
    z = np.repeat(np.random.default_rng(4).normal(size=(6 // copies, 40_000)), copies, axis=0)
    assert images.degrees_of_freedom(z) == pytest.approx(expected, rel=0.01)
