"""Family METRICS: how one image's heat relates to one region; the same code for numpy arrays and torch tensors.

Every metric takes ``heat`` (N, H, W) >= 0 and ``masks`` (N, R, H, W) in [0, 1] (the fraction of a pixel that the region covers) and
returns (N, R), NaN where undefined; ``reasons`` says why.  Mass metrics use the fractions; ranking metrics count a pixel as inside
from a coverage of one half.  Ties, of which ReLU'd maps are full, give the expected value under random tie-breaking.

The second part holds the linear operator of bilinear upsampling and its adjoint: with it a heat share is exact on the map's own grid,
``<mask, U cam> = <U^T mask, cam>``, and no full-size map is made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradaudit.errors import InputError
from gradaudit.registry import Family

Array = Any
"""A numpy array or a torch tensor; results are of the kind of the argument."""

METRICS: Family[Callable[..., Array]] = Family("metrics")

MOST_REGIONS = 31
"""Regions ranked in one sort; more are ranked in groups of this many."""

_PIXELS_AT_ONCE = 250_000  # images times regions times pixels: what is ranked together still fits the processor's cache


def _namespace(array: Array) -> Any:
    """numpy, or torch if the array is a tensor; torch is never imported for it."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]


def _ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, NaN where the denominator is not above 0."""
    xp = _namespace(numerator)
    defined = denominator > 0
    safe = xp.where(defined, denominator, xp.ones_like(denominator))
    return xp.where(defined & xp.isfinite(numerator), numerator / safe, xp.full_like(safe, float("nan")))


def _double(array: Array) -> Array:
    return array.astype(np.float64) if isinstance(array, np.ndarray) else array.double()


def _flat(array: Array, keep: int) -> Array:
    return array.reshape(*array.shape[:keep], prod(array.shape[keep:]))


# ── masses ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    h, m = _double(_flat(heat, 1)), _double(_flat(masks, 2))
    return heat_share((m @ h[:, :, None])[:, :, 0], h.sum(1), m.sum(2))


def heat_share(inside: Array, total: Array, area: Array) -> Array:
    """inside (N, R) / total (N,), NaN where the total is 0 or the region's area (N, R) is; both forms of the heat share end here."""
    xp = _namespace(inside)
    share = _ratio(inside, total[:, None] + xp.zeros_like(inside))
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
    return _ratio(relevance_mass_accuracy(heat, masks), area_share(masks))


def area_share(masks: Array) -> Array:
    """Fraction of the image's area that each region covers, (N, R) float64 in [0, 1]."""
    return _double(_flat(masks, 2)).mean(2)


