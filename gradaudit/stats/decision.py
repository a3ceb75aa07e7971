"""A difference and its margin: beyond it, within it, or open; and what a figure draws of that.

``decide`` takes the planned comparisons of one audit (or of one call) together.  What it returns
is both the word and the whiskers, so that a picture cannot contradict a sentence: beyond exactly
where the thin whisker stays outside the band of the margin, within exactly where the thick one
lies inside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
from scipy import special

from gradaudit.stats.family import STATISTICS, Floats
from gradaudit.stats.multiplicity import holm
from gradaudit.stats.tails import ManyTails, Tails

Word = Literal["beyond", "within", "open"]
_HAIR = 1e-12
"""Relative; how far inside the margin an end is drawn that ties with it and must not reach it."""


@STATISTICS.register(
    label="smallest detectable difference",
    summary="True difference that a study of this size would show with 80 % probability.",
    formula="MDE80 = (t_{1−l/2} + t_.80)·SE, l the level that the number of comparisons leaves",
    source="Bloom 1995, Evaluation Review 19:547",
)
def detectable_difference(se: float, df: float, alpha: float = 0.05) -> float:
    """Smallest difference found with 80 % power at level alpha; se in the outcome's unit."""
    df = max(df, 1.0)
    return float((special.stdtrit(df, 1 - alpha / 2) + special.stdtrit(df, 0.8)) * se)


class AgainstMargin(Protocol):
    """What ``decide`` asks of a comparison: of one difference, or of the largest of many."""

    @property
    def estimate(self) -> float:
        """In the outcome's unit; the whiskers are about it."""

    @property
    def margin(self) -> float:
        """Largest immaterial difference, in the outcome's unit."""

    @property
    def p_beyond(self) -> float:
        """Two-sided p of "the difference is no larger than the margin"."""

    @property
    def p_within(self) -> float:
        """p of the one-sided tests against plus and minus the margin."""

    def thin_whisker(self, level: float) -> tuple[float, float]:
        """Its inner end is at least the margin where p_beyond <= 2 level, and only there."""

    def whisker(self, level: float) -> tuple[float, float]:
        """Lies inside the margin where p_within <= level, and only there."""


@dataclass(frozen=True)
class MarginTest:
    """One estimate with its error, its margin, and how far chance alone moves it.

    estimate, se, margin : in the outcome's unit; se > 0, margin > 0
    tails : of the signed statistic (estimate - truth) / se
    """

    estimate: float
    se: float
    margin: float
    tails: Tails

    @cached_property
    def p_beyond(self) -> float:
        p: float = p_beyond(self.estimate, self.se, self.margin, self.tails)
        return p

    @cached_property
    def p_within(self) -> float:
        p: float = p_within(self.estimate, self.se, self.margin, self.tails)
        return p

    def whisker(self, level: float) -> tuple[float, float]:
        """Interval that leaves out ``level`` on either side."""
        low = self.estimate - self.tails.upper_quantile(level) * self.se
        high = self.estimate + self.tails.lower_quantile(level) * self.se
        return low, high

    def thin_whisker(self, level: float) -> tuple[float, float]:
        """The same interval: one difference is all there is."""
        return self.whisker(level)


@STATISTICS.register(
    label="largest of many differences",
    summary="Many differences as one comparison: beyond where the largest is, within where all are.",
    formula="beyond: max (|d|−δ)/SE against max |t*|;  within: every pair passes both one-sided tests",
    source="max-t: Westfall & Young 1993, sec. 2.3; intersection–union: Berger 1982, Technometrics 24:295",
)
@dataclass(frozen=True)
class LargestDifference:
    """Many differences, each with its error, held against one margin together.

    estimates, errors : (m,) in the outcome's unit; errors > 0
    tails : of the signed statistics (estimate - truth) / error
    """

    estimates: Floats
    errors: Floats
    margin: float
    tails: ManyTails

    @cached_property
    def place(self) -> int:
        """Which of them is the largest in size; the first of those that tie."""
        return int(np.argmax(np.abs(self.estimates)))

    @property
    def estimate(self) -> float:
        return float(self.estimates[self.place])

    @cached_property
    def p_beyond(self) -> float:
        sizes = np.abs(self.estimates)
        if sizes.max() <= self.margin:
            return 1.0
        return self.tails.largest.upper_p(float(np.max((sizes - self.margin) / self.errors)))

    @cached_property
    def p_within(self) -> float:
        if np.abs(self.estimates).max() >= self.margin:
            return 1.0
        below = self.tails.lower_p((self.margin - self.estimates) / self.errors)
        above = self.tails.upper_p((self.margin + self.estimates) / self.errors)
        return float(max(below.max(), above.max()))

    def whisker(self, level: float) -> tuple[float, float]:
        """Hull of the intervals that leave out ``level`` on either side of each difference."""
        upper, lower = self.tails.quantiles(level)
        low, high = self.estimates - upper * self.errors, self.estimates + lower * self.errors
        return float(low.min()), float(high.max())

    def thin_whisker(self, level: float) -> tuple[float, float]:
        """Interval of the largest difference that holds for all of them together.

        Where another one is surer to differ, its end nearer to zero stands: the largest difference
        is no smaller than that.
        """
        reach = self.tails.largest.upper_quantile(2 * level) * self.errors
        low = float(self.estimate - reach[self.place])
        high = float(self.estimate + reach[self.place])
        surest = float(np.max(np.abs(self.estimates) - reach))
        if surest > 0:
            return (max(low, surest), high) if self.estimate > 0 else (low, min(high, -surest))
        return low, high


