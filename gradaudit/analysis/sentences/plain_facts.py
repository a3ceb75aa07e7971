"""Page one in words: the plain fact of the audit in at most 25 words, and what the plan allows.

Findings and planned cells come in; a ``Fact`` goes out, one form for each state of the audit.  Its
numbers are those of one finding, rounded as that finding's own sentence rounds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gradaudit.analysis.sentences.audits import told_first
from gradaudit.analysis.sentences.comparisons import (
    decisive,
    difference_words,
    margin_words,
    reach_words,
    value_words,
)
from gradaudit.analysis.sentences.names import (
    attribute_words,
    capital,
    end_words,
    group_words,
    own_level,
    reference_words,
    subject_words,
    together,
    upper_end,
)
from gradaudit.outcomes import region_words
from gradaudit.records import CellState, Finding
from gradaudit.result_schema import AuditState, PlannedCell, RegionFacts

MOST_WORDS = 25
"""Of the fact: a reader takes it in at one glance."""
NO_LIMIT = "No limit was set, so this page gives no verdict."
_HEAT = "heat_share"


@dataclass(frozen=True)
class Fact:
    """What page one says first.

    text : the fact      limit : what the plan allows, in one sentence
    finding : the finding that it tells, None where it tells none
    """

    text: str
    limit: str
    finding: Finding | None = None


@dataclass(frozen=True)
class Found:
    """What an audit found, as far as page one tells it.

    decisive : findings of planned comparisons
    departing : findings among a part of the patients alone, beyond where everybody is not; the
        largest difference first
    cells : the planned cells      regions : where they lie, () where that is not known
    margin : of heat, None where none was declared
    told : the decisive findings that have something to tell, the worst first
    """

    decisive: Sequence[Finding]
    departing: Sequence[Finding]
    cells: Sequence[PlannedCell]
    regions: Sequence[RegionFacts] = ()
    margin: float | None = None
    told: list[Finding] = field(init=False)

    def __post_init__(self) -> None:
        told = [f for f in told_first(self.decisive) if f.group != f.reference]
        object.__setattr__(self, "told", told)

    @property
    def judged(self) -> list[PlannedCell]:
        return [cell for cell in self.cells if cell.margin is not None]

    @property
    def loose(self) -> list[PlannedCell]:
        """Judged cells that are in the way of "met"."""
        return [cell for cell in self.judged if not cell.settled]


def fact_of(state: AuditState, found: Found) -> Fact:
    """The fact of an audit in one state, with what the plan allows."""
    return {
        "not_met": _not_met,
        "met": _met,
        "insufficient": _insufficient,
        "none_declared": _none_declared,
    }[state](found)


# ── one form for each state ───────────────────────────────────────────────────────────────────────


def _not_met(found: Found) -> Fact:
    beyond = [f for f in found.told if f.state is CellState.BEYOND]
    if not beyond:
        n = sum(cell.state is CellState.BEYOND for cell in found.judged)
        said = f"{n} of {_planned(found)} {'lies' if n == 1 else 'lie'} beyond the limit."
        return Fact(said, _allowed(_HEAT, found.margin))
    first = next(filter(has_numbers, beyond), beyond[0])
    return Fact(in_few_words(forms_of(first)), _allowed(first.outcome, first.margin), first)


def _met(found: Found) -> Fact:
    limit = _allowed(_HEAT, found.margin)
    departing = [f for f in found.departing if has_numbers(f)]
    if departing:
        first = departing[0]
        limit = limit.removesuffix(".") + "; on average every group lies within it."
        return Fact(in_few_words(forms_of(first)), limit, first)
    heat = [f for f in found.told if f.outcome == _HEAT and has_difference(f)]
    if not heat:
        return Fact(f"All {_planned(found)} lie within the limit.", limit)
    groups = [f for f in heat if not f.is_slope] or heat
    largest = max(groups, key=lambda f: abs(decisive(f).estimate or 0.0))
    return Fact(in_few_words(_largest(largest, found)), limit, largest)


def _largest(f: Finding, found: Found) -> Iterator[str]:
    """That every group differs by less than the margin, and by how much at most."""
    regions = {cell.region for cell in found.judged if cell.region}
    where = f" on {region_words(f.region)}" if len(regions) == 1 else ""
    place = "" if where else f" on {region_words(f.region)}"
    less = f"is shown to differ by less than {margin_words(_HEAT, found.margin)}"
    size = difference_words(f, decisive(f).estimate)
    most = f"the largest difference is {size.removesuffix(' points')}"
    who = subject_words(f) if f.is_slope or f.code == "GA105" else group_words(f)
    for shown in (f"{who}{place}", who, _short_name(f)):
        yield f"In every group, the model's heat map{where} {less}; {most} ({shown})."
        yield f"Every group's heat map{where} {less}; {most} ({shown})."
    yield f"Every group's heat map{where} {less}; {most} points."
    yield f"Every group's heat map {less}; {most} points."


def _insufficient(found: Found) -> Fact:
    limit = NO_LIMIT if found.margin is None else _allowed(_HEAT, found.margin)
    heat = [cell for cell in found.judged if cell.outcome == _HEAT]
    unseen = (CellState.WITHHELD, CellState.NOT_ASSESSED)
    if not found.judged or (heat and all(cell.state in unseen for cell in heat)):
        return Fact(in_few_words(_nothing_compared(heat, found.regions)), limit)
    widest = widest_open(found.told)
    head = _not_settled(found)
    if widest is None:
        return Fact(in_few_words((f"{head}: {_parts(found.loose)}.", f"{head}.")), limit)
    limit = _allowed(widest.outcome, widest.margin)
    return Fact(in_few_words(_with_widest(head, widest)), limit, widest)


def _with_widest(head: str, f: Finding) -> Iterator[str]:
    """How many are not settled, and the open comparison that is known least."""
    size, reach = difference_words(f, decisive(f).estimate), reach_words(f)
    which = "widest" if f.is_slope else "widest between groups"
    subject, place = subject_words(f), f" on {region_words(f.region)}"
    if f.outcome != _HEAT:
        which, place = f"{which}, in unusable heat maps", ""
    short = _short_name(f)
    shorter = () if f.is_slope else (subject,)
    for who in (f"{subject}{place}", *shorter, f"{short}{place}", short):
        yield f"{head}. The {which}: {who}, {size} ({reach.removesuffix(' points')})."
    yield f"{head}. The widest could be anything from {reach}."


def _short_name(f: Finding) -> str:
    """The group's level alone; of a slope or curve the attribute."""
    return attribute_words(f.attribute) if f.is_slope else own_level(f)


