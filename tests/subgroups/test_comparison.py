"""``ga.disparity``: numbers against other libraries, guards, and every shape of comparison."""

import json

import numpy as np
import pandas as pd
import pytest
import worlds
from scipy import stats as scipy_stats
from scipy.special import expit
from statsmodels.regression.linear_model import OLS

from gradaudit.errors import InputError
from gradaudit.records import Verdict
from gradaudit.stats import linear_model, permutation
from gradaudit.subgroups import cluster_model, contrast
from gradaudit.subgroups.analysis_set import AnalysisSet, Observations, usable_rows, with_columns
from gradaudit.subgroups.comparison import disparity, intersections
from gradaudit.subgroups.levels import attribute_kind, sort_levels
from gradaudit.subgroups.settings import Settings


def rows_of(name, seed=0):
    return worlds.draw(name, np.random.default_rng(seed))


def clustered(seed=0, groups=("a", "b", "c"), patients=90):
    rng = np.random.default_rng(seed)
    cl = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    group = np.array(groups)[rng.integers(0, len(groups), patients)][cl]
    area = expit(rng.normal(-2, 0.8, len(cl)))
    value = expit(
        -1
        + 0.5 * rng.normal(size=patients)[cl]
        + 0.5 * rng.normal(size=len(cl))
        + 0.3 * np.log(area)
    )
    return pd.DataFrame({"value": value, "group": group, "cluster": cl, "area": area})


def numbers(found):
    return found.table[
        ["estimate", "se", "ci_low", "ci_high", "p", "p_adjusted", "mde80"]
    ].to_numpy(dtype=float)


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_groups_of_single_images_are_welch():
    d = rows_of("V01")
    c = disparity(d["value"], d["group"], permutations=99).contrasts[0]
    a, b = d.loc[d["group"] == 1, "value"], d.loc[d["group"] == 0, "value"]
    welch = scipy_stats.ttest_ind(a, b, equal_var=False)
    assert c.estimate == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert c.statistic == pytest.approx(welch.statistic, rel=1e-10)
    assert c.cliffs_delta == pytest.approx(np.sign(a.to_numpy()[:, None] - b.to_numpy()).mean())


def test_adjusted_contrast_equals_statsmodels_on_patient_means():
    d = clustered()
    found = disparity(
        d["value"],
        d["group"],
        area_share=d["area"],
        clusters=d["cluster"],
        reference="a",
        permutations=99,
    )
    basis = linear_model.spline_basis(linear_model.logit(d["area"].to_numpy()))
    names = [f"s{j}" for j in range(basis.shape[1])]
    how = {"value": "mean", "group": "first", **dict.fromkeys(names, "mean")}
    patients = d.assign(**dict(zip(names, basis.T, strict=True))).groupby("cluster").agg(how)
    x = pd.get_dummies(patients["group"], dtype=float).join(patients[names])
    fit = OLS(patients["value"], x).fit(cov_type="HC2")
    for c in found.contrasts:
        theirs = fit.t_test(f"{c.group} - a")
        assert (c.estimate, c.se) == pytest.approx(
            (theirs.effect.item(), theirs.sd.item()), rel=1e-9
        )


@pytest.mark.parametrize("analytic", [False, True])
def test_p_interval_and_equivalence_come_from_one_distribution(analytic):
    """Two groups of single images, by hand: the permuted |t*| of the pooled residuals, or Student's t."""
    rng = np.random.default_rng(21)
    value, group = rng.beta(2, 5, 60), np.array(["a"] * 25 + ["b"] * 35)
    c = disparity(value, group, margin=0.12, permutations=499, seed=4, analytic=analytic).contrasts[
        0
    ]
    a, b = value[:25], value[25:]
    estimate, se = a.mean() - b.mean(), np.sqrt(a.var(ddof=1) / 25 + b.var(ddof=1) / 35)
    near = (0.12 - abs(estimate)) / se
    welch = scipy_stats.ttest_ind(a, b, equal_var=False)
    if analytic:
        p, p_near, q = (
            2 * scipy_stats.t.sf(abs(estimate / se), c.df),
            2 * scipy_stats.t.sf(near, c.df),
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
            (1 + np.sum(t >= abs(estimate / se))) / 500,
            (1 + np.sum(t >= near)) / 500,
            np.sort(t)[-25],
        )
    assert (c.estimate, c.se, c.statistic) == pytest.approx(
        (estimate, se, welch.statistic), rel=1e-9
    )
    assert (c.p, c.p_equivalence, c.critical) == pytest.approx((p, p_near, q), rel=1e-9)
    assert (c.ci_low, c.ci_high) == pytest.approx((estimate - q * se, estimate + q * se), rel=1e-9)
    assert c.method == ("t" if analytic else "permutation")
    assert c.mde80 == pytest.approx(
        (scipy_stats.t.ppf(0.975, c.df) + scipy_stats.t.ppf(0.8, c.df)) * se
    )
    assert c.clusters_needed == np.ceil(25 * (c.mde80 / 0.12) ** 2)


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


