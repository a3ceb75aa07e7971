"""Names in other scripts inside a sentence: isolated, so that the words around them stay in order.

An Arabic name in an English sentence draws the punctuation and numbers beside it to its other side;
``<bdi>`` keeps it to itself.  Marks that turn the direction of a text end with the text they are in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from gradaudit.number_text import NARROW_SPACE
from gradaudit.report.wording import plain
from gradaudit.result_schema import ResultDocument

_TURNING = {"R", "AL", "AN"}
_MARKS = {"RLE", "RLO", "RLI", "LRE", "LRO", "LRI", "FSI"}
_BEFORE_PERCENT = re.compile(r"(?<=\d) (?=%)")
_ISOLATED = Markup("<bdi>{}</bdi>")


def isolated_names(document: ResultDocument) -> re.Pattern[str] | None:
    """A pattern of every name that is written from right to left; None where there is none."""
    names = {name for name in _names(document) if _has(name, _TURNING | _MARKS)}
    if not names:
        return None
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})")


def _names(document: ResultDocument) -> Iterator[str]:
    for a in document.attributes:
        yield from (a.name, plain(a.name), *a.levels)
    for region in document.regions:
        yield from (region.name, plain(region.name))
    for item in document.gallery:
        yield from (item.label, item.predicted, item.image_id)
    yield from document.model.classes


def _has(text: str, directions: set[str]) -> bool:
    return any(unicodedata.bidirectional(c) in directions for c in text)


@pass_context
def prose(context: Context, text: object) -> Markup:
    """A text of the page, escaped, its names from right to left isolated.

    A percent sign stays on the line of its number.
    """
    pattern: re.Pattern[str] | None = context.get("isolated")
    together = _BEFORE_PERCENT.sub(NARROW_SPACE, str(text))
    parts = pattern.split(together) if pattern is not None else [together]
    shown = [_piece(part, name=bool(n % 2)) for n, part in enumerate(parts)]
    return Markup("").join(shown)


def _piece(part: str, *, name: bool) -> Markup:
    return _ISOLATED.format(part) if name or _has(part, _MARKS) else escape(part)
