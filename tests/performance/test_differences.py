"""Differences between groups: their intervals, and the tests of planted gaps."""

import numpy as np
import pytest
from classifier_results import measurements, table_of
from scipy import stats

from gradaudit.performance.differences import mover_difference
from gradaudit.performance.intervals import (
    Figure,
    proportion,
    wilson,
)
from gradaudit.plan import Plan
from gradaudit.stats.multiplicity import benjamini_hochberg
from gradaudit.subgroups.comparison import disparity
from gradaudit.subgroups.contrast import TEST_NAMES


def test_difference_intervals_cover_and_use_the_shared_patients():
    """Clusters with images on both sides: the correlation makes the interval shorter, and it still covers."""
    rng, inside, widths, unaware = np.random.default_rng(5), 0, [], []
    for _ in range(300):
        cluster = np.repeat(np.arange(40), 6)
        side = np.tile([True, True, True, False, False, False], 40)
        noise = np.sqrt(0.6) * rng.standard_normal(40)[cluster] + np.sqrt(
            0.4
        ) * rng.standard_normal(240)
        hits = (noise < np.where(side, 0.9, 0.4)) * 1.0
        figures = []
        for rows in (side, ~side):
            f = proportion(
                hits[rows], np.ones(int(rows.sum()), dtype=bool), cluster[rows], 0.05, ""
            )
            figures.append(
                Figure(
                    f.estimate,
                    f.low,
                    f.high,
                    influence=np.bincount(cluster[rows], weights=f.influence, minlength=40),
                )
            )
        true = stats.norm.cdf(0.9) - stats.norm.cdf(0.4)
        d, low, high = mover_difference(*figures)
        assert d == pytest.approx(figures[0].estimate - figures[1].estimate)
        inside += low <= true <= high
        widths.append(high - low)
        bare = [Figure(f.estimate, f.low, f.high) for f in figures]
        _, low, high = mover_difference(*bare)
        unaware.append(high - low)
    assert 0.91 <= inside / 300 <= 0.995
    assert np.mean(widths) < 0.8 * np.mean(unaware)


def test_mover_equals_newcombe_for_independent_groups():
    """Newcombe's method 10 on 56/70 against 48/80 (Newcombe 1998, Table II, contrast a): 0.0524 to 0.3339."""
    sides = [Figure(x / n, *wilson(x / n, n, 10**9, 0.05)) for x, n in ((56, 70), (48, 80))]
    d, low, high = mover_difference(*sides)
    assert (d, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_differences_name_their_reference():
    found = table_of(measurements(), reference="a")
    assert ("a", "accuracy_difference") not in found
    row = found["b", "accuracy_difference"]
    assert row.estimate == pytest.approx(
        found["b", "accuracy"].estimate - found["a", "accuracy"].estimate
    )
    assert row.low < row.estimate < row.high
    assert row.reason == "against a"


def _with_a_gap(seed=0):
    """In c every malignant image is called benign; nothing else differs."""
    meas = measurements(n=900, seed=seed)
    lost = (meas.images["subgroup.site"] == "c") & (meas.images["label"] == "malignant")
    meas.images.loc[lost, "predicted"] = "benign"
    meas.images["correct"] = meas.images["label"] == meas.images["predicted"]
    return meas


def test_a_planted_gap_has_a_small_p_and_the_others_do_not():
    rows = table_of(_with_a_gap())
    assert rows["c", "sensitivity_difference"].test.p_adjusted < 0.01
    assert rows["c", "accuracy_difference"].test.p_adjusted < 0.01
    assert rows["c", "specificity_difference"].test.p_adjusted > 0.05
    assert rows["a", "brier_difference"].test.p_adjusted > 0.05


def test_the_test_of_a_difference_is_that_of_the_heat():
    meas = measurements(n=300)
    rows, images = table_of(meas), meas.images
    found = disparity(
        images["correct"].astype(float),
        images["subgroup.site"],
        clusters=images["cluster"],
        permutations=1999,
        omnibus=False,
    )
    for c in found.contrasts:
        assert rows[c.group, "accuracy_difference"].test.p == c.p
        assert rows[c.group, "accuracy_difference"].test.name == TEST_NAMES[c.method]
    p = {key: row.test for key, row in rows.items() if row.test.p is not None}
    assert len(p) == 3 * 7
    assert all(metric.endswith("_difference") for _, metric in p)
    assert [t.p_adjusted for t in p.values()] == pytest.approx(
        list(benjamini_hochberg([t.p for t in p.values()]))
    )


def _rescored(meas, level, change):
    """The level's probabilities with ``change`` done to the logit of the second class, predictions to match."""
    own = (meas.images["subgroup.site"] == level).to_numpy()
    p = meas.images["probability.malignant"].to_numpy()
    p = np.where(own, 1 / (1 + np.exp(-change(np.log(p / (1 - p))))), p)
    meas.images["probability.malignant"], meas.images["probability.benign"] = p, 1 - p
    meas.images["predicted"] = np.where(p > 0.5, "malignant", "benign")
    return meas


def test_a_group_whose_ranking_is_worse_has_a_small_p_of_the_auc():
    rng = np.random.default_rng(3)
    rows = table_of(_rescored(measurements(n=900), "c", lambda logit: rng.permutation(logit)))
    assert rows["c", "auc_difference"].test.p_adjusted < 0.01
    assert rows["c", "auc_difference"].test.family == "exploratory"


def test_a_group_with_too_bold_probabilities_differs_in_calibration_and_not_in_ranking():
    rows = table_of(_rescored(measurements(n=900), "c", lambda logit: 3 * logit))
    assert rows["c", "calibration_slope_difference"].test.p < 0.001
    before = table_of(measurements(n=900))
    assert rows["c", "auc_difference"].test.p == before["c", "auc_difference"].test.p > 0.05


def test_patients_on_both_sides_are_compared_with_themselves():
    meas = measurements(n=400)
    meas.images["subgroup.site"] = np.where(np.arange(400) % 2, "a", "b")
    meas.images["cluster"] = [f"c{k // 4}" for k in range(400)]
    rows = table_of(meas)
    for metric in ("accuracy_difference", "auc_difference", "calibration_slope_difference"):
        assert rows["a", metric].test.name == TEST_NAMES["sign flip"]


def test_of_two_levels_both_rows_tell_the_one_comparison():
    rows = table_of(measurements(n=300, groups=("a", "b")))
    assert (
        rows["a", "accuracy_difference"].test.p
        == rows["b", "accuracy_difference"].test.p
        is not None
    )


def test_a_declared_reference_is_compared_with_each():
    rows = table_of(measurements(n=300), reference="b")
    assert ("b", "accuracy_difference") not in rows
    assert rows["a", "accuracy_difference"].test.p is not None


def test_too_few_clusters_have_no_p_and_a_third_class_counts_as_not_positive():
    small = measurements(n=300, groups=("a",) * 40 + ("b",))
    assert table_of(small)["b", "accuracy_difference"].test.p is None
    three = measurements(n=400, classes=("naevus", "wart", "melanoma"))
    rows = table_of(three, Plan(analysis={"positive_class": "melanoma"}))
    images = three.images[three.images["label"] != "melanoma"]
    found = disparity(
        (images["predicted"] != "melanoma") * 1.0,
        images["subgroup.site"],
        clusters=images["cluster"],
        permutations=1999,
        omnibus=False,
    )
    assert rows["a", "specificity_difference"].test.p == next(
        c.p for c in found.contrasts if c.group == "a"
    )
