"""Open cells decided again and again, on patients drawn from the run.

One drawing answers for every cell of its attribute, region and outcome, and under every truth: a
group whose values are shifted moves the estimate by as much and leaves its error and its permuted
statistics as they are, and so does a slope that is added to a trend, or a curve that is added to a curve (``shapes``).
Rates (undefined heat) cannot be shifted, so images are flipped, and every truth is decided on its
own drawing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np

from gradaudit.analysis.planned.cells import HEAT
from gradaudit.analysis.study import Floats
from gradaudit.cohort.attributes import Attribute
from gradaudit.number_text import plain_number
from gradaudit.records import CellState
from gradaudit.series.far_tails import FEWEST_BEYOND, extended
from gradaudit.series.open_cells import Group, OpenCell, Reading
from gradaudit.series.resampling import Drawn, Ints, Pool, flipped, moved_rates
from gradaudit.series.shapes import moved_curves, rates_along
from gradaudit.stats.decision import MarginTest, decide
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.contrast import MIN_PATIENTS, Contrast, with_decision

Truth = Literal["as seen", "none", "far end"]
TRUTHS: tuple[Truth, ...] = ("as seen", "none", "far end")
PERMUTATIONS = 499
"""Per decision: enough for "within"; see ``far_tails`` for "beyond"."""
_SEEDS = 10  # sets of permutations; replicates share them, since drawing them costs most


@dataclass(frozen=True)
class Chances:
    """How often a cell was settled.

    patients : of the smaller side (of a trend: of the smallest level; of a curve: all)
    within, beyond : shares of the replicates, in [0, 1]
    """

    cell: OpenCell
    truth: Truth
    difference: float
    patients: int
    within: float
    beyond: float


def difference_of(cell: OpenCell, truth: Truth) -> float:
    """The true difference that a truth stands for, in the outcome's unit."""
    return {"as seen": cell.seen, "none": 0.0, "far end": cell.far}[truth]


def chances(
    reading: Reading, group: Group, factor: float, replicates: int, seed: int
) -> Iterator[Chances]:
    """Every cell of a group that can be resampled, under every truth.

    factor : every level holds at least so many times the patients of the smallest level that is
        compared and shown
    """
    cells = [cell for cell in group.cells if not cell.reason]
    values = reading.values(group)
    pool = Pool.of(reading.study, group.attribute, np.isfinite(values))
    large = pool.counts[pool.counts >= _fewest(reading)]
    if not cells or not len(large):
        return
    counts = pool.grown(factor, int(large.min()))
    place = f"{group.attribute.name}/{group.region}/{group.outcome}/{plain_number(factor)}"
    rng = np.random.default_rng((seed, zlib.crc32(place.encode())))
    again = _Again(reading, group, pool, values, counts, replicates)
    if group.outcome == HEAT:
        drawn = again.contrasts(cells, "as seen", rng)
        for cell in cells:
            for truth in TRUTHS:
                moved = _with_difference(drawn[cell.name], cell, truth)
                yield again.counted(cell, truth, moved)
        return
    for truth in TRUTHS:
        drawn = again.contrasts(cells, truth, rng)
        for cell in cells:
            yield again.counted(cell, truth, drawn[cell.name])


def _fewest(reading: Reading) -> int:
    """Patients of a level that is compared, and not withheld."""
    return max(MIN_PATIENTS, reading.study.plan.privacy.min_cell)


@dataclass(frozen=True)
class _Again:
    """What is drawn again, and how often."""

    reading: Reading
    group: Group
    pool: Pool
    values: Floats
    counts: Ints
    replicates: int

    def contrasts(
        self, cells: list[OpenCell], truth: Truth, rng: np.random.Generator
    ) -> dict[str, list[Contrast | None]]:
        """The contrast of every cell in every replicate, None where there is none."""
        out: dict[str, list[Contrast | None]] = {cell.name: [] for cell in cells}
        for i in range(self.replicates):
            drawn = self.pool.draw(self.counts, rng)
            values = self.values[drawn.rows]
            if self.group.outcome == HEAT:
                found = self._compared(drawn, values, i, cells[0].margin)
                for cell in cells:
                    out[cell.name].append(_own(found, cell))
                continue
            for cell in cells:
                rates = _with_truth(values, drawn.attribute, cell, truth, rng)
                out[cell.name].append(_own(self._compared(drawn, rates, i, cell.margin), cell))
        return out

    def counted(self, cell: OpenCell, truth: Truth, found: Iterable[Contrast | None]) -> Chances:
        """How often the contrasts settle a cell."""
        states = [_state(c, self.reading) for c in found]
        return Chances(
            cell=cell,
            truth=truth,
            difference=difference_of(cell, truth),
            patients=_smaller_side(cell, self.pool, self.counts),
            within=states.count(CellState.WITHIN) / self.replicates,
            beyond=states.count(CellState.BEYOND) / self.replicates,
        )

    def _compared(
        self, drawn: Drawn, values: Floats, replicate: int, margin: float
    ) -> tuple[Contrast, ...]:
        plan = drawn.study.plan
        enough = max(PERMUTATIONS, ceil(FEWEST_BEYOND / plan.analysis.alpha))
        seed = plan.run.seed + replicate * _SEEDS // self.replicates
        kinds = {cell.cell.comparison for cell in self.group.cells}
        asked = drawn.attribute if "trend" in kinds else replace(drawn.attribute, order=None)
        settings = drawn.study.settings(
            asked, confirmatory=True, margin=margin, analytic=False, pairwise="pair" in kinds
        )
        settings = replace(
            settings,
            permutations=min(settings.permutations, enough),
            seed=seed,
            family=1,
            effects=False,
            beside=False,
        )
        observations = drawn.study.observations(asked, values, self.group.region or None)
        return disparity_of(observations, settings).contrasts


