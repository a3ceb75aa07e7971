"""The reference distribution: residuals permuted (or flipped) and studentised; p and interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from gradaudit.stats.family import STATISTICS, Floats, Ints
from gradaudit.stats.linear_model import Design
from gradaudit.stats.standard_errors import leverage_factor

# relative: statistics closer than this are one value (permutations of discrete data tie exactly)
TIE = 1e-9
CACHED_BYTES = 96 * 2**20
# values of one permuted block: 4 MB, so that block, fit and square stay in cache
_CHUNK_VALUES = 2**19
# more levels are centered by sums over neighboring rows: their columns would not fit the cache
DENSE_LEVELS = 16


# ── the reference distribution ────────────────────────────────────────────────────────────────────


@STATISTICS.register(
    label="studentised permutation t",
    summary="Residuals of the full model are permuted among patients, the model is fitted again, t is taken again.",
    formula="t = wᵀy / SE;  t* = wᵀe_π / SE(e_π) over B permutations π",
    source="ter Braak 1992, in Bootstrapping and Related Techniques p. 79; studentised: DiCiccio & Romano 2017, JASA 112:1211",
    caveat="Known to be loose where few patients vary far more than the rest: 10 patients with eight times the variance give 7.4 % for 5 %.",
)
def reference_t(
    fit: Design,
    residuals: Floats,
    weights: Floats,
    permutations: int,
    seed: int,
    *,
    flip: bool = False,
    joint: Sequence[Sequence[int]] = (),
    chunk: int | None = None,
) -> tuple[Floats, list[Floats]]:
    """t* of every contrast, and Wald's statistic of every joint hypothesis, under permutation.

    residuals : (n,) of the full model, which are permuted (or have their signs flipped)
    weights : (n, k) row weights of the contrasts
    joint : lists of contrast indices tested together
    flip : signs are flipped instead of rows permuted (one-sample designs: within-patient and
        within-pair differences)
    chunk : permutations held at once (memory only: the result does not depend on it)
    returns : (B, k) signed, and one (B,) per joint hypothesis.  A t* with zero standard error is
        infinite, or 0 where t* = 0/0.
    """
    n = len(weights)
    factor = leverage_factor(fit.leverage)[:, None]
    pairs = [(a, b) for group in joint for i, a in enumerate(group) for b in group[i + 1 :]]
    variance = weights**2 * factor
    if pairs:
        cross = np.column_stack([weights[:, a] * weights[:, b] for a, b in pairs]) * factor
        variance = np.hstack([variance, cross])
    together = rows_together(fit)
    with one_thread().limit(limits=1, user_api="blas"):
        return _permuted(
            Remover.of(fit, together),
            residuals[together],
            weights[together],
            variance[together],
            pairs,
            joint,
            draws(n, permutations, seed, flip, chunk or _chunk(n)),
            permutations,
        )


def rows_together(fit: Design) -> Ints:
    """An order of the rows in which those of one level lie side by side, where levels are many."""
    if len(fit.counts) > DENSE_LEVELS:
        return np.argsort(fit.codes, kind="stable")
    return np.arange(len(fit.codes))


@dataclass(frozen=True)
class Remover:
    """Takes the fit of a model out of permuted rows.

    basis : (n, p) orthonormal columns; of many levels only the covariates' own, (n, z)
    mass, starts : (G,) of the many levels, whose rows lie side by side; None where the basis holds
        the levels
    counts : (G,) rows of each; root : (n,) roots of the rows' weights, or None
    """

    basis: Floats
    mass: Floats | Ints | None = None
    starts: Ints | None = None
    counts: Ints | None = None
    root: Floats | None = None

    @classmethod
    def of(cls, fit: Design, rows: Ints) -> Remover:
        if len(fit.counts) <= DENSE_LEVELS:
            return cls(fit.basis()[rows])
        starts = np.r_[0, np.cumsum(fit.counts)[:-1]]
        root = None if fit.root is None else fit.root[rows]
        return cls(fit.q[rows], fit.mass, starts, fit.counts, root)

    def estimates_and_residuals(self, drawn: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Of every row of ``drawn`` (chunk, n): its estimates (chunk, k) and residuals (chunk, n)."""
        if self.mass is None or self.starts is None or self.counts is None:
            product = drawn @ np.hstack([self.basis, weights])
            p = self.basis.shape[1]
            return product[:, p:], drawn - product[:, :p] @ self.basis.T
        summed = drawn if self.root is None else drawn * self.root
        means = np.add.reduceat(summed, self.starts, axis=1) / self.mass
        fitted = np.repeat(means, self.counts, axis=1)
        centered = drawn - (fitted if self.root is None else fitted * self.root)
        return drawn @ weights, centered - (centered @ self.basis) @ self.basis.T


