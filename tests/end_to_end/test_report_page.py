"""The report in a real browser: it works by hand, by keyboard and for screen readers, asks nobody and runs no more.

axe-core, which looks for what keeps people from using a page, comes from npm: `npm install --prefix .axe axe-core`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compoundwatch.model import Site, WatchResult
from compoundwatch.outputs.reading import as_stored
from compoundwatch.outputs.report import write_report
from compoundwatch.outputs.report.pdf import BROWSERS, print_pdf
from compoundwatch.pipeline.summarising import told

from ..outputs.conftest import HOSTILE, picture, result, sensor  # noqa: F401 - a fixture

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
AXE = Path(__file__).resolve().parents[2] / ".axe" / "node_modules" / "axe-core" / "axe.min.js"
LONG = (
    HOSTILE
    + " \u202eright to left\u202c قرية ភូមិ '\" --> </script><img src=x onerror=alert(1)> "
    + "ក" * 200
    + "x" * 200
)
WIDTHS = [1280, 390]


def binary() -> str:
    found = next((p for p in CHROMIUM if Path(p).exists()), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian package chromium)")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=binary(), args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: F811
    """The report in both languages, of a result whose every text is hostile."""
    home = tmp_path_factory.mktemp("pages")
    assert len(LONG) > 500
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None

    def spoilt(site: Site) -> Site:
        return replace(site, name=LONG if site.site_id == "kk-1" else site.name, source=site.source or LONG)

    events = tuple(replace(e, what=f"{e.what} {LONG}", place=LONG) for e in result.area.events)
    states = tuple(replace(s, reason=f"{s.reason} {LONG}") for s in result.states)
    sites = tuple(map(spoilt, result.area.sites))
    hostile = replace(
        result,
        area=replace(result.area, sites=sites, events=events, area_id="kampot</title><script>alert(2)</script>"),
        states=states,
        skipped=tuple(replace(s, reason=f"{s.reason} {LONG}") for s in result.skipped),
        frames={"kk-1": (picture("2022-02-03", 220), picture("2023-02-03", 225), before, after)},
    )
    stored = as_stored(hostile)
    for language in ("en", "km"):
        write_report(home / f"{language}.html", stored, (sensor(),), told(stored), language=language)
    return {language: home / f"{language}.html" for language in ("en", "km")}


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page and, in the end, asks whether it complained, asked anybody, or ran what it should not."""
    tabs: list[Any] = []
    said: list[str] = []
    asked: list[str] = []

    def open_page(language: str = "en", width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("dialog", lambda dialog: said.append("dialog"))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(pages[language].resolve().as_uri())
        tabs.append(context)
        return tab

    yield open_page
    for context in tabs:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} <= {p.resolve().as_uri() for p in pages.values()}


def until(tab: Any, true: str) -> None:
    """Wait until an expression is true; Playwright's own way would evaluate text inside the page, which it forbids."""
    for _ in range(200):
        if tab.evaluate(true):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never became true: {true}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", ["en", "km"])
