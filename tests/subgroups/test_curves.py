"""Curves over a number: the largest difference between any two of their points, attacked with shapes that a slope misses."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from worlds2 import curve, draw

from gradaudit import disparity
from gradaudit.records import CellState
from gradaudit.subgroups.slopes import CURVE_PERCENTS, NARROW_BUMPS, curve_points, spline_at


def compared(frame, margin=0.10, permutations=199, **settings):
    """(curve, slope) of one draw of a world."""
    found = disparity(
        frame["value"].to_numpy(),
        frame["x"].to_numpy(),
        continuous=True,
        margin=margin,
        permutations=permutations,
        **settings,
    )
    by_kind = {c.kind: c for c in found.contrasts}
    return by_kind["curve"], by_kind["continuous"]


def states(gen, replicates, **settings):
    return [
        compared(gen(np.random.default_rng((3, r))), **settings)[0].state for r in range(replicates)
    ]


# ── shapes that a slope misses ──────────────────────────────────────────────────────────────────────────────────────


def test_a_u_of_thirty_points_is_beyond_where_its_slope_is_near_zero():
    found, slope = compared(draw("curve_u_30", np.random.default_rng(0)))
    assert abs(slope.estimate) < 0.05
    assert found.state is CellState.BEYOND
    assert abs(found.estimate) == pytest.approx(0.30, abs=0.06)
    assert states(curve("u", 0.30), 20) == [CellState.BEYOND] * 20


@pytest.mark.parametrize(
    ("shape", "skew"), [("line", False), ("u", False), ("line", True), ("u", True)]
)
def test_at_the_margin_nothing_is_said(shape, skew):
    """Within and beyond may each be found in 5 of a hundred: more than 7 of 40 in one of 1000."""
    found = states(curve(shape, 0.10, skew=skew), 40)
    assert found.count(CellState.WITHIN) <= 7
    assert found.count(CellState.BEYOND) <= 7


def test_a_flat_line_is_within_where_there_are_enough_patients():
    assert states(curve("flat", 0.0, n=800), 12).count(CellState.WITHIN) >= 11
    assert states(curve("flat", 0.0, n=60), 12).count(CellState.WITHIN) <= 2


def test_no_difference_is_shown_in_about_five_of_a_hundred():
    shown = 0
    for r in range(100):
        found, _ = compared(curve("flat", 0.0, n=120)(np.random.default_rng((5, r))))
        shown += found.p <= 0.05
    assert shown <= 13  # binomial: more than 13 of 100 in one of 1000 at 5 %


def test_the_sign_does_not_matter():
    frame = draw("curve_line_margin", np.random.default_rng(1))
    up, _ = compared(frame)
    down, _ = compared(frame.assign(value=1 - frame["value"]))
    assert down.estimate == pytest.approx(-up.estimate, rel=1e-9)
    assert (down.group, down.reference) == (up.group, up.reference)
    assert down.p == pytest.approx(up.p, abs=0.03)  # the rows are permuted in another order


# ── what stands in the contrast ─────────────────────────────────────────────────────────────────────────────────────


def test_thirteen_points_from_the_fifth_to_the_ninety_fifth_percentile():
    assert np.allclose(CURVE_PERCENTS, 5 + 7.5 * np.arange(13))
    points, names = curve_points(np.linspace(0, 100, 201))
    assert np.allclose(points, CURVE_PERCENTS)
    assert names[0] == "P5 (5)"
    assert names[1] == "P12.5 (12.5)"


def test_the_two_points_that_differ_most_are_named():
    frame = curve("u", 0.30, n=2000, sd=0.05)(np.random.default_rng(2))
    found, _ = compared(frame, analytic=True)
    xs, ys = np.array(found.curve)[:, 0], np.array(found.curve)[:, 1]
    lowest = int(np.argmin(ys))
    ends = {found.group, found.reference}
    assert any(name.startswith(f"P{CURVE_PERCENTS[lowest]:g} ") for name in ends)
    assert abs(found.estimate) == pytest.approx(ys.max() - ys.min(), rel=1e-9)
    assert np.all(np.diff(xs) > 0)


def test_the_curve_follows_the_truth_and_its_intervals_hold_it():
    frame = curve("u", 0.30, n=1500, sd=0.10)(np.random.default_rng(3))
    found, _ = compared(frame, analytic=True)
    for x, estimate, low, high in found.curve:
        assert low < estimate < high
        assert estimate == pytest.approx(0.4 + 0.30 * ((x - 50) / 27) ** 2, abs=0.04)


def test_a_point_at_the_end_rests_on_few_patients():
    """Its interval takes Bell and McCaffrey's degrees of freedom, here as traces of whole matrices, and not the residual ones."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"x": rng.gamma(1.0, 10.0, 60), "value": rng.random(60)})
    found, _ = compared(frame)
    points, _ = curve_points(frame["x"].to_numpy())
    columns, at = spline_at(frame["x"].to_numpy(), points)
    x, at = (np.column_stack([np.ones(len(c)), c]) for c in (columns, at))
    left = np.eye(60) - x @ np.linalg.pinv(x)
    for row, (_, estimate, low, high) in zip(at, found.curve, strict=True):
        w = np.linalg.pinv(x).T @ row
        d = left * (w**2 / np.diag(left))
        se = np.sqrt(np.sum(w**2 * (left @ frame["value"]) ** 2 / np.diag(left)))
        half = t.ppf(0.975, np.trace(d) ** 2 / np.trace(d @ d)) * se
        assert (low, high) == pytest.approx((estimate - half, estimate + half), rel=1e-8)


