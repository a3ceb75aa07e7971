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
    return sum(h[i, j] * m[i, j] for i, j in np.ndindex(h.shape)) / sum(h[i, j] for i, j in np.ndindex(h.shape))


def mass_lift(h, m):
    """Kohlbrenner et al. 2020: inside-total ratio times S_tot / S_in."""
    return relevance_mass_accuracy(h, m) * m.size / float(np.asarray(m, np.float64).sum()) if np.sum(m) else NAN


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


METRIC_REPLICAS = {f.__name__: f for f in (relevance_mass_accuracy, mass_lift, pointing_game, relevance_rank_accuracy, auc)}
