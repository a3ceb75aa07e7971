"""Subgroups compared: attributes and levels in, one contrast per level (or slope) out, by the
protocol of ``stats``.

``disparity`` is the public door and ``analysis`` goes through it too.  ``analysed_rows`` holds what
enters; ``between`` compares patients, ``within`` one patient's images or a pair;
``contrasts.estimate_all`` turns their hypotheses into ``Contrast``s.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gradaudit.errors import InputError
from gradaudit.records import CROSS, VERDICT_WORDS
from gradaudit.subgroups.analysis_set import level_counts, takes_differences, usable_rows
from gradaudit.subgroups.between_clusters import between_contrasts
from gradaudit.subgroups.contrast import Contrast, Settings, judge
from gradaudit.subgroups.levels import level_text
from gradaudit.subgroups.within_clusters import within_contrasts


@dataclass(frozen=True)
class Disparity:
    """Every contrast of one attribute, with its family's adjustment and verdicts.

    ``levels``: level -> (images, clusters) that entered; ``excluded``: reason -> images that did
    not. ``omnibus``: Wald test that all assessed levels are equal, or None (fewer than three
    levels, or not categorical).
    """

    contrasts: tuple[Contrast, ...]
    omnibus: dict[str, float] | None
    levels: dict[str, tuple[int, int]]
    excluded: dict[str, int]
    adjusted_for: tuple[str, ...]
    margin: float | None
    alpha: float
    unit: str
    notes: tuple[str, ...] = ()

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per contrast; see ``Contrast`` for the columns (p is NaN where a guard withholds
        the verdict).
        """
        first = [
            "group", "reference", "n_images", "n_clusters", "estimate", "se", "ci_low", "ci_high", "p", "p_adjusted", "p_equivalence",
            "p_equivalence_adjusted", "mde80", "verdict", "reason",
        ]  # fmt: skip
        names = [f.name for f in fields(Contrast)]
        rows = [{name: getattr(c, name) for name in names} for c in self.contrasts]
        return pd.DataFrame(rows, columns=[*first, *(n for n in names if n not in first)])

    def to_json(self) -> str:
        """Everything as JSON; numbers that do not exist are null."""
        return json.dumps(_jsonable(asdict(self)), ensure_ascii=False, allow_nan=False)

    def _repr_html_(self) -> str:
        shown = self.table[
            [
                "group",
                "reference",
                "n_images",
                "n_clusters",
                "estimate",
                "ci_low",
                "ci_high",
                "p_adjusted",
                "mde80",
                "verdict",
                "reason",
            ]
        ]
        shown = shown.assign(verdict=[VERDICT_WORDS[v] for v in shown["verdict"]])
        return str(shown.to_html(index=False, float_format="{:.4g}".format, na_rep="–"))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def disparity(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    area_share: ArrayLike | None = None,
    klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    clusters: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    reference: str = "rest",
    order: Sequence[str] | None = None,
    continuous: bool = False,
    margin: float | None = None,
    alpha: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
    within: bool | None = None,
    family: int | None = None,
    unit: Literal["patient", "image"] = "patient",
    correction: Literal["holm", "max-t"] = "holm",
    omnibus: bool = True,
    analytic: bool = False,
) -> Disparity:
    """Differences of an outcome between groups, each with interval, p, equivalence and verdict.

    values : (n,) one number per image (heat share, hit, ...); NaN = undefined, counted and left out
    groups : (n,) level of each image (None/NaN = unknown, counted and left out), or numbers where
        ``continuous``
    area_share : (n,) region's share of the image in [0, 1]; enters as a natural cubic spline of its
        logit
    klass : (n,) explained class; a factor, crossed with the spline where patients suffice
    covariates : further columns; numbers enter as they are, everything else as factors
    clusters : (n,) unit of independence (patient); default: each image alone
    pairs : (n,) pair id (the same image with and without a marking): differences within pairs
    reference : a level, or "rest" (each level against all others; of two levels the larger one is
        the reference)
    order : levels from first to last; adds the slope (quoted first to last) and the departure from
        it
    margin : largest immaterial difference; None leaves the size unjudged
    permutations : B; raised to 80 per contrast of the family, so that Holm can reach alpha
    within : the attribute varies inside clusters, so differences are taken inside them (patient
        fixed effects); None: yes where half of the clusters with several images carry several
        levels
    family : number of contrasts judged together, where that is more than this call's (raises B)
    unit : "image" estimates on image rows weighted 1/n_patient with CR2 errors; p from the patient
        permutation
    correction : "max-t" instead of Holm for p, where every level has at least 40 patients
    analytic : Student's t with Bell-McCaffrey df throughout (for bounds and displays; not for
        verdicts)

    Errors: ``InputError`` for lengths that differ, infinite values, levels outside ``order``, an
    unknown reference.
    """
    ask = Settings(
        reference,
        None if order is None else tuple(map(str, order)),
        continuous,
        margin,
        alpha,
        permutations,
        seed,
        within,
        family,
        unit,
        correction,
        omnibus,
        analytic,
        pairs is not None,
    )
    return _run(ask, values, groups, area_share, klass, covariates, clusters, pairs)


