"""manifest.json: what went in, what came out, and with which software and settings; strict JSON without secrets."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from compoundwatch.model import Provenance, Scene, SiteState, Skipped, WatchResult
from compoundwatch.outputs import prov
from compoundwatch.outputs.runlog import Head
from compoundwatch.outputs.staging import MANIFEST, files_in, sha256

MANIFEST_VERSION = 1
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"((?:[a-z][a-z0-9+.-]*://|/vsi)[^\s?#\"'<>]*)[?#][^\s\"'<>)]*", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text whose addresses have lost user names, passwords, queries and fragments, where access tokens hide."""
    return _QUERY.sub(r"\1", _CREDENTIALS.sub("", text))


def utc(moment: dt.datetime) -> dt.datetime:
    """The same moment in UTC; a moment without a zone is UTC already."""
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)


def plain(value: Any) -> Any:
    """A value as strict JSON knows it: missing (NaN, NaT, infinite) is None, dates are ISO 8601 texts, times UTC."""
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value) if np.datetime_data(value)[0] == "D" else f"{value}Z"
    if isinstance(value, np.generic):
        return plain(value.item())
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.datetime):
        # NaT is a datetime that is not equal to itself.
        return None if value != value else utc(value).isoformat().replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Sequence | set | frozenset | np.ndarray):
        return [plain(v) for v in value]
    return str(value)


def clean(value: Any) -> Any:
    """A plain value in which every text, keys included, went through ``without_secrets``."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {without_secrets(k): clean(v) for k, v in value.items()}
    if isinstance(value, list):
        return [clean(v) for v in value]
    return value


def dumps(value: Any) -> str:
    """Strict JSON text (no NaN), UTF-8 characters as they are, ending with a line break."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def stamp(provenance: Provenance) -> dict[str, Any]:
    """The few words of provenance that every file carries."""
    return {
        "run_id": provenance.run_id,
        "created": plain(provenance.created),
        "software": f"compoundwatch {provenance.software.get('compoundwatch', '')}".strip(),
        "settings_key": provenance.settings_key,
    }


def write_manifest(
    folder: Path,
    provenance: Provenance,
    kind: str,
    counts: Mapping[str, Any],
    log: Head,
    *,
    more: Mapping[str, Any] | None = None,
    details: Mapping[str, Mapping[str, Any]] | None = None,
    scenes: Sequence[Scene] = (),
    skipped: Sequence[Skipped] = (),
    hash_imagery: bool = True,
    earlier: Path | None = None,
) -> Path:
    """Describe a finished folder in its manifest.json.

    Parameters
    ----------
    folder : holds all other files of the result already.
    kind : "watch" or "compare".
    counts : what was counted, by name.
    log : the end of the log as it was before this run.
    more : further members.
    details : per output file (path relative to ``folder``, with "/") what else is to be said of it.
    scenes, skipped : what was used, and what was left out and why.
    hash_imagery : False = do not read the local files of the scenes once more for their SHA-256.
    earlier : folder of an earlier result, from whose manifest the SHA-256 of scenes that it used is taken.
    """
    outputs = [
        {
            "path": path.as_posix(),
            "bytes": (folder / path).stat().st_size,
            "sha256": sha256(folder / path),
            **(details or {}).get(path.as_posix(), {}),
        }
        for path in files_in(folder)
    ]
    known = _hashed(earlier, scenes) if earlier else {}
    entries = clean(plain([scene_entry(scene, known if hash_imagery else None) for scene in scenes]))
    described = {
        "manifest_version": MANIFEST_VERSION,
        "kind": kind,
        "run_id": provenance.run_id,
        "created": provenance.created,
        "software": provenance.software,
        "settings_key": provenance.settings_key,
        "settings": provenance.settings,
        "inputs": provenance.inputs,
        "input_files": provenance.input_files,
        "counts": counts,
        **(more or {}),
        "skipped": skipped,
        "log": log,
    }
    # The outputs keep their own names, which hold no address.
    content = {**clean(plain(described)), "scenes": entries, "outputs": plain(outputs)}
    content["prov"] = prov.document(
        *(content[name] for name in ("kind", "run_id", "created", "software", "scenes", "input_files", "outputs"))
    )
    path = folder / MANIFEST
    path.write_text(dumps(content), encoding="utf-8")
    return path


