"""The report: whole, careful in its words, inert against hostile names, and sound in a real browser."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from compoundwatch.model import Skipped, State, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.report import link, number, p_text, percent, summary

from .conftest import HOSTILE, state

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


class Page(HTMLParser):
    """Tags and words of a page, without what is inside style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.quiet = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.quiet = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.quiet = False

    def handle_data(self, data: str) -> None:
        if not self.quiet:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


@pytest.fixture(scope="module")
def report(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_watch(result, folder, rasters=False)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def test_the_report_tells_each_site(page: Page) -> None:
    text = page.text
    assert (
        "Of 3 sites, 1 is consistent with a fall of activity, 1 is consistent with no change, 1 is not observable."
        in text
    )
    for words in (
        HOSTILE,
        "កន្លែងទី៣",
        "91 usable views: 62 before and 29 after",
        "On average 73 % of the site was clear.",
        "A fall of activity below 18 % could have gone unseen.",
        "Before: 2023-12-28, 03:25 UTC, Sentinel-2.",
        "contains modified Copernicus Sentinel data 2023",
        "There is no clear picture after the end of the reference period.",
        "Nothing could be measured here.",
        "2024-03-01 to 2024-04-30 Power is cut",
        "Police announce a raid <i>",
        "cannot be read: HTTP 403 for https://example.org/x.tif",
        "field notes, page 3 <b>",
        "The true place may lie up to 250 m from the outline.",
        "20250115T120000Z-abcd1234",
    ):
        assert words in text, words


def test_the_report_needs_nothing_from_outside_and_runs_nothing(page: Page) -> None:
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & {
        tag for tag, attrs in page.tags if attrs.get("rel") != "icon"
    }
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs), tag
        if "src" in attrs:
            assert str(attrs["src"]).startswith("data:image/")
        if tag == "a":
            assert re.match(r"#|https://news\.example/", str(attrs["href"])), attrs["href"]
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert str(policy).startswith("default-src 'none'")


