"""Subgroups compared: attributes and levels in, one contrast per level (or slope) out, by the protocol of ``stats``.

``disparity`` is the public door and ``analysis`` goes through it too.  Image rows become patient rows (``_collapse``),
hypotheses are linear functions of the patient model, and ``contrasts.estimate_all`` turns them into ``Contrast``s.
Attributes that vary within patients, and pairs, become one difference per patient, tested by flipping signs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gradaudit import stats
from gradaudit.contrasts import (
    MIN_PATIENTS,
    PROVISIONAL,
    Bools,
    Contrast,
    Hypothesis,
    ImageRows,
    Kind,
    Patients,
    Settings,
    estimate_all,
    guard,
    judge,
)  # fmt: skip
from gradaudit.errors import InputError
from gradaudit.records import VERDICT_WORDS
from gradaudit.stats import Floats, Ints

__all__ = [
    "MIN_PATIENTS", "PROVISIONAL", "Contrast", "Disparity", "attribute_kind", "disparity", "intersections", "judge", "level_text", "sort_levels",
]  # fmt: skip

OVERLAP = 0.80
PATIENTS_PER_COLUMN = 20
CONTINUOUS_DISTINCT = 10
CROSS = " × "
_MOST_CELLS = 10**8  # bytes of a cluster x level table
NO_MEAN = (np.nan, np.nan, np.nan)


# ── what comes out ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Disparity:
    """Every contrast of one attribute, with its family's adjustment and verdicts.

    ``levels``: level -> (images, clusters) that entered; ``excluded``: reason -> images that did not.
    ``omnibus``: Wald test that all assessed levels are equal, or None (fewer than three levels, or not categorical).
    """

    contrasts: tuple[Contrast, ...]
    omnibus: dict[str, float] | None
    levels: dict[str, tuple[int, int]]
    excluded: dict[str, int]
    adjusted_for: tuple[str, ...]
    margin: float | None
    alpha: float
    unit: str
    notes: tuple[str, ...] = ()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per contrast; see ``Contrast`` for the columns (p is NaN where a guard withholds the verdict)."""
        first = [
            "group", "reference", "n_images", "n_clusters", "estimate", "se", "ci_low", "ci_high", "p", "p_adjusted", "p_equivalence",
            "p_equivalence_adjusted", "mde80", "verdict", "reason",
        ]  # fmt: skip
        names = [f.name for f in fields(Contrast)]
        rows = [{name: getattr(c, name) for name in names} for c in self.contrasts]
        return pd.DataFrame(rows, columns=[*first, *(n for n in names if n not in first)])

    def to_json(self) -> str:
        """Everything as JSON; numbers that do not exist are null."""
        return json.dumps(_jsonable(asdict(self)), ensure_ascii=False, allow_nan=False)

    def _repr_html_(self) -> str:
        shown = self.table[
            ["group", "reference", "n_images", "n_clusters", "estimate", "ci_low", "ci_high", "p_adjusted", "mde80", "verdict", "reason"]
        ]
        shown = shown.assign(verdict=[VERDICT_WORDS[v] for v in shown["verdict"]])
        return str(shown.to_html(index=False, float_format="{:.4g}".format, na_rep="–"))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


