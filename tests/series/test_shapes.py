"""Curves drawn again: the shape that a run saw, scaled; every step is held against values that were changed beforehand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import gradaudit as ga
from gradaudit.series.far_tails import ExtendedLargest, extended
from gradaudit.series.repeated_audits import PERMUTATIONS
from gradaudit.series.resampling import flipped
from gradaudit.series.shapes import Shape, moved_curves, rates_along
from gradaudit.stats.decision import LargestDifference
from gradaudit.stats.tails import PermutedCombinations, PermutedTails, SkewedT

PARABOLA = [(x, 4 * (x - 5) ** 2, 0.0, 0.0) for x in np.linspace(0, 10, 13)]


def a_world(n=70, seed=0, whole=False):
    rng = np.random.default_rng(seed)
    x = rng.gamma(3, 8, n)
    x = np.round(x / 4) if whole else x
    u = (x - np.median(x)) / np.ptp(x)
    return x, 0.3 + 0.2 * u**2 + 0.1 * u + 0.1 * rng.lognormal(0, 0.5, n)


def curve_of(x, y, **settings):
    given = {"continuous": True, "margin": 0.1, "permutations": 499, "seed": 4} | settings
    return next(c for c in ga.disparity(y, x, **given).contrasts if c.kind == "curve")


def natural_columns(x, knots):
    """Cardinal natural splines, straight beyond the outer knots: another basis than the package's."""
    inside = np.clip(x, knots[0], knots[-1])
    splines = [CubicSpline(knots, unit, bc_type="natural") for unit in np.eye(len(knots))]
    return np.column_stack([s(inside) + (x - inside) * s(inside, 1) for s in splines])


# ── the shape that a run saw ────────────────────────────────────────────────────────────────────────────────────────


def test_the_printed_points_hold_the_whole_curve_between_and_beyond():
    x, y = a_world()
    columns = natural_columns(x, np.quantile(x, [0.05, 0.35, 0.65, 0.95]))
    expected = columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    found = Shape.of(curve_of(x, y).curve).at(x)
    assert np.ptp(found - expected) < 1e-9
    assert (x > np.quantile(x, 0.95)).any()


def test_ties_leave_fewer_points_and_the_same_curve():
    x, y = a_world(whole=True)
    c = curve_of(x, y)
    assert len(c.curve) < 13
    knots = np.unique(np.quantile(x, [0.05, 0.35, 0.65, 0.95]))
    columns = natural_columns(x, knots)
    expected = columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    assert np.ptp(Shape.of(c.curve).at(x) - expected) < 1e-9


@pytest.mark.parametrize("to", [0.2, -0.2, 0.0])
def test_a_truth_keeps_the_shape_and_its_largest_difference_is_the_one_assumed(to):
    own = Shape.of(PARABOLA)
    scaled = own.scaled(to)
    assert own.reach == pytest.approx(100.0)
    assert scaled.reach == pytest.approx(abs(to))
    assert scaled.at(np.array([5.0, 0.0])) @ [-1, 1] == pytest.approx(abs(to))  # not upside down
    np.testing.assert_allclose(scaled.y, own.y * abs(to) / 100)


def test_a_flat_curve_has_no_shape_and_is_scaled_as_a_line():
    flat = Shape.of([(x, 0.3, 0, 0) for x in (0.0, 1.0, 4.0)])
    assert flat.scaled(0.2).y.tolist() == pytest.approx([0, 0.05, 0.2])
    assert flat.scaled(0).reach == 0.0


def test_two_points_are_a_line():
    line = Shape.of([(0.0, 0.0, 0, 0), (2.0, 1.0, 0, 0)])
    assert line.at(np.array([-1.0, 0.5, 3.0])).tolist() == pytest.approx([-0.5, 0.25, 1.5])
    assert line.scaled(0.2).y.tolist() == pytest.approx([0, 0.2])


# ── moved curves ────────────────────────────────────────────────────────────────────────────────────────────────────

