"""What the page of a comparison shows, worded: the template only puts it in place.

Nothing is computed here; rows are chosen, sorted and grouped, and numbers become text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gradaudit.number_text import (
    MISSING,
    Noun,
    count,
    decimal,
    declared_points,
    interval,
    percent_in_text,
    points,
    share_digits,
    share_percent,
)
from gradaudit.outcomes import region_words
from gradaudit.records import ALL, STATE_WORDS, CellState, Interval
from gradaudit.report.changes.intervals import Move, Scale, Whiskers, move, whiskers
from gradaudit.report.wording import metric_words, plain
from gradaudit.schema.comparison import (
    CHANGE_WORDS,
    AuditSide,
    CellChange,
    ChangeWord,
    ComparisonDocument,
    Difference,
    PerformanceChange,
)

OF_SHARES = ("accuracy", "sensitivity", "specificity", "ppv")
UNSCALED = ("calibration_slope",)
"""Figures whose changes are no hundredths, and are drawn on no common scale."""
MOST_DIFFERENCES = 8
"""Differences without a consequence beyond these stand folded."""


@dataclass(frozen=True)
class Side:
    """One audit in the head of the page."""

    when: str
    facts: tuple[tuple[str, str], ...]
    state: str
    words: str


@dataclass(frozen=True)
class State:
    """The state of one comparison in one audit."""

    icon: str
    words: str
    number: str
    ends: str


@dataclass(frozen=True)
class ChangeRow:
    """One planned comparison: before, after, change and word."""

    attribute: str
    first: str
    second: str
    n: str
    before: State
    after: State
    move: Move | None
    change: str
    ends: str
    whiskers: Whiskers | None
    word: ChangeWord
    words: str
    changed: bool
    notes: tuple[str, ...]
    own: str


@dataclass(frozen=True)
class ChangeTable:
    """All comparisons of one outcome and region, by attribute; folded where each change is zero."""

    anchor: str
    title: str
    unit: str
    axis: str
    groups: tuple[tuple[str, tuple[ChangeRow, ...]], ...]
    tally: tuple[tuple[ChangeWord, str], ...]
    folded: bool


@dataclass(frozen=True)
class FigureCell:
    """One performance figure before and after."""

    metric: str
    before: str
    after: str
    ends_before: str
    ends_after: str
    change: str
    ends: str
    whiskers: Whiskers | None
    word: ChangeWord
    words: str
    reason: str


@dataclass(frozen=True)
class FigureTable:
    """Figures of the levels of one attribute: rows of levels, columns of figures."""

    attribute: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[FigureCell | None, ...]], ...]
    tally: tuple[tuple[ChangeWord, str], ...]


@dataclass(frozen=True)
class NotCompared:
    """A comparison without a change, and why."""

    subject: str
    word: ChangeWord
    words: str
    reason: str


@dataclass(frozen=True)
class Page:
    """Everything that the page shows."""

    title: str
    word: str
    words: str
    headline: str
    facts: tuple[str, ...]
    notices: tuple[str, ...]
    sides: tuple[Side, Side]
    pairing: tuple[str, ...]
    first_differences: tuple[Difference, ...]
    more_differences: tuple[Difference, ...]
    tally: tuple[tuple[ChangeWord, str], ...]
    tables: tuple[ChangeTable, ...]
    overall: tuple[FigureCell, ...]
    overall_axis: str
    figures: tuple[FigureTable, ...]
    not_compared: tuple[NotCompared, ...]
    cannot_tell: tuple[str, ...]
    method: tuple[tuple[str, str], ...]
    unit: Noun


def page_of(document: ComparisonDocument) -> Page:
    unit = Noun.of(document.method.cluster_name)
    cells = document.cells
    word = overall_word(cells)
    told = [d for d in document.differences if d.consequence]
    rest = [d for d in document.differences if not d.consequence]
    room = max(MOST_DIFFERENCES - len(told), 0)
    overall = [r for r in document.performance if r.attribute == ALL]
    scale = _figure_scale(overall)
    return Page(
        title=document.title,
        word=word,
        words=_OVERALL[word],
        headline=document.headline,
        facts=document.facts,
        notices=document.notices,
        sides=(_side("Before", document.before, unit), _side("After", document.after, unit)),
        pairing=_pairing(document, unit),
        first_differences=(*told, *rest[:room]),
        more_differences=tuple(rest[room:]),
        tally=tally(c.word for c in cells),
        tables=tuple(_tables(document, unit)),
        overall=tuple(_figure(r, scale) for r in overall),
        overall_axis=_axis(scale),
        figures=tuple(_figure_tables(document)),
        not_compared=tuple(_not_compared(document, unit)),
        cannot_tell=tuple(unit.said_in(text) for text in document.cannot_tell),
        method=_method(document, unit),
        unit=unit,
    )


_OVERALL = {
    "worse": "Larger disparity",
    "better": "Smaller disparity",
    "mixed": "Smaller here, larger there",
    "not_shown": "No change shown",
    "not_compared": "Nothing compared",
}


def overall_word(cells: Sequence[CellChange]) -> str:
    """better | worse | mixed | not_shown | not_compared"""
    words = {c.word for c in cells}
    if {"better", "worse"} <= words:
        return "mixed"
    return next((w for w in ("worse", "better", "not_shown") if w in words), "not_compared")


def tally(words: Iterable[ChangeWord]) -> tuple[tuple[ChangeWord, str], ...]:
    """Each word that occurs, with how often: ("better", "2 better")."""
    found = list(words)
    return tuple(
        (word, f"{count(found.count(word))} {said}")
        for word, said in CHANGE_WORDS.items()
        if word in found
    )


# ── the head ──────────────────────────────────────────────────────────────────────────────────────


def _side(when: str, side: AuditSide, unit: Noun) -> Side:
    limit = "none" if side.margin is None else f"{declared_points(side.margin)} points"
    facts = (
        ("Audit", f"{side.title} ({side.audit_id})"),
        ("Model", f"{side.model_source}, {side.model_digest[:12]}"),
        ("Data", f"{side.data_name}, {count(side.n_images)} images of {unit.counted(side.n_clusters)}"),
        ("Measured", side.measured.replace("T", " ").partition("+")[0] + " UTC"),
        ("Limit", limit),
    )  # fmt: skip
    return Side(when, facts, side.state, side.state_words)


def _pairing(document: ComparisonDocument, unit: Noun) -> tuple[str, ...]:
    p = document.pairing
    ways = []
    if p.n_by_digest:
        ways.append(f"{count(p.n_by_digest)} by the digest of their file")
    if p.n_by_name:
        ways.append(f"{count(p.n_by_name)} by their name alone")
    verb = "image is" if p.n_pairs == 1 else "images are"
    how = f" ({' and '.join(ways)})" if ways else ""
    out = [
        f"{count(p.n_pairs)} {verb} in both audits{how}; {count(p.n_only_before)} in the earlier "
        f"one alone, {count(p.n_only_after)} in the later one alone.",
        f"{unit.counted(p.n_clusters_both)} of {count(p.n_clusters_before)} and "
        f"{count(p.n_clusters_after)} have images in both.",
    ]
    if p.n_replaced:
        what = "name stands" if p.n_replaced == 1 else "names stand"
        out.append(
            f"{count(p.n_replaced)} {what} for another file in the later audit, and pair with none: "
            f"{_some(p.replaced, p.n_replaced)}."
        )
    if p.n_renamed:
        what = "file bears" if p.n_renamed == 1 else "files bear"
        out.append(f"{count(p.n_renamed)} {what} another name: {_some(p.renamed, p.n_renamed)}.")
    if p.n_clusters_joined:
        out.append(
            f"{unit.counted(p.n_clusters_joined)} of one audit are one with others in the other, and "
            "count as one in both."
        )
    return tuple(out)


def _some(names: Sequence[str], number: int) -> str:
    more = number - len(names)
    return ", ".join(names) + (f" and {count(more)} more" if more > 0 else "")


# ── heat ──────────────────────────────────────────────────────────────────────────────────────────


def _tables(document: ComparisonDocument, unit: Noun) -> Iterable[ChangeTable]:
    places = dict.fromkeys((c.region, c.outcome) for c in document.cells)
    for number, (region, outcome) in enumerate(places, start=1):
        own = [c for c in document.cells if (c.region, c.outcome) == (region, outcome)]
        shown = [c for c in own if c.change.estimate is not None]
        if not shown:
            continue
        scale = _scale(shown)
        names = dict.fromkeys(c.attribute for c in shown)
        groups = []
        for name in names:
            rows = tuple(change_row(c, scale, unit) for c in shown if c.attribute == name)
            groups.append((plain(name), rows))
        title = f"Heat on {region_words(region)}" if region else "Images without a defined heat map"
        yield ChangeTable(
            anchor=f"heat-{number}",
            title=title,
            unit="difference in heat, points" if region else "difference in their rate, points",
            axis=_axis(scale),
            groups=tuple(groups),
            tally=tally(c.word for c in own),
            folded=not region and not any(c.change.estimate for c in own),
        )


def _scale(cells: Sequence[CellChange]) -> Scale:
    values: list[float | None] = []
    for c in cells:
        values += [c.before.estimate, c.after.estimate, c.change.low, c.change.high]
        values += [c.change.estimate, c.thin.low, c.thin.high]
    return Scale.of(values)


def _axis(scale: Scale) -> str:
    """The reach of a scale, in points: "20"."""
    return declared_points(scale.reach)


def change_row(c: CellChange, scale: Scale, unit: Noun) -> ChangeRow:
    first, second = subject(c)
    notes = [unit.said_in(text) for text in (c.reason, *c.notes) if text]
    if c.provisional:
        notes.append(f"provisional: fewer than 20 {unit.many} on one side")
    thick = c.change.low, c.change.high
    return ChangeRow(
        attribute=plain(c.attribute),
        first=first,
        second=second,
        n=_n(c, unit),
        before=_state(c.before, c.state_before),
        after=_state(c.after, c.state_after),
        move=move(scale, c.before.estimate, c.after.estimate, c.margin_after),
        change=points(c.change.estimate),
        ends=interval(*thick, points),
        whiskers=whiskers(scale, c.change.estimate, thick, (c.thin.low, c.thin.high)),
        word=c.word,
        words=CHANGE_WORDS[c.word],
        changed=c.changed and c.word == "not_shown",
        notes=tuple(notes),
        own=_own(c),
    )


def subject(c: CellChange) -> tuple[str, str]:
    """What is compared, and with what: ("V–VI", "against all others")."""
    if c.comparison == "trend":
        return "Trend", "first to last level"
    if c.comparison == "line":
        return "Line", f"{c.reference} to {c.group}"
    reference = "all others" if c.reference == "rest" else c.reference
    return plain(c.group), f"against {reference}"


def _n(c: CellChange, unit: Noun) -> str:
    if c.n_before is None or c.n_after is None:
        return ""
    if c.n_before == c.n_after:
        return unit.counted(c.n_before)
    return f"{count(c.n_before)}, then {unit.counted(c.n_after)}"


def _state(found: Interval, state: CellState | None) -> State:
    words = "" if state is None else STATE_WORDS[state]
    icon = "none" if state is None else state.value
    return State(icon, words, points(found.estimate), interval(found.low, found.high, points))


def _own(c: CellChange) -> str:
    """The group's own mean before and after, and what that is for it."""
    if c.group_before is None or c.group_after is None:
        return ""
    means = f"{_percent(c.group_before)} before, {_percent(c.group_after)} after"
    what = "its own heat" if c.region else "its own rate"
    word = {"better": ": better for it", "worse": ": worse for it"}.get(c.group_word or "", "")
    return f"{what} {means}{word}"


