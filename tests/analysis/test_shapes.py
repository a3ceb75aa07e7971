"""Curves and pairs in an audit: what they forbid, and which findings tell one fact twice."""

from dataclasses import replace

import numpy as np
import pytest
from compared_groups import audited
from world_measurements import measured_world
from worlds2 import draw, frame, standard

from gradaudit.analysis.planned.folding import is_other_side
from gradaudit.records import CellState
from gradaudit.subgroups.contrast import Contrast


def cells(found, kind):
    return [c for c in found.cells if c.comparison == kind and c.outcome == "heat_share"]


# ── curves ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_u_is_not_met_though_its_slope_is_flat():
    found = audited(*measured_world(draw("curve_u_30", np.random.default_rng(0)), ("x",)))
    assert found.verdict.state == "not_met"
    assert [c.state for c in cells(found, "curve")] == [CellState.BEYOND]


def test_a_flat_curve_of_many_is_met_with_undefined_heat_bounded():
    rng = np.random.default_rng(1)
    x = rng.uniform(20, 80, 900)
    found = audited(
        *measured_world(frame(0.4 + 0.15 * standard(rng, 900), np.zeros(900), x=x), ("x",))
    )
    assert found.verdict.state == "met"
    assert {c.outcome for c in found.cells} == {"heat_share", "undefined"}


def test_the_finding_has_the_curve_and_the_slope_stands_beside():
    found = audited(*measured_world(draw("curve_line_margin", np.random.default_rng(2)), ("x",)))
    shapes = {f.anchor: f for f in found.findings if f.code == "GA103"}
    assert set(shapes) == {"GA103-x-ruler", "GA103-x-ruler-slope"}
    curve, slope = shapes["GA103-x-ruler"], shapes["GA103-x-ruler-slope"]
    assert len(curve.curve) == 13
    assert any("bump narrower" in note for note in curve.notes)
    assert (curve.test.family, slope.test.family) == ("confirmatory", "exploratory")
    assert slope.margin is None
    assert slope.curve == ()
    assert curve.is_slope
    assert "percentile)" in curve.sentence


def test_a_number_that_does_not_vary_leaves_its_curve_open_with_the_reason():
    world = draw("curve_flat", np.random.default_rng(3)).assign(x=50.0)
    settings = {"x": {"kind": "continuous"}}
    found = audited(*measured_world(world, ("x",), subgroups=settings))
    assert [(c.state, c.reason) for c in cells(found, "curve")] == [
        (CellState.NOT_ASSESSED, "the attribute does not vary among the usable images")
    ]
    assert found.verdict.state == "insufficient"


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def three_levels(rng, apart=0.13):
    g = np.repeat([0, 1, 2], 200)
    return frame(0.4 + apart * np.array([0.5, -0.5, 0.0])[g] + 0.05 * standard(rng, 600), g)


def test_two_levels_apart_are_never_met():
    for seed in range(5):
        found = audited(*measured_world(draw("pairs_14", np.random.default_rng(seed))))
        assert found.verdict.state != "met"


def test_a_pair_beyond_is_told_where_every_level_is_within_of_the_rest():
    found = audited(*measured_world(three_levels(np.random.default_rng(4), 0.125)))
    assert CellState.BEYOND not in {c.state for c in cells(found, "level")}
    beyond = [(c.group, c.reference) for c in cells(found, "pair") if c.state is CellState.BEYOND]
    assert beyond == [("L0", "L1")]
    assert found.verdict.state == "not_met"
    told = next(f for f in found.findings if f.anchor == "GA105-group-ruler-L0-L1")
    assert told.test.family == "confirmatory"
    assert "L1" in told.sentence


def test_every_planned_pair_has_a_finding_and_every_pair_an_anchor_of_its_own():
    found = audited(*measured_world(draw("pairs_14", np.random.default_rng(5))))
    pairs = [c for c in found.cells if c.comparison == "pair"]
    assert len(pairs) == 12  # six of heat, six of undefined heat
    anchors = [c.finding for c in pairs]
    assert "" not in anchors
    assert len(set(anchors)) == 12
    assert {f.anchor for f in found.findings} >= set(anchors)


