"""A comparison in Markdown (GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradaudit.report.changes.display import Page, page_of
from gradaudit.schema.comparison import ComparisonDocument


def render_comparison_markdown(document: ComparisonDocument) -> str:
    """What differs, the result, heat and performance, what was not compared, and its limits."""
    page = page_of(document)
    lines = [f"# {_plain(page.title)}: {_plain(page.words)}", ""]
    lines += [f"> **{_plain(notice)}**" for notice in page.notices]
    lines += [""] if page.notices else []
    lines += ["## What differs between the two audits", ""]
    for side in page.sides:
        told = "; ".join(f"{term}: {text}" for term, text in side.facts)
        lines.append(f"- **{side.when}**: {_plain(told)}. {_plain(side.words)}.")
    lines += ["", *(f"- {_plain(text)}" for text in page.pairing), ""]
    rows = [
        (d.name, d.before, d.after, d.consequence)
        for d in (*page.first_differences, *page.more_differences)
    ]
    heads = ("What", "Before", "After", "What follows")
    lines += _table(heads, rows) if rows else ["Nothing else differs.", ""]
    lines += ["## What changed", "", f"**{_plain(page.headline)}**", ""]
    lines += [*(f"- {_plain(fact)}" for fact in page.facts), ""]
    return "\n".join([*lines, *_changes(page), *_end(page)])


def _changes(page: Page) -> list[str]:
    lines: list[str] = []
    for table in page.tables:
        rows = []
        for name, own in table.groups:
            for r in own:
                before, after = (f"{s.number} ({s.words})" for s in (r.before, r.after))
                notes = "; ".join(filter(None, (r.own, *r.notes)))
                change = f"{r.change} ({r.ends})" if r.ends else r.change
                rows.append(
                    (f"{name}: {r.first} {r.second}", before, after, change, r.words, notes)
                )
        lines += [f"### {_plain(table.title)}: {_plain(table.unit)}", ""]
        lines += _table(("Comparison", "Before", "After", "Change", "Word", "Notes"), rows)
    lines += ["### Performance", ""]
    figures = [("all images", cell) for cell in page.overall]
    for own_table in page.figures:
        for level, cells in own_table.rows:
            who = f"{own_table.attribute} {level}"
            figures += [(who, cell) for cell in cells if cell is not None]
    rows_of_figures = [
        (
            who,
            c.metric,
            c.before,
            c.after,
            f"{c.change} ({c.ends})" if c.ends else c.change,
            c.words,
        )
        for who, c in figures
    ]
    heads = ("Group", "Figure", "Before", "After", "Change", "Word")
    return [*lines, *_table(heads, rows_of_figures)]


def _end(page: Page) -> list[str]:
    lines: list[str] = []
    if page.not_compared:
        rows = [(n.subject, n.words, n.reason) for n in page.not_compared]
        lines += ["## Not compared", "", *_table(("Comparison", "Word", "Why"), rows)]
    lines += ["## What this comparison cannot tell", ""]
    lines += [*(f"- {_plain(text)}" for text in page.cannot_tell), ""]
    lines += ["## How it was done", ""]
    return [*lines, *(f"- **{_plain(a)}**: {_plain(b)}" for a, b in page.method), ""]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(map(_plain, row)) + " |" for row in rows]
    return [*lines, ""]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no table cell border."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", line)
