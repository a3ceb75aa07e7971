"""Mass metrics: how much of the heat lies in a region; and the family METRICS with its reasons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradaudit.metrics import arrays
from gradaudit.metrics.arrays import Array
from gradaudit.registry import Family

METRICS: Family[Callable[..., Array]] = Family("metrics")


# ── masses ────────────────────────────────────────────────────────────────────────────────────────


@METRICS.register(
    label="heat share",
    summary="fraction of the image's heat that falls inside the region",
    formula="sum_R h / sum h",
    range="0 to 1",
    unit="share",
    source="Arras et al. 2022, Information Fusion 81:14, eq. 1 (= energy-based pointing game, Wang 2020; inside-total ratio, Kohlbrenner 2020)",
    caveat="a uniform map scores the region's area share",
)
def relevance_mass_accuracy(heat: Array, masks: Array) -> Array:
    """Fraction of an image's heat that falls inside each region: 0 none, 1 all.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W) float in [0, 1]
    returns : (N, R) float64; NaN where the heat is zero or not finite, or the region empty
    Source: Arras et al. 2022, eq. 1
    """
    h, m = arrays.double(arrays.flat(heat, 1)), arrays.double(arrays.flat(masks, 2))
    return heat_share((m @ h[:, :, None])[:, :, 0], h.sum(1), m.sum(2))


def heat_share(inside: Array, total: Array, area: Array) -> Array:
    """inside (N, R) / total (N,), NaN where the total or the region's area (N, R) is 0.

    Both forms of the heat share end here.
    """
    xp = arrays.namespace(inside)
    share = arrays.ratio(inside, total[:, None] + xp.zeros_like(inside))
    return xp.where(area > 0, share, xp.full_like(share, float("nan")))


@METRICS.register(
    label="mass lift",
    summary="heat share divided by the region's area share: how much denser the heat is inside than on average",
    formula="heat share / area share",
    range="0 to 1/area share; 1 is a uniform map",
    unit="ratio",
    source="Kohlbrenner et al. 2020, IJCNN (weighted inside-total ratio)",
    caveat="bounded by 1/area share, so small regions reach higher values",
)
def mass_lift(heat: Array, masks: Array) -> Array:
    """Heat share over area share: 1 for a uniform map, at most 1 / area share.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W) float in [0, 1]
    returns : (N, R) float64; NaN where the heat share is
    Source: Kohlbrenner et al. 2020, weighted inside-total ratio
    """
    return arrays.ratio(relevance_mass_accuracy(heat, masks), area_share(masks))


def area_share(masks: Array) -> Array:
    """Fraction of the image's area that each region covers, (N, R) float64 in [0, 1]."""
    return arrays.double(arrays.flat(masks, 2)).mean(2)


# ── reasons ───────────────────────────────────────────────────────────────────────────────────────


def reasons(heat: Array, masks: Array, cell_area: float = 0.0) -> list[list[str]]:
    """N x R codes of ``records.REASONS``: why a metric is undefined, "" where none is.

    The first that applies of non_finite, zero_heat, empty_mask, mask_below_cell, full_mask.

    cell_area : pixels of one cell of the map's grid; a region smaller than it keeps its numbers,
        with the reason ``mask_below_cell``.
    ``full_mask`` keeps the mass metrics and leaves the ranking metrics undefined.
    """
    h = np.asarray(arrays.flat(heat, 1))
    flat = np.asarray(arrays.flat(masks, 2))
    finite, positive = (np.asarray(flags) for flags in (np.isfinite(h).all(1), (h > 0).any(1)))
    area, pixels = flat.sum(2, dtype=np.float64), (flat >= 0.5).sum(2)
    return [
        [
            _reason(
                bool(finite[n]),
                bool(positive[n]),
                area[n, r],
                int(pixels[n, r]),
                flat.shape[2],
                cell_area,
            )
            for r in range(flat.shape[1])
        ]
        for n in range(flat.shape[0])
    ]


def _reason(
    finite: bool, positive: bool, area: float, pixels: int, count: int, cell_area: float
) -> str:
    if not finite:
        return "non_finite"
    if not positive:
        return "zero_heat"
    if area <= 0:
        return "empty_mask"
    if area < cell_area or pixels == 0:
        return "mask_below_cell"
    return "full_mask" if pixels == count else ""
