"""What was measured on whom: the tables by subgroup that a reader needs before, and beside, any comparison.

Counts through every step, exclusions with their reasons, the distribution of heat, mean maps, model performance, checks
of the data, and the limits that this data sets.  Nothing here tests a hypothesis.  ``describe`` returns all of it with
small cells withheld; the single tables are complete and are for the analyst's eyes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradaudit.config import Plan
from gradaudit.limits import data_checks, limits_found
from gradaudit.performance import ALL, performance_table, predictions
from gradaudit.privacy import UNKNOWN, Cell, Parts, apply_min_cell, is_small, small_levels, withheld_cells
from gradaudit.records import (
    REASONS,
    AttributeFacts,
    Exclusion,
    Finding,
    FlowRow,
    HeatRow,
    MeanMap,
    Measurements,
    PerformanceRow,
    RegionFacts,
)  # fmt: skip
from gradaudit.stats import mean_interval
from gradaudit.subgroups import attribute_kind, level_text, sort_levels

Array = npt.NDArray[Any]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20
LABELS_SHOWN = 20
EXAMPLES = 3
_ABSENT = frozenset({"not_annotated", "empty_mask", "empty_after_crop", "unreadable_mask", "missing_mask", "mask_size"})
_REASON_OF_HEAT = {"no_positive_evidence": "zero_heat", "flat": "flat", "non_finite": "non_finite", "not_measured": "non_finite"}


# ── attributes and levels ───────────────────────────────────────────────────────────────────────────────────────────


def attribute_facts(meas: Measurements, plan: Plan) -> tuple[AttributeFacts, ...]:
    """Kind and levels of every ``subgroup.*`` column, in the table's order.

    Kinds as in ``subgroups.attribute_kind``.  Levels: the plan's order, else numbers by size and text by alphabet; of a
    continuous attribute, ranges between quartiles.
    """
    return _attribute_facts(meas, plan, level_groups(meas, plan))


def _attribute_facts(meas: Measurements, plan: Plan, groups: Mapping[str, pd.Series[Any]]) -> tuple[AttributeFacts, ...]:
    facts = []
    for name, levels in groups.items():
        declared = plan.subgroups.get(name)
        known = tuple(str(level) for level in levels.cat.categories if level != UNKNOWN)
        facts.append(
            AttributeFacts(
                name=name,
                kind=_kind(meas.images[f"subgroup.{name}"], name, plan),
                levels=known,
                reference=declared.reference if declared else "rest",
                inferred=declared.inferred if declared else False,
                within=declared.within if declared else False,
                description=declared.description if declared else "",
            )
        )
    return tuple(facts)


def level_groups(meas: Measurements, plan: Plan) -> dict[str, pd.Series[Any]]:
    """Attribute -> displayed level of each row of ``meas.images``: ordered categoricals without gaps.

    The level "(unknown)" stands last, and only where there is one; ``order`` levels without an image stay.
    """
    names = [str(c).removeprefix("subgroup.") for c in meas.images.columns if str(c).startswith("subgroup.")]
    return {name: _levels_of(meas.images[f"subgroup.{name}"], name, plan) for name in names}


def _levels_of(column: pd.Series[Any], name: str, plan: Plan) -> pd.Series[Any]:
    if _kind(column, name, plan) == "continuous":
        text, order = _ranges(_numbers(column))
    else:
        text = _texts(column)
        declared = plan.subgroups[name].order if name in plan.subgroups else None
        found = sort_levels(list(text.dropna()))
        order = [*(declared or ()), *(level for level in found if level not in (declared or ()))]
    if text.isna().any():
        text, order = text.where(text.notna(), UNKNOWN), [level for level in order if level != UNKNOWN] + [UNKNOWN]
    return pd.Series(pd.Categorical(text, categories=order, ordered=True), index=column.index, name=name)


def _kind(column: pd.Series[Any], name: str, plan: Plan) -> Literal["categorical", "ordered", "continuous"]:
    declared = plan.subgroups.get(name)
    distinct = _texts(pd.Series(column.unique())).dropna()
    return attribute_kind(distinct, declared.kind if declared else None, declared.order if declared else None)


def _texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Cells as the manifest would write them, None where empty."""
    codes, distinct = pd.factorize(column)  # text is made once per value: a table repeats its few values many times
    words = np.array([*(level_text(value).strip() or None for value in distinct), None], dtype=object)
    return pd.Series(words[codes], index=column.index, dtype=object)


