"""Differences of a figure of merit between groups: an interval recovered from the groups' own, and
a test.

Accuracy, sensitivity, specificity, PPV and Brier score are means over images and tested as heat is:
on clusters' means, by ``subgroups.disparity``.  What is no mean over images is tested in the same
way on pseudo-values, one per cluster, whose mean is (about) the figure; G is the number of
clusters.

    AUC, means over classes    z_c = G * T(figure) - (G - 1) * T(figure without cluster c),    T =
    arcsine of the root
    calibration slope          z_c = slope + G * (influence of cluster c on the slope)

Sources: Tukey 1958, Ann. Math. Stat. 29:614; Arvesen 1969, Ann. Math. Stat. 40:2076 (the AUC is one
of its U-statistics); Cressie 1981, Biometrika 68:297 (T evens the variance where groups differ in
size and balance); Jaeckel 1972, The infinitesimal jackknife, Bell Laboratories MM 72-1215-11 (the
slope).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradaudit.performance.metrics import (
    Array,
    Figure,
    Predictions,
    calibration_slope,
    distinct,
    placements,
    squared_errors,
)
from gradaudit.plan import Plan
from gradaudit.records import TestResult
from gradaudit.stats.effect_sizes import mode_share
from gradaudit.subgroups.analysis_set import Observations, takes_differences, usable_rows
from gradaudit.subgroups.between_clusters import comparisons_of
from gradaudit.subgroups.comparison import Disparity, disparity
from gradaudit.subgroups.contrast import (
    EXPLORATORY_PERMUTATIONS,
    MIN_PATIENTS,
    TEST_NAMES,
    Contrast,
    guard,
)
from gradaudit.subgroups.settings import Settings

# placements this close count as one: ranked right against about all others, an image shows no difference
NEAR = 0.05
MOST_CLASSES = 20  # compared without a positive class; probabilities are kept for as many


def mover_difference(a: Figure, b: Figure) -> tuple[float | None, float | None, float | None]:
    """a - b with an interval built from the two intervals: the method of variance estimates
    recovery.

    Where clusters have images on both sides, the correlation of the two estimates, from their
    influences over the same images, enters.  None where either side has no interval.
    Source: Newcombe 1998, Stat. Med. 17:873 and 17:2635; Zou & Donner 2008, Stat. Med. 27:1693, eqs
    5 and 7.
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


# ── tests ─────────────────────────────────────────────────────────────────────────────────────────


def difference_tests(
    data: Predictions, levels: Array, reference: str, plan: Plan
) -> dict[tuple[str, str], TestResult]:
    """(level, figure) -> test of the figure's difference to the reference; a level whose guard
    fails has none.

    levels : (n,) level of each image of ``data``, None unknown.      reference : a level, or "rest"
    """
    known = np.array([level is not None for level in levels], dtype=bool)
    found: dict[tuple[str, str], TestResult] = {}
    for name, values in _per_image(data).items():
        present = set(levels[known & np.isfinite(values)])
        if len(present) < 2 or (reference != "rest" and reference not in present):
            continue
        for c in _compared(values, levels, data.cluster, reference, plan).contrasts:
            if (test := _as_test(c)) is not None:
                sides = (
                    (c.group, c.reference)
                    if c.reference != "rest" and reference == "rest"
                    else (c.group,)
                )
                found |= {
                    (side, name): test for side in sides
                }  # of two levels one comparison serves both
    return found | _tests_of_pseudo_values(data, levels, reference, plan)


def _compared(
    values: Array,
    levels: Array,
    clusters: Array,
    reference: str,
    plan: Plan,
    within: bool | None = None,
) -> Disparity:
    return disparity(
        values,
        levels,
        clusters=clusters,
        reference=reference,
        alpha=plan.analysis.alpha,
        seed=plan.run.seed,
        omnibus=False,
        within=within,
        permutations=min(plan.analysis.permutations, EXPLORATORY_PERMUTATIONS),
    )


def _as_test(c: Contrast) -> TestResult | None:
    if c.reason or not np.isfinite(c.p):
        return None
    return TestResult(
        name=TEST_NAMES.get(c.method, ""),
        p=float(c.p),
        family="exploratory",
        permutations=c.permutations or None,
    )


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
        out["brier"] = squared_errors(data, data.probability)[0]
    return out


