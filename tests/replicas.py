"""Slow replicas: every formula written out index by index from its paper, in float64, without the code under test.

A family member without a replica makes its test red.
"""

from __future__ import annotations

import itertools

import numpy as np

NAN = float("nan")


# ── region metrics ──────────────────────────────────────────────────────────────────────────────────────────────────


def _heat(h):
    h = np.asarray(h, np.float64)
    return h if np.isfinite(h).all() and h.sum() > 0 else None


def relevance_mass_accuracy(h, m):
    """Arras et al. 2022, eq. 1."""
    h, m = _heat(h), np.asarray(m, np.float64)
    if h is None or m.sum() == 0:
        return NAN
    return sum(h[i, j] * m[i, j] for i, j in np.ndindex(h.shape)) / sum(
        h[i, j] for i, j in np.ndindex(h.shape)
    )


def mass_lift(h, m):
    """Kohlbrenner et al. 2020: inside-total ratio times S_tot / S_in."""
    return (
        relevance_mass_accuracy(h, m) * m.size / float(np.asarray(m, np.float64).sum())
        if np.sum(m)
        else NAN
    )


def pointing_game(h, m):
    """Zhang et al. 2018, averaged over every pixel that could be the argmax."""
    h, inside = _heat(h), np.asarray(m) >= 0.5
    if h is None or not inside.any():
        return NAN
    hottest = [place for place in np.ndindex(h.shape) if h[place] == h.max()]
    return float(np.mean([inside[place] for place in hottest]))


def relevance_rank_accuracy(h, m):
    """Arras et al. 2022, eq. 2, averaged over every order of the tied pixels at the cut (by linearity: their mean)."""
    h, inside = _heat(h), np.asarray(m) >= 0.5
    size = int(inside.sum())
    if h is None or size in (0, inside.size):
        return NAN
    cut = sorted(h.ravel(), reverse=True)[size - 1]
    sure = [p for p in np.ndindex(h.shape) if h[p] > cut]
    tied = [p for p in np.ndindex(h.shape) if h[p] == cut]
    hits = sum(inside[p] for p in sure) + (size - len(sure)) * np.mean([inside[p] for p in tied])
    return float(hits / size)


def auc(h, m):
    """Hanley and McNeil 1982: every pair of a pixel inside and one outside."""
    h, inside = _heat(h), np.asarray(m) >= 0.5
    if h is None or inside.all() or not inside.any():
        return NAN
    pairs = itertools.product(h[inside], h[~inside])
    return float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))


METRIC_REPLICAS = {
    f.__name__: f
    for f in (relevance_mass_accuracy, mass_lift, pointing_game, relevance_rank_accuracy, auc)
}


# ── heat maps ───────────────────────────────────────────────────────────────────────────────────────────────────────
# Each takes a double-precision network, a layer name, one image (1, C, H, W) and a class, and returns (h, w).


def _textbook(net, layer, x, klass):
    """Activations and gradients of one class's logit, by a graph through everything and a retained gradient."""
    import torch

    kept = {}

    def hook(module, args, output):
        output.retain_grad()
        kept["out"] = output

    handle = dict(net.named_modules())[layer].register_forward_hook(hook)
    with torch.enable_grad():
        logit = net(x.clone().requires_grad_())[0, klass]
        logit.backward()
    handle.remove()
    net.zero_grad(set_to_none=True)
    return kept["out"].detach()[0].numpy(), kept["out"].grad[0].numpy(), float(logit.detach())


def _logit(net, x, klass):
    import torch

    with torch.no_grad():
        return float(net(x)[0, klass])


def _bilinear(cam, size):
    """Bilinear resize, pixel centres at half-integers, border continued; one pixel at a time."""
    out = np.zeros(size)
    for i, j in np.ndindex(*size):
        y, x = (
            max((p + 0.5) * n / s - 0.5, 0) for p, n, s in zip((i, j), cam.shape, size, strict=True)
        )
        y0, x0 = int(y), int(x)
        y1, x1 = min(y0 + 1, cam.shape[0] - 1), min(x0 + 1, cam.shape[1] - 1)
        v, u = y - y0, x - x0
        out[i, j] = (1 - v) * ((1 - u) * cam[y0, x0] + u * cam[y0, x1]) + v * (
            (1 - u) * cam[y1, x0] + u * cam[y1, x1]
        )
    return out


