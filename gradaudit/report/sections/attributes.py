"""Attributes: every group of every attribute, folded, open only where something is not within."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import count, decimal, plain_number, share_percent
from gradaudit.records import CellState
from gradaudit.report.blocks import Block, Paragraph
from gradaudit.report.comparisons import Comparison, Key, anything_compared, key_title, key_words
from gradaudit.report.figures.curves import Axes, Curve, curve_plot
from gradaudit.report.figures.distributions import LevelMean, level_plot
from gradaudit.report.figures.heat_maps import even_spreads, mean_map
from gradaudit.report.figures.shapes import Plot
from gradaudit.report.matrix import (
    MatrixLine,
    MatrixMaker,
    attribute_anchor,
    attribute_order,
    in_order,
    is_all_within,
    matrix_lines,
)
from gradaudit.report.page_blocks import Drawing, Figure, Figures, Fold, Folds
from gradaudit.report.pictures import PictureStore
from gradaudit.report.sections.page_one import tally
from gradaudit.report.wording import plain, together, unique
from gradaudit.result_schema import AttributeFacts, HeatRow, MeanMap, ResultDocument

MOST_COLUMNS, MOST_PAIRS, MOST_UNFOLDED = 4, 3, 3
OPEN = (CellState.BEYOND, CellState.OPEN)


def attribute_blocks(document: ResultDocument, comparisons: Sequence[Comparison]) -> list[Block]:
    """One fold for each attribute, the worst first, with a filter above where there are many.

    Nothing where no comparison has a number: page one says all there is to say.
    """
    if not anything_compared(comparisons):
        return []
    lines = matrix_lines(comparisons)
    judged = matrix_lines([c for c in comparisons if c.planned]) or lines
    maker = MatrixMaker(document, comparisons)
    names = attribute_order(judged)
    folds = tuple(
        _fold(document, maker, comparisons, name, unfolded=n < MOST_UNFOLDED)
        for n, name in enumerate(names)
    )
    if not folds:
        return []
    many = len(folds) > 1
    return [Folds("", "", folds, find="Find a group or an attribute" if many else "")]


def _fold(
    document: ResultDocument,
    maker: MatrixMaker,
    comparisons: Sequence[Comparison],
    name: str,
    *,
    unfolded: bool,
) -> Fold:
    own = [c for c in comparisons if c.attribute == name]
    planned = [c for c in own if c.planned] or own
    facts = next((a for a in document.attributes if a.name == name), None)
    figures = figures_of(document, own, name, facts)
    keys = columns_of_attribute(comparisons)
    lines, left_out = _lines_shown(document, own)
    blocks: list[Block] = [*about(document, facts)]
    blocks += [Figures(figures)] if figures else []
    blocks.append(maker.matrix(f"Every group of {plain(name)}", [lines], keys))
    blocks += [Paragraph(line, small=True) for line in (*left_out, *_not_shown(own, keys))]
    return Fold(
        anchor=attribute_anchor(name),
        name=plain(name),
        title="",
        states=tally(planned),
        blocks=tuple(blocks),
        open=unfolded and any(c.state in OPEN for c in planned),
    )


def about(document: ResultDocument, facts: AttributeFacts | None) -> list[Block]:
    """What the attribute is, in the plan's own words."""
    if facts is None:
        return []
    parts = [facts.description, "labels estimated by an algorithm, not observed" * facts.inferred]
    text = "; ".join(filter(None, parts))
    return [Paragraph(f"{text[:1].upper()}{text[1:]}.", small=True)] if text else []


def columns_of_attribute(comparisons: Sequence[Comparison]) -> list[Key]:
    """The deciding columns first, those within too; then what is described beside the plan."""
    planned = unique(c.key for c in comparisons if c.planned)
    rest = unique(c.key for c in comparisons if not c.planned)
    by_key = {key: [c for c in comparisons if c.key == key] for key in (*planned, *rest)}
    heat = [key for key in planned if key[0] == "heat_share"]
    other = [key for key in planned if key not in heat and not is_all_within(by_key[key])]
    told = [key for key in other if any(c.has_number for c in by_key[key])]
    chosen = [*heat, *told, *(key for key in rest if key not in planned)]
    return chosen[: max(MOST_COLUMNS, len(heat) if len(heat) <= 6 else 6)]