# ── what goes in ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Rows:
    """Image rows that enter, all finite.

    codes : level index (continuous attributes: 0)      x : the numeric attribute, or the level's score
    clusters : 0..P-1      blocks : pair or cluster within which differences are taken      z : (n, k) covariate columns
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

    def keep(self, rows: Bools) -> _Rows:
        clusters = pd.factorize(self.clusters[rows])[0]
        blocks = clusters if self.blocks is self.clusters else pd.factorize(self.blocks[rows])[0]
        size = None if self.size is None else self.size[rows]
        return replace(self, y=self.y[rows], codes=self.codes[rows], x=self.x[rows], clusters=clusters, blocks=blocks, size=size, z=self.z[rows])


def disparity(
    values: ArrayLike, groups: ArrayLike, *, area_share: ArrayLike | None = None, klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None, clusters: ArrayLike | None = None, pairs: ArrayLike | None = None, reference: str = "rest",
    order: Sequence[str] | None = None, continuous: bool = False, margin: float | None = None, alpha: float = 0.05,
    permutations: int = 9999, seed: int = 0, within: bool | None = None, family: int | None = None,
    unit: Literal["patient", "image"] = "patient", correction: Literal["holm", "max-t"] = "holm", omnibus: bool = True, analytic: bool = False,
) -> Disparity:  # fmt: skip
    """Differences of an outcome between groups, each with interval, p, equivalence and verdict.

    values : (n,) one number per image (heat share, hit, ...); NaN = undefined, counted and left out
    groups : (n,) level of each image (None/NaN = unknown, counted and left out), or numbers where ``continuous``
    area_share : (n,) region's share of the image in [0, 1]; enters as a natural cubic spline of its logit
    klass : (n,) explained class; a factor, crossed with the spline where patients suffice
    covariates : further columns; numbers enter as they are, everything else as factors
    clusters : (n,) unit of independence (patient); default: each image alone
    pairs : (n,) pair id (the same image with and without a marking): differences within pairs
    reference : a level, or "rest" (each level against all others; of two levels the larger one is the reference)
    order : levels from first to last; adds the slope (quoted first to last) and the departure from it
    margin : largest immaterial difference; None leaves the size unjudged
    permutations : B; raised to 80 per contrast of the family, so that Holm can reach alpha
    within : the attribute varies inside clusters, so differences are taken inside them (patient fixed effects);
        None: yes where half of the clusters with several images carry several levels
    family : number of contrasts judged together, where that is more than this call's (raises B)
    unit : "image" estimates on image rows weighted 1/n_patient with CR2 errors; p from the patient permutation
    correction : "max-t" instead of Holm for p, where every level has at least 40 patients
    analytic : Student's t with Bell-McCaffrey df throughout (for bounds and displays; not for verdicts)

    Errors: ``InputError`` for lengths that differ, infinite values, levels outside ``order``, an unknown reference.
    """
    ask = Settings(reference, None if order is None else tuple(map(str, order)), continuous, margin, alpha, permutations, seed, within, family,
               unit, correction, omnibus, analytic, pairs is not None)  # fmt: skip
    return _run(ask, values, groups, area_share, klass, covariates, clusters, pairs)


def _run(
    ask: Settings, values: ArrayLike, groups: ArrayLike, area_share: ArrayLike | None = None, klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None, clusters: ArrayLike | None = None, pairs: ArrayLike | None = None,
) -> Disparity:  # fmt: skip
    _check_settings(ask)
    rows = _usable_rows(values, groups, area_share, klass, covariates, clusters, pairs, ask)
    if _takes_differences(rows, ask):
        contrasts, wald = _within_contrasts(rows, ask), None
        unit = "pair" if ask.paired else "difference within cluster"
    else:
        contrasts, wald = _between_contrasts(rows, ask)
        unit = "cluster" if rows.count < len(rows.y) else "row"
    levels = {} if ask.continuous else _level_counts(rows)
    judged = judge(contrasts, ask.margin, ask.alpha)
    return Disparity(judged, wald, levels, rows.excluded, rows.adjusted_for, ask.margin, ask.alpha, unit, rows.notes)


def _check_settings(ask: Settings) -> None:
    if not 0 < ask.alpha < 0.5:
        raise InputError(f"alpha lies between 0 and 0.5; got {ask.alpha}.")
    if ask.margin is not None and not ask.margin > 0:
        raise InputError(f"The margin is a positive difference in the outcome's unit; got {ask.margin}.")
    if ask.permutations < 99 and not ask.analytic:
        raise InputError(f"At least 99 permutations; got {ask.permutations}.")
    if ask.continuous and ask.order is not None:
        raise InputError("An attribute is either continuous or ordered; got both continuous=True and order.")
    if ask.unit not in ("patient", "image") or ask.correction not in ("holm", "max-t"):
        raise InputError(f"unit is 'patient' or 'image' and correction 'holm' or 'max-t'; got {ask.unit!r} and {ask.correction!r}.")


def _usable_rows(
    values: ArrayLike, groups: ArrayLike, area_share: ArrayLike | None, klass: ArrayLike | None, covariates: pd.DataFrame | None,
    clusters: ArrayLike | None, pairs: ArrayLike | None, ask: Settings,
) -> _Rows:  # fmt: skip
    """Rows with a value, a level and every covariate; the others are counted by reason."""
    y = np.asarray(values, dtype=np.float64)
    given = {"groups": groups, "area_share": area_share, "klass": klass, "covariates": covariates, "clusters": clusters, "pairs": pairs}
    wrong = {k: len(v) for k, v in given.items() if v is not None and len(v) != len(y)}  # type: ignore[arg-type]
    if y.ndim != 1 or wrong:
        raise InputError(f"values is one number per image, and everything else has its length {y.shape}; got {wrong or 'another shape'}.")
    if np.isinf(y).any():
        raise InputError(f"{int(np.isinf(y).sum())} of {len(y)} values are infinite; an undefined value is NaN.")
    codes, x, levels = _levels(groups, ask)
    if covariates is not None:
        covariates = covariates.reset_index(drop=True)
    area = None if area_share is None else np.asarray(area_share, dtype=np.float64)
    excluded, usable = {}, np.ones(len(y), dtype=bool)
    tests = {"unknown level": codes < 0, "undefined value": np.isnan(y)}
    if area is not None:
        tests["region size unknown"] = ~np.isfinite(area)
    if covariates is not None:
        tests["covariate missing"] = covariates.select_dtypes("number").isna().any(axis=1).to_numpy()
    for reason, hit in tests.items():
        if count := int(np.count_nonzero(hit & usable)):
            excluded[reason] = count
            usable &= ~hit
    cluster_codes = np.arange(len(y)) if clusters is None else _codes(clusters)
    block_codes = cluster_codes if pairs is None else _codes(pairs)
    size = None if area is None else stats.logit(np.where(np.isfinite(area), area, 0.5))
    rows = _Rows(y, codes, x, cluster_codes, block_codes, size, np.empty((len(y), 0)), levels, excluded)
    rows = rows if usable.all() else rows.keep(usable)
    if not ask.continuous and not _takes_differences(rows, ask):
        rows, also = _one_level_per_cluster(rows)
        usable[np.flatnonzero(usable)[~also]] = False
    klass_used = None if klass is None else pd.Series(klass).reset_index(drop=True)[usable]
    return _with_columns(rows, klass_used, None if covariates is None else covariates.loc[np.flatnonzero(usable)])


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
    raw, unique = pd.factorize(pd.Series(groups))  # a Series keeps NaN beside text, an array would make it the text "nan"
    names = [level_text(u) for u in unique]
    levels = ask.order or tuple(sort_levels(names))
    foreign = sorted(set(names) - set(levels))
    if foreign:
        raise InputError(f"{len(foreign)} levels are not in order={list(levels)}: {', '.join(foreign[:5])}. Add them, or pass None for unknown.")
    if ask.reference != "rest" and ask.reference not in levels:
        raise InputError(f"The reference {ask.reference!r} is not a level; levels: {', '.join(levels) or 'none'}.")
    place = np.asarray([*(levels.index(name) for name in names), -1], dtype=np.int64)
    codes = place[raw]
    return codes, codes.astype(np.float64), levels


def level_text(value: object) -> str:
    """A level as the manifest would write it: 3.0 read from a numeric column is "3"."""
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else str(value)


def sort_levels(names: Sequence[str]) -> list[str]:
    """Numbers by value, everything else by text."""
    try:
        return sorted(set(names), key=float)
    except ValueError:
        return sorted(set(names))


def attribute_kind(values: pd.Series, kind: str | None = None, order: Sequence[str] | None = None) -> Literal["categorical", "ordered", "continuous"]:
    """Kind of an attribute: as declared; else continuous where all of more than ten distinct levels are numbers."""
    if kind == "continuous":
        return "continuous"
    if order:
        return "ordered"
    if kind is None:
        numbers = pd.to_numeric(values.dropna(), errors="coerce")
        if len(numbers) and numbers.notna().all() and numbers.nunique() > CONTINUOUS_DISTINCT:
            return "continuous"
    return "categorical"


def _takes_differences(rows: _Rows, ask: Settings) -> bool:
    """Whether comparisons are made inside blocks: pairs, or an attribute that varies inside clusters."""
    if ask.paired or ask.within is not None:
        return ask.paired or bool(ask.within)
    if rows.count == len(rows.y) or ask.continuous:
        return False
    several = np.bincount(rows.clusters) > 1
    return bool(several.any() and rows.mixed[several].mean() >= 0.5)


def _one_level_per_cluster(rows: _Rows) -> tuple[_Rows, Bools]:
    """A cluster with a few images of another level keeps those of its most frequent level (of equals: the first)."""
    mixed = rows.mixed
    if rows.count == len(rows.y) or not mixed.any():
        return rows, np.ones(len(rows.y), dtype=bool)
    counts = np.zeros((rows.count, len(rows.levels)), dtype=np.int64)
    np.add.at(counts, (rows.clusters, rows.codes), 1)
    also = rows.codes == counts.argmax(axis=1)[rows.clusters]
    note = f"{int(mixed.sum())} clusters carry several levels; each counts at its most frequent one"
    excluded = {**rows.excluded, "another level of the cluster": int(np.count_nonzero(~also))}
    return replace(rows.keep(also), excluded=excluded, notes=(*rows.notes, note)), also


def _with_columns(rows: _Rows, klass: pd.Series | None, covariates: pd.DataFrame | None) -> _Rows:
    """Covariate columns: spline of region size, class (crossed with it where patients suffice), declared covariates."""
    parts, names = [], []
    bend = np.empty((len(rows.y), 0)) if rows.size is None else stats.spline_basis(rows.size)
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
        parts.append(column.to_numpy(dtype=np.float64)[:, None] if numeric else _dummies(column, rows))
        names.append(str(name))
    z = np.empty((len(rows.y), sum(part.shape[1] for part in parts)), order="F")
    if parts:
        np.concatenate(parts, axis=1, out=z)
    return replace(rows, z=z, adjusted_for=tuple(names))


def _dummies(column: pd.Series, rows: _Rows) -> Floats:
    """Indicator columns of a factor against its most frequent level; levels of under 20 patients are pooled, NaN is a level."""
    codes, unique = pd.factorize(column.to_numpy(), use_na_sentinel=False)
    names = [str(u) for u in unique]
    patients = _patients_per_level(codes, len(names), rows)
    ranked = sorted(range(len(names)), key=lambda j: (-int(patients[j]), names[j]))
    own = [j for j in ranked if patients[j] >= PATIENTS_PER_COLUMN][: max(1, rows.count // PATIENTS_PER_COLUMN)] or ranked[:1]
    place = np.full(len(names), len(own))
    place[own] = np.arange(len(own))
    width = int(place.max(initial=0)) + 1
    return np.asarray(place[codes][:, None] == np.arange(1, width), dtype=np.float64)


def _level_counts(rows: _Rows) -> dict[str, tuple[int, int]]:
    images = np.bincount(rows.codes, minlength=len(rows.levels))
    patients = _patients_per_level(rows.codes, len(rows.levels), rows)
    return {name: (int(images[k]), int(patients[k])) for k, name in enumerate(rows.levels)}


def _patients_per_level(codes: Ints, levels: int, rows: _Rows) -> Ints:
    """Number of clusters with at least one image of each level, (levels,)."""
    pairs = rows.clusters * levels + codes
    if rows.count * levels > _MOST_CELLS:
        return np.bincount(np.unique(pairs) % levels, minlength=levels)
    present = np.zeros(rows.count * levels, dtype=bool)
    present[pairs] = True
    return np.asarray(present.reshape(rows.count, levels).sum(axis=0, dtype=np.int64))


# ── between patients ────────────────────────────────────────────────────────────────────────────────────────────────


def _between_contrasts(rows: _Rows, ask: Settings) -> tuple[list[Contrast], dict[str, float] | None]:
    patients = _collapse(rows)
    if ask.continuous:
        return _continuous_contrasts(patients, ask), None
    contrasts, wald = _level_contrasts(patients, rows, ask)
    if ask.crossed:
        contrasts += _additivity(patients, rows.levels, ask)
    if ask.order is not None and len(np.unique(patients.codes)) > 2:
        contrasts += [_trend(patients, rows.levels, ask), _departure(patients, rows.levels, ask)]
    return contrasts, wald


def _collapse(rows: _Rows) -> Patients:
    if rows.count == len(rows.y):
        return Patients(rows.y, rows.codes, rows.x, rows.size, rows.z, np.ones(len(rows.y), dtype=np.int64))
    y, z = stats.cluster_means(rows.y, rows.clusters, rows.count), stats.cluster_means(rows.z, rows.clusters, rows.count)
    codes = np.empty(rows.count, dtype=np.int64)
    codes[rows.clusters] = rows.codes
    x = codes / 1.0 if len(rows.levels) > 1 else stats.cluster_means(rows.x, rows.clusters, rows.count)
    size = None if rows.size is None else stats.cluster_means(rows.size, rows.clusters, rows.count)
    return Patients(y, codes, x, size, z, np.bincount(rows.clusters, minlength=rows.count))


def _comparisons(codes: Ints, levels: Sequence[str], reference: str) -> list[tuple[int, int | None]]:
    """(level, reference level or None for the rest): with two levels the larger one is the reference, so nothing is said twice."""
    counts = np.bincount(codes, minlength=len(levels))
    present = [int(k) for k in np.flatnonzero(counts)]
    if reference == "rest" and len(present) == 2:
        a, b = present
        return [(b, a)] if counts[a] >= counts[b] else [(a, b)]
    if reference == "rest":
        return [(k, None) for k in present] if len(present) > 1 else []
    base = levels.index(reference)
    return [(k, base) for k in present if k != base]


@dataclass(frozen=True)
class _Comparison:
    """A level against its reference (None: the rest): the contrast to complete, its two sides, and whether Student's t will do."""

    level: int
    base: int | None
    contrast: Contrast
    sides: tuple[Bools, Bools]
    analytic: bool


