"""The simulator: what it writes is what catalogues hold, and what it says is true is in the pixels."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.features import rasterize
from rio_cogeo import cog_validate
from shapely.geometry import box, shape

from compoundwatch import aoi, events
from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.simulate import (
    DEFAULT,
    DEMO,
    SCENARIOS,
    files,
    pixel_series,
    plan,
    sentinel2,
    sentinel2_files,
    simulate,
    sky,
)
from compoundwatch.simulate.fields import displaced
from compoundwatch.simulate.scenarios import SEEN_BY_DAY, TRUE_STATE, Story, control_story, site_story

START, END = dt.date(2023, 1, 2), dt.date(2024, 12, 31)
BAND_FILES = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir16": "B11", "scl": "SCL"}


def day(date: dt.date) -> int:
    return (date - dt.date(1970, 1, 1)).days


def small(folder: Path, seed: int = 7, **settings):
    given = {"scenarios": ("emptied", "building", "unchanged"), "site_m": (110, 150), "start": START, "end": END}
    given |= {"revisit_days": 10, "controls": 6}
    return simulate(folder, np.random.default_rng(seed), **(given | settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small(tmp_path_factory.mktemp("simulated") / "region")


@pytest.fixture(scope="module")
def items(made):
    paths = sorted((made.folder / "sentinel-2-l2a").glob("*/*.json"))
    return {p.parent.name: json.loads(p.read_text(encoding="utf-8")) for p in paths}


@pytest.fixture(scope="module")
def truth(made):
    return json.loads(made.truth.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def region():
    """One site per scenario over three and a half years, without files."""
    rng = np.random.default_rng(11)
    return plan(rng, SEEN_BY_DAY, day(START), day(dt.date(2026, 6, 30)), (200, 290), 8, 6, (0.4, 0.5))


def read(made, item, key) -> np.ndarray:
    """Physical values by the item's own word."""
    asset = item["assets"][key]
    with rasterio.open(made.folder / "sentinel-2-l2a" / item["id"] / asset["href"]) as file:
        values = file.read(1)
    about = asset["raster:bands"][0]
    return values if key == "scl" else values * about["scale"] + about["offset"]


def inside(place, region) -> np.ndarray:
    return rasterize([(place.outline, 1)], region.grid.shape, transform=(10, 0, 0, 0, 10, 0)).astype(bool)


def site(region, scenario):
    return region.sites[SEEN_BY_DAY.index(scenario)]


def yard(region, place) -> tuple[np.ndarray, object]:
    own = next(y for y in region.world.yards if y.place is place)
    mask = np.zeros(region.grid.shape, dtype=bool)
    mask[own.window] = own.where > 0.5 * place.rate
    return mask, own


def ndvi(ground):
    return (ground[3] - ground[2]) / (ground[3] + ground[2])


# ---------------------------------------------------------------------------------------------------------- files


def test_every_picture_is_a_cloud_optimised_geotiff(made):
    pictures = sorted(made.folder.rglob("*.tif"))
    assert len(pictures) > 6 * 70
    for path in [*pictures[::7], made.folder / "truth.tif"]:
        valid, errors, warnings = cog_validate(path, strict=True)
        assert valid, (path, errors, warnings)
        with rasterio.open(path) as file:
            assert file.crs.to_epsg() == 32648
            assert file.nodata == 0
            assert file.compression.value == "DEFLATE"
            assert file.dtypes[0] == ("uint8" if path.name == "SCL.tif" else "uint16")


def test_a_large_picture_has_overviews(tmp_path):
    from compoundwatch.grid import Grid

    values = np.arange(600 * 700, dtype=np.uint16).reshape(1, 600, 700)
    files.write_cog(tmp_path / "large.tif", values, Grid(32648, 0.0, 10000.0, 10.0, 600, 700))
    assert cog_validate(tmp_path / "large.tif", strict=True)[0]
    with rasterio.open(tmp_path / "large.tif") as file:
        assert np.array_equal(file.read(), values)


def test_catalogue_reads_as_stac_without_a_network(made, items):
    catalog = pystac.Catalog.from_file(made.catalog)
    found = list(catalog.get_items(recursive=True))
    assert sorted(i.id for i in found) == sorted(items)
    assert [c.id for c in catalog.get_children()] == ["sentinel-2-l2a"]
    collection = catalog.get_child("sentinel-2-l2a")
    low, high = collection.extent.temporal.intervals[0]
    for item in found:
        assert item.get_collection() is collection
        assert low <= item.datetime <= high
        assert Path(item.get_self_href()).is_file()
        assert item.geometry["type"] == "Polygon"
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href()).is_file()
            assert asset.href.startswith("./")
    assert box(*collection.extent.spatial.bboxes[0]).buffer(1e-6).contains(shape(found[0].geometry))