# ── ranks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Ranking:
    """The pixels of N images in ascending order of heat, shared by all their regions.

    values : (N, P) ascending ranks of heat, equal for ties    mid_ranks : (N, P) float64, counted from 1, the mean rank of each run of ties
    inside : (N, R, P) whether the pixel at that place lies in the region    sizes : (N, R) pixels of each region
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
        xp = _namespace(self.values)
        wanted = [row[place] for row, place in zip(self.values, places, strict=True)]
        left, right = (
            xp.stack([xp.searchsorted(row, value, side=side) for row, value in zip(self.values, wanted, strict=True)]) for side in ("left", "right")
        )
        return left, right

    def between(self, start: Array, stop: Array) -> Array:
        """How many pixels of each region have places in [start, stop), (N, R)."""
        count = np.count_nonzero if isinstance(self.inside, np.ndarray) else sys.modules["torch"].count_nonzero
        spans = zip(self.inside, start.tolist(), stop.tolist(), strict=True)
        counted = [[count(row[a:b]) for row, a, b in zip(rows, low, high, strict=True)] for rows, low, high in spans]
        if isinstance(self.inside, np.ndarray):
            return np.array(counted, dtype=np.int64).reshape(start.shape)
        return start.new_tensor(counted).reshape(start.shape)


def rank_pixels(heat: Array, masks: Array) -> Ranking:
    """Sort the pixels of each image, heat (N, P) and masks (N, R, P), carrying the membership in up to 31 regions in the low bits of the key.

    A float32 >= 0 orders like its bit pattern, so value and membership fit one int64, and its plain sort is several times
    faster than sorting indices.  float64 heat is divided by its image's maximum and ranked in float32.
    """
    xp = _namespace(heat)
    if masks.shape[1] > MOST_REGIONS:
        raise InputError(f"rank_pixels: at most {MOST_REGIONS} regions in one call; got {masks.shape[1]}.")
    values = _single(heat)
    values = xp.where(values > 0, values, xp.zeros_like(values))  # -0.0 becomes +0.0, whose bits sort right; NaN too
    low = _integers32(xp.zeros_like(values))
    for region in range(masks.shape[1]):
        low = low | (_integers32(masks[:, region] >= 0.5) << region)
    key = (_long(values.view(xp.int32) if xp is np else values.contiguous().view(xp.int32)) << 32) | _long(low)
    key = np.sort(key, axis=1) if xp is np else xp.sort(key, dim=1).values
    ordered, bits = _integers32(key >> 32), _integers32(key & 0x7FFFFFFF)
    inside = xp.stack([(bits & (1 << region)) != 0 for region in range(masks.shape[1])], 1)
    return Ranking(ordered, xp.stack([_mid_ranks(row) for row in ordered]), inside, _count(inside))


def _mid_ranks(ordered: Array) -> Array:
    """Mean rank (from 1) of the run of equal values around each place of a sorted row (P,)."""
    xp, count = _namespace(ordered), ordered.shape[0]
    bounds = _nonzero(ordered[1:] != ordered[:-1]) + 1
    ends = xp.zeros_like(bounds[:1]) if len(bounds) else _long(xp.zeros_like(ordered[:1]))
    edges = xp.concatenate([ends, bounds, ends + count])
    lengths = edges[1:] - edges[:-1]
    middles = _double(edges[1:] + edges[:-1] + 1) / 2
    return np.repeat(middles, lengths) if xp is np else xp.repeat_interleave(middles, lengths)


def _nonzero(values: Array) -> Array:
    return np.flatnonzero(values) if isinstance(values, np.ndarray) else values.nonzero()[:, 0]


def _count(inside: Array) -> Any:
    """How many are True along the last axis."""
    return np.count_nonzero(inside, axis=-1) if isinstance(inside, np.ndarray) else inside.sum(-1)


def _single(heat: Array) -> Array:
    xp = _namespace(heat)
    if heat.dtype == xp.float64:
        finite = xp.where(xp.isfinite(heat), heat, xp.zeros_like(heat))
        top = finite.max(1, keepdims=True) if xp is np else finite.amax(1, keepdim=True)
        heat = heat / xp.where(top > 0, top, xp.ones_like(top))
    return heat.astype(np.float32) if xp is np else heat.float()


def _integers32(values: Array) -> Array:
    return values.astype(np.int32) if isinstance(values, np.ndarray) else values.int()


def _long(values: Array) -> Array:
    return values.astype(np.int64) if isinstance(values, np.ndarray) else values.long()


Formula = Callable[[Ranking], Array]
"""A ranking metric: ranking -> (N, R) float64, NaN where undefined."""


def _ranked(heat: Array, masks: Array, *formulas: Formula) -> list[Array]:
    """(N, R) float64 per formula, with one sort per image; NaN for rows whose heat is zero everywhere or not finite."""
    h, m, xp = _flat(heat, 1), _flat(masks, 2), _namespace(heat)
    results = [_double(xp.full_like(m[..., 0], float("nan"))) for _ in formulas] if m.shape[2] else []
    usable = xp.isfinite(h).all(1) & (h > 0).any(1)
    images = max(1, _PIXELS_AT_ONCE // max(1, m.shape[1] * m.shape[2]))
    for start in range(0, len(h), images):
        rows = slice(start, start + images)
        for group in (slice(r, r + MOST_REGIONS) for r in range(0, m.shape[1], MOST_REGIONS)):
            ranking = rank_pixels(h[rows], m[rows, group])
            for result, formula in zip(results, formulas, strict=True):
                values = formula(ranking)
                result[rows, group] = xp.where(usable[rows, None], values, xp.full_like(values, float("nan")))
    return results


def _where_defined(defined: Array, numerator: Array, denominator: Array) -> Array:
    """numerator / denominator where ``defined``, else NaN."""
    xp = _namespace(denominator)
    safe = _double(xp.where(defined, denominator, xp.ones_like(denominator)))
    return xp.where(defined, _double(numerator) / safe, xp.full_like(safe, float("nan")))


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
    """Of the |R| hottest pixels, the fraction inside R; expected value where a tie straddles the cut.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel or every pixel
    Source: Arras et al. 2022, eq. 2
    """
    return _ranked(heat, masks, _rank_accuracy)[0]


def _rank_accuracy(ranking: Ranking) -> Array:
    xp, sizes, count = _namespace(ranking.sizes), ranking.sizes, ranking.count
    defined = (sizes > 0) & (sizes < count)
    cut = xp.where(defined, count - sizes, xp.zeros_like(sizes))
    first, last = ranking.run(cut)  # the ties at the smallest value among the |R| hottest
    end = xp.full_like(sizes, count)
    expected = _double(ranking.between(first, last)) * _double(sizes - (end - last)) / _double(last - first)
    return _where_defined(defined, _double(ranking.between(last, end)) + expected, sizes)


@METRICS.register(
    label="pointing game",
    summary="probability that the hottest pixel lies in the region (ties drawn at random)",
    formula="P(argmax h in R)",
    range="0 to 1",
    source="Zhang et al. 2018, IJCV 126:1084",
    unit="probability",
)
def pointing_game(heat: Array, masks: Array) -> Array:
    """1 if the hottest pixel lies in the region, else 0; the fraction of hottest pixels inside where several tie.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel
    Source: Zhang et al. 2018 (without the 15-pixel tolerance: masks are exact here)
    """
    return _ranked(heat, masks, _pointing)[0]


def _pointing(ranking: Ranking) -> Array:
    xp, sizes = _namespace(ranking.sizes), ranking.sizes
    first, last = ranking.run(xp.full_like(sizes, ranking.count - 1))
    return _where_defined(sizes > 0, ranking.between(first, last), last - first)


@METRICS.register(
    label="ROC AUC",
    summary="probability that a pixel of the region is hotter than one outside (ties count half)",
    formula="P(h_in > h_out) + P(h_in = h_out) / 2",
    range="0 to 1; 0.5 is chance",
    unit="probability",
    source="Hanley and McNeil 1982, Radiology 143:29",
)
def auc(heat: Array, masks: Array) -> Array:
    """Area under the ROC curve of the heat as a score for lying in the region: 1 separates, 0.5 is chance.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel or every pixel
    Source: Mann-Whitney form, (sum of mid-ranks inside - n(n+1)/2) / (n (P - n))
    """
    return _ranked(heat, masks, _auc)[0]


def _auc(ranking: Ranking) -> Array:
    sizes, count = ranking.sizes, ranking.count
    ranks, pixels = (_double(ranking.inside) @ ranking.mid_ranks[:, :, None])[..., 0], _double(sizes)
    return _where_defined((sizes > 0) & (sizes < count), ranks - pixels * (pixels + 1) / 2, pixels * (count - pixels))


RANKED: dict[str, Formula] = {"relevance_rank_accuracy": _rank_accuracy, "pointing_game": _pointing, "auc": _auc}
"""The metrics that share one sort per image in ``ranked_metrics``."""


def ranked_metrics(heat: Array, masks: Array) -> dict[str, Array]:
    """Every ranking metric, (N, R) each, from one sort per image."""
    return dict(zip(RANKED, _ranked(heat, masks, *RANKED.values()), strict=True))


# ── reasons ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def reasons(heat: Array, masks: Array, cell_area: float = 0.0) -> list[list[str]]:
    """N x R codes of ``records.REASONS``, the first that applies: non_finite, zero_heat, empty_mask, mask_below_cell, full_mask, or "".

    cell_area : pixels of one cell of the map's grid; a region smaller than it keeps its numbers, with the reason ``mask_below_cell``.
    ``full_mask`` keeps the mass metrics and leaves the ranking metrics undefined.
    """
    h = np.asarray(_flat(heat, 1))
    flat = np.asarray(_flat(masks, 2))
    finite, positive = (np.asarray(flags) for flags in (np.isfinite(h).all(1), (h > 0).any(1)))
    area, pixels = flat.sum(2, dtype=np.float64), (flat >= 0.5).sum(2)
    return [
        [_reason(bool(finite[n]), bool(positive[n]), area[n, r], int(pixels[n, r]), flat.shape[2], cell_area) for r in range(flat.shape[1])]
        for n in range(flat.shape[0])
    ]


def _reason(finite: bool, positive: bool, area: float, pixels: int, count: int, cell_area: float) -> str:
    if not finite:
        return "non_finite"
    if not positive:
        return "zero_heat"
    if area <= 0:
        return "empty_mask"
    if area < cell_area or pixels == 0:
        return "mask_below_cell"
    return "full_mask" if pixels == count else ""


# ── upsampling as a matrix ──────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=256)
def upsampling_matrix(size: int, cells: int) -> NDArray[np.float64]:
    """The (size, cells) matrix W of bilinear resizing along one axis: upsampled = W_h @ map @ W_w.T; each row sums to 1.

    Equals ``F.interpolate(mode="bilinear", align_corners=False)`` and ``cv2.resize(INTER_LINEAR)``: pixel centres at half-integers,
    the border cell continued beyond its centre.
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


def _like(matrix: NDArray[np.float64], array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return matrix
    return sys.modules["torch"].tensor(matrix, device=array.device)


def upsample(maps: Array, size: tuple[int, int]) -> Array:
    """Bilinear resize of maps (..., h, w) to (..., H, W), float64: W_h @ map @ W_w.T."""
    rows, columns = (_like(upsampling_matrix(big, small), maps) for big, small in zip(size, maps.shape[-2:], strict=True))
    return rows @ _double(maps) @ columns.T


def project(masks: Array, grid: tuple[int, int]) -> Array:
    """The adjoint of ``upsample``: masks (..., H, W) -> weights (..., h, w) float64 with <mask, U map> = <weights, map>."""
    rows, columns = (_like(upsampling_matrix(big, small), masks) for big, small in zip(masks.shape[-2:], grid, strict=True))
    return rows.T @ (_double(masks) @ columns)


@lru_cache(maxsize=64)
def whole_projection(size: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float64]:
    """The projection of a mask that covers the whole image: how many pixels each cell of the grid stands for, (h, w)."""
    rows, columns = (upsampling_matrix(big, small).sum(0) for big, small in zip(size, grid, strict=True))
    projection = np.outer(rows, columns)
    projection.flags.writeable = False
    return projection
