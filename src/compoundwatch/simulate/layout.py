"""Where things stand: a made-up plain with fields, a river and roads, and walled or open places between them.

Everything is drawn in metres with x to the east and y to the south from the north-west corner, on cells of 2.5 m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from rasterio.features import rasterize
from scipy.spatial import cKDTree
from shapely import affinity
from shapely.geometry import LineString, Polygon, box
from shapely.geometry.base import BaseGeometry

from compoundwatch.simulate.fields import cloudy_field
from compoundwatch.simulate.materials import ROOFS, Material
from compoundwatch.simulate.scenarios import Story

CELL_M = 2.5
FACTOR = 4
"""Cells of the map per 10 m pixel."""

KINDS = ("village", "market", "factory")
"""Kinds of ordinary places."""

Shape = tuple[BaseGeometry, int]


@dataclass(frozen=True)
class Roof:
    """One building: outline in metres, colour (5 bands), and the place it stands in (None = a lone house)."""

    outline: BaseGeometry
    colour: npt.NDArray[np.float32]
    place: str | None = None


@dataclass
class Place:
    """A site or a control: outline in metres, what is painted on its ground, its roofs and roofs to come."""

    place_id: str
    kind: str
    outline: Polygon
    story: Story
    in_zone: bool
    ground: list[Shape] = field(default_factory=list)
    roofs: list[Roof] = field(default_factory=list)
    new_roofs: list[BaseGeometry] = field(default_factory=list)
    rate: float = 0.35
    """Things that stand in a yard pixel on a usual day."""
    generators: float = 0.0
    """Share of the light that its own generators keep when power fails in the whole region."""


def draw(shapes: Sequence[tuple[BaseGeometry, int]], shape: tuple[int, int], dtype: str = "uint16") -> npt.NDArray[Any]:
    """Paint outlines in metres on cells of 2.5 m, later ones over earlier ones; 0 = nothing."""
    shapes = [(geometry, value) for geometry, value in shapes if not geometry.is_empty]
    if not shapes:
        return np.zeros(shape, dtype=dtype)
    return np.asarray(rasterize(shapes, shape, transform=(CELL_M, 0, 0, 0, CELL_M, 0), fill=0, dtype=dtype))


# ------------------------------------------------------------------------------------------------------- countryside


@dataclass(frozen=True)
class Countryside:
    """The plain before anything is built: material of every cell, and the rice field it belongs to."""

    material: npt.NDArray[np.uint8]
    parcel: npt.NDArray[np.int32]
    n_parcels: int
    houses: list[Roof]


def countryside(
    rng: np.random.Generator, shape: tuple[int, int], lanes: tuple[Sequence[float], Sequence[float]]
) -> Countryside:
    """Fields, woods, a river and roads on a map of ``shape`` cells.

    ``lanes`` are the y of rows and the x of columns (metres) along which roads and the river may run between places.
    """
    parcel, edge, n = _parcels(rng, shape)
    crop = rng.choice([Material.FIELD, Material.FALLOW, Material.GRASS, Material.TREES], n, p=[0.55, 0.2, 0.15, 0.1])
    material = crop[parcel].astype(np.uint8)
    material[edge] = Material.GRASS
    wood = cloudy_field(rng, shape, 3.0, largest=min(shape) / 3)
    material[wood > 1.15] = Material.TREES
    material[cloudy_field(rng, shape, 1.6, largest=40) > 2.0] = Material.TREES
    lines = _lines(rng, shape, lanes)
    houses = _roadside_houses(rng, lines)
    painted = [(line.buffer(w), int(m) + 1) for line, w, m in lines]
    over = draw(painted, shape)
    material[over > 0] = (over[over > 0] - 1).astype(np.uint8)
    gardens = draw([(h.outline.buffer(12), 1) for h in houses], shape)
    material[(gardens > 0) & (wood > -0.2) & (over == 0)] = Material.TREES
    material[(gardens > 0) & (wood <= -0.2) & (over == 0)] = Material.SOIL
    return Countryside(material, parcel, n, houses)


def _parcels(
    rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], int]:
    """Long, narrow fields around jittered seeds in a turned, stretched frame: which field, if on its edge, count."""
    rows, cols = shape
    warp = cloudy_field(rng, shape, 3.2) * 18
    x, y = warp + np.arange(cols) * CELL_M, np.arange(rows)[:, None] * CELL_M - warp
    angle = rng.uniform(0, np.pi)
    u = (x * np.cos(angle) + y * np.sin(angle)) / 110
    v = (-x * np.sin(angle) + y * np.cos(angle)) / 48
    lattice = np.meshgrid(*(np.arange(float(np.floor(a.min())) - 1, float(np.ceil(a.max())) + 1) for a in (u, v)))
    seeds = np.stack(lattice, axis=-1).reshape(-1, 2)
    seeds += rng.uniform(-0.32, 0.32, seeds.shape)
    found = cKDTree(seeds).query(np.column_stack([u.ravel(), v.ravel()]), k=2)
    distance, nearest = np.asarray(found[0]), np.asarray(found[1])
    parcel = nearest[:, 0].reshape(shape).astype(np.int32)
    edge = (distance[:, 1] - distance[:, 0]).reshape(shape) < 0.07
    return parcel, edge, len(seeds)


def _lines(
    rng: np.random.Generator, shape: tuple[int, int], lanes: tuple[Sequence[float], Sequence[float]]
) -> list[tuple[LineString, float, Material]]:
    """River, main road and tracks along the lanes: centre line, half width in metres, material."""
    height, width = shape[0] * CELL_M, shape[1] * CELL_M
    rows, cols = list(lanes[0]), list(lanes[1])
    out: list[tuple[LineString, float, Material]] = []
    for k, y in enumerate(rows):
        line = _winding(rng, width, y, 26)
        if k == 0 and len(rows) > 1:
            out += [(line, float(rng.uniform(34, 42)), Material.TREES), (line, 19.0, Material.WATER)]
        else:
            out += [(line, 7.0, Material.GRASS), (line, 4.0, Material.SOIL)]
    for k, x in enumerate(cols):
        line = LineString([(b, a) for a, b in _winding(rng, height, x, 24).coords])
        if k == len(cols) // 2:
            out += [(line, 10.0, Material.SOIL), (line, 6.0, Material.ASPHALT)]
        else:
            out += [(line, 3.5, Material.SOIL)]
    return out


def _winding(rng: np.random.Generator, length: float, level: float, amplitude: float) -> LineString:
    """A line along x at y = ``level``, with bends."""
    x = np.arange(-50.0, length + 51.0, 10.0)
    y = np.full_like(x, level)
    for wave in (900.0, 430.0, 210.0):
        y += amplitude * wave / 900 * np.sin(2 * np.pi * (x / wave + rng.random()))
    return LineString(np.column_stack([x, y]))


def _roadside_houses(rng: np.random.Generator, lines: Sequence[tuple[LineString, float, Material]]) -> list[Roof]:
    houses: list[Roof] = []
    for line, half, material in lines:
        if material not in (Material.ASPHALT, Material.SOIL) or half > 8:
            continue
        at = 0.0
        while at < line.length:
            at += float(rng.exponential(60 if material is Material.ASPHALT else 140)) + 14
            point, ahead = line.interpolate(at), line.interpolate(at + 1)
            across = np.array([-(ahead.y - point.y), ahead.x - point.x])
            if not across.any():
                break
            side = (half + float(rng.uniform(10, 20))) * (1 if rng.random() < 0.5 else -1)
            x, y = np.array([point.x, point.y]) + side * across / np.hypot(*across)
            turn = float(np.degrees(np.arctan2(across[1], across[0]))) + 90
            houses.append(Roof(_rectangle(x, y, rng.uniform(8, 14), rng.uniform(7, 10), turn), _roof_colour(rng)))
    return houses


def _rectangle(x: float, y: float, w: float, h: float, turn: float) -> BaseGeometry:
    return affinity.rotate(box(x - w / 2, y - h / 2, x + w / 2, y + h / 2), turn)


def _roof_colour(rng: np.random.Generator, choices: Sequence[int] = range(len(ROOFS))) -> npt.NDArray[np.float32]:
    return np.asarray(ROOFS[rng.choice(np.asarray(choices))] * rng.uniform(0.88, 1.12), dtype=np.float32)


# ------------------------------------------------------------------------------------------------------------- places


def compound(
    rng: np.random.Generator,
    place_id: str,
    centre: tuple[float, float],
    size: tuple[float, float],
    story: Story,
    in_zone: bool,
) -> Place:
    """A walled compound: rows of long blocks, yards of concrete and earth, some green, and a gate road.

    ``centre`` and ``size`` (width, height) in metres.
    """
    w, h = size
    turn = float(rng.uniform(-25, 25))

    def put(shape: BaseGeometry) -> BaseGeometry:
        return affinity.translate(affinity.rotate(shape, turn, origin=(0, 0)), *centre)

    inside = box(-w / 2, -h / 2, w / 2, h / 2)
    grows = story.scenario == "building"
    green_share = float(rng.uniform(0.52, 0.60) if grows else rng.uniform(0.08, 0.18))
    green = box(w / 2 - green_share * w, -h / 2, w / 2, h / 2)
    place = Place(place_id, "compound", put(inside), story, in_zone, rate=float(rng.uniform(0.70, 1.00)))
    concrete = box(-w / 2, -h / 2, w / 2, -h / 2 + h * rng.uniform(0.5, 0.8))
    road = box(-4, h / 2 - 5, 4, h / 2 + 60)
    place.ground += [(put(inside), Material.SOIL), (put(concrete), Material.CONCRETE), (put(green), Material.GRASS)]
    blocks = _blocks(rng, w, h)
    for block in blocks:
        if block.intersects(green.buffer(6)) or rng.random() < 0.08:
            continue
        place.roofs.append(Roof(put(block), _roof_colour(rng, (0, 0, 1, 1, 2, 3, 5)), place_id))
    for _ in range(int(w * h / 700)):
        x, y = rng.uniform(-w / 2, w / 2), rng.uniform(-h / 2, h / 2)
        if green.contains(shapely.Point(x, y)) or rng.random() < 0.15:
            place.ground.append((put(shapely.Point(x, y).buffer(rng.uniform(2, 5))), Material.TREES))
    place.ground += [(put(inside.exterior.buffer(1.5)), Material.CONCRETE), (put(road), Material.CONCRETE)]
    if story.new_roof:
        built = shapely.union_all([r.outline for r in place.roofs])
        slots = [b for b in blocks if not put(b).intersects(built.buffer(2))]
        target = story.new_roof * (place.outline.area - built.area)
        deeper = max(1.0, target / max(1.0, sum(b.area for b in slots)))
        slots = [affinity.scale(b, 1.0, min(1.8, deeper)) for b in slots]
        place.new_roofs = [put(b) for b in fill_up(slots, target)]
    return place


def _blocks(rng: np.random.Generator, w: float, h: float) -> list[BaseGeometry]:
    """Outlines of long buildings in rows that fill a rectangle around (0, 0)."""
    out: list[BaseGeometry] = []
    short = min(1.0, w / 220)  # small places have small buildings
    y = -h / 2 + rng.uniform(8, 12)
    while y < h / 2 - 18:
        depth = rng.uniform(13, 18)
        x = -w / 2 + rng.uniform(8, 12)
        while x < w / 2 - 7 - 16 * short:
            length = min(rng.uniform(26, 60) * short, w / 2 - 7 - x)
            if y + depth < h / 2 - 6:
                out.append(box(x, y, x + length, y + depth))
            x += length + rng.uniform(8, 12)
        y += depth + rng.uniform(13, 19)
    return out


def fill_up(slots: Sequence[BaseGeometry], area: float) -> list[BaseGeometry]:
    """Take building plots until ``area`` (m2) is reached; the last one is cut to fit."""
    taken: list[BaseGeometry] = []
    for slot in slots:
        missing = area - sum(t.area for t in taken)
        if missing < 40:
            break
        if slot.area > missing:
            slot = affinity.scale(slot, np.sqrt(missing / slot.area), np.sqrt(missing / slot.area))
        taken.append(slot)
    return taken


def _irregular(rng: np.random.Generator, w: float, h: float) -> Polygon:
    """A rounded outline with bulges that fills a rectangle around (0, 0)."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False) + rng.uniform(-0.15, 0.15, 12)
    reach = rng.uniform(0.45, 0.62, 12)
    return Polygon(np.column_stack([w * reach * np.cos(angle), h * reach * np.sin(angle)]))


