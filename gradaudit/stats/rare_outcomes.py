"""Shares of rare events: a bound where too few values differ for a test.

Undefined heat in one image of a hundred leaves nothing to permute, and yet says that the groups
lie close together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from gradaudit.stats.decision import MarginTest, p_within
from gradaudit.stats.family import STATISTICS
from gradaudit.stats.tails import SkewedT

CAUTION = 3
"""Divides the level: a true difference at the margin, with no event on the other side, is then
called "within" in fewer than 5 of a hundred (3.9; undivided 8.9), for 20 to 2000 patients a side."""


@STATISTICS.register(
    label="Agresti–Caffo difference",
    summary="Difference of two shares and its error, with one patient of each value added to both sides.",
    formula="p̃ = (Σy + 1)/(n + 2);  d = p̃₁ − p̃₀;  SE² = Σ p̃(1 − p̃)/(n + 2)",
    source="Agresti & Caffo 2000, Am. Stat. 54:280",
)
def agresti_caffo(sums: ArrayLike, sizes: ArrayLike) -> tuple[float, float]:
    """Difference of two shares and its standard error.

    sums : (2,) events, or sums of values in [0, 1]: among such values none vary more than events of
        the same mean, so the error is then too large rather than too small
    sizes : (2,) patients
    """
    size = np.asarray(sizes, dtype=np.float64)
    rates = (np.asarray(sums, dtype=np.float64) + 1) / (size + 2)
    variance = rates * (1 - rates) / (size + 2)
    return float(rates[0] - rates[1]), float(np.sqrt(variance[0] + variance[1]))


@dataclass(frozen=True)
class ShareBound(MarginTest):
    """Margin test of a difference of rare shares: it can say "within", and never "beyond".

    Its levels are taken by ``CAUTION``, because a count of few events is far from normal.
    """

    @cached_property
    def p_beyond(self) -> float:
        return 1.0

    @cached_property
    def p_within(self) -> float:
        p: float = p_within(self.estimate, self.se, self.margin, self.tails)
        return min(1.0, CAUTION * p)

    def whisker(self, level: float) -> tuple[float, float]:
        return super().whisker(level / CAUTION)


def share_bound(sums: ArrayLike, sizes: ArrayLike, margin: float) -> ShareBound:
    """The bound on the difference of two shares; see ``agresti_caffo`` for the arguments."""
    estimate, se = agresti_caffo(sums, sizes)
    return ShareBound(estimate, se, margin, SkewedT(np.inf))


@dataclass(frozen=True)
class ShareBounds:
    """Bounds on every difference of several shares: within where all of them are.

    Intersection-union, so that no level is corrected for their number.
    """

    bounds: tuple[ShareBound, ...]

    @property
    def margin(self) -> float:
        return self.bounds[0].margin

    @property
    def estimate(self) -> float:
        return max((bound.estimate for bound in self.bounds), key=abs)

    @property
    def p_beyond(self) -> float:
        return 1.0

    @property
    def p_within(self) -> float:
        return max(bound.p_within for bound in self.bounds)

    def whisker(self, level: float) -> tuple[float, float]:
        """Hull of the whiskers of all differences."""
        lows, highs = zip(*(bound.whisker(level) for bound in self.bounds), strict=True)
        return min(lows), max(highs)

    def thin_whisker(self, level: float) -> tuple[float, float]:
        return self.whisker(level)


def share_bounds(sums: Sequence[float], sizes: Sequence[int], margin: float) -> ShareBounds:
    """The bounds on all differences, later minus earlier, of two or more shares."""
    found = []
    for i, j in combinations(range(len(sizes)), 2):
        found.append(share_bound([sums[j], sums[i]], [sizes[j], sizes[i]], margin))
    return ShareBounds(tuple(found))