def _none_declared(found: Found) -> Fact:
    known = [f for f in found.told if has_numbers(f)]
    if not known:
        heat = [cell for cell in found.cells if cell.outcome == _HEAT]
        return Fact(in_few_words(_nothing_compared(heat, found.regions)), NO_LIMIT)
    first = next((f for f in known if f.shown), known[0])
    return Fact(in_few_words(forms_of(first)), NO_LIMIT, first)


def _nothing_compared(heat: Sequence[PlannedCell], regions: Sequence[RegionFacts]) -> Iterator[str]:
    """Why no comparison of heat has a number."""
    names = {cell.region for cell in heat}
    present = [region.n_present for region in regions if region.name in names]
    if present and not any(present):
        if len(names) == 1:
            only = region_words(next(iter(names)))
            yield f"{capital(only)} was found in no image, so no heat map was compared: check the masks."
        yield "No region was found in any image, so no heat map was compared: check the masks."
        return
    if heat and all(cell.state is CellState.WITHHELD for cell in heat):
        yield "Every group is too small to be shown, so nothing is told of their heat maps."
        return
    reasons = Counter(cell.reason for cell in heat if cell.reason)
    if reasons:
        common = reasons.most_common(1)[0][0]
        most = ", mostly because of this:" if len(reasons) > 1 else ":"
        yield f"No heat maps could be compared{most} {common}."
    yield "No heat maps of groups could be compared; the reasons stand beside each comparison."


# ── the parts ─────────────────────────────────────────────────────────────────────────────────────


def _allowed(name: str, margin: float | None) -> str:
    return f"The plan allows a difference of {margin_words(name, margin)}."


def _planned(found: Found) -> str:
    n = len(found.judged)
    return f"{n} planned heat map {'comparison' if n == 1 else 'comparisons'}"


def _not_settled(found: Found) -> str:
    """ "2 of 11 planned heat map comparisons are open" """
    loose = found.loose
    still = all(cell.state is CellState.OPEN for cell in loose)
    verb = "is" if len(loose) == 1 else "are"
    return f"{len(loose)} of {_planned(found)} {verb} {'open' if still else 'not settled'}"


_UNSETTLED = (
    (CellState.OPEN, "open"),
    (CellState.NOT_ASSESSED, "not assessed"),
    (CellState.WITHHELD, "withheld"),
    (CellState.WITHIN, "within the limit but not counted"),
)


def _parts(loose: Sequence[PlannedCell]) -> str:
    """ "6 not assessed and 3 within the limit but not counted", of one "not assessed" """
    if len(loose) == 1:
        return dict(_UNSETTLED)[loose[0].state]
    counted = [(sum(cell.state is state for cell in loose), words) for state, words in _UNSETTLED]
    return together([f"{n} {words}" for n, words in counted if n])


