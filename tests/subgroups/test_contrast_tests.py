"""p, interval and effect sizes of a contrast, and which test is used where."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from subgroup_samples import clustered, rows_of

from gradaudit.records import CellState
from gradaudit.stats import linear_model, permutation
from gradaudit.stats.tails import SkewedT
from gradaudit.subgroups.analysis_set import Observations, usable_rows
from gradaudit.subgroups.comparison import disparity
from gradaudit.subgroups.settings import Settings


@pytest.mark.parametrize("analytic", [False, True])
def test_p_interval_and_margin_test_come_from_one_distribution(analytic):
    """Two groups of single images, by hand: the permuted t* of the pooled residuals, or Student's t with the
    estimate's skewness."""
    rng = np.random.default_rng(21)
    value, group = rng.beta(2, 5, 60), np.array(["a"] * 25 + ["b"] * 35)
    c = disparity(value, group, margin=0.12, permutations=499, seed=4, analytic=analytic).contrasts[
        0
    ]
    a, b = value[:25], value[25:]
    estimate, se = a.mean() - b.mean(), np.sqrt(a.var(ddof=1) / 25 + b.var(ddof=1) / 35)
    near, far = (0.12 - estimate) / se, (0.12 + estimate) / se
    welch = scipy_stats.ttest_ind(a, b, equal_var=False)
    if analytic:
        terms = np.r_[(a - a.mean()) / 25, -(b - b.mean()) / 35]
        tails = SkewedT(c.df, np.sum(terms**3) / np.sum(terms**2) ** 1.5)
        p, p_near, q = (
            2 * scipy_stats.t.sf(abs(estimate / se), c.df),
            max(tails.lower_p(near), tails.upper_p(far)),
            scipy_stats.t.ppf(0.975, c.df),
        )
    else:
        order = np.lexsort((value, group))
        residual = np.r_[a - a.mean(), b - b.mean()][order]
        fit = linear_model.design(np.repeat([0, 1], [25, 35]), np.empty((60, 0)))
        t = permutation.reference_t(
            fit, residual, fit.row_weights(np.array([1.0, -1.0]))[:, None], 499, 4
        )[0][:, 0]
        p, p_near, q = (
            (1 + np.sum(np.abs(t) >= abs(estimate / se))) / 500,
            (1 + max(np.sum(-t >= near), np.sum(t >= far))) / 500,
            np.sort(np.abs(t))[-25],
        )
    assert (c.estimate, c.se, c.statistic) == pytest.approx(
        (estimate, se, welch.statistic), rel=1e-9
    )
    assert (c.p, c.p_within, c.critical) == pytest.approx((p, p_near, q), rel=1e-9)
    assert (c.ci_low, c.ci_high) == pytest.approx((estimate - q * se, estimate + q * se), rel=1e-9)
    assert c.method == ("t" if analytic else "permutation")
    assert c.mde80 == pytest.approx(
        (scipy_stats.t.ppf(0.975, c.df) + scipy_stats.t.ppf(0.8, c.df)) * se
    )


def test_standardised_difference_and_omnibus_equal_statsmodels():
    d = clustered(22, patients=120)
    found = disparity(
        d["value"],
        d["group"],
        area_share=d["area"],
        clusters=d["cluster"],
        reference="a",
        permutations=99,
        analytic=True,
    )
    basis = linear_model.spline_basis(linear_model.logit(d["area"].to_numpy()))
    names = [f"s{j}" for j in range(basis.shape[1])]
    how = {"value": "mean", "group": "first", **dict.fromkeys(names, "mean")}
    patients = d.assign(**dict(zip(names, basis.T, strict=True))).groupby("cluster").agg(how)
    fit = OLS(
        patients["value"], pd.get_dummies(patients["group"], dtype=float).join(patients[names])
    ).fit(cov_type="HC2", use_t=True)
    for c in found.contrasts:
        assert c.standardised_difference == pytest.approx(
            c.estimate / np.sqrt(fit.mse_resid), rel=1e-9
        )
    theirs = fit.f_test("a = b, b = c")
    assert found.omnibus == pytest.approx(
        {"statistic": 2 * float(theirs.fvalue), "df": 2.0, "p": float(theirs.pvalue)}, rel=1e-8
    )


def test_max_t_uses_the_dependence_and_keeps_to_large_groups():
    d = clustered(8, patients=300)
    d["value"] += 0.03 * (d["group"] == "b")
    by = {
        m: disparity(d["value"], d["group"], clusters=d["cluster"], correction=m, permutations=499)
        for m in ("holm", "max-t")
    }
    single = by["holm"].table["p"].to_numpy()
    assert (by["max-t"].table["p_adjusted"].to_numpy() >= single - 1e-12).all()
    assert by["max-t"].table["p_adjusted"].min() < by["holm"].table["p_adjusted"].min()
    small = clustered(8)
    few = [
        disparity(
            small["value"],
            small["group"],
            clusters=small["cluster"],
            correction=m,
            permutations=499,
        )
        for m in ("holm", "max-t")
    ]
    np.testing.assert_array_equal(few[0].table["p_adjusted"], few[1].table["p_adjusted"])


