"""Dermoscopy-like pictures: skin of six tones, a lesion with its pigment, light and lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from gradaudit.demos.dermoscopy_marks import draw_hairs, draw_ink, draw_ruler
from gradaudit.demos.dermoscopy_scene import Lesion, Scene, layer_stream
from gradaudit.demos.dermoscopy_textures import (
    TURN,
    Field,
    blurred,
    mixture,
    network_field,
    noise_field,
    smooth_step,
)

TONES: dict[str, tuple[int, int, int]] = {
    "I": (243, 207, 192),
    "II": (232, 188, 164),
    "III": (214, 166, 136),
    "IV": (184, 132, 98),
    "V": (140, 95, 68),
    "VI": (94, 63, 48),
}
"""sRGB color of untanned skin for each Fitzpatrick type, as a dermatoscope's lamp shows it."""

REGION_VALUES = {"skin": 1, "lesion": 2, "ruler": 3, "ink": 4, "outside": 5}
"""Values of the index mask. A pixel has the value of what lies on top; hairs do not count.

The ruler has every pixel that it changes, its soft border with it."""

MELANIN = np.array([0.62, 1.00, 1.32], np.float32)
BLOOD = np.array([0.10, 0.62, 0.50], np.float32)
VEIL = np.array([0.46, 0.51, 0.63], np.float32)


@dataclass(frozen=True)
class Rendered:
    """``pixels`` (S, S, 3) uint8 sRGB; ``regions`` (S, S) uint8, values of ``REGION_VALUES``."""

    pixels: NDArray[np.uint8]
    regions: NDArray[np.uint8]


def render(scene: Scene, size: int = 160) -> Rendered:
    """Draw one scene as a square of ``size`` pixels.

    Each layer draws from a random stream of its own. So two scenes that differ only in their ruler
    have equal pixels outside the ruler's mask, and two that differ only in their tone have equal
    masks.
    """
    line = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    y, x = (
        np.ascontiguousarray(np.broadcast_to(line[:, None], (size, size))),
        np.ascontiguousarray(np.broadcast_to(line, (size, size))),
    )
    skin = _skin(scene, size)
    depth, inside = _outline(scene.lesion, layer_stream(scene, "outline"), x, y)
    rgb = _pigment(scene, skin, depth, inside, x, y)
    regions = np.where(depth > 0, REGION_VALUES["lesion"], REGION_VALUES["skin"]).astype(np.uint8)
    if scene.ink:
        rgb, cover = draw_ink(rgb, layer_stream(scene, "ink"), depth, x, y)
        regions[cover > 0.5] = REGION_VALUES["ink"]
    rgb = draw_hairs(rgb, scene, layer_stream(scene, "hair"))
    outside = _instrument_edge(scene, x, y)
    regions[outside > 0.5] = REGION_VALUES["outside"]
    if scene.ruler:
        rgb, touched = draw_ruler(
            rgb, layer_stream(scene, "ruler"), scene.ruler_size, outside <= 0.5
        )
        regions[touched] = REGION_VALUES["ruler"]
    rgb = _light_and_lens(rgb, outside, layer_stream(scene, "light"), x, y)
    pixels = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Rendered(np.ascontiguousarray(pixels.transpose(1, 2, 0)), regions)


