"""The main job: from areas and a catalogue to the state of every site."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from compoundwatch import aoi, catalogs, detectors, outputs, score, sensors, stack
from compoundwatch.catalogs import Catalog
from compoundwatch.errors import NoScene, SettingsError, StackError
from compoundwatch.grid import Grid, pixel_mask, project, widen
from compoundwatch.model import (
    AreaOfInterest,
    InputFile,
    Picture,
    Scene,
    Sensor,
    SeriesDetector,
    Settings,
    Site,
    SiteChange,
    Skipped,
    WatchResult,
    check_change_map,
    check_stack,
)
from compoundwatch.pipeline.inputs import day_number, input_files, named, provenance, read_area, read_settings
from compoundwatch.pipeline.progress import Progress, silent

DEFAULT_SENSORS = ("sentinel2",)
DEFAULT_YEARS = 3
PICTURE_SIDE_M = 2_000.0
"""Pictures show at most so many metres around the centre of a site."""
CONTROLS_PROPOSED = 8
LAND_COVER_SCENES = 3
TOWN_REACH_M = 60_000.0


@dataclass(frozen=True)
class _Plan:
    """What does not change from place to place within a run; ``catalogs`` by the name of the sensor."""

    catalogs: Mapping[str, Catalog]
    sensors: tuple[Sensor, ...]
    detector: SeriesDetector
    start: dt.date
    end: dt.date
    reference_end: dt.date
    settings: Settings
    progress: Progress

    @property
    def reference_day(self) -> int:
        return day_number(self.reference_end)

    @property
    def names(self) -> str:
        """Names of the catalogues."""
        return ", ".join(dict.fromkeys(c.name for c in self.catalogs.values()))


@dataclass(frozen=True)
class _Measured:
    """What was measured at one polygon."""

    series: tuple[pd.DataFrame, ...] = ()
    changes: tuple[SiteChange, ...] = ()
    scenes: tuple[Scene, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    pictures: tuple[Picture | None, Picture | None] = (None, None)
    frames: tuple[Picture, ...] = ()


def watch(
    area: AreaOfInterest | Path | str,
    *,
    out: Path | str | None = None,
    catalog: str | Path | Sequence[str | Path] = (),
    sensor_names: Sequence[str] = DEFAULT_SENSORS,
    sites: Sequence[str] = (),
    start: dt.date | None = None,
    end: dt.date | None = None,
    events: Path | str | None = None,
    settings: Settings | Path | str | None = None,
    now: dt.datetime | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> WatchResult:
    """Find what changed at the sites of an area, when, which way, and how surely.

    Parameters
    ----------
    area : areas, or the path of their GeoJSON file.
    out : folder that gets the result files; None = write nothing.
    catalog : where imagery is found: addresses of STAC APIs, short names of ``catalogs.KNOWN``, folders with a
        ``catalog.json`` or with granules. The first that has a sensor is asked for it, the next one where that fails
        or has gaps; none named = all of KNOWN.
    sensor_names : which sensors to use.
    sites : ids of the sites to watch; empty = all.
    start, end : first and last day of imagery; default: the last three years up to ``now``.
    events : path of a CSV file of dated events, read along with the file of areas.
    settings : settings, or the path of their TOML file.
    now : the time of the run (UTC); default: the clock.
    seed : seed of the simulated series behind the p-values.
    progress : told what is being done.

    Raises
    ------
    AreaError, SettingsError : an input is wrong.
    NoScene : the catalogue holds no scene of any of the places.
    CatalogError : the catalogue does not answer.
    OutputError : the results cannot be written.
    """
    now = now or dt.datetime.now(dt.UTC)
    chosen = settings if isinstance(settings, Settings) else read_settings(Path(settings) if settings else None)
    inputs = input_files(area=area, events=events, settings=settings)
    region = area if isinstance(area, AreaOfInterest) else read_area(Path(area), Path(events) if events else None)
    region = _only(region, sites)
    if out is not None:
        outputs.check_folder(Path(out))
    plan = _plan(catalog, sensor_names, start, end, chosen, now, progress)
    region = _with_controls(region, plan)
    measured = _measure_all(region, plan)
    if not any(m.scenes for m in measured.values()):
        raise NoScene(
            f"catalogue {plan.names} holds no usable scene of {', '.join(s.name for s in plan.sensors)} over "
            f"any site between {plan.start} and {plan.end}; check the dates and the place, or name another catalogue"
        )
    result = _judge(region, measured, plan, now, seed, inputs)
    if out is not None:
        plan.progress("writing results", 0, 1)
        export = chosen.export
        outputs.write_watch(
            result,
            Path(out),
            rasters=export.rasters,
            report=export.report,
            hash_imagery=export.hash_imagery,
            min_patch_m2=chosen.detect.min_patch_m2,
        )
        plan.progress("writing results", 1, 1)
    return result


def _only(area: AreaOfInterest, wanted: Sequence[str]) -> AreaOfInterest:
    """The area with the wanted sites and all controls."""
    ids = [s.site_id for s in area.targets]
    if unknown := [w for w in wanted if w not in ids]:
        raise SettingsError(f"there is no site '{unknown[0]}' in area {area.area_id}; its sites are {', '.join(ids)}")
    if not ids:
        raise SettingsError(f"area {area.area_id} has controls but no site to watch; give one feature the role 'site'")
    keep = set(wanted) or set(ids)
    targets = tuple(s for s in area.targets if s.site_id in keep)
    used = {c for s in targets for c in s.controls}
    return replace(area, sites=targets + tuple(s for s in area.sites if s.site_id in used))


def _plan(
    catalog: str | Path | Sequence[str | Path],
    names: Sequence[str],
    start: dt.date | None,
    end: dt.date | None,
    settings: Settings,
    now: dt.datetime,
    progress: Progress,
) -> _Plan:
    end = end or now.date()
    start = start or end - dt.timedelta(days=round(365.25 * DEFAULT_YEARS))
    if start >= end:
        raise SettingsError(f"the first day {start} is not before the last day {end}; swap --from and --to")
    half = start + max(dt.timedelta(days=365), (end - start) / 2)
    reference_end = settings.detect.reference_end or half
    if not start < reference_end < end:
        raise SettingsError(
            f"the reference period must end between {start} and {end}, found {reference_end}; ask for at least two "
            "years, or set detect.reference_end in the settings"
        )
    chosen = tuple(sensors.sensor(n) for n in dict.fromkeys(names))
    detector = detectors.series_detector(settings.detect.detector)
    if not any(detectors.suits(detector, f.unit) for s in chosen for f in s.features):
        raise SettingsError(
            f"detector {detector.name} needs {detector.unit}, which {', '.join(s.name for s in chosen)} does not "
            "measure; add a sensor that does, or choose another detect.detector in the settings"
        )
    opened = _catalogs(catalog, chosen, settings)
    return _Plan(opened, chosen, detector, start, end, reference_end, settings, progress)


def _catalogs(
    named: str | Path | Sequence[str | Path], chosen: Sequence[Sensor], settings: Settings
) -> dict[str, Catalog]:
    """For each sensor the catalogues to ask, in their order; a catalogue is opened when it is first needed."""
    ordered = catalogs.open_catalogs([named] if isinstance(named, str | Path) else named, settings.search)
    for sensor in chosen:
        if not ordered.serves(sensor):
            raise SettingsError(
                f"no scene of sensor {sensor.name} (collections {', '.join(sensor.collections)}) in catalogue "
                f"{ordered.name}; name a catalogue that has it, or leave the sensor out"
            )
    return dict.fromkeys((s.name for s in chosen), ordered)


def _measure_all(area: AreaOfInterest, plan: _Plan) -> dict[str, _Measured]:
    """Measure every polygon once, whatever number of sites it is a control of."""
    measured = {}
    for k, site in enumerate(area.sites):
        plan.progress(f"reading {site.role} {site.name}", k, len(area.sites))
        measured[site.site_id] = _measure(site, plan)
    plan.progress("reading done", len(area.sites), len(area.sites))
    return measured


def _measure(site: Site, plan: _Plan) -> _Measured:
    parts = _Measured()
    for sensor in plan.sensors:
        grid = Grid.around(site.geometry, sensor.pixel_m, plan.settings.load.margin_m)
        scenes, skipped = plan.catalogs[sensor.name].search(
            grid.lonlat_bounds, plan.start, plan.end, sensor, plan.settings.search
        )
        more = _Measured(skipped=tuple(replace(s, item_id=f"{site.site_id}: {s.item_id}") for s in skipped))
        if scenes:
            try:
                more = _measure_scenes(site, sensor, grid, scenes, more.skipped, plan)
            except StackError as error:
                failed = Skipped(f"{site.site_id}: {sensor.name}", "load", str(error))
                more = _Measured(scenes=tuple(scenes), skipped=(*more.skipped, failed))
        parts = _Measured(
            parts.series + more.series,
            parts.changes + more.changes,
            parts.scenes + more.scenes,
            parts.skipped + more.skipped,
            tuple(a or b for a, b in zip(parts.pictures, more.pictures, strict=True)),  # type: ignore[arg-type]
            parts.frames or more.frames,
        )
    return parts


def _measure_scenes(
    site: Site, sensor: Sensor, grid: Grid, scenes: Sequence[Scene], skipped: tuple[Skipped, ...], plan: _Plan
) -> _Measured:
    """Series, change maps and pictures of one polygon from one sensor, tile by tile."""
    load, detect = plan.settings.load, plan.settings.detect
    mask = pixel_mask(site.geometry, grid)
    tiles = [t for t in grid.tiles(load.tile_pixels) if mask[t.slices].any()]
    if not tiles:
        raise StackError(f"the outline holds no centre of a {sensor.pixel_m:g} m pixel; it is too small to be seen")
    days, left_out = stack.survey(stack.by_day(scenes), sensor, grid, plan.reference_day, load.threads)
    tested = [f for f in sensor.features if detectors.suits(plan.detector, f.unit)]
    mosaics: dict[str, xr.Dataset] = {}
    pieces: list[score.TileSeries] = []
    unread = list(left_out)
    for tile in tiles:
        cube, failed = stack.load(days, sensor, grid.part(tile), load.threads)
        unread += failed
        check_stack(cube)
        if sensor.kind == "radar":
            cube, moved = score.without_moved(cube, sensor.features[0].name, grid.pixel_m)
            unread += moved
        pieces.append(
            score.tile_series(cube, sensor.features, mask[tile.slices], plan.reference_day, load.min_valid_fraction)
        )
        for feature in tested:
            found = detectors.change_map(
                cube[feature.name].values,
                cube["day"].values,
                cube["look"].values,
                plan.reference_day,
                plan.detector,
                detect.alpha,
                feature.unit,
            )
            mosaics[feature.name] = _paste(mosaics.get(feature.name), found, tile.slices, grid)
    changes = []
    for feature in tested:
        whole = mosaics[feature.name]
        check_change_map(whole)
        changes.append(
            SiteChange(
                site.site_id, sensor.name, feature.name, feature.unit, plan.detector.name, detect.alpha, grid, whole
            )
        )
    series = score.site_series(site.site_id, sensor.name, pieces)
    named = {f"{site.site_id}: {s.item_id}": s for s in unread}
    pictures, frames = _pictures(site, sensor, grid, days, series, plan)
    return _Measured(
        series=(series,),
        changes=tuple(changes),
        scenes=tuple(scenes),
        skipped=skipped + tuple(replace(s, item_id=name) for name, s in named.items()),
        pictures=pictures,
        frames=frames,
    )


def _paste(whole: xr.Dataset | None, part: xr.Dataset, place: tuple[slice, slice], grid: Grid) -> xr.Dataset:
    """Lay the change map of a tile into that of the whole grid, which starts as "not tested"."""
    if part.sizes["y"] == grid.rows and part.sizes["x"] == grid.cols:
        return part
    if whole is None:
        blank: dict[str, Any] = {}
        for name, layer in part.data_vars.items():
            kind = layer.dtype.kind
            empty = np.datetime64("NaT") if kind == "M" else np.nan if kind == "f" else 0
            blank[str(name)] = (("y", "x"), np.full(grid.shape, empty, dtype=layer.dtype))
        whole = xr.Dataset(blank)
    for name, layer in part.data_vars.items():
        whole[str(name)].values[place] = layer.values
    return whole


def _pictures(
    site: Site, sensor: Sensor, grid: Grid, days: Sequence[stack.Day], series: pd.DataFrame, plan: _Plan
) -> tuple[tuple[Picture | None, Picture | None], tuple[Picture, ...]]:
    """The last clear view before the end of the reference period and the last of all, and clear views over time."""
    seen = series.drop_duplicates("acquired").set_index("acquired")["valid_fraction"]
    seen.index = pd.Index([day_number(t.date()) for t in pd.DatetimeIndex(seen.index)])
    seen = seen.sort_index()
    past = seen.index < plan.reference_day
    before, after = (_clear(part).last_valid_index() for part in (seen[past], seen[~past]))
    wanted = {before, after} | _spread(_clear(seen), plan.settings.export.frames)
    frame = _picture_grid(site, grid)
    read: dict[Any, Picture] = {}
    for day in days:
        if day.day in wanted and day.day not in read:
            with suppress(StackError):
                read[day.day] = stack.picture(day, sensor, frame)
    return (read.get(before), read.get(after)), tuple(read[day] for day in sorted(read))


def _clear(seen: pd.Series) -> pd.Series:
    """The days on which a site was as clear as it ever was, or nearly all of it."""
    return seen[seen >= min(0.95, float(seen.max()))] if len(seen) and seen.max() > 0 else seen[:0]


def _spread(seen: pd.Series, count: int) -> set[Any]:
    """At most ``count`` days, the clearest of each of as many equal parts of the time."""
    if not len(seen) or not count:
        return set()
    ends = np.linspace(seen.index[0], seen.index[-1] + 1, count + 1)
    part = np.searchsorted(ends, seen.index.to_numpy(), side="right")
    return {days.idxmax() for _, days in seen.groupby(part)}


def _picture_grid(site: Site, grid: Grid) -> Grid:
    """The grid of a site, cut to PICTURE_SIDE_M around its centre."""
    side = int(PICTURE_SIDE_M / grid.pixel_m)
    if grid.rows <= side and grid.cols <= side:
        return grid
    centre = project(site.geometry, 4326, grid.epsg).centroid
    rows, cols = min(grid.rows, side), min(grid.cols, side)
    col = int(np.clip((centre.x - grid.left) / grid.pixel_m - cols / 2, 0, grid.cols - cols))
    row = int(np.clip((grid.top - centre.y) / grid.pixel_m - rows / 2, 0, grid.rows - rows))
    return Grid(grid.epsg, grid.left + col * grid.pixel_m, grid.top - row * grid.pixel_m, grid.pixel_m, rows, cols)


def _judge(
    area: AreaOfInterest,
    measured: Mapping[str, _Measured],
    plan: _Plan,
    now: dt.datetime,
    seed: int,
    inputs: Sequence[InputFile],
) -> WatchResult:
    tables = [table for m in measured.values() for table in m.series]
    series = pd.concat(tables, ignore_index=True) if tables else score.site_series("", "", [])
    effects, states = score.score_sites(
        area,
        series,
        plan.sensors,
        {s.site_id: plan.reference_day for s in area.targets},
        now.date(),
        plan.settings.score,
        plan.settings.load.min_valid_fraction,
        np.random.default_rng(seed),
    )
    scenes = {s.scene_id: s for m in measured.values() for s in m.scenes}
    return WatchResult(
        area=area,
        sensors=plan.sensors,
        reference_end=plan.reference_end,
        as_of=now.date(),
        scenes=tuple(sorted(scenes.values(), key=lambda s: (s.acquired, s.scene_id))),
        series=series,
        effects=effects,
        states=states,
        changes=tuple(c for m in measured.values() for c in m.changes),
        pictures={s.site_id: measured[s.site_id].pictures for s in area.targets},
        frames={s.site_id: measured[s.site_id].frames for s in area.targets},
        skipped=tuple(k for m in measured.values() for k in m.skipped),
        provenance=provenance(
            plan.settings,
            now,
            {
                **named(inputs),
                "catalog": plan.names,
                "sensors": ", ".join(s.name for s in plan.sensors),
                "first_day": plan.start.isoformat(),
                "last_day": plan.end.isoformat(),
                "seed": str(seed),
            },
            inputs,
        ),
    )


def _with_controls(area: AreaOfInterest, plan: _Plan) -> AreaOfInterest:
    """Propose controls for sites that have none: same outline, like distance to town, like land cover."""
    sites = list(area.sites)
    for k, site in enumerate(area.targets):
        if site.controls:
            continue
        plan.progress(f"looking for controls of {site.name}", k, len(area.targets))
        candidates = aoi.propose_controls(site, sites, _towns(site), count=3 * CONTROLS_PROPOSED)
        covers = [_land_cover(c, plan) for c in (site, *candidates)]
        order = aoi.rank_by_land_cover(covers[0], np.stack(covers[1:])) if candidates else []
        chosen = [candidates[i] for i in order[:CONTROLS_PROPOSED]]
        sites[sites.index(site)] = replace(site, controls=tuple(c.site_id for c in chosen))
        sites += chosen
    return replace(area, sites=tuple(sites))


def _towns(site: Site) -> list[tuple[float, float, float]] | None:
    """Towns around a site, or None where the extra that knows them is not installed."""
    west, south, east, north = widen(site.geometry, TOWN_REACH_M).bounds
    try:
        return aoi.town_places((west, south, east, north))
    except SettingsError:
        return None


def _land_cover(site: Site, plan: _Plan) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Medians and spreads of the features on the clearest scenes of the reference period, NaN where not seen."""
    measures: list[float] = []
    for sensor in plan.sensors:
        grid = Grid.around(site.geometry, sensor.pixel_m)
        scenes, _ = plan.catalogs[sensor.name].search(
            grid.lonlat_bounds, plan.start, plan.reference_end, sensor, plan.settings.search
        )
        days = stack.by_day(scenes)
        clear = sorted(days, key=lambda d: min(s.cloud_percent or 0.0 for s in d.scenes))[:LAND_COVER_SCENES]
        mask = pixel_mask(site.geometry, grid)
        unseen = [np.nan] * (2 * len(sensor.features))
        if not clear or not mask.any():
            measures += unseen
            continue
        try:
            cube, _ = stack.load(sorted(clear, key=lambda d: d.day), sensor, grid, plan.settings.load.threads)
        except StackError:
            measures += unseen
            continue
        for feature in sensor.features:
            values = cube[feature.name].values[:, mask]
            known = values[np.isfinite(values)]
            measures += [float(np.median(known)), float(np.std(known))] if known.size else [np.nan, np.nan]
    return np.array(measures)
