"""Which layer is worth explaining: found by tracing one real batch through the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.attribution.layer_layout import Layout, layout_of, normalizes_last_axis
from gradaudit.errors import LayerError, TargetError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.classifier import Classifier, check_layer
from gradaudit.models.inputs_outputs import Inputs, call, first_tensor, map_tensors, replaced
from gradaudit.models.sources import with_logits

# ── choosing a layer ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Candidate:
    """A layer with a grid; ``reached``: its gradient is not zero at every position."""

    name: str
    layout: Layout
    reached: bool


@dataclass(frozen=True)
class LayerChoice:
    """The layer to explain and why; ``candidates`` in the order in which they run."""

    name: str
    grid: tuple[int, ...]
    kind: str
    reason: str
    candidates: tuple[Candidate, ...]
    prefix: int = 0
    channels: int = 0


@dataclass
class _Trace:
    calls: dict[str, list[Tensor | None]] = field(default_factory=dict)
    weighted: list[str] = field(
        default_factory=list
    )  # layers with parameters of their own, in the order in which they ran
    # until the scores are there: a checkpointed block runs once more when its gradient is taken
    recording: bool = True


_TRACED_IMAGES = 2
_NOT_A_FEATURE = (
    nn.Identity, nn.Softmax, nn.Flatten, nn.modules.dropout._DropoutNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AvgPoolNd, nn.modules.pooling._MaxPoolNd,
)  # fmt: skip
_STEM_SHARE = 0.25


def choose_layer(module: nn.Module, inputs: Inputs, output: str | int | None = None) -> LayerChoice:
    """The last layer with a grid larger than 1x1 and a gradient that differs from zero somewhere.

    Found by tracing one batch.

    Left aside: pooling, dropout, layers inside attention, layers that run twice, and maps of class
    scores (one channel per class). Of a detector only the backbone counts: its pyramid and heads
    hold one level, or one box, of many. Errors: ``LayerError`` listing the candidates when none is
    left, or when what is left is a stem (first quarter of the network).
    """
    trace, scores = _Trace(), torch.empty(0)
    with borrowed(module) as stack:
        names = dict(module.named_modules())
        inner = {
            name
            for name in names
            if any(
                "attention" in _kind(names, part) or "attn" in _kind(names, part)
                for part in _ancestors(name)
            )
        }
        for name, submodule in names.items():
            if name:
                stack.callback(submodule.register_forward_hook(_tracer(trace, name)).remove)
        stack.enter_context(torch.enable_grad())
        few = map_tensors(
            lambda t: t[:_TRACED_IMAGES].detach().clone().requires_grad_(t.is_floating_point()),
            inputs,
        )
        size = tuple(first_tensor(few).shape[2:])
        found = call(module, few)
        trace.recording = False
        scores = _traced_scores(found, output)
        if _is_detection(found):
            inner |= {name for name in names if not _in_one_level_backbone(name.split("."))}
        if not scores.requires_grad:
            raise LayerError(
                "The model cuts its own graph (its forward runs under no_grad or detaches), so no layer has a gradient. Use method 'occlusion'."
            )
        candidates = _candidates(trace, names, inner, size, scores)
    return _choice(candidates, trace, size)


def _is_detection(output: Any) -> bool:
    """A torchvision detector's output: one mapping with boxes, labels and scores for each image."""
    return (
        isinstance(output, (list, tuple))
        and bool(output)
        and all(isinstance(o, Mapping) and "scores" in o for o in output)
    )


def _in_one_level_backbone(parts: Sequence[str]) -> bool:
    """True for a layer inside a detector's backbone that holds one resolution.

    The backbone as a whole gives several, as do the parts called ``fpn`` and ``extra``.
    """
    return (
        "backbone" in parts
        and not {"fpn", "extra"} & set(parts)
        and parts[-1] not in ("backbone", "body")
    )


def _traced_scores(output: Any, key: str | int | None) -> Tensor:
    """(N, C) scores to differentiate.

    Class scores, averaged over maps; of a detector the sum of all scores.
    """
    if key is None and _is_detection(output):
        return torch.stack([entry["scores"].float().sum() for entry in output])[:, None]
    scores = first_tensor(output, key)
    return (
        scores.reshape(*scores.shape[:2], -1).float().mean(-1)
        if scores.ndim > 1
        else scores.float()[:, None]
    )


