"""How hard a made-up world is to watch: its weather, its noise, and how much of what happens can be seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from compoundwatch.errors import SettingsError


@dataclass(frozen=True)
class Conditions:
    """Settings of a world beside its sites; the defaults are the world that ``docs/simulator.md`` describes.

    All but the last four are factors, 1 = as described. A method that was tuned to one world should be tried in others.

    ``cloudiness`` odds of a cloudy date; ``missed`` shares of cloud and shadow that quality bands call clear; ``haze``
    of the air; ``noise`` of optical pixels, gains, temperatures and misregistration; ``contrast`` things that stand in
    yards of all places; ``effect`` size of what happens at sites: activity and light lost, roofs built and lost,
    weeds; ``wetness`` rain; ``soil`` how bright bare ground and fields are, ``darkening`` how much they darken, and
    rise in radar, when they are wet; ``mismatch`` how much places and parts of the region wander on their own, which
    controls cannot take away. ``control_changes`` is the share of controls with a change of their own, ``looks`` the
    equivalent number of looks of radar speckle, ``radar_drift`` the standard deviation of the level of radar scenes in
    dB, ``second_radar`` the share of the series after which a second radar satellite joins (None = never).
    """

    cloudiness: float = 1.0
    missed: float = 1.0
    haze: float = 1.0
    noise: float = 1.0
    contrast: float = 1.0
    effect: float = 1.0
    wetness: float = 1.0
    soil: float = 1.0
    darkening: float = 1.0
    mismatch: float = 1.0
    control_changes: float = 1 / 8
    looks: float = 4.4
    radar_drift: float = 0.2
    second_radar: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no world can be.

        Raises
        ------
        SettingsError : a setting is out of range.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = LIMITS.get(field.name, (0.0, 5.0))
            if value is not None and not low <= value <= high:
                raise SettingsError(f"{field.name} lies between {low:g} and {high:g}, found {value:g}; correct it")

    def as_dict(self) -> dict[str, float | None]:
        """All settings by name."""
        return asdict(self)


LIMITS = {
    "effect": (0.05, 1.0), "soil": (0.5, 1.6), "darkening": (0.0, 2.0), "missed": (0.0, 3.0), "haze": (0.0, 5.0),
    "control_changes": (0.0, 1.0), "looks": (1.0, 50.0), "radar_drift": (0.0, 2.0), "second_radar": (0.0, 1.0),
}  # fmt: skip
"""Least and greatest value of settings that are not simply between 0 and 5."""

DESCRIBED = Conditions()
"""The world as ``docs/simulator.md`` describes it."""
STRESS = Conditions(
    cloudiness=1.6,
    missed=1.6,
    haze=1.5,
    noise=1.5,
    contrast=0.6,
    effect=0.65,
    wetness=1.4,
    soil=1.25,
    darkening=1.4,
    mismatch=2.0,
    control_changes=0.25,
    looks=3.5,
    radar_drift=0.4,
    second_radar=0.6,
)
"""A harder world: more cloud and more of it missed, noisier sensors, quieter yards, smaller changes, wetter and
brighter soil, controls that resemble their sites less, and radar whose satellites change during the series."""
