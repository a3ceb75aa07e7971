"""Mean heat maps of groups, and the overlay of one image's heat."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from gradaudit.metrics.upsampling import upsample
from gradaudit.number_text import plain_number
from gradaudit.report.figures.canvas import MUTED, WIDTH, drawing_style, new_axes, new_figure, short

REGION_LINES = (
    ("#56b4e9", "solid"),
    ("#fffffe", (0, (5, 2))),
    ("#5fe0b0", (0, (1.5, 1.5))),
    ("#f0b6dc", (0, (6, 2, 1.5, 2))),
)
"""Colour and dash of the region outlines on a heat map, in the order of the regions."""


@dataclass(frozen=True)
class MapTile:
    """The mean heat of one group, with the mean coverage of regions.

    Heat is (h, w) and sums to 1; coverage is 0 to 1; each is on its own grid.
    """

    label: str
    n: str
    heat: Sequence[Sequence[float]]
    regions: dict[str, Sequence[Sequence[float]]] = field(default_factory=dict)


def mean_map_plot(tiles: Sequence[MapTile], regions: Sequence[str] = ()) -> Figure:
    """Mean heat maps, one per group, with the mean outline of each region.

    All are on one common scale, in multiples of an even spread.

    ``regions``: names in the order that fixes their line styles, the same as in the gallery.
    """
    per_row, side, gap = 4, 156.0, 14.0
    grids = [np.asarray(tile.heat, dtype=float) for tile in tiles]
    scaled = [np.nan_to_num(grid) * grid.size for grid in grids]
    top = max(1.0, *(float(grid.max()) for grid in scaled))
    present = {name for tile in tiles for name in tile.regions}
    names = [*regions, *sorted(present.difference(regions))]
    rows = -(-len(tiles) // per_row)
    aspect = grids[0].shape[0] / grids[0].shape[1]
    height = side * min(aspect, 1.6)
    with drawing_style():
        figure = new_figure(max(rows * (height + 32), 150) + 32)
        for index, (tile, grid) in enumerate(zip(tiles, scaled, strict=True)):
            left, up = (index % per_row) * (side + gap), (index // per_row) * (height + 32) + 22
            axes = new_axes(figure, left, up, side, height)
            _mean_map(axes, grid, tile, names, top)
        _map_legend(figure, min(len(tiles), per_row) * (side + gap) + 6, top, names, present)
    return figure


def bilinear(grid: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The grid (h, w) at (height, width), by the rule that measuring uses too (``upsample``)."""
    result: NDArray[np.float64] = upsample(grid, (height, width))
    return result


def heat_overlay(
    heat: Sequence[Sequence[float]], width: int, height: int, longest: int = 96
) -> str:
    """The heat map as a translucent picture to lay over a thumbnail.

    The positive part of the raw grid, in the colours of inferno, as a PNG in a data URI.

    Scaled to the image's own maximum, for display only; transparent where there is no heat.  ""
    where the map has no positive or no finite value, so that nothing is drawn.  At most ``longest``
    pixels a side and 64 levels: about 2 kB.
    """
    grid = np.asarray(heat, dtype=float)
    if grid.ndim != 2 or grid.size == 0 or not np.isfinite(grid).all() or grid.max() <= 0:
        return ""
    ratio = min(1.0, longest / max(width, height))
    shape = max(1, round(height * ratio)), max(1, round(width * ratio))
    fine = bilinear(np.maximum(grid, 0), *shape)
    steps = 64
    levels = np.rint(fine / fine.max() * (steps - 1)).astype(np.uint8)
    ramp = np.linspace(0, 1, steps)
    colours = (
        (matplotlib.colormaps["inferno"](0.12 + 0.88 * ramp)[:, :3] * 255).round().astype(np.uint8)
    )
    image = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(
        buffer,
        "PNG",
        optimize=True,
        transparency=bytes(np.rint(255 * np.minimum(1, 1.6 * ramp)).astype(np.uint8)),
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _mean_map(
    axes: Axes, grid: NDArray[np.float64], tile: MapTile, names: Sequence[str], top: float
) -> None:
    # The coarse grid is laid out finely here, so every browser shows the same interpolation.
    fine = bilinear(grid, *(40 if n <= 40 else n for n in grid.shape))
    axes.imshow(
        fine,
        cmap="inferno",
        vmin=0,
        vmax=top,
        interpolation="none",
        extent=(0, 1, 1, 0),
        aspect="auto",
    )
    for name, values in tile.regions.items():
        cover = np.asarray(values, dtype=float)
        if min(cover.shape, default=0) < 2 or not np.isfinite(cover).all() or cover.max() <= 0:
            continue
        colour, dashes = REGION_LINES[names.index(name) % len(REGION_LINES)]
        x, y = ((np.arange(n) + 0.5) / n for n in (cover.shape[1], cover.shape[0]))
        axes.contour(
            x,
            y,
            cover,
            levels=[0.5 * float(cover.max())],
            colors=colour,
            linestyles=[dashes],
            linewidths=1.5,
        )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    pixels = axes.get_position().height * axes.figure.get_figheight() * 72  # type: ignore[union-attr]
    axes.text(
        0,
        1 + 9 / pixels,
        short(tile.label, 16),
        fontweight="bold",
        transform=axes.transAxes,
        va="center",
    )
    axes.text(
        1,
        1 + 9 / pixels,
        tile.n,
        color=MUTED,
        fontsize=9.5,
        transform=axes.transAxes,
        va="center",
        ha="right",
    )


def _map_legend(
    figure: Figure, left: float, top: float, names: Sequence[str], present: set[str]
) -> None:
    _colour_bar(figure, left, top)
    height = figure.get_figheight() * 72
    strip = new_axes(figure, 0, height - 26, WIDTH, 22)
    strip.set_axis_off()
    strip.set_xlim(0, WIDTH)
    strip.set_ylim(22, 0)
    ground = matplotlib.colormaps["inferno"](0.15)
    x = 0.0
    for index, name in enumerate(names):
        if name not in present:
            continue
        colour, dashes = REGION_LINES[index % len(REGION_LINES)]
        strip.fill_between([x, x + 34], [3, 3], [19, 19], color=ground, linewidth=0)
        strip.plot([x + 4, x + 30], [11, 11], color=colour, linestyle=dashes, linewidth=1.6)
        strip.text(x + 40, 11, short(name, 22), va="center", fontsize=10)
        x += 56 + 7 * min(len(name), 22)


def _colour_bar(figure: Figure, left: float, top: float) -> None:
    """An image of 64 steps: matplotlib's own colour bar would be 256 shapes."""
    bar = new_axes(figure, left, 22, 12, 110)
    steps = np.linspace(1, 0, 64)[:, None]
    where: dict[str, Any] = {"extent": (0, 1, 0, top), "aspect": "auto"}
    bar.imshow(steps, cmap="inferno", interpolation="none", **where)
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    bar.yaxis.set_major_formatter(lambda lift, _: f"{plain_number(lift)}×")
    bar.tick_params(labelsize=9, length=0, labelcolor=MUTED)
    for spine in bar.spines.values():
        spine.set_visible(False)
