"""A result is made anew from what its workspace keeps, with every server gone; what was changed by hand is named."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from compoundwatch import simulate as simulator
from compoundwatch.model import Settings
from compoundwatch.outputs.evidence import Verification
from compoundwatch.pipeline import verification_text, verified, verify, watch
from compoundwatch.stack import chips as kept
from compoundwatch.stack import files

from ..outputs.test_evidence import edit_json, relog, reseal, sql
from ..support import RangeServer, served_items, stac_server

NOW = dt.datetime(2025, 4, 1, tzinfo=dt.UTC)
SETTINGS: dict[str, Any] = {
    "load": {"threads": 2, "cache_mb": 200},
    "search": {"timeout_s": 20},
    "score": {"min_views_before": 4, "min_views_after": 2},
    "export": {"frames": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return simulator.simulate(
        tmp_path_factory.mktemp("place") / "imagery",
        np.random.default_rng(12),
        scenarios=("demolished", "unchanged"),
        start=dt.date(2023, 1, 2),
        end=dt.date(2025, 3, 31),
        revisit_days=20,
        controls=2,
        change_window=(0.6, 0.65),
    )


@pytest.fixture(scope="module")
def workspace(place, tmp_path_factory):
    """A workspace of two runs, whose imagery came from a server that is gone."""
    serving = RangeServer(place.folder)
    items = served_items(place.folder, serving.url)
    out = tmp_path_factory.mktemp("workspace") / "out"
    settings = Settings.model_validate(SETTINGS)
    files._CACHE.__init__()
    with stac_server(tmp_path_factory.mktemp("api"), items) as url:
        for now in (NOW - dt.timedelta(days=60), NOW):
            watch(place.areas, catalog=url, out=out, settings=settings, start=place.start, now=now)
    serving.close()
    return out


@pytest.fixture
def folder(workspace, tmp_path):
    return Path(shutil.copytree(workspace, tmp_path / "moved"))


def recomputed(folder: Path) -> Verification:
    """What recomputing finds, without a byte that was fetched before in memory."""
    files._CACHE.__init__()
    return verify(folder, recompute=True)


def texts(found: Verification) -> str:
    assert found.recomputed
    said = "\n".join(d.text for d in found.recomputed.differences)
    assert said.replace("\n", "").isprintable()
    return said


def content(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file with its hash and when it was last changed."""
    return {
        p.relative_to(folder).as_posix(): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def sites(folder: Path) -> list[str]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["area"]["sites"]


def chips_of(folder: Path, site_id: str) -> Path:
    """The chips of a site: those that no other place has, told by the scene's pixels around it."""
    from compoundwatch.grid import Grid
    from compoundwatch.sensors.sentinel2 import SENSOR
    from compoundwatch.store import reading

    with reading(folder) as ledger:
        outline = ledger.places()[site_id][0].geometry
    grid = Grid.around(outline, SENSOR.pixel_m, Settings.model_validate(SETTINGS).load.margin_m)
    home = folder / "cache" / "chips"
    return home / kept.Chips(home, 1, fetch=False).around(grid).cover.key


def forged(chip: Path, factor: float) -> None:
    """Change the pixels of a chip, and seal it as this software does."""
    whole = chip.read_bytes()
    assert whole[-kept._SEAL_BYTES :].startswith(kept.MARK)
    chip.write_bytes(whole[: -kept._SEAL_BYTES])
    with rasterio.open(chip, "r+") as file:
        file.write((file.read(1) * factor).astype(file.dtypes[0]), 1)
    body = chip.read_bytes()
    chip.write_bytes(body + kept._seal(hashlib.sha256(body).hexdigest()))


def run(*words: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "compoundwatch", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def test_an_untouched_workspace_is_the_same_and_stays_so(folder: Path) -> None:
    before = content(folder)
    assert any(name.startswith("cache/chips/") for name in before)
    code, out = run("verify", folder, "--recompute")
    assert (code, "Recomputed from the kept imagery, it is the same (2 sites)." in out) == (0, True), out
    assert content(folder) == before


def test_one_who_rewrites_score_date_report_and_every_hash_is_found(folder: Path) -> None:
    """Plain verifying is fooled; the imagery is not."""
    demolished = next(
        f["properties"]
        for f in json.loads((folder / "sites.geojson").read_text(encoding="utf-8"))["features"]
        if f["properties"]["state"] == "DEMOLISHED"
    )
    site_id, score, day = demolished["site_id"], demolished["score"], demolished["change_date"]
    for field, new in (("score", 50.0), ("change_date", "2024-02-02")):
        for table in ("sites", "states"):
            sql(folder, f"UPDATE {table} SET {field} = {new!r} WHERE site_id = '{site_id}'")
        edit_json(
            folder / "sites.geojson",
            lambda c, field=field, new=new: [
                f["properties"].update({field: new}) for f in c["features"] if f["properties"]["site_id"] == site_id
            ],
        )
        item = next(
            p for p in (folder / "stac").glob("*.json") if f'"compoundwatch:site_id": "{site_id}"' in p.read_text()
        )
        edit_json(item, lambda i, field=field, new=new: i["properties"].update({f"compoundwatch:{field}": new}))
        edit_json(
            folder / "manifest.json",
            lambda m, field=field, new=new: [
                row.update({field: new}) for row in m["states"] if row["site_id"] == site_id
            ],
        )
    report = folder / "report.html"
    report.write_text(report.read_text(encoding="utf-8") + "<!-- more -->", encoding="utf-8")
    reseal(folder)
    relog(folder)
    assert verify(folder).as_written, verify(folder).differences
    code, out = run("verify", folder, "--recompute", "--json")
    assert code == 1
    said = " ".join(d["text"] for d in json.loads(out)["recomputed"]["differences"])
    assert f"site '{site_id}': score is 50.0 in sites.geojson and watch.gpkg" in said
    assert f"recomputed {score}" in said
    assert "change_date is '2024-02-02' in sites.geojson and watch.gpkg and watch.gpkg (states) and manifest" in said
    assert f"recomputed '{day}'" in said
    assert "report.html differs from the one that was recomputed" in said


def test_pixels_that_were_changed_before_they_were_kept_are_found_by_what_was_measured(folder: Path) -> None:
    """A chip with other pixels and a right seal; the store and the result tell what it held."""
    home = chips_of(folder, sites(folder)[0])
    for chip in sorted(home.glob("*.tif"))[:12]:
        with rasterio.open(chip) as file:
            measured = file.dtypes[0] == "uint16"
        if measured:
            forged(chip, 0.5)
    found = recomputed(folder)
    assert verified(found) == (False, True)
    assert found.as_written
    # Which of the chips come first hangs on where the imagery lay: other values are told by row, lost dates by number.
    assert re.search(
        r"watch\.gpkg \(series\): (row \d+ \(site_id 'compound-1', scene_id|it has \d+ rows)", texts(found)
    )
    assert f"site_id '{sites(folder)[1]}'" not in texts(found)


def test_what_is_not_kept_or_damaged_is_told_apart(folder: Path) -> None:
    one, other = sites(folder)
    lost, damaged = sorted(chips_of(folder, other).glob("*.tif"))[:2]
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    sql(folder, f"UPDATE sites SET score = 1.0 WHERE site_id IN ('{one}', '{other}')")
    found = recomputed(folder)
    assert found.recomputed
    assert (found.recomputed.n_sites, found.recomputed.of_sites) == (1, 2)
    assert verified(found) == (False, False)
    chip, score = found.recomputed.differences
    assert chip.where == damaged.relative_to(folder).as_posix()
    assert f"is not as it was written; it holds {other}: scene " in chip.text
    assert f"site '{one}': score is 1.0 in watch.gpkg, recomputed " in score.text
    told = sorted(found.recomputed.obstacles)
    assert all(text.startswith(f"{other}: scene ") for text in told)
    assert sorted(text.rpartition(": ")[2] for text in told) == ["it is damaged", "its pixels are no longer kept"]
    assert "It could not be recomputed as a whole; 1 of 2 sites were:" in verification_text(found)


def test_imagery_that_is_no_longer_kept_is_no_difference(folder: Path) -> None:
    for site_id in sites(folder):
        next(chips_of(folder, site_id).glob("*.tif")).unlink()
    found = recomputed(folder)
    assert verified(found) == (True, False)
    lines = verification_text(found)
    assert "All is as it was written." in lines
    assert "It could not be recomputed:" in lines
    assert sum("its pixels are no longer kept" in line for line in lines) == 2
    shutil.rmtree(folder / "cache")
    found = recomputed(folder)
    assert verified(found) == (True, False)
    assert found.recomputed
    (why,) = found.recomputed.obstacles
    assert "no pixels are kept in" in why
    assert "load.cache_mb = 0" in why


def test_other_software_is_told_as_what_may_explain_differences(folder: Path) -> None:
    edit_json(folder / "manifest.json", lambda m: m["software"].update(numpy="1.0", gone="2.0"))
    chart = next((folder / "charts").glob("*.png"))
    chart.write_bytes(chart.read_bytes() + b"\0")
    found = recomputed(folder)
    assert found.recomputed
    assert found.recomputed.software == (f"numpy 1.0 then, {np.__version__} now", "gone 2.0 then, none now")
    assert found.recomputed.differences == ()
    assert f"charts/{chart.name}" in found.recomputed.uncompared
    assert verified(found)[1] is False
    lines = verification_text(found)
    assert any(line.startswith("Other software than then, which may explain what differs: numpy 1.0") for line in lines)
    assert any(line.startswith("Not compared, as other software writes other bytes: charts/") for line in lines)


def test_a_store_that_was_changed_is_named(folder: Path) -> None:
    one, other = sites(folder)
    with sqlite3.connect(folder / "store.gpkg") as db:
        db.execute(
            "UPDATE states SET document = replace(document, '\"score\":', '\"score\":1') WHERE site_id = ?", (one,)
        )
        scene = db.execute("SELECT MAX(scene) FROM sightings WHERE site_id = ?", (other,)).fetchone()[0]
        db.execute("UPDATE sightings SET withdrawn = 1 WHERE site_id = ? AND scene = ?", (other, scene))
    db.close()
    found = recomputed(folder)
    said = texts(found)
    assert f"store.gpkg: site {one}: score is 1" in said
    assert f"store.gpkg: {other}, sentinel2: the scenes, outline or settings that it names are not those" in said
    assert any("rows of run" in d.text for d in found.differences)


def test_settings_that_were_changed_are_named(folder: Path) -> None:
    edit_json(folder / "manifest.json", lambda m: m["settings"]["score"].update(min_views_after=3))
    reseal(folder)
    relog(folder)
    assert "manifest.json says score.min_views_after = 3, the run in store.gpkg had 2" in texts(recomputed(folder))


def test_a_later_run_that_did_not_end(folder: Path) -> None:
    with sqlite3.connect(folder / "store.gpkg") as db:
        names = [row[1] for row in db.execute("PRAGMA table_info(runs)")]
        row = dict(zip(names, db.execute("SELECT * FROM runs ORDER BY run DESC").fetchone(), strict=True))
        row |= {"run": row["run"] + 1, "outcome": "unfinished", "previous": row["sha256"], "sha256": None}
        db.execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    db.close()
    found = recomputed(folder)
    assert found.recomputed
    assert "a later run began and did not end" in found.recomputed.obstacles[0]
    assert verified(found) == (True, False)


def test_no_address_of_a_store_leads_elsewhere(folder: Path) -> None:
    with sqlite3.connect(folder / "store.gpkg") as db:
        db.execute("UPDATE scenes SET assets = replace(assets, '\"http://', '\"/vsicurl/http://')")
    db.close()
    found = recomputed(folder)
    assert found.recomputed
    assert "which is no file and no address of one" in found.recomputed.obstacles[0]
