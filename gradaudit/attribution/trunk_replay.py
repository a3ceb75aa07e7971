"""What runs before the layer, recorded once: its outputs stand in for it when the head alone is run again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.attribution.layer_layout import (
    find_layer,
)
from gradaudit.models.borrowing import borrowed
from gradaudit.models.inputs_outputs import (
    Inputs,
    batch_size,
    call,
    first_tensor,
    map_tensors,
)

# ── replaying the head ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Trunk:
    """What ran before the layer, with its outputs, so that a replay computes only the head."""

    layer: nn.Module
    rows: int
    result: Any  # the layer's own output, its first tensor to be replaced
    outputs: Mapping[nn.Module, list[Any]]

    def patch(self, stack: ExitStack, output: Tensor, index: int, dense: bool) -> None:
        """Let recorded outputs of image ``index`` stand in for modules until the stack unwinds.

        Modules before the layer answer with their record, the layer itself with ``output``.  What
        they answer is a copy, or repeats one value so that torch refuses to write into it: the
        model may change it in place, and neither the record nor ``output`` must change with it.
        """
        count, own = len(output), output.clone()

        def narrow(t: Tensor) -> Tensor:
            if not t.ndim or len(t) != self.rows:
                return t.clone()
            repeated = t[index : index + 1].expand(count, *t.shape[1:])
            return repeated.clone() if dense or count == 1 else repeated

        for module, outputs in self.outputs.items():
            _answer(stack, module, [map_tensors(narrow, value) for value in outputs])
        old = first_tensor(self.result)
        _answer(
            stack,
            self.layer,
            [map_tensors(lambda leaf: own if leaf is old else narrow(leaf), self.result)],
        )


def _answer(stack: ExitStack, module: nn.Module, outputs: list[Any]) -> None:
    """The module's next calls return ``outputs`` in turn; later calls run it again."""
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


@dataclass(frozen=True)
class _Given:
    """What a module gave: the output itself, to see what becomes of it, and a copy of it."""

    module: nn.Module
    output: Any
    copy: Any


class _Recorder:
    """Hooks that keep the outputs of the largest modules that end before the layer does.

    A module that writes into what an earlier one gave, or gives on a part of it, is left to run
    again: its answer alone would leave the earlier output as it was.
    """

    def __init__(self) -> None:
        self.given: list[_Given] = []
        self.result: list[Any] = []
        self._again: set[nn.Module] = set()
        self._begun: dict[nn.Module, list[list[tuple[_Given, Any]]]] = {}

    def begin(self, module: nn.Module, args: Any) -> None:
        earlier = [(one, _versions(one.output)) for one in self.given]
        self._begun.setdefault(module, []).append(earlier)

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        earlier = self._begun[module].pop()
        if self.result:
            return
        written = any(_versions(one.output) != version for one, version in earlier)
        places = _places(output)
        if written or any(_places(one.output) & places for one, _ in earlier):
            self._again.add(module)
            return
        covered = {inside for inside in module.modules() if inside is not module}
        self._again |= covered & {one.module for one, _ in earlier}
        self.given = [one for one in self.given if one.module not in covered]
        self.given.append(_Given(module, output, map_tensors(torch.clone, output)))

    def finish(self, module: nn.Module, args: Any, output: Any) -> None:
        self.result.append(map_tensors(torch.clone, output))

    def outputs(self) -> dict[nn.Module, list[Any]]:
        """Copies by module, in the order of its calls; none where a call of it runs again."""
        found: dict[nn.Module, list[Any]] = {}
        for one in self.given:
            if one.module not in self._again:
                found.setdefault(one.module, []).append(one.copy)
        return found


def record_trunk(module: nn.Module, layer: str, inputs: Inputs) -> Trunk:
    """Run once more and record what runs before the layer."""
    recorder, target = _Recorder(), find_layer(module, layer)
    with borrowed(module) as stack, torch.no_grad():
        for name, submodule in module.named_modules():
            around = not name or layer == name or layer.startswith(name + ".")
            if around or name.startswith(layer + "."):
                continue
            stack.callback(submodule.register_forward_pre_hook(recorder.begin).remove)
            stack.callback(submodule.register_forward_hook(recorder.end).remove)
        stack.callback(target.register_forward_hook(recorder.finish).remove)
        call(module, inputs)
    return Trunk(target, batch_size(inputs), recorder.result[0], recorder.outputs())


def _places(output: Any) -> set[int]:
    """Where the tensors of an output lie in memory: two of one place change together."""
    return {place for t in _tensors(output) if (place := t.untyped_storage().data_ptr())}


def _versions(output: Any) -> list[int]:
    """Counts of torch: how often each tensor of an output was written into."""
    return [0 if t.is_inference() else t._version for t in _tensors(output)]


def _tensors(output: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(note, output)
    return found