def _percent(share: float) -> str:
    return percent_in_text(share, share_digits(share))


# ── performance ───────────────────────────────────────────────────────────────────────────────────


def _figure_scale(rows: Sequence[PerformanceChange]) -> Scale:
    values: list[float | None] = []
    for r in rows:
        if r.metric not in UNSCALED:
            values += [r.change.estimate, r.change.low, r.change.high, r.thin.low, r.thin.high]
    return Scale.of(values)


def _figure(r: PerformanceChange, scale: Scale) -> FigureCell:
    value, change = _worded(r.metric)
    thick = r.change.low, r.change.high
    drawn = None
    if r.metric not in UNSCALED:
        drawn = whiskers(scale, r.change.estimate, thick, (r.thin.low, r.thin.high))
    return FigureCell(
        metric=metric_words(r.metric),
        before=value(r.before.estimate),
        after=value(r.after.estimate),
        ends_before=interval(r.before.low, r.before.high, value),
        ends_after=interval(r.after.low, r.after.high, value),
        change=MISSING if r.change.estimate is None else change(r.change.estimate),
        ends=interval(*thick, change),
        whiskers=drawn,
        word=r.word,
        words=CHANGE_WORDS[r.word],
        reason=r.reason,
    )


def _worded(metric: str) -> tuple[Callable[[float | None], str], Callable[[float], str]]:
    """How a figure and its change are told."""
    if metric in OF_SHARES:
        return share_percent, points

    def signed(value: float) -> str:
        return decimal(value, signed=True)

    return decimal, signed


