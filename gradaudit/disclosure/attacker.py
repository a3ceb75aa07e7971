"""The reader who solves the published tables for a small cell: what is withheld is the least that
this reader cannot undo.

The unknowns are how many images of each level are in each *state* (not readable, or label x heat x
where each region lies); every printed count and share of one attribute is an equation in them.  A
small cell is lost if all solutions in whole numbers give it the same value.  ``least`` starts from
the tables as the rules of ``privacy`` withhold them, hides totals of undefined heat where they give
a cell away, and then puts back every count of the flow that gives none away.

Source: Fischetti & Salazar 2001, Manage. Sci. 47:1008 (attacker models); Hundepool et al. 2012,
Statistical Disclosure Control, ch. 4.6 (auditing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from gradaudit.cohort.population import Array, Census
from gradaudit.disclosure.suppression import is_small
from gradaudit.performance.metrics import Predictions
from gradaudit.records import ALL, OVER_ANALYSED, STEPS, Parts
from gradaudit.result_schema import FlowRow

MOST_UNKNOWNS = 1500
"""Beyond, the programmes take too long, and the tables stay as the rules withhold them."""

_ORDER = ("n_manifest", "n_heat_usable", "n_readable", "n_mask_usable")
"""Counts of the flow that may come back, the most telling first."""


@dataclass(frozen=True)
class State:
    """What happened to an image: ``lost`` is the reason why it cannot be read, or "" and then the
    rest holds.

    label : number of the label      cold : reason of undefined heat, or ""      gone : per region,
        why it is not there, or ""
    """

    lost: str = ""
    label: int = -1
    cold: str = ""
    gone: tuple[str, ...] = ()

    @property
    def masked(self) -> bool:
        return not self.lost and "" in self.gone

    def has(self, region: int) -> bool:
        return not self.lost and not self.gone[region]


Member = Callable[[State], bool]


@dataclass(frozen=True)
class Population:
    """States that can occur, and how many images of each level of one attribute are in them (levels
    x states).
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
        """Coefficients, one per level and state, of how many images of a level (or of all) are in
        states that fit.
        """
        fits = np.array([member(state) for state in self.states], dtype=float)
        inside = np.array([level in (name, ALL) for name in self.levels], dtype=float)
        return np.outer(inside, fits).ravel()


def population(
    census: Census, data: Predictions, parts: Parts, attribute: str, names: tuple[Array, list[str]]
) -> Population | None:
    """The states of one attribute's images; None where there are too many of them to solve for.

    data, names : labelled images (``performance.predictions``), and label code per image with the
        codes' names
    """
    codes, labels = names
    if "(other)" in labels or len({(row.method, row.target) for row in parts["heat"]}) != 1:
        return None  # joined labels and a second map method are not modelled
    whole = [e.reason for e in parts["exclusions"] if not e.region]
    lost = [r for r in whole if r in set(_why_lost(census)[~census.readable])]
    cold = [r for r in whole if r not in lost]
    gone = [
        ["", *(e.reason for e in parts["exclusions"] if e.region == region)]
        for region in census.regions
    ]
    size = len(lost) + len(labels) * (1 + len(cold)) * int(np.prod([len(g) for g in gone]))
    levels = census.groups[attribute].cat
    if size * len(levels.categories) > MOST_UNKNOWNS:
        return None
    states = [State(lost=r) for r in lost] + [
        State("", n, c, g) for n, c, g in product(range(len(labels)), ["", *cold], product(*gone))
    ]
    known = frozenset(
        k
        for k, name in enumerate(labels)
        if name in data.classes or name in {str(i) for i in range(len(data.classes))}
    )
    positive = data.classes[data.positive] if data.positive is not None else None
    place = {state: k for k, state in enumerate(states)}
    truth = np.zeros((len(levels.categories), len(states)))
    reason, why, heat = census.reason.astype(str), _why_lost(census), _why_cold(census, cold)
    for i, level in enumerate(levels.codes.to_numpy()):
        if census.readable[i]:
            absent = tuple(
                "" if census.usable[i, r] else _first(reason[i, r], gone[r])
                for r in range(len(census.regions))
            )
            state = State("", int(codes[i]), "" if census.heat_ok[i] else heat[i], absent)
        else:
            state = State(lost=str(why[i]))
        if state not in place:
            return None  # the tables do not describe this image: nothing can be proved from them
        truth[level, place[state]] += 1
    return Population(
        attribute,
        tuple(map(str, levels.categories)),
        tuple(states),
        truth.ravel(),
        tuple(labels),
        census.regions,
        int(np.argmax(census.defined.sum(axis=0))) if census.regions else 0,
        known,
        labels.index(positive) if positive in labels else None,
    )