def _run(
    ask: Settings,
    values: ArrayLike,
    groups: ArrayLike,
    area_share: ArrayLike | None = None,
    klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    clusters: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
) -> Disparity:
    _check_settings(ask)
    rows = usable_rows(values, groups, area_share, klass, covariates, clusters, pairs, ask)
    if takes_differences(rows, ask):
        contrasts, wald = within_contrasts(rows, ask), None
        unit = "pair" if ask.paired else "difference within cluster"
    else:
        contrasts, wald = between_contrasts(rows, ask)
        unit = "cluster" if rows.count < len(rows.y) else "row"
    levels = {} if ask.continuous else level_counts(rows)
    judged = judge(contrasts, ask.margin, ask.alpha)
    return Disparity(
        judged,
        wald,
        levels,
        rows.excluded,
        rows.adjusted_for,
        ask.margin,
        ask.alpha,
        unit,
        rows.notes,
    )


def _check_settings(ask: Settings) -> None:
    if not 0 < ask.alpha < 0.5:
        raise InputError(f"alpha lies between 0 and 0.5; got {ask.alpha}.")
    if ask.margin is not None and not ask.margin > 0:
        raise InputError(
            f"The margin is a positive difference in the outcome's unit; got {ask.margin}."
        )
    if ask.permutations < 99 and not ask.analytic:
        raise InputError(f"At least 99 permutations; got {ask.permutations}.")
    if ask.continuous and ask.order is not None:
        raise InputError(
            "An attribute is either continuous or ordered; got both continuous=True and order."
        )
    if ask.unit not in ("patient", "image") or ask.correction not in ("holm", "max-t"):
        raise InputError(
            f"unit is 'patient' or 'image' and correction 'holm' or 'max-t'; got {ask.unit!r} and {ask.correction!r}."
        )


def intersections(
    values: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    area_share: ArrayLike | None = None,
    klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    clusters: ArrayLike | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
) -> Disparity:
    """Cells of two attributes: each against the rest, and its departure from what the two
    attributes add up to.

    values, first, second : (n,); the rest as in ``disparity``.  Cells are named "A × B".  Contrasts
        of kind "additivity"
    exist for cells past the guards whose additive prediction the other cells determine.
    """
    parts = [pd.Series(a, dtype=object).reset_index(drop=True) for a in (first, second)]
    known = parts[0].notna() & parts[1].notna()
    cells = [
        f"{level_text(a)}{CROSS}{level_text(b)}" if k else None
        for a, b, k in zip(*parts, known, strict=True)
    ]
    ask = Settings(
        "rest",
        None,
        False,
        margin,
        alpha,
        permutations,
        seed,
        False,
        None,
        "patient",
        "holm",
        False,
        False,
        False,
        crossed=True,
    )
    return _run(
        ask, values, np.asarray(cells, dtype=object), area_share, klass, covariates, clusters
    )
