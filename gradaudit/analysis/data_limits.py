"""Sentences on what limits the reading of this audit, and whether a site was left undeclared.

Tables without small cells and the checks of the data come in; sentences go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from gradaudit.analysis.data_checks import listed, withheld_whole
from gradaudit.number_text import Noun
from gradaudit.plan import Plan, measured_target
from gradaudit.result_schema import AttributeFacts, CheckOutcome, Tables
from gradaudit.runs.measurements import Measurements
from gradaudit.stats.family import Floats

SITE_ALPHA = 0.01
"""p of an F test of means at which a column looks like a site."""
FEWEST_SITES, PATIENTS_PER_SITE = 3, 5
"""A column of fewer levels, or with fewer clusters for each, is not taken for one of sites."""


def undeclared_site(meas: Measurements, plan: Plan) -> CheckOutcome:
    """Whether a column beside the attributes moves the decisive heat share as a site would.

    Patients of one hospital are alike, so that they are not independent.  Looked at are covariates
    and further columns of the manifest with text or few numbers, known to be the same inside every
    cluster: F test of their means of the clusters' heat share (Fisher 1925), the smallest p over
    the decisive regions times their number.
    """
    name = "Sites declared"
    if plan.analysis.site is not None:
        detail = f"Everything is compared within {plan.analysis.site}."
        return CheckOutcome(code="GA414", name=name, state="passed", detail=detail)
    candidates = _site_like(meas, plan)
    if not candidates:
        detail = "No column beside the attributes could be one of sites."
        return CheckOutcome(code="GA414", name=name, state="not_applicable", detail=detail)
    heat = _decisive_heat(meas, plan)
    found = [column for column, codes in candidates.items() if _moves(heat, codes)]
    if not found:
        detail = f"Heat is alike across {listed(list(candidates))}."
        return CheckOutcome(code="GA414", name=name, state="passed", detail=detail)
    detail = (
        f"Heat differs between the levels of {listed(found)} (p ≤ {SITE_ALPHA} each): if these are "
        "sites, their patients are not independent. Declare it: [analysis] site."
    )
    return CheckOutcome(code="GA414", name=name, state="issue", detail=detail)


def _site_like(meas: Measurements, plan: Plan) -> dict[str, pd.Series[Any]]:
    """Column name -> level of each cluster, of every column that could be one of sites."""
    images = meas.images
    own = {name: f"subgroup.{name}" for name in plan.analysis.covariates}
    own |= {str(c).removeprefix("meta."): str(c) for c in images if str(c).startswith("meta.")}
    own |= {name: name for name in plan.analysis.covariates if name not in ("label", "cluster")}
    own.pop(plan.analysis.pairs or "", None)
    found = {}
    for name, column in own.items():
        if column not in images:
            continue
        levels = images[column].groupby(images["cluster"].astype(str))
        codes = levels.first().dropna()
        sizes = codes.value_counts()
        few = FEWEST_SITES <= len(sizes) <= len(codes) // PATIENTS_PER_SITE
        if few and (levels.nunique() <= 1).all():
            found[name] = codes
    return found


def _decisive_heat(meas: Measurements, plan: Plan) -> pd.DataFrame:
    """Heat share of each cluster (rows) in each decisive region, of the plan's method and target."""
    table = meas.table
    method, target = table["method"].astype(str), table["target"].astype(str)
    own = table.loc[(method == plan.explain.method) & (target == measured_target(plan))]
    roles = own["region"].astype(str).map(plan.region_role)
    if "role" in own:
        roles = roles.where(roles != "neutral", own["role"].astype(str))
    regions = own["region"].astype(str)
    decisive = regions.isin(plan.analysis.regions) if plan.analysis.regions else roles != "neutral"
    if not decisive.any():
        decisive = ~decisive
    cluster = dict(zip(meas.images["image_id"].astype(str), meas.images["cluster"], strict=True))
    patients = own["image_id"].astype(str).map(cluster).astype(str)
    ok = decisive & (own["status"].astype(str) == "ok")
    shares = pd.to_numeric(own["heat_share"], errors="coerce")
    return shares[ok].groupby([patients[ok], regions[ok]]).mean().unstack()


def _moves(heat: pd.DataFrame, codes: pd.Series[Any]) -> bool:
    p = 1.0
    for region in heat:
        known = heat[region].dropna()
        groups = [part.to_numpy() for _, part in known.groupby(codes.reindex(known.index))]
        groups = [part for part in groups if len(part) > 1]
        if len(groups) > 1 and np.ptp(np.concatenate(groups)) > 0:
            p = min(p, len(heat.columns) * _f_test(groups))
    return p <= SITE_ALPHA


def _f_test(groups: Sequence[Floats]) -> float:
    """p that all means are equal, at equal variances."""
    n, k = sum(map(len, groups)), len(groups)
    mean = np.concatenate(groups).mean()
    between = sum(len(g) * (g.mean() - mean) ** 2 for g in groups) / (k - 1)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (n - k)
    return float(special.fdtrc(k - 1, n - k, between / within)) if within > 0 else 0.0


def limits_found(
    meas: Measurements, plan: Plan, tables: Tables, checks: Sequence[CheckOutcome]
) -> tuple[str, ...]:
    """Sentences on what limits the reading of this audit.

    First the issues that the checks found, then what was declared.

    tables : attributes, flow, heat and performance, small cells withheld.
    """
    sentences = [check.detail for check in checks if check.state == "issue"]
    for attribute in tables.attributes:
        if attribute.inferred:
            sentences.append(
                f"The labels of {attribute.name} were estimated by an algorithm: a disparity may be one of its errors."
            )
    sentences += [
        text
        for attribute in tables.attributes
        if (text := _withheld_words(attribute, tables, plan))
    ]
    unit = Noun.of(plan.analysis.cluster_name)
    return tuple(unit.said_in(text) for text in (*sentences, *_criteria_words(meas, plan)))


def _withheld_words(attribute: AttributeFacts, tables: Tables, plan: Plan) -> str:
    hidden = [
        row.level for row in tables.flow if row.attribute == attribute.name and withheld_whole(row)
    ]
    if not hidden:
        return ""
    if len(hidden) == 1:
        why = f"is withheld, because it holds fewer than {plan.privacy.min_cell} images or clusters"
    else:
        why = f"are withheld, because one at least holds fewer than {plan.privacy.min_cell} images or clusters, which the others would give away"
    return f"{attribute.name}: {listed(hidden)} {why}. To keep more: join small levels, or complete unknown labels."


def _criteria_words(meas: Measurements, plan: Plan) -> list[str]:
    if plan.criteria is None:
        return [
            "No margin was declared, so no limit was set: a difference can be shown, its importance not judged."
        ]
    started = "" if meas.run is None else meas.run.started[:10]
    if plan.criteria.declared_on is None:
        return [
            "The margin carries no date: whether it was declared before the data were seen is not known."
        ]
    if started and plan.criteria.declared_on.isoformat() > started:
        when = f"on {plan.criteria.declared_on}, after the measuring began ({started})"
        return [f"The margin was declared {when}: it may have been chosen in sight of the data."]
    return []
