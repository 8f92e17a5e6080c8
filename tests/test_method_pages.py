"""docs/detectors and docs/sensors: a page for everything registered, whole, with examples that do what they say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from compoundwatch import detectors, sensors

DOCS = Path(__file__).resolve().parents[1] / "docs"
SOURCE = Path(detectors.__file__).parents[1]
REGISTERED = {
    "detectors": {n: d for n, d in detectors.available().items() if type(d).__module__.startswith("compoundwatch.")},
    "sensors": {p.stem: None for p in (SOURCE / "sensors").glob("[!_]*.py")},
}
PAGES = [pytest.param(page, id=f"{page.parent.name}/{page.stem}") for page in sorted(DOCS.glob("*/*.md"))]
METHODS = [p for p in PAGES if p.values[0].parent.name in REGISTERED]
OF_DETECTORS = [p for p in METHODS if p.values[0].parent.name == "detectors"]


def test_all_sensors_are_counted() -> None:
    assert set(REGISTERED["sensors"]) <= set(sensors.available())


@pytest.mark.parametrize("folder", REGISTERED)
def test_a_page_for_everything_and_nothing_else(folder: str) -> None:
    pages = {page.stem for page in (DOCS / folder).glob("*.md")}
    missing, left_over = set(REGISTERED[folder]) - pages, pages - set(REGISTERED[folder])
    assert not missing, f"write docs/{folder}/{{{', '.join(sorted(missing))}}}.md"
    assert not left_over, f"docs/{folder} speaks of {', '.join(sorted(left_over))}, which is not there"


@pytest.mark.parametrize("page", [*PAGES, pytest.param(DOCS / "coregistration.md", id="coregistration")])
def test_nothing_is_left_to_fill_in_and_every_picture_and_link_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", text)
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (page.parent / picture).is_file(), picture
        assert (page.parent / picture).stat().st_size < 80_000
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", METHODS)
def test_a_page_shows_a_picture_and_says_when_it_is_wrong(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}: ")
    assert re.search(r"^## When it is wrong$", text, re.MULTILINE)
    assert re.search(r"^!\[[^\]]{20,}\]\(", text, re.MULTILINE)


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_a_detectors_page_names_its_sources_and_how_honest_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.search(r"^## Method$", text, re.MULTILINE)
    assert re.search(r"^## How honest is it$", text, re.MULTILINE)
    assert re.search(r"^\|.*p < 0\.05.*p < 0\.01.*\|$", text, re.MULTILINE), "a table of true sizes"
    for doi in re.findall(r"doi:\S+?(?=[,;)\s]*(?:\s|$))", REGISTERED["detectors"][page.stem].source):
        assert doi in text, f"the page does not name the source {doi}"


@pytest.mark.parametrize("page", OF_DETECTORS)
def test_the_example_prints_what_it_says(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        said = [line.partition("  # ")[2] for line in block.splitlines() if line.startswith("print(")]
        assert said
        assert all(said), "every print is followed by what it prints"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(page), "exec"), {})
        assert printed.getvalue().splitlines() == said
