"""Shifts: measured to a small part of a pixel against known truth, and not told where there is nothing to tell by."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from compoundwatch import simulate
from compoundwatch.simulate import sentinel2 as satellite
from compoundwatch.stack.coregister import MIN_SHIFT, Shift, align

SIDE = 64
N_SCENES, N_BEFORE = 30, 18
BUILD = slice(4, 36), slice(4, 36)
"""A quarter of the frame."""


def ground(rng, slope=2.2, side=SIDE):
    """A periodic random ground without detail finer than three pixels, so that it can be moved exactly."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None, :])
    weight = np.where((frequency > 0) & (frequency < 1 / 3), np.maximum(frequency, 0.02) ** (-slope / 2), 0)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * weight).real
    return 0.12 + 0.03 * field / field.std()


def moved(image, down, right):
    """An image moved down and right by any part of a pixel, by the shift theorem of Fourier transforms."""
    rows, cols = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :]
    return np.fft.ifft2(np.fft.fft2(image) * np.exp(-2j * np.pi * (rows * down + cols * right))).real


def scenes(rng, image, shifts, noise=0.003):
    return [
        (moved(image, *by) * rng.normal(1, 0.03) + rng.normal(0, noise, image.shape)).astype(np.float32)
        for by in shifts
    ]


def residuals(found, truth):
    """Length of what remains of each shift (pixels), up to the common place of the reference."""
    used = [k for k, s in enumerate(found) if s is not None and s.trusted and s.plausible]
    error = np.array([[found[k].down, found[k].right] for k in used]) - np.asarray(truth)[used]
    return used, np.hypot(*(error - np.median(error, axis=0)).T)


def test_shifts_of_half_a_pixel_are_found():
    rng = np.random.default_rng(1)
    turn = rng.uniform(0, 2 * np.pi, N_SCENES)
    truth = 0.5 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    used, left = residuals(align(scenes(rng, ground(rng), truth), range(N_BEFORE)), truth)
    assert len(used) == N_SCENES
    assert left.mean() < 0.03
    assert left.max() < 0.1


def test_down_is_down_and_right_is_right():
    rng = np.random.default_rng(2)
    truth = np.zeros((N_SCENES, 2))
    truth[-1] = 1.25, -0.75
    last = align(scenes(rng, ground(rng), truth), range(N_BEFORE))[-1]
    assert (last.down, last.right) == pytest.approx((1.25, -0.75), abs=0.05)
    assert last.length == pytest.approx(np.hypot(1.25, 0.75), abs=0.05)


def test_standard_errors_are_honest():
    """Errors over their standard errors: their robust spread is near one, neither a third nor three."""
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(4):
        truth = rng.uniform(-0.6, 0.6, (N_SCENES, 2))
        found = align(scenes(rng, ground(rng), truth, noise=0.012), range(N_BEFORE))
        error = np.array([[s.down, s.right] for s in found]) - truth
        error -= np.median(error, axis=0)
        scores.append(error / np.array([[s.error_down, s.error_right] for s in found]))
    assert 0.5 < 1.4826 * np.median(np.abs(np.concatenate(scores))) < 2.0


def test_what_does_not_move_is_not_moved():
    rng = np.random.default_rng(4)
    found = align(scenes(rng, ground(rng), np.zeros((60, 2))), range(30))
    assert all(s.trusted for s in found)
    assert not any(s.worthwhile for s in found)


def test_gaps_that_stay_in_place_do_not_hold_a_scene_in_place():
    """Every scene misses the same half, in stripes; the ground moves behind it."""
    rng = np.random.default_rng(5)
    truth = rng.uniform(-0.5, 0.5, (N_SCENES, 2))
    shown = scenes(rng, ground(rng), truth)
    for scene in shown:
        scene[:, 8:16] = scene[:, 30:42] = scene[20:28] = np.nan
    used, left = residuals(align(shown, range(N_BEFORE)), truth)
    assert len(used) == N_SCENES
    assert left.mean() < 0.05


def test_a_scene_far_off_is_measured_and_not_believed():
    rng = np.random.default_rng(6)
    truth = np.zeros((N_SCENES, 2))
    truth[-1] = 4.0, -3.0
    last = align(scenes(rng, ground(rng), truth), range(N_BEFORE))[-1]
    assert last.trusted
    assert last.length == pytest.approx(5.0, abs=0.1)
    assert not last.plausible


def wall(rng, k):
    image = np.full((SIDE, SIDE), 0.05)
    image[:, 30:32] = 0.2
    return image + rng.normal(0, 0.003, image.shape)


PLAIN = {
    "noise alone": lambda rng, k: rng.normal(0.03, 0.003, (SIDE, SIDE)),
    "one value": lambda rng, k: np.full((SIDE, SIDE), 0.05),
    "new waves each day": lambda rng, k: 0.2 * ground(rng, slope=3.0),
    "one straight road": wall,
    "another place each day": lambda rng, k: ground(rng),
}


@pytest.mark.parametrize("place", PLAIN)
def test_nothing_is_told_where_there_is_nothing_to_tell_by(place):
    """A straight road tells nothing about shifts along it."""
    rng = np.random.default_rng(7)
    found = align([PLAIN[place](rng, k).astype(np.float32) for k in range(40)], range(25))
    assert sum(s is not None and s.trusted for s in found) <= 1


def test_too_few_clear_scenes_for_a_reference():
    rng = np.random.default_rng(8)
    shown = scenes(rng, ground(rng), np.zeros((10, 2)))
    for scene in shown[2:]:
        scene[:] = np.nan
    assert align(shown, range(8)) == [None] * 10
    assert align(shown, []) == [None] * 10
    assert align([], []) == []


