"""One site over five years: how it looked year by year beside its controls, and what is said of it.

Needs nothing: it makes up a place, seen every ten days from 2021 to 2025, where a site is built over. Prints, for each
year, the medians of two measurements at the site and at its controls; then the state of the site, the probability of
each state, and what was really built and when. Writes ``one-site/result``: open its ``report.html`` or ``watch.qgz``.

    python examples/one_site.py [--out one-site] [--revisit-days 10]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from pathlib import Path

import numpy as np

import compoundwatch as cw
from compoundwatch import simulate

START, END = dt.date(2021, 1, 1), dt.date(2025, 12, 31)
SHOWN = ("ndvi", "activity")


def year_by_year(result: cw.WatchResult) -> None:
    """Print yearly medians: one number of a site is weather, the same number beside its controls is a finding."""
    series = result.series[result.series["feature"].isin(SHOWN)]
    role = {site.site_id: str(site.role) for site in result.area.sites}
    series = series.assign(year=series["acquired"].dt.year, role=series["site_id"].map(role))
    table = series.pivot_table(index="year", columns=["feature", "role"], values="value", aggfunc="median")
    print(table.round(3).to_string(), end="\n\n")


def main() -> None:
    """Make a place up, watch it, and print what was found beside what is true."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("one-site"), help="new or empty folder")
    parser.add_argument("--revisit-days", type=int, default=10, help="days from one image to the next")
    given = parser.parse_args()
    made = simulate.simulate(
        given.out / "imagery",
        np.random.default_rng(4),
        scenarios=("building",),
        start=START,
        end=END,
        revisit_days=given.revisit_days,
        site_m=(110.0, 150.0),
        controls=3,
        regional_controls=1,
    )
    result = cw.watch(made.areas, out=given.out / "result", catalog=made.folder, start=START, end=END)
    year_by_year(result)
    (state,) = result.states
    print(f"{state.site_id}: {state.state}. {state.reason}")
    for name, probability in sorted(state.probability.items(), key=lambda item: -item[1]):
        print(f"  {probability:6.1%} {name}")
    (truth,) = json.loads(made.truth.read_text(encoding="utf-8"))["sites"]
    print(f"found {state.change_date} ({state.change_date_earliest} to {state.change_date_latest})")
    print(f"true {truth['change_date']} to {truth['complete_date']}: {truth['scenario']}")


if __name__ == "__main__":
    main()
