"""What leaves the house: every byte of a public folder is searched for what must not be in it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import geopandas
import pytest
import shapely

from compoundwatch import aoi
from compoundwatch.cli import main
from compoundwatch.errors import SettingsError
from compoundwatch.model import Role, Site, State, WatchResult
from compoundwatch.outputs import write_watch
from compoundwatch.pipeline import publish
from compoundwatch.pipeline.publishing import Statement, sentence

from ..outputs.conftest import EMPTIED, QUIET
from ..outputs.conftest import result as result

LATER = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)
ENDED = dt.date(2025, 1, 15)


def place(site_id: str, name: str, left: float = 103.41, **marks: object) -> Site:
    outline = shapely.box(left, 10.6201234, left + 0.0031, 10.6234567)
    return Site(site_id, name, Role.SITE, outline, (), 250.0, "Named by an organisation", dt.date(2025, 6, 1), marks)


SITES = (
    place("secret-park-9", "Blue Roof Park", restricted="site_id, name", public_name="A compound in the south"),
    place("open-1", "Known Hotel", 103.431),
    place("hidden-7", "Withheld Villa", 103.451, restricted="all"),
    replace(place("suspected-3", "Rumoured Yard", 103.471), source=None),
    place("talker-4", "Next to BLUE ROOF park", 103.475),
    place("precise-5", "At 10.62012, 103.41", 103.481),
    replace(place("quiet-6", "Wide Place", 103.491, public_precision_m=40_000), source="Their report of 2024"),
)


@pytest.fixture
def folder(result: WatchResult, tmp_path: Path) -> Path:
    states = tuple(replace(QUIET if s.site_id == "quiet-6" else EMPTIED, site_id=s.site_id) for s in SITES)
    whole = replace(result, area=replace(result.area, sites=SITES, events=()), states=states, changes=(), effects=())
    write_watch(replace(whole, pictures={}, frames={}), tmp_path / "result", rasters=False, report=False)
    collection = aoi.to_feature_collection(SITES)
    (tmp_path / "areas.geojson").write_text(json.dumps(collection), encoding="utf-8")
    return tmp_path / "result"


def made(folder: Path, **options: object) -> Path:
    out = folder.parent / "public"
    publish(folder, out, **{"areas": folder.parent / "areas.geojson", "now": LATER, **options})
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_no_byte_gives_a_place_away(folder: Path) -> None:
    before = content(folder)
    out = made(folder)
    files = content(out)
    assert set(files) == {"sites.geojson", "README.txt", "about.json"}
    exact = [f"{v:.4f}" for s in SITES for xy in s.geometry.exterior.coords for v in xy]
    hidden = ["secret-park-9", "Blue Roof", "hidden-7", "Withheld", "suspected-3", "Rumoured", "talker-4", "precise-5"]
    insides = ["EMPTIED", "S2_2022", "run_id", "20250115", "control-", "example.org", "settings"]
    for name, raw in files.items():
        text = raw.decode().casefold()
        for secret in (*exact, *hidden, *insides):
            assert secret.casefold() not in text, (name, secret)
    assert content(folder) == before


def test_what_is_told_is_read_back(folder: Path) -> None:
    out = made(folder)
    table = geopandas.read_file(out / "sites.geojson").set_index("name")
    assert set(table.index) == {"A compound in the south", "Known Hotel", "Wide Place"}
    assert table.loc["A compound in the south", "site_id"] == "public-1"
    assert table.loc["Known Hotel", "site_id"] == "open-1"
    assert table.loc["Known Hotel", "geometry"].bounds == (103.4, 10.6, 103.5, 10.7)
    assert table.loc["Wide Place", "cell_m"] == 40_000
    wide = table.loc["Wide Place", "geometry"].bounds
    assert (wide[2] - wide[0], wide[3] - wide[1]) == pytest.approx((0.4, 0.4))
    assert table.loc["Known Hotel", "words"] == "consistent with a fall of activity"
    assert table.loc["Wide Place", "words"] == "consistent with no change"
    about = json.loads((out / "about.json").read_text(encoding="utf-8"))
    assert (about["n_sites"], about["n_published"]) == (7, 3)
    assert sum(about["left_out"].values()) == 4
    assert any("no proof" in text for text in about["caveats"])
    assert about["attribution"] == ["Contains modified Copernicus Sentinel data 2022-2024."]
    for entry in about["outputs"]:
        assert hashlib.sha256((out / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]


@pytest.mark.parametrize(("days", "told"), [(13, 0), (14, 3)])
def test_a_state_is_told_when_the_delay_is_over(folder: Path, days: int, told: int) -> None:
    now = dt.datetime.combine(ENDED + dt.timedelta(days=days), dt.time(12), dt.UTC)
    out = made(folder, now=now)
    about = json.loads((out / "about.json").read_text(encoding="utf-8"))
    assert about["n_published"] == told
    assert about["n_held_back"] == 5 - 5 * bool(told)
    assert ("2024-03-28" in (out / "sites.geojson").read_text()) is bool(told)


def test_marks_must_be_known(folder: Path) -> None:
    with pytest.raises(SettingsError, match="--aoi"):
        publish(folder, folder.parent / "public")
    assert not (folder.parent / "public").exists()


@pytest.mark.parametrize("where", [".", "inside", "..", "areas.geojson/.."])
def test_the_result_and_other_folders_stay_as_they_are(folder: Path, where: str) -> None:
    before = content(folder.parent)
    with pytest.raises(SettingsError):
        publish(folder, folder / where, areas=folder.parent / "areas.geojson")
    assert content(folder.parent) == before


@pytest.mark.parametrize("options", [{"precision_m": 20.0}, {"precision_m": float("nan")}, {"delay_days": -1}])
def test_what_would_show_more_is_refused(folder: Path, options: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="expected a"):
        made(folder, **options)


def test_a_misspelt_mark_is_refused_before_it_does_harm(tmp_path: Path) -> None:
    collection = aoi.to_feature_collection([place("a-1", "A", restricted="nmae")])
    (tmp_path / "areas.geojson").write_text(json.dumps(collection), encoding="utf-8")
    with pytest.raises(Exception, match="would be published"):
        aoi.read_areas(tmp_path / "areas.geojson")


def test_sentences() -> None:
    until = dt.date(2025, 1, 1)
    assert sentence(Statement(EMPTIED, until), 0.9) == (
        "Consistent with a fall of activity between 2024-03-01 and 2024-03-28 (probability 90%); "
        "known up to 2025-01-01."
    )
    assert sentence(Statement(QUIET, until), 0.9) == "Consistent with no change up to 2025-01-01 (probability 94%)."
    unseen = replace(QUIET, state=State.NOT_OBSERVABLE, probability={})
    assert sentence(Statement(unseen, until), 0.9) == (
        "Not observable up to 2025-01-01; this is not the same as no change."
    )


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["publish", str(folder), "--out", str(folder.parent / "p"), "--aoi", str(folder.parent / "areas.geojson")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 3
    said = capsys.readouterr().out
    assert "3 of 7 sites are in it." in said
    assert "no public source stated" in said