def _skin(scene: Scene, size: int) -> Field:
    """Skin alone: tone, mottling, vessels, furrows and follicles; (3, S, S), sRGB in [0, 1]."""
    rng = layer_stream(scene, "skin")
    tone = np.array(TONES[scene.tone], np.float32) / 255
    tone = tone * np.float32(rng.normal(1, 0.035)) * rng.normal(1, 0.012, 3).astype(np.float32)
    melanin = 0.05 * noise_field(rng, size, 0.5) + 0.025 * noise_field(rng, size, 0.09)
    blood = 0.08 * noise_field(rng, size, 0.7) + 0.05 * noise_field(rng, size, 0.16)
    ridge = np.abs(noise_field(rng, size, 0.22)) + 0.12 * np.abs(noise_field(rng, size, 0.1))
    blood += rng.uniform(0.0, 0.28) * np.exp(-((ridge / 0.07) ** 2))
    melanin += rng.uniform(0.03, 0.10) * _furrows(rng, size) + 0.012 * noise_field(rng, size, 0.02)
    dots = np.zeros((size, size), np.float32)
    for row, column in rng.integers(0, size, (int(rng.integers(12, 34)), 2)):
        dots[row, column] = 1
    spread = 1.5 * size / 192
    melanin -= 0.10 * 2 * math.pi * spread**2 * gaussian_filter(dots, spread, truncate=2.5)
    return np.asarray(tone[:, None, None] * np.exp(-_density(melanin, blood)), np.float32)


def _density(melanin: Field, blood: Field) -> Field:
    """Optical density of the two pigments in each color, (3, S, S)."""
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
            + 0.35 * noise_field(rng, size, 0.3)
            + 0.10 * noise_field(rng, size, 0.08)
        )
        off = np.abs(phase - np.floor(phase) - 0.5)
        total += np.clip(1 - off * 9, 0, 1) * np.clip(
            0.6 + 0.5 * noise_field(rng, size, 0.25), 0, 1
        )
    return total


# ── the lesion ────────────────────────────────────────────────────────────────────────────────────


