"""The model of one comparison: laid out over patient rows, fitted, and permuted.

``lay_out`` takes patient rows, leaves out those that say nothing, and absorbs what is held equal.
``fit_model`` estimates hypotheses (linear functions of the model) and returns a ``ClusterModel``:
estimates, standard errors and degrees of freedom of every hypothesis, and the rows that its
reference distribution is drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np

from gradaudit.stats import linear_model, permutation, standard_errors, tails
from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.strata import held_by
from gradaudit.subgroups.contrast import MIN_PATIENTS, Bools
from gradaudit.subgroups.model_rows import Hypothesis, ImageRows, ModelRows
from gradaudit.subgroups.settings import Settings

# above, large groups are sampled for the reference distribution (never for the estimate)
PERMUTED_PATIENTS = 4000
# statistics drawn per planned comparison, so that the level alpha / 2m has eight beyond it at 5 %
DRAWS_PER_CELL = 160
# sites that hold both sides of a comparison, from which they are the unit of its error
MIN_SITES = 5
TOO_FEW = "too few clusters for the covariates"
# strata of fewer rows on average are sampled whole
_SMALL_STRATA = 20

# ── rows and design ───────────────────────────────────────────────────────────────────────────────

Row = tuple[Floats, Floats]
"""A linear function of the model: coefficients (G,) on levels, and (k,) on covariate columns."""


@dataclass(frozen=True)
class Layout:
    """Rows that a model is fitted to, with its design.

    Without strata the levels are absorbed, and the columns are the covariates.  With strata these
    are absorbed, and all levels but the first follow the covariates as columns.

    rows : those that say something, in a fixed order
    order : their places among the rows given; empty where all stayed in place
    columns : (n, k) of the design, kept or not
    width : number of levels
    """

    rows: ModelRows
    order: Ints
    fit: linear_model.Design
    columns: Floats
    width: int
    stratified: bool

    def coefficients(self, row: Row) -> Row:
        """A function of the model, in terms of the design's absorbed levels and columns."""
        return _design_coefficients(row, self.fit, stratified=self.stratified)

    def weights(self, row: Row) -> Floats:
        """Weights w (n,) with w @ y the estimate, y whitened by the design."""
        absorbed, columns = self.coefficients(row)
        return np.asarray(self.fit.row_weights(absorbed, columns[list(self.fit.kept)]))

    def all_weights(self, rows: Sequence[Row]) -> Floats:
        """The weights of several functions side by side, (n, m)."""
        absorbed, columns = map(np.array, zip(*map(self.coefficients, rows), strict=True))
        return np.asarray(self.fit.row_weights(absorbed, columns[:, list(self.fit.kept)]).T)

    def is_estimable(self, row: Row) -> bool:
        """Whether the data say anything of it: it is not aliased with what is held equal."""
        scale = np.sqrt(np.mean(self.columns**2, axis=0)) if len(self.columns) else np.empty(0)
        return not len(self.fit.determined_by(*self.coefficients(row), scale))

    @property
    def has_few_rows(self) -> bool:
        """Whether under five degrees of freedom are left for the error."""
        return _residual_df(self.fit) < MIN_PATIENTS // 2

    def moved(self, side: Bools) -> Bools:
        """A selection of the rows given, in the order of these."""
        return side[self.order] if self.order.size else side


def _design_coefficients(row: Row, fit: linear_model.Design, *, stratified: bool) -> Row:
    levels, columns = row
    if not stratified:
        return levels, columns
    # a mean of levels is taken over the strata as they are
    return levels.sum() * fit.counts / fit.counts.sum(), np.concatenate([columns, levels[1:]])