def _numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _ranges(numbers: pd.Series[Any]) -> tuple[pd.Series[Any], list[str]]:
    """Quartile ranges, for display; open at both ends, so that nobody's extreme value is printed."""
    known = numbers.dropna()
    text = pd.Series([None] * len(numbers), index=numbers.index, dtype=object)
    if known.empty:
        return text, []
    cuts = sorted({float(f"{q:.3g}") for q in np.quantile(known, [0.25, 0.5, 0.75])})
    cuts = [cut for cut in cuts if known.min() < cut <= known.max()]
    words = [f"{cut:g}" for cut in cuts]
    between = [f"{a} to below {b}" for a, b in pairwise(words)]
    labels = [f"below {words[0]}", *between, f"{words[-1]} and over"] if cuts else ["any value"]
    text[known.index] = np.array(labels, dtype=object)[np.searchsorted(cuts, known.to_numpy(), side="right")]
    return text, labels


# ── the census: one place where rows are joined ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Census:
    """Measurements of one method and target as arrays over images (n) and regions (R); see ``take_census``.

    ``share``, ``area``, ``lift``, ``hit`` : (n, R) float, NaN where undefined      ``reason`` : (n, R) codes of text
    ``readable``, ``masked``, ``heated``, ``analysed`` : (n,) bool, each step within the one before
    """

    meas: Measurements
    groups: dict[str, pd.Series[Any]]
    method: str
    target: str
    regions: tuple[str, ...]
    cluster: Array
    share: Array
    area: Array
    lift: Array
    hit: Array
    reason: Array
    usable: Array
    heat_ok: Array
    readable: Array

    @property
    def masked(self) -> Array:
        return np.asarray(self.readable & self.usable.any(axis=1))

    @property
    def heated(self) -> Array:
        return self.masked & self.heat_ok

    @cached_property
    def defined(self) -> Array:
        """(n, R): the heat share exists, and its image counts as usable."""
        return np.asarray(np.isfinite(self.share) & self.heated[:, None])

    @property
    def analysed(self) -> Array:
        return np.asarray(self.defined.any(axis=1))

    @cached_property
    def anchored(self) -> Array:
        """Images with a heat share in the region that has most of them: a base whose size the heat table prints."""
        if not len(self.regions):
            return np.zeros_like(self.readable)
        return np.asarray(self.defined[:, int(np.argmax(self.defined.sum(axis=0)))])

    def cells(self) -> list[tuple[str, str, Array]]:
        """(attribute, level, member mask), the whole data set first."""
        found = [(ALL, ALL, np.ones(len(self.readable), dtype=bool))]
        for name, levels in self.groups.items():
            codes = levels.cat.codes.to_numpy()
            found += [(name, str(level), codes == k) for k, level in enumerate(levels.cat.categories)]
        return found


def method_targets(meas: Measurements, plan: Plan) -> list[tuple[str, str]]:
    """Method and target pairs of the table, the plan's own first."""
    found = meas.table[["method", "target"]].drop_duplicates().astype(str)
    pairs = list(zip(found["method"], found["target"], strict=True))
    own = (plan.explain.method, plan.explain.target)
    return sorted(pairs, key=lambda pair: pair != own) or [own]


def take_census(meas: Measurements, plan: Plan, pair: tuple[str, str] | None = None) -> Census:
    """Arrange the table of one (method, target) over images and regions; default: the plan's own."""
    method, target = pair or method_targets(meas, plan)[0]
    table = meas.table.loc[(meas.table["method"] == method) & (meas.table["target"] == target)]
    regions = tuple(str(name) for name in meas.table["region"].dropna().unique())
    index = pd.Index(meas.images["image_id"].astype(str))
    rows = index.get_indexer(pd.Index(table["image_id"].astype(str)))
    columns = pd.Index(regions, dtype=object).get_indexer(pd.Index(table["region"].astype(object)))
    placed = (rows >= 0) & (columns >= 0)

    def spread(column: str, empty: Any, kind: Any) -> Array:
        grid = np.full((len(index), len(regions)), empty, dtype=kind)
        if column in table:
            values = table[column].fillna("").to_numpy(dtype=object) if kind is object else table[column].to_numpy(dtype=float, na_value=np.nan)
            grid[rows[placed], columns[placed]] = values[placed]
        return grid

    share, area, reason = spread("heat_share", np.nan, float), spread("area_share", np.nan, float), spread("reason", "not_annotated", object)
    share[~np.isfinite(share)] = np.nan
    absent = np.isin(reason.astype(str), list(_ABSENT)) | np.equal(area, 0)
    readable = (meas.images["status"].astype(str) == "ok").to_numpy(dtype=bool)
    heat_ok = readable & (_heat_status(meas, table) == "ok")
    return Census(
        meas, level_groups(meas, plan), method, target, regions, pd.factorize(meas.images["cluster"].astype(str))[0], share, area,
        spread("mass_lift", np.nan, float), spread("pointing_game", np.nan, float), reason, (~absent | np.isfinite(share)), heat_ok, readable,
    )  # fmt: skip


