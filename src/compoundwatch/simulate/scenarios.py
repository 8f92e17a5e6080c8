"""What happens at a simulated place, and when: occupancy, building and demolition as functions of the day."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compoundwatch.errors import SettingsError

SCENARIOS = (
    "unchanged", "emptied", "emptied_in_stages", "building", "demolished", "reoccupied", "regional",
    "emptied_before_raid", "power_cut", "blackout",
)  # fmt: skip
"""Names of all scenarios; ``docs/simulator.md`` says what each does."""
SEEN_BY_DAY = SCENARIOS[:7]
"""The scenarios that satellites of the day can tell apart; the others ask for dates of raids or for lights."""

TRUE_STATE = {
    "unchanged": "UNCHANGED",
    "emptied": "EMPTIED",
    "emptied_in_stages": "EMPTIED",
    "building": "BUILDING",
    "demolished": "DEMOLISHED",
    "reoccupied": "REOCCUPIED",
    "regional": "UNCHANGED",  # whatever happened, it happened to everybody
    "emptied_before_raid": "EMPTIED",
    "power_cut": "LIGHTS_ONLY",
    "blackout": "UNCHANGED",  # dark everywhere, and nobody left
}
"""What a perfect observer would say of a site at the end of the series."""

LOST_ROOF = (0.50, 0.80)
"""Least and greatest share of the roofs that a demolition turns into rubble."""
NEW_ROOF = (0.15, 0.30)
"""Least and greatest share of the ground without roof that is built over."""
STAGES_DAYS = (0, 22, 45)
"""Days after the first departure on which a third of the people leave, when a site is emptied in stages."""

RAID_LEAD_DAYS = (3, 10)
"""Least and most days between a departure and the raid it runs from."""
PEOPLE_LIGHT = 0.85
"""Share of a place's light that goes with its people; walls, gates and guards keep the rest lit."""
CUT_LEFT, GENERATOR_LEFT, GENERATOR_DAYS = (0.02, 0.15), (0.35, 0.65), (1, 6)
"""Light left when the grid is cut; light once generators run; days until they do (least and most of each)."""


@dataclass(frozen=True)
class Story:
    """What happens at one place.

    Days count from 1970-01-01; None = does not happen. ``activity_left`` is the share of the usual activity that
    remains after the change, ``new_roof`` the share of the ground without roof that becomes roof, ``lost_roof`` the
    share of the roof area that becomes rubble. ``until`` is the day on which the change is complete, ``back`` the day
    on which people return, ``raid`` the day for which a raid is announced. When the grid is cut on ``day``,
    ``light_left`` is the share of the usual light that remains (1 = there is no cut) and ``generator_light`` the share
    there is from the day ``generators`` on.
    """

    scenario: str = "unchanged"
    day: int | None = None
    until: int | None = None
    back: int | None = None
    activity_left: float = 1.0
    new_roof: float = 0.0
    lost_roof: float = 0.0
    regrowth: float = 0.0
    raid: int | None = None
    light_left: float = 1.0
    generators: int | None = None
    generator_light: float = 1.0

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

    def lights(self, day: int) -> float:
        """Light that the place itself gives off on a day, as a share of the usual: people, generators and its own grid.

        Most of the light goes with the people (PEOPLE_LIGHT), the last of it with the buildings. A grid that is cut at
        this place leaves little until generators run. Cuts that hit the whole region are not in it: ``World.light``
        has both.
        """
        left = 1.0 - PEOPLE_LIGHT * (1.0 - self.activity(day))
        if self.lost_roof and self.day is not None and self.until is not None:
            done = float(np.clip((day - self.day) / max(1, self.until - self.day), 0, 1))
            left = min(left, 1.0 - self.lost_roof * done)
        if self.light_left < 1.0 and self.day is not None and day >= self.day:
            runs = self.generators is not None and day >= self.generators
            left *= self.generator_light if runs else self.light_left
        return left

    def regrown(self, day: int) -> float:
        """Share of the yards that weeds would cover in full green, months after nobody walks there any more."""
        if self.regrowth == 0 or self.day is None or self.back is not None:
            return 0.0
        return self.regrowth * float(np.clip((day - self.day - 45) / 200, 0, 1))


def site_story(scenario: str, day: int, rng: np.random.Generator, effect: float = 1.0) -> Story:
    """Draw the sizes and lengths of a scenario that begins on ``day``; ``effect`` is the part of it that happens.

    Raises
    ------
    SettingsError : there is no such scenario.
    """
    story = _site_story(scenario, day, rng)
    return story if effect == 1.0 else _lessened(story, effect)


def _lessened(story: Story, effect: float) -> Story:
    """The same story with every size cut down to a part of it."""
    return replace(
        story,
        activity_left=1 + (story.activity_left - 1) * effect,
        light_left=1 + (story.light_left - 1) * effect,
        generator_light=1 + (story.generator_light - 1) * effect,
        new_roof=story.new_roof * effect,
        lost_roof=story.lost_roof * effect,
        regrowth=story.regrowth * effect,
    )


def _site_story(scenario: str, day: int, rng: np.random.Generator) -> Story:
    story = Story(scenario, day)
    if scenario in ("unchanged", "regional", "blackout"):
        return Story(scenario)
    if scenario == "power_cut":
        return replace(
            story,
            until=day,
            light_left=float(rng.uniform(*CUT_LEFT)),
            generators=day + int(rng.integers(GENERATOR_DAYS[0], GENERATOR_DAYS[1] + 1)),
            generator_light=float(rng.uniform(*GENERATOR_LEFT)),
        )
    left = float(rng.uniform(0.03, 0.20))
    if scenario in ("emptied", "emptied_before_raid"):
        story = replace(story, until=day, activity_left=left, regrowth=float(rng.uniform(0.05, 0.35)))
        if scenario == "emptied":
            return story
        return replace(story, raid=day + int(rng.integers(RAID_LEAD_DAYS[0], RAID_LEAD_DAYS[1] + 1)))
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


def control_story(first: int, last: int, rng: np.random.Generator, share: float = 1 / 8) -> Story:
    """An ordinary place: a ``share`` of them have a small change of their own at some time between two days."""
    changes, kind, day = rng.random() < share, rng.random(), int(rng.integers(first, last + 1))
    size = float(rng.uniform(0.03, 0.06))
    if not changes:
        return Story()
    if kind < 0.5:
        return Story("quieter", day, until=day, activity_left=float(rng.uniform(0.6, 0.8)))
    return Story("building", day, until=day + 40, new_roof=size)
