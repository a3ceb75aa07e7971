"""Region masks: every notation of a region becomes one (H, W) mask of 0 and 1.

What a cell of a ``region.<name>`` column may hold:

| text | inside the region |
|---|---|
| ``masks/a.png`` | pixels that are not 0 (JPEG: at least half of the range, because compression blurs edges) |
| ``labels.png#3`` | pixels whose stored value is 3 (palette index, not colour; 8- or 16-bit) |
| ``cutout.png#alpha`` | pixels that are at least half opaque |
| ``scan.nii.gz#12``, ``scan.nii.gz#12=2`` | slice 12 of a NIfTI volume, not 0 or equal to 2 (local files) |
| ``box:x0,y0,x1,y1`` | pixel edges, x1 and y1 exclusive |
| ``xywh:x,y,width,height`` | the same box as COCO writes it |
| ``polygon:x0,y0 x1,y1 x2,y2`` | rings separated by ``;``; a point is inside by the even-odd rule, so a ring in a ring is a hole |
| ``rle:{"size": [h, w], "counts": ...}`` | COCO RLE, compressed or a list; also ``rle:480x640:COUNTS``, ``rle:COUNTS`` (size of the image) |
| ``[[x0, y0, x1, y1, ...]]``, ``{"size": ...}`` | a COCO ``segmentation`` cell as it stands (rings are united, not even-odd) |
| ``whole`` / ``absent`` | every pixel / none: the region was looked for and is not in this image |

Coordinates are pixels of the image as displayed (EXIF orientation applied), from the upper left
corner of the upper left pixel; a pixel belongs to a shape if its center does. A shape that holds no
pixel center gets the pixel under its own center, so that an annotated region is never counted as
absent. In a mask with colors a pixel is inside if any channel is not 0 and it is not fully
transparent. Region masks follow the image's own orientation: EXIF of a mask file is applied too.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from skimage.draw import polygon as polygon_pixels

from gradaudit.errors import ImageError, InputError, MissingExtraError
from gradaudit.number_text import count, plain_number
from gradaudit.plan import Plan
from gradaudit.records import Sample
from gradaudit.regions.derived import (
    Inside,
    Mask,
    Size,
    derivation_faults,
    derive,
    evaluate,
    parse_derivation,
)
from gradaudit.regions.text import RegionSource, is_url, parse_region

__all__ = [
    "RegionSource", "derivation_faults", "derive", "is_url", "load_region", "parse_derivation",
    "parse_region", "region_masks",
]  # fmt: skip
OVERHANG = 0.02
"""How far boxes and polygons may reach over the image's edge, as a fraction of its side.

