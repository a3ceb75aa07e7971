"""The AUC on scores: placement values, the variance with clustered images, the interval.

Scores, flags of the positive images and cluster codes come in, (n,) each; numbers go out.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from gradaudit.performance.intervals import Array, distinct, wilson


def obuchowski_variance(score: Array, positive: Array, cluster: Array) -> float | None:
    """Variance of the AUC with clustered images; DeLong's where every cluster holds one image.

    score : (n,) float
    positive : (n,) bool
    cluster : (n,) ints from 0
    returns : None with fewer than two clusters on either side

    Source: Obuchowski 1997, Biometrics 53:567, eqs 3 to 6 (S10, S01, S11).
    """
    theta, placement = placements(score, positive)
    m, n = int(positive.sum()), int((~positive).sum())
    with_positive = distinct(cluster[positive])
    with_negative = distinct(cluster[~positive])
    if with_positive < 2 or with_negative < 2:
        return None
    size = distinct(cluster)
    x = np.bincount(cluster, weights=np.where(positive, placement - theta, 0.0))
    y = np.bincount(cluster, weights=np.where(positive, 0.0, placement - theta))
    s10 = with_positive / ((with_positive - 1) * m) * np.sum(x**2)
    s01 = with_negative / ((with_negative - 1) * n) * np.sum(y**2)
    s11 = size / (size - 1) * np.sum(x * y)
    return max(0.0, float(s10 / m + s01 / n + 2 * s11 / (m * n)))


def placements(score: Array, positive: Array) -> tuple[float, Array]:
    """AUC, and each image's placement.

    The placement is the share of the other class that the image is ranked correctly against.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    overall = stats.rankdata(score)
    placement = np.empty(len(score))
    placement[positive] = (overall[positive] - stats.rankdata(score[positive])) / n
    placement[~positive] = 1 - (overall[~positive] - stats.rankdata(score[~positive])) / m
    return float(placement[positive].mean()), placement


def auc_influence(score: Array, positive: Array) -> tuple[float, Array]:
    """AUC, and the influence of each image on it, (n,)."""
    theta, placement = placements(score, positive)
    return theta, (placement - theta) / np.where(positive, positive.sum(), (~positive).sum())


def auc_interval(
    value: float, positive: Array, score: Array, cluster: Array, alpha: float
) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval for the AUC.

    The variance gives the effective size; the class with fewer clusters gives the degrees of
    freedom. At 0 and 1, where the variance is 0, the effective size is the number of clusters of
    that class.
    """
    variance = obuchowski_variance(score, positive, cluster)
    if variance is None:
        return None, None
    scarcer = min(distinct(cluster[positive]), distinct(cluster[~positive]))
    size = (
        min(float(len(score)), value * (1 - value) / variance) if variance > 0 else float(scarcer)
    )
    return wilson(value, max(size, 1.0), scarcer - 1, alpha)
