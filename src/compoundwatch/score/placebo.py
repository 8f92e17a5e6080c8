"""Placebos in space: controls judged as if they were sites, to see how often nothing is taken for something.

A site's score is ranked among those of controls of the same area, each held against the others of its set. Controls
may have changes of their own, so the highest of their scores are left out; how many is fixed, not chosen by looking.
Source: inference by placebos (Abadie, Diamond and Hainmueller 2010, doi:10.1198/jasa.2009.ap08746, section 2.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest

from compoundwatch.model import AreaOfInterest, Role, Site
from compoundwatch.score.effects import MIN_CONTROLS

TRIMMED = 0.08
"""Share of the placebos, the highest, that is left out."""


def placebo_sites(area: AreaOfInterest, limit: int) -> tuple[Site, ...]:
    """Controls as if they were sites, each with the others of its set as controls: at most ``limit``.

    They are taken in turn from the sites, so that no place is asked twice before all were asked once.
    """
    return tuple(islice(_in_turn(area), max(0, limit)))


def _in_turn(area: AreaOfInterest) -> Iterator[Site]:
    asked: set[str] = set()
    for row in zip_longest(*(site.controls for site in area.targets)):
        for site, control in zip(area.targets, row, strict=True):
            others = tuple(c for c in site.controls if c != control)
            if control is not None and control not in asked and len(others) >= MIN_CONTROLS:
                asked.add(control)
                yield replace(area.by_id[control], role=Role.SITE, controls=others)


def placebo_p(score: float, placebos: Sequence[float]) -> float | None:
    """Chance that a place without a change scores as high: (1 + number as high) / (1 + number); None without placebos.

    Parameters
    ----------
    score : of the site, 0-100.
    placebos : scores of controls, untrimmed, 0-100.
    """
    kept = sorted(placebos)[: len(placebos) - int(TRIMMED * len(placebos))]
    return (1 + sum(p >= score for p in kept)) / (1 + len(kept)) if kept else None
