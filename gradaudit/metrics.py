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
    """One sort per image, shared by all regions.

    values (N, P) ascending heat; inside (N, P) bit r set where region r holds that pixel; first, last (N, P) bounds of each value's run
    of ties (counted from 0, last exclusive); sizes (N, R) pixels inside.
    """

    values: Array
    inside: Array
    first: Array
    last: Array
    sizes: Array

    def members(self, region: int) -> Array:
        """(N, P) 1.0 where the sorted pixel lies in the region."""
        return _double((self.inside >> region) & 1)


def rank_pixels(heat: Array, masks: Array) -> Ranking:
    """Sort every image's pixels once, carrying the membership in up to 31 regions in the low bits of the sort key.

    A float32 >= 0 orders like its bit pattern, so value and membership fit one int64, and its plain sort is several times
    faster than sorting indices.  float64 heat is divided by its maximum and ranked in float32.
    """
    xp = _namespace(heat)
    if masks.shape[1] > MOST_REGIONS:
        raise InputError(f"rank_pixels: at most {MOST_REGIONS} regions in one call; got {masks.shape[1]}.")
    values = _single(_flat(heat, 1)) + 0.0  # -0.0 becomes +0.0, whose bits sort right
    values = xp.where(xp.isfinite(values) & (values > 0), values, xp.zeros_like(values))
    member = _flat(masks, 2) >= 0.5
    key = _integers(values) << 32
    for region in range(masks.shape[1]):
        key = key | (_long(member[:, region]) << region)
    key = np.sort(key, axis=1) if xp is np else xp.sort(key, dim=1).values
    first, last = _runs(key >> 32)
    return Ranking(key >> 32, key & 0xFFFFFFFF, first, last, _double(member).sum(2))


def _single(heat: Array) -> Array:
    xp = _namespace(heat)
    if heat.dtype == xp.float64:
        finite = xp.where(xp.isfinite(heat), heat, xp.zeros_like(heat))
        top = finite.max(1)[:, None] if xp is np else finite.amax(1)[:, None]
        heat = xp.where(top > 0, heat / xp.where(top > 0, top, xp.ones_like(top)), heat)
    return heat.astype(np.float32) if xp is np else heat.float()


def _integers(values: Array) -> Array:
    """The bit patterns of float32 values >= 0, as int64 of the same order."""
    xp = _namespace(values)
    return values.view(xp.int32).astype(np.int64) if xp is np else values.contiguous().view(xp.int32).long()


def _long(flags: Array) -> Array:
    return flags.astype(np.int64) if isinstance(flags, np.ndarray) else flags.long()


def _runs(values: Array) -> tuple[Array, Array]:
    """Bounds [first, last) of the run of equal values around each place of sorted rows (N, P)."""
    xp = _namespace(values)
    count = values.shape[1]
    places = xp.arange(count) if xp is np else xp.arange(count, device=values.device)
    edge = xp.ones_like(values[:, :1]) > 0
    change = values[:, 1:] != values[:, :-1]
    opens = xp.concatenate([edge, change], 1)
    closes = xp.concatenate([change, edge], 1)
    first = xp.where(opens, places, xp.zeros_like(places))
    last = xp.where(closes, places + 1, xp.full_like(places, count))
    if xp is np:
        return np.maximum.accumulate(first, axis=1), np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    return xp.cummax(first, 1).values, xp.cummin(last.flip(1), 1).values.flip(1)


def _per_region(heat: Array, masks: Array, ranking: Ranking | None, formula: Callable[[Ranking, int], Array]) -> Array:
    """(N, R) of a ranking metric, NaN for rows whose heat is zero everywhere or not finite."""
    xp = _namespace(heat)
    columns = []
    for start in range(0, masks.shape[1], MOST_REGIONS):
        ranked = ranking if ranking is not None else rank_pixels(heat, masks[:, start : start + MOST_REGIONS])
        columns += [formula(ranked, region) for region in range(min(MOST_REGIONS, masks.shape[1] - start))]
    flat = _flat(heat, 1)
    usable = xp.isfinite(flat).all(1) & (flat > 0).any(1)
    if not columns:
        return _double(_flat(masks, 2)).sum(2)
    return xp.where(usable[:, None], xp.stack(columns, 1), float("nan"))


