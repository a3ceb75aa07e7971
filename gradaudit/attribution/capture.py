"""One pass through a network, cut at one layer; the network is given back exactly as it was.

``capture`` runs what lies before the layer (the trunk) without a graph and lets autograd record
only what follows it (the head).  ``Capture`` holds what the methods read: activations, gradients,
scores, and the means to run the head again on other activations.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradaudit.attribution.layer_layout import (
    Layout,
    find_layer,
    layout_of,
    normalizes_last_axis,
)
from gradaudit.attribution.scores import HALF, Score, as_scores, checked_scores
from gradaudit.attribution.trunk_replay import Trunk, record_trunk
from gradaudit.errors import ForwardError, LayerError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.inputs_outputs import (
    Inputs,
    batch_size,
    call,
    first_tensor,
    is_out_of_memory,
    map_tensors,
    replaced,
)

# ── the cut ───────────────────────────────────────────────────────────────────────────────────────


class _Float32(TorchFunctionMode):
    """Runs the head in float32 although its weights are half precision or inference tensors.

    The weights themselves are not touched.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__", "to", "float", "half", "bfloat16", "is_inference") or (
            name.endswith("_") and not name.startswith("__")
        ):
            return func(*args, **(kwargs or {}))
        args, kwargs = map_tensors(_widened, (args, kwargs or {}))
        return func(*args, **kwargs)


def _widened(tensor: Tensor) -> Tensor:
    if tensor.dtype in HALF:
        return tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor


class _Cut:
    """Forward hook: the layer's output becomes a leaf, and only what follows it is recorded.

    The head receives a clone, so that an in-place operation right after the layer cannot change the
    record.
    """

    def __init__(self, layer: str, stack: ExitStack, widen: bool) -> None:
        self.layer, self.stack, self.widen = layer, stack, widen
        self.leaf: Tensor | None = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.leaf is not None:
            raise LayerError(
                f"The layer {self.layer!r} runs twice or more in one forward pass, so its map is not defined. Name the block around it."
            )
        tensor = first_tensor(output)
        for kind in ("cpu", "cuda"):
            torch.set_autocast_enabled(kind, False)
        if tensor.dtype in HALF or self.widen:
            self.stack.enter_context(_Float32())
        record = tensor.detach().float() if tensor.dtype in HALF else tensor.detach()
        self.leaf = record.clone().requires_grad_()
        torch.set_grad_enabled(True)
        return replaced(output, tensor, self.leaf.clone())


