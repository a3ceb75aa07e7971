"""What a layer holds, in words: concepts with the classes they speak for, and the channels that
carried a decision with their names.

Deep feature factorization writes the activations of a batch, positions by channels, as non-negative
parts: heat of each concept at each position times the concept's channels.  Nothing in it depends on
a target; it shows what the layer can tell apart, not what the score used.

Neuron importance starts from a target: which channels carried its score, and what each answers to
(classes of the images given, or regions marked in them).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradaudit.attribution.capture import Capture, capture
from gradaudit.attribution.scores import FunctionScore, class_logits
from gradaudit.attribution.targets import TargetContext, resolve_target
from gradaudit.errors import InputError
from gradaudit.metrics.upsampling import upsample
from gradaudit.models.inputs_outputs import Inputs
from gradaudit.number_text import decimal, percent_in_text, plain_number, share_percent


@dataclass(frozen=True)
class Concepts:
    """Concepts of a batch: where each one lies, its channels, and its class scores alone.

    ``heat`` (N, k, h, w) >= 0, ``channels`` (k, C) >= 0, ``scores`` (k, classes).

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


def factorize(
    captured: Capture, concepts: int = 5, seed: int = 0, iterations: int = 500
) -> Concepts:
    """Factorize a capture's rectified activations into concepts, with the class scores of each.

    The factorization is non-negative.

    A concept's scores are the head's logits when every position holds the concept's channels at
    their mean strength, minus the logits of a silent layer.
    Errors: ``InputError`` for more concepts than channels or positions.  Source: Collins et al.
    2018, ECCV (deep feature factorization)
    """
    from sklearn.decomposition import NMF

    positive = captured.activations.clamp_min(0)
    count, channels, positions = positive.shape
    rows = cast(
        NDArray[np.float64], positive.transpose(1, 2).reshape(-1, channels).double().cpu().numpy()
    )
    if not 1 <= concepts <= min(rows.shape):
        raise InputError(
            f"concepts: expected 1 to {min(rows.shape)} (channels or positions, whichever are fewer); got {concepts}."
        )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # not converged to its own tolerance: `explained` says how good it is
        model = NMF(concepts, init="nndsvda", random_state=seed, max_iter=iterations)
        strength = model.fit_transform(rows)
    parts = np.asarray(model.components_)
    total = float((rows**2).sum())
    explained = (
        1 - float(((rows - strength @ parts) ** 2).sum()) / total if total > 0 else float("nan")
    )
    heat = torch.from_numpy(strength).float().reshape(count, positions, concepts).transpose(1, 2)
    alone = torch.from_numpy(parts * strength.mean(0)[:, None]).to(captured.activations)
    return Concepts(
        captured.on_grid(heat),
        torch.from_numpy(parts).float(),
        _class_scores(captured, alone, positions),
        explained,
    )


def _class_scores(captured: Capture, alone: Tensor, positions: int) -> Tensor:
    filled = torch.cat([alone, torch.zeros_like(alone[:1])])[..., None].expand(-1, -1, positions)
    logits = captured.head(filled, 0)
    return (logits[:-1] - logits[-1:]).float().cpu()


def discover(
    module: torch.nn.Module,
    layer: str,
    images: Inputs,
    concepts: int = 5,
    output: str | int | None = None,
    seed: int = 0,
) -> Concepts:
    """Concepts of a layer over a batch of images."""
    score = resolve_target(lambda result: class_logits(result, output), TargetContext())
    assert isinstance(score, FunctionScore)
    return factorize(capture(module, layer, images, score), concepts, seed)


# ── which channels carried the decision ───────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Neuron:
    """One channel of the explained layer: its share of the map, and the classes that it drives.

    ``share`` is in [-1, 1], negative where the channel opposes the score, NaN where no channel
    contributes. ``classes``: those whose logits rise when the channel alone is active, best first,
    by as much as ``rises`` says (logits).
    """

    channel: int
    share: float
    classes: tuple[int, ...]
    rises: tuple[float, ...] = ()


def important_neurons(
    captured: Capture,
    contributed: Tensor,
    index: int = 0,
    count: int = 5,
    classes: int = 3,
    output: str | int | None = None,
) -> list[Neuron]:
    """The channels that spoke for one image's score, or against it, largest share first.

    A positive share carried the score, a negative one opposed it.

    contributed : (N, K, C, P) of ``methods.contributions``; the share is the channel's sum over the
        sum of all absolute channel sums.
    A channel's classes are those whose logits rise most when it alone is at its mean strength (head
    replay), against a silent layer.
    output : key of the logits in a tuple or mapping    Errors: ``TargetError`` for a model without
        class logits.
    Source: Selvaraju et al. 2020, IJCV 128:336, sec. 8 (neuron importance)
    """
    sums = contributed[index, 0].sum(-1)
    scale = sums.abs().sum()
    top = sums.abs().topk(min(count, len(sums))).indices
    alone = torch.zeros(
        len(top) + 1,
        *captured.activations.shape[1:],
        dtype=captured.activations.dtype,
        device=captured.activations.device,
    )
    for row, channel in enumerate(top.tolist()):
        alone[row, channel] = captured.activations[index, channel].mean()

    def logits_of(result: object) -> Tensor:
        return class_logits(result, output)

    logits = replace(
        captured, score=FunctionScore(logits_of), scores=logits_of(captured.output)
    ).head(alone, index)
    rises = (logits[:-1] - logits[-1:]).float().cpu()
    return [
        Neuron(
            channel,
            float(sums[channel] / scale) if scale > 0 else float("nan"),
            *_driven(rises[row], classes),
        )
        for row, channel in enumerate(top.tolist())
    ]


