"""Figures with their intervals, one row per level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from gradaudit.report.figures.canvas import (
    INK,
    MUTED,
    PALETTE,
    drawing_style,
    lane_label,
    only_x_axis,
    panel_grid,
    short,
)


@dataclass(frozen=True)
class IntervalRow:
    label: str
    estimate: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class IntervalPanel:
    """``percent`` draws shares as %; otherwise values stand as they are (AUC, Brier score)."""

    title: str
    rows: tuple[IntervalRow, ...]
    percent: bool = True


def interval_plot(panels: Sequence[IntervalPanel]) -> Figure:
    """A dot and its interval per group, one panel a figure of merit."""
    count = max(len(panel.rows) for panel in panels)
    with drawing_style():
        figure, places = panel_grid(len(panels), count * 28, per_row=4)
        for panel, (axes, first) in zip(panels, places, strict=True):
            unit = 100 if panel.percent else 1
            axes.set_xlim(*_interval_limits(panel, unit))
            axes.set_ylim(count * 28, 0)
            for index, row in enumerate(panel.rows):
                y = index * 28 + 14
                if row.estimate is None:
                    axes.text(
                        0.02,
                        y,
                        row.note or "no value",
                        color=MUTED,
                        fontsize=9,
                        va="center",
                        transform=axes.get_yaxis_transform(),
                    )
                else:
                    if row.low is not None and row.high is not None:
                        axes.plot(
                            [unit * row.low, unit * row.high], [y, y], color=INK, linewidth=1.6
                        )
                    axes.plot(
                        [unit * row.estimate],
                        [y],
                        marker="o",
                        markersize=6,
                        color=PALETTE["blue"][0],
                        linestyle="none",
                    )
                if first:
                    lane_label(axes, y, row.label, "")
            axes.set_title(
                short(panel.title, 24), loc="left", fontsize=11, fontweight="bold", pad=6
            )
            only_x_axis(axes, "%" if panel.percent else "value")
    return figure


def _interval_limits(panel: IntervalPanel, unit: int) -> tuple[float, float]:
    values = [
        unit * v for row in panel.rows for v in (row.estimate, row.low, row.high) if v is not None
    ]
    if not values:
        return 0.0, float(unit)
    step = unit / 10
    low = step * np.floor((min(values) - step / 5) / step)
    high = step * np.ceil((max(values) + step / 5) / step)
    # Nothing is drawn beyond what can be: a share ends at 0 and at 100 %.
    return max(float(low), min(0.0, min(values))), min(float(high), max(1.01 * unit, max(values)))
