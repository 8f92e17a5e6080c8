"""What two workspaces say, to be held against one another; and a watch that is killed at random moments.

Run as a program, it kills a watch over a place again and again, restarts it, and prints a line of JSON on what came of
each time: ``python -m tests.workspaces PLACE FOLDER --moments 30 --seed 1``.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

UNLIKE = ("manifest.json", "log.jsonl", "store.gpkg", "store.lock")
"""Files that tell of the runs themselves, and so differ where there were more of them."""
NOW = {
    "series": "SELECT site_id, sensor, look, feature, scene_id, acquired, value, spread, valid_fraction, n_valid "
    "FROM series_now ORDER BY 1, 2, 3, 4, 5, 6",
    "states": "SELECT site_id, evidence, document FROM states WHERE fid IN (SELECT MAX(fid) FROM states "
    "GROUP BY site_id) ORDER BY 1",
    "effects": "SELECT e.site_id, e.place, e.sensor, e.feature, e.look, e.effect, e.p_value FROM effects e "
    "JOIN states s ON s.site_id = e.site_id AND s.run = e.run WHERE s.fid IN (SELECT MAX(fid) FROM states "
    "GROUP BY site_id) ORDER BY 1, 2",
    "places": "SELECT site_id, geom, role, controls FROM places WHERE fid IN (SELECT MAX(fid) FROM places "
    "GROUP BY site_id) ORDER BY 1",
    "scenes": "SELECT g.site_id, g.sensor, s.scene_id, s.processing FROM sightings g JOIN scenes s ON s.fid = g.scene "
    "WHERE g.fid IN (SELECT MAX(fid) FROM sightings GROUP BY site_id, sensor, scene) AND g.withdrawn = 0 "
    "ORDER BY 1, 2, 3, 4",
    "skipped": "SELECT site_id, sensor, item_id, stage, reason FROM skipped WHERE fid IN (SELECT MAX(fid) FROM skipped "
    "GROUP BY site_id, sensor, item_id, stage, reason, routine) AND withdrawn = 0 ORDER BY 1, 2, 3, 4, 5",
}
"""What the store holds now, apart from the runs that added it."""


def science(folder: Path) -> dict[str, Any]:
    """All that a workspace says: files byte for byte, its GeoPackage table by table, and what its store holds now."""
    said: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in UNLIKE or name.startswith("cache/"):
            continue
        said |= _tables(path, name) if path.suffix == ".gpkg" else {name: path.read_bytes()}
    with sqlite3.connect(folder / "store.gpkg") as db:
        said |= {f"store: {name}": db.execute(query).fetchall() for name, query in NOW.items()}
    db.close()
    return said


def _tables(path: Path, name: str) -> dict[str, Any]:
    with sqlite3.connect(path) as db:
        tables = [t for (t,) in db.execute("SELECT table_name FROM gpkg_contents ORDER BY 1")]
        found = {f"{name}: {t}": db.execute(f'SELECT * FROM "{t}"').fetchall() for t in tables}
    db.close()
    return found


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of what two workspaces say differently."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def rows(folder: Path) -> dict[str, int]:
    """How many rows each table of the store has."""
    with sqlite3.connect(folder / "store.gpkg") as db:
        tables = [t for (t,) in db.execute("SELECT table_name FROM gpkg_contents ORDER BY 1")]
        found = {t: db.execute(f'SELECT COUNT(*) FROM "{t}"').fetchone()[0] for t in tables}
    db.close()
    return found


def litter(folder: Path) -> list[str]:
    """Names of half written files in a workspace and beside it."""
    beside = [p.name for p in folder.parent.iterdir() if "-unfinished-" in p.name]
    inside = [p.relative_to(folder).as_posix() for p in folder.rglob("*")]
    return beside + [n for n in inside if "-unfinished-" in n or n.endswith((".part", "-journal", "-wal", "-shm"))]


# -------------------------------------------------------------------------------------------------------- being killed

SETTINGS: dict[str, Any] = {
    "load": {"threads": 2},
    "score": {"min_views_before": 4, "min_views_after": 2},
    "export": {"report": False, "frames": 2},
}


def _watch(place: Path, out: Path) -> None:
    from compoundwatch import pipeline
    from compoundwatch.model import Settings

    pipeline.watch(
        place / "sites.geojson",
        out=out,
        catalog=place,
        start=dt.date(2023, 1, 2),
        end=dt.date(2024, 9, 30),
        settings=Settings.model_validate(SETTINGS),
        now=dt.datetime(2024, 10, 1, 6, tzinfo=dt.UTC),
    )


def _process(place: Path, out: Path) -> int:
    """A process of its own that watches; all is imported in this one, which uses no threads and so may be forked."""
    child = os.fork()
    if not child:
        code = 1
        try:
            _watch(place, out)
            code = 0
        finally:
            os._exit(code)
    return child


def killed_at(place: Path, folder: Path, moments: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill a watch at random moments of its time, finish it, and compare with one that was left alone.

    Gives for every moment when it came (share of the undisturbed time), how many places were measured by then (None =
    not known), what differs and what litter is left in the end.
    """
    from compoundwatch.pipeline import watching  # noqa: F401 - imported here once, for all processes

    for name in ("first", "undisturbed"):  # the first one also compiles what is not compiled yet
        began = time.perf_counter()
        assert os.waitpid(_process(place, folder / name), 0)[1] == 0
        whole = time.perf_counter() - began
    expected = science(folder / "undisturbed")
    rng = np.random.default_rng(seed)
    for k, share in enumerate(rng.uniform(0, 1, moments)):
        out = folder / f"killed-{k}"
        child = _process(place, out)
        time.sleep(share * whole)
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        measured = rows(out)["measured"] if (out / "store.gpkg").is_file() and not torn(out) else None
        code = os.waitpid(_process(place, out), 0)[1]
        yield {
            "share": round(float(share), 3),
            "killed": killed,
            "measured": measured,
            "differs": differing(expected, science(out)) if code == 0 else ["it did not end"],
            "litter": litter(out),
        }


def torn(out: Path) -> bool:
    """Whether a transaction was torn; asking the store would mend it before the next run does."""
    return any((out / f"store.gpkg{ending}").exists() for ending in ("-journal", "-wal"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("place", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    for found in killed_at(asked.place, asked.folder, asked.moments, asked.seed):
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()
