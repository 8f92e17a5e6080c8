"""Dated, sourced facts: reads events to test changes against, and sites that were reported without a position."""

from __future__ import annotations

import calendar
import csv
import datetime as dt
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from compoundwatch.errors import AreaError
from compoundwatch.model import SAFE_ID, AreaOfInterest, Event, Role, nearest, parse_day, shown

MAX_BYTES = 5_000_000
MAX_CELL = 5000
OWN_PREFIX = "x_"

EVENT_COLUMNS = (
    "event_id", "date_earliest", "date_latest", "date_precision", "place", "scope", "kind", "what", "source", "trust",
)  # fmt: skip
SITE_COLUMNS = (
    "seed_id", "name", "locality", "province", "country", "area", "reported", "precision_class", "source", "trust",
    "source_date", "note",
)  # fmt: skip

PRECISIONS = {
    "day": "one known day",
    "range": "at some time from date_earliest to date_latest, not known when",
    "span": "something that went on from date_earliest to date_latest",
    "month": "at some time in a calendar month, not known when",
    "from": "began on date_earliest; no end was stated and date_latest is empty",
}
"""What the two dates mean."""

KINDS = (
    "arrest", "border", "ceasefire", "claim", "conflict", "construction", "deadline", "demolition", "embassy",
    "exodus", "holiday", "policy", "power", "publication", "raid", "reoccupation", "sanction", "telecom",
)  # fmt: skip
"""What an event may be; "claim" is a figure or a promise by an authority, "embassy" people asking theirs for help."""

GRADES = {
    "S": "seen in the original outlet or the organisation's own page",
    "R": "a republished copy",
    "W": "a weak source, a lead only",
    "D": "derived by reasoning",
    "K": "general knowledge",
}
"""How far a source is trusted; several sources are graded in their order, as in "S/R"."""

PRECISION_CLASSES = {
    "P0": "a source gives the point",
    "P1": "named building or compound with street, quarter, beach or distance to a border (0.3 to 2 km)",
    "P2": "named compound or cluster with town or commune (2 to 10 km)",
    "P3": "province, or a distance from a city, only",
}
"""How closely the sources say where a site is."""

ALL_SITES = "*"

_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_GRADES = re.compile(r"[SRWDK](?:/[SRWDK])*")
_PARTIAL_DAY = re.compile(r"[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-[0-9]{2})?)?")


@dataclass(frozen=True)
class ReportedSite:
    """A site that public reporting names, as far as the sources go; it has no geometry.

    ``area`` is the id of the area in ``aoi/`` that covers its locality, None where no gazetteer point is certain.
    ``precision_class`` is one of PRECISION_CLASSES. ``source_date`` is the day, month or year of the newest dated
    source as text, None = none is dated. ``trust`` grades the sources in their order. None = not stated.
    """

    seed_id: str
    name: str
    locality: str | None
    province: str | None
    country: str
    area: str | None
    reported: str
    precision_class: str
    source: str
    trust: str
    source_date: str | None
    note: str | None


def read_events(path: Path, areas: AreaOfInterest | None = None) -> tuple[Event, ...]:
    """Events of a CSV file with the columns of EVENT_COLUMNS; columns that begin with "x_" are left alone.

    Parameters
    ----------
    path : file of at most 5 MB, UTF-8, commas, one header line.
    areas : the areas that ``scope`` speaks of. ``scope`` holds site_ids separated by ";", or "*" for every site, or
        nothing for an event elsewhere. Without areas, ids are not looked up and "*" stays as it is.

    Returns
    -------
    The events in the order of the file. Dates are local calendar days; an event "from" a day on has that day as its
    latest day too, since only its beginning is known.

    Raises
    ------
    AreaError : with the file, the line and the column, what was expected, what was found and what to do.
    """
    path = Path(path)
    events, first_line = [], dict[str, int]()
    for row in _rows(path, EVENT_COLUMNS, ("date_latest", "scope", "trust")):
        identity = row.identity("event_id", first_line)
        earliest, latest = _dates(row)
        events.append(
            Event(
                event_id=identity,
                earliest=earliest,
                latest=latest,
                place=row["place"],
                scope=_scope(row, areas),
                kind=row.one_of("kind", KINDS),
                what=row["what"],
                source=row["source"],
                trust=row.grades(),
            )
        )
    return tuple(events)


