"""What simulated worlds suggest for ``score/parameters.toml``: sizes, chances to show, and how much may be said.

Usage: python benchmarks/calibrate.py FOLDER [--split train] [--rounds 2] [--sizes] [--out FILE]

FOLDER holds worlds that `benchmarks/sites.py FOLDER --split train` measured. Two things are printed:

- sizes: for every state and measurement, how large the change was at the true date (white noise of the site), its
  spread beyond what its own error explains, and how often it stood out with the expected sign;
- the numbers of [model] under which the true states of all sites, with everything and with each removal, were given
  the most probability (mean log loss, one number at a time moved up or down until nothing gains).

``--out`` writes the parameters with the numbers found, to be looked at and taken over by hand: sizes are left alone,
because those of the simulator are no truth about Cambodia. Never run it on worlds that accuracy is reported for.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from sites import SEEDS, day_number, fingerprint, without

from compoundwatch import pipeline, score, sensors
from compoundwatch.model import Settings, State
from compoundwatch.score.effects import SHAPES, Evidence
from compoundwatch.score.parameters import Parameters, parameters
from compoundwatch.score.states import Weighing, posterior

STEPS = {
    "temper": (0.3, 0.4, 0.5, 0.6, 0.7, 0.85),
    "energy_temper": (0.3, 0.5, 0.7, 1.0),
    "few_dates": (0.0, 10.0, 20.0, 40.0),
    "unaccompanied": (0.0, 0.15, 0.3),
    "measurement_cap": (4.0, 6.0, 8.0, 12.0, 18.0),
    "sensor_cap": (6.0, 10.0, 15.0, 20.0, 30.0),
    "alone": (1.0, 2.0, 3.0, 5.0),
    "support": (0.0, 1.0, 2.0, 3.0, 5.0),
    "artefact_share": (0.05, 0.1, 0.2, 0.3),
    "outage_share": (0.05, 0.1, 0.2, 0.3),
    "whole_share": (0.3, 0.5, 0.8),
}
"""Values that are tried."""
GAIN = 0.002
"""Mean log loss by which a number has to be better to be taken."""
LEAST = 1e-3
"""Probability below which a true state costs no more: a single wild site must not decide."""
STANDS_OUT = 2.0

Case = tuple[str, str, str | None, list[Evidence]]
"""Removal, true state, date of the change, evidence."""


def cases(home: Path) -> list[Case]:
    """The evidence of all sites of a measured world under each removal, kept beside it."""
    store = home / f"evidence-{fingerprint('score', 'formulas.py')}.pkl"
    if store.is_file():
        return list(pd.read_pickle(store))
    about = json.loads((home / "world.json").read_text(encoding="utf-8"))
    truth = {s["site_id"]: s for s in json.loads((home / "truth.json").read_text(encoding="utf-8"))["sites"]}
    area = pipeline.read_area(home / "sites.geojson", home / "events.csv")
    every = [sensors.sensor(name) for name in about["sensors"]]
    day, settings = day_number(dt.date.fromisoformat(about["reference_end"])), Settings()
    found: list[Case] = []
    for removed in ("nothing", "controls", "dates"):
        judged, series = without(home, area, removed)
        weighed = score.weigh_sites(
            judged,
            series,
            every,
            {site.site_id: day for site in area.targets},
            settings.score,
            settings.load.min_valid_fraction,
            np.random.default_rng(about["seed"]),
        )
        for site_id, (evidence, _) in weighed.items():
            if evidence:
                found.append((removed, truth[site_id]["state"], truth[site_id]["change_date"], evidence))
    pd.to_pickle(found, store)
    return found


def with_removals(every: Sequence[Case]) -> list[tuple[str, str, list[Evidence]]]:
    """The cases, and for those with everything the same without each sensor."""
    out = [(removed, state, evidence) for removed, state, _, evidence in every]
    for removed, state, _, evidence in every:
        names = sorted({e.sensor for e in evidence})
        if removed == "nothing" and len(names) > 1:
            out += [(name, state, [e for e in evidence if e.sensor != name]) for name in names]
    return out


def loss(table: Sequence[tuple[str, str, list[Evidence]]], known: Parameters) -> dict[str, float]:
    """Mean log loss of the true state, per removal and over all ("mean" of the removals)."""
    by_removal = defaultdict(list)
    for removed, state, evidence in table:
        chance = posterior(Weighing(evidence, known)).probability[State(state)]
        by_removal[removed].append(-np.log(max(chance, LEAST)))
    means = {removed: float(np.mean(v)) for removed, v in by_removal.items()}
    return {**means, "mean": float(np.mean(list(means.values())))}


def changed(known: Parameters, name: str, value: float) -> Parameters:
    """The parameters with one number of [model] replaced."""
    return replace(known, model=known.model.model_copy(update={name: value}))


def search(table: Sequence[tuple[str, str, list[Evidence]]], known: Parameters, rounds: int) -> Parameters:
    """Move one number at a time to the value of STEPS that loses least, as long as something gains."""
    best = loss(table, known)["mean"]
    print(f"as they are: {best:.4f}", flush=True)
    for _ in range(rounds):
        moved = False
        for name, values in STEPS.items():
            tried = {v: loss(table, changed(known, name, v))["mean"] for v in values if v != getattr(known.model, name)}
            value = min(tried, key=lambda v: tried[v])
            print(f"  {name}: " + ", ".join(f"{v:g} {one:.4f}" for v, one in tried.items()), flush=True)
            if tried[value] < best - GAIN:
                known, best, moved = changed(known, name, value), tried[value], True
                print(f"{name} = {value:g}: {best:.4f}", flush=True)
        if not moved:
            break
    return known


def print_sizes(every: Sequence[Case], known: Parameters) -> None:
    """What each state did to each measurement, beside what is expected of it."""
    print(f"{'state, measurement':42s} {'n':>4s} {'mean':>7s} {'spread':>7s} {'shows':>6s}   expected")
    for state, kind in known.classes.items():
        expected = {**kind.signs, **kind.later}
        rows = defaultdict(list)
        for removed, true, date, evidence in every:
            if removed != "nothing" or true != state or not date:
                continue
            day = day_number(dt.date.fromisoformat(date))
            for e in evidence:
                if e.measure not in expected:
                    continue
                shapes = ["regrowth"] if e.measure in kind.later else SHAPES[kind.shape]
                at = int(np.argmin(np.abs(e.taus - day)))
                a, b = max((tuple(part[at] for part in e.fits[s]) for s in shapes), key=lambda f: f[0] ** 2 / f[1])
                rows[e.measure].append((a / b, 1 / np.sqrt(b)))
        for measure, found in sorted(rows.items()):
            size, error = np.array(found).T
            spread = np.sqrt(max(0.0, float(np.var(size) - np.median(error) ** 2)))
            shows = np.mean(np.sign(expected[measure].mean) * size / error > STANDS_OUT)
            e = expected[measure]
            print(
                f"{state.value + ' ' + measure:42s} {len(size):4d} {np.median(size):7.1f} {spread:7.1f} {shows:6.2f}   "
                f"mean {e.mean:g}, spread {e.spread:g}, shows {e.shows:g}"
            )


def write(known: Parameters, path: Path) -> None:
    """The file of parameters with the numbers of [model] replaced, comments and all."""
    text = (Path(score.__file__).with_name("parameters.toml")).read_text(encoding="utf-8")
    for name in STEPS:
        text = re.sub(rf"^{name} = [0-9.]+", f"{name} = {getattr(known.model, name)}", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where measured worlds are kept")
    parser.add_argument("--split", choices=tuple(SEEDS), default="train")
    parser.add_argument("--rounds", type=int, default=2, help="most times that all numbers are tried")
    parser.add_argument("--sizes", action="store_true", help="print sizes only")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="file that gets the parameters found")
    options = parser.parse_args()
    homes = [p.parent for p in sorted(options.folder.glob(f"{options.split}-*/world.json"))]
    if not homes:
        raise SystemExit(f"no measured world of split {options.split} in {options.folder}; run benchmarks/sites.py")
    with ProcessPoolExecutor(max_workers=options.processes) as pool:
        every = [case for world in pool.map(cases, homes) for case in world]
    print(f"{len(homes)} worlds, {sum(removed == 'nothing' for removed, *_ in every)} sites")
    known = parameters()
    print_sizes(every, known)
    if options.sizes:
        return
    table = with_removals(every)
    for removed, one in loss(table, known).items():
        print(f"log loss without {removed}: {one:.3f}" if removed != "mean" else f"log loss, mean: {one:.3f}")
    found = search(table, known, options.rounds)
    for removed, one in loss(table, found).items():
        print(f"log loss without {removed}: {one:.3f}" if removed != "mean" else f"log loss, mean: {one:.3f}")
    if options.out:
        write(found, options.out)
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
