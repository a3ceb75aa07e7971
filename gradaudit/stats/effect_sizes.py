"""Effect sizes beside the difference, intervals of a mean, and shrinkage for display."""

from __future__ import annotations

import numpy as np
from scipy import special

from gradaudit.stats.family import STATISTICS, Floats


@STATISTICS.register(
    label="ratio of adjusted means",
    summary="How many times as large the group's adjusted mean is as the reference's.",
    formula="exp(ln m_g − ln m_r ± q·SE),  SE² = aᵀVa,  a = (1/m_g, −1/m_r)",
    source="delta method on the log scale: Hedges, Gurevitch & Curtis 1999, Ecology 80:1150",
)
def ratio_of_means(means: Floats, covariance: Floats, q: float) -> tuple[float, float, float]:
    """Ratio means[0] / means[1] with its interval; NaN where a mean is not positive.

    covariance : (2, 2) of the means
    q : critical value of the interval
    """
    if not np.all(means > 0) or not np.isfinite(q):
        return float("nan"), float("nan"), float("nan")
    slope = np.array([1 / means[0], -1 / means[1]])
    half = q * float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
    log_ratio = float(np.log(means[0] / means[1]))
    if half > 50:  # a ratio known to no better than e^50 is not known
        return float(np.exp(log_ratio)), float("nan"), float("nan")
    return (
        float(np.exp(log_ratio)),
        float(np.exp(log_ratio - half)),
        float(np.exp(log_ratio + half)),
    )


@STATISTICS.register(
    label="Cliff's delta",
    summary="Chance that a patient of the group lies above one of the reference, minus the reverse, after adjustment.",
    formula="δ = P(a > b) − P(a < b)",
    range="-1 to 1; probability of superiority = (δ + 1)/2",
    source="Cliff 1993, Psychol. Bull. 114:494",
)
def cliffs_delta(a: Floats, b: Floats) -> float:
    """Cliff's delta of two samples, ties counted half; NaN where one is empty."""
    if len(a) == 0 or len(b) == 0:
        return float("nan")
    ordered, others = np.sort(a), np.sort(b)
    below = np.searchsorted(others, ordered, side="left").sum()
    not_above = np.searchsorted(others, ordered, side="right").sum()
    return float((below + not_above) / (len(a) * len(b)) - 1)


@STATISTICS.register(
    label="t interval of a mean",
    summary="Mean of patient means with its Student interval (descriptive).",
    formula="ȳ ± t_{.975, n−1}·s/√n",
    source="Student 1908, Biometrika 6:1",
)
def mean_interval(values: Floats, alpha: float = 0.05) -> tuple[float, float, float]:
    """Mean and its t interval; NaN limits below two values, NaN mean below one."""
    n = len(values)
    if n == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(np.mean(values))
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(special.stdtrit(n - 1, 1 - alpha / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


@STATISTICS.register(
    label="shrunken difference",
    summary="Estimate pulled towards the common mean in proportion to its uncertainty; for display of small cells only.",
    formula="m + (d_c − m)·τ²/(τ² + SE_c²), τ² by DerSimonian-Laird",
    source="Efron & Morris 1975, JASA 70:311; DerSimonian & Laird 1986",
)
def shrunken(estimates: Floats, ses: Floats) -> Floats:
    """Empirical-Bayes estimates of exchangeable cells, (c,).

    Unchanged where fewer than three cells are known.
    """
    known = np.isfinite(estimates) & np.isfinite(ses) & (ses > 0)
    if known.sum() < 3:
        return estimates.copy()
    d, weight = estimates[known], 1 / ses[known] ** 2
    center = float(np.sum(weight * d) / np.sum(weight))
    excess = float(np.sum(weight * (d - center) ** 2)) - (len(d) - 1)
    tau2 = max(0.0, excess / float(np.sum(weight) - np.sum(weight**2) / np.sum(weight)))
    out = estimates.copy()
    out[known] = center + (d - center) * tau2 / (tau2 + ses[known] ** 2)
    return out


def mode_share(values: Floats) -> float:
    """Share of the most frequent value (equal to 12 decimals): 1 for a constant, NaN for no value.

    About 0 for continuous values.
    """
    if len(values) == 0:
        return float("nan")
    ordered = np.sort(np.round(values, 12))
    edges = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    return float(np.max(np.diff(edges)) / len(values))


def squared_error_of_mean(
    interval: tuple[float, float, float], count: int, alpha: float = 0.05
) -> float:
    """s^2 / n, from a mean's t interval; NaN below two values.

    interval : as ``mean_interval`` returns it, of ``count`` values
    """
    if count < 2:
        return float("nan")
    half = (interval[2] - interval[1]) / 2
    return float((half / special.stdtrit(count - 1, 1 - alpha / 2)) ** 2)
