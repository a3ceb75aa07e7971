"""Small cells: counts of 1 to ``min_cell`` - 1 images or clusters are neither shown nor derivable from what is shown.

A *cell* is a subgroup (level of an attribute) or a part of it: by step of the flow, by reason of exclusion, by label, by
region measured.  Totals over the whole data set are no cells, and neither is what the model made of people (right or
wrong, low or high heat), whose rates are the audit's subject and are shown where their base is large enough.  The base
of a heat row is printed, always, because a mean without it says little: so how many images one region's base lacks
against another's can be had by subtraction.
The rule is the CMS cell size suppression policy (no cell of 1 to 10; zero is allowed; nor derivable from others).

Hiding a cell is not enough where the others and the total are printed, so cells are hidden together:

levels   a small level, and companions until the hidden ones hold so many that each may be large itself.
steps    a level in which two published counts differ by a small number keeps what its heat rows are based on and
         loses the counts around it; so does a companion, because the column totals are printed.
cells    a level's row for one region, with companions for the same region.
labels   label prevalence, and the figures based on one class, likewise.

These rules hide more than is needed; ``disclosure`` then puts back every count of the flow that gives no small cell away.
Everything here works on finished records, so what is checked is what is printed.
Source: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4 (primary and complementary suppression).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import pandas as pd

from gradaudit.performance import ALL, DIFFERENCE, OVER_ANALYSED
from gradaudit.records import Exclusion, FlowRow, HeatRow, MeanMap, PerformanceRow

UNKNOWN = "(unknown)"
"""Level of the images whose attribute is not given."""

OTHER_LABELS = "(other)"
"""Stands for the labels beyond the most frequent ones, taken together."""

STEPS = ("n_manifest", "n_readable", "n_mask_usable", "n_heat_usable", "n_analysed")
_OF_ONE_CLASS = frozenset({"sensitivity", "specificity", "ppv", "auc", "calibration_slope"})
_WITHHELD = "withheld: the cell is small, or would give a small one away"

Parts = dict[str, Any]
Cell = tuple[str, str, str, str, str]
"""attribute, level, region, method, target"""


@dataclass
class Withheld:
    """What one attribute's tables do not show; each set holds levels, ``cells`` (level, region, method, target)."""

    levels: set[str] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    analysed: set[str] = field(default_factory=set)
    clusters: set[str] = field(default_factory=set)
    cells: set[tuple[str, str, str, str]] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    bases: set[str] = field(default_factory=set)
    prevalence: set[str] = field(default_factory=set)


def is_small(count: int | None, min_cell: int) -> bool:
    """True for 1 to ``min_cell`` - 1."""
    return count is not None and 0 < count < min_cell


def small_levels(sizes: pd.DataFrame, reference: str, min_cell: int) -> set[str]:
    """Levels to be withheld whole: the small ones and their companions.

    sizes : one row per level (index), one column per way of counting its members (images, clusters, at any step).
    A level is small where any of its counts is.  The hidden levels together hold at least ``min_cell`` more than one
    each by every count, so that none of them can be told to be small; if that takes every level, every level goes.
    """
    counts = sizes.astype(int)
    hidden = {str(level) for level in counts.index[((counts > 0) & (counts < min_cell)).any(axis=1)]}
    if not hidden:
        return set()
    present = counts.loc[counts.iloc[:, 0] > 0]
    while not _covered(present, hidden, min_cell):
        companion = _companion({str(k): int(v) for k, v in present.iloc[:, 0].items() if k not in hidden}, reference)
        if companion is None:
            break
        hidden.add(companion)
    return hidden


def _covered(counts: pd.DataFrame, hidden: set[str], min_cell: int) -> bool:
    members = counts.loc[[level for level in counts.index if level in hidden]]
    total = members.sum()
    return len(members) > 1 and all(sum_ == 0 or sum_ >= min_cell + len(members) - 1 for sum_ in total)


def _companion(candidates: Mapping[str, int], reference: str) -> str | None:
    """Which further level is hidden: the unknown, else the largest that is not the reference.

    Hiding the smallest is the usual choice, to lose few; here it would take the very groups an audit is about.
    """
    if not candidates:
        return None
    return max(candidates, key=lambda level: (level == UNKNOWN, level != reference, candidates[level]))


