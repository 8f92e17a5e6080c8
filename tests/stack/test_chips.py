"""Pixels kept on disk: never fetched twice, never taken for whole when they are not, never more than they may be."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from compoundwatch.grid import Grid
from compoundwatch.model import Access, Asset, Calibration, Scene
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack import Memory, by_day, files, load, picture, survey
from compoundwatch.stack.chips import REACH, Chips
from compoundwatch.stack.survey import frame_around
from tests.support import EPSG, LEFT, TOP, RangeServer, write_cog

OWN = Access(frozenset({"127.0.0.1"}))
BANDS = {b.name: b.pixel_m for b in SENSOR.bands}
GRID = Grid(EPSG, LEFT + 500, TOP - 400, 10.0, 40, 50)
DAYS = 3


@pytest.fixture(autouse=True)
def _fresh():
    files._CACHE.__init__()
    files._client.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """DAYS scenes of 256 x 256 pixels of 10 m."""
    rng = np.random.default_rng(3)
    made = tmp_path_factory.mktemp("scenes")
    for day, (band, pixel_m) in itertools.product(range(DAYS), BANDS.items()):
        side = round(2560 / pixel_m)
        numbers = rng.integers(2_000, 5_000, (side, side)).astype(np.uint16)
        if band == "scl":
            numbers = np.where(rng.random((side, side)) < 0.01, 9, 4).astype(np.uint8)
        write_cog(made / f"{day}_{band}.tif", numbers, pixel_m=pixel_m)
    return made


@pytest.fixture
def server(folder):
    serving = RangeServer(folder)
    yield serving
    serving.close()


def days_at(base, epsg_of=None):
    scenes = []
    for day in range(DAYS):
        assets = {
            band: Asset(
                f"{base}/{day}_{band}.tif",
                Calibration(1.0, 0.0, 0.0, "code") if band == "scl" else Calibration(1e-4, -0.1, 0.0, "made"),
                access=OWN,
            )
            for band in BANDS
        }
        when = dt.datetime(2024, 5, 1 + day, 3, 30, tzinfo=dt.UTC)
        known = ("sentinel2", "made", "made", when, f"s{day}", "nadir", "05.11", "baseline 05.11", None)
        scenes.append(Scene(f"s{day}", *known, assets, None))
    return by_day(scenes)


def read(days, chips=None, grid=GRID):
    return load(days, SENSOR, grid, chips=chips)[0]


def same(one, other):
    for name in one.variables:
        np.testing.assert_array_equal(one[name].values, other[name].values)
    return True


@pytest.mark.parametrize("grid", [GRID, Grid(EPSG + 1, LEFT - 659_000, TOP + 2_000, 10.0, 30, 30)])
def test_what_is_kept_gives_the_same_to_the_last_bit_and_asks_for_nothing(folder, server, tmp_path, grid):
    """Also where days are read aside, and in another projection."""
    place = rasterio.warp.transform_bounds(f"EPSG:{EPSG}", f"EPSG:{grid.epsg}", *GRID.bounds)
    if grid.epsg != EPSG:
        grid = replace(grid, left=round(place[0] / 10) * 10.0, top=round(place[3] / 10) * 10.0)
    plain = days_at(server.url)
    aside = [replace(day, shift_x_m=7.0, shift_y_m=-13.0, moved=True) for day in plain]
    true = [read(days, grid=grid) for days in (plain, aside)]
    assert true[0]["valid"].values.mean() > 0.9
    chips = Chips(tmp_path, 100)
    assert same(read(plain, chips.around(grid), grid), true[0])
    server.asked.clear()
    files._CACHE.__init__()
    for kept in (chips, Chips(tmp_path, 100)):
        here = kept.around(grid)
        assert same(read(plain, here, grid), true[0])
        assert same(read(aside, here, grid), true[1])
        assert not here.mended
    assert server.asked == []


def test_no_byte_is_fetched_twice_whatever_is_read_of_a_site(server, tmp_path, monkeypatch):
    """Survey, tiles, pictures; with nothing kept in memory; in a new process, too."""
    monkeypatch.setattr(files, "_CACHE", files._Cache(limit=40_000))
    chips = Chips(tmp_path, 100).around(GRID)
    days = days_at(server.url)
    survey(days, SENSOR, GRID, 0, memory=Memory(chips=chips))
    for tile in GRID.tiles(32):
        read(days, chips, GRID.part(tile))
    for day in days:
        picture(day, SENSOR, GRID, chips)
    spans = {}
    for path, first, last in server.asked:
        for other in spans.setdefault(path, []):
            assert last < other[0] or first > other[1], f"{path} {first}-{last} again"
        spans[path].append((first, last))
    assert len(spans) == DAYS * len(BANDS)
    server.asked.clear()
    again = Chips(tmp_path, 100).around(GRID)
    survey(days, SENSOR, GRID, 0, memory=Memory(chips=again))
    read(days, again)
    assert server.asked == []


def test_a_chip_holds_what_the_survey_reads_of_any_site(tmp_path):
    for rows, cols in itertools.product((1, 2, 63, 64, 65, 128, 129, 300), repeat=2):
        grid = Grid(EPSG, LEFT, TOP, 10.0, rows, cols)
        left, bottom, right, top = Chips(tmp_path, 1).around(grid).cover.bounds
        for inner in (frame_around(grid).bounds, grid.bounds):
            assert left <= inner[0]
            assert bottom <= inner[1]
            assert right >= inner[2]
            assert top >= inner[3]


def test_only_the_surroundings_are_kept_and_open_as_they_are(server, folder, tmp_path):
    read(days_at(server.url), Chips(tmp_path, 100).around(GRID))
    chips = sorted(tmp_path.rglob("*.*"))
    assert len(chips) == DAYS * len(BANDS)
    shapes = set()
    for path in chips:
        assert path.suffix == ".tif"
        assert path.stem.isalnum()
        with rasterio.open(path) as chip, rasterio.open(folder / "0_red.tif") as whole:
            shapes.add(chip.shape)
            assert chip.crs == whole.crs
            assert chip.nodata == 0
    assert max(rows for rows, _ in shapes) == 64 + 2 * (REACH + 2)
    assert sum(p.stat().st_size for p in chips) < 0.3 * sum(p.stat().st_size for p in folder.iterdir())


def test_a_file_that_does_not_reach_the_site_is_not_asked_again(server, tmp_path):
    far = replace(GRID, left=LEFT + 100_000)
    for _ in range(2):
        files._CACHE.__init__()
        stack = read(days_at(server.url), Chips(tmp_path, 100).around(far), far)
        assert not stack["valid"].values.any()
    assert len(server.asked) <= 2 * DAYS * len(BANDS)
    asked = len(server.asked)
    files._CACHE.__init__()
    read(days_at(server.url), Chips(tmp_path, 100).around(far), far)
    assert len(server.asked) == asked


def test_files_on_this_machine_are_not_kept_twice(folder, tmp_path):
    read(days_at(folder), Chips(tmp_path, 100).around(GRID))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["a bit", "an end", "emptied", "another chip"])
def test_a_damaged_chip_is_fetched_again_and_told(server, tmp_path, damage):
    days = days_at(server.url)
    true = read(days)
    read(days, Chips(tmp_path, 100).around(GRID))
    first, second = sorted(tmp_path.rglob("*.tif"))[:2]
    content = bytearray(first.read_bytes())
    if damage == "a bit":
        content[len(content) // 2] ^= 1
    elif damage == "an end":
        del content[-10:]
    elif damage == "emptied":
        content.clear()
    else:
        content[:-100] = second.read_bytes()[:-100]
    first.write_bytes(content)
    server.asked.clear()
    files._CACHE.__init__()
    chips = Chips(tmp_path, 100).around(GRID)
    assert same(read(days, chips), true)
    assert len({path for path, *_ in server.asked}) == 1
    assert [m.routine for m in chips.mended] == [True]
    assert "fetched again" in chips.mended[0].reason
    server.asked.clear()
    assert same(read(days, Chips(tmp_path, 100).around(GRID)), true)
    assert server.asked == []


def test_a_new_processing_is_not_taken_for_the_old_one(server, tmp_path):
    days = days_at(server.url)
    read(days, Chips(tmp_path, 100).around(GRID))
    newer = [replace(day, scenes=tuple(replace(s, processing="05.12") for s in day.scenes)) for day in days]
    server.asked.clear()
    files._CACHE.__init__()
    read(newer, Chips(tmp_path, 100).around(GRID))
    assert len({path for path, *_ in server.asked}) == DAYS * len(BANDS)


def test_the_least_recently_used_go_first(server, tmp_path):
    days = days_at(server.url)
    read(days, Chips(tmp_path, 100).around(GRID))
    one = sum(p.stat().st_size for p in tmp_path.rglob("*.tif"))
    other = replace(GRID, left=GRID.left + 200)
    limit = 1.5 * one / 1e6
    chips = Chips(tmp_path, limit)
    read(days[:1], chips.around(GRID))  # so that the first day is used last
    used = set(sorted(tmp_path.rglob("*.tif"), key=lambda p: p.stat().st_atime_ns)[-len(BANDS) :])
    read(days[:2], chips.around(other))
    held = sum(p.stat().st_size for p in tmp_path.rglob("*.tif"))
    assert held <= limit * 1e6
    assert used <= set(tmp_path.rglob("*.tif"))
    assert len(list(tmp_path.glob(f"{chips.around(other).cover.key}/*.tif"))) == 2 * len(BANDS)


def test_where_nothing_can_be_kept_everything_is_read_all_the_same(server, tmp_path, caplog):
    (tmp_path / "chips").write_text("a file where a folder should be")
    days = days_at(server.url)
    assert same(read(days, Chips(tmp_path / "chips", 100).around(GRID)), read(days))
    assert sum("cannot be kept" in r.message for r in caplog.records) == 1


KILLED = """
import sys
from pathlib import Path
from tests.stack.test_chips import GRID, Chips, days_at, read
print("ready", flush=True)
while True:
    read(days_at(sys.argv[1]), Chips(Path(sys.argv[2]), 0.15).around(GRID))
"""


def test_killed_at_any_moment(server, tmp_path):
    """Written over and over with too little room, killed five times: what is there is whole, nothing is left over."""
    rng = np.random.default_rng(0)
    days = days_at(server.url)
    true = read(days)
    for _ in range(5):
        job = subprocess.Popen(
            [sys.executable, "-c", KILLED, server.url, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path.cwd()
        )
        assert job.stdout is not None
        job.stdout.readline()
        time.sleep(float(rng.uniform(0.05, 0.6)))
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
        job.stdout.close()
    chips = Chips(tmp_path, 100)
    assert list(tmp_path.rglob("*.part")) == []
    assert all(chips.is_sound(path) for path in tmp_path.rglob("*.tif"))
    here = chips.around(GRID)
    assert same(read(days, here), true)
    assert not here.mended
