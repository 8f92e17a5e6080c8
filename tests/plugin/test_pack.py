"""The plug-in as a ZIP file: the description is that of the command line, and the archive is the same each time."""

from __future__ import annotations

import ast
import configparser
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

import compoundwatch
import pack
from compoundwatch.cli import main
from compoundwatch_qgis.words import ADVANCED, JUDGING, LABELS, LOADED, TITLES

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 9)
"""The Python inside QGIS 3.22 for Windows."""


def test_the_description_is_that_of_the_command_line() -> None:
    assert pack.DESCRIPTION.read_text(encoding="utf-8") == pack.described(), "run: make plugin"


def test_the_words_of_qgis_are_about_parameters_there_are() -> None:
    assert set(TITLES) <= set(main.commands)
    assert set(LOADED) <= set(TITLES)
    assert set(JUDGING) <= set(LOADED)
    parameters = [p for name in TITLES for p in pack._command(main.commands[name])["parameters"]]
    assert {p["name"] for p in parameters} >= ADVANCED | set(LABELS)
    assert {p["name"] for p in parameters if not p["help"]} == set(LABELS)


def test_every_option_has_one_long_flag_and_a_name_of_its_own() -> None:
    """So that a value that begins with a dash cannot be taken for an option."""
    for name in TITLES:
        parameters = pack._command(main.commands[name])["parameters"]
        assert len({p["name"] for p in parameters}) == len(parameters)
        for p in parameters:
            assert not p["flag"] or p["flag"].startswith("--")


def test_the_archive_is_the_same_each_time_and_holds_what_qgis_wants(tmp_path: Path) -> None:
    for name in ("a.zip", "new/b.zip"):
        pack.pack(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "new" / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        names = packed.namelist()
        assert {Path(n).parent.as_posix() for n in names} == {"compoundwatch_qgis"}
        assert not [n for n in names if n.endswith(".pyc")]
        assert packed.read("compoundwatch_qgis/LICENSE") == (ROOT / "LICENSE").read_bytes()
        metadata = configparser.ConfigParser()
        metadata.read_string(packed.read("compoundwatch_qgis/metadata.txt").decode())
    about = metadata["general"]
    assert about["version"] == compoundwatch.__version__
    assert about["qgisMinimumVersion"] == "3.22"
    assert about["hasProcessingProvider"] == "yes"
    assert f"compoundwatch_qgis/{about['icon']}" in names
    assert ET.parse(pack.PLUGIN / about["icon"]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("path", sorted(pack.PLUGIN.glob("*.py")), ids=lambda p: p.name)
def test_the_python_inside_qgis_reads_it_and_nothing_of_the_package_is_imported(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=OLDEST)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level}
    assert not {m for m in imported if m.partition(".")[0] in ("compoundwatch", "PyQt5", "PyQt6")}
