"""The sample of patients that the reference distribution is drawn from."""

import numpy as np
import pandas as pd
import pytest
from subgroup_samples import clustered, numbers

from gradaudit.stats import linear_model, permutation
from gradaudit.stats.standard_errors import cr2
from gradaudit.subgroups import cluster_model, contrast
from gradaudit.subgroups.comparison import disparity


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
    order = np.argsort(d["cluster"].to_numpy(), kind="stable")
    x, y = x[order], (d["value"] * np.sqrt(weights)).to_numpy()[order]
    q, residual = np.linalg.qr(x)[0], y - x @ coefficient
    for c, level in zip(found.contrasts, (1, 2), strict=True):
        contrast = (np.arange(x.shape[1]) == level) * 1.0 - (np.arange(x.shape[1]) == 0)
        row_weights = x @ np.linalg.solve(x.T @ x, contrast)
        expected = cr2(q, residual, row_weights, d["cluster"].to_numpy()[order])
        assert (c.se, c.df) == pytest.approx(expected, rel=1e-8)


def test_a_covariate_that_no_sampled_patient_has_is_left_out_of_the_reference():
    """Of thirty patients with a mark of their own among 6000, about ten are not in the sample of 4000."""
    rng = np.random.default_rng(32)
    marks = pd.DataFrame({f"m{k}": (np.arange(6000) == 50 * k + 40) * 1.0 for k in range(30)})
    group = np.r_[["small"] * 15, ["large"] * 5985]
    value = rng.random(6000)
    c = disparity(value, group, covariates=marks, permutations=99).contrasts[0]
    plain = disparity(value, group, permutations=99).contrasts[0]
    assert c.method == plain.method == "permutation"
    assert c.critical == pytest.approx(plain.critical, rel=0.2)


@pytest.mark.parametrize(("columns", "withheld"), [(53, False), (54, True)])
def test_five_degrees_of_freedom_are_left_for_the_error(columns, withheld):
    """Sixty patients, two levels; numbers of two values are one column each."""
    rng = np.random.default_rng(27)
    covariates = pd.DataFrame({f"x{j}": rng.permutation([0.0, 1.0] * 30) for j in range(columns)})
    c = disparity(
        rng.random(60), ["a", "b"] * 30, covariates=covariates, permutations=99
    ).contrasts[0]
    assert (c.reason == "too few clusters for the covariates") == withheld
    assert np.isnan(c.p) == withheld
