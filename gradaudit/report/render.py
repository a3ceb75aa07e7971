"""Render a ``ResultDocument`` as HTML, Markdown or JSON.

Pure renders: the same document gives the same bytes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradaudit.errors import InputError
from gradaudit.number_text import count, finite_or_none
from gradaudit.records import CellState
from gradaudit.report.blocks import Block
from gradaudit.report.comparisons import read_comparisons
from gradaudit.report.figures.shapes import coordinate
from gradaudit.report.isolation import isolated_names, prose
from gradaudit.report.markdown import markdown
from gradaudit.report.page_blocks import Six, State, StoredPicture
from gradaudit.report.pictures import PictureStore
from gradaudit.report.sections.overview import SECTIONS
from gradaudit.report.sections.page_one import page_one
from gradaudit.result_schema import SCHEMA_VERSION, ResultDocument

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """One section as the page shows it; ``counts`` stand beside its title in the navigation."""

    anchor: str
    title: str
    summary: str
    counts: tuple[State, ...]
    blocks: tuple[Block, ...]


# ── renders ───────────────────────────────────────────────────────────────────────────────────────


def render_html(document: ResultDocument) -> str:
    """The whole report as one HTML page.

    The page loads nothing from outside, is complete without JavaScript, and every text is escaped.
    """
    document = shown(document)
    script = _resource("script.js")
    style = _page_css(document) + _resource("page_one.css") + _resource("style.css")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template("report.html")
    return page.render(
        document=document,
        state=_capital(document.verdict.words),
        sections=_sections(document),
        pictures=_stored(document),
        policy=policy,
        script=Markup(script),
        style=Markup(style),
        icons=Markup(_resource("icons.html").strip()),
        claim=_claims(),
        isolated=isolated_names(document),
    )


def render_fragment(document: ResultDocument) -> str:
    """Page one, as notebooks show it (``_repr_html_``); its styles apply to nothing else.

    Nothing links or carries an id of the page, as a notebook shows many of them on one page.
    """
    document = shown(document)
    prefix = hashlib.sha256(f"{document.audit_id} {document.created}".encode()).hexdigest()[:8]
    page = page_one(document)
    used = _numbers_of(page.pictures)
    style = _scoped(_resource("page_one.css"), ".gradaudit-fragment") + _resource("fragment.css")
    return (
        _environment()
        .get_template("fragment.html")
        .render(
            document=document,
            page=page,
            pictures=[p for p in _stored(document) if p.number in used],
            prefix=f"{prefix}-",
            style=Markup(style),
            icons=Markup(_resource("icons.html").strip()),
            isolated=isolated_names(document),
        )
    )


def render_markdown(document: ResultDocument) -> str:
    """A short report in Markdown (GitHub's tables): page one, findings, data, limits."""
    return markdown(shown(document))


def to_json(document: ResultDocument) -> str:
    """The document as canonical ``result.json``.

    Fields in the schema's order, each list of numbers on one line, ``null`` instead of NaN, and one
    newline at the end.
    """
    data = shown(document).model_dump(mode="json")
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1)
    # A raw line break never stands inside a JSON string, so only real lists of numbers are joined.
    text = re.sub(
        r"\[\n[-+0-9.eE,\s]*\]",
        lambda found: "[" + " ".join(found.group()[1:-1].split()) + "]",
        text,
    )
    return text + "\n"


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of ``result.json``."""
    schema = ResultDocument.model_json_schema(mode="validation")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:gradaudit:result:{SCHEMA_VERSION}",
    }
    return (
        head
        | schema
        | {"title": "gradaudit result", "description": "Everything a report of gradaudit shows."}
    )


def shown(document: ResultDocument) -> ResultDocument:
    """The document as every render shows it.

    Undefined numbers become ``None``, and no pixel is left where images are withheld.

    Errors: ``InputError`` where a mean map holds a value that is not finite, as no render could
    show it.
    """
    data = _plain(document.model_dump())
    for item in data["gallery"]:
        if any(value is None for line in item["heat"] for value in line):
            item["heat"] = ()  # a map that is not finite is no map
        if not document.images_shown:
            item["image"] = ""
    broken = [
        f"{m['attribute']} = {m['level']}"
        for m in data["mean_maps"]
        if any(v is None for line in m["heat"] for v in line)
    ]
    if broken:
        raise InputError(
            f"{len(broken)} of {len(data['mean_maps'])} mean maps hold values that are not finite ({', '.join(broken[:3])}); "
            "leave images without a defined map out of the mean."
        )
    return ResultDocument.model_validate(data)


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.globals["unknown_block"] = _unknown_block
    environment.filters["prose"] = prose
    environment.filters["coordinate"] = coordinate
    return environment


def _unknown_block(kind: str) -> NoReturn:
    raise InputError(
        f"blocks.html has no rendering for blocks of kind {kind!r}; add a branch to its macro 'block'."
    )


@functools.cache
def _resource(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """A source of the page's policy: this very text and no other."""
    found = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest())
    return f"sha256-{found.decode('ascii')}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _stored(document: ResultDocument) -> tuple[StoredPicture, ...]:
    return PictureStore(document).stored() if document.images_shown else ()


