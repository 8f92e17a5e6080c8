"""A made-up result of one run, small but hostile: its truth is written out here, nothing is taken from the writers."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from affine import Affine

from compoundwatch.grid import Grid, project
from compoundwatch.model import (
    AreaOfInterest,
    Asset,
    Band,
    Calibration,
    Event,
    Feature,
    InputFile,
    PairChange,
    Picture,
    Provenance,
    Role,
    Scene,
    Sensor,
    Settings,
    Site,
    SiteChange,
    SiteEffect,
    SiteState,
    Skipped,
    State,
    WatchResult,
)
from compoundwatch.outputs import write_compare

HOSTILE = "<script>document.title='owned'</script> \"it's\" & ភូមិ · قرية"
GRID = Grid(32648, 380_000.0, 1_200_000.0, 10.0, 26, 34)
DAY = np.datetime64("2024-03-10")


def rectangle(left: int, top: int, right: int, bottom: int) -> shapely.Polygon:
    """A polygon around whole pixels of GRID (columns left..right, rows top..bottom, ends excluded), lon/lat."""
    x0, x1 = (GRID.left + 10 * col for col in (left, right))
    y0, y1 = (GRID.top - 10 * row for row in (top, bottom))
    return project(shapely.box(x0, y1, x1, y0), GRID.epsg, 4326)


def change_map() -> xr.Dataset:
    """One patch of 6 pixels (less), one of 2 (more), one pixel beside the outline, and a corner never tested."""
    shape = GRID.shape
    p = np.full(shape, 0.5, np.float32)
    direction = np.zeros(shape, np.int8)
    effect = np.zeros(shape, np.float32)
    dates = np.full((3, *shape), np.datetime64("NaT"), "datetime64[s]")

    def changed(rows: slice, cols: slice, sign: int, size: float) -> None:
        direction[rows, cols] = sign
        effect[rows, cols] = size
        p[rows, cols] = 0.001
        for k, offset in enumerate((0, -10, 5)):
            dates[k, rows, cols] = (DAY + offset).astype("datetime64[s]")

    changed(slice(8, 10), slice(10, 13), -1, -0.25)
    p[8, 10] = 0.0002
    dates[0, 9, 12] = np.datetime64("2024-03-20", "s")
    dates[2, 9, 12] = np.datetime64("2024-03-30", "s")
    changed(slice(15, 16), slice(20, 22), 1, 0.4)
    changed(slice(10, 11), slice(13, 14), -1, -0.9)  # touches the first patch by a corner only
    changed(slice(0, 1), slice(0, 1), -1, -0.5)  # outside the outline
    p[0, 30:] = np.nan
    layers: dict[str, Any] = {
        "statistic": direction.astype(np.float32) * 7.5,
        "p_value": p,
        "effect": effect,
        "effect_se": np.full(shape, 0.02, np.float32),
        "direction": direction,
        "date": dates[0],
        "date_earliest": dates[1],
        "date_latest": dates[2],
        "n_before": np.full(shape, 30, np.int32),
        "n_after": np.full(shape, 12, np.int32),
    }
    return xr.Dataset({name: (("y", "x"), layer) for name, layer in layers.items()})


def picture(day: str, brightness: int) -> Picture:
    rng = np.random.default_rng(5)
    rows, cols = GRID.shape
    base = np.array([60, 90, 50]) + rng.normal(0, 8, (rows, cols, 3))
    base[7:20, 8:28] = np.array([150, 140, 125]) + rng.normal(0, 12, (13, 20, 3))
    base[9:12, 11:18] = brightness + rng.normal(0, 4, (3, 7, 3))
    base[14:17, 18:25] = (90, 120, 180)
    seen = np.ones((rows, cols), bool)
    seen[:4, :5] = False
    acquired = dt.datetime.fromisoformat(f"{day}T03:25:41+00:00")
    return Picture(f"S2_{day}", "sentinel2", acquired, GRID, np.clip(base, 0, 255).astype(np.uint8), seen)


def series() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    days = pd.date_range("2022-01-04", "2024-12-20", freq="9D", tz="UTC") + pd.Timedelta(hours=3, minutes=25)
    season = 0.12 * np.sin(2 * np.pi * days.day_of_year.to_numpy() / 365.25)
    tables = []
    for site_id in ("kk-1", "quiet site/2", "control-a", "control-b", "control-c"):
        for feature, level in (("ndvi", 0.4), ("brightness", 0.22), ("activity", -1.0), ("ndvi_up", 0.0)):
            values = level + season * (feature == "ndvi") + rng.normal(0, 0.02, len(days))
            if site_id == "kk-1" and feature in ("ndvi", "activity"):
                values[days >= "2024-03-10"] -= 0.25
            values[rng.random(len(days)) < 0.25] = np.nan
            tables.append(
                pd.DataFrame(
                    {
                        "site_id": site_id,
                        "sensor": "sentinel2",
                        "feature": feature,
                        "look": "nadir",
                        "scene_id": [f"S2_{d:%Y%m%d}" for d in days],
                        "acquired": days,
                        "value": values,
                        "spread": np.where(np.isnan(values), np.nan, 0.05),
                        "valid_fraction": np.where(np.isnan(values), 0.2, 0.9),
                        "n_valid": np.where(np.isnan(values), 60, 270),
                    }
                )
            )
    return pd.concat(tables, ignore_index=True)


def sensor() -> Sensor:
    def formula(bands: Any) -> Any:
        return bands["red"]

    return Sensor(
        name="sentinel2",
        title="Sentinel-2",
        kind="optical",
        collections=("sentinel-2-l2a",),
        bands=(Band("red", ("red",), 10.0, "reflectance"),),
        features=(
            Feature("ndvi", formula, ("red",), "1", -1.0, 1.0, "more green vegetation"),
            Feature("brightness", formula, ("red",), "reflectance", -0.2, 1.6, "brighter ground or roofs"),
        ),
        valid=lambda quality: quality["scl"] == 4,
        calibrate=lambda item, key: Calibration(1e-4, -0.1, 0.0, "test"),
        look=lambda item: "nadir",
        acquisition=lambda item: "",
        processing=lambda item: "",
        version=lambda item: "",
        unsuited=lambda item: "",
        align_on=None,
        pixel_m=10.0,
        revisit_days=5.0,
        picture=("red", "red", "red"),
        sees="roofs, bare ground and vegetation",
        blind_to="people, night-time use and the inside of buildings",
        attribution="contains modified Copernicus Sentinel data",
    )


def state(site_id: str, name: State, **more: Any) -> SiteState:
    values: dict[str, Any] = {
        "site_id": site_id,
        "as_of": dt.date(2025, 1, 15),
        "state": name,
        "probability": {},
        "score": None,
        "change_date": None,
        "change_date_earliest": None,
        "change_date_latest": None,
        "p_value": None,
        "q_value": None,
        "n_views": 0,
        "n_before": 0,
        "n_after": 0,
        "n_controls": 0,
        "valid_fraction": None,
        "min_detectable": None,
        "sensors": ("sentinel2",),
        "reason": "",
    }
    return SiteState(**{**values, **more})


EMPTIED = state(
    "kk-1",
    State.EMPTIED,
    probability={
        State.UNCHANGED: 0.02,
        State.EMPTIED: 0.9,
        State.BUILDING: 0.01,
        State.DEMOLISHED: 0.06,
        State.REOCCUPIED: 0.01,
    },
    score=98.0,
    change_date=dt.date(2024, 3, 10),
    change_date_earliest=dt.date(2024, 3, 1),
    change_date_latest=dt.date(2024, 3, 28),
    p_value=0.0005,
    q_value=0.0011,
    n_views=91,
    n_before=62,
    n_after=29,
    n_controls=3,
    valid_fraction=0.73,
    min_detectable=0.18,
    reason="Changed between 2024-03-01 and 2024-03-28: its yards and roads fell still, which is consistent with most "
    "activity having left (probability 90 %; 91 views, compared with 3 control areas).",
    change_dates={dt.date(2024, 3, 7): 0.25, dt.date(2024, 3, 10): 0.75},
    contributions={"sentinel2 nadir activity": 6.5, "sentinel2 nadir ndvi_anomaly": -0.2},
)
QUIET = state(
    "quiet site/2",
    State.UNCHANGED,
    probability={State.UNCHANGED: 0.94, State.EMPTIED: 0.03, State.BUILDING: 0.03},
    score=6.0,
    p_value=0.62,
    q_value=0.7,
    n_views=88,
    n_before=60,
    n_after=28,
    n_controls=2,
    valid_fraction=0.71,
    min_detectable=0.2,
    reason="No change: no change was seen that its controls do not share (probability 94 %, 88 views).",
)
UNSEEN = state(
    "ឃ-3",
    State.NOT_OBSERVABLE,
    reason="Not observable: 0 usable views before and 0 after; this is not the same as no change.",
)

TOKEN = "sig=sEcReT%2Btoken"


def scenes() -> tuple[Scene, ...]:
    nir = Asset(f"https://user:pw@example.org/a/B04.tif?{TOKEN}&se=2026", Calibration(1e-4, -0.1, 0.0, "item"))
    first = Scene(
        "S2_20220104",
        "sentinel2",
        "sentinel-2-l2a",
        f"https://catalog.example.org/v1?{TOKEN}",
        dt.datetime(2022, 1, 4, 3, 25, 41, tzinfo=dt.UTC),
        "a1",
        "nadir",
        "05.10",
        "baseline 05.10",
        12.5,
        {"red": nir},
        shapely.box(103.8, 10.7, 104.2, 11.0),
        "2022-01-05T00:00:00Z",
    )
    later = dt.datetime(2024, 12, 20, 10, 25, 41, tzinfo=dt.timezone(dt.timedelta(hours=7)))
    second = replace(first, scene_id="S2_20241220", acquired=later, cloud_percent=None, footprint=None, updated="")
    return first, second


@pytest.fixture(scope="session")
def result() -> WatchResult:
    """Three sites (changed, quiet, unseen) and three controls; tests change copies of it, never the thing itself."""
    outline = rectangle(6, 5, 30, 22)
    hole = rectangle(26, 18, 28, 20)
    sites = (
        Site(
            "kk-1",
            HOSTILE,
            Role.SITE,
            outline,
            ("control-a", "control-b", "control-c"),
            250.0,
            "https://news.example/a?id=7",
            dt.date(2025, 6, 26),
        ),
        Site(
            "quiet site/2",
            "Quiet place",
            Role.SITE,
            shapely.Polygon(outline.exterior, [hole.exterior]),
            ("control-a", "control-b"),
        ),
        Site(
            "ឃ-3",
            "កន្លែងទី៣",
            Role.SITE,
            shapely.MultiPolygon([rectangle(1, 1, 3, 4), rectangle(30, 20, 33, 24)]),
            (),
            None,
            "field notes, page 3 <b>",
            None,
        ),
        Site("control-a", "Control A", Role.CONTROL, rectangle(0, 0, 5, 4)),
        Site("control-b", "Control B", Role.CONTROL, rectangle(0, 10, 5, 15)),
        Site("control-c", "Control C", Role.CONTROL, rectangle(0, 20, 5, 25)),
    )
    events = (
        Event(
            "e1",
            dt.date(2024, 3, 5),
            dt.date(2024, 3, 5),
            "Kâmpôt",
            ("kk-1",),
            "raid",
            "Police announce a raid <i>",
            "https://news.example/b?x=1&y=2",
            "S",
        ),
        Event(
            "e2",
            dt.date(2024, 3, 1),
            dt.date(2024, 4, 30),
            "nationwide",
            ("kk-1", "quiet site/2"),
            "order",
            "Power is cut",
            "javascript:alert(1)",
            "W",
        ),
    )
    effects = (
        SiteEffect(
            "kk-1",
            "sentinel2",
            "activity",
            "nadir",
            "ln(variance ratio)",
            -1.2,
            0.2,
            -1.6,
            -0.8,
            dt.date(2024, 3, 10),
            0.0005,
            3,
            62,
            29,
            0.4,
        ),
        SiteEffect("kk-1", "sentinel2", "ndvi_up", "nadir", "1", None, None, None, None, None, None, 0, 62, 29, None),
    )
    skipped = (
        Skipped("kk-1: S2_20230101", "search", "the catalogue calls it 96 % cloudy, more than 80 %", routine=True),
        Skipped("kk-1: S2_20230202", "load", f"cannot be read: HTTP 403 for https://example.org/x.tif?{TOKEN}"),
        Skipped("ឃ-3: sentinel2", "load", "the outline holds no centre of a 10 m pixel <img src=x>"),
        Skipped("S2_odd", "search", "states no processing baseline"),
    )  # fmt: skip
    provenance = Provenance(
        "20250115T120000Z-abcd1234",
        dt.datetime(2025, 1, 15, 12, tzinfo=dt.UTC),
        {"compoundwatch": "0.1.0", "numpy": "2.0"},
        Settings().model_dump(mode="json"),
        "0123456789abcdef",
        {"area": "sites.geojson sha256:00ff", "catalog": f"https://catalog.example.org/v1?{TOKEN}"},
        (InputFile("area", "sites.geojson", 812, "00ff" * 16),),
    )
    changes = (
        SiteChange("kk-1", "sentinel2", "ndvi", "1", "harmonic_mosum", 0.01, GRID, change_map()),
        SiteChange("quiet site/2", "sentinel2", "ndvi", "1", "harmonic_mosum", 0.01, GRID, change_map()),
        SiteChange("control-a", "sentinel2", "ndvi", "1", "harmonic_mosum", 0.01, GRID, change_map()),
    )
    blank = changes[1].change_map
    blank["direction"][:] = 0
    return WatchResult(
        area=AreaOfInterest("kampot-test", sites, events),
        sensors=(sensor(),),
        reference_end=dt.date(2024, 1, 1),
        as_of=dt.date(2025, 1, 15),
        scenes=scenes(),
        series=series(),
        effects=effects,
        states=(EMPTIED, QUIET, UNSEEN),
        changes=changes,
        pictures={
            "kk-1": (picture("2023-12-28", 230), picture("2024-12-20", 120)),
            "quiet site/2": (picture("2023-12-28", 230), None),
        },
        skipped=skipped,
        provenance=provenance,
    )


@pytest.fixture
def pair() -> tuple[PairChange, Affine]:
    """A comparison of 9 x 14 pixels: 4 with more, 1 with less, 3 never tested."""
    direction = np.zeros((9, 14), np.int8)
    direction[2:4, 5:7] = 1
    direction[7, 12] = -1
    p = np.full((9, 14), 0.6, np.float32)
    p[direction != 0] = 0.004
    p[0, :3] = np.nan
    return PairChange(direction.astype(np.float32) * 3, p, direction), GRID.transform


def write_unplaced_pair(out: Path, change: PairChange, result: WatchResult) -> None:
    """Write a comparison of two images that lie nowhere on the map."""
    write_compare(
        out,
        before=Path("a.tif"),
        after=Path("b.tif"),
        change=change,
        transform=None,
        crs=None,
        detector="imad",
        alpha=0.01,
        sites=[],
        provenance=result.provenance,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "result folder"
