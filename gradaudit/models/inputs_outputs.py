"""What goes into a network and comes out of it: nested tensors, their batch size, and the scores
among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gradaudit.errors import (
    ForwardError,
    GradauditError,
    ImageError,
    ModelError,
    TargetError,
    in_words,
    place_besides,
)


def call(module: nn.Module, inputs: Inputs) -> Any:
    """The module's output for one tensor, a tuple of positional or a mapping of keyword arguments.

    Errors: ``ForwardError`` for whatever the module raises, an exit included; running out of memory
    stays what it is.
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
        raise ForwardError(
            f"The network fails on an input of {shape} ({in_words(error)}{where})."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """True for the device's and the host's out-of-memory errors, whatever their type."""
    text = str(error).lower()
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "out of memory" in text
        or "can't allocate memory" in text
    )


Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]
"""What the module is called with: one tensor, positional arguments, or keyword arguments."""


def first_tensor(output: Any, key: str | int | None = None) -> Tensor:
    """The tensor of scores in a module's output.

    The output itself, its entry ``key`` or ``logits``, or the first tensor of a tuple or mapping.

    Errors: ``TargetError`` when there is none, listing what there is.
    """
    if key is not None:
        try:
            entries: Any = output
            output = (
                entries[key]
                if isinstance(output, (Mapping, tuple, list))
                else getattr(output, str(key))
            )
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise TargetError(
                f"The model's output has no entry {key!r}; it is {_describe(output)}. Set `output` to one of its entries."
            ) from error
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        values = [output["logits"]] if "logits" in output else list(output.values())
    else:
        values = list(output) if isinstance(output, (tuple, list)) else []
    for value in values:
        if isinstance(value, Tensor):
            return value
    raise TargetError(
        f"The model's output holds no tensor to explain: it is {_describe(output)}. Name the entry with `output`, or give a callable target."
    )


def _describe(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a mapping with keys {', '.join(map(repr, output))}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {', '.join(type(value).__name__ for value in output)}"
    return f"a {type(output).__name__}"


def batch_size(inputs: Inputs) -> int:
    return int(first_tensor(inputs).shape[0])


def map_tensors(function: Callable[[Tensor], Tensor], inputs: Any) -> Any:
    """Apply to every tensor of nested inputs or outputs; everything else passes as it is."""
    return tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, inputs)


def replaced(output: Any, old: Tensor, new: Tensor) -> Any:
    """The output with one tensor in it exchanged for another."""
    return new if output is old else tree_map(lambda leaf: new if leaf is old else leaf, output)


def in_parts(
    work: Callable[[slice], tuple[Tensor, ...]], count: int, chunk: int | None
) -> list[tuple[Tensor, ...]]:
    """``work`` over consecutive rows; where memory runs out, the rest goes on in half the size.

    Errors: ``ImageError`` with the reason ``out_of_memory`` when one image alone does not fit.
    """
    parts, start, size = [], 0, max(1, min(chunk or count, count))
    while start < count:
        stop, failure = min(start + size, count), ""
        try:
            parts.append(work(slice(start, stop)))
            start = stop
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error)
        if failure and size == 1:
            raise ImageError(
                "out_of_memory", f"One image alone does not fit into the device's memory: {failure}"
            )
        if failure:  # outside the handler, whose traceback keeps the failed pass alive
            size = max(1, (stop - start) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return parts


def probabilities(outputs: Tensor) -> Tensor:
    """(N, C) float64: softmax of the logits; sigmoid of a single logit as (1 - p, p)."""
    values = outputs.double()
    if values.ndim == 1 or values.shape[1] == 1:
        p = torch.sigmoid(values.reshape(-1))
        return torch.stack([1 - p, p], dim=1)
    if values.ndim > 2:
        raise ModelError(
            f"The model's output has shape {tuple(outputs.shape)}; an audit needs class scores (N, C)."
        )
    return values.softmax(1)
