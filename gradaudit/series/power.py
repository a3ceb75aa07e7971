"""``ga.power``: how likely is it that a larger study settles what is open?

Before there are data, from a standard deviation (``stats.power``).  From a run: its patients are
drawn again, with 1, 2, 4, 8 times the smallest group (of a number: times all patients), and go
through the decision of the audit itself, under three truths: the difference that the run saw, none,
and the far end of the thick whisker; of a curve the shape that the run saw, scaled.  Never one of
them alone: comparisons that are still open are a selection, and where 46 % was said of the
difference seen, 85 % happened if there was none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gradaudit.errors import InputError, RunError
from gradaudit.plan import Plan, build_plan
from gradaudit.runs.measurements import Measurements
from gradaudit.series.open_cells import Group, OpenCell, Reading, reading_of
from gradaudit.series.power_words import power_sentences
from gradaudit.series.repeated_audits import chances
from gradaudit.stats.power import planned_power

if TYPE_CHECKING:
    from gradaudit.result import AuditResult

FACTORS = (1.0, 2.0, 4.0, 8.0)
REPLICATES = 100
"""A probability from 100 replicates has a Monte-Carlo standard error of 5 points at most."""
COLUMNS = (
    "cell", "attribute", "comparison", "group", "reference", "region", "outcome", "factor",
    "patients", "truth", "difference", "probability_within", "probability_beyond", "replicates",
    "reason",
)  # fmt: skip
SETTLED = "every planned cell is settled: no more patients are needed for the verdict"


def power(
    source: AuditResult | Measurements | float,
    *,
    plan: Plan | None = None,
    factors: Sequence[float] = FACTORS,
    replicates: int = REPLICATES,
    seed: int = 0,
    margin: float | None = None,
    cells: int | None = None,
    groups: Sequence[int] | None = None,
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Chance that a study of a given size settles its planned cells.

    Of a number, ``ga.power(0.15, margin=0.05, cells=6, groups=(100, 300))``: before there are data,
    see ``stats.power.planned_power``.

    Of a result, or of measurements with their ``plan`` (default: the one that the run recorded):
    one row per open planned cell, factor and truth.

    factor : every level holds at least so many times the patients of the smallest one; larger ones
        stay.  patients : of the comparison's smaller side then; missing where counts are withheld.
        Of a curve so many times all its patients, and patients are all of them
    truth : "as seen", "none", "far end" (of the thick whisker); difference : the true one then.
        Of a curve the largest between two of its points; the true curve has the shape that the run
        saw, scaled to it ("far end" in size: both keep the sign that was seen), and "none" is flat
    probability_within, probability_beyond : that the cell is shown to lie within its margin (and
        not provisionally), or beyond it with Holm over all planned cells; ``replicates`` studies
    reason : why a cell has no numbers ("" where it has)
    ``.attrs["sentences"]``: cell -> its words; ``.attrs["note"]``: what is left out

    Errors: ``InputError`` for a setting out of range, no criteria, or no measurements.
    """
    if isinstance(source, int | float | np.number):
        if margin is None or cells is None or groups is None:
            raise InputError("Planning from a standard deviation needs margin, cells and groups.")
        return planned_power(float(source), margin=margin, cells=cells, groups=groups, alpha=alpha)
    if any(given is not None for given in (margin, cells, groups)):
        raise InputError("margin, cells and groups belong to planning; a run has its own.")
    _check(factors, replicates, seed)
    meas, plan = _measured(source, plan)
    if plan.criteria is None:
        raise InputError(
            "No criteria are declared, so nothing is open. Declare a margin: [criteria] margin = 0.10"
        )
    reading = reading_of(meas, plan)
    rows = [
        row for group in reading.groups for row in _rows(reading, group, factors, replicates, seed)
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame.attrs["sentences"] = power_sentences(frame)
    frame.attrs["note"] = _note(frame, sites=plan.analysis.site is not None)
    return frame


NOTE = (
    "The patients of this run, drawn again, stand for those to come. Coverage, missing masks and "
    "unknown groups are taken to be as they are."
)
NOTE_OF_CURVES = (
    " A curve keeps the shape that the run saw: it is scaled until its two points that differ most "
    "differ by as much as is assumed. All its patients are multiplied."
)


NOTE_OF_SITES = (
    " So are the sites: what differs between them in this run is taken as real, and patients of "
    "new sites may settle more than is said."
)


def _note(frame: pd.DataFrame, *, sites: bool) -> str:
    """What is left out, and how a curve is scaled where one is drawn again."""
    if not len(frame):
        return SETTLED
    drawn = frame[frame["reason"] == ""]
    curves = bool((drawn["comparison"] == "curve").any())
    return NOTE + NOTE_OF_SITES * sites + NOTE_OF_CURVES * curves


def _check(factors: Sequence[float], replicates: int, seed: int) -> None:
    wrong = [factor for factor in factors if not (isfinite(factor) and factor >= 1)]
    if wrong or not len(factors):
        raise InputError(
            f"factors are multiples of the smallest group, each at least 1, such as 1,2,4,8; "
            f"got {wrong or list(factors)}."
        )
    if replicates < 10:
        raise InputError(f"At least 10 replicates; got {replicates}.")
    if seed < 0:
        raise InputError(f"seed is 0 or more; got {seed}.")


def _measured(source: Any, plan: Plan | None) -> tuple[Measurements, Plan]:
    """Measurements and plan of a result, or of measurements."""
    if isinstance(source, Measurements):
        recorded = None if source.run is None else source.run.plan
        if plan is None and recorded is None:
            raise RunError("These measurements record no plan. Give one: ga.power(meas, plan=plan)")
        return source, plan or build_plan(recorded or {}, "the plan that the run recorded")
    meas = getattr(source, "measurements", None)
    if not isinstance(meas, Measurements):
        raise InputError(
            "ga.power takes a result with its measurements, measurements, or a standard deviation; "
            f"got {type(source).__name__} without any."
        )
    return meas, plan or build_plan(source.document.plan, "the plan of the result")


def _rows(
    reading: Reading, group: Group, factors: Sequence[float], replicates: int, seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of the open cells of one group, cell by cell."""
    found = []
    for factor in factors:
        found += [(factor, c) for c in chances(reading, group, factor, replicates, seed)]
    for cell in group.cells:
        own = [(factor, c) for factor, c in found if c.cell is cell]
        if not own:
            yield _place(cell) | {
                "reason": cell.reason or "no group is large enough to be compared"
            }
        for factor, c in own:
            yield _place(cell) | {
                "factor": factor,
                "patients": c.patients if group.counts_shown else None,
                "truth": c.truth,
                "difference": c.difference,
                "probability_within": c.within,
                "probability_beyond": c.beyond,
                "replicates": replicates,
                "reason": "",
            }


def _place(cell: OpenCell) -> dict[str, Any]:
    names = ("attribute", "comparison", "group", "reference", "region", "outcome")
    return {"cell": cell.name} | {name: getattr(cell.cell, name) for name in names}
