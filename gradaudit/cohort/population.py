"""Measurements of one method and target as arrays: who is in which group, how far images came.

This is the only module that joins rows of the measurements to images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from gradaudit.number_text import plain_number, significant
from gradaudit.outcomes import other_metrics
from gradaudit.plan import Plan, measured_target
from gradaudit.records import ALL, UNKNOWN
from gradaudit.result_schema import AttributeFacts
from gradaudit.runs.measurements import Measurements
from gradaudit.subgroups.levels import attribute_kind, level_text, sort_levels

Array = npt.NDArray[Any]

_ABSENT = frozenset(
    {
        "not_annotated",
        "empty_mask",
        "empty_after_crop",
        "unreadable_mask",
        "missing_mask",
        "mask_size",
    }
)


# ── attributes and levels ─────────────────────────────────────────────────────────────────────────


def attribute_facts(meas: Measurements, plan: Plan) -> tuple[AttributeFacts, ...]:
    """Kind and levels of every ``subgroup.*`` column, in the table's order.

    Kinds as in ``levels.attribute_kind``.  Levels: the plan's order, else numbers by size
    and text by alphabet; of a continuous attribute, ranges between quartiles.
    """
    return attribute_facts_of(meas, plan, level_groups(meas, plan))


def attribute_facts_of(
    meas: Measurements, plan: Plan, groups: Mapping[str, pd.Series[Any]]
) -> tuple[AttributeFacts, ...]:
    """``attribute_facts`` for levels that were already computed (``level_groups``)."""
    facts = []
    for name, levels in groups.items():
        declared = plan.subgroups.get(name)
        known = tuple(str(level) for level in levels.cat.categories if level != UNKNOWN)
        facts.append(
            AttributeFacts(
                name=name,
                kind=_kind(meas.images[f"subgroup.{name}"], name, plan),
                levels=known,
                reference=declared.reference if declared else "rest",
                inferred=declared.inferred if declared else False,
                within=declared.within if declared else False,
                description=declared.description if declared else "",
            )
        )
    return tuple(facts)


def level_groups(meas: Measurements, plan: Plan) -> dict[str, pd.Series[Any]]:
    """Attribute -> the level of each row of ``meas.images``, as displayed: ordered categoricals.

    No value is missing: the level "(unknown)" stands last where it is needed. Levels of the plan's
    ``order`` stay even without an image.
    """
    names = [
        str(c).removeprefix("subgroup.")
        for c in meas.images.columns
        if str(c).startswith("subgroup.")
    ]
    return {name: _levels_of(meas.images[f"subgroup.{name}"], name, plan) for name in names}


def _levels_of(column: pd.Series[Any], name: str, plan: Plan) -> pd.Series[Any]:
    if _kind(column, name, plan) == "continuous":
        text, order = _ranges(_numbers(column))
    else:
        text = texts(column)
        declared = plan.subgroups[name].order if name in plan.subgroups else None
        found = sort_levels(list(text.dropna()))
        order = [*(declared or ()), *(level for level in found if level not in (declared or ()))]
    if text.isna().any():
        text, order = (
            text.where(text.notna(), UNKNOWN),
            [level for level in order if level != UNKNOWN] + [UNKNOWN],
        )
    return pd.Series(
        pd.Categorical(text, categories=order, ordered=True), index=column.index, name=name
    )


def _kind(
    column: pd.Series[Any], name: str, plan: Plan
) -> Literal["categorical", "ordered", "continuous"]:
    declared = plan.subgroups.get(name)
    distinct = texts(pd.Series(column.unique())).dropna()
    return attribute_kind(
        distinct, declared.kind if declared else None, declared.order if declared else None
    )


def texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Cells as the manifest writes them; None where empty."""
    codes, distinct = pd.factorize(
        column
    )  # text is made once per value: a table repeats its few values many times
    words = np.array(
        [*(level_text(value).strip() or None for value in distinct), None], dtype=object
    )
    return pd.Series(words[codes], index=column.index, dtype=object)


def _numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _ranges(numbers: pd.Series[Any]) -> tuple[pd.Series[Any], list[str]]:
    """Quartile ranges for display, open at both ends so that nobody's extreme value is printed."""
    known = numbers.dropna()
    text = pd.Series([None] * len(numbers), index=numbers.index, dtype=object)
    if known.empty:
        return text, []
    cuts = sorted({significant(q, 3) for q in np.quantile(known, [0.25, 0.5, 0.75])})
    cuts = [cut for cut in cuts if known.min() < cut <= known.max()]
    words = [plain_number(cut) for cut in cuts]
    between = [f"{a} to below {b}" for a, b in pairwise(words)]
    labels = [f"below {words[0]}", *between, f"{words[-1]} and over"] if cuts else ["any value"]
    text[known.index] = np.array(labels, dtype=object)[
        np.searchsorted(cuts, known.to_numpy(), side="right")
    ]
    return text, labels


# ── the cohort: the one place where rows are joined ───────────────────────────────────────────────────


