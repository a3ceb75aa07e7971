"""Small cells: counts of 1 to ``min_cell`` - 1 images or clusters are not shown, nor computable.

A *cell* is a subgroup (level of an attribute) or a part of it: by step of the flow, by reason of
exclusion, by label, by region measured. Totals over the whole data set are not cells. Neither is
what the model made of people (right or wrong, low or high heat): those rates are the subject of the
audit and are shown where their base is large enough. The base of a heat row is always printed,
because a mean without it says little; so a reader can subtract the base of one region from that of
another. The rule is the CMS cell size suppression policy (no cell of 1 to 10; zero is allowed; not
derivable from others).

Hiding a cell is not enough where the others and the total are printed, so cells are hidden
together:

    levels   a small level, and companions until the hidden ones hold so many images that each of
             them may be large
    steps    a level in which two published counts differ by a small number keeps the counts that
             its heat rows are based on and loses the counts around them; so does a companion,
             because the column totals are printed
    cells    a level's row for one region, with companions for the same region
    labels   label prevalence, and the figures based on one class, in the same way

These rules hide more than is needed; ``attacker`` then puts back every count of the flow that
discloses no small cell. Everything here works on finished records, so what is checked is what is
printed.

Source: Hundepool et al. 2012, Statistical Disclosure Control, ch. 4 (primary and complementary
suppression).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gradaudit.disclosure.withheld import (
    Withheld,
    cell_of,
    is_small_row,
    withheld_of,
    withheld_of_all,
    withheld_regions,
)
from gradaudit.records import ALL, DIFFERENCE, STEPS, Cell
from gradaudit.result_schema import (
    CalibrationCurve,
    Exclusion,
    FlowRow,
    HeatRow,
    MeanMap,
    PerformanceRow,
    SizeCurve,
    Tables,
)

_OF_ONE_CLASS = frozenset({"sensitivity", "specificity", "ppv", "auc", "calibration_slope"})
_WITHHELD = "withheld: the cell is small, or would give a small one away"
_NO_COUNTS = {"n_images": None, "n_clusters": None}


def apply_min_cell(
    tables: Tables, levels: Mapping[str, set[str]], references: Mapping[str, str], min_cell: int
) -> Tables:
    """The same tables without small cells.

    tables : flow, exclusions, heat, performance, mean maps and curves, complete; others are passed on
    levels : attribute -> levels of which nothing is shown, from ``small_levels``
    references : attribute -> level or "rest"
    returns : tables whose ``suppressed`` marks flow rows of which any count is withheld, and heat
        and performance rows that are withheld completely
    """
    if min_cell <= 1:
        return tables
    plans = {ALL: withheld_of_all(tables, min_cell)}
    for name in dict.fromkeys(row.attribute for row in tables.flow if row.attribute != ALL):
        hidden = set(levels.get(name, set()))
        plans[name] = withheld_of(name, tables, hidden, references.get(name, "rest"), min_cell)
    maps = (m for m in tables.mean_maps if _map_is_shown(m, plans[m.attribute], min_cell))
    heat = tuple(_heat_row(row, plans[row.attribute]) for row in tables.heat)
    performance = _performance(tables.performance, plans, references, min_cell)
    return replace(
        tables,
        flow=tuple(_flow_row(row, plans[row.attribute]) for row in tables.flow),
        exclusions=tuple(_exclusion(row, plans) for row in tables.exclusions),
        heat=heat,
        performance=performance,
        mean_maps=tuple(maps),
        calibration=tuple(_calibration_shown(tables.calibration, performance)),
        size_curves=tuple(_sizes_shown(tables.size_curves, heat)),
    )


def withheld_cells(
    heat: Sequence[HeatRow],
    levels: Mapping[str, set[str]],
    references: Mapping[str, str],
    min_cell: int,
) -> set[Cell]:
    """Rows of a complete heat table that are to be withheld, except those of the whole data set."""
    if min_cell <= 1:
        return set()
    cells: set[Cell] = set()
    for name in dict.fromkeys(row.attribute for row in heat if row.attribute != ALL):
        rows, hidden = [row for row in heat if row.attribute == name], set(levels.get(name, set()))
        cells |= {
            (name, *cell)
            for cell in withheld_regions(rows, hidden, references.get(name, "rest"), min_cell)
        }
        cells |= {(name, *cell_of(row)) for row in rows if row.level in hidden}
    return cells


# ── the records without it ────────────────────────────────────────────────────────────────────────


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
        change["area_share"] = {
            region: None if region in regions else share for region, share in row.area_share.items()
        }
    return row.model_copy(update={**change, "suppressed": True}) if change else row


def _exclusion(row: Exclusion, plans: Mapping[str, Withheld]) -> Exclusion:
    by_level = {
        attribute: {
            level: None if level in plans[attribute].levels | plans[attribute].steps else count
            for level, count in counts.items()
        }
        for attribute, counts in row.by_level.items()
    }
    return row.model_copy(update={"by_level": by_level})


def _heat_row(row: HeatRow, plan: Withheld) -> HeatRow:
    if row.level in plan.levels or cell_of(row) in plan.cells:
        return HeatRow(
            attribute=row.attribute,
            level=row.level,
            region=row.region,
            method=row.method,
            target=row.target,
            n_images=None,
            n_clusters=None,
            suppressed=True,
        )
    if row.level in plan.steps and row.undefined_share is not None:
        return row.model_copy(update={"undefined_share": None})
    return row


def _performance(
    rows: tuple[PerformanceRow, ...],
    plans: Mapping[str, Withheld],
    references: Mapping[str, str],
    min_cell: int,
) -> tuple[PerformanceRow, ...]:
    """Remove figures of withheld levels, classes and small bases; other rows may lose their n."""
    siblings = {_side_of(r) for r in rows if ":" in r.metric and is_small_row(r, min_cell)}
    shown = []
    for row in rows:
        plan = plans[row.attribute]
        if _figure_is_withheld(row, plan, references.get(row.attribute, "rest"), min_cell):
            shown.append(_withhold(row))
        elif ":" in row.metric:  # right and wrong together are the base of the heat row
            hidden = row.level in plan.prevalence or _side_of(row) in siblings
            shown.append(row.model_copy(update=_NO_COUNTS) if hidden else row)
        else:
            shown.append(_without_base(row) if row.level in plan.bases else row)
    return tuple(shown)


def _without_base(row: PerformanceRow) -> PerformanceRow:
    """The figure rounded and without its n, so that the base cannot be computed from it."""
    figures = {name: _rounded(getattr(row, name)) for name in ("estimate", "low", "high")}
    p_values = {name: _rounded(getattr(row.test, name)) for name in ("p", "p_adjusted")}
    test = row.test.model_copy(update=p_values)
    return row.model_copy(update={**figures, "test": test, **_NO_COUNTS})


def _side_of(row: PerformanceRow) -> tuple[str, str, str]:
    return row.attribute, row.level, row.metric.partition(":")[2]


def _figure_is_withheld(row: PerformanceRow, plan: Withheld, reference: str, min_cell: int) -> bool:
    metric = row.metric.removesuffix(DIFFERENCE)
    if row.level in plan.levels or is_small_row(row, min_cell):
        return True
    if row.metric.endswith(DIFFERENCE):  # with the level's own figure it discloses the reference's
        return reference in plan.levels or (metric in _OF_ONE_CLASS and bool(plan.labels))
    if ":" in metric:
        return any(
            level == row.level and region == metric.partition(":")[2]
            for level, region, _, _ in plan.cells
        )
    return metric in _OF_ONE_CLASS and row.level in plan.labels


def _withhold(row: PerformanceRow) -> PerformanceRow:
    return PerformanceRow(
        attribute=row.attribute,
        level=row.level,
        metric=row.metric,
        estimate=None,
        reason=_WITHHELD,
        suppressed=True,
    )


def _rounded(value: float | None) -> float | None:
    """Two digits, because a share with all its digits tells its base."""
    return None if value is None else round(value, 2) + 0.0  # no minus zero


def _calibration_shown(
    curves: Sequence[CalibrationCurve], performance: Sequence[PerformanceRow]
) -> Iterator[CalibrationCurve]:
    """Curves of levels whose accuracy is shown with its number of images, which their bins add up
    to.
    """
    counted = {
        (row.attribute, row.level): row.n_images for row in performance if row.metric == "accuracy"
    }
    for curve in curves:
        if counted.get((curve.attribute, curve.level)) is not None:
            yield curve


def _sizes_shown(curves: Sequence[SizeCurve], heat: Sequence[HeatRow]) -> Iterator[SizeCurve]:
    """Curves of levels whose heat row is shown with its number of clusters, which their bins add up
    to.
    """
    own = {(row.method, row.target) for row in heat[:1]}
    shown = {
        (row.attribute, row.level, row.region)
        for row in heat
        if (row.method, row.target) in own and row.n_clusters is not None
    }
    for curve in curves:
        if (curve.attribute, curve.level, curve.region) in shown:
            yield curve


def _map_is_shown(row: MeanMap, plan: Withheld, min_cell: int) -> bool:
    small_region = any(level == row.level for level, *_ in plan.cells)
    return row.level not in plan.levels and row.n_images >= min_cell and not small_region
