"""Family CAMS: a capture becomes a heat map, signed and unnormalized.

A method takes a ``Capture`` and returns (N, K, *grid).  Methods that weight channels are written as
their weights alone, (N, K, C) or (N, K, C, P) for P positions, and ``weighting`` makes the map
``sum_c w A`` of them; the weights are kept for neuron importance and for the ``eigen`` smoothing.
Written once per formula: A is (N, C, P), the gradients g are (N, K, C, P).

The gradient methods are here; ``pixel_methods`` and ``perturbation_methods`` register theirs in
the same family.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradaudit.attribution.capture import Capture
from gradaudit.attribution.scores import Score, finer_score
from gradaudit.errors import InputError, LayerError
from gradaudit.registry import Family

Method = Callable[[Capture], Tensor]
CAMS: Family[Method] = Family("methods")
WEIGHTS: dict[str, Method] = {}
"""Channel weights of the methods that have them: (N, K, C), or (N, K, C, P) where they differ by
position.
"""

SCORES: dict[str, Callable[[Score], Score]] = {"finercam": finer_score}
"""Methods that explain another score than the target's own, and how they make it."""

NO_LAYER = "the model's scores only"
"""``needs`` of the methods that read no layer, and so need neither a grid nor a gradient."""


def weighting(name: str, **card: str) -> Callable[[Method], Method]:
    """Register a method by its channel weights: the map is the weighted sum of the activations."""

    def add(weights: Method) -> Method:
        WEIGHTS[name] = weights
        CAMS.register(name=name, **card)(
            lambda capture: capture.on_grid(weighted_sum(weights(capture), capture.activations))
        )
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
        raise InputError(
            f"The method {method!r} is not a weighted sum of channels; this needs one of {', '.join(WEIGHTS)}."
        )
    weights = WEIGHTS[method](capture)
    return (weights if weights.ndim == 4 else weights[..., None]) * capture.activations[:, None]


# ── one weight per channel ────────────────────────────────────────────────────────────────────────

_ONE_PASS = "one forward pass and the gradient of the head"


@weighting(
    "gradcam",
    label="Grad-CAM",
    summary="channels weighted by the mean gradient of the score",
    formula="sum_c (mean_p g_c) A_c",
    needs="gradients",
    cost=_ONE_PASS,
    source="Selvaraju et al. 2020, IJCV 128:336, eqs 1 and 2",
    caveat="averaging the gradient can place heat where the score did not use it; hirescam does not",
)
def gradcam(capture: Capture) -> Tensor:
    """Mean over positions of the score's gradient, (N, K, C).

    Source: Selvaraju et al. 2020, eq. 1
    """
    return capture.gradients.mean(-1)


@weighting(
    "gradcam++",
    label="Grad-CAM++",
    summary="channels weighted by their positive gradients, each divided among the positions that share it",
    formula="sum_c (sum_p alpha relu(g)) A_c, alpha = 1 / (2 + g sum A_c) where g is not 0",
    needs="gradients",
    cost=_ONE_PASS,
    source="Chattopadhay et al. 2018, WACV, eqs 7 and 19",
    caveat="made for activations >= 0; take a layer after a ReLU",
)
def gradcam_plus_plus(capture: Capture) -> Tensor:
    """sum_p alpha relu(g), (N, K, C), with alpha = g^2 / (2 g^2 + S g^3) = 1 / (2 + S g).

    S = sum_p A.

    Dividing by g^2 first is the paper's formula exactly, and keeps small gradients from
    underflowing.  The derivatives are those of exp(score), whose common factor exp(score) scales
    the whole map and is left out.  A zero denominator gives the weight 0. Source: Chattopadhay et
    al. 2018, eqs 7 and 19
    """
    g = capture.gradients
    denominator = 2 + capture.activations.sum(-1)[:, None, :, None] * g
    alpha = torch.where(
        (g != 0) & (denominator != 0),
        1 / torch.where(denominator != 0, denominator, torch.ones_like(g)),
        torch.zeros_like(g),
    )
    return (alpha * g.clamp_min(0)).sum(-1)


@weighting(
    "xgradcam",
    label="XGrad-CAM",
    summary="channels weighted by their gradient averaged with the activation as weight",
    formula="sum_c (sum_p g A / sum_p A) A_c",
    needs="gradients",
    cost=_ONE_PASS,
    source="Fu et al. 2020, BMVC, eq. 8",
    caveat="the weight of a channel whose activations sum to nearly zero is unstable; take a layer after a ReLU",
)
def xgradcam(capture: Capture) -> Tensor:
    """sum_p g A / sum_p A, (N, K, C), 0 for channels that sum to zero.

    Source: Fu et al. 2020, eq. 8
    """
    total = capture.activations.sum(-1)[:, None]
    gains = (capture.gradients * capture.activations[:, None]).sum(-1)
    return torch.where(
        total != 0,
        gains / torch.where(total != 0, total, torch.ones_like(total)),
        torch.zeros_like(gains),
    )


