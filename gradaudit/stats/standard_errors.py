"""Standard errors that allow every row its own variance, and their degrees of freedom."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gradaudit.stats.family import STATISTICS, Floats, Ints
from gradaudit.stats.linear_model import Design


def leverage_factor(leverage: Floats) -> Floats:
    """1 / (1 - h), and 0 for a row that its own coefficient fits exactly.

    Such a row carries no information on the error.
    """
    left = 1 - leverage
    return np.asarray(np.where(left > 1e-9, 1 / np.maximum(left, 1e-9), 0.0))


@STATISTICS.register(
    label="HC2 standard error",
    summary="Standard error that allows every row its own variance.",
    formula="SE² = Σ w_i² e_i² / (1 − h_i),  w = X(XᵀX)⁻¹c",
    source="MacKinnon & White 1985, J. Econometrics 29:305, HC2",
    caveat="Equal to Welch's standard error where there are no covariates.",
)
def hc2(fit: Design, residuals: Floats, weights: Floats) -> Floats:
    """HC2 covariance of the contrasts, (k, k); square roots of its diagonal are the SEs.

    residuals : (n,)
    weights : (n, k) row weights of the contrasts
    """
    d = residuals**2 * leverage_factor(fit.leverage)
    return np.asarray(weights.T @ (weights * d[:, None]))


@STATISTICS.register(
    label="Bell-McCaffrey degrees of freedom",
    summary="Degrees of freedom of a t statistic with an HC2 or CR2 standard error.",
    formula="df = tr(MD)² / tr((MD)²),  D_i = w_i²/(1 − h_i)",
    source="Bell & McCaffrey 2002, Survey Methodology 28:169; Imbens & Kolesár 2016, Rev. Econ. Stat. 98:701",
)
def bell_mccaffrey(fit: Design, weights: Floats) -> Floats:
    """Degrees of freedom of each contrast with row weights ``weights`` (n, k): (k,).

    With M = I - QQ', tr((MD)^2) = sum (1 - 2 h_i) D_i^2 + ||Q'DQ||^2, so nothing of size n x n is
    formed.
    """
    factor = leverage_factor(fit.leverage)
    out = np.empty(weights.shape[1])
    for k in range(weights.shape[1]):
        d = weights[:, k] ** 2 * factor
        trace = float(np.sum(d * (1 - fit.leverage)))
        square = float(np.sum((1 - 2 * fit.leverage) * d**2)) + fit.gram_square(d)
        out[k] = trace**2 / square if square > 0 else np.nan
    return out


@STATISTICS.register(
    label="CR2 standard error",
    summary="Cluster-robust standard error: images of a patient weighted 1/n, or patients of a site.",
    formula="SE² = Σ_p (w_pᵀ A_p e_p)²,  A_p = (I − H_pp)^(−1/2)",
    source="Bell & McCaffrey 2002; Pustejovsky & Tipton 2018, J. Bus. Econ. Stat. 36:672",
    needs='[analysis] site, or disparity(unit="image")',
)
def cr2(basis: Floats, residuals: Floats, weights: Floats, clusters: Ints) -> tuple[float, float]:
    """CR2 standard error and Bell-McCaffrey degrees of freedom of one contrast.

    Nothing of the size rows x rows of a cluster is formed: I - H_pp has the eigenvalue 1 but for
    the span of the cluster's rows of the basis.

    basis : (n, p) orthonormal columns of the (weighted) model      residuals, weights : (n,)
    clusters : (n,) int 0..P-1, sorted (all rows of a cluster side by side)
    """
    starts = np.r_[np.flatnonzero(np.r_[True, np.diff(clusters) != 0]), len(clusters)]
    total, lengths = 0.0, []
    inner = np.empty((len(starts) - 1, basis.shape[1]))
    for s, (a, b) in enumerate(pairwise(starts)):
        q, w = basis[a:b], weights[a:b]
        vector, singular, _ = np.linalg.svd(q, full_matrices=False)
        left = 1 - singular**2  # the other eigenvalues of I - H are 1
        root = np.where(left > 1e-9, np.maximum(left, 1e-9) ** -0.5, 0.0)
        u = w + vector @ ((root - 1) * (vector.T @ w))
        total += float(u @ residuals[a:b]) ** 2
        inner[s] = q.T @ u
        lengths.append(float(u @ u))
    size, shared = np.asarray(lengths), np.einsum("ij,ij->i", inner, inner)
    trace = float(np.sum(size - shared))
    square = float(np.sum(size**2) - 2 * np.sum(size * shared) + np.sum((inner.T @ inner) ** 2))
    return float(np.sqrt(total)), trace**2 / square if square > 0 else float("nan")
