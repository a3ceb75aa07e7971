"""Family CAMS: a capture becomes a heat map, signed and unnormalised.

A method takes a ``Capture`` and returns (N, K, *grid).  Methods that weight channels are written as their weights alone, (N, K, C) or
(N, K, C, P) for P positions, and ``weighting`` makes the map ``sum_c w A`` of them; the weights are kept for neuron importance and
for the ``eigen`` smoothing.  Written once per formula: A is (N, C, P), the gradients g are (N, K, C, P).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradaudit.capture import Capture
from gradaudit.errors import InputError
from gradaudit.registry import Family

Method = Callable[[Capture], Tensor]
CAMS: Family[Method] = Family("methods")
WEIGHTS: dict[str, Method] = {}
"""Channel weights of the methods that have them: (N, K, C), or (N, K, C, P) where they differ by position."""

NO_LAYER = "the model's scores only"
"""``needs`` of the methods that read no layer, and so need neither a grid nor a gradient."""


def weighting(name: str, **card: str) -> Callable[[Method], Method]:
    """Register a method by its channel weights: the map is the weighted sum of the activations."""

    def add(weights: Method) -> Method:
        WEIGHTS[name] = weights
        CAMS.register(name=name, **card)(lambda capture: capture.on_grid(weighted_sum(weights(capture), capture.activations)))
        return weights

    return add


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """sum_c w[n, k, c(, p)] A[n, c, p] -> (N, K, P)."""
    if weights.ndim == 3:
        return weights @ activations
    return torch.einsum("nkcp,ncp->nkp", weights, activations)


def contributions(method: str, capture: Capture) -> Tensor:
    """Each channel's share of the map, (N, K, C, P); its sum over C is the raw map.

    Errors: ``InputError`` for methods that are not a weighted sum of channels.
    """
    if method not in WEIGHTS:
        raise InputError(f"The method {method!r} is not a weighted sum of channels; this needs one of {', '.join(WEIGHTS)}.")
    weights = WEIGHTS[method](capture)
    return (weights if weights.ndim == 4 else weights[..., None]) * capture.activations[:, None]


@weighting(
    "gradcam",
    label="Grad-CAM",
    summary="channels weighted by the mean gradient of the score",
    formula="sum_c (mean_p g_c) A_c",
    needs="gradients",
    cost="one forward pass and the gradient of the head",
    source="Selvaraju et al. 2020, IJCV 128:336, eqs 1 and 2",
    caveat="averaging the gradient can place heat where the score did not use it; hirescam does not",
)
def gradcam(capture: Capture) -> Tensor:
    """Mean over positions of the score's gradient, (N, K, C).  Source: Selvaraju et al. 2020, eq. 1."""
    return capture.gradients.mean(-1)