def _heat_status(meas: Measurements, table: pd.DataFrame) -> Array:
    """Heat status per image: of this method and target where the table says so, else of the image's row."""
    images = meas.images
    first = table.drop_duplicates("image_id")
    by_table = pd.Series(first["status"].astype(object).to_numpy(), index=first["image_id"].astype(str).to_numpy(), dtype=object)
    status = images["image_id"].astype(str).map(by_table)
    if "heat_status" in images:
        status = status.where(status.notna(), images["heat_status"])
    filled: Array = status.where(status.notna(), "not_measured").astype(str).to_numpy(dtype=object)
    return filled


# ── regions, flow, exclusions ───────────────────────────────────────────────────────────────────────────────────────


def region_facts(meas: Measurements, plan: Plan) -> tuple[RegionFacts, ...]:
    """Role, derivation and frequency of each region; ``n_annotated`` counts readable images in which the region was
    looked for (also found absent), ``n_present`` those where it has an area, ``mean_area_share`` is over the latter."""
    return _region_facts(take_census(meas, plan), plan)


def _region_facts(census: Census, plan: Plan) -> tuple[RegionFacts, ...]:
    facts = []
    for r, name in enumerate(census.regions):
        declared = plan.regions.get(name)
        reason = census.reason[:, r].astype(str)
        annotated = census.readable & ~np.isin(reason, ["not_annotated", "missing_mask", "unreadable_mask", "mask_size"])
        present = census.readable & census.usable[:, r]
        facts.append(
            RegionFacts(
                name=name,
                role=plan.region_role(name),
                derive=(declared.derive or "") if declared else "",
                description=declared.description if declared else "",
                n_annotated=int(annotated.sum()),
                n_present=int(present.sum()),
                mean_area_share=_mean(census.area[present, r]),
            )
        )
    return tuple(facts)


def flow_table(meas: Measurements, plan: Plan) -> tuple[FlowRow, ...]:
    """How many images of each level came through each step; the first row, "(all)" / "(all)", is the whole data set.

    Steps: manifest; readable; with at least one usable region mask; with usable heat; with at least one heat share.
    ``n_clusters`` counts clusters of analysed images.  ``label_prevalence`` is over the images with a heat share in the
    region that has most of them (more than ``LABELS_SHOWN`` labels: the rarer ones are "(other)"), ``area_share`` over
    those with one in the region, ``mean_confidence``, the mean probability of the predicted class, over readable images.
    """
    return _flow_table(take_census(meas, plan))


def _flow_table(census: Census) -> tuple[FlowRow, ...]:
    labels, names = _labels(census)
    confidence = census.meas.images["probability"].to_numpy(dtype=float, na_value=np.nan)
    steps = [np.ones_like(census.readable), census.readable, census.masked, census.heated, census.analysed]
    rows = []
    for attribute, level, members in census.cells():
        counts = [int((members & step).sum()) for step in steps]
        among = members & census.anchored
        prevalence = np.bincount(labels[among], minlength=len(names)) / max(among.sum(), 1)
        rows.append(
            FlowRow(
                attribute=attribute,
                level=level,
                n_manifest=counts[0],
                n_readable=counts[1],
                n_mask_usable=counts[2],
                n_heat_usable=counts[3],
                n_analysed=counts[4],
                n_clusters=_count_distinct(census.cluster[members & census.analysed]),
                label_prevalence=dict(zip(names, prevalence.tolist(), strict=True)) if among.any() else {},
                area_share={name: _mean(census.area[members & census.defined[:, r], r]) for r, name in enumerate(census.regions)},
                mean_confidence=_mean(confidence[members & census.readable]),
            )
        )
    return tuple(rows)


