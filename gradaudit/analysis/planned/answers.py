"""What the measurements answer to each planned cell, and on how much of each group it rests.

A comparison that lies within its margin does not count where too few of a group's patients were
seen, or where those who were not seen could move it out: see ``_reservations``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from gradaudit.analysis.planned.cells import HEAT, Answer, CellKey, key_of
from gradaudit.analysis.study import Bools, Draft, Floats, Study
from gradaudit.cohort.attributes import Attribute
from gradaudit.cohort.coverage import Sides, could_be_seen, coverage, known_share, sides_of
from gradaudit.number_text import told_apart
from gradaudit.records import CellState
from gradaudit.stats import linear_model
from gradaudit.subgroups.analysis_set import AnalysisSet, usable_rows
from gradaudit.subgroups.comparison import mask_tipping
from gradaudit.subgroups.contrast import TWO_SIDED, Contrast

UNSEEN_POINTS = (0.10, 0.90)
"""Points of a side's seen values at which those are put who were not seen."""


def answers_of(
    study: Study, keys: Sequence[CellKey], drafts: Sequence[Draft], hidden: AbstractSet[int]
) -> list[Answer]:
    """The answer to every planned cell.

    hidden : identities of the drafts that are withheld whole
    """
    found: dict[CellKey, Draft] = {}
    for given in drafts:
        own = key_of(given)
        if own is not None:
            found.setdefault(own, given)
    attributes = {a.name: a for a in study.attributes}
    places: dict[tuple[str, str], _Seen] = {}
    known = {a.name: known_share(study.cohort, a) for a in study.attributes}
    out = []
    for key in keys:
        where = key.region, key.outcome
        if where not in places:
            places[where] = _Seen.of(study, key)
        a, place = attributes[key.attribute], places[where]
        sides = sides_of(a, key.kind, key.group, key.reference)
        asked = _Asked(study, a, key, place, sides, known[a.name])
        out.append(_answer(asked, found.get(key), hidden))
    return out


@dataclass(frozen=True)
class _Seen:
    """One outcome of one region, over the images.

    values : (n,) NaN where there is none      seen : (n,) where there is one
    population : (n,) which images the comparison is about
    """

    values: Floats
    seen: Bools
    population: Bools

    @classmethod
    def of(cls, study: Study, key: CellKey) -> _Seen:
        values = study.heat_share(key.region) if key.outcome == HEAT else study.undefined
        return cls(values, np.isfinite(values), could_be_seen(study.cohort, key.region))


@dataclass(frozen=True)
class _Asked:
    """One planned cell: its outcome over the images, and who is on which side.

    known : share of the patients whose level of the attribute is known
    """

    study: Study
    attribute: Attribute
    key: CellKey
    place: _Seen
    sides: Sides
    known: float


def _answer(asked: _Asked, draft: Draft | None, hidden: AbstractSet[int]) -> Answer:
    place = asked.place
    share = coverage(asked.study.cohort, asked.sides, place.population, place.seen)
    if draft is None:
        return Answer(coverage=share)
    if id(draft) in hidden:
        return Answer(draft, withheld=True)
    share = _of_those_compared(asked, draft.contrast, share)
    return Answer(draft, coverage=share, reservations=tuple(_reservations(asked, draft, share)))


def _of_those_compared(asked: _Asked, contrast: Contrast, share: float | None) -> float | None:
    """Coverage, where the estimate rests on fewer patients than have a value.

    Patients say nothing inside whom (or inside whose pairs) one side alone is found, who lack a
    covariate, who count at another level, or whose class holds one side only.
    """
    if share is None:
        return None
    sides, population, cluster = asked.sides, asked.place.population, asked.study.cohort.cluster
    members: tuple[Bools, ...] = (sides.group | sides.reference,)
    if contrast.kind in TWO_SIDED:
        members = sides.group, sides.reference
    counted = contrast.n_clusters, contrast.n_clusters_reference
    for n, side in zip(counted, members, strict=False):
        if n:
            share = min(share, n / len(np.unique(cluster[side & population])))
    if contrast.entered is None:
        return share
    inside = [n / of for n, of in zip(contrast.entered, counted, strict=True) if of]
    return share * min(inside, default=0.0)


