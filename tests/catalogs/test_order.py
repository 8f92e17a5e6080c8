"""The next catalogue is asked where one fails or has gaps; every scene counts once and says where it came from."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from compoundwatch import catalogs
from compoundwatch.catalogs import open_catalog, open_catalogs
from compoundwatch.catalogs.items import newest, remote_rule, select, to_scene
from compoundwatch.catalogs.order import InOrder, gaps
from compoundwatch.errors import CatalogError, SettingsError
from compoundwatch.model import SearchSettings
from compoundwatch.sensors.sentinel2 import SENSOR
from tests.catalogs.test_items import item
from tests.support import free_port, stac_server

SETTINGS = SearchSettings(timeout_s=5, budget_s=20)
PLACE = (103.4, 10.4, 103.5, 10.5)
SPRING = (dt.date(2024, 3, 1), dt.date(2024, 6, 30))


class Listed:
    """A catalogue of given items that remembers what it was asked, and fails when it is told to."""

    def __init__(self, name, items, fails=0, serves=True):
        self.name, self.items, self.fails, self.asked = name, items, fails, []
        self._serves = serves

    def serves(self, sensor):
        if isinstance(self._serves, Exception):
            raise self._serves
        return self._serves

    def search(self, bounds, start, end, sensor, settings):
        self.asked.append((start, end))
        if self.fails:
            self.fails -= 1
            raise CatalogError(f"catalogue {self.name} did not answer the search: status 504")
        return select(self.items, bounds, start, end, sensor, settings, self.name, remote_rule(None))


def every(days, name="s", start=SPRING[0], count=99, **properties):
    """One item every so many days over the spring."""
    found = [start + dt.timedelta(days=days * k) for k in range(count)]
    return [
        item(f"{name}-{day}", f"{day}T03:30:00Z", **{"collection": "sentinel-2-c1-l2a"} | properties)
        for day in found
        if day <= SPRING[1]
    ]


def ordered(*listed):
    known = {c.name: c for c in listed}
    return InOrder(list(known), SETTINGS, lambda place, settings: known[place])


def ask(catalog, when=SPRING):
    return catalog.search(PLACE, *when, SENSOR, SETTINGS)


def test_the_first_that_has_the_sensor_answers_alone():
    none, first, second = Listed("none", [], serves=False), Listed("first", every(5)), Listed("second", every(5))
    scenes, skipped = ask(ordered(none, first, second))
    assert len(scenes) == 25
    assert {s.catalog for s in scenes} == {"first"}
    assert skipped == []
    assert none.asked == second.asked == []


def test_the_next_one_stands_in_for_one_that_fails_and_the_failure_is_told():
    first, second = Listed("first", every(5), fails=1), Listed("second", every(5))
    scenes, skipped = ask(ordered(first, second))
    assert {s.catalog for s in scenes} == {"second"}
    assert [(s.item_id, s.routine) for s in skipped] == [("catalogue first", False)]
    assert "status 504" in skipped[0].reason


def test_one_that_fails_again_is_left_alone_and_one_that_recovers_is_not():
    first, second = Listed("first", every(5), fails=99), Listed("second", every(5))
    both = ordered(first, second)
    for _ in range(4):
        scenes, skipped = ask(both)
        assert {s.catalog for s in scenes} == {"second"}
        assert [s.routine for s in skipped] == [False]
    assert len(first.asked) == 2
    shaky = Listed("first", every(5), fails=1)
    both = ordered(shaky, second)
    assert [ask(both)[0][0].catalog for _ in range(3)] == ["second", "first", "first"]


def test_where_all_fail_the_first_reason_is_raised():
    with pytest.raises(CatalogError, match="catalogue first did not answer"):
        ask(ordered(Listed("first", [], fails=1), Listed("second", [], fails=1)))


def test_one_that_cannot_even_say_what_it_has_is_passed_over():
    mute = Listed("mute", [], serves=CatalogError("catalogue mute does not list its collections"))
    both = ordered(mute, Listed("second", every(5)))
    assert both.serves(SENSOR)
    scenes, skipped = ask(both)
    assert len(scenes) == 25
    assert [(s.item_id, s.routine) for s in skipped] == [("catalogue mute", False)]
    with pytest.raises(CatalogError, match="does not list"):
        ordered(mute).serves(SENSOR)
    assert not ordered(Listed("none", [], serves=False)).serves(SENSOR)


def test_the_next_one_is_asked_for_the_days_that_are_missing_and_no_others():
    """Scenes every 5 days, but none for 50 days from 1 April on."""
    gap = (dt.date(2024, 4, 1), dt.date(2024, 5, 21))
    all_items = every(5)
    kept = [i for i in all_items if not gap[0] <= dt.date.fromisoformat(i["properties"]["datetime"][:10]) < gap[1]]
    assert len(kept) == 15
    first = Listed("first", kept)
    second = Listed("second", every(5, "other", collection="sentinel-2-l2a"))
    scenes, skipped = ask(ordered(first, second))
    assert second.asked == [(dt.date(2024, 3, 31), dt.date(2024, 5, 25))]
    assert len(scenes) == 25
    assert [s.acquired for s in scenes] == sorted(s.acquired for s in scenes)
    within = [s for s in scenes if dt.date(2024, 3, 31) < s.acquired.date() < dt.date(2024, 5, 25)]
    assert {s.catalog for s in within} == {"second"}
    assert {s.catalog for s in scenes if s not in within} == {"first"}
    assert all(s.routine for s in skipped)
    assert {s.item_id for s in skipped} == {"catalogue first", "other-2024-03-31", "other-2024-05-25"}


def test_nothing_at_all_is_a_gap():
    first, second = Listed("first", []), Listed("second", every(5))
    scenes, skipped = ask(ordered(first, second))
    assert len(scenes) == 25
    assert second.asked == [SPRING]
    assert all(s.routine for s in skipped)


def test_clouds_of_a_few_weeks_are_no_gap():
    first = Listed("first", every(25))
    second = Listed("second", every(5))
    assert len(ask(ordered(first, second))[0]) == 5
    assert second.asked == []


def test_a_gap_that_nobody_fills_costs_nothing_but_the_question():
    first, second = Listed("first", every(40)), Listed("second", [])
    scenes, skipped = ask(ordered(first, second))
    assert {s.catalog for s in scenes} == {"first"}
    assert all(s.routine for s in skipped)


def test_days_before_the_first_and_after_the_last_scene_are_gaps_too():
    (one,) = [to_scene(i, SENSOR, "a", remote_rule(None)) for i in every(5, start=dt.date(2024, 5, 1), count=1)]
    assert gaps([one], dt.date(2024, 4, 1), dt.date(2024, 5, 31), SENSOR) is None
    assert gaps([one], dt.date(2024, 3, 31), dt.date(2024, 5, 31), SENSOR) == (
        dt.date(2024, 3, 31),
        dt.date(2024, 5, 1),
    )
    assert gaps([one], dt.date(2024, 3, 1), dt.date(2024, 5, 31), SENSOR) == (dt.date(2024, 3, 1), dt.date(2024, 5, 1))
    late = gaps([one], dt.date(2024, 4, 1), dt.date(2024, 7, 1), SENSOR)
    assert late == (dt.date(2024, 5, 1), dt.date(2024, 7, 1))
    assert gaps([], *SPRING, SENSOR) == SPRING


def test_a_newer_processing_in_the_next_catalogue_wins_and_the_older_stays_on_record():
    old = [item("old", "2024-03-01T03:30:00Z", baseline="04.00", collection="sentinel-2-c1-l2a")]
    new = [item("new", "2024-03-01T03:30:00Z", baseline="05.11", collection="sentinel-2-l2a")]
    scenes, skipped = ask(ordered(Listed("first", old), Listed("second", new)))
    assert [(s.scene_id, s.catalog) for s in scenes] == [("new", "second")]
    assert ("old", True) in [(s.item_id, s.routine) for s in skipped]
    assert any("processed anew as new" in s.reason for s in skipped)


def test_of_equal_scenes_that_of_the_catalogue_named_first_is_used():
    one = [item("one", "2024-03-01T03:30:00Z")]
    two = [item("two", "2024-03-01T03:30:00Z", updated="2030-01-01T00:00:00Z")]
    same = {"s2:generation_time": "2024-03-01T09:00:00Z"}
    for listed in (one, two):
        listed[0]["properties"] |= same
    for first, second in ((one, two), (two, one)):
        scenes, skipped = ask(ordered(Listed("first", first), Listed("second", second)))
        assert [s.catalog for s in scenes] == ["first"]
        left = next(s for s in skipped if s.item_id == second[0]["id"])
        assert left.routine
        assert "the same acquisition is used as" in left.reason


def test_real_apis_one_of_them_gone(tmp_path):
    items = every(5, collection="sentinel-2-l2a")
    for one in items:
        one |= {"type": "Feature", "stac_version": "1.0.0", "links": [], "bbox": [103, 10, 104, 11]}
    gone = f"http://127.0.0.1:{free_port()}"
    with stac_server(tmp_path, items) as api:
        both = open_catalogs([gone, api], SearchSettings(timeout_s=2, budget_s=30))
        assert both.serves(SENSOR)
        scenes, skipped = ask(both)
        alone, _ = ask(open_catalog(api, SETTINGS))
    assert [s.scene_id for s in scenes] == [s.scene_id for s in alone]
    assert len(scenes) == 25
    assert {s.catalog for s in scenes} == {"127.0.0.1"}
    assert [(s.item_id, s.routine) for s in skipped] == [(f"catalogue {gone}", False)]
    assert "does not answer" in skipped[0].reason


def test_a_place_where_nothing_is_stops_at_once(tmp_path):
    with pytest.raises(SettingsError, match="found no file"):
        open_catalogs([tmp_path / "absent"], SETTINGS).serves(SENSOR)


def test_none_named_means_all_that_are_known():
    assert open_catalogs([], SETTINGS)._places == list(catalogs.KNOWN)


# ------------------------------------------------------------------------------------- real items of real catalogues


def features(path):
    return json.loads(path.read_text())["features"]


def as_planetary_computer(item):
    """The same acquisition as Planetary Computer describes it: names and forms of its real items (see below)."""
    properties = item["properties"]
    product = properties["s2:product_uri"].removesuffix(".SAFE")
    tile = product.split("_T")[1][:5]
    kept = ("datetime", "s2:datatake_id", "s2:datastrip_id", "s2:product_uri", "s2:processing_baseline")
    own = {k: properties[k] for k in (*kept, "s2:generation_time")} | {
        "platform": properties["platform"].title(),
        "s2:mgrs_tile": tile,
        "eo:cloud_cover": 1.0,
    }
    bands = ("B02", "B03", "B04", "B08", "B11", "SCL")
    store = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2"
    return {
        "id": product.replace("_N0511", ""),
        "collection": "sentinel-2-l2a",
        "geometry": item["geometry"],
        "properties": own,
        "assets": {b: {"href": f"{store}/{product}/{b}.tif"} for b in bands},
    }


def test_one_acquisition_has_one_name_in_all_catalogues_and_collections(shared):
    folder = shared / "series" / "stac-items" / "pystac-client"
    c1, l2a = features(folder / "sentinel-2-c1-l2a.json"), features(folder / "sentinel-2-l2a.json")
    products = {i["properties"]["s2:product_uri"]: i for i in c1}
    pairs = [
        (products[i["properties"]["s2:product_uri"]], i) for i in l2a if i["properties"]["s2:product_uri"] in products
    ]
    assert len(pairs) == 6
    for one, other in pairs:
        assert SENSOR.acquisition(one) == SENSOR.acquisition(other) == SENSOR.acquisition(as_planetary_computer(one))
    assert len({SENSOR.acquisition(one) for one, _ in pairs}) == 6


def test_forms_of_real_planetary_computer_items(shared):
    """What ``as_planetary_computer`` imitates: tiles with a leading zero, platforms in capitals, no grid code."""
    folder = shared / "series" / "stac-items" / "odc-stac"
    real = json.loads((folder / "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json").read_text())
    assert real["properties"]["platform"] == "Sentinel-2B"
    assert real["properties"]["s2:mgrs_tile"] == "06VVN"
    assert SENSOR.acquisition(real) == "GS2B_20190629T212529_012081 20190629T212530 06VVN"
    as_earth_search = {
        "id": "S2B_T06VVN_20190629T212530_L2A",
        "properties": {
            "platform": "sentinel-2b",
            "grid:code": "MGRS-6VVN",
            "s2:datatake_id": "GS2B_20190629T212529_012081_N05.00",
            "s2:datastrip_id": "S2B_OPER_MSI_L2A_DS_S2RP_20230615T101010_S20190629T212530_N05.00",
        },
    }
    assert SENSOR.acquisition(as_earth_search) == SENSOR.acquisition(real)


def test_a_series_of_real_scenes_from_two_catalogues_counts_each_once(shared):
    folder = shared / "series" / "stac-items" / "pystac-client"
    c1 = features(folder / "sentinel-2-c1-l2a.json")
    place = (-180.0, -90.0, 180.0, 90.0)
    days = (dt.date(2025, 7, 1), dt.date(2025, 8, 30))
    settings = SETTINGS.model_copy(update={"max_cloud_percent": 100.0})

    def found(items, name):
        return select(items, place, *days, SENSOR, settings, name, remote_rule(None))

    first, _ = found(c1, "earth-search")
    second, unread = found([as_planetary_computer(i) for i in c1], "planetary-computer")
    assert unread == []
    assert len(first) == len(second) == 6
    kept, older = newest([*second, *first], SENSOR, ["earth-search", "planetary-computer"])
    assert {s.catalog for s in kept} == {"earth-search"}
    assert len(kept) == 6
    assert {s.item_id for s in older} == {s.scene_id for s in second}
    assert all(s.routine for s in older)
