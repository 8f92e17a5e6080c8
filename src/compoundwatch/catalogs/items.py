"""From a STAC item to a scene: the same code whatever catalogue the item came from.

An item is hostile until checked: a catalogue must not make this machine read its own files or its own network.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from shapely.errors import ShapelyError
from shapely.geometry import shape

from compoundwatch.errors import CatalogError
from compoundwatch.model import Asset, Scene, SearchSettings, Sensor, Skipped

HrefRule = Callable[[str], str]
"""Turns an absolute href into one that may be opened, or raises CatalogError."""


def remote_rule(catalog_host: str | None) -> HrefRule:
    """Hrefs that a remote catalogue may name: http(s), and no address of this machine or its network.

    ``catalog_host`` is the host the user asked for (None = no remote catalogue); it may name itself.
    """

    def check(href: str) -> str:
        parts = urlsplit(href)
        host = parts.hostname or ""
        if parts.scheme not in ("https", "http") or not host:
            raise CatalogError(f"an asset's address starts with '{parts.scheme or href[:20]}'; only https is read")
        if parts.username or parts.password:
            raise CatalogError("an asset's address carries a user name or password; it is not read")
        if host != catalog_host and _is_inside(host):
            raise CatalogError(f"an asset's address points to the private host '{host}'; it is not read")
        return href

    return check


def _is_inside(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_global
    except ValueError:
        # A bare number or a hexadecimal host is an IPv4 address to many libraries.
        return "." not in host and ":" not in host


def folder_rule(root: Path) -> HrefRule:
    """Hrefs that a catalogue in a folder may name: files below that folder, and what a remote one may name."""
    root, remote = root.resolve(), remote_rule(None)

    def check(href: str) -> str:
        if href.startswith(("https://", "http://")):
            return remote(href)
        path = Path(url2pathname(href.removeprefix("file://"))).resolve()
        if not path.is_relative_to(root):
            raise CatalogError("an asset lies outside the folder of its catalogue; it is not read")
        return str(path)

    return check


def to_scene(item: Mapping[str, Any], sensor: Sensor, catalog: str, rule: HrefRule) -> Scene:
    """Read a STAC item (as a dict with absolute hrefs) as a scene of ``sensor``.

    Raises
    ------
    CatalogError : the item lacks a band, a date or a calibration, or names an address that may not be read.
    """
    name = str(item.get("id"))
    try:
        properties, assets = item["properties"], item["assets"]
        acquired = parse_time(properties.get("datetime") or properties["start_datetime"])
        found = {}
        for band in sensor.bands:
            key = next((k for k in band.assets if k in assets), None)
            if key is None:
                raise CatalogError(f"item {name} has no band '{band.name}' (looked for {' or '.join(band.assets)})")
            href, calibration = rule(str(assets[key]["href"])), sensor.calibrate(item, key)
            found[band.name] = Asset(href, calibration, band.layer, _corner(assets[key]) if band.layer else None)
        cloud = properties.get("eo:cloud_cover")
        return Scene(
            scene_id=name,
            sensor=sensor.name,
            collection=str(item.get("collection") or ""),
            catalog=catalog,
            acquired=acquired,
            acquisition=sensor.acquisition(item),
            look=sensor.look(item),
            processing=sensor.processing(item),
            version=sensor.version(item),
            cloud_percent=None if cloud is None else float(cloud),
            assets=found,
            footprint=shape(item["geometry"]) if item.get("geometry") else None,
            updated=str(properties.get("updated") or properties.get("created") or ""),
            href=_own_address(item, rule),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ShapelyError) as error:
        raise CatalogError(f"item {name} is not a usable STAC item: {type(error).__name__} {error}") from error


def _own_address(item: Mapping[str, Any], rule: HrefRule) -> str:
    """Where the catalogue keeps the item; empty where it does not say, or names an address that may not be read."""
    own = next((str(link["href"]) for link in item.get("links") or () if link.get("rel") == "self"), "")
    try:
        return rule(own) if own else ""
    except CatalogError:
        return ""


def _corner(asset: Mapping[str, Any]) -> tuple[float, float, float]:
    """Upper left corner and pixel size in degrees from the projection extension's affine transform."""
    size, _, west, _, _, north = (float(v) for v in asset["proj:transform"][:6])
    return west, north, size


