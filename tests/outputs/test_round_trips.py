"""Whatever is written comes back: GeoJSON by RFC 7946, GeoPackage, rasters, STAC times; null for missing, times UTC."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from compoundwatch.outputs.fields import Field
from compoundwatch.outputs.manifest import plain
from compoundwatch.outputs.raster import Raster, write_cog
from compoundwatch.outputs.stac_item import _bbox
from compoundwatch.outputs.vector import Layer, geojson_geometry, to_lonlat, write_geojson, write_geopackage

FEW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What a database and a text file can both hold: no null character, no lone half of a pair.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
DAYS = st.dates(dt.date(1970, 1, 1), dt.date(2100, 1, 1))
ZONES = st.timezones() | st.just(dt.UTC)
MOMENTS = st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2099, 1, 1), timezones=ZONES, allow_imaginary=False).map(
    lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "integer": st.integers(-(2**53), 2**53),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "date": DAYS,
    "datetime": MOMENTS,
}
FIELDS = [Field(f"a_{kind}", kind, "", "") for kind in KINDS]  # type: ignore[arg-type]


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    row = st.fixed_dictionaries({f"a_{kind}": st.none() | values for kind, values in KINDS.items()})
    return draw(st.lists(row, min_size=1, max_size=4))


@st.composite
def polygons(draw: st.DrawFn) -> shapely.Polygon:
    """A star around a place anywhere but the poles, drawn either way round, perhaps with a hole."""
    west, south = draw(st.floats(-179.9, 179.8)), draw(st.floats(-79, 79))
    size = draw(st.floats(1e-4, 0.1))
    reach = draw(st.lists(st.floats(0.3, 1.0), min_size=3, max_size=9))
    angles = np.linspace(0, 2 * np.pi, len(reach), endpoint=False)
    x, y = (0.5 + 0.5 * np.array(reach) * f(angles) for f in (np.cos, np.sin))
    outer = np.column_stack([west + size * x, south + size * y])
    outer = outer[:: draw(st.sampled_from([1, -1]))]
    hole = np.column_stack([west + size * (0.5 + 0.1 * (x - 0.5)), south + size * (0.5 + 0.1 * (y - 0.5))])
    made = shapely.Polygon(outer, [hole] if draw(st.booleans()) else [])
    return made if made.is_valid else shapely.Polygon(outer)


def rings(geometry: dict[str, Any]) -> list[list[list[list[float]]]]:
    """The rings of each polygon of a GeoJSON geometry."""
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else list(geometry["coordinates"])


def turns_left(ring: list[list[float]]) -> bool:
    x0, y0 = ring[0]
    return sum((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) for (x1, y1), (x2, y2) in pairwise(ring)) > 0


def check_rfc_7946(geometry: dict[str, Any]) -> None:
    """Sections 3.1.1 and 4 (longitude first), 3.1.6 (closed rings, right-hand rule) and 3.1.9 (180th meridian)."""
    for outer, *holes in rings(geometry):
        assert turns_left(outer)
        assert not any(turns_left(hole) for hole in holes)
        for ring in (outer, *holes):
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
            assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)
        assert max(lon for lon, _ in outer) - min(lon for lon, _ in outer) < 180


# -------------------------------------------------------------------------------------------------------- geometries


@settings(deadline=None, max_examples=200)
@given(st.lists(polygons(), min_size=1, max_size=3))
def test_outlines_follow_rfc_7946_and_come_back(shapes: list[shapely.Polygon]) -> None:
    for geometry in (shapes[0], shapely.MultiPolygon(shapes)):
        written = json.loads(json.dumps(geojson_geometry(geometry)))
        check_rfc_7946(written)
        back = shape(written)
        assert back.geom_type == geometry.geom_type
        for drawn, given_ in zip(shapely.get_parts(back), shapely.get_parts(geometry), strict=True):
            # seven decimals of a degree are half a ten-millionth off at most
            assert shapely.hausdorff_distance(drawn.boundary, given_.boundary) < 1e-7
            assert len(drawn.interiors) == len(given_.interiors)


@settings(deadline=None, max_examples=100)
@given(polygons(), st.floats(-0.05, 0.05))
def test_outlines_across_the_180th_meridian_are_cut_or_left_whole(drawn: shapely.Polygon, beyond: float) -> None:
    """An outline that is moved onto the meridian comes out as halves that lie on either side and together are it."""
    centre = drawn.envelope.centroid.x
    west = shapely.transform(drawn, lambda xy: xy + np.array([180 + beyond - centre, 0]))
    wrapped = shapely.transform(west, lambda xy: np.column_stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]]))
    (found,) = to_lonlat([wrapped], lambda shapes: shapes)
    written = geojson_geometry(found, decimals=12)
    assert written is not None
    check_rfc_7946(written)
    joined = shapely.union_all(
        [
            shapely.transform(p, lambda xy: np.column_stack([xy[:, 0] % 360, xy[:, 1]])) if p.bounds[0] < 0 else p
            for p in shapely.get_parts(found)
        ]
    )
    assert joined.area == pytest.approx(west.area, rel=1e-6)
    left, bottom, right, top = _bbox(found)
    crossing = west.bounds[0] < 180 < west.bounds[2]
    assert (left > right) == crossing
    assert bottom <= top
    assert right - left + (360 if crossing else 0) == pytest.approx(west.bounds[2] - west.bounds[0], abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ values


def told(value: Any) -> Any:
    """What a strict reader of JSON is to find."""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).replace(tzinfo=None).isoformat() + "Z"
    return value.isoformat() if isinstance(value, dt.date) else value


@FEW
@given(rows(), polygons())
def test_geojson_comes_back(tmp_path: Path, written: list[dict[str, Any]], outline: shapely.Polygon) -> None:
    path = tmp_path / "x.geojson"
    write_geojson(path, FIELDS, [(outline, row) for row in written], {"provenance": {"run_id": "r"}})
    collection = json.loads(path.read_bytes().decode("utf-8"), parse_constant=pytest.fail)
    assert "crs" not in collection
    assert [f["properties"] for f in collection["features"]] == [{k: told(v) for k, v in r.items()} for r in written]
    # and a reader of another make agrees
    table = pyogrio.read_dataframe(path)
    assert len(table) == len(written)
    assert table.crs.to_epsg() == 4326


@FEW
@given(rows(), polygons())
def test_a_geopackage_comes_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[dict[str, Any]], outline: shapely.Polygon
) -> None:
    path = tmp_path_factory.mktemp("p") / "x.gpkg"
    where = [(outline if k % 2 == 0 else None, row) for k, row in enumerate(written)]
    layers = {
        "areas": Layer("areas", FIELDS, where, geometry="MultiPolygon"),
        "points": Layer("points", FIELDS, [(g and g.centroid, r) for g, r in where], geometry="Point"),
        "table": Layer("table", FIELDS, [(None, row) for row in written]),
    }
    write_geopackage(path, layers, dt.datetime(2025, 1, 1, tzinfo=dt.UTC), {}, {"areas": "<qgis/>"})
    assert {name for name, _ in pyogrio.list_layers(path)} == {*layers, "layer_styles"}
    for name in layers:
        _, _, wkb, columns = pyogrio.raw.read(path, layer=name, datetime_as_string=True)
        for field, values in zip(FIELDS, columns, strict=True):
            for row, value in zip(written, values, strict=True):
                assert same(row[field.name], value), (name, field.name)
        if name == "areas":
            for (geometry, _), found in zip(where, wkb, strict=True):
                back = None if found is None else shapely.from_wkb(found)
                assert (back is None) == (geometry is None)
                assert back is None or back.equals_exact(shapely.MultiPolygon([geometry]), 0)


def same(wrote: Any, read: Any) -> bool:
    """Whether a value of a table is what was written; missing is null, which numbers show as NaN."""
    if wrote is None:
        return read is None or read != read
    if isinstance(wrote, dt.datetime):
        return dt.datetime.fromisoformat(str(read)) == wrote.astimezone(dt.UTC)
    if isinstance(wrote, dt.date):
        return str(read)[:10].replace("/", "-") == wrote.isoformat()
    return bool(read == wrote)


@given(MOMENTS)
def test_times_are_told_in_utc(moment: dt.datetime) -> None:
    text = str(plain(moment))
    assert text.endswith("Z")
    # In UTC, because an hour that a clock shows twice equals no time of another zone.
    assert dt.datetime.fromisoformat(text) == moment.astimezone(dt.UTC)


# ----------------------------------------------------------------------------------------------------------- rasters


@FEW
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([("float32", float("nan")), ("int8", -128), ("int32", 0)]),
    st.sampled_from([10.0, 30.0, 500.0]),
)
def test_rasters_come_back_as_valid_cogs(
    tmp_path: Path, seed: int, rows: int, cols: int, kind: tuple[str, float], pixel_m: float
) -> None:
    from rio_cogeo.cogeo import cog_validate

    name, nodata = kind
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 50, (rows, cols))).astype(name)
    values[rng.random((rows, cols)) < 0.3] = nodata
    place = Affine(pixel_m, 0, 380_000, 0, -pixel_m, 1_200_000)
    write_cog(tmp_path / "x.tif", Raster(values, nodata, "1", "what"), place, "EPSG:32648", {"run_id": "r"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cog_validate(tmp_path / "x.tif")[0]
    with rasterio.open(tmp_path / "x.tif") as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert (file.transform, file.crs.to_epsg(), file.dtypes, file.descriptions) == (
            place,
            32648,
            (name,),
            ("what",),
        )
        missing = np.isnan(values) if name == "float32" else values == nodata
        np.testing.assert_array_equal(file.read_masks(1) == 0, missing)
