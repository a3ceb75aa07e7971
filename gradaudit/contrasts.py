"""From hypotheses to contrasts: one model of patient rows, every question in it tested with one reference distribution.

``subgroups`` says who is compared with whom; here a comparison is a linear function of the model (``Hypothesis``) and
comes back as a ``Contrast`` with estimate, interval, p, equivalence and effect sizes; ``judge`` adds Holm and verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special
from scipy.stats import fisher_exact, rankdata

from gradaudit import stats
from gradaudit.records import Verdict
from gradaudit.stats import Floats, Ints

Bools = NDArray[np.bool_]
Kind = Literal["level", "trend", "continuous", "departure", "nonlinear", "additivity"]
JOINT: tuple[Kind, ...] = ("departure", "nonlinear")
"""Kinds without an estimate: several rows, or one whose sign and scale mean nothing, are tested together against zero."""
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
ANALYTIC_PATIENTS, ANALYTIC_OFF_MODE = 200, 40.0  # on every side: Student's t instead of permutations
PERMUTED_PATIENTS = 4000  # above, large groups are sampled for the reference distribution (never for the estimate)
MAX_T_PATIENTS = 40


@dataclass(frozen=True)
class Contrast:
    """One comparison. Estimates are in the outcome's unit; NaN where a guard withholds them, with ``reason``.

    kind : level (group against reference), trend (slope, first to last level), continuous (slope, P10 to P90),
    departure and nonlinear (joint tests without an estimate), additivity (cell against its additive prediction).
    Slopes and joint tests belong to everybody: all are counted as the group, and the reference has none.
    method : "permutation", "sign flip", "t" or "Fisher"; ``critical`` is the q of the interval estimate +- q SE.
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


@dataclass(frozen=True)
class Patients:
    """One row per patient: means over its images; ``images``: how many."""

    y: Floats
    codes: Ints
    x: Floats
    size: Floats | None
    z: Floats
    images: Ints

    @cached_property
    def pooled_mode_share(self) -> float:
        return stats.mode_share(self.y)

    def mode_share(self, rows: Bools) -> float:
        """Share of the modal value among some rows (computed once where they are all rows)."""
        return self.pooled_mode_share if rows.all() else stats.mode_share(self.y[rows])

    def keep(self, rows: Bools | Ints) -> Patients:
        size = None if self.size is None else self.size[rows]
        return Patients(self.y[rows], self.codes[rows], self.x[rows], size, self.z[rows], self.images[rows])


@dataclass(frozen=True)
class Hypothesis:
    """A linear function of a model, with the contrast that it will complete and the two sides that it compares.

    on_levels : (G,) or (q, G) coefficients of the level effects      on_columns : (k,) or (q, k) of the covariate columns
    q > 1 rows are tested together (Wald).      analytic : every side is large enough for Student's t
    """

    contrast: Contrast
    on_levels: Floats
    on_columns: Floats
    sides: tuple[Bools, Bools] | None
    analytic: bool


def guard(mode_share: float, n: int, n_other: int, counted: str = "clusters on one side") -> tuple[str, bool, bool]:
    """Reason to withhold the verdict ("" = none), whether it is provisional, whether Student's t will do.

    mode_share : of the pooled sides; it decides how many patients could show a difference at all
    counted : what n and n_other are, for the reason
    """
    smaller = min(n, n_other)
    if smaller < MIN_PATIENTS:
        return f"fewer than {MIN_PATIENTS} {counted} ({smaller})", False, False
    off_mode = round(smaller * (1 - mode_share), 9)  # five of 25 are 5 clusters, and not the 4.999999999999999 of 25 * (1 - 0.8)
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


@dataclass(frozen=True)
class ImageRows:
    """Image rows of one model, sorted by cluster, for estimates with unit="image"."""

    y: Floats
    codes: Ints
    z: Floats
    clusters: Ints


@dataclass(frozen=True)
class _Fitted:
    """One model with every row of every hypothesis estimated in it (``spans``: which rows belong to which hypothesis)."""

    fit: stats.Design
    y: Floats
    strata: Ints
    columns: Floats
    order: Ints
    residuals: Floats
    on: list[tuple[Floats, Floats]]
    estimates: Floats
    covariance: Floats
    se: Floats
    df: Floats
    spans: list[tuple[int, int]]

    @cached_property
    def centre(self) -> Floats:
        """Mean of every kept covariate column: where adjusted means are taken."""
        return np.asarray(self.columns.mean(axis=0)) if self.columns.size else np.empty(0)

    @cached_property
    def adjusted(self) -> Floats:
        """Values moved to the mean covariates, (n,)."""
        return np.asarray(self.y - (self.columns - self.centre) @ self.fit.slopes(self.y))

    @cached_property
    def rankable(self) -> Floats:
        """Adjusted values without their last digits: what is a tie by construction must not be told apart by rounding."""
        return np.asarray(np.round(self.adjusted, 12))

    @cached_property
    def ranks(self) -> Floats:
        return np.asarray(rankdata(self.rankable))

    @cached_property
    def spread(self) -> float:
        """Residual standard deviation."""
        return float(np.sqrt(np.sum(self.residuals**2) / (len(self.y) - len(self.fit.counts) - len(self.fit.kept))))

    def cliffs_delta(self, a: Bools, b: Bools) -> float:
        """Cliff's delta of adjusted values; two sides that are everybody share one ranking."""
        if not (a | b).all():
            return float(stats.cliffs_delta(self.rankable[a], self.rankable[b]))
        n, m = int(a.sum()), int(b.sum())
        return float(2 * (self.ranks[a].sum() - n * (n + 1) / 2) / (n * m) - 1)


