"""Labels, predictions and probabilities of a mediocre classifier, and its performance table."""

import numpy as np
import pandas as pd

from gradaudit.performance.metrics import Predictions
from gradaudit.performance.table import performance_table
from gradaudit.plan import Plan
from gradaudit.runs.measurements import Measurements
from tests.run_files import run_file


def measurements(
    n=400, classes=("benign", "malignant"), seed=0, groups=("a", "b", "c"), per_cluster=3
):
    """Labels, predictions and probabilities of a mediocre classifier; no heat."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(classes), n)
    logits = rng.standard_normal((n, len(classes))) + 1.2 * (
        label[:, None] == np.arange(len(classes))
    )
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cluster = rng.integers(0, max(1, n // per_cluster), n)
    names = np.array(classes, dtype=object)
    images = pd.DataFrame({
        "image_id": [f"i{k}" for k in range(n)], "path": [f"{k}.png" for k in range(n)], "label": names[label], "predicted": names[p.argmax(axis=1)],
        "probability": p.max(axis=1), "correct": pd.array(label == p.argmax(axis=1), dtype="boolean"), "cluster": [f"c{k}" for k in cluster],
        "status": "ok", "reason": "", "subgroup.site": np.array(groups, dtype=object)[rng.integers(0, len(groups), n)],
    })  # fmt: skip
    for k, name in enumerate(classes):
        images[f"probability.{name}"] = p[:, k]
    return Measurements(pd.DataFrame(), images, None, run_file(classes=classes))


def table_of(meas, plan=None, reference="rest"):
    levels = meas.images["subgroup.site"]
    groups = {
        "site": pd.Series(pd.Categorical(levels, categories=sorted(levels.unique()), ordered=True))
    }
    rows = performance_table(meas, plan or Plan(), groups, {"site": reference})
    return {(r.level, r.metric): r for r in rows}


def data_of(label, score, cluster, positive=1):
    label, score = np.asarray(label), np.asarray(score, dtype=float)
    p = np.column_stack([1 - score, score])
    guess = p.argmax(axis=1)
    return Predictions(
        ("0", "1"), label, guess, (label == guess) * 1.0, p, np.asarray(cluster), positive, ""
    )