def test_items_say_what_real_items_say(made, items):
    for item in items.values():
        about = item["properties"]
        assert set(item["assets"]) == set(BAND_FILES)
        assert item["collection"] == "sentinel-2-l2a"
        assert about["datetime"][10:16] == "T03:30"
        assert about["datetime"].endswith("Z")
        assert about["earthsearch:boa_offset_applied"] is False
        assert about["proj:epsg"] == 32648
        assert about["grid:code"] in ("MGRS-48PTQ", "MGRS-48PUQ")
        assert about["created"] <= about["updated"]
        assert 40 < about["view:sun_elevation"] < 75
        shifted = about["s2:processing_baseline"] >= "04.00"
        with rasterio.open(made.folder / "sentinel-2-l2a" / item["id"] / "B04.tif") as red:
            assert [red.height, red.width] == item["assets"]["red"]["proj:shape"]
            assert list(red.transform)[:6] == item["assets"]["red"]["proj:transform"]
        for key, asset in item["assets"].items():
            assert asset["gsd"] == (20 if key in ("swir16", "scl") else 10)
            assert Path(asset["href"]).stem == BAND_FILES[key]
            if key != "scl":
                assert asset["raster:bands"][0]["scale"] == 0.0001
                assert asset["raster:bands"][0]["offset"] == (-0.1 if shifted else 0)
                assert asset["raster:bands"][0]["nodata"] == 0
    assert {i["properties"]["platform"] for i in items.values()} == {"sentinel-2a", "sentinel-2b"}


def test_footprints_agree_with_the_pictures(made, items):
    from rasterio.warp import transform_bounds

    for item in list(items.values())[::9]:
        with rasterio.open(made.folder / "sentinel-2-l2a" / item["id"] / "B02.tif") as file:
            bounds = transform_bounds(file.crs, 4326, *file.bounds)
            assert file.height != file.width
        assert np.allclose(bounds, item["bbox"], atol=1e-5)
        assert np.allclose(shape(item["geometry"]).bounds, item["bbox"], atol=1e-6)


def test_processing_baseline_changes_within_the_first_year(items, truth):
    first = {i: v["properties"] for i, v in items.items() if v["properties"]["s2:sequence"] == "0"}
    change = dt.date.fromisoformat(truth["baseline_change"])
    assert START < change < START + dt.timedelta(days=366)
    for about in first.values():
        new = dt.date.fromisoformat(about["datetime"][:10]) >= change
        assert (about["s2:processing_baseline"] >= "04.00") == new
    assert len({about["s2:processing_baseline"] for about in first.values()}) == 3


def test_the_same_truth_reads_equal_on_both_sides_of_the_baseline_change(made, items):
    again = [i for i in items.values() if i["properties"]["s2:sequence"] == "1"]
    assert len(again) == 2
    across = 0
    for new in again:
        old = items[new["id"].replace("_1_L2A", "_0_L2A")]
        assert old["properties"]["datetime"] == new["properties"]["datetime"]
        assert old["properties"]["s2:generation_time"] < new["properties"]["s2:generation_time"]
        assert old["properties"]["s2:processing_baseline"] < new["properties"]["s2:processing_baseline"]
        across += old["properties"]["s2:processing_baseline"] < "04.00"
        for key in ("blue", "nir", "swir16"):
            before, after = read(made, old, key), read(made, new, key)
            seen = before > 0.0002  # without an offset, darker than black cannot be stored
            assert seen.mean() > 0.99
            assert np.abs(before - after)[seen].max() < 1.01e-4
    assert across == 1


def test_stored_numbers_give_back_the_reflectance():
    reflectance = np.linspace(-0.05, 1.2, 400, dtype=np.float32).reshape(16, 25)
    for offset in (0.0, -0.1):
        back = sentinel2_files.stored(reflectance, offset) * 0.0001 + offset
        can_be_stored = reflectance > offset + 0.0001
        assert np.abs(back - reflectance)[can_be_stored].max() < 0.51e-4
        assert sentinel2_files.stored(reflectance, offset).min() >= 1


def test_some_days_come_as_two_overlapping_halves(items, made):
    halves: dict[str, list] = {}
    for item in items.values():
        if item["properties"]["s2:sequence"] == "0":
            halves.setdefault(item["properties"]["datetime"], []).append(item)
    pairs = [v for v in halves.values() if len(v) == 2]
    assert len(pairs) >= 3
    for left, right in pairs:
        assert left["properties"]["grid:code"] != right["properties"]["grid:code"]
        assert left["properties"]["s2:datatake_id"] == right["properties"]["s2:datatake_id"]
        common = shape(left["geometry"]).intersection(shape(right["geometry"])).area
        assert 0.1 < common / shape(left["geometry"]).area < 0.6
        start = [i["assets"]["red"]["proj:transform"][2] for i in (left, right)]
        a, b = read(made, left, "red"), read(made, right, "red")
        skip = round((start[1] - start[0]) / 10)
        assert np.array_equal(a[:, skip:], b[:, : a.shape[1] - skip])