def _comparison(patients: Patients, levels: Sequence[str], level: int, base: int | None, ask: Settings) -> _Comparison:
    """Counts and means of both sides, and the reason where a guard withholds the verdict."""
    a = patients.codes == level
    b = ~a if base is None else patients.codes == base
    n, m = int(a.sum()), int(b.sum())
    reason, provisional, analytic = guard(patients.mode_share(a | b), n, m)
    contrast = Contrast(
        kind="level", group=levels[level], reference="rest" if base is None else levels[base],
        n_images=int(patients.images[a].sum()), n_clusters=n, n_images_reference=int(patients.images[b].sum()), n_clusters_reference=m,
        mean=stats.mean_interval(patients.y[a], ask.alpha), mean_reference=stats.mean_interval(patients.y[b], ask.alpha),
        reason=reason, provisional=provisional,
    )  # fmt: skip
    return _Comparison(level, base, contrast, (a, b), analytic)


def _level_contrasts(patients: Patients, rows: _Rows, ask: Settings) -> tuple[list[Contrast], dict[str, float] | None]:
    comparisons = [_comparison(patients, rows.levels, k, base, ask) for k, base in _comparisons(patients.codes, rows.levels, ask.reference)]
    out: list[Contrast | None] = [None] * len(comparisons)
    together: list[int] = []
    for i, c in enumerate(comparisons):
        interval = None if c.contrast.reason else _common_support(patients, *c.sides)
        if c.contrast.reason:
            out[i] = c.contrast
        elif interval is None:
            together.append(i)
        else:
            out[i] = _restricted(patients, rows, c, interval, ask)
    found, wald = _level_model(patients, rows, [comparisons[i] for i in together], ask)
    for i, contrast in zip(together, found, strict=True):
        out[i] = contrast
    return [c for c in out if c is not None], wald


