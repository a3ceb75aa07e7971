"""Forest plot: the difference of every comparison with its interval, against its margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gradaudit.number_text import interval, is_known, points
from gradaudit.records import CellState
from gradaudit.report.figures.canvas import (
    BAND,
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
    """One contrast: difference in shares (-1 to 1) with its interval; ``heading`` opens a new block
    when it changes.

    ``margin``: the declared limit of this very contrast, drawn as a band behind its row; None where
    no limit was set.  ``low`` to ``high``: the thin whisker, which is beyond exactly where it stays
    outside the band; ``thick``: the thick one, which is within exactly where it lies inside it.
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


# ── the four plots ────────────────────────────────────────────────────────────────────────────────


def forest_plot(rows: Sequence[ForestRow]) -> Figure:
    """Differences between groups in percentage points, their intervals, the band of each row's
    margin, n and the word of its state.
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
        _forest_texts(figure, axes, placed)
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
    """(margin, upper end, lower end) of every band: neighbouring rows of one margin share theirs,
    rows without a margin have none.
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
            [y - 7],
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


def _forest_texts(
    figure: Figure, axes: Axes, placed: Sequence[tuple[float, ForestRow | None]]
) -> None:
    box = axes.get_position()
    across = axes.get_yaxis_transform()

    def at(units: float) -> float:
        """Figure units from the left edge, as a fraction of the axes' width."""
        return float((units / WIDTH - box.x0) / box.width)

    for x, text, side in (
        (224, "n", "right"),
        (520, "difference (interval)", "left"),
        (665, "state", "left"),
    ):
        axes.text(
            at(x), -12, text, ha=side, va="center", fontsize=9.5, color=MUTED, transform=across
        )
    heading: str | None = None
    for y, row in placed:
        if row is None:
            continue
        if row.heading != heading:
            heading = row.heading
            axes.text(
                at(0), y - 25, short(heading, 34), va="center", fontweight="bold", transform=across
            )
        axes.text(at(8), y, short(row.label, 30), va="center", transform=across)
        axes.text(
            at(224), y, row.n, ha="right", va="center", color=MUTED, fontsize=9.5, transform=across
        )
        axes.text(at(520), y, _interval_words(row), va="center", fontsize=9.5, transform=across)
        _, name, _, word = STATE_MARKS[mark_of(row.state, row.shown)]
        axes.text(
            at(665),
            y,
            word + ("*" if row.provisional else ""),
            va="center",
            color=PALETTE[name][0],
            fontsize=10,
            transform=across,
        )


def _interval_words(row: ForestRow) -> str:
    ends = interval(row.low, row.high, points) if is_known(row.estimate) else ""
    return points(row.estimate) + (f"  ({ends})" if ends else "")
