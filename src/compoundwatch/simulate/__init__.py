"""A made-up region with known truth, seen by Sentinel-2 and written as a static STAC catalogue.

Four rooms, so that another sensor can be added beside the one there is: ``scenarios``, ``climate``, ``layout`` and
``world`` say what is on the ground on a day; ``sentinel2`` says how the satellite sees it; ``files`` writes what
catalogues hold; ``region`` plans and this module runs.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.grid import Grid, Tile
from compoundwatch.simulate import answers, files, sentinel2
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.files import Granule
from compoundwatch.simulate.region import Region, plan
from compoundwatch.simulate.scenarios import SCENARIOS, SEEN_BY_DAY
from compoundwatch.simulate.series import pixel_series

__all__ = ["DEFAULT", "DEMO", "SCENARIOS", "Region", "Simulation", "pixel_series", "plan", "simulate"]

DEFAULT: tuple[str, ...] = SEEN_BY_DAY
"""One site per scenario that satellites of the day can tell apart."""

DEMO: dict[str, Any] = {
    "scenarios": SEEN_BY_DAY,
    "start": dt.date(2023, 1, 2),
    "end": dt.date(2026, 1, 6),
    "revisit_days": 6,
}
"""Settings of the demonstration: one site per scenario, three years, a view every six days."""

NOTE = (
    "Simulated, not seen: a made-up region with known truth, placed in the open sea of the Gulf of Thailand so that it "
    "shows no real place. No satellite took these pictures."
)
TITLE = "A made-up region"
TILES = ("48PTQ", "48PUQ")
BASELINES = ("03.01", "04.00", "05.10")
"""Processing baselines in the order of the series; the offset of the stored numbers comes with the second."""
REPROCESSED = "05.11"
"""Baseline of the second processing that two acquisitions have."""
HALVES_EVERY, HALVES_FROM = 17, 8
"""Every so many acquisitions, from this one on, two overlapping items are written instead of one."""
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
    progress: Progress | None = None,
) -> Simulation:
    """Write a made-up region with known truth.

    Parameters
    ----------
    folder : where to write; new or empty. Files appear in it whole or not at all.
    rng : source of everything random; the same state gives the same files.
    scenarios : one site per name (see SCENARIOS); a name may come more than once.
    start, end : first and last day of the series.
    revisit_days : days from one acquisition to the next.
    site_m : smallest and largest width of sites and controls in metres.
    controls, regional_controls : how many controls the ordinary sites share, and the regional ones.
    change_window : part of the series in which changes begin, as shares of its length.
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
    files.check_target(folder)
    region = plan(rng, scenarios, first, last, site_m, controls, regional_controls, change_window)
    dates = [start + dt.timedelta(days=k) for k in range(0, last - first + 1, revisit_days)]
    try:
        with _appearing(folder) as aside:
            rows, items = _write_scenes(aside, region, dates, rng, progress)
            files.write_catalog(aside, items, region.grid, TITLE, NOTE)
            answers.write_areas(aside / "sites.geojson", region, start)
            answers.write_events(aside / "events.csv", region)
            answers.write_truth(aside, region, rows, _baseline_change(dates))
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


# ------------------------------------------------------------------------------------------------------------- scenes


def _baseline_change(dates: Sequence[dt.date]) -> dt.date:
    """First date with the offset: within the first year, and within the first quarter of the series."""
    return dates[0] + dt.timedelta(days=min(219, (dates[-1] - dates[0]).days // 4))


def _granules(k: int, dates: Sequence[dt.date], grid: Grid) -> list[Granule]:
    """The items of one acquisition: usually one, sometimes two halves, sometimes a second processing."""
    date, change = dates[k], _baseline_change(dates)
    renewed = change + (dates[-1] - change) // 2
    baseline = BASELINES[(date >= change) + (date >= renewed)]
    seen = dt.datetime.combine(date, dt.time(3, 30, 11, (k * 37 % 1000) * 1000), dt.UTC)
    first = Granule(seen, "AB"[k % 2], baseline, 0, TILES[0], Tile(0, 0, *grid.shape), seen + dt.timedelta(hours=9))
    n_before = sum(d < change for d in dates)
    if k in (n_before // 2, (n_before + len(dates)) // 2):
        later = seen + dt.timedelta(days=400)
        again = Granule(seen, first.platform, REPROCESSED, 1, TILES[0], first.part, later)
        return [first, again]
    if k % HALVES_EVERY == HALVES_FROM:
        cols = grid.cols
        end, begin = 2 * round(0.3 * cols), 2 * round(0.2 * cols)
        parts = Tile(0, 0, grid.rows, end), Tile(0, begin, grid.rows, cols - begin)
        return [
            Granule(seen, first.platform, baseline, 0, tile, part, first.created)
            for tile, part in zip(TILES, parts, strict=True)
        ]
    return [first]


def _write_scenes(
    root: Path, region: Region, dates: Sequence[dt.date], rng: np.random.Generator, progress: Progress | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Look at the region on every date and write what is seen; truth about each item, and the items, in order."""
    seeds = rng.integers(2**63, size=len(dates))

    def acquire(k: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        own, day = np.random.default_rng(seeds[k]), day_number(dates[k])
        ground = region.world.with_activity(region.world.reflectance(day), day, own)
        granules = _granules(k, dates, region.grid)
        scene = sentinel2.look(ground, dates[k], granules[0].platform, own)
        return [(_row(g, scene), files.write_granule(root, g, scene, region.grid)) for g in granules]

    written: list[tuple[dict[str, Any], dict[str, Any]]] = []
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        for k, made in enumerate(pool.map(acquire, range(len(dates)))):
            written += made
            if progress:
                progress("simulating views", k + 1, len(dates))
    return [row for row, _ in written], [item for _, item in written]


def _row(granule: Granule, scene: sentinel2.Scene) -> dict[str, Any]:
    """Truth about one item: how far it lies off, and how cloudy the region truly was."""
    down, right = scene.shift
    cloudy, shadowed = scene.opacity > sentinel2.SEEN_FROM, scene.shadow > sentinel2.SHADOW_FROM
    return {
        "item_id": granule.item_id,
        "shift_x_m": round(10 * right, 3),
        "shift_y_m": round(-10 * down, 3),
        "cloud_share": round(float(cloudy.mean()), 4),
        "shadow_share": round(float((shadowed & ~cloudy).mean()), 4),
        "missed_cloud": None if scene.missed_cloud is None else round(scene.missed_cloud, 4),
        "missed_shadow": None if scene.missed_shadow is None else round(scene.missed_shadow, 4),
    }


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
