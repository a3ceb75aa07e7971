"""Figures of merit: how well the classifier does on a set of images, each figure with an interval
that lets clusters vary.

Point estimates are over images, as everywhere else; intervals let the cluster (patient) vary, not
the image.  Each figure is written as a mean of per-image influences, so one formula gives every
clustered variance:

    var = G / (G - 1) * sum over clusters of (sum of influences in the cluster)^2
    (linearisation, Taylor series)

Proportions then get Wilson's interval with the effective sample size p (1 - p) / var and Student's
t on G - 1 degrees of freedom, the form that Franco, Little, Louis & Slud (2019, J. Surv. Stat.
Methodol. 7:334) recommend for clustered samples and that Kott (2017, Surv. Methodol. 43:235)
derives; it stays inside [0, 1] and has a width at 0 % and 100 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Predictions:
    """Labelled, readable images: class codes of label and prediction, probabilities (n, K) or None,
    cluster codes.
    """

    classes: tuple[str, ...]
    label: Array
    predicted: Array
    correct: Array
    probability: Array | None
    cluster: Array
    positive: int | None
    why_no_positive: str

    def take(self, rows: Array) -> Predictions:
        chosen = None if self.probability is None else self.probability[rows]
        return Predictions(
            self.classes,
            self.label[rows],
            self.predicted[rows],
            self.correct[rows],
            chosen,
            self.cluster[rows],
            self.positive,
            self.why_no_positive,
        )


@dataclass(frozen=True)
class Figure:
    """One estimate with its interval; ``influence`` (one per image given) carries its clustered
    variance.
    """

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n_images: int = 0
    n_clusters: int = 0
    reason: str = ""
    influence: Array | None = None


# ── intervals ─────────────────────────────────────────────────────────────────────────────────────


def distinct(codes: Array) -> int:
    """Number of different values; codes are ints from 0, for which counting beats sorting."""
    return int(np.count_nonzero(np.bincount(codes)))


def clustered_variance(influence: Array, cluster: Array) -> float | None:
    """Variance of an estimate from its per-image influences; None with fewer than two clusters.

    influence : (n,) float, summing to 0      cluster : (n,) ints from 0
    Source: Binder 1983, Int. Stat. Rev. 51:279 (linearisation); the factor G / (G - 1) as in
    Cochran 1977, section 11.3.
    """
    groups = distinct(cluster)
    if groups < 2:
        return None
    return float(groups / (groups - 1) * np.sum(np.bincount(cluster, weights=influence) ** 2))


def wilson_clustered(
    p: float, variance: float | None, cluster: Array, alpha: float = 0.05, times: int = 1
) -> tuple[float, float] | tuple[None, None]:
    """Interval of a proportion ``p`` with clustered ``variance``: Wilson (1927) with effective size
    and Student's t.

    cluster : (n,) ints, the cluster of each image in the base of the proportion.
    times : how often an image counts in the figure (a mean over classes, each against the rest);
        bounds the effective size
    At 0 % and 100 % (and wherever the variance is 0) the data hold no evidence on the correlation
    inside clusters, so the worst case is taken, in which a cluster's images all agree: effective
    size n^2 / sum of squared cluster sizes (Kish 1965, section 5.4, with intra-class correlation
    1).  (None, None) with fewer than two clusters.
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
    return _wilson(p, size, len(sizes) - 1, alpha)


