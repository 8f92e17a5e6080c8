"""Does it hold? How long the stillness of emptied sites lasts, from what was said of them on several days.

Kaplan and Meier (1958, doi:10.1080/01621459.1958.10501452) with Greenwood's variance and an interval on the scale of
log(-log S), which stays between 0 and 1 (Kalbfleisch and Prentice 2002, doi:10.1002/9781118032985). Sites that are
still when they were last judged are censored on the right. Nobody sees the first and last day themselves, so durations
are known within an interval: they are drawn from it many times and the curves averaged, the spread between draws added
to the variance (multiple imputation: Rubin 1987, doi:10.1002/9780470316696; for interval-censored durations Pan 2000,
doi:10.1111/j.0006-341X.2000.00199.x). Without intervals this is the ordinary Kaplan-Meier estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from scipy.stats import norm

from compoundwatch.model import BoolArray, Holding, SiteState, Spell, State
from compoundwatch.score.dates import Float64, day_number

HELD_FOR = (30, 60, 90, 180, 365)
"""Days for which the share of sites that stay still is asked."""
BACK_REACH_DAYS = 25
"""A return is dated by a few lengths of the pause, at most 50 days apart: ``back_date`` may be off by half of that."""
DRAWS = 200
"""Draws of the durations that are known within an interval only."""


def spells(history: Sequence[SiteState]) -> tuple[tuple[Spell, ...], tuple[str, ...]]:
    """The stillness of each site, from all that was ever said of it.

    A spell begins with the change date of the last EMPTIED or REOCCUPIED statement of a site, because later runs know
    more. It ended where that statement is REOCCUPIED: within BACK_REACH_DAYS of its ``back_date``, else at any time
    between the change and the day of the statement. It is open where that statement is EMPTIED: later statements that
    see nothing end the watch, not the spell, and so do construction and demolition, which are another story. A site
    called EMPTIED and later UNCHANGED has its statement withdrawn.

    Parameters
    ----------
    history : states of any sites and days, in any order; of two of one day the later in the sequence counts.

    Returns
    -------
    Spells in the order of the site ids, and the ids of the sites whose statement was withdrawn.
    """
    found: list[Spell] = []
    withdrawn: list[str] = []
    ordered = sorted(history, key=lambda s: (s.site_id, s.as_of))
    for site_id, group in groupby(ordered, key=lambda s: s.site_id):
        told = list(group)
        still = [k for k, s in enumerate(told) if s.state in (State.EMPTIED, State.REOCCUPIED) and s.change_date]
        if not still:
            continue
        if any(s.state is State.UNCHANGED for s in told[still[-1] :]):
            withdrawn.append(site_id)
        else:
            found.append(_spell(told[still[-1]]))
    return tuple(found), tuple(withdrawn)


def _spell(state: SiteState) -> Spell:
    began = state.change_date
    assert began is not None
    low, high = (day_number(d or began) for d in (state.change_date_earliest, state.change_date_latest))
    judged = day_number(state.as_of)
    ended = state.state is State.REOCCUPIED
    first = last = judged
    if ended:
        back = day_number(state.back_date) if state.back_date else None
        first = high if back is None else back - BACK_REACH_DAYS
        last = judged if back is None else min(judged, back + BACK_REACH_DAYS)
    return Spell(
        site_id=state.site_id,
        began=began,
        ended=ended,
        revived=state.back_date if ended else None,
        last_judged=state.as_of,
        shortest=float(max(0, first - high)),
        longest=float(max(0, last - low)),
    )


def survival(durations: Float64, ended: BoolArray, days: Sequence[float]) -> tuple[Float64, Float64, Float64]:
    """Kaplan-Meier share that lasts longer than each of ``days``, its variance by Greenwood, and the number at risk.

    Parameters
    ----------
    durations : float64 (n,), days. ended : bool (n,), False = censored on the right at that duration.
    days : days asked for.

    Returns
    -------
    share, variance, at risk (sites not ended or censored before that day): float64 (len(days),) each.
    """
    times = np.unique(durations[ended])
    at_risk = (durations[None, :] >= times[:, None]).sum(axis=1)
    deaths = ((durations[None, :] == times[:, None]) & ended[None, :]).sum(axis=1)
    share = np.concatenate([[1.0], np.cumprod(1 - deaths / at_risk)])
    alive = at_risk - deaths
    terms = np.where(alive > 0, deaths / (at_risk * np.maximum(alive, 1)), 0.0)
    variance = share**2 * np.concatenate([[0.0], np.cumsum(terms)])
    place = np.searchsorted(times, np.asarray(days, dtype=np.float64), side="right")
    followed = (durations[None, :] >= np.asarray(days)[:, None]).sum(axis=1).astype(np.float64)
    return share[place], variance[place], followed


def holding(
    found: Sequence[Spell],
    rng: np.random.Generator,
    days: Sequence[int] = HELD_FOR,
    level: float = 0.9,
    draws: int = DRAWS,
) -> Holding | None:
    """Share of still sites that stay still for so many days; None without spells.

    Where no spell has ended, the interval is that of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404) for the
    sites followed so long: none of n says something of n sites, not of one. Beyond the longest spell it is open.

    Parameters
    ----------
    rng : source of the draws of durations within their intervals.
    """
    if not found:
        return None
    low = np.array([s.shortest for s in found])
    high = np.array([s.longest for s in found])
    ended = np.array([s.ended for s in found])
    wide = high > low + 1
    n = draws if wide.any() else 1
    drawn = low + (high - low) * (rng.random((n, low.size)) if n > 1 else np.full((1, low.size), 0.5))
    curves = [survival(row, ended, days) for row in drawn]
    shares, variances, at_risk = (np.array([c[k] for c in curves]) for k in range(3))
    share, followed = shares.mean(axis=0), at_risk.mean(axis=0)
    total = variances.mean(axis=0) + (1 + 1 / n) * (shares.var(axis=0, ddof=1) if n > 1 else 0.0)
    bounds = [_bounds(*values, level) for values in zip(share, total, followed, strict=True)]
    medians = [_median(row, ended) for row in drawn]
    return Holding(
        days=tuple(days),
        share=tuple(float(s) for s in share),
        low=tuple(b[0] for b in bounds),
        high=tuple(b[1] for b in bounds),
        at_risk=tuple(float(f) for f in followed),
        level=level,
        median_days=float(np.median(medians)) if np.isfinite(np.median(medians)) else None,
        n_sites=len(found),
        n_ended=int(ended.sum()),
        n_interval_censored=int(wide.sum()),
    )


def _bounds(share: float, variance: float, at_risk: float, level: float) -> tuple[float | None, float | None]:
    if share >= 1:
        n = int(at_risk)
        return (((1 - level) / 2) ** (1 / n) if n else None), (1.0 if n else None)
    if share <= 0:
        return None, None
    # d log(-log S) = dS / (S log S)
    reach = float(norm.isf((1 - level) / 2)) * np.sqrt(variance) / abs(share * np.log(share))
    return float(share ** np.exp(reach)), float(share ** np.exp(-reach))


def _median(durations: Float64, ended: BoolArray) -> float:
    """First day on which half or fewer are still; infinite where more than half are to the end."""
    times = np.unique(durations[ended])
    reached = np.flatnonzero(survival(durations, ended, times.tolist())[0] <= 0.5 + 1e-12)
    return float(times[reached[0]]) if reached.size else np.inf


def revival_text(spell: Spell) -> str:
    """One sentence on one spell, in fixed words."""
    if not spell.ended:
        return (
            f"Still since about {spell.began}, last judged on {spell.last_judged}: {spell.shortest:.0f} to "
            f"{spell.longest:.0f} days so far."
        )
    when = f"on about {spell.revived}" if spell.revived else f"by {spell.last_judged}"
    return (
        f"Consistent with activity that fell about {spell.began} and came back {when}, after {spell.shortest:.0f} to "
        f"{spell.longest:.0f} days."
    )
