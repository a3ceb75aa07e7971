"""Lines between patients: the slope over ordered levels or over a number, and departures from it.

Patient rows come in; contrasts of kind "trend", "departure", "continuous" and "nonlinear" go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradaudit.number_text import significant
from gradaudit.stats import linear_model
from gradaudit.stats.family import Floats
from gradaudit.subgroups.contrast import MIN_PATIENTS, Contrast, Kind, guard
from gradaudit.subgroups.contrast_tests import estimate_all
from gradaudit.subgroups.model_rows import Hypothesis, ModelLevels, ModelRows, Patients
from gradaudit.subgroups.settings import Settings

ONE_VALUE = "the attribute has one value from its 10th to its 90th percentile"
"""Why a slope from one point to the other says nothing."""


def trend(patients: Patients, levels: Sequence[str], settings: Settings) -> Contrast:
    """Slope over ordered levels, quoted from the first level that has patients to the last."""
    first, last = int(patients.codes.min()), int(patients.codes.max())
    shell, analytic = _slope_shell(patients, "trend", (levels[last], levels[first]))
    if shell.reason:
        return shell
    return _slope(patients, shell, float(last - first), analytic, settings)


def departure(patients: Patients, levels: Sequence[str], settings: Settings) -> Contrast:
    """Whether levels depart from a line: joint test of what their effects have beside a slope."""
    ends = levels[int(patients.codes.max())], levels[int(patients.codes.min())]
    shell, analytic = _slope_shell(patients, "departure", ends)
    model_levels = ModelLevels.of(patients.codes, len(levels))
    large = model_levels.large
    if not shell.reason and len(large) < 3:
        shell = replace(shell, reason=f"fewer than three levels have {MIN_PATIENTS} clusters")
    if shell.reason:
        return shell
    line = np.column_stack([np.ones(len(large)), large])
    beside = np.linalg.svd(line.T)[2][2:]
    on = np.zeros((len(beside), model_levels.width))
    on[:, model_levels.place[large]] = beside
    used = patients.keep(model_levels.place[patients.codes] >= 0)
    hypothesis = Hypothesis(shell, on, np.zeros((len(on), used.z.shape[1])), None, analytic)
    return estimate_all(ModelRows.with_levels(used, model_levels), [hypothesis], settings)[0]


def continuous_contrasts(patients: Patients, settings: Settings) -> list[Contrast]:
    """Slope from the 10 % to the 90 % point, and whether a spline says more than the slope."""
    if len(patients.y) == 0 or np.ptp(patients.x) == 0:
        return []
    low, high = np.quantile(patients.x, [0.1, 0.9])
    shell, analytic = _slope_shell(patients, "continuous", percentile_names(low, high))
    if low == high:
        shell = replace(shell, reason=ONE_VALUE, provisional=False)
    bent = replace(shell, kind="nonlinear")
    if shell.reason:
        return [shell, bent]
    return [
        _slope(patients, shell, float(high - low), analytic, settings),
        _nonlinear(patients, bent, analytic, settings),
    ]


def _slope(
    patients: Patients, shell: Contrast, reach: float, analytic: bool, settings: Settings
) -> Contrast:
    """Coefficient of the attribute, times ``reach``."""
    on = np.r_[reach, np.zeros(patients.z.shape[1])]
    rows = ModelRows.without_levels(patients, np.column_stack([patients.x, patients.z]))
    hypothesis = Hypothesis(shell, np.zeros(1), on, None, analytic)
    return estimate_all(rows, [hypothesis], settings)[0]


def _nonlinear(patients: Patients, shell: Contrast, analytic: bool, settings: Settings) -> Contrast:
    """Joint test of the bends of a natural cubic spline of the attribute."""
    spline = linear_model.spline_basis(patients.x)
    bends = spline.shape[1] - 1
    if bends < 1:
        return replace(shell, reason="too few distinct values to bend")
    on = np.zeros((bends, spline.shape[1] + patients.z.shape[1]))
    on[:, 1 : spline.shape[1]] = np.eye(bends)
    rows = ModelRows.without_levels(patients, np.column_stack([spline, patients.z]))
    hypothesis = Hypothesis(shell, np.zeros((bends, 1)), on, None, analytic)
    return estimate_all(rows, [hypothesis], settings)[0]


def _slope_shell(patients: Patients, kind: Kind, ends: tuple[str, str]) -> tuple[Contrast, bool]:
    """The contrast of a slope before its test, guarded by what holds either end of the line.

    A slope is about everybody, so all are counted on the group's side.  Over ordered levels a
    patient holds an end by its distance d from the mean level, so that a side counts as
    (sum d)^2 / sum d^2 patients (Kish 1965); those of a middle level hold neither end.  A
    continuous attribute has no levels; its sides are halves.
    ends : names of the upper and the lower end
    returns : the contrast, and whether Student's t will do
    """
    n = len(patients.y)
    sides, counted = (n // 2, n - n // 2), "clusters on one half"
    if kind in ("trend", "departure"):
        away = patients.codes - patients.codes.mean()
        sides = _effective_number(away[away < 0]), _effective_number(away[away > 0])
        counted = "clusters that hold one end of the line"
    reason, provisional, analytic = guard(patients.pooled_mode_share, *sides, counted)
    shell = Contrast(
        kind,
        *ends,
        n_images=int(patients.images.sum()),
        n_clusters=n,
        n_images_reference=0,
        n_clusters_reference=0,
        reason=reason,
        provisional=provisional,
    )
    return shell, analytic


def _effective_number(weights: Floats) -> int:
    """Patients of equal weight that would tell as much: (sum w)^2 / sum w^2, rounded down.

    0 without weights.
    """
    squares = float(weights @ weights)
    return int(weights.sum() ** 2 / squares + 1e-9) if squares > 0 else 0


def percentile_names(low: float, high: float) -> tuple[str, str]:
    """The two ends of a slope, upper first: "P90 (72.4)" and "P10 (31)"; no value where equal.

    Three digits, and more where rounding would move an end by over a twentieth of their distance:
    2016 and 2020 are no "2.02e+03".
    """
    if low == high:
        return "P90", "P10"
    digits = 3
    while digits < 15 and _rounding_error(digits, low, high) > (high - low) / 20:
        digits += 1
    lower, upper = (
        np.format_float_positional(significant(end, digits), trim="-") for end in (low, high)
    )
    return f"P90 ({upper})", f"P10 ({lower})"


def _rounding_error(digits: int, *values: float) -> float:
    return max(abs(significant(value, digits) - value) for value in values)
