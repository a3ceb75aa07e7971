"""Patients weighted by the precision of their means; and when each counts once all the same."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import worlds2
from dense_models import dense_contrast
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS, WLS
from world_measurements import measured_world

from gradaudit.analysis.findings import analyze
from gradaudit.errors import InputError, PlanError
from gradaudit.plan import build_plan
from gradaudit.stats import permutation
from gradaudit.subgroups.analysis_set import Observations, usable_rows
from gradaudit.subgroups.between_clusters import level_estimate
from gradaudit.subgroups.cluster_model import lay_out
from gradaudit.subgroups.comparison import disparity
from gradaudit.subgroups.model_rows import ModelLevels, ModelRows, patient_rows
from gradaudit.subgroups.settings import Settings

ONCE = "each cluster counts once"
WEIGHTED = "weighted by the precision"
# a seed of the world "images" whose numbers of images are not related to heat (p .80 and .41)
UNRELATED = 1


def compared(d, **settings):
    given = {"reference": "0", "omnibus": False, "permutations": 299, "margin": 0.1}
    groups = settings.pop("groups", d["group"])
    return disparity(d["value"], groups, clusters=d["cluster"], **{**given, **settings})


def weighted(d, **settings):
    return compared(d, weights="precision", **settings).contrasts[0]


def equal(d, **settings):
    return compared(d, **settings).contrasts[0]


def said(contrast, words):
    return any(words in note for note in contrast.notes)


def numbers(contrast):
    return contrast.estimate, contrast.se, contrast.p, contrast.ci_low, contrast.ci_high


def patients_of(d):
    """Means, images and groups of patients; and their weights, from sums of squares by hand."""
    grouped = d.groupby("cluster")
    means, sizes = grouped["value"].mean().to_numpy(), grouped.size().to_numpy()
    groups = grouped["group"].first().to_numpy()
    inside = grouped["value"].apply(lambda v: ((v - v.mean()) ** 2).sum()).sum()
    inside /= len(d) - len(means)
    between, spread = 0.0, float(len(d))
    for g in np.unique(groups):
        own = groups == g
        center = d["value"][d["group"] == g].mean()
        between += np.sum(sizes[own] * (means[own] - center) ** 2)
        spread -= np.sum(sizes[own] ** 2) / sizes[own].sum()
    between -= (len(means) - len(np.unique(groups))) * inside
    return means, sizes, groups, 1 / (max(0.0, between / spread) + inside / sizes)


def each(d, draw):
    """Something drawn per patient, for each of its images."""
    rng = np.random.default_rng(7)
    return draw(rng, int(d["cluster"].max()) + 1)[d["cluster"].to_numpy()]


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("held", ["nothing", "covariate", "label", "many labels"])
def test_estimate_and_error_equal_weighted_least_squares_on_whitened_rows(held):
    d = worlds2.images(80, 160, icc=0.2)(np.random.default_rng(UNRELATED))
    means, _, groups, weights = patients_of(d)
    columns, settings = [groups == 1, np.ones(len(means))], {}
    keep = np.ones(len(means), dtype=bool)
    if held == "covariate":
        number = each(d, lambda rng, n: rng.integers(0, 2, n).astype(float))
        settings["covariates"] = pd.DataFrame({"a": number})
        columns.append(pd.Series(number).groupby(d["cluster"]).first().to_numpy())
    elif held != "nothing":
        count = 3 if held == "label" else 40
        label = settings["label"] = each(d, lambda rng, n: rng.integers(0, count, n))
        own = pd.Series(label).groupby(d["cluster"]).first()
        columns.append(pd.get_dummies(own, dtype=float).to_numpy()[:, 1:])
        keep = (pd.Series(groups).groupby(own.to_numpy()).transform("nunique") > 1).to_numpy()
    x = np.column_stack(columns).astype(float)[keep]
    x = x[:, np.any(x != 0, axis=0)]
    theirs = WLS(means[keep], x, weights=weights[keep]).fit(cov_type="HC2")
    c = weighted(d, **settings)
    assert said(c, WEIGHTED)
    assert not said(c, ONCE)
    assert c.estimate == pytest.approx(theirs.params[0], rel=1e-10)
    assert c.se == pytest.approx(theirs.bse[0], rel=1e-9)
    assert c.estimate != pytest.approx(equal(d, **settings).estimate, rel=1e-3)


def test_p_equals_a_replica_that_refits_every_permutation_of_whitened_residuals():
    d = worlds2.images(40, 60)(np.random.default_rng(UNRELATED))
    area = each(d, lambda rng, n: rng.uniform(0.05, 0.5, n))
    settings = Settings(reference="0", weights="precision", permutations=199)
    observations = Observations(
        values=d["value"], groups=d["group"], clusters=d["cluster"], area_share=area
    )
    patients = patient_rows(usable_rows(observations, settings), settings)
    rows = lay_out(ModelRows.with_levels(patients, ModelLevels.of(patients.codes, 2))).rows
    root = np.sqrt(rows.weights)
    x = root[:, None] * np.column_stack([np.eye(2)[rows.codes], rows.columns])
    on = np.r_[-1.0, 1.0, np.zeros(rows.columns.shape[1])]
    fitted = OLS(root * rows.y, x).fit()
    seen = dense_contrast(x, on, root * rows.y)
    reference = []
    for order in permutation.draw_matrix(len(rows.y), 199, 0, False):
        drawn = dense_contrast(x, on, fitted.resid[order])
        reference.append(abs(drawn[0] / drawn[1]))
    c = weighted(d, area_share=area, permutations=199)
    assert c.method == "permutation"
    assert said(c, WEIGHTED)
    assert (c.estimate, c.se, c.df) == pytest.approx(seen, rel=1e-9)
    expected = (1 + np.sum(np.array(reference) >= abs(seen[0] / seen[1]))) / 200
    assert c.p == pytest.approx(expected, rel=1e-12)


def test_errors_at_the_site_are_those_of_whitened_rows():
    d = worlds2.images(100, 200, icc=0.2)(np.random.default_rng(6))
    site = each(d, lambda rng, n: rng.integers(0, 8, n))
    means, _, groups, weights = patients_of(d)
    sites = pd.Series(site).groupby(d["cluster"]).first().to_numpy()
    root = np.sqrt(weights / weights.mean())
    x = root[:, None] * np.column_stack([groups == 1, np.eye(8)[sites]]).astype(float)
    left = np.eye(len(x)) - x @ np.linalg.pinv(x)
    w, e = np.linalg.pinv(x)[0], left @ (root * means)
    total = 0.0
    for s in range(8):
        own = np.flatnonzero(sites == s)
        value, vector = np.linalg.eigh(left[np.ix_(own, own)])
        power = np.where(value > 1e-9, np.maximum(value, 1e-9) ** -0.5, 0.0)
        total += float((vector @ (power * (vector.T @ w[own]))) @ e[own]) ** 2
    c = weighted(d, site=site)
    assert c.method == "site t"
    assert said(c, WEIGHTED)
    assert (c.estimate, c.se) == pytest.approx((w @ (root * means), np.sqrt(total)), rel=1e-8)


def test_p_does_not_depend_on_the_order_of_images():
    """Patients of one mean and different numbers of images are told apart by their weights."""
    d = worlds2.images(40, 60)(np.random.default_rng(UNRELATED))
    d["value"] = np.round(d["value"], 1)
    other = d.sample(frac=1, random_state=2)
    assert said(weighted(d), WEIGHTED)
    assert numbers(weighted(d)) == pytest.approx(numbers(weighted(other)), rel=1e-9)


def test_a_sample_of_many_patients_keeps_their_weights():
    d = worlds2.images(300, 4200, shift=0.02)(np.random.default_rng(8))
    d["value"] = np.where(d["value"] > 0.7, 1.0, 0.0)  # rare, so that t is permuted
    c = weighted(d, permutations=999)
    t = weighted(d, analytic=True)
    if said(c, ONCE):
        pytest.fail("the seed was chosen for numbers of images that are not related to the outcome")
    assert (c.estimate, c.se) == (t.estimate, t.se)
    assert c.p == pytest.approx(t.p, abs=0.06)


@pytest.mark.parametrize("label", [False, True])
def test_the_estimate_that_masks_are_moved_in_is_the_weighted_one(label):
    d = worlds2.images(60, 100)(np.random.default_rng(UNRELATED))
    area = each(d, lambda rng, n: rng.uniform(0.05, 0.5, n))
    settings = Settings(reference="0", weights="precision", permutations=199)
    held = {"area_share": area}
    if label:
        held["label"] = each(d, lambda rng, n: rng.integers(0, 2, n))
    observations = Observations(values=d["value"], groups=d["group"], clusters=d["cluster"], **held)
    c = weighted(d, **held)
    found = level_estimate(usable_rows(observations, settings), 1, 0, settings)
    assert said(c, WEIGHTED)
    assert found == pytest.approx((c.estimate, c.se), rel=1e-12)


# ── it changes nothing ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("more", [{}, {"label": 3}, {"order": ("0", "1", "2")}, {"site": 6}])
def test_patients_of_as_many_images_are_bitwise_as_without_weights(images, more):
    rng = np.random.default_rng(9)
    clusters = np.repeat(np.arange(120), images)
    d = worlds2.frame(
        rng.normal(0.4, 0.1, 120 * images), rng.integers(0, 3, 120)[clusters], clusters
    )
    held = dict(more)
    for name in ("label", "site"):
        if name in held:
            held[name] = each(d, lambda r, n, k=held[name]: r.integers(0, k, n))
    asked = compared(d, weights="precision", **held)
    assert asked.to_json() == compared(d, weights="equal", **held).to_json()
    assert asked.to_json() == compared(d, **held).to_json()


def test_without_clusters_and_without_differences_inside_them_it_changes_nothing():
    d = worlds2.images(30, 40)(np.random.default_rng(UNRELATED))
    alone = partial(disparity, d["value"], d["group"], permutations=199, omnibus=False)
    assert alone(weights="precision").to_json() == alone().to_json()
    d["value"] = d.groupby("cluster")["value"].transform("first")
    assert compared(d, weights="precision").to_json() == compared(d).to_json()


@pytest.mark.parametrize("kind", ["within", "pairs"])
def test_differences_inside_clusters_and_pairs_are_unweighted_and_say_so(kind):
    d = worlds2.images(40, 40, sizes=((1.5, 3.0), (1.5, 3.0)))(np.random.default_rng(1))
    d["group"] = d.groupby("cluster").cumcount() % 2
    more = {"within": True} if kind == "within" else {"pairs": d["cluster"]}
    asked, plain = weighted(d, **more), equal(d, **more)
    assert numbers(asked) == numbers(plain)
    assert asked.notes[: len(plain.notes)] == plain.notes
    assert said(asked, f"not for differences: {ONCE}")


def test_image_rows_exclude_precision_weights():
    d = worlds2.images(20, 20)(np.random.default_rng(1))
    with pytest.raises(InputError, match='unit="image" and weights="precision" exclude'):
        weighted(d, unit="image")
    with pytest.raises(InputError, match="weights is 'equal' or 'precision'"):
        compared(d, weights="precise")


# ── when each patient counts once ─────────────────────────────────────────────────────────────────


def test_a_comparison_counts_once_exactly_where_p_of_sizes_is_at_most_a_tenth():
    """The value of the guard: p between .05 and .10 is caught and p between .10 and .15 is not."""
    seen = []
    for seed in range(150):
        d = worlds2.images(60, 70)(np.random.default_rng(seed))
        means, sizes, groups, _ = patients_of(d)
        p = []
        for g in (1, 0):
            p.append(scipy_stats.pearsonr(np.log(sizes[groups == g]), means[groups == g]).pvalue)
        c = weighted(d, permutations=99)
        places = " and ".join(f"in group {g}" for g, q in zip((1, 0), p, strict=True) if q <= 0.1)
        note = f"the number of images is related to the outcome {places}: {ONCE}"
        assert (note in c.notes) == (min(p) <= 0.10), seed
        if min(p) <= 0.10:
            assert numbers(c) == numbers(equal(d, permutations=99))
        seen.append(min(p))
    seen = np.array(seen)
    assert np.sum((seen > 0.05) & (seen <= 0.10)) >= 5
    assert np.sum((seen > 0.10) & (seen <= 0.15)) >= 5


def test_weights_that_leave_under_twenty_effective_patients_are_not_used():
    """The value of the guard: Kish's number of the smaller side, at 20."""
    below, above = [], []
    for seed in range(120):
        d = worlds2.images(26, 100, icc=0.05)(np.random.default_rng(seed))
        _, _, groups, weights = patients_of(d)
        effective = []
        for g in (0, 1):
            w = weights[groups == g]
            effective.append(w.sum() ** 2 / np.sum(w**2))
        c = weighted(d, permutations=99)
        if said(c, "is related to the outcome"):
            continue
        assert said(c, "rest on too few clusters") == (min(effective) < 20), seed
        assert said(c, WEIGHTED) == (min(effective) >= 20), seed
        (below if min(effective) < 20 else above).append(min(effective))
    assert max(below) > 19
    assert min(above) < 21
    assert not weighted(d, permutations=99).provisional


