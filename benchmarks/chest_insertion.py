"""Does the burned-in text A-P raise the score of pneumonia?  Pasted onto eight normal chest x-rays, beside its sham; and removed from four.

    python data_manifests/chest/prepare.py       # once; needs pip install 'gradaudit[keras]'
    python benchmarks/chest_insertion.py         # four minutes; writes reports/chest_insertion.json

Every donor (four x-rays that bear the text, of three patients) is pasted onto every normal x-ray (eight, of eight patients), at the
network's 150 x 150 pixels and where the text lies in the donor.  The unit is the normal x-ray: its donors are averaged first.  The sham is
the same patch with the text filled from its surroundings in the donor, the letter R left out.  p is the exact two-sided sign test over the eight.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
from scipy.stats import binomtest  # noqa: E402

import gradaudit as ga  # noqa: E402
from gradaudit.checks.fills import filled, surroundings, widened  # noqa: E402
from gradaudit.checks.insertion import region_insertion  # noqa: E402
from gradaudit.measurement.batches import load_batch  # noqa: E402
from gradaudit.workflows.audit import classifier_of  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CHEST = ROOT / "data_manifests" / "chest"
STORE = ROOT / "reports" / "chest_insertion.json"
FILLS = ("ring", "mean")
SEEDS = range(10)


@dataclass(frozen=True)
class Xrays:
    """Preprocessed x-rays (N, C, H, W), which of them are normal, and where A-P and R lie, (N, H, W)."""

    images: np.ndarray
    normal: np.ndarray
    texts: np.ndarray
    letters: np.ndarray

    @property
    def held(self) -> np.ndarray:
        """Which of them bear A-P."""
        found: np.ndarray = self.texts.any((1, 2))
        return found


def loaded(clf: ga.Classifier, plan: ga.Plan) -> Xrays:
    manifest = ga.read_manifest(CHEST / "build" / "manifest.csv", plan)
    batch = load_batch(manifest.samples, manifest.root, clf.preprocess, plan, ("A-P_text", "letter_R"))  # fmt: skip
    normal = np.array([sample.label == "NORMAL" for sample in batch.samples])
    xrays = Xrays(batch.images.numpy(), normal, *batch.masks.numpy().swapaxes(0, 1))
    if (normal.sum(), xrays.held.sum(), (normal & xrays.held).sum()) != (8, 4, 0):
        sys.exit("These are not the sixteen x-rays that the figures are about.")
    return xrays


def insertion(clf: ga.Classifier, xrays: Xrays, fill: str) -> dict[str, Any]:
    """Every donor pasted onto every normal x-ray, averaged over donors (and seeds of the ring) before anything is counted."""
    parts = []
    for donor, seed in product(range(4), SEEDS if fill == "ring" else (0,)):
        found = region_insertion(
            clf, xrays.images[xrays.normal], xrays.images[xrays.held], xrays.texts[xrays.held], taken=xrays.letters[xrays.held],
            donors_of=[donor] * 8, fill=fill, positive="PNEUMONIA", seed=seed,
        )  # fmt: skip
        parts.append(
            found.assign(
                flipped=found["flipped"].astype(float),
                flipped_sham=found["flipped_sham"].astype(float),
            )
        )
    rows = pd.concat(parts)
    if (rows["status"] != "ok").any():
        sys.exit(f"Some could not be pasted: {set(rows['reason'])}")
    each = rows.groupby("n").mean(numeric_only=True)
    return {
        "pasted": told(each["signed"] + each["signed_sham"]), "sham": told(each["signed_sham"]),
        "net": told(each["signed"]), "net_logit": told(each["logit"]),
        **{name: round(float(each[name].mean()), 4) for name in ("tv", "tv_sham", "effect", "flipped", "flipped_sham")},
        "net_of_each_donor": rows.groupby("donor")["signed"].mean().round(4).tolist(), "rows": len(rows),
    }  # fmt: skip


def told(values: pd.Series) -> dict[str, Any]:
    """The mean over the eight x-rays, in how many it is a rise, and the sign test."""
    rises = int((values > 0).sum())
    figures = {"mean": values.mean(), "lowest": values.min(), "highest": values.max(), "p": binomtest(rises, len(values)).pvalue}  # fmt: skip
    return {"rises": rises, "of": len(values)} | {name: round(float(v), 4) for name, v in figures.items()}  # fmt: skip


def removal(clf: ga.Classifier, xrays: Xrays, fill: str) -> dict[str, Any]:
    """Change of the probability where A-P is filled in the four x-rays that bear it, without a control."""
    each = []
    for image, text, letter in zip(
        *(a[xrays.held] for a in (xrays.images, xrays.texts, xrays.letters)), strict=True
    ):
        goes = widened(text) & ~(letter > 0)
        source = surroundings(goes, ~(goes | (letter > 0)))
        if source is None:
            sys.exit("A text covers a whole x-ray.")
        gone = [filled(image, goes, source, fill, np.random.default_rng(seed)) for seed in SEEDS]
        before, *after = probabilities(clf, np.stack([image, *gone]))
        each.append(float(np.abs(np.array(after) - before).mean()))
    return {"tv": round(float(np.mean(each)), 4), "largest_tv": round(max(each), 4)}


def probabilities(clf: ga.Classifier, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = clf.module(torch.from_numpy(images)).double().softmax(1)[:, 1].numpy()
    return logits


def main() -> None:
    if not (CHEST / "build" / "manifest.csv").exists():
        sys.exit("data_manifests/chest/build is missing: run data_manifests/chest/prepare.py first")
    plan = ga.read_plan(CHEST / "audit.toml")
    clf = classifier_of(plan, CHEST)
    xrays = loaded(clf, plan)
    before = probabilities(clf, xrays.images)
    found = {
        "conditions": "8 normal x-rays, 4 donors of 3 patients, 150 x 150 pixels; ring: mean of 10 seeds; sign test over the 8",
        "probability_before": {"normal": round(float(before[xrays.normal].mean()), 4), "donors": round(float(before[xrays.held].mean()), 4)},
        "insertion": {fill: insertion(clf, xrays, fill) for fill in FILLS},
        "removal": {fill: removal(clf, xrays, fill) for fill in FILLS},
    }  # fmt: skip
    STORE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
