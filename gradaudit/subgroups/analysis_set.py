"""What enters a comparison: image rows with a value, a level and every covariate, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gradaudit.errors import InputError
from gradaudit.stats import linear_model
from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.strata import PATIENTS_PER_COLUMN, Factor, Strata, factor_of, strata_of
from gradaudit.subgroups.contrast import Bools
from gradaudit.subgroups.levels import RESERVED, level_text, sort_levels
from gradaudit.subgroups.settings import Settings

SITE = "(site)"
"""Key of the site among covariates, whatever its column is called."""
CLASSES = ("label", "class")
_MOST_CELLS = 10**8  # bytes of a cluster x level table


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What a comparison is given, one entry per image; ``comparison.disparity`` explains each."""

    values: ArrayLike
    groups: ArrayLike
    area_share: ArrayLike | None = None
    label: ArrayLike | None = None
    klass: ArrayLike | None = None
    site: ArrayLike | None = None
    covariates: pd.DataFrame | None = None
    clusters: ArrayLike | None = None
    pairs: ArrayLike | None = None

    @cached_property
    def y(self) -> Floats:
        return np.asarray(self.values, dtype=np.float64)

    @cached_property
    def area(self) -> Floats | None:
        return None if self.area_share is None else np.asarray(self.area_share, dtype=np.float64)

    def check(self) -> None:
        """Raises ``InputError`` where lengths differ or values are infinite."""
        wrong = {}
        for field in fields(self):
            column = getattr(self, field.name)
            if field.name != "values" and column is not None and len(column) != len(self.y):
                wrong[field.name] = len(column)
        if self.y.ndim != 1 or wrong:
            raise InputError(
                "values is one number per image, and everything else has its length "
                f"{self.y.shape}; got {wrong or 'another shape'}."
            )
        infinite = int(np.isinf(self.y).sum())
        if infinite:
            raise InputError(
                f"{infinite} of {len(self.y)} values are infinite; an undefined value is NaN."
            )


