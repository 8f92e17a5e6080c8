"""Plans a made-up region: which places stand where, what happens to each and when, and which weather they share.

The region is projected onto the open sea of the Gulf of Thailand, more than 100 km from any coast, so that nobody can
take it for a real place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from compoundwatch.errors import SettingsError
from compoundwatch.grid import Grid
from compoundwatch.simulate.climate import climate
from compoundwatch.simulate.conditions import DESCRIBED, Conditions
from compoundwatch.simulate.fields import Float32, aside
from compoundwatch.simulate.layout import CELL_M, FACTOR, Place, compound, countryside, ordinary
from compoundwatch.simulate.scenarios import SCENARIOS, control_story, site_story
from compoundwatch.simulate.world import World

EPSG = 32648
LEFT, TOP = 203_000.0, 996_000.0
"""North-west corner of the region (UTM zone 48 north, metres): 102.3 degrees east, 9.0 degrees north, open sea."""
PIXEL_M = 10.0
ZONE_EDGE_PIXELS = 6.0
SITE_GENERATORS, CONTROL_GENERATORS = 0.30, 0.20
"""Largest share of the light that generators of a site, and of a control, keep when the region's power fails."""


@dataclass(frozen=True)
class Region:
    """A region ready to be looked at: its world, its 10 m grid, and which controls each site is compared with.

    ``sites`` and ``controls`` are places; ``controls_of`` site id -> control ids; ``regional_day`` is the day (since
    1970-01-01) on which the regional event begins (None = there is none).
    """

    world: World
    grid: Grid
    sites: tuple[Place, ...]
    controls: tuple[Place, ...]
    controls_of: dict[str, tuple[str, ...]]
    regional_day: int | None

    @property
    def conditions(self) -> Conditions:
        """How hard the world is to watch."""
        return self.world.conditions

    @property
    def blackout(self) -> tuple[int, int] | None:
        """First and last day of the power failure of the whole region, since 1970-01-01."""
        return self.world.weather.blackout


