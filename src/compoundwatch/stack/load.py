"""Read, mask and put on one grid: scenes to a stack.

Quality bands are read first; where they leave nothing to use, the other bands are not read at all, which over slow
links and cloudy places saves most of the bytes. Only the pixels of the grid are read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from compoundwatch.errors import StackError
from compoundwatch.grid import Grid
from compoundwatch.model import BoolArray, FloatArray, Picture, Scene, Sensor, Skipped
from compoundwatch.stack.bands import Reader
from compoundwatch.stack.chips import SiteChips

PICTURE_WHITE = 0.30
"""Reflectance that is drawn white in pictures."""


@dataclass(frozen=True)
class Day:
    """The scenes of one look on one day, to be laid over one another; ``day`` counts from 1970-01-01 (UTC).

    ``shift_x_m`` and ``shift_y_m`` say how far to the east and north the pictures lie from those of the other days
    (metres, NaN = not measured); ``moved`` whether reading corrects that; ``aligned`` whether what is read lies on the
    other days, because it was corrected or need not be. ``blank`` days show nothing usable and are not read.
    """

    day: int
    look: str
    scenes: tuple[Scene, ...]
    shift_x_m: float = math.nan
    shift_y_m: float = math.nan
    moved: bool = False
    aligned: bool = False
    blank: bool = False

    @property
    def scene_id(self) -> str:
        """The ids of the scenes, joined."""
        return "+".join(s.scene_id for s in self.scenes)

    @property
    def version(self) -> str:
        """The version of the first scene."""
        return self.scenes[0].version

    @property
    def aside_m(self) -> tuple[float, float]:
        """How far to the east and north of a place its pixels are read, in metres."""
        return (self.shift_x_m, self.shift_y_m) if self.moved else (0.0, 0.0)


def day_number(scene: Scene) -> int:
    """Day of a scene, counted from 1970-01-01 (UTC)."""
    return int(np.datetime64(scene.acquired.date(), "D").astype(np.int64))


def by_day(scenes: Sequence[Scene]) -> list[Day]:
    """Group scenes into same-day mosaics, sorted by day and look."""
    groups: dict[tuple[int, str], list[Scene]] = {}
    for scene in scenes:
        groups.setdefault((day_number(scene), scene.look), []).append(scene)
    return [Day(d, look, tuple(group)) for (d, look), group in sorted(groups.items())]


def load(
    days: Sequence[Day],
    sensor: Sensor,
    grid: Grid,
    threads: int = 32,
    chips: SiteChips | None = None,
) -> tuple[xr.Dataset, list[Skipped]]:
    """Read a stack of features.

    Parameters
    ----------
    days : what to read, from ``by_day`` or ``survey``.
    sensor : how the bands are masked and which features are made of them.
    grid : where the pixels go.
    threads : files read at the same time.
    chips : where pixels of the site are kept.

    Returns
    -------
    Dataset with the contract of ``model.check_stack`` and the scenes that could not be read, with the reason. A day
    without a usable or readable pixel stays in it, all NaN, so that the tiles of a grid keep equal days.

    Raises
    ------
    StackError : not one scene could be read.
    """
    shape = (len(days), *grid.shape)
    valid = np.zeros(shape, dtype=bool)
    features = {f.name: np.full(shape, np.nan, dtype=np.float32) for f in sensor.features}
    skipped: list[Skipped] = []
    readable = np.ones(len(days), dtype=bool)

    def read(index: int) -> None:
        bands, usable, failed = _mosaic(days[index], sensor, grid, reader)
        skipped.extend(failed)
        readable[index] = len(failed) < len(days[index].scenes)
        if usable.any():
            made = {f.name: f.formula(bands) for f in sensor.features}
            for f in sensor.features:
                with np.errstate(invalid="ignore"):
                    usable &= (made[f.name] >= f.low) & (made[f.name] <= f.high)
            for name, value in made.items():
                features[name][index] = np.where(usable, value, np.nan)
            valid[index] = usable

    with Reader(sensor, threads, chips) as reader:
        list(reader.map(read, [k for k, day in enumerate(days) if not day.blank]))
    if len(days) and not readable.any():
        raise StackError(f"none of the {len(days)} days could be read; the first reason: {skipped[0].reason}")
    dims = ("time", "y", "x")
    stack = xr.Dataset(
        {name: (dims, cube) for name, cube in features.items()} | {"valid": (dims, valid)},
        coords={
            "day": ("time", np.array([d.day for d in days], dtype=np.int64)),
            "scene_id": ("time", np.array([d.scene_id for d in days], dtype=object)),
            "look": ("time", np.array([d.look for d in days], dtype=object)),
            "version": ("time", np.array([d.version for d in days], dtype=object)),
            "shift_x_m": ("time", np.array([d.shift_x_m for d in days], dtype=np.float32)),
            "shift_y_m": ("time", np.array([d.shift_y_m for d in days], dtype=np.float32)),
            "aligned": ("time", np.array([d.aligned for d in days], dtype=bool)),
        },
        attrs={"grid_key": grid.key, "sensor": sensor.name},
    )
    return stack, sorted(skipped, key=lambda s: s.item_id)


def picture(day: Day, sensor: Sensor, grid: Grid, chips: SiteChips | None = None) -> Picture:
    """A true-colour picture of one day; clouds are shown as they are, only missing pixels are not ``seen``.

    Raises
    ------
    StackError : no scene of the day could be read, or the sensor has no true-colour picture.
    """
    if sensor.picture is None:
        raise StackError(f"{sensor.title} has no true-colour picture")
    layers: dict[str, FloatArray] = {}
    with Reader(sensor, len(sensor.picture), chips) as reader:
        for scene in day.scenes:
            for name, values in reader.bands(scene, sensor.picture, grid, day.aside_m).items():
                known = layers.get(name, values)
                layers[name] = np.where(np.isfinite(known), known, values)
    cube = np.stack([layers[name] for name in sensor.picture], axis=-1)
    seen: BoolArray = np.asarray(np.isfinite(cube).all(axis=-1))
    stretched = np.clip(np.nan_to_num(cube) / PICTURE_WHITE, 0, 1) ** (1 / 1.4)
    rgb = np.where(seen[..., None], np.rint(255 * stretched), 255).astype(np.uint8)
    return Picture(day.scene_id, sensor.name, day.scenes[0].acquired, grid, rgb, seen)


def _mosaic(
    day: Day, sensor: Sensor, grid: Grid, reader: Reader
) -> tuple[dict[str, FloatArray], BoolArray, list[Skipped]]:
    """Bands of one day, the first usable scene winning at each pixel; which pixels are usable; what failed."""
    measured = [b.name for b in sensor.bands if not b.quality]
    bands: dict[str, FloatArray] = {}
    usable = np.zeros(grid.shape, dtype=bool)
    failed: list[Skipped] = []
    for scene in day.scenes:
        try:
            wanted = reader.clear(scene, grid, day.aside_m) & ~usable
            if not wanted.any():
                continue
            values = reader.bands(scene, measured, grid, day.aside_m)
        except StackError as error:
            failed.append(Skipped(scene.scene_id, "load", str(error)))
            continue
        for layer in values.values():
            wanted &= np.isfinite(layer)
        for name, layer in values.items():
            bands[name] = np.where(wanted, layer, bands.get(name, np.float32(np.nan)))
        usable |= wanted
    return bands, usable, failed
