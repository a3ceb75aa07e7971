"""Figures of the report: matplotlib drawings turned into inline SVG that follows light and dark
mode.

Each ``*_plot`` function draws given numbers and returns the matplotlib ``Figure`` (so that tests
look at its data); ``svg_markup`` makes it a self-contained, deterministic ``<svg>`` with a title
and a description. Colours are written as CSS variables with the light value as fallback; text stays
text.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from gradaudit.metrics.upsampling import upsample
from gradaudit.records import Verdict

WIDTH = 760.0
"""Width of every figure in SVG user units, about the width of the report's column in CSS pixels."""
ROW = 27.0
"""Height of a row of the forest plot."""

PALETTE: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#15181c"),
    "raised": ("#f6f7f9", "#1d2126"),
    "ink": ("#1c2024", "#e7eaee"),
    "muted": ("#59616d", "#a6afbb"),
    "rule": ("#d8dce2", "#363d46"),
    "band": ("#e9edf2", "#272d35"),
    "bar": ("#a9b7c6", "#5b6a7b"),
    "link": ("#0b5a9d", "#8ac2f7"),
    "vermillion": ("#b54300", "#ff9b61"),
    "blue": ("#0062a3", "#79bdf2"),
    "green": ("#006b4c", "#4ecda2"),
    "amber": ("#7d5a00", "#e0bd4f"),
    "purple": ("#85366c", "#e79fcb"),
}
"""Colour name -> (light, dark), after Okabe and Ito (2008), darkened or lightened to contrast 4.5:1
with the paper.
"""

INK, MUTED, RULE, BAND, BAR, PAPER = (
    PALETTE[name][0] for name in ("ink", "muted", "rule", "band", "bar", "paper")
)

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gradaudit",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.parse_math": False,  # a "$" in a label is a "$"
    "text.usetex": False,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "axes.linewidth": 0.8,
    "path.simplify": False,
}

VERDICT_MARKS: dict[Verdict, tuple[str, str, bool, str]] = {
    Verdict.MATERIAL: ("D", "vermillion", True, "material"),
    Verdict.SIZE_UNCERTAIN: ("D", "vermillion", False, "size uncertain"),
    Verdict.WITHIN_MARGIN: ("s", "blue", True, "within margin"),
    Verdict.EQUIVALENT: ("o", "green", True, "equivalent"),
    Verdict.INCONCLUSIVE: ("o", "amber", False, "inconclusive"),
    Verdict.NOT_ASSESSED: ("", "muted", False, "not assessed"),
    Verdict.SHOWN: ("^", "purple", True, "shown"),
    Verdict.NOT_SHOWN: ("^", "purple", False, "not shown"),
}
"""Verdict -> (marker, colour, filled, short word); no two share marker, filling and colour."""

REGION_LINES = (
    ("#56b4e9", "solid"),
    ("#fffffe", (0, (5, 2))),
    ("#5fe0b0", (0, (1.5, 1.5))),
    ("#f0b6dc", (0, (6, 2, 1.5, 2))),
)
"""Colour and dash of the region outlines on a heat map, in the order of the regions."""


@dataclass(frozen=True)
class ForestRow:
    """One contrast: difference in shares (-1 to 1) with its interval; ``heading`` opens a new block
    when it changes.

    ``margin``: the declared limit of this very contrast, drawn as a band behind its row; None where
    no limit was set.
    """

    heading: str
    label: str
    n: str
    estimate: float | None
    low: float | None
    high: float | None
    raw: float | None
    verdict: Verdict
    provisional: bool = False
    margin: float | None = None


@dataclass(frozen=True)
class Lane:
    """Distribution of shares (0 to 1) in one group; ``note`` stands in place of what cannot be
    shown.
    """

    label: str
    n: str
    histogram: tuple[int, ...] = ()
    quantiles: tuple[float | None, ...] = ()
    mean: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """Lanes that share one axis, e.g. the groups of one attribute in one region."""

    title: str
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class IntervalRow:
    label: str
    estimate: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class IntervalPanel:
    """``percent`` draws shares as %; otherwise values stand as they are (AUC, Brier score)."""

    title: str
    rows: tuple[IntervalRow, ...]
    percent: bool = True


@dataclass(frozen=True)
class MapTile:
    """Mean heat of one group (h, w; sums to 1) and mean coverage (0 to 1) of regions, each on its
    own grid.
    """

    label: str
    n: str
    heat: Sequence[Sequence[float]]
    regions: dict[str, Sequence[Sequence[float]]] = field(default_factory=dict)


