"""Performance by group: point estimates against scikit-learn and fairlearn, variances against slow replicas, coverage by simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk

from gradaudit.performance.differences import mover_difference
from gradaudit.performance.intervals import (
    Figure,
    clustered_variance,
    proportion,
    wilson,
    wilson_clustered,
)
from gradaudit.performance.metrics import FIGURES, Predictions
from gradaudit.performance.pseudo_values import pseudo_values
from gradaudit.performance.ranking import auc_interval, obuchowski_variance, placements
from gradaudit.performance.table import performance_table, positive_class, predictions
from gradaudit.plan import Plan
from gradaudit.records import ALL, Measurements
from gradaudit.stats.multiplicity import benjamini_hochberg
from gradaudit.subgroups.comparison import disparity
from gradaudit.subgroups.contrast import TEST_NAMES


def measurements(
    n=400, classes=("benign", "malignant"), seed=0, groups=("a", "b", "c"), per_cluster=3
):
    """Labels, predictions and probabilities of a mediocre classifier; no heat."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(classes), n)
    logits = rng.standard_normal((n, len(classes))) + 1.2 * (
        label[:, None] == np.arange(len(classes))
    )
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cluster = rng.integers(0, max(1, n // per_cluster), n)
    names = np.array(classes, dtype=object)
    images = pd.DataFrame({
        "image_id": [f"i{k}" for k in range(n)], "path": [f"{k}.png" for k in range(n)], "label": names[label], "predicted": names[p.argmax(axis=1)],
        "probability": p.max(axis=1), "correct": pd.array(label == p.argmax(axis=1), dtype="boolean"), "cluster": [f"c{k}" for k in cluster],
        "status": "ok", "reason": "", "subgroup.site": np.array(groups, dtype=object)[rng.integers(0, len(groups), n)],
    })  # fmt: skip
    for k, name in enumerate(classes):
        images[f"probability.{name}"] = p[:, k]
    return Measurements(pd.DataFrame(), images, None, {"model": {"classes": list(classes)}})


def table_of(meas, plan=None, reference="rest"):
    levels = meas.images["subgroup.site"]
    groups = {
        "site": pd.Series(pd.Categorical(levels, categories=sorted(levels.unique()), ordered=True))
    }
    rows = performance_table(meas, plan or Plan(), groups, {"site": reference})
    return {(r.level, r.metric): r for r in rows}


def data_of(label, score, cluster, positive=1):
    label, score = np.asarray(label), np.asarray(score, dtype=float)
    p = np.column_stack([1 - score, score])
    guess = p.argmax(axis=1)
    return Predictions(
        ("0", "1"), label, guess, (label == guess) * 1.0, p, np.asarray(cluster), positive, ""
    )


# ── point estimates ─────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_labels_written_as_class_numbers_are_understood():
    meas = measurements(60)
    by_number = meas.images.assign(
        label=meas.images["label"].map({"benign": "0", "malignant": "1"})
    )
    again = Measurements(meas.table, by_number, None, meas.run)
    assert table_of(again)[ALL, "sensitivity"] == table_of(meas)[ALL, "sensitivity"]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("benign", "malignant"), "malignant"), (("normal", "pneumonia"), "pneumonia"), (("0", "1"), "1"), (("melanoma", "nevus"), "melanoma"),
        (("cat", "dog"), None), (("a", "b", "c"), None), (("yes", "positive"), None),
    ],
)  # fmt: skip
def test_the_positive_class_is_guessed_only_from_a_telling_name(classes, expected):
    assert positive_class(classes, Plan())[0] == expected


def test_a_declared_positive_class_must_exist():
    assert positive_class(("a", "b", "c"), Plan(analysis={"positive_class": "b"})) == ("b", "")
    name, why = positive_class(("a", "b"), Plan(analysis={"positive_class": "z"}))
    assert name is None
    assert "'z'" in why


# ── variances and intervals ─────────────────────────────────────────────────────────────────────────────────────────


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


# ── degenerate data ─────────────────────────────────────────────────────────────────────────────────────────────────


def finite_or_none(row):
    return all(v is None or math.isfinite(v) for v in (row.estimate, row.low, row.high))


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_tiny_data_gives_reasons_and_no_nan(keep):
    meas = measurements(20)
    few = Measurements(meas.table, meas.images.iloc[:keep].copy(), None, meas.run)
    rows = table_of(few).values()
    assert all(finite_or_none(row) for row in rows)
    assert all(row.reason for row in rows if row.estimate is None)


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


def test_unlabelled_and_failed_images_take_no_part():
    meas = measurements(100)
    images = meas.images.copy()
    images.loc[images.index[:10], "status"] = "failed"
    images.loc[images.index[10:30], "label"] = None
    images.loc[images.index[30:35], "label"] = "a class of another model"
    assert (
        table_of(Measurements(meas.table, images, None, meas.run))[ALL, "accuracy"].n_images == 65
    )


def test_without_probabilities_auc_says_why():
    meas = measurements(100)
    images = meas.images.drop(columns=["probability.benign", "probability.malignant"])
    found = table_of(Measurements(meas.table, images, None, meas.run))
    assert found[ALL, "auc"].estimate is None
    assert "not kept" in found[ALL, "auc"].reason
    assert found[ALL, "accuracy"] == table_of(meas)[ALL, "accuracy"]


def test_differences_name_their_reference():
    found = table_of(measurements(), reference="a")
    assert ("a", "accuracy_difference") not in found
    row = found["b", "accuracy_difference"]
    assert row.estimate == pytest.approx(
        found["b", "accuracy"].estimate - found["a", "accuracy"].estimate
    )
    assert row.low < row.estimate < row.high
    assert row.reason == "against a"


# ── differences, tested ─────────────────────────────────────────────────────────────────────────────────────────────


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
