"""Landsat 8 and 9: calibration, quality bits, which items are wanted, and a scene read from files."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

from compoundwatch import catalogs, stack
from compoundwatch.catalogs.items import remote_rule, to_scene
from compoundwatch.errors import CatalogError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings
from compoundwatch.sensors import landsat
from compoundwatch.sensors.landsat import SENSOR
from tests.support import save_catalog

PRODUCT = "LC09_L2SP_126051_20240105_20240106_02_T1"


def item(asset=None, product=PRODUCT, **properties):
    """An item as the Planetary Computer gives it; ``None`` takes a property away."""
    stated = {
        "datetime": "2024-01-05T03:15:00Z",
        "platform": "landsat-9",
        "landsat:collection_number": "02",
        "landsat:collection_category": "T1",
        "landsat:wrs_path": "126",
        "landsat:wrs_row": "051",
        "view:off_nadir": 0,
    } | {k.replace("__", ":"): v for k, v in properties.items()}
    keys = ("blue", "green", "red", "nir08", "swir16", "lwir11", "qa_pixel", "qa_radsat")
    assets = {k: {"href": f"https://example.com/{product}_{k}.TIF"} | (asset or {}) for k in keys}
    short = "_".join(product.split("_")[:4] + product.split("_")[-2:])
    return {"id": short, "properties": {k: v for k, v in stated.items() if v is not None}, "assets": assets}


SAME_TRUTH = [
    (item(product=PRODUCT.replace("T1", "RT"), landsat__collection_category="RT"), "red", np.array([0, 1, 18_639])),
    (item(), "red", np.array([0, 1, 18_639])),
    (item({"raster:bands": [{"scale": 2.75e-05, "offset": -0.2}]}), "red", np.array([0, 1, 18_639])),
]
"""Items of several processings with the stored numbers that each gives the same ground (see the contract tests)."""


@pytest.mark.parametrize(
    ("asset", "stored", "value", "within"),
    [
        # Both examples are worked out on the USGS page "How do I use a scale factor with Landsat Level-2 products?".
        ("red", 18_639, 0.313, 5e-4),
        ("lwir11", 44_947, 302.6, 0.05),
        # Ends of the valid ranges on the same page: reflectance 0 to 1, and the coldest temperature.
        ("nir08", 7_273, 0.0, 2e-5),
        ("nir08", 43_636, 1.0, 2e-5),
        ("lwir11", 293, 150.0, 2e-3),
    ],
)
def test_worked_examples_of_the_usgs(asset, stored, value, within):
    rule = landsat.calibrate(item(), asset)
    assert stored * rule.scale + rule.offset == pytest.approx(value, abs=within)
    assert rule.nodata == 0


def test_an_item_that_states_other_numbers_is_refused():
    collection_1 = {"raster:bands": [{"scale": 1e-4, "offset": 0.0}]}
    with pytest.raises(CatalogError, match=r"states the scale 0\.0001 for 'red', expected 2\.75e-05"):
        landsat.calibrate(item(collection_1), "red")
    with pytest.raises(CatalogError, match="the offset 0 "):
        landsat.calibrate(item({"raster:offset": 0.0}), "red")
    with pytest.raises(CatalogError, match="collection '01', expected 02"):
        landsat.calibrate(item(landsat__collection_number="01"), "red")


def test_an_item_that_names_no_collection_is_refused():
    nameless = item(product="scene", landsat__collection_number=None)
    with pytest.raises(CatalogError, match="not stated"):
        landsat.calibrate(nameless, "red")


# Value interpretations of QA_PIXEL as the USGS lists them (LSDS-1619, table 6-3), and the fill value.
WORDS = {
    1: ("fill", False),
    21_824: ("clear with lows set", True),
    21_826: ("dilated cloud over land", False),
    21_888: ("water with lows set", True),
    21_890: ("dilated cloud over water", False),
    21_952: ("clear water", True),
    22_080: ("mid confidence cloud, which the USGS does not call cloud", True),
    22_280: ("high confidence cloud", False),
    23_888: ("high confidence cloud shadow", False),
    23_952: ("water with cloud shadow", False),
    24_344: ("high confidence cloud with shadow", False),
    30_048: ("high confidence snow or ice", False),
    54_596: ("high confidence cirrus", False),
    55_052: ("cirrus, high cloud", False),
}


@pytest.mark.parametrize("word", WORDS)
def test_words_of_the_quality_band(word):
    quality = {"qa_pixel": np.full((4, 5), word, dtype=np.uint16), "qa_radsat": np.zeros((4, 5), dtype=np.uint16)}
    assert landsat.valid(quality).all() == WORDS[word][1]
    assert landsat.valid(quality).any() == WORDS[word][1]


@pytest.mark.parametrize(
    ("word", "usable"),
    [(0, True), (1 << 0, True), (1 << 1, False), (1 << 5, False), (1 << 6, True), (1 << 8, True), (1 << 11, False)],
)
def test_saturation_counts_in_the_bands_that_are_used(word, usable):
    """Bands 1, 7 and 9 are not read; bit 11 says that terrain hid the pixel."""
    assert landsat.valid({"qa_pixel": np.full((2, 3), 21_824), "qa_radsat": np.full((2, 3), word)}).all() == usable


def test_a_cloud_takes_its_neighbours_with_it_and_snow_does_not():
    pixel = np.full((7, 9), 21_824.0)
    pixel[3, 4], pixel[0, 0] = 22_280, 30_048
    valid = landsat.valid({"qa_pixel": pixel, "qa_radsat": np.zeros_like(pixel)})
    distance = np.hypot(*np.meshgrid(np.arange(7) - 3, np.arange(9) - 4, indexing="ij"))
    expected = distance > 2
    expected[0, 0] = False
    np.testing.assert_array_equal(valid, expected)


def test_features_by_hand():
    bands = {"green": 0.10, "red": 0.06, "nir": 0.30, "swir16": 0.20, "lwir11": 310.0}
    arrays = {k: np.array([[v]], dtype=np.float32) for k, v in bands.items()}
    got = {f.name: float(f.formula(arrays)[0, 0]) for f in SENSOR.features}
    assert got == pytest.approx(
        {"ndvi": 0.24 / 0.36, "brightness": 0.08, "ndbi": -0.10 / 0.50, "temperature": 310.0}, rel=1e-6
    )
    assert [f.name for f in SENSOR.features if not f.restless] == ["temperature"]


def test_a_real_time_scene_is_the_older_processing_of_the_same_acquisition():
    real_time, final = SAME_TRUTH[0][0], item(product=PRODUCT.replace("20240106", "20240122"))
    assert landsat.acquisition(real_time) == landsat.acquisition(final) == "landsat-9 126051 20240105"
    assert landsat.processing(real_time) == "20240106 RT"
    assert landsat.processing(real_time) < landsat.processing(final) == "20240122 T1"


def test_the_day_of_processing_is_that_of_the_file_whatever_its_folder_is_called():
    plain = item()
    for asset in plain["assets"].values():
        asset["href"] = asset["href"].replace("example.com/", f"example.com/{plain['id']}/")
    assert landsat.processing(plain) == landsat.processing(item()) == "20240106 T1"


def test_an_acquisition_is_known_by_the_products_name_alone():
    bare = item(landsat__wrs_path=None, landsat__wrs_row=None, platform=None)
    assert landsat.acquisition(bare) == landsat.acquisition(item())
    assert landsat.version(bare) == landsat.version(item()) == "landsat-9 collection 02"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"platform": "landsat-7"}, "only Landsat 8 and 9"),
        ({"platform": "LANDSAT_5"}, "only Landsat 8 and 9"),
        ({"landsat__collection_category": "T2"}, "Tier 2"),
        ({"view__off_nadir": 14.2}, "14.2 degrees aside"),
        ({"view__off_nadir": -14.2}, "14.2 degrees aside"),
        ({"view__off_nadir": "unknown"}, ""),
        ({"landsat__collection_category": "RT"}, ""),
        ({"platform": "LANDSAT_8"}, ""),
        ({}, ""),
    ],
)
def test_what_is_not_wanted(changed, reason):
    found = landsat.unsuited(item(**changed))
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_scene_without_temperature_is_not_wanted():
    cold = item()
    del cold["assets"]["lwir11"]["href"]  # as in real items of the Planetary Computer's first Landsat collection
    assert "no surface temperature" in landsat.unsuited(cold)
    del cold["assets"]["lwir11"]
    assert "no surface temperature" in landsat.unsuited(cold)


# ------------------------------------------------------------------------------------------------ real items


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "acquired", "cloud", "processing", "acquisition", "version"),
    [
        # Read off the files by eye.
        (
            "LC08_L2SP_047027_20201204_02_T1",
            "2020-12-04T19:02:11.194486+00:00",
            1.55,
            "20210313 T1",
            "landsat-8 047027 20201204",
            "landsat-8 collection 02",
        ),
        (
            "LC09_L2SP_010065_20220129_02_T1",
            "2022-01-29T15:28:34.396428+00:00",
            21.12,
            "20220131 T1",
            "landsat-9 010065 20220129",
            "landsat-9 collection 02",
        ),
    ],
)
def test_real_items(shared, name, acquired, cloud, processing, acquisition, version):
    path = shared / "series" / "stac-items" / "stactools-landsat" / f"examples_landsat-c2-l2_{name}_{name}.json"
    real = json.loads(path.read_text())
    for asset in real["assets"].values():
        asset["href"] = "https://example.com/" + asset["href"].rsplit("/", 1)[-1]
    assert real["collection"] in SENSOR.collections
    assert landsat.unsuited(real) == ""
    scene = to_scene(real, SENSOR, "test", remote_rule(None))
    assert scene.scene_id == name
    assert scene.acquired.isoformat() == acquired
    assert (scene.cloud_percent, scene.processing, scene.acquisition) == (cloud, processing, acquisition)
    assert (scene.version, scene.look) == (version, "nadir")
    tails = {band: asset.href.split("_T1_")[1] for band, asset in scene.assets.items()}
    assert tails == {
        "blue": "SR_B2.TIF",
        "green": "SR_B3.TIF",
        "red": "SR_B4.TIF",
        "nir": "SR_B5.TIF",
        "swir16": "SR_B6.TIF",
        "lwir11": "ST_B10.TIF",
        "qa_pixel": "QA_PIXEL.TIF",
        "qa_radsat": "QA_RADSAT.TIF",
    }
    for band, asset in scene.assets.items():
        expected = (1.0, 0.0) if band.startswith("qa") else (0.00341802, 149.0) if band == "lwir11" else (2.75e-5, -0.2)
        assert (asset.calibration.scale, asset.calibration.offset) == expected


@pytest.mark.shared
def test_bits_are_where_real_items_say_they_are(shared):
    name = "LC09_L2SP_010065_20220129_02_T1"
    path = shared / "series" / "stac-items" / "stactools-landsat" / f"examples_landsat-c2-l2_{name}_{name}.json"
    assets = json.loads(path.read_text())["assets"]
    at = {
        field["name"]: (1 << field["length"]) - 1 << field["offset"]
        for key in ("qa_pixel", "qa_radsat")
        for field in assets[key]["classification:bitfields"]
    }
    assert at["fill"] == landsat.FILL
    assert at["dilated_cloud"] | at["cirrus"] | at["cloud"] | at["cloud_shadow"] == landsat.CLOUDS
    assert at["snow"] == landsat.SNOW
    assert at["cloud_confidence"] == landsat.CLOUD_CONFIDENCE
    assert sum(at[f"band{k}"] for k in (2, 3, 4, 5, 6)) == landsat.SATURATED
    assert at["occlusion"] == landsat.OCCLUDED
    assert assets["qa_pixel"]["raster:bands"][0]["nodata"] == landsat.calibrate(item(), "qa_pixel").nodata


@pytest.mark.shared
def test_all_real_landsat_items_give_a_scene_or_a_reason(shared):
    """Every item of every Landsat collection at hand, whichever satellite, level or catalogue it is of."""
    folder = shared / "series" / "stac-items"
    items = json.loads((folder / "pystac-client" / "landsat-8-c2-l2.json").read_text())["features"]
    for path in [*folder.glob("stactools-landsat/*.json"), *folder.glob("odc-stac/L*.json")]:
        found = json.loads(path.read_text())
        if found["type"] == "Feature":
            items.append(found)
    assert len(items) >= 90
    outcomes = Counter()
    for real in items:
        reason = landsat.unsuited(real)
        for text in (SENSOR.look, SENSOR.version, SENSOR.acquisition, SENSOR.processing):
            assert text(real)
        outcomes[reason.split(":")[0] or "wanted"] += 1
    # By hand: the two Tier 1 items of Landsat 8 and 9 with reflectance and temperature in one.
    assert outcomes["wanted"] == 2
    assert outcomes["it is a Tier 2 scene"] >= 31
    assert sum(n for reason, n in outcomes.items() if "no surface temperature" in reason) >= 29


# ---------------------------------------------------------------------------------------------------- real files

ROWS, COLS = 12, 16
LEFT, TOP = 300_015.0, 1_199_985.0  # Landsat's corners lie at odd multiples of 15 m
TRUTH = {"blue": 0.05, "green": 0.08, "red": 0.06, "nir08": 0.30, "swir16": 0.20, "lwir11": 305.0}


def write_scene(folder, platform, when, tier, cloud):
    """One scene with flat ground as files and an item; under ``cloud`` it is white, cold and marked as cloud."""
    number = platform[-1]
    name = f"LC0{number}_L2SP_126051_{when:%Y%m%d}_02_{tier}"
    bounds = transform_bounds("EPSG:32648", "EPSG:4326", LEFT, TOP - 30 * ROWS, LEFT + 30 * COLS, TOP)
    made = pystac.Item(
        name,
        mapping(box(*bounds)),
        list(bounds),
        when,
        {
            "platform": platform,
            "landsat:collection_number": "02",
            "landsat:collection_category": tier,
            "landsat:wrs_path": "126",
            "landsat:wrs_row": "051",
            "eo:cloud_cover": 12.0,
        },
        collection="landsat-c2-l2",
    )
    quality = np.where(cloud, 22_280, 21_824).astype(np.uint16)
    # Stored numbers from the USGS page's rule turned round, not from the code under test.
    stored = {k: np.full((ROWS, COLS), round((v + 0.2) / 0.0000275)) for k, v in TRUTH.items() if k != "lwir11"}
    stored |= {"lwir11": np.full((ROWS, COLS), round((305.0 - 149.0) / 0.00341802))}
    for values in stored.values():
        values[cloud] = 40_000
    stored["lwir11"][cloud] = 30_000
    stored |= {"qa_pixel": quality, "qa_radsat": np.zeros((ROWS, COLS))}
    for key, values in stored.items():
        path = folder / name / f"{name}_{key}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "GTiff",
            "width": COLS,
            "height": ROWS,
            "count": 1,
            "crs": "EPSG:32648",
            "transform": Affine(30, 0, LEFT, 0, -30, TOP),
            "dtype": "uint16",
            "nodata": {"qa_pixel": 1, "qa_radsat": None}.get(key, 0),
        }
        with rasterio.open(path, "w", **profile) as file:
            file.write(values.astype(np.uint16), 1)
        made.add_asset(key, pystac.Asset(str(path), media_type=pystac.MediaType.GEOTIFF))
    return made


def test_a_scene_is_read_from_files(tmp_path):
    """Flat ground, one cloudy pixel: the features are those of the ground, and no value mixes with the cloud."""
    cloud = np.zeros((ROWS, COLS), dtype=bool)
    cloud[5, 7] = True
    day = dt.datetime(2024, 1, 5, 3, 15, tzinfo=dt.UTC)
    items = [
        write_scene(tmp_path, "landsat-9", day, "T1", cloud),
        write_scene(tmp_path, "landsat-8", day + dt.timedelta(days=8), "T2", cloud),
    ]
    save_catalog(tmp_path, items)
    settings = SearchSettings()
    place = (LEFT, TOP - 30 * ROWS, LEFT + 30 * COLS, TOP)
    scenes, skipped = catalogs.open_catalog(tmp_path, settings).search(
        transform_bounds("EPSG:32648", "EPSG:4326", *place),
        day.date(),
        dt.date(2024, 2, 1),
        SENSOR,
        settings,
    )
    assert [s.scene_id for s in scenes] == ["LC09_L2SP_126051_20240105_02_T1"]
    assert [("Tier 2" in s.reason, s.routine) for s in skipped] == [(True, True)]
    grid = Grid(epsg=32648, left=300_030.0, top=1_199_970.0, pixel_m=30.0, rows=ROWS - 1, cols=COLS - 1)
    cube, failed = stack.load(stack.by_day(scenes), SENSOR, grid)
    assert not failed
    valid = cube["valid"].values[0]
    # A value of the grid is a mean of the file's pixels (row, col) to (row + 1, col + 1): four of them hold the cloud.
    assert not valid[4:6, 6:8].any()
    assert valid[:2].all()
    assert valid[9:].all()
    expected = {"ndvi": 0.24 / 0.36, "brightness": 0.07, "ndbi": -0.10 / 0.50, "temperature": 305.0}
    for name, value in expected.items():
        got = cube[name].values[0]
        np.testing.assert_array_equal(np.isnan(got), ~valid)
        np.testing.assert_allclose(got[valid], value, atol=2e-4 if name != "temperature" else 2e-3)
