"""Distributions: quantile dots of two groups, and the means of ordered levels with their line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradaudit.number_text import share_percent
from gradaudit.report.figures.shapes import (
    Dot,
    Path,
    Plot,
    Scale,
    Shape,
    Words,
    coordinate,
    polyline,
    ticks,
    wrapped,
)

WIDTH = 400.0
RADIUS = 3.3
LINE = 12.0
"""Height of a line of text in a figure."""


@dataclass(frozen=True)
class Lane:
    """One group of a dot plot; each value stands for an equal share of its clusters."""

    label: str
    values: tuple[float, ...]
    look: str


def median(values: Sequence[float]) -> float:
    """The middle value, as it is drawn: of equally likely values the middle one is the median."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def reach_of(lanes: Sequence[Lane]) -> float:
    """The right end of the axis: the largest value, and a little room."""
    values = [value for lane in lanes for value in lane.values]
    return 1.02 * max([0.05, *values])


def dot_plot(lanes: Sequence[Lane], label: str) -> Plot:
    """Quantile dots on one axis, a lane for each group, its name and median above."""
    scale = Scale(0.0, reach_of(lanes), 6.0, WIDTH - 12.0)
    shapes: list[Shape] = []
    y = 0.0
    for lane in lanes:
        lines = wrapped(f"{lane.label}: median {share_percent(median(lane.values), 0)}", 58)
        for line in lines:
            y += LINE
            shapes.append(Words(0, y, line, look="t"))
        columns = _stacked(lane.values, scale)
        y += 8 + (2 * RADIUS + 0.4) * max(map(len, columns.values()), default=1)
        shapes += _dots(columns, y, lane.look)
        shapes.append(Path(f"M6 {coordinate(y)}H{coordinate(WIDTH - 12)}", "axis"))
        y += 6
    shapes[:0] = _grid(scale, y)
    return Plot(WIDTH, y + 18, (*shapes, *_percent_axis(scale, y + 14)), label)


def _stacked(values: Sequence[float], scale: Scale) -> dict[int, list[float]]:
    """Dots that would overlap, one on the other, by the number of their column."""
    columns: dict[int, list[float]] = {}
    for value in sorted(values):
        column = round((scale.at(value) - 6.0) / (2 * RADIUS + 0.6))
        columns.setdefault(column, []).append(value)
    return columns


def _dots(columns: dict[int, list[float]], base: float, look: str) -> list[Shape]:
    dots: list[Shape] = []
    for column, values in columns.items():
        x = 6.0 + column * (2 * RADIUS + 0.6)
        for height in range(len(values)):
            y = base - RADIUS - height * (2 * RADIUS + 0.4)
            dots.append(Dot(x, y, RADIUS, look))
    return dots


def _grid(scale: Scale, bottom: float) -> list[Shape]:
    values = ticks(scale.low, scale.high, 6)
    return [Path(f"M{scale.place(value)} 0V{coordinate(bottom)}", "grid") for value in values]


def _percent_axis(scale: Scale, y: float) -> list[Shape]:
    values = ticks(scale.low, scale.high, 6)
    return [Words(scale.at(value), y, share_percent(value, 0), "middle") for value in values]


# ── means over ordered levels ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LevelMean:
    """The mean share of one level with its interval."""

    label: str
    mean: float
    ends: tuple[float, float] | None = None


def level_plot(levels: Sequence[LevelMean], label: str) -> Plot:
    """Means of ordered levels, one below the other and joined by a line, with intervals."""
    high = max([0.05, *(value for m in levels for value in (m.mean, *(m.ends or ())))])
    left = 112.0
    scale = Scale(0.0, 1.05 * high, left, WIDTH - 44.0)
    shapes: list[Shape] = []
    points: list[tuple[float, float]] = []
    y = 0.0
    for m in levels:
        lines = wrapped(m.label, 20)
        room = max(32.0, LINE * len(lines) + 8)
        middle = y + room / 2
        first = middle + 4 - LINE * (len(lines) - 1) / 2
        shapes += [Words(0, first + LINE * n, line, look="t") for n, line in enumerate(lines)]
        end = max((m.mean, *(m.ends or ())))
        if m.ends:
            whisker = f"M{scale.place(m.ends[0])} {coordinate(middle)}H{scale.place(m.ends[1])}"
            shapes.append(Path(whisker, "thin"))
        shapes.append(Dot(scale.at(m.mean), middle, 4.5, "t"))
        shapes.append(Words(scale.at(end) + 8, middle + 4, share_percent(m.mean, 0), look="t"))
        points.append((scale.at(m.mean), middle))
        y += room
    line = Path(polyline(points), "lo")
    frame = [*_grid(scale, y), line]
    return Plot(WIDTH, y + 18, (*frame, *shapes, *_percent_axis(scale, y + 14)), label)