def _permuted(
    remover: Remover,
    residuals: Floats,
    weights: Floats,
    variance: Floats,
    pairs: list[tuple[int, int]],
    joint: Sequence[Sequence[int]],
    blocks: Iterator[NDArray[Any]],
    permutations: int,
) -> tuple[Floats, list[Floats]]:
    """t* and Wald statistics over blocks of row orders (integers) or signs (int8)."""
    k = weights.shape[1]
    out, walds = np.empty((permutations, k)), [np.empty(permutations) for _ in joint]
    floor = _no_error(residuals, weights)
    done = 0
    for top, square in _refitted(remover, residuals, weights, variance, blocks):
        end = done + len(top)
        out[done:end] = studentized(top, square[:, :k], floor)
        for wald, group in zip(walds, joint, strict=True):
            wald[done:end] = _wald_rows(top, square, group, pairs, k)
        done = end
    return out, walds


def _refitted(
    remover: Remover,
    residuals: Floats,
    weights: Floats,
    variance: Floats,
    blocks: Iterator[NDArray[Any]],
) -> Iterator[tuple[Floats, Floats]]:
    """Estimates (b, k) and variances (b, columns of ``variance``) of each permuted block."""
    for block in blocks:
        drawn = residuals * block if block.dtype == np.int8 else residuals[block]
        top, left = remover.estimates_and_residuals(drawn, weights)
        np.multiply(left, left, out=left)
        yield top, left @ variance


def _no_error(residuals: Floats, weights: Floats) -> Floats:
    """Variance of each contrast that counts as none, (k,)."""
    largest = float(np.max(residuals**2, initial=0.0))
    return np.asarray(1e-20 * largest * np.sum(weights**2, axis=0) + 1e-300)


@dataclass(frozen=True)
class PermutedCoefficients:
    """Permuted coefficients from which t* of any of their combinations follows.

    estimates : (B, k)
    covariances : (B, k (k + 1) / 2), HC2, the entries of the upper triangle row by row
    gram : (k, k) of the row weights; scale : the largest squared residual
    """

    estimates: Floats
    covariances: Floats
    gram: Floats
    scale: float

    def t(self, combinations: Floats) -> Floats:
        """t* of each row of ``combinations`` (m, k): (B, m), signed.

        The estimates are linear in the coefficients and the variances are quadratic, so that 78
        combinations of three coefficients cost hardly more than the three.
        """
        rows, columns = np.triu_indices(combinations.shape[1])
        twice = np.where(rows == columns, 1.0, 2.0)
        products = twice * combinations[:, rows] * combinations[:, columns]
        squares = np.einsum("mk,kl,ml->m", combinations, self.gram, combinations)
        floor = 1e-20 * self.scale * squares + 1e-300
        return studentized(self.estimates @ combinations.T, self.covariances @ products.T, floor)


