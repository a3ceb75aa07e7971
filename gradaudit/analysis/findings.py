"""Answers to the questions, as findings with verdicts and sentences: ``ga.analyze``.

``analyze`` asks all of ``QUESTIONS``, adjusts p-values within the confirmatory family (Holm) and
among the exploratory rest (Benjamini-Hochberg), gives verdicts, withholds small cells, and writes
one sentence per finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.analysis.measured_names import measured_names
from gradaudit.analysis.questions import QUESTIONS
from gradaudit.analysis.sentences import sentence
from gradaudit.analysis.study import Attribute, Draft, Study
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import Cohort, take_cohorts
from gradaudit.disclosure.decision import Suppression, decide
from gradaudit.disclosure.small_cells import is_small
from gradaudit.errors import InputError
from gradaudit.manifest.unmeasured import refuse_unmeasured
from gradaudit.performance.table import refuse_foreign_labels
from gradaudit.plan import Plan, SubgroupPlan
from gradaudit.records import UNKNOWN, Effect, Finding, Interval, Measurements, TestResult, Verdict
from gradaudit.stats import decision, multiplicity
from gradaudit.subgroups.contrast import JOINT, TEST_NAMES
from gradaudit.subgroups.levels import attribute_kind

__all__ = ["QUESTIONS", "analyze", "sentence"]


# ── from drafts to findings ───────────────────────────────────────────────────────────────────────


def analyze(
    meas: Measurements | pd.DataFrame, plan: Plan | None = None, images: pd.DataFrame | None = None
) -> list[Finding]:
    """Ask every question of ``QUESTIONS`` and return the findings, decisive ones first.

    meas : ``Measurements``, or a table with ``records.TABLE_COLUMNS``; then ``images`` holds one
        row per image with image_id, cluster and ``subgroup.<name>`` (default: those columns of the
        table itself)
    plan : roles, criteria, order of levels, covariates; None: no margin, and every region counts as
        declared

    Confirmatory: heat share in the declared regions by every attribute, and the rate of undefined
    heat; Holm. Everything else is exploratory: Benjamini-Hochberg, worded as a signal.  Cells below
    ``privacy.min_cell`` are withheld.

    Errors: ``InputError`` for missing columns; ``PlanError`` where the plan names what was not
    measured (see ``refuse_unmeasured``); ``ManifestError`` where no label is a class of the model.
    """
    named, plan = plan, plan or Plan()
    meas = meas if isinstance(meas, Measurements) else _measurements(meas, images)
    if named is not None:
        refuse_unmeasured_names(meas, named)
    refuse_foreign_labels(meas)
    if not len(meas.images) or not len(meas.table):
        return []
    cohorts = take_cohorts(meas, plan)
    return findings_of(cohorts, decide(cohorts, heat_rows_of(cohorts, plan), plan), plan)


def refuse_unmeasured_names(meas: Measurements, plan: Plan) -> None:
    """Errors: ``PlanError`` where the plan names what was not measured."""
    if len(meas.images):
        refuse_unmeasured(plan, measured_names(meas, plan))


def findings_of(cohorts: Sequence[Cohort], suppression: Suppression, plan: Plan) -> list[Finding]:
    """``analyze``, from cohorts (the plan's own method and target first) and what is withheld."""
    meas = cohorts[0].meas
    if not len(meas.images) or not len(meas.table):
        return []
    attributes = _attributes(meas, plan, cohorts[0].groups)
    drafts: list[Draft] = []
    for i, cohort in enumerate(cohorts):
        table = meas.table.loc[
            (meas.table["method"].astype(str) == cohort.method)
            & (meas.table["target"].astype(str) == cohort.target)
        ]
        study = Study(cohort, plan, table, attributes, primary=i == 0)
        for code in QUESTIONS:
            drafts += QUESTIONS.get(code)(study)
    withheld = _Withheld.of(suppression, drafts)
    judged = _judged(_with_anchors(drafts), withheld, plan)
    found = [_finding(d, withheld.of_draft(d)) for d in judged]
    return [f.model_copy(update={"sentence": sentence(f, plan.analysis.alpha)}) for f in found]


def _measurements(table: pd.DataFrame, images: pd.DataFrame | None) -> Measurements:
    """A bare table as measurements: what is not there is filled with what it means."""
    missing = [c for c in ("image_id", "region", "heat_share") if c not in table]
    if missing:
        raise InputError(
            f"The table lacks {', '.join(missing)}; it has {', '.join(map(str, table.columns))}."
        )
    defaults: dict[str, Any] = {
        "method": "",
        "target": "",
        "reason": "",
        "area_share": np.nan,
        "mass_lift": np.nan,
        "pointing_game": np.nan,
    }
    table = table.assign(**{name: value for name, value in defaults.items() if name not in table})
    if "status" not in table:
        table = table.assign(
            status=np.where(table["heat_share"].notna(), "ok", "no_positive_evidence")
        )
    images = _images_of(table) if images is None else images
    if not any(str(c).startswith("subgroup.") for c in images):
        raise InputError(
            "No column subgroup.<name> in the images (or the table): there are no groups to compare."
        )
    blank: dict[str, Any] = {
        "label": None,
        "predicted": None,
        "correct": None,
        "probability": np.nan,
        "path": "",
        "status": "ok",
        "reason": "",
    }
    images = images.reset_index(drop=True).assign(
        **{name: value for name, value in blank.items() if name not in images}
    )
    if "cluster" not in images:
        images = images.assign(cluster=images["image_id"].astype(str))
    return Measurements(table.reset_index(drop=True), images)


def _images_of(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image with the columns of the table that are about images."""
    known = ("cluster", "label", "predicted", "probability", "correct", "path")
    carried = [c for c in table if str(c).startswith(("subgroup.", "meta.")) or c in known]
    return table[["image_id", *carried]].drop_duplicates("image_id")


def _attributes(
    meas: Measurements, plan: Plan, groups: dict[str, pd.Series[Any]]
) -> tuple[Attribute, ...]:
    """Attributes as compared: levels as displayed, unknown as None, continuous ones as numbers."""
    out = []
    for name, shown in groups.items():
        declared = plan.subgroups.get(name, SubgroupPlan())
        text = (
            shown.astype(object).where(shown.astype(object) != UNKNOWN, None).to_numpy(dtype=object)
        )
        column = meas.images[f"subgroup.{name}"]
        kind = attribute_kind(pd.Series(column.unique()), declared.kind, declared.order)
        order = declared.order if kind == "ordered" else None
        if order is not None:
            text = np.array([level if level in order else None for level in text], dtype=object)
        values = (
            pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
            if kind == "continuous"
            else text
        )
        if declared.reference == "rest" and kind == "categorical":
            declared = declared.model_copy(
                update={"reference": _larger_of_two(text, meas.images["cluster"])}
            )
        out.append(
            Attribute(
                name, kind, values, order, declared.reference, True if declared.within else None
            )
        )
    return tuple(out)


def _larger_of_two(text: np.ndarray[Any, Any], clusters: pd.Series[Any]) -> str:
    """Of two levels, the reference in every region is the one with more clusters; else "rest"."""
    sizes = (
        pd.DataFrame({"level": text, "cluster": clusters.to_numpy()})
        .dropna(subset="level")
        .groupby("level")["cluster"]
        .nunique()
    )
    return str(sizes.sort_index().idxmax()) if len(sizes) == 2 else "rest"


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
            d.contrast.kind if d.contrast.kind == "additivity" else "",
        ]
        parts.append(d.contrast.group if d.contrast.kind in ("level", "additivity") else "")
        text = "-".join(p for p in parts if p)
        seen[text] = seen.get(text, 0) + 1
        out.append(replace(d, anchor=text if seen[text] == 1 else f"{text}-{seen[text]}"))
    return out


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
        if c.kind not in ("level", "additivity"):
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
        base = self.bases.get((d.attribute, c.group, d.region, d.method, d.target), c.n_images)
        return (
            "counts"
            if d.outcome != "heat_share_correct" and is_small(abs(base - c.n_images), self.min_cell)
            else ""
        )

    def _is_hidden(self, d: Draft, level: str) -> bool:
        if level in self.levels.get(d.attribute, set()):
            return True
        return any(
            a == d.attribute and cell == level and d.region in ("", region)
            for a, cell, region, *_ in self.cells
        )


# ── families, verdicts, records ───────────────────────────────────────────────────────────────────


def _judged(drafts: Sequence[Draft], withheld: _Withheld, plan: Plan) -> list[Draft]:
    """Adjust within families and give verdicts.

    Findings that are withheld whole have no p to adjust: nobody reads them.
    """
    shown = np.array([withheld.of_draft(d) != "all" for d in drafts], dtype=bool)
    confirmatory = np.array([d.confirmatory for d in drafts], dtype=bool)
    decided, others = confirmatory & shown, ~confirmatory & shown
    raw = np.array([d.contrast.p for d in drafts])
    near = np.array([d.contrast.p_equivalence for d in drafts])
    p, p_near = np.full(len(drafts), np.nan), np.full(len(drafts), np.nan)
    p[decided] = multiplicity.holm(raw[decided])
    p[others] = multiplicity.benjamini_hochberg(raw[others])
    p_near[decided] = multiplicity.holm(near[decided])
    return [
        _with_verdict(d, float(p[i]), float(p_near[i]), bool(shown[i]), plan.analysis.alpha)
        for i, d in enumerate(drafts)
    ]


def _with_verdict(d: Draft, p: float, p_equivalence: float, shown: bool, alpha: float) -> Draft:
    c = d.contrast
    verdict = Verdict.NOT_ASSESSED
    if shown and not c.reason:
        verdict = decision.verdict(p, p_equivalence, c.ci_low, c.ci_high, d.margin, alpha)
    judged = replace(c, p_adjusted=p, p_equivalence_adjusted=p_equivalence, verdict=verdict)
    return replace(d, contrast=judged)


def _finding(d: Draft, withheld: str) -> Finding:
    """The record of a draft, without what ``_Withheld.of_draft`` says must not be shown."""
    base = Finding(
        code=d.code,
        anchor=d.anchor,
        question=QUESTIONS.card(d.code).summary,
        attribute=d.attribute,
        group=d.contrast.group,
        reference=d.contrast.reference,
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
            update={"suppressed": True, "reason": "small_cell", "n_withheld": True, "test": family}
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
    reason = "too few clusters, or too few different values, to compare" if full.reason else ""
    return full.model_copy(
        update={
            **dict.fromkeys(("n_images", "n_clusters"), 0),
            **dict.fromkeys(("n_images_reference", "n_clusters_reference"), 0),
            "n_withheld": True,
            "mde80": None,
            "clusters_needed": None,
            "test": full.test.model_copy(update={"df": None}),
            "mean": Interval(estimate=full.mean.estimate),
            "mean_reference": Interval(estimate=full.mean_reference.estimate),
            "reason": reason,
            "notes": tuple(notes),
        }
    )


def _without_rates(found: Finding) -> Finding:
    """The finding without rates and differences too: a rate of few events gives them away."""
    return found.model_copy(
        update={
            **dict.fromkeys(("mean", "mean_reference", "raw", "adjusted"), Interval()),
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
        "se": _or_none(c.se),
        "effect": Effect(
            ratio=_interval(c.ratio),
            standardised_difference=_or_none(c.standardised_difference),
            cliffs_delta=_or_none(c.cliffs_delta),
        ),
        "test": _test(d),
        "mde80": _or_none(c.mde80),
        "clusters_needed": int(c.clusters_needed) if np.isfinite(c.clusters_needed) else None,
        "verdict": c.verdict,
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
        p_equivalence=_or_none(c.p_equivalence),
        p_equivalence_adjusted=_or_none(c.p_equivalence_adjusted),
        family="confirmatory" if d.confirmatory else "exploratory",
        permutations=c.permutations or None,
    )


def _interval(values: tuple[float, float, float]) -> Interval:
    return Interval(estimate=_or_none(values[0]), low=_or_none(values[1]), high=_or_none(values[2]))


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
