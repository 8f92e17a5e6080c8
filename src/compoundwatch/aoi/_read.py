"""Reads a file of areas and writes sites back: GeoJSON, RFC 7946 (doi:10.17487/RFC7946)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping

from compoundwatch.aoi import _geometry, _json, _properties
from compoundwatch.aoi._json import Fault
from compoundwatch.errors import AreaError
from compoundwatch.model import AreaOfInterest, Role, Site, nearest, shown

MAX_BYTES = 20_000_000
DECIMALS = 7
"""Decimals of a degree in written files: about one centimetre."""

TOP_KEYS = (
    "type", "features", "name", "crs", "bbox", "description", "title", "license", "attribution",
    "xy_coordinate_resolution", "xyz_coordinate_resolution", "timestamp", "generator", "copyright",
)  # fmt: skip
"""Members of the collection that are known; the tool uses the first four, others come from QGIS and exporters."""

FEATURE_KEYS = ("type", "id", "properties", "geometry", "bbox")

LONGITUDE_FIRST = (
    "urn:ogc:def:crs:OGC:1.3:CRS84",
    "urn:ogc:def:crs:OGC::CRS84",
    "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "OGC:CRS84",
    "CRS84",
    "urn:ogc:def:crs:EPSG::4326",
    "EPSG:4326",
)
"""Names of WGS 84 that old writers put into "crs"; all of them write longitude first in GeoJSON."""


def read_areas(path: Path, max_bytes: int = MAX_BYTES) -> AreaOfInterest:
    """Sites and controls of a GeoJSON file.

    A feature without ``role`` is a site. A site without ``controls`` is compared with those controls of the file that
    no site names; where there are none, it has none. Nothing is repaired except the winding order of rings; heights
    are dropped. A Point with ``radius_m`` becomes a circle of 64 corners.

    Parameters
    ----------
    path : file of at most ``max_bytes`` bytes, UTF-8, longitude and latitude (WGS 84).
    max_bytes : size above which the file is refused unread.

    Returns
    -------
    The area: ``area_id`` is the collection's "name", else the file's name without ending (text for readers, not a safe
    file name); ``sites`` in the order of the file; no events.

    Raises
    ------
    AreaError : the file or a feature is not as expected; the message tells the first fault and how many follow.
    """
    path = Path(path)
    content = _json.load(path, max_bytes)
    faults: list[str] = []
    try:
        features = _features(content)
        name = _area_id(content, path)
    except Fault as fault:
        raise AreaError(f"{path}: {fault}") from None
    sites = _sites(features, faults)
    if not faults:
        faults = _disagreements(sites)
    if faults:
        more = len(faults) - 1
        rest = f" ({more} further fault{'s' if more > 1 else ''} in this file)" if more else ""
        raise AreaError(f"{path}: {faults[0]}{rest}")
    return AreaOfInterest(name, _shared_controls(sites))


def to_feature_collection(sites: Iterable[Site], name: str | None = None) -> dict[str, Any]:
    """Sites as a GeoJSON FeatureCollection (RFC 7946) that ``read_areas`` reads back as equal sites.

    Coordinates are longitude and latitude with 7 decimals, outer rings counter-clockwise. Circles become polygons.
    """
    collection: dict[str, Any] = {"type": "FeatureCollection"}
    if name is not None:
        collection["name"] = name
    collection["features"] = [_feature(site) for site in sites]
    return collection


# ------------------------------------------------------------------------------------------------------------- reading


def _features(content: Mapping[str, Any]) -> list[Any]:
    if content.get("type") != "FeatureCollection":
        found = shown(content["type"]) if "type" in content else "an object without type"
        raise Fault(f"expected a FeatureCollection, found {found}; export the whole layer as GeoJSON")
    for key in content:
        if key not in TOP_KEYS and not key.startswith(_properties.OWN_PREFIX):
            close = nearest(key, TOP_KEYS)
            hint = f"did you mean '{close}'?" if close else "put it into the properties of a feature or remove it"
            raise Fault(f"unknown member {shown(key)} beside the features; {hint}")
    if "crs" in content:
        _check_crs(content["crs"])
    features = content.get("features")
    if not isinstance(features, list):
        raise Fault(f"expected features to be a list, found {shown(features)}; export the layer again")
    if not features:
        raise Fault("expected at least one feature, found none; draw a site and save the layer")
    return features


def _check_crs(crs: object) -> None:
    inner = crs.get("properties") if isinstance(crs, dict) else None
    name = inner.get("name") if isinstance(inner, dict) else None
    if name not in LONGITUDE_FIRST:
        found = shown(name) if name is not None else shown(crs)
        raise Fault(f"expected longitude and latitude on WGS 84, found crs {found}; export the layer in EPSG:4326")


def _area_id(content: Mapping[str, Any], path: Path) -> str:
    name = content.get("name")
    if name is None:
        return path.stem
    if not isinstance(name, str) or not name.strip():
        raise Fault(f"expected the collection's name to be text, found {shown(name)}; correct or remove it")
    if len(name) > _properties.NAME_LENGTH or not name.isprintable():
        raise Fault(f"expected a printable name of at most 200 characters, found {shown(name)}; correct or remove it")
    return name.strip()


def _sites(features: list[Any], faults: list[str]) -> list[Site]:
    """Every feature that is as expected; the faults of the others are added to ``faults``."""
    sites = []
    for number, feature in enumerate(features, 1):
        label = f"feature {number}"
        try:
            if not isinstance(feature, dict) or feature.get("type") != "Feature":
                raise Fault(f"expected an object of type Feature, found {shown(feature)}; export the layer again")
            label += f" ('{_properties.site_id(feature)}')"
            sites.append(_site(feature))
        except Fault as fault:
            faults.append(f"{label}: {fault}")
    return sites


def _site(feature: Mapping[str, Any]) -> Site:
    for key in feature:
        if key not in FEATURE_KEYS:
            hint = "move it into properties" if key in _properties.KNOWN else "remove it"
            raise Fault(f"unknown member {shown(key)} beside the properties; {hint}")
    f = _properties.fields(feature)
    shape = _geometry.polygon(feature.get("geometry"), f.radius_m)
    return Site(f.site_id, f.name, f.role, shape, f.controls, f.precision_m, f.source, f.source_date, f.properties)


# ------------------------------------------------------------------------------------------------------- whole file


def _disagreements(sites: list[Site]) -> list[str]:
    """What is wrong between the features of a file."""
    first: dict[str, Site] = {}
    faults = []
    for site in sites:
        key = site.site_id.casefold()  # some file systems do not tell "A" from "a"
        if key in first:
            same = f"'{first[key].site_id}' and '{site.site_id}'"
            faults.append(f"expected every site_id once, found {same} (capitals do not count); rename one")
        first.setdefault(key, site)
    if faults:
        return faults
    if all(s.role is Role.CONTROL for s in sites):
        return ["expected at least one site to watch, found controls only; give a feature the role 'site'"]
    return [*_wrong_controls(sites), *_overlaps(sites)]


def _wrong_controls(sites: list[Site]) -> list[str]:
    by_id = {s.site_id: s for s in sites}
    faults = []
    for site in sites:
        if site.controls and site.role is Role.CONTROL:
            faults.append(f"control '{site.site_id}': expected no controls of its own, found some; empty that field")
            continue
        for control in site.controls:
            if control not in by_id:
                close = nearest(control, by_id)
                hint = f"did you mean '{close}'?" if close else "add that feature or correct the id"
                faults.append(f"site '{site.site_id}': its control '{control}' is not in this file; {hint}")
            elif by_id[control].role is not Role.CONTROL:
                faults.append(
                    f"site '{site.site_id}': expected a feature of role 'control', found '{control}' of role 'site'; "
                    "change its role or name another"
                )
    named = {c for s in sites for c in s.controls}
    if all(s.controls for s in sites if s.role is Role.SITE):
        for idle in (s for s in sites if s.role is Role.CONTROL and s.site_id not in named):
            faults.append(f"control '{idle.site_id}': no site names it in its controls; add it there or remove it")
    return faults


def _overlaps(sites: list[Site]) -> list[str]:
    targets = [s for s in sites if s.role is Role.SITE]
    controls = [s for s in sites if s.role is Role.CONTROL]
    tree = shapely.STRtree([s.geometry for s in targets])
    faults = []
    for control in controls:
        hits = sorted(tree.query(control.geometry, predicate="intersects").tolist())
        hit = next((targets[t] for t in hits if not control.geometry.touches(targets[t].geometry)), None)
        if hit is not None:
            faults.append(
                f"control '{control.site_id}': it overlaps site '{hit.site_id}'; "
                "a control must lie outside every site, best 3 km or more away"
            )
    return faults


def _shared_controls(sites: list[Site]) -> tuple[Site, ...]:
    """Sites that name no control get those that nobody names."""
    named = {c for s in sites for c in s.controls}
    shared = tuple(s.site_id for s in sites if s.role is Role.CONTROL and s.site_id not in named)
    return tuple(replace(s, controls=shared) if s.role is Role.SITE and not s.controls else s for s in sites)


# ------------------------------------------------------------------------------------------------------------- writing


def _feature(site: Site) -> dict[str, Any]:
    properties: dict[str, Any] = {"site_id": site.site_id, "name": site.name, "role": str(site.role)}
    if site.controls:
        properties["controls"] = ", ".join(site.controls)  # text, since many vector formats hold no lists
    if site.precision_m is not None:
        properties["precision_m"] = site.precision_m
    if site.source is not None:
        properties["source"] = site.source
    if isinstance(site.source_date, dt.date):
        properties["source_date"] = site.source_date.isoformat()
    properties.update(site.properties)
    rounded = shapely.transform(_geometry.oriented(site.geometry), lambda xy: np.round(xy, DECIMALS))
    geometry = mapping(rounded)
    shape = {"type": geometry["type"], "coordinates": _lists(geometry["coordinates"])}
    return {"type": "Feature", "properties": properties, "geometry": shape}


def _lists(value: Any) -> Any:
    return [_lists(v) for v in value] if isinstance(value, tuple | list) else value