At least 2 pixels. What reaches over is clipped.
"""


# ── source to mask ────────────────────────────────────────────────────────────────────────────────


def load_region(text: str, root: Path, size: Size) -> Mask:
    """The mask that ``text`` names: (H, W) float32 of 0 and 1, in pixels of the displayed image.

    text : see the table above
    root : the folder that relative paths start from
    size : (H, W) of the image. A mask of another size is stretched (nearest neighbor) if both have
        the same aspect ratio up to rounding

    Errors: ``InputError`` for broken text; ``ImageError`` with reason missing_mask, unreadable_mask
    or mask_size; ``MissingExtraError`` for NIfTI without nibabel.
    """
    return _load(parse_region(text), root, size, {}).astype(np.float32)


def _load(
    source: RegionSource, root: Path, size: Size, files: dict[str, npt.NDArray[Any]]
) -> Inside:
    """The mask of one source; ``files`` keeps what was decoded, to read an index mask once."""
    match source.kind:
        case "whole":
            return np.ones(size, np.bool_)
        case "absent":
            return np.zeros(size, np.bool_)
        case "box" | "polygon":
            return _draw(source, size)
        case "rle":
            return _fit(_run_lengths(source, size), size, "the RLE")
        case "volume":
            inside = _volume_slice(source, root)
            return _fit(inside, size, f"the slice of {source.path}")
        case "file":
            if source.path not in files:
                files[source.path] = _decode(source.path, root, size)
            return _fit(_inside(files[source.path], source), size, f"the mask {source.path}")


def _run_lengths(source: RegionSource, size: Size) -> Inside:
    height, width = source.size or size
    runs = np.asarray(source.counts, np.int64)
    if runs.sum() != height * width:
        raise ImageError(
            "mask_size",
            f"the RLE has no size and covers {count(int(runs.sum()))} pixels; the image has {height} x {width} = {count(height * width)}",
        )
    values = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    return cast(Inside, values.reshape((height, width), order="F"))


def _draw(source: RegionSource, size: Size) -> Inside:
    xs = [x for ring in source.rings for x in ring[0::2]]
    ys = [y for ring in source.rings for y in ring[1::2]]
    _check_reach(source.kind, (min(xs), min(ys), max(xs), max(ys)), size)
    inside = np.zeros(size, np.bool_)
    for ring in source.rings:
        if source.kind == "box":
            x0, y0, x1, y1 = (
                max(0, math.ceil(edge - 0.5)) for edge in ring
            )  # first pixel whose centre is at or past the edge
            inside[y0:y1, x0:x1] = True
            continue
        part = np.zeros(size, np.bool_)
        rows, columns = np.asarray(ring[1::2]) - 0.5, np.asarray(ring[0::2]) - 0.5
        part[polygon_pixels(rows, columns, size)] = True  # type: ignore[no-untyped-call]
        inside = inside | part if source.united else inside ^ part
    if not inside.any():
        row, column = (
            min(max(math.floor((min(edge) + max(edge)) / 2), 0), side - 1)
            for edge, side in zip((ys, xs), size, strict=True)
        )
        inside[row, column] = True
    return inside


def _check_reach(kind: str, extent: tuple[float, float, float, float], size: Size) -> None:
    """Refuse coordinates far outside the image: they were written for another size of it.

    Clipping them to the image would hide the mistake.
    """
    x0, y0, x1, y1 = extent
    height, width = size
    slack_x, slack_y = max(2.0, OVERHANG * width), max(2.0, OVERHANG * height)
    if (
        x0 >= width
        or y0 >= height
        or x0 < -slack_x
        or y0 < -slack_y
        or x1 > width + slack_x
        or y1 > height + slack_y
    ):
        left, top, right, bottom = map(plain_number, extent)
        raise ImageError(
            "mask_size",
            f"the {kind} spans x {left} to {right} and y {top} to {bottom}, but the image is {width} wide and {height} high; "
            "write pixels of the image as displayed, cut at its edges",
        )


def _decode(path: str, root: Path, size: Size) -> npt.NDArray[Any]:
    """Pixels of a mask file as stored: (h, w) or (h, w, channels), EXIF orientation applied.

    The size is checked before anything is decoded.
    """
    try:
        with _open(path, root) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which a mask does not need
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            scale = _png_scale(stream)
            with Image.open(stream) as image:
                pages = getattr(image, "n_frames", 1)
                if pages > 1:
                    raise ImageError(
                        "unreadable_mask",
                        f"the mask {path} holds {pages} pages or frames; save the one that is meant",
                    )
                _check_size(_nearer(image.size, size), size, f"the mask {path}")
                upright = ImageOps.exif_transpose(image)
                plain = (
                    upright.mode in ("1", "L", "LA", "P", "I", "F", "RGB", "RGBA")
                    or ";16" in upright.mode
                )
                pixels: npt.NDArray[Any] = np.asarray(upright if plain else upright.convert("RGB"))
                jpeg = image.format == "JPEG"
    except (ImageError, MissingExtraError):
        raise
    except FileNotFoundError as error:
        raise ImageError("missing_mask", f"the mask {path} does not exist") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            "unreadable_mask", f"the mask {path} is refused: it declares more pixels than the limit"
        ) from error
    # decoders raise anything on damaged bytes: SyntaxError, struct.error, zlib.error, ...
    except Exception as error:
        damage = f"it is damaged, cut off or no image ({type(error).__name__})"
        raise ImageError("unreadable_mask", f"the mask {path} cannot be read: {damage}") from error
    return _exact_values(pixels, path, jpeg, scale)


def _exact_values(pixels: npt.NDArray[Any], path: str, jpeg: bool, scale: int) -> npt.NDArray[Any]:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ImageError("unreadable_mask", f"the mask {path} holds values that are not finite")
    if jpeg and 0 < pixels.max() < 128:
        raise ImageError(
            "unreadable_mask",
            f"the JPEG mask {path} is dark everywhere (at most {pixels.max()} of 255); save it as PNG",
        )
    return pixels >= 128 if jpeg else pixels // scale if scale > 1 else pixels


def _nearer(stored: tuple[int, int], size: Size) -> Size:
    """Height and width of a file whose EXIF orientation is not known yet.

    As stored, or turned where only that fits the image.
    """
    width, height = stored
    as_stored, turned = (
        abs(h * size[1] - w * size[0]) for h, w in ((height, width), (width, height))
    )
    return (height, width) if as_stored <= turned else (width, height)


def _open(path: str, root: Path) -> IO[bytes]:
    if not is_url(path):
        return (root / path).open("rb")
    try:
        return cast(IO[bytes], fsspec.open(path, "rb").open())
    except ImportError as error:
        raise MissingExtraError(
            f"Reading {path.partition('://')[0]}:// masks", "remote", str(error)
        ) from error


def _png_scale(stream: IO[bytes]) -> int:
    """The factor by which Pillow stretches 2- and 4-bit grey PNG to 0-255; 1 for any other file.

    Without it a stored index of 3 would read 255 or 51. 16-bit color PNG is refused: Pillow keeps
    the high byte only, so small values would turn into 0.
    """
    header = stream.read(26)
    stream.seek(0)
    if header[:8] != b"\x89PNG\r\n\x1a\n" or len(header) < 26:
        return 1
    depth, colour = struct.unpack("BB", header[24:26])
    if depth == 16 and colour != 0:
        raise ImageError(
            "unreadable_mask",
            "the mask is a 16-bit PNG with colours or alpha; save it with one grey channel",
        )
    return {2: 85, 4: 17}.get(depth, 1) if colour == 0 else 1


def _inside(pixels: npt.NDArray[Any], source: RegionSource) -> Inside:
    path, value = source.path, source.value
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if value == "alpha":
        if channels not in (2, 4):
            raise ImageError(
                "unreadable_mask", f"{path} has no alpha channel, and #alpha asks for it"
            )
        return pixels[..., -1] >= 128
    opaque: Inside = (
        pixels[..., -1] > 0 if channels in (2, 4) else np.ones(pixels.shape[:2], np.bool_)
    )
    colours = pixels[..., : channels - (channels in (2, 4))] if channels > 1 else pixels[..., None]
    if value is not None:
        if not (colours == colours[..., :1]).all():
            raise ImageError(
                "unreadable_mask",
                f"{path} is a colour picture; '#{value}' needs an index mask of one channel (grey or palette)",
            )
        labelled: Inside = (colours[..., 0] == value) & opaque
        return labelled
    inside: Inside = colours.any(axis=-1) & opaque
    if not inside.any() and not opaque.all() and opaque.any():
        advice = f"if its alpha channel is the mask, write {path}#alpha"
        raise ImageError(
            "unreadable_mask", f"{path} is black everywhere and partly transparent; {advice}"
        )
    return inside


def _volume_slice(source: RegionSource, root: Path) -> Inside:
    """Slice k of the third axis as stored, rows along the second axis.

    The same as ``SimpleITK.GetArrayFromImage(volume)[k]``.
    """
    try:
        import nibabel
    except ImportError as error:
        raise MissingExtraError("Reading NIfTI masks", "nifti", "nibabel") from error
    path, index = source.path, source.slice_index
    try:
        volume: Any = nibabel.load(root / path)
        shape = tuple(side for side in volume.shape if side != 1 or len(volume.shape) <= 3)
        if index is None and len(shape) != 2:
            raise ImageError(
                "unreadable_mask",
                f"{path} has the shape {shape}; choose one slice of its third axis: {path}#0",
            )
        if index is not None and (len(shape) != 3 or index >= shape[2]):
            raise ImageError(
                "unreadable_mask",
                f"{path} has the shape {shape} and no slice {index} (counted from 0)",
            )
        values = (
            np.asarray(volume.dataobj).reshape(shape)
            if index is None
            else np.asarray(volume.dataobj[:, :, index]).reshape(shape[:2])
        )
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("missing_mask", f"the volume {path} does not exist") from error
    except Exception as error:  # as for images: a damaged file raises anything
        raise ImageError(
            "unreadable_mask", f"the volume {path} cannot be read ({type(error).__name__})"
        ) from error
    if not np.isfinite(values).all():
        raise ImageError("unreadable_mask", f"the volume {path} holds values that are not finite")
    return cast(Inside, (values != 0 if source.value is None else values == source.value).T)


def _check_size(found: Size, size: Size, what: str) -> None:
    (h, w), (height, width) = found, size
    if abs(h * width - w * height) < max(
        height, width, h, w
    ):  # one side is off by less than one pixel of the smaller picture
        return
    message = f"{what} is {h} high and {w} wide, the image {height} high and {width} wide"
    if (w, h) == size:
        message += ": it is the image transposed; the mask was saved before or after a rotation that EXIF asks for"
    raise ImageError("mask_size", message)


def _fit(inside: Inside, size: Size, what: str) -> Inside:
    _check_size((inside.shape[0], inside.shape[1]), size, what)
    if inside.shape == size:
        return inside
    rows, columns = (
        (np.arange(side) * 2 + 1) * have // (2 * side)
        for side, have in zip(size, inside.shape, strict=True)
    )
    stretched: Inside = inside[rows[:, None], columns[None, :]]  # the pixel under each centre
    return stretched


# ── all regions of one image ──────────────────────────────────────────────────────────────────────


def region_masks(
    sample: Sample, plan: Plan, root: Path, size: Size, names: Sequence[str]
) -> dict[str, tuple[Mask | None, str]]:
    """All named regions of one image: name -> (mask (H, W), reason), or (None, reason).

    size : (H, W) of the image as displayed
    reason : "" for a mask with pixels inside, "empty_mask" for one without; "not_annotated" for an
        empty cell, or what ``load_region`` gives for a broken file. A derived region whose input
        has no mask has none either, for the same reason

    Errors: ``InputError`` for cyclic derivations and text that a checked manifest cannot hold;
    ``MissingExtraError``.
    """
    found: dict[str, tuple[Inside | None, str]] = {}
    files: dict[str, npt.NDArray[Any]] = {}
    for name in names:
        _find(name, sample, plan, root, size, found, files, ())
    return {name: _with_reason(*found[name]) for name in names}


def _with_reason(inside: Inside | None, reason: str) -> tuple[Mask | None, str]:
    if inside is None:
        return None, reason
    return inside.astype(np.float32), "" if inside.any() else "empty_mask"


def _find(
    name: str,
    sample: Sample,
    plan: Plan,
    root: Path,
    size: Size,
    found: dict[str, tuple[Inside | None, str]],
    files: dict[str, npt.NDArray[Any]],
    trail: tuple[str, ...],
) -> None:
    """Put ``name``, and every region that it is derived from, into ``found``."""
    if name in found:
        return
    if name in trail:
        raise InputError(
            f"derived regions need each other in a circle: {' -> '.join((*trail, name))}"
        )
    expr = plan.regions[name].derive if name in plan.regions else None
    if expr is None:
        found[name] = _load_or_reason(sample.regions.get(name, ""), root, size, files)
        return
    derivation = parse_derivation(expr)
    for need in derivation.needs:
        _find(need, sample, plan, root, size, found, files, (*trail, name))
    lacking = [found[need][1] for need in derivation.needs if found[need][0] is None]
    if lacking:  # a broken file is reported rather than a missing annotation: it can be repaired
        found[name] = (
            None,
            next((reason for reason in lacking if reason != "not_annotated"), "not_annotated"),
        )
        return
    inputs = {need: cast(Inside, found[need][0]) for need in derivation.needs}
    found[name] = evaluate(derivation.term, inputs, size), ""


def _load_or_reason(
    text: str, root: Path, size: Size, files: dict[str, npt.NDArray[Any]]
) -> tuple[Inside | None, str]:
    if not text:
        return None, "not_annotated"
    try:
        return _load(parse_region(text), root, size, files), ""
    except ImageError as error:
        return None, error.reason
