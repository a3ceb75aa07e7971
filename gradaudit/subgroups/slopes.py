"""Lines and curves between patients: over ordered levels, or over a number.

Patient rows come in; contrasts of kind "trend", "departure", "continuous", "nonlinear" and "curve"
go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import special

from gradaudit.number_text import plain_number, significant
from gradaudit.stats import linear_model, standard_errors, tails
from gradaudit.stats.decision import LargestDifference, detectable_difference
from gradaudit.stats.family import Floats, Ints
from gradaudit.stats.rare_outcomes import share_bounds
from gradaudit.stats.tails import ManyTails
from gradaudit.subgroups.cluster_model import (
    MIN_SITES,
    TOO_FEW,
    ClusterModel,
    Layout,
    draws_needed,
    fit_model,
    lay_out,
    permuted_coefficients,
    site_error,
)
from gradaudit.subgroups.contrast import (
    ANALYTIC_PATIENTS,
    MIN_PATIENTS,
    NO_LIMIT,
    Contrast,
    Kind,
    are_rare_events,
    guard,
)
from gradaudit.subgroups.contrast_tests import (
    effective_number,
    estimate_all,
    rows_for,
    with_standing,
)
from gradaudit.subgroups.levels import percentile_names, rounding_digits
from gradaudit.subgroups.model_rows import (
    Hypothesis,
    ModelLevels,
    ModelRows,
    Patients,
    with_weights_said,
)
from gradaudit.subgroups.settings import Settings

ONE_VALUE = "the attribute has one value from its 10th to its 90th percentile"
"""Why a slope from one point to the other says nothing."""
ONE_VALUE_OF_CURVE = "the attribute has one value from its 5th to its 95th percentile"
CURVE_PERCENTS = np.linspace(5, 95, 13)
"""Points of a number between which a curve is compared: 78 pairs."""
NARROW_BUMPS = (
    "a bump narrower than the distance of the curve's knots (about a third of the clusters) "
    "would not be seen"
)
"""Known miss of a spline with four knots, said beside every curve."""
_ANALYTIC_DRAWS = 9999


def trend(patients: Patients, levels: Sequence[str], settings: Settings) -> Contrast:
    """Slope over ordered levels, quoted from the first level that has patients to the last."""
    first, last = int(patients.codes.min()), int(patients.codes.max())
    shell, analytic = _slope_shell(patients, "trend", (levels[last], levels[first]))
    if shell.reason:
        return _with_rare_bounds(patients, shell, patients.codes, settings)
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
    """Slope from the 10 % to the 90 % point, whether a spline says more, and the curve.

    The curve decides; the slope stands beside it without a margin, since a U has none.
    """
    if len(patients.y) == 0 or np.ptp(patients.x) == 0:
        return []
    low, high = settings.ends or np.quantile(patients.x, [0.1, 0.9])
    shell, analytic = _slope_shell(patients, "continuous", percentile_names(low, high))
    if low == high:
        shell = replace(shell, reason=ONE_VALUE, provisional=False)
    bent = replace(shell, kind="nonlinear")
    found = curve(patients, settings)
    if shell.reason:
        return [shell, bent, found]
    beside = replace(settings, margin=None)
    return [
        _slope(patients, shell, float(high - low), analytic, beside),
        _nonlinear(patients, bent, analytic, settings),
        found,
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


# ── curves ────────────────────────────────────────────────────────────────────────────────────────


def curve(patients: Patients, settings: Settings) -> Contrast:
    """The largest difference between two of 13 points of a smooth curve over a number.

    The curve is a natural cubic spline, fitted with the covariates.  Every pair of points is
    compared, so that a U does not pass for a flat line.
    """
    points, names = curve_points(patients.x)
    shell, analytic = _slope_shell(patients, "curve", (names[-1], names[0]))
    shell = replace(shell, notes=(NARROW_BUMPS,))
    if len(points) < 2:
        shell = replace(shell, reason=ONE_VALUE_OF_CURVE)
    if shell.reason:
        cuts = np.quantile(patients.x, [1 / 3, 2 / 3])
        thirds = np.searchsorted(cuts, patients.x)
        return _with_rare_bounds(patients, shell, thirds, settings)
    basis, at_points = spline_at(patients.x, points)
    rows = ModelRows.without_levels(patients, np.column_stack([basis, patients.z]))
    hypotheses = _curve_hypotheses(shell, at_points, patients.z.mean(axis=0), analytic)
    shell, layout = _standing_of_line(shell, rows, analytic, settings)
    if layout is None or shell.reason:
        return replace(shell, reason=shell.reason or TOO_FEW, provisional=False)
    model = fit_model(layout, hypotheses)
    if isinstance(model, str):
        return replace(shell, reason=model, provisional=False)
    fitted = _Curve(model, points, at_points, _pairs_of(len(points)))
    if not fitted.has_error:
        return replace(shell, reason="no value differs from the curve", provisional=False)
    many = _curve_tails(fitted, settings, may_be_analytic=analytic)
    return _largest(shell, names, fitted, many, settings)


def _standing_of_line(
    shell: Contrast, rows: ModelRows, analytic: bool, settings: Settings
) -> tuple[Contrast, Layout | None]:
    """Whether a line, the first column, can be told apart; and the rows laid out for it."""
    line = Hypothesis(shell, np.zeros(1), np.eye(1, rows.columns.shape[1])[0], None, analytic)
    layout = lay_out(rows)
    used = rows_for(line, rows, layout)
    if used is not rows:
        layout = lay_out(used)
    shell = with_standing(line, used, layout, settings)
    return (shell if rows.weights is None else with_weights_said(shell, used)), layout


def curve_points(x: Floats) -> tuple[Floats, list[str]]:
    """Distinct points of a number between its 5 % and 95 % point, and their names."""
    points, first = np.unique(np.quantile(x, CURVE_PERCENTS / 100), return_index=True)
    reach = float(points[-1] - points[0])
    digits = rounding_digits(points, reach / 20)
    names = []
    for point, percent in zip(points, CURVE_PERCENTS[first], strict=True):
        value = np.format_float_positional(significant(point, digits), trim="-")
        names.append(f"P{plain_number(percent)} ({value})")
    return points, names


def spline_at(x: Floats, points: Floats) -> tuple[Floats, Floats]:
    """The spline of x, (n, k), and the same columns at ``points``, (m, k); all independent."""
    knots = np.unique(np.quantile(x, linear_model.KNOTS))
    basis = linear_model.spline_basis(x, knots)
    kept = list(linear_model.design(np.zeros(len(x), dtype=np.int64), basis).kept)
    return basis[:, kept], linear_model.spline_basis(points, knots)[:, kept]


def _curve_hypotheses(
    shell: Contrast, at_points: Floats, center: Floats, analytic: bool
) -> list[Hypothesis]:
    """The spline's coefficients, and the curve at its points where covariates have their mean."""
    m, k = at_points.shape
    coefficients = np.eye(k, k + len(center))
    at_mean = np.hstack([at_points, np.broadcast_to(center, (m, len(center)))])
    return [
        Hypothesis(shell, np.zeros((k, 1)), coefficients, None, analytic),
        Hypothesis(shell, np.ones((m, 1)), at_mean, None, analytic),
    ]