def _wilson(p: float, size: float, df: int, alpha: float) -> tuple[float, float]:
    t = float(stats.t.ppf(1 - alpha / 2, df))
    centre = (p + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t / (1 + t**2 / size) * float(np.sqrt(p * (1 - p) / size + t**2 / (4 * size**2)))
    # the bounds meet p at 0 and 1; rounding must not carry them past it
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def _proportion(hits: Array, base: Array, cluster: Array, alpha: float, empty: str) -> Figure:
    """Share of ``base`` images with a hit; ``empty`` is the reason where there is none."""
    n = int(base.sum())
    if n == 0:
        return Figure(reason=empty)
    p = float(hits[base].mean())
    influence = np.where(base, (hits - p) / n, 0.0)
    return _bounded(p, influence, base, cluster, alpha)


def _bounded(
    p: float,
    influence: Array,
    base: Array,
    cluster: Array,
    alpha: float,
    reason: str = "",
    times: int = 1,
) -> Figure:
    members = cluster[base]
    low, high = wilson_clustered(
        p, clustered_variance(influence[base], members), members, alpha, times
    )
    return Figure(
        p, low, high, int(base.sum()), distinct(members), reason or _one_cluster(low), influence
    )


def _symmetric(
    value: float,
    influence: Array,
    cluster: Array,
    alpha: float,
    least: float,
    most: float,
    reason: str = "",
) -> Figure:
    groups = distinct(cluster)
    variance = clustered_variance(influence, cluster)
    if variance is None:
        return Figure(value, None, None, len(cluster), groups, _one_cluster(None), influence)
    half = float(stats.t.ppf(1 - alpha / 2, groups - 1) * np.sqrt(variance))
    return Figure(
        value,
        max(least, value - half),
        min(most, value + half),
        len(cluster),
        groups,
        reason,
        influence,
    )


def _one_cluster(low: float | None) -> str:
    return "one cluster only: no interval" if low is None else ""


# ── the figures ───────────────────────────────────────────────────────────────────────────────────


def accuracy(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of images whose predicted class is the label: 0 none, 1 all."""
    return _proportion(
        data.correct, np.ones(len(data.label), dtype=bool), data.cluster, alpha, "no labelled image"
    )


def sensitivity(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the positive class that is found; without a positive class the mean over classes
    (balanced accuracy).
    """
    if data.positive is not None:
        hits = (data.predicted == data.positive) * 1.0
        return _proportion(
            hits, data.label == data.positive, data.cluster, alpha, "no image of the positive class"
        )
    return _macro_share(data.label, data.correct, data, alpha)


def specificity(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the other classes' images that are not called positive; else the mean over classes,
    each against the rest.
    """
    if data.positive is not None:
        hits = (data.predicted != data.positive) * 1.0
        return _proportion(
            hits, data.label != data.positive, data.cluster, alpha, "no image of a negative class"
        )
    n, k = len(data.label), len(data.classes)
    count = np.bincount(data.label, minlength=k)
    false_alarms = np.bincount(data.predicted[data.label != data.predicted], minlength=k)
    used = (count > 0) & (count < n)
    if not used.any():
        return Figure(reason="fewer than two classes among the labels")
    rest = np.where(used, n - count, 1)
    fall_out = np.where(used, false_alarms / rest, 0.0)
    # image i belongs to the rest of every class but its own, and is a false alarm of its predicted
    # class if that is wrong
    weight = fall_out / rest
    wrong = data.label != data.predicted
    alarm = np.where(wrong & used[data.predicted], 1.0 / rest[data.predicted], 0.0)
    influence = (
        weight.sum() - np.where(used[data.label], weight[data.label], 0.0) - alarm
    ) / used.sum()
    words, times = (
        _macro(int(used.sum())),
        max(1, int(used.sum()) - 1),
    )  # an image is in the rest of every class but its own
    return _bounded(
        float(1 - fall_out[used].mean()),
        influence,
        np.ones(n, dtype=bool),
        data.cluster,
        alpha,
        words,
        times,
    )


def ppv(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the positive predictions that are right; else the mean over the classes that were
    predicted.
    """
    if data.positive is not None:
        hits = (data.label == data.positive) * 1.0
        return _proportion(
            hits,
            data.predicted == data.positive,
            data.cluster,
            alpha,
            "the positive class was never predicted",
        )
    return _macro_share(data.predicted, (data.label == data.predicted) * 1.0, data, alpha)


def _macro_share(of: Array, hits: Array, data: Predictions, alpha: float) -> Figure:
    """Mean over the classes found in ``of`` of each class's share of hits."""
    if len(of) == 0:
        return Figure(reason="no labelled image")
    count = np.bincount(of, minlength=len(data.classes))
    used = count > 0
    share = np.bincount(of, weights=hits, minlength=len(data.classes)) / np.where(used, count, 1)
    influence = (hits - share[of]) / count[of] / used.sum()
    return _bounded(
        float(share[used].mean()),
        influence,
        np.ones(len(of), dtype=bool),
        data.cluster,
        alpha,
        _macro(int(used.sum())),
    )


def auc(data: Predictions, alpha: float = 0.05) -> Figure:
    """Probability that a random positive image scores above a random negative one (ties one half):
    0.5 chance, 1 perfect.

    Without a positive class: mean over classes, each against the rest.  Variance: placement values
    summed over clusters, which hold positives and negatives alike.  Source: DeLong et al. 1988;
    Obuchowski 1997, Biometrics 53:567.
    """
    if data.probability is None:
        return Figure(reason="probabilities per class were not kept (more than 20 classes)")
    targets = [data.positive] if data.positive is not None else list(range(len(data.classes)))
    parts = []
    for k in targets:
        positive = data.label == k
        if positive.any() and not positive.all():
            parts.append(_one_auc(data.probability[:, k], positive, data.cluster))
    if not parts:
        return Figure(reason="AUC needs images of the positive class and of another")
    value = float(np.mean([part[0] for part in parts]))
    influence = np.mean([part[1] for part in parts], axis=0)
    everything = np.ones(len(data.label), dtype=bool)
    if data.positive is None:
        return _bounded(value, influence, everything, data.cluster, alpha, _macro(len(parts)))
    low, high = _auc_interval(
        value, data.label == data.positive, data.probability[:, data.positive], data.cluster, alpha
    )
    return Figure(
        value, low, high, len(data.label), distinct(data.cluster), _one_cluster(low), influence
    )


def obuchowski_variance(score: Array, positive: Array, cluster: Array) -> float | None:
    """Variance of the AUC with clustered images; equals DeLong's where every cluster holds one
    image.

    score : (n,) float      positive : (n,) bool      cluster : (n,) ints
    None with fewer than two clusters on either side.
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
    """AUC and each image's placement value: the share of the other side that it is ranked right
    against.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    overall = stats.rankdata(score)
    placement = np.empty(len(score))
    placement[positive] = (overall[positive] - stats.rankdata(score[positive])) / n
    placement[~positive] = 1 - (overall[~positive] - stats.rankdata(score[~positive])) / m
    return float(placement[positive].mean()), placement


def _one_auc(score: Array, positive: Array, cluster: Array) -> tuple[float, Array]:
    theta, placement = placements(score, positive)
    return theta, (placement - theta) / np.where(positive, positive.sum(), (~positive).sum())


def _auc_interval(
    value: float, positive: Array, score: Array, cluster: Array, alpha: float
) -> tuple[float, float] | tuple[None, None]:
    """Wilson's form on the AUC: its variance gives the effective size, the scarcer side the degrees
    of freedom.

    At 0 and 1, where the variance vanishes, the effective size is the number of clusters on the
    scarcer side.
    """
    variance = obuchowski_variance(score, positive, cluster)
    if variance is None:
        return None, None
    scarcer = min(distinct(cluster[positive]), distinct(cluster[~positive]))
    size = (
        min(float(len(score)), value * (1 - value) / variance) if variance > 0 else float(scarcer)
    )
    return _wilson(value, max(size, 1.0), scarcer - 1, alpha)


def brier(data: Predictions, alpha: float = 0.05) -> Figure:
    """Mean squared error of the probabilities: 0 perfect; 1 (one class against the rest) or 2 (all
    classes) at worst.

    Source: Brier 1950, Mon. Weather Rev. 78:1.  One class against the rest: the half of Brier's
    sum, as usual.
    """
    if data.probability is None:
        return Figure(reason="probabilities per class were not kept (more than 20 classes)")
    if len(data.label) == 0:
        return Figure(reason="no labelled image")
    loss, most = squared_errors(data, data.probability)
    value = float(loss.mean())
    return _symmetric(
        value,
        (loss - value) / len(loss),
        data.cluster,
        alpha,
        0.0,
        most,
        "" if most == 1 else "sum over classes",
    )


def squared_errors(data: Predictions, probability: Array) -> tuple[Array, float]:
    """Brier's loss of each image, and the most that it can be."""
    if data.positive is not None:
        return (probability[:, data.positive] - (data.label == data.positive)) ** 2, 1.0
    truth = data.label[:, None] == np.arange(len(data.classes))
    return ((probability - truth) ** 2).sum(axis=1), 2.0


def calibration_slope(data: Predictions, alpha: float = 0.05) -> Figure:
    """Slope of a logistic regression of the label on logit(probability): 1 calibrated, below 1 too
    extreme, above 1 too timid.

    Source: Cox 1958, Biometrika 45:562; Van Calster et al. 2019, BMC Med. 17:230.  Sandwich
    variance over clusters.
    """
    if data.positive is None:
        return Figure(reason=data.why_no_positive)
    if data.probability is None:
        return Figure(reason="probabilities per class were not kept (more than 20 classes)")
    y = (data.label == data.positive) * 1.0
    if len(y) == 0 or y.min() == y.max():
        return Figure(reason="the slope needs images of the positive class and of another")
    p = np.clip(
        data.probability[:, data.positive].astype(float), 1e-7, 1 - 1e-7
    )  # float32 probabilities round to 0 and 1
    x = np.column_stack([np.ones(len(y)), np.log(p / (1 - p))])
    if np.ptp(x[:, 1]) < 1e-9:
        return Figure(reason="every image has the same probability")
    fit = _logistic(x, y)
    if fit is None:
        return Figure(
            reason="the probabilities separate the classes: the slope has no finite value"
        )
    beta, inverse = fit
    fitted = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
    influence = ((x * (y - fitted)[:, None]) @ inverse)[:, 1]
    return _symmetric(float(beta[1]), influence, data.cluster, alpha, -np.inf, np.inf)


def _logistic(x: Array, y: Array) -> tuple[Array, Array] | None:
    """Maximum likelihood by Newton's method with halved steps; coefficients and inverse
    information, or None if divergent.
    """
    beta = np.zeros(x.shape[1])
    likelihood = _log_likelihood(x, y, beta)
    for _ in range(60):
        fitted = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
        information = (x * (fitted * (1 - fitted))[:, None]).T @ x
        if np.linalg.cond(information) > 1e12:
            return None
        inverse = np.linalg.inv(information)
        step = inverse @ (x.T @ (y - fitted))
        while _log_likelihood(x, y, beta + step) < likelihood - 1e-9 and np.abs(step).max() > 1e-12:
            step = step / 2
        beta = beta + step
        likelihood = _log_likelihood(x, y, beta)
        if np.abs(step).max() < 1e-9 * (1 + np.abs(beta).max()):
            return (beta, inverse) if -likelihood > 1e-6 * len(y) else None
    return None


def _log_likelihood(x: Array, y: Array, beta: Array) -> float:
    eta = x @ beta
    return float(np.sum(y * eta - np.logaddexp(0.0, eta)))


def _macro(classes: int) -> str:
    return f"mean over {classes} classes, each against the rest"


FIGURES: dict[str, Callable[[Predictions, float], Figure]] = {
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "ppv": ppv,
    "auc": auc,
    "brier": brier,
    "calibration_slope": calibration_slope,
}
