"""The sentence of one finding: one function for every state, from the finding's numbers alone.

In this order: the plain fact with the means of both groups and n; what the plan allows, and what
the difference is even at its cautious end; who is worse off; the adjusted figure.  Differences of
shares are given in points (hundredths of the heat), always signed.
"""

from __future__ import annotations

from collections.abc import Callable

from gradaudit.analysis.sentences.names import (
    ADDITIVE,
    attribute_words,
    capital,
    end_words,
    group_words,
    n_words,
    place_words,
    reference_words,
    subject_words,
    together,
    uncapital,
    upper_end,
)
from gradaudit.number_text import (
    CLUSTERS,
    Noun,
    decimal,
    declared_percent,
    declared_points,
    interval,
    is_known,
    p_in_text,
    percent_in_text,
    points,
    share_digits,
)
from gradaudit.outcomes import outcome
from gradaudit.records import REASONS, CellState, Finding, Interval, Limits

SMALL_MEAN = 0.10
"""Pooled mean below which the ratio of the two means is printed too."""
_MOST_DIGITS = 6
_NONE = "there is no difference at all"
_ROLES = {"avoid": "more heat where none should be", "attend": "less heat where it should be"}


def in_words(f: Finding, alpha: float = 0.05, unit: Noun = CLUSTERS) -> Finding:
    """The finding with its sentence, its reasons in the plan's word for a cluster."""
    told = f.model_copy(
        update={
            "reason": unit.said_in(f.reason),
            "reservation": unit.said_in(f.reservation),
            "notes": tuple(_note(note, unit) for note in f.notes),
        }
    )
    return told.model_copy(update={"sentence": sentence(told, alpha, unit)})


def _note(note: str, unit: Noun) -> str:
    return note if note.startswith("no usable image in") else unit.said_in(note)


def sentence(f: Finding, alpha: float = 0.05, unit: Noun = CLUSTERS) -> str:
    """Two to six plain sentences; each part says nothing where there is nothing to say."""
    said = _parts(f, alpha, unit)
    return f"Within {f.stratum}: {uncapital(said)}" if f.stratum else said


def _parts(f: Finding, alpha: float, unit: Noun) -> str:
    if f.suppressed or f.state is CellState.WITHHELD:
        return f"{capital(subject_words(f))}{place_words(f)}: withheld, because {_hidden(f, unit)}."
    parts = (
        _fact(f, alpha, unit),
        _decision(f),
        _worse_off(f),
        _adjusted_figure(f, alpha),
        _provisional(f, unit),
    )
    return " ".join(filter(None, parts))


def _hidden(f: Finding, unit: Noun) -> str:
    if " " in f.reason:
        return f.reason
    return f"a group of this comparison holds too few images or {unit.many} to be shown"


# ── the fact ──────────────────────────────────────────────────────────────────────────────────────


def _fact(f: Finding, alpha: float, unit: Noun) -> str:
    if f.group == f.reference:
        return f"{capital(group_words(f))}{place_words(f)}: there is nothing to compare it with."
    means = f.mean.estimate is not None and f.mean_reference.estimate is not None
    if f.state is CellState.NOT_ASSESSED and not means:
        return f"{capital(subject_words(f))}{place_words(f)} ({n_words(f, unit)})."
    if f.code == "GA104":
        found = "does not follow a straight line" if f.shown else "shows no bend"
        return f"{capital(subject_words(f))}: {_measure(f)} {found} ({n_words(f, unit)})."
    if decisive(f).estimate is None and f.mean.estimate is None:
        withheld = "rates withheld, because they would give a small count away"
        return f"{capital(subject_words(f))}{place_words(f)}: {withheld}."
    if f.reference == ADDITIVE:
        off = "differs from what the two attributes add up to by"
        size = _with_interval(f, decisive(f), alpha)
        return f"On {group_words(f)}, {_measure(f)} {off} {size} ({n_words(f, unit)})."
    if f.mean.estimate is None:
        return _slope_fact(f, alpha, unit)
    return _means_fact(f, alpha, unit)


