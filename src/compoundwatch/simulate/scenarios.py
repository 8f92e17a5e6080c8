"""What happens at a simulated place, and when: occupancy, building and demolition as functions of the day."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compoundwatch.errors import SettingsError

SCENARIOS = ("unchanged", "emptied", "emptied_in_stages", "building", "demolished", "reoccupied", "regional")
"""Names of all scenarios; ``docs/simulator.md`` says what each does."""

TRUE_STATE = {
    "unchanged": "UNCHANGED",
    "emptied": "EMPTIED",
    "emptied_in_stages": "EMPTIED",
    "building": "BUILDING",
    "demolished": "DEMOLISHED",
    "reoccupied": "REOCCUPIED",
    "regional": "UNCHANGED",  # whatever happened, it happened to everybody
}
"""What a perfect observer would say of a site at the end of the series."""

LOST_ROOF = (0.50, 0.80)
"""Least and greatest share of the roofs that a demolition turns into rubble."""
NEW_ROOF = (0.15, 0.30)
"""Least and greatest share of the ground without roof that is built over."""
STAGES_DAYS = (0, 22, 45)
"""Days after the first departure on which a third of the people leave, when a site is emptied in stages."""


@dataclass(frozen=True)
class Story:
    """What happens at one place.

    Days count from 1970-01-01; None = does not happen. ``activity_left`` is the share of the usual activity that
    remains after the change, ``new_roof`` the share of the ground without roof that becomes roof, ``lost_roof`` the
    share of the roof area that becomes rubble. ``until`` is the day on which the change is complete, ``back`` the day
    on which people return.
    """

    scenario: str = "unchanged"
    day: int | None = None
    until: int | None = None
    back: int | None = None
    activity_left: float = 1.0
    new_roof: float = 0.0
    lost_roof: float = 0.0
    regrowth: float = 0.0

    def activity(self, day: int) -> float:
        """Activity on a day, as a share of the usual."""
        if self.day is None or day < self.day or (self.back is not None and day >= self.back):
            return 1.0
        if self.scenario == "emptied_in_stages":
            left = sum(day >= self.day + stage for stage in STAGES_DAYS) / len(STAGES_DAYS)
            return 1.0 - (1.0 - self.activity_left) * left
        if self.scenario == "demolished":  # people leave over three weeks, machines come
            return 1.0 - (1.0 - self.activity_left) * min(1.0, (day - self.day + 1) / 20)
        return self.activity_left

    def regrown(self, day: int) -> float:
        """Share of the yards that weeds would cover in full green, months after nobody walks there any more."""
        if self.regrowth == 0 or self.day is None or self.back is not None:
            return 0.0
        return self.regrowth * float(np.clip((day - self.day - 45) / 200, 0, 1))


def site_story(scenario: str, day: int, rng: np.random.Generator) -> Story:
    """Draw the sizes and lengths of a scenario that begins on ``day``.

    Raises
    ------
    SettingsError : there is no such scenario.
    """
    story = Story(scenario, day)
    if scenario in ("unchanged", "regional"):
        return Story(scenario)
    left = float(rng.uniform(0.03, 0.20))
    if scenario == "emptied":
        return replace(story, until=day, activity_left=left, regrowth=float(rng.uniform(0.05, 0.35)))
    if scenario == "emptied_in_stages":
        return replace(story, until=day + STAGES_DAYS[-1], activity_left=left, regrowth=float(rng.uniform(0.05, 0.35)))
    if scenario == "reoccupied":
        return replace(story, until=day, back=day + int(rng.integers(60, 151)), activity_left=left)
    if scenario == "building":
        return replace(
            story,
            until=day + int(rng.integers(30, 91)),
            activity_left=float(rng.uniform(1.0, 1.3)),
            new_roof=float(rng.uniform(NEW_ROOF[0] + 0.01, NEW_ROOF[1] - 0.01)),
        )
    if scenario == "demolished":
        return replace(
            story,
            until=day + int(rng.integers(5, 41)),
            activity_left=float(rng.uniform(0.10, 0.30)),
            lost_roof=float(rng.uniform(LOST_ROOF[0] + 0.05, LOST_ROOF[1] - 0.05)),
        )
    raise SettingsError(f"there is no scenario '{scenario}'; choose from {', '.join(SCENARIOS)}")


def control_story(first: int, last: int, rng: np.random.Generator) -> Story:
    """An ordinary place: one in eight has a small change of its own at some time between two days."""
    changes, kind, day = rng.random() < 1 / 8, rng.random(), int(rng.integers(first, last + 1))
    size = float(rng.uniform(0.03, 0.06))
    if not changes:
        return Story()
    if kind < 0.5:
        return Story("quieter", day, until=day, activity_left=float(rng.uniform(0.6, 0.8)))
    return Story("building", day, until=day + 40, new_roof=size)
