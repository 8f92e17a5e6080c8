"""Black Marble: which nights count, what is missing, the logarithm, and how much of a cell is the site."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from shapely.affinity import translate
from shapely.geometry import MultiPolygon, Point, Polygon, box

from compoundwatch.catalogs import open_catalog
from compoundwatch.catalogs.items import remote_rule, to_scene
from compoundwatch.errors import AreaError, CatalogError
from compoundwatch.grid import Grid, pixel_mask
from compoundwatch.model import SearchSettings
from compoundwatch.sensors import black_marble
from compoundwatch.sensors.black_marble import SENSOR, site_share
from compoundwatch.stack import by_day, load
from tests import granules

CLEAR = {"clouds": 0b11_0010, "retrieval": 0, "snow": 0}
SETTINGS = SearchSettings()


def valid(**codes):
    return bool(black_marble.valid({k: np.array([v]) for k, v in (CLEAR | codes).items()})[0])


def lights(radiance):
    return SENSOR.features[0].formula({"radiance": np.array([radiance], dtype=np.float32)})[0]


def item(**properties):
    stated = {
        "datetime": "2025-05-03T18:30:00Z",
        "platform": "snpp",
        "grid:code": "h28v07",
        "processing:version": "002",
        "processing:datetime": "2025-05-10T12:34:56Z",
    } | properties
    place = {"href": "https://example.org/g.h5", "proj:transform": [1 / 240, 0, 100, 0, -1 / 240, 20]}
    return {
        "id": "VNP46A2.A2025123.h28v07.002.2025130123456",
        "collection": "VNP46A2",
        "properties": {k: v for k, v in stated.items() if v is not None},
        "assets": {band.assets[0]: place for band in SENSOR.bands},
    }


# ------------------------------------------------------------------------------------------------------- nights


def test_a_clear_night_counts():
    assert valid()


@pytest.mark.parametrize("land", range(8))
def test_land_water_and_coast_count(land):
    assert valid(clouds=0b11_0000 | land << 1)


@pytest.mark.parametrize(("quality", "kept"), [(0, False), (1, True), (2, True), (3, True)])
def test_the_cloud_mask_must_have_been_made(quality, kept):
    assert valid(clouds=quality << 4 | 0b10) == kept


@pytest.mark.parametrize(
    ("bits", "kept"),
    [
        (0b01 << 6, False),  # probably clear
        (0b10 << 6, False),
        (0b11 << 6, False),
        (1, False),  # day
        (1 << 8, False),  # shadow
        (1 << 9, False),  # cirrus
        (1 << 10, False),  # snow
        (1 << 11, True),  # vegetation index used: says nothing of the night
        (1 << 12, False),  # aurora
        (1 << 13, False),  # eclipse of the moon
    ],
)
def test_each_bit_of_the_cloud_mask(bits, kept):
    assert valid(clouds=0b11_0010 | bits) == kept


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 255])
def test_only_high_quality_of_the_main_algorithm(code):
    assert not valid(retrieval=code)


def test_no_snow():
    assert not valid(snow=1)
    assert not valid(snow=255)


# ------------------------------------------------------------------------------------------------------ feature


def test_the_logarithm_by_hand():
    assert lights(19.5) == pytest.approx(2.995732, abs=1e-5)  # ln 20
    assert lights(0.0) == pytest.approx(-0.693147, abs=1e-5)  # ln 0.5
    assert lights(9.5) - lights(19.5) == pytest.approx(-0.693147, abs=1e-5), "half the light"


def test_noise_around_zero_is_dark_and_other_marks_of_missing_are_missing():
    assert lights(-0.4) == lights(0.0)
    for mark in (-999.9, -999.8, -999.3, -9999.0, -1.5, np.nan):
        assert np.isnan(lights(mark))


def test_everything_the_product_can_say_is_plausible():
    feature = SENSOR.features[0]
    for radiance in (-1.0, 0.0, 0.5, 300.0, 2900.0):
        assert feature.low <= lights(radiance) <= feature.high
    assert not feature.restless


# -------------------------------------------------------------------------------------------------------- items


def test_an_item():
    scene = to_scene(item(), SENSOR, "test", remote_rule(None))
    assert (scene.look, scene.version) == ("snpp", "snpp collection 002")
    assert scene.acquisition == "snpp h28v07 2025-05-03"
    assert scene.assets["clouds"].corner == (100.0, 20.0, pytest.approx(1 / 240))
    assert scene.assets["clouds"].layer.endswith("/QF_Cloud_Mask")
    assert {n: a.calibration.nodata for n, a in scene.assets.items()} == {
        "radiance": -999.9,
        "retrieval": 255,
        "clouds": 65535,
        "snow": 255,
    }


def test_processings_sort_by_age():
    order = [
        item(**{"processing:datetime": d, "processing:version": v})
        for v, d in (("002", "2025-05-10T12:34:56Z"), ("002", "2025-06-01T00:00:00Z"), ("003", "2025-05-11T00:00:00Z"))
    ]
    texts = [SENSOR.processing(i) for i in order]
    assert texts == sorted(texts)
    assert len({SENSOR.acquisition(i) for i in order}) == 1


def test_nights_tiles_and_satellites_are_different_acquisitions():
    changes = [
        {},
        {"datetime": "2025-05-04T18:30:00Z"},
        {"grid:code": "h29v07"},
        {"platform": "noaa20"},
    ]
    assert len({SENSOR.acquisition(item(**c)) for c in changes}) == 4


def test_an_item_without_a_satellite_is_refused():
    with pytest.raises(CatalogError, match="which satellite"):
        to_scene(item(platform=None), SENSOR, "test", remote_rule(None))


def test_collections():
    assert SENSOR.unsuited(item()) == ""
    assert SENSOR.unsuited(item(**{"processing:version": None})) == ""
    assert "collection 001" in SENSOR.unsuited(item(**{"processing:version": "001"}))


# ------------------------------------------------------------------------------------------------ share of cells

CELL = 1 / 240


def cells(left, bottom, right, top, corner=(104.9, 11.5)):
    """A box in cells from a corner of cells."""
    west, south = round(corner[0] * 240) / 240, round(corner[1] * 240) / 240
    return box(west + left * CELL, south + bottom * CELL, west + right * CELL, south + top * CELL)


@pytest.mark.parametrize(
    ("geometry", "share"),
    [
        (cells(0, 0, 1, 1), 1.0),
        (cells(0, 0, 5, 3), 1.0),
        (cells(0, 0, 0.5, 0.5), 0.25),
        (cells(0.4, 0.2, 0.9, 0.7), 0.25),
        (cells(-0.25, 0, 0.25, 1), 0.25),  # two cells, a quarter of each
        (cells(-0.5, -0.5, 0.5, 0.5), 0.25),  # four cells
        (cells(0.5, 0, 2, 1), (0.5 * 0.5 + 1.0 * 1.0) / 1.5),  # half of one and all of the next
    ],
)
def test_the_share_by_hand(geometry, share):
    assert site_share(geometry) == pytest.approx(share, rel=2e-3)


def test_the_share_of_parts_holes_and_the_southern_hemisphere():
    two = MultiPolygon([cells(0, 0, 0.5, 1), cells(3, 0, 3.5, 1)])
    assert site_share(two) == pytest.approx(0.5, rel=1e-3)
    outer, hole = cells(0, 0, 1, 1), cells(0.25, 0.25, 0.75, 0.75)
    ring = Polygon(outer.exterior.coords, [hole.exterior.coords])
    assert site_share(ring) == pytest.approx(0.75, rel=1e-3)
    assert site_share(translate(cells(0, 0, 0.5, 1), -180, -60)) == pytest.approx(0.5, rel=1e-3)


def test_the_share_is_what_a_dimmed_site_takes_from_its_cells():
    """Cells hold the mean of fine light; putting out a site of uniform light dims its measured mean by its share."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        corner = rng.uniform(0, 1, 2)
        size = rng.uniform(0.2, 2.5, 2)
        site = cells(*corner, *(corner + size))
        n, fine = 6, 40  # cells across, and pieces across a cell
        west, south = round(104.9 * 240) / 240, round(11.5 * 240) / 240
        middle = (np.arange(n * fine) + 0.5) / fine
        x, y = np.meshgrid(west + (middle - 1) * CELL, south + (middle - 1) * CELL)
        bounds = site.bounds
        inside = (x > bounds[0]) & (x < bounds[2]) & (y > bounds[1]) & (y < bounds[3])
        before = np.ones((n, n))
        after = (~inside).reshape(n, fine, n, fine).mean(axis=(1, 3))
        weight = inside.reshape(n, fine, n, fine).mean(axis=(1, 3))
        fall = np.average(before - after, weights=weight)
        assert site_share(site) == pytest.approx(fall, abs=0.03)


