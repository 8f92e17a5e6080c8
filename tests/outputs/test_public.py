"""Cells of the public grid: as large as stated, nested, and silent about where in them a place lies."""

from __future__ import annotations

import math

import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from compoundwatch.outputs.public import cell_degrees, public_cell

GEOD = pyproj.Geod(ellps="WGS84")
precisions = st.floats(500, 1_000_000)
longitudes, latitudes = st.floats(-179.9, 179.9), st.floats(-84, 84)
inside = st.floats(0.01, 0.99)


def test_cells_of_ten_kilometres_are_tenths_of_a_degree():
    cell = public_cell(shapely.Point(103.456, 10.632), 10_000)
    assert cell.bounds == (103.4, 10.6, 103.5, 10.7)
    assert cell_degrees(10_000) == 0.1
    assert cell_degrees(10_001) == 0.2
    assert cell_degrees(500) == 0.1 / 16


@given(longitudes, latitudes, precisions)
def test_a_cell_holds_its_place_and_is_as_large_as_stated(x, y, precision):
    cell = public_cell(shapely.Point(x, y), precision)
    west, south, east, north = cell.bounds
    assert cell.buffer(1e-8).covers(shapely.Point(x, y))
    assert GEOD.inv(west, south, west, north)[2] >= precision * 0.999_999
    poleward = max(abs(south), abs(north))
    around = GEOD.a * math.cos(math.radians(poleward)) * math.radians(east - west)
    cut = east == 180 or north == 90
    assert cut or around >= precision * 0.999_999


@given(longitudes, latitudes, precisions, inside, inside)
def test_the_cell_does_not_depend_on_where_in_it_the_place_lies(x, y, precision, right, up):
    cell = public_cell(shapely.Point(x, y), precision)
    west, south, east, north = cell.bounds
    other = shapely.Point(west + right * (east - west), south + up * (north - south))
    assert public_cell(other, precision).equals(cell)
    outline = other.buffer(1e-5)
    assert public_cell(outline, precision).equals(cell)


@given(longitudes, latitudes, precisions, precisions)
def test_two_publications_tell_no_more_than_the_finer_one(x, y, one, two):
    small, large = (public_cell(shapely.Point(x, y), p) for p in sorted((one, two)))
    assert large.buffer(1e-7).covers(small)


@pytest.mark.parametrize("place", [shapely.box(103.39, 10.65, 103.41, 10.66), shapely.box(103.3, 10.5, 103.6, 10.8)])
def test_a_place_across_borders_has_one_cell(place):
    assert public_cell(place, 10_000).bounds[2] - public_cell(place, 10_000).bounds[0] == pytest.approx(0.1)
