"""The heat section: how the model's heat differs between groups.

It holds contrasts as forest plots and tables, distributions, mean maps, and the findings beside the
decisive ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gradaudit.number_text import (
    MISSING,
    count,
    decimal,
    declared_points,
    interval,
    p_value,
    points,
    share_percent,
)
from gradaudit.outcomes import outcome
from gradaudit.records import ROLE_WORDS, CellState, Finding, Interval, Limits
from gradaudit.report.blocks import (
    WITHHELD,
    Block,
    Cell,
    Details,
    Drawing,
    Heading,
    Listing,
    Note,
    Paragraph,
    Row,
    Table,
    anchor_id,
    columns,
    points_cell,
    row,
    state_cell,
)
from gradaudit.report.figures.forest import ForestRow, forest_plot, strip_reach
from gradaudit.report.glossary import meaning
from gradaudit.report.wording import (
    comparison,
    drawn,
    grouped,
    level_words,
    link_of_test,
    listed,
    n_unit,
    of_clusters,
    plain,
    reason_words,
    together,
    unit_of,
)
from gradaudit.result_schema import ResultDocument

DECISIVE = ("GA101", "GA102", "GA103", "GA104", "GA105")
OUTCOMES_OF_THEIR_OWN = ("GA111", "GA112")


def contrast_blocks(document: ResultDocument, method: str, target: str, suffix: str) -> list[Block]:
    """One forest plot and one table per region, over every attribute."""
    chosen = [
        f
        for f in document.findings
        if f.code in DECISIVE and (f.method, f.target) == (method, target)
    ]
    if not chosen:
        return []
    blocks: list[Block] = [_reading_note(document)]
    for index, (region, mixed) in enumerate(grouped(chosen, lambda f: f.region).items()):
        findings = [f for own in grouped(mixed, lambda f: f.attribute).values() for f in own]
        role = next((r.role for r in document.regions if r.name == region), "")
        title = f"Heat on {region}: difference between groups"
        text = (
            " ".join(f.sentence for f in findings if f.sentence)
            or "One row per comparison with its interval."
        )
        rows = [_forest_row(f) for f in findings]
        draw = drawn(
            forest_plot, rows, anchor=f"forest{suffix}-{index + 1}", title=title, text=text
        )
        caption = _caption(document, title, rows)
        table = _contrast_table(document, title, findings)
        blocks += [
            Heading(f"Heat on {region}"),
            *_role_note(role),
            Drawing(draw, caption),
            table,
            _more_on(document, findings),
        ]
    return blocks


def _caption(document: ResultDocument, title: str, rows: Sequence[ForestRow]) -> str:
    """What marker, lines, band and strip stand for, in plain words."""
    parts = [
        f"{title}. Marker: adjusted difference (raw where there is no adjustment); small tick above: raw difference; n: images of the group.",
        _line_words(document, rows),
        _band_words(rows),
    ]
    reach = strip_reach(rows)
    if reach:
        parts.append(
            f"Strip at the right: the verdict at every margin, from 0 to {points(reach, 0, signed=False)} points: filled where the "
            "comparison would be beyond, pale where open, green where within; the upright line is the declared margin."
        )
    if any(row.provisional for row in rows):
        parts.append(f"* provisional: fewer than 20 {unit_of(document).many}.")
    return " ".join(parts)


def _line_words(document: ResultDocument, rows: Sequence[ForestRow]) -> str:
    alone = f"Line: its {level_words(document)} interval"
    if not any(row.thick for row in rows):
        return f"{alone}."
    rest = f" {alone} where there is no thick one." if any(not row.thick for row in rows) else ""
    return (
        "Thin line: how far the difference may reach when all planned comparisons are taken together; beyond exactly where it stays "
        "outside the band. Thick line: how far it may reach taken alone; within exactly where it lies inside the band."
        f"{rest}"
    )


def _band_words(rows: Sequence[ForestRow]) -> str:
    """What the shaded band is; where no limit was set, there is none."""
    margins = sorted({row.margin for row in rows if row.margin is not None})
    if not margins:
        return "No limit was set here, so no band is drawn."
    rest = (
        "; where a row has none, no limit was set"
        if any(row.margin is None for row in rows)
        else ""
    )
    return f"The shaded band is the declared margin of {' or '.join(f'±{declared_points(margin)}' for margin in margins)} points{rest}."


def _role_note(role: str) -> list[Block]:
    return (
        [Paragraph(f"Role: {role} ({ROLE_WORDS[role]}).", small=True)] if role in ROLE_WORDS else []
    )


def _reading_note(document: ResultDocument) -> Block:
    text = (
        "How to read: the heat share is the part of an image's heat that falls on a region, from 0 to 100 %. A difference of +10 points means "
        "that ten more of every hundred parts of heat fall there in this group than in the comparison."
    )
    equal = document.method.adjusted_for
    return Note(
        f"{text} The adjusted difference compares at equal {together(equal)}." if equal else text
    )


def _is_share(finding: Finding) -> bool:
    return outcome(finding.outcome).is_share


def _difference_cell(finding: Finding, found: Interval) -> Cell:
    if finding.suppressed:
        return Cell(WITHHELD)
    if _is_share(finding):
        return points_cell(found)
    signed = partial(decimal, signed=True)
    return Cell(signed(found.estimate), interval(found.low, found.high, signed))


def _mean_cell(finding: Finding) -> Cell:
    if finding.suppressed:
        return Cell(WITHHELD)
    if finding.mean.estimate is None:
        return Cell(WITHHELD if finding.n_withheld else MISSING)
    worded = share_percent if _is_share(finding) else decimal
    reference = (
        f"vs {worded(finding.mean_reference.estimate)}"
        if finding.mean_reference.estimate is not None
        else ""
    )
    return Cell(worded(finding.mean.estimate), sub=reference)


def _forest_row(f: Finding) -> ForestRow:
    shown = f.adjusted if f.adjusted.estimate is not None else f.raw
    if f.suppressed:
        shown = Interval()
    thin, thick = _pair(f.thin), _pair(f.thick)
    low, high = thin or (shown.low, shown.high)
    return ForestRow(
        heading=plain(f.attribute),
        label=comparison(f),
        n=WITHHELD if f.suppressed or f.n_withheld else count(f.n_images),
        estimate=shown.estimate,
        low=low,
        high=high,
        thick=thick,
        raw=f.raw.estimate if f.adjusted.estimate is not None and not f.suppressed else None,
        state=f.state,
        shown=f.shown,
        provisional=f.provisional,
        margin=f.margin,
        beyond_up_to=f.beyond_up_to,
        within_from=f.within_from,
    )


def _pair(limits: Limits) -> tuple[float, float] | None:
    if limits.low is None or limits.high is None:
        return None
    return limits.low, limits.high


def _contrast_table(document: ResultDocument, title: str, findings: Sequence[Finding]) -> Table:
    beside = any(f.adjusted_predicted.estimate is not None for f in findings)
    heads = columns(
        "Comparison",
        "State",
        ("Mean", "compared with"),
        ("Raw", "difference"),
        ("Adjusted", "difference"),
        *((("Predicted", "at equal prediction"),) if beside else ()),
        ("p", "adjusted below"),
        ("p beyond", "adjusted below"),
        ("p within", ""),
        ("Detectable", "difference"),
        ("n", n_unit(document)),
    )
    unit = (
        "Differences in percentage points"
        if all(map(_is_share, findings))
        else "Differences in the measure's own unit"
    )
    told = (
        (label, meaning(label, document)) for label in ("p", "p beyond", "p within", "Detectable")
    )
    terms = "; ".join(f"{label}: {text}" for label, text in told if text)
    note = f"{unit}, below each its {level_words(document)} interval. {terms}. Below each p: after adjustment for the number of comparisons."
    return Table(
        title, heads, tuple(_contrast_row(document, f, beside=beside) for f in findings), note
    )


def _contrast_row(document: ResultDocument, f: Finding, *, beside: bool) -> Row:
    """One comparison; ``beside``: the table has a column at equal predicted class."""
    place: Any = {"anchor": anchor_id(f.anchor), "group": plain(f.attribute)}
    if f.suppressed:
        return row(comparison(f), _state_word(f), *(WITHHELD,) * (8 + beside), muted=True, **place)
    link = link_of_test(document, f.test.name) if f.test.p is not None else ""
    beyond = Cell(p_value(f.test.p_beyond), sub=p_value(f.test.p_beyond_adjusted))
    within = Cell(p_value(f.test.p_within))
    tests = (Cell(p_value(f.test.p), sub=p_value(f.test.p_adjusted), link=link), beyond, within)
    detectable = points(f.mde80, signed=False) if _is_share(f) else decimal(f.mde80)
    against = (
        f"vs {of_clusters(f.n_images_reference, f.n_clusters_reference)}"
        if f.n_clusters_reference
        else ""
    )
    n = Cell(WITHHELD) if f.n_withheld else Cell(of_clusters(f.n_images, f.n_clusters), sub=against)
    found = (f.raw, f.adjusted, *((f.adjusted_predicted,) if beside else ()))
    differences = tuple(_difference_cell(f, one) for one in found)
    return row(
        comparison(f), _state_word(f), _mean_cell(f), *differences, *tests, detectable, n, **place
    )


def _state_word(f: Finding) -> Cell:
    word = state_cell(f)
    if f.code == "GA104" and f.state is CellState.NOT_JUDGED:
        return replace(word, text=word.text.replace("disparity", "departure"))
    if f.state is CellState.NOT_ASSESSED and f.reason:
        return Cell(word.text, sub=reason_words(f.reason), icon=word.icon)
    return word


def _more_on(document: ResultDocument, findings: Sequence[Finding]) -> Block:
    """The sentences, and the effect sizes and test details that the table has no room for."""
    sentences = tuple(filter(None, map(_sentence_with_notes, findings)))
    heads = columns(
        "Comparison",
        ("Ratio", ""),
        ("Standardised", "difference"),
        ("Cliff's δ", ""),
        "Test",
        ("Statistic", ""),
        ("df", ""),
        ("Beyond up to", ""),
        ("Within from", ""),
        ("Mask tipping", "% of area"),
        "Adjusted for",
    )
    rows = tuple(_more_row(document, f) for f in findings)
    blocks: list[Block] = [Listing(sentences)] if sentences else []
    return Details(
        "In sentences, with effect sizes and test details",
        (*blocks, Table("Effect sizes and tests", heads, rows)),
    )


def _sentence_with_notes(f: Finding) -> str:
    notes = (note[:1].upper() + note[1:] + "." for note in f.notes)
    return " ".join(filter(None, (f.sentence, *notes)))


def _margin(f: Finding, margin: float | None) -> str:
    """A margin at which the word of the state changes."""
    if margin is None:
        return MISSING
    return points(margin, signed=False) if _is_share(f) else decimal(margin)


def _tipping(f: Finding) -> str:
    """By how much larger the group's masks would have to be drawn for the word to change."""
    if f.mask_tipping is None:
        return MISSING
    return share_percent(math.expm1(f.mask_tipping), 0, signed=True)