@dataclass(frozen=True)
class Cohort:
    """Measurements of one method and target as arrays over n images and R regions.

    share, area, lift, hit : (n, R) float, NaN where undefined
    others : metric without a place of its own -> (n, R) float, NaN where undefined
    reason : (n, R) codes of text
    readable, masked, heated, analysed : (n,) bool; each is a subset of the one before

    Made by ``take_cohort``.
    """

    meas: Measurements
    groups: dict[str, pd.Series[Any]]
    method: str
    target: str
    regions: tuple[str, ...]
    cluster: Array
    share: Array
    area: Array
    lift: Array
    hit: Array
    others: dict[str, Array]
    reason: Array
    usable: Array
    heat_ok: Array
    readable: Array

    @property
    def masked(self) -> Array:
        """(n,): readable, with at least one usable region mask."""
        return np.asarray(self.readable & self.usable.any(axis=1))

    @property
    def heated(self) -> Array:
        """(n,): masked, and the heat map is usable."""
        return self.masked & self.heat_ok

    @cached_property
    def defined(self) -> Array:
        """(n, R): the heat share exists, and the image is heated."""
        return np.asarray(np.isfinite(self.share) & self.heated[:, None])

    @property
    def analysed(self) -> Array:
        """(n,): at least one heat share is defined."""
        return np.asarray(self.defined.any(axis=1))

    @cached_property
    def anchored(self) -> Array:
        """(n,): a heat share in the region that most images have one in."""
        if not len(self.regions):
            return np.zeros_like(self.readable)
        return np.asarray(self.defined[:, int(np.argmax(self.defined.sum(axis=0)))])

    def cells(self) -> list[tuple[str, str, Array]]:
        """(attribute, level, members as (n,) bool), the whole data set first."""
        found = [(ALL, ALL, np.ones(len(self.readable), dtype=bool))]
        for name, levels in self.groups.items():
            codes = levels.cat.codes.to_numpy()
            found += [
                (name, str(level), codes == k) for k, level in enumerate(levels.cat.categories)
            ]
        return found


def method_targets(meas: Measurements, plan: Plan) -> list[tuple[str, str]]:
    """Method and target pairs of the table, the plan's own first."""
    found = meas.table[["method", "target"]].drop_duplicates().astype(str)
    pairs = list(zip(found["method"], found["target"], strict=True))
    own = (plan.explain.method, measured_target(plan))
    return sorted(pairs, key=lambda pair: pair != own) or [own]


def take_cohorts(meas: Measurements, plan: Plan) -> tuple[Cohort, ...]:
    """The cohort of every method and target that was measured, the plan's own first."""
    groups = level_groups(meas, plan)
    return tuple(_arranged(meas, groups, *pair) for pair in method_targets(meas, plan))


def take_cohort(meas: Measurements, plan: Plan) -> Cohort:
    """The cohort of the plan's own method and target."""
    return _arranged(meas, level_groups(meas, plan), *method_targets(meas, plan)[0])


def _arranged(
    meas: Measurements, groups: dict[str, pd.Series[Any]], method: str, target: str
) -> Cohort:
    table = meas.table.loc[(meas.table["method"] == method) & (meas.table["target"] == target)]
    regions = tuple(str(name) for name in meas.table["region"].dropna().unique())
    grid = _Grid.of(meas.images, table, regions)
    share, area = grid.numbers("heat_share"), grid.numbers("area_share")
    share[~np.isfinite(share)] = np.nan
    reason = grid.texts("reason", "not_annotated")
    absent = np.isin(reason.astype(str), list(_ABSENT)) | np.equal(area, 0)
    readable = (meas.images["status"].astype(str) == "ok").to_numpy(dtype=bool)
    return Cohort(
        meas=meas,
        groups=groups,
        method=method,
        target=target,
        regions=regions,
        cluster=pd.factorize(meas.images["cluster"].astype(str))[0],
        share=share,
        area=area,
        lift=grid.numbers("mass_lift"),
        hit=grid.numbers("pointing_game"),
        others={name: grid.numbers(name) for name in other_metrics() if name in table},
        reason=reason,
        usable=~absent | np.isfinite(share),
        heat_ok=readable & (heat_status(meas, table) == "ok"),
        readable=readable,
    )


@dataclass(frozen=True)
class _Grid:
    """The positions of a table's rows on a grid of images (rows) by regions (columns)."""

    table: pd.DataFrame
    shape: tuple[int, int]
    rows: Array
    columns: Array
    placed: Array

    @classmethod
    def of(cls, images: pd.DataFrame, table: pd.DataFrame, regions: tuple[str, ...]) -> _Grid:
        index = pd.Index(images["image_id"].astype(str))
        names = pd.Index(regions, dtype=object)
        rows = index.get_indexer(pd.Index(table["image_id"].astype(str)))
        columns = names.get_indexer(pd.Index(table["region"].astype(object)))
        return cls(table, (len(index), len(regions)), rows, columns, (rows >= 0) & (columns >= 0))

    def numbers(self, column: str) -> Array:
        """One column of the table on the grid, NaN where there is no row or no number."""
        grid = np.full(self.shape, np.nan)
        if column in self.table:
            self._fill(grid, self.table[column].to_numpy(dtype=float, na_value=np.nan))
        return grid

    def texts(self, column: str, empty: str) -> Array:
        """One column of the table on the grid, ``empty`` where there is no row."""
        grid = np.full(self.shape, empty, dtype=object)
        if column in self.table:
            self._fill(grid, self.table[column].fillna("").to_numpy(dtype=object))
        return grid

    def _fill(self, grid: Array, values: Array) -> None:
        grid[self.rows[self.placed], self.columns[self.placed]] = values[self.placed]


def heat_status(meas: Measurements, table: pd.DataFrame) -> Array:
    """Heat status per image: from the table if it has one, else from the image's row."""
    images = meas.images
    first = table.drop_duplicates("image_id")
    by_table = pd.Series(
        first["status"].astype(object).to_numpy(),
        index=first["image_id"].astype(str).to_numpy(),
        dtype=object,
    )
    status = images["image_id"].astype(str).map(by_table)
    if "heat_status" in images:
        status = status.where(status.notna(), images["heat_status"])
    filled: Array = status.where(status.notna(), "not_measured").astype(str).to_numpy(dtype=object)
    return filled


def finite_mean(values: Array) -> float | None:
    """Mean of the finite values; None if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None
