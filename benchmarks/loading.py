"""How fast a stack is read: 120 dates of 6 bands over a place of 200 x 200 pixels, beside the limit and other readers.

    python benchmarks/loading.py --data FOLDER            # the imagery is made there once, 0.6 GB
    python benchmarks/loading.py --data FOLDER --rounds 5

Read from this machine's disk, and over HTTP from nginx (with its echo module; else from a plain server in Python) that
takes 20 ms for every answer. Each figure is the best of some rounds in fresh processes, which take turns, so that a
busy machine is unfair to none. What is compared:

limit       unpacking the 1,440 blocks that hold the place, from memory, on two threads: nothing can be faster
index       a reader that was told beforehand where every block lies: one request a block, 32 at a time
this        compoundwatch.stack.load: masked reflectance as features
kept        the same from the chips of an earlier run; "keeping" is the run that writes them
odc-stac, stackstac: bands as stored, with Dask's threads (``pip install odc-stac stackstac``; left out where missing)
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import http.client
import json
import math
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

BANDS = ("blue", "green", "red", "nir", "swir16", "scl")
LEVELS = {"blue": 1600, "green": 1900, "red": 1800, "nir": 3600, "swir16": 2800}
DATES, DISTINCT, SIDE, BLOCK = 120, 4, 4096, 512
EPSG, LEFT, TOP = 32633, 499_980.0, 5_300_040.0
COL, ROW, WINDOW = 1900, 2100, 200
MODULES = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")


# ------------------------------------------------------------------------------------------------------- the imagery


def landscape(side: int, slope: float, seed: int) -> np.ndarray:
    """Hills and fields of all sizes: float32 with mean 0 and spread 1."""
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32))
    k = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    k[0, 0] = 1
    field = np.fft.irfft2(noise * k ** (-slope / 2), s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def write(path: Path, values: np.ndarray) -> None:
    step = 10.0 * SIDE / values.shape[1]
    size = {"width": values.shape[1], "height": values.shape[0], "count": 1, "dtype": values.dtype, "nodata": 0}
    place = {"crs": f"EPSG:{EPSG}", "transform": Affine(step, 0, LEFT, 0, -step, TOP)}
    packing = {"compress": "DEFLATE", "predictor": "YES", "level": 6, "blocksize": BLOCK, "num_threads": 2}
    with rasterio.open(path, "w", driver="COG", **size, **place, **packing) as file:
        file.write(values, 1)


def folders(data: Path) -> list[Path]:
    first = dt.date(2022, 1, 2)
    return [data / f"S2_{first + dt.timedelta(days=5 * k):%Y%m%d}" for k in range(DATES)]


def make(data: Path) -> None:
    """Write DISTINCT scenes, and link them to the folders of all dates."""
    if (data / "made").exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    coarse, fine = landscape(SIDE, 2.2, 1), landscape(SIDE, 1.2, 2)
    for k in range(DISTINCT):
        for band, level in LEVELS.items():
            noise = rng.normal(0, 12, (SIDE, SIDE)).astype(np.float32)
            season = 1 + 0.2 * math.sin(2 * math.pi * k / DISTINCT)
            write(
                data / f"{k}_{band}.tif",
                (level + 0.15 * level * (coarse * season + 0.35 * fine) + noise).clip(1, 20_000).astype(np.uint16),
            )
        clouds = landscape(SIDE // 2, 2.6, 100 + k)
        write(data / f"{k}_scl.tif", np.where(clouds > 1.2, 9, np.where(clouds > 1, 8, 4)).astype(np.uint8))
    for k, folder in enumerate(folders(data)):
        folder.mkdir(exist_ok=True)
        for band in BANDS:
            (folder / f"{band}.tif").unlink(missing_ok=True)
            os.link(data / f"{k % DISTINCT}_{band}.tif", folder / f"{band}.tif")
    (data / "made").touch()


# -------------------------------------------------------------------------------------------------------- the server

NGINX = """
load_module {module};
worker_processes 1; pid {here}/pid; error_log {here}/error.log; daemon off;
events {{ worker_connections 1024; }}
http {{
  access_log {here}/access.log; keepalive_requests 100000; sendfile on; tcp_nodelay on;
  client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
  uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
  server {{
    listen 127.0.0.1:{port};
    location / {{ echo_sleep {delay}; echo_exec @files; }}
    location @files {{ root {data}; }}
  }}
}}
"""


@contextlib.contextmanager
def served(data: Path, delay: float) -> Iterator[tuple[str, Path | None]]:
    """A server of ranges that waits before each answer; its address, and its log of requests where it keeps one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    with tempfile.TemporaryDirectory() as here:
        if not nginx or not MODULES.exists():
            with plain_server(data, port, delay):
                yield f"http://127.0.0.1:{port}", None
            return
        conf = Path(here) / "nginx.conf"
        conf.write_text(NGINX.format(module=MODULES, here=here, port=port, delay=delay, data=data.resolve()))
        server = subprocess.Popen([nginx, "-c", conf, "-p", here])
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}", Path(here) / "access.log"
        finally:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def plain_server(data: Path, port: int, delay: float) -> Iterator[None]:
    from RangeHTTPServer import RangeRequestHandler

    class Late(RangeRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, directory=str(data), **options)

        def do_GET(self) -> None:
            time.sleep(delay)
            super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Late)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()


