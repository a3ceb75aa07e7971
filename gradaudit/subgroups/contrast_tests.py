"""From hypotheses to contrasts: every hypothesis of one model is tested and measured.

``estimate_all`` takes model rows with their hypotheses and completes the contrast of each:
estimate, interval, p, margin test and effect sizes.  ``contrast.judge`` adds Holm and the states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import special
from scipy.stats import fisher_exact

from gradaudit.stats import effect_sizes, multiplicity, permutation
from gradaudit.stats.decision import MarginTest, detectable_difference
from gradaudit.stats.family import Floats
from gradaudit.stats.rare_outcomes import agresti_caffo
from gradaudit.stats.tails import MOST_SKEWED, PermutedTails, SkewedT, Tails
from gradaudit.subgroups.cluster_model import (
    MIN_SITES,
    TOO_FEW,
    ClusterModel,
    Layout,
    fit_model,
    lay_out,
    reference_distribution,
    sites_compared,
)
from gradaudit.subgroups.contrast import (
    ANALYTIC_PATIENTS,
    JOINT,
    MIN_PATIENTS,
    NO_LIMIT,
    PROVISIONAL,
    TWO_SIDED,
    Contrast,
    Fitted,
    apart_reason,
)
from gradaudit.subgroups.model_rows import Hypothesis, ModelRows, with_weights_said
from gradaudit.subgroups.settings import Settings

MAX_T_PATIENTS = 40


@dataclass(frozen=True)
class Reference:
    """Distribution of a statistic under the null hypothesis.

    draws : (B,) permuted t* with sign, or Wald statistics; None: Student's t with ``df`` (joint
        tests: F)
    method : "permutation", "sign flip" or "t"
    skewness : of the estimate; leans the tails of Student's t
    """

    draws: Floats | None
    df: float
    method: str
    skewness: float = 0.0

    @cached_property
    def sizes(self) -> Floats:
        """(B,) of |t*|"""
        assert self.draws is not None
        return np.abs(self.draws)

    @property
    def tails(self) -> Tails:
        """Both tails of the signed statistic."""
        if self.draws is None:
            return SkewedT(self.df, self.skewness)
        return PermutedTails(self.draws.copy())

    @property
    def permutations(self) -> int:
        return 0 if self.draws is None else len(self.draws)

    def p(self, t: float) -> float:
        """Two-sided p of a t statistic."""
        if self.draws is None:
            return 2 * float(special.stdtr(self.df, -abs(t)))
        return float(permutation.p_value(t, self.sizes))

    def critical(self, alpha: float) -> float:
        """The |t| that is exceeded with probability alpha."""
        if self.draws is None:
            return float(special.stdtrit(self.df, 1 - alpha / 2))
        return float(permutation.critical_value(self.sizes, alpha))

    def joint_p(self, wald: float, rows: int) -> float:
        """p of a Wald statistic of several rows."""
        if self.draws is None:
            return float(special.fdtrc(rows, self.df, wald / rows))
        return float(permutation.p_value(wald, self.draws))


def estimate_all(
    rows: ModelRows, hypotheses: Sequence[Hypothesis], settings: Settings
) -> list[Contrast]:
    """Fit one model and test every hypothesis in it that the data can tell from what is held equal.

    The others have no number, and the reason says what they cannot be told apart from.  Where rows
    have weights, those hypotheses that cannot rely on them are tested without (all of them where
    one cannot and p is of the largest t, which is of one model).
    """
    if rows.weights is None:
        return _all_of_one_model(rows, hypotheses, settings)
    layout = lay_out(rows)
    own = [rows_for(h, rows, layout) for h in hypotheses]
    unweighted = replace(rows, weights=None)
    if settings.correction == "max-t" and any(r is not rows for r in own):
        own = [unweighted] * len(own)
    # either model takes as many permutations as one of all would
    planned = max(settings.family or 0, sum(len(h.coefficients) == 1 for h in hypotheses))
    settings = replace(settings, family=planned)
    out = [h.contrast for h in hypotheses]
    for model_rows, places in (
        (rows, [i for i, r in enumerate(own) if r is rows]),
        (unweighted, [i for i, r in enumerate(own) if r is not rows]),
    ):
        asked = [hypotheses[i] for i in places]
        found = _all_of_one_model(model_rows, asked, settings) if asked else []
        for i, contrast in zip(places, found, strict=True):
            out[i] = contrast if hypotheses[i].once else with_weights_said(contrast, model_rows)
    return out


def rows_for(hypothesis: Hypothesis, rows: ModelRows, layout: Layout | None) -> ModelRows:
    """The rows, without their weights where a hypothesis cannot rely on these.

    They would leave under twenty effective patients on a side, so that the error of the estimate
    rests on few, or the hypothesis asks for patients that count once.
    layout : of these rows
    """
    if rows.weights is None:
        return rows
    if not hypothesis.once and _effective(hypothesis, layout) >= PROVISIONAL:
        return rows
    return replace(rows, weights=None)


def _all_of_one_model(
    rows: ModelRows, hypotheses: Sequence[Hypothesis], settings: Settings
) -> list[Contrast]:
    layout = lay_out(rows)
    if layout is not None and len(layout.rows.y) == len(rows.y) and layout.has_few_rows:
        return [replace(h.contrast, reason=TOO_FEW, provisional=False) for h in hypotheses]
    out = [with_standing(h, rows, layout, settings) for h in hypotheses]
    open_ones = [i for i, contrast in enumerate(out) if not contrast.reason]
    if layout is None or not open_ones:
        return out
    asked = [replace(hypotheses[i], contrast=out[i]) for i in open_ones]
    for i, contrast in zip(open_ones, _estimated(rows, layout, asked, settings), strict=True):
        out[i] = contrast
    return out


def _estimated(
    rows: ModelRows, layout: Layout, hypotheses: Sequence[Hypothesis], settings: Settings
) -> list[Contrast]:
    model = fit_model(layout, hypotheses)
    if isinstance(model, str):
        return [replace(h.contrast, reason=model, provisional=False) for h in hypotheses]
    solid = [bool(np.all(model.has_error[a:b])) for a, b in model.spans]
    drawn = []
    for h, (a, b), has_error in zip(hypotheses, model.spans, solid, strict=True):
        enough_df = bool(np.min(model.df[a:b]) >= ANALYTIC_PATIENTS / 2)
        even = bool(np.max(np.abs(model.skewness[a:b])) <= MOST_SKEWED)
        analytic = settings.analytic or (h.analytic and enough_df and even)
        drawn.append(has_error and not analytic and not model.by_site[a])
    t, each = _draws(rows, model, hypotheses, drawn, settings)
    out = []
    for h, span, has_error, draws in zip(hypotheses, model.spans, solid, each, strict=True):
        if has_error:
            out.append(_tested(h, model, span, draws, settings, flip=rows.flip))
        else:
            out.append(_separated(h, model, settings))
    return _max_t(out, t, model, settings) if settings.correction == "max-t" and all(drawn) else out


# ── what was held equal ───────────────────────────────────────────────────────────────────────────


def with_standing(
    hypothesis: Hypothesis, rows: ModelRows, layout: Layout | None, settings: Settings
) -> Contrast:
    """The contrast, with a reason where it cannot be told apart from what is held equal.

    "At equal X" is said only where either side has ten patients' worth of rows that X leaves free
    (twenty, or it is provisional).  The reason names each covariate without which there would be
    so many; where none does alone, all of them.
    """
    contrast = hypothesis.contrast
    if not rows.names or contrast.reason:
        return contrast
    effective = _effective(hypothesis, layout)
    if effective < MIN_PATIENTS:
        names = [name for name in rows.names if _is_free(hypothesis, rows, (name,))]
        if names or _is_free(hypothesis, rows, rows.names):
            reason = apart_reason(names or rows.names, settings.attribute, effective)
            return replace(contrast, reason=reason, provisional=False)
        if effective == 0:
            return replace(contrast, reason="determined by the other columns of the model")
    if effective < PROVISIONAL and not contrast.provisional:
        contrast = replace(contrast, provisional=True)
    return _with_those_who_entered(contrast, hypothesis, rows, layout)


def _effective(hypothesis: Hypothesis, layout: Layout | None) -> float:
    """Effective patients of the smaller side: (sum |w|)^2 / sum w^2 over its row weights.

    0 where the comparison is aliased, infinite where it has no sides (joint tests, additivity).  A
    slope's sides are the rows of positive and of negative weight.  Source: Kish 1965.
    """
    if layout is None or not all(layout.is_estimable(row) for row in hypothesis.coefficients):
        return 0.0
    kind = hypothesis.contrast.kind
    if kind in (*JOINT, "additivity") or layout.rows.flip:
        return float("inf")
    weights = layout.fit.whitened(layout.weights(hypothesis.coefficients[0]))
    sides = [weights > 0, weights < 0]
    if hypothesis.sides is not None:
        sides = [layout.moved(side) for side in hypothesis.sides]
    return min(effective_number(weights[side]) for side in sides)


def effective_number(weights: Floats) -> float:
    """Patients of equal weight that would tell as much; 0 without weights."""
    squares = float(weights @ weights)
    return round(float(np.abs(weights).sum()) ** 2 / squares, 9) if squares > 0 else 0.0


def _is_free(hypothesis: Hypothesis, rows: ModelRows, names: Sequence[str]) -> bool:
    """Whether the comparison would have enough patients if these were not held equal."""
    left = np.array([owner not in names for owner in rows.owners], dtype=bool)
    for name in names:
        rows = rows.without(name)
    columns = np.atleast_2d(hypothesis.on_columns)
    if len(left) == columns.shape[1]:
        hypothesis = replace(hypothesis, on_columns=columns[:, left])
        if len(columns) == 1:
            hypothesis = replace(hypothesis, on_columns=columns[0, left])
    return _effective(hypothesis, lay_out(rows)) >= MIN_PATIENTS


def _with_those_who_entered(
    contrast: Contrast, hypothesis: Hypothesis, rows: ModelRows, layout: Layout | None
) -> Contrast:
    """The contrast with the patients that a slope rests on, and the sites that it is about."""
    if layout is None:
        return contrast
    n = len(layout.rows.y)
    if contrast.entered is None and hypothesis.sides is None and n < len(rows.y):
        contrast = replace(contrast, entered=(n, 0))
    sites = sites_compared(layout, hypothesis)
    if 0 < sites < MIN_SITES:
        contrast = replace(contrast, notes=(*contrast.notes, f"in these hospitals ({sites})"))
    return contrast


def _draws(
    rows: ModelRows,
    model: ClusterModel,
    hypotheses: Sequence[Hypothesis],
    drawn: list[bool],
    settings: Settings,
) -> tuple[Floats, list[Floats | None]]:
    """Permuted t* of all rows, (B, m), and what each hypothesis is compared with.

    drawn : which hypotheses need permutations; the others have None
    """
    if not any(drawn):
        return np.empty((0, 0)), [None] * len(drawn)
    joint = []
    for (a, b), draw in zip(model.spans, drawn, strict=True):
        if draw and b - a > 1:
            joint.append(list(range(a, b)))
    t, walds = reference_distribution(model, joint, settings, flip=rows.flip)
    left, each = iter(walds), list[Floats | None]()
    for h, (a, b), draw in zip(hypotheses, model.spans, drawn, strict=True):
        if not draw:
            each.append(None)
        elif b - a > 1:
            each.append(next(left))
        else:  # with one row, Wald's statistic is t squared
            each.append(t[:, a] ** 2 if h.contrast.kind in JOINT else t[:, a])
    return t, each


def _tested(
    hypothesis: Hypothesis,
    model: ClusterModel,
    span: tuple[int, int],
    draws: Floats | None,
    settings: Settings,
    *,
    flip: bool,
) -> Contrast:
    """The contrast of a hypothesis: one row by t, with effect sizes, several by Wald's test."""
    a, b = span
    if b - a > 1 or hypothesis.contrast.kind in JOINT:
        method = "t" if draws is None else "permutation"
        reference = Reference(draws, float(np.min(model.df[a:b])), method)
        return _joint(hypothesis.contrast, model, slice(a, b), reference)
    method = "t" if draws is None else "sign flip" if flip else "permutation"
    if model.by_site[a]:
        method = "site t"
    reference = Reference(draws, float(model.df[a]), method, float(model.skewness[a]))
    contrast = _single(hypothesis.contrast, model, a, reference, settings)
    if settings.keep_fit:
        contrast = replace(contrast, fitted=Fitted.of(model, a, flip=flip))
    if contrast.reason or hypothesis.sides is None or not settings.effects:
        return contrast
    return _with_effects(contrast, model, hypothesis)