def test_rest_is_weighted_by_patients():
    d = clustered(1)
    found = disparity(d["value"], d["group"], clusters=d["cluster"], permutations=99)
    means = d.groupby("cluster").agg(value=("value", "mean"), group=("group", "first"))
    for c in found.contrasts:
        own = means["group"] == c.group
        assert c.estimate == pytest.approx(
            means.loc[own, "value"].mean() - means.loc[~own, "value"].mean(), rel=1e-10
        )
        assert (c.n_clusters, c.n_clusters_reference) == (own.sum(), (~own).sum())
        assert c.n_images + c.n_images_reference == len(d)


@pytest.mark.parametrize(
    "settings", [{}, {"order": ["a", "b", "c"]}, {"reference": "b"}, {"unit": "image"}]
)
def test_row_order_changes_nothing(settings):
    d = clustered(2)
    mixed = d.sample(frac=1, random_state=3)
    first, second = (
        disparity(
            x["value"],
            x["group"],
            area_share=x["area"],
            clusters=x["cluster"],
            permutations=199,
            margin=0.05,
            **settings,
        )
        for x in (d, mixed)
    )
    np.testing.assert_allclose(numbers(first), numbers(second), rtol=1e-9)


def test_row_order_changes_nothing_with_ties_and_without_clusters():
    d = rows_of("V08", 4)
    mixed = d.sample(frac=1, random_state=1)
    np.testing.assert_allclose(
        numbers(disparity(d["value"], d["group"])),
        numbers(disparity(mixed["value"], mixed["group"])),
        rtol=1e-9,
    )


def test_row_order_changes_nothing_above_the_sampling_limit():
    rng = np.random.default_rng(5)
    d = pd.DataFrame(
        {"value": rng.random(6000), "group": np.r_[["small"] * 15, rng.choice(["x", "y"], 5985)]}
    )
    mixed = d.sample(frac=1, random_state=2)
    first, second = (disparity(x["value"], x["group"], permutations=199) for x in (d, mixed))
    np.testing.assert_allclose(numbers(first), numbers(second), rtol=1e-9)
    small = next(c for c in first.contrasts if c.group == "small")
    large = next(c for c in first.contrasts if c.group == "x")
    assert (small.method, large.method) == ("permutation", "t")
    assert small.provisional


def test_sampled_reference_agrees_with_the_whole_one(monkeypatch):
    rng = np.random.default_rng(6)
    value = np.r_[rng.beta(2, 6, 30), np.where(rng.random(5000) < 0.6, 0, rng.beta(2, 5, 5000))]
    group = np.r_[["small"] * 30, ["large"] * 5000]
    sampled = disparity(value, group, permutations=999).contrasts[0]
    monkeypatch.setattr(cluster_model, "PERMUTED_PATIENTS", 10_000)
    whole = disparity(value, group, permutations=999).contrasts[0]
    assert sampled.estimate == pytest.approx(whole.estimate, rel=1e-12)
    assert sampled.critical == pytest.approx(whole.critical, rel=0.06)


@pytest.mark.parametrize(
    ("sizes", "drawn"),
    [
        ((15, 2485, 1500), (15, 2485, 1500)),
        ((15, 2985, 1500), (15, 2485, 1500)),
        ((3000, 3000), (2000, 2000)),
    ],
)
def test_the_reference_comes_from_four_thousand_patients_and_all_of_the_small_levels(
    sizes, drawn, monkeypatch
):
    seen, reference = [], permutation.reference_t

    def watched(fit, *arguments, **settings):
        seen.append(tuple(int(n) for n in fit.counts))
        return reference(fit, *arguments, **settings)

    monkeypatch.setattr(permutation, "reference_t", watched)
    rng = np.random.default_rng(23)
    values = np.where(
        rng.random(sum(sizes)) < 0.99, 0.0, rng.random(sum(sizes))
    )  # so few differ that Student's t will not do
    values[: sizes[0]] = rng.random(sizes[0])
    monkeypatch.setattr(contrast, "ANALYTIC_PATIENTS", 10**6)
    disparity(values, np.repeat([f"level {k}" for k in range(len(sizes))], sizes), permutations=99)
    assert set(seen) == {drawn}