# ------------------------------------------------------------------------------------------------------- the readers


class Clock:
    """Seconds that a part of a reader takes, and of the processor."""

    def __enter__(self) -> Clock:
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *failure: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


def blocks_of(data: Path) -> list[tuple[str, int, int, int, np.dtype, int]]:
    """Where the blocks lie that hold the place: file, first byte, length, length unpacked, type and number of band."""
    import tifffile

    found = []
    for folder in folders(data):
        for j, band in enumerate(BANDS):
            with tifffile.TiffFile(folder / f"{band}.tif") as file:
                page = file.pages.first
                z = SIDE // page.imagewidth
                across = page.imagewidth // BLOCK
                for row in range(ROW // z // BLOCK, (ROW + WINDOW - 1) // z // BLOCK + 1):
                    for col in range(COL // z // BLOCK, (COL + WINDOW - 1) // z // BLOCK + 1):
                        n, size = row * across + col, BLOCK * BLOCK * page.dtype.itemsize
                        place = f"{folder.name}/{band}.tif", page.dataoffsets[n], page.databytecounts[n]
                        found.append((*place, size, page.dtype, j))
    return found


def unpack(packed: bytes, size: int, dtype: np.dtype) -> np.ndarray:
    import imagecodecs

    block = np.frombuffer(imagecodecs.deflate_decode(packed, out=size), dtype).reshape(BLOCK, BLOCK)
    return imagecodecs.delta_decode(block, axis=1)


def limit(data: Path, base: str) -> Clock:
    blocks = [(data, b) for b in blocks_of(data)]
    packed = []
    for _, (name, start, size, whole, dtype, _band) in blocks:
        with open(data / name, "rb") as file:
            file.seek(start)
            packed.append((file.read(size), whole, dtype))
    with Clock() as clock, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda part: [unpack(*p)[0, 0] for p in part], (packed[::2], packed[1::2])))
    return clock


def index(data: Path, base: str) -> Clock:
    blocks, mine = blocks_of(data), threading.local()
    host = base.removeprefix("http://")

    def fetch(name: str, start: int, size: int) -> bytes:
        if not base:
            with open(data / name, "rb", buffering=0) as file:
                return os.pread(file.fileno(), size, start)
        if not hasattr(mine, "connection"):
            mine.connection = http.client.HTTPConnection(host)
        mine.connection.request("GET", f"/{name}", headers={"Range": f"bytes={start}-{start + size - 1}"})
        return mine.connection.getresponse().read()

    def one(block: tuple[str, int, int, int, np.dtype, int]) -> None:
        name, start, size, whole, dtype, _ = block
        unpack(fetch(name, start, size), whole, dtype)

    with Clock() as clock, ThreadPoolExecutor(32 if base else 2) as pool:
        list(pool.map(one, blocks))
    return clock


