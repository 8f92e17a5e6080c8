"""The manifest: complete, strict, and without secrets."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from compoundwatch.model import Asset, PairChange, State, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.manifest import dumps, plain, public_href, without_secrets

from .conftest import write_unplaced_pair


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def written(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_watch(result, folder, report=False)
    return folder


@pytest.fixture(scope="module")
def manifest(written: Path) -> Any:
    return strict((written / "manifest.json").read_text(encoding="utf-8"))


def test_every_file_is_listed_with_its_size_and_hash(manifest: Any, written: Path) -> None:
    entries = {e["path"]: e for e in manifest["outputs"]}
    there = {p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file()}
    assert set(entries) == there - {"manifest.json", "log.jsonl"}
    for path, entry in entries.items():
        content = (written / path).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    direction = entries["rasters/kk-1_sentinel2_ndvi_direction.tif"]
    assert (direction["site_id"], direction["layer"], direction["alpha"]) == ("kk-1", "direction", 0.01)


def test_scenes_are_identified_without_tokens(manifest: Any, written: Path) -> None:
    text = (written / "manifest.json").read_text(encoding="utf-8")
    for secret in ("sEcReT", "sig=", "user:pw", "se=2026"):
        assert secret not in text
    first, second = manifest["scenes"]
    assert first["id"] == "S2_20220104"
    assert first["catalog"] == "https://catalog.example.org/v1"
    assert first["acquired"] == "2022-01-04T03:25:41Z"
    assert first["processing"] == "05.10"
    assert first["assets"]["red"]["href"] == "https://example.org/a/B04.tif"
    assert first["assets"]["red"]["offset"] == -0.1
    # 10:25 in a zone seven hours ahead
    assert second["acquired"] == "2024-12-20T03:25:41Z"
    assert second["cloud_percent"] is None


def test_what_was_left_out_is_all_there(manifest: Any) -> None:
    assert [s["item_id"] for s in manifest["skipped"]] == [
        "kk-1: S2_20230101",
        "kk-1: S2_20230202",
        "ឃ-3: sentinel2",
        "S2_odd",
    ]
    assert manifest["skipped"][1]["reason"] == "cannot be read: HTTP 403 for https://example.org/x.tif"
    assert [s["routine"] for s in manifest["skipped"]] == [True, False, False, False]


def test_counts_and_settings(manifest: Any) -> None:
    counts = manifest["counts"]
    assert (counts["sites"], counts["controls"], counts["scenes"]) == (3, 3, 2)
    assert counts["states"] == {"EMPTIED": 1, "NOT_OBSERVABLE": 1, "UNCHANGED": 1}
    # 6 pixels of 100 m² are drawn; 2 pixels and 1 pixel are too small; the one outside is nobody's
    assert (counts["patches"], counts["patches_too_small"]) == (1, 2)
    assert (counts["skipped"], counts["skipped_routine"], counts["complete"]) == (4, 1, False)
    assert manifest["settings"]["detect"]["min_patch_m2"] == 400
    assert manifest["inputs"]["catalog"] == "https://catalog.example.org/v1"
    assert manifest["created"] == "2025-01-15T12:00:00Z"


def test_numbers_that_are_none_become_null(result: WatchResult, out: Path) -> None:
    odd = replace(result.provenance, settings={"a": float("nan"), "b": [np.float32("inf")], "c": {dt.date(2024, 1, 2)}})
    write_watch(replace(result, provenance=odd), out, rasters=False, report=False)
    settings = strict((out / "manifest.json").read_text(encoding="utf-8"))["settings"]
    assert settings == {"a": None, "b": [None], "c": ["2024-01-02"]}


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("https://a.b/c.tif?sig=x&y=z", "https://a.b/c.tif"),
        ("https://a.b/c.tif#frag", "https://a.b/c.tif"),
        ("https://me:word@a.b/c", "https://a.b/c"),
        ("/vsicurl/https://a.b/c.tif?sig=x", "/vsicurl/https://a.b/c.tif"),
        ("s3://bucket/key?X-Amz-Signature=1", "s3://bucket/key"),
        ("403 for (https://a.b/c?token=1) again", "403 for (https://a.b/c) again"),
        ("two: https://a.b/c?t=1 and https://d.e/f?u=2.", "two: https://a.b/c and https://d.e/f"),
        ("why? because", "why? because"),
        ("mail me@home.org about it", "mail me@home.org about it"),
        ("/data/a?b.tif", "/data/a?b.tif"),
    ],
)
def test_addresses_lose_what_may_be_secret(text: str, bare: str) -> None:
    assert without_secrets(text) == bare


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.datetime64("NaT"), None),
        (pd.NaT, None),
        (np.float64("nan"), None),
        (np.int32(7), 7),
        (np.bool_(True), True),
        (np.float32(0.5), 0.5),
        (State.EMPTIED, "EMPTIED"),
        (dt.date(2024, 2, 29), "2024-02-29"),
        (np.datetime64("2024-02-29"), "2024-02-29"),
        (np.datetime64("2024-02-29T01:02:03"), "2024-02-29T01:02:03Z"),
        (dt.datetime(2024, 2, 29, 1, 2, 3), "2024-02-29T01:02:03Z"),
        (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=-5))), "2024-02-29T06:02:03Z"),
        (pd.Timestamp("2024-02-29 01:02:03", tz="Asia/Phnom_Penh"), "2024-02-28T18:02:03Z"),
        (Path("a") / "b", "a/b"),
        (("a", np.nan), ["a", None]),
    ],
)
def test_plain_values(value: Any, wanted: Any) -> None:
    assert plain(value) == wanted
    assert type(plain(value)) is type(wanted)


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.dates() | st.datetimes(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_anything_becomes_strict_json_and_reads_back_the_same(value: Any) -> None:
    assert strict(dumps(plain(value))) == plain(value)


# ----------------------------------------------------------------------------------------------------------- evidence


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    path = Path(__file__).resolve().parents[2] / "docs" / "manifest.schema.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def test_the_manifest_keeps_to_its_schema(manifest: Any, schema: Draft202012Validator) -> None:
    assert [error.message for error in schema.iter_errors(manifest)] == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: m["scenes"][0]["assets"]["red"].update(href="https://me:word@example.org/B04.tif"),
        lambda m: m["scenes"][0]["assets"]["red"].update(href="https://example.org/B04.tif?sig=1"),
        lambda m: m["scenes"][0].update(href="/home/somebody/S2.json"),
        lambda m: m["scenes"][0].pop("acquired"),
        lambda m: m["outputs"][0].update(sha256="0"),
        lambda m: m["outputs"][0].update(path="../x"),
        lambda m: m["states"][0].update(state="CLOSED"),
        lambda m: m["counts"]["states"].update(EMPTY=1),
        lambda m: m.pop("states"),
        lambda m: m.update(more=1),
        lambda m: m["software"].update(numpy=2),
    ],
)
def test_the_schema_would_notice(manifest: Any, schema: Draft202012Validator, damage: Any) -> None:
    damaged = json.loads(json.dumps(manifest))
    damage(damaged)
    assert not schema.is_valid(damaged)


def test_a_comparison_keeps_to_the_schema(
    result: WatchResult, pair: tuple[PairChange, Any], out: Path, schema: Draft202012Validator
) -> None:
    write_unplaced_pair(out, pair[0], result)
    content = strict((out / "manifest.json").read_text(encoding="utf-8"))
    assert [error.message for error in schema.iter_errors(content)] == []


def test_input_files_and_answers_are_told(manifest: Any) -> None:
    assert manifest["input_files"] == [{"role": "area", "name": "sites.geojson", "bytes": 812, "sha256": "00ff" * 16}]
    assert manifest["area"]["area_id"] == "kampot-test"
    assert manifest["area"]["controls"] == ["control-a", "control-b", "control-c"]
    assert manifest["states"][0] == {
        "site_id": "kk-1",
        "state": "EMPTIED",
        "score": 98.0,
        "change_date": "2024-03-10",
        "change_date_earliest": "2024-03-01",
        "change_date_latest": "2024-03-28",
    }
    assert [s["state"] for s in manifest["states"]] == ["EMPTIED", "UNCHANGED", "NOT_OBSERVABLE"]
    assert manifest["log"] == {"lines": 0, "sha256": None}


@pytest.mark.parametrize("hashed", [True, False])
def test_local_imagery_is_told_with_its_hash_and_without_folders(
    result: WatchResult, tmp_path: Path, hashed: bool, schema: Draft202012Validator
) -> None:
    catalog = tmp_path / "home of jane" / "imagery"
    red, missing = catalog / "S2" / "red.tif", catalog / "S2" / "none.tif"
    red.parent.mkdir(parents=True)
    red.write_bytes(b"pixels")
    first, second = result.scenes
    scale = first.assets["red"].calibration
    local = replace(
        first,
        catalog="imagery",
        href=(catalog / "S2" / "S2.json").as_uri(),
        assets={"red": Asset(str(red), scale), "nir": Asset(missing.as_uri(), scale), "lights": Asset(str(red), scale)},
    )
    folder = tmp_path / "out"
    changed = replace(result, scenes=(local, second))
    write_watch(changed, folder, rasters=False, report=False, hash_imagery=hashed)
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    assert "jane" not in text
    content = strict(text)
    assert schema.is_valid(content)
    scene = content["scenes"][0]
    assert scene["href"] == "S2/S2.json"
    assert scene["assets"]["nir"]["href"] == "S2/none.tif"
    assert scene["assets"]["red"]["href"] == "S2/red.tif"
    assert "sha256" not in scene["assets"]["nir"]
    wanted = hashlib.sha256(b"pixels").hexdigest() if hashed else None
    assert scene["assets"]["red"].get("sha256") == scene["assets"]["lights"].get("sha256") == wanted
    assert scene["assets"]["red"].get("bytes") == (6 if hashed else None)


@pytest.mark.parametrize(
    ("href", "catalog", "wanted"),
    [
        ("https://a.b/c.tif?sig=x", "a.b", "https://a.b/c.tif"),
        ("/vsicurl/https://a.b/c.tif?sig=x", "a.b", "/vsicurl/https://a.b/c.tif"),
        ("/home/jane/imagery/S2/red.tif", "imagery", "S2/red.tif"),
        ("/home/jane/imagery/imagery/red.tif", "imagery", "imagery/red.tif"),
        ("/home/jane/red.tif", "elsewhere", "red.tif"),
        ("/home/jane/imagery", "imagery", "imagery"),
        ("", "x", ""),
    ],
)
def test_addresses_that_may_be_shown(href: str, catalog: str, wanted: str) -> None:
    assert public_href(href, catalog) == wanted
