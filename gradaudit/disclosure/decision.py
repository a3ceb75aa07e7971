"""Which levels and cells of this data set are not shown anywhere, decided once per analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import Array, Cohort, take_cohort, take_cohorts
from gradaudit.disclosure.small_cells import is_small, small_levels
from gradaudit.disclosure.suppression import withheld_cells
from gradaudit.plan import Plan
from gradaudit.records import Cell
from gradaudit.result_schema import HeatRow
from gradaudit.runs.measurements import Measurements


@dataclass(frozen=True)
class Suppression:
    """What is withheld for this data set; findings, tables and gallery use the same decision.

    levels : attribute -> levels of which nothing is shown
    cells : heat rows that are withheld
    references : attribute -> level or "rest"
    min_cell : the smallest count that is shown
    """

    levels: dict[str, set[str]]
    cells: set[Cell]
    references: dict[str, str]
    min_cell: int


def decide(cohorts: Sequence[Cohort], heat: Sequence[HeatRow], plan: Plan) -> Suppression:
    """Decide what is withheld, from the cohorts and their complete heat table."""
    levels = levels_suppressed_in(cohorts[0], plan)
    references = {name: reference_of(name, plan) for name in cohorts[0].groups}
    smallest = plan.privacy.min_cell
    cells = withheld_cells(heat, levels, references, smallest)
    return Suppression(levels, cells, references, smallest)


# ── levels ───────────────────────────────────────────────────────────────────────────────────────


def suppressed_levels(meas: Measurements, plan: Plan) -> dict[str, set[str]]:
    """Attribute -> levels of which nothing is shown: small ones, and those hidden with them.

    Without the latter the small ones could be computed. Attributes without such a level are left
    out. Levels are those displayed (``level_groups``), "(unknown)" included.
    """
    return levels_suppressed_in(take_cohort(meas, plan), plan)


def levels_suppressed_in(cohort: Cohort, plan: Plan) -> dict[str, set[str]]:
    """``suppressed_levels`` for a cohort that was already taken."""
    found = {}
    for name, levels in cohort.groups.items():
        codes, analysed = levels.cat.codes.to_numpy(), cohort.analysed
        count = len(levels.cat.categories)
        sizes = pd.DataFrame(
            {
                "images": np.bincount(codes, minlength=count),
                "analysed": np.bincount(codes[analysed], minlength=count),
                "clusters": _distinct_by(codes, cohort.cluster, count),
                "analysed_clusters": _distinct_by(codes[analysed], cohort.cluster[analysed], count),
            },
            index=[str(level) for level in levels.cat.categories],
        )
        hidden = small_levels(sizes, reference_of(name, plan), plan.privacy.min_cell)
        if hidden:
            found[name] = hidden
    return found


def narrowed_levels(cohort: Cohort, plan: Plan, predicted: Array) -> dict[tuple[str, str], Array]:
    """Levels whose performance is computed on fewer images, so that no small count is disclosed.

    The number of images with a label is printed with a level's performance, and the number of
    images with a heat share is printed with its heat. Where they differ by a small number, the
    performance is computed on the cohort's ``anchored`` images only, so that both are equal. One
    such level is joined by another, because the total over the levels is printed too.

    predicted : rows of images with a label and a prediction
    returns : (attribute, level) -> the images to use, (n,) bool
    """
    labelled = np.isin(np.arange(len(cohort.readable)), predicted)
    found: dict[tuple[str, str], Array] = {}
    for name in cohort.groups:
        cells = {
            level: members for attribute, level, members in cohort.cells() if attribute == name
        }
        gaps = {level: _gaps_to(members, labelled, cohort) for level, members in cells.items()}
        close = [
            level
            for level, gap in gaps.items()
            if any(is_small(g, plan.privacy.min_cell) for g in gap)
        ]
        if len(close) == 1:
            others = [
                level for level in cells if level not in close and (cells[level] & labelled).any()
            ]
            close += sorted(others, key=lambda level: int(cells[level].sum()))[-1:]
        found |= {(name, level): cells[level] & cohort.anchored for level in close}
    return found


def _gaps_to(members: Array, labelled: Array, cohort: Cohort) -> list[int]:
    """Differences between the number of labeled images and every other base that is printed."""
    printed = [members & cohort.defined[:, r] for r in range(len(cohort.regions))]
    printed += [members & cohort.analysed, members & cohort.anchored & labelled]
    return [abs(int((members & labelled).sum()) - int(base.sum())) for base in printed]


def suppressed_cells(meas: Measurements, plan: Plan) -> set[Cell]:
    """(attribute, level, region, method, target) of every heat row that is withheld."""
    cohorts = take_cohorts(meas, plan)
    return decide(cohorts, heat_rows_of(cohorts, plan), plan).cells


def _distinct_by(codes: Array, cluster: Array, count: int) -> Array:
    if len(codes) == 0:
        return np.zeros(count, dtype=int)
    pairs = np.unique(codes.astype(np.int64) * (int(cluster.max()) + 1) + cluster)
    return np.bincount(pairs // (int(cluster.max()) + 1), minlength=count)


def reference_of(name: str, plan: Plan) -> str:
    """The plan's reference for an attribute: a level or "rest"."""
    return plan.subgroups[name].reference if name in plan.subgroups else "rest"