def ordinary(
    rng: np.random.Generator,
    place_id: str,
    centre: tuple[float, float],
    size: tuple[float, float],
    story: Story,
    in_zone: bool,
) -> Place:
    """A village, a market or a factory, with a life of its own."""
    w, h = size
    kind = str(rng.choice(KINDS, p=[0.4, 0.25, 0.35]))
    turn = float(rng.uniform(-30, 30))
    outline = _irregular(rng, w, h) if kind == "village" else box(-w / 2, -h / 2, w / 2, h / 2)

    def put(shape: BaseGeometry) -> BaseGeometry:
        return affinity.translate(affinity.rotate(shape, turn, origin=(0, 0)), *centre)

    place = Place(place_id, kind, put(outline), story, in_zone)
    if kind == "village":
        place.rate = float(rng.uniform(0.40, 0.65))
        middle = put(outline.buffer(-6))
        place.ground += [(put(outline), Material.GRASS), (middle, Material.SOIL)]
        plots = [(x, y) for x in np.arange(-w / 2 + 8, w / 2 - 6, 23) for y in np.arange(-h / 2 + 8, h / 2 - 6, 20)]
        for x, y in plots:
            x, y, turned = x + rng.uniform(-5, 5), y + rng.uniform(-5, 5), rng.uniform(-20, 20)
            if rng.random() < 0.55:
                place.ground.append((put(shapely.Point(x, y).buffer(rng.uniform(4, 11))), Material.TREES))
            if rng.random() < 0.5:
                house = _rectangle(x, y, rng.uniform(8, 13), rng.uniform(6, 9), turned)
                place.roofs.append(Roof(put(house), _roof_colour(rng, (1, 3, 3, 4, 4, 5)), place_id))
    else:
        hall = (34.0, 26.0) if kind == "market" else (64.0, 28.0)
        place.rate = float(rng.uniform(0.60, 1.00))
        place.ground += [(put(outline), Material.CONCRETE if rng.random() < 0.6 else Material.SOIL)]
        place.ground += [(put(box(w / 2 - 0.2 * w, -h / 2, w / 2, h / 2)), Material.GRASS)]
        for x in np.arange(-w / 2 + 12, w / 2 - 0.2 * w - hall[0], hall[0] + 14):
            for y in np.arange(-h / 2 + 12, h / 2 - hall[1] - 8, hall[1] + 22):
                if rng.random() < 0.8:
                    shed = box(x, y, x + hall[0] * rng.uniform(0.8, 1), y + hall[1] * rng.uniform(0.8, 1))
                    place.roofs.append(Roof(put(shed), _roof_colour(rng, (0, 1, 1, 2, 4, 6)), place_id))
    place.roofs = [r for r in place.roofs if place.outline.contains(r.outline)]
    place.ground.append((put(box(-3.5, h / 2 - 8, 3.5, h / 2 + 60)), Material.SOIL))
    if story.new_roof:
        built = shapely.union_all([r.outline for r in place.roofs]).buffer(3)
        free = [put(b) for b in _blocks(rng, 0.8 * w, 0.8 * h)]
        free = [b for b in free if place.outline.contains(b) and not b.intersects(built)]
        place.new_roofs = fill_up(free, story.new_roof * (place.outline.area - built.area))
    return place
