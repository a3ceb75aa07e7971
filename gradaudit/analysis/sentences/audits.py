"""The audit as a whole in words: headline, three to five sentences, and what is in the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradaudit.analysis.sentences.comparisons import (
    cautious_end,
    decisive,
    difference_words,
    end_against,
    margin_words,
    reach_words,
    worse_side,
)
from gradaudit.analysis.sentences.names import (
    attribute_words,
    capital,
    end_words,
    group_words,
    listed,
    reference_words,
    rest_words,
    subject_words,
    together,
    upper_end,
)
from gradaudit.number_text import CLUSTERS, Noun
from gradaudit.outcomes import outcome
from gradaudit.plan import Plan
from gradaudit.records import STATE_WORDS, CellState, Finding
from gradaudit.result_schema import AuditState, PlannedCell

_SEVERITY = {
    CellState.BEYOND: 0,
    CellState.OPEN: 1,
    CellState.NOT_JUDGED: 2,
    CellState.WITHHELD: 3,
    CellState.NOT_ASSESSED: 4,
    CellState.WITHIN: 5,
}
_LONGEST_SUMMARY = 5
_TOO_SMALL = "withheld, because a group is too small to be shown"


# ── which findings are told ───────────────────────────────────────────────────────────────────────


def told_first(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that have something to tell, worst first.

    One that tells the fact of another from its other side is left out, unless it says worse.
    """
    known = [f for f in findings if f.state not in (CellState.NOT_ASSESSED, CellState.WITHHELD)]
    by_anchor = {f.anchor: f for f in known if f.anchor and not f.suppressed}
    told = [f for f in known if not f.suppressed and not _is_folded(f, by_anchor)]
    return sorted(told, key=_rank)


def _is_folded(f: Finding, by_anchor: Mapping[str, Finding]) -> bool:
    head = by_anchor.get(f.folded_under)
    return head is not None and head is not f and _SEVERITY[head.state] <= _SEVERITY[f.state]


def _rank(f: Finding) -> tuple[int, int, int, int, float]:
    """Sort key of findings: the worst state comes first.

    Then heat shares before other outcomes, the group that is worse off, groups before slopes, and
    larger differences first.
    """
    group = f.code in ("GA101", "GA105", "GA111")
    return (
        _SEVERITY[f.state],
        int(f.outcome != "heat_share"),
        int(worse_side(f) != 1 or not group),
        int(not group),
        -abs(decisive(f).estimate or 0.0),
    )


# ── headline ──────────────────────────────────────────────────────────────────────────────────────


def headline(state: AuditState, decisive_: Sequence[Finding], cells: Sequence[PlannedCell]) -> str:
    """One line beside the state, which stands in its own words already."""
    told = told_first(decisive_)
    judged = [cell for cell in cells if cell.margin is not None]
    if state == "met":
        return f"{_all(len(judged))} {'lies' if len(judged) == 1 else 'lie'} within the limit"
    if state == "not_met":
        beyond = [f for f in told if f.state is CellState.BEYOND]
        return _headline_of(beyond[0]) if beyond else _tally_words(judged)
    if state == "insufficient":
        return _not_settled(judged)
    shown = [f for f in told if f.shown]
    return _headline_of(shown[0]) if shown else _nothing_shown(decisive_)


def _headline_of(f: Finding) -> str:
    """The headline of a finding: the difference of its measure, or of a slope, its change.

    As in "skin tone V–VI has 34 points more of the model's heat on the ruler than all others".
    """
    size, measure = decisive(f).estimate, outcome(f.outcome).measure_words(f.region)
    if size is None:
        return f"{measure} differs between {group_words(f)} and {reference_words(f)}"
    amount = difference_words(f, abs(size)).removeprefix("+")
    if f.is_slope:
        name, low, high = attribute_words(f.attribute), end_words(f.reference), upper_end(f)
        return (
            f"{measure} {'rises' if size > 0 else 'falls'} by {amount} from {name} {low} to {high}"
        )
    than = f"for {group_words(f)} than for {reference_words(f)}"
    return f"{measure} is {amount} {'higher' if size > 0 else 'lower'} {than}"


