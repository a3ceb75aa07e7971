"""The figures of one finding: forest, distribution, difference map, limits, trust, pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from gradaudit.number_text import count, points, share_percent
from gradaudit.records import CellState, Finding, Interval
from gradaudit.report.blocks import Block, Facts, Paragraph
from gradaudit.report.comparisons import Comparison, key_title, row_name
from gradaudit.report.figures.distributions import Lane, dot_plot
from gradaudit.report.figures.heat_maps import difference_map, largest_difference, marks_shown
from gradaudit.report.figures.intervals import forest_axis, forest_line, forest_scale, strip
from gradaudit.report.matrix import in_order, matrix_lines
from gradaudit.report.page_blocks import Drawing, Figure, Forest, ForestRow, State
from gradaudit.report.pictures import PictureStore
from gradaudit.report.sections.page_one import side_names
from gradaudit.report.wording import plain, together, unit_of
from gradaudit.result_schema import MeanMap, ResultDocument

MOST_PAIRS = 6
"""Pairs of groups in a forest plot, the worst first."""


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
    reference = "all others" if f.reference in ("rest", "") else reference
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
