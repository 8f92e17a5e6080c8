"""Accuracy of the main job on made-up worlds with known truth: from scenes to the states of sites.

Usage: python benchmarks/sites.py FOLDER [--split test] [--worlds 50] [--sensors sentinel2,sentinel1] [--at-once]
       python benchmarks/sites.py FOLDER --table

Every world is simulated, watched with all sensors, and judged again from its series with parts removed: each sensor,
all controls, four fifths of the dates. FOLDER keeps a folder per world, so that a run can be broken off and taken up
again: `series.pkl.gz` (what was measured; dear), `rows-*.jsonl` (one line per site and removal, judged by the code
whose fingerprint the name holds; cheap, made anew when that code changes), truth, sites, events and times. Pictures
are deleted once they are measured. Worlds of the two splits never share a seed: fit on "train", report on "test".

`pipeline.watch` reads every file once per site and control, which is what takes the time; with `--at-once` it is handed
pixels that were read, and laid on one another, once per region.

The simulator knows only the troubles that its authors thought of: what is measured here says how the parts of the chain
work together, not how well they work in Cambodia.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from shapely.ops import unary_union

from compoundwatch import catalogs, pipeline, score, sensors, simulate, stack
from compoundwatch.grid import Grid, pixel_mask
from compoundwatch.model import AreaOfInterest, Sensor, Settings, Site, SiteState, State

ROOT = Path(__file__).resolve().parents[1]
START, END = dt.date(2023, 1, 2), dt.date(2025, 12, 31)
REFERENCE_END = START + (END - START) / 2
"""As ``pipeline.watch`` chooses it for a series of more than two years."""
CHANGE_WINDOW = (0.52, 0.85)
SENSORS = ("sentinel2", "sentinel1", "landsat", "black_marble")
SEEDS = {"train": 100_000, "test": 900_000}
WORLDS = 50
"""Worlds of twelve sites: 600 sites a split."""

PLAIN = ("unchanged",) * 3 + ("emptied",) * 2 + ("emptied_before_raid",) * 2 + (
    "emptied_in_stages", "building", "demolished", "reoccupied", "power_cut",
)  # fmt: skip
DARK = ("blackout",) * 6 + (
    "emptied", "emptied_in_stages", "emptied_before_raid", "demolished", "reoccupied", "power_cut",
)  # fmt: skip
REGIONAL = ("regional",) * 3 + ("unchanged",) * 2 + ("emptied",) * 2 + (
    "emptied_in_stages", "emptied_before_raid", "building", "reoccupied", "power_cut",
)  # fmt: skip
KINDS = (PLAIN, PLAIN, DARK, PLAIN, REGIONAL)
"""Sites of the worlds, in turn. A blackout hits all sites of its world."""
SIZES = ((100, 160), (160, 260), (260, 420), (100, 160), (160, 260), (420, 600), (160, 260), (600, 1000))
"""Least and greatest width of the sites of the worlds in metres, in turn; eight and five have no common factor."""
QUIET = ("unchanged", "blackout", "power_cut")
"""Scenarios in which nothing happened to the ground or the people."""
CHANGES = (State.EMPTIED, State.BUILDING, State.DEMOLISHED, State.REOCCUPIED)
KEPT_OF_DATES = 5
CLEAR = 0.9


# ------------------------------------------------------------------------------------------------------------- worlds


@dataclass(frozen=True)
class World:
    """One made-up region: its split and number, which fix all else."""

    split: str
    number: int
    conditions: str
    sensors: tuple[str, ...]
    few: bool = False
    at_once: bool = False

    @property
    def seed(self) -> int:
        return SEEDS[self.split] + self.number

    @property
    def scenarios(self) -> tuple[str, ...]:
        kind = KINDS[self.number % len(KINDS)]
        return tuple(dict.fromkeys(kind)) if self.few else kind

    @property
    def site_m(self) -> tuple[float, float]:
        return SIZES[self.number % len(SIZES)]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:03d}"


def measure(folder: Path, world: World) -> dict[str, float]:
    """Simulate and watch a world, keep what was measured in ``folder / name``; seconds per step."""
    target, beside = folder / world.name, folder / f".{world.name}-unfinished"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    took: dict[str, float] = {}
    clock = _Clock(took)
    imagery = beside / "imagery"
    made = simulate.simulate(
        imagery,
        np.random.default_rng(world.seed),
        scenarios=world.scenarios,
        start=START,
        end=END,
        site_m=world.site_m,
        change_window=CHANGE_WINDOW,
        sensors=world.sensors,
        conditions=CONDITIONS[world.conditions](world.seed),
    )
    clock("simulate")
    for path in (made.areas, made.events, made.truth):
        shutil.copy(path, beside / path.name)
    truth = json.loads(made.truth.read_text(encoding="utf-8"))
    with _reading(made.areas, imagery, world):
        measured = _watched(made.areas, imagery, world)
        clock("watch")
        apart = _differences(measured, world, truth)
    measured.series.to_pickle(beside / "series.pkl.gz")
    (beside / "differences.json").write_text(json.dumps(apart, indent=1), encoding="utf-8")
    clock("differencing")
    _thin_out(imagery, world.seed)
    with _reading(made.areas, imagery, world):
        _watched(made.areas, imagery, world).series.to_pickle(beside / "fifth.pkl.gz")
    clock("watch a fifth")
    shutil.rmtree(imagery)
    about = {
        "world": world.name, "seed": world.seed, "site_m": world.site_m, "conditions": world.conditions,
        "sensors": world.sensors, "at_once": world.at_once,
        "reference_end": REFERENCE_END.isoformat(), "as_of": END.isoformat(), "seconds": took,
        "code": fingerprint("simulate", "sensors", "stack", "catalogs", "score/series.py"),
    }  # fmt: skip
    (beside / "world.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(beside, target)
    return took


class _Clock:
    """Notes the seconds since it was last asked."""

    def __init__(self, took: dict[str, float]) -> None:
        self._took, self._last = took, time.perf_counter()

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        self._took[step] = round(now - self._last, 1)
        self._last = now


CONDITIONS: dict[str, Callable[[int], simulate.Conditions]] = {
    "described": lambda seed: simulate.Conditions(),
    "stress": lambda seed: simulate.STRESS,
}


def fingerprint(*parts: str) -> str:
    """Short hash of source files and folders below the package: which code made a result."""
    digest = hashlib.sha256()
    for part in parts:
        path = ROOT / "src" / "compoundwatch" / part
        for file in sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if p.suffix in (".py", ".toml")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


@dataclass(frozen=True)
class Measured:
    """What was measured in a world; ``moved`` tells how far a place's pixels moved between two dates of a look."""

    area: AreaOfInterest
    series: pd.DataFrame
    moved: Callable[[Site, Sensor, str, Sequence[dt.date]], dict[str, float]]


