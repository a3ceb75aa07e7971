"""Small audits on disk for tests: pictures with a coloured square, a tiny network whose evidence is known, manifests, plans."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gradaudit.config import Plan
from gradaudit.records import Measurements
from gradaudit.storage import Shard, open_run, shard_tables

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
    model = {"source": "made up", "digest": "0" * 64, "layer": "none", "classes": sorted(set(meas.images["predicted"].dropna()))}
    data = {"name": "made up", "digest": "0" * 64, "cluster_declared": True}
    record = {
        "identity": {"manifest": "made up"}, "rows": len(meas.images), "shard_size": len(meas.images), "model": model, "data": data,
        "plan": plan.model_dump(mode="json"),
    }  # fmt: skip
    run = open_run(folder, record)
    rows = [[] if part is None else part.to_dict("records") for part in (meas.images, meas.table, meas.maps)]
    run.commit(Shard(0, 0, len(meas.images)), shard_tables(*rows))
    return folder


def without_clusters(meas: Measurements, attribute: str, level: str, kept: int) -> Measurements:
    """The same measurements with ``kept`` clusters of one level left."""
    of_level = meas.images.loc[meas.images[f"subgroup.{attribute}"] == level, "cluster"]
    gone = meas.images["cluster"].isin(pd.unique(of_level)[kept:])
    rows = ~meas.table["image_id"].isin(meas.images.loc[gone, "image_id"])
    return Measurements(meas.table[rows].reset_index(drop=True), meas.images[~gone].reset_index(drop=True))
