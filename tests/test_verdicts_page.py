"""The worked example of docs/verdicts.md is true, and the page names what the code does."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from compoundwatch.model import Timing, VerdictSettings
from compoundwatch.score.displacement import DisplacementSettings
from compoundwatch.score.event_study import StudySettings
from compoundwatch.score.verdicts import CONFOUNDING

PAGE = Path(__file__).resolve().parents[1] / "docs" / "verdicts.md"


def test_the_worked_example_runs() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 10
    assert result.failed == 0


def test_the_page_knows_every_verdict_and_kind() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [t for t in Timing if t not in text] == []
    assert [kind for kind in CONFOUNDING if f"`{kind}`" not in text] == []


def test_the_page_gives_the_settings_as_they_are() -> None:
    text = re.sub(r"\s+", " ", PAGE.read_text(encoding="utf-8"))
    v, s, d = VerdictSettings(), StudySettings(), DisplacementSettings()
    for words in (
        f"With a = {v.at_days} day",
        f"within {v.reach_days} days of the event",
        f"The one with {v.probability_called} or more is called",
        f"fewer than {v.min_views_after} usable views follow",
        f"span of {s.bin_days} days",
        f"{s.before_days} to {s.anticipation_days} days before the event",
        f"({s.after_days} days) minus",
        f"Fewer than {s.min_sites} sites",
        f"mean of {d.window_days} days after a date",
        f"from {d.lead_days} days before to {d.late_days} days after it",
        f"to {d.lag_days} days later",
        f"among {d.draws} draws",
        f"fewer than {d.min_treated} sites of the event or {d.min_others} others",
        f"fewer than {d.min_choices} ways",
        f"less than {d.min_past_days} days of steps",
        f"end less than {d.late_days + d.lag_days + d.window_days} days after",
    ):
        assert words in text, words
