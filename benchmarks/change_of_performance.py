"""Does the interval of a change in performance hold the truth, and is one shown where there is none?

    python benchmarks/change_of_performance.py               # writes reports/change_of_performance.json
    python benchmarks/change_of_performance.py 200

Patients with several images, a classifier whose scores of one patient hang together, before and after; the same patients,
others, or half of them.  The truth of each figure is its value over two hundred thousand patients.
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradaudit.performance.differences import mover_difference
from gradaudit.performance.intervals import Figure
from gradaudit.performance.metrics import FIGURES, Predictions

ROOT = Path(__file__).parents[1]
ALPHA = 0.05
OVERLAPS = {
    "paired": (0.0, 1.0, 0.0),
    "unpaired": (0.5, 0.0, 0.5),
    "half shared": (0.25, 0.5, 0.25),
}
SETTINGS = {  # patients, strength of the classifier before and after, share of positives
    "same model": (150, 1.5, 1.5, 0.5), "better model": (150, 1.0, 1.8, 0.5), "40 patients": (40, 1.5, 1.5, 0.5),
    "nearly all right": (150, 4.0, 4.0, 0.5), "few positives": (200, 1.5, 1.5, 0.15),
}  # fmt: skip


def scored(
    patients: np.ndarray,
    label: np.ndarray,
    own: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> Predictions:
    """Predictions of images whose scores hang together within patients."""
    logit = strength * (2 * label - 1) + 0.8 * own[patients] + 1.2 * rng.standard_normal(len(label))
    p = 1 / (1 + np.exp(-logit))
    called = (p > 0.5).astype(int)
    cluster = np.unique(patients, return_inverse=True)[1]
    return Predictions(
        ("no", "yes"),
        label,
        called,
        (called == label) * 1.0,
        np.column_stack([1 - p, p]),
        cluster,
        1,
        "",
    )


def figure(name: str, data: Predictions, patients: np.ndarray, count: int) -> Figure:
    found = FIGURES[name](data, ALPHA)
    if found.influence is None:
        return found
    return replace(found, influence=np.bincount(patients, found.influence, minlength=count))


def one(
    n: int,
    strengths: tuple[float, float],
    share: float,
    kept: tuple[float, float, float],
    rng: np.random.Generator,
) -> list:
    """(predictions, patients) before and after."""
    own = rng.standard_normal(n)
    where = rng.choice(3, n, p=kept)
    images = rng.integers(1, 4, n)
    label = [(rng.random(k) < share).astype(int) for k in images]
    out = []
    for later, strength in enumerate(strengths):
        inside = np.flatnonzero(where != (0 if later else 2))
        patients = np.repeat(inside, images[inside])
        truth = np.concatenate([label[i] for i in inside])
        out.append((scored(patients, truth, own, strength, rng), patients))
    return out


def main(replicates: int = 1000) -> None:
    result: dict[str, dict[str, float]] = {}
    for setting, (n, before, after, share) in SETTINGS.items():
        rng = np.random.default_rng(zlib.crc32(setting.encode()))
        many = one(200_000, (before, after), share, (0.0, 1.0, 0.0), rng)
        truth = {
            m: FIGURES[m](many[1][0], ALPHA).estimate - FIGURES[m](many[0][0], ALPHA).estimate
            for m in FIGURES
        }
        for overlap, kept in OVERLAPS.items():
            held, shown, known = (dict.fromkeys(FIGURES, 0) for _ in range(3))
            for _ in range(replicates):
                pair = one(n, (before, after), share, kept, rng)
                for m in FIGURES:
                    a, b = (figure(m, data, patients, n) for data, patients in pair)
                    _, low, high = mover_difference(b, a)
                    if low is not None and high is not None:
                        known[m] += 1
                        held[m] += low <= truth[m] <= high
                        shown[m] += low > 0 or high < 0
            result |= {
                f"{setting}, {overlap}, {m}": {"coverage": held[m] / known[m], "shown": shown[m] / known[m], "known": known[m]}
                for m in FIGURES if known[m]
            }  # fmt: skip
            print(
                setting,
                overlap,
                {m: round(100 * held[m] / max(known[m], 1), 1) for m in FIGURES},
                flush=True,
            )
    (ROOT / "reports" / "change_of_performance.json").write_text(
        json.dumps(result, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