@dataclass(frozen=True)
class AnalysisSet:
    """Image rows that enter a comparison, all finite.

    y : (n,) the outcome
    codes : (n,) level index (continuous attributes: 0)
    x : (n,) the numeric attribute, or the position of the level
    clusters : (n,) 0..P-1
    blocks : (n,) pair or cluster within which differences are taken
    size : (n,) logit of the region's share of the image, or None
    z : (n, k) covariate columns; owners : (k,) the covariate that each belongs to
    strata : what patients are compared within (P,), or None
    crossing : (n, c) indicators with which the region's size is crossed
    matched : (n,) blocks whose images have one level of every absorbed factor, or None: as blocks
    sites : (P,) 0..S-1, units above the patients, or None
    ids : (P,) number of each cluster as it was given, where the settings keep it, or None
    levels : names of the levels
    excluded : reason -> images left out
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
    owners: tuple[str, ...] = ()
    crossing: Floats | None = None
    strata: Strata | None = None
    matched: Ints | None = None
    sites: Ints | None = None
    ids: Ints | None = None

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

    def keep(self, rows: Bools) -> AnalysisSet:
        """Those rows alone; clusters and blocks are numbered anew, and strata are not kept."""
        clusters, kept = pd.factorize(self.clusters[rows])
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
            strata=None,
            matched=None,
            sites=None,
            ids=None if self.ids is None else self.ids[kept],
        )


def usable_rows(observations: Observations, settings: Settings) -> AnalysisSet:
    """Rows with a value, a level and every covariate; the others are counted by reason."""
    rows, usable = entering_rows(observations, settings)
    return with_columns(rows, _covariates(observations, usable), settings.site_name)


def entering_rows(observations: Observations, settings: Settings) -> tuple[AnalysisSet, Bools]:
    """``usable_rows`` without the columns of covariates; and which images they are, (n,)."""
    observations.check()
    rows, usable = _with_level_and_value(observations, settings)
    if not usable.all():
        rows = rows.keep(usable)
    if not settings.continuous and not takes_differences(rows, settings):
        rows, also = _one_level_per_cluster(rows)
        usable[np.flatnonzero(usable)[~also]] = False
    return rows, usable


def _covariates(observations: Observations, usable: Bools) -> dict[str, pd.Series]:
    """Everything held equal beside the region's size, by name: class or label, site, declared ones.

    The label goes before the explained class: a predicted class is moved by what the model sees,
    so that patients of equal prediction are not comparable.
    """
    given: dict[str, ArrayLike | pd.Series] = {}
    if observations.label is not None:
        given["label"] = observations.label
    elif observations.klass is not None:
        given["class"] = observations.klass
    if observations.site is not None:
        given[SITE] = observations.site
    if observations.covariates is not None:
        given |= {str(name): column for name, column in observations.covariates.items()}
    kept = {}
    for name, column in given.items():
        kept[name] = (
            pd.Series(column, dtype=_plain(column))
            .reset_index(drop=True)[usable]
            .reset_index(drop=True)
        )
    return kept


def _with_level_and_value(
    observations: Observations, settings: Settings
) -> tuple[AnalysisSet, Bools]:
    """Every row as arrays, without covariate columns; and which rows are complete, (n,)."""
    codes, x, levels = _levels(observations.groups, settings)
    usable, excluded = _complete(observations, codes)
    n, area = len(observations.y), observations.area
    clusters = np.arange(n)
    if observations.clusters is not None:
        clusters = cluster_codes(observations.clusters)
    rows = AnalysisSet(
        y=observations.y,
        codes=codes,
        x=x,
        clusters=clusters,
        blocks=clusters if observations.pairs is None else cluster_codes(observations.pairs),
        size=None if area is None else linear_model.logit(np.where(np.isfinite(area), area, 0.5)),
        z=np.empty((n, 0)),
        levels=levels,
        excluded=excluded,
        ids=_ids(observations, clusters) if settings.keep_fit else None,
    )
    return rows, usable


def _ids(observations: Observations, clusters: Ints) -> Ints:
    """(P,) number of each cluster as it was given; clusters that are no numbers have their code."""
    ids = np.arange(int(clusters.max(initial=-1)) + 1)
    given = np.asarray(observations.clusters)
    if observations.clusters is not None and given.dtype.kind in "iu":
        ids[clusters] = given
    return ids


def _complete(observations: Observations, codes: Ints) -> tuple[Bools, dict[str, int]]:
    """Which rows are complete, and the others counted by the first reason that holds."""
    missing = {"unknown level": codes < 0, "undefined value": np.isnan(observations.y)}
    if observations.area is not None:
        missing["region size unknown"] = ~np.isfinite(observations.area)
    if observations.covariates is not None:
        numbers = observations.covariates.select_dtypes("number")
        missing["covariate missing"] = numbers.isna().any(axis=1).to_numpy()
    usable, excluded = np.ones(len(codes), dtype=bool), {}
    for reason, hit in missing.items():
        if count := int(np.count_nonzero(hit & usable)):
            excluded[reason] = count
            usable &= ~hit
    return usable, excluded


def _plain(column: ArrayLike | pd.Series) -> str | None:
    """The type of a column as it is: text is not turned into Arrow's for one look at it."""
    return "object" if getattr(column, "dtype", None) == np.dtype(object) else None


def cluster_codes(ids: ArrayLike) -> Ints:
    """0..P-1 by first appearance; a missing id is a cluster of its own."""
    codes, unique = pd.factorize(pd.Series(ids))
    missing = codes < 0
    codes = codes.astype(np.int64)
    codes[missing] = len(unique) + np.arange(int(missing.sum()))
    return np.asarray(codes)


