"""``Contrast``: one comparison with its numbers, the guards that can withhold it, its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradaudit.number_text import decimal
from gradaudit.records import CellState
from gradaudit.stats import multiplicity
from gradaudit.stats.decision import AgainstMargin, Decision, decide, detectable_difference
from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.linear_model import Design

if TYPE_CHECKING:
    from gradaudit.subgroups.cluster_model import ClusterModel

Bools = NDArray[np.bool_]
Kind = Literal[
    "level", "pair", "trend", "curve", "continuous", "departure", "nonlinear", "additivity"
]
JOINT: tuple[Kind, ...] = ("departure", "nonlinear")
"""Kinds without an estimate: what is tested against zero has several rows, or no sign and scale."""
TWO_SIDED: tuple[Kind, ...] = ("level", "pair")
"""Kinds that compare two sets of clusters, each with a mean of its own."""
BESIDE: tuple[Kind, ...] = (*JOINT, "continuous")
"""Kinds that stand alone beside those that decide: no margin, and outside their Holm family."""
TEST_NAMES = {
    "permutation": "studentised permutation t",
    "sign flip": "studentised sign-flip t",
    "t": "t, HC2, Bell–McCaffrey df",
    "site t": "t, CR2 at the site, Bell–McCaffrey df",
    "Fisher": "Fisher exact",
}
"""A contrast's method as reports and cards call it."""
NO_MEAN = (np.nan, np.nan, np.nan)
NO_INTERVAL = (np.nan, np.nan)
NO_LIMIT = "the permuted statistics have no upper limit (too many equal values)"
CONSTANT = "every value is the same"
"""Why nothing can be tested, and why nothing needs to be: no group differs from another."""
NEARLY_CONSTANT = "nearly every value is the same"
"""How a reason begins where too few values differ for a test."""
EXPLORATORY_PERMUTATIONS = 1999
"""Enough for intervals and signals; verdicts take the plan's number."""

MIN_PATIENTS = 10  # below: not assessed
MIN_OFF_MODE = 5.0  # expected patients away from the pooled modal value, below: not assessed
PROVISIONAL = 20  # patients; below, eight times the variance of the rest makes 5 % into 7.4 %
# Student's t instead of permutations where every side has as many patients, and as many of them
# expected away from the modal value
ANALYTIC_PATIENTS = 200
ANALYTIC_OFF_MODE = 40.0


@dataclass(frozen=True, eq=False)
class Fitted:
    """The fit that an estimate comes from, so that estimates of two data sets can be compared.

    The estimate is ``weights @ (whitened y)``; its error is that of ``weights * residuals``.
    clusters : (n,) which cluster each row is, in the numbers that the comparison was given
    y : (n,) outcome of each row, as it is
    weights, residuals : (n,) whitened by the design
    flip : rows are differences inside clusters, whose signs are flipped
    by_site : sites above the clusters are the unit of the error
    """

    fit: Design
    clusters: Ints
    y: Floats
    weights: Floats
    residuals: Floats
    flip: bool
    by_site: bool

    @classmethod
    def of(cls, model: ClusterModel, row: int, *, flip: bool) -> Fitted | None:
        """The fit of one row of a model; None where the numbers of its clusters were not kept."""
        ids = model.layout.rows.ids
        if ids is None:
            return None
        return cls(
            fit=model.fit,
            clusters=ids,
            y=model.y,
            weights=model.layout.weights(model.on[row]),
            residuals=model.residuals,
            flip=flip,
            by_site=bool(model.by_site[row]),
        )


@dataclass(frozen=True)
class Contrast:
    """One comparison; numbers are NaN where a guard withholds them, and ``reason`` says why.

    Estimates are in the outcome's unit.
    kind : what is compared:
        level : a group with its reference
        pair : two levels with each other
        curve : the largest difference between two points of a smooth curve over a number
        trend : slope over ordered levels, quoted from the first to the last
        continuous : slope over a number, quoted from its 10 % to its 90 % point
        departure, nonlinear : joint tests without an estimate: is it more than a line?
        additivity : a cell of two attributes with its additive prediction
      Slopes and joint tests are about everybody: all count as the group, the reference has none.
    method : "permutation", "sign flip", "t", "site t" or "Fisher"
    critical : the q of the interval estimate +- q SE
    p, p_adjusted : of a difference at all; ``shown``: p_adjusted <= alpha
    p_beyond, p_beyond_adjusted, p_within : of the margin tests, see ``stats.decision``
    thin, thick : the whiskers that are the words "beyond" and "within"
    beyond_up_to, within_from : the same words at every other margin
    curve : (x, estimate, low, high) of the points of a curve, at mean covariates; the intervals
        are of each point alone
    adjusted_predicted : estimate, low and high at equal explained class instead of equal label;
        stands beside, and decides nothing
    margin_test : what decides the state once all planned comparisons are known
    entered : clusters of each side that the estimate rests on, where they are fewer than counted
    fitted : where the settings ask to keep it
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
    shown: bool = False
    p_beyond: float = np.nan
    p_beyond_adjusted: float = np.nan
    p_within: float = np.nan
    thin: tuple[float, float] = NO_INTERVAL
    thick: tuple[float, float] = NO_INTERVAL
    beyond_up_to: float = np.nan
    within_from: float = np.nan
    mde80: float = np.nan
    ratio: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    standardised_difference: float = np.nan
    cliffs_delta: float = np.nan
    method: str = ""
    permutations: int = 0
    state: CellState = CellState.NOT_ASSESSED
    provisional: bool = False
    reason: str = ""
    notes: tuple[str, ...] = ()
    entered: tuple[int, int] | None = None
    curve: tuple[tuple[float, float, float, float], ...] = ()
    adjusted_predicted: tuple[float, float, float] = NO_MEAN
    margin_test: AgainstMargin | None = field(default=None, repr=False, compare=False)
    fitted: Fitted | None = field(default=None, repr=False, compare=False)

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the fields that are numbers and words, in order."""
        return [f.name for f in fields(cls) if f.name not in ("margin_test", "fitted")]

    @property
    def is_constant(self) -> bool:
        """Nothing varies, so no group differs from another."""
        return CONSTANT in (self.reason, *self.notes)


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
        return Guarded(CONSTANT, smaller < PROVISIONAL, False)
    if off_mode < MIN_OFF_MODE:
        below = int(10 * off_mode) / 10  # 4.96 is not called 5.0
        reason = (
            f"{NEARLY_CONSTANT} (only {decimal(below, 1)} clusters of the smaller side "
            f"expected to differ, {decimal(MIN_OFF_MODE, 0)} needed)"
        )
        return Guarded(reason, False, False)
    analytic = smaller >= ANALYTIC_PATIENTS and off_mode >= ANALYTIC_OFF_MODE
    return Guarded("", smaller < PROVISIONAL, analytic)


