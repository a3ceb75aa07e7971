"""The statistical protocol on bare arrays: one row per patient, adjusted regression, studentised permutation, verdict.

Model of every comparison: ``y_i = level[code_i] + covariates_i @ gamma + error_i`` over n independent rows (patient
means).  Level indicators are never stored: covariates are centred within levels instead (Frisch-Waugh), so three million
rows cost memory for the covariates alone.  A contrast c is a linear function of y: ``estimate = w @ y`` with row weights w.

    estimate      w @ y
    standard error HC2, sum w_i^2 e_i^2 / (1 - h_i)                     (hc2; equal to Welch's without covariates)
    p, interval   permuted full-model residuals, studentised again       (reference_t, p_value, critical_value)
    or analytic   t with Bell-McCaffrey degrees of freedom               (bell_mccaffrey)
    verdict       adjusted p, p of equivalence, interval against margin  (verdict)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from gradaudit.records import Verdict
from gradaudit.registry import Family

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STATISTICS: Family = Family("statistic")  # type: ignore[type-arg]
"""Every estimate, standard error, test, correction and effect size that a finding can carry, with formula and source."""

KNOTS = (0.05, 0.35, 0.65, 0.95)
TIE = 1e-9  # relative: statistics closer than this are one value (permutations of discrete data tie exactly)
_CACHED_BYTES = 96 * 2**20
_CHUNK_VALUES = 2**19  # values of one permuted block: 4 MB, so that block, fit and square stay in cache


# ── rows ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@STATISTICS.register(
    label="patient mean", summary="Average over the images of one cluster, so that each patient counts once.",
    formula="ȳ_p = Σ_{i∈p} y_i / n_p", source="one row per unit of independence; statistics on summary measures: Matthews et al. 1990, BMJ 300:230",
    caveat="Image rows of one patient are not independent: testing on them turns 5 % into 15-33 %.",
)  # fmt: skip
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
    label="spline of logit area", summary="Smooth curve of region size (natural cubic spline), straight beyond its outer knots.",
    formula="x = ln(area/(1 − area)), and "
    "[(x−t_j)³₊ − (x−t_3)³₊(t_4−t_j)/(t_4−t_3) + (x−t_4)³₊(t_3−t_j)/(t_4−t_3)]/(t_4−t_1)², j = 1, 2; t = 5, 35, 65, 95 % points",
    source="Harrell, Regression Modeling Strategies, 2nd ed. 2015, eq. 2.25",
    caveat="Share divided by area does not remove the confounding by size (a true null is rejected in 16-100 %).",
)  # fmt: skip
def spline_basis(x: Floats, knots: Floats | None = None) -> Floats:
    """Columns of a natural cubic spline without intercept: x itself and one column per inner degree of freedom.

    x : (n,) finite      knots : increasing, at least 3 to bend; default the 5/35/65/95 % points of x
    returns : (n, 3), or (n, 1) where x has too few distinct values for a bend, or (n, 0) where x is constant
    """
    if len(x) == 0 or np.ptp(x) == 0:
        return np.empty((len(x), 0))
    if knots is None:
        knots = np.unique(np.quantile(x, KNOTS))
    if len(knots) < 3 or np.min(np.diff(knots)) < 1e-6 * (knots[-1] - knots[0]):
        return x[:, None].copy()
    last, before, width = knots[-1], knots[-2], knots[-1] - knots[0]
    columns = [x]
    tail_before, tail_last = np.maximum(x - before, 0) ** 3, np.maximum(x - last, 0) ** 3
    for knot in knots[:-2]:
        bend = np.maximum(x - knot, 0) ** 3 - tail_before * (last - knot) / (last - before) + tail_last * (before - knot) / (last - before)
        columns.append(bend / width**2)
    return np.column_stack(columns)


def logit(share: Floats) -> Floats:
    """log(share / (1 - share)), with 0 and 1 moved inside by 1e-6 so that the whole image stays finite."""
    return np.asarray(special.logit(np.clip(share, 1e-6, 1 - 1e-6)))


# ── the linear model ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Design:
    """Levels and covariates of n rows, orthogonalised.

    codes : (n,) level of each row, 0..G-1      counts : (G,) rows per level, each >= 1
    q : (n, z) orthonormal, centred within levels      r : (z, z) with centred covariates = q @ r
    means : (G, z) level means of the kept covariates      leverage : (n,) diagonal of the hat matrix
    kept : which covariate columns are in (columns that others determine are left out, first come first kept)
    """

    codes: Ints
    counts: Ints
    q: Floats
    r: Floats
    means: Floats
    leverage: Floats
    kept: tuple[int, ...]

    def residuals(self, y: Floats) -> Floats:
        """y minus its fit, for y : (n,)."""
        centred = y - cluster_means(y, self.codes, len(self.counts))[self.codes]
        return np.asarray(centred - self.q @ (self.q.T @ centred))

    def slopes(self, y: Floats) -> Floats:
        """Coefficients of the kept covariates, (z,)."""
        return np.asarray(np.linalg.solve(self.r, self.q.T @ y)) if self.r.size else np.empty(0)

    def basis(self) -> Floats:
        """Orthonormal columns of the whole model, (n, G + z); only for row counts that can be permuted."""
        levels = np.zeros((len(self.codes), len(self.counts)))
        levels[np.arange(len(self.codes)), self.codes] = 1 / np.sqrt(self.counts[self.codes])
        return np.hstack([levels, self.q])

    def row_weights(self, on_levels: Floats, on_slopes: Floats | None = None) -> Floats:
        """Weights w with contrast estimate = w @ y: rows of X (X'X)^-1 c.

        on_levels : (G,) coefficients of the level effects      on_slopes : (z,) of the kept covariates
        """
        shift = -(on_levels @ self.means)
        if on_slopes is not None:
            shift = shift + on_slopes
        plain = (on_levels / self.counts)[self.codes]
        return np.asarray(plain + self.q @ np.linalg.solve(self.r.T, shift) if self.r.size else plain)

    def gram(self, d: Floats) -> Floats:
        """Q' diag(d) Q over the whole orthonormal basis Q, without storing the level columns; (G + z, G + z)."""
        levels, z = len(self.counts), self.q.shape[1]
        out = np.zeros((levels + z, levels + z))
        out[np.arange(levels), np.arange(levels)] = np.bincount(self.codes, weights=d, minlength=levels) / self.counts
        for j in range(z):
            weighted = d * self.q[:, j]
            out[:levels, levels + j] = np.bincount(self.codes, weights=weighted, minlength=levels) / np.sqrt(self.counts)
            out[levels:, levels + j] = self.q.T @ weighted
        out[levels:, :levels] = out[:levels, levels:].T
        return out


def design(codes: Ints, covariates: Floats, levels: int | None = None) -> Design:
    """Orthogonalise covariates (n, z) within the levels ``codes`` (n,), dropping columns that earlier ones determine."""
    levels = int(codes.max()) + 1 if levels is None else levels
    counts = np.bincount(codes, minlength=levels)
    means = cluster_means(covariates, codes, levels)
    centred = covariates - means[codes]
    scale = np.sqrt(np.mean(covariates**2, axis=0)) if len(covariates) else np.ones(covariates.shape[1])
    norms = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    varying = np.flatnonzero(norms > 1e-9 * np.sqrt(len(codes)) * np.maximum(scale, 1e-300))
    kept = varying[_independent(centred[:, varying] / norms[varying])]
    q, r = _orthonormal(centred[:, kept])
    leverage = 1 / counts[codes] + np.einsum("ij,ij->i", q, q)
    return Design(codes, counts, q, r, means[:, kept], leverage, tuple(int(k) for k in kept))


def _independent(columns: Floats) -> Ints:
    """Indices of the columns (unit length) that earlier ones do not determine, by a sequential Cholesky of their Gram matrix."""
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
    """Thin QR by Cholesky, twice: as accurate as Householder for full-rank columns, at the cost of two matrix products."""
    z = columns.shape[1]
    if z == 0:
        return np.empty((len(columns), 0)), np.empty((0, 0))
    norms = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    q, r = columns / norms, np.diag(norms)
    for _ in range(2):
        lower = np.linalg.cholesky(q.T @ q)
        q, r = np.linalg.solve(lower, q.T).T, lower.T @ r
    return np.asfortranarray(q), np.asarray(r)  # columns side by side: they are read one at a time


# ── standard errors and degrees of freedom ──────────────────────────────────────────────────────────────────────────


def leverage_factor(leverage: Floats) -> Floats:
    """1 / (1 - h), and 0 for a row that its own coefficient fits exactly (it carries no information on the error)."""
    left = 1 - leverage
    return np.asarray(np.where(left > 1e-9, 1 / np.maximum(left, 1e-9), 0.0))


@STATISTICS.register(
    label="HC2 standard error", summary="Standard error that allows every row its own variance.",
    formula="SE² = Σ w_i² e_i² / (1 − h_i),  w = X(XᵀX)⁻¹c", source="MacKinnon & White 1985, J. Econometrics 29:305, HC2",
    caveat="Equal to Welch's standard error where there are no covariates.",
)  # fmt: skip
def hc2(fit: Design, residuals: Floats, weights: Floats) -> Floats:
    """HC2 covariance of the contrasts with row weights ``weights`` (n, k): (k, k); square roots of its diagonal are the SEs."""
    d = residuals**2 * leverage_factor(fit.leverage)
    return np.asarray(weights.T @ (weights * d[:, None]))


@STATISTICS.register(
    label="Bell-McCaffrey degrees of freedom", summary="Degrees of freedom of a t statistic with an HC2 or CR2 standard error.",
    formula="df = tr(MD)² / tr((MD)²),  D_i = w_i²/(1 − h_i)",
    source="Bell & McCaffrey 2002, Survey Methodology 28:169; Imbens & Kolesár 2016, Rev. Econ. Stat. 98:701",
)  # fmt: skip
def bell_mccaffrey(fit: Design, weights: Floats) -> Floats:
    """Degrees of freedom of each contrast with row weights ``weights`` (n, k): (k,).

    With M = I - QQ', tr((MD)^2) = sum (1 - 2 h_i) D_i^2 + ||Q'DQ||^2, so nothing of size n x n is formed.
    """
    factor = leverage_factor(fit.leverage)
    out = np.empty(weights.shape[1])
    for k in range(weights.shape[1]):
        d = weights[:, k] ** 2 * factor
        trace = float(np.sum(d * (1 - fit.leverage)))
        square = float(np.sum((1 - 2 * fit.leverage) * d**2) + np.sum(fit.gram(d) ** 2))
        out[k] = trace**2 / square if square > 0 else np.nan
    return out


@STATISTICS.register(
    label="CR2 standard error", summary="Cluster-robust standard error on image rows, images of a patient weighted 1/n.",
    formula="SE² = Σ_p (w_pᵀ A_p e_p)²,  A_p = (I − H_pp)^(−1/2)",
    source="Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus. Econ. Stat. 36:672", needs='disparity(unit="image")',
)  # fmt: skip
def cr2(basis: Floats, residuals: Floats, weights: Floats, clusters: Ints) -> tuple[float, float]:
    """CR2 standard error and Bell-McCaffrey degrees of freedom of one contrast on image rows.

    basis : (n, p) orthonormal columns of the (weighted) model      residuals, weights : (n,)
    clusters : (n,) int 0..P-1, sorted (all rows of a cluster side by side)
    """
    starts = np.r_[np.flatnonzero(np.r_[True, np.diff(clusters) != 0]), len(clusters)]
    total, lengths = 0.0, []
    inner = np.empty((len(starts) - 1, basis.shape[1]))
    for s, (a, b) in enumerate(pairwise(starts)):
        q, w = basis[a:b], weights[a:b]
        value, vector = np.linalg.eigh(np.eye(b - a) - q @ q.T)
        u = vector @ (np.where(value > 1e-9, np.maximum(value, 1e-9) ** -0.5, 0.0) * (vector.T @ w))
        total += float(u @ residuals[a:b]) ** 2
        inner[s] = q.T @ u
        lengths.append(float(u @ u))
    size, shared = np.asarray(lengths), np.einsum("ij,ij->i", inner, inner)
    trace = float(np.sum(size - shared))
    square = float(np.sum(size**2) - 2 * np.sum(size * shared) + np.sum((inner.T @ inner) ** 2))
    return float(np.sqrt(total)), trace**2 / square if square > 0 else float("nan")


# ── the reference distribution ──────────────────────────────────────────────────────────────────────────────────────


@STATISTICS.register(
    label="studentised permutation t",
    summary="Residuals of the full model are permuted among patients, the model is fitted again, t is taken again.",
    formula="t = wᵀy / SE;  t* = wᵀe_π / SE(e_π) over B permutations π",
    source="ter Braak 1992, in Bootstrapping and Related Techniques p. 79; studentised: DiCiccio & Romano 2017, JASA 112:1211",
    caveat="Known to be loose where few patients vary far more than the rest: 10 patients with eight times the variance give 7.4 % for 5 %.",
)  # fmt: skip
def reference_t(
    fit: Design, residuals: Floats, weights: Floats, permutations: int, seed: int, *,
    flip: bool = False, joint: Sequence[Sequence[int]] = (), chunk: int | None = None,
) -> tuple[Floats, list[Floats]]:  # fmt: skip
    """|t*| of every contrast, and the Wald statistic of every joint hypothesis, over permuted (or sign-flipped) residuals.

    residuals : (n,) of the full model      weights : (n, k)      joint : lists of contrast indices tested together
    flip : signs are flipped instead of rows permuted (one-sample designs: within-patient and within-pair differences)
    chunk : permutations held at once (memory only: the result does not depend on it)
    returns : (B, k), and one (B,) per joint hypothesis.  A t* with zero standard error is infinite, or 0 where t* = 0/0.
    """
    n = len(weights)
    factor = leverage_factor(fit.leverage)[:, None]
    pairs = [(a, b) for group in joint for i, a in enumerate(group) for b in group[i + 1 :]]
    variance = weights**2 * factor
    if pairs:
        cross = np.column_stack([weights[:, a] * weights[:, b] for a, b in pairs]) * factor
        variance = np.hstack([variance, cross])
    with _one_thread().limit(limits=1, user_api="blas"):
        return _permuted(
            fit.basis(), residuals, weights, variance, pairs, joint, _draws(n, permutations, seed, flip, chunk or _chunk(n)), permutations
        )


def _permuted(
    basis: Floats, residuals: Floats, weights: Floats, variance: Floats, pairs: list[tuple[int, int]], joint: Sequence[Sequence[int]],
    draws: Iterator[NDArray[Any]], permutations: int,
) -> tuple[Floats, list[Floats]]:  # fmt: skip
    """The loop of ``reference_t`` over blocks of row orders (integers) or signs (int8)."""
    k = weights.shape[1]
    both = np.hstack([basis, weights])
    out, walds = np.empty((permutations, k)), [np.empty(permutations) for _ in joint]
    floor = 1e-20 * float(np.max(residuals**2, initial=0.0)) * np.sum(weights**2, axis=0) + 1e-300
    done = 0
    for block in draws:
        drawn = residuals * block if block.dtype == np.int8 else residuals[block]
        product = drawn @ both
        left = drawn - product[:, : basis.shape[1]] @ basis.T
        np.multiply(left, left, out=left)
        square = left @ variance
        top, end = product[:, basis.shape[1] :], done + len(block)
        out[done:end] = _ratio(np.abs(top), square[:, :k], floor)
        for wald, group in zip(walds, joint, strict=True):
            wald[done:end] = _wald_rows(top, square, group, pairs, k)
        done = end
    return out, walds


def _chunk(n: int) -> int:
    return max(16, _CHUNK_VALUES // max(n, 1))


@lru_cache(maxsize=1)
def _one_thread() -> ThreadpoolController:
    """Blocks fit the cache of one core: threads on top make it slower (16 s against 6 s on two shared cores)."""
    return ThreadpoolController()


def _ratio(top: Floats, square: Floats, floor: Floats) -> Floats:
    small = square <= floor
    return np.asarray(np.where(small, np.where(top**2 > floor, np.inf, 0.0), top / np.sqrt(np.where(small, 1.0, square))))


def _wald_rows(top: Floats, square: Floats, group: Sequence[int], pairs: list[tuple[int, int]], k: int) -> Floats:
    index = np.asarray(group)
    matrix = np.empty((len(top), len(group), len(group)))
    for i, a in enumerate(group):
        matrix[:, i, i] = square[:, a]
        for j in range(i + 1, len(group)):
            matrix[:, i, j] = matrix[:, j, i] = square[:, k + pairs.index((a, group[j]))]
    rows: Floats = wald(top[:, index], matrix)
    return rows


@STATISTICS.register(
    label="permuted Wald", summary="Several differences tested together: is any of them not zero?",
    formula="W = dᵀV⁻¹d;  p = (1 + #{W* ≥ W}) / (B + 1)",
    source="Wald 1943, Trans. Am. Math. Soc. 54:426; permuted: ter Braak 1992",
)  # fmt: skip
def wald(estimates: Floats, covariance: Floats) -> Floats:
    """est' cov^-1 est for stacks (B, q) and (B, q, q); infinite where the covariance is singular."""
    scale = np.sqrt(np.maximum(np.einsum("bii->bi", covariance), 1e-300))
    scaled = covariance / (scale[:, :, None] * scale[:, None, :])
    singular = np.linalg.det(scaled) < 1e-10
    scaled[singular] = np.eye(scaled.shape[1])
    unit = estimates / scale
    value = np.einsum("bi,bi->b", unit, np.linalg.solve(scaled, unit[:, :, None])[:, :, 0])
    return np.asarray(np.where(singular, np.inf, value))


def _draws(n: int, permutations: int, seed: int, flip: bool, chunk: int) -> Iterator[NDArray[Any]]:
    """Blocks of row orders (or signs): the same matrix for the same (n, permutations, seed), however it is cut."""
    if n * permutations * (1 if flip else 2) <= _CACHED_BYTES and n < 2**16:
        whole = _draw_matrix(n, permutations, seed, flip)
        for start in range(0, permutations, chunk):
            block = whole[start : start + chunk]
            yield block.astype(np.intp, copy=False) if block.dtype != np.int8 else block
        return
    rng = np.random.default_rng((seed, n))
    for start in range(0, permutations, chunk):
        yield _draw_block(rng, n, min(chunk, permutations - start), flip, np.dtype(np.intp))


@lru_cache(maxsize=2)
def _draw_matrix(n: int, permutations: int, seed: int, flip: bool) -> NDArray[Any]:
    """The shared index matrix of one attribute: every region and outcome with the same rows meets the same permutations."""
    small = n * permutations * np.dtype(np.intp).itemsize <= _CACHED_BYTES // 4
    return _draw_block(np.random.default_rng((seed, n)), n, permutations, flip, np.dtype(np.intp if small else np.uint16))


def _draw_block(rng: np.random.Generator, n: int, rows: int, flip: bool, dtype: np.dtype[Any]) -> NDArray[Any]:
    if flip:
        return np.asarray(rng.integers(0, 2, (rows, n), dtype=np.int64) * 2 - 1).astype(np.int8)
    return np.asarray(rng.permuted(np.broadcast_to(np.arange(n, dtype=dtype), (rows, n)), axis=1))


STATISTICS.register(
    name="sign_flip_t", label="studentised sign-flip t",
    summary="Within-patient and within-pair differences keep their size and have their signs flipped; t is taken again.",
    formula="t* = wᵀ(s∘e) / SE(s∘e), s_i = ±1 with equal chance", source="Fisher 1935, The Design of Experiments, sec. 21",
)(reference_t)  # fmt: skip


@STATISTICS.register(
    label="permutation p", summary="Share of permuted statistics at least as far from zero as the one seen, which counts as one of them.",
    formula="p = (1 + #{|t*| ≥ |t|}) / (B + 1)", source="Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39",
)  # fmt: skip
def p_value(statistic: float, reference: Floats) -> float:
    """(1 + #{|t*| >= |t|}) / (B + 1); values within 1e-9 of each other count as equal."""
    return float((1 + np.count_nonzero(reference >= abs(statistic) * (1 - TIE))) / (len(reference) + 1))


@STATISTICS.register(
    label="permutation interval", summary="Every difference that the same permutation test would not reject.",
    formula="estimate ± q·SE, q the ⌊α(B+1)⌋-th largest |t*|", source="inversion of a test: Cox & Hinkley 1974, Theoretical Statistics, ch. 7",
    caveat="One set of |t*| serves p and interval, so they never disagree.",
)  # fmt: skip
def critical_value(reference: Floats, alpha: float) -> float:
    """The q for which p_value <= alpha exactly where |t| > q: the floor(alpha (B + 1))-th largest |t*|."""
    rank = int(np.floor(alpha * (len(reference) + 1) + 1e-9))
    if rank < 1:
        return float("inf")
    return float(np.partition(reference, len(reference) - rank)[len(reference) - rank])


# ── equivalence, power, multiplicity, verdict ───────────────────────────────────────────────────────────────────────


@STATISTICS.register(
    label="p of equivalence", summary="How surprising so small an estimate would be if the true difference stood at the margin.",
    formula="p_equiv = P(|t*| ≥ (δ − |d|)/SE) if |d| < δ, else 1", source="two one-sided tests: Schuirmann 1987, J. Pharmacokin. Biopharm. 15:657",
    caveat="Two-sided tail on purpose: the interval of the report, not a shorter one, must lie inside the margin.",
)  # fmt: skip
def equivalence_statistic(estimate: float, se: float, margin: float) -> float | None:
    """(margin - |estimate|) / se, or None where the estimate is not inside the margin (then p of equivalence is 1)."""
    return (margin - abs(estimate)) / se if abs(estimate) < margin and se > 0 else None


@STATISTICS.register(
    label="smallest detectable difference", summary="True difference that a study of this size would show with 80 % probability.",
    formula="MDE80 = (t_.975 + t_.80)·SE;  patients needed ≈ n_g·(MDE80/δ)²", source="Bloom 1995, Evaluation Review 19:547",
)  # fmt: skip
def detectable_difference(se: float, df: float, alpha: float = 0.05) -> float:
    """Smallest difference found with 80 % power at level alpha; se in the outcome's unit."""
    df = max(df, 1.0)
    return float((special.stdtrit(df, 1 - alpha / 2) + special.stdtrit(df, 0.8)) * se)


@STATISTICS.register(
    label="Holm", summary="Keeps the chance of any false verdict among the confirmatory contrasts at alpha.",
    formula="p̃_(i) = max over j ≤ i of min(1, (m − j + 1)·p_(j)), smallest p first", source="Holm 1979, Scand. J. Statist. 6:65",
)  # fmt: skip
def holm(p: ArrayLike) -> Floats:
    """Holm-adjusted p-values; NaN entries stay NaN and do not count.

    By hand because statsmodels' multipletests runs a full garbage collection per call (75 ms); a test holds them equal.
    """
    given = np.asarray(p, dtype=np.float64)
    out, known = np.full(given.shape, np.nan), np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(order), 0, -1)), 1.0)
    return out


