"""The figures of the model by the same groups, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gradaudit.number_text import (
    MISSING,
    count,
    decimal,
    interval,
    p_value,
    share_interval,
    share_percent,
)
from gradaudit.records import Interval
from gradaudit.report.blocks import (
    WITHHELD,
    Block,
    Cell,
    Details,
    Drawing,
    Heading,
    Table,
    columns,
    percent_cell,
    points_cell,
    row,
)
from gradaudit.report.figures.intervals import IntervalPanel, IntervalRow, interval_plot
from gradaudit.report.wording import (
    by_attribute,
    drawn,
    grouped,
    level_words,
    link_of_test,
    listed,
    metric_words,
    n_unit,
    of_attribute,
    of_clusters,
    plain,
    reason_words,
    unique,
    unit_of,
)
from gradaudit.result_schema import PerformanceRow, ResultDocument

ABOUT_TESTS = (
    "p: of the difference between clusters' means, adjusted by Benjamini-Hochberg over all differences of performance; a signal, not a verdict. "
    "AUC, calibration slope and means over classes are no means over images: what is compared there is each cluster's pseudo-value."
)
PERCENT_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "recall",
    "ppv",
    "npv",
    "prevalence",
)


def performance_blocks(document: ResultDocument) -> list[Block]:
    """The model's own performance by subgroup, and heat among right and wrong predictions.

    Accuracy, sensitivity, specificity and AUC with intervals, and their differences.
    """
    blocks: list[Block] = []
    for index, (attribute, rows) in enumerate(
        grouped(document.performance, lambda r: r.attribute).items()
    ):
        kinds = grouped(rows, _metric_kind)
        title = f"Model performance {of_attribute(attribute)}"
        blocks.append(Heading(by_attribute(attribute)))
        if own := kinds.get("merit"):
            names = unique(r.metric for r in own)
            panels = [
                IntervalPanel(
                    metric_words(m),
                    tuple(_interval_row(r) for r in own if r.metric == m),
                    m in PERCENT_METRICS,
                )
                for m in names
            ]
            text = f"A dot per group with its {level_words(document)} interval; panels: {listed([metric_words(m) for m in names])}."
            caption = f"{title}. Dots: estimates; lines: {level_words(document)} intervals that respect {unit_of(document).many}."
            draw = drawn(
                interval_plot, panels, anchor=f"performance-{index + 1}", title=title, text=text
            )
            blocks.append(Drawing(draw, caption, _performance_table(document, title, own)))
        if own := kinds.get("difference"):
            table = _performance_table(
                document, f"{title}: difference to the comparison", own, tested=True
            )
            blocks.append(Details("Differences between groups", (table,)))
        if own := kinds.get("heat"):
            blocks.append(
                _performance_table(
                    document,
                    f"Heat share among right and wrong predictions {of_attribute(attribute)}",
                    own,
                )
            )
    return blocks


def _interval_row(r: PerformanceRow) -> IntervalRow:
    note = WITHHELD if r.suppressed else reason_words(r.reason) if r.estimate is None else ""
    estimate = None if r.suppressed else r.estimate
    return IntervalRow(plain(r.level), estimate, r.low, r.high, note)


def _metric_kind(r: PerformanceRow) -> str:
    return (
        "heat"
        if r.metric.startswith(("heat_right:", "heat_wrong:"))
        else "difference"
        if r.metric.endswith("_difference")
        else "merit"
    )


def _performance_table(
    document: ResultDocument, title: str, rows: Sequence[PerformanceRow], *, tested: bool = False
) -> Table:
    """One row per group; ``tested``: below each difference the adjusted p of its test."""
    metrics = unique(r.metric for r in rows)
    own_n = any(
        _metric_kind(r) == "heat" for r in rows
    )  # right and wrong predictions are different images
    heads = columns(
        "Group",
        *(() if own_n else (("n", n_unit(document)),)),
        *((metric_words(m), "n below" if own_n else "") for m in metrics),
    )
    about = unit_of(document).said_in(ABOUT_TESTS)
    lines = []
    for level, own in grouped(rows, lambda r: r.level).items():
        by_metric = {r.metric: r for r in own}
        hidden = all(r.suppressed for r in own)
        largest = max(own, key=lambda r: r.n_images or 0)
        n = (
            WITHHELD
            if hidden or not largest.n_images
            else of_clusters(largest.n_images, largest.n_clusters or largest.n_images)
        )
        cells = [
            _with_test(
                _performance_cell(by_metric.get(m)),
                by_metric.get(m),
                document if tested else None,
            )
            for m in metrics
        ]
        lines.append(
            row(plain(level), *cells, muted=hidden)
            if own_n
            else row(plain(level), n, *cells, muted=hidden)
        )
    return Table(
        title, heads, tuple(lines), about if any(r.test.p is not None for r in rows) else ""
    )


def _with_test(cell: Cell, r: PerformanceRow | None, document: ResultDocument | None) -> Cell:
    """The cell with the adjusted p of its difference, which leads to the test."""
    if r is None or document is None or r.test.p_adjusted is None:
        return cell
    said = p_value(r.test.p_adjusted)
    words = f"p {said}" if said.startswith("<") else f"p = {said}"
    return replace(
        cell,
        sub="\n".join(filter(None, (cell.sub, words))),
        link=link_of_test(document, r.test.name),
    )


def _performance_cell(r: PerformanceRow | None) -> Cell:
    if r is None:
        return Cell(MISSING)
    if r.suppressed:
        return Cell(WITHHELD)
    if r.estimate is None:
        return Cell(MISSING, sub=reason_words(r.reason))
    found = Interval(estimate=r.estimate, low=r.low, high=r.high)
    base = r.metric.removesuffix("_difference")
    if _metric_kind(r) == "heat":
        counts = f"n = {count(r.n_images)}" if r.n_images else ""
        ends = share_interval(r.low, r.high)
        return Cell(share_percent(r.estimate), "; ".join(filter(None, (ends, counts))))
    if base in PERCENT_METRICS:
        return points_cell(found) if base != r.metric else percent_cell(found)
    if base != r.metric:
        signed = partial(decimal, signed=True)
        return Cell(signed(r.estimate), interval(r.low, r.high, signed))
    return Cell(decimal(r.estimate), interval(r.low, r.high, decimal))
