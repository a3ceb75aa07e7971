"""Rows of the tables of a comparison, worded: heat by region, performance by group.

Nothing is computed here; rows are chosen and grouped, and numbers become text.
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
    CellChange,
    ChangeWord,
    ComparisonDocument,
    PerformanceChange,
)

OF_SHARES = ("accuracy", "sensitivity", "specificity", "ppv")
UNSCALED = ("calibration_slope",)
"""Figures whose changes are no hundredths, and are drawn on no common scale."""


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


def tally(words: Iterable[ChangeWord]) -> tuple[tuple[ChangeWord, str], ...]:
    """Each word that occurs, with how often: ("better", "2 better")."""
    found = list(words)
    return tuple(
        (word, f"{count(found.count(word))} {said}")
        for word, said in CHANGE_WORDS.items()
        if word in found
    )


# ── heat ──────────────────────────────────────────────────────────────────────────────────────────


def change_tables(document: ComparisonDocument, unit: Noun) -> Iterable[ChangeTable]:
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
            axis=axis_of(scale),
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


def axis_of(scale: Scale) -> str:
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


def figure_scale(rows: Sequence[PerformanceChange]) -> Scale:
    values: list[float | None] = []
    for r in rows:
        if r.metric not in UNSCALED:
            values += [r.change.estimate, r.change.low, r.change.high, r.thin.low, r.thin.high]
    return Scale.of(values)


def figure_cell(r: PerformanceChange, scale: Scale) -> FigureCell:
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


def figure_tables(document: ComparisonDocument) -> Iterable[FigureTable]:
    rows = [r for r in document.performance if r.attribute != ALL]
    for name in dict.fromkeys(r.attribute for r in rows):
        own = [r for r in rows if r.attribute == name]
        metrics = tuple(dict.fromkeys(r.metric for r in own))
        levels = dict.fromkeys(r.level for r in own)
        by_place = {(r.level, r.metric): r for r in own}
        scale = figure_scale(own)
        table = []
        for level in levels:
            found = [by_place.get((level, metric)) for metric in metrics]
            cells = tuple(None if r is None else figure_cell(r, scale) for r in found)
            table.append((plain(level), cells))
        yield FigureTable(
            attribute=plain(name),
            metrics=tuple(metric_words(m) for m in metrics),
            rows=tuple(table),
            tally=tally(r.word for r in own),
        )
