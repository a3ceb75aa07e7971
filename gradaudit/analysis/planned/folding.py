"""Contrasts that tell one fact from its other side are folded under the one that tells it best.

Where one level lies far from all others, the others lie on the other side of "the rest", and every
pair with that level repeats the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradaudit.analysis.study import Draft
from gradaudit.records import CellState
from gradaudit.subgroups.contrast import TWO_SIDED, Contrast


def with_folds(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts, each with the anchor of the one that tells its fact (``folded_under``).

    Within one attribute, region and outcome, levels that are beyond the margin or shown are taken
    from the largest difference to the smallest.  Another such level or pair is folded under it
    where the difference of that level alone would make it: the sign is that which would be seen if
    all other levels were equal, and what is left beside it is smaller than the margin (without a
    margin: the interval holds what would be seen).
    Only what would be told is folded; nothing open, and nothing withheld.
    """
    told: dict[tuple[str, ...], list[int]] = {}
    for i, d in enumerate(drafts):
        if _is_told(d):
            place = (d.attribute, d.region, d.outcome, d.method, d.target)
            told.setdefault(place, []).append(i)
    out = list(drafts)
    for places in told.values():
        for i, anchor in _folds([(i, drafts[i]) for i in places]).items():
            out[i] = replace(out[i], folded_under=anchor)
    return out


def _is_told(d: Draft) -> bool:
    c = d.contrast
    if c.kind not in TWO_SIDED or d.stratum or not d.confirmatory:
        return False
    return c.state is CellState.BEYOND or (c.shown and c.state is not CellState.WITHHELD)


def _folds(told: list[tuple[int, Draft]]) -> dict[int, str]:
    """Place -> anchor of the draft that it is folded under."""
    out: dict[int, str] = {}
    levels = [(i, d) for i, d in told if d.contrast.kind == "level"]
    heads = set()
    for i, head in sorted(levels, key=lambda item: -abs(item[1].contrast.estimate)):
        if i in out:
            continue
        heads.add(i)
        for j, other in told:
            if j in out or j in heads:
                continue
            if is_other_side(head.contrast, other.contrast, head.margin):
                out[j] = head.anchor
    return out


def is_other_side(head: Contrast, other: Contrast, margin: float | None) -> bool:
    """Whether ``other`` is what the difference of the head's level alone would make of it."""
    expected = _expected(head, other)
    if expected is None or expected * other.estimate <= 0:
        return False
    if margin is None:
        return bool(other.ci_low <= expected <= other.ci_high)
    return bool(abs(other.estimate - expected) < margin)


def _expected(head: Contrast, other: Contrast) -> float | None:
    """The other contrast if the head's level differed from all others and these were equal."""
    if other.kind == "pair":
        if head.group == other.group:
            return head.estimate
        return -head.estimate if head.group == other.reference else None
    if head.reference != "rest" or other.reference != "rest" or head.group == other.group:
        return None
    return -head.estimate * head.n_clusters / max(other.n_clusters_reference, 1)
