"""Family QUESTIONS: what is asked of the measurements.

Each question stands with the code that its findings carry.

A question turns a ``Study`` (one method and target, arranged over images and regions) into
``Draft``s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.analysis.study import NOBODY, Bools, Draft, Floats, Study
from gradaudit.cohort.attributes import Attribute
from gradaudit.cohort.coverage import could_be_seen, sides_of
from gradaudit.disclosure.small_cells import is_small
from gradaudit.number_text import points
from gradaudit.outcomes import secondary_outcomes
from gradaudit.records import CROSS
from gradaudit.registry import Family
from gradaudit.stats import effect_sizes
from gradaudit.subgroups.comparison import Disparity, disparity, intersections
from gradaudit.subgroups.contrast import EXPLORATORY_PERMUTATIONS, JOINT, Contrast

MOST_CELLS = 40
"""Cells of two attributes, or groups times strata, that are still looked at one by one."""


# ── the questions ─────────────────────────────────────────────────────────────────────────────────

Question = Callable[[Study], list[Draft]]
QUESTIONS: Family[Question] = Family("question")
"""Members are named by the code that their findings carry."""


@QUESTIONS.register(
    name="GA101",
    label="heat share by group",
    summary="Does the mean share of heat in a region differ between a group and the others?",
    formula="mean over patients, group minus reference, at equal region size and label",
    unit="share of heat, 0 to 1",
    source="Arras et al. 2022, eq. 1 (heat share); ter Braak 1992; DiCiccio & Romano 2017 (test)",
)
def heat_share_by_group(study: Study) -> list[Draft]:
    """Each level against its reference; with the range that undefined heat leaves open."""
    return [_with_bounds(study, d) for d in study.heat if d.contrast.kind == "level"]


@QUESTIONS.register(
    name="GA102",
    label="trend over ordered levels",
    summary="Does the heat share rise or fall along the ordered levels?",
    formula="slope over level positions, times (last - first)",
    unit="share of heat, first to last level",
    source="ter Braak 1992",
)
def trend(study: Study) -> list[Draft]:
    return [replace(d, code="GA102") for d in study.heat if d.contrast.kind == "trend"]


@QUESTIONS.register(
    name="GA103",
    label="continuous attribute",
    summary="Does the heat share change with a numeric attribute?",
    formula="largest difference of two of 13 points, P5 to P95, of a natural cubic spline; beside it the slope, times (90 % point - 10 % point)",
    unit="share of heat",
    source="Harrell 2015, eq. 2.25 (spline); ter Braak 1992; max-t: Westfall & Young 1993",
    caveat="A bump narrower than the distance of the knots is not seen.",
)
def continuous(study: Study) -> list[Draft]:
    """The curve, which decides; and the slope beside it, which has no margin."""
    out = []
    for d in study.heat:
        if d.contrast.kind == "curve":
            out.append(replace(d, code="GA103"))
        elif d.contrast.kind == "continuous":
            out.append(_beside(replace(d, code="GA103")))
    return out


def _beside(d: Draft) -> Draft:
    """The draft as information: it decides nothing."""
    return replace(d, confirmatory=False, margin=None)


@QUESTIONS.register(
    name="GA104",
    label="departure from a straight line",
    summary="Is the trend bent, so that its slope does not tell the whole?",
    formula="Wald statistic of the level effects beside the slope, permuted",
    source="ter Braak 1992; Harrell 2015, ch. 2",
)
def departure(study: Study) -> list[Draft]:
    found = [d for d in study.heat if d.contrast.kind in JOINT and not d.contrast.reason]
    return [replace(d, code="GA104", confirmatory=False, margin=None, raw=None) for d in found]


@QUESTIONS.register(
    name="GA105",
    label="pairs of levels",
    summary="Do any two levels of an unordered attribute differ from each other?",
    formula="mean over patients, level minus level, at equal region size and class",
    unit="share of heat, 0 to 1",
    source="as GA101; all pairs must be within: Berger 1982, Technometrics 24:295",
    caveat="Three or more levels only; each may lie near the rest while two lie far apart.",
)
def pairs(study: Study) -> list[Draft]:
    return [replace(d, code="GA105") for d in study.heat if d.contrast.kind == "pair"]


@QUESTIONS.register(
    name="GA111",
    label="undefined heat by group",
    summary="Are maps without any positive evidence more frequent in a group?",
    formula="share of readable images whose heat is undefined",
    unit="share of images",
    source="ter Braak 1992; worst-case bounds: Manski 1990, Am. Econ. Rev. 80:319",
)
def undefined_heat(study: Study) -> list[Draft]:
    margin = study.plan.criteria.undefined_margin if study.primary and study.plan.criteria else None
    found = study.drafts(
        "GA111",
        "undefined",
        study.undefined,
        "",
        confirmatory=study.primary,
        margin=margin,
        sized=False,
    )
    return [d for d in found if d.contrast.kind in ("level", "pair", "trend", "curve")]


@QUESTIONS.register(
    name="GA112",
    label="region absent by group",
    summary="Is the region missing from the image more often in a group?",
    formula="share of annotated images in which the region is empty",
    unit="share of images",
    source="ter Braak 1992; worst-case bounds: Manski 1990, Am. Econ. Rev. 80:319",
    caveat="Part of the disparity itself where the region is a shortcut: marks that only one group carries.",
)
def region_absent(study: Study) -> list[Draft]:
    out: list[Draft] = []
    for r, region in enumerate(study.cohort.regions):
        empty = ~could_be_seen(study.cohort, region)
        looked_for = np.isfinite(study.cohort.area[:, r]) | empty
        absent = np.where(looked_for, empty / 1.0, np.nan)
        if 0 < np.nansum(absent) < np.count_nonzero(looked_for):
            found = study.drafts("GA112", "absent", absent, region, confirmatory=False, sized=False)
            out += [d for d in found if d.contrast.kind == "level"]
    return out


@QUESTIONS.register(
    name="GA121",
    label="secondary measures",
    summary="Do other measures of heat, or right predictions alone, point the same way?",
    formula="as the heat share",
    source="Zhang et al. 2018 (pointing game); Benjamini & Hochberg 1995 (signals)",
)
def secondary(study: Study) -> list[Draft]:
    """Secondary measures of heat, and the heat share within correctly classified images.

    The measures are lift, rank accuracy, pointing game and AUC.
    """
    out: list[Draft] = []
    correct = (
        study.images["correct"].fillna(False).astype(bool).to_numpy()
        if "correct" in study.images
        else np.zeros(len(study.images), dtype=bool)
    )
    for r, region in enumerate(study.cohort.regions):
        if not study.is_confirmatory(region):
            continue
        for metric in secondary_outcomes():
            values = _spread(study, metric, region)
            if np.isfinite(values).any():
                out += study.drafts("GA121", metric, values, region, confirmatory=False)
        if 0 < correct.sum() < len(correct):
            values = np.where(
                study.cohort.defined[:, r] & correct, study.cohort.share[:, r], np.nan
            )
            within = study.drafts("GA121", "heat_share_correct", values, region, confirmatory=False)
            out += [
                replace(d, notes=(*d.notes, "within correctly classified images")) for d in within
            ]
    return [
        d
        for d in out
        if d.contrast.kind in ("level", "trend", "continuous") and not d.contrast.reason
    ]


@QUESTIONS.register(
    name="GA131",
    label="intersections",
    summary="Does a two-way cell differ from the rest, or from what its two attributes add up to?",
    formula="cell minus rest; cell minus patient-weighted additive prediction",
    unit="share of heat",
    source="Searle 1971, Linear Models, ch. 7 (additive prediction); Benjamini & Hochberg 1995 (signals)",
)
def intersection(study: Study) -> list[Draft]:
    if not study.primary:
        return []
    out: list[Draft] = []
    named = [a for a in study.attributes if a.kind != "continuous" and not a.within]
    for region in study.confirmatory_regions:
        for first, second in combinations(named, 2):
            out += _cells(study, first, second, region)
    return out


def _cells(study: Study, first: Attribute, second: Attribute, region: str) -> list[Draft]:
    """Every two-way cell of two attributes against the rest, and against what they add up to."""
    if len(set(first.values) - {None}) * len(set(second.values) - {None}) > MOST_CELLS:
        return []
    found = _compared_cells(study, first, second, region)
    notes = _shrunken_notes(found)
    smallest = study.plan.privacy.min_cell
    sizes = [n for counts in found.levels.values() for n in counts]
    draft = Draft(
        code="GA131",
        attribute=f"{first.name}{CROSS}{second.name}",
        region=region,
        outcome="heat_share",
        contrast=NOBODY,
        raw=None,
        confirmatory=False,
        margin=None,
        adjusted_for=found.adjusted_for,
        method=study.cohort.method,
        target=study.cohort.target,
        role=study.role(region),
        small_table=any(is_small(n, smallest) for n in sizes),
    )
    return [
        replace(draft, contrast=c, notes=notes.get(c.group, ()) if c.kind == "level" else ())
        for c in found.contrasts
        if not c.reason
    ]


def _compared_cells(study: Study, first: Attribute, second: Attribute, region: str) -> Disparity:
    covariates = study.covariates(first.name)
    if covariates is not None:
        covariates = covariates.drop(columns=[c for c in covariates if c == second.name])
    return intersections(
        study.heat_share(region),
        first.values,
        second.values,
        area_share=study.cohort.area[:, study.cohort.regions.index(region)],
        label=study.label,
        covariates=covariates,
        site=None if study.plan.analysis.site == second.name else study.site(first.name),
        clusters=study.cohort.cluster,
        alpha=study.plan.analysis.alpha,
        permutations=min(study.plan.analysis.permutations, EXPLORATORY_PERMUTATIONS),
        seed=study.plan.run.seed,
        site_name=study.plan.analysis.site or "site",
    )


def _shrunken_notes(found: Disparity) -> dict[str, tuple[str, ...]]:
    """Cell -> a note with its difference to the rest, drawn towards the mean of all cells."""
    against_rest = [c for c in found.contrasts if c.kind == "level" and not c.reason]
    pulled = effect_sizes.shrunken(
        np.array([c.estimate for c in against_rest]), np.array([c.se for c in against_rest])
    )
    return {
        c.group: (f"shrunken for display: {points(float(p))} points",)
        for c, p in zip(against_rest, pulled, strict=True)
    }


def _spread(study: Study, metric: str, region: str) -> Floats:
    """One metric column over images, NaN where undefined."""
    own = study.table.loc[study.table["region"] == region]
    if metric not in own:
        return np.full(len(study.images), np.nan)
    values = pd.Series(
        own[metric].to_numpy(dtype=float, na_value=np.nan), index=own["image_id"].astype(str)
    )
    out = values.reindex(study.images["image_id"].astype(str)).to_numpy(dtype=float)
    return np.where(np.isfinite(out), out, np.nan)


def _with_bounds(study: Study, draft: Draft) -> Draft:
    """Note how far undefined heat, counted as 0 or as 1, could move the difference.

    These bounds are printed and never decide: with 5 % undefined they forbid every "within".
    """
    c = draft.contrast
    attribute = next(a for a in study.attributes if a.name == draft.attribute)
    asked = sides_of(attribute, c.kind, c.group, c.reference)
    mine, theirs = asked.group, asked.reference
    gone = _undefined_in(study, draft.region)
    if draft.contrast.reason or not (gone & (mine | theirs)).any():
        return draft
    share = study.heat_share(draft.region)
    sides = np.full(len(mine), None, dtype=object)
    sides[mine], sides[theirs] = "group", "other"
    low = _analytic(study, draft, np.where(gone, np.where(mine, 0.0, 1.0), share), sides)
    high = _analytic(study, draft, np.where(gone, np.where(mine, 1.0, 0.0), share), sides)
    counts = [int((gone & side).sum()) for side in (mine, theirs)]
    small = any(is_small(n, study.plan.privacy.min_cell) for n in counts)
    if low is None or high is None or small:
        return draft
    ends = f"{points(low.estimate)} and {points(high.estimate)} points"
    text = f"undefined heat counted as 0 or 1 in opposite directions leaves it between {ends}"
    return replace(draft, notes=(*draft.notes, text))


def _undefined_in(study: Study, region: str) -> Bools:
    """Images with the region in place and a map without positive evidence."""
    r = study.cohort.regions.index(region)
    no_heat = study.undefined == 1
    return np.asarray(no_heat & study.cohort.usable[:, r] & ~study.cohort.defined[:, r])


def _analytic(
    study: Study, draft: Draft, values: Floats, sides: np.ndarray[Any, Any]
) -> Contrast | None:
    found = disparity(
        values,
        sides,
        area_share=study.cohort.area[:, study.cohort.regions.index(draft.region)],
        label=study.label,
        covariates=study.covariates(draft.attribute),
        site=study.site(draft.attribute),
        clusters=study.cohort.cluster,
        reference="other",
        margin=draft.margin,
        alpha=study.plan.analysis.alpha,
        within=False,
        weights=study.plan.analysis.weights,
        omnibus=False,
        analytic=True,
    )
    return next((c for c in found.contrasts if not c.reason), None)
