"""How Sentinel-1 sees the ground: backscatter of surfaces and buildings in two looks, speckle, and a floor of noise.

Power is gamma0, linear, in VV and VH, one value per 10 m pixel of about 20 m resolution. What is imitated: the level of
each surface and how rain, plants and flooded rice move it; walls that answer strongly where they face the radar and
stand square to it, so that each look sees other buildings; roofs that lean towards the radar; vehicles and goods that
stand elsewhere at every visit; speckle that neighbours share; a level that drifts a little from scene to scene.

Levels are round figures in the range of published C-band measurements at some 40 degrees (Ulaby and Dobson 1989,
Handbook of Radar Scattering Statistics for Terrain; for rice Nguyen et al. 2015, doi:10.3390/rs71215808), chosen by
hand. That walls and the ground before them answer most where they stand square to the radar: Franceschetti, Iodice and
Riccio 2002, IEEE Transactions on Geoscience and Remote Sensing 40 (8), 1787.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from shapely import affinity
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from compoundwatch.simulate.fields import PSF_SIGMA, Float32, block_mean, cloudy_field, displaced
from compoundwatch.simulate.layout import CELL_M, FACTOR, draw
from compoundwatch.simulate.materials import Material
from compoundwatch.simulate.world import RUBBLE_CODE, Ground, Patch, Window, World

POLARISATIONS = ("vv", "vh")


@dataclass(frozen=True)
class Orbit:
    """Geometry of one look: where the satellite flies, to which azimuth it looks, and how steeply (degrees)."""

    relative: int
    state: str
    look_azimuth: float
    incidence: float

    @property
    def away(self) -> tuple[float, float]:
        """Direction away from the radar along the ground: parts to the east and to the south."""
        turn = np.radians(self.look_azimuth)
        return float(np.sin(turn)), float(-np.cos(turn))


ORBITS = (Orbit(26, "ascending", 77.5, 36.0), Orbit(164, "descending", 282.5, 41.0))
"""The looks of every world; orbits that pass that way, with angles of the middle of the swath."""
STEEP_FROM = 38.0
"""Incidence at which the levels below hold; 0.1 dB less for every degree more."""

DRY_DB = {
    Material.SOIL: (-13.0, -21.0), Material.CONCRETE: (-13.5, -22.5), Material.ASPHALT: (-16.5, -26.0),
    Material.GRASS: (-12.5, -20.0), Material.TREES: (-8.5, -14.0), Material.FIELD: (-12.5, -20.5),
    Material.FALLOW: (-12.5, -20.0), Material.WATER: (-21.0, -30.0),
}  # fmt: skip
"""Level of dry, bare or dead ground in VV and VH."""
WET_DB = {
    Material.SOIL: (4.0, 3.0), Material.CONCRETE: (0.5, 0.5), Material.ASPHALT: (0.5, 0.5), Material.GRASS: (2.0, 1.5),
    Material.TREES: (0.6, 0.5), Material.FIELD: (3.5, 2.5), Material.FALLOW: (3.5, 2.5),
}  # fmt: skip
"""What a soaked ground adds to it."""
GREEN_DB = {Material.GRASS: (1.0, 3.0), Material.TREES: (0.3, 0.5), Material.FALLOW: (1.0, 3.0)}
"""What full green adds to it."""
RICE_DB, FLOODED_DB, RUBBLE_DB = (-8.5, -15.0), (-17.0, -25.0), (-8.0, -15.0)
"""A full stand of rice; a field under water; rubble, which sends back less than the walls it was (Matsuoka and
Yamazaki 2004, Earthquake Spectra 20 (3), 975)."""
ROOF_DB, ROOF_SD = (-9.0, -17.0), 3.5
"""Median level of roofs, and how much they differ from each other and from look to look, dB."""
TEXTURE_DB, WIND_DB = 1.0, 1.5
"""Lasting differences from pixel to pixel, and differences of water from date to date, dB."""

WALL, WALL_SD = 6.0, 1.5
"""Power that a wall facing the radar squarely adds to a pixel per 100 m2 of it, and how much walls differ (dB)."""
SQUARE_DEGREES, ASKEW = 12.0, 0.03
"""Angle from square at which a wall answers with 1/e of that power, and the share that remains at all angles."""
HEIGHTS = {"compound": (9.0, 18.0), "village": (3.0, 5.0), "market": (5.0, 8.0), "factory": (7.0, 11.0)}
"""Lowest and highest building of each kind of place, metres; houses by the road are as high as those of villages."""
FENCED = {"compound": 2.5, "factory": 2.0}
"""Height of the wall around places that have one, metres."""

SEEN_SHARE = 0.25
"""Share of the things in yards that radar sees: vehicles and metal, not laundry."""
TRUCKS, CAR, TRUCK, THING_VH = 0.10, 0.08, 0.60, 0.12
"""Share of trucks among them, mean power that a car and a truck add to their pixel, and VH over VV."""

RESOLUTION_SIGMA = 0.85
"""Blur of a pixel of 10 m, in pixels: a resolution of 20 m between half powers."""
NOISE = 0.003
"""Power of the instrument's noise (-25 dB), which the product still holds."""
SHARED = 0.7
"""Part of the speckle that blocks of 2 x 2 pixels share: neighbours correlate by half of it."""
STEADY = 5.0
"""A wall is no rough surface: its power varies as if it had this many times the looks."""
LEAST = 1e-5
"""Power of walls that is worth to be looked at."""
SHIFT_SD, SHIFT_MAX, LOOK_SHIFT = 0.12, 0.4, 0.3
"""Misregistration per axis in pixels of 10 m: from scene to scene, at most, and what is lasting in a look (sd)."""
LEVEL_DB = {"A": 0.0, "C": 0.15}
"""Level of each satellite, dB."""


