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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradaudit.errors import InputError
from gradaudit.number_text import count, finite_or_none
from gradaudit.report.blocks import Block, Drawing, Heading, Table, VerdictPanel
from gradaudit.report.figures.canvas import PALETTE
from gradaudit.report.sections import overview
from gradaudit.report.sections.cells import cell_table
from gradaudit.report.sections.findings import contrast_blocks
from gradaudit.report.sections.overview import SECTIONS
from gradaudit.result_schema import SCHEMA_VERSION, ResultDocument

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """One section as the page shows it.

    ``number`` is its place in the family; it stays the same where other sections are left out.
    """

    number: int
    anchor: str
    title: str
    summary: str
    blocks: tuple[Block, ...]


# ── renders ───────────────────────────────────────────────────────────────────────────────────────


def render_html(document: ResultDocument) -> str:
    """The whole report as one HTML page.

    The page loads nothing from outside, is complete without JavaScript, and every text is escaped.
    """
    document = shown(document)
    script = _resource("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template("report.html")
    return page.render(
        document=document,
        state=document.verdict.words,
        identity=_identity(document),
        sections=_sections(document),
        policy=policy,
        script=Markup(script),
        style=Markup(_palette_css() + _page_css(document) + _resource("style.css")),
        icons=Markup(_resource("icons.html").strip()),
        claim=_claims(),
    )


def render_fragment(document: ResultDocument) -> str:
    """The part of the report that notebooks show (``_repr_html_``).

    It holds the verdict, the forest plots and the contrasts; its styles apply to nothing else.
    """
    document = shown(document)
    mark = hashlib.sha256(f"{document.audit_id} {document.created}".encode()).hexdigest()[:8]
    facts = document.method
    details = contrast_blocks(document, facts.explain_method, facts.explain_target, f"-{mark}")
    panels = [b for b in overview.verdict(document) if isinstance(b, VerdictPanel)]
    cells = [cell_table(document)] if document.cells else []
    blocks = [
        *panels,
        *cells,
        *(b for b in details if isinstance(b, Drawing | Heading | Table)),
    ]
    colours = "".join(f"--{name}:{light};" for name, (light, _) in PALETTE.items())
    style = f'.gradaudit-fragment{{{colours}--sans:-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Liberation Sans",sans-serif}}\n'
    # Anchors stay out: a notebook shows many fragments on one page, and ids must not repeat.
    unlinked = [_without_links(block) for block in blocks]
    return (
        _environment()
        .get_template("fragment.html")
        .render(
            document=document,
            blocks=unlinked,
            style=Markup(style + _resource("fragment.css")),
            icons=Markup(_resource("icons.html").strip()),
            claim=_claims(f"{mark}-"),
        )
    )


def render_markdown(document: ResultDocument) -> str:
    """A short report in Markdown (GitHub's tables): verdict, data, contrasts, performance, limits."""
    document = shown(document)
    panel = next(b for b in overview.verdict(document) if isinstance(b, VerdictPanel))
    lines = [f"# {_md(document.title)}: {_md(panel.words)}", ""]
    lines += [f"> **{_md(document.notice)}**", ""] if document.notice else []
    lines += [
        f"- {_md(term)}: {_md(text)}{f' ({_md(code)})' if code else ''}"
        for term, text, code in _identity(document)
    ]
    lines += ["", f"## Verdict: {_md(panel.words)}", "", _md(panel.meaning), ""]
    lines += [f"**{_md(panel.headline)}**", ""] if panel.headline else []
    lists = [
        ("", panel.sentences),
        *([("In the way of “criteria met”:", panel.in_the_way)] if panel.in_the_way else []),
        ("What this audit cannot tell:", panel.cannot_tell),
        ("Images left out, and why:", panel.left_out),
    ]
    lists += (
        [("Regions not measured in some images:", panel.unmeasured)] if panel.unmeasured else []
    )
    for title, items in lists:
        lines += [title, ""] if title else []
        lines += [*(f"- {_md(item)}" for item in items), ""]
    lines += [_md(panel.about_unmeasured), ""] if panel.unmeasured else []
    lines += _md_table(cell_table(document)) if document.cells else []
    for name in ("data_by_subgroup", "heat", "performance"):
        tables = [
            table for block in SECTIONS.get(name)(document) if (table := _main_table(block, name))
        ]
        lines += [f"## {SECTIONS.card(name).label}", ""] if tables else []
        for table in tables:
            lines += _md_table(table)
    lines += [
        "## Limits",
        "",
        *(f"- {_md(limit)}" for limit in (*overview.GENERAL_LIMITS, *document.limits)),
        "",
    ]
    return "\n".join(lines)


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
    return environment


def _unknown_block(kind: str) -> NoReturn:
    raise InputError(
        f"blocks.html has no rendering for blocks of kind {kind!r}; add a branch to its macro 'block'."
    )


@functools.cache
def _resource(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _sections(document: ResultDocument) -> list[Section]:
    result = []
    for number, (name, card) in enumerate(zip(SECTIONS, SECTIONS.cards(), strict=True), start=1):
        blocks = tuple(SECTIONS.get(name)(document))
        if blocks:
            result.append(Section(number, name.replace("_", "-"), card.label, card.summary, blocks))
    return result


def _identity(document: ResultDocument) -> list[tuple[str, str, str]]:
    """Term, text and digest of the header: what was audited, by whom, when."""
    model, data = document.model, document.data
    facts = [
        ("Model", model.source, model.digest[:12]),
        ("Data", f"{data.name}, {count(data.n_images)} images", data.digest[:12]),
        (
            "Date",
            document.created.replace("T", " ").removesuffix("Z").removesuffix("+00:00") + " UTC",
            "",
        ),
        ("Audit", document.audit_id, ""),
        ("Auditor", document.auditor, ""),
        ("Version", f"gradaudit {document.tool_version}", ""),
    ]
    return [fact for fact in facts if fact[1]]


def _claims(prefix: str = "") -> Callable[[str], str]:
    """Hands out each id once: the second claim of "x" gets "x-2"."""
    seen: dict[str, int] = {}

    def claim(anchor: str) -> str:
        seen[anchor] = seen.get(anchor, 0) + 1
        name = anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor]}"
        return prefix + name

    return claim