def _tests_of_pseudo_values(
    data: Predictions, levels: Array, reference: str, plan: Plan
) -> dict[tuple[str, str], TestResult]:
    """The same for figures that are no mean over images: each side's clusters enter with their
    pseudo-values.
    """
    present = {level for level in levels if level is not None}
    if len(present) < 2 or (reference != "rest" and reference not in present):
        return {}
    settings = Settings(
        reference=reference,
        alpha=plan.analysis.alpha,
        permutations=EXPLORATORY_PERMUTATIONS,
        seed=plan.run.seed,
        omnibus=False,
    )
    # who is compared with whom, and inside clusters or between them, is settled on images, as for
    # every other figure
    observations = Observations(values=np.arange(len(levels)), groups=levels, clusters=data.cluster)
    rows = usable_rows(observations, settings)
    images, within = rows.y.astype(np.int64), takes_differences(rows, settings)
    found: dict[tuple[str, str], TestResult] = {}
    for level, base in comparisons_of(rows.codes, rows.levels, reference):
        own = rows.codes == level
        other = ~own if base is None else rows.codes == base
        sides = [data.take(images[side]) for side in (own, other)]
        names = (
            (rows.levels[level], rows.levels[base])
            if base is not None and reference == "rest"
            else (rows.levels[level],)
        )
        for name in PSEUDO_VALUED:
            mine, theirs = (
                pseudo_values(name, side, against) for side, against in (sides, sides[::-1])
            )
            if (
                mine is None
                or theirs is None
                or guard(
                    mode_share(np.r_[mine.seen, theirs.seen]), len(mine.seen), len(theirs.seen)
                )[0]
            ):
                continue
            groups = np.repeat(
                np.array(["own", "other"], dtype=object), [len(mine.values), len(theirs.values)]
            )
            compared = _compared(
                np.r_[mine.values, theirs.values],
                groups,
                np.r_[mine.clusters, theirs.clusters],
                "other",
                plan,
                within,
            )
            if (test := _as_test(compared.contrasts[0])) is not None:
                found |= {(side, name): test for side in names}
    return found


# ── pseudo-values ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class PseudoValues:
    """A figure's pseudo-value of each cluster.

    clusters : (G,) codes      values : (G,)
    seen : (G,) mean over the cluster's images of what is seen on one of them (right or wrong,
        placement).  It decides how
    many clusters could show a difference: where nearly all are right, pseudo-values differ by class
    alone.
    """

    clusters: Array
    values: Array
    seen: Array


def pseudo_values(name: str, data: Predictions, against: Predictions) -> PseudoValues | None:
    """The pseudo-values of the figure ``name``; see the head of this file.

    data, against : the two sides of a comparison.  None where the figure does not exist on this
        side, or where a class
    that counts in it has images of fewer than ten clusters here: too few to tell what leaving one
    out changes.
    """
    present = np.bincount(data.cluster) > 0
    codes, cluster = np.flatnonzero(present), (np.cumsum(present) - 1)[data.cluster]
    if not _every_class_is_there(data, against, name == "ppv", cluster):
        return None
    found = PSEUDO_VALUED[name](data, cluster)
    if found is None:
        return None
    values, per_image = found
    return PseudoValues(codes, values, np.bincount(cluster, per_image) / np.bincount(cluster))


def _every_class_is_there(
    data: Predictions, against: Predictions, by_prediction: bool, cluster: Array
) -> bool:
    """Ten clusters with the positive class and ten with another; without one, ten with each class
    found on either side.
    """
    of, other = (
        (data.predicted, against.predicted) if by_prediction else (data.label, against.label)
    )
    if data.positive is not None:
        bases = [of == data.positive, of != data.positive]
    else:
        classes = np.union1d(of, other)
        if not 1 < len(classes) <= MOST_CLASSES:
            return False
        bases = [of == k for k in classes]
    return all(distinct(cluster[base]) >= MIN_PATIENTS for base in bases)


def _jackknifed(share: float, without: Array) -> Array:
    """Pseudo-values of a figure between 0 and 1, from the figure without each cluster, (G,)."""
    whole, others = (
        np.arcsin(np.sqrt(np.clip(x, 0.0, 1.0))) for x in (share, without)
    )  # rounding may step over 0 or 1
    return np.asarray(len(without) * whole - (len(without) - 1) * others)