def _means_fact(f: Finding, alpha: float, unit: Noun) -> str:
    own = outcome(f.outcome).mean_words(f.region, value_words(f, f.mean.estimate))
    said = f"On {group_words(f)}, {own}"
    if f.mean_reference.estimate is not None:
        said += f"; on {reference_words(f)}, {value_words(f, f.mean_reference.estimate)}"
    said += f" ({n_words(f, unit)})"
    more = [_ratio(f)]
    if f.state is CellState.NOT_JUDGED and f.raw.estimate is not None:
        more.append(f"a difference of {_with_interval(f, f.raw, alpha)}")
    more = [text for text in more if text]
    return f"{said}: {', '.join(more)}." if more else f"{said}."


def _slope_fact(f: Finding, alpha: float, unit: Noun) -> str:
    """The change from one end to the other; of a curve, between the points that differ most."""
    raw = f.raw.estimate is not None
    found = f.raw if raw else decisive(f)
    equal = "" if raw else f", at equal {together(f.adjusted_for)}" if f.adjusted_for else ""
    name, low, high = attribute_words(f.attribute), end_words(f.reference), upper_end(f)
    where = f"From {name} {low} to {high}"
    if f.curve:
        where = f"Where the curve over {name} differs most, from {low} to {high}"
    change = f"{_change(f, found, alpha)}{equal} ({n_words(f, unit)})"
    return f"{where}, {_measure(f)} {change}."


def _change(f: Finding, found: Interval, alpha: float) -> str:
    """How much a measure changes, with its interval.

    "rises by 35 points (95 % interval 32 to 39)" where the interval lies on one side of zero, else
    "changes by +0.2 points (95 % interval −0.8 to +0.4)".
    """
    low, high = found.low, found.high
    if found.estimate is None or low is None or high is None or low <= 0 <= high:
        return f"changes by {_with_interval(f, found, alpha)}"
    sizes = sorted((abs(low), abs(high)))
    size = Interval(estimate=abs(found.estimate), low=sizes[0], high=sizes[1])
    worded = _with_interval(f, size, alpha).replace("+", "")
    return f"{'rises' if low > 0 else 'falls'} by {worded}"


def _ratio(f: Finding) -> str:
    """ "about 3 times as much": of two small shares the difference alone sounds like nothing."""
    own, other = f.mean.estimate, f.mean_reference.estimate
    if own is None or other is None or not outcome(f.outcome).is_share or min(own, other) <= 0:
        return ""
    weights = (f.n_clusters, f.n_clusters_reference)
    n, m = weights if all(weights) else (1, 1)
    if round((n * own + m * other) / (n + m), 9) >= SMALL_MEAN:
        return ""
    ratio = own / other
    digits = 0 if ratio >= 1.95 else 1 if ratio >= 0.1 else 2
    times = decimal(ratio, digits)
    if times == "1.0":
        return "about as much"
    return f"about {times} times as much" if float(times) else ""


# ── what is decided ───────────────────────────────────────────────────────────────────────────────


def _decision(f: Finding) -> str:
    """What the numbers decide, for every state."""
    if f.group == f.reference:
        return ""
    if f.stratum and f.state is CellState.NOT_JUDGED:
        return _of_stratum(f)
    if f.test.family == "exploratory" and f.state is not CellState.NOT_ASSESSED:
        return f"A signal{_p(f)}, not a verdict." if f.shown else f"No signal{_p(f)}."
    return _DECISIONS[f.state](f)


def _of_stratum(f: Finding) -> str:
    allowed = _allowed(f)
    if f.shown:
        return f"{allowed}; here it is larger{_p(f)}: a signal, not a verdict."
    return f"{allowed}; that it is larger here is not shown{_p(f)}."


def _allowed(f: Finding) -> str:
    """ "The plan allows a difference of 10 points" """
    return f"The plan allows a difference of {margin_words(f.outcome, f.margin)}"


