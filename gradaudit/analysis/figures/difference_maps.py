"""Where the heat of a finding's group lies more, and where less, than that of its reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

from gradaudit.analysis.figures.sides import TWO_SIDED
from gradaudit.analysis.study import Bools, Floats
from gradaudit.cohort.heat_distributions import unit_maps
from gradaudit.cohort.population import Cohort
from gradaudit.number_text import significant
from gradaudit.records import UNKNOWN, Finding
from gradaudit.result_schema import DifferenceMap, MeanMap
from gradaudit.stats.multiplicity import benjamini_hochberg
from gradaudit.subgroups.contrast import MIN_PATIENTS

DIGITS = 3
"""Significant digits of a cell; more draw the same picture."""
ROUNDING = 1e-9
"""Values whose spread is so much smaller than they are themselves are all equal."""


def difference_maps(
    cohort: Cohort,
    mean_maps: Sequence[MeanMap],
    findings: Sequence[Finding],
    alpha: float,
    min_cell: int = 1,
) -> tuple[DifferenceMap, ...]:
    """Mean unit-mass map of each finding's group less that of its reference.

    It is the difference of the mean maps that the report shows, image by image, so that it tells
    nothing that they do not; "rest" is all other known levels together, and has no map where one
    of them is withheld.  ``shown`` marks the cells that are beyond chance: Welch's t of the means
    of clusters, Benjamini-Hochberg over the cells at ``alpha``, in the direction that is drawn.  A
    side of fewer than ten clusters has no map.

    mean_maps : those that are shown, without small cells

    Source: Welch 1947, Biometrika 34:28; Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57:289.
    """
    wanted = [f for f in findings if f.code in TWO_SIDED and not f.n_withheld]
    if not mean_maps or not wanted:
        return ()
    heat, rows = unit_maps(cohort)
    shown = {(row.attribute, row.level): row.n_images for row in mean_maps}
    out = []
    for f in wanted:
        sides = _sides(f, cohort, rows, shown)
        if sides is not None:
            clusters = [_cluster_maps(heat[side], cohort.cluster[rows[side]]) for side in sides]
            if min(map(len, clusters)) >= max(MIN_PATIENTS, min_cell):
                out.append(_difference(f, [heat[side] for side in sides], clusters, alpha))
    return tuple(out)


def _sides(
    f: Finding, cohort: Cohort, rows: np.ndarray, shown: dict[tuple[str, str], int]
) -> tuple[Bools, Bools] | None:
    """Which maps are the group's and which the reference's; None where one of them is withheld."""
    levels = cohort.groups[f.attribute].astype(str).to_numpy()[rows]
    present = {str(level) for level in np.unique(levels)} - {UNKNOWN}
    others = present - {f.group} if f.reference == "rest" else {f.reference}
    needed = {f.group} | others
    if not others or any((f.attribute, level) not in shown for level in needed):
        return None
    return levels == f.group, np.isin(levels, list(others))


def _cluster_maps(heat: Floats, cluster: np.ndarray) -> Floats:
    """(clusters, h, w) mean map of each cluster."""
    if not len(heat):
        return heat
    order = np.argsort(cluster, kind="stable")
    _, starts, counts = np.unique(cluster[order], return_index=True, return_counts=True)
    return np.asarray(np.add.reduceat(heat[order], starts) / counts[:, None, None])


def _difference(
    f: Finding, images: Sequence[Floats], clusters: Sequence[Floats], alpha: float
) -> DifferenceMap:
    difference = images[0].mean(axis=0) - images[1].mean(axis=0)
    between, p = welch(*clusters)
    shown = benjamini_hochberg(p.ravel()).reshape(p.shape) <= alpha
    shown &= np.sign(between) == np.sign(difference)
    return DifferenceMap(
        finding=f.anchor,
        n_images=len(images[0]),
        n_images_reference=len(images[1]),
        difference=tuple(_rounded(difference)),
        shown=tuple(tuple(map(int, line)) for line in shown),
    )


def _rounded(values: Floats) -> Iterator[tuple[float, ...]]:
    for line in values:
        yield tuple(significant(float(value), DIGITS) for value in line)


def welch(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Difference of the means over the first axis, and its two-sided p by Welch's t.

    p is 1 where nothing varies on either side: what is equal for everybody is no sample.
    """
    n, m = len(a), len(b)
    means = a.mean(axis=0), b.mean(axis=0)
    difference = means[0] - means[1]
    own, other = a.var(axis=0, ddof=1) / n, b.var(axis=0, ddof=1) / m
    squared = own + other
    noise = ROUNDING * np.maximum(np.abs(means[0]), np.abs(means[1]))
    varies = squared > noise**2
    safe = np.where(varies, squared, 1.0)
    df = safe**2 / np.where(varies, own**2 / (n - 1) + other**2 / (m - 1), 1.0)
    p = 2 * stats.t.sf(np.abs(difference) / np.sqrt(safe), df)
    return difference, np.where(varies, p, 1.0)
