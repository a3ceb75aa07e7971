"""A data set with any number of images per level, whose losses fall at random."""

import numpy as np
import pandas as pd

from gradaudit.records import UNKNOWN
from gradaudit.runs.measurements import Measurements
from tests.run_files import run_file

REGIONS = ("lesion", "ruler")


def planted(
    sizes, seed, fail=0.02, cold=0.03, absent=0.3, unlabelled=0.01, images_per_cluster=1, rare=0.4
):
    """A data set with the given number of images per level; regions, labels and failures fall at random."""
    rng = np.random.default_rng(seed)
    level = np.concatenate([[name] * n for name, n in sizes.items()]).astype(object)
    n = len(level)
    level[level == UNKNOWN] = None
    readable, hot = rng.random(n) >= fail, rng.random(n) >= cold
    label = np.where(rng.random(n) < rare, "malignant", "benign").astype(object)
    label[rng.random(n) < unlabelled] = None
    score = np.clip(
        np.where(label == "malignant", 0.6, 0.4) + 0.2 * rng.standard_normal(n), 0.01, 0.99
    )
    predicted = np.where(score > 0.5, "malignant", "benign").astype(object)
    correct = [
        bool(a == b) if r and a is not None else None
        for a, b, r in zip(label, predicted, readable, strict=True)
    ]
    ids = np.array([f"i{k}" for k in range(n)], dtype=object)
    images = pd.DataFrame({
        "image_id": ids, "path": ids, "label": label, "predicted": np.where(readable, predicted, None),
        "probability": np.where(readable, score, np.nan), "correct": pd.array(correct, dtype="boolean"),
        "cluster": [f"c{k // images_per_cluster}" for k in range(n)], "status": np.where(readable, "ok", "failed"),
        "reason": np.where(readable, "", "unreadable"), "heat_status": np.where(hot, "ok", "no_positive_evidence"), "subgroup.tone": level,
        "probability.benign": np.where(readable, 1 - score, np.nan), "probability.malignant": np.where(readable, score, np.nan),
    })  # fmt: skip
    there = np.column_stack(
        [rng.random(n) >= (0 if r == 0 else absent) for r in range(len(REGIONS))]
    )
    rows = [
        {
            "image_id": ids[i], "method": "gradcam", "target": "predicted", "region": REGIONS[r], "role": "avoid",
            "status": "ok" if hot[i] else "no_positive_evidence", "reason": "empty_mask" if not there[i, r] else "" if hot[i] else "zero_heat",
            "heat_share": rng.beta(2, 5) if hot[i] and there[i, r] else np.nan, "area_share": rng.uniform(0.05, 0.3) * there[i, r],
            "mass_lift": np.nan, "pointing_game": np.nan,
        }
        for i in range(n) if readable[i] for r in range(len(REGIONS))
    ]  # fmt: skip
    return Measurements(
        pd.DataFrame(rows),
        images,
        None,
        run_file(),
    )
