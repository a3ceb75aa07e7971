"""Does the protocol keep its promises?  Worlds with a known answer, many times, through the public door.

    python benchmarks/validity.py                      every check, 2000 replicates, B = 999: about an hour on two cores
    python benchmarks/validity.py --only V05 V11       single checks        --replicates 400 --permutations 299   quicker
    python benchmarks/validity.py --report             only write reports/validity.md from the stored figures

Every check is a function (replicates, permutations, seed) -> rows, each row a figure beside its bound.  Figures are kept
in reports/validity.json, so that checks can be run one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import verdict_worlds  # noqa: E402
import worlds  # noqa: E402
from scipy import stats as scipy_stats  # noqa: E402
from scipy.special import expit  # noqa: E402

import gradaudit as ga  # noqa: E402
from gradaudit.performance.table import performance_table  # noqa: E402
from gradaudit.records import DIFFERENCE, CellState  # noqa: E402
from gradaudit.stats import multiplicity  # noqa: E402
from gradaudit.subgroups.comparison import intersections  # noqa: E402

STORE = ROOT / "reports" / "validity.json"
PLANTED = ROOT / "reports" / "planted.json"
SPLINE = ROOT / "reports" / "spline_fit.json"
TYPE_ONE, COVERAGE = (0.035, 0.065), (0.935, 0.965)
CALLED_SAME = (CellState.WITHIN,)


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, over how many replicates, and the bounds that it has to keep."""

    check: str
    what: str
    value: float
    low: float | None
    high: float | None
    replicates: int
    section: str = ""

    @property
    def kept(self) -> bool:
        return bool(
            (self.low is None or self.value >= self.low)
            and (self.high is None or self.value <= self.high)
        )


Check = Callable[[int, int, int], list[Row]]
CHECKS: dict[str, Check] = {}
NULL_ROWS = [f"V{i:02d}" for i in range(1, 14)]


def check(name: str) -> Callable[[Check], Check]:
    def add(function: Check) -> Check:
        CHECKS[name] = function
        return function

    return add


# ── one replicate ───────────────────────────────────────────────────────────────────────────────────────────────────


def through_the_door(d: pd.DataFrame, **settings: object) -> ga.Disparity:
    """``ga.disparity`` of a world's rows, with size and class where the world has them."""
    known = {}
    if d["log_area"].notna().all():
        known["area_share"] = expit(d["log_area"])
    if d["klass"].notna().all():
        known["klass"] = d["klass"]
    return ga.disparity(d["value"], d["group"], clusters=d["cluster"], **{**known, **settings})


