"""Performance metrics against scikit-learn, fairlearn, statsmodels and the jackknife."""

import numpy as np
import pandas as pd
import pytest
from classifier_results import data_of, measurements, table_of
from scipy import stats
from sklearn import metrics as sk

from gradaudit.performance.intervals import (
    clustered_variance,
)
from gradaudit.performance.metrics import FIGURES, Predictions
from gradaudit.records import ALL


def test_estimates_equal_fairlearn_and_scikit_learn():
    fairlearn = pytest.importorskip("fairlearn.metrics")
    meas = measurements()
    images = meas.images
    truth, guess, score = (
        images["label"] == "malignant",
        images["predicted"] == "malignant",
        images["probability.malignant"],
    )
    frame = fairlearn.MetricFrame(
        metrics={
            "accuracy": sk.accuracy_score, "sensitivity": fairlearn.true_positive_rate, "specificity": fairlearn.true_negative_rate,
            "ppv": sk.precision_score,
        },
        y_true=truth, y_pred=guess, sensitive_features=images["subgroup.site"],
    )  # fmt: skip
    found = table_of(meas)
    for level in ("a", "b", "c"):
        rows = (images["subgroup.site"] == level).to_numpy()
        for metric in ("accuracy", "sensitivity", "specificity", "ppv"):
            assert found[level, metric].estimate == pytest.approx(
                frame.by_group.loc[level, metric], abs=1e-12
            )
        assert found[level, "auc"].estimate == pytest.approx(
            sk.roc_auc_score(truth[rows], score[rows]), abs=1e-12
        )
        assert found[level, "brier"].estimate == pytest.approx(
            sk.brier_score_loss(truth[rows], score[rows]), abs=1e-12
        )
    assert found[ALL, "accuracy"].estimate == pytest.approx(frame.overall["accuracy"], abs=1e-12)
    assert found["a", "sensitivity"].n_images == int(
        (truth & (images["subgroup.site"] == "a")).sum()
    )


def test_macro_averages_equal_scikit_learn():
    meas = measurements(600, ("x", "y", "z"))
    images, found = meas.images, table_of(meas)
    p = images[["probability.x", "probability.y", "probability.z"]].to_numpy()
    assert found[ALL, "sensitivity"].estimate == pytest.approx(
        sk.balanced_accuracy_score(images["label"], images["predicted"]), abs=1e-12
    )
    assert found[ALL, "ppv"].estimate == pytest.approx(
        sk.precision_score(images["label"], images["predicted"], average="macro"), abs=1e-12
    )
    assert found[ALL, "auc"].estimate == pytest.approx(
        sk.roc_auc_score(images["label"], p, multi_class="ovr", average="macro"), abs=1e-12
    )
    each = [sk.recall_score(images["label"] != name, images["predicted"] != name) for name in "xyz"]
    assert found[ALL, "specificity"].estimate == pytest.approx(np.mean(each), abs=1e-12)
    assert found[ALL, "sensitivity"].reason == "mean over 3 classes, each against the rest"
    truth = (images["label"].to_numpy()[:, None] == np.array(["x", "y", "z"])) * 1.0
    assert found[ALL, "brier"].estimate == pytest.approx(
        ((p - truth) ** 2).sum(axis=1).mean(), abs=1e-12
    )
    assert found[ALL, "calibration_slope"].estimate is None
    assert "positive_class" in found[ALL, "calibration_slope"].reason


@pytest.mark.parametrize("metric", ["sensitivity", "specificity", "ppv", "auc"])
def test_macro_influences_give_the_jackknife_variance(metric):
    """Leaving out one cluster at a time needs no formula; linearisation has to agree with it."""
    meas = measurements(600, ("x", "y", "z"), seed=3)
    images = meas.images
    label, guess = (
        images[c].map({"x": 0, "y": 1, "z": 2}).to_numpy(dtype=int) for c in ("label", "predicted")
    )
    p = images[["probability.x", "probability.y", "probability.z"]].to_numpy()
    cluster = pd.factorize(images["cluster"])[0]
    data = Predictions(
        ("x", "y", "z"), label, guess, (label == guess) * 1.0, p, cluster, None, "none"
    )
    whole = FIGURES[metric](data, 0.05)
    left_out = np.array(
        [
            FIGURES[metric](data.take(np.flatnonzero(cluster != c)), 0.05).estimate
            for c in range(cluster.max() + 1)
        ]
    )
    jackknife = (len(left_out) - 1) / len(left_out) * np.sum((left_out - left_out.mean()) ** 2)
    assert clustered_variance(whole.influence, cluster) == pytest.approx(jackknife, rel=0.04)


def test_calibration_slope_equals_statsmodels_with_clustered_errors():
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    cluster = rng.integers(0, 80, 400)
    score = 1 / (1 + np.exp(-1.5 * rng.standard_normal(400)))
    label = (rng.random(400) < 1 / (1 + np.exp(-0.6 * np.log(score / (1 - score))))).astype(int)
    found = FIGURES["calibration_slope"](data_of(label, score, cluster), 0.05)
    x = sm.add_constant(np.log(score / (1 - score)))
    fit = sm.GLM(label, x, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False}
    )
    groups = len(np.unique(cluster))
    half = stats.t.ppf(0.975, groups - 1) * fit.bse[1] * np.sqrt(groups / (groups - 1))
    assert found.estimate == pytest.approx(fit.params[1], abs=1e-7)
    assert (found.low, found.high) == pytest.approx(
        (fit.params[1] - half, fit.params[1] + half), abs=1e-6
    )


def test_perfect_and_one_class_data():
    perfect = data_of([0, 0, 1, 1] * 10, [0.1, 0.2, 0.8, 0.9] * 10, np.arange(40))
    found = {name: figure(perfect, 0.05) for name, figure in FIGURES.items()}
    assert found["auc"].estimate == found["accuracy"].estimate == 1.0
    assert 0.7 < found["auc"].low < 1.0 == found["auc"].high
    assert found["calibration_slope"].estimate is None
    assert "separate" in found["calibration_slope"].reason
    healthy = data_of([0] * 30, np.linspace(0.1, 0.4, 30), np.arange(30))
    assert FIGURES["sensitivity"](healthy, 0.05).reason == "no image of the positive class"
    assert FIGURES["ppv"](healthy, 0.05).reason == "the positive class was never predicted"
    assert FIGURES["auc"](healthy, 0.05).estimate is None
    assert FIGURES["specificity"](healthy, 0.05).estimate == 1.0