# ── one row ───────────────────────────────────────────────────────────────────────────────────────


def _single(
    contrast: Contrast, model: ClusterModel, row: int, reference: Reference, settings: Settings
) -> Contrast:
    """p, interval and margin test from one distribution of t."""
    estimate, se = float(model.estimates[row]), float(model.se[row])
    q = reference.critical(settings.alpha)
    if not np.isfinite(q):
        return replace(contrast, reason=NO_LIMIT, provisional=False)
    test = None
    if settings.margin is not None:
        test = MarginTest(estimate, se, settings.margin, reference.tails)
    return replace(
        contrast,
        estimate=estimate,
        se=se,
        df=reference.df,
        statistic=estimate / se,
        critical=q,
        ci_low=estimate - q * se,
        ci_high=estimate + q * se,
        p=reference.p(estimate / se),
        mde80=detectable_difference(se, reference.df, settings.alpha),
        method=reference.method,
        permutations=reference.permutations,
        margin_test=test,
    )


def _with_effects(contrast: Contrast, model: ClusterModel, hypothesis: Hypothesis) -> Contrast:
    """Standardized difference; of a level also the ratio of adjusted means and Cliff's delta."""
    ratio, delta = contrast.ratio, np.nan
    if contrast.kind in TWO_SIDED:
        ratio = _ratio_of_means(model, hypothesis.on_levels, contrast.critical)
        a, b = model.sides_of(hypothesis)
        delta = effect_sizes.cliffs_delta(model.rankable[a], model.rankable[b])
    standardized = contrast.estimate / model.spread if model.spread > 0 else np.nan
    return replace(contrast, ratio=ratio, standardised_difference=standardized, cliffs_delta=delta)


