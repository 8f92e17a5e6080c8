"""A made-up region with known truth, seen by satellites and written as a static STAC catalogue.

``scenarios``, ``climate``, ``layout`` and ``world`` say what is on the ground on a day; ``sentinel2``, ``sentinel1``,
``landsat`` and ``lights`` say how a satellite sees it, and ``..._files`` when it comes and how its items look;
``region`` plans and this module runs.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.simulate import answers, files, landsat_files, sentinel1_files, sentinel2_files
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.conditions import DESCRIBED, STRESS, Conditions
from compoundwatch.simulate.fields import aside
from compoundwatch.simulate.files import View, Written
from compoundwatch.simulate.region import Region, plan
from compoundwatch.simulate.scenarios import SCENARIOS, SEEN_BY_DAY
from compoundwatch.simulate.series import pixel_series

__all__ = [
    "DEFAULT", "DEMO", "SCENARIOS", "SENSORS", "STRESS", "Conditions", "Region", "Simulation", "pixel_series", "plan",
    "simulate", "views",
]  # fmt: skip

DEFAULT: tuple[str, ...] = SEEN_BY_DAY
"""One site per scenario that satellites of the day can tell apart."""

DEMO: dict[str, Any] = {
    "scenarios": SEEN_BY_DAY,
    "start": dt.date(2023, 1, 2),
    "end": dt.date(2026, 1, 6),
    "revisit_days": 6,
}
"""Settings of the demonstration: one site per scenario, three years, a view every six days."""

SENSORS = ("sentinel2", "sentinel1", "landsat", "black_marble")
"""Names of the sensors that can look at a region; ``docs/simulator.md`` says how each sees it."""
COLLECTIONS = {
    "sentinel2": sentinel2_files.COLLECTION,
    "sentinel1": sentinel1_files.COLLECTION,
    "landsat": landsat_files.COLLECTION,
}
NOTE = (
    "Simulated, not seen: a made-up region with known truth, placed in the open sea of the Gulf of Thailand so that it "
    "shows no real place. No satellite took these pictures."
)
TITLE = "A made-up region"
THREADS = 2

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Simulation:
    """What was written: the folder and the files in it, and the first and last day of the series."""

    folder: Path
    catalog: Path
    areas: Path
    events: Path
    truth: Path
    start: dt.date
    end: dt.date


def simulate(
    folder: Path,
    rng: np.random.Generator,
    *,
    scenarios: Sequence[str] = DEFAULT,
    start: dt.date = dt.date(2023, 1, 2),
    end: dt.date = dt.date(2026, 6, 30),
    revisit_days: int = 5,
    site_m: tuple[float, float] = (200.0, 290.0),
    controls: int = 8,
    regional_controls: int = 6,
    change_window: tuple[float, float] = (0.58, 0.72),
    sensors: Sequence[str] = ("sentinel2",),
    conditions: Conditions = DESCRIBED,
    progress: Progress | None = None,
) -> Simulation:
    """Write a made-up region with known truth.

    Parameters
    ----------
    folder : where to write; new or empty. Files appear in it whole or not at all.
    rng : source of everything random; the same state gives the same files.
    scenarios : one site per name (see SCENARIOS); a name may come more than once.
    start, end : first and last day of the series.
    revisit_days : days from one acquisition of Sentinel-2 to the next; the others come when they come.
    site_m : smallest and largest width of sites and controls in metres.
    controls, regional_controls : how many controls the ordinary sites share, and the regional ones.
    change_window : part of the series in which changes begin, as shares of its length.
    sensors : which of SENSORS look at the region; what one of them sees does not depend on which others do.
    conditions : how hard the world is to watch; ``STRESS`` is a harder one.
    progress : called after each acquisition.

    Raises
    ------
    OutputError : the folder is not empty or cannot be written; nothing is written then.
    SettingsError : a setting is out of range.
    """
    folder = Path(folder)
    first, last = day_number(start), day_number(end)
    if last - first < 120 or not 1 <= revisit_days <= 60:
        raise SettingsError(
            f"a series needs 120 days or more and a view every 1 to 60 days, found {last - first} and {revisit_days}"
        )
    if unknown := [name for name in sensors if name not in SENSORS]:
        raise SettingsError(f"there is no sensor '{unknown[0]}' to simulate; choose from {', '.join(SENSORS)}")
    if not sensors:
        raise SettingsError(f"expected at least one sensor, found none; choose from {', '.join(SENSORS)}")
    files.check_target(folder)
    region = plan(rng, scenarios, first, last, site_m, controls, regional_controls, change_window, conditions)
    used = [name for name in SENSORS if name in sensors]
    nights = aside(rng, "black_marble")  # taken before the views of the day move the generator on
    looks = {name: views(region, name, start, end, rng, revisit_days) for name in reversed(used) if name in COLLECTIONS}
    try:
        with _appearing(folder) as beside:
            written = _take(beside, dict(reversed(looks.items())), progress)
            rows = [row for made in written.values() for row, _ in made]
            if "black_marble" in used:
                from compoundwatch.simulate import lights

                dates = [start + dt.timedelta(days=k) for k in range(last - first + 1)]
                rows += lights.write_nights(beside, region, dates, nights)
            found = [(COLLECTIONS[name], [item for _, item in made]) for name, made in written.items()]
            files.write_catalog(beside, found, region.grid, TITLE, NOTE)
            answers.write_areas(beside / "sites.geojson", region, start)
            answers.write_events(beside / "events.csv", region)
            change = sentinel2_files.baseline_change(sentinel2_files.acquired(start, end, revisit_days))
            answers.write_truth(beside, region, rows, change)
    except OSError as error:
        raise OutputError(f"{folder}: the simulation cannot be written ({error.strerror or error})") from error
    return Simulation(
        folder,
        folder / "catalog.json",
        folder / "sites.geojson",
        folder / "events.csv",
        folder / "truth.json",
        start,
        end,
    )


def views(
    region: Region, sensor: str, start: dt.date, end: dt.date, rng: np.random.Generator, revisit_days: int = 5
) -> list[View[Any]]:
    """The looks of one sensor at a region, in order of time, to be taken one by one without files.

    With the generator that has just planned the region, they are the looks that ``simulate`` writes. Only Sentinel-2
    moves the generator on: ask for it last.

    Parameters
    ----------
    sensor : "sentinel2", "sentinel1" or "landsat".
    start, end : first and last day, both included, within the days for which the region was planned.
    revisit_days : days from one look of Sentinel-2 to the next; the others come when they come.

    Raises
    ------
    SettingsError : there is no such sensor.

    Example
    -------
    >>> import datetime as dt
    >>> rng = np.random.default_rng(1)
    >>> start, end = dt.date(2024, 1, 1), dt.date(2024, 6, 30)
    >>> region = plan(rng, ("emptied",), day_number(start), day_number(end), (110.0, 150.0), 1, 1, (0.6, 0.7))
    >>> first = views(region, "sentinel1", start, end, rng)[0]
    >>> first.look().vv.shape == region.grid.shape
    True
    """
    if sensor == "sentinel1":
        return list(sentinel1_files.views(region, start, end, aside(rng, sensor)))
    if sensor == "landsat":
        return list(landsat_files.views(region, start, end, aside(rng, sensor)))
    if sensor == "sentinel2":
        return list(sentinel2_files.views(region, start, end, rng, revisit_days))
    raise SettingsError(f"there is no sensor '{sensor}' whose looks can be had; choose from {', '.join(COLLECTIONS)}")


# ---------------------------------------------------------------------------------------------------------- writing


def _take(root: Path, looks: Mapping[str, Sequence[View[Any]]], progress: Progress | None) -> dict[str, list[Written]]:
    """Take all looks and write them; truth about each item, and the items, by sensor and in order of time."""
    total, done = sum(len(work) for work in looks.values()), 0
    written: dict[str, list[Written]] = {}
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for sensor, work in looks.items():
            written[sensor] = []
            for made in pool.map(lambda view: view.taken(root), work):
                written[sensor] += made
                done += 1
                if progress:
                    progress("simulating views", done, total)
    return written


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` to write into; when the block ends well, its content moves into ``folder``."""
    folder = folder.resolve()
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name[:40]}-unfinished-", dir=folder.parent))
    done = False
    try:
        yield aside
        folder.mkdir(exist_ok=True)
        # The catalogue comes last: where it is, all it links to is.
        for path in sorted(aside.iterdir(), key=lambda p: p.name == "catalog.json"):
            os.replace(path, folder / path.name)
        done = True
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if not done:
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()
