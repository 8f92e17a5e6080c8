"""Reading: the right value at the right place, missing stays missing, failures are told."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from rasterio.warp import transform as warp_points

from compoundwatch.catalogs import open_catalog
from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings, check_stack
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack import by_day, load, picture
from tests.support import EPSG, LEFT, SHAPE, TOP, reflectances, save_catalog, write_item

SETTINGS = SearchSettings()
GRID = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE)


def read(folder, items, grid=GRID):
    save_catalog(folder, items)
    bounds = GRID.lonlat_bounds
    scenes, _ = open_catalog(folder, SETTINGS).search(
        bounds, dt.date(2020, 1, 1), dt.date(2030, 1, 1), SENSOR, SETTINGS
    )
    return load(by_day(scenes), SENSOR, grid)


def gradient(shape=SHAPE):
    """Reflectance that differs at every pixel, along both axes."""
    return (100 + np.arange(shape[0] * shape[1]).reshape(shape)) / 10_000


def test_values_land_on_their_pixels(tmp_path):
    bands = reflectances() | {"green": gradient(), "red": gradient()}
    stack, skipped = read(tmp_path, [write_item(tmp_path, "a", "2024-05-01T03:30:00", bands)])
    check_stack(stack)
    assert skipped == []
    np.testing.assert_allclose(stack["brightness"].values[0], gradient(), atol=1e-6)
    np.testing.assert_allclose(stack["ndvi"].values[0], (0.3 - gradient()) / (0.3 + gradient()), atol=1e-5)
    assert stack["day"].values.tolist() == [(dt.date(2024, 5, 1) - dt.date(1970, 1, 1)).days]


def test_a_window_between_the_20_m_pixels(tmp_path):
    """The grid starts on an odd 10 m pixel, and sticks out of the scene to the west and south."""
    swir = np.arange(12 * 16).reshape(12, 16) / 10_000 + 0.05
    bands = reflectances() | {"swir16": swir, "nir": np.full(SHAPE, 0.05)}
    grid = Grid(EPSG, LEFT - 30, TOP - 50, 10.0, 24, 20)
    stack, _ = read(tmp_path, [write_item(tmp_path, "a", "2024-05-01T03:30:00", bands)], grid)
    ndbi = stack["ndbi"].values[0]
    expected = np.full((24, 20), np.nan)
    fine = np.kron(swir, np.ones((2, 2)))
    expected[:19, 3:] = ((fine - 0.05) / (fine + 0.05))[5:24, :17]
    np.testing.assert_allclose(ndbi, expected, atol=1e-5)


def test_the_offset_of_each_item_is_used(tmp_path):
    """One truth, stored before and after processing baseline 04.00, reads the same."""
    items = [
        write_item(tmp_path, "old", "2021-05-01T03:30:00", reflectances(red=0.0612), baseline="03.01", offset=0.0),
        write_item(tmp_path, "new", "2024-05-01T03:30:00", reflectances(red=0.0612), baseline="05.11", offset=-0.1),
        write_item(
            tmp_path,
            "silent",
            "2024-06-01T03:30:00",
            reflectances(red=0.0612),
            baseline="05.11",
            offset=-0.1,
            states_scale=False,
        ),
    ]
    stack, _ = read(tmp_path, items)
    ndvi = stack["ndvi"].values
    np.testing.assert_allclose(ndvi, (0.30 - 0.0612) / (0.30 + 0.0612), atol=2e-4)


def test_no_data_stays_missing_in_every_feature(tmp_path):
    red = np.full(SHAPE, 0.06)
    red[3, 5] = np.nan
    bands = reflectances() | {"red": red}
    stack, _ = read(tmp_path, [write_item(tmp_path, "a", "2024-05-01T03:30:00", bands, offset=-0.1)])
    missing = np.zeros(SHAPE, dtype=bool)
    missing[3, 5] = True
    for feature in SENSOR.features:
        np.testing.assert_array_equal(np.isnan(stack[feature.name].values[0]), missing)
    np.testing.assert_array_equal(stack["valid"].values[0], ~missing)


def test_clouds_are_missing_and_an_overcast_scene_is_not_read_further(tmp_path):
    overcast = reflectances()
    overcast["scl"][:] = 9
    item = write_item(tmp_path, "overcast", "2024-05-01T03:30:00", overcast)
    for band in ("blue", "green", "red", "nir", "swir16"):
        (tmp_path / "overcast" / f"{band}.tif").write_bytes(b"never opened")
    clear = write_item(tmp_path, "clear", "2024-05-06T03:30:00", reflectances())
    stack, skipped = read(tmp_path, [item, clear])
    assert skipped == []
    assert stack["valid"].values.any(axis=(1, 2)).tolist() == [False, True]


def test_halves_of_one_day_are_laid_together(tmp_path):
    """Two items of one day, west and east, with a cloud in the overlap of the first."""
    west, east = reflectances(red=0.05), reflectances(red=0.07)
    for name in ("blue", "green", "red", "nir"):
        west[name][:, 20:] = np.nan
        east[name][:, :12] = np.nan
    west["scl"][0, 8] = 9
    items = [
        write_item(tmp_path, "a-west", "2024-05-01T03:30:00", west, properties={"grid:code": "MGRS-48PUA"}),
        write_item(tmp_path, "b-east", "2024-05-01T03:30:10", east, properties={"grid:code": "MGRS-48PVA"}),
    ]
    stack, _ = read(tmp_path, items)
    assert stack.sizes["time"] == 1
    red = 2 * stack["brightness"].values[0] - 0.08
    assert red[20, 15] == pytest.approx(0.05, abs=1e-5), "in the overlap the first item wins"
    assert red[0, 17] == pytest.approx(0.07, abs=1e-5), "under its cloud the second is used"
    assert red[20, 25] == pytest.approx(0.07, abs=1e-5)
    assert np.isfinite(red).all()


def test_another_projection_is_resampled_to_the_right_place(tmp_path):
    """A scene in the neighbouring UTM zone: a bright corner must be found at its longitude and latitude."""
    bands = reflectances((120, 140)) | {"red": np.full((120, 140), 0.06)}
    (x,), (y,) = warp_points(f"EPSG:{EPSG}", "EPSG:32647", [LEFT + 120.0], [TOP - 120.0])
    left, top = round(x / 20) * 20 - 700.0, round(y / 20) * 20 + 600.0
    rows, cols = np.mgrid[0:120, 0:140]
    xs, ys = left + 10 * cols + 5, top - 10 * rows - 5
    ux, uy = warp_points("EPSG:32647", f"EPSG:{EPSG}", xs.ravel(), ys.ravel())
    plane = 0.05 + 1e-4 * (np.array(ux) - LEFT) + 2e-4 * (TOP - np.array(uy))
    bands["red"] = np.clip(plane.reshape(120, 140), 0.0001, 1)
    bands["green"] = bands["red"]
    item = write_item(tmp_path, "a", "2024-05-01T03:30:00", bands, left=left, top=top, epsg=32647)
    stack, _ = read(tmp_path, [item])
    row, col = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    expected = 0.05 + 1e-4 * (10 * col + 5) + 2e-4 * (10 * row + 5)
    np.testing.assert_allclose(stack["brightness"].values[0], expected, atol=3e-4)


def aside(folder, item, x_m, y_m, grid=GRID):
    """The stack of one scene that lies so many metres to the east and north."""
    save_catalog(folder, [item])
    scenes, _ = open_catalog(folder, SETTINGS).search(
        GRID.lonlat_bounds, dt.date(2020, 1, 1), dt.date(2030, 1, 1), SENSOR, SETTINGS
    )
    day = replace(by_day(scenes)[0], shift_x_m=x_m, shift_y_m=y_m, moved=True, aligned=True)
    return load([day], SENSOR, grid)[0]


def curved(x, y):
    """Reflectance of a curved ground at places in metres east and south of the corner."""
    return 0.2 + 4e-4 * x - 3e-4 * y + 1e-6 * x**2 + 1.5e-6 * x * y - 1e-6 * y**2


@pytest.mark.parametrize(("x_m", "y_m"), [(3.0, 0.0), (0.0, 3.0), (-4.2, 2.6), (6.5, -7.5), (-10.0, 20.0)])
def test_a_scene_that_lies_off_is_read_from_where_it_lies(tmp_path, x_m, y_m):
    """Cubic convolution gives surfaces of second degree without error (Keys 1981); the scene shows the ground moved."""
    row, col = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    seen = curved(10 * col + 5 - x_m, 10 * row + 5 + y_m)
    coarse_row, coarse_col = np.mgrid[0 : SHAPE[0] // 2, 0 : SHAPE[1] // 2]
    bands = reflectances() | {"red": seen, "green": seen, "nir": 2 * seen}
    bands["swir16"] = curved(20 * coarse_col + 10 - x_m, 20 * coarse_row + 10 + y_m)
    item = write_item(tmp_path, "a", "2024-05-01T03:30:00", bands)
    stack = aside(tmp_path, item, x_m, y_m)
    check_stack(stack)
    inside = slice(6, -6), slice(6, -6)
    true = curved(10 * col + 5, 10 * row + 5)
    np.testing.assert_allclose(stack["brightness"].values[0][inside], true[inside], atol=1.1e-4)
    swir = np.kron(curved(20 * coarse_col + 10, 20 * coarse_row + 10), np.ones((2, 2)))
    ndbi = (swir - 2 * true) / (swir + 2 * true)
    np.testing.assert_allclose(stack["ndbi"].values[0][inside], ndbi[inside], atol=1.5e-3)
    assert stack["shift_x_m"].values == np.float32(x_m)
    assert stack["shift_y_m"].values == np.float32(y_m)
    assert stack["aligned"].values.tolist() == [True]


def test_reading_aside_by_whole_pixels_changes_no_number(tmp_path):
    bands = reflectances() | {"green": gradient(), "red": gradient()}
    stack = aside(tmp_path, write_item(tmp_path, "a", "2024-05-01T03:30:00", bands), -20.0, 20.0)
    found = stack["brightness"].values[0]
    np.testing.assert_allclose(found[2:, 2:], gradient()[:-2, :-2], atol=1e-6)
    assert np.isnan(found[:2]).all(), "beyond the scene nothing is invented"
    assert np.isnan(found[:, :2]).all()


def test_a_missing_pixel_takes_with_it_only_what_touches_it(tmp_path):
    red = np.full(SHAPE, 0.06)
    red[10, 12] = np.nan
    stack = aside(tmp_path, write_item(tmp_path, "a", "2024-05-01T03:30:00", reflectances() | {"red": red}), 3.0, 0.0)
    missing = np.isnan(stack["ndvi"].values[0])[5:-5, 5:-5]
    assert np.argwhere(missing).tolist() == [[5, 6], [5, 7]], "the two pixels that would be made of it"
    np.testing.assert_allclose(stack["ndvi"].values[0][5:-5, 5:-5][~missing], 0.24 / 0.36, atol=1e-3)


def test_quality_codes_move_along_and_stay_codes(tmp_path):
    """A cloud of one 20 m pixel, seen 8 m too far to the south: with its rim of 2 pixels it moves by one pixel."""
    bands = reflectances()
    bands["scl"][6, 8] = 9
    item = write_item(tmp_path, "a", "2024-05-01T03:30:00", bands)
    still = read(tmp_path, [item])[0]["valid"].values[0]
    moved = aside(tmp_path, item, 0.0, -8.0)["valid"].values[0]
    assert (~still).sum() == (~moved[3:-3, 3:-3]).sum()
    np.testing.assert_array_equal(moved[3:-4, 3:-3], still[4:-3, 3:-3])


def test_another_projection_is_read_aside_too(tmp_path):
    rows, cols = 120, 140
    (x,), (y,) = warp_points(f"EPSG:{EPSG}", "EPSG:32647", [LEFT + 120.0], [TOP - 120.0])
    left, top = round(x / 20) * 20 - 700.0, round(y / 20) * 20 + 600.0
    row, col = np.mgrid[0:rows, 0:cols]
    ux, uy = warp_points("EPSG:32647", f"EPSG:{EPSG}", (left + 10 * col + 5).ravel(), (top - 10 * row - 5).ravel())
    plane = 0.05 + 1e-4 * (np.array(ux) - LEFT) + 2e-4 * (TOP - np.array(uy))
    bands = reflectances((rows, cols)) | {"red": np.clip(plane.reshape(rows, cols), 1e-4, 1)}
    bands["green"] = bands["red"]
    item = write_item(tmp_path, "a", "2024-05-01T03:30:00", bands, left=left, top=top, epsg=32647)
    stack = aside(tmp_path, item, 4.0, 3.0)
    row, col = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    expected = 0.05 + 1e-4 * (10 * col + 5 + 4.0) + 2e-4 * (10 * row + 5 - 3.0)
    np.testing.assert_allclose(stack["brightness"].values[0], expected, atol=3e-4)


def test_a_blank_day_is_not_opened(tmp_path):
    item = write_item(tmp_path, "a", "2024-05-01T03:30:00", reflectances())
    for band in item.assets:
        (tmp_path / "a" / f"{band}.tif").write_bytes(b"never opened")
    save_catalog(tmp_path, [item])
    scenes, _ = open_catalog(tmp_path, SETTINGS).search(
        GRID.lonlat_bounds, dt.date(2020, 1, 1), dt.date(2030, 1, 1), SENSOR, SETTINGS
    )
    stack, skipped = load([replace(by_day(scenes)[0], blank=True)], SENSOR, GRID)
    check_stack(stack)
    assert skipped == []
    assert not stack["valid"].values.any()
    assert np.isnan(stack["shift_x_m"].values).all()
    assert not stack["aligned"].values.any()


@pytest.mark.parametrize("damage", ["truncated", "not a tiff", "missing", "a VRT"])
def test_a_file_that_cannot_be_read_is_told(tmp_path, damage):
    items = [
        write_item(tmp_path, name, f"2024-05-0{k}T03:30:00", reflectances()) for k, name in ((1, "good"), (2, "bad"))
    ]
    path = tmp_path / "bad" / "red.tif"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "not a tiff":
        path.write_bytes(b"<html>404</html>")
    elif damage == "a VRT":
        path.write_text(
            '<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
        )
    else:
        path.unlink()
    stack, skipped = read(tmp_path, items)
    assert [(s.item_id, s.stage, s.routine) for s in skipped] == [("bad", "load", False)]
    assert "band 'red'" in skipped[0].reason
    assert stack["valid"].values.any(axis=(1, 2)).tolist() == [True, False]


def test_nothing_readable_is_an_error(tmp_path):
    item = write_item(tmp_path, "bad", "2024-05-01T03:30:00", reflectances())
    (tmp_path / "bad" / "scl.tif").write_bytes(b"")
    with pytest.raises(StackError, match="none of the 1 days"):
        read(tmp_path, [item])


def test_picture(tmp_path):
    red = np.full(SHAPE, 0.30)
    red[2, 4] = np.nan
    bands = reflectances(green=0.0, blue=0.075) | {"red": red}
    save_catalog(tmp_path, [write_item(tmp_path, "a", "2024-05-01T03:30:00", bands, offset=-0.1)])
    bounds = GRID.lonlat_bounds
    scenes, _ = open_catalog(tmp_path, SETTINGS).search(
        bounds, dt.date(2020, 1, 1), dt.date(2030, 1, 1), SENSOR, SETTINGS
    )
    shown = picture(by_day(scenes)[0], SENSOR, GRID)
    assert shown.rgb[10, 10, 0] == 255, "reflectance 0.30 is white"
    assert shown.rgb[10, 10, 1] == 0
    assert 0 < shown.rgb[10, 10, 2] < 128
    assert not shown.seen[2, 4]
    assert shown.seen.sum() == SHAPE[0] * SHAPE[1] - 1
