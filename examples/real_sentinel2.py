"""Real Sentinel-2 without an account: 140 dates of a forest in Romania that is felled patch by patch, 2015-2021.

Needs ``pip install h5netcdf`` and, the first time, PyPI: the pictures (Copernicus Sentinel data, 100 x 100 pixels with
their clouds) come inside the Python package nrt 0.2.1, of which nothing else is used. Turns them into a STAC catalogue,
watches one square of forest with four others as its controls, and prints what is said of it.

    python examples/real_sentinel2.py [--out romania] [--every 1]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pystac
import rasterio
import xarray as xr
from affine import Affine
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

import compoundwatch as cw

CRS, PIXEL_M = "EPSG:3035", 10
NAMES = {"B2": "blue", "B3": "green", "B4": "red", "B8": "nir", "SCL": "scl"}


def fetch(folder: Path) -> list[Path]:
    """The two files of pictures, at 10 m and at 20 m; from PyPI unless they are there already."""
    files = [folder / f"sentinel2_cube_subset_romania_{size}m.nc" for size in (10, 20)]
    if not all(file.is_file() for file in files):
        get = ["download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), "nrt==0.2.1"]
        subprocess.run([sys.executable, "-m", "pip", "--quiet", *get], check=True)
        with zipfile.ZipFile(folder / "nrt-0.2.1-py3-none-any.whl") as wheel:
            for file in files:
                file.write_bytes(wheel.read(f"nrt/data/{file.name}"))
    return files


def read_cube(ten: Path, twenty: Path) -> xr.Dataset:
    """Six bands (time, y, x) on the pixels of 10 m: stored numbers, 0 = no data."""
    fine, coarse = (xr.open_dataset(p, mask_and_scale=False, engine="h5netcdf").load() for p in (ten, twenty))
    swir = coarse["B11"].values.repeat(2, axis=1).repeat(2, axis=2)
    return fine[list(NAMES)].rename(NAMES).assign(swir16=(("time", "y", "x"), swir))


def write_catalog(cube: xr.Dataset, folder: Path) -> Path:
    """A static STAC catalogue with an item for each date and a cloud-optimised GeoTIFF for each band."""
    left, top, rows, cols = float(cube.x[0]) - 5, float(cube.y[0]) + 5, cube.sizes["y"], cube.sizes["x"]
    bounds = transform_bounds(CRS, "EPSG:4326", left, top - rows * PIXEL_M, left + cols * PIXEL_M, top)
    catalog = pystac.Catalog("romania", "Sentinel-2 L2A over a forest in Romania")
    about = {"platform": "sentinel-2", "grid:code": "ROMANIA"}
    profile = {"driver": "COG", "width": cols, "height": rows, "count": 1, "crs": CRS, "compress": "deflate"}
    profile |= {"transform": Affine(PIXEL_M, 0, left, 0, -PIXEL_M, top), "nodata": 0}
    for k, time in enumerate(cube.time.values):
        when = dt.datetime.fromisoformat(str(time)[:19]).replace(tzinfo=dt.UTC)
        name = f"romania-{when:%Y%m%d}"
        item = pystac.Item(name, mapping(box(*bounds)), list(bounds), when, about, collection="sentinel-2-l2a")
        (folder / name).mkdir(parents=True, exist_ok=True)
        for band in cube:
            path = folder / name / f"{band}.tif"
            values = cube[band].values[k].astype("uint8" if band == "scl" else "uint16")
            with rasterio.open(path, "w", dtype=values.dtype, **profile) as file:
                file.write(values, 1)
            scaled = {} if band == "scl" else {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": 0.0}]}
            item.add_asset(band, pystac.Asset(str(path), media_type=pystac.MediaType.COG, extra_fields=scaled))
        catalog.add_item(item)
    catalog.normalize_hrefs(str(folder))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return folder


def square(cube: xr.Dataset, name: str, role: str, row: int, col: int, side: int = 12) -> dict:
    """A square of so many pixels a side, as a feature of a file of areas."""
    west, north = float(cube.x[col]) - 5, float(cube.y[row]) + 5
    edges = transform_bounds(CRS, "EPSG:4326", west, north - side * PIXEL_M, west + side * PIXEL_M, north)
    about = {"site_id": name, "name": name, "role": role, "source": "drawn by hand on the pictures"}
    return {"type": "Feature", "properties": about, "geometry": mapping(box(*edges))}


def main() -> None:
    """Fetch, catalogue, draw, watch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("romania"))
    parser.add_argument("--every", type=int, default=1, help="take every n-th date only, to be quicker")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cube = read_cube(*fetch(given.out)).isel(time=slice(None, None, given.every))
    catalog = write_catalog(cube, given.out.resolve() / "imagery")
    corners = [("site", 56, 80), ("control", 84, 16), ("control", 16, 32), ("control", 68, 16), ("control", 32, 40)]
    features = [square(cube, f"{role}-{k}", role, row, col) for k, (role, row, col) in enumerate(corners)]
    areas = given.out / "sites.geojson"
    areas.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    span = {"start": dt.date(2015, 8, 1), "end": dt.date(2021, 1, 1)}
    settings = cw.Settings(load={"margin_m": 0})  # the pictures end near the squares
    result = cw.watch(areas, catalog=catalog, out=given.out / "result", settings=settings, **span)
    print(f"{len(result.scenes)} dates used, {len(result.skipped)} things left out")
    for state in result.states:
        print(f"{state.site_id}: {state.state}, {state.change_date or 'no date'}. {state.reason}")


if __name__ == "__main__":
    main()
