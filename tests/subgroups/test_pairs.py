"""Pairs of three or more unordered levels: each level may lie near the rest while two lie far apart."""

import numpy as np
import pytest
from worlds2 import draw, frame, standard

from gradaudit.records import CellState
from gradaudit.subgroups.analysis_set import Observations
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.settings import Settings


def compared(values, groups, clusters=None, area=None, **settings):
    observations = Observations(values=values, groups=groups, clusters=clusters, area_share=area)
    chosen = {"margin": 0.10, "permutations": 299, "pairwise": True, "omnibus": False} | settings
    return disparity_of(observations, Settings(**chosen)).contrasts


def named(contrasts):
    return {(c.kind, c.group, c.reference): c for c in contrasts}


def three_levels(seed, apart=0.13, each=200):
    """Two levels ``apart``, the third in the middle."""
    rng = np.random.default_rng(seed)
    g = np.repeat([0, 1, 2], each)
    return frame(0.4 + apart * np.array([0.5, -0.5, 0.0])[g] + 0.08 * standard(rng, 3 * each), g)


def test_two_levels_apart_are_beyond_though_each_is_within_of_the_rest():
    d = three_levels(0)
    found = named(compared(d["value"], d["group"].astype(str)))
    assert found["pair", "0", "1"].state is CellState.BEYOND
    for level in "012":
        assert found["level", level, "rest"].state is not CellState.BEYOND
    assert found["level", "2", "rest"].state is CellState.WITHIN


def test_every_pair_is_there_once():
    d = draw("pairs_14", np.random.default_rng(1))
    found = [c for c in compared(d["value"], d["group"].astype(str)) if c.kind == "pair"]
    pairs = [("0", "1"), ("0", "2"), ("0", "3"), ("1", "2"), ("1", "3"), ("2", "3")]
    assert [(c.group, c.reference) for c in found] == pairs


def test_with_a_declared_reference_its_pairs_are_the_level_contrasts():
    d = three_levels(2)
    found = named(compared(d["value"], d["group"].astype(str), reference="0"))
    assert set(found) == {("level", "1", "0"), ("level", "2", "0"), ("pair", "1", "2")}
    a, b = found["level", "1", "0"], found["level", "2", "0"]
    assert found["pair", "1", "2"].estimate == pytest.approx(a.estimate - b.estimate, rel=1e-9)


def test_a_pair_is_the_level_contrast_of_the_same_model():
    """With the other level as declared reference the same two levels give the same numbers."""
    d = three_levels(3)
    pair = named(compared(d["value"], d["group"].astype(str)))["pair", "1", "2"]
    level = named(compared(d["value"], d["group"].astype(str), reference="2"))["level", "1", "2"]
    for name in ("estimate", "se", "df", "p", "p_within", "mean", "mean_reference", "cliffs_delta"):
        assert getattr(pair, name) == pytest.approx(getattr(level, name), rel=1e-9)


def test_ordered_levels_and_two_levels_have_no_pairs():
    d = three_levels(4)
    ordered = compared(d["value"], d["group"].astype(str), order=("0", "1", "2"))
    assert not [c for c in ordered if c.kind == "pair"]
    assert not [
        c for c in compared(d["value"], d["group"].astype(str), pairwise=False) if c.kind == "pair"
    ]


def test_a_small_level_leaves_its_pairs_unassessed():
    d = three_levels(5)
    small = d[(d["group"] != 2) | (np.arange(len(d)) >= len(d) - 8)]
    found = named(compared(small["value"], small["group"].astype(str)))
    assert found["pair", "0", "2"].state is CellState.NOT_ASSESSED
    assert "fewer than 10" in found["pair", "0", "2"].reason
    assert found["pair", "0", "1"].state is CellState.BEYOND


def test_pairs_are_compared_inside_clusters_too():
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(80), 3)
    own = rng.normal(0, 0.2, 80)[clusters]
    level = np.tile([0, 1, 2], 80)
    value = 0.4 + own + np.array([0.08, -0.08, 0.0])[level] + 0.02 * rng.standard_normal(240)
    found = named(compared(value, level.astype(str), clusters=clusters))
    assert found["pair", "0", "1"].estimate == pytest.approx(0.16, abs=0.02)
    assert found["pair", "0", "1"].state is CellState.BEYOND
    assert "differences within 80 clusters" in found["pair", "0", "1"].notes


def test_a_pair_whose_region_sizes_hardly_overlap_is_compared_where_they_do():
    rng = np.random.default_rng(7)
    level = np.repeat([0, 1, 2], 150)
    size = rng.normal(0, 0.6, 450) + np.array([-1.5, 1.0, 0.0])[level]
    area = 1 / (1 + np.exp(-size))
    found = named(compared(0.4 + 0.05 * rng.standard_normal(450), level.astype(str), area=area))
    pair = found["pair", "0", "1"]
    assert "region sizes overlap too little" in " ".join((*pair.notes, pair.reason))
    assert pair.entered is None or max(pair.entered) < 150


def test_a_rare_outcome_is_bounded_in_pairs():
    level = np.repeat([0, 1, 2], 300)
    value = np.zeros(900)
    value[[5, 400, 700]] = 1.0
    found = named(compared(value, level.astype(str)))
    assert found["pair", "0", "2"].state is CellState.WITHIN
