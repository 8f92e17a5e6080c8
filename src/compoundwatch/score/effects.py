"""A site against its controls: how far, when, and how surely one measurement moved.

The difference between a site and the median of its controls is modelled as white noise plus slowly wandering noise
(an Ornstein-Uhlenbeck process), with an unknown level, a yearly season, an imperfect copy of what moves the controls,
and a small shift at the end of the reference period, where the fitted season stops being fitted. Once that noise is
whitened, a change is a template (step, ramp, pulse) at a date, and its size and likelihood are those of a straight
line fit (generalised least squares; Aitken 1936, doi:10.1017/S0370164600014346).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dpttrf, dpttrs
from scipy.optimize import nnls
from scipy.stats import norm

from compoundwatch.formulas import DAYS_PER_YEAR, MAD_TO_SIGMA

Float64 = npt.NDArray[np.float64]

WANDER_DAYS: Mapping[str, float] = {"optical": 60.0, "radar": 60.0, "lights": 40.0}
"""Correlation time of the wandering noise, by kind of sensor."""
CONTROL_REACH_DAYS = 3
"""A control counts at a date of the site when it was seen at most so many days away."""
SHIFT, ENERGY_SHIFT = 0.5, 1.5
"""Expected shift where the fitted season stops being fitted, in white-noise units; products of two residuals move more
than their mean."""
MIN_CONTROLS = 2
MIN_BEFORE, MIN_AFTER = 8, 3
"""Dates that one measurement needs before the end of the reference period, and from a change on to speak of it: one
hazy view, or two, must not."""
TAU_STEP = 3
"""Spacing in days of the dates that are tried for a change."""
DRAWS = 2000
"""Simulated series without a change, for the distribution of the largest step."""

SHAPES: Mapping[str, tuple[str, ...]] = {
    "step": ("step",),
    "sudden": ("step", "ramp45"),
    "gradual": ("ramp30", "ramp60", "ramp120"),
    "regrowth": ("regrowth",),
    "pulse": ("pulse45", "pulse60", "pulse90", "pulse120", "pulse150", "pulse200"),
    "dark": ("step", "pulse60", "pulse150"),
    "outage": ("pulse6", "pulse15", "pulse30"),
}
"""Templates that stand for one way of changing; a class of change is asked for by the way."""


@dataclass(frozen=True)
class Evidence:
    """What one measurement says, ready for any template.

    ``days`` int64 (n,), ``difference`` float64 (n,) in units of ``white`` (the white noise of the site), ``taus``
    int64 (m,) dates tried. ``fits`` maps a template to (a, b), each float64 (m,): a = T'K⁻¹y, b = T'K⁻¹T, so that the
    size of the change is a/b with standard error 1/sqrt(b); where too few dates follow to tell, a = 0 and b = 1e-12.
    ``p_value`` is None for persistent energies (``_up``, ``_down``): they are products with heavy tails, for which a
    normal p-value would promise too much. ``kind`` is that of the sensor, ``look`` the viewing geometry, ``own_share``
    (0-1) how much of what was measured is the site's own.
    """

    sensor: str
    kind: str
    look: str
    feature: str
    days: npt.NDArray[np.int64]
    difference: Float64
    white: float
    taus: npt.NDArray[np.int64]
    fits: Mapping[str, tuple[Float64, Float64]]
    p_value: float | None
    n_controls: int
    n_before: int
    n_after: int
    pre_trend_p: float | None
    own_share: float = 1.0

    @property
    def measure(self) -> str:
        """Kind of sensor and feature, the name that ``parameters.toml`` knows."""
        return f"{self.kind}.{self.feature}"

    @property
    def key(self) -> str:
        """Sensor, look and feature: one measurement of one site."""
        return f"{self.sensor} {self.look} {self.feature}"


def difference(
    site: pd.Series, controls: Sequence[pd.Series], weighted_before: int | None = None
) -> tuple[npt.NDArray[np.int64], Float64, Float64, list[Float64]]:
    """Line up a site with its controls by day.

    Parameters
    ----------
    site, controls : values (feature unit) indexed by day since 1970-01-01, NaN = not measured.
    weighted_before : compare with the mean of the controls that ran most like the site before this day; None = with
        their median.

    Returns
    -------
    days int64 (n,), site minus the middle of its controls float64 (n,), that middle (n,; zeros without controls), and
    per control its value minus the median of the other controls (n,; NaN where it was not measured).
    """
    days, values = _known(site)
    table = np.array([_at(*_known(c), days) for c in controls]).reshape(len(controls), len(days))
    if len(controls) < MIN_CONTROLS:
        return days, values, np.zeros_like(values), []
    enough = np.isfinite(table).sum(axis=0) >= MIN_CONTROLS
    days, values, table = days[enough], values[enough], table[:, enough]
    centre = _middle(table)
    if weighted_before is not None:
        filled = np.where(np.isfinite(table), table, centre)
        centre = synthetic_weights(values, filled, days < weighted_before) @ filled
    others = [table[k] - _middle(np.delete(table, k, axis=0)) for k in range(len(controls))]
    return days, values - centre, centre, others


def _middle(table: Float64) -> Float64:
    """Median of each column's numbers, NaN where there are none; ``np.nanmedian`` takes 30 times as long."""
    if not table.size:
        return np.full(table.shape[1], np.nan)
    ordered, count = np.sort(table, axis=0), np.isfinite(table).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(table) - 1)
    column = np.arange(table.shape[1])
    return np.asarray((ordered[low, column] + ordered[high, column]) / 2)


