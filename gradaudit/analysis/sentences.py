"""Findings in plain words: one function writes the sentence of every finding, from its numbers
alone.

Differences of shares are given in points (hundredths of the heat), always signed, with their
interval; every sentence says its n, or that it is withheld.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gradaudit.number_text import (
    count,
    decimal,
    declared_percent,
    declared_points,
    interval,
    is_known,
    p_in_text,
    percent_in_text,
    percent_number,
    points,
    share_digits,
    share_interval,
)
from gradaudit.outcomes import outcome
from gradaudit.plan import Plan
from gradaudit.records import REASONS, CellState, Finding, Interval
from gradaudit.result_schema import AuditState, PlannedCell

_CROSS = " × "
_SEVERITY = {
    CellState.BEYOND: 0,
    CellState.OPEN: 1,
    CellState.NOT_JUDGED: 2,
    CellState.WITHHELD: 3,
    CellState.NOT_ASSESSED: 4,
    CellState.WITHIN: 5,
}
_LONGEST_SUMMARY = 5


def sentence(f: Finding, alpha: float = 0.05) -> str:
    """One to three plain sentences: numbers with interval and n, then the verdict."""
    if f.suppressed:
        return f"{_compared(f)}: withheld, because a group of this comparison holds too few images or clusters to be shown."
    if f.state is CellState.NOT_ASSESSED:
        why = f"not assessed, {REASONS.get(f.reason, f.reason) or 'no numbers to compare'}"
        if f.mean.estimate is not None and f.mean_reference.estimate is not None:
            rates = f"{_value(f, f.mean.estimate)} ({_n(f)}); {_other(f)}: {_value(f, f.mean_reference.estimate)} ({_n(f, True)})"
            return f"{_subject(f)}{_where(f)}: {rates}; {why}."
        return (
            f"{_subject(f)}{_where(f)}: {why}{f' ({_n(f)})' if f.n_images or f.n_withheld else ''}."
        )
    said = f"{_numbers(f, alpha)} {_decision(f)}"
    return said + (" Provisional: fewer than 20 clusters on one side." if f.provisional else "")


def _subject(f: Finding) -> str:
    """ "Skin tone V–VI"; of a slope "Age, from 31 (10th percentile) to 72 (90th percentile)"; of a
    cell "Sex male and site head".
    """
    if f.is_slope:
        return f"{_words(f.attribute)}, from {_end(f.reference)} to {_end(f.group)}"
    names, levels = f.attribute.split(_CROSS), f.group.split(_CROSS)
    if len(names) != len(levels):
        return f"{_words(f.attribute)} {f.group}"
    first, *others = (f"{_words(name)} {level}" for name, level in zip(names, levels, strict=True))
    return " and ".join([first, *map(_within, others)])


def _compared(f: Finding) -> str:
    """The subject, and the other group where it has a name: either may be the small one."""
    named = f.reference not in ("", "rest") and not f.is_slope
    return f"{_subject(f)} against {f.reference}" if named else _subject(f)


def _end(name: str) -> str:
    """ "P90 (72)" as "72 (90th percentile)"; levels as they are."""
    found = re.fullmatch(r"P([\d.]+)(?: \((.*?)\))?(, within .*)?", name)
    if not found:
        return name
    percentile = f"{found[1]}th percentile"
    end = f"{found[2]} ({percentile})" if found[2] else f"the {percentile}"
    return end + (found[3] or "")


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _within(text: str) -> str:
    """The same words inside a sentence; abbreviations keep their capitals."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _other(f: Finding) -> str:
    return "all others" if f.reference == "rest" else f.reference


def _where(f: Finding) -> str:
    return outcome(f.outcome).place_words(f.region)


def _n(f: Finding, reference: bool = False) -> str:
    if f.n_withheld:
        return "n withheld"
    images, clusters = (
        (f.n_images_reference, f.n_clusters_reference) if reference else (f.n_images, f.n_clusters)
    )
    return f"n = {count(images)}" + (
        f" images of {count(clusters)} cluster{'s' * (clusters != 1)}" if clusters != images else ""
    )


