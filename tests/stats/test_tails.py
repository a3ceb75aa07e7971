"""Both tails of a signed statistic: permuted ones by counting, t with skewness by its own inverse and by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from gradaudit.stats import tails
from gradaudit.stats.permutation import critical_value
from gradaudit.stats.tails import PermutedTails, SkewedT, skewness_of_estimate


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-8, 8), min_size=19, max_size=200),
    st.sampled_from([0.01, 0.05, 0.1, 0.2]),
    st.floats(-5, 5),
)
def test_permuted_tails_count(draws, level, t):
    draws = np.array(draws) / 2
    own = PermutedTails(draws)
    assert own.upper_p(t) == pytest.approx(
        (1 + np.sum(draws >= t - 1e-9 * abs(t))) / (len(draws) + 1)
    )
    assert own.lower_p(t) == pytest.approx(
        (1 + np.sum(-draws >= t - 1e-9 * abs(t))) / (len(draws) + 1)
    )
    rank = int(np.floor(level * (len(draws) + 1) + 1e-9))
    expected = np.sort(draws)[::-1][rank - 1] if rank else np.inf
    assert own.upper_quantile(level) == expected
    assert own.lower_quantile(level) == (np.sort(-draws)[::-1][rank - 1] if rank else np.inf)
    mirrored = PermutedTails(-draws)
    assert mirrored.upper_p(t) == own.lower_p(t)


@pytest.mark.parametrize("level", [0.05, 0.01, 0.025])
def test_quantile_and_p_of_one_tail_agree(level):
    """p <= level exactly where t lies above the quantile: the word and the whisker are one decision."""
    draws = np.random.default_rng(2).standard_normal(1999)
    own, q = PermutedTails(draws), PermutedTails(draws).upper_quantile(level)
    assert own.upper_p(q * (1 + 1e-6)) <= level < own.upper_p(q * (1 - 1e-6))


def test_infinite_statistics_are_the_largest():
    own = PermutedTails(np.r_[np.linspace(-1, 1, 37), np.inf, -np.inf])
    assert own.upper_p(50.0) == pytest.approx(2 / 40)
    assert own.upper_quantile(1 / 40) == np.inf
    assert own.lower_quantile(1 / 40) == np.inf
    assert own.upper_quantile(0.5 / 40) == np.inf  # no statistic is that rare


def test_two_symmetric_tails_make_the_two_sided_quantile():
    draws = np.random.default_rng(3).standard_normal(4999)
    both = PermutedTails(np.r_[draws, -draws])
    assert both.upper_quantile(0.025) == pytest.approx(
        critical_value(np.abs(draws), 0.05), rel=1e-3
    )


@pytest.mark.parametrize("df", [5.0, 60.0, np.inf])
def test_without_skewness_it_is_student(df):
    own, student = SkewedT(df), scipy_stats.norm if np.isinf(df) else scipy_stats.t(df)
    for level in (0.05, 0.000625):
        assert own.upper_quantile(level) == pytest.approx(student.isf(level))
        assert own.lower_quantile(level) == pytest.approx(student.isf(level))
    for t in (-1.0, 0.0, 2.0, 5.0):
        assert own.upper_p(t) == pytest.approx(student.sf(t))


@pytest.mark.parametrize("a", [0.2, -0.2, 0.07])
def test_skewed_t_as_the_formula_has_it_and_p_is_its_inverse(a):
    own = SkewedT(80.0, a)
    for level in (0.2, 0.05, 0.001):
        z = scipy_stats.norm.isf(level)
        moved = a / 6 * (2 * z**2 + 1)
        assert own.upper_quantile(level) == pytest.approx(scipy_stats.t.isf(level, 80) - moved)
        assert own.lower_quantile(level) == pytest.approx(scipy_stats.t.isf(level, 80) + moved)
        assert own.upper_p(own.upper_quantile(level)) == pytest.approx(level, rel=1e-6)
        assert own.lower_p(own.lower_quantile(level)) == pytest.approx(level, rel=1e-6)
    assert own.upper_p(-50.0) == 1.0
    assert own.upper_p(50.0) < 1e-9


def test_skewness_of_an_estimate_by_hand():
    w, e = np.array([0.5, 0.5, -1.0]), np.array([2.0, -1.0, 0.3])
    terms = w * e
    assert skewness_of_estimate(w, e) == pytest.approx(np.sum(terms**3) / np.sum(terms**2) ** 1.5)
    assert skewness_of_estimate(-w, e) == pytest.approx(-skewness_of_estimate(w, e))
    assert skewness_of_estimate(w, np.zeros(3)) == 0.0


def test_skewed_t_is_nearer_to_the_truth_than_student():
    """t of 40 gamma values: the upper tail is short, the lower one long; the expansion finds both."""
    rng = np.random.default_rng(8)
    y = rng.gamma(1.0, 1.0, (60_000, 40)) - 1
    t = y.mean(1) / (y.std(1, ddof=1) / np.sqrt(40))
    own, student = SkewedT(39.0, 2 / np.sqrt(40)), SkewedT(39.0)
    for q, reached in (
        (SkewedT.upper_quantile, lambda q: np.mean(t >= q)),
        (SkewedT.lower_quantile, lambda q: np.mean(-t >= q)),
    ):
        assert abs(reached(q(own, 0.05)) - 0.05) < 0.6 * abs(reached(q(student, 0.05)) - 0.05)


def test_the_expansion_rises_over_its_whole_range():
    """Up to the largest skewness for which it is used, and as far out as p is looked for."""
    z = np.linspace(-6.5, 6.5, 400)
    for a in (tails.MOST_SKEWED, -tails.MOST_SKEWED):
        own = SkewedT(200.0, a)
        levels = scipy_stats.norm.sf(z)
        values = [own.upper_quantile(level) for level in levels]
        assert np.all(np.diff(values) > 0)
