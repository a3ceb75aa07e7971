"""From samples to batches: images decoded and preprocessed, masks beside them in the same pixels, read ahead by other processes."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from gradaudit.config import Plan
from gradaudit.errors import GradauditError, ImageError, InputError, foreign_place, in_words, own_place
from gradaudit.images import FloatArray, Geometry, Preprocess, Size, decode_image, plain_text, preprocess_image
from gradaudit.records import Sample
from gradaudit.regions import region_masks


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """N samples ready for the network; an image that cannot be read keeps its slot, so its neighbours' numbers do not move.

    images : (N, C, H, W) float32, preprocessed; zeros where unreadable      masks : (N, R, H, W) float32 coverage in [0, 1]
    reasons : N x R codes of ``records.REASONS``, "" where the mask is usable      failures : N x (reason, message), ("", "") if readable
    sizes : N x (height, width) as decoded, (0, 0) if unreadable
    """

    images: torch.Tensor
    masks: torch.Tensor
    reasons: tuple[tuple[str, ...], ...]
    failures: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]
    region_names: tuple[str, ...]
    sizes: tuple[Size, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def readable(self) -> tuple[bool, ...]:
        """Per image: was it read?"""
        return tuple(reason == "" for reason, _ in self.failures)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """One sample on its way into a batch; ``image`` is None where it could not be read."""

    image: FloatArray | None
    masks: tuple[FloatArray | None, ...]
    reasons: tuple[str, ...]
    failure: tuple[str, str] = ("", "")
    size: Size = (0, 0)


def load_batch(samples: Sequence[Sample], root: Path | None, preprocess: Preprocess | None, plan: Plan, region_names: Sequence[str]) -> ImageBatch:
    """Decode, preprocess and mask N samples; Pillow, numpy and scipy only, so it may run in a worker process.

    ``preprocess`` None takes images as decoded (RGB in [0, 1]).  A batch without one readable image, under a preprocess that
    fixes no size, has H = W = 0.

    Errors: ``InputError`` where the images of the batch end up in different sizes.
    """
    settings = preprocess or Preprocess()
    names = tuple(region_names)
    loaded = [_load_sample(sample, root, settings, plan, names) for sample in samples]
    height, width = _common_size(samples, loaded, settings)
    images = np.zeros((len(loaded), settings.channels, height, width), dtype=np.float32)
    masks = np.zeros((len(loaded), len(names), height, width), dtype=np.float32)
    for row, item in enumerate(loaded):
        if item.image is not None:
            images[row] = item.image
        for column, mask in enumerate(item.masks):
            if mask is not None:
                masks[row, column] = mask
    return ImageBatch(
        images=torch.from_numpy(images),
        masks=torch.from_numpy(masks),
        reasons=tuple(item.reasons for item in loaded),
        failures=tuple(item.failure for item in loaded),
        samples=tuple(samples),
        region_names=names,
        sizes=tuple(item.size for item in loaded),
    )


def _load_sample(sample: Sample, root: Path | None, preprocess: Preprocess, plan: Plan, names: tuple[str, ...]) -> _Loaded:
    try:
        image = decode_image(sample.image, root)
    except ImageError as error:
        return _Loaded(None, (None,) * len(names), (error.reason,) * len(names), (error.reason, str(error)))
    masks = _load_masks(sample, root, preprocess, plan, names, image.size)
    return _Loaded(
        preprocess_image(image, preprocess),
        tuple(masks[name][0] for name in names),
        tuple(masks[name][1] for name in names),
        size=image.size,
    )


def _load_masks(
    sample: Sample, root: Path | None, preprocess: Preprocess, plan: Plan, names: tuple[str, ...], size: Size
) -> dict[str, tuple[FloatArray | None, str]]:
    if not names:
        return {}
    geometry = preprocess.geometry(size)
    found = region_masks(sample, plan, root or Path(), size, names)
    return {name: _warp_region(*found[name], geometry) for name in names}


def _warp_region(mask: FloatArray | None, reason: str, geometry: Geometry) -> tuple[FloatArray | None, str]:
    """The mask in the network's pixels and its reason: a region that the crop cuts away is not one that was never there."""
    if mask is None:
        return None, reason
    if reason:
        return None, reason
    warped = geometry.warp_mask(mask)
    return (warped, "") if warped.any() else (None, "empty_after_crop")


def _common_size(samples: Sequence[Sample], loaded: Sequence[_Loaded], preprocess: Preprocess) -> Size:
    by_size: dict[Size, list[str]] = {}
    for sample, item in zip(samples, loaded, strict=True):
        if item.image is not None:
            by_size.setdefault((item.image.shape[1], item.image.shape[2]), []).append(sample.id)
    if len(by_size) > 1:
        listing = ", ".join(f"{h}x{w} ({len(ids)} images, e.g. {ids[0]})" for (h, w), ids in sorted(by_size.items()))
        raise InputError(
            f"{len(loaded)} images of one batch end up in {len(by_size)} sizes (height x width): {listing}. "
            "Declare a preprocess that fixes the size, e.g. crop = 224 or resize = [224, 224] under [preprocess]."
        )
    return next(iter(by_size), preprocess.output_size or (0, 0))


