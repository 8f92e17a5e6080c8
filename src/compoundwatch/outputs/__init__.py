"""Files that people open: what a run found, written whole or not at all. Nothing is computed here.

The list of files and fields is in docs/outputs.md and docs/fields.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compoundwatch.model import PairChange, Provenance, Role, Site, WatchResult
from compoundwatch.outputs.staging import PACKAGE, check_folder, files_in, staged, stands, sweep

if TYPE_CHECKING:
    from affine import Affine
    from shapely.geometry.base import BaseGeometry

    from compoundwatch.outputs.report import Told

__all__ = ["check_folder", "stands", "sweep", "write_compare", "write_watch"]


def write_watch(
    result: WatchResult,
    folder: Path,
    *,
    rasters: bool = True,
    report: bool = True,
    hash_imagery: bool = True,
    min_patch_m2: float = 400.0,
    told: Told | None = None,
    store: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write everything one run of the main job found.

    Parameters
    ----------
    result : what was found.
    folder : gets sites.geojson, changes.geojson, watch.gpkg, watch.qgz, charts/*.png, rasters/*.tif, pictures/*.tif,
        report.html, stac/*.json and manifest.json, with QGIS styles (.qml) beside them; those of an earlier result are
        replaced. Its log.jsonl gets one line more. Other files in it are left alone.
    rasters, report : False = leave these files out.
    hash_imagery : False = do not read local files of imagery for their SHA-256.
    min_patch_m2 : changed patches smaller than this (square metres) are counted in the manifest but not drawn.
    told : what the report says beyond single sites; None = nothing.
    store : the run and its hash in the store of the workspace; None = there is none.

    Returns
    -------
    the paths written, sorted, the manifest last.

    Raises
    ------
    OutputError : the folder cannot be written; nothing in it has changed then.
    """
    from compoundwatch.outputs import (
        charts,
        manifest,
        pictures,
        qgis,
        qgis_project,
        raster,
        reading,
        rows,
        runlog,
        stac_item,
        vector,
    )
    from compoundwatch.outputs import report as html

    answers = rows.answers_by_site(result)
    targets = {site.site_id: site for site in result.area.targets}
    changes = [c for c in result.changes if c.site_id in targets]
    found = [vector.patches(c, targets[c.site_id].geometry, min_patch_m2) for c in changes]
    patches = [p for part in found for p in part.kept]
    stamp = manifest.stamp(result.provenance)
    with staged(folder) as aside:
        layers = rows.watch_layers(result, patches, charts.write_charts(aside, result, answers))
        for name in ("sites", "changes"):
            layer = layers[name]
            vector.write_geojson(aside / f"{name}.geojson", layer.fields, layer.rows, {"provenance": stamp})
            qgis.write_style(aside / f"{name}.qml", qgis.vector_styles()[name])
        vector.write_geopackage(
            aside / PACKAGE,
            layers,
            result.provenance.created,
            {k: str(v) for k, v in stamp.items()},
            qgis.package_styles(),
        )
        details = raster.write_changes(aside, changes, stamp) if rasters else {}
        shots = pictures.write_pictures(aside, result, stamp)
        qgis.write_raster_styles(aside, details)
        qgis.write_picture_styles(aside, shots, result.as_of)
        qgis_project.write_project(aside / "watch.qgz", result, shots)
        if report:
            html.write_report(
                aside / "report.html", reading.as_stored(result, patches), result.sensors, told or html.Told()
            )
        stac_item.write_catalog(aside, folder, result, answers, details, shots)
        counts = manifest.watch_counts(result, answers, len(patches), sum(part.dropped for part in found))
        manifest.write_manifest(
            aside,
            result.provenance,
            "watch",
            counts,
            runlog.head(folder),
            more={**manifest.watch_members(result, answers), **({"store": store} if store else {})},
            details={**details, **shots},
            scenes=result.scenes,
            skipped=result.skipped,
            hash_imagery=hash_imagery,
            earlier=folder,
        )
        runlog.append(folder, aside)
        written = files_in(aside)
    return [folder / path for path in written]


