"""Which statements were sent to whom: two small tables beside the store's own, which no hash covers.

An address is known by a digest that is slow to make, so that a token in it cannot be guessed from the file.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from compoundwatch.model import State
from compoundwatch.store.ledger import Ledger
from compoundwatch.store.rows import maybe_day, utc_text

_TABLES = (
    "CREATE TABLE IF NOT EXISTS notice_starts (address TEXT PRIMARY KEY, run INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS notices (fid INTEGER PRIMARY KEY, address TEXT NOT NULL, site_id TEXT NOT NULL, "
    "state TEXT NOT NULL, earliest DATE, latest DATE, began DATETIME NOT NULL, sent DATETIME)",
)


@dataclass(frozen=True)
class Notice:
    """What was told of a site: the state, and first and last day of the change (None = not dated)."""

    site_id: str
    state: State
    earliest: dt.date | None
    latest: dt.date | None


class Notices:
    """What one address was told; an open workspace is needed, so that one process at a time sends."""

    def __init__(self, ledger: Ledger, address: str) -> None:
        """Begin with this address where it is new: what was said before its first run is not news to it."""
        self._ledger = ledger
        digest = hashlib.scrypt(address.encode(), salt=b"compoundwatch notices", n=2**14, r=8, p=1, dklen=16)
        self._address = digest.hex()
        with ledger._transaction() as db:
            for table in _TABLES:
                db.execute(table)
            db.execute(
                "INSERT OR IGNORE INTO notice_starts VALUES (?, (SELECT COALESCE(MAX(run), 0) FROM runs))",
                (self._address,),
            )

    @property
    def first_run(self) -> int:
        """The run after which this address was told anything for the first time."""
        return int(self._ledger._rows("SELECT run FROM notice_starts WHERE address = ?", self._address)[0]["run"])

    def last(self, site_id: str) -> Notice | None:
        """What the address was last told of a site."""
        rows = self._ledger._rows(
            "SELECT * FROM notices WHERE address = ? AND site_id = ? ORDER BY fid DESC LIMIT 1", self._address, site_id
        )
        return next((_notice(row) for row in rows), None)

    def begin(self, told: Sequence[Notice], now: dt.datetime) -> list[int]:
        """Note that these are being sent, before they are; gives their numbers."""
        query = "INSERT INTO notices (address, site_id, state, earliest, latest, began) VALUES (?, ?, ?, ?, ?, ?)"
        with self._ledger._transaction() as db:
            rows = [
                (
                    self._address,
                    n.site_id,
                    n.state.value,
                    n.earliest.isoformat() if n.earliest else None,
                    n.latest.isoformat() if n.latest else None,
                    utc_text(now),
                )
                for n in told
            ]
            return [int(db.execute(query, row).lastrowid or 0) for row in rows]

    def end(self, numbers: Sequence[int], delivered: bool, now: dt.datetime) -> None:
        """Note that they arrived, or forget them so that they are sent again."""
        with self._ledger._transaction() as db:
            for number in numbers:
                if delivered:
                    db.execute("UPDATE notices SET sent = ? WHERE fid = ?", (utc_text(now), number))
                else:
                    db.execute("DELETE FROM notices WHERE fid = ?", (number,))

    def unsure(self) -> list[Notice]:
        """Those of which it is not known whether they arrived, since their run was killed; each is given once."""
        rows = self._ledger._rows(
            "SELECT * FROM notices WHERE address = ? AND sent IS NULL ORDER BY fid", self._address
        )
        with self._ledger._transaction() as db:
            for row in rows:
                db.execute("UPDATE notices SET sent = began WHERE fid = ?", (row["fid"],))
        return [_notice(row) for row in rows]


def _notice(row: sqlite3.Row) -> Notice:
    return Notice(row["site_id"], State(row["state"]), maybe_day(row["earliest"]), maybe_day(row["latest"]))
