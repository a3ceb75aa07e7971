"""From a file to pixels, by the same rules for every image of an audit.

- EXIF orientation is applied; masks are read in those displayed pixels.
- 8-bit images stay 8 bits until they are normalized.  16-bit grey is divided by 65535 (the full
  range of the file, never the image's own maximum, so that a dark exposure stays dark).
  Float pixels must lie in [0, 1].
- Transparency (alpha, a transparent palette entry or color key) is composited over white.  CMYK is
  converted without a color profile; a CMYK JPEG is taken as inverted, as Adobe writes them.
  Color profiles are ignored, as training pipelines do.
- The first picture of an animation or a multi-page TIFF is read. A multi-frame DICOM is refused,
  because nothing says which frame is meant.
- JPEG ``draft`` and ``reducing_gap`` would decode large photographs faster and move pixels by
  several grey levels; they are not used.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gradaudit.errors import GradauditError, ImageError, MissingExtraError
from gradaudit.number_text import plain_number

Size = tuple[int, int]
FloatArray = NDArray[np.float32]


# ── decoding ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One upright picture.

    raster : Pillow "RGB" or "L" (8 bits per channel), or "F" (grey in [0, 1], from deeper files)
    mode, orientation : the file's own pixel mode and EXIF orientation (1: stored upright), for the
        record
    digest : sha256 of the file's bytes
    """

    raster: Image.Image
    mode: str
    orientation: int = 1
    digest: str = ""

    @property
    def size(self) -> Size:
        """(height, width) as displayed."""
        return self.raster.height, self.raster.width

    @property
    def pixels(self) -> FloatArray:
        """(H, W, 3) float32 in [0, 1]; a grey image has three equal channels."""
        values = np.asarray(self.raster)
        scaled = values if self.raster.mode == "F" else values.astype(np.float32) / np.float32(255)
        return (
            np.ascontiguousarray(np.broadcast_to(scaled[..., None], (*scaled.shape, 3)))
            if scaled.ndim == 2
            else scaled
        )


