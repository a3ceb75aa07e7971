"""Attributes as they are compared, and the comparisons that plan and manifest fix beforehand.

Which groups are compared with which is read from every row of the manifest, usable or not, so that
what is lost later (masks, heat, small groups) cannot take a comparison out of the verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from gradaudit.errors import InputError
from gradaudit.plan import Plan, SubgroupPlan
from gradaudit.records import UNKNOWN
from gradaudit.runs.measurements import Measurements
from gradaudit.subgroups.levels import attribute_kind, sort_levels

Array = np.ndarray[Any, Any]
MOST_LEVELS = 40
"""Unordered levels of one attribute: 780 pairs, each planned in every decisive region."""


@dataclass(frozen=True)
class Attribute:
    """One ``subgroup.*`` column, ready to compare.

    values : (n,) levels as text, None where unknown; numbers where ``kind`` is "continuous"
    levels : the plan's order, or the manifest's levels, usable or not; () where continuous
    reference : a level, or "rest"; of two levels always the one with more clusters
    """

    name: str
    kind: str
    values: Array
    order: tuple[str, ...] | None
    reference: str
    within: bool | None
    levels: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> Array:
        """(n,) place of each image's level among ``levels``; -1 where it is unknown."""
        return pd.Index(self.levels, dtype=object).get_indexer(pd.Index(self.values, dtype=object))

    @cached_property
    def groups(self) -> Array | pd.Categorical:
        """``values`` with text as codes, which many comparisons need not read anew."""
        if self.kind == "continuous":
            return self.values
        levels: pd.Index[Any] = pd.Index(self.levels, dtype=object)
        return pd.Categorical.from_codes(np.asarray(self.codes, dtype=np.int64), levels)

    @cached_property
    def known(self) -> Array:
        """(n,) whose level is known."""
        if self.kind == "continuous":
            return np.asarray(np.isfinite(self.values.astype(float)))
        return np.asarray(self.codes >= 0)

    def members(self, level: str) -> Array:
        """(n,) whose level it is; of "rest", nobody."""
        if level not in self.levels:
            return np.zeros(len(self.values), dtype=bool)
        return np.asarray(self.codes == self.levels.index(level))


def attributes_of(
    meas: Measurements, plan: Plan, groups: Mapping[str, pd.Series[Any]]
) -> tuple[Attribute, ...]:
    """Every ``subgroup.*`` column as it is compared; ``groups``: its displayed levels.

    Errors: ``InputError`` where an unordered attribute has more than ``MOST_LEVELS`` levels.
    """
    return tuple(_attribute(meas, name, shown, plan) for name, shown in groups.items())


def _attribute(meas: Measurements, name: str, shown: pd.Series[Any], plan: Plan) -> Attribute:
    declared = plan.subgroups.get(name, SubgroupPlan())
    column = meas.images[f"subgroup.{name}"]
    kind = attribute_kind(pd.Series(column.unique()), declared.kind, declared.order)
    within = True if declared.within else None
    if kind == "continuous":
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
        return Attribute(name, kind, numbers, None, declared.reference, within)
    text = shown.astype(object).where(shown.astype(object) != UNKNOWN, None).to_numpy(dtype=object)
    order = declared.order if kind == "ordered" else None
    if order is not None:
        text = np.array([level if level in order else None for level in text], dtype=object)
    found = sort_levels([str(level) for level in text if level is not None])
    levels = tuple(dict.fromkeys([*(order or ()), *found]))
    if order is None and len(levels) > MOST_LEVELS:
        raise InputError(_too_many(name, levels))
    reference = declared.reference
    if reference == "rest" and len(levels) == 2:
        reference = _larger_of_two(text, meas.images["cluster"], levels)
    return Attribute(name, kind, text, order, reference, within, levels)


def _too_many(name: str, levels: tuple[str, ...]) -> str:
    shown = ", ".join(map(repr, levels[:3]))
    return (
        f"The attribute {name!r} has {len(levels)} levels ({shown}, ...); at most {MOST_LEVELS} unordered "
        "levels are compared, because each is compared with every other. Merge levels in the table, "
        f'give them an order, or declare [subgroups.{name}] kind = "continuous" if they are numbers.'
    )


def _larger_of_two(text: Array, clusters: pd.Series[Any], levels: tuple[str, ...]) -> str:
    """The level with more clusters: one comparison says all there is to say about two levels."""
    rows = pd.DataFrame({"level": text, "cluster": clusters.to_numpy()}).dropna(subset="level")
    sizes = rows.groupby("level")["cluster"].nunique().reindex(sorted(levels), fill_value=0)
    return str(sizes.idxmax())
