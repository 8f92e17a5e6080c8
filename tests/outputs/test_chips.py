"""Pictures to pass on: the pixels are those that were measured, and what must be said with them is said."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image, ImageDraw, ImageSequence

from compoundwatch import sensors
from compoundwatch.model import Picture, Role, Site
from compoundwatch.outputs import chips
from compoundwatch.outputs.chips import Chips, site_chips
from compoundwatch.outputs.figures import scale_bar

from .conftest import GRID, picture, rectangle

SITE = Site("kk-1", "Quiet place", Role.SITE, rectangle(6, 5, 30, 22))
BEFORE, AFTER = picture("2023-12-28", 230), picture("2024-12-20", 120)
FRAMES = (AFTER, picture("2022-06-01", 60), BEFORE)
RUN = "20250115T120000Z-abcd1234"
FACTOR = 11
"""A picture of 26 x 34 pixels is drawn so many times larger: 360 / 34 = 10.6."""


def drawn(frames: Any = FRAMES, pair: Any = (BEFORE, AFTER), site: Site = SITE, sensor: str = "sentinel2") -> Chips:
    return site_chips(site, sensors.sensor(sensor), frames, pair, RUN)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is drawn."""
    texts: list[str] = []
    real = ImageDraw.ImageDraw.text

    def text(self: Any, xy: Any, text: str, *args: Any, **kwargs: Any) -> Any:
        texts.append(text)
        return real(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def test_there_is_what_the_pictures_allow() -> None:
    assert set(drawn().files) == {"sheet.png", "before_after.png", "timelapse.gif"}
    assert set(drawn(FRAMES[:2], (None, AFTER)).files) == {"sheet.png", "timelapse.gif"}
    assert set(drawn(FRAMES[:1], (None, AFTER)).files) == {"sheet.png"}


def cells(page: Image.Image, count: int, columns: int) -> list[np.ndarray[Any, Any]]:
    """The pictures on a page, found by their left upper corner, which lies behind the rim and the heading."""
    rgb = np.asarray(page.convert("RGB"))
    width, height = FACTOR * GRID.cols, FACTOR * GRID.rows
    # the heading ends and the first picture begins where a whole row of its hatched corner is grey
    top = next(y for y in range(rgb.shape[0]) if (rgb[y, 14 : 14 + 5 * FACTOR] < 235).all())
    step = height + 16 + 14 + 8
    places = [(top + k // columns * step, 14 + k % columns * (width + 14)) for k in range(count)]
    return [rgb[y : y + height, x : x + width] for y, x in places]


def test_pixels_are_those_that_were_measured_in_the_order_of_time() -> None:
    shown = cells(opened(drawn().files["sheet.png"]), 3, 2)
    for cell, frame in zip(shown, (FRAMES[1], BEFORE, AFTER), strict=True):
        for row, col in ((10, 14), (15, 20), (12, 26), (23, 20)):
            block = cell[row * FACTOR : (row + 1) * FACTOR, col * FACTOR : (col + 1) * FACTOR]
            assert (block == frame.rgb[row, col]).all(), (row, col)


def test_the_pair_stands_side_by_side() -> None:
    left, right = cells(opened(drawn().files["before_after.png"]), 2, 2)
    place = np.s_[10 * FACTOR + 2, 14 * FACTOR + 2]
    assert left[place].tolist() == BEFORE.rgb[10, 14].tolist()
    assert right[place].tolist() == AFTER.rgb[10, 14].tolist()


def test_what_was_not_seen_is_hatched() -> None:
    (cell,) = cells(opened(drawn(FRAMES[:1], (None, None)).files["sheet.png"]), 1, 1)
    corner = cell[: 4 * FACTOR, : 5 * FACTOR]
    assert {tuple(c) for c in corner.reshape(-1, 3).tolist()} == {(225, 225, 225), (170, 170, 170)}
    assert tuple(cell[2, 6 * FACTOR]) not in {(225, 225, 225), (170, 170, 170)}


def test_the_outline_and_the_scale_lie_where_they_should() -> None:
    (cell,) = cells(opened(drawn(FRAMES[:1], (None, None)).files["sheet.png"]), 1, 1)
    white = (cell == 255).all(axis=-1)
    # columns 6 to 30 and rows 5 to 22 of the picture
    for x in (6 * FACTOR, 30 * FACTOR):
        assert white[8 * FACTOR : 20 * FACTOR, x - 2 : x + 3].any(axis=1).mean() > 0.95
    for y in (5 * FACTOR, 22 * FACTOR):
        assert white[y - 2 : y + 3, 8 * FACTOR : 28 * FACTOR].any(axis=0).mean() > 0.95
    # 100 m are ten pixels of 10 m
    bar = white[-14 + 1, :]
    assert scale_bar(GRID)[1] == "100 m"
    assert bar.sum() == pytest.approx(10 * FACTOR, abs=2)


def test_every_picture_says_what_it_is(said: list[str]) -> None:
    drawn()
    once = " ".join(said)
    for words in (
        "Quiet place",
        "Sentinel-2",
        "before: 2023-12-28",
        "after: 2024-12-20",
        "2022-06-01",
        "03:25 UTC",
        "100 m",
        "Contains modified Copernicus Sentinel data 2022, 2023, 2024",
        "Contains modified Copernicus Sentinel data 2023, 2024",
        RUN,
    ):
        assert words in once, words
    assert once.count("N") >= 3 + 2 + 3
    assert "hatched: not seen" in once
    said.clear()
    drawn(tuple(replace(f, sensor="landsat") for f in FRAMES), (None, None), sensor="landsat")
    assert "Landsat data courtesy of the U.S. Geological Survey" in " ".join(said)


def test_the_film_shows_every_date_once_and_the_last_longest() -> None:
    film = opened(drawn().files["timelapse.gif"])
    assert film.info["loop"] == 0
    pages = [(frame.info["duration"], np.asarray(frame.convert("RGB"))) for frame in ImageSequence.Iterator(film)]
    assert [time for time, _ in pages] == [900, 900, 2500]
    y = next(y for y in range(pages[0][1].shape[0]) if (pages[0][1][y, 14 : 14 + 5 * FACTOR] < 235).all())
    roofs = [page[y + 10 * FACTOR + 2, 14 + 14 * FACTOR + 2].astype(int).mean() for _, page in pages]
    # 256 colours are fewer than there are; the roof of brightness 60, 230 and 120 is told apart all the same
    assert roofs == pytest.approx([60, 230, 120], abs=12)


def test_equal_pictures_make_equal_files() -> None:
    assert drawn().files == drawn().files


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script> & 'x'", "x" * 500, "a\nb\x07c", "\U000e0041\U000e0042", "", "Ḱ" * 80, "\u202eabc"],
)
def test_any_name_of_a_site_is_drawn_or_its_id_is(name: str, said: list[str]) -> None:
    made = drawn(FRAMES[:1], (None, None), replace(SITE, name=name))
    page = opened(made.files["sheet.png"])
    assert page.width == FACTOR * GRID.cols + 2 * 14
    heading = said[said.index("Sentinel-2 (optical, 10 m)") - 1] if "Sentinel-2 (optical, 10 m)" in said else ""
    shown = "".join(c for c in name if c.isprintable())
    assert heading
    assert heading == "kk-1" or shown.startswith(heading.rstrip("…"))


def test_a_name_without_a_font_gives_way_to_the_id(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(chips, "_font_path", lambda letters: None)
    drawn(FRAMES[:1], (None, None), replace(SITE, name="កន្លែងទី៣"))
    assert "kk-1" in said
    assert "កន្លែងទី៣" not in said


def test_large_and_small_pictures_are_drawn() -> None:
    tall = replace(GRID, rows=400, cols=30)
    rgb = np.zeros((400, 30, 3), np.uint8)
    large = Picture("s", "sentinel2", BEFORE.acquired, tall, rgb, np.ones((400, 30), bool))
    assert opened(drawn((large,), (None, None)).files["sheet.png"]).height > 400
    parts = shapely.MultiPolygon([rectangle(1, 1, 3, 4), rectangle(30, 20, 33, 24)])
    assert drawn(site=replace(SITE, geometry=parts)).files["sheet.png"]