def test_image_unit_equals_weighted_least_squares():
    d = clustered(7)
    found = disparity(
        d["value"],
        d["group"],
        area_share=d["area"],
        clusters=d["cluster"],
        reference="a",
        unit="image",
        permutations=99,
    )
    basis = linear_model.spline_basis(linear_model.logit(d["area"].to_numpy()))
    weights = 1 / d.groupby("cluster")["value"].transform("size")
    x = (
        np.hstack([pd.get_dummies(d["group"], dtype=float).to_numpy(), basis])
        * np.sqrt(weights).to_numpy()[:, None]
    )
    coefficient = np.linalg.lstsq(x, d["value"] * np.sqrt(weights), rcond=None)[0]
    assert [c.estimate for c in found.contrasts] == pytest.approx(
        [coefficient[1] - coefficient[0], coefficient[2] - coefficient[0]]
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


# ── shapes of comparison ────────────────────────────────────────────────────────────────────────────────────────────


def test_two_levels_are_compared_once_against_the_larger():
    found = disparity(np.random.default_rng(0).random(50), ["x"] * 20 + ["y"] * 30, permutations=99)
    assert [(c.group, c.reference) for c in found.contrasts] == [("x", "y")]


def test_ordered_levels_have_a_slope_and_a_departure():
    rng = np.random.default_rng(9)
    level = rng.integers(0, 4, 200)
    value = 0.2 + 0.03 * level + 0.1 * rng.random(200)
    found = disparity(value, np.array(list("abcd"))[level], order=list("abcd"), permutations=199)
    slope = next(c for c in found.contrasts if c.kind == "trend")
    assert (slope.group, slope.reference, slope.n_clusters, slope.n_clusters_reference) == (
        "d",
        "a",
        200,
        0,
    )
    assert slope.estimate == pytest.approx(3 * np.polyfit(level, value, 1)[0], rel=1e-9)
    bent = disparity(
        value + 0.1 * (level == 1),
        np.array(list("abcd"))[level],
        order=list("abcd"),
        permutations=199,
    )
    assert [
        next(c.p for c in f.contrasts if c.kind == "departure") < 0.05 for f in (found, bent)
    ] == [False, True]


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("patients", [90, 4000], ids=["permuted", "Student's t"])
def test_a_departure_is_a_joint_test_however_few_levels_there_are(count, patients):
    """Beside a line three levels leave one number, whose sign and scale are arbitrary: W is given, no difference and no margin."""
    rng = np.random.default_rng(count)
    level, names = rng.integers(0, count, patients), np.array(list("abcde"))
    value = rng.random(patients) + 0.05 * (level == 1)
    found = disparity(
        value, names[level], order=list("abcde")[:count], margin=0.1, permutations=199
    )
    bend = next(c for c in found.contrasts if c.kind == "departure")
    assert np.isnan(
        [
            bend.estimate,
            bend.se,
            bend.ci_low,
            bend.ci_high,
            bend.p_equivalence,
            bend.mde80,
            bend.clusters_needed,
        ]
    ).all()
    fit = OLS(value, np.eye(count)[level]).fit(cov_type="HC2")
    beside = np.linalg.svd(np.vander(np.arange(count), 2).T)[2][2:]
    assert bend.statistic == pytest.approx(
        float(fit.wald_test(beside, use_f=False, scalar=True).statistic), rel=1e-9
    )
    assert bend.df == count - 2
    slope = next(c for c in found.contrasts if c.kind == "trend")
    assert np.isfinite([slope.estimate, slope.mde80, slope.p_equivalence]).all()


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
    x = np.column_stack([np.eye(3)[rows.codes], rows.z])
    adjusted = value - rows.z @ OLS(value, x).fit().params[3:]
    assert np.ptp(adjusted[same]) < 1e-12
    for c in found.contrasts:
        own = group == c.group
        signs = np.sign(np.round(adjusted[own][:, None] - adjusted[~own][None], 10))
        assert c.cliffs_delta == pytest.approx(signs.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("sizes", "withheld"),
    [
        ((8, 8, 8), True),
        ((10, 8, 8), True),
        ((9, 300, 9), True),
        ((12, 3, 12), False),
        ((300, 120, 60, 25, 12), False),
        ((8, 8, 8, 8), False),
    ],
)
def test_a_line_needs_patients_at_both_its_ends(sizes, withheld):
    """A middle level holds neither end; of four small levels the inner ones hold a part of theirs."""
    level = np.repeat(np.arange(len(sizes)), sizes)
    value = np.random.default_rng(4).random(len(level))
    found = disparity(
        value, np.array(list("abcde"))[level], order=list("abcde")[: len(sizes)], permutations=99
    )
    trend = next(c for c in found.contrasts if c.kind == "trend")
    assert bool(trend.reason) == withheld
    assert np.isnan(trend.p) == withheld
    if withheld:
        assert "clusters that hold one end of the line" in trend.reason


def test_slopes_inside_patients_leave_out_who_hardly_varies():
    """Three images each at −s, 0, s: own slopes, the mean of them, from P10 to P90 of all images; s² is 1 but for two patients."""
    rng = np.random.default_rng(25)
    spread = np.array([1.0] * 12 + [np.sqrt(0.26), np.sqrt(0.24)])
    x = np.outer(spread, [-1.0, 0.0, 1.0]) + rng.random((14, 1))
    y = 0.2 + 0.1 * x + 0.1 * rng.random(x.shape)
    found = disparity(
        y.ravel(),
        x.ravel(),
        clusters=np.repeat(np.arange(14), 3),
        continuous=True,
        within=True,
        permutations=99,
    ).contrasts[0]
    slopes = [np.polyfit(a, b, 1)[0] for a, b in zip(x[:13], y[:13], strict=True)]
    assert found.n_clusters == 13
    assert found.notes == ("differences within 13 clusters",)
    assert found.estimate == pytest.approx(
        np.mean(slopes) * np.subtract(*np.quantile(x, [0.9, 0.1])), rel=1e-9
    )


def test_continuous_attribute_is_quoted_from_p10_to_p90_and_a_bend_is_seen():
    rng = np.random.default_rng(10)
    age = rng.normal(50, 12, 300)
    value = 0.3 + 0.002 * age + 0.05 * rng.random(300)
    found = disparity(value, age, continuous=True, permutations=199)
    line, bend = found.contrasts
    reach = np.subtract(*np.quantile(age, [0.9, 0.1]))
    assert line.estimate == pytest.approx(reach * np.polyfit(age, value, 1)[0], rel=1e-9)
    assert (
        bend.p
        > 0.05
        > disparity(value + 0.0005 * (age - 50) ** 2, age, continuous=True, permutations=199)
        .contrasts[1]
        .p
    )


def test_pairs_are_differences_within_pairs():
    d = worlds.marked_pairs(25)(np.random.default_rng(11))
    c = disparity(
        d["value"], d["group"], clusters=d["cluster"], pairs=d["pair"], permutations=199
    ).contrasts[0]
    wide = d.pivot(index="pair", columns="group", values="value").assign(
        cluster=d.groupby("pair")["cluster"].first()
    )
    per_patient = (wide[1] - wide[0]).groupby(wide["cluster"]).mean()
    expected = per_patient.mean() * (1 if c.group == "1" else -1)
    assert c.estimate == pytest.approx(expected, rel=1e-10)
    assert c.se == pytest.approx(per_patient.std() / np.sqrt(len(per_patient)), rel=1e-10)
    assert c.method == "sign flip"


def test_an_attribute_that_varies_inside_clusters_is_compared_inside_them():
    d = worlds.body_sites(30)(np.random.default_rng(12))
    found = disparity(d["value"], d["group"], clusters=d["cluster"], permutations=99)
    assert found.unit == "difference within cluster"
    means = (
        d.assign(own=d["group"] == 0).groupby(["cluster", "own"])["value"].mean().unstack().dropna()
    )
    assert found.contrasts[0].estimate == pytest.approx(
        (means[True] - means[False]).mean(), rel=1e-10
    )
    slope = disparity(
        d["value"],
        d["log_area"],
        clusters=d["cluster"],
        continuous=True,
        within=True,
        permutations=99,
    )
    assert [c.kind for c in slope.contrasts] == ["continuous"]


def test_a_stray_level_inside_a_cluster_goes_with_the_majority():
    d = clustered(13)
    stray = d["group"].to_numpy().copy()
    first = d.index[(d.groupby("cluster")["value"].transform("size") >= 3)][0]
    stray[first] = "c" if stray[first] != "c" else "a"
    found = disparity(d["value"], stray, clusters=d["cluster"], permutations=99)
    assert found.excluded == {"another level of the cluster": 1}
    assert "1 clusters carry several levels" in found.notes[0]


def test_intersections_know_cells_and_additivity():
    d = worlds.crossed(np.random.default_rng(14))
    d["value"] += 0.25 * ((d["group"] == 1) & (d["second"] == 1))
    found = intersections(d["value"], d["group"], d["second"], permutations=499)
    kinds = {(c.kind, c.group): c for c in found.contrasts}
    assert len(kinds) == 12
    planted = kinds["additivity", "1 × 1"]
    assert planted.verdict is Verdict.SHOWN
    assert planted.estimate > 0.05
    cells = d.groupby(["group", "second"])["value"].agg(["mean", "size"]).reset_index()
    x = np.column_stack(
        [np.ones(6), cells["group"], cells["second"] == 1, cells["second"] == 2]
    ).astype(float)
    additive = (
        x
        @ np.linalg.lstsq(
            x * np.sqrt(cells[["size"]].to_numpy()),
            cells["mean"] * np.sqrt(cells["size"]),
            rcond=None,
        )[0]
    )
    assert planted.estimate == pytest.approx((cells["mean"] - additive)[4], rel=1e-9)


def test_intersections_of_unknown_levels_are_not_cells():
    found = intersections(
        np.random.default_rng(0).random(60),
        ["a", None, "b"] * 20,
        ["x", "y", "x", "y"] * 15,
        permutations=99,
    )
    assert set(found.levels) == {"a × x", "a × y", "b × x", "b × y"}
    assert found.excluded == {"unknown level": 20}


# ── guards ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("n", "zeros", "reason", "provisional"),
    [
        (9, 0.0, "fewer than 10", False),
        (12, 0.9, "nearly every value", False),
        (12, 0.0, "", True),
        (25, 0.0, "", False),
        (25, 1.0, "every value is the same", False),
    ],
)
def test_guards(n, zeros, reason, provisional):
    rng = np.random.default_rng(15)
    value = np.where(rng.random(n + 200) < zeros, 0.0, rng.random(n + 200))
    c = disparity(
        value, ["g"] * n + ["rest of them"] * 200, permutations=99, margin=0.05
    ).contrasts[0]
    assert reason in c.reason
    assert bool(c.reason) == bool(reason)
    assert c.provisional is provisional
    assert np.isnan(c.p) == bool(reason)
    assert (c.verdict is Verdict.NOT_ASSESSED) == bool(reason)


