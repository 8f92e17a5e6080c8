"""watch.qgz: a result as a project of QGIS that moves with its folder, written through a template."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyproj
import shapely

from compoundwatch.grid import project, utm_epsg
from compoundwatch.model import WatchResult
from compoundwatch.outputs import fields
from compoundwatch.outputs.manifest import plain, stamp, utc
from compoundwatch.outputs.qgis import RasterStyle, VectorStyle, environment, picture_styles, vector_styles
from compoundwatch.outputs.staging import PACKAGE

MERCATOR = 3857
"""Reference system of a project whose sites lie in several UTM zones."""
MOST_PICTURES = 500
"""Of those between before and after, in a project: QGIS opens some 250 a second."""


@dataclass(frozen=True)
class MapLayer:
    """A layer of the project: its id and name there, its source beside the project, and its looks."""

    id: str  # QGIS replaces those that are shorter than ten characters
    name: str
    source: str
    style: VectorStyle | RasterStyle
    epsg: int = 4326
    geometry: str = ""

    @property
    def raster(self) -> bool:
        """Whether it has pixels."""
        return isinstance(self.style, RasterStyle)


@dataclass(frozen=True)
class Group:
    """Layers and groups of the legend, the uppermost first; ``shown`` False = hidden at first."""

    name: str
    members: Sequence[MapLayer | Group]
    shown: bool = True
    open: bool = False


def write_project(path: Path, result: WatchResult, shots: Mapping[str, Mapping[str, Any]]) -> None:
    """Write watch.qgz: the layers of watch.gpkg and the pictures in groups, by paths relative to it.

    Parameters
    ----------
    path : where it goes, beside watch.gpkg and the folder of pictures, which are there already.
    shots : what each picture holds ("site_id", "sensor", "acquired", "when"), by its path relative to the project.
    """
    epsg, extent = _view(result)
    tree = _tree(path.parent, result, shots)
    layers = list(_layers(tree))
    text = (
        environment()
        .get_template("project.qgs.j2")
        .render(
            title=f"{result.area.area_id}, {result.as_of}",
            stamp=stamp(result.provenance),
            created=plain(result.provenance.created),
            tree=tree,
            layers=layers,
            epsg=epsg,
            wkt={code: pyproj.CRS.from_epsg(code).to_wkt() for code in {4326, epsg, *(layer.epsg for layer in layers)}},
            extent=extent,
            bookmarks=[(s.site_id, s.name, s.geometry.envelope.wkt) for s in result.area.targets],
            start=_start(result),
            end=f"{result.as_of}T00:00:00Z",
            credit=_credit(result, shots),
        )
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        # Without a time of its own, so that equal results make equal files.
        file.writestr(zipfile.ZipInfo(f"{path.stem}.qgs"), text.encode(), zipfile.ZIP_DEFLATED)
    path.write_bytes(buffer.getvalue())


def _view(result: WatchResult) -> tuple[int, tuple[float, float, float, float]]:
    """The reference system of the map and what it shows at first: all sites and a rim."""
    shapes = [s.geometry for s in result.area.targets]
    if not shapes:
        return MERCATOR, project(shapely.box(-180, -80, 180, 80), 4326, MERCATOR).bounds
    zones = {utm_epsg(shape) for shape in shapes}
    epsg = zones.pop() if len(zones) == 1 else MERCATOR
    west, south, east, north = shapely.total_bounds([project(shape, 4326, epsg) for shape in shapes]).tolist()
    rim = 0.08 * max(east - west, north - south) + 200
    return epsg, (west - rim, south - rim, east + rim, north + rim)


def _tree(folder: Path, result: WatchResult, shots: Mapping[str, Mapping[str, Any]]) -> Group:
    styles = vector_styles()

    def layer(name: str, title: str) -> MapLayer:
        source = f"./{PACKAGE}|layername={name}"
        return MapLayer(f"compoundwatch_{name}", title, source, styles[name], geometry=fields.GEOMETRIES.get(name, ""))

    pictures = _picture_layers(folder, result, shots)
    by_date = [Group("Pictures by date, for the Temporal Controller", pictures["between"], shown=False)]
    if not 0 < len(pictures["between"]) <= MOST_PICTURES:
        by_date = []
    tables = [name for name in fields.LAYERS if name not in fields.GEOMETRIES]
    return Group(
        "",
        (
            layer("event_places", "Events"),
            layer("sites", "Sites"),
            layer("changes", "Changed patches"),
            layer("controls", "Control areas"),
            *by_date,
            Group("Pictures after", pictures["after"]),
            Group("Pictures before", pictures["before"]),
            Group("Footprints of scenes", (layer("scenes", "Scenes"),), shown=False),
            Group("Tables", [layer(name, fields.TITLES[name]) for name in tables]),
        ),
    )


def _picture_layers(
    folder: Path, result: WatchResult, shots: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[MapLayer]]:
    """The pictures by "before", "after" and "between".

    Those between are drawn from their day until the next; where they are hidden, that before is drawn until that after.
    """
    import rasterio

    sites = result.area.by_id
    titles = {s.name: s.title for s in result.sensors}
    styles = picture_styles(shots, result.as_of)
    starts = {about["site_id"]: styles[path].start for path, about in shots.items() if about["when"] == "after"}
    layers: dict[str, list[MapLayer]] = {"before": [], "after": [], "between": []}
    for k, (path, about) in enumerate(sorted(shots.items()), start=1):
        site, sensor, style = sites[about["site_id"]], str(about["sensor"]), styles[path]
        if about["when"] == "before":
            style = replace(style, start=_start(result), end=starts.get(site.site_id, f"{result.as_of}T00:00:00Z"))
        name = f"{site.name}, {str(about['acquired'])[:10]}, {titles.get(sensor, sensor)}"
        with rasterio.open(folder / path) as file:
            epsg = int(file.crs.to_epsg())
        layers[str(about["when"])].append(MapLayer(f"compoundwatch_picture_{k}", name, f"./{path}", style, epsg))
    return layers


def _start(result: WatchResult) -> str:
    """The day of the first scene, ISO 8601."""
    return f"{min((utc(s.acquired).date() for s in result.scenes), default=result.reference_end)}T00:00:00Z"


def _layers(group: Group) -> Iterator[MapLayer]:
    for member in group.members:
        if isinstance(member, Group):
            yield from _layers(member)
        else:
            yield member


def _credit(result: WatchResult, shots: Mapping[str, Mapping[str, Any]]) -> str:
    """Whose imagery the pictures show, with the years."""
    years: dict[str, set[str]] = {}
    for about in shots.values():
        years.setdefault(str(about["sensor"]), set()).add(str(about["acquired"])[:4])
    said = {s.name: s.attribution for s in result.sensors}
    return "; ".join(f"{said[name]} {', '.join(sorted(y))}" for name, y in years.items() if name in said)
