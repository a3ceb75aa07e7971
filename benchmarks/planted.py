"""Planted audits: from image to verdict, over seeds, shortcut strengths and sizes, with a known answer.

For each seed the demo's generator renders one audit set and its training pictures; for each strength a network is trained where rulers lie
beside malignant lesions on the darkest skin as often as the strength says (0: the clean twin).  The whole audit set is measured once per
network; smaller audits take the first patients of every tone group.  The verdict is that of the demo's own plan.

Beside the verdict stand the heat difference on the ruler (darkest skin against all others) and what a ruler does to the score: the mean
change of the logit of malignancy on the darkest skin when the same scene is rendered with a ruler, so that it is seen that the network
learned what was planted.

    OMP_NUM_THREADS=1 python benchmarks/planted.py [--seeds 20]      about four minutes of one core per seed

Figures are kept in reports/planted.json as they come, so an interrupted run goes on; `python benchmarks/validity.py --report` prints them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch
from compared_groups import audited as with_verdict
from PIL import Image
from torch import nn

import gradaudit as ga
from gradaudit.demos.dermoscopy import (
    NETWORK_SIDE,
    SHORTCUT_GROUP,
    TONE_GROUPS,
    DemoSettings,
    audit_cases,
    train,
    training_cases,
    write_audit_set,
)
from gradaudit.demos.dermoscopy_images import render
from gradaudit.images.preprocessing import Preprocess

STORE = Path(__file__).resolve().parents[1] / "reports" / "planted.json"
STRENGTHS = (0.0, 0.5, 0.75, 0.96)
SIZES = (100, 30, 8)
"""Patients in each of the three tone groups."""
PERMUTATIONS = 1999


def picture(scene: Any, side: int) -> np.ndarray:
    """(S, S, 3) uint8 at the network's size, rendered and shrunk as the demo and the audit do it."""
    whole = Image.fromarray(render(scene, side).pixels)
    return np.asarray(whole.resize((NETWORK_SIDE, NETWORK_SIDE), Image.Resampling.BILINEAR))


def plan_of(settings: DemoSettings, folder: Path) -> ga.Plan:
    from gradaudit.demos.dermoscopy import _plan

    path = folder / "plan.toml"
    path.write_text(_plan("clean", settings), encoding="utf-8")
    return ga.read_plan(path).updated(
        analysis={"permutations": PERMUTATIONS}, run={"workers": 0, "batch_size": 32}
    )


def one_seed(seed: int, strengths: list[float], sizes: list[int]) -> list[dict[str, Any]]:
    settings = DemoSettings(seed=seed)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        every = audit_cases(settings)
        first = {
            patient
            for group in TONE_GROUPS
            for patient in list(dict.fromkeys(c.patient for c in every if c.tone_group == group))[
                : max(sizes)
            ]
        }
        cases = [case for case in every if case.patient in first]
        manifest_path = write_audit_set(folder, cases, settings)
        plan = plan_of(settings, folder)
        manifest = ga.read_manifest(manifest_path, plan)
        training = {
            s: training_cases(replace(settings, shortcut_strength=s), True) for s in strengths
        }
        scenes = list(dict.fromkeys(case.scene for own in training.values() for case in own))
        pictures = {scene: picture(scene, settings.side) for scene in scenes}
        dark = [case.scene for case in every if case.tone_group == SHORTCUT_GROUP][::4]
        toggled = [
            np.stack([picture(replace(scene, ruler=ruler), settings.side) for scene in dark])
            for ruler in (False, True)
        ]
        rows = []
        for strength in strengths:
            own = training[strength]
            net = train(
                np.stack([pictures[case.scene] for case in own]),
                [case.malignant for case in own],
                settings,
            )
            rows += audited(
                net,
                manifest,
                plan,
                sizes,
                {"seed": seed, "strength": strength, "effect": effect_of_ruler(net, *toggled)},
            )
        return rows


def effect_of_ruler(net: nn.Module, without: np.ndarray, with_ruler: np.ndarray) -> float:
    """Mean change of the logit difference, malignant minus benign, when a ruler lies in the same scene."""
    with torch.no_grad():
        logits = [
            net(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
            for pixels in (without, with_ruler)
        ]
    return float((logits[1] - logits[0]).diff(dim=1).mean())


def audited(
    net: nn.Module, manifest: Any, plan: ga.Plan, sizes: list[int], facts: dict[str, Any]
) -> list[dict[str, Any]]:
    preprocess = Preprocess(
        resize=(NETWORK_SIDE, NETWORK_SIDE), fit="exact", mean=(0.5,), std=(0.5,)
    )
    whole = ga.measure(
        manifest,
        ga.Classifier.wrap(net, classes=("benign", "malignant"), preprocess=preprocess),
        plan,
    )
    rows = []
    for size in sizes:
        part = first_patients(whole, size)
        findings, _, verdict = with_verdict(part, plan)
        ruler = [
            f
            for f in findings
            if (f.code, f.attribute, f.region, f.group)
            == ("GA101", "skin_tone", "ruler", SHORTCUT_GROUP)
        ]
        gap = ruler[0].adjusted if ruler else None
        row: dict[str, Any] = {
            "size": size,
            "state": verdict.state,
            "n_images": len(part.images),
        }
        row |= {"gap": gap.estimate, "low": gap.low, "high": gap.high} if gap else {}
        rows.append(facts | row | {"accuracy": float(part.images["correct"].mean())})
    return rows


def first_patients(meas: ga.Measurements, size: int) -> ga.Measurements:
    """The first ``size`` patients of every tone group, in manifest order."""
    images = meas.images
    order = images.groupby("subgroup.skin_tone")["cluster"].transform(
        lambda column: column.factorize()[0]
    )
    kept = images.loc[order < size].reset_index(drop=True)
    table = meas.table.loc[meas.table["image_id"].isin(set(kept["image_id"]))].reset_index(
        drop=True
    )
    return ga.Measurements(table, kept, None, meas.run)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--from", dest="first", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for seed in range(given.first, given.first + given.seeds):
        stored = json.loads(STORE.read_text()) if STORE.exists() else []
        known = {(row["strength"], row["size"]) for row in stored if row["seed"] == seed}
        strengths = [s for s in STRENGTHS if any((s, size) not in known for size in SIZES)]
        sizes = [size for size in SIZES if any((s, size) not in known for s in strengths)]
        if not strengths:
            continue
        started = time.perf_counter()
        rows = [
            row
            for row in one_seed(seed, strengths, sizes)
            if (row["strength"], row["size"]) not in known
        ]
        stored = json.loads(STORE.read_text()) if STORE.exists() else []
        STORE.write_text(
            json.dumps(
                sorted(stored + rows, key=lambda r: (r["seed"], r["strength"], -r["size"])),
                indent=0,
            )
            + "\n"
        )
        states = ", ".join(
            f"{r['strength']:g}/{r['size']}: {r['state']} {r.get('gap') or float('nan'):+.2f}"
            for r in rows
        )
        print(f"seed {seed}, {time.perf_counter() - started:.0f} s: {states}", flush=True)


if __name__ == "__main__":
    main()
