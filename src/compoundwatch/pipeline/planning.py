"""What is asked of a run: sensors, catalogues, days and settings, and which of them its answers depend on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compoundwatch import __version__, catalogs, detectors, sensors, stack
from compoundwatch.catalogs import Catalog
from compoundwatch.errors import SettingsError
from compoundwatch.model import AreaOfInterest, Sensor, SeriesDetector, Settings
from compoundwatch.pipeline.inputs import day_number
from compoundwatch.pipeline.progress import Progress

DEFAULT_YEARS = 3


@dataclass(frozen=True)
class Plan:
    """What does not change from place to place within a run.

    ``catalogs`` by the name of the sensor. ``whole`` says that catalogues are asked for the whole time, also where a
    workspace knows its past; ``renew`` that what it knows may rest on another basis. ``chips`` is where pixels
    are kept, if anywhere.
    """

    catalogs: Mapping[str, Catalog]
    sensors: tuple[Sensor, ...]
    detector: SeriesDetector
    start: dt.date
    end: dt.date
    reference_end: dt.date
    settings: Settings
    seed: int
    progress: Progress
    whole: bool = True
    renew: bool = False
    chips: stack.Chips | None = None

    @property
    def reference_day(self) -> int:
        """First day that may hold a change, counted from 1970-01-01."""
        return day_number(self.reference_end)

    @property
    def names(self) -> str:
        """Names of the catalogues."""
        return ", ".join(dict.fromkeys(c.name for c in self.catalogs.values()))

    @property
    def basis(self) -> dict[str, Any]:
        """All that the answers depend on besides imagery and outlines, in plain values by name."""
        load, detect = self.settings.load, self.settings.detect
        return {
            "the first day of imagery": self.start.isoformat(),
            "the end of the reference period": self.reference_end.isoformat(),
            "the sensors": ", ".join(sorted(s.name for s in self.sensors)),
            "search.max_cloud_percent": self.settings.search.max_cloud_percent,
            "load.margin_m": load.margin_m,
            "load.tile_pixels": load.tile_pixels,
            "load.min_valid_fraction": load.min_valid_fraction,
            "detect.detector": self.detector.name,
            "detect.alpha": detect.alpha,
            **{f"score.{name}": value for name, value in self.settings.score.model_dump(mode="json").items()},
            "the seed": self.seed,
            "the version of compoundwatch": __version__,
        }


def plan(
    catalog: str | Path | Sequence[str | Path],
    names: Sequence[str],
    start: dt.date | None,
    end: dt.date | None,
    reference_end: dt.date | None,
    settings: Settings,
    now: dt.datetime,
    seed: int,
    progress: Progress,
) -> Plan:
    """Check what is asked for, and fill in what is not.

    Parameters
    ----------
    start, end : None = three years before ``end``; the day of the run.
    reference_end : used where the settings have none; None = half of the time, a year at least.

    Raises
    ------
    SettingsError : days, sensors, detector or catalogues do not go together.
    """
    end = end or now.date()
    start = start or end - dt.timedelta(days=round(365.25 * DEFAULT_YEARS))
    if start >= end:
        raise SettingsError(f"the first day {start} is not before the last day {end}; swap --from and --to")
    half = start + max(dt.timedelta(days=365), (end - start) / 2)
    reference_end = settings.detect.reference_end or reference_end or half
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
    return Plan(opened, chosen, detector, start, end, reference_end, settings, seed, progress)


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


def only(area: AreaOfInterest, wanted: Sequence[str]) -> AreaOfInterest:
    """The area with the wanted sites (none named = all) and the controls that they use.

    Raises
    ------
    SettingsError : there is no site of that id, or no site at all.
    """
    ids = [s.site_id for s in area.targets]
    if unknown := [w for w in wanted if w not in ids]:
        raise SettingsError(f"there is no site '{unknown[0]}' in area {area.area_id}; its sites are {', '.join(ids)}")
    if not ids:
        raise SettingsError(f"area {area.area_id} has controls but no site to watch; give one feature the role 'site'")
    keep = set(wanted) or set(ids)
    targets = tuple(s for s in area.targets if s.site_id in keep)
    used = {c for s in targets for c in s.controls}
    return replace(area, sites=targets + tuple(s for s in area.sites if s.site_id in used))
