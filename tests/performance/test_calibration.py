"""Calibration curves: bins that hold enough, equal confidences together, and shares with the interval of the accuracy."""

import numpy as np
import pandas as pd
import pytest
from planted_levels import planted

from gradaudit.performance.calibration import calibration_curves, filled_bins
from gradaudit.performance.metrics import accuracy
from gradaudit.performance.table import predictions
from gradaudit.plan import Plan


def curves_of(meas, min_cell=1, narrowed=None, confidence=None):
    levels = {"tone": pd.Series(pd.Categorical(meas.images["subgroup.tone"]))}
    data, rows = predictions(meas, Plan())
    own = (
        meas.images["probability"].to_numpy(float)[rows] if confidence is None else confidence[rows]
    )
    return {
        c.level: c.points
        for c in calibration_curves(data, own, rows, levels, narrowed or {}, min_cell)
    }


def clean(sizes, seed=0, **how):
    return planted(
        sizes, seed, **{"fail": 0.0, "cold": 0.0, "absent": 0.0, "unlabelled": 0.0, **how}
    )


@pytest.mark.parametrize(
    ("n", "least", "bins"),
    [
        (29, 10, 2),
        (30, 10, 3),
        (99, 10, 9),
        (100, 10, 10),
        (1000, 10, 10),
        (33, 11, 3),
        (19, 10, 1),
        (20, 10, 2),
    ],
)
def test_as_many_bins_as_hold_enough(n, least, bins):
    codes = filled_bins(np.random.default_rng(n).permutation(n) / n, np.arange(n), least)
    counts = np.bincount(codes)
    assert len(counts) == bins
    assert bins == 1 or counts.min() >= least
    assert counts.max() - counts.min() <= 1


def test_a_bin_holds_enough_patients_not_images():
    values = np.arange(200) / 200
    assert len(np.bincount(filled_bins(values, np.arange(200), 10))) == 10
    assert (
        len(np.bincount(filled_bins(values, np.arange(200) // 10, 10))) == 2
    )  # twenty patients of ten images
    assert len(np.bincount(filled_bins(values, np.arange(200) // 20, 10))) == 1


def test_equal_confidences_are_in_one_bin_whatever_the_order():
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(60, 0.999), np.full(40, 0.5), rng.uniform(0.5, 0.99, 50)])
    codes = filled_bins(values, np.arange(150), 10)
    assert len(set(codes[values == 0.999])) == len(set(codes[values == 0.5])) == 1
    order = rng.permutation(150)
    assert (filled_bins(values[order], np.arange(150), 10) == codes[order]).all()
    assert set(filled_bins(np.full(100, 0.7), np.arange(100), 10)) == {0}


@pytest.mark.parametrize(
    ("n", "min_cell", "told"), [(29, 1, 0), (30, 1, 1), (32, 11, 0), (33, 11, 1)]
)
def test_a_curve_has_three_points_of_ten_images(n, min_cell, told):
    assert len(curves_of(clean({"I": n}), min_cell)) == told


@pytest.mark.parametrize("seed", [0, 1])
def test_each_point_is_counted_by_hand(seed):
    meas = planted({"I": 90, "II": 140}, seed, images_per_cluster=2)
    usable = meas.images[meas.images["label"].notna() & (meas.images["status"] == "ok")]
    found = curves_of(meas)
    assert set(found) == {"I", "II"}
    for level, points in found.items():
        own = usable[usable["subgroup.tone"] == level].sort_values("probability")
        assert sum(p.n_images for p in points) == len(own)
        ends = np.cumsum([0, *(p.n_images for p in points)])
        for p, start, end in zip(points, ends[:-1], ends[1:], strict=True):
            part = own.iloc[start:end]
            assert p.confidence == pytest.approx(part["probability"].mean(), rel=1e-3)
            assert p.correct == pytest.approx((part["label"] == part["predicted"]).mean(), rel=1e-3)
            assert part["cluster"].nunique() >= 10
            assert p.low <= p.correct <= p.high
        confidences = [p.confidence for p in points]
        assert confidences == sorted(confidences)


def test_the_interval_is_that_of_the_accuracy_of_the_bins_images():
    meas = planted({"I": 200}, 3, images_per_cluster=3)
    data, rows = predictions(meas, Plan())
    order = np.argsort(meas.images["probability"].to_numpy(float)[rows], kind="stable")
    points, start = curves_of(meas)["I"], 0
    for p in points:
        own = accuracy(data.take(order[start : start + p.n_images]))
        assert (p.low, p.high) == pytest.approx((own.low, own.high), rel=1e-3)
        start += p.n_images
    assert start == len(rows)
    assert len(points) > 3


def test_no_curve_where_a_confidence_is_not_known():
    meas = clean({"I": 60, "II": 60})
    confidence = meas.images["probability"].to_numpy(float).copy()
    confidence[5] = np.nan
    assert set(curves_of(meas, confidence=confidence)) == {"II"}


def test_narrowed_levels_are_of_the_same_images_as_their_accuracy():
    meas = clean({"I": 80, "II": 80})
    kept = np.arange(160) % 2 == 0
    found = curves_of(meas, narrowed={("tone", "I"): kept})
    assert sum(p.n_images for p in found["I"]) == 40
    assert sum(p.n_images for p in found["II"]) == 80