def test_same_seed_same_bytes_and_another_seed_other_pixels(tmp_path):
    short = {"scenarios": ("emptied",), "end": START + dt.timedelta(days=160), "revisit_days": 20, "controls": 1}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        small(tmp_path / name, seed, **short)
    paths = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert paths == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / p).read_bytes() == (tmp_path / "b" / p).read_bytes() for p in paths)
    name = next(p for p in paths if p.name == "B04.tif")
    assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="new or empty"):
        small(folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(OutputError, match="found a file"):
        small(folder / "thesis.txt")


def test_nothing_is_left_behind_when_writing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_catalog", full)
    with pytest.raises(OutputError, match="No space left"):
        small(tmp_path / "new" / "region", end=START + dt.timedelta(days=130), revisit_days=30, controls=1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_used_and_progress_is_told(tmp_path):
    told = []
    (tmp_path / "empty").mkdir()
    made = small(
        tmp_path / "empty",
        end=START + dt.timedelta(days=130),
        revisit_days=30,
        controls=1,
        progress=lambda *step: told.append(step),
    )
    assert [(done, total) for _, done, total in told] == [(k, 5) for k in range(1, 6)]
    assert {p.name for p in made.folder.iterdir()} == {
        "catalog.json", "sentinel-2-l2a", "sites.geojson", "events.csv", "truth.json", "truth.tif",
    }  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scenarios": ("emptied", "haunted")}, "no scenario 'haunted'"),
        ({"scenarios": ()}, "at least one scenario"),
        ({"end": START}, "120 days"),
        ({"revisit_days": 0}, "every 1 to 60 days"),
        ({"site_m": (300, 200)}, "smallest first"),
        ({"controls": 0}, "1 to 60 controls"),
        ({"change_window": (0.7, 1.2)}, "shares"),
    ],
)
def test_wrong_settings_are_named_and_nothing_is_written(tmp_path, wrong, message):
    with pytest.raises(SettingsError, match=message):
        small(tmp_path / "region", **wrong)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ sites, events and truth


def test_areas_and_events_are_read_by_their_own_readers(made, truth):
    area = aoi.read_areas(made.areas)
    assert [s.site_id for s in area.targets] == [s["site_id"] for s in truth["sites"]]
    for place in area.targets:
        assert len(place.controls) == 6
        assert place.source == "simulated"
    announced = events.read_events(made.events, area)
    dates = {s["site_id"]: s["change_date"] for s in truth["sites"] if s["change_date"]}
    assert {e.scope[0]: e.earliest.isoformat() for e in announced} == dates
    assert {e.kind for e in announced} == {"raid"}


def test_the_region_lies_in_the_open_sea_and_is_not_square(made, items):
    from compoundwatch.grid import project

    west, south, east, north = next(iter(items.values()))["bbox"]
    assert 102.2 < west < east < 102.5
    assert 8.8 < south < north < 9.1
    for place in aoi.read_areas(made.areas).sites:
        assert 5_000 < project(place.geometry, 4326, 32648).area < 30_000
        assert box(102.2, 8.9, 102.4, 9.1).contains(place.geometry)


def test_truth_says_state_dates_and_sizes(truth):
    emptied, building, unchanged = truth["sites"]
    assert (emptied["state"], building["state"], unchanged["state"]) == ("EMPTIED", "BUILDING", "UNCHANGED")
    assert 0.03 <= emptied["activity_left"] <= 0.20
    assert 0.15 <= building["new_roof_share"] <= 0.30
    assert unchanged["change_date"] is None
    length = dt.date.fromisoformat(building["complete_date"]) - dt.date.fromisoformat(building["change_date"])
    assert 30 <= length.days <= 90
    for s in (emptied, building):
        part = (dt.date.fromisoformat(s["change_date"]) - START) / (END - START)
        assert 0.57 < part < 0.73


def test_truth_raster_marks_new_roofs_and_still_yards_inside_their_sites(made, truth):
    from compoundwatch.grid import Grid, pixel_mask

    area = aoi.read_areas(made.areas)
    with rasterio.open(made.folder / "truth.tif") as file:
        code, since = file.read()
        grid = Grid(32648, file.transform.c, file.transform.f, 10.0, *file.shape)
    emptied, building, unchanged = (pixel_mask(s.geometry, grid) for s in area.targets)
    starts = {s["site_id"]: day(dt.date.fromisoformat(s["change_date"])) for s in truth["sites"] if s["change_date"]}
    assert (code[emptied] == 3).mean() > 0.2
    assert set(since[emptied & (code == 3)]) == {starts["compound-1"]}
    roof = building & (code == 1)
    assert 0.08 < roof.sum() / building.sum() < 0.30
    assert since[roof].min() >= starts["compound-2"]
    assert (code[unchanged] == 0).all()


