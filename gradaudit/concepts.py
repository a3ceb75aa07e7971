"""Deep feature factorisation: what a layer sees, as a few concepts with a heat map each and the classes each speaks for.

The activations of a batch, positions by channels, are factorised into non-negative parts: heat of each concept at each position times the
concept's channels.  Nothing in it depends on a target; it shows what the layer can tell apart, not what the score used.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradaudit.capture import Capture, capture
from gradaudit.errors import InputError
from gradaudit.layouts import Inputs
from gradaudit.targets import FunctionScore, TargetContext, class_logits, resolve_target


@dataclass(frozen=True)
class Concepts:
    """Concepts of a batch: ``heat`` (N, k, h, w) >= 0, ``channels`` (k, C) >= 0, ``scores`` (k, classes) of each concept alone.

    ``explained``: share of the squared activations that the concepts reproduce, 0 to 1.
    """

    heat: Tensor
    channels: Tensor
    scores: Tensor
    explained: float

    def classes(self, concept: int, count: int = 3) -> list[int]:
        """Indices of the classes that a concept speaks for most, best first."""
        ranked: list[int] = self.scores[concept].argsort(descending=True)[:count].tolist()
        return ranked


def factorise(captured: Capture, concepts: int = 5, seed: int = 0, iterations: int = 500) -> Concepts:
    """Non-negative factorisation of a capture's rectified activations into concepts, and the class scores of each concept alone.

    A concept's scores are the head's logits when every position holds the concept's channels at their mean strength, minus the
    logits of a silent layer.
    Errors: ``InputError`` for more concepts than channels or positions.  Source: Collins et al. 2018, ECCV (deep feature factorization)
    """
    from sklearn.decomposition import NMF

    positive = captured.activations.clamp_min(0)
    count, channels, positions = positive.shape
    rows = cast(NDArray[np.float64], positive.transpose(1, 2).reshape(-1, channels).double().cpu().numpy())
    if not 1 <= concepts <= min(rows.shape):
        raise InputError(f"concepts: expected 1 to {min(rows.shape)} (channels or positions, whichever are fewer); got {concepts}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged to its own tolerance: `explained` says how good it is
        model = NMF(concepts, init="nndsvda", random_state=seed, max_iter=iterations)
        strength = model.fit_transform(rows)
    parts = np.asarray(model.components_)
    total = float((rows**2).sum())
    explained = 1 - float(((rows - strength @ parts) ** 2).sum()) / total if total > 0 else float("nan")
    heat = torch.from_numpy(strength).float().reshape(count, positions, concepts).transpose(1, 2)
    alone = torch.from_numpy(parts * strength.mean(0)[:, None]).to(captured.activations)
    return Concepts(captured.on_grid(heat), torch.from_numpy(parts).float(), _class_scores(captured, alone, positions), explained)


def _class_scores(captured: Capture, alone: Tensor, positions: int) -> Tensor:
    filled = torch.cat([alone, torch.zeros_like(alone[:1])])[..., None].expand(-1, -1, positions)
    logits = captured.head(filled, 0)
    return (logits[:-1] - logits[-1:]).float().cpu()


def discover(module: torch.nn.Module, layer: str, images: Inputs, concepts: int = 5, output: str | int | None = None, seed: int = 0) -> Concepts:
    """Concepts of a layer over a batch of images."""
    score = resolve_target(lambda result: class_logits(result, output), TargetContext())
    assert isinstance(score, FunctionScore)
    return factorise(capture(module, layer, images, score), concepts, seed)


# ── which channels carried the decision ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Neuron:
    """One channel of the explained layer: its share of the map's total, and the classes that it drives most."""

    channel: int
    share: float
    classes: tuple[int, ...]


def important_neurons(captured: Capture, contributed: Tensor, index: int = 0, count: int = 5, classes: int = 3) -> list[Neuron]:
    """The channels that carried (positive share) or opposed (negative) one image's score, largest first.

    contributed : (N, K, C, P) of ``cams.contributions``; the share is the channel's sum over the sum of all absolute channel sums.
    A channel's classes are those whose logits rise most when it alone is at its mean strength (head replay).
    Source: Selvaraju et al. 2020, IJCV 128:336, sec. 8 (neuron importance)
    """
    sums = contributed[index, 0].sum(-1)
    scale = sums.abs().sum()
    top = sums.abs().topk(min(count, len(sums))).indices
    alone = torch.zeros(len(top) + 1, *captured.activations.shape[1:], dtype=captured.activations.dtype, device=captured.activations.device)
    for row, channel in enumerate(top.tolist()):
        alone[row, channel] = captured.activations[index, channel].mean()
    everything = FunctionScore(class_logits)
    logits = Capture(
        captured.module, captured.inputs, everything, captured.output, class_logits(captured.output), captured.layer, captured.layout,
        captured.activations, captured.gradients, captured.original,
    ).head(alone, index)  # fmt: skip
    rises = logits[:-1] - logits[-1:]
    return [
        Neuron(
            channel,
            float(sums[channel] / scale) if scale > 0 else float("nan"),
            tuple(rises[row].topk(min(classes, rises.shape[1])).indices.tolist()),
        )
        for row, channel in enumerate(top.tolist())
    ]