def _labels(census: Census) -> tuple[Array, list[str]]:
    """Label code per image and the names; the unknown label is a label of its own."""
    text = _texts(census.meas.images["label"])
    counts = text.value_counts()
    common = list(counts.index if len(counts) <= LABELS_SHOWN else counts.index[: LABELS_SHOWN - 1])
    names = sort_levels([str(name) for name in common])
    if len(counts) > LABELS_SHOWN:
        text, names = text.where(text.isin(common) | text.isna(), "(other)"), [*names, "(other)"]
    if text.isna().any():
        text, names = text.where(text.notna(), UNKNOWN), [*names, UNKNOWN]
    return pd.Index(names, dtype=object).get_indexer(pd.Index(text)), names


def exclusions(meas: Measurements, plan: Plan, hidden: Mapping[str, set[str]] | None = None) -> tuple[Exclusion, ...]:
    """Images without a heat share, by reason; each image-region pair is counted once, under the first cause.

    Whole images first (``region`` empty): not readable, then without usable heat.  Then, per region, readable images
    with usable heat whose share is undefined.  ``examples``: ids, never of members of ``hidden`` levels.
    """
    return _exclusions(take_census(meas, plan), hidden or {})


def _exclusions(census: Census, hidden: Mapping[str, set[str]]) -> tuple[Exclusion, ...]:
    images = census.meas.images
    given = images["reason"].astype(object).where(images["reason"].notna(), "").astype(str).to_numpy(dtype=object)
    failed = np.where(census.readable, "", np.where(given == "", "unreadable", given))
    cold = census.readable & ~census.heat_ok
    status = _heat_status(census.meas, _table_of(census))
    failed = np.where(cold, np.where(given != "", given, [_REASON_OF_HEAT.get(str(s), "non_finite") for s in status]), failed)
    found = [_exclusion(census, "", code, failed == code, hidden) for code in _codes(failed)]
    for r, region in enumerate(census.regions):
        missing = census.heat_ok & ~census.defined[:, r]
        code_of = np.where(missing, np.where(census.reason[:, r] == "", "not_annotated", census.reason[:, r]), "")
        found += [_exclusion(census, region, code, code_of == code, hidden) for code in _codes(code_of)]
    return tuple(found)


def _table_of(census: Census) -> pd.DataFrame:
    table = census.meas.table
    return table.loc[(table["method"] == census.method) & (table["target"] == census.target)]


def _codes(values: Array) -> list[str]:
    order = list(REASONS)
    return sorted({str(v) for v in values} - {""}, key=lambda code: (order.index(code) if code in order else len(order), code))


def _exclusion(census: Census, region: str, code: str, members: Array, hidden: Mapping[str, set[str]]) -> Exclusion:
    by_level: dict[str, dict[str, int | None]] = {}
    shown = members.copy()
    for name, levels in census.groups.items():
        codes = levels.cat.codes.to_numpy()
        counts = np.bincount(codes[members], minlength=len(levels.cat.categories))
        by_level[name] = {str(level): int(count) for level, count in zip(levels.cat.categories, counts, strict=True)}
        shown &= ~levels.isin(list(hidden.get(name, set()))).to_numpy()
    examples = census.meas.images["image_id"].astype(str).to_numpy(dtype=object)[np.flatnonzero(shown)[:EXAMPLES]]
    return Exclusion(
        reason=code, meaning=REASONS.get(code, code.replace("_", " ")), region=region, count=int(members.sum()), by_level=by_level,
        examples=tuple(str(e) for e in examples),
    )  # fmt: skip


# ── heat ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def heat_table(meas: Measurements, plan: Plan, findings: Sequence[Finding] = ()) -> tuple[HeatRow, ...]:
    """Distribution of the heat share per level, region, method and target, over cluster (patient) means.

    Each cluster counts once: its images' mean.  ``ci_low``/``ci_high``: Student's t over cluster means, cut at 0 and 1.
    ``histogram``: clusters in ``BINS`` bins of [0, 1].  ``undefined_share``: readable images with the region in place
    whose heat map is unusable.  ``adjusted_mean``: the finding's mean at equal region size and class, where there is one.
    """
    return _heat_table([take_census(meas, plan, pair) for pair in method_targets(meas, plan)], plan, findings)


