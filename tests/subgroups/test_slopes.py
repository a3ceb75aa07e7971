"""Slopes over ordered levels and numbers, and departures from a line."""

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from gradaudit.subgroups.comparison import disparity


def test_ordered_levels_have_a_slope_and_a_departure():
    rng = np.random.default_rng(9)
    level = rng.integers(0, 4, 200)
    value = 0.2 + 0.03 * level + 0.1 * rng.random(200)
    found = disparity(value, np.array(list("abcd"))[level], order=list("abcd"), permutations=199)
    slope = next(c for c in found.contrasts if c.kind == "trend")
    assert (slope.group, slope.reference, slope.n_clusters, slope.n_clusters_reference) == (
        "d",
        "a",
        200,
        0,
    )
    assert slope.estimate == pytest.approx(3 * np.polyfit(level, value, 1)[0], rel=1e-9)
    bent = disparity(
        value + 0.1 * (level == 1),
        np.array(list("abcd"))[level],
        order=list("abcd"),
        permutations=199,
    )
    assert [
        next(c.p for c in f.contrasts if c.kind == "departure") < 0.05 for f in (found, bent)
    ] == [False, True]


@pytest.mark.parametrize("count", [3, 4, 5])
@pytest.mark.parametrize("patients", [90, 4000], ids=["permuted", "Student's t"])
def test_a_departure_is_a_joint_test_however_few_levels_there_are(count, patients):
    """Beside a line three levels leave one number, whose sign and scale are arbitrary: W is given, no difference and no margin."""
    rng = np.random.default_rng(count)
    level, names = rng.integers(0, count, patients), np.array(list("abcde"))
    value = rng.random(patients) + 0.05 * (level == 1)
    found = disparity(
        value, names[level], order=list("abcde")[:count], margin=0.1, permutations=199
    )
    bend = next(c for c in found.contrasts if c.kind == "departure")
    assert np.isnan(
        [
            bend.estimate,
            bend.se,
            bend.ci_low,
            bend.ci_high,
            bend.p_beyond,
            bend.p_within,
            bend.mde80,
        ]
    ).all()
    fit = OLS(value, np.eye(count)[level]).fit(cov_type="HC2")
    beside = np.linalg.svd(np.vander(np.arange(count), 2).T)[2][2:]
    assert bend.statistic == pytest.approx(
        float(fit.wald_test(beside, use_f=False, scalar=True).statistic), rel=1e-9
    )
    assert bend.df == count - 2
    slope = next(c for c in found.contrasts if c.kind == "trend")
    assert np.isfinite([slope.estimate, slope.mde80, slope.p_within]).all()


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [((40, 10, 30), ""), ((40, 9, 30), "fewer than three levels have 10 clusters")],
)
def test_a_departure_from_the_line_takes_three_levels(sizes, reason):
    level = np.repeat(np.arange(3), sizes)
    found = disparity(
        np.random.default_rng(29).random(len(level)),
        np.array(list("abc"))[level],
        order=list("abc"),
        permutations=99,
    )
    departure = next(c for c in found.contrasts if c.kind == "departure")
    assert departure.reason == reason
    assert np.isfinite(departure.p) == (not reason)


@pytest.mark.parametrize(
    ("sizes", "withheld"),
    [
        ((8, 8, 8), True),
        ((10, 8, 8), True),
        ((9, 300, 9), True),
        ((12, 3, 12), False),
        ((300, 120, 60, 25, 12), False),
        ((8, 8, 8, 8), False),
    ],
)
def test_a_line_needs_patients_at_both_its_ends(sizes, withheld):
    """A middle level holds neither end; of four small levels the inner ones hold a part of theirs."""
    level = np.repeat(np.arange(len(sizes)), sizes)
    value = np.random.default_rng(4).random(len(level))
    found = disparity(
        value, np.array(list("abcde"))[level], order=list("abcde")[: len(sizes)], permutations=99
    )
    trend = next(c for c in found.contrasts if c.kind == "trend")
    assert bool(trend.reason) == withheld
    assert np.isnan(trend.p) == withheld
    if withheld:
        assert "clusters that hold one end of the line" in trend.reason


def test_continuous_attribute_is_quoted_from_p10_to_p90_and_a_bend_is_seen():
    rng = np.random.default_rng(10)
    age = rng.normal(50, 12, 300)
    value = 0.3 + 0.002 * age + 0.05 * rng.random(300)
    found = disparity(value, age, continuous=True, permutations=199)
    line, bend, _ = found.contrasts
    reach = np.subtract(*np.quantile(age, [0.9, 0.1]))
    assert line.estimate == pytest.approx(reach * np.polyfit(age, value, 1)[0], rel=1e-9)
    assert (
        bend.p
        > 0.05
        > disparity(value + 0.0005 * (age - 50) ** 2, age, continuous=True, permutations=199)
        .contrasts[1]
        .p
    )
