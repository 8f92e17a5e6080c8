"""The tables of store.gpkg: a GeoPackage (OGC 12-128r19), which is an SQLite database, so QGIS opens it as it is.

Rows are only ever added. What holds now is, for every key, the row that was added last; a row that is ``withdrawn``
says that its key holds no longer. Every row names the run that added it.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping

import shapely
from shapely.geometry.base import BaseGeometry

VERSION = 1
"""Of the tables; another number in a file means that another version of this package wrote it."""
APPLICATION_ID, GEOPACKAGE_VERSION = 0x47504B47, 10300
"""By which programs know a GeoPackage: "GPKG" as a number, and version 1.3."""

EPSG_4326 = (
    'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],'
    'AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],'
    'UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]'
)

_CORE = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL, min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE,
  srs_id INTEGER REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL PRIMARY KEY REFERENCES gpkg_contents(table_name),
  column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL,
  m TINYINT NOT NULL);
"""

_ROW = "fid INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs(run)"

_TABLES = """
CREATE TABLE runs (run INTEGER PRIMARY KEY, run_id TEXT NOT NULL, began DATETIME NOT NULL, ended DATETIME,
  outcome TEXT NOT NULL, as_of DATE NOT NULL, area_id TEXT NOT NULL, first_day DATE NOT NULL, last_day DATE NOT NULL,
  reference_end DATE NOT NULL, catalog TEXT, whole INTEGER NOT NULL, basis TEXT NOT NULL, settings TEXT NOT NULL,
  software TEXT NOT NULL, shown TEXT, previous TEXT, sha256 TEXT);
CREATE TABLE places (%ROW%, geom BLOB NOT NULL, site_id TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
  controls TEXT NOT NULL, proposed INTEGER NOT NULL, precision_m REAL, source TEXT, source_date DATE,
  properties TEXT NOT NULL);
CREATE TABLE scenes (%ROW%, geom BLOB, digest TEXT NOT NULL, sensor TEXT NOT NULL, scene_id TEXT NOT NULL,
  collection TEXT NOT NULL, catalog TEXT NOT NULL, acquired DATETIME NOT NULL, moment TEXT NOT NULL,
  acquisition TEXT NOT NULL, look TEXT NOT NULL, processing TEXT NOT NULL, version TEXT NOT NULL,
  cloud_percent REAL, updated TEXT NOT NULL, href TEXT NOT NULL, assets TEXT NOT NULL);
CREATE UNIQUE INDEX scenes_digest ON scenes (digest);
CREATE TABLE sightings (%ROW%, site_id TEXT NOT NULL, sensor TEXT NOT NULL, scene INTEGER NOT NULL
  REFERENCES scenes(fid), withdrawn INTEGER NOT NULL);
CREATE INDEX sightings_place ON sightings (site_id, sensor, scene);
CREATE TABLE searches (%ROW%, site_id TEXT NOT NULL, sensor TEXT NOT NULL, first_day DATE NOT NULL,
  last_day DATE NOT NULL);
CREATE INDEX searches_place ON searches (site_id, sensor);
CREATE TABLE skipped (%ROW%, site_id TEXT NOT NULL, sensor TEXT NOT NULL, item_id TEXT NOT NULL, stage TEXT NOT NULL,
  reason TEXT NOT NULL, routine INTEGER NOT NULL, withdrawn INTEGER NOT NULL);
CREATE INDEX skipped_place ON skipped (site_id, sensor, item_id, stage, reason);
CREATE TABLE measurements (%ROW%, site_id TEXT NOT NULL, sensor TEXT NOT NULL, look TEXT NOT NULL,
  feature TEXT NOT NULL, UNIQUE (site_id, sensor, look, feature));
CREATE TABLE views (%ROW%, site_id TEXT NOT NULL, sensor TEXT NOT NULL, look TEXT NOT NULL, scene_id TEXT NOT NULL,
  acquired DATETIME NOT NULL, UNIQUE (site_id, sensor, look, scene_id, acquired));
CREATE TABLE series (%ROW%, measurement INTEGER NOT NULL REFERENCES measurements(fid),
  view INTEGER NOT NULL REFERENCES views(fid), value REAL, spread REAL, valid_fraction REAL, n_valid INTEGER,
  withdrawn INTEGER NOT NULL);
CREATE INDEX series_key ON series (measurement, view);
CREATE TABLE measured (%ROW%, site_id TEXT NOT NULL, sensor TEXT NOT NULL, inputs TEXT NOT NULL,
  series TEXT NOT NULL, reopened_from DATE);
CREATE INDEX measured_place ON measured (site_id, sensor);
CREATE TABLE effects (%ROW%, site_id TEXT NOT NULL, place INTEGER NOT NULL, sensor TEXT, feature TEXT, look TEXT,
  unit TEXT, effect REAL, std_error REAL, low REAL, high REAL, day DATE, p_value REAL, n_controls INTEGER,
  n_before INTEGER, n_after INTEGER, pre_trend_p REAL);
CREATE INDEX effects_site ON effects (site_id);
CREATE TABLE states (%ROW%, site_id TEXT NOT NULL, as_of DATE NOT NULL, evidence TEXT NOT NULL, reopened_from DATE,
  state TEXT NOT NULL, score REAL, change_date DATE, change_date_earliest DATE, change_date_latest DATE, reason TEXT,
  document TEXT NOT NULL);
CREATE INDEX states_site ON states (site_id);
CREATE VIEW series_now AS SELECT s.fid AS fid, m.site_id, m.sensor, m.look, m.feature, v.scene_id, v.acquired, s.value,
  s.spread, s.valid_fraction, s.n_valid, r.run_id
  FROM series s JOIN measurements m ON m.fid = s.measurement JOIN views v ON v.fid = s.view JOIN runs r ON r.run = s.run
  WHERE s.withdrawn = 0 AND s.fid = (SELECT MAX(o.fid) FROM series o WHERE o.measurement = s.measurement
  AND o.view = s.view);
CREATE VIEW said AS SELECT s.fid AS fid, s.site_id, s.as_of, r.run_id, r.began, s.state, s.score, s.change_date,
  s.change_date_earliest, s.change_date_latest, s.reopened_from, s.reason
  FROM states s JOIN runs r ON r.run = s.run;
"""

