"""Findings: what lies beyond its limit as cards, what is open, what lies within, and signals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from gradaudit.number_text import (
    count,
    decimal,
    percent_in_text,
    points,
    share_digits,
    share_percent,
)
from gradaudit.outcomes import outcome
from gradaudit.records import CellState, Finding, Interval
from gradaudit.report.blocks import Block, Facts, Listing, Paragraph, anchor_id
from gradaudit.report.comparisons import (
    Comparison,
    Key,
    key_title,
    key_words,
    largest_words,
    row_name,
    worst_first,
)
from gradaudit.report.figures.distributions import Lane, dot_plot
from gradaudit.report.figures.heat_maps import (
    difference_map,
    largest_difference,
    marks_shown,
)
from gradaudit.report.figures.intervals import forest_axis, forest_line, forest_scale, strip
from gradaudit.report.matrix import card_anchor_of, in_order, matrix_lines
from gradaudit.report.page_blocks import (
    Card,
    Drawing,
    Figure,
    Fold,
    Folds,
    Forest,
    ForestRow,
    State,
)
from gradaudit.report.pictures import PictureStore
from gradaudit.report.sections.page_one import side_names
from gradaudit.report.wording import grouped, plain, together, unique, unit_of
from gradaudit.result_schema import MeanMap, ResultDocument

MOST_CARDS, MOST_LINES, MOST_PAIRS, MOST_SIGNALS = 6, 10, 6, 12
"""What is shown at once; more is folded, so that a page of many findings can still be walked."""
LOOSE = (CellState.OPEN, CellState.NOT_ASSESSED, CellState.WITHHELD)


# ── groups of comparisons ─────────────────────────────────────────────────────────────────────────


def by_attribute_and_key(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Comparisons that one card or line tells of: one attribute in one column; the worst first."""
    groups: dict[tuple[str, Key], list[Comparison]] = {}
    for c in comparisons:
        groups.setdefault((c.attribute, c.key), []).append(c)
    ranked = [worst_first(group) for group in groups.values()]
    return sorted(ranked, key=_group_rank)


def _group_rank(group: Sequence[Comparison]) -> tuple[float, bool, float]:
    worst = group[0]
    return -worst.severity[0], worst.outcome != "heat_share", -worst.severity[1]


def finding_blocks(document: ResultDocument, comparisons: Sequence[Comparison]) -> list[Block]:
    """Cards and folded lines, the worst first."""
    planned = [c for c in comparisons if c.planned] or list(comparisons)
    groups = by_attribute_and_key(planned)
    beyond = [g for g in groups if g[0].state is CellState.BEYOND]
    differs = [g for g in groups if g[0].state is CellState.NOT_JUDGED and g[0].shown]
    loose = [g for g in groups if g[0].state in LOOSE]
    unsettled = [g for g in groups if g[0].state is CellState.WITHIN and not g[0].settled]
    rest = [g for g in groups if g not in (*beyond, *differs, *loose, *unsettled)]
    cards = [card(document, g) for g in (*beyond, *differs)]
    blocks: list[Block] = [*cards[:MOST_CARDS]]
    blocks += _more_cards(cards[MOST_CARDS:])
    blocks += _open_lines(document, [*loose, *unsettled])
    blocks += _within_lines(document, rest)
    return [*blocks, *signal_blocks(document)]


# ── cards ─────────────────────────────────────────────────────────────────────────────────────────


def card(document: ResultDocument, group: Sequence[Comparison]) -> Card:
    """The finding of one attribute in one column, told by its worst comparison."""
    worst = group[0]
    return Card(
        anchor=card_anchor_of(worst),
        state=State(worst.look, _sentence_case(worst.word)),
        title=title_of(document, worst),
        texts=texts_of(document, group),
        figures=figures_of(document, group),
        links=(("Method and numbers", "#appendix"),),
    )


def _more_cards(cards: Sequence[Card]) -> list[Block]:
    """Cards that have no room, each behind a line with its fact; all are unfolded in print."""
    if not cards:
        return []
    folds = [Fold(f"line-{c.anchor}", "", c.title, (c.state,), (c,), keep=True) for c in cards]
    return [Folds("More of the same kind", "", not_too_many(folds))]


