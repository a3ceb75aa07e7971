"""The states of all planned cells, decided together, without what small cells forbid to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradaudit.analysis.finding_records import REASON_WITHHELD, TOO_FEW_TO_SHOW, Withheld
from gradaudit.analysis.planned.answers import answers_of, with_mask_tippings
from gradaudit.analysis.planned.cells import (
    Answer,
    CellKey,
    judged_contrasts,
    margin_of,
    planned_cell,
    settling,
)
from gradaudit.analysis.study import Draft, Study
from gradaudit.records import CellState
from gradaudit.result_schema import PlannedCell
from gradaudit.subgroups.contrast import Contrast, with_decision


def with_states(
    drafts: Sequence[Draft], keys: Sequence[CellKey], study: Study, withheld: Withheld
) -> tuple[list[Draft], tuple[PlannedCell, ...]]:
    """The drafts with the states of the planned cells that they answer, and all planned cells."""
    criteria = study.plan.criteria
    margins = [margin_of(key, criteria) for key in keys]
    hidden = {id(d) for d in drafts if withheld.of_draft(d) == "all"}
    answers = answers_of(study, keys, drafts, hidden)
    contrasts = judged_contrasts(answers, margins, study.plan.analysis.alpha)
    states: dict[int, Contrast] = {}
    cells = []
    for key, answer, contrast, margin in zip(keys, answers, contrasts, margins, strict=True):
        role = study.role(key.region) if key.region else ""
        cells.append(planned_cell(key, answer, contrast, margin, role))
        if answer.draft is not None and contrast is not None:
            states[id(answer.draft)] = contrast
    shown = _without_hidden(cells, answers, withheld)
    reservations = {c.finding: c.reason for c in shown if c.state is CellState.WITHIN}
    out = []
    for d in drafts:
        contrast = states.get(id(d)) or with_decision(d.contrast, None, judged=False)
        out.append(replace(d, contrast=contrast, reservation=reservations.get(d.anchor, "")))
    settled = _with_settling(shown, answers, contrasts, study, withheld)
    return with_mask_tippings(study, out), settled


def _with_settling(
    cells: Sequence[PlannedCell],
    answers: Sequence[Answer],
    contrasts: Sequence[Contrast | None],
    study: Study,
    withheld: Withheld,
) -> tuple[PlannedCell, ...]:
    """Each open cell with what would settle it, except where it would give counts away.

    Where one comparison of an attribute in a region hides its counts, all of them are silent: what
    one of them says could be taken from what another says.
    """
    places = [(cell.attribute, cell.region, cell.outcome) for cell in cells]
    drafts = [answer.draft for answer in answers]
    hidden = {p for p, d in zip(places, drafts, strict=True) if d and withheld.of_draft(d)}
    out = []
    for cell, place, contrast in zip(cells, places, contrasts, strict=True):
        text = ""
        if contrast and place not in hidden:
            text = settling(cell, contrast, len(cells), study.plan.analysis.alpha)
        out.append(cell.model_copy(update={"settle": text}))
    return tuple(out)


def _without_hidden(
    cells: Sequence[PlannedCell], answers: Sequence[Answer], withheld: Withheld
) -> list[PlannedCell]:
    """The cells without what their findings must not show: counts inside reasons, and rates."""
    out = []
    for cell, answer in zip(cells, answers, strict=True):
        hidden = "" if answer.draft is None else withheld.of_draft(answer.draft)
        if not hidden or hidden == "all":
            out.append(cell)
            continue
        change: dict[str, Any] = {"coverage": None}
        if cell.state is CellState.NOT_ASSESSED:
            change["reason"] = TOO_FEW_TO_SHOW
        elif cell.reason:
            change["reason"] = REASON_WITHHELD
        if hidden == "rates":
            change |= dict.fromkeys(("estimate", "ci_low", "ci_high"))
        out.append(cell.model_copy(update=change))
    return out