@pytest.mark.parametrize(
    ("mode_share", "n", "n_other", "reason", "provisional", "analytic"),
    [
        (0.0, 9, 300, "fewer than 10", False, False),
        (0.0, 300, 9, "fewer than 10", False, False),
        (0.0, 10, 300, "", True, False),
        (0.0, 19, 300, "", True, False),
        (0.0, 20, 300, "", False, False),
        (0.75, 20, 300, "", False, False),  # five of twenty differ from the commonest value
        (0.76, 20, 300, "only 4.8 clusters", False, False),
        (0.80, 25, 300, "", False, False),  # 25 · (1 − 0.8) is 4.999999999999999 in floating point
        (0.0, 199, 300, "", False, False),
        (0.0, 200, 300, "", False, True),
        (0.80, 200, 300, "", False, True),  # 40 of 200, 39.99999999999999 in floating point
        (0.805, 200, 300, "", False, False),
    ],
)
def test_guards_stand_where_they_are_declared(
    mode_share, n, n_other, reason, provisional, analytic
):
    found = contrast.guard(mode_share, n, n_other)
    assert reason in found[0]
    assert (bool(found[0]), *found[1:]) == (bool(reason), provisional, analytic)


def test_five_clusters_off_the_commonest_value_are_five():
    """Ten of fifty differ, five of the smaller side's 25: said to be "only 5.0 … 5 needed" where 1 − 0.8 is a hair too small."""
    value = np.zeros(50)
    value[:5], value[25:30] = np.arange(1, 6) / 10, np.arange(1, 6) / 9
    assert disparity(value, ["a"] * 25 + ["b"] * 25, permutations=99).contrasts[0].reason == ""
    value[29] = 0.0
    few = disparity(value, ["a"] * 25 + ["b"] * 25, permutations=99).contrasts[0]
    assert "only 4.5 clusters of the smaller side expected to differ, 5 needed" in few.reason
    assert (
        "only 4.9 clusters" in contrast.guard(1 - 4.96 / 20, 20, 20)[0]
    )  # never "5.0 where 5 are needed"


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


