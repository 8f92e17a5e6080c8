"""The Khmer words: one for every text of the interface, with the same places to fill, and none that nothing uses."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po

from compoundwatch import sensors
from compoundwatch.errors import SettingsError
from compoundwatch.events import KINDS
from compoundwatch.ladder import MEANING, STATE_WORDS, TIMING_WORDS
from compoundwatch.outputs.legend import feature_label
from compoundwatch.outputs.report.view import SHARES
from compoundwatch.outputs.report.words import languages, words

REPORT = files("compoundwatch.outputs.report")
INTERNATIONAL = {"NDVI", "NDBI", "VV db", "VH db"}
"""Names of measurements that are the same in every language."""


def extracted() -> set[str]:
    """Every text of the templates and of the code that goes through gettext."""
    options = {"newstyle_gettext": "true", "trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}
    found: set[str] = set()
    for path in REPORT.joinpath("templates").iterdir():
        if path.name.endswith(".j2"):
            names = {"_": None, "ngettext": (1, 2)}
            messages = extract_from_file("jinja2", str(path), keywords=names, options=options)  # type: ignore[arg-type]
            found |= {text for _, ids, *_ in messages for text in ([ids] if isinstance(ids, str) else ids) if text}
    for name in ("view.py", "page.py"):
        names = {"gettext": None, "ngettext": (1, 2), "fill": None}
        messages = extract_from_file("python", str(REPORT / name), keywords=names)  # type: ignore[arg-type]
        found |= {text for _, ids, *_ in messages for text in ([ids] if isinstance(ids, str) else ids) if text}
    return found


def told() -> set[str]:
    """Words that reach the page by another way: of the ladder, of sensors, of events, of the script."""
    known = sensors.available().values()
    features = {f for s in known for f in s.features}
    return {
        *STATE_WORDS.values(),
        *MEANING.values(),
        *TIMING_WORDS.values(),
        *SHARES.values(),
        *KINDS,
        *(s.sees for s in known),
        *(s.blind_to for s in known),
        *(f.increase_suggests for f in features),
        *({feature_label(f.name) for f in features} - INTERNATIONAL),
        "activity",
        *re.findall(r'"[a-z_]+": "([^"]+)",\n', REPORT.joinpath("page.py").read_text(encoding="utf-8")),
        *re.findall(r'text = "([^"]+)"', REPORT.joinpath("view.py").read_text(encoding="utf-8")),
    }


def catalogue() -> dict[str, str]:
    with REPORT.joinpath("locale", "km.po").open("rb") as file:
        found = read_po(file, locale="km", abort_invalid=True)
    known: dict[str, str] = {}
    for message in found:
        ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
        text = message.string if isinstance(message.string, str) else message.string[0]
        known |= {name: text for name in ids if name}
    return known


def test_every_text_has_its_khmer_words_and_none_is_left_over() -> None:
    needed = extracted() | told()
    known = catalogue()
    assert len(needed) > 150
    assert sorted(needed - set(known)) == []
    assert sorted(set(known) - needed) == []


def test_every_translation_is_khmer_and_keeps_its_places() -> None:
    for english, khmer in catalogue().items():
        assert sorted(re.findall(r"%\(\w+\)s|%%", english)) == sorted(re.findall(r"%\(\w+\)s|%%", khmer)), english
        left = re.sub(r"%\(\w+\)s|%%|[\W\d_]|\b(?:is|are)\b", "", english)
        assert not left or re.search(r"[\u1780-\u17ff]", khmer), english


def test_no_answer_is_worded_as_no_change() -> None:
    khmer = words("km")
    none = khmer.gettext("no change")
    for text in ("inconclusive", "not observable"):
        assert none not in khmer.gettext(text)
    rungs = [khmer.gettext(text) for text in STATE_WORDS.values()]
    assert len(set(rungs)) == len(rungs)
    assert all(text.startswith("ស្របនឹង") for text in rungs[:-1])


def test_languages() -> None:
    assert languages() == ("en", "km")
    assert words("en").gettext("Sites") == "Sites"
    assert words("km").gettext("A text that nobody translated") == "A text that nobody translated"
    assert words("en").ngettext("%(n)s site", "%(n)s sites", 1) == "%(n)s site"
    with pytest.raises(SettingsError, match=r"en or km, found '\.\./en'"):
        words("../en")