@dataclass(frozen=True)
class RadarScene:
    """One look of Sentinel-1: ``vv`` and ``vh`` gamma0 in linear power, float32 (rows, cols).

    ``shift`` (down, right) in pixels of 10 m is how far the picture lies from where it should, ``level_db`` how much
    brighter the whole scene is than it should be.
    """

    vv: Float32
    vh: Float32
    shift: tuple[float, float]
    level_db: float


@dataclass(frozen=True)
class _Return:
    """What buildings send back: from roofs and rubble (with speckle) and from walls, float32 (2, rows, cols)."""

    rough: Float32
    walls: Float32


@dataclass(frozen=True)
class _Look:
    """All that lasts in one look: the buildings of the whole region, each change of one, texture, and the shift."""

    orbit: Orbit
    standing: _Return
    changes: tuple[tuple[Patch, _Return], ...]
    texture: Float32
    shift: npt.NDArray[np.float64]


class Radar:
    """Backscatter of a world, day by day and look by look.

    Parameters
    ----------
    rng : source of what only radar can tell apart: heights, slopes of roofs, roughness.
    """

    def __init__(self, world: World, rng: np.random.Generator, orbits: Iterable[Orbit] = ORBITS) -> None:
        self.world = world
        kinds = {p.place_id: p.kind for p in world.places}
        heights = np.array([rng.uniform(*HEIGHTS[kinds.get(r.place or "", "village")]) for r in world.roofs])
        new_heights = [rng.uniform(*HEIGHTS[kinds[patch.place_id]]) for patch in world.patches]
        shared = cloudy_field(rng, world.shape, 2.0, largest=12)
        self.looks = tuple(self._look(rng, orbit, heights, new_heights, shared) for orbit in orbits)

    # ---------------------------------------------------------------------------------------------- how it is built

    def _look(
        self,
        rng: np.random.Generator,
        orbit: Orbit,
        heights: npt.NDArray[np.float64],
        new_heights: list[float],
        shared: Float32,
    ) -> _Look:
        world = self.world
        roofs, walls = _levels(rng, len(world.roofs)), _walls(rng, len(world.roofs))
        new_roofs, new_walls = _levels(rng, len(world.patches)), _walls(rng, len(world.patches))
        built = sorted(world.standing)
        whole = (slice(0, world.shape[0]), slice(0, world.shape[1]))
        standing = self._buildings(
            [(world.roofs[k].outline, heights[k], roofs[k], walls[k]) for k in built], orbit, whole
        )
        fences = [(p.outline, FENCED[p.kind]) for p in world.places if p.kind in FENCED]
        standing.walls[:] += _wall_map([(o, h, 1.0) for o, h in fences], orbit, whole)
        changes = []
        for k, patch in enumerate(world.patches):
            window = self._wider(patch.window)
            if patch.code == RUBBLE_CODE and patch.roof is not None:
                n = patch.roof
                gone = self._buildings([(patch.outline, heights[n], roofs[n], walls[n])], orbit, window)
                change = _Return(-gone.rough, -gone.walls)  # what it sent back before
            else:
                new = (patch.outline, new_heights[k], new_roofs[k], new_walls[k])
                change = self._buildings([new], orbit, window)
            changes.append((replace(patch, window=window), change))
        own = cloudy_field(rng, world.shape, 1.0, largest=8)
        texture = _power(np.float32(TEXTURE_DB) * (np.float32(0.8) * shared + np.float32(0.6) * own))
        return _Look(orbit, standing, tuple(changes), texture, rng.normal(0, LOOK_SHIFT, 2))

    def _wider(self, window: Window) -> Window:
        """A window with room for what leans out of it."""
        rows, cols = (
            slice(max(0, part.start - 3), min(size, part.stop + 3))
            for part, size in zip(window, self.world.shape, strict=True)
        )
        return rows, cols

    def _buildings(
        self,
        buildings: list[tuple[BaseGeometry, float, Float32, float]],
        orbit: Orbit,
        window: Window,
    ) -> _Return:
        """What buildings (outline in metres, height, levels of roof, factor of walls) send back in a window."""
        leaning = []
        for number, (outline, height, _, _) in enumerate(buildings):
            reach = height / np.tan(np.radians(orbit.incidence))
            east, south = (-reach * part for part in orbit.away)
            leaning.append((_local(affinity.translate(outline, east, south), window), number + 1))
        roof_id = draw(leaning, _cells(window))
        palette = np.vstack([np.zeros((1, 2)), *[levels[None] for _, _, levels, _ in buildings]]).astype(np.float32)
        rough = _seen(np.moveaxis(palette[roof_id], -1, 0))
        return _Return(rough, _wall_map([(o, h, f) for o, h, _, f in buildings], orbit, window))

    # ------------------------------------------------------------------------------------------- how it is on a day

    def power(self, day: int, look: _Look, wind_db: float = 0.0) -> tuple[Float32, Float32]:
        """Power without things in yards, speckle or noise: of rough surfaces and of walls, float32 (2, rows, cols)."""
        ground = self.world.ground(day)
        rough = self._surfaces(ground, look.orbit, wind_db) * look.texture
        rough += look.standing.rough
        walls = look.standing.walls.copy()
        for patch, change in look.changes:
            if done := np.float32(patch.done(day)):
                rough[:, *patch.window] += done * change.rough
                walls[:, *patch.window] += done * change.walls
        rubble = np.array([_power(level) for level in RUBBLE_DB], dtype=np.float32)
        rough += rubble[:, None, None] * ground.rubble * look.texture
        return np.maximum(rough, 0), np.maximum(walls, 0)

    def _surfaces(self, ground: Ground, orbit: Orbit, wind_db: float) -> Float32:
        """Power of everything but buildings and rubble."""
        out = np.zeros((2, *self.world.shape), dtype=np.float32)
        steepness = -0.1 * (orbit.incidence - STEEP_FROM)
        wetter = self.world.conditions.darkening
        water = ground.flooded * (1 - ground.planted)
        for m in Material:
            for p in range(2):
                level: float | Float32 = DRY_DB[m][p] + steepness + (wind_db if m is Material.WATER else 0.0)
                if m in WET_DB:
                    level = level + np.float32(wetter * WET_DB[m][p]) * ground.wet
                if m in GREEN_DB:
                    level = level + np.float32(GREEN_DB[m][p]) * np.asarray(ground.green, dtype=np.float32)
                value = _power(level)
                if m is Material.FIELD:
                    value = value + water * (_power(FLOODED_DB[p] + wind_db) - value)
                    value = value + ground.planted * (_power(RICE_DB[p]) - value)
                out[p] += ground.cover[m] * value
        return out

    def look(self, day: int, number: int, platform: str, rng: np.random.Generator) -> RadarScene:
        """Look at the world on a day.

        Parameters
        ----------
        day : days since 1970-01-01.
        number : which of the looks.
        platform : "A" or "C".
        """
        look, conditions = self.looks[number], self.world.conditions
        rough, walls = self.power(day, look, float(rng.normal(0, WIND_DB)))
        things = rng.poisson(SEEN_SHARE * self.world.busy(day))
        trucks = rng.binomial(things, TRUCKS)
        bright = (CAR * rng.standard_gamma(things - trucks) + TRUCK * rng.standard_gamma(trucks)).astype(np.float32)
        level_db = LEVEL_DB[platform] + float(rng.normal(0, conditions.radar_drift))
        shift = look.shift + np.clip(rng.normal(0, SHIFT_SD * conditions.noise, 2), -SHIFT_MAX, SHIFT_MAX)
        bands = []
        for p, share in enumerate((1.0, THING_VH)):
            diffuse, steady = (
                np.maximum(displaced(_resolved(part), *shift), 0)
                for part in (rough[p] + np.float32(share) * bright, walls[p])
            )
            grainy = (diffuse + np.float32(NOISE)) * speckle(rng, self.world.shape, conditions.looks)
            built = np.nonzero(steady > LEAST)  # elsewhere there is nothing to vary
            grainy[built] += steady[built] * _grain(rng, len(built[0]), conditions.looks * STEADY)
            bands.append(np.asarray(grainy * np.float32(10 ** (level_db / 10)), dtype=np.float32))
        return RadarScene(bands[0], bands[1], (float(shift[0]), float(shift[1])), level_db)


