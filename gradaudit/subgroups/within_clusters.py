"""Comparisons within patients and pairs: one difference per patient, tested by flipping signs.

Rows of an ``AnalysisSet`` come in; contrasts of levels or of the patients' own slopes go out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gradaudit.stats import effect_sizes, linear_model
from gradaudit.stats.family import Floats, Ints
from gradaudit.subgroups.analysis_set import AnalysisSet
from gradaudit.subgroups.between_clusters import comparisons_of, pairs_of
from gradaudit.subgroups.contrast import NO_MEAN, Bools, Contrast, Kind, guard
from gradaudit.subgroups.contrast_tests import estimate_all
from gradaudit.subgroups.levels import percentile_names
from gradaudit.subgroups.model_rows import ONCE, Hypothesis, ModelRows, collapse
from gradaudit.subgroups.settings import Settings
from gradaudit.subgroups.slopes import ONE_VALUE


@dataclass(frozen=True)
class _Difference:
    """A comparison inside blocks: sum over a block's images of weight times outcome.

    weights : (n,) 0 for images of blocks that say nothing
    names : of the group and its reference, or of the upper and lower end of a slope
    sides : images of the group and of the reference; None for a slope
    """

    kind: Kind
    names: tuple[str, str]
    weights: Floats
    sides: tuple[Bools, Bools] | None


def within_contrasts(rows: AnalysisSet, settings: Settings) -> list[Contrast]:
    """Each comparison as one difference per patient.

    It is adjusted for the same difference of every covariate column; what has too many levels for
    columns is held equal by taking differences among images of one level.
    """
    if rows.matched is not None:
        rows = replace(rows, blocks=rows.matched)
    compared: list[tuple[int, int | None]] = []
    if not settings.continuous:
        compared = comparisons_of(rows.codes, rows.levels, settings)
    differences = [_level_difference(rows, level, base) for level, base in compared]
    if not settings.continuous:
        for level, other in pairs_of(rows.codes, rows.levels, settings):
            differences.append(replace(_level_difference(rows, level, other), kind="pair"))
    out = [_one_sample(rows, difference, settings) for difference in differences]
    line = settings.continuous or (settings.order is not None and len(out) > 1)
    if line and len(rows.x) and np.ptp(rows.x) > 0:
        slope = _within_slope(rows, settings)
        out.append(slope)
        if settings.continuous:
            out.append(_without_curve(slope))
    return out


def _without_curve(slope: Contrast) -> Contrast:
    """The place of a curve: inside clusters none is fitted, so that nothing is said of its shape."""
    return Contrast(
        "curve",
        slope.group,
        slope.reference,
        slope.n_images,
        slope.n_clusters,
        0,
        0,
        reason=slope.reason or "a smooth curve is not fitted inside clusters",
    )


def _level_difference(rows: AnalysisSet, level: int, base: int | None) -> _Difference:
    """Mean of a level's images minus that of its reference's, in the blocks that have both."""
    a, b = sides_inside(rows, level, base)
    share_a = a / np.maximum(_block_sums(rows, a), 1)[rows.blocks]
    share_b = b / np.maximum(_block_sums(rows, b), 1)[rows.blocks]
    return _Difference(
        kind="level",
        names=(rows.levels[level], "rest" if base is None else rows.levels[base]),
        weights=share_a - share_b,
        sides=(a, b),
    )


def sides_inside(rows: AnalysisSet, level: int, base: int | None) -> tuple[Bools, Bools]:
    """Images of a level and of its reference (None: of all others), in the blocks that have both."""
    a = rows.codes == level
    b = ~a if base is None else rows.codes == base
    both = ((_block_sums(rows, a) > 0) & (_block_sums(rows, b) > 0))[rows.blocks]
    return a & both, b & both


def _within_slope(rows: AnalysisSet, settings: Settings) -> Contrast:
    """Mean of the patients' own slopes.

    Patients whose x hardly varies (under a quarter of the median spread) are left out.
    """
    if settings.continuous:
        low, high = settings.ends or np.quantile(rows.x, [0.1, 0.9])
        names = percentile_names(low, high)
    else:
        low, high = rows.x.min(), rows.x.max()
        names = rows.levels[int(high)], rows.levels[int(low)]
    kind: Kind = "continuous" if settings.continuous else "trend"
    difference = _Difference(kind, names, _slope_weights(rows, high - low), None)
    beside = replace(settings, margin=None if settings.continuous else settings.margin)
    slope = _one_sample(rows, difference, beside)
    return replace(slope, reason=ONE_VALUE, provisional=False) if low == high else slope


def _slope_weights(rows: AnalysisSet, reach: float) -> Floats:
    """Weights of each image in the least-squares slope of its block, times ``reach``; (n,)."""
    blocks = int(rows.blocks.max()) + 1
    centered = rows.x - linear_model.cluster_means(rows.x, rows.blocks, blocks)[rows.blocks]
    spread = _block_sums(rows, centered**2)
    varies = spread > 0
    enough = spread > 0.25 * np.median(spread[varies]) if varies.any() else varies
    weights = reach * centered / np.where(enough, spread, 1.0)[rows.blocks]
    return np.where(enough[rows.blocks], weights, 0.0)


def _one_sample(rows: AnalysisSet, difference: _Difference, settings: Settings) -> Contrast:
    """Mean of the patients' differences, tested by flipping the signs of its residuals."""
    used = _block_sums(rows, np.abs(difference.weights)) > 0
    y, z, clusters = _patient_differences(rows, difference.weights, used)
    n = len(y)
    reason, provisional, analytic = guard(effect_sizes.mode_share(y), n, n)
    shell = replace(
        _counted(rows, difference, used, settings.alpha),
        reason=reason,
        provisional=provisional,
        notes=_notes(n, settings),
    )
    if reason:
        return shell
    everyone = np.zeros(n, dtype=np.int64)
    sites = None if rows.sites is None else rows.sites[clusters]
    model_rows = ModelRows(
        y,
        strata=everyone,
        codes=everyone,
        columns=z,
        flip=True,
        owners=rows.owners,
        sites=sites,
        ids=None if rows.ids is None else rows.ids[clusters],
    )
    hypothesis = Hypothesis(shell, np.ones(1), np.zeros(z.shape[1]), None, analytic)
    return estimate_all(model_rows, [hypothesis], settings)[0]


