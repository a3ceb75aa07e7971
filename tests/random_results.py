"""Random result documents: any number of attributes, levels and regions, every state, whiskers that follow the rule.

The rule is that of ``stats.decision``: beyond where the thin whisker stays outside the band, within where the thick one lies inside it.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import result_documents as documents

from gradaudit.records import CellState, Finding, Interval, Limits, TestResult
from gradaudit.result_schema import (
    AttributeFacts,
    PerformanceRow,
    PlannedCell,
    RegionFacts,
    ResultDocument,
)

NAMES = (
    "skin_tone", "sex", "اللغة", "clinic & ward", "device manufacturer and model (as recorded in the DICOM header)", "年齢", "<b>site</b>",
    "insurance", "scanner", "a'b\"c", "ethnicity", "hand", "month", "film", "posture",
)  # fmt: skip
LEVELS = (
    "A",
    "B",
    "東京大学医学部附属病院",
    "مستشفى الملك فيصل",
    "V–VI",
    "75 and older",
    "<i>x</i>",
    "\u202ere",
)
MARGIN = 0.1


def random_document(seed: int, *, margin: float | None = MARGIN) -> ResultDocument:
    """One document; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    attributes = _attributes(rng)
    regions = [f"region {n}" for n in range(int(rng.integers(1, 5)))]
    cells, findings = [], []
    for place in _places(rng, attributes, regions):
        cell, finding = _one(rng, place, margin)
        cells.append(cell)
        findings += [finding] if finding is not None else []
    base = documents.met_document() if margin is not None else documents.no_criteria_document()
    empty: dict[str, Any] = dict.fromkeys(
        ("pictures", "distributions", "difference_maps", "size_curves", "mean_maps"), ()
    )
    return base.model_copy(
        update={
            "attributes": attributes,
            "regions": tuple(RegionFacts(name=name, role="avoid") for name in regions),
            "cells": tuple(cells),
            "findings": tuple(findings),
            "performance": tuple(_performance(rng, attributes)),
            **empty,
        }
    )


def _attributes(rng: np.random.Generator) -> tuple[AttributeFacts, ...]:
    names = rng.permutation(NAMES)[: int(rng.integers(1, len(NAMES) + 1))]
    found = []
    for name in names:
        levels = tuple(rng.permutation(LEVELS)[: int(rng.integers(1, len(LEVELS) + 1))].tolist())
        kind = str(rng.choice(["categorical", "ordered"]))
        found.append(AttributeFacts(name=str(name), kind=kind, levels=levels, reference="rest"))
    return tuple(found)


def _places(
    rng: np.random.Generator, attributes: tuple[AttributeFacts, ...], regions: list[str]
) -> list[dict[str, str]]:
    places = []
    for a in attributes:
        pairs = [("level", level, "rest") for level in a.levels]
        if a.kind == "ordered":
            pairs.append(("trend", "", ""))
        else:
            pairs += [("pair", x, y) for x, y in itertools.combinations(a.levels[:4], 2)]
        for (kind, group, reference), region in itertools.product(pairs, (*regions, "")):
            places.append(
                {
                    "attribute": a.name,
                    "comparison": kind,
                    "group": group,
                    "reference": reference,
                    "region": region,
                    "outcome": "heat_share" if region else "undefined",
                }
            )
    return places


def _one(
    rng: np.random.Generator, place: dict[str, str], margin: float | None
) -> tuple[PlannedCell, Finding | None]:
    hidden = rng.random()
    if hidden < 0.1:
        state = CellState.WITHHELD if hidden < 0.05 else CellState.NOT_ASSESSED
        return PlannedCell(**place, state=state, reason="too few", margin=margin), None
    estimate = (
        float(rng.normal(0, 0.12)) if rng.random() < 0.9 else float(rng.choice([0.0, 0.1, -0.1]))
    )
    thin, thick = sorted(rng.exponential(0.06, 2))[::-1]
    whiskers = {
        "thin": Limits(low=estimate - thin, high=estimate + thin),
        "thick": Limits(low=estimate - thick, high=estimate + thick),
    }
    state = CellState.NOT_JUDGED if margin is None else decided(whiskers, margin)
    anchor = "-".join(["GA", *place.values()])
    found = Interval(estimate=estimate, low=estimate - thin, high=estimate + thin)
    own = {
        k: v
        for k, v in place.items()
        if k in ("attribute", "group", "reference", "region", "outcome")
    }
    finding = Finding(
        code="GA101",
        anchor=anchor,
        question="?",
        **own,
        role="avoid",
        method="gradcam",
        target="predicted",
        n_images=100,
        n_clusters=int(rng.integers(10, 2000)),
        mean=Interval(estimate=0.3),
        mean_reference=Interval(estimate=0.3 - estimate),
        raw=Interval(estimate=estimate + 0.01),
        adjusted=found,
        test=TestResult(family="confirmatory", p=0.01, p_adjusted=0.02),
        margin=margin,
        state=state,
        shown=bool(rng.random() < 0.5),
        beyond_up_to=max(0.0, abs(estimate) - thin),
        within_from=abs(estimate) + thick,
        sentence=f"{place['attribute']} {place['group']}: a sentence.",
        **(whiskers if margin is not None else {}),
    )
    cell = PlannedCell(
        **place,
        state=state,
        settled=state is CellState.WITHIN and bool(rng.random() < 0.8),
        estimate=found.estimate,
        ci_low=found.low,
        ci_high=found.high,
        margin=margin,
        coverage=0.9,
        finding=anchor,
    )
    return cell, finding


def decided(whiskers: dict[str, Limits], margin: float) -> CellState:
    thin, thick = whiskers["thin"], whiskers["thick"]
    if thin.low >= margin or thin.high <= -margin:
        return CellState.BEYOND
    return CellState.WITHIN if -margin < thick.low <= thick.high < margin else CellState.OPEN


def _performance(
    rng: np.random.Generator, attributes: tuple[AttributeFacts, ...]
) -> list[PerformanceRow]:
    rows = [PerformanceRow(attribute="(all)", level="(all)", metric="accuracy", estimate=0.7)]
    for a in attributes:
        for level in a.levels:
            base = {"attribute": a.name, "level": level}
            for metric in ("accuracy", "auc"):
                if rng.random() < 0.1:
                    rows.append(
                        PerformanceRow(**base, metric=metric, estimate=None, suppressed=True)
                    )
                    continue
                value = float(rng.uniform(0.4, 1))
                rows.append(
                    PerformanceRow(
                        **base,
                        metric=metric,
                        estimate=value,
                        low=value - 0.1,
                        high=min(1.0, value + 0.1),
                    )
                )
                p = float(rng.choice([0.001, 0.049, 0.05, 0.3]))
                rows.append(
                    PerformanceRow(
                        **base,
                        metric=f"{metric}_difference",
                        estimate=0.1,
                        test=TestResult(p=p, p_adjusted=p),
                    )
                )
    return rows
