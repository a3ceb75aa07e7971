"""Subgroups compared: values and levels come in, one contrast per level (or slope) goes out.

``disparity`` is the public door, and ``analysis`` uses it too.  ``analysis_set`` holds the rows
that enter; ``between_clusters`` compares patients, ``within_clusters`` the images of one patient or
pair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from gradaudit.errors import InputError
from gradaudit.number_text import MISSING, finite_or_none, plain_number
from gradaudit.records import CROSS, STATE_WORDS, CellState
from gradaudit.stats.decision import MarginTest
from gradaudit.subgroups.analysis_set import (
    AnalysisSet,
    Observations,
    level_counts,
    takes_differences,
    usable_rows,
    with_sizes_moved,
)
from gradaudit.subgroups.between_clusters import between_contrasts, level_estimate
from gradaudit.subgroups.contrast import Bools, Contrast, judge
from gradaudit.subgroups.levels import level_text
from gradaudit.subgroups.settings import Settings
from gradaudit.subgroups.within_clusters import within_contrasts

FIRST_COLUMNS = (
    "group", "reference", "n_images", "n_clusters", "estimate", "se", "ci_low", "ci_high",
    "p", "p_adjusted", "p_beyond", "p_beyond_adjusted", "p_within", "mde80", "state", "reason",
)  # fmt: skip
"""Columns at the head of ``Disparity.table``; the other fields of ``Contrast`` follow."""
SHOWN_COLUMNS = (
    "group", "reference", "n_images", "n_clusters", "estimate", "ci_low", "ci_high",
    "p_adjusted", "mde80", "state", "reason",
)  # fmt: skip
"""Columns that a notebook shows."""


@dataclass(frozen=True)
class Disparity:
    """Every contrast of one attribute, with p-values adjusted for their number, and its state.

    levels : level -> (images, clusters) that entered
    excluded : reason -> images that did not enter
    omnibus : Wald test that all assessed levels are equal, or None (fewer than three levels, or not
        categorical)
    adjusted_for : names of the covariates
    unit : "cluster", "row", "pair" or "difference within cluster"
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
        """One row per contrast, with the fields of ``Contrast`` as columns."""
        others = [name for name in Contrast.columns() if name not in FIRST_COLUMNS]
        rows = [_fields_of(c) for c in self.contrasts]
        return pd.DataFrame(rows, columns=[*FIRST_COLUMNS, *others])

    def to_json(self) -> str:
        """Everything as JSON; numbers that do not exist are null."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        own["contrasts"] = [_fields_of(c) for c in self.contrasts]
        return json.dumps(_jsonable(own), ensure_ascii=False, allow_nan=False)

    def _repr_html_(self) -> str:
        shown = self.table[list(SHOWN_COLUMNS)]
        shown = shown.assign(state=[STATE_WORDS[state] for state in shown["state"]])
        rounded = partial(plain_number, digits=4)
        return str(shown.to_html(index=False, float_format=rounded, na_rep=MISSING))


def _fields_of(contrast: Contrast) -> dict[str, Any]:
    return {name: getattr(contrast, name) for name in Contrast.columns()}


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, float | np.floating):
        return finite_or_none(float(value))
    return int(value) if isinstance(value, np.integer) else value


def disparity(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    area_share: ArrayLike | None = None,
    label: ArrayLike | None = None,
    klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    site: ArrayLike | None = None,
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
    weights: Literal["equal", "precision"] = "equal",
    correction: Literal["holm", "max-t"] = "holm",
    omnibus: bool = True,
    analytic: bool = False,
) -> Disparity:
    """Differences of an outcome between groups, each with interval, p, margin tests and state.

    values : (n,) one number per image (heat share, hit, ...); NaN = undefined, counted and left out
    groups : (n,) level of each image (None or NaN = unknown, counted and left out); numbers where
        ``continuous``
    area_share : (n,) the region's share of the image in [0, 1]; its logit enters as a natural cubic
        spline
    label : (n,) true class: differences are taken at equal label, by centering within it (never
        pooled), and crossed with the spline where there are enough patients.  Patients of a label
        that holds one side only, or of unknown label, say nothing (``entered``)
    klass : (n,) explained class.  Without ``label`` it takes the label's place.  With it, the
        difference at equal ``klass`` stands beside as ``adjusted_predicted`` and decides nothing:
        a predicted class is moved by what the model sees
    covariates : further columns; numbers enter as natural cubic splines, everything else as
        factors, never pooled
    site : (n,) a unit above the patients (hospital): compared within sites always.  Where five
        sites hold both sides, they are the unit of the error (CR2, Bell-McCaffrey df, Student's t);
        with fewer the patients stay the unit, and the finding is about these sites alone
    clusters : (n,) unit of independence (patient); default: each image alone
    pairs : (n,) pair id (the same image with and without a marking): differences within pairs
    reference : a level, or "rest" (each level against all others; of two levels the larger one is
        the reference)
    order : levels from first to last; adds the slope (quoted first to last) and the departure from
        it
    continuous : the attribute is a number; its slope is quoted from the 10 % to the 90 % point
    margin : largest immaterial difference; None leaves the size unjudged
    permutations : B; raised to 160 per planned comparison, so that Holm can reach alpha
    within : the attribute varies inside clusters, so differences are taken inside them (patient
        fixed effects); None: yes where half of the clusters with several images carry several
        levels
    family : number of comparisons planned together, where that is more than this call's: those
        that are not here count with p = 1
    unit : "image" estimates on image rows weighted 1/n_patient with CR2 errors; p from the patient
        permutation
    weights : "precision" weights each patient by the precision of its mean, 1/(τ² + σ²/n), so that
        one with more images counts for more.  Each counts once all the same, and a note says so,
        where the number of images is related to the outcome (in a group; of a slope in any level,
        or overall or in a third of a continuous attribute), where under 20 effective patients of a
        side would be left, and inside clusters or pairs.  It excludes ``unit="image"``
    correction : "max-t" instead of Holm for p, where every level has at least 40 patients
    omnibus : test whether all levels are equal as well
    analytic : Student's t with Bell-McCaffrey df throughout (for bounds and displays; not for
        verdicts)

    Errors: ``InputError`` for lengths that differ, infinite values, levels outside ``order``, an
    unknown reference, a setting out of range.
    """
    settings = Settings(
        reference=reference,
        order=None if order is None else tuple(map(str, order)),
        continuous=continuous,
        margin=margin,
        alpha=alpha,
        permutations=permutations,
        seed=seed,
        within=within,
        family=family,
        unit=unit,
        weights=weights,
        correction=correction,
        omnibus=omnibus,
        analytic=analytic,
        paired=pairs is not None,
    )
    observations = Observations(
        values=values,
        groups=groups,
        area_share=area_share,
        label=label,
        klass=klass,
        covariates=covariates,
        site=site,
        clusters=clusters,
        pairs=pairs,
    )
    return disparity_of(observations, settings)


def disparity_of(observations: Observations, settings: Settings) -> Disparity:
    """``disparity`` with what is compared, and how, as one value each."""
    if observations.site is not None and settings.unit == "image":
        raise InputError(
            'unit="image" and site exclude each other: the site is the unit of errors.'
        )
    rows = usable_rows(observations, settings)
    wald = None
    if takes_differences(rows, settings):
        contrasts = within_contrasts(rows, settings)
        unit = "pair" if settings.paired else "difference within cluster"
    else:
        contrasts, wald = between_contrasts(rows, settings)
        unit = "cluster" if rows.count < len(rows.y) else "row"
    if observations.label is not None and observations.klass is not None:
        contrasts = _with_predicted(contrasts, observations, settings)
    return Disparity(
        contrasts=judge(
            contrasts, margin=settings.margin, alpha=settings.alpha, planned=settings.family
        ),
        omnibus=wald,
        levels={} if settings.continuous else level_counts(rows),
        excluded=rows.excluded,
        adjusted_for=rows.adjusted_for,
        margin=settings.margin,
        alpha=settings.alpha,
        unit=unit,
        notes=rows.notes,
    )


def _with_predicted(
    contrasts: Sequence[Contrast], observations: Observations, settings: Settings
) -> list[Contrast]:
    """The contrasts with the same difference at equal explained class, by Student's t."""
    cheap = replace(
        settings, analytic=True, omnibus=False, margin=None, unit="patient", effects=False
    )
    found = disparity_of(replace(observations, label=None), cheap)
    beside = {(c.kind, c.group, c.reference): c for c in found.contrasts}
    out = []
    for c in contrasts:
        other = beside.get((c.kind, c.group, c.reference))
        if other is not None and not c.reason:
            ends = other.estimate, other.ci_low, other.ci_high
            c = replace(c, adjusted_predicted=ends)
        out.append(c)
    return out


