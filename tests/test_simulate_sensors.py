"""Several sensors at one made-up region: one catalogue, valid files, streams that do not touch, harder worlds."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rio_cogeo import cog_validate

from compoundwatch.errors import SettingsError
from compoundwatch.simulate import STRESS, Conditions, plan, simulate, sky, views
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.fields import aside
from compoundwatch.simulate.scenarios import site_story

START, END = dt.date(2023, 1, 2), dt.date(2023, 7, 20)
DAY_SENSORS = ("sentinel2", "sentinel1", "landsat")
SMALL = {"scenarios": ("demolished", "unchanged"), "site_m": (110, 140), "controls": 2, "start": START, "end": END}
PLAN = (SMALL["scenarios"], day_number(START), day_number(END), SMALL["site_m"], 2, 6, (0.58, 0.72))


def write(folder: Path, seed: int = 3, **settings):
    given = SMALL | {"sensors": DAY_SENSORS, "revisit_days": 30}
    return simulate(folder, np.random.default_rng(seed), **(given | settings))


def items_of(made, collection):
    paths = sorted((made.folder / collection).glob("*/*.json"))
    return [json.loads(p.read_text(encoding="utf-8")) for p in paths]


def read(made, item, key):
    with rasterio.open(made.folder / item["collection"] / item["id"] / item["assets"][key]["href"]) as file:
        return file.read(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sensors") / "region")


@pytest.fixture(scope="module")
def truth(made):
    return json.loads(made.truth.read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------- files and items


def test_one_catalogue_holds_all_collections(made, truth):
    catalog = pystac.Catalog.from_file(made.catalog)
    children = {c.id: c for c in catalog.get_children()}
    assert sorted(children) == ["landsat-c2-l2", "sentinel-1-rtc", "sentinel-2-l2a"]
    found = {i.id for i in catalog.get_items(recursive=True)}
    assert found == {row["item_id"] for row in truth["scenes"]}
    for collection in children.values():
        low, high = collection.extent.temporal.intervals[0]
        for item in collection.get_items():
            assert low <= item.datetime <= high
            assert all(Path(a.get_absolute_href()).is_file() for a in item.assets.values())
    by_sensor = {name: sum(row["sensor"] == name for row in truth["scenes"]) for name in DAY_SENSORS}
    assert by_sensor["landsat"] == 25  # 199 days, every eighth
    assert 34 <= by_sensor["sentinel1"] <= 38  # 16 or 17 passes of each orbit, two of them in two slices
    assert by_sensor["sentinel2"] >= 7


def test_items_are_valid_stac(made):
    check = JsonSchemaSTACValidator()
    for collection in ("sentinel-1-rtc", "landsat-c2-l2", "sentinel-2-l2a"):
        for item in items_of(made, collection)[::20]:
            whole = pystac.Item.from_dict(item).to_dict(transform_hrefs=False)
            check.validate_core(whole, pystac.STACObjectType.ITEM, whole["stac_version"])


def test_every_picture_is_a_cloud_optimised_geotiff(made):
    kinds = {"sentinel-1-rtc": ("float32", -32768.0), "landsat-c2-l2": ("uint16", 0.0)}
    for collection, (dtype, nodata) in kinds.items():
        pictures = sorted(p for p in (made.folder / collection).rglob("*") if p.suffix.lower() in (".tif", ".tiff"))
        for path in pictures[::11]:
            valid, errors, warnings = cog_validate(path, strict=True)
            assert valid, (path, errors, warnings)
            with rasterio.open(path) as file:
                assert file.dtypes[0] == dtype
                assert file.crs.to_epsg() == 32648
                expected = {"QA_PIXEL": 1.0, "QA_RADSAT": None}.get(path.stem.split("_T1_")[-1], nodata)
                assert file.nodata == expected


def test_radar_items_say_what_the_planetary_computer_says(made):
    items = items_of(made, "sentinel-1-rtc")
    states = {i["properties"]["sat:orbit_state"] for i in items}
    assert states == {"ascending", "descending"}
    for item in items:
        about = item["properties"]
        assert set(item["assets"]) == {"vv", "vh"}
        assert item["id"].startswith("S1A_IW_GRDH_1SDV_")
        assert item["id"].endswith("_rtc")
        assert f"_{about['sat:absolute_orbit']:06d}_" in item["id"]
        assert about["platform"] == "SENTINEL-1A"
        assert about["sar:instrument_mode"] == "IW"
        assert about["sar:polarizations"] == ["VV", "VH"]
        assert about["sar:product_type"] == "GRD"
        assert about["sar:looks_equivalent_number"] == 4.4
        assert about["start_datetime"] < about["datetime"] < about["end_datetime"]
        assert about["sat:relative_orbit"] == {"ascending": 26, "descending": 164}[about["sat:orbit_state"]]
        assert item["assets"]["vv"]["raster:bands"][0]["nodata"] == -32768
        with rasterio.open(made.folder / item["collection"] / item["id"] / "iw-vv.rtc.tiff") as file:
            assert list(file.transform) == about["proj:transform"]
            assert [file.height, file.width] == about["proj:shape"]
    level = 10 * np.log10(np.mean([read(made, i, "vv")[read(made, i, "vv") > 0].mean() for i in items[::8]]))
    cross = 10 * np.log10(np.mean([read(made, i, "vh")[read(made, i, "vh") > 0].mean() for i in items[::8]]))
    assert -14 < level < -4
    assert 5 < level - cross < 11


def test_two_slices_of_a_pass_cover_the_region_and_agree(made):
    items = items_of(made, "sentinel-1-rtc")
    halves: dict[str, list] = {}
    for item in items:
        halves.setdefault(item["properties"]["s1:datatake_id"], []).append(item)
    pairs = [v for v in halves.values() if len(v) == 2]
    assert len(pairs) == 2
    for first, second in pairs:
        a, b = read(made, first, "vv"), read(made, second, "vv")
        missing = a == -32768, b == -32768
        assert 0.2 < missing[0].mean() < 0.8
        assert not (missing[0] & missing[1]).any()
        both = ~missing[0] & ~missing[1]
        assert 0 < both.mean() < 0.3
        assert np.array_equal(a[both], b[both])
        gap = dt.datetime.fromisoformat(second["properties"]["datetime"]) - dt.datetime.fromisoformat(
            first["properties"]["datetime"]
        )
        assert gap == dt.timedelta(seconds=25)
        assert first["properties"]["s1:slice_number"] != second["properties"]["s1:slice_number"]


def test_landsat_items_say_what_the_planetary_computer_says(made):
    for item in items_of(made, "landsat-c2-l2"):
        about = item["properties"]
        wanted = {"blue", "green", "red", "nir08", "swir16", "lwir11", "qa_pixel", "qa_radsat"}
        assert set(item["assets"]) == wanted
        number = about["platform"][-1]
        assert item["id"] == f"LC0{number}_L2SP_127053_{about['datetime'][:10].replace('-', '')}_02_T1"
        assert (about["landsat:wrs_path"], about["landsat:wrs_row"]) == ("127", "053")
        assert about["landsat:collection_category"] == "T1"
        assert about["landsat:collection_number"] == "02"
        assert about["landsat:correction"] == "L2SP"
        for key, asset in item["assets"].items():
            band = asset["raster:bands"][0]
            if key == "lwir11":
                assert (band["scale"], band["offset"], band["unit"]) == (0.00341802, 149.0, "kelvin")
            elif not key.startswith("qa_"):
                assert (band["scale"], band["offset"], band["nodata"]) == (0.0000275, -0.2, 0)
        quality, kelvin = read(made, item, "qa_pixel"), read(made, item, "lwir11") * 0.00341802 + 149.0
        clear = quality == 21824
        assert abs(about["eo:cloud_cover"] - 100 * ((quality & 12) != 0).mean()) < 0.01
        if clear.sum() > 500:
            assert 290 < np.median(kelvin[clear]) < 318
        assert (read(made, item, "qa_radsat") == 0).all()
        with rasterio.open(made.folder / item["collection"] / item["id"] / item["assets"]["red"]["href"]) as file:
            assert list(file.transform)[:6] == about["proj:transform"]
            assert file.transform.c % 30 == 15


def test_black_marble_is_asked_of_its_own_module(tmp_path):
    pytest.importorskip("h5py")
    end = START + dt.timedelta(days=125)
    made = write(tmp_path / "nights", sensors=("black_marble",), end=end)
    granules = list((made.folder / "granules").iterdir())
    assert granules
    assert made.catalog.is_file()
    truth = json.loads(made.truth.read_text(encoding="utf-8"))
    assert truth["scenes"]


# ------------------------------------------------------------------------------------------------ streams of chance


def contents(folder: Path, collection: str) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in (folder / collection).rglob("*") if p.is_file()}


def test_what_one_sensor_sees_does_not_depend_on_the_others(made, tmp_path):
    names = {"sentinel2": "sentinel-2-l2a", "sentinel1": "sentinel-1-rtc", "landsat": "landsat-c2-l2"}
    for sensor, collection in names.items():
        alone = write(tmp_path / sensor, sensors=(sensor,))
        assert [c.id for c in pystac.Catalog.from_file(alone.catalog).get_children()] == [collection]
        assert contents(alone.folder, collection) == contents(made.folder, collection)
        for name in ("sites.geojson", "events.csv", "truth.tif"):
            assert (alone.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_same_seed_same_files_and_another_seed_others(made, tmp_path):
    again, other = write(tmp_path / "again"), write(tmp_path / "other", seed=4)
    for collection in ("sentinel-1-rtc", "landsat-c2-l2"):
        assert contents(again.folder, collection) == contents(made.folder, collection)
        first = next(iter(sorted(p for p in contents(made.folder, collection) if p.suffix != ".json")))
        assert (made.folder / first).read_bytes() != (other.folder / first).read_bytes()
    assert again.truth.read_bytes() == made.truth.read_bytes()


def test_looks_can_be_had_without_files_and_are_the_same(made):
    rng = np.random.default_rng(3)
    region = plan(rng, *PLAN)
    radar = views(region, "sentinel1", START, END, rng)
    landsat = views(region, "landsat", START, END, rng)
    optical = views(region, "sentinel2", START, END, rng, 30)
    item = min(items_of(made, "sentinel-1-rtc"), key=lambda i: i["properties"]["datetime"])
    assert abs(radar[0].look().vh / read(made, item, "vh") - 1).max() < 2.0**-11
    item = min(items_of(made, "landsat-c2-l2"), key=lambda i: i["properties"]["datetime"])
    assert np.array_equal(landsat[0].look().quality, read(made, item, "qa_pixel"))
    item = min(items_of(made, "sentinel-2-l2a"), key=lambda i: i["properties"]["datetime"])
    assert np.array_equal(optical[0].look().scl, read(made, item, "scl"))
    assert [v.time for v in radar] == sorted(v.time for v in radar)
    with pytest.raises(SettingsError, match="choose from sentinel2, sentinel1, landsat"):
        views(region, "sentinel3", START, END, rng)


def test_a_stream_aside_leaves_the_generator_as_it_is():
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    one, two, three = aside(a, "radar"), aside(a, "radar"), aside(a, "landsat")
    assert a.random() == b.random()
    drawn = [g.random(4) for g in (one, two, three)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("sensors", "message"), [(("sentinel9",), "no sensor 'sentinel9'"), ((), "at least one")])
def test_unknown_sensors_are_named(tmp_path, sensors, message):
    with pytest.raises(SettingsError, match=message):
        write(tmp_path / "region", sensors=sensors)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ harder worlds


def test_conditions_say_what_they_are_and_are_kept_with_the_truth(truth):
    assert truth["conditions"] == Conditions().as_dict()
    with pytest.raises(SettingsError, match="looks lies between 1 and 50, found 0"):
        Conditions(looks=0.0)
    with pytest.raises(SettingsError, match="effect"):
        Conditions(effect=1.5)


def test_a_cloudier_world_has_the_odds_it_says():
    date, n = dt.date(2024, 1, 25), 4000
    cloudy = []
    for cloudiness in (1.0, 2.0):
        rng = np.random.default_rng(1)
        cloudy.append(np.mean([sky.cover(date, rng, cloudiness) > 0.6 for _ in range(n)]))
    odds = [c / (1 - c) for c in cloudy]
    error = 3 * np.sqrt(2 / (n * 0.3 * 0.7))
    assert abs(np.log(odds[1] / odds[0]) - np.log(2)) < error


def test_smaller_effects_shrink_every_size():
    for scenario in ("emptied", "building", "demolished", "power_cut", "reoccupied", "emptied_before_raid"):
        for seed in range(5):
            whole = site_story(scenario, 20000, np.random.default_rng(seed))
            half = site_story(scenario, 20000, np.random.default_rng(seed), 0.5)
            assert (whole.day, whole.until, whole.back, whole.raid) == (half.day, half.until, half.back, half.raid)
            for name in ("new_roof", "lost_roof", "regrowth"):
                assert np.isclose(getattr(half, name), 0.5 * getattr(whole, name))
            for name in ("activity_left", "light_left", "generator_light"):
                assert np.isclose(1 - getattr(half, name), 0.5 * (1 - getattr(whole, name)))


def test_a_stressed_world_differs_in_the_direction_it_says():
    start, end = day_number(START), day_number(END)
    worlds = {}
    for name, conditions in (("today", Conditions()), ("stress", STRESS)):
        settings = (("emptied", "demolished", "unchanged"), start, end, (150, 200), 8, 6, (0.5, 0.6), conditions)
        worlds[name] = plan(np.random.default_rng(12), *settings)
    today, stress = worlds["today"], worlds["stress"]
    place, same = (w.sites[0].story for w in (today, stress))
    assert same.activity_left > place.activity_left
    assert np.isclose(stress.sites[0].rate, 0.6 * today.sites[0].rate)
    assert stress.world.weather.moisture.mean() > today.world.weather.moisture.mean()
    dry = start + int(np.argmin(today.world.weather.moisture[0]))
    soil = today.world.cover[6] > 0.9
    bright = stress.world.reflectance(dry)[2][soil].mean() / today.world.reflectance(dry)[2][soil].mean()
    assert bright > 1.1
    wander = [np.std([np.log(y.mood) for y in w.world.yards]) for w in (today, stress)]
    assert 1.4 < wander[1] / wander[0] < 2.2
    lost = [w.world.lost_roof_share["compound-2"] for w in (today, stress)]
    assert lost[1] < lost[0]
    first, last = (views(stress, "sentinel1", START, END, np.random.default_rng(0))[k] for k in (0, -1))
    assert {first.platform, last.platform} <= {"A", "C"}
    assert {v.platform for v in views(stress, "sentinel1", START, END, np.random.default_rng(0))} == {"A", "C"}
    assert {v.platform for v in views(today, "sentinel1", START, END, np.random.default_rng(0))} == {"A"}