def test_no_token_gets_into_the_report(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "sEcReT" not in text
    assert "user:pw" not in text


def test_the_report_keeps_to_its_language(page: Page) -> None:
    assert not re.search(r"\b(closed|freed|abandoned|victims?|head ?count|rescued)\b", page.text, re.IGNORECASE)
    assert "never people" in page.text


def test_pictures_and_tables_can_be_heard(page: Page) -> None:
    images = [a for t, a in page.tags if t == "img"]
    assert len(images) == 3 + 1 + 1 + 1  # three pictures and a chart of one site, a picture and a chart of another
    assert all(a.get("alt") for a in images)
    assert next(a for t, a in page.tags if t == "html")["lang"] == "en"
    assert all(a.get("scope") in ("col", "row") for t, a in page.tags if t == "th")
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert all(a["aria-labelledby"] in ids for _, a in page.tags if a.get("aria-labelledby"))


def test_an_area_without_sites_or_scenes(result: WatchResult, out: Path) -> None:
    bare = replace(
        result,
        area=replace(result.area, sites=()),
        scenes=(),
        states=(),
        changes=(),
        effects=(),
        series=result.series[:0],
    )
    write_watch(bare, out)
    assert "There is no site in this area." in Page((out / "report.html").read_text(encoding="utf-8")).text


def test_inconclusive_is_told(result: WatchResult, out: Path) -> None:
    between = state(
        "kk-1",
        State.NOT_OBSERVABLE,
        probability={State.UNCHANGED: 0.45, State.EMPTIED: 0.55},
        score=55.0,
        reason="Inconclusive: the probability of a change is 55 %.",
    )
    write_watch(replace(result, states=(between, *result.states[1:])), out, rasters=False)
    assert "1 is inconclusive" in Page((out / "report.html").read_text(encoding="utf-8")).text


def test_long_lists_are_cut_with_a_word(result: WatchResult, out: Path) -> None:
    many = tuple(Skipped(f"kk-1: S2_{k:03}", "search", "cloud", routine=True) for k in range(60))
    write_watch(replace(result, skipped=many), out, rasters=False)
    text = Page((out / "report.html").read_text(encoding="utf-8")).text
    assert "60 left out, 60 of them as in every run" in text
    assert "and 20 more, in manifest.json" in text


def test_summaries() -> None:
    assert summary([]) == "There is no site in this area."
    assert summary(["not observable"]) == "The only site is not observable."
    assert summary(["a", "b", "a"]) == "Of 3 sites, 2 are a, 1 is b."


def test_numbers_for_readers() -> None:
    assert [percent(v) for v in (None, float("nan"), 0.0, 0.004, 0.5, 0.996, 1.0)] == [
        "–",
        "–",
        "0 %",
        "< 1 %",
        "50 %",
        "> 99 %",
        "100 %",
    ]
    assert [p_text(v) for v in (None, 0.0004, 0.0496)] == ["–", "< 0.001", "0.050"]
    assert [number(v) for v in (None, 0.12345, 1234.5, -2.0)] == ["–", "0.123", "1,234", "-2"]


@pytest.mark.parametrize(
    ("source", "href"),
    [
        ("https://a.org/x?y=1&z=2", "https://a.org/x?y=1&z=2"),
        ("javascript:alert(1)", None),
        ("see https://a.org", None),
        ('https://a.org/"onclick=x', None),
        ("data:text/html,x", None),
    ],
)
def test_only_web_addresses_become_links(source: str, href: str | None) -> None:
    shown = link(source)
    assert shown is not None
    assert (shown["text"], shown["href"]) == (source, href)


# -------------------------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    binary = next((p for p in CHROMIUM if Path(p).exists()), None)
    if binary is None:
        pytest.skip("no Chromium is installed (Debian package chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=binary, args=flags)
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_complaint(result: WatchResult, out: Path, browser: Any, width: int) -> None:
    long_name = HOSTILE + " " + "ក" * 300 + "x" * 200
    sites = (replace(result.area.sites[0], name=long_name), *result.area.sites[1:])
    write_watch(replace(result, area=replace(result.area, sites=sites)), out, rasters=False)
    said: list[str] = []
    asked: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append("dialog"))
    tab.on("request", lambda request: asked.append(request.url))
    address = (out / "report.html").resolve().as_uri()
    tab.goto(address)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert tab.title() == "3 sites in kampot-test · compoundwatch"
    assert tab.evaluate("document.scripts.length") == 0
    assert tab.evaluate("document.querySelector('#site-1-name').innerText") == long_name
    # nothing sticks out to the right, and every image could be decoded
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.innerText") == "Skip to the table of sites"
    tab.click("text=What was not visible >> nth=0")
    tab.click("summary >> nth=0")
    assert tab.evaluate("document.querySelector('details').open")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    narrow = "[...document.querySelectorAll('td, th')].filter(c => c.innerText.length > 4 && c.clientWidth < 30).length"
    assert tab.evaluate(narrow) == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()


def test_words_can_be_read_against_their_ground(report: Path, browser: Any) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.goto(report.resolve().as_uri())
    pairs = tab.evaluate(
        """() => {
          const found = new Set();
          for (const e of document.querySelectorAll('body *')) {
            if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
            let b = e, ground = 'rgba(0, 0, 0, 0)';
            while (b && ground === 'rgba(0, 0, 0, 0)') {
              ground = getComputedStyle(b).backgroundColor;
              b = b.parentElement;
            }
            if (!e.closest('.frame')) found.add(getComputedStyle(e).color + '|' + ground);
          }
          return [...found];
        }"""
    )
    tab.close()

    def light(colour: str) -> float:
        parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(pairs) >= 4
    for pair in pairs:
        a, b = sorted(light(c) for c in pair.split("|"))
        assert (b + 0.05) / (a + 0.05) >= 4.5, pair


def test_the_day_of_a_picture_is_that_in_utc(result: WatchResult, out: Path) -> None:
    before, after = result.pictures["kk-1"]
    assert before is not None
    zone = dt.timezone(dt.timedelta(hours=7))
    late = replace(before, acquired=dt.datetime(2024, 1, 1, 2, 0, tzinfo=zone))
    write_watch(replace(result, pictures={"kk-1": (late, after)}), out, rasters=False)
    assert "Before: 2023-12-31, 19:00 UTC" in Page((out / "report.html").read_text(encoding="utf-8")).text
