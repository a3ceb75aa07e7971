"""What the page of a comparison shows, worded: the template only puts it in place.

Nothing is computed here; rows are chosen, sorted and grouped, and numbers become text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradaudit.number_text import Noun, count, decimal, declared_points, share_percent
from gradaudit.outcomes import region_words
from gradaudit.records import ALL
from gradaudit.report.changes.rows import (
    ChangeTable,
    FigureCell,
    FigureTable,
    axis_of,
    change_tables,
    figure_cell,
    figure_scale,
    figure_tables,
    subject,
    tally,
)
from gradaudit.report.wording import metric_words, plain
from gradaudit.schema.comparison import (
    CHANGE_WORDS,
    AuditSide,
    CellChange,
    ChangeWord,
    ComparisonDocument,
    Difference,
)

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
    scale = figure_scale(overall)
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
        tables=tuple(change_tables(document, unit)),
        overall=tuple(figure_cell(r, scale) for r in overall),
        overall_axis=axis_of(scale),
        figures=tuple(figure_tables(document)),
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
