"""What an audit says of many comparisons: worlds with a known answer, through the package's own decision.

The checks of ``benchmarks/validity.py`` for the verdict; it imports this module.  Worlds: ``tests/worlds2.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import worlds2
from compared_groups import audited
from scipy.special import expit
from world_measurements import measured_world

import gradaudit as ga
from gradaudit.records import CellState
from gradaudit.stats.decision import MarginTest, decide

REGIONS = {1: 1, 4: 2, 10: 2, 40: 4}
"""Number of planned cells -> regions of that family."""
COMPARED = {1: (1,), 4: (1, 1), 10: (1, 2, 2), 40: (1, 2, 3, 4)}
"""Number of planned cells -> how many levels of each attribute are compared with its last one."""
SMALLEST = {
    "": ("60 and more, skewed", 0.035),
    "s": ("smallest level 25, skewed", 0.035),
    "t": ("smallest level 12, skewed", 0.045),
}
"""End of a family's name -> its smallest level in words, and how often it may be "not met" at the margin."""
SD, MARGIN = 0.15, 0.10
TYPE_ONE = (0.035, 0.065)

Figure = tuple[str, float, float | None, float | None]
"""What was measured, its value, and the bounds that it has to keep."""
Check = Callable[[int, int, int], list[Figure]]
CHECKS: dict[str, Check] = {}
"""Name -> (replicates, permutations, seed) -> figures."""


# ── many comparisons ────────────────────────────────────────────────────────────────────────────────────────────────


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


def states(
    name: str,
    cells: int,
    replicates: int,
    permutations: int,
    seed: int,
    errors: float | None = None,
) -> pd.Series:
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


def _upper(rate: float, replicates: int) -> float:
    """A rate that may not be passed, and two standard errors."""
    return rate + 2 * float(np.sqrt(rate * (1 - rate) / replicates))


def at_the_margin(
    cells: int, small: str, replicates: int, permutations: int, seed: int
) -> list[Figure]:
    """Every cell differs by exactly the margin: how often is the audit "not met"?"""
    found = states(f"M{cells:02d}{small}", cells, replicates, permutations, seed)
    words, bound = SMALLEST[small]
    return [
        (
            f"not met, {cells} cells at the margin, {words}",
            found.get("not_met", 0.0),
            None,
            _upper(bound, replicates),
        )
    ]


