"""What a workspace remembers: scenes seen, values measured, states said. Nothing is decided here and nothing rewritten.

What belongs together is written in one transaction, so a run that is killed leaves a place measured or not measured.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from compoundwatch.errors import StoreError
from compoundwatch.model import Scene, Site, SiteEffect, SiteState, Skipped
from compoundwatch.store import schema
from compoundwatch.store.rows import (
    Kept,
    Run,
    Said,
    compact,
    day,
    effect_of,
    maybe_day,
    place_row,
    plain,
    run_of,
    said_of,
    scene_of,
    scene_row,
    site_of,
    skipped_of,
    state_row,
    utc_text,
)
from compoundwatch.store.series import insert, no_series, read_series, record_series

UNFINISHED, FINISHED, NOTHING_NEW = "unfinished", "finished", "nothing new"
"""How a run ended; one that was killed, or failed, stays "unfinished"."""
BUSY_S = 30.0
"""Seconds to wait while another program, such as QGIS, reads the file."""


class Ledger:
    """The store of one workspace; used by one process at a time (``workspace.opened`` sees to that)."""

    def __init__(self, path: Path, now: dt.datetime | None) -> None:
        """Open a store, made at the time ``now`` where it is not there; None = to be read only."""
        self.path = path
        with _sentences(path):
            place = path if now else f"{path.resolve().as_uri()}?mode=ro"
            self._db = sqlite3.connect(place, timeout=BUSY_S, isolation_level=None, uri=now is None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA trusted_schema = OFF")  # anybody may have made the file
            if now and not self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                with self._transaction():
                    schema.create(self._db, utc_text(now))
            self._check()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._db.close()

    def _check(self) -> None:
        names = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master")}
        version = self._db.execute("SELECT version FROM compoundwatch_store").fetchone() if _OWN in names else None
        if version is None or version[0] != schema.VERSION:
            raise StoreError(
                f"{self.path} is not a store that this version of compoundwatch writes; choose another folder, or "
                "move the file away to measure everything anew"
            )

    def holds_anything(self) -> bool:
        """Whether any scene of any place was ever read, or anything said of a site."""
        return bool(self._rows("SELECT 1 FROM scenes UNION ALL SELECT 1 FROM states LIMIT 1"))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _sentences(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk may have ended it already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with _sentences(self.path):
            return self._db.execute(query, values).fetchall()

    # ---------------------------------------------------------------------------------------------------- runs

    def runs(self) -> tuple[Run, ...]:
        """All runs, oldest first."""
        return tuple(run_of(row) for row in self._rows("SELECT * FROM runs ORDER BY run"))

    def begin(
        self,
        run_id: str,
        began: dt.datetime,
        *,
        area_id: str,
        first_day: dt.date,
        last_day: dt.date,
        reference_end: dt.date,
        catalog: str,
        whole: bool,
        basis: Mapping[str, Any],
        settings: Mapping[str, Any],
        software: Mapping[str, str],
    ) -> int:
        """Note that a run begins; gives its number. A run before it that never ended is closed as it is.

        ``whole`` says that catalogues are asked for the whole time, not for the latest days alone.
        """
        with self._transaction() as db:
            self._seal_open()
            last = db.execute("SELECT sha256 FROM runs ORDER BY run DESC LIMIT 1").fetchone()
            row = {
                "run_id": run_id,
                "began": utc_text(began),
                "outcome": UNFINISHED,
                "as_of": began.date().isoformat(),
                "area_id": area_id,
                "first_day": first_day.isoformat(),
                "last_day": last_day.isoformat(),
                "reference_end": reference_end.isoformat(),
                "catalog": catalog,
                "whole": int(whole),
                "basis": compact(basis),
                "settings": compact(settings),
                "software": compact(software),
                "previous": last["sha256"] if last else None,
            }
            return insert(db, "runs", row)

    def seal(self, run: int) -> str:
        """Hash all that a run added, after which it adds nothing more; gives the hash."""
        with self._transaction() as db:
            self._seal_open()
            return str(db.execute("SELECT sha256 FROM runs WHERE run = ?", (run,)).fetchone()["sha256"])

    def end(self, run: int, outcome: str, shown: str, ended: dt.datetime) -> None:
        """Note that a run ended well; ``shown`` is a hash of all that its files show besides what is stored here."""
        with self._transaction() as db:
            db.execute(
                "UPDATE runs SET outcome = ?, shown = ?, ended = ? WHERE run = ?",
                (outcome, shown, utc_text(ended), run),
            )
            self._seal_open()
            db.execute("UPDATE gpkg_contents SET last_change = ?", (utc_text(ended),))

    def _seal_open(self) -> None:
        for row in self._db.execute("SELECT * FROM runs WHERE sha256 IS NULL ORDER BY run").fetchall():
            self._db.execute("UPDATE runs SET sha256 = ? WHERE run = ?", (self._hash(row), row["run"]))

    def _hash(self, run: sqlite3.Row) -> str:
        """SHA-256 of all rows of a run, its own row included but for how it ended."""
        whole = hashlib.sha256(compact([run[name] for name in run.keys() if name not in _LATER]).encode())  # noqa: SIM118
        for table in schema.CHAINED:
            for row in self._db.execute(f"SELECT * FROM {table} WHERE run = ? ORDER BY fid", (run["run"],)):  # noqa: S608
                whole.update(repr(tuple(row)).encode())
        return whole.hexdigest()

    def hash_of(self, run: Any) -> str | None:
        """The hash of all that a run added, None where there is no such run or it did not end."""
        rows = self._rows("SELECT sha256 FROM runs WHERE run = ?", run if isinstance(run, int) else -1)
        return rows[0]["sha256"] if rows else None

    def check(self) -> list[str]:
        """Compare every run that ended with its hash and that of the run before; what differs, in sentences."""
        found = []
        previous = None
        with _sentences(self.path):
            for row in self._db.execute("SELECT * FROM runs ORDER BY run").fetchall():
                if row["previous"] != previous:
                    found.append(f"run {row['run']} ({row['run_id']}) does not follow on the run before it")
                elif row["sha256"] is not None and row["sha256"] != self._hash(row):
                    found.append(f"rows of run {row['run']} ({row['run_id']}) were changed after it ended")
                previous = row["sha256"]
        return found

    # -------------------------------------------------------------------------------------------------- places

    def places(self) -> dict[str, tuple[Site, bool]]:
        """Every place as it was last outlined, by id, with whether its controls were proposed, not named."""
        rows = self._rows("SELECT * FROM places WHERE fid IN (SELECT MAX(fid) FROM places GROUP BY site_id)")
        return {row["site_id"]: (site_of(row), bool(row["proposed"])) for row in rows}

    def record_places(self, run: int, sites: Iterable[Site], proposed: Iterable[str] = ()) -> None:
        """Note outlines that are new or not as they were last; ``proposed``: ids of sites whose controls were."""
        known, chosen = self.places(), set(proposed)
        with self._transaction() as db:
            for site in sites:
                old = known.get(site.site_id)
                now = (place_row(site), site.site_id in chosen)
                if old is None or (place_row(old[0]), old[1]) != now:
                    insert(db, "places", {"run": run, "proposed": int(now[1]), **now[0]})

    # ------------------------------------------------------------------------------------------------ measured

    def kept(self, site_id: str, sensor: str) -> Kept:
        """What is known of a place from a sensor."""
        place = site_id, sensor
        scenes = self._rows(
            "SELECT s.* FROM sightings g JOIN scenes s ON s.fid = g.scene WHERE g.fid IN (SELECT MAX(fid) FROM "
            "sightings WHERE site_id = ? AND sensor = ? GROUP BY scene) AND g.withdrawn = 0",
            *place,
        )
        skipped = self._rows(_SKIPPED_NOW, *place)
        searches = self._rows(
            "SELECT * FROM searches WHERE site_id = ? AND sensor = ? ORDER BY fid DESC LIMIT 1", *place
        )
        measured = self._rows(
            "SELECT * FROM measured WHERE site_id = ? AND sensor = ? ORDER BY fid DESC LIMIT 1", *place
        )
        return Kept(
            scenes=tuple(sorted((scene_of(row) for row in scenes), key=lambda s: (s.acquired, s.scene_id))),
            skipped=tuple(skipped_of(row) for row in skipped),
            searched=(day(searches[0]["first_day"]), day(searches[0]["last_day"])) if searches else None,
            inputs=measured[0]["inputs"] if measured else "",
            series=measured[0]["series"] if measured else "",
        )

    def record(
        self,
        run: int,
        site_id: str,
        sensor: str,
        *,
        scenes: Sequence[Scene],
        skipped: Sequence[Skipped],
        searched: tuple[dt.date, dt.date],
        inputs: str,
        series: pd.DataFrame,
        digest: str,
        reopened_from: dt.date | None = None,
    ) -> None:
        """Note what was measured at a place: what differs from what is known is added, in one transaction.

        Parameters
        ----------
        scenes, skipped : all that count now, and all that is left out now.
        searched : the first and the last day for which catalogues were asked by now.
        inputs, digest : hashes of what went in, and of ``series``.
        series : columns of ``model.SERIES_COLUMNS``, of this place and sensor.
        reopened_from : day of the earliest scene that is new or counts no longer, while later ones were known.
        """
        with self._transaction() as db:
            days = {"first_day": searched[0].isoformat(), "last_day": searched[1].isoformat()}
            insert(db, "searches", {"run": run, "site_id": site_id, "sensor": sensor, **days})
            _record_scenes(db, run, site_id, sensor, scenes)
            _record_skipped(db, run, site_id, sensor, skipped)
            record_series(db, run, site_id, sensor, series)
            row = {"run": run, "site_id": site_id, "sensor": sensor, "inputs": inputs, "series": digest}
            insert(db, "measured", {**row, "reopened_from": reopened_from.isoformat() if reopened_from else None})

    def reopened_from(self, site_ids: Sequence[str], run: int) -> dt.date | None:
        """The earliest day from which places were re-opened after a run."""
        marks = ", ".join("?" * len(site_ids))
        query = f"SELECT MIN(reopened_from) FROM measured WHERE run > ? AND site_id IN ({marks})"  # noqa: S608
        return maybe_day(self._rows(query, run, *site_ids)[0][0])

    def series(self, site_ids: Sequence[str], sensors: Sequence[str]) -> pd.DataFrame:
        """The series that hold now, sorted by place and sensor as given, then by feature, look and time."""
        parts = [read_series(self._db, s, k) for s in site_ids for k in sensors]
        whole = [p for p in parts if len(p)]
        return pd.concat(whole, ignore_index=True) if whole else no_series()

    # -------------------------------------------------------------------------------------------------- states

    def said(self, site_id: str, on: dt.date | None = None) -> tuple[Said, ...]:
        """What was said of a site up to a day (None = up to now), oldest first."""
        rows = self._rows(
            "SELECT s.*, r.run_id, r.began FROM states s JOIN runs r ON r.run = s.run WHERE s.site_id = ? "
            "AND s.as_of <= ? ORDER BY s.fid",
            site_id,
            (on or dt.date.max).isoformat(),
        )
        return tuple(said_of(row) for row in rows)

    def judged(self) -> tuple[str, ...]:
        """Ids of the sites of which anything was ever said, sorted."""
        return tuple(row[0] for row in self._rows("SELECT DISTINCT site_id FROM states ORDER BY site_id"))

    def effects(self, said: Said) -> tuple[SiteEffect, ...]:
        """The effects behind a statement."""
        rows = self._rows(
            "SELECT * FROM effects WHERE site_id = ? AND run = ? ORDER BY place", said.state.site_id, said.run
        )
        return tuple(effect_of(row) for row in rows)

    def record_states(
        self, run: int, statements: Sequence[tuple[SiteState, Sequence[SiteEffect], str, dt.date | None]]
    ) -> None:
        """Add statements: state, the effects behind it, the hash of its evidence, and the day it was re-opened from."""
        with self._transaction() as db:
            for state, effects, evidence, reopened in statements:
                insert(db, "states", {"run": run, **state_row(state, evidence, reopened)})
                for place, effect in enumerate(effects):
                    insert(db, "effects", {"run": run, "place": place, **plain(dataclasses.asdict(effect))})


_OWN = "compoundwatch_store"
_LATER = ("outcome", "ended", "shown", "sha256")
"""Columns of a run that are filled in when it ends."""
_SKIPPED_NOW = (
    "SELECT * FROM skipped WHERE fid IN (SELECT MAX(fid) FROM skipped WHERE site_id = ? AND sensor = ? "
    "GROUP BY item_id, stage, reason, routine) AND withdrawn = 0 ORDER BY fid"
)


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            why = "the disk is full; free some space and run again: what was measured so far is kept"
        elif "locked" in text:
            why = "another program holds it; close it there, for example in QGIS"
        elif isinstance(error, sqlite3.DatabaseError) and ("malformed" in text or "not a database" in text):
            why = "it is damaged; put back a copy, or move it away to measure everything anew"
        else:
            why = f"{text}; choose another folder"
        raise StoreError(f"{path} cannot be used: {why}") from error


def _record_scenes(db: sqlite3.Connection, run: int, site_id: str, sensor: str, scenes: Sequence[Scene]) -> None:
    numbers = []
    for scene in scenes:
        row = scene_row(scene)
        known = db.execute("SELECT fid FROM scenes WHERE digest = ?", (row["digest"],)).fetchone()
        numbers.append(known["fid"] if known else insert(db, "scenes", {"run": run, **row}))
    last = "SELECT scene FROM sightings WHERE fid IN (SELECT MAX(fid) FROM sightings WHERE site_id = ? AND sensor = ? "
    now = [r["scene"] for r in db.execute(last + "GROUP BY scene) AND withdrawn = 0 ORDER BY fid", (site_id, sensor))]
    row = {"run": run, "site_id": site_id, "sensor": sensor}
    for number in numbers:
        if number not in now:
            insert(db, "sightings", {**row, "scene": number, "withdrawn": 0})
    for number in now:
        if number not in numbers:
            insert(db, "sightings", {**row, "scene": number, "withdrawn": 1})


def _record_skipped(db: sqlite3.Connection, run: int, site_id: str, sensor: str, skipped: Sequence[Skipped]) -> None:
    now = [skipped_of(row) for row in db.execute(_SKIPPED_NOW, (site_id, sensor))]
    wanted = list(dict.fromkeys(skipped))
    for item, withdrawn in [*((s, 0) for s in wanted if s not in now), *((s, 1) for s in now if s not in wanted)]:
        row = {"run": run, "site_id": site_id, "sensor": sensor, **vars(item)}
        insert(db, "skipped", {**row, "routine": int(item.routine), "withdrawn": withdrawn})
