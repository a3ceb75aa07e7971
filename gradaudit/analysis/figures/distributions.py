"""How the heat of both sides of a finding is spread, as equally likely values (quantile dots).

A dot stands for an equal part of a side's clusters, and is their mean: so no single cluster's value
is told, and the dots of a side average to the mean that the finding states.  No dot stands for
fewer clusters than the small-cell rule allows; where that leaves fewer than ``FEWEST_DOTS``, or
counts are withheld, there are none.

Source: Kay, Kola, Hullman & Munson 2016, CHI '16 (quantile dotplots); a part's mean instead of its
middle quantile is the trimmed mean of that part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gradaudit.analysis.figures.sides import TWO_SIDED, Sides
from gradaudit.analysis.study import Floats
from gradaudit.number_text import significant
from gradaudit.records import CellState, Finding
from gradaudit.result_schema import Distribution

MOST_DOTS = 20
FEWEST_DOTS = 5
"""Fewer say nothing of a shape."""
MOST_FINDINGS = 60
"""Findings with dots, so that many levels do not fill the document."""


def distributions(
    sides: Sides, findings: Sequence[Finding], drawn: Sequence[Finding]
) -> tuple[Distribution, ...]:
    """Quantile dots of every decisive finding of groups, at most ``MOST_FINDINGS``.

    Pairs of levels have dots only where they are beyond the limit, open, or shown without one.

    drawn : findings that come first
    """
    wanted = {f.anchor: f for f in (*drawn, *findings) if _has_dots(f, sides)}
    out = []
    for f in list(wanted.values())[:MOST_FINDINGS]:
        found = _of_finding(f, sides)
        out += [] if found is None else [found]
    return tuple(out)


def _has_dots(f: Finding, sides: Sides) -> bool:
    decisive = f.test.family == "confirmatory" and f.outcome == "heat_share"
    if not decisive or f.code not in TWO_SIDED or f.suppressed or f.n_withheld:
        return False
    if None in (f.mean.estimate, f.mean_reference.estimate):
        return False
    if f.code == "GA105" and not _is_told(f):
        return False
    return f.reference != "rest" or not sides.has_hidden(f.attribute, f.region)


def _is_told(f: Finding) -> bool:
    return f.state in (CellState.BEYOND, CellState.OPEN) or (
        f.state is CellState.NOT_JUDGED and f.shown
    )


def _of_finding(f: Finding, sides: Sides) -> Distribution | None:
    found = sides.of(f.attribute, f.region, f.group, f.reference)
    if found is None:
        return None
    means = [sides.cluster_means(f.region, side) for side in found]
    dots = dots_of(min(map(len, means)), sides.suppression.min_cell)
    if not dots:
        return None
    own, other = (tuple(equal_parts(side, dots)) for side in means)
    return Distribution(finding=f.anchor, group=own, reference=other)


def dots_of(clusters: int, min_cell: int) -> int:
    """How many dots a side of so many clusters has; 0 where they would be too few."""
    dots = min(MOST_DOTS, clusters // max(min_cell, 1))
    return dots if dots >= FEWEST_DOTS else 0


def equal_parts(values: Floats, parts: int) -> Iterator[float]:
    """Means of ``parts`` equal parts of the sorted values; a value between two parts is in both.

    They are ``parts`` times the integrals of the quantile function over k/parts to (k + 1)/parts.
    """
    ordered = np.sort(values)
    sums = np.concatenate([[0.0], np.cumsum(ordered)]) / len(ordered)
    at = np.interp(np.arange(parts + 1) / parts, np.arange(len(ordered) + 1) / len(ordered), sums)
    for mean in parts * np.diff(at):
        yield significant(float(mean), 4)
