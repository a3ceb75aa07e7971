"""``Contrast``: one comparison with its numbers, the guards that can withhold it, its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradaudit.number_text import decimal
from gradaudit.records import Verdict
from gradaudit.stats import decision, multiplicity

Bools = NDArray[np.bool_]
Kind = Literal["level", "trend", "continuous", "departure", "nonlinear", "additivity"]
JOINT: tuple[Kind, ...] = ("departure", "nonlinear")
"""Kinds without an estimate: what is tested against zero has several rows, or no sign and scale."""
TEST_NAMES = {
    "permutation": "studentised permutation t",
    "sign flip": "studentised sign-flip t",
    "t": "t, HC2, Bell–McCaffrey df",
    "Fisher": "Fisher exact",
}
"""A contrast's method as reports and cards call it."""
NO_MEAN = (np.nan, np.nan, np.nan)
EXPLORATORY_PERMUTATIONS = 1999
"""Enough for intervals and signals; verdicts take the plan's number."""

MIN_PATIENTS = 10  # below: not assessed
MIN_OFF_MODE = 5.0  # expected patients away from the pooled modal value, below: not assessed
PROVISIONAL = 20  # patients; below, eight times the variance of the rest makes 5 % into 7.4 %
# Student's t instead of permutations where every side has as many patients, and as many of them
# expected away from the modal value
ANALYTIC_PATIENTS = 200
ANALYTIC_OFF_MODE = 40.0


@dataclass(frozen=True)
class Contrast:
    """One comparison; numbers are NaN where a guard withholds them, and ``reason`` says why.

    Estimates are in the outcome's unit.
    kind : what is compared:
        level : a group with its reference
        trend : slope over ordered levels, quoted from the first to the last
        continuous : slope over a number, quoted from its 10 % to its 90 % point
        departure, nonlinear : joint tests without an estimate: is it more than a line?
        additivity : a cell of two attributes with its additive prediction
      Slopes and joint tests are about everybody: all count as the group, the reference has none.
    method : "permutation", "sign flip", "t" or "Fisher"
    critical : the q of the interval estimate +- q SE
    """

    kind: Kind
    group: str
    reference: str
    n_images: int
    n_clusters: int
    n_images_reference: int
    n_clusters_reference: int
    mean: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    mean_reference: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    estimate: float = np.nan
    se: float = np.nan
    df: float = np.nan
    statistic: float = np.nan
    critical: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan
    p: float = np.nan
    p_adjusted: float = np.nan
    p_equivalence: float = np.nan
    p_equivalence_adjusted: float = np.nan
    mde80: float = np.nan
    clusters_needed: float = np.nan
    ratio: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    standardised_difference: float = np.nan
    cliffs_delta: float = np.nan
    method: str = ""
    permutations: int = 0
    verdict: Verdict = Verdict.NOT_ASSESSED
    provisional: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()


class Guarded(NamedTuple):
    """What the guards say of one comparison.

    reason : why the verdict is withheld ("" = it is not)
    provisional : a verdict on few clusters
    analytic : every side is large enough for Student's t
    """

    reason: str
    provisional: bool
    analytic: bool


def guard(
    mode_share: float, n: int, n_other: int, counted: str = "clusters on one side"
) -> Guarded:
    """Whether a comparison of ``n`` clusters with ``n_other`` can have a verdict.

    mode_share : share of the pooled modal value; it decides how many clusters could differ at all
    counted : what n and n_other are, for the reason
    """
    smaller = min(n, n_other)
    if smaller < MIN_PATIENTS:
        return Guarded(f"fewer than {MIN_PATIENTS} {counted} ({smaller})", False, False)
    # rounded: five of 25 are 5 clusters, and not the 4.999999999999999 of 25 * (1 - 0.8)
    off_mode = round(smaller * (1 - mode_share), 9)
    if off_mode == 0:
        return Guarded("every value is the same", False, False)
    if off_mode < MIN_OFF_MODE:
        below = int(10 * off_mode) / 10  # 4.96 is not called 5.0
        reason = (
            f"nearly every value is the same (only {decimal(below, 1)} clusters of the smaller side "
            f"expected to differ, {decimal(MIN_OFF_MODE, 0)} needed)"
        )
        return Guarded(reason, False, False)
    analytic = smaller >= ANALYTIC_PATIENTS and off_mode >= ANALYTIC_OFF_MODE
    return Guarded("", smaller < PROVISIONAL, analytic)


def judge(
    contrasts: Sequence[Contrast], margin: float | None, alpha: float
) -> tuple[Contrast, ...]:
    """Holm within the contrasts given (joint tests stand alone), then the verdict of each."""
    joint = [c.kind in JOINT for c in contrasts]
    p = multiplicity.holm(np.where(joint, np.nan, [c.p for c in contrasts]))
    near = multiplicity.holm(np.where(joint, np.nan, [c.p_equivalence for c in contrasts]))
    out = []
    for c, alone, own, own_near in zip(contrasts, joint, p, near, strict=True):
        adjusted = c.p if alone else c.p_adjusted if np.isfinite(c.p_adjusted) else float(own)
        limit = None if alone else margin
        verdict = decision.verdict(adjusted, float(own_near), c.ci_low, c.ci_high, limit, alpha)
        out.append(
            replace(c, p_adjusted=adjusted, p_equivalence_adjusted=float(own_near), verdict=verdict)
        )
    return tuple(out)
