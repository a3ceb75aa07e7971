"""Performance metrics: how well the classifier does on a set of images, each with an interval.

``Predictions`` come in; a ``Figure`` goes out. Its estimate is over images; its interval treats
clusters (patients) as the units that vary (see ``intervals``). The first paragraph of each metric's
docstring is its card in the report, and so is what follows "Source:": changing it changes the
report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradaudit.performance.intervals import (
    Array,
    Figure,
    bounded,
    distinct,
    one_cluster,
    proportion,
    symmetric,
)
from gradaudit.performance.ranking import auc_influence, auc_interval


@dataclass(frozen=True)
class Predictions:
    """Labelled, readable images.

    label, predicted : (n,) class codes
    correct : (n,) 1.0 where they agree
    probability : (n, K), or None where they were not kept
    cluster : (n,) ints from 0
    positive : code of the positive class, or None with the reason in ``why_no_positive``
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
        """The predictions of some images (row numbers)."""
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


# ── the metrics ───────────────────────────────────────────────────────────────────────────────────


def accuracy(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of images whose predicted class is the label: 0 none, 1 all."""
    return proportion(
        data.correct, np.ones(len(data.label), dtype=bool), data.cluster, alpha, "no labelled image"
    )


def sensitivity(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the positive class that is found; without a positive class the mean over classes
    (balanced accuracy).
    """
    if data.positive is not None:
        hits = (data.predicted == data.positive) * 1.0
        return proportion(
            hits, data.label == data.positive, data.cluster, alpha, "no image of the positive class"
        )
    return _macro_share(data.label, data.correct, data, alpha)


def specificity(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the other classes' images that are not called positive; else the mean over classes,
    each against the rest.
    """
    if data.positive is not None:
        hits = (data.predicted != data.positive) * 1.0
        return proportion(
            hits, data.label != data.positive, data.cluster, alpha, "no image of a negative class"
        )
    return _macro_specificity(data, alpha)


def _macro_specificity(data: Predictions, alpha: float) -> Figure:
    """Mean over classes of the share of other images that are not called the class."""
    n, k = len(data.label), len(data.classes)
    count = np.bincount(data.label, minlength=k)
    wrong = data.label != data.predicted
    false_alarms = np.bincount(data.predicted[wrong], minlength=k)
    used = (count > 0) & (count < n)
    if not used.any():
        return Figure(reason="fewer than two classes among the labels")
    rest = np.where(used, n - count, 1)
    fall_out = np.where(used, false_alarms / rest, 0.0)
    # image i belongs to the rest of every class but its own, and is a false alarm of its predicted
    # class if that is wrong
    weight = fall_out / rest
    of_own = np.where(used[data.label], weight[data.label], 0.0)
    alarm = np.where(wrong & used[data.predicted], 1.0 / rest[data.predicted], 0.0)
    classes = int(used.sum())
    return bounded(
        float(1 - fall_out[used].mean()),
        (weight.sum() - of_own - alarm) / classes,
        np.ones(n, dtype=bool),
        data.cluster,
        alpha,
        _macro(classes),
        times=max(1, classes - 1),  # an image is in the rest of every class but its own
    )


def ppv(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the positive predictions that are right; else the mean over the classes that were
    predicted.
    """
    if data.positive is not None:
        hits = (data.label == data.positive) * 1.0
        return proportion(
            hits,
            data.predicted == data.positive,
            data.cluster,
            alpha,
            "the positive class was never predicted",
        )
    return _macro_share(data.predicted, (data.label == data.predicted) * 1.0, data, alpha)


def _macro_share(of: Array, hits: Array, data: Predictions, alpha: float) -> Figure:
    """Mean, over the classes that occur in ``of``, of the share of hits in each class."""
    if len(of) == 0:
        return Figure(reason="no labelled image")
    count = np.bincount(of, minlength=len(data.classes))
    used = count > 0
    share = np.bincount(of, weights=hits, minlength=len(data.classes)) / np.where(used, count, 1)
    influence = (hits - share[of]) / count[of] / used.sum()
    return bounded(
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
            parts.append(auc_influence(data.probability[:, k], positive))
    if not parts:
        return Figure(reason="AUC needs images of the positive class and of another")
    value = float(np.mean([part[0] for part in parts]))
    influence = np.mean([part[1] for part in parts], axis=0)
    everything = np.ones(len(data.label), dtype=bool)
    if data.positive is None:
        return bounded(value, influence, everything, data.cluster, alpha, _macro(len(parts)))
    low, high = auc_interval(
        value, data.label == data.positive, data.probability[:, data.positive], data.cluster, alpha
    )
    return Figure(
        value, low, high, len(data.label), distinct(data.cluster), one_cluster(low), influence
    )


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
    reason = "" if most == 1 else "sum over classes"
    influence = (loss - value) / len(loss)
    return symmetric(value, influence, data.cluster, alpha, (0.0, most), reason)


def squared_errors(data: Predictions, probability: Array) -> tuple[Array, float]:
    """Brier's loss of each image, and the largest possible loss."""
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
    # float32 probabilities round to 0 and 1
    p = np.clip(data.probability[:, data.positive].astype(float), 1e-7, 1 - 1e-7)
    x = np.column_stack([np.ones(len(y)), np.log(p / (1 - p))])
    if np.ptp(x[:, 1]) < 1e-9:
        return Figure(reason="every image has the same probability")
    fit = _logistic(x, y)
    if fit is None:
        return Figure(
            reason="the probabilities separate the classes: the slope has no finite value"
        )
    beta, inverse = fit
    fitted = _fitted(x, beta)
    influence = ((x * (y - fitted)[:, None]) @ inverse)[:, 1]
    return symmetric(float(beta[1]), influence, data.cluster, alpha, (-np.inf, np.inf))


def _logistic(x: Array, y: Array) -> tuple[Array, Array] | None:
    """Logistic regression by Newton's method with halved steps.

    returns : coefficients and inverse information, or None where they diverge
    """
    beta = np.zeros(x.shape[1])
    likelihood = _log_likelihood(x, y, beta)
    for _ in range(60):
        fitted = _fitted(x, beta)
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


def _fitted(x: Array, beta: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x @ beta, -500, 500))))


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
