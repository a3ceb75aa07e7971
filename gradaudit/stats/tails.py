"""The two tails of a signed statistic under the null hypothesis, from permutations or from t.

Margin tests are one-sided and heat is skewed, so the upper and the lower tail are kept apart: with
|t*| a false "within" is found in 7.8 of a hundred above the margin and in 2.8 below, at 25 against
375 patients with skewed heat; with the sign of t* in 5.6 and 5.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy import optimize, special

from gradaudit.stats.family import STATISTICS, Floats
from gradaudit.stats.permutation import TIE, PermutedCoefficients

MOST_SKEWED = 0.2
"""Largest skewness of an estimate for which the expansion of t will do; above it, permute."""
_FURTHEST = 6.5  # standard normal; the expansion rises up to 1 / (2/3 · MOST_SKEWED) = 7.5


class Tails(Protocol):
    """Both tails of a signed t statistic under the null hypothesis."""

    def upper_quantile(self, level: float) -> float:
        """The t that is reached with probability ``level``; infinite where none is known."""

    def lower_quantile(self, level: float) -> float:
        """The same of -t."""

    def upper_p(self, t: float) -> float:
        """Probability of a statistic of at least t."""

    def lower_p(self, t: float) -> float:
        """Probability of a statistic of at most -t."""


@STATISTICS.register(
    label="one-sided tails",
    summary="How large and how small t gets by chance, each side from its own permuted statistics.",
    formula="Q(l) = ⌊l(B+1)⌋-th largest of t* (or of −t*);  P(t) = (1 + #{t* ≥ t})/(B + 1)",
    source="ter Braak 1992; Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39",
)
@dataclass(frozen=True)
class PermutedTails:
    """Tails from B permuted statistics.

    draws : (B,) signed t*, in any order; infinite values are allowed
    """

    draws: Floats

    @cached_property
    def _ascending(self) -> Floats:
        return np.sort(self.draws)

    def upper_quantile(self, level: float) -> float:
        rank = _rank(level, len(self.draws))
        return float(self._ascending[-rank]) if rank >= 1 else float("inf")

    def lower_quantile(self, level: float) -> float:
        rank = _rank(level, len(self.draws))
        return float(-self._ascending[rank - 1]) if rank >= 1 else float("inf")

    def upper_p(self, t: float) -> float:
        reached = len(self.draws) - np.searchsorted(self._ascending, _below(t), side="left")
        return float(1 + reached) / (len(self.draws) + 1)

    def lower_p(self, t: float) -> float:
        reached = np.searchsorted(self._ascending, -_below(t), side="right")
        return float(1 + reached) / (len(self.draws) + 1)


def _rank(level: float, count: int) -> int:
    return min(int(np.floor(level * (count + 1) + 1e-9)), count)


def _below(t: float) -> float:
    """t lowered by the distance within which two statistics count as equal."""
    return t - TIE * abs(t)


@STATISTICS.register(
    label="t with skewness",
    summary="Student's t whose tails lean to the side that the skewness of the estimate says.",
    formula="Q(l) = t_{1−l,df} − a/6·(2z²+1), lower tail + ;  a = Σw³e³/(Σw²e²)^1.5, z = Φ⁻¹(1−l)",
    source="Hall 1992, The Bootstrap and Edgeworth Expansion, sec. 2.6 (studentized mean)",
    caveat="Used where every side has 200 patients and |a| ≤ 0.2; elsewhere residuals are permuted.",
)
@dataclass(frozen=True)
class SkewedT:
    """Tails of Student's t, moved by the skewness of the estimate.

    df : degrees of freedom, may be infinite
    skewness : a, third standardized moment of the estimate's error; 0 leaves t as it is
    """

    df: float
    skewness: float = 0.0

    def upper_quantile(self, level: float) -> float:
        return self._quantile(level, self.skewness)

    def lower_quantile(self, level: float) -> float:
        return self._quantile(level, -self.skewness)

    def upper_p(self, t: float) -> float:
        return self._p(t, self.skewness)

    def lower_p(self, t: float) -> float:
        return self._p(t, -self.skewness)

    def _quantile(self, level: float, skewness: float) -> float:
        return self._at(float(-special.ndtri(level)), skewness)

    def _at(self, z: float, skewness: float) -> float:
        """The t that is reached as often as a standard normal reaches z."""
        tail = float(special.ndtr(-abs(z)))
        size = -float(special.ndtri(tail) if np.isinf(self.df) else special.stdtrit(self.df, tail))
        return float(np.copysign(size, z)) - skewness / 6 * (2 * z**2 + 1)

    def _p(self, t: float, skewness: float) -> float:
        """The level whose quantile is t (the quantile falls as the level rises)."""
        if not skewness:
            return float(special.ndtr(-t) if np.isinf(self.df) else special.stdtr(self.df, -t))
        low, high = (self._at(end, skewness) for end in (-_FURTHEST, _FURTHEST))
        if t <= low or t >= high:
            return 1.0 if t <= low else float(special.ndtr(-_FURTHEST))
        z = optimize.brentq(lambda z: self._at(z, skewness) - t, -_FURTHEST, _FURTHEST, xtol=1e-12)
        return float(special.ndtr(-z))


def skewness_of_estimate(weights: Floats, residuals: Floats) -> float:
    """a = sum w^3 e^3 / (sum w^2 e^2)^1.5 of the estimate w @ y; 0 where nothing varies.

    weights, residuals : (n,)
    """
    terms = weights * residuals
    squares = terms * terms
    square = float(squares.sum())
    return float(squares @ terms) / square**1.5 if square > 0 else 0.0


# ── many statistics together ──────────────────────────────────────────────────────────────────────


class ManyTails(Protocol):
    """Both tails of each of m signed statistics, and of the largest of them in size."""

    @property
    def largest(self) -> PermutedTails:
        """Of max |t| over all of them, taken together."""

    def quantiles(self, level: float) -> tuple[Floats, Floats]:
        """Upper and lower quantile of each, (m,); as ``Tails`` has them of one."""

    def upper_p(self, t: Floats) -> Floats:
        """(m,) probability of a statistic of at least t (m,)."""

    def lower_p(self, t: Floats) -> Floats:
        """(m,) probability of a statistic of at most -t (m,)."""


@dataclass(frozen=True)
class PermutedCombinations:
    """Tails of combinations of permuted coefficients.

    combinations : (m, k).  The (B, m) statistics are computed when asked for and not kept: 78
        pairs of 9999 permutations are 6 MB, their coefficients a tenth of it.
    """

    drawn: PermutedCoefficients
    combinations: Floats

    @cached_property
    def largest(self) -> PermutedTails:
        return PermutedTails(np.abs(self._t()).max(axis=1))

    def quantiles(self, level: float) -> tuple[Floats, Floats]:
        t = self._t()
        rank = _rank(level, len(t))
        if rank < 1:
            none = np.full(t.shape[1], np.inf)
            return none, none
        t = np.partition(t, [rank - 1, len(t) - rank], axis=0)
        return t[len(t) - rank], -t[rank - 1]

    def upper_p(self, t: Floats) -> Floats:
        drawn = self._t()
        reached = np.count_nonzero(drawn >= t - TIE * np.abs(t), axis=0)
        return np.asarray((1 + reached) / (len(drawn) + 1))

    def lower_p(self, t: Floats) -> Floats:
        drawn = self._t()
        reached = np.count_nonzero(-drawn >= t - TIE * np.abs(t), axis=0)
        return np.asarray((1 + reached) / (len(drawn) + 1))

    def _t(self) -> Floats:
        t: Floats = self.drawn.t(self.combinations)
        return t


@dataclass(frozen=True)
class SkewedCombinations:
    """Student's t with skewness of each, and drawn values of the largest of them.

    each : of the m statistics      largest_draws : (B,) of max |t|
    """

    each: tuple[SkewedT, ...]
    largest_draws: Floats

    @cached_property
    def largest(self) -> PermutedTails:
        return PermutedTails(self.largest_draws)

    def quantiles(self, level: float) -> tuple[Floats, Floats]:
        upper = np.array([one.upper_quantile(level) for one in self.each])
        return upper, np.array([one.lower_quantile(level) for one in self.each])

    def upper_p(self, t: Floats) -> Floats:
        return np.array([one.upper_p(float(x)) for one, x in zip(self.each, t, strict=True)])

    def lower_p(self, t: Floats) -> Floats:
        return np.array([one.lower_p(float(x)) for one, x in zip(self.each, t, strict=True)])


def largest_of_normals(covariance: Floats, df: float, draws: int, seed: int) -> Floats:
    """(B,) drawn values of max |t| over estimates of a covariance (m, m) and of common df."""
    scale = np.sqrt(np.diag(covariance))
    value, vector = np.linalg.eigh(covariance / np.outer(scale, scale))
    kept = value > 1e-10 * value.max()
    root = vector[:, kept] * np.sqrt(value[kept])
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((draws, int(kept.sum()))) @ root.T
    shrunk = 1.0 if np.isinf(df) else np.sqrt(rng.chisquare(df, draws) / df)
    return np.asarray(np.abs(z).max(axis=1) / shrunk)
