"""The change of every planned comparison, and its word.

For each planned comparison of either audit, d is the adjusted difference in the outcome between a
group and its reference.  The words are about the disparity, that is the size of d:

    better     it is shown that |d after| < |d before|
    worse      it is shown that |d after| > |d before|
    not shown  neither

Both need two signs to be shown, that of the change (after − before) and that of the sum: a
difference that turns from +20 to −20 points has changed, and is no better.  The role of the region
does not enter, since a difference is a disparity in either direction; it says what is better for
the group itself: less heat where none should be (avoid), more where it should be (attend).  The
state of a comparison ("beyond", "open") never makes a word.  Holm is taken over all planned
comparisons of both audits, those without a number included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from gradaudit.analysis.planned.cells import HEAT
from gradaudit.number_text import finite_or_none
from gradaudit.records import Interval, Limits
from gradaudit.result_schema import PlannedCell
from gradaudit.schema.comparison import CellChange, ChangeWord
from gradaudit.series.changes.counterparts import Counterpart, counterparts, sites_of_clusters
from gradaudit.series.changes.differences import Obstacles
from gradaudit.series.changes.joint_tests import ChangeTest, Half, change_tests
from gradaudit.series.changes.settings import ChangeSettings
from gradaudit.series.changes.sides import Audited
from gradaudit.stats import multiplicity
from gradaudit.stats.effect_sizes import mode_share
from gradaudit.stats.family import Floats
from gradaudit.subgroups.contrast import CONSTANT, Contrast, guard

TOO_FEW_DIFFER = "too few clusters differ between the two audits to test a change"
UNCHANGED = "no cluster's value is another one"
READS_AS_ZERO = "the change reads as zero"
TURNED = "the difference changed, and it is not shown that it is smaller or larger in size"
SMALLEST = 0.0005
"""A change of less than half of the last digit that is printed is never shown."""
_COMPARISONS: dict[str, Literal["level", "pair", "trend", "line"]] = {
    "level": "level", "pair": "pair", "trend": "trend", "curve": "line",
}  # fmt: skip


def cell_changes(
    before: Audited, after: Audited, obstacles: Obstacles, settings: ChangeSettings
) -> tuple[CellChange, ...]:
    """One record for every planned comparison of either audit, those of the earlier one first."""
    asked = counterparts(before, after, obstacles, settings.min_cell)
    own = [a for a in asked if a.halves is not None]
    tests = change_tests(
        [a.halves for a in own if a.halves is not None],
        settings.draws(len(asked)),
        settings.seed,
        sites_of_clusters(before, after),
    )
    found = {a.key: _guarded(a, test) for a, test in zip(own, tests, strict=True)}
    decided = _decided([found.get(a.key) for a in asked], settings.alpha)
    return tuple(
        _record(a, found.get(a.key), decision, len(asked), settings)
        for a, decision in zip(asked, decided, strict=True)
    )


# ── the test of one change ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Found:
    """The test of a change, and why nothing can be shown ("" where it can)."""

    test: ChangeTest
    reason: str = ""
    provisional: bool = False
    tested: bool = True

    @property
    def p(self) -> float:
        return self.test.change.p if self.tested else 1.0

    @property
    def p_size(self) -> float:
        return self.test.p_size if self.tested else 1.0


def _guarded(asked: Counterpart, test: ChangeTest) -> _Found:
    """The same guards as of any comparison, on the clusters' own changes."""
    assert asked.contrasts is not None
    assert asked.halves is not None
    a, b = asked.contrasts
    n = min(a.n_clusters, b.n_clusters)
    m = min(a.n_clusters_reference, b.n_clusters_reference) or n
    reason, provisional, _ = guard(mode_share(_own_changes(*asked.halves)), n, m)
    provisional = provisional or a.provisional or b.provisional
    if abs(test.change.estimate) < SMALLEST:
        why = UNCHANGED if reason == CONSTANT or not test.has_error else READS_AS_ZERO
        return _Found(test, why, provisional, tested=False)
    if reason or not test.has_error:
        return _Found(test, TOO_FEW_DIFFER, provisional, tested=False)
    return _Found(test, "", provisional)


def _own_changes(before: Half, after: Half) -> Floats:
    """What each cluster adds to the change: its own change, or its value where it is in one alone."""
    parts: list[Iterable[tuple[int, float]]] = []
    for half, sign in ((before, -1.0), (after, 1.0)):
        if half.fitted is not None:
            parts.append(zip(half.fitted.clusters, sign * half.fitted.y, strict=True))
    out: dict[int, float] = {}
    for part in parts:
        for cluster, value in part:
            out[cluster] = out.get(cluster, 0.0) + value
    return np.round(np.array(list(out.values()) or [0.0]), 9)


@dataclass(frozen=True)
class _Decision:
    """What Holm over all planned comparisons says of one."""

    changed: bool
    word: ChangeWord
    p_adjusted: float
    level: float


def _decided(found: Sequence[_Found | None], alpha: float) -> list[_Decision]:
    m = len(found)
    changed = multiplicity.holm([1.0 if f is None else f.p for f in found]) <= alpha
    sizes = multiplicity.holm([1.0 if f is None else f.p_size for f in found])
    left = max(m - int(changed.sum()), 1)
    out = []
    for f, is_changed, p in zip(found, changed, sizes, strict=True):
        word: ChangeWord = "not_shown"
        if f is not None and p <= alpha:
            word = "better" if f.test.shrinks else "worse"
        level = alpha / m if is_changed else alpha / left
        out.append(_Decision(bool(is_changed), word, float(p), level))
    return out


# ── the record ────────────────────────────────────────────────────────────────────────────────────


