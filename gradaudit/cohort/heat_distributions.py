"""How heat is distributed by subgroup: over clusters as a table, over the image as mean maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.cohort.population import Array, Cohort, finite_mean, take_cohort, take_cohorts
from gradaudit.number_text import significant
from gradaudit.plan import Plan
from gradaudit.records import Cell, Finding
from gradaudit.result_schema import HeatRow, MeanMap, PerformanceRow
from gradaudit.runs.measurements import Measurements
from gradaudit.stats.effect_sizes import mean_interval
from gradaudit.subgroups.contrast import MIN_PATIENTS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20


# ── heat ──────────────────────────────────────────────────────────────────────────────────────────


def heat_table(
    meas: Measurements, plan: Plan, findings: Sequence[Finding] = ()
) -> tuple[HeatRow, ...]:
    """Distribution of the heat share over clusters (patients), by level, region, method, target.

    Each cluster counts once, with the mean of its images. ``ci_low``, ``ci_high``: Student's t
    interval over cluster means, cut at 0 and 1. ``histogram``: number of clusters in each of
    ``BINS`` bins of [0, 1]. ``undefined_share``: of the readable images with the region, the share
    whose heat map is unusable. ``adjusted_mean``: the mean at equal region size and class, from
    ``findings``; None where there is no finding.
    """
    return with_adjusted_means(heat_rows_of(take_cohorts(meas, plan), plan), findings)


def heat_rows_of(cohorts: Sequence[Cohort], plan: Plan) -> tuple[HeatRow, ...]:
    """``heat_table`` without the adjusted means, for cohorts that were already taken."""
    return tuple(row for cohort in cohorts for row in _heat_rows(cohort, plan))


def with_adjusted_means(
    rows: Sequence[HeatRow], findings: Sequence[Finding]
) -> tuple[HeatRow, ...]:
    """The same rows with the adjusted means that the findings imply."""
    means = adjusted_means(findings)
    found = []
    for row in rows:
        mean = means.get((row.attribute, row.level, row.region, row.method, row.target))
        found.append(row.model_copy(update={"adjusted_mean": mean}))
    return tuple(found)


def adjusted_means(findings: Sequence[Finding]) -> dict[Cell, float]:
    """Mean heat share of each level at the pooled mix of region size, class and covariates.

    In a linear model with an intercept the adjusted means, weighted by cluster counts, average to
    the plain mean M. So if d is a level's difference to all others, its adjusted mean is M + (1 -
    w) d, where w is its share of the clusters. If the differences d are to one reference level, the
    adjusted mean of that level is M - sum of w d. Where all levels of fewer than ``MIN_PATIENTS``
    clusters hold a single cluster together, that cluster is not in the model, and so neither in M
    nor in w, unless its level is withheld.

    Source: Searle, Speed & Milliken 1980, Am. Stat. 34:216 (population marginal means).
    """
    families: dict[Cell, list[Finding]] = {}
    for f in findings:
        if f.code == "GA101" and f.outcome == "heat_share" and f.adjusted_for:
            families.setdefault(
                (f.attribute, f.reference, f.region, f.method, f.target), []
            ).append(f)
    means: dict[Cell, float] = {}
    for (attribute, reference, region, method, target), members in families.items():
        found = _means_from_rest(members) if reference == "rest" else _means_from_level(members)
        means |= {(attribute, level, region, method, target): mean for level, mean in found.items()}
    return means


def _means_from_rest(members: Sequence[Finding]) -> dict[str, float]:
    found = {}
    small = [f for f in members if 0 < f.n_clusters < MIN_PATIENTS]
    alone = small[0] if sum(f.n_clusters for f in small) == 1 else None
    for f in filter(_is_complete, members):
        n, others = f.n_clusters, f.n_clusters_reference
        total = n * (f.mean.estimate or 0.0) + others * (f.mean_reference.estimate or 0.0)
        if alone is not None:
            total, others = total - (alone.mean.estimate or 0.0), others - 1
        found[f.group] = (total + (f.adjusted.estimate or 0.0) * others) / (n + others)
    return found


def _means_from_level(members: Sequence[Finding]) -> dict[str, float]:
    if not all(_is_complete(f) for f in members):
        return {}  # M is a mean over all levels, so without one of them it is unknown
    first = members[0]
    total = first.n_clusters_reference + sum(f.n_clusters for f in members)
    sums = [f.n_clusters * (f.mean.estimate or 0.0) for f in members]
    plain = (
        first.n_clusters_reference * (first.mean_reference.estimate or 0.0) + sum(sums)
    ) / total
    own = plain - sum(f.n_clusters * (f.adjusted.estimate or 0.0) for f in members) / total
    return {first.reference: own, **{f.group: own + (f.adjusted.estimate or 0.0) for f in members}}


def _is_complete(f: Finding) -> bool:
    known = None not in (f.adjusted.estimate, f.mean.estimate, f.mean_reference.estimate)
    return known and f.n_clusters > 0 and f.n_clusters_reference > 0


def _heat_rows(cohort: Cohort, plan: Plan) -> list[HeatRow]:
    rows = []
    safe = [_safe_metrics(cohort, r, plan.privacy.min_cell) for r in range(len(cohort.regions))]
    for attribute, level, members in cohort.cells():
        for r, region in enumerate(cohort.regions):
            used = members & cohort.defined[:, r]
            others = _other_means(cohort, used, r, safe[r])
            means = _cluster_means(cohort.share[used, r], cohort.cluster[used])
            eligible = members & cohort.readable & cohort.usable[:, r]
            rows.append(
                HeatRow(
                    attribute=attribute,
                    level=level,
                    region=region,
                    method=cohort.method,
                    target=cohort.target,
                    n_images=int(used.sum()),
                    n_clusters=len(means),
                    mean_lift=finite_mean(
                        _cluster_means(cohort.lift[used, r], cohort.cluster[used])
                    ),
                    pointing_game=finite_mean(
                        _cluster_means(cohort.hit[used, r], cohort.cluster[used])
                    ),
                    others=others,
                    undefined_share=float((eligible & ~cohort.heat_ok).sum() / eligible.sum())
                    if eligible.any()
                    else None,
                    **_distribution(means, plan.analysis.alpha),
                )
            )
    return rows


def _other_means(
    cohort: Cohort, used: Array, r: int, safe: frozenset[str]
) -> dict[str, float | None]:
    """Metric -> its mean over clusters in region number ``r``; None where it is not ``safe``."""
    means: dict[str, float | None] = {}
    for name, values in cohort.others.items():
        own = _cluster_means(values[used, r], cohort.cluster[used])
        means[name] = finite_mean(own) if name in safe else None
    return means


def _safe_metrics(cohort: Cohort, r: int, min_cell: int) -> frozenset[str]:
    """Metrics whose means in region number ``r`` stand for no small cell.

    A metric can be undefined where the heat share is defined.  A group that is large enough could
    then show the mean of one image, or give it away as a difference to the whole: where one group
    has the metric in some, but fewer than ``min_cell`` images or clusters, no group shows it.
    """
    return frozenset(
        name
        for name, values in cohort.others.items()
        if not _has_small_base(cohort, values, r, min_cell)
    )


def _has_small_base(cohort: Cohort, values: Array, r: int, min_cell: int) -> bool:
    def size(images: Array) -> int:
        return min(int(images.sum()), len(np.unique(cohort.cluster[images])))

    finite = np.isfinite(values[:, r])
    for _, _, members in cohort.cells():
        used = members & cohort.defined[:, r]
        if size(used) >= min_cell and 0 < size(used & finite) < min_cell:
            return True
    return False


def _distribution(means: Array, alpha: float) -> dict[str, Any]:
    if len(means) == 0:
        return {}
    mean, low, high = mean_interval(means, alpha)
    return {
        "mean": mean,
        "sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "ci_low": None if np.isnan(low) else max(0.0, low),
        "ci_high": None if np.isnan(high) else min(1.0, high),
        "quantiles": tuple(float(q) for q in np.quantile(means, QUANTILES)),
        "histogram": tuple(
            int(c) for c in np.histogram(np.clip(means, 0, 1), bins=BINS, range=(0, 1))[0]
        ),
    }


def _cluster_means(values: Array, cluster: Array) -> Array:
    """Per cluster, the mean of its finite values; clusters without one are left out."""
    finite = np.isfinite(values)
    own = cluster[finite]
    size = np.bincount(own)
    there = size > 0
    means: Array = np.bincount(own, weights=values[finite])[there] / size[there]
    return means


def heat_by_correctness(meas: Measurements, plan: Plan) -> tuple[PerformanceRow, ...]:
    """Mean heat share among right and among wrong predictions, per level and region.

    The metrics are called ``heat_right:REGION`` and ``heat_wrong:REGION``; they are over cluster
    means, with Student's t interval. Regions with a role, or all regions where none has one.
    """
    return correctness_rows(take_cohort(meas, plan), plan)


def correctness_rows(cohort: Cohort, plan: Plan) -> tuple[PerformanceRow, ...]:
    """``heat_by_correctness`` for a cohort that was already taken."""
    correct = cohort.meas.images["correct"].astype(object)
    known = correct.notna().to_numpy(dtype=bool)
    right = correct.where(correct.notna(), False).to_numpy(dtype=bool)
    shown = [
        r for r, name in enumerate(cohort.regions) if plan.region_role(name) != "neutral"
    ] or list(range(len(cohort.regions)))
    rows = []
    for attribute, level, members in cohort.cells():
        for r in shown:
            for metric, side in (("heat_right", right), ("heat_wrong", known & ~right)):
                used = members & cohort.defined[:, r] & side
                means = _cluster_means(cohort.share[used, r], cohort.cluster[used])
                facts = _distribution(means, plan.analysis.alpha)
                rows.append(
                    PerformanceRow(
                        attribute=attribute,
                        level=level,
                        metric=f"{metric}:{cohort.regions[r]}",
                        estimate=facts.get("mean"),
                        low=facts.get("ci_low"),
                        high=facts.get("ci_high"),
                        n_images=int(used.sum()),
                        n_clusters=len(means),
                        reason=""
                        if len(means) > 1
                        else "no such image"
                        if len(means) == 0
                        else "one cluster only: no interval",
                    )
                )
    return tuple(rows)


# ── mean maps ─────────────────────────────────────────────────────────────────────────────────────


def mean_maps(meas: Measurements, plan: Plan) -> tuple[MeanMap, ...]:
    """Mean heat map per level (each map has mass 1), and mean coverage of each region.

    Both are over the images with a heat share in the region that most images have one in, so that
    ``n_images`` is a number that the heat table shows too. Maps on another grid than the most
    common are left out. Empty if no maps were kept.
    """
    return map_rows(take_cohort(meas, plan))


def map_rows(cohort: Cohort) -> tuple[MeanMap, ...]:
    """``mean_maps`` for a cohort that was already taken."""
    maps = cohort.meas.maps
    if maps is None or maps.empty or not len(cohort.regions):
        return ()
    index = pd.Index(cohort.meas.images["image_id"].astype(str))
    heat, rows = _unit_heat(maps, cohort, index)
    covers = {
        name: _stack(maps.loc[(maps["kind"] == "region") & (maps["name"] == name)], index, np.uint8)
        for name in cohort.regions
    }
    found = []
    for attribute, level, members in cohort.cells():
        inside = members[rows]
        if inside.any():
            wanted = np.zeros(len(index), dtype=bool)
            wanted[rows[inside]] = True
            found.append(
                MeanMap(
                    attribute=attribute,
                    level=level,
                    n_images=int(inside.sum()),
                    heat=_grid(heat[inside].mean(axis=0)),
                    regions=_mean_coverage(covers, wanted),
                )
            )
    return tuple(found)


def _unit_heat(maps: pd.DataFrame, cohort: Cohort, index: pd.Index[Any]) -> tuple[Array, Array]:
    """Heat maps (k, h, w), each of mass 1, of the anchored images, and their rows in ``index``."""
    names = [cohort.target, _first_name(maps, cohort.target)]
    chosen = maps.loc[(maps["kind"] == "heat") & maps["name"].isin(names)]
    heat, rows = _stack(chosen, index, np.float32)
    heat = np.where(np.isfinite(heat), np.maximum(heat, 0.0), 0.0)
    mass = heat.sum(axis=(1, 2))
    kept = (mass > 0) & cohort.anchored[rows]
    return heat[kept] / mass[kept][:, None, None], rows[kept]


def _mean_coverage(
    covers: dict[str, tuple[Array, Array]], wanted: Array
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Mean coverage, 0 to 1, of each region over the wanted images that have a mask of it."""
    return {
        name: _grid(cover[wanted[of]].mean(axis=0) / 255)
        for name, (cover, of) in covers.items()
        if wanted[of].any()
    }


