"""Small real files for tests: cloud-optimised GeoTIFFs with known pixels, STAC items, and servers on loopback."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from affine import Affine
from RangeHTTPServer import RangeRequestHandler
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

from compoundwatch import simulate as simulator

EPSG = 32648
LEFT, TOP = 300_000.0, 1_200_000.0
"""Corner of the test scenes in UTM zone 48N: open sea, so that no real place is meant."""
SHAPE = (24, 32)
PIXEL_M = {"scl": 20.0, "swir16": 20.0}
VEGETATION = 4


def write_cog(
    path: Path, values: np.ndarray, *, pixel_m: float, left: float = LEFT, top: float = TOP, epsg: int = EPSG
) -> None:
    """One band as a cloud-optimised GeoTIFF, 0 = no data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "COG",
        "width": values.shape[1],
        "height": values.shape[0],
        "count": 1,
        "crs": f"EPSG:{epsg}",
        "transform": Affine(pixel_m, 0, left, 0, -pixel_m, top),
        "dtype": values.dtype,
        "nodata": 0,
    }
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)


def reflectances(shape: tuple[int, int] = SHAPE, **levels: float) -> dict[str, np.ndarray]:
    """Every band of a scene at one reflectance each; SCL says vegetation everywhere."""
    bands = {"blue": 0.05, "green": 0.08, "red": 0.06, "nir": 0.30, "swir16": 0.20} | levels
    made = {}
    for name, level in bands.items():
        factor = int(PIXEL_M.get(name, 10.0) / 10)
        made[name] = np.full((shape[0] // factor, shape[1] // factor), level)
    made["scl"] = np.full((shape[0] // 2, shape[1] // 2), VEGETATION, dtype=np.uint8)
    return made


def write_item(
    folder: Path,
    name: str,
    when: str,
    bands: Mapping[str, np.ndarray],
    *,
    offset: float = 0.0,
    baseline: str = "05.11",
    properties: Mapping[str, Any] | None = None,
    left: float = LEFT,
    top: float = TOP,
    epsg: int = EPSG,
    states_scale: bool = True,
) -> pystac.Item:
    """Write the bands (reflectance; SCL as codes) and describe them as an item, as Earth Search does."""
    rows, cols = bands["red"].shape
    bounds = transform_bounds(f"EPSG:{epsg}", "EPSG:4326", left, top - 10 * rows, left + 10 * cols, top)
    stated = {
        "platform": "sentinel-2b",
        "s2:processing_baseline": baseline,
        "grid:code": "MGRS-48PUA",
        "eo:cloud_cover": 10.0,
        "earthsearch:boa_offset_applied": False,
    } | dict(properties or {})
    item = pystac.Item(
        name,
        mapping(box(*bounds)),
        list(bounds),
        dt.datetime.fromisoformat(when).replace(tzinfo=dt.UTC),
        stated,
        collection="sentinel-2-l2a",
    )
    for band, values in bands.items():
        path = folder / name / f"{band}.tif"
        scaled: dict[str, Any] = {}
        if band == "scl":
            stored = values.astype(np.uint8)
        else:
            stored = np.where(np.isfinite(values), np.rint((values - offset) * 10_000), 0).astype(np.uint16)
            if states_scale:
                scaled = {"raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": offset}]}
        write_cog(path, stored, pixel_m=PIXEL_M.get(band, 10.0), left=left, top=top, epsg=epsg)
        item.add_asset(band, pystac.Asset(str(path), media_type=pystac.MediaType.COG, extra_fields=scaled))
    return item


def save_catalog(folder: Path, items: list[pystac.Item]) -> Path:
    """A self-contained static catalogue; returns its catalog.json."""
    catalog = pystac.Catalog("test", "made for tests")
    catalog.add_items(items)
    catalog.normalize_hrefs(str(folder))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, cwd: Path) -> Iterator[None]:
    """A server process on a port of loopback, stopped at the end."""
    with (cwd / "server.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
                break
            if server.poll() is not None:
                raise RuntimeError((cwd / "server.log").read_text())
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(timeout=10)


@contextlib.contextmanager
def range_server(folder: Path) -> Iterator[str]:
    """An HTTP server that answers range requests; gives its address."""
    port = free_port()
    command = [sys.executable, "-m", "RangeHTTPServer", "--bind", "127.0.0.1", str(port)]
    with running(command, port, folder):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def stac_server(folder: Path, items: list[dict[str, Any]]) -> Iterator[str]:
    """A STAC API over these items; gives its address."""
    import json

    port = free_port()
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "sentinel-2-l2a",
        "description": "made for tests",
        "license": "other",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }
    (folder / "collection.json").write_text(json.dumps(collection))
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    rustac = str(Path(sys.executable).parent / "rustac")
    command = [rustac, "serve", "-a", f"127.0.0.1:{port}", "collection.json", "items.json"]
    with running(command, port, folder):
        yield f"http://127.0.0.1:{port}"


def served_items(folder: Path, url: str) -> list[dict[str, Any]]:
    """The items of a static catalogue, with the addresses that their files have where ``url`` serves its folder."""
    items = []
    for item in pystac.Catalog.from_file(str(folder / "catalog.json")).get_items(recursive=True):
        item.make_asset_hrefs_absolute()
        for asset in item.assets.values():
            asset.href = f"{url}/{asset.href.removeprefix(str(folder)).lstrip('/')}"
        items.append(item.to_dict(include_self_link=False) | {"links": []})
    return items


class RangeServer:
    """Files of a folder by ranges, and what was asked for: (path, first byte, last byte)."""

    def __init__(self, folder: Path) -> None:
        asked = self.asked = []

        class Handler(RangeRequestHandler):
            protocol_version = "HTTP/1.1"

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, directory=str(folder), **options)

            def do_GET(self) -> None:
                asked.append((self.path, *map(int, self.headers["Range"].removeprefix("bytes=").split("-"))))
                super().do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def demolished_place(folder: Path, *, seed: int, revisit_days: int, controls: int) -> simulator.Simulation:
    """A made-up place of one site that is demolished late in 2024, and its controls."""
    return simulator.simulate(
        folder,
        np.random.default_rng(seed),
        scenarios=("demolished",),
        start=dt.date(2023, 1, 2),
        end=dt.date(2025, 3, 31),
        revisit_days=revisit_days,
        controls=controls,
        change_window=(0.6, 0.65),
    )