def _ratio_of_means(model: ClusterModel, on: Floats, q: float) -> tuple[float, float, float]:
    """Ratio of the adjusted means of the levels with positive and negative coefficients."""
    means, covariance = model.level_means
    sides = np.array([[*np.maximum(sign * on, 0), 1.0] for sign in (1, -1)])
    ratio: tuple[float, float, float] = effect_sizes.ratio_of_means(
        sides @ means, sides @ covariance @ sides.T, q
    )
    return ratio


# ── several rows, no error, many contrasts ────────────────────────────────────────────────────────


def _joint(contrast: Contrast, model: ClusterModel, rows: slice, reference: Reference) -> Contrast:
    """Wald test of several rows at once: permuted, or W/q against F(q, residual df)."""
    estimates, covariance = model.estimates[None, rows], model.covariance[None, rows, rows]
    if model.by_site[rows.start]:  # a single row: its error is that of sites, as its df are
        covariance = np.square(model.se[rows])[None, None, :]
    value = float(permutation.wald(estimates, covariance)[0])
    if not np.isfinite(value):
        return replace(contrast, reason="every value is the same in a level", provisional=False)
    q = rows.stop - rows.start
    return replace(
        contrast,
        statistic=value,
        df=float(q),
        p=reference.joint_p(value, q),
        method=reference.method,
        permutations=reference.permutations,
    )


