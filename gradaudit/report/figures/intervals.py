"""Intervals: the mini figures of the matrix, the rows of a forest plot, and the strip of limits.

The grey band is the limit.  The thick whisker decides "within": it lies inside the band exactly
there.  The thin one decides "beyond": it stays outside the band exactly there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradaudit.number_text import points
from gradaudit.report.comparisons import Comparison
from gradaudit.report.figures.shapes import (
    Dot,
    Path,
    Plot,
    Scale,
    Shape,
    Words,
    across,
    coordinate,
    ticks,
)

MINI_WIDTH, MINI_HEIGHT = 104.0, 16.0
FOREST_WIDTH, FOREST_HEIGHT = 560.0, 28.0
STRIP_WIDTH, STRIP_HEIGHT = 400.0, 40.0


def domain_of(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """One scale for a column: every thin whisker, the band with room beside it, and zero."""
    ends: list[float | None] = [0.0]
    for c in comparisons:
        ends += [c.estimate, *(c.thin or ()), *(c.thick or ())]
        ends += [-1.25 * c.margin, 1.25 * c.margin] if c.margin is not None else []
    return across(ends)


def mini_scale(domain: tuple[float, float]) -> Scale:
    return Scale(*domain, 8.0, MINI_WIDTH - 8.0)


def mini(c: Comparison, domain: tuple[float, float]) -> Plot | None:
    """The interval of one comparison, small; None where it has no number."""
    if c.estimate is None:
        return None
    scale, bottom = mini_scale(domain), coordinate(MINI_HEIGHT)
    shapes: list[Shape] = []
    if c.margin is not None:
        shapes.append(Path(_band(scale, c.margin, 0, MINI_HEIGHT), "band"))
    shapes.append(Path(f"M{scale.place(0)} 0V{bottom}", "zero"))
    thin = f"M{scale.place(c.thin[0])} 8H{scale.place(c.thin[1])}" if c.thin else ""
    shapes.append(Path(f"{thin}M{scale.place(c.estimate)} 3V13", "thin"))
    if c.thick:
        shapes.append(Path(f"M{scale.place(c.thick[0])} 8H{scale.place(c.thick[1])}", "thick"))
    return Plot(MINI_WIDTH, MINI_HEIGHT, tuple(shapes), look=f"mini {c.look}")


def _band(scale: Scale, margin: float, top: float, bottom: float) -> str:
    left, right = scale.place(-margin), scale.place(margin)
    return f"M{left} {coordinate(top)}H{right}V{coordinate(bottom)}H{left}Z"


def value_mini(
    value: float, ends: tuple[float, float] | None, domain: tuple[float, float], line: float | None
) -> Plot:
    """A share or an AUC with its interval; ``line``: the value it is read against."""
    scale, shapes = mini_scale(domain), []
    if line is not None and domain[0] <= line <= domain[1]:
        shapes.append(Path(f"M{scale.place(line)} 0V16", "ref"))
    whisker = f"M{scale.place(ends[0])} 8H{scale.place(ends[1])}" if ends else ""
    shapes.append(Path(f"{whisker}M{scale.place(value)} 3V13", "thin"))
    return Plot(MINI_WIDTH, MINI_HEIGHT, tuple(shapes), look="mini none")


def axis(domain: tuple[float, float], worded: Callable[[float], str], most: int = 4) -> Plot:
    """The axis in the head of a column of minis."""
    scale = mini_scale(domain)
    shapes: list[Shape] = []
    for value in ticks(*domain, most):
        place = scale.at(value)
        shapes.append(Path(f"M{coordinate(place)} 12V16", "tick"))
        last = place > MINI_WIDTH - 12
        shapes.append(
            Words(MINI_WIDTH if last else place, 9, worded(value), "end" if last else "middle")
        )
    return Plot(MINI_WIDTH, MINI_HEIGHT, tuple(shapes), look="mini")


# ── forest ────────────────────────────────────────────────────────────────────────────────────────


def forest_scale(comparisons: Sequence[Comparison]) -> Scale:
    raw = [c.raw for c in comparisons]
    low, high = across((*domain_of(comparisons), *raw), pad=0.03)
    return Scale(low, high, 6.0, FOREST_WIDTH - 6.0)


def forest_line(c: Comparison, scale: Scale) -> Plot:
    """One row: band, zero, both whiskers, the shape of its word, a tick for the raw difference."""
    shapes: list[Shape] = []
    if c.margin is not None:
        shapes.append(Path(_band(scale, c.margin, -1, FOREST_HEIGHT + 1), "band"))
    shapes.append(Path(f"M{scale.place(0)} -1V{coordinate(FOREST_HEIGHT + 1)}", "zero"))
    if c.thin:
        shapes.append(Path(f"M{scale.place(c.thin[0])} 14H{scale.place(c.thin[1])}", "thin"))
    if c.thick:
        shapes.append(Path(f"M{scale.place(c.thick[0])} 14H{scale.place(c.thick[1])}", "thick"))
    if c.estimate is not None:
        shapes.append(_mark(c.look, scale.at(c.estimate)))
    if c.raw is not None:
        shapes.append(Path(f"M{scale.place(c.raw)} 0V6", "raw"))
    return Plot(FOREST_WIDTH, FOREST_HEIGHT, tuple(shapes), look=f"fs {c.look}")


def _mark(look: str, x: float) -> Shape:
    """The shape of a word, as in icons.html."""
    at = coordinate(x)
    if look == "beyond":
        return Path(f"M{at} 6l8 8-8 8-8-8z", "fill")
    if look in ("differs", "same"):
        return Path(f"M{at} 7l7 13h-14z", "fill" if look == "differs" else "hollow")
    return Dot(x, 14, 6.0, look if look in ("loose",) else "hollow" if look == "open" else "fill")


def forest_axis(scale: Scale) -> Plot:
    shapes = tuple(
        Words(scale.at(value), 13, points(value, 0), "middle")
        for value in ticks(scale.low, scale.high, 8)
    )
    return Plot(FOREST_WIDTH, 18, shapes, look="fs ax")


# ── the word at every limit ───────────────────────────────────────────────────────────────────────


def strip_parts(c: Comparison, reach: float) -> list[tuple[str, float, float]]:
    """(look, from, to) of the limits from 0 to ``reach``; what has no length is left out."""
    f = c.finding
    if f is None or f.beyond_up_to is None or f.within_from is None:
        return []
    low = min(f.beyond_up_to, reach)
    high = max(low, min(f.within_from, reach))
    parts = (("beyond", 0.0, low), ("open", low, high), ("within", high, reach))
    return [part for part in parts if part[2] > part[1]]


def strip_reach(c: Comparison) -> float | None:
    """The limit at the right end of the strip, at most 1; None where there is none to draw."""
    f = c.finding
    if f is None or c.margin is None or f.within_from is None or f.beyond_up_to is None:
        return None
    return min(1.0, 1.15 * max(c.margin, f.within_from, f.beyond_up_to))


def strip(c: Comparison) -> Plot | None:
    """Which word the comparison would have at every other limit, and where the declared one is."""
    reach = strip_reach(c)
    if reach is None or c.margin is None:
        return None
    scale = Scale(0.0, reach, 4.0, STRIP_WIDTH - 4.0)
    heights = {"beyond": (6.0, 18.0), "open": (10.0, 14.0), "within": (6.0, 18.0)}
    shapes: list[Shape] = []
    for look, start, end in strip_parts(c, reach):
        top, bottom = map(coordinate, heights[look])
        left, right = scale.place(start), scale.place(end)
        shapes.append(Path(f"M{left} {top}H{right}V{bottom}H{left}Z", f"fill {look}"))
    shapes.append(Path(f"M{scale.place(c.margin)} 1V23", "raw"))
    for value in ticks(0, reach, 6):
        shapes.append(Words(scale.at(value), 36, points(value, 0, signed=False), "middle"))
    return Plot(STRIP_WIDTH, STRIP_HEIGHT, tuple(shapes))
