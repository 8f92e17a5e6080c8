"""The run in the words of W3C PROV: every relation has both its ends, and nothing of the manifest is missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compoundwatch.model import WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.prov import document


@pytest.fixture(scope="module")
def manifest(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("prov")
    write_watch(result, folder, rasters=False, report=False)
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def test_relations_have_both_ends(manifest: Any) -> None:
    prov = manifest["prov"]
    known = {"prov:entity": prov["entity"], "prov:activity": prov["activity"], "prov:agent": prov["agent"]}
    for relation in ("used", "wasGeneratedBy", "wasAssociatedWith"):
        for ends in prov[relation].values():
            assert len(ends) == 2
            for role, name in ends.items():
                assert name in known[role]
    prefixes = {name.split(":")[0] for members in known.values() for name in members}
    assert prefixes <= set(prov["prefix"])
    assert prov["prefix"]["run"] == "urn:compoundwatch:20250115T120000Z-abcd1234:"


def test_the_run_used_its_scenes_and_made_its_files(manifest: Any) -> None:
    prov = manifest["prov"]
    used = {prov["entity"][u["prov:entity"]]["prov:label"] for u in prov["used"].values()}
    made = {prov["entity"][g["prov:entity"]]["prov:label"] for g in prov["wasGeneratedBy"].values()}
    assert used == {"S2_20220104", "S2_20241220", "sites.geojson"}
    assert made == {entry["path"] for entry in manifest["outputs"]}
    assert prov["activity"]["run:run"]["prov:startTime"] == "2025-01-15T12:00:00Z"
    assert prov["agent"]["run:software"]["prov:label"] == "compoundwatch 0.1.0"


def test_a_run_without_anything() -> None:
    prov = document("compare", "r", "2025-01-15T12:00:00Z", {}, [], [], [])
    assert prov["entity"] == prov["used"] == prov["wasGeneratedBy"] == {}
    assert prov["agent"]["run:software"]["prov:label"] == "compoundwatch"
