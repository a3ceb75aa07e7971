"""What the published tables say about the images of one attribute, as equations.

The unknowns are how many images of each level are in each *state* (not readable, or label x heat x
where each region lies). Every printed count and share is an equation in them, and every cell that
must not be disclosed is a sum of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from gradaudit.cohort.population import Array
from gradaudit.records import ALL, OVER_ANALYSED, STEPS
from gradaudit.result_schema import Exclusion, FlowRow, HeatRow, PerformanceRow, Tables


@dataclass(frozen=True)
class State:
    """What happened to an image.

    lost : the reason why it cannot be read; "" if it was read, and only then the rest applies
    label : number of the label
    cold : reason of undefined heat, or ""
    gone : per region, the reason why there is no mask or share, or ""
    """

    lost: str = ""
    label: int = -1
    cold: str = ""
    gone: tuple[str, ...] = ()

    @property
    def masked(self) -> bool:
        """Whether there is a mask of at least one region."""
        return not self.lost and "" in self.gone

    def has(self, region: int) -> bool:
        """Whether the region is there."""
        return not self.lost and not self.gone[region]


Member = Callable[[State], bool]


@dataclass(frozen=True)
class Population:
    """The possible states, and how many images of each level of an attribute are in each.

    The counts are (levels, states).
    """

    attribute: str
    levels: tuple[str, ...]
    states: tuple[State, ...]
    truth: Array
    labels: tuple[str, ...]
    regions: tuple[str, ...]
    anchor: int
    known: frozenset[int]
    positive: int | None

    def members(self, level: str, member: Member) -> Array:
        """Coefficients (levels, states) of the number of a level's images with a fitting state."""
        fits = np.array([member(state) for state in self.states], dtype=float)
        inside = np.array([level in (name, ALL) for name in self.levels], dtype=float)
        return np.outer(inside, fits).ravel()


STEP_MEMBERS: dict[str, Member] = {
    "n_manifest": lambda s: True,
    "n_readable": lambda s: not s.lost,
    "n_mask_usable": lambda s: s.masked,
    "n_heat_usable": lambda s: s.masked and not s.cold,
    "n_analysed": lambda s: s.masked and not s.cold,
}


Equation = tuple[Array, float, float]
"""Coefficients over levels and states, and the lower and upper bound of their sum."""


def published(people: Population, tables: Tables) -> Iterator[Equation]:
    """Every printed number about the attribute and about all images, as equations."""
    about = (people.attribute, ALL)
    for flow in tables.flow:
        if flow.attribute in about:
            yield from _of_flow(people, flow)
    for heat in tables.heat:
        if heat.attribute in about:
            yield from _of_heat(people, heat)
    for exclusion in tables.exclusions:
        yield from _of_exclusion(people, exclusion)
    for figure in tables.performance:
        if figure.attribute in about:
            yield from _of_performance(people, figure)


def _exactly(sum_: Array, value: int | None) -> Iterator[Equation]:
    if value is not None:
        yield sum_, value, value


def _share(part: Array, whole: Array, share: float) -> Equation:
    """A printed share of ``whole``, exact up to floating-point error."""
    return part - share * whole, -1e-6, 1e-6


def _anchored(people: Population, s: State) -> bool:
    return s.has(people.anchor) and not s.cold


def _anchored_with(people: Population, label: int) -> Member:
    return lambda s: _anchored(people, s) and s.label == label


def _readable_with(label: int) -> Member:
    return lambda s: not s.lost and s.label == label


def _warm_in(region: int) -> Member:
    """The region is there, and the heat is defined."""
    return lambda s: s.has(region) and not s.cold


def _cold_in(region: int) -> Member:
    """The region is there, and the heat is undefined."""
    return lambda s: s.has(region) and bool(s.cold)


def _of_flow(people: Population, row: FlowRow) -> Iterator[Equation]:
    for step in STEPS:
        yield from _exactly(people.members(row.level, STEP_MEMBERS[step]), getattr(row, step))
    base = people.members(row.level, lambda s: _anchored(people, s))
    for label, share in row.label_prevalence.items():
        if share is not None:
            member = _anchored_with(people, people.labels.index(label))
            yield _share(people.members(row.level, member), base, share)


def _of_heat(people: Population, row: HeatRow) -> Iterator[Equation]:
    r = people.regions.index(row.region)
    base = people.members(row.level, _warm_in(r))
    yield from _exactly(base, row.n_images)
    if row.undefined_share is not None:
        cold = people.members(row.level, _cold_in(r))
        yield _share(cold, cold + base, row.undefined_share)


def _of_exclusion(people: Population, row: Exclusion) -> Iterator[Equation]:
    member = _excluded(people, row.reason, row.region)
    for level, n in [(ALL, row.count), *row.by_level.get(people.attribute, {}).items()]:
        yield from _exactly(people.members(level, member), n)


def _of_performance(people: Population, row: PerformanceRow) -> Iterator[Equation]:
    base = _base(people, row.metric)
    if base is None:
        return
    if OVER_ANALYSED in row.reason:
        base = _anchored_among(people, base)
    yield from _exactly(people.members(row.level, base), row.n_images)


def _anchored_among(people: Population, base: Member) -> Member:
    return lambda s: base(s) and _anchored(people, s)


def _excluded(people: Population, reason: str, region: str) -> Member:
    if region:
        r = people.regions.index(region)
        return lambda s: not s.lost and not s.cold and s.gone[r] == reason
    return lambda s: s.lost == reason or s.cold == reason


def _base(people: Population, metric: str) -> Member | None:
    if metric == "accuracy":
        return lambda s: not s.lost and s.label in people.known
    if metric in ("sensitivity", "specificity") and people.positive is not None:
        return lambda s: (
            not s.lost
            and s.label in people.known
            and (s.label == people.positive) == (metric == "sensitivity")
        )
    return None


def protected(people: Population) -> Iterator[Array]:
    """Every cell that must not be disclosed.

    Counts at each step and their differences, and by label, heat and region.
    """
    for level in people.levels:
        steps = [people.members(level, STEP_MEMBERS[step]) for step in STEPS]
        yield from steps
        yield from (a - b for a, b in combinations(steps, 2))
        for k in range(len(people.labels)):
            yield people.members(level, _anchored_with(people, k))
            yield people.members(level, _readable_with(k))
        yield people.members(level, lambda s: bool(s.cold))
        for r in range(len(people.regions)):
            yield people.members(level, _warm_in(r))
            yield people.members(level, _cold_in(r))