def _reservations(asked: _Asked, draft: Draft, share: float | None) -> Iterator[str]:
    """Why a comparison within its margin does not count all the same."""
    criteria = asked.study.plan.criteria
    contrast = draft.contrast
    has_word = contrast.margin_test is not None or contrast.is_constant
    if criteria is None or draft.margin is None or not has_word:
        return
    needed = criteria.min_coverage
    if asked.known < needed:
        seen, floor = told_apart(asked.known, needed, 0)
        yield f"the attribute is known for {seen} of the clusters ({floor} are needed)"
    if share is None or share < needed:
        seen, floor = told_apart(share or 0.0, needed, 0)
        yield f"it rests on {seen} of the clusters of a group ({floor} are needed)"
    elif not _stays_within(asked, draft):
        yield (
            "those who could not be seen could move it out, if they lay at the 10 % or 90 % point "
            "of their group"
        )


# ── those who were not seen ───────────────────────────────────────────────────────────────────────


def _stays_within(asked: _Asked, draft: Draft) -> bool:
    """Whether the thick whisker stays inside the margin where unseen patients lie far out.

    They are put at the 10 % or 90 % point of their own side's seen values, the two sides in
    opposite directions; both ways are tried.
    """
    place, sides = asked.place, asked.sides
    unseen = place.population & ~place.seen & (sides.group | sides.reference)
    if not unseen.any() or draft.margin is None:
        return True
    for own, other in (UNSEEN_POINTS, UNSEEN_POINTS[::-1]):
        filled = place.values.copy()
        for side, point in ((sides.group, own), (sides.reference, other)):
            filled[unseen & side] = _point(asked.study, place.values, side & place.seen, point)
        whisker = _thick_whisker(asked, draft, filled)
        if whisker is None or not -draft.margin < whisker[0] <= whisker[1] < draft.margin:
            return False
    return True


def _point(study: Study, values: Floats, rows: Bools, point: float) -> float:
    """A quantile of the seen patients' means."""
    if not rows.any():
        return float("nan")
    _, codes = np.unique(study.cohort.cluster[rows], return_inverse=True)
    means = linear_model.cluster_means(values[rows], codes, int(codes.max()) + 1)
    return float(np.quantile(means, point))


def _thick_whisker(asked: _Asked, draft: Draft, values: Floats) -> tuple[float, float] | None:
    """The whisker of one comparison with other values, by Student's t."""
    study, a, key = asked.study, asked.attribute, asked.key
    area = _with_sizes(asked) if key.outcome == HEAT else None
    found = study.compare(
        replace(a, order=None) if key.kind in ("level", "pair") else a,
        values,
        key.region or None,
        confirmatory=False,
        margin=draft.margin,
        area=area,
        analytic=True,
        pairwise=key.kind == "pair",
        effects=False,
    )
    own = draft.contrast
    for c in found.contrasts:
        # a curve's two points may move with the values
        same = key.kind == "curve" or (c.group, c.reference) == (own.group, own.reference)
        if c.kind == own.kind and same:
            if c.margin_test is None:
                return None if c.reason else (0.0, 0.0)
            return c.margin_test.whisker(study.plan.analysis.alpha)
    return None


def _with_sizes(asked: _Asked) -> Floats:
    """Region sizes, and the side's median where a mask is missing."""
    cohort = asked.study.cohort
    area = cohort.area[:, cohort.regions.index(asked.key.region)].copy()
    for side in (asked.sides.group, asked.sides.reference):
        known = side & np.isfinite(area)
        if known.any():
            area[side & ~np.isfinite(area)] = np.median(area[known])
    return np.asarray(area)


# ── masks drawn larger ────────────────────────────────────────────────────────────────────────────


def with_mask_tippings(study: Study, drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts, with how much larger masks would have to be to change a decisive state.

    The masks are the group's, and the state is that of a difference in heat which is beyond or
    within. Only levels are told: a pair's two levels are each told already, and many pairs cost
    more than all the rest.
    """
    rows: dict[tuple[str, str], AnalysisSet] = {}
    attributes = {a.name: a for a in study.attributes}
    out = []
    for d in drafts:
        c = d.contrast
        decided = c.state in (CellState.BEYOND, CellState.WITHIN)
        if d.confirmatory and decided and d.region and c.kind == "level":
            a, key = attributes[d.attribute], (d.attribute, d.region)
            settings = study.settings(a, confirmatory=False, margin=d.margin, analytic=True)
            if key not in rows:
                values = study.heat_share(d.region)
                rows[key] = usable_rows(study.observations(a, values, d.region), settings)
            d = replace(d, mask_tipping=mask_tipping(rows[key], settings, c))
        out.append(d)
    return out
