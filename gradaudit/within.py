"""Comparisons within patients and pairs: one difference per patient, tested by flipping the signs of its residuals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from gradaudit import stats
from gradaudit.analysed_rows import AnalysedRows
from gradaudit.between import ONE_VALUE, collapse, comparisons_of, percentile_names
from gradaudit.contrasts import NO_MEAN, Bools, Contrast, Hypothesis, Kind, Patients, Settings, estimate_all, guard
from gradaudit.stats import Floats


def within_contrasts(rows: AnalysedRows, ask: Settings) -> list[Contrast]:
    """Each comparison as one difference per patient, adjusted by the same difference of every covariate column."""
    out = []
    for level, base in [] if ask.continuous else comparisons_of(rows.codes, rows.levels, ask.reference):
        a = rows.codes == level
        b = ~a if base is None else rows.codes == base
        per_a, per_b = (np.bincount(rows.blocks, weights=side, minlength=int(rows.blocks.max()) + 1) for side in (a, b))
        both = ((per_a > 0) & (per_b > 0))[rows.blocks]
        functional = np.where(both, a / np.maximum(per_a, 1)[rows.blocks] - b / np.maximum(per_b, 1)[rows.blocks], 0.0)
        names = rows.levels[level], "rest" if base is None else rows.levels[base]
        out.append(_one_sample(rows, functional, "level", names, (a & both, b & both), ask))
    if (ask.continuous or (ask.order is not None and len(out) > 1)) and len(rows.x) and np.ptp(rows.x) > 0:
        out.append(_within_slope(rows, ask))
    return out


def _within_slope(rows: AnalysedRows, ask: Settings) -> Contrast:
    """Mean of the patients' own slopes; patients whose x hardly varies (under a quarter of the median spread) are left out."""
    low, high = (np.quantile(rows.x, [0.1, 0.9])) if ask.continuous else (rows.x.min(), rows.x.max())
    names = percentile_names(low, high) if ask.continuous else (rows.levels[int(high)], rows.levels[int(low)])
    blocks = int(rows.blocks.max()) + 1
    centred = rows.x - stats.cluster_means(rows.x, rows.blocks, blocks)[rows.blocks]
    spread = np.bincount(rows.blocks, weights=centred**2, minlength=blocks)
    enough = spread > 0.25 * np.median(spread[spread > 0]) if (spread > 0).any() else spread > 0
    functional = np.where(enough[rows.blocks], (high - low) * centred / np.where(enough, spread, 1.0)[rows.blocks], 0.0)
    kind: Kind = "continuous" if ask.continuous else "trend"
    slope = _one_sample(rows, functional, kind, names, None, ask)
    return replace(slope, reason=ONE_VALUE, provisional=False) if low == high else slope


def _one_sample(
    rows: AnalysedRows, functional: Floats, kind: Kind, names: tuple[str, str], sides: tuple[Bools, Bools] | None, ask: Settings
) -> Contrast:
    """Mean over patients of sum_i functional_i y_i within blocks, tested by flipping the signs of its residuals."""
    blocks = int(rows.blocks.max()) + 1
    used = np.bincount(rows.blocks, weights=np.abs(functional), minlength=blocks) > 0
    sums = np.column_stack([np.bincount(rows.blocks, weights=functional * col, minlength=blocks) for col in (rows.y, *rows.z.T)])[used]
    owner = np.empty(blocks, dtype=np.int64)
    owner[rows.blocks] = rows.clusters
    clusters = pd.factorize(owner[used])[0]
    n = int(clusters.max()) + 1 if len(clusters) else 0
    difference = stats.cluster_means(sums, clusters, n) if n else np.empty((0, sums.shape[1]))
    noise = 1e-12 * np.abs(rows.z).max(axis=0, initial=1e-300)
    z = np.where(np.abs(difference[:, 1:]) < noise, 0.0, difference[:, 1:])
    reason, provisional, analytic = guard(stats.mode_share(difference[:, 0]), n, n)
    facts = [_side(rows, side, ask.alpha) for side in sides or (used[rows.blocks], np.zeros(len(rows.y), dtype=bool))]
    shell = Contrast(kind, *names, facts[0][0], facts[0][1], facts[1][0], facts[1][1], facts[0][2] if sides else NO_MEAN, facts[1][2],
                     reason=reason, provisional=provisional, notes=(f"differences within {n} {'pairs' if ask.paired else 'clusters'}",))  # fmt: skip
    if reason:
        return shell
    patients = Patients(difference[:, 0], np.zeros(n, dtype=np.int64), np.zeros(n), None, z, np.ones(n, dtype=np.int64))
    hypothesis = Hypothesis(shell, np.ones(1), np.zeros(z.shape[1]), None, analytic)
    return estimate_all(patients, patients.codes, z, [hypothesis], ask, flip=True)[0]


def _side(rows: AnalysedRows, side: Bools, alpha: float) -> tuple[int, int, tuple[float, float, float]]:
    """Images, patients and mean of patient means on one side of a within-patient comparison."""
    if not side.any():
        return 0, 0, NO_MEAN
    patients = collapse(rows.keep(side))
    return int(side.sum()), len(patients.y), stats.mean_interval(patients.y, alpha)
