"""Files of events and of reported sites: what is read, and what is refused with which words."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from compoundwatch.errors import AreaError
from compoundwatch.events import EVENT_COLUMNS, SITE_COLUMNS, read_events, read_reported_sites
from compoundwatch.model import AreaOfInterest, Event, Role, Site

HEADER = ",".join(EVENT_COLUMNS)
ROW = 'e1,2026-01-15,2026-01-15,day,Sihanoukville,a,exodus,Departures filmed,"AFP, 17 Jan 2026",R'
AREA = AreaOfInterest(
    "here",
    (
        Site("a", "A", Role.SITE, box(0, 0, 1, 1)),
        Site("bavet", "B", Role.SITE, box(3, 0, 4, 1)),
        Site("c", "C", Role.CONTROL, box(6, 0, 7, 1)),
    ),
)


def save(folder: Path, *lines: str, ending: str = "\n") -> Path:
    path = folder / "events.csv"
    path.write_bytes(ending.join([*lines, ""]).encode("utf-8"))
    return path


def row(**cells: str) -> str:
    usual = dict(
        event_id="e1", date_earliest="2026-01-15", date_latest="2026-01-15", date_precision="day", place="P", scope="",
        kind="raid", what="W", source="S", trust="S",
    )  # fmt: skip
    return ",".join({**usual, **cells}.values())


def complaint(folder: Path, *lines: str, areas: AreaOfInterest | None = None) -> str:
    path = save(folder, *lines)
    with pytest.raises(AreaError) as caught:
        read_events(path, areas)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_every_cell_arrives(tmp_path: Path) -> None:
    wanted = Event(
        "e1", dt.date(2026, 1, 15), dt.date(2026, 1, 15), "Sihanoukville", ("a",), "exodus", "Departures filmed",
        "AFP, 17 Jan 2026", "R",
    )  # fmt: skip
    assert read_events(save(tmp_path, HEADER, ROW), AREA) == (wanted,)
    assert read_events(save(tmp_path, "\ufeff" + HEADER, "", ROW, ending="\r\n")) == (wanted,)


def test_columns_in_any_order_and_own_columns(tmp_path: Path) -> None:
    names = [*reversed(EVENT_COLUMNS), "x_mine"]
    cells = [*reversed(row(what="=1+1", place="កំពត").split(",")), "anything"]
    event = read_events(save(tmp_path, ",".join(names), ",".join(cells)))[0]
    assert (event.event_id, event.what, event.place) == ("e1", "=1+1", "កំពត")  # a formula is only text here


@pytest.mark.parametrize(
    ("precision", "first", "last", "wanted"),
    [
        ("day", "2026-01-15", "2026-01-15", ("2026-01-15", "2026-01-15")),
        ("range", "2026-01-27", "2026-02-03", ("2026-01-27", "2026-02-03")),
        ("span", "2026-01-31", "2026-02-01", ("2026-01-31", "2026-02-01")),
        ("month", "2024-02-01", "2024-02-29", ("2024-02-01", "2024-02-29")),
        ("from", "2026-01-18", "", ("2026-01-18", "2026-01-18")),
    ],
)
def test_what_the_dates_mean(tmp_path: Path, precision: str, first: str, last: str, wanted: tuple[str, str]) -> None:
    line = row(date_precision=precision, date_earliest=first, date_latest=last)
    event = read_events(save(tmp_path, HEADER, line))[0]
    assert (event.earliest.isoformat(), event.latest.isoformat()) == wanted


def test_scope(tmp_path: Path) -> None:
    lines = [row(event_id=f"e{k}", scope=s) for k, s in enumerate(["", "*", "a; bavet", "bavet"])]
    path = save(tmp_path, HEADER, *lines)
    assert [e.scope for e in read_events(path, AREA)] == [(), ("a", "bavet"), ("a", "bavet"), ("bavet",)]
    assert [e.scope for e in read_events(path)] == [(), ("*",), ("a", "bavet"), ("bavet",)]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"event_id": ""}, "column event_id: expected text, found an empty cell"),
        ({"event_id": "a b"}, "column event_id: expected 1 to 100"),
        ({"event_id": "../x"}, "found '../x'"),
        ({"date_earliest": "15.01.2026"}, "column date_earliest: expected a day as YYYY-MM-DD, found '15.01.2026'"),
        ({"date_earliest": "20260115"}, "found '20260115'"),
        ({"date_earliest": "2026-02-30"}, "found '2026-02-30'"),
        ({"date_latest": ""}, "column date_latest: expected a day as YYYY-MM-DD, found an empty cell"),
        ({"date_latest": "2026-01-14"}, "a day not before 2026-01-15"),
        ({"date_latest": "2026-01-16"}, "use 'range' or 'span'"),
        ({"date_precision": "range"}, "use 'day'"),
        ({"date_precision": "span"}, "use 'day'"),
        ({"date_precision": "month"}, "the first and the last day of one month"),
        ({"date_precision": "from"}, "expected nothing with date_precision 'from'"),
        ({"date_precision": "dya"}, "did you mean 'day'?"),
        ({"place": " "}, "column place: expected text"),
        ({"kind": "exodos"}, "did you mean 'exodus'?"),
        ({"kind": "party"}, "expected one of arrest, border"),
        ({"what": ""}, "column what: expected text"),
        ({"what": "x" * 5001}, "at most 5000 characters"),
        ({"source": ""}, "column source: expected text"),
        ({"trust": "A"}, "column trust: expected S, R, W, D, K"),
        ({"trust": "S,R"}, "expected 10 cells, found 11"),
        ({"scope": "a;"}, "separated by ';'"),
        ({"scope": "*;a"}, "'*' alone"),
        ({"scope": "a;a"}, "every id once"),
        ({"scope": "bavat"}, "did you mean 'bavet'?"),
        ({"scope": "zzz"}, "area 'here' has no such site"),
        ({"scope": "c"}, "not the control 'c'"),
    ],
)
def test_faults_of_a_cell(tmp_path: Path, cells: dict[str, str], words: str) -> None:
    message = complaint(tmp_path, HEADER, ROW.replace("e1", "e0"), "", row(**cells), areas=AREA)
    assert words in message
    assert ", line 4" in message  # the blank line counts


def test_lines_are_counted_through_text_with_breaks(tmp_path: Path) -> None:
    broken = row(event_id="e2", kind="party")
    message = complaint(tmp_path, HEADER, row(what='"one\ntwo\nthree"'), broken)
    assert ", line 5, column kind" in message
    itself = complaint(tmp_path, HEADER, row(what='"one\ntwo"', kind="party"))
    assert ", line 2, column kind" in itself


def test_ids_are_unique(tmp_path: Path) -> None:
    assert "line 2 has it already" in complaint(tmp_path, HEADER, row(), row(event_id="E1"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER.replace("kind", "kindd"), "unknown column 'kindd'; did you mean 'kind'?"),
        (HEADER + ",latitude", "begin columns of your own with 'x_'"),
        (HEADER.replace(",kind", ""), "found no kind"),
        (HEADER + ",kind", "found 'kind' twice"),
        (HEADER.replace(",", ";"), "expected commas"),
        (HEADER.replace(",", "\t"), "expected commas"),
    ],
)
def test_faults_of_the_header(tmp_path: Path, header: str, words: str) -> None:
    message = complaint(tmp_path, header, ROW)
    assert words in message
    assert "line 1" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found an empty file"),
        (b"\n\n", "found an empty file"),
        (HEADER.encode() + b"\n" + ROW.encode() + b"\x00\n", "line 2: expected printable text, found the character"),
        (HEADER.encode() + b"\n\x1b[2J\n", "line 2: expected printable text"),
        (HEADER.encode() + b"\ncaf\xe9\n", "line 2: expected UTF-8"),
        (HEADER.encode("utf-16"), "expected UTF-8"),
        (HEADER.encode() + b'\n"a" b,\n', "line 2: expected comma-separated text"),
        (HEADER.encode() + b'\n"open', "expected comma-separated text"),
        (HEADER.encode() + b"\n" + b"x" * 200_000, "expected comma-separated text"),
        (b"x" * 5_000_001, "at most 5 MB"),
    ],
)
def test_hostile_files(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(content)
    with pytest.raises(AreaError) as caught:
        read_events(path)
    assert words in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(AreaError, match="no such file"):
        read_events(tmp_path / "none.csv")
    with pytest.raises(AreaError, match="found a folder"):
        read_events(tmp_path)


@given(st.text(max_size=200), st.sampled_from([*EVENT_COLUMNS, "file", "line"]))
@settings(max_examples=300, deadline=None)
def test_junk_is_read_or_refused_never_a_crash(tmp_path_factory: pytest.TempPathFactory, junk: str, where: str) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.csv"
    text = junk if where == "file" else f"{HEADER}\n{junk if where == 'line' else row(**{where: junk})}\n"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        events = read_events(path, AREA)
    except AreaError:
        return
    assert all(e.earliest <= e.latest and e.what and e.source for e in events)


def test_reported_sites(tmp_path: Path) -> None:
    lines = [
        ",".join(SITE_COLUMNS),
        "KH1,One,Town,,Cambodia,town,A casino,P2,An outlet,S/R,2025-11,",
        "KH2,Two,,Takeo,Cambodia,,A hotel,P3,An outlet,W,,no point",
    ]
    one, two = read_reported_sites(save(tmp_path, *lines))
    assert (one.seed_id, one.area, one.province, one.source_date, one.trust) == ("KH1", "town", None, "2025-11", "S/R")
    assert (two.locality, two.area, two.source_date, two.note, two.precision_class) == (
        None,
        None,
        None,
        "no point",
        "P3",
    )


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("K,One,T,P,C,,R,P9,S,S,,", "column precision_class: expected one of P0, P1, P2, P3"),
        ("K,One,T,P,C,,R,P2,S,S,2025-13,", "column source_date: expected YYYY, YYYY-MM or YYYY-MM-DD"),
        ("K,One,T,P,C,,R,P2,S,S,2025-02-30,", "found '2025-02-30'"),
        ("K,,T,P,C,,R,P2,S,S,,", "column name: expected text"),
        ("K,One,T,P,C,,R,P2,,S,,", "column source: expected text"),
    ],
)
def test_faults_of_reported_sites(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(AreaError) as caught:
        read_reported_sites(save(tmp_path, ",".join(SITE_COLUMNS), line))
    assert words in str(caught.value)
    assert "line 2" in str(caught.value)
