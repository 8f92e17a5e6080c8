"""Pictures and charts hold what went into them."""

from __future__ import annotations

import datetime as dt
import io
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from compoundwatch.grid import Grid
from compoundwatch.outputs.figures import (
    Marks,
    Panel,
    Span,
    chart_png,
    chart_svg,
    event_levels,
    median_of_controls,
    outline_path,
    picture_webp,
    scale_bar,
)

from .conftest import GRID, picture, rectangle, series


def test_a_picture_keeps_every_pixel_and_hides_what_was_not_seen() -> None:
    made = picture("2023-12-28", 230)
    image = np.asarray(Image.open(io.BytesIO(picture_webp(made))))
    assert image.shape == (26, 34, 4)
    np.testing.assert_array_equal(image[..., :3][made.seen], made.rgb[made.seen])
    np.testing.assert_array_equal(image[..., 3] == 255, made.seen)


def test_an_outline_lies_on_its_pixels() -> None:
    ring = [float(v) for v in re.findall(r"-?\d+\.\d+", outline_path(rectangle(6, 5, 30, 22), GRID))]
    corners = {(round(x, 1), round(y, 1)) for x, y in zip(ring[::2], ring[1::2], strict=True)}
    assert corners == {(6, 5), (30, 5), (30, 22), (6, 22)}


def test_an_outline_keeps_holes_and_parts() -> None:
    outer, hole, other = rectangle(6, 5, 30, 22), rectangle(8, 8, 10, 10), rectangle(0, 0, 2, 2)
    both = shapely.MultiPolygon([shapely.Polygon(outer.exterior, [hole.exterior]), other])
    assert outline_path(both, GRID).count("Z") == 3


@pytest.mark.parametrize(
    ("cols", "pixel", "share", "text"),
    # 340 m: 40 % is 136 m, so 100 m; 2000 m: 800 m, so 500 m; 5000 m: 2 km; 30 m: 12 m, so 10 m
    [
        (34, 10.0, 100 / 340, "100 m"),
        (200, 10.0, 0.25, "500 m"),
        (500, 10.0, 0.4, "2 km"),
        (3, 10.0, 1 / 3, "10 m"),
    ],
)
def test_scale_bars_are_round_and_true(cols: int, pixel: float, share: float, text: str) -> None:
    percent, label = scale_bar(Grid(32648, 0.0, 0.0, pixel, 7, cols))
    assert percent == pytest.approx(100 * share)
    assert label == text


def test_the_line_of_the_controls_is_their_median() -> None:
    day = pd.Timestamp("2024-03-10 03:25", tz="UTC")
    rows = pd.DataFrame(
        {
            "acquired": [day, day, day + pd.Timedelta(minutes=1), day, day + pd.Timedelta(days=1)],
            "look": ["a", "a", "a", "b", "a"],
            "value": [1.0, 5.0, 2.0, 9.0, np.nan],
        }
    )
    found = median_of_controls(rows)
    assert found[["look", "value"]].to_numpy().tolist() == [["a", 2.0], ["b", 9.0]]


def panels() -> list[Panel]:
    rows = series()
    rows = rows[rows["feature"] == "ndvi"]
    own, beside = rows[rows["site_id"] == "kk-1"], rows[rows["site_id"].str.startswith("control")]
    return [Panel("NDVI <b> $x$", own, median_of_controls(beside))]


def chart(**more: Any) -> str:
    return chart_svg(panels(), Marks(dt.date(2024, 1, 1), **more))


def texts(svg: str) -> list[str]:
    return ["".join(t.itertext()).strip() for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_chart_says_what_it_marks() -> None:
    day = dt.date(2024, 3, 10)
    later = dt.date(2031, 1, 1)
    events = [Span(dt.date(2024, 3, 1), dt.date(2024, 4, 1)), Span(day, day), Span(later, later)]
    said = texts(chart(change=Span(dt.date(2024, 3, 1), day), likeliest=day, events=events))
    for words in ("this site", "median of its controls", "reference period ends", "change, 90 % interval", "1", "2"):
        assert words in said
    assert "NDVI <b> $x$" in said
    assert "3" not in said
    assert not any("2031" in words for words in said)
    quiet = texts(chart())
    assert "change, 90 % interval" not in quiet
    assert "event, numbered below" not in quiet


def test_numbers_of_events_do_not_overlap() -> None:
    dates = Span(dt.date(2024, 1, 1), dt.date(2024, 12, 31))
    days = [dt.date(2023, 12, 31), dt.date(2024, 3, 1), dt.date(2024, 3, 2), dt.date(2024, 3, 3), dt.date(2024, 8, 1)]
    assert event_levels([Span(d, d) for d in days], dates) == [None, 0, 1, 2, 0]


def test_every_measurement_is_drawn_once() -> None:
    svg = ET.fromstring(chart())
    rows = series()
    own = rows[(rows["feature"] == "ndvi") & (rows["site_id"] == "kk-1")]["value"].notna().sum()
    uses = [e for e in svg.iter() if e.tag.endswith("}use")]
    beside = rows[(rows["feature"] == "ndvi") & rows["site_id"].str.startswith("control")]
    days = beside[beside["value"].notna()]["acquired"].nunique()
    # ticks and the two marks of the legend come on top
    assert own + days < len(uses) < own + days + 25


def test_equal_charts_are_equal_files_and_leave_no_settings_behind() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert chart() == chart()
    assert chart_png(panels(), Marks(dt.date(2024, 1, 1))) == chart_png(panels(), Marks(dt.date(2024, 1, 1)))
    assert dict(matplotlib.rcParams) == before


def test_a_chart_is_a_picture_too() -> None:
    drawn = np.asarray(Image.open(io.BytesIO(chart_png(panels(), Marks(dt.date(2024, 1, 1)), dpi=50))).convert("RGB"))
    assert drawn.shape[1] == round(5.4 * 50)
    # white paper, and the ink of the site's line (#1b2733) somewhere on it
    assert (drawn[0, -1] == 255).all()
    assert (np.abs(drawn.astype(int) - (0x1B, 0x27, 0x33)).max(axis=-1) < 40).any()