def parse_time(text: str) -> dt.datetime:
    """An RFC 3339 time as UTC; a time without a zone is taken as UTC, as STAC requires it to be."""
    time = dt.datetime.fromisoformat(text)
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)


def select(
    items: Iterable[Mapping[str, Any]],
    bounds: tuple[float, float, float, float],
    start: dt.date,
    end: dt.date,
    sensor: Sensor,
    settings: SearchSettings,
    catalog: str,
    rule: HrefRule,
) -> tuple[list[Scene], list[Skipped]]:
    """Turn items into scenes and keep what was asked for."""
    scenes, skipped = to_scenes(items, sensor, catalog, rule)
    kept, left = choose(scenes, bounds, start, end, sensor, settings, catalog)
    return kept, skipped + left


def to_scenes(
    items: Iterable[Mapping[str, Any]], sensor: Sensor, catalog: str, rule: HrefRule
) -> tuple[list[Scene], list[Skipped]]:
    """The scenes of a sensor among items, and what cannot be used and why."""
    scenes: list[Scene] = []
    skipped: list[Skipped] = []
    for item in items:
        if item.get("collection") not in sensor.collections:
            continue
        try:
            if reason := _unsuited(item, sensor):
                skipped.append(Skipped(str(item.get("id")), "search", reason, routine=True))
            else:
                scenes.append(to_scene(item, sensor, catalog, rule))
        except CatalogError as error:
            skipped.append(Skipped(str(item.get("id")), "search", str(error)))
    return scenes, skipped


def choose(
    scenes: Iterable[Scene],
    bounds: tuple[float, float, float, float],
    start: dt.date,
    end: dt.date,
    sensor: Sensor,
    settings: SearchSettings,
    catalog: str,
) -> tuple[list[Scene], list[Skipped]]:
    """Keep the scenes that were asked for, one per acquisition; servers do not always filter as they were told."""
    from shapely.geometry import box

    place = box(*bounds)
    found: list[Scene] = []
    skipped: list[Skipped] = []
    for scene in scenes:
        if not start <= scene.acquired.date() <= end:
            continue
        if scene.footprint is not None and not scene.footprint.intersects(place):
            continue
        if scene.cloud_percent is not None and scene.cloud_percent > settings.max_cloud_percent:
            reason = f"cloud cover {scene.cloud_percent:.0f} % is above {settings.max_cloud_percent:.0f} %"
            skipped.append(Skipped(scene.scene_id, "search", reason, routine=True))
            continue
        found.append(scene)
    kept, older = newest(found, sensor)
    if len(kept) > settings.max_scenes:
        raise CatalogError(
            f"catalogue {catalog}: {len(kept)} scenes found, more than search.max_scenes = {settings.max_scenes}; "
            "ask for fewer years or raise the limit in the settings"
        )
    return kept, skipped + older


def _unsuited(item: Mapping[str, Any], sensor: Sensor) -> str:
    try:
        return sensor.unsuited(item)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = item.get("id")
        raise CatalogError(f"item {name} is not a usable STAC item: {type(error).__name__} {error}") from error


def newest(scenes: Iterable[Scene], sensor: Sensor) -> tuple[list[Scene], list[Skipped]]:
    """One scene per acquisition: the newest processing, then the better collection; sorted by time."""
    rank = {name: -i for i, name in enumerate(sensor.collections)}
    best: dict[str, Scene] = {}
    left: list[Skipped] = []
    for scene in sorted(scenes, key=lambda s: (s.processing, rank.get(s.collection, -99), s.updated, s.scene_id)):
        if older := best.get(scene.acquisition):
            reason = f"the same acquisition was processed anew as {scene.scene_id}"
            left.append(Skipped(older.scene_id, "search", reason, routine=True))
        best[scene.acquisition] = scene
    return sorted(best.values(), key=lambda s: (s.acquired, s.scene_id)), left
