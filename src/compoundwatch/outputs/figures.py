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
from compoundwatch.model import Picture
from compoundwatch.outputs.legend import BLUE, ORANGE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1b2733", "#5b6b7a", "#c9d2da"
WIDTH, LEFT, RIGHT = 5.4, 0.56, 0.08
TOP, BOTTOM, PANEL, GAP = 0.66, 0.3, 0.95, 0.3
"""Inches of a chart: fixed, so that the charts of all sites line up (and a layout engine would take longer)."""
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
class Panel:
    """One feature of a site: its label, and tables with ``acquired`` (UTC), ``value`` and ``look``."""

    label: str
    site: pd.DataFrame
    controls: pd.DataFrame


def picture_png(picture: Picture) -> bytes:
    """A picture as PNG, pixel for pixel; pixels that were not seen are transparent."""
    from PIL import Image

    alpha = np.where(picture.seen, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([picture.rgb, alpha]), "RGBA").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def outline_path(geometry: BaseGeometry, grid: Grid) -> str:
    """A longitude/latitude polygon as an SVG path in the pixels of a grid: x is the column, y the row."""
    shape = project(geometry, 4326, grid.epsg)
    rings = [r for p in shapely.get_parts(shape) if p.geom_type == "Polygon" for r in (p.exterior, *p.interiors)]
    paths = []
    for ring in rings:
        points = [((x - grid.left) / grid.pixel_m, (grid.top - y) / grid.pixel_m) for x, y in ring.coords[:-1]]
        paths.append("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points) + "Z")
    return "".join(paths)


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


def chart_svg(
    panels: Sequence[Panel],
    reference_end: dt.date,
    change: Span | None,
    likeliest: dt.date | None,
    events: Sequence[Span],
) -> str:
    """Series of a site against its controls, one panel per feature, as SVG text.

    Parameters
    ----------
    reference_end : first day that may hold a change.
    change, likeliest : interval and likeliest day of the change; None = none is called.
    events : numbered from 1 in this order.
    """
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
    with matplotlib.rc_context(style):
        count = len(panels)
        height = TOP + BOTTOM + PANEL * count + GAP * (count - 1)
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(
            left=LEFT / WIDTH, right=1 - RIGHT / WIDTH, top=1 - TOP / height, bottom=BOTTOM / height, hspace=GAP / PANEL
        )
        for ax, panel in zip(axes, panels, strict=True):
            _draw_panel(ax, panel)
            _draw_marks(ax, reference_end, change, likeliest, events)
        _finish(figure, list(axes), events)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # Hundredths of a point are enough, and halve the size.
    return re.sub(r"(\d\.\d\d)\d+", r"\1", text[text.index("<svg") :])


def _draw_panel(ax: Axes, panel: Panel) -> None:
    looks = sorted({*panel.site["look"], *panel.controls["look"]})
    for rows, colour, width, size, label, order in (
        (panel.site, INK, 1.1, 3.2, "this site", 3),
        (panel.controls, MUTED, 0.8, 2.2, "median of its controls", 2),
    ):
        for k, look in enumerate(looks):
            own = rows[(rows["look"] == look) & rows["value"].notna()].sort_values("acquired")
            if own.empty:
                continue
            days = own["acquired"].dt.tz_convert(None).to_numpy()
            mark = MARKERS[k % len(MARKERS)]
            ax.plot(
                days,
                own["value"].to_numpy(),
                color=colour,
                linewidth=width,
                alpha=0.9,
                marker=mark,
                markersize=size,
                markeredgewidth=0,
                linestyle="-" if rows is panel.site else (0, (3, 1.5)),
                label=label if k == 0 else None,
                zorder=order,
            )
    ax.set_title(panel.label, loc="left", fontsize=9, pad=3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color=FAINT, linewidth=0.5)
    ax.locator_params(axis="y", nbins=4)
    ax.set_axisbelow(True)


def _draw_marks(
    ax: Axes, reference_end: dt.date, change: Span | None, likeliest: dt.date | None, events: Sequence[Span]
) -> None:
    ax.axvline(_x(reference_end), color=MUTED, linewidth=1, linestyle=":", label="reference period ends", zorder=1)
    if change is not None:
        ends = _x(change.earliest), _x(change.latest + dt.timedelta(days=1))
        ax.axvspan(*ends, color=ORANGE, alpha=0.35, linewidth=0, label="change, 90 % interval", zorder=0)
    if likeliest is not None:
        ax.axvline(_x(likeliest), color="#a05f00", linewidth=1.3, label="likeliest day", zorder=1)
    for k, event in enumerate(events):
        label = "event, numbered below" if k == 0 else None
        if event.latest > event.earliest:
            ends = _x(event.earliest), _x(event.latest + dt.timedelta(days=1))
            ax.axvspan(*ends, color=BLUE, alpha=0.12, linewidth=0, zorder=0)
        ax.axvline(_x(event.earliest), color=BLUE, linewidth=0.9, label=label, zorder=1)


def _finish(figure: Figure, axes: list[Axes], events: Sequence[Span]) -> None:
    dates = _dates()
    locator = dates.AutoDateLocator(minticks=4, maxticks=8)
    axes[-1].xaxis.set_major_locator(locator)
    axes[-1].xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    first = axes[0]
    handles, labels = first.get_legend_handles_labels()
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
    if not events:
        return
    left, right = first.get_xlim()
    room = (right - left) * 0.03
    last = [-math.inf] * LEVELS
    # Beyond the title, so that numbers and words never meet.
    for k, event in enumerate(events, start=1):
        x = float(_number(event.earliest))
        if not left <= x <= right:
            continue
        level = next((i for i in range(LEVELS) if x - last[i] >= room), LEVELS - 1)
        last[level] = x
        first.annotate(
            str(k),
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, -5 - 10 * level),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7,
            color="white",
            bbox={"boxstyle": "circle,pad=0.18", "facecolor": BLUE, "edgecolor": "white", "linewidth": 0.6},
            zorder=5,
        )


def _x(day: dt.date) -> Any:
    return np.datetime64(day)


def _number(day: dt.date) -> Any:
    return _dates().date2num(_x(day))


def _dates() -> Any:
    """matplotlib's dates, which have no type hints."""
    from matplotlib import dates

    return dates
