"""What is said to be held equal is held equal: classes and factors, splines, aliasing, the label."""

import numpy as np
import pandas as pd
import pytest
import worlds2
from scipy.special import expit

from gradaudit.records import CellState
from gradaudit.stats import linear_model, permutation
from gradaudit.subgroups import cluster_model, contrast
from gradaudit.subgroups.analysis_set import Observations, usable_rows
from gradaudit.subgroups.comparison import disparity, mask_tipping
from gradaudit.subgroups.settings import Settings


def drawn(name, seed=0, **settings):
    """One data set of a world, and its comparison of group 1 with group 0."""
    d = worlds2.draw(name, np.random.default_rng((5, seed)))
    given = {"reference": "0", "omnibus": False, "permutations": 299, "margin": 0.1}
    if d["klass"].notna().all():
        given["label"] = d["klass"].astype(int)
    if "predicted" in d:
        given["klass"] = d["predicted"]
    if "site" in d:
        given["covariates"] = pd.DataFrame({"site": d["site"].astype(str)})
    if "x" in d:
        given["covariates"] = d[["x"]]
    found = disparity(d["value"], d["group"], **{**given, **settings})
    return d, found.contrasts[0]


def dense(y, x, c):
    """Estimate, HC2 error and Bell-McCaffrey df of c'b, with n x n matrices and every dummy."""
    q = np.linalg.svd(x, full_matrices=False)
    rank = int((q[1] > 1e-10 * q[1][0]).sum())
    basis = q[0][:, :rank]
    w = np.linalg.pinv(x).T @ c
    left = np.eye(len(y)) - basis @ basis.T
    e, h = left @ y, 1 - np.diag(left)
    free = np.where(1 - h > 1e-9, 1 / np.maximum(1 - h, 1e-9), 0.0)
    md = left * (w**2 * free)
    return w @ y, np.sqrt(np.sum(w**2 * e**2 * free)), np.trace(md) ** 2 / np.trace(md @ md)


def two_sided(group, klass):
    """Rows in classes that hold both groups."""
    both = pd.Series(group).groupby(np.asarray(klass)).transform("nunique") > 1
    return both.to_numpy()


@pytest.mark.parametrize("name", ["classes_100x2", "classes_singles", "classes_30x12"])
def test_absorbed_classes_equal_a_dummy_for_each_class(name):
    d, found = drawn(name, analytic=True)
    d = d[two_sided(d["group"], d["klass"])]
    x = np.column_stack([d["group"], pd.get_dummies(d["klass"], dtype=float)])
    expected = dense(d["value"].to_numpy(), x, np.eye(x.shape[1])[0])
    assert (found.estimate, found.se, found.df) == pytest.approx(expected, rel=1e-10)
    assert found.entered == (int(d["group"].sum()), int((d["group"] == 0).sum()))


@pytest.mark.parametrize("number", [3, 60])
def test_three_levels_in_absorbed_classes_equal_a_dummy_for_each(number):
    """Few classes and many; each level is compared with the others as they lie in the classes."""
    rng = np.random.default_rng(8)
    group, klass, x = rng.integers(0, 3, 240), rng.integers(0, number, 240), rng.random(240)
    y = rng.random(240) + 0.02 * klass + 0.1 * group
    found = disparity(
        y, group, label=klass, covariates=pd.DataFrame({"x": x}), analytic=True, omnibus=False
    )
    levels = np.eye(3)[group]
    design = np.column_stack([levels, np.eye(number)[klass], linear_model.spline_basis(x)])
    inside = pd.Series(group).groupby(klass).transform("nunique").to_numpy() > 1
    counts = levels[inside].sum(axis=0)
    for k, c in enumerate(found.contrasts):
        on = np.zeros(design.shape[1])
        on[:3] = -counts / (counts.sum() - counts[k])
        on[k] = 1.0
        expected = dense(y[inside], design[inside], on)
        assert (c.estimate, c.se, c.df) == pytest.approx(expected, rel=1e-9)


