"""What the two writers leave in a folder."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS

from compoundwatch import outputs
from compoundwatch.errors import OutputError
from compoundwatch.grid import geodesic_area_m2
from compoundwatch.model import PairChange, WatchResult
from compoundwatch.outputs import check_folder, raster, write_compare, write_watch
from compoundwatch.outputs.fields import COMPARE_FILES

from .conftest import GRID, rectangle

STAC = {
    "stac/catalog.json",
    "stac/kk-1.json",
    "stac/quiet-site-2-285c41993bd2.json",
    f"stac/3-{hashlib.sha256('ឃ-3'.encode()).hexdigest()[:12]}.json",
}
PICTURES = {
    "pictures/kk-1_sentinel2_20231228.tif",
    "pictures/kk-1_sentinel2_20241220.tif",
    "pictures/quiet-site-2-285c41993bd2_sentinel2_20231228.tif",
}
CHARTS = {"charts/kk-1.png", "charts/quiet-site-2-285c41993bd2.png"}
STAC |= {path.replace("pictures/", "stac/pictures/").replace(".tif", ".json") for path in PICTURES}
RASTERS = ("direction", "statistic", "p_value", "effect", "date", "date_earliest", "date_latest")


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_watch_writes_what_it_says(result: WatchResult, out: Path) -> None:
    paths = write_watch(result, out)
    stems = ("rasters/kk-1_sentinel2_ndvi", "rasters/quiet-site-2-285c41993bd2_sentinel2_ndvi")
    wanted = {"sites.geojson", "sites.qml", "changes.geojson", "changes.qml", "watch.gpkg", "watch.qgz", "report.html"}
    wanted |= (
        STAC
        | PICTURES
        | CHARTS
        | {"manifest.json", "log.jsonl"}
        | {f"{stem}_{layer}.tif" for stem in stems for layer in RASTERS}
    )
    wanted |= {path.replace(".tif", ".qml") for path in wanted}
    assert names(out) == wanted
    assert [p.relative_to(out).as_posix() for p in paths][-1] == "manifest.json"
    assert {p.relative_to(out).as_posix() for p in paths} == wanted
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_rasters_and_report_can_be_left_out_and_old_ones_go(result: WatchResult, out: Path) -> None:
    write_watch(result, out)
    (out / "rasters" / "mine.txt").write_text("x")
    write_watch(result, out, rasters=False, report=False)
    assert names(out) == {
        "sites.geojson",
        "sites.qml",
        "changes.geojson",
        "changes.qml",
        "watch.gpkg",
        "watch.qgz",
        "manifest.json",
        "log.jsonl",
        "rasters/mine.txt",
        *STAC,
        *PICTURES,
        *CHARTS,
        *(path.replace(".tif", ".qml") for path in PICTURES),
    }


def test_smaller_patches_on_request(result: WatchResult, out: Path) -> None:
    write_watch(result, out, rasters=False, report=False, min_patch_m2=150)
    features = json.loads((out / "changes.geojson").read_text())["features"]
    assert [f["properties"]["n_pixels"] for f in features] == [6, 2]


@pytest.mark.parametrize("broken", ["write_changes", "write_cog"])
def test_a_failure_in_the_middle_leaves_the_earlier_result(
    result: WatchResult, out: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_watch(result, out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    real, calls = getattr(raster, broken), []

    def fail(*args: Any) -> Any:
        calls.append(args)
        if broken == "write_changes" or len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(raster, broken, fail)
    other = replace(result, provenance=replace(result.provenance, run_id="another"))
    with pytest.raises(OutputError, match="disk is full"):
        write_watch(other, out)
    assert {name: (out / name).read_bytes() for name in names(out)} == before
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_nothing_heavy_is_imported_with_the_package() -> None:
    code = (
        "import sys, compoundwatch.outputs; "
        "print([m for m in ('matplotlib', 'geopandas', 'pyogrio', 'jinja2', 'rasterio', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names() -> None:
    assert outputs.__all__ == ["check_folder", "stands", "sweep", "write_compare", "write_watch"]
    assert check_folder.__module__ == "compoundwatch.outputs.staging"


# -------------------------------------------------------------------------------------------------------- compare


def compare(result: WatchResult, change: PairChange, out: Path, place: Affine | None, **more: Any) -> list[Path]:
    shares = {"changed_share": 0.25, "increased_share": 0.2, "decreased_share": 0.05, "tested_share": None}
    sites = [(result.area.sites[0], shares), (result.area.sites[3], dict.fromkeys(shares))] if place else []
    return write_compare(
        out,
        before=Path("/somewhere/before.tif"),
        after=Path("/somewhere/after.tif"),
        change=change,
        transform=place,
        crs="EPSG:32648" if place else None,
        detector="imad",
        alpha=0.01,
        sites=sites,
        provenance=result.provenance,
        **more,
    )


def test_compare_with_a_place(result: WatchResult, pair: tuple[PairChange, Affine], out: Path) -> None:
    change, place = pair
    paths = compare(result, change, out, place)
    drawn = {"direction.tif", "statistic.tif", "p_value.tif", "changes.geojson", "sites.geojson"}
    wanted = drawn | {f"{Path(name).stem}.qml" for name in drawn} | {"manifest.json", "log.jsonl"}
    assert names(out) == wanted == {p.name for p in paths}
    with rasterio.open(out / "direction.tif") as file:
        assert (file.dtypes, file.nodata, file.crs.to_epsg()) == (("int8",), -128, 32648)
        assert file.transform == GRID.transform
        band = file.read(1)
    assert (band[2:4, 5:7] == 1).all()
    assert band[7, 12] == -1
    assert band[0, :4].tolist() == [-128, -128, -128, 0]
    for name in ("statistic", "p_value"):
        with rasterio.open(out / f"{name}.tif") as file:
            assert file.dtypes == ("float32",)
            assert np.isnan(file.nodata)
    features = json.loads((out / "changes.geojson").read_text())["features"]
    more, less = [f["properties"] for f in features]
    assert (more["direction"], more["n_pixels"], more["statistic"], more["p_value"]) == (1, 4, 3, 0.004)
    assert (less["direction"], less["n_pixels"]) == (-1, 1)
    assert more["area_m2"] == pytest.approx(400, rel=0.002)
    drawn = rectangle(5, 2, 7, 4)
    west, south, east, north = drawn.bounds
    ring = features[0]["geometry"]["coordinates"][0]
    assert min(x for x, _ in ring) == pytest.approx(west, abs=1e-7)
    assert max(y for _, y in ring) == pytest.approx(north, abs=1e-7)
    assert max(x for x, _ in ring) == pytest.approx(east, abs=1e-7)
    assert min(y for _, y in ring) == pytest.approx(south, abs=1e-7)
    assert more["area_m2"] == pytest.approx(geodesic_area_m2(drawn), rel=1e-6)


def test_compare_tells_the_shares(result: WatchResult, pair: tuple[PairChange, Affine], out: Path) -> None:
    change, place = pair
    compare(result, change, out, place)
    site, control = [f["properties"] for f in json.loads((out / "sites.geojson").read_text())["features"]]
    assert list(site) == [f.name for f in COMPARE_FILES["sites"]]
    assert (site["changed_share"], site["increased_share"], site["decreased_share"]) == (0.25, 0.2, 0.05)
    assert site["tested_share"] is None
    assert (control["role"], control["changed_share"]) == ("control", None)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "compare"
    assert manifest["compared"] == {"before": "before.tif", "after": "after.tif", "detector": "imad", "alpha": 0.01}
    counts = manifest["counts"]
    assert (counts["pixels"], counts["pixels_tested"]) == (126, 123)
    assert (counts["pixels_increased"], counts["pixels_decreased"], counts["patches"]) == (4, 1, 2)


def test_compare_without_a_place(result: WatchResult, pair: tuple[PairChange, Affine], out: Path) -> None:
    compare(result, pair[0], out, None, min_pixels=2)
    collection = json.loads((out / "changes.geojson").read_text())
    assert collection["coordinate_system"] == "pixel"
    assert "minus the row" in collection["coordinate_system_note"]
    (feature,) = collection["features"]
    assert list(feature["properties"]) == [f.name for f in COMPARE_FILES["changes"]]
    assert feature["properties"]["area_m2"] is None
    # columns 5 and 6, rows 2 and 3
    assert sorted(feature["geometry"]["coordinates"][0][:-1]) == [[5, -4], [5, -2], [7, -4], [7, -2]]
    assert not (out / "sites.geojson").exists()
    assert json.loads((out / "manifest.json").read_text())["counts"]["patches_too_small"] == 1


def test_compare_in_degrees_and_in_feet(result: WatchResult, pair: tuple[PairChange, Affine], out: Path) -> None:
    change, _ = pair
    shared: dict[str, Any] = {
        "before": Path("a.tif"),
        "after": Path("b.tif"),
        "change": change,
        "detector": "imad",
        "alpha": 0.01,
        "sites": [],
        "provenance": result.provenance,
    }
    write_compare(out / "deg", transform=Affine(0.001, 0, 104, 0, -0.001, 11), crs="EPSG:4326", **shared)
    ring = json.loads((out / "deg" / "changes.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    assert sorted(ring[:-1]) == [[104.005, 10.996], [104.005, 10.998], [104.007, 10.996], [104.007, 10.998]]
    # New York Long Island, in US survey feet: 4 pixels of 100 ft are 3716 m²
    write_compare(out / "ft", transform=Affine(100, 0, 1e6, 0, -100, 2e5), crs=CRS(2263).to_wkt(), **shared)
    patch = json.loads((out / "ft" / "changes.geojson").read_text())["features"][0]["properties"]
    assert patch["area_m2"] == pytest.approx(4 * (100 * 1200 / 3937) ** 2, rel=1e-3)