# ── the four plots ────────────────────────────────────────────────────────────────────────────────


def forest_plot(rows: Sequence[ForestRow]) -> Figure:
    """Differences between groups in percentage points, their intervals, the band of each row's
    margin, n and the verdict's word.
    """
    placed, height = _forest_places(rows)
    with _drawing():
        figure = _figure(height + 66)
        axes = _axes(figure, 236, 26, 270, height)
        axes.set_ylim(height, 0)
        axes.set_xlim(*_forest_limits(rows))
        for margin, top, bottom in _bands(placed):
            axes.add_patch(
                Rectangle(
                    (-100 * margin, top),
                    200 * margin,
                    bottom - top,
                    facecolor=BAND,
                    edgecolor="none",
                    zorder=0,
                )
            )
        axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
        for y, row in placed:
            if row is None:
                axes.plot(
                    [0, 1],
                    [y, y],
                    color=RULE,
                    linewidth=0.8,
                    transform=axes.get_yaxis_transform(),
                    zorder=0.5,
                )
            else:
                _forest_row(axes, y, row)
        _forest_texts(figure, axes, placed)
        _only_x_axis(axes, "difference in heat share, percentage points")
    return figure


def distribution_plot(panels: Sequence[Panel]) -> Figure:
    """Histogram, 5-25-50-75-95 % quantiles and mean of the heat share, one lane a group, one panel
    a region.
    """
    count = max(len(panel.lanes) for panel in panels)
    with _drawing():
        figure, places = _panel_grid(len(panels), count * 44, per_row=3)
        for panel, (axes, first) in zip(panels, places, strict=True):
            top = _distribution_top(panel)
            axes.set_xlim(0, top)
            axes.set_ylim(count * 44, 0)
            for index, lane in enumerate(panel.lanes):
                _distribution_lane(axes, index * 44, lane, top)
                if first:
                    _lane_label(axes, index * 44 + 24, lane.label, lane.n)
            axes.set_title(
                short(panel.title, 30), loc="left", fontsize=11, fontweight="bold", pad=6
            )
            _only_x_axis(axes, "heat share, %")
    return figure


def interval_plot(panels: Sequence[IntervalPanel]) -> Figure:
    """A dot and its interval per group, one panel a figure of merit."""
    count = max(len(panel.rows) for panel in panels)
    with _drawing():
        figure, places = _panel_grid(len(panels), count * 28, per_row=4)
        for panel, (axes, first) in zip(panels, places, strict=True):
            unit = 100 if panel.percent else 1
            axes.set_xlim(*_interval_limits(panel, unit))
            axes.set_ylim(count * 28, 0)
            for index, row in enumerate(panel.rows):
                y = index * 28 + 14
                if row.estimate is None:
                    axes.text(
                        0.02,
                        y,
                        row.note or "no value",
                        color=MUTED,
                        fontsize=9,
                        va="center",
                        transform=axes.get_yaxis_transform(),
                    )
                else:
                    if row.low is not None and row.high is not None:
                        axes.plot(
                            [unit * row.low, unit * row.high], [y, y], color=INK, linewidth=1.6
                        )
                    axes.plot(
                        [unit * row.estimate],
                        [y],
                        marker="o",
                        markersize=6,
                        color=PALETTE["blue"][0],
                        linestyle="none",
                    )
                if first:
                    _lane_label(axes, y, row.label, "")
            axes.set_title(
                short(panel.title, 24), loc="left", fontsize=11, fontweight="bold", pad=6
            )
            _only_x_axis(axes, "%" if panel.percent else "value")
    return figure


