"""Two audits of made-up patients, with a known change between them."""

import hashlib

import numpy as np
import pandas as pd

from gradaudit.plan import build_plan
from gradaudit.runs.measurements import Measurements
from tests.run_files import run_file

REGIONS = ("ruler", "lesion")
ROLES = {"ruler": "avoid", "lesion": "attend"}


def a_plan(**sections):
    plan = {
        "regions": {name: {"role": role} for name, role in ROLES.items()},
        "criteria": {"margin": 0.10, "undefined_margin": 0.10},
        "analysis": {"permutations": 199, "cluster_name": "patient"},
        "subgroups": {"tone": {"order": ["I", "III", "V"]}},
    }
    return build_plan(plan | sections)


class Patients:
    """Patients with images, levels and heat; ``audit`` measures some of them under one plan.

    tone : I, III, V (``sizes`` patients)      sex : f, m      age : a number
    """

    def __init__(self, sizes=(60, 50, 40), images=2, seed=0, aged=False):
        rng = np.random.default_rng(seed)
        self.rng = rng
        self.count = sum(sizes)
        tone = np.repeat(["I", "III", "V"], sizes)
        sex = np.where(rng.random(self.count) < 0.5, "f", "m")
        age = rng.normal(50, 12, self.count).round(1)
        self.patient = np.repeat(np.arange(self.count), images)
        n = len(self.patient)
        self.images = pd.DataFrame({
            "image_id": [f"img/{k:04d}.png" for k in range(n)], "path": "x.png", "status": "ok", "reason": "", "heat_status": "ok",
            "cluster": [f"p{p:03d}" for p in self.patient], "subgroup.tone": tone[self.patient], "subgroup.sex": sex[self.patient],
        })  # fmt: skip
        if aged:
            self.images["subgroup.age"] = age[self.patient].astype(str)
        self.images["digest"] = [
            hashlib.sha256(name.encode()).hexdigest() for name in self.images["image_id"]
        ]
        self.images["label"] = np.where(rng.random(n) < 0.5, "malignant", "benign")
        self.own = {
            name: rng.normal(0.3, 0.08, self.count)[self.patient] + rng.normal(0, 0.03, n)
            for name in REGIONS
        }
        self.area = {name: np.clip(rng.normal(0.2, 0.04, n), 0.02, 0.5) for name in REGIONS}

    def audit(
        self,
        plan=None,
        *,
        rows=None,
        shifts=None,
        noise=0.02,
        accuracy=0.8,
        seed=1,
        labels=True,
        sized=True,
        cold=0.0,
        **record,
    ):
        """Measurements; ``shifts``: (region, attribute, level) -> added to the heat of the level's images."""
        rng = np.random.default_rng(seed)
        plan = a_plan() if plan is None else plan
        images = self.images.copy()
        n = len(images)
        right = rng.random(n) < (
            accuracy
            if np.isscalar(accuracy)
            else np.array([accuracy[t] for t in images["subgroup.tone"]])
        )
        other = np.where(images["label"] == "malignant", "benign", "malignant")
        images["predicted"] = np.where(right, images["label"], other)
        images["correct"] = pd.array(right, dtype="boolean")
        score = np.where(images["predicted"] == "malignant", 1, -1) * rng.uniform(0.02, 0.45, n)
        images["probability.malignant"], images["probability.benign"] = 0.5 + score, 0.5 - score
        images["probability"] = images[["probability.malignant", "probability.benign"]].max(axis=1)
        lost = rng.random(n) < cold
        images["heat_status"] = np.where(lost, "no_positive_evidence", "ok")
        if not labels:
            images["label"], images["correct"] = None, pd.array([None] * n, dtype="boolean")
        tables = []
        for region in REGIONS:
            share = self.own[region] + rng.normal(0, noise, n)
            for (where, attribute, level), by in (shifts or {}).items():
                share = share + by * (
                    (images[f"subgroup.{attribute}"] == level) & (where == region)
                )
            tables.append(pd.DataFrame({
                "image_id": images["image_id"], "method": "gradcam", "target": "predicted", "region": region, "role": ROLES[region],
                "status": images["heat_status"], "reason": np.where(lost, "zero_heat", ""), "heat_share": np.where(lost, np.nan, np.clip(share, 0, 1)),
                "area_share": self.area[region] if sized else 0.2, "mass_lift": 1.0, "pointing_game": 1.0,
            }))  # fmt: skip
        table = pd.concat(tables, ignore_index=True)
        if rows is not None:
            images = images.loc[rows].reset_index(drop=True)
            table = table.loc[table["image_id"].isin(images["image_id"])].reset_index(drop=True)
        run = run_file(
            plan=plan.model_dump(mode="json"),
            identity={"manifest": "made up", "seed": str(seed)},
            rows=n,
            **record,
        )
        return Measurements(table, images, None, run)


def cell(comparison, attribute, group="", region="ruler", reference=None):
    """The one record of a planned comparison."""
    found = [
        c for c in comparison.document.cells
        if (c.attribute, c.group, c.region) == (attribute, group, region) and reference in (None, c.reference)
    ]  # fmt: skip
    assert len(found) == 1, [
        (c.attribute, c.comparison, c.group, c.reference, c.region)
        for c in comparison.document.cells
    ]
    return found[0]
