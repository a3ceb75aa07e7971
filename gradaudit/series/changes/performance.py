"""The change of every performance figure, over all images and in each group.

A figure before and after has an interval of its own; that of the change is made from both, with the
correlation that their shared clusters give them ("method of variance estimates recovery", Zou &
Donner 2008, Stat. Med. 27:1693, eqs 5 and 7: ``performance.differences.mover_difference``).  A
change is shown where the interval at the level that Holm leaves over all figures excludes 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gradaudit.cohort.population import Array
from gradaudit.disclosure.decision import narrowed_levels
from gradaudit.number_text import finite_or_none
from gradaudit.performance.differences import mover_difference
from gradaudit.performance.intervals import Figure
from gradaudit.performance.metrics import FIGURES, Predictions
from gradaudit.performance.table import predictions
from gradaudit.records import ALL, OVER_ANALYSED, Interval, Limits
from gradaudit.result_schema import PerformanceRow
from gradaudit.schema.comparison import ChangeWord, PerformanceChange
from gradaudit.series.changes.cells import READS_AS_ZERO, SMALLEST
from gradaudit.series.changes.differences import Obstacles
from gradaudit.series.changes.settings import ChangeSettings
from gradaudit.series.changes.sides import Audited

LOWER_IS_BETTER = ("brier",)
NEARER_TO_ONE = ("calibration_slope",)
OF_ONE_CLASS = ("sensitivity", "specificity", "ppv", "auc", "calibration_slope")
WITHHELD = "it is withheld in one of the two audits"
OVERSHOT = "it changed, and it is not shown that it is nearer to 1 or further from it"
OTHER_IMAGES = "it is of the images with heat alone in one of the two audits"
Place = tuple[str, str, str]


@dataclass(frozen=True)
class _Predicted:
    """Predictions of one audit, with the clusters of both."""

    side: Audited
    count: int

    @cached_property
    def _data(self) -> tuple[Predictions, Array]:
        return predictions(self.side.meas, self.side.plan)

    @cached_property
    def _narrowed(self) -> dict[tuple[str, str], Array]:
        return narrowed_levels(self.side.study.cohort, self.side.plan, self._data[1])

    def members(self, attribute: str, level: str) -> Array:
        """Rows of the predictions that a figure of a level is taken over, as the report does."""
        rows = self._data[1]
        if attribute == ALL:
            return np.arange(len(rows))
        groups = self.side.study.cohort.groups[attribute].astype(str).to_numpy()
        inside = groups == level
        kept = self._narrowed.get((attribute, level))
        if kept is not None:
            inside = inside & kept
        return np.flatnonzero(inside[rows])

    def figure(self, place: Place, alpha: float) -> Figure:
        """A figure with its influences summed per cluster, over all clusters of both audits."""
        attribute, level, metric = place
        data, rows = self._data
        own = self.members(attribute, level)
        clusters = self.side.clusters[rows[own]]
        part = replace(data.take(own), cluster=np.unique(clusters, return_inverse=True)[1])
        figure = FIGURES[metric](part, alpha)
        if figure.influence is None:
            return figure
        sums = np.bincount(clusters, weights=figure.influence, minlength=self.count)
        return replace(figure, influence=sums)


@dataclass(frozen=True)
class _Change:
    """One figure in both audits."""

    place: Place
    rows: tuple[PerformanceRow, PerformanceRow]
    predicted: tuple[_Predicted, _Predicted]

    def ends(self, level: float) -> tuple[float | None, float | None, float | None]:
        """The change with its interval at a level."""
        first, second = (p.figure(self.place, level) for p in self.predicted)
        if _is_the_same(first, second):
            return 0.0, 0.0, 0.0
        return mover_difference(second, first)

    @property
    def is_rounded(self) -> bool:
        """Whether a report shows the figure to two digits alone, so that its base stays hidden."""
        return any(row.n_images is None for row in self.rows)

    def excludes_zero(self, level: float) -> bool:
        d, low, high = self.ends(level)
        if d is None or low is None or high is None or abs(d) < SMALLEST:
            return False
        return low > 0 or high < 0

    def nearer_to_one(self, level: float) -> bool | None:
        """Whether the later figure lies nearer to 1 (False: further); None where neither is shown.

        The change and the sum of both distances from 1 must have signs that are shown.
        """
        first, second = (p.figure(self.place, level) for p in self.predicted)
        turned = _mirrored(first)
        total, low, high = mover_difference(second, turned)
        d = self.ends(level)[0]
        if d is None or total is None or low is None or high is None or not (low > 0 or high < 0):
            return None
        return d * total < 0


def _is_the_same(a: Figure, b: Figure) -> bool:
    """Whether every cluster adds to both figures alike, so that nothing can have changed."""
    if a.estimate is None or a.estimate != b.estimate or a.influence is None or b.influence is None:
        return False
    return bool(np.array_equal(a.influence, b.influence))


def _mirrored(figure: Figure) -> Figure:
    """2 - figure: as far from 1 on the other side."""
    if figure.estimate is None or figure.low is None or figure.high is None:
        return Figure(reason=figure.reason)
    influence = None if figure.influence is None else -figure.influence
    return replace(
        figure,
        estimate=2 - figure.estimate,
        low=2 - figure.high,
        high=2 - figure.low,
        influence=influence,
    )


def performance_changes(
    before: Audited, after: Audited, obstacles: Obstacles, settings: ChangeSettings
) -> tuple[PerformanceChange, ...]:
    """One record for every figure of either audit, all images first."""
    places = [
        place
        for place in dict.fromkeys((*before.performance, *after.performance))
        if place[2] in FIGURES
    ]
    count = 1 + max(int(side.clusters.max(initial=0)) for side in (before, after))
    predicted = _Predicted(before, count), _Predicted(after, count)
    out: dict[Place, PerformanceChange] = {}
    asked: list[_Change] = []
    for place in places:
        rows = before.performance.get(place), after.performance.get(place)
        bare = _not_compared(place, rows, obstacles)
        if bare is not None:
            out[place] = bare
        elif rows[0] is not None and rows[1] is not None:
            asked.append(_Change(place, (rows[0], rows[1]), predicted))
    shown, left = _shown(asked, settings.alpha)
    for change in asked:
        level = settings.alpha / (len(asked) if change.place in shown else left)
        out[change.place] = _record(change, change.place in shown, level, settings.alpha)
    return tuple(out[place] for place in places)


def _not_compared(
    place: Place, rows: tuple[PerformanceRow | None, PerformanceRow | None], obstacles: Obstacles
) -> PerformanceChange | None:
    """The record of a figure that is not compared; None where it is."""
    attribute, level, metric = place
    first, second = rows
    word: ChangeWord = "not_compared"
    reason = ""
    if first is None or second is None:
        reason = (
            f"only {'before' if second is None else 'after'}: the other audit has no such group"
        )
    elif first.suppressed or second.suppressed:
        word, reason = "withheld", WITHHELD
    elif obstacles.performance:
        reason = obstacles.performance
    elif metric in OF_ONE_CLASS and obstacles.positive:
        reason = obstacles.positive
    elif first.estimate is None or second.estimate is None:
        pair = (("before", first), ("after", second))
        told = [
            f"{when}: {row.reason}" for when, row in pair if row.estimate is None and row.reason
        ]
        reason = "; ".join(dict.fromkeys(told)) or "it has no value in one of the two audits"
    elif (OVER_ANALYSED in first.reason) != (OVER_ANALYSED in second.reason):
        reason = OTHER_IMAGES
    else:
        return None
    before, after = (_interval(row) if word != "withheld" else Interval() for row in rows)
    return PerformanceChange(
        attribute=attribute,
        level=level,
        metric=metric,
        word=word,
        reason=reason,
        before=before,
        after=after,
    )


def _interval(row: PerformanceRow | None) -> Interval:
    if row is None:
        return Interval()
    return Interval(estimate=row.estimate, low=row.low, high=row.high)


def _shown(asked: Sequence[_Change], alpha: float) -> tuple[set[Place], int]:
    """The figures whose change is shown, by Holm through their intervals; and how many are left.

    Level alpha / m at first; whoever is found makes the level of the others larger.
    """
    shown: set[Place] = set()
    while True:
        level = alpha / max(len(asked) - len(shown), 1)
        found = {c.place for c in asked if c.place not in shown and c.excludes_zero(level)}
        if not found:
            return shown, max(len(asked) - len(shown), 1)
        shown |= found


def _record(change: _Change, is_shown: bool, level: float, alpha: float) -> PerformanceChange:
    attribute, group, metric = change.place
    d, low, high = change.ends(alpha)
    _, thin_low, thin_high = change.ends(level)
    digits = 2 if change.is_rounded else None
    word, reason = _word(change, is_shown, level)
    if d is not None and abs(d) < SMALLEST:
        reason = READS_AS_ZERO
    ends: dict[str, Any] = {"low": _rounded(low, digits), "high": _rounded(high, digits)}
    return PerformanceChange(
        attribute=attribute,
        level=group,
        metric=metric,
        word=word,
        reason=reason,
        before=_interval(change.rows[0]),
        after=_interval(change.rows[1]),
        change=Interval(estimate=_rounded(d, digits), **ends),
        thin=Limits(low=_rounded(thin_low, digits), high=_rounded(thin_high, digits)),
    )


def _word(change: _Change, is_shown: bool, level: float) -> tuple[ChangeWord, str]:
    d = change.ends(level)[0]
    if not is_shown or d is None:
        return "not_shown", ""
    metric = change.place[2]
    if metric in NEARER_TO_ONE:
        nearer = change.nearer_to_one(level)
        if nearer is None:
            return "not_shown", OVERSHOT
        return ("better" if nearer else "worse"), ""
    better = d < 0 if metric in LOWER_IS_BETTER else d > 0
    return ("better" if better else "worse"), ""


def _rounded(value: float | None, digits: int | None) -> float | None:
    if value is None or digits is None:
        return None if value is None else finite_or_none(value)
    return round(value, digits) + 0.0