@STATISTICS.register(
    label="permuted coefficients",
    summary="Coefficients and their covariances under permutation, for every combination of them.",
    formula="t*_c = cᵀβ* / √(cᵀV*c), V* the HC2 covariance of the permuted fit",
    source="ter Braak 1992; largest |t*| over many c: Westfall & Young 1993, sec. 2.3",
)
def permuted_coefficients(
    fit: Design, residuals: Floats, weights: Floats, permutations: int, seed: int
) -> PermutedCoefficients:
    """As ``reference_t``, of all linear combinations of k coefficients at once.

    residuals : (n,) of the full model, which are permuted
    weights : (n, k) row weights of the coefficients
    """
    n, k = weights.shape
    rows, columns = np.triu_indices(k)
    factor = leverage_factor(fit.leverage)[:, None]
    variance = weights[:, rows] * weights[:, columns] * factor
    blocks = draws(n, permutations, seed, False, _chunk(n))
    together = rows_together(fit)
    remover = Remover.of(fit, together)
    with one_thread().limit(limits=1, user_api="blas"):
        found = list(
            _refitted(remover, residuals[together], weights[together], variance[together], blocks)
        )
    return PermutedCoefficients(
        np.concatenate([top for top, _ in found]),
        np.concatenate([square for _, square in found]),
        weights.T @ weights,
        float(np.max(residuals**2, initial=0.0)),
    )