def synthetic_weights(values: Float64, table: Float64, used: npt.NDArray[np.bool_]) -> Float64:
    """Weights, none negative and their sum 1, with which the mean of the controls ran most like the site.

    A lasting distance between the two does not count. Source: synthetic controls (Abadie, Diamond and Hainmueller
    2010, doi:10.1198/jasa.2009.ap08746), by non-negative least squares.

    Parameters
    ----------
    values : float64 (n,), the site. table : float64 (controls, n), no NaN. used : bool (n,), dates that count.

    Returns
    -------
    float64 (controls,); equal weights where no date counts.
    """
    count = len(table)
    if not used.any():
        return np.full(count, 1 / count)
    y = values[used] - values[used].mean()
    x = table[:, used] - table[:, used].mean(axis=1, keepdims=True)
    heavy = 1e3 * float(np.sqrt((x**2).sum() / count + (y**2).sum()) + 1e-9)  # makes the sum 1, but for a millionth
    weights, _ = nnls(np.vstack([x.T, np.full(count, heavy)]), np.append(y, heavy))
    return np.asarray(weights / weights.sum())


def _known(series: pd.Series) -> tuple[npt.NDArray[np.int64], Float64]:
    """Days and values of what was measured."""
    values = series.to_numpy(dtype=np.float64)
    known = np.isfinite(values)
    return series.index.to_numpy(dtype=np.int64)[known], values[known]


def _at(own: npt.NDArray[np.int64], values: Float64, days: npt.NDArray[np.int64]) -> Float64:
    """A control's values at the site's days, from its nearest view at most CONTROL_REACH_DAYS away, else NaN."""
    out = np.full(days.size, np.nan)
    if own.size == 0:
        return out
    right = np.minimum(np.searchsorted(own, days), own.size - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(own[left] - days) <= np.abs(own[right] - days), left, right)
    near = np.abs(own[nearest] - days) <= CONTROL_REACH_DAYS
    out[near] = values[nearest[near]]
    return out


