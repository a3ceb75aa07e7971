"""How well the classifier does in each subgroup: the figures beside which a disparity in region heat has to be read.

Point estimates are over images, as everywhere else; intervals let the cluster (patient) vary, not the image.  Each
figure is written as a mean of per-image influences, so one formula gives every clustered variance:

    var = G / (G - 1) * sum over clusters of (sum of influences in the cluster)^2        (linearisation, Taylor series)

Proportions then get Wilson's interval with the effective sample size p (1 - p) / var and Student's t on G - 1 degrees
of freedom, the form that Franco, Little, Louis & Slud (2019, J. Surv. Stat. Methodol. 7:334) recommend for clustered
samples and that Kott (2017, Surv. Methodol. 43:235) derives; it stays inside [0, 1] and has a width at 0 % and 100 %.

Differences of what is a mean over images (accuracy, sensitivity, specificity, PPV, Brier score) are tested as heat is: on
clusters' means, by ``subgroups.disparity``; Benjamini-Hochberg over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from gradaudit.config import Plan
from gradaudit.contrasts import EXPLORATORY_PERMUTATIONS, TEST_NAMES
from gradaudit.records import Measurements, PerformanceRow, TestResult
from gradaudit.stats import benjamini_hochberg
from gradaudit.subgroups import disparity

Array = npt.NDArray[Any]

ALL = "(all)"
"""Attribute and level of the row over the whole data set."""

METRICS_SHOWN = ("accuracy", "sensitivity", "specificity", "ppv", "auc", "brier", "calibration_slope")
DIFFERENCE = "_difference"
"""Suffix of the rows that compare a level with its reference: ``accuracy_difference``."""

OVER_ANALYSED = "over images with a heat share"
"""Reason on rows of a level that was narrowed down to them."""

_NEGATIVE_WORDS = frozenset({
    "0", "-1", "n", "no", "false", "none", "negative", "neg", "normal", "healthy", "benign", "control", "absent", "background", "other",
})  # fmt: skip
_POSITIVE_WORDS = frozenset({
    "1", "y", "yes", "true", "positive", "pos", "abnormal", "diseased", "disease", "malignant", "cancer", "melanoma", "case", "present",
})  # fmt: skip


@dataclass(frozen=True)
class Predictions:
    """Labelled, readable images: class codes of label and prediction, probabilities (n, K) or None, cluster codes."""

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
            self.classes, self.label[rows], self.predicted[rows], self.correct[rows], chosen, self.cluster[rows], self.positive, self.why_no_positive
        )


@dataclass(frozen=True)
class Figure:
    """One estimate with its interval; ``influence`` (one per image given) carries its clustered variance."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n_images: int = 0
    n_clusters: int = 0
    reason: str = ""
    influence: Array | None = None


# ── intervals ───────────────────────────────────────────────────────────────────────────────────────────────────────


def clustered_variance(influence: Array, cluster: Array) -> float | None:
    """Variance of an estimate from its per-image influences; None with fewer than two clusters.

    influence : (n,) float, summing to 0      cluster : (n,) ints from 0
    Source: Binder 1983, Int. Stat. Rev. 51:279 (linearisation); the factor G / (G - 1) as in Cochran 1977, section 11.3.
    """
    codes, inverse = np.unique(cluster, return_inverse=True)
    if len(codes) < 2:
        return None
    sums = np.bincount(inverse, weights=influence)
    return float(len(codes) / (len(codes) - 1) * np.sum(sums**2))


def wilson_clustered(p: float, variance: float | None, cluster: Array, alpha: float = 0.05) -> tuple[float, float] | tuple[None, None]:
    """Interval of a proportion ``p`` with clustered ``variance``: Wilson (1927) with effective size and Student's t.

    cluster : (n,) ints, the cluster of each image in the base of the proportion.
    At 0 % and 100 % (and wherever the variance is 0) the data hold no evidence on the correlation inside clusters, so
    the worst case is taken, in which a cluster's images all agree: effective size n^2 / sum of squared cluster sizes
    (Kish 1965, section 5.4, with intra-class correlation 1).  (None, None) with fewer than two clusters.
    """
    sizes = np.unique(cluster, return_counts=True)[1].astype(float)
    if len(sizes) < 2:
        return None, None
    n = float(sizes.sum())
    size = min(n, max(p * (1 - p) / variance, 1.0)) if variance and 0 < p < 1 else n**2 / float(np.sum(sizes**2))
    return _wilson(p, size, len(sizes) - 1, alpha)


