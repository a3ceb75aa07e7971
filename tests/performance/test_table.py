"""The performance table: its estimates, labels and positive class, and what tiny data give."""

import math

import pytest
from classifier_results import measurements, table_of

from gradaudit.performance.table import positive_class
from gradaudit.plan import Plan
from gradaudit.records import ALL
from gradaudit.runs.measurements import Measurements


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


def finite_or_none(row):
    return all(v is None or math.isfinite(v) for v in (row.estimate, row.low, row.high))


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_tiny_data_gives_reasons_and_no_nan(keep):
    meas = measurements(20)
    few = Measurements(meas.table, meas.images.iloc[:keep].copy(), None, meas.run)
    rows = table_of(few).values()
    assert all(finite_or_none(row) for row in rows)
    assert all(row.reason for row in rows if row.estimate is None)


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