def _level_model(
    patients: Patients, rows: _Rows, comparisons: list[_Comparison], ask: Settings
) -> tuple[list[Contrast], dict[str, float] | None]:  # fmt: skip
    """One model for all levels: those under ten patients share one indicator (a single such patient is left out)."""
    if not comparisons:
        return [], None
    place, width = _model_levels(patients.codes, len(rows.levels))
    inside = place[patients.codes] >= 0
    used = patients if inside.all() else patients.keep(inside)
    codes, counts = place[used.codes], np.bincount(place[used.codes], minlength=width)
    hypotheses, none = [], np.zeros(patients.z.shape[1])
    for c in comparisons:
        own = place[c.level]
        on = -counts / max(counts.sum() - counts[own], 1) if c.base is None else -1.0 * (np.arange(width) == place[c.base])
        on[own] = 1.0
        sides = c.sides if inside.all() else (c.sides[0][inside], c.sides[1][inside])
        hypotheses.append(Hypothesis(c.contrast, on, none, sides, c.analytic))
    large = np.flatnonzero(counts >= MIN_PATIENTS)
    if ask.omnibus and ask.unit == "patient" and len(large) > 2:
        on = np.zeros((len(large) - 1, width))
        on[:, large[0]], on[np.arange(len(large) - 1), large[1:]] = -1.0, 1.0
        shell = Contrast("departure", "all levels", "", 0, 0, 0, 0)
        hypotheses.append(Hypothesis(shell, on, np.zeros((len(on), len(none))), None, all(h.analytic for h in hypotheses)))
    found = estimate_all(used, codes, used.z, hypotheses, ask, images=_image_rows(rows, place) if ask.unit == "image" else None)
    if len(found) == len(comparisons):
        return found, None
    test = found.pop()
    return found, {"statistic": test.statistic, "df": test.df, "p": test.p}


