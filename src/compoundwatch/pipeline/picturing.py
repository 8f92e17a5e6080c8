"""Pictures of the sites of a result that was written before, for people to pass on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compoundwatch import sensors
from compoundwatch.errors import SettingsError
from compoundwatch.outputs.chips import site_chips
from compoundwatch.outputs.raster import safe_name
from compoundwatch.outputs.reading import read_watch
from compoundwatch.outputs.staging import files_in, staged
from compoundwatch.pipeline.inputs import check_outside
from compoundwatch.pipeline.progress import Progress, silent


@dataclass(frozen=True)
class ChipsResult:
    """The files that were written into a folder, and the sites that have no picture, by their ids."""

    folder: Path
    paths: tuple[Path, ...]
    without: tuple[str, ...]


def chips(
    folder: Path | str,
    *,
    out: Path | str | None = None,
    sites: Sequence[str] = (),
    progress: Progress = silent,
) -> ChipsResult:
    """Write <site>_<sensor>_sheet.png, _before_after.png and _timelapse.gif for the sites of a result.

    Parameters
    ----------
    folder : result of ``watch``.
    out : folder that gets the pictures; None = beside the result, named after it.
    sites : ids of the sites; empty = all.

    Raises
    ------
    SettingsError : the folder holds no result or no picture, there is no such site, or ``out`` lies in the result,
        whose manifest vouches for every file in it.
    OutputError : the pictures cannot be written.
    """
    folder = Path(folder)
    home = folder.resolve()
    target = Path(out) if out else home.with_name(f"{home.name}-pictures")
    check_outside(target, folder, "folder")
    stored = read_watch(folder, pictures=True)
    known = {site.site_id: site for site in stored.area.targets}
    if unknown := [s for s in sites if s not in known]:
        raise SettingsError(f"{folder}: there is no site '{unknown[0]}'; its sites are {', '.join(known)}")
    wanted = [site for site in known.values() if not sites or site.site_id in sites]
    without = tuple(site.site_id for site in wanted if not stored.frames.get(site.site_id))
    if len(without) == len(wanted):
        raise SettingsError(
            f"{folder}: it holds no picture of {'these sites' if sites else 'any site'}; watch again with a sensor "
            "that sees colours (sentinel2, landsat) and with export.frames above 0 in the settings"
        )
    with staged(target) as aside:
        for k, site in enumerate(wanted):
            progress(f"drawing {site.name}", k, len(wanted))
            frames = stored.frames.get(site.site_id, ())
            for name in dict.fromkeys(picture.sensor for picture in frames):
                pair = [p if p and p.sensor == name else None for p in stored.pictures.get(site.site_id, (None, None))]
                own = [picture for picture in frames if picture.sensor == name]
                drawn = site_chips(site, sensors.sensor(name), own, pair, stored.run_id)
                for ending, content in drawn.files.items():
                    (aside / f"{safe_name(site.site_id)}_{safe_name(name)}_{ending}").write_bytes(content)
        written = files_in(aside)
    return ChipsResult(target, tuple(target / path for path in written), without)
