"""What was read of one place, kept so that a later run need not read it again: frames, features and pictures.

A day, or a scene, is known by what its pixels depend on: the scenes with their processing and calibration, and how far
aside they were read. So what is remembered is what reading would give, and it is used whole or not at all.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from compoundwatch.grid import Grid
from compoundwatch.model import FloatArray, Picture, Sensor, Skipped
from compoundwatch.stack.chips import SiteChips
from compoundwatch.stack.coregister import Mapper, Shift
from compoundwatch.stack.load import Day, load, picture

Arrays = Mapping[str, npt.NDArray[Any]]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """Things by their key; what nobody asked for in this run is not kept for the next."""

    def __init__(self, known: Mapping[K, V] | None = None) -> None:
        self._known = dict(known or {})
        self._used: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The thing, None where it is not known."""
        if key in self._known:
            self._used[key] = self._known[key]
        return self._known.get(key)

    def put(self, key: K, value: V) -> V:
        """Remember a thing."""
        self._known[key] = self._used[key] = value
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._known

    @property
    def used(self) -> dict[K, V]:
        """What was asked for or put in, sorted by key."""
        return dict(sorted(self._used.items(), key=lambda item: str(item[0])))


@dataclass
class Memory:
    """What is known of one place from one sensor.

    ``frames`` float32 (rows, cols): what a scene shows of the surroundings, NaN = not usable. ``bands``: all its bands
    there, by name. ``shifts``: how a day lies on a reference, None = cannot be told. ``days`` float32 (n_features,
    rows, cols): the features of a day on a tile, NaN = not valid. ``pictures`` by the day they show.
    ``chips``: where pixels as they are stored are kept besides.
    """

    frames: Shelf[str, FloatArray] = field(default_factory=Shelf)
    bands: Shelf[str, dict[str, FloatArray]] = field(default_factory=Shelf)
    shifts: Shelf[str, Shift | None] = field(default_factory=Shelf)
    days: Shelf[tuple[str, str], FloatArray] = field(default_factory=Shelf)
    pictures: Shelf[str, Picture] = field(default_factory=Shelf)
    chips: SiteChips | None = None


def day_key(day: Day) -> str:
    """A text that differs where what two days show may differ."""
    aside = "{!r} {!r}".format(*day.aside_m) if day.moved else ""
    return "+".join(scene.pixels for scene in day.scenes) + aside


def measured_once(names: Sequence[str], memory: Memory, run: Mapper) -> Mapper:
    """A mapper for ``coregister.align`` that measures no shift again that is remembered.

    What it measures of a frame depends on the frame, on the frames of the reference, which it is first asked for, and
    on how often it was asked before.

    Parameters
    ----------
    names : what each frame shows (``day_key`` of unmoved days).
    run : measures those that are not remembered.
    """
    asked: list[str] = []

    def mapper(one: Callable[[int], Any], which: Sequence[int]) -> list[Any]:
        asked.append(asked[0] if asked else hashlib.sha256("\n".join(names[k] for k in which).encode()).hexdigest())
        keys = {k: f"{len(asked)} {asked[0]} {names[k]}" for k in which}
        unknown = [k for k in which if keys[k] not in memory.shifts]
        for k, shift in zip(unknown, run(one, unknown), strict=True):
            memory.shifts.put(keys[k], shift)
        return [memory.shifts.get(keys[k]) for k in which]

    return mapper


def recalled(
    days: Sequence[Day], sensor: Sensor, grid: Grid, threads: int, memory: Memory
) -> tuple[xr.Dataset, list[Skipped]]:
    """As ``load.load``; days that are remembered are not read, and those that were read whole are remembered.

    Raises
    ------
    StackError : not one scene could be read, and no day is remembered.
    """
    keys = [(grid.key, day_key(day)) for day in days]
    known = [None if day.blank else memory.days.get(key) for day, key in zip(days, keys, strict=True)]
    unread = [day if rows is None else replace(day, blank=True) for day, rows in zip(days, known, strict=True)]
    stack, skipped = load(unread, sensor, grid, threads, chips=memory.chips)
    cubes = [stack[f.name].values for f in sensor.features]
    failed = {s.item_id for s in skipped}
    for k, (day, rows) in enumerate(zip(days, known, strict=True)):
        if rows is not None:
            for cube, layer in zip(cubes, rows, strict=True):
                cube[k] = layer
            stack["valid"].values[k] = np.isfinite(rows[0])
        elif not day.blank and failed.isdisjoint(s.scene_id for s in day.scenes):
            memory.days.put(keys[k], np.stack([cube[k] for cube in cubes]))
    return stack, skipped


