"""Simulated Sentinel-1: speckle that is speckle, buildings that face the radar, changes with the right sign."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from shapely.geometry import Polygon, box

from compoundwatch.simulate import Conditions, plan, sentinel1
from compoundwatch.simulate.climate import day_number
from compoundwatch.simulate.layout import draw
from compoundwatch.simulate.materials import Material
from compoundwatch.simulate.sentinel1 import ORBITS, Orbit, Radar, speckle
from compoundwatch.simulate.sentinel1_files import passes, rounded

FIRST, LAST = day_number(dt.date(2023, 1, 2)), day_number(dt.date(2025, 12, 31))
STILL = Conditions(noise=0.0, radar_drift=0.0)
"""Scenes neither move nor drift: what differs between them is speckle and what stands in the yards."""
SCENARIOS = ("emptied", "building", "demolished", "unchanged")


def make(seed, scenarios=SCENARIOS, conditions=STILL, controls=4):
    region = plan(np.random.default_rng(seed), scenarios, FIRST, LAST, (160, 240), controls, 4, (0.45, 0.5), conditions)
    return region, Radar(region.world, np.random.default_rng(seed + 100))


@pytest.fixture(scope="module")
def made():
    return make(3, controls=8)


def decibel(power):
    return 10 * np.log10(power)


def near(place, region, grow_m=0.0):
    fine = (region.grid.rows * 4, region.grid.cols * 4)
    return draw([(place.outline.buffer(grow_m), 1)], fine)[2::4, 2::4] > 0


def whole(radar, day, number):
    """Power of everything that lasts, (2, rows, cols)."""
    rough, walls = radar.power(day, radar.looks[number])
    return rough + walls


# -------------------------------------------------------------------------------------------------------- speckle


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_speckle_is_gamma_with_the_stated_looks(looks):
    field = speckle(np.random.default_rng(int(looks)), (600, 700), looks)
    assert field.dtype == np.float32
    apart = field[::2, ::2].ravel()  # pixels two apart share nothing
    n = apart.size
    assert abs(apart.mean() - 1) < 3 / np.sqrt(looks * n)
    found = 1 / apart.var()
    assert abs(found - looks) < 3 * np.sqrt(2 * looks * (looks + 1) / n)
    sample = apart[:: max(1, n // 20000)]
    assert stats.kstest(sample, stats.gamma(looks, scale=1 / looks).cdf).pvalue > 0.001


def test_neighbours_share_part_of_their_speckle():
    fields = [speckle(np.random.default_rng(k), (100, 110), 4.4) - 1 for k in range(80)]
    for (down, right), expected in (((0, 1), 0.35), ((1, 0), 0.35), ((1, 1), 0.175), ((0, 2), 0.0), ((2, 1), 0.0)):
        found = [4.4 * (f[: 100 - down, : 110 - right] * f[down:, right:]).mean() for f in fields]
        assert abs(np.mean(found) - expected) < 3 * np.std(found) / np.sqrt(len(found))


def test_looks_measured_in_woods_are_those_asked_for():
    """For two gamma variables of one mean and L looks, ((a - b) / (a + b))^2 has the mean 1 / (2 L + 1)."""
    for looks in (3.0, 4.4):
        region, radar = make(4, ("unchanged",), Conditions(noise=0.0, radar_drift=0.0, looks=looks))
        day = day_number(dt.date(2024, 2, 1))
        woods = np.zeros(region.grid.shape, dtype=bool)
        woods[::2, ::2] = True
        # Nothing stands or moves there, and no wall is near.
        walls = radar.power(day, radar.looks[0])[1][0]
        woods &= (region.world.cover[Material.TREES] > 0.9) & (walls < 1e-5) & (region.world.busy(day) < 1e-3)
        scenes = [radar.look(day, 0, "A", np.random.default_rng(k)) for k in range(20)]
        for name in ("vv", "vh"):
            a, b = (np.stack([getattr(s, name)[woods] for s in scenes[k::2]]) for k in (0, 1))
            ratio = ((a - b) / (a + b)) ** 2
            assert ratio.size > 1000
            assert abs(ratio.mean() - 1 / (2 * looks + 1)) < 3 * ratio.std() / np.sqrt(ratio.size)


def test_nothing_is_darker_than_the_noise_of_the_instrument(made):
    region, radar = made
    day = day_number(dt.date(2024, 2, 1))
    inland = region.world.cover[Material.WATER] > 0.95
    scenes = np.stack([radar.look(day, 0, "A", np.random.default_rng(k)).vh[inland] for k in range(40)])
    assert scenes.min() > 0
    # Water sends back less than the noise; banks and woods nearby shine in.
    darkest = scenes.mean(axis=0) < np.quantile(scenes.mean(axis=0), 0.2)
    assert 0.003 < scenes[:, darkest].mean() < 0.006


# ------------------------------------------------------------------------------------------------------- buildings


SQUARE = Orbit(1, "ascending", 90.0, 45.0)
"""A look to the east."""


def test_only_walls_that_face_the_radar_answer():
    house = box(100.0, 100.0, 120.0, 140.0)  # 20 m wide, 40 m long from north to south
    for ring in (list(house.exterior.coords), list(house.exterior.coords)[::-1]):
        x, y, vv, vh = sentinel1._wall_points(Polygon(ring), 10.0, SQUARE)
        bright = vv > 1e-6
        assert np.allclose(x[bright], 99.0)  # one metre before the western wall
        assert y[bright].min() < 101
        assert y[bright].max() > 139
        # 6 per 100 m2 of wall, 3 % more at all angles: 6 x 400 / 100 x 1.03.
        assert np.isclose(vv.sum(), 24.72)
        assert np.isclose(vh.sum(), 0.06 * 24.72)


def test_a_wall_askew_answers_less_and_turns_the_polarisation():
    sums = []
    for turn in (0.0, 12.0, 30.0):
        orbit = Orbit(1, "ascending", 90.0 + turn, 45.0)
        _, _, vv, vh = sentinel1._wall_points(box(0.0, 0.0, 20.0, 20.0), 10.0, orbit)
        sums.append((vv.sum(), vh.sum() / vv.sum()))
    # At 12 degrees 1/e is left of a western wall, and 3 % of its cosine; the southern one adds 3 % of its own.
    expected = 12 * (np.exp(-1) + 0.03 * np.cos(np.radians(12)) + 0.03 * np.sin(np.radians(12)))
    assert np.isclose(sums[1][0], expected, rtol=0.01)
    assert sums[0][0] > sums[1][0] > sums[2][0]
    assert sums[0][1] < sums[1][1] < sums[2][1]


def test_the_two_looks_see_opposite_walls():
    east, west = [], []
    for orbit in ORBITS:
        x, _, vv, _ = sentinel1._wall_points(box(0.0, 0.0, 30.0, 30.0), 10.0, orbit)
        east.append(vv[x > 30].sum())
        west.append(vv[x < 0].sum())
    assert west[0] > 20 * east[0]  # ascending looks to the east and so sees western walls
    assert east[1] > 20 * west[1]


def test_roofs_lean_towards_the_radar_by_their_height(made):
    _, radar = made
    window = (slice(0, 40), slice(0, 40))
    roof = box(180.0, 180.0, 220.0, 220.0)
    for orbit in (SQUARE, *ORBITS):
        sent = radar._buildings([(roof, 12.0, np.array([1.0, 0.1], dtype=np.float32), 0.0)], orbit, window)
        rows, cols = np.mgrid[0:40, 0:40]
        total = sent.rough[0].sum()
        east, south = 10 * (cols * sent.rough[0]).sum() / total + 5, 10 * (rows * sent.rough[0]).sum() / total + 5
        reach = 12 / np.tan(np.radians(orbit.incidence))
        azimuth = np.radians(orbit.look_azimuth)
        assert abs(east - (200 - reach * np.sin(azimuth))) < 1.3  # drawn on cells of 2.5 m
        assert abs(south - (200 + reach * np.cos(azimuth))) < 1.3
        assert np.isclose(total, 16, rtol=0.02)  # 40 m x 40 m are 16 pixels
        assert np.isclose(sent.rough[1].sum() / total, 0.1)


def test_looks_differ_and_each_is_stable(made):
    region, radar = made
    built = near(region.sites[SCENARIOS.index("unchanged")], region, -10)
    days = [day_number(dt.date(2024, 1, 10)) + 12 * k for k in range(12)]
    means = {}
    for number in (0, 1):
        scenes = [radar.look(d, number, "A", np.random.default_rng(1000 * number + d)).vv[built] for d in days]
        means[number] = [np.log(np.mean(scenes[half::2], axis=0)) for half in (0, 1)]
    same = [np.corrcoef(*means[number])[0, 1] for number in (0, 1)]
    other = np.corrcoef(means[0][0], means[1][0])[0, 1]
    assert min(same) > 0.8
    assert other < min(same) - 0.3
    ground = region.world.cover[Material.FALLOW] > 0.95
    levels = [decibel(whole(radar, days[0], number)[0][ground].mean()) for number in (0, 1)]
    assert 0.2 < levels[0] - levels[1] < 0.8  # five degrees steeper


# ------------------------------------------------------------------------------------------------ season and change


def test_wet_soil_rises_everywhere_alike(made):
    region, radar = made
    weather = region.world.weather
    dry, wet = (FIRST + int(k) for k in (np.argmin(weather.moisture[0]), np.argmax(weather.moisture[0])))
    soil = region.world.cover[Material.FALLOW] > 0.9
    left = np.arange(region.grid.cols) < region.grid.cols // 2
    for number in (0, 1):
        rise = decibel(whole(radar, wet, number)[0]) - decibel(whole(radar, dry, number)[0])
        west, east = rise[soil & left].mean(), rise[soil & ~left].mean()
        assert 1.5 < west < 5.0
        assert abs(west - east) < 0.4


def test_wet_soil_rises_more_where_it_should():
    rises = []
    for darkening in (0.5, 1.0, 1.5):
        region, radar = make(6, ("unchanged",), Conditions(darkening=darkening))
        weather = region.world.weather
        dry, wet = (FIRST + int(k) for k in (np.argmin(weather.moisture[0]), np.argmax(weather.moisture[0])))
        soil = region.world.cover[Material.FALLOW] > 0.9
        rises.append(float((decibel(whole(radar, wet, 0)[0]) - decibel(whole(radar, dry, 0)[0]))[soil].mean()))
    assert rises[0] < rises[1] < rises[2]


def test_flooded_rice_is_dark_and_a_stand_of_rice_bright(made):
    region, radar = made
    fields = region.world.cover[Material.FIELD] > 0.98
    levels = []
    for day in range(day_number(dt.date(2024, 3, 1)), day_number(dt.date(2024, 12, 1)), 6):
        levels.append(decibel(whole(radar, day, 0)[1])[fields])
    levels = np.array(levels)
    early = region.world.phase[fields] < np.quantile(region.world.phase[fields], 0.5)
    grown = levels.argmax(axis=0)
    assert (np.median(grown) * 6 + 60) > 230  # late August or later, as in the year's rice
    assert (levels.max(axis=0) - levels.min(axis=0))[early].mean() > 4


def test_new_buildings_rise_and_lost_ones_fall(made):
    region, radar = made
    for scenario, code, sign in (("building", 1, 1), ("demolished", 2, -1)):
        place = region.sites[SCENARIOS.index(scenario)]
        before, after = place.story.day - 1, place.story.day - 1 + 366
        assert place.story.until < after
        changed = near(place, region, 15) & (region.world.truth()[0] == code)
        old, new = (sum(whole(radar, day, number) for number in (0, 1)) for day in (before, after))
        for polarisation in (0, 1):
            step = decibel(new[polarisation][changed].mean()) - decibel(old[polarisation][changed].mean())
            assert sign * step > 0.5
        # Where walls stand square to a look, it sees more than half a decibel.
        steps = [decibel(whole(radar, after, n)[0][changed].mean() / whole(radar, before, n)[0][changed].mean())
                 for n in (0, 1)]  # fmt: skip
        assert max(sign * step for step in steps) > 1.0
    quiet = near(region.sites[SCENARIOS.index("unchanged")], region)
    march = [day_number(dt.date(year, 3, 1)) for year in (2024, 2025)]
    assert abs(decibel(np.divide(*(whole(radar, day, 0)[0][quiet].mean() for day in march)))) < 0.3


def test_building_goes_up_step_by_step(made):
    region, radar = made
    place = region.sites[SCENARIOS.index("building")]
    own = near(place, region, 15)
    look = radar.looks[0]
    walls = [radar.power(int(d), look)[1][0][own].sum() for d in np.linspace(place.story.day, place.story.until, 6)]
    assert (np.diff(walls) > 0).all()


def test_things_in_yards_send_back_what_they_should(made):
    """A quarter of the things are seen; nine in ten add 0.08, one in ten 0.6: 0.25 x 0.132 each on average."""
    region, radar = made
    place = region.sites[SCENARIOS.index("unchanged")]
    day = day_number(dt.date(2024, 2, 1))
    own = near(place, region, 60)
    expected = 0.25 * 0.132 * region.world.busy(day)[own].sum()
    still = sum(part[0] for part in radar.power(day, radar.looks[0]))[own].sum()
    sums = np.array([radar.look(day, 0, "A", np.random.default_rng(k)).vv[own].sum() for k in range(60)])
    shown = sums - still - 0.003 * own.sum()
    # What blurs over the rim of the window is small.
    assert abs(shown.mean() - expected) < 3 * shown.std() / np.sqrt(len(sums)) + 0.02 * expected
    assert expected / own.sum() > 0.005


def test_an_emptied_yard_falls_still_for_radar_too(made):
    region, radar = made
    spread = {}
    for name in ("emptied", "unchanged"):
        place = region.sites[SCENARIOS.index(name)]
        own = next(y for y in region.world.yards if y.place is place)
        mask = np.zeros(region.grid.shape, dtype=bool)
        mask[own.window] = own.where > 0.5 * place.rate
        when = region.sites[0].story.day
        for label, day in (("before", when - 30), ("after", when + 30)):
            # The same day again and again: only speckle, and what stands in the yard, differ.
            looks = np.stack([radar.look(day, 0, "A", np.random.default_rng(day + k)).vv[mask] for k in range(30)])
            spread[name, label] = np.log(looks).var(axis=0, ddof=1).mean()
    quieter = spread["emptied", "after"] / spread["emptied", "before"]
    assert quieter < 0.8
    assert abs(spread["unchanged", "after"] / spread["unchanged", "before"] - 1) < 0.2


# ------------------------------------------------------------------------------------------------------ acquisitions


def test_each_orbit_returns_after_twelve_days_with_the_numbers_of_the_archive():
    flown = passes(dt.date(2023, 1, 2), dt.date(2026, 6, 30), None)
    assert {p.platform for p in flown} == {"A"}
    for number, orbit in enumerate(ORBITS):
        own = [p for p in flown if p.number == number]
        assert all((b.time - a.time) == dt.timedelta(days=12) for a, b in pairwise(own))
        assert (own[0].time.date() - dt.date(2023, 1, 2)).days < 12
        # ESA: relative orbit of Sentinel-1A = (absolute - 73) modulo 175 + 1.
        assert {(p.absolute - 73) % 175 + 1 for p in own} == {orbit.relative}
        local = (own[0].time.hour + own[0].time.minute / 60 + 102.3 / 15) % 24
        assert abs(local - (18 if orbit.state == "ascending" else 6)) < 0.6
    assert [p.time for p in flown] == sorted(p.time for p in flown)
    # S1A passed here, on relative orbit 26, on 2022-04-28; a multiple of 12 days later it does again.
    days = {(p.time.date() - dt.date(2022, 4, 28)).days % 12 for p in flown if p.orbit.relative == 26}
    assert days == {0}


def test_a_second_satellite_doubles_the_passes_from_its_day_on():
    start, end = dt.date(2023, 1, 2), dt.date(2025, 12, 31)
    flown = passes(start, end, 0.5)
    joins = start + dt.timedelta(days=547)
    second = [p for p in flown if p.platform == "C"]
    assert joins <= second[0].time.date() < joins + dt.timedelta(days=12)
    for number, orbit in enumerate(ORBITS):
        # ESA: relative orbit of Sentinel-1C = (absolute - 172) modulo 175 + 1; it flies six days apart from 1A.
        own = [p for p in second if p.number == number]
        assert {(p.absolute - 172) % 175 + 1 for p in own} == {orbit.relative}
        first = next(p for p in flown if p.number == number and p.platform == "A")
        assert abs((own[0].time - first.time) % dt.timedelta(days=12) - dt.timedelta(days=6)) < dt.timedelta(minutes=10)
    before = [p for p in flown if p.time.date() < joins]
    after = [p for p in flown if p.time.date() >= joins]
    assert abs(len(before) - 2 * 547 / 12) <= 2
    assert abs(len(after) - 4 * 547 / 12) <= 4
    assert min(p.absolute for p in flown) > 0


def test_rounding_keeps_the_level_within_a_thousandth_of_a_decibel():
    power = np.random.default_rng(0).gamma(4.4, 0.02, 10000).astype(np.float32)
    kept = rounded(power)
    assert np.abs(decibel(kept.astype(float)) - decibel(power.astype(float))).max() < 0.0011
    assert abs(decibel(kept.astype(float).mean() / power.astype(float).mean())) < 1e-5
    assert (kept.view(np.uint32) & 0xFFF == 0).all()


def test_same_world_and_seed_give_the_same_scene():
    scenes = []
    for _ in range(2):
        _, radar = make(9, ("unchanged",))
        scenes.append(radar.look(FIRST + 40, 1, "C", np.random.default_rng(5)))
    assert np.array_equal(scenes[0].vv, scenes[1].vv)
    assert np.array_equal(scenes[0].vh, scenes[1].vh)
