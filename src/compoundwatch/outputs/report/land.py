"""Outlines for the map: sites as rings of coordinates, and the borders of countries around them (Natural Earth)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files

import shapely
from shapely.geometry.base import BaseGeometry

Ring = list[tuple[float, float]]
DECIMALS = 5
"""Of longitude and latitude, about a metre."""
AROUND = 3.0
"""Degrees around the sites within which borders are drawn."""


def rings(geometry: BaseGeometry) -> list[list[Ring]]:
    """The polygons of a geometry in longitude and latitude: outer ring first, each point as (latitude, longitude)."""
    polygons = [p for p in shapely.get_parts(geometry) if p.geom_type == "Polygon"]
    return [[_ring(r.coords) for r in (p.exterior, *p.interiors)] for p in polygons]


def point(geometry: BaseGeometry) -> tuple[float, float]:
    """A point inside a geometry as (latitude, longitude)."""
    inside = geometry.representative_point()
    return round(inside.y, DECIMALS), round(inside.x, DECIMALS)


def borders(geometries: Sequence[BaseGeometry]) -> list[Ring]:
    """Borders and coasts around some places, each a line of (latitude, longitude); none where there is no place."""
    if not geometries:
        return []
    west, south, east, north = shapely.union_all([g.envelope for g in geometries]).bounds
    frame = shapely.box(west - AROUND, south - AROUND, east + AROUND, north + AROUND)
    near = [line for line in _world() if line.intersects(frame)]
    if not near:
        return []
    lines = shapely.get_parts(shapely.line_merge(shapely.union_all([line.intersection(frame) for line in near])))
    return [[(round(y, 3), round(x, 3)) for x, y in line.coords] for line in lines if line.geom_type == "LineString"]


@cache
def _world() -> tuple[BaseGeometry, ...]:
    import pyogrio

    with as_file(files("compoundwatch.outputs.report") / "assets" / "countries-50m.json") as path:
        countries = pyogrio.read_dataframe(path, layer="countries")
    return tuple(shapely.get_parts(shapely.boundary(countries.geometry.to_numpy())))


def _ring(coordinates: shapely.coords.CoordinateSequence) -> Ring:
    return [(round(y, DECIMALS), round(x, DECIMALS)) for x, y in coordinates]
