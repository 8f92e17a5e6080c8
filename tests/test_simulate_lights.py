"""Simulated nights: the light of places, how the satellites see it, and the files of the archive."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import h5py
import numpy as np
import pytest

from compoundwatch.grid import Grid, transformer
from compoundwatch.model import Asset, Calibration
from compoundwatch.sensors import black_marble
from compoundwatch.simulate import lights, lights_files, plan
from compoundwatch.simulate.climate import BLACKOUT_LEFT
from compoundwatch.simulate.conditions import DESCRIBED, Conditions
from compoundwatch.simulate.region import CONTROL_GENERATORS, SITE_GENERATORS
from compoundwatch.stack import hdf5

START, END = dt.date(2023, 1, 2), dt.date(2024, 12, 31)
GROUP = "HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields/"
CALM = Conditions(noise=0, mismatch=0, haze=0, missed=0)


def number(date: dt.date) -> int:
    return (date - dt.date(1970, 1, 1)).days


def dates(start: dt.date = START, end: dt.date = END) -> list[dt.date]:
    return [start + dt.timedelta(days=k) for k in range((end - start).days + 1)]


def region_of(*scenarios: str, seed: int = 3, size=(180, 220), conditions=DESCRIBED):
    rng = np.random.default_rng(seed)
    return plan(rng, scenarios, number(START), number(END), size, 4, 3, (0.45, 0.5), conditions)


def seen(region, days, seed: int = 5, platform=lights.PLATFORMS[0]):
    """Radiance of every cell and night, and where the file would say that it is good: (n_days, rows, cols)."""
    nights = lights.Nights(region, days, np.random.default_rng(seed))
    made = [nights.look(date, platform, np.random.default_rng([seed, k])) for k, date in enumerate(days)]
    good = np.array([(n.clouds == 0) & (n.quality == 0) for n in made])
    return np.array([n.radiance for n in made]), good, nights


def brightest(nights, place: int) -> tuple[int, int]:
    usual = nights.lamps.usual()[place]
    return tuple(int(i) for i in np.unravel_index(usual.argmax(), usual.shape))


@pytest.fixture(scope="module")
def quiet():
    return region_of("unchanged", "unchanged", "unchanged", seed=4, size=(270, 300))


@pytest.fixture(scope="module")
def year(quiet):
    return seen(quiet, dates(START, dt.date(2023, 12, 31)))


def test_lit_cells_vary_by_15_to_40_percent_and_bright_ones_less(year):
    radiance, good, _ = year
    values = np.where(good, radiance, np.nan)
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    relative = (spread / mean)[mean > 2]
    assert relative.size > 10
    assert 0.15 < np.median(relative) < 0.40
    assert np.median((spread / mean)[mean < 1]) > 1.2 * np.median(relative)


def test_few_wet_nights_are_clear(year):
    _, good, _ = year
    month = np.array([d.month for d in dates(START, dt.date(2023, 12, 31))])
    dry, wet = good[np.isin(month, (1, 2, 3))].mean(), good[np.isin(month, (7, 8, 9))].mean()
    assert dry > 0.5
    assert 0.1 < wet < 0.35


def test_both_satellites_pass_under_much_the_same_sky(quiet):
    days = dates(dt.date(2023, 6, 1), dt.date(2023, 9, 30))
    first, second = (seen(quiet, days, platform=p)[1].mean(axis=(1, 2)) for p in lights.PLATFORMS)
    assert np.corrcoef(first, second)[0, 1] > 0.6


def test_angles_of_view_come_back_every_16_nights():
    angle = np.array([lights.view_zenith(day, 9.0, 0.3) for day in range(19000, 19064)])
    np.testing.assert_allclose(angle[16:], angle[:-16], atol=1e-9)
    assert len(np.unique(angle.round(3))) == 16
    assert abs(angle).min() < 8
    # Half the spacing of the tracks, 12.7 degrees of longitude at 9 degrees north, seen from 829 km: by hand 67 degrees
    assert 60 < abs(angle).max() < 68
    other = np.array([lights.view_zenith(day, 9.0, 0.8) for day in range(19000, 19016)])
    assert np.corrcoef(abs(angle[:16]), abs(other))[0, 1] < -0.9  # one stands low when the other stands high


def test_light_follows_the_angle_of_view():
    days = dates(START, dt.date(2024, 3, 31))
    radiance, _, nights = seen(region_of("unchanged", conditions=replace(CALM, cloudiness=0)), days)
    row, col = brightest(nights, 0)
    light = np.log(radiance[:, row - 1 : row + 2, col - 1 : col + 2].sum(axis=(1, 2)))

    def explained(period: int) -> float:
        phase = np.arange(len(light)) % period
        return 1 - sum(light[phase == k].var() * (phase == k).sum() for k in range(period)) / light.size / light.var()

    others = [explained(k) for k in (13, 14, 15, 17, 18, 19)]
    assert explained(16) > max(others) + 0.1


def test_no_light_is_lost_and_a_place_dims_its_cell_by_its_share():
    days = dates(START, dt.date(2023, 4, 30))
    region = region_of("unchanged", conditions=replace(CALM, cloudiness=0))
    lit, _, nights = seen(region, days)
    dark = lights.Nights(region, days, np.random.default_rng(5))
    dark.factors[:, 0] = 0
    without = np.array(
        [dark.look(d, lights.PLATFORMS[0], np.random.default_rng([5, k])).radiance for k, d in enumerate(days)]
    )
    own = lit - without
    row, col = brightest(nights, 0)
    height, width = nights.lamps.cells.metres
    # All the light that a place gives off is in its cells and their neighbours; its level is that of its kind ...
    level = own.sum(axis=(1, 2)) * height * width / region.world.places[0].outline.area
    assert 0.3 < level.mean() / lights.BRIGHTNESS["compound"] < 3
    usual = nights.lamps.usual()
    from_layer = usual[0].sum() * height * width / region.world.places[0].outline.area
    assert level.mean() == pytest.approx(from_layer, rel=0.15)
    # ... and so the cell dims by what the place gives, not by more.
    share = (own / lit)[:, row, col].mean()
    assert share == pytest.approx((usual[0] / usual.sum(axis=0))[row, col], abs=0.1)
    assert own[:, row, col].mean() < level.mean() * region.world.places[0].outline.area / (height * width)


def test_flags_and_values_agree(year, quiet):
    nights = lights.Nights(quiet, dates(), np.random.default_rng(5))
    thin_missed = []
    for k, date in enumerate(dates(dt.date(2023, 6, 1), dt.date(2023, 8, 31))):
        night = nights.look(date, lights.PLATFORMS[0], np.random.default_rng(k))
        assert ((night.quality == 255) == (night.clouds == 3)).all()
        assert (night.opacity[night.clouds == 3] > 0.12).all()
        assert (night.opacity[night.clouds == 0] < 0.70).all(), "thick cloud is never missed"
        thin = (night.opacity > 0.12) & (night.opacity < 0.70)
        thin_missed += list((night.clouds == 0)[thin])
    se = np.sqrt(0.2 * 0.8 / len(thin_missed))
    assert np.mean(thin_missed) == pytest.approx(0.20, abs=3 * se)


def test_a_blackout_dims_the_whole_region():
    region = region_of("blackout", "unchanged", conditions=replace(CALM, cloudiness=0))
    first, last = region.blackout
    days = dates(START, END)
    radiance, _, nights = seen(region, days)
    numbers = np.array([number(d) for d in days])
    during, before = (numbers >= first) & (numbers <= last), (numbers >= first - 60) & (numbers < first)
    left = radiance[during].mean(axis=0) / radiance[before].mean(axis=0)
    lit = nights.lamps.usual()[:-3].sum(axis=0) > 1.0
    most = BLACKOUT_LEFT[1] + max(SITE_GENERATORS, CONTROL_GENERATORS)
    assert lit.sum() > 5
    assert (left[lit] < most + 0.1).all()
    assert (left[lit] > 0.5 * BLACKOUT_LEFT[0]).all()


def test_a_power_cut_dims_one_place_and_generators_bring_part_back():
    region = region_of("power_cut", "unchanged", size=(280, 300), conditions=replace(CALM, cloudiness=0))
    story = region.sites[0].story
    days = dates()
    radiance, _, nights = seen(region, days)
    numbers = np.array([number(d) for d in days])
    before = (numbers >= story.day - 60) & (numbers < story.day)
    dark = (numbers >= story.day) & (numbers < story.generators)
    later = (numbers >= story.generators) & (numbers < story.generators + 60)
    usual = nights.lamps.usual()
    row, col = brightest(nights, 0)
    share = (usual[0] / usual.sum(axis=0))[row, col]
    level = [radiance[when, row, col].mean() for when in (before, dark, later)]
    assert level[1] < level[2] < level[0]
    assert level[2] / level[0] == pytest.approx(1 - share * (1 - story.generator_light), abs=0.2)
    row, col = brightest(nights, 1)
    foreign = (usual[0] / usual.sum(axis=0))[row, col]
    assert radiance[later, row, col].mean() / radiance[before, row, col].mean() > 0.85 - foreign


# -------------------------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def written(quiet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nights")
    days = dates(START, dt.date(2023, 2, 10))
    return folder / "granules", days, lights.write_nights(folder, quiet, days, np.random.default_rng(8))


def test_granules_have_the_names_and_layers_of_the_archive(written):
    folder, days, rows = written
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(f"{row['item_id']}.h5" for row in rows)
    assert 0.9 * 2 * len(days) < len(rows) <= 2 * len(days)
    assert "VNP46A2.A2023010.h28v08.002.2023018030405.h5" in names
    assert "VJ146A2.A2023010.h28v08.002.2023018030405.h5" in names
    assert max(path.stat().st_size for path in folder.iterdir()) < 100_000
    with h5py.File(folder / names[0]) as file:
        found = {name: (layer.dtype.name, layer.shape) for name, layer in file[GROUP].items()}
        assert found == {
            "DNB_BRDF-Corrected_NTL": ("float32", (2400, 2400)), "Mandatory_Quality_Flag": ("uint8", (2400, 2400)),
            "QF_Cloud_Mask": ("uint16", (2400, 2400)), "Snow_Flag": ("uint8", (2400, 2400)),
            "lat": ("float64", (2400,)), "lon": ("float64", (2400,)),
        }  # fmt: skip
        assert file[GROUP + "lat"][0] == pytest.approx(10 - 1 / 480)
        assert file[GROUP + "lon"][0] == pytest.approx(100 + 1 / 480)
        radiance = file[GROUP + "DNB_BRDF-Corrected_NTL"]
        assert (radiance[:200] == np.float32(-999.9)).all()
        assert radiance.fillvalue == np.float32(-999.9)


def test_files_hold_what_was_seen_where_it_was_seen(quiet, written):
    folder, days, _ = written
    nights = lights.Nights(quiet, days, np.random.default_rng(8))
    cells = nights.lamps.cells
    place = quiet.sites[0].outline.centroid
    grid = quiet.grid
    lon, lat = transformer(grid.epsg, 4326).transform(grid.left + place.x, grid.top - place.y)
    row, col = int((10 - lat) * 240), int((lon - 100) * 240)
    with h5py.File(next(iter(sorted(folder.glob("VNP46A2.A2023010*"))))) as file:
        layers = {name: file[GROUP + name][:] for name in lights_files.LAYERS}
    inside = layers["Snow_Flag"] == 0
    assert inside.sum() == cells.rows * cells.cols
    assert inside[row, col]
    assert (np.abs(np.argwhere(inside).mean(axis=0) - (row, col)) < cells.rows).all()
    around = Grid.around(_square(lon, lat), 50.0, 200.0)
    for name, missing in (("DNB_BRDF-Corrected_NTL", -999.9), ("QF_Cloud_Mask", 65535.0)):
        asset = Asset(str(next(iter(folder.glob("VNP46A2.A2023010*")))), Calibration(1, 0, missing, ""), GROUP + name,
                      (100.0, 10.0, 1 / 240))  # fmt: skip
        read = hdf5.read(asset, around)
        middle = read[around.rows // 2, around.cols // 2]
        stored = layers[name][row, col]
        assert np.isnan(middle) if stored == np.float32(missing) else middle == stored


def _square(lon: float, lat: float):
    from shapely.geometry import box

    return box(lon - 2e-4, lat - 2e-4, lon + 2e-4, lat + 2e-4)


def test_the_sensor_takes_as_valid_what_is_clear_and_good(written):
    folder, _, rows = written
    share = {row["item_id"]: row["clear_share"] for row in rows}
    for path in sorted(folder.iterdir())[::7]:
        with h5py.File(path) as file:
            layers = {name: file[GROUP + name][:480, 480:720] for name in lights_files.LAYERS}
        quality = {"retrieval": layers["Mandatory_Quality_Flag"], "clouds": layers["QF_Cloud_Mask"]}
        valid = black_marble.valid(quality | {"snow": layers["Snow_Flag"]})
        inside = layers["Snow_Flag"] == 0
        assert not valid[~inside].any()
        assert valid[inside].mean() == pytest.approx(share[path.stem], abs=1e-4)
        assert (layers["DNB_BRDF-Corrected_NTL"][valid] > -5).all()


def test_the_same_seed_gives_the_same_bytes(quiet, written, tmp_path):
    days = written[1]
    lights.write_nights(tmp_path, quiet, days[:6], np.random.default_rng(8))
    for path in (tmp_path / "granules").iterdir():
        assert path.stat().st_size > 1000
    again = tmp_path / "again"
    lights.write_nights(again, quiet, days[:6], np.random.default_rng(8))
    for path in (again / "granules").iterdir():
        assert path.read_bytes() == (tmp_path / "granules" / path.name).read_bytes()
    lights.write_nights(tmp_path / "other", quiet, days[:6], np.random.default_rng(9))
    other = {path.name: path.read_bytes() for path in (tmp_path / "other" / "granules").iterdir()}
    assert any(other.get(path.name) != path.read_bytes() for path in (again / "granules").iterdir())


def test_a_window_on_the_corner_of_four_tiles_comes_back_whole(tmp_path):
    cells = lights.Cells(row=4798, col=28 * 2400 - 3, rows=5, cols=7)
    rng = np.random.default_rng(1)
    radiance = rng.uniform(1, 50, (5, 7)).astype(np.float32)
    clear = np.zeros((5, 7), dtype=np.uint8)
    night = lights.Night(radiance, clear, clear, 3, False, np.zeros((5, 7), dtype=np.float32), 10.0)
    names = lights_files.GranuleFiles(tmp_path, cells).write(lights.PLATFORMS[1], dt.date(2025, 5, 3), night)
    assert [name[8:23] for name in names] == [
        "A2025123.h27v01",
        "A2025123.h28v01",
        "A2025123.h27v02",
        "A2025123.h28v02",
    ]
    whole = np.full((4800, 4800), np.nan, dtype=np.float32)
    for name in names:
        col, row = int(name[18:20]) - 27, int(name[21:23]) - 1
        with h5py.File(tmp_path / f"{name}.h5") as file:
            assert set(np.unique(file[GROUP + "QF_Cloud_Mask"][:])) == {50, 65535}
            whole[2400 * row : 2400 * (row + 1), 2400 * col : 2400 * (col + 1)] = file[GROUP + lights_files.RADIANCE][:]
    found = np.argwhere(whole > 0)
    assert found.min(axis=0).tolist() == [2398, 2397]
    np.testing.assert_array_equal(whole[2398:2403, 2397:2404], radiance)
