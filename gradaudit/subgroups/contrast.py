"""``Contrast``: one comparison with its numbers; the guards and settings it was made under, and its
judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradaudit.records import Verdict
from gradaudit.stats import decision, multiplicity

Bools = NDArray[np.bool_]
Kind = Literal["level", "trend", "continuous", "departure", "nonlinear", "additivity"]
JOINT: tuple[Kind, ...] = ("departure", "nonlinear")
"""Kinds without an estimate: several rows, or one whose sign and scale mean nothing, are tested
together against zero.
"""
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
ANALYTIC_PATIENTS, ANALYTIC_OFF_MODE = (
    200,
    40.0,
)  # on every side: Student's t instead of permutations


@dataclass(frozen=True)
class Contrast:
    """One comparison. Estimates are in the outcome's unit; NaN where a guard withholds them, with
    ``reason``.

    kind : level (group against reference), trend (slope, first to last level), continuous (slope,
        P10 to P90),
    departure and nonlinear (joint tests without an estimate), additivity (cell against its additive
    prediction). Slopes and joint tests belong to everybody: all are counted as the group, and the
    reference has none.
    method : "permutation", "sign flip", "t" or "Fisher"; ``critical`` is the q of the interval
        estimate +- q SE.
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


@dataclass(frozen=True)
class Settings:
    """The settings of one call of ``subgroups.disparity``; see there."""

    reference: str
    order: tuple[str, ...] | None
    continuous: bool
    margin: float | None
    alpha: float
    permutations: int
    seed: int
    within: bool | None
    family: int | None
    unit: str
    correction: str
    omnibus: bool
    analytic: bool
    paired: bool
    crossed: bool = False


def guard(
    mode_share: float, n: int, n_other: int, counted: str = "clusters on one side"
) -> tuple[str, bool, bool]:
    """Reason to withhold the verdict ("" = none), whether it is provisional, whether Student's t
    will do.

    mode_share : of the pooled sides; it decides how many patients could show a difference at all
    counted : what n and n_other are, for the reason
    """
    smaller = min(n, n_other)
    if smaller < MIN_PATIENTS:
        return f"fewer than {MIN_PATIENTS} {counted} ({smaller})", False, False
    off_mode = round(
        smaller * (1 - mode_share), 9
    )  # five of 25 are 5 clusters, and not the 4.999999999999999 of 25 * (1 - 0.8)
    if off_mode == 0:
        return "every value is the same", False, False
    if off_mode < MIN_OFF_MODE:
        below = int(10 * off_mode) / 10  # 4.96 is not called 5.0
        return (
            f"nearly every value is the same (only {below:.1f} clusters of the smaller side expected to differ, {MIN_OFF_MODE:.0f} needed)",
            False,
            False,
        )
    return "", smaller < PROVISIONAL, smaller >= ANALYTIC_PATIENTS and off_mode >= ANALYTIC_OFF_MODE


def judge(
    contrasts: Sequence[Contrast], margin: float | None, alpha: float
) -> tuple[Contrast, ...]:
    """Holm within the contrasts given (joint tests stand alone), then the verdict of each."""
    joint = [c.kind in JOINT for c in contrasts]
    p = multiplicity.holm([np.nan if j else c.p for c, j in zip(contrasts, joint, strict=True)])
    near = multiplicity.holm(
        [np.nan if j else c.p_equivalence for c, j in zip(contrasts, joint, strict=True)]
    )
    out = []
    for c, alone, own, own_near in zip(contrasts, joint, p, near, strict=True):
        adjusted = c.p if alone else c.p_adjusted if np.isfinite(c.p_adjusted) else float(own)
        limit = None if alone else margin
        verdict = decision.verdict(adjusted, float(own_near), c.ci_low, c.ci_high, limit, alpha)
        out.append(
            replace(c, p_adjusted=adjusted, p_equivalence_adjusted=float(own_near), verdict=verdict)
        )
    return tuple(out)
