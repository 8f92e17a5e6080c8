"""The report of a finished result: the same page again, and nothing inside the sealed folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from compoundwatch import outputs, pipeline
from compoundwatch.cli import main
from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.model import WatchResult
from compoundwatch.outputs.reading import as_stored
from compoundwatch.pipeline import reporting
from compoundwatch.pipeline.summarising import told

from ..outputs.conftest import result  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A result as the main job writes it, with the sensors that are registered."""
    from compoundwatch.sensors import sensor

    out = tmp_path_factory.mktemp("reporting") / "my result"
    real = replace(result, sensors=(sensor("sentinel2"),))
    outputs.write_watch(real, out, rasters=False, told=told(as_stored(real)))
    return out


def test_the_report_is_the_same_again_and_the_result_stays_sealed(folder: Path) -> None:
    written = pipeline.report(folder)
    assert written == folder.parent / "my result-report.html"
    assert written.read_bytes() == (folder / "report.html").read_bytes()
    assert pipeline.verify(folder).as_written
    assert sorted(p.name for p in folder.parent.iterdir()) == ["my result", "my result-report.html"]


def test_names_say_site_and_language(folder: Path) -> None:
    assert reporting.default_path(folder, "kk-1", "km", ".pdf").name == "my result-report-kk-1-km.pdf"
    assert "/" not in reporting.default_path(folder, "quiet site/2", "en", ".html").name


def test_nothing_is_written_into_the_result(folder: Path) -> None:
    with pytest.raises(SettingsError, match="outside of the result"):
        pipeline.report(folder, out=folder / "again.html")
    with pytest.raises(SettingsError, match="outside of the result"):
        pipeline.report(folder, out=folder / "pictures" / ".." / "report.html")


def test_wrong_wishes_are_told_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    with pytest.raises(SettingsError, match="en or km"):
        pipeline.report(folder, out=out, language="fr")
    with pytest.raises(SettingsError, match="no site 'kk-9'"):
        pipeline.report(folder, out=out, site_id="kk-9")
    with pytest.raises(SettingsError, match="no readable manifest"):
        pipeline.report(tmp_path, out=out.with_name("r2.html").parent.parent / "r2.html")
    with pytest.raises(OutputError, match="cannot be written"):
        pipeline.report(folder, out=tmp_path / "none" / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "km.html"
    done = CliRunner().invoke(main, ["report", str(folder), "--lang", "km", "--site", "kk-1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output == f"Written to {out}.\n"
    assert '<html lang="km">' in out.read_text(encoding="utf-8")
    wrong = CliRunner().invoke(main, ["report", str(folder), "--basemap", "http://x", "--out", str(out)])
    assert wrong.exit_code == 2
    assert "address of map tiles" in wrong.output