def _pairs_of(count: int) -> tuple[Ints, Ints]:
    """(upper, lower) point of every pair."""
    lower, upper = np.triu_indices(count, 1)
    return upper, lower


@dataclass(frozen=True)
class _Curve:
    """A fitted curve with the differences of its points.

    points : (m,)      at_points : (m, k) spline columns      pairs : (upper, lower), each (p,)
    """

    model: ClusterModel
    points: Floats
    at_points: Floats
    pairs: tuple[Ints, Ints]

    @cached_property
    def combinations(self) -> Floats:
        """(p, k) coefficients of each difference."""
        upper, lower = self.pairs
        return np.asarray(self.at_points[upper] - self.at_points[lower])

    @property
    def width(self) -> int:
        return int(self.at_points.shape[1])

    @cached_property
    def weights(self) -> Floats:
        """(n, k) row weights of the coefficients."""
        rows = self.model.on[: self.width]
        return self.model.layout.all_weights(rows)

    @cached_property
    def estimates(self) -> Floats:
        return np.asarray(self.combinations @ self.model.estimates[: self.width])

    @cached_property
    def covariance(self) -> Floats:
        """(p, p) of the differences."""
        own = self.model.covariance[: self.width, : self.width]
        return np.asarray(self.combinations @ own @ self.combinations.T)

    @cached_property
    def by_site(self) -> list[tuple[float, float]]:
        """CR2 error and df of each difference, where five sites are the units; else empty."""
        sites = self.model.layout.rows.sites
        if sites is None or len(np.unique(sites)) < MIN_SITES:
            return []
        weights = (self.weights @ self.combinations.T).T
        return [site_error(self.model.layout, self.model.residuals, w) for w in weights]

    @cached_property
    def errors(self) -> Floats:
        if self.by_site:
            return np.array([se for se, _ in self.by_site])
        return np.asarray(np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))

    @property
    def has_error(self) -> bool:
        """Whether every difference has a standard error beyond rounding."""
        gram = self.weights.T @ self.weights
        lengths = np.sqrt(np.einsum("pk,kl,pl->p", self.combinations, gram, self.combinations))
        return bool(np.all(self.errors > 1e-9 * np.std(self.model.y) * lengths))

    def df(self, places: Iterable[int]) -> Floats:
        """Bell and McCaffrey's, of some of the differences."""
        if self.by_site:
            return np.array([self.by_site[i][1] for i in places])
        columns = self.weights @ self.combinations[list(places)].T
        return np.asarray(standard_errors.bell_mccaffrey(self.model.fit, columns))

    def skewness(self, place: int) -> float:
        """Of one difference's estimate; 0 where sites are the units."""
        if self.by_site:
            return 0.0
        weights = self.weights @ self.combinations[place]
        return float(tails.skewness_of_estimate(weights, self.model.residuals))

    def drawn_points(self, alpha: float) -> tuple[tuple[float, float, float, float], ...]:
        """(x, estimate, low, high) of each point; intervals of each point alone, by Student's t
        with Bell-McCaffrey df: a point at the end rests on few clusters.
        """
        a, b = self.model.spans[1]
        estimates = self.model.estimates[a:b]
        weights = self.model.layout.all_weights(self.model.on[a:b])
        df = standard_errors.bell_mccaffrey(self.model.fit, weights)
        reach = special.stdtrit(df, 1 - alpha / 2) * self.model.se[a:b]
        rows = np.column_stack([self.points, estimates, estimates - reach, estimates + reach])
        return tuple((float(x), float(y), float(lo), float(hi)) for x, y, lo, hi in rows)