def _without_links(block: Block) -> Block:
    if isinstance(block, VerdictPanel):
        return VerdictPanel(**(vars(block) | {"links": ()}))
    if isinstance(block, Table):
        return replace(
            block,
            rows=tuple(
                replace(r, cells=tuple(replace(c, link="") for c in r.cells)) for r in block.rows
            ),
        )
    return block


def _palette_css() -> str:
    light = "".join(f"--{name}:{colour};" for name, (colour, _) in PALETTE.items())
    dark = "".join(f"--{name}:{colour};" for name, (_, colour) in PALETTE.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n@media print{{:root{{color-scheme:light}}}}\n"


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


def _main_table(block: Block, section: str) -> Table | None:
    if isinstance(block, Drawing) and section == "performance":
        return block.table
    return block if isinstance(block, Table) else None


def _md_table(table: Table) -> list[str]:
    grouped = any(row.group for row in table.rows)
    heads = (["Group of rows"] if grouped else []) + [
        column.label + (f" ({column.unit})" if column.unit else "") for column in table.columns
    ]
    rules = (["---"] if grouped else []) + [
        "---:" if column.number else "---" for column in table.columns
    ]
    lines = [
        f"**{_md(table.caption)}**",
        "",
        "| " + " | ".join(map(_md, heads)) + " |",
        "|" + "|".join(rules) + "|",
    ]
    for row in table.rows:
        texts = [
            cell.text + (f" ({'; '.join(cell.sub.splitlines())})" if cell.sub else "")
            for cell in row.cells
        ]
        lines.append("| " + " | ".join(map(_md, ([row.group] if grouped else []) + texts)) + " |")
    return [*lines, "", *([_md(table.note), ""] if table.note else [])]


def _md(text: str) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no table cell border."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", line)
