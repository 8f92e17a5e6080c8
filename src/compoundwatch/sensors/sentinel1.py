"""Sentinel-1 A/B/C/D C-SAR, radiometrically terrain corrected backscatter (gamma0) in linear power, VV and VH.

Facts and where they come from:

- Interferometric Wide swath (IW) ground range detected, high resolution: 20 m x 22 m resolution, 10 m pixels, an
  equivalent number of looks of 4.4; 175 orbits in a cycle of 12 days: ESA, Sentinel-1 Product Definition
  (S1-RS-MDA-52-7440) and Sentinel-1 User Handbook (GMES-S1OP-EOPG-TN-13-0001);
- collection ``sentinel-1-rtc`` (Planetary Computer): assets ``vv`` and ``vh`` (or ``hh`` and ``hv``) of gamma0,
  properties such as ``platform`` "SENTINEL-1A", ``sat:relative_orbit``, ``s1:datatake_id``, ``s1:slice_number``: the
  notebook sentinel-1-rtc-example.ipynb of github.com/microsoft/PlanetaryComputerExamples, with a "no data" of -32768;
  its neighbour customizable-rtc-sentinel1.ipynb finds them equal to its own gamma0 in linear power;
- some files of that collection are filled with 0 outside the swath: github.com/microsoft/PlanetaryComputer, issues 307
  and 493. No ground returns a power of exactly 0, so 0 is missing as well;
- scenes of one track shift by up to two pixels between platforms and with the orthorectification: the same place,
  issues 404 and 492. Platform and processing are therefore the ``version``, and platforms are never mixed in a look;
- collection ``sentinel1-rtc-aws`` (Indigo Ag, conterminous United States): assets ``gamma0_vv`` and ``gamma0_vh``,
  "no data" 0, one item per acquisition and MGRS square: github.com/stactools-packages/sentinel1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from compoundwatch.errors import CatalogError
from compoundwatch.formulas import decibel
from compoundwatch.model import Band, Calibration, Feature, FloatArray, Sensor

MODE = "IW"
POLARISATIONS = ("VV", "VH")
DECIBEL_UNITS = ("db", "decibel", "decibels")
LOWEST_DB, HIGHEST_DB = -50.0, 40.0
"""Far below the noise of the instrument, and above the brightest corners of buildings."""


def calibrate(item: Mapping[str, Any], asset_key: str) -> Calibration:
    """Stored numbers are linear power as they are; 0 is missing, and so is what the file itself calls "no data".

    Raises
    ------
    CatalogError : the item says that the asset holds decibels.
    """
    asset = item["assets"][asset_key]
    places = [asset, *(asset.get("raster:bands") or []), *(asset.get("bands") or [])]
    if any(str(p.get("unit") or "").lower() in DECIBEL_UNITS for p in places):
        raise CatalogError(
            f"item {item['id']}: asset '{asset_key}' holds decibels, expected gamma0 in linear power; it is left out"
        )
    return Calibration(1.0, 0.0, 0.0, "gamma0 in linear power as stored")


def unsuited(item: Mapping[str, Any]) -> str:
    """Why an item is not for this sensor: another mode, one polarisation alone, or HH and HV. Empty where it is."""
    properties = item["properties"]
    mode = properties.get("sar:instrument_mode")
    if mode != MODE:
        return f"instrument mode {mode or 'not stated'}; only {MODE} is used"
    seen = [str(p).upper() for p in properties.get("sar:polarizations") or []]
    if not set(POLARISATIONS) <= set(seen):
        return f"polarisation {' and '.join(seen) or 'not stated'}; VV and VH are both needed"
    return ""


def _platform(item: Mapping[str, Any]) -> str:
    """One of "S1A", "S1B" and so on: catalogues write sentinel-1a, SENTINEL-1A or Sentinel-1A."""
    stated = str(item["properties"].get("platform") or "")
    match = re.search(r"sentinel-?1([a-z])$", stated, re.IGNORECASE) or re.match(r"S1([A-Z])_", str(item["id"]))
    if match is None:
        raise CatalogError(f"item {item['id']} does not say which Sentinel-1 took it (platform '{stated}')")
    return f"S1{match[1].upper()}"


def look(item: Mapping[str, Any]) -> str:
    """Relative orbit, direction of flight and platform, as in "orbit 121 ascending S1A".

    Raises
    ------
    CatalogError : the item does not state one of them.
    """
    properties = item["properties"]
    orbit, state = properties.get("sat:relative_orbit"), str(properties.get("sat:orbit_state") or "").lower()
    if orbit is None or state not in ("ascending", "descending"):
        raise CatalogError(
            f"item {item['id']} states relative orbit {orbit} and orbit state '{state}'; views of different geometry "
            "cannot be compared, so it is left out"
        )
    return f"orbit {int(orbit)} {state} {_platform(item)}"


def _software(item: Mapping[str, Any]) -> str:
    properties = item["properties"]
    software = properties.get("processing:software") or {}
    names = [f"{name} {number}" for name, number in sorted(software.items())] if isinstance(software, Mapping) else []
    return " ".join([*map(str, filter(None, [properties.get("processing:version")])), *names])


def processing(item: Mapping[str, Any]) -> str:
    """When it was processed, then by what: the newer of two sorts last."""
    properties = item["properties"]
    made = properties.get("s1:processing_datetime") or properties.get("updated") or properties.get("created") or ""
    return f"{made} {_software(item)}".strip()


def version(item: Mapping[str, Any]) -> str:
    """Platform and processing software: either may move the whole picture by a pixel or two."""
    return f"{_platform(item)} {_software(item)}".strip()


def acquisition(item: Mapping[str, Any]) -> str:
    """Datatake and slice: equal for two processings of one acquisition, different for two slices of one pass.

    Where these are not stated, the start of the acquisition to the second and the square of the tiling, if any.
    """
    properties = item["properties"]
    datatake, part = properties.get("s1:datatake_id"), properties.get("s1:slice_number")
    if datatake and part:
        return f"{_platform(item)} datatake {datatake} slice {part}"
    start = str(properties.get("start_datetime") or properties.get("datetime")).replace(" ", "T")[:19]
    square = str(properties.get("grid:code") or properties.get("sentinel:mgrs") or "").removeprefix("MGRS-")
    return f"{_platform(item)} {start} {square}".strip()


def _vv_db(bands: Mapping[str, FloatArray]) -> FloatArray:
    return decibel(bands["vv"])


def _vh_db(bands: Mapping[str, FloatArray]) -> FloatArray:
    return decibel(bands["vh"])


SENSOR = Sensor(
    name="sentinel1",
    title="Sentinel-1 (radar, 10 m)",
    kind="radar",
    collections=("sentinel-1-rtc", "sentinel1-rtc-aws"),
    bands=(
        Band("vv", ("vv", "VV", "gamma0_vv"), 10.0, "linear power"),
        Band("vh", ("vh", "VH", "gamma0_vh"), 10.0, "linear power"),
    ),
    features=(
        Feature("vv_db", _vv_db, ("vv",), "dB", LOWEST_DB, HIGHEST_DB, "more walls, metal or rough ground"),
        Feature("vh_db", _vh_db, ("vh",), "dB", LOWEST_DB, HIGHEST_DB, "more buildings, clutter or tall vegetation"),
    ),
    valid=None,
    calibrate=calibrate,
    look=look,
    acquisition=acquisition,
    processing=processing,
    version=version,
    unsuited=unsuited,
    pixel_m=10.0,
    revisit_days=12.0,
    align_on=None,
    picture=None,
    sees="walls, roofs, fences, vehicles and the roughness and wetness of the ground, by night and through cloud",
    blind_to="people, lights, colours, the inside of buildings, and yards narrower than about 20 m",
    attribution="contains modified Copernicus Sentinel data",
)