def _chunk(n: int) -> int:
    return max(16, _CHUNK_VALUES // max(n, 1))


@lru_cache(maxsize=1)
def one_thread() -> ThreadpoolController:
    """Blocks fit the cache of one core; more threads are slower (16 s against 6 s on two cores)."""
    return ThreadpoolController()


def studentized(top: Floats, square: Floats, floor: Floats) -> Floats:
    """top / sqrt(square); where ``square`` is no more than ``floor``: infinite, or 0 for 0/0."""
    small = square <= floor
    return np.asarray(
        np.where(
            small,
            np.where(top**2 > floor, np.copysign(np.inf, top), 0.0),
            top / np.sqrt(np.where(small, 1.0, square)),
        )
    )


def _wald_rows(
    top: Floats, square: Floats, group: Sequence[int], pairs: list[tuple[int, int]], k: int
) -> Floats:
    index = np.asarray(group)
    matrix = np.empty((len(top), len(group), len(group)))
    for i, a in enumerate(group):
        matrix[:, i, i] = square[:, a]
        for j in range(i + 1, len(group)):
            matrix[:, i, j] = matrix[:, j, i] = square[:, k + pairs.index((a, group[j]))]
    rows: Floats = wald(top[:, index], matrix)
    return rows


@STATISTICS.register(
    label="permuted Wald",
    summary="Several differences tested together: is any of them not zero?",
    formula="W = dᵀV⁻¹d;  p = (1 + #{W* ≥ W}) / (B + 1)",
    source="Wald 1943, Trans. Am. Math. Soc. 54:426; permuted: ter Braak 1992",
)
def wald(estimates: Floats, covariance: Floats) -> Floats:
    """est' cov^-1 est for stacks (B, q) and (B, q, q); infinite where the covariance is singular."""
    scale = np.sqrt(np.maximum(np.einsum("bii->bi", covariance), 1e-300))
    scaled = covariance / (scale[:, :, None] * scale[:, None, :])
    singular = np.linalg.det(scaled) < 1e-10
    scaled[singular] = np.eye(scaled.shape[1])
    unit = estimates / scale
    value = np.einsum("bi,bi->b", unit, np.linalg.solve(scaled, unit[:, :, None])[:, :, 0])
    return np.asarray(np.where(singular, np.inf, value))


def draws(n: int, permutations: int, seed: int, flip: bool, chunk: int) -> Iterator[NDArray[Any]]:
    """Blocks of row orders (integers) or of signs (int8), each (chunk, n).

    The whole depends on n, permutations and seed alone, not on how it is cut.
    """
    if n * permutations * (1 if flip else 2) <= CACHED_BYTES and n < 2**16:
        whole = draw_matrix(n, permutations, seed, flip)
        for start in range(0, permutations, chunk):
            block = whole[start : start + chunk]
            yield block.astype(np.intp, copy=False) if block.dtype != np.int8 else block
        return
    rng = np.random.default_rng((seed, n))
    for start in range(0, permutations, chunk):
        yield _draw_block(rng, n, min(chunk, permutations - start), flip, np.dtype(np.intp))


@lru_cache(maxsize=2)
def draw_matrix(n: int, permutations: int, seed: int, flip: bool) -> NDArray[Any]:
    """The row orders (or signs) of one attribute, (permutations, n).

    Every region and outcome with the same rows meets the same permutations.
    """
    small = n * permutations * np.dtype(np.intp).itemsize <= CACHED_BYTES // 4
    return _draw_block(
        np.random.default_rng((seed, n)),
        n,
        permutations,
        flip,
        np.dtype(np.intp if small else np.uint16),
    )


def _draw_block(
    rng: np.random.Generator, n: int, rows: int, flip: bool, dtype: np.dtype[Any]
) -> NDArray[Any]:
    if flip:
        return np.asarray(rng.integers(0, 2, (rows, n), dtype=np.int64) * 2 - 1).astype(np.int8)
    return np.asarray(rng.permuted(np.broadcast_to(np.arange(n, dtype=dtype), (rows, n)), axis=1))


STATISTICS.register(
    name="sign_flip_t",
    label="studentised sign-flip t",
    summary="Within-patient and within-pair differences keep their size and have their signs flipped; t is taken again.",
    formula="t* = wᵀ(s∘e) / SE(s∘e), s_i = ±1 with equal chance",
    source="Fisher 1935, The Design of Experiments, sec. 21",
)(reference_t)


@STATISTICS.register(
    label="permutation p",
    summary="Share of permuted statistics at least as far from zero as the one seen, which counts as one of them.",
    formula="p = (1 + #{|t*| ≥ |t|}) / (B + 1)",
    source="Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39",
)
def p_value(statistic: float, reference: Floats) -> float:
    """(1 + #{|t*| >= |t|}) / (B + 1); values within 1e-9 of each other count as equal.

    reference : (B,) of |t*|, or of any statistic that is never negative
    """
    return float(
        (1 + np.count_nonzero(reference >= abs(statistic) * (1 - TIE))) / (len(reference) + 1)
    )


@STATISTICS.register(
    label="permutation interval",
    summary="Every difference that the same permutation test would not reject.",
    formula="estimate ± q·SE, q the ⌊α(B+1)⌋-th largest |t*|",
    source="inversion of a test: Cox & Hinkley 1974, Theoretical Statistics, ch. 7",
    caveat="One set of |t*| serves p and interval, so they never disagree.",
)
def critical_value(reference: Floats, alpha: float) -> float:
    """The floor(alpha (B + 1))-th largest |t*|: p_value <= alpha exactly where |t| is above it.

    reference : (B,) of |t*|
    """
    rank = int(np.floor(alpha * (len(reference) + 1) + 1e-9))
    if rank < 1:
        return float("inf")
    return float(np.partition(reference, len(reference) - rank)[len(reference) - rank])


# ── tests taken from scipy as they are ────────────────────────────────────────────────────────────

STATISTICS.register(
    name="student_t",
    label="t, HC2, Bell–McCaffrey df",
    summary="The analytic test, where every side has 200 patients and 40 that can vary.",
    formula="p = 2·P(T_df ≥ |estimate/SE|);  interval = estimate ± t_{1−α/2, df}·SE",
    source="Imbens & Kolesár 2016, Rev. Econ. Stat. 98:701 (scipy.special.stdtr)",
)(special.stdtr)

STATISTICS.register(
    name="site_t",
    label="t, CR2 at the site, Bell–McCaffrey df",
    summary="The test where patients belong to sites, five of which at least hold both groups.",
    formula="p = 2·P(T_df ≥ |estimate/SE|),  SE of CR2 with sites as clusters",
    source="Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus. Econ. Stat. 36:672 (scipy.special.stdtr)",
)(special.stdtr)

STATISTICS.register(
    name="wald_f",
    label="Wald F",
    summary="Several differences tested together, where every side is large.",
    formula="F = dᵀV⁻¹d / q against F(q, residual df)",
    source="Rao 1973, Linear Statistical Inference, ch. 4 (scipy.special.fdtrc)",
)(special.fdtrc)

STATISTICS.register(
    name="fisher_exact",
    label="Fisher exact",
    summary="Exact test of two shares, where no patient differs from its own group.",
    formula="hypergeometric probability of tables no more likely than the one seen",
    source="Fisher 1935, J. R. Statist. Soc. 98:39 (scipy.stats.fisher_exact); interval: Agresti & Caffo 2000, Am. Stat. 54:280",
)(stats.fisher_exact)
