"""Writes what a region's sites are, what was announced about them, and the truth."""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely import affinity

from compoundwatch.grid import project
from compoundwatch.simulate import sentinel2
from compoundwatch.simulate.files import write_cog, write_json
from compoundwatch.simulate.layout import Place
from compoundwatch.simulate.region import Region
from compoundwatch.simulate.scenarios import STAGES_DAYS, TRUE_STATE
from compoundwatch.simulate.world import BRIEFLY_STILL_CODE, NEW_ROOF_CODE, RUBBLE_CODE, STILL_CODE

EVENT_COLUMNS = (
    "event_id", "date_earliest", "date_latest", "date_precision", "place", "scope", "kind", "what", "source", "trust",
)  # fmt: skip
PRECISION_M = 10.0
CODES = {NEW_ROOF_CODE: "new roof", RUBBLE_CODE: "roof became rubble", STILL_CODE: "yard fell still",
         BRIEFLY_STILL_CODE: "yard fell still for a while"}  # fmt: skip


def write_areas(path: Path, region: Region, start: dt.date) -> None:
    """Write sites and controls as GeoJSON (RFC 7946)."""
    features = []
    for place in (*region.sites, *region.controls):
        site = place.kind == "compound"
        number = place.place_id.split("-")[1]
        properties: dict[str, Any] = {
            "site_id": place.place_id,
            "name": f"Made-up compound {number}" if site else f"Made-up {place.kind} {number}",
            "role": "site" if site else "control",
            "source": "simulated",
            "source_date": start.isoformat(),
            "precision_m": PRECISION_M,
        }
        if site:
            properties["controls"] = list(region.controls_of[place.place_id])
        features.append({"type": "Feature", "properties": properties, "geometry": _geometry(place, region)})
    name, note = "A made-up region", "Simulated: in the open sea, so that it shows no real place."
    write_json(path, {"type": "FeatureCollection", "name": name, "description": note, "features": features})


def write_events(path: Path, region: Region) -> None:
    """Write one announced raid for each site where something happened, on the day on which it began.

    Where people left before the raid, it is announced for its own day.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(EVENT_COLUMNS)
        for site in region.sites:
            day = _announced(site, region)
            if day is not None:
                date = text(day)
                what = f"Raid announced at {site.place_id}"
                table.writerow(
                    (f"{date}-{site.place_id}-raid", date, date, "day", "made-up region", site.place_id, "raid", what,
                     "simulated", "")
                )  # fmt: skip


def write_truth(root: Path, region: Region, scenes: Sequence[Mapping[str, Any]], baseline_change: dt.date) -> None:
    """Write truth.json, with everything that was put in, and truth.tif, with what changed at each pixel."""
    code, since = region.world.truth()
    write_cog(root / "truth.tif", np.stack([code, since]), region.grid, ("change", "begins (days since 1970-01-01)"))
    write_json(
        root / "truth.json",
        {
            "note": "What was put into this simulation. Sizes are shares (0 to 1), shifts metres to the east and north",
            "codes": {str(k): v for k, v in CODES.items()},
            "baseline_change": baseline_change.isoformat(),
            "missed_share": {
                "thin_cloud": sentinel2.MISSED_CLOUD * region.conditions.missed,
                "shadow": sentinel2.MISSED_SHADOW * region.conditions.missed,
            },
            "conditions": region.conditions.as_dict(),
            "regional_date": None if region.regional_day is None else text(region.regional_day),
            "regional_activity_left": None
            if region.regional_day is None
            else round(region.world.zone_activity_left, 4),
            "blackout_dates": None if region.blackout is None else [text(day) for day in region.blackout],
            "sites": [_site(site, region) for site in region.sites],
            "controls": [_control(control, region) for control in region.controls],
            "scenes": list(scenes),
        },
    )


def _announced(site: Place, region: Region) -> int | None:
    """Day for which a raid is announced at a site (None = there is none)."""
    if site.in_zone:
        return region.regional_day
    if site.story.scenario == "blackout" and region.blackout:
        return region.blackout[0]
    return site.story.day if site.story.raid is None else site.story.raid


def text(day: int) -> str:
    """A day since 1970-01-01 as YYYY-MM-DD."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def _geometry(place: Place, region: Region) -> dict[str, Any]:
    """Outline of a place in longitude and latitude, counter-clockwise."""
    flat = affinity.affine_transform(place.outline, (1, 0, 0, -1, region.grid.left, region.grid.top))
    shape = shapely.geometry.polygon.orient(project(flat, region.grid.epsg, 4326))
    return {"type": "Polygon", "coordinates": [[[round(x, 7), round(y, 7)] for x, y in shape.exterior.coords]]}


def _site(site: Place, region: Region) -> dict[str, Any]:
    """Truth about a site. Dates that do not apply are null, and so are sizes."""
    story = site.story
    changed = story.day is not None
    return {
        "site_id": site.place_id,
        "scenario": "regional" if site.in_zone else story.scenario,
        "state": TRUE_STATE[story.scenario],
        "change_date": text(story.day) if story.day is not None else None,
        "complete_date": text(story.until) if story.until is not None else None,
        "second_date": text(story.back) if story.back is not None else None,
        "stage_dates": [text(story.day + k) for k in STAGES_DAYS]
        if story.day is not None and story.scenario == "emptied_in_stages"
        else None,
        "raid_date": text(story.raid) if story.raid is not None else None,
        "generator_date": text(story.generators) if story.generators is not None else None,
        "activity_left": round(story.activity_left, 4) if changed else None,
        "light_left": round(story.light_left, 4) if story.generators is not None else None,
        "generator_light": round(story.generator_light, 4) if story.generators is not None else None,
        "new_roof_share": _new_roof_share(site),
        "lost_roof_share": _lost_roof_share(site, region),
        "area_m2": round(site.outline.area),
        "controls": list(region.controls_of[site.place_id]),
    }


def _control(control: Place, region: Region) -> dict[str, Any]:
    story = control.story
    return {
        "site_id": control.place_id,
        "kind": control.kind,
        "change": None if story.day is None else story.scenario,
        "change_date": None if story.day is None else text(story.day),
        "activity_left": None if story.day is None else round(story.activity_left, 4),
        "new_roof_share": _new_roof_share(control),
        "in_regional_event": control.in_zone and region.regional_day is not None,
    }


def _new_roof_share(place: Place) -> float | None:
    """Share of the ground without roof that became roof."""
    if not place.new_roofs:
        return None
    roof = sum(r.outline.area for r in place.roofs)
    return round(float(sum(r.area for r in place.new_roofs) / (place.outline.area - roof)), 4)


def _lost_roof_share(place: Place, region: Region) -> float | None:
    """Share of the roof area that became rubble."""
    if not place.story.lost_roof:
        return None
    return round(region.world.lost_roof_share[place.place_id], 4)
