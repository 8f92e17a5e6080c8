"""The main job on real Sentinel-2 imagery: a forest in Romania that is felled patch by patch, 2015-2021.

Turns the 140 dates of the cube `sentinel2_cube_subset_romania` (100 x 100 pixels, real clouds; Copernicus Sentinel
data, fetched by the example `real_sentinel2.py`) into a static STAC catalogue of cloud-optimised GeoTIFFs, draws
sites and controls by a rule that looks at the first half of the series only, runs `compoundwatch.watch` on them, and
compares the result with an independent reading of the same imagery: the yearly medians of the vegetation index.

    python benchmarks/romania_felling.py [OUT]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import xarray as xr
from rasterio.warp import transform

import compoundwatch as cw

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from real_sentinel2 import CRS, fetch, read_cube, write_catalog

REFERENCE_END = dt.date(2017, 1, 1)
SQUARE = 12
"""Sites and controls are squares of so many pixels a side, on a lattice."""
DROP = 0.2
CLEAR = (4, 5, 7)
"""Classes of the independent reading: vegetation, bare, unclassified."""
SUMMER = (6, 9)


def vegetation(cube: xr.Dataset) -> np.ndarray:
    """NDVI (dates, rows, cols), NaN where the scene classification is not clear."""
    red, nir = cube.red.values.astype("float32"), cube.nir.values.astype("float32")
    clear = np.isin(cube.scl.values, CLEAR) & (red > 0) & (nir > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(clear, (nir - red) / (nir + red), np.nan)


def draw_areas(cube: xr.Dataset, ndvi: np.ndarray) -> dict:
    """Eight sites and eight controls: of all lattice squares, the 16 greenest in the first half, in turn."""
    half = len(cube.time) // 2
    green = np.nanmedian(ndvi[:half], axis=0)
    corners = [(r, c) for r in range(2, 100 - SQUARE, SQUARE + 2) for c in range(2, 100 - SQUARE, SQUARE + 2)]
    best = sorted(corners, key=lambda rc: -np.nanmedian(green[rc[0] : rc[0] + SQUARE, rc[1] : rc[1] + SQUARE]))[:16]
    controls = [f"control-{k}" for k in range(8)]
    squares = [(f"site-{k}", "site", rc) for k, rc in enumerate(best[0::2])]
    squares += [(controls[k], "control", rc) for k, rc in enumerate(best[1::2])]
    squares.append(("whole", "site", None))
    features = []
    for name, role, corner in squares:
        row, col, side = (corner[0], corner[1], SQUARE) if corner else (0, 0, 100)
        x, y, pixel = cube.x.values, cube.y.values, 10.0
        xs = [x[col] - pixel / 2, x[col + side - 1] + pixel / 2]
        ys = [y[row] + pixel / 2, y[row + side - 1] - pixel / 2]
        ring = [(xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1]), (xs[0], ys[0])]
        lon, lat = transform(CRS, "EPSG:4326", *zip(*ring, strict=True))
        properties = {"site_id": name, "name": name, "role": role, "source": "drawn by rule, see the example"}
        if role == "site" and corner:
            properties["controls"] = controls
        polygon = {"type": "Polygon", "coordinates": [[[a, b] for a, b in zip(lon, lat, strict=True)]]}
        features.append({"type": "Feature", "properties": properties, "geometry": polygon})
    return {"type": "FeatureCollection", "features": features}


def independent_reading(cube: xr.Dataset, ndvi: np.ndarray) -> dict[str, np.ndarray]:
    """From yearly medians of NDVI alone: which pixels lost vegetation, in which year, and which stayed as they were.

    ``lost``: the median of 2020 lies more than 0.2 below that of 2016; ``year`` is the one whose median falls most
    below the year before. These medians mix the seasons, and 2016 was seen in summer more than 2020: ``bare`` are the
    lost pixels whose summer (June to September) median fell too, by more than 0.15, ``bare_year`` is read from summers.
    ``stable``: no yearly median from 2016 to 2020 lies more than 0.1 from their mean.
    """
    years, months = cube.time.dt.year.values, cube.time.dt.month.values
    summer = (months >= SUMMER[0]) & (months <= SUMMER[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        median = np.stack([np.nanmedian(ndvi[years == y], axis=0) for y in range(2016, 2021)])
        warm = np.stack([np.nanmedian(ndvi[(years == y) & summer], axis=0) for y in range(2016, 2021)])
    lost = median[0] - median[-1] > DROP
    return {
        "lost": lost,
        "year": 2017 + np.argmax(median[:-1] - median[1:], axis=0),
        "bare": lost & (warm[0] - warm[-1] > 0.15),
        "bare_year": 2017 + np.argmax(warm[:-1] - warm[1:], axis=0),
        "stable": np.abs(median - median.mean(axis=0)).max(axis=0) < DROP / 2,
    }


def at_pixels(result: cw.WatchResult, cube: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Direction and year of change of the whole image, looked up at the centres of the cube's pixels."""
    change = next(c for c in result.changes if c.site_id == "whole" and c.feature == "ndvi")
    x, y = np.meshgrid(cube.x.values, cube.y.values)
    east, north = transform(CRS, f"EPSG:{change.grid.epsg}", x.ravel(), y.ravel())
    col = ((np.array(east) - change.grid.left) / change.grid.pixel_m).astype(int).reshape(x.shape)
    row = ((change.grid.top - np.array(north)) / change.grid.pixel_m).astype(int).reshape(x.shape)
    year = change.change_map["date"].values.astype("datetime64[Y]").astype(float) + 1970
    return change.change_map["direction"].values[row, col], year[row, col]


def main() -> None:
    """Run the example and print its comparison with the independent reading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="folder for the results (default: a temporary one)")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="romania-"))
    out.mkdir(parents=True, exist_ok=True)
    cube = read_cube(*fetch(out))
    ndvi = vegetation(cube)
    catalog = write_catalog(cube, out.resolve() / "imagery")
    areas = draw_areas(cube, ndvi)
    whole = [f for f in areas["features"] if f["properties"]["site_id"] == "whole"]
    squares = [f for f in areas["features"] if f not in whole]
    for name, features in (("squares", squares), ("whole", whole)):
        (out / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    settings = cw.Settings(detect={"reference_end": REFERENCE_END}, load={"margin_m": 0})
    span = {"start": dt.date(2015, 8, 1), "end": dt.date(2021, 1, 1), "catalog": catalog, "settings": settings}
    result = cw.watch(out / "squares.geojson", out=out / "squares", **span)
    print(f"{len(result.scenes)} scenes, reference period to {REFERENCE_END}; results in {out}\n")
    for state in result.states:
        print(f"{state.site_id}: {state.state} (score {state.score or 0:.0f}) {state.reason}")
    direction, found_year = at_pixels(cw.watch(out / "whole.geojson", out=out / "whole", **span), cube)
    read = independent_reading(cube, ndvi)
    print()
    for name, year in (("lost", "year"), ("bare", "bare_year")):
        found = read[name] & (direction < 0)
        right = (found_year[found] == read[year][found]).mean()
        print(f"{name}: {read[name].sum()} pixels, found {found.sum() / read[name].sum():.1%}, year right {right:.1%}")
    print(f"stable: {read['stable'].sum()} pixels, flagged {(direction[read['stable']] != 0).mean():.2%}")


if __name__ == "__main__":
    main()
