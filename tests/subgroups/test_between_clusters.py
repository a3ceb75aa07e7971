"""Levels and cells compared between patients: weights, common support of size, additivity."""

import numpy as np
import pytest
import worlds
from scipy.special import expit
from subgroup_samples import clustered

from gradaudit.records import CellState
from gradaudit.subgroups.comparison import disparity, intersections


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


def test_two_levels_are_compared_once_against_the_larger():
    found = disparity(np.random.default_rng(0).random(50), ["x"] * 20 + ["y"] * 30, permutations=99)
    assert [(c.group, c.reference) for c in found.contrasts] == [("x", "y")]


def test_intersections_know_cells_and_additivity():
    d = worlds.crossed(np.random.default_rng(14))
    d["value"] += 0.25 * ((d["group"] == 1) & (d["second"] == 1))
    found = intersections(d["value"], d["group"], d["second"], permutations=499)
    again = intersections(d["value"], d["group"], d["second"], permutations=499, seed=0)
    np.testing.assert_array_equal(again.table["p"], found.table["p"])  # seed 0 if none is given
    kinds = {(c.kind, c.group): c for c in found.contrasts}
    assert len(kinds) == 12
    planted = kinds["additivity", "1 × 1"]
    assert planted.shown
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


def test_the_site_that_cells_are_compared_within_has_its_own_name():
    rng = np.random.default_rng(15)
    first, second, site = (
        rng.choice(levels, 200) for levels in (["a", "b"], ["x", "y"], list("pqrstu"))
    )
    values = rng.random(200)
    found = intersections(values, first, second, site=site, site_name="hospital", permutations=99)
    assert found.adjusted_for == ("hospital",)


def test_intersections_of_unknown_levels_are_not_cells():
    found = intersections(
        np.random.default_rng(0).random(60),
        ["a", None, "b"] * 20,
        ["x", "y", "x", "y"] * 15,
        permutations=99,
    )
    assert set(found.levels) == {"a × x", "a × y", "b × x", "b × y"}
    assert found.excluded == {"unknown level": 20}


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
    assert c.state is CellState.NOT_ASSESSED
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
