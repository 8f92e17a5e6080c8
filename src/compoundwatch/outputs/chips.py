"""Pictures of a site for people to pass on: contact sheet, before and after, timelapse.

Each carries what a picture needs to be understood away from its folder: place, dates, sensor, scale, north, and whose
imagery it is. Pixels are repeated, never smoothed.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from compoundwatch.model import Picture, Sensor, Site
from compoundwatch.outputs.figures import rings, scale_bar
from compoundwatch.outputs.legend import INK, MUTED, WHITE
from compoundwatch.outputs.manifest import utc

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

SIDE = 360
"""Pixels of the longer side of a picture, about: each of its own is repeated a whole number of times."""
GAP, LINE = 14, 20
"""Pixels between parts, and from one line of small text to the next."""
LARGE, MEDIUM, SMALL = 21, 16, 13
"""Heights of text in pixels."""
SECONDS, LAST_SECONDS = 0.9, 2.5
"""How long each picture of a timelapse is shown, and the last one."""
HATCH = (225, 225, 225), (170, 170, 170)
"""Ground and lines of what was not seen."""


@dataclass(frozen=True)
class Chips:
    """The pictures of one site and sensor, as the bytes of their files by their endings ("sheet.png")."""

    site_id: str
    sensor: str
    files: dict[str, bytes]


def site_chips(
    site: Site, sensor: Sensor, frames: Sequence[Picture], pair: Sequence[Picture | None], run: str
) -> Chips:
    """Draw what the pictures allow: a sheet of one or more, a timelapse of two or more, a pair where there are both.

    Parameters
    ----------
    frames : pictures of this site by this sensor, at least one.
    pair : the pictures before and after, where they are of this sensor.
    run : id of the run, told in the small print.
    """
    ordered = sorted(frames, key=lambda p: p.acquired)
    files = {"sheet.png": _png(_page(site, sensor, ordered, run))}
    before, after = pair
    if before is not None and after is not None:
        files["before_after.png"] = _png(_page(site, sensor, (before, after), run, ("before: ", "after: ")))
    if len(ordered) > 1:
        files["timelapse.gif"] = _gif([_page(site, sensor, (p,), run, years=_years(ordered)) for p in ordered])
    return Chips(site.site_id, sensor.name, files)


def _years(pictures: Sequence[Picture]) -> str:
    return ", ".join(sorted({str(utc(p.acquired).year) for p in pictures}))


def _png(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _gif(pages: Sequence[Image]) -> bytes:
    """An endless film; all pages share the colours of all, or the same ground would change its colour."""
    from PIL import Image

    strip = Image.new("RGB", (pages[0].width, sum(p.height for p in pages)))
    for k, page in enumerate(pages):
        strip.paste(page, (0, k * page.height))
    palette = strip.quantize(256, dither=Image.Dither.NONE)
    drawn = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    times = [round(1000 * SECONDS)] * (len(pages) - 1) + [round(1000 * LAST_SECONDS)]
    buffer = io.BytesIO()
    drawn[0].save(buffer, "GIF", save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=False)
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------------------ a page


def _page(
    site: Site, sensor: Sensor, pictures: Sequence[Picture], run: str, words: Sequence[str] = (), years: str = ""
) -> Image:
    """A heading, the pictures in rows with their dates, and the small print."""
    from PIL import Image, ImageDraw

    cells = [_cell(site, picture) for picture in pictures]
    width, height = max(c.width for c in cells), max(c.height for c in cells)
    columns = min(len(cells), 4, max(1, math.ceil(math.sqrt(len(cells) * 1.3))))
    rows = math.ceil(len(cells) / columns)
    page_width = columns * (width + GAP) + GAP
    name, font = _readable(site, LARGE)
    print_ = _wrapped(_small_print(sensor, pictures, run, years), page_width - 2 * GAP)
    top = 2 * GAP + LARGE + 12 + LINE
    row_height = height + MEDIUM + GAP + 8
    page = Image.new("RGB", (page_width, top + rows * row_height + LINE * len(print_) + GAP), WHITE)
    draw = ImageDraw.Draw(page)
    _line(draw, (GAP, GAP), name, font, INK, page_width - 2 * GAP)
    _line(draw, (GAP, GAP + LARGE + 14), sensor.title, _font("", MEDIUM), MUTED, page_width - 2 * GAP)
    for k, (cell, picture) in enumerate(zip(cells, pictures, strict=True)):
        x, y = GAP + k % columns * (width + GAP), top + k // columns * row_height
        page.paste(cell, (x, y))
        said = f"{words[k] if words else ''}{utc(picture.acquired):%Y-%m-%d}"
        draw.text((x, y + cell.height + 5), said, INK, _font("", MEDIUM))
        time_x = x + draw.textlength(f"{said}  ", _font("", MEDIUM))
        draw.text((time_x, y + cell.height + 7), f"{utc(picture.acquired):%H:%M} UTC", MUTED, _font("", SMALL))
    for k, text in enumerate(print_):
        draw.text((GAP, top + rows * row_height + LINE * k), text, MUTED, _font("", SMALL))
    return page


def _small_print(sensor: Sensor, pictures: Sequence[Picture], run: str, years: str) -> list[str]:
    pixel = pictures[0].grid.pixel_m
    return [
        f"{sensor.attribution[:1].upper()}{sensor.attribution[1:]} {years or _years(pictures)}",
        f"Pixels of {pixel:g} m, north is up; line: outline of the site; hatched: not seen. "
        f"This cannot show {sensor.blind_to}.",
        f"compoundwatch, run {run}",
    ]


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    letters = max(20, int(width / (0.54 * SMALL)))
    return [part for line in lines for part in textwrap.wrap(line, letters, break_on_hyphens=False)]


def _line(draw: ImageDraw, at: tuple[int, int], text: str, font: FreeTypeFont, colour: str, width: int) -> None:
    """One line of text, cut to a width."""
    if draw.textlength(text, font) > width:
        while text and draw.textlength(f"{text}…", font) > width:
            text = text[:-1]
        text = f"{text}…"
    draw.text(at, text, colour, font)


# ------------------------------------------------------------------------------------------------------- one picture


def _cell(site: Site, picture: Picture) -> Image:
    """A picture with the outline of the site, a scale bar and an arrow to the north."""
    from PIL import Image, ImageDraw

    factor = max(1, round(SIDE / max(picture.grid.shape)))
    rgb, seen = (a.repeat(factor, axis=0).repeat(factor, axis=1) for a in (picture.rgb, picture.seen))
    stripes = np.add.outer(np.arange(seen.shape[0]), np.arange(seen.shape[1])) % 8 < 2
    hatch = np.array(HATCH, np.uint8)[stripes.astype(int)]
    cell = Image.fromarray(np.where(seen[..., None], rgb, hatch))
    draw = ImageDraw.Draw(cell)
    for ring in rings(site.geometry, picture.grid):
        points = [(x * factor, y * factor) for x, y in ring]
        draw.line(points, INK, 4, "curve")
        draw.line(points, WHITE, 2, "curve")
    _scale(draw, picture, cell.size)
    _north(draw, cell.size)
    return cell


def _scale(draw: ImageDraw, picture: Picture, size: tuple[int, int]) -> None:
    percent, label = scale_bar(picture.grid)
    x, y, length = 10, size[1] - 14, percent / 100 * size[0]
    draw.rectangle((x - 2, y - 2, x + length + 2, y + 5), INK)
    draw.rectangle((x, y, x + length, y + 3), WHITE)
    draw.text((x, y - 19), label, WHITE, _font("", SMALL), stroke_width=2, stroke_fill=INK)


def _north(draw: ImageDraw, size: tuple[int, int]) -> None:
    x, y = size[0] - 18, 10
    draw.polygon([(x, y), (x + 7, y + 18), (x, y + 13), (x - 7, y + 18)], WHITE, INK)
    draw.text((x, y + 19), "N", WHITE, _font("", SMALL), anchor="ma", stroke_width=2, stroke_fill=INK)


# ------------------------------------------------------------------------------------------------------------- fonts


def _readable(site: Site, size: int) -> tuple[str, FreeTypeFont]:
    """The name of a site and a font that has its letters; its id where this machine has no such font."""
    name = " ".join("".join(c for c in site.name if c.isprintable()).split())
    path = _font_path(frozenset(name.replace(" ", "")))
    return (name, _font(path, size)) if path is not None and name else (site.site_id, _font("", size))


@lru_cache(maxsize=64)
def _font(path: str, size: int) -> FreeTypeFont:
    """A font of a file; "" = the one that comes along with matplotlib."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(path or f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


@lru_cache(maxsize=256)
def _font_path(letters: frozenset[str]) -> str | None:
    """A font that has all of some letters: "" = the usual one, None = there is none."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import fontManager

    needed = {ord(c) for c in letters}
    if needed <= _letters(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf"):
        return ""
    upright = [f for f in fontManager.ttflist if f.style == "normal" and f.weight in (400, "normal", "regular")]
    # A last-resort font has a sign for every letter, but not the letter.
    real = [f for f in upright if "resort" not in f.name.lower() and "blank" not in f.name.lower()]
    ranked = sorted(real, key=lambda f: ("Sans" not in f.name, f.name))
    return next((f.fname for f in ranked if needed <= _letters(f.fname)), None)


@lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        charmap: dict[Any, Any] = FT2Font(path).get_charmap()
    except (RuntimeError, OSError):
        return frozenset()
    return frozenset(int(code) for code in charmap)