def are_rare_events(values: Floats, reason: str) -> bool:
    """Whether a guard found too few values that differ, and all are shares, which can be bounded."""
    shares = bool(np.all((values >= 0) & (values <= 1)))
    return shares and reason.startswith(NEARLY_CONSTANT)


def apart_reason(names: Sequence[str], attribute: str, effective: float) -> str:
    """Why a comparison at equal ``names`` cannot be made.

    effective : patients of the smaller side that ``names`` leave free
    """
    spoken = " and ".join(name.replace("_", " ") for name in (*names, attribute))
    few = f" ({decimal(effective, 1)} effective clusters on one side, {MIN_PATIENTS} are needed)"
    return f"{spoken} cannot be told apart{few if effective else ''}"


def judge(
    contrasts: Sequence[Contrast],
    *,
    margin: float | None,
    alpha: float,
    planned: int | None = None,
) -> tuple[Contrast, ...]:
    """Holm and the margin tests over the contrasts given, but for those that stand beside.

    planned : number of comparisons planned, where it is more than those given
    """
    beside = [c.kind in BESIDE for c in contrasts]
    p = multiplicity.holm(np.where(beside, np.nan, [c.p for c in contrasts]))
    tests = [c.margin_test for c, alone in zip(contrasts, beside, strict=True) if not alone]
    missing = max(0, (planned or 0) - len(tests))
    decisions = iter(decide([*tests, *[None] * missing], alpha))
    out = []
    for c, alone, own in zip(contrasts, beside, p, strict=True):
        adjusted = c.p if alone else c.p_adjusted if np.isfinite(c.p_adjusted) else float(own)
        given = None if alone else next(decisions)
        level = alpha if alone else alpha / (len(tests) + missing)
        changes = _decided(c, given, judged=margin is not None and not alone)
        changes |= _differing(c, adjusted, alpha=alpha, level=level)
        out.append(replace(c, **changes))
    return tuple(out)


def with_difference(c: Contrast, p_adjusted: float, *, alpha: float, level: float) -> Contrast:
    """The contrast with its adjusted p of a difference, and what its family could have shown.

    level : that one comparison of the family keeps, alpha / m
    """
    return replace(c, **_differing(c, p_adjusted, alpha=alpha, level=level))


def _differing(c: Contrast, p_adjusted: float, *, alpha: float, level: float) -> dict[str, Any]:
    mde = c.mde80
    if np.isfinite(c.se) and np.isfinite(mde):
        mde = detectable_difference(c.se, c.df, level)
    shown = bool(np.isfinite(p_adjusted) and p_adjusted <= alpha)
    return {"p_adjusted": p_adjusted, "shown": shown, "mde80": mde}


def with_decision(c: Contrast, decision: Decision | None, *, judged: bool) -> Contrast:
    """The contrast with its state and its whiskers.

    judged : a margin was declared for it
    """
    changes = _decided(c, decision, judged=judged)
    return c if changes == {"state": c.state} else replace(c, **changes)


def _decided(c: Contrast, decision: Decision | None, *, judged: bool) -> dict[str, Any]:
    if not judged:
        return {"state": CellState.NOT_ASSESSED if c.reason else CellState.NOT_JUDGED}
    if c.is_constant:
        return _constant(c)
    if decision is None or (c.reason and decision.word != "within"):
        return {"state": CellState.NOT_ASSESSED}
    bound: dict[str, Any] = {}
    if c.reason:  # too few values differ for a test, and yet a bound lies within the margin
        assert c.margin_test is not None
        notes = (*c.notes, c.reason)
        bound = {"reason": "", "estimate": c.margin_test.estimate, "notes": notes}
    return {
        **bound,
        "state": CellState(decision.word),
        "p_beyond": decision.p_beyond,
        "p_beyond_adjusted": decision.p_beyond_adjusted,
        "p_within": decision.p_within,
        "thin": decision.thin,
        "thick": decision.thick,
        "beyond_up_to": decision.beyond_up_to,
        "within_from": decision.within_from,
    }


def _constant(c: Contrast) -> dict[str, Any]:
    """An outcome that is the same everywhere differs nowhere: within any margin."""
    return {
        "state": CellState.WITHIN,
        "estimate": 0.0,
        "p_within": 0.0,
        "thin": (0.0, 0.0),
        "thick": (0.0, 0.0),
        "beyond_up_to": 0.0,
        "within_from": 0.0,
        "reason": "",
        "notes": tuple(dict.fromkeys((*c.notes, CONSTANT))),
    }
