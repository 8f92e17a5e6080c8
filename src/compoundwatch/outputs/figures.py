"""Pictures and charts of the report, as bytes that a web page can hold."""

from __future__ import annotations

import datetime as dt
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from compoundwatch.grid import Grid, project
from compoundwatch.model import Event, Picture, SiteState
from compoundwatch.outputs.legend import BLUE, INK, MUTED, ORANGE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAINT = "#c9d2da"
WIDTH, LEFT, RIGHT = 5.4, 0.56, 0.18
TOP, BOTTOM, PANEL, GAP, STRIP = 0.66, 0.3, 0.95, 0.3, 0.145
"""Inches of a chart: fixed, so that the charts of all sites line up (and a layout engine would take longer)."""
BARE_TOP = 0.08
"""Inches above a chart without words."""
MAX_TICKS = 8
QUALITIES = (85, 70, 50, 30)
"""Of pictures that are not stored exactly, best first."""
LEVELS = 4
"""Rows in which the numbers of events that lie close together are drawn."""
MARKERS = "osD^v"
"""Marks of the points of different looks."""


@dataclass(frozen=True)
class Span:
    """A stretch of days on a chart; both ends equal = one day."""

    earliest: dt.date
    latest: dt.date


@dataclass(frozen=True)
class Marks:
    """What is marked on a chart: the first day that may hold a change; interval and likeliest day of the change (None =
    none is called); the events, numbered from 1 in this order."""

    reference_end: dt.date
    change: Span | None = None
    likeliest: dt.date | None = None
    events: Sequence[Span] = ()


@dataclass(frozen=True)
class Panel:
    """One feature of a site: its label, and tables with ``acquired`` (UTC), ``value`` and ``look``."""

    label: str
    site: pd.DataFrame
    controls: pd.DataFrame


def marks(reference_end: dt.date, state: SiteState, events: Sequence[Event] = ()) -> Marks:
    """What is marked on the charts of a site in this state."""
    change = None
    if state.change_date_earliest is not None and state.change_date_latest is not None:
        change = Span(state.change_date_earliest, state.change_date_latest)
    return Marks(reference_end, change, state.change_date, [Span(e.earliest, e.latest) for e in events])