def margin_words(name: str, margin: float | None) -> str:
    """A declared margin in the outcome's unit: "10 points"."""
    if margin is None:
        return "no declared size"
    return f"{declared_points(margin)} points" if outcome(name).is_share else decimal(margin)


def _beyond(f: Finding) -> str:
    end = cautious_end(f.thin)
    if end is None:
        return f"{_allowed(f)}; this one is larger."
    if f.margin is not None and abs(end) <= f.margin:
        return f"{_allowed(f)}; this one is larger, if only just."
    return f"{_allowed(f)}; this one is {end_against(f, end)} even at the cautious end."


def _within(f: Finding) -> str:
    reach = f.within_from
    size = "this one is smaller"
    if reach is not None:
        size = f"this one is at most {end_against(f, reach).removeprefix('+')}" if reach else _NONE
    held_back = f" It does not count as settled: {f.reservation}." if f.reservation else ""
    return f"{_allowed(f)}; {size}.{held_back}"


def _open(f: Finding) -> str:
    said = f"{_allowed(f)}; whether this one is larger stays open"
    reach = reach_words(f)
    return f"{said}: it could be anything from {reach}." if reach else f"{said}."


def _not_assessed(f: Finding) -> str:
    return f"Not assessed: {_reason(f) or 'there are no numbers to compare'}."


def _without_limit(f: Finding) -> str:
    if f.shown:
        return f"A disparity is shown{_p(f)}; no limit was set, so its importance is not judged."
    said = f"No disparity is shown{_p(f)}; no limit was set."
    if f.mde80 is None:
        return said
    size = f"{_size(f, f.mde80)}{_unit_of(f)}"
    return f"{said} Data of this size would show a difference of {size} in 80 % of audits."


_DECISIONS: dict[CellState, Callable[[Finding], str]] = {
    CellState.BEYOND: _beyond,
    CellState.WITHIN: _within,
    CellState.OPEN: _open,
    CellState.NOT_ASSESSED: _not_assessed,
    CellState.NOT_JUDGED: _without_limit,
}


def _reason(f: Finding) -> str:
    return REASONS.get(f.reason, f.reason) if f.reason else ""


def _p(f: Finding) -> str:
    p = f.test.p_adjusted
    return f" (adjusted {p_in_text(p)})" if is_known(p) else ""


def cautious_end(thin: Limits) -> float | None:
    """The end of the thin whisker that lies nearer to zero: the only one that is claimed."""
    ends = [end for end in (thin.low, thin.high) if is_known(end)]
    return min((end for end in ends if end is not None), key=abs, default=None)


def reach_words(f: Finding) -> str:
    """The two ends of the thin whisker: "−3.1 to +14 points"."""
    low, high = f.thin.low, f.thin.high
    if low is None or high is None or not (is_known(low) and is_known(high)):
        return ""
    return f"{end_against(f, low).removesuffix(' points')} to {end_against(f, high)}"


def end_against(f: Finding, end: float) -> str:
    """An end of a whisker, with so many digits that it lies on its side of the margin as written."""
    if f.margin is None or not outcome(f.outcome).is_share:
        return f"{_size(f, end, signed=True)}{_unit_of(f)}"
    side = _side_of(abs(end), f.margin)
    fewest = share_digits(end)
    for digits in range(fewest, _MOST_DIGITS + 1):
        if _side_of(round(abs(100 * end), digits), 100 * f.margin) == side:
            return f"{points(end, digits)} points"
    return f"{points(end, fewest)} points"


def _side_of(size: float, margin: float) -> int:
    near = abs(size - margin) <= 1e-9 * margin
    return 0 if near else 1 if size > margin else -1


# ── who is worse off ──────────────────────────────────────────────────────────────────────────────


