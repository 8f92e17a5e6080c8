"""OGC API - Features, Part 1: Core (OGC 17-069r4): the sites and changed patches of a result, for QGIS and others."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from shapely import total_bounds
from shapely.geometry import box, shape

from compoundwatch.outputs.strict_json import read_json

Paths = Callable[[str], Path]

GEOJSON = "application/geo+json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.0"
LIMIT, MOST = 100, 10_000
"""Features in one answer: as a rule, and at most."""
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
CONFORMS = tuple(
    f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{part}" for part in ("core", "oas30", "geojson")
)
COLLECTIONS = {
    "sites": ("Sites", "The watched sites and their states"),
    "changes": ("Changed patches", "Patches of changed pixels inside the sites"),
}


def landing(base: str) -> dict[str, Any]:
    """The landing page; ``base`` is the address of the server, ending in "/"."""
    ogc = f"{base}ogc"
    return {
        "title": "compoundwatch",
        "description": "A result of compoundwatch on this machine, read-only",
        "links": [
            _link(ogc, "self", "application/json", "This page"),
            _link(f"{ogc}/api", "service-desc", OPENAPI, "What can be asked"),
            _link(f"{ogc}/conformance", "conformance", "application/json", "Which parts of the standard it follows"),
            _link(f"{ogc}/collections", "data", "application/json", "The collections"),
        ],
    }


def api(document: dict[str, Any]) -> dict[str, Any]:
    """The description of the service, of these paths alone."""
    return {**document, "paths": {k: v for k, v in document["paths"].items() if k.startswith("/ogc")}}


def collections(base: str, paths: Paths) -> dict[str, Any]:
    """All collections."""
    return {
        "links": [_link(f"{base}ogc/collections", "self", "application/json", "The collections")],
        "collections": [collection(base, name, paths) for name in COLLECTIONS],
    }


def collection(base: str, name: str, paths: Paths) -> dict[str, Any] | None:
    """One collection, None if there is none of that name."""
    if name not in COLLECTIONS:
        return None
    title, description = COLLECTIONS[name]
    home = f"{base}ogc/collections/{name}"
    shapes = [shape(f["geometry"]) for f in _features(paths(f"{name}.geojson")) if f["geometry"]]
    corners = [float(v) for v in total_bounds(shapes)] if shapes else None
    return {
        "id": name,
        "title": title,
        "description": description,
        "itemType": "feature",
        "crs": [CRS84],
        **({"extent": {"spatial": {"bbox": [corners], "crs": CRS84}}} if corners else {}),
        "links": [
            _link(home, "self", "application/json", title),
            _link(f"{home}/items", "items", GEOJSON, title),
        ],
    }


def items(base: str, name: str, paths: Paths, bbox: str, limit: int, offset: int) -> dict[str, Any] | None:
    """Features of a collection.

    Parameters
    ----------
    bbox : "west,south,east,north" or empty; features that touch it are given.

    Raises
    ------
    ValueError : ``bbox`` is not as expected.
    """
    if name not in COLLECTIONS:
        return None
    window = _window(bbox)
    found = [
        (k, f)
        for k, f in enumerate(_features(paths(f"{name}.geojson")))
        if window is None or (f["geometry"] and window.intersects(shape(f["geometry"])))
    ]
    part = [_numbered(k, f) for k, f in found[offset : offset + limit]]
    home = f"{base}ogc/collections/{name}/items"
    links = [_link(_page(home, bbox, limit, offset), "self", GEOJSON, "This page")]
    if offset + limit < len(found):
        links.append(_link(_page(home, bbox, limit, offset + limit), "next", GEOJSON, "The next page"))
    links.append(_link(f"{base}ogc/collections/{name}", "collection", "application/json", COLLECTIONS[name][0]))
    counts = {"numberMatched": len(found), "numberReturned": len(part)}
    return {"type": "FeatureCollection", "features": part, "links": links, **counts}


def item(base: str, name: str, paths: Paths, number: str) -> dict[str, Any] | None:
    """One feature by its number, None if there is none."""
    whole = _features(paths(f"{name}.geojson")) if name in COLLECTIONS else ()
    if not (number.isascii() and number.isdigit() and len(number) < 10 and int(number) < len(whole)):
        return None
    home = f"{base}ogc/collections/{name}"
    links = [
        _link(f"{home}/items/{number}", "self", GEOJSON, "This feature"),
        _link(home, "collection", "application/json", COLLECTIONS[name][0]),
    ]
    return {**_numbered(int(number), whole[int(number)]), "links": links}


def _numbered(number: int, feature: dict[str, Any]) -> dict[str, Any]:
    return {**feature, "id": number}


def _features(path: Path) -> tuple[dict[str, Any], ...]:
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> tuple[dict[str, Any], ...]:
    """The features of a file, read again when it ``changed``."""
    return tuple(read_json(path)["features"])


def _window(bbox: str) -> Any:
    if not bbox:
        return None
    try:
        west, south, east, north = (float(part) for part in bbox.split(","))
    except ValueError:
        raise ValueError("expected bbox as four numbers with commas: west,south,east,north") from None
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise ValueError("expected bbox in degrees of longitude and latitude, south below north")
    if west <= east:
        return box(west, south, east, north)
    return box(west, south, 180, north).union(box(-180, south, east, north))  # across the 180th meridian


def _page(home: str, bbox: str, limit: int, offset: int) -> str:
    asked = {**({"bbox": bbox} if bbox else {}), "limit": limit, "offset": offset}
    return f"{home}?{urlencode(asked)}"


def _link(href: str, rel: str, kind: str, title: str) -> dict[str, str]:
    return {"href": href, "rel": rel, "type": kind, "title": title}
