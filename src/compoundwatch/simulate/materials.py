"""What things on the ground look like: surface reflectance in five bands.

Round figures in the range of published field spectra of such surfaces (for example the ECOSTRESS library; Meerdink et
al. 2019, doi:10.1016/j.rse.2019.05.015), chosen by hand. They set the look of a made-up place, and claim no more.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

BANDS = ("blue", "green", "red", "nir", "swir16")
"""Order of the bands in every array of reflectance."""


class Material(IntEnum):
    """Surfaces whose look may change with the season; roofs and rubble are painted with their own colours."""

    SOIL = 0
    CONCRETE = 1
    ASPHALT = 2
    GRASS = 3
    TREES = 4
    FIELD = 5
    FALLOW = 6
    WATER = 7


def _colour(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


DRY = {
    Material.SOIL: _colour(0.090, 0.135, 0.200, 0.285, 0.360),
    Material.CONCRETE: _colour(0.145, 0.172, 0.195, 0.235, 0.265),
    Material.ASPHALT: _colour(0.100, 0.115, 0.130, 0.165, 0.190),
    Material.GRASS: _colour(0.070, 0.100, 0.120, 0.240, 0.300),
    Material.TREES: _colour(0.038, 0.060, 0.058, 0.250, 0.180),
    Material.FIELD: _colour(0.078, 0.112, 0.145, 0.235, 0.310),
    Material.FALLOW: _colour(0.082, 0.118, 0.160, 0.245, 0.330),
    Material.WATER: _colour(0.062, 0.082, 0.078, 0.048, 0.022),
}
"""Reflectance at the end of the dry season."""

GREEN = {
    Material.GRASS: _colour(0.032, 0.066, 0.042, 0.350, 0.180),
    Material.TREES: _colour(0.024, 0.044, 0.027, 0.320, 0.140),
    Material.FIELD: _colour(0.030, 0.060, 0.036, 0.380, 0.150),
    Material.FALLOW: _colour(0.036, 0.068, 0.050, 0.310, 0.190),
}
"""Reflectance in full green; the others never turn green."""

FLOODED = _colour(0.060, 0.082, 0.075, 0.095, 0.050)
"""A rice field under water before the seedlings stand."""

DARKENING = {
    Material.SOIL: _colour(0.30, 0.30, 0.28, 0.28, 0.45),
    Material.CONCRETE: _colour(0.10, 0.10, 0.10, 0.10, 0.22),
    Material.ASPHALT: _colour(0.10, 0.10, 0.10, 0.10, 0.20),
    Material.FALLOW: _colour(0.22, 0.22, 0.22, 0.15, 0.35),
    Material.FIELD: _colour(0.20, 0.20, 0.20, 0.12, 0.35),
    Material.GRASS: _colour(0.06, 0.06, 0.06, 0.03, 0.15),
}
"""Share of its reflectance that a soaked surface loses; the others lose none."""

ROOFS = np.array(
    [
        [0.330, 0.345, 0.355, 0.385, 0.370],  # light metal
        [0.235, 0.255, 0.265, 0.290, 0.300],  # weathered metal
        [0.250, 0.215, 0.150, 0.290, 0.300],  # blue metal
        [0.085, 0.110, 0.190, 0.270, 0.300],  # tiles
        [0.110, 0.130, 0.175, 0.240, 0.300],  # rust
        [0.180, 0.200, 0.210, 0.235, 0.250],  # concrete
        [0.110, 0.165, 0.130, 0.250, 0.280],  # green metal
    ],
    dtype=np.float32,
)
NEW_ROOF = _colour(0.355, 0.370, 0.380, 0.410, 0.390)
RUBBLE = _colour(0.150, 0.180, 0.210, 0.250, 0.290)

OBJECTS = np.array(
    [
        [0.48, 0.49, 0.50, 0.52, 0.45],  # white vehicle
        [0.05, 0.05, 0.05, 0.08, 0.08],  # dark vehicle
        [0.30, 0.26, 0.20, 0.34, 0.34],  # blue sheet
        [0.42, 0.43, 0.44, 0.47, 0.44],  # laundry, awnings, white sheets
        [0.11, 0.13, 0.17, 0.22, 0.24],  # stacked goods, timber
    ],
    dtype=np.float32,
)
"""Colours of what stands in a yard today and is gone the next time."""
OBJECT_COVER = np.array([0.15, 0.15, 0.35, 0.35, 0.45], dtype=np.float32)
"""Share of a 10 m pixel that each covers."""
OBJECT_SHARE = np.array([0.35, 0.20, 0.15, 0.15, 0.15])
"""How frequent each is among all."""