def read_reported_sites(path: Path) -> tuple[ReportedSite, ...]:
    """Reported sites of a CSV file with the columns of SITE_COLUMNS, in the order of the file.

    Raises
    ------
    AreaError : with the file, the line and the column, what was expected, what was found and what to do.
    """
    path = Path(path)
    sites, first_line = [], dict[str, int]()
    for row in _rows(path, SITE_COLUMNS, ("locality", "province", "area", "trust", "source_date", "note")):
        identity = row.identity("seed_id", first_line)
        day = row["source_date"]
        if day and not (_PARTIAL_DAY.fullmatch(day) and (len(day) < 10 or parse_day(day))):
            raise row.fault("source_date", "YYYY, YYYY-MM or YYYY-MM-DD")
        sites.append(
            ReportedSite(
                seed_id=identity,
                name=row["name"],
                locality=row["locality"] or None,
                province=row["province"] or None,
                country=row["country"],
                area=row["area"] or None,
                reported=row["reported"],
                precision_class=row.one_of("precision_class", PRECISION_CLASSES),
                source=row["source"],
                trust=row.grades(),
                source_date=day or None,
                note=row["note"] or None,
            )
        )
    return tuple(sites)


# ---------------------------------------------------------------------------------------------------- what cells mean


class _Row:
    """The cells of one line by column, and the words to complain about one of them."""

    def __init__(self, path: Path, line: int, cells: Mapping[str, str]) -> None:
        self.path, self.line, self.cells = path, line, cells

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def fault(self, column: str, expected: str, advice: str = "correct it") -> AreaError:
        found = shown(self[column]) if self[column] else "an empty cell"
        return AreaError(
            f"{self.path}, line {self.line}, column {column}: expected {expected}, found {found}; {advice}"
        )

    def identity(self, column: str, first_line: dict[str, int]) -> str:
        value = self[column]
        if not re.fullmatch(SAFE_ID, value):
            raise self.fault(column, "1 to 100 of the letters a-z, A-Z, digits and . _ - ~")
        if (before := first_line.setdefault(value.casefold(), self.line)) != self.line:
            raise self.fault(column, "every id once", f"line {before} has it already, rename one")
        return value

    def one_of(self, column: str, words: Sequence[str] | Mapping[str, str]) -> str:
        value = self[column]
        if value not in words:
            close = nearest(value, words)
            raise self.fault(
                column, f"one of {', '.join(words)}", f"did you mean '{close}'?" if close else "correct it"
            )
        return value

    def grades(self) -> str:
        value = self["trust"]
        if value and not _GRADES.fullmatch(value):
            raise self.fault("trust", f"{', '.join(GRADES)}, several as in S/R, or nothing")
        return value


def _dates(row: _Row) -> tuple[dt.date, dt.date]:
    precision = row.one_of("date_precision", PRECISIONS)
    earliest = parse_day(row["date_earliest"])
    if earliest is None:
        raise row.fault("date_earliest", "a day as YYYY-MM-DD")
    if precision == "from":
        if row["date_latest"]:
            raise row.fault("date_latest", "nothing with date_precision 'from'", "use 'span' for a known end")
        return earliest, earliest
    latest = parse_day(row["date_latest"])
    if latest is None:
        raise row.fault("date_latest", "a day as YYYY-MM-DD")
    if latest < earliest:
        raise row.fault("date_latest", f"a day not before {earliest}", "swap or correct the dates")
    if precision == "day" and latest != earliest:
        raise row.fault("date_latest", f"{earliest} with date_precision 'day'", "use 'range' or 'span' for two dates")
    if precision in ("range", "span") and latest == earliest:
        raise row.fault("date_latest", f"a later day than {earliest} with '{precision}'", "use 'day' for one date")
    last_of_month = earliest.replace(day=calendar.monthrange(earliest.year, earliest.month)[1])
    if precision == "month" and (earliest.day != 1 or latest != last_of_month):
        raise row.fault("date_latest", "the first and the last day of one month with date_precision 'month'")
    return earliest, latest


