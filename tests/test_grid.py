"""Grids: anchored, cut, and laid over polygons."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from shapely.geometry import Point, Polygon, box

from compoundwatch.errors import AreaError
from compoundwatch.grid import Grid, geodesic_area_m2, pixel_mask, project, utm_epsg, widen

GRID = Grid(32648, 300_000.0, 1_200_000.0, 10.0, 24, 32)


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"),
    [
        (103.5, 10.6, 32648),
        (101.9, 10.6, 32647),
        (105.0, -5.4, 32748),
        (-0.1, 51.5, 32630),
        (179.99, 1.0, 32660),
        (-180.0, 1.0, 32601),
    ],
)
def test_utm_zone(lon, lat, epsg):
    assert utm_epsg(Point(lon, lat)) == epsg


@pytest.mark.parametrize("geometry", [Point(10, 85), Point(10, -81), Polygon()])
def test_no_utm_there(geometry):
    with pytest.raises(AreaError):
        utm_epsg(geometry)


def test_around_covers_and_is_anchored():
    shape = project(box(300_003, 1_199_905, 300_041, 1_199_987), 32648, 4326)
    grid = Grid.around(shape, 10.0)
    assert (grid.epsg, grid.left, grid.top, grid.rows, grid.cols) == (32648, 300_000.0, 1_199_990.0, 9, 5)
    wide = Grid.around(shape, 10.0, margin_m=25.0)
    assert (wide.left, wide.top, wide.bounds[1], wide.bounds[2]) == (299_970.0, 1_200_020.0, 1_199_880.0, 300_070.0)


def test_tiles_cover_every_pixel_once():
    seen = np.zeros(GRID.shape, dtype=int)
    for tile in GRID.tiles(10):
        seen[tile.slices] += 1
        part = GRID.part(tile)
        assert part.transform.c == GRID.left + 10 * tile.col
        assert part.transform.f == GRID.top - 10 * tile.row
        assert part.shape == seen[tile.slices].shape
    assert (seen == 1).all()


def test_mask_takes_pixel_centres():
    triangle = Polygon([(300_000, 1_200_000), (300_100, 1_200_000), (300_000, 1_199_900)])
    mask = pixel_mask(project(triangle, 32648, 4326), GRID)
    rows, cols = np.mgrid[0:24, 0:32]
    inside = (cols + 0.5) + (rows + 0.5) < 10 - 1e-6
    on_edge = np.isclose((cols + 0.5) + (rows + 0.5), 10)
    np.testing.assert_array_equal(mask[~on_edge], inside[~on_edge])


def test_project_there_and_back():
    shape = box(103.5, 10.6, 103.6, 10.7)
    back = project(project(shape, 4326, 32648), 32648, 4326)
    np.testing.assert_allclose(back.bounds, shape.bounds, atol=1e-9)


def test_widen_is_true_to_distance():
    circle = widen(Point(103.5, 10.6), 5000)
    geod = pyproj.Geod(ellps="WGS84")
    for lon, lat in circle.exterior.coords:
        assert geod.inv(103.5, 10.6, lon, lat)[2] == pytest.approx(5000, rel=1e-3)


def test_area_on_the_ellipsoid():
    """One arc-minute square at 10 degrees north: meridian and parallel arcs by Snyder (1987), about 3.372 km2."""
    a, e2, phi = 6378137.0, 0.00669437999, np.deg2rad(10 + 1 / 120)
    m = a * (1 - e2) / (1 - e2 * np.sin(phi) ** 2) ** 1.5
    n = a / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    expected = m * n * np.cos(phi) * np.deg2rad(1 / 60) ** 2
    assert geodesic_area_m2(box(103, 10, 103 + 1 / 60, 10 + 1 / 60)) == pytest.approx(expected, rel=1e-6)


def test_key_differs_when_anything_differs():
    others = [
        Grid(32647, 300_000.0, 1_200_000.0, 10.0, 24, 32),
        Grid(32648, 300_010.0, 1_200_000.0, 10.0, 24, 32),
        Grid(32648, 300_000.0, 1_200_000.0, 10.0, 32, 24),
    ]
    assert len({g.key for g in [GRID, *others]}) == 4


def test_a_grid_about_the_same_middle_by_hand():
    """Two rows more, of which one above; three columns fewer, of which one on the left."""
    grid = Grid(32648, 500.0, 900.0, 10.0, 6, 9)
    assert grid.centred(8, 6) == Grid(32648, 510.0, 910.0, 10.0, 8, 6)
    assert grid.centred(6, 9) == grid
