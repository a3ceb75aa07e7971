"""Curves over a number, as a larger study would meet them: the shape that a run saw, scaled.

The curve of a run is a natural cubic spline whose knots are among its printed points, so that the
natural cubic spline through those points is the curve itself, between them and beyond.  A truth
scales it: its largest difference between two points becomes the one that is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicSpline

from gradaudit.analysis.study import Floats
from gradaudit.stats.decision import LargestDifference
from gradaudit.subgroups.contrast import Contrast
from gradaudit.subgroups.slopes import pairs_of_points


@dataclass(frozen=True, eq=False)
class Shape:
    """A curve through points, straight beyond the first and the last.

    x : (m,) ascending, m >= 2      y : (m,) in the outcome's unit
    """

    x: Floats
    y: Floats

    @classmethod
    def of(cls, points: Sequence[tuple[float, float, float, float]]) -> Shape:
        """The curve of a finding or a contrast."""
        x, y, *_ = np.array(points).T
        return cls(x, y)

    @cached_property
    def _spline(self) -> CubicSpline:
        return CubicSpline(self.x, self.y, bc_type="natural")

    def at(self, x: Floats) -> Floats:
        """(n,) the curve at x."""
        inside = np.clip(x, self.x[0], self.x[-1])
        return np.asarray(self._spline(inside) + (x - inside) * self._spline(inside, 1))

    @property
    def reach(self) -> float:
        """The largest difference between two of its points, in size."""
        return float(np.ptp(self.y))

    def scaled(self, difference: float) -> Shape:
        """The same shape with ``difference`` (in size) as its largest; of a flat one, a line."""
        own = self.y if self.reach else (self.x - self.x[0]) / (self.x[-1] - self.x[0])
        return Shape(self.x, own * (abs(difference) / float(np.ptp(own))))


def moved_curves(found: Sequence[Contrast | None], truth: Shape) -> Iterator[Contrast | None]:
    """The curves of many studies, each moved by the step that takes their mean curve to ``truth``.

    What has no curve (a constant outcome, a bound on few events) stays as it is.  Errors and tails
    are those of the values before the step, and so are precision weights.
    """
    grid = truth.x
    curves = [Shape.of(c.curve) if c is not None and _is_tested(c) else None for c in found]
    seen = [shape.at(grid) for shape in curves if shape is not None]
    step = Shape(grid, truth.y - np.mean(seen, axis=0)) if seen else truth
    for c, shape in zip(found, curves, strict=True):
        yield c if c is None or shape is None else _moved(c, step.at(shape.x))


def _is_tested(c: Contrast) -> bool:
    return isinstance(c.margin_test, LargestDifference) and not c.reason


def _moved(c: Contrast, steps: Floats) -> Contrast:
    """The contrast with other values at the points of its curve; errors and tails stay.

    steps : (m,) what is added at each point
    """
    test = c.margin_test
    assert isinstance(test, LargestDifference)
    upper, lower = pairs_of_points(len(steps))
    test = replace(test, estimates=test.estimates + steps[upper] - steps[lower])
    return replace(c, estimate=test.estimate, margin_test=test)


def rates_along(rate: float, seen: Shape, truth: Shape, x: Floats) -> tuple[Floats, Floats]:
    """Rates at each x that a run saw, and those that a truth stands for, both within 0 and 1.

    rate : of everybody; the true rate of everybody is the same, unless 0 or 1 leave no room for
        the truth: then all of it moves
    """
    now = np.clip(rate + _about_mean(seen.at(x)), 0.0, 1.0)
    wanted = rate + _about_mean(truth.at(x))
    inside = (x >= truth.x[0]) & (x <= truth.x[-1])
    if inside.any():
        low, high = float(wanted[inside].min()), float(wanted[inside].max())
        wanted = wanted - min(low, 0.0) - max(high - 1.0, 0.0)
    return now, np.clip(wanted, 0.0, 1.0)


def _about_mean(values: Floats) -> Floats:
    return np.asarray(values - values.mean()) if len(values) else values
