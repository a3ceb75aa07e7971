"""Forest plot: the difference of every comparison with its interval, against its margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradaudit.number_text import interval, is_known, points
from gradaudit.records import CellState
from gradaudit.report.figures.canvas import (
    BAND,
    BAR,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    ROW,
    RULE,
    STATE_MARKS,
    WIDTH,
    drawing_style,
    mark_of,
    new_axes,
    new_figure,
    only_x_axis,
    short,
)


@dataclass(frozen=True)
class ForestRow:
    """One contrast as a row of the forest plot: a difference in shares (-1 to 1) with its interval.

    ``heading``: a new block opens wherever it changes.

    ``margin``: the declared limit of this very contrast, drawn as a band behind its row; None where
    no limit was set.  ``low`` to ``high``: the thin whisker, which is beyond exactly where it stays
    outside the band; ``thick``: the thick one, which is within exactly where it lies inside it.
    ``beyond_up_to`` and ``within_from``: the same words at every other margin, drawn as a strip.
    """

    heading: str
    label: str
    n: str
    estimate: float | None
    low: float | None
    high: float | None
    raw: float | None
    state: CellState
    shown: bool = False
    thick: tuple[float, float] | None = None
    provisional: bool = False
    margin: float | None = None
    beyond_up_to: float | None = None
    within_from: float | None = None

    @property
    def has_strip(self) -> bool:
        """Whether its word at every margin can be drawn."""
        ends = (self.margin, self.beyond_up_to, self.within_from)
        return self.estimate is not None and all(end is not None for end in ends)


# ── the four plots ────────────────────────────────────────────────────────────────────────────────


def forest_plot(rows: Sequence[ForestRow]) -> Figure:
    """A forest plot: differences between groups in percentage points, with their intervals.

    Each row also shows the band of its margin, n, the word of its state, and the same word at every
    other margin.
    """
    placed, height = _forest_places(rows)
    with drawing_style():
        figure = new_figure(height + 66)
        axes = new_axes(figure, 236, 26, 270, height)
        axes.set_ylim(height, 0)
        axes.set_xlim(*_forest_limits(rows))
        for margin, top, bottom in _bands(placed):
            axes.add_patch(
                Rectangle(
                    (-100 * margin, top),
                    200 * margin,
                    bottom - top,
                    facecolor=BAND,
                    edgecolor="none",
                    zorder=0,
                )
            )
        axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
        for y, row in placed:
            if row is None:
                axes.plot(
                    [0, 1],
                    [y, y],
                    color=RULE,
                    linewidth=0.8,
                    transform=axes.get_yaxis_transform(),
                    zorder=0.5,
                )
            else:
                _forest_row(axes, y, row)
        _forest_texts(axes, placed)
        _strips(axes, placed, strip_reach(rows))
        only_x_axis(axes, "difference in heat share, percentage points")
    return figure


def _forest_places(rows: Sequence[ForestRow]) -> tuple[list[tuple[float, ForestRow | None]], float]:
    """Vertical centres of the rows; a ``None`` entry is the line above a new heading."""
    placed: list[tuple[float, ForestRow | None]] = []
    y, heading = 0.0, None
    for row in rows:
        if row.heading != heading:
            placed.append((y + 2, None))
            y += 26
            heading = row.heading
        placed.append((y + ROW / 2, row))
        y += ROW
    return placed, y + 4


def _bands(placed: Sequence[tuple[float, ForestRow | None]]) -> list[tuple[float, float, float]]:
    """The bands to draw behind the rows, each as (margin, upper end, lower end).

    Neighbouring rows of one margin share a band; rows without a margin have none.
    """
    bands: list[tuple[float, float, float]] = []
    for y, row in placed:
        if row is None or row.margin is None:
            continue
        margin, top, bottom = row.margin, y - ROW / 2, y + ROW / 2
        if bands and bands[-1][0] == margin and bands[-1][2] == top:
            top = bands.pop()[1]
        bands.append((margin, top, bottom))
    return bands


def _forest_limits(rows: Sequence[ForestRow]) -> tuple[float, float]:
    values = [
        100 * v
        for row in rows
        for v in (row.low, row.high, row.estimate, row.raw)
        if v is not None and np.isfinite(v)
    ]
    margins = [row.margin for row in rows if row.margin is not None]
    values += [0.0, *([-130 * max(margins), 130 * max(margins)] if margins else [-1.0, 1.0])]
    low, high = min(values), max(values)
    pad = 0.05 * (high - low)
    return max(low - pad, -104.0), min(high + pad, 104.0)


def _forest_row(axes: Axes, y: float, row: ForestRow) -> None:
    marker, name, filled, _ = STATE_MARKS[mark_of(row.state, row.shown)]
    colour = PALETTE[name][0]
    if row.raw is not None:
        axes.plot(
            [100 * row.raw],
            [y - 8],
            marker="|",
            markersize=6,
            color=MUTED,
            linestyle="none",
            markeredgewidth=1.2,
        )
    if row.estimate is None:
        return
    if row.low is not None and row.high is not None:
        axes.plot(
            [100 * row.low, 100 * row.high],
            [y, y],
            color=colour,
            linewidth=1.8 if row.thick is None else 1.0,
            solid_capstyle="butt",
        )
    if row.thick is not None:
        axes.plot(
            [100 * end for end in row.thick],
            [y, y],
            color=colour,
            linewidth=3.4,
            solid_capstyle="butt",
        )
    axes.plot(
        [100 * row.estimate],
        [y],
        marker=marker or "|",
        markersize=7,
        linestyle="none",
        color=colour,
        markerfacecolor=colour if filled else PAPER,
        markeredgewidth=1.5,
    )


def _at(axes: Axes, units: float) -> float:
    """Figure units from the left edge, as a fraction of the axes' width."""
    box = axes.get_position()
    return float((units / WIDTH - box.x0) / box.width)