def speckle(rng: np.random.Generator, shape: tuple[int, int], looks: float) -> Float32:
    """Factors with mean 1 and a gamma distribution of shape ``looks``, correlated among neighbours: float32 ``shape``.

    A sum of gamma variables of one scale is a gamma variable: each pixel has a part of its own and the mean of four
    corner values that it shares with its neighbours. Neighbours in a row or column correlate by SHARED / 2, diagonal
    ones by SHARED / 4.
    """
    corners = rng.standard_gamma(SHARED * looks / 4, (shape[0] + 1, shape[1] + 1), dtype=np.float32)
    pairs = corners[1:] + corners[:-1]
    own = rng.standard_gamma((1 - SHARED) * looks, shape, dtype=np.float32)
    return np.asarray((own + pairs[:, 1:] + pairs[:, :-1]) / np.float32(looks), dtype=np.float32)


def _grain(rng: np.random.Generator, n: int, looks: float) -> Float32:
    """Independent factors with mean 1 and a gamma distribution of shape ``looks``."""
    return rng.standard_gamma(looks, n, dtype=np.float32) / np.float32(looks)


def _power(level_db: float | Float32) -> Float32:
    """Linear power of a level in dB."""
    return np.asarray(np.exp(np.asarray(level_db, dtype=np.float32) * np.float32(np.log(10) / 10)), dtype=np.float32)