def estimate_all(
    patients: Patients, codes: Ints, columns: Floats, hypotheses: list[Hypothesis], ask: Settings, *,
    flip: bool = False, images: ImageRows | None = None,
) -> list[Contrast]:  # fmt: skip
    """Fit one model, test every hypothesis in it. codes : (n,) model levels      columns : (n, k) covariates"""
    model = _fit(patients, codes, columns, hypotheses, images)
    if isinstance(model, str):
        return [replace(h.contrast, reason=model, provisional=False) for h in hypotheses]
    spread = float(np.std(model.y)) * np.sqrt([max(abs(lv).max() ** 2, 1e-300) for lv, _ in model.on]) / np.sqrt(len(model.y))
    solid = [bool(np.all(model.se[a:b] > 1e-9 * spread[a:b])) for a, b in model.spans]
    easy = [
        ask.analytic or (h.analytic and bool(np.min(model.df[a:b]) >= ANALYTIC_PATIENTS / 2))
        for h, (a, b) in zip(hypotheses, model.spans, strict=True)
    ]
    drawn = [ok and not t for ok, t in zip(solid, easy, strict=True)]
    joint = [list(range(a, b)) for (a, b), draw in zip(model.spans, drawn, strict=True) if draw and b - a > 1]
    reference, walds = _reference(model, joint, ask, flip) if any(drawn) else (np.empty((0, 0)), [])
    out, left = [], iter(walds)
    for h, (a, b), ok, draw in zip(hypotheses, model.spans, solid, drawn, strict=True):
        if not ok:
            out.append(_separated(h, model, ask))
        elif b - a > 1 or h.contrast.kind in JOINT:
            alone = reference[:, a] ** 2 if draw and b - a == 1 else None  # with one row, Wald's statistic is t squared
            out.append(_joint(h.contrast, model, slice(a, b), next(left) if draw and alone is None else alone))
        else:
            tested = _tested(h.contrast, model, a, reference[:, a] if draw else None, ask, flip)
            out.append(_with_effects(tested, model, h) if h.sides is not None else tested)
    return _max_t(out, reference, model, ask) if ask.correction == "max-t" and all(drawn) else out


def _fit(patients: Patients, codes: Ints, columns: Floats, hypotheses: list[Hypothesis], images: ImageRows | None) -> _Fitted | str:
    """The model, or the reason why it cannot be estimated."""
    y, strata, order = patients.y, patients.codes, np.empty(0, dtype=np.int64)
    if len(y) <= PERMUTED_PATIENTS:  # p must not depend on the order of rows
        order = np.lexsort((*columns.T, y, codes))
        y, strata, codes, columns = y[order], strata[order], codes[order], columns[order]
    fit = stats.design(codes, columns)
    if len(y) - len(fit.counts) - len(fit.kept) < MIN_PATIENTS // 2:
        return "too few clusters for the covariates"
    kept = list(fit.kept)
    on = [(lv, cv) for h in hypotheses for lv, cv in zip(np.atleast_2d(h.on_levels), np.atleast_2d(h.on_columns), strict=True)]
    if any(np.any(np.delete(cv, kept)) for _, cv in on):
        return "determined by the other columns of the model"
    on = [(lv, cv[kept]) for lv, cv in on]
    residuals = fit.residuals(y)
    weights = np.column_stack([fit.row_weights(lv, cv) for lv, cv in on])
    estimates, covariance = weights.T @ y, stats.hc2(fit, residuals, weights)
    ends = np.cumsum([0, *(len(np.atleast_2d(h.on_levels)) for h in hypotheses)]).tolist()
    spans = list(pairwise(ends))
    df = np.full(len(on), float(len(y) - len(fit.counts) - len(kept)))  # joint tests take the residual degrees of freedom
    singles = [a for a, b in spans if b - a == 1]
    df[singles] = stats.bell_mccaffrey(fit, weights[:, singles])
    se = np.sqrt(np.diag(covariance))
    if images is not None:
        estimates, se, df = _image_estimates(images, kept, on)
    return _Fitted(fit, y, strata, columns[:, kept], order, residuals, on, estimates, covariance, se, df, spans)


