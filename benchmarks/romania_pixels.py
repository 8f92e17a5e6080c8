"""Change of real pixels: felled forest and unchanged ground in a Sentinel-2 series of Romania, 2015 to 2020.

    python benchmarks/romania_pixels.py [folder that holds data/]

The series (140 dates, 100 x 100 pixels of 10 m) is data/series/nrt-romania-s2 of the folder of real imagery; without
it the script says so and stops. NDVI where the scene classification says land, water or unclassified, two pixels away
from clouds and their shadows. Reference period: up to 2016-12-31, nine to fifteen views a pixel.

What is true is read from the series by means that share nothing with the detectors:

- "fell, yearly": the median of all views of a year falls by more than 0.2 from 2016 to 2020 (classes 4, 5 and 7, no
  rim: the count of 601 that others have found). Years have different shares of winter views, which move these medians
  without any change on the ground.
- "fell": in addition the median of June to mid-September falls by more than 0.2. Season and number of views are then
  alike in all years.
- "stable": the five medians of June to mid-September 2016 ... 2020 lie within 0.08 (or 0.10) of each other.
- year of the change: that with the largest fall of these summer medians from the year before. A change after the
  middle of September shows in the summer median of the next year, and is counted as right in either.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

from compoundwatch import detectors
from compoundwatch.formulas import normalised_difference
from compoundwatch.sensors.sentinel2 import valid

CUBE = "data/series/nrt-romania-s2/sentinel2_cube_subset_romania_10m.nc"
REFERENCE_END = "2017-01-01"
ALPHA = 0.01
YEARS = range(2016, 2021)
SUMMER = (152, 258)
DEFAULT_SHARED = Path(__file__).resolve().parents[2] / "shared"


def load(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """NDVI as the sensor sees it, NDVI of classes 4, 5 and 7, days since 1970, dates; all (dates, pixels)."""
    with xr.open_dataset(path) as cube:
        red, nir, scl = (cube[name].values for name in ("B4", "B8", "SCL"))
        dates = cube["time"].values.astype("datetime64[D]")
    ndvi = normalised_difference(nir, red).astype(np.float32)
    seen = np.where(valid({"scl": scl}), ndvi, np.nan)
    plain = np.where(np.isin(scl, (4, 5, 7)), ndvi, np.nan)
    return seen.reshape(len(dates), -1), plain.reshape(len(dates), -1), dates.astype(np.int64), dates


def medians(values: np.ndarray, dates: np.ndarray, day_of_year: tuple[int, int] = (0, 366)) -> np.ndarray:
    """Median of each year within days of the year: (years, pixels)."""
    year = dates.astype("datetime64[Y]")
    day = (dates - year).astype(int)
    inside = (day >= day_of_year[0]) & (day <= day_of_year[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.stack([np.nanmedian(values[inside & (year.astype(int) + 1970 == y)], axis=0) for y in YEARS])


def report(name: str, values: np.ndarray, days: np.ndarray, truth: dict[str, np.ndarray], summer: np.ndarray) -> None:
    end = int(np.datetime64(REFERENCE_END).astype(np.int64))
    found = detectors.series_detector(name).test(values, days, end)
    called = found.p_value < ALPHA
    shares = ", ".join(f"{label} {np.mean(called[mask]):.3f} of {mask.sum()}" for label, mask in truth.items())
    date = np.where(np.isfinite(found.day), found.day, 0).astype(np.int64).astype("datetime64[D]")
    year = date.astype("datetime64[Y]").astype(int) + 1970
    late = (date - date.astype("datetime64[Y]")).astype(int) > SUMMER[1]
    wanted = 2017 + np.diff(summer, axis=0).argmin(axis=0)
    right = (year == wanted) | (late & (year == wanted - 1))
    fell = truth["fell"] & called
    print(f"{name:16s} called at {ALPHA}: {shares}")
    print(
        f"{'':16s} of {fell.sum()} felled and found: year right {np.mean(right[fell]):.3f}, falling "
        f"{np.mean(found.statistic[fell] < 0):.3f}, median effect {np.median(found.effect[fell]):+.3f}"
    )


def main() -> None:
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("COMPOUNDWATCH_SHARED", DEFAULT_SHARED))
    if not (shared / CUBE).exists():
        print(f"real imagery not found in {shared}; give the folder that holds data/")
        return
    values, plain, days, dates = load(shared / CUBE)
    yearly, summer = medians(plain, dates), medians(values, dates, SUMMER)
    fell_yearly, fell_summer = yearly[0] - yearly[-1] > 0.2, summer[0] - summer[-1] > 0.2
    moved = np.ptp(summer, axis=0)
    truth = {
        "fell, yearly": fell_yearly,
        "fell": fell_yearly & fell_summer,
        "stable within 0.08": moved < 0.08,
        "stable within 0.10": moved < 0.10,
        "all others": ~fell_yearly,
    }
    print(f"{values.shape[1]} pixels, {len(days)} dates, {np.mean(np.isfinite(values)):.2f} of them seen")
    for name in detectors.available():
        if detectors.available()[name].kind == "series" and name != "omnibus":
            report(name, values, days, truth, summer)


if __name__ == "__main__":
    main()
