"""Runs whose comparisons are open, small enough to be drawn again in a test."""

import numpy as np
import pandas as pd

from gradaudit.plan import build_plan
from gradaudit.runs.measurements import Measurements

MARGIN = 0.05


def a_plan(margin=MARGIN, levels=None, **sections):
    plan = {
        "regions": {"ruler": {"role": "avoid"}},
        "criteria": {"margin": margin, "undefined_margin": 0.3},
        "analysis": {"permutations": 999},
    }
    if levels:
        plan["subgroups"] = {"tone": {"order": list(levels)}}
    return build_plan(plan | sections)


def a_run(sizes, gaps=None, spread=0.125, seed=0, images=1, undefined=0.0, values=None):
    """Patients of each level of ``subgroup.tone``; ``gaps``: what is added to each level's heat shares.

    values : heat shares, level by level, instead of drawn ones
    """
    rng = np.random.default_rng(seed)
    level = np.repeat(list(sizes), list(sizes.values()))
    cluster = np.repeat(np.arange(len(level)), images)
    level = level[cluster]
    share = rng.standard_normal(len(level))
    for name in sizes:  # centered, so that the run sees the planted gaps and nothing else
        share[level == name] -= share[level == name].mean()
    share = 0.3 + spread * share if values is None else np.asarray(values)
    share = share + np.array([(gaps or {}).get(name, 0.0) for name in level])
    cold = rng.random(len(level)) < undefined
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(level))]})
    images_of = frame.assign(
        path="x.png", status="ok", reason="", probability=0.9, label="c", predicted="c", correct=True,
        cluster=cluster.astype(str), **{"subgroup.tone": level.astype(object)},
    )  # fmt: skip
    table = frame.assign(
        region="ruler", role="avoid", method="gradcam", target="predicted", status=np.where(cold, "no_positive_evidence", "ok"),
        reason=np.where(cold, "zero_heat", ""), heat_share=np.where(cold, np.nan, share), area_share=0.2,
    )  # fmt: skip
    return Measurements(table, images_of)
