"""What both audits say of every planned comparison, or why it is not compared.

Two audits come in; one ``Counterpart`` for every planned comparison of either goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradaudit.analysis.planned.cells import HEAT
from gradaudit.disclosure.small_cells import is_small
from gradaudit.records import CellState
from gradaudit.result_schema import PlannedCell
from gradaudit.schema.comparison import ChangeWord
from gradaudit.series.changes.differences import Obstacles
from gradaudit.series.changes.group_means import GroupMeans, group_means
from gradaudit.series.changes.joint_tests import Half
from gradaudit.series.changes.sides import Audited, Key
from gradaudit.stats.family import Ints
from gradaudit.subgroups.analysis_set import AnalysisSet, usable_rows
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.contrast import Contrast

WITHHELD = "a group of this comparison is too small to be shown in one of the two audits"
NO_ERROR = "its difference has no error of its own in one of the two audits"


@dataclass(frozen=True)
class _Place:
    """One attribute, region and outcome in one audit: its contrasts, and the rows they rest on."""

    contrasts: tuple[Contrast, ...]
    rows: AnalysisSet
    adjusted_for: tuple[str, ...]

    def contrast(self, key: Key) -> Contrast | None:
        kind = {"curve": "continuous"}.get(key[1], key[1])
        named = key[2:4] if kind in ("level", "pair") else None
        for c in self.contrasts:
            if c.kind == kind and named in (None, (c.group, c.reference)):
                return c
        return None


@dataclass(frozen=True)
class Counterpart:
    """One planned comparison with what both audits say of it, or why it cannot be compared."""

    key: Key
    cells: tuple[PlannedCell | None, PlannedCell | None]
    word: ChangeWord = "not_shown"
    reason: str = ""
    contrasts: tuple[Contrast, Contrast] | None = None
    means: tuple[GroupMeans, GroupMeans] | None = None
    halves: tuple[Half, Half] | None = None
    counts_shown: bool = False
    adjusted_for: tuple[str, ...] = ()


class _Places:
    """The contrasts of both audits, each place computed once."""

    def __init__(self, before: Audited, after: Audited) -> None:
        self.sides = before, after
        self._found: dict[tuple[int, str, str, str], _Place] = {}

    def of(self, side: int, key: Key) -> _Place:
        attribute, _, _, _, region, outcome = key
        place = (side, attribute, region, outcome)
        if place not in self._found:
            self._found[place] = self._computed(*place)
        return self._found[place]

    def _computed(self, side: int, attribute: str, region: str, outcome: str) -> _Place:
        audited = self.sides[side]
        study, a = audited.study, audited.attributes[attribute]
        values = study.heat_share(region) if outcome == HEAT else study.undefined
        observations = study.observations(a, values, region or None)
        settings = study.settings(a, confirmatory=False, margin=None, analytic=True, pairwise=True)
        settings = replace(settings, keep_fit=True, ends=self._ends(attribute))
        found = disparity_of(observations, settings)
        rows = usable_rows(observations, settings)
        return _Place(found.contrasts, rows, found.adjusted_for)

    def _ends(self, attribute: str) -> tuple[float, float] | None:
        """Of a number, the 10 % and 90 % point of both audits together."""
        pair = [side.attributes.get(attribute) for side in self.sides]
        numbers = [a.values.astype(float) for a in pair if a is not None and a.kind == "continuous"]
        if len(numbers) < 2:
            return None
        known = np.concatenate(numbers)
        low, high = np.quantile(known[np.isfinite(known)], [0.1, 0.9])
        return float(low), float(high)


def counterparts(
    before: Audited, after: Audited, obstacles: Obstacles, min_cell: int
) -> list[Counterpart]:
    """One for every planned comparison of either audit, those of the earlier one first."""
    sides = before, after
    places = _Places(before, after)
    keys = dict.fromkeys((*before.cells, *after.cells))
    found = [_counterpart(key, sides, obstacles, places) for key in keys]
    return _with_counts(found, sides, min_cell)


def _counterpart(
    key: Key, sides: tuple[Audited, Audited], obstacles: Obstacles, places: _Places
) -> Counterpart:
    first, second = (side.cells.get(key) for side in sides)
    found = Counterpart(key, (first, second))
    if first is None or second is None:
        return replace(found, word="not_compared", reason=_alone(key, sides, first is None))
    if _is_withheld(sides[0], first) or _is_withheld(sides[1], second):
        return replace(found, word="withheld", reason=WITHHELD)
    if why := obstacles.of_cell(key):
        return replace(found, word="not_compared", reason=why)
    pair = places.of(0, key), places.of(1, key)
    if set(pair[0].adjusted_for) != set(pair[1].adjusted_for):
        return replace(found, word="not_compared", reason=_adjusted_otherwise(*pair))
    return _with_halves(found, pair, (first, second))


def _with_halves(
    found: Counterpart, pair: tuple[_Place, _Place], cells: tuple[PlannedCell, PlannedCell]
) -> Counterpart:
    """The counterpart with both differences and means, or why one of them has no number."""
    a, b = (place.contrast(found.key) for place in pair)
    missing = replace(found, word="not_compared", reason=_why_no_number(*cells))
    if a is None or b is None:
        return missing
    first, second = _half(a, cells[0]), _half(b, cells[1])
    if first is None or second is None:
        return replace(missing, contrasts=(a, b))
    means = None
    if found.key[1] in ("level", "pair"):
        means = group_means(pair[0].rows, a), group_means(pair[1].rows, b)
    held = pair[0].adjusted_for
    return replace(found, contrasts=(a, b), halves=(first, second), means=means, adjusted_for=held)


def _alone(key: Key, sides: tuple[Audited, Audited], is_later: bool) -> str:
    """Why a planned comparison is in one audit alone."""
    when, other = ("after", sides[0]) if is_later else ("before", sides[1])
    attribute, _, group, reference, region, _ = key
    a = other.attributes.get(attribute)
    if a is None:
        return f"only {when}: the attribute is not in the other manifest"
    if region and region not in other.study.cohort.regions:
        return f"only {when}: the region is not measured in the other audit"
    if region and region not in other.study.confirmatory_regions:
        return f"only {when}: the region does not decide in the other audit"
    missing = [level for level in (group, reference) if level and level not in (*a.levels, "rest")]
    if missing:
        return f"only {when}: the other audit has no level {', '.join(missing)}"
    return f"only {when}: it is not planned in the other audit"


def _is_withheld(side: Audited, cell: PlannedCell) -> bool:
    """Whether the report does not show the number, though there is one."""
    if cell.state is CellState.WITHHELD:
        return True
    finding = side.findings.get(cell.finding)
    hidden = finding is not None and (finding.suppressed or finding.n_withheld)
    return hidden and cell.estimate is None and cell.comparison != "curve"


def _adjusted_otherwise(a: _Place, b: _Place) -> str:
    held = [", ".join(place.adjusted_for) or "nothing" for place in (a, b)]
    return f"it was adjusted for other things ({held[0]}, then {held[1]})"


def _half(c: Contrast, cell: PlannedCell) -> Half | None:
    """The contrast as one half of a change; None where it has no number, or none that is shown."""
    if c.is_constant:
        return Half(0.0, None)
    if c.reason or c.fitted is None or not np.isfinite(c.estimate):
        return None
    if cell.estimate is None and cell.comparison != "curve":
        return None
    return Half(c.estimate, c.fitted, c.se, c.df)


def _why_no_number(first: PlannedCell, second: PlannedCell) -> str:
    """In the report's own words, which give no small group away."""
    parts = [
        f"{when}: {cell.reason}"
        for when, cell in (("before", first), ("after", second))
        if cell.estimate is None and cell.reason
    ]
    return "; ".join(parts) or NO_ERROR