def _write(axes: Axes, units: float, y: float, text: str, **style: Any) -> None:
    """Text beside the axes, ``units`` from the figure's left edge."""
    across = axes.get_yaxis_transform()
    axes.text(_at(axes, units), y, text, va="center", transform=across, **style)


def _forest_texts(axes: Axes, placed: Sequence[tuple[float, ForestRow | None]]) -> None:
    line = "thin line" if any(row.thick for _, row in placed if row is not None) else "interval"
    small = {"fontsize": 9.5, "color": MUTED}
    _write(axes, 224, -12, "n", ha="right", **small)
    _write(axes, 520, -12, f"difference ({line})", **small)
    _write(axes, 665, -12, "state", **small)
    heading: str | None = None
    for y, row in placed:
        if row is None:
            continue
        if row.heading != heading:
            heading = row.heading
            _write(axes, 0, y - ROW / 2 - 11.5, short(heading, 34), fontweight="bold")
        _row_texts(axes, y, row)


def _row_texts(axes: Axes, y: float, row: ForestRow) -> None:
    """Label and n at the left, numbers and word at the right; below, the word at every margin."""
    first = y - 7 if row.has_strip else y
    _write(axes, 8, first, short(row.label, 30))
    _write(axes, 224, first, row.n, ha="right", color=MUTED, fontsize=9.5)
    _write(axes, 520, first, _interval_words(row), fontsize=9.5)
    _, name, _, word = STATE_MARKS[mark_of(row.state, row.shown)]
    star = "*" if row.provisional else ""
    _write(axes, 665, first, word + star, color=PALETTE[name][0], fontsize=10)
    if row.has_strip:
        _write(axes, 8, y + 8, _every_margin_words(row), color=MUTED, fontsize=9.5)


# ── the word at every margin ──────────────────────────────────────────────────────────────────────

STRIP = (520.0, 755.0)
"""Left and right end of the strips, in figure units."""


def strip_reach(rows: Sequence[ForestRow]) -> float | None:
    """The margin at the right end of every strip of a figure, at most 1; None without a strip."""
    ends = [end for row in rows if row.has_strip for end in (row.margin, row.within_from)]
    known = [end for end in ends if end is not None and np.isfinite(end)]
    return min(1.0, float(np.ceil(110 * max(known)) / 100)) if known else None


def strip_parts(row: ForestRow, reach: float) -> list[tuple[CellState, float, float]]:
    """(state, from, to) of the margins from 0 to ``reach``; what has no length is left out."""
    low = min(row.beyond_up_to or 0.0, reach)
    high = min(reach if row.within_from is None else row.within_from, reach)
    parts = (
        (CellState.BEYOND, 0.0, low),
        (CellState.OPEN, low, max(low, high)),
        (CellState.WITHIN, max(low, high), reach),
    )
    return [part for part in parts if part[2] > part[1]]


def _strips(
    axes: Axes, placed: Sequence[tuple[float, ForestRow | None]], reach: float | None
) -> None:
    if reach is None:
        return
    for y, row in placed:
        if row is not None and row.has_strip:
            _strip(axes, y + 8, row, reach)


def _strip(axes: Axes, y: float, row: ForestRow, reach: float) -> None:
    left, right = STRIP
    across = axes.get_yaxis_transform()

    def place(margin: float) -> float:
        return _at(axes, left + (right - left) * min(margin, reach) / reach)

    for state, start, end in strip_parts(row, reach):
        colour = BAR if state is CellState.OPEN else PALETTE[STATE_MARKS[state][1]][0]
        ends = [place(start), place(end)]
        width = 2.0 if state is CellState.OPEN else 6.0
        style: Any = {"linewidth": width, "solid_capstyle": "butt", "clip_on": False}
        axes.plot(ends, [y, y], color=colour, transform=across, zorder=2, **style)
    if row.margin is not None:
        at = place(row.margin)
        style = {"linewidth": 1.4, "clip_on": False}
        axes.plot([at, at], [y - 6, y + 6], color=INK, transform=across, zorder=3, **style)


def _every_margin_words(row: ForestRow) -> str:
    """ "beyond up to 12.1, within from 22.0" """
    beyond = f"beyond up to {points(row.beyond_up_to, signed=False)}, " if row.beyond_up_to else ""
    return f"{beyond}within from {points(row.within_from, signed=False)}"


def _interval_words(row: ForestRow) -> str:
    ends = interval(row.low, row.high, points) if is_known(row.estimate) else ""
    return points(row.estimate) + (f"  ({ends})" if ends else "")
