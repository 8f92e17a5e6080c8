"""One place seen by one sensor: what is new in the catalogue, and what all that is there says.

Whatever was read before is recalled (``stack.Memory``), and everything is worked out anew from all scenes that count.
So a workspace that grew date by date says to the last bit what measuring all at once would say.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from compoundwatch import __version__, detectors, score, stack, store
from compoundwatch.catalogs.items import newest
from compoundwatch.errors import StackError
from compoundwatch.grid import Grid, Tile, pixel_mask, project
from compoundwatch.model import (
    CHANGE_VARIABLES,
    Picture,
    Role,
    Scene,
    Sensor,
    Site,
    SiteChange,
    Skipped,
    check_change_map,
    check_stack,
)
from compoundwatch.pipeline.inputs import day_number
from compoundwatch.pipeline.planning import Plan
from compoundwatch.store import Kept

PICTURE_SIDE_M = 2_000.0
"""Pictures show at most so many metres around the centre of a site."""
RESULTS = ("results", "change ", "head", "rgb ", "seen ")
"""How the names of those arrays begin that hold what was made of a place, not what it was made from."""

Arrays = Mapping[str, npt.NDArray[Any]]
Recall = Callable[[Sequence[str]], Arrays]
"""Gives the arrays that a workspace keeps of a place whose names begin with one of the given texts (none = all)."""


@dataclass(frozen=True)
class Part:
    """What is known of one place from one sensor.

    ``scenes`` are all that count, ``skipped`` is all that is left out of them, ``told`` what this run alone has to say.
    ``searched``, ``inputs`` and ``digest`` as in ``store.Kept``. ``series`` is None where it is the one that the
    store holds, because nothing is new. ``reopened_from`` is the day of the earliest scene that is new, or counts no
    longer, while later ones were known. ``arrays`` are to be kept for the next run (None = those that are kept).
    """

    site_id: str
    sensor: str
    scenes: tuple[Scene, ...]
    skipped: tuple[Skipped, ...]
    told: tuple[Skipped, ...]
    searched: tuple[dt.date, dt.date]
    inputs: str
    digest: str
    series: pd.DataFrame | None = None
    changes: tuple[SiteChange, ...] = ()
    pictures: tuple[Picture | None, Picture | None] = (None, None)
    frames: tuple[Picture, ...] = ()
    reopened_from: dt.date | None = None
    arrays: Arrays | None = None


def look(site: Site, sensor: Sensor, plan: Plan, kept: Kept, recall: Recall) -> Part:
    """Ask for what is new of a place, and measure it where anything is.

    Parameters
    ----------
    kept : what a workspace knows of it.
    recall : gives what a workspace keeps of it.

    Raises
    ------
    CatalogError : no catalogue answers.
    """
    grid = Grid.around(site.geometry, sensor.pixel_m, plan.settings.load.margin_m)
    part = _asked(site, sensor, grid, plan, kept)
    if part.inputs == kept.inputs and not _failed(kept.skipped, part.scenes, sensor):
        stored = recall(RESULTS)
        if _inputs_of(stored) == part.inputs:
            return _as_stored(replace(part, skipped=_in_order(kept.skipped), digest=kept.series), grid, stored)
    if not part.scenes:
        nothing: dict[str, Any] = {"inputs": part.inputs, "pictures": [None, None, []], "changes": []}
        return replace(part, series=_no_series(site, sensor), arrays={"results": _as_array(nothing)})
    return _measured(site, sensor, grid, part, kept, recall, plan)


def digest_of(*values: Any) -> str:
    """A hash that is equal for equal plain values only."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------------- asking


def _asked(site: Site, sensor: Sensor, grid: Grid, plan: Plan, kept: Kept) -> Part:
    """What counts and what is left out by now, as far as catalogues say."""
    first = plan.start
    if kept.searched and not plan.whole and kept.searched[0] <= plan.start:
        back = dt.timedelta(days=plan.settings.search.look_back_days)
        first = max(plan.start, min(kept.searched[1], plan.end) - back)
    catalog = plan.catalogs[sensor.name]
    fresh, left = catalog.search(grid.lonlat_bounds, first, plan.end, sensor, plan.settings.search)
    told = tuple(s for s in left if _of_catalogue(s))
    known = {s.pixels: s for s in kept.scenes if plan.start <= s.acquired.date() <= plan.end}
    known |= {s.pixels: s for s in fresh}
    scenes, older = newest(known.values(), sensor, list(dict.fromkeys(s.catalog for s in fresh)))
    answered = {s.scene_id for s in fresh} | {s.item_id for s in left}
    earlier = [s for s in kept.skipped if s.stage == "search" and s.item_id not in answered]
    skipped = [*earlier, *(s for s in left if not _of_catalogue(s)), *older]
    outline = site.geometry.wkb_hex
    basis = {name: value for name, value in plan.basis.items() if not name.startswith("score.") and name != "the seed"}
    shown = plan.settings.export.frames if site.role is Role.SITE else 0
    return Part(
        site_id=site.site_id,
        sensor=sensor.name,
        scenes=tuple(scenes),
        skipped=_in_order(skipped),
        told=told,
        searched=(plan.start, plan.end),
        inputs=digest_of(sorted(s.pixels for s in scenes), outline, site.role, basis, shown),
        digest=digest_of(),
    )


