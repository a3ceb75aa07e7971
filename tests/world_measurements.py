"""Worlds of worlds2.py as measurements of one region, with classes and a plan."""

import numpy as np
import pandas as pd

from gradaudit.plan import build_plan
from gradaudit.runs.measurements import Measurements


def measured_world(frame, attributes=("group",), criteria=None, **sections):
    """A world's rows as heat shares on "ruler", and a plan for them.

    attributes : columns of the frame; ``x`` is a number, the others are levels L0, L1, ...
    criteria : None for margins of 10 points, {} for none
    """
    n = len(frame)
    images = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)]})
    images = images.assign(path="x.png", status="ok", reason="", probability=0.9, correct=True)
    images["cluster"] = frame["cluster"].astype(str).to_numpy()
    klass = frame["klass"].fillna(0).astype(int).to_numpy()
    images["label"] = images["predicted"] = np.array(["benign", "malignant"])[klass]
    for name in attributes:
        values = frame[name].to_numpy()
        levels = [f"L{int(v)}" for v in values]
        images[f"subgroup.{name}"] = [f"{v:.3f}" for v in values] if name == "x" else levels
    table = pd.DataFrame({"image_id": images["image_id"], "region": "ruler", "role": "avoid"})
    table = table.assign(method="gradcam", target="predicted", status="ok", reason="")
    table["heat_share"], table["area_share"] = frame["value"].to_numpy(), 0.2
    plan = {"regions": {"ruler": {"role": "avoid"}}, "analysis": {"permutations": 299}}
    margins = {"margin": 0.10, "undefined_margin": 0.10} if criteria is None else criteria
    if margins:
        plan["criteria"] = margins
    return Measurements(table, images), build_plan(plan | sections)
