"""Methods of the family CAMS that change something and watch the score: channels (replaying only
the head), or parts of the image.

Occlusion and RISE ask nothing of the model but its scores; they are for models that give no
gradient.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gradaudit.attribution.capture import Capture
from gradaudit.attribution.layer_layout import enlarged
from gradaudit.attribution.methods import CAMS, NO_LAYER, weighting
from gradaudit.models.inputs_outputs import first_tensor

CHUNK = 32
"""Altered versions of one image in one pass; changes no number beyond rounding."""


@weighting(
    "ablationcam",
    label="Ablation-CAM",
    summary="channels weighted by the relative drop of the score without them",
    formula="sum_c ((y - y_c) / y) A_c",
    needs="activations, replays of the head",
    cost="one replay of the head per channel",
    source="Desai and Ramaswamy 2020, WACV, eq. 5",
    caveat="the sign of every weight turns where the score is negative, as in the paper's formula",
)
def ablationcam(capture: Capture) -> Tensor:
    """(y - y_c) / y, (N, K, C), with y_c the score without channel c; 0 where y is 0.

    Source: Desai and Ramaswamy 2020, eq. 5
    """
    drops = torch.stack([_without_each_channel(capture, n) for n in range(len(capture.scores))])
    scores = capture.scores[..., None]
    return torch.where(
        scores != 0,
        (scores - drops) / torch.where(scores != 0, scores, torch.ones_like(scores)),
        torch.zeros_like(drops),
    )


def _without_each_channel(capture: Capture, index: int) -> Tensor:
    """Scores (K, C) of one image with channel c of the layer set to zero.

    A channel that is zero already needs no replay.
    """
    own = capture.activations[index]
    drops = capture.scores[index][:, None].repeat(1, len(own))
    active = own.ne(0).any(-1).nonzero()[:, 0]
    for part in torch.split(active, CHUNK):
        altered = own.expand(len(part), *own.shape).clone()
        altered[torch.arange(len(part)), part] = 0
        drops[:, part] = capture.head(altered, index).T
    return drops


@weighting(
    "scorecam",
    label="Score-CAM",
    summary="channels weighted by the score of the image seen through them (softmax over channels)",
    formula="sum_c softmax_c(f(x * norm(U A_c))) A_c",
    needs="activations, passes of the whole model",
    cost="one forward pass per channel",
    source="Wang et al. 2020, CVPRW, algorithm 1",
    caveat="the softmax makes every weight positive: nothing can count against",
)
def scorecam(capture: Capture) -> Tensor:
    """softmax over the channels of the score of x * norm(upsampled A_c), (N, K, C).

    Constant channels have the weight 0.

    The paper's baseline score f(x_b) is the same for every channel, so the softmax removes it.
    Source: Wang et al. 2020, algorithm 1
    """
    return torch.stack([_through_each_channel(capture, n) for n in range(len(capture.scores))])


def _through_each_channel(capture: Capture, index: int) -> Tensor:
    picture = first_tensor(capture.image(index))
    maps = capture.on_grid(capture.activations[index : index + 1])[0]
    low, high = maps.flatten(1).amin(1), maps.flatten(1).amax(1)
    varied = (high > low).nonzero()[:, 0]
    scores = torch.full(
        (capture.scores.shape[1], len(maps)),
        float("-inf"),
        dtype=capture.scores.dtype,
        device=maps.device,
    )
    for part in torch.split(varied, CHUNK):
        full = enlarged(maps[part][:, None], picture.shape[2:])[:, 0]
        floor, ceiling = (
            bound.reshape(-1, *[1] * (full.ndim - 1))
            for bound in (full.flatten(1).amin(1), full.flatten(1).amax(1))
        )
        seen = (full - floor) / (ceiling - floor).clamp_min(torch.finfo(full.dtype).tiny)
        scores[:, part] = capture.evaluate(picture * seen[:, None].to(picture.dtype), index).T
    return scores.softmax(1) if len(varied) else torch.zeros_like(scores)


# ── parts of the image ────────────────────────────────────────────────────────────────────────────


@CAMS.register(
    label="occlusion",
    summary="drop of the score when a sliding patch is covered with the mean colour, averaged over the patches at a pixel",
    formula="mean over patches w containing p of f(x) - f(x without w)",
    needs=NO_LAYER,
    cost="one forward pass per patch position (225 by default)",
    source="Zeiler and Fergus 2014, ECCV, sec. 4.2",
    caveat="a patch is itself an unusual image; evidence wider than the patch is missed",
)
def occlusion(capture: Capture) -> Tensor:
    """Patches of an eighth of the side, moved by half a patch, are covered by 0.

    0 is the mean color of normalized images.
    """
    sides = first_tensor(capture.inputs).shape[2:]
    window = tuple(max(1, side // 8) for side in sides)
    return occluded(capture, window, tuple(max(1, side // 2) for side in window))


def occluded(
    capture: Capture, window: tuple[int, ...], stride: tuple[int, ...], baseline: float = 0.0
) -> Tensor:
    """Occlusion with patches of ``window`` pixels at steps of ``stride``, (N, K, *image size)."""
    images = first_tensor(capture.inputs)
    size = tuple(images.shape[2:])
    places = list(_places(size, window, stride))
    covers = torch.zeros(len(places), *size, dtype=images.dtype, device=images.device)
    for n, place in enumerate(places):
        covers[n][place] = 1
    return torch.stack([_drop_per_pixel(capture, n, covers, baseline) for n in range(len(images))])


def _drop_per_pixel(capture: Capture, index: int, covers: Tensor, baseline: float) -> Tensor:
    picture = first_tensor(capture.image(index))
    total = torch.zeros(
        capture.scores.shape[1], *covers.shape[1:], dtype=torch.float64, device=covers.device
    )
    for part in torch.split(covers, CHUNK):
        scores = capture.evaluate(picture * (1 - part[:, None]) + baseline * part[:, None], index)
        drops = (capture.scores[index] - scores).double()
        total += torch.einsum("mk,m...->k...", drops, part.double())
    return (total / covers.double().sum(0)).to(capture.scores.dtype)


def _places(
    size: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]
) -> Iterator[tuple[slice, ...]]:
    """Patch positions that cover the image; the last one of an axis may be cut by the border."""
    axes = [
        [
            slice(start, min(start + length, side))
            for start in range(0, step * -(-max(side - length, 0) // step) + 1, step)
        ]
        for side, length, step in zip(size, window, stride, strict=True)
    ]
    grids = (
        torch.cartesian_prod(*(torch.arange(len(axis)) for axis in axes))
        .reshape(-1, len(axes))
        .tolist()
    )
    return (tuple(axis[i] for axis, i in zip(axes, place, strict=True)) for place in grids)


@CAMS.register(
    label="RISE",
    summary="random soft masks weighted by how far the score through each lies above their mean",
    needs=NO_LAYER,
    formula="sum_m (f(x * M_m) - mean f) M_m / (p M)",
    cost="1,000 forward passes",
    source="Petsiuk et al. 2018, BMVC, eq. 6",
    caveat="an estimate with sampling noise; the mean score is subtracted, so that the constant part of the score is no heat",
)
def rise(capture: Capture) -> Tensor:
    """1,000 random masks of 7 cells a side, each cell kept with probability 1/2; fixed seed.

    Masks are upsampled and shifted at random.
    """
    return random_masks(capture)


def random_masks(
    capture: Capture, masks: int = 1000, cells: int = 7, keep: float = 0.5, seed: int = 0
) -> Tensor:
    """RISE with its settings open, (N, K, *size of the image); the same masks for every image."""
    images = first_tensor(capture.inputs)
    patterns = rise_masks(masks, tuple(images.shape[2:]), cells, keep, seed).to(images)
    maps = []
    for n in range(len(images)):
        picture = first_tensor(capture.image(n))
        scores = torch.cat(
            [capture.evaluate(picture * part[:, None], n) for part in torch.split(patterns, CHUNK)]
        )
        maps.append(
            torch.einsum("mk,m...->k...", (scores - scores.mean(0)).double(), patterns.double())
            / (masks * keep)
        )
    return torch.stack(maps).to(capture.scores.dtype)


def rise_masks(count: int, size: tuple[int, ...], cells: int, keep: float, seed: int) -> Tensor:
    """(count, *size) masks in [0, 1]: a coarse random grid, upsampled, cropped at random.

    It is upsampled to one cell more than the image, so that there is room to shift.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = (torch.rand(count, *(cells for _ in size), generator=generator) < keep).float()
    steps = [-(-side // cells) for side in size]
    full = enlarged(coarse[:, None], [(cells + 1) * step for step in steps])[:, 0]
    starts = torch.stack(
        [torch.randint(0, step, (count,), generator=generator) for step in steps], 1
    ).tolist()
    return torch.stack(
        [
            mask[tuple(slice(s, s + side) for s, side in zip(start, size, strict=True))]
            for mask, start in zip(full, starts, strict=True)
        ]
    )