def test_a_compound_of_five_hectares_is_a_quarter_of_a_cell():
    """At 11 degrees a cell is 461 m x 455 m or 21 ha; the share depends on where the cells' borders run."""
    side = 224 / 111_320
    shares = [
        site_share(box(104.9 + dx, 11.0 + dy, 104.9 + dx + side, 11.0 + dy + side))
        for dx in np.linspace(0, CELL, 7)
        for dy in np.linspace(0, CELL, 7)
    ]
    assert max(shares) == pytest.approx(0.24, abs=0.01)
    assert min(shares) == pytest.approx(0.06, abs=0.015)


@pytest.mark.parametrize("geometry", [Polygon(), Point(104.9, 11.5)])
def test_no_area_no_share(geometry):
    with pytest.raises(AreaError, match="without an area"):
        site_share(geometry)


# -------------------------------------------------------------------------------------------------- whole chain


def test_the_mean_of_a_site_is_weighted_by_overlap(tmp_path):
    """A site over two cells, three quarters in the bright one: the mean of its pixels is that of the areas."""
    row, col = 2010, 1190
    radiance = np.tile(np.array([9.5, 39.5], dtype=np.float32), (3, 1))
    granules.write(tmp_path / granules.name(), radiance, row, col)
    west, north = 100 + col / 240, 20 - row / 240
    site = box(west + 0.75 * CELL, north - 2 * CELL, west + 1.75 * CELL, north - CELL)
    grid = Grid.around(site, SENSOR.pixel_m)
    scenes, _ = open_catalog(tmp_path, SETTINGS).search(
        grid.lonlat_bounds, dt.date(2025, 1, 1), dt.date(2025, 12, 31), SENSOR, SETTINGS
    )
    stack, _ = load(by_day(scenes), SENSOR, grid)
    inside = pixel_mask(site, grid)
    values = stack["lights"].values[0][inside]
    assert set(np.round(np.exp(values))) == {10, 40}
    assert values.mean() == pytest.approx(0.25 * np.log(10) + 0.75 * np.log(40), abs=0.06)


