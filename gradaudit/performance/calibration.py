"""How often predictions of a given confidence are right, in each level of each attribute.

Labelled images come in; a curve of equally filled bins goes out.  Every bin holds at least
``min_cell`` images and clusters, and at least ``FEWEST_IN_BIN``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.number_text import significant
from gradaudit.performance.intervals import Array, distinct, proportion
from gradaudit.performance.metrics import Predictions
from gradaudit.performance.table import level_parts
from gradaudit.result_schema import CalibrationCurve, CalibrationPoint

MOST_POINTS = 10
FEWEST_POINTS = 3
"""Fewer say nothing of a curve."""
FEWEST_IN_BIN = 10
"""Images and clusters below which a share says little, whatever may be shown."""

DIGITS = 4
"""Significant digits: more draw the same curve."""


def calibration_curves(
    data: Predictions,
    confidence: Array,
    rows: Array,
    groupings: Mapping[str, pd.Series[Any]],
    narrowed: Mapping[tuple[str, str], Array],
    min_cell: int,
    alpha: float = 0.05,
) -> tuple[CalibrationCurve, ...]:
    """The curve of each level that has enough images: mean confidence and share of right ones.

    The images are those of the level's accuracy.  Equal confidences are in one bin, so that the
    order of the images changes nothing.  The interval is Wilson's for clustered images, as that of
    the accuracy (``intervals``).  No curve where a confidence is not known.

    confidence : (n,) probability of the predicted class of each labelled image
    rows, groupings, narrowed : as in ``table.performance_table``

    Source: Niculescu-Mizil & Caruana 2005, ICML (reliability diagram); equally filled bins: Nguyen
    & O'Connor 2015, EMNLP; Wilson's interval: Franco et al. 2019, J. Surv. Stat. Methodol. 7:334.
    """
    least = max(min_cell, FEWEST_IN_BIN)
    found = []
    for attribute, levels in groupings.items():
        for level, members in level_parts(attribute, levels, narrowed, rows).items():
            own = confidence[members]
            if len(own) < FEWEST_POINTS * least or not np.isfinite(own).all():
                continue
            part = data.take(members)
            codes = filled_bins(own, part.cluster, least)
            points = tuple(_points(own, part, codes, alpha))
            if len(points) >= FEWEST_POINTS:
                found.append(CalibrationCurve(attribute=attribute, level=level, points=points))
    return tuple(found)


def filled_bins(values: Array, cluster: Array, least: int) -> Array:
    """(n,) bin of each value: as many bins as hold ``least`` images and clusters each.

    At most ``MOST_POINTS``; cut at quantiles, equal values in one bin.
    """
    for bins in range(MOST_POINTS, 1, -1):
        cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        codes = np.unique(np.searchsorted(cuts, values, side="right"), return_inverse=True)[1]
        clusters = [distinct(cluster[codes == k]) for k in range(int(codes.max()) + 1)]
        if min(clusters) >= least:  # a bin has at least as many images
            return np.asarray(codes)
    return np.zeros(len(values), dtype=int)


def _points(
    confidence: Array, data: Predictions, codes: Array, alpha: float
) -> Iterator[CalibrationPoint]:
    for k in range(int(codes.max()) + 1):
        inside = codes == k
        share = proportion(data.correct, inside, data.cluster, alpha, "")
        yield CalibrationPoint(
            confidence=_rounded(float(confidence[inside].mean())),
            correct=_rounded(share.estimate or 0.0),
            low=None if share.low is None else _rounded(share.low),
            high=None if share.high is None else _rounded(share.high),
            n_images=share.n_images,
        )


def _rounded(share: float) -> float:
    return significant(share, DIGITS)
