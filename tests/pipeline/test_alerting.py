"""Alerts, received by a real server on this machine: told once, of what is new, without a secret anywhere."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from compoundwatch import alerts, store
from compoundwatch.cli import main
from compoundwatch.errors import SettingsError
from compoundwatch.model import State, WatchResult
from compoundwatch.pipeline import read_alerts, send_alerts
from compoundwatch.pipeline.alerting import AlertSettings

from ..outputs.conftest import EMPTIED, QUIET
from ..outputs.conftest import result as result
from .test_publishing import place

TOKEN = "T0kenThatNobodyMaySee"
FIRST = dt.datetime(2025, 1, 15, 6, tzinfo=dt.UTC)
SITE = place("park-1", "Blue Roof Park", restricted="site_id, name", public_name="A compound in the south")
CHANGED = replace(EMPTIED, site_id="park-1")
STILL = replace(QUIET, site_id="park-1")


@pytest.fixture
def inbox(httpserver: HTTPServer) -> list[dict[str, Any]]:
    """What arrives; the server answers 500 while the last entry is the word "fail"."""
    got: list[Any] = []

    def take(request: Any) -> Response:
        if got and got[-1] == "fail":
            return Response("no", status=500)
        got.append(request.get_json())
        return Response("ok")

    httpserver.expect_request(f"/{TOKEN}").respond_with_handler(take)
    return got


@pytest.fixture
def config(httpserver: HTTPServer, inbox: list[Any], tmp_path: Path) -> Callable[..., AlertSettings]:
    def write(more: str = "") -> AlertSettings:
        path = tmp_path / "alerts.toml"
        path.write_text(f'urls = ["json://127.0.0.1:{httpserver.port}/{TOKEN}"]\n{more}', encoding="utf-8")
        return read_alerts(path)

    return write


def said(folder: Path, *states: Any, day: int = 0) -> dt.datetime:
    """One run of a workspace, some days after the first, that says these states; gives its time."""
    now = FIRST + dt.timedelta(days=day)
    with store.opened(folder, now) as workspace:
        ledger = workspace.ledger
        run = ledger.begin(
            f"run-{day}",
            now,
            area_id="area",
            first_day=dt.date(2022, 1, 1),
            last_day=now.date(),
            reference_end=dt.date(2023, 1, 1),
            catalog="catalog",
            whole=True,
            basis={},
            settings={},
            software={},
        )
        ledger.record_places(run, [SITE])
        ledger.record(
            run,
            "park-1",
            "sentinel2",
            scenes=(),
            skipped=(),
            searched=(dt.date(2022, 1, 1), now.date()),
            inputs=f"{day}",
            series=ledger.series([], []),
            digest=f"{day}",
        )
        ledger.record_states(run, [(replace(s, as_of=now.date()), (), f"{day}", None) for s in states])
        ledger.end(run, store.FINISHED, "", now)
    return now


def test_a_new_state_is_told_once(tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult) -> None:
    now = said(tmp_path / "ws", CHANGED)
    assert send_alerts(tmp_path / "ws", config(), result, now).sent == 1
    assert len(inbox) == 1
    text = inbox[0]["message"]
    assert "Blue Roof Park (park-1): Consistent with a fall of activity between 2024-03-01 and 2024-03-28" in text
    assert "probability 90%" in text
    assert "no proof" in text
    again = said(tmp_path / "ws", replace(CHANGED, score=97.0), day=5)
    assert send_alerts(tmp_path / "ws", config(), result, again).sent == 0
    assert send_alerts(tmp_path / "ws", config(), result, again).sent == 0
    assert len(inbox) == 1


def test_another_state_is_told_and_another_change_too(
    tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult
) -> None:
    folder = tmp_path / "ws"
    later = {"change_date_earliest": dt.date(2024, 11, 1), "change_date_latest": dt.date(2024, 11, 20)}
    for day, state in enumerate((STILL, CHANGED, STILL, CHANGED, replace(CHANGED, **later))):
        assert send_alerts(folder, config(), result, said(folder, state, day=day)).sent == 1, day
    assert len(inbox) == 5
    assert "between 2024-11-01 and 2024-11-20" in inbox[-1]["message"]


def test_what_was_said_before_the_first_alert_is_no_news(
    tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult
) -> None:
    folder = tmp_path / "ws"
    said(folder, CHANGED)
    assert send_alerts(folder, config(), result, said(folder, CHANGED, day=1)).sent == 0
    assert send_alerts(folder, config(), result, said(folder, STILL, day=2)).sent == 1
    assert len(inbox) == 1


def test_what_did_not_arrive_is_told_and_sent_again(
    tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult
) -> None:
    now = said(tmp_path / "ws", CHANGED)
    inbox.append("fail")
    found = send_alerts(tmp_path / "ws", config(), result, now)
    assert found.sent == 0
    assert found.problems == (
        "address 1 of 1 (json) could not be told of 1 sites; it is tried again after the next run",
    )
    inbox.clear()
    assert send_alerts(tmp_path / "ws", config(), result, now).sent == 1
    assert send_alerts(tmp_path / "ws", config(), result, now).sent == 0
    assert len(inbox) == 1


def test_a_message_of_a_killed_run_is_not_sent_twice_but_mentioned(
    tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = said(tmp_path / "ws", CHANGED)
    real = alerts.deliver

    def killed(*words: str) -> bool:
        real(*words)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "deliver", killed)
        with pytest.raises(KeyboardInterrupt):
            send_alerts(tmp_path / "ws", config(), result, now)
    found = send_alerts(tmp_path / "ws", config(), result, now)
    assert found.sent == 0
    assert "may not have been told of park-1" in found.problems[0]
    assert not send_alerts(tmp_path / "ws", config(), result, now).problems
    assert len(inbox) == 1


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ('states = ["BUILDING"]', 0),
        ('states = ["EMPTIED"]', 1),
        ("min_probability = 0.95", 0),
        ("min_probability = 0.9", 1),
    ],
)
def test_filters(tmp_path: Path, config: Any, result: WatchResult, more: str, sent: int) -> None:
    now = said(tmp_path / "ws", CHANGED)
    assert send_alerts(tmp_path / "ws", config(more), result, now).sent == sent


def test_public_alerts_wait_and_name_no_place(
    tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult
) -> None:
    folder, public = tmp_path / "ws", "public = true"
    now = said(folder, CHANGED)
    assert send_alerts(folder, config(public), result, now).sent == 0
    assert send_alerts(folder, config(public), result, now + dt.timedelta(days=13)).sent == 0
    assert send_alerts(folder, config(public), result, now + dt.timedelta(days=14)).sent == 1
    assert send_alerts(folder, config(public), result, now + dt.timedelta(days=15)).sent == 0
    text = str(inbox)
    assert "A compound in the south: Consistent with a fall of activity" in text
    for secret in ("park-1", "Blue Roof", "103.4", "10.62"):
        assert secret not in text


def test_no_secret_is_written_or_logged(
    tmp_path: Path, config: Any, inbox: list[Any], result: WatchResult, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    now = said(tmp_path / "ws", CHANGED)
    inbox.append("fail")
    problems = send_alerts(tmp_path / "ws", config(), result, now).problems
    inbox.clear()
    send_alerts(tmp_path / "ws", config(), result, now)
    logged = [r.getMessage() for r in caplog.records if r.name != "werkzeug"]  # that is the server's own log
    assert TOKEN not in str([*logged, problems])
    for path in (tmp_path / "ws").rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "text",
    [
        f'urls = ["{TOKEN}"]',
        f'urls = ["nosuch://{TOKEN}"]',
        f'urls = "json://{TOKEN}"',
        f'urls = ["json://{TOKEN}"',
        f'urls = ["json://h/{TOKEN}"]\n{TOKEN} = 1',
        f'urls = ["json://h/{TOKEN}"]\nstates = ["{TOKEN}"]',
        f'urls = ["json://h/{TOKEN}"]\nmin_probability = 3',
        "urls = []",
        "",
    ],
)
def test_a_wrong_file_is_refused_before_the_run_and_not_repeated(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "alerts.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        read_alerts(tmp_path / "alerts.toml")
    words = ["watch", "no.geojson", "--out", str(tmp_path / "o"), "--notify", str(tmp_path / "alerts.toml")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    shown = str(refused.value) + "".join(capsys.readouterr())
    assert TOKEN not in shown
    assert TOKEN.lower() not in shown.lower()
    assert "alerts.toml" in shown


def test_states_are_those_of_the_model(config: Any) -> None:
    assert set(config().states) == set(State) - {State.NOT_OBSERVABLE}


@pytest.mark.parametrize(("answer", "code"), [("ok", 0), ("fail", 3)])
def test_the_command_tells_after_the_run_is_written(
    tmp_path: Path,
    config: Any,
    inbox: list[Any],
    result: WatchResult,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    code: int,
) -> None:
    config()
    whole = replace(result, skipped=(), states=(CHANGED,), area=replace(result.area, sites=(SITE,)))

    def watched(*areas: Any, out: Path, **options: Any) -> WatchResult:
        """Stands for the run itself, which other tests drive from imagery to files."""
        assert not inbox
        said(out, CHANGED)
        if answer == "fail":
            inbox.append("fail")
        return whole

    monkeypatch.setattr("compoundwatch.pipeline.watching.watch", watched)
    words = ["watch", "areas.geojson", "--out", str(tmp_path / "ws"), "--notify", str(tmp_path / "alerts.toml")]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code
    err = capsys.readouterr().err
    assert ("Alerts: 1 sent." in err) is (answer == "ok")
    assert ("could not be told" in err) is (answer == "fail")
    assert TOKEN not in err