@pytest.mark.parametrize(("columns", "withheld"), [(13, False), (14, True)])
def test_five_degrees_of_freedom_are_left_for_the_error(columns, withheld):
    rng = np.random.default_rng(27)
    covariates = pd.DataFrame({f"x{j}": rng.random(20) for j in range(columns)})
    c = disparity(
        rng.random(20), ["a", "b"] * 10, covariates=covariates, permutations=99
    ).contrasts[0]
    assert (c.reason == "too few clusters for the covariates") == withheld
    assert np.isnan(c.p) == withheld


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
    assert c.p_equivalence == 1.0
    wide = disparity([0.3] * 30 + [0.1] * 40, ["a"] * 30 + ["b"] * 40, permutations=99).contrasts[0]
    assert (wide.estimate, wide.se, wide.ci_low) == pytest.approx(
        (0.2 * c.estimate, 0.2 * c.se, 0.2 * c.ci_low)
    )


def test_joint_tests_stand_alone_and_have_no_size():
    def one(kind, p):
        return contrast.Contrast(
            kind,
            "g",
            "r",
            50,
            50,
            50,
            50,
            estimate=0.2,
            ci_low=0.1,
            ci_high=0.3,
            p=p,
            p_equivalence=1.0,
        )

    judged = contrast.judge(
        [one("level", 0.02), one("level", 0.03), one("departure", 0.04), one("nonlinear", 0.045)],
        0.05,
        0.05,
    )
    assert [c.p_adjusted for c in judged] == pytest.approx([0.04, 0.04, 0.04, 0.045])
    assert [c.verdict for c in judged] == [
        Verdict.MATERIAL,
        Verdict.MATERIAL,
        Verdict.SHOWN,
        Verdict.SHOWN,
    ]


