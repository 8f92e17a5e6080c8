"""Parts of the report: outlines and borders on the map, drawings of dates, and the browser that prints."""

from __future__ import annotations

import datetime as dt
import re
import stat
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import shapely

from compoundwatch.errors import OutputError, SettingsError
from compoundwatch.model import Event
from compoundwatch.outputs.report.land import borders, point, rings
from compoundwatch.outputs.report.pdf import find_browser, print_pdf
from compoundwatch.outputs.report.strips import change_dates, views

from .conftest import EMPTIED, QUIET


def test_rings_are_latitude_first_with_their_holes() -> None:
    outer, hole = shapely.box(103.0, 10.0, 103.2, 10.1), shapely.box(103.05, 10.02, 103.06, 10.03)
    (found,) = rings(shapely.Polygon(outer.exterior, [hole.exterior]))
    assert set(found[0]) == {(10.0, 103.0), (10.0, 103.2), (10.1, 103.2), (10.1, 103.0)}
    assert set(found[1]) == {(10.02, 103.05), (10.02, 103.06), (10.03, 103.05), (10.03, 103.06)}
    assert len(rings(shapely.MultiPolygon([outer, shapely.box(0, 0, 1, 1)]))) == 2


def test_points_lie_inside() -> None:
    bent = shapely.Polygon([(0, 0), (10, 0), (10, 10), (9, 10), (9, 1), (0, 1)])
    latitude, longitude = point(bent)
    assert bent.contains(shapely.Point(longitude, latitude))


def test_borders_run_where_they_should() -> None:
    """O'Smach lies on the border between Cambodia and Thailand, at 14.41 N, 103.69 E (Wikipedia)."""
    lines = borders([shapely.Point(103.694, 14.41).buffer(0.001)])
    nearest = min(
        shapely.LineString([(x, y) for y, x in line]).distance(shapely.Point(103.694, 14.43)) for line in lines
    )
    assert nearest < 0.15
    everything = [xy for line in lines for xy in line]
    assert all(11 < latitude < 18 and 100 < longitude < 107 for latitude, longitude in everything)
    assert len(everything) < 2000
    assert borders([]) == []
    assert borders([shapely.Point(-140, -40).buffer(0.1)]) == []


def event(day: str) -> Event:
    when = dt.date.fromisoformat(day)
    return Event(day, when, when, "", ("kk-1",), "raid", "", "", "")


def test_the_days_of_change_stand_where_they_fall() -> None:
    """Interval 2024-03-01 to 03-28, days 03-07 (25 %) and 03-10 (75 %); a raid on 03-05, another a year later."""
    drawn = change_dates(EMPTIED, [event("2024-03-05"), event("2025-03-05")])
    assert drawn is not None
    bars = [(float(x), float(h)) for x, h in re.findall(r"M([\d.]+) 60v-([\d.]+)", drawn["bars"])]
    assert [h for _, h in bars] == [pytest.approx(46 / 3, abs=0.1), 46]
    (raid,) = drawn["events"]
    assert raid["number"] == 1
    assert 12 < drawn["from"] < raid["from"] < bars[0][0] < bars[1][0] < drawn["to"] < 468
    day = (drawn["to"] - drawn["from"]) / 27
    assert raid["from"] - drawn["from"] == pytest.approx(4 * day, abs=0.2)
    assert bars[1][0] - bars[0][0] == pytest.approx(3 * day, abs=0.2)
    assert change_dates(QUIET, [event("2024-03-05")]) is None
    assert change_dates(replace(EMPTIED, change_dates={}), []) is None


def test_days_with_and_without_a_measurement_are_told_apart() -> None:
    days = pd.to_datetime(["2024-01-01", "2024-01-01", "2024-03-01", "2024-05-01"], utc=True)
    seen = views(pd.DataFrame({"acquired": days, "value": [None, 1.0, None, 2.0]}))
    assert seen is not None
    assert (seen["n_usable"], seen["n_other"]) == (2, 1)
    assert [text for _, text in seen["ticks"]] == ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05"]
    assert views(pd.DataFrame({"acquired": days[:0], "value": []})) is None


def test_without_a_browser_it_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("compoundwatch.outputs.report.pdf.PLACES", ())
    with pytest.raises(SettingsError, match=r"expected Chromium, Chrome or Edge .* found none; install one, or open"):
        find_browser()


def test_a_browser_that_fails_leaves_no_file(tmp_path: Path) -> None:
    broken = tmp_path / "browser"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 7\n")
    broken.chmod(broken.stat().st_mode | stat.S_IEXEC)
    page = tmp_path / "page.html"
    page.write_text("<p>x</p>")
    with pytest.raises(OutputError, match=r"could not print page.html \(code 7: no display\)"):
        print_pdf(page, tmp_path / "out.pdf", str(broken))
    assert not (tmp_path / "out.pdf").exists()