@STATISTICS.register(
    label="Benjamini-Hochberg", summary="Keeps the expected share of false signals among exploratory signals at alpha.",
    formula="p̃_(i) = min over j ≥ i of min(1, p_(j)·m/j), smallest p first",
    source="Benjamini & Hochberg 1995, J. R. Statist. Soc. B 57:289 (scipy false_discovery_control)",
)  # fmt: skip
def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Benjamini-Hochberg adjusted p-values; NaN entries stay NaN and do not count."""
    given = np.asarray(p, dtype=np.float64)
    out, known = np.full(given.shape, np.nan), np.isfinite(given)
    if known.any():
        out[known] = stats.false_discovery_control(given[known])
    return out


@STATISTICS.register(
    name="max_t", label="max-T", summary="Family-wise p from the largest |t*| of each permutation: uses the dependence between contrasts.",
    formula="p_(k) = max over i ≤ k of (1 + #{max_{j ≥ i} |t*_(j)| ≥ |t_(i)|}) / (B + 1), largest |t| first",
    source="Westfall & Young 1993, Resampling-Based Multiple Testing, alg. 2.8",
    caveat="Only where every group has at least 40 patients.", needs='disparity(correction="max-t")',
)  # fmt: skip
def max_t(statistics: Floats, reference: Floats) -> Floats:
    """Step-down max-T adjusted p-values. statistics : (k,) of |t|      reference : (B, k) of |t*| over shared permutations."""
    order = np.argsort(-statistics, kind="stable")
    steps = [p_value(float(statistics[j]), reference[:, order[i:]].max(axis=1)) for i, j in enumerate(order)]
    out = np.empty(len(statistics))
    out[order] = np.maximum.accumulate(steps) if len(steps) else steps
    return out


STATISTICS.register(
    name="student_t", label="t, HC2, Bell–McCaffrey df", summary="The analytic test, where every side has 200 patients and 40 that can vary.",
    formula="p = 2·P(T_df ≥ |estimate/SE|);  interval = estimate ± t_{1−α/2, df}·SE",
    source="Imbens & Kolesár 2016, Rev. Econ. Stat. 98:701 (scipy.special.stdtr)",
)(special.stdtr)  # fmt: skip
STATISTICS.register(
    name="wald_f", label="Wald F", summary="Several differences tested together, where every side is large.",
    formula="F = dᵀV⁻¹d / q against F(q, residual df)", source="Rao 1973, Linear Statistical Inference, ch. 4 (scipy.special.fdtrc)",
)(special.fdtrc)  # fmt: skip
STATISTICS.register(
    name="fisher_exact", label="Fisher exact", summary="Exact test of two shares, where no patient differs from its own group.",
    formula="hypergeometric probability of tables no more likely than the one seen",
    source="Fisher 1935, J. R. Statist. Soc. 98:39 (scipy.stats.fisher_exact); interval: Agresti & Caffo 2000, Am. Stat. 54:280",
)(stats.fisher_exact)  # fmt: skip


def verdict(p: float, p_equivalence: float, low: float, high: float, margin: float | None, alpha: float = 0.05) -> Verdict:
    """Verdict of one contrast from its adjusted p-values and its interval.

    p, p_equivalence : adjusted in their families; NaN p means that a guard withheld the verdict
    margin : largest immaterial difference, or None (then a difference is shown or not, and nothing is left open: no limit was set)
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


