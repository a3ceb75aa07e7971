"""Methods of the family CAMS at the resolution of the image: gradients with respect to the pixels.

Their maps are magnitudes (the largest over the color channels), so they are never negative and
have no evidence against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradaudit.attribution.capture import Capture
from gradaudit.attribution.layer_layout import enlarged, find_layer
from gradaudit.attribution.methods import CAMS, NO_LAYER, gradcam, weighted_sum
from gradaudit.attribution.scores import Score, as_scores, checked_scores
from gradaudit.errors import LayerError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.inputs_outputs import Inputs, call, first_tensor, map_tensors, replaced

_BACKWARD = "one forward and one backward pass through the whole network"


# ── gradients with respect to the image ───────────────────────────────────────────────────────────


@dataclass(frozen=True)
class InputPass:
    """Gradients of (N, K) scores: by the image tensor, (N, K, C, H, W), and by watched layers."""

    gradients: Tensor
    watched: Mapping[str, Tensor]
    rectifiers: int


def input_gradients(
    module: nn.Module,
    inputs: Inputs,
    score: Score,
    *,
    rule: Literal["", "guided", "deconvnet"] = "",
    watch: Sequence[str] = (),
) -> InputPass:
    """One pass with a graph through the whole network.

    rule : how gradients pass ReLUs, in modules and in functions alike.  "guided": where both the
        gradient and the input are positive; "deconvnet": where the gradient is positive
    watch : names of layers whose outputs' gradients are wanted, too

    ``InputPass.rectifiers`` counts the ReLUs met under a rule.
    Errors: ``LayerError`` for a watched layer that runs twice or does not exist.
    """
    images = first_tensor(inputs).detach().clone().requires_grad_()
    given = map_tensors(lambda t: images if t is first_tensor(inputs) else t, inputs)
    mode, outputs = _RectifierRule(rule), {name: torch.empty(0) for name in watch}
    with borrowed(module) as stack, torch.enable_grad():
        if rule:
            stack.enter_context(mode)
        # the hooks end before the gradient is taken, for which a checkpointed block runs once more
        with ExitStack() as hooks:
            for name in watch:
                hook = find_layer(module, name).register_forward_hook(_watcher(outputs, name))
                hooks.callback(hook.remove)
            output = call(module, given)
        scores = as_scores(checked_scores(score(output), len(images)))
        gradients, *watched = _gradients_of_each(scores, [images, *outputs.values()])
    return InputPass(gradients, dict(zip(watch, watched, strict=True)), mode.count)


def _gradients_of_each(scores: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """d scores[:, k] / d w as (N, K, ...) for each tensor w; zero where nothing depends on it."""
    by_score = [
        torch.autograd.grad(scores[:, k].sum(), wanted, retain_graph=True, allow_unused=True)
        for k in range(scores.shape[1])
    ]
    stacked = []
    for tensor, gradients in zip(wanted, zip(*by_score, strict=True), strict=True):
        filled = [torch.zeros_like(tensor) if g is None else g for g in gradients]
        stacked.append(torch.stack(filled, 1).detach())
    return stacked


def _watcher(outputs: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Any], Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if outputs[name].numel():
            raise LayerError(
                f"The layer {name!r} runs twice or more in one forward pass, so its gradient is not defined."
            )
        outputs[name] = first_tensor(output)
        # a clone is handed on: an in-place operation after the layer must not change the record
        return replaced(output, outputs[name], outputs[name].clone())

    return hook


class _RectifierRule(TorchFunctionMode):
    """Gives every ReLU another backward rule for the length of a pass; no module is changed."""

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


# ── the methods ───────────────────────────────────────────────────────────────────────────────────


def magnitude(gradients: Tensor) -> Tensor:
    """(N, K, C, H, W) -> (N, K, H, W): the largest absolute value over the color channels.

    Source: Simonyan et al. 2014, sec. 3.1
    """
    return gradients.abs().amax(2)


def pixel_gradients(
    capture: Capture, rule: Literal["", "guided", "deconvnet"] = "", inputs: Inputs | None = None
) -> Tensor:
    """Signed gradients of the pinned scores with respect to the image, (N, K, C, H, W).

    Errors: ``LayerError`` under a rule when the network has no ReLU, where the rule would change
    nothing.
    """
    found = input_gradients(
        capture.module, capture.inputs if inputs is None else inputs, capture.pinned, rule=rule
    )
    if rule and not found.rectifiers:
        raise LayerError(
            f"The network has no ReLU, and {rule} backpropagation is defined by ReLUs. Use saliency or smoothgrad."
        )
    return found.gradients


@CAMS.register(
    label="gradient",
    summary="size of the score's gradient at each pixel",
    formula="max_c |ds/dx_c|",
    needs=NO_LAYER,
    cost=_BACKWARD,
    source="Simonyan et al. 2014, ICLR workshop, sec. 3.1",
    range=">= 0",
    caveat="noisy; says where the score is sensitive, not what it rests on",
)
def saliency(capture: Capture) -> Tensor:
    """max over colors of |gradient|, (N, K, H, W).  Source: Simonyan et al. 2014, sec. 3.1."""
    return magnitude(pixel_gradients(capture))


@CAMS.register(
    label="guided backprop",
    summary="gradient that passes a ReLU only where it and the ReLU's input are positive",
    needs=NO_LAYER + "; ReLUs",
    formula="max_c |ds/dx_c| under the rule relu(g) [x > 0]",
    cost=_BACKWARD,
    source="Springenberg et al. 2015, ICLR workshop, sec. 3.4",
    range=">= 0",
    caveat="nearly independent of class and of trained weights (Adebayo et al. 2018): an edge detector, no evidence of what the class used",
)
def guided_backprop(capture: Capture) -> Tensor:
    """max over colors of |guided gradient|, (N, K, H, W).  Source: Springenberg et al. 2015."""
    return magnitude(pixel_gradients(capture, "guided"))


@CAMS.register(
    label="deconvnet",
    summary="gradient that passes a ReLU only where it is positive",
    formula="max_c |ds/dx_c| under the rule relu(g)",
    needs=NO_LAYER + "; ReLUs",
    cost=_BACKWARD,
    source="Zeiler and Fergus 2014, ECCV, sec. 2.1",
    range=">= 0",
    caveat="ignores which ReLUs were open, so behind few layers it hardly depends on the image",
)
def deconvnet(capture: Capture) -> Tensor:
    """max over colors of |deconvolved gradient|, (N, K, H, W).  Source: Zeiler and Fergus 2014."""
    return magnitude(pixel_gradients(capture, "deconvnet"))


@CAMS.register(
    label="guided Grad-CAM",
    summary="guided backprop times the upsampled positive Grad-CAM map",
    formula="guided backprop * U relu(Grad-CAM)",
    needs="gradients; ReLUs",
    cost="Grad-CAM and one backward pass",
    source="Selvaraju et al. 2020, IJCV 128:336, sec. 3.2",
    range=">= 0",
    caveat="the fine detail comes from guided backprop, which hardly depends on the class",
)
def guided_gradcam(capture: Capture) -> Tensor:
    """Guided backprop where Grad-CAM is positive, zero elsewhere, (N, K, H, W).

    Source: Selvaraju et al. 2020, sec. 3.2
    """
    coarse = capture.on_grid(weighted_sum(gradcam(capture), capture.activations)).clamp_min(0)
    size = tuple(first_tensor(capture.inputs).shape[2:])
    return magnitude(pixel_gradients(capture, "guided")) * enlarged(coarse, size)


@CAMS.register(
    label="SmoothGrad",
    summary="gradient averaged over 25 noisy copies of the image",
    formula="max_c |mean over noise of ds/dx_c|",
    needs=NO_LAYER,
    cost="25 forward and backward passes",
    source="Smilkov et al. 2017, arXiv:1706.03825, eq. 1",
    range=">= 0",
    caveat="noise of 15 % of each image's range; fixed seed",
)
def smoothgrad(capture: Capture) -> Tensor:
    """Mean of the gradients at x + noise, then max over colors of |.|, (N, K, H, W).

    Source: Smilkov et al. 2017, eq. 1
    """
    return magnitude(smoothed_gradients(capture))


def smoothed_gradients(
    capture: Capture, samples: int = 25, spread: float = 0.15, seed: int = 0
) -> Tensor:
    """Mean of the signed gradients at x + N(0, (spread * range of x)^2), (N, K, C, H, W).

    Over ``samples`` draws.
    """
    images = first_tensor(capture.inputs)
    flat = images.flatten(1)
    sigma = (spread * (flat.amax(1) - flat.amin(1))).reshape(-1, *[1] * (images.ndim - 1))
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(())
    for _ in range(samples):
        noise = torch.randn(images.shape[1:], generator=generator).to(
            images
        )  # the same for every image, so that a map does not depend on its batch
        total = total.to(images.device) + pixel_gradients(
            capture, inputs=_moved(capture.inputs, images + sigma * noise)
        )
    return total / samples


def _moved(inputs: Inputs, images: Tensor) -> Inputs:
    picture = first_tensor(inputs)
    moved: Inputs = map_tensors(lambda t: images if t is picture else t, inputs)
    return moved


@CAMS.register(
    label="FullGrad",
    summary="input times gradient, and every layer's bias times its gradient, added at the image's size",
    formula="psi(x ds/dx) + sum over layers and channels of psi(b ds/db), psi = upsample(rescale(|.|))",
    needs=NO_LAYER,
    cost=_BACKWARD,
    source="Srinivas and Fleuret 2019, NeurIPS, eq. 6",
    range=">= 0",
    caveat="biases of convolutions and batch norms only; psi rescales every layer to [0, 1], so the map has no unit",
)
def fullgrad(capture: Capture) -> Tensor:
    """psi(|x g|) + sum over layers and channels of psi(|b g|), (N, K, H, W).

    Source: Srinivas and Fleuret 2019, eq. 6
    """
    biases = implicit_biases(capture.module)
    images = first_tensor(capture.inputs)
    found = input_gradients(capture.module, capture.inputs, capture.pinned, watch=list(biases))
    total = _psi(found.gradients * images[:, None], images.shape[2:])
    for name, bias in biases.items():
        gradient = found.watched[name]
        if gradient.ndim == images.ndim + 1:
            total = total + _psi(
                gradient * bias.to(gradient).reshape(-1, *[1] * (gradient.ndim - 3)),
                images.shape[2:],
            )
    return total


def implicit_biases(module: nn.Module) -> dict[str, Tensor]:
    """The additive constant per output channel of every convolution and batch norm that has one.

    For a batch norm: beta - gamma mean / sd.
    """
    biases = {}
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)) and layer.bias is not None:
            biases[name] = layer.bias.detach()
        elif (
            isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d))
            and layer.running_mean is not None
            and layer.running_var is not None
        ):
            scale = 1.0 if layer.weight is None else layer.weight.detach()
            shift = 0.0 if layer.bias is None else layer.bias.detach()
            biases[name] = (
                shift - scale * layer.running_mean / (layer.running_var + layer.eps).sqrt()
            )
    return biases


def _psi(values: Tensor, size: torch.Size) -> Tensor:
    """|.| of (N, K, C, h, w) in [0, 1] per image, upsampled, summed over channels: (N, K, H, W)."""
    positive = values.abs()
    flat = positive.flatten(2)
    low, high = (
        bound.reshape(*positive.shape[:2], *[1] * (positive.ndim - 2))
        for bound in (flat.amin(2), flat.amax(2))
    )
    scaled = (positive - low) / torch.where(high > low, high - low, torch.ones_like(high))
    return enlarged(scaled.sum(2), size)
