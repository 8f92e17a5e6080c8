"""A static STAC catalogue of one run: an item for each site, with its state and its files, and one for each picture.

Both lead to the scenes they rest on.

Written with relative links, so that it moves with the folder; addresses of scenes lose user names and tokens. Facts of
the formats: STAC specification 1.1, and its extensions processing 1.1, projection 2.0, raster 1.1 and file 2.1
(stacspec.org, stac-extensions.github.io).
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compoundwatch.grid import project
from compoundwatch.model import Scene, Site, SiteState, WatchResult
from compoundwatch.outputs import rows
from compoundwatch.outputs.charts import CHARTS
from compoundwatch.outputs.manifest import clean, dumps, local_path, plain, utc, without_secrets
from compoundwatch.outputs.raster import safe_name
from compoundwatch.outputs.staging import sha256
from compoundwatch.outputs.vector import geojson_geometry, to_lonlat

if TYPE_CHECKING:
    import pystac
    from shapely.geometry.base import BaseGeometry

STAC = "stac"
PREFIX = "compoundwatch:"
EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("processing/v1.1.0", "projection/v2.0.0", "raster/v1.1.0", "file/v2.1.0")
)
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
WHOLE = {
    "sites.geojson": ("sites", "application/geo+json", "Sites with their state", ["data"]),
    "changes.geojson": ("changes", "application/geo+json", "Patches of changed pixels", ["data"]),
    "watch.gpkg": ("package", "application/geopackage+sqlite3", "All layers and tables", ["data"]),
    "watch.qgz": ("project", "application/zip", "The same as a project of QGIS", ["overview"]),
    "report.html": ("report", "text/html", "Report for readers", ["overview"]),
}
"""Files of all sites: their names as assets, media types, titles and roles."""


def write_catalog(
    aside: Path,
    folder: Path,
    result: WatchResult,
    answers: Mapping[str, SiteState],
    rasters: Mapping[str, Row],
    shots: Mapping[str, Row],
) -> None:
    """Write stac/catalog.json, stac/<site>.json for every site and stac/pictures/<picture>.json for every picture.

    Parameters
    ----------
    aside : holds the other files of the result already, but for the manifest.
    folder : where they will lie in the end; links to scenes on this machine start there.
    answers : the state of every site by its id.
    rasters : what each raster holds ("site_id", "sensor", "feature", "layer"), by its path relative to ``aside``.
    shots : what each picture holds ("site_id", "sensor", "scene_id", "acquired", "when"), by such a path.
    """
    import pystac

    area, run = result.area, result.provenance
    catalog = pystac.Catalog(
        f"compoundwatch-{safe_name(area.area_id)}",
        f"What compoundwatch found at the sites of {area.area_id} in run {run.run_id}",
        title=f"{area.area_id}, {result.as_of}",
        catalog_type=pystac.CatalogType.SELF_CONTAINED,
    )
    home = (aside / STAC).resolve()
    catalog.set_self_href(str(home / "catalog.json"))
    whole = {key: asset for path, about in WHOLE.items() for key, asset in _whole(aside, path, about)}
    scenes = {scene.scene_id: scene for scene in result.scenes}
    files: dict[str, str] = {}
    items: dict[str, pystac.Item] = {}

    def add(item: pystac.Item, path: str, title: str, used: Sequence[Scene]) -> None:
        catalog.add_item(item, title=title)
        files[item.id] = path
        # A new place of an item moves its relative addresses along: it must be known before they are added.
        item.set_self_href(str(home / path))
        for scene in used:
            if href := _source(scene, folder, (home / path).parent.relative_to(home)):
                media_type = "application/geo+json" if scene.href else None
                item.add_link(pystac.Link("derived_from", href, media_type, scene.scene_id))

    for site in area.targets:
        used = [scenes[k] for k in _scene_ids(result, site.site_id) if k in scenes]
        items[site.site_id] = item = _item(site, answers[site.site_id], used, result)
        add(item, f"{safe_name(site.site_id)}.json", site.name, used)
        for path, row in rasters.items():
            if row["site_id"] == site.site_id:
                item.add_asset(
                    f"{row['sensor']}_{row['feature']}_{row['layer']}", _raster(aside, path, "../", ["data"])
                )
        chart = f"{CHARTS}/{safe_name(site.site_id)}.png"
        about = ("chart", "image/png", "The measurement that says most, over time", ["overview"])
        for key, asset in (*whole.items(), *_whole(aside, chart, about)):
            item.add_asset(key, asset.clone())
    for path, row in shots.items():
        used = [scenes[k] for k in row["scene_id"].split("+") if k in scenes]
        item = _picture_item(aside, path, row, result)
        add(item, f"pictures/{Path(path).stem}.json", str(item.properties["title"]), used)
        item.add_asset("picture", _raster(aside, path, "../../", ["visual"]))
        item.add_link(pystac.Link("related", items[row["site_id"]], "application/geo+json", "The site"))
    for item in catalog.get_items():
        (home / files[item.id]).parent.mkdir(parents=True, exist_ok=True)
        text = dumps(plain(item.to_dict(include_self_link=False)))
        (home / files[item.id]).write_text(text, encoding="utf-8")
    home.mkdir(parents=True, exist_ok=True)
    text = dumps(plain(catalog.to_dict(include_self_link=False)))
    (home / "catalog.json").write_text(text, encoding="utf-8")


Row = Mapping[str, Any]


def _scene_ids(result: WatchResult, site_id: str) -> list[str]:
    """The scenes that a site was measured on, in the order of time; those of one day are joined by "+"."""
    joined = result.series.loc[result.series["site_id"] == site_id].sort_values("acquired")["scene_id"]
    return list(dict.fromkeys(name for names in joined for name in str(names).split("+")))


def _item(site: Site, answer: SiteState, used: Sequence[Scene], result: WatchResult) -> pystac.Item:
    import pystac

    run = result.provenance
    told = {
        **rows.place(site),
        **rows.answer(answer, rows.probability_called(result)),
        **rows.origin(site),
        "run_id": run.run_id,
    }
    times = sorted(utc(scene.acquired) for scene in used)
    sensors = ", ".join(sensor.title for sensor in result.sensors)
    return pystac.Item(
        f"{safe_name(site.site_id)}_{run.run_id}",
        geojson_geometry(site.geometry),
        _bbox(site.geometry),
        utc(run.created),
        {
            "title": site.name,
            "description": answer.reason or str(answer.state),
            "created": plain(run.created),
            "processing:software": _software(result),
            "processing:lineage": "Changes at a known site against its control areas; scenes used: "
            f"{len(used)}; sensors: {sensors or 'none'}; settings: {run.settings_key}",
            **{f"{PREFIX}{name}": plain(value) for name, value in told.items()},
            f"{PREFIX}scenes": [scene.scene_id for scene in used],
        },
        start_datetime=times[0] if times else None,
        end_datetime=times[-1] if times else None,
        stac_extensions=list(EXTENSIONS),
    )


def _picture_item(aside: Path, path: str, row: Row, result: WatchResult) -> pystac.Item:
    """A picture of one site on one day."""
    import pystac
    import rasterio
    import shapely

    site = result.area.by_id[row["site_id"]]
    sensor = next((s.title for s in result.sensors if s.name == row["sensor"]), row["sensor"])
    with rasterio.open(aside / path) as file:
        frame = project(shapely.box(*file.bounds), int(file.crs.to_epsg()), 4326)
    (frame,) = to_lonlat([frame], lambda shapes: shapes)
    return pystac.Item(
        Path(path).stem,
        geojson_geometry(frame),
        _bbox(frame),
        dt.datetime.fromisoformat(row["acquired"]),
        {
            "title": f"{site.name}, {row['acquired'][:10]}, {sensor}",
            "description": "True-colour picture of a clear view, stretched for the eye; measure on the scenes instead",
            "created": plain(result.provenance.created),
            "processing:software": _software(result),
            "processing:lineage": f"Cut to the site, red, green and blue drawn with one gamma; sensor: {sensor}",
            **{f"{PREFIX}{name}": row[name] for name in ("site_id", "sensor", "when")},
            f"{PREFIX}run_id": result.provenance.run_id,
            f"{PREFIX}scenes": row["scene_id"].split("+"),
        },
        stac_extensions=list(EXTENSIONS),
    )


def _software(result: WatchResult) -> dict[str, str]:
    return {str(k): str(v) for k, v in clean(plain(result.provenance.software)).items()}


def _bbox(geometry: BaseGeometry) -> list[float]:
    """West, south, east, north; west lies east of east where the 180th meridian runs through (RFC 7946, 5.2)."""
    import shapely

    west, south, east, north = (round(float(v), 7) for v in geometry.bounds)
    if east - west > 180:
        x = shapely.get_coordinates(geometry)[:, 0]
        west, east = round(float(x[x > 0].min()), 7), round(float(x[x <= 0].max()), 7)
    return [west, south, east, north]


def _content(path: Path) -> dict[str, Any]:
    """Size and checksum as the file extension writes them: a multihash, 12 (SHA-256) and 20 (32 bytes) in front."""
    return {"file:size": path.stat().st_size, "file:checksum": f"1220{sha256(path)}"}


def _whole(aside: Path, path: str, about: tuple[str, str, str, list[str]]) -> Iterator[tuple[str, pystac.Asset]]:
    import pystac

    key, media_type, title, roles = about
    if (aside / path).is_file():
        more = _content(aside / path)
        yield key, pystac.Asset(f"../{path}", title, media_type=media_type, roles=roles, extra_fields=more)


def _raster(aside: Path, path: str, up: str, roles: list[str]) -> pystac.Asset:
    """A raster as an asset, described by what stands in the file itself; ``up`` leads from the item to the result."""
    import pystac
    import rasterio

    with rasterio.open(aside / path) as file:
        bands = [
            {
                "data_type": dtype,
                **({} if nodata is None else {"nodata": "nan" if np.isnan(nodata) else int(nodata)}),
                "sampling": "area",
                "spatial_resolution": float(file.res[0]),
                **({"unit": unit} if unit else {}),
            }
            for dtype, nodata, unit in zip(file.dtypes, file.nodatavals, file.units, strict=True)
        ]
        more = {
            "proj:code": file.crs.to_string(),
            "proj:shape": list(file.shape),
            "proj:transform": [float(v) for v in file.transform[:6]],
            "proj:bbox": [float(v) for v in file.bounds],
            "raster:bands": bands,
            **_content(aside / path),
        }
        title = file.descriptions[0] or "Picture"
    return pystac.Asset(f"{up}{path}", title, media_type=COG, roles=roles, extra_fields=more)


def _source(scene: Scene, folder: Path, inside: Path) -> str:
    """The address of a scene's record, or of its first file where it has none; empty where it should not be told.

    A file on this machine is named only where it lies beside the result or in it: the way to others would tell names
    of folders, and with them perhaps of a user. ``inside`` is the folder of the item within that of the catalogue.
    """
    href = scene.href or next((asset.href for asset in scene.assets.values()), "")
    path = local_path(href)
    if path is None:
        return without_secrets(href)
    home = folder.resolve()
    if not path.is_absolute() or not path.resolve().is_relative_to(home.parent):
        return ""
    return Path(os.path.relpath(path.resolve(), home / STAC / inside)).as_posix()