def mean_map_plot(tiles: Sequence[MapTile], regions: Sequence[str] = ()) -> Figure:
    """Mean heat per group on one common scale (times an even spread), with the mean outline of each
    region.

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
    with _drawing():
        figure = _figure(max(rows * (height + 32), 150) + 32)
        for index, (tile, grid) in enumerate(zip(tiles, scaled, strict=True)):
            left, up = (index % per_row) * (side + gap), (index // per_row) * (height + 32) + 22
            axes = _axes(figure, left, up, side, height)
            _mean_map(axes, grid, tile, names, top)
        _map_legend(figure, min(len(tiles), per_row) * (side + gap) + 6, top, names, present)
    return figure


# ── SVG and pixels ────────────────────────────────────────────────────────────────────────────────


def svg_markup(figure: Figure, anchor: str, title: str, description: str) -> str:
    """The figure as inline ``<svg>``: no ids but ``anchor``-prefixed ones, no date, no font or
    colour of its own.
    """
    buffer = io.StringIO()
    with _drawing():
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    body = buffer.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>|<defs>\s*</defs>",
        "",
        body,
        flags=re.S,
    )
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = re.sub(
        r"<g id=(\"[^\"]*\"|'[^']*')", "<g", body
    )  # matplotlib's group names would repeat between figures
    body = re.sub(
        r'(<image [^>]*?) id="[^"]*"', r"\1", body
    )  # two equal maps would share one, and nothing refers to it
    body = re.sub(r"\bid=\"([A-Za-z0-9_.]+)\"", rf'id="{anchor}-\1"', body)
    body = re.sub(r"(xlink:href=\"#|url\(#)", rf"\g<1>{anchor}-", body).replace(
        "xlink:href", "href"
    )
    body = body.replace(
        "image-rendering:crisp-edges;image-rendering:pixelated", "image-rendering:auto"
    )
    body = body.replace(
        "font-family: 'DejaVu Sans', sans-serif", "font-family: var(--sans, sans-serif)"
    )
    for name, (light, _) in PALETTE.items():
        body = re.sub(rf"(?<=[a-z]: ){light}\b", f"var(--{name}, {light})", body)
    body = re.sub(r"\s*\n\s*", " ", body).replace("> <", "><")
    body = re.sub(r'<g><path d="[^"]*" style="fill: none"/></g>', "", body)  # empty backgrounds
    body = re.sub(
        r' d="[^"]*"',
        lambda path: re.sub(
            r"\d+\.\d{2,}", lambda number: f"{float(number.group()):.1f}", path.group()
        ),
        body,
    )
    view = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', body)
    size = f"0 0 {view.group(1)} {view.group(2)}" if view else f"0 0 {WIDTH} {WIDTH}"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-labelledby="{anchor}-t {anchor}-d">'
        f'<title id="{anchor}-t">{escape(title)}</title><desc id="{anchor}-d">{escape(description)}</desc>'
    )
    return opening + body[body.index(">") + 1 :].strip()


def bilinear(grid: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The grid (h, w) at (height, width), by the rule that measuring uses too (``upsample``)."""
    result: NDArray[np.float64] = upsample(grid, (height, width))
    return result


def heat_overlay(
    heat: Sequence[Sequence[float]], width: int, height: int, longest: int = 96
) -> str:
    """The positive part of a raw heat grid as a translucent inferno PNG (data URI) to lay over a
    thumbnail.

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


def short(text: str, limit: int) -> str:
    """One line of at most ``limit`` characters, without control characters; the tables carry the
    whole text.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _drawing() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Text stays text: the reader's browser has the glyph that matplotlib's own font lacks.
        warnings.filterwarnings(
            "ignore", message=r"Glyph .* missing from font", category=UserWarning
        )
        yield


def _figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    total = figure.get_figheight() * 72
    axes = figure.add_axes(
        (left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total)
    )
    axes.set_facecolor("none")
    return axes


def _only_x_axis(axes: Axes, label: str) -> None:
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=5 if axes.get_position().width * WIDTH > 160 else 4, steps=[1, 2, 5, 10])
    )
    axes.tick_params(axis="x", length=3, labelsize=9.5, color=RULE)
    axes.set_xlabel(label, fontsize=9.5)


