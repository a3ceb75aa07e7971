"""Rendered dermoscopy: lesions on skin of six Fitzpatrick tones, with hairs, rulers, ink and
vignettes, and exact masks.

No patient is shown: every pixel follows from a :class:`Scene` and its seed.  Skin and lesion are
mixed as optical densities, the way melanin and blood colour real skin:
``rgb = skin * exp(-(melanin * MELANIN + blood * BLOOD))``, so one lesion keeps its relative
contrast on every tone.  Lengths are in half-widths of the image, angles in radians; colour planes
are (3, S, S), single planes (S, S), float32 where it matters for speed.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

Field = NDArray[np.floating[Any]]

TONES: dict[str, tuple[int, int, int]] = {
    "I": (243, 207, 192),
    "II": (232, 188, 164),
    "III": (214, 166, 136),
    "IV": (184, 132, 98),
    "V": (140, 95, 68),
    "VI": (94, 63, 48),
}
"""sRGB colour of untanned skin for each Fitzpatrick type, as a dermatoscope's lamp shows it."""

REGION_VALUES = {"skin": 1, "lesion": 2, "ruler": 3, "ink": 4, "outside": 5}
"""Values of the index mask.  Each pixel belongs to what lies on top; a hair belongs to what it lies
on.
"""

MELANIN = np.array([0.62, 1.00, 1.32], np.float32)
BLOOD = np.array([0.10, 0.62, 0.50], np.float32)
VEIL = np.array([0.46, 0.51, 0.63], np.float32)
INK = np.array([0.38, 0.24, 0.58], np.float32)
PAPER = np.array([0.93, 0.92, 0.88], np.float32)

TILE = 400
"""Side of the pigment-network tiles in pixels; scenes cut random windows out of them."""

TURN = 720
"""Steps of the full turn in which a lesion's outline is tabulated."""


@dataclass(frozen=True)
class Lesion:
    """Features of one lesion, each 0 (typically benign) to 1 (typically malignant), after the ABCD
    rule.

    Source of the rule: Nachbar et al. 1994, J Am Acad Dermatol 30(4), 551-559.
    """

    asymmetry: float
    border: float
    colours: float

    @property
    def score(self) -> float:
        """Weighted mean of the features, 0 to 1; the label is drawn from it, never from what
        surrounds the lesion.
        """
        return 0.35 * self.asymmetry + 0.25 * self.border + 0.40 * self.colours


@dataclass(frozen=True)
class Scene:
    """Everything that decides one image; equal scenes give equal pixels.

    ``tone`` a key of ``TONES``; ``ruler_size`` the width of the ruler as a share of the image side.
    """

    tone: str
    lesion: Lesion
    ruler: bool
    ink: bool
    hair: float
    circle: bool
    seed: int
    ruler_size: float = 0.13


@dataclass(frozen=True)
class Rendered:
    """``pixels`` (S, S, 3) uint8 sRGB; ``regions`` (S, S) uint8, values of ``REGION_VALUES``."""

    pixels: NDArray[np.uint8]
    regions: NDArray[np.uint8]


def render(scene: Scene, size: int = 160) -> Rendered:
    """Draw one scene as a square of ``size`` pixels."""
    rng = np.random.default_rng(scene.seed)
    line = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    y, x = (
        np.ascontiguousarray(np.broadcast_to(line[:, None], (size, size))),
        np.ascontiguousarray(np.broadcast_to(line, (size, size))),
    )
    skin = _skin(scene, rng, size)
    depth, inside = _outline(scene.lesion, rng, x, y)
    rgb = _pigment(scene, rng, skin, depth, inside, x, y)
    regions = np.where(depth > 0, REGION_VALUES["lesion"], REGION_VALUES["skin"]).astype(np.uint8)
    if scene.ink:
        rgb, cover = _draw_ink(rgb, rng, depth, x, y)
        regions[cover > 0.5] = REGION_VALUES["ink"]
    rgb = _draw_hairs(rgb, scene, rng)
    if scene.ruler:
        rgb, cover = _draw_ruler(rgb, rng, scene.ruler_size)
        regions[cover > 0.5] = REGION_VALUES["ruler"]
    rgb, cover = _light_and_lens(rgb, scene, rng, x, y)
    regions[cover > 0.5] = REGION_VALUES["outside"]
    pixels = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Rendered(np.ascontiguousarray(pixels.transpose(1, 2, 0)), regions)