@weighting(
    "cam",
    label="CAM",
    summary="channels weighted by the class's own linear weights behind global average pooling",
    formula="sum_c w_c A_c",
    needs="gradients of a global-average-pooling and linear head",
    cost=_ONE_PASS,
    source="Zhou et al. 2016, CVPR, eq. 2",
    caveat="equals Grad-CAM times the number of positions; refused on any other head",
)
def cam(capture: Capture) -> Tensor:
    """The linear weights w of the head, (N, K, C).

    Behind average pooling over P positions, the gradient is w / P at every position.

    Errors: ``LayerError`` where the head is not average pooling and a linear map.
    Source: Zhou et al. 2016, eq. 2
    """
    g = capture.gradients
    spread = (g - g.mean(-1, keepdim=True)).abs().amax()
    doubled = capture.head(capture.activations[:1] * 2, 0) - capture.head(
        capture.activations[:1], 0
    )
    linear = (g[:1].sum(-1) * capture.activations[:1].mean(-1)[:, None]).sum(-1)
    tolerance = 1e-3 * linear.abs().max() + 1e-5 * capture.scores.abs().max()
    if spread > 1e-4 * g.abs().amax() or (doubled - linear).abs().max() > tolerance:
        raise LayerError(
            f"CAM needs global average pooling and a linear layer right after {capture.layer!r}; this head is another. Use gradcam."
        )
    return g.sum(-1)


@weighting(
    "shapleycam",
    label="Shapley-CAM",
    summary="channels weighted by the gradient corrected by half the curvature along the activations",
    formula="sum_c mean_p(g - H A / 2)_c A_c",
    needs="gradients and Hessian products",
    cost="two forward passes, two gradients of the head",
    source="Cai 2025, arXiv:2501.06261, eq. 13",
    caveat="equals Grad-CAM where the head is piecewise linear",
)
def shapleycam(capture: Capture) -> Tensor:
    """Mean over positions of g - H A / 2, (N, K, C): a channel's Shapley value to second order.

    Source: Cai 2025
    """
    return (capture.gradients - 0.5 * capture.curvature()).mean(-1)


@weighting(
    "finercam",
    label="Finer-CAM",
    summary="Grad-CAM of the class against the three classes with the nearest logits",
    formula="Grad-CAM of z_c - mean of z_d over the 3 nearest d",
    needs="gradients",
    cost=_ONE_PASS,
    source="Zhang et al. 2025, CVPR (Finer-CAM)",
    caveat="shows what separates the class from its look-alikes, not all evidence for it; with two classes it is the contrast of both",
)
def finercam(capture: Capture) -> Tensor:
    """Grad-CAM weights of the contrast score that ``SCORES`` puts in the target's place.

    Source: Zhang et al. 2025
    """
    return gradcam(capture)


# ── one weight per channel and position ───────────────────────────────────────────────────────────


@weighting(
    "hirescam",
    label="HiResCAM",
    summary="each position of a channel weighted by its own gradient",
    formula="sum_c g_c A_c",
    needs="gradients",
    cost=_ONE_PASS,
    source="Draelos and Carin 2020, arXiv:2011.08891, eq. 4",
    caveat="equals Grad-CAM on a global-average-pooling head",
)
def hirescam(capture: Capture) -> Tensor:
    """The gradient itself, (N, K, C, P).  Source: Draelos and Carin 2020, eq. 4."""
    return capture.gradients


@weighting(
    "layercam",
    label="Layer-CAM",
    summary="each position of a channel weighted by its gradient where that is positive",
    formula="sum_c relu(g_c) A_c",
    needs="gradients",
    cost=_ONE_PASS,
    source="Jiang et al. 2021, TIP 30:5875, eqs 5 and 6",
)
def layercam(capture: Capture) -> Tensor:
    """relu(g), (N, K, C, P).  Source: Jiang et al. 2021, eq. 5."""
    return capture.gradients.clamp_min(0)


@CAMS.register(
    label="element-wise",
    summary="positive products of gradient and activation, summed over channels",
    formula="sum_c relu(g_c A_c)",
    needs="gradients",
    cost=_ONE_PASS,
    source="Gildenblat 2021, pytorch-grad-cam (GradCAMElementWise)",
    caveat="never negative, so it has no evidence against",
)
def elementwise(capture: Capture) -> Tensor:
    """sum_c relu(g A), (N, K, *grid)."""
    return capture.on_grid((capture.gradients * capture.activations[:, None]).clamp_min(0).sum(2))


