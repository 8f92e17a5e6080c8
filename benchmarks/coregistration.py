"""Shifts of Sentinel-2 scenes: what is left of them, what is invented, which offsets are called misstated, the cost.

    python benchmarks/coregistration.py [folder that holds data/] [picture to draw: docs/images/coregistration.png]

Three simulated regions of seven sites and fourteen controls over three years, with the simulator's own shifts, with
half a pixel in both directions in every scene, and with none; and 140 real dates over a wood in Romania, where two
bands must tell the same. Errors are lengths in pixels of 10 m, up to the common place of the reference.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import romania_pixels
import xarray as xr

from compoundwatch import aoi, simulate, stack
from compoundwatch.catalogs import open_catalog
from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import Asset, Feature, Scene, SearchSettings
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.simulate import sentinel2 as satellite
from compoundwatch.simulate.fields import cloudy_field
from compoundwatch.stack import offsets as rule
from compoundwatch.stack.bands import _sampled, _weighted
from compoundwatch.stack.coregister import Shift, align
from compoundwatch.stack.survey import frame_around

DEFAULT_SHARED = Path(__file__).resolve().parents[2] / "shared"
EVERY = 3
"""Every third place of a region is measured."""
RED = replace(SENSOR, features=(Feature("red", lambda bands: bands["red"], ("red",), "reflectance", -0.2, 1.6, ""),))
STEP = 0.1


def main() -> None:
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("COMPOUNDWATCH_SHARED", DEFAULT_SHARED))
    scatter = None
    with tempfile.TemporaryDirectory() as folder:
        for name, sd, seed in (("as simulated", 0.25, 1), ("half a pixel, both ways", 1e6, 2), ("no shift", 0.0, 3)):
            made = region(Path(folder) / str(seed), sd, seed)
            told = through_files(name, made)
            if seed == 1:
                scatter = told
                difficulties(made)
                offsets(made)
                cost(made)
    resampling()
    if (shared / romania_pixels.CUBE).exists():
        real = romania(shared / romania_pixels.CUBE)
        romania_offsets((shared / romania_pixels.CUBE).with_name("sentinel2_cube_subset_romania_20m.nc"))
    else:
        real = None
        print(f"left out: {romania_pixels.CUBE} not found in {shared}; give the folder that holds data/")
    if len(sys.argv) > 2 and scatter is not None and real is not None:
        draw(scatter, real, Path(sys.argv[2]))


def region(folder: Path, sd: float, seed: int) -> Path:
    usual, satellite.SHIFT_SD = satellite.SHIFT_SD, sd
    try:
        simulate.simulate(folder, np.random.default_rng(seed), **simulate.DEMO)
    finally:
        satellite.SHIFT_SD = usual
    return folder


def places(folder: Path, every: int = EVERY) -> list[tuple[Grid, list[stack.Day]]]:
    catalog = open_catalog(folder, SearchSettings())
    found = []
    for site in aoi.read_areas(folder / "sites.geojson").sites[::every]:
        grid = Grid.around(site.geometry, 10.0, 60.0)
        found.append((grid, days_at(catalog, grid)))
    return found


def days_at(catalog: Any, grid: Grid) -> list[stack.Day]:
    first, last = dt.date(2020, 1, 1), dt.date(2030, 1, 1)
    return stack.by_day(catalog.search(grid.lonlat_bounds, first, last, SENSOR, SearchSettings())[0])


def middle(days: Sequence[stack.Day]) -> int:
    return (days[0].day + days[-1].day) // 2


def truth_of(folder: Path) -> dict[str, tuple[float, float]]:
    scenes = json.loads((folder / "truth.json").read_text())["scenes"]
    return {s["item_id"]: (s["shift_x_m"] / 10, s["shift_y_m"] / 10) for s in scenes}


def summary(errors: Sequence[Any]) -> str:
    e = np.concatenate(errors)
    return f"mean {e.mean():.3f}  median {np.median(e):.3f}  90 % {np.quantile(e, 0.9):.3f}  largest {e.max():.2f}"


def through_files(name: str, folder: Path) -> np.ndarray[Any, Any]:
    """Survey every place; prints what the shifts were and what reading leaves of them."""
    truth = truth_of(folder)
    before, after, both = [], [], []
    n_days = n_moved = n_out = 0
    for grid, days in places(folder):
        used, left_out = stack.survey(days, SENSOR, grid, middle(days))
        aligned = [d for d in used if d.aligned]
        true = np.array([truth[d.scenes[0].scene_id] for d in aligned])
        told = np.array([(d.shift_x_m, d.shift_y_m) for d in aligned]) / 10
        common = np.median(true - told, axis=0) if any(d.moved for d in aligned) else 0.0
        before.append(np.hypot(*true.T))
        after.append(np.hypot(*(true - np.array([d.aside_m for d in aligned]) / 10 - common).T))
        both.append(np.concatenate([true - common, told], axis=1))
        n_days, n_out = n_days + len(days), n_out + len(left_out)
        n_moved += sum(d.moved for d in used)
    print(f"{name}: {n_days} days at {len(before)} places, {n_moved} moved, {n_out} left out")
    print(f"   shifts {summary(before)}\n   left   {summary(after)}")
    return np.concatenate(both)


# ------------------------------------------------------------------------------------------------------- difficulties


def frames(folder: Path) -> list[tuple[list[Any], Any, Any]]:
    """For each place the red frames of its days, their true shifts (down, right) and their days."""
    truth, found = truth_of(folder), []
    for grid, days in places(folder):
        cube, _ = stack.load(days, RED, frame_around(grid))
        shift = np.array([truth[d.scenes[0].scene_id] for d in days])
        found.append((list(cube["red"].values), np.stack([-shift[:, 1], shift[:, 0]], axis=1), cube["day"].values))
    return found


def difficulties(folder: Path) -> None:
    seen = frames(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that no day shows
        strange = [np.nanmedian(np.stack(f[:40]), axis=0)[:32, :32] * 1.8 for f, _, _ in seen]

    def wet(days: Any) -> Any:
        return np.isin(days.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12, (5, 6, 7, 8, 9, 10))

    def late(days: Any) -> Any:
        return days > days[0] + 0.6 * (days[-1] - days[0])

    def cloud(frame: Any, k: int, shift: Any, rng: np.random.Generator, missed: float = 0.0) -> Any:
        sky = cloudy_field(rng, frame.shape, 3.5, largest=40)
        low, high = np.quantile(sky, (0.6, 0.6 + missed))
        opacity = np.clip(1.5 * (sky - low) / (sky.max() - low), 0, 0.7)
        return np.where(sky > high, np.nan, frame * (1 - opacity) + 0.55 * opacity).astype(np.float32)

    def build(frame: Any, k: int, shift: Any, rng: np.random.Generator) -> Any:
        new = _sampled(np.nan_to_num(strange[(k + 1) % len(strange)], nan=0.1).astype(np.float32), *-shift)
        built = frame.copy()
        built[:32, :32] = np.where(np.isfinite(frame[:32, :32]), new, np.nan)
        return built

    def missed(*arguments: Any) -> Any:
        return cloud(*arguments, missed=0.06)

    print("left of the simulator's shifts, measured alone")
    for label, spoil, when in (
        ("all scenes", None, None),
        ("June to November", None, wet),
        ("40 % more cloud, all masked", cloud, None),
        ("the same, its rims missed by the mask", missed, None),
        ("a quarter of the frame rebuilt, after that", build, late),
    ):
        errors, used, n = [], 0, 0
        for place, (shown, true, days) in enumerate(seen):
            rng = np.random.default_rng(place)
            pick = np.ones(len(days), dtype=bool) if when is None else when(days)
            if spoil is not None:
                touched = pick if when is not None else np.ones(len(days), dtype=bool)
                shown = [
                    spoil(f, place if spoil is build else k, true[k], rng) if touched[k] else f
                    for k, f in enumerate(shown)
                ]
            found = align(shown, np.flatnonzero(days < (days[0] + days[-1]) / 2).tolist())
            told = pairs(found)
            error = told - true
            error -= np.nanmedian(error, axis=0)
            good = np.isfinite(told[:, 0]) & pick
            errors.append(np.hypot(*error[good].T))
            used, n = used + int(good.sum()), n + int(pick.sum())
        print(f"   {label:44s} {used:4d} of {n:4d} measured  {summary(errors)}")


def pairs(found: Sequence[Shift | None]) -> np.ndarray[Any, Any]:
    """(down, right) of each shift that is trusted, NaN for the others."""
    return np.array([(s.down, s.right) if s and s.trusted and s.plausible else (np.nan, np.nan) for s in found])


# ------------------------------------------------------------------------------------------------------------ offsets


def offsets(folder: Path) -> None:
    """Misstated offsets put into some scenes: how many are found, and how many good ones are called."""
    total: dict[str, list[int]] = {}
    for place, (grid, days) in enumerate(places(folder, 7)):
        ids = [s.scene_id for d in days for s in d.scenes]
        rng = np.random.default_rng(place)
        row = int(rng.integers(0, len(ids) - len(ids) // 4))
        for label, bad in {
            "no scene": {},
            "three scenes +0.1": dict.fromkeys(rng.choice(ids, 3, replace=False), 0.1),
            "three scenes -0.1": dict.fromkeys(rng.choice(ids, 3, replace=False), -0.1),
            "30 % +0.1": dict.fromkeys(rng.choice(ids, round(0.3 * len(ids)), replace=False), 0.1),
            "a quarter, one after the other, +0.1": dict.fromkeys(ids[row : row + len(ids) // 4], 0.1),
            "all -0.1": dict.fromkeys(ids, -0.1),
        }.items():
            told = [
                replace(d, scenes=tuple(restated(s, bad[s.scene_id]) if s.scene_id in bad else s for s in d.scenes))
                for d in days
            ]
            try:
                used, left_out = stack.survey(told, SENSOR, grid, middle(days))
            except StackError as error:
                print(f"   {label}: {error}")
                continue
            called = {s.item_id for s in left_out if s.stage == "calibrate"}
            kept = {s.scene_id for d in used if d.aligned for s in d.scenes}
            counts = (len(called & set(bad)), len(kept & set(bad)), len(called - set(bad)), len(ids) - len(bad))
            total[label] = [a + b for a, b in zip(total.get(label, [0] * 4), counts, strict=True)]
    print("misstated offsets")
    for label, (hits, missed, false, good) in total.items():
        print(f"   {label:38s} {hits} found, {missed} used all the same; {false} of {good} good scenes called")


def restated(scene: Scene, by: float) -> Scene:
    """The scene with an item that makes it so much brighter than it is."""

    def asset(name: str, stated: Asset) -> Asset:
        rule = stated.calibration
        return stated if name == "scl" else replace(stated, calibration=replace(rule, offset=rule.offset + by))

    return replace(scene, assets={name: asset(name, stated) for name, stated in scene.assets.items()})


# --------------------------------------------------------------------------------------------------------------- cost


def cost(folder: Path) -> None:
    """Processor seconds of the survey and of the load, for a small place and for the whole region."""
    catalog = open_catalog(folder, SearchSettings())
    whole = next(iter(places(folder, 99)))[0]
    print("processor seconds: survey, load after it")
    for side in (40, 128, 230):
        grid = Grid(whole.epsg, 203_040.0, 995_960.0, 10.0, side, side)
        days = days_at(catalog, grid)
        start = time.process_time()
        used, _ = stack.survey(days, SENSOR, grid, middle(days))
        between = time.process_time()
        for tile in grid.tiles(256):
            stack.load(used, SENSOR, grid.part(tile))
        end = time.process_time()
        print(f"   {side:3d} x {side} pixels, {len(days)} days: {between - start:5.2f} {end - between:5.2f}")


def resampling() -> None:
    """A scene moved by the simulator and moved back: what is wrong with it, and what is left of single pixels."""
    rng = np.random.default_rng(4)
    first, last = (int((d - dt.date(1970, 1, 1)).days) for d in (dt.date(2023, 1, 2), dt.date(2026, 1, 6)))
    place = simulate.plan(rng, ("unchanged",), first, last, (200.0, 290.0), 3, 2, (0.58, 0.72))
    land = place.world.reflectance(last - 300)
    busy = place.world.with_activity(land, last - 300, rng)[2]
    calm = land[2]
    things = np.abs(busy - calm) > np.quantile(np.abs(busy - calm), 0.95)
    print("root mean square error (reflectance), and what is left of single pixels")
    for by in (0.1, 0.2, 0.3, 0.5):
        row = []
        for how in ("as it is", "bilinear", "cubic"):
            back = [_back(satellite.displaced(image, by, by), by, how) for image in (busy, calm)]
            inside = (slice(6, -6), slice(6, -6))
            wrong = float(np.sqrt(np.mean((back[0] - busy)[inside] ** 2)))
            left = np.std((back[0] - back[1])[inside][things[inside]]) / np.std((busy - calm)[inside][things[inside]])
            row.append(f"{how} {wrong:.4f} {left:.2f}")
        print(f"   {by} pixels both ways:  " + "   ".join(row))


def _back(image: Any, by: float, how: str) -> Any:
    if how == "as it is":
        return image
    if how == "cubic":
        return _sampled(image, by, by)
    for axis in (0, 1):
        image = _weighted(image, [1 - by, by], 0, axis)
    return image


# ------------------------------------------------------------------------------------------------------- real scenes


def romania(path: Path) -> dict[str, Any]:
    with xr.open_dataset(path, engine="h5netcdf") as cube:
        days = cube["time"].values.astype("datetime64[D]")
        usable = SENSOR.valid({"scl": cube["SCL"].values}) if SENSOR.valid else None
        told = {}
        for band in ("B4", "B2", "B3", "B8"):
            values = cube[band].values.astype(np.float32) / 10_000
            shown = [np.where(u & (v > 0), v, np.nan).astype(np.float32) for u, v in zip(usable, values, strict=True)]
            told[band] = pairs(align(shown, range(len(shown) // 2)))
    clear = usable.mean(axis=(1, 2))
    known = np.isfinite(told["B4"][:, 0])
    centred = {band: part - np.nanmedian(part, axis=0) for band, part in told.items()}
    print(f"Romania, {len(days)} dates: {known.sum()} shifts trusted, of the {(clear >= 0.5).sum()} dates that show")
    print(f"   half of the place {(known & (clear >= 0.5)).sum()}; {summary([np.hypot(*centred['B4'][known].T)])}")
    for band in ("B2", "B3", "B8"):
        apart = centred["B4"] - centred[band]
        print(f"   red and {band} differ by {summary([np.hypot(*apart[np.isfinite(apart[:, 0])].T)])}")
    return {"days": days, **centred}


def romania_offsets(path: Path) -> None:
    """Each scene as it is, and with a step put on: compared with scenes of its season that are not suspected."""
    with xr.open_dataset(path, engine="h5netcdf") as cube:
        usable = SENSOR.valid({"scl": cube["SCL"].values}) if SENSOR.valid else None
        days = cube["time"].values.astype("datetime64[D]").astype(np.int64)
        names = ("B3", "B4", "B8A", "B11")
        bands = {b: np.where(usable, cube[b].values / 10_000, np.nan).astype(np.float32) for b in names}
    scenes = [{b: bands[b][k] for b in names} for k in range(len(days))]
    levels = np.array([rule.level(s["B4"]) for s in scenes])
    odd = rule.suspected(levels, days, STEP)
    judged = np.flatnonzero(np.isfinite(levels))
    able = [k for k in judged if k not in odd]
    for by in (0.0, STEP, -STEP):
        called = [
            rule.impossible(levels[k : k + 1] + by, STEP)[0]
            or rule.misstated(
                {b: v + np.float32(by) for b, v in scenes[k].items()},
                [scenes[w] for w in rule.witnesses(k, days, [a for a in able if a != k])],
                STEP,
            )
            for k in judged
        ]
        clear = [bool(c) for c, k in zip(called, judged, strict=True) if usable[k].mean() >= 0.5]
        print(
            f"   offset {by:+.1f}: {sum(map(bool, called))} of {len(called)} called misstated; of those that show half"
        )
        print(f"      of the place {sum(clear)} of {len(clear)}")


def draw(scatter: Any, real: dict[str, Any], path: Path) -> None:
    import matplotlib.dates

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    axes[0].plot([-0.6, 0.6], [-0.6, 0.6], color="0.7", lw=1)
    axes[0].scatter(scatter[:, 0], scatter[:, 2], s=4, color="#1f6f8b", lw=0)
    axes[0].set(xlabel="true shift to the east (pixels)", ylabel="measured", title="simulated")
    axes[1].axhline(0, color="0.7", lw=1)
    axes[1].scatter(real["days"], real["B4"][:, 1], s=9, color="#c0392b", lw=0, label="red")
    axes[1].scatter(real["days"], real["B3"][:, 1], s=9, facecolor="none", edgecolor="#2e8b57", lw=0.8, label="green")
    axes[1].set(ylabel="shift to the east (pixels)", title="Romania, date by date")
    axes[1].legend(frameon=False, fontsize=8)
    axes[1].xaxis.set_major_locator(matplotlib.dates.YearLocator())
    axes[2].plot([-1.5, 1.5], [-1.5, 1.5], color="0.7", lw=1)
    for axis, (name, colour) in enumerate((("down", "#5b4a9c"), ("to the right", "#d98200"))):
        axes[2].scatter(real["B4"][:, axis], real["B3"][:, axis], s=9, color=colour, lw=0, label=name)
    axes[2].set(xlabel="shift by the red band (pixels)", ylabel="by the green band", title="Romania, two bands")
    axes[2].legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
