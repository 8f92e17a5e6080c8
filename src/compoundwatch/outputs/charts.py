"""One small chart for each site: what says most about it, over time, against its controls. Map tips show it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compoundwatch.model import Site, SiteState, WatchResult
from compoundwatch.outputs import figures
from compoundwatch.outputs.legend import feature_label
from compoundwatch.outputs.raster import safe_name

if TYPE_CHECKING:
    import pandas as pd

CHARTS = "charts"
DPI = 90


def write_charts(folder: Path, result: WatchResult, answers: Mapping[str, SiteState]) -> dict[str, str]:
    """Write charts/<site>.png for every site that was measured.

    Parameters
    ----------
    answers : the state of every site by its id.

    Returns
    -------
    the path of each chart relative to ``folder``, by the id of its site.
    """
    written: dict[str, str] = {}
    for site in result.area.targets:
        panel = _panel(result, site, answers[site.site_id])
        if panel is None:
            continue
        path = f"{CHARTS}/{safe_name(site.site_id)}.png"
        lines = figures.marks(result.reference_end, answers[site.site_id])
        (folder / CHARTS).mkdir(exist_ok=True)
        (folder / path).write_bytes(figures.chart_png([panel], lines, DPI))
        written[site.site_id] = path
    return written


def _panel(result: WatchResult, site: Site, state: SiteState) -> figures.Panel | None:
    """The measurement that says most for the state of a site; activity, else the first one, where none says anything.

    Counts of unusual pixels ("ndvi_up") are evidence, but say nothing to a reader: the feature behind is drawn.
    """
    known = result.series[result.series["value"].notna()]
    own = known[known["site_id"] == site.site_id]
    if own.empty:
        return None
    features = {f.name: f.unit for s in result.sensors for f in s.features}
    kinds = own[["sensor", "look", "feature"]].drop_duplicates().itertuples(index=False)
    drawn = [(str(s), str(k), str(f)) for s, k, f in kinds if f in features or f == "activity"]
    if not drawn:
        return None
    said = {key: abs(state.contributions.get(" ".join(key), 0.0)) for key in drawn}
    sensor, look, feature = max(drawn, key=lambda key: (said[key], key[2] == "activity"))
    title = next((s.title for s in result.sensors if s.name == sensor), sensor)
    unit = features.get(feature, "1")
    label = f"{feature_label(feature)}, {title}" + (f" ({unit})" if unit != "1" else "")
    beside = _like(known[known["site_id"].isin(site.controls)], sensor, look, feature)
    return figures.Panel(label, _like(own, sensor, look, feature), figures.median_of_controls(beside))


def _like(rows: pd.DataFrame, sensor: str, look: str, feature: str) -> pd.DataFrame:
    return rows[(rows["sensor"] == sensor) & (rows["look"] == look) & (rows["feature"] == feature)]
