"""A result against the same result made anew: whoever also writes hashes, manifest and log is found by what is said."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.evidence import Fault, verify
from compoundwatch.outputs.recomputed import byte_differences, differences, site_differences

from .test_evidence import DIRECTION, EFFECT, edit, edit_json, pixel, relog, reseal, sql


@pytest.fixture(scope="module")
def written(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same result twice."""
    home = tmp_path_factory.mktemp("twice")
    for name in ("result", "anew"):
        write_watch(result, home / name)
    return home


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written / "result", tmp_path / "result")
    return tmp_path / "result"


def told(folder: Path, anew: Path) -> dict[str, list[str]]:
    unlike, other = differences(folder, anew)
    found: dict[str, list[str]] = {}
    for difference in [*unlike, *byte_differences(other)]:
        assert difference.fault == Fault.RECOMPUTED
        assert difference.text.isprintable()
        found.setdefault(difference.where, []).append(difference.text)
    return found


def test_the_same_is_the_same(written: Path) -> None:
    assert differences(written / "result", written / "anew") == ([], [])
    assert site_differences(written / "result", written / "anew", ["kk-1", "quiet site/2"]) == []


# -------------------------------------------------------------------------------------------------------- alterations


def everywhere(field: str, old: Any, new: Any) -> Callable[[Path], None]:
    """Change a field of the answer for kk-1 in every file that tells it."""

    def change(folder: Path) -> None:
        def collection(content: Any) -> None:
            (row,) = [f["properties"] for f in content["features"] if f["properties"]["site_id"] == "kk-1"]
            assert row[field] == old
            row[field] = new

        edit_json(folder / "sites.geojson", collection)
        edit_json(
            folder / "stac" / "kk-1.json", lambda item: item["properties"].update({f"compoundwatch:{field}": new})
        )
        for table in ("sites", "states"):
            sql(folder, f"UPDATE {table} SET {field} = {new!r} WHERE site_id = 'kk-1'")

        def manifest(content: Any) -> None:
            for row in content["states"]:
                if row["site_id"] == "kk-1" and field in row:
                    row[field] = new

        edit_json(folder / "manifest.json", manifest)

    return change


