"""Files appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from compoundwatch.errors import OutputError
from compoundwatch.outputs import staging
from compoundwatch.outputs.staging import check_folder, files_in, staged


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file (with its bytes) and folder below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def listed(folder: Path, *names: str) -> None:
    """Leave a manifest behind as an earlier result would."""
    outputs = [{"path": n, "sha256": hashlib.sha256((folder / n).read_bytes()).hexdigest()} for n in names]
    (folder / "manifest.json").write_text(json.dumps({"outputs": outputs}))


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A folder with an earlier result and a file of the user's own."""
    folder = tmp_path / "out"
    (folder / "rasters").mkdir(parents=True)
    (folder / "a.txt").write_text("old a")
    (folder / "rasters" / "b.txt").write_text("old b")
    (folder / "notes.txt").write_text("mine")
    return folder


def test_new_files_replace_old_ones_and_leave_others_alone(earlier: Path) -> None:
    with staged(earlier) as aside:
        (aside / "a.txt").write_text("new a")
        (aside / "new" / "deep").mkdir(parents=True)
        (aside / "new" / "deep" / "c.txt").write_text("new c")
    assert (earlier / "a.txt").read_text() == "new a"
    assert (earlier / "new" / "deep" / "c.txt").read_text() == "new c"
    assert (earlier / "rasters" / "b.txt").read_text() == "old b"
    assert (earlier / "notes.txt").read_text() == "mine"
    assert [p.name for p in earlier.parent.iterdir()] == ["out"]


def test_a_failure_while_writing_changes_nothing(earlier: Path) -> None:
    before = snapshot(earlier.parent)

    def fail() -> None:
        with staged(earlier) as aside:
            (aside / "a.txt").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert snapshot(earlier.parent) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_a_failure_while_moving_puts_everything_back(
    earlier: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    listed(earlier, "rasters/b.txt")
    before = snapshot(earlier.parent)
    real, calls = os.replace, []

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == fails_at:
            raise PermissionError(13, "in use")
        real(source, target)

    monkeypatch.setattr(staging.os, "replace", replace)

    def write() -> None:
        with staged(earlier) as aside:
            for name in ("a.txt", "new/c.txt", "new/d.txt", "manifest.json"):
                (aside / name).parent.mkdir(exist_ok=True)
                (aside / name).write_text(f"new {name}")

    with pytest.raises(OutputError, match="permission was refused"):
        write()
    assert len(calls) >= fails_at
    assert snapshot(earlier.parent) == before


def test_a_failure_leaves_no_new_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), staged(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_moves_last(tmp_path: Path) -> None:
    for name in ("z.txt", "manifest.json", "a.txt"):
        (tmp_path / name).write_text("")
    assert [p.name for p in files_in(tmp_path)] == ["a.txt", "z.txt", "manifest.json"]


def test_files_of_an_earlier_result_go_where_nobody_touched_them(earlier: Path) -> None:
    (earlier / "touched.txt").write_text("as written")
    (earlier.parent / "outside.txt").write_text("outside")
    listed(earlier, "rasters/b.txt", "touched.txt", "../outside.txt")
    (earlier / "touched.txt").write_text("by hand")
    with staged(earlier) as aside:
        (aside / "a.txt").write_text("new")
        (aside / "manifest.json").write_text("{}")
    assert not (earlier / "rasters").exists()
    assert (earlier / "touched.txt").read_text() == "by hand"
    assert (earlier.parent / "outside.txt").read_text() == "outside"
    assert (earlier / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", '{"outputs": [{"path": 3}]}', '{"outputs": {"a": 1}}', "\udcff"])
def test_a_broken_manifest_of_an_earlier_result_is_passed_over(earlier: Path, text: str) -> None:
    (earlier / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with staged(earlier) as aside:
        (aside / "manifest.json").write_text("{}")
    assert (earlier / "rasters" / "b.txt").read_text() == "old b"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    for folder in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(OutputError, match="a file of that name is in the way"):
            check_folder(folder)
        with pytest.raises(OutputError, match="taken"), staged(folder):
            pass
    assert (tmp_path / "taken").read_text() == "x"


@pytest.mark.parametrize("companion", ["watch.gpkg-wal", "watch.gpkg-journal"])
def test_an_open_geopackage_is_not_replaced(tmp_path: Path, companion: str) -> None:
    (tmp_path / "watch.gpkg").write_text("db")
    (tmp_path / companion).write_text("")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="open in another program"):
        check_folder(tmp_path)
    with pytest.raises(OutputError, match="QGIS"), staged(tmp_path):
        pass
    assert snapshot(tmp_path) == before


def test_asking_whether_a_folder_will_do_leaves_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path / "x" / "y")
    assert list(tmp_path.iterdir()) == []
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_parent_may_not_be_written_is_staged_inside(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = staging.tempfile.mkdtemp

    def mkdtemp(prefix: str, dir: Path) -> str:
        if Path(dir) == earlier.parent:
            raise PermissionError(13, "no")
        return str(real(prefix=prefix, dir=dir))

    monkeypatch.setattr(staging.tempfile, "mkdtemp", mkdtemp)
    with staged(earlier) as aside:
        assert aside.parent == earlier
        (aside / "a.txt").write_text("new")
    assert sorted(p.name for p in earlier.iterdir()) == ["a.txt", "notes.txt", "rasters"]
    assert (earlier / "a.txt").read_text() == "new"


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"), staged(tmp_path / "o"):
        raise OSError(28, "No space left on device")
