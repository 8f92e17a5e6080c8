"""Makes aoi/cambodia.geojson from seeds/places.csv and seeds/sites.csv, and places.csv from a GeoNames extract.

Usage, from the root of the repository::

    python seeds/build_areas.py                      # writes aoi/cambodia.geojson
    python seeds/build_areas.py --choose EXTRACT.csv # first chooses the places anew (columns geonameid, name,
                                                     # latitude, longitude, admin1code, population)

The rule by which control areas are chosen is in ``choose``; aoi/README.md tells it in words.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pyproj

HERE = Path(__file__).resolve().parent
PLACES = HERE / "places.csv"
SITES = HERE / "sites.csv"
AREAS = HERE.parent / "aoi" / "cambodia.geojson"

GEOD = pyproj.Geod(ellps="WGS84")
RADIUS_M = 5000.0
"""Precision class P2 means 2 to 10 km; 5 km lies in its middle (the geometric mean is 4.5 km)."""
CORNERS = 60

LOCALITIES = {
    "sihanoukville": ("Sihanoukville", "1831142"),
    "bavet": ("Bavet", "1829516"),
    "poipet": ("Poipet", "1830194"),
    "o-smach": ("O'Smach", "11591267"),
}
"""Localities that public reporting names and that GeoNames has as a populated place beyond doubt: name, geonameid."""

WAR = (
    "Border town: the circle reaches into Thailand. {what}, weeks before the departures of January 2026: a change in "
    "January cannot be told from one that the war made."
)
NOTES = {
    "sihanoukville": "The circle reaches over the sea.",
    "bavet": (
        "Border town: the circle reaches into Viet Nam. A7 Park is reported at a remote place in Bavet city, so it may "
        "lie outside the circle."
    ),
    "poipet": WAR.format(what="Bombed in December 2025"),
    "o-smach": WAR.format(what="Fought over in July 2025, shelled and bombed in December 2025"),
}

PROVINCES = {
    "02": "Kampong Cham", "03": "Kampong Chhnang", "09": "Kratie", "14": "Prey Veng", "18": "Svay Rieng",
    "24": "Siem Reap", "26": "Kep", "27": "Oddar Meanchey", "28": "Preah Sihanouk", "29": "Battambang",
    "25": "Banteay Meanchey",
}  # fmt: skip
"""Provinces by GeoNames code, those that occur in places.csv."""

UNCERTAIN = {
    "04": "Kampong Speu", "07": "Kandal", "08": "Koh Kong", "12": "Pursat", "13": "Preah Vihear", "19": "Takeo",
    "21": "Kampot", "22": "Phnom Penh", "25": "Banteay Meanchey", "31": "Tbong Khmum",
}  # fmt: skip
"""Provinces where a compound was reported at a place that no gazetteer point gives: a control there might hold it."""

ON_THE_THAI_BORDER = ("27",)
BORDER_NOTE = " The province lies on the border with Thailand: the fighting of 2025 may have touched this town as well."

SIZE_FACTOR = 3.0
APART_M = 20_000.0
CONTROLS_APART_M = 15_000.0
CONTROLS = 4

COLUMNS = ("site_id", "name", "role", "controls", "geonameid", "geonames_name", "latitude", "longitude", "admin1code",
           "population")  # fmt: skip


def distance_m(a: dict[str, str], b: dict[str, str]) -> float:
    """Distance of two places on the ellipsoid in metres."""
    lon = (float(a["longitude"]), float(b["longitude"]))
    lat = (float(a["latitude"]), float(b["latitude"]))
    return float(GEOD.inv(lon[0], lat[0], lon[1], lat[1])[2])


def choose(gazetteer: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of places.csv: the localities, and for each the nearest towns of like size that pass the rule."""
    by_id = {p["geonameid"]: p for p in gazetteer}
    localities = {site_id: by_id[number] for site_id, (_, number) in LOCALITIES.items()}
    candidates = [
        p
        for p in gazetteer
        if int(p["population"]) > 0  # GeoNames writes 0 where it does not know
        and p["admin1code"] not in UNCERTAIN
        and all(distance_m(p, s) >= APART_M for s in localities.values())
    ]
    rows, controls = [], dict[str, dict[str, str]]()
    for site_id, place in localities.items():
        size = int(place["population"])
        alike = [p for p in candidates if size / SIZE_FACTOR <= int(p["population"]) <= size * SIZE_FACTOR]
        named: list[str] = []
        for p in sorted(alike, key=lambda p: distance_m(p, place)):
            others = [c for c in controls.values() if c["geonameid"] != p["geonameid"]]
            if len(named) < CONTROLS and all(distance_m(p, c) >= CONTROLS_APART_M for c in others):
                named.append(_control_id(p["name"]))
                controls[named[-1]] = p
        rows.append(_row(site_id, LOCALITIES[site_id][0], "site", named, place))
    return rows + [_row(c, controls[c]["name"], "control", [], controls[c]) for c in sorted(controls)]


