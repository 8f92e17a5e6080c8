"""Two images of one place: what changed between them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compoundwatch import detectors, outputs, stack
from compoundwatch.errors import SettingsError
from compoundwatch.model import BoolArray, PairChange, Settings, Site
from compoundwatch.pipeline.inputs import input_files, named, provenance, read_area
from compoundwatch.pipeline.progress import Progress, silent


@dataclass(frozen=True)
class CompareResult:
    """What two images differ in: the change, which detector found it and why that one, and shares per site.

    ``shares`` maps a site id to its changed, increased, decreased and tested share of pixels (0-1; None = no pixel).
    """

    change: PairChange
    detector: str
    why: str
    alpha: float
    shares: Mapping[str, Mapping[str, float | None]]
    paths: tuple[Path, ...]


def compare(
    before: Path | str,
    after: Path | str,
    *,
    out: Path | str | None = None,
    area: Path | str | None = None,
    detector: str = "auto",
    alpha: float = 0.01,
    now: dt.datetime | None = None,
    progress: Progress = silent,
) -> CompareResult:
    """Find what changed between two co-registered images.

    Parameters
    ----------
    before, after : GeoTIFF, JPEG 2000 or PNG images of equal size and bands, with or without a place on the map.
    out : folder that gets the result files; None = write nothing.
    area : GeoJSON of areas; the changed share of each is reported.
    detector : name of a pair detector, or "auto".
    alpha : false-alarm rate per pixel, 0-0.5.
    now : the time that the result bears (UTC); None = the clock's.
    progress : called with the task in words, how much of it is done, and how much there is.

    Raises
    ------
    StackError, GridMismatch : an image cannot be read or the two do not fit.
    AreaError, SettingsError, OutputError : another input or the folder is wrong.
    """
    now = now or dt.datetime.now(dt.UTC)
    if not 0 < alpha < 0.5:
        raise SettingsError(f"alpha must lie between 0 and 0.5, found {alpha}")
    if out is not None:
        outputs.check_folder(Path(out))
    region = read_area(Path(area)) if area else None
    progress("reading the images", 0, 3)
    first, second = stack.read_image(Path(before)), stack.read_image(Path(after))
    stack.check_pair(first, second)
    why = "asked for"
    if detector == "auto":
        detector, why = detectors.choose_pair(first.values, second.values, first.names + second.names)
    chosen = detectors.pair_detector(detector)
    progress(f"comparing by {chosen.name}", 1, 3)
    change = chosen.compare(first.values, second.values, alpha)
    rows: list[tuple[Site, dict[str, float | None]]] = []
    for site in region.sites if region else ():
        rows.append((site, _shares(change, stack.polygon_mask(site.geometry, first))))
    paths: list[Path] = []
    if out is not None:
        progress("writing results", 2, 3)
        files = input_files(before=before, after=after, area=area)
        paths = outputs.write_compare(
            Path(out),
            before=Path(before),
            after=Path(after),
            change=change,
            transform=first.transform,
            crs=first.crs,
            detector=chosen.name,
            alpha=alpha,
            sites=rows,
            provenance=provenance(Settings(), now, {**named(files), "detector": f"{chosen.name}: {why}"}, files),
        )
    progress("done", 3, 3)
    return CompareResult(change, chosen.name, why, alpha, {s.site_id: r for s, r in rows}, tuple(paths))


def _shares(change: PairChange, mask: BoolArray) -> dict[str, float | None]:
    tested = mask & np.isfinite(change.p_value)
    n, known = int(mask.sum()), int(tested.sum())
    part = change.direction[tested]
    return {
        "changed_share": float((part != 0).mean()) if known else None,
        "increased_share": float((part > 0).mean()) if known else None,
        "decreased_share": float((part < 0).mean()) if known else None,
        "tested_share": known / n if n else None,
    }


def describe_compare(result: CompareResult) -> dict[str, Any]:
    """A comparison in numbers: shares of the pixels that could be tested, None where none could."""
    everywhere = np.ones(result.change.direction.shape, dtype=bool)
    return {
        "detector": result.detector,
        "why": result.why,
        "alpha": result.alpha,
        **_shares(result.change, everywhere),
        "sites": {k: dict(v) for k, v in result.shares.items()},
    }