# ── textures ──────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def _noise_tile(size: int, grain: float) -> Field:
    """Smooth Gaussian noise of mean 0 and standard deviation 1, five images wide; cut up by
    :func:`_noise`.
    """
    side = 5 * size
    rng = np.random.default_rng([size, round(grain * 1000)])
    step = max(1.0, grain * size / 2)  # pixels to a node
    nodes = rng.standard_normal((math.ceil(side / step) + 3,) * 2, dtype=np.float32)
    wide = Image.fromarray(nodes).resize(
        (math.ceil(len(nodes) * step),) * 2, Image.Resampling.BICUBIC
    )
    tile = np.asarray(wide)[int(step) : int(step) + side, int(step) : int(step) + side]
    return np.ascontiguousarray((tile - tile.mean()) / tile.std())


def _noise(rng: np.random.Generator, size: int, grain: float) -> Field:
    """Noise with features of ``grain`` half-widths, (S, S): a random window of a tile, turned and
    mirrored at random (a view).
    """
    top, left, turn = rng.integers(0, (4 * size, 4 * size, 8)).tolist()
    window = _noise_tile(size, grain)[top : top + size, left : left + size]
    window = window[:: 1 - 2 * (turn & 1), :: 1 - (turn & 2)]
    return window.T if turn & 4 else window


def _sigmoid(values: Field) -> Field:
    """1 / (1 + exp(-values)), without overflow; (S, S) in (0, 1)."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values), np.float32)


@functools.cache
def _network_tile(kind: int) -> Field:
    """A honeycomb of pigment lines, 0 (hole) to 1 (line); even kinds are regular, odd ones broken
    and uneven.
    """
    rng = np.random.default_rng(7000 + kind)
    pitch, jitter = (9.5, 0.30) if kind % 2 == 0 else (12.0, 0.55)
    rows = np.arange(-2, TILE / (pitch * 0.87) + 2)
    grid = np.stack(np.meshgrid(np.arange(-2, TILE / pitch + 2), rows), -1).astype(float)
    grid[..., 0] += 0.5 * (grid[..., 1] % 2)
    points = (grid * [pitch, pitch * 0.87] + rng.normal(0, jitter * pitch / 2, grid.shape)).reshape(
        -1, 2
    )
    yy, xx = np.mgrid[0:TILE, 0:TILE]
    near, _ = cKDTree(points).query(np.stack([xx, yy], -1).reshape(-1, 2), k=2)
    gap = (near[:, 1] - near[:, 0]).reshape(TILE, TILE)
    width = (
        2.1
        if kind % 2 == 0
        else 2.4 + 1.3 * gaussian_filter(rng.standard_normal((TILE, TILE)), 14) * 40
    )
    return np.asarray(np.clip(1 - gap / np.maximum(width, 0.4), 0, 1), np.float32)


def _network(rng: np.random.Generator, size: int, irregular: bool) -> Field:
    tile = _network_tile(2 * int(rng.integers(0, 2)) + int(irregular))
    zoom = rng.uniform(0.62, 0.90) * size / 192
    span = min(TILE, math.ceil(size / zoom))
    top, left = rng.integers(0, TILE - span + 1, 2)
    window = np.rot90(tile[top : top + span, left : left + span], int(rng.integers(0, 4)))
    cut = Image.fromarray(np.ascontiguousarray(window)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return np.asarray(np.clip(np.asarray(cut), 0, 1), np.float32)


def _skin(scene: Scene, rng: np.random.Generator, size: int) -> Field:
    """Skin without lesion: tone, mottling, vessels, furrows and follicles; (3, S, S), sRGB in [0,
    1].
    """
    tone = np.array(TONES[scene.tone], np.float32) / 255
    tone = tone * np.float32(rng.normal(1, 0.035)) * rng.normal(1, 0.012, 3).astype(np.float32)
    melanin = 0.05 * _noise(rng, size, 0.5) + 0.025 * _noise(rng, size, 0.09)
    blood = 0.08 * _noise(rng, size, 0.7) + 0.05 * _noise(rng, size, 0.16)
    ridge = np.abs(_noise(rng, size, 0.22)) + 0.12 * np.abs(_noise(rng, size, 0.1))
    blood += rng.uniform(0.0, 0.28) * np.exp(-((ridge / 0.07) ** 2))
    melanin += rng.uniform(0.03, 0.10) * _furrows(rng, size) + 0.012 * _noise(rng, size, 0.02)
    dots = np.zeros((size, size), np.float32)
    for row, column in rng.integers(0, size, (int(rng.integers(12, 34)), 2)):
        dots[row, column] = 1
    spread = 1.5 * size / 192
    melanin -= 0.10 * 2 * math.pi * spread**2 * gaussian_filter(dots, spread, truncate=2.5)
    return np.asarray(tone[:, None, None] * np.exp(-_density(melanin, blood)), np.float32)


def _density(melanin: Field, blood: Field) -> Field:
    """Optical density of the two pigments in each colour, (3, S, S)."""
    return np.stack([melanin * m + blood * b for m, b in zip(MELANIN, BLOOD, strict=True)])


def _furrows(rng: np.random.Generator, size: int) -> Field:
    """Fine creases that cross each other: two bundles of bent parallel lines, 0 to 1."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    total = np.zeros((size, size), np.float32)
    first = rng.uniform(0, math.pi)
    for angle in (first, first + rng.uniform(0.8, 1.4)):
        along = line * math.cos(angle) + line[:, None] * math.sin(angle)
        phase = (
            along * rng.uniform(11, 17)
            + 0.35 * _noise(rng, size, 0.3)
            + 0.10 * _noise(rng, size, 0.08)
        )
        off = np.abs(phase - np.floor(phase) - 0.5)
        total += np.clip(1 - off * 9, 0, 1) * np.clip(0.6 + 0.5 * _noise(rng, size, 0.25), 0, 1)
    return total


