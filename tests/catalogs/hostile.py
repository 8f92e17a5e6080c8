"""Items, addresses and files of areas that strangers wrote to do harm, for the tests that nothing comes of it."""

from __future__ import annotations

import json
from typing import Any

from tests.catalogs.test_items import item

PRIVATE = (
    "http://127.0.0.1/a.tif",
    "http://127.0.0.1:22/a.tif",
    "http://localhost/a.tif",
    "http://localhost./a.tif",
    "http://[::1]/a.tif",
    "http://[::ffff:10.0.0.1]/a.tif",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://0.0.0.0/a.tif",
    "http://10.0.0.1/a.tif",
    "http://172.31.255.255/a.tif",
    "http://192.168.0.1/a.tif",
    "http://100.100.100.200/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://2130706433/a.tif",
    "http://0x7f000001/a.tif",
    "http://0177.0.0.1/a.tif",
    "http://127.1/a.tif",
    "http://①②⑦.⓪.⓪.①/a.tif",
    "https://intranet/a.tif",
    "https://nas.local/a.tif",
)
ELSEWHERE = (
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "file://evil.example.org/share/a.tif",
    "/etc/passwd",
    "../../../../etc/passwd",
    "~/.ssh/id_rsa",
    "C:\\Windows\\win.ini",
    "\\\\evil.example.org\\share\\a.tif",
    "/dev/stdin",
    "/proc/self/environ",
    "/vsicurl/http://169.254.169.254/a.tif",
    "/vsis3/bucket/a.tif",
    "/vsizip//vsicurl/https://evil.example.org/a.zip/a.tif",
    "/vsitar//etc/passwd",
    "/vsisubfile/0_100,/etc/passwd",
    "/vsigzip//etc/passwd",
    "/vsistdin/",
    "/vsimem/a.tif",
    "vrt:///vsicurl/http://169.254.169.254/a.tif",
    "GTIFF_DIR:1:/etc/passwd",
    "GTIFF_RAW:/etc/passwd",
    'NETCDF:"/etc/passwd":a',
    "zip+https://evil.example.org/a.zip!a.tif",
    "s3://bucket/a.tif",
    "gs://bucket/a.tif",
    "ftp://evil.example.org/a.tif",
    "data:image/tiff;base64,SUkqAA==",
    "javascript:alert(1)",
    "https://user:secret@evil.example.org/a.tif",
    "https://evil.example.org\\@127.0.0.1/a.tif",
    "https://evil.example.org/a.tif\r\nX-Evil: 1",
    "https://evil.example.org/\x00a.tif",
    "https://" + "a" * 10_000 + ".example.org/a.tif",
    "https://evil.example.org:99999999/a.tif",
    "",
    " ",
    "<VRTDataset/>",
)
HREFS = PRIVATE + ELSEWHERE
"""Addresses that no remote catalogue may name, and no catalogue in a folder either."""

NAMES: tuple[Any, ...] = (
    "",
    " ",
    ".",
    "..",
    "...",
    "../../outside",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "a\x00b",
    "a\nb",
    "a\r\nSet-Cookie: b",
    "\x1b]0;title\x07\x1b[2J",
    "a\u202egnp.exe",
    "a\u2028b",
    "\ud800",
    "a" * 10_000,
    None,
    5,
    1.5,
    True,
    ["a"],
    {"a": 1},
)
"""Ids that no scene may have."""

DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]


def with_properties(**properties: Any) -> dict[str, Any]:
    """An item with other properties."""
    return item("odd", **properties)


def _without(name: str) -> dict[str, Any]:
    made = item("odd")
    del made[name]
    return made


def _with_asset(**fields: Any) -> dict[str, Any]:
    made = item("odd")
    made["assets"]["red"] = {**made["assets"]["red"], **fields}
    return made