def _wilson(p: float, size: float, df: int, alpha: float) -> tuple[float, float]:
    t = float(stats.t.ppf(1 - alpha / 2, df))
    centre = (p + t**2 / (2 * size)) / (1 + t**2 / size)
    half = t / (1 + t**2 / size) * float(np.sqrt(p * (1 - p) / size + t**2 / (4 * size**2)))
    # the bounds meet p at 0 and 1; rounding must not carry them past it
    return max(0.0, min(centre - half, p)), min(1.0, max(centre + half, p))


def mover_difference(a: Figure, b: Figure) -> tuple[float | None, float | None, float | None]:
    """a - b with an interval built from the two intervals: the method of variance estimates recovery.

    Where clusters have images on both sides, the correlation of the two estimates, from their influences over the same
    images, enters.  None where either side has no interval.
    Source: Newcombe 1998, Stat. Med. 17:873 and 17:2635; Zou & Donner 2008, Stat. Med. 27:1693, eqs 5 and 7.
    """
    if a.estimate is None or b.estimate is None:
        return None, None, None
    d = a.estimate - b.estimate
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return d, None, None
    r = _correlation(a, b)
    down = [a.estimate - a.low, b.high - b.estimate]
    up = [a.high - a.estimate, b.estimate - b.low]
    low, high = (np.sqrt(max(0.0, x**2 + y**2 - 2 * r * x * y)) for x, y in (down, up))
    return d, float(d - low), float(d + high)


def _correlation(a: Figure, b: Figure) -> float:
    if a.influence is None or b.influence is None:
        return 0.0
    scale = float(np.sqrt(np.sum(a.influence**2) * np.sum(b.influence**2)))
    return float(np.sum(a.influence * b.influence)) / scale if scale > 0 else 0.0


def _proportion(hits: Array, base: Array, cluster: Array, alpha: float, empty: str) -> Figure:
    """Share of ``base`` images with a hit; ``empty`` is the reason where there is none."""
    n = int(base.sum())
    if n == 0:
        return Figure(reason=empty)
    p = float(hits[base].mean())
    influence = np.where(base, (hits - p) / n, 0.0)
    return _bounded(p, influence, base, cluster, alpha)


def _bounded(p: float, influence: Array, base: Array, cluster: Array, alpha: float, reason: str = "") -> Figure:
    members = cluster[base]
    low, high = wilson_clustered(p, clustered_variance(influence[base], members), members, alpha)
    return Figure(p, low, high, int(base.sum()), len(np.unique(members)), reason or _one_cluster(low), influence)


def _symmetric(value: float, influence: Array, cluster: Array, alpha: float, least: float, most: float, reason: str = "") -> Figure:
    groups = len(np.unique(cluster))
    variance = clustered_variance(influence, cluster)
    if variance is None:
        return Figure(value, None, None, len(cluster), groups, _one_cluster(None), influence)
    half = float(stats.t.ppf(1 - alpha / 2, groups - 1) * np.sqrt(variance))
    return Figure(value, max(least, value - half), min(most, value + half), len(cluster), groups, reason, influence)


def _one_cluster(low: float | None) -> str:
    return "one cluster only: no interval" if low is None else ""


# ── the figures ─────────────────────────────────────────────────────────────────────────────────────────────────────