def test_complete_separation_is_shown_and_not_withheld():
    c = disparity(
        [1.0] * 30 + [0.0] * 40, ["a"] * 30 + ["b"] * 40, margin=0.05, permutations=99
    ).contrasts[0]
    assert c.method == "Fisher"
    assert c.p == pytest.approx(scipy_stats.fisher_exact([[30, 0], [0, 40]]).pvalue)
    assert c.verdict is Verdict.MATERIAL
    assert c.ci_low < c.estimate == 1.0
    three = disparity(
        [0.1] * 20 + [0.2] * 20 + [0.3] * 20, ["a"] * 20 + ["b"] * 20 + ["c"] * 20, permutations=99
    )
    assert {c.reason for c in three.contrasts} == {"no value differs inside the groups"}


def test_single_patients_of_tiny_levels_do_not_break_the_others():
    rng = np.random.default_rng(16)
    found = disparity(
        rng.random(103),
        ["a"] * 50 + ["b"] * 50 + ["c", "d", "d"],
        area_share=rng.random(103),
        permutations=99,
    )
    by = {c.group: c for c in found.contrasts}
    assert by["c"].reason
    assert np.isfinite([by["a"].p, by["b"].p]).all()
    alone = disparity(rng.random(101), ["a"] * 50 + ["b"] * 50 + ["c"], permutations=99)
    assert np.isfinite([c.p for c in alone.contrasts]).tolist() == [True, True, False]


def test_sizes_that_hardly_overlap_are_restricted_and_said():
    d = worlds.confounded(60, 200, 2.0)(np.random.default_rng(17))
    c = disparity(
        d["value"],
        d["group"],
        area_share=expit(d["log_area"]),
        clusters=d["cluster"],
        permutations=199,
    ).contrasts[0]
    assert "region sizes overlap too little: compared among" in c.notes[0]
    apart = np.where(d["group"] == 1, 0.5, 0.01) * np.random.default_rng(0).uniform(
        0.9, 1.0, len(d)
    )
    c = disparity(
        d["value"], d["group"], area_share=apart, clusters=d["cluster"], permutations=199
    ).contrasts[0]
    assert c.verdict is Verdict.NOT_ASSESSED
    assert "overlap too little" in c.reason