def lay_out(rows: ModelRows) -> Layout | None:
    """The design of some rows; None where no row says anything of what is compared."""
    width, given = int(rows.codes.max(initial=0)) + 1, len(rows.y)
    places = np.arange(given)
    if rows.held is not None and rows.varying is not None:
        places = np.flatnonzero(rows.held.informative(rows.varying))
    if not len(places):
        return None
    if len(places) < given:
        rows = rows.keep(places)
    order = _fixed_order(rows)
    if order.size:
        rows, places = rows.keep(order), places[order]
    elif len(places) == given:
        places = order
    every_level = np.bincount(rows.codes, minlength=width).all()
    if rows.held is None or (not rows.held.absorbs and every_level):
        fit = linear_model.design(rows.codes, rows.columns, width, rows.weights)
        return Layout(rows, places, fit, rows.columns, width, stratified=False)
    codes = np.unique(rows.held.absorbed, return_inverse=True)[1]
    levels = rows.codes[:, None] == np.arange(1, width)
    columns = np.asfortranarray(np.hstack([rows.columns, levels]))
    fit = linear_model.design(codes, columns, weights=rows.weights)
    return Layout(rows, places, fit, columns, width, stratified=True)


def _fixed_order(rows: ModelRows) -> Ints:
    """An order that does not depend on the given one, so that p does not; strata lie together.

    Empty above 4000 rows, which stay in place: there the sample is ordered.
    """
    if len(rows.y) > PERMUTED_PATIENTS:
        return np.empty(0, dtype=np.int64)
    keys = (*rows.sorted_by, rows.codes)
    if rows.held is not None:
        keys = (*keys, rows.held.absorbed)
    return np.lexsort(keys)


# ── the fitted model ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ClusterModel:
    """One fitted model with every row of every hypothesis estimated in it.

    residuals : (n,) whitened by the design
    on : m functions of the model
    estimates, se, df, skewness : (m,); covariance : (m, m)
    spans : first and end row of each hypothesis in ``on``
    by_site : (m,) whether the error of a row is that of sites, and not of patients
    """

    layout: Layout
    residuals: Floats
    on: list[Row]
    estimates: Floats
    covariance: Floats
    se: Floats
    df: Floats
    skewness: Floats
    spans: list[tuple[int, int]]
    by_site: Bools

    @property
    def fit(self) -> linear_model.Design:
        return self.layout.fit

    @property
    def y(self) -> Floats:
        return self.layout.rows.y

    @cached_property
    def level_counts(self) -> Ints:
        """Rows of each level, (G,)."""
        return np.bincount(self.layout.rows.codes, minlength=self.layout.width)

    @cached_property
    def center(self) -> Floats:
        """Mean of every covariate column: where adjusted means are taken."""
        columns = self.layout.rows.columns
        return np.asarray(columns.mean(axis=0)) if columns.size else np.zeros(columns.shape[1])

    @cached_property
    def adjusted(self) -> Floats:
        """Values moved to the mean covariates and to the mean of the strata, (n,)."""
        fit, columns = self.fit, self.layout.rows.columns
        slopes = np.zeros(self.layout.columns.shape[1])
        slopes[list(fit.kept)] = fit.slopes(self.y)
        moved = self.y - (columns - self.center) @ slopes[: columns.shape[1]]
        if not self.layout.stratified:
            return np.asarray(moved)
        left = self.y - self.layout.columns @ slopes
        strata = fit.level_means(left)[fit.codes]
        return np.asarray(moved - (strata - strata.mean()))

    @cached_property
    def rankable(self) -> Floats:
        """Adjusted values to 12 decimals, so that rounding errors do not break ties."""
        return np.asarray(np.round(self.adjusted, 12))

    @cached_property
    def level_means(self) -> tuple[Floats, Floats]:
        """What adjusted means are sums of, and its HC2 covariance: (G + 1,), (G + 1, G + 1).

        The first G are the level effects, the last what the covariates add at their means.
        """
        width, none = self.layout.width, np.zeros(len(self.center))
        rows = [(level, none) for level in np.eye(width)] + [(np.zeros(width), self.center)]
        weights = self.layout.all_weights(rows)
        covariance = standard_errors.hc2(self.fit, self.residuals, weights)
        return weights.T @ self.fit.whitened(self.y), covariance

    @cached_property
    def spread(self) -> float:
        """Residual standard deviation, of rows that all count once."""
        left = self.residuals if self.fit.root is None else self.residuals / self.fit.root
        return float(np.sqrt(np.sum(left**2) / _residual_df(self.fit)))

    @cached_property
    def has_error(self) -> Bools:
        """Which estimates have a standard error beyond rounding, (m,)."""
        largest = [max(abs(levels).max() ** 2, 1e-300) for levels, _ in self.on]
        scale = float(np.std(self.y)) * np.sqrt(largest) / np.sqrt(len(self.y))
        return np.asarray(self.se > 1e-9 * scale)

    def sides_of(self, hypothesis: Hypothesis) -> list[Bools]:
        """The two sides of a hypothesis, in the order of the model's rows."""
        return [self.layout.moved(side) for side in hypothesis.sides or ()]


