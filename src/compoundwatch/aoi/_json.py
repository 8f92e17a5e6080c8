"""Reads a JSON file of unknown origin, or says in one sentence why not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from compoundwatch.errors import AreaError
from compoundwatch.model import shown

MAX_DIGITS = 18
"""Longest whole number accepted: what fits a signed 64-bit field of a GeoPackage."""


class Fault(Exception):  # noqa: N818 - it never leaves this folder
    """What is wrong with one part of a file, without the name of the file."""


def load(path: Path, max_bytes: int) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    AreaError : the file is missing, too large, not UTF-8, not strict JSON (RFC 8259), or not an object.
    """
    raw = _bytes(path, max_bytes)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AreaError(
            f"{path}: expected text in UTF-8, found another encoding at byte {error.start}; save the file as UTF-8"
        ) from None
    if not text.strip():
        raise AreaError(f"{path}: expected GeoJSON, found an empty file; export the layer again")
    try:
        content = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise AreaError(
            f"{path}: expected JSON, found a fault in line {error.lineno}, column {error.colno} ({error.msg}); "
            "export the layer again as GeoJSON"
        ) from None
    except Fault as fault:
        raise AreaError(f"{path}: {fault}") from None
    except RecursionError:
        raise AreaError(
            f"{path}: expected a plain GeoJSON file, found brackets nested too deeply to read; export the layer again"
        ) from None
    if not isinstance(content, dict):
        raise AreaError(
            f"{path}: expected a FeatureCollection, found a JSON {_kind(content)}; export the layer as GeoJSON"
        )
    return content


def _bytes(path: Path, max_bytes: int) -> bytes:
    if path.is_dir():
        raise AreaError(f"{path}: expected a GeoJSON file, found a folder; name the file in it")
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise AreaError(
                f"{path}: expected at most {max_bytes / 1e6:g} MB, found {size / 1e6:.1f} MB; "
                "keep only the sites and controls, and simplify their outlines"
            )
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise AreaError(f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise AreaError(
            f"{path}: cannot be read ({type(error).__name__}); check the path and its permissions"
        ) from None
    if len(raw) > max_bytes:
        raise AreaError(f"{path}: expected at most {max_bytes / 1e6:g} MB, found more; name an ordinary file")
    return raw


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [k for k, _ in pairs]
        twice = next(k for k in keys if keys.count(k) > 1)
        raise Fault(f"expected each key once in an object, found {shown(twice)} twice; remove one of them")
    return made


def _constant(word: str) -> NoReturn:
    raise Fault(f"expected finite numbers, found {word}; JSON has no such number, correct or remove it")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Fault(f"expected numbers a computer can hold, found {shown(text)}; correct it")
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise Fault(f"expected whole numbers of at most {MAX_DIGITS} digits, found {shown(text)}; correct it")
    return int(text)


def _kind(value: object) -> str:
    names = {list: "array", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "number")
