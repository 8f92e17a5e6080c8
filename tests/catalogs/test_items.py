"""Items are hostile until checked; duplicates count once."""

from __future__ import annotations

import datetime as dt

import pytest

from compoundwatch import sensors
from compoundwatch.catalogs.items import folder_rule, newest, parse_time, remote_rule, select, to_scene
from compoundwatch.errors import CatalogError
from compoundwatch.model import SearchSettings
from compoundwatch.sensors.sentinel2 import SENSOR

HOST = "https://imagery.example.org/"


def item(
    name="a",
    when="2024-05-01T03:30:00Z",
    baseline="05.11",
    cloud=5.0,
    geometry=True,
    collection="sentinel-2-l2a",
    **properties,
):
    ring = [[103, 10], [104, 10], [104, 11], [103, 11], [103, 10]]
    return {
        "id": name,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]} if geometry else None,
        "properties": {
            "datetime": when,
            "platform": "sentinel-2a",
            "grid:code": "MGRS-48PUA",
            "s2:processing_baseline": baseline,
            "eo:cloud_cover": cloud,
            **properties,
        },
        "assets": {b: {"href": f"{HOST}{name}/{b}.tif"} for b in ("blue", "green", "red", "nir", "swir16", "scl")},
    }


def find(items, start=dt.date(2024, 1, 1), end=dt.date(2024, 12, 31), bounds=(103.4, 10.4, 103.5, 10.5), settings=None):
    return select(items, bounds, start, end, SENSOR, settings or SearchSettings(), "test", remote_rule(None))


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "relative.tif",
        "ftp://example.org/a.tif",
        "s3://bucket/a.tif",
        "/vsicurl/https://example.org/a.tif",
        "http://127.0.0.1/a.tif",
        "http://localhost:8000/a.tif",
        "http://[::1]/a.tif",
        "http://10.1.2.3/a.tif",
        "http://192.168.1.1/a.tif",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/a.tif",
        "http://0x7f000001/a.tif",
        "http://metadata.google.internal/a.tif",
        "https://user:secret@example.org/a.tif",
        "https:///a.tif",
    ],
)
def test_a_remote_catalogue_cannot_make_us_read_inside(href):
    with pytest.raises(CatalogError) as error:
        remote_rule("imagery.example.org")(href)
    assert "secret" not in str(error.value)


def test_a_catalogue_may_name_its_own_host():
    assert remote_rule("127.0.0.1")("http://127.0.0.1:9000/a.tif") == "http://127.0.0.1:9000/a.tif"


def test_a_folder_may_name_its_own_files_only(tmp_path):
    root = tmp_path / "catalog"
    (root / "a").mkdir(parents=True)
    rule = folder_rule(root)
    assert rule(str(root / "a" / "red.tif")) == str(root / "a" / "red.tif")
    assert rule(HOST + "red.tif") == HOST + "red.tif"
    (root / "link").symlink_to("/etc")
    for bad in (
        str(tmp_path / "other.tif"),
        f"{root}/../other.tif",
        f"{root}/link/passwd",
        f"file://{tmp_path}/other.tif",
    ):
        with pytest.raises(CatalogError, match="outside the folder"):
            rule(bad)


@pytest.mark.parametrize(
    "broken",
    [
        {"id": "x"},
        {"id": "x", "properties": {}, "assets": {}},
        {"id": "x", "properties": {"datetime": "yesterday"}, "assets": {}},
        {"id": "x", "properties": None, "assets": None},
        item(cloud="much"),
        {**item(), "geometry": {"type": "Polygon", "coordinates": "none"}},
        {**item(), "assets": {"red": {}}},
    ],
)
def test_a_broken_item_is_told_and_left_out(broken):
    with pytest.raises(CatalogError, match="item"):
        to_scene(broken, SENSOR, "test", remote_rule(None))
    scenes, skipped = find([{**broken, "collection": "sentinel-2-l2a"}, item()])
    assert [s.scene_id for s in scenes] == ["a"]
    assert len(skipped) == 1
    assert not skipped[0].routine


def test_what_the_server_did_not_filter_is_filtered_here():
    items = [
        item("in"),
        item("too early", "2023-12-31T03:30:00Z"),
        item("too late", "2025-01-01T03:30:00Z"),
        item("cloudy", "2024-05-06T03:30:00Z", cloud=95.0),
        item("other product", collection="sentinel-2-l1c"),
    ]
    scenes, skipped = find(items)
    assert [s.scene_id for s in scenes] == ["in"]
    assert [(s.item_id, s.routine) for s in skipped] == [("cloudy", True)]
    assert find(items, bounds=(110.0, 10.0, 110.1, 10.1))[0] == []


def test_the_newest_processing_wins_and_the_older_stays_on_record():
    scenes, skipped = find(
        [item("new", baseline="05.11"), item("old", baseline="03.01"), item("other day", "2024-05-06T03:30:00Z")]
    )
    assert [s.scene_id for s in scenes] == ["new", "other day"]
    assert [(s.item_id, s.routine) for s in skipped] == [("old", True)]
    assert newest(list(reversed(scenes)), SENSOR)[0] == scenes


def test_the_better_collection_wins_between_equal_processings():
    scenes, _ = find([item("plain"), item("c1", collection="sentinel-2-c1-l2a")])
    assert [s.scene_id for s in scenes] == ["c1"]


def test_too_many_scenes_are_refused():
    items = [item(f"s{k}", f"2024-05-{k + 1:02d}T03:30:00Z") for k in range(5)]
    with pytest.raises(CatalogError, match="max_scenes = 4"):
        find(items, settings=SearchSettings(max_scenes=4))


def test_times_are_utc():
    assert parse_time("2024-05-01T10:30:00+07:00") == dt.datetime(2024, 5, 1, 3, 30, tzinfo=dt.UTC)
    assert parse_time("2024-05-01T03:30:00") == dt.datetime(2024, 5, 1, 3, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "broken", [{"properties": None}, {"assets": None}, {"assets": {"red": None}}, {"properties": {"platform": 8}}]
)
def test_an_item_that_no_sensor_can_read_is_told_and_does_not_stop_the_search(broken):
    for sensor in sensors.available().values():
        items = [item(collection=sensor.collections[0]) | broken]
        place, settings = (103.4, 10.4, 103.5, 10.5), SearchSettings()
        days = (dt.date(2024, 1, 1), dt.date(2024, 12, 31))
        scenes, skipped = select(items, place, *days, sensor, settings, "test", remote_rule(None))
        assert scenes == []
        assert [s.item_id for s in skipped] == ["a"]
        assert skipped[0].reason


@pytest.mark.parametrize(
    ("links", "wanted"),
    [
        ([{"rel": "self", "href": f"{HOST}items/a"}], f"{HOST}items/a"),
        ([{"rel": "root", "href": HOST}, {"rel": "self", "href": f"{HOST}items/a?x=1"}], f"{HOST}items/a?x=1"),
        ([{"rel": "self", "href": "file:///etc/passwd"}], ""),
        ([{"rel": "self", "href": "http://127.0.0.1/a"}], ""),
        ([{"rel": "root", "href": HOST}], ""),
        (None, ""),
    ],
)
def test_a_scene_knows_its_own_record(links, wanted):
    assert to_scene({**item(), "links": links}, SENSOR, "test", remote_rule(None)).href == wanted
