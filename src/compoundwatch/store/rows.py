"""From the data that travels to rows of the store and back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from compoundwatch.model import Access, Asset, Calibration, Role, Scene, Site, SiteEffect, SiteState, Skipped, State
from compoundwatch.store.schema import packed, unpacked


@dataclass(frozen=True)
class Run:
    """One run of a workspace.

    ``number`` counts runs from 1. ``began`` and ``ended`` are UTC (``ended`` None = it did not end). ``basis`` is all
    that its answers depend on besides imagery and outlines, by name. ``whole`` says that it asked for the whole time.
    ``shown`` is a hash of what its files show besides what is stored. ``sha256`` covers the rows it added and
    ``previous``, the hash of the run before (None = it did not end, or there is none before).
    """

    number: int
    run_id: str
    began: dt.datetime
    ended: dt.datetime | None
    outcome: str
    as_of: dt.date
    area_id: str
    first_day: dt.date
    last_day: dt.date
    reference_end: dt.date
    whole: bool
    basis: Mapping[str, Any]
    shown: str | None
    previous: str | None
    sha256: str | None


@dataclass(frozen=True)
class Kept:
    """What is known of one place from one sensor.

    ``scenes`` are those that count, sorted by time; ``skipped`` what was left out. ``searched`` are the first and the
    last day for which catalogues were asked (None = never). ``inputs`` and ``series`` are hashes of what went into the
    measurement and of what came out (empty = not measured yet).
    """

    scenes: tuple[Scene, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    searched: tuple[dt.date, dt.date] | None = None
    inputs: str = ""
    series: str = ""


@dataclass(frozen=True)
class Said:
    """One statement about a site: in which run, from which evidence (a hash), and from which day on it was re-opened.

    ``reopened_from`` is the day of the earliest scene that was new to this statement though later ones were known
    before (None = all new scenes were later).
    """

    run_id: str
    run: int
    began: dt.datetime
    evidence: str
    reopened_from: dt.date | None
    state: SiteState


def compact(value: Any) -> str:
    """Strict JSON in one line, keys sorted, so that equal values are equal texts."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def utc_text(moment: dt.datetime) -> str:
    """A time in UTC as a GeoPackage keeps it."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str) -> dt.datetime:
    """The time in a text of ``utc_text``."""
    return dt.datetime.fromisoformat(text)


def day(text: str) -> dt.date:
    """The day in an ISO 8601 text."""
    return dt.date.fromisoformat(text)


def maybe_day(text: str | None) -> dt.date | None:
    """The day in a text, None for none."""
    return None if text is None else day(text)


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values as SQLite keeps them: dates as texts, numbers of numpy as numbers."""
    made = {}
    for name, value in row.items():
        if isinstance(value, dt.date):
            value = value.isoformat()
        made[name] = value.item() if isinstance(value, np.generic) else value
    return made


def run_of(row: sqlite3.Row) -> Run:
    """A run as its row says."""
    return Run(
        number=row["run"],
        run_id=row["run_id"],
        began=moment(row["began"]),
        ended=moment(row["ended"]) if row["ended"] else None,
        outcome=row["outcome"],
        as_of=day(row["as_of"]),
        area_id=row["area_id"],
        first_day=day(row["first_day"]),
        last_day=day(row["last_day"]),
        reference_end=day(row["reference_end"]),
        whole=bool(row["whole"]),
        basis=json.loads(row["basis"]),
        shown=row["shown"],
        previous=row["previous"],
        sha256=row["sha256"],
    )


def place_row(site: Site) -> dict[str, Any]:
    """A place as a row."""
    return {
        "geom": packed(site.geometry),
        "site_id": site.site_id,
        "name": site.name,
        "role": site.role.value,
        "controls": ", ".join(site.controls),
        "precision_m": site.precision_m,
        "source": site.source,
        "source_date": site.source_date.isoformat() if site.source_date else None,
        "properties": compact(dict(site.properties)),
    }


def site_of(row: sqlite3.Row) -> Site:
    """The place in a row."""
    shape = unpacked(row["geom"])
    assert shape is not None
    return Site(
        site_id=row["site_id"],
        name=row["name"],
        role=Role(row["role"]),
        geometry=shape,
        controls=tuple(row["controls"].split(", ")) if row["controls"] else (),
        precision_m=row["precision_m"],
        source=row["source"],
        source_date=maybe_day(row["source_date"]),
        properties=json.loads(row["properties"]),
    )


