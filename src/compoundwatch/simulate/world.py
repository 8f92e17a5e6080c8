"""What is on the ground on a given day: a made-up place with known truth, before any satellite looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom
from shapely.geometry.base import BaseGeometry

from compoundwatch.simulate.climate import REGIONAL_DUST, Climate, rice
from compoundwatch.simulate.conditions import DESCRIBED, Conditions
from compoundwatch.simulate.fields import PSF_SIGMA, Float32, cloudy_field, seen, wander
from compoundwatch.simulate.layout import FACTOR, Countryside, Place, Roof, draw
from compoundwatch.simulate.materials import (
    DARKENING,
    DRY,
    FLOODED,
    GREEN,
    NEW_ROOF,
    OBJECT_COVER,
    OBJECT_SHARE,
    OBJECTS,
    RUBBLE,
    Material,
)
from compoundwatch.simulate.scenarios import LOST_ROOF, PEOPLE_LIGHT

N_BANDS = 5
TEXTURE = {
    Material.SOIL: 0.09, Material.CONCRETE: 0.07, Material.ASPHALT: 0.05, Material.GRASS: 0.09, Material.TREES: 0.13,
    Material.FIELD: 0.06, Material.FALLOW: 0.09, Material.WATER: 0.03,
}  # fmt: skip
"""Lasting spatial variation of each material, relative standard deviation."""
FIELD_SD = 0.13
"""Variation of brightness from field to field, relative."""
TRAFFIC = 0.12
"""Things that stand in a pixel of public road."""
BARE = (Material.SOIL, Material.CONCRETE)
"""Ground that weeds take back."""
SOILS = (Material.SOIL, Material.FIELD, Material.FALLOW)
"""Ground whose brightness the soil decides."""

BoolArray = npt.NDArray[np.bool_]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Patch:
    """A lasting change of the ground inside a window: what it takes away and what it puts there, once complete.

    ``begin`` and ``end`` are days since 1970-01-01; ``takes`` float32 (materials, rows, cols) shares of the pixels;
    ``paints`` float32 (5, rows, cols) reflectance, new colour minus that of the roof that was there; ``share`` float32
    (rows, cols) is the part of each pixel that changes; ``code`` is its number in the truth raster; ``outline`` is that
    of the building in metres, ``place_id`` where it stands, ``roof`` its number among the roofs of the world (None = it
    was not there before).
    """

    window: Window
    begin: int
    end: int
    takes: Float32
    paints: Float32
    share: Float32
    code: int
    outline: BaseGeometry
    place_id: str
    roof: int | None

    def done(self, day: int) -> float:
        """How much of the change has happened, 0 to 1."""
        return float(np.clip((day - self.begin) / max(1, self.end - self.begin), 0, 1)) if day >= self.begin else 0.0


@dataclass(frozen=True)
class Yard:
    """The open ground of one place: where it is, how busy, and how its activity wanders from day to day.

    ``where`` float32 (rows, cols) in the window is the rate of things per pixel on a usual day; ``weeds`` the share of
    a pixel that weeds could cover; ``mood`` float64 (n_days,) the factor of each day.
    """

    place: Place
    window: Window
    where: Float32
    weeds: Float32
    mood: npt.NDArray[np.float64]


NEW_ROOF_CODE, RUBBLE_CODE, STILL_CODE, BRIEFLY_STILL_CODE = 1, 2, 3, 4
"""Codes of the truth raster: new roof; roof that became rubble; yard that fell still for good, or for a while."""


@dataclass(frozen=True)
class Ground:
    """What covers the pixels on a day, and in which state it is; all float32, pixels (rows, cols), shares 0 to 1.

    ``cover`` (materials, rows, cols) is the share of each material; the rest of a pixel is roof or rubble. ``rubble``
    is the share that fell. ``wet`` and ``green`` are the state of bare ground and of plants, ``planted`` and
    ``flooded`` that of rice fields, were they there, ``dry`` what a regional drought takes of their green, and ``dust``
    the factor by which it brightens bare ground and roofs.
    """

    cover: Float32
    rubble: Float32
    wet: Float32
    green: Float32
    planted: Float32
    flooded: Float32
    dry: Float32
    dust: Float32


class World:
    """The ground of a region, day by day. All maps have the shape (rows, cols) of its 10 m pixels, north up."""

    def __init__(
        self,
        rng: np.random.Generator,
        land: Countryside,
        places: Sequence[Place],
        weather: Climate,
        zone: Float32,
        zone_activity_left: float,
        conditions: Conditions = DESCRIBED,
    ) -> None:
        self.places = tuple(places)
        self.weather = weather
        self.zone = zone
        self.zone_activity_left = zone_activity_left
        self.conditions = conditions
        fine = land.material.shape
        self.shape: tuple[int, int] = (fine[0] // FACTOR, fine[1] // FACTOR)
        cells = land.material.copy()
        for place in self.places:
            ground = draw([(shape, int(code) + 1) for shape, code in place.ground], fine)
            cells[ground > 0] = (ground[ground > 0] - 1).astype(np.uint8)
        roofs = [*land.houses, *(r for p in self.places for r in p.roofs)]
        roof_id = draw([(r.outline, k + 1) for k, r in enumerate(roofs)], fine)
        # A lone house must not stand inside a place.
        inside = draw([(p.outline, 1) for p in self.places], fine) > 0
        roof_id[inside & (roof_id <= len(land.houses))] = 0
        colour = _roof_colours(rng, roofs, roof_id)
        self.roofs = tuple(roofs)
        self.standing = frozenset(int(k) - 1 for k in np.unique(roof_id) if k)
        """Numbers of the roofs that can be seen: lone houses inside a place are not built."""
        self.cover = np.stack([seen((cells == m) & (roof_id == 0), FACTOR) for m in Material])
        self.paint = seen(colour, FACTOR)
        self.texture = np.stack([self._texture(rng, TEXTURE[m]) for m in Material])
        phase = rng.normal(0, 14, land.n_parcels) + 120 * (rng.random(land.n_parcels) < 0.08)
        soil = np.float32(conditions.soil)
        self.dry_colour = {m: DRY[m] * (soil if m in SOILS else np.float32(1)) for m in Material}
        self.phase = seen(phase[land.parcel], FACTOR)
        self.vigour = seen(rng.uniform(0.55, 1.0, land.n_parcels)[land.parcel], FACTOR)
        soils = seen(rng.lognormal(0, FIELD_SD, land.n_parcels)[land.parcel], FACTOR)
        for m in (Material.FIELD, Material.FALLOW):
            self.texture[m] *= soils
        self.lost_roof_share: dict[str, float] = {}
        self.patches = tuple(
            patch for p in self.places for patch in self._patches(rng, p, roofs, roof_id, cells, colour)
        )
        n_days = weather.regional.size
        self.yards = tuple(self._yard(rng, p, cells, roof_id, n_days) for p in self.places)

    # ---------------------------------------------------------------------------------------------- how it is built

    def _texture(self, rng: np.random.Generator, sd: float) -> Float32:
        small, large = cloudy_field(rng, self.shape, 1.8, largest=8), cloudy_field(rng, self.shape, 3.0)
        return np.asarray(np.maximum(0.3, 1 + sd * (0.75 * small + 0.65 * large)), dtype=np.float32)

    def _window(self, fine_rows: slice, fine_cols: slice, margin: int = 3) -> Window:
        """Pixels of a block of cells and a rim, within the region."""
        rows = slice(
            max(0, fine_rows.start // FACTOR - margin), min(self.shape[0], fine_rows.stop // FACTOR + margin + 1)
        )
        cols = slice(
            max(0, fine_cols.start // FACTOR - margin), min(self.shape[1], fine_cols.stop // FACTOR + margin + 1)
        )
        return rows, cols

    def _patches(
        self,
        rng: np.random.Generator,
        place: Place,
        roofs: Sequence[Roof],
        roof_id: npt.NDArray[np.uint16],
        cells: npt.NDArray[np.uint8],
        colour: Float32,
    ) -> list[Patch]:
        """The lasting changes of one place, building by building."""
        story = place.story
        if story.day is None or story.until is None:
            return []
        out: list[Patch] = []
        span = story.until - story.day
        new = draw([(shape, k + 1) for k, shape in enumerate(place.new_roofs)], cells.shape)
        new[roof_id > 0] = 0
        n = len(place.new_roofs)
        for k in range(n):
            begin = story.day + round(0.75 * span * k / max(1, n))
            end = story.until if k == n - 1 else min(story.until, begin + max(10, round(0.3 * span)))
            new_colour = NEW_ROOF * rng.uniform(0.9, 1.1)
            out += self._patch(
                new == k + 1, cells, colour, new_colour, begin, end, (place.new_roofs[k], place.place_id, None)
            )
        own = [k + 1 for k, r in enumerate(roofs) if r.place == place.place_id]
        sizes = {k: int((roof_id == k).sum()) for k in own} if story.lost_roof else {}
        lost = _choose(rng, sizes, story.lost_roof, self.conditions.effect)
        if lost:
            self.lost_roof_share[place.place_id] = sum(sizes[k] for k in lost) / sum(sizes.values())
        for k, roof in enumerate(lost):
            begin = story.day + round(0.6 * span * k / len(lost))
            end = story.until if k == len(lost) - 1 else min(story.until, begin + max(3, round(0.4 * span)))
            building = (roofs[roof - 1].outline, place.place_id, roof - 1)
            out += self._patch(roof_id == roof, cells, colour, RUBBLE, begin, end, building)
        return out

    def _patch(
        self,
        where: BoolArray,
        cells: npt.NDArray[np.uint8],
        colour: Float32,
        new_colour: npt.NDArray[np.float32],
        begin: int,
        end: int,
        building: tuple[BaseGeometry, str, int | None],
    ) -> list[Patch]:
        was_roof = building[2] is not None
        if not where.any():
            return []
        rows, cols = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        window = self._window(slice(int(rows[0]), int(rows[-1])), slice(int(cols[0]), int(cols[-1])))
        fine = tuple(slice(s.start * FACTOR, s.stop * FACTOR) for s in window)
        part, ground, old = where[fine], cells[fine], colour[:, fine[0], fine[1]]
        share = seen(part, FACTOR)
        takes = np.stack(
            [seen(part & (ground == m), FACTOR) if not was_roof else np.zeros_like(share) for m in Material]
        )
        gone = seen(old * part, FACTOR) if was_roof else np.float32(0)
        rough = self.texture[Material.SOIL if was_roof else Material.CONCRETE][window]
        paints = new_colour[:, None, None] * share * rough - gone
        code = RUBBLE_CODE if was_roof else NEW_ROOF_CODE
        return [Patch(window, begin, end, takes, paints.astype(np.float32), share, code, *building)]

    def _yard(
        self,
        rng: np.random.Generator,
        place: Place,
        cells: npt.NDArray[np.uint8],
        roof_id: npt.NDArray[np.uint16],
        n_days: int,
    ) -> Yard:
        where = draw([(place.outline, 1)], cells.shape) > 0
        rows, cols = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
        window = self._window(slice(int(rows[0]), int(rows[-1])), slice(int(cols[0]), int(cols[-1])))
        fine = tuple(slice(s.start * FACTOR, s.stop * FACTOR) for s in window)
        ground = cells[fine]
        open_ground = seen(where[fine] & (roof_id[fine] == 0) & np.isin(ground, BARE), FACTOR)
        busy = np.exp(0.7 * cloudy_field(rng, open_ground.shape, 2.0, largest=12))
        busy /= np.average(busy, weights=open_ground + 1e-6)
        clumps = np.clip(0.5 + 0.6 * cloudy_field(rng, open_ground.shape, 2.0, largest=12), 0, 1)
        hard = 1 - 0.6 * self.cover[Material.CONCRETE][window]
        mood = np.exp(wander(rng, (n_days,), 0.10 * self.conditions.mismatch, 30))
        mood *= rng.normal(1, 0.06, n_days).clip(0.8, 1.2)
        return Yard(
            place,
            window,
            np.asarray(place.rate * open_ground * busy, dtype=np.float32),
            np.asarray(open_ground * clumps * hard, dtype=np.float32),
            mood,
        )

    # ------------------------------------------------------------------------------------------- how it is on a day

    def ground(self, day: int) -> Ground:
        """What covers the pixels on a day, and in which state it is, without anything that moves.

        Parameters
        ----------
        day : days since 1970-01-01, within the climate.
        """
        w = self.weather
        k = w.index(day)
        zone = self.zone
        wet, green = ((1 - zone) * series[0, k] + zone * series[1, k] for series in (w.moisture, w.greenness))
        local = zoom(w.showers[k], (self.shape[0] / 4, self.shape[1] / 5), order=1, mode="nearest", grid_mode=True)
        wet = np.clip(wet + local[: self.shape[0], : self.shape[1]] * (0.3 + wet), 0, 1).astype(np.float32)
        cover, rubble = self.cover.copy(), np.zeros(self.shape, dtype=np.float32)
        for patch in self.patches:
            if done := patch.done(day):
                cover[:, *patch.window] -= done * patch.takes
                if patch.code == RUBBLE_CODE:
                    rubble[patch.window] += np.float32(done) * patch.share
        for yard in self.yards:
            if grown := yard.place.story.regrown(day):
                taken = np.minimum(cover[:2, *yard.window], grown * yard.weeds)
                cover[:2, *yard.window] -= taken
                cover[Material.GRASS, *yard.window] += taken.sum(axis=0)
        np.maximum(cover, 0, out=cover)
        planted, flooded = rice(day, w, self.phase, self.vigour)
        dry = 0.25 * zone * w.regional[k]
        dust = (1 + REGIONAL_DUST * zone * w.regional[k]).astype(np.float32)
        return Ground(cover, rubble, wet, green, planted, flooded, dry, dust)

    def reflectance(self, day: int, ground: Ground | None = None) -> Float32:
        """Surface reflectance without anything that moves: float32 (5, rows, cols) in the order of BANDS.

        Parameters
        ----------
        day : days since 1970-01-01, within the climate.
        ground : what ``ground(day)`` gives, if it is at hand.
        """
        ground = ground or self.ground(day)
        out = self.paint * ground.dust
        for patch in self.patches:
            if done := patch.done(day):
                out[:, *patch.window] += done * patch.paints
        leaf = {
            Material.GRASS: ground.green,
            Material.FALLOW: 0.8 * ground.green,
            Material.TREES: 0.62 + 0.38 * ground.green,
            Material.FIELD: np.maximum(ground.planted, 0.45 * ground.green) * (1 - ground.dry),
        }
        for m in Material:
            share = ground.cover[m] * self.texture[m] * (ground.dust if m in BARE else 1)
            for b in range(N_BANDS):
                bare = self.dry_colour[m][b]
                if m in DARKENING:
                    bare = bare * (1 - self.conditions.darkening * DARKENING[m][b] * ground.wet)
                value = bare + leaf[m] * (GREEN[m][b] - bare) if m in leaf else bare
                if m is Material.FIELD:
                    water = ground.flooded * (1 - ground.planted)
                    value = value + water * (FLOODED[b] - value)
                out[b] += share * value
        return np.asarray(out, dtype=np.float32)

    def activity(self, yard: Yard, day: int) -> float:
        """Activity of a place on a day, 1 = usual: its own story, the regional event, and daily ups and downs."""
        k = self.weather.index(day)
        calm = 1 - (1 - self.zone_activity_left) * self.weather.regional[k] * yard.place.in_zone
        return float(yard.place.story.activity(day) * calm * yard.mood[k])

    def light(self, place: Place, day: int) -> float:
        """Light that a place gives off on a day, 1 = usual: its story, the regional event, and the region's power."""
        k = self.weather.index(day)
        away = (1 - self.zone_activity_left) * self.weather.regional[k] * place.in_zone
        power = place.generators + (1 - place.generators) * self.weather.grid[k]
        return float(place.story.lights(day) * (1 - PEOPLE_LIGHT * away) * power)

    def busy(self, day: int) -> Float32:
        """Expected number of things that stand in each pixel on a day, float32 (rows, cols)."""
        rate = self.conditions.contrast * TRAFFIC * self.cover[Material.ASPHALT]
        for yard in self.yards:
            rate[yard.window] += self.activity(yard, day) * yard.where
        for patch in self.patches:  # nobody parks on a roof
            rate[patch.window] *= 1 - patch.done(day) * patch.share * (patch.code == NEW_ROOF_CODE)
        return np.asarray(np.maximum(rate, 0), dtype=np.float32)

    def with_activity(self, ground: Float32, day: int, rng: np.random.Generator) -> Float32:
        """Put vehicles, goods and laundry of one day onto the ground, float32 (5, rows, cols)."""
        rate = self.busy(day)
        added = np.zeros_like(ground)
        rows, cols = np.nonzero(rate)
        below, some = ground[:, rows, cols], np.zeros((N_BANDS, rows.size), dtype=np.float32)
        for colour, cover, share in zip(OBJECTS, OBJECT_COVER, OBJECT_SHARE, strict=True):
            covered = np.minimum(rng.poisson(share * rate[rows, cols]) * cover, 0.8).astype(np.float32)
            some += covered * (colour[:, None] - below)
        added[:, rows, cols] = some
        return np.asarray(ground + gaussian_filter(added, (0, PSF_SIGMA, PSF_SIGMA)), dtype=np.float32)

    def truth(self) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        """What changed at each pixel for good (code, 0 = nothing) and since which day (since 1970-01-01, 0 = never)."""
        code, since = np.zeros(self.shape, dtype=np.uint16), np.zeros(self.shape, dtype=np.uint16)
        for yard in self.yards:
            story = yard.place.story
            if story.day is None or story.activity_left > 0.5:
                continue
            where = np.zeros(self.shape, dtype=bool)
            where[yard.window] = yard.where > 0.5 * yard.place.rate
            code[where] = STILL_CODE if story.back is None else BRIEFLY_STILL_CODE
            since[where] = story.day
        for patch in self.patches:
            where = patch.share >= 0.5
            code[patch.window][where] = patch.code
            since[patch.window][where] = patch.begin
        return code, since


def _roof_colours(rng: np.random.Generator, roofs: Sequence[Roof], roof_id: npt.NDArray[np.uint16]) -> Float32:
    """Colours of all roofs on the cells, with a lasting pattern of light and dark sheets: (5, rows, cols), else 0."""
    palette = np.vstack([np.zeros((1, N_BANDS)), *[r.colour[None] for r in roofs]]).astype(np.float32)
    sheets = 1 + 0.08 * cloudy_field(rng, roof_id.shape, 1.0, largest=12)
    return np.asarray(np.moveaxis(palette[roof_id], -1, 0) * sheets, dtype=np.float32)


def _choose(rng: np.random.Generator, sizes: dict[int, int], share: float, effect: float) -> list[int]:
    """Buildings in random order whose area comes near to a share of all, and within LOST_ROOF where that can be."""
    least, most = (effect * bound for bound in LOST_ROOF)
    if not sizes:
        return []
    for _ in range(50):
        order = [int(k) for k in rng.permutation(sorted(sizes))]
        reached = np.cumsum([sizes[k] for k in order]) / sum(sizes.values())
        n = int(np.argmin(np.abs(reached - share)))
        if least <= reached[n] <= most:
            break
    return order[: n + 1]