def test_a_sliver_is_not_measured():
    rng = np.random.default_rng(9)
    shown = scenes(rng, ground(rng), np.zeros((N_SCENES, 2)))
    shown[-1][:, 12:] = np.nan
    shown[-2][:] = np.nan
    found = align(shown, range(N_BEFORE))
    assert found[-1] is None
    assert found[-2] is None
    assert found[-3] is not None


def test_a_shift_within_its_error_is_not_worthwhile():
    assert not Shift(0.3, 0.0, 0.15, 0.01, 0.9, 0.9).worthwhile, "two standard errors"
    assert Shift(0.0, 0.3, 0.15, 0.01, 0.9, 0.9).worthwhile, "the other axis is sure"
    assert not Shift(0.7 * MIN_SHIFT, 0.7 * MIN_SHIFT, 0.001, 0.001, 0.9, 0.9).worthwhile, "too short to matter"
    assert Shift(-0.3, 0.3, 0.02, 0.02, 0.9, 0.9).worthwhile


# ------------------------------------------------------------------------------------------- on a simulated satellite


@pytest.fixture(scope="module")
def region():
    first, last = (int((d - dt.date(1970, 1, 1)).days) for d in (dt.date(2023, 1, 2), dt.date(2025, 12, 31)))
    return simulate.plan(np.random.default_rng(11), ("unchanged", "emptied"), first, last, (200, 250), 2, 2, (0.6, 0.7))


def looks(region, monkeypatch, sd, share=None, seed=12):
    """A look every 24 days: red where SCL allows it, and the true shift (down, right) in pixels."""
    monkeypatch.setattr(satellite, "SHIFT_SD", sd)
    shown, truth = [], []
    rng = np.random.default_rng(seed)
    for k in range(45):
        date = dt.date(2023, 1, 5) + dt.timedelta(days=24 * k)
        day = (date - dt.date(1970, 1, 1)).days
        land = region.world.with_activity(region.world.reflectance(day), day, rng)
        scene = satellite.look(land, date, "AB"[k % 2], rng, share)
        usable = np.kron(np.isin(scene.scl, (4, 5, 6, 7)), np.ones((2, 2))).astype(bool)
        red = np.where(usable, scene.bands["red"], np.nan).astype(np.float32)
        shown.append(red[6 : 6 + SIDE, 6 : 6 + SIDE])
        truth.append(scene.shift)
    return shown, np.array(truth)


def test_simulated_half_pixels_are_removed_under_any_sky(region, monkeypatch):
    """Half a pixel in both directions; dry and wet season, clouds as they come, some of them missed by SCL."""
    shown, truth = looks(region, monkeypatch, sd=1e6)
    assert np.abs(truth).tolist() == [[0.5, 0.5]] * 45
    used, left = residuals(align(shown, range(25)), truth)
    clear = [k for k, scene in enumerate(shown) if np.isfinite(scene).mean() > 0.2]
    assert len(clear) >= 15
    assert set(clear) <= set(used)
    assert left.mean() < 0.1
    assert np.quantile(left, 0.9) < 0.15


def test_simulated_shifts_under_forty_percent_of_cloud(region, monkeypatch):
    shown, truth = looks(region, monkeypatch, sd=0.25, share=0.4)
    used, left = residuals(align(shown, range(25)), truth)
    assert len(used) >= 38
    assert left.mean() < 0.1


def test_no_shift_is_invented_in_simulated_scenes(region, monkeypatch):
    shown, truth = looks(region, monkeypatch, sd=0.0, share=0.2)
    found = align(shown, range(25))
    assert not truth.any()
    assert sum(s is not None and s.trusted and s.worthwhile for s in found) == 0


def test_construction_in_a_quarter_of_the_frame_does_not_move_it(region, monkeypatch):
    """From scene 28 on a quarter shows other, brighter ground."""
    shown, truth = looks(region, monkeypatch, sd=0.25, share=0.1)
    built = 2 * ground(np.random.default_rng(13))
    for k in range(28, 45):
        new = moved(built, *truth[k])[BUILD]
        shown[k][BUILD] = np.where(np.isfinite(shown[k][BUILD]), new, np.nan)
    used, left = residuals(align(shown, range(25)), truth)
    late = np.array(used) >= 28
    assert late.sum() >= 14
    assert left[late].mean() < 0.1


# ------------------------------------------------------------------------------------------------------ on real scenes


def test_real_scenes_lie_where_two_bands_agree(shared):
    """Sentinel-2 over a wood with clearings in Romania: small shifts, the same from the red and the green band."""
    xr = pytest.importorskip("xarray")
    cube = xr.open_dataset(
        shared / "series" / "nrt-romania-s2" / "sentinel2_cube_subset_romania_10m.nc", engine="h5netcdf"
    )
    with cube:
        usable = np.isin(cube["SCL"].values, (4, 5, 6, 7))
        found = []
        for band in ("B4", "B3"):
            values = cube[band].values.astype(np.float32) / 10_000
            shown = [np.where(u & (v > 0), v, np.nan).astype(np.float32) for u, v in zip(usable, values, strict=True)]
            found.append(align(shown, range(70)))
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a and b and a.trusted and b.trusted]
    assert len(pairs) >= 60
    red, green = (np.array([[s.down, s.right] for s in part]) for part in zip(*pairs, strict=True))
    lengths = np.hypot(*(red - np.median(red, axis=0)).T)
    assert 0.1 < np.median(lengths) < 0.8, "ESA states 8 m or better for 95 % of the scenes"
    assert np.quantile(lengths, 0.95) < 1.6
    apart = red - green
    assert np.median(np.hypot(*(apart - np.median(apart, axis=0)).T)) < 0.2
