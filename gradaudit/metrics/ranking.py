"""Ranking metrics: whether the hottest pixels lie in a region.

A pixel counts as inside from a coverage of one half.  Ties, of which ReLU'd maps are full, give the
expected value under random tie-breaking.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradaudit.errors import InputError
from gradaudit.metrics import arrays
from gradaudit.metrics.arrays import Array
from gradaudit.metrics.mass import METRICS

MOST_REGIONS = 31
"""Regions ranked in one sort; more are ranked in groups of this many."""

# images times regions times pixels: what is ranked together still fits the processor's cache
_PIXELS_AT_ONCE = 250_000


# ── ranks ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Ranking:
    """The pixels of N images in ascending order of heat, shared by all their regions.

    values : (N, P) ascending ranks of heat, equal for ties    mid_ranks : (N, P) float64, counted
        from 1, the mean rank of each run of ties
    inside : (N, R, P) whether the pixel at that place lies in the region    sizes : (N, R) pixels
        of each region
    """

    values: Array
    mid_ranks: Array
    inside: Array
    sizes: Array

    @property
    def count(self) -> int:
        return int(self.values.shape[-1])

    def run(self, places: Array) -> tuple[Array, Array]:
        """Bounds [first, last) of the run of ties around places (N, R)."""
        xp = arrays.namespace(self.values)
        wanted = [row[place] for row, place in zip(self.values, places, strict=True)]
        left, right = (
            xp.stack(
                [
                    xp.searchsorted(row, value, side=side)
                    for row, value in zip(self.values, wanted, strict=True)
                ]
            )
            for side in ("left", "right")
        )
        return left, right

    def between(self, start: Array, stop: Array) -> Array:
        """How many pixels of each region have places in [start, stop), (N, R)."""
        count = (
            np.count_nonzero
            if isinstance(self.inside, np.ndarray)
            else sys.modules["torch"].count_nonzero
        )
        spans = zip(self.inside, start.tolist(), stop.tolist(), strict=True)
        counted = [
            [count(row[a:b]) for row, a, b in zip(rows, low, high, strict=True)]
            for rows, low, high in spans
        ]
        if isinstance(self.inside, np.ndarray):
            return np.array(counted, dtype=np.int64).reshape(start.shape)
        return start.new_tensor(counted).reshape(start.shape)


def rank_pixels(heat: Array, masks: Array) -> Ranking:
    """Sort the pixels of each image by heat (N, P); membership in regions (N, R, P) moves along.

    Membership in up to 31 regions lies in the low bits of the sort key.

    A float32 >= 0 orders like its bit pattern, so value and membership fit one int64, and its plain
    sort is several times faster than sorting indices.  float64 heat is divided by its image's
    maximum and ranked in float32.
    """
    xp = arrays.namespace(heat)
    if masks.shape[1] > MOST_REGIONS:
        raise InputError(
            f"rank_pixels: at most {MOST_REGIONS} regions in one call; got {masks.shape[1]}."
        )
    values = arrays.single(heat)
    values = xp.where(
        values > 0, values, xp.zeros_like(values)
    )  # -0.0 becomes +0.0, whose bits sort right; NaN too
    low = arrays.integers32(xp.zeros_like(values))
    for region in range(masks.shape[1]):
        low = low | (arrays.integers32(masks[:, region] >= 0.5) << region)
    key = (
        arrays.long(values.view(xp.int32) if xp is np else values.contiguous().view(xp.int32)) << 32
    ) | arrays.long(low)
    key = np.sort(key, axis=1) if xp is np else xp.sort(key, dim=1).values
    ordered, bits = arrays.integers32(key >> 32), arrays.integers32(key & 0x7FFFFFFF)
    inside = xp.stack([(bits & (1 << region)) != 0 for region in range(masks.shape[1])], 1)
    return Ranking(
        ordered, xp.stack([_mid_ranks(row) for row in ordered]), inside, arrays.count(inside)
    )


def _mid_ranks(ordered: Array) -> Array:
    """Mean rank (from 1) of the run of equal values around each place of a sorted row (P,)."""
    xp, count = arrays.namespace(ordered), ordered.shape[0]
    bounds = arrays.nonzero(ordered[1:] != ordered[:-1]) + 1
    ends = xp.zeros_like(bounds[:1]) if len(bounds) else arrays.long(xp.zeros_like(ordered[:1]))
    edges = xp.concatenate([ends, bounds, ends + count])
    lengths = edges[1:] - edges[:-1]
    middles = arrays.double(edges[1:] + edges[:-1] + 1) / 2
    return np.repeat(middles, lengths) if xp is np else xp.repeat_interleave(middles, lengths)


Formula = Callable[[Ranking], Array]
"""A ranking metric: ranking -> (N, R) float64, NaN where undefined."""


def _ranked(heat: Array, masks: Array, *formulas: Formula) -> list[Array]:
    """(N, R) float64 per formula, with one sort per image.

    NaN for rows whose heat is zero everywhere or not finite.
    """
    h, m, xp = arrays.flat(heat, 1), arrays.flat(masks, 2), arrays.namespace(heat)
    results = (
        [arrays.double(xp.full_like(m[..., 0], float("nan"))) for _ in formulas]
        if m.shape[2]
        else []
    )
    usable = xp.isfinite(h).all(1) & (h > 0).any(1)
    images = max(1, _PIXELS_AT_ONCE // max(1, m.shape[1] * m.shape[2]))
    for start in range(0, len(h), images):
        rows = slice(start, start + images)
        for group in (slice(r, r + MOST_REGIONS) for r in range(0, m.shape[1], MOST_REGIONS)):
            ranking = rank_pixels(h[rows], m[rows, group])
            for result, formula in zip(results, formulas, strict=True):
                values = formula(ranking)
                result[rows, group] = xp.where(
                    usable[rows, None], values, xp.full_like(values, float("nan"))
                )
    return results


@METRICS.register(
    label="rank accuracy",
    summary="fraction of the |R| hottest pixels that lie in the region of |R| pixels",
    formula="|top-|R| and R| / |R|",
    range="0 to 1",
    source="Arras et al. 2022, Information Fusion 81:14, eq. 2",
    unit="share",
    caveat="a random map scores the region's area share",
)
def relevance_rank_accuracy(heat: Array, masks: Array) -> Array:
    """Of the |R| hottest pixels, the fraction inside R.

    Where a tie straddles the cut: the expected value.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel or every pixel
    Source: Arras et al. 2022, eq. 2
    """
    return _ranked(heat, masks, _rank_accuracy)[0]


def _rank_accuracy(ranking: Ranking) -> Array:
    xp, sizes, count = arrays.namespace(ranking.sizes), ranking.sizes, ranking.count
    defined = (sizes > 0) & (sizes < count)
    cut = xp.where(defined, count - sizes, xp.zeros_like(sizes))
    first, last = ranking.run(cut)  # the ties at the smallest value among the |R| hottest
    end = xp.full_like(sizes, count)
    expected = (
        arrays.double(ranking.between(first, last))
        * arrays.double(sizes - (end - last))
        / arrays.double(last - first)
    )
    return arrays.where_defined(
        defined, arrays.double(ranking.between(last, end)) + expected, sizes
    )


@METRICS.register(
    label="pointing game",
    summary="probability that the hottest pixel lies in the region (ties drawn at random)",
    formula="P(argmax h in R)",
    range="0 to 1",
    source="Zhang et al. 2018, IJCV 126:1084",
    unit="probability",
)
def pointing_game(heat: Array, masks: Array) -> Array:
    """1 if the hottest pixel lies in the region, else 0.

    Where several tie: the fraction of them inside.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel
    Source: Zhang et al. 2018 (without the 15-pixel tolerance: masks are exact here)
    """
    return _ranked(heat, masks, _pointing)[0]


def _pointing(ranking: Ranking) -> Array:
    xp, sizes = arrays.namespace(ranking.sizes), ranking.sizes
    first, last = ranking.run(xp.full_like(sizes, ranking.count - 1))
    return arrays.where_defined(sizes > 0, ranking.between(first, last), last - first)


@METRICS.register(
    label="ROC AUC",
    summary="probability that a pixel of the region is hotter than one outside (ties count half)",
    formula="P(h_in > h_out) + P(h_in = h_out) / 2",
    range="0 to 1; 0.5 is chance",
    unit="probability",
    source="Hanley and McNeil 1982, Radiology 143:29",
)
def auc(heat: Array, masks: Array) -> Array:
    """Area under the ROC curve of the heat as a score for lying in the region.

    1 separates, 0.5 is chance.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel or every pixel
    Source: Mann-Whitney form, (sum of mid-ranks inside - n(n+1)/2) / (n (P - n))
    """
    return _ranked(heat, masks, _auc)[0]


def _auc(ranking: Ranking) -> Array:
    sizes, count = ranking.sizes, ranking.count
    ranks, pixels = (
        (arrays.double(ranking.inside) @ ranking.mid_ranks[:, :, None])[..., 0],
        arrays.double(sizes),
    )
    return arrays.where_defined(
        (sizes > 0) & (sizes < count), ranks - pixels * (pixels + 1) / 2, pixels * (count - pixels)
    )


RANKED: dict[str, Formula] = {
    "relevance_rank_accuracy": _rank_accuracy,
    "pointing_game": _pointing,
    "auc": _auc,
}
"""The metrics that share one sort per image in ``ranked_metrics``."""


def ranked_metrics(heat: Array, masks: Array) -> dict[str, Array]:
    """Every ranking metric, (N, R) each, from one sort per image."""
    return dict(zip(RANKED, _ranked(heat, masks, *RANKED.values()), strict=True))
