"""The notation of a region cell: its text comes in, a ``RegionSource`` or a clear error goes out.

This is the place for a new notation or mask format; ``masks`` turns its source into pixels and
lists every form in its table.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradaudit.errors import InputError
from gradaudit.number_text import count
from gradaudit.regions.derived import Size

LOSSY_TYPES = (".jpg", ".jpeg")
MASK_TYPES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".pbm", ".pgm", ".ppm", *LOSSY_TYPES)
VOLUME_TYPES = (".nii", ".nii.gz")
MAX_PIXELS = 178_956_970
"""Masks of more pixels are refused before they are decoded.

Twice the limit at which Pillow warns, which is where Pillow itself refuses.
"""


class RegionTextError(InputError):
    """The text of a region breaks the rule ``rule``; the message says what was expected.

    The message does not quote the cell, so that problems of many rows can be told as one.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True)
class RegionSource:
    """Where one region of one image is: parsed, nothing loaded.

    path, value, slice_index : of a mask file. ``value`` is "alpha", a stored value, or None (any
        value but 0)
    rings : flat x, y, x, y coordinates of each ring; a box is one ring of two corners
    united : the rings are parts of one region; otherwise a ring inside a ring is a hole
    counts, size : run lengths down the columns, starting with a run outside, and (height, width) of
        their image; None: the size of the image itself
    """

    kind: Literal["file", "volume", "box", "polygon", "rle", "whole", "absent"]
    path: str = ""
    value: int | Literal["alpha"] | None = None
    slice_index: int | None = None
    rings: tuple[tuple[float, ...], ...] = ()
    united: bool = False
    counts: tuple[int, ...] = ()
    size: Size | None = None


def is_url(path: str) -> bool:
    """True for what fsspec opens (``s3://...``, ``https://...``), False for a path on this machine."""
    return "://" in path


# ── text to source ────────────────────────────────────────────────────────────────────────────────


def parse_region(text: str) -> RegionSource:
    """The source that a cell's text names; the table in ``regions.masks`` lists the forms.

    Errors: ``RegionTextError`` (an ``InputError``) with the rule that is broken.
    """
    text = text.strip()
    if text == "whole":
        return RegionSource("whole")
    if text == "absent":
        return RegionSource("absent")
    if text[:1] == "{":
        return _parse_rle(text)
    if text[:1] == "[":
        return _parse_coco_polygon(text)
    kind, colon, body = text.partition(":")
    match kind.lower() if colon else "":
        case "box":
            return _parse_box(body, "x0,y0,x1,y1", corners=True)
        case "xywh":
            return _parse_box(body, "x,y,width,height", corners=False)
        case "polygon":
            return _parse_polygon(body)
        case "rle":
            return _parse_rle(body.strip())
    if not colon or len(kind) == 1 or is_url(text):  # a path, a Windows drive, a URL
        return _parse_path(text)
    raise RegionTextError(
        "region_kind",
        "there is no such kind of region; known are box:x0,y0,x1,y1, xywh:x,y,width,height (as COCO's bbox), polygon:, rle:, "
        "whole, absent, or the path of a mask",
    )


def _parse_path(text: str) -> RegionSource:
    if text.lower().endswith(MASK_TYPES):
        return RegionSource("file", text)
    path, mark, part = text.rpartition("#")
    if not mark or not path.lower().endswith((*MASK_TYPES, *VOLUME_TYPES)):
        path, mark, part = text, "", ""
    if path.lower().endswith(VOLUME_TYPES):
        return _parse_volume(path, part)
    if not path.lower().endswith(MASK_TYPES):
        raise RegionTextError(
            "mask_type",
            f"a mask is an image file ({', '.join(MASK_TYPES)}) or a NIfTI volume (.nii, .nii.gz)",
        )
    if part == "alpha":
        return RegionSource("file", path, "alpha")
    if mark and not _is_whole_number(part):
        raise RegionTextError(
            "label_value",
            "after # stands one stored value of the index mask, a whole number from 0, or 'alpha'",
        )
    if part and path.lower().endswith(LOSSY_TYPES):
        raise RegionTextError(
            "label_value", "JPEG does not keep values: an index mask must be a PNG, GIF or TIFF"
        )
    return RegionSource("file", path, int(part) if part else None)


def _parse_volume(path: str, part: str) -> RegionSource:
    index, equals, value = part.partition("=")
    if (part and not _is_whole_number(index)) or (equals and not _is_whole_number(value)):
        raise RegionTextError(
            "label_value",
            "after # of a volume stands the slice, a whole number from 0, or slice=value: scan.nii.gz#12=2",
        )
    if is_url(path):
        raise RegionTextError(
            "mask_type",
            "NIfTI volumes are read from local files only; copy the volume beside the manifest",
        )
    return RegionSource(
        "volume", path, int(value) if value else None, int(index) if index else None
    )


def _is_whole_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _numbers(text: str, rule: str, expected: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.strip().strip("[]()").replace(",", " ").split())
    except ValueError:
        raise RegionTextError(rule, f"a coordinate is not a number; expected {expected}") from None
    if not all(map(math.isfinite, values)):
        raise RegionTextError(rule, f"a coordinate is not finite; expected {expected}")
    return values


