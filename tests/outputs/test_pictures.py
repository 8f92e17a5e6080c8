"""Pictures come back as they were written, lie where they should, and files that are no such pictures are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from compoundwatch.errors import SettingsError
from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.pictures import read_pictures

from .conftest import GRID, picture


@pytest.fixture(scope="module")
def watched(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[WatchResult, Path]:
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None
    framed = replace(result, frames={"kk-1": (picture("2022-06-01", 200), before, after)})
    folder = tmp_path_factory.mktemp("pictures")
    write_watch(framed, folder, rasters=False, report=False)
    return framed, folder


def listed(folder: Path) -> list[dict[str, object]]:
    outputs: list[dict[str, object]] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["outputs"]
    return outputs


def test_every_picture_comes_back_with_its_place_and_time(watched: tuple[WatchResult, Path]) -> None:
    result, folder = watched
    found = list(read_pictures(folder, listed(folder)))
    assert [(site, when) for site, when, _ in found] == [
        ("kk-1", "between"),
        ("kk-1", "before"),
        ("kk-1", "after"),
        ("quiet site/2", "before"),
    ]
    for read, written in zip([p for s, _, p in found if s == "kk-1"], result.frames["kk-1"], strict=True):
        np.testing.assert_array_equal(read.rgb, written.rgb)
        np.testing.assert_array_equal(read.seen, written.seen)
        assert (read.grid, read.acquired, read.scene_id, read.sensor) == (
            written.grid,
            written.acquired,
            written.scene_id,
            written.sensor,
        )


def test_a_picture_opens_as_colours_with_alpha(watched: tuple[WatchResult, Path]) -> None:
    _, folder = watched
    with rasterio.open(folder / "pictures" / "kk-1_sentinel2_20231228.tif") as file:
        assert [c.name for c in file.colorinterp] == ["red", "green", "blue", "alpha"]
        assert file.crs.to_epsg() == 32648
        assert file.tags()["WHEN"] == "before"
        assert file.tags()["RUN_ID"] == "20250115T120000Z-abcd1234"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "pictures/../../secret.tif"}, "does not write"),
        ({"path": "pictures/a.vrt"}, "does not write"),
        ({"when": "later"}, "does not write"),
        ({"path": "pictures/none.tif"}, "cannot be read"),
        ({"acquired": "yesterday"}, "cannot be read"),
    ],
)
def test_other_files_are_refused(watched: tuple[WatchResult, Path], change: dict[str, str], words: str) -> None:
    _, folder = watched
    entry = next(e for e in listed(folder) if str(e["path"]).startswith("pictures/") and e["path"].endswith(".tif"))
    with pytest.raises(SettingsError, match=words):
        list(read_pictures(folder, [{**entry, **change}]))


def test_a_raster_that_is_no_picture_is_refused(watched: tuple[WatchResult, Path], tmp_path: Path) -> None:
    _, folder = watched
    entry = next(e for e in listed(folder) if str(e["path"]).startswith("pictures/") and e["path"].endswith(".tif"))
    (tmp_path / "pictures").mkdir()
    profile = {"driver": "GTiff", "height": 2, "width": 2, "count": 1, "dtype": "uint8", "crs": "EPSG:32648"}
    with rasterio.open(tmp_path / str(entry["path"]), "w", transform=GRID.transform, **profile) as file:
        file.write(np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(SettingsError, match="expected colours"):
        list(read_pictures(tmp_path, [entry]))
