"""A list of many sites: what can be said of all of them together, and of each against the announced raids.

Needs nothing: it makes up a list of six sites with controls that they share, and the raids announced there. Prints how
many sites each state is consistent with, of how many nothing can be said, and what holds before and after the raids.
Give your own list and events instead, and imagery is fetched from public catalogues, without an account:

    python examples/country_list.py [SITES.geojson --events EVENTS.csv] [--out country] [--revisit-days 8]
"""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

import numpy as np

import compoundwatch as cw
from compoundwatch import simulate

START, END = dt.date(2023, 1, 2), dt.date(2025, 6, 30)
STORIES = ("demolished", "demolished", "building", "emptied", "unchanged", "unchanged")


def main() -> None:
    """Watch the list, then sum up: of sites that could not be seen nothing is said."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sites", type=Path, nargs="?", help="your own list; default: a made-up one")
    parser.add_argument("--events", type=Path, help="dated, sourced events of your own list")
    parser.add_argument("--out", type=Path, default=Path("country"), help="new or empty folder")
    parser.add_argument("--revisit-days", type=int, default=8, help="days from one made-up image to the next")
    given = parser.parse_args()
    sites, events, imagery, span = given.sites, given.events, [], {}
    if sites is None:
        rng = np.random.default_rng(2)
        size = {"revisit_days": given.revisit_days, "site_m": (110.0, 150.0), "controls": 4, "regional_controls": 1}
        made = simulate.simulate(given.out / "imagery", rng, scenarios=STORIES, start=START, end=END, **size)
        sites, events, imagery, span = made.areas, made.events, [made.folder], {"start": START, "end": END}
    result = cw.watch(sites, events=events, catalog=imagery, out=given.out / "result", **span)
    for state in sorted(result.states, key=lambda s: -(s.score or 0)):
        print(f"{state.site_id}: {state.state}, score {state.score or 0:.0f}")
    summary = cw.summarise([given.out / "result"])
    print(f"\n{summary.sentence}\n{summary.caveat}\n")
    for state, count in summary.counts.items():
        print(f"{state}: {count.low} to {count.high} of {count.of}, and at most {count.at_most} of {summary.n_sites}")
    for about in summary.events:
        print(f"\n{about.event.event_id}: {about.sentence}")


if __name__ == "__main__":
    main()
