"""Sentinel-2 A/B/C MSI, level 2A: surface reflectance at 10 and 20 m with a scene classification (SCL).

Facts and where they come from:

- bands, wavelengths, pixel sizes and the meaning of the SCL codes: ESA, Sentinel-2 Products Specification Document
  (S2-PDGS-TAS-DI-PSD), level 2A; code 2 was renamed to "dark feature / shadow" with processing baseline 04.00;
- reflectance = (stored + BOA_ADD_OFFSET) / 10000 from processing baseline 04.00 on, with an offset of -1000, and
  stored / 10000 before it; a stored 0 is "no data" in both (same document, and ESA's note on baseline 04.00);
- catalogues may have applied the offset already. Their flag ``earthsearch:boa_offset_applied`` then overrules the
  ``raster:bands`` of the same item (Earth Search v1, collection ``sentinel-2-l2a``). The date says nothing: old scenes
  are reprocessed with the offset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import CatalogError
from compoundwatch.formulas import brightness, dilate, ndbi, ndvi
from compoundwatch.model import Band, BoolArray, Calibration, Feature, Sensor, stated_number

SCALE = 1e-4
OFFSET_SINCE_0400 = -0.1
CLEAR_CODES = (4, 5, 6, 7)  # vegetation, bare soil, water, unclassified
CLOUD_CODES = (3, 8, 9, 10)  # cloud shadow, cloud of medium and high probability, thin cirrus
CLOUD_RIM_PIXELS = 2
OFFSET_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


def valid(quality: Mapping[str, npt.NDArray[Any]]) -> BoolArray:
    """True where the scene classification is land or water, and no cloud or shadow lies within 2 pixels."""
    scl = quality["scl"]
    return np.isin(scl, CLEAR_CODES) & ~dilate(np.isin(scl, CLOUD_CODES), CLOUD_RIM_PIXELS)


def calibrate(item: Mapping[str, Any], asset_key: str) -> Calibration:
    """Scale and offset of one asset, as the item itself states them.

    Raises
    ------
    CatalogError : the item states neither an offset nor a processing baseline.
    """
    properties, asset = item["properties"], item["assets"][asset_key]
    if asset_key.lower() == "scl":
        return Calibration(1.0, 0.0, 0.0, "class codes")
    scale, offset = stated_number(asset, "scale"), stated_number(asset, "offset")
    if any(properties.get(flag) is True for flag in OFFSET_FLAGS):
        return Calibration(SCALE if scale is None else scale, 0.0, 0.0, "offset already applied by the catalogue")
    if scale is not None and offset is not None:
        return Calibration(scale, offset, 0.0, "scale and offset of the item")
    baseline = _baseline(item)
    if not baseline:
        raise CatalogError(
            f"item {item['id']} states neither an offset for '{asset_key}' nor a processing baseline, "
            "so its reflectance is unknown; it is left out"
        )
    shifted = baseline >= "04.00"
    return Calibration(SCALE, OFFSET_SINCE_0400 if shifted else 0.0, 0.0, f"processing baseline {baseline}")


def _baseline(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    if stated := properties.get("s2:processing_baseline"):
        return str(stated).zfill(5)
    product = str(properties.get("s2:product_uri") or properties.get("sentinel:product_id") or item["id"])
    match = re.search(r"_N(\d\d)(\d\d)_", product)
    return f"{match[1]}.{match[2]}" if match else ""


def processing(item: Mapping[str, Any]) -> str:
    """Processing baseline, then the time of processing: the newer of two sorts last."""
    properties = item["properties"]
    made = properties.get("s2:generation_time") or properties.get("updated") or properties.get("created") or ""
    return f"{_baseline(item)} {made}".strip()


def acquisition(item: Mapping[str, Any]) -> str:
    """Datatake, strip and tile: equal for two processings of one acquisition.

    A datatake is received in strips. Where one ends within a tile, the tile comes in two products that complete each
    other; the start of the strip tells them apart and stays when they are processed anew.
    """
    properties = item["properties"]
    strip = re.search(r"_S(\d{8}T\d{6})_", str(properties.get("s2:datastrip_id") or ""))
    datatake = re.sub(r"_N\d\d\.\d\d$", "", str(properties.get("s2:datatake_id") or ""))
    if not datatake:
        platform = re.sub(r"[^0-9a-z]", "", str(properties.get("platform") or "").lower())
        datatake = f"{platform} {str(properties.get('datetime'))[:16]}"
    tile = str(properties.get("grid:code") or properties.get("s2:mgrs_tile") or "").removeprefix("MGRS-")
    if not tile:
        match = re.search(r"_T?(\d{1,2}[A-Z]{3})_", str(item["id"]))
        tile = match[1] if match else str(item["id"])
    # Some catalogues write zones below 10 with a zero in front, some without.
    return " ".join([datatake, *([strip[1]] if strip else []), tile.zfill(5)])


def look(item: Mapping[str, Any]) -> str:
    """One look: all orbits see almost straight down, and season and noise terms absorb what remains."""
    return "nadir"


def version(item: Mapping[str, Any]) -> str:
    """Processing baseline: a new one may shift all reflectances a little."""
    return f"baseline {_baseline(item) or 'not stated'}"


def unsuited(item: Mapping[str, Any]) -> str:
    """Every item of the collections is a scene of this sensor."""
    return ""


SENSOR = Sensor(
    name="sentinel2",
    title="Sentinel-2 (optical, 10 m)",
    kind="optical",
    collections=("sentinel-2-c1-l2a", "sentinel-2-l2a"),
    bands=(
        Band("blue", ("blue", "B02"), 10.0, "reflectance"),
        Band("green", ("green", "B03"), 10.0, "reflectance"),
        Band("red", ("red", "B04"), 10.0, "reflectance"),
        Band("nir", ("nir", "B08"), 10.0, "reflectance"),
        Band("swir16", ("swir16", "B11"), 20.0, "reflectance"),
        Band("scl", ("scl", "SCL"), 20.0, "class code", quality=True),
    ),
    features=(
        Feature("ndvi", ndvi, ("nir", "red"), "1", -1.0, 1.0, "more green vegetation"),
        Feature("brightness", brightness, ("green", "red"), "reflectance", -0.2, 1.6, "brighter ground or roofs"),
        Feature("ndbi", ndbi, ("swir16", "nir"), "1", -1.0, 1.0, "more built-up or bare ground"),
    ),
    valid=valid,
    calibrate=calibrate,
    look=look,
    acquisition=acquisition,
    processing=processing,
    version=version,
    unsuited=unsuited,
    pixel_m=10.0,
    revisit_days=5.0,
    align_on="red",
    picture=("red", "green", "blue"),
    sees="roofs, bare ground, vegetation, and yards and roads whose look changes from date to date",
    blind_to="people, night-time use, the inside of buildings, and anything under cloud",
    attribution="contains modified Copernicus Sentinel data",
    offset_step=-OFFSET_SINCE_0400,
)
