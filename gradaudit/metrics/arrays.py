"""The few array operations that numpy and torch spell differently."""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A numpy array or a torch tensor; results are of the kind of the argument."""


def namespace(array: Array) -> Any:
    """numpy, or torch if the array is a tensor; torch is never imported for it."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, NaN where the denominator is not above 0."""
    xp = namespace(numerator)
    defined = denominator > 0
    safe = xp.where(defined, denominator, xp.ones_like(denominator))
    return xp.where(
        defined & xp.isfinite(numerator), numerator / safe, xp.full_like(safe, float("nan"))
    )


def double(array: Array) -> Array:
    return array.astype(np.float64) if isinstance(array, np.ndarray) else array.double()


def flat(array: Array, keep: int) -> Array:
    return array.reshape(*array.shape[:keep], prod(array.shape[keep:]))


def nonzero(values: Array) -> Array:
    return np.flatnonzero(values) if isinstance(values, np.ndarray) else values.nonzero()[:, 0]


def count(inside: Array) -> Any:
    """How many are True along the last axis."""
    return np.count_nonzero(inside, axis=-1) if isinstance(inside, np.ndarray) else inside.sum(-1)


def single(heat: Array) -> Array:
    xp = namespace(heat)
    if heat.dtype == xp.float64:
        finite = xp.where(xp.isfinite(heat), heat, xp.zeros_like(heat))
        top = finite.max(1, keepdims=True) if xp is np else finite.amax(1, keepdim=True)
        heat = heat / xp.where(top > 0, top, xp.ones_like(top))
    return heat.astype(np.float32) if xp is np else heat.float()


def integers32(values: Array) -> Array:
    return values.astype(np.int32) if isinstance(values, np.ndarray) else values.int()


def long(values: Array) -> Array:
    return values.astype(np.int64) if isinstance(values, np.ndarray) else values.long()


def where_defined(defined: Array, numerator: Array, denominator: Array) -> Array:
    """numerator / denominator where ``defined``, else NaN."""
    xp = namespace(denominator)
    safe = double(xp.where(defined, denominator, xp.ones_like(denominator)))
    return xp.where(defined, double(numerator) / safe, xp.full_like(safe, float("nan")))


def like(matrix: NDArray[np.float64], array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return matrix
    return sys.modules["torch"].tensor(matrix, device=array.device)