def simulate(
    draw: Callable[[np.random.Generator], pd.DataFrame],
    replicates: int,
    seed: int,
    **settings: object,
) -> pd.DataFrame:
    """One row per replicate and contrast: p, estimate (signed as group 1 minus group 0), interval, state, notes."""
    out = []
    for r in range(replicates):
        d = draw(np.random.default_rng((seed, r)))
        for c in through_the_door(d, seed=r // 100, **settings).contrasts:
            sign = -1.0 if c.kind == "level" and c.group == "0" and c.reference == "1" else 1.0
            low, high = (c.ci_low, c.ci_high) if sign > 0 else (-c.ci_high, -c.ci_low)
            row = {
                "replicate": r,
                "kind": c.kind,
                "group": c.group,
                "p": c.p,
                "adjusted": c.p_adjusted,
                "estimate": sign * c.estimate,
            }
            out.append(
                row
                | {
                    "low": low,
                    "high": high,
                    "ratio": c.ratio,
                    "state": c.state,
                    "notes": len(c.notes),
                    "provisional": c.provisional,
                }
            )
    return pd.DataFrame(out)


def rejected(p: Iterable[float], alpha: float = 0.05) -> float:
    """Share of assessed replicates with p <= alpha (what is not assessed does not count)."""
    known = np.asarray(list(p), dtype=float)
    known = known[np.isfinite(known)]
    return float(np.mean(known <= alpha)) if len(known) else float("nan")


def null_rows(
    name: str,
    found: pd.DataFrame,
    replicates: int,
    section: str,
    bounds: tuple[float, float] = TYPE_ONE,
) -> list[Row]:
    known = found[found["p"].notna()]
    covered = float(((known["low"] <= 0) & (known["high"] >= 0)).mean())
    return [
        Row(name, "type I error", rejected(found["p"]), *bounds, replicates, section),
        Row(
            name,
            "coverage of the interval",
            covered,
            1 - bounds[1],
            1 - bounds[0],
            replicates,
            section,
        ),
    ]


# ── the worlds V01-V16 ──────────────────────────────────────────────────────────────────────────────────────────────


def world(name: str, replicates: int, permutations: int, seed: int) -> list[Row]:
    found = simulate(partial(worlds.draw, name), replicates, seed, permutations=permutations)
    withheld, section = float(found["p"].isna().mean()), "worlds"
    if name == "V14":
        return [Row(name, "not assessed", withheld, 0.99, None, replicates, section)]
    if worlds.WORLDS[name].null:
        rows = null_rows(name, found, replicates, section)
        return (
            [*rows, Row(name, "not assessed", withheld, 0.05, 0.20, replicates, section)]
            if name == "V09"
            else rows
        )
    power, mean, slack = {
        "V15": ((0.58, 0.68), -0.046, 0.003),
        "V16": ((0.82, 0.91), -0.080, 0.004),
    }[name]
    estimate = float(found["estimate"].mean())
    return [
        Row(name, "power", rejected(found["p"]), *power, replicates, section),
        Row(name, "mean estimate", estimate, mean - slack, mean + slack, replicates, section),
    ]


for _name in worlds.WORLDS:
    CHECKS[_name] = partial(world, _name)


@check("V03 again")
def again(replicates: int, permutations: int, seed: int) -> list[Row]:
    """V03 lies near its upper bound: five times as many replicates."""
    found = simulate(
        partial(worlds.draw, "V03"), 5 * replicates, seed + 1, permutations=permutations
    )
    return null_rows("V03 again", found, 5 * replicates, "worlds")


# ── ordered and continuous attributes, families, equivalence ────────────────────────────────────────────────────────


@check("five groups")
def five_groups(replicates: int, permutations: int, seed: int) -> list[Row]:
    order = [str(k) for k in range(5)]
    rows, omnibus, ages = [], [], []
    for r in range(replicates):
        d = worlds.five_groups(np.random.default_rng((seed, r)))
        found = through_the_door(d, order=order, permutations=permutations, seed=r // 100)
        rows.append(
            {
                f"{c.kind} {c.group if c.kind == 'level' else ''}".strip(): c.p
                for c in found.contrasts
            }
        )
        omnibus.append(found.omnibus["p"] if found.omnibus else np.nan)
        age = ga.disparity(d["value"], d["age"], area_share=expit(d["log_area"]), klass=d["klass"], clusters=d["cluster"], continuous=True,
                           permutations=permutations, seed=r // 100)  # fmt: skip
        ages.append([c.p for c in age.contrasts])
    p, age_p, n = pd.DataFrame(rows), np.array(ages), replicates
    judged = p[[c for c in p if c != "departure"]].to_numpy()
    family = float(np.mean([np.nanmin(multiplicity.holm(line)) <= 0.05 for line in judged]))
    out = [
        Row("five groups", f"type I: {column}", rejected(p[column]), *TYPE_ONE, n, "families")
        for column in p
        if column != "departure"
    ]
    out.append(
        Row("five groups", "type I: continuous", rejected(age_p[:, 0]), *TYPE_ONE, n, "families")
    )
    out.append(Row("five groups", "family-wise error, Holm", family, None, 0.065, n, "families"))
    out.append(
        Row(
            "five groups",
            "type I: departure from trend",
            rejected(p["departure"]),
            *TYPE_ONE,
            n,
            "new",
        )
    )
    out.append(
        Row("five groups", "type I: non-linearity", rejected(age_p[:, 1]), *TYPE_ONE, n, "new")
    )
    return [
        *out,
        Row(
            "five groups", "type I: all levels equal (Wald)", rejected(omnibus), *TYPE_ONE, n, "new"
        ),
    ]


@check("66 contrasts")
def family_of_66(replicates: int, permutations: int, seed: int) -> list[Row]:
    hits, counted = [], []
    for r in range(replicates):
        attributes, regions, clusters = worlds.family(np.random.default_rng((seed, r)))
        p = []
        for share, hit, area in regions.values():
            for values in (share, hit):
                for groups in attributes.values():
                    settings = {
                        "permutations": permutations,
                        "seed": r // 100,
                        "family": 66,
                        "omnibus": False,
                    }
                    found = ga.disparity(
                        values, groups, area_share=area, clusters=clusters, **settings
                    )
                    p += [c.p for c in found.contrasts]
        counted.append(len(p))
        hits.append(np.nanmin(multiplicity.holm(p)) <= 0.05)
    assert set(counted) == {66}
    return [
        Row(
            "66 contrasts",
            "family-wise error, Holm",
            float(np.mean(hits)),
            None,
            0.065,
            replicates,
            "families",
        )
    ]


@check("false within")
def false_within(replicates: int, permutations: int, seed: int) -> list[Row]:
    """A true difference of exactly the margin: how often is it called within the margin?"""
    out = []
    for n1, n0 in ((50, 50), (100, 100), (20, 300), (200, 200)):
        found = simulate(
            worlds.shifted(n1, n0, 0.05), replicates, seed, permutations=permutations, margin=0.05
        )
        rate = float(found["state"].isin(CALLED_SAME).mean())
        out.append(
            Row(
                "false within",
                f"{n1} against {n0} patients, true difference at the margin",
                rate,
                None,
                0.05,
                replicates,
                "families",
            )
        )
    return out


@check("true within")
def true_within(replicates: int, permutations: int, seed: int) -> list[Row]:
    """An equal group (SD .15, margin .05): how often is it called within the margin?  Bounds: what the design found, +- 5 points."""
    out = []
    for n, rate in ((50, 0.15), (100, 0.67), (200, 0.92)):  # against 300
        found = simulate(
            worlds.shifted(n, 300, 0.0), replicates, seed, permutations=permutations, margin=0.05
        )
        same = float(found["state"].isin(CALLED_SAME).mean())
        out.append(
            Row(
                "true within",
                f"{n} against 300 patients",
                same,
                rate - 0.05,
                rate + 0.05,
                replicates,
                "families",
            )
        )
    return out


# ── what the design had not simulated ───────────────────────────────────────────────────────────────────────────────


@check("straight trend")
def straight_trend(replicates: int, permutations: int, seed: int) -> list[Row]:
    """A true linear trend: departure and non-linearity are null."""
    order, p = [str(k) for k in range(5)], []
    for r in range(replicates):
        d = worlds.five_groups(np.random.default_rng((seed, r)), slope=0.03)
        found = through_the_door(
            d, order=order, permutations=permutations, seed=r // 100, omnibus=False
        )
        bent = ga.disparity(d["value"] + 0.002 * d["age"], d["age"], area_share=expit(d["log_area"]), clusters=d["cluster"], continuous=True,
                            klass=d["klass"], covariates=d[["group"]], permutations=permutations, seed=r // 100)  # fmt: skip
        p.append(
            [
                next(c.p for c in found.contrasts if c.kind == "departure"),
                next(c.p for c in bent.contrasts if c.kind == "nonlinear"),
            ]
        )
    both = np.array(p)
    return [
        Row(
            "straight trend",
            "type I: departure from a real trend",
            rejected(both[:, 0]),
            *TYPE_ONE,
            replicates,
            "new",
        ),
        Row(
            "straight trend",
            "type I: non-linearity beside a real slope",
            rejected(both[:, 1]),
            *TYPE_ONE,
            replicates,
            "new",
        ),
    ]


@check("common support")
def common_support(replicates: int, permutations: int, seed: int) -> list[Row]:
    found = simulate(worlds.confounded(40, 200, 1.6), replicates, seed, permutations=permutations)
    trimmed = found[(found["notes"] > 0) & found["p"].notna()]
    share = Row(
        "common support",
        "replicates restricted to common sizes",
        len(trimmed) / len(found),
        0.5,
        None,
        replicates,
        "new",
    )
    return [share, *null_rows("common support", trimmed, len(trimmed), "new")]


@check("pairs")
def pairs(replicates: int, permutations: int, seed: int) -> list[Row]:
    out = []
    for patients in (14, 40):
        p, covered = [], []
        for r in range(replicates):
            d = worlds.marked_pairs(patients)(np.random.default_rng((seed, r)))
            c = ga.disparity(
                d["value"],
                d["group"],
                clusters=d["cluster"],
                pairs=d["pair"],
                permutations=permutations,
                seed=r // 100,
            ).contrasts[0]
            p.append(c.p)
            covered.append(c.ci_low <= 0 <= c.ci_high)
        out.append(
            Row(
                "pairs",
                f"type I: {patients} patients with 1–3 pairs",
                rejected(p),
                *TYPE_ONE,
                replicates,
                "new",
            )
        )
        out.append(
            Row(
                "pairs",
                f"coverage: {patients} patients",
                float(np.mean(covered)),
                *COVERAGE,
                replicates,
                "new",
            )
        )
    return out


@check("body sites")
def body_sites(replicates: int, permutations: int, seed: int) -> list[Row]:
    found = simulate(worlds.body_sites(), replicates, seed, permutations=permutations, within=True)
    by_site = {g: rejected(found.loc[found["group"] == g, "p"]) for g in "012"}
    return [
        Row("body sites", f"type I within patients: site {g}", p, *TYPE_ONE, replicates, "new")
        for g, p in by_site.items()
    ]


@check("ratio intervals")
def ratio_intervals(replicates: int, permutations: int, seed: int) -> list[Row]:
    out = []
    for n1, n0, m1, m0 in (
        (20, 300, 0.2, 0.2),
        (30, 300, 0.3, 0.15),
        (100, 100, 0.1, 0.2),
        (60, 60, 0.05, 0.05),
    ):
        found = simulate(
            worlds.ratio_world(n1, n0, m1, m0), replicates, seed, permutations=permutations
        )
        sides = np.array(found["ratio"].to_list())
        inside = (sides[:, 1] <= m1 / m0) & (m1 / m0 <= sides[:, 2]) if n1 < n0 else np.where(
            sides[:, 0] * 0 == 0, (sides[:, 1] <= m1 / m0) & (m1 / m0 <= sides[:, 2]), False)  # fmt: skip
        out.append(
            Row(
                "ratio intervals",
                f"coverage: {n1} against {n0}, ratio {m1 / m0:g}",
                float(inside.mean()),
                *COVERAGE,
                replicates,
                "new",
            )
        )
    return out


@check("absent regions")
def absent_regions(replicates: int, permutations: int, seed: int) -> list[Row]:
    rate = simulate(worlds.absence(), replicates, seed, permutations=permutations)
    share = simulate(worlds.partly_absent(), replicates, seed, permutations=permutations)
    return [
        Row(
            "absent regions",
            "type I: rate of absence",
            rejected(rate["p"]),
            *TYPE_ONE,
            replicates,
            "new",
        ),
        Row(
            "absent regions",
            "type I: heat share where present",
            rejected(share["p"]),
            *TYPE_ONE,
            replicates,
            "new",
        ),
    ]


@check("body sites again")
def body_sites_again(replicates: int, permutations: int, seed: int) -> list[Row]:
    """One site lies near its upper bound: five times as many replicates."""
    return [
        replace(row, check="body sites again")
        for row in body_sites(5 * replicates, permutations, seed + 1)
    ]


@check("intersections")
def crossed(replicates: int, permutations: int, seed: int) -> list[Row]:
    p: dict[str, list[float]] = {}
    for r in range(replicates):
        d = worlds.crossed(np.random.default_rng((seed, r)))
        found = intersections(
            d["value"], d["group"], d["second"], permutations=permutations, seed=r // 100
        )
        for c in found.contrasts:
            if c.kind == "additivity":
                p.setdefault(c.group, []).append(c.p)
    return [
        Row(
            "intersections",
            f"type I: departure from additivity, cell {g}",
            rejected(p[g]),
            *TYPE_ONE,
            len(p[g]),
            "new",
        )
        for g in sorted(p)
    ]


@check("image rows")
def image_rows(replicates: int, permutations: int, seed: int) -> list[Row]:
    out = []
    for name in ("V05", "V07", "V10", "V12"):
        found = simulate(
            partial(worlds.draw, name), replicates, seed, permutations=permutations, unit="image"
        )
        out.append(
            Row(
                "image rows",
                f"type I with unit = image: {name}",
                rejected(found["p"]),
                0.03,
                0.07,
                replicates,
                "new",
            )
        )
    return out


@check("max-T")
def max_t(replicates: int, permutations: int, seed: int) -> list[Row]:
    draw = partial(worlds.five_groups, patients=(150, 100, 60, 50, 40))
    found = simulate(
        draw, replicates, seed, permutations=permutations, correction="max-t", omnibus=False
    )
    worst = found.groupby("replicate")["adjusted"].min()
    return [
        Row(
            "max-T",
            "family-wise error, five groups of 40 and more",
            float((worst <= 0.05).mean()),
            *TYPE_ONE,
            replicates,
            "new",
        )
    ]


# ── performance of the classifier ───────────────────────────────────────────────────────────────────────────────────

EQUALLY_GOOD = ("accuracy", "sensitivity", "specificity", "auc", "brier", "calibration_slope")


def differences(
    draw: Callable[[np.random.Generator], pd.DataFrame],
    replicates: int,
    permutations: int,
    seed: int,
    positive: str | None,
) -> pd.DataFrame:
    """p and interval of every difference of performance as a report has them, a row per replicate and figure.

    draw : columns group, cluster, label (class number) and p0, p1, ... (probability of each class)
    """
    out = []
    for r in range(replicates):
        d = draw(np.random.default_rng((seed, r)))
        p = d.filter(regex=r"^p\d$").to_numpy()
        words = np.array([f"c{k}" for k in range(p.shape[1])], dtype=object)
        predicted = p.argmax(axis=1)
        images = pd.DataFrame({
            "label": words[d["label"]], "predicted": words[predicted], "correct": predicted == d["label"], "cluster": d["cluster"].astype(str),
            "status": "ok", **{f"probability.{word}": p[:, k] for k, word in enumerate(words)},
        })  # fmt: skip
        plan = ga.Plan(
            analysis={"permutations": permutations, "positive_class": positive}, run={"seed": r}
        )
        meas = ga.Measurements(pd.DataFrame(), images)
        table = performance_table(
            meas, plan, {"group": d["group"].astype("category")}, {"group": "0"}
        )
        rows = [row for row in table if row.metric.endswith(DIFFERENCE)]
        out += [
            {
                "figure": row.metric.removesuffix(DIFFERENCE),
                "p": row.test.p,
                "low": row.low,
                "high": row.high,
            }
            for row in rows
        ]
    return pd.DataFrame(out).astype({"p": float, "low": float, "high": float})


def rows_of_figures(name: str, found: pd.DataFrame, figures: Iterable[str]) -> list[Row]:
    out = []
    for figure in figures:
        own = found[found["figure"] == figure]
        p, covered = own["p"].dropna(), own[own["low"].notna()]
        inside = float(((covered["low"] <= 0) & (covered["high"] >= 0)).mean())
        words = {"auc": "AUC", "ppv": "PPV", "brier": "Brier score"}.get(
            figure, figure.replace("_", " ")
        )
        out.append(
            Row(name, f"type I error: {words}", rejected(p), *TYPE_ONE, len(p), "performance")
        )
        out.append(
            Row(
                name,
                f"coverage of the difference: {words}",
                inside,
                *COVERAGE,
                len(covered),
                "performance",
            )
        )
    return out


def equally_good(name: str, replicates: int, permutations: int, seed: int) -> list[Row]:
    world = worlds.PREDICTION_WORLDS[name]
    return rows_of_figures(
        name, differences(world.draw, replicates, permutations, seed, "c1"), EQUALLY_GOOD
    )


for _name in worlds.PREDICTION_WORLDS:
    CHECKS[_name] = partial(equally_good, _name)


@check("P2 again")
def equally_good_again(replicates: int, permutations: int, seed: int) -> list[Row]:
    """The slope lies near its bounds in P2: five times as many replicates."""
    found = differences(
        worlds.PREDICTION_WORLDS["P2"].draw, 5 * replicates, permutations, seed + 1, "c1"
    )
    return rows_of_figures("P2 again", found, ("calibration_slope",))


@check("P7")
def three_classes(replicates: int, permutations: int, seed: int) -> list[Row]:
    """Without a positive class: means over the classes, each against the rest."""
    found = differences(worlds.three_classes, replicates, permutations, seed, None)
    return rows_of_figures(
        "P7", found, ("accuracy", "sensitivity", "specificity", "ppv", "auc", "brier")
    )


# ── teeth: methods that fail, in the same harness ───────────────────────────────────────────────────────────────────


@check("teeth")
def teeth(replicates: int, permutations: int, seed: int) -> list[Row]:
    """Each row must be seen to fail: its lower bound is a failure rate."""
    n = replicates
    images, shares, ratios, analytic = [], [], [], []
    for r in range(replicates):
        d = worlds.draw("V05", np.random.default_rng((seed, r)))
        images.append(
            scipy_stats.ttest_ind(
                d.loc[d["group"] == 1, "value"], d.loc[d["group"] == 0, "value"], equal_var=False
            ).pvalue
        )
        d = worlds.draw("V10", np.random.default_rng((seed, r)))
        lift = np.log(np.maximum(d["value"], 1e-6) / expit(d["log_area"]))
        kept = {"clusters": d["cluster"], "permutations": permutations, "seed": r // 100}
        shares.append(ga.disparity(d["value"], d["group"], **kept).contrasts[0].p)
        ratios.append(ga.disparity(lift, d["group"], **kept).contrasts[0].p)
        d = worlds.draw("V08", np.random.default_rng((seed, r)))
        analytic.append(through_the_door(d, analytic=True).contrasts[0].p)
    return [
        Row("teeth", "Welch on image rows (V05)", rejected(images), 0.20, None, n, "teeth"),
        Row(
            "teeth",
            "heat share without region size (V10)",
            rejected(shares),
            0.80,
            None,
            n,
            "teeth",
        ),
        Row(
            "teeth",
            "log(share ÷ area) without region size (V10)",
            rejected(ratios),
            0.40,
            None,
            n,
            "teeth",
        ),
        Row(
            "teeth",
            "Student's t instead of the permutation (V08)",
            rejected(analytic),
            0.075,
            None,
            n,
            "teeth",
        ),
    ]


# ── what an audit says of many comparisons ──────────────────────────────────────────────────────────────────────────


def of_the_verdict(name: str, replicates: int, permutations: int, seed: int) -> list[Row]:
    own = verdict_worlds.taken(name, replicates)
    figures = verdict_worlds.CHECKS[name](own, permutations, seed)
    return [Row(name, *figure, own, "verdict") for figure in figures]


for _name in verdict_worlds.CHECKS:
    CHECKS[_name] = partial(of_the_verdict, _name)


# ── running and reporting ───────────────────────────────────────────────────────────────────────────────────────────


def run(names: list[str], replicates: int, permutations: int, seed: int, workers: int) -> None:
    with ProcessPoolExecutor(workers) as pool:
        pending = {
            name: pool.submit(_timed, name, replicates, permutations, seed) for name in names
        }
        for name, future in pending.items():
            rows, seconds = future.result()
            _store(name, rows, seconds, permutations)
            for row in rows:
                print(
                    f"{'ok  ' if row.kept else 'MISS'} {row.check:24s} {row.what:60s} {row.value:8.4f}  {_bounds(row)}",
                    flush=True,
                )


def _timed(name: str, replicates: int, permutations: int, seed: int) -> tuple[list[Row], float]:
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return CHECKS[name](replicates, permutations, seed), time.perf_counter() - started


def _store(name: str, rows: list[Row], seconds: float, permutations: int) -> None:
    kept = json.loads(STORE.read_text()) if STORE.exists() else {}
    kept[name] = {
        "seconds": round(seconds, 1),
        "permutations": permutations,
        "rows": [asdict(row) for row in rows],
    }
    STORE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _bounds(row: Row) -> str:
    def text(value: float | None) -> str:
        return f"{value:g}" if row.what == "mean estimate" else f"{100 * (value or 0):g} %"

    if row.low is None:
        return f"at most {text(row.high)}"
    return (
        f"at least {text(row.low)}" if row.high is None else f"{text(row.low)} to {text(row.high)}"
    )


SECTIONS = {
    "worlds": (
        "Worlds V01–V16",
        "One or several images per patient, small and large groups, zeros, hits, region size and class confounded with the group.\n"
        "V01–V14 hold no disparity; V15 and V16 do.",
    ),
    "families": (
        "Ordered and continuous attributes, families, within the margin",
        "Five ordered groups (300, 120, 60, 25, 12 patients) whose size and class drift, with 10 % zeros; a family of 66 contrasts\n"
        "with one group of 12; a true difference that equals the margin.",
    ),
    "new": (
        "Parts of the protocol beside the two-group comparison",
        "Departure from trend, non-linearity, restriction to common region sizes, pairs, attributes that vary within patients,\n"
        "ratios, absent regions, intersections, image rows, max-T.",
    ),
    "performance": (
        "Performance of the classifier by group",
        "Two groups for which it is equally good: "
        + "; ".join(f"{name}: {w.what}" for name, w in worlds.PREDICTION_WORLDS.items())
        + "; P7: 80 against 160, three classes, figures are means over them.\n"
        "p: of clusters' means; AUC, calibration slope and means over classes by clusters' pseudo-values.\n"
        "Intervals: recovered from those of the two groups (MOVER).",
    ),
    "verdict": (
        "The verdict over many comparisons",
        "Worlds of `tests/worlds2.py`: families of 1, 4, 10 and 40 planned cells, what is held equal, curves, whole audits.\n"
        "Families of 40 cells, curves and whole audits take a part of the replicates asked for; the column says how many were taken.",
    ),
    "teeth": (
        "Methods that fail",
        "Naive analyses of the same worlds, in the same harness. Each bound is the failure that must be seen.",
    ),
}


def write_report(path: Path = ROOT / "reports" / "validity.md") -> None:
    """reports/validity.md from the stored figures; every figure beside its bound, misses marked."""
    stored = json.loads(STORE.read_text())
    rows = [Row(**row) for part in stored.values() if "rows" in part for row in part["rows"]]
    order = {name: i for i, name in enumerate(CHECKS)}
    nulls = [
        row.value
        for row in rows
        if row.section == "worlds" and row.what == "type I error" and row.check in NULL_ROWS
    ]
    if len(nulls) == len(NULL_ROWS):
        rows.append(
            Row(
                "V01–V13",
                "mean type I error",
                float(np.mean(nulls)),
                0.044,
                0.056,
                len(nulls),
                "worlds",
            )
        )
        order["V01–V13"] = order["V13"]
    missed = [row for row in rows if not row.kept]
    doors = "Worlds with a known answer, many times, through `ga.disparity`; performance through the table that a report shows."
    lines = ["# Does the protocol keep its promises?", "", doors, ""]
    lines += ["Written by `python benchmarks/validity.py --report` from `reports/validity.json`;"]
    lines += ["the same command without `--report` makes the figures.", ""]
    lines += [
        f"{len(rows)} figures, {len(rows) - len(missed)} within their bounds, {len(missed)} outside.",
        "",
    ]
    lines += [
        "A bound of 3.5–6.5 % leaves three standard errors of 2000 replicates on each side of 5 %:"
    ]
    lines += ["a figure just outside can be chance, and is marked all the same.", ""]
    for key, (title, text) in SECTIONS.items():
        own = sorted(
            (row for row in rows if row.section == key), key=lambda row: order.get(row.check, 99)
        )
        if own:
            lines += [
                f"## {title}",
                "",
                text,
                "",
                "| check | figure of | value | bound | replicates | |",
                "|---|---|---:|---|---:|---|",
            ]
            for r in own:
                state = "within" if r.kept else "**outside**"
                lines.append(
                    f"| {r.check} | {r.what} | {_shown(r)} | {_bounds(r)} | {r.replicates} | {state} |"
                )
            lines.append("")
    lines += _planted()
    lines += _spline()
    lines += _notes(stored)
    path.write_text("\n".join(lines) + "\n")


def _shown(row: Row) -> str:
    return f"{row.value:+.4f}" if row.what == "mean estimate" else f"{100 * row.value:.2f} %"


def _planted() -> list[str]:
    """The planted audits of ``benchmarks/planted.py``: verdicts by strength and size, and the heat gap beside what was planted."""
    if not PLANTED.exists():
        return []
    table = pd.DataFrame(json.loads(PLANTED.read_text()))
    lines = ["## Planted audits, from image to verdict", ""]
    lines += [
        "The demo's generator renders an audit set and trains a network for which, on the darkest skin, a ruler lay beside malignant"
    ]
    lines += [
        "lesions as often as the strength says; strength 0 is the clean twin. `python benchmarks/planted.py` measures every image with"
    ]
    lines += [
        "Grad-CAM and asks the demo's own plan for its verdict (margin: 10 points of heat on the ruler)."
    ]
    lines += [
        f"{table['seed'].nunique()} of 20 seeds, each with images and networks of its own. Intervals: exact (Clopper–Pearson, 95 %)."
    ]
    lines += [
        "Gap: share of heat on the ruler, darkest skin against all others, at equal ruler size. Effect of a ruler: change of the logit"
    ]
    lines += ["of malignancy on the darkest skin when the same scene is rendered with a ruler.", ""]
    lines += [
        "| strength | patients per tone | not met | met | insufficient | gap, mean (SD) | effect of a ruler, mean (SD) | accuracy |"
    ]
    lines += ["|---:|---:|---|---|---|---|---|---:|"]
    for (strength, size), own in table.sort_values(
        ["strength", "size"], ascending=[True, False]
    ).groupby(["strength", "size"], sort=False):
        states = " | ".join(
            _rate(int((own["state"] == state).sum()), len(own))
            for state in ("not_met", "met", "insufficient")
        )
        gap = (
            "too few patients"
            if own["gap"].isna().all()
            else f"{100 * own['gap'].mean():+.1f} ({100 * own['gap'].std():.1f}) points"
        )
        effect = f"{own['effect'].mean():+.2f} ({own['effect'].std():.2f})"
        lines.append(
            f"| {strength:g} | {size} | {states} | {gap} | {effect} | {100 * own['accuracy'].mean():.0f} % |"
        )
    return [*lines, "", *_planted_words(table), ""]


def _planted_words(table: pd.DataFrame) -> list[str]:
    """What a reader of the table would ask: where small audits get a verdict from, what the twins' gaps are, what a gap tells."""
    strengths, sizes = sorted(table["strength"].unique()), sorted(table["size"].unique())
    few = table.loc[table["size"] == sizes[0]]
    shown = few.loc[few["state"] == "not_met", "strength"]
    large = {
        s: table.loc[(table["size"] == sizes[-1]) & (table["strength"] == s)] for s in strengths
    }
    twin, weak, strong = large[strengths[0]], large[strengths[1]], large[strengths[-1]]
    quiet, loud = weak.loc[weak["state"] != "not_met"], weak.loc[weak["state"] == "not_met"]
    return [
        f"- With {sizes[0]} patients per tone no tone is compared with the others and no trend over the tones is judged: 10 are required on",
        "  each side of a comparison, and at each end of a line. Sex and site, which more patients share, are still asked:",
        f"  {len(shown)} of {len(few)} such audits end in “not met”, {(shown == 0).sum()} of them of twins.",
        f"- A twin's heat is not equal either: its gap is {100 * twin['gap'].min():+.1f} to {100 * twin['gap'].max():+.1f} points, above 0 in",
        f"  {(twin['gap'] > 0).sum()} of {len(twin)} networks. Nobody planted that; the verdict asks about the margin, not about 0.",
        f"- Strength {strengths[1]:g}, {sizes[-1]} patients per tone: {len(quiet)} of {len(weak)} audits do not end in “not met”.",
        f"  A ruler moves the logit by {quiet['effect'].mean():+.2f} in these networks and by {loud['effect'].mean():+.2f} in the others.",
        "- Gap and effect of a ruler both rise with the strength. Among networks of one strength a larger gap need not mean a larger effect:",
        f"  they correlate with {weak['gap'].corr(weak['effect']):+.2f} at {strengths[1]:g}"
        f" and with {strong['gap'].corr(strong['effect']):+.2f} at {strengths[-1]:g}.",
    ]


def _spline() -> list[str]:
    """How well four knots in logit(area share) follow the heat of real maps: the figures of ``benchmarks/spline_fit.py``."""
    if not SPLINE.exists():
        return []
    rows = json.loads(SPLINE.read_text())
    lines = ["## The spline in region size, on real heat maps", ""]
    lines += [
        "Heat share against logit(area share), cluster means of the four audits of this repository (`python benchmarks/spline_fit.py`):"
    ]
    lines += [
        "R² of a straight line, of the protocol's four knots and of seven; p of what seven knots add (HC2 Wald, not adjusted for the number"
    ]
    lines += [
        "of rows); root mean square distance between the two curves. [Picture](spline_fit.svg); its curves are jagged where patients have"
    ]
    lines += ["several images, since the mean of a curve is not the curve of the mean.", ""]
    lines += [
        "| audit | region | clusters | R², line | R², four knots | R², seven knots | p of seven | distance |"
    ]
    lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
    for r in rows:
        p = "< 0.001" if r["p"] < 0.001 else f"{r['p']:.3f}"
        fits = " | ".join(f"{r[curve]:.3f}" for curve in ("line", "four", "seven"))
        lines.append(
            f"| {r['run']} | {r['region']} | {r['clusters']} | {fits} | {p} | {r['points']:.1f} points |"
        )
    gain, far = max(r["seven"] - r["four"] for r in rows), max(r["points"] for r in rows)
    beyond = [
        f"{r['region']} ({r['run']})"
        for r, q in zip(rows, multiplicity.holm([r["p"] for r in rows]), strict=True)
        if q <= 0.05
    ]
    lines += [
        "",
        f"Seven knots add at most {gain:.3f} to R² and move the curve by at most {far:.1f} points (root mean square).",
    ]
    lines += [
        f"After Holm they say more than four for {' and '.join(beyond) if beyond else 'no region'}.",
        "",
    ]
    return lines


def _rate(count: int, n: int) -> str:
    low, high = scipy_stats.binomtest(count, n).proportion_ci(method="exact")
    return f"{count} of {n} ({100 * low:.0f}–{100 * high:.0f} %)"


def _notes(stored: dict[str, dict[str, object]]) -> list[str]:
    """Remarks kept beside the figures, by hand: what a miss means, what was changed, what is not covered."""
    notes = stored.get("notes", {}).get("lines", [])
    return ["## Remarks", "", *(f"- {line}" for line in notes), ""] if notes else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="*", default=list(CHECKS), help="checks to run: " + ", ".join(CHECKS)
    )
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--permutations", type=int, default=999)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="only write reports/validity.md")
    args = parser.parse_args()
    if not args.report:
        run(args.only, args.replicates, args.permutations, args.seed, args.workers)
    write_report()


if __name__ == "__main__":
    main()