def _image_rows(rows: _Rows, place: Ints) -> ImageRows:
    inside = np.flatnonzero(place[rows.codes] >= 0)
    inside = inside[np.argsort(rows.clusters[inside], kind="stable")]
    return ImageRows(rows.y[inside], place[rows.codes[inside]], rows.z[inside], pd.factorize(rows.clusters[inside])[0])


def _model_levels(codes: Ints, levels: int) -> tuple[Ints, int]:
    counts = np.bincount(codes, minlength=levels)
    place = np.full(levels, -1)
    large = counts >= MIN_PATIENTS
    place[large] = np.arange(int(large.sum()))
    small = (counts > 0) & ~large
    width = int(large.sum())
    if counts[small].sum() > 1:
        place[small] = width
        width += 1
    return place, width


def _common_support(patients: Patients, a: Bools, b: Bools) -> tuple[float, float] | None:
    """Interval of logit region size that both sides reach, where it must be applied: None if the overlap is 80 % or more.

    Overlap: share of the smaller side's patients inside the 1-99 % range of the larger side.
    """
    if patients.size is None:
        return None
    small, large = (a, b) if a.sum() <= b.sum() else (b, a)
    low, high = np.quantile(patients.size[large], [0.01, 0.99])
    sizes = patients.size[small]
    if np.mean((sizes >= low) & (sizes <= high)) >= OVERLAP:
        return None
    own_low, own_high = np.quantile(sizes, [0.01, 0.99])
    return max(float(low), float(own_low)), min(float(high), float(own_high))


