"""The known names that a misspelt word may have meant."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable

NEAR = 0.7
"""Least similarity of a name that is asked after."""


def nearest_names(
    word: str, known: Iterable[str], *, most: int = 1, cutoff: float = NEAR
) -> list[str]:
    """Known names that are spelled much like ``word``, nearest first; letter case counts for
    nothing.

    cutoff : least similarity, from 0 (nothing in common) to 1 (the same letters), as in
        https://docs.python.org/3/library/difflib.html#difflib.SequenceMatcher.ratio
    """
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(known):
        spelled[name.casefold()].append(name)
    near = difflib.get_close_matches(word.casefold(), spelled, n=most, cutoff=cutoff)
    return [name for folded in near for name in spelled[folded]][:most]


def did_you_mean(word: str, known: Iterable[str], *, most: int = 1, cutoff: float = NEAR) -> str:
    """ "did you mean 'sex'?", of several "did you mean 'sex' or 'site'?"; "" where none is near."""
    near = nearest_names(word, known, most=most, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def hint_in_brackets(word: str, known: Iterable[str], *, most: int = 1) -> str:
    """ " (did you mean 'sex'?)", to be set behind the word; "" where none is near."""
    question = did_you_mean(word, known, most=most)
    return f" ({question})" if question else ""