def widest_open(findings: Iterable[Finding]) -> Finding | None:
    """The open finding whose thin whisker is the longest; None where none has a whisker.

    Heat comes before other outcomes, and groups before slopes and curves, which are about other
    ends.
    """
    known = [
        f
        for f in findings
        if f.state is CellState.OPEN and not f.suppressed and reach_words(f) and has_difference(f)
    ]

    def rank(f: Finding) -> tuple[bool, bool, float]:
        return f.outcome == _HEAT, not f.is_slope, (f.thin.high or 0.0) - (f.thin.low or 0.0)

    return max(known, key=rank, default=None)


def has_difference(f: Finding) -> bool:
    """Whether the finding tells how large the difference is."""
    return f.raw.estimate is not None or f.adjusted.estimate is not None


def has_numbers(f: Finding) -> bool:
    """Whether the plain fact can be told: both means, or of a slope its change."""
    if f.group == f.reference:
        return False
    means = f.mean.estimate is not None and f.mean_reference.estimate is not None
    return means or (f.is_slope and has_difference(f))


def in_few_words(forms: Iterable[str]) -> str:
    """The first form of at most ``MOST_WORDS`` words; else the shortest."""
    shortest = ""
    for form in forms:
        if len(form.split()) <= MOST_WORDS:
            return form
        if not shortest or len(form.split()) < len(shortest.split()):
            shortest = form
    return shortest


# ── the plain fact of one finding ─────────────────────────────────────────────────────────────────


def forms_of(f: Finding) -> Iterator[str]:
    """The plain fact of a finding, the fullest form first; the last one holds no name."""
    if not has_numbers(f):
        subject = f"{capital(subject_words(f))}: "
        for start in (subject, ""):
            yield capital(
                f"{start}the shares of images without a usable heat map differ by more than the "
                "plan allows; they are withheld."
            )
    elif f.is_slope:
        yield from _slope_forms(f)
    else:
        yield from _means_forms(f)


def _means_forms(f: Finding) -> Iterator[str]:
    own, other = (value_words(f, side.estimate) for side in (f.mean, f.mean_reference))
    full, short, bare = (f"{own} {words}" for words in _measures(f))
    start = f"Within {f.stratum}, on " if f.stratum else "On "
    yield f"{start}{group_words(f)}, {full}; on {reference_words(f)}, {other}."
    yield f"{start}{group_words(f)}, {full}; on the others, {other}."
    yield f"{start}{own_level(f)}, {short}; on the others, {other}."
    part = "in a part of the data, " if f.stratum else ""
    yield capital(f"{part}{short} in one group; in the others, {other}.")
    yield capital(f"{part}{bare} in one group; in the others, {other}.")


def _measures(f: Finding) -> tuple[str, str, str]:
    """What follows a mean: in full, without "model's", and without the region's name."""
    if f.outcome == "undefined":
        return ("of the images have no usable heat map",) * 3
    lies = f"lies on {region_words(f.region)}"
    return (
        f"of the model's heat map {lies}",
        f"of the heat map {lies}",
        "of the heat map lies on one region",
    )


def _slope_forms(f: Finding) -> Iterator[str]:
    """The change from one end to the other; of a curve, between the points that differ most."""
    measure, short = "the share of images without a usable heat map", "the share of the heat map"
    on = ""
    if f.outcome == _HEAT:
        measure, on = "the share of the model's heat map", f" on {region_words(f.region)}"
    else:
        short = measure
    change, equal = _change(f)
    start = f"Within {f.stratum}, from " if f.stratum else "From "
    name, low, high = attribute_words(f.attribute), end_words(f.reference), upper_end(f)
    adjusted = ", adjusted" if equal else ""
    yield f"{start}{name} {low} to {high}, {measure}{on} {change}{equal}."
    yield f"{start}{name} {low} to {high}, {short}{on} {change}{adjusted}."
    part = "in a part of the data, " if f.stratum else ""
    yield capital(f"{part}along {name}, {short}{on} {change}{adjusted}.")
    yield capital(f"{part}along one attribute, {short}{on} {change}{adjusted}.")
    if on:
        yield capital(f"{part}along one attribute, {short} on one region {change}{adjusted}.")


def _change(f: Finding) -> tuple[str, str]:
    """ "rises by 37 points", and at what is held equal where that is not the plain change."""
    raw = f.raw.estimate is not None
    found = f.raw if raw else decisive(f)
    equal = "" if raw or not f.adjusted_for else f", at equal {together(f.adjusted_for)}"
    size, low, high = found.estimate or 0.0, found.low, found.high
    if low is None or high is None or low <= 0 <= high:
        return f"changes by {difference_words(f, size)}", equal
    amount = difference_words(f, abs(size)).removeprefix("+")
    return f"{'rises' if size > 0 else 'falls'} by {amount}", equal
