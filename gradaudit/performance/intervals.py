"""Intervals of a figure for clustered images: clusters (patients) vary, not images.

Per-image influences of a figure and cluster codes come in; a ``Figure`` with an interval goes out.
Each figure is written as a mean of per-image influences, so one formula gives every clustered
variance:

    var = G / (G - 1) * sum over clusters of (sum of influences in the cluster)^2
    (linearization, Taylor series)

Proportions get Wilson's interval with the effective sample size p (1 - p) / var and Student's t on
G - 1 degrees of freedom, the form that Franco, Little, Louis & Slud (2019, J. Surv. Stat. Methodol.
7:334) recommend for clustered samples and that Kott (2017, Surv. Methodol. 43:235) derives; it
stays inside [0, 1] and has a width at 0 % and 100 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Figure:
    """One performance number with its interval.

    influence : (n,) what each image adds to the estimate's error; gives the clustered variance
    reason : why a number is missing, or what the estimate is a mean of
    """

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n_images: int = 0
    n_clusters: int = 0
    reason: str = ""
    influence: Array | None = None


def distinct(codes: Array) -> int:
    """Number of different values; codes are ints from 0, so counting is faster than sorting."""
    return int(np.count_nonzero(np.bincount(codes)))


def clustered_variance(influence: Array, cluster: Array) -> float | None:
    """Variance of an estimate from its per-image influences; None with fewer than two clusters.

    influence : (n,) float, summing to 0
    cluster : (n,) ints from 0

    Source: Binder 1983, Int. Stat. Rev. 51:279 (linearization); the factor G / (G - 1) as in
    Cochran 1977, section 11.3.
    """
    groups = distinct(cluster)
    if groups < 2:
        return None
    return float(groups / (groups - 1) * np.sum(np.bincount(cluster, weights=influence) ** 2))


def wilson_clustered(
    p: float, variance: float | None, cluster: Array, alpha: float = 0.05, times: int = 1
) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval of a proportion, with effective size and Student's t.

    variance : of ``p``, with images clustered
    cluster : (n,) ints, the cluster of each image in the base of the proportion
    times : how often an image counts in the figure (a mean over classes, each against the rest);
        bounds the effective size
    returns : (None, None) with fewer than two clusters

    At 0 % and 100 % (and wherever the variance is 0) the data say nothing about the correlation
    inside clusters, so the worst case is assumed, in which all images of a cluster agree: effective
    size n^2 / sum of squared cluster sizes (Kish 1965, section 5.4, with intra-class correlation
    1).

    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209; Franco et al. 2019, see the top of this file.
    """
    counts = np.bincount(cluster)
    sizes = counts[counts > 0].astype(float)
    if len(sizes) < 2:
        return None, None
    n = float(sizes.sum())
    size = (
        min(times * n, max(p * (1 - p) / variance, 1.0))
        if variance and 0 < p < 1
        else n**2 / float(np.sum(sizes**2))
    )
    return wilson(p, size, len(sizes) - 1, alpha)


def wilson(p: float, size: float, df: int, alpha: float) -> tuple[float, float]:
    """Wilson's interval of a proportion of ``size`` images, with Student's t on ``df``."""
    t = float(stats.t.ppf(1 - alpha / 2, df))
    center = (p + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t / (1 + t**2 / size) * float(np.sqrt(p * (1 - p) / size + t**2 / (4 * size**2)))
    # the bounds meet p at 0 and 1; rounding must not carry them past it
    return max(0.0, min(center - half, p)), min(1.0, max(center + half, p))


def proportion(hits: Array, base: Array, cluster: Array, alpha: float, empty: str) -> Figure:
    """Share of the ``base`` images with a hit; ``empty`` is the reason if there are none."""
    n = int(base.sum())
    if n == 0:
        return Figure(reason=empty)
    p = float(hits[base].mean())
    influence = np.where(base, (hits - p) / n, 0.0)
    return bounded(p, influence, base, cluster, alpha)


def bounded(
    p: float,
    influence: Array,
    base: Array,
    cluster: Array,
    alpha: float,
    reason: str = "",
    times: int = 1,
) -> Figure:
    """A figure between 0 and 1 with Wilson's interval; ``base``: the images it is a share of."""
    members = cluster[base]
    variance = clustered_variance(influence[base], members)
    low, high = wilson_clustered(p, variance, members, alpha, times)
    return Figure(
        estimate=p,
        low=low,
        high=high,
        n_images=int(base.sum()),
        n_clusters=distinct(members),
        reason=reason or one_cluster(low),
        influence=influence,
    )


def symmetric(
    value: float,
    influence: Array,
    cluster: Array,
    alpha: float,
    limits: tuple[float, float],
    reason: str = "",
) -> Figure:
    """A figure with Student's interval, cut at the smallest and the largest possible value."""
    groups, variance = distinct(cluster), clustered_variance(influence, cluster)
    figure = Figure(value, None, None, len(cluster), groups, reason, influence)
    if variance is None:
        return replace(figure, reason=one_cluster(None))
    half = float(stats.t.ppf(1 - alpha / 2, groups - 1) * np.sqrt(variance))
    least, most = limits
    return replace(figure, low=max(least, value - half), high=min(most, value + half))


def one_cluster(low: float | None) -> str:
    """The reason of a figure whose interval has no lower limit."""
    return "one cluster only: no interval" if low is None else ""
