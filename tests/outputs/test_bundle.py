"""A bundle is a valid bag of exactly the result, made only of a result that is as it was written."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.bundle import write_bundle
from compoundwatch.outputs.evidence import verify

NOW = dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def written(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("written") / "result"
    write_watch(result, out, report=False)
    return out


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "result"
    shutil.copytree(written, copy)
    return copy


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def validates(bag: Path) -> bool:
    command = [sys.executable, "-m", "bagit", "--validate", str(bag)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def bag_info(bag: Path) -> dict[str, str]:
    lines = (bag / "bag-info.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split(": ", 1) for line in lines)


def test_a_folder_becomes_a_valid_bag(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    bag = write_bundle(folder, tmp_path / "new" / "bag", NOW, {"Source-Organization": "ភូមិ archive"})
    assert bag == tmp_path / "new" / "bag"
    assert contents(folder) == before == contents(bag / "data")
    assert validates(bag)
    assert verify(bag / "data").as_written
    assert [p.name for p in bag.parent.iterdir()] == ["bag"]


def test_its_lists_hold_the_hashes_of_all_files(folder: Path, tmp_path: Path) -> None:
    bag = write_bundle(folder, tmp_path / "bag", NOW)
    for kind in ("sha256", "sha512"):
        listed = dict(
            reversed(line.split(maxsplit=1)) for line in (bag / f"manifest-{kind}.txt").read_text().splitlines()
        )
        assert listed == {
            f"data/{name}": hashlib.new(kind, content).hexdigest() for name, content in contents(folder).items()
        }


def test_bag_info_comes_from_the_manifest(folder: Path, tmp_path: Path) -> None:
    info = bag_info(write_bundle(folder, tmp_path / "bag", NOW, {"Source-Organization": "ភូមិ archive"}))
    sizes = [len(content) for content in contents(folder).values()]
    assert info == {
        "Source-Organization": "ភូមិ archive",
        "External-Identifier": "20250115T120000Z-abcd1234",
        "External-Description": "Result of compoundwatch watch of kampot-test, run of 2025-01-15T12:00:00Z: EMPTIED 1, "
        "NOT_OBSERVABLE 1, UNCHANGED 1",
        "Bagging-Date": "2026-02-03",
        "Bag-Software-Agent": "compoundwatch 0.1.0",
        "Manifest-SHA256": hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest(),
        "Payload-Oxum": f"{sum(sizes)}.{len(sizes)}",
    }


@pytest.mark.parametrize("name", ["evidence.zip", "Evidence.ZIP"])
def test_a_zip_holds_the_bag(folder: Path, tmp_path: Path, name: str) -> None:
    packed = write_bundle(folder, tmp_path / name, NOW)
    with zipfile.ZipFile(packed) as file:
        assert file.testzip() is None
        assert all(entry.startswith(f"{packed.stem}/") for entry in file.namelist())
        file.extractall(tmp_path / "unpacked")
    bag = tmp_path / "unpacked" / packed.stem
    assert validates(bag)
    assert contents(bag / "data") == contents(folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "result", "unpacked"])


def test_equal_results_make_equal_bundles(folder: Path, tmp_path: Path) -> None:
    first, second = (write_bundle(folder, tmp_path / k / "x.zip", NOW).read_bytes() for k in "ab")
    assert first == second


def test_a_bag_that_was_tampered_with_is_not_valid(folder: Path, tmp_path: Path) -> None:
    bag = write_bundle(folder, tmp_path / "bag", NOW)
    path = bag / "data" / "sites.geojson"
    path.write_text(path.read_text(encoding="utf-8").replace('"score": 98.0', '"score": 12.0'), encoding="utf-8")
    assert not validates(bag)


def test_files_of_the_user_stay_behind(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    bag = write_bundle(folder, tmp_path / "bag", NOW)
    assert not (bag / "data" / "notes.txt").exists()
    assert validates(bag)


def test_a_result_that_differs_is_not_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "sites.geojson").write_text("{}")
    with pytest.raises(OutputError, match=r"not as it was written and was not packed: .*sites\.geojson.* more"):
        write_bundle(folder, tmp_path / "bag.zip", NOW)
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_nothing_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bag.zip").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("kept")
    for name in ("bag.zip", "full"):
        with pytest.raises(SettingsError, match="is there already"):
            write_bundle(folder, tmp_path / name, NOW)
    assert (tmp_path / "bag.zip").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    assert validates(write_bundle(folder, tmp_path / "empty", NOW))


def test_a_result_stays_as_it_is(folder: Path, tmp_path: Path) -> None:
    for out in (folder / "bag.zip", folder, tmp_path):
        with pytest.raises(SettingsError, match="name another place"):
            write_bundle(folder, out, NOW)
    assert verify(folder).as_written


@pytest.mark.parametrize(
    ("label", "text"),
    [("Payload-Oxum", "1.1"), ("payload-oxum", "1.1"), ("a b", "x"), ("", "x"), ("A:", "x"), ("A", "x\ny"), ("A", " ")],
)
def test_labels_that_would_break_the_bag_are_refused(folder: Path, tmp_path: Path, label: str, text: str) -> None:
    with pytest.raises(SettingsError, match=r"label|text"):
        write_bundle(folder, tmp_path / "bag", NOW, {label: text})


def test_a_hostile_name_of_an_area_cannot_write_lines_of_its_own(result: WatchResult, tmp_path: Path) -> None:
    odd = replace(result, area=replace(result.area, area_id="x\nBagging-Date: 1999-01-01"))
    write_watch(odd, tmp_path / "result", rasters=False, report=False)
    bag = write_bundle(tmp_path / "result", tmp_path / "bag", NOW)
    assert bag_info(bag)["Bagging-Date"] == "2026-02-03"
    assert validates(bag)


def test_without_the_library_it_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bagit", None)
    with pytest.raises(SettingsError, match=r"pip install 'compoundwatch\[evidence\]'"):
        write_bundle(folder, tmp_path / "bag", NOW)


def test_a_bag_given_to_verify_is_explained(folder: Path, tmp_path: Path) -> None:
    bag = write_bundle(folder, tmp_path / "bag", NOW)
    with pytest.raises(SettingsError, match="verify its folder data"):
        verify(bag)


def test_a_time_stamp_by_hand_as_the_docs_say(folder: Path, tmp_path: Path) -> None:
    """RFC 3161 with openssl alone, against an authority made up for the test."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    bag = write_bundle(folder, tmp_path / "bag", NOW)
    config = tmp_path / "tsa.cnf"
    config.write_text(
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nCN=test authority\n"
        "[ext]\nextendedKeyUsage=critical,timeStamping\nbasicConstraints=CA:true\n"
        "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\ncrypto_device=builtin\nsigner_digest=sha256\n"
        "default_policy=1.2.3.4\ndigests=sha256,sha512\naccuracy=secs:1\n"
    )

    def openssl(words: str) -> str:
        done = subprocess.run(
            ["openssl", *shlex.split(words)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    (tmp_path / "serial").write_text("01\n")
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out tsa.pem -days 2 -config tsa.cnf")
    openssl("ts -query -data bag/tagmanifest-sha256.txt -sha256 -cert -out stamp.tsq")
    signed = "ts -reply -queryfile stamp.tsq -signer tsa.pem -inkey key.pem -config tsa.cnf -section t -out stamp.tsr"
    openssl(signed)
    check = "ts -verify -data bag/tagmanifest-sha256.txt -in stamp.tsr -CAfile tsa.pem"
    assert "Verification: OK" in openssl(check)
    (bag / "tagmanifest-sha256.txt").write_text("other")
    assert "Verification: OK" not in openssl(check)


def test_the_manifest_in_the_bag_tells_of_the_same_run(folder: Path, tmp_path: Path) -> None:
    bag = write_bundle(folder, tmp_path / "bag", NOW)
    assert (
        json.loads((bag / "data" / "manifest.json").read_text(encoding="utf-8"))["run_id"]
        == (bag_info(bag)["External-Identifier"])
    )
