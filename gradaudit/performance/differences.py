"""Differences of a figure between groups: an interval made from both intervals, and a test.

A *figure* is one performance number with its interval (``intervals.Figure``). Predictions and the
level of each image come in; intervals and tests go out. Accuracy, sensitivity, specificity, PPV and
Brier score are means over images and are tested like heat: on clusters' means, by
``subgroups.disparity``. Figures that are not a mean over images are tested in the same way on their
pseudo-values (see ``pseudo_values``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradaudit.performance.intervals import Array, Figure
from gradaudit.performance.metrics import Predictions, squared_errors
from gradaudit.performance.pseudo_values import PSEUDO_VALUED, pseudo_values
from gradaudit.plan import Plan
from gradaudit.records import TestResult
from gradaudit.stats.effect_sizes import mode_share
from gradaudit.subgroups.analysis_set import Observations, takes_differences, usable_rows
from gradaudit.subgroups.between_clusters import comparisons_of
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.contrast import EXPLORATORY_PERMUTATIONS, TEST_NAMES, Contrast, guard
from gradaudit.subgroups.settings import Settings

Tests = dict[tuple[str, str], TestResult]
"""(level, figure) -> test of the figure's difference to the level's reference."""

# ── intervals ─────────────────────────────────────────────────────────────────────────────────────


def mover_difference(a: Figure, b: Figure) -> tuple[float | None, float | None, float | None]:
    """a - b with an interval made from the two intervals ("method of variance estimates recovery").

    Where clusters have images on both sides, the correlation of the two estimates is taken from
    their influences. None where a side has no estimate, or no interval.

    Source: Newcombe 1998, Stat. Med. 17:873 and 17:2635; Zou & Donner 2008, Stat. Med. 27:1693, eqs
    5 and 7.
    """
    if a.estimate is None or b.estimate is None:
        return None, None, None
    d = a.estimate - b.estimate
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return d, None, None
    r = _correlation(a, b)
    down = [a.estimate - a.low, b.high - b.estimate]
    up = [a.high - a.estimate, b.estimate - b.low]
    low, high = (np.sqrt(max(0.0, x**2 + y**2 - 2 * r * x * y)) for x, y in (down, up))
    return d, float(d - low), float(d + high)


def _correlation(a: Figure, b: Figure) -> float:
    if a.influence is None or b.influence is None:
        return 0.0
    scale = float(np.sqrt(np.sum(a.influence**2) * np.sum(b.influence**2)))
    return float(np.sum(a.influence * b.influence)) / scale if scale > 0 else 0.0


def by_cluster(figure: Figure, cluster: Array, data: Predictions) -> Figure:
    """The figure with its influences summed per cluster, over all clusters of the data.

    Two figures of different images can then be correlated.

    cluster : (n,) of the figure's images
    """
    if figure.influence is None:
        return figure
    sums = np.bincount(cluster, weights=figure.influence, minlength=int(data.cluster.max()) + 1)
    return replace(figure, influence=sums)


# ── tests ─────────────────────────────────────────────────────────────────────────────────────────


def difference_tests(data: Predictions, levels: Array, reference: str, plan: Plan) -> Tests:
    """The test of every level and figure; a level whose guard fails has none.

    levels : (n,) level of each image of ``data``, None unknown
    reference : a level, or "rest"
    """
    settings = _settings(reference, plan)
    known = np.array([level is not None for level in levels], dtype=bool)
    found: Tests = {}
    for name, values in _per_image(data).items():
        if not _comparable(levels[known & np.isfinite(values)], reference):
            continue
        observations = Observations(values=values, groups=levels, clusters=data.cluster)
        for c in disparity_of(observations, settings).contrasts:
            if (test := _as_test(c)) is not None:
                # with two levels, one comparison answers for both
                both = c.reference != "rest" and reference == "rest"
                found |= dict.fromkeys(_keys(name, c.group, c.reference if both else None), test)
    if _comparable(levels[known], reference):
        found |= _tests_of_pseudo_values(data, levels, reference, plan)
    return found


def _settings(reference: str, plan: Plan) -> Settings:
    return Settings(
        reference=reference,
        alpha=plan.analysis.alpha,
        permutations=min(plan.analysis.permutations, EXPLORATORY_PERMUTATIONS),
        seed=plan.run.seed,
        omnibus=False,
    )


def _comparable(levels: Array, reference: str) -> bool:
    """Whether there are at least two levels, and the reference is one of them."""
    present = set(levels)
    return len(present) > 1 and (reference == "rest" or reference in present)


def _keys(figure: str, level: str, other: str | None) -> list[tuple[str, str]]:
    return [(side, figure) for side in (level, other) if side is not None]


def _as_test(c: Contrast) -> TestResult | None:
    if c.reason or not np.isfinite(c.p):
        return None
    return TestResult(
        name=TEST_NAMES.get(c.method, ""),
        p=float(c.p),
        family="exploratory",
        permutations=c.permutations or None,
    )


def _per_image(data: Predictions) -> dict[str, Array]:
    """Figures that are a mean over images, one number per image: NaN outside a figure's base."""
    out = {"accuracy": data.correct}
    if data.positive is not None:
        truly, called = data.label == data.positive, data.predicted == data.positive
        out |= {
            "sensitivity": np.where(truly, called, np.nan),
            "specificity": np.where(truly, np.nan, ~called),
            "ppv": np.where(called, truly, np.nan),
        }
    if data.probability is not None:
        out["brier"] = squared_errors(data, data.probability)[0]
    return out


