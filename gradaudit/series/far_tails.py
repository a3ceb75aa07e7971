"""Tails of a few permuted statistics, continued by Student's t where they have no more values.

One decision takes at least 160 permutations per planned cell, so that Holm can reach alpha.  Where
thousands of decisions are simulated, a few hundred serve: "within" needs the 5 % point alone, and
what "beyond" needs further out is taken from t with the skewness of the permuted statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gradaudit.stats.decision import AgainstMargin, LargestDifference, MarginTest
from gradaudit.stats.family import Floats
from gradaudit.stats.tails import PermutedCombinations, PermutedTails, SkewedT, Tails

FEWEST_BEYOND = 10
"""Permuted statistics that must lie further out for their own tail to be used."""


@dataclass(frozen=True)
class ExtendedTails:
    """``near`` where it has enough values, ``far`` where it has not."""

    near: PermutedTails
    far: SkewedT

    @classmethod
    def of(cls, tails: Tails, df: float) -> Tails:
        """The tails, continued where they are permuted.

        df : degrees of freedom of the standard error
        The mean of a studentized mean is -a/2 (Hall 1992, sec. 2.6), which gives its skewness a.
        """
        if not isinstance(tails, PermutedTails):
            return tails
        finite = tails.draws[np.isfinite(tails.draws)]
        skewness = -2 * float(finite.mean()) if len(finite) else 0.0
        return cls(tails, SkewedT(df, skewness))

    @property
    def _last(self) -> float:
        """The level that the permuted statistics still hold."""
        return FEWEST_BEYOND / (len(self.near.draws) + 1)

    def upper_quantile(self, level: float) -> float:
        return (self.near if level >= self._last else self.far).upper_quantile(level)

    def lower_quantile(self, level: float) -> float:
        return (self.near if level >= self._last else self.far).lower_quantile(level)

    def upper_p(self, t: float) -> float:
        p = self.near.upper_p(t)
        return p if p >= self._last else min(self._last, self.far.upper_p(t))

    def lower_p(self, t: float) -> float:
        p = self.near.lower_p(t)
        return p if p >= self._last else min(self._last, self.far.lower_p(t))


# ── the largest of many ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ExtendedLargest(PermutedTails):
    """Permuted max |t|, continued beyond its last values.

    There its tail falls as that of one |t| does: the largest of many is reached as often as one of
    them, times a number that hardly changes with t.
    df : degrees of freedom of the standard error
    """

    df: float

    @property
    def _last(self) -> float:
        """The level that the permuted statistics still hold."""
        return FEWEST_BEYOND / (len(self.draws) + 1)

    @property
    def _times(self) -> float:
        """How much more often the largest reaches the last value than one does."""
        return self._last / SkewedT(self.df).upper_p(super().upper_quantile(self._last))

    def upper_quantile(self, level: float) -> float:
        if level >= self._last:
            return super().upper_quantile(level)
        return SkewedT(self.df).upper_quantile(level / self._times)

    def upper_p(self, t: float) -> float:
        p = super().upper_p(t)
        if p >= self._last:
            return p
        return min(self._last, self._times * SkewedT(self.df).upper_p(t))


@dataclass(frozen=True)
class ExtendedMany:
    """Many permuted statistics whose largest is continued."""

    near: PermutedCombinations
    df: float

    @property
    def largest(self) -> PermutedTails:
        return ExtendedLargest(self.near.largest.draws, self.df)

    def quantiles(self, level: float) -> tuple[Floats, Floats]:
        return self.near.quantiles(level)

    def upper_p(self, t: Floats) -> Floats:
        return self.near.upper_p(t)

    def lower_p(self, t: Floats) -> Floats:
        return self.near.lower_p(t)


def extended(test: AgainstMargin | None, df: float) -> AgainstMargin | None:
    """A margin test whose permuted tails are continued; any other one as it is."""
    if isinstance(test, MarginTest) and np.isfinite(df):
        return replace(test, tails=ExtendedTails.of(test.tails, df))
    if isinstance(test, LargestDifference) and isinstance(test.tails, PermutedCombinations):
        return replace(test, tails=ExtendedMany(test.tails, df))
    return test