# ── the lesion ────────────────────────────────────────────────────────────────────────────────────


def _outline(lesion: Lesion, rng: np.random.Generator, x: Field, y: Field) -> tuple[Field, Field]:
    """Signed depth below the border (> 0 inside, in half-widths), and the soft coverage of the
    lesion, 0 to 1.
    """
    size = x.shape[0]
    warp = 0.012 + 0.032 * lesion.border
    u = (
        x
        - rng.normal(0, 0.07)
        + warp * _noise(rng, size, 0.16)
        + 0.3 * warp * _noise(rng, size, 0.06)
    )
    v = (
        y
        - rng.normal(0, 0.07)
        + warp * _noise(rng, size, 0.16)
        + 0.3 * warp * _noise(rng, size, 0.06)
    )
    theta = np.linspace(0, 2 * math.pi, TURN, endpoint=False, dtype=np.float32)
    wave = rng.uniform(0.04, 0.14) * np.cos(2 * (theta - rng.uniform(0, math.pi)))
    for k in (1, 3):
        wave += (
            lesion.asymmetry
            * rng.uniform(0.10, 0.20)
            * np.cos(k * theta + rng.uniform(0, 2 * math.pi))
        )
    for k in (4, 5, 7, 9, 12):
        wave += (
            (0.012 + 0.065 * lesion.border)
            / math.sqrt(k)
            * np.cos(k * theta + rng.uniform(0, 2 * math.pi))
        )
    radius = rng.uniform(0.36, 0.52) * (1 + wave)
    sharp = 0.5 + 0.5 * np.cos(
        theta - rng.uniform(0, 2 * math.pi)
    )  # an abrupt edge on one side, a fading one opposite
    soft = rng.uniform(0.030, 0.055) * (1 - 0.65 * lesion.border * sharp)
    step = (np.arctan2(v, u) * (TURN / (2 * math.pi))).astype(np.int32) % TURN
    depth = radius[step] - np.sqrt(u * u + v * v)
    return np.asarray(depth, np.float32), _sigmoid(depth / soft[step] * 1.6)


