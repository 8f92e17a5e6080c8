"""A folder of granules: their names, their dates, which of two productions, and what is told of the rest."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from compoundwatch.catalogs import open_catalog
from compoundwatch.catalogs.granules import Granule, GranuleFolder, parse_name, tiles
from compoundwatch.errors import SettingsError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings
from compoundwatch.sensors import sentinel1, sentinel2
from compoundwatch.sensors.black_marble import SENSOR
from compoundwatch.stack import by_day, load
from tests import granules
from tests.support import EPSG, LEFT, SHAPE, TOP, reflectances, save_catalog, write_item

SETTINGS = SearchSettings()
YEAR = (dt.date(2025, 1, 1), dt.date(2025, 12, 31))
PLACE = (104.9, 11.5, 105.0, 11.6)


def touch(folder, *names):
    """Files of these names: the catalogue does not open them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def find(folder, bounds=PLACE, days=YEAR, sensor=SENSOR):
    return open_catalog(folder, SETTINGS).search(bounds, *days, sensor, SETTINGS)


# --------------------------------------------------------------------------------------------------------- names


def test_the_parts_of_a_name():
    assert parse_name("VNP46A2.A2025123.h28v07.002.2025130123456.h5") == Granule(
        "VNP46A2.A2025123.h28v07.002.2025130123456.h5",
        "VNP46A2",
        "snpp",
        dt.date(2025, 5, 3),
        28,
        7,
        "002",
        dt.datetime(2025, 5, 10, 12, 34, 56, tzinfo=dt.UTC),
    )
    leap = parse_name("VJ146A2.A2024366.h00v17.002.2025001000000.h5")
    assert (leap.platform, leap.day) == ("noaa20", dt.date(2024, 12, 31))
    assert leap.bounds == (-180, -90, -170, -80)


@pytest.mark.parametrize(
    "name",
    [
        "VNP46A2.A2025123.h28v07.002.2025130123456.hdf",
        "VNP46A2.A2025123.h28v07.002.2025130123456.h5.part",
        "VNP46A2.A2025123.h28v07.002.2025130123456 (1).h5",
        "VNP46A2.A2025123.h28v07.002.2025130123456.h5\n",
        "VNP46A2.A2025000.h28v07.002.2025130123456.h5",
        "VNP46A2.A2025366.h28v07.002.2025130123456.h5",
        "VNP46A2.A2025123.h36v07.002.2025130123456.h5",
        "VNP46A2.A2025123.h28v18.002.2025130123456.h5",
        "VNP46A2.A2025123.h28v07.002.2025130256161.h5",
        "MOD11A1.A2025123.h28v07.061.2025130123456.h5",
        "../VNP46A2.A2025123.h28v07.002.2025130123456.h5",
        "lights.h5",
        "",
    ],
)
def test_no_name_of_a_granule(name):
    assert parse_name(name) is None


@pytest.mark.parametrize(
    ("column", "hour", "local"),
    [
        (28, 18.5, "2025-05-04 01:30"),  # 105 degrees east: in the evening in UTC, the next day there
        (18, 1 + 10 / 60, "2025-05-03 01:30"),  # 5 degrees east
        (20, 23 + 50 / 60, "2025-05-04 01:30"),  # 25 degrees east, two hours ahead of UTC
        (10, 6.5, "2025-05-03 01:30"),  # 75 degrees west
        (0, 13 + 10 / 60, "2025-05-03 01:30"),
        (35, 13 + 50 / 60, "2025-05-04 01:30"),
    ],
)
def test_a_scene_is_dated_by_the_night_pass_within_its_day_in_utc(column, hour, local):
    granule = parse_name(granules.name(tile=(column, 7)))
    assert granule.acquired == dt.datetime(2025, 5, 3, tzinfo=dt.UTC) + dt.timedelta(hours=hour)
    longitude = -180 + 10 * column + 5
    assert f"{granule.acquired + dt.timedelta(hours=longitude / 15):%Y-%m-%d %H:%M}" == local


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [
        (PLACE, {(28, 7)}),
        ((99.9, 9.9, 100.1, 10.1), {(27, 7), (28, 7), (27, 8), (28, 8)}),
        ((-0.1, -0.2, -0.05, -0.1), {(17, 9)}),
    ],
)
def test_tiles_under_a_place(bounds, wanted):
    assert tiles(bounds) == wanted
    for column, row in wanted:
        west, south, east, north = parse_name(granules.name(tile=(column, row))).bounds
        assert west <= bounds[2]
        assert bounds[0] <= east
        assert south <= bounds[3]
        assert bounds[1] <= north


# -------------------------------------------------------------------------------------------------------- search


def test_scenes_are_sorted_and_of_both_satellites(tmp_path):
    days = [granules.BASE + dt.timedelta(days=k) for k in (2, 0, 1)]
    for day in days:
        touch(tmp_path, granules.name(day), "deeper/" + granules.name(day, "VJ146A2"))
    scenes, skipped = find(tmp_path)
    assert skipped == []
    assert [(s.acquired.date(), s.look) for s in scenes] == [
        (day, look) for day in sorted(days) for look in ("noaa20", "snpp")
    ]
    assert scenes[0].scene_id == granules.name(granules.BASE, "VJ146A2")[:-3]
    assert {s.version for s in scenes} == {"snpp collection 002", "noaa20 collection 002"}
    radiance = scenes[1].assets["radiance"]
    assert radiance.href == str((tmp_path / granules.name()).resolve())
    assert radiance.layer == "HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields/DNB_BRDF-Corrected_NTL"
    assert radiance.corner == (100.0, 20.0, pytest.approx(15 / 3600))


