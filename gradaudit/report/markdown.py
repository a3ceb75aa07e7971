"""The report as Markdown: page one with the same rows as the page, every finding in a line, and
the planned comparisons.
"""

from __future__ import annotations

import re

from gradaudit.report.blocks import Table
from gradaudit.report.page_blocks import Matrix, MatrixCell, PageOne
from gradaudit.report.sections.cells import cell_table
from gradaudit.report.sections.data import group_table
from gradaudit.report.sections.overview import GENERAL_LIMITS
from gradaudit.report.sections.page_one import page_one
from gradaudit.report.wording import left_out_words, unit_of, unmeasured_words
from gradaudit.result_schema import AUDIT_STATE_MEANINGS, ResultDocument


def markdown(document: ResultDocument) -> str:
    """The document as GitHub's Markdown."""
    page = page_one(document)
    lines = [f"# {shown(page.title)}: {shown(document.verdict.words)}", ""]
    lines += [f"> **{shown(page.notice)}**", ""] if page.notice else []
    lines += [
        f"- {shown(term)}: {shown(', '.join(filter(None, (text, code))))}"
        for term, text, code in page.identity
    ]
    lines += ["", f"**{shown(page.fact)}** {shown(page.limit)}".rstrip(), ""]
    lines += [shown(AUDIT_STATE_MEANINGS[page.state]), ""]
    lines += [shown(page.second), ""] if page.second else []
    for question, answer in page.answers:
        lines += [f"**{shown(question)}** {shown(answer)}" if question else shown(answer), ""]
    lines += _matrix_lines(page)
    lines += ["## Findings", ""]
    lines += [*(f"- {shown(line)}" for line in document.verdict.sentences), ""]
    if document.verdict.reasons:
        lines += ["In the way of “criteria met”:", ""]
        lines += [*(f"- {shown(line)}" for line in document.verdict.reasons), ""]
    lines += table_lines(cell_table(document)) if document.cells else []
    lines += _data_lines(document)
    return "\n".join([*lines, *_limit_lines(document, page)])


def _matrix_lines(page: PageOne) -> list[str]:
    told = [f"{page.counted}: {', '.join(state.words for state in page.tally)}."]
    lines = [shown(told[0]), ""] if page.tally else []
    lines += _matrix_table(page.matrix) if page.matrix is not None else []
    return [*lines, *([shown(" ".join(page.note)), ""] if page.note else [])]


def _matrix_table(matrix: Matrix) -> list[str]:
    heads = ["Group", matrix.unit, *(f"{c.title} ({c.unit})" for c in matrix.columns)]
    lines = [
        "| " + " | ".join(map(shown, heads)) + " |",
        "|---|---:|" + "---|" * len(matrix.columns),
    ]
    for row in matrix.rows:
        texts = [row.name.text, row.n, *map(_cell_text, row.cells)]
        lines.append("| " + " | ".join(map(shown, texts)) + " |")
    return [*lines, ""]


def _cell_text(cell: MatrixCell) -> str:
    """Word, number and interval, as a screen reader meets them on the page."""
    if cell.quiet:
        return cell.text + cell.after
    return " ".join(filter(None, (cell.word, cell.text, cell.after)))


def _data_lines(document: ResultDocument) -> list[str]:
    lines = ["## Data", ""]
    lines += [*(f"- {shown(line)}" for line in left_out_words(document))]
    lines += [*(f"- Not left out: {shown(line)}" for line in unmeasured_words(document)), ""]
    for details in group_table(document):
        for block in getattr(details, "blocks", ()):
            lines += table_lines(block) if isinstance(block, Table) else []
    return lines


def _limit_lines(document: ResultDocument, page: PageOne) -> list[str]:
    said = unit_of(document).said_in
    limits = (*GENERAL_LIMITS, *document.verdict.cannot_tell, *map(said, document.limits))
    declared = [*(f"- {shown(line)}" for line in page.declared), ""]
    return [
        "## What was declared",
        "",
        *declared,
        "## Limits",
        "",
        *(f"- {shown(x)}" for x in limits),
        "",
    ]


def table_lines(table: Table) -> list[str]:
    """A table of the page, its row groups as a first column."""
    grouped = any(row.group for row in table.rows)
    heads = (["Group of rows"] if grouped else []) + [
        column.label + (f" ({column.unit})" if column.unit else "") for column in table.columns
    ]
    rules = (["---"] if grouped else []) + [
        "---:" if column.number else "---" for column in table.columns
    ]
    lines = [
        f"**{shown(table.caption)}**",
        "",
        "| " + " | ".join(map(shown, heads)) + " |",
        "|" + "|".join(rules) + "|",
    ]
    for row in table.rows:
        texts = [
            cell.text + (f" ({'; '.join(cell.sub.splitlines())})" if cell.sub else "")
            for cell in row.cells
        ]
        lines.append("| " + " | ".join(map(shown, ([row.group] if grouped else []) + texts)) + " |")
    return [*lines, "", *([shown(table.note), ""] if table.note else [])]


def shown(text: str) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no table cell border."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", line)