def _pigment(
    scene: Scene,
    rng: np.random.Generator,
    skin: Field,
    depth: Field,
    inside: Field,
    x: Field,
    y: Field,
) -> Field:
    """The lesion's own densities over the skin: base, network, globules, blotches, veil,
    regression.
    """
    lesion, size = scene.lesion, x.shape[0]
    pattern = rng.choice(["network", "globules", "plain"], p=[0.5, 0.25, 0.25])
    melanin = (
        rng.uniform(0.45, 0.75) + 0.09 * _noise(rng, size, 0.3) + 0.05 * _noise(rng, size, 0.07)
    )
    melanin += rng.uniform(-0.1, 0.35) * np.clip(depth / 0.4, 0, 1)
    if pattern != "globules" or lesion.colours > 0.5:
        fade = np.clip(0.75 + (0.2 + 0.5 * lesion.border) * _noise(rng, size, 0.35), 0, 1.2)
        melanin += (
            rng.uniform(0.35, 0.6)
            * (1.0 if pattern == "network" else 0.4)
            * fade
            * _network(rng, size, lesion.border > 0.45)
        )
    if pattern == "globules" or lesion.border > 0.55:
        melanin += _globules(rng, depth, lesion, x, y)
    blood = rng.uniform(0.05, 0.25) + 0.06 * _noise(rng, size, 0.25)
    veil, pale = np.zeros_like(depth), np.zeros_like(depth)
    for kind, cover in _blotches(lesion, rng, x, y):
        melanin += 0.9 * cover * (kind == "dark") - 0.25 * cover * (kind in ("red", "tan"))
        blood += 0.75 * cover * (kind == "red")
        veil = np.maximum(veil, cover * (kind == "veil"))
        pale = np.maximum(pale, cover * (kind == "pale"))
    melanin, blood = inside * np.clip(melanin, 0.05, 2.4), inside * np.clip(blood, 0, 1.4)
    rgb = np.asarray(skin * np.exp(-_density(melanin, blood)), np.float32)
    film = VEIL[:, None, None] * (
        float(skin.mean()) ** 0.8 * (0.90 + 0.10 * _noise(rng, size, 0.1))
    )
    rgb = _mix(rgb, film, veil * inside * np.clip(0.58 + 0.16 * _noise(rng, size, 0.16), 0.2, 0.85))
    return _mix(
        rgb,
        skin * 1.08 + 0.02,
        pale * inside * np.clip(0.62 + 0.18 * _noise(rng, size, 0.12), 0.2, 0.9),
    )


def _globules(rng: np.random.Generator, depth: Field, lesion: Lesion, x: Field, y: Field) -> Field:
    """Round clods of pigment; scattered evenly when benign, of uneven size and towards the rim when
    malignant.
    """
    size = x.shape[0]
    total = np.zeros_like(depth)
    rows, columns = np.nonzero(
        depth > 0.02 if lesion.border < 0.5 else (depth > -0.03) & (depth < 0.22)
    )
    if rows.size == 0:
        return total
    for pick in rng.integers(0, rows.size, int(rng.integers(18, 55))):
        radius = (rng.uniform(1.6, 2.6) + rng.exponential(1.6 * lesion.border)) * size / 192
        reach = math.ceil(3 * radius)
        top, left = max(0, rows[pick] - reach), max(0, columns[pick] - reach)
        window = np.s_[
            top : min(size, rows[pick] + reach + 1), left : min(size, columns[pick] + reach + 1)
        ]
        yy, xx = np.ogrid[window]
        distance = np.hypot(yy - rows[pick], xx - columns[pick])
        clod = rng.uniform(0.4, 0.9) * _sigmoid((radius - distance) * 2.2)
        total[window] = np.maximum(total[window], clod)
    return total


