"""Colours that can be told apart, and words for directions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from compoundwatch.model import State
from compoundwatch.outputs.legend import DIRECTION_COLOURS, STATE_COLOURS, direction_text


def test_every_state_has_its_own_colour() -> None:
    assert set(STATE_COLOURS) == set(State)
    assert len(set(STATE_COLOURS.values())) == len(State)
    assert len(set(DIRECTION_COLOURS.values())) == 2


# Viénot, Brettel and Mollon (1999), doi:10.1002/(SICI)1520-6378(199908)24:4<243::AID-COL5>3.0.CO;2-3, linear RGB.
VISION = {
    "full": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deutan": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
}


@pytest.mark.parametrize("kind", list(VISION))
def test_colour_blind_readers_can_tell_the_states_apart(kind: str) -> None:
    def seen(colour: str) -> np.ndarray:
        coded = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
        linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(VISION[kind]) @ linear, 0, 1)
        coded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        return np.asarray(rgb2lab(coded[None, None])[0, 0])

    for a, b in combinations(STATE_COLOURS.values(), 2):
        assert np.linalg.norm(seen(a) - seen(b)) > 15, (a, b)


def test_directions_in_words() -> None:
    assert direction_text(1, "ndvi") == "more NDVI"
    assert direction_text(-1, "night_light") == "less night light"
