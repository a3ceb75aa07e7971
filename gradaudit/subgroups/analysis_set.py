"""What enters a comparison: image rows with a value, a level and every covariate, their kinds,
levels and columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gradaudit.errors import InputError
from gradaudit.stats import linear_model
from gradaudit.stats.family import Floats, Ints
from gradaudit.subgroups.contrast import Bools, Settings
from gradaudit.subgroups.levels import level_text, sort_levels

PATIENTS_PER_COLUMN = 20
_MOST_CELLS = 10**8  # bytes of a cluster x level table


@dataclass(frozen=True)
class AnalysedRows:
    """Image rows that enter, all finite.

    codes : level index (continuous attributes: 0)      x : the numeric attribute, or the level's
        score
    clusters : 0..P-1      blocks : pair or cluster within which differences are taken      z : (n,
        k) covariate columns
    """

    y: Floats
    codes: Ints
    x: Floats
    clusters: Ints
    blocks: Ints
    size: Floats | None
    z: Floats
    levels: tuple[str, ...]
    excluded: dict[str, int]
    adjusted_for: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def count(self) -> int:
        return int(self.clusters.max()) + 1 if len(self.clusters) else 0

    @cached_property
    def mixed(self) -> Bools:
        """Which clusters carry more than one level, (P,)."""
        first = np.empty(self.count, dtype=np.int64)
        first[self.clusters[::-1]] = self.codes[::-1]
        out = np.zeros(self.count, dtype=bool)
        out[self.clusters[self.codes != first[self.clusters]]] = True
        return out

    def keep(self, rows: Bools) -> AnalysedRows:
        """Those rows alone; clusters and blocks are numbered anew."""
        clusters = pd.factorize(self.clusters[rows])[0]
        blocks = clusters if self.blocks is self.clusters else pd.factorize(self.blocks[rows])[0]
        size = None if self.size is None else self.size[rows]
        return replace(
            self,
            y=self.y[rows],
            codes=self.codes[rows],
            x=self.x[rows],
            clusters=clusters,
            blocks=blocks,
            size=size,
            z=self.z[rows],
        )


def usable_rows(
    values: ArrayLike,
    groups: ArrayLike,
    area_share: ArrayLike | None,
    klass: ArrayLike | None,
    covariates: pd.DataFrame | None,
    clusters: ArrayLike | None,
    pairs: ArrayLike | None,
    ask: Settings,
) -> AnalysedRows:
    """Rows with a value, a level and every covariate; the others are counted by reason."""
    y = np.asarray(values, dtype=np.float64)
    given = {
        "groups": groups,
        "area_share": area_share,
        "klass": klass,
        "covariates": covariates,
        "clusters": clusters,
        "pairs": pairs,
    }
    wrong = {k: len(v) for k, v in given.items() if v is not None and len(v) != len(y)}  # type: ignore[arg-type]
    if y.ndim != 1 or wrong:
        raise InputError(
            f"values is one number per image, and everything else has its length {y.shape}; got {wrong or 'another shape'}."
        )
    if np.isinf(y).any():
        raise InputError(
            f"{int(np.isinf(y).sum())} of {len(y)} values are infinite; an undefined value is NaN."
        )
    codes, x, levels = _levels(groups, ask)
    if covariates is not None:
        covariates = covariates.reset_index(drop=True)
    area = None if area_share is None else np.asarray(area_share, dtype=np.float64)
    excluded, usable = {}, np.ones(len(y), dtype=bool)
    tests = {"unknown level": codes < 0, "undefined value": np.isnan(y)}
    if area is not None:
        tests["region size unknown"] = ~np.isfinite(area)
    if covariates is not None:
        tests["covariate missing"] = (
            covariates.select_dtypes("number").isna().any(axis=1).to_numpy()
        )
    for reason, hit in tests.items():
        if count := int(np.count_nonzero(hit & usable)):
            excluded[reason] = count
            usable &= ~hit
    cluster_codes = np.arange(len(y)) if clusters is None else _codes(clusters)
    block_codes = cluster_codes if pairs is None else _codes(pairs)
    size = None if area is None else linear_model.logit(np.where(np.isfinite(area), area, 0.5))
    rows = AnalysedRows(
        y, codes, x, cluster_codes, block_codes, size, np.empty((len(y), 0)), levels, excluded
    )
    rows = rows if usable.all() else rows.keep(usable)
    if not ask.continuous and not takes_differences(rows, ask):
        rows, also = _one_level_per_cluster(rows)
        usable[np.flatnonzero(usable)[~also]] = False
    klass_used = None if klass is None else pd.Series(klass).reset_index(drop=True)[usable]
    return with_columns(
        rows, klass_used, None if covariates is None else covariates.loc[np.flatnonzero(usable)]
    )


def _codes(ids: ArrayLike) -> Ints:
    """0..P-1 by first appearance; a missing id is a cluster of its own."""
    codes, unique = pd.factorize(pd.Series(ids))
    missing = codes < 0
    codes = codes.astype(np.int64)
    codes[missing] = len(unique) + np.arange(int(missing.sum()))
    return np.asarray(codes)


def _levels(groups: ArrayLike, ask: Settings) -> tuple[Ints, Floats, tuple[str, ...]]:
    """Level index (-1: unknown), score (number, or position in the declared order) and level names."""
    if ask.continuous:
        x = pd.to_numeric(pd.Series(groups), errors="coerce").to_numpy(dtype=np.float64)
        return np.where(np.isfinite(x), 0, -1), np.where(np.isfinite(x), x, 0.0), ("",)
    raw, unique = pd.factorize(
        pd.Series(groups)
    )  # a Series keeps NaN beside text, an array would make it the text "nan"
    names = [level_text(u) for u in unique]
    levels = ask.order or tuple(sort_levels(names))
    foreign = sorted(set(names) - set(levels))
    if foreign:
        raise InputError(
            f"{len(foreign)} levels are not in order={list(levels)}: {', '.join(foreign[:5])}. Add them, or pass None for unknown."
        )
    if ask.reference != "rest" and ask.reference not in levels:
        raise InputError(
            f"The reference {ask.reference!r} is not a level; levels: {', '.join(levels) or 'none'}."
        )
    place = np.asarray([*(levels.index(name) for name in names), -1], dtype=np.int64)
    codes = place[raw]
    return codes, codes.astype(np.float64), levels


def takes_differences(rows: AnalysedRows, ask: Settings) -> bool:
    """Whether comparisons are made inside blocks: pairs, or an attribute that varies inside
    clusters.
    """
    if ask.paired or ask.within is not None:
        return ask.paired or bool(ask.within)
    if rows.count == len(rows.y) or ask.continuous:
        return False
    several = np.bincount(rows.clusters) > 1
    return bool(several.any() and rows.mixed[several].mean() >= 0.5)


def _one_level_per_cluster(rows: AnalysedRows) -> tuple[AnalysedRows, Bools]:
    """A cluster with a few images of another level keeps those of its most frequent level (of
    equals: the first).
    """
    mixed = rows.mixed
    if rows.count == len(rows.y) or not mixed.any():
        return rows, np.ones(len(rows.y), dtype=bool)
    counts = np.zeros((rows.count, len(rows.levels)), dtype=np.int64)
    np.add.at(counts, (rows.clusters, rows.codes), 1)
    also = rows.codes == counts.argmax(axis=1)[rows.clusters]
    note = f"{int(mixed.sum())} clusters carry several levels; each counts at its most frequent one"
    excluded = {**rows.excluded, "another level of the cluster": int(np.count_nonzero(~also))}
    return replace(rows.keep(also), excluded=excluded, notes=(*rows.notes, note)), also


def with_columns(
    rows: AnalysedRows, klass: pd.Series | None, covariates: pd.DataFrame | None
) -> AnalysedRows:
    """Covariate columns: spline of region size, class (crossed with it where patients suffice),
    declared covariates.
    """
    parts, names = [], []
    bend = np.empty((len(rows.y), 0)) if rows.size is None else linear_model.spline_basis(rows.size)
    if bend.shape[1]:
        parts.append(bend - bend.mean(axis=0))
        names.append("region size")
    factor = np.empty((len(rows.y), 0)) if klass is None else _dummies(klass, rows)
    if factor.shape[1]:
        parts.append(factor)
        names.append("class")
        if rows.count >= PATIENTS_PER_COLUMN * ((1 + factor.shape[1]) * (1 + bend.shape[1]) - 1):
            parts.extend(parts[0] * factor[:, [j]] for j in range(factor.shape[1]) if bend.shape[1])
    for name, column in () if covariates is None else covariates.items():
        numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
        parts.append(
            column.to_numpy(dtype=np.float64)[:, None] if numeric else _dummies(column, rows)
        )
        names.append(str(name))
    z = np.empty((len(rows.y), sum(part.shape[1] for part in parts)), order="F")
    if parts:
        np.concatenate(parts, axis=1, out=z)
    return replace(rows, z=z, adjusted_for=tuple(names))


def _dummies(column: pd.Series, rows: AnalysedRows) -> Floats:
    """Indicator columns of a factor against its most frequent level; levels of under 20 patients
    are pooled, NaN is a level.
    """
    codes, unique = pd.factorize(column.to_numpy(), use_na_sentinel=False)
    names = [str(u) for u in unique]
    patients = patients_per_level(codes, len(names), rows)
    ranked = sorted(range(len(names)), key=lambda j: (-int(patients[j]), names[j]))
    own = [j for j in ranked if patients[j] >= PATIENTS_PER_COLUMN][
        : max(1, rows.count // PATIENTS_PER_COLUMN)
    ] or ranked[:1]
    place = np.full(len(names), len(own))
    place[own] = np.arange(len(own))
    width = int(place.max(initial=0)) + 1
    return np.asarray(place[codes][:, None] == np.arange(1, width), dtype=np.float64)


def level_counts(rows: AnalysedRows) -> dict[str, tuple[int, int]]:
    """Level -> (images, patients)."""
    images = np.bincount(rows.codes, minlength=len(rows.levels))
    patients = patients_per_level(rows.codes, len(rows.levels), rows)
    return {name: (int(images[k]), int(patients[k])) for k, name in enumerate(rows.levels)}


def patients_per_level(codes: Ints, levels: int, rows: AnalysedRows) -> Ints:
    """Number of clusters with at least one image of each level, (levels,)."""
    pairs = rows.clusters * levels + codes
    if rows.count * levels > _MOST_CELLS:
        return np.bincount(np.unique(pairs) % levels, minlength=levels)
    present = np.zeros(rows.count * levels, dtype=bool)
    present[pairs] = True
    return np.asarray(present.reshape(rows.count, levels).sum(axis=0, dtype=np.int64))
