"""Sentinel-2 as compoundwatch reads it, but with pixels of vegetation and bare soil alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from compoundwatch.model import BoolArray
from compoundwatch.sensors import sentinel2

LAND = (4, 5)
"""Vegetation and bare soil, codes of the scene classification (SCL)."""


def valid(quality: Mapping[str, npt.NDArray[Any]]) -> BoolArray:
    """True where the scene classification is vegetation or bare soil, and no cloud or shadow lies within 2 pixels."""
    return sentinel2.valid(quality) & np.isin(quality["scl"], LAND)


SENSOR = replace(
    sentinel2.SENSOR,
    name="sentinel2_land",
    title="Sentinel-2 (optical, 10 m), land alone",
    valid=valid,
    blind_to=f"{sentinel2.SENSOR.blind_to}, and water",
)