def _levels(groups: ArrayLike, settings: Settings) -> tuple[Ints, Floats, tuple[str, ...]]:
    """Level index (-1: unknown), number (or position of the level), and names of the levels."""
    if settings.continuous:
        x = pd.to_numeric(pd.Series(groups), errors="coerce").to_numpy(dtype=np.float64)
        return np.where(np.isfinite(x), 0, -1), np.where(np.isfinite(x), x, 0.0), ("",)
    # a Series keeps NaN beside text; an array would make it the text "nan"
    raw, unique = pd.factorize(pd.Series(groups, dtype=_plain(groups)))
    names = [level_text(u) for u in unique]
    reserved = [name for name in names if name in RESERVED]
    if reserved:
        raise InputError(
            f"The level {reserved[0]!r} has a name that stands for everybody else; rename it."
        )
    levels = settings.order or tuple(sort_levels(names))
    foreign = sorted(set(names) - set(levels))
    if foreign:
        raise InputError(
            f"{len(foreign)} levels are not in order={list(levels)}: {', '.join(foreign[:5])}. "
            "Add them, or pass None for unknown."
        )
    if settings.reference != "rest" and settings.reference not in levels:
        raise InputError(
            f"The reference {settings.reference!r} is not a level; "
            f"levels: {', '.join(levels) or 'none'}."
        )
    place = np.asarray([*(levels.index(name) for name in names), -1], dtype=np.int64)
    codes = place[raw]
    return codes, codes.astype(np.float64), levels


def takes_differences(rows: AnalysisSet, settings: Settings) -> bool:
    """Whether comparisons are made inside pairs, or in clusters in which the attribute varies."""
    if settings.paired or settings.within is not None:
        return settings.paired or bool(settings.within)
    if rows.count == len(rows.y) or settings.continuous:
        return False
    several = np.bincount(rows.clusters) > 1
    return bool(several.any() and rows.mixed[several].mean() >= 0.5)


def _one_level_per_cluster(rows: AnalysisSet) -> tuple[AnalysisSet, Bools]:
    """Keeps a cluster's images of its most frequent level (of equals: the first)."""
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
    rows: AnalysisSet, covariates: Mapping[str, pd.Series], site_name: str = "site"
) -> AnalysisSet:
    """The rows with what is held equal: covariate columns, and strata to compare within.

    The region's size and every other number enter as natural cubic splines: a straight line
    rejects a third of true nulls where a number nearly determines the group.  Factors (yes and no
    too) are never pooled: see ``strata.strata_of``.  The size is crossed with the class where there
    are 20 patients for each column of the whole.

    covariates : name -> (n,); "label" or "class" first, ``SITE`` the units above the patients
    """
    size = _size_columns(rows)
    parts = {"region size": size}
    factors, sites = [], None
    for name, column in covariates.items():
        if pd.api.types.is_numeric_dtype(column) and not _is_factor(name, column):
            parts[name] = _centered_spline(column.to_numpy(dtype=np.float64))
            continue
        shown = site_name if name == SITE else name
        factor = factor_of(shown, column, rows.clusters, rows.count)
        if factor is not None:
            factors.append(factor)
        if name == SITE:
            sites = np.zeros(rows.count, dtype=np.int64) if factor is None else factor.main
    strata, few = strata_of(factors, rows.count)
    parts |= {factor.name: factor.columns() for factor in few}
    first = factors[0] if factors and factors[0].name in CLASSES else None
    rows = replace(rows, strata=strata, sites=sites)
    rows = replace(rows, matched=_matched(rows, [f for f in factors if f not in few and f.mixed]))
    indicators = _crossing(first, size.shape[1], rows)
    return _assembled(replace(rows, crossing=indicators), parts, _crossed(size, indicators))


def _matched(rows: AnalysisSet, factors: Sequence[Factor]) -> Ints | None:
    """Blocks split by the image's own level; an image of unknown level is in none with another."""
    if not factors:
        return None
    keys = [np.where(f.levels < 0, -1 - np.arange(len(f.levels)), f.levels) for f in factors]
    table = pd.DataFrame(dict(enumerate([rows.blocks, *keys])))
    return np.asarray(table.groupby(list(table), sort=False).ngroup().to_numpy(dtype=np.int64))