WAYS = {
    "plain": {},
    "analytic": {"analytic": True},
    "sized": {"area_share": np.random.default_rng(1).uniform(0.1, 0.4, 70)},
    "label": {"label": np.arange(70) % 3},
    "sites": {"site": np.arange(70) % 7},
    "few sites": {"site": np.arange(70) % 3},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("to", [0.0, 0.06, 0.3])
def test_a_moved_curve_is_that_of_changed_values(way, to):
    """As if the values had been changed before anything was fitted; permuted, up to the draws, which depend on the order of the values."""
    x, y = a_world()
    c = curve_of(x, y, **WAYS[way])
    seen = Shape.of(c.curve)
    truth = seen.scaled(to)
    moved = next(moved_curves([c], truth))
    again = curve_of(x, y + truth.at(x) - seen.at(x), **WAYS[way])
    assert abs(again.estimate) == pytest.approx(to, abs=1e-9)
    assert again.method == c.method
    one, other = moved.margin_test, again.margin_test
    np.testing.assert_allclose(one.estimates, other.estimates, atol=1e-9)
    np.testing.assert_allclose(one.errors, other.errors, rtol=1e-6)
    close = {"abs": 0.03} if c.method == "permutation" else {"rel": 1e-6}
    assert (one.p_beyond, one.p_within) == pytest.approx((other.p_beyond, other.p_within), **close)
    assert one.whisker(0.05) == pytest.approx(other.whisker(0.05), **close)
    assert moved.estimate == pytest.approx(one.estimate)


def test_precision_weights_are_nearly_those_of_changed_values():
    """They are estimated from the values before the step, whose thirds differ a little more or less."""
    x, y = a_world(160)
    rng = np.random.default_rng(9)
    row = np.repeat(np.arange(160), rng.integers(1, 12, 160))
    y = y[row] + 0.3 * rng.standard_normal(len(row))
    ways = {"clusters": row, "weights": "precision"}
    c = curve_of(x[row], y, **ways)
    assert c.estimate != pytest.approx(curve_of(x[row], y, clusters=row).estimate, abs=1e-4)
    seen = Shape.of(c.curve)
    moved = next(moved_curves([c], seen.scaled(0.05))).margin_test
    again = curve_of(x[row], y + (seen.scaled(0.05).at(x) - seen.at(x))[row], **ways).margin_test
    np.testing.assert_allclose(moved.estimates, again.estimates, atol=2e-3)
    np.testing.assert_allclose(moved.errors, again.errors, rtol=0.05)
    assert moved.p_within == pytest.approx(again.p_within, abs=0.03)


def test_many_curves_are_moved_by_one_step_and_their_mean_is_the_truth():
    x, y = a_world(200)
    rng = np.random.default_rng(2)
    rows = [rng.integers(0, 200, 200) for _ in range(8)]
    found = [curve_of(x[r], y[r], permutations=99) for r in rows]
    truth = Shape.of(curve_of(x, y).curve).scaled(0.2)
    moved = list(moved_curves(found, truth))
    curves = [Shape.of(c.curve) for c in found]
    mean = np.mean([s.at(truth.x) for s in curves], axis=0)
    for before, after, own in zip(found, moved, curves, strict=True):
        step = Shape(truth.x, truth.y - mean).at(own.x)
        upper, lower = np.triu_indices(13, 1)[::-1]
        np.testing.assert_allclose(
            after.margin_test.estimates - before.margin_test.estimates, step[upper] - step[lower]
        )
        assert after.margin_test.errors is before.margin_test.errors
        assert after.margin_test.tails is before.margin_test.tails


def test_what_has_no_curve_stays():
    x, y = a_world()
    constant = curve_of(x, np.full(70, 0.3))
    assert constant.margin_test is None
    c = curve_of(x, y)
    moved = list(moved_curves([None, constant, c], Shape.of(c.curve).scaled(0)))
    assert moved[0] is None
    assert moved[1] is constant
    assert moved[2].estimate == pytest.approx(0, abs=1e-9)
    assert list(moved_curves([None, constant], Shape.of(c.curve))) == [None, constant]


# ── rates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_flat_truth_has_the_rate_of_everybody_and_another_one_its_differences():
    x = np.linspace(0, 10, 101)
    seen = Shape.of(PARABOLA).scaled(0.3)
    now, none = rates_along(0.4, seen, seen.scaled(0), x)
    assert none == pytest.approx(np.full(101, 0.4))
    assert now.mean() == pytest.approx(0.4)
    assert np.ptp(now) == pytest.approx(0.3)
    wide = rates_along(0.4, seen, seen.scaled(0.5), x)[1]
    assert np.ptp(wide) == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [0.02, 0.97])
