"""The end of a network: a softmax or sigmoid there is taken off, or the network is refused, since a
logit is what is explained.

Probabilities are made from logits in one place here (``measurement.batch_rows.probabilities``), so that a network
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

_IMAGES = 4
_NEAR = (0.5, -1.0, 2.0)  # times the images: rows that sum to one there too do so by construction
_FAR = (
    1e2,
    -1e2,
    1e6,
    -1e6,
)  # times the images: a logit leaves [0, 1] there, unless it is bounded by construction
_SAME = 1e-5  # between outputs of two passes, and of a row's sum to one, in float32
_SAME_IN_HALF = 2e-2


def without_activation(
    module: nn.Module, inputs: Inputs, output: str | int | None = None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network without an activation at its end, and what a reader must know of it.

    The module itself where nothing says that it gives anything but logits.

    inputs : real, preprocessed images on the module's device; the first few are used    output :
        key of the scores in the module's output
    Taken off: a module at the end, see the top of this file.  Refused: a softmax, sigmoid or their
    logarithms by a function at the end, told by autograd's graph; rows that sum to one on every
    input tried; a single output that never leaves [0, 1], on inputs a million times as large
    neither.  Several outputs that never leave it are noted only: similarities do so too, and which
    is highest stays the same. Logits that happen to lie in [0, 1] are none of these. Errors:
    ``ModelError`` for a network that is refused; what the network itself raises.
    """
    rows = batch_size(inputs)
    few = map_tensors(lambda t: t[:_IMAGES] if t.ndim and len(t) == rows else t, inputs)
    scores = _scores(module, few, output)
    if scores is None or not may_be_activated(scores):
        return module, ()
    name = _last_activation(module, few)
    if name:
        activation, copied = module.get_submodule(name), _copy_without(module, name)
        given, logits = (
            torch.cat(_scores_of_multiples(network, few, output, (1.0, *_NEAR)))
            for network in (module, copied)
        )
        if _is_activation_of(activation, logits, given):
            return copied, (taken_off(_name_of(activation)),)
    function = _last_function(module, few, output)
    if function:
        found = f"The network ends in a {function} that cannot be taken off: it is no module, or one that runs elsewhere too"
        raise ModelError(_REFUSED.format(found, _hint(function)))
    return module, _told_by_values(module, few, output, scores)


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


def _scores(module: nn.Module, inputs: Inputs, output: str | int | None) -> Tensor | None:
    """The scores for a few inputs in float32; None where the output holds none (detections)."""
    with borrowed(module), torch.no_grad():
        found = call(module, inputs)
    try:
        scores = first_tensor(found, output)
    except TargetError:
        return None
    return scores if scores.is_floating_point() and scores.numel() else None


def _tolerance(scores: Tensor) -> float:
    return _SAME_IN_HALF if scores.dtype in (torch.float16, torch.bfloat16) else _SAME


def may_be_activated(scores: Tensor) -> bool:
    """True where the scores could be probabilities, all in [0, 1], or logarithms, none above 0.

    Also wherever one of ``ACTIVATIONS`` comes last.
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
    """The network with ``nn.Identity`` in the place of one module; all weights are shared.

    Only the modules around it are new.
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
    """A second module on the same parameters and buffers, with its own children and hooks."""
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__.update(
        {
            key: value.copy() if key == "_modules" or "_hooks" in key else value
            for key, value in module.__dict__.items()
        }
    )
    return twin


def _is_activation_of(activation: nn.Module, logits: Tensor, scores: Tensor) -> bool:
    """True where the activation of these logits gives the network's scores.

    Not where it also runs elsewhere, or more comes after it.

    Far more exactly than the scores differ among themselves: the softmax of two logits near one
    half is near one half as well.
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
    """The activation that autograd's graph of the scores ends in, or "".

    Found in modules and functions alike, also behind views of its result.
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


def _told_by_values(
    module: nn.Module, inputs: Inputs, output: str | int | None, scores: Tensor
) -> tuple[str, ...]:
    """A note, or nothing.

    Errors: ``ModelError`` for rows that sum to one, and for one output that never leaves [0, 1].
    """
    if scores.ndim > 2:
        return ()
    single = scores.ndim == 1 or scores.shape[1] == 1
    if not single:
        for sums_to_one, words in (
            (_is_distribution, "rows"),
            (_is_log_distribution, "rows' exponentials"),
        ):
            if sums_to_one(scores) and all(
                sums_to_one(other) for other in _scores_of_multiples(module, inputs, output, _NEAR)
            ):
                found = f"The network's outputs are probabilities, or logarithms of them: its {words} sum to one on every input tried"
                raise ModelError(_REFUSED.format(found, ""))
    if not _never_leaves_the_unit_interval(module, inputs, output, scores):
        return ()
    found = f"stayed within [0, 1] on {len(scores)} images, and on the same images up to a million times as large"
    if single:
        found = f"The network's single output {found}, and above 0 means class 1, which every image would be"
        raise ModelError(_REFUSED.format(found, ""))
    return (
        f"the network's outputs {found}: if they are probabilities and no logits, return the logits in its forward",
    )


def _never_leaves_the_unit_interval(
    module: nn.Module, inputs: Inputs, output: str | int | None, scores: Tensor
) -> bool:
    """Constant scores do not count: they tell nothing of where others would lie."""
    if not ((scores >= 0) & (scores <= 1)).all():
        return False
    values = torch.cat(
        [other.flatten() for other in (scores, *_scores_of_multiples(module, inputs, output, _FAR))]
    )
    return bool(((values >= 0) & (values <= 1)).all()) and bool(
        values.max() - values.min() > _tolerance(scores)
    )


def _scores_of_multiples(
    module: nn.Module, inputs: Inputs, output: str | int | None, factors: tuple[float, ...]
) -> list[Tensor]:
    """The scores of the same images times each factor.

    What is not finite there lies in no range and sums to nothing.
    """
    found = (_scores(module, _multiple(inputs, factor), output) for factor in factors)
    return [scores for scores in found if scores is not None]


def _multiple(inputs: Inputs, factor: float) -> Inputs:
    picture = first_tensor(inputs)
    multiple: Inputs = map_tensors(lambda t: t * factor if t is picture else t, inputs)
    return multiple


def _is_distribution(scores: Tensor) -> bool:
    """True for rows that sum to one far more exactly than they differ from even shares.

    Small logits around 1/C do not.
    """
    values, margin = scores.double(), 10 * _tolerance(scores)
    uneven = float((values - 1 / values.shape[1]).abs().max())
    missing = float((values.sum(1) - 1).abs().max())
    return bool((values >= -margin).all()) and missing <= min(margin, uneven / 100) and uneven > 0


def _is_log_distribution(scores: Tensor) -> bool:
    return bool((scores <= _tolerance(scores)).all()) and _is_distribution(
        scores.double().exp().to(scores.dtype)
    )
