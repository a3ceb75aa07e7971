"""The three questions of page one, each answered in plain words from this run alone.

Does it matter?  Is it right?  Everything else?  What was not measured is said to be not tested, and
never guessed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from gradaudit.analysis.sentences.comparisons import value_words
from gradaudit.analysis.sentences.names import (
    attribute_words,
    capital,
    group_words,
    listed,
    own_level,
    reference_words,
    uncapital,
)
from gradaudit.analysis.sentences.performance import (
    EVERYONE_ELSE,
    figure_of_others,
    row_of,
)
from gradaudit.analysis.sentences.plain_facts import Fact, Found, widest_open
from gradaudit.number_text import (
    percent_in_text,
    percent_number,
    points,
    share_digits,
    share_interval,
)
from gradaudit.outcomes import region_words
from gradaudit.records import ALL, DIFFERENCE, CellState, Finding
from gradaudit.result_schema import AuditState, PerformanceRow, PlannedCell, Question

DOES_IT_MATTER, IS_IT_RIGHT, EVERYTHING_ELSE = (
    "Does it matter?",
    "Is it right?",
    "Everything else?",
)
_ACCURACY = "accuracy"
_TWO_SIDED = ("GA101", "GA105")
_MOST_NAMED = 3


def questions_of(
    state: AuditState,
    fact: Fact,
    found: Found,
    findings: Sequence[Finding],
    performance: Sequence[PerformanceRow],
    classes: int = 0,
) -> tuple[Question, ...]:
    """The three questions and their answers.

    findings : all of them, also those that decide nothing
    performance : rows with small cells withheld      classes : how many the model has, 0 unknown
    """
    rest = " ".join(filter(None, _everything_else(state, fact.finding, found, findings)))
    return (
        Question(question=DOES_IT_MATTER, answer=_does_it_matter(fact.finding)),
        Question(question=IS_IT_RIGHT, answer=is_it_right(fact.finding, performance, classes)),
        Question(question=EVERYTHING_ELSE, answer=rest),
    )


def _does_it_matter(f: Finding | None) -> str:
    what = region_words(f.region) if f is not None and f.region else "a region"
    return (
        f"Not tested: this version does not remove {what} from the images, so it cannot say "
        "whether the model's answers depend on it."
    )


# ── is it right? ──────────────────────────────────────────────────────────────────────────────────


def is_it_right(f: Finding | None, rows: Sequence[PerformanceRow], classes: int = 0) -> str:
    """How often the model is right in the fact's group and in the others."""
    everybody = row_of(rows, ALL, _ACCURACY, ALL)
    if everybody is None or (everybody.estimate is None and not everybody.suppressed):
        return "Not known: there are no labels, so nobody can say which answers are right."
    own = None if f is None else row_of(rows, f.attribute, _ACCURACY, own_level(f))
    if f is None or own is None:
        return _of_everybody(everybody, classes)
    if own.suppressed:
        return f"Withheld for {group_words(f)}: too few images. {_of_everybody(everybody, classes)}"
    if own.estimate is None:
        return f"Not known for {group_words(f)}: {own.reason}. {_of_everybody(everybody, classes)}"
    said = f"On {group_words(f)} the model is right in {_right(own, classes, ' of images')}"
    return f"{said}{_beside(f, own, rows)}."


def _of_everybody(row: PerformanceRow, classes: int) -> str:
    if row.suppressed or row.estimate is None:
        return "How often the model is right is withheld: too few images."
    return f"Over all images the model is right in {_right(row, classes)}."


def _right(row: PerformanceRow, classes: int, of: str = "") -> str:
    """ "49 % of images (39 to 59 %), no better than tossing a coin" """
    estimate = row.estimate or 0.0
    digits = share_digits(estimate)
    ends = share_interval(row.low, row.high, lambda share: percent_number(share, digits))
    said = f"{_share(estimate)}{of}{f' ({ends} %)' if ends else ''}"
    if classes != 2 or not (row.low or 0.0) <= 0.5 <= (row.high or 0.0):
        return said
    shown = "no better" if estimate <= 0.5 else "not shown to be better"
    return f"{said}, {shown} than tossing a coin"


def _beside(f: Finding, own: PerformanceRow, rows: Sequence[PerformanceRow]) -> str:
    """ "; on all others in 82 %", or by how much it differs where the others are not told."""
    if f.reference == own.level:
        return ""
    reference = EVERYONE_ELSE if f.reference == "rest" else f.reference
    others = figure_of_others(rows, own, _ACCURACY, reference)
    if others is not None:
        return f"; on {reference_words(f)} in {_share(others)}"
    row = row_of(rows, f.attribute, f"{_ACCURACY}{DIFFERENCE}", own.level)
    size = None if row is None or row.suppressed else row.estimate
    if size is None or row is None or row.reason != f"against {reference}":
        return f"; on {reference_words(f)} that is not shown"
    amount = points(abs(size), share_digits(size), signed=False)
    return f", {amount} points {'more' if size > 0 else 'less'} than on {reference_words(f)}"


def _share(value: float) -> str:
    return percent_in_text(value, share_digits(value))


# ── everything else? ──────────────────────────────────────────────────────────────────────────────


def _everything_else(
    state: AuditState, f: Finding | None, found: Found, findings: Sequence[Finding]
) -> Iterator[str]:
    if f is not None:
        yield _mirror(f, findings)
        yield _other_attributes(f, found)
    yield _not_settled(found) if state == "insufficient" else _others(found)
    yield _overturned(state, found)


