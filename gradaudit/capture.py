"""The only room with hooks: one pass through a network, and the network back exactly as it was.

``capture`` runs the trunk without a graph, cuts it at one layer and lets autograd record only what follows (the head).
``Capture`` holds what the methods in ``cams`` read: activations, gradients, scores, and the means to replay the head.
``choose_layer`` finds the layer worth explaining by tracing one real batch.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from gradaudit.errors import ForwardError, GradauditError, LayerError, TargetError, in_words, place_besides
from gradaudit.layouts import Inputs, Layout, batch_size, first_tensor, layout_of, map_tensors, normalises_last_axis

_HALF = (torch.float16, torch.bfloat16)


class Score(Protocol):
    """The explained score: the module's output -> (N,) or (N, K).

    ``fixed`` pins what depends on the unperturbed output (which class is predicted); ``row`` narrows to one image.
    """

    def __call__(self, output: Any) -> Tensor: ...
    def fixed(self, output: Any) -> Score: ...
    def row(self, index: int) -> Score: ...


# ── lending and giving back ─────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def borrowed(module: nn.Module) -> Iterator[ExitStack]:
    """Evaluation mode inside; afterwards training flags, gradients, grad mode, autocast and RNG are what they were.

    Flags are set per module and not by ``eval()``, which a subclass may override with effects of its own.
    Whatever is pushed on the yielded stack (hooks, patched forwards) is undone first, also after an exception.
    """
    flags = [(m, m.training) for m in module.modules() if m.training]
    gradients = [(p, p.grad, p.requires_grad) for p in module.parameters()]
    devices = sorted({p.device.index or 0 for p, _, _ in gradients if p.device.type == "cuda"})
    kinds = ("cpu", "cuda") if devices else ("cpu",)
    autocasts = [(kind, torch.is_autocast_enabled(kind)) for kind in kinds]
    grad_mode = torch.is_grad_enabled()
    try:
        for submodule, _ in flags:
            submodule.training = False
        with torch.random.fork_rng(devices), torch.inference_mode(False), ExitStack() as stack:
            yield stack
    finally:
        for submodule, training in flags:
            submodule.training = training
        for parameter, gradient, requires in gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient
            if parameter.requires_grad != requires:
                parameter.requires_grad_(requires)
        for kind, enabled in autocasts:
            torch.set_autocast_enabled(kind, enabled)
        torch.set_grad_enabled(grad_mode)


def call(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output for one tensor, a tuple of positional or a mapping of keyword arguments.

    Errors: ``ForwardError`` for whatever the module raises, an exit included; running out of memory stays what it is.
    """
    try:
        if isinstance(inputs, Tensor):
            return module(inputs)
        return module(**inputs) if isinstance(inputs, Mapping) else module(*inputs)
    except (Exception, SystemExit) as error:
        if isinstance(error, GradauditError) or is_out_of_memory(error):
            raise
        place = place_besides(error, "torch")
        where = f"; {Path(place[0]).name}, line {place[1]}" if place else ""
        shape = "x".join(map(str, first_tensor(inputs).shape[1:]))
        raise ForwardError(f"The network fails on an input of {shape} ({in_words(error)}{where}).") from error


