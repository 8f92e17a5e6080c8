"""The report: whole, careful in its words, inert against hostile names, and the same again from the folder."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compoundwatch.errors import SettingsError
from compoundwatch.model import Picture, Skipped, State, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.outputs.reading import as_stored, read_watch
from compoundwatch.outputs.report import Told, write_report
from compoundwatch.outputs.report.page import tile_host
from compoundwatch.outputs.report.view import link, number, p_text, percent, reasons, signed, summary
from compoundwatch.outputs.report.words import words
from compoundwatch.pipeline.summarising import told

from .conftest import HOSTILE, picture, sensor, state


class Page(HTMLParser):
    """Tags and words of a page, without what is inside style and script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in self.raw else ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.raw[self.inside].append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def with_frames(result: WatchResult, pictures: Sequence[Picture] = ()) -> WatchResult:
    """The result with pictures over time at its first site."""
    before, after = result.pictures["kk-1"]
    assert before is not None
    assert after is not None
    more = tuple(pictures) or (picture("2022-02-03", 220), picture("2023-02-03", 225))
    return replace(result, frames={"kk-1": (*more, before, after)})


@pytest.fixture(scope="module")
def folder(result: WatchResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    framed = with_frames(result)
    write_watch(framed, out, rasters=False, told=told(as_stored(framed)))
    return out


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Page]:
    """Writes the report of a result and gives its page."""

    def write(result: WatchResult, **options: str) -> Page:
        path = tmp_path / "r.html"
        write_report(path, as_stored(result), (sensor(),), Told(), **options)  # type: ignore[arg-type]
        return Page(path.read_text(encoding="utf-8"))

    return write


def test_the_report_tells_each_site(page: Page) -> None:
    text = page.text
    assert (
        "Of 3 sites, 1 is consistent with a fall of activity, 1 is consistent with no change, 1 is not observable."
        in text
    )
    for said in (
        HOSTILE,
        "កន្លែងទី៣",
        "consistent with a fall of activity, probability 90 %",
        "91 usable views: 62 before and 29 after",
        "On average 73 % of the site was clear.",
        "A fall of activity below 18 % could have gone unseen.",
        "Before: 2023-12-28, 03:25 UTC, Sentinel-2",
        "contains modified Copernicus Sentinel data 2023",
        "4 clear pictures, 2022-02-03 – 2024-12-20",
        "There is no clear picture after the end of the reference period.",
        "Nothing could be measured here.",
        "2024-03-01 to 2024-04-30 Power is cut",
        "Police announce a raid <i>",
        "cannot be read: HTTP 403 for https://example.org/x.tif",
        "field notes, page 3 <b>",
        "The true place may lie up to 250 m from the outline.",
        "20250115T120000Z-abcd1234",
    ):
        assert said in text, said


def test_the_report_holds_the_change_against_the_raid(page: Page) -> None:
    """Changed with 98 %: on 2024-03-07 (1/4) or 03-10 (3/4), or up to the gap between views off; raid on 03-05."""
    assert "Of 3 sites judged on 2025-01-15, 2 answers could be given" in page.text
    row = page.text[page.text.index("Police announce a raid <i> (raid") :].split("That a change")[0]
    assert "consistent with a change after it; change minus event: +6 days; +1 to +10" in row
    assert "(within a day of it 5 %, after it 93 %, no change 2 %)" in row
    assert "Another event may explain what was measured" not in row
    assert "does not say that one caused the other" in page.text


def test_only_what_was_computed_is_told(written: Callable[..., Page], result: WatchResult) -> None:
    text = written(result).text
    assert "All sites together" not in text
    assert "change minus event" not in text


def test_the_report_needs_nothing_from_outside_and_runs_its_own_script_only(folder: Path, page: Page) -> None:
    assert not {"iframe", "object", "embed", "link", "base", "form"} & {
        tag for tag, attrs in page.tags if attrs.get("rel") != "icon"
    }
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attrs), (tag, attrs)
        if "src" in attrs:
            assert str(attrs["src"]).startswith("data:image/")
        if tag == "a":
            assert re.match(r"#|https://news\.example/", str(attrs["href"])), attrs["href"]
        if tag in ("image", "use"):
            assert re.match(r"data:image/|#", str(attrs["href"]))