def iterate_batches(
    chunks: Sequence[Sequence[Sample]],
    root: Path | None,
    preprocess: Preprocess | None,
    plan: Plan,
    region_names: Sequence[str],
    workers: int = 0,
) -> Iterator[ImageBatch]:
    """``load_batch`` of every chunk, in order; the same batches for every number of ``workers``.

    ``workers`` > 0 decodes ahead in that many processes, two batches each, while the caller computes.  They end with the
    generator, also when it is closed early.

    Errors: ``load_batch``'s own, from workers too; ``GradauditError`` where a worker dies, or a user's own preprocessing fails in it.
    """
    if workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}.")
    dataset = _Batches(chunks, root, preprocess, plan, tuple(region_names))
    if workers == 0 or len(chunks) < 2:
        yield from map(dataset.load, chunks)
        return
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        prefetch_factor=2,
        collate_fn=_as_is,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # the loader draws a seed; from here, so that the caller's random state stays as it is
    )
    batches = iter(loader)
    try:
        for _ in chunks:
            yield _received(batches)
    finally:
        del batches  # the loader's finaliser ends its processes and waits for them


@dataclass(frozen=True)
class _Failure:
    """What went wrong in a worker, as text: an exception of another library may not survive the way between processes."""

    kind: type[Exception]
    message: str
    trace: str = ""

    def error(self) -> Exception:
        error = self.kind(self.message)
        if self.trace:
            error.add_note(self.trace)
        return error


class _Batches(Dataset["ImageBatch | _Failure"]):
    """One item is one whole batch, so that a batch is built where it is decoded."""

    def __init__(
        self, chunks: Sequence[Sequence[Sample]], root: Path | None, preprocess: Preprocess | None, plan: Plan, region_names: tuple[str, ...]
    ) -> None:
        self.chunks = chunks
        self.settings = (root, preprocess, plan, region_names)

    def __len__(self) -> int:
        return len(self.chunks)

    def load(self, chunk: Sequence[Sample]) -> ImageBatch:
        return load_batch(chunk, *self.settings)

    def __getitem__(self, index: int) -> ImageBatch | _Failure:
        try:
            return self.load(self.chunks[index])
        except GradauditError as error:
            return _Failure(InputError if isinstance(error, InputError) else GradauditError, str(error))
        except (Exception, SystemExit) as error:
            first, last = self.chunks[index][0].id, self.chunks[index][-1].id
            foreign, place = foreign_place(error), foreign_place(error) or own_place(error)
            where = f" at {place[0]}, line {place[1]}" if place else ""
            kind = RuntimeError if foreign is None else GradauditError
            return _Failure(kind, f"Images {first} to {last} could not be loaded: {in_words(error)}{where}", traceback.format_exc())


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)  # the processes are the parallelism; threads of theirs would take the network's cores


def _as_is(batch: Any) -> Any:
    return batch


def _received(batches: Iterator[ImageBatch | _Failure]) -> ImageBatch:
    try:
        batch = next(batches)
    except RuntimeError as error:
        raise GradauditError(
            f"A process that reads images ended by itself, which the system does when memory runs out: {plain_text(error)} "
            "Use fewer workers or a smaller batch size; with workers = 0 the images are read in the main process."
        ) from error
    if isinstance(batch, _Failure):
        raise batch.error()  # in no variable of this frame, which its traceback would keep alive, and with it the loader's processes
    return batch


def thumbnail(
    sample: Sample, root: Path | None, preprocess: Preprocess | None, plan: Plan, region_names: Sequence[str], side: int
) -> tuple[Image.Image, dict[str, FloatArray]]:
    """What the network sees of one sample, before normalising: the picture with its longer side at ``side``, and its usable masks.

    returns : Pillow RGB; {region: (h, w) float32 coverage of the thumbnail's pixels}, without regions that have no usable mask

    Errors: ``ImageError`` where the image cannot be read.
    """
    settings = preprocess or Preprocess()
    image = decode_image(sample.image, root)
    values = preprocess_image(image, settings)
    mean, std = (np.array(part, np.float32)[:, None, None] for part in (settings.mean, settings.std))
    shown = np.round(np.clip(values * std + mean, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(shown, (3, *shown.shape[1:])).transpose(1, 2, 0)))
    height, width = (max(1, round(length * side / max(shown.shape[1:]))) for length in shown.shape[1:])
    masks = _load_masks(sample, root, settings, plan, tuple(region_names), image.size)
    fitted = Geometry(source=(picture.height, picture.width), scaled=(height, width), top=0, left=0, size=(height, width))
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return resized, {name: fitted.warp_mask(mask) for name, (mask, reason) in masks.items() if mask is not None and not reason}