def _with_counts(
    asked: Sequence[Counterpart], sides: tuple[Audited, Audited], min_cell: int
) -> list[Counterpart]:
    """Each comparison, with whether its counts may stand.

    They may where both reports show all counts of the attribute there, and none differs from its
    other one by a small number, which would be a small group of its own.
    """
    hidden: set[tuple[str, str, str]] = set()
    for a in asked:
        place = a.key[0], a.key[4], a.key[5]
        cells = zip(sides, a.cells, strict=True)
        silent = any(cell is None or side.hides_counts(cell) for side, cell in cells)
        if silent or (a.contrasts is not None and _close(*a.contrasts, min_cell)):
            hidden.add(place)
    return [replace(a, counts_shown=(a.key[0], a.key[4], a.key[5]) not in hidden) for a in asked]


def _close(a: Contrast, b: Contrast, min_cell: int) -> bool:
    names = ("n_clusters", "n_images", "n_clusters_reference", "n_images_reference")
    return any(is_small(abs(getattr(a, n) - getattr(b, n)), min_cell) for n in names)


def sites_of_clusters(before: Audited, after: Audited) -> Ints | None:
    """(U,) site of each cluster, by name over both audits; None where none is declared."""
    first, second = (side.study.site("") for side in (before, after))
    if first is None or second is None:
        return None
    count = 1 + max(int(side.clusters.max(initial=0)) for side in (before, after))
    names = np.full(count, "", dtype=object)
    for side, column in ((after, second), (before, first)):
        names[side.clusters] = [str(v) for v in column]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
