"""The verdict of the whole audit, read from its planned cells only."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.analysis.not_everywhere import not_the_same, second_sentence
from gradaudit.analysis.sentences.audits import (
    headline,
    reasons_of_cells,
    summary_sentences,
    what_cannot_be_told,
)
from gradaudit.analysis.sentences.performance import worse_performance
from gradaudit.analysis.sentences.plain_facts import Found, fact_of
from gradaudit.analysis.sentences.three_questions import questions_of
from gradaudit.number_text import Noun
from gradaudit.plan import Plan
from gradaudit.records import CellState, Finding
from gradaudit.result_schema import (
    AuditState,
    AuditVerdict,
    PerformanceRow,
    PlannedCell,
    RegionFacts,
)


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
    findings: Sequence[Finding],
    cells: Sequence[PlannedCell],
    plan: Plan,
    performance: Sequence[PerformanceRow] = (),
    *,
    regions: Sequence[RegionFacts] = (),
    classes: int = 0,
) -> AuditVerdict:
    """The verdict in words: state, headline, page one's fact and three answers, three to five
    sentences, and what is in the way.

    performance : rows in which the model may do worse in a group; that is told, and decides nothing
    regions : in how many images each was found      classes : of the model, 0 where not known
    """
    decisive = [f for f in findings if f.test.family == "confirmatory"]
    state = audit_state(cells)
    if plan.criteria is not None and state == "none_declared":
        state = "insufficient"  # a criterion was declared, and there is nothing it could be held to
    worse = worse_performance(performance, plan.analysis.alpha)
    margin = None if plan.criteria is None else plan.criteria.margin
    found = Found(decisive, not_the_same(findings), cells, regions, margin)
    fact = fact_of(state, found)
    chosen, lines = summary_sentences(decisive, findings, cells, worse)
    return AuditVerdict(
        state=state,
        headline=headline(state, decisive, cells),
        second=second_sentence(findings),
        fact=fact.text,
        limit=fact.limit,
        fact_finding="" if fact.finding is None else fact.finding.anchor,
        questions=questions_of(state, fact, found, findings, performance, classes),
        sentences=lines,
        cannot_tell=what_cannot_be_told(decisive, plan),
        reasons=reasons_of_cells(cells, findings, Noun.of(plan.analysis.cluster_name)),
        finding_anchors=tuple(f.anchor for f in chosen),
    )
