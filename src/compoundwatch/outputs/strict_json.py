"""JSON from anybody, read strictly: what two programs could understand in two ways is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 500_000_000


def read_json(path: Path) -> Any:
    """A JSON file read strictly: no NaN, no name given twice in one object.

    Raises
    ------
    ValueError : it is too large or no such JSON; the message says what is wrong.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"larger than {MAX_JSON_BYTES // 10**6} MB")
    return parse_json(path.read_bytes())


def parse_json(content: bytes) -> Any:
    """JSON text read strictly; see ``read_json``."""
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return named
