"""The planned comparisons as one table: what plan and manifest promised, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import MISSING, declared_points, share_percent
from gradaudit.records import CellState
from gradaudit.report.blocks import WITHHELD, Block, Cell, Paragraph, Row, Table, columns, row
from gradaudit.report.comparisons import Comparison, key_title, read_comparisons, row_name
from gradaudit.report.sections.page_one import tally
from gradaudit.report.wording import plain, together, unit_of
from gradaudit.result_schema import ResultDocument

MOST_ROWS = 150
"""Rows of the table, the worst first where there are more; the others stand in cells.csv."""


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
    told = set(map(id, shown))
    hidden = [c for c in planned if id(c) not in told]
    rows = tuple(_row(document, c, judged=judged) for c in shown)
    note = (
        "In brackets: the line that decides the word. Coverage: smallest share of a group's "
        f"{many} that the numbers rest on."
    )
    if hidden:
        left = together([state.words for state in tally(hidden)])
        note += f" Not shown: {left}; they stand in cells.csv."
    return Table("Planned comparisons", heads, rows, note)


def kept(planned: Sequence[Comparison]) -> list[Comparison]:
    """All of them, or, of very many, the worst, in the order of the plan."""
    ranked = sorted(range(len(planned)), key=lambda n: planned[n].severity, reverse=True)
    return [planned[n] for n in sorted(ranked[:MOST_ROWS])]


def _row(document: ResultDocument, c: Comparison, *, judged: bool) -> Row:
    name = row_name(c)
    unit = unit_of(document)
    few = "provisional: few on one side" if c.provisional else ""
    why = "" if few and c.reason.startswith("provisional") else unit.said_in(c.reason)
    said = Cell(c.word, sub="\n".join(filter(None, (few, why))), icon="")
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
