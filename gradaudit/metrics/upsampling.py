"""The linear operator of bilinear upsampling and its adjoint.

With it a heat share is exact on the map's own grid, ``<mask, U cam> = <U^T mask, cam>``, and no
full-size map is made.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradaudit.metrics import arrays
from gradaudit.metrics.arrays import Array

# ── upsampling as a matrix ────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=256)
def upsampling_matrix(size: int, cells: int) -> NDArray[np.float64]:
    """The (size, cells) matrix W of bilinear resizing along one axis; each row sums to 1.

    upsampled = W_h @ map @ W_w.T

    Equals ``F.interpolate(mode="bilinear", align_corners=False)`` and ``cv2.resize(INTER_LINEAR)``:
    pixel centers at half-integers, the border cell continued beyond its center.
    """
    source = np.maximum((np.arange(size) + 0.5) * cells / size - 0.5, 0.0)
    low = np.minimum(source.astype(np.int64), cells - 1)
    high = np.minimum(low + 1, cells - 1)
    weight = source - low
    matrix = np.zeros((size, cells))
    np.add.at(matrix, (np.arange(size), low), 1.0 - weight)
    np.add.at(matrix, (np.arange(size), high), weight)
    matrix.flags.writeable = False
    return matrix


def upsample(maps: Array, size: tuple[int, int]) -> Array:
    """Bilinear resize of maps (..., h, w) to (..., H, W), float64: W_h @ map @ W_w.T."""
    rows, columns = (
        arrays.like(upsampling_matrix(big, small), maps)
        for big, small in zip(size, maps.shape[-2:], strict=True)
    )
    return rows @ arrays.double(maps) @ columns.T


def project(masks: Array, grid: tuple[int, int]) -> Array:
    """The adjoint of ``upsample``: masks (..., H, W) -> weights (..., h, w) float64.

    <mask, U map> = <weights, map>
    """
    rows, columns = (
        arrays.like(upsampling_matrix(big, small), masks)
        for big, small in zip(masks.shape[-2:], grid, strict=True)
    )
    return rows.T @ (arrays.double(masks) @ columns)


@lru_cache(maxsize=64)
def whole_projection(size: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float64]:
    """How many pixels each cell of the grid stands for, (h, w).

    The projection of a mask that covers the whole image.
    """
    rows, columns = (
        upsampling_matrix(big, small).sum(0) for big, small in zip(size, grid, strict=True)
    )
    projection = np.outer(rows, columns)
    projection.flags.writeable = False
    return projection
