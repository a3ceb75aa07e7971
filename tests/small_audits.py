"""Small audits on disk for tests: pictures with a bright square, a tiny network whose evidence is known, manifests, plans."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

FACTORY = '''
"""A tiny network: class "right" where the right half of the picture is brighter than the left."""
import os
import signal

import torch
from torch import nn


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.pool = nn.AdaptiveAvgPool2d((1, 2))
        self.head = nn.Linear(8, 2)
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        if self.seen > int(os.environ.get("TEST_KILL_AFTER", "1000000000")):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.head(self.pool(torch.relu(self.features(images))).flatten(1))


def build():
    generator = torch.Generator().manual_seed(3)
    module = Halves()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) * 0.2)
        module.head.weight.copy_(torch.tensor([[1.0, -1.0] * 4, [-1.0, 1.0] * 4]))
    return module, {"resize": [32, 32], "fit": "exact", "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
'''

PLAN = """
[model]
source = "factory:network.py:build"
classes = ["left", "right"]

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
        right = bool(rng.random() < 0.5)
        pixels = rng.integers(0, 60, (40, 40, 3), dtype=np.uint8)
        x, y = int(rng.integers(2, 8)) + 20 * right, int(rng.integers(2, 26))
        side = int(rng.integers(7, 12))
        pixels[y : y + side, x : x + side] = rng.integers(180, 255, 3, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i:03d}.png")
        rows.append({
            "image": f"images/{i:03d}.png", "label": "right" if right else "left", "cluster": f"patient-{i // 2}",
            "subgroup.site": ("north", "south")[(i // 2) % 2],
            "region.square": f"box:{x},{y},{min(x + side, 40)},{min(y + side, 40)}", "camera": f"c{i % 3}",
        })  # fmt: skip
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
