"""Alerts after a run: who is told what, once, and only when the state of a site is new or another than before."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from compoundwatch import alerts, store
from compoundwatch.errors import SettingsError
from compoundwatch.model import Role, Settings, Site, State, WatchResult
from compoundwatch.pipeline.publishing import (
    DELAY_DAYS,
    PRECISION_M,
    Statement,
    known,
    publishable,
    sentence,
)
from compoundwatch.store import Ledger
from compoundwatch.store.notices import Notice, Notices

WAIT_S = 600.0
"""Seconds to wait for another run to leave the workspace."""
SITES_PER_MESSAGE = 10
TITLE = "compoundwatch: state of watched sites"
CAVEAT = (
    "This is what satellite measurements are consistent with, no proof of what happened; they never see people. Read "
    "the result, and ask who could be harmed, before you pass this on."
)


class AlertSettings(BaseModel):
    """The file of --notify: whom to tell, and of what.

    ``urls`` are addresses as apprise writes them. ``states`` are those told of. ``min_probability`` (0-1) is the
    probability that a state must have to be told. ``public`` = what may be said in public alone, after ``delay_days``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    urls: Annotated[tuple[SecretStr, ...], Field(min_length=1)]
    states: tuple[State, ...] = tuple(s for s in State if s is not State.NOT_OBSERVABLE)
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    public: bool = False
    delay_days: Annotated[int, Field(ge=0, le=3650)] = DELAY_DAYS

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses as they are; never to be shown."""
        return tuple(url.get_secret_value() for url in self.urls)


@dataclass(frozen=True)
class News:
    """One thing to tell: of which site, in which words."""

    notice: Notice
    text: str


@dataclass(frozen=True)
class Alerted:
    """How many sites were told of, counted once per address, and what went wrong, in sentences without addresses."""

    sent: int
    problems: tuple[str, ...]


def read_alerts(path: Path | str) -> AlertSettings:
    """The settings of alerts from a TOML file, checked without sending anything.

    Raises
    ------
    SettingsError : the file cannot be read or used; the message holds nothing that stands in it but names of keys.
    """
    path = Path(path)
    try:
        settings = AlertSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"alerts {path}: cannot be read ({type(error).__name__})") from None
    except tomllib.TOMLDecodeError:
        raise SettingsError(f'alerts {path}: expected TOML such as urls = ["mailto://..."]; correct it') from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        known_keys = first["type"] != "extra_forbidden"
        where = ".".join(str(p) for p in first["loc"]) if known_keys else "an unknown key"
        raise SettingsError(
            f"alerts {path}: {where}: {first['msg']}; known are {', '.join(AlertSettings.model_fields)}"
        ) from None
    try:
        alerts.check(settings.addresses)
    except SettingsError as error:
        raise SettingsError(f"alerts {path}: {error}") from None
    return settings


def send_alerts(
    folder: Path | str, settings: AlertSettings, result: WatchResult, now: dt.datetime | None = None
) -> Alerted:
    """Tell what is new or another than before, after a run was written; nothing is told twice.

    What an address could not be told is told after the next run. A message that a killed run was sending is not sent
    again; that it may not have arrived is said.

    Parameters
    ----------
    folder : workspace of ``watch``.
    result : what the run found.
    now : the time of sending (UTC); default: the clock.

    Raises
    ------
    StoreError : the workspace is in use or damaged.
    """
    now = now or dt.datetime.now(dt.UTC)
    scoring = Settings.model_validate(result.provenance.settings)
    sent = 0
    problems: list[str] = []
    with store.opened(Path(folder), now, WAIT_S) as workspace:
        told = _told(workspace.ledger)
        for index, address in enumerate(settings.addresses):
            name = alerts.label(settings.addresses, index)
            notices = Notices(workspace.ledger, address)
            problems += [
                f"{name} may not have been told of {n.site_id}: a run ended while it was being sent"
                for n in notices.unsure()
            ]
            news = _news(workspace.ledger, told, notices, settings, scoring, now)
            for start in range(0, len(news), SITES_PER_MESSAGE):
                part = news[start : start + SITES_PER_MESSAGE]
                numbers = notices.begin([n.notice for n in part], now)
                arrived = alerts.deliver(address, TITLE, "\n\n".join([*(n.text for n in part), CAVEAT]))
                notices.end(numbers, arrived, now)
                if arrived:
                    sent += len(part)
                else:
                    problems.append(
                        f"{name} could not be told of {len(part)} sites; it is tried again after the next run"
                    )
                    break
    return Alerted(sent, tuple(problems))


Told = Mapping[str, Sequence[tuple[int, Statement]]]
"""What was said of every site, oldest first, each with the number of its run."""


def _told(ledger: Ledger) -> dict[str, list[tuple[int, Statement]]]:
    last_days = {run.number: run.last_day for run in ledger.runs()}
    return {site_id: [(s.run, known(s, last_days)) for s in ledger.said(site_id)] for site_id in ledger.judged()}


def _news(
    ledger: Ledger, told: Told, notices: Notices, settings: AlertSettings, scoring: Settings, now: dt.datetime
) -> list[News]:
    places = {k: site for k, (site, _) in ledger.places().items() if site.role is Role.SITE}
    found = []
    for news in _sayable(places, told, settings, scoring, now):
        site_id, state = news.notice.site_id, news.notice.state
        before = [s for run, s in told[site_id] if run < notices.first_run]
        last = notices.last(site_id) or (_notice(site_id, before[-1]) if before else None)
        if state in settings.states and not _same(news.notice, last):
            found.append(news)
    return found


def _sayable(
    places: Mapping[str, Site], told: Told, settings: AlertSettings, scoring: Settings, now: dt.datetime
) -> list[News]:
    """The latest statement of every site that may be told, in its words."""
    called = scoring.score.probability_called
    spoken = {k: [s for _, s in told[k]] for k in places if told.get(k)}
    if settings.public:
        found = publishable(places.values(), places, spoken, scoring, PRECISION_M, settings.delay_days, now)
        texts = [(p.place_id, Statement(p.state, p.known_until), f"{p.name}: {p.reason}", p.state) for p in found.sites]
    else:
        texts = [
            (k, s[-1], f"{places[k].name} ({k}): {sentence(s[-1], called)}", s[-1].state) for k, s in spoken.items()
        ]
    return [
        News(_notice(k, statement), text)
        for k, statement, text, state in texts
        if state.probability.get(state.state, 1.0) >= settings.min_probability
    ]


def _notice(site_id: str, statement: Statement) -> Notice:
    state = statement.state
    return Notice(site_id, state.state, state.change_date_earliest, state.change_date_latest)


def _same(one: Notice, other: Notice | None) -> bool:
    """Whether two notices tell of the same: the same state, and changes whose intervals overlap."""
    if other is None or one.state is not other.state:
        return False
    if one.earliest is None or one.latest is None or other.earliest is None or other.latest is None:
        return True
    return one.earliest <= other.latest and other.earliest <= one.latest


def alerted_text(found: Alerted) -> list[str]:
    """What was sent and what went wrong, in sentences."""
    return [f"Alerts: {found.sent} sent.", *found.problems]