def worse_side(f: Finding) -> int:
    """1 where the group (of a slope, its upper end) is worse off, -1 the other side, 0 nobody.

    By the role of the region: worse is more heat where none should be, or less where it should be.
    """
    size = decisive(f).estimate
    if f.outcome not in ("heat_share", "heat_share_correct") or f.code == "GA104" or not size:
        return 0
    if f.reference == ADDITIVE or f.group == f.reference:
        return 0
    return {"avoid": 1, "attend": -1}.get(f.role, 0) * (1 if size > 0 else -1)


def _worse_off(f: Finding) -> str:
    side = worse_side(f)
    if not side or f.state in (CellState.WITHHELD, CellState.NOT_ASSESSED):
        return ""
    if f.adjusted_for and (f.raw.estimate or 0.0) * (f.adjusted.estimate or 0.0) < 0:
        equal = together(f.adjusted_for)
        return f"Who has {_ROLES[f.role]} depends on whether {equal} {_are(f.adjusted_for)} held equal."
    who = group_words(f) if side > 0 else _other_side(f)
    sure = f.state is CellState.BEYOND or f.shown
    return f"Worse off{'' if sure else ', if anyone'}: {who}, with {_ROLES[f.role]}."


def _are(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


def _other_side(f: Finding) -> str:
    if f.reference == "rest":
        return reference_words(f)
    return f"{attribute_words(f.attribute)} {reference_words(f)}"


# ── the adjusted figure, and reservations ─────────────────────────────────────────────────────────


def _adjusted_figure(f: Finding, alpha: float) -> str:
    """Said only of what was held equal, and only beside the figure without adjustment."""
    raw = f.raw.estimate if f.mean.estimate is None else f.mean.estimate
    told = f.code != "GA104" and f.reference not in (ADDITIVE, f.group)
    if f.adjusted.estimate is None or not f.adjusted_for or raw is None or not told:
        return ""
    judged = f.state is not CellState.NOT_JUDGED
    found = Interval(estimate=f.adjusted.estimate) if judged else f.adjusted
    beside = ""
    if f.adjusted_predicted.estimate is not None:
        other = difference_words(f, f.adjusted_predicted.estimate)
        beside = f" (at equal predicted class instead: {other})"
    return f"At equal {together(f.adjusted_for)}: {_with_interval(f, found, alpha)}{beside}."


def _provisional(f: Finding, unit: Noun) -> str:
    told = "provisional" in f.reservation and f.state is CellState.WITHIN
    if not f.provisional or told:
        return ""
    return f"Provisional: fewer than 20 {unit.many} on one side."


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────


def decisive(f: Finding) -> Interval:
    """The difference that decides: the adjusted one where there is one."""
    return f.adjusted if f.adjusted.estimate is not None else f.raw


def _measure(f: Finding) -> str:
    return outcome(f.outcome).measure_words(f.region)


def value_words(f: Finding, value: float | None) -> str:
    """A mean of one side as its finding's sentence writes it: "43 %"."""
    if not outcome(f.outcome).is_share:
        return decimal(value)
    return percent_in_text(value, share_digits(value))


def _size(f: Finding, value: float, *, signed: bool = False) -> str:
    if not outcome(f.outcome).is_share:
        return decimal(value, signed=signed)
    return points(value, share_digits(value), signed=signed)


def _unit_of(f: Finding) -> str:
    return " points" if outcome(f.outcome).is_share else ""


def difference_words(f: Finding, value: float | None) -> str:
    """ "+19 points"; of a ratio "+0.12"."""
    if value is None or not is_known(value):
        return "an unknown amount"
    return f"{_size(f, value, signed=True)}{_unit_of(f)}"


def _with_interval(f: Finding, found: Interval, alpha: float) -> str:
    """ "+19 points (95 % interval +14 to +24)" """
    digits = share_digits(found.estimate)
    share = outcome(f.outcome).is_share

    def worded(value: float) -> str:
        return points(value, digits) if share else decimal(value, signed=True)

    ends = interval(found.low, found.high, worded)
    level = declared_percent(1 - alpha, space=" ")
    said = difference_words(f, found.estimate)
    return f"{said} ({level} interval {ends})" if ends else said