def _numbers(f: Finding, alpha: float) -> str:
    """The half of the sentence that says how large the difference is."""
    if f.code == "GA104":
        found = (
            f"{_measure(f)} does not follow a straight line"
            if f.shown
            else f"no bend in {_measure(f)} is shown"
        )
        return f"{_subject(f)}: {found} ({_n(f)})."
    if _best(f).estimate is None:
        return (
            f"{_subject(f)}{_where(f)}: rates withheld, because they would give a small count away."
        )
    if f.reference == "additive prediction":
        return f"{_subject(f)}: {_measure(f)} differs from what the two attributes add up to by {_difference(f, _best(f))} ({_n(f)})."
    if f.mean.estimate is None:
        return f"{_subject(f)}: {_measure(f)} {_change(f)}{_at_equal(f)} ({_n(f)})."
    group = f"{_subject(f)}: {_mean_words(f, f.mean)} ({_mean_interval(f, f.mean, alpha)}{_n(f)})"
    first = f"{group}; {_other(f)}: {_value(f, f.mean_reference.estimate)} ({_n(f, True)})"
    if f.adjusted.estimate is None:
        return f"{first}: a difference of {_difference(f, f.raw)}."
    equal = f"{_at_equal(f).removeprefix(', ')} {_difference(f, f.adjusted)}"
    return (
        f"{first}: a difference of {_difference(f, f.raw)}; {equal}."
        if f.raw.estimate is not None
        else f"{first}: {equal}."
    )


def _best(f: Finding) -> Interval:
    return f.adjusted if f.adjusted.estimate is not None else f.raw


def _at_equal(f: Finding) -> str:
    return f", at equal {' and '.join(f.adjusted_for)}" if f.adjusted.estimate is not None else ""


def _measure(f: Finding) -> str:
    return outcome(f.outcome).measure_words(f.region)


def _change(f: Finding) -> str:
    """ "rises by 35 points (32 to 39)" where the interval lies on one side of zero, else "changes
    by +0.2 points (−0.8 to +0.4)".
    """
    best = _best(f)
    low, high = best.low, best.high
    if best.estimate is None or low is None or high is None or low <= 0 <= high:
        return f"changes by {_difference(f, best)}"
    sizes = sorted((abs(low), abs(high)))
    size = Interval(estimate=abs(best.estimate), low=sizes[0], high=sizes[1])
    return f"{'rises' if low > 0 else 'falls'} by {_difference(f, size).replace('+', '')}"


def _mean_words(f: Finding, mean: Interval) -> str:
    return outcome(f.outcome).mean_words(f.region, _value(f, mean.estimate))


def _mean_interval(f: Finding, mean: Interval, alpha: float) -> str:
    ends = (
        interval(mean.low, mean.high, decimal, "–")
        if _is_ratio(f)
        else share_interval(mean.low, mean.high, _share_number, "–")
    )
    return f"{declared_percent(1 - alpha, space=' ')} CI {ends}, " if ends else ""


def _is_ratio(f: Finding) -> bool:
    return not outcome(f.outcome).is_share


def _value(f: Finding, value: float | None) -> str:
    return decimal(value) if _is_ratio(f) else percent_in_text(value, share_digits(value))


def _share_number(share: float) -> str:
    return percent_number(share, share_digits(share))


def _difference(f: Finding, found: Interval) -> str:
    """ "+19 points (+14 to +24)"; ratios without "points"."""
    if found.estimate is None:
        return "an unknown amount"
    digits = share_digits(found.estimate)

    def worded(value: float) -> str:
        return decimal(value, signed=True) if _is_ratio(f) else points(value, digits)

    ends = interval(found.low, found.high, worded)
    unit = "" if _is_ratio(f) else " points"
    return f"{worded(found.estimate)}{unit}{f' ({ends})' if ends else ''}"


def _points(share: float) -> str:
    return points(share, share_digits(share), signed=False)


def _p(value: float | None) -> str:
    return f" (adjusted {p_in_text(value)})" if is_known(value) else ""


def _decision(f: Finding) -> str:
    """What the numbers decide, for every state."""
    p, margin = _p(f.test.p_adjusted), f"the declared margin of {declared_points(f.margin)} points"
    if f.stratum:
        if not f.shown:
            return f"Not shown to lie beyond {margin} here{p}."
        return f"Here it lies beyond {margin}{p}: a signal, not a verdict."
    if f.test.family == "exploratory":
        return f"A signal{p}, not a verdict." if f.shown else f"No signal{p}."
    if f.state is CellState.BEYOND:
        return (
            f"It lies beyond {margin}: {_cautious_end(f)} even at the cautious end{_worse_off(f)}."
        )
    if f.state is CellState.WITHIN:
        held_back = f" It does not count: {f.reservation}." if f.reservation else ""
        return f"It lies within {margin}.{held_back}"
    if f.state is CellState.OPEN:
        return f"Open against {margin}: {_power(f)}"
    if f.shown:
        return f"A disparity is shown{p}; no limit was set, so its importance is not judged."
    power = _power(f)
    said = f" {power[:1].upper()}{power[1:]}" if f.mde80 is not None else ""
    return f"No disparity is shown{p}; no limit was set.{said}"


def _cautious_end(f: Finding) -> str:
    """The end of the thin whisker that lies nearer to zero, "+32 points"."""
    ends = [end for end in (f.thin.low, f.thin.high) if end is not None]
    return _difference(f, Interval(estimate=min(ends, key=abs))) if ends else "an unknown amount"


