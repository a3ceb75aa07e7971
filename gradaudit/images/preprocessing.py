"""From pixels to the network's input: resize, crop, normalize; region masks move along.

A resized image equals what ``torchvision.transforms`` and timm's evaluation transform make of the
same Pillow image. A mask is not resampled: each output pixel holds the fraction of its own
footprint that the region covers, so areas are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Literal, cast

import numpy as np
from PIL import Image
from scipy import sparse

from gradaudit.errors import InputError, PlanError
from gradaudit.images.decoding import DecodedImage, FloatArray, Size
from gradaudit.plan import PreprocessPlan

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


# ── preprocess ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Preprocess:
    """How a decoded image becomes the network's input, every field resolved.

    resize : None (as decoded), the shorter side in pixels, or (height, width)
    crop : None or (height, width) of the center crop; an int makes a square. What lies outside the
        resized image is black
    fit : "shorter" resizes the shorter side (with a pair: until both sides are covered), keeping
        the aspect; "exact" resizes to (height, width); "pad" resizes until the image fits inside
        and pads with the mean color
    antialias : False samples single source pixels as ``cv2.resize`` and ``tf.image.resize`` do
        (nearest and bilinear only)
    mean, std : per channel, on values in [0, 1]; one value stands for all channels
    channels : 3 (RGB) or 1 (luma, ITU-R 601-2, taken before resizing)
    invert : 1 - value before normalizing

    Errors: ``InputError`` for sizes below 1, std <= 0, or a mean or std of the wrong length.
    """

    resize: int | Size | None = None
    crop: int | Size | None = None
    fit: Literal["shorter", "exact", "pad"] = "shorter"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = True
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: Literal[1, 3] = 3
    invert: bool = False

    def __post_init__(self) -> None:
        if (
            self.fit not in ("shorter", "exact", "pad")
            or self.interpolation not in _FILTERS
            or self.channels not in (1, 3)
        ):
            raise InputError(
                f"Preprocess: fit, interpolation or channels is not one of the known values: {self!r}"
            )
        if not self.antialias and self.interpolation not in ("nearest", "bilinear"):
            raise InputError(
                f"Preprocess: antialias = False is defined for nearest and bilinear, not for {self.interpolation!r}."
            )
        resize = (
            self.resize
            if isinstance(self.resize, int | None) and self.fit == "shorter"
            else _pair("resize", self.resize)
        )
        settings: dict[str, Any] = {"resize": resize, "crop": _pair("crop", self.crop)}
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            values = values * self.channels if len(values) == 1 else values
            if len(values) != self.channels or (name == "std" and min(values) <= 0):
                raise InputError(
                    f"Preprocess: {name} needs {self.channels} values{' above 0' * (name == 'std')}, got {values}."
                )
            settings[name] = values
        if isinstance(resize, int) and resize < 1:
            raise InputError(f"Preprocess: resize needs at least 1 pixel, got {resize}.")
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def merged(self, plan: PreprocessPlan) -> Preprocess:
        """This preprocess with the fields that the plan sets.

        A plan's [height, width] without a ``fit`` means "exact".

        Errors: ``PlanError`` where the plan's sizes would leave a black border that nobody asked
        for, or where mean and std do not fit the plan's number of channels.
        """
        changes = {name: value for name, value in plan.model_dump().items() if value is not None}
        if isinstance(changes.get("resize"), tuple):
            changes.setdefault("fit", "exact")
        try:
            merged = replace(self, **_one_channel_defaults(self, changes))
        except InputError as error:
            raise PlanError(
                f"[preprocess] of the plan does not fit what the model declares: {error}"
            ) from error
        crop = cast(Size | None, merged.crop)
        if (
            crop
            and merged.resize
            and merged.fit != "pad"
            and {"resize", "crop", "fit"} & set(changes)
        ):
            smallest = (
                (merged.resize, merged.resize) if isinstance(merged.resize, int) else merged.resize
            )
            if smallest[0] < crop[0] or smallest[1] < crop[1]:
                raise PlanError(
                    f"[preprocess]: resize = {merged.resize} is smaller than crop = {list(crop)}, so the network would see a black border. "
                    "Set both; crop comes from the model's own declaration where the plan has none."
                )
        return merged

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the run record and the report, with JSON's lists instead of tuples."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @property
    def output_size(self) -> Size | None:
        """(height, width) of the network's input, or None where it follows each image's own size."""
        if self.crop is not None:
            return cast(Size, self.crop)
        return (
            cast(Size, self.resize)
            if self.fit in ("exact", "pad") and self.resize is not None
            else None
        )

    def geometry(self, size: Size) -> Geometry:
        """Where a decoded image of ``size`` (height, width) lands in the network's input."""
        scaled = self._scaled(size)
        window = self.output_size
        if window is None:
            window = (max(size), max(size)) if self.fit == "pad" else scaled
        top, left = (
            _centre_offset(length, part) for length, part in zip(scaled, window, strict=True)
        )
        return Geometry(source=size, scaled=scaled, top=top, left=left, size=window)

    def _scaled(self, size: Size) -> Size:
        height, width = size
        if self.resize is None:
            return size
        if isinstance(self.resize, int):  # torchvision truncates the longer side, and so do we
            short, long = min(size), int(self.resize * max(size) / min(size))
            return (self.resize, long) if short == height else (long, self.resize)
        if self.fit == "exact":
            return self.resize
        ratios = (height / self.resize[0], width / self.resize[1])
        ratio = max(ratios) if self.fit == "pad" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))  # rounded, as timm does


