"""The linear model of every comparison: levels and covariates on one row per patient.

Level indicators are never stored: covariates are centered within levels instead (Frisch-Waugh), so
three million rows cost memory for the covariates alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from gradaudit.stats.family import STATISTICS, Floats, Ints

KNOTS = (0.05, 0.35, 0.65, 0.95)


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────


@STATISTICS.register(
    label="patient mean",
    summary="Average over the images of one cluster, so that each patient counts once.",
    formula="ȳ_p = Σ_{i∈p} y_i / n_p",
    source="one row per unit of independence; statistics on summary measures: Matthews et al. 1990, BMJ 300:230",
    caveat="Image rows of one patient are not independent: testing on them turns 5 % into 15-33 %.",
)
def cluster_means(values: Floats, codes: Ints, count: int) -> Floats:
    """Mean of each column over the rows of each cluster.

    values : (n,) or (n, k)      codes : (n,) int in 0..count-1, every cluster present
    returns : (count,) or (count, k)
    """
    sizes = np.bincount(codes, minlength=count)
    if values.ndim == 1:
        return np.asarray(np.bincount(codes, weights=values, minlength=count) / sizes)
    out = np.empty((count, values.shape[1]), order="F")
    for j in range(values.shape[1]):
        out[:, j] = np.bincount(codes, weights=values[:, j], minlength=count) / sizes
    return out


@STATISTICS.register(
    label="variance components",
    summary="How far patients of one group lie apart (τ²), and images of one patient (σ²).",
    formula="σ² = Σ_pi (y_pi − ȳ_p)² / (N − P);  τ² = max(0, (Σ_gp n_p(ȳ_p − ȳ_g)² − (P − G)σ²) / (N − Σ_g Σ_{p∈g} n_p²/N_g))",
    source="moments of a one-way analysis of variance in groups: Searle, Casella & McCulloch 1992, Variance Components, sec. 3.6",
    needs='[analysis] weights = "precision"',
)
def variance_components(
    values: Floats, clusters: Ints, groups: Ints, count: int
) -> tuple[float, float]:
    """(τ², σ²): variance between clusters of one group, and between images of one cluster.

    values, clusters : (n,), of 0..count-1, every cluster present
    groups : (count,) group of each cluster
    returns : τ² is 0 where clusters differ no more than their images explain; (0, 0) where no
        cluster has two images or no group two clusters
    """
    sizes = np.bincount(clusters, minlength=count)
    means = cluster_means(values, clusters, count)
    spare = len(values) - count
    images = np.bincount(groups, weights=sizes)
    squares = np.bincount(groups, weights=sizes**2.0)
    present = images > 0
    spread = len(values) - float(np.sum(squares[present] / images[present]))
    if spare < 1 or spread <= 1e-9 * len(values):
        return 0.0, 0.0
    inside = float(np.sum((values - means[clusters]) ** 2)) / spare
    if inside <= 1e-20 * float(np.max(values**2)):  # rounding
        inside = 0.0
    centers = np.bincount(groups, weights=sizes * means) / np.where(present, images, 1.0)
    between = float(np.sum(sizes * (means - centers[groups]) ** 2))
    return max(0.0, (between - (count - int(present.sum())) * inside) / spread), inside


@STATISTICS.register(
    label="precision weights",
    summary="A patient with more images counts for more, as far as images of one patient differ.",
    formula="w_p = 1 / (τ² + σ²/n_p), scaled to a mean of 1",
    source="generalized least squares: Aitken 1936, Proc. R. Soc. Edinb. 55:42; permuted once whitened by √w",
    caveat="Not used where the number of images is related to the outcome (p ≤ .10): type I would be 21 % for 5 %.",
    needs='[analysis] weights = "precision"',
)
def precision_weights(sizes: Ints, between: float, inside: float) -> Floats | None:
    """Weight of each cluster's mean, (P,), of mean 1; None where all clusters weigh the same.

    sizes : (P,) images
    between, inside : τ² and σ², as ``variance_components`` returns them
    """
    if not inside > 0 or len(sizes) == 0 or sizes.min() == sizes.max():
        return None
    weights = 1 / (between + inside / sizes)
    return np.asarray(weights / weights.mean())


@STATISTICS.register(
    label="size and outcome",
    summary="Whether patients with more images have another outcome: t of the correlation of ln n and the mean.",
    formula="t = r·√(df/(1 − r²)),  r of ln n_p and ȳ_p within levels,  df = P − G − 1",
    source="Student's t of a correlation; informative cluster size: Hoffman, Sen & Weinberg 2001, Biometrika 88:1121",
    needs='[analysis] weights = "precision"',
)
def p_of_sizes(sizes: Ints, means: Floats, codes: Ints) -> float:
    """Two-sided p of the correlation of log(images) with the mean; 1 where there is none to test.

    sizes, means, codes : (P,); both are centered within the levels ``codes``
    """
    codes, counts = np.unique(codes, return_inverse=True, return_counts=True)[1:]
    df = len(sizes) - len(counts) - 1
    logs = np.log(sizes)
    x, y = (v - cluster_means(v, codes, len(counts))[codes] for v in (logs, means))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    largest = float(np.max(np.abs(logs), initial=0.0) * np.max(np.abs(means), initial=0.0))
    if df < 1 or scale <= max(1e-10 * largest * len(sizes), 1e-300):  # rounding
        return 1.0
    r = min(abs(float(x @ y)) / scale, 1.0)
    t = r * np.sqrt(df / max(1 - r**2, 1e-300))
    return 2 * float(special.stdtr(df, -t))


@STATISTICS.register(
    label="spline of logit area",
    summary="Smooth curve of region size (natural cubic spline), straight beyond its outer knots.",
    formula="x = ln(area/(1 − area)), and "
    "[(x−t_j)³₊ − (x−t_3)³₊(t_4−t_j)/(t_4−t_3) + (x−t_4)³₊(t_3−t_j)/(t_4−t_3)]/(t_4−t_1)², j = 1, 2; t = 5, 35, 65, 95 % points",
    source="Harrell, Regression Modeling Strategies, 2nd ed. 2015, eq. 2.25",
    caveat="Share divided by area does not remove the confounding by size (a true null is rejected in 16-100 %).",
)
def spline_basis(x: Floats, knots: Floats | None = None) -> Floats:
    """Columns of a natural cubic spline without intercept: x itself, and its bends.

    x : (n,) finite
    knots : increasing, at least 3 to bend; default: the 5/35/65/95 % points of x
    returns : (n, 3), or (n, 1) where x has too few distinct values for a bend, or (n, 0) where x is
        constant
    """
    if len(x) == 0 or np.ptp(x) == 0:
        return np.empty((len(x), 0))
    if knots is None:
        knots = np.unique(np.quantile(x, KNOTS))
    if len(knots) < 3 or np.min(np.diff(knots)) < 1e-6 * (knots[-1] - knots[0]):
        return x[:, None].copy()
    last, before, width = knots[-1], knots[-2], knots[-1] - knots[0]
    columns = [x]
    tail_before, tail_last = _cubed_above(x, before), _cubed_above(x, last)
    for knot in knots[:-2]:
        bend = (
            _cubed_above(x, knot)
            - tail_before * (last - knot) / (last - before)
            + tail_last * (before - knot) / (last - before)
        )
        columns.append(bend / width**2)
    return np.column_stack(columns)


def _cubed_above(x: Floats, knot: float) -> Floats:
    """(x - knot)^3 above the knot, 0 below; by products, which are ten times as fast as a power."""
    over = np.maximum(x - knot, 0)
    return np.asarray(over * over * over)


def logit(share: Floats) -> Floats:
    """log(share / (1 - share)), finite: 0 and 1 are moved inside by 1e-6."""
    return np.asarray(special.logit(np.clip(share, 1e-6, 1 - 1e-6)))


# ── the linear model ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Design:
    """Levels and covariates of n rows, orthogonalized.

    With weights, everything is of whitened rows: multiplied by the root of their weight.

    codes : (n,) level of each row, 0..G-1
    counts : (G,) rows per level, each >= 1
    q : (n, z) orthonormal, centered within levels (and whitened)
    r : (z, z) with centered covariates = q @ r
    means : (G, z) level means of the kept covariates
    leverage : (n,) diagonal of the hat matrix
    kept : which covariate columns are in; those that earlier ones determine are left out
    dropped : the others; each is ``dropped_levels`` (G, d) of its level plus ``dropped_columns``
        (z, d) of the kept columns, but for rounding
    root : (n,) root of each row's weight, or None where all weigh the same
    """

    codes: Ints
    counts: Ints
    q: Floats
    r: Floats
    means: Floats
    leverage: Floats
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    dropped_levels: Floats
    dropped_columns: Floats
    root: Floats | None = None

    @cached_property
    def mass(self) -> Floats | Ints:
        """Rows of each level, or the sum of their weights, (G,)."""
        if self.root is None:
            return self.counts
        return np.bincount(self.codes, weights=self.root**2, minlength=len(self.counts))

    def whitened(self, values: Floats) -> Floats:
        """Values (n,) times the root of their weight; as they are where all weigh the same."""
        return values if self.root is None else np.asarray(values * self.root)

    def level_means(self, y: Floats) -> Floats:
        """(Weighted) mean of each level, (G,)."""
        if self.root is None:
            return np.asarray(cluster_means(y, self.codes, len(self.counts)))
        sums = np.bincount(self.codes, weights=y * self.root**2, minlength=len(self.counts))
        return np.asarray(sums / self.mass)

    def determined_by(self, on_levels: Floats, on_columns: Floats, scale: Floats) -> Ints:
        """Dropped columns that a function of the coefficients cannot be told apart from.

        It can be estimated where there is none: a function c of the coefficients is estimable
        exactly where c is 0 on every combination of columns that is 0 in all rows.

        on_levels : (G,)      on_columns : (k,) of all columns, kept or not
        scale : (k,) size of each column, for rounding
        source : Searle 1971, Linear Models, sec. 5.4
        """
        dropped = list(self.dropped)
        implied = (
            on_levels @ self.dropped_levels + on_columns[list(self.kept)] @ self.dropped_columns
        )
        apart = np.abs(implied - on_columns[dropped])
        return np.asarray(
            np.asarray(dropped, dtype=np.int64)[apart > 1e-7 * np.maximum(scale[dropped], 1e-300)]
        )

    def residuals(self, y: Floats) -> Floats:
        """y minus its fit, whitened, for y : (n,) that is not."""
        centered = self.whitened(y - self.level_means(y)[self.codes])
        return np.asarray(centered - self.q @ (self.q.T @ centered))

    def slopes(self, y: Floats) -> Floats:
        """Coefficients of the kept covariates, (z,)."""
        if not self.r.size:
            return np.empty(0)
        return np.asarray(np.linalg.solve(self.r, self.q.T @ self.whitened(y)))

    def basis(self) -> Floats:
        """Orthonormal columns of the whole model, (n, G + z); for few enough rows to permute."""
        levels = np.zeros((len(self.codes), len(self.counts)))
        own = self.whitened(1 / np.sqrt(self.mass[self.codes]))
        levels[np.arange(len(self.codes)), self.codes] = own
        return np.hstack([levels, self.q])

    def row_weights(self, on_levels: Floats, on_slopes: Floats | None = None) -> Floats:
        """Weights w with contrast estimate = w @ y, y whitened: rows of X (X'X)^-1 c.

        on_levels : (G,) coefficients of the level effects, or (m, G) of m contrasts
        on_slopes : (z,) or (m, z) coefficients of the kept covariates
        returns : (n,), or (m, n)
        """
        shift = -(on_levels @ self.means)
        if on_slopes is not None:
            shift = shift + on_slopes
        plain = self.whitened((on_levels / self.mass)[..., self.codes])
        if not self.r.size:
            return np.asarray(plain)
        return np.asarray(plain + np.linalg.solve(self.r.T, shift.T).T @ self.q.T)

    def gram_square(self, d: Floats) -> float:
        """Sum of squares of Q' diag(d) Q over the orthonormal basis Q of the whole model.

        Neither a level's column nor the matrix, (G + z, G + z), is stored: there may be thousands
        of levels.
        """
        levels = len(self.counts)
        twice = self.whitened(self.whitened(d))
        own = np.bincount(self.codes, weights=twice, minlength=levels) / self.mass
        total = float(own @ own)
        for column in self.q.T:
            weighted = d * column
            mixed = np.bincount(self.codes, weights=self.whitened(weighted), minlength=levels)
            total += 2 * float(np.sum(mixed**2 / self.mass)) + float(
                np.sum((self.q.T @ weighted) ** 2)
            )
        return total


def design(
    codes: Ints, covariates: Floats, levels: int | None = None, weights: Floats | None = None
) -> Design:
    """Orthogonalize covariates within levels, without columns that earlier ones determine.

    codes : (n,) level of each row
    covariates : (n, z)
    levels : number of levels, where not every one need be there
    weights : (n,) above 0, inverse to the variance of each row, or None where all weigh the same
    """
    levels = int(codes.max()) + 1 if levels is None else levels
    counts = np.bincount(codes, minlength=levels)
    means, centered = _centered(covariates, codes, levels, weights)
    kept = _kept_columns(covariates, centered)
    q, r = _orthonormal(centered[:, kept])
    own = 1 / counts[codes]
    if weights is not None:
        own = weights / np.bincount(codes, weights=weights, minlength=levels)[codes]
    leverage = own + np.einsum("ij,ij->i", q, q)
    dropped = np.setdiff1d(np.arange(covariates.shape[1]), kept)
    on_kept = np.empty((0, len(dropped)))
    if len(kept):
        on_kept = np.asarray(np.linalg.solve(r, q.T @ centered[:, dropped]))
    return Design(
        codes=codes,
        counts=counts,
        q=q,
        r=r,
        means=means[:, kept],
        leverage=leverage,
        kept=tuple(int(k) for k in kept),
        dropped=tuple(int(k) for k in dropped),
        dropped_levels=means[:, dropped] - means[:, kept] @ on_kept,
        dropped_columns=on_kept,
        root=None if weights is None else np.sqrt(weights),
    )


def _centered(
    covariates: Floats, codes: Ints, levels: int, weights: Floats | None
) -> tuple[Floats, Floats]:
    """Level means (levels, z) of the covariates; and these minus their means, whitened, (n, z)."""
    if weights is None:
        means = cluster_means(covariates, codes, levels)
        return means, covariates - means[codes]
    means = np.empty((levels, covariates.shape[1]))
    mass = np.bincount(codes, weights=weights, minlength=levels)
    for j, column in enumerate(covariates.T):
        means[:, j] = np.bincount(codes, weights=weights * column, minlength=levels) / mass
    return means, (covariates - means[codes]) * np.sqrt(weights)[:, None]


def _kept_columns(covariates: Floats, centered: Floats) -> Ints:
    """Columns that vary within levels (beyond rounding) and that earlier ones do not determine."""
    n, width = covariates.shape
    scale = np.sqrt(np.mean(covariates**2, axis=0)) if n else np.ones(width)
    norms = np.sqrt(np.einsum("ij,ij->j", centered, centered))
    varying = np.flatnonzero(norms > 1e-9 * np.sqrt(n) * np.maximum(scale, 1e-300))
    return np.asarray(varying[_independent(centered[:, varying] / norms[varying])])


def _independent(columns: Floats) -> Ints:
    """Indices of the columns that earlier ones do not determine.

    columns : (n, z) of unit length; taken one by one in a Cholesky of their Gram matrix
    """
    gram = columns.T @ columns
    chosen: list[int] = []
    for j in range(gram.shape[0]):
        if chosen:
            block = gram[np.ix_(chosen, chosen)]
            left = gram[j, j] - gram[j, chosen] @ np.linalg.solve(block, gram[chosen, j])
        else:
            left = gram[j, j]
        if left > 1e-9:
            chosen.append(j)
    return np.asarray(chosen, dtype=np.int64)


def _orthonormal(columns: Floats) -> tuple[Floats, Floats]:
    """Thin QR by Cholesky, twice: as accurate as Householder for columns of full rank.

    It costs two matrix products.
    """
    z = columns.shape[1]
    if z == 0:
        return np.empty((len(columns), 0)), np.empty((0, 0))
    norms = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    q, r = columns / norms, np.diag(norms)
    for _ in range(2):
        lower = np.linalg.cholesky(q.T @ q)
        q, r = q @ np.linalg.inv(lower).T, lower.T @ r
    return np.asfortranarray(q), np.asarray(r)  # columns side by side: they are read one at a time
