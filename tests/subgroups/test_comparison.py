"""``ga.disparity``: its numbers against other libraries, what it refuses, and what comes out."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from subgroup_samples import clustered, numbers, rows_of

from gradaudit.errors import InputError
from gradaudit.stats import linear_model
from gradaudit.subgroups.comparison import disparity


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
        assert bool(c.reason or c.is_constant) == bool(np.isnan(c.p))
    json.loads(found.to_json())
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"groups": ["a"] * 3}, "length"),
        ({"values": [np.inf] * 4}, "4 of 4 values are infinite"),
        (
            {"order": ["a"]},
            r"1 levels are not in order=\['a'\]: b\. Add them, or pass None for unknown",
        ),
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


def test_table_json_and_html():
    found = disparity(
        np.random.default_rng(20).random(60), ["<b>bold</b>", "plain"] * 30, permutations=99
    )
    wanted = [
        "group", "reference", "n_images", "n_clusters", "estimate", "se", "ci_low", "ci_high", "p", "p_adjusted", "p_beyond",
        "p_beyond_adjusted", "p_within", "mde80", "state", "reason",
    ]  # fmt: skip
    assert list(found.table.columns[: len(wanted)]) == wanted
    assert json.loads(found.to_json())["contrasts"][0]["p_within"] is None
    assert "<b>bold</b>" not in found._repr_html_()
    assert found.omnibus is None
