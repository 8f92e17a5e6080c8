"""The STAC catalogue of a run: valid, self-contained, readable by others, and without secrets.

pystac brings the schemas of STAC itself along; those of the extensions lie on the network. They are taken from the
folder that COMPOUNDWATCH_STAC_SCHEMAS names (``<extension>/<version>/schema.json``), where it does; else only what the
texts of the extensions require of the fields used here is asked, as written out in FIELDS.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pystac.validation
import pytest
import rasterio
import rustac
import shapely
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from compoundwatch.catalogs.static import StaticCatalog
from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch

from .conftest import rectangle

BASE = "https://stac-extensions.github.io/"
NUMBERS = {"type": "array", "items": {"type": "number"}}
FIELDS: dict[str, dict[str, Any]] = {
    "processing/v1.1.0": {
        "processing:software": {"type": "object", "additionalProperties": {"type": "string"}},
        "processing:lineage": {"type": "string"},
    },
    "projection/v2.0.0": {
        "proj:code": {"type": "string", "pattern": "^EPSG:[0-9]+$"},
        "proj:shape": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
        "proj:transform": {**NUMBERS, "minItems": 6, "maxItems": 6},
        "proj:bbox": {**NUMBERS, "minItems": 4, "maxItems": 4},
    },
    "raster/v1.1.0": {
        "raster:bands": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "data_type": {"enum": ["int8", "uint8", "int32", "float32"]},
                    "nodata": {"anyOf": [{"type": "number"}, {"enum": ["nan", "inf", "-inf"]}]},
                    "sampling": {"enum": ["area", "point"]},
                    "spatial_resolution": {"type": "number"},
                    "unit": {"type": "string"},
                },
                "additionalProperties": False,
            },
        }
    },
    "file/v2.1.0": {
        "file:size": {"type": "integer"},
        # Multihash: 12 = SHA-256, 20 = 32 bytes, then these.
        "file:checksum": {"type": "string", "pattern": "^1220[0-9a-f]{64}$"},
    },
}
"""What each extension says of the fields that are written, in the words of JSON schema."""


def extension_schema(name: str) -> dict[str, Any]:
    folder = os.environ.get("COMPOUNDWATCH_STAC_SCHEMAS")
    if folder and (Path(folder) / name / "schema.json").is_file():
        return dict(json.loads((Path(folder) / name / "schema.json").read_text(encoding="utf-8")))
    prefix = next(iter(FIELDS[name])).split(":")[0]
    fields = {
        "type": "object",
        "properties": FIELDS[name],
        "patternProperties": {f"^(?!{prefix}:)": {}},
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"properties": fields, "assets": {"type": "object", "additionalProperties": fields}},
    }


@pytest.fixture(scope="module")
def validator() -> Any:
    """A validator that has all schemas and asks no network."""
    checker = JsonSchemaSTACValidator()
    for name in FIELDS:
        checker.schema_cache[f"{BASE}{name}/schema.json"] = extension_schema(name)
    return checker


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stac") / "result"
    write_watch(result, out)
    return out


def read(folder: Path) -> list[pystac.Item]:
    return list(pystac.Catalog.from_file(str(folder / "stac" / "catalog.json")).get_items(recursive=True))


def item_of(folder: Path, site_id: str) -> pystac.Item:
    return next(i for i in sites(read(folder)) if i.properties["compoundwatch:site_id"] == site_id)


def sites(items: list[pystac.Item]) -> list[pystac.Item]:
    return [i for i in items if "compoundwatch:state" in i.properties]


def test_catalogue_and_items_are_valid(folder: Path, validator: Any) -> None:
    catalog = pystac.Catalog.from_file(str(folder / "stac" / "catalog.json"))
    pystac.validation.validate(catalog, validator)
    items = read(folder)
    assert len(sites(items)) == 3
    assert len(items) == 3 + 3
    for item in items:
        assert len(item.stac_extensions) == 4
        pystac.validation.validate(item, validator)


@pytest.mark.parametrize(
    "damage",
    [
        lambda item: item["assets"]["sentinel2_ndvi_date"].update({"proj:code": 32648}),
        lambda item: item["assets"]["sentinel2_ndvi_date"].update({"proj:shape": [1.5, 2]}),
        lambda item: item["assets"]["sentinel2_ndvi_date"]["raster:bands"][0].update({"nodata": "none"}),
        lambda item: item["properties"].update({"processing:software": ["numpy"]}),
        lambda item: item["properties"].pop("datetime"),
        lambda item: item["assets"]["report"].pop("href"),
    ],
)
def test_the_validator_would_notice(folder: Path, validator: Any, damage: Any) -> None:
    item = json.loads((folder / "stac" / "kk-1.json").read_text(encoding="utf-8"))
    damage(item)
    with pytest.raises(pystac.STACValidationError):
        validator.validate(item, pystac.STACObjectType.ITEM, item["stac_version"], item["stac_extensions"])


def test_an_item_tells_the_answer(folder: Path) -> None:
    item = item_of(folder, "kk-1")
    told = item.properties
    assert item.id == "kk-1_20250115T120000Z-abcd1234"
    assert (told["compoundwatch:state"], told["compoundwatch:score"]) == ("EMPTIED", 98)
    assert told["compoundwatch:change_date"] == "2024-03-10"
    assert told["compoundwatch:p_lights_only"] is None
    assert item.properties["processing:software"]["compoundwatch"] == "0.1.0"
    # Of the two scenes of the run, the series of the site tells of the first alone.
    assert told["compoundwatch:scenes"] == ["S2_20220104"]
    assert told["start_datetime"] == told["end_datetime"] == "2022-01-04T03:25:41Z"
    assert item.bbox == pytest.approx(rectangle(6, 5, 30, 22).bounds, abs=1e-6)
    drawn = shapely.geometry.shape(item.geometry)
    assert drawn.normalize().equals_exact(rectangle(6, 5, 30, 22).normalize(), 1e-7)


def test_a_site_without_a_scene_has_an_item(folder: Path) -> None:
    told = item_of(folder, "ឃ-3").properties
    assert told["compoundwatch:state"] == "NOT_OBSERVABLE"
    assert told["compoundwatch:scenes"] == []
    assert "start_datetime" not in told


def test_assets_are_the_files(folder: Path) -> None:
    item = item_of(folder, "kk-1")
    layers = ("direction", "statistic", "p_value", "effect", "date", "date_earliest", "date_latest")
    assert set(item.assets) == {f"sentinel2_ndvi_{n}" for n in layers} | {
        *("sites", "changes", "package", "project", "report", "chart")
    }
    for name, asset in item.assets.items():
        path = Path(asset.get_absolute_href() or "")
        content = path.read_bytes()
        assert path.is_relative_to(folder), name
        assert asset.href.startswith("../")
        assert asset.extra_fields["file:size"] == len(content)
        assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


def test_rasters_are_described_as_they_are(folder: Path) -> None:
    asset = item_of(folder, "kk-1").assets["sentinel2_ndvi_direction"]
    place = ProjectionExtension.ext(asset)
    (band,) = RasterExtension.ext(asset).bands or []
    with rasterio.open(asset.get_absolute_href()) as file:
        assert place.epsg == 32648 == file.crs.to_epsg()
        assert place.shape == [26, 34] == list(file.shape)
        assert place.transform == [10, 0, 380_000, 0, -10, 1_200_000]
        assert place.bbox == list(file.bounds)
    assert (band.data_type, band.nodata, band.spatial_resolution) == ("int8", -128, 10)
    other = RasterExtension.ext(item_of(folder, "kk-1").assets["sentinel2_ndvi_p_value"]).bands or []
    assert (other[0].data_type, other[0].nodata) == ("float32", "nan")


def test_every_picture_is_an_item_on_its_day(folder: Path) -> None:
    items = {i.id: i for i in read(folder) if i not in sites([i])}
    assert set(items) == {
        "kk-1_sentinel2_20231228",
        "kk-1_sentinel2_20241220",
        "quiet-site-2-285c41993bd2_sentinel2_20231228",
    }
    item = items["kk-1_sentinel2_20241220"]
    assert item.datetime == dt.datetime(2024, 12, 20, 3, 25, 41, tzinfo=dt.UTC)
    told = item.properties
    assert (told["compoundwatch:site_id"], told["compoundwatch:when"]) == ("kk-1", "after")
    assert told["compoundwatch:scenes"] == ["S2_2024-12-20"]
    # the frame of 26 x 34 pixels of 10 m, slightly turned in longitude and latitude
    frame = shapely.geometry.shape(item.geometry)
    assert frame.symmetric_difference(rectangle(0, 0, 34, 26)).area < 0.01 * frame.area
    assert item.bbox == pytest.approx(frame.bounds)
    asset = item.assets["picture"]
    path = Path(asset.get_absolute_href() or "")
    assert path == folder / "pictures" / "kk-1_sentinel2_20241220.tif"
    assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert [band.data_type for band in RasterExtension.ext(asset).bands or []] == ["uint8"] * 4
    (site,) = [link for link in item.links if link.rel == "related"]
    assert site.get_absolute_href() == str(folder / "stac" / "kk-1.json")


def test_a_picture_leads_to_its_scenes(result: WatchResult, tmp_path: Path) -> None:
    first, second = result.scenes
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None
    joined = replace(after, scene_id=f"{first.scene_id}+{second.scene_id}")
    near = tmp_path / "imagery" / "S2.json"
    scenes = (replace(first, href="https://user:pw@catalog.example.org/items/a?sig=s"), replace(second, href=str(near)))
    shown = replace(result, scenes=scenes, pictures={"kk-1": (before, joined)}, changes=())
    write_watch(shown, tmp_path / "result", rasters=False, report=False)
    item = next(i for i in read(tmp_path / "result") if i.id == "kk-1_sentinel2_20241220")
    found = sources(item)
    assert found["S2_20220104"] == "https://catalog.example.org/items/a"
    assert (tmp_path / "result" / "stac" / "pictures" / found["S2_20241220"]).resolve() == near


def sources(item: pystac.Item) -> dict[str, str]:
    return {str(link.title): str(link.target) for link in item.links if link.rel == "derived_from"}


def test_links_to_scenes_lose_tokens(result: WatchResult, tmp_path: Path) -> None:
    first, second = result.scenes
    address = "https://user:pw@catalog.example.org/v1/collections/s2/items/S2_20220104?sig=sEcReT#x"
    write_watch(replace(result, scenes=(replace(first, href=address), second)), tmp_path, rasters=False, report=False)
    assert sources(item_of(tmp_path, "kk-1")) == {
        "S2_20220104": "https://catalog.example.org/v1/collections/s2/items/S2_20220104"
    }
    for path in (tmp_path / "stac").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "sEcReT" not in text
        assert "user:pw" not in text


def test_links_to_scenes_on_this_machine_start_at_the_item(result: WatchResult, tmp_path: Path) -> None:
    """Beside the result they are found from there; from elsewhere no name of a folder is told."""
    first, second = result.scenes
    near, far = tmp_path / "home" / "imagery" / "S2.json", tmp_path / "jane" / "S2.json"
    out = tmp_path / "home" / "result"
    for place, wanted in ((near, {"S2_20220104": "../../imagery/S2.json"}), (far, {})):
        write_watch(replace(result, scenes=(replace(first, href=str(place)), second)), out, rasters=False, report=False)
        assert sources(item_of(out, "kk-1")) == wanted
        if wanted:
            assert (out / "stac" / wanted["S2_20220104"]).resolve() == near


def test_every_link_and_asset_is_relative_and_moves_along(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "x"
    shutil.copytree(folder, moved)
    for path in (moved / "stac").rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for link in content["links"]:
            assert link["rel"] != "self"
            if link["rel"] != "derived_from":
                assert link["href"].startswith((".", "..")), link
                assert (path.parent / link["href"]).is_file()
    for item in read(moved):
        for asset in item.assets.values():
            assert Path(asset.get_absolute_href() or "").is_file()
            assert str(asset.get_absolute_href()).startswith(str(moved))


def test_our_own_reader_reads_it(folder: Path) -> None:
    items = StaticCatalog(folder / "stac" / "catalog.json").items()
    states = [i["properties"].get("compoundwatch:state") for i in items]
    assert sorted(filter(None, states)) == ["EMPTIED", "NOT_OBSERVABLE", "UNCHANGED"]
    assert states.count(None) == 3
    assert Path(items[0]["assets"]["sites"]["href"]).is_file()


def test_other_readers_read_it(folder: Path) -> None:
    import pystac_client

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a catalogue in a folder conforms to no API, which is told as a warning
        client = pystac_client.Client.open(str(folder / "stac" / "catalog.json"))
        ids = {item.id for item in client.get_items(recursive=True)}
    assert len(ids) == 3 + 3

    async def by_rustac() -> tuple[dict[str, Any], dict[str, Any]]:
        return await rustac.read(str(folder / "stac" / "catalog.json")), await rustac.read(
            str(folder / "stac" / "kk-1.json")
        )

    catalog, item = asyncio.run(by_rustac())
    assert catalog["type"] == "Catalog"
    assert item["properties"]["compoundwatch:state"] == "EMPTIED"


def test_over_the_180th_meridian(result: WatchResult, tmp_path: Path, validator: Any) -> None:
    west, east = shapely.box(179.999, -16.002, 180, -16), shapely.box(-180, -16.002, -179.998, -16)
    site = replace(result.area.sites[0], geometry=shapely.MultiPolygon([west, east]))
    area = replace(result.area, sites=(site, *result.area.sites[1:]))
    write_watch(replace(result, area=area, changes=()), tmp_path, rasters=False, report=False)
    item = item_of(tmp_path, "kk-1")
    assert item.bbox == [179.999, -16.002, -179.998, -16.0]
    pystac.validation.validate(item, validator)
