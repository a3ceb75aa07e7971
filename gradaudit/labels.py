"""Labels as classes of the model: which output a label means, and which labels mean none.

One rule for measuring, analysing and the report, so that what counts as labelled is the same
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradaudit.errors import ManifestError
from gradaudit.spelling import did_you_mean

_MOST = 8
"""Labels, classes or rows that a message lists; the others are counted."""


def class_index(label: str, classes: Sequence[str] | None) -> int | None:
    """Output that a label means: a class name comes first, then the output's number as text; None
    if it is neither.

    classes : names in output order; None or none: the outputs have no names, and a label is a
        number
    """
    text = label.strip()
    if classes and text in classes:
        return classes.index(text)
    if (
        text.isascii()
        and text.isdigit()
        and len(text) < 10
        and (not classes or int(text) < len(classes))
    ):
        return int(text)
    return None


def foreign_labels(labels: Sequence[object], classes: Sequence[str] | None) -> dict[str, list[int]]:
    """Label that is no class -> its positions, the most frequent first.

    Unknown labels (None, NaN, empty) are none of them.
    """
    known: dict[object, bool] = {}
    found: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        if label not in known:
            known[label] = not is_label(label) or class_index(str(label), classes) is not None
        if not known[label]:
            found.setdefault(str(label), []).append(position)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def is_label(label: object) -> bool:
    return label is not None and label == label and str(label).strip() not in ("", "<NA>")


def refuse_foreign(
    labels: Sequence[object], classes: Sequence[str] | None, place: str, rows: Sequence[int] = ()
) -> None:
    """Nothing, where there is no label, or one at least is a class.

    place : where the labels stand, in words      rows : line of each label, for the message

    Errors: ``ManifestError`` with the values on both sides where no label is a class: then nobody's
    prediction could be called right.
    """
    given = sum(map(is_label, labels))
    foreign = foreign_labels(labels, classes)
    if not given or sum(map(len, foreign.values())) < given:
        return
    fix = (
        "Write class names or output numbers into the column 'label', or correct [model] classes; "
        "if the column means something else, give it another name."
    )
    if not classes:
        fix = 'Name the classes in output order in the plan ([model] classes = ["...", "..."]), or write output numbers into the column \'label\'.'
    raise ManifestError(
        f"None of the {given} labels of {place} is a class of the model, so no prediction could be called right or wrong.\n"
        f"  Labels: {foreign_words(foreign, classes, rows)}\n  Classes: {class_words(classes)}\nTo do: {fix}"
    )


def foreign_words(
    foreign: Mapping[str, Sequence[int]], classes: Sequence[str] | None, rows: Sequence[int] = ()
) -> str:
    """``'Warm' (2 rows: 5, 13; did you mean 'warm'?), 'x' (1 row: 9)``; without ``rows``: the
    number of images.
    """
    words = []
    for label, positions in list(foreign.items())[:_MOST]:
        count = len(positions)
        shown = [str(rows[k]) for k in positions[:_MOST]] if rows else []
        where = (
            f"{count} row{'s' * (count != 1)}: {', '.join(shown)}{', ...' * (count > _MOST)}"
            if rows
            else f"{count} image{'s' * (count != 1)}"
        )
        hint = did_you_mean(label, classes or ())
        words.append(f"{label!r} ({where}{'; ' if hint else ''}{hint})")
    return ", ".join(words) + (f" and {len(foreign) - _MOST} more" if len(foreign) > _MOST else "")


def class_words(classes: Sequence[str] | None) -> str:
    """The names, or that there are none."""
    if not classes:
        return "the model names no classes, so they are the numbers of its outputs (0, 1, ...)"
    return ", ".join(classes[:_MOST]) + (
        f" and {len(classes) - _MOST} more" if len(classes) > _MOST else ""
    )