def _first(reason: str, options: list[str]) -> str:
    """The region's own reason; where undefined heat hides it, any will do: no table tells them
    apart.
    """
    return reason if reason in options and reason else options[1] if len(options) > 1 else "?"


def _why_lost(census: Census) -> Array:
    given = census.meas.images["reason"].fillna("").astype(str).to_numpy(dtype=object)
    return np.where(given == "", "unreadable", given)


def _why_cold(census: Census, cold: list[str]) -> Array:
    given = census.meas.images["reason"].fillna("").astype(str).to_numpy(dtype=object)
    return np.where(np.isin(given.astype(str), cold), given, cold[0] if cold else "?")


# ── what is published, and what is protected ──────────────────────────────────────────────────────

STEP_MEMBERS: dict[str, Member] = {
    "n_manifest": lambda s: True,
    "n_readable": lambda s: not s.lost,
    "n_mask_usable": lambda s: s.masked,
    "n_heat_usable": lambda s: s.masked and not s.cold,
    "n_analysed": lambda s: s.masked and not s.cold,
}


def published(people: Population, parts: Parts) -> Iterator[tuple[Array, float, float]]:
    """Every printed number about the attribute and about all images: coefficients, lower and upper
    bound.
    """
    about = (people.attribute, ALL)
    for row in parts["flow"]:
        if row.attribute in about:
            yield from _of_flow(people, row)
    for row in parts["heat"]:
        if row.attribute in about:
            r = people.regions.index(row.region)
            base = people.members(row.level, lambda s, r=r: s.has(r) and not s.cold)  # type: ignore[misc]
            yield from _exactly(base, row.n_images)
            if row.undefined_share is not None:
                cold = people.members(row.level, lambda s, r=r: s.has(r) and bool(s.cold))  # type: ignore[misc]
                yield cold - row.undefined_share * (cold + base), -1e-6, 1e-6
    for row in parts["exclusions"]:
        for level, n in [(ALL, row.count), *row.by_level.get(people.attribute, {}).items()]:
            yield from _exactly(people.members(level, _excluded(people, row.reason, row.region)), n)
    for row in parts["performance"]:
        if row.attribute in about and (base_of := _base(people, row.metric)) is not None:
            narrowed = OVER_ANALYSED in row.reason
            base = people.members(
                row.level, lambda s, f=base_of, n=narrowed: f(s) and (not n or _anchored(people, s))
            )  # type: ignore[misc]
            yield from _exactly(base, row.n_images)


def _exactly(sum_: Array, value: int | None) -> Iterator[tuple[Array, float, float]]:
    if value is not None:
        yield sum_, value, value


def _anchored(people: Population, s: State) -> bool:
    return s.has(people.anchor) and not s.cold


def _of_flow(people: Population, row: FlowRow) -> Iterator[tuple[Array, float, float]]:
    for step in STEPS:
        yield from _exactly(people.members(row.level, STEP_MEMBERS[step]), getattr(row, step))
    base = people.members(row.level, lambda s: _anchored(people, s))
    for label, share in row.label_prevalence.items():
        k = people.labels.index(label)
        if share is not None:
            yield (
                people.members(row.level, lambda s, k=k: _anchored(people, s) and s.label == k)
                - share * base,
                -1e-6,
                1e-6,
            )  # type: ignore[misc]


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
    """Every cell that the rule protects: of each level the steps and their differences, labels,
    undefined heat, regions.
    """
    for level in people.levels:
        steps = [people.members(level, STEP_MEMBERS[step]) for step in STEPS]
        yield from steps
        yield from (a - b for a, b in combinations(steps, 2))
        for k in range(len(people.labels)):
            yield people.members(level, lambda s, k=k: _anchored(people, s) and s.label == k)  # type: ignore[misc]
            yield people.members(level, lambda s, k=k: not s.lost and s.label == k)  # type: ignore[misc]
        yield people.members(level, lambda s: bool(s.cold))
        for r in range(len(people.regions)):
            yield people.members(level, lambda s, r=r: s.has(r) and not s.cold)  # type: ignore[misc]
            yield people.members(level, lambda s, r=r: s.has(r) and bool(s.cold))  # type: ignore[misc]


# ── solving, and the least that has to be withheld ────────────────────────────────────────────────