def apply_min_cell(parts: Parts, levels: Mapping[str, set[str]], references: Mapping[str, str], min_cell: int) -> Parts:
    """The same tables without small cells.

    ``suppressed`` marks flow rows of which any count is withheld, and heat and performance rows withheld whole.

    parts : "flow", "exclusions", "heat", "performance", "mean_maps" as tuples of complete records; other keys pass.
    levels : attribute -> levels withheld whole, from ``small_levels``.      references : attribute -> level or "rest".
    """
    if min_cell <= 1:
        return dict(parts)
    attributes = dict.fromkeys(row.attribute for row in parts["flow"] if row.attribute != ALL)
    plans = {name: _plan_of(name, parts, set(levels.get(name, set())), references.get(name, "rest"), min_cell) for name in attributes}
    plans[ALL] = _plan_of_all(parts, min_cell)
    return {
        **parts,
        "flow": tuple(_flow_row(row, plans[row.attribute]) for row in parts["flow"]),
        "exclusions": tuple(_exclusion(row, plans) for row in parts["exclusions"]),
        "heat": tuple(_heat_row(row, plans[row.attribute]) for row in parts["heat"]),
        "performance": _performance(parts["performance"], plans, references, min_cell),
        "mean_maps": tuple(m for m in parts["mean_maps"] if _map_is_shown(m, plans[m.attribute], min_cell)),
    }


def withheld_cells(heat: Sequence[HeatRow], levels: Mapping[str, set[str]], references: Mapping[str, str], min_cell: int) -> set[Cell]:
    """Rows of a complete heat table, those of the whole data set aside, that are to be withheld."""
    if min_cell <= 1:
        return set()
    cells: set[Cell] = set()
    for name in dict.fromkeys(row.attribute for row in heat if row.attribute != ALL):
        rows, hidden = [row for row in heat if row.attribute == name], set(levels.get(name, set()))
        cells |= {(name, *cell) for cell in _withheld_regions(rows, hidden, references.get(name, "rest"), min_cell)}
        cells |= {(name, *_cell_of(row)) for row in rows if row.level in hidden}
    return cells


# ── what to withhold ────────────────────────────────────────────────────────────────────────────────────────────────


def _plan_of_all(parts: Parts, min_cell: int) -> Withheld:
    """The row of the whole data set: withheld where the data set is small itself, or a label or region is that rare."""
    plan = Withheld()
    for row in parts["flow"]:
        if row.attribute == ALL:
            if any(is_small(count, min_cell) for count in (row.n_manifest, row.n_analysed, row.n_clusters)):
                plan.levels.add(ALL)
            if _has_small_label(row, _bases([r for r in parts["heat"] if r.attribute == ALL]).get(ALL, 0), min_cell):
                plan.prevalence.add(ALL)
    plan.labels |= {row.level for row in parts["performance"] if row.attribute == ALL and _is_small_class(row, min_cell)}
    plan.cells |= {_cell_of(row) for row in parts["heat"] if row.attribute == ALL and _is_small_row(row, min_cell)}
    return plan


def _plan_of(name: str, parts: Parts, levels: set[str], reference: str, min_cell: int) -> Withheld:
    flow = {row.level: row for row in parts["flow"] if row.attribute == name}
    heat = [row for row in parts["heat"] if row.attribute == name]
    performance = [row for row in parts["performance"] if row.attribute == name]
    plan = Withheld(levels=levels)
    plan.cells = _withheld_regions(heat, levels, reference, min_cell)
    gaps = {level: _gaps(row, parts, heat, performance, plan, min_cell) for level, row in flow.items() if level not in levels}
    narrowed = {row.level for row in performance if OVER_ANALYSED in row.reason and row.level not in levels}
    plan.steps = {level for level, found in gaps.items() if any(found.values())} | narrowed
    _add_companion(plan.steps, levels, flow)
    plan.analysed = plan.steps if any(found["analysed"] for found in gaps.values()) else set()
    plan.clusters = plan.steps if any(found["clusters"] for found in gaps.values()) else set()
    plan.labels = {row.level for row in performance if row.level not in levels and _is_small_class(row, min_cell)}
    bases = _bases(heat)
    small = {level for level, row in flow.items() if level not in levels and _has_small_label(row, bases.get(level, 0), min_cell)}
    plan.prevalence = small | plan.labels
    _add_companion(plan.prevalence, levels, flow)
    plan.bases = {level for level, found in gaps.items() if found["labelled"]} | plan.prevalence
    _add_companion(plan.bases, levels, flow)
    return plan


def _add_companion(hidden: set[str], levels: set[str], flow: Mapping[str, FlowRow]) -> None:
    """A single hidden row could be had from the total and the others: hide the largest of the rest with it."""
    if len(hidden) == 1 and not levels:
        sizes = {level: row.n_manifest for level, row in flow.items() if level not in hidden and row.n_manifest}
        if sizes:
            hidden.add(max(sizes, key=lambda level: sizes[level]))


