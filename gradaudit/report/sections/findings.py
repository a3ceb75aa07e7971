"""Findings: what lies beyond its limit as cards, what is open, what lies within, and signals."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradaudit.number_text import (
    count,
    decimal,
    percent_in_text,
    share_digits,
)
from gradaudit.outcomes import outcome
from gradaudit.records import CellState
from gradaudit.report.blocks import Block, Listing, Paragraph, anchor_id
from gradaudit.report.comparisons import (
    Comparison,
    Key,
    key_title,
    key_words,
    largest_words,
    row_name,
    worst_first,
)
from gradaudit.report.matrix import card_anchor_of
from gradaudit.report.page_blocks import (
    Card,
    Fold,
    Folds,
    State,
)
from gradaudit.report.sections.finding_figures import figures_of, forest_of
from gradaudit.report.wording import grouped, plain, together, unique, unit_of
from gradaudit.result_schema import ResultDocument

MOST_CARDS, MOST_LINES, MOST_SIGNALS = 6, 10, 12
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
