"""A bound on rare shares: by hand, and never too bold."""

import numpy as np
import pytest

from gradaudit.stats.decision import decide
from gradaudit.stats.rare_outcomes import agresti_caffo, share_bound


def test_agresti_and_caffo_by_hand():
    d, se = agresti_caffo([3, 0], [40, 100])
    p1, p0 = 4 / 42, 1 / 102
    assert d == pytest.approx(p1 - p0)
    assert se == pytest.approx(np.sqrt(p1 * (1 - p1) / 42 + p0 * (1 - p0) / 102))


@pytest.mark.parametrize(
    ("sums", "sizes", "margin", "word"),
    [
        ([1, 3], [300, 600], 0.05, "within"),
        ([1, 3], [30, 600], 0.05, "open"),
        ([0, 1], [60, 300], 0.10, "within"),
        ([90, 0], [100, 100], 0.05, "open"),  # a bound is no evidence of a difference
    ],
)
def test_it_says_within_or_nothing(sums, sizes, margin, word):
    assert decide([share_bound(sums, sizes, margin)])[0].word == word


@pytest.mark.parametrize(
    ("n1", "n0", "margin", "up"),
    [
        (150, 450, 0.05, True),
        (100, 100, 0.10, True),
        (100, 100, 0.10, False),
        (50, 100, 0.10, False),
    ],
)
def test_a_difference_at_the_margin_is_rarely_called_within(n1, n0, margin, up):
    """The cases that an undivided level gets wrong most often (up to 8.9 %)."""
    rng = np.random.default_rng(1)
    rates = (margin, 0.0) if up else (0.0, margin)
    events = rng.binomial((n1, n0), rates, (2000, 2))
    cases, counts = np.unique(events, axis=0, return_counts=True)
    within = [share_bound(case, (n1, n0), margin).p_within <= 0.05 for case in cases]
    assert np.sum(counts * np.array(within)) / 2000 <= 0.045
