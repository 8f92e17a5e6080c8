"""Results and registers as plain values, for printing and for JSON."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from compoundwatch.grid import geodesic_area_m2
from compoundwatch.model import AreaOfInterest, WatchResult


def describe(area: AreaOfInterest) -> dict[str, Any]:
    """What an area holds, for `check`."""
    return {
        "area_id": area.area_id,
        "n_sites": len(area.targets),
        "n_controls": len(area.sites) - len(area.targets),
        "n_events": len(area.events),
        "sites": [
            {
                "site_id": s.site_id,
                "name": s.name,
                "area_ha": geodesic_area_m2(s.geometry) / 1e4,
                "n_controls": len(s.controls),
                "precision_m": s.precision_m,
            }
            for s in area.targets
        ],
    }


def summary(result: WatchResult) -> dict[str, Any]:
    """The states and what was left out, as plain values (dates as ISO text, missing as None)."""
    states = []
    for s in result.states:
        row = {k: v.isoformat() if isinstance(v, dt.date) else v for k, v in vars(s).items()}
        row |= {"probability": {str(k): v for k, v in s.probability.items()}, "sensors": list(s.sensors)}
        row["change_dates"] = {day.isoformat(): share for day, share in s.change_dates.items()}
        states.append(row)
    return {
        "area_id": result.area.area_id,
        "as_of": result.as_of.isoformat(),
        "reference_end": result.reference_end.isoformat(),
        "complete": result.complete,
        "n_scenes": len(result.scenes),
        "states": states,
        "skipped": [vars(k) for k in result.skipped if not k.routine],
        "run_id": result.provenance.run_id,
    }


def result_files(folder: Path) -> list[tuple[Path, str]]:
    """The files of a result that people open first, and what for."""
    known = {
        "report.html": "the report, in any browser",
        "watch.qgz": "all layers, styled and grouped, in QGIS",
        "watch.gpkg": "the same layers in one file",
        "sites.geojson": "the sites and their states",
        "changes.geojson": "the changed patches",
        "direction.tif": "which pixels changed, and which way",
        "manifest.json": "what the result rests on; 'compoundwatch verify' checks it",
    }
    return [(folder / name, what) for name, what in known.items() if (folder / name).is_file()]


def list_sensors() -> list[dict[str, Any]]:
    """The sensors that can be asked for."""
    from compoundwatch import sensors

    return [
        {
            "name": s.name,
            "title": s.title,
            "kind": s.kind,
            "pixel_m": s.pixel_m,
            "revisit_days": s.revisit_days,
            "sees": s.sees,
            "blind_to": s.blind_to,
            "features": [f.name for f in s.features],
        }
        for s in sensors.available().values()
    ]


def list_detectors() -> list[dict[str, Any]]:
    """The detectors that can be asked for."""
    from compoundwatch import detectors

    return [
        {"name": d.name, "kind": d.kind, "title": d.title, "source": d.source} for d in detectors.available().values()
    ]
