"""The main job on real Sentinel-2 imagery: a forest in Romania that is felled patch by patch, 2015-2021.

Turns the 140 dates of the cube `sentinel2_cube_subset_romania` (100 x 100 pixels, real clouds; Copernicus Sentinel
data, distributed with the Python package nrt 0.2.1) into a static STAC catalogue of cloud-optimised GeoTIFFs, draws
sites and controls by a rule that looks at the first half of the series only, runs `compoundwatch.watch` on them, and
compares the result with an independent reading of the same imagery: the yearly medians of the vegetation index.

    python examples/romania_felling.py FOLDER_OF_THE_CUBE [OUT]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pystac
import rasterio
import xarray as xr
from affine import Affine
from rasterio.warp import transform, transform_bounds
from shapely.geometry import box, mapping

import compoundwatch as cw

CRS = "EPSG:3035"
REFERENCE_END = dt.date(2017, 1, 1)
SQUARE = 12
"""Sites and controls are squares of so many pixels a side, on a lattice."""
DROP = 0.2
CLEAR = (4, 5, 7)
"""Classes of the independent reading: vegetation, bare, unclassified."""
SUMMER = (6, 9)


def read_cube(folder: Path) -> xr.Dataset:
    """Blue, green, red, nir at 10 m, swir16 at 20 m repeated to 10 m, and scl: stored numbers, 0 = no data."""
    ten = xr.open_dataset(folder / "sentinel2_cube_subset_romania_10m.nc", mask_and_scale=False, engine="h5netcdf")
    twenty = xr.open_dataset(folder / "sentinel2_cube_subset_romania_20m.nc", mask_and_scale=False, engine="h5netcdf")
    swir = np.repeat(np.repeat(twenty["B11"].values, 2, axis=1), 2, axis=2)
    names = {"B2": "blue", "B3": "green", "B4": "red", "B8": "nir", "SCL": "scl"}
    cube = ten[list(names)].rename(names)
    cube["swir16"] = (("time", "y", "x"), swir)
    return cube.load()


def write_catalog(cube: xr.Dataset, folder: Path) -> Path:
    """A static STAC catalogue of the cube, one item per date; returns the path of its catalog.json."""
    pixel = float(cube.x[1] - cube.x[0])
    place = Affine(pixel, 0, float(cube.x[0]) - pixel / 2, 0, -pixel, float(cube.y[0]) + pixel / 2)
    height, width = cube.sizes["y"], cube.sizes["x"]
    edges = rasterio.transform.array_bounds(height, width, place)
    bounds = transform_bounds(CRS, "EPSG:4326", *edges)
    catalog = pystac.Catalog("romania", "Sentinel-2 L2A over a forest in Romania")
    for k, time in enumerate(cube.time.values):
        when = dt.datetime.fromisoformat(str(time)[:19]).replace(tzinfo=dt.UTC)
        item = pystac.Item(
            f"romania-{when:%Y%m%d}",
            mapping(box(*bounds)),
            list(bounds),
            when,
            {"platform": "sentinel-2", "grid:code": "ROMANIA"},
            collection="sentinel-2-l2a",
        )
        for band in ("blue", "green", "red", "nir", "swir16", "scl"):
            path = folder / item.id / f"{band}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = cube[band].values[k].astype("uint8" if band == "scl" else "uint16")
            profile = {"driver": "COG", "width": width, "height": height, "count": 1, "crs": CRS, "transform": place}
            with rasterio.open(path, "w", **profile, dtype=values.dtype, nodata=0, compress="deflate") as file:
                file.write(values, 1)
            scaled = {} if band == "scl" else {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": 0.0}]}
            item.add_asset(band, pystac.Asset(str(path), media_type=pystac.MediaType.COG, extra_fields=scaled))
        catalog.add_item(item)
    catalog.normalize_hrefs(str(folder))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


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
    parser.add_argument("cube", type=Path, help="folder with sentinel2_cube_subset_romania_10m.nc and _20m.nc")
    parser.add_argument("out", type=Path, nargs="?", help="folder for the results (default: a temporary one)")
    arguments = parser.parse_args()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="romania-"))
    cube = read_cube(arguments.cube)
    ndvi = vegetation(cube)
    catalog = write_catalog(cube, out / "imagery")
    areas = draw_areas(cube, ndvi)
    whole = [f for f in areas["features"] if f["properties"]["site_id"] == "whole"]
    squares = [f for f in areas["features"] if f not in whole]
    for name, features in (("squares", squares), ("whole", whole)):
        (out / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    settings = cw.Settings(detect={"reference_end": REFERENCE_END}, load={"margin_m": 0})
    span = {"start": dt.date(2015, 8, 1), "end": dt.date(2021, 1, 1), "catalog": catalog.parent, "settings": settings}
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