def _panel_grid(panels: int, height: float, per_row: int) -> tuple[Figure, list[tuple[Axes, bool]]]:
    """A figure with ``panels`` axes in rows; the flag says whether an axes is the first of its row
    (carries labels).
    """
    columns = min(panels, per_row)
    rows = -(-panels // columns)
    left, gap = 132.0, 30.0
    width = (WIDTH - left - gap * columns) / columns
    figure = _figure(rows * (height + 64))
    places = []
    for index in range(panels):
        row, column = divmod(index, columns)
        axes = _axes(figure, left + column * (width + gap), row * (height + 64) + 26, width, height)
        places.append((axes, column == 0))
    return figure, places


def _lane_label(axes: Axes, y: float, label: str, n: str) -> None:
    across = axes.get_yaxis_transform()
    pixels = axes.get_position().width * WIDTH
    axes.text(
        -10 / pixels,
        y - (6 if n else 0),
        short(label, 18),
        ha="right",
        va="center",
        transform=across,
    )
    if n:
        axes.text(
            -10 / pixels,
            y + 8,
            n,
            ha="right",
            va="center",
            fontsize=9,
            color=MUTED,
            transform=across,
        )


def _forest_places(rows: Sequence[ForestRow]) -> tuple[list[tuple[float, ForestRow | None]], float]:
    """Vertical centres of the rows; a ``None`` entry is the line above a new heading."""
    placed: list[tuple[float, ForestRow | None]] = []
    y, heading = 0.0, None
    for row in rows:
        if row.heading != heading:
            placed.append((y + 2, None))
            y += 26
            heading = row.heading
        placed.append((y + ROW / 2, row))
        y += ROW
    return placed, y + 4


def _bands(placed: Sequence[tuple[float, ForestRow | None]]) -> list[tuple[float, float, float]]:
    """(margin, upper end, lower end) of every band: neighbouring rows of one margin share theirs,
    rows without a margin have none.
    """
    bands: list[tuple[float, float, float]] = []
    for y, row in placed:
        if row is None or row.margin is None:
            continue
        margin, top, bottom = row.margin, y - ROW / 2, y + ROW / 2
        if bands and bands[-1][0] == margin and bands[-1][2] == top:
            top = bands.pop()[1]
        bands.append((margin, top, bottom))
    return bands


def _forest_limits(rows: Sequence[ForestRow]) -> tuple[float, float]:
    values = [
        100 * v
        for row in rows
        for v in (row.low, row.high, row.estimate, row.raw)
        if v is not None and np.isfinite(v)
    ]
    margins = [row.margin for row in rows if row.margin is not None]
    values += [0.0, *([-130 * max(margins), 130 * max(margins)] if margins else [-1.0, 1.0])]
    low, high = min(values), max(values)
    pad = 0.05 * (high - low)
    return max(low - pad, -104.0), min(high + pad, 104.0)


def _forest_row(axes: Axes, y: float, row: ForestRow) -> None:
    marker, name, filled, _ = VERDICT_MARKS[row.verdict]
    colour = PALETTE[name][0]
    if row.raw is not None:
        axes.plot(
            [100 * row.raw],
            [y - 7],
            marker="|",
            markersize=6,
            color=MUTED,
            linestyle="none",
            markeredgewidth=1.2,
        )
    if row.estimate is None:
        return
    if row.low is not None and row.high is not None:
        axes.plot(
            [100 * row.low, 100 * row.high],
            [y, y],
            color=colour,
            linewidth=1.8,
            solid_capstyle="butt",
        )
    axes.plot(
        [100 * row.estimate],
        [y],
        marker=marker or "|",
        markersize=7,
        linestyle="none",
        color=colour,
        markerfacecolor=colour if filled else PAPER,
        markeredgewidth=1.5,
    )


def _forest_texts(
    figure: Figure, axes: Axes, placed: Sequence[tuple[float, ForestRow | None]]
) -> None:
    box = axes.get_position()
    across = axes.get_yaxis_transform()

    def at(units: float) -> float:
        """Figure units from the left edge, as a fraction of the axes' width."""
        return float((units / WIDTH - box.x0) / box.width)

    for x, text, side in (
        (224, "n", "right"),
        (520, "difference (interval)", "left"),
        (665, "verdict", "left"),
    ):
        axes.text(
            at(x), -12, text, ha=side, va="center", fontsize=9.5, color=MUTED, transform=across
        )
    heading: str | None = None
    for y, row in placed:
        if row is None:
            continue
        if row.heading != heading:
            heading = row.heading
            axes.text(
                at(0), y - 25, short(heading, 34), va="center", fontweight="bold", transform=across
            )
        axes.text(at(8), y, short(row.label, 30), va="center", transform=across)
        axes.text(
            at(224), y, row.n, ha="right", va="center", color=MUTED, fontsize=9.5, transform=across
        )
        axes.text(at(520), y, _interval_words(row), va="center", fontsize=9.5, transform=across)
        word, name = VERDICT_MARKS[row.verdict][3], VERDICT_MARKS[row.verdict][1]
        axes.text(
            at(665),
            y,
            word + ("*" if row.provisional else ""),
            va="center",
            color=PALETTE[name][0],
            fontsize=10,
            transform=across,
        )


def _interval_words(row: ForestRow) -> str:
    if row.estimate is None:
        return "–"
    text = signed(row.estimate)
    return (
        text
        if row.low is None or row.high is None
        else f"{text}  ({signed(row.low)} to {signed(row.high)})"
    )


def signed(value: float, digits: int = 1) -> str:
    """A difference of shares in points, with its sign: "+19.0", "−3.2", "0.0"."""
    rounded = round(100 * value, digits) + 0.0
    sign = "+" if rounded > 0 else "−" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.{digits}f}"


