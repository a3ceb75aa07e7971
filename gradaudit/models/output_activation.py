"""A softmax or sigmoid at the end of a network: it is taken off, or the network is refused.

What is explained is a logit, not a probability.

Probabilities are made from logits in one place here (``engine.probabilities``), so that a network
which gives probabilities would be squashed twice: a single sigmoid above 0 always means class 1.
And the gradient of a softmax mixes every other class into a map.

A module at the end (``torch.nn.Softmax`` and its like) is left out of a copy that shares all
weights, and the copy is used only where the activation of its outputs gives the outputs of the
network.  A function at the end (``torch.softmax`` in ``forward``) cannot be taken off without
rewriting the author's code; the logarithm of a probability would be another score than the logit,
with another map, so the network is refused with what to do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import ModelError, TargetError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.files import taken_off
from gradaudit.models.inputs_outputs import Inputs, batch_size, call, first_tensor, map_tensors

ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Softmax: "softmax", nn.Softmax2d: "softmax", nn.LogSoftmax: "log-softmax", nn.Sigmoid: "sigmoid", nn.Hardsigmoid: "hard sigmoid",
    nn.LogSigmoid: "log-sigmoid",
}  # fmt: skip
"""Modules that make probabilities of logits, and their names in plain words."""

_BACKWARD_NAMES = {kind.__name__: name for kind, name in ACTIVATIONS.items()}
_KEEPS_VALUES = {
    "Alias", "AsStrided", "Clone", "Expand", "Permute", "ReshapeAlias", "Select", "Slice", "Split", "Squeeze", "T", "ToCopy", "Transpose", "Unbind",
    "UnsafeView", "Unsqueeze", "View",
}  # fmt: skip
"""Operations of autograd's graph that move values or leave some out, and change none."""

_LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
_IMAGES = 4
_MULTIPLES = (
    -1.0,
    0.5,
    2.0,
    # of the last linear layer's output: logits become the same multiples, an activation's outputs do not
)
_LARGE_MULTIPLES = (-1e3, 1e3)  # there logits leave [0, 1], unless they are bounded by construction
_SAME = 1e-5  # between outputs of two passes, and of a row's sum to one, in float32
_SAME_IN_HALF = 2e-2


