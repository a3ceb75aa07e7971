"""At equal what?  Labels, predictions, sites and masks, from measurements to findings and cells."""

import numpy as np
import pandas as pd
import pytest
from worlds2 import draw

from gradaudit.analysis.data_limits import undeclared_site
from gradaudit.analysis.findings import analysis_of, analyze
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.population import take_cohorts
from gradaudit.disclosure.decision import decide
from gradaudit.errors import PlanError
from gradaudit.plan import build_plan
from gradaudit.records import CellState
from gradaudit.runs.measurements import Measurements


def measured(d, target="predicted", labels=True, **columns):
    """A world's rows as measurements of one decisive region."""
    n = len(d)
    names = [f"i{k}" for k in range(n)]
    predicted = d["predicted"] if "predicted" in d else pd.Series(0, d.index)
    label = d["klass"].where(d["klass"].notna(), 0).astype(int)
    images = pd.DataFrame({"image_id": names, "path": "x.png", "status": "ok", "reason": ""})
    images["label"] = ("c" + label.astype(str)).to_numpy(object) if labels else None
    images["predicted"] = ("c" + predicted.astype(int).astype(str)).to_numpy(object)
    images["probability"], images["correct"] = 0.9, True
    images["cluster"] = d["cluster"].astype(str).to_numpy()
    images["subgroup.tone"] = ("L" + d["group"].astype(str)).to_numpy(object)
    for name, values in columns.items():
        images[name.replace("__", ".")] = np.asarray(values, dtype=object)
    area = 0.2 if d["log_area"].isna().all() else 1 / (1 + np.exp(-d["log_area"].to_numpy()))
    table = pd.DataFrame({"image_id": names, "region": "ruler", "role": "avoid"})
    table = table.assign(method="gradcam", target=target, status="ok", reason="")
    table["heat_share"], table["area_share"] = d["value"].to_numpy(), area
    return Measurements(table, images)


def a_plan(margin=0.1, target="predicted", **analysis):
    return build_plan(
        {
            "regions": {"ruler": {"role": "avoid"}},
            "criteria": {"margin": margin},
            "explain": {"target": target},
            "subgroups": {"tone": {"reference": "L0"}},
            "analysis": {"permutations": 199} | analysis,
        }
    )


def audited(meas, plan):
    cohorts = take_cohorts(meas, plan)
    return analysis_of(cohorts, decide(cohorts, heat_rows_of(cohorts, plan), plan), plan)


def heat_of(analysis):
    return next(f for f in analysis.findings if f.code == "GA101")


def cell_of(analysis):
    return next(c for c in analysis.cells if c.outcome == "heat_share")


@pytest.mark.parametrize("target", ["predicted", "label", "class:c1"])
def test_the_label_decides_whatever_is_explained(target):
    """The group is called otherwise at equal label, and heat follows the call: 6 points."""
    found = []
    for seed in range(4):
        d = draw("mediated", np.random.default_rng(seed))
        found.append(heat_of(audited(measured(d, target), a_plan(0.02, target))))
    assert np.mean([f.adjusted.estimate for f in found]) == pytest.approx(0.06, abs=0.015)
    beside = [f.adjusted_predicted for f in found]
    assert np.mean([b.estimate for b in beside]) == pytest.approx(0.0, abs=0.015)
    assert all(b.low < b.estimate < b.high for b in beside)
    assert all("label" in f.adjusted_for and "class" not in f.adjusted_for for f in found)


def test_without_labels_there_is_no_class_term_and_that_is_said():
    d = draw("mediated", np.random.default_rng(1))
    f = heat_of(audited(measured(d, labels=False), a_plan()))
    raw = d.groupby("group")["value"].mean()
    assert f.raw.estimate == pytest.approx(raw[1] - raw[0])
    assert f.adjusted.estimate is None
    assert f.adjusted_predicted.estimate is None
    assert any("not at equal class" in note for note in f.notes)
    with_labels = heat_of(audited(measured(d), a_plan()))
    assert not any("not at equal class" in note for note in with_labels.notes)


