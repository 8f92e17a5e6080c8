"""A workspace over time: new, late and reprocessed scenes, nothing new, other settings, and what was said before.

Everything is held against a workspace that measures all that is there at once: the two say the same, byte for byte.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from compoundwatch import pipeline, store
from compoundwatch import simulate as simulator
from compoundwatch.errors import SettingsError
from compoundwatch.model import Settings

from ..workspaces import differing, litter, rows, science

START, FIRST, END = dt.date(2023, 1, 2), dt.date(2024, 10, 31), dt.date(2024, 12, 31)
SETTINGS: dict[str, Any] = {
    "load": {"threads": 2},
    "detect": {"reference_end": dt.date(2024, 1, 2)},
    "score": {"min_views_before": 6},
    "export": {"frames": 3},
}
COLLECTION = "sentinel-2-l2a"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """All that the satellite ever saw of one site that is built on, and of its controls."""
    folder = tmp_path_factory.mktemp("archive") / "imagery"
    simulator.simulate(
        folder,
        np.random.default_rng(3),
        scenarios=("building",),
        start=START,
        end=END,
        revisit_days=12,
        controls=2,
        regional_controls=1,
        site_m=(110.0, 130.0),
    )
    return folder


def published(archive: Path, folder: Path, *, without: tuple[str, ...] = (), pixels: bool = True) -> Path:
    """A catalogue of that archive which lacks some scenes; without ``pixels``, only its items."""
    shutil.copytree(archive, folder, ignore=None if pixels else shutil.ignore_patterns("*.tif"), dirs_exist_ok=True)
    path = folder / COLLECTION / "collection.json"
    collection = json.loads(path.read_text())
    collection["links"] = [k for k in collection["links"] if not any(f"/{name}/" in k["href"] for name in without)]
    path.write_text(json.dumps(collection))
    return folder


def scenes(archive: Path) -> list[str]:
    return sorted((p.name for p in (archive / COLLECTION).iterdir() if p.is_dir()), key=lambda name: name.split("_")[2])


def day(name: str) -> dt.date:
    return dt.datetime.strptime(name.split("_")[2], "%Y%m%d").date()


def watch(place: Path, out: Path, end: dt.date, now: dt.date | None = None, hour: int = 6, **more: Any):
    moment = dt.datetime.combine(now or end, dt.time(hour), dt.UTC)
    settings = Settings.model_validate(more.pop("settings", SETTINGS))
    return pipeline.watch(
        place / "sites.geojson",
        out=out,
        catalog=place,
        start=more.pop("start", START),
        end=end,
        settings=settings,
        now=moment,
        **more,
    )


@pytest.fixture(scope="module")
def grown(archive, tmp_path_factory):
    """A workspace up to FIRST, whose imagery is then gone."""
    home = tmp_path_factory.mktemp("grown")
    late = next_clear(archive, dt.date(2024, 4, 1))
    place = published(archive, home / "imagery", without=(late,))
    watch(place, home / "w", FIRST)
    return home, late


def next_clear(archive: Path, first: dt.date) -> str:
    """The first clear scene on or after a day."""
    for name in scenes(archive):
        (item,) = (archive / COLLECTION / name).glob("*.json")
        if day(name) >= first and json.loads(item.read_text())["properties"]["eo:cloud_cover"] < 15:
            return name
    raise AssertionError(f"no scene after {first} is clear")


def test_the_same_command_again_adds_nothing_and_reads_nothing(grown):
    home, _ = grown
    before, counted = science(home / "w"), rows(home / "w")
    stamps = {
        p: p.stat().st_mtime_ns for p in (home / "w").rglob("*") if p.is_file() and not p.name.startswith("store.")
    }
    aside = home / "aside"
    (home / "imagery" / COLLECTION).rename(aside)
    shutil.copytree(aside, home / "imagery" / COLLECTION, ignore=shutil.ignore_patterns("*.tif"))
    try:
        result = watch(home / "imagery", home / "w", FIRST, hour=7)
    finally:
        shutil.rmtree(home / "imagery" / COLLECTION)
        aside.rename(home / "imagery" / COLLECTION)
    assert not result.fresh
    assert result.states[0].state is pipeline.history(home / "w", "compound-1").said[-1].state.state
    assert differing(before, science(home / "w")) == []
    assert {t: n - counted[t] for t, n in rows(home / "w").items() if n != counted[t]} == {"runs": 1}
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert pipeline.verify(home / "w").as_written
    assert litter(home / "w") == []


def test_new_late_and_reprocessed_scenes(archive, grown, tmp_path):
    """Pixels that were read before are gone; what is said is what all pixels together say."""
    home, late = grown
    known = [name for name in scenes(archive) if day(name) <= FIRST and name != late]
    second = day(next_clear(archive, FIRST + dt.timedelta(days=1)))
    third = day(next_clear(archive, FIRST + dt.timedelta(days=31)))
    assert FIRST < second < FIRST + dt.timedelta(days=30)
    folder = home / "w"

    # New dates alone, seen through the look-back window; the late scene lies before it.
    narrow = {"search": {"look_back_days": 20}}
    place = published(archive, home / "imagery", without=(late,))
    for name in known:
        for file in (place / COLLECTION / name).glob("*.tif"):
            file.unlink()
    result = watch(place, folder, second, settings={**SETTINGS, **narrow})
    assert result.fresh
    fresh = published(archive, tmp_path / "fresh" / "imagery", without=(late,))
    watch(fresh, tmp_path / "fresh" / "w", second, settings={**SETTINGS, **narrow})
    assert differing(science(folder), science(tmp_path / "fresh" / "w")) == []
    said = len(pipeline.history(folder, "compound-1").said)

    # The late scene is there now, and one scene was processed anew; the window does not reach back so far.
    redone = next_clear(archive, dt.date(2024, 2, 1))
    assert day(redone) < day(late) < FIRST - dt.timedelta(days=20)
    for each in (place, fresh):
        published(archive, each, pixels=False)
        shutil.copytree(archive / COLLECTION / late, each / COLLECTION / late, dirs_exist_ok=True)
        process_anew(archive, each, redone)
    assert not watch(place, folder, second, hour=8, settings={**SETTINGS, **narrow}).fresh

    # 30 days after the first run the whole time is asked for again.
    result = watch(place, folder, third, settings={**SETTINGS, **narrow})
    assert result.fresh
    shutil.rmtree(tmp_path / "fresh" / "w")
    watch(fresh, tmp_path / "fresh" / "w", third, settings={**SETTINGS, **narrow})
    grew, at_once = science(folder), science(tmp_path / "fresh" / "w")
    # Only the workspace knows that there was an older processing, and says so where it lists what was left out.
    listing = {"report.html", "stac/compound-1.json", "store: skipped"}
    assert set(differing(grew, at_once)) <= listing
    older = set(grew["store: skipped"]) ^ set(at_once["store: skipped"])
    assert {row[2] for row in older} == {redone}
    assert all(row[4].startswith("the same acquisition was processed anew") for row in older)
    last = pipeline.history(folder, "compound-1").said[-1]
    assert last.reopened_from == day(redone)
    with store.reading(folder) as ledger:
        used = {s.scene_id: s.processing for s in ledger.kept("compound-1", "sentinel2").scenes}
    assert used[redone].endswith("2030-01-01T00:00:00.000Z")
    # What was said before is still there.
    assert len(pipeline.history(folder, "compound-1").said) == said + 1
    assert pipeline.history(folder, "compound-1", FIRST).said[-1].state.as_of == FIRST
    text = "\n".join(pipeline.history_text(pipeline.history(folder, "compound-1")))
    assert f"Re-opened from {day(redone)} on" in text
    assert pipeline.verify(folder).as_written


def process_anew(archive: Path, place: Path, name: str) -> None:
    """Publish a scene again with other numbers and a later time of processing."""
    folder = place / COLLECTION / name
    shutil.copytree(archive / COLLECTION / name, folder, dirs_exist_ok=True)
    (path,) = folder.glob("*.json")
    item = json.loads(path.read_text())
    item["properties"]["s2:generation_time"] = "2030-01-01T00:00:00.000Z"
    path.write_text(json.dumps(item))
    with rasterio.open(folder / "B08.tif") as old:
        profile, values = old.profile, old.read()
    profile.pop("photometric", None)
    with rasterio.open(folder / "B08.tif", "w", **profile) as new:
        new.write((values * 0.99).astype(values.dtype))


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"settings": {**SETTINGS, "detect": {"alpha": 0.01}}}, "detect.alpha = 0.001, found 0.01"),
        ({"settings": {**SETTINGS, "detect": {"detector": "ccdc"}}}, "detect.detector = harmonic_mosum, found ccdc"),
        ({"settings": {**SETTINGS, "score": {"min_views_before": 7}}}, "score.min_views_before = 6, found 7"),
        ({"start": dt.date(2023, 2, 1)}, "the first day of imagery = 2023-01-02, found 2023-02-01"),
        ({"seed": 1}, "the seed = 0, found 1"),
    ],
)
def test_other_settings_are_refused_with_the_remedy(grown, more, word):
    home, _ = grown
    before = rows(home / "w")
    with pytest.raises(SettingsError) as told:
        watch(home / "imagery", home / "w", END, hour=9, **more)
    assert word in str(told.value)
    assert "--renew" in str(told.value)
    assert rows(home / "w") == before


def test_another_outline_is_refused_with_the_remedy(grown, tmp_path):
    home, _ = grown
    areas = json.loads((home / "imagery" / "sites.geojson").read_text())
    first = areas["features"][0]
    first["geometry"]["coordinates"][0][1][0] += 1e-5
    path = tmp_path / "sites.geojson"
    path.write_text(json.dumps(areas))
    with pytest.raises(SettingsError, match=r"compound-1 has another outline than in this workspace; add --renew"):
        pipeline.watch(
            path,
            out=home / "w",
            catalog=home / "imagery",
            end=END,
            settings=Settings.model_validate(SETTINGS),
            now=dt.datetime.combine(END, dt.time(10), dt.UTC),
        )


def test_a_clock_that_goes_back_and_an_earlier_end_are_refused(grown):
    home, _ = grown
    with pytest.raises(SettingsError, match="the clock says 2024-10-30"):
        watch(home / "imagery", home / "w", FIRST, now=dt.date(2024, 10, 30))
    with pytest.raises(SettingsError, match="the last day asked for is 2024-10-01; leave --to out"):
        watch(home / "imagery", home / "w", dt.date(2024, 10, 1), now=END, hour=11)


def test_renewing_does_anew_what_depends_on_the_settings(grown, tmp_path):
    home, _ = grown
    shutil.copytree(home / "w", tmp_path / "w")
    place = published(home / "imagery", tmp_path / "imagery", pixels=False)
    settings = {**SETTINGS, "detect": {**SETTINGS["detect"], "alpha": 0.01}, "score": {"min_views_before": 200}}
    result = watch(place, tmp_path / "w", END, settings=settings, renew=True)
    assert {change.alpha for change in result.changes} == {0.01}
    said = [s.state.state.value for s in pipeline.history(tmp_path / "w", "compound-1").said]
    assert said[-1] == "NOT_OBSERVABLE"
    assert said[0] != "NOT_OBSERVABLE"
    assert pipeline.verify(tmp_path / "w").as_written
    # From now on the new settings are those of the workspace, and the old ones are the others.
    assert not watch(place, tmp_path / "w", END, hour=7, settings=settings).fresh
    with pytest.raises(SettingsError, match=r"detect\.alpha = 0\.01, found 0\.001"):
        watch(place, tmp_path / "w", END, hour=8)
