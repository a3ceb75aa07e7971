"""Small intervals as inline SVG: coordinates for the template, one scale per table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

WIDTH = 144.0
_PAD = 8.0
_STEPS = (0.02, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.75, 1.0)


@dataclass(frozen=True)
class Scale:
    """From -reach to reach, zero in the middle."""

    reach: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Scale:
        """The smallest round reach that holds all values."""
        largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
        return cls(next((step for step in _STEPS if largest <= step), max(1.0, largest)))

    def x(self, value: float) -> float:
        """Place of a value; what lies beyond the scale stands at its end."""
        inside = max(-self.reach, min(self.reach, value)) / self.reach
        return round(WIDTH / 2 + inside * (WIDTH / 2 - _PAD), 1)


@dataclass(frozen=True)
class Whiskers:
    """One estimate: dot, thick and thin line; ends are None where there is no interval."""

    zero: float
    dot: float
    thick: tuple[float, float] | None
    thin: tuple[float, float] | None


@dataclass(frozen=True)
class Move:
    """From before to after, beside the limit (a band from its lower to its upper end)."""

    zero: float
    before: float
    after: float
    band: tuple[float, float] | None


def whiskers(
    scale: Scale,
    estimate: float | None,
    thick: tuple[float | None, float | None],
    thin: tuple[float | None, float | None],
) -> Whiskers | None:
    """None where there is no estimate."""
    if estimate is None:
        return None
    return Whiskers(scale.x(0.0), scale.x(estimate), _line(scale, thick), _line(scale, thin))


def _line(scale: Scale, ends: tuple[float | None, float | None]) -> tuple[float, float] | None:
    low, high = ends
    if low is None or high is None:
        return None
    return scale.x(low), scale.x(high)


def move(
    scale: Scale, before: float | None, after: float | None, margin: float | None
) -> Move | None:
    """None where either is missing."""
    if before is None or after is None:
        return None
    band = None if margin is None else (scale.x(-margin), scale.x(margin))
    return Move(scale.x(0.0), scale.x(before), scale.x(after), band)