def intersections(
    values: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    area_share: ArrayLike | None = None,
    label: ArrayLike | None = None,
    klass: ArrayLike | None = None,
    covariates: pd.DataFrame | None = None,
    site: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
    permutations: int = 9999,
    seed: int = 0,
    site_name: str = "site",
) -> Disparity:
    """Cells of two attributes: each against the rest, and its departure from additivity.

    values, first, second : (n,); the other arguments as in ``disparity``.  Cells are named "A × B".
    site_name : what the site is called where it is named as held equal
    Contrasts of kind "additivity" compare a cell with what its two levels add up to; they exist for
    cells past the guards whose additive prediction the other cells determine.
    """
    (a, known_a), (b, known_b) = (_level_texts(side) for side in (first, second))
    cells = np.where(known_a & known_b, a + CROSS + b, None)
    observations = Observations(
        values=values,
        groups=cells,
        area_share=area_share,
        label=label,
        klass=klass,
        covariates=covariates,
        site=site,
        clusters=clusters,
    )
    settings = Settings(
        margin=margin,
        alpha=alpha,
        permutations=permutations,
        seed=seed,
        within=False,
        omnibus=False,
        crossed=True,
        site_name=site_name,
    )
    return disparity_of(observations, settings)


def _level_texts(values: ArrayLike) -> tuple[np.ndarray[Any, Any], Bools]:
    """(n,) levels as text, "" where unknown; and which are known."""
    codes, unique = pd.factorize(pd.Series(values, dtype=object))
    return np.array([*map(level_text, unique), ""], dtype=object)[codes], codes >= 0