def _blotches(
    lesion: Lesion, rng: np.random.Generator, x: Field, y: Field
) -> list[tuple[str, Field]]:
    """Areas of another colour: none in an even lesion, up to five in a variegated one; (kind,
    coverage 0 to 1).
    """
    size = x.shape[0]
    count = int(np.floor(lesion.colours * 5 + rng.uniform(0, 1)))
    out = []
    for kind in rng.permutation(["dark", "dark", "veil", "red", "pale", "tan"])[:count]:
        angle, off = rng.uniform(0, 2 * math.pi), rng.uniform(0.08, 0.34)
        u = x - off * math.cos(angle) + 0.07 * _noise(rng, size, 0.14)
        v = (y - off * math.sin(angle) + 0.07 * _noise(rng, size, 0.14)) * rng.uniform(0.75, 1.3)
        wide = kind in ("veil", "red")
        reach = rng.uniform(0.13, 0.26) * (1.2 if wide else 1.0) + 0.02 * _noise(rng, size, 0.05)
        out.append(
            (str(kind), _sigmoid((reach - np.sqrt(u * u + v * v)) / (0.055 if wide else 0.03)))
        )
    return out


# ── what lies on the skin ─────────────────────────────────────────────────────────────────────────


def _mix(rgb: Field, other: Field | np.float32, cover: Field) -> Field:
    return np.asarray(rgb + (other - rgb) * cover, np.float32)


def _draw_hairs(rgb: Field, scene: Scene, rng: np.random.Generator) -> Field:
    """Bent hairs with a lit side; drawn at three times the size, so that they are smooth."""
    size, scale = rgb.shape[1], 3
    count = int(rng.poisson(14 * scene.hair))
    canvas = Image.new("L", (size * scale, size * scale), 0)
    pen = ImageDraw.Draw(canvas)
    grain = rng.uniform(0, math.pi)
    for _ in range(count):
        angle = grain + rng.normal(0, 0.45)
        middle, length = rng.uniform(-0.1, 1.1, 2), rng.uniform(0.25, 0.8)
        ends = middle + np.outer([-0.5, 0.5], [math.cos(angle), math.sin(angle)]) * length
        bend = middle + rng.normal(0, 0.07, 2)
        t = np.linspace(0, 1, 18)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * bend + t**2 * ends[1]
        width = round(rng.uniform(0.7, 1.5) * scale * size / 192)
        pen.line(
            [tuple(p) for p in curve * size * scale],
            fill=int(rng.integers(170, 255)),
            width=max(1, width),
            joint="curve",
        )
    cover = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255
    fair = scene.tone in ("I", "II") and rng.uniform() < 0.4
    colour = np.array([0.42, 0.30, 0.18] if fair else [0.10, 0.07, 0.06], np.float32)
    rgb = _mix(rgb, colour[:, None, None], np.float32(0.85) * cover)
    return np.asarray(rgb + 0.05 * np.roll(cover, 1, (0, 1)) * (1 - cover), np.float32)


def _draw_ink(
    rgb: Field, rng: np.random.Generator, depth: Field, x: Field, y: Field
) -> tuple[Field, Field]:
    """Gentian-violet pen: dots around the lesion, or an arc along it."""
    size = x.shape[0]
    rub = np.clip(0.80 + 0.22 * _noise(rng, size, 0.05), 0.25, 1)
    cover = np.zeros_like(depth)
    if rng.uniform() < 0.5:
        for angle in rng.uniform(0, 2 * math.pi) + np.arange(int(rng.integers(2, 5))) * rng.uniform(
            1.0, 1.6
        ):
            reach = rng.uniform(0.68, 0.86)
            distance = np.hypot(
                x - reach * math.cos(angle), y - reach * math.sin(angle)
            ) + 0.012 * _noise(rng, size, 0.06)
            cover = np.maximum(cover, _sigmoid((rng.uniform(0.05, 0.085) - distance) / 0.012))
    else:
        turn = (np.arctan2(y, x) - rng.uniform(-math.pi, math.pi) + math.pi) % (
            2 * math.pi
        ) - math.pi
        off = rng.uniform(0.022, 0.036) - np.abs(
            -depth - rng.uniform(0.14, 0.22) + 0.015 * _noise(rng, size, 0.12)
        )
        cover = _sigmoid(off / 0.010) * _sigmoid((rng.uniform(0.6, 1.3) - np.abs(turn)) / 0.03)
    return _mix(
        rgb, rgb * INK[:, None, None] * np.float32(1.25), np.asarray(0.9 * cover * rub, np.float32)
    ), cover