# ── the cut ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Float32(TorchFunctionMode):
    """Runs the head in float32 although its weights are half precision (or inference tensors), without touching them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__", "to", "float", "half", "bfloat16", "is_inference") or (name.endswith("_") and not name.startswith("__")):
            return func(*args, **(kwargs or {}))
        args, kwargs = map_tensors(_widened, (args, kwargs or {}))
        return func(*args, **kwargs)


def _widened(tensor: Tensor) -> Tensor:
    if tensor.dtype in _HALF:
        return tensor.float()
    return tensor.clone() if tensor.is_inference() else tensor


class _Cut:
    """Forward hook: the layer's output becomes a leaf, and only what follows it is recorded.

    The head receives a clone, so that an in-place operation right after the layer cannot change the record.
    """

    def __init__(self, layer: str, stack: ExitStack, widen: bool) -> None:
        self.layer, self.stack, self.widen = layer, stack, widen
        self.leaf: Tensor | None = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self.leaf is not None:
            raise LayerError(f"The layer {self.layer!r} runs twice or more in one forward pass, so its map is not defined. Name the block around it.")
        tensor = first_tensor(output)
        for kind in ("cpu", "cuda"):
            torch.set_autocast_enabled(kind, False)
        if tensor.dtype in _HALF or self.widen:
            self.stack.enter_context(_Float32())
        record = tensor.detach().float() if tensor.dtype in _HALF else tensor.detach()
        self.leaf = record.clone().requires_grad_()
        torch.set_grad_enabled(True)
        return _replaced(output, tensor, self.leaf.clone())


def _replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    return new if output is old else tree_map(lambda leaf: new if leaf is old else leaf, output)


@dataclass(frozen=True)
class Capture:
    """One pass: what a method reads to make a map. P positions of the layer's grid, K scores per image.

    ``activations`` (N, C, P) and ``gradients`` (N, K, C, P) of the layer, ``scores`` (N, K), ``output`` the module's
    own output without graph, ``single`` whether one score per image was asked for. ``head`` and ``evaluate`` give the
    scores of altered activations or inputs, for the classes of the unaltered image.
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
        narrowed: Inputs = map_tensors(lambda t: t[index : index + 1] if t.ndim and len(t) == rows else t, self.inputs)
        return narrowed

    def evaluate(self, images: Tensor, index: int) -> Tensor:
        """Scores (M, K) of M altered versions (M, C, H, W) of image ``index``."""
        inputs = _with_images(self.image(index), images)
        with borrowed(self.module), torch.no_grad():
            return as_scores(self.pinned.row(index)(call(self.module, inputs))).detach()

    def head(self, activations: Tensor, index: int) -> Tensor:
        """Scores (M, K) of image ``index`` with the layer's activations (M, C, P) put in place of its own; only the head runs."""
        assert self.layout is not None
        original = self.original[index : index + 1]
        return self._replay(self.layout.output(activations.to(original.dtype), original), index)

    def curvature(self) -> Tensor:
        """Hessian of each score times the activations, (N, K, C, P); zeros where the head is linear in them."""
        assert self.layout is not None
        with borrowed(self.module):
            target = find_layer(self.module, self.layer)
            leaf, _, scores = _forward_from(self.module, target, self.layer, self.inputs, self.pinned, None, everywhere=False)
            gradients = head_gradients(as_scores(scores), leaf, self.layer, create_graph=True)
            products = torch.zeros_like(gradients)
            for k in range(gradients.shape[1]):
                if gradients.requires_grad:
                    (product,) = torch.autograd.grad((gradients[:, k] * leaf.detach()).sum(), leaf, retain_graph=True, allow_unused=True)
                    products[:, k] = 0.0 if product is None else product
            stacked = self.layout.positions(products.flatten(0, 1).detach())
            return stacked.reshape(*self.scores.shape, *stacked.shape[1:])

    @cached_property
    def _trunk(self) -> _Trunk:
        return _record_trunk(self.module, self.layer, self.inputs)

    def _replay(self, output: Tensor, index: int, dense: bool = False) -> Tensor:
        image = self.image(index)
        inputs = _with_images(image, first_tensor(image).expand(len(output), *first_tensor(image).shape[1:]))
        trunk = self._trunk
        try:
            with borrowed(self.module) as stack, torch.no_grad():
                trunk.patch(stack, output, index, dense)
                return as_scores(self.pinned.row(index)(call(self.module, inputs))).detach()
        except ForwardError as error:
            if dense or "single memory location" not in str(error.__cause__):
                raise
        return self._replay(output, index, dense=True)  # the model writes in place into a repeated record: give it real copies


def _with_images(inputs: Inputs, images: Tensor) -> Inputs:
    """Inputs of one image with its image tensor replaced by M images, every other tensor repeated to match."""
    picture = first_tensor(inputs)

    def widened(t: Tensor) -> Tensor:
        return t.expand(len(images), *t.shape[1:]) if t.ndim and len(t) == 1 else t

    replaced: Inputs = map_tensors(lambda t: images if t is picture else widened(t), inputs)
    return replaced


