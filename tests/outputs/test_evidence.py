"""Whatever is changed in a result after it was written is named; a result that was only moved is as it was written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from compoundwatch.errors import SettingsError
from compoundwatch.model import PairChange, WatchResult
from compoundwatch.outputs import write_compare, write_watch
from compoundwatch.outputs.evidence import MAX_FILE_BYTES, Fault, verify

RUNS = ("20250115T120000Z-aaaaaaaa", "20250215T120000Z-bbbbbbbb", "20250315T120000Z-cccccccc")
DIRECTION = "rasters/kk-1_sentinel2_ndvi_direction.tif"
EFFECT = "rasters/kk-1_sentinel2_ndvi_effect.tif"


@pytest.fixture(scope="module")
def written(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs into one folder; the manifest of the second is kept beside it."""
    out = tmp_path_factory.mktemp("written") / "result"
    for run_id in RUNS:
        provenance = replace(result.provenance, run_id=run_id)
        write_watch(replace(result, provenance=provenance), out, report=run_id == RUNS[-1])
        if run_id == RUNS[1]:
            shutil.copy(out / "manifest.json", out.parent / "second.json")
    return out


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy at another place."""
    copy = tmp_path / "moved" / "elsewhere"
    shutil.copytree(written, copy)
    shutil.copy(written.parent / "second.json", copy.parent / "second.json")
    return copy


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit(path: Path, old: str, new: str) -> None:
    """Change a text in a file, once; it must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def reseal(folder: Path) -> None:
    """What a forger would do next: write sizes and hashes of the files as they are now into the manifest."""

    def update(manifest: Any) -> None:
        for entry in manifest["outputs"]:
            entry |= {"bytes": (folder / entry["path"]).stat().st_size, "sha256": digest(folder / entry["path"])}

    edit_json(folder / "manifest.json", update)


def relog(folder: Path) -> None:
    """And then: write the new manifest into the last line of the log."""
    *earlier, last = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    line = json.loads(last)
    path = folder / "manifest.json"
    line["manifest"] = {"bytes": path.stat().st_size, "sha256": digest(path)}
    text = "\n".join([*earlier, json.dumps(line, ensure_ascii=False)])
    (folder / "log.jsonl").write_text(text + "\n", encoding="utf-8")


