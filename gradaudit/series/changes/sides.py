"""One of the two audits: its result, measurements and plan, arranged so that both can be compared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from gradaudit.analysis.study import Study
from gradaudit.cohort.attributes import Attribute, attributes_of
from gradaudit.cohort.population import take_cohort
from gradaudit.errors import RunError
from gradaudit.plan import Plan
from gradaudit.records import Finding
from gradaudit.result_schema import PerformanceRow, PlannedCell, ResultDocument
from gradaudit.runs.measurements import Measurements
from gradaudit.runs.record import RunFile
from gradaudit.stats.family import Ints

Key = tuple[str, str, str, str, str, str]
"""A planned comparison: attribute, comparison, group, reference, region, outcome."""


@dataclass(frozen=True)
class Audited:
    """A result with what it was computed from.

    declared : the plan as it was declared; ``plan`` withholds groups below the larger ``min_cell``
        of both audits
    clusters : (n,) number of each image's cluster, the same in both audits
    references : attribute -> reference level, where the two audits would turn it round
    """

    document: ResultDocument
    meas: Measurements
    plan: Plan
    declared: Plan
    clusters: Ints
    references: tuple[tuple[str, str], ...] = ()

    @property
    def run(self) -> RunFile:
        if self.meas.run is None:
            raise RunError("These measurements carry no run record, which a comparison needs.")
        return self.meas.run

    @cached_property
    def attributes(self) -> dict[str, Attribute]:
        cohort = take_cohort(self.meas, self.plan)
        fixed = dict(self.references)
        found = attributes_of(self.meas, self.plan, cohort.groups)
        return {a.name: replace(a, reference=fixed.get(a.name, a.reference)) for a in found}

    @cached_property
    def study(self) -> Study:
        """The plan's own method and target, with the clusters of both audits."""
        cohort = replace(take_cohort(self.meas, self.plan), cluster=self.clusters)
        attributes = tuple(self.attributes.values())
        return Study.of(cohort, self.plan, attributes, primary=True)

    @cached_property
    def findings(self) -> dict[str, Finding]:
        return {finding.anchor: finding for finding in self.document.findings}

    @cached_property
    def cells(self) -> dict[Key, PlannedCell]:
        """Every planned comparison, each as the references of both audits have it."""
        out = {}
        for cell in self.document.cells:
            turned = self._turned(cell)
            out[key_of(turned)] = turned
        return out

    def _turned(self, cell: PlannedCell) -> PlannedCell:
        """The cell from its other side, where the two audits take it from different ones."""
        fixed = dict(self.references).get(cell.attribute)
        if cell.comparison != "level" or fixed is None or cell.reference == fixed:
            return cell
        numbers = {"estimate": cell.estimate, "ci_low": cell.ci_high, "ci_high": cell.ci_low}
        other = {name: None if v is None else -v for name, v in numbers.items()}
        return cell.model_copy(update={"group": cell.reference, "reference": cell.group, **other})

    def hides_counts(self, cell: PlannedCell) -> bool:
        """Whether the report does not show how many clusters a comparison has."""
        finding = self.findings.get(cell.finding)
        return finding is None or finding.n_withheld or finding.suppressed

    @cached_property
    def performance(self) -> dict[tuple[str, str, str], PerformanceRow]:
        return {(r.attribute, r.level, r.metric): r for r in self.document.performance}


def key_of(cell: PlannedCell) -> Key:
    return (
        cell.attribute,
        cell.comparison,
        cell.group,
        cell.reference,
        cell.region,
        cell.outcome,
    )


def with_common_references(before: Audited, after: Audited) -> tuple[Audited, Audited]:
    """Both audits with one reference for attributes of two levels that each takes the other way.

    Of two levels the larger one is the reference, and another level may be the larger one later;
    then the reference is the first of both by name, whichever audit comes first.
    """
    fixed = []
    for name, a in before.attributes.items():
        b = after.attributes.get(name)
        if b is None or a.kind == "continuous" or set(a.levels) != set(b.levels):
            continue
        declared = {
            side.plan.subgroups[name].reference if name in side.plan.subgroups else "rest"
            for side in (before, after)
        }
        if len(a.levels) == 2 and declared == {"rest"} and a.reference != b.reference:
            fixed.append((name, min(a.reference, b.reference)))
    if not fixed:
        return before, after
    return replace(before, references=tuple(fixed)), replace(after, references=tuple(fixed))