@pytest.mark.parametrize(("inside", "restricted"), [(16, False), (15, True)])
def test_four_of_five_patients_must_have_a_size_that_the_other_side_reaches(inside, restricted):
    """Twenty patients against 300; who is restricted, is so to the 1-99 % ranges of both sides."""
    rng = np.random.default_rng(28)
    size = np.r_[
        np.linspace(-2, -1, inside), np.linspace(2, 3, 20 - inside), rng.uniform(-3, 0, 300)
    ]
    small = np.arange(320) < 20
    c = disparity(
        rng.random(320), np.where(small, "few", "many"), area_share=expit(size), permutations=99
    ).contrasts[0]
    assert bool(c.notes) == restricted
    if restricted:
        ranges = [np.quantile(size[side], [0.01, 0.99]) for side in (small, ~small)]
        both = (size >= max(r[0] for r in ranges)) & (size <= min(r[1] for r in ranges))
        assert (
            f"among the {np.sum(both & small)} and {np.sum(both & ~small)} clusters" in c.notes[0]
        )
        assert (c.n_clusters, c.n_clusters_reference) == (20, 300)


def test_what_is_left_out_is_counted_by_reason():
    rng = np.random.default_rng(18)
    value, area = rng.random(60), rng.random(60)
    value[:3], area[3:5] = np.nan, np.nan
    groups = np.array(["a", "b"] * 30, dtype=object)
    groups[5:9] = None
    found = disparity(
        value,
        groups,
        area_share=area,
        covariates=pd.DataFrame({"x": np.r_[[np.nan] * 10, rng.random(50)]}),
        permutations=99,
    )
    assert found.excluded == {
        "unknown level": 4,
        "undefined value": 3,
        "region size unknown": 2,
        "covariate missing": 1,
    }
    assert sum(n for n, _ in found.levels.values()) == 50
    assert found.adjusted_for == ("region size", "x")


def test_unknown_levels_in_a_plain_list_are_unknown():
    found = disparity(
        np.random.default_rng(0).random(61),
        [*["a", "b"] * 30, np.nan],
        klass=[*["x", "y", None] * 20, "x"],
        permutations=99,
    )
    assert found.excluded == {"unknown level": 1}
    assert set(found.levels) == {"a", "b"}


@pytest.mark.parametrize(
    "odd",
    [
        {"values": np.zeros(40)},
        {"groups": ["one"] * 40},
        {"groups": [None] * 40},
        {"values": np.full(40, np.nan)},
        {"groups": np.ones(40), "continuous": True},
        {"area_share": np.zeros(40)},
        {"klass": [None] * 40},
        {"clusters": np.zeros(40)},
        {"pairs": np.zeros(40)},
        {"covariates": pd.DataFrame({"same": np.ones(40), "text": ["t"] * 40})},
        {"covariates": pd.DataFrame({"g": [0.0, 1.0] * 20})},
    ],
    ids=str,
)
def test_odd_inputs_give_a_reason_and_never_a_crash(odd):
    rng = np.random.default_rng(19)
    given = {
        "values": rng.random(40),
        "groups": ["a", "b"] * 20,
        "permutations": 99,
        "margin": 0.05,
    } | odd
    found = disparity(given.pop("values"), given.pop("groups"), **given)
    for c in found.contrasts:
        assert bool(c.reason) == bool(np.isnan(c.p))
    json.loads(found.to_json())
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": ["a"] * 3}, "length"),
        ({"values": [np.inf] * 4}, "4 of 4 values are infinite"),
        ({"order": ["a"]}, "not in order"),
        ({"reference": "z"}, "'z' is not a level"),
        ({"margin": -1}, "margin"),
        ({"alpha": 2}, "alpha"),
        ({"permutations": 3}, "99"),
        ({"continuous": True, "order": ["a"]}, "either continuous or ordered"),
        ({"unit": "cow"}, "unit"),
    ],
)
def test_errors_say_what_to_do(wrong, message):
    given = {"values": [0.1, 0.2, 0.3, 0.4], "groups": ["a", "b", "a", "b"]} | wrong
    with pytest.raises(InputError, match=message):
        disparity(given.pop("values"), given.pop("groups"), **given)