def _not_settled(judged: Sequence[PlannedCell]) -> str:
    """Of an audit that has too little evidence, how many comparisons are in the way and why."""
    if not judged:
        return "there is no comparison that the criteria could be held against"
    loose = [cell for cell in judged if not cell.settled]
    which = _all(len(loose)) if len(loose) == len(judged) else _some(len(loose), len(judged))
    return f"{which} {'is' if len(loose) == 1 else 'are'} not settled: {_counted(loose)}"


def _nothing_shown(findings: Sequence[Finding]) -> str:
    heat = [f for f in findings if f.outcome == "heat_share"]
    assessed = sum(f.state not in (CellState.NOT_ASSESSED, CellState.WITHHELD) for f in heat)
    if assessed == 0:
        return "no comparison of the heat share was possible"
    which = {1: "the only comparison", 2: "either comparison"}.get(
        assessed, f"any of {assessed} comparisons"
    )
    rest = f" that could be assessed ({len(heat) - assessed} more could not)"
    return (
        f"no disparity is shown in {which} of the heat share{rest if assessed < len(heat) else ''}"
    )


# ── the sentences ─────────────────────────────────────────────────────────────────────────────────


def summary_sentences(
    decisive_: Sequence[Finding],
    findings: Sequence[Finding],
    cells: Sequence[PlannedCell],
    performance: str = "",
) -> tuple[list[Finding], tuple[str, ...]]:
    """Three to five sentences, worst first, and the findings that they come from.

    performance : the sentence on where the model itself does worse, told second
    """
    told = told_first(decisive_)
    worst = [f for f in told if f.state is not CellState.WITHIN]
    chosen = (worst or told)[: _LONGEST_SUMMARY - 2 - bool(performance)]
    lines = [f.sentence for f in chosen]
    lines[1:1] = [performance] if performance else []
    lines.append(f"{capital(_tally_words(cells))}.")
    undefined = [f for f in told if f.outcome == "undefined" and f.state is not CellState.WITHIN]
    signals = _signals(findings)
    if undefined and undefined[0] not in chosen:
        lines.append(undefined[0].sentence)
    elif signals:
        lines.append(signals)
    open_ = [f.sentence for f in decisive_ if f.state is CellState.NOT_ASSESSED]
    others = [f.sentence for f in told if f not in chosen]
    closing = (
        "Nothing else was compared.",
        "The section on the data says how many images came through each step.",
    )
    spare = [*open_[: _LONGEST_SUMMARY - 2], *others, *closing]
    lines += spare[: max(0, 3 - len(lines))]
    return chosen, tuple(lines[:_LONGEST_SUMMARY])


def _signals(findings: Sequence[Finding]) -> str:
    explored = [
        f
        for f in findings
        if f.test.family == "exploratory" and f.state is not CellState.NOT_ASSESSED
    ]
    signals = sum(f.shown for f in explored)
    if not explored:
        return ""
    found = f"{signals or 'none'} {'give' if signals > 1 else 'gives'} a signal"
    look = ": a reason to look, not a verdict." if signals else "."
    compared = f"comparison{'s' * (len(explored) != 1)}"
    return f"Of {len(explored)} exploratory {compared}, {found}{look}"


def _tally_words(cells: Sequence[PlannedCell]) -> str:
    """ "of 5 planned comparisons, 1 lies beyond the limit and 4 lie within it" """
    if not cells:
        return "no comparison was planned"
    n = len(cells)
    parts = _parts(cells)
    if len(parts) == 1:
        return f"{_all(n)} {parts[0].split(' ', 1)[1]}"
    return f"of {n} planned comparisons, {together(parts)}"


def _counted(cells: Sequence[PlannedCell]) -> str:
    return together(_parts(cells))


def _parts(cells: Sequence[PlannedCell]) -> list[str]:
    out = []
    for belongs, one, several in _TALLIES:
        n = sum(belongs(cell) for cell in cells)
        if n:
            out.append(f"{n} {one if n == 1 else several}")
    return out


