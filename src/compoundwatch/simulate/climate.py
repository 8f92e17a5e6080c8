"""Weather and season of a monsoon climate, day by day: soil moisture, greenness, the state of the rice fields.

Rain falls from May to October and differs from year to year. It wets the soil within days and greens the land within
weeks. A regional event makes its zone drier and stiller: people stay away everywhere at once.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from compoundwatch.simulate.conditions import DESCRIBED, Conditions
from compoundwatch.simulate.fields import Float32, aside, wander

Float64 = npt.NDArray[np.float64]

SPIN_UP_DAYS = 400
"""Days before the first that let soil and plants forget where they began."""
REGIONAL_RAMP_DAYS = 10
REGIONAL_GREENNESS, REGIONAL_RAIN, REGIONAL_DUST = 0.25, 0.45, 0.05
"""What a regional event takes of the greenness and the rain, and adds to the brightness of bare ground and roofs."""

BLACKOUT_DAYS, BLACKOUT_LEFT = (30, 120), (0.08, 0.35)
"""Least and most days of a blackout of the whole region, and the share of the grid's power that is left meanwhile."""
CUTS_PER_YEAR, CUT_DAYS, CUT_LEFT = 4.0, (1, 3), (0.3, 0.8)
"""How often power fails in the whole region for a night or so, for how long, and what is left of it."""


def day_number(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - dt.date(1970, 1, 1)).days


def rainy(day: npt.NDArray[np.int64]) -> Float64:
    """How much of the wet season a day has, 0 to 1: near 0 from December to March, near 1 from June to October."""
    year = (np.asarray(day) % 365.25) / 365.25
    return np.asarray(1 / (1 + np.exp(-(np.cos(2 * np.pi * (year - 0.63)) - 0.12) * 5)))


@dataclass(frozen=True)
class Climate:
    """Daily state of the weather from ``first`` (days since 1970-01-01) on, outside (0) and inside (1) the zone.

    ``moisture`` and ``greenness`` float64 (2, n_days), 0 to 1; ``regional`` float64 (n_days,), 0 before the regional
    event, 1 once it is complete; ``showers`` float64 (n_days, 4, 5), local departures of the moisture, sd 0.05;
    ``crop_shift`` (days) and ``crop_vigour`` of the rice of each year; ``grid`` float64 (n_days,), the share of the
    usual power that the grid gives the whole region, 1 = all of it; ``blackout`` its first and last day of a long
    failure (since 1970-01-01; None = there is none).
    """

    first: int
    moisture: Float64
    greenness: Float64
    regional: Float64
    showers: Float64
    crop_shift: dict[int, float]
    crop_vigour: dict[int, float]
    grid: Float64
    blackout: tuple[int, int] | None

    def index(self, day: int) -> int:
        """Position of a day in the arrays."""
        return day - self.first


def climate(
    rng: np.random.Generator,
    first: int,
    last: int,
    regional_day: int | None,
    blackout_day: int | None = None,
    conditions: Conditions = DESCRIBED,
) -> Climate:
    """Weather and power from ``first`` to ``last`` (days since 1970-01-01, both included)."""
    grid, blackout = _power(aside(rng, "power"), first, last, blackout_day)
    days = np.arange(first - SPIN_UP_DAYS, last + 1)
    years = range(_date(int(days[0])).year - 1, _date(last).year + 2)
    wetness = {y: float(rng.normal(1.0, 0.15)) for y in years}
    onset = {y: float(rng.normal(0.0, 10.0)) for y in years}
    year = np.array([_date(int(d)).year for d in days])
    season = rainy(days - np.array([onset[y] for y in year]).round().astype(np.int64))
    rains = rng.random(days.size) < 0.05 + 0.5 * season
    rain = rains * rng.gamma(1.2, 0.16, days.size) * np.array([wetness[y] for y in year])
    rain *= conditions.wetness
    event = np.zeros(days.size)
    if regional_day is not None:
        event = np.clip((days - regional_day + 1) / REGIONAL_RAMP_DAYS, 0, 1)
    moods = wander(rng, (days.size,), 0.04, 40)
    moisture, greenness = [], []
    for inside in (0.0, 1.0):
        water = _leaky(rain * (1 - REGIONAL_RAIN * inside * event), 14.0) * 14.0
        soil = 1 - np.exp(-water)
        plants = _leaky(_leaky(soil, 20.0), 12.0)
        green = np.clip(0.12 + 1.05 * plants + moods, 0, 1) * (1 - REGIONAL_GREENNESS * inside * event)
        moisture.append(soil[SPIN_UP_DAYS:])
        greenness.append(green[SPIN_UP_DAYS:])
    return Climate(
        first=first,
        moisture=np.stack(moisture),
        greenness=np.stack(greenness),
        regional=event[SPIN_UP_DAYS:],
        showers=wander(rng, (last - first + 1, 4, 5), 0.05 * conditions.mismatch, 6),
        crop_shift={y: onset[y] + float(rng.normal(0, 6)) for y in years},
        crop_vigour={y: float(np.clip(0.5 + 0.5 * wetness[y], 0.7, 1.2)) for y in years},
        grid=grid,
        blackout=blackout,
    )


def _power(
    rng: np.random.Generator, first: int, last: int, blackout_day: int | None
) -> tuple[Float64, tuple[int, int] | None]:
    """Power of the regional grid day by day, with short cuts, and the blackout if there is one."""
    n_days = last - first + 1
    power = np.ones(n_days)
    for _ in range(int(rng.poisson(CUTS_PER_YEAR * n_days / 365.25))):
        begin, length = int(rng.integers(n_days)), int(rng.integers(CUT_DAYS[0], CUT_DAYS[1] + 1))
        power[begin : begin + length] *= rng.uniform(*CUT_LEFT)
    if blackout_day is None:
        return power, None
    ends = min(last, blackout_day + int(rng.integers(BLACKOUT_DAYS[0], BLACKOUT_DAYS[1] + 1)) - 1)
    power[blackout_day - first : ends - first + 1] *= rng.uniform(*BLACKOUT_LEFT)
    return power, (blackout_day, ends)


def _leaky(values: Float64, days: float) -> Float64:
    """Running mean with a memory of ``days``."""
    fade = float(np.exp(-1 / days))
    return np.asarray(lfilter([1 - fade], [1, -fade], values))


def rice(day: int, weather: Climate, phase: Float32, vigour: Float32) -> tuple[Float32, Float32]:
    """Green and flooded share of rice fields whose planting is ``phase`` days late and whose stand is ``vigour``.

    Fields are flooded in July and August, green until November, stubble until the rains.
    """
    year = _date(day).year
    in_year = day - day_number(dt.date(year, 1, 1)) - phase - weather.crop_shift[year]
    green = vigour * weather.crop_vigour[year] * _bump(in_year, 268.0, 46.0)
    return np.clip(green, 0, 1), 0.7 * _bump(in_year, 205.0, 17.0)


def _bump(x: Float32, centre: float, width: float) -> Float32:
    return np.asarray(np.exp(-0.5 * ((x - centre) / width) ** 2), dtype=np.float32)


def _date(day: int) -> dt.date:
    return dt.date(1970, 1, 1) + dt.timedelta(days=day)
