"""The planned comparisons as a table: what plan and manifest promised to settle, and what became of
each.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import (
    MISSING,
    count,
    decimal,
    declared_points,
    interval,
    points,
    share_percent,
)
from gradaudit.outcomes import outcome
from gradaudit.records import STATE_WORDS, CellState
from gradaudit.report.blocks import (
    WITHHELD,
    Block,
    Cell,
    Details,
    Row,
    Table,
    anchor_id,
    columns,
    fragment_link,
    row,
)
from gradaudit.report.wording import cell_comparison, plain, reason_words, together, unit_of
from gradaudit.result_schema import PlannedCell, ResultDocument

_ORDER = (
    CellState.BEYOND,
    CellState.OPEN,
    CellState.WITHHELD,
    CellState.NOT_ASSESSED,
    CellState.WITHIN,
    CellState.NOT_JUDGED,
)


def cell_blocks(document: ResultDocument) -> list[Block]:
    """The table of planned comparisons behind a line that counts them by state."""
    cells = document.cells
    if not cells:
        return []
    comparisons = f"planned comparison{'s' * (len(cells) != 1)}"
    title = f"{count(len(cells))} {comparisons}: {_counts(cells)}"
    return [Details(title, (cell_table(document),))]


def _counts(cells: Sequence[PlannedCell]) -> str:
    found = [(state, sum(cell.state is state for cell in cells)) for state in _ORDER]
    return together([f"{n} {STATE_WORDS[state]}" for state, n in found if n])


def cell_table(document: ResultDocument) -> Table:
    """One row per planned comparison, in the order of the plan."""
    heads = columns(
        "Comparison",
        "What",
        "State",
        ("Difference", "interval below"),
        ("Margin", ""),
        ("Coverage", "of each group"),
        "Settled",
    )
    many = unit_of(document).many
    note = (
        f"Coverage: smallest share of a group's {many} that the numbers rest on. Settled: within "
        "the margin with nothing to object; “criteria met” needs every planned comparison to be "
        "settled."
    )
    told = {f.anchor for f in document.findings}
    rows = tuple(_cell_row(cell, cell.finding in told) for cell in document.cells)
    return Table("Planned comparisons", heads, rows, note)


def _cell_row(cell: PlannedCell, is_told: bool) -> Row:
    """A row; ``is_told``: there is a finding with its numbers, to which the row leads."""
    hidden = cell.state is CellState.WITHHELD
    share = outcome(cell.outcome).is_share
    what = outcome(cell.outcome).title
    link = fragment_link(anchor_id(cell.finding)) if cell.finding and is_told else ""
    margin = declared_points(cell.margin) if share else decimal(cell.margin)
    return row(
        Cell(cell_comparison(cell), link=link),
        Cell(f"{what[:1].upper()}{what[1:]}", sub=_place(cell)),
        _state(cell),
        Cell(WITHHELD) if hidden else _difference(cell, share=share),
        f"±{margin}" if cell.margin is not None else MISSING,
        WITHHELD if hidden else share_percent(cell.coverage, 0),
        "yes" if cell.settled else MISSING if cell.margin is None else "no",
        group=plain(cell.attribute),
        muted=hidden,
    )


def _place(cell: PlannedCell) -> str:
    return f"on {cell.region}" if cell.region else ""


def _state(cell: PlannedCell) -> Cell:
    icon = "not_shown" if cell.state is CellState.NOT_JUDGED else cell.state.value
    few = "provisional: few on one side" if cell.provisional else ""
    why = "" if few and cell.reason.startswith("provisional") else reason_words(cell.reason)
    return Cell(STATE_WORDS[cell.state], sub="\n".join(filter(None, (few, why))), icon=icon)


def _difference(cell: PlannedCell, *, share: bool) -> Cell:
    if share:
        return Cell(points(cell.estimate), interval(cell.ci_low, cell.ci_high, points))

    def worded(value: float) -> str:
        return decimal(value, signed=True)

    signed = decimal(cell.estimate, signed=True)
    return Cell(signed, interval(cell.ci_low, cell.ci_high, worded))
