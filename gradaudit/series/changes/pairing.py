"""Which images and clusters are in both of two runs.

Images are paired by the digest of their file, so that a renamed file is found again and an
exchanged one is noticed; where a run holds no digest (an older version measured it, or the file
could not be read) by their name, which is said.  Clusters are those that bear one name in both, or
share a paired image: counting two that are different people as one changes the error of a change by
nothing on average, and counting one as two would make it wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gradaudit.stats.family import Ints


@dataclass(frozen=True)
class Pairing:
    """Pairs of rows of two tables of images, and the cluster of every row in numbers of both.

    before, after : (k,) rows of each pair
    by_digest : (k,) whether its files are known to be the same bytes
    names_before, names_after : image ids of all rows
    replaced : ids that stand for another file in either run: no pair
    clusters_before, clusters_after : (n,) number of each row's cluster, 0..U-1 over both runs
    joined : clusters of both runs that are one in the other
    """

    before: Ints
    after: Ints
    by_digest: np.ndarray[Any, np.dtype[np.bool_]]
    names_before: tuple[str, ...]
    names_after: tuple[str, ...]
    replaced: tuple[str, ...]
    clusters_before: Ints
    clusters_after: Ints
    joined: int

    @cached_property
    def renamed(self) -> tuple[tuple[str, str], ...]:
        """Names of the pairs that have two."""
        pairs = zip(self.before, self.after, strict=True)
        names = ((self.names_before[i], self.names_after[j]) for i, j in pairs)
        return tuple((first, second) for first, second in names if first != second)

    @cached_property
    def clusters_in_both(self) -> int:
        return len(np.intersect1d(self.clusters_before, self.clusters_after))


def paired(before: pd.DataFrame, after: pd.DataFrame) -> Pairing:
    """The pairing of two tables of images (``Measurements.images``); their order does not matter."""
    tables = [_keys(images) for images in (before, after)]
    first, second, by_digest = _pairs(*tables)
    replaced = _replaced(*tables)
    clusters = [images["cluster"].astype(str).to_numpy(dtype=object) for images in (before, after)]
    numbers, joined = _clusters(clusters, first, second)
    return Pairing(
        before=first,
        after=second,
        by_digest=by_digest,
        names_before=tuple(tables[0]["name"]),
        names_after=tuple(tables[1]["name"]),
        replaced=replaced,
        clusters_before=numbers[: len(before)],
        clusters_after=numbers[len(before) :],
        joined=joined,
    )


def _keys(images: pd.DataFrame) -> pd.DataFrame:
    """Name and digest of each row, "" where there is none, and its place."""
    digest = images["digest"] if "digest" in images else pd.Series("", index=images.index)
    table = pd.DataFrame({"name": images["image_id"].astype(str), "digest": digest.fillna("")})
    table["digest"] = table["digest"].astype(str)
    return table.assign(row=np.arange(len(images))).reset_index(drop=True)


def _pairs(
    before: pd.DataFrame, after: pd.DataFrame
) -> tuple[Ints, Ints, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Rows of the pairs: of one digest and name first, then of one digest (of equal files the first
    with the first by name), then of one name where a digest is missing.
    """
    found: list[pd.DataFrame] = []
    left = [before, after]
    for by, needs in (("both", True), ("digest", True), ("name", False)):
        a, b = (_ranked(table, by, needs) for table in left)
        keys = {"both": ["digest", "name"], "digest": ["digest", "rank"], "name": ["name"]}[by]
        pairs = a.merge(b, on=keys, suffixes=("_a", "_b"))
        if by == "name":
            known = (pairs["digest_a"] != "") & (pairs["digest_b"] != "")
            pairs = pairs.loc[~known]
        found.append(pairs[["row_a", "row_b"]].assign(sure=needs))
        left[0] = left[0].loc[~left[0]["row"].isin(pairs["row_a"])]
        left[1] = left[1].loc[~left[1]["row"].isin(pairs["row_b"])]
    pairs = pd.concat(found).sort_values("row_a")
    rows = pairs[["row_a", "row_b"]].to_numpy(dtype=np.int64).T
    return rows[0], rows[1], pairs["sure"].to_numpy(dtype=bool)


def _ranked(table: pd.DataFrame, by: str, needs_digest: bool) -> pd.DataFrame:
    out = table.loc[table["digest"] != ""] if needs_digest else table
    if by != "digest":
        return out
    out = out.sort_values("name")
    return out.assign(rank=out.groupby("digest").cumcount())


def _replaced(before: pd.DataFrame, after: pd.DataFrame) -> tuple[str, ...]:
    """Names that stand for one file in the one run and for another in the other."""
    both = before.merge(after, on="name", suffixes=("_a", "_b"))
    known = (both["digest_a"] != "") & (both["digest_b"] != "")
    other = both.loc[known & (both["digest_a"] != both["digest_b"]), "name"]
    return tuple(sorted(map(str, other)))


def _clusters(names: list[Any], first: Ints, second: Ints) -> tuple[Ints, int]:
    """Number of every row's cluster, both runs one after the other, in the order of their names.

    Also how many clusters of one run the other holds together.
    """
    codes, unique = pd.factorize(np.concatenate(names))
    later = len(names[0])
    links = codes[first], codes[later:][second]
    size = len(unique)
    graph = coo_array((np.ones(len(first)), links), shape=(size, size))
    count, component = connected_components(graph, directed=False)
    smallest = pd.Series(list(unique)).groupby(component).min()
    rank = np.empty(count, dtype=np.int64)
    rank[smallest.sort_values().index.to_numpy()] = np.arange(count)
    numbers = rank[component[codes]]
    joined = 0
    for part in (slice(0, later), slice(later, None)):
        own = pd.unique(codes[part])
        joined += len(own) - len(np.unique(component[own]))
    return np.asarray(numbers, dtype=np.int64), joined
