"""Textures: noise, networks of lines, soft edges, mixing and blurring."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

Field = NDArray[np.floating[Any]]

TILE = 400
"""Side of the pigment-network tiles in pixels; scenes cut random windows out of them."""

TURN = 720
"""Steps of the full turn in which a lesion's outline is tabulated."""


# ── textures ──────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def noise_tile(size: int, grain: float) -> Field:
    """Smooth Gaussian noise of mean 0 and standard deviation 1, five images wide.

    ``noise_field`` cuts windows out of it.
    """
    side = 5 * size
    rng = np.random.default_rng([size, round(grain * 1000)])
    step = max(1.0, grain * size / 2)  # pixels to a node
    nodes = rng.standard_normal((math.ceil(side / step) + 3,) * 2, dtype=np.float32)
    wide = Image.fromarray(nodes).resize(
        (math.ceil(len(nodes) * step),) * 2, Image.Resampling.BICUBIC
    )
    tile = np.asarray(wide)[int(step) : int(step) + side, int(step) : int(step) + side]
    return np.ascontiguousarray((tile - tile.mean()) / tile.std())


def noise_field(rng: np.random.Generator, size: int, grain: float) -> Field:
    """Noise with features of ``grain`` half-widths, (S, S): a random window of a noise tile.

    The window is turned and mirrored at random; it is a view of the tile.
    """
    top, left, turn = rng.integers(0, (4 * size, 4 * size, 8)).tolist()
    window = noise_tile(size, grain)[top : top + size, left : left + size]
    window = window[:: 1 - 2 * (turn & 1), :: 1 - (turn & 2)]
    return window.T if turn & 4 else window


def smooth_step(values: Field) -> Field:
    """1 / (1 + exp(-values)), without overflow; (S, S) in (0, 1)."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), np.float32)


@functools.cache
def network_tile(kind: int) -> Field:
    """A honeycomb of pigment lines, 0 (hole) to 1 (line).

    Even kinds are regular, odd ones broken and uneven.
    """
    rng = np.random.default_rng(7000 + kind)
    pitch, jitter = (9.5, 0.30) if kind % 2 == 0 else (12.0, 0.55)
    rows = np.arange(-2, TILE / (pitch * 0.87) + 2)
    grid = np.stack(np.meshgrid(np.arange(-2, TILE / pitch + 2), rows), -1).astype(float)
    grid[..., 0] += 0.5 * (grid[..., 1] % 2)
    points = (grid * [pitch, pitch * 0.87] + rng.normal(0, jitter * pitch / 2, grid.shape)).reshape(
        -1, 2
    )
    yy, xx = np.mgrid[0:TILE, 0:TILE]
    near, _ = cKDTree(points).query(np.stack([xx, yy], -1).reshape(-1, 2), k=2)
    gap = (near[:, 1] - near[:, 0]).reshape(TILE, TILE)
    width = (
        2.1
        if kind % 2 == 0
        else 2.4 + 1.3 * gaussian_filter(rng.standard_normal((TILE, TILE)), 14) * 40
    )
    return np.asarray(np.clip(1 - gap / np.maximum(width, 0.4), 0, 1), np.float32)


def network_field(rng: np.random.Generator, size: int, irregular: bool) -> Field:
    """A random window of a pigment network, (S, S) in [0, 1]."""
    tile = network_tile(2 * int(rng.integers(0, 2)) + int(irregular))
    zoom = rng.uniform(0.62, 0.90) * size / 192
    span = min(TILE, math.ceil(size / zoom))
    top, left = rng.integers(0, TILE - span + 1, 2)
    window = np.rot90(tile[top : top + span, left : left + span], int(rng.integers(0, 4)))
    cut = Image.fromarray(np.ascontiguousarray(window)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return np.asarray(np.clip(np.asarray(cut), 0, 1), np.float32)


# ── what lies on the skin ─────────────────────────────────────────────────────────────────────────


def mixture(rgb: Field, other: Field | np.float32, cover: Field) -> Field:
    """``other`` laid over ``rgb`` where ``cover`` is 1, and mixed linearly below that."""
    return np.asarray(rgb + (other - rgb) * cover, np.float32)


def blurred(rgb: Field, sigma: float) -> Field:
    """Gaussian blur by three taps a side, enough for sigma < 1 pixel."""
    near = np.float32(math.exp(-0.5 / sigma**2))
    for axis in (1, 2):
        wide = np.pad(rgb, [(int(axis == a),) * 2 for a in range(3)], mode="edge")
        n = rgb.shape[axis]
        first, last = wide.take(range(n), axis), wide.take(range(2, n + 2), axis)
        rgb = (rgb + near * (first + last)) / (1 + 2 * near)
    return rgb