def fit_model(layout: Layout, hypotheses: Sequence[Hypothesis]) -> ClusterModel | str:
    """The fitted model with the estimates of all hypotheses, or why it cannot be estimated."""
    rows, fit = layout.rows, layout.fit
    if layout.has_few_rows:
        return TOO_FEW
    on = [row for hypothesis in hypotheses for row in hypothesis.coefficients]
    spans = _spans(hypotheses)
    residuals = fit.residuals(rows.y)
    weights = layout.all_weights(on)
    estimates = weights.T @ fit.whitened(rows.y)
    covariance = standard_errors.hc2(fit, residuals, weights)
    se, df = np.sqrt(np.diag(covariance)), _degrees_of_freedom(fit, weights, spans)
    skewness = np.array([tails.skewness_of_estimate(w, residuals) for w in weights.T])
    by_site = np.zeros(len(on), dtype=bool)
    if rows.images is not None:
        estimates, se, df = _image_estimates(rows.images, layout, on)
    elif rows.sites is not None:
        by_site = _those_by_site(layout, hypotheses, spans)
        for k in np.flatnonzero(by_site):
            se[k], df[k] = site_error(layout, residuals, weights[:, k])
            skewness[k] = 0.0
    return ClusterModel(
        layout=layout,
        residuals=residuals,
        on=on,
        estimates=estimates,
        covariance=covariance,
        se=se,
        df=df,
        skewness=skewness,
        spans=spans,
        by_site=by_site,
    )


def _those_by_site(
    layout: Layout, hypotheses: Sequence[Hypothesis], spans: list[tuple[int, int]]
) -> Bools:
    """Which rows have sites as the unit of their error, (m,): single ones that five sites hold."""
    out = np.zeros(spans[-1][1], dtype=bool)
    for hypothesis, (a, b) in zip(hypotheses, spans, strict=True):
        out[a] = b - a == 1 and sites_compared(layout, hypothesis) >= MIN_SITES
    return out


def sites_compared(layout: Layout, hypothesis: Hypothesis) -> int:
    """Sites that hold both sides of a comparison; of a slope, those inside which it varies."""
    sites = layout.rows.sites
    if sites is None:
        return 0
    if hypothesis.sides is None:
        return len(np.unique(sites))
    a, b = (layout.moved(side) for side in hypothesis.sides)
    return len(np.unique(sites[held_by(sites, a) & held_by(sites, b)]))


def site_error(layout: Layout, residuals: Floats, weights: Floats) -> tuple[float, float]:
    """CR2 standard error and Bell-McCaffrey df with sites as the independent units.

    Absorbed strata that lie inside the sites need no column: weights are centered within them.
    """
    sites, fit = layout.rows.sites, layout.fit
    assert sites is not None
    order = np.argsort(sites, kind="stable")
    first = np.empty(len(fit.counts), dtype=np.int64)
    first[fit.codes] = sites
    nested = layout.stratified and bool(np.all(first[fit.codes] == sites))
    basis = fit.q if nested else fit.basis()
    codes = np.unique(sites[order], return_inverse=True)[1]
    found = standard_errors.cr2(basis[order], residuals[order], weights[order], codes)
    return float(found[0]), float(found[1])


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


