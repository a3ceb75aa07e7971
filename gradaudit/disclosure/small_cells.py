"""What a small count is, and which levels are withheld with one so that it cannot be subtracted.

Sizes per level come in, sets of levels go out. ``suppression`` explains the rules.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from gradaudit.records import UNKNOWN


def is_small(count: int | None, min_cell: int) -> bool:
    """True for 1 to ``min_cell`` - 1."""
    return count is not None and 0 < count < min_cell


def small_levels(sizes: pd.DataFrame, reference: str, min_cell: int) -> set[str]:
    """Levels of which nothing is shown: the small ones and their companions.

    A level is small where any of its counts is. Companions are added until k >= 2 levels are hidden
    and each of their total counts is 0 or at least ``min_cell`` + k - 1: were all but one of them
    to hold one member, the last would still hold ``min_cell``. If that takes every level, every
    level is hidden.

    sizes : one row per level (index), one column per way of counting its members (images, clusters,
        at any step)
    """
    counts = sizes.astype(int)
    hidden = _with_a_small_count(counts, min_cell)
    if hidden:
        _add_companions(hidden, counts.loc[counts.iloc[:, 0] > 0], reference, min_cell)
    return hidden


def levels_with_companions(
    sizes: pd.DataFrame, levels: set[str], reference: str, min_cell: int
) -> set[str]:
    """Small levels of one region, with companions; levels hidden anyway are taken first."""
    open_ = sizes.loc[[level not in levels for level in sizes.index]].astype(int)
    small = _with_a_small_count(open_, min_cell)
    present = sizes.loc[sizes["images"] > 0].astype(int)
    hidden = small | {level for level in levels if level in present.index}
    if not _add_companions(hidden, present, reference, min_cell):
        hidden = set(map(str, sizes.index))  # empty ones too: a shown 0 would tell
    return hidden - levels


def _with_a_small_count(counts: pd.DataFrame, min_cell: int) -> set[str]:
    small = ((counts > 0) & (counts < min_cell)).any(axis=1)
    return set(map(str, counts.index[small]))


def _add_companions(hidden: set[str], present: pd.DataFrame, reference: str, min_cell: int) -> bool:
    """Add levels to ``hidden`` until no small count can be computed.

    returns : False where no level is left to add
    """
    sizes = present.iloc[:, 0]
    while not _covered(present, hidden, min_cell):
        companion = _companion(
            {str(k): int(v) for k, v in sizes.items() if k not in hidden}, reference
        )
        if companion is None:
            return False
        hidden.add(companion)
    return True


def _covered(counts: pd.DataFrame, hidden: set[str], min_cell: int) -> bool:
    members = counts.loc[[level for level in counts.index if level in hidden]]
    total = members.sum()
    return len(members) > 1 and all(
        sum_ == 0 or sum_ >= min_cell + len(members) - 1 for sum_ in total
    )


def _companion(candidates: Mapping[str, int], reference: str) -> str | None:
    """The next level to hide: the unknown, else the largest that is not the reference.

    Hiding the smallest is usual, because it loses least; here it would hide the very groups that an
    audit is about.
    """
    if not candidates:
        return None
    return max(
        candidates, key=lambda level: (level == UNKNOWN, level != reference, candidates[level])
    )
