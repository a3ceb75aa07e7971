"""What a figure is made of: paths, dots, texts and pictures on a plane, and scales to place them.

Hand-written SVG: a mini interval is 0.3 kB, follows the page's colours in the dark and prints
sharp.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradaudit.number_text import is_known, plain_number

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
"""Distances between the ticks of an axis of shares."""


def coordinate(value: float) -> str:
    """A place in a figure, to a tenth of a unit."""
    return plain_number(round(value, 1) + 0.0)


@dataclass(frozen=True)
class Path:
    """A line or an area; ``look`` names its rule in the style sheet."""

    d: str
    look: str


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    radius: float
    look: str


@dataclass(frozen=True)
class Words:
    """A text; ``anchor``: start | middle | end."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    look: str = ""


@dataclass(frozen=True)
class Raster:
    """A picture made of numbers, as a data URI."""

    href: str
    x: float
    y: float
    width: float
    height: float


Shape = Path | Dot | Words | Raster


@dataclass(frozen=True)
class Plot:
    """Shapes on a plane; ``label`` says it in words, "" where the words stand beside it."""

    width: float
    height: float
    shapes: tuple[Shape, ...]
    label: str = ""
    look: str = "plot"

    @property
    def view_box(self) -> str:
        return f"0 0 {coordinate(self.width)} {coordinate(self.height)}"


@dataclass(frozen=True)
class Scale:
    """Values from ``low`` to ``high`` on the places from ``start`` to ``end``; beyond, the end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def place(self, value: float) -> str:
        return coordinate(self.at(value))


def across(values: Iterable[float | None], *, pad: float = 0.02) -> tuple[float, float]:
    """Two ends that hold every known value, a little apart from them; never of no length."""
    known = [float(value) for value in values if value is not None and is_known(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.01, high + 0.01
    room = pad * (high - low)
    return low - room, high + room


def ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Round values from ``low`` to ``high``, at most ``most`` and one."""
    reach = high - low
    step = next((s for s in STEPS if reach / s <= most), STEPS[-1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(index * step for index in range(first, last + 1))


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Path data through the points."""
    places = (f"{coordinate(x)} {coordinate(y)}" for x, y in points)
    return "M" + "L".join(places) if points else ""


def wrapped(text: str, width: int) -> tuple[str, ...]:
    """The whole text in lines of at most ``width`` characters; a longer word is divided."""
    lines: list[str] = []
    line = ""
    for word in re.split(r"[ \t\n]+", text.strip()):
        joined = f"{line} {word}".strip(" ")
        if len(joined) <= width:
            line = joined
            continue
        lines += [line] if line else []
        while len(word) > width:
            lines.append(word[:width])
            word = word[width:]
        line = word
    return (*lines, line)


def apart(places: Sequence[float], distance: float) -> list[float]:
    """The places, moved so that neighbours stand at least ``distance`` apart, in the same order."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, index in itertools.pairwise(order):
        moved[index] = max(moved[index], moved[before] + distance)
    return moved
