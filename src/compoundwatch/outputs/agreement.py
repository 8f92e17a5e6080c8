"""Do the files of a result say the same? States, dates, scores, patches and counts, wherever they are told twice.

The files may come from anybody: a database is opened read-only, its views and triggers are left alone, and a query
that does not end is stopped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from compoundwatch.model import shown
from compoundwatch.outputs.fields import ANSWER, CHANGES, SITES, Field
from compoundwatch.outputs.staging import MANIFEST, PACKAGE
from compoundwatch.outputs.strict_json import read_json

SITES_FILE, CHANGES_FILE, REPORT, STAC = "sites.geojson", "changes.geojson", "report.html", "stac/"
STAC_PREFIX = "compoundwatch:"
MAX_QUERY_STEPS = 2_000
"""Of a million instructions of the database each; reading a million rows takes some tens."""

Row = Mapping[str, Any]
Complaint = tuple[str, str]
"""A file, and a sentence on what it says differently."""


class UnreadableError(Exception):
    """A file that is not what compoundwatch writes; the message says why."""


def check(folder: Path, manifest: Row, there: Mapping[str, int]) -> Iterator[Complaint]:
    """Every contradiction between the files of a result.

    Parameters
    ----------
    folder : the result.
    manifest : its manifest.
    there : its files with their sizes.
    """
    listed = {entry["path"] for entry in manifest["outputs"]} & set(there)
    complaints: list[Complaint] = []

    def read(name: str, reader: Callable[[Path], Any]) -> Any:
        if name not in listed:
            return None
        try:
            return reader(folder / name)
        except UnreadableError as error:
            complaints.append((name, f"{name} is not what compoundwatch writes: {error}"))
            return None

    collections = {name: read(name, features) for name in (SITES_FILE, CHANGES_FILE)}
    package = read(PACKAGE, lambda path: _package(path, str(manifest["run_id"])))
    items = {name: read(name, _item) for name in sorted(listed) if _tells_of_a_site(name)}
    report = read(REPORT, lambda path: path.read_text(encoding="utf-8", errors="replace"))
    yield from complaints
    for name, collection in collections.items():
        if collection is not None:
            yield from _stamp(name, collection[0], manifest)
    if report is not None and str(manifest["run_id"]) not in report:
        yield REPORT, f"{REPORT} does not name the run {shown(manifest['run_id'])} of {MANIFEST}"
    counts = manifest["counts"]
    if manifest["kind"] == "watch":
        yield from _sites(_told(collections[SITES_FILE], package, items, manifest), manifest)
        yield from _patches(collections[CHANGES_FILE], package)
    if collections[CHANGES_FILE] is not None:
        yield from _count(CHANGES_FILE, "patches", len(collections[CHANGES_FILE][1]), counts)
    if package is not None:
        for table, name in COUNTED.items():
            yield from _count(PACKAGE, name, package["counts"][table], counts)


STAC_ROOT = "stac/catalog.json"


def _tells_of_a_site(name: str) -> bool:
    """Whether a file is the STAC item of a site; those of pictures lie in a folder of their own."""
    return name.startswith(STAC) and "/" not in name.removeprefix(STAC) and name != STAC_ROOT


COUNTED = {
    "sites": "sites",
    "controls": "controls",
    "changes": "patches",
    "scenes": "scenes",
    "series": "series_rows",
    "effects": "effects",
}
"""What the manifest calls the number of rows of a table."""


def _count(name: str, what: str, found: int, counts: Row) -> Iterator[Complaint]:
    if counts.get(what) != found:
        yield name, f"{name} holds {found} {what.replace('_', ' ')}, {MANIFEST} counts {shown(counts.get(what))}"


def _stamp(name: str, stamp: Row, manifest: Row) -> Iterator[Complaint]:
    """The words of provenance that a file carries, against the manifest."""
    told = {
        "run_id": manifest["run_id"],
        "created": manifest["created"],
        "software": f"compoundwatch {manifest['software'].get('compoundwatch', '')}".strip(),
        "settings_key": manifest["settings_key"],
    }
    for key, value in told.items():
        if stamp.get(key) != value:
            yield name, f"{name} was written with {key} {shown(stamp.get(key))}, {MANIFEST} says {shown(value)}"


def answers(folder: Path, manifest: Row) -> dict[str, dict[str, Row]]:
    """What each file of a result that can be read says of every site: file -> site -> field -> value."""
    names = {entry["path"] for entry in manifest["outputs"]}

    def read(name: str, reader: Callable[[Path], Any]) -> Any:
        try:
            return reader(folder / name) if name in names and (folder / name).is_file() else None
        except UnreadableError:
            return None

    package = read(PACKAGE, lambda path: _package(path, str(manifest["run_id"])))
    items = {name: read(name, _item) for name in sorted(names) if _tells_of_a_site(name)}
    return _told(read(SITES_FILE, features), package, items, manifest)


def _told(collection: Any, package: Any, items: Mapping[str, Any], manifest: Row) -> dict[str, dict[str, Row]]:
    """The answer for every site, wherever it is told."""
    told: dict[str, dict[str, Row]] = {}
    if collection is not None:
        told[SITES_FILE] = _by_site(row for row in collection[1])
    if package is not None:
        told[PACKAGE] = _by_site(package["sites"])
        told[f"{PACKAGE} (states)"] = _by_site(package["states"])
    if isinstance(manifest.get("states"), list):
        told[MANIFEST] = _by_site(row for row in manifest["states"] if isinstance(row, dict))
    if known := {name: item for name, item in items.items() if item is not None}:
        told[STAC] = _by_site(known.values())
    return told


def _sites(told: Mapping[str, Mapping[str, Row]], manifest: Row) -> Iterator[Complaint]:
    """Where files tell different answers for a site."""
    ids = list(dict.fromkeys(site_id for rows in told.values() for site_id in rows))
    for site_id in ids:
        for name, rows in told.items():
            if site_id not in rows:
                yield name, f"site {shown(site_id)} is not in {name}"
        for field in dict.fromkeys(f.name for f in (*SITES, *ANSWER)):
            values = {name: rows[site_id][field] for name, rows in told.items() if field in rows.get(site_id, ())}
            yield from _differ(f"site {shown(site_id)}", field, values)
    for name, rows in told.items():
        states: dict[str, int] = {}
        for row in rows.values():
            states[str(row.get("state"))] = states.get(str(row.get("state")), 0) + 1
        counted = manifest["counts"].get("states")
        if counted != states:
            yield name, f"{name} tells of the states {_tally(states)}, {MANIFEST} counts {_tally(counted)}"


def _tally(states: Any) -> str:
    if not isinstance(states, Mapping):
        return shown(states)
    return ", ".join(f"{shown(name)} {shown(n)}" for name, n in sorted(states.items(), key=str)) or "none"


def _differ(what: str, field: str, values: Mapping[str, Any]) -> Iterator[Complaint]:
    """One sentence where files tell different values of one field."""
    groups: list[tuple[Any, list[str]]] = []
    for name, value in values.items():
        for known, names in groups:
            if known == value:
                names.append(name)
                break
        else:
            groups.append((value, [name]))
    if len(groups) > 1:
        text = ", but ".join(f"{shown(value)} in {' and '.join(names)}" for value, names in groups)
        yield min(groups, key=lambda g: len(g[1]))[1][0], f"{what}: {field} is {text}"


def _patches(collection: Any, package: Any) -> Iterator[Complaint]:
    """Every changed patch, in GeoJSON and in the GeoPackage, which hold them in the same order."""
    if collection is None or package is None:
        return
    for k, (one, other) in enumerate(zip(collection[1], package["changes"], strict=False), start=1):
        for field in CHANGES:
            if field.name in one and field.name in other:
                values = {CHANGES_FILE: one[field.name], PACKAGE: other[field.name]}
                yield from _differ(f"patch {k}", field.name, values)


def _by_site(rows: Any) -> dict[str, Row]:
    return {str(row.get("site_id")): row for row in rows}


# ---------------------------------------------------------------------------------------------------------- readers


def features(path: Path) -> tuple[Row, list[Row]]:
    """The provenance and the properties of all features of a GeoJSON file.

    Raises
    ------
    UnreadableError : it is no such file.
    """
    content = _json(path)
    features = content.get("features")
    stamp = content.get("provenance")
    if not isinstance(features, list) or not isinstance(stamp, dict):
        raise UnreadableError("it has no features with their provenance")
    return stamp, [_properties(feature) for feature in features]


def _item(path: Path) -> Row:
    """The properties of a STAC item under their own names, without the prefix."""
    properties = _properties(_json(path))
    return {name.removeprefix(STAC_PREFIX): v for name, v in properties.items() if name.startswith(STAC_PREFIX)}


def _properties(feature: Any) -> Row:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        raise UnreadableError("a feature has no properties")
    return properties


def _json(path: Path) -> Row:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"no JSON ({shown(str(error))})") from error
    if not isinstance(content, dict):
        raise UnreadableError("no JSON object")
    return content


def _package(path: Path, run_id: str) -> dict[str, Any]:
    """Rows of the sites, states and changes of a GeoPackage, and how many rows its tables have."""
    with _opened(path) as database:
        if missing := sorted({*COUNTED, "states"} - set(_names(database))):
            raise UnreadableError(f"it has no table '{missing[0]}'")
        return {
            "sites": _rows(database, "sites", SITES),
            "changes": _rows(database, "changes", CHANGES),
            "states": [r for r in _rows(database, "states", (RUN, *SITES)) if r.get("run_id") == run_id],
            "counts": {
                name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - own names
                for name in COUNTED
            },
        }


def tables(path: Path, names: Sequence[str]) -> dict[str, list[Row]]:
    """All rows of those of the named tables that a GeoPackage has, in the order in which they were written.

    Raises
    ------
    UnreadableError : it is no GeoPackage.
    """
    with _opened(path) as database:
        there = set(_names(database))
        database.row_factory = sqlite3.Row
        return {
            name: [dict(row) for row in database.execute(f'SELECT * FROM "{name}" ORDER BY rowid')]  # noqa: S608
            for name in names
            if name in there
        }


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            steps = iter(range(MAX_QUERY_STEPS))
            database.set_progress_handler(lambda: next(steps, None) is None, 1_000_000)
            database.execute("PRAGMA trusted_schema = OFF")
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            yield database
    except sqlite3.Error as error:
        raise UnreadableError(f"no GeoPackage that can be read ({shown(str(error))})") from error


def _names(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


RUN = Field("run_id", "text", "", "the run that said so")


def _rows(database: sqlite3.Connection, table: str, fields: Sequence[Field]) -> list[Row]:
    """All rows of a table in the order in which they were written, with those of the fields that it has."""
    has = {row[1] for row in database.execute(f'PRAGMA table_info("{table}")')}
    names = [field.name for field in fields if field.name in has]
    columns = ", ".join(f'"{name}"' for name in names)
    if not names or "fid" not in has:
        raise UnreadableError(f"its table '{table}' lacks columns")
    cursor = database.execute(f'SELECT {columns} FROM "{table}" ORDER BY fid')  # noqa: S608 - names of our own fields
    return [dict(zip(names, row, strict=True)) for row in cursor]
