"""Is the change between two audits right?  Error rates, coverage and power over worlds with a known answer.

    python benchmarks/change_worlds.py               # all worlds, writes reports/change_worlds.json
    python benchmarks/change_worlds.py 200 199       # fewer replicates and permutations

Each world draws patients with several images, two groups, heat shares before and after, and who is measured in which of
the two.  The statistic is the one of ``gradaudit compare``: two adjusted differences, their change with the shared
patients' covariance, permuted together.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gradaudit.series.changes.joint_tests import ChangeTest, Half, change_tests
from gradaudit.subgroups.analysis_set import Observations
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.settings import Settings

ROOT = Path(__file__).parents[1]
ALPHA = 0.05


@dataclass(frozen=True)
class World:
    """One way in which two audits can come about.

    group, rest : patients        kept : which part of the patients is in before, both, after
    change : true change of the difference (group only)      difference : true difference before
    spread : standard deviations of patients in group and rest
    shared : correlation of a patient's heat before and after
    skewed : heat shares are skewed      images : at most so many per patient
    size : heat depends on the region's size, and the groups differ in size
    redrawn : the later images of a shared patient are other ones
    """

    group: int = 60
    rest: int = 340
    kept: tuple[float, float, float] = (0.0, 1.0, 0.0)
    change: float = 0.0
    difference: float = 0.1
    spread: tuple[float, float] = (0.12, 0.12)
    shared: float = 0.8
    skewed: bool = False
    images: int = 3
    size: bool = True
    redrawn: bool = False


WORLDS: dict[str, World] = {
    "paired": World(),
    "paired, uneven spread": World(spread=(0.24, 0.08)),
    "paired, 25 against 375, skewed": World(group=25, rest=375, skewed=True),
    "paired, 12 against 388, skewed": World(group=12, rest=388, skewed=True),
    "paired, 12 against 188, uneven": World(group=12, rest=188, spread=(0.2, 0.1)),
    "paired, unrelated heat": World(shared=0.0),
    "unpaired": World(kept=(0.5, 0.0, 0.5)),
    "unpaired, 25 a side, skewed": World(group=50, rest=750, kept=(0.5, 0.0, 0.5), skewed=True),
    "unpaired, uneven spread": World(kept=(0.5, 0.0, 0.5), spread=(0.24, 0.08)),
    "half shared": World(kept=(0.25, 0.5, 0.25)),
    "half shared, uneven": World(kept=(0.25, 0.5, 0.25), spread=(0.24, 0.08)),
    "half shared, 30 against 370, skewed": World(group=30, rest=370, kept=(0.25, 0.5, 0.25), skewed=True),
    "a third after only": World(kept=(0.0, 0.67, 0.33)),
    "same patients, other images": World(redrawn=True),
    "paired, 5 points less": World(change=-0.05),
    "paired, 10 points less": World(change=-0.10),
    "unpaired, 10 points less": World(kept=(0.5, 0.0, 0.5), change=-0.10),
    "half shared, 10 points less": World(kept=(0.25, 0.5, 0.25), change=-0.10),
    "turned to the other side": World(change=-0.20),
    "no difference to start with": World(difference=0.0),
    "no difference, 5 points more": World(difference=0.0, change=0.05),
}  # fmt: skip


def drawn(world: World, rng: np.random.Generator) -> list[Observations]:
    """Observations before and after; clusters are numbered alike in both."""
    patients = world.group + world.rest
    group = np.arange(patients) < world.group
    shared = rng.standard_normal(patients)
    spread = np.where(group, *world.spread)
    where = rng.choice(3, patients, p=world.kept)
    area = np.clip(rng.normal(np.where(group, 0.24, 0.2), 0.05), 0.03, 0.6)
    count = rng.integers(1, world.images + 1, patients)
    out = []
    for later in (False, True):
        own = np.sqrt(world.shared) * shared + np.sqrt(1 - world.shared) * rng.standard_normal(
            patients
        )
        if world.skewed:
            own = np.exp(0.8 * own) / np.sqrt(np.exp(0.64) * (np.exp(0.64) - 1))
        mean = (
            0.3
            + world.difference * group
            + world.change * group * later
            + 0.8 * (area - 0.2) * world.size
        )
        images = rng.integers(1, world.images + 1, patients) if later and world.redrawn else count
        inside = np.flatnonzero(where != (0 if later else 2))
        rows = np.repeat(inside, images[inside])
        value = (
            mean
            + spread
            * (
                own
                - (np.exp(0.32) / np.sqrt(np.exp(0.64) * (np.exp(0.64) - 1)) if world.skewed else 0)
            )
        )[rows]
        value = value + 0.06 * rng.standard_normal(len(rows))
        shown = np.clip(area[rows] + 0.01 * rng.standard_normal(len(rows)), 0.01, 0.9)
        out.append(Observations(
            values=value, groups=np.where(group[rows], "g", "r").astype(object), area_share=shown if world.size else None, clusters=rows,
        ))  # fmt: skip
    return out


def tested(pair: list[Observations], permutations: int, seed: int) -> ChangeTest | None:
    """The change of one draw; None where a guard withholds one of the two differences."""
    settings = Settings(reference="r", analytic=True, keep_fit=True, omnibus=False, within=False)
    halves = []
    for observations in pair:
        c = disparity_of(observations, settings).contrasts[0]
        if c.reason:
            return None
        halves.append(Half(c.estimate, c.fitted, c.se, c.df))
    return change_tests([(halves[0], halves[1])], permutations, seed)[0]


def measured(world: World, replicates: int, permutations: int, seed: int = 0) -> dict[str, float]:
    """Shares over replicates: change shown, interval holds the truth, called better, called worse."""
    rng = np.random.default_rng(seed)
    shown = covered = better = worse = 0
    errors = []
    for k in range(replicates):
        test = tested(drawn(world, rng), permutations, k % 10)
        if test is None:
            continue
        low, high = test.change.interval(ALPHA)
        shown += test.change.p <= ALPHA
        covered += low <= world.change <= high
        word = test.p_size <= ALPHA
        better += word and test.shrinks
        worse += word and not test.shrinks
        errors.append(test.change.estimate - world.change)
    n = len(errors)
    return {
        "shown": shown / n, "coverage": covered / n, "better": better / n, "worse": worse / n,
        "mean_error": float(np.mean(errors)), "sd": float(np.std(errors)), "assessed": n, "replicates": replicates, "permutations": permutations,
    }  # fmt: skip


def treated_as_strangers(pair: list[Observations]) -> list[Observations]:
    """Teeth: the same data, with shared patients counted as different people."""
    first, second = pair
    return [first, replace(second, clusters=np.asarray(second.clusters) + 10**6)]


def main(
    replicates: int = 1000,
    permutations: int = 499,
    measure: Callable[..., dict[str, float]] = measured,
) -> None:
    out = {}
    for name, world in WORLDS.items():
        begun = time.time()
        out[name] = measure(world, replicates, permutations)
        f = out[name]
        print(
            f"{name:38} shown {100 * f['shown']:5.1f}  coverage {100 * f['coverage']:5.1f}  better {100 * f['better']:5.1f}  "
            f"worse {100 * f['worse']:5.1f}  mean error {100 * f['mean_error']:+.2f}  {time.time() - begun:.0f} s", flush=True,
        )  # fmt: skip
    (ROOT / "reports" / "change_worlds.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
