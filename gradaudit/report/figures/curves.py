"""Curves: a continuous attribute with its band, heat against the region's size, calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradaudit.number_text import share_percent
from gradaudit.report.figures.shapes import (
    Dot,
    Path,
    Plot,
    Scale,
    Shape,
    Words,
    across,
    apart,
    coordinate,
    polyline,
    ticks,
    wrapped,
)

WIDTH, HEIGHT = 400.0, 176.0
LEFT, TOP, BOTTOM = 34.0, 8.0, 32.0
LOOKS = ("k0", "k1", "k2", "k3", "k4", "k5")
"""Lines that are told apart without colour; the style sheet gives each its dashes."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A line through points (x, y), named at its end; ``band``: (x, low, high)."""

    label: str
    points: tuple[Point, ...]
    band: tuple[tuple[float, float, float], ...] = ()
    dots: bool = True


@dataclass(frozen=True)
class Axes:
    """The plane of a curve plot: how values on each axis are worded, and a line to read against.

    square : both axes run from 0 to 1, with the diagonal
    """

    x_words: Callable[[float], str]
    x_title: str
    square: bool = False
    x_values: tuple[float, ...] = ()


def percent(value: float) -> str:
    return share_percent(value, 0)


def curve_plot(curves: Sequence[Curve], axes: Axes, label: str) -> Plot:
    """Lines on one plane; y is a share, in percent."""
    named = any(curve.label for curve in curves)
    right = WIDTH - (112.0 if named else 12.0)
    x, y = _scales(curves, axes, right)
    shapes: list[Shape] = [*_frame(x, y, axes)]
    for number, curve in enumerate(curves):
        look = LOOKS[number % len(LOOKS)]
        if curve.band:
            shapes.append(Path(_area(curve, x, y), "area"))
        line = [(x.at(a), y.at(b)) for a, b in curve.points]
        shapes.append(Path(polyline(line), look))
        shapes += [Dot(a, b, 2.6, look) for a, b in line] if curve.dots else []
    return Plot(WIDTH, HEIGHT, (*shapes, *_names(curves, x, y)), label)


def _scales(curves: Sequence[Curve], axes: Axes, right: float) -> tuple[Scale, Scale]:
    if axes.square:
        return Scale(0, 1, LEFT, right), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    xs = [a for curve in curves for a, _ in curve.points]
    ys = [b for curve in curves for _, b in curve.points]
    ys += [end for curve in curves for _, low, high in curve.band for end in (low, high)]
    low, high = across([*ys, 0.0])
    return Scale(*across(xs), LEFT, right), Scale(max(0.0, low), high, HEIGHT - BOTTOM, TOP)


def _frame(x: Scale, y: Scale, axes: Axes) -> list[Shape]:
    """Grid, the numbers at both axes, and what the horizontal one is."""
    shapes: list[Shape] = []
    for value in ticks(y.low, y.high, 5):
        shapes.append(Path(f"M{coordinate(x.start)} {y.place(value)}H{coordinate(x.end)}", "grid"))
        shapes.append(Words(LEFT - 6, y.at(value) + 4, percent(value), "end"))
    for value in axes.x_values or ticks(x.low, x.high, 5):
        shapes.append(Words(x.at(value), HEIGHT - 18, axes.x_words(value), "middle"))
    shapes.append(Words((x.start + x.end) / 2, HEIGHT - 4, axes.x_title, "middle"))
    if axes.square:
        diagonal = f"M{x.place(0)} {y.place(0)}L{x.place(1)} {y.place(1)}"
        shapes.append(Path(diagonal, "ref"))
    return shapes


def _area(curve: Curve, x: Scale, y: Scale) -> str:
    upper = [(x.at(a), y.at(high)) for a, _, high in curve.band]
    lower = [(x.at(a), y.at(low)) for a, low, _ in reversed(curve.band)]
    return polyline([*upper, *lower]) + "Z"


def _names(curves: Sequence[Curve], x: Scale, y: Scale) -> list[Shape]:
    """The name of every line at its end, none over another."""
    named = [curve for curve in curves if curve.label and curve.points]
    ends = [y.at(curve.points[-1][1]) + 4 for curve in named]
    lines = [wrapped(curve.label, 19) for curve in named]
    tallest = max(map(len, lines), default=1)
    shapes: list[Shape] = []
    for own, place in zip(lines, apart(ends, 11.0 * tallest + 1), strict=True):
        shapes += [Words(x.end + 8, place + 11 * n, text, look="t") for n, text in enumerate(own)]
    return shapes