def test_a_pair_with_a_suppressed_level_is_withheld():
    world = three_levels(np.random.default_rng(6), 0.0)
    world = world[(world["group"] != 2) | (np.arange(600) >= 593)]  # 7 are left of the third level
    found = audited(*measured_world(world, privacy={"min_cell": 10}))
    for f in found.findings:
        if f.code == "GA105" and "L2" in (f.group, f.reference):
            assert f.suppressed
            assert f.n_images == f.n_images_reference == 0
    hidden = [c for c in cells(found, "pair") if "L2" in (c.group, c.reference)]
    assert {c.state for c in hidden} <= {CellState.WITHHELD, CellState.NOT_ASSESSED}
    assert found.verdict.state == "insufficient"


# ── one fact from two sides ─────────────────────────────────────────────────────────────────────────────────────────


def one_level_apart(rng, gap=0.35):
    g = np.repeat([0, 1, 2], [200, 150, 100])
    return frame(0.1 + gap * (g == 2) + 0.06 * standard(rng, 450), g)


def folds(found):
    return {f.anchor: f.folded_under for f in found.findings if f.folded_under}


def test_one_level_far_from_the_others_is_told_once():
    found = audited(*measured_world(one_level_apart(np.random.default_rng(7))))
    head = "GA101-group-ruler-L2"
    assert folds(found) == {
        "GA101-group-ruler-L0": head,
        "GA101-group-ruler-L1": head,
        "GA105-group-ruler-L0-L2": head,
        "GA105-group-ruler-L1-L2": head,
    }
    assert found.verdict.finding_anchors[0] == head
    assert not set(folds(found)) & set(found.verdict.finding_anchors)


def test_a_difference_of_its_own_is_not_folded():
    """A second level is 20 points lower than the third: two facts."""
    rng = np.random.default_rng(8)
    g = np.repeat([0, 1, 2], 200)
    world = frame(0.3 + np.array([0.0, -0.2, 0.3])[g] + 0.05 * standard(rng, 600), g)
    folded = folds(audited(*measured_world(world)))
    assert "GA101-group-ruler-L1" not in folded
    assert "GA105-group-ruler-L0-L1" not in folded


def test_folding_hides_no_cell_of_the_verdict():
    found = audited(*measured_world(one_level_apart(np.random.default_rng(9))))
    told = {f.anchor for f in found.findings if f.state is CellState.BEYOND or f.shown}
    assert set(folds(found)) <= told
    assert found.verdict.state == "not_met"
    assert len(found.verdict.reasons) == sum(not c.settled for c in found.cells)


def contrast(kind, group, reference, estimate, half=0.03, sizes=(100, 300)):
    n, m = sizes
    return replace(
        Contrast(kind, group, reference, n, n, m, m),
        estimate=estimate,
        ci_low=estimate - half,
        ci_high=estimate + half,
    )


HEAD = contrast("level", "C", "rest", 0.30)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (contrast("level", "A", "rest", -0.15, sizes=(200, 200)), True),  # 0.30 of 100 in 200
        (
            contrast("level", "A", "rest", -0.22, sizes=(200, 200)),
            True,
        ),  # 7 points of its own: less than 10
        (contrast("level", "A", "rest", -0.26, sizes=(200, 200)), False),  # 11 points of its own
        (contrast("level", "A", "rest", +0.15, sizes=(200, 200)), False),  # the other sign
        (contrast("level", "A", "rest", -0.15, sizes=(200, 100)), False),  # 0.30 expected
        (contrast("level", "A", "B", -0.15, sizes=(200, 200)), False),  # another reference
        (contrast("pair", "C", "A", 0.29), True),
        (contrast("pair", "A", "C", -0.32), True),
        (contrast("pair", "A", "C", 0.32), False),
        (contrast("pair", "A", "B", 0.30), False),
        (contrast("pair", "A", "C", -0.46, half=0.20), False),  # 16 points left: beyond the limit
    ],
)
def test_the_rule_by_hand(other, expected):
    assert is_other_side(HEAD, other, 0.10) == expected


def test_without_a_margin_the_interval_alone_decides():
    assert is_other_side(HEAD, contrast("pair", "A", "C", -0.46, half=0.20), None)
