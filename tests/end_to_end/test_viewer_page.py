"""The viewer in a real browser: it shows what was chosen, works by keyboard and on a phone, asks this machine alone.

axe-core comes from npm, as in ``test_report_page``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from compoundwatch.model import Site, WatchResult
from compoundwatch.outputs import write_watch

from ..outputs.conftest import picture, result  # noqa: F401 - a fixture
from .test_report_page import AXE, LONG, WIDTHS, check_accessible, until
from .test_report_page import browser as browser


@pytest.fixture(scope="module")
def address(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: F811
    """Where the command serves a result whose every text is hostile."""
    out = tmp_path_factory.mktemp("served") / "result"

    def spoilt(site: Site) -> Site:
        return replace(site, name=LONG) if site.site_id == "kk-1" else site

    states = tuple(replace(s, reason=f"{s.reason} {LONG}") for s in result.states)
    area = replace(result.area, sites=tuple(map(spoilt, result.area.sites)))
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None
    frames = {"kk-1": (picture("2022-02-03", 220), before, after)}
    write_watch(replace(result, area=area, states=states, frames=frames), out, report=False)
    command = [sys.executable, "-m", "compoundwatch", "serve", str(out), "--port", "0"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert serving.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/", serving.stdout.readline())
        assert found
        yield found[0]
    finally:
        serving.terminate()
        _, said = serving.communicate(timeout=60)
    assert said == ""


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the viewer and, in the end, asks whether it complained, ran what it should not, or asked anybody else."""
    tabs: list[Any] = []
    said: list[str] = []
    asked: list[str] = []
    failed: list[str] = []

    def open_page(width: int = 1280) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800})
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: said.append("dialog"))
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        tab.goto(address)
        until(tab, "document.querySelector('#site').options.length === 3")
        until(tab, "document.querySelectorAll('.leaflet-tile-loaded').length > 0")
        tabs.append(context)
        return tab

    yield open_page
    for context in tabs:
        context.close()
    assert said == []
    assert failed == []
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:"))] == []


def shown(tab: Any) -> set[str]:
    """Names of the layers whose tiles are drawn."""
    sources = tab.evaluate("[...document.querySelectorAll('.leaflet-tile')].map(t => t.src)")
    return {re.sub(r".*/tiles/\d+/\d+/\d+/(.*)\.png", r"\1", source) for source in sources}


@pytest.mark.parametrize("width", WIDTHS)
def test_it_opens_without_complaint_and_fits(opened: Callable[..., Any], width: int) -> None:
    tab = opened(width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    box = tab.locator("#map").bounding_box()
    assert box["height"] >= 400
    assert box["y"] + box["height"] <= 801
    assert tab.locator("#map path.leaflet-interactive").count() == 3
    tab.locator("#controls > p").last.scroll_into_view_if_needed()
    last = tab.locator("#controls > p").last.bounding_box()
    assert 0 <= last["y"] <= 800 - last["height"] + 1


def test_hostile_texts_are_texts(opened: Callable[..., Any]) -> None:
    tab = opened()
    assert tab.evaluate("document.querySelector('#site').options[0].textContent") == LONG
    assert tab.evaluate("document.querySelector('#reason').textContent").endswith(LONG)
    assert tab.evaluate("document.querySelectorAll('img[src=x], [onerror]').length") == 0
    assert tab.evaluate("document.scripts.length") == 2
    assert tab.title() == "compoundwatch: result on this machine"


def test_the_slider_moves_through_time_by_keyboard(opened: Callable[..., Any]) -> None:
    tab = opened()
    slider = tab.locator("#time")
    seen = []
    slider.focus()
    tab.keyboard.press("End")
    for _ in range(3):
        day = tab.locator("#day").text_content()
        assert slider.get_attribute("aria-valuetext") == day
        until(tab, "document.querySelectorAll('.leaflet-tile-loaded').length > 0")
        (name,) = [n for n in shown(tab) if n.startswith("pictures/")]
        seen.append((day, name))
        tab.keyboard.press("ArrowLeft")
    assert [day for day, _ in seen] == ["2024-12-20, sentinel2", "2023-12-28, sentinel2", "2022-02-03, sentinel2"]
    for day, name in seen:
        assert name.endswith(day[:10].replace("-", ""))
    assert "Copernicus Sentinel data 2022" in tab.locator("#credit").text_content()


def test_sites_and_change_maps_are_chosen(opened: Callable[..., Any]) -> None:
    tab = opened()
    assert any(name.startswith("rasters/kk-1_") and name.endswith("_direction") for name in shown(tab))
    tab.select_option("#change", "")
    until(tab, "![...document.querySelectorAll('.leaflet-tile')].some(t => t.src.includes('/rasters/'))")
    tab.select_option("#site", value="ឃ-3")
    until(tab, "document.querySelector('#day').textContent === 'no picture'")
    assert tab.locator("#time").is_disabled()
    assert not any("kk-1" in name for name in shown(tab))
    assert tab.locator("#reason").text_content()
    tab.select_option("#site", value="kk-1")
    assert tab.locator("#day").text_content() == "2024-12-20, sentinel2"
    assert tab.locator("#time").is_enabled()


@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_fault(browser: Any, address: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there: npm install --prefix .axe axe-core")
    context = browser.new_context(viewport={"width": width, "height": 800}, bypass_csp=True)
    tab = context.new_page()
    tab.goto(address)
    until(tab, "document.querySelector('#site').options.length === 3")
    check_accessible(tab)
    context.close()
