"""Pseudo-values of figures that are not a mean over images: one per cluster.

Their mean is about the figure itself. Predictions of one side of a comparison come in; pseudo-
values go out, which ``differences`` tests like any other value of a cluster. G is the number of
clusters.

    AUC, means over classes    z_c = G * T(figure) - (G - 1) * T(figure without cluster c),
                               T = arcsine of the root
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

from gradaudit.performance.intervals import Array, distinct
from gradaudit.performance.metrics import Predictions, calibration_slope
from gradaudit.performance.ranking import placements
from gradaudit.subgroups.contrast import MIN_PATIENTS

# placements closer than this count as equal: whether an image is ranked correctly against 98 % or
# 100 % of the others is no evidence of a difference
NEAR = 0.05
MOST_CLASSES = 20  # compared without a positive class; probabilities are kept for as many


@dataclass(frozen=True)
class PseudoValues:
    """A figure's pseudo-value of each cluster.

    clusters : (G,) codes
    values : (G,)
    seen : (G,) mean over the cluster's images of the value that the figure rests on (right or
        wrong, placement). Counts how many clusters could show a difference: where nearly all images
        are right, pseudo-values differ by class alone
    """

    clusters: Array
    values: Array
    seen: Array


def pseudo_values(name: str, data: Predictions, against: Predictions) -> PseudoValues | None:
    """The pseudo-values of the figure ``name``; the formulas are at the top of this file.

    data, against : the two sides of a comparison
    returns : None where the figure does not exist on this side, or where a class that counts in it
        has images in fewer than ten clusters here: too few to tell what leaving one out changes
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
    """Whether each class that counts has images in at least ten clusters.

    With a positive class: ten clusters with it, and ten with another class. Without one: ten with
    each class found on either side.
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
    # rounding may step over 0 or 1
    whole, others = (np.arcsin(np.sqrt(np.clip(x, 0.0, 1.0))) for x in (share, without))
    return np.asarray(len(without) * whole - (len(without) - 1) * others)


Pair = tuple[Array, Array]
"""Pseudo-values (G,), and the value of each image that they rest on (n,)."""


def _of_auc(data: Predictions, cluster: Array) -> Pair | None:
    if data.probability is None:
        return None
    targets = [data.positive] if data.positive is not None else np.unique(data.label)
    area, without, placement = zip(
        *(_auc_without_each(data.probability[:, k], data.label == k, cluster) for k in targets),
        strict=True,
    )
    values = _jackknifed(float(np.mean(area)), np.mean(without, axis=0))
    return values, np.round(np.mean(placement, axis=0) / NEAR) * NEAR


def _auc_without_each(score: Array, positive: Array, cluster: Array) -> tuple[float, Array, Array]:
    """AUC of all pairs; AUC without each cluster, (G,); placements, (n,).

    Leaving out a cluster removes its rows and its columns from the table of all pairs of a positive
    and a negative image; pairs inside the cluster are in both.
    """
    area, placement = placements(score, positive)
    m, n = int(positive.sum()), int((~positive).sum())
    frame = pd.DataFrame({"cluster": cluster, "positive": positive, "score": score})
    in_cluster = frame.groupby("cluster")["score"].rank()
    # images of the other side in the same cluster that lie below
    above = in_cluster - frame.groupby(["cluster", "positive"])["score"].rank()
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
    """Mean over classes of the share of hits in a base.

    None where a positive class is declared: then the figure is a mean over images.
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
"""Figures that are not a mean over images (the first three only without a positive class).

Each function takes the predictions and the cluster of each image, (n,) ints from 0 to G - 1.
"""
