"""Which layer is explained in 25 architectures, its grid, and how much of the heat a planted signal gets there.

No weights are downloaded: every trunk is random, and behind the chosen layer goes global average pooling with a linear class "patch", fitted
in closed form (ridge regression of the patch's coverage on the activations, on as many images as give two positions per channel).  On new
images with the patch elsewhere, Grad-CAM of that class through the engine must lie on the patch (a quarter of each side, 6 % of the image).
Two shares are printed: inside the patch, and within one cell of the grid around it, which is as fine as a coarse map can be.  A layer whose
positions have been mixed (attention over the whole image, untrained) cannot reach 90 %, and the table says so.

Run:  OMP_NUM_THREADS=2 python benchmarks/architectures.py [--only resnet50,...]
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradaudit.attribution.explanation import explain
from gradaudit.attribution.layer_choice import choose_layer
from gradaudit.attribution.layer_layout import Layout
from gradaudit.errors import GradauditError
from gradaudit.measurement.batch_rows import projected_shares
from gradaudit.metrics.upsampling import project
from gradaudit.models.classifier import Classifier
from gradaudit.models.inputs_outputs import first_tensor
from gradaudit.models.torchvision_compat import import_torchvision

torchvision = import_torchvision()

TORCHVISION = (
    "alexnet", "vgg16", "squeezenet1_1", "googlenet", "inception_v3", "resnet18", "resnet50", "resnext50_32x4d", "densenet121",
    "mobilenet_v3_large", "shufflenet_v2_x1_0", "mnasnet1_0", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "vit_b_32", "swin_t", "maxvit_t",
)  # fmt: skip
TIMM = (
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2", "swinv2_tiny_window8_256", "maxvit_tiny_rw_224",
    "coatnet_0_rw_224", "mixer_s32_224", "resnetv2_50x1_bit", "levit_128s",
)  # fmt: skip
VIDEO = ("r3d_18",)


def build(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    if name in TORCHVISION:
        extra = (
            {"init_weights": True, "aux_logits": True}
            if name in ("googlenet", "inception_v3")
            else {}
        )
        side = 299 if name == "inception_v3" else 224
        return getattr(torchvision.models, name)(weights=None, **extra).eval(), torch.randn(
            1, 3, side, side
        ) * 0.2
    if name in VIDEO:
        return getattr(torchvision.models.video, name)(weights=None).eval(), torch.randn(
            1, 3, 8, 112, 112
        ) * 0.2
    import timm

    net = timm.create_model(name, pretrained=False, num_classes=10).eval()
    side = net.default_cfg["input_size"][-1]
    return net, torch.randn(1, 3, side, side) * 0.2


def awakened(net: nn.Module, x: Tensor) -> nn.Module:
    """What any trained network has and a fresh one lacks: batch-norm statistics, residual branches that count, a head that is not zero."""
    torch.manual_seed(1)
    for name, parameter in net.named_parameters():
        if "layer_scale" in name or name.endswith(".gamma"):  # ConvNeXt starts its branches at 1e-6
            nn.init.ones_(parameter)
        elif (
            name.endswith("weight") and parameter.ndim == 2 and not parameter.any()
        ):  # torchvision's ViT starts its head at zero
            nn.init.normal_(parameter, std=0.02)
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        net(torch.cat([planted(tuple(x.shape), seed)[0] for seed in range(10)]))
    return net.eval()


def planted(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """A noise image (1, C, [D,] H, W) with a checkered patch, a quarter of each side, and the patch's mask (H, W)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = shape[-2:]
    top, left = (
        int(torch.randint(0, 3 * side // 4, (1,), generator=generator)) for side in (height, width)
    )
    mask = torch.zeros(height, width)
    mask[top : top + height // 4, left : left + width // 4] = 1
    checks = ((torch.arange(height)[:, None] // 8 + torch.arange(width) // 8) % 2 * 2 - 1).float()
    return 0.3 * torch.randn(shape, generator=generator) + 2.0 * mask * checks, mask


class Recorder(nn.Module):
    """Keeps what its layer gave (or what the engine put in its place)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.last = inner, torch.empty(0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.inner(*args, **kwargs)
        self.last = first_tensor(output)
        return output


class Probed(nn.Module):
    """The network up to one layer, then global average pooling and a linear class."""

    def __init__(self, net: nn.Module, layer: str, layout: Layout) -> None:
        super().__init__()
        self.net, self.layout, self.weight = net, layout, torch.zeros(layout.channels)
        parent, _, name = layer.rpartition(".")
        self.recorder = Recorder(net.get_submodule(layer))
        setattr(net.get_submodule(parent), name, self.recorder)
        self.layer = f"net.{layer}.inner"

    def positions(self, x: Tensor) -> Tensor:
        self.net(x)
        return self.layout.positions(self.recorder.last)

    def forward(self, x: Tensor) -> Tensor:
        score = self.positions(x).mean(-1) @ self.weight
        return torch.stack([torch.zeros_like(score), score], 1)


def coverage(mask: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Fraction of each cell that the patch covers, on the last two axes of the grid, repeated along the first of three."""
    side = torch.nn.functional.adaptive_avg_pool2d(mask[None, None], grid[-2:])[0, 0]
    return side.expand(grid).reshape(-1)


def fitted(probe: Probed, shape: tuple[int, ...]) -> None:
    """Ridge regression of the patch's coverage on the activations, position by position, without intercept."""
    rows, aims = [], []
    places = int(np.prod(probe.layout.grid))
    with torch.no_grad():
        for seed in range(max(10, -(-2 * probe.layout.channels // places))):
            x, mask = planted(shape, seed)
            rows.append(probe.positions(x)[0].T.double())
            aims.append(
                coverage(mask, probe.layout.grid).double() - 0.3
            )  # plain noise speaks against the class
    a, y = torch.cat(rows), torch.cat(aims)
    if len(a) <= a.shape[1]:
        gram = a @ a.T
        weight = a.T @ torch.linalg.solve(
            gram + 1e-3 * gram.diagonal().mean() * torch.eye(len(a)), y
        )
    else:
        gram = a.T @ a
        weight = torch.linalg.solve(
            gram + 1e-3 * gram.diagonal().mean() * torch.eye(len(gram)), a.T @ y
        )
    probe.weight = weight.float()


def patch_shares(
    net: nn.Module, layer: str, layout: Layout, shape: tuple[int, ...]
) -> tuple[float, float]:
    """Median over new images of the heat share inside the patch, and within one cell of it."""
    probe = Probed(net, layer, layout)
    fitted(probe, shape)
    inside, around = [], []
    for seed in range(1000, 1005):
        x, mask = planted(shape, seed)
        heat = explain(Classifier(probe, probe.layer), x, 1).heat().reshape(1, *layout.grid)
        heat = heat.mean(1) if heat.ndim == 4 else heat
        step = -(-mask.shape[0] // layout.grid[-2])
        near = torch.nn.functional.max_pool2d(mask[None, None], 2 * step + 1, 1, step)[0]
        masks = torch.stack([mask, near[0]])[None].numpy()
        share = projected_shares(
            heat.numpy(), project(masks, (heat.shape[1], heat.shape[2])), mask.shape
        )[0]
        inside.append(share[0])
        around.append(share[1])
    return float(np.median(inside)), float(np.median(around))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(
        "| architecture | layer | kind | grid | prefix | heat on the patch | within one cell | note |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in given.only.split(",") if given.only else (*TORCHVISION, *TIMM, *VIDEO):
        print(line(name), flush=True)


def line(name: str) -> str:
    try:
        net, x = build(name)
        awakened(net, x)
        choice = choose_layer(net, x)
    except (GradauditError, RuntimeError, ValueError) as error:
        return f"| {name} | – | – | – | – | – | – | {str(error)[:150]} |"
    layout = next(c.layout for c in choice.candidates if c.name == choice.name)
    inside, around = patch_shares(net, choice.name, layout, tuple(x.shape))
    later = choice.reason.partition("; ")[2]
    mixed = "positions mixed past the patch: attention, or a receptive field wider than it, in an untrained trunk"
    cold = "no positive heat on some images: the linear class does not carry over to new ones"
    note = later or ("" if around > 0.9 else mixed if around <= 0.9 else cold)
    grid = "×".join(map(str, choice.grid))
    shares = f"{inside:.2f} | {around:.2f}"
    return (
        f"| {name} | {choice.name} | {choice.kind} | {grid} | {choice.prefix} | {shares} | {note} |"
    )


if __name__ == "__main__":
    main()
