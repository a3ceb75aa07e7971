"""Differences within patients and pairs."""

import numpy as np
import pandas as pd
import pytest
import worlds
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS

from gradaudit.subgroups.comparison import disparity


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
    own, other = (
        wide[side].groupby(wide["cluster"]).mean()
        for side in ((1, 0) if c.group == "1" else (0, 1))
    )
    for found, values in ((c.mean, own), (c.mean_reference, other)):
        reach = scipy_stats.t.ppf(0.975, len(values) - 1) * scipy_stats.sem(values)
        assert found == pytest.approx((values.mean(), values.mean() - reach, values.mean() + reach))
    assert (c.n_images, c.n_images_reference, c.n_clusters) == (len(wide), len(wide), len(own))


def test_an_undefined_value_takes_its_pair_along_and_leaves_the_others():
    d = worlds.marked_pairs(25)(np.random.default_rng(30))
    holed = d.assign(value=np.where(d.index == 3, np.nan, d["value"]))
    whole = d[d["pair"] != d["pair"][3]]
    first, second = (
        disparity(
            x["value"], x["group"], clusters=x["cluster"], pairs=x["pair"], permutations=99
        ).contrasts[0]
        for x in (holed, whole)
    )
    assert (first.estimate, first.se, first.p) == pytest.approx(
        (second.estimate, second.se, second.p), rel=1e-12
    )
    assert first.notes == second.notes


def test_differences_inside_patients_are_adjusted_by_differences_of_the_covariates():
    d = worlds.body_sites(40)(np.random.default_rng(33))
    d["large"] = (d["log_area"] > d["log_area"].median()) / 1.0
    found = disparity(
        d["value"],
        d["group"],
        clusters=d["cluster"],
        covariates=d[["large"]],
        within=True,
        permutations=99,
    ).contrasts[0]
    sides = d.assign(own=d["group"].astype(str) == found.group).groupby(["cluster", "own"])
    means = sides[["value", "large"]].mean().unstack().dropna()
    difference, area = (means[name][True] - means[name][False] for name in ("value", "large"))
    fit = OLS(difference, np.column_stack([np.ones(len(area)), area])).fit(cov_type="HC2")
    assert (found.estimate, found.se) == pytest.approx(
        (fit.params["const"], fit.bse["const"]), rel=1e-9
    )


def test_what_is_constant_inside_patients_adjusts_nothing_inside_them():
    """A difference of 0.1 and 0.1 can be 1e-17 in floating point: such a column is no covariate."""
    d = worlds.body_sites(30)(np.random.default_rng(31))
    age = pd.DataFrame({"age": d["cluster"].to_numpy() * 0.1 + 0.7})
    plain, adjusted = (
        disparity(
            d["value"],
            d["group"],
            clusters=d["cluster"],
            covariates=covariates,
            within=True,
            permutations=99,
        ).contrasts[0]
        for covariates in (None, age)
    )
    assert (adjusted.estimate, adjusted.se, adjusted.df) == pytest.approx(
        (plain.estimate, plain.se, plain.df), rel=1e-9
    )


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
    assert [c.kind for c in slope.contrasts] == ["continuous", "curve"]
