"""Why a site got the answer it got: what each measurement said, and what the answer would be without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compoundwatch.errors import SettingsError
from compoundwatch.model import Site, SiteState, State, nearest
from compoundwatch.outputs.reading import StoredWatch, read_watch
from compoundwatch.pipeline.judging import judged_again

CENTRES = {
    "weighted": "the median of its controls (a weighted mean of them instead)",
    "median": "the weighted mean of its controls (their median instead)",
}
"""What is left out when a site is compared with the other middle of its controls."""


@dataclass(frozen=True)
class Explanation:
    """The answer for a site taken apart.

    ``without`` maps what was left out ("sensor ...", "its controls", one of CENTRES) to the state that the rest gives.
    ``left_out`` are the reasons why scenes of this site were not used, with how many of each, most frequent first.
    """

    site: Site
    state: SiteState
    without: dict[str, SiteState]
    left_out: tuple[tuple[str, int], ...]

    @property
    def by_sensor(self) -> dict[str, float]:
        """What each sensor adds to the log odds of the state, or of the likeliest change, against no change."""
        totals: dict[str, float] = {}
        for name, value in self.state.contributions.items():
            sensor = name.split(" ", 1)[0]
            totals[sensor] = totals.get(sensor, 0.0) + value
        return totals

    @property
    def about(self) -> State | None:
        """The state that the contributions speak of: the one that was called, or else the likeliest change."""
        changes = {s: p for s, p in self.state.probability.items() if s is not State.UNCHANGED}
        if self.state.state in changes and self.state.state is not State.NOT_OBSERVABLE:
            return self.state.state
        return max(changes, key=lambda s: changes[s]) if changes else None


def explain(folder: Path | str, site_id: str, seed: int = 0) -> Explanation:
    """Take the answer for one site of a result folder apart.

    Parameters
    ----------
    folder : result of ``watch``.
    site_id : one of its sites.
    seed : seed of the simulated series behind the p-values.

    Raises
    ------
    SettingsError : the folder holds no result, or no such site.
    """
    stored = read_watch(Path(folder))
    sites = {s.site_id: s for s in stored.area.targets}
    if site_id not in sites:
        close = nearest(site_id, sites)
        hint = f"; did you mean '{close}'?" if close else f"; its sites are {', '.join(sites)}"
        raise SettingsError(f"{folder}: there is no site '{site_id}' in this result{hint}")
    site = sites[site_id]
    said = next(s for s in reversed(stored.states) if s.site_id == site_id)
    scoring = stored.settings.score
    without = {
        f"sensor {name}": judged_again(stored, site, [n for n in said.sensors if n != name], scoring, seed)
        for name in (said.sensors if len(said.sensors) > 1 else ())
    }
    if said.n_controls:
        without["its controls"] = judged_again(stored, replace(site, controls=()), said.sensors, scoring, seed)
        other = "weighted" if scoring.centre == "median" else "median"
        swapped = scoring.model_copy(update={"centre": other})
        without[CENTRES[other]] = judged_again(stored, site, said.sensors, swapped, seed)
    return Explanation(site, said, without, _left_out(stored, site_id))


def _left_out(stored: StoredWatch, site_id: str) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for skipped in stored.skipped:
        if skipped.item_id.startswith(f"{site_id}: "):
            # Reasons differ by numbers only: "cloud cover 96 %" and "cloud cover 100 %" are one.
            reason = "".join("#" if c.isdigit() else c for c in skipped.reason)
            while "##" in reason:
                reason = reason.replace("##", "#")
            counts[reason] = counts.get(reason, 0) + 1
    return tuple(sorted(counts.items(), key=lambda row: -row[1]))


def describe_explanation(found: Explanation) -> dict[str, Any]:
    """An explanation as plain values (dates as ISO text, missing as None)."""
    return {
        "site_id": found.site.site_id,
        "name": found.site.name,
        "state": str(found.state.state),
        "reason": found.state.reason,
        "probability": {str(k): v for k, v in found.state.probability.items()},
        "about": str(found.about) if found.about else None,
        "log_odds_by_sensor": found.by_sensor,
        "log_odds": dict(found.state.contributions),
        "without": {
            name: {"state": str(s.state), "probability": {str(k): v for k, v in s.probability.items()}}
            for name, s in found.without.items()
        },
        "left_out": [{"reason": reason, "count": count} for reason, count in found.left_out],
    }


def explanation_text(found: Explanation) -> list[tuple[str, list[str]]]:
    """An explanation as headings with lines, for readers."""
    state = found.state
    parts = [(f"{found.site.name} ({found.site.site_id}): {state.state}", [state.reason])]
    if state.probability:
        likely = sorted(state.probability.items(), key=lambda row: -row[1])
        parts.append(("How probable each state is", [f"{p:.1%}  {s}" for s, p in likely if p >= 0.0005]))
    if state.contributions and found.about:
        lines = [f"{value:+6.1f}  {name}" for name, value in sorted(found.by_sensor.items(), key=lambda row: -row[1])]
        lines += [f"{v:+6.1f}      {name}" for name, v in sorted(state.contributions.items(), key=lambda row: -row[1])]
        parts.append((f"What speaks for {found.about} against no change (log odds; +3 is about 20 to 1)", lines))
    if found.without:
        lines = []
        for name, other in found.without.items():
            chance = other.probability.get(State.UNCHANGED)
            sure = "" if chance is None else f" (probability of a change {1 - chance:.0%})"
            lines.append(f"without {name}: {other.state}{sure}")
        parts.append(("What would change the answer", lines))
    if found.left_out:
        parts.append(("What was left out", [f"{count} x {reason}" for reason, count in found.left_out[:8]]))
    return parts
