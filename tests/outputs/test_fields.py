"""The dictionary of fields tells the same as docs/fields.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compoundwatch.model import SERIES_COLUMNS
from compoundwatch.outputs.fields import COMPARE_FILES, GEOMETRIES, LAYERS, TITLES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fields.md"


def documented() -> dict[str, list[tuple[str, ...]]]:
    """Rows of every table of the page, by the heading above it."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    heading = ""
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:].strip()
        elif line.startswith("| `"):
            cells = tuple(c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1])
            tables.setdefault(heading, []).append((cells[0].strip("`"), *cells[1:]))
    return tables


@pytest.mark.parametrize(
    ("heading", "fields"),
    [*LAYERS.items(), *((f"compare: {name}", fields) for name, fields in COMPARE_FILES.items())],
)
def test_the_page_tells_the_same(heading: str, fields: tuple[object, ...]) -> None:
    rows = documented()[heading]
    assert rows == [(f.name, f.title, f.kind, f.unit, f.meaning, f.missing) for f in fields]  # type: ignore[attr-defined]


def test_names_are_unique_and_fit_everywhere() -> None:
    for name, fields in LAYERS.items():
        columns = [f.name for f in fields]
        assert len(set(columns)) == len(columns)
        assert not {"fid", "geom", "id"} & set(columns), name
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", c) for c in columns)
        assert len({f.title for f in fields}) == len(fields), name
    assert set(TITLES) == set(LAYERS)
    assert set(GEOMETRIES) < set(LAYERS)


def test_the_series_have_the_columns_of_the_model() -> None:
    assert [f.name for f in LAYERS["series"]] == list(SERIES_COLUMNS)
