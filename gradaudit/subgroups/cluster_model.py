"""The model of one comparison: image rows become patient rows, and the model is fitted to them.

``collapse`` averages images over patients.  ``fit_model`` takes patient rows with their hypotheses
(linear functions of the model) and returns a ``ClusterModel``: estimates, standard errors and
degrees of freedom of every hypothesis, and the rows that its reference distribution is drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.stats import rankdata

from gradaudit.stats import effect_sizes, linear_model, permutation, standard_errors, tails
from gradaudit.stats.family import Floats, Ints
from gradaudit.subgroups.analysis_set import AnalysisSet
from gradaudit.subgroups.contrast import MIN_PATIENTS, Bools, Contrast
from gradaudit.subgroups.settings import Settings

# above, large groups are sampled for the reference distribution (never for the estimate)
PERMUTED_PATIENTS = 4000
# statistics drawn per planned comparison, so that the level alpha / 2m has eight beyond it at 5 %
DRAWS_PER_CELL = 160

# ── rows ──────────────────────────────────────────────────────────────────────────────────────────


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
        return effect_sizes.mode_share(self.y)

    def mode_share(self, rows: Bools) -> float:
        """Share of the modal value among some rows (computed once where they are all rows)."""
        return self.pooled_mode_share if rows.all() else effect_sizes.mode_share(self.y[rows])

    def keep(self, rows: Bools | Ints) -> Patients:
        size = None if self.size is None else self.size[rows]
        return Patients(
            self.y[rows], self.codes[rows], self.x[rows], size, self.z[rows], self.images[rows]
        )


def collapse(rows: AnalysisSet) -> Patients:
    """One row per patient: means over its images."""
    if rows.count == len(rows.y):
        images = np.ones(len(rows.y), dtype=np.int64)
        return Patients(rows.y, rows.codes, rows.x, rows.size, rows.z, images)

    def mean(column: Floats) -> Floats:
        means: Floats = linear_model.cluster_means(column, rows.clusters, rows.count)
        return means

    codes = np.empty(rows.count, dtype=np.int64)
    codes[rows.clusters] = rows.codes
    return Patients(
        y=mean(rows.y),
        codes=codes,
        x=codes / 1.0 if len(rows.levels) > 1 else mean(rows.x),
        size=None if rows.size is None else mean(rows.size),
        z=mean(rows.z),
        images=np.bincount(rows.clusters, minlength=rows.count),
    )


@dataclass(frozen=True)
class ModelLevels:
    """Levels as a model has them: those of under ten patients share one indicator.

    place : (levels,) column of each level in the model, -1 where it has none (no patient, or the
        only one among the small levels)
    width : number of columns
    large : levels with ten patients
    """

    place: Ints
    width: int
    large: Ints

    @classmethod
    def of(cls, codes: Ints, levels: int) -> ModelLevels:
        counts = np.bincount(codes, minlength=levels)
        place = np.full(levels, -1)
        large = counts >= MIN_PATIENTS
        width = int(large.sum())
        place[large] = np.arange(width)
        small = (counts > 0) & ~large
        if counts[small].sum() > 1:
            place[small] = width
            width += 1
        return cls(place, width, np.flatnonzero(large))


@dataclass(frozen=True)
class ImageRows:
    """Image rows of one model, sorted by cluster, for estimates with unit="image"."""

    y: Floats
    codes: Ints
    z: Floats
    clusters: Ints


@dataclass(frozen=True)
class ModelRows:
    """What one model is fitted to.

    y : (n,) outcome of each patient
    strata : (n,) level of the attribute, from which a sample of patients is drawn evenly
    codes : (n,) level in the model, 0..G-1
    columns : (n, k) covariates
    images : the images of these patients, where estimates are made on them
    flip : rows are differences, whose signs are flipped (otherwise rows are permuted)
    """

    y: Floats
    strata: Ints
    codes: Ints
    columns: Floats
    images: ImageRows | None = None
    flip: bool = False

    @classmethod
    def without_levels(cls, patients: Patients, columns: Floats) -> ModelRows:
        """Rows of a model with one mean for everybody."""
        codes = np.zeros(len(patients.y), dtype=np.int64)
        return cls(patients.y, patients.codes, codes, columns)

    @classmethod
    def with_levels(
        cls, patients: Patients, levels: ModelLevels, images: ImageRows | None = None
    ) -> ModelRows:
        """Rows of a model with a mean for each level; every patient's level has a column."""
        codes = levels.place[patients.codes]
        return cls(patients.y, patients.codes, codes, patients.z, images)