def _draw_ruler(rgb: Field, rng: np.random.Generator, width: float) -> tuple[Field, Field]:
    """A strip of scale along one side: ticks each half millimetre, numbers at the centimetres,
    paper or clear plastic.
    """
    size, scale = rgb.shape[1], 2
    tall, long = max(6, round(width * size * scale)), round(1.7 * size * scale)
    strip = Image.new("L", (long, tall), 0)
    pen, step = ImageDraw.Draw(strip), max(3.0, 0.021 * size * scale)
    font = ImageFont.load_default(max(6.0, 0.42 * tall))
    start = rng.uniform(0, 10 * step)
    for i in range(int(long / step)):
        at = start + i * step
        length = tall * (0.52 if i % 10 == 0 else 0.40 if i % 5 == 0 else 0.26)
        pen.line([(at, 0), (at, length)], fill=255, width=max(1, round(0.26 * step)))
        if i % 10 == 0:
            pen.text((at + 0.4 * step, tall * 0.46), str(1 + i // 10), fill=255, font=font)
    marks, cover = _place(strip, rng, size, scale, tall)
    white = rng.uniform(0.80, 0.95) if rng.uniform() < 0.7 else rng.uniform(0.40, 0.60)
    tint = (PAPER * rng.normal(1, 0.02, 3).astype(np.float32))[:, None, None] * (
        0.96 + 0.02 * _noise(rng, size, 0.3)
    )
    rgb = _mix(rgb, tint, white * cover)
    return _mix(rgb, np.float32(0.08), 0.9 * marks), cover


def _place(
    strip: Image.Image, rng: np.random.Generator, size: int, scale: int, tall: int
) -> tuple[Field, Field]:
    """The strip laid near a random side of the image, a little askew: (marks, coverage), both (S,
    S) in [0, 1].
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


def _light_and_lens(
    rgb: Field, scene: Scene, rng: np.random.Generator, x: Field, y: Field
) -> tuple[Field, Field]:
    """Uneven light, reflections in the immersion film, vignette or the dark edge of the instrument,
    blur and grain.
    """
    size = x.shape[0]
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.12)
    square = x * x + y * y
    light = (
        1
        + slope * (x * math.cos(angle) + y * math.sin(angle))
        - rng.uniform(0.02, 0.16) * square * np.sqrt(square)
    )
    for _ in range(int(rng.poisson(1.2))):
        cx, cy, radius = *rng.uniform(-0.85, 0.85, 2), rng.uniform(0.015, 0.05)
        ring = np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius
        light += rng.uniform(0.15, 0.45) * np.exp(-((ring / 0.010) ** 2))
    rgb = rgb * light
    outside: Field = np.zeros_like(square)
    if scene.circle:
        outside = _sigmoid((np.sqrt(square) - rng.uniform(1.00, 1.16)) / 0.012)
        rgb = _mix(rgb, np.float32(0.03), outside)
    rgb = _blur(rgb, rng.uniform(0.35, 0.85) * size / 192)
    grain = np.stack([_noise(rng, size, 0.0) for _ in range(3)])
    return rgb * (
        1 + 0.013 * grain
    ) + 0.002 * grain, outside  # the camera exposes dark skin longer: grain follows the light


def _blur(rgb: Field, sigma: float) -> Field:
    """Gaussian blur by three taps a side, enough for sigma < 1 pixel."""
    near = np.float32(math.exp(-0.5 / sigma**2))
    for axis in (1, 2):
        wide = np.pad(rgb, [(int(axis == a),) * 2 for a in range(3)], mode="edge")
        n = rgb.shape[axis]
        first, last = wide.take(range(n), axis), wide.take(range(2, n + 2), axis)
        rgb = (rgb + near * (first + last)) / (1 + 2 * near)
    return rgb