def _separated(hypothesis: Hypothesis, model: ClusterModel, settings: Settings) -> Contrast:
    """The contrast where no patient differs from its own level, so that there is no error.

    An outcome of two values has an exact test (Fisher 1935); anything else has none.
    """
    contrast, values = hypothesis.contrast, np.unique(np.round(model.y, 12))
    if hypothesis.sides is None or contrast.kind not in TWO_SIDED or len(values) != 2:
        return replace(contrast, reason="no value differs inside the groups", provisional=False)
    low, span = float(values[0]), float(values[1] - values[0])
    sides = model.sides_of(hypothesis)
    hits = np.array([np.sum(model.y[side] > low + span / 2) for side in sides])
    sizes = np.array([side.sum() for side in sides])
    rates = hits / sizes
    center, se = agresti_caffo(hits, sizes)
    center, se = span * center, span * se
    q = float(special.ndtri(1 - settings.alpha / 2))
    note = "every patient has the value of its own level: exact test, without adjustment"
    return replace(
        contrast,
        estimate=span * float(rates[0] - rates[1]),
        se=se,
        critical=q,
        ci_low=center - q * se,
        ci_high=center + q * se,
        p=float(fisher_exact([hits, sizes - hits]).pvalue),
        method="Fisher",
        margin_test=None
        if settings.margin is None
        else MarginTest(center, se, settings.margin, SkewedT(np.inf)),
        notes=(*contrast.notes, note),
    )


def _max_t(
    contrasts: list[Contrast], reference: Floats, model: ClusterModel, settings: Settings
) -> list[Contrast]:
    """Family-wise p from the largest |t*|, where every level has 40 patients; elsewhere Holm stays.

    reference : (B, m) of t*
    """
    if settings.order is not None or model.level_counts.min() < MAX_T_PATIENTS:
        return contrasts
    singles = [i for i, (a, b) in enumerate(model.spans) if b - a == 1]
    rows = [model.spans[i][0] for i in singles]
    t = np.abs(model.estimates[rows] / model.se[rows])
    out = list(contrasts)
    sizes = np.abs(reference[:, rows])
    for i, p in zip(singles, multiplicity.max_t(t, sizes), strict=True):
        out[i] = replace(out[i], p_adjusted=float(p))
    return out
