"""Simulated Landsat: means over its own pixels, quality words as documented, temperatures that follow the surface."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import distance_transform_cdt

from compoundwatch.simulate import Conditions, plan, sky
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.landsat import Landsat
from compoundwatch.simulate.landsat_files import KELVIN, REFLECTANCE, acquired, stored
from compoundwatch.simulate.materials import Material

FIRST, LAST = day_number(dt.date(2023, 1, 2)), day_number(dt.date(2025, 12, 31))
SCENARIOS = ("emptied", "building", "demolished", "unchanged")
CLEAR, WATER, CLOUD, SHADOW, CIRRUS, RIM = 21824, 21952, 22280, 23888, 54596, 21762
"""Words of QA_PIXEL that USGS lists for Landsat 8 and 9 (LSDS-1619, table of pixel values)."""


def make(seed, conditions=None):
    settings = (SCENARIOS, FIRST, LAST, (180, 260), 8, 4, (0.45, 0.5))
    region = plan(np.random.default_rng(seed), *settings, conditions or Conditions())
    return region, Landsat(region.world, region.grid, np.random.default_rng(seed + 1))


@pytest.fixture(scope="module")
def made():
    return make(3)


def test_pixels_begin_at_odd_multiples_of_fifteen_metres_inside_the_region(made):
    region, landsat = made
    grid = landsat.grid
    assert grid.pixel_m == 30
    assert grid.left % 30 == 15
    assert grid.top % 30 == 15
    outer, inner = region.grid.bounds, grid.bounds
    assert all(0 <= b - a < 30 for a, b in zip(outer[:2], inner[:2], strict=True))
    assert all(0 <= a - b < 30 for a, b in zip(outer[2:], inner[2:], strict=True))
    assert grid.rows != grid.cols


def test_coarse_pixels_are_means_of_what_lies_under_them(made):
    region, landsat = made
    rows, cols = np.mgrid[0 : region.grid.rows, 0 : region.grid.cols].astype(np.float32)
    # A slope keeps its value at the middle of each pixel, whatever the blur; away from the edges.
    x, y = region.grid.left + 10 * (cols + 0.5), region.grid.top - 10 * (rows + 0.5)
    for sigma, far in ((9.0, 3), (42.0, 8)):
        for shift in ((0.0, 0.0), (7.0, -4.0)):
            slope = landsat.coarse((x - region.grid.left) + 2 * (y - region.grid.top), sigma, shift)
            r, c = np.mgrid[0 : landsat.grid.rows, 0 : landsat.grid.cols]
            east = landsat.grid.left - region.grid.left + 30 * (c + 0.5)
            north = landsat.grid.top - region.grid.top - 30 * (r + 0.5)
            # Moved 7 m down and 4 m to the left, the picture shows what lies 7 m further up and 4 m further right.
            expected = (east - shift[1]) + 2 * (north + shift[0])
            inside = np.s_[far:-far, far:-far]
            assert np.abs(slope - expected)[inside].max() < 0.05
    flat = landsat.coarse(np.full(region.grid.shape, 0.3, dtype=np.float32), 9.0)
    assert np.abs(flat - 0.3).max() < 1e-6


def test_a_small_bright_roof_keeps_its_share_of_the_light(made):
    region, landsat = made
    image = np.zeros(region.grid.shape, dtype=np.float32)
    image[50, 60] = 9.0  # one pixel of 10 m is a ninth of one of 30 m
    for sigma in (9.0, 42.0):
        assert np.isclose(landsat.coarse(image, sigma).sum(), 1.0, rtol=0.01)


def test_stored_numbers_follow_collection_two():
    # LSDS-1619: reflectance 0.0000275 x DN - 0.2, valid 7273 to 43636; temperature 0.00341802 x DN + 149.0.
    assert stored(np.array([0.0, 0.1, 1.0], dtype=np.float32), REFLECTANCE).tolist() == [7273, 10909, 43636]
    assert stored(np.array([300.0, 149.01], dtype=np.float32), KELVIN).tolist() == [44178, 3]
    assert stored(np.array([-5.0, 9.0], dtype=np.float32), REFLECTANCE).tolist() == [1, 65535]
    values = np.random.default_rng(0).uniform(-0.1, 1.0, 5000).astype(np.float32)
    assert np.abs(stored(values, REFLECTANCE) * 0.0000275 - 0.2 - values).max() < 0.0000139
    warm = np.random.default_rng(1).uniform(270, 330, 5000).astype(np.float32)
    assert np.abs(stored(warm, KELVIN) * 0.00341802 + 149.0 - warm).max() < 0.0018


def test_a_clear_scene_is_the_ground_within_gain_haze_and_noise(made):
    region, landsat = made
    date = dt.date(2024, 2, 8)
    scene = landsat.look(date, np.random.default_rng(1), cloud_share=0.0)
    ground = landsat.coarse(region.world.reflectance(day_number(date)), 9.0)
    for b, name in enumerate(("blue", "green", "red", "nir", "swir16")):
        assert scene.bands[name].shape == landsat.grid.shape
        assert np.corrcoef(scene.bands[name].ravel(), ground[b].ravel())[0, 1] > 0.93
        assert abs(np.median(scene.bands[name] - ground[b])) < 0.05
    assert set(np.unique(scene.quality)) <= {CLEAR, WATER}
    assert scene.missed_cloud is None
    wet = landsat.coarse(region.world.cover[Material.WATER], 9.0) > 0.9
    if wet.any():
        assert (scene.quality[wet] == WATER).mean() > 0.7
    assert (scene.quality == CLEAR).mean() > 0.85


def test_quality_words_are_documented_ones_and_clouds_are_missed_as_stated(made):
    _, landsat = made
    date = dt.date(2024, 2, 8)
    missed_cloud, missed_shadow, words = [], [], set()
    for seed in range(25):
        scene = landsat.look(date, np.random.default_rng(seed), cloud_share=0.35)
        words |= set(np.unique(scene.quality))
        assert ((scene.quality & 0b1100) != 0)[scene.opacity > sky.THICK_FROM].all()
        thin = (scene.opacity > 0.12) & (scene.opacity < 0.70)
        missed_cloud.append(1 - ((scene.quality & 0b1100) != 0)[thin].mean())
        shadow = (scene.shadow > 0.12) & (scene.opacity <= 0.12)
        if shadow.sum() > 200:
            missed_shadow.append(1 - ((scene.quality & 0b10000) != 0)[shadow].mean())
            assert abs(missed_shadow[-1] - scene.missed_shadow) < 1e-6
        cloud = (scene.quality & 0b1000) != 0
        rim = (scene.quality & 0b10) != 0
        assert not (cloud & rim).any()
        if rim.any():  # within three steps of a cloud, along rows and columns
            assert distance_transform_cdt(~cloud, metric="taxicab")[rim].max() <= 3
    plain = {int(w) for w in words if not w & (2 | 128)}  # neither rim nor water
    assert plain == {CLEAR, CLOUD, SHADOW, CIRRUS}
    assert RIM in words
    assert all(not w & 64 for w in words if w & 2)
    assert abs(np.mean(missed_cloud) - 0.15) < 0.02
    assert abs(np.mean(missed_shadow) - 0.30) < 0.02


def test_scenes_come_every_eight_days_as_the_archive_counts():
    dates = acquired(dt.date(2023, 1, 2), dt.date(2025, 12, 31))
    assert all((b[0] - a[0]).days == 8 for a, b in pairwise(dates))
    assert all(a[1] != b[1] for a, b in pairwise(dates))
    # Landsat 9 was above path 10 on 2022-01-29; a satellite reaches the next path after seven days.
    nine = next(date for date, satellite in dates if satellite == 9)
    assert ((nine - dt.date(2022, 1, 29)).days - 7 * (127 - 10)) % 16 == 0
    eight = next(date for date, satellite in dates if satellite == 8)
    assert ((eight - dt.date(2020, 12, 4)).days - 7 * (127 - 47)) % 16 == 0


# ------------------------------------------------------------------------------------------------------ temperature


def test_temperatures_are_those_of_the_tropics_and_follow_surface_and_season():
    region, landsat = make(5)
    world = region.world
    hot, mild = (day_number(dt.date(2024, *when)) for when in ((4, 5), (1, 5)))
    maps = {day: landsat.temperature(day, world.ground(day)) for day in (hot, mild)}
    spread = landsat.weather_k[world.weather.index(hot)], landsat.weather_k[world.weather.index(mild)]
    assert 1.0 < np.median(maps[hot] - maps[mild]) - (spread[0] - spread[1]) < 6.0
    for kelvin in maps.values():
        assert 285 < kelvin.min() < kelvin.max() < 325
    level = {m: maps[hot][world.cover[m] > 0.9].mean() for m in (Material.TREES, Material.FALLOW, Material.WATER)
             if (world.cover[m] > 0.9).any()}  # fmt: skip
    assert level[Material.TREES] < level[Material.FALLOW] - 4
    roofs = 1 - world.cover.sum(axis=0) > 0.9
    assert maps[hot][roofs].mean() > level[Material.TREES] + 5
    if Material.WATER in level:
        assert level[Material.WATER] < level[Material.FALLOW] - 5


def test_weather_is_shared_and_differs_from_day_to_day():
    region, landsat = make(6)
    days = [day_number(dt.date(2024, 3, 1)) + 8 * k for k in range(12)]
    series = np.array([landsat.temperature(d, region.world.ground(d)) for d in days])
    west, east = series[:, :, :30].mean(axis=(1, 2)), series[:, :, -30:].mean(axis=(1, 2))
    assert np.corrcoef(west, east)[0, 1] > 0.9
    assert series.mean(axis=(1, 2)).std() > 0.5


def test_a_busy_place_is_less_than_a_degree_warmer_and_cools_when_it_is_left():
    region, landsat = make(7)
    place = region.sites[0]
    own = next(y for y in region.world.yards if y.place is place)
    where = landsat.places[region.world.yards.index(own)]
    day = place.story.day + 5
    ground = region.world.ground(day)
    left = landsat.temperature(day, ground)[where].mean()
    story = place.story
    try:
        place.story = replace(story, scenario="unchanged", day=None, regrowth=0.0)
        stayed = landsat.temperature(day, ground)[where].mean()
        mood = region.world.activity(own, day)
    finally:
        place.story = story
    assert np.isclose(stayed - left, 0.8 * mood * (1 - story.activity_left), atol=1e-3)
    assert 0.4 < stayed - left < 1.2


def test_clouds_are_cold_and_the_temperature_is_blurred_to_a_hundred_metres():
    _, landsat = make(8, Conditions(noise=0.0))
    date = dt.date(2024, 2, 8)
    clear = landsat.look(date, np.random.default_rng(1), cloud_share=0.0)
    cloudy = landsat.look(date, np.random.default_rng(1), cloud_share=1.0)
    assert np.median(cloudy.kelvin) < np.median(clear.kelvin) - 8
    step = np.abs(np.diff(clear.kelvin, axis=1)).mean() / clear.kelvin.std()
    fine = np.abs(np.diff(clear.bands["red"], axis=1)).mean() / clear.bands["red"].std()
    assert step < 0.6 * fine


def test_same_seed_same_scene():
    looks = [make(9)[1].look(dt.date(2024, 5, 3), np.random.default_rng(2)) for _ in range(2)]
    assert np.array_equal(looks[0].kelvin, looks[1].kelvin)
    assert np.array_equal(looks[0].quality, looks[1].quality)
    assert all(np.array_equal(looks[0].bands[k], looks[1].bands[k]) for k in looks[0].bands)