def test_the_policy_of_the_page_knows_its_style_and_script_by_their_hashes(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy[1]
    for tag in ("style", "script"):
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        assert len(blocks) == 1
        digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_data_of_the_map_cannot_leave_its_element(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    inside = text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert not set("<>&'") & set(inside)
    data = json.loads(inside)
    assert [site["name"] for site in data["sites"]] == [HOSTILE, "Quiet place", "កន្លែងទី៣"]
    assert len(data["controls"]) == 3
    assert data["basemap"] == ""


def test_equal_results_give_equal_reports_also_from_their_folder(
    result: WatchResult, folder: Path, tmp_path: Path
) -> None:
    stored = read_watch(folder, pictures=True)
    write_report(tmp_path / "again.html", stored, result.sensors, told(stored))
    assert (tmp_path / "again.html").read_bytes() == (folder / "report.html").read_bytes()


def test_no_token_gets_into_the_report(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "sEcReT" not in text
    assert "user:pw" not in text


@pytest.mark.parametrize("language", ["en", "km"])
def test_the_report_keeps_to_its_language(written: Callable[..., Page], result: WatchResult, language: str) -> None:
    page = written(result, language=language)
    assert not re.search(r"\b(closed|freed|abandoned|victims?|head ?count|rescued)\b", page.text, re.IGNORECASE)
    assert ("never people" if language == "en" else "មិនដែលមើលឃើញមនុស្ស") in page.text
    assert next(a for t, a in page.tags if t == "html")["lang"] == language


def test_the_khmer_report_marks_what_is_english(written: Callable[..., Page], result: WatchResult) -> None:
    page = written(result, language="km")
    assert "ស្របនឹងការថយចុះនៃសកម្មភាព" in page.text
    assert "2024-03-01 ដល់ 2024-03-28៖" in page.text
    reasons_ = [a for t, a in page.tags if t == "p" and str(a.get("class", "")).startswith("reason")]
    assert [a.get("lang") for a in reasons_] == [None, "en"] * 3
    assert not re.search(r"\b(Before|Map|Sites|Probability|Play|Sources|picture)\b", page.text)


def test_pictures_and_tables_can_be_heard(page: Page) -> None:
    drawings = [a for t, a in page.tags if t == "svg" and a.get("role") == "img"]
    assert len(drawings) == 4 + 1 + 2  # before, after, changed and one more before; days of change; days looked at
    images = [a for t, a in page.tags if t == "img"]
    assert len(images) == 4 + 3 + 3  # frames, and the charts of two sites
    assert all(a.get("alt") for a in images)
    assert all(a.get("aria-label") for a in drawings)
    assert all(a.get("scope") in ("col", "row") for t, a in page.tags if t == "th")
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    assert all(a["aria-labelledby"] in ids for _, a in page.tags if a.get("aria-labelledby"))
    uses = [str(a["href"])[1:] for t, a in page.tags if t == "use"]
    assert uses == ["after-1"]
    assert set(uses) < set(ids)


def test_pixels_are_those_that_were_measured(result: WatchResult, page: Page) -> None:
    after = next(str(a["href"]) for t, a in page.tags if a.get("id") == "after-1")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(after.split(",")[1]))).convert("RGBA"))
    truth = result.pictures["kk-1"][1]
    assert truth is not None
    np.testing.assert_array_equal(shown[..., :3][truth.seen], truth.rgb[truth.seen])
    np.testing.assert_array_equal(shown[..., 3] == 255, truth.seen)
    assert "Every pixel as measured" in page.text


