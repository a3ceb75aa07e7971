"""Pseudo-values against leaving each cluster out, and when there are none."""

import numpy as np
import pytest
from classifier_results import measurements, table_of

from gradaudit.performance.metrics import FIGURES
from gradaudit.performance.pseudo_values import pseudo_values
from gradaudit.performance.table import predictions
from gradaudit.plan import Plan


@pytest.mark.parametrize("classes", [("no", "yes"), ("x", "y", "z")])
@pytest.mark.parametrize("name", ["sensitivity", "specificity", "ppv", "auc"])
def test_pseudo_values_equal_leaving_each_cluster_out(classes, name):
    """Of shares of one class there are none: these are means over images."""
    data, _ = predictions(measurements(n=260, classes=classes, per_cluster=4), Plan())
    found = pseudo_values(name, data, data)
    if len(classes) == 2 and name != "auc":
        assert found is None
        return
    scaled = lambda rows: np.arcsin(np.sqrt(FIGURES[name](data.take(rows), 0.05).estimate))  # noqa: E731
    codes, everything = np.unique(data.cluster), np.ones(len(data.label), dtype=bool)
    expected = [
        len(codes) * scaled(everything) - (len(codes) - 1) * scaled(data.cluster != c)
        for c in codes
    ]
    np.testing.assert_array_equal(found.clusters, codes)
    np.testing.assert_allclose(found.values, expected, atol=1e-9)


def test_pseudo_values_of_the_slope_average_to_it_and_follow_the_deletions():
    data, _ = predictions(measurements(n=600), Plan())
    slope = FIGURES["calibration_slope"](data, 0.05).estimate
    found = pseudo_values("calibration_slope", data, data)
    codes, values = found.clusters, found.values
    assert values.mean() == pytest.approx(slope, abs=1e-9)
    without = [
        FIGURES["calibration_slope"](data.take(data.cluster != c), 0.05).estimate for c in codes
    ]
    assert (
        np.corrcoef(values, len(codes) * slope - (len(codes) - 1) * np.array(without))[0, 1] > 0.99
    )


def test_a_class_in_too_few_clusters_leaves_the_auc_untested():
    meas = measurements(n=300)
    own = meas.images["subgroup.site"] == "b"
    patients = meas.images.loc[own, "cluster"].unique()
    meas.images.loc[own & ~meas.images["cluster"].isin(patients[:9]), "label"] = "benign"
    rows = table_of(meas)
    assert rows["b", "auc_difference"].test.p is None
    assert rows["b", "auc_difference"].estimate is not None
    assert rows["b", "accuracy_difference"].test.p is not None


@pytest.mark.parametrize("classes", [("benign", "malignant"), ("x", "y", "z")])
def test_where_nearly_every_image_is_ranked_right_there_is_no_p(classes):
    """Pseudo-values differ by class even then; the guard looks at what is right and what is ranked right."""
    meas = measurements(n=600, classes=classes, per_cluster=1)
    meas.images["cluster"] = [f"c{k}" for k in range(600)]
    sure = np.where(
        meas.images[["label"]].to_numpy() == np.array(classes), 0.9, 0.1 / (len(classes) - 1)
    )
    sure[:4] = sure[:4, ::-1]  # four images are wrong
    meas.images[[f"probability.{name}" for name in classes]] = sure
    meas.images["predicted"] = np.array(classes)[sure.argmax(axis=1)]
    rows = table_of(meas)
    for metric in ("accuracy", "sensitivity", "specificity", "ppv", "auc"):
        assert rows["a", f"{metric}_difference"].test.p is None, metric
