"""The command line: words, progress and exit codes. What is done stands in ``pipeline``.

Exit codes: 0 done; 1 failed while running; 2 wrong use or wrong input; 3 done, but something was left out or a site
could not be judged.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from compoundwatch.model import WatchResult

DONE, FAILED, WRONG_USE, INCOMPLETE = 0, 1, 2, 3
DATE = click.DateTime(formats=["%Y-%m-%d"])
FILE = click.Path(path_type=Path)


def _guarded(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn this package's exceptions into one sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        from compoundwatch import errors

        wrong = (errors.SettingsError, errors.AreaError, errors.NoScene, errors.StackError)
        try:
            code = command(*args, **kwargs)
        except errors.CompoundWatchError as error:
            click.echo(f"compoundwatch: {error}", err=True)
            sys.exit(WRONG_USE if isinstance(error, wrong) else FAILED)
        except MemoryError:
            click.echo(
                "compoundwatch: not enough memory; watch fewer sites at once or lower load.tile_pixels", err=True
            )
            sys.exit(FAILED)
        sys.exit(code or DONE)

    return run


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar, or lines for a program to read, on standard error, so that standard output stays clean."""
    if click.get_current_context().find_root().params["progress"] == "lines":
        yield lambda task, done, total: click.echo(f"{done}/{total} {task}", err=True)
        return
    if quiet:
        yield lambda task, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda text, done, total: bar.update(task, description=text, completed=done, total=total)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="compoundwatch")
@click.option(
    "--progress",
    type=click.Choice(["bar", "lines"]),
    default="bar",
    show_default=True,
    help="How to tell what is being done: lines are for other programs, such as QGIS.",
)
def main(progress: str) -> None:
    """Monitor known sites with open satellite imagery: what changed, when, which way, and how sure that is.

    \b
    Try it without a network:          compoundwatch demo
    Check a file of your own sites:    compoundwatch check sites.geojson
    Watch them:                        compoundwatch watch sites.geojson --out result
    """