def log_lines(folder: Path) -> list[str]:
    return (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()


def write_log(folder: Path, lines: list[str]) -> None:
    (folder / "log.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def sql(folder: Path, command: str) -> None:
    """Change the GeoPackage; its triggers need functions that only GDAL has, so they go first."""
    with sqlite3.connect(folder / "watch.gpkg") as database:
        triggers = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            database.execute(f'DROP TRIGGER "{name}"')
        assert database.execute(command).rowcount != 0
    database.close()


def told(folder: Path) -> dict[str, list[str]]:
    """The sentences by the file they are about."""
    found: dict[str, list[str]] = {}
    for difference in verify(folder).differences:
        found.setdefault(difference.where, []).append(f"{difference.fault}: {difference.text}")
    return found


# --------------------------------------------------------------------------------------------------- as it was written


def test_an_untouched_folder_is_as_written(written: Path) -> None:
    found = verify(written)
    assert found.as_written, found.differences
    assert found.run_id == RUNS[-1]
    assert found.n_runs == 3
    assert found.seal == digest(written / "manifest.json")
    there = [p for p in written.rglob("*") if p.is_file()]
    assert found.n_files == len(there) - 2
    assert found.n_bytes == sum(p.stat().st_size for p in there if p.name not in ("manifest.json", "log.jsonl"))


def test_a_moved_folder_is_as_written_and_stays_so(folder: Path) -> None:
    before = {p: digest(p) for p in folder.rglob("*") if p.is_file()}
    assert verify(folder).as_written
    assert verify(folder, digest(folder / "manifest.json").upper()).as_written
    assert {p: digest(p) for p in folder.rglob("*") if p.is_file()} == before


def test_a_link_to_the_folder_will_do(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert verify(tmp_path / "latest").as_written


@pytest.mark.parametrize("placed", [True, False])
def test_a_comparison_is_verified_too(
    result: WatchResult, pair: tuple[PairChange, Affine], out: Path, placed: bool
) -> None:
    change, place = pair
    shares = {"changed_share": 0.25, "increased_share": 0.2, "decreased_share": 0.05, "tested_share": None}
    write_compare(
        out,
        before=Path("a.tif"),
        after=Path("b.tif"),
        change=change,
        transform=place if placed else None,
        crs="EPSG:32648" if placed else None,
        detector="imad",
        alpha=0.01,
        sites=[(result.area.sites[0], shares)] if placed else [],
        provenance=result.provenance,
    )
    assert verify(out).as_written, verify(out).differences
    edit(out / "changes.geojson", '"n_pixels": 4', '"n_pixels": 5')
    assert [d.where for d in verify(out).differences] == ["changes.geojson"]
    edit(out / "manifest.json", '"patches": 2', '"patches": 3')
    assert "holds 2 patches, manifest.json counts 3" in " ".join(d.text for d in verify(out).differences)


# ------------------------------------------------------------------------------------------------------ alterations


def pixel(folder: Path) -> None:
    with rasterio.open(folder / DIRECTION, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        band = file.read(1)
        band[8, 10] = 1
        file.write(band, 1)


def swap(folder: Path) -> None:
    (folder / EFFECT).rename(folder / "x")
    (folder / DIRECTION).rename(folder / EFFECT)
    (folder / "x").rename(folder / DIRECTION)


def one_bit(folder: Path) -> None:
    content = bytearray((folder / EFFECT).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / EFFECT).write_bytes(content)


def cut(folder: Path) -> None:
    (folder / "report.html").write_bytes((folder / "report.html").read_bytes()[:-1])


def without_line(number: int) -> Callable[[Path], None]:
    return lambda folder: write_log(folder, [t for k, t in enumerate(log_lines(folder), 1) if k != number])


def reordered(folder: Path) -> None:
    first, second, third = log_lines(folder)
    write_log(folder, [second, first, third])


def put_in(folder: Path) -> None:
    first, second, third = log_lines(folder)
    write_log(folder, [first, second, second, third])


def line_edited(number: int, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = log_lines(folder)
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new)
        write_log(folder, lines)

    return change


def windows_lines(folder: Path) -> None:
    (folder / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes().replace(b"\n", b"\r\n"))


def edits(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, old, new)


MANIFEST_CHANGED = "changed: manifest.json was changed after it was written"
ALTERATIONS: dict[str, tuple[Callable[[Path], Any], dict[str, str]]] = {
    "a pixel": (pixel, {DIRECTION: "changed: .*was changed after it was written"}),
    "one bit": (one_bit, {EFFECT: "the same size but another SHA-256"}),
    "a cut file": (cut, {"report.html": r"it has \d+ bytes, not \d+"}),
    "a score": (
        edits("sites.geojson", '"score": 98.0', '"score": 12.0'),
        {"sites.geojson": r"disagrees: site 'kk-1': score is 12.0 in sites.geojson, but 98.0 in watch.gpkg and "},
    ),
    "a date": (
        edits("sites.geojson", '"change_date": "2024-03-10"', '"change_date": "2024-03-01"'),
        {"sites.geojson": "change_date is '2024-03-01' in sites.geojson, but '2024-03-10' in watch.gpkg"},
    ),
    "a name": (
        edits("sites.geojson", '"name": "Quiet place"', '"name": "Other place"'),
        {"sites.geojson": "site 'quiet site/2': name is 'Other place' in sites.geojson, but 'Quiet place' in"},
    ),
    "an outline": (
        edits("sites.geojson", "103.9", "103.8"),
        {"sites.geojson": "changed: .*the same size but another SHA-256"},
    ),
    "the size of a patch": (
        edits("changes.geojson", '"area_m2": 600.0', '"area_m2": 6000.0'),
        {"changes.geojson": "patch 1: area_m2 is 6000.0 in changes.geojson, but 600.0 in watch.gpkg"},
    ),
    "a state in the GeoPackage": (
        lambda folder: sql(folder, "UPDATE sites SET state = 'UNCHANGED' WHERE site_id = 'kk-1'"),
        {"watch.gpkg": "state is .*'UNCHANGED' in watch.gpkg.*|watch.gpkg tells of the states"},
    ),
    "what was said before": (
        lambda folder: sql(folder, "DELETE FROM states WHERE site_id = 'kk-1'"),
        {"watch.gpkg (states)": r"site 'kk-1' is not in watch.gpkg \(states\)", "watch.gpkg": "changed: "},
    ),
    "a measurement less": (
        lambda folder: sql(folder, "DELETE FROM series WHERE fid = 5"),
        {"watch.gpkg": r"holds \d+ series rows, manifest.json counts \d+"},
    ),
    "a state in STAC": (
        edits("stac/kk-1.json", '"compoundwatch:state": "EMPTIED"', '"compoundwatch:state": "BUILDING"'),
        {"stac/kk-1.json": "changed: ", "stac/": "state is .*'BUILDING' in stac/"},
    ),
    "swapped files": (
        swap,
        {
            DIRECTION: f"swapped: {DIRECTION} was swapped: it holds what was written as {EFFECT}",
            EFFECT: f"swapped: .*as {DIRECTION}",
        },
    ),
    "a missing file": (lambda folder: (folder / EFFECT).unlink(), {EFFECT: f"missing: {EFFECT} is missing"}),
    "an extra file": (
        lambda folder: (folder / "rasters" / "more.tif").write_text("x"),
        {"rasters/more.tif": "extra: .*the manifest does not list it"},
    ),
    "a version of software in the manifest": (
        edits("manifest.json", '"numpy": "2.0"', '"numpy": "1.0"'),
        {"manifest.json": MANIFEST_CHANGED, "log.jsonl": "software: numpy is '2.0' in the last line of log.jsonl, but"},
    ),
    "the version of this software": (
        edits("manifest.json", '"compoundwatch": "0.1.0"', '"compoundwatch": "0.9.0"'),
        {
            "manifest.json": MANIFEST_CHANGED,
            "log.jsonl": "software: compoundwatch is '0.1.0'",
            "sites.geojson": "was written with software 'compoundwatch 0.1.0', manifest.json says 'compoundwatch 0.9",
        },
    ),
    "when a scene was taken": (
        edits("manifest.json", "2022-01-04T03:25:41Z", "2022-01-05T03:25:41Z"),
        {"manifest.json": MANIFEST_CHANGED},
    ),
    "a setting": (edits("manifest.json", '"alpha": 0.001', '"alpha": 0.01'), {"manifest.json": MANIFEST_CHANGED}),
    "what was left out": (
        lambda folder: edit_json(folder / "manifest.json", lambda m: m["skipped"].pop()),
        {"manifest.json": MANIFEST_CHANGED},
    ),
    "a state in the manifest": (
        edits("manifest.json", '"UNCHANGED": 1', '"UNCHANGED": 2'),
        {
            "manifest.json": MANIFEST_CHANGED,
            "sites.geojson": "tells of the states",
            "log.jsonl": "states: UNCHANGED is 1",
        },
    ),
    "an earlier manifest": (
        lambda folder: shutil.copy(folder.parent / "second.json", folder / "manifest.json"),
        {"manifest.json": f"manifest.json is that of an earlier run, {RUNS[1]}, not of the last one"},
    ),
    "no log": (lambda folder: (folder / "log.jsonl").unlink(), {"log.jsonl": "missing: log.jsonl is missing"}),
    "the first line less": (without_line(1), {"log.jsonl": "before line 1, which is numbered 2, lines are missing"}),
    "a line less": (without_line(2), {"log.jsonl": "before line 2, which is numbered 3, lines are missing"}),
    "the last line less": (without_line(3), {"log.jsonl": "it has 2 lines; when this result was written, it had 3"}),
    "lines in another order": (reordered, {"log.jsonl": "lines were re-ordered"}),
    "a line put in": (put_in, {"log.jsonl": "one was put between|is numbered|lines are missing"}),
    "an earlier line": (
        line_edited(1, '"EMPTIED": 1', '"EMPTIED": 0'),
        {"log.jsonl": "line 1 was changed after line 2 was written"},
    ),
    "the last line": (
        line_edited(3, "2025-01-15T12", "2025-01-14T12"),
        {"log.jsonl": "time is '2025-01-14T12:00:00Z' in the last line of log.jsonl, but '2025-01-15T12:00:00Z' in"},
    ),
    "a version of software in the log": (
        line_edited(3, '"numpy": "2.0"', '"numpy": "3.0"'),
        {"log.jsonl": "software: numpy is '3.0' in the last line of log.jsonl, but '2.0' in manifest.json"},
    ),
    "spaces in the last line": (
        line_edited(3, '": ', '":  '),
        {"log.jsonl": "says the same as the manifest, but was written anew"},
    ),
    "line ends": (windows_lines, {"log.jsonl": "was changed after|written anew"}),
    "a line that is no JSON": (line_edited(2, '"line"', "line"), {"log.jsonl": "line 2 is not a JSON object"}),
    "a log cut off": (
        lambda folder: (folder / "log.jsonl").write_bytes((folder / "log.jsonl").read_bytes()[:-1]),
        {"log.jsonl": "its last line is cut off"},
    ),
    "GeoJSON that is none": (
        lambda folder: (folder / "sites.geojson").write_text('{"features": [{"properties": 3}]'),
        {"sites.geojson": "is not what compoundwatch writes: no JSON"},
    ),
    "a GeoPackage that is none": (
        lambda folder: (folder / "watch.gpkg").write_bytes(b"no database" * 1000),
        {"watch.gpkg": "is not what compoundwatch writes: no GeoPackage"},
    ),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_alteration_is_named(folder: Path, name: str) -> None:
    alter, wanted = ALTERATIONS[name]
    alter(folder)
    found = told(folder)
    assert found, "nothing was noticed"
    for where, pattern in wanted.items():
        assert any(re.search(pattern, text) for text in found.get(where, [])), found
    if name != "an earlier manifest":  # which lists the files of another run
        innocent = {p.relative_to(folder).as_posix() for p in (folder / "rasters").iterdir()} - set(wanted)
        assert not innocent & set(found)


def test_a_forger_who_also_writes_the_manifest(folder: Path) -> None:
    edit(folder / "sites.geojson", '"score": 98.0', '"score": 12.0')
    reseal(folder)
    found = told(folder)
    assert MANIFEST_CHANGED in found["manifest.json"][0]
    assert "score is 12.0" in found["sites.geojson"][0]


def test_a_forger_who_also_writes_the_log(folder: Path) -> None:
    """Now every hash is right; the files contradict one another."""
    edit(folder / "sites.geojson", '"score": 98.0', '"score": 12.0')
    reseal(folder)
    relog(folder)
    assert set(told(folder)) == {"sites.geojson"}
    assert "score is 12.0 in sites.geojson, but 98.0 in watch.gpkg" in told(folder)["sites.geojson"][0]


def test_a_forger_who_changes_all_is_found_by_the_seal_alone(folder: Path) -> None:
    seal = digest(folder / "manifest.json")
    one_bit(folder)
    reseal(folder)
    relog(folder)
    found = verify(folder)
    assert "written anew" not in " ".join(d.text for d in found.differences)
    assert found.as_written, found.differences
    (difference,) = verify(folder, seal).differences
    assert (difference.fault, difference.where) == (Fault.CHANGED, "manifest.json")
    assert "not the one whose seal was noted" in difference.text


# ----------------------------------------------------------------------------------------------------------- hostile


def refused(folder: Path) -> str:
    with pytest.raises(SettingsError) as error:
        verify(folder)
    text = str(error.value)
    assert text.isprintable(), text
    return text


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    assert "nothing of that name" in refused(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    assert "found a file" in refused(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "found no manifest.json" in refused(tmp_path / "empty")


@pytest.mark.parametrize("target", ["/etc/passwd", "sites.geojson", "nowhere"])
def test_links_are_refused(folder: Path, target: str) -> None:
    (folder / EFFECT).unlink()
    (folder / EFFECT).symlink_to(target)
    assert f"{EFFECT} is a link to another place" in refused(folder)


def test_a_linked_folder_and_a_linked_manifest_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "rasters").rename(tmp_path / "rasters")
    (folder / "rasters").symlink_to(tmp_path / "rasters")
    assert "rasters is a link" in refused(folder)
    (folder / "rasters").unlink()
    (folder / "manifest.json").rename(tmp_path / "manifest.json")
    (folder / "manifest.json").symlink_to(tmp_path / "manifest.json")
    assert "manifest.json is a link" in refused(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_hang(folder: Path) -> None:
    (folder / EFFECT).unlink()
    os.mkfifo(folder / EFFECT)
    assert "is neither a file nor a folder" in refused(folder)


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "a/../../b", "C:/x", "a\\..\\b", "", "a//b", "./a", "a\nb", "x\x1b[2J", 3, None],
)
def test_paths_that_leave_the_folder_are_refused(folder: Path, path: Any) -> None:
    edit_json(folder / "manifest.json", lambda m: m["outputs"][0].update(path=path))
    assert "no path inside the folder" in refused(folder) or "names no file" in refused(folder)


def test_a_file_listed_twice_is_refused(folder: Path) -> None:
    edit_json(folder / "manifest.json", lambda m: m["outputs"].append(m["outputs"][0]))
    assert "twice" in refused(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read as JSON"),
        (b"[]", "expected a JSON object, found list"),
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b'{"manifest_version": NaN}', "NaN is no number of JSON"),
        (b'{"kind": 1, "kind": 2}', "a name is given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"manifest_version": ' + b"9" * 10_000 + b"}", "cannot be read as JSON"),
        (b'{"manifest_version": 99}', "expected manifest_version 1, found 99"),
        (b'{"manifest_version": 1, "kind": "watch"}', "expected 'run_id' to be str, found None"),
    ],
)
def test_broken_manifests_are_refused(folder: Path, content: bytes, says: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert says in refused(folder)


@pytest.mark.parametrize("member", ["kind", "run_id", "software", "counts", "outputs"])
@pytest.mark.parametrize("value", [None, 7, [1]])
def test_members_of_another_kind_are_refused_or_named(folder: Path, member: str, value: Any) -> None:
    edit_json(folder / "manifest.json", lambda m: m.update({member: value}))
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("member", ["log", "states", "area", "settings", "scenes", "skipped", "inputs"])
@pytest.mark.parametrize("value", [None, 7, [1], {"a": 1}])
def test_odd_members_are_named(folder: Path, member: str, value: Any) -> None:
    edit_json(folder / "manifest.json", lambda m: m.update({member: value}))
    assert "manifest.json" in told(folder)


def test_a_huge_manifest_and_a_huge_file_are_not_read(folder: Path) -> None:
    os.truncate(folder / EFFECT, 10**12)
    assert "has 1000000000000 bytes, not" in told(folder)[EFFECT][0]
    edit_json(
        folder / "manifest.json",
        lambda m: next(e for e in m["outputs"] if e["path"] == EFFECT).update(bytes=10**12),
    )
    assert f"larger than {MAX_FILE_BYTES // 10**9} GB" in refused(folder)
    os.truncate(folder / "manifest.json", 10**11)
    assert "larger than 500 MB" in refused(folder)


def test_a_database_that_does_not_end_is_stopped(folder: Path) -> None:
    endless = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n) SELECT k AS site_id, k AS fid FROM n"
    with sqlite3.connect(folder / "watch.gpkg") as database:
        database.execute("ALTER TABLE sites RENAME TO elsewhere")
        database.execute(f"CREATE VIEW sites AS {endless}")
    database.close()
    assert any("it has no table 'sites'" in text for text in told(folder)["watch.gpkg"])


def test_a_result_of_nobody_cannot_write_on_the_terminal(folder: Path) -> None:
    for name in ("manifest.json", "log.jsonl"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace(RUNS[-1], "\\u001b[2J\\u009b" + "x" * 500), encoding="utf-8")
    (folder / "\x1b[2J").write_text("")
    found = verify(folder)
    for text in (found.run_id, found.created, found.software, *(d.text + d.where for d in found.differences)):
        assert text.isprintable()
        assert len(text) < 1200


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    (folder / EFFECT).chmod(0)
    assert EFFECT in refused(folder)


def test_random_bytes_never_make_it_fail_otherwise(folder: Path) -> None:
    """Whatever one byte becomes, it is named or refused in a sentence, and never passed over."""
    rng = np.random.default_rng(11)
    names = [p.relative_to(folder) for p in sorted(folder.rglob("*")) if p.is_file()]
    for _ in range(60):
        path = folder / names[rng.integers(len(names))]
        content = path.read_bytes()
        place = int(rng.integers(len(content)))
        path.write_bytes(content[:place] + bytes([content[place] ^ int(rng.integers(1, 256))]) + content[place + 1 :])
        with contextlib.suppress(SettingsError):
            assert not verify(folder).as_written, (path, place)
        path.write_bytes(content)
    assert verify(folder).as_written
