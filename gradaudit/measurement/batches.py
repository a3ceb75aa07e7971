"""Samples become batches of tensors, decoded ahead by other processes while the network runs."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gradaudit.errors import GradauditError, InputError, foreign_place, in_words, own_place
from gradaudit.images.decoding import Size, plain_text
from gradaudit.images.preprocessing import Preprocess
from gradaudit.measurement.samples import common_size, decode_sample
from gradaudit.plan import Plan
from gradaudit.records import Sample


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """N samples ready for the network.

    An image that cannot be read keeps its place, so that its neighbors' numbers do not move.

    images : (N, C, H, W) float32, preprocessed; zeros where unreadable
    masks : (N, R, H, W) float32 coverage in [0, 1]
    reasons : N x R codes of ``records.REASONS``, "" where the mask is usable
    failures : N x (reason, message), ("", "") if readable
    sizes : N x (height, width) as decoded, (0, 0) if unreadable
    digests : N x sha256 of the image file, "" if unreadable; () where nobody asked
    """

    images: torch.Tensor
    masks: torch.Tensor
    reasons: tuple[tuple[str, ...], ...]
    failures: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]
    region_names: tuple[str, ...]
    sizes: tuple[Size, ...]
    digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def readable(self) -> tuple[bool, ...]:
        """Per image: was it read?"""
        return tuple(reason == "" for reason, _ in self.failures)


def load_batch(
    samples: Sequence[Sample],
    root: Path | None,
    preprocess: Preprocess | None,
    plan: Plan,
    region_names: Sequence[str],
) -> ImageBatch:
    """Decode, preprocess and mask N samples, in any process (see ``samples``).

    ``preprocess`` None takes images as decoded (RGB in [0, 1]).  A batch without one readable
    image, under a preprocess that fixes no size, has H = W = 0.

    Errors: ``InputError`` where the images of the batch end up in different sizes.
    """
    settings = preprocess or Preprocess()
    names = tuple(region_names)
    loaded = [decode_sample(sample, root, settings, plan, names) for sample in samples]
    height, width = common_size(samples, loaded, settings)
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
        digests=tuple(item.digest for item in loaded),
        samples=tuple(samples),
        region_names=names,
        sizes=tuple(item.size for item in loaded),
    )


def iterate_batches(
    chunks: Sequence[Sequence[Sample]],
    root: Path | None,
    preprocess: Preprocess | None,
    plan: Plan,
    region_names: Sequence[str],
    workers: int = 0,
) -> Generator[ImageBatch, None, None]:
    """``load_batch`` of every chunk, in order; the same batches for every number of ``workers``.

    ``workers`` > 0 decodes ahead in that many processes, two batches each, while the caller
    computes.  They end with the generator, also when it is closed early.

    Errors: ``load_batch``'s own, from workers too; ``GradauditError`` where a worker dies, or a
    user's own preprocessing fails in it.
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
        # the loader draws a seed; from here, so that the caller's random state stays as it is
        generator=torch.Generator(),
    )
    batches = iter(loader)
    try:
        for _ in chunks:
            yield _received(batches)
    finally:
        del batches  # the loader's finaliser ends its processes and waits for them


@dataclass(frozen=True)
class _Failure:
    """What went wrong in a worker, as text.

    An exception of another library may not survive the way between processes.
    """

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
        self,
        chunks: Sequence[Sequence[Sample]],
        root: Path | None,
        preprocess: Preprocess | None,
        plan: Plan,
        region_names: tuple[str, ...],
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
            return _Failure(
                InputError if isinstance(error, InputError) else GradauditError, str(error)
            )
        except (Exception, SystemExit) as error:
            first, last = self.chunks[index][0].id, self.chunks[index][-1].id
            foreign, place = foreign_place(error), foreign_place(error) or own_place(error)
            where = f" at {place[0]}, line {place[1]}" if place else ""
            kind = RuntimeError if foreign is None else GradauditError
            return _Failure(
                kind,
                f"Images {first} to {last} could not be loaded: {in_words(error)}{where}",
                traceback.format_exc(),
            )


def _start_worker(worker: int) -> None:
    torch.set_num_threads(
        1
    )  # the processes are the parallelism; threads of theirs would take the network's cores


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
        # in no variable of this frame, which its traceback would keep alive, and with it the loader's processes
        raise batch.error()
    return batch