def test_covariates_are_held_at_their_mean():
    rng = np.random.default_rng(4)
    x, area = rng.uniform(20, 80, 500), rng.uniform(0.1, 0.6, 500)
    value = 0.2 + 0.5 * area + 0.02 * rng.standard_normal(500)
    by_kind = {
        c.kind: c
        for c in disparity(
            value, x, area_share=area, continuous=True, margin=0.05, permutations=99
        ).contrasts
    }
    assert by_kind["curve"].state is CellState.WITHIN
    heights = [point[1] for point in by_kind["curve"].curve]
    assert np.allclose(heights, value.mean(), atol=0.02)


def test_a_shift_or_a_stretch_of_the_number_changes_nothing():
    frame = draw("curve_u_margin", np.random.default_rng(5))
    one, _ = compared(frame)
    other, _ = compared(frame.assign(x=1000 * frame["x"] - 7))
    for name in ("estimate", "se", "p", "p_within", "p_beyond", "ci_low", "ci_high"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-6)
    assert other.state is one.state


def test_the_slope_stands_beside_without_a_margin():
    found, slope = compared(draw("curve_u_30", np.random.default_rng(6)))
    assert slope.state is CellState.NOT_JUDGED
    assert slope.margin_test is None
    assert found.p_adjusted == found.p  # one comparison decides, so that nothing is shared


def test_the_known_miss_is_said():
    found, _ = compared(draw("curve_flat", np.random.default_rng(7)))
    assert NARROW_BUMPS in found.notes


def test_what_is_shown_has_an_interval_without_zero():
    for r in range(40):
        found, _ = compared(curve("line", 0.05, n=150)(np.random.default_rng((6, r))))
        assert (found.p <= 0.05) == (found.ci_low > 0 or found.ci_high < 0)


def test_students_t_and_permutations_agree_where_there_are_many():
    many, _ = compared(curve("line", 0.06, n=900)(np.random.default_rng(8)))
    assert many.method == "t"  # 450 on each half, normal: Student's t will do
    skewed = curve("line", 0.06, n=390, skew=True)(np.random.default_rng(8))
    permuted, _ = compared(skewed, permutations=4999)
    by_t, _ = compared(skewed, analytic=True)
    assert permuted.method == "permutation"
    assert by_t.critical == pytest.approx(permuted.critical, rel=0.05)
    assert by_t.thick == pytest.approx(permuted.thick, abs=0.006)


# ── unusual but honest numbers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("values", [2, 3, 4, 5, 12])
def test_a_number_of_few_values_has_a_curve(values):
    rng = np.random.default_rng(9)
    x = rng.integers(0, values, 300) / 1.0
    frame = {"value": 0.3 + 0.2 * (x == x.max()) + 0.05 * rng.standard_normal(300), "x": x}
    found, _ = compared_arrays(frame)
    assert found.state is CellState.BEYOND


def compared_arrays(frame):
    found = disparity(
        frame["value"], frame["x"], continuous=True, margin=0.10, permutations=199
    ).contrasts
    by_kind = {c.kind: c for c in found}
    return by_kind["curve"], by_kind["continuous"]


def test_a_number_that_hardly_varies_is_not_assessed():
    rng = np.random.default_rng(10)
    x = np.r_[np.zeros(290), np.arange(1.0, 11.0)]
    found, _ = compared_arrays({"value": rng.random(300), "x": x})
    assert found.state is CellState.NOT_ASSESSED
    assert "5th to its 95th percentile" in found.reason