def _figure_tables(document: ComparisonDocument) -> Iterable[FigureTable]:
    rows = [r for r in document.performance if r.attribute != ALL]
    for name in dict.fromkeys(r.attribute for r in rows):
        own = [r for r in rows if r.attribute == name]
        metrics = tuple(dict.fromkeys(r.metric for r in own))
        levels = dict.fromkeys(r.level for r in own)
        by_place = {(r.level, r.metric): r for r in own}
        scale = _figure_scale(own)
        table = []
        for level in levels:
            found = [by_place.get((level, metric)) for metric in metrics]
            cells = tuple(None if r is None else _figure(r, scale) for r in found)
            table.append((plain(level), cells))
        yield FigureTable(
            attribute=plain(name),
            metrics=tuple(metric_words(m) for m in metrics),
            rows=tuple(table),
            tally=tally(r.word for r in own),
        )


# ── the rest ──────────────────────────────────────────────────────────────────────────────────────


def _not_compared(document: ComparisonDocument, unit: Noun) -> Iterable[NotCompared]:
    for c in document.cells:
        if c.change.estimate is None:
            first, second = subject(c)
            where = f"heat on {region_words(c.region)}" if c.region else "undefined heat"
            yield NotCompared(
                f"{plain(c.attribute)}: {first} {second}, {where}",
                c.word,
                CHANGE_WORDS[c.word],
                unit.said_in(c.reason),
            )
    for r in document.performance:
        if r.change.estimate is None:
            who = "all images" if r.attribute == ALL else f"{plain(r.attribute)} {plain(r.level)}"
            yield NotCompared(
                f"{metric_words(r.metric)}, {who}",
                r.word,
                CHANGE_WORDS[r.word],
                unit.said_in(r.reason),
            )


