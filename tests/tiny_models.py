"""Small networks shared by the tests; random weights, a known structure, milliseconds to run."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def seeded(build, seed: int = 0, **arguments) -> nn.Module:
    """A module with weights from ``seed``, in eval mode; the global generator is left alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return build(**arguments).eval()


def images(count: int = 3, side: int = 32, seed: int = 1, channels: int = 3, width: int | None = None) -> Tensor:
    return torch.randn(count, channels, side, width or side, generator=torch.Generator().manual_seed(seed))


class GapNet(nn.Module):
    """conv - relu - conv - relu - global average - linear: on it Grad-CAM is CAM / (h w)."""

    def __init__(self, classes: int = 5, channels: int = 3, inplace: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, 2, 1)
        self.relu1 = nn.ReLU(inplace)
        self.conv2 = nn.Conv2d(8, 12, 3, 2, 1)
        self.relu2 = nn.ReLU(inplace)
        self.fc = nn.Linear(12, classes, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


class DeepHead(nn.Module):
    """A head with a nonlinearity, normalisation and dropout after the explained layer ``body``."""

    def __init__(self, classes: int = 5, inplace: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace), nn.Conv2d(8, 10, 3, 2, 1), nn.BatchNorm2d(10))
        self.act = nn.ReLU(inplace)
        self.tail = nn.Conv2d(10, 6, 3, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(6 * 4 * 4, 16), nn.Tanh(), nn.Linear(16, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.tail(self.act(self.body(x)))
        return self.head(self.drop(torch.relu(x)).flatten(1))


class SharedRelu(nn.Module):
    """One ReLU module used twice, and a skip connection over the explained layer ``conv2``."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = self.relu(self.conv2(x) + x)
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class TinyViT(nn.Module):
    """A class token (and registers), two pre-norm attention blocks; only the class token is read at the end."""

    def __init__(self, classes: int = 4, side: int = 32, patch: int = 8, registers: int = 0, width: int = 16) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, 1 + registers, width) * 0.5)
        self.pos = nn.Parameter(torch.randn(1, (side // patch) ** 2, width) * 0.5)
        self.blocks = nn.ModuleList([_Block(width) for _ in range(2)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos
        x = torch.cat([self.prefix.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(functional.scaled_dot_product_attention(q, k, v))


class ChannelsLastNet(nn.Module):
    """Blocks on (N, H, W, C), as Swin has them."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem, self.norm, self.mix = nn.Conv2d(3, 12, 8, 8), nn.LayerNorm(12), nn.Linear(12, 12)
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.norm(self.stem(x).permute(0, 2, 3, 1)))
        return self.head(torch.tanh(x).mean((1, 2)))


class VolumeNet(nn.Module):
    """A 3-D network on (N, 1, D, H, W)."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(1, 6, 3, 2, 1), nn.ReLU(), nn.Conv3d(6, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3, 4)))


class PlantedPatch(nn.Module):
    """The logit of class 1 counts 8x8 cells whose first channel is above one half; class 0 is constant. Its answer is known by hand.

    Three noise channels look at the other colours, and the head ignores them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features, self.relu = nn.Conv2d(3, 4, 8, 8), nn.ReLU()
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.features.weight.zero_()
            self.features.weight[0, 0] = 1 / 64
            self.features.weight[1:, 1:] = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(0)) / 64
            self.features.bias.copy_(torch.tensor([-0.5, 0.0, 0.0, 0.0]))
            self.head.weight.zero_()
            self.head.weight[1, 0] = 400.0
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.features(x)).mean((2, 3)))


def awakened(net: nn.Module, x: Tensor) -> nn.Module:
    """What any trained network has and a fresh one lacks: batch-norm statistics (of ``x``), residual branches that count, a head that is not zero."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        for name, parameter in net.named_parameters():
            if "layer_scale" in name or name.endswith((".gamma", "layer_scale_parameter")):  # such branches start at 1e-6
                nn.init.ones_(parameter)
            elif name.endswith("weight") and parameter.ndim == 2 and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    net.eval()
    for norm in (m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        net(x)
    return net.eval()
