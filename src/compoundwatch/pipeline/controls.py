"""Controls for sites that have none: places of the same outline that look alike and where nothing was announced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from compoundwatch import aoi, stack
from compoundwatch.errors import SettingsError, StackError
from compoundwatch.grid import Grid, pixel_mask, widen
from compoundwatch.model import AreaOfInterest, Site
from compoundwatch.pipeline.planning import Plan

CONTROLS_PROPOSED = 8
LAND_COVER_SCENES = 3
TOWN_REACH_M = 60_000.0


def with_controls(area: AreaOfInterest, plan: Plan, known: Mapping[str, tuple[Site, ...]]) -> AreaOfInterest:
    """The area with controls for every site: same outline, like distance to town, like land cover.

    ``known`` are controls that were proposed before, by site; they are taken as they are.
    """
    sites = list(area.sites)
    for k, site in enumerate(area.targets):
        if site.controls:
            continue
        chosen = known.get(site.site_id, ())
        if not chosen:
            plan.progress(f"looking for controls of {site.name}", k, len(area.targets))
            candidates = aoi.propose_controls(site, sites, _towns(site), count=3 * CONTROLS_PROPOSED)
            covers = [_land_cover(c, plan) for c in (site, *candidates)]
            order = aoi.rank_by_land_cover(covers[0], np.stack(covers[1:])) if candidates else []
            chosen = tuple(candidates[i] for i in order[:CONTROLS_PROPOSED])
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


def _land_cover(site: Site, plan: Plan) -> np.ndarray[Any, np.dtype[np.float64]]:
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
            whole = Grid.around(site.geometry, sensor.pixel_m, plan.settings.load.margin_m)
            chips = plan.chips.around(whole) if plan.chips else None
            cube, _ = stack.load(
                sorted(clear, key=lambda d: d.day), sensor, grid, plan.settings.load.threads, chips=chips
            )
        except StackError:
            measures += unseen
            continue
        for feature in sensor.features:
            values = cube[feature.name].values[:, mask]
            known = values[np.isfinite(values)]
            measures += [float(np.median(known)), float(np.std(known))] if known.size else [np.nan, np.nan]
    return np.array(measures)