def _parse_box(body: str, form: str, corners: bool) -> RegionSource:
    values = _numbers(body, "box_malformed", f"four numbers {form}")
    if len(values) != 4:
        raise RegionTextError("box_malformed", f"expected four numbers {form}")
    x0, y0, x1, y1 = values
    if not corners:
        x1, y1 = x0 + x1, y0 + y1
    if x1 <= x0 or y1 <= y0:
        hint = "x1 must be above x0 and y1 above y0 (if the cell is COCO's x,y,width,height, write xywh:)"
        raise RegionTextError("box_empty", hint if corners else "width and height must be above 0")
    if x1 <= 0 or y1 <= 0:
        raise RegionTextError(
            "box_outside",
            "the box ends before the image begins (coordinates count from the upper left corner)",
        )
    if max(values) <= 1 and any(value % 1 for value in values):
        raise RegionTextError(
            "box_fractions",
            "the coordinates are fractions of the image; write pixels (multiply by width and height)",
        )
    return RegionSource("box", rings=((x0, y0, x1, y1),))


def _parse_polygon(body: str) -> RegionSource:
    expected = "x,y pairs separated by spaces, rings by ';'"
    rings = tuple(
        _numbers(part, "polygon_malformed", expected) for part in body.split(";") if part.strip()
    )
    return _polygon(rings, united=False)


def _parse_coco_polygon(text: str) -> RegionSource:
    form = "expected a COCO segmentation [[x0, y0, x1, y1, ...], ...]; a box is written box:x0,y0,x1,y1 or xywh:x,y,width,height"
    try:
        rings = tuple(tuple(float(value) for value in ring) for ring in json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise RegionTextError("polygon_malformed", form) from None
    if not all(math.isfinite(value) for ring in rings for value in ring):
        raise RegionTextError("polygon_malformed", f"a coordinate is not finite; {form}")
    return _polygon(rings, united=True)


def _polygon(rings: tuple[tuple[float, ...], ...], united: bool) -> RegionSource:
    if any(len(ring) % 2 for ring in rings):
        raise RegionTextError(
            "polygon_malformed",
            "a ring has an odd number of coordinates; every point has an x and a y",
        )
    if not rings or any(len(ring) < 6 for ring in rings):
        raise RegionTextError("polygon_points", "a ring needs at least three points")
    values = [value for ring in rings for value in ring]
    if max(values) <= 1 and any(value % 1 for value in values):
        raise RegionTextError(
            "box_fractions",
            "the coordinates are fractions of the image; write pixels (multiply by width and height)",
        )
    if max(values[0::2]) <= 0 or max(values[1::2]) <= 0:
        raise RegionTextError(
            "box_outside",
            "the polygon ends before the image begins (coordinates count from the upper left corner)",
        )
    return RegionSource("polygon", rings=rings, united=united)


def _parse_rle(body: str) -> RegionSource:
    size: Size | None = None
    counts: Any = body
    if body[:1] == "{":
        size, counts = _rle_object(body)
    else:
        head, colon, rest = body.partition(":")
        height, cross, width = head.partition("x")
        if colon and cross and _is_whole_number(height) and _is_whole_number(width):
            size, counts = (int(height), int(width)), rest.strip()
        if counts[:1] == "[" and counts[-1:] == "]":
            counts = _json(counts)
    runs = _compressed_counts(counts) if isinstance(counts, str) else _listed_counts(counts)
    if size is not None and (size[0] < 1 or size[1] < 1 or size[0] * size[1] > MAX_PIXELS):
        raise RegionTextError(
            "rle_malformed",
            f"size is [height, width] in pixels, each at least 1, together at most {count(MAX_PIXELS)} pixels",
        )
    if size is not None and sum(runs) != size[0] * size[1]:
        raise RegionTextError(
            "rle_size",
            "the run lengths do not add up to height x width (size is [height, width], not [width, height])",
        )
    return RegionSource("rle", counts=runs, size=size)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        form = '{"size": [height, width], "counts": ...} (in CSV, double the quotes)'
        raise RegionTextError("rle_malformed", f"not valid JSON; expected {form}") from None


def _rle_object(text: str) -> tuple[Size, Any]:
    data = _json(text)
    size = data.get("size")
    if (
        not (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size))
        or "counts" not in data
    ):
        raise RegionTextError(
            "rle_malformed",
            'expected {"size": [height, width], "counts": a string or a list of whole numbers}',
        )
    return (size[0], size[1]), data["counts"]


def _listed_counts(counts: Any) -> tuple[int, ...]:
    if not isinstance(counts, list) or not all(
        type(count) is int and count >= 0 for count in counts
    ):
        raise RegionTextError(
            "rle_malformed", "counts is a list of whole numbers from 0, or COCO's compressed string"
        )
    return tuple(counts)


def _compressed_counts(text: str) -> tuple[int, ...]:
    """Run lengths from a COCO compressed string.

    Each character holds 5 bits, the lowest first, and bit 6 says that the number continues. From
    the fourth on, numbers are differences to the one two places before. Everything is decoded and
    summed here before a mask is filled, because the C code of pycocotools trusts its input.

    Source: ``rleFrString`` in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c
    """
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    broken = RegionTextError(
        "rle_malformed",
        "counts is not a COCO compressed string (characters '0' to 'o', cut off nowhere)",
    )
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise broken
    ends = np.flatnonzero((codes & 32) == 0)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 7:
        raise broken
    starts = ends - lengths + 1
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise broken
    return tuple(runs.tolist())