def _images_inside(images: ImageRows, layout: Layout) -> tuple[Bools, Ints]:
    """Which images are of patients in the model, (n,), and the model's row of each of these."""
    given = layout.order if layout.order.size else np.arange(len(layout.rows.y))
    place = np.full(max(int(images.patients.max()), int(given.max())) + 1, -1)
    place[given] = np.arange(len(given))
    inside = place[images.patients] >= 0
    return inside, place[images.patients[inside]]


def _image_estimates(
    images: ImageRows, layout: Layout, on: list[Row]
) -> tuple[Floats, Floats, Floats]:
    """Estimates, CR2 errors and df on image rows weighted 1/n_patient.

    Each patient counts once, and covariates stay per image.
    """
    inside, own = _images_inside(images, layout)
    clusters = np.unique(images.patients[inside], return_inverse=True)[1]
    beside = layout.columns[own, images.z.shape[1] :]  # columns of levels, which are the patient's
    columns = np.hstack([images.z[inside], beside])[:, list(layout.fit.kept)]
    absorbed = layout.fit.codes[own][:, None] == np.arange(len(layout.fit.counts))
    root = 1 / np.sqrt(np.bincount(clusters)[clusters])
    q, r = np.linalg.qr(root[:, None] * np.hstack([absorbed, columns]))
    y = root * images.y[inside]
    residuals = y - q @ (q.T @ y)
    weights = []
    for row in on:
        levels, slopes = layout.coefficients(row)
        c = np.concatenate([levels, slopes[list(layout.fit.kept)]])
        weights.append(q @ np.linalg.solve(r.T, c))
    errors = [standard_errors.cr2(q, residuals, w, clusters) for w in weights]
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
    layout, residuals = model.layout, model.residuals
    fit = layout.fit
    if len(model.y) > PERMUTED_PATIENTS:
        rows = _sampled(model, seed)
        codes = layout.fit.codes[rows]
        if layout.stratified:
            codes = np.unique(codes, return_inverse=True)[1]
        width = None if layout.stratified else layout.width
        precision = layout.rows.keep(rows).weights
        fit = linear_model.design(codes, layout.columns[rows], width, precision)
        residuals = residuals[rows]
    return fit, residuals, replace(layout, fit=fit).all_weights(model.on)


def _sampled(model: ClusterModel, seed: int) -> Ints:
    """Rows of a sample of 4000: every level keeps up to a common cap, so small levels stay whole.

    Of small strata whole ones are taken, those with the rarest level first, since a part of one
    would say nothing.  The order of rows does not matter.
    """
    rows, fit = model.layout.rows, model.fit
    counts = np.bincount(rows.strata)
    rng = np.random.default_rng((seed, len(rows.y)))
    order = np.lexsort((*rows.sorted_by, rows.strata))
    if model.layout.stratified and len(rows.y) < _SMALL_STRATA * len(fit.counts):
        taken = _sampled_strata(counts[rows.strata], fit, rng)
        return order[np.isin(fit.codes[order], taken)]
    cap = _common_cap(counts)
    picks = []
    for end, n in zip(np.cumsum(counts), counts, strict=True):
        if n:
            picks.append(order[end - n + np.sort(rng.permutation(n)[:cap])])
    return np.concatenate(picks)


def _sampled_strata(sizes: Ints, fit: linear_model.Design, rng: np.random.Generator) -> Ints:
    """Strata with up to 4000 rows together.

    sizes : (n,) patients of each row's level
    """
    rarest = np.full(len(fit.counts), np.iinfo(np.int64).max)
    np.minimum.at(rarest, fit.codes, sizes)
    strata = np.lexsort((rng.random(len(rarest)), rarest))
    return np.asarray(strata[np.cumsum(fit.counts[strata]) <= PERMUTED_PATIENTS])


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
