"""Heat share against the size of the region, in each level: why differences are taken at equal size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradaudit.cohort.population import Array, Cohort
from gradaudit.number_text import significant
from gradaudit.plan import Plan
from gradaudit.records import ALL
from gradaudit.result_schema import SizeCurve

MOST_POINTS = 10
FEWEST_POINTS = 3
"""Fewer say nothing of a curve."""
FEWEST_IN_BIN = 10
"""Clusters below which a mean says little, whatever may be shown."""
DIGITS, COARSE_DIGITS = 3, 2
"""Significant digits; the coarse ones of sizes where few clusters have several images.

Mean sizes over images are printed elsewhere, and these are over clusters: the difference of both
would tell the size of those few.
"""


def size_curves(cohort: Cohort, plan: Plan) -> tuple[SizeCurve, ...]:
    """The curve of every level in every region with a role (where none has one: in all regions).

    Each cluster counts once, with the means of its images that have a heat share.  Bins of size
    are filled equally, and hold at least ``min_cell`` clusters each; how many there are follows
    from the level's number of clusters alone.  Clusters of equal size share their mean, so that
    their order changes nothing.  No curve where a size is not known.
    """
    named = [r for r, name in enumerate(cohort.regions) if plan.region_role(name) != "neutral"]
    least = max(plan.privacy.min_cell, FEWEST_IN_BIN)
    found = []
    for attribute, level, members in cohort.cells():
        for r in (named or range(len(cohort.regions))) if attribute != ALL else ():
            used = members & cohort.defined[:, r]
            points = tuple(_points(cohort, used, r, least))
            if points:
                region = cohort.regions[r]
                found.append(
                    SizeCurve(attribute=attribute, level=level, region=region, points=points)
                )
    return tuple(found)


def _points(cohort: Cohort, used: Array, r: int, least: int) -> Iterator[tuple[float, float, int]]:
    area, share = cohort.area[used, r], cohort.share[used, r]
    _, codes = np.unique(cohort.cluster[used], return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    bins = min(MOST_POINTS, count // least)
    if bins < FEWEST_POINTS or not np.isfinite(area).all():
        return
    images = np.bincount(codes)
    size = np.bincount(codes, weights=area) / images
    heat = _shared_by_equals(size, np.bincount(codes, weights=share) / images)
    several = int((images > 1).sum())
    digits = COARSE_DIGITS if 0 < several < least else DIGITS
    for part in np.array_split(np.argsort(size, kind="stable"), bins):
        yield (
            significant(float(size[part].mean()), digits),
            significant(float(heat[part].mean()), DIGITS),
            len(part),
        )


def _shared_by_equals(size: Array, heat: Array) -> Array:
    """The heat of each cluster, of clusters of equal size their mean."""
    _, equal = np.unique(size, return_inverse=True)
    return np.asarray((np.bincount(equal, weights=heat) / np.bincount(equal))[equal])