def _scope(row: _Row, areas: AreaOfInterest | None) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in row["scope"].split(";")) if row["scope"] else ()
    if parts == (ALL_SITES,):
        return parts if areas is None else tuple(s.site_id for s in areas.targets)
    for part in parts:
        if not re.fullmatch(SAFE_ID, part):
            raise row.fault("scope", "site_ids separated by ';', or '*' alone for every site, or nothing")
        if parts.count(part) > 1:
            raise row.fault("scope", f"every id once, not '{part}' twice", "remove one")
        if areas is not None:
            _check_target(row, part, areas)
    return parts


def _check_target(row: _Row, site_id: str, areas: AreaOfInterest) -> None:
    site = areas.by_id.get(site_id)
    if site is None:
        close = nearest(site_id, areas.by_id)
        advice = f"did you mean '{close}'?" if close else f"area '{areas.area_id}' has no such site, remove it"
        raise row.fault("scope", f"ids of area '{areas.area_id}', not '{site_id}'", advice)
    if site.role is Role.CONTROL:
        raise row.fault(
            "scope", f"sites, not the control '{site_id}'", "a place that an event concerns cannot be a control"
        )


# ------------------------------------------------------------------------------------------------------- reading lines


def _rows(path: Path, columns: Sequence[str], may_be_empty: Sequence[str]) -> Iterator[_Row]:
    """The lines of a CSV file (RFC 4180), every cell trimmed and within bounds."""
    text = _text(path)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line, header = 1, None
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if not any(c.strip() for c in cells):
                continue
            if header is None:
                header = _header(path, cells, columns)
                continue
            if len(cells) != len(header):
                raise AreaError(
                    f"{path}, line {start}: expected {len(header)} cells, found {len(cells)}; "
                    "put text that holds a comma into double quotes"
                )
            row = _Row(path, start, dict(zip(header, (c.strip() for c in cells), strict=True)))
            for column in columns:
                if not row[column] and column not in may_be_empty:
                    raise row.fault(column, "text", "fill it in")
                if len(row[column]) > MAX_CELL:
                    raise row.fault(column, f"at most {MAX_CELL} characters", "shorten it")
            yield row
    except csv.Error as error:
        raise AreaError(
            f"{path}, line {line}: expected comma-separated text, found a fault ({error}); correct it"
        ) from None
    if header is None:
        raise AreaError(f"{path}: expected a header line with {', '.join(columns)}, found an empty file")


def _header(path: Path, cells: Sequence[str], columns: Sequence[str]) -> list[str]:
    header = [c.strip() for c in cells]
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise AreaError(f"{path}, line 1: expected commas between columns, found others; save it as CSV with commas")
    for name in header:
        if header.count(name) > 1:
            raise AreaError(f"{path}, line 1: expected every column once, found {shown(name)} twice; remove one")
        if name not in columns and not name.startswith(OWN_PREFIX):
            close = nearest(name, columns)
            hint = f"did you mean '{close}'?" if close else f"begin columns of your own with '{OWN_PREFIX}'"
            raise AreaError(f"{path}, line 1: unknown column {shown(name)}; {hint}")
    if missing := [c for c in columns if c not in header]:
        raise AreaError(f"{path}, line 1: expected the columns {', '.join(columns)}, found no {', '.join(missing)}")
    return header


def _text(path: Path) -> str:
    if path.is_dir():
        raise AreaError(f"{path}: expected a CSV file, found a folder; name the file in it")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise AreaError(f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise AreaError(
            f"{path}: cannot be read ({type(error).__name__}); check the path and its permissions"
        ) from None
    if len(raw) > MAX_BYTES:
        raise AreaError(f"{path}: expected at most {MAX_BYTES / 1e6:g} MB, found more; keep only the rows you need")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise AreaError(f"{path}, line {line}: expected UTF-8, found another encoding; save it as CSV UTF-8") from None
    if found := _CONTROL_CHARACTER.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise AreaError(f"{path}, line {line}: expected printable text, found the character {found[0]!r}; remove it")
    return text