def noise(days: npt.NDArray[np.int64], values: Float64, wander_days: float = 60.0) -> tuple[float, float]:
    """White and wandering standard deviation of a series without change, by maximum likelihood over their ratio.

    The wandering noise is a Markov process, so the inverse of its correlation matrix is tridiagonal and a likelihood
    costs no more than a few passes over the series.

    Parameters
    ----------
    days : int64 (n,), strictly increasing. values : float64 (n,), no NaN. wander_days : correlation time.
    """
    y = values - np.median(values)
    fade = np.exp(-np.diff(days) / wander_days)
    fresh = 1 / (1 - fade**2)
    beside = -fade * fresh
    diagonal = np.ones(days.size)
    diagonal[1:] += fresh - 1
    diagonal[:-1] += fade**2 * fresh
    diagonal[0] = 1 + (fade[0] ** 2 * fresh[0] if fresh.size else 0.0)
    through = diagonal * y
    through[:-1] += beside * y[1:]
    through[1:] += beside * y[:-1]
    best: tuple[float, float, float] | None = None
    for share in (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7):
        pivots, multipliers, _ = dpttrf((1 - share) * diagonal + share, (1 - share) * beside)
        solved, _ = dpttrs(pivots, multipliers, y)
        scale = float(through @ solved) / y.size + 1e-18
        determinant = float(np.log(pivots).sum() - np.log(fresh).sum())
        likelihood = -0.5 * (y.size * np.log(scale) + determinant)
        if best is None or likelihood > best[0]:
            best = (likelihood, float(np.sqrt(scale * (1 - share))), float(np.sqrt(scale * share)))
    assert best is not None
    return best[1], best[2]


def winsorise(values: Float64, width: int = 9, limit: float = 3.5) -> Float64:
    """Pull ``values`` (dates,) beyond ``limit`` robust standard deviations of a running median back to that limit."""
    half = width // 2
    padded = np.pad(values, half, mode="edge")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    rest = values - middle
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(rest))) + 1e-12
    return np.asarray(middle + np.clip(rest, -limit * sigma, limit * sigma))


def dates_to_try(days: Sequence[int], reference_end: int, min_after: int) -> npt.NDArray[np.int64]:
    """Days (n,), int64 since 1970-01-01, at which a change is looked for: until ``min_after`` usable days are left."""
    after = [d for d in days if d >= reference_end]
    if len(after) < min_after:
        return np.zeros(0, dtype=np.int64)
    return np.arange(reference_end, after[-min_after] + 1, TAU_STEP, dtype=np.int64)


def templates(days: npt.NDArray[np.int64], taus: npt.NDArray[np.int64]) -> dict[str, Float64]:
    """Unit changes at every date tried: name -> float64 (n_days, n_taus)."""
    since = (days[:, None] - taus[None, :]).astype(np.float64)
    after = (since >= 0).astype(np.float64)
    shapes = {"step": after, "ramp45": np.clip((since + 10) / 45, 0, 1) * after}
    shapes |= {f"ramp{d}": np.clip(since / d, 0, 1) for d in (30, 60, 120)}
    shapes |= {f"pulse{d}": after * (since < d) for d in (6, 15, 30, 45, 60, 90, 120, 150, 200)}
    shapes["regrowth"] = np.clip((since - 20) / 180, 0, 1)
    return shapes


def evidence(
    sensor: str,
    kind: str,
    look: str,
    feature: str,
    site: pd.Series,
    controls: Sequence[pd.Series],
    reference_end: int,
    taus: npt.NDArray[np.int64],
    rng: np.random.Generator,
    own_share: float = 1.0,
    weighted: bool = False,
) -> Evidence | None:
    """Whiten a site's difference to its controls and fit every template at every date; None with too few dates.

    Parameters
    ----------
    site, controls : values (feature unit) indexed by day since 1970-01-01, NaN = not measured.
    reference_end : first day that may hold a change.
    taus : int64 (m,), dates to try for a change, the same for all measurements of a site.
    rng : source of the simulated series for the p-value.
    own_share : how much (0-1) of what was measured is the site's own.
    weighted : compare with a weighted mean of the controls instead of their median.
    """
    days, raw, centre, placebos = difference(site, controls, reference_end if weighted else None)
    n_before, n_after = int((days < reference_end).sum()), int((days >= reference_end).sum())
    if n_before < MIN_BEFORE or n_after < MIN_AFTER:
        return None
    y = winsorise(raw)
    wander_days = WANDER_DAYS[kind]
    white, wander = _pooled_noise(days, y, placebos, reference_end, wander_days)
    y, wander = y / white, wander / white
    centre = (centre - np.median(centre)) / white
    covariance = np.eye(days.size) + wander**2 * np.exp(-np.abs(days[:, None] - days[None, :]) / wander_days)
    season = 2 * np.pi * days / DAYS_PER_YEAR
    nuisances = [np.full(days.size, 10.0), 0.7 * np.cos(season), 0.7 * np.sin(season)]
    energy = feature.endswith(("_up", "_down"))
    nuisances += [(ENERGY_SHIFT if energy else SHIFT) * (days >= reference_end), 0.25 * _smooth(centre)]
    for column in nuisances:
        covariance += np.outer(column, column)
    factor = cholesky(covariance + 1e-9 * np.eye(days.size), lower=True)
    shapes = templates(days, taus)
    whitened = solve_triangular(factor, np.column_stack([y, *shapes.values()]), lower=True)
    target, m = whitened[:, 0], taus.size
    told = days.size - np.searchsorted(days, taus) >= MIN_AFTER
    fits, step = {}, whitened[:, 1 : 1 + m]
    for k, name in enumerate(shapes):
        unit = whitened[:, 1 + k * m : 1 + (k + 1) * m]
        fits[name] = (told * (unit.T @ target), np.maximum(told * (unit**2).sum(axis=0), 1e-12))
    return Evidence(
        sensor=sensor,
        kind=kind,
        look=look,
        feature=feature,
        days=days,
        difference=y,
        white=white,
        taus=taus,
        fits=fits,
        p_value=None if energy else _scan_p(step * told, fits["step"], rng),
        n_controls=len(placebos),
        n_before=n_before,
        n_after=n_after,
        pre_trend_p=_pre_trend(days, y, covariance, reference_end),
        own_share=own_share,
    )