def test_where_0_or_1_leave_no_room_all_rates_move(rate):
    x = np.linspace(-5, 10, 101)
    seen = Shape.of(PARABOLA).scaled(0.02)
    wanted = rates_along(rate, seen, seen.scaled(0.4), x)[1]
    inside = wanted[x >= 0]
    assert np.ptp(inside) == pytest.approx(0.4, abs=0.01)
    assert wanted.min() >= 0
    assert wanted.max() <= 1


@pytest.mark.parametrize("to", [0.0, 0.3, 0.5])
def test_flipped_rates_have_the_curve_that_a_truth_stands_for(to):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 6000)
    events = (rng.random(6000) < 0.4 + 0.2 * np.cos(x / 2)).astype(float)
    seen = Shape.of(curve_of(x, events, analytic=True).curve)
    assert seen.reach == pytest.approx(0.4, abs=0.06)
    now, wanted = rates_along(float(events.mean()), seen, seen.scaled(to), x)
    moved = flipped(events, now, wanted - now, rng)
    assert set(np.unique(moved)) == {0.0, 1.0}
    found = Shape.of(curve_of(x, moved, analytic=True).curve)
    assert found.reach == pytest.approx(to, abs=0.06)
    if to:
        assert np.corrcoef(found.y, seen.y)[0, 1] > 0.98


# ── far tails of the largest ────────────────────────────────────────────────────────────────────────────────────────


def largest_of(count, seed, df=60):
    """Largest |t| of the 78 differences of 13 points that rest on three coefficients, as those of a curve do."""
    rng = np.random.default_rng(seed)
    at = np.linspace(-1, 1, 13)
    upper, lower = np.triu_indices(13, 1)
    pairs = np.column_stack([at, at**2, at**3])[upper] - np.column_stack([at, at**2, at**3])[lower]
    pairs /= np.linalg.norm(pairs, axis=1)[:, None]
    t = rng.standard_normal((count, 3)) / np.sqrt(rng.chisquare(df, count) / df)[:, None]
    return np.abs(t @ pairs.T).max(axis=1)


def test_the_largest_is_continued_as_many_more_draws_have_it():
    many = PermutedTails(largest_of(400_000, 1))
    at = np.quantile(many.draws, [0.995, 0.999, 0.9998])
    ratios = []
    for seed in range(40):
        few = ExtendedLargest(largest_of(PERMUTATIONS, 100 + seed), 60.0)
        ratios.append([few.upper_p(t) / many.upper_p(t) for t in at])
        for level in (0.05, 0.03):
            assert few.upper_quantile(level) == PermutedTails(few.draws).upper_quantile(level)
        assert few.upper_p(few.upper_quantile(0.004)) == pytest.approx(0.004)
    middle = np.exp(np.log(ratios).mean(axis=0))
    assert np.all((middle > 0.6) & (middle < 1.25)), middle


def test_a_larger_statistic_never_has_a_larger_p():
    tails = ExtendedLargest(largest_of(499, 3), 30.0)
    p = [tails.upper_p(t) for t in np.linspace(0, 9, 300)]
    assert np.all(np.diff(p) <= 1e-15)


def test_beyond_can_be_shown_among_40_planned_cells_and_within_is_untouched():
    x, y = a_world(90)
    c = curve_of(x, y + 2e-4 * (x - x.mean()) ** 2, permutations=PERMUTATIONS)
    assert isinstance(c.margin_test.tails, PermutedCombinations)
    far = replace(c.margin_test, estimates=c.margin_test.estimates * 3)
    more = extended(far, c.df)
    assert far.p_beyond == pytest.approx(1 / (PERMUTATIONS + 1))
    assert more.p_beyond < 0.05 / 40
    near = extended(c.margin_test, c.df)
    assert near.p_within == c.margin_test.p_within
    assert near.whisker(0.05) == c.margin_test.whisker(0.05)


def test_tails_that_are_not_permuted_stay():
    x, y = a_world(90)
    test = curve_of(x, y, analytic=True).margin_test
    assert isinstance(test, LargestDifference)
    assert extended(test, 30.0) is test
    assert extended(None, 30.0) is None
    assert SkewedT(30.0).upper_p(2.0) > 0
