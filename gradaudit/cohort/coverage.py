"""How much of each side of a comparison the numbers rest on.

A comparison among the few images whose masks could be read says nothing of the others.  Images in
which the region is absent are no part of what is compared; all others are, seen or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradaudit.cohort.attributes import Array, Attribute
from gradaudit.cohort.population import Cohort

ABSENT = ("empty_mask", "empty_after_crop")
"""Reasons of an image in which the region was looked for and is not there."""


@dataclass(frozen=True)
class Sides:
    """Which images are on which side of a comparison.

    group, reference : (n,) bool; of a trend or a curve the upper and the lower half
    parts : the sets of images that must each be covered
    """

    group: Array
    reference: Array
    parts: tuple[Array, ...]


def sides_of(a: Attribute, kind: str, group: str, reference: str) -> Sides:
    """The sides of a level, a pair, a trend or a curve of one attribute."""
    if kind in ("level", "pair"):
        own = a.members(group)
        other = a.known & ~own if reference == "rest" else a.members(reference)
        return Sides(own, other, (own, other))
    where = a.codes if kind == "trend" else a.values.astype(float)
    place = np.where(a.known, where, np.nan)
    return _halves(place, 3 if kind == "curve" else 1)


def _halves(place: Array, parts: int) -> Sides:
    """Above and not above the middle; ``parts`` of about equal size, each to be covered."""
    known = np.isfinite(place)
    if not known.any():
        nobody = np.zeros(len(place), dtype=bool)
        return Sides(nobody, nobody, (nobody,))
    middle = (np.nanmin(place) + np.nanmax(place)) / 2
    cuts = np.quantile(place[known], np.linspace(0, 1, parts + 1)[1:-1])
    bins = np.searchsorted(cuts, place, side="left")
    pieces = tuple(known & (bins == k) for k in range(parts))
    return Sides(known & (place > middle), known & (place <= middle), pieces)


def could_be_seen(cohort: Cohort, region: str) -> Array:
    """(n,) images that a comparison of a region is about: all in which it is not absent."""
    if not region:
        return np.ones(len(cohort.readable), dtype=bool)
    r = cohort.regions.index(region)
    absent = np.isin(cohort.reason[:, r].astype(str), ABSENT) | np.equal(cohort.area[:, r], 0)
    return np.asarray(~absent)


def seen_share(cluster: Array, members: Array, population: Array, seen: Array) -> float | None:
    """Mean over patients of the share of their images that were seen; None without a patient.

    cluster : (n,) 0..P-1      members, population, seen : (n,) bool
    """
    inside = members & population
    if not inside.any():
        return None
    count = int(cluster.max()) + 1
    images = np.bincount(cluster[inside], minlength=count)
    found = np.bincount(cluster[inside & seen], minlength=count)
    patients = images > 0
    return float(np.mean(found[patients] / images[patients]))


def coverage(cohort: Cohort, sides: Sides, population: Array, seen: Array) -> float | None:
    """The smallest share of a side's (or part's) patients that was seen.

    population : (n,) images that could be seen, see ``could_be_seen``      seen : (n,)
    """
    shares = [seen_share(cohort.cluster, part, population, seen) for part in sides.parts]
    known = [share for share in shares if share is not None]
    return min(known) if known else None


def known_share(cohort: Cohort, a: Attribute) -> float:
    """Share of patients (mean over their images) whose level is known."""
    everybody = np.ones(len(cohort.readable), dtype=bool)
    return seen_share(cohort.cluster, everybody, everybody, a.known) or 0.0
