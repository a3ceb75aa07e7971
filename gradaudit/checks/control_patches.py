"""A patch like the region, somewhere else in the same image: the control of a removal.

Whatever filling a patch of this size and shape does to the score of itself, the control does too.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from gradaudit.checks.fills import Bools

FREE_SHARE = 0.8
"""Smallest share of the patch that lies on free pixels."""


def control_patch(goes: Bools, free: Bools, random: np.random.Generator) -> Bools | None:
    """A patch of the region's shape on pixels that belong to no region.

    One is drawn at random among all places of the eight turned and mirrored shapes that lie inside
    the image and wholly on free pixels (found by fast Fourier transform).  Where there is none,
    among those with the most free pixels, at least ``FREE_SHARE``; what of it is not free stays as
    it is.  A control that is smaller than its region changes less, so that a whole one comes first.

    goes : (H, W) pixels of the region      free : (H, W) pixels of no region
    returns : (H, W), None where there is no such place
    """
    if not goes.any() or not free.any():
        return None
    shapes = _turned(goes)
    counts = [_free_under(shape, free) for shape in shapes]
    most = max(float(count.max(initial=0)) for count in counts)
    if most < FREE_SHARE * float(goes.sum()) - 1e-9:
        return None
    places = [np.argwhere(count == most) for count in counts]
    ends = np.cumsum([len(found) for found in places])
    drawn = int(random.integers(ends[-1]))
    which = int(np.searchsorted(ends, drawn, side="right"))
    top, left = places[which][drawn - (ends[which] - len(places[which]))]
    height, width = shapes[which].shape
    out = np.zeros_like(goes)
    out[top : top + height, left : left + width] = shapes[which]
    return out & free


def _turned(goes: Bools) -> list[Bools]:
    """The region's bounding box in its eight orientations."""
    rows, columns = np.flatnonzero(goes.any(axis=1)), np.flatnonzero(goes.any(axis=0))
    box = goes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [np.rot90(one, turns) for one in (box, box[:, ::-1]) for turns in range(4)]


def _free_under(shape: Bools, free: Bools) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Free pixels under the shape, for every place at which it lies inside the image."""
    if shape.shape[0] > free.shape[0] or shape.shape[1] > free.shape[1]:
        return np.empty((0, 0))
    found = signal.fftconvolve(free.astype(np.float64), shape[::-1, ::-1].astype(float), "valid")
    return np.asarray(np.rint(found), dtype=np.float64)  # they are counts
