"""Which images stand on each side of a comparison, and which findings figures are drawn of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gradaudit.analysis.sentences.audits import told_first
from gradaudit.analysis.study import Bools, Floats, Study
from gradaudit.cohort.attributes import Attribute
from gradaudit.disclosure.decision import Suppression
from gradaudit.records import UNKNOWN, CellState, Finding
from gradaudit.subgroups.analysis_set import (
    AnalysisSet,
    entering_rows,
    takes_differences,
    usable_rows,
)
from gradaudit.subgroups.within_clusters import sides_inside

MOST_FINDINGS = 12
"""Findings that pictures and maps are drawn of: more do not fit on a page that is read."""
TWO_SIDED = ("GA101", "GA105")
"""Codes of findings that compare two groups of images."""


@dataclass(frozen=True)
class Entered:
    """The images that enter the comparisons of one attribute in one region.

    rows : their values, levels and clusters      places : (k,) which of all images they are
    count : number of all images
    """

    rows: AnalysisSet
    places: np.ndarray[tuple[int], np.dtype[np.int64]]
    inside: bool
    count: int

    @classmethod
    def of(cls, study: Study, a: Attribute, region: str) -> Entered:
        """As the comparison of the heat share itself takes them, covariates included."""
        observations = study.observations(a, study.heat_share(region), region)
        settings = study.settings(a, confirmatory=False, margin=None, analytic=True)
        rows, usable = entering_rows(observations, settings)
        inside = takes_differences(rows, settings)
        if inside:  # a cluster counts where both sides are found beside the same covariates
            rows = usable_rows(observations, settings)
            rows = rows if rows.matched is None else replace(rows, blocks=rows.matched)
        return cls(rows, np.flatnonzero(usable), inside, len(usable))

    def sides(self, group: str, reference: str) -> tuple[Bools, Bools] | None:
        """(n,) images of the group and of its reference; None where a level is not there."""
        known = self.rows.levels
        if group not in known or (reference != "rest" and reference not in known):
            return None
        level = known.index(group)
        base = None if reference == "rest" else known.index(reference)
        if self.inside:
            own, other = sides_inside(self.rows, level, base)
        else:
            own = self.rows.codes == level
            other = ~own if base is None else self.rows.codes == base
        return self._among_all(own), self._among_all(other)

    def _among_all(self, side: Bools) -> Bools:
        out = np.zeros(self.count, dtype=bool)
        out[self.places[side]] = True
        return out


@dataclass(frozen=True)
class Sides:
    """The study, what is withheld of it, and the images on the sides of its comparisons."""

    study: Study
    suppression: Suppression

    @cached_property
    def _entered(self) -> dict[tuple[str, str], Entered]:
        return {}

    def of(
        self, attribute: str, region: str, group: str, reference: str
    ) -> tuple[Bools, Bools] | None:
        """(n,) images of the group and of its reference in one region; None where there are none."""
        found = next((a for a in self.study.attributes if a.name == attribute), None)
        if found is None or found.kind == "continuous" or region not in self.study.cohort.regions:
            return None
        key = attribute, region
        if key not in self._entered:
            self._entered[key] = Entered.of(self.study, found, region)
        return self._entered[key].sides(group, reference)

    def is_hidden(self, attribute: str, level: str, region: str) -> bool:
        """Whether nothing may be shown of a level in a region."""
        cohort = self.study.cohort
        cell = attribute, level, region, cohort.method, cohort.target
        levels = self.suppression.levels.get(attribute, set())
        return level in levels or cell in self.suppression.cells

    def has_hidden(self, attribute: str, region: str) -> bool:
        """Whether any level of an attribute is hidden in a region, "(unknown)" included.

        What is told of all others could then be less what is told of each of them, so that the
        hidden level is left.
        """
        groups = self.study.cohort.groups[attribute].cat.categories
        return any(self.is_hidden(attribute, str(level), region) for level in (*groups, UNKNOWN))

    def cluster_means(self, region: str, side: Bools) -> Floats:
        """Mean heat share of each cluster over its images on one side, in no order."""
        values = self.study.heat_share(region)[side]
        _, codes = np.unique(self.study.cohort.cluster[side], return_inverse=True)
        if not len(codes):
            return np.empty(0)
        return np.asarray(np.bincount(codes, weights=values) / np.bincount(codes))


def drawn_findings(findings: Sequence[Finding], fact: str) -> list[Finding]:
    """The findings that pictures and maps are drawn of, at most ``MOST_FINDINGS``.

    First the fact of page one, then what is beyond the limit (or shown, where none was set), the
    worst first, then what is open, the widest first.  Left out is what tells the same from the
    other side, or is withheld.

    fact : anchor of the finding that page one tells, or ""
    """
    decisive = [
        f for f in findings if f.test.family == "confirmatory" and f.outcome == "heat_share"
    ]
    told = told_first(decisive)
    ranked = [*(f for f in told if f.anchor == fact), *_beyond(told), *_open(told)]
    once = {f.anchor: f for f in ranked if f.code in (*TWO_SIDED, "GA102")}
    return list(once.values())[:MOST_FINDINGS]


def _beyond(told: Sequence[Finding]) -> Iterator[Finding]:
    for f in told:
        if f.state is CellState.BEYOND or (f.state is CellState.NOT_JUDGED and f.shown):
            yield f


def _open(told: Sequence[Finding]) -> list[Finding]:
    open_ = [f for f in told if f.state is CellState.OPEN and f.thin.low is not None]
    return sorted(open_, key=lambda f: (f.thin.low or 0.0) - (f.thin.high or 0.0))