def _watched(areas: Path, imagery: Path, world: World) -> Measured:
    """By ``pipeline.watch``."""
    result = pipeline.watch(
        areas,
        catalog=imagery,
        sensor_names=world.sensors,
        start=START,
        end=END,
        now=dt.datetime.combine(END, dt.time(12), dt.UTC),
        seed=world.seed,
        settings=Settings(),
    )
    if result.reference_end != REFERENCE_END:
        raise SystemExit(f"the reference period ends on {result.reference_end}, expected {REFERENCE_END}")
    catalog = catalogs.open_catalog(imagery, Settings().search)

    def moved(place: Site, sensor: Sensor, look: str, pair: Sequence[dt.date]) -> dict[str, float]:
        grid = Grid.around(place.geometry, sensor.pixel_m)
        scenes, _ = catalog.search(grid.lonlat_bounds, min(pair), max(pair), sensor, Settings().search)
        wanted = [d for d in stack.by_day(scenes) if d.look == look and date_of(d.day) in pair]
        cube, _ = stack.load(wanted, sensor, grid, 2)
        return _apart(cube, pixel_mask(place.geometry, grid), sensor) if cube.sizes["time"] == 2 else {}

    return Measured(result.area, result.series, moved)


class _Region:
    """Pixels of a whole region, read once per sensor, in place of ``stack.survey`` and ``stack.recalled``."""

    def __init__(self, areas: Path, imagery: Path) -> None:
        self._whole = unary_union([site.geometry for site in pipeline.read_area(areas).sites])
        self._catalog = catalogs.open_catalog(imagery, Settings().search)
        self._survey = stack.survey
        self._days: dict[str, dict[tuple[int, str], stack.Day]] = {}
        self._cubes: dict[str, tuple[xr.Dataset, Grid]] = {}

    def survey(
        self, days: Sequence[stack.Day], sensor: Sensor, *_: Any, **__: Any
    ) -> tuple[list[stack.Day], list[Any]]:
        """The days that the survey of the region leaves, out of those of a place."""
        if sensor.name not in self._cubes:
            grid = Grid.around(self._whole, sensor.pixel_m, Settings().load.margin_m)
            scenes, _ = self._catalog.search(grid.lonlat_bounds, START, END, sensor, Settings().search)
            left, _ = self._survey(stack.by_day(scenes), sensor, grid, day_number(REFERENCE_END), 2)
            self._days[sensor.name] = {(d.day, d.look): d for d in left}
            self._cubes[sensor.name] = stack.load(left, sensor, grid, 2)[0], grid
        known = self._days[sensor.name]
        return [known[d.day, d.look] for d in days if (d.day, d.look) in known], []

    def recalled(self, days: Sequence[stack.Day], sensor: Sensor, grid: Grid, *_: Any) -> tuple[xr.Dataset, list[Any]]:
        """The part of the region's pixels that lies on a grid."""
        cube, region = self._cubes[sensor.name]
        row, col = round((region.top - grid.top) / grid.pixel_m), round((grid.left - region.left) / grid.pixel_m)
        wanted = {(d.day, d.look) for d in days}
        seen = zip(cube["day"].values, cube["look"].values, strict=True)
        at = [k for k, (day, look) in enumerate(seen) if (int(day), look) in wanted]
        return cube.isel(time=at, y=slice(row, row + grid.rows), x=slice(col, col + grid.cols)), []