def decode_image(source: str | Path, root: Path | None = None) -> DecodedImage:
    """Read one image from a path, or from a URL that fsspec opens.

    source : a path (a relative one starts at ``root``) or ``s3://``, ``gs://``, ``https://`` ...

    Errors: ``ImageError`` with reason ``missing_file``, ``truncated``, ``decompression_bomb`` (more
    than twice ``PIL.Image.MAX_IMAGE_PIXELS``, Pillow's own limit) or ``unreadable``;
    ``MissingExtraError`` for DICOM without pydicom.
    """
    content = _read_bytes(source, root)
    if not content:
        raise ImageError("truncated", f"{source}: the file is empty")
    is_dicom = content[128:132] == b"DICM" or str(source).lower().endswith((".dcm", ".dicom"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a damaged EXIF block or a large picture is not the caller's warning
            image = _decode_dicom(content, str(source)) if is_dicom else _decode_pillow(content)
            return replace(image, digest=hashlib.sha256(content).hexdigest())
    except ImageError as error:
        raise ImageError(error.reason, f"{source}: {error}") from error
    except (GradauditError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("decompression_bomb", f"{source}: {plain_text(error)}") from error
    # decoders raise OSError, SyntaxError, ValueError, struct.error, ...: the file is damaged
    except Exception as error:
        reason = "truncated" if _ends_early(content, error) else "unreadable"
        raise ImageError(reason, f"{source}: {plain_text(error)}") from error


def _read_bytes(source: str | Path, root: Path | None) -> bytes:
    try:
        if "://" in str(source):
            return _read_url(str(source))
        return ((root or Path()) / source).read_bytes()
    except FileNotFoundError as error:
        raise ImageError("missing_file", f"{source}: no such file") from error
    except GradauditError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        text = (
            error.strerror if isinstance(error, OSError) and error.strerror else plain_text(error)
        )
        raise ImageError("unreadable", f"{source}: {text}") from error


def _read_url(url: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(url, "rb") as stream:
            return bytes(stream.read())
    # every image with this protocol would fail in the same way: stop, and say what to install
    except ImportError as error:
        raise GradauditError(f"{url} cannot be opened: {error}") from error
    except OSError:
        raise
    except (
        Exception
    ) as error:  # remote file systems have errors of their own (credentials, HTTP status)
        raise ImageError(
            "unreadable", f"{url}: {type(error).__name__}: {plain_text(error)}"
        ) from error


def plain_text(error: BaseException) -> str:
    """The text of an error without object addresses, so that two runs give the same text."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a format that can be read"
    text = re.sub(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)).strip()
    return text or type(error).__name__


def _ends_early(content: bytes, error: Exception) -> bool:
    words = (
        "truncated",
        "not enough image data",
        "but only got",
        "unexpected end",
        "unexpected eof",
    )
    if isinstance(error, EOFError) or any(word in str(error).lower() for word in words):
        return True
    return content[:4] == b"RIFF" and int.from_bytes(content[4:8], "little") + 8 > len(
        content
    )  # WebP tells its own length


_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the stored picture upright (EXIF 2.32, tag 0x0112)."""


def _decode_pillow(content: bytes) -> DecodedImage:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        orientation = _orientation(image)
        raster = _to_raster(image)
        mode = image.mode
    if orientation in _TRANSPOSITIONS:
        raster = raster.transpose(_TRANSPOSITIONS[orientation])
    return DecodedImage(raster, mode, orientation)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 where there is none, or where only the EXIF block is damaged."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_raster(image: Image.Image) -> Image.Image:
    """Any Pillow mode as "RGB", "L" or "F" in [0, 1]; see the rules at the top of this file."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray(np.asarray(image).astype(np.float32) / np.float32(65535))
    if image.mode in ("I", "F"):
        return _checked_float(image)
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode in ("L", "RGB"):
        return image  # the common case keeps its pixels where they are; ``convert`` would copy them
    return image.convert("L" if image.mode == "1" else "RGB")


def _checked_float(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "I" or not (low >= 0 and high <= 1):
        kind = "32-bit integer" if image.mode == "I" else "float"
        raise ImageError(
            "unreadable",
            f"{kind} pixels from {plain_number(low)} to {plain_number(high)} have no declared white. "
            "Store them as 8 or 16 bits, or as floats in [0, 1].",
        )
    return image.copy()


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    if rgba.getchannel("A").getextrema() == (255, 255):
        return rgba.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


# ── DICOM ─────────────────────────────────────────────────────────────────────────────────────────


def _decode_dicom(content: bytes, name: str) -> DecodedImage:
    """One-frame DICOM as it is meant to be shown.

    Modality rescale, then the file's first window (or the full range of its bits); MONOCHROME1 is
    inverted.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
        from pydicom.pixels.utils import pixel_array
    except ImportError as error:
        raise MissingExtraError(f"Reading the DICOM file {name}", "dicom", "pydicom") from error
    data = dcmread(io.BytesIO(content), force=True)
    frames, pixels = (
        int(data.get("NumberOfFrames") or 1),
        int(data.get("Rows") or 0) * int(data.get("Columns") or 0),
    )
    if not pixels or "PixelData" not in data:
        raise ImageError("unreadable", "a DICOM file without pixel data")
    if frames > 1:
        raise ImageError(
            "unreadable",
            f"a DICOM file of {frames} frames; write the frame that is meant to a file of its own",
        )
    limit = 2 * (Image.MAX_IMAGE_PIXELS or pixels)
    if pixels > limit:
        raise Image.DecompressionBombError(
            f"Image size ({pixels} pixels) exceeds limit of {limit} pixels"
        )
    mode = str(data.get("PhotometricInterpretation", ""))
    values = pixel_array(data)
    if mode == "PALETTE COLOR":
        values = apply_color_lut(values, data)
    if np.ndim(values) == 3:
        depth = (
            2 ** (8 * values.dtype.itemsize) - 1
            if mode == "PALETTE COLOR"
            else 2 ** int(data.BitsStored) - 1
        )
        return DecodedImage(
            Image.fromarray(np.round(values * (255.0 / depth)).astype(np.uint8)), mode
        )
    grey = _windowed(apply_modality_lut(values, data).astype(np.float64), data)
    return DecodedImage(
        Image.fromarray((1 - grey if mode == "MONOCHROME1" else grey).astype(np.float32)), mode
    )


def _windowed(values: NDArray[np.float64], data: Any) -> NDArray[np.float64]:
    """Stored intensities as shown, in [0, 1].

    DICOM PS3.3 C.11.2.1.2 (LINEAR), C.11.2.1.3 (SIGMOID, LINEAR_EXACT).
    """
    if data.get("WindowCenter") is None or data.get("WindowWidth") is None:
        return _full_range(values, data)
    centre, width = (
        float(np.atleast_1d(data[name].value)[0]) for name in ("WindowCenter", "WindowWidth")
    )
    function = str(data.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR_EXACT":
        return np.asarray(np.clip((values - centre) / width + 0.5, 0, 1))
    if width <= 1:  # the standard's limit: a step
        return (values > centre - 0.5).astype(np.float64)
    return np.asarray(np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1))


def _full_range(values: NDArray[np.float64], data: Any) -> NDArray[np.float64]:
    """Intensities scaled by what BitsStored can hold, never by the image's own extremes.

    A VOI look-up table is applied first where there is one.
    """
    bits, signed = int(data.BitsStored), int(data.get("PixelRepresentation") or 0)
    if "VOILUTSequence" in data:
        from pydicom.pixels.processing import apply_voi

        depth = int(data.VOILUTSequence[0].LUTDescriptor[2])
        shown = np.asarray(apply_voi(values.astype(np.int64), data), dtype=np.float64)
        return np.asarray(shown / (2**depth - 1))
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    low_out, high_out = sorted((low * slope + intercept, high * slope + intercept))
    return np.asarray(np.clip((values - low_out) / (high_out - low_out), 0, 1))
