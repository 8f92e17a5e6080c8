"""The words in which answers are told: careful everywhere, with nothing that a satellite cannot see."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "compoundwatch"
TELLING = [
    *(PACKAGE / "score").glob("*.py"),
    *(PACKAGE / "pipeline").glob("*.py"),
    PACKAGE / "cli.py",
    PACKAGE / "ladder.py",
]
TELLING += (PACKAGE / "outputs").glob("*.py")
FORBIDDEN = re.compile(
    r"\b(clos(ed|ure)|freed|abandon\w*|desert(ed|ion)|liberat\w*|rescue\w*|evacuat\w*|escap(ed|es)|victims?|inmates?"
    r"|prisoners?|slaves?|captives?|shut down|defunct|head ?counts?|(number|count) of (people|persons|workers)"
    r"|\d+ (people|persons|workers))\b",
    re.IGNORECASE,
)


def strings(path: Path) -> list[str]:
    """All strings of a module that may reach a reader: docstrings and the notes below constants do not."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    notes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [node.value for node in found if id(node) not in notes]


@pytest.mark.parametrize("path", TELLING, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_word_says_more_than_is_seen(path: Path) -> None:
    assert [s for s in strings(path) if FORBIDDEN.search(s)] == []


def test_the_rule_finds_what_it_is_for() -> None:
    for text in ("The compound is closed.", "freed", "was abandoned", "about 300 people left", "victims"):
        assert FORBIDDEN.search(text), text
    for text in ("consistent with", "not observable", "cannot see people", "degrees of freedom"):
        assert not FORBIDDEN.search(text), text