LARGEST_SHIFT = 1.0
"""Of the logit of area, up to which a change of the state is looked for."""


def mask_tipping(rows: AnalysisSet, settings: Settings, contrast: Contrast) -> float | None:
    """By how much the group's masks would have to be drawn larger for the state to change.

    The masks' areas enter the comparison as what is held equal, so masks that are drawn larger for
    one group than for the other move the difference.  Heat stays as it is; estimate and error are
    taken anew, the tails of the test stay.

    rows : the usable ones
    contrast : a level or pair of theirs, with its state
    returns : the smallest shift of the logit of the group's areas (below 0: smaller masks), to
        0.01; None where neither end of -1..1 changes the state, or the comparison has no sizes, or
        was made in another way (inside clusters, on common support, by an exact test)
    """
    if contrast.margin_test is None or rows.size is None or contrast.group not in rows.levels:
        return None
    if takes_differences(rows, settings) or contrast.method == "Fisher":
        return None
    level = rows.levels.index(contrast.group)
    base = None if contrast.reference == "rest" else rows.levels.index(contrast.reference)

    def room(shift: float) -> float:
        moved = with_sizes_moved(rows, rows.codes == level, shift)
        found = level_estimate(moved, level, base, settings)
        return -1.0 if found is None else _room(contrast, *found, settings.alpha)

    unmoved = level_estimate(rows, level, base, settings)
    if unmoved is None or abs(unmoved[0] - contrast.estimate) > 1e-9 * max(contrast.se, 1e-300):
        return None
    here = _room(contrast, *unmoved, settings.alpha)
    return 0.0 if here < 0 else _nearest_change(room, here)


def _room(contrast: Contrast, estimate: float, se: float, alpha: float) -> float:
    """How far a difference may still move before its state changes; below 0: it has changed."""
    test = contrast.margin_test
    assert isinstance(test, MarginTest)
    moved = replace(test, estimate=estimate, se=se)
    if contrast.state is CellState.WITHIN:
        low, high = moved.whisker(alpha)
        return min(low + test.margin, test.margin - high)
    p = contrast.p_beyond
    several = contrast.p_beyond_adjusted / p if p > 0 else 1.0  # Holm's factor for this one
    low, high = moved.whisker(alpha / 2 / max(several, 1.0))
    return low - test.margin if test.estimate > 0 else -high - test.margin


def _nearest_change(room: Callable[[float], float], here: float) -> float | None:
    """The shift nearest to 0 at which ``room`` falls below 0, of either direction."""
    found = []
    for sign in (1.0, -1.0):
        far = room(sign * LARGEST_SHIFT)
        if far < 0:
            found.append(sign * _crossing_point(room, sign, (0.0, here), (LARGEST_SHIFT, far)))
    return min(found, key=abs, default=None)


def _crossing_point(
    room: Callable[[float], float], sign: float, low: tuple[float, float], high: tuple[float, float]
) -> float:
    """Where ``room`` crosses 0 between two shifts, to 0.01, on the side where it is below 0.

    False position with halved weights (the Illinois rule): Dowell & Jarratt 1971, BIT 11:168.
    """
    (a, at_a), (b, at_b) = low, high
    for _ in range(20):
        if b - a <= 0.01:
            break
        middle = min(max(b - at_b * (b - a) / (at_b - at_a), a + 0.004), b - 0.004)
        at = room(sign * middle)
        if at < 0:
            b, at_b, at_a = middle, at, at_a / 2
        else:
            a, at_a, at_b = middle, at, at_b / 2
    return round(b, 3)
