"""Files that say the same pass; each thing told in two ways is named once, with who says what."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compoundwatch.model import WatchResult
from compoundwatch.outputs import agreement, write_watch


@pytest.fixture(scope="module")
def written(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "result"
    write_watch(result, out, rasters=False, report=False)
    return out


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "result")
    return tmp_path / "result"


def complaints(folder: Path) -> list[tuple[str, str]]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    there = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    return list(agreement.check(folder, manifest, there))


def change(path: Path, alter: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    alter(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def properties(content: Any) -> Any:
    return content["features"][0]["properties"]


def test_what_was_written_agrees(written: Path) -> None:
    assert complaints(written) == []


def test_one_file_against_the_others(folder: Path) -> None:
    change(folder / "sites.geojson", lambda c: properties(c).update(change_date_latest="2024-06-01"))
    assert complaints(folder) == [
        (
            "sites.geojson",
            "site 'kk-1': change_date_latest is '2024-06-01' in sites.geojson, but '2024-03-28' in watch.gpkg and "
            "watch.gpkg (states) and manifest.json and stac/",
        )
    ]


def test_the_manifest_against_the_files(folder: Path) -> None:
    change(folder / "manifest.json", lambda m: m["states"][0].update(state="BUILDING"))
    texts = [text for _, text in complaints(folder)]
    assert len(texts) == 2
    assert "'BUILDING' in manifest.json" in texts[0]
    assert texts[1] == (
        "manifest.json tells of the states 'BUILDING' 1, 'NOT_OBSERVABLE' 1, 'UNCHANGED' 1, manifest.json counts "
        "'EMPTIED' 1, 'NOT_OBSERVABLE' 1, 'UNCHANGED' 1"
    )


def test_a_number_that_became_a_text_differs(folder: Path) -> None:
    change(folder / "sites.geojson", lambda c: properties(c).update(n_views="91"))
    assert "n_views is '91' in sites.geojson, but 91 in watch.gpkg" in complaints(folder)[0][1]


def test_missing_is_not_zero(folder: Path) -> None:
    change(folder / "sites.geojson", lambda c: c["features"][2]["properties"].update(score=0))
    assert "score is 0 in sites.geojson, but None in watch.gpkg" in complaints(folder)[0][1]


def test_a_site_less_and_a_run_of_another(folder: Path) -> None:
    change(folder / "sites.geojson", lambda c: c["features"].pop(1))
    change(folder / "changes.geojson", lambda c: c["provenance"].update(run_id="other"))
    told = dict(complaints(folder))
    assert told["changes.geojson"] == (
        "changes.geojson was written with run_id 'other', manifest.json says '20250115T120000Z-abcd1234'"
    )
    assert "counts" in told["sites.geojson"]
    assert ("sites.geojson", "site 'quiet site/2' is not in sites.geojson") in complaints(folder)


@pytest.mark.parametrize("field", ["area_m2", "date", "p_value", "site_id", "direction"])
def test_every_field_of_a_patch_counts(folder: Path, field: str) -> None:
    change(folder / "changes.geojson", lambda c: properties(c).update({field: "other"}))
    ((where, text),) = complaints(folder)
    assert where == "changes.geojson"
    assert text.startswith(f"patch 1: {field} is 'other' in changes.geojson, but ")


@pytest.mark.parametrize("content", ['{"features": 1}', "[]", "{", '{"features": [1], "provenance": {}}', '"x"'])
def test_what_is_no_geojson_of_ours_is_told(folder: Path, content: str) -> None:
    (folder / "changes.geojson").write_text(content)
    ((where, text),) = complaints(folder)
    assert (where, text.split(":")[0]) == ("changes.geojson", "changes.geojson is not what compoundwatch writes")


def test_a_database_is_not_written_and_its_views_are_left_alone(folder: Path) -> None:
    path = folder / "watch.gpkg"
    before = path.read_bytes()
    complaints(folder)
    assert path.read_bytes() == before
    assert sorted(p.name for p in folder.glob("watch.gpkg*")) == ["watch.gpkg"]
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE effects")
        database.execute("CREATE VIEW effects AS SELECT * FROM sites")
    database.close()
    assert complaints(folder) == [
        ("watch.gpkg", "watch.gpkg is not what compoundwatch writes: it has no table 'effects'")
    ]


def test_a_query_that_does_not_end_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "MAX_QUERY_STEPS", 0)
    with sqlite3.connect(folder / "watch.gpkg") as database:
        many = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 80000)"
        database.execute(f"INSERT INTO states (site_id) {many} SELECT 'x' FROM n")
    database.close()
    ((_, text),) = complaints(folder)
    assert "interrupted" in text