@dataclass(frozen=True)
class Hypothesis:
    """A linear function of a model, with the contrast that it completes and the sides it compares.

    on_levels : (G,) or (q, G) coefficients of the level effects
    on_columns : (k,) or (q, k) coefficients of the covariate columns; q > 1 rows are tested
        together (Wald)
    sides : which patients are compared, two (n,), or None
    analytic : every side is large enough for Student's t
    """

    contrast: Contrast
    on_levels: Floats
    on_columns: Floats
    sides: tuple[Bools, Bools] | None
    analytic: bool

    @property
    def coefficients(self) -> list[tuple[Floats, Floats]]:
        """(on levels, on columns) of each of its rows."""
        levels, columns = np.atleast_2d(self.on_levels), np.atleast_2d(self.on_columns)
        return list(zip(levels, columns, strict=True))


# ── the fitted model ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ClusterModel:
    """One fitted model with every row of every hypothesis estimated in it.

    fit, y, strata, columns : the design and its n rows (columns: those kept)
    order : the given rows in the order of these; empty where they stayed in place
    on : m coefficient rows; estimates, se, df, skewness : (m,); covariance : (m, m)
    spans : first and end row of each hypothesis in ``on``
    """

    fit: linear_model.Design
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
    skewness: Floats
    spans: list[tuple[int, int]]

    @cached_property
    def center(self) -> Floats:
        """Mean of every kept covariate column: where adjusted means are taken."""
        return np.asarray(self.columns.mean(axis=0)) if self.columns.size else np.empty(0)

    @cached_property
    def adjusted(self) -> Floats:
        """Values moved to the mean covariates, (n,)."""
        return np.asarray(self.y - (self.columns - self.center) @ self.fit.slopes(self.y))

    @cached_property
    def rankable(self) -> Floats:
        """Adjusted values to 12 decimals, so that rounding errors do not break ties."""
        return np.asarray(np.round(self.adjusted, 12))

    @cached_property
    def ranks(self) -> Floats:
        return np.asarray(rankdata(self.rankable))

    @cached_property
    def spread(self) -> float:
        """Residual standard deviation."""
        return float(np.sqrt(np.sum(self.residuals**2) / _residual_df(self.fit)))

    @cached_property
    def has_error(self) -> Bools:
        """Which estimates have a standard error beyond rounding, (m,)."""
        largest = [max(abs(levels).max() ** 2, 1e-300) for levels, _ in self.on]
        scale = float(np.std(self.y)) * np.sqrt(largest) / np.sqrt(len(self.y))
        return np.asarray(self.se > 1e-9 * scale)

    def sides_of(self, hypothesis: Hypothesis) -> list[Bools]:
        """The two sides of a hypothesis, in the order of the model's rows."""
        sides = hypothesis.sides or ()
        return [side[self.order] if self.order.size else side for side in sides]

    def cliffs_delta(self, a: Bools, b: Bools) -> float:
        """Cliff's delta of adjusted values; two sides that are everybody share one ranking."""
        if not (a | b).all():
            return float(effect_sizes.cliffs_delta(self.rankable[a], self.rankable[b]))
        n, m = int(a.sum()), int(b.sum())
        return float(2 * (self.ranks[a].sum() - n * (n + 1) / 2) / (n * m) - 1)


def fit_model(rows: ModelRows, hypotheses: Sequence[Hypothesis]) -> ClusterModel | str:
    """The fitted model with the estimates of all hypotheses, or why it cannot be estimated."""
    rows, order = _in_fixed_order(rows)
    fit = linear_model.design(rows.codes, rows.columns)
    if _residual_df(fit) < MIN_PATIENTS // 2:
        return "too few clusters for the covariates"
    kept = list(fit.kept)
    on = [row for hypothesis in hypotheses for row in hypothesis.coefficients]
    if any(np.any(np.delete(columns, kept)) for _, columns in on):
        return "determined by the other columns of the model"
    on = [(levels, columns[kept]) for levels, columns in on]
    spans = _spans(hypotheses)
    residuals = fit.residuals(rows.y)
    weights = np.column_stack([fit.row_weights(*row) for row in on])
    estimates, covariance = weights.T @ rows.y, standard_errors.hc2(fit, residuals, weights)
    se, df = np.sqrt(np.diag(covariance)), _degrees_of_freedom(fit, weights, spans)
    skewness = np.array([tails.skewness_of_estimate(w, residuals) for w in weights.T])
    if rows.images is not None:
        estimates, se, df = _image_estimates(rows.images, kept, on)
    return ClusterModel(
        fit=fit,
        y=rows.y,
        strata=rows.strata,
        columns=rows.columns[:, kept],
        order=order,
        residuals=residuals,
        on=on,
        estimates=estimates,
        covariance=covariance,
        se=se,
        df=df,
        skewness=skewness,
        spans=spans,
    )


def _in_fixed_order(rows: ModelRows) -> tuple[ModelRows, Ints]:
    """The rows in an order of their own, so that p does not depend on the given one; and the order.

    Above 4000 rows they stay in place, and the order is empty: there the sample is ordered.
    """
    if len(rows.y) > PERMUTED_PATIENTS:
        return rows, np.empty(0, dtype=np.int64)
    order = np.lexsort((*rows.columns.T, rows.y, rows.codes))
    ordered = replace(
        rows,
        y=rows.y[order],
        strata=rows.strata[order],
        codes=rows.codes[order],
        columns=rows.columns[order],
    )
    return ordered, order


