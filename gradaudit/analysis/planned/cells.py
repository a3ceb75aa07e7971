"""The planned cells: what plan and manifest promise to settle, and what became of each.

A planned cell is an attribute, a comparison (a level, a trend, a pair, a curve), a decisive region
and an outcome.  The list is fixed before any number is looked at, and does not depend on what
survives suppression, guards, missing masks or a failed fit: a cell without a number stays in it
and counts with p = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, NamedTuple

from gradaudit.analysis.study import ANY_LEVEL, Draft, Study
from gradaudit.cohort.attributes import Attribute
from gradaudit.number_text import finite_or_none
from gradaudit.plan import CriteriaPlan
from gradaudit.records import CellState
from gradaudit.result_schema import PlannedCell
from gradaudit.stats.decision import AgainstMargin, decide
from gradaudit.stats.effect_sizes import squared_error_of_mean
from gradaudit.stats.power import what_would_settle
from gradaudit.subgroups.contrast import Contrast, with_decision

HEAT, UNDEFINED = "heat_share", "undefined"
Comparison = Literal["level", "pair", "trend", "curve"]


class CellKey(NamedTuple):
    """What a planned cell is about; ``group`` and ``reference`` are "" for trend and curve."""

    attribute: str
    kind: Comparison
    group: str
    reference: str
    region: str
    outcome: str


@dataclass(frozen=True)
class Answer:
    """What the measurements say of one planned cell.

    draft : the comparison with its numbers, None where there is none
    withheld : a group is too small to be shown
    coverage : smallest share of a side's patients that the numbers rest on, None where unknown
    reservations : why a cell that lies within its margin does not count, in words
    """

    draft: Draft | None = None
    withheld: bool = False
    coverage: float | None = None
    reservations: tuple[str, ...] = ()


# ── which cells there are ─────────────────────────────────────────────────────────────────────────


def planned_keys(study: Study) -> tuple[CellKey, ...]:
    """Every planned cell of the plan's own method and target, in order of the attributes."""
    places = [(region, HEAT) for region in study.confirmatory_regions] + [("", UNDEFINED)]
    out = []
    for attribute in study.attributes:
        for kind, group, reference in comparisons_planned(attribute):
            for region, outcome in places:
                out.append(CellKey(attribute.name, kind, group, reference, region, outcome))
    return tuple(out)


def comparisons_planned(a: Attribute) -> Iterator[tuple[Comparison, str, str]]:
    """(kind, group, reference) of every comparison of one attribute.

    An attribute of one level, or of none that is known, keeps a comparison that has no number, so
    that it is in the way of "met".  Three or more unordered levels are compared in pairs too: each
    may lie near the rest while two of them lie far from each other.
    """
    if a.kind == "continuous":
        yield "curve", "", ""
        return
    against = [level for level in a.levels if level != a.reference]
    if not against:  # nobody to compare with, which is a cell all the same
        yield "level", next(iter(a.levels), ANY_LEVEL), "rest"
    for level in against:
        yield "level", level, a.reference
    if len(a.levels) < 3:
        return
    if a.order is not None:
        yield "trend", "", ""
        return
    for first, second in combinations(a.levels, 2):
        if a.reference not in (first, second):
            yield "pair", first, second


def key_of(d: Draft) -> CellKey | None:
    """The planned cell that a decisive draft answers, None where it answers none."""
    kind = d.contrast.kind
    if not d.confirmatory:
        return None
    if kind == "level" or kind == "pair":
        group, reference = d.contrast.group, d.contrast.reference
        return CellKey(d.attribute, kind, group, reference, d.region, d.outcome)
    if kind == "trend" or kind == "curve":
        return CellKey(d.attribute, kind, "", "", d.region, d.outcome)
    return None


# ── what became of them ───────────────────────────────────────────────────────────────────────────