def accuracy(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of images whose predicted class is the label: 0 none, 1 all."""
    return _proportion(data.correct, np.ones(len(data.label), dtype=bool), data.cluster, alpha, "no labelled image")


def sensitivity(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the positive class that is found; without a positive class the mean over classes (balanced accuracy)."""
    if data.positive is not None:
        hits = (data.predicted == data.positive) * 1.0
        return _proportion(hits, data.label == data.positive, data.cluster, alpha, "no image of the positive class")
    return _macro_share(data.label, data.correct, data, alpha)


def specificity(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the other classes' images that are not called positive; else the mean over classes, each against the rest."""
    if data.positive is not None:
        hits = (data.predicted != data.positive) * 1.0
        return _proportion(hits, data.label != data.positive, data.cluster, alpha, "no image of a negative class")
    n, k = len(data.label), len(data.classes)
    count = np.bincount(data.label, minlength=k)
    false_alarms = np.bincount(data.predicted[data.label != data.predicted], minlength=k)
    used = (count > 0) & (count < n)
    if not used.any():
        return Figure(reason="fewer than two classes among the labels")
    rest = np.where(used, n - count, 1)
    fall_out = np.where(used, false_alarms / rest, 0.0)
    # image i belongs to the rest of every class but its own, and is a false alarm of its predicted class if that is wrong
    weight = fall_out / rest
    wrong = data.label != data.predicted
    alarm = np.where(wrong & used[data.predicted], 1.0 / rest[data.predicted], 0.0)
    influence = (weight.sum() - np.where(used[data.label], weight[data.label], 0.0) - alarm) / used.sum()
    return _bounded(float(1 - fall_out[used].mean()), influence, np.ones(n, dtype=bool), data.cluster, alpha, _macro(int(used.sum())))


def ppv(data: Predictions, alpha: float = 0.05) -> Figure:
    """Share of the positive predictions that are right; else the mean over the classes that were predicted."""
    if data.positive is not None:
        hits = (data.label == data.positive) * 1.0
        return _proportion(hits, data.predicted == data.positive, data.cluster, alpha, "the positive class was never predicted")
    return _macro_share(data.predicted, (data.label == data.predicted) * 1.0, data, alpha)


def _macro_share(of: Array, hits: Array, data: Predictions, alpha: float) -> Figure:
    """Mean over the classes found in ``of`` of each class's share of hits."""
    if len(of) == 0:
        return Figure(reason="no labelled image")
    count = np.bincount(of, minlength=len(data.classes))
    used = count > 0
    share = np.bincount(of, weights=hits, minlength=len(data.classes)) / np.where(used, count, 1)
    influence = (hits - share[of]) / count[of] / used.sum()
    return _bounded(float(share[used].mean()), influence, np.ones(len(of), dtype=bool), data.cluster, alpha, _macro(int(used.sum())))


def auc(data: Predictions, alpha: float = 0.05) -> Figure:
    """Probability that a random positive image scores above a random negative one (ties one half): 0.5 chance, 1 perfect.

    Without a positive class: mean over classes, each against the rest.  Variance: placement values summed over
    clusters, which hold positives and negatives alike.  Source: DeLong et al. 1988; Obuchowski 1997, Biometrics 53:567.
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
    low, high = _auc_interval(value, data.label == data.positive, data.probability[:, data.positive], data.cluster, alpha)
    return Figure(value, low, high, len(data.label), len(np.unique(data.cluster)), _one_cluster(low), influence)


def obuchowski_variance(score: Array, positive: Array, cluster: Array) -> float | None:
    """Variance of the AUC with clustered images; equals DeLong's where every cluster holds one image.

    score : (n,) float      positive : (n,) bool      cluster : (n,) ints
    None with fewer than two clusters on either side.
    Source: Obuchowski 1997, Biometrics 53:567, eqs 3 to 6 (S10, S01, S11).
    """
    theta, placement = _placements(score, positive)
    codes, inverse = np.unique(cluster, return_inverse=True)
    m, n = int(positive.sum()), int((~positive).sum())
    with_positive = len(np.unique(inverse[positive]))
    with_negative = len(np.unique(inverse[~positive]))
    if with_positive < 2 or with_negative < 2:
        return None
    size = len(codes)
    x = np.bincount(inverse, weights=np.where(positive, placement - theta, 0.0), minlength=size)
    y = np.bincount(inverse, weights=np.where(positive, 0.0, placement - theta), minlength=size)
    s10 = with_positive / ((with_positive - 1) * m) * np.sum(x**2)
    s01 = with_negative / ((with_negative - 1) * n) * np.sum(y**2)
    s11 = size / (size - 1) * np.sum(x * y)
    return max(0.0, float(s10 / m + s01 / n + 2 * s11 / (m * n)))


def _placements(score: Array, positive: Array) -> tuple[float, Array]:
    """AUC and each image's placement value: the share of the other side that it is ranked right against."""
    m, n = int(positive.sum()), int((~positive).sum())
    overall = stats.rankdata(score)
    placement = np.empty(len(score))
    placement[positive] = (overall[positive] - stats.rankdata(score[positive])) / n
    placement[~positive] = 1 - (overall[~positive] - stats.rankdata(score[~positive])) / m
    return float(placement[positive].mean()), placement


def _one_auc(score: Array, positive: Array, cluster: Array) -> tuple[float, Array]:
    theta, placement = _placements(score, positive)
    return theta, (placement - theta) / np.where(positive, positive.sum(), (~positive).sum())


def _auc_interval(value: float, positive: Array, score: Array, cluster: Array, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Wilson's form on the AUC: its variance gives the effective size, the scarcer side the degrees of freedom.

    At 0 and 1, where the variance vanishes, the effective size is the number of clusters on the scarcer side.
    """
    variance = obuchowski_variance(score, positive, cluster)
    if variance is None:
        return None, None
    scarcer = min(len(np.unique(cluster[positive])), len(np.unique(cluster[~positive])))
    size = min(float(len(score)), value * (1 - value) / variance) if variance > 0 else float(scarcer)
    return _wilson(value, max(size, 1.0), scarcer - 1, alpha)


def brier(data: Predictions, alpha: float = 0.05) -> Figure:
    """Mean squared error of the probabilities: 0 perfect; 1 (one class against the rest) or 2 (all classes) at worst.

    Source: Brier 1950, Mon. Weather Rev. 78:1.  One class against the rest: the half of Brier's sum, as usual.
    """
    if data.probability is None:
        return Figure(reason="probabilities per class were not kept (more than 20 classes)")
    if len(data.label) == 0:
        return Figure(reason="no labelled image")
    loss, most = _squared_errors(data, data.probability)
    value = float(loss.mean())
    return _symmetric(value, (loss - value) / len(loss), data.cluster, alpha, 0.0, most, "" if most == 1 else "sum over classes")


def _squared_errors(data: Predictions, probability: Array) -> tuple[Array, float]:
    """Brier's loss of each image, and the most that it can be."""
    if data.positive is not None:
        return (probability[:, data.positive] - (data.label == data.positive)) ** 2, 1.0
    truth = data.label[:, None] == np.arange(len(data.classes))
    return ((probability - truth) ** 2).sum(axis=1), 2.0


def calibration_slope(data: Predictions, alpha: float = 0.05) -> Figure:
    """Slope of a logistic regression of the label on logit(probability): 1 calibrated, below 1 too extreme, above 1 too timid.

    Source: Cox 1958, Biometrika 45:562; Van Calster et al. 2019, BMC Med. 17:230.  Sandwich variance over clusters.
    """
    if data.positive is None:
        return Figure(reason=data.why_no_positive)
    if data.probability is None:
        return Figure(reason="probabilities per class were not kept (more than 20 classes)")
    y = (data.label == data.positive) * 1.0
    if len(y) == 0 or y.min() == y.max():
        return Figure(reason="the slope needs images of the positive class and of another")
    p = np.clip(data.probability[:, data.positive].astype(float), 1e-7, 1 - 1e-7)  # float32 probabilities round to 0 and 1
    x = np.column_stack([np.ones(len(y)), np.log(p / (1 - p))])
    if np.ptp(x[:, 1]) < 1e-9:
        return Figure(reason="every image has the same probability")
    fit = _logistic(x, y)
    if fit is None:
        return Figure(reason="the probabilities separate the classes: the slope has no finite value")
    beta, inverse = fit
    fitted = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
    influence = ((x * (y - fitted)[:, None]) @ inverse)[:, 1]
    return _symmetric(float(beta[1]), influence, data.cluster, alpha, -np.inf, np.inf)


def _logistic(x: Array, y: Array) -> tuple[Array, Array] | None:
    """Maximum likelihood by Newton's method with halved steps; coefficients and inverse information, or None if divergent."""
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


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


def positive_class(classes: tuple[str, ...], plan: Plan) -> tuple[str | None, str]:
    """The class whose sensitivity is reported, and why there is none.

    The plan's, if declared; of two classes the one that its name, or the other's, gives away (malignant / benign).
    """
    declared = plan.analysis.positive_class
    if declared is not None:
        if declared in classes:
            return declared, ""
        return None, f"analysis.positive_class = {declared!r} is not a class here ({', '.join(classes[:6])})"
    if len(classes) == 2:
        words = [name.strip().lower() for name in classes]
        for mine, other in ((0, 1), (1, 0)):
            named = words[mine] in _POSITIVE_WORDS and words[other] not in _POSITIVE_WORDS
            if named or (words[other] in _NEGATIVE_WORDS and words[mine] not in _NEGATIVE_WORDS):
                return classes[mine], ""
    return None, "no positive class: declare analysis.positive_class"


def performance_table(
    meas: Measurements,
    plan: Plan,
    groupings: Mapping[str, pd.Series[Any]],
    references: Mapping[str, str],
    narrowed: Mapping[tuple[str, str], Array] | None = None,
) -> tuple[PerformanceRow, ...]:
    """Every figure over all images, in each level of each attribute, and as a difference to the level's reference.

    groupings : attribute -> level of each row of ``meas.images`` (an ordered categorical without gaps).
    references : attribute -> a level, or "rest" (everyone else).
    narrowed : (attribute, level) -> the images (bool per row of ``meas.images``) to which the level is narrowed down.
    Differences carry a test where clusters' means can be compared (see ``difference_tests``).
    returns : rows whose ``reason`` says why an estimate is missing, or what it averages; ``n_images`` is the number
    of images that the figure is a share of.
    """
    data, rows = predictions(meas, plan)
    alpha = plan.analysis.alpha
    whole = np.arange(len(rows))
    table = [_row(ALL, ALL, name, figure(data, alpha)) for name, figure in FIGURES.items()]
    for attribute, levels in groupings.items():
        codes = levels.cat.codes.to_numpy()[rows]
        names = [str(level) for level in levels.cat.categories]
        parts = {level: whole[(codes == k) & _kept((narrowed or {}).get((attribute, level)), rows)] for k, level in enumerate(names)}
        reference = references.get(attribute, "rest")
        tests = difference_tests(data, _level_of_each(parts, len(rows)), reference, plan)
        for k, (level, members) in enumerate(parts.items()):
            others = parts[reference] if reference in parts else whole[codes != k]
            remark = OVER_ANALYSED if (attribute, level) in (narrowed or {}) else ""
            for name, figure in FIGURES.items():
                mine = figure(data.take(members), alpha)
                table.append(_row(attribute, level, name, mine, remark))
                if level != reference:
                    theirs = figure(data.take(others), alpha)
                    row = _difference_row(attribute, level, name, (mine, members), (theirs, others), data, reference)
                    table.append(row.model_copy(update={"test": tests.get((level, name), TestResult())}))
    return _adjusted_for_multiplicity(table)


def _level_of_each(parts: Mapping[str, Array], count: int) -> Array:
    """Level of each image, None where its level is unknown or narrowed down to others."""
    levels = np.full(count, None, dtype=object)
    for level, members in parts.items():
        levels[members] = level
    return levels


def difference_tests(data: Predictions, levels: Array, reference: str, plan: Plan) -> dict[tuple[str, str], TestResult]:
    """(level, figure) -> test of the figure's difference to the reference, on clusters' means; a level whose guard fails has none.

    levels : (n,) level of each image of ``data``, None unknown.      reference : a level, or "rest"
    """
    known = np.array([level is not None for level in levels], dtype=bool)
    found: dict[tuple[str, str], TestResult] = {}
    for name, values in _per_image(data).items():
        present = set(levels[known & np.isfinite(values)])
        if len(present) < 2 or (reference != "rest" and reference not in present):
            continue
        compared = disparity(
            values, levels, clusters=data.cluster, reference=reference, alpha=plan.analysis.alpha, seed=plan.run.seed, omnibus=False,
            permutations=min(plan.analysis.permutations, EXPLORATORY_PERMUTATIONS),
        )  # fmt: skip
        for c in compared.contrasts:
            if c.reason or not np.isfinite(c.p):
                continue
            test = TestResult(name=TEST_NAMES.get(c.method, ""), p=float(c.p), family="exploratory", permutations=c.permutations or None)
            sides = (c.group, c.reference) if c.reference != "rest" and reference == "rest" else (c.group,)
            found |= {(side, name): test for side in sides}  # of two levels one comparison serves both
    return found


def _per_image(data: Predictions) -> dict[str, Array]:
    """Figures that are a mean over images, as one number per image: NaN outside the figure's base."""
    out = {"accuracy": data.correct}
    if data.positive is not None:
        truly, called = data.label == data.positive, data.predicted == data.positive
        out |= {
            "sensitivity": np.where(truly, called, np.nan),
            "specificity": np.where(truly, np.nan, ~called),
            "ppv": np.where(called, truly, np.nan),
        }
    if data.probability is not None:
        out["brier"] = _squared_errors(data, data.probability)[0]
    return out


def _adjusted_for_multiplicity(table: list[PerformanceRow]) -> tuple[PerformanceRow, ...]:
    p = np.array([np.nan if row.test.p is None else row.test.p for row in table])
    adjusted = benjamini_hochberg(p)
    return tuple(
        row if row.test.p is None else row.model_copy(update={"test": row.test.model_copy(update={"p_adjusted": float(q)})})
        for row, q in zip(table, adjusted, strict=True)
    )


def _kept(narrowed: Array | None, rows: Array) -> Array:
    return np.ones(len(rows), dtype=bool) if narrowed is None else narrowed[rows]


def predictions(meas: Measurements, plan: Plan) -> tuple[Predictions, Array]:
    """Readable images with a label that is one of the classes, as codes; and their rows in ``meas.images``."""
    images = meas.images
    classes = _classes(meas)
    code = {name: k for k, name in enumerate(classes)}
    code |= {str(k): k for k in range(len(classes)) if str(k) not in code}  # labels may be written as class numbers
    label = images["label"].map(code).to_numpy(dtype=float, na_value=np.nan)
    predicted = images["predicted"].map(code).to_numpy(dtype=float, na_value=np.nan)
    rows = np.flatnonzero((images["status"] == "ok").to_numpy(dtype=bool) & np.isfinite(label) & np.isfinite(predicted))
    columns = [f"probability.{name}" for name in classes]
    probability = None
    if classes and all(column in images for column in columns):
        probability = images[columns].to_numpy(dtype=float)[rows]
        finite = np.isfinite(probability).all(axis=1)
        rows, probability = rows[finite], probability[finite]
    positive, why = positive_class(classes, plan)
    truth, guess = label[rows].astype(int), predicted[rows].astype(int)
    cluster = pd.factorize(images["cluster"].astype(str))[0][rows]
    data = Predictions(classes, truth, guess, (truth == guess) * 1.0, probability, cluster, code[positive] if positive else None, why)
    return data, rows


def _classes(meas: Measurements) -> tuple[str, ...]:
    columns = [str(c).removeprefix("probability.") for c in meas.images.columns if str(c).startswith("probability.")]
    named = [str(name) for name in meas.run.get("model", {}).get("classes", ())]
    if columns:
        return tuple(columns)
    if named:
        return tuple(named)
    found = pd.concat([meas.images["label"], meas.images["predicted"]]).dropna().astype(str).unique()
    return tuple(sorted(found))


def _row(attribute: str, level: str, metric: str, figure: Figure, remark: str = "") -> PerformanceRow:
    return PerformanceRow(
        attribute=attribute,
        level=level,
        metric=metric,
        estimate=figure.estimate,
        low=figure.low,
        high=figure.high,
        n_images=figure.n_images,
        n_clusters=figure.n_clusters,
        reason="; ".join(filter(None, (figure.reason, remark))),
    )


def _difference_row(
    attribute: str, level: str, metric: str, mine: tuple[Figure, Array], theirs: tuple[Figure, Array], data: Predictions, reference: str
) -> PerformanceRow:
    a, b = (_by_cluster(figure, data.cluster[rows], data) for figure, rows in (mine, theirs))
    d, low, high = mover_difference(a, b)
    against = "against everyone else" if reference == "rest" else f"against {reference}"
    missing = a.reason if a.estimate is None else b.reason if b.estimate is None else ""
    return PerformanceRow(
        attribute=attribute, level=level, metric=metric + DIFFERENCE, estimate=d, low=low, high=high,
        n_images=a.n_images, n_clusters=a.n_clusters, reason=f"{against}{': ' + missing if missing else ''}",
    )  # fmt: skip


def _by_cluster(figure: Figure, cluster: Array, data: Predictions) -> Figure:
    """The figure with its influences summed over the clusters of the whole data set, so that two sides can be correlated."""
    if figure.influence is None:
        return figure
    sums = np.bincount(cluster, weights=figure.influence, minlength=int(data.cluster.max()) + 1)
    return Figure(figure.estimate, figure.low, figure.high, figure.n_images, figure.n_clusters, figure.reason, sums)