# -------------------------------------------------------------------------------------------- what is on the ground


def test_an_emptied_yard_falls_still(region):
    place = site(region, "emptied")
    mask, own = yard(region, place)
    before, after = place.story.day - 60, place.story.day + 60
    spread = []
    for when in (before, after):
        ground = region.world.reflectance(when)
        looks = [region.world.with_activity(ground, when, np.random.default_rng(k)) for k in range(24)]
        spread.append(np.var([x[2][mask] for x in looks], axis=0, ddof=1).mean())
    # The spread of a busy yard is that of measured yards, far above a sensor's noise of half a per cent.
    assert 0.025 < np.sqrt(spread[0]) < 0.055
    left = region.world.activity(own, after) / region.world.activity(own, before)
    assert 0.02 < left < 0.30  # 3 to 20 %, times the ups and downs of two days
    assert abs(spread[1] / spread[0] - left) < 0.35 * left


def test_the_region_stays_busy_where_nothing_happened(region):
    when = site(region, "emptied").story.day
    for place in (site(region, "unchanged"), *(c for c in region.controls if c.story.day is None and not c.in_zone)):
        _, own = yard(region, place)
        levels = np.array([region.world.activity(own, d) for d in range(when - 100, when + 100)])
        assert 0.8 < levels[100:].mean() / levels[:100].mean() < 1.25


def test_a_site_emptied_in_stages_loses_a_third_three_times(region):
    story = site(region, "emptied_in_stages").story
    lost = 1 - story.activity_left
    seen = [story.activity(story.day + k) for k in (-1, 0, 21, 22, 44, 45, 300)]
    assert np.allclose(seen, [1, *(1 - lost * np.array([1, 1, 2, 2, 3, 3]) / 3)])


def test_people_come_back_to_a_reoccupied_site(region):
    story = site(region, "reoccupied").story
    assert 60 <= story.back - story.day <= 150
    assert [story.activity(d) for d in (story.day - 1, story.back, story.back + 99)] == [1, 1, 1]
    assert 0.03 <= story.activity(story.day) <= 0.2
    assert 0.03 <= story.activity(story.back - 1) <= 0.2
    assert story.regrown(story.back + 300) == 0


def test_new_roofs_are_brighter_and_less_green_than_the_ground_before(region):
    place = site(region, "building")
    story, world = place.story, region.world
    code, since = world.truth()
    own = inside(place, region)
    roof = own & (code == 1)
    assert (since[roof] >= story.day).all()
    assert (since[roof] <= story.until).all()
    old, new = world.reflectance(story.day - 1), world.reflectance(story.day - 1 + 366)
    assert story.until < story.day + 366
    fall, rise = (ndvi(new) - ndvi(old))[roof], ((new[1] + new[2]) - (old[1] + old[2]))[roof] / 2
    assert fall.mean() < -0.25
    assert rise.mean() > 0.08
    assert (rise > 0).mean() > 0.95
    # 15 to 30 % of the ground without roof is built over, as seen in the pixels' shares too.
    built = sum(p.share.sum() for p in world.patches if p.code == 1 and own[p.window].any()) * 100
    ground = place.outline.area - sum(r.outline.area for r in place.roofs)
    assert 0.15 <= built / ground <= 0.30


def test_building_goes_on_gradually(region):
    place = site(region, "building")
    story, own = place.story, inside(place, region)
    days = np.linspace(story.day - 20, story.until + 20, 9).astype(int)
    done = [sum(p.done(d) * p.share.sum() for p in region.world.patches if own[p.window].any()) for d in days]
    assert done[0] == 0
    assert np.isclose(done[-1], done[-2], rtol=0.05)
    assert (np.diff(done) >= 0).all()
    assert 0.2 < done[4] / done[-1] < 0.8


def test_demolition_turns_half_to_four_fifths_of_the_roofs_into_rubble(region):
    place = site(region, "demolished")
    story, world = place.story, region.world
    assert 5 <= story.until - story.day <= 40
    roofs = sum(r.outline.area for r in place.roofs)
    own = inside(place, region)
    lost = sum(p.share.sum() for p in world.patches if p.code == 2 and own[p.window].any()) * 100
    assert 0.45 < lost / roofs < 0.85  # counted on cells of 2.5 m
    assert 0.5 <= world.lost_roof_share[place.place_id] <= 0.8
    code, _ = world.truth()
    rubble = own & (code == 2)
    old, new = world.reflectance(story.day - 1), world.reflectance(story.until)
    # Rubble is redder than roofs: red over blue rises, and the roofs' different colours become one.
    assert np.median((new[2] / new[0])[rubble]) > np.median((old[2] / old[0])[rubble])
    assert new[2][rubble].std() < 0.8 * old[2][rubble].std()
    rest = own & ~rubble & (np.abs(new - old).max(axis=0) > 0.05)
    assert rest.sum() < 0.25 * own.sum()  # only rims beside