def checked_scores(scores: Tensor, rows: int) -> Tensor:
    """The scores, or ``TargetError`` where they are not one row per image."""
    if scores.ndim not in (1, 2) or len(scores) != rows or not scores.is_floating_point():
        raise TargetError(f"The target gave {scores.dtype} scores of shape {tuple(scores.shape)}; expected floats ({rows},) or ({rows}, K).")
    return scores


def as_scores(scores: Tensor) -> Tensor:
    """(N,) or (N, K) scores as (N, K) float32 (float64 stays)."""
    scores = scores.float() if scores.dtype in _HALF else scores
    return scores[:, None] if scores.ndim == 1 else scores


def capture(module: nn.Module, layer: str, inputs: Inputs, score: Score, *, autocast: torch.dtype | None = None) -> Capture:
    """Run once, differentiate only the head, give the module back.

    module : any nn.Module    layer : name in ``module.named_modules()``    inputs : batch of N
    score : module's output -> (N,) or (N, K)    autocast : dtype of the trunk on its device; the head stays float32
    Errors: ``LayerError`` for an unknown layer, one that runs twice, has no grid, or does not reach the score.
    """
    target = find_layer(module, layer)
    with borrowed(module):
        leaf, output, scores = _forward_from(module, target, layer, inputs, score, autocast, everywhere=False)
        if not scores.requires_grad:  # a `with no_grad()` of the model itself ended after the layer and switched ours back on
            leaf, output, scores = _forward_from(module, target, layer, inputs, score, autocast, everywhere=True)
        single, scores = scores.ndim == 1, as_scores(scores)
        gradients = head_gradients(scores, leaf, layer)
        layout = _layout_or_error(leaf, inputs, layer, target)
        stacked = layout.positions(gradients.flatten(0, 1))
        return Capture(
            module, inputs, score, map_tensors(Tensor.detach, output), scores.detach(), layer, layout,
            layout.positions(leaf.detach()), stacked.reshape(*scores.shape, *stacked.shape[1:]), leaf.detach(), single,
        )  # fmt: skip


def capture_scores(module: nn.Module, inputs: Inputs, score: Score) -> Capture:
    """The pass of methods that read neither activations nor gradients of a layer."""
    with borrowed(module), torch.no_grad():
        output = call(module, inputs)
        scores = checked_scores(score(output), batch_size(inputs))
        return Capture(module, inputs, score, output, as_scores(scores), single=scores.ndim == 1)


@dataclass(frozen=True)
class InputPass:
    """Gradients of (N, K) scores with respect to the image tensor, (N, K, C, H, W), and to watched layers' outputs by name."""

    gradients: Tensor
    watched: Mapping[str, Tensor]
    rectifiers: int


def input_gradients(
    module: nn.Module, inputs: Inputs, score: Score, *, rule: Literal["", "guided", "deconvnet"] = "", watch: Sequence[str] = ()
) -> InputPass:  # fmt: skip
    """One pass with a graph through the whole network; ``rule`` changes how gradients pass ReLUs, in modules and in functions alike.

    guided : the gradient passes where both it and the input are positive    deconvnet : where the gradient is positive
    ``rectifiers`` counts the ReLUs met under a rule.  Errors: ``LayerError`` where the score does not depend on the image.
    """
    images = first_tensor(inputs).detach().clone().requires_grad_()
    mode, outputs = _RectifierRule(rule), {name: torch.empty(0) for name in watch}
    with borrowed(module) as stack, torch.enable_grad():
        if rule:
            stack.enter_context(mode)
        with ExitStack() as hooks:  # gone before the gradient is taken, for which a checkpointed block runs once more
            for name in watch:
                hooks.callback(find_layer(module, name).register_forward_hook(_watcher(outputs, name)).remove)
            output = call(module, map_tensors(lambda t: images if t is first_tensor(inputs) else t, inputs))
        scores = as_scores(checked_scores(score(output), len(images)))
        wanted = [images, *outputs.values()]
        parts = [torch.autograd.grad(scores[:, k].sum(), wanted, retain_graph=True, allow_unused=True) for k in range(scores.shape[1])]
    found = [
        torch.stack([torch.zeros_like(w) if g is None else g for g in grads], 1) for w, grads in zip(wanted, zip(*parts, strict=True), strict=True)
    ]
    return InputPass(found[0].detach(), dict(zip(watch, (g.detach() for g in found[1:]), strict=True)), mode.count)


