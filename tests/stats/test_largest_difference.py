"""Many differences against one margin: by hand, against single tests, and words against pictures."""

import numpy as np
import pytest

from gradaudit.stats import linear_model, permutation
from gradaudit.stats.decision import LargestDifference, MarginTest, decide
from gradaudit.stats.tails import PermutedCombinations, PermutedTails, largest_of_normals

PAIRS = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0], [0.5, 2.0]])


def sample(seed, n=40, draws=199):
    """A model of two columns: its coefficients under permutation, row weights and residuals."""
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((n, 2))
    y = rng.standard_normal(n) + rng.gamma(1, 1, n)
    fit = linear_model.design(np.zeros(n, dtype=np.int64), columns)
    weights = np.column_stack([fit.row_weights(np.zeros(1), row) for row in np.eye(2)])
    residuals = fit.residuals(y)
    drawn = permutation.permuted_coefficients(fit, residuals, weights, draws, seed)
    return fit, residuals, weights, drawn


def a_family(seed, scale=0.1, margin=0.1):
    """A family of four differences with tails of its own."""
    rng = np.random.default_rng(seed)
    drawn = sample(seed)[3]
    estimates = scale * rng.standard_normal(4) * 2
    errors = scale * rng.uniform(0.2, 1.0, 4)
    return LargestDifference(estimates, errors, margin, PermutedCombinations(drawn, PAIRS))


def single(test, k):
    """One of the differences as a test of its own."""
    draws = test.tails.drawn.t(PAIRS)[:, k]
    return MarginTest(test.estimates[k], test.errors[k], test.margin, PermutedTails(draws))


def test_combinations_have_the_t_of_their_own_row_weights():
    """Linear in the coefficients, quadratic in their variances: equal to permuting each."""
    fit, residuals, weights, drawn = sample(1)
    slow, _ = permutation.reference_t(fit, residuals, weights @ PAIRS.T, 199, 1)
    assert np.allclose(drawn.t(PAIRS), slow, rtol=1e-9)


def test_three_coefficients_too():
    rng = np.random.default_rng(2)
    fit = linear_model.design(np.zeros(50, dtype=np.int64), rng.standard_normal((50, 3)))
    residuals = fit.residuals(rng.random(50))
    weights = np.column_stack([fit.row_weights(np.zeros(1), row) for row in np.eye(3)])
    pairs = rng.standard_normal((7, 3))
    drawn = permutation.permuted_coefficients(fit, residuals, weights, 99, 2)
    slow, _ = permutation.reference_t(fit, residuals, weights @ pairs.T, 99, 2)
    assert np.allclose(drawn.t(pairs), slow, rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_within_means_every_one_of_them(seed):
    test = a_family(seed, scale=0.03)
    each = [single(test, k) for k in range(4)]
    assert test.p_within == max(one.p_within for one in each)
    whiskers = np.array([one.whisker(0.05) for one in each])
    assert test.whisker(0.05) == (whiskers[:, 0].min(), whiskers[:, 1].max())


@pytest.mark.parametrize("seed", range(6))
def test_beyond_counts_the_largest_in_every_permutation(seed):
    test = a_family(seed)
    sizes = np.abs(test.tails.drawn.t(PAIRS)).max(axis=1)
    t = ((np.abs(test.estimates) - test.margin) / test.errors).max()
    expected = (1 + np.sum(sizes >= t)) / 200 if np.abs(test.estimates).max() > 0.1 else 1.0
    assert test.p_beyond == pytest.approx(expected)


def test_one_that_is_sure_is_not_hidden_by_a_larger_one_that_is_not():
    """The largest difference is 0.5 and unsure, another of 0.3 is far beyond: the whisker says 0.3."""
    tails = PermutedCombinations(sample(3)[3], np.eye(2))
    test = LargestDifference(np.array([0.5, -0.3]), np.array([0.4, 0.01]), 0.1, tails)
    decision = decide([test])[0]
    assert decision.word == "beyond"
    assert test.estimate == 0.5
    assert 0.2 < decision.thin[0] < 0.3
    assert decision.beyond_up_to == decision.thin[0]


def test_no_word_contradicts_its_picture():
    words = []
    for seed in range(400):
        rng = np.random.default_rng((4, seed))
        tests = [a_family(int(s), rng.choice([0.01, 0.03, 0.1])) for s in rng.integers(0, 60, 3)]
        for test, said in zip(tests, decide([*tests, None]), strict=False):
            words.append(said.word)
            outside = said.thin[0] >= test.margin or said.thin[1] <= -test.margin
            inside = -test.margin < said.thick[0] and said.thick[1] < test.margin
            assert (said.word == "beyond") == outside
            assert (said.word == "within") == inside
    assert {"beyond", "within", "open"} == set(words)


def test_where_there_are_too_few_permutations_nothing_is_beyond():
    test = a_family(0, scale=1.0)
    assert decide([test, *[None] * 400])[0].word == "open"


def test_the_largest_of_normals_is_exact_for_one_and_larger_for_many():
    one = largest_of_normals(np.array([[4.0]]), np.inf, 20000, 0)
    assert np.quantile(one, 0.95) == pytest.approx(1.96, abs=0.05)
    same = largest_of_normals(np.ones((5, 5)), np.inf, 20000, 0)
    assert np.quantile(same, 0.95) == pytest.approx(1.96, abs=0.05)
    many = largest_of_normals(np.eye(5), np.inf, 20000, 0)
    assert np.quantile(many, 0.95) == pytest.approx(2.57, abs=0.05)  # (0.95)^(1/5), two-sided
    short = largest_of_normals(np.array([[4.0]]), 5.0, 20000, 0)
    assert np.quantile(short, 0.95) == pytest.approx(2.57, abs=0.08)  # t with 5 df