def plan(
    rng: np.random.Generator,
    scenarios: Sequence[str],
    first: int,
    last: int,
    site_m: tuple[float, float],
    controls: int,
    regional_controls: int,
    change_window: tuple[float, float],
    conditions: Conditions = DESCRIBED,
) -> Region:
    """Draw a region with one site per entry of ``scenarios``.

    Parameters
    ----------
    scenarios : names from SCENARIOS; a name may come more than once.
    first, last : days of the series since 1970-01-01.
    site_m : smallest and largest width of a site in metres.
    controls, regional_controls : how many controls the ordinary and the regional sites share.
    change_window : part of the series in which changes begin, as shares of its length.
    conditions : how hard the world is to watch.

    Raises
    ------
    SettingsError : an unknown scenario, no scenario, or sizes out of range.
    """
    _check(scenarios, site_m, controls, regional_controls, change_window)
    window = tuple(first + round(share * (last - first)) for share in change_window)
    ordinary_sites = [s for s in scenarios if s != "regional"]
    n_regional = len(scenarios) - len(ordinary_sites)
    regional_day = int(rng.integers(window[0], window[1] + 1)) if n_regional else None
    blackout_day = int(rng.integers(window[0], window[1] + 1)) if "blackout" in scenarios else None
    n_left = len(ordinary_sites) + (controls if ordinary_sites else 0)
    n_right = n_regional + (regional_controls if n_regional else 0)
    n_rows = max(2, round(math.sqrt((n_left + n_right) / 1.5)))
    left_cols, right_cols = math.ceil(n_left / n_rows), math.ceil(n_right / n_rows)
    cell = (_tens(1.8 * site_m[1] + 70), _tens(1.6 * site_m[1] + 70))  # height, width in metres
    shape = (n_rows * cell[0], (left_cols + right_cols) * cell[1])

    left = _cells(rng, n_rows, range(left_cols), n_left)
    right = _cells(rng, n_rows, range(left_cols, left_cols + right_cols), n_right)
    sites, others = [], []
    for k, name in enumerate(scenarios):
        in_zone = name == "regional"
        story = site_story(name, int(rng.integers(window[0], window[1] + 1)), rng, conditions.effect)
        spot = (right if in_zone else left).pop()
        sites.append(compound(rng, f"compound-{k + 1}", _centre(rng, spot, cell), _size(rng, site_m), story, in_zone))
    for k in range(len(left) + len(right)):
        in_zone = not left
        spot = (right if in_zone else left).pop()
        story = control_story(first + (last - first) // 5, last - (last - first) // 5, rng, conditions.control_changes)
        others.append(
            ordinary(rng, f"control-{k + 1:02d}", _centre(rng, spot, cell), _size(rng, site_m), story, in_zone)
        )
    for place in (*sites, *others):
        place.rate *= conditions.contrast
    fine = (int(shape[0] / CELL_M), int(shape[1] / CELL_M))
    lanes = ([k * cell[0] for k in range(1, n_rows)], [k * cell[1] for k in range(1, left_cols + right_cols)])
    land = countryside(rng, fine, lanes)
    _give_generators(aside(rng, "generators"), sites, others)
    weather = climate(rng, first, last, regional_day, blackout_day, conditions)
    zone = _zone((fine[0] // FACTOR, fine[1] // FACTOR), left_cols * cell[1] / PIXEL_M, bool(n_regional))
    world = World(rng, land, [*sites, *others], weather, zone, float(rng.uniform(0.10, 0.30)), conditions)
    grid = Grid(EPSG, LEFT, TOP, PIXEL_M, *world.shape)
    controls_of = {s.place_id: tuple(c.place_id for c in others if c.in_zone == s.in_zone) for s in sites}
    return Region(world, grid, tuple(sites), tuple(others), controls_of, regional_day)


def _check(
    scenarios: Sequence[str],
    site_m: tuple[float, float],
    controls: int,
    regional_controls: int,
    change_window: tuple[float, float],
) -> None:
    if not scenarios:
        raise SettingsError(f"expected at least one scenario, found none; choose from {', '.join(SCENARIOS)}")
    for name in scenarios:
        if name not in SCENARIOS:
            raise SettingsError(f"there is no scenario '{name}'; choose from {', '.join(SCENARIOS)}")
    if not 100 <= site_m[0] <= site_m[1] <= 1000:
        raise SettingsError(f"sites are 100 to 1000 m wide, smallest first, found {site_m}; correct it")
    if not (1 <= controls <= 60 and 1 <= regional_controls <= 60):
        raise SettingsError(f"expected 1 to 60 controls, found {controls} and {regional_controls}; correct it")
    if not 0 < change_window[0] <= change_window[1] < 1:
        raise SettingsError(
            f"changes begin between two shares (0 to 1) of the series, found {change_window}; correct it"
        )


def _tens(metres: float) -> float:
    """Rounded up to whole pairs of pixels, so that 20 m pixels fit too."""
    return math.ceil(metres / 20) * 20.0


def _cells(rng: np.random.Generator, n_rows: int, cols: range, wanted: int) -> list[tuple[int, int]]:
    """Cells (row, col) for places, in random order."""
    cells = [(r, c) for r in range(n_rows) for c in cols]
    return [cells[int(k)] for k in rng.permutation(len(cells))[:wanted]]


def _centre(rng: np.random.Generator, spot: tuple[int, int], cell: tuple[float, float]) -> tuple[float, float]:
    """Centre of a place in its cell: metres to the east and south."""
    jitter = rng.uniform(-0.06, 0.06, 2) * min(cell)
    return float((spot[1] + 0.5) * cell[1] + jitter[0]), float((spot[0] + 0.5) * cell[0] + jitter[1])


def _size(rng: np.random.Generator, site_m: tuple[float, float]) -> tuple[float, float]:
    width = float(rng.uniform(*site_m))
    return width, width * float(rng.uniform(0.72, 0.98))


def _give_generators(rng: np.random.Generator, sites: Sequence[Place], controls: Sequence[Place]) -> None:
    for places, most in ((sites, SITE_GENERATORS), (controls, CONTROL_GENERATORS)):
        for place in places:
            place.generators = float(rng.uniform(0, most))


def _zone(shape: tuple[int, int], begins: float, regional: bool) -> Float32:
    """Weight of the regional event at each pixel, 0 to 1: everything east of column ``begins``."""
    zone = np.zeros(shape, dtype=np.float32)
    if regional:
        zone[:, round(begins) :] = 1.0
        if begins > 0:
            zone = gaussian_filter(zone, (0, ZONE_EDGE_PIXELS), mode="nearest")
    return np.asarray(zone, dtype=np.float32)
