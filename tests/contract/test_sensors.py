"""What every sensor must hold to, whoever wrote it."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from compoundwatch import sensors
from compoundwatch.errors import CatalogError, CompoundWatchError

ROOT = Path(__file__).resolve().parents[2]
ALL = list(sensors.available().values())
MASKED = [s for s in ALL if s.valid is not None]

PLAUSIBLE = {
    "reflectance": (0.02, 0.5),
    "linear power": (0.002, 1.0),
    "kelvin": (270.0, 330.0),
    "nW cm-2 sr-1": (0.2, 150.0),
}
"""Values that the ground has, by the unit of a band; a sensor with another unit adds it here."""

every = pytest.mark.parametrize("sensor", ALL, ids=lambda s: s.name)
every_masked = pytest.mark.parametrize("sensor", MASKED, ids=lambda s: s.name)


def measured(sensor):
    """The bands that hold values, not codes."""
    return [b for b in sensor.bands if not b.quality]


def quality_names(sensor):
    return [b.name for b in sensor.bands if b.quality]


def ground(sensor, shape=(6, 8), seed=2):
    """Plausible values of every band, float32 as the loader gives them."""
    rng = np.random.default_rng(seed)
    unknown = {b.unit for b in measured(sensor)} - set(PLAUSIBLE)
    assert not unknown, f"say in PLAUSIBLE which values {sorted(unknown)} may have"
    return {b.name: rng.uniform(*PLAUSIBLE[b.unit], shape).astype(np.float32) for b in measured(sensor)}


def bare_item(sensor):
    """The least that STAC asks of an item, with a file for each band."""
    assets = {b.assets[0]: {"href": "https://example.com/file.tif"} for b in sensor.bands}
    properties = {"datetime": "2024-01-05T03:15:00Z"}
    return {"id": "scene", "collection": sensor.collections[0], "properties": properties, "assets": assets}


# ------------------------------------------------------------------------------------------------- declaration


@every
def test_name_is_that_of_the_file(sensor):
    assert importlib.import_module(f"compoundwatch.sensors.{sensor.name}").SENSOR is sensor


@every
def test_bands(sensor):
    names = [b.name for b in sensor.bands]
    assert len(set(names)) == len(names)
    keys = [key for b in sensor.bands for key in b.assets]
    assert len(set(keys)) == len(keys), "an asset cannot be two bands"
    for band in sensor.bands:
        assert band.assets
        assert band.unit
        assert band.pixel_m > 0
    assert bool(quality_names(sensor)) == (sensor.valid is not None)
    assert sensor.collections
    assert sensor.pixel_m > 0
    assert sensor.revisit_days > 0


@every
def test_features(sensor):
    names = [f.name for f in sensor.features]
    assert len(set(names)) == len(names)
    assert names
    for feature in sensor.features:
        assert feature.bands
        assert set(feature.bands) <= {b.name for b in measured(sensor)}
        assert feature.unit
        assert feature.low < feature.high
        assert feature.increase_suggests


@every
def test_alignment_and_picture_use_bands_that_hold_values(sensor):
    values = {b.name: b for b in measured(sensor)}
    assert sensor.align_on is None or sensor.align_on in values
    if sensor.picture is not None:
        assert len(set(sensor.picture)) == 3
        assert {values[name].unit for name in sensor.picture} == {"reflectance"}


@every
def test_words_for_readers(sensor):
    for words in (sensor.title, sensor.sees, sensor.blind_to, sensor.attribution):
        assert words.strip() == words != ""
        assert not words.endswith("."), "the phrase is put into sentences"


def test_no_collection_belongs_to_two_sensors():
    for a, b in combinations(ALL, 2):
        assert not set(a.collections) & set(b.collections)


def test_features_of_one_name_are_one_measurement():
    """What is called NDVI of one sensor and NDVI of another is the same formula in the same unit."""
    for a, b in combinations(ALL, 2):
        for f in a.features:
            for g in b.features:
                if f.name != g.name:
                    continue
                assert (f.unit, f.low, f.high, f.restless) == (g.unit, g.low, g.high, g.restless)
                assert f.bands == g.bands
                bands = ground(a)
                np.testing.assert_array_equal(f.formula(bands), g.formula(bands))


@every
def test_the_sensor_has_a_page(sensor):
    page = ROOT / "docs" / "sensors" / f"{sensor.name}.md"
    assert page.is_file(), f"write docs/sensors/{sensor.name}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {sensor.name}: ")
    for word in [*(f.name for f in sensor.features), *sensor.collections]:
        assert f"`{word}`" in text, f"the page does not speak of {word}"
    assert re.search(r"^## When it is wrong$", text, re.MULTILINE)
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        file = page.parent / picture
        assert file.is_file()
        assert file.stat().st_size < 80_000


# -------------------------------------------------------------------------------------------------------- mask


@every_masked
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_any_quality_code_gives_a_mask(sensor, shape, kind):
    rng = np.random.default_rng(1)
    highest = 255 if kind is np.uint8 else 65_535
    quality = {name: rng.integers(0, highest, shape, endpoint=True).astype(kind) for name in quality_names(sensor)}
    kept = {k: v.copy() for k, v in quality.items()}
    valid = sensor.valid(quality)
    assert valid.shape == shape
    assert valid.dtype == bool
    for name, codes in kept.items():
        np.testing.assert_array_equal(quality[name], codes)


@every_masked
def test_no_data_is_not_valid(sensor):
    """What the file marks as missing is NaN in every quality band, or in one of them alone."""
    rng = np.random.default_rng(4)
    missing = np.full((4, 6), np.nan, dtype=np.float32)
    names = quality_names(sensor)
    assert not sensor.valid(dict.fromkeys(names, missing)).any()
    for alone in names:
        codes = {name: rng.integers(0, 255, (4, 6)).astype(np.float32) for name in names}
        assert not sensor.valid(codes | {alone: missing}).any(), f"nothing is known where '{alone}' is missing"


@every_masked
def test_the_number_that_stands_for_no_data_is_not_valid(sensor):
    item = bare_item(sensor)
    codes = {}
    for band in (b for b in sensor.bands if b.quality):
        nodata = sensor.calibrate(item, band.assets[0]).nodata
        codes[band.name] = np.full((4, 6), 0 if nodata is None else nodata)
    if not any(sensor.calibrate(item, b.assets[0]).nodata is not None for b in sensor.bands if b.quality):
        pytest.skip(f"no quality band of {sensor.name} has a number for no data")
    assert not sensor.valid(codes).any()


@every_masked
def test_the_mask_is_the_same_for_any_type_of_number(sensor):
    rng = np.random.default_rng(5)
    codes = {name: rng.integers(0, 65_535, (9, 11)).astype(np.uint16) for name in quality_names(sensor)}
    as_floats = {k: v.astype(np.float32) for k, v in codes.items()}
    np.testing.assert_array_equal(sensor.valid(codes), sensor.valid(as_floats))


# ---------------------------------------------------------------------------------------------------- features


@every
def test_features_are_finite_and_plausible_where_the_ground_is(sensor):
    bands = ground(sensor, (40, 50))
    kept = {k: v.copy() for k, v in bands.items()}
    for feature in sensor.features:
        value = feature.formula(bands)
        assert value.shape == (40, 50)
        assert value.dtype == np.float32
        assert np.isfinite(value).all()
        assert ((value >= feature.low) & (value <= feature.high)).all()
    for name, values in kept.items():
        np.testing.assert_array_equal(bands[name], values)


@every
def test_a_missing_band_is_a_missing_feature_there_and_nowhere_else(sensor):
    for missing in measured(sensor):
        bands = ground(sensor)
        bands[missing.name][0, 3] = np.nan
        for feature in sensor.features:
            lost = np.isnan(feature.formula(bands))
            assert lost[0, 3] == (missing.name in feature.bands)
            assert lost.sum() <= 1


@every
@pytest.mark.parametrize("level", [0.0, -0.001, -0.2])
def test_impossible_values_do_not_become_infinite(sensor, level):
    """Noise and atmospheric correction leave zeros and small negative values: they give a number or NaN."""
    bands = {b.name: np.full((3, 4), level, dtype=np.float32) for b in measured(sensor)}
    for feature in sensor.features:
        assert not np.isinf(feature.formula(bands)).any()


@every
def test_each_feature_is_a_function_of_the_bands_it_names(sensor):
    for feature in sensor.features:
        bands = ground(sensor)
        named = {name: bands[name] for name in feature.bands}
        np.testing.assert_array_equal(feature.formula(named), feature.formula(bands))
        for name in feature.bands:
            other = bands | {name: bands[name] + (bands[name].max() - bands[name][::-1, ::-1])}
            assert not np.array_equal(feature.formula(other), feature.formula(bands)), f"'{name}' has no part in it"


# ------------------------------------------------------------------------------------------------------- items

OPTIONAL = {
    "": ("platform", "constellation", "instruments", "created", "updated"),
    "eo": ("cloud_cover",),
    "view": ("off_nadir", "azimuth"),
    "sat": ("orbit_state", "relative_orbit", "absolute_orbit"),
    "s2": ("processing_baseline", "generation_time", "datatake_id", "datastrip_id", "product_uri", "mgrs_tile"),
    "processing": ("software", "version", "level"),
    "landsat": ("wrs_path", "wrs_row", "collection_number", "collection_category", "correction"),
    "proj": ("epsg", "code"),
    "grid": ("code",),
}
"""Properties that items may have, by the prefix of their extension."""


def ask(function, *arguments):
    """What a sensor answers, None where it refuses the item; and the sentence with which it does."""
    try:
        return function(*arguments), ""
    except CatalogError as error:
        return None, str(error)


@every
@pytest.mark.parametrize("empty", [False, True], ids=["absent", "null"])
def test_an_item_that_says_little_is_understood_or_refused(sensor, empty):
    item = bare_item(sensor)
    if empty:
        item["properties"] |= {f"{p}:{n}".lstrip(":"): None for p, names in OPTIONAL.items() for n in names}
    for name in ("look", "acquisition", "processing", "version", "unsuited"):
        text, refusal = ask(getattr(sensor, name), item)
        assert isinstance(text, str) or "scene" in refusal, "the sentence names the item"
    for band in sensor.bands:
        rule, refusal = ask(sensor.calibrate, item, band.assets[0])
        if rule is None:
            assert not band.quality
            assert "scene" in refusal, "the sentence names the item"
            continue
        assert rule.rule
        assert np.isfinite([rule.scale, rule.offset]).all()
        assert rule.scale != 0


@every
def test_answers_depend_on_the_item_alone(sensor):
    first, again = bare_item(sensor), bare_item(sensor)
    for name in ("look", "acquisition", "processing", "version", "unsuited"):
        assert ask(getattr(sensor, name), first) == ask(getattr(sensor, name), again)
    assert first == again, "an item is not changed by asking"


def same_truth(sensor):
    """What the sensor's own tests offer as SAME_TRUTH: (item, asset key, stored numbers) of one ground, each processed
    in another way."""
    name = f"tests.sensors.test_{sensor.name}"
    if importlib.util.find_spec(name) is None:
        return []
    return getattr(importlib.import_module(name), "SAME_TRUTH", [])


@every
def test_all_processings_of_one_truth_give_equal_values(sensor):
    versions = same_truth(sensor)
    if not versions:
        pytest.skip(f"tests/sensors/test_{sensor.name}.py offers no SAME_TRUTH: one processing is known")
    assert len(versions) >= 2
    values = []
    for item, asset_key, stored in versions:
        rule = sensor.calibrate(item, asset_key)
        value = np.asarray(stored) * rule.scale + rule.offset
        if rule.nodata is not None:
            value[np.asarray(stored) == rule.nodata] = np.nan
        values.append(value)
    assert np.isfinite(values[0]).any()
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], rtol=1e-6, atol=1e-9)


# --------------------------------------------------------------------- the questions tell right from wrong


def test_a_wrong_sensor_fails_the_questions():
    """Each question is put to a sensor that breaks just what it asks for."""
    right = sensors.sensor("sentinel2")
    ndvi = right.features[0]

    def wrong_feature(**changes):
        return replace(right, features=(replace(ndvi, **changes),))

    broken = [
        (test_bands, replace(right, bands=(*right.bands, right.bands[0]))),
        (test_bands, replace(right, valid=None)),
        (test_features, wrong_feature(bands=("nir", "ultraviolet"))),
        (test_features, wrong_feature(low=2.0)),
        (test_features, wrong_feature(unit="")),
        (test_features, wrong_feature(bands=("nir", "scl"))),
        (test_alignment_and_picture_use_bands_that_hold_values, replace(right, align_on="ultraviolet")),
        (test_alignment_and_picture_use_bands_that_hold_values, replace(right, picture=("red", "green", "scl"))),
        (test_no_data_is_not_valid, replace(right, valid=lambda q: q["scl"] != 9)),
        (test_the_number_that_stands_for_no_data_is_not_valid, replace(right, valid=lambda q: q["scl"] != 9)),
        (
            test_features_are_finite_and_plausible_where_the_ground_is,
            wrong_feature(formula=lambda b: b["nir"] * 100),
        ),
        (
            test_a_missing_band_is_a_missing_feature_there_and_nowhere_else,
            wrong_feature(formula=lambda b: np.nan_to_num(b["nir"] - b["red"])),
        ),
        (
            test_a_missing_band_is_a_missing_feature_there_and_nowhere_else,
            wrong_feature(formula=lambda b: b["nir"] - b["red"] - b["nir"].mean()),
        ),
        (test_each_feature_is_a_function_of_the_bands_it_names, wrong_feature(formula=lambda b: b["nir"])),
        (test_each_feature_is_a_function_of_the_bands_it_names, wrong_feature(bands=("nir",))),
        (
            test_all_processings_of_one_truth_give_equal_values,
            replace(right, calibrate=lambda item, key: replace(right.calibrate(item, key), offset=0.0)),
        ),
        (test_words_for_readers, replace(right, sees="")),
    ]
    for question, sensor in broken:
        with pytest.raises((AssertionError, KeyError, ValueError, CompoundWatchError)):
            question(sensor)
