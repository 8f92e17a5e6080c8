"""Patches against a map drawn by hand; GeoJSON against RFC 7946; the GeoPackage against what went in."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from compoundwatch.errors import OutputError
from compoundwatch.formulas import simes
from compoundwatch.grid import geodesic_area_m2, project
from compoundwatch.model import SiteChange, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.fields import GEOMETRIES, LAYERS, Field
from compoundwatch.outputs.vector import (
    Layer,
    connected,
    geojson_geometry,
    patches,
    to_lonlat,
    write_geojson,
    write_geopackage,
)

from .conftest import GRID, HOSTILE, change_map, rectangle

OUTLINE = rectangle(6, 5, 30, 22)
CHANGE = SiteChange("kk-1", "sentinel2", "ndvi", "1", "harmonic_mosum", 0.01, GRID, change_map())


# -------------------------------------------------------------------------------------------------------- patches


def test_patches_are_what_was_drawn() -> None:
    found = patches(CHANGE, OUTLINE)
    large, middle, small = found.kept
    assert found.dropped == 0
    assert [p.n_pixels for p in found.kept] == [6, 2, 1]
    assert [p.direction for p in found.kept] == [-1, 1, -1]
    assert (large.direction_text, middle.direction_text) == ("less NDVI", "more NDVI")
    assert [p.area_m2 for p in found.kept] == [600.0, 200.0, 100.0]
    assert large.effect == -0.25
    assert middle.effect == 0.4
    # five pixels say 10 March, one says 20 March; their intervals reach from 29 February to 30 March
    assert large.date == dt.date(2024, 3, 10)
    assert large.date_earliest == dt.date(2024, 2, 29)
    assert large.date_latest == dt.date(2024, 3, 30)
    # Simes over 0.0002 and five times 0.001: min(6 x 0.0002 / 1, 6 x 0.001 / 6) = 0.001
    assert large.p_value == pytest.approx(0.001, rel=1e-6)
    assert small.p_value == pytest.approx(0.001, rel=1e-6)


def test_patches_lie_where_they_were_drawn() -> None:
    large, middle, _ = patches(CHANGE, OUTLINE).kept
    for patch, drawn in ((large, rectangle(10, 8, 13, 10)), (middle, rectangle(20, 15, 22, 16))):
        assert project(patch.geometry, 4326, GRID.epsg).symmetric_difference(
            project(drawn, 4326, GRID.epsg)
        ).area == pytest.approx(0, abs=1e-3)
    # the stated area is that of the ground within 0.2 %
    assert geodesic_area_m2(large.geometry) == pytest.approx(600, rel=0.002)


def test_small_patches_are_counted_but_not_drawn() -> None:
    found = patches(CHANGE, OUTLINE, min_patch_m2=200.0)
    assert [p.n_pixels for p in found.kept] == [6, 2]
    assert found.dropped == 1


def test_a_site_without_change_has_no_patch() -> None:
    still = change_map()
    still["direction"][:] = 0
    assert patches(replace(CHANGE, change_map=still), OUTLINE).kept == ()
    assert patches(CHANGE, rectangle(26, 2, 29, 4)).kept == ()


def test_a_patch_without_dates_or_effects_says_so() -> None:
    blank = change_map()
    for name in ("date", "date_earliest", "date_latest"):
        blank[name][:] = np.datetime64("NaT", "s")
    blank["effect"][:] = np.nan
    patch = patches(replace(CHANGE, change_map=blank), OUTLINE).kept[0]
    assert (patch.date, patch.date_earliest, patch.date_latest, patch.effect) == (None, None, None, None)


def test_a_ring_keeps_its_hole_and_what_lies_in_it() -> None:
    direction = np.zeros((5, 8), np.int8)
    direction[0:5, 0:5] = 1
    direction[1:4, 1:4] = 0
    direction[2, 2] = 1
    (ring, dot), dropped = connected(direction, Affine.identity(), 1)
    assert dropped == 0
    assert (ring.n_pixels, dot.n_pixels) == (16, 1)
    assert ring.polygon.area == 16
    assert len(ring.polygon.interiors) == 1
    assert dot.polygon.bounds == (2, 2, 3, 3)


def test_pixels_that_touch_by_a_corner_are_two_patches_and_signs_never_mix() -> None:
    direction = np.array([[1, 0, 1, -1, 0], [0, 1, 1, -1, -1]], np.int8)
    parts, _ = connected(direction, Affine.identity(), 1)
    assert sorted((p.direction, p.n_pixels) for p in parts) == [(-1, 3), (1, 1), (1, 3)]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2, 4]))
def test_patches_share_out_all_changed_pixels(seed: int, least: int) -> None:
    direction = np.random.default_rng(seed).integers(-1, 2, (7, 11)).astype(np.int8)
    parts, dropped = connected(direction, Affine.identity(), least)
    everything, none_dropped = connected(direction, Affine.identity(), 0)
    assert none_dropped == 0
    assert sum(p.n_pixels for p in everything) == int((direction != 0).sum())
    assert len(parts) + dropped == len(everything)
    assert all(p.n_pixels >= least for p in parts)
    for part in everything:
        assert part.polygon.is_valid
        assert part.polygon.area == part.n_pixels
        assert (direction[part.pixels] == part.direction).all()
        rows, cols = part.pixels
        assert shapely.contains_xy(part.polygon, cols + 0.5, rows + 0.5).all()


def test_simes_by_hand() -> None:
    # sorted 0.01, 0.02, 0.3: 3 x 0.01 / 1 = 0.03, 3 x 0.02 / 2 = 0.03, 3 x 0.3 / 3 = 0.3
    assert simes([0.3, 0.01, 0.02]) == pytest.approx(0.03)
    assert simes([0.04, np.nan, 0.05]) == pytest.approx(0.05)
    assert simes([0.2]) == 0.2
    assert np.isnan(simes([np.nan]))


def test_simes_holds_its_level_where_nothing_happened() -> None:
    p = np.random.default_rng(11).random((20_000, 5))
    share = np.mean([simes(row) < 0.05 for row in p])
    assert abs(share - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 20_000)


# -------------------------------------------------------------------------------------------------------- GeoJSON


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_watch(result, folder, rasters=False, report=False)
    return folder


def signed_area(ring: list[list[float]]) -> float:
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) / 2


@pytest.mark.parametrize("name", ["sites", "changes"])
def test_geojson_follows_rfc_7946(written: Path, name: str) -> None:
    collection = read(written / f"{name}.geojson")
    assert collection["type"] == "FeatureCollection"
    assert not {"crs", "coordinates", "geometries", "geometry", "properties"} & set(collection)
    assert collection["features"]
    for feature in collection["features"]:
        assert set(feature) == {"type", "properties", "geometry"}
        assert list(feature["properties"]) == [f.name for f in LAYERS[name]]
        geometry = feature["geometry"]
        polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        assert shape(geometry).is_valid
        for outer, *holes in polygons:
            assert signed_area(outer) > 0
            assert all(signed_area(hole) < 0 for hole in holes)
            for ring in (outer, *holes):
                assert ring[0] == ring[-1]
                assert len(ring) >= 4
                for lon, lat in ring:
                    assert 103 < lon < 105
                    assert 10 < lat < 11
                    assert round(lon, 7) == lon
                    assert round(lat, 7) == lat


def test_sites_carry_their_answers(written: Path) -> None:
    changed, quiet, unseen = [f["properties"] for f in read(written / "sites.geojson")["features"]]
    assert changed["site_id"] == "kk-1"
    assert changed["name"] == HOSTILE
    assert (changed["state"], changed["score"], changed["probability"]) == ("EMPTIED", 98.0, 0.9)
    assert (changed["p_demolished"], changed["p_lights_only"]) == (0.06, None)
    assert changed["change_date"] == "2024-03-10"
    assert (changed["change_date_earliest"], changed["change_date_latest"]) == ("2024-03-01", "2024-03-28")
    assert (changed["p_value"], changed["q_value"], changed["n_views"]) == (0.0005, 0.0011, 91)
    assert (changed["source"], changed["source_date"]) == ("https://news.example/a?id=7", "2025-06-26")
    assert changed["sensors"] == "sentinel2"
    assert (quiet["state"], quiet["change_date"], quiet["precision_m"]) == ("UNCHANGED", None, None)
    assert quiet["probability"] == 0.94
    assert (unseen["state"], unseen["name"], unseen["n_views"]) == ("NOT_OBSERVABLE", "កន្លែងទី៣", 0)
    for field in ("score", "probability", "p_unchanged", "p_value", "q_value", "valid_fraction", "min_detectable"):
        assert unseen[field] is None, field


def test_changes_carry_their_dates(written: Path) -> None:
    (patch,) = [f["properties"] for f in read(written / "changes.geojson")["features"]]
    assert (patch["site_id"], patch["sensor"], patch["feature"], patch["unit"]) == ("kk-1", "sentinel2", "ndvi", "1")
    assert (patch["direction"], patch["direction_text"]) == (-1, "less NDVI")
    assert (patch["date"], patch["date_earliest"], patch["date_latest"]) == ("2024-03-10", "2024-02-29", "2024-03-30")
    assert (patch["area_m2"], patch["n_pixels"], patch["effect"]) == (600, 6, -0.25)
    assert (patch["p_value"], patch["detector"], patch["alpha"]) == (0.001, "harmonic_mosum", 0.01)


def test_holes_and_parts_survive(written: Path, result: WatchResult) -> None:
    shapes = [shape(f["geometry"]) for f in read(written / "sites.geojson")["features"]]
    assert [s.geom_type for s in shapes] == ["Polygon", "Polygon", "MultiPolygon"]
    for drawn, site in zip(shapes, result.area.targets, strict=True):
        assert (
            drawn.equals_exact(site.geometry.normalize(), 1e-6)
            or drawn.symmetric_difference(site.geometry).area < 1e-10
        )
    assert len(shapes[1].interiors) == 1


def test_a_polygon_over_the_180th_meridian_is_cut(tmp_path: Path) -> None:
    metres = shapely.box(720_000, 5_000_000, 760_000, 5_020_000)  # the eastern edge of UTM zone 60
    cut, near = to_lonlat([metres, metres.buffer(-1).centroid.buffer(10)], lambda g: project(g, 32660, 4326))
    assert near.geom_type == "Polygon"
    halves = [p.bounds for p in cut.geoms]
    assert len(halves) == 2
    assert all(east - west < 1 for west, _, east, _ in halves)
    assert max(b[2] for b in halves) == 180
    assert min(b[0] for b in halves) == -180
    assert sum(geodesic_area_m2(p) for p in cut.geoms) == pytest.approx(40_000 * 20_000, rel=0.01)
    write_geojson(tmp_path / "x.geojson", [], [(cut, {})], {})
    assert read(tmp_path / "x.geojson")["features"][0]["geometry"]["type"] == "MultiPolygon"


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from("abcdef"), st.none() | st.floats() | st.text() | st.dates() | st.booleans()))
def test_every_property_reads_back_or_is_null(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("g") / "x.geojson"
    write_geojson(path, [Field(name, "text", "", "") for name in row], [(OUTLINE, row)], {})
    back = read(path)["features"][0]["properties"]
    for name, value in row.items():
        if isinstance(value, float) and not np.isfinite(value):
            assert back[name] is None
        else:
            assert back[name] == (value.isoformat() if isinstance(value, dt.date) else value)


def test_an_empty_geometry_is_null() -> None:
    assert geojson_geometry(None) is None
    assert geojson_geometry(shapely.Polygon()) is None


# ----------------------------------------------------------------------------------------------------- GeoPackage


def test_layers_types_and_counts(written: Path, result: WatchResult) -> None:
    path = written / "watch.gpkg"
    kinds = {"text": "String", "integer": "Integer64", "number": "Real", "date": "Date", "datetime": "DateTime"}
    layers = {name: geometry for name, geometry in pyogrio.list_layers(path)}
    assert set(layers) == {*LAYERS, "layer_styles"}
    counts = {"sites": 3, "controls": 3, "changes": 1, "events": 2, "scenes": 2, "effects": 2, "states": 3}
    counts |= {"series": len(result.series), "change_dates": 2, "contributions": 2, "event_places": 3}
    for name, fields in LAYERS.items():
        info = pyogrio.read_info(path, layer=name)
        assert info["features"] == counts[name], name
        assert list(info["fields"]) == [f.name for f in fields]
        assert [t.removeprefix("OFT") for t in info["ogr_types"]] == [kinds[f.kind] for f in fields]
        assert layers[name] == GEOMETRIES.get(name)
        if name in GEOMETRIES:
            assert info["crs"] == "EPSG:4326"


def test_values_come_back(written: Path) -> None:
    path = written / "watch.gpkg"
    sites = geopandas.read_file(path, layer="sites").set_index("site_id")
    assert sites.loc["kk-1", "name"] == HOSTILE
    assert sites.loc["kk-1", "change_date"] == pd.Timestamp("2024-03-10")
    assert pd.isna(sites.loc["quiet site/2", "change_date"])
    assert pd.isna(sites.loc["ឃ-3", "score"])
    assert sites.loc["kk-1"].geometry.equals_exact(shapely.MultiPolygon([OUTLINE]), 1e-12)
    scenes = geopandas.read_file(path, layer="scenes").set_index("scene_id")
    assert list(scenes["acquired"]) == [
        pd.Timestamp("2022-01-04T03:25:41Z"),
        pd.Timestamp("2024-12-20T03:25:41Z"),
    ]
    assert scenes.geometry.isna().tolist() == [False, True]
    assert scenes.loc["S2_20220104", "catalog"] == "https://catalog.example.org/v1"
    controls = geopandas.read_file(path, layer="controls").set_index("site_id")
    assert controls.loc["control-b", "control_of"] == "kk-1, quiet site/2"
    assert controls.loc["control-c", "control_of"] == "kk-1"
    events = pyogrio.read_dataframe(path, layer="events")
    assert list(events["scope"]) == ["kk-1", "kk-1, quiet site/2"]
    states = pyogrio.read_dataframe(path, layer="states")
    assert set(states["run_id"]) == {"20250115T120000Z-abcd1234"}


def test_the_series_come_back_whole(written: Path, result: WatchResult) -> None:
    back = pyogrio.read_dataframe(written / "watch.gpkg", layer="series")
    for name in ("site_id", "feature", "scene_id"):
        assert list(back[name]) == list(result.series[name])
    np.testing.assert_array_equal(back["value"], result.series["value"])
    assert back["value"].isna().sum() == result.series["value"].isna().sum() > 0
    assert (back["acquired"] == result.series["acquired"]).all()


def test_missing_is_null_in_the_database_itself(written: Path) -> None:
    with sqlite3.connect(written / "watch.gpkg") as base:
        rows = base.execute("select score, n_views, change_date, source_date from sites order by fid").fetchall()
        stamps = {r[0] for r in base.execute("select last_change from gpkg_contents")}
        (run,) = base.execute("select metadata from gpkg_metadata").fetchone()
    base.close()
    assert rows[0] == (98.0, 91, "2024-03-10", "2025-06-26")
    assert rows[2] == (None, 0, None, None)
    assert stamps == {"2025-01-15T12:00:00.000Z"}
    assert "20250115T120000Z-abcd1234" in run


def test_equal_results_make_equal_files(result: WatchResult, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_watch(result, tmp_path / name)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


def test_layers_without_rows_are_still_there(result: WatchResult, out: Path) -> None:
    bare = replace(
        result,
        area=replace(result.area, events=(), sites=result.area.targets[2:]),
        scenes=(),
        series=result.series[:0],
        effects=(),
        states=(),
        changes=(),
        pictures={},
        skipped=(),
    )
    write_watch(bare, out)
    path = out / "watch.gpkg"
    assert {name for name, _ in pyogrio.list_layers(path)} == {*LAYERS, "layer_styles"}
    for name in ("controls", "changes", "events", "scenes", "series", "effects"):
        info = pyogrio.read_info(path, layer=name)
        assert info["features"] == 0
        assert list(info["fields"]) == [f.name for f in LAYERS[name]]
    assert read(out / "changes.geojson")["features"] == []
    (site,) = read(out / "sites.geojson")["features"]
    assert site["properties"]["state"] == "NOT_OBSERVABLE"
    assert site["properties"]["reason"] == "Not observable: this site was not examined in this run."


def test_a_site_that_was_not_examined_says_why(result: WatchResult, out: Path) -> None:
    write_watch(replace(result, states=result.states[:2]), out, rasters=False)
    unseen = read(out / "sites.geojson")["features"][2]["properties"]
    assert unseen["state"] == "NOT_OBSERVABLE"
    assert unseen["reason"].startswith("Not observable: the outline holds no centre")


def test_a_geopackage_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    layer = Layer("t", [Field("a", "text", "", "")], [(None, {"a": "x"})])
    with pytest.raises(OutputError, match=r"x\.gpkg cannot be written"):
        write_geopackage(tmp_path / "missing" / "x.gpkg", {"t": layer}, dt.datetime(2024, 1, 1), {})
