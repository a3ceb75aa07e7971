"""Comparisons between patients: levels against each other, lines over ordered levels and numbers, cells against their parts.

Image rows become patient rows (``collapse``), and hypotheses are linear functions of the patient model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from gradaudit import stats
from gradaudit.analysed_rows import AnalysedRows
from gradaudit.contrasts import MIN_PATIENTS, NO_MEAN, Bools, Contrast, Hypothesis, ImageRows, Kind, Patients, Settings, estimate_all, guard
from gradaudit.stats import Floats, Ints

OVERLAP = 0.80
CROSS = " × "
"""Between the two levels of a cell."""
ONE_VALUE = "the attribute has one value from its 10th to its 90th percentile"
"""Why a slope from one point to the other says nothing."""


def between_contrasts(rows: AnalysedRows, ask: Settings) -> tuple[list[Contrast], dict[str, float] | None]:
    """Every contrast of one attribute between patients; and the Wald test that all levels are equal, where it is asked."""
    patients = collapse(rows)
    if ask.continuous:
        return _continuous_contrasts(patients, ask), None
    contrasts, wald = _level_contrasts(patients, rows, ask)
    if ask.crossed:
        contrasts += _additivity(patients, rows.levels, ask)
    if ask.order is not None and len(np.unique(patients.codes)) > 2:
        contrasts += [_trend(patients, rows.levels, ask), _departure(patients, rows.levels, ask)]
    return contrasts, wald


def collapse(rows: AnalysedRows) -> Patients:
    """One row per patient: means over his images."""
    if rows.count == len(rows.y):
        return Patients(rows.y, rows.codes, rows.x, rows.size, rows.z, np.ones(len(rows.y), dtype=np.int64))
    y, z = stats.cluster_means(rows.y, rows.clusters, rows.count), stats.cluster_means(rows.z, rows.clusters, rows.count)
    codes = np.empty(rows.count, dtype=np.int64)
    codes[rows.clusters] = rows.codes
    x = codes / 1.0 if len(rows.levels) > 1 else stats.cluster_means(rows.x, rows.clusters, rows.count)
    size = None if rows.size is None else stats.cluster_means(rows.size, rows.clusters, rows.count)
    return Patients(y, codes, x, size, z, np.bincount(rows.clusters, minlength=rows.count))


def comparisons_of(codes: Ints, levels: Sequence[str], reference: str) -> list[tuple[int, int | None]]:
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


def _level_contrasts(patients: Patients, rows: AnalysedRows, ask: Settings) -> tuple[list[Contrast], dict[str, float] | None]:
    comparisons = [_comparison(patients, rows.levels, k, base, ask) for k, base in comparisons_of(patients.codes, rows.levels, ask.reference)]
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
    patients: Patients, rows: AnalysedRows, comparisons: list[_Comparison], ask: Settings
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


def _image_rows(rows: AnalysedRows, place: Ints) -> ImageRows:
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


def _restricted(patients: Patients, rows: AnalysedRows, whole: _Comparison, interval: tuple[float, float], ask: Settings) -> Contrast:
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
    shell, analytic = _slope_shell(patients, "continuous", *percentile_names(low, high))
    if low == high:
        shell = replace(shell, reason=ONE_VALUE, provisional=False)
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


def percentile_names(low: float, high: float) -> tuple[str, str]:
    """The two ends of a slope, upper first: "P90 (72.4)" and "P10 (31)", without a value where both have the same.

    Three digits, and more where rounding would move an end by over a twentieth of their distance: 2016 and 2020 are no "2.02e+03".
    """
    if low == high:
        return "P90", "P10"
    digits = 3
    while digits < 15 and max(abs(float(f"{end:.{digits}g}") - end) for end in (low, high)) > (high - low) / 20:
        digits += 1
    lower, upper = (np.format_float_positional(float(f"{end:.{digits}g}"), trim="-") for end in (low, high))
    return f"P90 ({upper})", f"P10 ({lower})"


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