def _spans(hypotheses: Sequence[Hypothesis]) -> list[tuple[int, int]]:
    """First and end row of each hypothesis."""
    lengths = [len(hypothesis.coefficients) for hypothesis in hypotheses]
    return list(pairwise(np.cumsum([0, *lengths]).tolist()))


def _residual_df(fit: linear_model.Design) -> int:
    return len(fit.codes) - len(fit.counts) - len(fit.kept)


def _degrees_of_freedom(
    fit: linear_model.Design, weights: Floats, spans: list[tuple[int, int]]
) -> Floats:
    """Bell and McCaffrey's of each single row; rows of joint tests take the residual ones."""
    df = np.full(weights.shape[1], float(_residual_df(fit)))
    singles = [a for a, b in spans if b - a == 1]
    df[singles] = standard_errors.bell_mccaffrey(fit, weights[:, singles])
    return df


def _image_estimates(
    images: ImageRows, kept: list[int], on: list[tuple[Floats, Floats]]
) -> tuple[Floats, Floats, Floats]:
    """Estimates, CR2 errors and df on image rows weighted 1/n_patient.

    Each patient counts once, and covariates stay per image.
    """
    root = 1 / np.sqrt(np.bincount(images.clusters)[images.clusters])
    levels = images.codes[:, None] == np.arange(len(on[0][0]))
    q, r = np.linalg.qr(root[:, None] * np.hstack([levels, images.z[:, kept]]))
    y = root * images.y
    residuals = y - q @ (q.T @ y)
    weights = [q @ np.linalg.solve(r.T, np.concatenate(row)) for row in on]
    errors = [standard_errors.cr2(q, residuals, w, images.clusters) for w in weights]
    se, df = np.array(errors).T
    return np.array([w @ y for w in weights]), se, df


# ── the reference distribution ────────────────────────────────────────────────────────────────────


def reference_distribution(
    model: ClusterModel, joint: list[list[int]], settings: Settings, *, flip: bool
) -> tuple[Floats, list[Floats]]:
    """t* of every row, (B, m), and the Wald statistic of every joint test, each (B,).

    Above 4000 patients it comes from all of the small levels and a sample of the large ones.
    """
    fit, residuals, weights = _permutable(model, settings.seed)
    singles = sum(b - a == 1 for a, b in model.spans)
    count = draws_needed(settings, singles)
    draws: tuple[Floats, list[Floats]] = permutation.reference_t(
        fit, residuals, weights, count, settings.seed, flip=flip, joint=joint
    )
    return draws


def permuted_coefficients(
    model: ClusterModel, span: tuple[int, int], settings: Settings
) -> permutation.PermutedCoefficients:
    """The rows ``span`` of a model under permutation, for every combination of them."""
    fit, residuals, weights = _permutable(model, settings.seed)
    drawn: permutation.PermutedCoefficients = permutation.permuted_coefficients(
        fit, residuals, weights[:, slice(*span)], draws_needed(settings, 1), settings.seed
    )
    return drawn


def draws_needed(settings: Settings, comparisons: int) -> int:
    """Number of permutations, enough for Holm over all planned comparisons."""
    planned = max(settings.family or 0, comparisons)
    return max(settings.permutations, DRAWS_PER_CELL * planned)


def _permutable(model: ClusterModel, seed: int) -> tuple[linear_model.Design, Floats, Floats]:
    """Design, residuals and row weights (n, m) of the patients that are permuted."""
    fit, residuals = model.fit, model.residuals
    if len(model.y) > PERMUTED_PATIENTS:
        rows = _sampled(model, seed)
        fit = linear_model.design(fit.codes[rows], model.columns[rows], len(fit.counts))
        residuals = residuals[rows]
    kept = list(fit.kept)
    weights = [
        fit.row_weights(levels, columns[kept] if len(kept) < len(columns) else columns)
        for levels, columns in model.on
    ]
    return fit, residuals, np.column_stack(weights)


def _sampled(model: ClusterModel, seed: int) -> Ints:
    """Rows of a sample of 4000: every level keeps up to a common cap, so small levels stay whole.

    The order of rows does not matter.
    """
    order = np.lexsort((*model.columns.T, model.y, model.strata))
    counts = np.bincount(model.strata)
    cap = _common_cap(counts)
    rng = np.random.default_rng((seed, len(order)))
    picks = []
    for end, n in zip(np.cumsum(counts), counts, strict=True):
        if n:
            picks.append(order[end - n + np.sort(rng.permutation(n)[:cap])])
    return np.concatenate(picks)


def _common_cap(counts: Ints) -> int:
    """The largest number per level with which no more than 4000 rows are taken (bisection)."""
    low, high = 0, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= PERMUTED_PATIENTS:
            low = middle
        else:
            high = middle - 1
    return low
