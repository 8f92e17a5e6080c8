"""Why a site got its answer: the parts add up, and leaving one out is judging without it."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest

from compoundwatch import pipeline, score
from compoundwatch.errors import SettingsError
from compoundwatch.model import Provenance, Settings, Skipped, State, WatchResult
from compoundwatch.outputs import write_watch

from ..score.test_fusion import ALL, DARK, GONE, REFERENCE_END, world

AS_OF = dt.date(2026, 1, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site that was emptied, seen by three sensors, as `watch` writes it."""
    area, series = world(0, GONE | DARK)
    states = score.score_sites(
        area, series, ALL, {"s": REFERENCE_END}, AS_OF, Settings().score, 0.4, np.random.default_rng(0)
    )[1]
    cloudy = [Skipped(f"s: x{k}", "search", f"cloud cover {90 + k} % is above 80 %", routine=True) for k in range(3)]
    result = WatchResult(
        area=area,
        sensors=ALL,
        reference_end=dt.date(1970, 1, 1) + dt.timedelta(days=REFERENCE_END),
        as_of=AS_OF,
        scenes=(),
        series=series,
        effects=(),
        states=states,
        changes=(),
        pictures={},
        skipped=(*cloudy, Skipped("s: y", "load", "cannot be read"), Skipped("c1: z", "load", "cannot be read")),
        provenance=Provenance(
            "r1", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), {}, Settings().model_dump(mode="json"), "key", {}
        ),
    )
    out = tmp_path_factory.mktemp("explained")
    write_watch(result, out, rasters=False, report=False)
    return out


@pytest.fixture(scope="module")
def found(folder):
    return pipeline.explain(folder, "s")


def test_parts_add_up(found):
    assert found.state.state is State.EMPTIED
    assert found.about is State.EMPTIED
    assert set(found.by_sensor) == {"sentinel1", "sentinel2", "black_marble"}
    assert sum(found.by_sensor.values()) == pytest.approx(sum(found.state.contributions.values()))


def test_leaving_a_sensor_out_is_judging_without_it(found):
    sensors = {"sensor sentinel1", "sensor sentinel2", "sensor black_marble"}
    assert set(found.without) == sensors | {
        "its controls",
        "the median of its controls (a weighted mean of them instead)",
    }
    area, series = world(0, GONE | DARK, names=("sentinel2", "sentinel1"))
    used = tuple(s for s in ALL if s.name != "black_marble")
    alone = score.score_sites(
        area, series, used, {"s": REFERENCE_END}, AS_OF, Settings().score, 0.4, np.random.default_rng(0)
    )[1][0]
    assert found.without["sensor black_marble"].probability == pytest.approx(alone.probability, abs=1e-6)
    assert found.without["its controls"].n_controls == 0


def test_what_was_left_out_is_counted_without_its_numbers(found):
    assert found.left_out == (("cloud cover # % is above # %", 3), ("cannot be read", 1))


def test_text_and_json_say_the_same(found):
    text = "\n".join(line for _, lines in pipeline.explanation_text(found) for line in lines)
    told = pipeline.describe_explanation(found)
    assert told["state"] == "EMPTIED"
    assert told["reason"] in text
    for sensor, value in told["log_odds_by_sensor"].items():
        assert f"{value:+6.1f}  {sensor}" in text
    assert "3 x cloud cover" in text


def test_an_unknown_site_is_refused_with_a_hint(folder):
    with pytest.raises(SettingsError, match="its sites are s"):
        pipeline.explain(folder, "elsewhere")