# ── principal components ──────────────────────────────────────────────────────────────────────────


@CAMS.register(
    label="Eigen-CAM",
    summary="first principal component of the activations over the positions",
    formula="(A - mean A) v1",
    needs="activations",
    cost="one forward pass",
    source="Muhammad and Yeasin 2020, IJCNN",
    caveat="the same for every class; the sign of a component is arbitrary: it is turned so that it grows with the mean activation",
)
def eigencam(capture: Capture) -> Tensor:
    """Centered activations projected on their first principal direction, (N, K, *grid).

    The same for every k.
    """
    return capture.on_grid(
        first_component(capture.activations)[:, None].expand(-1, capture.scores.shape[1], -1)
    )


@CAMS.register(
    label="Eigen-Grad-CAM",
    summary="first principal component of gradient times activation",
    formula="(gA - mean gA) v1",
    needs="gradients",
    cost=_ONE_PASS,
    source="Gildenblat 2021, pytorch-grad-cam (EigenGradCAM), after Muhammad and Yeasin 2020",
    caveat="turned so that it grows with the sum over channels of gradient times activation (hirescam)",
)
def eigengradcam(capture: Capture) -> Tensor:
    """First principal component of g A over the positions, (N, K, *grid)."""
    return capture.on_grid(components(capture.gradients * capture.activations[:, None]))


def components(terms: Tensor) -> Tensor:
    """``first_component`` of (N, K, C, P) terms, (N, K, P)."""
    return first_component(terms.flatten(0, 1)).reshape(*terms.shape[:2], -1)


def first_component(terms: Tensor) -> Tensor:
    """Scores of the P positions of (N, C, P) on the first principal direction of the channels.

    returns : (N, P)

    Through the smaller Gram matrix (P x P, or C x C), in float64: centered X = U S V^T, the result
    is X v1 = u1 s1; a full SVD of C channels is never made.  Turned so that it grows with the sum
    over channels; zeros where all positions are equal.
    """
    if not len(terms):
        return terms.new_zeros(0, terms.shape[2])
    # One image at a time: its doubles fit the processor's cache, those of a batch do not, which
    # costs twice the time.
    return torch.stack([_first_scores(x.double()) for x in terms]).to(terms.dtype)


def _first_scores(x: Tensor) -> Tensor:
    """First principal scores of the columns of x (C, P), (P,)."""
    if x.shape[1] > x.shape[0]:
        x = x - x.mean(1, keepdim=True)
        scores = x.T @ torch.linalg.eigh(x @ x.T).eigenvectors[:, -1]
    else:
        gram = x.T @ x
        gram = (
            gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()
        )  # the Gram matrix of the centered columns
        values, vectors = torch.linalg.eigh(gram)
        scores = vectors[:, -1] * values[-1].clamp_min(0).sqrt()
    total = x.sum(0)
    turned: Tensor = _turned(scores[None], (total - total.mean())[None])[0] * scores
    return turned


def _turned(scores: Tensor, reference: Tensor) -> Tensor:
    """+1 or -1 per image, so that the scores (N, P) grow with the reference (N, P)."""
    agreement = (scores * reference).sum(1, keepdim=True)
    return torch.where(agreement < 0, -1.0, 1.0).to(scores.dtype)


@CAMS.register(
    label="KPCA-CAM",
    summary="first kernel principal component of the activations (sigmoid kernel)",
    formula="sqrt(l1) a1 of the centred tanh(x y / C + 1)",
    needs="activations",
    cost="one forward pass and an eigenvector of P x P",
    source="Karmani et al. 2024, IEEE MMSP (arXiv:2410.00267)",
    caveat="the same for every class; turned so that it grows with the mean activation",
)
def kpcacam(capture: Capture) -> Tensor:
    """Scores on the first kernel principal component, (N, K, *grid).

    Kernel tanh(<x, y> / C + 1) of the centered activations, double-centered.
    """
    x = capture.activations.double().transpose(1, 2)
    x = x - x.mean(1, keepdim=True)
    kernel = torch.tanh(x @ x.transpose(1, 2) / x.shape[2] + 1)
    kernel = (
        kernel
        - kernel.mean(1, keepdim=True)
        - kernel.mean(2, keepdim=True)
        + kernel.mean((1, 2), keepdim=True)
    )
    values, vectors = torch.linalg.eigh(kernel)
    scores = vectors[..., -1] * values[:, -1:].clamp_min(0).sqrt()
    scores = (scores * _turned(scores, x.sum(2))).to(capture.activations.dtype)
    return capture.on_grid(scores[:, None].expand(-1, capture.scores.shape[1], -1))