def _is_factor(name: str, column: pd.Series) -> bool:
    return name in (*CLASSES, SITE) or pd.api.types.is_bool_dtype(column)


def _assembled(
    rows: AnalysisSet,
    parts: Mapping[str, Floats],
    crossed: Sequence[Floats],
) -> AnalysisSet:
    """The rows with their columns side by side, and the names of all that is held equal."""
    strata = rows.strata
    owners = [name for name, part in parts.items() for _ in range(part.shape[1])]
    owners += ["region size"] * sum(part.shape[1] for part in crossed)
    z = np.empty((len(rows.y), len(owners)), order="F")
    if owners:
        np.concatenate([*parts.values(), *crossed], axis=1, out=z)
    held = {*owners, *(() if strata is None else strata.names)}
    order = [*parts, *(() if strata is None else strata.names)]
    named = tuple(dict.fromkeys(name for name in order if name in held))
    return replace(rows, z=z, owners=tuple(owners), adjusted_for=named)


def _size_columns(rows: AnalysisSet) -> Floats:
    """Centered spline of the region's size, (n, 0) where the size is unknown or constant."""
    return np.empty((len(rows.y), 0)) if rows.size is None else _centered_spline(rows.size)


def _centered_spline(numbers: Floats) -> Floats:
    spline = linear_model.spline_basis(numbers)
    return np.asarray(spline - spline.mean(axis=0)) if spline.shape[1] else spline


def _crossing(factor: Factor | None, width: int, rows: AnalysisSet) -> Floats | None:
    """Indicators of the classes in which size has a spline of its own (``width`` columns), or None.

    There are 20 patients for each column of the whole then.
    """
    if factor is None or not width:
        return None
    columns = factor.count * (1 + width) - 1
    return factor.columns() if rows.count >= PATIENTS_PER_COLUMN * columns else None


def _crossed(size: Floats, indicators: Floats | None) -> list[Floats]:
    """The spline within each class."""
    return [] if indicators is None else [size * column[:, None] for column in indicators.T]


def with_sizes_moved(rows: AnalysisSet, side: Bools, by: float) -> AnalysisSet:
    """The rows as if the masks of one side had been drawn larger, and nothing else were different.

    side : (n,) images      by : added to the logit of the region's size
    """
    assert rows.size is not None
    rows = replace(rows, size=rows.size + by * side)
    others = np.array([owner != "region size" for owner in rows.owners], dtype=bool)
    beside = tuple(owner for owner in rows.owners if owner != "region size")
    size = _size_columns(rows)
    columns = [size, *_crossed(size, rows.crossing), rows.z[:, others]]
    z = np.asfortranarray(np.concatenate(columns, axis=1))
    owners = ("region size",) * (z.shape[1] - len(beside)) + beside
    return replace(rows, z=z, owners=owners)


def level_counts(rows: AnalysisSet) -> dict[str, tuple[int, int]]:
    """Level -> (images, patients)."""
    images = np.bincount(rows.codes, minlength=len(rows.levels))
    patients = patients_per_level(rows.codes, len(rows.levels), rows)
    return {name: (int(images[k]), int(patients[k])) for k, name in enumerate(rows.levels)}


def patients_per_level(codes: Ints, levels: int, rows: AnalysisSet) -> Ints:
    """Number of clusters with at least one image of each level, (levels,)."""
    pairs = rows.clusters * levels + codes
    if rows.count * levels > _MOST_CELLS:
        return np.bincount(np.unique(pairs) % levels, minlength=levels)
    present = np.zeros(rows.count * levels, dtype=bool)
    present[pairs] = True
    return np.asarray(present.reshape(rows.count, levels).sum(axis=0, dtype=np.int64))