def test_only_the_tiles_and_days_asked_for(tmp_path):
    touch(
        tmp_path,
        granules.name(),
        granules.name(tile=(27, 7)),
        granules.name(tile=(28, 8)),
        granules.name(dt.date(2024, 12, 31)),
        granules.name(dt.date(2026, 1, 1)),
        granules.name(product="VNP46A3"),
    )
    scenes, skipped = find(tmp_path)
    assert [s.scene_id for s in scenes] == [granules.name()[:-3]]
    assert skipped == []
    both, _ = find(tmp_path, (99.9, 11.5, 100.1, 11.6))
    assert len(both) == 2
    first, _ = find(tmp_path, days=(dt.date(2024, 12, 31), dt.date(2024, 12, 31)))
    assert [s.acquired.date() for s in first] == [dt.date(2024, 12, 31)]


def test_the_newest_production_of_a_night_is_kept(tmp_path):
    old, new = granules.name(produced="2025124000000"), granules.name(produced="2025124000001")
    other = granules.name(product="VJ146A2", produced="2025124000000")
    touch(tmp_path, new, "again/" + old, other)
    scenes, skipped = find(tmp_path)
    assert {s.scene_id for s in scenes} == {new[:-3], other[:-3]}
    assert [(s.item_id, s.routine) for s in skipped] == [(old[:-3], True)]
    assert new[:-3] in skipped[0].reason


def test_collection_1_is_left_out_with_a_reason(tmp_path):
    first = granules.name(collection="001")
    touch(tmp_path, first, granules.name())
    scenes, skipped = find(tmp_path)
    assert [s.scene_id for s in scenes] == [granules.name()[:-3]]
    assert [(s.item_id, s.routine) for s in skipped] == [(first[:-3], True)]
    assert "collection 001" in skipped[0].reason


def test_a_name_that_is_not_understood_is_told(tmp_path):
    touch(tmp_path, granules.name(), "VNP46A2.A2025124.h28v07.002 (1).h5", "notes.txt")
    scenes, skipped = find(tmp_path)
    assert len(scenes) == 1
    assert [(s.item_id, s.routine) for s in skipped] == [("VNP46A2.A2025124.h28v07.002 (1).h5", False)]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    touch(tmp_path, "outside/secret.h5", "folder/" + granules.name())
    (tmp_path / "folder" / granules.name(product="VJ146A2")).symlink_to(tmp_path / "outside" / "secret.h5")
    scenes, skipped = find(tmp_path / "folder")
    assert [s.look for s in scenes] == ["snpp"]
    assert "outside the folder" in skipped[0].reason


def test_a_folder_with_a_strange_name(tmp_path):
    folder = tmp_path / "night lights 100%20 #1"
    touch(folder, granules.name())
    scenes, skipped = find(folder)
    assert skipped == []
    assert scenes[0].assets["snow"].href == str(folder.resolve() / granules.name())


def test_what_the_folder_serves(tmp_path):
    touch(tmp_path, granules.name())
    catalog = open_catalog(tmp_path, SETTINGS)
    assert isinstance(catalog, GranuleFolder)
    assert catalog.serves(SENSOR)
    assert not catalog.serves(sentinel2.SENSOR)


def test_an_empty_folder_is_no_catalogue(tmp_path):
    with pytest.raises(SettingsError, match="with granules"):
        open_catalog(tmp_path, SETTINGS)


def test_granules_beside_a_stac_catalogue_are_found(tmp_path):
    """One folder holds both: each sensor gets its own."""
    save_catalog(tmp_path, [write_item(tmp_path, "day", "2025-05-01T03:30:00", reflectances())])
    assert not open_catalog(tmp_path, SETTINGS).serves(SENSOR)
    touch(tmp_path, "granules/" + granules.name())
    for location in (tmp_path, tmp_path / "catalog.json"):
        catalog = open_catalog(location, SETTINGS)
        assert catalog.serves(SENSOR)
        assert catalog.serves(sentinel2.SENSOR)
        assert [s.look for s in find(location)[0]] == ["snpp"]
        day = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE).lonlat_bounds
        assert [s.scene_id for s in find(location, day, sensor=sentinel2.SENSOR)[0]] == ["day"]
    assert not open_catalog(tmp_path, SETTINGS).serves(sentinel1.SENSOR)
    assert find(tmp_path, sensor=sentinel1.SENSOR) == ([], [])


def test_a_place_without_granules_or_items_is_no_catalogue(tmp_path):
    touch(tmp_path, "granules/" + granules.name())
    with pytest.raises(SettingsError, match="found no file"):
        open_catalog(tmp_path / "items.json", SETTINGS)


def test_two_tiles_of_a_night_are_one_mosaic_without_a_gap(tmp_path):
    """A site across 110 degrees east: the stack has one day, each half from its own granule."""
    row = 2010
    granules.write(tmp_path / granules.name(tile=(28, 7)), np.full((12, 6), 10.0), row, 2394)
    granules.write(tmp_path / granules.name(tile=(29, 7)), np.full((12, 6), 20.0), row, 0)
    grid = Grid(32649, 391_000.0 - 400, 1_284_000.0, 50.0, 20, 30)
    west, _, east, _ = grid.lonlat_bounds
    assert west < 110 < east
    scenes, _ = find(tmp_path, grid.lonlat_bounds)
    assert len(scenes) == 2
    stack, skipped = load(by_day(scenes), SENSOR, grid)
    assert skipped == []
    assert stack.sizes["time"] == 1
    lights = np.exp(stack["lights"].values[0]) - 0.5
    assert stack["valid"].values.all()
    np.testing.assert_allclose(lights[:, 0], 10, rtol=1e-5)
    np.testing.assert_allclose(lights[:, -1], 20, rtol=1e-5)
    assert set(np.round(np.unique(lights))) == {10, 20}