def this(data: Path, base: str, chips: str = "", threads: int = 0) -> Clock:
    with contextlib.suppress(ImportError):
        import dask.array  # noqa: F401 - which xarray loads with its first dataset; no reader's imports are counted

    from compoundwatch import stack
    from compoundwatch.grid import Grid
    from compoundwatch.model import Access, Asset, Calibration, LoadSettings, Scene
    from compoundwatch.sensors.sentinel2 import SENSOR

    own = Access(frozenset({"127.0.0.1"}))
    rule, code = Calibration(1e-4, -0.1, 0.0, "made"), Calibration(1.0, 0.0, 0.0, "made")
    scenes = []
    for folder in folders(data):
        assets = {
            b: Asset(f"{base or data.resolve()}/{folder.name}/{b}.tif", code if b == "scl" else rule, access=own)
            for b in BANDS
        }
        when = dt.datetime.strptime(folder.name, "S2_%Y%m%d").replace(hour=10, tzinfo=dt.UTC)
        known = ("sentinel2", "made", "made", when, folder.name, "nadir", "05.11", "05.11", None)
        scenes.append(Scene(folder.name, *known, assets, None))
    grid = Grid(EPSG, LEFT + 10 * COL, TOP - 10 * ROW, 10.0, WINDOW, WINDOW)
    options = {}
    if chips:
        options["chips"] = stack.Chips(Path(chips), 10_000).around(grid)
    with Clock() as clock:
        cube, skipped = stack.load(stack.by_day(scenes), SENSOR, grid, threads or LoadSettings().threads, **options)
    assert not skipped
    check(data, cube)
    return clock


def check(data: Path, cube: object) -> None:
    """What was read is what GDAL reads."""
    with rasterio.open(folders(data)[7] / "red.tif") as red, rasterio.open(folders(data)[7] / "nir.tif") as nir:
        window = rasterio.windows.Window(COL, ROW, WINDOW, WINDOW)
        r, n = (np.asarray(f.read(1, window=window), dtype=np.float64) * 1e-4 - 0.1 for f in (red, nir))
    found = cube["ndvi"].values[7]
    seen = np.isfinite(found)
    assert seen.mean() > 0.3
    np.testing.assert_allclose(found[seen], ((n - r) / (n + r))[seen], rtol=1e-4, atol=1e-4)


