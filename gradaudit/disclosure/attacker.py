"""Tries to solve the published tables for a small cell, and withholds no more than that needs.

The unknowns are how many images of each level are in each *state* (not readable, or label x heat x
where each region lies); every printed count and share of one attribute is an equation in them. A
small cell is disclosed if all solutions in whole numbers give it the same value. ``least`` starts
from the tables as the rules of ``suppression`` withhold them, hides totals of undefined heat where
they disclose a cell, and then puts back every count of the flow that discloses none.

Source: Fischetti & Salazar 2001, Manage. Sci. 47:1008 (attacker models); Hundepool et al. 2012,
Statistical Disclosure Control, ch. 4.6 (auditing).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from gradaudit.cohort.population import Array, Cohort
from gradaudit.disclosure.equations import Population, State, protected, published
from gradaudit.disclosure.small_cells import is_small
from gradaudit.performance.metrics import Predictions
from gradaudit.records import ALL, OTHER_LABELS, STEPS
from gradaudit.result_schema import FlowRow, Tables

MOST_UNKNOWNS = 1500
"""With more unknowns the integer programs take too long; then the rules alone decide."""

_ORDER = ("n_manifest", "n_heat_usable", "n_readable", "n_mask_usable")
"""Counts of the flow that may be shown again, the most informative first."""


@dataclass(frozen=True)
class _Reasons:
    """Reasons that the table of exclusions names.

    lost : images that are not readable
    cold : images without defined heat
    gone : per region, images without a heat share there; the first is "", for images with one
    """

    lost: tuple[str, ...]
    cold: tuple[str, ...]
    gone: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, cohort: Cohort, tables: Tables) -> _Reasons:
        whole = [e.reason for e in tables.exclusions if not e.region]
        unreadable = set(_why_lost(cohort)[~cohort.readable])
        by_region = [
            ("", *(e.reason for e in tables.exclusions if e.region == region))
            for region in cohort.regions
        ]
        return cls(
            lost=tuple(r for r in whole if r in unreadable),
            cold=tuple(r for r in whole if r not in unreadable),
            gone=tuple(by_region),
        )

    def count_states(self, labels: int) -> int:
        """How many states there are, without listing them."""
        per_label = (1 + len(self.cold)) * int(np.prod([len(g) for g in self.gone]))
        return len(self.lost) + labels * per_label

    def states(self, labels: int) -> list[State]:
        """Every state that the reasons and labels allow."""
        readable = product(range(labels), ["", *self.cold], product(*self.gone))
        return [State(lost=r) for r in self.lost] + [State("", *parts) for parts in readable]


def population(
    cohort: Cohort,
    data: Predictions,
    tables: Tables,
    attribute: str,
    names: tuple[Array, list[str]],
) -> Population | None:
    """The states of one attribute's images; None where there are too many of them to solve for.

    data : labeled images (``performance.table.predictions``)
    names : label code per image, and the labels
    """
    codes, labels = names
    if OTHER_LABELS in labels or len({(row.method, row.target) for row in tables.heat}) != 1:
        return None  # joined labels and a second map method are not modelled
    levels = cohort.groups[attribute].cat
    reasons = _Reasons.of(cohort, tables)
    if reasons.count_states(len(labels)) * len(levels.categories) > MOST_UNKNOWNS:
        return None
    states = reasons.states(len(labels))
    truth = _counted(levels, states, _states_of_images(cohort, codes, reasons))
    if truth is None:
        return None
    positive = data.classes[data.positive] if data.positive is not None else None
    return Population(
        attribute,
        tuple(map(str, levels.categories)),
        tuple(states),
        truth.ravel(),
        tuple(labels),
        cohort.regions,
        int(np.argmax(cohort.defined.sum(axis=0))) if cohort.regions else 0,
        _known_classes(labels, data),
        labels.index(positive) if positive in labels else None,
    )


def _states_of_images(cohort: Cohort, codes: Array, reasons: _Reasons) -> Iterator[State]:
    """The state of each image, in the order of the images."""
    reason, why = cohort.reason.astype(str), _why_lost(cohort)
    heat = _why_cold(cohort, reasons.cold)
    for i, readable in enumerate(cohort.readable):
        if not readable:
            yield State(lost=str(why[i]))
            continue
        absent = tuple(
            "" if cohort.usable[i, r] else _first(reason[i, r], reasons.gone[r])
            for r in range(len(cohort.regions))
        )
        yield State("", int(codes[i]), "" if cohort.heat_ok[i] else heat[i], absent)


def _counted(levels: Any, states: Sequence[State], found: Iterator[State]) -> Array | None:
    """Images per level and state; None where an image is in a state that no table describes."""
    place = {state: k for k, state in enumerate(states)}
    truth = np.zeros((len(levels.categories), len(states)))
    for level, state in zip(levels.codes.to_numpy(), found, strict=True):
        if state not in place:
            return None
        truth[level, place[state]] += 1
    return truth


def _known_classes(labels: Sequence[str], data: Predictions) -> frozenset[int]:
    """Codes of the labels that name a class of the model, by its name or its number."""
    classes = {*data.classes, *map(str, range(len(data.classes)))}
    return frozenset(k for k, name in enumerate(labels) if name in classes)


def _first(reason: str, options: Sequence[str]) -> str:
    """The region's own reason, or any reason where undefined heat hides it.

    No table distinguishes those reasons.
    """
    return reason if reason in options and reason else options[1] if len(options) > 1 else "?"


def _why_lost(cohort: Cohort) -> Array:
    given = _given_reasons(cohort)
    return np.where(given == "", "unreadable", given)


def _why_cold(cohort: Cohort, cold: Sequence[str]) -> Array:
    given = _given_reasons(cohort)
    return np.where(np.isin(given.astype(str), list(cold)), given, cold[0] if cold else "?")


def _given_reasons(cohort: Cohort) -> Array:
    return cohort.meas.images["reason"].fillna("").astype(str).to_numpy(dtype=object)


# ── solving, and the least that has to be withheld ────────────────────────────────────────────────


def is_safe(people: Population, tables: Tables, min_cell: int) -> bool | None:
    """Whether every small cell has more than one possible value.

    None where the true counts contradict the tables as they are modeled. The truth is one solution,
    so one other solution per cell is enough, and a solution that is found may serve many cells.
    """
    equations = list(published(people, tables))
    if not equations:
        return True
    matrix, low, high = map(np.array, zip(*equations, strict=True))
    values = matrix @ people.truth
    if np.any(values < low - 1e-6) or np.any(values > high + 1e-6):
        return None
    known = LinearConstraint(csr_array(matrix), low, high)
    open_ = [c for c in protected(people) if is_small(round(float(c @ people.truth)), min_cell)]
    while open_:
        both = (_extreme(sign * open_[0], known) for sign in (1, -1))
        solutions = [s for s in both if s is not None]
        left = [c for c in open_ if not _moves(c, solutions, people.truth)]
        if left and left[0] is open_[0]:
            return False
        open_ = left
    return True


def _moves(cell: Array, solutions: Sequence[Array], truth: Array) -> bool:
    """Whether one of the solutions gives the cell a count that differs from the true one."""
    return any(abs(cell @ s - cell @ truth) > 0.5 for s in solutions)


def _extreme(cost: Array, known: LinearConstraint) -> Array | None:
    found = milp(cost, constraints=known, integrality=np.ones(len(cost)), bounds=Bounds(0, 100_000))
    return None if found.x is None else np.asarray(np.round(found.x))


def least(
    cohort: Cohort,
    data: Predictions,
    bare: Tables,
    shown: Tables,
    names: tuple[Array, list[str]],
    min_cell: int,
) -> Tables:
    """The tables with as little withheld as possible while no reader can compute a small cell.

    bare : the complete tables
    shown : the same tables as the rules of ``suppression.apply_min_cell`` leave them
    returns : ``shown`` with every count of the flow put back that discloses no small cell
    """
    hidden = {row.attribute for row in shown.flow if row.suppressed and row.attribute != ALL}
    if min_cell <= 1 or not hidden:
        return shown
    everyone = {name: population(cohort, data, bare, name, names) for name in cohort.groups}
    safe = _safe_attributes(everyone, shown, min_cell)
    if len(safe) < len(everyone):
        shown = _without_rare_totals(shown, min_cell)
        safe = _safe_attributes(everyone, shown, min_cell)
    for name, people in everyone.items():
        if people is not None and name in hidden & safe:
            shown = _with_counts_back(people, bare, shown, min_cell)
    return shown


def _safe_attributes(
    everyone: Mapping[str, Population | None], shown: Tables, min_cell: int
) -> set[str]:
    return {
        name
        for name, people in everyone.items()
        if people is not None and is_safe(people, shown, min_cell)
    }


def _without_rare_totals(shown: Tables, min_cell: int) -> Tables:
    """Withhold the share of undefined heat over all images where it means a small count."""
    rows = []
    for row in shown.heat:
        share, n = row.undefined_share or 0.0, row.n_images or 0
        rare = (
            row.attribute == ALL
            and 0 < share < 1
            and is_small(round(n * share / (1 - share)), min_cell)
        )
        rows.append(row.model_copy(update={"undefined_share": None}) if rare else row)
    return replace(shown, heat=tuple(rows))


def _with_counts_back(people: Population, bare: Tables, shown: Tables, min_cell: int) -> Tables:
    """The flow of one attribute with every count put back that discloses no small cell."""
    full = {(row.attribute, row.level): row for row in bare.flow}
    lines = [
        k
        for k, row in enumerate(shown.flow)
        if row.attribute == people.attribute and row.n_analysed is not None
    ]
    lines.sort(key=lambda k: -(full[people.attribute, shown.flow[k].level].n_manifest or 0))
    for step, k in product(_ORDER, lines):
        row = shown.flow[k]
        value = getattr(full[people.attribute, row.level], step)
        if getattr(row, step) is not None or _is_near(row, value, min_cell):
            continue
        more = row.model_copy(update={step: value})
        tried = replace(shown, flow=(*shown.flow[:k], more, *shown.flow[k + 1 :]))
        if is_safe(people, tried, min_cell):
            shown = tried
    marked = tuple(_marked(row, full[row.attribute, row.level]) for row in shown.flow)
    return replace(shown, flow=marked)


def _is_near(row: FlowRow, value: int, min_cell: int) -> bool:
    return any(
        is_small(abs(value - n), min_cell)
        for step in STEPS
        if (n := getattr(row, step)) is not None
    )


def _marked(row: FlowRow, full: FlowRow) -> FlowRow:
    """The row without its mark "suppressed" if nothing of it is withheld any more."""
    return (
        row.model_copy(update={"suppressed": False})
        if row.model_copy(update={"suppressed": False}) == full
        else row
    )