@dataclass(frozen=True)
class Capture:
    """What a method reads to make a map: one pass, P positions of the layer's grid, K scores.

    ``activations`` (N, C, P) and ``gradients`` (N, K, C, P) of the layer, ``scores`` (N, K),
    ``output`` the module's own output without graph, ``single`` whether one score per image was
    asked for. ``head`` and ``evaluate`` give the scores of altered activations or inputs, for the
    classes of the unaltered image.
    """

    module: nn.Module
    inputs: Inputs
    score: Score
    output: Any
    scores: Tensor
    layer: str = ""
    layout: Layout | None = None
    activations: Tensor = field(default_factory=lambda: torch.empty(0))
    gradients: Tensor = field(default_factory=lambda: torch.empty(0))
    original: Tensor = field(default_factory=lambda: torch.empty(0))
    single: bool = True
    chunk: int = 32

    @property
    def grid(self) -> tuple[int, ...]:
        return self.layout.grid if self.layout else tuple(first_tensor(self.inputs).shape[2:])

    def on_grid(self, positions: Tensor) -> Tensor:
        """(N, K, P) -> (N, K, *grid)."""
        return positions.reshape(*positions.shape[:-1], *self.grid)

    @cached_property
    def pinned(self) -> Score:
        return self.score.fixed(self.output)

    def image(self, index: int) -> Inputs:
        """The inputs of one image, batch of one."""
        rows = len(self.scores)
        narrowed: Inputs = map_tensors(
            lambda t: t[index : index + 1] if t.ndim and len(t) == rows else t, self.inputs
        )
        return narrowed

    def evaluate(self, images: Tensor, index: int) -> Tensor:
        """Scores (M, K) of M altered versions (M, C, H, W) of image ``index``."""
        inputs = _with_images(self.image(index), images)
        with borrowed(self.module), torch.no_grad():
            return as_scores(self.pinned.row(index)(call(self.module, inputs))).detach()

    def head(self, activations: Tensor, index: int) -> Tensor:
        """Scores (M, K) of image ``index`` with other activations (M, C, P) in the layer.

        Only the head runs.
        """
        assert self.layout is not None
        original = self.original[index : index + 1]
        return self._replay(self.layout.output(activations.to(original.dtype), original), index)

    def curvature(self) -> Tensor:
        """Hessian of each score times the activations, (N, K, C, P); zero for a linear head."""
        assert self.layout is not None
        with borrowed(self.module):
            target = find_layer(self.module, self.layer)
            leaf, _, scores = _forward_from(
                self.module, target, self.layer, self.inputs, self.pinned, None, everywhere=False
            )
            gradients = head_gradients(as_scores(scores), leaf, self.layer, create_graph=True)
            products = torch.zeros_like(gradients)
            for k in range(gradients.shape[1]):
                if gradients.requires_grad:
                    (product,) = torch.autograd.grad(
                        (gradients[:, k] * leaf.detach()).sum(),
                        leaf,
                        retain_graph=True,
                        allow_unused=True,
                    )
                    products[:, k] = 0.0 if product is None else product
            stacked = self.layout.positions(products.flatten(0, 1).detach())
            return stacked.reshape(*self.scores.shape, *stacked.shape[1:])

    @cached_property
    def _trunk(self) -> Trunk:
        return record_trunk(self.module, self.layer, self.inputs)

    def _replay(self, output: Tensor, index: int, dense: bool = False) -> Tensor:
        image = self.image(index)
        inputs = _with_images(
            image, first_tensor(image).expand(len(output), *first_tensor(image).shape[1:])
        )
        trunk = self._trunk
        try:
            with borrowed(self.module) as stack, torch.no_grad():
                trunk.patch(stack, output, index, dense)
                return as_scores(self.pinned.row(index)(call(self.module, inputs))).detach()
        except ForwardError as error:
            if dense or "single memory location" not in str(error.__cause__):
                raise
        return self._replay(
            output, index, dense=True
        )  # the model writes in place into a repeated record: give it real copies


def _with_images(inputs: Inputs, images: Tensor) -> Inputs:
    """The inputs of one image for M altered ones (M, C, H, W); other tensors repeat to fit."""
    picture = first_tensor(inputs)

    def widened(t: Tensor) -> Tensor:
        return t.expand(len(images), *t.shape[1:]) if t.ndim and len(t) == 1 else t

    replaced: Inputs = map_tensors(lambda t: images if t is picture else widened(t), inputs)
    return replaced


def capture(
    module: nn.Module,
    layer: str,
    inputs: Inputs,
    score: Score,
    *,
    autocast: torch.dtype | None = None,
) -> Capture:
    """Run once, differentiate only the head, give the module back.

    module : any nn.Module    layer : name in ``module.named_modules()``    inputs : batch of N
    score : module's output -> (N,) or (N, K)    autocast : dtype of the trunk on its device; the
        head stays float32
    Errors: ``LayerError`` for an unknown layer, one that runs twice, has no grid, or does not reach
    the score.
    """
    target = find_layer(module, layer)
    with borrowed(module):
        leaf, output, scores = _forward_from(
            module, target, layer, inputs, score, autocast, everywhere=False
        )
        if (
            not scores.requires_grad
        ):  # a `with no_grad()` of the model itself ended after the layer and switched ours back on
            leaf, output, scores = _forward_from(
                module, target, layer, inputs, score, autocast, everywhere=True
            )
        single, scores = scores.ndim == 1, as_scores(scores)
        gradients = head_gradients(scores, leaf, layer)
        layout = _layout_or_error(leaf, inputs, layer, target)
        stacked = layout.positions(gradients.flatten(0, 1))
        return Capture(
            module,
            inputs,
            score,
            map_tensors(Tensor.detach, output),
            scores.detach(),
            layer,
            layout,
            layout.positions(leaf.detach()),
            stacked.reshape(*scores.shape, *stacked.shape[1:]),
            leaf.detach(),
            single,
        )