def not_too_many(folds: Sequence[Fold]) -> tuple[Fold, ...]:
    """The first folded lines, and one line behind which the others stand."""
    rest = tuple(folds[MOST_LINES:])
    if len(rest) < 2:
        return tuple(folds)
    inner = Folds("", "", rest)
    more = Fold(
        f"more-{rest[0].anchor}", "", f"{count(len(rest))} more", (), (inner,), keep=rest[0].keep
    )
    return (*folds[:MOST_LINES], more)


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def title_of(document: ResultDocument, c: Comparison) -> str:
    """The fact with both means, or, of a trend or a curve, how far its two ends lie apart."""
    f = c.finding
    name = row_name(c)
    if f is None or f.mean.estimate is None or f.mean_reference.estimate is None:
        size = f": {c.in_brackets}" if c.has_number else ""
        return _sentence_case(f"{name.text}, {key_words(c.key)}{size}")
    there, here = _mean_words(c, f.mean.estimate), _mean_words(c, f.mean_reference.estimate)
    other = "all others" if c.reference in ("rest", "") else c.reference
    if c.outcome == "heat_share":
        said = f"{there} of the heat lies on the {plain(c.region)}; on {other}, {here}"
        return f"On {name.attribute} {name.group}, {said}"
    said = outcome(c.outcome).mean_words(c.region, there)
    return f"On {name.attribute} {name.group}, {said}; on {other}, {here}"


def _mean_words(c: Comparison, value: float) -> str:
    """A mean as sentences say it."""
    share = outcome(c.outcome).is_share
    return percent_in_text(value, share_digits(value)) if share else decimal(value)


def texts_of(document: ResultDocument, group: Sequence[Comparison]) -> tuple[str, ...]:
    """The sentence of the worst comparison, its notes, and which others tell of the same."""
    worst = group[0]
    f = worst.finding
    told = "" if f is None else after_the_fact(f.sentence)
    lines = [told, *(f"{_sentence_case(note)}." for note in (() if f is None else f.notes))]
    also = [c for c in group[1:] if c.state is worst.state and c.shown == worst.shown]
    if also:
        names = together(
            [row_name(c).text.removeprefix(f"{plain(c.attribute)} ") for c in also[:8]]
        )
        more = f" and {count(len(also) - 8)} more" if len(also) > 8 else ""
        said = "Also beyond the limit" if worst.state is CellState.BEYOND else "Differs too"
        lines.append(f"{said}: {names}{more}.")
    return tuple(line for line in lines if line)


def after_the_fact(sentence: str) -> str:
    """A finding's sentence without its first part, which the title says: it begins with the
    numbers of images.
    """
    found = re.match(r"On .*? \(n = ([^()]*)\)\. ", sentence)
    return f"{found[1]}. {sentence[found.end() :]}" if found else sentence


def figures_of(document: ResultDocument, group: Sequence[Comparison]) -> tuple[Figure, ...]:
    """Forest, distribution, difference map, what was tried against it, and six pictures."""
    worst = group[0]
    figures = [forest_figure(document, group)]
    told = [c.finding for c in group if c.finding is not None and c.state is worst.state]
    dots = next((d for f in told if (d := dots_figure(document, f))), None)
    maps = next((m for f in told if (m := map_figure(document, f))), None)
    six = next((s for f in told if (s := pictures_figure(document, f))), None)
    strip_of_worst = strip_figure(worst)
    figures += [figure for figure in (dots, strip_of_worst) if figure]
    figures += [maps] if maps else []
    beside = bool(strip_of_worst) and not dots and not maps
    figures.append(trust_figure(document, worst, "two" if maps else "half" if beside else "full"))
    figures += [six] if six else []
    return tuple(figures)


def forest_of(document: ResultDocument, group: Sequence[Comparison]) -> Forest | None:
    """The rows of one attribute in one column; of pairs the worst that are not within."""
    lines = [line for part in in_order(document, matrix_lines(group)) for line in part]
    own = [line.first for line in lines if line.first.has_number]
    pairs = [c for c in own if c.kind == "pair" and c.state is not CellState.WITHIN][:MOST_PAIRS]
    kept = [c for c in own if c.kind != "pair" or c in pairs]
    if not kept:
        return None
    scale = forest_scale(kept)
    many = unit_of(document)
    rows = tuple(
        ForestRow(
            name=replace(row_name(c), attribute=""),
            line=forest_line(c, scale),
            number=c.number,
            span=f"({c.span})" if c.span else "",
            state=State(c.look, c.word),
            n=many.counted(c.n) if c.n is not None else "",
        )
        for c in kept
    )
    return Forest(rows, forest_axis(scale))


