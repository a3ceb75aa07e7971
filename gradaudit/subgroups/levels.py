"""Kinds of an attribute (categorical, ordered, continuous); how levels are written and sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

CONTINUOUS_DISTINCT = 10  # more distinct numbers than that are a continuous attribute


RESERVED = ("rest", "all others")
"""What reports and settings call everybody else; no level may have such a name."""


def level_text(value: object) -> str:
    """A level as the manifest would write it: 3.0 read from a numeric column is "3"."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def sort_levels(names: Sequence[str]) -> list[str]:
    """Numbers by value, everything else by text."""
    try:
        return sorted(set(names), key=float)
    except ValueError:
        return sorted(set(names))


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