@contextmanager
def _reading(areas: Path, imagery: Path, world: World) -> Iterator[None]:
    """Hand ``pipeline.watch`` the pixels of a region at once, where that is asked for."""
    if not world.at_once:
        yield
        return
    region, usual = _Region(areas, imagery), (stack.survey, stack.recalled)
    stack.survey, stack.recalled = region.survey, region.recalled  # type: ignore[assignment]
    try:
        yield
    finally:
        stack.survey, stack.recalled = usual


def _apart(cube: xr.Dataset, mask: npt.NDArray[np.bool_], sensor: Sensor) -> dict[str, float]:
    """Mean |difference| of two dates over the pixels that are clear on both, per feature; NaN where there are none."""
    sizes = {}
    for feature in sensor.features:
        first, second = cube[feature.name].values[:, mask]
        apart = np.abs(second - first)
        sizes[feature.name] = float(np.nanmean(apart)) if np.isfinite(apart).any() else np.nan
    return sizes


def day_number(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - dt.date(1970, 1, 1)).days


def date_of(day: int) -> dt.date:
    """The date of a day since 1970-01-01."""
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)


def _thin_out(imagery: Path, seed: int) -> None:
    """Delete all but a fifth of the dates, the same for all tiles and processings of a date."""

    def kept(key: str) -> bool:
        return hashlib.sha256(f"{seed} {key}".encode()).digest()[0] < 256 / KEPT_OF_DATES

    for path in imagery.glob("*/collection.json"):
        collection = json.loads(path.read_text(encoding="utf-8"))
        links = []
        for link in collection["links"]:
            if link["rel"] == "item":
                item = json.loads((path.parent / link["href"]).read_text(encoding="utf-8"))
                if not kept(f"{path.parent.name} {item['properties']['datetime'][:10]}"):
                    continue
            links.append(link)
        path.write_text(json.dumps({**collection, "links": links}), encoding="utf-8")
    for path in (imagery / "granules").glob("*.h5"):
        if not kept(".".join(path.name.split(".")[:2])):
            path.unlink()


# ------------------------------------------------------------------------------------------------------- two dates