def _watcher(outputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if outputs[name].numel():
            raise LayerError(f"The layer {name!r} runs twice or more in one forward pass, so its gradient is not defined.")
        outputs[name] = first_tensor(output)
        return _replaced(output, outputs[name], outputs[name].clone())  # an in-place operation after the layer must not change the record

    return hook


class _RectifierRule(TorchFunctionMode):
    """Gives every ReLU another backward rule for the length of a pass; nothing in the module is touched."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule, self.count = rule, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("relu", "relu_") and self.rule:
            self.count += 1
            return _Rectifier.apply(args[0], self.rule)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class _Rectifier(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rule: str) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward(values > 0)
        return values.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        passed = gradient.clamp_min(0)
        return (passed * ctx.saved_tensors[0] if ctx.rule == "guided" else passed), None


def find_layer(module: nn.Module, layer: str) -> nn.Module:
    """The submodule called ``layer``; ``LayerError`` names the nearest ones."""
    layers = dict(module.named_modules())
    if layer in layers and layer:
        found: nn.Module = layers[layer]
        return found
    near = difflib.get_close_matches(layer, list(layers), n=5) or [name for name in layers if name][-5:]
    raise LayerError(f"The model has no layer {layer!r}; near names: {', '.join(near)}. `gradaudit layers` lists all that can be explained.")


def _forward_from(
    module: nn.Module, target: nn.Module, layer: str, inputs: Inputs, score: Score, autocast: torch.dtype | None, everywhere: bool
) -> tuple[Tensor, Any, Tensor]:
    with ExitStack() as inner:
        cut = _Cut(layer, inner, widen=any(t.is_inference() for t in (*module.parameters(), *module.buffers())))
        inner.callback(target.register_forward_hook(cut).remove)
        if autocast is not None:
            inner.enter_context(torch.autocast(first_tensor(inputs).device.type, dtype=autocast))
        torch.set_grad_enabled(everywhere)
        output = call(module, inputs)
        if cut.leaf is None:
            raise LayerError(f"The layer {layer!r} does not run in this model's forward pass. `gradaudit layers` lists those that do.")
        with torch.enable_grad():
            scores = checked_scores(score(output), batch_size(inputs))
    return cut.leaf, output, scores


def _layout_or_error(leaf: Tensor, inputs: Inputs, layer: str, target: nn.Module) -> Layout:
    size = tuple(first_tensor(inputs).shape[2:])
    layout = layout_of(leaf.shape, size, normalises_last_axis(target))
    if layout is None:
        raise LayerError(
            f"The layer {layer!r} gives {tuple(leaf.shape)}, which holds no grid of positions larger than 1x1 for an input of {size}. "
            "Choose an earlier layer."
        )
    return layout


def head_gradients(scores: Tensor, leaf: Tensor, layer: str, create_graph: bool = False) -> Tensor:
    """d score[n, k] / d leaf[n] as (N, K, *leaf.shape[1:]): all K in one sweep, one by one where an operator refuses."""
    count = scores.shape[1]
    if not scores.requires_grad:
        raise LayerError(
            f"The score does not depend on the layer {layer!r}, or the model cuts the graph after it: no gradient. Choose another layer."
        )
    if count == 1:
        (gradient,) = torch.autograd.grad(scores.sum(), leaf, allow_unused=True, create_graph=create_graph)
        return _reached(gradient, layer)[:, None]
    seeds = torch.eye(count, dtype=scores.dtype, device=scores.device)[:, None].expand(count, *scores.shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap warns of operators that it runs one by one; slower, and as exact
            (gradient,) = torch.autograd.grad(
                scores, leaf, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True, create_graph=create_graph
            )
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        parts = [torch.autograd.grad(scores, leaf, seed, retain_graph=True, allow_unused=True, create_graph=create_graph)[0] for seed in seeds]
        gradient = torch.stack([_reached(part, layer) for part in parts])
    return _reached(gradient, layer).transpose(0, 1)


def _reached(gradient: Tensor | None, layer: str) -> Tensor:
    if gradient is None:
        raise LayerError(f"The score does not depend on the layer {layer!r}. Choose a layer on the way from the image to the score.")
    return gradient


def is_out_of_memory(error: BaseException) -> bool:
    """True for the device's and the host's out-of-memory errors, whatever their type."""
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "can't allocate memory" in text


# ── replaying the head ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Trunk:
    """Outputs of everything that ran before the layer, so that a replay computes nothing but the head."""

    layer: nn.Module
    rows: int
    result: Any  # the layer's own output, its first tensor to be replaced
    outputs: Mapping[nn.Module, list[Any]]

    def patch(self, stack: ExitStack, output: Tensor, index: int, dense: bool) -> None:
        """Until the stack unwinds, modules before the layer answer with their record of image ``index``, the layer with ``output``."""

        def narrow(t: Tensor) -> Tensor:
            if not t.ndim or len(t) != self.rows:
                return t
            repeated = t[index : index + 1].expand(len(output), *t.shape[1:])
            return repeated.clone() if dense else repeated

        for module, outputs in self.outputs.items():
            _answer(stack, module, [map_tensors(narrow, value) for value in outputs])
        old = first_tensor(self.result)
        _answer(stack, self.layer, [map_tensors(lambda leaf: output if leaf is old else narrow(leaf), self.result)])


def _answer(stack: ExitStack, module: nn.Module, outputs: list[Any]) -> None:
    """The module's next calls return ``outputs`` one after the other, later ones run as ever."""
    waiting, forward, own = iter(outputs), module.forward, module.__dict__.get("forward")
    nothing = object()

    def replay(*args: Any, **kwargs: Any) -> Any:
        known = next(waiting, nothing)
        return forward(*args, **kwargs) if known is nothing else known

    def restore() -> None:
        if own is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = own

    module.__dict__["forward"] = replay
    stack.callback(restore)


def _record_trunk(module: nn.Module, layer: str, inputs: Inputs) -> _Trunk:
    """Run once more and keep the outputs of the largest modules that end before the layer does."""
    names = {submodule: name for name, submodule in module.named_modules() if not (layer == name or layer.startswith(name + ".") or name == "")}
    target = find_layer(module, layer)
    outputs: dict[nn.Module, list[Any]] = {}
    result: list[Any] = []

    def record(submodule: nn.Module, args: Any, output: Any) -> None:
        if result:
            return
        for inside in submodule.modules():  # what ran inside is covered by this output
            if inside is not submodule:
                outputs.pop(inside, None)
        outputs.setdefault(submodule, []).append(output)

    with borrowed(module) as stack, torch.no_grad():
        for submodule in names:
            stack.callback(submodule.register_forward_hook(record).remove)
        stack.callback(target.register_forward_hook(lambda m, args, output: result.append(output)).remove)
        call(module, inputs)
    kept = {submodule: kept for submodule, kept in outputs.items() if not names[submodule].startswith(layer + ".")}
    return _Trunk(target, batch_size(inputs), result[0], kept)


# ── choosing a layer ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Candidate:
    """A layer with a grid: ``reached`` says whether the gradient at its positions is anywhere different from zero."""

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
    weighted: list[str] = field(default_factory=list)  # layers with parameters of their own, in the order in which they ran
    recording: bool = True  # until the scores are there: a checkpointed block runs once more when its gradient is taken


_TRACED_IMAGES = 2
_NOT_A_FEATURE = (
    nn.Identity, nn.Softmax, nn.Flatten, nn.modules.dropout._DropoutNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AvgPoolNd, nn.modules.pooling._MaxPoolNd,
)  # fmt: skip
_STEM_SHARE = 0.25


def choose_layer(module: nn.Module, inputs: Inputs, output: str | int | None = None) -> LayerChoice:
    """The last layer that has a grid larger than 1x1 and a spatial gradient that is not exactly zero, from one traced batch.

    Left aside: pooling, dropout, layers inside attention, layers that run twice, and maps of class scores (one channel per class).
    Of a detector only the backbone counts: its pyramid and heads hold one level, or one box, of many.
    Errors: ``LayerError`` listing the candidates when none is left, or when what is left is a stem (first quarter of the network).
    """
    trace, scores = _Trace(), torch.empty(0)
    with borrowed(module) as stack:
        names = dict(module.named_modules())
        inner = {name for name in names if any("attention" in _kind(names, part) or "attn" in _kind(names, part) for part in _ancestors(name))}
        for name, submodule in names.items():
            if name:
                stack.callback(submodule.register_forward_hook(_tracer(trace, name)).remove)
        stack.enter_context(torch.enable_grad())
        few = map_tensors(lambda t: t[:_TRACED_IMAGES].detach().clone().requires_grad_(t.is_floating_point()), inputs)
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
    return isinstance(output, (list, tuple)) and bool(output) and all(isinstance(o, Mapping) and "scores" in o for o in output)


def _in_one_level_backbone(parts: Sequence[str]) -> bool:
    """A layer of a detector's backbone; not the backbone as a whole, which gives several levels, nor what makes further levels."""
    return "backbone" in parts and not {"fpn", "extra"} & set(parts) and parts[-1] not in ("backbone", "body")


def _traced_scores(output: Any, key: str | int | None) -> Tensor:
    """(N, C) scores to differentiate: class scores, averaged over maps, or the sum of a detector's scores."""
    if key is None and _is_detection(output):
        return torch.stack([entry["scores"].float().sum() for entry in output])[:, None]
    scores = first_tensor(output, key)
    return scores.reshape(*scores.shape[:2], -1).float().mean(-1) if scores.ndim > 1 else scores.float()[:, None]


def _tracer(trace: _Trace, name: str) -> Callable[[nn.Module, Any, Any], Any]:
    """Forward hook: hands on a clone of the layer's tensor and records that clone, so that only what is read from the layer's output counts.

    The layer's own tensor may also reach the score past its output: a wrapper that returns hidden states beside a pooled vector made
    from them is read for the vector alone.
    """

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        try:
            tensor = first_tensor(output)
        except TargetError:
            tensor = None
        handed_on = None if tensor is None else tensor.clone()
        if trace.recording:
            trace.calls[name] = [*trace.calls.pop(name, []), handed_on]  # popped, so that the order is that of the last call
            if any(True for _ in module.parameters(recurse=False)):
                trace.weighted.append(name)
        return output if tensor is None or handed_on is None else _replaced(output, tensor, handed_on)

    return hook


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _kind(names: Mapping[str, nn.Module], name: str) -> str:
    return type(names[name]).__name__.lower() if name in names else ""


def _candidates(trace: _Trace, names: Mapping[str, nn.Module], inner: set[str], size: tuple[int, ...], scores: Tensor) -> tuple[Candidate, ...]:
    found: list[tuple[str, Layout, Tensor]] = []
    for name, tensors in trace.calls.items():
        tensor = tensors[0]
        if len(tensors) > 1 or name in inner or isinstance(names[name], _NOT_A_FEATURE) or tensor is None or not tensor.requires_grad:
            continue
        layout = layout_of(tensor.shape, size, normalises_last_axis(names[name])) if tensor.ndim >= 3 else None
        if layout is not None:
            found.append((name, layout, tensor))
    gradients = torch.autograd.grad(scores.max(1).values.sum(), [tensor for _, _, tensor in found], allow_unused=True) if found else ()
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
        raise LayerError(f"No layer can be explained: {_listed(candidates)}. Name one with `layer=`, or use method 'occlusion' or 'rise'.")
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
    return LayerChoice(best.name, best.layout.grid, best.layout.kind, reason, candidates, best.layout.prefix, best.layout.channels)


def _listed(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "no layer gives a grid larger than 1x1 on the way to the score"
    lines = [f"{c.name} ({'x'.join(map(str, c.layout.grid))}, gradient {'present' if c.reached else 'exactly zero'})" for c in candidates[-12:]]
    return f"{len(candidates)} layers with a grid, the last ones: {'; '.join(lines)}"