def _numbers_of(six: Six | None) -> set[int]:
    return set() if six is None else {p.number for row in six.rows for p in row.pictures}


def _sections(document: ResultDocument) -> list[Section]:
    result = []
    for name in SECTIONS:
        card = SECTIONS.card(name)
        blocks = tuple(SECTIONS.get(name)(document))
        if blocks:
            anchor = name.replace("_", "-")
            counts = counts_of(document, name)
            result.append(Section(anchor, card.label, card.summary, counts, blocks))
    return result


def counts_of(document: ResultDocument, section: str) -> tuple[State, ...]:
    """What stands beside a section's title in the navigation."""
    if section == "findings":
        planned = [c for c in read_comparisons(document) if c.planned]
        states = [
            (CellState.BEYOND, "beyond"),
            (CellState.OPEN, "open"),
        ]
        found = [(state.value, sum(c.state is state for c in planned), w) for state, w in states]
        return tuple(State(look, f"{count(n)} {word}") for look, n, word in found if n)
    numbers = {
        "attributes": len(document.attributes),
        "data": document.data.n_images,
        "gallery": len(document.gallery) if document.images_shown else 0,
    }
    if numbers.get(section):
        return (State("muted", count(numbers[section])),)
    issues = sum(c.state == "issue" for c in document.checks)
    if section == "checks" and issues:
        return (State("muted", f"{count(issues)} to read"),)
    return ()


def _claims(prefix: str = "") -> Callable[[str], str]:
    """Hands out each id once: the second claim of "x" gets "x-2"."""
    seen: dict[str, int] = {}

    def claim(anchor: str) -> str:
        seen[anchor] = seen.get(anchor, 0) + 1
        name = anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor]}"
        return prefix + name

    return claim


@functools.cache
def _scoped(css: str, place: str) -> str:
    """The rules of a style sheet, each for what lies below ``place`` alone."""

    def within(found: re.Match[str]) -> str:
        selectors = (part.strip() for part in found[1].split(","))
        return (
            ", ".join(place if part == ":root" else f"{place} {part}" for part in selectors) + " {"
        )

    bare = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    return re.sub(r"([^{}]+?)\s*\{", within, bare)


def _page_css(document: ResultDocument) -> str:
    """Margins of the printed page: the notice above, audit and page number below, on every page."""
    font = "font:8pt sans-serif;color:#59616d"
    top = (
        f"@top-center{{content:{_css_string(document.notice)};{font};font-weight:bold}}"
        if document.notice
        else ""
    )
    name = f"@bottom-left{{content:{_css_string('Audit ' + document.audit_id)};{font}}}"
    foot = name + f'@bottom-right{{content:counter(page) " / " counter(pages);{font}}}'
    return f"@page{{{top}{foot}}}\n"


def _css_string(text: str) -> str:
    """The text as a CSS string that it cannot break out of.

    All but ASCII letters, digits and spaces is escaped, so no text can end the string or the sheet.
    """
    return (
        '"'
        + "".join(
            c if c.isascii() and (c.isalnum() or c == " ") else f"\\{ord(c):x} " for c in text
        )
        + '"'
    )


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return finite_or_none(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode(
            "utf-8"
        )  # half a surrogate pair, as odd file names have, is no text
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