def _curve_tails(
    fitted: _Curve, settings: Settings, *, may_be_analytic: bool
) -> tuple[ManyTails, str]:
    """What the differences are compared with, permuted or Student's t; and its name."""
    if settings.analytic or may_be_analytic or fitted.by_site:
        places = range(len(fitted.estimates))
        df, skewness = fitted.df(places), np.array([fitted.skewness(i) for i in places])
        even = df.min() >= ANALYTIC_PATIENTS / 2 and np.abs(skewness).max() <= tails.MOST_SKEWED
        if settings.analytic or even or fitted.by_site:
            each = tuple(map(tails.SkewedT, df.tolist(), skewness.tolist()))
            count = max(_ANALYTIC_DRAWS, draws_needed(settings, 1))
            largest = tails.largest_of_normals(
                fitted.covariance, float(df.min()), count, settings.seed
            )
            return tails.SkewedCombinations(each, largest), "site t" if fitted.by_site else "t"
    drawn = permuted_coefficients(fitted.model, (0, fitted.width), settings)
    return tails.PermutedCombinations(drawn, fitted.combinations), "permutation"


def _largest(
    shell: Contrast,
    names: Sequence[str],
    fitted: _Curve,
    many: tuple[ManyTails, str],
    settings: Settings,
) -> Contrast:
    """The contrast of the two points that differ most, with the test of all pairs."""
    by, method = many
    margin = np.inf if settings.margin is None else settings.margin
    test = LargestDifference(fitted.estimates, fitted.errors, margin, by)
    q = by.largest.upper_quantile(settings.alpha)
    if not np.isfinite(q):
        return replace(shell, reason=NO_LIMIT, provisional=False)
    place = test.place
    t = float(np.max(np.abs(fitted.estimates) / fitted.errors))
    se, df = float(fitted.errors[place]), float(fitted.df([place])[0])
    low, high = test.thin_whisker(settings.alpha / 2)
    upper, lower = fitted.pairs
    spread = fitted.model.spread
    return replace(
        shell,
        group=names[upper[place]],
        reference=names[lower[place]],
        estimate=test.estimate,
        se=se,
        df=df,
        statistic=t,
        critical=q,
        ci_low=low,
        ci_high=high,
        p=by.largest.upper_p(t),
        mde80=detectable_difference(se, df, settings.alpha),
        standardised_difference=test.estimate / spread if spread > 0 else np.nan,
        method=method,
        permutations=len(by.largest.draws) if method == "permutation" else 0,
        curve=fitted.drawn_points(settings.alpha),
        margin_test=None if settings.margin is None else test,
    )


# ── guards and names ──────────────────────────────────────────────────────────────────────────────


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
        sides = int(effective_number(away[away < 0])), int(effective_number(away[away > 0]))
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


def _with_rare_bounds(
    patients: Patients, shell: Contrast, parts: Ints, settings: Settings
) -> Contrast:
    """The contrast with bounds on the shares of all parts, where too few values differ to test.

    parts : (n,) level, or third of a number, of each patient.  Every two parts are compared, so
        that neither a line nor a curve over them passes that a part departs from.
    """
    y = patients.y
    if settings.margin is None or not are_rare_events(y, shell.reason):
        return shell
    sizes = np.bincount(parts)
    sums = np.bincount(parts, weights=y)[sizes > 0].tolist()
    if len(sums) < 2:
        return shell
    return replace(
        shell, margin_test=share_bounds(sums, sizes[sizes > 0].tolist(), settings.margin)
    )
