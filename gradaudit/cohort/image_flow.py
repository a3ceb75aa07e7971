"""Regions, images counted through every step, and exclusions with their reasons, by subgroup."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from gradaudit.cohort.population import Array, Cohort, finite_mean, heat_status, take_cohort, texts
from gradaudit.plan import Plan
from gradaudit.records import OTHER_LABELS, REASONS, UNKNOWN
from gradaudit.result_schema import Exclusion, FlowRow, RegionFacts
from gradaudit.runs.measurements import Measurements
from gradaudit.subgroups.levels import sort_levels

LABELS_SHOWN = 20
EXAMPLES = 3
_REASON_OF_HEAT = {
    "no_positive_evidence": "zero_heat",
    "flat": "flat",
    "non_finite": "non_finite",
    "not_measured": "non_finite",
}


def region_facts(meas: Measurements, plan: Plan) -> tuple[RegionFacts, ...]:
    """Role, derivation and frequency of each region.

    ``n_annotated`` counts the readable images in which someone looked for the region (also if it
    was absent), ``n_present`` those where it has an area; ``mean_area_share`` is over the latter.
    """
    return region_rows(take_cohort(meas, plan), plan)


def region_rows(cohort: Cohort, plan: Plan) -> tuple[RegionFacts, ...]:
    """``region_facts`` for a cohort that was already taken."""
    facts = []
    for r, name in enumerate(cohort.regions):
        declared = plan.regions.get(name)
        reason = cohort.reason[:, r].astype(str)
        annotated = cohort.readable & ~np.isin(
            reason, ["not_annotated", "missing_mask", "unreadable_mask", "mask_size"]
        )
        present = cohort.readable & cohort.usable[:, r]
        facts.append(
            RegionFacts(
                name=name,
                role=plan.region_role(name),
                derive=(declared.derive or "") if declared else "",
                description=declared.description if declared else "",
                n_annotated=int(annotated.sum()),
                n_present=int(present.sum()),
                mean_area_share=finite_mean(cohort.area[present, r]),
            )
        )
    return tuple(facts)


def flow_table(meas: Measurements, plan: Plan) -> tuple[FlowRow, ...]:
    """How many images of each level passed each step; the first row is the whole data set.

    The first row is named "(all)" / "(all)". Steps: manifest; readable; with at least one usable
    region mask; with usable heat; with at least one heat share. ``n_clusters`` counts clusters of
    images that passed all steps. ``label_prevalence`` is over the images with a heat share in the
    region that most images have one in (beyond ``LABELS_SHOWN`` labels the rarer ones become
    ``OTHER_LABELS``). ``area_share`` is over the images with a heat share in the region.
    ``mean_confidence`` is the mean probability of the predicted class over readable images.
    """
    return flow_rows(take_cohort(meas, plan))


def flow_rows(cohort: Cohort) -> tuple[FlowRow, ...]:
    """``flow_table`` for a cohort that was already taken."""
    labels, names = label_codes(cohort)
    confidence = cohort.meas.images["probability"].to_numpy(dtype=float, na_value=np.nan)
    steps = [
        np.ones_like(cohort.readable),
        cohort.readable,
        cohort.masked,
        cohort.heated,
        cohort.analysed,
    ]
    rows = []
    for attribute, level, members in cohort.cells():
        counts = [int((members & step).sum()) for step in steps]
        among = members & cohort.anchored
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
                n_clusters=_count_distinct(cohort.cluster[members & cohort.analysed]),
                label_prevalence=dict(zip(names, prevalence.tolist(), strict=True))
                if among.any()
                else {},
                area_share={
                    name: finite_mean(cohort.area[members & cohort.defined[:, r], r])
                    for r, name in enumerate(cohort.regions)
                },
                mean_confidence=finite_mean(confidence[members & cohort.readable]),
            )
        )
    return tuple(rows)


def label_codes(cohort: Cohort) -> tuple[Array, list[str]]:
    """Label code per image, and the labels; an unknown label counts as a label."""
    text = texts(cohort.meas.images["label"])
    counts = text.value_counts()
    common = list(counts.index if len(counts) <= LABELS_SHOWN else counts.index[: LABELS_SHOWN - 1])
    names = sort_levels([str(name) for name in common])
    if len(counts) > LABELS_SHOWN:
        text, names = (
            text.where(text.isin(common) | text.isna(), OTHER_LABELS),
            [*names, OTHER_LABELS],
        )
    if text.isna().any():
        text, names = text.where(text.notna(), UNKNOWN), [*names, UNKNOWN]
    return pd.Index(names, dtype=object).get_indexer(pd.Index(text)), names


def exclusions(
    meas: Measurements, plan: Plan, hidden: Mapping[str, set[str]] | None = None
) -> tuple[Exclusion, ...]:
    """Images, and pairs of image and region, without a heat share, by reason.

    Each is counted once, under its first cause. First come images that are left out completely
    (``region`` is empty): not readable, then without usable heat. Then, per region, readable images
    with usable heat whose share is undefined; these still count for their other regions (see
    ``records.Exclusion``). ``examples`` are ids, never of members of ``hidden`` levels.
    """
    return exclusion_rows(take_cohort(meas, plan), hidden or {})


def exclusion_rows(cohort: Cohort, hidden: Mapping[str, set[str]]) -> tuple[Exclusion, ...]:
    """``exclusions`` for a cohort that was already taken."""
    images = cohort.meas.images
    given = (
        images["reason"]
        .astype(object)
        .where(images["reason"].notna(), "")
        .astype(str)
        .to_numpy(dtype=object)
    )
    failed = np.where(cohort.readable, "", np.where(given == "", "unreadable", given))
    cold = cohort.readable & ~cohort.heat_ok
    status = heat_status(cohort.meas, _table_of(cohort))
    failed = np.where(
        cold,
        np.where(given != "", given, [_REASON_OF_HEAT.get(str(s), "non_finite") for s in status]),
        failed,
    )
    found = [_exclusion(cohort, "", code, failed == code, hidden) for code in _codes(failed)]
    for r, region in enumerate(cohort.regions):
        missing = cohort.heat_ok & ~cohort.defined[:, r]
        code_of = np.where(
            missing, np.where(cohort.reason[:, r] == "", "not_annotated", cohort.reason[:, r]), ""
        )
        found += [
            _exclusion(cohort, region, code, code_of == code, hidden) for code in _codes(code_of)
        ]
    return tuple(found)


def _table_of(cohort: Cohort) -> pd.DataFrame:
    table = cohort.meas.table
    return table.loc[(table["method"] == cohort.method) & (table["target"] == cohort.target)]


def _codes(values: Array) -> list[str]:
    order = list(REASONS)
    return sorted(
        {str(v) for v in values} - {""},
        key=lambda code: (order.index(code) if code in order else len(order), code),
    )


def _exclusion(
    cohort: Cohort, region: str, code: str, members: Array, hidden: Mapping[str, set[str]]
) -> Exclusion:
    by_level: dict[str, dict[str, int | None]] = {}
    shown = members.copy()
    for name, levels in cohort.groups.items():
        codes = levels.cat.codes.to_numpy()
        counts = np.bincount(codes[members], minlength=len(levels.cat.categories))
        by_level[name] = {
            str(level): int(count)
            for level, count in zip(levels.cat.categories, counts, strict=True)
        }
        shown &= ~levels.isin(list(hidden.get(name, set()))).to_numpy()
    examples = (
        cohort.meas.images["image_id"]
        .astype(str)
        .to_numpy(dtype=object)[np.flatnonzero(shown)[:EXAMPLES]]
    )
    return Exclusion(
        reason=code,
        meaning=REASONS.get(code, code.replace("_", " ")),
        region=region,
        count=int(members.sum()),
        by_level=by_level,
        examples=tuple(str(e) for e in examples),
    )


def _count_distinct(values: Array) -> int:
    return len(np.unique(values))
