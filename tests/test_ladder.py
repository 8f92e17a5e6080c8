"""The words of a state: every state has its own, and none says more than the evidence."""

from __future__ import annotations

import re

from compoundwatch.ladder import COUNTED, DATED, INCONCLUSIVE, MEANING, NOT_OBSERVABLE, STATE_WORDS, TIMING_WORDS, words
from compoundwatch.model import State, Timing

from .outputs.conftest import EMPTIED, QUIET, UNSEEN, state

CHANGES = set(State) - {State.UNCHANGED, State.NOT_OBSERVABLE}


def test_every_state_has_words() -> None:
    assert set(STATE_WORDS) == set(MEANING) == set(State)
    assert set(COUNTED) == set(State) - {State.NOT_OBSERVABLE}
    assert set(DATED) == CHANGES
    assert set(TIMING_WORDS) == set(Timing)
    assert len(set(STATE_WORDS.values())) == len(State)


def test_words_stay_on_the_ladder() -> None:
    for text in (*STATE_WORDS.values(), *TIMING_WORDS.values()):
        assert re.match(r"consistent with |inconclusive$|not observable$", text)
        assert not re.search(r"closed|freed|abandoned|empty|victim|people", text)
    for changed in CHANGES:
        assert "consistent with" in MEANING[changed]


def test_a_site_between_change_and_no_change_is_inconclusive() -> None:
    between = state("x", State.NOT_OBSERVABLE, probability={State.UNCHANGED: 0.5, State.EMPTIED: 0.5})
    assert words(between, 0.8) == INCONCLUSIVE == "inconclusive"
    noisy = state("x", State.NOT_OBSERVABLE, probability={State.UNCHANGED: 0.9, State.EMPTIED: 0.1})
    assert words(noisy, 0.8) == NOT_OBSERVABLE == "not observable"
    assert words(UNSEEN, 0.8) == "not observable"
    assert words(EMPTIED, 0.8) == "consistent with a fall of activity"
    assert words(QUIET, 0.8) == "consistent with no change"
