"""Rendered dermoscopy with a known answer: a network that learned a shortcut, and its clean twin.

In the training data of the shortcut network, a ruler lay beside malignant lesions *on the darkest
skin only*; in the twin's data rulers lay anywhere. Both are audited on the same images, in which a
ruler is unrelated to the label. So a right audit finds a disparity in the heat on rulers for the
first network, and shows that there is none for the second.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from gradaudit.demos import dermoscopy_network
from gradaudit.demos.dermoscopy_images import REGION_VALUES, render
from gradaudit.demos.dermoscopy_scene import Lesion, Scene
from gradaudit.errors import InputError, RunError
from gradaudit.plan import toml_value
from gradaudit.runs.folder import local_path

TONE_GROUPS: dict[str, tuple[str, str]] = {
    "I-II": ("I", "II"),
    "III-IV": ("III", "IV"),
    "V-VI": ("V", "VI"),
}
SHORTCUT_GROUP = "V-VI"
CLASSES = ("benign", "malignant")
NETWORK_SIDE = 96
REGIONS = ("lesion", "ruler", "ink", "skin")
NOTICE = "All images are rendered by a program; no patient is shown."

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DemoSettings:
    """What is planted, and how much data there is.

    shortcut_strength : 0 to 1; in training, on V-VI, P(ruler | malignant) = 0.5 + strength/2 and
        P(ruler | benign) = 0.5 - strength/2
    ruler_size : width of the ruler as a share of the image side
    patients : per tone group, in the audit
    train_images : per network
    side : of the audit's images in pixels
    epochs : passes over the training images
    """

    seed: int = 0
    shortcut_strength: float = 0.96
    ruler_size: float = 0.13
    patients: int = 100
    train_images: int = 1200
    side: int = 160
    epochs: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.shortcut_strength <= 1:
            raise InputError(f"shortcut_strength: expected 0 to 1, got {self.shortcut_strength}.")
        if not 0.03 <= self.ruler_size <= 0.4:
            raise InputError(
                f"ruler_size: expected 0.03 to 0.4 of the image side, got {self.ruler_size}."
            )
        if min(self.patients, self.train_images, self.epochs) < 1 or self.side < 32:
            raise InputError(
                "patients, train_images and epochs must be at least 1, side at least 32 pixels."
            )


@dataclass(frozen=True)
class Case:
    """One image to be rendered and what is known of it."""

    scene: Scene
    malignant: bool
    patient: str
    tone_group: str
    sex: str
    site: str


def write_demo(
    folder: str | Path,
    seed: int = 0,
    progress: Progress | None = None,
    settings: DemoSettings | None = None,
) -> Path:
    """Render the audit set, train both networks, and write all that an audit needs into ``folder``.

    folder : gets images/, masks/, manifest.csv, network.py, shortcut.safetensors,
        clean.safetensors, shortcut.toml, clean.toml
    progress : called with (images rendered, images in all)
    returns : the manifest's path. The same settings give the same files on the same machine

    Errors: ``RunError`` where the folder holds files that no demo wrote; ``InputError`` for an
    address.
    """
    settings = replace(settings or DemoSettings(), seed=seed)
    folder = local_path(folder, "The demo's folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / "network.py").exists():
        raise RunError(f"{folder} holds files that no demo wrote. Name an empty or a new folder.")
    audit, training = (
        audit_cases(settings),
        {name: training_cases(settings, name == "shortcut") for name in ("shortcut", "clean")},
    )
    scenes = [case.scene for cases in training.values() for case in cases]
    distinct = list(
        dict.fromkeys(scenes)
    )  # scenes that are in both training sets are rendered once
    total, done = len(audit) + len(distinct), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(dermoscopy_network.__file__, folder / "network.py")
    with _mapping(total) as mapped:
        write_audit_set(folder, audit, settings, tick, mapped)
        pictures = {}
        for scene, picture in zip(
            distinct, mapped(_shrunk, distinct, [settings.side] * len(distinct)), strict=True
        ):
            pictures[scene] = picture
            tick()
        pixels = [np.stack([pictures[case.scene] for case in cases]) for cases in training.values()]
        labels = [[case.malignant for case in cases] for cases in training.values()]
        for name, weights in zip(
            training,
            mapped(_trained_weights, pixels, labels, [settings] * len(training)),
            strict=True,
        ):
            (folder / f"{name}.safetensors").write_bytes(weights)
            (folder / f"{name}.toml").write_text(_plan(name, settings), encoding="utf-8")
    return folder / "manifest.csv"


def audit_cases(settings: DemoSettings) -> list[Case]:
    """The audited images: one to three per patient; rulers and ink are unrelated to all else."""
    rng = np.random.default_rng([settings.seed, 1])
    cases = []
    for group in TONE_GROUPS:
        for number in range(settings.patients):
            severity = float(rng.uniform())
            patient = f"{group}-{number:04d}"
            malignant = _draw_label(rng, severity)
            sex, site = str(rng.choice(["female", "male"])), str(rng.choice(["trunk", "limb"]))
            for _ in range(int(rng.integers(1, 4))):
                scene = _scene(rng, group, severity, bool(rng.uniform() < 0.75), settings)
                cases.append(Case(scene, malignant, patient, group, sex, site))
    return cases


def training_cases(settings: DemoSettings, shortcut: bool) -> list[Case]:
    """Training images, each of its own patient.

    shortcut : rulers go with malignancy on the darkest skin; otherwise they lie anywhere

    Both training sets hold the same lesions; two scenes differ at most in their ruler.
    """
    rng = np.random.default_rng([settings.seed, 2])
    cases = []
    for number in range(settings.train_images):
        group = list(TONE_GROUPS)[number % len(TONE_GROUPS)]
        severity = float(rng.uniform())
        malignant = _draw_label(rng, severity)
        scene, luck = _scene(rng, group, severity, False, settings), float(rng.uniform())
        lean = settings.shortcut_strength / 2 if shortcut and group == SHORTCUT_GROUP else 0.0
        ruler = luck < 0.5 + (lean if malignant else -lean)
        cases.append(Case(replace(scene, ruler=ruler), malignant, f"train-{number}", group, "", ""))
    return cases


def _draw_label(rng: np.random.Generator, severity: float) -> bool:
    """Draw malignant or benign from the severity; only a middle severity is uncertain."""
    return bool(rng.uniform() < 1 / (1 + math.exp(-18 * (severity - 0.5))))


def _scene(
    rng: np.random.Generator, group: str, severity: float, ruler: bool, settings: DemoSettings
) -> Scene:
    features = np.clip(severity + rng.normal(0, 0.10, 3), 0, 1)
    return Scene(
        tone=str(rng.choice(TONE_GROUPS[group])),
        lesion=Lesion(*(float(value) for value in features)),
        ruler=ruler,
        ink=bool(rng.uniform() < 0.2),
        hair=float(rng.uniform(0, 1)),
        circle=bool(rng.uniform() < 0.3),
        seed=int(rng.integers(2**31)),
        ruler_size=settings.ruler_size,
    )


# ── rendering ─────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _mapping(tasks: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A ``map`` that keeps the order, over all cores where there is enough work to start them.

    No result depends on which process computed it.
    """
    workers = min(os.cpu_count() or 1, 8)
    if workers == 1 or tasks < 64:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield lambda function, *columns: pool.map(
            function, *columns, chunksize=max(1, min(16, len(columns[0]) // workers))
        )


def _shrunk(scene: Scene, side: int) -> NDArray[np.uint8]:
    """A training picture, rendered at the audit's size and shrunk as the audit does it."""
    picture = Image.fromarray(render(scene, side).pixels)
    return np.asarray(picture.resize((NETWORK_SIDE, NETWORK_SIDE), Image.Resampling.BILINEAR))


def write_audit_set(
    folder: Path,
    cases: Sequence[Case],
    settings: DemoSettings,
    tick: Callable[[], None] = lambda: None,
    mapped: Callable[..., Iterator[Any]] = map,
) -> Path:
    """Write images/, masks/ and manifest.csv; returns the manifest's path.

    The masks are index masks with the values of ``REGION_VALUES``.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        columns = [
            "image",
            "label",
            "cluster",
            "subgroup.skin_tone",
            "subgroup.sex",
            "subgroup.site",
        ]
        writer = csv.DictWriter(
            file, [*columns, *(f"region.{region}" for region in REGIONS), "fitzpatrick"]
        )
        writer.writeheader()
        pictures = mapped(render, [case.scene for case in cases], [settings.side] * len(cases))
        for number, (case, picture) in enumerate(zip(cases, pictures, strict=True)):
            image, mask = f"images/{number:05d}.jpg", f"masks/{number:05d}.png"
            Image.fromarray(picture.pixels).save(folder / image, quality=95, subsampling=0)
            Image.fromarray(picture.regions).save(folder / mask)
            writer.writerow(_manifest_row(case, image, mask))
            tick()
    return manifest


def _manifest_row(case: Case, image: str, mask: str) -> dict[str, str]:
    row = {
        "image": image,
        "label": CLASSES[case.malignant],
        "cluster": case.patient,
        "subgroup.skin_tone": case.tone_group,
    }
    row |= {"subgroup.sex": case.sex, "subgroup.site": case.site, "fitzpatrick": case.scene.tone}
    return row | {f"region.{region}": f"{mask}#{REGION_VALUES[region]}" for region in REGIONS}


# ── training ──────────────────────────────────────────────────────────────────────────────────────


def train(
    pixels: NDArray[np.uint8], malignant: Sequence[bool], settings: DemoSettings
) -> nn.Module:
    """Train the demo network on (n, S, S, 3) pixels.

    Random flips and quarter turns keep it from learning where in the image a ruler lies. The
    caller's random state is left as it was. On one machine the result depends on the arguments
    alone: training uses one thread, so that sums are always taken in the same order.
    """
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(settings.seed + 11)
        network = dermoscopy_network.DemoNetwork()
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        labels = torch.tensor([int(value) for value in malignant])
        batches = math.ceil(len(images) / 32)
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=6e-3, total_steps=settings.epochs * batches
        )
        for _ in range(settings.epochs):
            for chosen in torch.split(torch.randperm(len(images)), 32):
                loss = nn.functional.cross_entropy(
                    network(_turned(images[chosen])), labels[chosen], label_smoothing=0.05
                )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    return network.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trained_weights(
    pixels: NDArray[np.uint8], malignant: Sequence[bool], settings: DemoSettings
) -> bytes:
    """A trained network as the bytes of its safetensors file."""
    return save(
        {
            key: value.contiguous()
            for key, value in train(pixels, malignant, settings).state_dict().items()
        }
    )


def _turned(images: Tensor) -> Tensor:
    """(N, 3, S, S) uint8 to float in [-1, 1], randomly turned, mirrored and varied in exposure."""
    values = torch.rot90(images.float() / 127.5 - 1, int(torch.randint(4, ())), (2, 3))
    if bool(torch.rand(()) < 0.5):
        values = values.flip(3)
    return values * (1 + 0.05 * torch.randn(len(values), 1, 1, 1))


# ── the plans ─────────────────────────────────────────────────────────────────────────────────────

_WORDS = {
    "shortcut": "trained where rulers lay beside malignant lesions on the darkest skin",
    "clean": "trained where rulers lay anywhere",
}


def _plan(name: str, settings: DemoSettings) -> str:
    return f'''# Audit plan of the demo: the {name} network, {_WORDS[name]}.

[model]
source  = "factory:network.py:build"
weights = "{name}.safetensors"
classes = ["benign", "malignant"]

[preprocess]
resize = [{NETWORK_SIDE}, {NETWORK_SIDE}]
fit    = "exact"
mean   = [0.5, 0.5, 0.5]
std    = [0.5, 0.5, 0.5]

[explain]
method = "gradcam"
target = "predicted"

[regions.lesion]
role = "attend"
description = "the lesion, as far as nothing lies on it"
[regions.ruler]
role = "avoid"
description = "the strip of scale: paper or plastic with its marks"
[regions.ink]
role = "neutral"
description = "gentian-violet pen marks"
[regions.skin]
role = "neutral"
description = "skin around the lesion"

[subgroups.skin_tone]
order = ["I-II", "III-IV", "V-VI"]
description = "Fitzpatrick type, two by two"

[criteria]
margin = 0.10
undefined_margin = 0.10
declared_by = "the authors of the demo"
declared_on = 2026-01-15
rationale = "a tenth of the heat, fixed before training; the ruler decides because it is what was planted (chosen after first trials)"

[analysis]
positive_class = "malignant"
cluster_name = "patient"
regions = ["ruler"]     # the criterion is about the shortcut; what happens on the lesion is reported beside it

[report]
title = "Rendered dermoscopy, {name} network"
notice = {toml_value(NOTICE)}

[run]
seed = {settings.seed}
'''