def _differences(measured: Measured, world: World, truth: dict[str, Any]) -> dict[str, dict[str, float]]:
    """For each site the mean difference between the views around the true date, over the median of its controls.

    The last clear view before the date against the first one after it, of the look with the most views; the mean over
    pixels that are clear on both of |after - before| of each feature. "sensor feature" -> ratio.
    """
    found: dict[str, dict[str, float]] = defaultdict(dict)
    places = measured.area.by_id
    views = measured.series.drop_duplicates(["sensor", "site_id", "acquired", "look"])
    for name in world.sensors:
        sensor = sensors.sensor(name)
        for site in measured.area.targets:
            own = views[(views["sensor"] == name) & (views["site_id"] == site.site_id)]
            pair = _around(own, event_day(truth, site.site_id, world.seed))
            if pair is None:
                continue
            moved = {p: measured.moved(places[p], sensor, pair[0], pair[1:]) for p in (site.site_id, *site.controls)}
            for feature, size in moved[site.site_id].items():
                others = [moved[c][feature] for c in site.controls if np.isfinite(moved[c].get(feature, np.nan))]
                if others and np.isfinite(size):
                    found[site.site_id][f"{name} {feature}"] = float(size / max(np.median(others), 1e-9))
    return dict(found)


def _around(rows: pd.DataFrame, event: dt.date) -> tuple[str, dt.date, dt.date] | None:
    """The look with the most clear views, and its last clear date before and the first after an event."""
    clear = rows[rows["valid_fraction"] >= CLEAR]
    if clear.empty:
        return None
    look = str(clear["look"].value_counts().idxmax())
    dates = sorted({t.date() for t in clear.loc[clear["look"] == look, "acquired"]})
    before, after = [d for d in dates if d < event], [d for d in dates if d >= event]
    return (look, before[-1], after[0]) if before and after else None


def event_day(truth: dict[str, Any], site_id: str, seed: int) -> dt.date:
    """The day on which something began at a site or around it; a day of the same span where nothing did."""
    site = next(s for s in truth["sites"] if s["site_id"] == site_id)
    if site["change_date"]:
        return dt.date.fromisoformat(site["change_date"])
    if site["scenario"] == "regional":
        return dt.date.fromisoformat(truth["regional_date"])
    if site["scenario"] == "blackout":
        return dt.date.fromisoformat(truth["blackout_dates"][0])
    span = (END - START).days
    rng = np.random.default_rng([seed, *site_id.encode()])
    return START + dt.timedelta(days=int(span * rng.uniform(*CHANGE_WINDOW)))


# ------------------------------------------------------------------------------------------------------------ judging


def judge(
    area: AreaOfInterest, series: pd.DataFrame, used: Sequence[Sensor], reference_end: dt.date, seed: int
) -> tuple[SiteState, ...]:
    """States from series, as ``pipeline.watch`` makes them."""
    day, settings = day_number(reference_end), Settings()
    _, states = score.score_sites(
        area,
        series,
        tuple(used),
        {site.site_id: day for site in area.targets},
        END,
        settings.score,
        settings.load.min_valid_fraction,
        np.random.default_rng(seed),
    )
    return tuple(states)


def without(home: Path, area: AreaOfInterest, removed: str) -> tuple[AreaOfInterest, pd.DataFrame]:
    """Area and series of a measured world after a removal: "controls", "dates", the name of a sensor, or "nothing"."""
    series = pd.read_pickle(home / ("fifth.pkl.gz" if removed == "dates" else "series.pkl.gz"))
    if removed == "controls":
        area = replace(area, sites=tuple(replace(s, controls=()) for s in area.sites))
    return area, series[series["sensor"] != removed]


