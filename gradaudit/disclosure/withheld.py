"""Which levels, steps, cells and labels of one attribute are withheld.

Complete tables come in, one ``Withheld`` per attribute goes out. ``suppression`` explains the rules
and removes what is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product

import pandas as pd

from gradaudit.disclosure.small_cells import is_small, levels_with_companions
from gradaudit.records import ALL, OVER_ANALYSED, STEPS
from gradaudit.result_schema import FlowRow, HeatRow, PerformanceRow, Tables


@dataclass
class Withheld:
    """What the tables of one attribute do not show.

    Each set holds levels, except ``cells``: (level, region, method, target).
    """

    levels: set[str] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    analysed: set[str] = field(default_factory=set)
    clusters: set[str] = field(default_factory=set)
    cells: set[tuple[str, str, str, str]] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    bases: set[str] = field(default_factory=set)
    prevalence: set[str] = field(default_factory=set)


# ── the whole data set ────────────────────────────────────────────────────────────────────────────


def withheld_of_all(tables: Tables, min_cell: int) -> Withheld:
    """The row of the whole data set: withheld where it, one of its labels or a region is small."""
    plan = Withheld()
    of_all = _Rows.of(ALL, tables)
    base = _bases(of_all.heat).get(ALL, 0)
    for row in of_all.flow.values():
        if any(is_small(n, min_cell) for n in (row.n_manifest, row.n_analysed, row.n_clusters)):
            plan.levels.add(ALL)
        if _has_small_label(row, base, min_cell):
            plan.prevalence.add(ALL)
    plan.labels = {row.level for row in of_all.performance if _is_small_class(row, min_cell)}
    plan.cells = {cell_of(row) for row in of_all.heat if is_small_row(row, min_cell)}
    return plan


# ── one attribute ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Rows:
    """The rows of one attribute; ``flow`` by level."""

    flow: dict[str, FlowRow]
    heat: list[HeatRow]
    performance: list[PerformanceRow]
    excluded: list[Mapping[str, int | None]]

    @classmethod
    def of(cls, name: str, tables: Tables) -> _Rows:
        return cls(
            flow={row.level: row for row in tables.flow if row.attribute == name},
            heat=[row for row in tables.heat if row.attribute == name],
            performance=[row for row in tables.performance if row.attribute == name],
            excluded=[e.by_level.get(name, {}) for e in tables.exclusions],
        )


def withheld_of(
    name: str, tables: Tables, levels: set[str], reference: str, min_cell: int
) -> Withheld:
    """What the tables of attribute ``name`` do not show; of ``levels`` nothing is shown."""
    rows = _Rows.of(name, tables)
    plan = Withheld(levels=levels)
    plan.cells = withheld_regions(rows.heat, levels, reference, min_cell)
    shown = [row for level, row in rows.flow.items() if level not in levels]
    gaps = {row.level: _Gaps.of(row, rows, plan, min_cell) for row in shown}
    _withhold_steps(plan, rows, gaps)
    _withhold_labels(plan, rows, shown, min_cell)
    plan.bases = {level for level, found in gaps.items() if found.labeled} | plan.prevalence
    _add_companion(plan.bases, levels, rows.flow)
    return plan


def _withhold_steps(plan: Withheld, rows: _Rows, gaps: Mapping[str, _Gaps]) -> None:
    narrowed = {
        row.level
        for row in rows.performance
        if OVER_ANALYSED in row.reason and row.level not in plan.levels
    }
    plan.steps = {level for level, found in gaps.items() if found.any()} | narrowed
    _add_companion(plan.steps, plan.levels, rows.flow)
    plan.analysed = plan.steps if any(found.analysed for found in gaps.values()) else set()
    plan.clusters = plan.steps if any(found.clusters for found in gaps.values()) else set()


def _withhold_labels(plan: Withheld, rows: _Rows, shown: list[FlowRow], min_cell: int) -> None:
    plan.labels = {
        row.level
        for row in rows.performance
        if row.level not in plan.levels and _is_small_class(row, min_cell)
    }
    bases = _bases(rows.heat)
    small = {row.level for row in shown if _has_small_label(row, bases.get(row.level, 0), min_cell)}
    plan.prevalence = small | plan.labels
    _add_companion(plan.prevalence, plan.levels, rows.flow)


def _add_companion(hidden: set[str], levels: set[str], flow: Mapping[str, FlowRow]) -> None:
    """Hide the largest other row too, because one hidden row is the total minus the others."""
    if len(hidden) == 1 and not levels:
        sizes = {
            level: row.n_manifest
            for level, row in flow.items()
            if level not in hidden and row.n_manifest
        }
        if sizes:
            hidden.add(max(sizes, key=lambda level: sizes[level]))


def withheld_regions(
    heat: list[HeatRow], levels: set[str], reference: str, min_cell: int
) -> set[tuple[str, str, str, str]]:
    """Cells (level, region, method, target) that are small, or hidden to protect a small one."""
    cells = set()
    for key in dict.fromkeys(cell_of(row)[1:] for row in heat):
        rows = [row for row in heat if cell_of(row)[1:] == key]
        if any(is_small_row(row, min_cell) for row in rows if row.level not in levels):
            sizes = pd.DataFrame(
                {
                    "images": [row.n_images for row in rows],
                    "clusters": [row.n_clusters for row in rows],
                },
                index=[row.level for row in rows],
            )
            found = levels_with_companions(sizes, levels, reference, min_cell)
            cells |= {(level, *key) for level in found}
    return cells


@dataclass(frozen=True)
class _Gaps:
    """Which published counts of one level differ by a small number, which is a small cell itself.

    steps : steps of the flow, images with a label, bases of the heat rows, or excluded images
    cells : a heat row of the level is withheld
    labeled : images with a label, and a base
    analysed : analyzed images, and a base
    clusters : clusters analyzed, and those of a heat row
    """

    steps: bool
    cells: bool
    labeled: bool
    analysed: bool
    clusters: bool

    def any(self) -> bool:
        return self.steps or self.cells or self.labeled or self.analysed or self.clusters

    @classmethod
    def of(cls, row: FlowRow, rows: _Rows, plan: Withheld, min_cell: int) -> _Gaps:
        mine = [r for r in rows.heat if r.level == row.level]
        shown = [r for r in mine if cell_of(r) not in plan.cells]
        bases = [r.n_images or 0 for r in shown]
        steps = [getattr(row, step) for step in STEPS]
        labeled = _labeled(rows, row.level)
        counts = [*steps, *labeled]
        around = [*combinations(counts, 2), *product(counts, bases)]
        lost = [
            *(counted.get(row.level) for counted in rows.excluded),
            *map(_undefined_count, mine),
        ]
        clusters = [(row.n_clusters or 0, r.n_clusters or 0) for r in shown]
        return cls(
            steps=_are_near(around, min_cell) or any(is_small(n, min_cell) for n in lost),
            cells=any(level == row.level for level, *_ in plan.cells),
            labeled=_are_near(product(labeled, [*bases, steps[-1]]), min_cell),
            analysed=_are_near(product(steps[-1:], bases), min_cell),
            clusters=_are_near(clusters, min_cell),
        )


def _labeled(rows: _Rows, level: str) -> list[int]:
    """Images of a level with a label and a prediction, as its accuracy counts them."""
    return [
        row.n_images or 0
        for row in rows.performance
        if row.level == level and row.metric == "accuracy"
    ]


def _are_near(pairs: Iterable[tuple[int, int]], min_cell: int) -> bool:
    """Whether the two counts of any pair differ by a small number."""
    return any(is_small(abs(a - b), min_cell) for a, b in pairs)


def _undefined_count(row: HeatRow) -> int:
    """Images with the region but without defined heat, computed from the printed share and base."""
    if not row.undefined_share:
        return 0
    if row.undefined_share == 1:
        return 0  # such a row prints nothing but the share itself
    return round((row.n_images or 0) * row.undefined_share / (1 - row.undefined_share))


def is_small_row(row: HeatRow | PerformanceRow, min_cell: int) -> bool:
    """Whether a row's images or clusters are a small count."""
    return is_small(row.n_images, min_cell) or is_small(row.n_clusters, min_cell)


def _is_small_class(row: PerformanceRow, min_cell: int) -> bool:
    return row.metric in ("sensitivity", "specificity") and is_small_row(row, min_cell)


def _has_small_label(row: FlowRow, base: int, min_cell: int) -> bool:
    return any(
        share is not None and is_small(round(share * base), min_cell)
        for share in row.label_prevalence.values()
    )


def _bases(heat: list[HeatRow]) -> dict[str, int]:
    """Base of the label prevalence per level: images in the region with the most of them."""
    first = [
        row for row in heat if heat and (row.method, row.target) == (heat[0].method, heat[0].target)
    ]
    totals: dict[str, int] = {}
    for row in first:
        totals[row.region] = totals.get(row.region, 0) + (row.n_images or 0)
    most = max(totals, key=lambda region: totals[region], default="")
    return {row.level: row.n_images or 0 for row in first if row.region == most}


def cell_of(row: HeatRow) -> tuple[str, str, str, str]:
    """The row's cell: (level, region, method, target)."""
    return row.level, row.region, row.method, row.target