def write_compare(
    folder: Path,
    *,
    before: Path,
    after: Path,
    change: PairChange,
    transform: Affine | None,
    crs: str | None,
    detector: str,
    alpha: float,
    sites: Sequence[tuple[Site, Mapping[str, float | None]]],
    provenance: Provenance,
    min_pixels: int = 1,
) -> list[Path]:
    """Write what two images differ in.

    Parameters
    ----------
    folder : gets direction.tif, statistic.tif, p_value.tif, changes.geojson, sites.geojson (with ``sites``) and
        manifest.json, with QGIS styles (.qml) beside them.
    before, after : the images, named in the files.
    change : the answer, arrays (rows, cols).
    transform, crs : the place of the pixels; None = no place on the map. Polygons then have pixel coordinates: x is the
        column, y is minus the row, which is where QGIS draws an image without a place.
    sites : areas with their changed_share, increased_share, decreased_share and tested_share (0-1, None = unknown).
    min_pixels : smaller patches are counted in the manifest but not drawn.

    Returns
    -------
    the paths written, sorted, the manifest last.

    Raises
    ------
    OutputError : the folder cannot be written; nothing in it has changed then.
    """
    from compoundwatch.outputs import fields, manifest, qgis, raster, rows, runlog, vector

    stamp = manifest.stamp(provenance)
    names = {"before": before.name, "after": after.name, "detector": detector, "alpha": alpha}
    pixel_map, place, area_m2 = _pair_place(transform, crs)
    patches, dropped = vector.pair_patches(change, pixel_map, place, min_pixels)
    placed = transform is not None and crs is not None
    for shape, row in patches:
        row |= {"area_m2": area_m2(shape), "detector": detector, "alpha": alpha}
    with staged(folder) as aside:
        for name, band in raster.pair_rasters(change, detector).items():
            raster.write_cog(aside / f"{name}.tif", band, transform, crs, {**stamp, **names})
            qgis.write_style(aside / f"{name}.qml", qgis.raster_style(name, band.values))
        qgis.write_style(aside / "changes.qml", qgis.pair_style())
        more = {"provenance": {**stamp, **names}}
        unplaced = {} if placed else {"coordinate_system": "pixel", "coordinate_system_note": PIXEL_NOTE}
        vector.write_geojson(aside / "changes.geojson", fields.PAIR_CHANGES, patches, {**unplaced, **more})
        if sites:
            vector.write_geojson(aside / "sites.geojson", fields.SHARES, rows.share_rows(sites), more)
            qgis.write_style(aside / "sites.qml", qgis.share_style())
        counts = _pair_counts(change, len(patches), dropped, sites)
        manifest.write_manifest(aside, provenance, "compare", counts, runlog.head(folder), more={"compared": names})
        runlog.append(folder, aside)
        written = files_in(aside)
    return [folder / path for path in written]


PIXEL_NOTE = "the images have no place on the map: x is the column and y is minus the row of the image, in pixels"


def _pair_place(
    transform: Affine | None, crs: str | None
) -> tuple[
    Affine,
    Callable[[Sequence[BaseGeometry]], Sequence[BaseGeometry]],
    Callable[[BaseGeometry], float | None],
]:
    """Where the pixels of a pair lie: their map coordinates, how these become those of the file, and how areas."""
    import numpy as np
    import pyproj
    import shapely
    from affine import Affine

    from compoundwatch.grid import geodesic_area_m2
    from compoundwatch.outputs.vector import to_lonlat

    if transform is None or crs is None:
        return Affine.scale(1, -1), lambda shapes: shapes, lambda shape: None
    move = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform

    def moved(shapes: Any) -> Any:
        return shapely.transform(shapes, lambda xy: np.column_stack(move(xy[:, 0], xy[:, 1])))

    return transform, lambda shapes: to_lonlat(shapes, moved), geodesic_area_m2


def _pair_counts(
    change: PairChange, patches: int, dropped: int, sites: Sequence[tuple[Site, Mapping[str, float | None]]]
) -> dict[str, Any]:
    import numpy as np

    return {
        "pixels": int(change.direction.size),
        "pixels_tested": int(np.isfinite(change.p_value).sum()),
        "pixels_increased": int((change.direction > 0).sum()),
        "pixels_decreased": int((change.direction < 0).sum()),
        "patches": patches,
        "patches_too_small": dropped,
        "sites": sum(site.role is Role.SITE for site, _ in sites),
        "controls": sum(site.role is Role.CONTROL for site, _ in sites),
    }
