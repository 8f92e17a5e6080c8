"""Every public name of every module is explained: what it raises, and of arrays what shape they have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from compoundwatch import errors

SOURCE = Path(errors.__file__).parent
OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
MATHEMATICS = ("formulas", "detectors", "score", "monitoring", "online", "grid", "model")
"""What takes and gives bare arrays; kernels (change_search, regression) tell their layout once, at their top."""
ARRAY = re.compile(r"\b\w*Array\b|ArrayLike|\bFloat(32|64)\b")
SHAPE = re.compile(r"\(\w[\w ,+-]*,[\w ,+-]*\)|\bshapes?\b|\barrays?\b|\bpixels?\b|\bimages?\b|``\w+``\s+says")
POINTER = re.compile(r"see ``|as those of|as ``")
"""Words that say where the rest is told."""


def public(body: list[ast.stmt], prefix: str, above: str = "") -> Iterator[tuple[str, ast.stmt, str]]:
    """Name, node and docstring of every public function, class and method; methods with the words of their class."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            yield f"{prefix}.{node.name}", node, text and above + text
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}.{node.name}", text)


NAMES = [
    found
    for path in sorted(SOURCE.rglob("*.py"))
    if not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(SOURCE).parts)
    for found in public(
        ast.parse(path.read_text(encoding="utf-8")).body, ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    )
]


def raised(node: ast.stmt) -> set[str]:
    """Our own errors that a function raises itself."""
    calls = [r.exc for r in ast.walk(node) if isinstance(r, ast.Raise) and isinstance(r.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)} & OURS


def arrays(node: ast.stmt) -> bool:
    """Whether a function takes or gives arrays."""
    if not isinstance(node, ast.FunctionDef):
        return False
    notes = [a.annotation for a in [*node.args.args, *node.args.kwonlyargs]] + [node.returns]
    return any(ARRAY.search(ast.unparse(note)) for note in notes if note)


def test_every_public_name_has_a_docstring() -> None:
    assert len(NAMES) > 500, "names are read from the source"
    assert [name for name, _, text in NAMES if not text] == []


def test_docstrings_name_the_errors_that_are_raised() -> None:
    missing = {
        name: left
        for name, node, text in NAMES
        if isinstance(node, ast.FunctionDef) and (left := raised(node) - set(re.findall(r"\w+", text)))
    }
    assert missing == {}


def test_docstrings_of_mathematics_say_what_shape_arrays_have() -> None:
    asked = [n for n in NAMES if n[0].partition(".")[0] in MATHEMATICS and arrays(n[1])]
    assert len(asked) > 50
    assert [name for name, _, text in asked if not (SHAPE.search(text) or POINTER.search(text))] == []


def test_the_reading_notices_what_is_missing() -> None:
    source = 'def f(x: FloatArray) -> FloatArray:\n    """Double it."""\n    raise StackError("no")\n'
    ((name, node, text),) = public(ast.parse(source).body, "m")
    assert name == "m.f"
    assert raised(node) == {"StackError"}
    assert arrays(node)
    assert not SHAPE.search(text)
    assert not POINTER.search(text)
