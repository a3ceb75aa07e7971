"""The planned comparisons as one table: what plan and manifest promised, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import MISSING, count, declared_points, share_percent
from gradaudit.records import CellState
from gradaudit.report.blocks import WITHHELD, Block, Cell, Paragraph, Row, Table, columns, row
from gradaudit.report.comparisons import Comparison, key_title, read_comparisons, row_name
from gradaudit.report.wording import plain, unit_of
from gradaudit.result_schema import ResultDocument

MOST_ROWS = 400
"""Rows of the table; more stand in cells.csv alone, the settled ones first."""


def cell_table(document: ResultDocument) -> Table:
    """One row for each planned comparison, in the order of the plan; without criteria no margin."""
    planned = [c for c in read_comparisons(document) if c.planned]
    judged = any(c.margin is not None for c in planned)
    many = unit_of(document).many
    heads = columns(
        "Comparison",
        "What",
        "State",
        ("Difference", "points"),
        *((("Margin", "points"),) if judged else ()),
        ("Coverage", f"of the {many}"),
    )
    shown = kept(planned)
    rows = tuple(_row(document, c, judged=judged) for c in shown)
    note = (
        "In brackets: the line that decides the word. Coverage: smallest share of a group's "
        f"{many} that the numbers rest on."
    )
    if len(shown) < len(planned):
        note += (
            f" {count(len(planned) - len(shown))} more, all within the limit and settled, stand in "
            "cells.csv."
        )
    return Table("Planned comparisons", heads, rows, note)


def kept(planned: Sequence[Comparison]) -> list[Comparison]:
    """All of them, or, of very many, what is not settled and then the first others."""
    if len(planned) <= MOST_ROWS:
        return list(planned)
    loose = [c for c in planned if not _is_settled(c)]
    room = max(0, MOST_ROWS - len(loose))
    settled = [c for c in planned if _is_settled(c)][:room]
    return [c for c in planned if c in loose or c in settled]


def _is_settled(c: Comparison) -> bool:
    return c.state is CellState.WITHIN and c.settled


def _row(document: ResultDocument, c: Comparison, *, judged: bool) -> Row:
    name = row_name(c)
    unit = unit_of(document)
    few = "provisional: few on one side" if c.provisional else ""
    why = "" if few and c.reason.startswith("provisional") else unit.said_in(c.reason)
    said = Cell(c.word, sub="\n".join(filter(None, (few, why))), icon=c.look)
    hidden = c.state is CellState.WITHHELD
    size = Cell(c.number, sub=f"({c.span})" if c.span else "") if c.has_number else Cell(MISSING)
    margin = (declared_points(c.margin) if c.margin is not None else MISSING,) if judged else ()
    coverage = WITHHELD if hidden else share_percent(c.coverage, 0)
    held = f" {name.against}" if name.against else " against all others" * (c.kind == "level")
    return row(
        f"{name.group}{held}",
        key_title(c.key),
        said,
        Cell(WITHHELD) if hidden else size,
        *margin,
        coverage,
        group=plain(c.attribute),
        muted=hidden,
        anchor=c.anchor,
    )


def cell_blocks(document: ResultDocument) -> list[Block]:
    if not document.cells:
        return [Paragraph("The result holds no list of planned comparisons.")]
    return [cell_table(document)]
