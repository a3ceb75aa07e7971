"""The change of a difference between two data sets that may share clusters.

A difference is a sum over clusters (``contrast.Fitted``), and so is its change:

    change = after - before,   SE² = Σ_c (ψ_after,c − ψ_before,c)²,   ψ_c = w_c e_c / √(1 − h_c)

where a cluster that is in one of them alone has ψ = 0 in the other.  With the same clusters in both
that is the HC2 error of the clusters' own changes, with none in common the sum of both variances,
and anything between where some are shared.  Its reference distribution permutes the residuals of
both together: a cluster that is in both keeps its two residuals side by side, those of one data set
alone are permuted among themselves.

Whether the later difference is *smaller in size* needs two signs: |after| < |before| exactly where
the change (after − before) and the sum (after + before) have opposite signs.  Both are tested, and
the larger p counts (intersection–union: Berger 1982, Technometrics 24:295).

Sources: HC2: MacKinnon & White 1985, J. Econometrics 29:305; joint estimation of two fits by their
influences: Weesie 1999, Stata Technical Bulletin 52:34 (seemingly unrelated estimation); permuted
residuals: ter Braak 1992.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import special

from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.permutation import (
    Remover,
    critical_value,
    one_thread,
    p_value,
    rows_together,
    studentized,
)
from gradaudit.stats.standard_errors import leverage_factor
from gradaudit.subgroups.contrast import Fitted

MOST_PERMUTED = 20_000
"""Clusters of both data sets together, above which Student's t is taken."""
NO_ERROR = 1e-6
"""Error of a change beside those of the two differences, at and below which it counts as none."""
_CHUNK_VALUES = 2**19


@dataclass(frozen=True)
class Half:
    """One of the two differences.

    fitted : None where every value is the same, so that the difference is 0 without an error
    se, df : its own
    """

    estimate: float
    fitted: Fitted | None
    se: float = 0.0
    df: float = np.inf


@dataclass(frozen=True)
class Statistic:
    """One estimate with its error and the distribution of |t| under the null hypothesis.

    sizes : (B,) of |t*|, or None: Student's t with ``df``
    """

    estimate: float
    se: float
    df: float
    sizes: Floats | None

    @cached_property
    def p(self) -> float:
        """Two-sided p of zero; 1 without an error."""
        if not self.se > 0:
            return 1.0
        if self.sizes is None:
            return 2 * float(special.stdtr(self.df, -abs(self.estimate / self.se)))
        return float(p_value(self.estimate / self.se, self.sizes))

    def interval(self, level: float) -> tuple[float, float]:
        """Leaves out ``level`` on both sides together; p <= level exactly where 0 is outside."""
        if not self.se > 0:
            return self.estimate, self.estimate
        by_t = self.sizes is None
        q = special.stdtrit(self.df, 1 - level / 2) if by_t else critical_value(self.sizes, level)
        q = float(q)
        return self.estimate - q * self.se, self.estimate + q * self.se


@dataclass(frozen=True)
class ChangeTest:
    """The change (after - before) and the sum (after + before) of two differences."""

    change: Statistic
    total: Statistic

    @property
    def p_size(self) -> float:
        """p of "both are of one size, or the other one is larger" : both signs must be shown."""
        return max(self.change.p, self.total.p)

    @property
    def shrinks(self) -> bool:
        """Whether the later difference is the smaller one in size, as far as the estimates go."""
        return self.change.estimate * self.total.estimate < 0

    @property
    def has_error(self) -> bool:
        return self.change.se > 0


def change_tests(
    pairs: Sequence[tuple[Half, Half]],
    permutations: int,
    seed: int,
    site_of: Ints | None = None,
) -> list[ChangeTest]:
    """The change of each pair (before, after); pairs that come from the same two fits go together.

    site_of : (U,) site of each cluster by its number, for differences whose error is that of sites
    The order of rows does not matter, and swapping before and after turns the sign of each change
    and nothing else.
    """
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for i, pair in enumerate(pairs):
        first, second = (0 if h.fitted is None else id(h.fitted.fit) for h in pair)
        by_site = any(h.fitted is not None and h.fitted.by_site for h in pair)
        groups.setdefault((first, second, by_site), []).append(i)
    out: dict[int, ChangeTest] = {}
    for (*_, by_site), places in groups.items():
        own = [pairs[i] for i in places]
        found = (
            _of_one_pair_of_fits(own, permutations, seed)
            if site_of is None or not by_site
            else [_of_sites(pair, site_of) for pair in own]
        )
        out |= dict(zip(places, found, strict=True))
    return [out[i] for i in range(len(pairs))]


