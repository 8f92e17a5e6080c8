"""The public catalogues' own software: stac-fastapi-pgstac on PostgreSQL, searched page by page, files and all.

Needs PostgreSQL 15 with PostGIS 3, and a virtual environment with stac-fastapi-pgstac, pypgstac and uvicorn, named by
COMPOUNDWATCH_PGSTAC (default: .venv-pgstac beside this project); ``.ci/run`` installs both. Skipped without them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from compoundwatch.catalogs import open_catalog
from compoundwatch.catalogs.items import remote_rule, select
from compoundwatch.errors import CatalogError
from compoundwatch.grid import Grid
from compoundwatch.model import SearchSettings
from compoundwatch.sensors.landsat import SENSOR as LANDSAT
from compoundwatch.sensors.sentinel2 import SENSOR
from compoundwatch.stack import by_day, load
from tests.catalogs.test_items import item
from tests.conftest import ROOT
from tests.support import (
    EPSG,
    LEFT,
    SHAPE,
    TOP,
    free_port,
    range_server,
    reflectances,
    running,
    save_catalog,
    write_item,
)

POSTGRES = Path("/usr/lib/postgresql/15/bin")
VENV = Path(os.environ.get("COMPOUNDWATCH_PGSTAC", ROOT / ".venv-pgstac")) / "bin"
SETTINGS = SearchSettings(timeout_s=30, budget_s=120)
FIRST = dt.date(2021, 1, 1)
COUNT = 1_000
PLACE = (103.4, 10.4, 103.5, 10.5)
GRID = Grid(EPSG, LEFT, TOP, 10.0, *SHAPE)


def missing() -> str:
    """What the test needs and does not find."""
    if not (POSTGRES / "initdb").is_file():
        return f"PostgreSQL 15 is not installed in {POSTGRES}"
    if not Path("/usr/share/postgresql/15/extension/postgis.control").is_file():
        return "PostGIS 3 for PostgreSQL 15 is not installed"
    if not all((VENV / name).is_file() for name in ("uvicorn", "pypgstac")):
        return f"stac-fastapi-pgstac, pypgstac and uvicorn are not installed in {VENV.parent}"
    if os.geteuid() == 0 and shutil.which("su") is None:
        return "PostgreSQL does not run as root, and there is no su to run it as another user"
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def described(made):
    """As a catalogue keeps an item."""
    return made | {"type": "Feature", "stac_version": "1.0.0", "links": [], "bbox": [103, 10, 104, 11]}


def many():
    """A scene a day for 1,000 days, twice processed at the end, and what nobody asked for."""
    days = [FIRST + dt.timedelta(days=k) for k in range(COUNT)]
    wanted = [item(f"s-{day}", f"{day}T03:30:00Z", cloud=50.0 + 50.0 * (k % 3 == 0)) for k, day in enumerate(days)]
    again = [item(f"new-{day}", f"{day}T03:30:00Z", baseline="05.99", cloud=5.0) for day in days[-10:]]
    early = [item(f"early-{k}", f"2019-01-{k + 1:02d}T03:30:00Z") for k in range(20)]
    far = [{**item(f"far-{k}", f"{day}T03:30:00Z"), "geometry": square(20.0)} for k, day in enumerate(days[:20])]
    other = [item(f"other-{k}", f"{day}T03:30:00Z", collection="sentinel-2-l1c") for k, day in enumerate(days[:20])]
    return [described(i) for i in wanted + again + early + far + other]


def square(east):
    ring = [[east, 0], [east + 1, 0], [east + 1, 1], [east, 1], [east, 0]]
    return {"type": "Polygon", "coordinates": [ring]}


def collection(name):
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": name,
        "description": "made for tests",
        "license": "other",
        "links": [],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }


def as_postgres(folder, *command):
    """Run a program of PostgreSQL, which refuses to run as root."""
    line = " ".join(f"'{part}'" for part in map(str, command))
    whole = ["su", "postgres", "-s", "/bin/sh", "-c", line] if os.geteuid() == 0 else ["/bin/sh", "-c", line]
    done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Small real scenes."""
    folder = tmp_path_factory.mktemp("files")
    items = [
        write_item(folder, f"real-{k}", f"2024-05-{1 + 5 * k:02d}T03:30:00", reflectances(red=0.02 + 0.01 * k))
        for k in range(5)
    ]
    save_catalog(folder, items)
    return folder