def _worse_off(f: Finding) -> str:
    return "; the group has the adverse side of it" if _is_adverse(f) else ""


def _power(f: Finding) -> str:
    if f.mde80 is None:
        return "neither a disparity nor its absence is shown."
    size = decimal(f.mde80) if _is_ratio(f) else f"{_points(f.mde80)} points"
    return f"data of this size would show a difference of {size} in 80 % of audits."


def reason_of_cell(cell: PlannedCell) -> str:
    """Why a planned cell does not let the audit be called met."""
    what = _words(cell.attribute)
    if cell.comparison in ("level", "pair"):
        what += f" {cell.group} against {_rest(cell.reference)}"
    else:
        what += f", {cell.comparison}"
    where = outcome(cell.outcome).place_words(cell.region)
    return f"{what}{where}: {_WAYS[cell.state]}{f' ({cell.reason})' if cell.reason else ''}."


def _rest(reference: str) -> str:
    return "all others" if reference == "rest" else reference


_WAYS = {
    CellState.BEYOND: "beyond the margin",
    CellState.WITHIN: "within the margin, but does not count",
    CellState.OPEN: "open",
    CellState.WITHHELD: "withheld",
    CellState.NOT_ASSESSED: "not assessed",
    CellState.NOT_JUDGED: "no limit was set",
}


# ── the audit as a whole ──────────────────────────────────────────────────────────────────────────


def _rank(f: Finding) -> tuple[int, int, int, int, float]:
    """Sort key: worst verdict first, then the adverse side, groups before slopes, larger first."""
    slope = f.code not in ("GA101", "GA111")
    return (
        _SEVERITY[f.state],
        int(f.outcome != "heat_share"),
        int(not _is_adverse(f)),
        int(slope),
        -abs(_best(f).estimate or 0.0),
    )


def _is_adverse(f: Finding) -> bool:
    """The group itself has less heat where heat belongs, or more where it does not."""
    return {"avoid": 1, "attend": -1}.get(f.role, 0) * (
        _best(f).estimate or 0.0
    ) > 0 and f.code == "GA101"


def summary_sentences(
    decisive: Sequence[Finding], findings: Sequence[Finding]
) -> tuple[list[Finding], tuple[str, ...]]:
    """Three to five sentences, worst first, and the findings that they come from."""
    told = [
        f
        for f in sorted(decisive, key=_rank)
        if f.state is not CellState.NOT_ASSESSED and not f.suppressed and not f.folded_under
    ]
    worst = [f for f in told if f.state is not CellState.WITHIN]
    chosen = (worst or told)[: _LONGEST_SUMMARY - 2]
    lines = [f.sentence for f in chosen]
    lines.append(_tally(decisive))
    undefined = [f for f in told if f.code == "GA111" and f.state is not CellState.WITHIN]
    signals = sum(f.test.family == "exploratory" and f.shown for f in findings)
    explored = sum(
        f.test.family == "exploratory" and f.state is not CellState.NOT_ASSESSED for f in findings
    )
    if undefined and undefined[0] not in chosen:
        lines.append(undefined[0].sentence)
    elif explored:
        lines.append(
            f"Of {explored} exploratory comparison{'s' * (explored != 1)}, {signals or 'none'} {'give' if signals > 1 else 'gives'} a signal"
            + (": a reason to look, not a verdict." if signals else ".")
        )
    open_ = [f.sentence for f in decisive if f.state is CellState.NOT_ASSESSED]
    others = [f.sentence for f in told if f not in chosen]
    closing = (
        "Nothing else was compared.",
        "The section on the data says how many images came through each step.",
    )
    spare = [*open_[: _LONGEST_SUMMARY - 2], *others, *closing]
    lines += spare[: max(0, 3 - len(lines))]
    return chosen, tuple(lines[:_LONGEST_SUMMARY])


def _tally(decisive: Sequence[Finding]) -> str:
    heat = [f for f in decisive if f.outcome == "heat_share"]
    if not heat:
        return "No comparison of the heat share in a declared region was possible."
    parts = []
    tallies = [(sum(test(f) for f in heat), *words) for test, *words in _TALLIES]
    tallies.append((sum(f.suppressed for f in heat), f"is {_TOO_SMALL}", f"are {_TOO_SMALL}"))
    for n, one, several in tallies:
        if n == len(heat):
            return f"{_all(n, 'decisive ').capitalize()} of the heat share {one if n == 1 else several}."
        if n:
            parts.append(f"{n} {one if n == 1 else several}")
    return f"Of {len(heat)} decisive comparisons of the heat share, {_together(parts)}."