def test_permuted_statistics_are_those_of_the_dummies():
    """The fast path of many strata and the plain one of few columns give the same t*."""
    rng = np.random.default_rng(4)
    codes = np.sort(rng.integers(0, 25, 120))
    group = rng.integers(0, 2, 120) / 1.0
    mixed = rng.permutation(120)
    fit = linear_model.design(codes[mixed], group[mixed][:, None])
    y = rng.random(120)
    residuals = fit.residuals(y)
    weights = fit.row_weights(np.zeros(25), np.ones(1))[:, None]
    t, _ = permutation.reference_t(fit, residuals, weights, 50, 3)
    together = np.argsort(fit.codes, kind="stable")
    order = next(permutation.draws(120, 50, 3, False, 50))
    x = np.column_stack([group[mixed], np.eye(25)[codes[mixed]]])[together]
    for found, own in zip(t[:, 0], order, strict=True):
        estimate, se, _ = dense(residuals[together][own], x, np.eye(26)[0])
        assert found == pytest.approx(estimate / se, rel=1e-9)


def test_classes_are_never_pooled():
    """Thirty classes of twelve: pooled, their effects stay in the difference."""
    p = [drawn("classes_30x12", seed)[1].p for seed in range(40)]
    assert np.mean(np.array(p) <= 0.05) < 0.2


def test_a_class_with_one_side_only_says_nothing():
    """Moving its patients' values anywhere changes no number."""
    d, found = drawn("classes_one_sided")
    alone = ~two_sided(d["group"], d["klass"])
    assert alone.any()
    moved = d["value"].where(~alone, d["value"] + 5)
    again = disparity(
        moved, d["group"], label=d["klass"], reference="0", omnibus=False, permutations=299
    ).contrasts[0]
    assert (again.estimate, again.se, again.p) == pytest.approx(
        (found.estimate, found.se, found.p), rel=1e-9
    )
    assert found.entered is not None
    assert sum(found.entered) == int((~alone).sum())
    assert found.n_clusters + found.n_clusters_reference == len(d)


def test_patients_of_unknown_class_are_counted_and_not_compared():
    d, _ = drawn("opposite")
    label = d["klass"].astype(object).where(np.arange(len(d)) % 4 > 0, None)
    found = disparity(
        d["value"], d["group"], label=label, reference="0", permutations=99
    ).contrasts[0]
    known = label.notna().to_numpy()
    assert found.n_clusters + found.n_clusters_reference == len(d)
    assert found.entered is not None
    assert sum(found.entered) == int(known.sum())
    alone = disparity(
        d["value"][known], d["group"][known], label=label[known], reference="0", permutations=99
    ).contrasts[0]
    assert found.estimate == pytest.approx(alone.estimate, rel=1e-12)


@pytest.mark.parametrize("many", [False, True])
def test_patients_whose_images_have_several_classes(many):
    """Few classes: a share of each as unpooled columns.  Many: compared with the same mix alone."""
    rng = np.random.default_rng(9)
    patients, number = 120, 40 if many else 3
    cluster = np.repeat(np.arange(patients), 2)
    klass = rng.integers(0, number, 2 * patients)
    klass[1::2] = np.where(np.arange(patients) % 3 > 0, klass[::2], klass[1::2])
    group = rng.integers(0, 2, patients)[cluster]
    value = 0.05 * klass + rng.random(2 * patients)
    c = disparity(
        value, group, label=klass, clusters=cluster, reference="0", within=False, analytic=True
    ).contrasts[0]
    table = pd.DataFrame(np.eye(number)[klass]).groupby(cluster).mean()
    y, own = pd.Series(value).groupby(cluster).mean(), group[::2]
    if many:
        mixes = table.groupby(list(table)).ngroup().to_numpy()
        inside = two_sided(own, mixes)
        x = np.column_stack([own, pd.get_dummies(mixes, dtype=float)])[inside]
    else:
        inside = np.ones(patients, dtype=bool)
        x = np.column_stack([own, table.to_numpy()])
    expected = dense(y.to_numpy()[inside], x, np.eye(x.shape[1])[0])
    assert (c.estimate, c.se, c.df) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["aliased", "aliased_2"])
