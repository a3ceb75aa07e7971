"""What a whole audit's measuring costs beside the least that anyone must do: decode the same images and run the network.

Ours: ``ga.measure`` with its defaults: decode, resize, masks through the same geometry, forward, Grad-CAM, every metric of every region,
Parquet parts with receipts.  Bare: Pillow, torchvision's own transform steps and ``module(batch)`` under ``no_grad``, one image after the
other in one process, batches of the same size; with the same number of torch threads.  A third column is a DataLoader of torch with as many
workers as ours, which decodes ahead like ours does.  Both sides alternate, round after round; figures are ratios of medians.

    OMP_NUM_THREADS=2 python benchmarks/measure.py [--rounds 5] [--only digits photographs]

``digits`` needs data_manifests/digits/prepare.py to have run.  ``photographs`` are 512-pixel JPEGs cut from the photographs in the
scikit-image and scikit-learn packages, with five regions (three in an index mask, a box, a derived one), through a ResNet-50 at 224.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import gradaudit as ga
from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.images.preprocessing import Preprocess
from gradaudit.manifest.reading import Manifest
from gradaudit.measurement.shard import measure
from gradaudit.models.classifier import Classifier
from gradaudit.workflows.audit import classifier_of

ROOT = Path(__file__).resolve().parents[1]
GOAL = 1.15
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
Case = tuple[Manifest, Classifier, ga.Plan]


def digits(folder: Path) -> Case:
    root = ROOT / "data_manifests" / "digits"
    plan = ga.read_plan(root / "audit.toml")
    manifest = ga.read_manifest(root / "build" / "manifest.csv", plan)
    return manifest, classifier_of(plan, root), plan


def photographs(folder: Path, count: int = 256) -> Case:
    from skimage import data
    from sklearn.datasets import load_sample_images

    # The pictures that lie in the wheels themselves; the others of scikit-image would be downloaded.
    sources = [data.astronaut(), data.coffee(), data.chelsea(), *load_sample_images().images]
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        picture = Image.fromarray(sources[number % len(sources)])
        side = int(rng.integers(200, min(picture.size) + 1))
        left, top = (int(rng.integers(0, edge - side + 1)) for edge in picture.size)
        cut = picture.crop((left, top, left + side, top + side)).resize(
            (512, 512), Image.Resampling.BICUBIC
        )
        cut.save(folder / f"{number:04d}.jpg", quality=90)
        y, x = np.mgrid[:512, :512] / 511
        blobs = np.zeros((512, 512), np.uint8)
        for value in (1, 2, 3):
            cy, cx, radius = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.08, 0.25)
            blobs[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = value
        Image.fromarray(blobs).save(folder / f"{number:04d}.png")
        corner = rng.integers(0, 300, 2)
        box = f"box:{corner[0]},{corner[1]},{corner[0] + 150},{corner[1] + 120}"
        row = {"image": f"{number:04d}.jpg", "subgroup.side": "ab"[number % 2], "region.box": box}
        rows.append(row | {f"region.blob{v}": f"{number:04d}.png#{v}" for v in (1, 2, 3)})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    plan = ga.Plan(regions={"frame": {"derive": "frame(0.1)"}})
    classifier = ga.load_classifier("torchvision:resnet50", weights="random")
    return ga.read_manifest(folder / "manifest.csv", plan), classifier, plan


CASES: dict[str, Callable[[Path], Case]] = {"digits": digits, "photographs": photographs}


# ── the least ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Decoded(Dataset[torch.Tensor]):
    """Pillow and the steps of torchvision's classification transform, written out."""

    def __init__(self, paths: list[Path], preprocess: Preprocess) -> None:
        self.paths, self.preprocess = paths, preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        p = self.preprocess
        with Image.open(self.paths[index]) as opened:
            picture = opened.convert("L" if p.channels == 1 else "RGB")
        geometry = p.geometry((picture.height, picture.width))
        if geometry.scaled != geometry.source:
            picture = picture.resize(
                (geometry.scaled[1], geometry.scaled[0]), FILTERS[p.interpolation]
            )
        if geometry.size != geometry.scaled:
            picture = picture.crop(
                (
                    geometry.left,
                    geometry.top,
                    geometry.left + geometry.size[1],
                    geometry.top + geometry.size[0],
                )
            )
        values = torch.from_numpy(np.array(picture, np.float32) / 255)
        values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
        return (values - torch.tensor(p.mean)[:, None, None]) / torch.tensor(p.std)[:, None, None]


def bare(case: Case, workers: int) -> None:
    manifest, classifier, plan = case
    assert classifier.preprocess is not None
    data = Decoded(
        [manifest.root / sample.image for sample in manifest.samples], classifier.preprocess
    )
    for batch in _batches(data, plan.run.batch_size, workers):
        with torch.no_grad():
            classifier.module(batch)


def _batches(data: Decoded, size: int, workers: int) -> Iterator[torch.Tensor]:
    if workers:
        yield from DataLoader(data, size, num_workers=workers)
    else:
        for start in range(0, len(data), size):
            yield torch.stack([data[i] for i in range(start, min(start + size, len(data)))])


# ── both ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def cpu_seconds() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def compare(name: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        case = CASES[name](folder)
        manifest, classifier, plan = case
        first = Decoded(
            [manifest.root / manifest.samples[0].image], classifier.preprocess or Preprocess()
        )[0]
        case = (manifest, resolve_layer(classifier, first[None])[0], plan)
        workers = max(1, (os.cpu_count() or 1) - 1)
        runs: dict[str, Callable[[], object]] = {
            "bare loop": lambda: bare(case, 0),
            "bare, DataLoader": lambda: bare(case, workers),
            "measure": lambda: measure(manifest, case[1], plan, folder / "run", fresh=True),
        }
        times: dict[str, list[tuple[float, float]]] = {who: [] for who in runs}
        for turn in range(rounds + 1):
            for who, run in runs.items():
                wall, cpu = time.perf_counter(), cpu_seconds()
                run()
                if turn:  # the first turn fills the page cache
                    times[who].append((time.perf_counter() - wall, cpu_seconds() - cpu))
    print(
        f"\n{name}: {len(manifest)} images, {len(manifest.region_names)} regions, layer {case[1].layer}, batches of {plan.run.batch_size}"
    )
    medians = {
        who: tuple(statistics.median(column) for column in zip(*pairs, strict=True))
        for who, pairs in times.items()
    }
    for who, (wall, cpu) in medians.items():
        each = 1e3 / len(manifest)
        ratio = f"{wall / medians['bare loop'][0]:6.3f} {wall / medians['bare, DataLoader'][0]:6.3f} {cpu / medians['bare loop'][1]:6.3f}"
        print(
            f"  {who:18s} {wall * each:7.2f} ms/image wall {cpu * each:7.2f} ms CPU    ÷ bare loop, ÷ DataLoader, CPU ÷ loop: {ratio}"
        )
    print(f"  goal: measure ÷ bare loop ≤ {GOAL}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    machine = (
        f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"torch {torch.__version__}, {machine}, {given.rounds} rounds")
    for name in given.only:
        compare(name, given.rounds)


if __name__ == "__main__":
    main()