def scene_entry(scene: Scene, known: dict[Path, dict[str, Any]] | None) -> dict[str, Any]:
    """What identifies a scene, with the addresses and the calibration of the files that were read.

    ``known`` collects size and SHA-256 of local files, each read once; None = they are not read.
    """
    return {
        "id": scene.scene_id,
        "sensor": scene.sensor,
        "collection": scene.collection,
        "catalog": scene.catalog,
        "href": public_href(scene.href, scene.catalog) or None,
        "acquired": scene.acquired,
        "look": scene.look,
        "processing": scene.processing,
        "version": scene.version,
        "updated": scene.updated or None,
        "cloud_percent": scene.cloud_percent,
        "assets": {
            name: {
                "href": public_href(asset.href, scene.catalog),
                **({"layer": asset.layer} if asset.layer else {}),
                **_local_content(asset.href, known),
                "scale": asset.calibration.scale,
                "offset": asset.calibration.offset,
                "rule": asset.calibration.rule,
            }
            for name, asset in scene.assets.items()
        },
    }


def local_path(href: str) -> Path | None:
    """The path of an address on this machine, None for an address elsewhere."""
    if href.startswith("file://"):
        return Path(url2pathname(urlsplit(href).path))
    return None if not href or "://" in href or href.startswith("/vsi") else Path(href)


def public_href(href: str, catalog: str) -> str:
    """An address that may be shown: without secrets, and of a local file only its path inside its catalogue.

    The folders above, which may hold the name of a user, say nothing of the scene.
    """
    path = local_path(href)
    if path is None:
        return without_secrets(href)
    parts = path.parts
    inside = parts[parts.index(catalog) + 1 :] if catalog in parts[:-1] else parts[-1:]
    return "/".join(inside)


def _hashed(folder: Path, scenes: Sequence[Scene]) -> dict[Path, dict[str, Any]]:
    """Size and SHA-256 of local files as an earlier manifest has them, of the same scene, unless the size differs."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["scenes"]
        earlier = {entry["id"]: entry for entry in told}
        known = {}
        for scene in scenes:
            entry = earlier.get(scene.scene_id)
            if entry is None or entry["processing"] != scene.processing:
                continue
            for name, asset in scene.assets.items():
                path, file = local_path(asset.href), entry["assets"].get(name, {})
                if path and "sha256" in file and (not path.is_file() or path.stat().st_size == file["bytes"]):
                    known[path] = {"bytes": file["bytes"], "sha256": file["sha256"]}
        return known
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _local_content(href: str, known: dict[Path, dict[str, Any]] | None) -> dict[str, Any]:
    """Size and SHA-256 of a local file; nothing for one elsewhere, of which only parts are read."""
    path = local_path(href)
    if known is None or path is None or (path not in known and not path.is_file()):
        return {}
    if path not in known:
        known[path] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return known[path]


def watch_members(result: WatchResult, answers: Mapping[str, SiteState]) -> dict[str, Any]:
    """What only the main job tells: the area, what was asked of it, and the answer for every site in short.

    ``answers`` holds the state of every site by its id.
    """
    return {
        "area": {
            "area_id": result.area.area_id,
            "sites": [s.site_id for s in result.area.targets],
            "controls": [s.site_id for s in result.area.sites if s not in result.area.targets],
            "sensors": [s.name for s in result.sensors],
            "reference_end": result.reference_end,
            "as_of": result.as_of,
        },
        "states": [{name: getattr(answers[k], name) for name in ("site_id", *SHORT_ANSWER)} for k in answers],
    }


SHORT_ANSWER = ("state", "score", "change_date", "change_date_earliest", "change_date_latest")
"""Fields of the answer for a site that the manifest repeats."""


def watch_counts(
    result: WatchResult, answers: Mapping[str, SiteState], patches: int, patches_dropped: int
) -> dict[str, Any]:
    """What a run of the main job found, in numbers; ``answers`` holds the state of every site by its id."""
    states = Counter(answer.state.value for answer in answers.values())
    return {
        "sites": len(result.area.targets),
        "controls": len(result.area.sites) - len(result.area.targets),
        "states": dict(sorted(states.items())),
        "scenes": len(result.scenes),
        "series_rows": len(result.series),
        "effects": len(result.effects),
        "change_maps": len(result.changes),
        "patches": patches,
        "patches_too_small": patches_dropped,
        "skipped": len(result.skipped),
        "skipped_routine": sum(s.routine for s in result.skipped),
        "complete": result.complete,
    }
