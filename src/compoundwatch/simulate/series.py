"""Series of single pixels with known truth, without pictures: for testing what finds changes in them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import numpy.typing as npt

from compoundwatch.errors import SettingsError

DAYS_PER_YEAR = 365.25
FIRST_DAY = (dt.date(2023, 1, 2) - dt.date(1970, 1, 1)).days


def pixel_series(
    rng: np.random.Generator,
    n_pixels: int,
    *,
    step: float = 0.0,
    step_day: int | None = None,
    season: float = 0.15,
    noise: float = 0.03,
    gap_fraction: float = 0.3,
    n_dates: int = 120,
    years: float = 3.0,
    level: float = 0.5,
    memory: float = 0.0,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Series that look like a vegetation index: level + yearly season + noise, with or without a lasting step.

    Parameters
    ----------
    n_pixels : number of pixels; each has its own level (sd 0.05), amplitude (0.5 to 1.5 times ``season``) and noise.
    step : what is added from ``step_day`` on; 0 = nothing ever changes.
    step_day : day since 1970-01-01; None = the middle of the series.
    season, noise : amplitude of the season and standard deviation of the noise, unit of the index.
    gap_fraction : share of values that are missing (NaN), 0 to 1, independently: below 1 each pixel has some.
    n_dates, years : dates at unequal distances, the first on 2023-01-02, within ``years``.
    level : mean of the levels.
    memory : correlation of the noise from one date to the next, 0 (independent) to below 1.

    Returns
    -------
    values float32 (n_dates, n_pixels), NaN = no view, and days int64 (n_dates,), strictly increasing, since 1970-01-01.

    Raises
    ------
    SettingsError : a size is out of range.
    """
    span = round(years * DAYS_PER_YEAR)
    if n_pixels < 1 or n_dates < 2 or span < n_dates:
        raise SettingsError(
            f"expected pixels, and 2 to {span} dates in {years:g} years, found {n_pixels} and {n_dates}"
        )
    if not (0 <= gap_fraction <= 1 and 0 <= memory < 1 and noise >= 0):
        raise SettingsError("expected gap_fraction from 0 to 1, memory from 0 to below 1 and noise not below 0")
    spacing = span / n_dates
    jitter = rng.integers(0, max(1, int(spacing)), n_dates)
    days = np.asarray(FIRST_DAY + np.floor(np.arange(n_dates) * spacing) + jitter, dtype=np.int64)
    phase = rng.normal(0.6, 0.05, n_pixels)
    amplitude = season * rng.uniform(0.5, 1.5, n_pixels)
    wave = np.cos(2 * np.pi * (days[:, None] / DAYS_PER_YEAR - phase))
    values = rng.normal(level, 0.05, n_pixels) + amplitude * wave
    shocks = rng.standard_normal((n_dates, n_pixels))
    for k in range(1, n_dates if memory else 0):
        shocks[k] = memory * shocks[k - 1] + np.sqrt(1 - memory**2) * shocks[k]
    values += noise * shocks
    if step:
        begin = int(days[0] + days[-1]) // 2 if step_day is None else step_day
        values[days >= begin] += step
    values[rng.random(values.shape) < gap_fraction] = np.nan
    return values.astype(np.float32), days