@pytest.mark.parametrize(("smallest", "used"), [(39, False), (40, True)])
def test_max_t_where_every_level_has_forty_patients(smallest, used):
    rng = np.random.default_rng(24)
    group = np.repeat(["a", "b", "c"], [60, 50, smallest])
    value = rng.random(len(group)) + 0.1 * (group == "a")
    holm, max_t = (
        disparity(value, group, correction=how, permutations=499).table["p_adjusted"].to_numpy()
        for how in ("holm", "max-t")
    )
    assert np.array_equal(holm, max_t) != used


@pytest.mark.parametrize("seed", [9, 11, 31, 32])
def test_ties_stay_ties_after_adjustment(seed):
    """A third of the patients have all heat in a region of one size: their adjusted values are equal, and rounding must not rank them."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(60, 140))
    group, klass = rng.choice(list("abc"), n), rng.integers(0, 2, n)
    area, value = rng.uniform(0.05, 0.4, n), rng.random(n)
    same = rng.random(n) < 0.3
    area[same], value[same], klass[same] = 0.3, 1.0, 1
    found = disparity(value, group, area_share=area, klass=klass, permutations=99)
    observations = Observations(values=value, groups=group, area_share=area, klass=klass)
    rows = usable_rows(observations, Settings())
    beside = np.column_stack([klass, rows.z])  # the class is centered within, and is no column
    x = np.column_stack([np.eye(3)[rows.codes], beside])
    adjusted = value - beside @ OLS(value, x).fit().params[3:]
    assert np.ptp(adjusted[same]) < 1e-12
    for c in found.contrasts:
        own = group == c.group
        signs = np.sign(np.round(adjusted[own][:, None] - adjusted[~own][None], 10))
        assert c.cliffs_delta == pytest.approx(signs.mean(), abs=1e-12)


def test_students_t_needs_degrees_of_freedom_and_not_patients_alone():
    """Forty of 400 patients hold nearly all of the slope: 200 on either half, under 100 degrees of freedom."""
    rng = np.random.default_rng(26)
    x = np.r_[rng.random(360), 20 + 10 * rng.random(40)]
    slope = disparity(rng.random(400), x, continuous=True, permutations=99).contrasts[0]
    assert 20 < slope.df < 100
    assert slope.method == "permutation"
    even = disparity(rng.random(400), rng.random(400), continuous=True, permutations=99).contrasts[
        0
    ]
    assert (even.df > 100, even.method) == (True, "t")


def test_complete_separation_has_agresti_and_caffos_interval():
    """30 of 30 against 0 of 40, one patient of each value added to both sides: 31/32 against 1/42."""
    c = disparity(
        [1.0] * 30 + [0.0] * 40, ["a"] * 30 + ["b"] * 40, margin=0.05, permutations=99
    ).contrasts[0]
    se = np.sqrt(31 / 32 * 1 / 32 / 32 + 1 / 42 * 41 / 42 / 42)
    assert (c.estimate, c.se, c.critical) == pytest.approx((1.0, se, 1.959963985))
    assert (c.ci_low, c.ci_high) == pytest.approx(
        (31 / 32 - 1 / 42 - 1.959963985 * se, 31 / 32 - 1 / 42 + 1.959963985 * se)
    )
    assert c.p_within == 1.0
    wide = disparity([0.3] * 30 + [0.1] * 40, ["a"] * 30 + ["b"] * 40, permutations=99).contrasts[0]
    assert (wide.estimate, wide.se, wide.ci_low) == pytest.approx(
        (0.2 * c.estimate, 0.2 * c.se, 0.2 * c.ci_low)
    )


def test_complete_separation_is_shown_and_not_withheld():
    c = disparity(
        [1.0] * 30 + [0.0] * 40, ["a"] * 30 + ["b"] * 40, margin=0.05, permutations=99
    ).contrasts[0]
    assert c.method == "Fisher"
    assert c.p == pytest.approx(scipy_stats.fisher_exact([[30, 0], [0, 40]]).pvalue)
    assert c.state is CellState.BEYOND
    assert c.ci_low < c.estimate == 1.0
    three = disparity(
        [0.1] * 20 + [0.2] * 20 + [0.3] * 20, ["a"] * 20 + ["b"] * 20 + ["c"] * 20, permutations=99
    )
    assert {c.reason for c in three.contrasts} == {"no value differs inside the groups"}


def test_interval_excludes_zero_exactly_where_p_says_so():
    for seed in range(30):
        d = rows_of("V05", seed)
        c = disparity(
            d["value"] + 0.05 * d["group"],
            d["group"],
            clusters=d["cluster"],
            permutations=199,
            seed=seed,
        ).contrasts[0]
        assert (c.p <= 0.05) == (not c.ci_low <= 0 <= c.ci_high)


def test_permutations_grow_with_the_family():
    d = rows_of("V01")
    assert (
        disparity(d["value"], d["group"], permutations=99, family=66).contrasts[0].permutations
        == 10560
    )
    six = np.repeat(list("abcdef"), 20)
    values = np.random.default_rng(0).random(120)
    assert [c.permutations for c in disparity(values, six, permutations=99).contrasts] == [960] * 6
    assert [
        c.permutations for c in disparity(values, six, permutations=99, family=7).contrasts
    ] == [1120] * 6
    assert [c.permutations for c in disparity(values, six, permutations=999).contrasts] == [999] * 6