def gradcam(net, layer, x, klass):
    """Selvaraju et al. 2020: alpha_k = 1/Z sum_ij dy/dA_ij (eq. 1), L = sum_k alpha_k A_k before the ReLU (eq. 2)."""
    A, g, _ = _textbook(net, layer, x, klass)
    L = np.zeros(A.shape[1:])
    for k in range(len(A)):
        alpha = sum(g[k, i, j] for i, j in np.ndindex(L.shape)) / L.size
        for i, j in np.ndindex(L.shape):
            L[i, j] += alpha * A[k, i, j]
    return L


def gradcam_plus_plus(net, layer, x, klass):
    """Chattopadhay et al. 2018: alpha of eq. 19 with Y = exp(score), w of eq. 7; the common factor exp(score) is left out."""
    A, g, _ = _textbook(net, layer, x, klass)
    L = np.zeros(A.shape[1:])
    for k in range(len(A)):
        w, total = 0.0, A[k].sum()
        for i, j in np.ndindex(L.shape):
            d1, d2, d3 = g[k, i, j], g[k, i, j] ** 2, g[k, i, j] ** 3
            if d1 > 0 and 2 * d2 + total * d3 != 0:
                w += d2 / (2 * d2 + total * d3) * d1
        L += w * A[k]
    return L


def xgradcam(net, layer, x, klass):
    """Fu et al. 2020, eq. 8: w_k = sum_ij (A_ij / sum_ab A_ab) dS/dA_ij."""
    A, g, _ = _textbook(net, layer, x, klass)
    L = np.zeros(A.shape[1:])
    for k in range(len(A)):
        if A[k].sum() != 0:
            L += sum(A[k, i, j] / A[k].sum() * g[k, i, j] for i, j in np.ndindex(L.shape)) * A[k]
    return L


def cam(net, layer, x, klass):
    """Zhou et al. 2016, eq. 2: M_c = sum_k w_k^c f_k, with w read from the linear layer."""
    A, _, _ = _textbook(net, layer, x, klass)
    w = net.fc.weight.detach().numpy()[klass]
    return sum(w[k] * A[k] for k in range(len(A)))


def shapleycam(net, layer, x, klass):
    """Cai 2025: weights are the mean over positions of g - 1/2 H vec(A), with the whole Hessian of the head written out."""
    import torch

    A, g, _ = _textbook(net, layer, x, klass)

    def head(flat):
        replaced = flat.reshape(1, *A.shape)
        handle = dict(net.named_modules())[layer].register_forward_hook(lambda m, a, o: replaced)
        out = net(x)[0, klass]
        handle.remove()
        return out

    flat = torch.from_numpy(A).reshape(-1)
    H = torch.autograd.functional.hessian(head, flat).numpy()
    w = (g - 0.5 * (H @ A.reshape(-1)).reshape(A.shape)).mean((1, 2))
    return sum(w[k] * A[k] for k in range(len(A)))


def finercam(net, layer, x, klass):
    """Zhang et al. 2025: Grad-CAM of the class minus the mean Grad-CAM of the three classes with the nearest logits."""
    import torch

    with torch.no_grad():
        z = net(x)[0].numpy()
    nearest = sorted((d for d in range(len(z)) if d != klass), key=lambda d: abs(z[d] - z[klass]))[
        :3
    ]
    return gradcam(net, layer, x, klass) - np.mean([gradcam(net, layer, x, d) for d in nearest], 0)


def hirescam(net, layer, x, klass):
    """Draelos and Carin 2020, eq. 4: sum_k dy/dA_k * A_k, element by element."""
    A, g, _ = _textbook(net, layer, x, klass)
    return sum(g[k] * A[k] for k in range(len(A)))