def _levels(rng: np.random.Generator, n: int) -> Float32:
    """Power of ``n`` roofs in VV and VH, float32 (n, 2)."""
    draws = rng.normal(size=(n, 3))
    spread = 0.8 * draws[:, :1] + 0.6 * draws[:, 1:]
    return _power(np.asarray(np.array(ROOF_DB) + ROOF_SD * spread, dtype=np.float32))


def _walls(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Factors of the walls of ``n`` buildings."""
    return np.asarray(10 ** (rng.normal(0, WALL_SD, n) / 10))


def _resolved(image: Float32) -> Float32:
    """What is left of an image on 10 m pixels at the radar's resolution."""
    rest = np.sqrt(RESOLUTION_SIGMA**2 - PSF_SIGMA**2 - 1 / 12)
    return np.asarray(gaussian_filter(image, rest, mode="nearest"), dtype=np.float32)


def _seen(fine: Float32) -> Float32:
    """Cells to pixels with the blur that the cover of the ground has too, so that one more blur serves all."""
    return np.asarray(gaussian_filter(block_mean(fine, FACTOR), (0, PSF_SIGMA, PSF_SIGMA), mode="nearest"))


def _cells(window: Window) -> tuple[int, int]:
    rows, cols = window
    return (rows.stop - rows.start) * FACTOR, (cols.stop - cols.start) * FACTOR


def _local(shape: BaseGeometry, window: Window) -> BaseGeometry:
    """A shape in metres from the corner of a window."""
    return affinity.translate(shape, -window[1].start * FACTOR * CELL_M, -window[0].start * FACTOR * CELL_M)


def _wall_map(walls: list[tuple[BaseGeometry, float, float]], orbit: Orbit, window: Window) -> Float32:
    """Power of the foot of walls (outline of the building, height in metres, factor) that face the radar.

    A wall and the ground before it send back what comes in, and most of it where the wall stands square to the radar.
    """
    cells = np.zeros((2, *_cells(window)), dtype=np.float32)
    for outline, height, factor in walls:
        for polygon in getattr(outline, "geoms", [outline]):
            x, y, vv, vh = _wall_points(_local(polygon, window), height * factor, orbit)
            row, col = np.floor(y / CELL_M).astype(int), np.floor(x / CELL_M).astype(int)
            inside = (row >= 0) & (row < cells.shape[1]) & (col >= 0) & (col < cells.shape[2])
            np.add.at(cells[0], (row[inside], col[inside]), vv[inside])
            np.add.at(cells[1], (row[inside], col[inside]), vh[inside])
    return _seen(cells * np.float32(FACTOR**2))


def _wall_points(
    polygon: Polygon, height: float, orbit: Orbit
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points every metre or so, one metre before the walls of a polygon: x, y, and the power of each in VV and VH."""
    corners = np.asarray(polygon.exterior.coords)
    along = np.diff(corners, axis=0)
    length = np.hypot(*along.T)
    # The signed area tells which way around the corners come, and so which side of an edge is outside.
    doubled = float((corners[:-1, 0] * corners[1:, 1] - corners[1:, 0] * corners[:-1, 1]).sum())
    normal = np.sign(doubled) * np.column_stack([along[:, 1], -along[:, 0]]) / np.maximum(length, 1e-9)[:, None]
    towards = -np.array(orbit.away)
    facing = normal @ towards
    angle = np.degrees(np.arccos(np.clip(facing, -1, 1)))
    answer = np.where(facing > 0, np.exp(-((angle / SQUARE_DEGREES) ** 2)) + ASKEW * np.maximum(facing, 0), 0)
    depolarised = 0.06 + 0.3 * np.sin(np.radians(2 * angle)) ** 2
    n = np.maximum(1, np.ceil(length)).astype(int)
    edge = np.repeat(np.arange(len(n)), n)
    step = (np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + 0.5) / n[edge]
    points = corners[edge] + step[:, None] * along[edge] + normal[edge]
    vv = WALL * height * (length / n)[edge] * answer[edge] / 100
    return points[:, 0], points[:, 1], vv, vv * depolarised[edge]
