"""Does ``ga.power`` say what happens?  What it foretells of a pilot, beside audits of patients of that pilot.

    python benchmarks/power.py                         every world: half an hour on one core
    python benchmarks/power.py --only curve --pilots 1  single worlds, fewer pilots (kept beside those of other worlds)
    python benchmarks/power.py --report                only print what is kept in reports/power.json

The pilot is taken as the truth: its patients are the population, and their values are changed so that the true difference
is the one that a row of ``ga.power`` names.  Audits of 1, 2, 4, 8 times the size are drawn from that population, each is
estimated and tested anew with all its permutations, and its states are counted.  Nothing of that is taken from
``gradaudit.series``: the patients are drawn here, the values changed before anything is estimated, and the curve fitted here.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from scipy.interpolate import CubicSpline  # noqa: E402

import gradaudit as ga  # noqa: E402
from gradaudit.plan import build_plan  # noqa: E402
from gradaudit.runs.measurements import Measurements  # noqa: E402
from gradaudit.subgroups.analysis_set import Observations  # noqa: E402
from gradaudit.subgroups.comparison import disparity_of  # noqa: E402
from gradaudit.subgroups.settings import Settings  # noqa: E402

STORE = Path(__file__).resolve().parents[1] / "reports" / "power.json"
FACTORS = (1, 2, 4, 8)
SD = 0.13
PERMUTATIONS = 999
MEAN_ERROR, MEAN_SIZE = 3.0, 5.0  # bounds, in points
UNSURE = (0.05, 0.95)  # chances between which a row says something that is not plain anyway


@dataclass(frozen=True)
class World:
    """A pilot: (random) -> heat share and attribute of each patient; what is compared; how many pilots are kept."""

    draw: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    kind: str
    margin: float
    pilots: int
    what: str


# ── worlds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def noise(rng: np.random.Generator, n: int, skewed: bool) -> np.ndarray:
    """Standard deviation 1, mean 0; skewed: lognormal, sigma 0.7 (skewness 2.9)."""
    if not skewed:
        return rng.standard_normal(n)
    s = 0.7
    scale = np.sqrt((np.exp(s**2) - 1) * np.exp(s**2))
    return (rng.lognormal(0, s, n) - np.exp(s**2 / 2)) / scale


def curve_world(n: int, skewed: bool) -> Callable[[np.random.Generator], tuple]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = 20 + rng.gamma(4.0, 8.0, n) if skewed else rng.uniform(20, 80, n)
        u = (x - np.quantile(x, 0.05)) / np.ptp(np.quantile(x, [0.05, 0.95])) - 0.5
        depth = rng.uniform(0.01, 0.05)
        return 0.3 + depth * (4 * u**2 + u) + SD * noise(rng, n, skewed), np.round(x, 2)

    return draw


def levels_world(sizes: dict[str, int], skewed: bool) -> Callable[[np.random.Generator], tuple]:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        level = np.repeat(list(sizes), list(sizes.values()))
        gaps = dict(zip(sizes, rng.uniform(-0.025, 0.025, len(sizes)), strict=True))
        y = 0.3 + SD * noise(rng, len(level), skewed) + np.array([gaps[k] for k in level])
        return y, level.astype(object)

    return draw


WORLDS = {
    "curve": World(curve_world(80, False), "curve", 0.13, 4, "a number, 80 patients, normal heat"),
    "curve_skewed": World(
        curve_world(100, True), "curve", 0.13, 5, "a skewed number, 100 patients, skewed heat"
    ),
    "pairs": World(
        levels_world({"a": 30, "b": 45, "c": 110}, False),
        "pair",
        0.07,
        3,
        "three unordered levels of 30, 45 and 110 patients, normal heat",
    ),
    "pairs_skewed": World(
        levels_world({"a": 30, "b": 45, "c": 110}, True),
        "pair",
        0.07,
        3,
        "the same with skewed heat",
    ),
}


def measured(y: np.ndarray, groups: np.ndarray) -> Measurements:
    """One image of one region for each patient."""
    frame = pd.DataFrame({"image_id": [f"i{k}" for k in range(len(y))]})
    images = frame.assign(path="x.png", status="ok", reason="", probability=0.9, correct=True)
    images = images.assign(label=None, predicted="c", cluster=[str(k) for k in range(len(y))])
    images["subgroup.group"] = [g if isinstance(g, str) else f"{g:.2f}" for g in groups]
    table = frame.assign(region="ruler", role="avoid", method="gradcam", target="predicted")
    table = table.assign(status="ok", reason="", heat_share=y, area_share=0.2)
    return Measurements(table, images)


def plan_of(margin: float) -> ga.Plan:
    return build_plan(
        {
            "regions": {"ruler": {"role": "avoid"}},
            "criteria": {"margin": margin, "undefined_margin": 0.3},
            "analysis": {"permutations": PERMUTATIONS},
        }
    )


# ── what happens ────────────────────────────────────────────────────────────────────────────────────────────────────


def fitted_curve(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Natural cubic spline with knots at the 5, 35, 65 and 95 % points, by least squares on its values at the knots."""
    knots = np.quantile(x, [0.05, 0.35, 0.65, 0.95])
    splines = [CubicSpline(knots, unit, bc_type="natural") for unit in np.eye(4)]

    def columns(at: np.ndarray) -> np.ndarray:
        inside = np.clip(at, knots[0], knots[-1])
        return np.column_stack([s(inside) + (at - inside) * s(inside, 1) for s in splines])

    at_knots = np.linalg.lstsq(columns(x), y, rcond=None)[0]
    return lambda at: columns(at) @ at_knots


