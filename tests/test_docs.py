"""All pages: links lead somewhere, commands are ones there are, and public names are explained and listed."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import click
import pytest

import compoundwatch as cw
from compoundwatch import detectors
from compoundwatch.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    pytest.param(page, id=str(page.relative_to(ROOT)))
    for folder, pattern in (
        (ROOT, "*.md"),
        (ROOT / "docs", "**/*.md"),
        (ROOT / "aoi", "*.md"),
        (ROOT / "seeds", "*.md"),
    )
    for page in sorted(folder.glob(pattern))
] + [pytest.param(ROOT / "examples" / "plugin" / "README.md", id="examples/plugin/README.md")]


def commands(text: str) -> list[list[str]]:
    """The words of every compoundwatch command in blocks of code, as a shell hands them over."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks += ["\n".join(line[4:] for line in text.splitlines() if line.startswith("    compoundwatch "))]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("compoundwatch ")]
    ends = ("|", "||", "&&", ";", ">", "2>", "&")
    return [words[1 : next((k for k, w in enumerate(words) if w in ends), None)] for words in found]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target, _, anchor in re.findall(r"\]\(([^)#:\s]*)(#([^)\s]+))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_ones_there_are(page: Path) -> None:
    """Click itself reads every command: unknown commands, unknown options and missing arguments are refused."""
    for words in commands(page.read_text(encoding="utf-8")):
        name, *arguments = words
        if name in ("COMMAND", "--help", "--version"):
            continue
        assert name in main.commands, f"there is no command '{name}'"
        try:
            main.commands[name].make_context(name, arguments)
        except click.exceptions.Exit:
            assert {"-h", "--help"} & set(arguments)
        except click.ClickException as error:
            pytest.fail(f"compoundwatch {shlex.join(words)}: {error.format_message()}")


def test_the_reading_of_commands_notices_slips() -> None:
    found = commands(
        "```sh\ncompoundwatch watch a.geojson \\\n  --out b > log   # why\nls\n```\n\n    compoundwatch demo | x\n"
    )
    assert found == [["watch", "a.geojson", "--out", "b"], ["demo"]]
    for wrong in (["a.geojson"], ["a.geojson", "--uot", "b"]):
        with pytest.raises(click.UsageError):
            main.commands["watch"].make_context("watch", wrong)


def test_every_public_name_stands_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    listed = {line.rpartition(".")[2] for line in page.splitlines() if line.startswith("::: ")}
    assert set(cw.__all__) <= listed
    for line in re.findall(r"^::: (compoundwatch\.\S+)$", page, re.MULTILINE):
        module, _, name = line.rpartition(".")
        assert hasattr(__import__(module, fromlist=[name]), name), line


PUBLIC = {f"compoundwatch.{n}": getattr(cw, n) for n in cw.__all__}
CALLED = {name: f for name, f in PUBLIC.items() if inspect.isfunction(f)}
TESTS = {
    f"{name}.{method}": getattr(type(d), method)
    for name, d in detectors.available().items()
    for method in ("test" if d.kind == "series" else "compare",)
}


def unexplained(function: object) -> list[str]:
    """What a docstring does not speak of: parameters, and errors that the function itself raises."""
    words = set(re.findall(r"\w+", inspect.getdoc(function) or ""))
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]  # type: ignore[arg-type]
    raised = re.findall(r"\braise ([A-Z]\w+)", inspect.getsource(function))  # type: ignore[arg-type]
    return [name for name in dict.fromkeys([*parameters, *raised]) if name not in words]


def test_docstrings_speak_of_every_parameter_and_error() -> None:
    found = {name: missing for name, f in (CALLED | TESTS).items() if (missing := unexplained(f))}
    assert found == {}


def test_docstrings_of_detectors_say_types_units_and_what_missing_means() -> None:
    for name, function in TESTS.items():
        text = inspect.getdoc(function) or ""
        for word in ("float32", "NaN", "PixelChange" if name.endswith("test") else "PairChange"):
            assert word in text, f"{name} does not say {word}"
    for name, detector in detectors.available().items():
        assert "doi:" in detector.source, name


NUMBERS = re.compile(r"_(m|percent|fraction|detectable|value)$|^(score|probability|shares|n_views)$")
"""Fields whose unit or range their name does not tell."""


def test_docstrings_of_data_tell_units_and_ranges() -> None:
    missing = {}
    for name, kind in PUBLIC.items():
        fields = getattr(kind, "__dataclass_fields__", {}) if inspect.isclass(kind) else {}
        text = inspect.getdoc(kind) or ""
        missing |= {f"{name}.{f}": kind for f in fields if NUMBERS.search(f) and f"``{f}``" not in text}
    assert list(missing) == []