def test_each_comparison_of_an_attribute_is_guarded_on_its_own():
    """Sizes are related in level 2 alone: 1 against 0 is weighted, 2 against 0 counts once."""
    parts = [
        worlds2.images(50, 60)(np.random.default_rng(UNRELATED)),
        worlds2.images(50, 0, informative=(0.0, 1.0))(np.random.default_rng(3)),
    ]
    parts[1]["group"], parts[1]["cluster"] = 2, parts[1]["cluster"] + 1000
    d = pd.concat(parts, ignore_index=True)
    one, two = compared(d, weights="precision").contrasts
    assert said(one, WEIGHTED)
    assert not said(one, ONCE)
    assert "related to the outcome in group 2" in " ".join(two.notes)
    assert not said(two, WEIGHTED)
    plain = compared(d).contrasts
    assert numbers(two) == pytest.approx(numbers(plain[1]), rel=1e-9)
    assert numbers(one) != pytest.approx(numbers(plain[0]), rel=1e-3)


def test_a_rest_of_levels_that_differ_in_size_and_heat_is_weighted_all_the_same():
    """Levels 0 and 2 differ in both; that moves no level's mean, so it is no reason."""
    d = worlds2.images(60, 60)(np.random.default_rng(UNRELATED))
    more = worlds2.images(60, 0, sizes=((0, 1), (3.0, 4.0)))(np.random.default_rng(1))
    more["group"], more["cluster"], more["value"] = 2, more["cluster"] + 1000, more["value"] + 0.3
    d = pd.concat([d, more], ignore_index=True)
    c = {c.group: c for c in compared(d, weights="precision", reference="rest").contrasts}
    assert said(c["1"], WEIGHTED)
    assert not said(c["1"], ONCE)