def test_it_opens_without_complaint_and_fits(opened: Callable[..., Any], language: str, width: int) -> None:
    tab = opened(language, width)
    assert tab.title().endswith("kampot</title><script>alert(2)</script> · compoundwatch")
    assert tab.evaluate("document.scripts.length") == 2
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    narrow = """[...document.querySelectorAll('td, th')]
        .filter(c => c.checkVisibility() && c.innerText.length > 4 && c.clientWidth < 30).length"""
    assert tab.evaluate(narrow) == 0
    for image in tab.locator("img").all():
        image.evaluate("i => i.loading = 'eager'")
    until(tab, "[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_hostile_texts_are_texts(opened: Callable[..., Any]) -> None:
    tab = opened()
    assert tab.evaluate("document.querySelector('#site-1-name').textContent") == LONG
    assert tab.evaluate("document.querySelector('#table th a').textContent") == LONG
    assert tab.evaluate("document.querySelectorAll('img[src=x], [onerror]').length") == 0
    tab.locator("#map path[role=button]").first.dispatch_event("keydown", {"key": "Enter"})
    popup = tab.locator(".leaflet-popup-content strong")
    popup.wait_for()
    assert popup.evaluate("e => e.textContent") == LONG
    assert tab.evaluate("document.title").endswith("compoundwatch")


def order(tab: Any) -> list[str]:
    return [name[:12] for name in tab.locator("#table tbody tr:visible th").all_text_contents()]


def test_the_table_sorts(opened: Callable[..., Any]) -> None:
    tab = opened()
    first, quiet, khmer = LONG[:12], "Quiet place", "កន្លែងទី៣"
    assert order(tab) == [first, quiet, khmer]
    heads = tab.locator("#table thead th")
    views = heads.filter(has_text="Usable views")
    views.locator("button").click()
    assert order(tab) == [khmer, quiet, first]  # 0, 88 and 91 views: as numbers, not as texts
    assert views.get_attribute("aria-sort") == "ascending"
    views.locator("button").click()
    assert order(tab) == [first, quiet, khmer]
    assert views.get_attribute("aria-sort") == "descending"
    dates = heads.filter(has_text="Change between")
    for expected in ([first, quiet, khmer], [first, quiet, khmer]):  # sites without a date stay below, either way
        dates.locator("button").click()
        assert order(tab)[0] == expected[0]
    assert tab.locator("#table th[aria-sort]").count() == 1


def test_the_table_filters_with_its_sites(opened: Callable[..., Any]) -> None:
    tab = opened()
    assert tab.locator("#found").text_content() == "3 of 3 sites shown"
    tab.fill("#wanted", "  QUIET ")
    assert order(tab) == ["Quiet place"]
    assert tab.locator("#found").text_content() == "1 of 3 sites shown"
    assert tab.locator("article.site:visible").count() == 1
    assert tab.locator("#map path[role=button]:not(.leaflet-hidden)").count() == 1
    tab.fill("#wanted", "")
    tab.select_option("#wanted-state", "not observable")
    assert order(tab) == ["កន្លែងទី៣"]
    tab.select_option("#wanted-state", "")
    assert len(order(tab)) == 3
    tab.fill("#wanted", "kk-1")
    assert order(tab) == [LONG[:12]]


def test_the_slider_shows_more_or_less_of_the_earlier_picture(opened: Callable[..., Any]) -> None:
    tab = opened()
    slider = tab.locator("#site-1 .slide input")
    both = "getComputedStyle(document.querySelector('#site-1 .both')).getPropertyValue('--cut')"
    assert tab.evaluate(both) == "50%"
    slider.focus()
    tab.keyboard.press("End")
    assert tab.evaluate(both) == "100%"
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(both) == "99%"
    clip = "getComputedStyle(document.querySelector('#site-1 .second')).clipPath"
    assert tab.evaluate(clip) == "inset(0px 0px 0px 99%)"
    pictures = tab.locator("#site-1 .both")
    pictures.scroll_into_view_if_needed()
    box = pictures.bounding_box()
    tab.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    tab.wait_for_function("document.querySelector('#site-1 .slide input').value === '25'")


def test_pictures_over_time_play_and_stop(opened: Callable[..., Any]) -> None:
    tab = opened()
    tab.clock.install()
    tab.clock.pause_at(dt.datetime.now() + dt.timedelta(hours=1))
    shown = tab.locator("#site-1 .still.on b")
    assert shown.text_content() == "2024-12-20"
    button, slider = tab.locator("#site-1 .play"), tab.locator("#site-1 .controls input")
    button.click()
    assert button.text_content() == "Pause"
    assert shown.text_content() == "2022-02-03"
    tab.clock.run_for(1000)
    assert shown.text_content() == "2023-02-03"
    button.click()
    assert button.text_content() == "Play"
    tab.clock.run_for(5000)
    assert shown.text_content() == "2023-02-03"
    slider.focus()
    tab.keyboard.press("Home")
    assert shown.text_content() == "2022-02-03"
    assert slider.get_attribute("aria-valuetext") == "2022-02-03"


def test_all_of_it_works_by_keyboard(opened: Callable[..., Any]) -> None:
    tab = opened()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.innerText") == "Skip to the table of sites"
    tab.keyboard.press("Enter")
    assert tab.evaluate("location.hash") == "#sites"
    reached = set()
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.add(
            tab.evaluate(
                """() => { const e = document.activeElement;
                return e.id || e.closest('#table thead') && 'head' || e.closest('#map') && 'map'
                  || e.closest('.slide') && 'slide' || e.closest('.controls') && 'controls' || e.tagName }"""
            )
        )
    assert {"wanted", "wanted-state", "head", "slide", "controls", "SUMMARY", "A"} <= reached
    tab.locator("#map").focus()
    before = tab.evaluate("document.querySelector('.leaflet-map-pane').style.transform")
    tab.keyboard.press("ArrowRight")
    until(tab, f"document.querySelector('.leaflet-map-pane').style.transform !== '{before}'")


def test_it_can_be_read_without_scripts(opened: Callable[..., Any]) -> None:
    tab = opened(java_script_enabled=False)
    assert tab.locator("#site-1 .frame:visible").count() == 2
    assert tab.locator("#site-1 .still:visible").count() == 4
    assert tab.locator(".filter:visible, .slide:visible, .controls:visible").count() == 0
    assert tab.locator("#table tbody tr:visible").count() == 3


def check_accessible(tab: Any) -> None:
    """Ask axe-core, from npm, for faults that keep people from using what a tab shows."""
    tab.add_script_tag(path=str(AXE))
    found = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    faults = [
        (v["id"], v["impact"], [n["html"][:120] for n in v["nodes"]][:3])
        for v in found["violations"]
        if v["impact"] in ("moderate", "serious", "critical")
    ]
    assert faults == []
    assert found["testEngine"]["name"] == "axe-core"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", ["en", "km"])
def test_axe_finds_no_fault(browser: Any, pages: dict[str, Path], language: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not there: npm install --prefix .axe axe-core")
    context = browser.new_context(viewport={"width": width, "height": 800}, bypass_csp=True)
    tab = context.new_page()
    tab.goto(pages[language].resolve().as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.evaluate("document.querySelectorAll('.site').forEach(s => s.style.contentVisibility = 'visible')")
    check_accessible(tab)
    context.close()


def test_it_prints(pages: dict[str, Path], tmp_path: Path) -> None:
    assert any(Path(p).name in BROWSERS for p in CHROMIUM)
    print_pdf(pages["km"], tmp_path / "report.pdf", binary())
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") >= 4  # the beginning and three sites, each on a page of its own
