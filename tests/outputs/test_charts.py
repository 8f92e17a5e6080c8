"""A chart for every site that was measured, of what says most about it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compoundwatch.model import WatchResult
from compoundwatch.outputs import charts, figures
from compoundwatch.outputs.charts import write_charts
from compoundwatch.outputs.rows import answers_by_site


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[figures.Panel, figures.Marks]]:
    """What is given to the drawing, in its order."""
    seen: list[tuple[figures.Panel, figures.Marks]] = []
    real = figures.chart_png

    def chart(panels: Any, marks: figures.Marks, dpi: float) -> bytes:
        seen.extend((panel, marks) for panel in panels)
        return real(panels, marks, dpi)

    monkeypatch.setattr(charts.figures, "chart_png", chart)
    return seen


def test_every_measured_site_has_one(result: WatchResult, tmp_path: Path, drawn: list[Any]) -> None:
    written = write_charts(tmp_path, result, answers_by_site(result))
    assert written == {"kk-1": "charts/kk-1.png", "quiet site/2": "charts/quiet-site-2-285c41993bd2.png"}
    for path in written.values():
        assert Image.open(io.BytesIO((tmp_path / path).read_bytes())).width > 400
    # "activity" of kk-1 has the larger log odds, 6.5 against -0.2; of the other site nothing is told
    (panel, marks), (other, quiet) = drawn
    assert panel.label == other.label == "activity, Sentinel-2"
    assert set(panel.site["site_id"]) == {"kk-1"}
    assert set(panel.site["feature"]) == {"activity"}
    assert panel.site["value"].notna().all()
    rows = result.series[
        (result.series["site_id"].str.startswith("control")) & (result.series["feature"] == "activity")
    ]
    assert len(panel.controls) == rows[rows["value"].notna()]["acquired"].nunique()
    assert (str(marks.change.earliest), str(marks.change.latest)) == ("2024-03-01", "2024-03-28")
    assert str(marks.likeliest) == "2024-03-10"
    assert quiet.change is None


def test_it_shows_what_says_most(result: WatchResult, tmp_path: Path, drawn: list[Any]) -> None:
    said = {"sentinel2 nadir activity": 0.5, "sentinel2 nadir brightness": -4.0, "sentinel2 nadir ndvi_up": 9.0}
    answers = answers_by_site(result)
    answers["kk-1"] = replace(answers["kk-1"], contributions=said)
    write_charts(tmp_path, result, answers)
    # counts of unusual pixels say nothing to a reader
    assert drawn[0][0].label == "brightness, Sentinel-2 (reflectance)"


def test_nothing_measured_is_nothing_drawn(result: WatchResult, tmp_path: Path) -> None:
    bare = replace(result, series=result.series[:0])
    assert write_charts(tmp_path, bare, answers_by_site(bare)) == {}
    assert not (tmp_path / "charts").exists()
    counts = replace(result, series=result.series[result.series["feature"] == "ndvi_up"])
    assert write_charts(tmp_path, counts, answers_by_site(counts)) == {}
