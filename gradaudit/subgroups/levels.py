"""Kinds of an attribute (categorical, ordered, continuous); how levels are written and sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from gradaudit.number_text import significant
from gradaudit.stats.family import Floats

CONTINUOUS_DISTINCT = 10  # more distinct numbers than that are a continuous attribute


RESERVED = ("rest", "all others")
"""What reports and settings call everybody else; no level may have such a name."""


def level_text(value: object) -> str:
    """A level as the manifest would write it: 3.0 read from a numeric column is "3"."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def sort_levels(names: Sequence[str]) -> list[str]:
    """Numbers by value, those of one value ("1", "01") by text; by text where one is no number.

    The order is the same in every process: it says which level a difference is taken from.
    """
    unique = sorted(set(names))
    try:
        values = [float(name) for name in unique]
    except ValueError:
        return unique
    if not np.isfinite(values).all():
        return unique
    return sorted(unique, key=float)


def attribute_kind(
    values: pd.Series, kind: str | None = None, order: Sequence[str] | None = None
) -> Literal["categorical", "ordered", "continuous"]:
    """The declared kind of an attribute; else continuous where over ten levels are all numbers."""
    if kind == "continuous":
        return "continuous"
    if order:
        return "ordered"
    if kind is None:
        numbers = pd.to_numeric(values.dropna(), errors="coerce")
        if len(numbers) and numbers.notna().all() and numbers.nunique() > CONTINUOUS_DISTINCT:
            return "continuous"
    return "categorical"


def percentile_names(low: float, high: float) -> tuple[str, str]:
    """The two ends of a slope, upper first: "P90 (72.4)" and "P10 (31)"; no value where equal.

    Three digits, and more where rounding would move an end by over a twentieth of their distance:
    2016 and 2020 are no "2.02e+03".
    """
    if low == high:
        return "P90", "P10"
    digits = rounding_digits(np.array([low, high]), (high - low) / 20)
    lower, upper = (
        np.format_float_positional(significant(end, digits), trim="-") for end in (low, high)
    )
    return f"P90 ({upper})", f"P10 ({lower})"


def rounding_digits(values: Floats, most: float) -> int:
    """Significant digits, at least 3, with which rounding moves no value by over ``most``."""
    digits = 3
    while digits < 15 and _rounding_error(digits, *values) > most:
        digits += 1
    return digits


def _rounding_error(digits: int, *values: float) -> float:
    return max(abs(significant(value, digits) - value) for value in values)