def without_token(href: str) -> str:
    """An address without user, password, query and fragment, where tokens hide; paths of this machine as they are."""
    if not href.startswith(("http://", "https://")):
        return href
    parts = urlsplit(href)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def scene_row(scene: Scene) -> dict[str, Any]:
    """A scene as a row, with the hash of all of it."""
    assets = {
        name: {
            "href": without_token(a.href),
            "calibration": (a.calibration.scale, a.calibration.offset, a.calibration.nodata, a.calibration.rule),
            "layer": a.layer,
            "corner": a.corner,
            "access": [sorted(a.access.own_hosts), a.access.token_endpoint, a.access.signed_hosts],
        }
        for name, a in scene.assets.items()
    }
    row = {
        "geom": packed(scene.footprint),
        "sensor": scene.sensor,
        "scene_id": scene.scene_id,
        "collection": scene.collection,
        "catalog": scene.catalog,
        "acquired": utc_text(scene.acquired),
        "moment": scene.acquired.astimezone(dt.UTC).isoformat(),
        "acquisition": scene.acquisition,
        "look": scene.look,
        "processing": scene.processing,
        "version": scene.version,
        "cloud_percent": scene.cloud_percent,
        "updated": scene.updated,
        "href": without_token(scene.href),
        "assets": compact(assets),
    }
    return {"digest": hashlib.sha256(repr(tuple(row.values())).encode()).hexdigest(), **row}


def scene_of(row: sqlite3.Row) -> Scene:
    """The scene in a row."""
    assets = {
        name: Asset(
            href=a["href"],
            calibration=Calibration(*a["calibration"]),
            layer=a["layer"],
            corner=tuple(a["corner"]) if a["corner"] else None,
            access=Access(frozenset(a["access"][0]), a["access"][1], a["access"][2]),
        )
        for name, a in json.loads(row["assets"]).items()
    }
    return Scene(
        scene_id=row["scene_id"],
        sensor=row["sensor"],
        collection=row["collection"],
        catalog=row["catalog"],
        acquired=moment(row["moment"]),
        acquisition=row["acquisition"],
        look=row["look"],
        processing=row["processing"],
        version=row["version"],
        cloud_percent=row["cloud_percent"],
        assets=assets,
        footprint=unpacked(row["geom"]),
        updated=row["updated"],
        href=row["href"],
    )


def skipped_of(row: sqlite3.Row) -> Skipped:
    """What was left out, from its row."""
    return Skipped(row["item_id"], row["stage"], row["reason"], bool(row["routine"]))


_SHOWN = ("state", "score", "change_date", "change_date_earliest", "change_date_latest", "reason")


def state_row(state: SiteState, evidence: str, reopened: dt.date | None) -> dict[str, Any]:
    """A statement as a row: what people read as columns, all of it as a document."""
    document = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    document["probability"] = {s.value: p for s, p in state.probability.items()}
    document["change_dates"] = {day.isoformat(): p for day, p in state.change_dates.items()}
    # The order of the measurements is kept: they are listed as they were weighed.
    document["contributions"] = list(state.contributions.items())
    shown = {name: document[name] for name in _SHOWN}
    row = {"site_id": state.site_id, "as_of": state.as_of, "evidence": evidence, "reopened_from": reopened, **shown}
    return {**plain(row), "state": state.state.value, "document": compact(document)}


def said_of(row: sqlite3.Row) -> Said:
    """The statement in a row."""
    document = json.loads(row["document"])
    for name in ("as_of", "change_date", "change_date_earliest", "change_date_latest", "back_date"):
        document[name] = maybe_day(document[name])
    document["state"] = State(document["state"])
    document["probability"] = {s: document["probability"][s.value] for s in State if s.value in document["probability"]}
    document["change_dates"] = {day(text): p for text, p in document["change_dates"].items()}
    document["contributions"] = dict(map(tuple, document["contributions"]))
    document["sensors"] = tuple(document["sensors"])
    state = SiteState(**document)
    return Said(
        row["run_id"], row["run"], moment(row["began"]), row["evidence"], maybe_day(row["reopened_from"]), state
    )


def effect_of(row: sqlite3.Row) -> SiteEffect:
    """The effect in a row."""
    names = [f.name for f in dataclasses.fields(SiteEffect)]
    values: dict[str, Any] = {name: maybe_day(row[name]) if name == "day" else row[name] for name in names}
    return SiteEffect(**values)
