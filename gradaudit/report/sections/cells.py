"""The planned comparisons as a table.

It says what plan and manifest promised to settle, and what became of each promise.
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
    Heading,
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
    """A line that counts planned comparisons by state, and behind it their table."""
    cells = document.cells
    if not cells:
        return []
    comparisons = f"planned comparison{'s' * (len(cells) != 1)}"
    title = f"{count(len(cells))} {comparisons}: {_counts(cells)}"
    return [Heading("Planned comparisons"), Details(title, (cell_table(document),))]


def _counts(cells: Sequence[PlannedCell]) -> str:
    found = [(state, sum(cell.state is state for cell in cells)) for state in _ORDER]
    return together([f"{n} {STATE_WORDS[state]}" for state, n in found if n])


def cell_table(document: ResultDocument) -> Table:
    """One row per planned comparison, in the order of the plan; without criteria no margin."""
    judged = any(cell.margin is not None for cell in document.cells)
    heads = columns(
        "Comparison",
        "What",
        "State",
        ("Difference", "interval below"),
        ("Coverage", "of each group"),
        *((("Margin", ""), "Settled") if judged else ()),
    )
    many = unit_of(document).many
    note = f"Coverage: smallest share of a group's {many} that the numbers rest on."
    if judged:
        note += (
            " Settled: within the margin with nothing to object; “criteria met” needs every "
            "planned comparison to be settled."
        )
    told = {f.anchor for f in document.findings}
    rows = []
    for cell in document.cells:
        margin = (_margin(cell), "yes" if cell.settled else "no") if judged else ()
        cells = (*_cells(cell, cell.finding in told), *margin)
        hidden = cell.state is CellState.WITHHELD
        rows.append(row(*cells, group=plain(cell.attribute), muted=hidden))
    return Table("Planned comparisons", heads, tuple(rows), note)


def _cells(cell: PlannedCell, is_told: bool) -> tuple[Cell | str, ...]:
    """A row; ``is_told``: there is a finding with its numbers, to which the row leads."""
    hidden = cell.state is CellState.WITHHELD
    what = outcome(cell.outcome).title
    link = fragment_link(anchor_id(cell.finding)) if cell.finding and is_told else ""
    return (
        Cell(cell_comparison(cell), link=link),
        Cell(f"{what[:1].upper()}{what[1:]}", sub=_place(cell)),
        _state(cell),
        Cell(WITHHELD) if hidden else _difference(cell),
        WITHHELD if hidden else share_percent(cell.coverage, 0),
    )


def _margin(cell: PlannedCell) -> str:
    if cell.margin is None:
        return MISSING
    share = outcome(cell.outcome).is_share
    return f"±{declared_points(cell.margin) if share else decimal(cell.margin)}"


def _place(cell: PlannedCell) -> str:
    return f"on {cell.region}" if cell.region else ""


def _state(cell: PlannedCell) -> Cell:
    icon = "not_shown" if cell.state is CellState.NOT_JUDGED else cell.state.value
    few = "provisional: few on one side" if cell.provisional else ""
    why = "" if few and cell.reason.startswith("provisional") else reason_words(cell.reason)
    return Cell(
        STATE_WORDS[cell.state], sub="\n".join(filter(None, (few, why, cell.settle))), icon=icon
    )


def _difference(cell: PlannedCell) -> Cell:
    if outcome(cell.outcome).is_share:
        return Cell(points(cell.estimate), interval(cell.ci_low, cell.ci_high, points))

    def worded(value: float) -> str:
        return decimal(value, signed=True)

    signed = decimal(cell.estimate, signed=True)
    return Cell(signed, interval(cell.ci_low, cell.ci_high, worded))