def _image_estimates(images: ImageRows, kept: list[int], on: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats, Floats]:
    """Estimates, CR2 errors and df on image rows weighted 1/n_patient (each patient counts once, covariates stay per image)."""
    root = 1 / np.sqrt(np.bincount(images.clusters)[images.clusters])
    levels = images.codes[:, None] == np.arange(len(on[0][0]))
    q, r = np.linalg.qr(root[:, None] * np.hstack([levels, images.z[:, kept]]))
    y = root * images.y
    residuals = y - q @ (q.T @ y)
    weights = [q @ np.linalg.solve(r.T, np.r_[lv, cv]) for lv, cv in on]
    errors = [stats.cr2(q, residuals, w, images.clusters) for w in weights]
    return np.array([w @ y for w in weights]), np.array([e[0] for e in errors]), np.array([e[1] for e in errors])


def _reference(model: _Fitted, joint: list[list[int]], ask: Settings, flip: bool) -> tuple[Floats, list[Floats]]:
    """Reference distribution of every row; above 4000 patients from all of the small levels and a sample of the large ones."""
    fit, residuals = model.fit, model.residuals
    if len(model.y) > PERMUTED_PATIENTS:
        rows = _sampled(model, ask.seed)
        fit, residuals = stats.design(fit.codes[rows], model.columns[rows], len(fit.counts)), residuals[rows]
    weights = np.column_stack([fit.row_weights(lv, cv[list(fit.kept)] if len(fit.kept) < len(cv) else cv) for lv, cv in model.on])
    count = max(ask.permutations, 80 * max(ask.family or 0, sum(b - a == 1 for a, b in model.spans)))
    draws: tuple[Floats, list[Floats]] = stats.reference_t(fit, residuals, weights, count, ask.seed, flip=flip, joint=joint)
    return draws


def _sampled(model: _Fitted, seed: int) -> Ints:
    """Rows of a sample of 4000: every level keeps up to a common cap, so small levels stay whole; row order does not matter."""
    order = np.lexsort((*model.columns.T, model.y, model.strata))
    counts = np.bincount(model.strata)
    low, high = 0, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(counts, middle).sum() <= PERMUTED_PATIENTS else (low, middle - 1)
    rng = np.random.default_rng((seed, len(order)))
    ends = np.cumsum(counts)
    picks = [order[end - n + np.sort(rng.permutation(n)[:low])] for end, n in zip(ends, counts, strict=True) if n]
    return np.concatenate(picks)


def _tested(contrast: Contrast, model: _Fitted, row: int, draws: Floats | None, ask: Settings, flip: bool) -> Contrast:
    """p, interval and equivalence from one distribution of |t|: permuted (``draws``) or Student's."""
    estimate, se, df = float(model.estimates[row]), float(model.se[row]), float(model.df[row])
    t = estimate / se
    near = None if ask.margin is None else stats.equivalence_statistic(estimate, se, ask.margin)
    if draws is None:
        p, q = 2 * float(special.stdtr(df, -abs(t))), float(special.stdtrit(df, 1 - ask.alpha / 2))
        p_near = 1.0 if near is None else 2 * float(special.stdtr(df, -near))
    else:
        p, q = stats.p_value(t, draws), stats.critical_value(draws, ask.alpha)
        p_near = 1.0 if near is None else stats.p_value(near, draws)
    mde = stats.detectable_difference(se, df, ask.alpha)
    if not np.isfinite(q):
        return replace(contrast, reason="the permuted statistics have no upper limit (too many equal values)", provisional=False)
    return replace(
        contrast, estimate=estimate, se=se, df=df, statistic=t, critical=q, ci_low=estimate - q * se, ci_high=estimate + q * se, p=p,
        p_equivalence=np.nan if ask.margin is None else p_near, mde80=mde,
        clusters_needed=np.nan if ask.margin is None else float(np.ceil(contrast.n_clusters * (mde / ask.margin) ** 2)),
        method="t" if draws is None else "sign flip" if flip else "permutation", permutations=0 if draws is None else len(draws),
    )  # fmt: skip


