"""Measurements that are small enough to be counted by hand."""

import numpy as np
import pandas as pd

from gradaudit.plan import Plan
from gradaudit.runs.measurements import Measurements
from tests.run_files import run_file

OPEN = Plan(privacy={"min_cell": 1})


def row(image, region="lesion", share=0.5, area=0.1, status="ok", reason="", hit=1.0):
    return {
        "image_id": image, "method": "gradcam", "target": "predicted", "region": region, "role": "attend", "status": status, "reason": reason,
        "heat_share": share, "area_share": area, "mass_lift": share / area if area else np.nan, "pointing_game": hit,
    }  # fmt: skip


def image(
    name,
    cluster,
    tone,
    label="benign",
    predicted="benign",
    status="ok",
    reason="",
    heat="ok",
    probability=0.8,
):
    known = label is not None and status == "ok"
    return {
        "image_id": name, "path": f"{name}.png", "label": label, "predicted": predicted if status == "ok" else None, "probability": probability,
        "correct": label == predicted if known else None, "cluster": cluster, "status": status, "reason": reason, "heat_status": heat,
        "subgroup.tone": tone, "probability.benign": 0.7, "probability.malignant": 0.3,
    }  # fmt: skip


def by_hand(maps=None):
    """Seven images: two of one patient, one unreadable, one without heat, one without the lesion, one of unknown tone."""
    images = pd.DataFrame([
        image("a1", "p1", "light"), image("a2", "p1", "light", label="malignant"), image("b", "p2", "light"),
        image("broken", "p3", "dark", status="failed", reason="truncated", heat="not_measured", probability=np.nan),
        image("cold", "p4", "dark", heat="no_positive_evidence"), image("bare", "p5", "dark"), image("who", "p6", None, label=None),
    ])  # fmt: skip
    images["correct"] = images["correct"].astype("boolean")
    table = pd.DataFrame([
        row("a1", share=0.2), row("a2", share=0.4, hit=0.0), row("b", share=0.9), row("broken", share=np.nan, area=np.nan, status="not_measured"),
        row("cold", share=np.nan, status="no_positive_evidence", reason="zero_heat", hit=np.nan),
        row("bare", share=np.nan, area=0.0, reason="empty_mask", hit=np.nan), row("who", share=0.1),
    ])  # fmt: skip
    return Measurements(
        table,
        images,
        maps,
        run_file(),
    )


# ── checks and limits ───────────────────────────────────────────────────────────────────────────────────────────────


def sample(
    n,
    rng,
    regions=("lesion", "ruler"),
    levels=("I", "II", "III"),
    per_cluster=2,
    failing=0.02,
    cold=0.03,
):
    cluster = np.sort(rng.integers(0, max(1, n // per_cluster), n))
    tone = np.array(levels, dtype=object)[rng.integers(0, len(levels), cluster.max() + 1)[cluster]]
    readable, hot = rng.random(n) >= failing, rng.random(n) >= cold
    label = np.where(rng.random(n) < 0.4, "malignant", "benign").astype(object)
    score = np.clip(
        np.where(label == "malignant", 0.6, 0.4) + 0.2 * rng.standard_normal(n), 0.01, 0.99
    )
    predicted = np.where(score > 0.5, "malignant", "benign").astype(object)
    images = pd.DataFrame({
        "image_id": [f"i{k}" for k in range(n)], "path": [f"{k}.png" for k in range(n)], "label": label,
        "predicted": np.where(readable, predicted, None),
        "probability": np.where(readable, np.maximum(score, 1 - score), np.nan), "correct": pd.array(label == predicted, dtype="boolean"),
        "cluster": [f"c{k}" for k in cluster], "status": np.where(readable, "ok", "failed"), "reason": np.where(readable, "", "unreadable"),
        "heat_status": np.where(readable, np.where(hot, "ok", "no_positive_evidence"), "not_measured"), "subgroup.tone": tone,
        "probability.benign": np.where(readable, 1 - score, np.nan), "probability.malignant": np.where(readable, score, np.nan),
    })  # fmt: skip
    images.loc[~readable, "correct"] = pd.NA
    r = len(regions)
    there = (rng.random(n * r) < 0.7) | (np.tile(np.arange(r), n) == 0)
    good = np.repeat(readable & hot, r) & there
    table = pd.DataFrame({
        "image_id": np.repeat(images["image_id"].to_numpy(), r), "method": "gradcam", "target": "predicted", "region": np.tile(regions, n),
        "role": "avoid",
        "status": np.repeat(images["heat_status"].to_numpy(), r), "reason": np.where(there, np.where(good, "", "zero_heat"), "empty_mask"),
        "heat_share": np.where(good, rng.beta(2, 5, n * r), np.nan),
        "area_share": np.where(np.repeat(readable, r), there * rng.uniform(0.05, 0.2, n * r), np.nan),
        "mass_lift": np.where(good, 1.5, np.nan), "pointing_game": np.where(good, (rng.random(n * r) < 0.5) * 1.0, np.nan),
    })  # fmt: skip
    return Measurements(
        table,
        images,
        None,
        run_file(),
    )