def _distribution_top(panel: Panel) -> float:
    """Upper end of the axis in %: the next 20 % above everything that is drawn."""
    reach = [0.05]
    for lane in panel.lanes:
        bins = len(lane.histogram)
        reach += [(i + 1) / bins for i, n in enumerate(lane.histogram) if n]
        reach += [v for v in (*lane.quantiles, lane.mean) if v is not None]
    return float(min(100, 20 * np.ceil(100 * max(reach) / 20 - 1e-9)))


def _distribution_lane(axes: Axes, y: float, lane: Lane, top: float) -> None:
    axes.axhline(y + 32, color=RULE, linewidth=0.8, zorder=0)
    if lane.histogram and max(lane.histogram) > 0:
        heights = np.asarray(lane.histogram, dtype=float) / max(lane.histogram) * 24
        edges = np.linspace(0, 100, len(heights) + 1)
        kept = edges[:-1] < top
        axes.stairs(
            y + 32 - heights[kept],
            edges[: kept.sum() + 1],
            baseline=y + 32,
            fill=True,
            facecolor=BAR,
            edgecolor="none",
        )
    if len(lane.quantiles) == 5 and all(v is not None for v in lane.quantiles):
        q = [100 * float(v or 0.0) for v in lane.quantiles]
        axes.plot([q[0], q[4]], [y + 37, y + 37], color=MUTED, linewidth=1.0)
        axes.plot([q[1], q[3]], [y + 37, y + 37], color=INK, linewidth=3.4, solid_capstyle="butt")
        axes.plot(
            [q[2]],
            [y + 37],
            marker="o",
            markersize=5.5,
            color=INK,
            markerfacecolor=PAPER,
            markeredgewidth=1.3,
            linestyle="none",
        )
    if lane.mean is not None:
        axes.plot(
            [100 * lane.mean],
            [y + 29],
            marker="v",
            markersize=5.5,
            color=PALETTE["vermillion"][0],
            linestyle="none",
            zorder=4,
        )
    if lane.note:
        axes.text(
            0.02,
            y + 22,
            short(lane.note, 40),
            color=MUTED,
            fontsize=9,
            va="center",
            transform=axes.get_yaxis_transform(),
        )


def _interval_limits(panel: IntervalPanel, unit: int) -> tuple[float, float]:
    values = [
        unit * v for row in panel.rows for v in (row.estimate, row.low, row.high) if v is not None
    ]
    if not values:
        return 0.0, float(unit)
    step = unit / 10
    low = step * np.floor((min(values) - step / 5) / step)
    high = step * np.ceil((max(values) + step / 5) / step)
    # Nothing is drawn beyond what can be: a share ends at 0 and at 100 %.
    return max(float(low), min(0.0, min(values))), min(float(high), max(1.01 * unit, max(values)))


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
    bar = _axes(figure, left, 22, 12, 110)
    # An image of 64 steps: matplotlib's own colour bar would be 256 shapes.
    bar.imshow(
        np.linspace(1, 0, 64)[:, None],
        cmap="inferno",
        extent=(0, 1, 0, top),
        aspect="auto",
        interpolation="none",
    )
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
    bar.yaxis.set_major_formatter("{x:g}×")
    bar.tick_params(labelsize=9, length=0, labelcolor=MUTED)
    for spine in bar.spines.values():
        spine.set_visible(False)
    height = figure.get_figheight() * 72
    strip = _axes(figure, 0, height - 26, WIDTH, 22)
    strip.set_axis_off()
    strip.set_xlim(0, WIDTH)
    strip.set_ylim(22, 0)
    x = 0.0
    for index, name in enumerate(names):
        if name not in present:
            continue
        colour, dashes = REGION_LINES[index % len(REGION_LINES)]
        strip.fill_between(
            [x, x + 34], [3, 3], [19, 19], color=matplotlib.colormaps["inferno"](0.15), linewidth=0
        )
        strip.plot([x + 4, x + 30], [11, 11], color=colour, linestyle=dashes, linewidth=1.6)
        strip.text(x + 40, 11, short(name, 22), va="center", fontsize=10)
        x += 56 + 7 * min(len(name), 22)