def test_largest_t_is_of_one_model():
    parts = [
        worlds2.images(50, 60)(np.random.default_rng(UNRELATED)),
        worlds2.images(50, 0, informative=(0.0, 1.0))(np.random.default_rng(3)),
    ]
    parts[1]["group"], parts[1]["cluster"] = 2, parts[1]["cluster"] + 1000
    d = pd.concat(parts, ignore_index=True)
    found = compared(d, weights="precision", correction="max-t")
    plain = compared(d, correction="max-t")
    for own, other in zip(found.contrasts, plain.contrasts, strict=True):
        assert numbers(own) == pytest.approx(numbers(other), rel=1e-9)
    assert [c.p_adjusted for c in found.contrasts] == [c.p_adjusted for c in plain.contrasts]
    assert all(said(c, ONCE) for c in found.contrasts)


def numbered(seed, informative=None):
    """Patients with a number x; ``informative`` from that x on, images are tied to heat."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 1, 240)
    level = rng.standard_normal(240)
    logs = rng.uniform(0, 3, 240)
    if informative is not None:
        logs = np.where(x >= informative, 1.5 + level, logs)
    sizes = np.clip(np.round(np.exp(logs)), 1, 40).astype(int)
    cluster = np.repeat(np.arange(240), sizes)
    noise = rng.standard_normal(len(cluster))
    value = 0.4 + 0.1 * (0.5 * level[cluster] + noise)
    return worlds2.frame(value, np.zeros(len(cluster)), cluster, x=x[cluster])


def test_a_number_is_guarded_overall_and_in_thirds():
    settings = {"continuous": True, "reference": "rest"}
    d = numbered(3)
    found = compared(d, groups=d["x"], weights="precision", **settings).contrasts
    assert [c.kind for c in found] == ["continuous", "nonlinear", "curve"]
    assert all(said(c, WEIGHTED) for c in found)
    d = numbered(3, informative=2 / 3)
    found = compared(d, groups=d["x"], weights="precision", **settings).contrasts
    plain = compared(d, groups=d["x"], **settings).contrasts
    assert all(said(c, "in the highest third") for c in found)
    assert [c.p for c in found] == [c.p for c in plain]


def test_a_line_over_levels_is_guarded_in_each_level():
    d = numbered(3, informative=2 / 3)
    d["group"] = (3 * d["x"]).astype(int)
    order = {"order": ("0", "1", "2"), "reference": "rest"}
    lines = {c.kind: c for c in compared(d, weights="precision", **order).contrasts}
    assert said(lines["trend"], "in group 2")
    assert said(lines["departure"], "in group 2")
    d = numbered(3)
    d["group"] = (3 * d["x"]).astype(int)
    lines = {c.kind: c for c in compared(d, weights="precision", **order).contrasts}
    assert said(lines["trend"], WEIGHTED)
    assert said(lines["departure"], WEIGHTED)


# ── worlds ────────────────────────────────────────────────────────────────────────────────────────


def rejected(name, replicates=200, **settings):
    p = []
    for seed in range(replicates):
        d = worlds2.draw(name, np.random.default_rng(seed))
        p.append(compared(d, permutations=299, seed=seed, **settings).contrasts[0].p)
    return np.mean(np.array(p) <= 0.05)


@pytest.mark.parametrize("name", ["images", "images_12_100", "images_informative"])
def test_true_nulls_are_rejected_as_often_as_they_may_be(name):
    assert 0.01 <= rejected(name, weights="precision") <= 0.085


def test_images_tied_to_heat_in_one_group_reject_no_more_than_patient_means():
    """Weights without the guard would reject 20 %."""
    assert rejected("images_informative_one_group", weights="precision") <= 0.085


def test_weights_find_more_than_patient_means():
    gained = rejected("images_power", weights="precision") - rejected("images_power")
    assert 0.02 <= gained <= 0.13


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────


def test_the_plan_chooses_the_weights_and_findings_say_so():
    assert build_plan({}).analysis.weights == "equal"
    with pytest.raises(PlanError, match="weights"):
        build_plan({"analysis": {"weights": "images"}})
    d = worlds2.images(60, 100)(np.random.default_rng(UNRELATED))
    errors, notes = {}, {}
    for weights in ("equal", "precision"):
        analysis = {"permutations": 299, "weights": weights, "cluster_name": "patient"}
        found = analyze(*measured_world(d, analysis=analysis))
        f = next(f for f in found if f.code == "GA101")
        errors[weights], notes[weights] = f.se, " ".join(f.notes)
    assert errors["precision"] < errors["equal"]
    assert f"patients are {WEIGHTED}" in notes["precision"].lower()
    assert WEIGHTED not in notes["equal"]
