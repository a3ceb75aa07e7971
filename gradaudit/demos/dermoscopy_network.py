"""The small network of the demo, trained in seconds.

`gradaudit demo` copies this file beside the weights, so that a plan can name it as a factory. Three
strided convolutions to a grid of an eighth of the input, global average pooling, one linear layer:
a class score is the mean of a class activation map, so a heat map shows exactly what was added up.
"""

from __future__ import annotations

from torch import Tensor, nn


def _block(channels_in: int, channels_out: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


class DemoNetwork(nn.Module):
    """(N, 3, H, W) -> (N, 2) logits of benign and malignant."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, 16, 5, 2), _block(16, 32, 3, 2), _block(32, 48, 3, 2), _block(48, 64, 3, 1)
        )
        self.head = nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2) of images (N, 3, H, W)."""
        scores: Tensor = self.head(self.features(images).mean((2, 3)))
        return scores


def build() -> nn.Module:
    """The untrained network; `gradaudit` fills in the weights that the plan names."""
    return DemoNetwork()
