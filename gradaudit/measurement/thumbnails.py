"""Small pictures and region outlines for the gallery of the report."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from gradaudit.errors import ImageError
from gradaudit.images.preprocessing import Preprocess
from gradaudit.manifest.reading import Manifest
from gradaudit.measurement.samples import thumbnail
from gradaudit.plan import Plan
from gradaudit.runs.folder import write_atomically


def write_thumbnails(
    manifest: Manifest,
    preprocess: Preprocess | None,
    plan: Plan,
    image_ids: Iterable[str],
    folder: Path,
) -> dict[str, dict[str, Any]]:
    """Write ``folder``/thumbs for the given images: what the network sees, and region outlines.

    The pictures carry no metadata.

    returns : image id -> {"file", "width", "height", "outlines": {region: SVG path data in
        thumbnail pixels}}; also
    written to thumbs/index.json.  Images that cannot be read are left out.
    """
    samples = {sample.id: sample for sample in manifest.samples}
    thumbs = folder / "thumbs"
    index: dict[str, dict[str, Any]] = {}
    for position, image_id in enumerate(dict.fromkeys(image_ids)):
        try:
            picture, masks = thumbnail(
                samples[image_id],
                manifest.root,
                preprocess,
                plan,
                manifest.region_names,
                plan.report.thumbnail,
            )
        except ImageError:
            continue
        name = f"{position:05d}.jpg"
        write_atomically(thumbs / name, _jpeg(picture))
        outlines = {region: path for region, mask in masks.items() if (path := outline_path(mask))}
        index[image_id] = {
            "file": name,
            "width": picture.width,
            "height": picture.height,
            "outlines": outlines,
        }
    write_atomically(
        thumbs / "index.json", (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    )
    return index


def outline_path(mask: Any) -> str:
    """Outline of a mask (h, w) in [0, 1] at its half level, as SVG path data in pixels.

    Empty for an empty mask.
    """
    padded = np.pad(np.asarray(mask, dtype=float), 1)
    pieces = []
    for contour in find_contours(padded, 0.5):  # type: ignore[no-untyped-call]
        points = approximate_polygon(contour, tolerance=0.35)  # type: ignore[no-untyped-call]
        if len(points) >= 4:  # fewer cannot enclose anything
            pieces.append(
                "M" + "L".join(f"{x - 0.5:.1f} {y - 0.5:.1f}" for y, x in points[:-1]) + "Z"
            )
    return "".join(pieces)


def _jpeg(picture: Image.Image) -> bytes:
    """Encoded anew from the bare pixels, so that no metadata of the original travels along."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", picture.size, picture.convert("RGB").tobytes()).save(
        buffer, "JPEG", quality=82, optimize=True
    )
    return buffer.getvalue()
