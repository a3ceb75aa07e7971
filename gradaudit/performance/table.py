"""How well the classifier does in each subgroup, to be read beside a disparity in region heat.

Measurements and levels come in; rows of the performance table go out: every metric over all images,
in each level, and as a difference to the level's reference. The Benjamini-Hochberg correction is
over all differences of all attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.labels import class_index, foreign_labels, refuse_foreign
from gradaudit.performance.differences import Tests, by_cluster, difference_tests, mover_difference
from gradaudit.performance.intervals import Array, Figure
from gradaudit.performance.metrics import FIGURES, Predictions
from gradaudit.plan import Plan
from gradaudit.records import ALL, DIFFERENCE, OVER_ANALYSED, TestResult
from gradaudit.result_schema import PerformanceRow
from gradaudit.runs.measurements import Measurements
from gradaudit.stats.multiplicity import benjamini_hochberg

_NEGATIVE_WORDS = frozenset((
    "0", "-1", "n", "no", "false", "none", "negative", "neg", "normal", "healthy", "benign",
    "control", "absent", "background", "other",
))  # fmt: skip
_POSITIVE_WORDS = frozenset((
    "1", "y", "yes", "true", "positive", "pos", "abnormal", "diseased", "disease", "malignant",
    "cancer", "melanoma", "case", "present",
))  # fmt: skip


def positive_class(classes: tuple[str, ...], plan: Plan) -> tuple[str | None, str]:
    """The class whose sensitivity is reported, or None with the reason.

    The plan's, if it declares one. Of two classes, the one that a well-known name tells (malignant
    or benign).
    """
    declared = plan.analysis.positive_class
    if declared is not None:
        index = class_index(declared, classes) if classes else None
        if index is not None:
            return classes[index], ""
        some = ", ".join(classes[:6])
        return None, f"analysis.positive_class = {declared!r} is not a class here ({some})"
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
    """Every figure over all images, in each level of each attribute, and as a difference.

    groupings : attribute -> level of each row of ``meas.images`` (an ordered categorical in which
        no value is missing)
    references : attribute -> a level, or "rest" (everyone else)
    narrowed : (attribute, level) -> the images (bool per row of ``meas.images``) to which the level
        is restricted, so that no small count can be subtracted
    returns : rows whose ``reason`` says why an estimate is missing, or what it is a mean of;
        ``n_images`` is the number of images that the figure is a share of. Differences have a test
        unless a guard withholds it (see ``differences.difference_tests``)
    """
    data, rows = predictions(meas, plan)
    alpha, narrowed = plan.analysis.alpha, narrowed or {}
    table = [_row(ALL, ALL, name, figure(data, alpha)) for name, figure in FIGURES.items()]
    for attribute, levels in groupings.items():
        codes = levels.cat.codes.to_numpy()[rows]
        parts = level_parts(attribute, levels, narrowed, rows)
        reference = references.get(attribute, "rest")
        tests = difference_tests(data, _level_of_each(parts, len(rows)), reference, plan)
        for k, (level, members) in enumerate(parts.items()):
            others = parts[reference] if reference in parts else np.flatnonzero(codes != k)
            sides = _Level(attribute, level, reference, members, others)
            remark = OVER_ANALYSED if (attribute, level) in narrowed else ""
            table += _level_rows(data, sides, tests, alpha, remark)
    return _adjusted_for_multiplicity(table)


@dataclass(frozen=True)
class _Level:
    """A level with its images and those of its reference, as rows of the predictions."""

    attribute: str
    name: str
    reference: str
    members: Array
    others: Array


def level_parts(
    attribute: str,
    levels: pd.Series[Any],
    narrowed: Mapping[tuple[str, str], Array],
    rows: Array,
) -> dict[str, Array]:
    """Level -> its images as rows of the predictions; arguments as of ``performance_table``."""
    codes = levels.cat.codes.to_numpy()[rows]
    parts = {}
    for k, level in enumerate(map(str, levels.cat.categories)):
        inside, kept = codes == k, narrowed.get((attribute, level))
        parts[level] = np.flatnonzero(inside if kept is None else inside & kept[rows])
    return parts


def _level_rows(
    data: Predictions, level: _Level, tests: Tests, alpha: float, remark: str
) -> Iterator[PerformanceRow]:
    """Every figure of one level, each followed by its difference to the reference."""
    for name, figure in FIGURES.items():
        mine = figure(data.take(level.members), alpha)
        yield _row(level.attribute, level.name, name, mine, remark)
        if level.name != level.reference:
            theirs = figure(data.take(level.others), alpha)
            test = tests.get((level.name, name), TestResult())
            yield _difference_row(level, name, mine, theirs, data, test)


def _level_of_each(parts: Mapping[str, Array], count: int) -> Array:
    """Level of each image; None where it is unknown, or where the level is restricted to others."""
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


def predictions(meas: Measurements, plan: Plan) -> tuple[Predictions, Array]:
    """Readable images whose label is one of the classes, and their rows in ``meas.images``."""
    images, classes = meas.images, classes_of(meas)
    code = {name: k for k, name in enumerate(classes)}
    names, labels = _names_for_labels(meas), images["label"]
    meant = {text: _label_code(str(text), names, code) for text in labels.dropna().unique()}
    label, predicted = _codes(labels, meant), _codes(images["predicted"], code)
    readable = (images["status"] == "ok").to_numpy(dtype=bool)
    rows = np.flatnonzero(readable & np.isfinite(label) & np.isfinite(predicted))
    probability, rows = _probabilities(images, classes, rows)
    positive, why = positive_class(classes, plan)
    truth, guess = label[rows].astype(int), predicted[rows].astype(int)
    data = Predictions(
        classes=classes,
        label=truth,
        predicted=guess,
        correct=(truth == guess) * 1.0,
        probability=probability,
        cluster=pd.factorize(images["cluster"].astype(str))[0][rows],
        positive=code[positive] if positive else None,
        why_no_positive=why,
    )
    return data, rows


def _codes(column: pd.Series[Any], code: Mapping[str, int | None]) -> Array:
    """Class codes as numbers, NaN for anything that is not a class."""
    return column.map(dict(code)).to_numpy(dtype=float, na_value=np.nan)


def _probabilities(
    images: pd.DataFrame, classes: tuple[str, ...], rows: Array
) -> tuple[Array | None, Array]:
    """Probabilities (n, K) of the rows that have all of them, and these rows.

    None, and every row, where a class has no column.
    """
    columns = [f"probability.{name}" for name in classes]
    if not classes or not all(column in images for column in columns):
        return None, rows
    probability = images[columns].to_numpy(dtype=float)[rows]
    finite = np.isfinite(probability).all(axis=1)
    return probability[finite], rows[finite]


def classes_of(meas: Measurements) -> tuple[str, ...]:
    """Names of the model's outputs, in their order.

    If the measurements do not hold them: every label and prediction that occurs, sorted.
    """
    columns = [
        str(c).removeprefix("probability.")
        for c in meas.images.columns
        if str(c).startswith("probability.")
    ]
    named = () if meas.run is None else meas.run.model.classes
    if columns:
        return tuple(columns)
    if named:
        return named
    found = (
        pd.concat([meas.images["label"], meas.images["predicted"]]).dropna().astype(str).unique()
    )
    if meas.run is not None:  # outputs without names are called by their numbers
        return tuple(
            map(
                str,
                sorted({index for text in found if (index := class_index(text, None)) is not None}),
            )
        )
    return tuple(sorted(found))


def _label_code(label: str, names: tuple[str, ...] | None, code: Mapping[str, int]) -> int | None:
    """The number of the class that a label means."""
    index = class_index(label, names)
    return None if index is None else code[str(index) if names is None else names[index]]


def _names_for_labels(meas: Measurements) -> tuple[str, ...] | None:
    """Class names that labels may use.

    None where the model's outputs have no names and are too many to have columns.
    """
    unnamed = meas.run is not None and not meas.run.model.classes
    with_columns = any(str(column).startswith("probability.") for column in meas.images.columns)
    return None if unnamed and not with_columns else classes_of(meas)


def labels_without_class(meas: Measurements) -> dict[str, list[int]]:
    """Labels that are not a class of the model -> their rows of ``meas.images``.

    These rows do not count in performance.
    """
    return foreign_labels(list(meas.images["label"]), _names_for_labels(meas))


def refuse_foreign_labels(meas: Measurements) -> None:
    """Raise ``ManifestError`` if there are labels and none of them is a class of the model."""
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
    level: _Level, metric: str, mine: Figure, theirs: Figure, data: Predictions, test: TestResult
) -> PerformanceRow:
    a = by_cluster(mine, data.cluster[level.members], data)
    b = by_cluster(theirs, data.cluster[level.others], data)
    d, low, high = mover_difference(a, b)
    reference = "everyone else" if level.reference == "rest" else level.reference
    missing = a.reason if a.estimate is None else b.reason if b.estimate is None else ""
    return PerformanceRow(
        attribute=level.attribute,
        level=level.name,
        metric=metric + DIFFERENCE,
        estimate=d,
        low=low,
        high=high,
        n_images=a.n_images,
        n_clusters=a.n_clusters,
        reason=f"against {reference}{': ' + missing if missing else ''}",
        test=test,
    )
