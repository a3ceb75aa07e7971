"""What a module takes and gives, read by shape alone: the tensor of scores in any output, and the
grid in a layer's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradaudit.errors import LayerError
from gradaudit.spelling import nearest_names

_MOST_PREFIX_TOKENS = (
    16  # class, distillation and register tokens before the patches; the largest known model has 9
)


# ── where the positions are in a layer's output ───────────────────────────────────────────────────


@dataclass(frozen=True)
class Layout:
    """How a layer's output holds a grid of positions.

    ``prefix`` counts the class and register tokens before the patches.
    """

    kind: Literal["nchw", "nhwc", "tokens"]
    grid: tuple[int, ...]
    channels: int
    prefix: int = 0

    def positions(self, output: Tensor) -> Tensor:
        """(N, C, P) view of the output, P = product of the grid, prefix tokens left out."""
        if self.kind == "nchw":
            return output.flatten(2)
        flat = output.flatten(1, -2) if self.kind == "nhwc" else output[:, self.prefix :]
        return flat.transpose(1, 2)

    def output(self, positions: Tensor, original: Tensor) -> Tensor:
        """The layer's output with other values at its positions: the inverse of ``positions``.

        Prefix tokens come from ``original``.
        """
        if self.kind == "nchw":
            return positions.reshape(len(positions), *original.shape[1:])
        flat = positions.transpose(1, 2)
        if self.kind == "nhwc":
            return flat.reshape(len(positions), *original.shape[1:])
        return torch.cat([original[:, : self.prefix].expand(len(positions), -1, -1), flat], dim=1)


def layout_of(
    shape: Sequence[int], size: Sequence[int], channels_last: bool = False
) -> Layout | None:
    """The layout of a layer's output for an input (H, W) or (D, H, W); None where none fits.

    Only grids larger than 1x1 count.

    A grid fits when it keeps the input's aspect to within one cell. Where both orders of axes fit
    (e.g. 64x64x64), channels come first unless ``channels_last`` says that the layer normalizes or
    maps its last axis.
    """
    if len(shape) == len(size) + 2:
        options: list[tuple[Literal["nchw", "nhwc"], tuple[int, ...], int]] = [
            ("nchw", tuple(shape[2:]), shape[1]),
            ("nhwc", tuple(shape[1:-1]), shape[-1]),
        ]
        fitting = [
            o for o in (reversed(options) if channels_last else options) if _fits(o[1], size)
        ]
        return Layout(fitting[0][0], fitting[0][1], fitting[0][2]) if fitting else None
    if len(shape) == 3 and len(size) == 2:
        return _token_layout(shape[1], shape[2], size)
    return None


def _fits(grid: Sequence[int], size: Sequence[int]) -> bool:
    if max(grid) < 2 or any(cells > pixels for cells, pixels in zip(grid, size, strict=True)):
        return False
    strides = [pixels / cells for cells, pixels in zip(grid, size, strict=True)]
    coarse = min(
        range(len(grid)), key=lambda axis: grid[axis]
    )  # the axis with the fewest cells decides how far rounding can move the stride
    low, high = (
        (size[coarse] / (grid[coarse] + step) for step in (1.0, -1.0))
        if grid[coarse] > 1
        else (strides[coarse] / 2, float("inf"))
    )
    return all(low <= stride <= high for stride in strides)


def _token_layout(tokens: int, channels: int, size: Sequence[int]) -> Layout | None:
    height, width = size
    for exact in (True, False):
        for prefix in range(min(_MOST_PREFIX_TOKENS, tokens // 2) + 1):
            patches = tokens - prefix
            ideal = (patches * height / width) ** 0.5
            for rows in sorted({int(ideal), int(ideal) + 1} - {0}, key=lambda r: abs(r - ideal)):
                columns, rest = divmod(patches, rows)
                same_stride = height * columns == width * rows
                if (
                    rest == 0
                    and (same_stride or (not exact and abs(height / rows - width / columns) < 1.0))
                    and _fits((rows, columns), size)
                ):
                    return Layout("tokens", (rows, columns), channels, prefix)
    return None


def normalizes_last_axis(module: nn.Module) -> bool:
    return isinstance(module, (nn.Linear, nn.LayerNorm)) and "2d" not in type(module).__name__


def find_layer(module: nn.Module, layer: str) -> nn.Module:
    """The submodule called ``layer``; ``LayerError`` names the nearest ones."""
    layers = dict(module.named_modules())
    if layer in layers and layer:
        found: nn.Module = layers[layer]
        return found
    named = [name for name in layers if name]
    near = nearest_names(layer, named, most=5) or named[-5:]
    raise LayerError(
        f"The model has no layer {layer!r}; near names: {', '.join(near)}. `gradaudit layers` lists all that can be explained."
    )


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, K, *grid) at the size of the image, (H, W) or (D, H, W), in their own dtype.

    The rule of ``metrics.upsampling.upsample``, by which everything is measured; a test holds the
    two together.  This second kernel stays because some methods enlarge every channel's map on the
    device, where float64 is slow or missing, and because it knows volumes.
    """
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(maps, size=tuple(size), mode=mode, align_corners=False)
