"""Patients drawn again: whole, by level, as new patients; rates moved by as much as was asked."""

from dataclasses import replace

import numpy as np
import pytest

from gradaudit.series.far_tails import ExtendedTails
from gradaudit.series.open_cells import reading_of
from gradaudit.series.resampling import Pool, moved_rates
from gradaudit.stats.tails import PermutedTails, SkewedT
from gradaudit.subgroups.analysis_set import Observations
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.settings import Settings
from tests.series.open_runs import a_plan, a_run


def a_pool(meas, plan=None):
    study = reading_of(meas, plan or a_plan()).study
    return Pool.of(study, study.attributes[0], np.isfinite(study.heat_share("ruler")))


def test_every_level_holds_the_factor_and_larger_ones_stay():
    pool = a_pool(a_run({"a": 30, "b": 120, "c": 5}))
    assert pool.levels == ("a", "b", "c")
    assert pool.grown(1, 30).tolist() == [30, 120, 5]
    assert pool.grown(2, 30).tolist() == [60, 120, 5]
    assert pool.grown(8, 30).tolist() == [240, 240, 5]


def test_patients_are_drawn_whole_and_every_copy_is_a_new_one():
    meas = a_run({"a": 20, "b": 30}, images=3, undefined=0.1)
    pool = a_pool(meas)
    drawn = pool.draw(np.array([40, 30]), np.random.default_rng(0))
    cluster = drawn.study.cohort.cluster
    assert len(np.unique(cluster)) == 70
    original = meas.images["cluster"].to_numpy()[drawn.rows]
    share = meas.table["heat_share"].to_numpy()
    for copy in range(70):
        rows = drawn.rows[cluster == copy]
        patient = original[cluster == copy]
        assert len(set(patient)) == 1
        of_patient = np.flatnonzero(meas.images["cluster"] == patient[0])
        assert sorted(rows) == [r for r in of_patient if np.isfinite(share[r])]
    levels = drawn.attribute.values[np.unique(cluster, return_index=True)[1]]
    assert (levels == "a").sum() == 40


def test_all_that_a_study_compares_is_drawn_together():
    meas = a_run({"a": 20, "b": 30})
    meas.images["meta.site"] = np.arange(len(meas.images)).astype(str)
    meas.table["area_share"] = np.linspace(0.1, 0.4, len(meas.table))
    pool = a_pool(meas, a_plan(analysis={"covariates": ["site"], "permutations": 199}))
    drawn = pool.draw(pool.counts, np.random.default_rng(1))
    assert drawn.study.images["meta.site"].tolist() == drawn.rows.astype(str).tolist()
    assert drawn.study.cohort.area[:, 0].tolist() == meas.table["area_share"][drawn.rows].tolist()
    assert drawn.study.heat_share("ruler").tolist() == meas.table["heat_share"][drawn.rows].tolist()


def test_copies_of_a_pair_are_pairs_of_their_own():
    meas = a_run({"a": 20, "b": 20})
    meas.images["cluster"] = meas.images["meta.twin"] = [f"t{k % 20}" for k in range(40)]
    plan = a_plan(analysis={"pairs": "twin", "permutations": 199})
    pool = a_pool(meas, plan)
    drawn = pool.draw(np.array([50]), np.random.default_rng(2))
    assert drawn.study.images["meta.twin"].nunique() == 50
    assert drawn.study.images.groupby("meta.twin")["subgroup.tone"].nunique().eq(2).all()


def test_patients_of_several_levels_are_drawn_alike():
    meas = a_run({"a": 20, "b": 20})
    meas.images["cluster"] = [f"p{k % 20}" for k in range(40)]
    pool = a_pool(meas)
    assert pool.levels == ("",)
    assert pool.counts.tolist() == [20]


@pytest.mark.parametrize(("step", "expected"), [(0.2, 0.5), (-0.2, 0.1), (0.9, 1.0), (-0.9, 0.0)])
def test_a_rate_moves_by_the_step_and_stops_at_0_and_1(step, expected):
    values = np.r_[np.ones(3000), np.zeros(7000), np.full(10, np.nan)]
    sides = np.r_[np.zeros(10000, int), np.zeros(10, int)]
    moved = moved_rates(values, np.array([step]), sides, np.random.default_rng(0))
    assert np.nanmean(moved) == pytest.approx(expected, abs=0.015)
    assert np.isnan(moved[-10:]).all()
    assert set(np.unique(moved[:-10])) <= {0.0, 1.0}


def test_rows_of_no_side_keep_their_values():
    values = np.array([0.0, 1.0, 0.0, 1.0])
    moved = moved_rates(values, np.array([1.0]), np.array([0, 0, -1, -1]), np.random.default_rng(0))
    assert moved.tolist() == [1.0, 1.0, 0.0, 1.0]


# ── far tails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_near_the_middle_the_permuted_values_decide_and_far_out_the_t():
    rng = np.random.default_rng(0)
    many, few = (PermutedTails(rng.standard_t(40, n)) for n in (200_000, 4999))
    tails = ExtendedTails.of(few, 40)
    assert tails.upper_quantile(0.05) == few.upper_quantile(0.05)
    assert tails.lower_p(1.0) == few.lower_p(1.0)
    assert few.upper_quantile(0.0001) == np.inf
    for level in (0.0005, 0.0015):
        assert tails.upper_quantile(level) == pytest.approx(many.upper_quantile(level), rel=0.1)
        assert tails.lower_quantile(level) == pytest.approx(many.lower_quantile(level), rel=0.1)
    assert tails.upper_p(3.5) == pytest.approx(many.upper_p(3.5), rel=0.5)


def test_a_larger_statistic_never_has_a_larger_p():
    tails = ExtendedTails.of(PermutedTails(np.random.default_rng(1).standard_t(20, 499)), 20)
    p = [(tails.upper_p(t), tails.lower_p(t)) for t in np.linspace(-3, 8, 300)]
    assert np.all(np.diff(np.array(p), axis=0) <= 1e-15)


def test_tails_that_are_not_permuted_stay():
    tails = SkewedT(30.0, 0.1)
    assert ExtendedTails.of(tails, 30.0) is tails


# ── what decides alone ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["curve", "trend"])
def test_without_what_stands_beside_the_deciding_contrast_is_the_same(kind):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 90) if kind == "curve" else rng.choice(["I", "II", "III"], 90)
    seen = Observations(values=rng.random(90), groups=x)
    order = None if kind == "curve" else ("I", "II", "III")
    settings = Settings(continuous=kind == "curve", order=order, margin=0.2, permutations=199, omnibus=False)  # fmt: skip
    whole, alone = (disparity_of(seen, replace(settings, beside=beside)) for beside in (True, False))  # fmt: skip
    left_out = {c.kind for c in whole.contrasts} - {c.kind for c in alone.contrasts}
    assert left_out == ({"continuous", "nonlinear"} if kind == "curve" else {"departure"})
    one, other = (next(c for c in found.contrasts if c.kind == kind) for found in (whole, alone))
    assert (one.estimate, one.p_within, one.thick) == (other.estimate, other.p_within, other.thick)
