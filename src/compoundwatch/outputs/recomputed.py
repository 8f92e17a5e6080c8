"""Does a result say what the imagery says? A result held against the same result made anew, told for readers.

Numbers that differ by less than NEARLY are equal, as other processors round the last digits differently. Files that no
number can be read from, such as charts and the report, are compared byte by byte, which means something only where the
software is the same. Anybody may have made the result: its files are opened as ``agreement`` opens them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compoundwatch.model import shown
from compoundwatch.outputs.agreement import (
    CHANGES_FILE,
    SITES_FILE,
    STAC,
    UnreadableError,
    answers,
    tables,
)
from compoundwatch.outputs.evidence import Difference, Fault
from compoundwatch.outputs.fields import ANSWER, LAYERS, SITES
from compoundwatch.outputs.staging import MANIFEST, PACKAGE, sha256
from compoundwatch.outputs.strict_json import read_json

NEARLY = 1e-6
"""Relative difference up to which numbers are equal."""
LISTED = 3
"""So many differences of one kind in one file are told; the others are counted."""
SHARED = ("q_value",)
"""Fields of an answer that depend on the other sites, too."""
NAMING = ("site_id", "event_id", "scene_id", "sensor", "feature", "look", "acquired", "measurement", "date")
"""Columns that tell readers which row of a table is meant."""
COUNTS = ("sites", "controls", "states", "scenes", "series_rows", "effects", "change_maps", "patches")
MISSING = object()

Row = Mapping[str, Any]


def site_differences(folder: Path, anew: Path, sites: Collection[str]) -> list[Difference]:
    """Where a file of a result says of one of these sites what was not found anew; SHARED fields are left out."""
    return list(_answers(folder, anew, sites, SHARED))


def differences(folder: Path, anew: Path) -> tuple[list[Difference], list[str]]:
    """Where a result differs from the same result made anew.

    Returns
    -------
    What differs in content, answers first; and the other files that are not the same byte by byte.
    """
    old, new = (read_json(f / MANIFEST) for f in (folder, anew))
    said, made = ({entry["path"]: entry["sha256"] for entry in manifest["outputs"]} for manifest in (old, new))
    found = [*_answers(folder, anew, None, ()), *_manifests(old, new)]
    for name in sorted(made.keys() - said.keys()):
        text = f"{name} is missing: the run must have written it, but {MANIFEST} does not list it"
        found.append(_told(name, text))
    for name in sorted(said.keys() - made.keys()):
        found.append(_told(name, f"{name} is listed by {MANIFEST}, but this run writes no such file"))
    other = []
    for name in sorted(said.keys() & made.keys()):
        if not (folder / name).is_file() or sha256(folder / name) == made[name]:
            continue
        unlike = list(_reader(name)(name, folder / name, anew / name))
        found += unlike
        # A GeoPackage has other bytes each time it is written.
        if not unlike and name != PACKAGE and not _same_but_links(name, folder / name, anew / name):
            other.append(name)
    return found, other


def byte_differences(names: Sequence[str]) -> list[Difference]:
    """Files that are not the same byte by byte, as sentences."""
    return [_told(name, f"{name} differs from the one that was recomputed") for name in names]


def _told(where: str, text: str) -> Difference:
    return Difference(Fault.RECOMPUTED, where, text)


def _reader(name: str) -> Callable[[str, Path, Path], Iterator[Difference]]:
    """What tells how two files of a name differ in content, as far as that can be told."""
    if name == PACKAGE:
        return _packages
    if name in (SITES_FILE, CHANGES_FILE):
        return _collections
    return _rasters if name.endswith(".tif") else lambda name, old, new: iter(())


# ---------------------------------------------------------------------------------------------------------- answers


def _answers(folder: Path, anew: Path, sites: Collection[str] | None, without: Collection[str]) -> Iterator[Difference]:
    """Site by site and field by field, what each file says and what was found anew."""
    said = answers(folder, read_json(folder / MANIFEST))
    found = answers(anew, read_json(anew / MANIFEST))[SITES_FILE]
    ids = list(dict.fromkeys([*found, *(site_id for rows in said.values() for site_id in rows)]))
    for site_id in ids:
        if sites is not None and site_id not in sites:
            continue
        for name, rows in said.items():
            if site_id not in found:
                yield _told(name, f"site {shown(site_id)} is in {name}, but not among the sites that were watched")
            elif site_id not in rows:
                yield _told(name, f"site {shown(site_id)} is not in {name}, though it was watched")
        for field in dict.fromkeys(f.name for f in (*SITES, *ANSWER)):
            if site_id in found and field not in without:
                yield from _answer(site_id, field, found[site_id].get(field), said)


def _answer(site_id: str, field: str, right: Any, said: Mapping[str, Mapping[str, Row]]) -> Iterator[Difference]:
    wrong: dict[str, list[str]] = {}
    for name, rows in said.items():
        row = rows.get(site_id, {})
        if field in row and not _same(row[field], right):
            wrong.setdefault(shown(row[field], 300), []).append(name)
    for value, names in wrong.items():
        text = f"site {shown(site_id)}: {field} is {value} in {' and '.join(names)}, recomputed {shown(right, 300)}"
        yield _told(names[0], text)


def _manifests(old: Any, new: Any) -> Iterator[Difference]:
    """What the manifest says of scenes and counts."""
    scenes = [{str(s.get("id")): s for s in m["scenes"] if isinstance(s, dict)} for m in (old, new)]
    found = []
    for name in dict.fromkeys((*scenes[0], *scenes[1])):
        one, other = scenes[0].get(name), scenes[1].get(name)
        if one is None or other is None:
            found.append(f"scene {shown(name, 120)} is {'not in it' if one is None else 'no scene of this run'}")
        else:
            found += [f"scene {shown(name, 120)}: {_of_scene(*u)}" for u in _unlike(_flat(one), _flat(other))]
    found += [
        f"it counts {shown(a)} {field.replace('_', ' ')}, recomputed {shown(b)}"
        for field, a, b in _unlike(_flat({k: old["counts"].get(k) for k in COUNTS}), _flat(_counts(new)))
    ]
    yield from _some(MANIFEST, found)


def _of_scene(field: str, old: Any, new: Any) -> str:
    if field.endswith(".sha256") and old and new:
        return f"the file of {field.split('.')[1]} that lies on this machine now is not the one that was read"
    return f"{field} is {shown(old, 120)}, recomputed {shown(new, 120)}"


def _counts(manifest: Row) -> Row:
    return {name: manifest["counts"].get(name) for name in COUNTS}


# ------------------------------------------------------------------------------------------------ files of many rows


def _packages(name: str, old: Path, new: Path) -> Iterator[Difference]:
    wanted = [*LAYERS, "layer_styles"]
    try:
        said = tables(old, wanted)
    except UnreadableError as error:
        yield _told(name, f"{name} is not what compoundwatch writes: {error}")
        return
    for table, rows in tables(new, wanted).items():
        if table not in said:
            yield _told(name, f"{name} has no table {table}")
            continue
        answered = {f.name for f in SITES} if table in ("sites", "states") else set()
        yield from _some(f"{name} ({table})", _rows(said[table], rows, answered | {"update_time"}))


def _collections(name: str, old: Path, new: Path) -> Iterator[Difference]:
    try:
        said, found = read_json(old)["features"], read_json(new)["features"]
        said, found = ([{**f["properties"], "outline": f["geometry"]} for f in part] for part in (said, found))
    except (OSError, ValueError, KeyError, TypeError):
        yield _told(name, f"{name} is not what compoundwatch writes")
        return
    answered = {f.name for f in SITES} if name == SITES_FILE else set()
    yield from _some(name, _rows(said, found, answered))


def _rows(said: Sequence[Row], found: Sequence[Row], without: Collection[str]) -> list[str]:
    """Rows that differ, in words; both are in the order in which they were written."""
    if len(said) != len(found):
        return [f"it has {len(said)} rows, recomputed {len(found)}"]
    texts = []
    for k, (one, other) in enumerate(zip(said, found, strict=True), start=1):
        if one == other:
            continue
        names = [f"{n} {shown(other[n], 120)}" for n in NAMING if other.get(n) is not None]
        for field, a, b in _unlike(one, other):
            if field not in without:
                texts.append(f"row {k} ({', '.join(names)}): {_said(field, a, b)}")
    return texts


def _said(field: str, old: Any, new: Any) -> str:
    if isinstance(new, bytes | dict | list):
        return "the outline is another" if field in ("geom", "outline") else f"{field} is another"
    return f"{field} is {shown(old, 120)}, recomputed {shown(new, 120)}"


# ----------------------------------------------------------------------------------------------------------- pixels


def _rasters(name: str, old: Path, new: Path) -> Iterator[Difference]:
    """Pixels that differ, of rasters of change and of pictures."""
    import rasterio

    with rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        try:
            with rasterio.open(old, driver="GTiff") as said, rasterio.open(new, driver="GTiff") as found:
                if (said.count, said.shape, said.dtypes) != (found.count, found.shape, found.dtypes):
                    yield _told(name, f"{name} has another size or kind of pixels than what was recomputed")
                    return
                old_pixels, new_pixels = said.read(), found.read()
                placed = (said.crs, said.transform) == (found.crs, found.transform)
        except (rasterio.errors.RasterioError, ValueError):
            yield _told(name, f"{name} is no raster that can be read")
            return
    unlike = ~np.isclose(old_pixels, new_pixels, rtol=NEARLY, atol=0, equal_nan=True)
    if unlike.any():
        band, row, col = (int(k) for k in np.argwhere(unlike)[0])
        count = int(unlike.any(axis=0).sum())
        of = f"{count} of {unlike[0].size} pixels differ" if count > 1 else f"1 of {unlike[0].size} pixels differs"
        where = f"band {band + 1}, row {row + 1}, column {col + 1}"
        values = f"{old_pixels[band, row, col]:g}, recomputed {new_pixels[band, row, col]:g}"
        yield _told(name, f"{name}: {of} from what was recomputed; the first, in {where}, is {values}")
    elif not placed:
        yield _told(name, f"{name} lies elsewhere on the map than what was recomputed")


# ------------------------------------------------------------------------------------------------------------ values


def _some(where: str, found: Sequence[str]) -> Iterator[Difference]:
    """The first few of what differs, and how many more there are."""
    for text in found[:LISTED]:
        yield _told(where, f"{where}: {text}")
    if len(found) > LISTED:
        yield _told(where, f"{where}: {len(found) - LISTED} more values differ from what was recomputed")


def _unlike(one: Row, other: Row) -> Iterator[tuple[str, Any, Any]]:
    """Members that differ, in the order of the second."""
    for name in dict.fromkeys((*other, *one)):
        if not _same(one.get(name, MISSING), other.get(name, MISSING)):
            yield str(name), one.get(name), other.get(name)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=NEARLY, abs_tol=0) or one == other or (one != one and other != other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    return bool(one == other)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Members of members by their path, such as "assets.nir.sha256"."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inside in value.items() for k, v in _flat(inside, f"{name}.{key}".lstrip(".")).items()}


def _same_but_links(name: str, old: Path, new: Path) -> bool:
    """Whether two files of STAC say the same but for the way from the folder to scenes on this machine."""
    if not name.startswith(STAC):
        return False
    try:
        return bool(_without_ways(read_json(old)) == _without_ways(read_json(new)))
    except (OSError, ValueError):
        return False


def _without_ways(content: Any) -> Any:
    links = content.get("links") if isinstance(content, dict) else None
    if not isinstance(links, list):
        return content
    return {**content, "links": [k for k in links if not (isinstance(k, dict) and _is_way(k))]}


def _is_way(link: Row) -> bool:
    return link.get("rel") == "derived_from" and "://" not in str(link.get("href"))
