"""From a GeoJSON geometry to a polygon that can be trusted, or a sentence about what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import shapely
from shapely.geometry import MultiPolygon, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from compoundwatch.aoi._json import Fault
from compoundwatch.errors import AreaError
from compoundwatch.grid import geodesic_area_m2, utm_epsg, widen
from compoundwatch.model import shown

MIN_AREA_M2 = 100.0
"""One pixel of 10 m."""

MAX_AREA_M2 = 5.0e9
"""5,000 square kilometres: larger than any site, smaller than a province drawn by mistake."""

MAX_METRES = 50_000.0
"""Largest radius and largest precision accepted."""

Position = tuple[float, float]


def polygon(geometry: object, radius_m: float | None) -> BaseGeometry:
    """A valid polygon or multipolygon in longitude and latitude, rings in the order of RFC 7946.

    Winding order is the only thing that is put right (RFC 7946, section 3.1.6, asks readers to accept both).

    Parameters
    ----------
    geometry : the "geometry" member of a feature.
    radius_m : radius in metres that turns a Point into a circle; None = not given.

    Raises
    ------
    Fault : with what was expected, what was found and what to do.
    """
    if geometry is None:
        raise Fault("expected a polygon, found no geometry; draw an outline or remove the feature")
    if not isinstance(geometry, dict):
        raise Fault(f"expected a geometry object, found {shown(geometry)}; export the layer again")
    kind = geometry.get("type")
    if kind not in ("Point", "Polygon", "MultiPolygon"):
        raise Fault(
            f"expected a Polygon, MultiPolygon or Point with radius_m, found {shown(kind)}; draw the site as a polygon"
        )
    if extra := set(geometry) - {"type", "coordinates", "bbox"}:
        raise Fault(f"expected only type and coordinates in a geometry, found {shown(min(extra))}; remove it")
    if "coordinates" not in geometry:
        raise Fault(f"expected coordinates in the {kind}, found none; export the layer again")
    shape = _shape(kind, geometry["coordinates"], radius_m)
    _check_shape(shape)
    return shape


def oriented(shape: BaseGeometry) -> BaseGeometry:
    """The same polygon or multipolygon with outer rings counter-clockwise and holes clockwise."""
    if shape.geom_type == "Polygon":
        return orient(shape)
    return MultiPolygon([orient(part) for part in shape.geoms])


def _shape(kind: str, coordinates: Any, radius_m: float | None) -> BaseGeometry:
    if kind == "Point":
        if radius_m is None:
            raise Fault("expected radius_m (metres) with a Point, found none; give a radius or draw a polygon")
        point = _position(coordinates, "the point")
        _check_range([point])
        try:
            return oriented(widen(Point(point), radius_m))
        except AreaError as error:
            raise Fault(str(error)) from None
    if radius_m is not None:
        raise Fault(f"expected radius_m only with a Point, found it with a {kind}; remove it")
    if kind == "Polygon":
        parts = [_rings(coordinates, "the polygon")]
    else:
        polygons = _list(coordinates, "the multipolygon", "polygon")
        parts = [_rings(p, f"polygon {k}") for k, p in enumerate(polygons, 1)]
    _check_range(p for rings in parts for ring in rings for p in ring)
    made = [Polygon(rings[0], rings[1:]) for rings in parts]
    return oriented(made[0] if kind == "Polygon" else MultiPolygon(made))


def _list(value: Any, where: str, of: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        found = "an empty list" if value == [] else shown(value)
        raise Fault(f"expected {where} to be a list of at least one {of}, found {found}; draw it again")
    return value


def _rings(coordinates: Any, where: str) -> list[list[Position]]:
    rings = []
    for k, raw in enumerate(_list(coordinates, where, "ring"), 1):
        place = f"ring {k} of {where}"
        ring = [_position(p, place) for p in _list(raw, place, "position")]
        if ring[0] != ring[-1]:
            raise Fault(
                f"expected {place} to end where it starts, found {_text(ring[0])} and {_text(ring[-1])}; close the ring"
            )
        if len(ring) < 4:
            raise Fault(f"expected at least 4 positions in {place}, found {len(ring)}; draw it again")
        rings.append(ring)
    return rings


def _position(raw: Any, place: str) -> Position:
    """Longitude and latitude of one position; a height is dropped."""
    numbers = isinstance(raw, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in raw)
    if not numbers or not 2 <= len(raw) <= 3:
        found = f"a list of {len(raw)}" if isinstance(raw, list) else shown(raw)
        raise Fault(f"expected positions of 2 or 3 numbers in {place}, found {found}; export the layer again")
    return float(raw[0]), float(raw[1])


def _text(position: Position) -> str:
    return f"({position[0]:.7g}, {position[1]:.7g})"


def _check_range(positions: Iterator[Position] | list[Position]) -> None:
    points = list(positions)
    out = next((p for p in points if abs(p[0]) > 180 or abs(p[1]) > 90), None)
    if out is None:
        return
    found = f"expected longitude (-180 to 180) then latitude (-90 to 90), found {_text(out)}"
    if all(abs(x) <= 90 and abs(y) <= 180 for x, y in points):
        raise Fault(f"{found}: longitude and latitude look swapped; write longitude first")
    if max(abs(out[0]), abs(out[1])) > 360:
        raise Fault(f"{found}: these look like projected metres; export the layer in EPSG:4326 (WGS 84)")
    raise Fault(f"{found}; correct the position")


def _check_shape(shape: BaseGeometry) -> None:
    west, _, east, _ = shape.bounds
    if east - west > 180:
        raise Fault(
            f"expected an outline on one side of the antimeridian, found one from longitude {west:g} to {east:g}; "
            "make it two sites, one on each side of 180 degrees"
        )
    try:
        utm_epsg(shape)
    except AreaError as error:
        raise Fault(str(error)) from None
    if not shape.is_valid:
        reason = shapely.is_valid_reason(shape)
        what, _, where = reason.partition("[")
        at = f" at longitude and latitude ({', '.join(where.rstrip(']').split())})" if where else ""
        raise Fault(f"expected a simple outline, found: {what.lower()}{at}; draw that part again")
    area = geodesic_area_m2(shape)
    if area < MIN_AREA_M2:
        raise Fault(
            f"expected at least {MIN_AREA_M2:g} m2 (one pixel of 10 m), found {area:.3g} m2; draw a larger outline"
        )
    if area > MAX_AREA_M2:
        raise Fault(
            f"expected at most {MAX_AREA_M2 / 1e6:,.0f} km2, found {area / 1e6:,.0f} km2; draw the site, not its region"
        )