def _own(found: tuple[Contrast, ...], cell: OpenCell) -> Contrast | None:
    """The contrast that answers a cell."""
    own = cell.cell
    for c in found:
        if c.kind == own.comparison and (
            not own.group or (c.group, c.reference) == (own.group, own.reference)
        ):
            return c
    return None


def _with_difference(
    found: list[Contrast | None], cell: OpenCell, truth: Truth
) -> Iterator[Contrast | None]:
    """The contrasts of a cell, moved to the difference that a truth stands for."""
    to = difference_of(cell, truth)
    if cell.shape is None:
        return _moved(found, to)
    return moved_curves(found, cell.shape.scaled(to))


def _moved(found: list[Contrast | None], to: float) -> Iterator[Contrast | None]:
    """The contrasts, each moved by the step that takes their mean estimate to ``to``.

    What has no test (a constant outcome, a bound on few events) stays as it is.
    """
    tested = [c.estimate for c in found if c is not None and c.margin_test and not c.reason]
    step = to - float(np.mean(tested)) if tested else 0.0
    for c in found:
        if c is None or not isinstance(c.margin_test, MarginTest) or c.reason:
            yield c
            continue
        test = replace(c.margin_test, estimate=c.margin_test.estimate + step)
        yield replace(c, estimate=c.estimate + step, margin_test=test)


def _state(c: Contrast | None, reading: Reading) -> CellState:
    """The state of one cell among all planned ones; one within provisionally is open."""
    if c is None:
        return CellState.NOT_ASSESSED
    test = extended(c.margin_test, c.df)
    others = [None] * (reading.planned - 1)
    decision = decide([test, *others], reading.study.plan.analysis.alpha)[0]
    state = with_decision(c, decision, judged=True).state
    return CellState.OPEN if state is CellState.WITHIN and c.provisional else state


def _smaller_side(cell: OpenCell, pool: Pool, counts: Ints) -> int:
    """Patients of the smaller side of a comparison; of a trend, of the smallest level with ten.

    A curve is about everybody.
    """
    own, total = cell.cell, int(counts.sum())
    if own.group not in pool.levels:
        large = counts[counts >= MIN_PATIENTS]
        return int(large.min()) if len(large) else total
    n = int(counts[pool.levels.index(own.group)])
    if own.reference in pool.levels:
        return min(n, int(counts[pool.levels.index(own.reference)]))
    return min(n, total - n)


def _with_truth(
    values: Floats, a: Attribute, cell: OpenCell, truth: Truth, rng: np.random.Generator
) -> Floats:
    """Rates whose difference is the one that a truth stands for.

    The group's rate moves; what 0 or 1 does not allow is moved on the other side.
    """
    if a.kind == "continuous":
        if cell.shape is None:
            return values
        to = cell.shape.scaled(difference_of(cell, truth))
        now, wanted = rates_along(float(np.nanmean(values)), cell.shape, to, a.values)
        return flipped(values, now, wanted - now, rng)
    step = difference_of(cell, truth) - cell.seen
    own = cell.cell
    if not own.group:
        place = np.array([a.levels.index(v) for v in a.values], dtype=np.int64)
        along = np.arange(len(a.levels)) / max(len(a.levels) - 1, 1) - 0.5
        return moved_rates(values, step * along, place, rng)
    group = a.members(own.group)
    other = ~group if own.reference == "rest" else a.members(own.reference)
    rates = [float(np.nanmean(values[side])) if side.any() else 0.0 for side in (group, other)]
    moved = float(np.clip(rates[0] + step, 0, 1)) - rates[0]
    by = np.array([moved, float(np.clip(rates[1] - (step - moved), 0, 1)) - rates[1]])
    return moved_rates(values, by, np.where(group, 0, np.where(other, 1, -1)), rng)