# ── clusters ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Rows:
    """The rows of one fit: those of clusters that are in both fits first, each part by number.

    weights : (n, k)      scores : (n, k) influence on each estimate
    shared : how many clusters are in both
    order : (n,) places in the fit
    """

    fitted: Fitted | None
    clusters: Ints
    weights: Floats
    scores: Floats
    shared: int
    order: Ints

    @classmethod
    def of(cls, halves: Sequence[Half], shared: Ints) -> _Rows:
        fitted = [h.fitted for h in halves]
        first = next((f for f in fitted if f is not None), None)
        if first is None:
            none = np.empty((0, len(halves)))
            return cls(None, np.empty(0, np.int64), none, none, 0, np.empty(0, np.int64))
        weights = np.column_stack([f.weights for f in fitted if f is not None])
        inside = np.isin(first.clusters, shared)
        order = np.lexsort((first.clusters, ~inside))
        error = first.residuals * np.sqrt(leverage_factor(first.fit.leverage))
        return cls(
            fitted=first,
            clusters=first.clusters[order],
            weights=weights[order],
            scores=(weights * error[:, None])[order],
            shared=int(inside.sum()),
            order=order,
        )

    @cached_property
    def spread(self) -> Floats:
        """(n, k) what a squared residual adds to the variance, beside the other fit's."""
        assert self.fitted is not None
        factor = np.sqrt(leverage_factor(self.fitted.fit.leverage[self.order]))
        return np.asarray(self.weights * factor[:, None])

    @cached_property
    def permutable(self) -> Floats:
        """(n,) residuals; where rows are permuted, those of either part are about their own mean.

        Clusters of one data set alone may lie elsewhere than those in both, which is no part of
        chance.
        """
        assert self.fitted is not None
        left = self.fitted.residuals[self.order].copy()
        if not self.fitted.flip:
            for part in (slice(0, self.shared), slice(self.shared, None)):
                if len(left[part]):
                    left[part] -= left[part].mean()
        return np.asarray(left)


def _of_one_pair_of_fits(
    pairs: Sequence[tuple[Half, Half]], permutations: int, seed: int
) -> list[ChangeTest]:
    clusters = [h.fitted.clusters for h in pairs[0] if h.fitted is not None]
    shared = np.empty(0, np.int64)
    if len(clusters) == 2:
        shared = np.intersect1d(clusters[0], clusters[1])
    before = _Rows.of([pair[0] for pair in pairs], shared)
    after = _Rows.of([pair[1] for pair in pairs], shared)
    errors = _errors(before, after)
    count = len(before.clusters) + len(after.clusters) - len(shared)
    drawn = None
    if 0 < count <= MOST_PERMUTED and any(e.any() for e in errors):
        drawn = [np.abs(t) for t in _permuted(before, after, permutations, seed)]
    out = []
    for k, (b, a) in enumerate(pairs):
        df = min(a.df, b.df)
        sizes = (None, None) if drawn is None else (drawn[0][:, k], drawn[1][:, k])
        error, error_of_sum = (float(e[k]) for e in errors)
        change = Statistic(a.estimate - b.estimate, error, df, sizes[0])
        out.append(
            ChangeTest(change, Statistic(a.estimate + b.estimate, error_of_sum, df, sizes[1]))
        )
    return out


def _errors(before: _Rows, after: _Rows) -> list[Floats]:
    """(k,) errors of the change and of the sum; 0 where they are no more than rounding."""
    own = np.sqrt(np.sum(before.scores**2, axis=0) + np.sum(after.scores**2, axis=0))
    found = [np.sqrt(_squares(before, after, sign)) for sign in (-1, 1)]
    return [np.where(error > NO_ERROR * own, error, 0.0) for error in found]


def _squares(before: _Rows, after: _Rows, sign: int) -> Floats:
    """(k,) squared error of after + sign * before."""
    n = before.shared
    together = after.scores[:n] + sign * before.scores[:n]
    parts = (together, before.scores[n:], after.scores[n:])
    return np.asarray(sum(np.sum(part**2, axis=0) for part in parts))


def _permuted(before: _Rows, after: _Rows, permutations: int, seed: int) -> list[Floats]:
    """t* of the change and of the sum, each (B, k)."""
    k = after.weights.shape[1]
    n = before.shared
    cross = np.empty((0, k)) if not n else before.spread[:n] * after.spread[:n]
    halves = [_Refit.of(rows) for rows in (before, after)]
    out = [np.empty((permutations, k)) for _ in range(2)]
    done = 0
    with one_thread().limit(limits=1, user_api="blas"):
        for blocks in _blocks(before, after, permutations, seed):
            (b, left_b, var_b), (a, left_a, var_a) = (
                half.drawn(block, k) for half, block in zip(halves, blocks, strict=True)
            )
            mixed = (left_b[:, :n] * left_a[:, :n]) @ cross if n else 0.0
            floor = 1e-13 * (var_a + var_b) + 1e-300
            end = done + len(blocks[0])
            out[0][done:end] = studentized(a - b, var_a + var_b - 2 * mixed, floor)
            out[1][done:end] = studentized(a + b, var_a + var_b + 2 * mixed, floor)
            done = end
    return out