def test_a_regional_event_is_shared_by_site_and_controls(region):
    world, begins = region.world, region.regional_day
    levels = {}
    for place in (*region.sites, *region.controls):
        _, own = yard(region, place)
        if place.story.day is None:
            series = np.array([world.activity(own, d) for d in range(begins - 90, begins + 100)])
            levels[place.place_id] = (series[100:].mean() / series[:90].mean(), place.in_zone)
    inside_zone = [v for v, zone in levels.values() if zone]
    outside = [v for v, zone in levels.values() if not zone]
    assert len(inside_zone) >= 6
    assert max(inside_zone) < 0.4
    assert min(outside) > 0.75
    k = world.weather.index(begins + 30)
    assert world.weather.greenness[1, k] < 0.85 * world.weather.greenness[0, k]
    before = world.weather.index(begins - 1)
    assert np.array_equal(world.weather.greenness[0, : before + 1], world.weather.greenness[1, : before + 1])


def test_weeds_come_months_later(region):
    place = site(region, "emptied")
    mask, _ = yard(region, place)
    story, green = place.story, []
    when = [story.day + 30, story.day + 300]
    with_weeds = [ndvi(region.world.reflectance(d))[mask].mean() for d in when]
    place.story = Story("emptied", story.day, activity_left=story.activity_left)
    try:
        green = [ndvi(region.world.reflectance(d))[mask].mean() for d in when]
    finally:
        place.story = story
    assert np.isclose(with_weeds[0], green[0])
    assert with_weeds[1] > green[1] + 0.01


def test_the_wet_season_greens_fields_and_darkens_soil_everywhere(region):
    march, september = (region.world.reflectance(day(dt.date(2024, m, 15))) for m in (3, 9))
    fields, soil = region.world.cover[5] > 0.95, region.world.cover[0] > 0.8
    assert ndvi(september)[fields].mean() > ndvi(march)[fields].mean() + 0.2
    assert september[2][soil].mean() < 0.9 * march[2][soil].mean()
    middle = region.grid.cols // 3
    rises = [(ndvi(september) - ndvi(march))[:, part][fields[:, part]].mean() for part in np.s_[:middle, middle:]]
    assert abs(rises[0] - rises[1]) < 0.1


def test_sites_have_six_controls_or_more_and_do_not_touch(region):
    places = (*region.sites, *region.controls)
    assert all(len(region.controls_of[s.place_id]) >= 6 for s in region.sites)
    zone = {c.place_id for c in region.controls if c.in_zone}
    assert set(region.controls_of["compound-7"]) == zone
    assert zone.isdisjoint(region.controls_of["compound-1"])
    assert {c.kind for c in region.controls} <= {"village", "market", "factory"}
    for k, a in enumerate(places):
        assert box(0, 0, 10 * region.grid.cols, 10 * region.grid.rows).contains(a.outline)
        assert all(a.outline.distance(b.outline) > 40 for b in places[k + 1 :])


def test_light_goes_with_people_and_comes_back_with_them():
    rng = np.random.default_rng(8)
    emptied, back = site_story("emptied", 20000, rng), site_story("reoccupied", 20000, rng)
    assert emptied.lights(19999) == 1
    # 85 % of the light belongs to the people: 3 to 20 % of them leave 17.5 to 32 % of it.
    assert 0.175 <= emptied.lights(20000) <= 0.32
    assert np.isclose(emptied.lights(20400), 1 - 0.85 * (1 - emptied.activity_left))
    assert back.lights(back.back - 1) < 0.33
    assert back.lights(back.back) == 1
    assert site_story("unchanged", 20000, rng).lights(20500) == 1
    staged = site_story("emptied_in_stages", 20000, rng)
    assert np.all(np.diff([staged.lights(20000 + k) for k in (-1, 0, 22, 45)]) < -0.2)
    demolished = site_story("demolished", 20000, rng)
    assert demolished.lights(demolished.until + 30) <= 1 - demolished.lost_roof


