"""Landsat 8 and 9 OLI and TIRS, Collection 2 Level 2: surface reflectance and surface temperature at 30 m.

Facts and where they come from:

- bands, the bits of QA_PIXEL and QA_RADSAT, fill values, names of products: USGS, Landsat 8-9 Collection 2 Level 2
  Science Product Guide (LSDS-1619) and Data Format Control Book (LSDS-1328);
- reflectance = 0.0000275 x stored - 0.2 and temperature = 0.00341802 x stored + 149 kelvin, a stored 0 is "no data":
  USGS, "How do I use a scale factor with Landsat Level-2 science products?"; equal for all scenes of the collection,
  and an item that says otherwise is refused;
- Tier 1: geometric error of at most 12 m; real-time scenes are replaced after two to four weeks: USGS, "Landsat
  Collections";
- temperature is missing for ever where the ASTER emissivity map has gaps: USGS, "Landsat Collection 2 Surface
  Temperature data gaps due to missing ASTER GED".

The collections ``landsat-c2l2-sr`` and ``landsat-c2l2-st`` of the USGS's own catalogue are not asked for: they give
reflectance and temperature of one scene as two items, and their files need an account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import CatalogError
from compoundwatch.formulas import brightness, dilate, ndbi, ndvi
from compoundwatch.model import Band, BoolArray, Calibration, Feature, FloatArray, Sensor, stated_number

REFLECTANCE = (2.75e-5, -0.2)
KELVIN = (0.00341802, 149.0)
TEMPERATURE_ASSETS = ("lwir11", "ST_B10")

FILL = 1 << 0
CLOUDS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4  # rim of a cloud, cirrus, cloud, cloud shadow
SNOW = 1 << 5
CLOUD_CONFIDENCE = 0b11 << 8  # 0 = the cloud mask was not made
SATURATED = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5  # bands 2 to 6
OCCLUDED = 1 << 11  # hidden behind terrain
CLOUD_RIM_PIXELS = 2
"""Landsat's pixels lie half-way between those of our grids, so that a value is a mean over two by two of them; shadows
have no rim of their own in QA_PIXEL; and a temperature is seen with 100 m."""

MAX_OFF_NADIR = 1.0
"""Degrees; a scene that was pointed aside belongs to another look. The field of view itself reaches 7.5 degrees."""

_PRODUCT = re.compile(r"L([A-Z])0?(\d)_L2S[PR]_(\d{6})_(\d{8})(?:_(\d{8}))?_(\d\d)_(RT|T1|T2)")


def valid(quality: Mapping[str, npt.NDArray[Any]]) -> BoolArray:
    """True where no cloud, cirrus, shadow or snow was found, and no band in use is saturated or hidden by terrain.

    Two more pixels are left out around clouds and shadows. Where the quality is missing, nothing is valid.
    """
    pixel = _bits(quality["qa_pixel"], FILL)
    radiometry = _bits(quality["qa_radsat"], OCCLUDED)
    seen = (pixel & (FILL | SNOW) == 0) & (pixel & CLOUD_CONFIDENCE != 0) & (radiometry & (SATURATED | OCCLUDED) == 0)
    return np.asarray(seen & ~dilate(pixel & CLOUDS != 0, CLOUD_RIM_PIXELS))


def _bits(codes: npt.NDArray[Any], missing: int) -> npt.NDArray[np.int64]:
    """Quality words, ``missing`` where there is none (NaN)."""
    return np.where(np.isfinite(codes), codes, missing).astype(np.int64)


def calibrate(item: Mapping[str, Any], asset_key: str) -> Calibration:
    """Scale and offset of Collection 2 Level 2.

    Raises
    ------
    CatalogError : the item is of another collection, or states another scale or offset.
    """
    if asset_key.lower() == "qa_pixel":
        return Calibration(1.0, 0.0, float(FILL), "bit fields")
    if asset_key.lower() == "qa_radsat":
        return Calibration(1.0, 0.0, None, "bit fields")
    if _collection(item) != "02":
        raise CatalogError(
            f"item {item['id']} is of Landsat collection '{_collection(item) or 'not stated'}', expected 02, whose "
            "numbers this sensor can read; it is left out"
        )
    known = KELVIN if asset_key in TEMPERATURE_ASSETS else REFLECTANCE
    asset = item["assets"][asset_key]
    for name, expected in zip(("scale", "offset"), known, strict=True):
        found = stated_number(asset, name)
        if found is not None and not np.isclose(found, expected, rtol=1e-6):
            raise CatalogError(
                f"item {item['id']} states the {name} {found:g} for '{asset_key}', expected {expected:g} as in all "
                "of Collection 2 Level 2; its values cannot be trusted, and it is left out"
            )
    return Calibration(*known, 0.0, "scale and offset of Collection 2 Level 2")


def _product(item: Mapping[str, Any]) -> re.Match[str] | None:
    """The product's name, which the item or its files carry; only files tell the day of processing (group 5)."""
    files = [str(asset.get("href")).rsplit("/", 1)[-1] for asset in item["assets"].values()]
    found = [m for text in (*files, str(item.get("id"))) if (m := _PRODUCT.search(text))]
    return next((m for m in found if m[5]), found[0] if found else None)


