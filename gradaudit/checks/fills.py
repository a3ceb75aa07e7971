"""What takes a region's place: the family FILLS.

An image and the pixels that go come in; the values that take their place go out.  No fill is the
truth: what is said of a region has to hold under two of them that err in different ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gradaudit.registry import Family

Pixels = NDArray[np.float32]
Bools = NDArray[np.bool_]
Fill = Callable[[Pixels, Bools, Bools, np.random.Generator], Pixels]
"""(image (C, H, W), pixels that go (H, W), pixels that may be copied (H, W), random numbers) ->
(C, n) new values of the n pixels that go, in row order."""

FILLS: Family[Fill] = Family("fills")
REACH = 8
"""Width of the ring around a region that its fill is taken from, in pixels of the network's input."""
FEWEST_PIXELS = 30
"""A ring that holds fewer is widened."""
_SQUARE = np.ones((3, 3), bool)


@FILLS.register(
    label="resampled ring",
    summary="Each pixel takes the value of a pixel drawn at random from the ring around the region.",
    formula=f"x'(p) = x(q), q drawn from the free pixels at most {REACH} px away from the region",
    source="noise as a neutral fill: Rong et al. 2022, ICML (ROAD), sec. 4",
    caveat="Texture stays and its order goes: a network that reacts to roughness reacts to it.",
)
def ring(image: Pixels, goes: Bools, source: Bools, random: np.random.Generator) -> Pixels:
    """Values drawn with replacement, all channels of a pixel together."""
    values = image[:, source]
    return values[:, random.integers(values.shape[1], size=int(goes.sum()))]


@FILLS.register(
    label="mean of the surroundings",
    summary="Each pixel takes the mean color of the ring around the region.",
    formula=f"x'(p) = mean of x over the free pixels at most {REACH} px away from the region",
    source="mean fill: Hooker et al. 2019, NeurIPS (ROAR), sec. 3",
    caveat="It is smooth: a network that reacts to a flat patch reacts to it.",
)
def mean(image: Pixels, goes: Bools, source: Bools, random: np.random.Generator) -> Pixels:
    """One value per channel; no random number is drawn."""
    values = image[:, source].mean(axis=1, dtype=np.float64).astype(np.float32)
    return np.repeat(values[:, None], int(goes.sum()), axis=1)


def widened(mask: NDArray[Any]) -> Bools:
    """The pixels that a region touches, and one more around: resizing spreads it that far.

    mask : (H, W) coverage, 0 to 1
    """
    return np.asarray(ndimage.binary_dilation(mask > 0, _SQUARE), dtype=bool)


def surroundings(goes: Bools, free: Bools) -> Bools | None:
    """The pixels a fill may be taken from: the ring around those that go.

    free : (H, W) pixels that belong to no annotated region
    returns : free pixels near the region, from wider rings until there are ``FEWEST_PIXELS``; all
        free pixels where no ring holds as many, everything but the region where nothing is free;
        None where the region is the whole image
    """
    distance = ndimage.distance_transform_cdt(~goes, metric="chessboard")
    reach = REACH
    while reach < max(goes.shape):
        near = (distance <= reach) & free & ~goes
        if near.sum() >= FEWEST_PIXELS:
            return np.asarray(near)
        reach *= 2
    for anywhere in (free & ~goes, ~goes):
        if anywhere.any():
            return np.asarray(anywhere)
    return None


def filled(
    image: Pixels, goes: Bools, source: Bools, fill: str, random: np.random.Generator
) -> Pixels:
    """A copy of the image (C, H, W) in which the pixels that go have new values.

    source : see ``surroundings``      fill : name of a member of ``FILLS``
    """
    out = image.copy()
    out[:, goes] = FILLS.get(fill)(image, goes, source, random)
    return out


def part(goes: Bools, dose: float) -> Bools:
    """A contiguous part of the pixels: the first ``dose`` of them along the region's longer axis.

    dose : 0 < dose <= 1
    """
    if dose >= 1:
        return goes
    places = np.argwhere(goes)
    offsets = places - places.mean(axis=0)
    axis = np.linalg.svd(offsets, full_matrices=False)[2][0]
    first = places[np.argsort(offsets @ axis, kind="stable")[: max(1, round(dose * len(places)))]]
    out = np.zeros_like(goes)
    out[tuple(first.T)] = True
    return out
