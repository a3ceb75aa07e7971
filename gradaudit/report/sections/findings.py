"""The heat section: contrasts as forest plots and tables, distributions, mean maps, and the
findings beside the decisive ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gradaudit.outcomes import outcome
from gradaudit.records import ROLE_WORDS, Finding, Interval, Verdict
from gradaudit.report.blocks import (
    MISSING,
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
    count,
    decimal,
    p_value,
    percent,
    percent_cell,
    points_cell,
    row,
    verdict_cell,
)
from gradaudit.report.figures.panels import (
    ForestRow,
    Lane,
    MapTile,
    Panel,
    distribution_plot,
    forest_plot,
    mean_map_plot,
)
from gradaudit.report.glossary import meaning
from gradaudit.report.wording import (
    by_attribute,
    comparison,
    drawn,
    grouped,
    level_words,
    link_of_test,
    listed,
    of_attribute,
    of_clusters,
    plain,
    ratio_span,
    reason_words,
    together,
)
from gradaudit.result_schema import HeatRow, ResultDocument

DECISIVE = ("GA101", "GA102", "GA103", "GA104")
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
        caption = (
            f"{title}. Marker and line: adjusted difference (raw where there is no adjustment) with its {level_words(document)} interval; "
            f"small tick above: raw difference; n: images of the group. {_band_words(rows)}"
        )
        caption += (
            " * provisional: fewer than 20 clusters." if any(r.provisional for r in rows) else ""
        )
        table = _contrast_table(document, title, findings)
        blocks += [
            Heading(f"Heat on {region}"),
            *_role_note(role),
            Drawing(draw, caption),
            table,
            _more_on(document, findings),
        ]
    return blocks


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
    return f"The shaded band is the declared margin of {' or '.join(f'±{100 * margin:g}' for margin in margins)} points{rest}."


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


def _difference_cell(finding: Finding, interval: Interval) -> Cell:
    if finding.suppressed:
        return Cell(WITHHELD)
    if _is_share(finding):
        return points_cell(interval)
    both = (
        f"{decimal(interval.low)} to {decimal(interval.high)}"
        if interval.low is not None and interval.high is not None
        else ""
    )
    return Cell(decimal(interval.estimate), both)


def _mean_cell(finding: Finding) -> Cell:
    if finding.suppressed:
        return Cell(WITHHELD)
    if finding.mean.estimate is None:
        return Cell(WITHHELD if finding.n_withheld else MISSING)
    worded = percent if _is_share(finding) else decimal
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
    return ForestRow(
        heading=plain(f.attribute),
        label=comparison(f),
        n=WITHHELD if f.suppressed or f.n_withheld else count(f.n_images),
        estimate=shown.estimate,
        low=shown.low,
        high=shown.high,
        raw=f.raw.estimate if f.adjusted.estimate is not None and not f.suppressed else None,
        verdict=f.verdict,
        provisional=f.provisional,
        margin=f.margin,
    )


def _contrast_table(document: ResultDocument, title: str, findings: Sequence[Finding]) -> Table:
    heads = columns(
        "Comparison",
        "Verdict",
        ("Mean", "compared with"),
        ("Raw", "difference"),
        ("Adjusted", "difference"),
        ("p", "adjusted below"),
        ("p equiv.", "adjusted below"),
        ("Detectable", "difference"),
        ("n", "images / clusters"),
    )
    unit = (
        "Differences in percentage points"
        if all(map(_is_share, findings))
        else "Differences in the measure's own unit"
    )
    told = ((label, meaning(label, document)) for label in ("p", "p equiv.", "Detectable"))
    terms = "; ".join(f"{label}: {text}" for label, text in told if text)
    note = f"{unit}, below each its {level_words(document)} interval. {terms}. Below each p: after adjustment for the number of comparisons."
    return Table(title, heads, tuple(_contrast_row(document, f) for f in findings), note)


def _contrast_row(document: ResultDocument, f: Finding) -> Row:
    place: Any = {"anchor": anchor_id(f.anchor), "group": plain(f.attribute)}
    if f.suppressed:
        return row(comparison(f), _verdict_word(f), *(WITHHELD,) * 7, muted=True, **place)
    link = link_of_test(document, f.test.name) if f.test.p is not None else ""
    near = Cell(p_value(f.test.p_equivalence), sub=p_value(f.test.p_equivalence_adjusted))
    tests = (Cell(p_value(f.test.p), sub=p_value(f.test.p_adjusted), link=link), near)
    detectable = (
        (f"{100 * f.mde80:.1f}" if _is_share(f) else decimal(f.mde80))
        if f.mde80 is not None
        else MISSING
    )
    against = (
        f"vs {of_clusters(f.n_images_reference, f.n_clusters_reference)}"
        if f.n_clusters_reference
        else ""
    )
    n = Cell(WITHHELD) if f.n_withheld else Cell(of_clusters(f.n_images, f.n_clusters), sub=against)
    differences = (_difference_cell(f, f.raw), _difference_cell(f, f.adjusted))
    return row(
        comparison(f), _verdict_word(f), _mean_cell(f), *differences, *tests, detectable, n, **place
    )


def _verdict_word(f: Finding) -> Cell:
    word = verdict_cell(f.verdict, f.provisional)
    if f.code == "GA104" and f.verdict in (Verdict.SHOWN, Verdict.NOT_SHOWN):
        return replace(word, text=word.text.replace("disparity", "departure"))
    if f.verdict is Verdict.NOT_ASSESSED and f.reason:
        return Cell(word.text, sub=reason_words(f.reason), icon=word.icon)
    return word


def _more_on(document: ResultDocument, findings: Sequence[Finding]) -> Block:
    """The sentences, and the effect sizes and test details that the table has no room for."""
    sentences = tuple(
        " ".join(
            filter(None, (f.sentence, *(note[:1].upper() + note[1:] + "." for note in f.notes)))
        )
        for f in findings
    )
    heads = columns(
        "Comparison",
        ("Ratio", ""),
        ("Standardised", "difference"),
        ("Cliff's δ", ""),
        "Test",
        ("Statistic", ""),
        ("df", ""),
        ("Clusters needed", ""),
        "Adjusted for",
    )
    rows = []
    for f in findings:
        effects = (
            Cell(decimal(f.effect.ratio.estimate), sub=ratio_span(f.effect.ratio)),
            decimal(f.effect.standardised_difference),
        )
        tested = (
            decimal(f.test.statistic),
            decimal(f.test.df, 1),
            count(f.clusters_needed),
            listed(f.adjusted_for) or MISSING,
        )
        test = Cell(
            f.test.name or MISSING, sub=f.test.family, link=link_of_test(document, f.test.name)
        )
        cells = (*effects, decimal(f.effect.cliffs_delta), test, *tested)
        rows.append(
            row(
                comparison(f),
                *((WITHHELD,) * 8 if f.suppressed else cells),
                group=plain(f.attribute),
                muted=f.suppressed,
            )
        )
    blocks: list[Block] = [Listing(tuple(filter(None, sentences)))] if any(sentences) else []
    return Details(
        "In sentences, with effect sizes and test details",
        (*blocks, Table("Effect sizes and tests", heads, tuple(rows))),
    )


def distribution_blocks(
    document: ResultDocument, method: str, target: str, suffix: str
) -> list[Block]:
    """Per attribute: a lane per group, a panel per region."""
    chosen = [h for h in document.heat if (h.method, h.target) == (method, target)]
    blocks: list[Block] = []
    for index, (attribute, rows) in enumerate(grouped(chosen, lambda h: h.attribute).items()):
        panels = tuple(
            Panel(region, tuple(_lane(h) for h in own))
            for region, own in grouped(rows, lambda h: h.region).items()
        )
        title = f"Distribution of the heat share {of_attribute(attribute)}"
        text = "One lane per group and one panel per region: a histogram, quantiles and the mean. The table below holds the numbers."
        draw = drawn(
            distribution_plot,
            panels,
            anchor=f"distribution{suffix}-{index + 1}",
            title=title,
            text=text,
        )
        caption = (
            f"{title}. Bars: clusters (each counts once), scaled to the tallest bar of the lane; triangle: mean; "
            "below: median (ring), middle half (thick) and 5 to 95 % (thin)."
        )
        blocks += [
            Heading(by_attribute(attribute), level=4),
            Drawing(draw, caption, _heat_table(document, title, rows)),
        ]
    return [Heading("Distributions"), *blocks] if blocks else []


def _lane(h: HeatRow) -> Lane:
    if h.suppressed:
        return Lane(plain(h.level), WITHHELD, note="withheld: too few images")
    note = "" if h.mean is not None or any(h.histogram) else "no defined heat share"
    return Lane(plain(h.level), f"n = {count(h.n_images)}", h.histogram, h.quantiles, h.mean, note)


def _heat_table(document: ResultDocument, title: str, rows: Sequence[HeatRow]) -> Table:
    quantiles = ((f"{q} %", "quantile") for q in (5, 25, 50, 75, 95))
    heads = columns(
        "Group",
        ("n", "images / clusters"),
        ("Mean", f"{level_words(document)} interval"),
        ("Adjusted mean", ""),
        ("SD", "points"),
        *quantiles,
        ("Lift", "share ÷ area"),
        ("Pointing game", "hits"),
        ("Undefined", "of images"),
    )
    by_region = grouped(rows, lambda h: h.region)
    return Table(title, heads, tuple(_heat_row(h) for own in by_region.values() for h in own))


def _heat_row(h: HeatRow) -> Row:
    if h.suppressed:
        return row(plain(h.level), *(WITHHELD,) * 12, group=h.region, muted=True)
    n = (
        MISSING
        if h.n_images is None or h.n_clusters is None
        else of_clusters(h.n_images, h.n_clusters)
    )
    mean = percent_cell(Interval(estimate=h.mean, low=h.ci_low, high=h.ci_high))
    spread = f"{100 * h.sd:.1f}" if h.sd is not None else MISSING
    quantiles = (percent(q) for q in (h.quantiles if len(h.quantiles) == 5 else (None,) * 5))
    rates = (decimal(h.mean_lift), percent(h.pointing_game), percent(h.undefined_share))
    return row(
        plain(h.level),
        n,
        mean,
        percent(h.adjusted_mean),
        spread,
        *quantiles,
        *rates,
        group=h.region,
    )


def map_blocks(document: ResultDocument) -> list[Block]:
    """Per attribute: the mean map of every group on one scale; pixels of heat, never of an image."""
    blocks: list[Block] = []
    for index, (attribute, maps) in enumerate(
        grouped(document.mean_maps, lambda m: m.attribute).items()
    ):
        tiles = [
            MapTile(plain(m.level), f"n = {count(m.n_images)}", m.heat, dict(m.regions))
            for m in maps
        ]
        title = f"Mean heat {of_attribute(attribute)}"
        text = "Mean heat map of every group on one colour scale, with region outlines."
        names = [r.name for r in document.regions]
        draw = drawn(
            mean_map_plot, tiles, names, anchor=f"maps-{index + 1}", title=title, text=text
        )
        caption = (
            f"{title}: each image's heat sums to one, then images are averaged. 1× is the value of heat spread evenly over the image; "
            "all groups share the scale. Outlines: where a region covers at least half of its highest mean coverage."
        )
        blocks += [
            Heading(by_attribute(attribute), level=4),
            Drawing(draw, caption, _map_table(title, maps)),
        ]
    return [Heading("Mean maps"), *blocks] if blocks else []


def _map_table(title: str, maps: Sequence[Any]) -> Table | None:
    width = max(len(line) for m in maps for line in m.heat)
    if width > 14:
        return None  # a finer grid is not for reading; its numbers are in result.json
    heads = columns("Grid row, from the top", *((f"{i + 1}", "") for i in range(width)))
    rows = []
    for m in maps:
        cells = len(m.heat) * len(m.heat[0])
        for number, line in enumerate(m.heat):
            rows.append(
                row(str(number + 1), *(decimal(v * cells) for v in line), group=plain(m.level))
            )
    return Table(f"{title}: values of the grid, times an even spread", heads, tuple(rows))


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