def _heat_table(censuses: Sequence[Census], plan: Plan, findings: Sequence[Finding]) -> tuple[HeatRow, ...]:
    rows = [row for census in censuses for row in _heat_rows(census, plan)]
    means = adjusted_means(findings)
    return tuple(r.model_copy(update={"adjusted_mean": means.get((r.attribute, r.level, r.region, r.method, r.target))}) for r in rows)


def adjusted_means(findings: Sequence[Finding]) -> dict[Cell, float]:
    """Mean heat share of each level at the pooled mix of region size, class and covariates.

    In a linear model with an intercept the adjusted means, weighted by cluster counts, average to the plain mean M.  So
    with differences d to everyone else a level's is M + (1 - w) d, and with differences to one level that level's is
    M - sum of w d.  Source: Searle, Speed & Milliken 1980, Am. Stat. 34:216 (population marginal means).
    """
    families: dict[Cell, list[Finding]] = {}
    for f in findings:
        if f.code == "GA101" and f.outcome == "heat_share" and f.adjusted_for:
            families.setdefault((f.attribute, f.reference, f.region, f.method, f.target), []).append(f)
    means: dict[Cell, float] = {}
    for (attribute, reference, region, method, target), members in families.items():
        found = _means_from_rest(members) if reference == "rest" else _means_from_level(members)
        means |= {(attribute, level, region, method, target): mean for level, mean in found.items()}
    return means


def _means_from_rest(members: Sequence[Finding]) -> dict[str, float]:
    found = {}
    for f in filter(_is_complete, members):
        n, others = f.n_clusters, f.n_clusters_reference
        plain = (n * (f.mean.estimate or 0.0) + others * (f.mean_reference.estimate or 0.0)) / (n + others)
        found[f.group] = plain + (f.adjusted.estimate or 0.0) * others / (n + others)
    return found


def _means_from_level(members: Sequence[Finding]) -> dict[str, float]:
    if not all(_is_complete(f) for f in members):
        return {}  # the mean over all levels takes every level
    first = members[0]
    total = first.n_clusters_reference + sum(f.n_clusters for f in members)
    sums = [f.n_clusters * (f.mean.estimate or 0.0) for f in members]
    plain = (first.n_clusters_reference * (first.mean_reference.estimate or 0.0) + sum(sums)) / total
    own = plain - sum(f.n_clusters * (f.adjusted.estimate or 0.0) for f in members) / total
    return {first.reference: own, **{f.group: own + (f.adjusted.estimate or 0.0) for f in members}}


def _is_complete(f: Finding) -> bool:
    known = None not in (f.adjusted.estimate, f.mean.estimate, f.mean_reference.estimate)
    return known and f.n_clusters > 0 and f.n_clusters_reference > 0


def _heat_rows(census: Census, plan: Plan) -> list[HeatRow]:
    rows = []
    for attribute, level, members in census.cells():
        for r, region in enumerate(census.regions):
            used = members & census.defined[:, r]
            means = _cluster_means(census.share[used, r], census.cluster[used])
            eligible = members & census.readable & census.usable[:, r]
            rows.append(
                HeatRow(
                    attribute=attribute, level=level, region=region, method=census.method, target=census.target,
                    n_images=int(used.sum()), n_clusters=len(means),
                    mean_lift=_mean(_cluster_means(census.lift[used, r], census.cluster[used])),
                    pointing_game=_mean(_cluster_means(census.hit[used, r], census.cluster[used])),
                    undefined_share=float((eligible & ~census.heat_ok).sum() / eligible.sum()) if eligible.any() else None,
                    **_distribution(means, plan.analysis.alpha),
                )
            )  # fmt: skip
    return rows


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
        "histogram": tuple(int(c) for c in np.histogram(np.clip(means, 0, 1), bins=BINS, range=(0, 1))[0]),
    }


def _cluster_means(values: Array, cluster: Array) -> Array:
    """One mean per cluster of the finite values, clusters without one left out."""
    finite = np.isfinite(values)
    _, inverse = np.unique(cluster[finite], return_inverse=True)
    size = np.bincount(inverse)
    means: Array = np.bincount(inverse, weights=values[finite]) / size if len(size) else np.empty(0)
    return means


def heat_by_correctness(meas: Measurements, plan: Plan) -> tuple[PerformanceRow, ...]:
    """Mean heat share among right and among wrong predictions, per level and region: metrics ``heat_right:REGION`` and
    ``heat_wrong:REGION``, over cluster means with their t interval.  Regions with a role, or all where none has one."""
    return _heat_by_correctness(take_census(meas, plan), plan)