def recalled_picture(day: Day, sensor: Sensor, grid: Grid, memory: Memory) -> tuple[str, Picture]:
    """As ``load.picture``, remembered, with the key by which ``pictures_in`` finds it."""
    key = f"{grid.key} {day_key(day)}"
    known = memory.pictures.get(key)
    return key, known if known is not None else memory.pictures.put(key, picture(day, sensor, grid, memory.chips))


# -------------------------------------------------------------------------------------------------------- to arrays


def to_arrays(memory: Memory, key: str) -> dict[str, npt.NDArray[Any]]:
    """What was used of a memory, as arrays that a file can hold; ``key`` says what it depends on besides imagery."""
    pictures = memory.pictures.used
    grids = {p.grid for p in pictures.values()}
    head = {
        "key": key,
        "frames": list(memory.frames.used),
        "bands": [[scene, list(bands)] for scene, bands in memory.bands.used.items()],
        "shifts": [[name, None if s is None else astuple(s)] for name, s in memory.shifts.used.items()],
        "days": list(memory.days.used),
        "pictures": [[k, p.scene_id, p.sensor, p.acquired.isoformat(), astuple(p.grid)] for k, p in pictures.items()],
    }
    made = {"head": np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)}
    made |= _packed("frames", list(memory.frames.used.values()))
    made |= _packed("bands", [layer for bands in memory.bands.used.values() for layer in bands.values()])
    for tile in dict.fromkeys(tile for tile, _ in memory.days.used):
        made |= _packed(f"days {tile}", [rows for (t, _), rows in memory.days.used.items() if t == tile])
    for grid in grids:
        own = [p for p in pictures.values() if p.grid == grid]
        made[f"rgb {grid.key}"] = np.stack([p.rgb for p in own])
        made[f"seen {grid.key}"] = np.stack([p.seen for p in own])
    return made


def from_arrays(arrays: Arrays, key: str) -> Memory:
    """The memory in arrays that ``to_arrays`` made; an empty one where they depend on something else, or are none."""
    if "head" not in arrays:
        return Memory()
    head = json.loads(arrays["head"].tobytes())
    if head["key"] != key:
        return Memory()
    layers = iter(_unpacked("bands", arrays))
    days = [tuple(name) for name in head["days"]]
    rows = {tile: iter(_unpacked(f"days {tile}", arrays)) for tile in {tile for tile, _ in days}}
    return Memory(
        frames=Shelf(dict(zip(head["frames"], _unpacked("frames", arrays), strict=True))),
        bands=Shelf({scene: {name: next(layers) for name in names} for scene, names in head["bands"]}),
        shifts=Shelf({name: None if s is None else Shift(*s) for name, s in head["shifts"]}),
        days=Shelf({(tile, name): next(rows[tile]) for tile, name in days}),
        pictures=Shelf(pictures_in(arrays)),
    )


def pictures_in(arrays: Arrays) -> dict[str, Picture]:
    """The pictures in arrays that ``to_arrays`` made, by key; those named "head", "rgb ..." and "seen ..." count."""
    if "head" not in arrays:
        return {}
    shots: dict[str, tuple[Any, Any]] = {}
    found = {}
    for key, scene_id, sensor, acquired, place in json.loads(arrays["head"].tobytes())["pictures"]:
        grid = Grid(*place)
        if grid.key not in shots:
            shots[grid.key] = iter(arrays[f"rgb {grid.key}"]), iter(arrays[f"seen {grid.key}"])
        rgb, seen = map(next, shots[grid.key])
        found[key] = Picture(scene_id, sensor, dt.datetime.fromisoformat(acquired), grid, rgb, seen)
    return found


def _packed(name: str, layers: Sequence[FloatArray]) -> dict[str, npt.NDArray[Any]]:
    """Layers of one shape as the values that are not missing, and one bit per pixel that says where these are."""
    if not layers:
        return {}
    cube = np.stack(layers)
    known = ~np.isnan(cube)
    return {
        f"{name} values": cube[known],
        f"{name} known": np.packbits(known),
        f"{name} shape": np.array(cube.shape, dtype=np.int64),
    }


def _unpacked(name: str, arrays: Arrays) -> FloatArray:
    if f"{name} shape" not in arrays:
        return np.zeros((0, 0, 0), dtype=np.float32)
    shape = tuple(arrays[f"{name} shape"].tolist())
    cube = np.full(shape, np.nan, dtype=np.float32)
    known = np.unpackbits(arrays[f"{name} known"], count=math.prod(shape)).astype(bool).reshape(shape)
    cube[known] = arrays[f"{name} values"]
    return cube
