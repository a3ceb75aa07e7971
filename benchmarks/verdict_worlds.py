"""What an audit says of many comparisons: worlds with a known answer, through the package's own decision.

The checks of ``benchmarks/validity.py`` for the verdict; it imports this module.  Worlds: ``tests/worlds2.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import worlds2

import gradaudit as ga
from gradaudit.stats.decision import MarginTest, decide

REGIONS = {1: 1, 4: 2, 10: 2, 40: 4}
"""Number of planned cells -> regions of that family."""
COMPARED = {1: (1,), 4: (1, 1), 10: (1, 2, 2), 40: (1, 2, 3, 4)}
"""Number of planned cells -> how many levels of each attribute are compared with its last one."""
SD, MARGIN = 0.15, 0.10


def tests_of(frame: pd.DataFrame, cells: int, permutations: int, seed: int) -> list[MarginTest]:
    """The margin test of every planned cell of one draw; each attribute and region is compared as an audit does it."""
    tests = []
    for region in range(REGIONS[cells]):
        own = frame.loc[frame["region"] == region]
        for a, compared in enumerate(COMPARED[cells]):
            level = own[f"a{a}"]
            found = ga.disparity(
                own["value"], level.astype(str), clusters=own["cluster"], reference=str(level.max()), margin=MARGIN,
                permutations=permutations, seed=seed, family=cells, omnibus=False,
            )  # fmt: skip
            by_group = {c.group: c for c in found.contrasts}
            tests += [by_group[str(j)].margin_test for j in range(compared)]
    return tests


def true_error(frame: pd.DataFrame, cells: int) -> list[float]:
    """The true standard error of every planned cell, in the order of ``tests_of``."""
    one = frame.loc[frame["region"] == 0]
    errors = []
    for a, compared in enumerate(COMPARED[cells]):
        sizes = one[f"a{a}"].value_counts().sort_index().to_numpy()
        errors += [SD * np.sqrt(1 / sizes[j] + 1 / sizes[-1]) for j in range(compared)]
    return errors * REGIONS[cells]


def said(tests: list[MarginTest]) -> str:
    """met, not_met or insufficient, from the words of every cell."""
    words = [found.word for found in decide(tests)]
    if "beyond" in words:
        return "not_met"
    return "met" if set(words) == {"within"} else "insufficient"


def states(name: str, cells: int, replicates: int, permutations: int, seed: int, errors: float | None = None) -> pd.Series:
    """Share of audits of a world that end in each state.

    errors : the margin of each cell in its true standard errors, instead of 10 points
    """
    counts = []
    for r in range(replicates):
        frame = worlds2.draw(name, np.random.default_rng((seed, r)))
        tests = tests_of(frame, cells, permutations, seed=r // 100)
        if errors is not None:
            margins = [errors * se for se in true_error(frame, cells)]
            tests = [replace(t, margin=m) for t, m in zip(tests, margins, strict=True)]
        counts.append(said(tests))
    return pd.Series(counts).value_counts(normalize=True)
