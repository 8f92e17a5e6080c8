"""Black Marble: moonlight-corrected light at night, VIIRS on Suomi NPP and NOAA-20, cells of 15 arc-seconds, nightly.

Facts and where they come from ("the guide": Wang, Roman, Shrestha, Yao, Kalb, Black Marble User Guide, Collection 2.0,
NASA, 2024):

- names and layout of the granules, fill values, scale 1 and offset 0 of the radiance (nW cm-2 sr-1, floating point
  since Collection 2): LAADS file specifications VNP46A2_v2.0.fs and VJ146A2_v2.0.fs;
- codes of Mandatory_Quality_Flag: the guide, table 9, pages 16 and 17; 1 was "high quality, ephemeral" in Collection 1
  (guide 1.2, 2021) and is "poor quality" in Collection 2, while 0 is "high quality" in both;
- bits of QF_Cloud_Mask: the guide, table 6;
- radiances below 0.5 nW cm-2 sr-1 are residual background noise and set to zero in the monthly and yearly composites:
  the guide, on these composites; 0.5 is also the smallest radiance aimed at: Roman et al. 2018,
  doi:10.1016/j.rse.2018.03.017;
- overpass about 01:30 local solar time; the ground track repeats every 16 days, and with it the angle of view, which
  moves the brightness of one place by tens of percent: Wang et al. 2021, doi:10.1016/j.rse.2021.112557; Li et al. 2019,
  doi:10.1016/j.rse.2019.111357.

A compound is smaller than one cell. The grid of this sensor is therefore finer (50 m), and each of its pixels takes the
value of the cell in which its centre lies: the mean over the pixels of a site is the mean over cells weighted by
overlap. Pixels of one cell are copies, not independent measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from compoundwatch.errors import AreaError, CatalogError
from compoundwatch.model import Band, BoolArray, Calibration, Feature, FloatArray, Sensor

CELLS_PER_DEGREE = 240
"""Cells of 15 arc-seconds, whose edges lie on whole multiples of that size."""

COLLECTION = "002"
GROUP = "HDFEOS/GRIDS/VIIRS_Grid_DNB_2d/Data Fields/"
RADIANCE, QUALITY, CLOUDS, SNOW = "DNB_BRDF-Corrected_NTL", "Mandatory_Quality_Flag", "QF_Cloud_Mask", "Snow_Flag"
NODATA: Mapping[str, float] = {RADIANCE: -999.9, QUALITY: 255.0, CLOUDS: 65535.0, SNOW: 255.0}

DAY = 1 << 0
MASK_QUALITY = 0b11 << 4  # 0 = poor: too little was known, and the other bits say "clear" for want of a test
CLOUD_CONFIDENCE = 0b11 << 6  # 0 = confident clear
SHADOW, CIRRUS, SNOW_OR_ICE, AURORA, LUNAR_ECLIPSE = 1 << 8, 1 << 9, 1 << 10, 1 << 12, 1 << 13

FLOOR = 0.5
"""nW cm-2 sr-1, added before the logarithm. Below it the product cannot tell light from noise; with it, noise of the
size of the smallest detectable change (0.45) moves the logarithm of a dark cell by less than 1."""
DARKEST = -1.0
"""nW cm-2 sr-1. The correction of moonlight leaves noise around zero; what lies further below stands for "missing"."""


def valid(quality: Mapping[str, npt.NDArray[Any]]) -> BoolArray:
    """True where the main algorithm gave a high-quality value on a confidently clear night without snow or aurora.

    Moonlit nights are used: the product subtracts moonlight, and leaving them out would cost half of the nights. What
    the subtraction leaves is alike at a site and its controls. Nights of a lunar eclipse, for which the model of the
    moon is wrong, are left out. Where a quality layer is missing, nothing is valid.
    """
    clouds = _codes(quality["clouds"], NODATA[CLOUDS])
    unwanted = DAY | CLOUD_CONFIDENCE | SHADOW | CIRRUS | SNOW_OR_ICE | AURORA | LUNAR_ECLIPSE
    clear = (clouds & unwanted == 0) & (clouds & MASK_QUALITY != 0)
    best = _codes(quality["retrieval"], NODATA[QUALITY]) == 0
    bare = _codes(quality["snow"], NODATA[SNOW]) == 0
    return np.asarray(clear & best & bare)


def _codes(values: npt.NDArray[Any], missing: float) -> npt.NDArray[np.int64]:
    """Quality codes, ``missing`` where there is none (NaN)."""
    return np.where(np.isfinite(values), values, missing).astype(np.int64)


def calibrate(item: Mapping[str, Any], asset_key: str) -> Calibration:
    """Values are radiance as they are stored."""
    if asset_key == RADIANCE:
        return Calibration(1.0, 0.0, NODATA[RADIANCE], "radiance as stored in Collection 2")
    return Calibration(1.0, 0.0, NODATA[asset_key], "codes")


def _collection(item: Mapping[str, Any]) -> str:
    return str(item["properties"].get("processing:version") or "")


def look(item: Mapping[str, Any]) -> str:
    """The satellite. Its angles of view repeat every 16 nights; see ``formulas.remove_cycle``.

    Raises
    ------
    CatalogError : the item does not name it.
    """
    platform = str(item["properties"].get("platform") or "")
    if not platform:
        raise CatalogError(f"item {item['id']} does not say which satellite took it; it is left out")
    return platform


def acquisition(item: Mapping[str, Any]) -> str:
    """Satellite, tile and night: equal for two productions of one granule."""
    properties = item["properties"]
    tile = properties.get("grid:code")
    if not tile:
        return str(item["id"])
    return f"{properties.get('platform')} {tile} {str(properties.get('datetime'))[:10]}"


def processing(item: Mapping[str, Any]) -> str:
    """Collection, then time of production: the newer of two sorts last."""
    return f"{_collection(item)} {item['properties'].get('processing:datetime') or ''}".strip()


def version(item: Mapping[str, Any]) -> str:
    """Satellite and collection: all granules of a collection are made alike."""
    platform = item["properties"].get("platform") or "satellite not stated"
    return f"{platform} collection {_collection(item) or 'not stated'}"


def unsuited(item: Mapping[str, Any]) -> str:
    """Granules of another collection, whose layers and codes differ. Empty where the item may be used."""
    stated = _collection(item)
    if stated and stated != COLLECTION:
        return f"it is of collection {stated}, which Collection 2 ({COLLECTION}) replaced from 2012 on; fetch that one"
    return ""


def site_share(geometry: BaseGeometry) -> float:
    """Share (0-1) of the area of its cells that a site covers: how much of what is measured may be its own light.

    The mean over cells weighted by the site's area in each, as the site's radiance is. The footprint of the instrument
    (750 m) is larger than a cell, so the true share is smaller still for sites of a few cells; and where a site is
    brighter than its neighbours, its share of the light is larger than that of the area.

    Parameters
    ----------
    geometry : polygon in longitude and latitude (EPSG:4326).

    Raises
    ------
    AreaError : the geometry has no area.
    """
    west, south, east, north = geometry.bounds if not geometry.is_empty else (0.0, 0.0, 0.0, 0.0)
    total = weighted = 0.0
    for row in range(math.floor(south * CELLS_PER_DEGREE), math.ceil(north * CELLS_PER_DEGREE)):
        for col in range(math.floor(west * CELLS_PER_DEGREE), math.ceil(east * CELLS_PER_DEGREE)):
            edges = (side / CELLS_PER_DEGREE for side in (col, row, col + 1, row + 1))
            part = geometry.intersection(box(*edges)).area * CELLS_PER_DEGREE**2
            middle = math.cos(math.radians((row + 0.5) / CELLS_PER_DEGREE))  # cells shrink towards the poles
            total += part * middle
            weighted += part**2 * middle
    if total <= 0:
        raise AreaError("an outline without an area covers no share of a cell; draw a polygon")
    return min(1.0, weighted / total)


def _lights(bands: Mapping[str, FloatArray]) -> FloatArray:
    """Natural logarithm of radiance plus FLOOR: equal ratios of light are equal differences."""
    radiance = bands["radiance"]
    with np.errstate(invalid="ignore"):
        known = np.where(radiance < DARKEST, np.nan, np.maximum(radiance, 0))
    return np.asarray(np.log(known + FLOOR), dtype=np.float32)


SENSOR = Sensor(
    name="black_marble",
    title="Black Marble (light at night, 15 arc-seconds)",
    kind="lights",
    collections=("VNP46A2", "VJ146A2"),
    bands=(
        Band("radiance", (RADIANCE,), 450.0, "nW cm-2 sr-1", nearest=True, layer=GROUP + RADIANCE),
        Band("retrieval", (QUALITY,), 450.0, "code", quality=True, layer=GROUP + QUALITY),
        Band("clouds", (CLOUDS,), 450.0, "bit field", quality=True, layer=GROUP + CLOUDS),
        Band("snow", (SNOW,), 450.0, "code", quality=True, layer=GROUP + SNOW),
    ),
    features=(
        Feature(
            "lights", _lights, ("radiance",), "ln(nW cm-2 sr-1)", -0.7, 8.0, "more or brighter lamps", restless=False
        ),
    ),
    valid=valid,
    calibrate=calibrate,
    look=look,
    acquisition=acquisition,
    processing=processing,
    version=version,
    unsuited=unsuited,
    pixel_m=50.0,
    revisit_days=1.0,
    align_on=None,
    picture=None,
    sees="the light that a site and its neighbours within about half a kilometre give off at half past one at night",
    blind_to="people, lamps that are out by then, which of two neighbours a lamp belongs to, and anything under cloud",
    attribution="Black Marble data courtesy of NASA (VNP46A2 and VJ146A2, LAADS DAAC)",
    own_share=site_share,
)
