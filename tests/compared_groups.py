"""Measurements of groups that differ, and a plan for them."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from gradaudit.analysis.findings import analysis_of, refuse_unmeasured_names
from gradaudit.analysis.verdict import audit_verdict
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import take_cohorts
from gradaudit.disclosure.decision import decide
from gradaudit.plan import build_plan
from gradaudit.records import Finding
from gradaudit.result_schema import AuditVerdict, PlannedCell
from gradaudit.runs.measurements import Measurements

PLAN = {
    "regions": {"ruler": {"role": "avoid"}, "lesion": {"role": "attend"}},
    "subgroups": {"tone": {"order": ["I-II", "III-IV", "V-VI"]}},
    "criteria": {"margin": 0.05},
    "analysis": {"permutations": 499},
}


def a_plan(**changes):
    return build_plan({**PLAN, **changes})


def measured(
    seed=0,
    patients=240,
    tone=(0.5, 0.3, 0.2),
    gap=0.0,
    undefined=None,
    absent=None,
    age_slope=0.0,
    bend=0.0,
    joint=0.0,
    spread=0.4,
):
    """Two regions and a neutral one; ``gap``: added to the share on the ruler in V-VI; other words plant other answers."""
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 4, patients)
    cl = np.repeat(np.arange(patients), n)
    rows = len(cl)
    level = rng.choice(3, patients, p=tone)[cl]
    sex, age = rng.choice(["f", "m"], patients)[cl], rng.normal(50, 15, patients)[cl]
    images = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(rows)], "path": "x.png", "label": rng.choice(["benign", "malignant"], rows),
            "predicted": rng.choice(["benign", "malignant"], rows), "probability": 0.9, "correct": rng.random(rows) < 0.8, "cluster": cl.astype(str),
            "status": "ok", "reason": "", "subgroup.tone": np.array(["I-II", "III-IV", "V-VI"])[level], "subgroup.sex": sex,
            "subgroup.age": [f"{a:.1f}" for a in age], "meta.site": rng.choice(["north", "south"], rows),
        }
    )  # fmt: skip
    status = np.where(
        rng.random(rows) < (0 if undefined is None else np.take(undefined, level)),
        "no_positive_evidence",
        "ok",
    )
    effect, tables = rng.normal(size=patients)[cl], []
    for region in ("ruler", "lesion", "skin"):
        area = expit(-2 + 0.5 * rng.normal(size=rows))
        share = expit(-1.5 + spread * effect + spread * rng.normal(size=rows) + 0.3 * np.log(area))
        if region == "ruler":
            share = (
                share
                + gap * (level == 2)
                + bend * (level == 1)
                + age_slope * (age - 50)
                + joint * ((level == 0) & (sex == "f"))
            )
        gone = (status != "ok") | (
            (rng.random(rows) < np.take(absent, level)) if absent and region == "ruler" else False
        )
        missing = np.where(status != "ok", "zero_heat", np.where(gone, "empty_mask", ""))
        tables.append(
            pd.DataFrame(
                {
                    "image_id": images["image_id"], "method": "gradcam", "target": "predicted", "region": region,
                    "role": {"ruler": "avoid", "lesion": "attend"}.get(region, "neutral"), "status": status, "reason": missing,
                    "heat_share": np.where(gone, np.nan, share), "area_share": np.where(missing == "empty_mask", np.nan, area),
                    "mass_lift": np.where(gone, np.nan, share / area), "relevance_rank_accuracy": np.where(gone, np.nan, share),
                    "pointing_game": np.where(gone, np.nan, rng.random(rows) < share), "auc": np.where(gone, np.nan, 0.5 + share / 2),
                }
            )
        )  # fmt: skip
    return Measurements(pd.concat(tables, ignore_index=True), images)


class Audited(NamedTuple):
    """Findings, planned cells and verdict of one analysis."""

    findings: tuple[Finding, ...]
    cells: tuple[PlannedCell, ...]
    verdict: AuditVerdict


def audited(meas, plan):
    """An analysis and its verdict, as a report has them, without a run folder."""
    refuse_unmeasured_names(meas, plan)
    cohorts = take_cohorts(meas, plan)
    found = analysis_of(cohorts, decide(cohorts, heat_rows_of(cohorts, plan), plan), plan)
    return Audited(*vars(found).values(), audit_verdict(found.findings, found.cells, plan))
