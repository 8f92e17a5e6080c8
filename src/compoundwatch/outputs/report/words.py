"""The words of the report in the languages it knows: English stands in the templates, the others in locale/*.po."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from compoundwatch.errors import SettingsError

ENGLISH = "en"
_LOCALE = files("compoundwatch.outputs.report") / "locale"


class Words:
    """The translations of one language; a text that is not translated stays English."""

    def __init__(self, language: str, catalogue: dict[str, str]) -> None:
        self.language = language
        self._catalogue = catalogue

    def gettext(self, text: str) -> str:
        """The text in this language."""
        return self._catalogue.get(text) or text

    def ngettext(self, one: str, many: str, n: int) -> str:
        """The text for a number of things; Khmer has one form for all of them."""
        return self.gettext(one if n == 1 and self.language == ENGLISH else many)

    def fill(self, text: str, **values: Any) -> str:
        """The text in this language with its %(named)s places filled."""
        return self.gettext(text) % values


def languages() -> tuple[str, ...]:
    """The languages a report can be written in."""
    return (ENGLISH, *sorted(f.name.removesuffix(".po") for f in _LOCALE.iterdir() if f.name.endswith(".po")))


@cache
def words(language: str) -> Words:
    """The words of a language.

    Raises
    ------
    SettingsError : the report does not know the language.
    """
    if language not in languages():
        raise SettingsError(f"expected a language of the report, {' or '.join(languages())}, found '{language}'")
    if language == ENGLISH:
        return Words(ENGLISH, {})
    from babel.messages.pofile import read_po

    with (_LOCALE / f"{language}.po").open("rb") as file:
        catalogue = read_po(file, locale=language, abort_invalid=True)
    found: dict[str, str] = {}
    for message in catalogue:
        # A text for one and one for many things share the only form that Khmer has.
        ids = message.id if isinstance(message.id, list | tuple) else (message.id,)
        text = message.string if isinstance(message.string, str) else (message.string or ("",))[0]
        found |= {name: text for name in ids if name and text}
    return Words(language, found)