def test_patients_of_one_sided_classes_are_not_covered():
    """A third of the group has a class in common with anybody else: within, and not settled."""
    d = draw("classes_one_sided", np.random.default_rng(1))
    c = cell_of(audited(measured(d), a_plan(0.3)))
    both = d.groupby("klass")["group"].transform("nunique") > 1
    assert c.coverage == pytest.approx(both.groupby(d["group"]).mean().min())
    assert (c.state, c.settled) == (CellState.WITHIN, False)
    assert "it rests on" in c.reason


@pytest.mark.parametrize("name", ["aliased", "aliased_2"])
def test_a_cell_that_cannot_be_told_from_a_site_is_not_assessed(name):
    d = draw(name, np.random.default_rng(1))
    meas = measured(d, meta__hospital=d["site"].astype(str))
    for settings in ({"covariates": ["hospital"]}, {"site": "hospital"}):
        c = cell_of(audited(meas, a_plan(0.3, **settings)))
        assert c.state is CellState.NOT_ASSESSED
        assert c.reason.startswith("hospital and tone cannot be told apart")


def test_a_declared_site_is_the_unit_of_the_error():
    d = draw("hospitals_10", np.random.default_rng(1))
    meas = measured(d, meta__hospital=d["site"].astype(str))
    f = heat_of(audited(meas, a_plan(site="hospital")))
    assert f.test.name == "t, CR2 at the site, Bell–McCaffrey df"
    assert "hospital" in f.adjusted_for
    few = d[d["site"] < 4]
    meas = measured(few, meta__hospital=few["site"].astype(str))
    f = heat_of(audited(meas, a_plan(site="hospital")))
    assert "in these hospitals (4)" in f.notes


def test_a_site_that_was_not_measured_is_an_error_with_a_hint():
    d = draw("hospitals_5", np.random.default_rng(1))
    meas = measured(d, meta__hospital=d["site"].astype(str))
    with pytest.raises(PlanError, match=r"hospitl.*hospital"):
        analyze(meas, a_plan(site="hospitl"))


def test_the_attribute_that_is_the_site_is_compared_all_the_same():
    d = draw("hospitals_5", np.random.default_rng(1))
    f = heat_of(audited(measured(d), a_plan(site="tone")))
    assert f.adjusted.estimate is None
    assert f.raw.estimate is not None


def test_a_column_that_moves_heat_as_a_site_would_is_pointed_out():
    rng = np.random.default_rng(0)
    d = draw("hospitals_20", rng)
    moved = d.assign(value=d["value"] + 0.1 * (d["site"] % 3))
    meas = measured(
        moved, meta__hospital=d["site"].astype(str), meta__camera=rng.integers(0, 6, len(d))
    )
    found = undeclared_site(meas, a_plan())
    assert found.state == "issue"
    assert "hospital" in found.detail
    assert "camera" not in found.detail
    assert undeclared_site(meas, a_plan(site="hospital")).state == "passed"
    assert undeclared_site(measured(d), a_plan()).state == "not_applicable"


def test_a_column_without_a_part_in_heat_is_pointed_out_once_in_a_hundred():
    issues = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        d = draw("opposite", rng).assign(value=rng.random(400))
        meas = measured(d, meta__hospital=rng.integers(0, 10, 400).astype(str))
        issues += undeclared_site(meas, a_plan()).state == "issue"
    assert issues <= 4


def test_the_tipping_point_of_masks_stands_beside_words_and_only_there():
    d = draw("masks_larger", np.random.default_rng(0))
    found = audited(measured(d), a_plan(0.01))
    f = heat_of(found)
    assert f.state is CellState.BEYOND
    assert -0.25 <= f.mask_tipping < 0
    assert heat_of(audited(measured(d), a_plan(0.1))).mask_tipping > 0
    assert all(g.mask_tipping is None for g in found.findings if g.region == "")