@METRICS.register(
    label="rank accuracy",
    summary="fraction of the |R| hottest pixels that lie in the region of |R| pixels",
    formula="|top-|R| and R| / |R|",
    range="0 to 1",
    source="Arras et al. 2022, Information Fusion 81:14, eq. 2",
    unit="share",
    caveat="a random map scores the region's area share",
)
def relevance_rank_accuracy(heat: Array, masks: Array, ranking: Ranking | None = None) -> Array:
    """Of the |R| hottest pixels, the fraction inside R; expected value where a tie straddles the cut.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel or every pixel
    Source: Arras et al. 2022, eq. 2
    """

    def formula(ranked: Ranking, region: int) -> Array:
        xp, count = _namespace(ranked.values), ranked.values.shape[1]
        size = ranked.sizes[:, region]
        cut = _long(count - size).clip(0, count - 1)[:, None]  # place of the smallest value among the |R| hottest
        pick = np.take_along_axis if xp is np else xp.take_along_dim
        first, last = (pick(bounds, cut, 1) for bounds in (ranked.first, ranked.last))
        places = xp.arange(count) if xp is np else xp.arange(count, device=cut.device)
        members = ranked.members(region)
        above = (members * (places >= last)).sum(1)
        tied = (members * ((places >= first) & (places < last))).sum(1)
        needed = size - (count - last[:, 0])
        hits = above + tied * needed / (last - first)[:, 0]
        return _where_defined(hits / xp.where(size > 0, size, xp.ones_like(size)), size, below=count)

    return _per_region(heat, masks, ranking, formula)


@METRICS.register(
    label="pointing game",
    summary="probability that the hottest pixel lies in the region (ties drawn at random)",
    formula="P(argmax h in R)",
    range="0 to 1",
    source="Zhang et al. 2018, IJCV 126:1084",
    unit="probability",
)
def pointing_game(heat: Array, masks: Array, ranking: Ranking | None = None) -> Array:
    """1 if the hottest pixel lies in the region, else 0; the fraction of hottest pixels inside where several tie.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel
    Source: Zhang et al. 2018 (without the 15-pixel tolerance: masks are exact here)
    """

    def formula(ranked: Ranking, region: int) -> Array:
        top = ranked.values == ranked.values[:, -1:]
        hits = (ranked.members(region) * top).sum(1)
        return _where_defined(hits / _double(top).sum(1), ranked.sizes[:, region])

    return _per_region(heat, masks, ranking, formula)


@METRICS.register(
    label="ROC AUC",
    summary="probability that a pixel of the region is hotter than one outside (ties count half)",
    formula="P(h_in > h_out) + P(h_in = h_out) / 2",
    range="0 to 1; 0.5 is chance",
    unit="probability",
    source="Hanley and McNeil 1982, Radiology 143:29",
)
def auc(heat: Array, masks: Array, ranking: Ranking | None = None) -> Array:
    """Area under the ROC curve of the heat as a score for lying in the region: 1 separates, 0.5 is chance.

    heat : (N, H, W) float, >= 0      masks : (N, R, H, W), inside from 0.5
    returns : (N, R) float64; NaN where the heat is zero or the region holds no pixel or every pixel
    Source: Mann-Whitney form, (sum of mid-ranks inside - n(n+1)/2) / (n (P - n))
    """

    def formula(ranked: Ranking, region: int) -> Array:
        xp, count = _namespace(ranked.values), ranked.values.shape[1]
        size = ranked.sizes[:, region]
        mid_ranks = _double(ranked.first + ranked.last + 1) / 2
        pairs = size * (count - size)
        wins = (ranked.members(region) * mid_ranks).sum(1) - size * (size + 1) / 2
        return _where_defined(wins / xp.where(pairs > 0, pairs, xp.ones_like(pairs)), size, below=count)

    return _per_region(heat, masks, ranking, formula)


def _where_defined(values: Array, sizes: Array, below: int | None = None) -> Array:
    xp = _namespace(values)
    defined = (sizes > 0) & (sizes < below) if below is not None else sizes > 0
    return xp.where(defined, values, xp.full_like(values, float("nan")))


# ── reasons ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def reasons(heat: Array, masks: Array, cell_area: float = 0.0) -> list[list[str]]:
    """N x R codes of ``records.REASONS``, the first that applies: non_finite, zero_heat, empty_mask, mask_below_cell, full_mask, or "".

    cell_area : pixels of one cell of the map's grid; a region smaller than it keeps its numbers, with the reason ``mask_below_cell``.
    ``full_mask`` keeps the mass metrics and leaves the ranking metrics undefined.
    """
    h = np.asarray(_flat(heat, 1))
    flat = np.asarray(_flat(masks, 2))
    area, pixels, count = flat.sum(2, dtype=np.float64), (flat >= 0.5).sum(2), flat.shape[2]
    finite, positive = (np.asarray(flags) for flags in (np.isfinite(h).all(1), (h > 0).any(1)))

    def reason(n: int, r: int) -> str:
        if not finite[n]:
            return "non_finite"
        if not positive[n]:
            return "zero_heat"
        if area[n, r] <= 0:
            return "empty_mask"
        if area[n, r] < cell_area or pixels[n, r] == 0:
            return "mask_below_cell"
        return "full_mask" if pixels[n, r] == count else ""

    return [[reason(n, r) for r in range(flat.shape[1])] for n in range(flat.shape[0])]


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