def _of_catalogue(skipped: Skipped) -> bool:
    """Whether this is said of a search, not of a scene."""
    return skipped.item_id.startswith("catalogue ")


def _in_order(skipped: Sequence[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(set(skipped), key=lambda s: (s.stage, s.item_id, s.reason)))


def _failed(skipped: Sequence[Skipped], scenes: Sequence[Scene], sensor: Sensor) -> set[str]:
    """Ids of the scenes that could not be read, which may be read another day; the sensor's name = none could be."""
    names = {s.scene_id for s in scenes} | {sensor.name}
    return {s.item_id for s in skipped if s.stage == "load" and s.item_id in names}


# ---------------------------------------------------------------------------------------------------------- measuring


def _measured(site: Site, sensor: Sensor, grid: Grid, part: Part, kept: Kept, recall: Recall, plan: Plan) -> Part:
    key = f"{__version__} {sensor.name} {grid.key}"
    memory = stack.from_arrays(recall(()), key)
    memory.chips = plan.chips.around(grid) if plan.chips else None
    known = bool(kept.series) and not plan.renew
    try:
        days, unread, series, changes = _from_pixels(site, sensor, grid, part.scenes, memory, plan)
    except StackError as error:
        if known:
            return _as_before(part, grid, kept, recall(RESULTS), str(error))
        skipped = _in_order([*part.skipped, Skipped(sensor.name, "load", str(error))])
        return replace(part, skipped=skipped, series=_no_series(site, sensor))
    lost = _failed(unread, kept.scenes, sensor) - _failed(kept.skipped, kept.scenes, sensor)
    if known and lost:
        reason = next(s.reason for s in unread if s.item_id in lost)
        arrays = stack.to_arrays(memory, key)
        return replace(_as_before(part, grid, kept, recall(RESULTS), reason), arrays=arrays)
    keys, pictures, frames = _pictures(site, sensor, grid, days, series, memory, plan)
    skipped = _in_order([*part.skipped, *unread])
    made = {
        "inputs": part.inputs,
        "pictures": keys,
        "changes": [[c.feature, c.unit, c.detector, c.alpha] for c in changes],
    }
    layers = {f"change {c.feature} {name}": c.change_map[name].values for c in changes for name in CHANGE_VARIABLES}
    return replace(
        part,
        skipped=skipped,
        told=(*part.told, *(memory.chips.mended if memory.chips else ())),
        digest=_digest(series),
        series=series,
        changes=tuple(changes),
        pictures=pictures,
        frames=frames,
        reopened_from=_reopened_from(part.scenes, skipped, kept, sensor),
        arrays={**stack.to_arrays(memory, key), "results": _as_array(made), **layers},
    )


def _no_series(site: Site, sensor: Sensor) -> pd.DataFrame:
    return score.site_series(site.site_id, sensor.name, [])


def _as_before(part: Part, grid: Grid, kept: Kept, stored: Arrays, why: str) -> Part:
    """The part as it was, because what was read once and is to be read again cannot be: nothing measured is lost."""
    reason = f"it cannot be measured anew and stays as it was; the next run tries again, --renew goes on without: {why}"
    assert kept.searched is not None
    old = replace(
        part,
        scenes=kept.scenes,
        skipped=_in_order(kept.skipped),
        told=(*part.told, Skipped(part.sensor, "load", reason)),
        searched=kept.searched,
        inputs=kept.inputs,
        digest=kept.series,
    )
    return _as_stored(old, grid, stored) if _inputs_of(stored) == kept.inputs else old


def _from_pixels(
    site: Site, sensor: Sensor, grid: Grid, scenes: Sequence[Scene], memory: stack.Memory, plan: Plan
) -> tuple[list[stack.Day], list[Skipped], pd.DataFrame, list[SiteChange]]:
    """The days that were used, what was left out, the series, and the change maps, tile by tile."""
    load, detect = plan.settings.load, plan.settings.detect
    mask = pixel_mask(site.geometry, grid)
    tiles = [t for t in grid.tiles(load.tile_pixels) if mask[t.slices].any()]
    if not tiles:
        raise StackError(f"the outline holds no centre of a {sensor.pixel_m:g} m pixel; it is too small to be seen")
    days, left_out = stack.survey(stack.by_day(scenes), sensor, grid, plan.reference_day, load.threads, memory=memory)
    tested = [f for f in sensor.features if detectors.suits(plan.detector, f.unit)]
    mosaics: dict[str, xr.Dataset] = {}
    pieces: list[score.TileSeries] = []
    unread = list(left_out)
    for tile in tiles:
        cube, failed = stack.recalled(days, sensor, grid.part(tile), load.threads, memory)
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
    series = store.in_order(score.site_series(site.site_id, sensor.name, pieces))
    # A scene that fails on several tiles is told once.
    return days, list({s.item_id: s for s in unread}.values()), series, changes


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
    site: Site,
    sensor: Sensor,
    grid: Grid,
    days: Sequence[stack.Day],
    series: pd.DataFrame,
    memory: stack.Memory,
    plan: Plan,
) -> tuple[list[Any], tuple[Picture | None, Picture | None], tuple[Picture, ...]]:
    """The last clear view before the end of the reference period and the last of all, and clear views over time.

    Controls get none. The keys of the pictures come first: of the two, and of all.
    """
    if site.role is not Role.SITE:
        return [None, None, []], (None, None), ()
    seen = series.drop_duplicates("acquired").set_index("acquired")["valid_fraction"]
    seen.index = pd.Index([day_number(t.date()) for t in pd.DatetimeIndex(seen.index)])
    seen = seen.sort_index()
    past = seen.index < plan.reference_day
    before, after = (_clear(part).last_valid_index() for part in (seen[past], seen[~past]))
    wanted = {before, after} | _spread(_clear(seen), plan.settings.export.frames, day_number(plan.start))
    frame = _picture_grid(site, grid)
    read: dict[Any, tuple[str, Picture]] = {}
    for day in days:
        if day.day in wanted and day.day not in read:
            with suppress(StackError):
                read[day.day] = stack.recalled_picture(day, sensor, frame, memory)
    two = [read.get(before), read.get(after)]
    in_time = [read[day] for day in sorted(read)]
    first, last = (found and found[1] for found in two)
    keys = [*(found and found[0] for found in two), [key for key, _ in in_time]]
    return keys, (first, last), tuple(picture for _, picture in in_time)