def _mirror(f: Finding, findings: Sequence[Finding]) -> str:
    """The same groups in another region: where the heat is instead."""
    if f.is_slope or f.stratum or not f.region:
        return ""
    groups = f.attribute, f.group, f.reference, f.method, f.target
    others = [
        g
        for g in findings
        if (g.attribute, g.group, g.reference, g.method, g.target) == groups
        and g.code in _TWO_SIDED
        and g.region != f.region
        and None not in (g.mean.estimate, g.mean_reference.estimate)
    ]
    if not others:
        return ""
    own = _plain_difference(f)
    mirror = max(
        others, key=lambda g: (g.test.family == "confirmatory", -own * _plain_difference(g))
    )
    means = (value_words(mirror, side.estimate) for side in (mirror.mean, mirror.mean_reference))
    judged = f.margin is None or mirror.margin is not None
    where = f"{region_words(mirror.region)}{'' if judged else ', where no limit was set'}"
    return f"On {where}, {' of the heat against '.join(means)}."


def _plain_difference(f: Finding) -> float:
    return (f.mean.estimate or 0.0) - (f.mean_reference.estimate or 0.0)


def _other_attributes(f: Finding, found: Found) -> str:
    """Which other attributes are beyond the limit; where none was set, which differ."""
    others = {cell.attribute for cell in found.cells} - {f.attribute}
    if not others:
        return ""
    limited = found.margin is not None
    beyond = {g.attribute for g in found.decisive if g.state is CellState.BEYOND}
    shown = {g.attribute for g in found.decisive if g.shown and not g.suppressed}
    named = sorted(map(attribute_words, others & (beyond if limited else shown)))
    verb = "beyond the limit" if limited else "shown to differ"
    if not named:
        return f"No other attribute is {verb}."
    return f"Also {verb}: {listed(named, _MOST_NAMED)}."


def _others(found: Found) -> str:
    """How many comparisons are neither beyond nor settled, and where most of them are."""
    loose = [cell for cell in found.loose if cell.state is not CellState.BEYOND]
    within = sum(cell.settled for cell in found.judged)
    if not loose:
        all_ = within == len(found.judged)
        return (
            ""
            if all_ or not within
            else f"The other {within} planned comparisons lie within the limit."
        )
    still = all(cell.state is CellState.OPEN for cell in loose)
    verb, words = "is" if len(loose) == 1 else "are", "open" if still else "not settled"
    said = f"{len(loose)} of {len(found.judged)} planned comparisons {verb} {words}"
    most = _most_of(loose)
    return f"{said}, {most}." if most else f"{said}."


def _not_settled(found: Found) -> str:
    """Of an audit whose fact counts them: where the comparisons are that are not settled."""
    within = sum(cell.settled for cell in found.judged)
    settled = (
        f"{within} of {len(found.judged)} planned comparisons lie within the limit"
        if within
        else ""
    )
    most = _most_of(found.loose)
    parts = [settled, f"what is not settled is {most}" if most else ""]
    said = "; ".join(filter(None, parts))
    return f"{capital(said)}." if said else ""


def _most_of(loose: Sequence[PlannedCell]) -> str:
    """ "by site", "mostly by site (6 of 9)"; "" where no attribute has more than the others."""
    counts = Counter(cell.attribute for cell in loose)
    if not counts:
        return ""
    first, n = counts.most_common(1)[0]
    if len(counts) == 1:
        return f"{'all ' * (n > 1)}by {attribute_words(first)}"
    tied = sum(count == n for count in counts.values()) > 1
    return "" if tied else f"mostly by {attribute_words(first)} ({n} of {len(loose)})"


def _overturned(state: AuditState, found: Found) -> str:
    """What would change the state: another limit, or for an open comparison more patients."""
    heat = [f for f in found.decisive if f.outcome == "heat_share" and f.margin is not None]
    if state == "not_met":
        beyond = [f for f in found.decisive if f.state is CellState.BEYOND]
        ends = [f.beyond_up_to for f in beyond]
        if not ends or any(f.outcome != "heat_share" for f in beyond) or None in ends:
            return ""
        limit = max(end for end in ends if end is not None)
        return f"A limit above {_points(limit, down=False)} points would leave nothing beyond it."
    if state == "met":
        ends = [f.within_from for f in heat if f.state is CellState.WITHIN]
        known = [end for end in ends if end is not None]
        if not known or not max(known):
            return ""
        least = _points(max(known), down=True)
        return f"With a limit of {least} points or less the criteria would not be met."
    if state == "insufficient":
        return _settling(found)
    return ""


def _settling(found: Found) -> str:
    """What would settle the widest open comparison, if there is no difference."""
    widest = widest_open(found.told)
    texts = {cell.finding: cell.settle for cell in found.loose if cell.settle}
    if widest is None or widest.anchor not in texts:
        return ""
    return f"The widest: {uncapital(texts[widest.anchor].partition('; ')[0])}."


def _points(limit: float, *, down: bool) -> str:
    """A limit in points, rounded so that what is said of it holds."""
    digits = share_digits(limit)
    steps = 100 * limit * 10**digits
    whole = math.floor(steps + 1e-9) if down else math.ceil(steps - 1e-9)
    return points(whole / 10**digits / 100, digits, signed=False)