def forest_figure(document: ResultDocument, group: Sequence[Comparison]) -> Figure:
    forest = forest_of(document, group)
    key = group[0].key
    subtitle = (
        "Difference in points; thick and thin line as on page one, small tick above: as measured"
    )
    block: Block = forest or Paragraph("No comparison has a number.", small=True)
    return Figure(key_title(key), subtitle, block, "full")


def dots_figure(document: ResultDocument, f: Finding) -> Figure | None:
    """Quantile dots of both sides, where the document holds them."""
    found = next((d for d in document.distributions if d.finding == f.anchor), None)
    if found is None or not found.group or not found.reference:
        return None
    group, reference = side_names(f)
    lanes = (Lane(group, found.group, "g"), Lane(reference, found.reference, "o"))
    label = f"Quantile dots: {group} and {reference}, heat on the {plain(f.region)}"
    many = unit_of(document).many
    n = f"{count(len(found.group))} and {count(len(found.reference))}"
    subtitle = f"Share of the heat; {n} dots, each an equal part of the {many} of its side"
    title = f"How the heat on the {plain(f.region)} is spread"
    return Figure(title, subtitle, Drawing((dot_plot(lanes, label),)))


def map_figure(document: ResultDocument, f: Finding) -> Figure | None:
    """Where the group has more heat than its reference, and where less."""
    found = next((m for m in document.difference_maps if m.finding == f.anchor), None)
    if found is None or not found.difference:
        return None
    group, reference = side_names(f)
    limit = largest_difference([m.difference for m in document.difference_maps])
    own = coverage_of(document.mean_maps, f.attribute, f.group, f.region)
    cells = [bool(cell) for row in found.shown for cell in row]
    beyond = f"{count(sum(cells))} of {count(len(cells))} cells differ by more than chance"
    label = f"{group} less {reference}: {beyond}"
    plot = difference_map(found.difference, found.shown, limit, own, label)
    dot = "differs by more than chance" if marks_shown(found.shown) else "could be chance"
    line = (
        f" Dashed and full line: the {plain(f.region)} in 10 % and 50 % of the images."
        if own
        else ""
    )
    subtitle = f"{group} less {reference}, share of the heat in a cell. Dot: {dot}.{line}"
    return Figure("Where the heat differs", subtitle, Drawing((plot,)), "third")


def coverage_of(
    maps: Sequence[MeanMap], attribute: str, level: str, region: str
) -> tuple[tuple[float, ...], ...] | None:
    found = next((m for m in maps if (m.attribute, m.level) == (attribute, level)), None)
    return None if found is None else found.regions.get(region)


def pictures_figure(document: ResultDocument, f: Finding) -> Figure | None:
    six = PictureStore(document).six(f.anchor, *side_names(f))
    if six is None:
        return None
    return Figure("The images nearest to both means", "Heat on the region, decision", six, "full")


def strip_figure(c: Comparison) -> Figure | None:
    """Which word the comparison would have at every other limit."""
    plot = strip(c)
    f = c.finding
    if plot is None or f is None:
        return None
    beyond = f"Beyond up to {_limit(f.beyond_up_to)} points, within" if f.beyond_up_to else "Within"
    title = f"{beyond} from {_limit(f.within_from)}"
    subtitle = (
        f"The word at every limit, in points, for {row_name(c).text}. Thick at the left: beyond, "
        "thin: open, thick at the right: within. Upright: the declared limit"
    )
    return Figure(title, subtitle, Drawing((plot,)))


def _limit(value: float | None) -> str:
    return points(value, 0, signed=False)


# ── what was tried against it ─────────────────────────────────────────────────────────────────────


def trust_figure(document: ResultDocument, c: Comparison, span: str) -> Figure:
    rows = tuple(row for row in trust_rows(document, c) if row[1])
    block: Block = Facts(rows) if rows else Paragraph("Nothing was tried.", small=True)
    return Figure("Can it be believed?", "What was tried against this finding", block, span)