def test_a_site_that_is_the_group_leaves_nothing_to_say(name):
    for seed in range(20):
        _, c = drawn(name, seed)
        assert c.state is CellState.NOT_ASSESSED
        assert c.reason.startswith("site and the groups cannot be told apart")
        assert np.isnan(c.estimate)
        assert np.isnan(c.p)


def test_enough_patients_on_either_side_tell_site_and_group_apart():
    _, c = drawn("aliased_12")
    assert c.reason == ""
    assert np.isfinite(c.p)


@pytest.mark.parametrize(
    ("discordant", "standing"),
    [(2, "apart"), (3, "provisional"), (5, "provisional"), (8, "judged")],
)
def test_ten_effective_patients_are_needed_and_twenty_to_be_final(discordant, standing):
    """(sum |w|)^2 / sum w^2 by hand: with d of 60 and of 140 patients at the other side's site."""
    d = worlds2.aliased(discordant)(np.random.default_rng(1))
    g, site = d["group"].to_numpy() / 1.0, d["site"].to_numpy() / 1.0
    x = np.column_stack([np.ones(200), g, site])
    w = np.linalg.pinv(x)[1]
    effective = min(np.abs(w[g == s]).sum() ** 2 / (w[g == s] ** 2).sum() for s in (0, 1))
    c = disparity(
        d["value"],
        d["group"],
        covariates=pd.DataFrame({"site": d["site"].astype(str)}),
        reference="0",
        permutations=99,
    ).contrasts[0]
    assert bool(c.reason) == (effective < 10) == (standing == "apart")
    assert c.provisional == (10 <= effective < 20) == (standing == "provisional")
    if c.reason:
        assert f"({effective:.1f} effective" in c.reason


def test_the_reason_names_the_covariate_that_does_it_and_no_other():
    d = worlds2.draw("aliased", np.random.default_rng(3))
    rng = np.random.default_rng(3)
    covariates = pd.DataFrame(
        {"device": rng.choice(["a", "b"], 200), "age": rng.random(200), "site": d["site"] == 1}
    )
    c = disparity(d["value"], d["group"], covariates=covariates, permutations=99).contrasts[0]
    assert c.reason.startswith("site and the groups cannot be told apart")


def test_a_number_that_is_the_group_is_aliased_too():
    rng = np.random.default_rng(3)
    group = np.repeat(["a", "b"], 60)
    year = pd.DataFrame({"year": np.repeat([2016.0, 2017.0], 60)})
    c = disparity(rng.random(120), group, covariates=year, permutations=99).contrasts[0]
    assert c.reason == "year and the groups cannot be told apart"


def test_a_slope_that_a_covariate_determines_is_not_told():
    rng = np.random.default_rng(3)
    x = rng.random(200)
    found = disparity(
        rng.random(200),
        x,
        continuous=True,
        covariates=pd.DataFrame({"same": 3 * x + 1}),
        permutations=99,
    )
    assert all(
        c.reason.startswith("same and the groups cannot be told apart") for c in found.contrasts
    )


def test_numbers_enter_as_splines():
    """Heat is quadratic in a covariate that nearly determines the group: a line would leave +."""
    p = [drawn("steep_covariate", seed)[1].p for seed in range(60)]
    assert np.mean(np.array(p) <= 0.05) < 0.18


def test_the_label_decides_and_the_prediction_stands_beside():
    """Heat follows the call, and the call differs between groups at equal label."""
    found = [drawn("mediated", seed)[1] for seed in range(12)]
    assert np.mean([c.estimate for c in found]) == pytest.approx(0.06, abs=0.01)
    assert np.mean([c.adjusted_predicted[0] for c in found]) == pytest.approx(0.0, abs=0.01)
    d, c = drawn("mediated")
    alone = disparity(d["value"], d["group"], klass=d["predicted"], reference="0", analytic=True)
    beside = alone.contrasts[0]
    assert c.adjusted_predicted == pytest.approx((beside.estimate, beside.ci_low, beside.ci_high))
    assert np.isnan(beside.adjusted_predicted[0])