def layercam(net, layer, x, klass):
    """Jiang et al. 2021, eqs 5 and 6: w_ij = relu(g_ij), M = sum_k w_k A_k."""
    A, g, _ = _textbook(net, layer, x, klass)
    return sum(np.maximum(g[k], 0) * A[k] for k in range(len(A)))


def elementwise(net, layer, x, klass):
    A, g, _ = _textbook(net, layer, x, klass)
    return sum(np.maximum(g[k] * A[k], 0) for k in range(len(A)))


def _principal(terms):
    """First principal component by a full SVD, turned to grow with the sum over channels."""
    X = terms.reshape(len(terms), -1).T
    X = X - X.mean(0)
    _, _, vt = np.linalg.svd(X, full_matrices=True)
    scores = X @ vt[0]
    return (scores * (1 if scores @ X.sum(1) >= 0 else -1)).reshape(terms.shape[1:])


def eigencam(net, layer, x, klass):
    return _principal(_textbook(net, layer, x, klass)[0])


def eigengradcam(net, layer, x, klass):
    A, g, _ = _textbook(net, layer, x, klass)
    return _principal(A * g)


def kpcacam(net, layer, x, klass):
    """Karmani et al. 2024 with scikit-learn's kernel PCA."""
    from sklearn.decomposition import KernelPCA

    A, _, _ = _textbook(net, layer, x, klass)
    X = A.reshape(len(A), -1).T
    X = X - X.mean(0)
    scores = KernelPCA(n_components=1, kernel="sigmoid").fit_transform(X)[:, 0]
    return (scores * (1 if scores @ X.sum(1) >= 0 else -1)).reshape(A.shape[1:])


def _with_layer(net, layer, x, klass, value):
    import torch

    handle = dict(net.named_modules())[layer].register_forward_hook(
        lambda m, a, o: torch.from_numpy(value)[None]
    )
    try:
        return _logit(net, x, klass)
    finally:
        handle.remove()


def ablationcam(net, layer, x, klass):
    """Desai and Ramaswamy 2020, eq. 5: w_k = (y - y_k) / y, y_k with channel k set to zero."""
    A, _, y = _textbook(net, layer, x, klass)
    L = np.zeros(A.shape[1:])
    for k in range(len(A)):
        ablated = A.copy()
        ablated[k] = 0
        L += (y - _with_layer(net, layer, x, klass, ablated)) / y * A[k]
    return L


def scorecam(net, layer, x, klass):
    """Wang et al. 2020, algorithm 1: H = s(Up(A_k)), S_k = f(X o H) - f(X_b), alpha = softmax(S)."""
    import torch

    A, _, _ = _textbook(net, layer, x, klass)
    baseline = _logit(net, torch.zeros_like(x), klass)
    S = []
    for k in range(len(A)):
        if A[k].max() == A[k].min():
            S.append(-np.inf)
            continue
        up = _bilinear(A[k], x.shape[2:])
        H = (up - up.min()) / (up.max() - up.min())
        S.append(_logit(net, x * torch.from_numpy(H), klass) - baseline)
    alpha = np.exp(np.array(S) - max(S))
    alpha /= alpha.sum()
    return sum(alpha[k] * A[k] for k in range(len(A)))