def items(data: Path, base: str) -> list:
    import pystac

    made = []
    outline = {"type": "Polygon", "coordinates": [[[15, 47.4], [15.6, 47.4], [15.6, 47.9], [15, 47.9], [15, 47.4]]]}
    for folder in folders(data):
        when = dt.datetime.strptime(folder.name, "S2_%Y%m%d").replace(hour=10, tzinfo=dt.UTC)
        item = pystac.Item(folder.name, outline, [15, 47.4, 15.6, 47.9], when, {"proj:code": f"EPSG:{EPSG}"})
        item.properties["proj:epsg"] = EPSG
        item.collection_id = "made"
        for band in BANDS:
            step, side = (20, SIDE // 2) if band == "scl" else (10, SIDE)
            numbers = {"nodata": 0, "data_type": "uint8" if band == "scl" else "uint16"}
            place = {"proj:shape": [side, side], "proj:transform": [step, 0, LEFT, 0, -step, TOP, 0, 0, 1]}
            href = f"{base or data.resolve()}/{folder.name}/{band}.tif"
            item.add_asset(band, pystac.Asset(href, extra_fields={**place, "raster:bands": [numbers]}, roles=["data"]))
        made.append(item)
    return made


GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif"}


def odc_stac(data: Path, base: str) -> Clock:
    import dask
    import odc.stac
    from odc.geo.geobox import GeoBox

    odc.stac.configure_rio(cloud_defaults=True, **GDAL)
    place = Affine(10, 0, LEFT + 10 * COL, 0, -10, TOP - 10 * ROW)
    box = GeoBox((WINDOW, WINDOW), place, f"EPSG:{EPSG}")
    found = items(data, base)
    with Clock() as clock, dask.config.set(scheduler="threads", num_workers=32 if base else 2):
        odc.stac.load(found, bands=BANDS, geobox=box, chunks={"time": 1}).compute()
    return clock


def stackstac(data: Path, base: str) -> Clock:
    import dask
    import stackstac as library

    left, top = LEFT + 10 * COL, TOP - 10 * ROW
    bounds = (left, top - 10 * WINDOW, left + 10 * WINDOW, top)
    found = [i.to_dict() for i in items(data, base)]
    with Clock() as clock, dask.config.set(scheduler="threads", num_workers=32 if base else 2):
        env = library.DEFAULT_GDAL_ENV.updated(always=GDAL)
        place = {"epsg": EPSG, "bounds": bounds, "resolution": 10, "chunksize": 4096}
        numbers = {"dtype": "uint16", "fill_value": np.uint16(0), "rescale": False, "properties": False}
        library.stack(found, assets=list(BANDS), **place, **numbers, gdal_env=env).compute()
    return clock


# ------------------------------------------------------------------------------------------------------ the tournament

READERS = {"limit": limit, "index": index, "this": this, "odc-stac": odc_stac, "stackstac": stackstac}


def one(reader: str, data: Path, base: str, chips: str, threads: int) -> None:
    own = {"chips": chips, "threads": threads} if reader == "this" else {}
    try:
        clock = READERS[reader](data, base, **own)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"wall": clock.wall, "cpu": clock.cpu, "peak": peak}))


def run(reader: str, data: Path, base: str, chips: str = "", threads: int = 0) -> dict:
    command = [sys.executable, __file__, "--data", str(data), "--one", reader, "--base", base]
    command += ["--chips", chips, "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{reader}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def tournament(data: Path, base: str, rounds: int, log: Path | None, threads: int) -> dict[str, dict]:
    best: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as kept:
        for k in range(rounds):
            turns = [("limit", "limit", ""), ("index", "index", ""), ("this", "this", "")]
            if base:
                turns += [("keeping", "this", f"{kept}/{k}"), ("kept", "this", f"{kept}/{k}")]
            turns += [("odc-stac", "odc-stac", ""), ("stackstac", "stackstac", "")]
            for name, reader, chips in turns:
                if "missing" in best.get(name, {}):
                    continue
                before = log.read_text().count("\n") if log else 0
                found = run(reader, data, base, chips, threads if reader == "this" else 0)
                found["requests"] = log.read_text().count("\n") - before if log else 0
                if "missing" in found or found["wall"] < best.get(name, {"wall": math.inf})["wall"]:
                    best[name] = found
    return best


def shown(title: str, best: dict[str, dict], to: str) -> None:
    print(f"\n{title}\n{'reader':10s} {'s':>6s} {'x ' + to:>9s} {'CPU s':>6s} {'peak MB':>8s} {'requests':>9s}")
    for name, found in best.items():
        if "missing" in found:
            print(f"{name:10s} left out: {found['missing']}")
            continue
        ratio = found["wall"] / best[to]["wall"]
        print(f"{name:10s} {found['wall']:6.2f} {ratio:9.2f} {found['cpu']:6.2f} {found['peak']:8.0f}", end=" ")
        print(f"{found['requests'] or '':>9}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the imagery; made where it is not there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="files read at the same time; default: of the settings")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--base", default="", help=argparse.SUPPRESS)
    parser.add_argument("--chips", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, asked.data, asked.base, asked.chips, asked.threads)
        return
    make(asked.data)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when it began")
    shown("from disk", tournament(asked.data, "", asked.rounds, None, asked.threads), "limit")
    with served(asked.data, 0.02) as (base, log):
        shown("over HTTP, 20 ms an answer", tournament(asked.data, base, asked.rounds, log, asked.threads), "index")


if __name__ == "__main__":
    main()