def is_safe(people: Population, parts: Parts, min_cell: int) -> bool | None:
    """Whether every small cell has more than one possible value; None where the model does not fit
    the tables.

    The truth is one solution, so one other solution per cell is enough, and each one found may
    serve many cells.
    """
    rows = list(published(people, parts))
    if not rows:
        return True
    matrix, low, high = (
        np.array([r[0] for r in rows]),
        np.array([r[1] for r in rows]),
        np.array([r[2] for r in rows]),
    )
    values = matrix @ people.truth
    if np.any(values < low - 1e-6) or np.any(values > high + 1e-6):
        return None
    known = LinearConstraint(csr_array(matrix), low, high)
    open_ = [c for c in protected(people) if is_small(round(float(c @ people.truth)), min_cell)]
    while open_:
        solutions = [s for sign in (1, -1) if (s := _extreme(sign * open_[0], known)) is not None]
        left = [c for c in open_ if not any(abs(c @ s - c @ people.truth) > 0.5 for s in solutions)]
        if len(left) == len(open_):
            return False
        if any(c is open_[0] for c in left):
            return False
        open_ = left
    return True


def _extreme(cost: Array, known: LinearConstraint) -> Array | None:
    found = milp(cost, constraints=known, integrality=np.ones(len(cost)), bounds=Bounds(0, 100_000))
    return None if found.x is None else np.asarray(np.round(found.x))


def least(
    census: Census,
    data: Predictions,
    bare: Parts,
    shown: Parts,
    names: tuple[Array, list[str]],
    min_cell: int,
) -> Parts:
    """The tables ``shown`` with as much of ``bare`` as no reader can solve for a small cell.

    bare, shown : the same tables, complete, and without what the rules of
        ``privacy.apply_min_cell`` withhold
    """
    hidden = {row.attribute for row in shown["flow"] if row.suppressed and row.attribute != ALL}
    if min_cell <= 1 or not hidden:
        return shown
    everyone = {name: population(census, data, bare, name, names) for name in census.groups}
    safe = {
        name: people is not None and is_safe(people, shown, min_cell)
        for name, people in everyone.items()
    }
    if not all(safe.values()):
        shown = _without_rare_totals(shown, bare, min_cell)
        safe = {
            name: people is not None and is_safe(people, shown, min_cell)
            for name, people in everyone.items()
        }
    for name, people in everyone.items():
        if people is not None and name in hidden and safe[name]:
            shown = _with_counts_back(people, bare, shown, min_cell)
    return shown


def _without_rare_totals(shown: Parts, bare: Parts, min_cell: int) -> Parts:
    """Undefined heat that is rare over all images is not told by region: whose it was could follow
    from the other tables.
    """
    rows = []
    for row in shown["heat"]:
        share, n = row.undefined_share or 0.0, row.n_images or 0
        rare = (
            row.attribute == ALL
            and 0 < share < 1
            and is_small(round(n * share / (1 - share)), min_cell)
        )
        rows.append(row.model_copy(update={"undefined_share": None}) if rare else row)
    return {**shown, "heat": tuple(rows)}


def _with_counts_back(people: Population, bare: Parts, shown: Parts, min_cell: int) -> Parts:
    full = {(row.attribute, row.level): row for row in bare["flow"]}
    lines = [
        k
        for k, row in enumerate(shown["flow"])
        if row.attribute == people.attribute and row.n_analysed is not None
    ]
    lines.sort(key=lambda k: -(full[people.attribute, shown["flow"][k].level].n_manifest or 0))
    for step in _ORDER:
        for k in lines:
            row = shown["flow"][k]
            value = getattr(full[people.attribute, row.level], step)
            if getattr(row, step) is not None or _is_near(row, value, min_cell):
                continue
            tried = {
                **shown,
                "flow": (
                    *shown["flow"][:k],
                    row.model_copy(update={step: value}),
                    *shown["flow"][k + 1 :],
                ),
            }
            if is_safe(people, tried, min_cell):
                shown = tried
    return {
        **shown,
        "flow": tuple(_marked(row, full[row.attribute, row.level]) for row in shown["flow"]),
    }


def _is_near(row: FlowRow, value: int, min_cell: int) -> bool:
    return any(
        is_small(abs(value - n), min_cell)
        for step in STEPS
        if (n := getattr(row, step)) is not None
    )


def _marked(row: FlowRow, full: FlowRow) -> FlowRow:
    """Nothing of it is withheld any more: then it is not called so."""
    return (
        row.model_copy(update={"suppressed": False})
        if row.model_copy(update={"suppressed": False}) == full
        else row
    )