_TALLIES: tuple[tuple[Callable[[PlannedCell], bool], str, str], ...] = (
    (lambda c: c.state is CellState.BEYOND, "lies beyond the limit", "lie beyond the limit"),
    (lambda c: c.state is CellState.OPEN, "stays open", "stay open"),
    (lambda c: c.state is CellState.WITHHELD, f"is {_TOO_SMALL}", f"are {_TOO_SMALL}"),
    (lambda c: c.state is CellState.NOT_ASSESSED, "is not assessed", "are not assessed"),
    (
        lambda c: c.state is CellState.WITHIN and not c.settled,
        "lies within the limit and does not count as settled",
        "lie within the limit and do not count as settled",
    ),
    (
        lambda c: c.state is CellState.WITHIN and c.settled,
        "lies within the limit",
        "lie within the limit",
    ),
    (
        lambda c: c.state is CellState.NOT_JUDGED,
        "is described, as no limit was set",
        "are described, as no limit was set",
    ),
)
"""Planned cells that are counted together, and what is said of one and of several."""


def _all(n: int) -> str:
    words = {1: "the only planned comparison", 2: "both planned comparisons"}
    return words.get(n, f"all {n} planned comparisons")


def _some(n: int, of: int) -> str:
    return f"{n} of {of} planned comparisons"


# ── what is in the way, and what cannot be told ───────────────────────────────────────────────────


def reasons_of_cells(
    cells: Sequence[PlannedCell], findings: Sequence[Finding], unit: Noun = CLUSTERS
) -> tuple[str, ...]:
    """Why the audit is not "met": one line per cell that is in the way, the worst first."""
    by_anchor = {f.anchor: f for f in findings if f.anchor}
    loose = [cell for cell in cells if cell.margin is not None and not cell.settled]
    ranked = sorted(loose, key=lambda cell: _SEVERITY[cell.state])
    return tuple(reason_of_cell(cell, by_anchor.get(cell.finding), unit) for cell in ranked)


def reason_of_cell(cell: PlannedCell, finding: Finding | None = None, unit: Noun = CLUSTERS) -> str:
    """Why a planned cell does not let the audit be called met."""
    where = outcome(cell.outcome).place_words(cell.region)
    why = _why(cell, finding)
    settle = f" {cell.settle}" if cell.settle else ""
    return f"{capital(cell_words(cell))}{where}: {unit.said_in(why)}.{unit.said_in(settle)}"


def cell_words(cell: PlannedCell) -> str:
    """ "skin tone V–VI against all others", "age, over all its values" """
    name = attribute_words(cell.attribute)
    if cell.comparison in ("level", "pair"):
        return f"{name} {cell.group} against {rest_words(cell.reference)}"
    if cell.comparison == "trend":
        return f"{name}, from the first level to the last"
    return f"{name}, over its whole range"


def _why(cell: PlannedCell, f: Finding | None) -> str:
    allowed = f"{margin_words(cell.outcome, cell.margin)} are allowed"
    if cell.state is CellState.BEYOND:
        end = None if f is None else cautious_end(f.thin)
        sure = (
            "" if f is None or end is None else f", {end_against(f, end)} even at the cautious end"
        )
        return f"beyond the limit{sure} ({allowed})"
    if cell.state is CellState.OPEN:
        reach = "" if f is None else reach_words(f)
        return f"open{f', anything from {reach}' if reach else ''} ({allowed})"
    said = STATE_WORDS[cell.state]
    if cell.state is CellState.WITHIN:
        said += ", but it does not count"
    return f"{said}: {cell.reason}" if cell.reason else said


def what_cannot_be_told(decisive_: Sequence[Finding], plan: Plan) -> tuple[str, ...]:
    """What this audit cannot tell: the general lines, then those of these data."""
    lines = [
        "A difference in heat is evidence about the explanation, not proof that the model uses the region.",
        "A group whose region masks are worse would show a difference of its own: mask quality by group comes first.",
    ]
    gone = sorted(
        {
            group_words(f)
            for f in decisive_
            if f.state is CellState.NOT_ASSESSED and f.code == "GA101" and not f.suppressed
        }
    )
    if gone:
        lines.append(
            f"Nothing can be said about {listed(gone)} in at least one declared region: see the reasons beside each comparison."
        )
    hidden = sorted({subject_words(f) for f in decisive_ if f.suppressed})
    if hidden:
        verdict = " What is not shown cannot be called met." if plan.criteria is not None else ""
        lines.append(
            f"Withheld, because a group is too small to be shown: {listed(hidden)}.{verdict}"
        )
    if plan.criteria is None:
        lines.append(
            "Without a declared limit, no difference can be called important or unimportant."
        )
    return tuple(lines)
