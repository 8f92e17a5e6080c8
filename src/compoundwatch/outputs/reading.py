"""Reads back what a run of the main job wrote into its folder: the counterpart of ``rows`` and ``vector``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compoundwatch.errors import SettingsError
from compoundwatch.model import (
    SERIES_COLUMNS,
    AreaOfInterest,
    Event,
    InputFile,
    Picture,
    Provenance,
    Role,
    Settings,
    Site,
    SiteEffect,
    SiteState,
    Skipped,
    State,
    WatchResult,
)
from compoundwatch.outputs.manifest import MANIFEST_VERSION, clean, plain, utc
from compoundwatch.outputs.pictures import read_pictures
from compoundwatch.outputs.rows import answers_by_site
from compoundwatch.outputs.staging import MANIFEST, PACKAGE
from compoundwatch.outputs.vector import Patch

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StoredWatch:
    """What a folder says: the states of ``run_id`` with the places, events and series behind them.

    ``series`` has the columns of SERIES_COLUMNS. ``min_valid_fraction`` (0-1) is the share of a site that had to be
    clear for a date to be usable, ``reference_end`` the first day that might hold a change; ``sensors`` (names),
    ``settings`` and what was ``skipped`` are those of the run. ``acquired`` holds the times (UTC) of all scenes by
    sensor. ``patches`` are the changed patches inside the sites. ``pictures`` and ``frames`` are those of
    ``model.WatchResult``, empty where they were not asked for.
    """

    run_id: str
    area: AreaOfInterest
    states: tuple[SiteState, ...]
    series: pd.DataFrame
    min_valid_fraction: float
    reference_end: dt.date
    sensors: tuple[str, ...]
    settings: Settings
    skipped: tuple[Skipped, ...]
    as_of: dt.date
    provenance: Provenance
    acquired: Mapping[str, tuple[dt.datetime, ...]]
    effects: tuple[SiteEffect, ...] = ()
    patches: tuple[Patch, ...] = ()
    pictures: Mapping[str, tuple[Picture | None, Picture | None]] = field(default_factory=dict)
    frames: Mapping[str, tuple[Picture, ...]] = field(default_factory=dict)


def as_stored(result: WatchResult, patches: Sequence[Patch] = ()) -> StoredWatch:
    """What a folder will say of a result once it is written there, with the same words and nothing more."""
    run = result.provenance
    acquired: dict[str, list[dt.datetime]] = {}
    for scene in result.scenes:
        acquired.setdefault(scene.sensor, []).append(utc(scene.acquired))
    settings = Settings.model_validate(run.settings)
    return StoredWatch(
        run_id=run.run_id,
        area=result.area,
        states=tuple(answers_by_site(result).values()),
        series=result.series.assign(acquired=result.series["acquired"].dt.as_unit("ms").dt.as_unit("ns")),
        min_valid_fraction=settings.load.min_valid_fraction,
        reference_end=result.reference_end,
        sensors=tuple(s.name for s in result.sensors),
        settings=settings,
        skipped=tuple(Skipped(**row) for row in clean(plain(result.skipped))),
        as_of=result.as_of,
        provenance=replace(run, created=utc(run.created), inputs=clean(plain(run.inputs))),
        acquired={sensor: tuple(times) for sensor, times in acquired.items()},
        effects=result.effects,
        patches=tuple(patches),
        pictures=result.pictures,
        frames=result.frames,
    )


def read_watch(folder: Path, *, pictures: bool = False) -> StoredWatch:
    """The result in a folder that ``write_watch`` wrote.

    States of earlier versions have no ``change_dates`` and no ``back_date``.

    Parameters
    ----------
    pictures : read the effects, the patches and the pictures too.

    Raises
    ------
    SettingsError : the folder holds no result of the main job, or one that cannot be read.
    """
    manifest = _manifest(folder)
    package = folder / PACKAGE
    if not package.is_file():
        raise SettingsError(f"{folder}: expected a result of 'compoundwatch watch', found no {PACKAGE} in it")
    import pyogrio
    import pyogrio.errors

    # GDAL would leave a file of its own beside the package, which is no part of the result.
    pyogrio.set_gdal_config_options({"GDAL_PAM_ENABLED": False})
    try:
        names = [str(name) for name, _ in pyogrio.list_layers(package)]
        wanted = ("sites", "controls", "events", "series", "states")
        if missing := [name for name in wanted if name not in names]:
            raise SettingsError(f"{package}: expected the layers of a result, found no '{missing[0]}'; run watch again")
        mapped = {name: pyogrio.read_dataframe(package, layer=name) for name in ("sites", "controls")}
        mapped |= {"changes": pyogrio.read_dataframe(package, layer="changes")} if pictures else {}
        tables: dict[str, pd.DataFrame] = {
            name: pyogrio.read_dataframe(package, layer=name, read_geometry=False)
            for name in ("events", "series", "states", "change_dates", "contributions", "effects")
            if name in names
        }
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise SettingsError(f"{package}: cannot be read ({error}); run watch again") from error
    try:
        settings = Settings.model_validate(manifest["settings"])
        return StoredWatch(
            run_id=str(manifest["run_id"]),
            area=AreaOfInterest(str(manifest["area"]["area_id"]), _sites(mapped), _events(tables["events"])),
            states=_states(tables),
            series=_series(tables["series"]),
            min_valid_fraction=settings.load.min_valid_fraction,
            reference_end=dt.date.fromisoformat(manifest["area"]["reference_end"]),
            sensors=tuple(manifest["area"]["sensors"]),
            settings=settings,
            skipped=tuple(Skipped(**row) for row in manifest["skipped"]),
            as_of=dt.date.fromisoformat(manifest["area"]["as_of"]),
            provenance=_provenance(manifest),
            acquired=_acquired(manifest["scenes"]),
            **(_shown(folder, manifest, mapped["changes"], tables["effects"]) if pictures else {}),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{folder}: not what this version of compoundwatch writes ({type(error).__name__}: {error}); watch again"
        ) from error


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{folder}: expected the folder of a result, found no readable {MANIFEST} in it ({type(error).__name__})"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("kind") != "watch":
        raise SettingsError(f"{folder}: expected a result of 'compoundwatch watch', found another one")
    if manifest.get("manifest_version") != MANIFEST_VERSION:
        raise SettingsError(f"{folder}: written by another version of compoundwatch; run watch again")
    return manifest


def _provenance(manifest: Mapping[str, Any]) -> Provenance:
    names = ("run_id", "software", "settings", "settings_key", "inputs")
    return Provenance(
        created=dt.datetime.fromisoformat(manifest["created"]),
        input_files=tuple(InputFile(**row) for row in manifest["input_files"]),
        **{name: manifest[name] for name in names},
    )


def _acquired(scenes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[dt.datetime, ...]]:
    times: dict[str, list[dt.datetime]] = {}
    for scene in scenes:
        times.setdefault(str(scene["sensor"]), []).append(dt.datetime.fromisoformat(scene["acquired"]))
    return {sensor: tuple(found) for sensor, found in times.items()}


def _shown(folder: Path, manifest: Mapping[str, Any], changes: pd.DataFrame, effects: pd.DataFrame) -> dict[str, Any]:
    """What only readers who look at the sites need: effects, patches and pictures."""
    pictures: dict[str, dict[str, Picture]] = {}
    frames: dict[str, list[Picture]] = {}
    for site_id, when, picture in read_pictures(folder, manifest["outputs"]):
        pictures.setdefault(site_id, {})[when] = picture
        frames.setdefault(site_id, []).append(picture)
    return {
        "effects": tuple(SiteEffect(**_of(SiteEffect, row)) for row in _rows(effects)),
        "patches": tuple(Patch(**_of(Patch, row)) for row in _rows(changes)),
        "pictures": {site_id: (found.get("before"), found.get("after")) for site_id, found in pictures.items()},
        "frames": {site_id: tuple(found) for site_id, found in frames.items()},
    }


def _of(kind: type[SiteEffect] | type[Patch], row: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a type in a row, which may have more."""
    return {f.name: row[f.name] for f in fields(kind)}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, missing as None, dates as dates."""
    return [{str(k): _plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    import pandas as pd

    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, dt.datetime):
        return value.date()
    return value.item() if isinstance(value, np.generic) else value


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def _sites(mapped: Mapping[str, pd.DataFrame]) -> tuple[Site, ...]:
    """Sites and controls, each site with the controls that name it."""
    places = {role: _rows(mapped[name]) for role, name in ((Role.SITE, "sites"), (Role.CONTROL, "controls"))}
    controls: dict[str, list[str]] = {}
    for row in places[Role.CONTROL]:
        for site_id in _split(row["control_of"]):
            controls.setdefault(site_id, []).append(row["site_id"])
    return tuple(
        Site(
            site_id=row["site_id"],
            name=row["name"],
            role=role,
            geometry=row["geometry"],
            controls=tuple(controls.get(row["site_id"], ())),
            precision_m=row["precision_m"],
            source=row["source"],
            source_date=row["source_date"],
        )
        for role, rows in places.items()
        for row in rows
    )


def _events(table: pd.DataFrame) -> tuple[Event, ...]:
    return tuple(
        Event(
            event_id=row["event_id"],
            earliest=row["earliest"],
            latest=row["latest"],
            place=row["place"],
            scope=_split(row["scope"]),
            kind=row["kind"],
            what=row["what"],
            source=row["source"],
            trust=row["trust"] or "",
        )
        for row in _rows(table)
    )


def _states(tables: Mapping[str, pd.DataFrame]) -> tuple[SiteState, ...]:
    dates: dict[tuple[str, str], dict[dt.date, float]] = {}
    if "change_dates" in tables:
        for row in _rows(tables["change_dates"]):
            dates.setdefault((row["run_id"], row["site_id"]), {})[row["date"]] = row["probability"]
    said: dict[tuple[str, str], dict[str, float]] = {}
    if "contributions" in tables:
        for row in _rows(tables["contributions"]):
            said.setdefault((row["run_id"], row["site_id"]), {})[row["measurement"]] = row["log_odds"]
    weighed = {state: f"p_{state.value.lower()}" for state in State if state is not State.NOT_OBSERVABLE}
    return tuple(
        SiteState(
            site_id=row["site_id"],
            as_of=row["as_of"],
            state=State(row["state"]),
            probability={s: row[name] for s, name in weighed.items() if row[name] is not None},
            score=row["score"],
            change_date=row["change_date"],
            change_date_earliest=row["change_date_earliest"],
            change_date_latest=row["change_date_latest"],
            p_value=row["p_value"],
            q_value=row["q_value"],
            n_views=row["n_views"],
            n_before=row["n_before"],
            n_after=row["n_after"],
            n_controls=row["n_controls"],
            valid_fraction=row["valid_fraction"],
            min_detectable=row["min_detectable"],
            sensors=_split(row["sensors"]),
            reason=row["reason"],
            change_dates=dates.get((row["run_id"], row["site_id"]), {}),
            back_date=row.get("back_date"),
            contributions=said.get((row["run_id"], row["site_id"]), {}),
        )
        for row in _rows(tables["states"])
    )


def _series(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    acquired = pd.to_datetime(table["acquired"], utc=True).dt.as_unit("ns")
    return table.assign(acquired=acquired)[list(SERIES_COLUMNS)]
