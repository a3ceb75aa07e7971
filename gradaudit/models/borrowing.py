"""A network is lent for one pass and given back exactly as it was, also after an exception."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

# ── lending and giving back ───────────────────────────────────────────────────────────────────────


@contextmanager
def borrowed(module: nn.Module) -> Iterator[ExitStack]:
    """Evaluation mode inside; afterwards the module and torch's settings are what they were.

    Given back: training flags, gradients, grad mode, autocast and random state.

    Flags are set per module and not by ``eval()``, which a subclass may override with effects of
    its own. Whatever is pushed on the yielded stack (hooks, patched forwards) is undone first, also
    after an exception.
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
