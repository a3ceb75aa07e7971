"""Where the model itself does worse by more than chance: one sentence beside the verdict.

A group whose images are told apart worse may have its heat elsewhere for that reason alone, so a
reader of the verdict has to know.  It never changes the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gradaudit.analysis.sentences.names import attribute_words
from gradaudit.number_text import decimal, p_in_text, percent_in_text, points, share_digits
from gradaudit.records import DIFFERENCE
from gradaudit.result_schema import PerformanceRow

_SHARES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv")
_HIGHER_IS_BETTER = (*_SHARES, "auc")
_LOWER_IS_BETTER = ("brier",)
_WORDS = {
    "auc": "AUC",
    "ppv": "PPV",
    "npv": "NPV",
    "brier": "Brier score",
    "balanced_accuracy": "balanced accuracy",
}
EVERYONE_ELSE = "everyone else"
"""What a difference to the rest calls it; see ``performance.table``."""


@dataclass(frozen=True)
class _Worse:
    """One level in which a metric is worse by more than chance."""

    difference: PerformanceRow
    metric: str
    size: float

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Accuracy first, then other shares; the largest difference first."""
        return self.metric != "accuracy", self.metric not in _SHARES, -self.size


def worse_performance(rows: Sequence[PerformanceRow], alpha: float = 0.05) -> str:
    """A sentence on the group for which the model itself does worse.

    As in "The model itself does worse on skin tone V–VI: accuracy 49 % against 82 % on all others
    (adjusted p < 0.001)."; "" where no difference is larger than chance.
    """
    found = sorted(_worse(rows, alpha), key=lambda worse: worse.rank)
    if not found:
        return ""
    first = found[0]
    row = first.difference
    groups = {(worse.difference.attribute, worse.difference.level) for worse in found}
    others = len(groups) - 1
    more = f"; so it does in {others} other group{'s' * (others > 1)}" if others else ""
    who = f"{attribute_words(row.attribute)} {row.level}"
    p = p_in_text(row.test.p_adjusted)
    return f"The model itself does worse on {who}: {_compared(first, rows)} (adjusted {p}){more}."


def _worse(rows: Sequence[PerformanceRow], alpha: float) -> Iterator[_Worse]:
    for row in rows:
        p, size = row.test.p_adjusted, row.estimate
        if not row.metric.endswith(DIFFERENCE) or row.suppressed or p is None or size is None:
            continue
        metric = row.metric.removesuffix(DIFFERENCE)
        worse = (metric in _HIGHER_IS_BETTER and size < 0) or (
            metric in _LOWER_IS_BETTER and size > 0
        )
        if worse and p <= alpha:
            yield _Worse(row, metric, abs(size))


def _compared(worse: _Worse, rows: Sequence[PerformanceRow]) -> str:
    """ "accuracy 49 % against 82 % on I–II"; by the difference where the other figure is not told."""
    row, name = worse.difference, _WORDS.get(worse.metric, worse.metric)
    reference = row.reason.removeprefix("against ").split(": ")[0]
    on = "all others" if reference == EVERYONE_ELSE else reference
    own = figure_of(rows, row.attribute, worse.metric, row.level)
    other = figure_of_others(rows, row, worse.metric, reference)
    if own is None:
        return f"{name} is {_size(worse)} {_direction(worse)} than on {on}"
    if other is None:
        return f"{name} {_value(worse, own)}, {_size(worse)} {_direction(worse)} than on {on}"
    return f"{name} {_value(worse, own)} against {_value(worse, other)} on {on}"


def figure_of(
    rows: Sequence[PerformanceRow], attribute: str, metric: str, level: str
) -> float | None:
    """A metric in one level; None where it is not known or not shown."""
    found = row_of(rows, attribute, metric, level)
    return None if found is None or found.suppressed else found.estimate


def row_of(
    rows: Sequence[PerformanceRow], attribute: str, metric: str, level: str
) -> PerformanceRow | None:
    """The row of a metric in one level, withheld or not; None where there is none."""
    place = attribute, level, metric
    return next((row for row in rows if (row.attribute, row.level, row.metric) == place), None)


def figure_of_others(
    rows: Sequence[PerformanceRow], own: PerformanceRow, metric: str, reference: str
) -> float | None:
    """The figure of a level's reference; of everyone else, where every other level tells its own.

    own : a row of the level that is compared
    """
    if reference != EVERYONE_ELSE:
        return figure_of(rows, own.attribute, metric, reference)
    others = [
        row
        for row in rows
        if row.attribute == own.attribute and row.level != own.level and row.metric == metric
    ]
    if len(others) == 1 and not others[0].suppressed:
        return others[0].estimate
    known = [
        (row.estimate, row.n_images)
        for row in others
        if row.estimate is not None and row.n_images and not row.suppressed
    ]
    if metric not in _SHARES or len(known) < len(others) or not known:
        return None
    total = sum(n or 0 for _, n in known)
    return sum((share or 0.0) * (n or 0) for share, n in known) / total


def _value(worse: _Worse, value: float) -> str:
    if worse.metric in _SHARES:
        return percent_in_text(value, share_digits(value))
    return decimal(value)


def _size(worse: _Worse) -> str:
    if worse.metric in _SHARES:
        return f"{points(worse.size, share_digits(worse.size))} points".removeprefix("+")
    return decimal(worse.size)


def _direction(worse: _Worse) -> str:
    return "higher" if worse.metric in _LOWER_IS_BETTER else "lower"
