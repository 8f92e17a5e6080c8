"""The view over all sites, from folders of results to words and JSON, through the command line."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from click.testing import CliRunner

from compoundwatch import pipeline
from compoundwatch.cli import main
from compoundwatch.errors import SettingsError
from compoundwatch.model import AreaOfInterest, Event, Provenance, Role, Settings, Site, State, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.sensors.sentinel2 import SENSOR
from tests.score.test_dates import date, state
from tests.score.test_panel import table

START, RAID, END = 19_000, 19_700, 20_090
DAYS = np.arange(START, END, 10)
TREATED = [f"t{k}" for k in range(5)]
OTHERS = [f"o{k}" for k in range(5)]
CONTROLS = ("c0", "c1", "c2")
NO_DATE = {"change_date": None, "change_date_earliest": None, "change_date_latest": None, "change_dates": {}}


def place(k, site_id, role=Role.SITE):
    x = 103 + 0.05 * k
    return Site(site_id, f"Place {site_id}", role, shapely.box(x, 10, x + 0.01, 10.01), CONTROLS * (role is Role.SITE))


def emptied(site_id, day, as_of=END, **more):
    values = {"as_of": date(as_of), "n_before": 40, "change_date": date(day)}
    values |= {"change_date_earliest": date(day - 4), "change_date_latest": date(day + 6)}
    values |= {"change_dates": {date(day - 2): 0.3, date(day + 1): 0.4, date(day + 4): 0.3}}
    return state(site_id=site_id, **(values | more))


def answers(as_of=END):
    """Five emptied before the raid; then construction, a return, no change, inconclusive, never seen."""
    quiet = {State.UNCHANGED: 0.95, State.EMPTIED: 0.05}
    return (
        *(emptied(t, RAID - 14, as_of) for t in TREATED),
        emptied("o0", RAID + 34, as_of, state=State.BUILDING, probability={State.BUILDING: 0.9, State.UNCHANGED: 0.1}),
        emptied(
            "o1",
            RAID - 14,
            as_of,
            state=State.REOCCUPIED,
            back_date=date(RAID + 86),
            probability={State.REOCCUPIED: 0.8, State.EMPTIED: 0.1, State.UNCHANGED: 0.1},
        ),
        state(site_id="o2", as_of=date(as_of), state=State.UNCHANGED, n_before=40, **NO_DATE | {"probability": quiet}),
        state(
            site_id="o3",
            as_of=date(as_of),
            state=State.NOT_OBSERVABLE,
            n_before=40,
            **NO_DATE | {"probability": {State.UNCHANGED: 0.5, State.EMPTIED: 0.5}},
        ),
        state(site_id="o4", as_of=date(as_of), state=State.NOT_OBSERVABLE, **NO_DATE | {"probability": {}}),
    )


def raid(event_id="raid-1", day=RAID, scope=(*TREATED, "o2", "o4")):
    return Event(event_id, date(day), date(day), "Somewhere", tuple(scope), "raid", "", "test", "S")


def made(run_id="r1", states=None, events=None, as_of=END):
    """A result of ten sites: activity falls at five of them a fortnight before a raid and rises at the others later."""
    rng = np.random.default_rng(1)
    names = (*TREATED, *OTHERS, *CONTROLS)
    values = {name: (DAYS, rng.normal(0, 0.3, DAYS.size)) for name in names}
    for k, name in enumerate((*TREATED, *OTHERS)):
        values[name][1][(RAID - 10 if k < 5 else RAID + 20) <= DAYS] += -1.5 if k < 5 else 1.5
    sites = [place(k, name, Role.CONTROL if name in CONTROLS else Role.SITE) for k, name in enumerate(names)]
    return WatchResult(
        area=AreaOfInterest("area", tuple(sites), (raid(),) if events is None else events),
        sensors=(SENSOR,),
        reference_end=date(START + 365),
        as_of=date(as_of),
        scenes=(),
        series=table(values),
        effects=(),
        states=answers(as_of) if states is None else states,
        changes=(),
        pictures={},
        skipped=(),
        provenance=Provenance(
            run_id, dt.datetime(2025, 1, 1, tzinfo=dt.UTC), {}, Settings().model_dump(mode="json"), "key", {}
        ),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("result")
    write_watch(made(), out, rasters=False, report=False)
    return out


@pytest.fixture(scope="module")
def told(folder):
    result = CliRunner().invoke(main, ["summary", str(folder), "--json"])
    assert result.exit_code == 3, result.output  # two sites could not be judged
    return json.loads(result.stdout)


def test_counts_are_sums_of_probabilities(told):
    """Emptied: five with 0.85, then 0, 0.1 and 0.05 = 4.4; back: five with 0.05 and 0.8 = 1.05; of eight answers."""
    assert (told["n_sites"], told["n_answered"]) == (10, 8)
    assert (told["inconclusive"], told["unseen"]) == (["o3"], ["o4"])
    assert told["counts"]["EMPTIED"]["expected"] == pytest.approx(4.4)
    assert told["counts"]["REOCCUPIED"]["expected"] == pytest.approx(1.05)
    assert told["counts"]["BUILDING"]["expected"] == pytest.approx(0.9)
    assert told["counts"]["UNCHANGED"]["expected"] == pytest.approx(0.1 * 7 + 0.95)
    assert sum(c["expected"] for c in told["counts"].values()) == pytest.approx(8)
    # Five sites with 0.85: P(all) = 0.44, P(4 or 5) = 0.84, P(3 or more) = 0.97.
    assert told["counts"]["EMPTIED"]["low"] == 3
    assert told["counts"]["EMPTIED"]["at_most"] == told["counts"]["EMPTIED"]["high"] + 2


def test_calls_expected_to_be_wrong_are_the_sum_of_their_chances(told):
    """Seven sites are called changed, each with a probability of 0.1 of no change."""
    assert told["n_called"] == 7
    assert told["n_expected_false"] == pytest.approx(0.7)
    assert "Of the 7 sites called changed, 0.7 are expected not to have changed." in told["caveat"]


def test_sites_are_ranked_among_controls_judged_as_sites(tmp_path):
    """Nothing happened at the three controls: a site that changed scores above them, one that did not does not."""
    scores = {"o2": 5.0, "o4": None}
    states = tuple(replace(s, score=scores.get(s.site_id, 90.0)) for s in answers())
    write_watch(made(states=states), tmp_path / "result", rasters=False, report=False)
    found = pipeline.summarise([tmp_path / "result"], placebos=10)
    assert found.n_placebos == 3
    assert {found.placebo_p[t] for t in TREATED} == {1 / 4}
    assert found.placebo_p["o2"] > 1 / 4
    assert "o4" not in found.placebo_p, "what was never seen has no rank"
    assert any(heading == "Among controls" for heading, _ in pipeline.summary_text(found))


def test_falls_are_held_against_the_raid(told):
    (about,) = told["events"]
    assert about["event"]["event_id"] == "raid-1"
    verdicts = {v["site_id"]: v for v in about["verdicts"]}
    assert list(verdicts) == [*TREATED, "o2", "o4"]
    # The interval that encloses the change ends eight days before the raid, so each of five counts with 0.9.
    assert about["fell"]["BEFORE"]["expected"] == pytest.approx(5 * 0.9)
    assert about["fell"]["AFTER"]["expected"] == pytest.approx(0)
    assert about["fell"]["UNDATED"]["expected"] == pytest.approx(0.05)
    assert about["fell"]["BEFORE"]["of"] == 6
    assert verdicts["t0"]["timing"] == "BEFORE"
    assert verdicts["t0"]["days"] < -8
    assert verdicts["o2"]["timing"] == "NONE"
    assert verdicts["o4"]["timing"] == "NOT_OBSERVABLE"


def test_series_are_pooled(told):
    (about,) = told["events"]
    assert about["study"]["testable"]
    assert about["study"]["site_ids"] == [*TREATED, "o2", "o4"]
    assert about["displacement"]["others"] == ["o0", "o1", "o3"]


def test_displacement_when_the_others_are_no_targets(folder):
    events = (raid(scope=TREATED),)
    write_watch(made(events=events), folder.parent / "other", rasters=False, report=False)
    (about,) = pipeline.summarise([folder.parent / "other"]).events
    assert about.displacement.treated == tuple(TREATED)
    assert about.displacement.p_value <= 0.05
    assert about.study.effect == pytest.approx(-1.5, abs=0.3)


def test_words_are_whole_and_carry_the_caveat(folder):
    result = CliRunner().invoke(main, ["summary", str(folder)])
    assert result.exit_code == 3
    text = result.output
    assert "Of 10 sites judged on 2025-01-02, 8 answers could be given" in text
    assert "consistent with most activity having left at an expected 4.4 (3 to 6), with activity" in text
    assert "and with no change at 1.6 (1 to 3) of them (90% intervals). The others are 1 inconclusive and 1 not" in text
    assert "not observable; counting these, up to 8 may have emptied." in text
    assert text.count("Caveat: ") == 2
    assert "having fallen before it at an expected 4.5 (3 to 5) of them, within 1 day of it" in text
    assert "o1: Consistent with activity that fell about 2023-11-25 and came back on about 2024-03-04" in text


def test_the_latest_run_counts_and_the_history_is_followed(folder, tmp_path):
    """An earlier run called o2 emptied; later it is unchanged: withdrawn. Order of the folders does not matter."""
    early = tuple(
        emptied("o2", RAID - 14, END - 200) if s.site_id == "o2" else replace(s, as_of=date(END - 200))
        for s in answers()
        if s.site_id != "o0"
    )
    write_watch(made("r0", early, as_of=END - 200), tmp_path, rasters=False, report=False)
    one, other = pipeline.summarise([folder, tmp_path]), pipeline.summarise([tmp_path, folder, folder])
    assert one == other
    assert one.n_sites == 10
    assert one.withdrawn == ("o2",)
    assert [s.site_id for s in one.spells] == ["o1", *TREATED]
    assert one.counts == pipeline.summarise([folder]).counts


def test_events_of_a_file_take_the_place_of_those_of_the_result(folder, tmp_path):
    header = "event_id,date_earliest,date_latest,date_precision,place,scope,kind,what,source,trust\n"
    path = tmp_path / "events.csv"
    day = date(RAID - 30)
    path.write_text(f"{header}new,{day},{day},day,Here,*,arrest,Something,test,S\n", encoding="utf-8")
    without = pipeline.summarise([folder], events=path)
    assert without.events == ()
    assert pipeline.summary_text(without)[-1][0] == "Events"
    (about,) = pipeline.summarise([folder], events=path, event_ids=["new"]).events
    assert len(about.verdicts) == 10
    assert about.fell_first.expected == pytest.approx(0)


def test_a_raid_outside_the_time_watched_is_told_on_request_only(folder, tmp_path):
    write_watch(made(events=(raid("old", START - 300),)), tmp_path, rasters=False, report=False)
    assert pipeline.summarise([tmp_path]).events == ()
    (about,) = pipeline.summarise([tmp_path], event_ids=["old"]).events
    assert about.sentence.startswith("Not observable")


def test_wrong_use_is_told_in_a_sentence(folder, tmp_path):
    with pytest.raises(SettingsError, match="did you mean 'raid-1'"):
        pipeline.summarise([folder], event_ids=["raid1"])
    with pytest.raises(SettingsError, match="at least one folder"):
        pipeline.summarise([])
    result = CliRunner().invoke(main, ["summary", str(tmp_path)])
    assert result.exit_code == 2
    assert "expected the folder of a result" in result.output
    moved = made("r2")
    far = replace(moved.area.sites[0], geometry=shapely.box(1, 1, 1.1, 1.1))
    write_watch(replace(moved, area=replace(moved.area, sites=(far, *moved.area.sites[1:]))), tmp_path, rasters=False)
    with pytest.raises(SettingsError, match="an id of its own"):
        pipeline.summarise([folder, tmp_path])