Pair = tuple[Array, Array]
"""Pseudo-values (G,), and what is seen on each image (n,)."""


def _of_auc(data: Predictions, cluster: Array) -> Pair | None:
    if data.probability is None:
        return None
    targets = [data.positive] if data.positive is not None else np.unique(data.label)
    area, without, placement = zip(
        *(_auc_without_each(data.probability[:, k], data.label == k, cluster) for k in targets),
        strict=True,
    )
    return _jackknifed(float(np.mean(area)), np.mean(without, axis=0)), np.round(
        np.mean(placement, axis=0) / NEAR
    ) * NEAR


def _auc_without_each(score: Array, positive: Array, cluster: Array) -> tuple[float, Array, Array]:
    """AUC of all pairs; of those without an image of each cluster (less its rows and columns, which
    cross inside it); placements.
    """
    area, placement = placements(score, positive)
    m, n = int(positive.sum()), int((~positive).sum())
    frame = pd.DataFrame({"cluster": cluster, "positive": positive, "score": score})
    above = (
        frame.groupby("cluster")["score"].rank()
        - frame.groupby(["cluster", "positive"])["score"].rank()
    )  # others of its cluster
    rows = np.bincount(cluster, np.where(positive, placement * n, 0.0))
    columns = np.bincount(cluster, np.where(positive, 0.0, placement * m))
    crossing = np.bincount(cluster, np.where(positive, above, 0.0))
    left = (m - np.bincount(cluster, positive)) * (n - np.bincount(cluster, ~positive))
    return area, (area * m * n - rows - columns + crossing) / left, placement


def _of_slope(data: Predictions, cluster: Array) -> Pair | None:
    slope = calibration_slope(data)
    if slope.estimate is None or slope.influence is None:
        return None
    influence = np.bincount(cluster, slope.influence)
    return slope.estimate + len(influence) * influence, slope.influence


def _of_sensitivity(data: Predictions, cluster: Array) -> Pair | None:
    return _of_mean_share(
        [(data.correct, data.label == k) for k in np.unique(data.label)], data, cluster
    )


def _of_specificity(data: Predictions, cluster: Array) -> Pair | None:
    return _of_mean_share(
        [((data.predicted != k) * 1.0, data.label != k) for k in np.unique(data.label)],
        data,
        cluster,
    )


def _of_ppv(data: Predictions, cluster: Array) -> Pair | None:
    return _of_mean_share(
        [(data.correct, data.predicted == k) for k in np.unique(data.predicted)], data, cluster
    )


def _of_mean_share(
    shares: Sequence[tuple[Array, Array]], data: Predictions, cluster: Array
) -> Pair | None:
    """Mean over classes of the share of hits in a base; None where a positive class is declared:
    then it is a mean over images.
    """
    if data.positive is not None:
        return None
    whole, without = [], []
    for hits, base in shares:
        counts, right = np.bincount(cluster, base), np.bincount(cluster, np.where(base, hits, 0.0))
        whole.append(right.sum() / counts.sum())
        without.append((right.sum() - right) / (counts.sum() - counts))
    return _jackknifed(float(np.mean(whole)), np.mean(without, axis=0)), data.correct


PSEUDO_VALUED: dict[str, Callable[[Predictions, Array], Pair | None]] = {
    "sensitivity": _of_sensitivity,
    "specificity": _of_specificity,
    "ppv": _of_ppv,
    "auc": _of_auc,
    "calibration_slope": _of_slope,
}
"""Figures that are no mean over images (the first three: where there is no positive class); cluster
: (n,) ints from 0 to G - 1.
"""


def by_cluster(figure: Figure, cluster: Array, data: Predictions) -> Figure:
    """The figure with its influences summed over the clusters of the whole data set, so that two
    sides can be correlated.
    """
    if figure.influence is None:
        return figure
    sums = np.bincount(cluster, weights=figure.influence, minlength=int(data.cluster.max()) + 1)
    return Figure(
        figure.estimate,
        figure.low,
        figure.high,
        figure.n_images,
        figure.n_clusters,
        figure.reason,
        sums,
    )
