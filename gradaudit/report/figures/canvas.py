"""What all figures share: colours, sizes, axes and labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradaudit.records import CellState

WIDTH = 760.0
"""Width of every figure in SVG user units, about the width of the report's column in CSS pixels."""
ROW = 36.0
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

STATE_MARKS: dict[str, tuple[str, str, bool, str]] = {
    CellState.BEYOND: ("D", "vermillion", True, "beyond"),
    CellState.WITHIN: ("o", "green", True, "within"),
    CellState.OPEN: ("o", "amber", False, "open"),
    CellState.WITHHELD: ("", "muted", False, "withheld"),
    CellState.NOT_ASSESSED: ("", "muted", False, "not assessed"),
    "shown": ("^", "purple", True, "shown"),
    "not_shown": ("^", "purple", False, "not shown"),
}
"""State -> (marker, colour, filled, short word); no two share marker, filling and colour.  Without
a limit, a difference is shown or not."""


def mark_of(state: CellState, shown: bool) -> str:
    """The key of ``STATE_MARKS``."""
    if state is CellState.NOT_JUDGED:
        return "shown" if shown else "not_shown"
    return state


# ── text ──────────────────────────────────────────────────────────────────────────────────────────


def short(text: str, limit: int) -> str:
    """The text as one line of at most ``limit`` characters.

    Characters that cannot be printed become spaces; the tables carry the whole text.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def drawing_style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Text stays text: the reader's browser has the glyph that matplotlib's own font lacks.
        warnings.filterwarnings(
            "ignore", message=r"Glyph .* missing from font", category=UserWarning
        )
        yield


def new_figure(height: float) -> Figure:
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")


def new_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    total = figure.get_figheight() * 72
    axes = figure.add_axes(
        (left / WIDTH, 1 - (top + height) / total, width / WIDTH, height / total)
    )
    axes.set_facecolor("none")
    return axes


def only_x_axis(axes: Axes, label: str) -> None:
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=5 if axes.get_position().width * WIDTH > 160 else 4, steps=[1, 2, 5, 10])
    )
    axes.tick_params(axis="x", length=3, labelsize=9.5, color=RULE)
    axes.set_xlabel(label, fontsize=9.5)


def panel_grid(panels: int, height: float, per_row: int) -> tuple[Figure, list[tuple[Axes, bool]]]:
    """A figure with ``panels`` axes, arranged in rows.

    The flag beside each says whether it is the first of its row, which carries the labels.
    """
    columns = min(panels, per_row)
    rows = -(-panels // columns)
    left, gap = 132.0, 30.0
    width = (WIDTH - left - gap * columns) / columns
    figure = new_figure(rows * (height + 64))
    places = []
    for index in range(panels):
        row, column = divmod(index, columns)
        axes = new_axes(
            figure, left + column * (width + gap), row * (height + 64) + 26, width, height
        )
        places.append((axes, column == 0))
    return figure, places


def lane_label(axes: Axes, y: float, label: str, n: str) -> None:
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
