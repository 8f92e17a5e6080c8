"""From a STAC item to a scene: the same code whatever catalogue the item came from.

An item is hostile until checked: a catalogue must not make this machine read its own files or its own network.
"""

from __future__ import annotations

import datetime as dt
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import shapely
from shapely.errors import ShapelyError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from compoundwatch.errors import CatalogError, NetworkError
from compoundwatch.model import Access, Asset, Calibration, Scene, SearchSettings, Sensor, Skipped, shown
from compoundwatch.network import check_url

MAX_ID, MAX_TEXT, MAX_PATH = 200, 500, 4_000
"""Characters of an id, of any other text of a scene, and of the path of a file."""
UNREADABLE = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    OSError,
    ShapelyError,
)
"""What reading an item that is built wrongly may raise."""


@dataclass(frozen=True)
class HrefRule:
    """Turns an absolute href into one that may be opened, or raises CatalogError.

    ``access`` says how a remote file is reached. Files of this machine may be named below the folder ``root`` only
    (None = none at all).
    """

    access: Access = field(default_factory=Access)
    root: Path | None = None

    def __call__(self, href: str) -> str:
        """The href as it may be opened."""
        if self.root is not None and not href.startswith(("https://", "http://")):
            return str(below(self.root, href))
        try:
            check_url(href, self.access.own_hosts)
        except NetworkError as error:
            raise CatalogError(f"{error}; it is not read") from None
        return href


def remote_rule(catalog_host: str | None, access: Access | None = None) -> HrefRule:
    """Hrefs that a remote catalogue may name: http(s), and no address of this machine or its network.

    ``catalog_host`` is the host the user asked for (None = no remote catalogue); it may name itself.
    """
    own = frozenset([catalog_host] if catalog_host else [])
    known = access or Access()
    return HrefRule(Access(known.own_hosts | own, known.token_endpoint, known.signed_hosts))


def folder_rule(root: Path) -> HrefRule:
    """Hrefs that a catalogue in a folder may name: files below that folder, and what a remote one may name."""
    return HrefRule(root=root.resolve())


def below(root: Path, href: str) -> Path:
    """The file that a path or file:// address names, which has to lie in a folder.

    Raises
    ------
    CatalogError : it lies elsewhere, or is no plain file.
    """
    if not href.isprintable() or len(href) > MAX_PATH:
        raise CatalogError("a file's path is too long or holds characters that cannot be printed; it is not read")
    if href.startswith("file:"):
        parts = urlsplit(href)
        return _inside(root, url2pathname(parts.path) if parts.netloc in ("", "localhost") else "//")
    path = _inside(root, href)
    return _inside(root, url2pathname(href)) if "%" in href and not path.exists() else path


def _inside(root: Path, text: str) -> Path:
    # Looked at as text first: on some systems even to look at a path may make this machine log in to another one.
    where = os.path.normpath(os.path.join(root, text))
    inside = os.path.join(root, "")
    if "://" in text or not where.startswith(inside) or not (real := os.path.realpath(where)).startswith(inside):
        raise CatalogError("a file lies outside the folder of its catalogue; it is not read")
    path = Path(real)
    if not path.is_file() and path.exists():
        raise CatalogError("a file of the catalogue is no plain file; it is not read")
    return path


def label(item: Any) -> str:
    """The id of an item as it may stand in a message."""
    name = item.get("id") if isinstance(item, Mapping) else None
    return name if isinstance(name, str) and _is_plain(name) else shown(name)


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= MAX_ID and name.isprintable() and not set(name) & set("/\\") and bool(name.strip(". "))


def _checked_id(item: Mapping[str, Any]) -> str:
    name = item.get("id")
    if not isinstance(name, str) or not _is_plain(name):
        raise CatalogError(
            f"an item has the id {shown(name)}; expected 1 to {MAX_ID} printable characters without slashes"
        )
    return name


def _text(value: str) -> str:
    """A text of a scene, which ends up in tables and reports."""
    if len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"a text of {len(value)} characters, or with some that cannot be printed: {shown(value)}")
    return value


def _cloud_percent(stated: Any) -> float | None:
    if stated is None:
        return None
    percent = float(stated)
    if not 0 <= percent <= 100:
        raise ValueError(f"cloud cover {percent:g}, expected 0 to 100")
    return percent


