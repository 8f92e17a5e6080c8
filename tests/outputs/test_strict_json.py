"""JSON that two programs could understand in two ways is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compoundwatch.outputs.strict_json import MAX_JSON_BYTES, parse_json, read_json


def test_good_json_is_read(tmp_path: Path) -> None:
    assert parse_json('{"a": [1, 2.5, null, "ឃ"]}'.encode()) == {"a": [1, 2.5, None, "ឃ"]}
    (tmp_path / "x").write_text("[1]")
    assert read_json(tmp_path / "x") == [1]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"NaN", b"[Infinity]", b'{"a": 1, "a": 1}', b"\xff", b"[" * 99_999, b"9" * 9_999]
)
def test_other_json_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(content)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    os.truncate(tmp_path / "x", MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match="larger than 500 MB"):
        read_json(tmp_path / "x")