def trust_rows(document: ResultDocument, c: Comparison) -> list[tuple[str, str]]:
    f = c.finding
    if f is None:
        return []
    return [
        ("As measured", _raw_words(f)),
        ("At equal prediction", _predicted_words(f)),
        ("Other outlines", _tipping_words(c)),
        ("In parts of the data", _parts_words(document, f)),
        ("Right and wrong decisions", _right_and_wrong(document, f)),
        ("Resting on", _coverage_words(document, c)),
    ]


def _points_of(found: Interval) -> str:
    return f"{points(found.estimate, 0)} points" if found.estimate is not None else ""


def _raw_words(f: Finding) -> str:
    raw, adjusted = _points_of(f.raw), _points_of(f.adjusted)
    if not raw or not adjusted or not f.adjusted_for:
        return raw
    return f"{raw}; at equal {together(f.adjusted_for)}, which decides: {adjusted}."


def _predicted_words(f: Finding) -> str:
    found = _points_of(f.adjusted_predicted)
    return f"{found} at equal predicted class instead of the label." if found else ""


def _tipping_words(c: Comparison) -> str:
    """By how much larger the group's masks would have to be drawn for the word to change."""
    f = c.finding
    if f is None or f.mask_tipping is None:
        return ""
    change = share_percent(abs(math.expm1(f.mask_tipping)), 0)
    size = "larger" if f.mask_tipping > 0 else "smaller"
    return f"The word would change if the outlines of this group were drawn {change} {size}."


def _parts_words(document: ResultDocument, f: Finding) -> str:
    """Whether the difference is the same in every class and beside every other attribute."""
    parts = [
        p
        for p in document.findings
        if p.code == "GA132"
        and (p.attribute, p.region, p.reference) == (f.attribute, f.region, f.reference)
        and p.group.removesuffix(f", within {p.stratum}") == f.group
        and not p.suppressed
        and p.adjusted.estimate is not None
    ]
    if not parts:
        return ""
    sizes = sorted(parts, key=lambda p: p.adjusted.estimate or 0.0)
    low, high = sizes[0], sizes[-1]
    ends = f"from {_points_of(low.adjusted)} ({low.stratum}) to {_points_of(high.adjusted)} ({high.stratum})"
    return f"In {count(len(parts))} parts of the data the difference runs {ends}."


def _right_and_wrong(document: ResultDocument, f: Finding) -> str:
    rows = {(r.level, r.metric): r for r in document.performance if r.attribute == f.attribute}
    own = [rows.get((f.group, f"heat_{kind}:{f.region}")) for kind in ("right", "wrong")]
    if f.outcome != "heat_share" or any(
        r is None or r.suppressed or r.estimate is None for r in own
    ):
        return ""
    right, wrong = (share_percent(r.estimate, 0) for r in own if r is not None)
    return f"{right} of the heat where the model is right, {wrong} where it is wrong."


def _coverage_words(document: ResultDocument, c: Comparison) -> str:
    many = unit_of(document).many
    few = f" Provisional: fewer than 20 {many} on one side." if c.provisional else ""
    if c.coverage is None:
        return few.strip()
    return f"{share_percent(c.coverage, 0)} of the {many} of each group, at least.{few}"


# ── folded lines ──────────────────────────────────────────────────────────────────────────────────


def _open_lines(document: ResultDocument, groups: Sequence[list[Comparison]]) -> list[Block]:
    if not groups:
        return []
    folds = not_too_many([_open_line(document, group) for group in groups])
    if all(c.margin is None for group in groups for c in group):
        return [
            Folds("Not assessed", "No number can be given, for the reason in each line.", folds)
        ]
    lede = (
        "Neither shown to be beyond the limit nor settled as within it, and what would settle it."
    )
    return [Folds("Open", lede, folds)]


def _open_line(document: ResultDocument, group: Sequence[Comparison]) -> Fold:
    worst = group[0]
    own = [c for c in group if c.state is worst.state and c.settled == worst.settled]
    n = f"{count(len(own))} of {count(len(group))} " if len(group) > 1 else ""
    size = f"; worst {worst.in_brackets}" if worst.has_number else ""
    blocks: list[Block] = []
    f = worst.finding
    if f is not None and f.sentence:
        blocks.append(Paragraph(f.sentence))
    blocks += [Paragraph(line) for line in _settle_lines(document, worst) if line]
    names = [row_name(c).text.removeprefix(f"{plain(c.attribute)} ") for c in own[1:]]
    if names:
        more = f" and {count(len(names) - 10)} more" if len(names) > 10 else ""
        blocks.append(Paragraph(f"The same holds for {together(names[:10])}{more}."))
    forest = forest_of(document, group) if worst.state is CellState.OPEN else None
    blocks += [forest] if forest else []
    return Fold(
        anchor=card_anchor_of(worst),
        name=plain(worst.attribute),
        title=key_words(worst.key),
        states=(State(worst.look, f"{n}{worst.word}{size}"),),
        blocks=tuple(blocks),
        keep=True,
    )