def _one_channel_defaults(base: Preprocess, changes: dict[str, Any]) -> dict[str, Any]:
    """Adapt mean and std when the plan changes the number of channels (3 to 1, or back).

    Values that are equal in all channels are kept; any others must be set by the plan.
    """
    channels = changes.get("channels", base.channels)
    if channels != base.channels:
        for name in ("mean", "std"):
            values = getattr(base, name)
            if name not in changes and len(set(values)) == 1:
                changes[name] = values[:1]
    return changes


def _pair(name: str, value: int | Sequence[int] | None) -> Size | None:
    if value is None:
        return None
    pair = (value, value) if isinstance(value, int) else tuple(int(side) for side in value)
    if len(pair) != 2 or min(pair) < 1:
        raise InputError(
            f"Preprocess: {name} needs one or two whole numbers of at least 1, got {value!r}."
        )
    return pair[0], pair[1]


def _centre_offset(length: int, part: int) -> int:
    """Where ``part`` pixels begin when centered in ``length``; negative where padding comes first.

    Rounded as torchvision's ``center_crop`` does.
    """
    return -((part - length) // 2) if part > length else round((length - part) / 2.0)


@dataclass(frozen=True)
class Geometry:
    """From a decoded image to the network's input: scale ``source`` to ``scaled``, take a window.

    All sizes are (height, width). ``top`` and ``left`` place the window of ``size`` in the scaled
    image; negative means padding.
    """

    source: Size
    scaled: Size
    top: int
    left: int
    size: Size

    @property
    def covered(self) -> tuple[int, int, int, int]:
        """The window's part inside the scaled image: left, top, right, bottom in scaled pixels."""
        right, bottom = (
            min(self.left + self.size[1], self.scaled[1]),
            min(self.top + self.size[0], self.scaled[0]),
        )
        return max(self.left, 0), max(self.top, 0), right, bottom

    def warp_mask(self, mask: FloatArray) -> FloatArray:
        """Fraction of each output pixel's footprint that the mask covers.

        mask : (H, W) of the decoded image, in [0, 1]
        returns : (h, w) float32 in [0, 1]; 0 in padding

        Areas are exact: the mean of the output, times the window's area in source pixels, is the
        area of the mask inside the window. Computed by one sparse matrix per axis.
        """
        if self.scaled == self.source == self.size:
            return np.asarray(mask, dtype=np.float32)
        rows = _coverage_weights(self.source[0], self.scaled[0], self.top, self.size[0])
        columns = _coverage_weights(self.source[1], self.scaled[1], self.left, self.size[1])
        part = np.ascontiguousarray((rows @ np.asarray(mask, dtype=np.float32)).T)
        return np.ascontiguousarray((columns @ part).T, dtype=np.float32)


@lru_cache(maxsize=256)
def _coverage_weights(source: int, scaled: int, offset: int, size: int) -> Any:
    """Sparse (size, source): the share of output pixel i's footprint that lies in source pixel j.

    Rows sum to 1, or less where the pixel lies in padding.
    """
    step = source / scaled
    edges = np.round(np.clip((offset + np.arange(size + 1)) * step, 0, source), 9)
    first = np.floor(edges[:-1]).astype(np.int64)
    count = np.ceil(edges[1:]).astype(np.int64) - first
    row = np.repeat(np.arange(size), count)
    column = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    overlap = np.minimum(edges[row + 1], column + 1) - np.maximum(edges[row], column)
    keep = overlap > 1e-6
    return sparse.csr_matrix(
        ((overlap / step)[keep].astype(np.float32), (row[keep], column[keep])), shape=(size, source)
    )


# ── pixels to the network's input ─────────────────────────────────────────────────────────────────


def preprocess_image(image: DecodedImage, preprocess: Preprocess) -> FloatArray:
    """The network's input for one image.

    returns : (C, h, w) float32; (h, w) is ``preprocess.geometry(image.size).size``

    Equal to torchvision's ``Resize``, ``CenterCrop``, ``ToTensor``, ``Normalize`` on the same
    Pillow image, bit for bit where Pillow's fixed-point resampling is (8-bit images).
    """
    geometry = preprocess.geometry(image.size)
    raster = (
        image.raster.convert("L")
        if preprocess.channels == 1 and image.raster.mode == "RGB"
        else image.raster
    )
    values = np.asarray(_resample(raster, geometry, preprocess))
    left, top, right, bottom = geometry.covered
    inside = (
        slice(top - geometry.top, bottom - geometry.top),
        slice(left - geometry.left, right - geometry.left),
    )
    out = np.empty((preprocess.channels, *geometry.size), dtype=np.float32)
    table = _levels(preprocess.mean, preprocess.std, preprocess.invert)
    for channel in range(preprocess.channels):
        plane = values if values.ndim == 2 else values[..., channel]
        if values.shape[:2] != geometry.size:
            out[channel] = table[channel, _fill_level(preprocess, channel)]
        if raster.mode == "F":
            bounded = np.clip(
                plane, 0, 1
            )  # bicubic and lanczos overshoot; 8-bit resampling clips as well
            bounded = 1 - bounded if preprocess.invert else bounded
            out[channel][inside] = (bounded - np.float32(preprocess.mean[channel])) / np.float32(
                preprocess.std[channel]
            )
        else:
            out[channel][inside] = np.take(
                table[channel], plane, mode="clip"
            )  # an index of 8 bits needs no bounds check
    return out


@lru_cache(maxsize=64)
def _levels(mean: tuple[float, ...], std: tuple[float, ...], invert: bool) -> FloatArray:
    """(C, 256): the network's input for each of the 256 levels of an 8-bit channel.

    Computed in the float32 steps of ``ToTensor`` and ``Normalize``, so equal to the last bit.
    """
    level = np.arange(256, dtype=np.float32) / np.float32(255)
    level = np.float32(1) - level if invert else level
    return (level[None, :] - np.array(mean, np.float32)[:, None]) / np.array(std, np.float32)[
        :, None
    ]


def _fill_level(preprocess: Preprocess, channel: int) -> int:
    """The 8-bit level of pixels outside the image.

    Black for a crop that is too large; for "pad" the mean color, rounded as timm does.
    """
    if preprocess.fit != "pad":
        return 0
    level = min(max(round(255 * preprocess.mean[channel]), 0), 255)
    return 255 - level if preprocess.invert else level


def _resample(raster: Image.Image, geometry: Geometry, preprocess: Preprocess) -> Image.Image:
    """The part of the scaled image that lies in the window.

    The image is scaled as a whole and then cropped. Pillow's ``box`` argument would save work, but
    it changes 0.2 % of the pixels by one level.
    """
    height, width = geometry.scaled
    if geometry.scaled != geometry.source:
        if preprocess.antialias:
            raster = raster.resize((width, height), _FILTERS[preprocess.interpolation])
        else:
            affine = (geometry.source[1] / width, 0, 0, 0, geometry.source[0] / height, 0)
            raster = raster.transform(
                (width, height), Image.Transform.AFFINE, affine, _FILTERS[preprocess.interpolation]
            )
    return raster if geometry.covered == (0, 0, width, height) else raster.crop(geometry.covered)