def rows_of(folder: Path, world: World, removals: Sequence[str]) -> Path:
    """Judge a measured world once per removal; the file with a line per site and removal."""
    home = folder / world.name
    code = fingerprint("score", "formulas.py", "change_search.py", "model.py")
    path = home / f"rows-{code}.jsonl"
    known = {row["removed"] for row in read_rows(path)} if path.exists() else set()
    about = json.loads((home / "world.json").read_text(encoding="utf-8"))
    truth = json.loads((home / "truth.json").read_text(encoding="utf-8"))
    apart = json.loads((home / "differences.json").read_text(encoding="utf-8"))
    area = pipeline.read_area(home / "sites.geojson", home / "events.csv")
    every = tuple(sensors.sensor(name) for name in about["sensors"])
    end = dt.date.fromisoformat(about["reference_end"])
    lines = []
    for removed in removals:
        if removed in known or (removed in SENSORS and (removed not in about["sensors"] or len(every) == 1)):
            continue
        judged, series = without(home, area, removed)
        used = tuple(s for s in every if s.name != removed)
        for state in judge(judged, series, used, end, world.seed):
            lines.append(_row(world, about, truth, state, removed, apart.get(state.site_id, {})))
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def _row(
    world: World, about: dict[str, Any], truth: dict[str, Any], state: SiteState, removed: str, apart: dict[str, float]
) -> dict[str, Any]:
    site = next(s for s in truth["sites"] if s["site_id"] == state.site_id)
    event = event_day(truth, state.site_id, world.seed)
    raid = dt.date.fromisoformat(site["raid_date"]) if site["raid_date"] else event
    before = sum(p for day, p in state.change_dates.items() if day < raid) if state.change_dates else None
    return {
        "world": world.name, "split": world.split, "conditions": about["conditions"], "site_id": state.site_id,
        "removed": removed, "scenario": site["scenario"], "truth": site["state"], "area_m2": site["area_m2"],
        "event": event.isoformat(), "raid": raid.isoformat(), "change_date": site["change_date"],
        "complete_date": site["complete_date"], "state": state.state.value,
        "probability": {s.value: round(float(p), 6) for s, p in state.probability.items()},
        "p_change": round(float(sum(state.probability.get(s, 0.0) for s in CHANGES)), 6),
        "date": state.change_date and state.change_date.isoformat(),
        "earliest": state.change_date_earliest and state.change_date_earliest.isoformat(),
        "latest": state.change_date_latest and state.change_date_latest.isoformat(),
        "p_before": None if before is None else round(float(before), 6), "n_views": state.n_views,
        "n_after": state.n_after, "min_detectable": state.min_detectable, "p_value": state.p_value,
        "reason": state.reason, "differences": apart,
    }  # fmt: skip


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines; a line that was cut off by an interruption is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


# -------------------------------------------------------------------------------------------------------------- tables

Rows = Sequence[dict[str, Any]]