def _pooled_noise(
    days: npt.NDArray[np.int64], y: Float64, placebos: Sequence[Float64], reference_end: int, wander_days: float
) -> tuple[float, float]:
    """Noise of the site's own reference period, steadied by that of its controls against one another."""
    before = days < reference_end
    own_white, own_wander = noise(days[before], y[before], wander_days)
    others = []
    for placebo in placebos:
        known = np.isfinite(placebo)
        if known.sum() >= 20:
            others.append(noise(days[known], winsorise(placebo[known]), wander_days))
    if not others:
        # Without controls nobody shares the weather, so slow wandering must be expected to be larger.
        return max(own_white, 1e-9), max(1.5 * own_wander, 0.3 * own_white)
    white = max(0.5 * own_white + 0.5 * float(np.median([w for w, _ in others])), 1e-9)
    return white, max(float(np.median([o for _, o in others])), 0.7 * own_wander, 0.15 * white)


def _smooth(values: Float64, width: int = 5) -> Float64:
    """Running median: the controls' own noise must not enter the model of what they share with the site."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1))


def _scan_p(step: Float64, fit: tuple[Float64, Float64], rng: np.random.Generator) -> float:
    """Chance that the largest standardised step over all dates is as large without a change.

    The distribution comes from simulated white noise seen through the same templates; beyond its reach the tail of as
    many independent tests as fit the simulated maxima is used.
    """
    a, b = fit
    observed = float(np.max(np.abs(a) / np.sqrt(b)))
    unit = step / np.sqrt(b)
    maxima = np.abs(rng.standard_normal((DRAWS, step.shape[0])) @ unit).max(axis=1)
    counted = (1 + int((maxima >= observed).sum())) / (1 + DRAWS)
    if counted > 20 / DRAWS:
        return counted
    # P(max > z) = 1 - (1 - 2 sf(z))^n; n from the simulated 95 % point.
    level = float(np.quantile(maxima, 0.95))
    n = np.log(0.95) / np.log1p(-2 * norm.sf(level))
    return float(-np.expm1(n * np.log1p(-2 * norm.sf(observed))))


def _pre_trend(days: npt.NDArray[np.int64], y: Float64, covariance: Float64, reference_end: int) -> float | None:
    """Did site and controls run parallel before? p-value of a straight trend in the reference period."""
    before = days < reference_end
    if before.sum() < 8:
        return None
    factor = cholesky(covariance[np.ix_(before, before)] + 1e-9 * np.eye(int(before.sum())), lower=True)
    trend = (days[before] - days[before].mean()) / DAYS_PER_YEAR
    w = solve_triangular(factor, np.column_stack([y[before], trend]), lower=True)
    z = float(w[:, 1] @ w[:, 0] / np.sqrt(w[:, 1] @ w[:, 1]))
    return float(2 * norm.sf(abs(z)))
