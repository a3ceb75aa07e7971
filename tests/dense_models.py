"""A design with covariates, and its estimates by dense matrices, as the papers write them."""

import numpy as np


def a_design(seed=0, n=60, levels=3, z=4):
    rng = np.random.default_rng(seed)
    codes = np.r_[np.arange(levels), rng.integers(0, levels, n - levels)]
    covariates = rng.normal(size=(n, z)) + codes[:, None]
    y = rng.normal(size=n) + covariates @ rng.normal(size=z)
    return codes, covariates, y


def dense(codes, covariates):
    return np.hstack([np.eye(codes.max() + 1)[codes], covariates])


def dense_contrast(x, c, y):
    """Estimate, HC2 SE and Bell-McCaffrey df with n x n matrices, as the papers write them."""
    inverse = np.linalg.inv(x.T @ x)
    hat = x @ inverse @ x.T
    residual = y - hat @ y
    w = x @ inverse @ c
    left = np.eye(len(y)) - hat
    se = np.sqrt(np.sum(w**2 * residual**2 / np.diag(left)))
    g = left * (w / np.sqrt(np.diag(left)))  # column i: (I - H)_i w_i / sqrt(1 - h_i)
    values = np.linalg.eigvalsh(g.T @ g)
    return w @ y, se, values.sum() ** 2 / (values**2).sum()
