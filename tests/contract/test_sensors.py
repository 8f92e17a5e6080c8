"""What every sensor must hold to, whoever wrote it."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from compoundwatch import sensors

ALL = list(sensors.available().values())
MASKED = [s for s in ALL if s.valid]
"""Sensors whose products have a quality layer."""


@pytest.mark.parametrize("sensor", ALL, ids=lambda s: s.name)
def test_declaration(sensor):
    assert importlib.import_module(f"compoundwatch.sensors.{sensor.name}").SENSOR is sensor
    names = {b.name for b in sensor.bands}
    assert len(names) == len(sensor.bands)
    assert any(b.quality for b in sensor.bands) == (sensor.valid is not None)
    for feature in sensor.features:
        assert set(feature.bands) <= names
        assert feature.unit
        assert feature.low < feature.high
    assert set(sensor.picture or ()) <= names
    assert sensor.sees
    assert sensor.blind_to


@pytest.mark.parametrize("sensor", MASKED, ids=lambda s: s.name)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_any_quality_code_gives_a_mask(sensor, shape):
    rng = np.random.default_rng(1)
    quality = {b.name: rng.integers(0, 65_536, shape) for b in sensor.bands if b.quality}
    kept = {k: v.copy() for k, v in quality.items()}
    valid = sensor.valid(quality)
    assert valid.shape == shape
    assert valid.dtype == bool
    for name, codes in kept.items():
        np.testing.assert_array_equal(quality[name], codes)


@pytest.mark.parametrize("sensor", MASKED, ids=lambda s: s.name)
def test_no_data_is_not_valid(sensor):
    nothing = {b.name: np.zeros((4, 6)) for b in sensor.bands if b.quality}
    missing = {k: np.full((4, 6), np.nan) for k in nothing}
    assert not sensor.valid(nothing).any()
    assert not sensor.valid(missing).any()


@pytest.mark.parametrize("sensor", ALL, ids=lambda s: s.name)
def test_features_are_finite_where_seen_and_missing_elsewhere(sensor):
    rng = np.random.default_rng(2)
    bands = {b.name: rng.uniform(0.02, 0.5, (6, 8)).astype(np.float32) for b in sensor.bands if not b.quality}
    for values in bands.values():
        values[0, 0] = np.nan
    for feature in sensor.features:
        value = feature.formula(bands)
        assert value.dtype == np.float32
        assert np.isnan(value[0, 0])
        rest = value[np.isfinite(value)]
        assert rest.size == 47
        assert ((rest >= feature.low) & (rest <= feature.high)).all()