def test_a_cut_grid_takes_the_light_and_leaves_the_people():
    for seed in range(20):
        story = site_story("power_cut", 20000, np.random.default_rng(seed))
        assert {story.activity(d) for d in range(19990, 20300)} == {1.0}
        assert 1 <= story.generators - story.day <= 6
        assert story.lights(19999) == 1
        assert 0.02 <= story.lights(20000) <= 0.15
        assert story.lights(story.generators - 1) == story.lights(20000)
        assert 0.35 <= story.lights(story.generators) <= 0.65
        assert story.lights(20400) == story.lights(story.generators)
        assert (story.new_roof, story.lost_roof, story.regrowth) == (0, 0, 0)
    assert TRUE_STATE["power_cut"] == "LIGHTS_ONLY"


def test_people_leave_three_to_ten_days_before_the_raid():
    leads = []
    for seed in range(40):
        story = site_story("emptied_before_raid", 20000, np.random.default_rng(seed))
        leads.append(story.raid - story.day)
        assert story.activity(19999) == 1
        assert story.activity(20000) <= 0.2
    assert (min(leads), max(leads)) == (3, 10)
    assert TRUE_STATE["emptied_before_raid"] == "EMPTIED"


def test_a_blackout_darkens_sites_and_controls_and_nobody_leaves():
    first, last = day(START), day(dt.date(2025, 12, 31))
    made = plan(np.random.default_rng(4), ("blackout", "emptied"), first, last, (110, 150), 6, 6, (0.58, 0.72))
    begins, ends = made.blackout
    assert first + 0.57 * (last - first) < begins < first + 0.73 * (last - first)
    assert 30 <= ends - begins + 1 <= 120
    world, dark = made.world, made.sites[0]
    for place in (dark, *made.controls):
        own = next(y for y in world.yards if y.place is place)
        during, before = ([world.light(place, d) for d in range(a, a + 30)] for a in (begins, begins - 60))
        assert np.mean(during) < 0.65 * np.mean(before)
        assert max(world.light(place, d) for d in range(first, last + 1)) <= 1
        if place.story.day is None:
            activity = [world.activity(own, d) for d in range(begins - 60, ends)]
            assert 0.75 < np.mean(activity[60:]) / np.mean(activity[:60]) < 1.3
    assert world.weather.grid[world.weather.index(ends + 1) :].mean() > 0.9
    assert TRUE_STATE["blackout"] == "UNCHANGED"
    assert dark.story.day is None


def test_without_a_blackout_power_fails_for_a_night_or_so(region):
    power = region.world.weather.grid
    assert region.blackout is None
    assert 0 < (power < 1).mean() < 0.08
    assert power.min() > 0.05


def test_raids_are_announced_for_their_own_day_and_truth_keeps_both(tmp_path):
    names = ("emptied_before_raid", "power_cut", "blackout", "unchanged")
    made = small(tmp_path / "region", scenarios=names, end=START + dt.timedelta(days=200), revisit_days=40, controls=1)
    truth = json.loads(made.truth.read_text(encoding="utf-8"))
    announced = {
        e.scope[0]: e.earliest.isoformat() for e in events.read_events(made.events, aoi.read_areas(made.areas))
    }
    left, cut, dark, quiet = truth["sites"]
    assert [s["state"] for s in truth["sites"]] == ["EMPTIED", "LIGHTS_ONLY", "UNCHANGED", "UNCHANGED"]
    lead = dt.date.fromisoformat(left["raid_date"]) - dt.date.fromisoformat(left["change_date"])
    assert 3 <= lead.days <= 10
    assert announced == {
        left["site_id"]: left["raid_date"], cut["site_id"]: cut["change_date"],
        dark["site_id"]: truth["blackout_dates"][0],
    }  # fmt: skip
    assert cut["light_left"] < cut["generator_light"] < 1
    assert quiet["raid_date"] is None is quiet["generator_date"]


def test_drawn_sizes_stay_within_their_bounds():
    rng = np.random.default_rng(5)
    for name in SCENARIOS:
        stories = [site_story(name, 20000, rng) for _ in range(200)]
        assert all(0.03 <= s.activity_left <= 1.3 for s in stories)
    n = 4000
    changed = np.mean([control_story(19000, 20000, rng).day is not None for _ in range(n)])
    assert abs(changed - 1 / 8) < 3 * np.sqrt(1 / 8 * 7 / 8 / n)


# --------------------------------------------------------------------------------------- how Sentinel-2 sees it


def test_a_shift_moves_the_picture_by_what_it_says():
    y, x = np.mgrid[0:31, 0:40].astype(np.float32)
    spot = np.exp(-((y - 14) ** 2 + (x - 22) ** 2) / (2 * 1.5**2)).astype(np.float32)
    moved = displaced(spot, 0.4, -0.3)
    total = moved.sum()
    assert abs((moved * y).sum() / total - 14.4) < 0.005
    assert abs((moved * x).sum() / total - 21.7) < 0.005
    assert np.array_equal(displaced(spot, 0.0, 0.0), spot)


