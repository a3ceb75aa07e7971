"""Question GA132: is the group's difference the same in every class and beside every other group?

A difference of zero on average can be +20 points in one class and -20 in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.analysis.questions import MOST_CELLS, QUESTIONS
from gradaudit.analysis.study import NOBODY, Bools, Draft, Floats, Study
from gradaudit.cohort.attributes import Attribute
from gradaudit.disclosure.small_cells import is_small
from gradaudit.number_text import points, share_digits
from gradaudit.outcomes import region_words
from gradaudit.records import CellState, Finding
from gradaudit.subgroups.comparison import Disparity
from gradaudit.subgroups.levels import level_text, sort_levels

NOT_EVERYWHERE_Q = 0.10
"""Benjamini-Hochberg level at which a stratum's difference is said to lie beyond the margin."""
_MOST_NAMED = 4
_CLASS = "class "
Labels = np.ndarray[Any, np.dtype[np.object_]]
Codes = np.ndarray[Any, np.dtype[np.integer[Any]]]


@QUESTIONS.register(
    name="GA132",
    label="not the same everywhere",
    summary="Does the group's difference lie beyond the margin within a class, or within a level of another attribute?",
    formula="group minus reference among the images of one class or level; p of beyond",
    unit="share of heat",
    source="qualitative interaction: Gail & Simon 1985, Biometrics 41:361; Benjamini & Hochberg 1995, q ≤ .10",
    caveat="Strata with fewer than ten clusters on a side are not looked at.",
)
def not_everywhere(study: Study) -> list[Draft]:
    if not study.primary or study.plan.criteria is None:
        return []
    out: list[Draft] = []
    for region in study.confirmatory_regions:
        for a in study.attributes:
            for by in _strata(study, a):
                out += _within_strata(study, a, by, region)
    return out


def _strata(study: Study, a: Attribute) -> list[tuple[str, Labels]]:
    """(what stands before a level's name, level of each image): the classes, and every other attribute."""
    out: list[tuple[str, Labels]] = []
    if "label" in study.images:
        labels = study.images["label"].astype(object)
        out.append((_CLASS, labels.where(labels.notna(), None).to_numpy(dtype=object)))
    for other in study.attributes:
        if other.name != a.name and other.kind != "continuous":
            out.append((other.name.replace("_", " ") + " ", other.values))
    return out


def _within_strata(
    study: Study, a: Attribute, by: tuple[str, Labels], region: str
) -> Iterator[Draft]:
    """One attribute's groups within every stratum that has enough of them."""
    name, strata = by
    values = study.heat_share(region)
    seen = np.isfinite(values) & a.known
    codes, named = pd.factorize(strata)
    names = [level_text(level) for level in named]
    present = np.unique(codes[seen & (codes >= 0)])
    levels = sort_levels([names[k] for k in present])
    small = _has_small_cell(study, a, codes, seen)
    if len(levels) < 2 or len(levels) * max(len(a.levels), 1) > MOST_CELLS:
        return
    place = Draft(
        code="GA132",
        attribute=a.name,
        region=region,
        outcome="heat_share",
        contrast=NOBODY,
        raw=None,
        confirmatory=False,
        margin=None if study.plan.criteria is None else study.plan.criteria.margin,
        adjusted_for=(),
        method=study.cohort.method,
        target=study.cohort.target,
        role=study.role(region),
        small_table=small,
    )
    for level in levels:
        inside = np.where(codes == names.index(level), values, np.nan)
        found = _beyond_somewhere(study, a, inside, region, place.margin)
        for c in found.contrasts:
            if c.kind in ("level", "curve") and not c.reason:
                yield replace(
                    place, contrast=c, adjusted_for=found.adjusted_for, stratum=f"{name}{level}"
                )


def _beyond_somewhere(
    study: Study, a: Attribute, values: Floats, region: str, margin: float | None
) -> Disparity:
    """The comparison of one stratum; permuted only where an estimate is beyond the margin at all."""
    found = study.compare(a, values, region, confirmatory=False, margin=margin, analytic=True)
    if any(c.p_beyond < 1 for c in found.contrasts):
        return study.compare(a, values, region, confirmatory=False, margin=margin)
    return found


def _has_small_cell(study: Study, a: Attribute, codes: Codes, seen: Bools) -> bool:
    """Whether a cell of group and stratum holds few images or clusters: counts would tell it."""
    groups = np.zeros(len(seen), dtype=np.int64) if a.kind == "continuous" else a.codes
    used = seen & (codes >= 0) & (groups >= 0)
    cells = groups[used] * (int(codes.max(initial=0)) + 1) + codes[used]
    clusters = study.cohort.cluster
    patients = int(clusters.max(initial=0)) + 1
    each_once = np.unique(cells * patients + clusters[used]) // patients
    sizes = (*np.bincount(cells), *np.bincount(each_once))
    return any(is_small(int(n), study.plan.privacy.min_cell) for n in sizes)


# ── what the verdict says of it ───────────────────────────────────────────────────────────────────


def not_the_same(findings: Sequence[Finding]) -> list[Finding]:
    """The strata whose difference lies beyond the margin where that of everybody does not.

    A stratum beyond in the direction in which everybody is beyond tells nothing new.
    """
    overall = {}
    for f in findings:
        if f.code in ("GA101", "GA103") and f.test.family == "confirmatory":
            overall[_comparison_of(f)] = f
    out = []
    for f in findings:
        if f.code == "GA132" and f.shown and not f.suppressed and _difference(f) is not None:
            whole = overall.get(_comparison_of(f))
            if whole is None or not _same_direction(whole, f):
                out.append(f)
    return out


def second_sentence(findings: Sequence[Finding]) -> str:
    """ "not the same in every class: skin tone V-VI, within malignant +20 points on ruler"; "" where it is."""
    found = sorted(not_the_same(findings), key=lambda f: -abs(_difference(f) or 0.0))
    if not found:
        return ""
    named = []
    for f in found[:_MOST_NAMED]:
        who = f"{f.attribute.replace('_', ' ')} {f.group}"
        size = _difference(f) or 0.0
        named.append(f"{who} {points(size, share_digits(size))} points on {region_words(f.region)}")
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    classes = all(f.stratum.startswith(_CLASS) for f in found)
    where = "in every class" if classes else "everywhere"
    return f"not the same {where}: {'; '.join(named)}{more}"


def _comparison_of(f: Finding) -> tuple[str, ...]:
    if f.curve:
        return f.attribute, f.region, f.method, f.target
    group = f.group.removesuffix(f", within {f.stratum}") if f.stratum else f.group
    return f.attribute, f.region, f.method, f.target, group, f.reference


def _difference(f: Finding) -> float | None:
    return f.adjusted.estimate if f.adjusted.estimate is not None else f.raw.estimate


def _same_direction(whole: Finding, part: Finding) -> bool:
    """Whether everybody's difference is beyond too, on the same side."""
    if whole.state is not CellState.BEYOND:
        return False
    return bool(part.curve) or (_difference(whole) or 0.0) * (_difference(part) or 0.0) > 0