def _notes(count: int, settings: Settings) -> tuple[str, ...]:
    """What is said of every comparison inside clusters or pairs."""
    said = f"differences within {count} {'pairs' if settings.paired else 'clusters'}"
    if settings.weights == "equal":
        return (said,)
    return said, f"precision weights are for means, not for differences: {ONCE}"


def _patient_differences(
    rows: AnalysisSet, weights: Floats, used: Bools
) -> tuple[Floats, Floats, Ints]:
    """Differences of the outcome, (P,), and of covariates, (P, k): means over a patient's blocks.

    The third array (P,) says which clusters these are.
    used : which blocks say something; covariates that differ by rounding alone do not differ
    """
    columns = [_block_sums(rows, weights * column) for column in (rows.y, *rows.z.T)]
    sums = np.column_stack(columns)[used]
    owner = np.empty(len(used), dtype=np.int64)
    owner[rows.blocks] = rows.clusters
    clusters, which = pd.factorize(owner[used])
    if len(clusters):
        sums = linear_model.cluster_means(sums, clusters, int(clusters.max()) + 1)
    noise = 1e-12 * np.abs(rows.z).max(axis=0, initial=1e-300)
    return sums[:, 0], np.where(np.abs(sums[:, 1:]) < noise, 0.0, sums[:, 1:]), which


def _counted(rows: AnalysisSet, difference: _Difference, used: Bools, alpha: float) -> Contrast:
    """The contrast with images, patients and means of both sides; a slope's are of everybody."""
    if difference.sides is None:
        images, patients, _ = _side(rows, used[rows.blocks], alpha)
        return Contrast(difference.kind, *difference.names, images, patients, 0, 0)
    own, other = (_side(rows, side, alpha) for side in difference.sides)
    return Contrast(
        difference.kind,
        *difference.names,
        *own[:2],
        *other[:2],
        mean=own[2],
        mean_reference=other[2],
    )


def _side(
    rows: AnalysisSet, side: Bools, alpha: float
) -> tuple[int, int, tuple[float, float, float]]:
    """Images, patients and mean of patient means on one side of a comparison."""
    if not side.any():
        return 0, 0, NO_MEAN
    patients = collapse(rows.keep(side))
    return int(side.sum()), len(patients.y), effect_sizes.mean_interval(patients.y, alpha)


def _block_sums(rows: AnalysisSet, values: Floats | Bools) -> Floats:
    blocks = int(rows.blocks.max()) + 1
    return np.asarray(np.bincount(rows.blocks, weights=values, minlength=blocks), dtype=np.float64)