def _clear(seen: pd.Series) -> pd.Series:
    """The days on which a site was as clear as it ever was, or nearly all of it."""
    return seen[seen >= min(0.95, float(seen.max()))] if len(seen) and seen.max() > 0 else seen[:0]


def _spread(seen: pd.Series, count: int, first: int) -> set[Any]:
    """At most ``count`` days, the clearest of each of equal parts of the time since the day ``first``.

    Parts are a power of two days long, so that a new date touches the last part only: earlier choices stand.
    """
    if not len(seen) or not count:
        return set()
    days = seen.index.to_numpy() - first
    length = 1
    while days.max() // length >= count:
        length *= 2
    return {part.idxmax() for _, part in seen.groupby(days // length)}


def _picture_grid(site: Site, grid: Grid) -> Grid:
    """The grid of a site, cut to PICTURE_SIDE_M around its centre."""
    side = int(PICTURE_SIDE_M / grid.pixel_m)
    if grid.rows <= side and grid.cols <= side:
        return grid
    centre = project(site.geometry, 4326, grid.epsg).centroid
    rows, cols = min(grid.rows, side), min(grid.cols, side)
    col = int(np.clip((centre.x - grid.left) / grid.pixel_m - cols / 2, 0, grid.cols - cols))
    row = int(np.clip((grid.top - centre.y) / grid.pixel_m - rows / 2, 0, grid.rows - rows))
    return grid.part(Tile(row, col, rows, cols))


# ------------------------------------------------------------------------------------------------- keeping, recalling


def _as_array(value: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)


def _inputs_of(arrays: Arrays) -> str:
    """The hash of what kept results were made from; empty where none are kept."""
    return str(json.loads(arrays["results"].tobytes())["inputs"]) if "results" in arrays else ""


def _as_stored(part: Part, grid: Grid, arrays: Arrays) -> Part:
    """A part of which nothing is new, with what was made of it before."""
    made = json.loads(arrays["results"].tobytes())
    known = stack.pictures_in(arrays)
    before, after, in_time = made["pictures"]
    changes = []
    for feature, unit, detector, alpha in made["changes"]:
        layers = {name: (("y", "x"), arrays[f"change {feature} {name}"]) for name in CHANGE_VARIABLES}
        changes.append(SiteChange(part.site_id, part.sensor, feature, unit, detector, alpha, grid, xr.Dataset(layers)))
    return replace(
        part,
        changes=tuple(changes),
        pictures=(known.get(before), known.get(after)),
        frames=tuple(known[key] for key in in_time),
    )


def _digest(series: pd.DataFrame) -> str:
    """A hash of a series, to the last bit."""
    whole = hashlib.sha256()
    for name in series.columns:
        column = series[name]
        whole.update(f"\n{name}\n".encode())
        if column.dtype.kind in "fi":
            whole.update(column.to_numpy().tobytes())
        else:
            whole.update("\n".join(map(str, column)).encode())
    return whole.hexdigest()


def _reopened_from(scenes: Sequence[Scene], skipped: Sequence[Skipped], kept: Kept, sensor: Sensor) -> dt.date | None:
    """The day of the earliest scene that is new or counts no longer, if any that was known before is later."""
    before = {s.pixels: s for s in kept.scenes}
    now = {s.pixels: s for s in scenes}
    readable = _failed(kept.skipped, kept.scenes, sensor) - _failed(skipped, scenes, sensor)
    changed = [s for key, s in {**before, **now}.items() if (key in before) != (key in now) or s.scene_id in readable]
    days = [s.acquired.date() for s in changed]
    last = max((s.acquired.date() for s in kept.scenes), default=None)
    return min(days) if days and last and min(days) <= last else None
