"""Which layers of a network can be explained, and which one "auto" takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradaudit.attribution.layer_choice import choose_layer
from gradaudit.errors import ForwardError, ModelError
from gradaudit.images.decoding import decode_image
from gradaudit.images.preprocessing import Preprocess, preprocess_image
from gradaudit.models.classifier import Classifier, device_of
from gradaudit.models.sources import with_logits

_USUAL_SIZE = (224, 224)


@dataclass(frozen=True)
class LayerRow:
    """One candidate; candidates come in the order in which they run.

    depth : share of the network's layers with weights that lie in this layer or in one listed
        before it, 0 to 1
    gradient : does the score's gradient reach it at any position, or is it exactly zero everywhere
    chosen : is it the layer that "auto" takes
    """

    name: str
    type: str
    kind: str
    grid: tuple[int, ...]
    channels: int
    depth: float
    gradient: bool
    chosen: bool


@dataclass(frozen=True)
class LayerList:
    """The layers of a network that can be explained.

    ``reason`` says why "auto" takes ``auto``; ``seen`` says which input they were found with.
    """

    model: str
    auto: str
    reason: str
    seen: str
    layers: tuple[LayerRow, ...]


def list_layers(
    classifier: Classifier, size: tuple[int, int] | None = None, image: str | None = None
) -> LayerList:
    """List the layers that ``choose_layer`` can choose from.

    The network is run on an image, or on seeded noise of the model's input size.

    size : (H, W), for a network that declares none; 224x224 where neither says

    Errors: ``LayerError`` where none can be explained; ``ImageError`` for the image; ``ModelError``
    where the network refuses the size.
    """
    images, seen = _traced_input(classifier, size, image)
    images = images.to(device_of(classifier))
    try:
        classifier = with_logits(classifier, images)
        choice = choose_layer(classifier.module, images, output=classifier.output)
    except ForwardError as error:
        raise ModelError(
            f"{error} Give another size with --input-size, or an image with --image."
        ) from error
    modules = dict(classifier.module.named_modules())
    depths = _depths(classifier.module, [c.name for c in choice.candidates])
    rows = tuple(
        LayerRow(
            c.name,
            type(modules[c.name]).__name__,
            c.layout.kind,
            c.layout.grid,
            c.layout.channels,
            depth,
            c.reached,
            c.name == choice.name,
        )
        for c, depth in zip(choice.candidates, depths, strict=True)
    )
    return LayerList(classifier.source, choice.name, choice.reason, seen, rows)


def _traced_input(
    classifier: Classifier, size: tuple[int, int] | None, image: str | None
) -> tuple[Tensor, str]:
    preprocess = classifier.preprocess or Preprocess()
    if image is not None:
        return torch.from_numpy(preprocess_image(decode_image(image), preprocess))[
            None
        ], f"the image {image}"
    height, width = size or preprocess.output_size or _USUAL_SIZE
    whose = (
        "as asked for"
        if size
        else "the model's own size"
        if preprocess.output_size
        else "the usual size, since the model declares none"
    )
    noise = torch.randn(
        1, preprocess.channels, height, width, generator=torch.Generator().manual_seed(0)
    )
    return (
        noise,
        f"noise of {height}x{width} ({whose}), not an image: whether a gradient reaches a layer may differ on real ones",
    )


def _depths(module: nn.Module, names: Sequence[str]) -> list[float]:
    """Per name, the share of the layers with weights that have run when it is done.

    Counted are modules with parameters of their own that lie in the named layer or in one before
    it; ``names`` is in the order in which the layers ran.
    """
    modules = dict(module.named_modules())
    weighted = [
        part for part in modules.values() if next(part.parameters(recurse=False), None) is not None
    ]
    seen: set[nn.Module] = set()
    depths = []
    for name in names:
        seen |= set(modules[name].modules())
        depths.append(sum(part in seen for part in weighted) / max(len(weighted), 1))
    return depths
