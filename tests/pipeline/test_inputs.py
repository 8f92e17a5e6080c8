"""What a run starts from is recorded: which files, which software, which settings."""

from __future__ import annotations

import datetime as dt
import hashlib
from importlib.metadata import version
from pathlib import Path

import rasterio

from compoundwatch.model import InputFile, Settings
from compoundwatch.pipeline.inputs import input_files, named, provenance

NOW = dt.datetime(2025, 1, 15, 12, tzinfo=dt.UTC)


def test_files_are_recorded_with_size_and_hash_and_without_folders(tmp_path: Path) -> None:
    (tmp_path / "sites.geojson").write_bytes(b"x" * 300_000)
    found = input_files(area=tmp_path / "sites.geojson", events=None, settings=Settings(), other=tmp_path / "none")
    digest = hashlib.sha256(b"x" * 300_000).hexdigest()
    assert found == (InputFile("area", "sites.geojson", 300_000, digest),)
    assert named(found) == {"area": f"sites.geojson sha256:{digest}"}
    assert input_files(area=str(tmp_path / "sites.geojson")) == found


def test_software_is_recorded() -> None:
    software = provenance(Settings(), NOW, {}).software
    assert software["compoundwatch"] == version("compoundwatch")
    assert software["numpy"] == version("numpy")
    assert software["gdal"] == rasterio.__gdal_version__
    assert all(isinstance(v, str) and v for v in software.values())


def test_a_run_is_named_by_its_time_and_by_what_was_asked() -> None:
    one, same = provenance(Settings(), NOW, {"seed": "1"}), provenance(Settings(), NOW, {"seed": "1"})
    other = provenance(Settings(), NOW, {"seed": "2"})
    assert one.run_id == same.run_id
    assert one.run_id.startswith("20250115T120000Z-")
    assert one.run_id != other.run_id
    assert one.settings_key == other.settings_key
    loose = Settings.model_validate({"detect": {"alpha": 0.01}})
    assert provenance(loose, NOW, {}).settings_key != one.settings_key