def test_pictures_that_would_not_fit_are_compressed_and_it_is_said(
    written: Callable[..., Page], result: WatchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sum(len(str(a.get("href", ""))) for t, a in written(result).tags if t == "image")
    monkeypatch.setattr("compoundwatch.outputs.report.view.PAGE_BYTES", 0)
    monkeypatch.setattr("compoundwatch.outputs.report.view.MIN_PICTURE_BYTES", 1000)
    page = written(result)
    assert sum(len(str(a.get("href", ""))) for t, a in page.tags if t == "image") < 0.6 * whole
    assert "Every pixel as measured" not in page.text
    assert "the folder pictures of the result has every pixel" in page.text


def test_one_site_alone(written: Callable[..., Page], result: WatchResult) -> None:
    page = written(result, site_id="quiet site/2")
    assert "Quiet place" in page.text
    assert HOSTILE not in page.text
    assert "កន្លែងទី៣" not in page.text
    assert "This site is consistent with no change." in page.text
    with pytest.raises(SettingsError, match=r"no site 'kk-2' in this result; did you mean 'kk-1'\?"):
        written(result, site_id="kk-2")


def test_a_language_that_is_not_known_is_refused(written: Callable[..., Page], result: WatchResult) -> None:
    with pytest.raises(SettingsError, match="en or km, found 'xx'"):
        written(result, language="xx")


def test_a_background_map_is_asked_only_where_it_was_named(written: Callable[..., Page], result: WatchResult) -> None:
    address = "https://tiles.example.org/{z}/{x}/{y}.png"
    page = written(result, basemap=address)
    policy = next(str(a["content"]) for t, a in page.tags if a.get("http-equiv"))
    assert "img-src data: https://tiles.example.org;" in policy
    box = next(a for t, a in page.tags if a.get("id") == "basemap")
    assert box["type"] == "checkbox"
    assert "checked" not in box
    assert "Ask https://tiles.example.org for a background map." in page.text
    assert not any(a.get("id") == "basemap" for _, a in written(result).tags)


@pytest.mark.parametrize(
    "address",
    [
        "http://tiles.example.org/{z}/{x}/{y}.png",
        "https://tiles.example.org/{z}/{x}.png",
        "https://tiles.example.org; script-src *;/{z}/{x}/{y}",
        "https://u:p@tiles.example.org/{z}/{x}/{y}",
        "javascript:alert(1)//{z}{x}{y}",
    ],
)
def test_addresses_that_are_no_tiles_are_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="address of map tiles"):
        tile_host(address)


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
    write_watch(bare, out, told=told(as_stored(bare)))
    assert "There is no site in this area." in Page((out / "report.html").read_text(encoding="utf-8")).text


def test_inconclusive_is_told(written: Callable[..., Page], result: WatchResult) -> None:
    between = state(
        "kk-1",
        State.NOT_OBSERVABLE,
        probability={State.UNCHANGED: 0.45, State.EMPTIED: 0.55},
        score=55.0,
        reason="Inconclusive: the probability of a change is 55 %.",
    )
    text = written(replace(result, states=(between, *result.states[1:]))).text
    assert "1 is inconclusive" in text


def test_long_lists_are_cut_with_a_word(written: Callable[..., Page], result: WatchResult) -> None:
    many = tuple(Skipped(f"kk-1: S2_{k:03}", "search", f"cloud {k} %", routine=True) for k in range(60))
    text = written(replace(result, skipped=many)).text
    assert "60 left out; 60 of them as in every run" in text
    assert "and 20 more, in manifest.json" in text
    assert "60 × cloud … %" in text


def test_reasons_are_counted() -> None:
    told_ = [
        Skipped("a", "s", "96 % cloudy"),
        Skipped("b", "s", "100.5 % cloudy"),
        Skipped("c", "s", "no B04 in S2A_1"),
    ]
    assert reasons(told_) == [("… % cloudy", 2), ("no B04 in S2A_1", 1)]


def test_summaries() -> None:
    english, khmer = words("en"), words("km")
    assert summary([], english) == "There is no site in this area."
    assert summary(["not observable"], english) == "This site is not observable."
    assert summary(["a", "b", "a"], english) == "Of 3 sites, 2 are a, 1 is b."
    assert summary(["a", "b", "a"], khmer) == "ក្នុងចំណោមទីតាំង 3៖ 2 a, 1 b។"


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
    assert [signed(v) for v in (-12, 0, 3)] == ["−12", "0", "+3"]


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


def test_the_day_of_a_picture_is_that_in_utc(written: Callable[..., Page], result: WatchResult) -> None:
    before, after = result.pictures["kk-1"]
    assert before is not None
    zone = dt.timezone(dt.timedelta(hours=7))
    late = replace(before, acquired=dt.datetime(2024, 1, 1, 2, 0, tzinfo=zone))
    assert "Before: 2023-12-31, 19:00 UTC" in written(replace(result, pictures={"kk-1": (late, after)})).text