def _settle_lines(document: ResultDocument, c: Comparison) -> tuple[str, ...]:
    """Why it is open, and what would settle it."""
    unit = unit_of(document)
    why = unit.said_in(c.reason) if c.reason else ""
    said = f"{_sentence_case(c.word)}: {why}." if why else ""
    return said, unit.said_in(c.settle)


def _within_lines(document: ResultDocument, groups: Sequence[list[Comparison]]) -> list[Block]:
    """One folded line for each attribute, with its largest difference in every column."""
    if not groups:
        return []
    judged = any(c.margin is not None for group in groups for c in group)
    folds = []
    for name, own in grouped_by_attribute(groups).items():
        parts = tuple(_within_words(group) for group in own)
        n = sum(map(len, own))
        look = own[0][0].look
        words = f"{count(n)} {own[0][0].word if n == 1 else _plural_word(look)}"
        folds.append(
            Fold(
                anchor=anchor_id(f"w {name}"),
                name=plain(name),
                title="",
                states=(State(look, words),),
                blocks=(Listing(parts),),
            )
        )
    title = "Within the limit" if judged else "No difference shown"
    return [Folds(title, "", not_too_many(folds))]


def _plural_word(look: str) -> str:
    return "within the limit" if look == "within" else "comparisons show no difference"


def grouped_by_attribute(
    groups: Sequence[list[Comparison]],
) -> dict[str, list[list[Comparison]]]:
    found: dict[str, list[list[Comparison]]] = {}
    for group in groups:
        found.setdefault(group[0].attribute, []).append(group)
    return found


def _within_words(group: Sequence[Comparison]) -> str:
    largest = max(group, key=lambda c: c.size)
    head = f"{key_title(largest.key)}: {count(len(group))} comparison{'s' * (len(group) != 1)}"
    if not largest.has_number:
        return f"{head}; the same in every group."
    name = row_name(largest)
    held = f" {name.against}" if name.against else ""
    return f"{head}, {largest_words(largest)}, for {name.group}{held}{_means(largest)}."


def _means(c: Comparison) -> str:
    """ ": 31 % against 29 %": both means as measured."""
    f = c.finding
    if f is None or f.mean.estimate is None or f.mean_reference.estimate is None:
        return ""
    there, here = _mean_words(c, f.mean.estimate), _mean_words(c, f.mean_reference.estimate)
    return f": {there} against {here}"


# ── signals ───────────────────────────────────────────────────────────────────────────────────────


def signal_blocks(document: ResultDocument) -> list[Block]:
    """What exploratory comparisons hint at: a reason to look, never a verdict."""
    explored = [
        f
        for f in document.findings
        if f.test.family == "exploratory" and f.state is CellState.NOT_JUDGED and not f.suppressed
    ]
    signals = [f for f in explored if f.shown and f.sentence]
    if not explored:
        return []
    ranked = sorted(signals, key=lambda f: (f.test.p_adjusted is None, f.test.p_adjusted or 0.0))
    kinds = grouped(ranked, lambda f: f.code)
    chosen = [
        f for index in range(MOST_SIGNALS) for own in kinds.values() for f in own[index : index + 1]
    ]
    told = unique(f.sentence for f in chosen[:MOST_SIGNALS])
    note = (
        "Not declared beforehand as decisive, p adjusted by Benjamini–Hochberg: a reason to look, not "
        "a verdict. All of them stand in contrasts.csv."
    )
    words = f"{count(len(signals))} of {count(len(explored))} give a signal"
    fold = Fold(
        anchor="signals",
        name="",
        title="Exploratory comparisons",
        states=(State("differs" if signals else "same", words),),
        blocks=(Paragraph(note, small=True), *([Listing(told)] if told else [])),
    )
    return [Folds("Signals", "", (fold,))]
