"""Tails of a few permuted statistics, continued by Student's t where they have no more values.

One decision takes at least 160 permutations per planned cell, so that Holm can reach alpha.  Where
thousands of decisions are simulated, a few hundred serve: "within" needs the 5 % point alone, and
what "beyond" needs further out is taken from t with the skewness of the permuted statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradaudit.stats.tails import PermutedTails, SkewedT, Tails

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