@dataclass(frozen=True)
class _Refit:
    """Fits permuted residuals of one data set again.

    together : (n,) an order in which rows of one absorbed level lie side by side; back : its inverse
    """

    rows: _Rows
    remover: Remover | None
    together: Ints
    back: Ints

    @classmethod
    def of(cls, rows: _Rows) -> _Refit:
        if rows.fitted is None:
            none = np.empty(0, np.int64)
            return cls(rows, None, none, none)
        fit = rows.fitted.fit
        place = np.empty(len(rows.order), dtype=np.int64)
        place[rows.order] = np.arange(len(rows.order))
        together = place[rows_together(fit)]
        return cls(rows, Remover.of(fit, rows.order[together]), together, np.argsort(together))

    def drawn(self, block: np.ndarray[Any, Any], k: int) -> tuple[Floats, Floats, Floats]:
        """Estimates (b, k), residuals (b, n) and variances (b, k) of one block of orders or signs."""
        if self.remover is None:
            none = np.zeros((len(block), k))
            return none, np.empty((len(block), 0)), none
        values = self.rows.permutable
        moved = values * block if block.dtype == np.int8 else values[block]
        top, left = self.remover.estimates_and_residuals(
            moved[:, self.together], self.rows.weights[self.together]
        )
        left = left[:, self.back]
        return top, left, left**2 @ self.rows.spread**2


def _blocks(
    before: _Rows, after: _Rows, permutations: int, seed: int
) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Orders (integers) or signs (int8) of the rows of both fits; clusters in both move together."""
    n = before.shared
    flip = any(rows.fitted is not None and rows.fitted.flip for rows in (before, after))
    parts = (before.clusters[:n], before.clusters[n:], after.clusters[n:])
    sources = [_source(part, seed) for part in parts]
    size = len(before.clusters) + len(after.clusters)
    chunk = max(16, _CHUNK_VALUES // max(size, 1))
    for start in range(0, permutations, chunk):
        count = min(chunk, permutations - start)
        both, first, second = (
            _drawn(rng, len(part), count, flip=flip)
            for rng, part in zip(sources, parts, strict=True)
        )
        shift = 0 if flip else n
        yield (
            np.hstack([both, first + shift]).astype(both.dtype),
            np.hstack([both, second + shift]).astype(both.dtype),
        )


def _source(clusters: Ints, seed: int) -> np.random.Generator:
    """Draws that depend on who the clusters are, and not on which data set they are in."""
    mark = zlib.crc32(np.ascontiguousarray(clusters, dtype=np.int64).tobytes())
    return np.random.default_rng((seed, mark))


def _drawn(rng: np.random.Generator, n: int, count: int, *, flip: bool) -> np.ndarray[Any, Any]:
    if flip:
        return np.asarray(rng.integers(0, 2, (count, n)) * 2 - 1).astype(np.int8)
    return np.asarray(rng.permuted(np.broadcast_to(np.arange(n), (count, n)), axis=1))


# ── sites ─────────────────────────────────────────────────────────────────────────────────────────


def _of_sites(pair: tuple[Half, Half], site_of: Ints) -> ChangeTest:
    """The change where sites are the unit of the error, by Student's t.

    A site's influence is the sum of its clusters'; it is scaled so that each difference keeps its
    own error (CR2), and what both share is what their sites share.
    """
    count = int(site_of.max(initial=0)) + 1
    scores: list[Floats] = [np.zeros(count), np.zeros(count)]
    for place, half in enumerate(pair):
        fitted = half.fitted
        if fitted is None:
            continue
        terms = fitted.weights * fitted.residuals
        sums = np.bincount(site_of[fitted.clusters], weights=terms, minlength=count)
        size = float(np.sqrt(np.sum(sums**2)))
        scores[place] = np.asarray(sums * (half.se / size if size > 0 else 0.0))
    b, a = pair
    df = min(a.df, b.df)
    own = float(np.sqrt(np.sum(scores[0] ** 2) + np.sum(scores[1] ** 2)))
    found = []
    for sign in (-1, 1):
        error = float(np.sqrt(np.sum((scores[1] + sign * scores[0]) ** 2)))
        error = error if error > NO_ERROR * own else 0.0
        found.append(Statistic(a.estimate + sign * b.estimate, error, df, None))
    return ChangeTest(*found)