def _heat_by_correctness(census: Census, plan: Plan) -> tuple[PerformanceRow, ...]:
    correct = census.meas.images["correct"].astype(object)
    known = correct.notna().to_numpy(dtype=bool)
    right = correct.where(correct.notna(), False).to_numpy(dtype=bool)
    shown = [r for r, name in enumerate(census.regions) if plan.region_role(name) != "neutral"] or list(range(len(census.regions)))
    rows = []
    for attribute, level, members in census.cells():
        for r in shown:
            for metric, side in (("heat_right", right), ("heat_wrong", known & ~right)):
                used = members & census.defined[:, r] & side
                means = _cluster_means(census.share[used, r], census.cluster[used])
                facts = _distribution(means, plan.analysis.alpha)
                rows.append(
                    PerformanceRow(
                        attribute=attribute, level=level, metric=f"{metric}:{census.regions[r]}", estimate=facts.get("mean"),
                        low=facts.get("ci_low"), high=facts.get("ci_high"), n_images=int(used.sum()), n_clusters=len(means),
                        reason="" if len(means) > 1 else "no such image" if len(means) == 0 else "one cluster only: no interval",
                    )
                )  # fmt: skip
    return tuple(rows)


# ── mean maps ───────────────────────────────────────────────────────────────────────────────────────────────────────


def mean_maps(meas: Measurements, plan: Plan) -> tuple[MeanMap, ...]:
    """Mean of unit-mass heat maps per level, and mean coverage of each region over the same images.

    The images are those with a heat share in the region that has most of them, so that ``n_images`` is a number that the
    heat table shows too.  Maps of another grid than the commonest are left out.  No maps were kept: empty.
    """
    return _mean_maps(take_census(meas, plan))


def _mean_maps(census: Census) -> tuple[MeanMap, ...]:
    maps = census.meas.maps
    if maps is None or maps.empty or not len(census.regions):
        return ()
    index = pd.Index(census.meas.images["image_id"].astype(str))
    heat, rows = _stack(maps.loc[(maps["kind"] == "heat") & maps["name"].isin([census.target, _first_name(maps, census.target)])], index, np.float32)
    heat = np.where(np.isfinite(heat), np.maximum(heat, 0.0), 0.0)
    mass = heat.sum(axis=(1, 2))
    kept = (mass > 0) & census.anchored[rows]
    heat, rows = heat[kept] / mass[kept][:, None, None], rows[kept]
    covers = {name: _stack(maps.loc[(maps["kind"] == "region") & (maps["name"] == name)], index, np.uint8) for name in census.regions}
    found = []
    for attribute, level, members in census.cells():
        inside = members[rows]
        if inside.any():
            wanted = np.zeros(len(index), dtype=bool)
            wanted[rows[inside]] = True
            regions = {name: _grid(cover[wanted[of]].mean(axis=0) / 255) for name, (cover, of) in covers.items() if wanted[of].any()}
            mean = _grid(heat[inside].mean(axis=0))
            found.append(MeanMap(attribute=attribute, level=level, n_images=int(inside.sum()), heat=mean, regions=regions))
    return tuple(found)


def _first_name(maps: pd.DataFrame, target: str) -> str:
    """Name under which the heat maps are filed: the target's, or the only one there is."""
    names = [str(name) for name in maps.loc[maps["kind"] == "heat", "name"].unique()]
    return target if target in names or not names else names[0]


def _stack(rows: pd.DataFrame, index: pd.Index[Any], kind: Any) -> tuple[Array, Array]:
    """Maps of the commonest grid as (k, h, w) floats, and their rows in ``index``."""
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
    """Four significant digits draw the same picture and keep the result small."""
    return tuple(tuple(float(f"{v:.4g}") for v in line) for line in values)


# ── privacy ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def suppressed_levels(meas: Measurements, plan: Plan) -> dict[str, set[str]]:
    """Attribute -> levels whose members are shown nowhere: small ones and those that would give them away.

    Attributes without such a level are left out.  Levels are the displayed ones (``level_groups``), with "(unknown)".
    """
    return _suppressed_levels(take_census(meas, plan), plan)


