"""The AUC's variance against slow replicas, and the coverage of its interval."""

import numpy as np
import pytest
from scipy import stats

from gradaudit.performance.ranking import auc_interval, obuchowski_variance, placements


def slow_obuchowski(score, positive, cluster):
    """Sums of kernels, pair by pair, after the paper's equations."""
    m, n = int(positive.sum()), int((~positive).sum())
    kernel = lambda x, y: 1.0 if x > y else 0.5 if x == y else 0.0  # noqa: E731
    theta = sum(kernel(x, y) for x in score[positive] for y in score[~positive]) / (m * n)
    x_of, y_of, m_of, n_of = {}, {}, {}, {}
    for i, c in enumerate(cluster):
        for table in (x_of, y_of, m_of, n_of):
            table.setdefault(c, 0.0)
        if positive[i]:
            x_of[c] += sum(kernel(score[i], y) for y in score[~positive]) / n
            m_of[c] += 1
        else:
            y_of[c] += sum(kernel(x, score[i]) for x in score[positive]) / m
            n_of[c] += 1
    i10, i01, i = sum(v > 0 for v in m_of.values()), sum(v > 0 for v in n_of.values()), len(m_of)
    s10 = i10 / ((i10 - 1) * m) * sum((x_of[c] - m_of[c] * theta) ** 2 for c in m_of)
    s01 = i01 / ((i01 - 1) * n) * sum((y_of[c] - n_of[c] * theta) ** 2 for c in m_of)
    s11 = i / (i - 1) * sum((x_of[c] - m_of[c] * theta) * (y_of[c] - n_of[c] * theta) for c in m_of)
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def slow_delong(score, positive):
    x, y = score[positive], score[~positive]
    kernel = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    return np.var(kernel.mean(axis=1), ddof=1) / len(x) + np.var(kernel.mean(axis=0), ddof=1) / len(
        y
    )


@pytest.mark.parametrize("seed", range(5))
def test_obuchowski_equals_its_replica_and_delong_without_clusters(seed):
    rng = np.random.default_rng(seed)
    score, positive, cluster = (
        np.round(rng.standard_normal(60), 1),
        rng.random(60) < 0.4,
        rng.integers(0, 15, 60),
    )
    assert obuchowski_variance(score, positive, cluster) == pytest.approx(
        slow_obuchowski(score, positive, cluster), rel=1e-10
    )
    assert obuchowski_variance(score, positive, np.arange(60)) == pytest.approx(
        slow_delong(score, positive), rel=1e-10
    )


@pytest.mark.parametrize(
    ("clusters", "shift", "correlation"), [(30, 0.0, 0.5), (30, 1.2, 0.5), (80, 2.0, 0.0)]
)
def test_auc_intervals_cover(clusters, shift, correlation):
    rng, inside, true = np.random.default_rng(11), 0, stats.norm.cdf(shift / np.sqrt(2))
    for _ in range(300):
        cluster = np.repeat(np.arange(clusters), rng.integers(1, 6, clusters))
        positive = rng.random(len(cluster)) < 0.35
        noise = np.sqrt(correlation) * rng.standard_normal(clusters)[cluster] + np.sqrt(
            1 - correlation
        ) * rng.standard_normal(len(cluster))
        score = noise + shift * positive
        low, high = auc_interval(placements(score, positive)[0], positive, score, cluster, 0.05)
        inside += low <= true <= high
    assert 0.91 <= inside / 300 <= 0.995
