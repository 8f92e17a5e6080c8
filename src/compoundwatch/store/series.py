"""The series of a place in the store: only what differs from what is known is added."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from compoundwatch.model import SERIES_COLUMNS
from compoundwatch.store.rows import utc_text

NUMBERS = ("value", "spread", "valid_fraction", "n_valid")
_NOW = (
    "SELECT m.look, m.feature, v.scene_id, v.acquired, s.value, s.spread, s.valid_fraction, s.n_valid "
    "FROM series s JOIN measurements m ON m.fid = s.measurement JOIN views v ON v.fid = s.view WHERE s.fid IN "
    "(SELECT MAX(o.fid) FROM measurements n JOIN series o ON o.measurement = n.fid WHERE n.site_id = ? "
    "AND n.sensor = ? GROUP BY o.measurement, o.view) AND s.withdrawn = 0"
)
"""The rows of a place and sensor that hold now."""


def no_series() -> pd.DataFrame:
    """A series without rows."""
    return pd.DataFrame({c: pd.Series(dtype=t) for c, t in SERIES_COLUMNS.items()})


def read_series(db: sqlite3.Connection, site_id: str, sensor: str) -> pd.DataFrame:
    """The series of a place and sensor that holds now, in order."""
    rows = db.execute(_NOW, (site_id, sensor)).fetchall()
    if not rows:
        return no_series()
    look, feature, scene_id, acquired, *numbers = zip(*rows, strict=True)
    table = {
        "site_id": [site_id] * len(rows),
        "sensor": [sensor] * len(rows),
        "feature": feature,
        "look": look,
        "scene_id": scene_id,
        "acquired": pd.to_datetime(pd.Series(acquired), utc=True, format="ISO8601").dt.as_unit("ns"),
    }
    table |= {name: np.array(column, dtype=np.float64) for name, column in zip(NUMBERS, numbers, strict=True)}
    frame = pd.DataFrame(table).astype({"n_valid": "int64"})
    return in_order(frame)


def in_order(series: pd.DataFrame) -> pd.DataFrame:
    """Rows of one place and sensor in the one order in which they are kept: by feature, look and time."""
    return series.sort_values(["feature", "look", "acquired", "scene_id"], kind="stable", ignore_index=True)


def record_series(db: sqlite3.Connection, run: int, site_id: str, sensor: str, series: pd.DataFrame) -> None:
    """Add the rows that are new or have other numbers, and withdraw those that are there no more."""
    old = {row[:4]: row[4:] for row in map(tuple, db.execute(_NOW, (site_id, sensor)))}
    new = _by_key(series)
    changed = {key: numbers for key, numbers in new.items() if old.get(key) != numbers}
    gone = sorted(key for key in old if key not in new)
    if not changed and not gone:
        return
    place = {"run": run, "site_id": site_id, "sensor": sensor}
    measurements: dict[tuple[str, str], int] = {}
    views: dict[tuple[str, str, str], int] = {}
    rows = []
    for look, feature, scene_id, acquired in [*changed, *gone]:
        key = look, feature, scene_id, acquired
        if (look, feature) not in measurements:
            measurements[look, feature] = _number(db, "measurements", {**place, "look": look, "feature": feature})
        if (look, scene_id, acquired) not in views:
            view = {**place, "look": look, "scene_id": scene_id, "acquired": acquired}
            views[look, scene_id, acquired] = _number(db, "views", view)
        numbers = changed.get(key, (None,) * len(NUMBERS))
        rows.append(
            (run, measurements[look, feature], views[look, scene_id, acquired], *numbers, int(key not in changed))
        )
    db.executemany(
        "INSERT INTO series (run, measurement, view, value, spread, valid_fraction, n_valid, withdrawn) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _by_key(series: pd.DataFrame) -> dict[tuple[str, str, str, str], tuple[Any, ...]]:
    """Numbers of every row by its key, missing as None."""
    days = series["acquired"].map({moment: utc_text(moment) for moment in series["acquired"].unique()})
    keys = zip(series["look"], series["feature"], series["scene_id"], days, strict=True)
    columns = []
    for name in NUMBERS:
        values = series[name].to_numpy()
        columns.append([None if v != v else v for v in values.tolist()])
    return dict(zip(keys, zip(*columns, strict=True), strict=True))


def _number(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    """The number of a row that is there once, added where it is not."""
    named = {name: value for name, value in row.items() if name != "run"}
    where = " AND ".join(f"{name} = ?" for name in named)
    known = db.execute(f"SELECT fid FROM {table} WHERE {where}", tuple(named.values())).fetchone()  # noqa: S608
    return int(known["fid"]) if known else insert(db, table, row)


def insert(db: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    """Add a row; gives its number."""
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    done = db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
    return int(done.lastrowid or 0)