@dataclass(frozen=True)
class _Sides:
    """One comparison: the predictions of a level and of its reference.

    other : the reference's name where the test is also the reference's own (with two levels)
    within : the comparison is made inside clusters
    """

    level: str
    other: str | None
    own: Predictions
    reference: Predictions
    within: bool


def _tests_of_pseudo_values(data: Predictions, levels: Array, reference: str, plan: Plan) -> Tests:
    """Tests of the figures that are not a mean over images, on the clusters' pseudo-values."""
    found: Tests = {}
    for sides in _compared_sides(data, levels, _settings(reference, plan)):
        for name in PSEUDO_VALUED:
            test = _test_of_sides(name, sides, plan)
            if test is not None:
                found |= dict.fromkeys(_keys(name, sides.level, sides.other), test)
    return found


def _compared_sides(data: Predictions, levels: Array, settings: Settings) -> Iterator[_Sides]:
    """All comparisons of an attribute, and whether each is made inside clusters.

    That is decided on the images, as for every other figure.
    """
    observations = Observations(values=np.arange(len(levels)), groups=levels, clusters=data.cluster)
    rows = usable_rows(observations, settings)
    images, within = rows.y.astype(np.int64), takes_differences(rows, settings)
    for level, base in comparisons_of(rows.codes, rows.levels, settings.reference):
        own = rows.codes == level
        other = ~own if base is None else rows.codes == base
        both = base is not None and settings.reference == "rest"
        yield _Sides(
            level=rows.levels[level],
            other=rows.levels[base] if both and base is not None else None,
            own=data.take(images[own]),
            reference=data.take(images[other]),
            within=within,
        )


def _test_of_sides(name: str, sides: _Sides, plan: Plan) -> TestResult | None:
    """Test of the figure ``name`` between two sides; None where a guard withholds it."""
    mine = pseudo_values(name, sides.own, sides.reference)
    theirs = pseudo_values(name, sides.reference, sides.own)
    if mine is None or theirs is None:
        return None
    share = mode_share(np.r_[mine.seen, theirs.seen])
    if guard(share, len(mine.seen), len(theirs.seen)).reason:
        return None
    names = np.array(["own", "other"], dtype=object)
    observations = Observations(
        values=np.r_[mine.values, theirs.values],
        groups=np.repeat(names, [len(mine.values), len(theirs.values)]),
        clusters=np.r_[mine.clusters, theirs.clusters],
    )
    settings = replace(_settings("other", plan), within=sides.within)
    return _as_test(disparity_of(observations, settings).contrasts[0])
