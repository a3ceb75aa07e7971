"""Data sets and plans that would make an audit say "met", or something untrue."""

import warnings

import numpy as np
import pandas as pd
import pytest

from gradaudit import analyze, disparity
from gradaudit.cohort.attributes import attributes_of
from gradaudit.cohort.population import level_groups
from gradaudit.errors import GradauditError, InputError, PlanError
from gradaudit.plan import build_plan
from gradaudit.runs.measurements import Measurements
from tests.compared_groups import audited, measured

PLAN = {
    "regions": {"ruler": {"role": "avoid"}},
    "criteria": {"margin": 0.10, "undefined_margin": 0.10},
    "analysis": {"permutations": 199, "regions": ["ruler"]},
}


def a_plan(**sections):
    return build_plan(PLAN | sections)


def with_analysis(**changes):
    return a_plan(analysis=PLAN["analysis"] | changes)


def of_tone(gap=0.0, **columns):
    """400 patients of three skin tones; ``columns`` of the images replaced or added."""
    meas = measured(seed=1, patients=400, gap=gap)
    images = meas.images.drop(columns=["subgroup.sex", "subgroup.age"])
    return Measurements(meas.table, images.assign(**columns))


def with_shares(meas, shares):
    """The measurements with other heat shares on the ruler, one per image."""
    table = meas.table.copy()
    table.loc[table["region"] == "ruler", "heat_share"] = shares
    return Measurements(table, meas.images)


def is_dark(meas):
    return (meas.images["subgroup.tone"] == "V-VI").to_numpy()


def patients(meas):
    return meas.images["cluster"].astype(int).to_numpy()


# ── an attribute that cannot be compared is in the way ────────────────────────────────────────────


def test_an_attribute_whose_levels_are_all_unknown_is_in_the_way():
    meas = of_tone()
    meas.images["subgroup.sex"] = None
    found = audited(meas, a_plan())
    assert found.verdict.state == "insufficient"
    own = [cell for cell in found.cells if cell.attribute == "sex"]
    assert [cell.state.value for cell in own] == ["not_assessed"] * 2


def test_an_attribute_whose_only_level_is_the_reference_is_in_the_way():
    meas = of_tone()
    meas.images["subgroup.sex"] = "f"
    found = audited(meas, a_plan(subgroups={"sex": {"reference": "f"}}))
    assert found.verdict.state == "insufficient"
    reasons = {cell.reason for cell in found.cells if cell.attribute == "sex"}
    assert reasons == {"only one level has usable images"}


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["rest", "all others"])
def test_a_level_that_is_called_like_everybody_else_is_refused(name):
    meas = of_tone(gap=0.4)
    tone = meas.images["subgroup.tone"]
    meas.images["subgroup.tone"] = tone.where(tone != "V-VI", name)
    with pytest.raises(InputError, match=f"{name!r}.*rename"):
        audited(meas, a_plan())
    with pytest.raises(InputError, match="rename"):
        disparity(np.arange(40.0), np.repeat(["a", name], 20))


def test_an_order_that_names_a_level_twice_is_refused():
    with pytest.raises(PlanError, match="twice"):
        a_plan(subgroups={"tone": {"order": ["I-II", "I-II", "III-IV", "V-VI"]}})


# ── what may be held equal ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["predicted", "correct", "probability"])
def test_what_the_model_made_of_the_images_is_not_held_equal(name):
    with pytest.raises(PlanError, match=f"{name!r} is what the model made"):
        audited(of_tone(gap=0.4), with_analysis(covariates=[name]))


def test_a_column_of_the_manifest_may_be_called_predicted():
    meas = of_tone()
    meas.images["meta.predicted"] = np.where(np.arange(len(meas.images)) % 2, "a", "b")
    assert audited(meas, with_analysis(covariates=["predicted"])).cells


# ── coverage counts those who are compared ────────────────────────────────────────────────────────


def test_patients_who_lack_a_covariate_are_not_covered():
    """The covariate is unknown where the heat is: most of the dark group drops out."""
    meas = of_tone()
    hot = is_dark(meas) & (patients(meas) % 10 < 6)
    numbers = np.random.default_rng(0).normal(size=len(hot))
    meas.images["meta.size"] = np.where(hot, np.nan, numbers)
    shares = meas.table.loc[meas.table["region"] == "ruler", "heat_share"].to_numpy()
    meas = with_shares(meas, np.where(hot, np.minimum(shares + 0.4, 1), shares))
    found = audited(meas, with_analysis(covariates=["size"]))
    dark = [c for c in found.cells if c.group == "V-VI" and c.outcome == "heat_share"]
    assert found.verdict.state == "insufficient"
    assert dark
    assert all(c.coverage < 0.5 and not c.settled for c in dark)


def test_patients_without_a_partner_are_not_covered():
    meas = of_tone()
    meas.images["meta.pair"] = (np.arange(len(meas.images)) // 2).astype(str)
    found = audited(meas, with_analysis(pairs="pair"))
    assert found.verdict.state == "insufficient"
    assert all(cell.coverage < 0.8 for cell in found.cells if cell.coverage is not None)


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("apart", [0.05, 0.10, 0.4, 0.9])
def test_groups_that_have_one_value_each(apart):
    meas = of_tone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = audited(with_shares(meas, np.where(is_dark(meas), 0.1 + apart, 0.1)), a_plan())
    state = {0.05: "met", 0.10: "insufficient"}.get(apart, "not_met")
    assert found.verdict.state == state
    assert not any(" nan" in f.sentence for f in found.findings)


def bare(meas):
    columns = [c for c in meas.images if c not in ("status", "reason", "path")]
    return meas.table.merge(meas.images[columns], on="image_id")


def test_a_bare_table_that_cannot_be_is_refused():
    table = bare(of_tone())
    assert analyze(table, a_plan())
    for wrong, words in (
        (pd.concat([table, table]), "twice"),
        (table.assign(heat_share=table["heat_share"] - 2), "outside 0 to 1"),
        (table.assign(heat_share=np.inf), "outside 0 to 1"),
        (table.assign(cluster=None), "cluster of"),
    ):
        with pytest.raises(GradauditError, match=words):
            analyze(wrong, a_plan())


@pytest.mark.parametrize(("levels", "refused"), [(40, False), (41, True)])
def test_a_column_of_ids_or_ages_as_text_is_no_attribute(levels, refused):
    """391 ages with "n/a" among them are 153,272 planned cells: refused with what to do, not computed for minutes."""
    meas = measured(3, patients=levels)
    cluster = meas.images["cluster"].astype(int)
    meas.images["subgroup.tone"] = "t" + cluster.astype(str)
    plan = a_plan(subgroups={}, analysis={"permutations": 99}, criteria=None)
    if refused:
        with pytest.raises(
            InputError, match=f"'tone' has {levels} levels.*Merge levels.*continuous"
        ):
            analyze(meas, plan)
    else:
        assert attributes_of(meas, plan, level_groups(meas, plan))[0].levels