CONTENTS: Mapping[str, str] = {
    "runs": "Runs: when, with what, and how they ended",
    "places": "Sites and controls as they were outlined",
    "scenes": "Scenes that catalogues named",
    "sightings": "Which scenes count at which place",
    "searches": "For which days catalogues were asked when something new was found",
    "skipped": "What was left out and why",
    "measurements": "What is measured: place, sensor, look and feature",
    "views": "Dates on which a place was looked at",
    "series": "Measured values, all that ever held",
    "measured": "From what each place was measured",
    "effects": "Effects behind the states",
    "states": "What was said of each site, and when",
    "series_now": "Measured values that hold now",
    "said": "What was said of each site, and in which run",
}
"""Tables and views as programs list them."""
MAPPED = ("places", "scenes")
CHAINED = tuple(name for name in CONTENTS if name not in ("runs", "series_now", "said"))
"""Tables whose rows the hash of a run covers, in this order."""


def create(connection: sqlite3.Connection, moment: str) -> None:
    """Make the tables in an empty database, within the transaction that is open."""
    for statement in (_CORE + _TABLES.replace("%ROW%", _ROW)).split(";\n"):
        if statement.strip():
            connection.execute(statement)
    systems = [
        ("Undefined cartesian", -1, "NONE", -1, "undefined", None),
        ("Undefined geographic", 0, "NONE", 0, "undefined", None),
        ("WGS 84", 4326, "EPSG", 4326, EPSG_4326, "longitude and latitude"),
    ]
    connection.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", systems)
    for name, title in CONTENTS.items():
        mapped = name in MAPPED
        connection.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (name, "features" if mapped else "attributes", name, title, moment, 4326 if mapped else None),
        )
        if mapped:
            connection.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', 4326, 0, 0)", (name,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {GEOPACKAGE_VERSION}")
    connection.execute("CREATE TABLE compoundwatch_store (version INTEGER NOT NULL)")
    connection.execute("INSERT INTO compoundwatch_store VALUES (?)", (VERSION,))


def packed(shape: BaseGeometry | None) -> bytes | None:
    """A shape in longitude and latitude as a GeoPackage keeps it: a short head with its bounds, then WKB."""
    if shape is None:
        return None
    west, south, east, north = shape.bounds
    head = struct.pack("<2sBBi4d", b"GP", 0, 0b00000011, 4326, west, east, south, north)
    return head + bytes(shapely.to_wkb(shape, byte_order=1))


def unpacked(blob: bytes | None) -> BaseGeometry | None:
    """The shape in a blob that ``packed`` made."""
    return None if blob is None else shapely.from_wkb(blob[40:])
