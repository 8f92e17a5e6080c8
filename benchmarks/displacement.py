"""How often the displacement test speaks: where nothing happened, where half of it happened, and where all of it did.

Made-up differences of sites to their controls, five sites of an event and seven others, 1,000 days in spans of ten. The
noise is white (standard deviation 0.5) plus one that wanders (1, autocorrelation 0.8 from span to span); "together":
the sites of each group also share a wandering noise as large. Prints the share of p-values up to 0.05.

    python benchmarks/displacement.py [worlds]
"""

from __future__ import annotations

import datetime as dt
import sys

import numpy as np
from shapely.geometry import box

from compoundwatch.model import Event, Role, Site
from compoundwatch.score import displacement
from compoundwatch.score.displacement import DisplacementSettings, of_panel
from compoundwatch.score.panel import Panel

STARTS = np.arange(0, 1000, 10)
EVENT, TREATED = 700, 5
NAMES = tuple(f"s{k}" for k in range(12))
SITES = [Site(n, n, Role.SITE, box(103 + 0.1 * k, 10, 103.01 + 0.1 * k, 10.01)) for k, n in enumerate(NAMES)]
DAY = dt.date(1970, 1, 1) + dt.timedelta(days=EVENT)
RAID = Event("raid", DAY, DAY, "", NAMES[:TREATED], "raid", "", "", "")


def wandering(rng: np.random.Generator) -> np.ndarray:
    out = np.empty(STARTS.size)
    out[0] = rng.normal()
    for k in range(1, out.size):
        out[k] = 0.8 * out[k - 1] + 0.6 * rng.normal()
    return out


def world(rng: np.random.Generator, fall: float, rise: float, together: bool) -> Panel:
    values = 0.5 * rng.normal(size=(len(NAMES), STARTS.size)) + np.array([wandering(rng) for _ in NAMES])
    if together:
        values[:TREATED] += wandering(rng)
        values[TREATED:] += wandering(rng)
    values[:TREATED] -= fall * (STARTS >= EVENT - 10)
    values[TREATED:] += rise * (STARTS >= EVENT + 20)
    return Panel("made-up", NAMES, STARTS, 10, values)


def main(worlds: int) -> None:
    displacement.LAG_DRAWS = 5  # the interval of the lag is not looked at here
    settings = DisplacementSettings(draws=199)
    print(f"{'planted':34s} {'fall':>6s} {'rise':>6s} {'labels':>6s} {'all':>6s}   ({worlds} worlds)")
    for fall, rise, together in (
        (0, 0, False), (0, 0, True), (3, 0, False), (0, 3, False), (3, 0, True),
        (1, 1, False), (1.5, 1.5, False), (2, 2, False),
    ):  # fmt: skip
        rng = np.random.default_rng(1)
        found = [of_panel(world(rng, fall, rise, together), SITES, RAID, rng, settings) for _ in range(worlds)]
        shares = [np.mean([getattr(f, n) <= 0.05 for f in found]) for n in ("p_fall", "p_rise", "p_labels", "p_value")]
        name = f"fall {fall}, rise {rise}" + (", together" if together else "")
        print(f"{name:34s} " + " ".join(f"{s:6.3f}" for s in shares), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