def _collection(item: Mapping[str, Any]) -> str:
    product = _product(item)
    return str(item["properties"].get("landsat:collection_number") or (product[6] if product else ""))


def _tier(item: Mapping[str, Any]) -> str:
    product = _product(item)
    return str(item["properties"].get("landsat:collection_category") or (product[7] if product else ""))


def _satellite(item: Mapping[str, Any]) -> str:
    """``landsat-8`` or the like, empty where the item does not say."""
    stated = re.search(r"(\d)$", str(item["properties"].get("platform") or ""))
    product = _product(item)
    number = stated[1] if stated else product[2] if product else ""
    return f"landsat-{number}" if number else ""


def processing(item: Mapping[str, Any]) -> str:
    """Day of processing, then the tier: a real-time scene is older than what replaces it."""
    product = _product(item)
    return f"{(product[5] if product else '') or ''} {_tier(item)}".strip()


def acquisition(item: Mapping[str, Any]) -> str:
    """Satellite, path, row and day: equal for a real-time scene and what replaces it."""
    properties, product = item["properties"], _product(item)
    path, row = properties.get("landsat:wrs_path"), properties.get("landsat:wrs_row")
    if path and row:
        place, day = f"{str(path).zfill(3)}{str(row).zfill(3)}", str(properties.get("datetime"))[:10].replace("-", "")
    elif product:
        place, day = product[3], product[4]
    else:
        return str(item.get("id"))
    return f"{_satellite(item)} {place} {day}"


def look(item: Mapping[str, Any]) -> str:
    """One look: scenes look straight down; neighbouring paths differ little, see docs/sensors/landsat.md."""
    return "nadir"


def version(item: Mapping[str, Any]) -> str:
    """Satellite and collection: all scenes of a collection are processed alike."""
    return f"{_satellite(item) or 'satellite not stated'} collection {_collection(item) or 'not stated'}"


def unsuited(item: Mapping[str, Any]) -> str:
    """Other satellites, poorly placed scenes (Tier 2), scenes taken aside, scenes without temperature."""
    satellite, tier = _satellite(item), _tier(item)
    aside = item["properties"].get("view:off_nadir")
    if satellite not in ("landsat-8", "landsat-9"):
        return f"it is of {satellite or 'a satellite it does not name'}; only Landsat 8 and 9 are read"
    if tier == "T2":
        return "it is a Tier 2 scene: USGS does not vouch that it lies within 12 m of its place"
    if isinstance(aside, int | float) and abs(aside) > MAX_OFF_NADIR:
        return f"it was taken {abs(aside):.1f} degrees aside of the nadir"
    if not any(item["assets"].get(key, {}).get("href") for key in TEMPERATURE_ASSETS):
        return "it has no surface temperature, which USGS could not derive (L2SR)"
    return ""


def _temperature(bands: Mapping[str, FloatArray]) -> FloatArray:
    return bands["lwir11"]


SENSOR = Sensor(
    name="landsat",
    title="Landsat 8 and 9 (optical and thermal, 30 m)",
    kind="optical",
    collections=("landsat-c2-l2",),
    bands=(
        Band("blue", ("blue", "SR_B2"), 30.0, "reflectance"),
        Band("green", ("green", "SR_B3"), 30.0, "reflectance"),
        Band("red", ("red", "SR_B4"), 30.0, "reflectance"),
        Band("nir", ("nir08", "SR_B5"), 30.0, "reflectance"),
        Band("swir16", ("swir16", "SR_B6"), 30.0, "reflectance"),
        Band("lwir11", TEMPERATURE_ASSETS, 30.0, "kelvin"),
        Band("qa_pixel", ("qa_pixel", "QA_PIXEL"), 30.0, "bit field", quality=True),
        Band("qa_radsat", ("qa_radsat", "QA_RADSAT"), 30.0, "bit field", quality=True),
    ),
    features=(
        Feature("ndvi", ndvi, ("nir", "red"), "1", -1.0, 1.0, "more green vegetation"),
        Feature("brightness", brightness, ("green", "red"), "reflectance", -0.2, 1.6, "brighter ground or roofs"),
        Feature("ndbi", ndbi, ("swir16", "nir"), "1", -1.0, 1.0, "more built-up or bare ground"),
        Feature(
            "temperature", _temperature, ("lwir11",), "kelvin", 240.0, 350.0, "warmer ground or roofs", restless=False
        ),
    ),
    valid=valid,
    calibrate=calibrate,
    look=look,
    acquisition=acquisition,
    processing=processing,
    version=version,
    unsuited=unsuited,
    pixel_m=30.0,
    revisit_days=8.0,
    align_on="red",
    picture=("red", "green", "blue"),
    sees="large roofs, bare ground, vegetation, and the warmth of the surface about 10:15 in the morning",
    blind_to="people, night-time use, single small buildings, the inside of buildings, and anything under cloud",
    attribution="Landsat data courtesy of the U.S. Geological Survey (public domain)",
)
