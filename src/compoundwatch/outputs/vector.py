"""Vector files: changed patches as polygons, GeoJSON by RFC 7946, and the GeoPackage that QGIS opens."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from compoundwatch.errors import OutputError
from compoundwatch.formulas import simes
from compoundwatch.grid import pixel_mask, project
from compoundwatch.model import BoolArray, PairChange, SiteChange
from compoundwatch.outputs.fields import Field
from compoundwatch.outputs.legend import direction_text
from compoundwatch.outputs.manifest import dumps, plain, utc

if TYPE_CHECKING:
    import pandas as pd
    from affine import Affine

Row = Mapping[str, Any]
DECIMALS = 7
"""Of longitude and latitude: about a centimetre (RFC 7946, section 11.2, asks for no more than is meant)."""
GPKG_VERSION = "1.2"
"""Understood by the GDAL of QGIS 3.22, which warns about later versions."""
GEOMETRY_COLUMN = "geom"
STYLE_TABLE = "layer_styles"
FOUR_NEIGHBOURS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


# -------------------------------------------------------------------------------------------------------- patches


@dataclass(frozen=True)
class Patch:
    """Touching pixels of a site that changed the same way.

    ``geometry`` is in longitude and latitude. ``direction`` is +1 (more after) or -1 (less). ``date`` is the median of
    the pixels' dates, ``date_earliest`` and ``date_latest`` enclose all their intervals; None = no pixel has a date.
    ``area_m2`` is the number of pixels times the area of one on its UTM grid. ``effect`` is the median of the pixels'
    effects in ``unit`` (None = none known). ``p_value`` 0-1 joins the pixels' p-values by the rule of Simes.
    """

    geometry: BaseGeometry
    site_id: str
    sensor: str
    feature: str
    unit: str
    direction: int
    direction_text: str
    date: dt.date | None
    date_earliest: dt.date | None
    date_latest: dt.date | None
    area_m2: float
    n_pixels: int
    effect: float | None
    p_value: float
    detector: str
    alpha: float


@dataclass(frozen=True)
class Patches:
    """The patches of a change map that are large enough to draw, largest first, and how many were too small."""

    kept: tuple[Patch, ...]
    dropped: int


def patches(change: SiteChange, outline: BaseGeometry, min_patch_m2: float = 0.0) -> Patches:
    """Changed patches of a site: pixels inside its outline that touch by an edge and changed the same way.

    Parameters
    ----------
    change : a change map (contract of ``model.check_change_map``).
    outline : polygon in longitude and latitude; pixels whose centre lies outside do not count.
    min_patch_m2 : smaller patches (square metres) are counted but not returned.
    """
    layers = {str(name): layer.values for name, layer in change.change_map.data_vars.items()}
    grid = change.grid
    pixel_m2 = grid.pixel_m**2
    direction = np.where(pixel_mask(outline, grid), layers["direction"], 0)
    found, dropped = connected(direction, grid.transform, min_patch_m2 / pixel_m2)
    shapes = to_lonlat([part.polygon for part in found], lambda g: project(g, grid.epsg, 4326))
    kept = []
    for part, shape in zip(found, shapes, strict=True):
        values = {name: layer[part.pixels] for name, layer in layers.items()}
        kept.append(
            Patch(
                geometry=shape,
                site_id=change.site_id,
                sensor=change.sensor,
                feature=change.feature,
                unit=change.unit,
                direction=part.direction,
                direction_text=direction_text(part.direction, change.feature),
                date=_date(values["date"], 0.5),
                date_earliest=_date(values["date_earliest"], 0.0),
                date_latest=_date(values["date_latest"], 1.0),
                area_m2=part.n_pixels * pixel_m2,
                n_pixels=part.n_pixels,
                effect=_median(values["effect"]),
                p_value=_six_digits(simes(values["p_value"])),
                detector=change.detector,
                alpha=change.alpha,
            )
        )
    return Patches(tuple(kept), dropped)


@dataclass(frozen=True)
class Part:
    """A connected part of a direction map: its polygon in map coordinates, and (rows, cols) of its pixels."""

    polygon: BaseGeometry
    direction: int
    pixels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    n_pixels: int


def connected(direction: npt.NDArray[np.integer[Any]], transform: Affine, min_pixels: float) -> tuple[list[Part], int]:
    """Parts of equal direction (+1 or -1) whose pixels touch by an edge, largest first; how many were too small.

    Parameters
    ----------
    direction : int (rows, cols), 0 = no change.
    transform : from (col, row) to map coordinates.
    min_pixels : smaller parts are dropped.
    """
    from rasterio.features import shapes
    from scipy.ndimage import label

    labels = np.zeros(direction.shape, dtype=np.int32)
    signs = [0]
    for sign in (1, -1):
        own, count = label(direction == sign, FOUR_NEIGHBOURS)
        labels[own > 0] = own[own > 0] + len(signs) - 1
        signs += [sign] * count
    sizes = np.bincount(labels.ravel(), minlength=len(signs))
    large = sizes >= min_pixels
    large[0] = False
    dropped = int((~large[1:]).sum())
    kept = large[labels]
    polygons = {
        int(value): shapely.geometry.shape(shape)
        for shape, value in shapes(labels, mask=kept, connectivity=4, transform=transform)
    }
    where = np.flatnonzero(kept)
    order = where[np.argsort(labels.ravel()[where], kind="stable")]
    ids = np.flatnonzero(large)
    parts = []
    for k, flat in zip(ids, np.split(order, np.cumsum(sizes[ids])[:-1]) if ids.size else [], strict=True):
        rows, cols = np.unravel_index(flat, direction.shape)
        parts.append(Part(polygons[int(k)], signs[k], (rows, cols), int(sizes[k])))
    return sorted(parts, key=lambda p: -p.n_pixels), dropped


def pair_patches(
    change: PairChange,
    transform: Affine,
    place: Callable[[Sequence[BaseGeometry]], Sequence[BaseGeometry]],
    min_pixels: int,
) -> tuple[list[tuple[BaseGeometry, dict[str, Any]]], int]:
    """Changed patches between two images, with what is said of their pixels, and how many were too small.

    Parameters
    ----------
    transform : from (col, row) to map coordinates.
    place : moves polygons from map coordinates to those of the file.
    """
    found, dropped = connected(change.direction, transform, min_pixels)
    rows = []
    for part, shape in zip(found, place([part.polygon for part in found]), strict=True):
        row = {
            "direction": part.direction,
            "direction_text": f"{'more' if part.direction > 0 else 'less'} after than before",
            "n_pixels": part.n_pixels,
            "statistic": _median(change.statistic[part.pixels]),
            "p_value": _six_digits(simes(change.p_value[part.pixels])),
        }
        rows.append((shape, row))
    return rows, dropped


def _date(dates: npt.NDArray[np.datetime64], share: float) -> dt.date | None:
    """The day below which a share of the known dates lies; None where none is known."""
    known = np.sort(dates[~np.isnat(dates)].astype("datetime64[D]"))
    if not known.size:
        return None
    day: dt.date = known[int(share * (known.size - 1))].item()
    return day


def _median(values: npt.NDArray[np.floating[Any]]) -> float | None:
    known = values[np.isfinite(values)]
    return _six_digits(float(np.median(known))) if known.size else None


def _six_digits(value: float) -> float:
    """What a 32-bit number knows, without the digits that come from holding it in 64 bits."""
    return float(f"{value:.6g}")


# ------------------------------------------------------------------------------------------------------- geometry


def to_lonlat(shapes: Sequence[BaseGeometry], move: Callable[[Any], Any]) -> list[BaseGeometry]:
    """Move polygons to longitude and latitude; those that cross the 180th meridian are cut in two.

    ``move`` takes an array of geometries and returns one.
    """
    if not shapes:
        return []
    moved = move(np.array(shapes, dtype=object))
    bounds = shapely.bounds(moved)
    crossing = bounds[:, 2] - bounds[:, 0] > 180
    return [_cut(shape) if wide else shape for shape, wide in zip(moved, crossing, strict=True)]


def _cut(shape: BaseGeometry) -> BaseGeometry:
    round_world = shapely.transform(shape, lambda xy: np.column_stack([xy[:, 0] % 360, xy[:, 1]]))
    west = round_world & shapely.box(0, -90, 180, 90)
    east = shapely.transform(round_world & shapely.box(180, -90, 360, 90), lambda xy: xy - [360, 0])
    return shapely.MultiPolygon([*_polygons(west), *_polygons(east)])


def _polygons(geometry: BaseGeometry) -> list[shapely.Polygon]:
    return [p for p in shapely.get_parts(geometry) if isinstance(p, shapely.Polygon) and not p.is_empty]


def geojson_geometry(geometry: BaseGeometry | None, decimals: int = DECIMALS) -> dict[str, Any] | None:
    """A polygon or multipolygon as RFC 7946 wants it: outer rings counter-clockwise, holes clockwise, rounded."""
    if geometry is None or geometry.is_empty:
        return None
    polygons = [
        [_ring(ring, decimals) for ring in (p.exterior, *p.interiors)]
        for p in (shapely.geometry.polygon.orient(q) for q in _polygons(geometry))
    ]
    if isinstance(geometry, shapely.Polygon):
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _ring(ring: shapely.LinearRing, decimals: int) -> list[list[float]]:
    return [[round(x, decimals), round(y, decimals)] for x, y, *_ in ring.coords]


# ---------------------------------------------------------------------------------------------------------- files


def write_geojson(
    path: Path,
    fields: Sequence[Field],
    rows: Sequence[tuple[BaseGeometry | None, Row]],
    more: Mapping[str, Any],
    decimals: int = DECIMALS,
) -> None:
    """Write features as RFC 7946 GeoJSON: longitude and latitude, null for missing, ISO 8601 dates, no ``crs`` member.

    Parameters
    ----------
    fields : the properties, in this order; every row has exactly these.
    more : foreign members of the collection, which readers may ignore.
    """
    features = [
        {
            "type": "Feature",
            "properties": {f.name: plain(row[f.name]) for f in fields},
            "geometry": geojson_geometry(geometry, decimals),
        }
        for geometry, row in rows
    ]
    head = dumps({"type": "FeatureCollection", "name": path.stem, **plain(more)}).removesuffix("\n}\n")
    lines = ",\n".join(json.dumps(f, ensure_ascii=False, allow_nan=False) for f in features)
    path.write_text(f'{head},\n "features": [\n{lines}\n ]\n}}\n', encoding="utf-8")


@dataclass(frozen=True)
class Layer:
    """One layer or table of a GeoPackage: its fields, its rows with their geometry, and what it holds.

    ``frame`` holds the rows instead where there are many and none has a geometry. ``geometry`` None = attribute table.
    """

    title: str
    fields: Sequence[Field]
    rows: Sequence[tuple[BaseGeometry | None, Row]] = ()
    frame: pd.DataFrame | None = None
    geometry: Literal["Point", "MultiPolygon"] | None = None


def write_geopackage(
    path: Path,
    layers: Mapping[str, Layer],
    created: dt.datetime,
    metadata: Mapping[str, str],
    styles: Mapping[str, str] | None = None,
) -> None:
    """Write layers (in EPSG:4326) and attribute tables into one GeoPackage with real date fields.

    Parameters
    ----------
    created : time written into the file in place of the clock, so that equal results make equal files.
    metadata : written into the file's own metadata table.
    styles : QGIS styles by the name of their layer, which QGIS takes from the file's table "layer_styles".

    Raises
    ------
    OutputError : the file cannot be written.
    """
    import pyogrio

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": f"{utc(created):%Y-%m-%dT%H:%M:%S.000Z}"})
    try:
        for k, (name, layer) in enumerate(layers.items()):
            first = {"dataset_metadata": dict(metadata), "dataset_options": {"VERSION": GPKG_VERSION}} if k == 0 else {}
            _write_layer(path, name, layer, first)
        if styles:
            _write_styles(path, layers, styles, created)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FieldError) as error:
        raise OutputError(f"{path.name} cannot be written: {error}") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _write_layer(path: Path, name: str, layer: Layer, first: Mapping[str, Any]) -> None:
    from pyogrio.raw import write

    arrays, masks = zip(*(_column(field, layer) for field in layer.fields), strict=True)
    options = {"DESCRIPTION": layer.title, "FID": "fid"}
    wkb = None
    if layer.geometry:
        shapes = [shapely.MultiPolygon(_polygons(g)) if g and layer.geometry != "Point" else g for g, _ in layer.rows]
        wkb = np.array([None if shape is None else shapely.to_wkb(shape) for shape in shapes], dtype=object)
        options["GEOMETRY_NAME"] = GEOMETRY_COLUMN
    utc_code = np.full(len(arrays[0]), 100, dtype=np.int8)  # GDAL's number for "this time is UTC"
    write(
        path,
        wkb,
        list(arrays),
        [f.name for f in layer.fields],
        field_mask=list(masks),
        layer=name,
        driver="GPKG",
        geometry_type=layer.geometry,
        crs="EPSG:4326" if layer.geometry else None,
        gdal_tz_offsets={f.name: utc_code for f in layer.fields if f.kind == "datetime"},
        layer_options=options,
        **first,
    )


def _write_styles(path: Path, layers: Mapping[str, Layer], styles: Mapping[str, str], created: dt.datetime) -> None:
    """The table in which QGIS keeps styles inside a GeoPackage, as its database manager writes it."""
    from pyogrio.raw import write

    names = list(styles)
    columns: dict[str, Any] = {
        "f_table_catalog": [""] * len(names),
        "f_table_schema": [""] * len(names),
        "f_table_name": names,
        "f_geometry_column": [GEOMETRY_COLUMN if layers[name].geometry else "" for name in names],
        "styleName": names,
        "styleQML": [styles[name] for name in names],
        "styleSLD": [""] * len(names),
        "useAsDefault": np.ones(len(names), dtype=bool),
        "description": [layers[name].title for name in names],
        "owner": [""] * len(names),
        "ui": [None] * len(names),
        "update_time": np.full(len(names), np.datetime64(utc(created).replace(tzinfo=None), "ms")),
    }
    write(
        path,
        None,
        [np.array(values, dtype=None if isinstance(values, np.ndarray) else object) for values in columns.values()],
        list(columns),
        layer=STYLE_TABLE,
        driver="GPKG",
        geometry_type=None,
        gdal_tz_offsets={"update_time": np.full(len(names), 100, dtype=np.int8)},
        layer_options={"DESCRIPTION": "Styles that QGIS loads with the layers", "FID": "id"},
    )


DTYPES: Mapping[str, str] = {
    "text": "object",
    "integer": "int64",
    "number": "float64",
    "date": "datetime64[D]",
    "datetime": "datetime64[ms]",
}
FILLS: Mapping[str, Any] = {"integer": 0, "number": float("nan")}
"""What stands where a value is missing; the mask beside the column says that it is."""


def _column(field: Field, layer: Layer) -> tuple[npt.NDArray[Any], BoolArray | None]:
    """The values of one field, and where they are missing (None = nowhere)."""
    if layer.frame is not None:
        values = layer.frame[field.name]
        if field.kind == "datetime":
            values = values.dt.tz_convert("UTC").dt.tz_localize(None)
        missing: BoolArray = values.isna().to_numpy(dtype=bool)
        column = values.to_numpy(dtype=DTYPES[field.kind])
    else:
        texts = [plain(row[field.name]) for _, row in layer.rows]
        missing = np.array([t is None for t in texts], dtype=bool)
        if field.kind == "datetime":
            texts = [t and t.removesuffix("Z") for t in texts]
        column = np.array([FILLS.get(field.kind) if t is None else t for t in texts], dtype=DTYPES[field.kind])
    return column, missing if missing.any() else None
