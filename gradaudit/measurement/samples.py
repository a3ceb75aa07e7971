"""One sample decoded: the image preprocessed for the network, its masks in the same pixels.

A manifest row comes in, arrays go out.  Pillow, numpy and scipy only: a process that does nothing
but decode needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gradaudit.errors import ImageError, InputError
from gradaudit.images.decoding import FloatArray, Size, decode_image
from gradaudit.images.preprocessing import Geometry, Preprocess, preprocess_image
from gradaudit.plan import Plan
from gradaudit.records import Sample
from gradaudit.regions.masks import region_masks


@dataclass(frozen=True, eq=False)
class DecodedSample:
    """One sample on its way into a batch: R regions beside one image.

    image : (C, H, W) float32, preprocessed; None where it could not be read
    masks : R x (H, W) float32 coverage in [0, 1]; None where there is no usable mask
    reasons : R codes of ``records.REASONS``, "" where the mask is usable
    failure : (reason, message), ("", "") if the image was read
    size : (height, width) as decoded, (0, 0) if unreadable
    digest : sha256 of the image file, "" if unreadable
    """

    image: FloatArray | None
    masks: tuple[FloatArray | None, ...]
    reasons: tuple[str, ...]
    failure: tuple[str, str] = ("", "")
    size: Size = (0, 0)
    digest: str = ""


def decode_sample(
    sample: Sample, root: Path | None, preprocess: Preprocess, plan: Plan, names: tuple[str, ...]
) -> DecodedSample:
    """Decode and preprocess one image and put its masks into the network's pixels.

    An image that cannot be read gives a sample with its reason, never an exception.
    """
    try:
        image = decode_image(sample.image, root)
    except ImageError as error:
        return DecodedSample(
            None, (None,) * len(names), (error.reason,) * len(names), (error.reason, str(error))
        )
    masks = _load_masks(sample, root, preprocess, plan, names, image.size)
    return DecodedSample(
        preprocess_image(image, preprocess),
        tuple(masks[name][0] for name in names),
        tuple(masks[name][1] for name in names),
        size=image.size,
        digest=image.digest,
    )


def _load_masks(
    sample: Sample,
    root: Path | None,
    preprocess: Preprocess,
    plan: Plan,
    names: tuple[str, ...],
    size: Size,
) -> dict[str, tuple[FloatArray | None, str]]:
    if not names:
        return {}
    geometry = preprocess.geometry(size)
    found = region_masks(sample, plan, root or Path(), size, names)
    return {name: _warp_region(*found[name], geometry) for name in names}


def _warp_region(
    mask: FloatArray | None, reason: str, geometry: Geometry
) -> tuple[FloatArray | None, str]:
    """The mask in the network's pixels, or None and the reason.

    A region that the crop cuts away has a reason of its own, unlike one that was never there.
    """
    if mask is None or reason:
        return None, reason
    warped = geometry.warp_mask(mask)
    return (warped, "") if warped.any() else (None, "empty_after_crop")


def common_size(
    samples: Sequence[Sample], loaded: Sequence[DecodedSample], preprocess: Preprocess
) -> Size:
    """The one size of the images that could be read.

    Where none could: the size that the preprocess fixes, else (0, 0).

    Errors: ``InputError`` where the images end up in different sizes.
    """
    by_size: dict[Size, list[str]] = {}
    for sample, item in zip(samples, loaded, strict=True):
        if item.image is not None:
            by_size.setdefault((item.image.shape[1], item.image.shape[2]), []).append(sample.id)
    if len(by_size) > 1:
        listing = ", ".join(
            f"{h}x{w} ({len(ids)} images, e.g. {ids[0]})" for (h, w), ids in sorted(by_size.items())
        )
        raise InputError(
            f"{len(loaded)} images of one batch end up in {len(by_size)} sizes (height x width): {listing}. "
            "Declare a preprocess that fixes the size, e.g. crop = 224 or resize = [224, 224] under [preprocess]."
        )
    return next(iter(by_size), preprocess.output_size or (0, 0))


def thumbnail(
    sample: Sample,
    root: Path | None,
    preprocess: Preprocess | None,
    plan: Plan,
    region_names: Sequence[str],
    side: int,
) -> tuple[Image.Image, dict[str, FloatArray]]:
    """What the network sees of one sample, as a picture, and its usable masks.

    Before normalizing; the longer side is ``side``.

    ``side``, and its usable masks.

    returns : Pillow RGB; {region: (h, w) float32 coverage of the thumbnail's pixels}, without
        regions that have no usable mask

    Errors: ``ImageError`` where the image cannot be read.
    """
    settings = preprocess or Preprocess()
    image = decode_image(sample.image, root)
    values = preprocess_image(image, settings)
    mean, std = (
        np.array(part, np.float32)[:, None, None] for part in (settings.mean, settings.std)
    )
    shown = np.round(np.clip(values * std + mean, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(
        np.ascontiguousarray(np.broadcast_to(shown, (3, *shown.shape[1:])).transpose(1, 2, 0))
    )
    height, width = (
        max(1, round(length * side / max(shown.shape[1:]))) for length in shown.shape[1:]
    )
    masks = _load_masks(sample, root, settings, plan, tuple(region_names), image.size)
    fitted = Geometry(
        source=(picture.height, picture.width),
        scaled=(height, width),
        top=0,
        left=0,
        size=(height, width),
    )
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return resized, {
        name: fitted.warp_mask(mask)
        for name, (mask, reason) in masks.items()
        if mask is not None and not reason
    }