def threshold(quiet: Sequence[float], rate: float) -> float:
    """Smallest threshold that at most a share ``rate`` of the quiet sites exceeds."""
    ordered = np.sort(np.asarray(quiet))
    return float(ordered[len(ordered) - 1 - int(np.floor(rate * len(ordered)))]) if len(ordered) else np.nan


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Chance that a positive scores above a negative, ties half."""
    if not positive or not negative:
        return np.nan
    p, n = np.asarray(positive)[:, None], np.asarray(negative)[None, :]
    return float((p > n).mean() + 0.5 * (p == n).mean())


def calibration_error(rows: Rows, bins: int = 10) -> float:
    """Expected calibration error of the most probable state (Guo et al. 2017, arXiv 1706.04599)."""
    judged = [r for r in rows if r["probability"]]
    top = np.array([max(r["probability"].values()) for r in judged])
    right = np.array([best(r) == r["truth"] for r in judged])
    place = np.minimum((top * bins).astype(int), bins - 1)
    gaps = [abs(top[place == b].mean() - right[place == b].mean()) * (place == b).sum() for b in set(place.tolist())]
    return float(sum(gaps) / len(judged)) if judged else np.nan


def best(row: dict[str, Any]) -> str:
    """The most probable state; NOT_OBSERVABLE where there are no probabilities."""
    return max(row["probability"], key=row["probability"].get) if row["probability"] else State.NOT_OBSERVABLE.value


def days_apart(row: dict[str, Any], key: str = "date") -> int:
    """Days from the true date to a date of the answer."""
    return (dt.date.fromisoformat(row[key]) - dt.date.fromisoformat(row["change_date"])).days


def share(values: Iterable[bool]) -> str:
    """A share with its standard error, as text; the error from half a case more of each kind, so that it is never 0."""
    found = np.array(list(values), dtype=float)
    if not found.size:
        return f"{'-':>11s}"
    shrunk = (found.sum() + 0.5) / (found.size + 1)
    return f"{found.mean():5.2f} ±{np.sqrt(shrunk * (1 - shrunk) / (found.size + 1)):4.2f}"


def print_tables(rows: Rows, frozen: Rows) -> None:
    """All tables of one split; ``frozen`` are the rows whose thresholds are tried as they are (the other split)."""
    removals = list(dict.fromkeys(r["removed"] for r in rows))
    for removed in removals:
        chosen = [r for r in rows if r["removed"] == removed]
        print(f"\n## {'all sensors, controls and dates' if removed == 'nothing' else f'without {removed}'}")
        _table(chosen, [r for r in frozen if r["removed"] == removed])
    _differencing_table([r for r in rows if r["removed"] == "nothing"])


def _table(rows: Rows, frozen: Rows) -> None:
    limits = [threshold([r["p_change"] for r in rows if r["scenario"] in QUIET], rate) for rate in (0.05, 0.01)]
    print(f"sites {len(rows)}, thresholds of P(change) at 5 % and 1 % false alarms: {limits[0]:.3f}, {limits[1]:.3f}")
    print(
        f"{'scenario':20s} {'n':>4s} {'found, 5 %':>11s} {'found, 1 %':>11s} {'most likely':>11s} {'called':>11s} "
        f"{'days off':>8s} {'bias':>5s} {'90 % covers':>11s}"
    )
    for scenario in sorted({r["scenario"] for r in rows}, key=lambda s: (s in QUIET, s)):
        some = [r for r in rows if r["scenario"] == scenario]
        dated = [r for r in some if r["date"] and r["change_date"] and r["state"] == r["truth"] != "LIGHTS_ONLY"]
        off = [days_apart(r) for r in dated]
        covers = share(days_apart(r, "earliest") <= 0 <= days_apart(r, "latest") for r in dated)
        print(
            f"{scenario:20s} {len(some):4d} {share(r['p_change'] > limits[0] for r in some)} "
            f"{share(r['p_change'] > limits[1] for r in some)} {share(best(r) == r['truth'] for r in some)} "
            f"{share(r['state'] == r['truth'] for r in some)} "
            + (f"{np.median(np.abs(off)):8.0f} {np.median(off):+5.0f} {covers}" if off else f"{'-':>8s}")
        )
    changed = [r for r in rows if r["truth"] in CHANGES]
    sure = [r for r in rows if r["probability"] and max(r["probability"].values()) > 0.9]
    wrong = sum(best(r) != r["truth"] for r in sure)
    before = [[r["p_before"] or 0.0 for r in rows if r["scenario"] == s] for s in ("emptied_before_raid", "emptied")]
    print(
        f"all changes found: {share(r['p_change'] > limits[0] for r in changed)} at 5 %, "
        f"{share(r['p_change'] > limits[1] for r in changed)} at 1 %, "
        f"{share(r['p_change'] > 0.5 for r in changed)} at P > 0.5 "
        f"(quiet {share(r['p_change'] > 0.5 for r in rows if r['scenario'] in QUIET)})"
    )
    print(
        f"most likely state right {share(best(r) == r['truth'] for r in rows)}, called right "
        f"{share(r['state'] == r['truth'] for r in rows)}, not observable "
        f"{share(r['state'] == 'NOT_OBSERVABLE' for r in rows)}, calibration error {calibration_error(rows):.3f}"
    )
    print(
        f"called EMPTIED: blackouts {share(r['state'] == 'EMPTIED' for r in rows if r['scenario'] == 'blackout')}, "
        f"power cuts {share(r['state'] == 'EMPTIED' for r in rows if r['scenario'] == 'power_cut')}; "
        f"P > 0.9 and wrong: {wrong} of {len(sure)}; P(before the raid), 3-10 days against 0: AUC {auc(*before):.2f}"
    )
    if frozen:
        cuts = [threshold([r["p_change"] for r in frozen if r["scenario"] in QUIET], rate) for rate in (0.05, 0.01)]
        quiet = [r for r in rows if r["scenario"] in QUIET]
        told = (
            f"false alarms {share(r['p_change'] > c for r in quiet)}, found {share(r['p_change'] > c for r in changed)}"
            for c in cuts
        )
        print(f"thresholds of the other split ({cuts[0]:.3f}, {cuts[1]:.3f}): " + "; ".join(told))


def _differencing_table(rows: Rows) -> None:
    """Differencing of two dates, which is told the true date, at the same rates of false alarms."""
    names = sorted({name for r in rows for name in r["differences"]})
    if not names:
        return
    print("\n## two dates, told the true date: mean |difference| over that of the controls")
    scenarios = sorted({r["scenario"] for r in rows if r["truth"] in CHANGES})
    print(f"{'':24s} {'AUC':>5s} {'all, 5 %':>11s} {'all, 1 %':>11s} " + " ".join(f"{s[:11]:>11s}" for s in scenarios))
    for name in names:
        have = [(r, r["differences"][name]) for r in rows if name in r["differences"]]
        quiet = [v for r, v in have if r["scenario"] in QUIET]
        changed = [v for r, v in have if r["truth"] in CHANGES]
        if not quiet or not changed:
            continue
        five, one = threshold(quiet, 0.05), threshold(quiet, 0.01)
        parts = [share(v > five for r, v in have if r["scenario"] == s) for s in scenarios]
        whole = f"{auc(changed, quiet):5.2f} {share(v > five for v in changed)} {share(v > one for v in changed)}"
        print(f"{name:24s} {whole} " + " ".join(parts))


# ----------------------------------------------------------------------------------------------------------------- run


def do_world(folder: Path, world: World, removals: Sequence[str], again: bool) -> tuple[str, dict[str, float]]:
    """Measure a world where that has not been done, and judge it."""
    took: dict[str, float] = {}
    if again or not (folder / world.name / "world.json").is_file():
        took |= measure(folder, world)
    begin = time.perf_counter()
    rows_of(folder, world, removals)
    took["judge"] = round(time.perf_counter() - begin, 1)
    return world.name, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where worlds are kept")
    parser.add_argument("--split", choices=tuple(SEEDS), default="test")
    parser.add_argument("--worlds", type=int, default=WORLDS, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="number of the first world")
    parser.add_argument("--sensors", default=",".join(SENSORS), help="names, with commas")
    parser.add_argument("--conditions", choices=tuple(CONDITIONS), default="described")
    parser.add_argument("--few", action="store_true", help="one site per scenario of a world")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--at-once", action="store_true", help="read each file once per region, not once per place")
    parser.add_argument("--remeasure", action="store_true", help="measure worlds again that have been")
    parser.add_argument("--no-removals", action="store_true", help="judge with everything only")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there, do nothing else")
    options = parser.parse_args()
    names = tuple(options.sensors.split(","))
    removals = ["nothing"] if options.no_removals else ["nothing", *names, "controls", "dates"]
    numbers = range(options.first, options.first + options.worlds)
    worlds = [World(options.split, k, options.conditions, names, options.few, options.at_once) for k in numbers]
    options.folder.mkdir(parents=True, exist_ok=True)
    if not options.table:
        with ProcessPoolExecutor(max_workers=options.processes) as pool:
            jobs = [pool.submit(do_world, options.folder, w, removals, options.remeasure) for w in worlds]
            for done, job in enumerate(as_completed(jobs), 1):
                name, took = job.result()
                print(f"{done}/{len(jobs)} {name}: " + ", ".join(f"{k} {v:.0f} s" for k, v in took.items()), flush=True)
    print_tables(*_gather(options.folder, options.split))


def _gather(folder: Path, split: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of a split and of the other one, each world as it was judged last."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in SEEDS}
    codes: dict[str, int] = defaultdict(int)
    for home in sorted(p for p in folder.iterdir() if (p / "world.json").is_file()):
        files = sorted(home.glob("rows-*.jsonl"), key=lambda p: p.stat().st_mtime)
        if files:
            found[home.name.split("-")[0]] += read_rows(files[-1])
            measured = json.loads((home / "world.json").read_text(encoding="utf-8"))["code"]
            codes[f"measured by {measured}, judged by {files[-1].stem.removeprefix('rows-')}"] += 1
    for code, count in codes.items():
        print(f"{count} worlds {code}")
    other = next(name for name in SEEDS if name != split)
    return found[split], found[other]


if __name__ == "__main__":
    main()