def _tracer(trace: _Trace, name: str) -> Callable[[nn.Module, Any, Any], Any]:
    """Forward hook: records a clone of the layer's tensor and hands that clone on.

    The layer's own tensor may also reach the score past its output: a wrapper that returns hidden
    states beside a pooled vector made from them is read for the vector alone.
    """

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        try:
            tensor = first_tensor(output)
        except TargetError:
            tensor = None
        handed_on = None if tensor is None else tensor.clone()
        if trace.recording:
            trace.calls[name] = [
                *trace.calls.pop(name, []),
                handed_on,
            ]  # popped, so that the order is that of the last call
            if any(True for _ in module.parameters(recurse=False)):
                trace.weighted.append(name)
        return (
            output if tensor is None or handed_on is None else replaced(output, tensor, handed_on)
        )

    return hook


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _kind(names: Mapping[str, nn.Module], name: str) -> str:
    return type(names[name]).__name__.lower() if name in names else ""


def _candidates(
    trace: _Trace,
    names: Mapping[str, nn.Module],
    inner: set[str],
    size: tuple[int, ...],
    scores: Tensor,
) -> tuple[Candidate, ...]:
    found: list[tuple[str, Layout, Tensor]] = []
    for name, tensors in trace.calls.items():
        tensor = tensors[0]
        if (
            len(tensors) > 1
            or name in inner
            or isinstance(names[name], _NOT_A_FEATURE)
            or tensor is None
            or not tensor.requires_grad
        ):
            continue
        layout = (
            layout_of(tensor.shape, size, normalizes_last_axis(names[name]))
            if tensor.ndim >= 3
            else None
        )
        if layout is not None:
            found.append((name, layout, tensor))
    gradients = (
        torch.autograd.grad(
            scores.max(1).values.sum(), [tensor for _, _, tensor in found], allow_unused=True
        )
        if found
        else ()
    )
    kept = []
    for (name, layout, _), gradient in zip(found, gradients, strict=True):
        positions = layout.positions(gradient) if gradient is not None else None
        channels = int(positions.ne(0).any(-1).any(0).sum()) if positions is not None else 0
        scores_map = layout.channels == scores.shape[1] > 2 and 0 < channels <= _TRACED_IMAGES
        if not scores_map and gradient is not None:
            kept.append(Candidate(name, layout, reached=channels > 0))
    return tuple(kept)


def _choice(candidates: tuple[Candidate, ...], trace: _Trace, size: tuple[int, ...]) -> LayerChoice:
    reached = [c for c in candidates if c.reached]
    if not reached:
        raise LayerError(
            f"No layer can be explained: {_listed(candidates)}. Name one with `layer=`, or use method 'occlusion' or 'rise'."
        )
    best = reached[-1]
    ran = list(trace.calls)
    before = {name for name in trace.weighted if ran.index(name) <= ran.index(best.name)}
    weighted = len(set(trace.weighted))
    if weighted >= 8 and len(before) < _STEM_SHARE * weighted:
        raise LayerError(
            f"The only layers with a grid and a gradient belong to the stem ({best.name!r} is layer {len(before)} of {weighted} with weights), "
            f"which sees edges and colours, not the class. Name a layer with `layer=` if you mean it. {_listed(candidates)}"
        )
    grid = "x".join(map(str, best.layout.grid))
    skipped = len([c for c in candidates[candidates.index(best) :] if not c.reached])
    reason = f"last of {len(reached)} layers with a grid and a gradient: {grid} positions for an input of {'x'.join(map(str, size))}"
    reason += f", {best.layout.prefix} prefix tokens left out" if best.layout.prefix else ""
    reason += f"; {skipped} later layers have a spatial gradient of exactly zero" if skipped else ""
    return LayerChoice(
        best.name,
        best.layout.grid,
        best.layout.kind,
        reason,
        candidates,
        best.layout.prefix,
        best.layout.channels,
    )


def _listed(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "no layer gives a grid larger than 1x1 on the way to the score"
    lines = [
        f"{c.name} ({'x'.join(map(str, c.layout.grid))}, gradient {'present' if c.reached else 'exactly zero'})"
        for c in candidates[-12:]
    ]
    return f"{len(candidates)} layers with a grid, the last ones: {'; '.join(lines)}"


def resolve_layer(classifier: Classifier, images: Inputs) -> tuple[Classifier, str]:
    """The classifier with a concrete layer, giving logits (``with_logits``), and why that layer.

    images : (N, C, H, W) real, preprocessed images on the model's device; one is enough

    Errors: ``LayerError`` where no layer can be explained, or the named one does not exist;
    ``ModelError`` as ``with_logits``.
    """
    classifier = with_logits(classifier, images)
    check_layer(classifier.module, classifier.layer)
    if classifier.layer != "auto":
        return classifier, "named by the user"
    choice = choose_layer(classifier.module, images, output=classifier.output)
    return replace(classifier, layer=choice.name), choice.reason
