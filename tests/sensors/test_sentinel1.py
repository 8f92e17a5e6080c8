"""Sentinel-1: which items are wanted, how they are grouped, what is missing, and decibels."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
import rasterio
from affine import Affine

from compoundwatch import stack
from compoundwatch.catalogs.items import newest, remote_rule, select, to_scene
from compoundwatch.errors import CatalogError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, Calibration, Scene, SearchSettings
from compoundwatch.sensors import sentinel1
from compoundwatch.sensors.sentinel1 import SENSOR

# Properties of a real item of Planetary Computer's sentinel-1-rtc, as its example notebook prints them.
PANAMA = {
    "datetime": "2022-05-04T23:32:10.313109Z",
    "start_datetime": "2022-05-04 23:31:57.814190+00:00",
    "platform": "SENTINEL-1A",
    "s1:datatake_id": "337052",
    "s1:slice_number": "2",
    "s1:total_slices": "29",
    "s1:orbit_source": "RESORB",
    "sar:instrument_mode": "IW",
    "sar:polarizations": ["VV", "VH"],
    "sar:product_type": "GRD",
    "sat:absolute_orbit": 43068,
    "sat:orbit_state": "ascending",
    "sat:relative_orbit": 121,
}
NAME = "S1A_IW_GRDH_1SDV_20220504T233157_20220504T233222_043068_05249C_rtc"


def item(name=NAME, assets=("vv", "vh"), **changes):
    properties = {k: v for k, v in (PANAMA | changes).items() if v is not None}
    return {
        "id": name,
        "collection": "sentinel-1-rtc",
        "properties": properties,
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[-80.5, 8.5], [-79, 8.5], [-79, 10.4], [-80.5, 10.4], [-80.5, 8.5]]],
        },
        "assets": {
            k: {"href": f"https://example.org/{k}.tif", "raster:bands": [{"nodata": -32768, "data_type": "float32"}]}
            for k in assets
        },
    }


STORED = np.array([0.05, 0.2, 0.0, 1.5], np.float32)
INDIGO = item("S1A_20200103_17RMJ_ASC", ("gamma0_vv", "gamma0_vh"))
SAME_TRUTH = [(item(), "vv", STORED), (INDIGO, "gamma0_vv", STORED)]
"""Both collections store linear power as it is."""


def test_an_item_of_planetary_computer():
    scene = to_scene(item(), SENSOR, "test", remote_rule(None))
    assert scene.look == "orbit 121 ascending S1A"
    assert scene.version == "S1A"
    assert scene.acquired == dt.datetime(2022, 5, 4, 23, 32, 10, 313109, tzinfo=dt.UTC)
    assert scene.cloud_percent is None
    assert {k: a.href[-6:] for k, a in scene.assets.items()} == {"vv": "vv.tif", "vh": "vh.tif"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"sar:polarizations": ["vh", "vv"]}, ""),
        ({"sar:instrument_mode": "EW"}, "mode EW"),
        ({"sar:instrument_mode": "SM"}, "mode SM"),
        ({"sar:instrument_mode": None}, "mode not stated"),
        ({"sar:polarizations": ["VV"]}, "polarisation VV;"),
        ({"sar:polarizations": ["HH", "HV"]}, "HH and HV"),
        ({"sar:polarizations": None}, "not stated"),
    ],
)
def test_what_is_not_wanted(changes, word):
    reason = sentinel1.unsuited(item(**changes))
    assert (word in reason) if word else reason == ""


def test_unsuited_items_are_left_out_as_routine():
    items = [item(), item("S1A_EW", **{"sar:instrument_mode": "EW"}), item("S1A_SV", **{"sar:polarizations": ["VV"]})]
    day = dt.date(2022, 5, 4)
    kept, left = select(items, (-80, 9, -79.9, 9.1), day, day, SENSOR, SearchSettings(), "test", remote_rule(None))
    assert [s.scene_id for s in kept] == [NAME]
    assert [(s.item_id, s.routine) for s in left] == [("S1A_EW", True), ("S1A_SV", True)]


@pytest.mark.parametrize("platform", ["sentinel-1c", "SENTINEL-1C", "Sentinel-1C", "sentinel1c"])
def test_platform_is_read_however_it_is_written(platform):
    assert sentinel1.look(item(platform=platform)) == "orbit 121 ascending S1C"


def test_the_name_tells_the_platform_where_the_properties_do_not():
    assert sentinel1.look(item(platform=None)).endswith("S1A")
    with pytest.raises(CatalogError, match="which Sentinel-1"):
        sentinel1.look(item(name="scene", platform=None))


def test_looks_differ_by_orbit_direction_and_platform():
    changes = [{}, {"sat:relative_orbit": 26}, {"sat:orbit_state": "descending"}, {"platform": "SENTINEL-1C"}]
    assert len({sentinel1.look(item(**c)) for c in changes}) == 4


@pytest.mark.parametrize("missing", ["sat:relative_orbit", "sat:orbit_state"])
def test_an_unknown_geometry_is_refused(missing):
    with pytest.raises(CatalogError, match="different geometry"):
        sentinel1.look(item(**{missing: None}))


def test_decibels_are_refused():
    strange = item()
    strange["assets"]["vv"]["raster:bands"][0]["unit"] = "dB"
    with pytest.raises(CatalogError, match="decibels"):
        sentinel1.calibrate(strange, "vv")


def test_the_newest_of_two_processings_is_kept_and_both_slices_are():
    first = item(updated="2022-05-05T10:00:00Z")
    again = item("S1A_again", updated="2025-01-31T10:00:00Z", start_datetime="2022-05-04 23:31:58+00:00")
    next_slice = item("S1A_next", **{"s1:slice_number": "3", "datetime": "2022-05-04T23:32:35Z"})
    scenes = [to_scene(i, SENSOR, "test", remote_rule(None)) for i in (again, first, next_slice)]
    kept, left = newest(scenes, SENSOR)
    assert [s.scene_id for s in kept] == ["S1A_again", "S1A_next"]
    assert [s.item_id for s in left] == [NAME]
    assert [d.scene_id for d in stack.by_day(kept)] == ["S1A_again+S1A_next"]


def test_without_a_slice_number_time_and_square_tell_acquisitions_apart():
    bare = {"s1:datatake_id": None, "s1:slice_number": None}
    one = item(**bare)
    same = item("S1A_x", **bare, **{"processing:version": "2.0"})
    other_time = item("S1A_y", **(bare | {"start_datetime": "2022-05-04T23:32:22Z"}))
    other_square = item("S1A_z", **bare, **{"grid:code": "MGRS-17PNK"})
    keys = [sentinel1.acquisition(i) for i in (one, same, other_time, other_square)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_version_names_platform_and_software():
    plain = item(**{"processing:version": "1.0"})
    named = item(platform="sentinel-1c", **{"processing:software": {"S1TBX": "7.0.2", "IPF": "3.9"}})
    assert sentinel1.version(plain) == "S1A 1.0"
    assert sentinel1.version(named) == "S1C IPF 3.9 S1TBX 7.0.2"
    newer = item(**{"s1:processing_datetime": "2025-02-01T00:00:00Z"})
    older = item(**{"s1:processing_datetime": "2022-05-05T00:00:00Z", "updated": "2025-09-01T00:00:00Z"})
    assert sentinel1.processing(older) < sentinel1.processing(newer)


def test_features_by_hand():
    bands = {"vv": np.array([[0.1, 1.0, 0.0, -0.01]], np.float32), "vh": np.array([[0.02, 0.5, 0.1, 0.1]], np.float32)}
    got = {f.name: f.formula(bands) for f in SENSOR.features}
    np.testing.assert_allclose(got["vv_db"], [[-10, 0, np.nan, np.nan]], atol=1e-5)
    np.testing.assert_allclose(got["vh_db"], [[-16.9897, -3.0103, -10, -10]], atol=1e-3)
    assert {f.unit for f in SENSOR.features} == {"dB"}


@pytest.mark.parametrize("missing", [-32768.0, 0.0, np.nan])
def test_slices_of_one_pass_are_laid_together_and_gaps_stay_gaps(tmp_path, missing):
    """Two slices of one datatake share a line; outside the swath there is -32768, 0 or NaN, nodata tag -32768."""
    grid = Grid(32648, 500_000.0, 1_200_000.0, 10.0, 6, 8)
    rows = [slice(0, 4), slice(3, 6)]
    paths = {}
    for part, seen in enumerate(rows):
        for band, power in (("vv", 0.1), ("vh", 0.01)):
            values = np.full((6, 8), missing, np.float32)
            values[seen, :6] = power * (1 if part == 0 else 2)
            path = tmp_path / f"{part}_{band}.tif"
            with rasterio.open(
                path, "w", driver="GTiff", dtype="float32", count=1, height=6, width=8, nodata=-32768,
                crs="EPSG:32648", transform=Affine(10, 0, 500_000, 0, -10, 1_200_000),
            ) as file:  # fmt: skip
                file.write(values, 1)
            paths[part, band] = str(path)
    scenes = []
    for part in (0, 1):
        changes = {"s1:slice_number": str(part + 1), "datetime": f"2022-05-04T23:32:{10 + 25 * part}Z"}
        about = item(f"slice{part}", **changes)
        scene = to_scene(about, SENSOR, "test", remote_rule(None))
        rule = sentinel1.calibrate(about, "vv")
        assets = {b: Asset(paths[part, b], rule) for b in ("vv", "vh")}
        scenes.append(Scene(**{**vars(scene), "assets": assets}))
    cube, skipped = stack.load(stack.by_day(scenes), SENSOR, grid, threads=1)
    assert skipped == []
    assert cube.sizes["time"] == 1
    wanted = np.full((6, 8), np.nan)
    wanted[:4, :6] = -10.0
    wanted[4:, :6] = -6.9897
    np.testing.assert_allclose(cube["vv_db"].values[0], wanted, atol=1e-3)
    np.testing.assert_allclose(cube["vh_db"].values[0], wanted - 10, atol=1e-3)
    np.testing.assert_array_equal(cube["valid"].values[0], np.isfinite(wanted))
    assert cube["look"].values[0] == "orbit 121 ascending S1A"


@pytest.mark.shared
def test_real_items(shared):
    """Read off the files by eye: Indigo Ag's radiometrically corrected scenes, and a level-1 EW item."""
    folder = shared / "series" / "stac-items" / "stactools-sentinel1"
    wanted = [
        ("2016_S1B_20161121_12SYJ_ASC_S1B_20161121_12SYJ_ASC", "S1B 2016-11-21T01:09:10 12SYJ", "ascending S1B"),
        ("2020_S1A_20200103_17RMJ_ASC_S1A_20200103_17RMJ_ASC", "S1A 2020-01-03T23:35:56 17RMJ", "121 ascending S1A"),
    ]
    for name, acquisition, look in wanted:
        data = json.loads((folder / f"examples_rtc_sentinel1-rtc-aws_{name}.json").read_text())
        assert sentinel1.unsuited(data) == ""
        scene = to_scene(data, SENSOR, "test", remote_rule(None))
        assert scene.acquisition == acquisition
        assert scene.look.endswith(look)
        assert scene.assets["vv"].href.endswith("Gamma0_VV.tif")
        assert scene.assets["vh"].calibration == Calibration(1.0, 0.0, 0.0, "gamma0 in linear power as stored")
    (polar,) = folder.glob("examples_grd_S1A_EW_*.json")
    assert "mode EW" in sentinel1.unsuited(json.loads(polar.read_text()))
