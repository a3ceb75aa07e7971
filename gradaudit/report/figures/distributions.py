"""Distributions of the heat share, one lane per level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradaudit.report.figures.canvas import (
    BAR,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    RULE,
    drawing_style,
    lane_label,
    only_x_axis,
    panel_grid,
    short,
)


@dataclass(frozen=True)
class Lane:
    """The distribution of shares (0 to 1) in one group.

    ``note`` stands in place of what cannot be shown.
    """

    label: str
    n: str
    histogram: tuple[int, ...] = ()
    quantiles: tuple[float | None, ...] = ()
    mean: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """Lanes that share one axis, e.g. the groups of one attribute in one region."""

    title: str
    lanes: tuple[Lane, ...]


def distribution_plot(panels: Sequence[Panel]) -> Figure:
    """Distributions of the heat share: one panel a region, one lane a group.

    A lane shows the histogram, the 5-25-50-75-95 % quantiles and the mean.
    """
    count = max(len(panel.lanes) for panel in panels)
    with drawing_style():
        figure, places = panel_grid(len(panels), count * 44, per_row=3)
        for panel, (axes, first) in zip(panels, places, strict=True):
            top = _distribution_top(panel)
            axes.set_xlim(0, top)
            axes.set_ylim(count * 44, 0)
            for index, lane in enumerate(panel.lanes):
                _distribution_lane(axes, index * 44, lane, top)
                if first:
                    lane_label(axes, index * 44 + 24, lane.label, lane.n)
            axes.set_title(
                short(panel.title, 30), loc="left", fontsize=11, fontweight="bold", pad=6
            )
            only_x_axis(axes, "heat share, %")
    return figure


def _distribution_top(panel: Panel) -> float:
    """Upper end of the axis in %: the next 20 % above everything that is drawn."""
    reach = [0.05]
    for lane in panel.lanes:
        bins = len(lane.histogram)
        reach += [(i + 1) / bins for i, n in enumerate(lane.histogram) if n]
        reach += [v for v in (*lane.quantiles, lane.mean) if v is not None]
    return float(min(100, 20 * np.ceil(100 * max(reach) / 20 - 1e-9)))


def _distribution_lane(axes: Axes, y: float, lane: Lane, top: float) -> None:
    """Histogram, quantiles under it, the mean as a triangle on it; ``y`` in points from the top."""
    axes.axhline(y + 32, color=RULE, linewidth=0.8, zorder=0)
    if lane.histogram and max(lane.histogram) > 0:
        _histogram(axes, y + 32, lane.histogram, top)
    if len(lane.quantiles) == 5 and all(v is not None for v in lane.quantiles):
        _quantiles(axes, y + 37, [100 * float(v or 0.0) for v in lane.quantiles])
    if lane.mean is not None:
        colour = PALETTE["vermillion"][0]
        mark: dict[str, Any] = {"marker": "v", "markersize": 5.5, "linestyle": "none"}
        axes.plot([100 * lane.mean], [y + 29], color=colour, zorder=4, **mark)
    if lane.note:
        across = axes.get_yaxis_transform()
        words = short(lane.note, 40)
        axes.text(0.02, y + 22, words, color=MUTED, fontsize=9, va="center", transform=across)


def _histogram(axes: Axes, base: float, counts: Sequence[int], top: float) -> None:
    heights = np.asarray(counts, dtype=float) / max(counts) * 24
    edges = np.linspace(0, 100, len(heights) + 1)
    kept = edges[:-1] < top
    steps, ends = base - heights[kept], edges[: kept.sum() + 1]
    axes.stairs(steps, ends, baseline=base, fill=True, facecolor=BAR, edgecolor="none")


def _quantiles(axes: Axes, y: float, q: Sequence[float]) -> None:
    """5 to 95 % thin, 25 to 75 % thick, the median as a ring."""
    axes.plot([q[0], q[4]], [y, y], color=MUTED, linewidth=1.0)
    axes.plot([q[1], q[3]], [y, y], color=INK, linewidth=3.4, solid_capstyle="butt")
    ring: dict[str, Any] = {"marker": "o", "markersize": 5.5, "linestyle": "none"}
    axes.plot([q[2]], [y], color=INK, markerfacecolor=PAPER, markeredgewidth=1.3, **ring)
