"""Intervals of proportions against statsmodels, and their coverage where images are clustered."""

import numpy as np
import pytest
from scipy import stats

from gradaudit.performance.intervals import (
    proportion,
    wilson,
    wilson_clustered,
)


def test_wilson_equals_statsmodels_where_nothing_is_clustered():
    from statsmodels.stats.proportion import proportion_confint

    assert wilson(0.3, 50, 10**9, 0.05) == pytest.approx(
        proportion_confint(15, 50, method="wilson"), abs=1e-7
    )
    assert wilson(0.0, 50, 10**9, 0.05) == pytest.approx(
        proportion_confint(0, 50, method="wilson"), abs=1e-7
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_intervals_have_a_width_at_the_ends(value):
    low, high = wilson_clustered(value, 0.0, np.repeat(np.arange(20), 3))
    assert 0 <= low <= value <= high <= 1
    assert high - low == pytest.approx(
        wilson(0.0, 20, 19, 0.05)[1]
    )  # twenty clusters of three count as twenty


def test_more_images_of_the_same_patients_tell_nothing_new():
    hits = np.random.default_rng(0).random(40) < 0.7
    once = proportion(hits * 1.0, np.ones(40, dtype=bool), np.arange(40), 0.05, "")
    thrice = proportion(
        np.repeat(hits, 3) * 1.0, np.ones(120, dtype=bool), np.repeat(np.arange(40), 3), 0.05, ""
    )
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=1e-12)


def coverage_of_proportion(rng, clusters, p, correlation, runs=400, largest=8):
    cut, inside = stats.norm.ppf(p), 0
    for _ in range(runs):
        cluster = np.repeat(np.arange(clusters), rng.integers(1, largest + 1, clusters))
        noise = np.sqrt(correlation) * rng.standard_normal(clusters)[cluster] + np.sqrt(
            1 - correlation
        ) * rng.standard_normal(len(cluster))
        found = proportion(
            (noise < cut) * 1.0, np.ones(len(cluster), dtype=bool), cluster, 0.05, ""
        )
        inside += found.low <= p <= found.high
    return inside / runs


@pytest.mark.parametrize(
    ("clusters", "p", "correlation"),
    [(30, 0.5, 0.5), (30, 0.9, 0.5), (30, 0.98, 0.3), (12, 0.9, 0.0), (100, 0.8, 0.7)],
)
def test_proportion_intervals_cover(clusters, p, correlation):
    covered = coverage_of_proportion(np.random.default_rng(7), clusters, p, correlation)
    assert 0.91 <= covered <= 0.995


def test_the_naive_interval_does_not_cover():
    """Teeth of the simulation: the same samples with every image as its own patient."""
    rng, inside = np.random.default_rng(7), 0
    for _ in range(300):
        cluster = np.repeat(np.arange(30), rng.integers(1, 9, 30))
        noise = np.sqrt(0.7) * rng.standard_normal(30)[cluster] + np.sqrt(
            0.3
        ) * rng.standard_normal(len(cluster))
        found = proportion(
            (noise < 0) * 1.0, np.ones(len(cluster), dtype=bool), np.arange(len(cluster)), 0.05, ""
        )
        inside += found.low <= 0.5 <= found.high
    assert inside / 300 < 0.85
