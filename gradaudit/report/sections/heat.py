"""How heat is spread: distributions, their table, and mean maps by group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradaudit.number_text import MISSING, count, decimal, percent_number, share_percent
from gradaudit.outcomes import Outcome, outcome
from gradaudit.records import Interval
from gradaudit.report.blocks import (
    WITHHELD,
    Block,
    Details,
    Drawing,
    Heading,
    Row,
    Table,
    columns,
    percent_cell,
    row,
)
from gradaudit.report.figures.distributions import Lane, Panel, distribution_plot
from gradaudit.report.figures.heat_maps import MapTile, mean_map_plot
from gradaudit.report.glossary import term_of
from gradaudit.report.wording import (
    by_attribute,
    drawn,
    grouped,
    level_words,
    n_unit,
    of_attribute,
    of_clusters,
    plain,
    unit_of,
)
from gradaudit.result_schema import HeatRow, ResultDocument


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
            f"{title}. Bars: {unit_of(document).many} (each counts once), scaled to the tallest bar of the lane; triangle: mean; "
            "below: median (ring), middle half (thick) and 5 to 95 % (thin)."
        )
        blocks += [
            Heading(by_attribute(attribute), level=4),
            Drawing(draw, caption, _heat_table(document, title, rows)),
            *_other_metrics(attribute, rows),
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
        ("n", n_unit(document)),
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


def _other_metrics(attribute: str, rows: Sequence[HeatRow]) -> list[Block]:
    """The means of metrics that have no column in the table of the heat share."""
    names = list(dict.fromkeys(name for h in rows for name in h.others))
    if not names:
        return []
    title = f"Means of other metrics {of_attribute(attribute)}"
    found = [outcome(name) for name in names]
    lines = []
    for h in (h for own in grouped(rows, lambda h: h.region).values() for h in own):
        cells = [WITHHELD] * len(found) if h.suppressed else [_mean_of(h, one) for one in found]
        lines.append(row(plain(h.level), *cells, group=h.region, muted=h.suppressed))
    heads = columns("Group", *((term_of(one), "") for one in found))
    return [Details(title, (Table(title, heads, tuple(lines)),))]


def _mean_of(h: HeatRow, metric: Outcome) -> str:
    value = h.others.get(metric.name)
    return share_percent(value) if metric.is_share else decimal(value)


def _heat_row(h: HeatRow) -> Row:
    if h.suppressed:
        return row(plain(h.level), *(WITHHELD,) * 12, group=h.region, muted=True)
    n = (
        MISSING
        if h.n_images is None or h.n_clusters is None
        else of_clusters(h.n_images, h.n_clusters)
    )
    mean = percent_cell(Interval(estimate=h.mean, low=h.ci_low, high=h.ci_high))
    quantiles = (share_percent(q) for q in (h.quantiles if len(h.quantiles) == 5 else (None,) * 5))
    rates = (decimal(h.mean_lift), share_percent(h.pointing_game), share_percent(h.undefined_share))
    return row(
        plain(h.level),
        n,
        mean,
        share_percent(h.adjusted_mean),
        percent_number(h.sd),
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
