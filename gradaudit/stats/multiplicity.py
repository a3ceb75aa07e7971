"""Many tests at once: Holm, Benjamini-Hochberg, and the largest t of a family."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gradaudit.stats.family import STATISTICS, Floats
from gradaudit.stats.permutation import p_value


@STATISTICS.register(
    label="Holm",
    summary="Keeps the chance of any false verdict among the confirmatory contrasts at alpha.",
    formula="p̃_(i) = max over j ≤ i of min(1, (m − j + 1)·p_(j)), smallest p first",
    source="Holm 1979, Scand. J. Statist. 6:65",
)
def holm(p: ArrayLike) -> Floats:
    """Holm-adjusted p-values; NaN entries stay NaN and do not count.

    By hand because statsmodels' multipletests runs a full garbage collection per call (75 ms); a
    test holds them equal.
    """
    given = np.asarray(p, dtype=np.float64)
    out, known = np.full(given.shape, np.nan), np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1.0)
    return out


@STATISTICS.register(
    label="Benjamini-Hochberg",
    summary="Keeps the expected share of false signals among exploratory signals at alpha.",
    formula="p̃_(i) = min over j ≥ i of min(1, p_(j)·m/j), smallest p first",
    source="Benjamini & Hochberg 1995, J. R. Statist. Soc. B 57:289 (scipy false_discovery_control)",
)
def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Benjamini-Hochberg adjusted p-values; NaN entries stay NaN and do not count."""
    given = np.asarray(p, dtype=np.float64)
    out, known = np.full(given.shape, np.nan), np.isfinite(given)
    if known.any():
        out[known] = stats.false_discovery_control(given[known])
    return out


@STATISTICS.register(
    name="max_t",
    label="max-T",
    summary="Family-wise p from the largest |t*| of each permutation: uses the dependence between contrasts.",
    formula="p_(k) = max over i ≤ k of (1 + #{max_{j ≥ i} |t*_(j)| ≥ |t_(i)|}) / (B + 1), largest |t| first",
    source="Westfall & Young 1993, Resampling-Based Multiple Testing, alg. 2.8",
    caveat="Only where every group has at least 40 patients.",
    needs='disparity(correction="max-t")',
)
def max_t(statistics: Floats, reference: Floats) -> Floats:
    """Step-down max-T adjusted p-values, (k,).

    statistics : (k,) of |t|
    reference : (B, k) of |t*| over shared permutations
    """
    order = np.argsort(-statistics, kind="stable")
    steps = [
        p_value(float(statistics[j]), reference[:, order[i:]].max(axis=1))
        for i, j in enumerate(order)
    ]
    out = np.empty(len(statistics))
    out[order] = np.maximum.accumulate(steps) if len(steps) else steps
    return out