def _withheld_regions(heat: list[HeatRow], levels: set[str], reference: str, min_cell: int) -> set[tuple[str, str, str, str]]:
    cells = set()
    for key in dict.fromkeys((row.region, row.method, row.target) for row in heat):
        rows = [row for row in heat if (row.region, row.method, row.target) == key]
        sizes = pd.DataFrame({"images": [row.n_images for row in rows], "clusters": [row.n_clusters for row in rows]}, index=[r.level for r in rows])
        if any(_is_small_row(row, min_cell) for row in rows if row.level not in levels):
            cells |= {(level, *key) for level in _with_companions(sizes, levels, reference, min_cell)}
    return cells


def _with_companions(sizes: pd.DataFrame, levels: set[str], reference: str, min_cell: int) -> set[str]:
    """Small levels of one region; levels that are withheld anyway stand in as companions first."""
    open_ = sizes.loc[[level not in levels for level in sizes.index]].astype(int)
    small = {str(level) for level in open_.index[((open_ > 0) & (open_ < min_cell)).any(axis=1)]}
    present = sizes.loc[sizes["images"] > 0].astype(int)
    hidden = small | {level for level in levels if level in present.index}
    while not _covered(present, hidden, min_cell):
        companion = _companion({str(k): int(v) for k, v in present["images"].items() if k not in hidden}, reference)
        if companion is None:
            return {str(level) for level in sizes.index} - levels  # empty ones too: they would leave all to the others
        hidden.add(companion)
    return hidden - levels


def _gaps(row: FlowRow, parts: Parts, heat: list[HeatRow], performance: list[PerformanceRow], plan: Withheld, min_cell: int) -> dict[str, bool]:
    """Which published counts of one level are a small number apart, so that their difference is a small cell."""
    mine = [r for r in heat if r.level == row.level]
    shown = [r for r in mine if _cell_of(r) not in plan.cells]
    steps = [getattr(row, step) for step in STEPS]
    labelled = [r.n_images for r in performance if r.level == row.level and r.metric == "accuracy"]
    bases = [r.n_images for r in shown]
    excluded = [e.by_level.get(row.attribute, {}).get(row.level) for e in parts["exclusions"]]
    undefined = [_undefined_count(r) for r in mine]
    around = [a - b for a, b in combinations([*steps, *labelled], 2)] + [a - b for a in [*steps, *labelled] for b in bases]
    return {
        "steps": any(is_small(abs(gap), min_cell) for gap in around) or any(is_small(n, min_cell) for n in [*excluded, *undefined]),
        "cells": any(level == row.level for level, *_ in plan.cells),
        "labelled": any(is_small(abs(q - n), min_cell) for q in labelled for n in [*bases, steps[-1]]),
        "analysed": any(is_small(abs(steps[-1] - n), min_cell) for n in bases),
        "clusters": any(is_small(abs((row.n_clusters or 0) - (r.n_clusters or 0)), min_cell) for r in shown),
    }


def _undefined_count(row: HeatRow) -> int:
    """Images with the region in place and no defined heat, from the printed share and base."""
    if not row.undefined_share:
        return 0
    if row.undefined_share == 1:
        return 0  # nothing is printed of such a row but the share itself
    return round((row.n_images or 0) * row.undefined_share / (1 - row.undefined_share))


def _is_small_row(row: HeatRow | PerformanceRow, min_cell: int) -> bool:
    return is_small(row.n_images, min_cell) or is_small(row.n_clusters, min_cell)


def _is_small_class(row: PerformanceRow, min_cell: int) -> bool:
    return row.metric in ("sensitivity", "specificity") and _is_small_row(row, min_cell)


def _has_small_label(row: FlowRow, base: int, min_cell: int) -> bool:
    return any(share is not None and is_small(round(share * base), min_cell) for share in row.label_prevalence.values())


def _bases(heat: list[HeatRow]) -> dict[str, int]:
    """Base of the label prevalence per level: that of the plan's method in the region measured most often."""
    first = [row for row in heat if heat and (row.method, row.target) == (heat[0].method, heat[0].target)]
    totals: dict[str, int] = {}
    for row in first:
        totals[row.region] = totals.get(row.region, 0) + (row.n_images or 0)
    most = max(totals, key=lambda region: totals[region], default="")
    return {row.level: row.n_images or 0 for row in first if row.region == most}


def _cell_of(row: HeatRow) -> tuple[str, str, str, str]:
    return row.level, row.region, row.method, row.target


