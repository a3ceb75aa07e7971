"""Differences that are not the same everywhere: zero on average, and twenty points in each class."""

import numpy as np
import pytest
from compared_groups import audited
from world_measurements import measured_world
from worlds2 import draw, frame, opposite, standard, xor

from gradaudit.analysis.not_everywhere import NOT_EVERYWHERE_Q
from gradaudit.records import CellState


def of_strata(found):
    return {f.group: f for f in found.findings if f.code == "GA132"}


def test_opposite_differences_in_two_classes_are_met_on_average_only():
    found = audited(*measured_world(draw("opposite", np.random.default_rng(0))))
    assert found.verdict.state == "met"
    assert found.verdict.second.startswith("not the same in every class: group L")
    assert "within class malignant" in found.verdict.second
    assert "within class benign" in found.verdict.second
    assert found.verdict.words == "criteria met on average; not the same in every class"


def test_opposite_differences_are_always_said():
    for seed in range(1, 8):
        world = draw("opposite", np.random.default_rng(seed))
        assert audited(*measured_world(world)).verdict.second


def test_a_difference_beside_another_attribute_is_found():
    """XOR: both main effects are zero, and each group differs by 24 points within the other's levels."""
    for seed in range(4):
        world = draw("xor", np.random.default_rng(seed))
        found = audited(*measured_world(world, ("a0", "a1")))
        assert all(c.state is not CellState.BEYOND for c in found.cells)
        assert found.verdict.second.startswith("not the same everywhere: ")
        assert {f.stratum for f in of_strata(found).values() if f.shown} >= {"a0 L0", "a1 L1"}


@pytest.mark.parametrize("gen", [opposite(gap=0.10), xor(gap=0.05)])
def test_at_the_margin_it_is_rarely_said(gen):
    """It may be said in 6 of a hundred: more than 5 of 25 in one of 500."""
    said = 0
    for seed in range(25):
        world = gen(np.random.default_rng((2, seed)))
        names = ("group",) if "a0" not in world else ("a0", "a1")
        said += bool(audited(*measured_world(world, names)).verdict.second)
    assert said <= 5


def test_what_is_the_same_everywhere_needs_no_second_sentence():
    """+30 points in both classes: beyond on average, and beyond in each class in the same direction."""
    rng = np.random.default_rng(3)
    g, k = np.repeat([1, 0, 0], 120), np.tile([0, 1], 180)
    world = frame(0.3 + 0.3 * g + 0.1 * standard(rng, 360), g).assign(klass=k)
    found = audited(*measured_world(world))
    assert found.verdict.state == "not_met"
    assert all(f.shown for f in of_strata(found).values())
    assert found.verdict.second == ""
    assert found.verdict.words == "criteria not met"


def test_a_class_on_the_other_side_of_a_difference_is_said():
    """+40 points in one class, -25 in the other: beyond on average, and not the same everywhere."""
    rng = np.random.default_rng(4)
    g, k = np.repeat([1, 0], 200), np.tile([0, 1, 1, 1], 100)
    world = frame(0.4 + g * np.where(k == 1, 0.4, -0.25) + 0.08 * standard(rng, 400), g)
    found = audited(*measured_world(world.assign(klass=k)))
    assert found.verdict.state == "not_met"
    assert "benign" in found.verdict.second
    assert "malignant" not in found.verdict.second


def test_without_a_limit_nothing_can_be_beyond_it():
    world = draw("opposite", np.random.default_rng(5))
    found = audited(*measured_world(world, criteria={}))
    assert of_strata(found) == {}
    assert found.verdict.second == ""


def test_strata_are_signals_and_no_planned_cells():
    found = audited(*measured_world(draw("opposite", np.random.default_rng(6))))
    for f in of_strata(found).values():
        assert f.test.family == "exploratory"
        assert f.state is CellState.NOT_JUDGED
        assert f.shown == (f.test.p_beyond_adjusted <= NOT_EVERYWHERE_Q)
        assert ("a signal, not a verdict." in f.sentence) == f.shown
    assert not any("within" in c.group for c in found.cells)
    assert NOT_EVERYWHERE_Q == 0.10


def test_the_p_of_other_exploratory_comparisons_does_not_depend_on_the_strata():
    world = draw("xor", np.random.default_rng(7)).assign(klass=lambda d: np.arange(len(d)) % 2)
    limited = audited(*measured_world(world, ("a0", "a1")))
    free = audited(*measured_world(world, ("a0", "a1"), criteria={}))

    def adjusted(found):
        return {f.anchor: f.test.p_adjusted for f in found.findings if f.code == "GA131"}

    assert adjusted(limited) == adjusted(free)


def test_a_small_cell_of_group_and_class_is_not_given_away():
    """12 of the group are malignant and 6 benign: neither the 6 nor, by subtraction, the 12 is told."""
    rng = np.random.default_rng(8)
    g = np.repeat([1, 0], [18, 200])
    k = np.r_[np.repeat([1, 0], [12, 6]), np.tile([0, 1], 100)]
    world = frame(0.4 + 0.1 * standard(rng, 218), g).assign(klass=k)
    found = audited(*measured_world(world, privacy={"min_cell": 10}))
    for f in of_strata(found).values():
        assert f.suppressed or f.n_withheld
        assert (f.n_images, f.n_clusters) == (0, 0)
    assert not any("benign" in f.group and not f.suppressed for f in of_strata(found).values())


def test_a_curve_may_differ_from_class_to_class():
    rng = np.random.default_rng(9)
    x, k = rng.uniform(20, 80, 1500), np.tile([0, 1], 750)
    value = 0.4 + 0.4 * (x - 50) / 54 * (2 * k - 1) + 0.08 * standard(rng, 1500)
    found = audited(*measured_world(frame(value, k, x=x).assign(klass=k), ("x",)))
    assert found.verdict.second.startswith("not the same in every class: x P")
    curves = [f for f in found.findings if f.code == "GA103" and f.curve]
    assert [f.state for f in curves] == [CellState.WITHIN]
