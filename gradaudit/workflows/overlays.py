"""Pictures of heat: an overlay for one map, a contact sheet for many. Nothing is measured here.

Colors are matplotlib's inferno, whose lightness grows evenly with the value, so that no edge
appears that the heat does not have. Each picture is scaled by its own maximum, for display only:
colors compare places within a picture, never two pictures.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from gradaudit.errors import InputError
from gradaudit.metrics.upsampling import upsample

Pixels = NDArray[np.uint8]

COLOURS = "inferno"
SCALING = "positive part of each map, divided by its own maximum, for display only: colours compare places within one picture, not pictures"
STATUS_WORDS = {
    "no_positive_evidence": "no positive evidence: no position raises the score",
    "flat": "flat: the map is constant",
    "non_finite": "not finite: the map or the score is NaN or infinite",
    "failed": "could not be made",
}
"""Text shown instead of a map without heat, which scaling would turn into a picture of noise."""

WEIGHT = 0.6  # of the heat's colour in the overlay; the rest is the image
_CELL = 176
_GAP = 8
_ROWS = 20  # of a contact sheet's page
_INK, _PAPER, _FAINT = (25, 25, 25), (255, 255, 255), (110, 110, 110)


def display_heat(raw: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
    """The values to be colored: (H, W) in [0, 1].

    The positive part of the map at ``size`` (bilinear), divided by its maximum; 0 where there is
    none.

    raw : (h, w) signed map on its own grid

    Errors: ``InputError`` for any other number of axes (a volume's, or several maps).
    """
    if np.ndim(raw) != 2:
        raise InputError(
            f"display_heat: expected one map (h, w); got shape {np.shape(raw)}. Choose one map, and of a volume one slice."
        )
    full = np.maximum(upsample(np.maximum(np.asarray(raw, dtype=np.float64), 0), size), 0)
    top = float(full.max())
    return np.asarray(full / top if top > 0 else np.zeros_like(full))


def overlay(image: Pixels, raw: NDArray[Any], status: str = "ok") -> Pixels:
    """The image under its heat, (H, W, 3) uint8.

    Where the status is not ok: the image in grey with the status in words.

    image : (H, W, 3) uint8, as the network saw it
    raw : (h, w) signed map
    """
    if status != "ok":
        return worded(image, STATUS_WORDS[status])
    heat = display_heat(raw, (image.shape[0], image.shape[1]))
    colours = matplotlib.colormaps[COLOURS](heat)[..., :3] * 255
    return np.round(colours * WEIGHT + image * (1 - WEIGHT)).astype(np.uint8)


def worded(image: Pixels, words: str) -> Pixels:
    """The image in pale grey with a text over it, in the largest letters that fit."""
    grey = np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64)
    picture = Image.fromarray(np.round(160 + grey * 0.3).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for points in (14, 12, 10, 8, 7, 6):
        font = _font(points)
        text = "\n".join(textwrap.wrap(words, max(4, int(picture.width / font.getlength("n")) - 1)))
        left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
        if right - left <= picture.width and bottom - top <= picture.height:
            break
    else:
        text = words.split(":")[0]  # the status code alone, where the sentence does not fit
    draw.multiline_text(
        (picture.width / 2, picture.height / 2), text, _INK, font=font, anchor="mm", align="center"
    )
    return np.asarray(picture)


def png_bytes(picture: Pixels) -> bytes:
    """A PNG of the bare pixels, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


@lru_cache(maxsize=16)
def _font(points: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries: the same letters on every machine."""
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), points
    )


def _shortened(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


# ── contact sheets ────────────────────────────────────────────────────────────────────────────────


@dataclass
class ContactSheet:
    """Rows of small pictures under shared headings: one PNG page for every ``_ROWS`` of them.

    headings : of the columns
    footer : printed under each page
    folder : gets contact-sheet.png, or contact-sheet-1.png, -2 ...
    rows : how many rows will come, so that a single page needs no number
    """

    headings: Sequence[str]
    footer: str
    folder: Path
    rows: int
    files: list[str] = field(default_factory=list)
    _waiting: list[tuple[str, list[Image.Image]]] = field(default_factory=list)

    def add(self, title: str, cells: Sequence[tuple[Pixels, str]]) -> None:
        """Add a row of pictures, each with the text over it ("" for none).

        A full page is written at once.
        """
        fitted = [(_fitted(picture), words) for picture, words in cells]
        self._waiting.append(
            (
                title,
                [
                    Image.fromarray(worded(np.asarray(image), words)) if words else image
                    for image, words in fitted
                ],
            )
        )
        if len(self._waiting) == _ROWS:
            self._write()

    def finish(self) -> tuple[str, ...]:
        """Write the rows not written yet; returns the names of all pages."""
        if self._waiting:
            self._write()
        return tuple(self.files)

    def _write(self) -> None:
        name = (
            "contact-sheet.png"
            if self.rows <= _ROWS
            else f"contact-sheet-{len(self.files) + 1}.png"
        )
        sheet_page(self.headings, self._waiting, self.footer).save(
            self.folder / name, optimize=True
        )
        self.files.append(name)
        self._waiting = []


def _fitted(picture: Pixels) -> Image.Image:
    image = Image.fromarray(picture)
    scale = _CELL / max(image.size)
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.BICUBIC,
    )


def sheet_page(
    headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image]]], footer: str
) -> Image.Image:
    """One page: headings; per row its title and pictures; a color bar and the footer."""
    text, small = _font(13), _font(11)
    width = max(_GAP + len(headings) * (_CELL + _GAP), 3 * (_CELL + _GAP) + _GAP)
    lines = textwrap.wrap(footer, int((width - 2 * _GAP) / small.getlength("n")))
    heights = [22 + max(picture.height for picture in pictures) + _GAP for _, pictures in rows]
    page = Image.new("RGB", (width, 26 + sum(heights) + 28 + 15 * len(lines) + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for column, heading in enumerate(headings):
        draw.text(
            (_GAP + column * (_CELL + _GAP), 7), _shortened(heading, _CELL, text), _FAINT, font=text
        )
    top = 26
    for (title, pictures), height in zip(rows, heights, strict=True):
        draw.text((_GAP, top + 3), _shortened(title, width - 2 * _GAP, text), _INK, font=text)
        for column, picture in enumerate(pictures):
            page.paste(picture, (_GAP + column * (_CELL + _GAP), top + 22))
        top += height
    _colour_bar(page, draw, top + 4, small)
    for line, sentence in enumerate(lines):
        draw.text((_GAP, top + 26 + 15 * line), sentence, _FAINT, font=small)
    return page


def _colour_bar(
    page: Image.Image, draw: ImageDraw.ImageDraw, top: int, font: ImageFont.FreeTypeFont
) -> None:
    bar = matplotlib.colormaps[COLOURS](np.linspace(0, 1, _CELL))[None, :, :3].repeat(12, 0)
    draw.text((_GAP, top - 1), "0", _FAINT, font=font)
    page.paste(Image.fromarray(np.round(bar * 255).astype(np.uint8)), (_GAP + 14, top))
    draw.text((_GAP + 14 + _CELL + 6, top - 1), "this picture's maximum", _FAINT, font=font)