def _record(
    a: Counterpart, found: _Found | None, decision: _Decision, family: int, settings: ChangeSettings
) -> CellChange:
    attribute, comparison, group, reference, region, outcome = a.key
    known = [cell for cell in a.cells if cell is not None]
    first, second = a.cells
    roles = {cell.role for cell in known}
    bare: dict[str, Any] = {
        "attribute": attribute,
        "comparison": _COMPARISONS[comparison],
        "group": group,
        "reference": reference,
        "region": region,
        "role": roles.pop() if len(roles) == 1 else "",
        "outcome": outcome,
        "word": a.word,
        "reason": a.reason,
        "state_before": None if first is None else first.state,
        "state_after": None if second is None else second.state,
        "margin_before": None if first is None else first.margin,
        "margin_after": None if second is None else second.margin,
    }
    if a.word == "withheld":
        return CellChange(**bare)
    if found is None or a.contrasts is None or first is None or second is None:
        return CellChange(**bare | _as_reported(a))
    return CellChange(**bare | _numbers(a, found, decision, family, settings))


def _as_reported(a: Counterpart) -> dict[str, Any]:
    """What each report says of a comparison that is not compared, where it says it."""
    return {
        name: Interval(estimate=cell.estimate, low=cell.ci_low, high=cell.ci_high)
        for name, cell in zip(("before", "after"), a.cells, strict=True)
        if cell is not None and cell.comparison != "curve"
    }


def _numbers(
    a: Counterpart, found: _Found, decision: _Decision, family: int, settings: ChangeSettings
) -> dict[str, Any]:
    assert a.contrasts is not None
    test, (c, d) = found.test, a.contrasts
    role = _direction(a)
    out: dict[str, Any] = {
        "word": decision.word,
        "changed": decision.changed,
        "adjusted_for": a.adjusted_for,
        "before": _reported(a.cells[0], c, test.total.estimate - test.change.estimate),
        "after": _reported(a.cells[1], d, test.total.estimate + test.change.estimate),
        "change": Interval(estimate=test.change.estimate, **_ends(found, settings.alpha)),
        "thin": _thin(found, decision),
        "p": found.p,
        "p_size": found.p_size,
        "p_adjusted": decision.p_adjusted,
        "provisional": found.provisional,
        "reason": found.reason,
    }
    if decision.changed and decision.word == "not_shown":
        out["reason"] = TURNED
    if a.key[1] == "curve":
        out |= {"group": c.group, "reference": c.reference}
    if a.counts_shown:
        out |= {"n_before": c.n_clusters, "n_after": d.n_clusters}
    if a.means is not None:
        out |= _of_group(a, role, decision, settings.alpha, family)
    return out


def _reported(cell: PlannedCell | None, c: Contrast, twice: float) -> Interval:
    """The difference as its report has it; where clusters were joined, as it is now.

    twice : two times the difference that the change was taken of
    """
    estimate = twice / 2
    if cell is not None and cell.estimate is not None and abs(cell.estimate - estimate) < 1e-9:
        return Interval(estimate=cell.estimate, low=cell.ci_low, high=cell.ci_high)
    low, high = finite_or_none(c.ci_low), finite_or_none(c.ci_high)
    return Interval(estimate=estimate, low=low, high=high)


def _ends(found: _Found, level: float) -> dict[str, float | None]:
    if found.reason == TOO_FEW_DIFFER:
        return {}
    low, high = found.test.change.interval(level)
    return {"low": finite_or_none(low), "high": finite_or_none(high)}


def _thin(found: _Found, decision: _Decision) -> Limits:
    """The interval over the whole family; it leaves out 0 exactly where a change is shown."""
    ends = _ends(found, decision.level)
    low, high = ends.get("low"), ends.get("high")
    if low is None or high is None:
        return Limits()
    if not decision.changed:
        return Limits(low=min(low, 0.0), high=max(high, 0.0))
    nearest = min(SMALLEST, abs(found.test.change.estimate))
    if found.test.change.estimate > 0:
        return Limits(low=max(low, nearest), high=high)
    return Limits(low=low, high=min(high, -nearest))


def _direction(a: Counterpart) -> int:
    """+1 where more is better for a group itself, -1 where less is; 0 where no role says it."""
    if a.key[5] != HEAT:
        return -1
    roles = {cell.role for cell in a.cells if cell is not None}
    return {"attend": 1, "avoid": -1}.get(roles.pop(), 0) if len(roles) == 1 else 0


def _of_group(
    a: Counterpart, role: int, decision: _Decision, alpha: float, family: int
) -> dict[str, Any]:
    """The group's own mean in both audits, its change, and whether that is better for it."""
    assert a.means is not None
    first, second = a.means
    change, se, df = first.change_to(second)
    out: dict[str, Any] = {
        "group_before": finite_or_none(first.mean),
        "group_after": finite_or_none(second.mean),
        "reference_before": finite_or_none(first.mean_reference),
        "reference_after": finite_or_none(second.mean_reference),
        "group_change": Interval(estimate=finite_or_none(change)),
    }
    if not a.counts_shown or not np.isfinite(change):
        return out
    reach = float(special.stdtrit(df, 1 - alpha / 2)) * se
    out["group_change"] = Interval(estimate=change, low=change - reach, high=change + reach)
    wide = float(special.stdtrit(df, 1 - alpha / 2 / family)) * se
    if role:
        shown = abs(change) > wide and abs(change) >= SMALLEST
        word = "not_shown" if not shown else "better" if change * role > 0 else "worse"
        out["group_word"] = word
        if decision.word == "better" and word == "worse":
            out["notes"] = (
                "the disparity is smaller, and the group itself has moved the wrong way: "
                "the others moved further",
            )
    return out
