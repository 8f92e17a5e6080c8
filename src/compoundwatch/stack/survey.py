"""One look at all days of a place before its pixels are read: which show anything, how far each lies off the others,
and whether the numbers of each scene mean what its item says.

Only the quality bands and one other band are read, on a frame around the place that is large enough to hold a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import FloatArray, Scene, Sensor, Skipped
from compoundwatch.stack import coregister, offsets
from compoundwatch.stack.bands import Reader
from compoundwatch.stack.coregister import Shift
from compoundwatch.stack.load import Day, day_number
from compoundwatch.stack.memory import Memory, day_key, measured_once

FRAME_PIXELS = (64, 128)
"""Smallest and largest side of the frame."""
WELL_SEEN = 0.5
MEASURABLE = 2 / 3
"""A place is too plain where fewer of the days that show WELL_SEEN of the frame can be measured."""
REFLECTANCE = "reflectance"


@dataclass(frozen=True)
class _View:
    """What one scene shows of the frame: float32 (rows, cols), NaN = not usable; None = it could not be read."""

    scene: Scene
    values: FloatArray | None
    failure: str = ""


def frame_around(grid: Grid) -> Grid:
    """The frame on which the days of a grid are compared: as large as the grid, within FRAME_PIXELS, same centre."""
    rows, cols = (int(np.clip(n, *FRAME_PIXELS)) for n in grid.shape)
    return grid.centred(rows, cols)


def survey(
    days: Sequence[Day],
    sensor: Sensor,
    grid: Grid,
    reference_day: int,
    threads: int = 32,
    memory: Memory | None = None,
) -> tuple[list[Day], list[Skipped]]:
    """Measure how far each day lies off the others, and find days and scenes that are not to be used.

    Parameters
    ----------
    days : what there is, from ``by_day``.
    sensor : which band the days are aligned on; a sensor without one is not surveyed.
    grid : the grid of the place.
    reference_day : days before this one (since 1970-01-01) make the reference.
    threads : files read at the same time.
    memory : what earlier surveys read and measured of the place, which is not done again; takes what is new.

    Returns
    -------
    The days to read, each with its shift, and what was left out and why.

    Raises
    ------
    StackError : not one scene could be read.
    """
    if sensor.align_on is None or not days:
        return list(days), []
    frame = frame_around(grid)
    memory = memory or Memory()
    covers = frame.rows >= grid.rows and frame.cols >= grid.cols
    with Reader(sensor, threads, memory.chips) as reader:

        def look(day: Day) -> list[_View]:
            return [_view(scene, sensor, frame, reader, memory) for scene in day.scenes]

        unread = [k for k, day in enumerate(days) if any(s.pixels not in memory.frames for s in day.scenes)]
        read = dict(zip(unread, reader.map(look, [days[k] for k in unread]), strict=True))
        seen = [read[k] if k in read else look(day) for k, day in enumerate(days)]
        views = [v for part in seen for v in part]
        failed = [Skipped(v.scene.scene_id, "load", v.failure) for v in views if v.values is None]
        if len(failed) == len(views):
            raise StackError(f"none of the {len(days)} days could be read; the first reason: {failed[0].reason}")
        wrong = _misstated([v for v in views if v.values is not None], sensor, frame, reader, memory)
        if len(failed) + len(wrong) == len(views):
            raise StackError(f"no scene can be used; the first reason: {wrong[0].reason}")
        bad = {s.item_id for s in failed + wrong}
        kept: list[Day] = []
        layers: list[FloatArray] = []
        for day, part in zip(days, seen, strict=True):
            if good := [v for v in part if v.scene.scene_id not in bad]:
                layers.append(_laid_together(good))
                blank = covers and not np.isfinite(layers[-1]).any()
                kept.append(replace(day, scenes=tuple(v.scene for v in good), blank=blank))
        before = [k for k, day in enumerate(kept) if day.day < reference_day]
        shifts = coregister.align(layers, before, measured_once([day_key(day) for day in kept], memory, reader.map))
    used, unaligned = _judged(kept, layers, shifts, sensor)
    return used, sorted(failed + wrong + unaligned, key=lambda s: s.item_id)


def _view(scene: Scene, sensor: Sensor, frame: Grid, reader: Reader, memory: Memory) -> _View:
    """Read what a scene shows; the band is not read where nothing of it may be used."""
    assert sensor.align_on is not None
    key = scene.pixels
    if (known := memory.frames.get(key)) is not None:
        return _View(scene, known)
    try:
        usable = reader.clear(scene, frame)
        if not usable.any():
            return _View(scene, memory.frames.put(key, np.full(frame.shape, np.nan, dtype=np.float32)))
        values = reader.bands(scene, [sensor.align_on], frame)[sensor.align_on]
    except StackError as error:
        return _View(scene, None, str(error))
    return _View(scene, memory.frames.put(key, np.where(usable, values, np.float32(np.nan))))


def _misstated(views: Sequence[_View], sensor: Sensor, frame: Grid, reader: Reader, memory: Memory) -> list[Skipped]:
    """Scenes whose numbers do not mean what their item says (``stack.offsets`` has the rule)."""
    step = sensor.offset_step
    if step is None:
        return []
    levels = np.array([offsets.level(v.values) for v in views if v.values is not None])
    days = np.array([day_number(v.scene) for v in views], dtype=np.int64)
    signs = _convicted(
        views, levels, days, step, lambda k: _reflectances(views[k].scene, sensor, frame, reader, memory), reader
    )
    found = []
    for k, view in enumerate(views):
        if offsets.impossible(levels[k : k + 1], step)[0]:
            reason = f"reflectance is {levels[k]:.2f} in the dark parts of the place, which no ground has"
        elif sign := signs.get(k):
            way = "brighter" if sign > 0 else "darker"
            reason = f"all bands are {way} by {step:g} than on other days of the same season"
        else:
            continue
        rule = view.scene.assets[str(sensor.align_on)].calibration.rule
        reason += f", so the offset that its item states is wrong (it was taken from: {rule}); it is left out"
        found.append(Skipped(view.scene.scene_id, "calibrate", reason))
    return found


def _convicted(
    views: Sequence[_View],
    levels: FloatArray,
    days: npt.NDArray[np.int64],
    step: float,
    read: Callable[[int], dict[str, FloatArray] | None],
    reader: Reader,
) -> dict[int, int]:
    """Suspected scenes that are wrong by a step, and its sign. Once put right, they testify against others.

    Where any is found, those that lie off the level of the whole year are suspected too: a season may hold more wrong
    scenes than right ones.
    """
    bands: dict[int, dict[str, FloatArray] | None] = {}
    signs: dict[int, int] = {}
    levels = np.where(offsets.impossible(levels, step), np.nan, levels)
    known = np.flatnonzero(np.isfinite(levels)).tolist()
    whole_year = False
    while True:
        right = np.array([level - signs.get(k, 0) * step for k, level in enumerate(levels)])
        suspects = set(offsets.suspected(right, days, step, whole_year)) - set(signs)
        called = {k: offsets.witnesses(k, days, [w for w in known if w not in suspects]) for k in sorted(suspects)}
        unread = sorted({*called, *(w for found in called.values() for w in found)} - set(bands))
        bands |= zip(unread, reader.map(read, unread), strict=True)
        new = {}
        for k, others in called.items():
            scene, heard = bands[k], [_put_right(o, signs.get(w, 0) * step) for w in others if (o := bands[w])]
            sign = offsets.misstated(scene, heard, step) if scene else 0
            if sign and offsets.minority(right, k, sign, step):
                new[k] = sign
        if not new and (whole_year or not signs):
            return signs
        whole_year = whole_year or not new
        signs |= new


def _put_right(bands: dict[str, FloatArray], by: float) -> dict[str, FloatArray]:
    return {name: values - np.float32(by) for name, values in bands.items()} if by else bands


def _reflectances(
    scene: Scene, sensor: Sensor, frame: Grid, reader: Reader, memory: Memory
) -> dict[str, FloatArray] | None:
    """All bands of reflectance where they may be used, NaN elsewhere; None where they cannot be read."""
    if (known := memory.bands.get(scene.pixels)) is not None:
        return known
    names = [b.name for b in sensor.bands if b.unit == REFLECTANCE]
    try:
        usable = reader.clear(scene, frame)
        layers = reader.bands(scene, names, frame)
    except StackError:
        return None
    return memory.bands.put(
        scene.pixels, {name: np.where(usable, layer, np.float32(np.nan)) for name, layer in layers.items()}
    )


def _laid_together(views: Sequence[_View]) -> FloatArray:
    """The scenes of one day, the first that shows a pixel winning."""
    layers = [v.values for v in views if v.values is not None]
    whole = layers[0]
    for layer in layers[1:]:
        whole = np.where(np.isfinite(whole), whole, layer)
    return whole


def _judged(
    days: Sequence[Day], layers: Sequence[FloatArray], shifts: Sequence[Shift | None], sensor: Sensor
) -> tuple[list[Day], list[Skipped]]:
    """Days with their shifts, without those that cannot be trusted to lie where they should."""
    good = [s is not None and s.trusted for s in shifts]
    well_seen = [k for k, layer in enumerate(layers) if np.isfinite(layer).mean() >= WELL_SEEN]
    if sum(good[k] for k in well_seen) < max(MEASURABLE * len(well_seen), coregister.MIN_REFERENCE_SCENES):
        reason = (
            f"how far the days lie off one another could be measured on only {sum(good)} of {len(days)}, because the "
            "place is too plain or seldom clear; all are used where they lie"
        )
        return list(days), [Skipped(sensor.name, "align", reason, routine=True)]
    used: list[Day] = []
    skipped: list[Skipped] = []
    for day, layer, shift in zip(days, layers, shifts, strict=True):
        if day.blank:
            used.append(day)
        elif reason := _why_not(shift, layer, sensor.pixel_m):
            # Clouds that were missed are every run's; a scene that plainly lies elsewhere is not.
            news = shift is not None and shift.trusted and not shift.plausible
            skipped += [Skipped(s.scene_id, "align", reason, routine=not news) for s in day.scenes]
        elif shift is not None:
            used.append(_with(day, shift, sensor.pixel_m))
    return used, skipped


def _why_not(shift: Shift | None, layer: FloatArray, pixel_m: float) -> str:
    """Why a day is left out; empty where it is not."""
    percent = f"{100 * float(np.isfinite(layer).mean()):.0f} % of the surroundings clear"
    if shift is None:
        return f"how far it lies off the other days cannot be measured with {percent}"
    if not shift.trusted:
        return f"how far it lies off the other days cannot be told: it resembles them too little, with {percent}"
    if not shift.plausible:
        return (
            f"it lies {shift.length * pixel_m:.0f} m off the other days, more than the "
            f"{coregister.MAX_SHIFT * pixel_m:.0f} m that are corrected"
        )
    return ""


def _with(day: Day, shift: Shift, pixel_m: float) -> Day:
    return replace(
        day, shift_x_m=shift.right * pixel_m, shift_y_m=-shift.down * pixel_m, moved=shift.worthwhile, aligned=True
    )
