"""Log-ratio of radar images: sizes, units, gaps, thresholds, real pairs."""

from __future__ import annotations

import numpy as np
import pytest

from compoundwatch.detectors.log_ratio import DETECTOR, thresholds

SHAPE = (80, 110)


def speckled(seed, looks=4, rise=1.0):
    """One-band pair of constant backscatter; a rectangle of 20 x 30 pixels is ``rise`` times as bright after."""
    rng = np.random.default_rng(seed)
    before, after = (50 * rng.gamma(looks, 1 / looks, (1, *SHAPE)) for _ in range(2))
    after[:, 30:50, 60:90] *= rise
    return before.astype(np.float32), after.astype(np.float32)


def inside():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[30:50, 60:90] = True
    return mask


@pytest.mark.parametrize(("rise", "sign"), [(4.0, 1), (0.25, -1)])
def test_a_bright_and_a_dark_patch(rise, sign):
    found = DETECTOR.compare(*speckled(1, rise=rise), 0.01)
    assert (found.direction[inside()] == sign).mean() > 0.95
    assert (found.direction[~inside()] != 0).mean() < 0.01
    assert np.sign(np.median(found.statistic[inside()])) == sign


def test_a_gain_cancels():
    before, after = speckled(2, rise=4)
    plain, louder = DETECTOR.compare(before, after, 0.01), DETECTOR.compare(before, after * np.float32(1024), 0.01)
    np.testing.assert_array_equal(plain.direction, louder.direction)
    np.testing.assert_allclose(plain.statistic, louder.statistic, rtol=1e-3, atol=1e-3)


def test_decibels_say_the_same_as_power():
    before, after = speckled(3, rise=4)
    power = DETECTOR.compare(before / 5000, after / 5000, 0.01)
    decibels = DETECTOR.compare(10 * np.log10(before / 5000), 10 * np.log10(after / 5000), 0.01)
    np.testing.assert_array_equal(power.direction, decibels.direction)
    np.testing.assert_allclose(power.p_value, decibels.p_value, atol=1e-3)


def test_p_values_are_uniform_in_the_middle_where_nothing_changed():
    shares = [
        [(DETECTOR.compare(*speckled(10 + s), 0.01).p_value < level).mean() for level in (0.5, 0.1)] for s in range(6)
    ]
    half, tenth = np.mean(shares, axis=0)
    assert half == pytest.approx(0.5, abs=0.06)
    assert tenth == pytest.approx(0.1, abs=0.05)


def test_small_patches_are_not_called():
    rng = np.random.default_rng(4)
    before = rng.normal(100, 1, (1, *SHAPE)).astype(np.float32)
    after = rng.normal(100, 1, (1, *SHAPE)).astype(np.float32)
    after[0, 10:12, 10:12] *= 4
    after[0, 40:52, 20:38] *= 4
    found = DETECTOR.compare(before, after, 0.01)
    assert not found.direction[5:18, 5:18].any()
    assert (found.direction[41:51, 21:37] == 1).all()


def test_the_sign_with_the_larger_changes_has_the_higher_threshold():
    rng = np.random.default_rng(5)
    quiet, rise, fall = rng.normal(0, 0.1, 9000), rng.normal(3, 0.1, 1000), rng.normal(-1, 0.1, 300)
    up, down = thresholds(np.concatenate([quiet, rise, fall]))
    assert 0.4 < down <= up < 2.7
    assert thresholds(-np.concatenate([quiet, rise, fall])) == (down, up)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "kappa"), [("sar_ottawa", 0.9369), ("sar_farmland_d", 0.7271), ("sar_inlandwater", 0.7089)]
)
def test_real_pairs_beat_published_or_simple_methods(shared, name, kappa):
    from skimage.io import imread

    folder = shared / "labelled" / name
    before, after = (imread(folder / f"{t}.png").astype(np.float32)[None] for t in ("t1", "t2"))
    truth = imread(folder / "gt.png") > 127
    changed = DETECTOR.compare(before, after, 0.01).direction != 0
    agree = (changed == truth).mean()
    chance = changed.mean() * truth.mean() + (1 - changed.mean()) * (1 - truth.mean())
    assert (agree - chance) / (1 - chance) > kappa
