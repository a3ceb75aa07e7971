"""What is held equal by comparing inside it: classes, sites and other factors, never pooled.

A factor of few levels enters a model as columns.  One of many is absorbed: everything is centered
within its levels, so that patients are compared with patients of the same level alone.  Those of a
level that holds only one side of a comparison say nothing of it, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gradaudit.stats.family import Bools, Floats, Ints

PATIENTS_PER_COLUMN = 20
_MOST_CELLS = 10**8  # bytes of a table of clusters x levels


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor over clusters.

    name : as a reader knows it
    levels : (n,) 0..L-1 of every image, -1 where it is not known
    count : L
    main : (P,) most frequent level of each cluster's images (of equals: the first); a cluster with
        an unknown level has a code of its own from L on, since it is equal to nobody
    profile : (P,) the same code for clusters with the same share of every level
    mixed : some clusters have several levels
    """

    name: str
    levels: Ints
    count: int
    main: Ints
    profile: Ints
    mixed: bool

    def columns(self) -> Floats:
        """(n, L - 1) indicators of every level but the most frequent one."""
        sizes = np.bincount(self.levels[self.levels >= 0], minlength=self.count)
        others = np.delete(np.arange(self.count), int(np.argmax(sizes)))
        return np.asarray(self.levels[:, None] == others, dtype=np.float64)


def factor_of(name: str, column: pd.Series, clusters: Ints, count: int) -> Factor | None:
    """The factor of one column; None where it has one level, which holds nothing equal.

    column : (n,) any values; None and NaN are unknown
    clusters : (n,) 0..P-1      count : P
    """
    raw, unique = pd.factorize(column)
    names = [str(u) for u in unique]
    rank = np.empty(len(names) + 1, dtype=np.int64)
    rank[np.argsort(names, kind="stable")] = np.arange(len(names))
    rank[-1] = -1
    levels = rank[raw]
    if len(names) < 2 and (levels >= 0).all():
        return None
    width = max(len(names), 1)
    first = np.empty(count, dtype=np.int64)
    first[clusters[::-1]] = levels[::-1]
    mixed = bool(np.any(levels != first[clusters]))
    main = _most_frequent(levels, clusters, count, width) if mixed else first.copy()
    profile = _profiles(levels, clusters, count, width) if mixed else first.copy()
    unknown = np.zeros(count, dtype=bool)
    unknown[clusters[levels < 0]] = True
    for codes in (main, profile):
        codes[unknown] = int(codes.max(initial=0)) + 1 + np.arange(int(unknown.sum()))
    return Factor(name, levels, width, main, profile, mixed)


def _most_frequent(levels: Ints, clusters: Ints, count: int, width: int) -> Ints:
    known = levels >= 0
    pairs = clusters[known] * width + levels[known]
    if count * width <= _MOST_CELLS:
        table = np.bincount(pairs, minlength=count * width).reshape(count, width)
        return np.asarray(table.argmax(axis=1))
    found, often = np.unique(pairs, return_counts=True)
    order = np.lexsort((-found, often))
    out = np.zeros(count, dtype=np.int64)
    out[found[order] // width] = found[order] % width
    return out


def _profiles(levels: Ints, clusters: Ints, count: int, width: int) -> Ints:
    """Codes of the mix of levels: two random weighted means of a cluster's levels tell mixes apart."""
    marks = np.random.default_rng(0).random((2, width + 1))
    sizes = np.bincount(clusters, minlength=count)
    keys = [np.bincount(clusters, weights=m[levels], minlength=count) / sizes for m in marks]
    mix = pd.DataFrame(np.round(np.column_stack(keys), 9))
    return np.array(mix.groupby([0, 1]).ngroup(), dtype=np.int64)


@dataclass(frozen=True)
class Strata:
    """What clusters are compared within; one entry per cluster.

    absorbed : (P,) the level within which everything is centered
    main : (P, f) the level of each factor, absorbed or not
    names : of the factors, absorbed ones first
    absorbs : how many of them are absorbed
    """

    absorbed: Ints
    main: Ints
    names: tuple[str, ...]
    absorbs: int

    def keep(self, rows: Bools | Ints) -> Strata:
        return replace(self, absorbed=self.absorbed[rows], main=self.main[rows])

    def without(self, name: str) -> Strata | None:
        """The strata without one factor; None where none is left."""
        held = [k for k, other in enumerate(self.names) if other != name]
        if not held:
            return None
        absorbs = self.absorbs - (name in self.names[: self.absorbs])
        absorbed = _joint(self.main[:, held[:absorbs]].T, len(self.main))
        return Strata(absorbed, self.main[:, held], tuple(self.names[k] for k in held), absorbs)

    def sharing(self, a: Bools, b: Bools) -> Bools:
        """Clusters whose level of every factor holds both sides, (P,)."""
        out = np.ones(len(self.absorbed), dtype=bool)
        for codes in (self.absorbed, *self.main.T):
            out &= held_by(codes, a) & held_by(codes, b)
        return out

    def informative(self, values: Floats | Ints) -> Bools:
        """Clusters in levels of every factor inside which ``values`` differ, (P,).

        Leaving out a cluster may leave another alone, so it is repeated until nothing changes.
        """
        inside = np.ones(len(values), dtype=bool)
        while True:
            left = inside.copy()
            for codes in (self.absorbed, *self.main.T):
                left[inside] &= _varies(codes[inside], values[inside])
            if (left == inside).all():
                return inside
            inside = left


def held_by(codes: Ints, side: Bools) -> Bools:
    """Whether the level of each cluster holds some of ``side``, (P,)."""
    return np.asarray(np.bincount(codes[side], minlength=int(codes.max(initial=0)) + 1) > 0)[codes]


def _varies(codes: Ints, values: Floats | Ints) -> Bools:
    """Whether ``values`` differ inside the level of each cluster."""
    first = np.empty(int(codes.max(initial=0)) + 1, dtype=values.dtype)
    first[codes] = values
    other = values != first[codes]
    return held_by(codes, other)


def _joint(codes: Iterable[Ints], count: int) -> Ints:
    """One code for each combination, (count,); 0 without any."""
    out = np.zeros(count, dtype=np.int64)
    for other in codes:
        out = np.unique(out * (int(other.max(initial=0)) + 1) + other, return_inverse=True)[1]
    return np.asarray(out)


def strata_of(factors: Sequence[Factor], count: int) -> tuple[Strata | None, tuple[Factor, ...]]:
    """What is absorbed, and the factors that enter as columns instead.

    A factor enters as columns, one per level and none pooled, where there are twenty clusters for
    each; clusters whose images have several levels then hold a share of each.  The first factor
    without such clusters is absorbed instead, for it costs nothing.  Factors of too many levels are
    absorbed too, several of them crossed; the level of a cluster with several is its mix of levels,
    and it is compared with clusters of the same mix.
    """
    many = [f for f in factors if f.count - 1 > count // PATIENTS_PER_COLUMN]
    absorbed = many or [f for f in factors if not f.mixed][:1]
    columns = tuple(f for f in factors if f not in absorbed)
    if not factors:
        return None, ()
    # with nothing absorbed everybody is in one stratum, and the factors' levels still count
    codes = _joint([f.profile for f in absorbed], count)
    main = [f.profile for f in absorbed] + [f.main for f in columns]
    names = tuple(f.name for f in (*absorbed, *columns))
    return Strata(codes, np.column_stack(main), names, len(absorbed)), columns
