"""Sentinel-2: calibration as the items state it, the mask, and the features."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compoundwatch.catalogs.items import remote_rule, to_scene
from compoundwatch.errors import CatalogError
from compoundwatch.sensors import sentinel2
from compoundwatch.sensors.sentinel2 import SENSOR


def item(properties=None, asset=None):
    return {"id": "x", "properties": properties or {}, "assets": {"red": asset or {}, "scl": {}}}


STATED = {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}

SAME_TRUTH = [
    # One ground of reflectance 0.16, 0.0001 and "no data" in all ways in which catalogues store it.
    (item({"s2:processing_baseline": "03.01"}), "red", np.array([1600, 1, 0])),
    (item({"s2:processing_baseline": "05.11"}), "red", np.array([2600, 1001, 0])),
    (item({"s2:processing_baseline": "05.11"}, STATED), "red", np.array([2600, 1001, 0])),
    (
        item({"s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": True}, STATED),
        "red",
        np.array([1600, 1, 0]),
    ),
]
"""Items of several processings with the stored numbers that each gives the same ground (see the contract tests)."""


@pytest.mark.parametrize(
    ("properties", "asset", "offset", "rule"),
    [
        ({"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.11"}, STATED, 0.0, "already applied"),
        ({"sentinel:boa_offset_applied": True, "s2:processing_baseline": "04.00"}, {}, 0.0, "already applied"),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.11"}, STATED, -0.1, "of the item"),
        ({}, {"raster:scale": 0.0001, "raster:offset": 0.0}, 0.0, "of the item"),
        ({}, {"bands": [{"scale": 0.0001, "offset": -0.1}]}, -0.1, "of the item"),
        ({"s2:processing_baseline": "04.00"}, {}, -0.1, "baseline 04.00"),
        ({"s2:processing_baseline": "05.09"}, {}, -0.1, "baseline 05.09"),
        ({"s2:processing_baseline": "03.01"}, {}, 0.0, "baseline 03.01"),
        ({"s2:product_uri": "S2A_MSIL2A_20160101T000000_N0500_R001_T48PUA_2023.SAFE"}, {}, -0.1, "baseline 05.00"),
    ],
)
def test_offset_is_read_from_the_item(properties, asset, offset, rule):
    found = sentinel2.calibrate(item(properties, asset), "red")
    assert (found.scale, found.offset, found.nodata) == (1e-4, offset, 0.0)
    assert rule in found.rule


def test_an_old_date_with_a_new_baseline_has_the_offset():
    """Collection-1 reprocessing gives scenes of 2016 the offset: the date says nothing."""
    assert (
        sentinel2.calibrate(item({"datetime": "2016-01-01T00:00:00Z", "s2:processing_baseline": "05.00"}), "red").offset
        == -0.1
    )


def test_an_item_that_says_nothing_is_refused():
    with pytest.raises(CatalogError, match="neither an offset"):
        sentinel2.calibrate(item({"datetime": "2024-01-01T00:00:00Z"}), "red")


def test_mask_keeps_land_and_water_and_leaves_a_rim_around_clouds():
    scl = np.full((9, 13), 4)
    scl[4, 6] = 9
    valid = sentinel2.valid({"scl": scl})
    distance = np.hypot(*np.meshgrid(np.arange(9) - 4, np.arange(13) - 6, indexing="ij"))
    np.testing.assert_array_equal(valid, distance > 2)


@pytest.mark.parametrize(
    ("code", "usable"),
    [
        (0, False),
        (1, False),
        (2, False),
        (3, False),
        (4, True),
        (5, True),
        (6, True),
        (7, True),
        (8, False),
        (9, False),
        (10, False),
        (11, False),
    ],
)
def test_codes(code, usable):
    assert sentinel2.valid({"scl": np.full((4, 5), code)}).all() == usable


def test_features_by_hand():
    bands = {"green": 0.10, "red": 0.06, "nir": 0.30, "swir16": 0.20}
    arrays = {k: np.array([[v]], dtype=np.float32) for k, v in bands.items()}
    got = {f.name: float(f.formula(arrays)[0, 0]) for f in SENSOR.features}
    assert got == pytest.approx({"ndvi": 0.24 / 0.36, "brightness": 0.08, "ndbi": -0.10 / 0.50}, rel=1e-6)


def test_two_processings_of_one_acquisition_are_known_as_such():
    old = item(
        {
            "s2:datatake_id": "GS2B_20250731T131909_043879_N03.01",
            "grid:code": "MGRS-20EPT",
            "s2:processing_baseline": "03.01",
        }
    )
    new = item(
        {
            "s2:datatake_id": "GS2B_20250731T131909_043879_N05.11",
            "s2:mgrs_tile": "20EPT",
            "s2:processing_baseline": "05.11",
        }
    )
    assert sentinel2.acquisition(old) == sentinel2.acquisition(new)
    assert sentinel2.processing(old) < sentinel2.processing(new)


def test_two_halves_of_a_split_tile_are_two_acquisitions():
    """One strip of a datatake ends within a tile and the next one begins: each product holds a part of the tile."""
    strip = "S2B_OPER_MSI_L2A_DS_2BPS_{made}_S{start}_N{baseline}"

    def part(made, start, baseline):
        name = strip.format(made=made, start=start, baseline=baseline)
        datatake = f"GS2B_20250731T131909_043879_N{baseline}"
        return item({"s2:datatake_id": datatake, "s2:mgrs_tile": "20EPT", "s2:datastrip_id": name})

    north = part("20250731T143919", "20250731T131905", "05.11")
    south = part("20250731T150102", "20250731T132410", "05.11")
    north_again = part("20270102T030405", "20250731T131905", "06.00")
    assert sentinel2.acquisition(north) != sentinel2.acquisition(south)
    assert sentinel2.acquisition(north) == sentinel2.acquisition(north_again)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "scene_id", "acquired", "offset", "cloud", "tail"),
    [
        # Read off the files by eye: Earth Search v1, both collections, and Planetary Computer.
        (
            "pystac-client/sentinel-2-c1-l2a.json",
            "S2B_T20EPT_20250731T131905_L2A",
            "2025-07-31T13:19:22.930000+00:00",
            -0.1,
            26.02542,
            "B04.tif",
        ),
        (
            "pystac-client/sentinel-2-l2a.json",
            "S2B_20EPT_20250731_0_L2A",
            "2025-07-31T13:19:22.930000+00:00",
            0.0,
            26.02542,
            "B04.tif",
        ),
        (
            "odc-stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json",
            "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531",
            "2019-06-29T21:25:29.024000+00:00",
            0.0,
            0.314306,
            "B04_10m.tif",
        ),
    ],
)
def test_real_items(shared, file, scene_id, acquired, offset, cloud, tail):
    data = json.loads((shared / "series" / "stac-items" / file).read_text())
    first = data["features"][0] if "features" in data else data
    scene = to_scene(first, SENSOR, "test", remote_rule(None))
    assert scene.scene_id == scene_id
    assert scene.acquired.isoformat() == acquired
    assert scene.cloud_percent == cloud
    assert set(scene.assets) == {"blue", "green", "red", "nir", "swir16", "scl"}
    for band in ("blue", "green", "red", "nir", "swir16"):
        assert scene.assets[band].calibration.scale == 1e-4
        assert scene.assets[band].calibration.offset == offset
    assert scene.assets["red"].href.endswith(tail)
    assert scene.assets["scl"].calibration.scale == 1.0


@pytest.mark.shared
def test_all_real_level_2_items_parse(shared):
    """34 real items of two catalogues: each becomes a scene."""
    folder = shared / "series" / "stac-items"
    files = [
        "pystac-client/sentinel-2-c1-l2a.json",
        "pystac-client/sentinel-2-l2a.json",
        "odc-stac/site1-20200606-tall-strip-africa.geojson",
        "odc-stac/site2-2020_jun_jul-35MNM.geojson",
    ]
    items = [f for name in files for f in json.loads((folder / name).read_text())["features"]]
    scenes = [to_scene(i, SENSOR, "test", remote_rule(None)) for i in items]
    assert len(scenes) == len(items) == 34
    # Counted by hand: six acquisitions are in both collections, one is in both files of the Planetary Computer.
    assert len({s.acquisition for s in scenes}) == 34 - 6 - 1


@pytest.mark.shared
def test_real_items_made_of_products_parse_whatever_their_age(shared):
    """Products of 2018 to 2024, baselines 02.11 to 05.10, as stactools describes them; level 1 has no class codes."""
    folder = shared / "series" / "stac-items" / "stactools-sentinel2"
    baselines = {}
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text())
        if data["type"] != "Feature":
            continue
        for asset in data["assets"].values():
            asset["href"] = "https://example.com/" + asset["href"].rsplit("/", 1)[-1]
        if "L1C" in data["id"]:
            with pytest.raises(CatalogError, match="no band 'scl'"):
                to_scene(data, SENSOR, "test", remote_rule(None))
            continue
        scene = to_scene(data, SENSOR, "test", remote_rule(None))
        baseline = scene.version.removeprefix("baseline ")
        baselines.setdefault(baseline, set()).add(scene.assets["red"].calibration.offset)
    assert set(baselines) == {"02.11", "02.12", "02.14", "04.00", "05.00", "05.09", "05.10"}
    for baseline, offsets in baselines.items():
        # One item states -0.7, which its product does not have; what an item states is taken as it stands.
        assert offsets - {-0.7} == ({0.0} if baseline < "04.00" else {-0.1})