def tagged(folder: Path) -> None:
    with rasterio.open(folder / EFFECT, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(run_id="another")


def moved(folder: Path) -> None:
    with rasterio.open(folder / EFFECT, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.transform = rasterio.Affine.translation(30, 0) @ file.transform


def picture(folder: Path) -> None:
    path = next((folder / "pictures").glob("*.tif"))
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        bands = file.read()
        bands[0] = np.where(bands[0] > 100, 0, 255)
        file.write(bands)


def dropped(name: str) -> Callable[[Path], None]:
    """A file that is gone from the folder and from the manifest."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        edit_json(folder / "manifest.json", lambda m: m.update(outputs=[e for e in m["outputs"] if e["path"] != name]))

    return change


def added(folder: Path) -> None:
    (folder / "rasters" / "more.tif").write_bytes((folder / EFFECT).read_bytes())
    edit_json(folder / "manifest.json", lambda m: m["outputs"].append({"path": "rasters/more.tif"}))


def without_site(folder: Path) -> None:
    edit_json(
        folder / "sites.geojson",
        lambda c: c.update(features=[f for f in c["features"] if f["properties"]["site_id"] != "kk-1"]),
    )
    for table in ("sites", "states"):
        sql(folder, f"DELETE FROM {table} WHERE site_id = 'kk-1'")


def edits(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder / name, old, new)


ALTERATIONS: dict[str, tuple[Callable[[Path], Any], dict[str, str]]] = {
    "a score": (
        everywhere("score", 98.0, 12.0),
        {
            "sites.geojson": r"site 'kk-1': score is 12.0 in sites.geojson and watch.gpkg and watch.gpkg \(states\) "
            "and manifest.json and stac/, recomputed 98.0"
        },
    ),
    "a state": (
        everywhere("state", "EMPTIED", "BUILDING"),
        {"sites.geojson": "state is 'BUILDING' in .*, recomputed 'EMPTIED'"},
    ),
    "a date": (
        everywhere("change_date", "2024-03-10", "2024-03-01"),
        {"sites.geojson": "change_date is '2024-03-01' in .*, recomputed '2024-03-10'"},
    ),
    "a number of views": (
        lambda folder: sql(folder, "UPDATE sites SET n_views = 400 WHERE site_id = 'kk-1'"),
        {"watch.gpkg": r"site 'kk-1': n_views is 400 in watch.gpkg, recomputed \d+"},
    ),
    "a site that is gone": (without_site, {"sites.geojson": "site 'kk-1' is not in sites.geojson, though it was"}),
    "a measured value": (
        lambda folder: sql(folder, "UPDATE series SET value = 0.125 WHERE fid = 3"),
        {"watch.gpkg (series)": r"row 3 \(site_id 'kk-1', scene_id .*: value is 0.125, recomputed 0"},
    ),
    "a measurement less": (
        lambda folder: sql(folder, "DELETE FROM series WHERE fid = 3"),
        {"watch.gpkg (series)": r"it has \d+ rows, recomputed \d+"},
    ),
    "an effect": (
        lambda folder: sql(folder, "UPDATE effects SET p_value = 0.0001"),
        {"watch.gpkg (effects)": "p_value is 0.0001, recomputed"},
    ),
    "a style": (
        lambda folder: sql(folder, "UPDATE layer_styles SET styleQML = 'none'"),
        {"watch.gpkg (layer_styles)": "styleQML is 'none', recomputed"},
    ),
    "an outline": (edits("sites.geojson", "103.9", "103.8"), {"sites.geojson": "row 1 .*: the outline is another"}),
    "the size of a patch": (
        edits("changes.geojson", '"area_m2": 600.0', '"area_m2": 6000.0'),
        {"changes.geojson": r"row 1 \(site_id 'kk-1'.*: area_m2 is 6000.0, recomputed 600.0"},
    ),
    "a pixel": (
        pixel,
        {DIRECTION: r"1 of \d+ pixels differs .*the first, in band 1, row 9, column 11, is 1, recomputed"},
    ),
    "a raster moved": (moved, {EFFECT: "lies elsewhere on the map"}),
    "a word about a raster": (tagged, {EFFECT: "differs from the one that was recomputed"}),
    "a picture": (picture, {"pictures/": r"\d+ of \d+ pixels differ"}),
    "a raster that is none": (
        lambda folder: (folder / EFFECT).write_bytes(b"II*\0"),
        {EFFECT: "is no raster that can be read"},
    ),
    "a chart": (
        lambda folder: shutil.copy(*sorted((folder / "charts").glob("*.png"))[:2]),
        {"charts/": "differs from the one that was recomputed"},
    ),
    "a sentence of the report": (
        lambda folder: (folder / "report.html").write_bytes((folder / "report.html").read_bytes() + b"<p>Closed.</p>"),
        {"report.html": "report.html differs from the one that was recomputed"},
    ),
    "a link in STAC": (
        edits("stac/catalog.json", '"type": "Catalog"', '"type":  "Catalogue"'),
        {"stac/catalog.json": "differs from the one that was recomputed"},
    ),
    "a file that is gone": (
        dropped(EFFECT),
        {EFFECT: "is missing: the run must have written it, but manifest.json does not list it"},
    ),
    "a file more": (added, {"rasters/more.tif": "listed by manifest.json, but this run writes no such file"}),
    "when a scene was taken": (
        edits("manifest.json", "2022-01-04T03:25:41Z", "2022-01-05T03:25:41Z"),
        {"manifest.json": "scene .*: acquired is '2022-01-05T03:25:41Z', recomputed '2022-01-04T03:25:41Z'"},
    ),
    "a scene less": (
        lambda folder: edit_json(folder / "manifest.json", lambda m: m["scenes"].pop()),
        {"manifest.json": "scene '.*' is not in it"},
    ),
    "a count": (
        lambda folder: edit_json(folder / "manifest.json", lambda m: m["counts"].update(effects=70)),
        {"manifest.json": r"it counts 70 effects, recomputed \d+"},
    ),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_alteration_is_named(folder: Path, written: Path, name: str) -> None:
    alter, wanted = ALTERATIONS[name]
    alter(folder)
    reseal(folder)
    relog(folder)
    found = told(folder, written / "anew")
    assert found, "nothing was noticed"
    for where, pattern in wanted.items():
        said = [text for place, texts in found.items() if place.startswith(where) for text in texts]
        assert any(re.search(pattern, text) for text in said), found


def test_one_who_changes_the_answer_everywhere_is_found_by_nothing_else(folder: Path, written: Path) -> None:
    everywhere("score", 98.0, 12.0)(folder)
    reseal(folder)
    relog(folder)
    assert verify(folder).as_written, verify(folder).differences
    assert "recomputed 98.0" in told(folder, written / "anew")["sites.geojson"][0]


def test_numbers_that_only_other_rounding_makes_are_equal(folder: Path, written: Path) -> None:
    sql(folder, "UPDATE series SET value = value * (1 + 1e-9)")
    assert differences(folder, written / "anew") == ([], [])
    sql(folder, "UPDATE series SET value = value * (1 + 1e-5)")
    assert "watch.gpkg (series)" in told(folder, written / "anew")


def test_many_differences_are_counted(folder: Path, written: Path) -> None:
    sql(folder, "UPDATE series SET value = value + 0.5 WHERE value IS NOT NULL")
    texts = told(folder, written / "anew")["watch.gpkg (series)"]
    assert len(texts) == 4
    assert re.search(r"\d+ more values differ", texts[-1])


def test_some_sites_alone(folder: Path, written: Path) -> None:
    everywhere("score", 98.0, 12.0)(folder)
    assert site_differences(folder, written / "anew", ["quiet site/2"]) == []
    (found,) = site_differences(folder, written / "anew", ["kk-1"])
    assert "score is 12.0" in found.text


def test_what_is_broken_is_told(folder: Path, written: Path) -> None:
    (folder / "watch.gpkg").write_bytes(b"none")
    (folder / "sites.geojson").write_text('{"features": 3}')
    found = told(folder, written / "anew")
    assert "watch.gpkg is not what compoundwatch writes" in found["watch.gpkg"][0]
    assert "sites.geojson is not what compoundwatch writes" in found["sites.geojson"][-1]
    (folder / "stac" / "kk-1.json").write_text(json.dumps([1]))
    assert "stac/kk-1.json" in told(folder, written / "anew")