def occlusion(net, layer, x, klass):
    """Zeiler and Fergus 2014: the drop of the score under each patch, averaged over the patches that cover a pixel."""
    size = x.shape[2:]
    window, stride = [max(1, s // 8) for s in size], [max(1, s // 8 // 2) for s in size]
    y, total, count = _logit(net, x, klass), np.zeros(size), np.zeros(size)
    starts = [
        [s for s in range(0, side, st) if s < side and (s == 0 or s - st + w < side)]
        for side, w, st in zip(size, window, stride, strict=True)
    ]
    for i, j in itertools.product(*starts):
        covered = x.clone()
        covered[:, :, i : i + window[0], j : j + window[1]] = 0
        drop = y - _logit(net, covered, klass)
        total[i : i + window[0], j : j + window[1]] += drop
        count[i : i + window[0], j : j + window[1]] += 1
    return total / count


def rise(net, layer, x, klass):
    """Petsiuk et al. 2018, eq. 6, with the mean score taken off; the masks themselves are drawn by the same seed."""
    import torch

    from gradaudit.attribution.perturbation_methods import rise_masks

    masks = rise_masks(1000, tuple(x.shape[2:]), 7, 0.5, 0).double()
    with torch.no_grad():
        scores = [float(s) for part in masks.split(100) for s in net(x * part[:, None])[:, klass]]
    mean = float(np.mean(scores))
    return sum((s - mean) * m.numpy() for s, m in zip(scores, masks, strict=True)) / (1000 * 0.5)


def _input_gradient(net, x, klass):
    import torch

    with torch.enable_grad():
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(net(leaf)[0, klass], leaf)
    return gradient[0].numpy()


def _largest(gradient):
    out = np.zeros(gradient.shape[1:])
    for i, j in np.ndindex(out.shape):
        out[i, j] = max(abs(gradient[c, i, j]) for c in range(len(gradient)))
    return out


def saliency(net, layer, x, klass):
    """Simonyan et al. 2014, sec. 3.1: M_ij = max_c |w_ijc|."""
    return _largest(_input_gradient(net, x, klass))


def _ruled(net, x, klass, guided):
    """The gradient with every ReLU of a copy replaced by a module with backward hooks of its own."""
    import copy

    import torch
    from torch import nn

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):
            ctx.save_for_backward(v)
            return torch.where(v > 0, v, torch.zeros_like(v))

        @staticmethod
        def backward(ctx, g):
            (v,) = ctx.saved_tensors
            out = torch.where(g > 0, g, torch.zeros_like(g))
            return torch.where(v > 0, out, torch.zeros_like(out)) if guided else out

    class Ruled(nn.Module):
        def forward(self, v):
            return Rule.apply(v)

    twin = copy.deepcopy(net)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, Ruled())
    return _input_gradient(twin, x, klass)


def guided_backprop(net, layer, x, klass):
    return _largest(_ruled(net, x, klass, guided=True))


def deconvnet(net, layer, x, klass):
    return _largest(_ruled(net, x, klass, guided=False))


def guided_gradcam(net, layer, x, klass):
    """Selvaraju et al. 2020, sec. 3.2: guided backprop times the upsampled ReLU'd Grad-CAM."""
    return guided_backprop(net, layer, x, klass) * _bilinear(
        np.maximum(gradcam(net, layer, x, klass), 0), tuple(x.shape[2:])
    )


def smoothgrad(net, layer, x, klass):
    """Smilkov et al. 2017, eq. 1, 25 samples, sigma 15 % of the image's range."""
    import torch

    generator, sigma = torch.Generator().manual_seed(0), 0.15 * float(x.max() - x.min())
    noise = [torch.randn(x.shape, generator=generator).to(x.dtype) for _ in range(25)]
    return _largest(np.mean([_input_gradient(net, x + sigma * n, klass) for n in noise], 0))


def fullgrad(net, layer, x, klass):
    """Srinivas and Fleuret 2019, eq. 6, for the convolutions and batch norms with a bias."""
    import torch
    from torch import nn

    def psi(values):
        v = np.abs(values)
        v = (v - v.min()) / (v.max() - v.min())
        return sum(_bilinear(v[c], tuple(x.shape[2:])) for c in range(len(v)))

    total = psi(_input_gradient(net, x, klass) * x[0].numpy())
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            bias = module.bias
        elif isinstance(module, nn.BatchNorm2d):
            bias = (
                module.bias
                - module.running_mean / torch.sqrt(module.running_var + module.eps) * module.weight
            )
        else:
            continue
        _, g, _ = _textbook(net, name, x, klass)
        total = total + psi(g * bias.detach().numpy()[:, None, None])
    return total


CAM_REPLICAS = {
    "gradcam++": gradcam_plus_plus,
    **{
        f.__name__: f
        for f in (
            gradcam, xgradcam, cam, shapleycam, finercam, hirescam, layercam, elementwise, eigencam, eigengradcam, kpcacam, ablationcam, scorecam,
            occlusion, rise, saliency, guided_backprop, deconvnet, guided_gradcam, smoothgrad, fullgrad,
        )
    },
}  # fmt: skip