@main.command()
@click.option(
    "--out", type=FILE, default=Path("compoundwatch-demo"), show_default=True, help="New folder for the demo."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_guarded
def demo(out: Path, as_json: bool) -> int:
    """Simulate a place with known changes and watch it, from imagery to report.

    \b
    Example:  compoundwatch demo --out demo
    """
    from compoundwatch import pipeline

    with _progress(as_json) as progress:
        result = pipeline.demo(out, progress)
    if as_json:
        click.echo(_as_json(result))
    else:
        click.echo("A made-up place was simulated and watched; this is what was found, beside what was put there:\n")
        truth = pipeline.demo_truth(out)
        _print_states(result, truth)
        _print_files(out / "result")
    return DONE if result.complete else INCOMPLETE


@main.command()
@click.argument("areas", metavar="AOI", type=FILE)
@click.option("--events", type=FILE, help="CSV file of dated events to check along with the areas.")
@click.option("--json", "as_json", is_flag=True, help="Print what was read as JSON.")
@_guarded
def check(areas: Path, events: Path | None, as_json: bool) -> None:
    """Check a GeoJSON file of sites and controls (AOI), and say what it holds.

    \b
    Example:  compoundwatch check aoi/cambodia.geojson --events seeds/events.csv
    """
    from compoundwatch import pipeline

    area = pipeline.read_area(areas, events)
    summary = pipeline.describe(area)
    if as_json:
        click.echo(json.dumps(summary, ensure_ascii=False, indent=2))
        return
    click.echo(
        f"{areas} is good: {summary['n_sites']} sites, {summary['n_controls']} controls, {summary['n_events']} events."
    )
    for row in summary["sites"]:
        controls = f"{row['n_controls']} controls" if row["n_controls"] else "no controls (they will be proposed)"
        precision = f", place known to {row['precision_m']:.0f} m" if row["precision_m"] else ""
        click.echo(f"  {row['site_id']}: {row['name']}, {row['area_ha']:.1f} ha, {controls}{precision}")


@main.command()
@click.argument("areas", metavar="AOI", type=FILE)
@click.option("--site", "sites", multiple=True, metavar="ID", help="Watch this site only; may be repeated.")
@click.option(
    "--catalog",
    "catalog",
    multiple=True,
    metavar="URL|PATH",
    help="STAC API, or a folder with a catalog.json or granules; may be repeated. Default: public catalogues.",
)
@click.option(
    "--sensor",
    "sensor_names",
    multiple=True,
    default=("sentinel2",),
    show_default=True,
    metavar="NAME",
    help="Sensor to use; may be repeated. See 'compoundwatch sensors'.",
)
@click.option("--from", "start", type=DATE, help="First day of imagery. Default: three years before the last.")
@click.option("--to", "end", type=DATE, help="Last day of imagery. Default: today.")
@click.option("--events", type=FILE, help="CSV file of dated events, such as announced raids.")
@click.option("--settings", type=FILE, help="TOML file of settings.")
@click.option("--out", type=FILE, required=True, help="Workspace: the folder for the results, gone on with next time.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for another run to leave the workspace.",
)
@click.option("--renew", is_flag=True, help="Do anew what other settings or outlines change in the workspace.")
@click.option("--notify", type=FILE, help="TOML file that says whom to tell of new states; see docs/schedule.md.")
@click.option("--workers", type=click.IntRange(0), default=0, help="Look at places side by side in so many processes.")
@click.option("--dask", metavar="ADDRESS", help="Dask scheduler whose workers look at the places; see docs/scale.md.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_guarded
def watch(
    areas: Path,
    sites: tuple[str, ...],
    catalog: tuple[str, ...],
    sensor_names: tuple[str, ...],
    start: dt.datetime | None,
    end: dt.datetime | None,
    events: Path | None,
    settings: Path | None,
    out: Path,
    notify: Path | None,
    wait_s: float,
    renew: bool,
    workers: int,
    dask: str | None,
    as_json: bool,
) -> int:
    """Find what changed at the sites of AOI (a GeoJSON file), when, which way, and how surely.

    Run it again with the same --out, and only what is new is asked for, read and judged.

    \b
    Examples:
      compoundwatch watch sites.geojson --out result
      compoundwatch watch sites.geojson --site S1 --from 2023-01-01 --to 2026-03-31 \\
          --events events.csv --out result
      compoundwatch watch sites.geojson --catalog my-imagery/ --out result
    """
    from compoundwatch import pipeline

    alerts = pipeline.read_alerts(notify) if notify else None
    with _progress(as_json) as progress:
        result = pipeline.watch(
            areas,
            out=out,
            catalog=catalog,
            sensor_names=sensor_names,
            sites=sites,
            start=start.date() if start else None,
            end=end.date() if end else None,
            events=events,
            settings=settings,
            wait_s=wait_s,
            renew=renew,
            workers=workers,
            dask=dask,
            progress=progress,
        )
    if as_json:
        click.echo(_as_json(result))
    else:
        _print_states(result)
        if not result.fresh:
            click.echo("Nothing is new since the last run; its files stand.")
        _print_files(out)
    told = pipeline.send_alerts(out, alerts, result) if alerts else None
    if told:
        click.echo("\n".join(pipeline.alerted_text(told)), err=True)
    return DONE if result.complete and not (told and told.problems) else INCOMPLETE


@main.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--aoi", "areas", type=FILE, help="GeoJSON file of areas whose changed share is wanted.")
@click.option("--detector", default="auto", show_default=True, help="Pair detector; see 'compoundwatch detectors'.")
@click.option("--alpha", type=float, default=0.01, show_default=True, help="False-alarm rate per pixel.")
@click.option("--out", type=FILE, required=True, help="Folder for the results.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_guarded
def compare(
    before: Path, after: Path, areas: Path | None, detector: str, alpha: float, out: Path, as_json: bool
) -> None:
    """Find what changed between two co-registered images (GeoTIFF, JPEG 2000 or PNG).

    \b
    Example:  compoundwatch compare before.tif after.tif --aoi sites.geojson --out result
    """
    from compoundwatch import pipeline

    with _progress(as_json) as progress:
        result = pipeline.compare(before, after, out=out, area=areas, detector=detector, alpha=alpha, progress=progress)
    summary = pipeline.describe_compare(result)
    if as_json:
        click.echo(json.dumps(summary, ensure_ascii=False, indent=2))
        return
    click.echo(f"Detector: {result.detector} ({result.why}).")
    click.echo(
        f"Changed: {summary['changed_share']:.2%} of the pixels that could be tested "
        f"({summary['increased_share']:.2%} more, {summary['decreased_share']:.2%} less)."
        if summary["changed_share"] is not None
        else "No pixel could be tested."
    )
    for site_id, row in result.shares.items():
        share = row["changed_share"]
        click.echo(f"  {site_id}: " + ("not observable" if share is None else f"{share:.2%} changed"))
    _print_files(out)


@main.command()
@click.argument("folders", metavar="DIR...", type=FILE, nargs=-1, required=True)
@click.option(
    "--event", "event_ids", multiple=True, metavar="ID", help="Hold the sites against this event; may repeat."
)
@click.option("--events", type=FILE, help="CSV file of events in place of those of the results.")
@click.option(
    "--placebos",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Judge so many controls of each DIR as if they were sites, and rank the sites among them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@_guarded
def summary(
    folders: tuple[Path, ...], event_ids: tuple[str, ...], events: Path | None, placebos: int, as_json: bool
) -> int:
    """Say what holds for how many of the sites in the results DIR, before or after which raid, and how surely.

    \b
    Examples:
      compoundwatch summary result
      compoundwatch summary january/ february/ --event 2026-01-18-bavet-ultimatum --json
    """
    from compoundwatch import pipeline

    found = pipeline.summarise(folders, event_ids=event_ids or None, events=events, placebos=placebos)
    if as_json:
        click.echo(json.dumps(pipeline.describe_summary(found), ensure_ascii=False, indent=2))
    else:
        for heading, paragraphs in pipeline.summary_text(found):
            click.echo(f"{heading}\n" + "".join(f"  {p}\n" for p in paragraphs))
    return DONE if found.n_answered == found.n_sites else INCOMPLETE


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--out", type=FILE, help="File to write. Default: beside DIR, named after it.")
@click.option("--site", "site_id", metavar="ID", help="Tell of this site only.")
@click.option("--lang", "language", default="en", show_default=True, help="Language of the page: en or km (Khmer).")
@click.option("--pdf", is_flag=True, help="Print it as PDF with Chromium, Chrome or Edge.")
@click.option(
    "--basemap", default="", metavar="URL", help="Tiles, https://.../{z}/{x}/{y}.png, that readers may switch on."
)
@_guarded
def report(folder: Path, out: Path | None, site_id: str | None, language: str, pdf: bool, basemap: str) -> None:
    """Write the report of the result DIR again: of one site, in another language, or as PDF.

    \b
    Examples:
      compoundwatch report result --lang km
      compoundwatch report result --site S1 --pdf --out S1.pdf
    """
    from compoundwatch import pipeline

    written = pipeline.report(folder, out=out, site_id=site_id, language=language, pdf=pdf, basemap=basemap)
    click.echo(f"Written to {written}.")


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--site", "sites", multiple=True, metavar="ID", help="Draw this site only; may be repeated.")
@click.option("--out", type=FILE, help="Folder for the pictures. Default: beside DIR, named after it.")
@_guarded
def chips(folder: Path, sites: tuple[str, ...], out: Path | None) -> int:
    """Draw the sites of the result DIR over time: contact sheets, before and after, and timelapses, as PNG and GIF.

    \b
    Examples:
      compoundwatch chips result
      compoundwatch chips result --site S1 --out pictures
    """
    from compoundwatch import pipeline

    with _progress(False) as progress:
        made = pipeline.chips(folder, out=out, sites=sites, progress=progress)
    click.echo(f"Written to {made.folder}: {len(made.paths)} files.")
    if made.without:
        click.echo(f"No picture of {', '.join(made.without)}: no clear view was kept.")
    return INCOMPLETE if made.without else DONE


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.argument("site_id", metavar="SITE")
@click.option("--on", type=DATE, help="What was said on that day alone. Default: all that was ever said.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_guarded
def history(folder: Path, site_id: str, on: dt.datetime | None, as_json: bool) -> None:
    """Tell what was said of SITE in the workspace DIR, and when.

    \b
    Examples:
      compoundwatch history result S1
      compoundwatch history result S1 --on 2026-01-31
    """
    from compoundwatch import pipeline

    found = pipeline.history(folder, site_id, on.date() if on else None)
    if as_json:
        click.echo(json.dumps(pipeline.describe_history(found), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(pipeline.history_text(found)))


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.argument("site_id", metavar="SITE")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
@_guarded
def explain(folder: Path, site_id: str, as_json: bool) -> None:
    """Say why SITE got its answer in the result DIR, and what the answer would be without each sensor.

    \b
    Example:  compoundwatch explain result S1
    """
    from compoundwatch import pipeline

    found = pipeline.explain(folder, site_id)
    if as_json:
        click.echo(json.dumps(pipeline.describe_explanation(found), ensure_ascii=False, indent=2))
        return
    for heading, lines in pipeline.explanation_text(found):
        click.echo(f"{heading}\n" + "".join(f"  {line}\n" for line in lines))


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--seal", metavar="SHA256", help="The seal that was noted when the result was written or handed over.")
@click.option("--recompute", is_flag=True, help="Also make the result anew from the kept imagery, and compare.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@_guarded
def verify(folder: Path, seal: str | None, recompute: bool, as_json: bool) -> int:
    """Check that the result DIR is as it was written, and say what differs: every hash, the log, what files say twice.

    Exit code 0: all the same; 1: something differs; 2: the folder cannot be verified; 3: it could not be recomputed.

    \b
    Examples:
      compoundwatch verify result
      compoundwatch verify result --recompute
    """
    from compoundwatch import pipeline

    with _progress(as_json or not recompute) as progress:
        found = pipeline.verify(folder, seal=seal, recompute=recompute, progress=progress)
    if as_json:
        click.echo(json.dumps(pipeline.describe_verification(found), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(pipeline.verification_text(found)))
    same, whole = pipeline.verified(found)
    return FAILED if not same else DONE if whole else INCOMPLETE


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--out", type=FILE, required=True, help="New ZIP file (ending in .zip) or new folder.")
@click.option(
    "--info", "info", multiple=True, metavar="LABEL=TEXT", help="A further line of bag-info.txt; may be repeated."
)
@_guarded
def bundle(folder: Path, out: Path, info: tuple[str, ...]) -> None:
    """Verify the result DIR and pack it as a BagIt bag, to be handed over or kept.

    \b
    Example:  compoundwatch bundle result --out evidence.zip --info "Contact-Name=A. Name"
    """
    from compoundwatch import pipeline

    written = pipeline.bundle(folder, out, info=dict(_label(text) for text in info))
    click.echo(f"Written to {written}. Anybody can check it: docs/evidence.md says how.")


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--out", type=FILE, required=True, help="New folder.")
@click.option("--aoi", "areas", type=FILE, help="File of areas that says what is restricted. Default: as watched.")
@click.option(
    "--precision-m", type=float, default=10_000, show_default=True, help="Smallest cell in which a place is shown."
)
@click.option("--delay-days", type=int, default=14, show_default=True, help="Tell no state that is younger than this.")
@click.option("--json", "as_json", is_flag=True, help="Print what was published as JSON.")
@_guarded
def publish(folder: Path, out: Path, areas: Path | None, precision_m: float, delay_days: int, as_json: bool) -> int:
    """Make a folder for the public from the result DIR: cells instead of outlines, states of a while ago, no pixels.

    Read docs/ethics.md first. Exit code 3: some sites, or their latest states, are not in it.

    \b
    Example:  compoundwatch publish result --out public
    """
    from compoundwatch import pipeline

    found = pipeline.publish(folder, out, areas=areas, precision_m=precision_m, delay_days=delay_days)
    if as_json:
        click.echo(json.dumps(pipeline.describe_published(found), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join([*pipeline.published_text(found), f"Written to {out}."]))
    return DONE if found.complete else INCOMPLETE


@main.command()
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--port", type=click.IntRange(0, 65535), default=8600, show_default=True, help="0 = any that is free.")
@_guarded
def serve(folder: Path, port: int) -> None:
    """Show the result DIR in a browser, with its rasters as map layers, and to QGIS; read-only, on this machine alone.

    \b
    Example:  compoundwatch serve result
    """
    from compoundwatch import pipeline

    def ready(address: str) -> None:
        click.echo(f"Open {address} in a browser; in QGIS add {address}ogc as WFS / OGC API Features. Ctrl+C ends it.")

    pipeline.serve(folder, port=port, ready=ready)


def _label(text: str) -> tuple[str, str]:
    label, found, said = text.partition("=")
    if not found:
        raise click.BadParameter(f"expected LABEL=TEXT, found {text!r}", param_hint="--info")
    return label.strip(), said.strip()


@main.command()
@click.option("--out", type=FILE, required=True, help="New or empty folder.")
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds give equal places.")
@_guarded
def simulate(out: Path, seed: int) -> None:
    """Write a made-up place with known truth: a STAC catalogue, areas, events and the truth.

    \b
    Example:  compoundwatch simulate --out made-up --seed 1
              compoundwatch watch made-up/sites.geojson --catalog made-up --out result
    """
    from compoundwatch import pipeline

    with _progress(False) as progress:
        pipeline.simulate(out, seed, progress)
    click.echo(f"Written to {out}; the truth is in {out / 'truth.json'}.")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@_guarded
def sensors(as_json: bool) -> None:
    """List the sensors, what they see and what they cannot."""
    from compoundwatch import pipeline

    rows = pipeline.list_sensors()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}: {row['title']}, seen every {row['revisit_days']:g} days")
        click.echo(
            f"    sees {row['sees']}\n    cannot see {row['blind_to']}\n    features: {', '.join(row['features'])}"
        )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@_guarded
def detectors(as_json: bool) -> None:
    """List the change detectors and where their method comes from."""
    from compoundwatch import pipeline

    rows = pipeline.list_detectors()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']} ({row['kind']}): {row['title']}\n    {row['source']}")


def _as_json(result: WatchResult) -> str:
    from compoundwatch import pipeline

    return json.dumps(pipeline.summary(result), ensure_ascii=False, indent=2)


def _print_states(result: WatchResult, truth: dict[str, str] | None = None) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_lines=True)
    for heading in ("Site", *(["What was put there"] if truth else []), "State", "Score", "Reason"):
        table.add_column(heading, overflow="fold")
    names = result.area.by_id
    for s in result.states:
        score = "-" if s.score is None else f"{s.score:.0f}"
        put = [escape(truth.get(s.site_id, ""))] if truth else []
        table.add_row(escape(f"{names[s.site_id].name} ({s.site_id})"), *put, str(s.state), score, escape(s.reason))
    # A pipe or a log has no width of its own; 100 columns keep the table readable there.
    console = Console() if sys.stdout.isatty() else Console(width=100)
    console.print(table)
    if left := [k for k in result.skipped if not k.routine]:
        click.echo(
            f"{len(left)} items were left out; manifest.json lists them. The first: {left[0].item_id}: {left[0].reason}"
        )


def _print_files(folder: Path) -> None:
    from compoundwatch import pipeline

    click.echo("Open:")
    for path, what in pipeline.result_files(folder):
        click.echo(f"  {path}  {what}")