# ── the records without it ──────────────────────────────────────────────────────────────────────────────────────────


def _flow_row(row: FlowRow, plan: Withheld) -> FlowRow:
    if row.level in plan.levels:
        counts: dict[str, Any] = dict.fromkeys((*STEPS, "n_clusters"))
        return FlowRow(attribute=row.attribute, level=row.level, suppressed=True, **counts)
    change: dict[str, Any] = {}
    if row.level in plan.steps:
        change |= dict.fromkeys(STEPS[:-1])
    if row.level in plan.analysed:
        change["n_analysed"] = None
    if row.level in plan.clusters:
        change["n_clusters"] = None
    if row.level in plan.prevalence:
        change["label_prevalence"] = {}
    regions = {region for level, region, _, _ in plan.cells if level == row.level}
    if regions:
        change["area_share"] = {region: None if region in regions else share for region, share in row.area_share.items()}
    return row.model_copy(update={**change, "suppressed": True}) if change else row


def _exclusion(row: Exclusion, plans: Mapping[str, Withheld]) -> Exclusion:
    by_level = {
        attribute: {level: None if level in plans[attribute].levels | plans[attribute].steps else count for level, count in counts.items()}
        for attribute, counts in row.by_level.items()
    }
    return row.model_copy(update={"by_level": by_level})


def _heat_row(row: HeatRow, plan: Withheld) -> HeatRow:
    if row.level in plan.levels or _cell_of(row) in plan.cells:
        return HeatRow(
            attribute=row.attribute, level=row.level, region=row.region, method=row.method, target=row.target,
            n_images=None, n_clusters=None, suppressed=True,
        )  # fmt: skip
    if row.level in plan.steps and row.undefined_share is not None:
        return row.model_copy(update={"undefined_share": None})
    return row


def _performance(
    rows: tuple[PerformanceRow, ...], plans: Mapping[str, Withheld], references: Mapping[str, str], min_cell: int
) -> tuple[PerformanceRow, ...]:
    """Rows of withheld levels or classes, and rows with a small base, lose their figures; other bases may lose their n."""
    siblings = {_side_of(r) for r in rows if ":" in r.metric and _is_small_row(r, min_cell)}
    shown = []
    for row in rows:
        plan = plans[row.attribute]
        if _figure_is_withheld(row, plan, references.get(row.attribute, "rest"), min_cell):
            shown.append(_withhold(row))
        elif ":" in row.metric:  # right and wrong together are the base of the heat row
            hidden = row.level in plan.prevalence or _side_of(row) in siblings
            shown.append(row.model_copy(update={"n_images": None, "n_clusters": None}) if hidden else row)
        elif row.level in plan.bases:
            rounded: dict[str, Any] = {name: _rounded(getattr(row, name)) for name in ("estimate", "low", "high")}
            rounded["test"] = row.test.model_copy(update={name: _rounded(getattr(row.test, name)) for name in ("p", "p_adjusted")})
            shown.append(row.model_copy(update={**rounded, "n_images": None, "n_clusters": None}))
        else:
            shown.append(row)
    return tuple(shown)


def _side_of(row: PerformanceRow) -> tuple[str, str, str]:
    return row.attribute, row.level, row.metric.partition(":")[2]


def _figure_is_withheld(row: PerformanceRow, plan: Withheld, reference: str, min_cell: int) -> bool:
    metric = row.metric.removesuffix(DIFFERENCE)
    if row.level in plan.levels or _is_small_row(row, min_cell):
        return True
    if row.metric.endswith(DIFFERENCE):  # with one's own figure it gives the reference's away
        return reference in plan.levels or (metric in _OF_ONE_CLASS and bool(plan.labels))
    if ":" in metric:
        return any(level == row.level and region == metric.partition(":")[2] for level, region, _, _ in plan.cells)
    return metric in _OF_ONE_CLASS and row.level in plan.labels


def _withhold(row: PerformanceRow) -> PerformanceRow:
    return PerformanceRow(attribute=row.attribute, level=row.level, metric=row.metric, estimate=None, reason=_WITHHELD, suppressed=True)


def _rounded(value: float | None) -> float | None:
    """Two digits: a share with all its digits gives its base away."""
    return None if value is None else round(value, 2) + 0.0  # no minus zero


def _map_is_shown(row: MeanMap, plan: Withheld, min_cell: int) -> bool:
    small_region = any(level == row.level for level, *_ in plan.cells)
    return row.level not in plan.levels and row.n_images >= min_cell and not small_region