def _method(document: ComparisonDocument, unit: Noun) -> tuple[tuple[str, str], ...]:
    m = document.method
    level = share_percent(1 - m.alpha, 0)
    return (
        (
            "Change",
            "The difference after less the difference before, each adjusted as its own audit "
            "decides (region size, label, declared covariates).",
        ),
        (
            "Better, worse",
            "Better: it is shown that the difference is smaller in size than before; worse: larger. "
            "Both the change and the sum of both differences must have a sign that is shown, so that "
            "a difference which turns to the other side is neither. The state of a comparison "
            "(beyond, open, within) never makes a word.",
        ),
        (
            "For the group itself",
            "Beside the disparity: less heat is better where none should be (avoid), more where it "
            "should be (attend). No word where the region has no role.",
        ),
        (
            "Error",
            f"Each of the {unit.many} that are in both audits adds its own change, those in one alone "
            "their own value: HC2 over both fits together.",
        ),
        (
            "Test",
            f"Residuals of both audits permuted together ({count(m.permutations)} times, seed "
            f"{m.seed}); above 20,000 {unit.many} and where sites are the unit, Student's t.",
        ),
        (
            "Many comparisons",
            f"Holm over all {count(m.family)} planned comparisons, those without a number included, "
            f"and over {count(m.family_performance)} figures of performance. Thick whisker: {level} "
            "of one comparison; thin whisker: of all together.",
        ),
        (
            "Smallest",
            f"A change below {decimal(100 * m.smallest)} points reads as zero and is never shown.",
        ),
        (
            "Small groups",
            f"Groups of fewer than {count(document.min_cell)} images or {unit.many} in either audit "
            "are withheld here, with everything from which they could be reckoned. No picture is "
            "shown.",
        ),
    )
