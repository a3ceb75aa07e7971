"""Small audits on disk for tests: pictures with a coloured square, a tiny network whose evidence is known, manifests, plans."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gradaudit.plan import Plan
from gradaudit.runs.folder import Shard, open_run, shard_tables
from gradaudit.runs.measurements import Measurements
from tests.run_files import run_file

FACTORY = '''
"""A tiny network: class "warm" where the picture holds more red than blue; its evidence is the coloured square."""
import os
import signal

import torch
from torch import nn


class Colours(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 2, 4, stride=4)
        self.head = nn.Linear(2, 2)
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        if self.seen > int(os.environ.get("TEST_KILL_AFTER", "1000000000")):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(torch.relu(self.features(images)).mean((2, 3)))


def build():
    module = Colours()
    with torch.no_grad():
        redder = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4) / 16
        module.features.weight.copy_(torch.cat([redder, -redder]))
        module.features.bias.fill_(-0.1)
        module.head.weight.copy_(torch.tensor([[20.0, -20.0], [-20.0, 20.0]]))
        module.head.bias.zero_()
    return module
'''

PLAN = """
[model]
source = "factory:network.py:build"
classes = ["warm", "cold"]

[preprocess]
resize = [32, 32]
fit = "exact"
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[regions.square]
role = "attend"
[regions.surround]
derive = "complement(square)"

[criteria]
margin = 0.2
declared_by = "the test"

[analysis]
permutations = 199