def margin_of(key: CellKey, criteria: CriteriaPlan | None) -> float | None:
    """The declared margin of a cell's outcome, None where no criterion was declared."""
    if criteria is None:
        return None
    return {HEAT: criteria.margin, UNDEFINED: criteria.undefined_margin}.get(key.outcome)


def judged_contrasts(
    answers: Sequence[Answer], margins: Sequence[float | None], alpha: float
) -> list[Contrast | None]:
    """The contrast of each planned cell with its state, decided over all of them together.

    A cell without a number, or withheld, is one of them all the same.
    """
    judged = [i for i, margin in enumerate(margins) if margin is not None]
    tests = [_margin_test(answers[i]) for i in judged]
    decisions = dict(zip(judged, decide(tests, alpha), strict=True))
    out: list[Contrast | None] = []
    for i, answer in enumerate(answers):
        if answer.draft is None:
            out.append(None)
            continue
        contrast = with_decision(answer.draft.contrast, decisions.get(i), judged=i in decisions)
        state = CellState.WITHHELD if answer.withheld else contrast.state
        out.append(replace(contrast, state=state))
    return out


def _margin_test(answer: Answer) -> AgainstMargin | None:
    if answer.draft is None or answer.withheld:
        return None
    return answer.draft.contrast.margin_test


def planned_cell(
    key: CellKey, answer: Answer, contrast: Contrast | None, margin: float | None, role: str
) -> PlannedCell:
    """The record of one planned cell; numbers are left out where it is withheld."""
    bare = PlannedCell(
        attribute=key.attribute,
        comparison=key.kind,
        group=key.group,
        reference=key.reference,
        region=key.region,
        role=role,
        outcome=key.outcome,
        margin=margin,
    )
    if answer.withheld:
        reason = "a group of this comparison is too small to be shown"
        return bare.model_copy(update={"state": CellState.WITHHELD, "reason": reason})
    if contrast is None:
        state = CellState.NOT_JUDGED if margin is None else CellState.NOT_ASSESSED
        reason = "; ".join(answer.reservations) or "no usable image"
        return bare.model_copy(update={"state": state, "reason": reason})
    if margin is None:
        contrast = replace(contrast, state=CellState.NOT_JUDGED)
    reservations = _objections(contrast, answer)
    reason = contrast.reason
    if contrast.state is CellState.WITHIN:
        reason = "; ".join(reservations)
    return bare.model_copy(
        update={
            "state": contrast.state,
            "reason": reason,
            "settled": contrast.state is CellState.WITHIN and not reservations,
            "estimate": finite_or_none(contrast.estimate),
            "ci_low": finite_or_none(contrast.ci_low),
            "ci_high": finite_or_none(contrast.ci_high),
            "coverage": answer.coverage,
            "provisional": contrast.provisional,
            "finding": "" if answer.draft is None else answer.draft.anchor,
        }
    )


def _objections(contrast: Contrast, answer: Answer) -> tuple[str, ...]:
    few = "provisional, fewer than 20 clusters on one side"
    return (*((few,) if contrast.provisional else ()), *answer.reservations)


def settling(cell: PlannedCell, contrast: Contrast, planned: int, alpha: float) -> str:
    """How large the group of an open comparison of heat would have to be; "" where that is not said.

    Differences inside patients and trends have no reference that stays as it is: all grow.
    """
    if cell.state is not CellState.OPEN or cell.outcome != HEAT or cell.margin is None:
        return ""
    if cell.comparison == "curve":
        return ""
    n, m = contrast.entered or (contrast.n_clusters, contrast.n_clusters_reference)
    together = cell.comparison == "trend" or contrast.method == "sign flip"
    means = (contrast.mean, n), (contrast.mean_reference, m)
    own, other = (squared_error_of_mean(mean, count, alpha) for mean, count in means)
    text = what_would_settle(
        contrast.estimate,
        contrast.se,
        contrast.df,
        cell.margin,
        n,
        0 if together else m,
        alpha,
        planned=planned,
        group_share=own / (own + other) if own + other > 0 else None,
        unit="clusters",
    )
    return text or ""