def _separated(h: Hypothesis, model: _Fitted, ask: Settings) -> Contrast:
    """Where no patient differs from its own level, there is no error to study: an outcome of two values has an exact test.

    p by Fisher 1935; the interval adds one patient of each value to both sides (Agresti & Caffo 2000, Am. Stat. 54:280).
    """
    values = np.unique(np.round(model.y, 12))
    if h.sides is None or h.contrast.kind != "level" or len(values) != 2:
        return replace(h.contrast, reason="no value differs inside the groups", provisional=False)
    low, span = float(values[0]), float(values[1] - values[0])
    sides = [(side[model.order] if model.order.size else side) for side in h.sides]
    hits, sizes = [int(np.sum(model.y[side] > low + span / 2)) for side in sides], [int(side.sum()) for side in sides]
    p = float(fisher_exact([hits, [n - k for n, k in zip(sizes, hits, strict=True)]]).pvalue)
    rates = [(k + 1) / (n + 2) for k, n in zip(hits, sizes, strict=True)]
    se = span * float(np.sqrt(sum(r * (1 - r) / (n + 2) for r, n in zip(rates, sizes, strict=True))))
    q, centre = float(special.ndtri(1 - ask.alpha / 2)), span * (rates[0] - rates[1])
    estimate = span * (hits[0] / sizes[0] - hits[1] / sizes[1])
    return replace(
        h.contrast, estimate=estimate, se=se, critical=q, ci_low=centre - q * se, ci_high=centre + q * se, p=p,
        p_equivalence=np.nan if ask.margin is None else 1.0, method="Fisher",
        notes=(*h.contrast.notes, "every patient has the value of its own level: exact test, without adjustment"),
    )  # fmt: skip


def _joint(contrast: Contrast, model: _Fitted, rows: slice, draws: Floats | None) -> Contrast:
    """Wald test of several rows at once: permuted, or W/q against F(q, residual df)."""
    value = float(stats.wald(model.estimates[None, rows], model.covariance[None, rows, rows])[0])
    q = rows.stop - rows.start
    if not np.isfinite(value):
        return replace(contrast, reason="every value is the same in a level", provisional=False)
    p = float(special.fdtrc(q, float(np.min(model.df[rows])), value / q)) if draws is None else stats.p_value(value, draws)
    return replace(
        contrast, statistic=value, df=float(q), p=p, method="t" if draws is None else "permutation", permutations=0 if draws is None else len(draws)
    )


def _with_effects(contrast: Contrast, model: _Fitted, hypothesis: Hypothesis) -> Contrast:
    """Ratio of adjusted means, standardised difference, Cliff's delta on values adjusted to the mean covariates."""
    if contrast.reason or hypothesis.sides is None:
        return contrast
    fit, on = model.fit, hypothesis.on_levels
    ratio, delta = contrast.ratio, np.nan
    if contrast.kind == "level":
        both = np.column_stack([fit.row_weights(np.maximum(on, 0), model.centre), fit.row_weights(np.maximum(-on, 0), model.centre)])
        ratio = stats.ratio_of_means(both.T @ model.y, stats.hc2(fit, model.residuals, both), contrast.critical)
        a, b = (side[model.order] if model.order.size else side for side in hypothesis.sides)
        delta = model.cliffs_delta(a, b)
    standardised = contrast.estimate / model.spread if model.spread > 0 else np.nan
    return replace(contrast, ratio=ratio, standardised_difference=standardised, cliffs_delta=delta)


def _max_t(contrasts: list[Contrast], reference: Floats, model: _Fitted, ask: Settings) -> list[Contrast]:
    """Family-wise p from the largest |t*|, where every level has 40 patients; otherwise Holm stays."""
    singles = [(i, a) for i, (a, b) in enumerate(model.spans) if b - a == 1]
    if ask.order is not None or model.fit.counts.min() < MAX_T_PATIENTS:
        return contrasts
    rows = [a for _, a in singles]
    adjusted = stats.max_t(np.abs(model.estimates[rows] / model.se[rows]), reference[:, rows])
    by_index = {i: float(p) for (i, _), p in zip(singles, adjusted, strict=True)}
    return [replace(c, p_adjusted=by_index.get(i, c.p_adjusted)) for i, c in enumerate(contrasts)]


def judge(contrasts: Sequence[Contrast], margin: float | None, alpha: float) -> tuple[Contrast, ...]:
    """Holm within the contrasts given (joint tests stand alone), then the verdict of each."""
    joint = [c.kind in JOINT for c in contrasts]
    p = stats.holm([np.nan if j else c.p for c, j in zip(contrasts, joint, strict=True)])
    near = stats.holm([np.nan if j else c.p_equivalence for c, j in zip(contrasts, joint, strict=True)])
    out = []
    for c, alone, own, own_near in zip(contrasts, joint, p, near, strict=True):
        adjusted = c.p if alone else c.p_adjusted if np.isfinite(c.p_adjusted) else float(own)
        limit = None if alone else margin
        verdict = stats.verdict(adjusted, float(own_near), c.ci_low, c.ci_high, limit, alpha)
        out.append(replace(c, p_adjusted=adjusted, p_equivalence_adjusted=float(own_near), verdict=verdict))
    return tuple(out)