# ── what comes out ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_table_json_and_html():
    found = disparity(
        np.random.default_rng(20).random(60), ["<b>bold</b>", "plain"] * 30, permutations=99
    )
    wanted = [
        "group", "reference", "n_images", "n_clusters", "estimate", "se", "ci_low", "ci_high", "p", "p_adjusted", "p_equivalence",
        "p_equivalence_adjusted", "mde80", "verdict", "reason",
    ]  # fmt: skip
    assert list(found.table.columns[: len(wanted)]) == wanted
    assert json.loads(found.to_json())["contrasts"][0]["p_equivalence"] is None
    assert "<b>bold</b>" not in found._repr_html_()
    assert found.omnibus is None


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
        == 5280
    )
    six = np.repeat(list("abcdef"), 20)
    values = np.random.default_rng(0).random(120)
    assert [c.permutations for c in disparity(values, six, permutations=99).contrasts] == [480] * 6
    assert [
        c.permutations for c in disparity(values, six, permutations=99, family=7).contrasts
    ] == [560] * 6
    assert [c.permutations for c in disparity(values, six, permutations=999).contrasts] == [999] * 6


def test_class_is_crossed_with_size_where_patients_suffice():
    d = rows_of("V12")
    z = {
        n: with_columns(rows, pd.Series(k), None).z.shape[1]
        for n, rows, k in ((n, *_rows(d, n)) for n in (60, 139, 140, 200))
    }
    assert z == {60: 4, 139: 4, 140: 7, 200: 7}  # twenty patients for each of 2 · 4 − 1 columns


@pytest.mark.parametrize(
    ("sizes", "columns"),
    [
        ((60, 20, 20, 19), 3),
        ((60, 20, 19, 19), 2),
        ((60, 19, 19, 19), 1),
        ((60, 60), 1),
        ((19, 19), 1),
    ],
)
def test_classes_of_under_twenty_patients_are_pooled(sizes, columns):
    """Indicators against the most frequent class; what is pooled shares one."""
    n = sum(sizes)
    rows = AnalysisSet(
        np.zeros(n),
        np.zeros(n, dtype=int),
        np.zeros(n),
        np.arange(n),
        np.arange(n),
        None,
        np.empty((n, 0)),
        ("0",),
        {},
    )
    z = with_columns(rows, pd.Series(np.repeat(list("abcd")[: len(sizes)], sizes)), None).z
    assert z.shape[1] == columns
    assert z.sum(axis=0).tolist() == [
        *(float(m) for m in sizes[1:] if m >= 20),
        *([float(sum(m for m in sizes[1:] if m < 20))] if sizes[-1] < 20 else []),
    ]


@pytest.mark.parametrize(
    ("mixed", "unit"),
    [(1, "cluster"), (2, "difference within cluster"), (3, "difference within cluster")],
)
def test_half_of_the_clusters_decide_where_differences_are_taken(mixed, unit):
    """Four clusters of two images, some of them with both levels, beside twenty clusters of one image."""
    group = ["a", "b"] * mixed + ["a", "a", "b", "b", "a", "a"][: 2 * (4 - mixed)] + ["a", "b"] * 10
    clusters = np.r_[np.repeat(np.arange(4), 2), np.arange(4, 24)]
    assert (
        disparity(
            np.random.default_rng(0).random(28), group, clusters=clusters, permutations=99
        ).unit
        == unit
    )


def _rows(d, n):
    d = d.drop_duplicates("cluster").head(n)
    y, codes = d["value"].to_numpy(), d["group"].to_numpy()
    rows = AnalysisSet(
        y,
        codes,
        codes / 1,
        np.arange(n),
        np.arange(n),
        d["log_area"].to_numpy(),
        np.empty((n, 0)),
        ("0", "1"),
        {},
    )
    return rows, d["klass"].to_numpy()


def test_kinds_and_order_of_levels():
    assert attribute_kind(pd.Series(["1", "2"] * 9)) == "categorical"
    assert attribute_kind(pd.Series([str(x) for x in range(30)])) == "continuous"
    assert [attribute_kind(pd.Series([str(x) for x in range(n)])) for n in (10, 11)] == [
        "categorical",
        "continuous",
    ]
    assert attribute_kind(pd.Series(["1", "2"]), kind="continuous") == "continuous"
    assert attribute_kind(pd.Series(["a", "b"]), order=["b", "a"]) == "ordered"
    assert sort_levels(["10", "9", "2"]) == ["2", "9", "10"]
    assert sort_levels(["b", "a", "10"]) == ["10", "a", "b"]
