"""Comparisons between patients: levels with each other, cells of two attributes with their parts.

Rows of an ``AnalysisSet`` come in; contrasts of levels, cells and (through ``slopes``) of lines go
out.  Every comparison is a linear function of one model of the patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np
import pandas as pd

from gradaudit.number_text import plain_number
from gradaudit.records import CROSS
from gradaudit.stats.decision import MarginTest
from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.rare_outcomes import share_bound
from gradaudit.stats.strata import held_by
from gradaudit.subgroups.analysis_set import AnalysisSet
from gradaudit.subgroups.cluster_model import fit_model, lay_out
from gradaudit.subgroups.contrast import (
    MIN_PATIENTS,
    NO_MEAN,
    Bools,
    Contrast,
    Guarded,
    Kind,
    apart_reason,
    are_rare_events,
    guard,
)
from gradaudit.subgroups.contrast_tests import estimate_all, rows_for
from gradaudit.subgroups.model_rows import (
    Hypothesis,
    ImageRows,
    ModelLevels,
    ModelRows,
    Patients,
    Side,
    Sides,
    images_related,
    patient_rows,
    relied_on,
    thirds,
    with_note,
)
from gradaudit.subgroups.settings import Settings
from gradaudit.subgroups.slopes import continuous_contrasts, departure, trend

OVERLAP = 0.80


def between_contrasts(
    rows: AnalysisSet, settings: Settings
) -> tuple[list[Contrast], dict[str, float] | None]:
    """Every contrast of one attribute between patients; and the test that all levels are equal.

    The test (Wald) is None where it is not asked or not possible.
    """
    patients = patient_rows(rows, settings)
    if settings.continuous:
        used, note = relied_on(patients, thirds(patients.x))
        return with_note(continuous_contrasts(used, settings), note), None
    contrasts, wald = _level_contrasts(patients, rows, settings)
    if settings.crossed:
        contrasts += _additivity(patients, rows.levels, settings)
    if settings.order is not None and len(np.unique(patients.codes)) > 2:
        parts = [(f"in group {name}", patients.codes == k) for k, name in enumerate(rows.levels)]
        used, note = relied_on(patients, parts)
        shapes = (trend, departure) if settings.beside else (trend,)
        lines = [shape(used, rows.levels, settings) for shape in shapes]
        contrasts += with_note(lines, note)
    return contrasts, wald


def comparisons_of(
    codes: Ints, levels: Sequence[str], settings: Settings
) -> list[tuple[int, int | None]]:
    """(level, its reference level or None for the rest) of every comparison.

    Of two levels the larger one is the reference, so that nothing is said twice.
    """
    reference = settings.reference
    counts = np.bincount(codes, minlength=len(levels))
    present = [int(k) for k in np.flatnonzero(counts)]
    if reference == "rest" and len(present) == 2 and not settings.rest_of_two:
        a, b = present
        return [(b, a)] if counts[a] >= counts[b] else [(a, b)]
    if reference == "rest":
        return [(k, None) for k in present] if len(present) > 1 else []
    base = levels.index(reference)
    return [(k, base) for k in present if k != base]


def pairs_of(codes: Ints, levels: Sequence[str], settings: Settings) -> list[tuple[int, int]]:
    """(level, other level) of every pair that is not a level with its reference already.

    Each level may lie near the rest while two of them lie far from each other.
    """
    if not settings.pairwise or settings.order is not None:
        return []
    present = [int(k) for k in np.flatnonzero(np.bincount(codes, minlength=len(levels)))]
    if settings.reference != "rest":
        base = levels.index(settings.reference)
        present = [k for k in present if k != base]
    return list(combinations(present, 2))


# ── levels ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Comparison:
    """A level against its reference or another level (``base``; None: the rest).

    contrast : counts and means, to be completed
    sides : which patients are compared
    analytic : whether Student's t will do
    once : whether each patient counts once, whatever the weights
    """

    level: int
    base: int | None
    contrast: Contrast
    sides: tuple[Bools, Bools]
    analytic: bool
    once: bool = False


def _comparison(
    sides: Sides,
    levels: Sequence[str],
    level: int,
    base: int | None,
    settings: Settings,
    kind: Kind = "level",
) -> _Comparison:
    """Counts and means of both sides, and the reason where a guard withholds the verdict."""
    patients, own = sides.patients, sides.of(level)
    other = sides.of(level, others=True) if base is None else sides.of(base)
    a, b, n, m = own.rows, other.rows, own.count, other.count
    (reason, provisional, analytic), entered = _guarded(patients, a, b, settings)
    group = levels[level]
    reference = "the rest" if base is None else f"group {levels[base]}"
    related = images_related(patients, [(f"in group {group}", a), (f"in {reference}", b)])
    contrast = Contrast(
        kind=kind,
        group=group,
        reference="rest" if base is None else levels[base],
        n_images=own.images,
        n_clusters=n,
        n_images_reference=other.images,
        n_clusters_reference=m,
        mean=own.mean,
        mean_reference=other.mean,
        reason=reason,
        provisional=provisional,
        entered=entered if entered != (n, m) else None,
        margin_test=rare_bound(patients.y, (a, b), reason, settings),
        notes=(related,) if related and not reason else (),
    )
    return _Comparison(level, base, contrast, (a, b), analytic, once=bool(related))


def _guarded(
    patients: Patients, a: Bools, b: Bools, settings: Settings
) -> tuple[Guarded, tuple[int, int]]:
    """What the guards say of two sides, and how many clusters of each the estimate rests on."""
    shared = np.ones(len(a), dtype=bool)
    if patients.held is not None:
        shared = patients.held.sharing(a, b)
    entered = int((a & shared).sum()), int((b & shared).sum())
    if min(a.sum(), b.sum()) >= MIN_PATIENTS > min(entered):
        names = _names_apart(patients, a, b)
        return Guarded(apart_reason(names, settings.attribute, 0), False, False), entered
    return guard(patients.mode_share((a | b) & shared), *entered), entered


def _names_apart(patients: Patients, a: Bools, b: Bools) -> list[str]:
    """Factors whose levels hold too few of either side beside the other; all where none does."""
    held = patients.held
    assert held is not None
    few = []
    for name, codes in zip(held.names, held.main.T, strict=True):
        shared = held_by(codes, a) & held_by(codes, b)
        if min((a & shared).sum(), (b & shared).sum()) < MIN_PATIENTS:
            few.append(name)
    return few or list(held.names)


def rare_bound(
    y: Floats, sides: tuple[Bools, Bools], reason: str, settings: Settings
) -> MarginTest | None:
    """A bound on the difference of shares where too few values differ for a test, else None.

    It holds whatever the covariates are, since it is not adjusted for them.
    """
    if settings.margin is None or not are_rare_events(y, reason):
        return None
    sums = [float(y[side].sum()) for side in sides]
    return share_bound(sums, [int(side.sum()) for side in sides], settings.margin)


def _level_contrasts(
    patients: Patients, rows: AnalysisSet, settings: Settings
) -> tuple[list[Contrast], dict[str, float] | None]:
    """Every level with its reference, and pairs where asked for.

    All are in one model, or alone where region sizes hardly overlap.
    """
    sides = Sides(patients, settings.alpha)
    comparisons = [
        _comparison(sides, rows.levels, level, base, settings)
        for level, base in comparisons_of(patients.codes, rows.levels, settings)
    ]
    for level, other in pairs_of(patients.codes, rows.levels, settings):
        comparisons.append(_comparison(sides, rows.levels, level, other, settings, "pair"))
    out = [c.contrast for c in comparisons]
    together: list[int] = []
    for i, c in enumerate(comparisons):
        if c.contrast.reason:
            continue
        beside = sides.of(c.level, others=True) if c.base is None else sides.of(c.base)
        interval = _common_support(sides.of(c.level), beside)
        if interval is None:
            together.append(i)
        else:
            out[i] = _restricted(patients, rows, c, interval, settings)
    found, wald = _level_model(patients, rows, [comparisons[i] for i in together], settings)
    for i, contrast in zip(together, found, strict=True):
        out[i] = contrast
    return out, wald


def _level_model(
    patients: Patients, rows: AnalysisSet, comparisons: list[_Comparison], settings: Settings
) -> tuple[list[Contrast], dict[str, float] | None]:
    """The comparisons in one model of all levels, and the test that all large levels are equal."""
    if not comparisons:
        return [], None
    model = _InModel.of(patients, len(rows.levels))
    hypotheses = [_level_hypothesis(c, model) for c in comparisons]
    counts = model.counts
    if settings.omnibus and settings.unit == "patient" and np.sum(counts >= MIN_PATIENTS) > 2:
        analytic = all(h.analytic for h in hypotheses)
        everyone = _all_equal(counts, patients.z.shape[1], analytic)
        hypotheses.append(replace(everyone, once=any(h.once for h in hypotheses)))
    images = _image_rows(rows, model.inside) if settings.unit == "image" else None
    model_rows = ModelRows.with_levels(model.patients, model.levels, images)
    found = estimate_all(model_rows, hypotheses, settings)
    if len(found) == len(comparisons):
        return found, None
    test = found.pop()
    return found, {"statistic": test.statistic, "df": test.df, "p": test.p}


def level_estimate(
    rows: AnalysisSet, level: int, base: int | None, settings: Settings
) -> tuple[float, float] | None:
    """Estimate and standard error of one level in the model of all levels; None where it has none."""
    patients = patient_rows(rows, settings)
    a = patients.codes == level
    b = ~a if base is None else patients.codes == base
    shell = Contrast("level", "", "", 0, 0, 0, 0)
    once = bool(images_related(patients, [("", a), ("", b)]))
    comparison = _Comparison(level, base, shell, (a, b), analytic=True, once=once)
    those = _InModel.of(patients, len(rows.levels))
    hypothesis = _level_hypothesis(comparison, those)
    model_rows = ModelRows.with_levels(those.patients, those.levels)
    layout = lay_out(model_rows)
    own = rows_for(hypothesis, model_rows, layout)
    if own is not model_rows:
        layout = lay_out(own)
    if layout is None or not all(layout.is_estimable(row) for row in hypothesis.coefficients):
        return None
    model = fit_model(layout, [hypothesis])
    return None if isinstance(model, str) else (float(model.estimates[0]), float(model.se[0]))


@dataclass(frozen=True)
class _InModel:
    """Those who are in the model of all levels.

    inside : which of all patients they are
    counts : (G,) how many of each column of the model say something of the levels
    """

    levels: ModelLevels
    inside: Bools
    patients: Patients
    counts: Ints

    @classmethod
    def of(cls, patients: Patients, level_count: int) -> _InModel:
        levels = ModelLevels.of(patients.codes, level_count)
        inside = levels.place[patients.codes] >= 0
        used = patients if inside.all() else patients.keep(inside)
        codes = levels.place[used.codes]
        if used.held is not None:
            codes = codes[used.held.informative(codes)]
        return cls(levels, inside, used, np.bincount(codes, minlength=levels.width))


def _level_hypothesis(c: _Comparison, model: _InModel) -> Hypothesis:
    """Level effect minus that of the reference, or minus the patient-weighted mean of the rest."""
    levels, counts, inside = model.levels, model.counts, model.inside
    own = levels.place[c.level]
    on = -counts / max(counts.sum() - counts[own], 1)
    if c.base is not None:
        on = -1.0 * (np.arange(levels.width) == levels.place[c.base])
    on[own] = 1.0
    sides = c.sides if inside.all() else (c.sides[0][inside], c.sides[1][inside])
    columns = np.zeros(model.patients.z.shape[1])
    return Hypothesis(c.contrast, on, columns, sides, c.analytic, c.once)


def _all_equal(counts: Ints, columns: int, analytic: bool) -> Hypothesis:
    """Every column of the model with ten patients minus the first such."""
    first, *others = np.flatnonzero(counts >= MIN_PATIENTS)
    on = np.zeros((len(others), len(counts)))
    on[:, first], on[np.arange(len(others)), others] = -1.0, 1.0
    shell = Contrast("departure", "all levels", "", 0, 0, 0, 0)
    return Hypothesis(shell, on, np.zeros((len(on), columns)), None, analytic)


def _image_rows(rows: AnalysisSet, inside: Bools) -> ImageRows:
    """The images of the patients that are in a model, (P,) bool."""
    place = np.cumsum(inside) - 1
    images = np.flatnonzero(inside[rows.clusters])
    images = images[np.argsort(rows.clusters[images], kind="stable")]
    return ImageRows(rows.y[images], rows.z[images], place[rows.clusters[images]])


# ── common support of region size ─────────────────────────────────────────────────────────────────


def _common_support(a: Side, b: Side) -> tuple[float, float] | None:
    """Interval of logit region size that both sides reach; None where it need not be applied.

    It need not where 80 % of the smaller side's patients are inside the 1-99 % range of the larger
    side.
    """
    small, large = (a, b) if a.count <= b.count else (b, a)
    if small.sizes is None:
        return None
    low, high = large.common_sizes
    if np.mean((small.sizes >= low) & (small.sizes <= high)) >= OVERLAP:
        return None
    own_low, own_high = small.common_sizes
    return max(low, own_low), min(high, own_high)


def _restricted(
    patients: Patients,
    rows: AnalysisSet,
    whole: _Comparison,
    interval: tuple[float, float],
    settings: Settings,
) -> Contrast:
    """The contrast among patients of a size in ``interval``; its counts and means are of all."""
    assert patients.size is not None
    low, high = interval
    used = patients.keep((patients.size >= low) & (patients.size <= high))
    kind = whole.contrast.kind
    sides = Sides(used, settings.alpha)
    few = _comparison(sides, rows.levels, whole.level, whole.base, settings, kind)
    if few.contrast.reason or low >= high:
        reason = f"region sizes overlap too little: {few.contrast.reason or 'no common size'}"
        return replace(whole.contrast, reason=reason, provisional=False)
    alone = replace(settings, omnibus=False, unit="patient")
    contrast = _level_model(used, rows, [few], alone)[0][0]
    shown = {}
    for field in fields(Contrast):
        if field.name.startswith(("n_", "mean")):
            shown[field.name] = getattr(whole.contrast, field.name)
    entered = few.contrast.entered or (
        few.contrast.n_clusters,
        few.contrast.n_clusters_reference,
    )
    note = _support_note(few, interval)
    return replace(contrast, **shown, entered=entered, notes=(*contrast.notes, note))


def _support_note(few: _Comparison, interval: tuple[float, float]) -> str:
    low, high = (100 / (1 + np.exp(-edge)) for edge in interval)
    n, m = few.contrast.n_clusters, few.contrast.n_clusters_reference
    return (
        f"region sizes overlap too little: compared among the {n} and {m} clusters "
        f"whose region takes {plain_number(low, 2)}-{plain_number(high, 2)} % of the image"
    )


# ── cells of two attributes ───────────────────────────────────────────────────────────────────────


def _additivity(patients: Patients, levels: Sequence[str], settings: Settings) -> list[Contrast]:
    """Each cell's mean minus what its two levels add up to, for cells with ten patients.

    The additive prediction is the patient-weighted least-squares fit to all of these cells; a cell
    that the others do not predict has no contrast.
    """
    model_levels = ModelLevels.of(patients.codes, len(levels))
    used = patients.keep(model_levels.place[patients.codes] >= 0)
    large = model_levels.large
    if len(large) < 3:
        return []
    counts = np.bincount(used.codes, minlength=len(levels))[large]
    hat = _additive_hat([levels[k] for k in large], counts)
    hypotheses, sides = [], Sides(patients, settings.alpha)
    for row, level in enumerate(large.tolist()):
        on = np.zeros(model_levels.width)
        on[model_levels.place[large]] = np.eye(len(large))[row] - hat[row]
        cell = _comparison(sides, levels, level, None, settings)
        if np.abs(on).max() < 1e-9 or cell.contrast.reason:
            continue
        shell = replace(
            cell.contrast,
            kind="additivity",
            reference="additive prediction",
            mean_reference=NO_MEAN,
        )
        hypotheses.append(Hypothesis(shell, on, np.zeros(used.z.shape[1]), None, cell.analytic))
    if not hypotheses:
        return []
    return estimate_all(ModelRows.with_levels(used, model_levels), hypotheses, settings)


def _additive_hat(cells: list[str], counts: Ints) -> Floats:
    """Matrix (c, c) from cell means to their additive predictions, cells weighted by patients."""
    names = pd.DataFrame([cell.split(CROSS, 1) for cell in cells])
    dummies = pd.get_dummies(names, dtype=float).to_numpy()
    root = np.sqrt(counts)[:, None]
    return np.asarray(dummies @ np.linalg.pinv(root * dummies) * root.T)
