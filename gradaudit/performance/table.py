"""How well the classifier does in each subgroup: the figures beside which a disparity in region
heat has to be read.

The figures stand in ``merits``, their differences between groups in ``merit_differences``;
Benjamini-Hochberg goes over all differences of all attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.labels import class_index, foreign_labels, refuse_foreign
from gradaudit.performance.differences import by_cluster, difference_tests, mover_difference
from gradaudit.performance.metrics import FIGURES, Array, Figure, Predictions
from gradaudit.plan import Plan
from gradaudit.records import ALL, DIFFERENCE, OVER_ANALYSED, Measurements, TestResult
from gradaudit.result_schema import PerformanceRow
from gradaudit.stats.multiplicity import benjamini_hochberg

METRICS_SHOWN = (
    "accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "auc",
    "brier",
    "calibration_slope",
)

_NEGATIVE_WORDS = frozenset(
    {
        "0",
        "-1",
        "n",
        "no",
        "false",
        "none",
        "negative",
        "neg",
        "normal",
        "healthy",
        "benign",
        "control",
        "absent",
        "background",
        "other",
    }
)
_POSITIVE_WORDS = frozenset(
    {
        "1",
        "y",
        "yes",
        "true",
        "positive",
        "pos",
        "abnormal",
        "diseased",
        "disease",
        "malignant",
        "cancer",
        "melanoma",
        "case",
        "present",
    }
)


def positive_class(classes: tuple[str, ...], plan: Plan) -> tuple[str | None, str]:
    """The class whose sensitivity is reported, and why there is none.

    The plan's, if declared; of two classes the one that its name, or the other's, gives away
    (malignant / benign).
    """
    declared = plan.analysis.positive_class
    if declared is not None:
        index = class_index(declared, classes) if classes else None
        if index is not None:
            return classes[index], ""
        return (
            None,
            f"analysis.positive_class = {declared!r} is not a class here ({', '.join(classes[:6])})",
        )
    if len(classes) == 2:
        words = [name.strip().lower() for name in classes]
        for mine, other in ((0, 1), (1, 0)):
            named = words[mine] in _POSITIVE_WORDS and words[other] not in _POSITIVE_WORDS
            if named or (words[other] in _NEGATIVE_WORDS and words[mine] not in _NEGATIVE_WORDS):
                return classes[mine], ""
    return None, "no positive class: declare analysis.positive_class"


def performance_table(
    meas: Measurements,
    plan: Plan,
    groupings: Mapping[str, pd.Series[Any]],
    references: Mapping[str, str],
    narrowed: Mapping[tuple[str, str], Array] | None = None,
) -> tuple[PerformanceRow, ...]:
    """Every figure over all images, in each level of each attribute, and as a difference to the
    level's reference.

    groupings : attribute -> level of each row of ``meas.images`` (an ordered categorical without
        gaps).
    references : attribute -> a level, or "rest" (everyone else).
    narrowed : (attribute, level) -> the images (bool per row of ``meas.images``) to which the level
        is narrowed down.
    Differences carry a test where a guard does not withhold it (see
    ``merit_differences.difference_tests``).
    returns : rows whose ``reason`` says why an estimate is missing, or what it averages;
        ``n_images`` is the number
    of images that the figure is a share of.
    """
    data, rows = predictions(meas, plan)
    alpha = plan.analysis.alpha
    whole = np.arange(len(rows))
    table = [_row(ALL, ALL, name, figure(data, alpha)) for name, figure in FIGURES.items()]
    for attribute, levels in groupings.items():
        codes = levels.cat.codes.to_numpy()[rows]
        names = [str(level) for level in levels.cat.categories]
        parts = {
            level: whole[(codes == k) & _kept((narrowed or {}).get((attribute, level)), rows)]
            for k, level in enumerate(names)
        }
        reference = references.get(attribute, "rest")
        tests = difference_tests(data, _level_of_each(parts, len(rows)), reference, plan)
        for k, (level, members) in enumerate(parts.items()):
            others = parts[reference] if reference in parts else whole[codes != k]
            remark = OVER_ANALYSED if (attribute, level) in (narrowed or {}) else ""
            for name, figure in FIGURES.items():
                mine = figure(data.take(members), alpha)
                table.append(_row(attribute, level, name, mine, remark))
                if level != reference:
                    theirs = figure(data.take(others), alpha)
                    row = _difference_row(
                        attribute, level, name, (mine, members), (theirs, others), data, reference
                    )
                    table.append(
                        row.model_copy(update={"test": tests.get((level, name), TestResult())})
                    )
    return _adjusted_for_multiplicity(table)


def _level_of_each(parts: Mapping[str, Array], count: int) -> Array:
    """Level of each image, None where its level is unknown or narrowed down to others."""
    levels = np.full(count, None, dtype=object)
    for level, members in parts.items():
        levels[members] = level
    return levels


def _adjusted_for_multiplicity(table: list[PerformanceRow]) -> tuple[PerformanceRow, ...]:
    p = np.array([np.nan if row.test.p is None else row.test.p for row in table])
    adjusted = benjamini_hochberg(p)
    return tuple(
        row
        if row.test.p is None
        else row.model_copy(update={"test": row.test.model_copy(update={"p_adjusted": float(q)})})
        for row, q in zip(table, adjusted, strict=True)
    )


def _kept(narrowed: Array | None, rows: Array) -> Array:
    return np.ones(len(rows), dtype=bool) if narrowed is None else narrowed[rows]


def predictions(meas: Measurements, plan: Plan) -> tuple[Predictions, Array]:
    """Readable images with a label that is one of the classes, as codes; and their rows in
    ``meas.images``.
    """
    images = meas.images
    classes = classes_of(meas)
    code = {name: k for k, name in enumerate(classes)}
    names = _names_for_labels(meas)
    meant = {
        text: _label_code(str(text), names, code) for text in images["label"].dropna().unique()
    }
    label = images["label"].map(meant).to_numpy(dtype=float, na_value=np.nan)
    predicted = images["predicted"].map(code).to_numpy(dtype=float, na_value=np.nan)
    rows = np.flatnonzero(
        (images["status"] == "ok").to_numpy(dtype=bool)
        & np.isfinite(label)
        & np.isfinite(predicted)
    )
    columns = [f"probability.{name}" for name in classes]
    probability = None
    if classes and all(column in images for column in columns):
        probability = images[columns].to_numpy(dtype=float)[rows]
        finite = np.isfinite(probability).all(axis=1)
        rows, probability = rows[finite], probability[finite]
    positive, why = positive_class(classes, plan)
    truth, guess = label[rows].astype(int), predicted[rows].astype(int)
    cluster = pd.factorize(images["cluster"].astype(str))[0][rows]
    data = Predictions(
        classes,
        truth,
        guess,
        (truth == guess) * 1.0,
        probability,
        cluster,
        code[positive] if positive else None,
        why,
    )
    return data, rows


def classes_of(meas: Measurements) -> tuple[str, ...]:
    """Names of the model's outputs, in their order; of measurements that do not hold them, every
    label and prediction that occurs.
    """
    columns = [
        str(c).removeprefix("probability.")
        for c in meas.images.columns
        if str(c).startswith("probability.")
    ]
    named = [str(name) for name in meas.run.get("model", {}).get("classes", ())]
    if columns:
        return tuple(columns)
    if named:
        return tuple(named)
    found = (
        pd.concat([meas.images["label"], meas.images["predicted"]]).dropna().astype(str).unique()
    )
    if "model" in meas.run:  # outputs without names are called by their numbers
        return tuple(
            map(
                str,
                sorted({index for text in found if (index := class_index(text, None)) is not None}),
            )
        )
    return tuple(sorted(found))


def _label_code(label: str, names: tuple[str, ...] | None, code: Mapping[str, int]) -> int | None:
    """Place of the class that a label means."""
    index = class_index(label, names)
    return None if index is None else code[str(index) if names is None else names[index]]


def _names_for_labels(meas: Measurements) -> tuple[str, ...] | None:
    """Class names that labels can bear; None where the model's outputs have none, and are so many
    that they have no columns either.
    """
    unnamed = "model" in meas.run and not meas.run["model"].get("classes")
    with_columns = any(str(column).startswith("probability.") for column in meas.images.columns)
    return None if unnamed and not with_columns else classes_of(meas)


def labels_without_class(meas: Measurements) -> dict[str, list[int]]:
    """Label that is no class of the model -> rows of ``meas.images`` that have no part in
    performance for that reason.
    """
    return foreign_labels(list(meas.images["label"]), _names_for_labels(meas))


def refuse_foreign_labels(meas: Measurements) -> None:
    """Errors: ``ManifestError`` where there are labels, and none is a class of the model."""
    refuse_foreign(list(meas.images["label"]), _names_for_labels(meas), "the measured images")


def _row(
    attribute: str, level: str, metric: str, figure: Figure, remark: str = ""
) -> PerformanceRow:
    return PerformanceRow(
        attribute=attribute,
        level=level,
        metric=metric,
        estimate=figure.estimate,
        low=figure.low,
        high=figure.high,
        n_images=figure.n_images,
        n_clusters=figure.n_clusters,
        reason="; ".join(filter(None, (figure.reason, remark))),
    )


def _difference_row(
    attribute: str,
    level: str,
    metric: str,
    mine: tuple[Figure, Array],
    theirs: tuple[Figure, Array],
    data: Predictions,
    reference: str,
) -> PerformanceRow:
    a, b = (by_cluster(figure, data.cluster[rows], data) for figure, rows in (mine, theirs))
    d, low, high = mover_difference(a, b)
    against = "against everyone else" if reference == "rest" else f"against {reference}"
    missing = a.reason if a.estimate is None else b.reason if b.estimate is None else ""
    return PerformanceRow(
        attribute=attribute,
        level=level,
        metric=metric + DIFFERENCE,
        estimate=d,
        low=low,
        high=high,
        n_images=a.n_images,
        n_clusters=a.n_clusters,
        reason=f"{against}{': ' + missing if missing else ''}",
    )
