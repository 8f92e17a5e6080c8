"""Multispectral pairs: unchanged pixels, normalisation, sizes, real pairs."""

from __future__ import annotations

import numpy as np
import pytest

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
        images = []
        for t in ("t1", "t2"):
            coarse = [resize(b, truth.shape, order=1, preserve_range=True) for b in read(place / f"{t}_20m.jp2")]
            images.append(np.concatenate([read(place / f"{t}_10m.jp2"), np.stack(coarse).astype(np.float32)]))
        before, after = images
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
