"""The mean of a group itself in one audit, and its change to the other, clusters in both respected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradaudit.stats.family import Floats, Ints
from gradaudit.subgroups.analysis_set import AnalysisSet
from gradaudit.subgroups.contrast import Contrast
from gradaudit.subgroups.model_rows import collapse


@dataclass(frozen=True)
class GroupMeans:
    """Means of a group and its reference over clusters, as measured.

    clusters, values : (n,) the group's clusters and their means
    """

    mean: float
    mean_reference: float
    clusters: Ints
    values: Floats

    def change_to(self, later: GroupMeans) -> tuple[float, float, float]:
        """Change of the group's mean, its standard error and degrees of freedom.

        A cluster that is in both adds its own change; NaN where a side has fewer than two.
        """
        n, m = len(self.values), len(later.values)
        if min(n, m) < 2:
            return np.nan, np.nan, 1.0
        change = later.mean - self.mean
        clusters = np.union1d(self.clusters, later.clusters)
        scores = np.zeros(len(clusters))
        for side, sign in ((self, -1.0), (later, 1.0)):
            own = np.searchsorted(clusters, side.clusters)
            k = len(side.values)
            part = (side.values - side.values.mean()) / np.sqrt(k * (k - 1.0))
            scores += sign * np.bincount(own, weights=part, minlength=len(clusters))
        return change, float(np.sqrt(np.sum(scores**2))), float(min(n, m) - 1)


def group_means(rows: AnalysisSet, contrast: Contrast) -> GroupMeans:
    """The group's clusters of one contrast."""
    own = rows.levels.index(contrast.group)
    patients = collapse(rows.keep(rows.codes == own))
    ids = np.empty(0, dtype=np.int64) if patients.ids is None else patients.ids
    return GroupMeans(contrast.mean[0], contrast.mean_reference[0], ids, patients.y)