def one_at_the_margin(cells: int, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """One cell differs by the margin, the others not at all: how often is the audit "met"?"""
    found = states(f"O{cells:02d}", cells, replicates, permutations, seed)
    met = found.get("met", 0.0)
    return [(f"met, one of {cells} cells at the margin", met, None, _upper(0.05, replicates))]


def no_difference(cells: int, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """No difference anywhere, each margin four standard errors wide: how often is the audit "met"?"""
    n, least = replicates, {1: 0.92, 4: 0.88, 10: 0.78, 40: 0.43}[cells]
    found = states(f"N{cells:02d}", cells, n, permutations, seed, errors=4.0)
    return [
        (f"met, {cells} cells without a difference, margin/SE 4", found.get("met", 0.0), least - (0.06 if n < 200 else 0), None),
        (f"not met, {cells} cells without a difference", found.get("not_met", 0.0), None, 0.001 + 1 / n),
    ]  # fmt: skip


def taken(name: str, replicates: int) -> int:
    """How many of the replicates asked for a check takes: forty cells need seconds for each."""
    if name in AUDITS:
        return max(20, replicates // 20)
    if name in (*ALIASED, *CURVES):
        return replicates // 4
    return max(20, replicates // 10) if name[1:3] == "40" else replicates


for _m in (1, 4, 10, 40):
    for _small in SMALLEST:
        CHECKS[f"M{_m:02d}{_small}"] = partial(at_the_margin, _m, _small)
    CHECKS[f"O{_m:02d}"] = partial(one_at_the_margin, _m)
    CHECKS[f"N{_m:02d}"] = partial(no_difference, _m)


# ── one comparison, honestly adjusted ───────────────────────────────────────────────────────────────────────────────

NULL = (
    "aliased_12", "classes_30x12", "classes_30x12_skew", "classes_100x2", "classes_one_sided", "classes_singles",
    "steep_covariate", "hospitals_5", "hospitals_10", "hospitals_20", "hospitals_20_slopes", "images", "images_12_100",
    "images_informative",
)  # fmt: skip


def compared(frame: pd.DataFrame, **settings: object) -> ga.Disparity:
    """``ga.disparity`` of a world's rows, with everything that the world has to hold equal."""
    known: dict[str, object] = {}
    if frame["log_area"].notna().all():
        known["area_share"] = expit(frame["log_area"])
    if frame["klass"].notna().all():
        known["label"] = frame["klass"]
    if "site" in frame:
        known["site"] = frame["site"]
    if "x" in frame and frame["group"].nunique() > 1:
        known["covariates"] = frame[["x"]]
    return ga.disparity(
        frame["value"],
        frame["group"].astype(str),
        clusters=frame["cluster"],
        reference="0",
        omnibus=False,
        **{**known, **settings},
    )


def type_one(name: str, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """How often a difference is shown where there is none; what is not assessed does not count."""
    p, left_out = [], 0
    for r in range(replicates):
        c = compared(
            worlds2.draw(name, np.random.default_rng((seed, r))),
            permutations=permutations,
            seed=r // 100,
        ).contrasts[0]
        left_out += bool(c.reason)
        p.append(c.p)
    known = np.array(p)[np.isfinite(p)]
    return [
        ("type I error", float(np.mean(known <= 0.05)), *TYPE_ONE),
        ("not assessed", left_out / replicates, None, 0.15),
    ]


for _name in NULL:
    CHECKS[_name] = partial(type_one, _name)


def precision(name: str, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """Patients weighted by the precision of their means, beside patients that count once each."""
    p: dict[str, list[float]] = {"precision": [], "equal": []}
    for r in range(replicates):
        frame = worlds2.draw(name, np.random.default_rng((seed, r)))
        for weights, found in p.items():
            found.append(
                compared(frame, permutations=permutations, seed=r, weights=weights).contrasts[0].p
            )
    weighted, plain = (float(np.mean(np.array(p[w]) <= 0.05)) for w in ("precision", "equal"))
    if name == "images_power":
        return [("power gained by weights", weighted - plain, 0.02, 0.09)]
    return [("type I error with weights", weighted, 0.03, 0.07)]


for _name in ("images", "images_informative", "images_informative_one_group", "images_power"):
    CHECKS[f"{_name}, weighted"] = partial(precision, _name)


def aliased(name: str, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """Site and group are one, or nearly: nothing may be said "at equal site"."""
    told = 0
    for r in range(replicates):
        c = compared(
            worlds2.draw(name, np.random.default_rng((seed, r))),
            permutations=permutations,
            margin=MARGIN,
        ).contrasts[0]
        told += c.state is not CellState.NOT_ASSESSED or "cannot be told apart" not in c.reason
    return [("anything said at equal site", told / replicates, None, 0.0)]


ALIASED = ("aliased", "aliased_2")
CHECKS |= {name: partial(aliased, name) for name in ALIASED}


# ── curves ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def curve(name: str, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """The largest difference between two points of a curve, against a margin of 10 points."""
    n, shown = replicates, []
    words: dict[str, int] = {}
    for r in range(n):
        d = worlds2.draw(name, np.random.default_rng((seed, r)))
        found = ga.disparity(
            d["value"],
            d["x"],
            continuous=True,
            margin=MARGIN,
            clusters=d["cluster"],
            permutations=permutations,
            seed=r // 100,
        )
        c = next(c for c in found.contrasts if c.kind == "curve")
        shown.append(c.p)
        words[c.state] = words.get(c.state, 0) + 1
    within, beyond = (words.get(state, 0) / n for state in (CellState.WITHIN, CellState.BEYOND))
    if name == "curve_flat":
        return [
            ("a difference is shown", float(np.mean(np.array(shown) <= 0.05)), 0.02, 0.074),
            ("beyond", beyond, None, 0.01),
        ]
    if name == "curve_u_30":
        return [("within", within, None, 0.0), ("beyond", beyond, 0.95, None)]
    return [("within", within, None, _upper(0.05, n)), ("beyond", beyond, None, _upper(0.05, n))]


CURVES = ("curve_flat", "curve_line_margin", "curve_u_margin", "curve_u_30")
CHECKS |= {name: partial(curve, name) for name in CURVES}


# ── whole audits ────────────────────────────────────────────────────────────────────────────────────────────────────

AUDITS: dict[str, tuple[tuple[str, ...], dict[str, float], str]] = {
    "pairs_14": (("group",), {}, "two levels 14 points apart, each within 10 of the rest"),
    "xor": (("a0", "a1"), {}, "two attributes, ±12 points where they agree"),
    "opposite": (("group",), {}, "+20 points in one class, −20 in the other"),
}
"""World -> attributes, criteria beside a margin of 10 points, what it is."""


def audit(name: str, replicates: int, permutations: int, seed: int) -> list[Figure]:
    """The verdict of a whole audit, from measurements to words."""
    attributes, criteria, what = AUDITS[name]
    n, met, second = replicates, 0, 0
    margins = {"margin": MARGIN, "undefined_margin": 0.10} | criteria
    for r in range(n):
        frame = worlds2.draw(name, np.random.default_rng((seed, r)))
        verdict = audited(*measured_world(frame, attributes, margins)).verdict
        met += verdict.state == "met"
        second += bool(verdict.second)
    if name == "pairs_14":
        return [(f"met: {what}", met / n, None, 0.05)]
    return [(f"“not the same everywhere” is said: {what}", second / n, 0.95, None)]


CHECKS |= {name: partial(audit, name) for name in AUDITS}