ITEMS: tuple[Any, ...] = (
    _without("id"),
    _without("properties"),
    _without("assets"),
    {**item("odd"), "properties": []},
    {**item("odd"), "properties": "none"},
    {**item("odd"), "assets": []},
    {**item("odd"), "assets": {"red": "https://example.org/a.tif"}},
    {**item("odd"), "geometry": {"type": "Polygon", "coordinates": DEEP}},
    {**item("odd"), "geometry": {"type": "Polygon", "coordinates": [[[1e400, 0], [1, 0], [1, 1], [1e400, 0]]]}},
    {**item("odd"), "geometry": {"type": "Polygon", "coordinates": [[[float("nan"), 0], [1, 0], [1, 1], [0, 0]]]}},
    {**item("odd"), "geometry": {"type": "Circle", "coordinates": [0, 0]}},
    {**item("odd"), "geometry": "everywhere"},
    {**item("odd"), "geometry": {"type": "GeometryCollection", "geometries": "none"}},
    with_properties(datetime="yesterday"),
    with_properties(datetime="9" * 10_000),
    with_properties(datetime="0001-01-01T00:00:00+23:59"),
    with_properties(datetime=20240501),
    with_properties(datetime=None),
    with_properties(**{"eo:cloud_cover": float("nan")}),
    with_properties(**{"eo:cloud_cover": float("inf")}),
    with_properties(**{"eo:cloud_cover": -5}),
    with_properties(**{"eo:cloud_cover": 1e300}),
    with_properties(**{"eo:cloud_cover": [1]}),
    with_properties(**{"s2:processing_baseline": "05.11\x1b[2J"}),
    with_properties(**{"s2:datatake_id": "a" * 10_000}),
    with_properties(**{"grid:code": "MGRS-48PUA\n<script>"}),
    with_properties(updated="a" * 10_000),
    _with_asset(**{"raster:bands": [{"scale": float("nan"), "offset": 0}]}),
    _with_asset(**{"raster:bands": [{"scale": 0, "offset": 0}]}),
    _with_asset(**{"raster:bands": [{"scale": 1e400, "offset": 0}]}),
    _with_asset(**{"raster:bands": [{"scale": 1, "offset": "-inf"}]}),
    _with_asset(href=None),
    _with_asset(href=["https://example.org/a.tif"]),
    _with_asset(href={"a": 1}),
    _with_asset(href="https://[::1"),
)
"""Items that are built to make a reader stumble; none may be used, and none may stop it."""


def _feature(**fields: Any) -> dict[str, Any]:
    ring = [[103, 10], [103.001, 10], [103.001, 10.001], [103, 10.001], [103, 10]]
    whole: dict[str, Any] = {
        "type": "Feature",
        "properties": {"site_id": "a", "name": "a"},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    return whole | fields


def _area(*features: Any, **more: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features), **more})


AREAS = {
    "nested deeply": "[" * 100_000,
    "nested deeply inside": _area(_feature(geometry={"type": "Polygon", "coordinates": DEEP})),
    "no JSON": "<kml/>",
    "empty": "",
    "not a number": _area(_feature()).replace("103.001", "NaN"),
    "infinite": _area(_feature()).replace("103.001", "1e999"),
    "a number of a million digits": _area(_feature()).replace("103.001", "1" * 1_000_000),
    "a path for an id": _area(_feature(properties={"site_id": "../../outside", "name": "a"})),
    "a nul in an id": _area(_feature(properties={"site_id": "a\x00b", "name": "a"})),
    "an escape in an id": _area(_feature(properties={"site_id": "\x1b[2J", "name": "a"})),
    "a reversing mark in an id": _area(_feature(properties={"site_id": "a\u202eb", "name": "a"})),
    "an id of 10,000": _area(_feature(properties={"site_id": "a" * 10_000, "name": "a"})),
    "twice the same id": _area(_feature(), _feature()),
    "a device as id": _area(_feature(properties={"site_id": "", "name": "a"})),
    "a geometry that is a file": _area(_feature(geometry="file:///etc/passwd")),
    "a reference": _area({"$ref": "file:///etc/passwd"}),
    "another reference system": _area(
        _feature(), crs={"type": "link", "properties": {"href": "http://169.254.169.254/"}}
    ),
    "a bow tie": _area(
        _feature(geometry={"type": "Polygon", "coordinates": [[[103, 10], [104, 11], [104, 10], [103, 11], [103, 10]]]})
    ),
    "the whole world": _area(
        _feature(
            geometry={"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]}
        )
    ),
    "an XML entity": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "a VRT": '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>/etc/passwd</SrcDataSource></OGRVRTLayer>',
}
"""Files of areas, none of which may be read as one."""
