"""A contrast and its margin: equivalence statistic, smallest detectable difference, verdict."""

from __future__ import annotations

import numpy as np
from scipy import special

from gradaudit.records import Verdict
from gradaudit.stats.family import STATISTICS


@STATISTICS.register(
    label="p of equivalence",
    summary="How surprising so small an estimate would be if the true difference stood at the margin.",
    formula="p_equiv = P(|t*| ≥ (δ − |d|)/SE) if |d| < δ, else 1",
    source="two one-sided tests: Schuirmann 1987, J. Pharmacokin. Biopharm. 15:657",
    caveat="Two-sided tail on purpose: the interval of the report, not a shorter one, must lie inside the margin.",
)
def equivalence_statistic(estimate: float, se: float, margin: float) -> float | None:
    """(margin - |estimate|) / se; None where the estimate is not inside the margin.

    Then p of equivalence is 1.
    """
    return (margin - abs(estimate)) / se if abs(estimate) < margin and se > 0 else None


@STATISTICS.register(
    label="smallest detectable difference",
    summary="True difference that a study of this size would show with 80 % probability.",
    formula="MDE80 = (t_.975 + t_.80)·SE;  patients needed ≈ n_g·(MDE80/δ)²",
    source="Bloom 1995, Evaluation Review 19:547",
)
def detectable_difference(se: float, df: float, alpha: float = 0.05) -> float:
    """Smallest difference found with 80 % power at level alpha; se in the outcome's unit."""
    df = max(df, 1.0)
    return float((special.stdtrit(df, 1 - alpha / 2) + special.stdtrit(df, 0.8)) * se)


def verdict(
    p: float,
    p_equivalence: float,
    low: float,
    high: float,
    margin: float | None,
    alpha: float = 0.05,
) -> Verdict:
    """Verdict of one contrast from its adjusted p-values and its interval.

    p, p_equivalence : adjusted in their families; NaN p means that a guard withheld the verdict
    margin : largest immaterial difference, or None (then a difference is shown or not, and nothing
        is left open: no limit was set)
    """
    if not np.isfinite(p):
        return Verdict.NOT_ASSESSED
    shown = p <= alpha
    if margin is None:
        return Verdict.SHOWN if shown else Verdict.NOT_SHOWN
    equivalent = np.isfinite(p_equivalence) and p_equivalence <= alpha
    if shown and (low > margin or high < -margin):
        return Verdict.MATERIAL
    if shown:
        return Verdict.WITHIN_MARGIN if equivalent else Verdict.SIZE_UNCERTAIN
    return Verdict.EQUIVALENT if equivalent else Verdict.INCONCLUSIVE
