"""The planned cells of a run that are not settled, with what a larger study needs to know of each.

Counts and numbers of a group that the report withholds are withheld here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gradaudit.analysis.findings import analysis_of, refuse_unmeasured_names
from gradaudit.analysis.planned.cells import HEAT
from gradaudit.analysis.study import Floats, Study
from gradaudit.cohort.attributes import Attribute, attributes_of
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import take_cohorts
from gradaudit.disclosure.decision import decide
from gradaudit.plan import Plan
from gradaudit.records import CellState, Finding
from gradaudit.result_schema import PlannedCell
from gradaudit.runs.measurements import Measurements
from gradaudit.series.shapes import Shape

WITHHELD = "a group of this comparison is too small to be shown"
NO_CURVE = "its curve is withheld, or none was fitted"


@dataclass(frozen=True)
class OpenCell:
    """A planned cell that is not settled.

    margin, seen, far : in the outcome's unit; far is the end of the thick whisker that lies
        furthest from no difference; of a curve, in size: its sign is that of seen
    shape : of a curve, the one that the run saw, with seen as the largest difference of its
        points; None where every value is the same, which no truth changes
    reason : why it is not resampled ("" where it is); then seen and far are 0
    """

    cell: PlannedCell
    margin: float
    seen: float = 0.0
    far: float = 0.0
    shape: Shape | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        c = self.cell
        what = f"{c.group} against {c.reference}" if c.group else c.comparison
        return f"{c.attribute}: {what}, {c.region or 'undefined heat'}"


@dataclass(frozen=True)
class Group:
    """Open cells of one attribute, region and outcome, which are resampled together.

    counts_shown : whether the report shows how many patients each side has
    """

    attribute: Attribute
    region: str
    outcome: str
    cells: tuple[OpenCell, ...]
    counts_shown: bool


@dataclass(frozen=True)
class Reading:
    """A run as its audit reads it: the study, the number of planned cells, and what is open."""

    study: Study
    planned: int
    groups: tuple[Group, ...]

    def values(self, group: Group) -> Floats:
        """(n,) the outcome of each image of the run, NaN where it has none."""
        if group.outcome == HEAT:
            return self.study.heat_share(group.region)
        return self.study.undefined


def reading_of(meas: Measurements, plan: Plan) -> Reading:
    """The audit of the measurements, with its open cells.

    Errors: ``PlanError`` where the plan names what was not measured.
    """
    refuse_unmeasured_names(meas, plan)
    cohorts = take_cohorts(meas, plan)
    suppression = decide(cohorts, heat_rows_of(cohorts, plan), plan)
    found = analysis_of(cohorts, suppression, plan)
    judged = [cell for cell in found.cells if cell.margin is not None]
    own = cohorts[0]
    attributes = attributes_of(meas, plan, own.groups)
    study = Study.of(own, plan, attributes, primary=True, planned=len(found.cells))
    return Reading(study, len(judged), tuple(_groups(study, judged, found.findings)))


def _groups(
    study: Study, cells: Sequence[PlannedCell], findings: Iterable[Finding]
) -> Iterable[Group]:
    by_anchor = {finding.anchor: finding for finding in findings}
    attributes = {a.name: a for a in study.attributes}
    places = dict.fromkeys((cell.attribute, cell.region, cell.outcome) for cell in cells)
    for name, region, outcome in places:
        own = [c for c in cells if (c.attribute, c.region, c.outcome) == (name, region, outcome)]
        pairs = [(cell, by_anchor.get(cell.finding)) for cell in own]
        asked = [_open_cell(cell, finding) for cell, finding in pairs if _is_open(cell)]
        hidden = any(_is_hidden(cell, finding) for cell, finding in pairs)
        if asked:
            yield Group(attributes[name], region, outcome, tuple(asked), not hidden)


def _is_open(cell: PlannedCell) -> bool:
    return not cell.settled and cell.state is not CellState.BEYOND


def _is_hidden(cell: PlannedCell, finding: Finding | None) -> bool:
    """Whether the report does not show how many patients a comparison has."""
    return cell.state is CellState.WITHHELD or (finding is not None and finding.n_withheld)


def _open_cell(cell: PlannedCell, finding: Finding | None) -> OpenCell:
    margin = cell.margin or 0.0
    reason = _why_not(cell, finding)
    if reason or finding is None:
        return OpenCell(cell, margin, reason=reason)
    ends = finding.thick.low, finding.thick.high
    low, high = (end if end is not None else 0.0 for end in ends)
    far = high if abs(high) >= abs(low) else low
    seen = cell.estimate or 0.0
    if cell.comparison != "curve":
        return OpenCell(cell, margin, seen, far)
    shape = Shape.of(finding.curve) if finding.curve else None
    return OpenCell(cell, margin, seen, float(np.copysign(far, seen)), shape)


def _why_not(cell: PlannedCell, finding: Finding | None) -> str:
    """Why a cell is not resampled, without a word that gives a withheld count away."""
    if cell.state is CellState.WITHHELD:
        return WITHHELD
    if finding is None or cell.estimate is None:
        shown = finding is not None and finding.n_withheld
        return f"not assessed: {finding.reason if shown and finding else cell.reason}"
    if cell.state is CellState.WITHIN and not cell.provisional:
        return f"within its limit, and more patients of the same kind do not help: {cell.reason}"
    if finding.thick.low is None or finding.thick.high is None:
        return "its numbers are withheld, or its whisker has no end"
    constant = finding.thick.low == finding.thick.high
    if cell.comparison == "curve" and not (finding.curve or constant):
        return NO_CURVE
    return ""