_TALLIES: tuple[tuple[Callable[[Finding], bool], str, str], ...] = (
    (lambda f: f.state is CellState.BEYOND, "lies beyond the margin", "lie beyond the margin"),
    (
        lambda f: f.state is CellState.NOT_JUDGED and f.shown,
        "shows a disparity that no limit judges",
        "show a disparity that no limit judges",
    ),
    (lambda f: f.state is CellState.WITHIN, "lies within the margin", "lie within the margin"),
    (lambda f: f.state is CellState.OPEN, "is open", "are open"),
    (
        lambda f: f.state is CellState.NOT_JUDGED and not f.shown,
        "shows no disparity",
        "show no disparity",
    ),
    (
        lambda f: f.state is CellState.NOT_ASSESSED and not f.suppressed,
        "is not assessed",
        "are not assessed",
    ),
)
"""Findings that are counted together, and what is said of one such comparison and of several."""
_TOO_SMALL = "withheld, because a group is too small to be shown"


def _all(n: int, which: str = "") -> str:
    return {1: f"the only {which}comparison", 2: f"both {which}comparisons"}.get(
        n, f"all {n} {which}comparisons"
    )


def _together(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def headline(state: AuditState, decisive: Sequence[Finding]) -> str:
    """One line beside the state, which stands in its own words already."""
    told = [
        f
        for f in sorted(decisive, key=_rank)
        if f.state is not CellState.NOT_ASSESSED and not f.suppressed and not f.folded_under
    ]
    heat = [f for f in decisive if f.outcome == "heat_share"]
    n = len(heat)
    if state == "met":
        return (
            f"{_all(n)} of the heat share {'lies' if n == 1 else 'lie'} within the declared margin"
        )
    if state == "none_declared" and not any(f.shown for f in told):
        assessed = sum(f.state is not CellState.NOT_ASSESSED for f in heat)
        if assessed == 0:
            return "no comparison of the heat share was possible"
        which = {1: "the only comparison", 2: "either comparison"}.get(
            assessed, f"any of {assessed} comparisons"
        )
        rest = "" if assessed == n else f" that could be assessed ({n - assessed} more could not)"
        return f"no disparity is shown in {which} of the heat share{rest}"
    if state == "insufficient":
        if not heat:
            return "no comparison of the heat share was possible"
        open_ = sum(f.state is not CellState.WITHIN for f in heat)
        hidden = sum(f.suppressed for f in heat)
        which = (
            f"{_all(n)} of the heat share"
            if open_ == n
            else f"{open_} of {n} comparisons of the heat share"
        )
        if hidden == open_:
            return f"{which} {'is' if open_ == 1 else 'are'} {_TOO_SMALL}"
        return f"{which} {'stays' if open_ == 1 else 'stay'} open" + (
            f", {hidden} of them {_TOO_SMALL}" if hidden else ""
        )
    return _headline_of(told[0])


def _headline_of(f: Finding) -> str:
    """ "the share of heat on ruler is 34 points higher for skin tone V–VI than for all others", or
    of a slope, how it changes.
    """
    size, name = _best(f).estimate, _within(_words(f.attribute))
    if size is None:
        return f"{_measure(f)} differs between {_within(_subject(f))} and {_other(f)}"
    amount = _difference(f, Interval(estimate=abs(size))).replace("+", "")
    if f.is_slope:
        return f"{_measure(f)} {'rises' if size > 0 else 'falls'} by {amount} from {name} {_end(f.reference)} to {_end(f.group)}"
    return f"{_measure(f)} is {amount} {'higher' if size > 0 else 'lower'} for {_within(_subject(f))} than for {_other(f)}"


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def what_cannot_be_told(decisive: Sequence[Finding], plan: Plan) -> tuple[str, ...]:
    """What this audit cannot tell: the general lines, then those of these data."""
    lines = [
        "A difference in heat is evidence about the explanation, not proof that the model uses the region.",
        "A group whose region masks are worse would show a difference of its own: mask quality by group comes first.",
    ]
    gone = sorted(
        {
            f"{_words(f.attribute)} {f.group}"
            for f in decisive
            if f.state is CellState.NOT_ASSESSED and f.code == "GA101" and not f.suppressed
        }
    )
    if gone:
        lines.append(
            f"Nothing can be said about {_listed(gone)} in at least one declared region: see the reasons beside each comparison."
        )
    hidden = sorted({_compared(f) for f in decisive if f.suppressed})
    if hidden:
        verdict = " What is not shown cannot be called met." if plan.criteria is not None else ""
        lines.append(
            f"Withheld, because a group is too small to be shown: {_listed(hidden)}.{verdict}"
        )
    if plan.criteria is None:
        lines.append(
            "Without a declared margin, no difference can be called important or unimportant."
        )
    return tuple(lines)
