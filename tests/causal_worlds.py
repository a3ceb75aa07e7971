"""Worlds with a known answer to "does the region matter, and does heat show it?": made by hand, nothing is trained.

A world is a data generator and a network whose arithmetic can be read off the code.  Images are (N, 3, 64, 64) float32 in [0, 1]:
red = lesion, green = ruler (paper .75, marks 1.0), blue = skin (.8 light, .5 middle, .2 dark).  The network sees the three through
1x1 convolutions, so what each feature answers to is exact; the explained layer is ``features`` (a 16x16 grid), the score of class 1 minus that
of class 0 is ``margin``.  ``absent`` holds the same images without the region: the effect of removal is known without any fill.

    world = make("effect_without_heat", seed=0)
    world.network(world.images); world.truth      # Truth(heat=..., effect=..., scale=...)

``GROUPS`` are ordered light to dark; where a world is grouped, only the darkest group is touched.  Names: ``WORLDS``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

SIDE, CELL = 64, 4
GROUPS = ("I-II", "III-IV", "V-VI")
BLUE = dict(zip(GROUPS, (0.8, 0.5, 0.2), strict=False))


@dataclass(frozen=True)
class Truth:
    """heat: the region's share of the positive heat is material; effect: its removal changes the score (decisions) materially.

    groups : the groups of which this holds      hidden : effect on the logit that the probability does not show (saturation)
    mixed : the effect has both signs, so its signed mean is near 0      word : the case of the four, "" where none applies
    """

    heat: bool
    effect: bool
    groups: tuple[str, ...] = GROUPS
    hidden: bool = False
    mixed: bool = False

    @property
    def word(self) -> str:
        return {
            (1, 1): "heat and effect",
            (1, 0): "heat without effect",
            (0, 1): "effect without heat",
            (0, 0): "neither",
        }[self.heat, self.effect]


@dataclass
class World:
    name: str
    truth: Truth
    images: Tensor
    absent: Tensor
    lesion: np.ndarray
    region: np.ndarray
    groups: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    network: nn.Module = field(repr=False)


class Features(nn.Module):
    """1x1 detectors, ReLU, mean over 4x4 cells; optionally a gate (squeeze and excitation): lesion evidence times 1 + k * mean(ruler).

    Channels: 0 lesion, 1 ruler, 2 ruler on dark skin only, 3 ruler marks, 4 ruler paper (marks left out), 5 roughness of the red plane (a fill that smooths changes it), 6 grain of the green plane, 7 plain skin.
    """

    def __init__(self, gate: float = 0.0, grouped: bool = True, sign: bool = False):
        super().__init__()
        self.gate, self.grouped, self.sign = gate, grouped, sign

    def forward(self, x: Tensor) -> Tensor:
        red, green, blue = x[:, 0], x[:, 1], x[:, 2]
        rough = nn.functional.conv2d(
            red[:, None], torch.tensor([[[[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]]]), padding=1
        )[:, 0]
        on_dark = torch.relu(green - 0.5) * (blue < 0.35)
        marks = torch.relu(green - 0.85)
        paper = torch.relu(green - 0.5) - torch.relu(green - 0.85) * (0.5 / 0.15)
        planes = [
            torch.relu(red - 0.5),
            torch.relu(green - 0.5),
            on_dark,
            marks,
            torch.relu(paper),
            rough.abs(),
            torch.relu(green - 0.15) * (green < 0.5),
            torch.relu(0.5 - red),
        ]
        f = nn.functional.avg_pool2d(torch.stack(planes, 1), CELL)
        if self.gate:
            ruler = f[:, 2 if self.grouped else 1].mean((1, 2), keepdim=True)[:, None]
            if self.sign:  # pushes up or down by a trait of the image that says nothing of the class: the corner's grain
                ruler = ruler * torch.where(x[:, :1, :1, :1] > 0.2, 1.0, -1.0)
            f = torch.cat([f[:, :1] * (1 + self.gate * ruler), f[:, 1:]], 1)
        return f


class Network(nn.Module):
    """margin = scale * squash(weights . mean(features) - threshold); logits (-margin / 2, margin / 2)."""

    def __init__(
        self,
        weights: dict[int, float],
        scale: float = 1.0,
        saturate: float = 0.0,
        shift: float = 0.0,
        **features: object,
    ):
        super().__init__()
        self.features = Features(**features)  # type: ignore[arg-type]
        w = torch.zeros(8)
        w[7] = SKIN
        for channel, value in weights.items():
            w[channel] = value
        self.weights = nn.Parameter(w)
        self.threshold, self.scale, self.saturate, self.shift = 0.0, scale, saturate, shift

    def margin(self, x: Tensor) -> Tensor:
        z = self.features(x).mean((2, 3)) @ self.weights - self.threshold
        u = (
            self.saturate * z
        )  # u / sqrt(1 + u^2) rather than tanh: its gradient does not round to 0, so heat stays defined
        return self.scale * (u * torch.rsqrt(1 + u * u) if self.saturate else z)

    def forward(self, x: Tensor) -> Tensor:
        z = self.margin(x)
        return torch.stack([-z / 2, z / 2], 1)


LESION, SKIN = 60.0, -8.0
"""Weights of lesion (mean activation .02 to .08) and plain skin (about .25): margins lie within about +-3, and both classes have heat."""

WORLDS: dict[str, tuple[Truth, dict[str, object]]] = {
    "neither": (Truth(False, False), {"weights": {0: LESION}}),
    "heat_and_effect": (Truth(True, True), {"weights": {0: LESION, 1: 110.0}, "shift": -1.5}),
    "heat_and_effect_dark": (Truth(True, True, ("V-VI",)), {"weights": {0: LESION, 2: 75.0}}),
    "effect_without_heat": (
        Truth(False, True),
        {"weights": {0: LESION}, "gate": 20.0, "grouped": False},
    ),
    "effect_without_heat_dark": (
        Truth(False, True, ("V-VI",)),
        {"weights": {0: LESION}, "gate": 20.0},
    ),
    "effect_without_heat_mixed": (
        Truth(False, True, mixed=True),
        {"weights": {0: LESION}, "gate": 16.0, "grouped": False, "sign": True},
    ),
    "heat_without_effect_cancelled": (
        Truth(True, False),
        {"weights": {0: LESION, 3: 240.0, 4: -1.0}},
    ),
    "heat_without_effect_saturated": (
        Truth(True, False),
        {"weights": {0: LESION, 1: 80.0}, "scale": 2.5, "saturate": 8.0},
    ),
    "softmax_saturated": (
        Truth(True, False, hidden=True),
        {"weights": {0: LESION, 1: 80.0}, "scale": 30.0},
    ),
    "fill_sensitive": (Truth(False, False), {"weights": {0: LESION, 5: 250.0}}),
    "ghost": (Truth(False, False), {"weights": {0: LESION, 6: 1200.0}}),
}
"""name -> what is true, and the network.  ``ghost``: the region is bare skin like any other (removal is a true null)."""

REDUNDANT = ("heat_without_effect_saturated", "softmax_saturated")


def make(name: str, seed: int = 0, patients: int = 120) -> World:
    """One world; every third patient is of each group, one to three images each, all with the region."""
    truth, build = WORLDS[name]
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    network = Network(**build).eval()  # type: ignore[arg-type]
    rows, absent, lesions, regions, groups, people, labels = [], [], [], [], [], [], []
    yy, xx = np.mgrid[:SIDE, :SIDE]
    for number in range(patients):
        group = GROUPS[number % 3]
        malignant = rng.uniform() < 0.5
        severity = np.clip(rng.normal(0.62 if malignant else 0.38, 0.16), 0.02, 0.98)
        if name in REDUNDANT:
            severity = rng.uniform(0.7, 1.0)  # every lesion alone suffices
        for _ in range(int(rng.integers(1, 4))):
            base = np.empty((3, SIDE, SIDE), np.float32)
            base[0], base[1] = 0.2, 0.15
            base[2] = BLUE[group]
            base += rng.normal(0, 0.03, base.shape)
            cy, cx = rng.uniform(26, 38, 2)
            radius = 9 + 6 * np.clip(severity + rng.normal(0, 0.06), 0, 1)
            lesion = (yy - cy) ** 2 + (xx - cx) ** 2 < radius**2
            base[0][lesion] = 0.75 + 0.20 * severity + rng.normal(0, 0.02, lesion.sum())
            region = np.zeros((SIDE, SIDE), bool)
            wide = int(rng.integers(6, 9))
            region[1 : 1 + wide, 4:60] = True
            turn = int(rng.integers(4))
            marks = np.zeros_like(region)
            marks[1 : 1 + wide, 4:32] = True
            region, marks = np.rot90(region, turn).copy(), np.rot90(marks, turn).copy()
            image = base.copy()
            if name != "ghost":
                image[1][region] = 0.75
                image[1][marks] = 1.0
            rows.append(image), absent.append(base), lesions.append(lesion), regions.append(region)
            groups.append(group), people.append(f"p{number:04d}"), labels.append(int(malignant))
    images, without = torch.from_numpy(np.stack(rows)), torch.from_numpy(np.stack(absent))
    if (
        name == "heat_without_effect_cancelled"
    ):  # paper's weight such that a whole ruler adds exactly nothing, on average
        with torch.no_grad():
            gain = (network.features(images) - network.features(without)).mean((0, 2, 3))
            network.weights[4] = -(gain[3] * network.weights[3]) / gain[4]
    with torch.no_grad():  # the threshold lies midway between the classes' means
        network.threshold, z = 0.0, network.features(images).mean((2, 3)) @ network.weights
        y = torch.tensor(labels)
        network.threshold = float(z[y == 1].mean() + z[y == 0].mean()) / 2 + network.shift
        if name in REDUNDANT:  # far below what any lesion alone brings
            network.threshold = (
                float((network.features(without).mean((2, 3)) @ network.weights).min()) - 0.5
            )
    return World(
        name,
        truth,
        images,
        without,
        np.stack(lesions),
        np.stack(regions),
        np.array(groups),
        np.array(people),
        np.array(labels),
        network,
    )


if __name__ == "__main__":
    for name in WORLDS:
        w = make(name)
        with torch.no_grad():
            a, b = w.network.margin(w.images).numpy(), w.network.margin(w.absent).numpy()
            f = w.network.features(w.images)
            o = w.network(w.images)
        pa, pb = 1 / (1 + np.exp(-a.clip(-60, 60))), 1 / (1 + np.exp(-b.clip(-60, 60)))
        # Grad-CAM's weights are the gradient's means: proportional to the weights of the predicted class
        sign = torch.where(torch.from_numpy(a) > 0, 1.0, -1.0)
        heat = torch.relu(
            torch.einsum("nchw,c->nhw", f, w.network.weights.detach()) * sign[:, None, None]
        )
        mask = nn.functional.avg_pool2d(torch.from_numpy(w.region)[:, None].float(), CELL)[:, 0]
        share = ((heat * mask).sum((1, 2)) / heat.sum((1, 2)).clamp_min(1e-12)).numpy()
        ok = (heat.sum((1, 2)) > 1e-9).numpy()
        print(
            f"{name:32s} {w.truth.word:20s} mal {np.mean(a > 0):.2f} acc {np.mean((a > 0) == w.labels):.2f} defined {ok.mean():.2f} heat "
            + " ".join(f"{share[ok & (w.groups == g)].mean():.2f}" for g in GROUPS)
            + " | dlogit "
            + " ".join(f"{(b - a)[w.groups == g].mean():+.2f}" for g in GROUPS)
            + f" dp {np.mean(pb - pa):+.3f} TV {np.mean(abs(pb - pa)):.3f} flips {np.mean((a > 0) != (b > 0)):.3f} p>.99 {np.mean(np.maximum(pa, 1 - pa) > 0.99):.2f}"
        )
