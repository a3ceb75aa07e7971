"""Answers to the questions, as findings with states and sentences: ``ga.analyze``.

``analysis_of`` asks all of ``QUESTIONS``, adjusts p-values of a difference within the confirmatory
family (Holm) and among the exploratory rest (Benjamini-Hochberg), holds the planned cells against
their margins, withholds small cells, and writes one sentence per finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.analysis.answers import answers_of, with_mask_tippings
from gradaudit.analysis.folding import with_folds
from gradaudit.analysis.measured_names import measured_names
from gradaudit.analysis.not_everywhere import NOT_EVERYWHERE_Q
from gradaudit.analysis.planned_cells import (
    Answer,
    CellKey,
    judged_contrasts,
    margin_of,
    planned_cell,
    planned_keys,
    settling,
)
from gradaudit.analysis.questions import QUESTIONS
from gradaudit.analysis.sentences import sentence
from gradaudit.analysis.study import Bools, Draft, Study
from gradaudit.cohort.attributes import Attribute, attributes_of
from gradaudit.cohort.bare_table import measurements_of
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import Cohort, take_cohorts
from gradaudit.disclosure.decision import Suppression, decide
from gradaudit.disclosure.small_cells import is_small
from gradaudit.manifest.unmeasured import refuse_unmeasured
from gradaudit.performance.table import refuse_foreign_labels
from gradaudit.plan import Plan
from gradaudit.records import (
    CellState,
    Effect,
    Finding,
    Interval,
    Limits,
    Measurements,
    TestResult,
)
from gradaudit.result_schema import PlannedCell
from gradaudit.stats import multiplicity
from gradaudit.subgroups.contrast import (
    JOINT,
    TEST_NAMES,
    Contrast,
    with_decision,
    with_difference,
)

TOO_FEW_TO_SHOW = "too few clusters, or too few different values, to compare"
"""Stands for a reason that holds counts where counts are withheld."""
REASON_WITHHELD = "its reason is withheld, because it would give a small count away"
"""Stands for why a comparison within its margin does not count, where counts are withheld."""

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
    """Findings and planned cells, from cohorts (the plan's own method and target first) and what
    is withheld.
    """
    meas = cohorts[0].meas
    if not len(meas.images):
        return Analysis()
    attributes = attributes_of(meas, plan, cohorts[0].groups)
    studies = [_study(cohort, plan, attributes, primary=i == 0) for i, cohort in enumerate(cohorts)]
    keys = planned_keys(studies[0])
    drafts: list[Draft] = []
    for study in studies:
        study = replace(study, planned=len(keys))
        for code in QUESTIONS:
            drafts += QUESTIONS.get(code)(study)
    withheld = _Withheld.of(suppression, drafts)
    drafts = _with_differences(_with_anchors(drafts), withheld, len(keys), plan.analysis.alpha)
    drafts, cells = _with_states(drafts, keys, studies[0], withheld)
    found = [_finding(d, withheld.of_draft(d)) for d in with_folds(drafts)]
    told = [f.model_copy(update={"sentence": sentence(f, plan.analysis.alpha)}) for f in found]
    return Analysis(tuple(told), cells)


def _study(
    cohort: Cohort, plan: Plan, attributes: tuple[Attribute, ...], *, primary: bool
) -> Study:
    table = cohort.meas.table
    method, target = table["method"].astype(str), table["target"].astype(str)
    own = table.loc[(method == cohort.method) & (target == cohort.target)]
    return Study(cohort, plan, own, attributes, primary=primary)


def _with_states(
    drafts: Sequence[Draft], keys: Sequence[CellKey], study: Study, withheld: _Withheld
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
    out = []
    for d in drafts:
        contrast = states.get(id(d)) or with_decision(d.contrast, None, judged=False)
        cell = next((c for c in cells if d.anchor and c.finding == d.anchor), None)
        out.append(replace(d, contrast=contrast, reservation=_reservation(cell)))
    shown = _without_hidden(cells, answers, withheld)
    settled = _with_settling(shown, answers, contrasts, study, withheld)
    return with_mask_tippings(study, out), settled


def _with_settling(
    cells: Sequence[PlannedCell],
    answers: Sequence[Answer],
    contrasts: Sequence[Contrast | None],
    study: Study,
    withheld: _Withheld,
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
    cells: Sequence[PlannedCell], answers: Sequence[Answer], withheld: _Withheld
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


def _reservation(cell: PlannedCell | None) -> str:
    """Why a comparison within its margin does not count all the same."""
    return cell.reason if cell is not None and cell.state is CellState.WITHIN else ""


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


# ── small cells ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Withheld:
    """What findings must not show.  "all": the group is small.  "counts": its numbers would give a
    small one away.
    """

    cells: set[tuple[str, str, str, str, str]]
    levels: dict[str, set[str]]
    bases: dict[tuple[str, str, str, str, str], int]
    min_cell: int

    @classmethod
    def of(cls, suppression: Suppression, drafts: Sequence[Draft]) -> _Withheld:
        bases = {
            (d.attribute, d.contrast.group, d.region, d.method, d.target): d.contrast.n_images
            for d in drafts
            if d.code == "GA101"
        }
        return cls(suppression.cells, suppression.levels, bases, suppression.min_cell)

    def of_draft(self, d: Draft) -> str:
        if self.min_cell <= 1:
            return ""
        c = d.contrast
        counts = (c.n_images, c.n_clusters, c.n_images_reference, c.n_clusters_reference)
        if c.kind not in ("level", "pair", "additivity"):
            return "all" if any(is_small(n, self.min_cell) for n in counts) else ""
        if any(is_small(n, self.min_cell) for n in counts) or (
            not c.n_images and self._is_hidden(d, c.group)
        ):
            return "all"
        if d.small_table or any(self._is_hidden(d, level) for level in (c.group, c.reference)):
            return "counts"
        if d.code in ("GA111", "GA112"):
            events = [
                n * mean[0]
                for n, mean in ((c.n_images, c.mean), (c.n_images_reference, c.mean_reference))
                if np.isfinite(mean[0])
            ]
            return "rates" if any(0 < e < self.min_cell for e in events) else ""
        if d.stratum or d.outcome == "heat_share_correct":
            return ""
        base = self.bases.get((d.attribute, c.group, d.region, d.method, d.target), c.n_images)
        return "counts" if is_small(abs(base - c.n_images), self.min_cell) else ""

    def _is_hidden(self, d: Draft, level: str) -> bool:
        if level in self.levels.get(d.attribute, set()):
            return True
        return any(
            a == d.attribute and cell == level and d.region in ("", region)
            for a, cell, region, *_ in self.cells
        )


# ── families, verdicts, records ───────────────────────────────────────────────────────────────────


def _with_differences(
    drafts: Sequence[Draft], withheld: _Withheld, planned: int, alpha: float
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


def _finding(d: Draft, withheld: str) -> Finding:
    """The record of a draft, without what ``_Withheld.of_draft`` says must not be shown."""
    base = Finding(
        code=d.code,
        anchor=d.anchor,
        question=QUESTIONS.card(d.code).summary,
        attribute=d.attribute,
        group=d.contrast.group + (f", within {d.stratum}" if d.stratum else ""),
        reference=d.contrast.reference,
        stratum=d.stratum,
        region=d.region,
        role=d.role,
        method=d.method,
        target=d.target,
        outcome=d.outcome,
        margin=d.margin,
        adjusted_for=d.adjusted_for,
    )
    if withheld == "all":
        # a decisive comparison keeps its family: no verdict is given as if it had not been asked
        family = TestResult(family="confirmatory" if d.confirmatory else "")
        return base.model_copy(
            update={
                "suppressed": True,
                "reason": "small_cell",
                "n_withheld": True,
                "test": family,
                "state": CellState.WITHHELD,
            }
        )
    full = base.model_copy(update=_numbers(d))
    if withheld == "rates":
        return _without_rates(_without_counts(full))
    return _without_counts(full) if withheld else full


def _without_counts(full: Finding) -> Finding:
    """The finding without its counts, and without what they could be reckoned from."""
    notes = [
        "compared among clusters of common region size" if "compared among" in note else note
        for note in full.notes
    ]
    reason = TOO_FEW_TO_SHOW if full.reason else ""
    return full.model_copy(
        update={
            **dict.fromkeys(("n_images", "n_clusters"), 0),
            **dict.fromkeys(("n_images_reference", "n_clusters_reference"), 0),
            "n_withheld": True,
            "curve": (),
            "mde80": None,
            "test": full.test.model_copy(update={"df": None}),
            "mean": Interval(estimate=full.mean.estimate),
            "mean_reference": Interval(estimate=full.mean_reference.estimate),
            "reason": reason,
            "reservation": REASON_WITHHELD if full.reservation else "",
            "notes": tuple(notes),
        }
    )


def _without_rates(found: Finding) -> Finding:
    """The finding without rates and differences too: a rate of few events gives them away."""
    return found.model_copy(
        update={
            **dict.fromkeys(("mean", "mean_reference", "raw", "adjusted"), Interval()),
            "adjusted_predicted": Interval(),
            **dict.fromkeys(("thin", "thick"), Limits()),
            **dict.fromkeys(("beyond_up_to", "within_from"), None),
            "curve": (),
            "se": None,
            "effect": Effect(),
            "reason": "too few of these images to compare" if found.reason else "",
            "test": found.test.model_copy(update={"statistic": None}),
        }
    )


def _numbers(d: Draft) -> dict[str, Any]:
    c = d.contrast
    own = _interval((c.estimate, c.ci_low, c.ci_high))
    additive = c.kind == "additivity"  # a prediction has no images of its own
    return {
        "n_images": c.n_images,
        "n_clusters": c.n_clusters,
        "n_images_reference": 0 if additive else c.n_images_reference,
        "n_clusters_reference": 0 if additive else c.n_clusters_reference,
        "mean": _interval(c.mean),
        "mean_reference": _interval(c.mean_reference),
        "raw": _raw(d, own),
        "adjusted": own if d.adjusted_for else Interval(),
        "adjusted_predicted": _interval(c.adjusted_predicted),
        "mask_tipping": d.mask_tipping,
        "se": _or_none(c.se),
        "effect": Effect(
            ratio=_interval(c.ratio),
            standardised_difference=_or_none(c.standardised_difference),
            cliffs_delta=_or_none(c.cliffs_delta),
        ),
        "test": _test(d),
        "mde80": _or_none(c.mde80),
        "state": c.state,
        "shown": c.shown,
        "thin": Limits(low=_or_none(c.thin[0]), high=_or_none(c.thin[1])),
        "thick": Limits(low=_or_none(c.thick[0]), high=_or_none(c.thick[1])),
        "beyond_up_to": _or_none(c.beyond_up_to),
        "within_from": _or_none(c.within_from),
        "reservation": d.reservation,
        "folded_under": d.folded_under,
        "curve": c.curve,
        "provisional": c.provisional,
        "reason": c.reason,
        "notes": (*c.notes, *d.notes),
    }


def _raw(d: Draft, own: Interval) -> Interval:
    """The difference without adjustment: the finding's own where nothing was adjusted."""
    if d.raw is None:
        return Interval() if d.adjusted_for else own
    return _interval((d.raw.estimate, d.raw.ci_low, d.raw.ci_high))


def _test(d: Draft) -> TestResult:
    c = d.contrast
    name = TEST_NAMES.get(c.method, "")
    if c.kind in JOINT and name:
        name = "permuted Wald" if c.method == "permutation" else "Wald F"
    return TestResult(
        name=name,
        statistic=_or_none(c.statistic),
        df=_or_none(c.df),
        p=_or_none(c.p),
        p_adjusted=_or_none(c.p_adjusted),
        p_beyond=_or_none(c.p_beyond),
        p_beyond_adjusted=_or_none(c.p_beyond_adjusted),
        p_within=_or_none(c.p_within),
        family="confirmatory" if d.confirmatory else "exploratory",
        permutations=c.permutations or None,
    )


def _interval(values: tuple[float, float, float]) -> Interval:
    return Interval(estimate=_or_none(values[0]), low=_or_none(values[1]), high=_or_none(values[2]))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