# ── effect sizes ────────────────────────────────────────────────────────────────────────────────────────────────────


@STATISTICS.register(
    label="ratio of adjusted means", summary="How many times as large the group's adjusted mean is as the reference's.",
    formula="exp(ln m_g − ln m_r ± q·SE),  SE² = aᵀVa,  a = (1/m_g, −1/m_r)",
    source="delta method on the log scale: Hedges, Gurevitch & Curtis 1999, Ecology 80:1150",
)  # fmt: skip
def ratio_of_means(means: Floats, covariance: Floats, q: float) -> tuple[float, float, float]:
    """Ratio means[0] / means[1] with its interval; NaN where a mean is not positive. covariance : (2, 2)"""
    if not np.all(means > 0) or not np.isfinite(q):
        return float("nan"), float("nan"), float("nan")
    slope = np.array([1 / means[0], -1 / means[1]])
    half = q * float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
    log_ratio = float(np.log(means[0] / means[1]))
    if half > 50:  # a ratio known to no better than e^50 is not known
        return float(np.exp(log_ratio)), float("nan"), float("nan")
    return float(np.exp(log_ratio)), float(np.exp(log_ratio - half)), float(np.exp(log_ratio + half))


@STATISTICS.register(
    label="Cliff's delta", summary="Chance that a patient of the group lies above one of the reference, minus the reverse, after adjustment.",
    formula="δ = P(a > b) − P(a < b)", range="-1 to 1; probability of superiority = (δ + 1)/2", source="Cliff 1993, Psychol. Bull. 114:494",
)  # fmt: skip
def cliffs_delta(a: Floats, b: Floats) -> float:
    """Cliff's delta of two samples, ties counted half; NaN where one is empty."""
    if len(a) == 0 or len(b) == 0:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([a, b]))
    u = ranks[: len(a)].sum() - len(a) * (len(a) + 1) / 2
    return float(2 * u / (len(a) * len(b)) - 1)


