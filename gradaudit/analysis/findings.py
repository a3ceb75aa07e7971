"""Answers to the questions, as findings with states and sentences: ``ga.analyze``.

``analysis_of`` asks all of ``QUESTIONS``, adjusts p-values of a difference within the confirmatory
family (Holm) and among the exploratory rest (Benjamini-Hochberg), holds the planned cells against
their margins, withholds small cells, and writes one sentence per finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gradaudit.analysis.finding_records import Withheld, finding_of
from gradaudit.analysis.measured_names import measured_names
from gradaudit.analysis.not_everywhere import NOT_EVERYWHERE_Q
from gradaudit.analysis.planned.cells import planned_keys
from gradaudit.analysis.planned.folding import with_folds
from gradaudit.analysis.planned.states import with_states
from gradaudit.analysis.questions import QUESTIONS
from gradaudit.analysis.sentences.comparisons import in_words, sentence
from gradaudit.analysis.study import Bools, Draft, Study
from gradaudit.cohort.attributes import attributes_of
from gradaudit.cohort.bare_table import measurements_of
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import Cohort, take_cohorts
from gradaudit.disclosure.decision import Suppression, decide
from gradaudit.manifest.unmeasured import refuse_unmeasured
from gradaudit.number_text import Noun
from gradaudit.performance.table import refuse_foreign_labels
from gradaudit.plan import Plan
from gradaudit.records import Finding
from gradaudit.result_schema import PlannedCell
from gradaudit.runs.measurements import Measurements
from gradaudit.stats import multiplicity
from gradaudit.subgroups.contrast import (
    Contrast,
    with_difference,
)

__all__ = ["QUESTIONS", "Analysis", "analysis_of", "analyze", "sentence"]


# ── from drafts to findings ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Analysis:
    """Every finding, and every planned cell with its state."""

    findings: tuple[Finding, ...] = ()
    cells: tuple[PlannedCell, ...] = ()


def analyze(
    meas: Measurements | pd.DataFrame, plan: Plan | None = None, images: pd.DataFrame | None = None
) -> list[Finding]:
    """Ask every question of ``QUESTIONS`` and return the findings, decisive ones first.

    meas : ``Measurements``, or a table with ``records.TABLE_COLUMNS``; then ``images`` holds one
        row per image with image_id, cluster and ``subgroup.<name>`` (default: those columns of the
        table itself)
    plan : roles, criteria, order of levels, covariates; None: no margin, and every region counts as
        declared

    Confirmatory: the planned cells (``result.cells``), that is the heat share in the declared
    regions by every attribute, and the rate of undefined heat. Everything else is exploratory:
    Benjamini-Hochberg, worded as a signal.  Cells below ``privacy.min_cell`` are withheld.

    Errors: ``InputError`` for missing columns; ``PlanError`` where the plan names what was not
    measured (see ``refuse_unmeasured``); ``ManifestError`` where no label is a class of the model.
    """
    named, plan = plan, plan or Plan()
    meas = meas if isinstance(meas, Measurements) else measurements_of(meas, images)
    if named is not None:
        refuse_unmeasured_names(meas, named)
    refuse_foreign_labels(meas)
    if not len(meas.images) or not len(meas.table):
        return []
    cohorts = take_cohorts(meas, plan)
    suppression = decide(cohorts, heat_rows_of(cohorts, plan), plan)
    return list(analysis_of(cohorts, suppression, plan).findings)


def refuse_unmeasured_names(meas: Measurements, plan: Plan) -> None:
    """Errors: ``PlanError`` where the plan names what was not measured."""
    if len(meas.images):
        refuse_unmeasured(plan, measured_names(meas, plan))


def analysis_of(cohorts: Sequence[Cohort], suppression: Suppression, plan: Plan) -> Analysis:
    """The findings and the planned cells that the cohorts give.

    ``cohorts``: that of the plan's own method and target comes first.  ``suppression``: what is
    withheld.
    """
    meas = cohorts[0].meas
    if not len(meas.images):
        return Analysis()
    attributes = attributes_of(meas, plan, cohorts[0].groups)
    studies = [
        Study.of(cohort, plan, attributes, primary=i == 0) for i, cohort in enumerate(cohorts)
    ]
    keys = planned_keys(studies[0])
    drafts: list[Draft] = []
    for study in studies:
        study = replace(study, planned=len(keys))
        for code in QUESTIONS:
            drafts += QUESTIONS.get(code)(study)
    withheld = Withheld.of(suppression, drafts)
    drafts = _with_differences(_with_anchors(drafts), withheld, len(keys), plan.analysis.alpha)
    drafts, cells = with_states(drafts, keys, studies[0], withheld)
    found = [finding_of(d, withheld.of_draft(d)) for d in with_folds(drafts)]
    unit = Noun.of(plan.analysis.cluster_name)
    told = [in_words(f, plan.analysis.alpha, unit) for f in found]
    return Analysis(tuple(told), tuple(_in_words_of(unit, cell) for cell in cells))


def _in_words_of(unit: Noun, cell: PlannedCell) -> PlannedCell:
    told = {name: unit.said_in(getattr(cell, name)) for name in ("reason", "settle")}
    return cell.model_copy(update=told)


def _with_anchors(drafts: Sequence[Draft]) -> list[Draft]:
    """Anchors such as ``GA101-skin_tone-ruler-V``, numbered where two findings share one."""
    seen: dict[str, int] = {}
    out = []
    for d in drafts:
        parts = [
            d.code,
            d.attribute,
            d.region,
            d.outcome if d.code == "GA121" else "",
            _KINDS_IN_ANCHOR.get(d.contrast.kind, ""),
            *_levels_in_anchor(d.contrast),
            d.stratum,
        ]
        text = "-".join(p for p in parts if p)
        seen[text] = seen.get(text, 0) + 1
        out.append(replace(d, anchor=text if seen[text] == 1 else f"{text}-{seen[text]}"))
    return out


_KINDS_IN_ANCHOR = {"additivity": "additivity", "continuous": "slope"}


def _levels_in_anchor(c: Contrast) -> tuple[str, ...]:
    if c.kind == "pair":
        return c.group, c.reference
    return (c.group,) if c.kind in ("level", "additivity") else ()


# ── families, verdicts, records ───────────────────────────────────────────────────────────────────


def _with_differences(
    drafts: Sequence[Draft], withheld: Withheld, planned: int, alpha: float
) -> list[Draft]:
    """Adjust the p-values of a difference within their families.

    Findings that are withheld whole have no p to adjust: nobody reads them.
    """
    shown = np.array([withheld.of_draft(d) != "all" for d in drafts], dtype=bool)
    confirmatory = np.array([d.confirmatory for d in drafts], dtype=bool)
    strata = np.array([bool(d.stratum) for d in drafts], dtype=bool)
    decided, others = confirmatory & shown, ~confirmatory & ~strata & shown
    raw = np.array([d.contrast.p for d in drafts])
    p = np.full(len(drafts), np.nan)
    p[decided] = multiplicity.holm(raw[decided])
    p[others] = multiplicity.benjamini_hochberg(raw[others])
    out = []
    for d, own in zip(drafts, p, strict=True):
        level = alpha / max(planned, 1) if d.confirmatory else alpha
        contrast = with_difference(d.contrast, float(own), alpha=alpha, level=level)
        out.append(replace(d, contrast=contrast))
    return _with_strata(out, strata & shown)


def _with_strata(drafts: list[Draft], strata: Bools) -> list[Draft]:
    """The drafts among a part of the clusters, judged together by how far they are beyond."""
    places = np.flatnonzero(strata)
    beyond = np.array([drafts[i].contrast.p_beyond for i in places])
    out = list(drafts)
    for i, q in zip(places, multiplicity.benjamini_hochberg(beyond), strict=True):
        shown = bool(q <= NOT_EVERYWHERE_Q)
        contrast = replace(
            out[i].contrast, p_adjusted=float(q), p_beyond_adjusted=float(q), shown=shown
        )
        out[i] = replace(out[i], contrast=contrast)
    return out
