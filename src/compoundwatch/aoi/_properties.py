"""The fields of a feature: which are known, what each may hold, and how a misspelt one is named."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compoundwatch.aoi._geometry import MAX_METRES
from compoundwatch.aoi._json import Fault
from compoundwatch.model import SAFE_ID, Role, nearest, parse_day, shown

NAME_LENGTH = 200
TEXT_LENGTH = 5000

MEANINGFUL = ("site_id", "name", "role", "radius_m", "precision_m", "source", "source_date", "controls")
"""Fields that steer the tool."""

DESCRIPTIVE = ("geometry_source", "place", "province", "country", "precision_class", "note")
"""Text fields that are carried along."""

PUBLIC = ("public_name", "public_precision_m", "restricted")
"""Fields that say what may be published of a feature; carried along."""

RESTRICTABLE = ("site_id", "name", "source", "all")
"""What the field ``restricted`` may name."""

NUMBERED = ("geonameid", "population", "fid")
"""Whole numbers that are carried along; QGIS adds ``fid``."""

KNOWN = (*MEANINGFUL, *DESCRIPTIVE, *PUBLIC, *NUMBERED, "compounds", "id")
"""All known fields; GDAL and QGIS turn a feature's own id into a field ``id``, which may only repeat ``site_id``."""

COMPOUND_KEYS = ("id", "name", "source", "source_date")

OWN_PREFIX = "x_"

OTHER_WORDS = {
    "site": "site_id",
    "type": "role",
    "kind": "role",
    "title": "name",
    "label": "name",
    "radius": "radius_m",
    "precision": "precision_m",
    "accuracy": "precision_m",
    "date": "source_date",
    "sources": "source",
    "notes": "note",
    "comment": "note",
    "description": "note",
}
"""What people write, and the field they mean."""

_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_MIDNIGHT = re.compile(r"T00:00:00(?:\.0+)?(?:Z|[+]00:00)?$")  # how date fields leave some programs
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Fields:
    """The fields of one feature after checking; ``properties`` holds the carried ones."""

    site_id: str
    name: str
    role: Role
    radius_m: float | None
    precision_m: float | None
    source: str | None
    source_date: dt.date | None
    controls: tuple[str, ...]
    properties: dict[str, Any]


def known_hint(key: str) -> str:
    """What to do about an unknown field, naming the known field it most resembles."""
    close = OTHER_WORDS.get(key.lower()) or nearest(key, KNOWN)
    own = f"begin your own fields with '{OWN_PREFIX}'"
    return f"did you mean '{close}'? Otherwise {own}" if close else f"known are {', '.join(KNOWN)}; {own}"


def site_id(feature: Mapping[str, Any]) -> str:
    """The id of a feature: its field ``site_id``, or else the feature's own ``id`` or its field ``id`` if that is text.

    Numbers are passed over: QGIS and GDAL number features, and a number says nothing about a site.
    """
    properties = feature.get("properties")
    given = properties if isinstance(properties, dict) else {}
    others = [v for v in (feature.get("id"), given.get("id")) if isinstance(v, str) and v]
    value = given.get("site_id")
    if value is None:
        if not others:
            raise Fault("expected a site_id, found none; give every feature a field 'site_id' of type text")
        value = others[0]
    identity = _id(value, "site_id")
    if different := next((o for o in others if o != identity), None):
        raise Fault(f"expected one id for a feature, found {shown(identity)} and {shown(different)}; remove one")
    return identity


def fields(feature: Mapping[str, Any]) -> Fields:
    """The checked fields of a feature.

    Raises
    ------
    Fault : a field is unknown or holds what it may not.
    """
    identity = site_id(feature)
    raw = feature.get("properties")
    if raw is not None and not isinstance(raw, dict):
        raise Fault(f"expected properties to be an object, found {shown(raw)}; export the layer again")
    given = {k: v for k, v in (raw or {}).items() if v is not None}  # QGIS writes null for an empty cell
    for key in raw or {}:
        if key not in KNOWN and not (key.startswith(OWN_PREFIX) and len(key) > len(OWN_PREFIX)):
            raise Fault(f"unknown field {shown(key)}; {known_hint(key)}")
    for key, value in given.items():
        _check_content(key, value)
    carried = {k: v for k, v in given.items() if k not in MEANINGFUL and k != "id"}
    return Fields(
        site_id=identity,
        name=_text(given, "name", NAME_LENGTH) or identity,
        role=_role(given.get("role")),
        radius_m=_metres(given, "radius_m"),
        precision_m=_metres(given, "precision_m"),
        source=_text(given, "source", TEXT_LENGTH) or None,
        source_date=_day(given),
        controls=_controls(given.get("controls")),
        properties=carried,
    )


