"""Live imagery: the last year of Sentinel-2 over a town, straight from Earth Search, without an account.

Needs a network; fetches some hundred megabytes. Draws a square of 400 m in the middle of a town of
``aoi/cambodia.geojson`` (Kep, which that file has as a control), lets control areas be proposed for it, and watches it.
Prints how many images were found and used, why others were left out, and the state. Run it again tomorrow with the same
``--out``: only what is new is fetched.

    python examples/live.py [SITES.geojson] [--catalog earth-search] [--days 365] [--out live]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections import Counter
from pathlib import Path

import shapely

import compoundwatch as cw

TOWNS = Path(__file__).resolve().parents[1] / "aoi" / "cambodia.geojson"
HALF = 200 / 111_320
"""Half of the side of the square, in degrees: here, near the equator, alike both ways."""


def draw_square(out: Path) -> Path:
    """A file of areas with one square in the middle of a town."""
    towns = cw.read_area(TOWNS)
    town = next(site for site in towns.sites if site.site_id == "control-kep")
    middle = town.geometry.centroid
    square = shapely.box(middle.x - HALF, middle.y - HALF, middle.x + HALF, middle.y + HALF)
    about = {"site_id": "kep", "name": "Kep, a square", "role": "site", "source": "drawn by rule, see the example"}
    feature = {"type": "Feature", "properties": about, "geometry": shapely.geometry.mapping(square)}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "sites.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), encoding="utf-8")
    return path


def main() -> None:
    """Watch, and tell what was seen and what was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sites", type=Path, nargs="?", help="your own areas; default: a square in a town")
    parser.add_argument("--catalog", default="earth-search", help="short name or address of a STAC API")
    parser.add_argument("--until", type=dt.date.fromisoformat, default=dt.datetime.now(dt.UTC).date())
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--out", type=Path, default=Path("live"))
    given = parser.parse_args()
    span = {"start": given.until - dt.timedelta(days=given.days), "end": given.until}
    sites = given.sites or draw_square(given.out)
    result = cw.watch(sites, catalog=given.catalog, out=given.out / "result", progress=tell, **span)
    print(f"{len(result.scenes)} scenes from {', '.join(sorted({s.catalog for s in result.scenes}))}")
    for reason, count in Counter(s.reason for s in result.skipped).most_common(5):
        print(f"left out {count}: {reason}")
    for state in result.states:
        print(f"{state.site_id}: {state.state}. {state.reason}")


def tell(task: str, done: int, total: int) -> None:
    """Say where the run is."""
    print(f"{task} {done}/{total}", flush=True)


if __name__ == "__main__":
    main()
