"""Multispectral pairs: unchanged pixels, normalisation, sizes, real pairs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from compoundwatch import images
from compoundwatch.detectors.irmad import DETECTOR, no_change

SHAPE = (80, 110)


def pair(seed, step=0.0, noise=30.0):
    """Six smooth bands with noise; a rectangle of 24 x 30 pixels differs by ``step`` in all bands."""
    rng = np.random.default_rng(seed)
    rows, cols = np.indices(SHAPE)
    waves = np.stack([np.sin(rows / 9) * np.cos(cols / 13), np.cos(rows / 17), np.sin(cols / 7)])
    ground = np.einsum("bk,kij->bij", rng.normal(0, 300, (6, 3)), waves) + 2000
    before, after = (ground + rng.normal(0, noise, ground.shape) for _ in range(2))
    after[:, 30:54, 60:90] += step
    return before.astype(np.float32), after.astype(np.float32)


def inside():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[30:54, 60:90] = True
    return mask


@pytest.mark.parametrize("sign", [1, -1])
def test_brighter_and_darker(sign):
    found = DETECTOR.compare(*pair(1, step=sign * 300.0), 0.01)
    assert (found.direction[inside()] == sign).mean() > 0.95
    assert (found.direction[~inside()] != 0).mean() < 0.01


def test_the_weather_of_the_whole_image_is_no_change():
    before, after = pair(2)
    hazy = after * np.float32(0.7) + np.float32(400)
    assert (DETECTOR.compare(before, hazy, 0.01).direction != 0).mean() < 0.01


def test_unchanged_pixels_are_told_from_changed_ones():
    before, after = pair(3, step=400.0)
    weight = no_change(before.reshape(6, -1).astype(float), after.reshape(6, -1).astype(float), 15).reshape(SHAPE)
    assert weight[inside()].mean() < 0.02
    # Probabilities of true nulls are uniform, hence one half on average.
    assert weight[~inside()].mean() == pytest.approx(0.5, abs=0.1)


def test_p_values_are_uniform_in_the_middle_where_nothing_changed():
    shares = [
        [(DETECTOR.compare(*pair(10 + s), 0.01).p_value < level).mean() for level in (0.5, 0.1)] for s in range(6)
    ]
    half, tenth = np.mean(shares, axis=0)
    assert half == pytest.approx(0.5, abs=0.01)
    assert tenth == pytest.approx(0.1, abs=0.03)


def test_a_constant_band_does_no_harm():
    before, after = pair(5, step=300.0)
    before[2] = after[2] = 0
    found = DETECTOR.compare(before, after, 0.01)
    assert (found.direction[inside()] == 1).mean() > 0.95


@pytest.mark.parametrize("bands", [1, 2])
def test_few_bands(bands):
    before, after = (x[:bands] for x in pair(6, step=300.0))
    found = DETECTOR.compare(before, after, 0.01)
    assert (found.direction[inside()] == 1).mean() > 0.95
    assert (found.direction[~inside()] != 0).mean() < 0.01


def unchanged(kind, seed, bands=6, shape=(150, 190)):
    """Two views of one ground: fields with sharp outlines, rough in themselves, and what makes views differ."""
    rng = np.random.default_rng(seed)
    patches = ndimage.gaussian_filter(rng.normal(size=shape), 7)
    field = np.digitize(patches, np.quantile(patches, (0.2, 0.4, 0.6, 0.8)))
    ground = rng.uniform(500, 3000, (bands, 5))[:, field] * np.exp(0.05 * rng.normal(size=(bands, *shape)))
    ground = ndimage.gaussian_filter(ground, (0, 0.7, 0.7))
    after = ground.copy()
    waves = ndimage.gaussian_filter(rng.normal(size=shape), 12)
    waves /= waves.std()
    if kind == "shift":
        after = ndimage.shift(after, (0, 0.3, -0.2), order=3, mode="nearest")
    elif kind == "light":  # slopes turned to the sun or away from it, on the whole a fifth less of it
        after *= 0.8 + 0.05 * waves
    elif kind == "haze":  # thicker in short wavelengths, over about a half
        veil = np.linspace(0.08, 0.03, bands)[:, None, None] / (1 + np.exp(-3 * waves))
        after = after * (1 - veil) + 3000 * veil
    elif kind == "gain":
        after = after * rng.uniform(0.5, 2, (bands, 1, 1)) + 100
    shared = 1.2 if kind == "shared noise" else 0.0
    noise = ndimage.gaussian_filter(rng.normal(size=(2, bands, *shape)), (0, 0, shared, shared))
    noise *= 60 / noise.std()
    return (ground + noise[0]).astype(np.float32), (after + noise[1]).astype(np.float32)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
@pytest.mark.parametrize("kind", ["noise", "shared noise", "shift", "light", "haze", "gain"])
def test_next_to_nothing_is_called_where_nothing_changed(kind, alpha):
    shares = [(DETECTOR.compare(*unchanged(kind, 40 + s), alpha).direction != 0).mean() for s in range(4)]
    assert np.mean(shares) < alpha


def test_smoothing_to_the_end_calls_no_more(monkeypatch):
    """What is called must not hang on a smoother that stops early."""
    early = images.total_variation
    monkeypatch.setattr(images, "total_variation", lambda image, weight: early(image, weight, rounds=1000))
    shares = [(DETECTOR.compare(*unchanged("noise", 50 + s), 0.01).direction != 0).mean() for s in range(3)]
    assert np.mean(shares) < 0.01


def test_a_change_is_found_through_a_shift_and_haze():
    before, after = unchanged("haze", 60)
    after = ndimage.shift(after, (0, 0.6, 0.4), order=3, mode="nearest")
    after[:, 60:90, 70:110] *= 1.5
    found = DETECTOR.compare(before, after.astype(np.float32), 0.01).direction
    assert (found[60:90, 70:110] == 1).mean() > 0.8
    found[55:95, 65:115] = 0
    assert (found != 0).mean() < 0.01


def test_half_a_pixel_of_shift_mirrors_when_the_images_are_swapped():
    before, after = unchanged("shift", 61)
    after[:, 60:90, 70:110] *= np.float32(1.5)
    there, back = DETECTOR.compare(before, after, 0.01), DETECTOR.compare(after, before, 0.01)
    np.testing.assert_array_equal(there.direction, -back.direction)
    np.testing.assert_allclose(there.statistic, -back.statistic, rtol=1e-3, atol=1e-3)


QUIET_DAYS = ("2017-07-01", "2017-07-06", "2017-07-11", "2017-07-21", "2017-07-31", "2019-07-01", "2020-06-30")
"""Summer days, clear to the eye, with a clear view at most ten days later: too soon for the ground to change much."""


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_next_to_nothing_is_called_between_real_views_a_few_days_apart(shared):
    xarray = pytest.importorskip("xarray")
    path = shared / "series" / "nrt-romania-s2" / "sentinel2_cube_subset_romania_10m.nc"
    with xarray.open_dataset(path) as cube:
        days = cube.time.values.astype("datetime64[D]")
        clear = np.isin(cube.SCL.values, (4, 5, 6))
        values = np.stack([cube[b].values for b in ("B2", "B3", "B4", "B8")], axis=1).astype(np.float32)
    values[~np.broadcast_to(clear[:, None], values.shape)] = np.nan
    shares = []
    for day in QUIET_DAYS:
        first = int(np.flatnonzero(days == np.datetime64(day))[0])
        gaps = (days - days[first]).astype(int)
        second = next(i for i in np.flatnonzero((gaps > 0) & (gaps <= 10)) if clear[i].mean() > 0.97)
        found = DETECTOR.compare(values[first], values[second], 0.01)
        shares.append((found.direction[np.isfinite(found.p_value)] != 0).mean())
    assert np.mean(shares) < 0.01
    assert max(shares) < 0.02


def kappa_counts(folder, name):
    rasterio = pytest.importorskip("rasterio")
    from skimage.io import imread
    from skimage.transform import resize

    def read(path):
        with rasterio.open(path) as file:
            return file.read().astype(np.float32)

    place = folder / "labelled" / name
    if name == "landsat_taizhou":
        label = imread(place / "labels_0none_1unchanged_2changed.png")
        before, after, truth, known = read(place / "t1.tif"), read(place / "t2.tif"), label == 2, label > 0
    else:
        truth = imread(place / "gt.png") > 127
        known = np.ones(truth.shape, dtype=bool)
        views = []
        for t in ("t1", "t2"):
            coarse = [resize(b, truth.shape, order=1, preserve_range=True) for b in read(place / f"{t}_20m.jp2")]
            views.append(np.concatenate([read(place / f"{t}_10m.jp2"), np.stack(coarse).astype(np.float32)]))
        before, after = views
    changed = DETECTOR.compare(before, after, 0.01).direction != 0
    return [
        int((a & b & known).sum())
        for a, b in ((changed, truth), (changed, ~truth), (~changed, truth), (~changed, ~truth))
    ]


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_real_pair_of_landsat_images(shared):
    tp, fp, fn, tn = kappa_counts(shared, "landsat_taizhou")
    n = tp + fp + fn + tn
    chance = ((tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)) / n**2
    assert ((tp + tn) / n - chance) / (1 - chance) > 0.9343


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_six_real_cities_beat_two_clusters_by_half(shared):
    cities = sorted(p.name for p in (shared / "labelled" / "oscd").iterdir() if p.is_dir())
    tp, fp, fn, _ = np.sum([kappa_counts(shared, f"oscd/{c}") for c in cities], axis=0)
    assert 2 * tp / (2 * tp + fp + fn) > 1.5 * 0.2215
