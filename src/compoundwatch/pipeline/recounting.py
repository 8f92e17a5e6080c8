"""What did we say of a site, and when? Asked of the store of a workspace, which never rewrites what was said."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compoundwatch.errors import SettingsError
from compoundwatch.ladder import words
from compoundwatch.model import nearest
from compoundwatch.outputs.manifest import plain
from compoundwatch.store import STORE, UNFINISHED, Said, reading


@dataclass(frozen=True)
class History:
    """What was said of one site up to a day, oldest first.

    ``words`` tells each statement as the ladder of words has it. ``on`` is the day asked for (None = up to now).
    ``looked`` is the day of the last run by then that ended, whether it had news or not (None = there was none): what
    was said last held then.
    """

    site_id: str
    on: dt.date | None
    said: tuple[Said, ...]
    words: tuple[str, ...]
    looked: dt.date | None


def history(folder: Path | str, site_id: str, on: dt.date | None = None) -> History:
    """What was said of a site up to a day.

    Parameters
    ----------
    folder : a workspace; a run may be at work in it.
    on : the day (UTC), itself included; None = up to now.

    Raises
    ------
    SettingsError : the folder is no workspace, or nothing was ever said of such a site.
    StoreError : its store is damaged or in use.
    """
    if not (Path(folder) / STORE).is_file():
        raise SettingsError(f"{folder}: expected a workspace of 'compoundwatch watch', found no {STORE} in it")
    with reading(Path(folder)) as ledger:
        known = ledger.judged()
        if site_id not in known:
            close = nearest(site_id, known)
            hint = f"did you mean {close}?" if close else f"its sites are {', '.join(known) or '(none yet)'}"
            raise SettingsError(f"{folder}: nothing was said of a site '{site_id}' there; {hint}")
        runs, said = ledger.runs(), ledger.said(site_id, on)
        called = {r.number: float(r.basis["score.probability_called"]) for r in runs}
        told = tuple(words(s.state, called[s.run]) for s in said)
        looks = [r.as_of for r in runs if r.outcome != UNFINISHED and r.as_of <= (on or dt.date.max)]
        return History(site_id, on, said, told, looks[-1] if looks else None)


def describe_history(found: History) -> dict[str, Any]:
    """What was said, as plain values."""
    said = [
        {
            "as_of": s.state.as_of,
            "run_id": s.run_id,
            "began": s.began,
            "reopened_from": s.reopened_from,
            "words": told,
            "state": vars(s.state),
        }
        for s, told in zip(found.said, found.words, strict=True)
    ]
    described: dict[str, Any] = plain({"site_id": found.site_id, "on": found.on, "looked": found.looked, "said": said})
    return described


def history_text(found: History) -> list[str]:
    """What was said, in sentences: with a day only what held then, otherwise all, oldest first."""
    if not found.said:
        return [f"Nothing was said of {found.site_id} by {found.on}."]
    told = list(zip(found.said, found.words, strict=True))
    lines = [line for said, text in (told[-1:] if found.on else told) for line in _lines(said, text)]
    if found.looked and found.looked > found.said[-1].state.as_of:
        lines.append(f"This still held on {found.looked}, when the last run by then looked for anything new.")
    return lines


def _lines(said: Said, told: str) -> list[str]:
    state = said.state
    score = "" if state.score is None else f", score {state.score:.0f}"
    lines = [f"{state.as_of}: {state.site_id} is {told}{score} (run {said.run_id}).", f"  {state.reason}"]
    if said.reopened_from:
        lines.append(f"  Re-opened from {said.reopened_from} on: a scene of that day came late, or was processed anew.")
    return lines