@pytest.fixture(scope="module")
def api(files):
    """The address of the API, its database filled."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pgstac-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        served = stack.enter_context(range_server(files))
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        base, port = folder / "data", free_port()
        as_postgres(folder, POSTGRES / "initdb", "-D", base, "-A", "trust", "-U", "postgres")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        as_postgres(folder, POSTGRES / "pg_ctl", "-D", base, "-w", "-o", options, "-l", folder / "log", "start")
        stack.callback(as_postgres, folder, POSTGRES / "pg_ctl", "-D", base, "-m", "immediate", "stop")
        as_postgres(folder, POSTGRES / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "stac")
        database = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE": "stac"}
        database |= {"PGPASSWORD": "none"}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "POSTGRES", "PYTHON"))} | database
        items = many() + [at(served, json.loads(path.read_text())) for path in sorted(files.glob("real-*/*.json"))]
        collections = [collection(name) for name in ("sentinel-2-l2a", "sentinel-2-l1c")]
        with tempfile.TemporaryDirectory() as loading:
            for kind, rows in (("collections", collections), ("items", items)):
                path = Path(loading) / f"{kind}.ndjson"
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
                commands = [["migrate"]] if kind == "collections" else []
                for command in [*commands, ["load", kind, str(path), "--method", "upsert"]]:
                    done = subprocess.run(
                        [VENV / "pypgstac", *command], env=environment, capture_output=True, text=True, timeout=120
                    )
                    assert done.returncode == 0, done.stdout + done.stderr
            front = free_port()
            serve = ["env", *(f"{name}={value}" for name, value in database.items()), str(VENV / "uvicorn")]
            serve += ["stac_fastapi.pgstac.app:create_app", "--factory", "--host", "127.0.0.1", "--port", str(front)]
            stack.enter_context(running(serve, front, Path(loading)))
            yield f"http://127.0.0.1:{front}"


def at(address, one):
    """An item whose files lie on a server."""
    for asset in one["assets"].values():
        asset["href"] = f"{address}/{one['id']}/{asset['href'].removeprefix('./')}"
    return one | {"links": []}


def found(scenes):
    return [(s.scene_id, s.acquired, s.processing, s.acquisition, s.assets["red"].href) for s in scenes]


def test_a_thousand_scenes_page_by_page_are_those_that_a_list_gives(api):
    last = FIRST + dt.timedelta(days=COUNT - 1)
    scenes, skipped = open_catalog(api, SETTINGS).search(PLACE, FIRST, last, SENSOR, SETTINGS)
    expected, left = select(many(), PLACE, FIRST, last, SENSOR, SETTINGS, "127.0.0.1", remote_rule("127.0.0.1"))
    assert found(scenes) == found(expected)
    assert sorted((s.item_id, s.reason) for s in skipped) == sorted((s.item_id, s.reason) for s in left)
    cloudy = len(range(0, COUNT, 3))
    assert len(scenes) + cloudy == COUNT + sum(k % 3 == 0 for k in range(COUNT - 10, COUNT))
    assert all(s.routine for s in skipped)


@pytest.mark.parametrize("days", [1, 30])
def test_dates_are_filtered_by_the_server_to_the_day(api, days):
    last = FIRST + dt.timedelta(days=days - 1)
    settings = SETTINGS.model_copy(update={"max_cloud_percent": 100.0})
    scenes, skipped = open_catalog(api, settings).search(PLACE, FIRST, last, SENSOR, settings)
    assert [s.acquired.date() for s in scenes] == [FIRST + dt.timedelta(days=k) for k in range(days)]
    assert skipped == []


def test_too_many_are_refused(api):
    few = SETTINGS.model_copy(update={"max_scenes": 100})

    with pytest.raises(CatalogError, match=r"search\.max_scenes is 100"):
        open_catalog(api, few).search(PLACE, FIRST, FIRST + dt.timedelta(days=COUNT), SENSOR, few)


def test_a_place_without_scenes_and_a_sensor_without_a_collection(api):
    catalog = open_catalog(api, SETTINGS)
    assert catalog.search((-60.0, 0.0, -59.0, 1.0), FIRST, FIRST + dt.timedelta(days=9), SENSOR, SETTINGS) == ([], [])

    assert catalog.serves(SENSOR)
    assert not catalog.serves(LANDSAT)


def test_pixels_are_those_of_the_folder(api, files):
    days = (dt.date(2024, 5, 1), dt.date(2024, 5, 31))
    remote, _ = open_catalog(api, SETTINGS).search(GRID.lonlat_bounds, *days, SENSOR, SETTINGS)
    local, _ = open_catalog(files, SETTINGS).search(GRID.lonlat_bounds, *days, SENSOR, SETTINGS)
    assert [s.scene_id for s in remote] == [s.scene_id for s in local] == [f"real-{k}" for k in range(5)]
    there, unread = load(by_day(remote), SENSOR, GRID)
    assert unread == []
    here, _ = load(by_day(local), SENSOR, GRID)
    for feature in SENSOR.features:
        np.testing.assert_array_equal(there[feature.name].values, here[feature.name].values)
    assert np.isfinite(here["ndvi"].values).all()