@STATISTICS.register(
    label="p of beyond",
    summary="How surprising so large an estimate would be if the true difference stood at the margin.",
    formula="1 if |d| ≤ δ, else min(1, 2(1 + #{t* ≥ (|d|−δ)/SE})/(B+1)), −t* where d < 0",
    source="minimum-effect test: Murphy & Myors 1999, J. Appl. Psychol. 84:234; permuted as above",
)
def p_beyond(estimate: float, se: float, margin: float, tails: Tails) -> float:
    """Two-sided p of "the difference is no larger than the margin", in [0, 1]."""
    if abs(estimate) <= margin:
        return 1.0
    t = (abs(estimate) - margin) / se
    return min(1.0, 2 * (tails.upper_p(t) if estimate > 0 else tails.lower_p(t)))


@STATISTICS.register(
    label="p of within",
    summary="The larger p of two one-sided tests: against a difference at plus, and at minus the margin.",
    formula="max{(1 + #{−t* ≥ (δ−d)/SE}), (1 + #{t* ≥ (δ+d)/SE})}/(B+1);  within: ≤ α, uncorrected",
    source="TOST: Schuirmann 1987, J. Pharmacokin. Biopharm. 15:657; intersection–union: Berger 1982, Technometrics 24:295",
)
def p_within(estimate: float, se: float, margin: float, tails: Tails) -> float:
    """p of the two one-sided tests; 1 where the estimate is not inside the margin."""
    if abs(estimate) >= margin:
        return 1.0
    return max(tails.lower_p((margin - estimate) / se), tails.upper_p((margin + estimate) / se))


@dataclass(frozen=True)
class Decision:
    """What the margin test of one planned comparison says.

    p_beyond_adjusted : Holm over all planned comparisons
    thin : interval that is the word "beyond": it stays outside the band of the margin, or not
    thick : interval that is the word "within": it lies inside the band, or not
    beyond_up_to : largest margin that ``thin`` lies beyond; 0 where it holds 0
    within_from : margins above this one hold ``thick``
    """

    word: Word
    p_beyond: float
    p_beyond_adjusted: float
    p_within: float
    thin: tuple[float, float]
    thick: tuple[float, float]

    @property
    def beyond_up_to(self) -> float:
        return max(self.thin[0], -self.thin[1], 0.0)

    @property
    def within_from(self) -> float:
        return max(-self.thick[0], self.thick[1], 0.0)


@STATISTICS.register(
    label="beyond, within, open",
    summary="Every planned comparison against its margin: beyond by Holm over all of them, within by two one-sided tests, else open.",
    formula="beyond: Holm(p_beyond, m) ≤ α;  thin = [d − Q₊(l)SE, d + Q₋(l)SE], l = α/(2m) beyond, α/(2(m−r)) else;  thick: l = α",
    source="Holm 1979, Scand. J. Statist. 6:65; Schuirmann 1987",
    caveat="The inner end of the thin whisker alone may be claimed: “even at the cautious end”.",
)
def decide(tests: Sequence[AgainstMargin | None], alpha: float = 0.05) -> list[Decision | None]:
    """The decision of each planned comparison; None for one without a number.

    tests : all planned comparisons; None for one that has no number, which counts with p = 1, so
        that leaving one out makes nothing easier
    """
    m = len(tests)
    raw = np.array([1.0 if test is None else test.p_beyond for test in tests])
    adjusted = holm(raw)
    beyond = adjusted <= alpha
    found = int(beyond.sum())
    out: list[Decision | None] = []
    for test, p, is_beyond in zip(tests, adjusted, beyond, strict=True):
        level = alpha / (2 * m) if is_beyond else alpha / (2 * (m - found))
        out.append(
            None if test is None else _decision(test, float(p), bool(is_beyond), level, alpha)
        )
    return out


def _decision(
    test: AgainstMargin, adjusted: float, is_beyond: bool, level: float, alpha: float
) -> Decision:
    near = test.p_within
    word: Word = "beyond" if is_beyond else "within" if near <= alpha else "open"
    return Decision(
        word=word,
        p_beyond=test.p_beyond,
        p_beyond_adjusted=adjusted,
        p_within=near,
        thin=_thin(test, level, is_beyond=is_beyond),
        thick=_thick(test, alpha, is_within=near <= alpha),
    )


def _thin(test: AgainstMargin, level: float, *, is_beyond: bool) -> tuple[float, float]:
    """The whisker at the level of its family; its inner end says whether it is beyond."""
    low, high = test.thin_whisker(level)
    margin = test.margin
    if is_beyond:
        return (max(low, margin), high) if test.estimate > 0 else (low, min(high, -margin))
    inside = margin * (1 - _HAIR)
    return (min(low, inside), high) if test.estimate > 0 else (low, max(high, -inside))


def _thick(test: AgainstMargin, alpha: float, *, is_within: bool) -> tuple[float, float]:
    """The whisker of the two one-sided tests; both ends inside the margin exactly where within."""
    low, high = test.whisker(alpha)
    margin, inside = test.margin, test.margin * (1 - _HAIR)
    if is_within:
        return max(low, -inside), min(high, inside)
    if -margin < low and high < margin:  # an end that ties with the margin
        return (low, margin) if margin - high < low + margin else (-margin, high)
    return low, high
