"""The same network, faster, where its maps stay the same: batch norms folded into their
convolutions, channels last.

Both are rewritings of one arithmetic and move a map by rounding only.  ``accelerated`` works on a
copy, compares its maps with the plain network's on a real batch, and keeps a step only where they
agree; what was kept is said in the classifier's notes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from gradaudit.attribution.explanation import explain
from gradaudit.models.borrowing import borrowed
from gradaudit.models.classifier import Classifier
from gradaudit.models.inputs_outputs import call
from gradaudit.number_text import plain_number

TOLERANCE = 1e-5
"""Largest difference of a map, relative to its largest absolute value, and of the scores relative
to theirs.
"""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Acceleration:
    """The classifier to use, the steps that were kept, and a sentence on every step tried."""

    classifier: Classifier
    kept: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def accelerated(
    clf: Classifier, images: Tensor, method: str = "gradcam", tolerance: float = TOLERANCE
) -> Acceleration:
    """A classifier whose copy of the network runs faster and gives the same maps.

    clf : with a concrete layer; its own module is not touched    images : (N, C, H, W) real,
        preprocessed; a few are enough
    method : whose maps are compared    tolerance : see ``TOLERANCE``
    returns : see ``Acceleration``; the given classifier where nothing could be kept
    """
    reference = explain(clf, images, method=method)
    kept: list[str] = []
    said: list[str] = []
    for step, words in (
        (_folded, "batch norms folded into convolutions"),
        (_channels_last, "channels last in memory"),
    ):
        try:
            candidate = step(clf, images)
            found = None if candidate is None else explain(candidate, images, method=method)
        except (
            Exception
        ) as error:  # whatever a copy of an unknown network may raise: the plain one stays in use
            said.append(f"{words}: not possible ({type(error.__cause__ or error).__name__})")
            continue
        if candidate is None or found is None:
            continue
        distance = max(
            _distance(found.raw, reference.raw), _distance(found.outputs, reference.outputs)
        )
        if distance <= tolerance:
            clf = candidate
            kept.append(words)
            said.append(
                f"{words}: maps and scores of {len(images)} images within {plain_number(tolerance)} of the plain network's"
            )
        else:
            said.append(
                f"{words}: left out, it moved a map or a score by {plain_number(distance, 1)}"
            )
    return Acceleration(clf, tuple(kept), tuple(said))


def _distance(found: Tensor, reference: Tensor) -> float:
    """Largest absolute difference, relative to the reference's largest absolute value.

    Infinite where one of them is not finite.
    """
    if not reference.numel():
        return 0.0
    top = reference.abs().max()
    distance = float(
        (found - reference).abs().max() / torch.where(top > 0, top, torch.ones_like(top))
    )
    return distance if distance == distance else float("inf")


def _channels_last(clf: Classifier, images: Tensor) -> Classifier | None:
    if not any(isinstance(m, nn.Conv2d) for m in clf.module.modules()):
        return None
    module: Any = copy.deepcopy(clf.module)
    return replace(clf, module=module.to(memory_format=torch.channels_last))


def _folded(clf: Classifier, images: Tensor) -> Classifier | None:
    pairs = [(a, b) for a, b in _pairs(clf.module, images) if a != clf.layer]
    if not pairs:
        return None
    module = copy.deepcopy(clf.module)
    for convolution, norm in pairs:
        conv, bn = module.get_submodule(convolution), module.get_submodule(norm)
        assert isinstance(conv, _CONVOLUTIONS)
        assert isinstance(bn, _NORMS)
        assert bn.running_mean is not None
        assert bn.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
        )
        conv.weight, conv.bias = weight, bias
        parent, _, name = norm.rpartition(".")
        setattr(module.get_submodule(parent), name, nn.Identity().train(bn.training))
    return replace(clf, module=module)


def _pairs(module: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that read their output.

    Only layers that run once; found by tracing one pass.

    Whether something else reads a convolution's output cannot be seen here; the comparison of the
    maps decides.
    """
    written: dict[int, tuple[str, Tensor]] = {}
    runs: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []

    def trace(name: str) -> Any:
        def hook(submodule: nn.Module, inputs: Any, output: Any) -> None:
            runs[name] = runs.get(name, 0) + 1
            if isinstance(submodule, _CONVOLUTIONS):
                written[id(output)] = name, output  # kept, so that no address is used twice
            elif inputs and id(inputs[0]) in written:
                pairs.append((written[id(inputs[0])][0], name))

        return hook

    with borrowed(module) as stack, torch.no_grad():
        for name, submodule in module.named_modules():
            if type(submodule) in (
                *_CONVOLUTIONS,
                *_NORMS,
            ):  # not subclasses, which may add an activation
                stack.callback(submodule.register_forward_hook(trace(name)).remove)
        call(module, images[:1])
    return [
        (a, b)
        for a, b in pairs
        if runs[a] == runs[b] == 1
        and getattr(module.get_submodule(b), "running_var", None) is not None
    ]