def test_one_patient_far_out_does_not_break_the_curve():
    rng = np.random.default_rng(11)
    x = np.r_[rng.uniform(20, 80, 399), 1e6]
    found, _ = compared_arrays({"value": 0.4 + 0.05 * rng.standard_normal(400), "x": x})
    assert found.state is CellState.WITHIN


def test_few_patients_are_not_assessed_and_some_are_provisional():
    rng = np.random.default_rng(12)
    few, _ = compared_arrays({"value": rng.random(18), "x": rng.random(18)})
    assert few.state is CellState.NOT_ASSESSED
    some, _ = compared_arrays({"value": rng.random(30), "x": rng.random(30)})
    assert some.provisional


def test_the_spline_has_the_same_columns_at_points_and_rows():
    x = np.random.default_rng(13).gamma(2, 10, 300)
    basis, again = spline_at(x, x)
    assert basis.shape == (300, 3)
    assert np.array_equal(basis, again)


def test_inside_clusters_no_curve_is_fitted_and_that_is_said():
    rng = np.random.default_rng(14)
    clusters, x = np.repeat(np.arange(60), 6), rng.uniform(20, 80, 360)
    found = disparity(
        rng.random(360), x, clusters=clusters, continuous=True, within=True, margin=0.1,
        permutations=99,
    ).contrasts  # fmt: skip
    by_kind = {c.kind: c for c in found}
    assert by_kind["curve"].state is CellState.NOT_ASSESSED
    assert "inside clusters" in by_kind["curve"].reason


# ── rare outcomes ───────────────────────────────────────────────────────────────────────────────────────────────────


def rare(n, share, rng):
    return {"value": (rng.permutation(n) < share * n) / 1.0, "x": rng.uniform(20, 80, n)}


def test_a_rare_outcome_is_bounded_over_thirds():
    found, _ = compared_arrays(rare(900, 0.008, np.random.default_rng(15)))
    assert found.state is CellState.WITHIN
    assert "nearly every value is the same" in found.notes[-1]
    few, _ = compared_arrays(rare(60, 0.02, np.random.default_rng(15)))
    assert few.state is CellState.NOT_ASSESSED


def test_a_rare_outcome_in_one_third_alone_is_not_within():
    rng = np.random.default_rng(16)
    x = np.sort(rng.uniform(20, 80, 150))
    value = np.zeros(150)
    value[-50:-46] = 1.0  # 8 % of the upper third, 2.7 % of all
    found, _ = compared_arrays({"value": value, "x": x})
    assert found.state is CellState.NOT_ASSESSED


def test_a_trend_of_a_rare_outcome_is_bounded_over_all_levels():
    levels = np.repeat(["a", "b", "c"], 300)
    value = np.zeros(900)
    value[[3, 310, 620]] = 1.0
    settings = {"order": ("a", "b", "c"), "margin": 0.10, "permutations": 99}
    trend = {c.kind: c for c in disparity(value, levels, **settings).contrasts}["trend"]
    assert trend.state is CellState.WITHIN
    assert "nearly every value is the same" in trend.notes[-1]


def test_a_middle_level_with_all_the_rare_events_is_not_within():
    """First and last level are alike; the middle one has 8 of 100."""
    levels = np.repeat(["a", "b", "c"], 100)
    value = np.zeros(300)
    value[100:108] = 1.0
    settings = {"order": ("a", "b", "c"), "margin": 0.10, "permutations": 99}
    trend = {c.kind: c for c in disparity(value, levels, **settings).contrasts}["trend"]
    assert trend.state is CellState.NOT_ASSESSED
    assert "nearly every value is the same" in trend.reason


def test_with_sites_their_number_and_not_that_of_patients_decides():
    """Every patient is there twenty times inside the own site: that is no more to know about sites."""
    rng = np.random.default_rng(5)
    site = np.repeat(np.arange(8), 30)
    x = rng.uniform(20, 80, 240)
    slope = 0.004 * rng.standard_normal(8)
    y = 0.4 + slope[site] * (x - 50) + 0.05 * rng.standard_normal(240)

    def found(times):
        kept = {"continuous": True, "permutations": 199, "margin": 0.1}
        contrasts = disparity(
            np.tile(y, times), np.tile(x, times), site=np.tile(site, times), **kept
        ).contrasts
        return next(c for c in contrasts if c.kind == "curve")

    once, often, slack = found(1), found(20), 0.1
    assert (once.method, often.method) == ("site t", "site t")
    assert often.se == pytest.approx(once.se, rel=slack)
    alone = disparity(
        np.tile(y, 20), np.tile(x, 20), continuous=True, permutations=199, margin=0.1
    ).contrasts
    assert next(c for c in alone if c.kind == "curve").se < 0.5 * often.se
