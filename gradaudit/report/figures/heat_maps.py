"""Heat as pictures: one image's heat, the mean map of a group, and the difference of two groups."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import contourpy
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gradaudit.metrics.upsampling import upsample
from gradaudit.number_text import share_percent
from gradaudit.report.figures.shapes import Dot, Path, Plot, Raster, Shape, Words, coordinate

Grid = Sequence[Sequence[float]]
SIDE = 192.0
"""Width of a map in a figure."""
HEAT_STEPS = 32
OUTLINES = ((0.1, "c10"), (0.5, "c50"))
"""Shares of a group's images that a region covers, and the look of the line around them."""


@dataclass(frozen=True)
class Ramp:
    """Colours of a map: a name of matplotlib's, and the part of it that is used."""

    name: str
    low: float = 0.0
    high: float = 1.0

    def colours(self, steps: int) -> NDArray[np.uint8]:
        found = matplotlib.colormaps[self.name](np.linspace(self.low, self.high, steps))
        rgb: NDArray[np.uint8] = np.rint(found[:, :3] * 255).astype(np.uint8)
        return rgb


HEAT = Ramp("inferno", 0.15, 1.0)
MEAN = Ramp("inferno")
DIFFERENCE = Ramp("PuOr_r")


def bilinear(grid: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The grid (h, w) at (height, width), by the rule that measuring uses too (``upsample``)."""
    result: NDArray[np.float64] = upsample(grid, (height, width))
    return result


def heat_overlay(heat: Grid, width: int, height: int, longest: int = 48) -> str:
    """The heat map as a translucent picture to lay over a thumbnail, as a PNG in a data URI.

    The positive part of the raw grid, scaled to the image's own maximum for display only; more
    opaque where there is more heat, so that what is cold stays bare.  "" where the map has no
    positive or no finite value, so that nothing is drawn.  At most ``longest`` pixels a side and 32
    levels: about 1 kB.
    """
    grid = np.asarray(heat, dtype=float)
    if grid.ndim != 2 or grid.size == 0 or not np.isfinite(grid).all() or grid.max() <= 0:
        return ""
    ratio = min(1.0, longest / max(width, height))
    shape = max(1, round(height * ratio)), max(1, round(width * ratio))
    fine = bilinear(np.maximum(grid, 0), *shape)
    levels = np.rint(fine / fine.max() * (HEAT_STEPS - 1)).astype(np.uint8)
    opacity = np.minimum(0.8, 1.05 * np.linspace(0, 1, HEAT_STEPS) ** 0.75)
    return _png(levels, HEAT.colours(HEAT_STEPS), np.rint(255 * opacity).astype(np.uint8))


def _png(
    levels: NDArray[np.uint8], colours: NDArray[np.uint8], opacity: NDArray[np.uint8] | None = None
) -> str:
    """A picture of numbered colours as a PNG in a data URI."""
    image = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    extra = {} if opacity is None else {"transparency": opacity.tobytes()}
    image.save(buffer, "PNG", optimize=True, **extra)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@cache
def ramp_picture(name: str) -> str:
    """A strip of the ramp's colours, from low to high."""
    levels = np.arange(48, dtype=np.uint8)[None, :]
    return _png(levels, Ramp(name).colours(48))


# ── mean maps ─────────────────────────────────────────────────────────────────────────────────────


def even_spreads(heat: Grid) -> NDArray[np.float64]:
    """The map in multiples of heat spread evenly over the image."""
    grid = np.nan_to_num(np.asarray(heat, dtype=float))
    result: NDArray[np.float64] = grid * grid.size
    return result


def mean_map(heat: Grid, top: float, coverage: Grid | None, label: str) -> Plot:
    """The mean heat of a group, from none to ``top`` times an even spread, with its region."""
    grid = even_spreads(heat)
    height = _height(grid)
    fine = bilinear(grid, *(max(40, n) for n in grid.shape))
    levels = np.rint(np.clip(fine / top, 0, 1) * 63).astype(np.uint8)
    picture = Raster(_png(levels, MEAN.colours(64)), 0, 0, SIDE, height)
    lines = outline_paths(coverage, height, pale=True)
    return Plot(SIDE, height, (picture, *lines), label, look="plot map")


def _height(grid: NDArray[np.float64]) -> float:
    rows, columns = grid.shape
    return float(SIDE * min(rows / columns, 1.6))


def outline_paths(coverage: Grid | None, height: float, *, pale: bool = False) -> list[Shape]:
    """Where a region covers a tenth and half of the images of a group; of a place never covered
    so often there is no line.
    """
    cover = np.asarray(coverage if coverage is not None else (), dtype=float)
    if cover.ndim != 2 or min(cover.shape) < 2 or not np.isfinite(cover).all():
        return []
    framed = np.pad(cover, 1, mode="edge")
    rows, columns = framed.shape
    x = (np.arange(columns) - 0.5) * SIDE / (columns - 2)
    y = (np.arange(rows) - 0.5) * height / (rows - 2)
    generator = contourpy.contour_generator(x, y, framed)
    shapes: list[Shape] = []
    for share, look in OUTLINES:
        lines = [np.asarray(points, dtype=float) for points in generator.lines(share)]
        data = "".join(_line(points, height) for points in lines)
        if data:
            shapes.append(Path(data, f"{look} pale" if pale else look))
    return shapes


def _line(points: NDArray[np.float64], height: float) -> str:
    """Path data in whole units, without points that lie within two units of the last one."""
    inside = np.rint(np.clip(points, 0, (SIDE, height))).tolist()
    kept = inside[:1]
    for place in inside[1:]:
        if max(abs(place[0] - kept[-1][0]), abs(place[1] - kept[-1][1])) > 2:
            kept.append(place)
    ends = "Z" if inside[0] == inside[-1] else ""
    return "M" + "L".join(f"{coordinate(a)} {coordinate(b)}" for a, b in kept) + ends


# ── difference of two groups ──────────────────────────────────────────────────────────────────────


def largest_difference(maps: Sequence[Grid]) -> float:
    """One limit for every difference map of a report."""
    return max((abs(value) for grid in maps for row in grid for value in row), default=0.0)


def difference_map(
    difference: Grid,
    shown: Sequence[Sequence[int]],
    limit: float,
    coverage: Grid | None,
    label: str,
) -> Plot:
    """Group less reference, zero in the middle of the colours; dots mark the rarer kind of cell.

    ``limit``: the difference at both ends of the colours.  See ``marks_shown`` for what a dot is.
    """
    grid = np.asarray(difference, dtype=float)
    height = _height(grid)
    part = np.clip(grid / (limit or 1.0), -1, 1)
    levels = np.rint((part + 1) * 63).astype(np.uint8)
    shapes: list[Shape] = [Raster(_png(levels, DIFFERENCE.colours(127)), 0, 0, SIDE, height)]
    shapes += outline_paths(coverage, height)
    wanted = int(marks_shown(shown))
    rows, columns = grid.shape
    for y, row in enumerate(shown):
        for x, cell in enumerate(row):
            if int(bool(cell)) == wanted:
                at = (x + 0.5) * SIDE / columns, (y + 0.5) * height / rows
                shapes.append(Dot(*at, 1.6, "mark"))
    shapes.append(Raster(ramp_picture(DIFFERENCE.name), 0, height + 6, SIDE, 8))
    ends = (
        Words(0, height + 28, share_percent(-limit, 1)),
        Words(SIDE / 2, height + 28, "0", "middle"),
        Words(SIDE, height + 28, share_percent(limit, 1, signed=True), "end"),
    )
    shapes += ends
    return Plot(SIDE, height + 34, tuple(shapes), label, look="plot dmap")


def marks_shown(shown: Sequence[Sequence[int]]) -> bool:
    """Whether dots mark the cells that are beyond chance: where these are the fewer, else the
    others are marked.
    """
    cells = [bool(cell) for row in shown for cell in row]
    return 2 * sum(cells) <= len(cells)
