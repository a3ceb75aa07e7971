"""Things that lie on the skin and are not part of it: hairs, ink, a ruler."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation

from gradaudit.demos.dermoscopy_scene import Scene
from gradaudit.demos.dermoscopy_textures import Field, mixture, noise_field, smooth_step

INK = np.array([0.38, 0.24, 0.58], np.float32)
PAPER = np.array([0.93, 0.92, 0.88], np.float32)


def draw_hairs(rgb: Field, scene: Scene, rng: np.random.Generator) -> Field:
    """Bent hairs with a lit side; drawn at three times the size, so that they are smooth."""
    size, scale = rgb.shape[1], 3
    count = int(rng.poisson(14 * scene.hair))
    canvas = Image.new("L", (size * scale, size * scale), 0)
    pen = ImageDraw.Draw(canvas)
    grain = rng.uniform(0, math.pi)
    for _ in range(count):
        curve = _bent_line(rng, grain) * size * scale
        width = round(rng.uniform(0.7, 1.5) * scale * size / 192)
        shade = int(rng.integers(170, 255))
        pen.line([tuple(p) for p in curve], fill=shade, width=max(1, width), joint="curve")
    cover = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    luck = rng.uniform()
    fair = scene.tone in ("I", "II") and luck < 0.4
    colour = np.array([0.42, 0.30, 0.18] if fair else [0.10, 0.07, 0.06], np.float32)
    rgb = mixture(rgb, colour[:, None, None], np.float32(0.85) * cover)
    return np.asarray(rgb + 0.05 * np.roll(cover, 1, (0, 1)) * (1 - cover), np.float32)


def _bent_line(rng: np.random.Generator, grain: float) -> Field:
    """Eighteen points (18, 2) of a curve that lies near the direction ``grain``, in image widths."""
    angle = grain + rng.normal(0, 0.45)
    middle, length = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.25, 0.8)
    ends = middle + np.outer([-0.5, 0.5], [math.cos(angle), math.sin(angle)]) * length
    bend = middle + rng.normal(0, 0.07, 2)
    t = np.linspace(0, 1, 18)[:, None]
    return np.asarray((1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1])


def draw_ink(
    rgb: Field, rng: np.random.Generator, depth: Field, x: Field, y: Field
) -> tuple[Field, Field]:
    """Gentian-violet pen: dots around the lesion, or an arc along it."""
    size = x.shape[0]
    rub = np.clip(0.80 + 0.22 * noise_field(rng, size, 0.05), 0.25, 1)
    cover = _dots(rng, depth, x, y) if rng.uniform() < 0.5 else _arc(rng, depth, x, y)
    ink = rgb * INK[:, None, None] * np.float32(1.25)
    return mixture(rgb, ink, np.asarray(0.9 * cover * rub, np.float32)), cover


def _dots(rng: np.random.Generator, depth: Field, x: Field, y: Field) -> Field:
    cover = np.zeros_like(depth)
    first = rng.uniform(0, 2 * math.pi)
    for angle in first + np.arange(int(rng.integers(2, 5))) * rng.uniform(1.0, 1.6):
        reach = rng.uniform(0.68, 0.86)
        distance = np.hypot(x - reach * math.cos(angle), y - reach * math.sin(angle))
        uneven = distance + 0.012 * noise_field(rng, x.shape[0], 0.06)
        cover = np.maximum(cover, smooth_step((rng.uniform(0.05, 0.085) - uneven) / 0.012))
    return cover


def _arc(rng: np.random.Generator, depth: Field, x: Field, y: Field) -> Field:
    away = np.arctan2(y, x) - rng.uniform(-math.pi, math.pi)
    turn = (away + math.pi) % (2 * math.pi) - math.pi
    half = rng.uniform(0.022, 0.036)
    line = -depth - rng.uniform(0.14, 0.22) + 0.015 * noise_field(rng, x.shape[0], 0.12)
    along = (rng.uniform(0.6, 1.3) - np.abs(turn)) / 0.03
    return smooth_step((half - np.abs(line)) / 0.010) * smooth_step(along)


def draw_ruler(
    rgb: Field, rng: np.random.Generator, width: float, seen: NDArray[np.bool_]
) -> tuple[Field, NDArray[np.bool_]]:
    """A strip of scale along one side, of paper or clear plastic, where it is ``seen``.

    returns : (picture, touched); touched (S, S) is true for every pixel that the strip can change,
        with the one pixel around it into which the lens blurs it
    """
    size, scale = rgb.shape[1], 2
    tall = max(6, round(width * size * scale))
    strip = _scale_strip(rng, round(1.7 * size * scale), tall, max(3.0, 0.021 * size * scale))
    marks, cover = (plane * seen for plane in _place(strip, rng, size, scale, tall))
    white = rng.uniform(0.80, 0.95) if rng.uniform() < 0.7 else rng.uniform(0.40, 0.60)
    paper = PAPER * rng.normal(1, 0.02, 3).astype(np.float32)
    tint = paper[:, None, None] * (0.96 + 0.02 * noise_field(rng, size, 0.3))
    rgb = mixture(mixture(rgb, tint, white * cover), np.float32(0.08), 0.9 * marks)
    touched = binary_dilation((cover > 0) | (marks > 0), np.ones((3, 3), bool))
    return rgb, np.asarray(touched, bool)


def _scale_strip(rng: np.random.Generator, long: int, tall: int, step: float) -> Image.Image:
    """Ticks each half millimetre (``step`` pixels), numbers at the centimetres."""
    strip = Image.new("L", (long, tall), 0)
    pen = ImageDraw.Draw(strip)
    font = ImageFont.load_default(max(6.0, 0.42 * tall))
    start = rng.uniform(0, 10 * step)
    for i in range(int(long / step)):
        at = start + i * step
        length = tall * (0.52 if i % 10 == 0 else 0.40 if i % 5 == 0 else 0.26)
        pen.line([(at, 0), (at, length)], fill=255, width=max(1, round(0.26 * step)))
        if i % 10 == 0:
            pen.text((at + 0.4 * step, tall * 0.46), str(1 + i // 10), fill=255, font=font)
    return strip


def _place(
    strip: Image.Image, rng: np.random.Generator, size: int, scale: int, tall: int
) -> tuple[Field, Field]:
    """Lay the strip near a random side of the image, slightly tilted.

    returns : (marks, coverage), both (S, S) in [0, 1]
    """
    side = size * scale
    angle = math.radians(90 * int(rng.integers(0, 4)) + rng.normal(0, 5))
    reach = (
        0.5 * side - tall / 2 - rng.uniform(0.02, 0.09) * side
    )  # from the image's centre to the strip's middle line
    shift = rng.uniform(-0.1, 0.1) * side
    cos, sin, half = math.cos(angle), math.sin(angle), side / 2
    along = (cos, sin, -half * (cos + sin) + strip.width / 2 + shift)
    across = (-sin, cos, half * (sin - cos) - reach + tall / 2)
    planes = []
    for picture in (strip, Image.new("L", strip.size, 255)):
        laid = picture.transform(
            (side, side), Image.Transform.AFFINE, (*along, *across), Image.Resampling.BILINEAR
        )
        planes.append(np.asarray(laid.reduce(scale), np.float32) / 255)
    return planes[0], planes[1]