def with_difference(
    y: np.ndarray, groups: np.ndarray, row: dict, seen: float, kind: str
) -> np.ndarray:
    """The pilot's values, changed so that a row's difference is the true one."""
    if kind == "curve":
        curve = fitted_curve(groups, y)
        points = curve(np.quantile(groups, np.linspace(0.05, 0.95, 13)))
        assert abs(np.ptp(points) - abs(seen)) < 1e-6, (np.ptp(points), seen)
        return y + (abs(row["difference"]) / np.ptp(points) - 1) * curve(groups)
    return y + (row["difference"] - seen) * (groups == row["group"])


def drawn(groups: np.ndarray, factor: float, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Patients of a larger study: of a number so many times all, of levels each at least so many times the smallest."""
    if kind == "curve":
        return rng.integers(0, len(groups), ceil(factor * len(groups)))
    places = {level: np.flatnonzero(groups == level) for level in np.unique(groups)}
    least = ceil(factor * min(map(len, places.values())))
    return np.concatenate([rng.choice(p, max(len(p), least)) for p in places.values()])


def settings_of(kind: str, planned: int, seed: int, margin: float) -> Settings:
    return Settings(
        continuous=kind == "curve",
        pairwise=kind == "pair",
        rest_of_two=True,
        margin=margin,
        permutations=PERMUTATIONS,
        seed=seed,
        family=planned,
        omnibus=False,
        effects=False,
        beside=False,
    )


def realised(
    y: np.ndarray, groups: np.ndarray, row: dict, kind: str, draws: int, seed: int, margin: float
) -> tuple[float, float]:
    """Shares of "within" and of "beyond" among audits of patients drawn from (y, groups)."""
    planned = 2 if kind == "curve" else 2 * len(pairs_and_levels(groups))
    words = []
    for i in range(draws):
        chosen = drawn(groups, row["factor"], kind, np.random.default_rng((seed, i)))
        found = disparity_of(
            Observations(values=y[chosen], groups=groups[chosen]),
            settings_of(kind, planned, i % 25, margin),
        )
        words += [
            c.state
            for c in found.contrasts
            if c.kind == kind
            and (kind == "curve" or (c.group, c.reference) == (row["group"], row["reference"]))
        ]
    assert len(words) == draws
    return words.count("within") / draws, words.count("beyond") / draws


def pairs_and_levels(groups: np.ndarray) -> list[tuple[str, str]]:
    """Comparisons that are planned of unordered levels: each with the rest, and every pair."""
    levels = list(np.unique(groups))
    return [(a, b) for a in levels for b in ["rest", *levels] if b == "rest" or a < b]


def foretold(world: World, seed: int, replicates: int, factors: Sequence[float]) -> list[dict]:
    """Rows of ``ga.power`` of one pilot, for what its world compares; ``seen``: the difference that the pilot saw."""
    y, groups = world.draw(np.random.default_rng(seed))
    frame = ga.power(
        measured(y, groups),
        plan=plan_of(world.margin),
        factors=factors,
        replicates=replicates,
        seed=seed,
    )
    own = frame[(frame["comparison"] == world.kind) & (frame["reason"] == "")]
    own = own[own["outcome"] == "heat_share"]
    seen = own.loc[own["truth"] == "as seen"].groupby("cell")["difference"].first()
    return own.assign(seen=own["cell"].map(seen)).to_dict("records")


def compared(
    world: World, seed: int, replicates: int, draws: int, factors: Sequence[float] = FACTORS
) -> Iterator[dict]:
    """What ``ga.power`` says of one pilot, row by row, with what happened."""
    y, groups = world.draw(np.random.default_rng(seed))
    for place, row in enumerate(foretold(world, seed, replicates, factors)):
        changed = with_difference(y, groups, row, row["seen"], world.kind)
        within, beyond = realised(
            changed, groups, row, world.kind, draws, seed + place, world.margin
        )
        yield {
            "pilot": seed,
            **{key: row[key] for key in ("cell", "factor", "truth", "difference", "patients")},
            "within_said": row["probability_within"],
            "within_happened": within,
            "beyond_said": row["probability_beyond"],
            "beyond_happened": beyond,
        }


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def figures(rows: list[dict]) -> pd.DataFrame:
    """Mean error and mean absolute error, in points, of each factor and of all; and of the rows that are not plain."""
    frame = pd.DataFrame(rows)
    out = []
    for factor in [*sorted(frame["factor"].unique()), "all"]:
        own = frame if factor == "all" else frame[frame["factor"] == factor]
        for word in ("within", "beyond"):
            error = 100 * (own[f"{word}_said"] - own[f"{word}_happened"])
            middle = error[own[f"{word}_happened"].between(*UNSURE)]
            out.append(
                (
                    factor,
                    word,
                    len(error),
                    error.mean(),
                    error.abs().mean(),
                    len(middle),
                    middle.mean(),
                    middle.abs().mean(),
                )
            )
    names = ("factor", "word", "rows", "mean", "mean_size", "unsure", "unsure_mean", "unsure_size")
    return pd.DataFrame(out, columns=list(names))


def within_bounds(rows: list[dict], error: float = MEAN_ERROR, size: float = MEAN_SIZE) -> bool:
    """Whether every factor keeps both bounds, for "within" and for "beyond"."""
    found = figures(rows)
    return bool((found["mean"].abs() <= error).all() and (found["mean_size"] <= size).all())


def stored() -> dict[str, dict]:
    return json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}


def report(kept: dict[str, dict]) -> None:
    for name, world in kept.items():
        rows = world["rows"]
        pilots = len({row["pilot"] for row in rows})
        word = "within the bounds" if within_bounds(rows) else "OUT OF BOUNDS"
        print(
            f"\n{name}: {WORLDS[name].what}; {pilots} pilots, {world['replicates']} replicates, {world['draws']} audits: {word}"
        )
        print(figures(rows).round(1).to_string(index=False))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--pilots", type=int, help="pilots of each world; default: see WORLDS")
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first pilot")
    parser.add_argument("--add", action="store_true", help="to the pilots that are kept already")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    kept = stored()
    for name in [] if given.report else given.only:
        rows = kept[name]["rows"] if given.add and name in kept else []
        seed, left = given.seed, given.pilots or WORLDS[name].pilots
        while left:
            start = time.process_time()
            found = list(compared(WORLDS[name], seed, given.replicates, given.draws))
            print(f"{name} {seed}: {time.process_time() - start:.0f} s", flush=True)
            rows += found
            left -= bool(found)  # of a pilot that is settled nothing is said
            seed += 1
        kept[name] = {"replicates": given.replicates, "draws": given.draws, "rows": rows}
        STORE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    report(kept)
    return 0 if all(within_bounds(world["rows"]) for world in kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