def _id(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise Fault(f"expected {field} to be text, found {shown(value)}; make the field of type text")
    if not re.fullmatch(SAFE_ID, value) or _DEVICE.fullmatch(value):
        raise Fault(
            f"expected {field} to be 1 to 100 of the letters a-z, A-Z, digits and . _ - ~, found {shown(value)}; "
            "ids become file names: put the full name in 'name'"
        )
    return value


def _role(value: object) -> Role:
    if value is None or value == "":
        return Role.SITE
    try:
        return Role(value)  # type: ignore[arg-type]
    except ValueError:
        roles = " or ".join(f"'{r}'" for r in Role)
        raise Fault(f"expected role to be {roles}, found {shown(value)}; correct it") from None


def _metres(given: Mapping[str, Any], key: str) -> float | None:
    if key not in given:
        return None
    value = given[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault(f"expected {key} to be a number of metres, found {shown(value)}; make the field numeric")
    if not 0 < value <= MAX_METRES:
        raise Fault(f"expected {key} above 0 and at most {MAX_METRES:g} metres, found {shown(value)}; correct it")
    return float(value)


def _text(given: Mapping[str, Any], key: str, length: int) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise Fault(f"expected {key} to be text, found {shown(value)}; make the field of type text")
    if len(value) > length:
        raise Fault(f"expected at most {length} characters in {key}, found {len(value)}; shorten it")
    return value.strip()


def _day(given: Mapping[str, Any]) -> dt.date | None:
    text = _text(given, "source_date", NAME_LENGTH)
    if not text:
        return None
    day = parse_day(_MIDNIGHT.sub("", text))
    if day is None:
        raise Fault(f"expected source_date as YYYY-MM-DD, found {shown(text)}; correct it or leave it empty")
    return day


def _controls(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in re.split("[,;]", value)] if value.strip() else []
    if not isinstance(value, list):
        raise Fault(f"expected controls as a list of site_ids or text with commas, found {shown(value)}; correct it")
    ids = tuple(_id(v, "every id in controls") for v in value)
    if twice := next((c for c in ids if ids.count(c) > 1), None):
        raise Fault(f"expected every control once, found {shown(twice)} twice in controls; remove one")
    return ids


def _check_content(key: str, value: object) -> None:
    """Refuse text that cannot be printed or saved, and carried fields of the wrong kind."""
    for text in _texts({key: value}):
        if found := _CONTROL_CHARACTER.search(text):
            raise Fault(f"expected printable text in {key}, found the character {found[0]!r}; remove it")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise Fault(f"expected whole characters in {key}, found half of a surrogate pair; type the text again")
    if key in DESCRIPTIVE:
        _text({key: value}, key, TEXT_LENGTH)
    if key == "public_name":
        _text({key: value}, key, NAME_LENGTH)
    if key == "public_precision_m":
        _metres({key: value}, key)
    if key == "restricted":
        _check_restricted(_text({key: value}, key, TEXT_LENGTH))
    if key == "id" and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise Fault(f"expected id to be text or a whole number, found {shown(value)}; remove it")
    if key in NUMBERED and (isinstance(value, bool) or not isinstance(value, int)):
        raise Fault(f"expected {key} to be a whole number, found {shown(value)}; correct it")
    if key == "compounds" and not isinstance(value, str):  # a vector layer can only hold it as text
        _check_compounds(value)


def _check_restricted(text: str) -> None:
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name not in RESTRICTABLE:
            raise Fault(
                f"expected {', '.join(RESTRICTABLE)} or several with commas in restricted, found {shown(name)}; "
                "correct it: what is misspelt would be published"
            )


def _check_compounds(value: object) -> None:
    if not isinstance(value, list):
        raise Fault(f"expected compounds to be a list, found {shown(value)}; see the page on areas")
    for k, entry in enumerate(value, 1):
        if not isinstance(entry, dict) or not entry.get("name"):
            raise Fault(f"expected an object with a name as compound {k}, found {shown(entry)}; correct it")
        for key, content in entry.items():
            if key not in COMPOUND_KEYS:
                raise Fault(f"compound {k} has the unknown field {shown(key)}; known are {', '.join(COMPOUND_KEYS)}")
            if content is not None and not isinstance(content, str):
                raise Fault(f"expected {key} of compound {k} to be text, found {shown(content)}; correct it")


def _texts(value: object) -> list[str]:
    """Every text in a value, keys too; without recursion, so depth cannot break it."""
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            todo += item
    return found
