"""The verdict of the whole audit, read from its findings only."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.analysis.sentences import headline, summary_sentences, what_cannot_be_told
from gradaudit.plan import Plan
from gradaudit.records import Finding, Verdict
from gradaudit.result_schema import AuditState, AuditVerdict


def audit_verdict(findings: Sequence[Finding], plan: Plan) -> AuditVerdict:
    """The verdict of the whole audit over the confirmatory findings.

    not_met : a material disparity is shown.  met : every comparison of the heat share lies within
        the margin (the
    union of all is tested by testing each: no correction needed); one that is withheld or not
    assessed does not.
    insufficient : neither.  none_declared : no margin.
    """
    decisive = [f for f in findings if f.test.family == "confirmatory"]
    heat = [f for f in decisive if f.outcome == "heat_share"]
    within = {Verdict.EQUIVALENT, Verdict.WITHIN_MARGIN}
    state: AuditState = "insufficient"
    if plan.criteria is None:
        state = "none_declared"
    elif any(f.verdict is Verdict.MATERIAL for f in decisive):
        state = "not_met"
    elif heat and all(f.verdict in within for f in heat):
        state = "met"
    chosen, lines = summary_sentences(decisive, findings)
    return AuditVerdict(
        state=state,
        headline=headline(state, decisive),
        sentences=lines,
        cannot_tell=what_cannot_be_told(decisive, plan),
        finding_anchors=tuple(f.anchor for f in chosen),
    )