def _lines_shown(
    document: ResultDocument, own: Sequence[Comparison]
) -> tuple[list[MatrixLine], tuple[str, ...]]:
    """The lines of the table: of pairs the worst that are not within, and what is left out."""
    lines = [line for part in in_order(document, matrix_lines(own)) for line in part]
    pairs = [line for line in lines if line.kind == "pair"]
    loose = [line for line in pairs if not _is_within(line)]
    kept = [line for line in lines if line.kind != "pair" or line in loose[:MOST_PAIRS]]
    if not pairs:
        return kept, ()
    closing = "Every pair stands among the planned comparisons."
    n, shown = len(pairs), min(len(loose), MOST_PAIRS)
    if all(c.margin is None for c in own):
        return kept, (
            f"Of {count(n)} pairs of groups the {count(shown)} worst are shown. {closing}",
        )
    said = f"Of {count(n)} pairs of groups, {count(n - len(loose))} are within the limit everywhere"
    hidden = f"; of the others the worst {count(shown)} are shown" if shown < len(loose) else ""
    return kept, (f"{said}{hidden}. {closing}",)


def _is_within(line: MatrixLine) -> bool:
    planned = [c for c in line.cells.values() if c.planned]
    return bool(planned) and is_all_within(planned)


def _not_shown(own: Sequence[Comparison], keys: Sequence[Key]) -> tuple[str, ...]:
    """Columns that have no room, with what became of them."""
    left = [key for key in unique(c.key for c in own) if key not in keys]
    lines = []
    for key in left:
        found = [c for c in own if c.key == key]
        lines.append(f"{key_words(key)}: {together([s.words for s in tally(found)])}")
    return (f"Not in the table: {'; '.join(lines)}.",) if lines else ()


# ── figures ───────────────────────────────────────────────────────────────────────────────────────


def figures_of(
    document: ResultDocument,
    own: Sequence[Comparison],
    name: str,
    facts: AttributeFacts | None,
) -> tuple[Figure, ...]:
    region = PictureStore(document).deciding
    kind = facts.kind if facts is not None else ""
    found = [
        means_figure(document, name, region, facts) if kind == "ordered" and facts else None,
        curve_figure(own) if kind == "continuous" else None,
        maps_figure(document, name, region),
    ]
    return tuple(figure for figure in found if figure is not None)


def means_figure(
    document: ResultDocument, name: str, region: str, facts: AttributeFacts
) -> Figure | None:
    """Means of ordered levels with their line: a departure from it is seen, not said as a number."""
    rows = {r.level: r for r in document.heat if (r.attribute, r.region) == (name, region)}
    levels = tuple(m for level in facts.levels if (m := _level_mean(level, rows.get(level))))
    if len(levels) < 2:
        return None
    said = ", ".join(f"{m.label} {share_percent(m.mean, 0)}" for m in levels)
    plot = level_plot(levels, f"Mean heat on the {plain(region)}: {said}")
    title = f"Heat on the {plain(region)} along {plain(name)}"
    return Figure(title, "Mean of each level with its 95 % interval, as measured", Drawing((plot,)))


def _level_mean(level: str, row: HeatRow | None) -> LevelMean | None:
    if row is None or row.suppressed or row.mean is None:
        return None
    known = row.ci_low is not None and row.ci_high is not None
    return LevelMean(level, row.mean, (row.ci_low or 0.0, row.ci_high or 0.0) if known else None)


def curve_figure(own: Sequence[Comparison]) -> Figure | None:
    """The fitted curve of a continuous attribute with its band."""
    found = next((c.finding for c in own if c.finding is not None and c.finding.curve), None)
    if found is None:
        return None
    points = found.curve
    name = plain(found.attribute)
    curve = Curve(
        "", tuple((x, y) for x, y, _, _ in points), tuple((x, a, b) for x, _, a, b in points), False
    )
    label = f"Curve of the heat on the {plain(found.region)} over {name}"
    plot = curve_plot((curve,), Axes(plain_number, name), label)
    key = (found.outcome, found.region)
    return Figure(f"{key_title(key)} over {name}", "Fitted share with its band", Drawing((plot,)))


def maps_figure(document: ResultDocument, name: str, region: str) -> Figure | None:
    """Mean heat of every group on one scale for the report; of regions the deciding one alone."""
    own = [m for m in document.mean_maps if m.attribute == name]
    if not own:
        return None
    top = top_of(document.mean_maps)
    plots = tuple(_map(m, top, region) for m in own)
    captions = tuple(f"{m.level} ({count(m.n_images)} images)" for m in own)
    subtitle = (
        f"Dark: no heat; brightest: {decimal(top, 1)} times an even spread, in the whole report. "
        f"Dashed and full line: the {plain(region)} in 10 % and 50 % of the images"
    )
    return Figure("Mean heat of every group", subtitle, Drawing(plots, captions), "full")


def top_of(maps: Sequence[MeanMap]) -> float:
    return max([1.0, *(float(even_spreads(m.heat).max()) for m in maps if m.heat)])


def _map(m: MeanMap, top: float, region: str) -> Plot:
    label = f"Mean heat of {plain(m.attribute)} {m.level}"
    return mean_map(m.heat, top, m.regions.get(region), label)