def without_activation(
    module: nn.Module, inputs: Inputs, output: str | int | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network with logits as its outputs, and notes that a reader must know.

    It is the module itself where nothing says that it gives anything else than logits.

    inputs : real, preprocessed images on the module's device; the first few are used    output :
        key of the scores in the module's output
    Taken off: a module at the end, see the top of this file.  Refused: a softmax, sigmoid or their
    logarithms by a function at the end, told by autograd's graph; rows that sum to one, and a
    single output in [0, 1], that do so whatever multiple the last linear layer gives. Several
    outputs that stay in [0, 1] are noted only: similarities do so too, and which is highest stays
    the same. Logits that happen to lie in [0, 1], or to sum to one, are none of these. Errors:
    ``ModelError`` for a network that is refused; what the network itself raises.
    """
    rows = batch_size(inputs)
    few = map_tensors(lambda t: t[:_IMAGES] if t.ndim and len(t) == rows else t, inputs)
    scores = _scores(module, few, output)
    if scores is None or not may_be_activated(scores):
        return module, ()
    layer = _last_linear_layer(module, few, output)
    name = _last_activation(module, few)
    if name:
        activation, copied = module.get_submodule(name), _copy_without(module, name)
        given, logits = (
            torch.cat(_scores_of_multiples(network, few, output, layer, (1.0, *_MULTIPLES)))
            for network in (module, copied)
        )
        if _is_activation_of(activation, logits, given):
            return copied, (taken_off(_name_of(activation)),)
    function = _last_function(module, few, output)
    if function:
        found = f"The network ends in a {function} that cannot be taken off: it is no module, or one that runs elsewhere too"
        raise ModelError(_REFUSED.format(found, _hint(function)))
    if scores.ndim > 2:
        return module, ()
    small, large = (
        _scores_of_multiples(module, few, output, layer, factors)
        for factors in (_MULTIPLES, _LARGE_MULTIPLES)
    )
    return module, _told_by_values([scores, *small], [scores, *large] if layer is not None else [])


_REFUSED = (
    "{}; expected logits, which both the probabilities and the map of a class are made from (the map of a probability would be another). "
    "{}In the network's forward, return the logits."
)


def _hint(function: str) -> str:
    kind = {name: kind for kind, name in reversed(ACTIVATIONS.items())}[function]
    return f"As a module for this place alone, self.activation = torch.nn.{kind.__name__}(...), it is taken off here. "


def _name_of(module: nn.Module) -> str:
    """An activation's name in plain words, "" for any other module."""
    return next((name for kind, name in ACTIVATIONS.items() if isinstance(module, kind)), "")


def _scores(
    module: nn.Module,
    inputs: Inputs,
    output: str | int | None,
    layer: nn.Module | None = None,
    factor: float = 1.0,
) -> Tensor | None:
    """The tensor of scores for a few inputs, or None where the output holds none (detections).

    layer, factor : the layer's output, or the images where there is no layer, times the factor
    """
    if layer is None and factor != 1:
        picture = first_tensor(inputs)
        inputs = map_tensors(lambda t: t * factor if t is picture else t, inputs)
    with borrowed(module) as stack, torch.no_grad():
        if layer is not None:
            stack.callback(
                layer.register_forward_hook(lambda _, args, given: given * factor).remove
            )
        found = call(module, inputs)
    try:
        scores = first_tensor(found, output)
    except TargetError:
        return None
    return scores if scores.is_floating_point() and scores.numel() else None


def _scores_of_multiples(
    module: nn.Module,
    inputs: Inputs,
    output: str | int | None,
    layer: nn.Module | None,
    factors: tuple[float, ...],
) -> list[Tensor]:
    """The scores of the same images, once for each factor (see ``_scores``).

    Scores that are not finite are kept: they lie in no range, and rows of them never sum to one.
    """
    found = (_scores(module, inputs, output, layer, factor) for factor in factors)
    return [scores for scores in found if scores is not None]


def _last_linear_layer(
    module: nn.Module, inputs: Inputs, output: str | int | None
) -> nn.Module | None:
    """The last linear or convolutional layer that the scores depend on, or None for none."""
    ran: list[nn.Module] = []
    with borrowed(module) as stack, torch.no_grad():
        for submodule in module.modules():
            if isinstance(submodule, _LINEAR) and submodule is not module:
                stack.callback(
                    submodule.register_forward_hook(lambda layer, *_: ran.append(layer)).remove
                )
        call(module, inputs)
    scores = _scores(module, inputs, output)
    for layer in dict.fromkeys(reversed(ran)):
        other = _scores(module, inputs, output, layer, _MULTIPLES[0])
        if scores is not None and other is not None and not torch.equal(other, scores):
            return layer
    return None


def _tolerance(scores: Tensor) -> float:
    return _SAME_IN_HALF if scores.dtype in (torch.float16, torch.bfloat16) else _SAME


def may_be_activated(scores: Tensor) -> bool:
    """Whether the scores may be probabilities or logarithms of them.

    They may where all lie in [0, 1], or all are at most 0; the scores of a network that ends in one
    of ``ACTIVATIONS`` always do.
    """
    margin = _tolerance(scores)
    return bool(((scores >= -margin) & (scores <= 1 + margin)).all() or (scores <= margin).all())


# ── a module at the end ───────────────────────────────────────────────────────────────────────────


def _last_activation(module: nn.Module, inputs: Inputs) -> str:
    """Name of the module of ``ACTIVATIONS`` that runs last in a pass, or ""."""
    ran: list[nn.Module] = []
    names = {submodule: name for name, submodule in module.named_modules() if name}
    with borrowed(module) as stack, torch.no_grad():
        for submodule in names:
            if _name_of(submodule):
                stack.callback(
                    submodule.register_forward_hook(
                        lambda activation, *_: ran.append(activation)
                    ).remove
                )
        call(module, inputs)
    return names[ran[-1]] if ran else ""


def _copy_without(module: nn.Module, name: str) -> nn.Module:
    """A copy of the network in which ``nn.Identity`` replaces one module.

    Only the modules around that one are new; all weights are shared with the network.
    """
    *ancestors, last = name.split(".")
    copied = around = _twin(module)
    for ancestor in ancestors:
        inner = _twin(around.get_submodule(ancestor))
        around._modules[ancestor] = inner
        around = inner
    around._modules[last] = nn.Identity()
    return copied


def _twin(module: nn.Module) -> nn.Module:
    """A second module that shares the parameters and buffers of the first.

    Its lists of children and hooks are its own.
    """
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__.update(
        {
            key: value.copy() if key == "_modules" or "_hooks" in key else value
            for key, value in module.__dict__.items()
        }
    )
    return twin


def _is_activation_of(activation: nn.Module, logits: Tensor, scores: Tensor) -> bool:
    """Whether the activation turns these logits into the network's scores.

    It does not where it also runs elsewhere in the network, or where more comes after it.

    The two must agree far more exactly than the scores differ among themselves: the softmax of two
    logits near one half is near one half as well.
    """
    try:
        made = activation(logits)
    except (RuntimeError, IndexError):  # another shape than that at its place in the network
        return False
    if made.shape != scores.shape:
        return False
    distance, spread = float((made - scores).abs().max()), float(scores.max() - scores.min())
    return distance <= min(_tolerance(scores), spread / 100) and spread > 0


# ── a function at the end ─────────────────────────────────────────────────────────────────────────


def _last_function(module: nn.Module, inputs: Inputs, output: str | int | None) -> str:
    """The activation that the scores come out of, by autograd's graph; "" where it is none.

    It is found behind views of its result too, in a module as in a function.
    """
    with borrowed(module), torch.enable_grad():
        given = map_tensors(
            lambda t: t.detach().clone().requires_grad_(t.is_floating_point()), inputs
        )
        node: Any = first_tensor(call(module, given), output).grad_fn
    while node is not None:
        operation = re.sub(r"Backward\d*$", "", node.name())
        if operation not in _KEEPS_VALUES:
            return _BACKWARD_NAMES.get(operation, "")
        node = node.next_functions[0][0]
    return ""


# ── what the values alone tell ────────────────────────────────────────────────────────────────────


def _told_by_values(scores: Sequence[Tensor], far: Sequence[Tensor]) -> tuple[str, ...]:
    """Refuse outputs whose values are those of probabilities; a doubtful case gives a note.

    Errors: ``ModelError`` for rows that sum to one, and for a single output that never leaves
    [0, 1].

    scores, far : of the images, with multiples and with large multiples of what the last linear
        layer gives; no ``far`` where there is no such layer: large multiples of the images do not
        tell, since a network that normalises its features gives the same scores for them
    """
    single = scores[0].ndim == 1 or scores[0].shape[1] == 1
    for sums_to_one, words in (
        (_is_distribution, "rows"),
        (_is_log_distribution, "rows' exponentials"),
    ):
        if not single and all(map(sums_to_one, scores)):
            found = f"The network's outputs are probabilities, or logarithms of them: its {words} sum to one, whatever its last layer gives"
            raise ModelError(_REFUSED.format(found, ""))
    if not far or not all(((part >= 0) & (part <= 1)).all() for part in far):
        return ()
    found = f"stayed within [0, 1] on {len(scores[0])} images, even where its last layer gives a thousand times as much"
    if single:
        found = f"The network's single output {found}, and above 0 means class 1, which every image would be"
        raise ModelError(_REFUSED.format(found, ""))
    return (
        f"the network's outputs {found}: if they are probabilities and no logits, return the logits in its forward",
    )


def _is_distribution(scores: Tensor) -> bool:
    """Whether each row sums to one, as probabilities do.

    It must do so far more exactly than its entries differ from even shares: small logits around 1/C
    do not.
    """
    values, margin = scores.double(), 10 * _tolerance(scores)
    uneven = float((values - 1 / values.shape[1]).abs().max())
    missing = float((values.sum(1) - 1).abs().max())
    return bool((values >= -margin).all()) and missing <= min(margin, uneven / 100) and uneven > 0


def _is_log_distribution(scores: Tensor) -> bool:
    return bool((scores <= _tolerance(scores)).all()) and _is_distribution(
        scores.double().exp().to(scores.dtype)
    )