def picture_webp(picture: Picture, quality: int | None = None) -> bytes:
    """A picture as WebP: exact (None), or as small as ``quality`` (1-100) makes it; not seen = transparent."""
    from PIL import Image

    alpha = np.where(picture.seen, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(np.dstack([picture.rgb, alpha]), "RGBA")
    if quality is None:
        image.save(buffer, "WEBP", lossless=True)
    else:
        image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def pictures_within(pictures: Sequence[Picture], room: float) -> list[bytes]:
    """Pictures as WebP at the best quality at which they take at most ``room`` bytes together, or at the least."""
    for quality in QUALITIES:
        coded = [picture_webp(p, quality) for p in pictures]
        if sum(map(len, coded)) <= room:
            break
    return coded if pictures else []


def rings(geometry: BaseGeometry, grid: Grid) -> list[list[tuple[float, float]]]:
    """The closed rings of a longitude/latitude polygon in the pixels of a grid: x is the column, y the row."""
    shape = project(geometry, 4326, grid.epsg)
    polygons = [p for p in shapely.get_parts(shape) if p.geom_type == "Polygon"]
    return [
        [((x - grid.left) / grid.pixel_m, (grid.top - y) / grid.pixel_m) for x, y, *_ in ring.coords]
        for p in polygons
        for ring in (p.exterior, *p.interiors)
    ]


def outline_path(geometry: BaseGeometry, grid: Grid) -> str:
    """A longitude/latitude polygon as an SVG path in the pixels of a grid."""
    paths = ("L".join(f"{x:.2f} {y:.2f}" for x, y in ring[:-1]) for ring in rings(geometry, grid))
    return "".join(f"M{path}Z" for path in paths)


def scale_bar(grid: Grid) -> tuple[float, str]:
    """A round length of at most 40 % of a picture's width: its share of the width in percent, and its label."""
    width = grid.cols * grid.pixel_m
    power = 10 ** math.floor(math.log10(0.4 * width))
    length = max(power * k for k in (1, 2, 5) if power * k <= 0.4 * width)
    return 100 * length / width, f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"


def median_of_controls(rows: pd.DataFrame) -> pd.DataFrame:
    """Median of the controls' values per day and look, for drawing: ``acquired``, ``look``, ``value``."""
    known = rows[rows["value"].notna()]
    day = known["acquired"].dt.floor("D").rename("acquired")
    return known.groupby([day, "look"], observed=True)["value"].median().reset_index()


def chart_svg(panels: Sequence[Panel], marks: Marks, dates: Span | None = None, *, worded: bool = True) -> str:
    """Series of a site against its controls, one panel per feature, as SVG text; marks beyond the dates are left out.

    Parameters
    ----------
    panels : at least one must hold a measurement.
    dates : the days to show; None = those of the panels and marks.
    worded : False = numbers and dates only, for pages that tell the rest in words of their own.
    """
    text = _chart(
        panels, marks, dates or shown(panels, marks), worded, format="svg", metadata={"Date": None, "Creator": None}
    ).decode()
    return lean(text[text.index("<svg") :])


def lean(svg: str) -> str:
    """The same drawing at a fraction of the size: hundredths of a point, styles said once, no description of itself."""

    def said_once(found: re.Match[str]) -> str:
        styles = set(re.findall(r' style="[^"]*"', found[2]))
        style = styles.pop() if len(styles) == 1 and found[2].count("<use") == found[2].count(" style=") else ""
        return f"{found[1]}{style}>{found[2].replace(style, '') if style else found[2]}</g>"

    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: DejaVu Sans, Arial, sans-serif", svg)
    svg = re.sub(r"(<g clip-path=\"[^\"]*\")>\s*((?:<use [^>]*/>\s*)+)</g>", said_once, svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def chart_png(panels: Sequence[Panel], marks: Marks, dpi: float = 100) -> bytes:
    """The same as PNG."""
    return _chart(panels, marks, shown(panels, marks), True, format="png", dpi=dpi, metadata={"Software": None})


def _chart(panels: Sequence[Panel], marks: Marks, dates: Span, worded: bool, **form: Any) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "compoundwatch",
        "text.parse_math": False,
        "font.size": 9,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.7,
        "xtick.color": INK,
        "ytick.color": INK,
        "text.color": INK,
        "axes.labelcolor": INK,
    }
    levels = event_levels(marks.events, dates)
    strip = STRIP * (1 + max((k for k in levels if k is not None), default=-1))
    with matplotlib.rc_context(style):
        count = len(panels)
        inside = PANEL * count + strip
        above = TOP if worded else BARE_TOP
        height = above + BOTTOM + inside + GAP * (count - 1)
        figure = Figure(figsize=(WIDTH, height))
        ratios = [PANEL + strip, *[PANEL] * (count - 1)]
        axes = figure.subplots(count, 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        figure.subplots_adjust(
            left=LEFT / WIDTH,
            right=1 - RIGHT / WIDTH,
            top=1 - above / height,
            bottom=BOTTOM / height,
            hspace=GAP / (inside / count),
        )
        for ax, panel in zip(axes, panels, strict=True):
            _draw_panel(ax, panel)
            _draw_marks(ax, marks, dates)
            if worded:
                ax.set_title(panel.label, loc="left", fontsize=9, pad=3)
        _draw_numbers(axes[0], marks.events, levels, strip)
        _draw_dates(axes[-1], dates)
        if worded:
            _draw_legend(figure, axes[0])
        buffer = io.BytesIO()
        figure.savefig(buffer, **form)
    return buffer.getvalue()


def shown(panels: Sequence[Panel], marks: Marks) -> Span:
    """The days a chart shows: all measurements and the change that was called, and a little room."""
    times = [t.date() for p in panels for rows in (p.site, p.controls) for t in rows["acquired"]]
    times += [marks.change.earliest, marks.change.latest] if marks.change else []
    room = dt.timedelta(days=max(5, round(0.02 * (max(times) - min(times)).days)))
    return Span(min(times) - room, max(times) + room)


def event_levels(events: Sequence[Span], dates: Span) -> list[int | None]:
    """The row in which each event's number is drawn so that numbers do not overlap; None = beyond the dates."""
    room = 0.034 * (dates.latest - dates.earliest).days
    last = [-math.inf] * LEVELS
    levels: list[int | None] = []
    for event in events:
        if not dates.earliest <= event.earliest <= dates.latest:
            levels.append(None)
            continue
        x = event.earliest.toordinal()
        level = next((i for i in range(LEVELS) if x - last[i] >= room), LEVELS - 1)
        last[level] = x
        levels.append(level)
    return levels


def _draw_panel(ax: Axes, panel: Panel) -> None:
    looks = sorted({*panel.site["look"], *panel.controls["look"]})
    for rows, colour, width, size, label, order in (
        (panel.site, INK, 1.1, 3.2, "this site", 3),
        (panel.controls, MUTED, 0.8, 2.2, "median of its controls", 2),
    ):
        words: str | None = label
        for k, look in enumerate(looks):
            own = rows[(rows["look"] == look) & rows["value"].notna()].sort_values("acquired")
            if own.empty:
                continue
            ax.plot(
                own["acquired"].dt.tz_convert(None).to_numpy(),
                own["value"].to_numpy(),
                color=colour,
                linewidth=width,
                alpha=0.9,
                marker=MARKERS[k % len(MARKERS)],
                markersize=size,
                markeredgewidth=0,
                linestyle="-" if rows is panel.site else (0, (3, 1.5)),
                label=words,
                zorder=order,
            )
            words = None
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color=FAINT, linewidth=0.5)
    ax.locator_params(axis="y", nbins=4)
    ax.set_axisbelow(True)


def _draw_marks(ax: Axes, marks: Marks, dates: Span) -> None:
    day = dt.timedelta(days=1)
    ax.axvline(
        _x(marks.reference_end), color=MUTED, linewidth=1, linestyle=":", label="reference period ends", zorder=1
    )
    if marks.change is not None:
        ends = _x(marks.change.earliest), _x(marks.change.latest + day)
        ax.axvspan(*ends, color=ORANGE, alpha=0.35, linewidth=0, label="change, 90 % interval", zorder=0)
    if marks.likeliest is not None:
        ax.axvline(_x(marks.likeliest), color="#a05f00", linewidth=1.3, label="likeliest day", zorder=1)
    words: str | None = "event, numbered below"
    for event in marks.events:
        if event.latest < dates.earliest or event.earliest > dates.latest:
            continue
        if event.latest > event.earliest:
            ax.axvspan(_x(event.earliest), _x(event.latest + day), color=BLUE, alpha=0.1, linewidth=0, zorder=0)
        ax.axvline(_x(event.earliest), color=BLUE, linewidth=0.9, alpha=0.6, label=words, zorder=1)
        words = None


def _draw_numbers(ax: Axes, events: Sequence[Span], levels: Sequence[int | None], strip: float) -> None:
    """The numbers of the events, in room of their own (inches) at the top of the first panel."""
    bottom, top = ax.get_ylim()
    ax.set_ylim(bottom, top + (top - bottom) * strip / PANEL)
    for k, (event, level) in enumerate(zip(events, levels, strict=True), start=1):
        if level is None:
            continue
        ax.annotate(
            str(k),
            (_x(event.earliest), 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -72 * STRIP * (level + 0.5)),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            color="white",
            bbox={"boxstyle": "circle,pad=0.18", "facecolor": BLUE, "edgecolor": "white", "linewidth": 0.6},
            zorder=5,
        )


def _draw_dates(ax: Axes, dates: Span) -> None:
    """At most eight dates below, on the first days of months, which read the same in every language."""
    module = _dates()
    months = (dates.latest - dates.earliest).days / 30.4
    step = next((k for k in (1, 2, 3, 6) if months / k <= MAX_TICKS), 12 * math.ceil(months / 12 / MAX_TICKS))
    ax.set_xlim(_x(dates.earliest), _x(dates.latest))
    if months < 2:
        ax.xaxis.set_major_locator(module.DayLocator(interval=max(1, math.ceil(30.4 * months / MAX_TICKS))))
        ax.xaxis.set_major_formatter(module.DateFormatter("%m-%d"))
    else:
        yearly = step >= 12
        ax.xaxis.set_major_locator(
            module.YearLocator(step // 12) if yearly else module.MonthLocator(bymonth=range(1, 13, step))
        )
        ax.xaxis.set_major_formatter(module.DateFormatter("%Y" if yearly else "%Y-%m"))


def _draw_legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=8,
        handlelength=1.8,
        columnspacing=1.4,
    )


def _x(day: dt.date) -> Any:
    return np.datetime64(day)


def _dates() -> Any:
    """matplotlib's dates, which have no type hints."""
    from matplotlib import dates

    return dates