def _footprint(stated: Any) -> BaseGeometry | None:
    """The outline, repaired where it crosses itself; None where none is stated."""
    if not stated:
        return None
    outline = shape(stated)
    if outline.is_empty or not all(math.isfinite(v) for v in outline.bounds):
        raise ValueError("the outline is empty, or has coordinates that are not finite")
    return outline if outline.is_valid else shapely.make_valid(outline)


def _calibrated(sensor: Sensor, item: Mapping[str, Any], key: str) -> Calibration:
    rule = sensor.calibrate(item, key)
    if not (math.isfinite(rule.scale) and math.isfinite(rule.offset) and rule.scale):
        raise ValueError(f"scale {rule.scale:g} and offset {rule.offset:g} of '{key}' are no calibration")
    return rule


def to_scene(item: Mapping[str, Any], sensor: Sensor, catalog: str, rule: HrefRule) -> Scene:
    """Read a STAC item (as a dict with absolute hrefs) as a scene of ``sensor``.

    Raises
    ------
    CatalogError : the item lacks a band, a date or a calibration, or names an address that may not be read.
    """
    name = _checked_id(item)
    try:
        properties, assets = item["properties"], item["assets"]
        acquired = parse_time(properties.get("datetime") or properties["start_datetime"])
        found = {}
        for band in sensor.bands:
            key = next((k for k in band.assets if k in assets), None)
            if key is None:
                raise CatalogError(f"item {name} has no band '{band.name}' (looked for {' or '.join(band.assets)})")
            href, calibration = rule(str(assets[key]["href"])), _calibrated(sensor, item, key)
            corner = _corner(assets[key]) if band.layer else None
            found[band.name] = Asset(href, calibration, band.layer, corner, rule.access)
        return Scene(
            scene_id=name,
            sensor=sensor.name,
            collection=str(item.get("collection") or ""),
            catalog=catalog,
            acquired=acquired,
            acquisition=_text(sensor.acquisition(item)),
            look=_text(sensor.look(item)),
            processing=_text(sensor.processing(item)),
            version=_text(sensor.version(item)),
            cloud_percent=_cloud_percent(properties.get("eo:cloud_cover")),
            assets=found,
            footprint=_footprint(item.get("geometry")),
            updated=_text(str(properties.get("updated") or properties.get("created") or "")),
            href=_own_address(item, rule),
        )
    except UNREADABLE as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> CatalogError:
    return CatalogError(f"item {name} is not a usable STAC item: {type(error).__name__} {shown(str(error), 120)}")


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
        if not isinstance(item, Mapping) or item.get("collection") not in sensor.collections:
            continue
        try:
            if reason := _unsuited(item, sensor):
                skipped.append(Skipped(label(item), "search", reason, routine=True))
            else:
                scenes.append(to_scene(item, sensor, catalog, rule))
        except CatalogError as error:
            skipped.append(Skipped(label(item), "search", str(error)))
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
    """Keep the scenes that were asked for, one per acquisition; servers do not always filter as they were told.

    Raises
    ------
    CatalogError : there are more than ``settings.max_scenes``.
    """
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
    except UNREADABLE as error:
        raise _unusable(label(item), error) from error


def newest(scenes: Iterable[Scene], sensor: Sensor, catalogs: Sequence[str] = ()) -> tuple[list[Scene], list[Skipped]]:
    """One scene per acquisition: the newest processing, then the better collection, then the catalogue named first.

    Returns them sorted by time, and the others as routinely skipped.
    """
    rank = {name: -i for i, name in enumerate(sensor.collections)}
    place = {name: -i for i, name in enumerate(catalogs)}

    def worth(scene: Scene) -> tuple[Any, ...]:
        order = rank.get(scene.collection, -99), place.get(scene.catalog, -99)
        return scene.processing, *order, scene.updated, scene.scene_id

    best: dict[str, Scene] = {}
    left: list[Skipped] = []
    for scene in sorted(scenes, key=worth):
        if older := best.get(scene.acquisition):
            left.append(Skipped(older.scene_id, "search", _why_not(older, scene), routine=True))
        best[scene.acquisition] = scene
    return sorted(best.values(), key=lambda s: (s.acquired, s.scene_id)), left


def _why_not(other: Scene, used: Scene) -> str:
    """Why one of two scenes of an acquisition is not used."""
    if other.processing != used.processing:
        return f"the same acquisition was processed anew as {used.scene_id}"
    return f"the same acquisition is used as {used.scene_id} of {used.collection} in catalogue {used.catalog}"
