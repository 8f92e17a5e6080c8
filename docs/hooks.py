"""Build steps of the pages: docstrings in the form that the reference reads, and no page that loads from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import griffe

FOREIGN = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE
)
SECTION = re.compile(r"^(Parameters|Raises)\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}\n|\Z)", re.DOTALL | re.MULTILINE)
RETURNS = re.compile(r"^Returns\n-+\n", re.MULTILINE)
ENTRY = re.compile(r"^(\S[^\n:]*) : ", re.MULTILINE)


def on_post_page(output: str, page: Any, **_: Any) -> None:
    """Stop where a page would load a script, style, font or picture from another machine."""
    if found := FOREIGN.search(output):
        raise SystemExit(f"{page.file.src_uri}: it loads {found[0]!r} from elsewhere; pages are read without a network")


class Sentences(griffe.Extension):
    """Our docstrings say ``name : a sentence``; what reads them expects the sentence on a line of its own."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one function or class."""
        if obj.docstring:
            text = SECTION.sub(
                lambda part: f"{part[1]}\n{'-' * len(part[1])}\n{_entries(part[2])}", obj.docstring.value
            )
            obj.docstring.value = RETURNS.sub("**Returns:**\n\n", text)


def _entries(text: str) -> str:
    return ENTRY.sub(lambda entry: f"{entry[1]}\n    ", text)