def test_thousands_of_strata_are_centered_and_not_factorized(monkeypatch):
    """3000 patients of 1000 classes, permuted: no column for a class (3 M values) is ever made."""
    monkeypatch.setattr(contrast, "ANALYTIC_PATIENTS", 10**6)
    widths = []
    design = cluster_model.linear_model.design

    def watched(codes, columns, levels=None, weights=None):
        widths.append(columns.shape[1])
        return design(codes, columns, levels, weights)

    monkeypatch.setattr(cluster_model.linear_model, "design", watched)
    _, c = drawn("classes_1000x3")
    assert c.method == "permutation"
    assert max(widths) == 1


def test_a_large_sample_of_small_strata_takes_whole_ones():
    rng = np.random.default_rng(6)
    klass = np.repeat(np.arange(3000), 2)
    effect = rng.normal(size=3000)
    group = rng.random(6000) < expit(effect[klass])
    value = np.where(rng.random(6000) < 0.97, 0.0, rng.random(6000))
    found = disparity(
        value, group.astype(int), label=klass, reference="0", permutations=199
    ).contrasts[0]
    assert np.isfinite(found.p)
    order = rng.permutation(6000)
    again = disparity(
        value[order], group[order].astype(int), label=klass[order], reference="0", permutations=199
    ).contrasts[0]
    assert (again.method, again.p) == (found.method, pytest.approx(found.p))


# ── masks ─────────────────────────────────────────────────────────────────────────────────────────


def tipping(d, margin):
    settings = Settings(reference="0", margin=margin, permutations=299)
    given = Observations(values=d["value"], groups=d["group"], area_share=expit(d["log_area"]))
    found = disparity(
        d["value"],
        d["group"],
        area_share=expit(d["log_area"]),
        reference="0",
        margin=margin,
        permutations=299,
    ).contrasts[0]
    return found, mask_tipping(usable_rows(given, settings), settings, found)


@pytest.mark.parametrize(("margin", "word"), [(0.01, "beyond"), (0.10, "within")])
def test_masks_drawn_a_quarter_larger_are_seen_to_tip_the_word(margin, word):
    """Group 1's masks are 0.25 too large and nothing differs: shrunk by that, nothing is beyond."""
    tips = []
    for seed in range(6):
        d = worlds2.draw("masks_larger", np.random.default_rng(seed))
        found, tip = tipping(d, margin)
        if found.state == word:
            tips.append(tip)
            far, near = tip + np.copysign(0.05, tip), tip - np.copysign(0.05, tip)
            moved = d.assign(log_area=d["log_area"] + far * d["group"])
            assert tipping(moved, margin)[0].state != word
            moved = d.assign(log_area=d["log_area"] + max(near * tip, 0) / tip * d["group"])
            assert tipping(moved, margin)[0].state == word
    assert len(tips) >= 3
    assert all(-0.25 <= tip < 0 if word == "beyond" else tip > 0 for tip in tips)


def test_no_shift_tips_a_difference_that_size_does_not_explain():
    rng = np.random.default_rng(2)
    d = worlds2.draw("masks_larger", rng)
    d = d.assign(value=0.3 + 0.4 * d["group"] + 0.01 * rng.normal(size=len(d)))
    found, tip = tipping(d, 0.05)
    assert found.state == "beyond"
    assert tip is None


def test_a_departure_from_a_line_has_the_error_of_sites():
    """Every patient twenty times over in its own site: patients' errors fall to a quarter or less, those of sites do not."""
    rng = np.random.default_rng(8)
    site, level = np.repeat(np.arange(8), 15), np.tile(np.arange(3), 40)
    values = 0.1 * rng.normal(size=(8, 3))[site, level] + 0.02 * rng.normal(size=120)
    statistics = []
    for times in (1, 20):
        found = disparity(
            np.repeat(values, times),
            np.repeat(np.array(["a", "b", "c"])[level], times),
            site=np.repeat(site, times).astype(str),
            order=["a", "b", "c"],
            permutations=99,
        )
        (departure,) = (c for c in found.contrasts if c.kind == "departure")
        statistics.append(departure.statistic)
    assert statistics[1] == pytest.approx(statistics[0], rel=0.2)
