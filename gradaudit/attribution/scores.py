"""Scores: the number that is explained, computed from a network's output.

A module's output comes in, (N,) or (N, K) scores go out, in float32.  They are logits: a softmax
would mix every other class into the gradient.  Targets (``targets``) say which score is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from gradaudit.errors import TargetError
from gradaudit.models.inputs_outputs import first_tensor

HALF = (torch.float16, torch.bfloat16)


class Score(Protocol):
    """The explained score: the module's output -> (N,) or (N, K).

    ``fixed`` pins what depends on the unperturbed output (which class is predicted); ``row``
    narrows to one image.
    """

    def __call__(self, output: Any) -> Tensor: ...
    def fixed(self, output: Any) -> Score: ...
    def row(self, index: int) -> Score: ...


def checked_scores(scores: Tensor, rows: int) -> Tensor:
    """The scores, or ``TargetError`` where they are not one row per image."""
    if scores.ndim not in (1, 2) or len(scores) != rows or not scores.is_floating_point():
        raise TargetError(
            f"The target gave {scores.dtype} scores of shape {tuple(scores.shape)}; expected floats ({rows},) or ({rows}, K)."
        )
    return scores


def as_scores(scores: Tensor) -> Tensor:
    """(N,) or (N, K) scores as (N, K) float32 (float64 stays)."""
    scores = scores.float() if scores.dtype in HALF else scores
    return scores[:, None] if scores.ndim == 1 else scores


def class_logits(output: Any, key: str | int | None = None) -> Tensor:
    """(N, C) logits in float32 (float64 stays); a single logit z becomes the two columns -z, +z."""
    logits = first_tensor(output, key)
    logits = logits.float() if logits.dtype in HALF else logits
    if logits.ndim == 1:
        logits = logits[:, None]
    if logits.ndim != 2:
        raise TargetError(
            f"The model's output has shape {tuple(logits.shape)}; class targets need (N, C). "
            "Use the target 'mask' for maps of classes, 'token' for sequences, or a callable."
        )
    return torch.cat([-logits, logits], dim=1) if logits.shape[1] == 1 else logits


@dataclass(frozen=True)
class ClassScore:
    """Logits of classes ``ids`` (N, K); of the predicted class where ``ids`` is None."""

    ids: Tensor | None = None
    key: str | int | None = None
    squeeze: bool = True

    def __call__(self, output: Any) -> Tensor:
        logits = class_logits(output, self.key)
        ids = self._ids(logits)
        outside = (ids < 0) | (ids >= logits.shape[1])
        if outside.any():
            raise TargetError(
                f"{int(outside.sum())} class ids lie outside the model's {logits.shape[1]} classes (0 to {logits.shape[1] - 1}), "
                f"e.g. {int(ids[outside][0])}."
            )
        scores = logits.gather(1, ids)
        return scores[:, 0] if self.squeeze else scores

    def _ids(self, logits: Tensor) -> Tensor:
        if self.ids is None:
            return logits.detach().argmax(1, keepdim=True)
        ids = self.ids.to(logits.device)
        return ids.expand(len(logits), -1) if len(ids) == 1 else ids

    def fixed(self, output: Any) -> ClassScore:
        return replace(self, ids=self._ids(class_logits(output, self.key)))

    def row(self, index: int) -> ClassScore:
        return (
            self
            if self.ids is None or len(self.ids) == 1
            else replace(self, ids=self.ids[index : index + 1])
        )


@dataclass(frozen=True)
class WeightedScore:
    """Sum of other scores times weights: negation and contrast."""

    parts: tuple[Score, ...]
    weights: tuple[float, ...]

    def __call__(self, output: Any) -> Tensor:
        total = self.parts[0](output) * self.weights[0]
        for part, weight in zip(self.parts[1:], self.weights[1:], strict=True):
            total = total + part(output) * weight
        return total

    def fixed(self, output: Any) -> WeightedScore:
        return replace(self, parts=tuple(part.fixed(output) for part in self.parts))

    def row(self, index: int) -> WeightedScore:
        return replace(self, parts=tuple(part.row(index) for part in self.parts))


@dataclass(frozen=True)
class FunctionScore:
    """A callable of the user's.

    ``arrays`` (N, ...) are cut to the same images and passed after the output.
    """

    function: Callable[..., Tensor]
    arrays: tuple[Tensor, ...] = ()

    def __call__(self, output: Any) -> Tensor:
        scores = self.function(output, *self.arrays)
        if not isinstance(scores, Tensor):
            raise TargetError(
                f"The target callable returned a {type(scores).__name__}; expected a tensor (N,) or (N, K)."
            )
        return scores

    def fixed(self, output: Any) -> FunctionScore:
        return self

    def row(self, index: int) -> FunctionScore:
        return replace(self, arrays=tuple(a[index : index + 1] for a in self.arrays))


@dataclass(frozen=True)
class MaskScore:
    index: int
    region: Tensor | None
    key: str | int | None = None

    def __call__(self, output: Any) -> Tensor:
        maps = self._maps(output)
        region = self._region(maps)
        area = region.flatten(1).sum(1)
        if (area <= 0).any():
            empty = int((area <= 0).sum())
            raise TargetError(
                f"{empty} of {len(area)} masks are empty, so the score over the mask of class {self.index} is not defined."
            )
        return (maps[:, self.index] * region).flatten(1).sum(1) / area

    def _maps(self, output: Any) -> Tensor:
        maps = first_tensor(output, self.key)
        if maps.ndim < 4 or not 0 <= self.index < maps.shape[1]:
            raise TargetError(
                f"The target 'mask' needs maps (N, C, H, W) with class {self.index}; the model's output is {tuple(maps.shape)}."
            )
        return maps

    def _region(self, maps: Tensor) -> Tensor:
        if self.region is None:
            return (maps.detach().argmax(1) == self.index).to(maps.dtype)
        region = self.region.to(maps)
        region = region[None] if region.ndim == maps.ndim - 2 else region
        if region.shape[1:] != maps.shape[2:]:
            region = functional.interpolate(region[:, None], size=maps.shape[2:], mode="area")[:, 0]
        return region.expand(len(maps), *region.shape[1:])

    def fixed(self, output: Any) -> MaskScore:
        return replace(self, region=self._region(self._maps(output)))

    def row(self, index: int) -> MaskScore:
        return (
            self
            if self.region is None or len(self.region) == 1 or self.region.ndim == 2
            else replace(self, region=self.region[index : index + 1])
        )


@dataclass(frozen=True)
class TokenScore:
    step: int
    ids: Tensor | None
    key: str | int | None = None

    def _step(self, output: Any) -> Tensor:
        sequence = first_tensor(output, self.key)
        if sequence.ndim != 3 or not -sequence.shape[1] <= self.step < sequence.shape[1]:
            raise TargetError(
                f"The target 'token' needs an output (N, T, V) with step {self.step}; the output is {tuple(sequence.shape)}."
            )
        return sequence[:, self.step]

    def __call__(self, output: Any) -> Tensor:
        return ClassScore(self.ids)(self._step(output))

    def fixed(self, output: Any) -> TokenScore:
        return replace(self, ids=ClassScore(self.ids).fixed(self._step(output)).ids)

    def row(self, index: int) -> TokenScore:
        return replace(self, ids=ClassScore(self.ids).row(index).ids)


@dataclass(frozen=True)
class BoxScore:
    index: int
    corners: Tensor

    def __call__(self, output: Any) -> Tensor:
        if not isinstance(output, (list, tuple)) or not all(
            isinstance(o, dict) and {"boxes", "labels", "scores"} <= set(o) for o in output
        ):
            raise TargetError(
                "The target 'box' needs a detector's output: a list with boxes, labels and scores for each image."
            )
        corners = self.corners.expand(len(output), 4)
        return torch.stack([self._best(n, found, corners[n]) for n, found in enumerate(output)])

    def _best(self, n: int, found: dict[str, Tensor], corners: Tensor) -> Tensor:
        overlap = _overlap(found["boxes"].detach(), corners.to(found["boxes"])) * (
            found["labels"] == self.index
        )
        matching = overlap >= 0.5
        if not matching.any():
            raise TargetError(
                f"Image {n} has no detection of class {self.index} that overlaps the box {corners.tolist()} by half or more."
            )
        return (found["scores"] * overlap)[matching].max()

    def fixed(self, output: Any) -> BoxScore:
        return self

    def row(self, index: int) -> BoxScore:
        return (
            self
            if len(self.corners) == 1
            else replace(self, corners=self.corners[index : index + 1])
        )


def _overlap(boxes: Tensor, corners: Tensor) -> Tensor:
    """Intersection over union of boxes (M, 4) with one box."""
    low, high = torch.maximum(boxes[:, :2], corners[:2]), torch.minimum(boxes[:, 2:], corners[2:])
    shared = (high - low).clamp_min(0).prod(1)
    return shared / (
        (boxes[:, 2:] - boxes[:, :2]).prod(1) + (corners[2:] - corners[:2]).prod() - shared
    )


@dataclass(frozen=True)
class FinerScore:
    """A class's logit minus the mean logit of the classes with the nearest logits.

    Source: Zhang et al. 2025 (Finer-CAM)
    """

    inner: ClassScore
    nearest: int = 3

    def __call__(self, output: Any) -> Tensor:
        scores = self.inner(output)
        logits = class_logits(output, self.inner.key)
        own = scores[:, None] if scores.ndim == 1 else scores
        ids = self.inner.fixed(output).ids
        assert ids is not None
        distance = (
            (logits.detach()[:, None] - own.detach()[..., None])
            .abs()
            .scatter(2, ids.to(logits.device)[..., None], float("inf"))
        )
        others = distance.topk(min(self.nearest, logits.shape[1] - 1), dim=2, largest=False).indices
        finer = own - logits[:, None].expand(-1, own.shape[1], -1).gather(2, others).mean(2)
        return finer[:, 0] if scores.ndim == 1 else finer

    def fixed(self, output: Any) -> FinerScore:
        return replace(self, inner=self.inner.fixed(output))

    def row(self, index: int) -> FinerScore:
        return replace(self, inner=self.inner.row(index))


def finer_score(score: Score) -> Score:
    """The Finer-CAM score of a class score, also of a negated one.

    Errors: ``TargetError`` for scores that are no class's logit.
    """
    if isinstance(score, ClassScore):
        return FinerScore(score)
    if isinstance(score, WeightedScore) and len(score.parts) == 1:
        return replace(score, parts=(finer_score(score.parts[0]),))
    raise TargetError(
        "finercam compares a class with its nearest classes, so its target must be a class: predicted, label, class or class ids."
    )