def capture_scores(module: nn.Module, inputs: Inputs, score: Score) -> Capture:
    """The pass of methods that read neither activations nor gradients of a layer."""
    with borrowed(module), torch.no_grad():
        output = call(module, inputs)
        scores = checked_scores(score(output), batch_size(inputs))
        return Capture(module, inputs, score, output, as_scores(scores), single=scores.ndim == 1)


def _forward_from(
    module: nn.Module,
    target: nn.Module,
    layer: str,
    inputs: Inputs,
    score: Score,
    autocast: torch.dtype | None,
    everywhere: bool,
) -> tuple[Tensor, Any, Tensor]:
    with ExitStack() as inner:
        cut = _Cut(
            layer,
            inner,
            widen=any(t.is_inference() for t in (*module.parameters(), *module.buffers())),
        )
        inner.callback(target.register_forward_hook(cut).remove)
        if autocast is not None:
            inner.enter_context(torch.autocast(first_tensor(inputs).device.type, dtype=autocast))
        torch.set_grad_enabled(everywhere)
        output = call(module, inputs)
        if cut.leaf is None:
            raise LayerError(
                f"The layer {layer!r} does not run in this model's forward pass. `gradaudit layers` lists those that do."
            )
        with torch.enable_grad():
            scores = checked_scores(score(output), batch_size(inputs))
    return cut.leaf, output, scores


def _layout_or_error(leaf: Tensor, inputs: Inputs, layer: str, target: nn.Module) -> Layout:
    size = tuple(first_tensor(inputs).shape[2:])
    layout = layout_of(leaf.shape, size, normalizes_last_axis(target))
    if layout is None:
        raise LayerError(
            f"The layer {layer!r} gives {tuple(leaf.shape)}, which holds no grid of positions larger than 1x1 for an input of {size}. "
            "Choose an earlier layer."
        )
    return layout


def head_gradients(scores: Tensor, leaf: Tensor, layer: str, create_graph: bool = False) -> Tensor:
    """d score[n, k] / d leaf[n] as (N, K, *leaf.shape[1:]).

    All K in one sweep, or one by one where an operator of the network refuses that.
    """
    count = scores.shape[1]
    if not scores.requires_grad:
        raise LayerError(
            f"The score does not depend on the layer {layer!r}, or the model cuts the graph after it: no gradient. Choose another layer."
        )
    if count == 1:
        (gradient,) = torch.autograd.grad(
            scores.sum(), leaf, allow_unused=True, create_graph=create_graph
        )
        return _reached(gradient, layer)[:, None]
    seeds = torch.eye(count, dtype=scores.dtype, device=scores.device)[:, None].expand(
        count, *scores.shape
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # vmap warns of operators that it runs one by one; slower, and as exact
            (gradient,) = torch.autograd.grad(
                scores,
                leaf,
                seeds,
                is_grads_batched=True,
                retain_graph=True,
                allow_unused=True,
                create_graph=create_graph,
            )
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        parts = [
            torch.autograd.grad(
                scores, leaf, seed, retain_graph=True, allow_unused=True, create_graph=create_graph
            )[0]
            for seed in seeds
        ]
        gradient = torch.stack([_reached(part, layer) for part in parts])
    return _reached(gradient, layer).transpose(0, 1)


def _reached(gradient: Tensor | None, layer: str) -> Tensor:
    if gradient is None:
        raise LayerError(
            f"The score does not depend on the layer {layer!r}. Choose a layer on the way from the image to the score."
        )
    return gradient
