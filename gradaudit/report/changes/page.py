"""Render a ``ComparisonDocument``: HTML, a notebook's fragment, JSON; and write the file."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from gradaudit.errors import InputError
from gradaudit.report import blocks
from gradaudit.report.changes.display import page_of
from gradaudit.report.changes.intervals import WIDTH
from gradaudit.report.changes.plain_text import render_comparison_markdown
from gradaudit.runs.folder import local_path, write_atomically
from gradaudit.schema.comparison import COMPARISON_VERSION, ComparisonDocument

_HERE = Path(__file__).parents[1]
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_comparison(document: ComparisonDocument) -> str:
    """The whole comparison as one HTML page.

    It loads nothing from outside, holds no script and no picture, and every text is escaped.
    """
    return _template("changes.html").render(
        document=document,
        page=page_of(document),
        policy=_POLICY,
        style=Markup(_style()),
        width=WIDTH,
        files=(_data_file(document),),
    )


def render_comparison_fragment(document: ComparisonDocument) -> str:
    """What a notebook shows (``_repr_html_``): what differs, the result and the tables of heat.

    Its styles apply to nothing else.
    """
    mark = hashlib.sha256(f"{document.comparison_id} {document.created}".encode()).hexdigest()[:8]
    scoped = scoped_style(_style(), ".gradaudit-changes")
    return _template("changes_fragment.html").render(
        document=document, page=page_of(document), style=Markup(scoped), width=WIDTH, mark=mark
    )


def comparison_json(document: ComparisonDocument) -> str:
    """The document as ``comparison.json``: fields in the schema's order, one newline at the end."""
    data = document.model_dump(mode="json")
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def comparison_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of ``comparison.json``."""
    schema = ComparisonDocument.model_json_schema(mode="validation")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:gradaudit:comparison:{COMPARISON_VERSION}",
    }
    named = {"title": "gradaudit comparison", "description": "Two audits side by side."}
    return head | schema | named


def write_comparison(document: ComparisonDocument, path: str | Path) -> Path:
    """Write the comparison in the format that the file name ends in (.html, .md or .json).

    The file is written whole or not at all.

    Errors: ``InputError`` for another ending, an address, or where the file cannot be written.
    """
    place = local_path(path, "The comparison")
    render = _RENDERS.get(place.suffix.lower())
    if render is None:
        raise InputError(
            f"The comparison {place} ends in {place.suffix or 'nothing'!r}; expected one of "
            f"{', '.join(_RENDERS)}."
        )
    try:
        write_atomically(place, render(document).encode("utf-8"))
    except OSError as error:
        raise InputError(
            f"The comparison cannot be written to {place}: {error.strerror or error}."
        ) from error
    return place


_RENDERS: dict[str, Callable[[ComparisonDocument], str]] = {
    ".html": render_comparison,
    ".htm": render_comparison,
    ".md": render_comparison_markdown,
    ".json": comparison_json,
}


def _data_file(document: ComparisonDocument) -> blocks.Download:
    """Every number of the page in one archive."""
    tables = {
        "changes.csv": document.cells,
        "performance.csv": document.performance,
        "differences.csv": document.differences,
    }
    texts = {"comparison.json": comparison_json(document)}
    texts |= {name: blocks.records_csv(rows) for name, rows in tables.items() if rows}
    said = f"{', '.join(texts)}: every number of this page"
    return blocks.archive("gradaudit-comparison.zip", said, texts)


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> Template:
    return _environment().get_template(name)


_WHOLE_PAGE = (":root", "body", "html")


def scoped_style(css: str, scope: str) -> str:
    """A style sheet whose rules apply to nothing outside ``scope``; light, as notebooks are.

    Rules may stand inside one @media; @page and the dark colours are left out.
    """
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    css = re.sub(
        r"@media screen and \(prefers-color-scheme: dark\) \{.*?\}\s*\}", "", css, flags=re.DOTALL
    )
    css = re.sub(r"@page \{[^}]*\}", "", css)

    def narrowed(found: re.Match[str]) -> str:
        selectors = re.split(r",(?![^()]*\))", found[2])
        return f"{found[1]} {', '.join(_inside(s.strip(), scope) for s in selectors)} {{"

    return re.sub(r"(^|[{}])\s*([^{}@;]+?)\s*\{", narrowed, css)


def _inside(selector: str, scope: str) -> str:
    first, _, rest = selector.partition(" ")
    if first in _WHOLE_PAGE:
        return f"{scope} {rest}".strip()
    return f"{scope} {selector}"


@functools.cache
def _style() -> str:
    return (_HERE / "changes.css").read_text(encoding="utf-8")
