"""Quantile dots: how many there are, whom each stands for, and which findings have them."""

import itertools

import numpy as np
import pytest
from drawings import a_plan, drawn, findings_of, measured
from hypothesis import given
from hypothesis import strategies as st

from gradaudit.analysis.figures.distributions import (
    MOST_FINDINGS,
    distributions,
    dots_of,
    equal_parts,
)
from gradaudit.records import CellState

DOTS = [
    (4, 1, 0), (5, 1, 5), (19, 1, 19), (20, 1, 20), (500, 1, 20), (54, 11, 0), (55, 11, 5), (65, 11, 5), (66, 11, 6), (219, 11, 19), (220, 11, 20), (9999, 11, 20),
]  # fmt: skip


@pytest.mark.parametrize(("clusters", "min_cell", "dots"), DOTS)
def test_every_dot_stands_for_enough_clusters(clusters, min_cell, dots):
    assert dots_of(clusters, min_cell) == dots
    assert dots * min_cell <= clusters


def test_a_dot_is_the_mean_of_its_part():
    assert list(equal_parts(np.array([4.0, 1, 3, 2]), 2)) == [1.5, 3.5]
    # of five values in two parts the middle one is half in each
    assert list(equal_parts(np.array([1.0, 2, 3, 4, 5]), 2)) == pytest.approx(
        [4.5 / 2.5, 10.5 / 2.5]
    )
    assert list(equal_parts(np.array([0.0, 0, 0, 0.9]), 4)) == [0, 0, 0, 0.9]


@given(st.lists(st.floats(0, 1), min_size=5, max_size=60), st.integers(1, 20))
def test_dots_rise_and_average_to_the_mean(values, parts):
    dots = list(equal_parts(np.array(values), parts))
    assert np.mean(dots) == pytest.approx(np.mean(values), abs=1e-4)
    assert all(a <= b + 1e-4 for a, b in itertools.pairwise(dots))
    assert min(values) - 1e-4 <= dots[0]
    assert dots[-1] <= max(values) + 1e-4


def test_the_dots_of_a_finding_average_to_the_means_that_it_states():
    found = drawn(measured(0, patients=300, gap=0.15, joint=0.1), a_plan(privacy={"min_cell": 3}))
    findings = {f.anchor: f for f in found.findings}
    rows = found.drawing.distributions()
    wanted = {f.anchor for f in findings_of(found, "GA101") if f.outcome == "heat_share"}
    assert {row.finding for row in rows} == wanted
    assert len({(findings[a].attribute, findings[a].region) for a in wanted}) == 4
    for row in rows:
        f = findings[row.finding]
        assert np.mean(row.group) == pytest.approx(f.mean.estimate, abs=1e-4)
        assert np.mean(row.reference) == pytest.approx(f.mean_reference.estimate, abs=1e-4)
        assert (
            len(row.group)
            == len(row.reference)
            == min(20, min(f.n_clusters, f.n_clusters_reference) // 3)
        )


def test_pairs_have_dots_where_they_are_told_and_the_drawn_come_first():
    found = drawn(measured(0, patients=300), a_plan(privacy={"min_cell": 1}))
    sides, f = found.drawing.sides, findings_of(found, "GA101")[0]
    anchors = lambda *fs, drawn=(): [d.finding for d in distributions(sides, fs, drawn)]  # noqa: E731
    for state, shown in (
        (CellState.BEYOND, 1),
        (CellState.OPEN, 1),
        (CellState.WITHIN, 0),
        (CellState.NOT_JUDGED, 0),
        (CellState.NOT_ASSESSED, 0),
    ):
        pair = f.model_copy(
            update={"code": "GA105", "state": state, "anchor": "pair", "shown": False}
        )
        assert anchors(pair) == ["pair"] * shown
    shown = f.model_copy(
        update={"code": "GA105", "state": CellState.NOT_JUDGED, "anchor": "pair", "shown": True}
    )
    assert anchors(f, shown, drawn=[shown]) == ["pair", f.anchor]
    many = [f.model_copy(update={"anchor": f"f{k}"}) for k in range(MOST_FINDINGS + 5)]
    assert anchors(*many) == [f"f{k}" for k in range(MOST_FINDINGS)]


def test_nothing_else_has_dots():
    found = drawn(measured(0), a_plan(privacy={"min_cell": 1}))
    f = findings_of(found, "GA101")[0]
    assert distributions(found.drawing.sides, [f], [])
    others = [
        {"suppressed": True},
        {"n_withheld": True},
        {"outcome": "undefined"},
        {"code": "GA121"},
        {"group": "nobody"},
    ]
    for change in others:
        assert distributions(found.drawing.sides, [f.model_copy(update=change)], []) == (), change