def _outline(lesion: Lesion, rng: np.random.Generator, x: Field, y: Field) -> tuple[Field, Field]:
    """Signed depth below the border, and the soft coverage of the lesion (0 to 1), both (S, S).

    The depth is above 0 inside; its unit is half the image width.
    """
    size = x.shape[0]
    warp = 0.012 + 0.032 * lesion.border
    u = (
        x
        - rng.normal(0, 0.07)
        + warp * noise_field(rng, size, 0.16)
        + 0.3 * warp * noise_field(rng, size, 0.06)
    )
    v = (
        y
        - rng.normal(0, 0.07)
        + warp * noise_field(rng, size, 0.16)
        + 0.3 * warp * noise_field(rng, size, 0.06)
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
    return np.asarray(depth, np.float32), smooth_step(depth / soft[step] * 1.6)


def _pigment(
    scene: Scene,
    skin: Field,
    depth: Field,
    inside: Field,
    x: Field,
    y: Field,
) -> Field:
    """The lesion over the skin: base, network, globules, blotches, veil, regression."""
    lesion, size, rng = scene.lesion, x.shape[0], layer_stream(scene, "pigment")
    melanin = _pattern(lesion, rng, depth, x, y)
    blood = rng.uniform(0.05, 0.25) + 0.06 * noise_field(rng, size, 0.25)
    veil, pale = np.zeros_like(depth), np.zeros_like(depth)
    for kind, cover in _blotches(lesion, rng, x, y):
        melanin += 0.9 * cover * (kind == "dark") - 0.25 * cover * (kind in ("red", "tan"))
        blood += 0.75 * cover * (kind == "red")
        veil = np.maximum(veil, cover * (kind == "veil"))
        pale = np.maximum(pale, cover * (kind == "pale"))
    melanin, blood = inside * np.clip(melanin, 0.05, 2.4), inside * np.clip(blood, 0, 1.4)
    rgb = np.asarray(skin * np.exp(-_density(melanin, blood)), np.float32)
    grain = 0.90 + 0.10 * noise_field(rng, size, 0.1)
    film = VEIL[:, None, None] * (float(skin.mean()) ** 0.8 * grain)
    thick = np.clip(0.58 + 0.16 * noise_field(rng, size, 0.16), 0.2, 0.85)
    rgb = mixture(rgb, film, veil * inside * thick)
    faded = np.clip(0.62 + 0.18 * noise_field(rng, size, 0.12), 0.2, 0.9)
    return mixture(rgb, skin * 1.08 + 0.02, pale * inside * faded)


def _pattern(lesion: Lesion, rng: np.random.Generator, depth: Field, x: Field, y: Field) -> Field:
    """Density of melanin before the border cuts it: an even base with network, globules or neither."""
    size = x.shape[0]
    pattern = rng.choice(["network", "globules", "plain"], p=[0.5, 0.25, 0.25])
    base = rng.uniform(0.45, 0.75)
    melanin = base + 0.09 * noise_field(rng, size, 0.3) + 0.05 * noise_field(rng, size, 0.07)
    melanin += rng.uniform(-0.1, 0.35) * np.clip(depth / 0.4, 0, 1)
    if pattern != "globules" or lesion.colours > 0.5:
        uneven = (0.2 + 0.5 * lesion.border) * noise_field(rng, size, 0.35)
        fade = np.clip(0.75 + uneven, 0, 1.2)
        weight = rng.uniform(0.35, 0.6) * (1.0 if pattern == "network" else 0.4)
        melanin += weight * fade * network_field(rng, size, lesion.border > 0.45)
    if pattern == "globules" or lesion.border > 0.55:
        melanin += _globules(rng, depth, lesion, x, y)
    return melanin


def _globules(rng: np.random.Generator, depth: Field, lesion: Lesion, x: Field, y: Field) -> Field:
    """Round spots of pigment.

    Evenly scattered in a benign lesion; of uneven size and near the rim in a malignant one.
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
        clod = rng.uniform(0.4, 0.9) * smooth_step((radius - distance) * 2.2)
        total[window] = np.maximum(total[window], clod)
    return total


def _blotches(
    lesion: Lesion, rng: np.random.Generator, x: Field, y: Field
) -> list[tuple[str, Field]]:
    """Areas of another color, as (kind, coverage 0 to 1).

    None in an even lesion, up to five in a variegated one.
    """
    size = x.shape[0]
    count = int(np.floor(lesion.colours * 5 + rng.uniform(0, 1)))
    out = []
    for kind in rng.permutation(["dark", "dark", "veil", "red", "pale", "tan"])[:count]:
        angle, off = rng.uniform(0, 2 * math.pi), rng.uniform(0.08, 0.34)
        u = x - off * math.cos(angle) + 0.07 * noise_field(rng, size, 0.14)
        v = (y - off * math.sin(angle) + 0.07 * noise_field(rng, size, 0.14)) * rng.uniform(
            0.75, 1.3
        )
        wide = kind in ("veil", "red")
        reach = rng.uniform(0.13, 0.26) * (1.2 if wide else 1.0) + 0.02 * noise_field(
            rng, size, 0.05
        )
        out.append(
            (str(kind), smooth_step((reach - np.sqrt(u * u + v * v)) / (0.055 if wide else 0.03)))
        )
    return out


def _instrument_edge(scene: Scene, x: Field, y: Field) -> Field:
    """Coverage of the dark edge of a round instrument, (S, S) in [0, 1]; 0 where there is none."""
    if not scene.circle:
        return np.zeros_like(x)
    radius = layer_stream(scene, "edge").uniform(1.00, 1.16)
    return smooth_step((np.sqrt(x * x + y * y) - radius) / 0.012)


def _light_and_lens(
    rgb: Field, outside: Field, rng: np.random.Generator, x: Field, y: Field
) -> Field:
    """Effects of light and instrument.

    Uneven light, reflections in the immersion film, vignette, the dark edge of the instrument, blur
    and grain.
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
    rgb = mixture(rgb * light, np.float32(0.03), outside)
    rgb = blurred(rgb, rng.uniform(0.35, 0.85) * size / 192)
    grain = np.stack([noise_field(rng, size, 0.0) for _ in range(3)])
    # the camera exposes dark skin longer: grain follows the light
    return np.asarray(rgb * (1 + 0.013 * grain) + 0.002 * grain, np.float32)