@STATISTICS.register(
    label="t interval of a mean", summary="Mean of patient means with its Student interval (descriptive).", formula="ȳ ± t_{.975, n−1}·s/√n",
    source="Student 1908, Biometrika 6:1",
)  # fmt: skip
def mean_interval(values: Floats, alpha: float = 0.05) -> tuple[float, float, float]:
    """Mean and its t interval; NaN limits below two values, NaN mean below one."""
    n = len(values)
    if n == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(np.mean(values))
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(special.stdtrit(n - 1, 1 - alpha / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


@STATISTICS.register(
    label="shrunken difference", summary="Estimate pulled towards the common mean in proportion to its uncertainty; for display of small cells only.",
    formula="m + (d_c − m)·τ²/(τ² + SE_c²), τ² by DerSimonian-Laird", source="Efron & Morris 1975, JASA 70:311; DerSimonian & Laird 1986",
)  # fmt: skip
def shrunken(estimates: Floats, ses: Floats) -> Floats:
    """Empirical-Bayes estimates of exchangeable cells, (c,); unchanged where fewer than three cells are known."""
    known = np.isfinite(estimates) & np.isfinite(ses) & (ses > 0)
    if known.sum() < 3:
        return estimates.copy()
    d, weight = estimates[known], 1 / ses[known] ** 2
    centre = float(np.sum(weight * d) / np.sum(weight))
    excess = float(np.sum(weight * (d - centre) ** 2)) - (len(d) - 1)
    tau2 = max(0.0, excess / float(np.sum(weight) - np.sum(weight**2) / np.sum(weight)))
    out = estimates.copy()
    out[known] = centre + (d - centre) * tau2 / (tau2 + ses[known] ** 2)
    return out


def mode_share(values: Floats) -> float:
    """Share of the most frequent value (equal to 12 decimals); 1 for a constant, about 0 for continuous values."""
    if len(values) == 0:
        return float("nan")
    ordered = np.sort(np.round(values, 12))
    edges = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    return float(np.max(np.diff(edges)) / len(values))
