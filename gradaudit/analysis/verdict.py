"""The verdict of the whole audit, read from its planned cells only."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.analysis.not_everywhere import second_sentence
from gradaudit.analysis.sentences import (
    headline,
    reason_of_cell,
    summary_sentences,
    what_cannot_be_told,
)
from gradaudit.plan import Plan
from gradaudit.records import CellState, Finding
from gradaudit.result_schema import AuditState, AuditVerdict, PlannedCell


def audit_state(cells: Sequence[PlannedCell]) -> AuditState:
    """The state of an audit from its planned cells; it fails closed.

    not_met : some cell is beyond its margin (Holm over all planned cells).
    met : every planned cell is settled, that is within its margin with nothing to object.  No
        correction is needed, since all must hold (intersection-union); a cell that is withheld, not
        assessed, provisional or seen too little is in the way.
    insufficient : neither.  none_declared : no criterion was declared for any of them.
    """
    judged = [cell for cell in cells if cell.margin is not None]
    if not judged:
        return "none_declared"
    if any(cell.state is CellState.BEYOND for cell in judged):
        return "not_met"
    return "met" if all(cell.settled for cell in judged) else "insufficient"


def audit_verdict(
    findings: Sequence[Finding], cells: Sequence[PlannedCell], plan: Plan
) -> AuditVerdict:
    """The verdict in words: state, headline, three to five sentences, and what is in the way."""
    decisive = [f for f in findings if f.test.family == "confirmatory"]
    state = audit_state(cells)
    if plan.criteria is not None and state == "none_declared":
        state = "insufficient"  # a criterion was declared, and there is nothing it could be held to
    chosen, lines = summary_sentences(decisive, findings)
    in_the_way = [cell for cell in cells if cell.margin is not None and not cell.settled]
    return AuditVerdict(
        state=state,
        headline=headline(state, decisive),
        second=second_sentence(findings),
        sentences=lines,
        cannot_tell=what_cannot_be_told(decisive, plan),
        reasons=tuple(reason_of_cell(cell) for cell in in_the_way),
        finding_anchors=tuple(f.anchor for f in chosen),
    )