def test_a_scene_lies_off_by_its_recorded_shift(region):
    ground = region.world.reflectance(day(dt.date(2024, 2, 1)))
    for seed in range(4):
        scene = sentinel2.look(ground, dt.date(2024, 2, 1), "A", np.random.default_rng(seed), cloud_share=0.0)
        nir, truth_nir = scene.bands["nir"], ground[3]
        gy, gx = np.gradient(truth_nir)
        design = np.column_stack([gy.ravel(), gx.ravel(), truth_nir.ravel(), np.ones(gy.size)])
        slope = np.linalg.lstsq(design, (nir - truth_nir).ravel(), rcond=None)[0]
        assert np.allclose(-slope[:2], scene.shift, atol=0.08)


def test_shifts_are_a_quarter_of_a_pixel_and_at_most_half(truth):
    shifts = np.array([[s["shift_x_m"], s["shift_y_m"]] for s in truth["scenes"]])
    assert np.abs(shifts).max() <= 5.0
    assert abs(shifts.std() - 2.4) < 3 * 2.4 / np.sqrt(2 * shifts.size)
    assert np.abs(shifts.mean(axis=0)).max() < 3 * 2.5 / np.sqrt(len(shifts))


def test_a_clear_scene_is_the_ground_within_gain_haze_and_noise(region):
    ground = region.world.reflectance(day(dt.date(2024, 2, 1)))
    scene = sentinel2.look(ground, dt.date(2024, 2, 1), "A", np.random.default_rng(1), cloud_share=0.0)
    assert scene.cloud_percent == 0
    assert scene.missed_cloud is None
    half = (ground.shape[1] // 2, ground.shape[2] // 2)
    assert scene.bands["swir16"].shape == scene.scl.shape == half
    for b, name in enumerate(("blue", "green", "red", "nir")):
        assert np.corrcoef(scene.bands[name].ravel(), ground[b].ravel())[0, 1] > 0.93
        assert abs(np.median(scene.bands[name] - ground[b])) < 0.05
    assert np.median(scene.bands["blue"] - ground[0]) > np.median(scene.bands["nir"] - ground[3]) - 0.02
    assert 0.85 < np.isin(scene.scl, (4, 5)).mean() <= 1
    rough = ndvi([scene.bands[k][::2, ::2] for k in ("blue", "green", "red", "nir")])
    assert rough[scene.scl == 4].mean() > rough[scene.scl == 5].mean() + 0.15
    water = region.world.cover[7][::2, ::2] > 0.95
    assert (scene.scl[water] == 6).mean() > 0.7


def test_scenes_repeat_within_noise_on_unchanging_ground(region):
    """The difference of two looks at the same ground is misregistration, haze, gain and noise: about one per cent."""
    ground = region.world.reflectance(day(dt.date(2024, 2, 1)))
    looks = [sentinel2.look(ground, dt.date(2024, 2, 1), "A", np.random.default_rng(k), 0.0).bands for k in (1, 2)]
    forest = region.world.cover[4] > 0.98
    spread = (looks[1]["red"] - looks[0]["red"])[forest].std() / np.sqrt(2)
    assert 0.0025 < spread < 0.010


def test_scl_codes_are_sentinel_codes_and_clouds_are_counted_honestly(made, items, truth):
    rows = {r["item_id"]: r for r in truth["scenes"]}
    for name, item in items.items():
        scl = read(made, item, "scl")
        assert set(np.unique(scl)) <= {2, 3, 4, 5, 6, 7, 8, 9, 10}
        flagged = np.isin(scl, (8, 9, 10)).mean()
        assert abs(item["properties"]["eo:cloud_cover"] - 100 * flagged) < 0.01
        if item["properties"]["grid:code"] == "MGRS-48PTQ" and scl.shape[1] * 20 == 10 * max_width(items):
            assert flagged <= rows[name]["cloud_share"] + 0.15  # clouds are coarser at 20 m
        if rows[name]["cloud_share"] == 0:
            assert flagged == 0


def max_width(items) -> int:
    return max(i["assets"]["red"]["proj:shape"][1] for i in items.values())


def test_clouds_brighten_shadows_darken_and_part_of_both_is_missed(region):
    ground = region.world.reflectance(day(dt.date(2024, 2, 1)))
    missed_cloud, missed_shadow = [], []
    for seed in range(12):
        scene = sentinel2.look(ground, dt.date(2024, 2, 1), "B", np.random.default_rng(seed), cloud_share=0.3)
        assert abs((scene.opacity > 0).mean() - 0.3) < 0.01
        thick, dark = scene.opacity > 0.8, (scene.shadow > 0.5) & (scene.opacity < 0.02)
        if thick.sum() > 100:
            assert (scene.bands["blue"] - ground[0])[thick].mean() > 0.3
        if dark.sum() > 300:
            assert (scene.bands["nir"] / ground[3])[dark].mean() < 0.8
        coarse = scene.opacity.reshape(scene.scl.shape[0], 2, -1, 2).mean(axis=(1, 3))
        assert np.isin(scene.scl[coarse > 0.71], (8, 9, 10)).all()
        thin = (coarse > 0.12) & (coarse < 0.70)
        missed_cloud.append(1 - np.isin(scene.scl[thin], (8, 9, 10)).mean())
        missed_shadow.append(scene.missed_shadow)
    assert abs(np.mean(missed_cloud) - 0.15) < 0.02
    assert abs(np.mean([m for m in missed_shadow if m is not None]) - 0.30) < 0.02


def test_the_sky_is_as_cloudy_as_the_season():
    n = 3000
    for date, low, high in ((dt.date(2024, 1, 25), 0.25, 0.35), (dt.date(2024, 8, 20), 0.70, 0.80)):
        rng = np.random.default_rng(date.month)
        shares = np.array([sky.cover(date, rng) for _ in range(n)])
        error = 3 * np.sqrt(0.25 / n)
        assert low - error < (shares > 0.6).mean() < high + error
        assert ((shares >= 0) & (shares <= 1)).all()


def test_the_sun_stands_where_it_stands():
    """Noon altitudes differ; at 9 degrees north the sun is in the south in December and in the north in June."""
    december, june = sky.sun(dt.date(2024, 12, 21), 10.4), sky.sun(dt.date(2024, 6, 21), 10.4)
    assert 90 < december[1] < 180
    assert 0 < june[1] < 90
    assert december[0] < june[0]


# ------------------------------------------------------------------------------------------------- single pixels


def test_pixel_series_without_a_step_has_none():
    n = 4000
    values, days = pixel_series(np.random.default_rng(1), n, season=0.0, noise=0.03, gap_fraction=0.3)
    assert values.dtype == np.float32
    assert days.dtype == np.int64
    assert (np.diff(days) > 0).all()
    assert days[0] >= day(START)
    assert values.shape == (days.size, n)
    rise = np.nanmean(values[days.size // 2 :], axis=0) - np.nanmean(values[: days.size // 2], axis=0)
    assert abs(rise.mean()) < 3 * 0.03 * np.sqrt(4 / (0.7 * days.size)) / np.sqrt(n)
    assert abs(np.isnan(values).mean() - 0.3) < 3 * np.sqrt(0.21 / values.size)
    assert abs(np.nanstd(values - np.nanmean(values, axis=0)) - 0.03) < 0.0005


def test_pixel_series_steps_on_its_day_by_its_size():
    n, at = 2000, day(dt.date(2024, 9, 1))
    values, days = pixel_series(np.random.default_rng(2), n, step=-0.1, step_day=at, season=0.0, gap_fraction=0.0)
    fall = values[days >= at].mean(axis=0) - values[days < at].mean(axis=0)
    before, after = (days < at).sum(), (days >= at).sum()
    assert abs(fall.mean() + 0.1) < 3 * 0.03 * np.sqrt((1 / before + 1 / after) / n)
    first = np.flatnonzero(days >= at)[0]
    assert values[first].mean() - values[first - 1].mean() < -0.09


def test_pixel_series_has_a_yearly_season_and_memory_when_asked():
    values, days = pixel_series(np.random.default_rng(3), 3000, season=0.2, noise=0.01, gap_fraction=0.0)
    angle = 2 * np.pi * days / 365.25
    design = np.column_stack([np.ones(days.size), np.cos(angle), np.sin(angle)])
    fit = np.linalg.lstsq(design, values, rcond=None)[0]
    assert abs(np.hypot(fit[1], fit[2]).mean() - 0.2) < 3 * 0.2 / np.sqrt(12 * 3000) + 0.002
    noise, _ = pixel_series(np.random.default_rng(4), 3000, season=0.0, gap_fraction=0.0, memory=0.6)
    rest = noise - noise.mean(axis=0)
    assert abs((rest[1:] * rest[:-1]).mean() / (rest**2).mean() - 0.6) < 0.03  # short series pull it down a little


def test_pixel_series_refuses_what_it_cannot_give():
    for wrong in ({"gap_fraction": 1.5}, {"n_dates": 2000}, {"memory": 1.0}, {"noise": -1.0}):
        with pytest.raises(SettingsError):
            pixel_series(np.random.default_rng(0), 5, **wrong)


def test_presets_name_every_scenario():
    assert tuple(DEFAULT) == SEEN_BY_DAY == tuple(DEMO["scenarios"])
    assert (DEMO["end"] - DEMO["start"]).days // DEMO["revisit_days"] >= 105