def build() -> dict[str, Any]:
    """The FeatureCollection of aoi/cambodia.geojson."""
    reported = read(SITES)
    return {
        "type": "FeatureCollection",
        "name": "cambodia",
        "description": "Localities that public reporting names, as circles of 5 km around GeoNames points, and control "
        "towns. The circles are no outlines of compounds. See README.md beside this file.",
        "attribution": "Place points: GeoNames (geonames.org), CC BY 4.0",
        "features": [_feature(row, reported) for row in read(PLACES)],
    }


def text(collection: dict[str, Any]) -> str:
    """The file's text: one feature a line, so that a difference between versions can be read."""
    head = {k: v for k, v in collection.items() if k != "features"}
    lines = ",\n".join(json.dumps(f, ensure_ascii=False) for f in collection["features"])
    return json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "features": [\n' + lines + "\n]\n}\n"


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _feature(row: dict[str, str], reported: list[dict[str, str]]) -> dict[str, Any]:
    compounds = [
        {"id": s["seed_id"], "name": s["name"], "source": s["source"], "source_date": s["source_date"] or None}
        for s in reported
        if s["area"] == row["site_id"]
    ]
    properties: dict[str, Any] = {"site_id": row["site_id"], "name": row["name"], "role": row["role"]}
    if row["role"] == "site":
        days = [c["source_date"] for c in compounds if c["source_date"] and len(c["source_date"]) == 10]
        properties["controls"] = row["controls"].replace(";", ", ")
        properties["source"] = "Reports that name compounds in this locality; each is listed under compounds"
        properties["source_date"] = max(days)
        properties["compounds"] = compounds
        properties["note"] = NOTES[row["site_id"]]
    else:
        properties["source"] = "Chosen as a control by the rule in aoi/README.md; not named in any report at hand"
        properties["note"] = (
            "No compound is reported here in the sources at hand; the list of the 53 compounds that Amnesty "
            "International described in 2025 was not among them."
        ) + (BORDER_NOTE if row["admin1code"] in ON_THE_THAI_BORDER else "")
    properties |= {
        "geometry_source": f"GeoNames (CC BY 4.0), geonameid {row['geonameid']}, widened to a circle of 5 km",
        "precision_m": int(RADIUS_M),
        "precision_class": "P2",
        "place": row["geonames_name"],
        "province": PROVINCES[row["admin1code"]],
        "country": "Cambodia",
        "geonameid": int(row["geonameid"]),
        "population": int(row["population"]),
    }
    ring = circle(float(row["longitude"]), float(row["latitude"]))
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def circle(lon: float, lat: float) -> list[list[float]]:
    """A closed ring of 60 corners, counter-clockwise, 5 km from a point on the ellipsoid, 6 decimals."""
    bearings = [-360.0 * k / CORNERS for k in range(CORNERS)]
    x, y, _ = GEOD.fwd([lon] * CORNERS, [lat] * CORNERS, bearings, [RADIUS_M] * CORNERS)
    ring = [[round(a, 6), round(b, 6)] for a, b in zip(x, y, strict=True)]
    return [*ring, ring[0]]


def _control_id(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "control-" + re.sub("[^a-z0-9]+", "-", plain).strip("-")


def _row(site_id: str, name: str, role: str, controls: list[str], place: dict[str, str]) -> dict[str, str]:
    kept = {k: place[k] for k in ("geonameid", "latitude", "longitude", "admin1code", "population")}
    row = {"site_id": site_id, "name": name, "role": role, "controls": ";".join(controls), **kept}
    return {c: (place["name"] if c == "geonames_name" else row[c]) for c in COLUMNS}


def main(arguments: list[str]) -> None:
    """Write the files."""
    if arguments[:1] == ["--choose"]:
        with PLACES.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(choose(read(Path(arguments[1]))))
    AREAS.write_text(text(build()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