def test_clouds_of_one_night_are_missing_and_the_next_is_whole(tmp_path):
    row, col = 2010, 1190
    cloudy = np.full((12, 14), granules.CLEAR, dtype=np.uint16)
    cloudy[:, :7] |= 0b11 << 6
    granules.write(tmp_path / granules.name(), 12.0, row, col, codes={"QF_Cloud_Mask": cloudy})
    granules.write(tmp_path / granules.name(granules.BASE + dt.timedelta(days=1)), 12.0, row, col)
    west, north = 100 + col / 240, 20 - row / 240
    site = box(west + 6 * CELL, north - 4 * CELL, west + 8 * CELL, north - 2 * CELL)
    grid = Grid.around(site, SENSOR.pixel_m)
    scenes, _ = open_catalog(tmp_path, SETTINGS).search(
        grid.lonlat_bounds, dt.date(2025, 1, 1), dt.date(2025, 12, 31), SENSOR, SETTINGS
    )
    stack, _ = load(by_day(scenes), SENSOR, grid)
    inside = pixel_mask(site, grid)
    assert stack["valid"].values[0][inside].mean() == pytest.approx(0.5, abs=0.06)
    assert stack["valid"].values[1].all()
    np.testing.assert_allclose(stack["lights"].values[1], np.log(12.5), rtol=1e-6)