def _restricted(patients: Patients, rows: _Rows, whole: _Comparison, interval: tuple[float, float], ask: Settings) -> Contrast:
    """The same contrast among the patients whose region size both sides reach; counts and means stay those of everybody."""
    assert patients.size is not None
    used = patients.keep((patients.size >= interval[0]) & (patients.size <= interval[1]))
    few = _comparison(used, rows.levels, whole.level, whole.base, ask)
    if few.contrast.reason or interval[0] >= interval[1]:
        reason = f"region sizes overlap too little: {few.contrast.reason or 'no common size'}"
        return replace(whole.contrast, reason=reason, provisional=False)
    percent = [100 / (1 + np.exp(-edge)) for edge in interval]
    note = (
        f"region sizes overlap too little: compared among the {few.contrast.n_clusters} and {few.contrast.n_clusters_reference} clusters "
        f"whose region takes {percent[0]:.2g}-{percent[1]:.2g} % of the image"
    )
    contrast = _level_model(used, rows, [few], replace(ask, omnibus=False, unit="patient"))[0][0]
    shown = {f.name: getattr(whole.contrast, f.name) for f in fields(Contrast) if f.name.startswith(("n_", "mean"))}
    return replace(contrast, **shown, notes=(*contrast.notes, note))


def _slope_shell(patients: Patients, kind: Kind, group: str, reference: str) -> tuple[Contrast, bool]:
    """A slope belongs to everybody: all are counted on the group's side, guarded by what holds either end of the line.

    Ordered levels: a patient holds an end by his distance d from the mean level, so a side counts (sum d)^2 / sum d^2 patients
    (Kish 1965); those of a middle level hold neither.  A continuous attribute has no levels; its sides are halves.
    """
    n = len(patients.y)
    sides, counted = (n // 2, n - n // 2), "clusters on one half"
    if kind in ("trend", "departure"):
        away = patients.codes - patients.codes.mean()
        sides, counted = (_effective_number(away[away < 0]), _effective_number(away[away > 0])), "clusters that hold one end of the line"
    reason, provisional, analytic = guard(patients.pooled_mode_share, *sides, counted)
    return Contrast(kind, group, reference, int(patients.images.sum()), n, 0, 0, reason=reason, provisional=provisional), analytic


def _effective_number(weights: Floats) -> int:
    """Patients of equal weight that would say as much: (sum w)^2 / sum w^2, rounded down; 0 without weights."""
    squares = float(weights @ weights)
    return int(weights.sum() ** 2 / squares + 1e-9) if squares > 0 else 0


def _trend(patients: Patients, levels: Sequence[str], ask: Settings) -> Contrast:
    """Slope over the positions of ordered levels, quoted from the first level that has patients to the last."""
    first, last = int(patients.codes.min()), int(patients.codes.max())
    shell, analytic = _slope_shell(patients, "trend", levels[last], levels[first])
    if shell.reason:
        return shell
    columns = np.column_stack([patients.x, patients.z])
    on = np.r_[float(last - first), np.zeros(patients.z.shape[1])]
    return estimate_all(patients, np.zeros(len(patients.y), dtype=np.int64), columns, [Hypothesis(shell, np.zeros(1), on, None, analytic)], ask)[0]


def _departure(patients: Patients, levels: Sequence[str], ask: Settings) -> Contrast:
    """Whether the levels depart from a straight line: joint test of what the level effects have beside their slope."""
    place, width = _model_levels(patients.codes, len(levels))
    large = [k for k in range(len(levels)) if np.count_nonzero(patients.codes == k) >= MIN_PATIENTS]
    shell, analytic = _slope_shell(patients, "departure", levels[int(patients.codes.max())], levels[int(patients.codes.min())])
    if shell.reason or len(large) < 3:
        return replace(shell, reason=shell.reason or f"fewer than three levels have {MIN_PATIENTS} clusters")
    line = np.column_stack([np.ones(len(large)), large])
    beside = np.linalg.svd(line.T)[2][2:]
    on = np.zeros((len(beside), width))
    on[:, place[large]] = beside
    inside = place[patients.codes] >= 0
    used = patients.keep(inside)
    hypothesis = Hypothesis(shell, on, np.zeros((len(on), used.z.shape[1])), None, analytic)
    return estimate_all(used, place[used.codes], used.z, [hypothesis], ask)[0]


def _continuous_contrasts(patients: Patients, ask: Settings) -> list[Contrast]:
    """Slope quoted from the 10 % to the 90 % point of the attribute, and whether a spline says more than the slope."""
    if len(patients.y) == 0 or np.ptp(patients.x) == 0:
        return []
    low, high = np.quantile(patients.x, [0.1, 0.9])
    shell, analytic = _slope_shell(patients, "continuous", f"P90 ({high:.3g})", f"P10 ({low:.3g})")
    bends = stats.spline_basis(patients.x)
    bent = replace(shell, kind="nonlinear")
    if shell.reason:
        return [shell, bent]
    codes, z = np.zeros(len(patients.y), dtype=np.int64), patients.z.shape[1]
    line = Hypothesis(shell, np.zeros(1), np.r_[float(high - low), np.zeros(z)], None, analytic)
    out = estimate_all(patients, codes, np.column_stack([patients.x, patients.z]), [line], ask)
    if bends.shape[1] < 2:
        return [*out, replace(bent, reason="too few distinct values to bend")]
    on = np.zeros((bends.shape[1] - 1, bends.shape[1] + z))
    on[:, 1 : bends.shape[1]] = np.eye(bends.shape[1] - 1)
    curve = Hypothesis(bent, np.zeros((len(on), 1)), on, None, analytic)
    return out + estimate_all(patients, codes, np.column_stack([bends, patients.z]), [curve], ask)


# ── within patients and pairs ───────────────────────────────────────────────────────────────────────────────────────


def _within_contrasts(rows: _Rows, ask: Settings) -> list[Contrast]:
    """Each comparison as one difference per patient, adjusted by the same difference of every covariate column."""
    out = []
    for level, base in [] if ask.continuous else _comparisons(rows.codes, rows.levels, ask.reference):
        a = rows.codes == level
        b = ~a if base is None else rows.codes == base
        per_a, per_b = (np.bincount(rows.blocks, weights=side, minlength=int(rows.blocks.max()) + 1) for side in (a, b))
        both = ((per_a > 0) & (per_b > 0))[rows.blocks]
        functional = np.where(both, a / np.maximum(per_a, 1)[rows.blocks] - b / np.maximum(per_b, 1)[rows.blocks], 0.0)
        names = rows.levels[level], "rest" if base is None else rows.levels[base]
        out.append(_one_sample(rows, functional, "level", names, (a & both, b & both), ask))
    if (ask.continuous or (ask.order is not None and len(out) > 1)) and len(rows.x) and np.ptp(rows.x) > 0:
        out.append(_within_slope(rows, ask))
    return out


def _within_slope(rows: _Rows, ask: Settings) -> Contrast:
    """Mean of the patients' own slopes; patients whose x hardly varies (under a quarter of the median spread) are left out."""
    low, high = (np.quantile(rows.x, [0.1, 0.9])) if ask.continuous else (rows.x.min(), rows.x.max())
    names = f"P90 ({high:.3g})", f"P10 ({low:.3g})"
    if not ask.continuous:
        names = rows.levels[int(high)], rows.levels[int(low)]
    blocks = int(rows.blocks.max()) + 1
    centred = rows.x - stats.cluster_means(rows.x, rows.blocks, blocks)[rows.blocks]
    spread = np.bincount(rows.blocks, weights=centred**2, minlength=blocks)
    enough = spread > 0.25 * np.median(spread[spread > 0]) if (spread > 0).any() else spread > 0
    functional = np.where(enough[rows.blocks], (high - low) * centred / np.where(enough, spread, 1.0)[rows.blocks], 0.0)
    kind: Kind = "continuous" if ask.continuous else "trend"
    return _one_sample(rows, functional, kind, names, None, ask)


def _one_sample(rows: _Rows, functional: Floats, kind: Kind, names: tuple[str, str], sides: tuple[Bools, Bools] | None, ask: Settings) -> Contrast:
    """Mean over patients of sum_i functional_i y_i within blocks, tested by flipping the signs of its residuals."""
    blocks = int(rows.blocks.max()) + 1
    used = np.bincount(rows.blocks, weights=np.abs(functional), minlength=blocks) > 0
    sums = np.column_stack([np.bincount(rows.blocks, weights=functional * col, minlength=blocks) for col in (rows.y, *rows.z.T)])[used]
    owner = np.empty(blocks, dtype=np.int64)
    owner[rows.blocks] = rows.clusters
    clusters = pd.factorize(owner[used])[0]
    n = int(clusters.max()) + 1 if len(clusters) else 0
    difference = stats.cluster_means(sums, clusters, n) if n else np.empty((0, sums.shape[1]))
    noise = 1e-12 * np.abs(rows.z).max(axis=0, initial=1e-300)
    z = np.where(np.abs(difference[:, 1:]) < noise, 0.0, difference[:, 1:])
    reason, provisional, analytic = guard(stats.mode_share(difference[:, 0]), n, n)
    facts = [_side(rows, side, ask.alpha) for side in sides or (used[rows.blocks], np.zeros(len(rows.y), dtype=bool))]
    shell = Contrast(kind, *names, facts[0][0], facts[0][1], facts[1][0], facts[1][1], facts[0][2] if sides else NO_MEAN, facts[1][2],
                     reason=reason, provisional=provisional, notes=(f"differences within {n} {'pairs' if ask.paired else 'clusters'}",))  # fmt: skip
    if reason:
        return shell
    patients = Patients(difference[:, 0], np.zeros(n, dtype=np.int64), np.zeros(n), None, z, np.ones(n, dtype=np.int64))
    hypothesis = Hypothesis(shell, np.ones(1), np.zeros(z.shape[1]), None, analytic)
    return estimate_all(patients, patients.codes, z, [hypothesis], ask, flip=True)[0]


def _side(rows: _Rows, side: Bools, alpha: float) -> tuple[int, int, tuple[float, float, float]]:
    """Images, patients and mean of patient means on one side of a within-patient comparison."""
    if not side.any():
        return 0, 0, NO_MEAN
    patients = _collapse(rows.keep(side))
    return int(side.sum()), len(patients.y), stats.mean_interval(patients.y, alpha)


# ── intersections ───────────────────────────────────────────────────────────────────────────────────────────────────


def intersections(
    values: ArrayLike, first: ArrayLike, second: ArrayLike, *, area_share: ArrayLike | None = None, klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None, clusters: ArrayLike | None = None, margin: float | None = None, alpha: float = 0.05,
    permutations: int = 9999, seed: int = 0,
) -> Disparity:  # fmt: skip
    """Cells of two attributes: each against the rest, and its departure from what the two attributes add up to.

    values, first, second : (n,); the rest as in ``disparity``.  Cells are named "A × B".  Contrasts of kind "additivity"
    exist for cells past the guards whose additive prediction the other cells determine.
    """
    parts = [pd.Series(a, dtype=object).reset_index(drop=True) for a in (first, second)]
    known = parts[0].notna() & parts[1].notna()
    cells = [f"{level_text(a)}{CROSS}{level_text(b)}" if k else None for a, b, k in zip(*parts, known, strict=True)]
    ask = Settings("rest", None, False, margin, alpha, permutations, seed, False, None, "patient", "holm", False, False, False, crossed=True)
    return _run(ask, values, np.asarray(cells, dtype=object), area_share, klass, covariates, clusters)


def _additivity(patients: Patients, levels: Sequence[str], ask: Settings) -> list[Contrast]:
    """cell mean - (its prediction from the patient-weighted additive model of all cells with ten patients)."""
    place, width = _model_levels(patients.codes, len(levels))
    inside = place[patients.codes] >= 0
    used = patients.keep(inside)
    codes = place[used.codes]
    large = [k for k in range(len(levels)) if np.count_nonzero(patients.codes == k) >= MIN_PATIENTS]
    if len(large) < 3:
        return []
    names = pd.DataFrame([levels[k].split(CROSS, 1) for k in large])
    dummies = pd.get_dummies(names, dtype=float).to_numpy()
    weight = np.bincount(codes, minlength=width)[place[large]]
    root = np.sqrt(weight)[:, None]
    hat = dummies @ np.linalg.pinv(root * dummies) * root.T
    hypotheses = []
    for row, level in enumerate(large):
        on = np.zeros(width)
        on[place[large]] = np.eye(len(large))[row] - hat[row]
        cell = _comparison(patients, levels, level, None, ask)
        if np.abs(on).max() < 1e-9 or cell.contrast.reason:
            continue
        shell = replace(cell.contrast, kind="additivity", reference="additive prediction", mean_reference=NO_MEAN)
        hypotheses.append(Hypothesis(shell, on, np.zeros(used.z.shape[1]), None, cell.analytic))
    return estimate_all(used, codes, used.z, hypotheses, ask) if hypotheses else []