def _more_row(document: ResultDocument, f: Finding) -> Row:
    link = link_of_test(document, f.test.name)
    ratio = f.effect.ratio
    cells: tuple[Cell | str, ...] = (
        Cell(decimal(ratio.estimate), sub=interval(ratio.low, ratio.high, decimal)),
        decimal(f.effect.standardised_difference),
        decimal(f.effect.cliffs_delta),
        Cell(f.test.name or MISSING, sub=f.test.family, link=link),
        decimal(f.test.statistic),
        decimal(f.test.df, 1),
        _margin(f, f.beyond_up_to),
        _margin(f, f.within_from),
        _tipping(f),
        listed(f.adjusted_for) or MISSING,
    )
    shown = (WITHHELD,) * len(cells) if f.suppressed else cells
    return row(comparison(f), *shown, group=plain(f.attribute), muted=f.suppressed)


def other_blocks(document: ResultDocument) -> list[Block]:
    """Undefined heat and absent regions, then everything exploratory."""
    own = [f for f in document.findings if f.code in OUTCOMES_OF_THEIR_OWN]
    rest = [f for f in document.findings if f.code not in DECISIVE + OUTCOMES_OF_THEIR_OWN]
    text = "Images without a defined heat share are not counted as zero. Whether they are more frequent in a group is a finding of its own."
    blocks: list[Block] = []
    if own:
        blocks += [
            Heading("Undefined heat and absent regions"),
            Paragraph(text),
            *_tables_by_outcome(document, own),
        ]
    text = "Not declared beforehand as decisive; p-values are adjusted by Benjamini–Hochberg. A signal here is a reason to look, not a verdict."
    if rest:
        inner = Details(
            f"{count(len(rest))} exploratory comparisons", tuple(_tables_by_outcome(document, rest))
        )
        blocks += [Heading("Exploratory signals"), Paragraph(text), inner]
    return blocks


def _tables_by_outcome(document: ResultDocument, findings: Sequence[Finding]) -> list[Block]:
    def title(f: Finding) -> str:
        parts = (
            outcome(f.outcome).title,
            f.region,
            "intersections" if f.code == "GA131" else "",
        )
        text = ", ".join(filter(None, parts))
        return text[:1].upper() + text[1:]

    tables = grouped(findings, title)
    return [
        _contrast_table(
            document,
            name,
            [f for part in grouped(own, lambda f: f.attribute).values() for f in part],
        )
        for name, own in tables.items()
    ]
