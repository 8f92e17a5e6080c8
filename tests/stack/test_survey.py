"""The survey, on real files: which days are read, from where, and which scenes are left out and why."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pytest

from compoundwatch import simulate, stack
from compoundwatch.catalogs import open_catalog
from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings, check_stack
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack.survey import FRAME_PIXELS, frame_around
from tests.stack.test_coregister import ground, moved
from tests.support import EPSG, LEFT, TOP, reflectances, save_catalog, write_item

SETTINGS = SearchSettings()
SIDE = 72
SITE = Grid(EPSG, LEFT + 200, TOP - 180, 10.0, 24, 30)
"""A small place in the middle of scenes of SIDE x SIDE pixels."""
LAND = ground(np.random.default_rng(1), side=SIDE)
START = dt.date(2024, 1, 3)
N_DAYS = 14
HALF = 10
"""The reference period ends after so many days."""


def found_in(folder, grid=SITE):
    scenes, _ = open_catalog(folder, SETTINGS).search(
        grid.lonlat_bounds, dt.date(2020, 1, 1), dt.date(2030, 1, 1), SENSOR, SETTINGS
    )
    return stack.by_day(scenes)


def reference_day(days):
    return days[HALF].day


def bands_of(land, right=0.0, up=0.0, rng=None):
    """A scene of the land that lies so many pixels to the right and up."""
    seen = moved(land, -up, right)
    if rng is not None:
        seen = seen + rng.normal(0, 0.002, seen.shape)
    return reflectances((SIDE, SIDE)) | {"red": seen, "green": seen, "blue": 0.8 * seen, "nir": 3 * seen}


def write_days(folder, shifts, **spoiled):
    """One scene every ten days; ``spoiled`` day number -> function of its bands and the arguments of write_item."""
    rng, items = np.random.default_rng(2), []
    for k, (right, up) in enumerate(shifts):
        bands, how = bands_of(LAND, right, up, rng), {}
        if change := spoiled.get(f"day{k}"):
            bands, how = change(bands)
        when = f"{START + dt.timedelta(days=10 * k)}T03:30:00"
        items.append(write_item(folder, f"scene-{k:02d}", when, bands, **how))
    save_catalog(folder, items)
    return found_in(folder)


def test_frame():
    frame = frame_around(SITE)
    assert frame.shape == (FRAME_PIXELS[0], FRAME_PIXELS[0])
    assert (frame.left, frame.top) == (SITE.left - 170, SITE.top + 200), "17 more on each side, 20 more up and down"
    large = Grid(EPSG, LEFT, TOP, 10.0, 500, 100)
    frame = frame_around(large)
    assert frame.shape == (FRAME_PIXELS[1], 100)
    assert frame.left == large.left
    assert frame.top - large.top == -10.0 * (500 - FRAME_PIXELS[1]) / 2


def test_shifts_are_measured_corrected_and_told(tmp_path):
    shifts = [(0.0, 0.0)] * N_DAYS
    shifts[3], shifts[11] = (0.5, -0.3), (-1.2, 0.7)
    days, left_out = stack.survey(write_days(tmp_path, shifts), SENSOR, SITE, reference_day(found_in(tmp_path)))
    assert left_out == []
    assert [k for k, d in enumerate(days) if d.moved] == [3, 11]
    assert all(d.aligned for d in days)
    assert (days[3].shift_x_m, days[3].shift_y_m) == pytest.approx((5.0, -3.0), abs=0.5)
    assert (days[11].shift_x_m, days[11].shift_y_m) == pytest.approx((-12.0, 7.0), abs=0.5)
    cube, _ = stack.load(days, SENSOR, SITE)
    check_stack(cube)
    true = LAND[18 : 18 + 24, 20 : 20 + 30]
    for k in (3, 11):
        off = cube["brightness"].values[k] - true
        raw = stack.load([replace(days[k], moved=False)], SENSOR, SITE)[0]["brightness"].values[0] - true
        assert np.std(off) < 0.35 * np.std(raw)
    unmoved = stack.load(found_in(tmp_path), SENSOR, SITE)[0]
    for k in (0, 13):
        np.testing.assert_array_equal(cube["ndvi"].values[k], unmoved["ndvi"].values[k])


def test_a_simulated_series_is_put_right(tmp_path):
    """Files of the simulator with the shifts of its truth; clouds, two tiles on one day, two baselines."""
    made = simulate.simulate(
        tmp_path / "made",
        np.random.default_rng(3),
        scenarios=("unchanged",),
        start=dt.date(2023, 1, 2),
        end=dt.date(2023, 12, 31),
        revisit_days=8,
        controls=3,
        site_m=(150, 200),
    )
    truth = {s["item_id"]: (s["shift_x_m"], s["shift_y_m"]) for s in json.loads(made.truth.read_text())["scenes"]}
    grid = Grid(EPSG, 203_200.0, 995_800.0, 10.0, 30, 32)
    found = found_in(made.folder, grid)
    days, left_out = stack.survey(found, SENSOR, grid, found[len(found) // 2].day)
    assert all(k.routine for k in left_out)
    aligned = [d for d in days if d.aligned]
    assert len(aligned) >= 15
    true = np.array([truth[d.scenes[0].scene_id] for d in aligned])
    told = np.array([(d.shift_x_m, d.shift_y_m) for d in aligned])
    left = true - np.array([d.aside_m for d in aligned])
    left = np.hypot(*(left - np.median(true - told, axis=0)).T) / 10
    assert left.mean() < 0.1
    assert np.hypot(*true.T).mean() / 10 > 0.25, "there was something to put right"


def test_overcast_days_are_blank_and_the_others_lose_nothing(tmp_path):
    def overcast(bands):
        bands["scl"][:] = 9
        return bands, {}

    days, left_out = stack.survey(write_days(tmp_path, [(0, 0)] * N_DAYS, day4=overcast), SENSOR, SITE, 10**6)
    assert left_out == []
    assert [d.blank for d in days] == [k == 4 for k in range(N_DAYS)]
    assert not days[4].aligned
    assert np.isnan(days[4].shift_x_m)


def test_too_cloudy_to_be_measured_is_routine(tmp_path):
    def cloudy(bands):
        bands["scl"][:, 12:] = 9
        bands["scl"][:26] = 9
        return bands, {}

    days, left_out = stack.survey(write_days(tmp_path, [(0, 0)] * N_DAYS, day12=cloudy), SENSOR, SITE, 10**6)
    assert len(days) == N_DAYS - 1
    assert [(s.item_id, s.stage, s.routine) for s in left_out] == [("scene-12", "align", True)]
    assert "% of the surroundings clear" in left_out[0].reason


def test_a_scene_of_another_place_is_routine_and_one_far_off_is_news(tmp_path):
    def elsewhere(bands):
        return bands_of(ground(np.random.default_rng(4), side=SIDE)), {}

    shifts = [(0.0, 0.0)] * N_DAYS
    shifts[12] = (4.0, 3.0)
    days, left_out = stack.survey(write_days(tmp_path, shifts, day11=elsewhere), SENSOR, SITE, 10**6)
    assert len(days) == N_DAYS - 2
    assert [(s.item_id, s.routine) for s in left_out] == [("scene-11", True), ("scene-12", False)]
    assert "resembles them too little" in left_out[0].reason
    assert "50 m off the other days" in left_out[1].reason


def test_a_plain_place_is_said_once_and_used_as_it_is(tmp_path):
    items = []
    rng = np.random.default_rng(5)
    for k in range(8):
        bands = reflectances((SIDE, SIDE)) | {"red": 0.06 + rng.normal(0, 0.003, (SIDE, SIDE))}
        items.append(write_item(tmp_path, f"scene-{k}", f"2024-05-{10 + k}T03:30:00", bands))
    save_catalog(tmp_path, items)
    found = found_in(tmp_path)
    days, left_out = stack.survey(found, SENSOR, SITE, 10**6)
    assert days == found
    assert [(s.item_id, s.stage, s.routine) for s in left_out] == [("sentinel2", "align", True)]
    assert "0 of 8" in left_out[0].reason
    cube, _ = stack.load(days, SENSOR, SITE)
    assert np.isnan(cube["shift_x_m"].values).all()
    assert not cube["aligned"].values.any()
    assert cube["valid"].values.all()


def test_a_sensor_without_a_band_to_align_on_is_not_surveyed(tmp_path):
    days = write_days(tmp_path, [(0, 0)] * 3)
    for scene in days[0].scenes:
        for asset in scene.assets.values():
            (tmp_path / "scene-00" / asset.href.split("/")[-1]).write_bytes(b"never opened")
    assert stack.survey(days, replace(SENSOR, align_on=None), SITE, 10**6) == (days, [])


def wrongly_stated(by):
    """The same ground with an item that makes it ``by`` brighter than it is.

    Brighter: stored with the offset of -0.1, said to be without; darker: stored without, said to have it.
    """

    def change(bands):
        read = {b: v if b == "scl" else v + by for b, v in bands.items()}
        return read, {
            "offset": min(by, 0.0),
            "baseline": "05.11",
            "properties": {"earthsearch:boa_offset_applied": by > 0},
        }

    return change


@pytest.mark.parametrize("by", [0.1, -0.1])
def test_a_misstated_offset_among_good_ones_is_found(tmp_path, by):
    days = write_days(tmp_path, [(0, 0)] * N_DAYS, day6=wrongly_stated(by))
    used, left_out = stack.survey(days, SENSOR, SITE, 10**6)
    assert [(s.item_id, s.stage, s.routine) for s in left_out] == [("scene-06", "calibrate", False)]
    assert ("brighter by 0.1" in left_out[0].reason) if by > 0 else ("darker" in left_out[0].reason)
    assert ("already applied" if by > 0 else "scale and offset of the item") in left_out[0].reason
    assert len(used) == N_DAYS - 1


def test_a_year_of_misstated_offsets_is_found(tmp_path):
    """Five of fourteen, one after the other."""
    spoiled = {f"day{k}": wrongly_stated(0.1) for k in range(4, 9)}
    _, left_out = stack.survey(write_days(tmp_path, [(0, 0)] * N_DAYS, **spoiled), SENSOR, SITE, 10**6)
    assert [s.item_id for s in left_out] == [f"scene-{k:02d}" for k in range(4, 9)]


def test_impossible_reflectance_needs_no_comparison(tmp_path):
    spoiled = {f"day{k}": wrongly_stated(-0.1) for k in range(N_DAYS)}

    def dark(bands):
        return wrongly_stated(-0.1)({b: v if b == "scl" else 0.3 * v for b, v in bands.items()})

    with pytest.raises(StackError, match="which no ground has"):
        stack.survey(write_days(tmp_path, [(0, 0)] * N_DAYS, **dict.fromkeys(spoiled, dark)), SENSOR, SITE, 10**6)


def test_no_good_scene_is_called_misstated(tmp_path):
    """One scene each under thin cloud that nobody flagged, smoke, fire, rain, and all of it built over."""

    def veiled(bands):
        white = {"blue": 0.62, "green": 0.6, "red": 0.6, "nir": 0.62, "swir16": 0.42}
        return {b: v if b == "scl" else 0.83 * v + 0.17 * white[b] for b, v in bands.items()}, {}

    def smoky(bands):
        more = {"blue": 0.16, "green": 0.11, "red": 0.08, "nir": 0.04, "swir16": 0.01}
        return {b: v if b == "scl" else v + more[b] for b, v in bands.items()}, {}

    def burnt(bands):
        return bands | {"nir": 0.3 * bands["nir"], "red": 0.7 * bands["red"]}, {}

    def wet(bands):
        return {b: v if b == "scl" else 0.65 * v for b, v in bands.items()}, {}

    def built(bands):
        new = ground(np.random.default_rng(6), side=SIDE)
        return bands | {"red": 0.12 + new, "green": 0.1 + new, "blue": 0.07 + new, "nir": 0.16 + new}, {}

    troubles = {"day1": veiled, "day4": smoky, "day6": burnt, "day8": wet, "day11": built, "day12": built}
    _, left_out = stack.survey(write_days(tmp_path, [(0, 0)] * N_DAYS, **troubles), SENSOR, SITE, 10**6)
    assert not [s for s in left_out if s.stage == "calibrate"]


def test_a_file_that_cannot_be_read_is_told_once_and_not_read_again(tmp_path):
    days = write_days(tmp_path, [(0, 0)] * N_DAYS)
    (tmp_path / "scene-05" / "red.tif").write_bytes(b"<html>404</html>")
    used, left_out = stack.survey(days, SENSOR, SITE, 10**6)
    assert [(s.item_id, s.stage, s.routine) for s in left_out] == [("scene-05", "load", False)]
    assert "scene-05" not in [d.scene_id for d in used]
    assert stack.load(used, SENSOR, SITE)[1] == []


def test_nothing_readable_is_an_error(tmp_path):
    days = write_days(tmp_path, [(0, 0)] * 3)
    for k in range(3):
        (tmp_path / f"scene-0{k}" / "scl.tif").write_bytes(b"")
    with pytest.raises(StackError, match="none of the 3 days"):
        stack.survey(days, SENSOR, SITE, 10**6)


def test_the_same_whatever_the_number_of_threads(tmp_path):
    rng = np.random.default_rng(7)
    days = write_days(tmp_path, rng.uniform(-0.5, 0.5, (N_DAYS, 2)).tolist())
    assert stack.survey(days, SENSOR, SITE, 10**6, threads=1) == stack.survey(days, SENSOR, SITE, 10**6, threads=5)
