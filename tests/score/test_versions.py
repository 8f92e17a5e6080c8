"""Steps of geolocation and level between platforms, on radar pictures that were shifted by a known amount."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from compoundwatch.formulas import image_shift
from compoundwatch.score.versions import version_steps, without_moved

ROWS, COLS, FINE = 56, 68, 4
DAYS = 20_000 + 12 * np.arange(40)


def ground(seed: int) -> np.ndarray:
    """Backscatter in linear power on a grid four times finer than the pictures: slopes, fields and houses."""
    rng = np.random.default_rng(seed)
    shape = (ROWS * FINE, COLS * FINE)
    level = -11 + 18 * ndimage.gaussian_filter(rng.standard_normal(shape), 14)
    for _ in range(25):
        row, col = rng.integers(0, shape[0] - 24), rng.integers(0, shape[1] - 24)
        level[row : row + rng.integers(4, 24), col : col + rng.integers(4, 24)] += rng.uniform(3, 10)
    return np.asarray(10 ** (level / 10))


def view(power: np.ndarray, rng: np.random.Generator, right: float = 0.0, down: float = 0.0) -> np.ndarray:
    """One picture in decibels, 10 m pixels, 4.4 looks, moved by so many pixels."""
    moved = ndimage.shift(power, (down * FINE, right * FINE), order=1, mode="nearest")
    blurred = ndimage.gaussian_filter(moved, 0.85 * FINE)
    coarse = blurred.reshape(ROWS, FINE, COLS, FINE).mean(axis=(1, 3))
    return (10 * np.log10(coarse * rng.gamma(4.4, 1 / 4.4, coarse.shape))).astype(np.float32)


def series(seed: int, n_before: int, n_after: int, right: float = 0.0, down: float = 0.0, jitter: float = 0.1):
    rng, power = np.random.default_rng(seed + 1000), ground(seed)
    moves = [(right * (k >= n_before), down * (k >= n_before)) for k in range(n_before + n_after)]
    views = [view(power, rng, r + jitter * rng.standard_normal(), d + jitter * rng.standard_normal()) for r, d in moves]
    return np.stack(views), DAYS[: len(views)], ["S1A"] * n_before + ["S1C"] * n_after


@pytest.mark.parametrize(("right", "down"), [(2.0, 0.0), (0.0, -1.5), (0.4, 0.3), (-3.25, 4.0)])
def test_image_shift_finds_what_was_done(right: float, down: float) -> None:
    power, rng = ground(1), np.random.default_rng(2)
    before = np.mean([view(power, rng) for _ in range(8)], axis=0)
    after = np.mean([view(power, rng, right, down) for _ in range(8)], axis=0)
    assert image_shift(before, after) == pytest.approx((right, down), abs=0.25)
    assert image_shift(after, before) == pytest.approx((-right, -down), abs=0.25)


def test_image_shift_of_the_same_picture_is_zero_and_level_does_not_matter() -> None:
    picture = view(ground(3), np.random.default_rng(4))
    assert image_shift(picture, picture) == pytest.approx((0, 0), abs=1e-9)
    assert image_shift(picture, 2 * picture + 7) == pytest.approx((0, 0), abs=1e-9)
    holed = picture.copy()
    holed[10:14, 20:30] = np.nan
    assert image_shift(picture, holed) == pytest.approx((0, 0), abs=0.1)
    assert np.isnan(image_shift(picture, np.full_like(picture, np.nan))).all()


def test_a_step_of_two_pixels_at_a_change_of_platform() -> None:
    """The picture moves 20 m east and 10 m north; north is up, against the rows."""
    values, days, versions = series(5, 9, 6, right=2.0, down=-1.0)
    (step,) = version_steps(values, days, versions, 10.0)
    assert (step.before, step.after, step.n_before, step.n_after) == ("S1A", "S1C", 9, 6)
    assert step.day == dt.date(1970, 1, 1) + dt.timedelta(days=20_000 + 12 * 9)
    assert step.shift_x_m == pytest.approx(20, abs=2)
    assert step.shift_y_m == pytest.approx(10, abs=2)
    assert step.shift_m == pytest.approx(np.hypot(20, 10), abs=2)
    assert 0 < step.shift_se_m < 2
    assert step.shift_p < 1e-6


def test_noise_without_a_step_is_what_it_says() -> None:
    """40 pairs of versions that differ in nothing: p-values are even, and shifts scatter by their standard error."""
    steps = [version_steps(*series(s, 8, 6), 10.0)[0] for s in range(100, 140)]
    p = np.array([s.shift_p for s in steps])
    level_p = np.array([s.level_p for s in steps])
    for level in (0.05, 0.25):
        three = 3 * np.sqrt(level * (1 - level) / len(p))
        assert np.mean(p < level) == pytest.approx(level, abs=three)
        assert np.mean(level_p < level) == pytest.approx(level, abs=three)
    standard = np.array([[s.shift_x_m, s.shift_y_m] for s in steps]) / np.array([[s.shift_se_m] for s in steps])
    assert np.sqrt(np.mean(standard**2)) == pytest.approx(1, abs=0.25)


def test_half_a_pixel_is_seen() -> None:
    steps = [version_steps(*series(s, 8, 6, right=0.5), 10.0)[0] for s in range(200, 210)]
    assert sum(s.shift_p < 0.01 for s in steps) >= 9
    assert np.mean([s.shift_x_m for s in steps]) == pytest.approx(5, abs=1)


def test_level_step_is_measured_where_it_is_asked_for() -> None:
    values, days, versions = series(7, 10, 8)
    later = np.array(versions) == "S1C"
    rng = np.random.default_rng(8)
    values += rng.normal(0, 0.2, len(values)).astype(np.float32)[:, None, None]
    values[later] += 0.8
    values[np.ix_(later, range(20), range(30))] += 5
    quiet = np.ones((ROWS, COLS), dtype=bool)
    quiet[:20, :30] = False
    (step,) = version_steps(values, days, versions, 10.0, level_of=quiet)
    assert step.level_step == pytest.approx(0.8, abs=3 * 0.2 * np.sqrt(1 / 10 + 1 / 8))
    assert step.level_se == pytest.approx(0.2 * np.sqrt(1 / 10 + 1 / 8), rel=0.6)
    assert step.level_p < 0.01
    assert step.shift_p > 0.001


def test_versions_that_take_turns_and_one_that_came_only_thrice() -> None:
    values, days, _ = series(9, 8, 9)
    versions = ["S1A", "S1C"] * 7 + ["S1D"] * 3
    first, second = version_steps(values, days, versions, 10.0)
    assert (first.before, first.after, first.n_before, first.n_after) == ("S1A", "S1C", 7, 7)
    assert first.day == dt.date(1970, 1, 1) + dt.timedelta(days=20_012)
    assert first.shift_p is not None
    assert (second.before, second.after, second.n_after) == ("S1C", "S1D", 3)
    assert second.shift_m is None
    assert second.level_p is None


def test_one_version_has_no_steps_and_empty_views_do_not_count() -> None:
    values, days, versions = series(10, 6, 6)
    assert version_steps(values, days, ["S1A"] * 12, 10.0) == ()
    values[2] = np.nan
    (step,) = version_steps(values, days, versions, 10.0)
    assert step.n_before == 5


def as_stack(values, days, versions, looks):
    dims = ("time", "y", "x")
    return xr.Dataset(
        {"vv_db": (dims, values), "valid": (dims, np.isfinite(values))},
        coords={
            "day": ("time", days),
            "look": ("time", np.array(looks, dtype=object)),
            "version": ("time", np.array(versions, dtype=object)),
        },
    )


def test_views_of_a_version_that_moved_are_blanked_and_named() -> None:
    values, days, versions = series(3, 8, 6, right=2.0)
    stack = as_stack(values, days, versions, ["orbit 1"] * len(days))
    kept, told = without_moved(stack, "vv_db", 10.0)
    later = np.array(versions) == versions[-1]
    assert not kept["valid"].values[later].any()
    assert np.isnan(kept["vv_db"].values[later]).all()
    np.testing.assert_array_equal(kept["vv_db"].values[~later], values[~later])
    assert "6 views are not compared" in told[0].reason
    assert not told[0].routine
    assert stack["valid"].values[later].any(), "the stack that was handed in is left alone"


def test_nothing_is_blanked_where_nothing_moved_or_looks_are_kept_apart_anyway() -> None:
    values, days, versions = series(4, 8, 6)
    kept, told = without_moved(as_stack(values, days, versions, ["orbit 1"] * len(days)), "vv_db", 10.0)
    assert not told
    np.testing.assert_array_equal(kept["vv_db"].values, values)
    values, days, versions = series(3, 8, 6, right=2.0)
    assert not without_moved(as_stack(values, days, versions, [f"look {v}" for v in versions]), "vv_db", 10.0)[1]
