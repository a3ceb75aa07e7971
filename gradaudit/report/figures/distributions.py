"""Distributions of the heat share, one lane per level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Distribution of shares (0 to 1) in one group; ``note`` stands in place of what cannot be
    shown.
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
    """Histogram, 5-25-50-75-95 % quantiles and mean of the heat share, one lane a group, one panel
    a region.
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
    axes.axhline(y + 32, color=RULE, linewidth=0.8, zorder=0)
    if lane.histogram and max(lane.histogram) > 0:
        heights = np.asarray(lane.histogram, dtype=float) / max(lane.histogram) * 24
        edges = np.linspace(0, 100, len(heights) + 1)
        kept = edges[:-1] < top
        axes.stairs(
            y + 32 - heights[kept],
            edges[: kept.sum() + 1],
            baseline=y + 32,
            fill=True,
            facecolor=BAR,
            edgecolor="none",
        )
    if len(lane.quantiles) == 5 and all(v is not None for v in lane.quantiles):
        q = [100 * float(v or 0.0) for v in lane.quantiles]
        axes.plot([q[0], q[4]], [y + 37, y + 37], color=MUTED, linewidth=1.0)
        axes.plot([q[1], q[3]], [y + 37, y + 37], color=INK, linewidth=3.4, solid_capstyle="butt")
        axes.plot(
            [q[2]],
            [y + 37],
            marker="o",
            markersize=5.5,
            color=INK,
            markerfacecolor=PAPER,
            markeredgewidth=1.3,
            linestyle="none",
        )
    if lane.mean is not None:
        axes.plot(
            [100 * lane.mean],
            [y + 29],
            marker="v",
            markersize=5.5,
            color=PALETTE["vermillion"][0],
            linestyle="none",
            zorder=4,
        )
    if lane.note:
        axes.text(
            0.02,
            y + 22,
            short(lane.note, 40),
            color=MUTED,
            fontsize=9,
            va="center",
            transform=axes.get_yaxis_transform(),
        )