[run]
batch_size = 4
shard_size = 12
workers = 0
"""


def write_audit(folder: Path, images: int = 48, seed: int = 0) -> Path:
    """Write pictures, masks, network and plan into ``folder``; returns the manifest's path."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "network.py").write_text(FACTORY)
    (folder / "audit.toml").write_text(PLAN)
    rows = []
    for i in range(images):
        warm = bool(rng.random() < 0.5)
        pixels = np.repeat(rng.integers(60, 120, (40, 40, 1), dtype=np.uint8), 3, axis=2)
        x, y = (int(v) for v in rng.integers(2, 26, 2))
        side = int(rng.integers(7, 12))
        pixels[y : y + side, x : x + side] = (240, 90, 40) if warm else (40, 90, 240)
        Image.fromarray(pixels).save(folder / "images" / f"{i:03d}.png")
        rows.append({
            "image": f"images/{i:03d}.png", "label": "warm" if warm else "cold", "cluster": f"patient-{i // 2}",
            "subgroup.site": ("north", "south")[(i // 2) % 2],
            "region.square": f"box:{x},{y},{min(x + side, 40)},{min(y + side, 40)}", "camera": f"c{i % 3}",
        })  # fmt: skip
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def store_run(meas: Measurements, plan: Plan, folder: Path) -> Path:
    """Write measurements that were made up in a test as a run folder of one shard, with the record that a report needs."""
    record = run_file(
        classes=sorted(set(meas.images["predicted"].dropna())),
        rows=len(meas.images),
        shard_size=len(meas.images),
        plan=plan.model_dump(mode="json"),
    )
    run = open_run(folder, record)
    rows = [
        [] if part is None else part.to_dict("records")
        for part in (meas.images, meas.table, meas.maps)
    ]
    run.commit(Shard(0, 0, len(meas.images)), shard_tables(*rows))
    return folder


def without_clusters(meas: Measurements, attribute: str, level: str, kept: int) -> Measurements:
    """The same measurements with ``kept`` clusters of one level left."""
    of_level = meas.images.loc[meas.images[f"subgroup.{attribute}"] == level, "cluster"]
    gone = meas.images["cluster"].isin(pd.unique(of_level)[kept:])
    rows = ~meas.table["image_id"].isin(meas.images.loc[gone, "image_id"])
    return Measurements(
        meas.table[rows].reset_index(drop=True), meas.images[~gone].reset_index(drop=True)
    )


MIXED_PLAN = """
[model]
source = "factory:network.py:build"
classes = ["warm", "cold"]

[preprocess]
resize = 36
crop = 32
mean = [0.0, 0.0, 0.0]
std = [1.0, 1.0, 1.0]

[regions.lesion]
role = "attend"
[regions.ruler]
role = "avoid"

[subgroups.tone]
order = ["I-II", "III-IV", "V-VI"]

[criteria]
margin = 0.1

[analysis]
permutations = 199
positive_class = "warm"

[privacy]
min_cell = 1

[run]
batch_size = 32
shard_size = 100
workers = 0
device = "cpu"
"""
MIXED_SIDE = 36
MIXED_REGIONS = ("lesion", "ruler", "ink", "hair")


def write_mixed_audit(folder: Path, patients: int = 150, seed: int = 0) -> Path:
    """An audit in which everything happens that tables count: unknown levels and labels, mistakes, maps without heat, odd masks.

    Patients with one to three images, four attributes (site: categorical; tone: ordered; age: continuous; ward: two levels, of which
    one holds a single label), four regions, a camera, a hospital and a dose.  Evidence is
    colour: red for "warm", blue for "cold", and the network sees it everywhere; the ruler is brighter and the ink larger in tone V-VI.
    Grey pictures have a flat map, faint blue ones no positive evidence (the network is biased to "warm").  ``spoil_mixed_audit`` then
    damages files, which must exist while the manifest is checked.  Returns the manifest's path.
    """
    rng, beside = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "network.py").write_text(
        FACTORY.replace(
            "module.head.bias.zero_()", "module.head.bias.copy_(torch.tensor([0.3, 0.0]))"
        )
    )
    (folder / "audit.toml").write_text(MIXED_PLAN)
    rows: list[dict[str, str]] = []
    for patient in range(patients):
        tone = int(rng.choice(3, p=(0.42, 0.32, 0.26)))
        facts = {
            "subgroup.site": str(
                rng.choice(["arm", "back", "leg", "neck", ""], p=(0.32, 0.28, 0.26, 0.03, 0.11))
            ),
            "subgroup.tone": ("I-II", "III-IV", "V-VI")[tone] if rng.random() > 0.05 else "",
            "subgroup.age": f"{rng.normal(50, 14):.1f}" if rng.random() > 0.06 else "",
        }
        for _ in range(int(rng.integers(1, 4))):
            name, warm = f"{len(rows):03d}", bool(rng.random() < 0.5)
            kind = str(
                rng.choice(
                    ["grey", "faint", "plain"], p=(0.03 + 0.03 * tone, 0.06, 0.91 - 0.03 * tone)
                )
            )
            pixels, boxes = _mixed_picture(rng, warm, tone, kind)
            Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
            site = (
                str(rng.choice(["arm", "back", "leg"]))
                if facts["subgroup.site"] and rng.random() < 0.14
                else facts["subgroup.site"]
            )
            label = (
                ("cold", "warm")[int(warm != (rng.random() < 0.15))] if rng.random() > 0.03 else ""
            )
            regions = {
                f"region.{region}": _mixed_region(
                    rng, folder, name, region, tone, kind != "plain", box
                )
                for region, box in boxes.items()
            }
            rows.append({
                "image": f"images/{name}.png", "label": label, "cluster": f"patient-{patient}", **facts, "subgroup.site": site,
                "camera": str(rng.choice(["a", "b", "c"])), **regions,
            })  # fmt: skip
        _add_ward_and_hospital(
            beside, [row for row in rows if row["cluster"] == f"patient-{patient}"]
        )
    path = folder / "manifest.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def _add_ward_and_hospital(rng: np.random.Generator, rows: list[dict[str, str]]) -> None:
    """Of one patient's images: a ward, whose night holds one label alone; hospital and dose."""
    only_warm = all(row["label"] == "warm" for row in rows)
    ward = "night" if only_warm and rng.random() < 0.8 else "day"
    facts = {
        "subgroup.ward": ward if rng.random() > 0.05 else "",
        "hospital": str(rng.choice(["east", "hill", "north", "south", "vale", "west"])),
    }
    for row in rows:
        dose = f"{rng.gamma(2.0, 10.0):.1f}" if rng.random() > 0.02 else ""
        row |= {**facts, "dose": dose}


def _mixed_picture(
    rng: np.random.Generator, warm: bool, tone: int, kind: str
) -> tuple[np.ndarray, dict[str, tuple[int, int, int, int]]]:
    """Pixels, and x, y, width and height of each region."""
    pixels = np.full((MIXED_SIDE, MIXED_SIDE, 3), 102)

    def tint(x: int, y: int, w: int, h: int, amount: float, sign: int) -> None:
        pixels[y : y + h, x : x + w] += np.array([1, 0, -1]) * sign * round(amount)

    def box(
        x: tuple[int, int], y: tuple[int, int], w: tuple[int, int], h: tuple[int, int]
    ) -> tuple[int, int, int, int]:
        return tuple(int(rng.integers(*ends)) for ends in (x, y, w, h))  # type: ignore[return-value]

    ink = (5, 13) if tone == 2 else (3, 10)
    boxes = {
        "lesion": box((4, 14), (4, 14), (6, 14), (6, 14)), "ruler": box((3, 8), (24, 30), (8, 26), (2, 5)),
        "ink": box((18, 22), (3, 20), ink, ink), "hair": box((2, 24), (2, 12), (2, 9), (8, 20)),
    }  # fmt: skip
    if kind == "faint":
        tint(0, 0, MIXED_SIDE, MIXED_SIDE, 13, -1)
        pixels[: MIXED_SIDE // 2, :, 2] += 1
    if kind == "plain":
        for region, most in (("lesion", 76), ("ruler", 26 + 60 * tone), ("ink", 51), ("hair", 38)):
            tint(*boxes[region], rng.uniform(5, most), 1 if warm else -1)
        for _ in range(6):
            tint(
                *box((0, 30), (0, 30), (5, 6), (5, 6)),
                rng.uniform(0, 64),
                1 if rng.random() < 0.5 else -1,
            )
    return pixels.clip(0, 255).astype(np.uint8), boxes


def _mixed_region(
    rng: np.random.Generator, folder: Path, name: str, region: str, tone: int, cold: bool, box: tuple[int, int, int, int]
) -> str:  # fmt: skip
    """A cell of the manifest: the region where it is, or absent, unknown, cropped away, everywhere, or smaller than a cell of the map."""
    x, y, w, h = box
    absent = {"lesion": 0.05, "ruler": 0.25 - 0.08 * tone, "ink": 0.5 - 0.15 * tone, "hair": 0.15}[
        region
    ]
    odd_size = (
        0.0 if region == "ink" and tone < 2 else 1.0
    )  # else inks of every size would be found in every tone
    ends = np.cumsum([max(absent, 0.3 * cold), 0.05, 0.02, 0.02 * odd_size, 0.05 * odd_size])
    if region == "hair":
        mask = np.zeros((MIXED_SIDE, MIXED_SIDE), np.uint8)
        mask[y : y + h, x : x + w] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
    there = (
        f"masks/{name}.png"
        if region == "hair"
        else f"box:{x},{y},{min(x + w, MIXED_SIDE)},{min(y + h, MIXED_SIDE)}"
    )
    odd = ("absent", "", f"box:0,0,1,{MIXED_SIDE}", "whole", f"box:{x},{y},{x + 2},{y + 2}", there)
    return odd[int(np.searchsorted(ends, rng.random()))]


def spoil_mixed_audit(folder: Path, seed: int = 1) -> None:
    """After the manifest was checked: twelve images cut off or gone; every ninth mask gone, no picture, or of another shape."""
    images = sorted((folder / "images").iterdir())
    for k, i in enumerate(np.random.default_rng(seed).choice(len(images), 12, replace=False)):
        if k % 2:
            images[i].write_bytes(images[i].read_bytes()[:120])
        else:
            images[i].unlink()
    for k, path in enumerate(sorted((folder / "masks").iterdir())[::9]):
        if k % 3 == 0:
            path.unlink()
        elif k % 3 == 1:
            path.write_bytes(b"no mask")
        else:
            Image.new("L", (50, 20)).save(path)