def _suppressed_levels(census: Census, plan: Plan) -> dict[str, set[str]]:
    found = {}
    for name, levels in census.groups.items():
        codes, analysed = levels.cat.codes.to_numpy(), census.analysed
        count = len(levels.cat.categories)
        sizes = pd.DataFrame(
            {
                "images": np.bincount(codes, minlength=count),
                "analysed": np.bincount(codes[analysed], minlength=count),
                "clusters": _distinct_by(codes, census.cluster, count),
                "analysed_clusters": _distinct_by(codes[analysed], census.cluster[analysed], count),
            },
            index=[str(level) for level in levels.cat.categories],
        )
        hidden = small_levels(sizes, _reference(name, plan), plan.privacy.min_cell)
        if hidden:
            found[name] = hidden
    return found


def _narrowed(census: Census, plan: Plan) -> dict[tuple[str, str], Array]:
    """Levels whose performance is taken over the anchored images alone, because its own base, printed beside that of the
    heat, would give away how few images were lost in between; with a companion, as the total of the bases is printed too."""
    labelled = np.isin(np.arange(len(census.readable)), predictions(census.meas, plan)[1])
    found: dict[tuple[str, str], Array] = {}
    for name in census.groups:
        cells = {level: members for attribute, level, members in census.cells() if attribute == name}
        gaps = {level: _gaps_to(members, labelled, census) for level, members in cells.items()}
        close = [level for level, gap in gaps.items() if any(is_small(g, plan.privacy.min_cell) for g in gap)]
        if len(close) == 1:
            others = [level for level in cells if level not in close and (cells[level] & labelled).any()]
            close += sorted(others, key=lambda level: int(cells[level].sum()))[-1:]
        found |= {(name, level): cells[level] & census.anchored for level in close}
    return found


def _gaps_to(members: Array, labelled: Array, census: Census) -> list[int]:
    """From the labelled images to every base that is printed, and to the labelled ones among those of the prevalence."""
    printed = [members & census.defined[:, r] for r in range(len(census.regions))]
    printed += [members & census.analysed, members & census.anchored & labelled]
    return [abs(int((members & labelled).sum()) - int(base.sum())) for base in printed]


def suppressed_cells(meas: Measurements, plan: Plan) -> set[Cell]:
    """(attribute, level, region, method, target) of every heat row that is withheld; what the findings must not show."""
    censuses = [take_census(meas, plan, pair) for pair in method_targets(meas, plan)]
    references = {name: _reference(name, plan) for name in censuses[0].groups}
    return withheld_cells(_heat_table(censuses, plan, ()), _suppressed_levels(censuses[0], plan), references, plan.privacy.min_cell)


def _distinct_by(codes: Array, cluster: Array, count: int) -> Array:
    if len(codes) == 0:
        return np.zeros(count, dtype=int)
    pairs = np.unique(codes.astype(np.int64) * (int(cluster.max()) + 1) + cluster)
    return np.bincount(pairs // (int(cluster.max()) + 1), minlength=count)


def _reference(name: str, plan: Plan) -> str:
    return plan.subgroups[name].reference if name in plan.subgroups else "rest"


# ── all of it ───────────────────────────────────────────────────────────────────────────────────────────────────────


def describe(meas: Measurements, plan: Plan, findings: Sequence[Finding] = ()) -> Parts:
    """Every table of the result document that is not a finding, small cells withheld, keyed by the document's fields.

    Keys: regions, attributes, flow, exclusions, heat, performance, mean_maps, checks, limits.
    """
    censuses = [take_census(meas, plan, pair) for pair in method_targets(meas, plan)]
    census = censuses[0]
    hidden = _suppressed_levels(census, plan)
    references = {name: _reference(name, plan) for name in census.groups}
    parts = apply_min_cell(
        {
            "flow": _flow_table(census),
            "exclusions": _exclusions(census, hidden),
            "heat": _heat_table(censuses, plan, findings),
            "performance": performance_table(meas, plan, census.groups, references, _narrowed(census, plan)) + _heat_by_correctness(census, plan),
            "mean_maps": _mean_maps(census),
        },
        hidden,
        references,
        plan.privacy.min_cell,
    )
    attributes, regions = _attribute_facts(meas, plan, census.groups), _region_facts(census, plan)
    parts = {"regions": regions, "attributes": attributes, **parts}
    checks = data_checks(meas, plan, parts)
    return {**parts, "checks": checks, "limits": limits_found(meas, plan, parts, checks)}


def _mean(values: Array) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _count_distinct(values: Array) -> int:
    return len(np.unique(values))