def _first_name(maps: pd.DataFrame, target: str) -> str:
    """The name that heat maps are stored under: the target's, or the only one there is."""
    names = [str(name) for name in maps.loc[maps["kind"] == "heat", "name"].unique()]
    return target if target in names or not names else names[0]


def _stack(rows: pd.DataFrame, index: pd.Index[Any], kind: Any) -> tuple[Array, Array]:
    """Maps on the most common grid as (k, h, w) floats, and their rows in ``index``."""
    known = index.get_indexer(pd.Index(rows["image_id"].astype(str)))
    rows, known = rows.loc[known >= 0], known[known >= 0]
    if rows.empty:
        return np.empty((0, 1, 1)), np.empty(0, dtype=int)
    sizes = rows[["height", "width"]].to_numpy(dtype=int)
    grids, of, count = np.unique(sizes, axis=0, return_inverse=True, return_counts=True)
    commonest = int(np.argmax(count))
    same = of.reshape(-1) == commonest
    flat = np.frombuffer(b"".join(rows.loc[same, "values"]), dtype=kind)
    return flat.reshape(-1, *(int(side) for side in grids[commonest])).astype(float), known[same]


def _grid(values: Array) -> tuple[tuple[float, ...], ...]:
    """A map as tuples of four significant digits.

    The picture is the same, and the result stays small.
    """
    return tuple(tuple(significant(v, 4) for v in line) for line in values)