def _driven(rises: Tensor, count: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Classes that rise by more than rounding, best first, and by how much."""
    best = rises.topk(min(count, len(rises)))
    kept = [
        (int(k), float(rise))
        for rise, k in zip(best.values, best.indices, strict=True)
        if rise > 1e-6 * rises.abs().max()
    ]
    return tuple(k for k, _ in kept), tuple(rise for _, rise in kept)


# ── what a channel answers to ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ChannelName:
    """What one channel answers to most, and how clearly: 0 not at all, 1 to nothing else."""

    word: str
    strength: float


def names_by_group(
    strengths: NDArray[np.float64], groups: Sequence[str], least: float = 0.1
) -> list[ChannelName | None]:
    """Per channel the group of images that excites it most, with its selectivity (m - r) / (m + r).

    strengths : (N, C) mean positive activation of each channel in each image    groups : N words,
        such as the predicted classes
    m is the mean over the group, r the mean over the other groups' means.  None where the
    selectivity is below ``least`` (all groups excite it nearly alike), where there is one group
    only, or where the channel is silent. Source: Morcos et al. 2018, ICLR, eq. 1 (class selectivity
    index)
    """
    words = list(dict.fromkeys(groups))
    if len(words) < 2:
        return [None] * strengths.shape[1]
    means = np.stack([strengths[[g == word for g in groups]].mean(0) for word in words])
    best = means.argmax(0)
    top = means.max(0)
    rest = (means.sum(0) - top) / (len(words) - 1)
    selectivity = np.divide(top - rest, top + rest, out=np.zeros_like(top), where=top > 0)
    return [
        ChannelName(words[best[c]], float(selectivity[c]))
        if top[c] > 0 and selectivity[c] >= least
        else None
        for c in range(len(top))
    ]


def names_by_region(
    maps: NDArray[np.float64],
    masks: NDArray[np.float64],
    regions: Sequence[str],
    kept: float = 0.05,
    least: float = 0.04,
) -> list[ChannelName | None]:
    """Per channel the region that its strongest positions overlap best, and how well (IoU).

    maps : (N, C, h, w) activations on the layer's grid    masks : (N, R, H, W) in [0, 1]    regions
        : R words
    kept : share of all pixels of all images that count as strong, per channel.  The paper keeps
        0.005 of 63,305 images; a few images
    need more, or there is nothing left to overlap    least : below this overlap a channel has no
        name (None), as in the paper
    Source: Bau et al. 2017, CVPR (network dissection), eq. 1
    """
    size = (masks.shape[2], masks.shape[3])
    inside = masks >= 0.5
    names: list[ChannelName | None] = []
    for channel in range(maps.shape[1]):
        full = upsample(maps[:, channel], size)
        strong = (full > np.quantile(full, 1 - kept))[:, None]
        union = (strong | inside).sum((0, 2, 3))
        overlap = np.divide(
            (strong & inside).sum((0, 2, 3)), union, out=np.zeros(len(regions)), where=union > 0
        )
        best = int(overlap.argmax())
        names.append(
            ChannelName(regions[best], float(overlap[best])) if overlap[best] >= least else None
        )
    return names


def strengths(captured: Capture) -> NDArray[np.float64]:
    """(N, C) mean over the positions of each channel's positive activation."""
    return np.asarray(captured.activations.clamp_min(0).mean(-1).double().cpu())


def neuron_lines(
    neurons: Sequence[Neuron],
    class_name: Callable[[int], str],
    answers: Sequence[ChannelName | None],
) -> list[str]:
    """One image's channels as text, with share and names: for the score, then against.

    answers : per channel of the layer, from ``names_by_group`` or ``names_by_region``
    """
    lines = [
        f"  these {len(neurons)} channels hold {percent_in_text(sum(abs(neuron.share) for neuron in neurons))} of the whole"
    ]
    named = any(answer is not None for answer in answers)
    for words, side in (
        ("for it", [n for n in neurons if n.share > 0]),
        ("against it", [n for n in neurons if n.share < 0]),
    ):
        lines.append(f"  {words}:" + ("" if side else " none of them"))
        for neuron in side:
            driven = ", ".join(
                f"{class_name(k)} (+{plain_number(rise, 2)})"
                for k, rise in zip(neuron.classes, neuron.rises, strict=True)
            )
            answer = answers[neuron.channel]
            answered = (
                f"answers to {answer.word} ({decimal(answer.strength)})"
                if answer
                else "answers to nothing in particular"
                if named
                else ""
            )
            share = share_percent(neuron.share, signed=True, space=" ")
            text = f"    channel {neuron.channel:<5d}{share:>8}   drives {driven or 'no class'}"
            lines.append(text + (f"; {answered}" if answered else ""))
    return lines
