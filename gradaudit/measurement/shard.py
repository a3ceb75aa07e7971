"""Measuring: ``prepare``, then ``run_shard`` for each shard, then ``finish``; ``measure`` does all
three in one process.

A manifest and a classifier come in, a table of measurements goes out: the same one whether the
shards were measured in one process, in several, or after an interruption.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from gradaudit.errors import ImageError
from gradaudit.manifest.reading import Manifest
from gradaudit.measurement.batch_rows import measure_batch
from gradaudit.measurement.batches import ImageBatch, iterate_batches
from gradaudit.measurement.devices import Progress
from gradaudit.measurement.prepare import Prepared, other_columns, prepare
from gradaudit.measurement.run_record import utc_now
from gradaudit.models.classifier import Classifier
from gradaudit.plan import Plan
from gradaudit.records import Sample
from gradaudit.runs.folder import Shard, ShardTables, joined_tables, shard_tables
from gradaudit.runs.measurements import Measurements
from gradaudit.runs.receipts import Receipt

Counted = Callable[[int], None]
"""Called with the number of images that were just measured."""


def measure(
    manifest: Manifest,
    classifier: Classifier,
    plan: Plan | None = None,
    run: str | Path | None = None,
    *,
    fresh: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Measurements:
    """Explain every image of the manifest and measure its heat in every region.

    run : folder to write to and to resume from; None keeps everything in memory.
    fresh : start the folder over.      strict : the first image that cannot be used is an error,
        not a row.
    progress : see ``Progress``.        command : kept in the run record for reproduction.

    returns : ``Measurements``, rows in manifest order; the same table whether or not the run was
        interrupted.
    Errors: ``ManifestError`` where no label is a class of the model; ``PlanError`` where the plan
    names what the manifest, as it was read, does not hold; ``RunError`` where the folder belongs to
    another manifest, model or plan; ``ModelError`` where the network cannot be explained, or gives
    probabilities in the place of logits.  A single image that fails is a row with its reason.
    """
    prepared = prepare(
        manifest, classifier, plan or Plan(), run, fresh=fresh, strict=strict, command=command
    )
    counted = _counter(progress, prepared)
    started = time.monotonic()
    with closing(shard_batches(prepared, prepared.pending)) as batches:
        if prepared.folder is None:
            tables = [measured_shard(prepared, s, batches, counted) for s in prepared.pending]
            return _in_memory(prepared, tables, time.monotonic() - started)
        for shard in prepared.pending:
            run_shard(prepared, shard, batches, counted)
    return finish(prepared, time.monotonic() - started)


def run_shard(
    prepared: Prepared,
    shard: Shard,
    batches: Iterator[ImageBatch] | None = None,
    counted: Counted | None = None,
) -> Receipt:
    """Measure one shard and write its parts, then its receipt.

    The bytes depend on nothing but ``prepared`` and ``shard``: any process may do it, and two that
    do the same shard write the same files.

    batches : those of the shard, where the caller decodes ahead over several shards (see
        ``shard_batches``); None decodes them here
    """
    return prepared.run_folder().commit(shard, measured_shard(prepared, shard, batches, counted))


def finish(prepared: Prepared, seconds: float = 0.0) -> Measurements:
    """Read the table of a run whose shards are all measured.

    seconds : what measuring the pending shards took; run.json holds the sum over all sessions.

    Errors: ``RunError`` naming every planned shard that has no receipt of this run, or whose parts
    are not what the receipt says.
    """
    folder = prepared.run_folder()
    measurements = folder.measurements()
    if not prepared.pending:
        return measurements
    folder.record_end(utc_now(), (folder.run.seconds or 0.0) + seconds)
    return replace(measurements, run=folder.run)


def _in_memory(prepared: Prepared, tables: Sequence[ShardTables], seconds: float) -> Measurements:
    """The table of a run without a folder: the one that ``finish`` would read."""
    frames = joined_tables(tables)
    record = prepared.record.model_copy(update={"seconds": seconds})
    return Measurements(frames["regions"], frames["images"], frames["maps"], record)


def _counter(progress: Progress | None, prepared: Prepared) -> Counted:
    """Sums up what is measured and reports it, first what an earlier session had finished."""
    total = len(prepared.manifest)
    done = total - sum(shard.stop - shard.start for shard in prepared.pending)

    def count(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, total)

    count(0)
    return count


# ── one shard ─────────────────────────────────────────────────────────────────────────────────────


def measured_shard(
    prepared: Prepared,
    shard: Shard,
    batches: Iterator[ImageBatch] | None = None,
    counted: Counted | None = None,
) -> ShardTables:
    """The tables of one shard; nothing is written.  Arguments as for ``run_shard``."""
    if batches is None:
        with closing(shard_batches(prepared, [shard])) as own:
            return measured_shard(prepared, shard, own, counted)
    carried = _carried_columns(prepared.manifest, shard)
    images: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    for batch in islice(batches, len(_chunks(prepared, shard))):
        if prepared.strict:
            _refuse_failures(batch)
        rows = measure_batch(batch, prepared.classifier, prepared.plan)
        images += rows.images
        regions += rows.regions
        maps += rows.maps
        if counted is not None:
            counted(len(batch))
    whole_rows = [{**row, **extra} for row, extra in zip(images, carried, strict=True)]
    return shard_tables(whole_rows, regions, maps)


def shard_batches(prepared: Prepared, shards: Sequence[Shard]) -> Generator[ImageBatch, None, None]:
    """The batches of some shards, one shard after the other, decoded ahead of the network.

    The decoding processes are started once for all of them; they end with the iterator.
    """
    manifest = prepared.manifest
    chunks = [chunk for shard in shards for chunk in _chunks(prepared, shard)]
    return iterate_batches(
        chunks,
        manifest.root,
        prepared.classifier.preprocess,
        prepared.plan,
        manifest.region_names,
        _workers(prepared.plan, len(chunks)),
    )


def _chunks(prepared: Prepared, shard: Shard) -> list[Sequence[Sample]]:
    """The samples of each batch; none crosses the shard's border.

    Which images share a batch may move a number in its last digits, so it is part of the run.
    """
    size, samples = prepared.plan.run.batch_size, prepared.manifest.samples
    starts = range(shard.start, shard.stop, size)
    return [samples[start : min(start + size, shard.stop)] for start in starts]


def _carried_columns(manifest: Manifest, shard: Shard) -> list[dict[str, str | None]]:
    """Per image of the shard: cluster, ``subgroup.*`` and, as ``meta.*``, the other columns."""
    samples = manifest.samples[shard.start : shard.stop]
    names = other_columns(manifest)
    rows = manifest.table[names].iloc[shard.start : shard.stop].to_dict("records")
    return [
        {
            "cluster": sample.cluster,
            **{f"subgroup.{name}": sample.subgroups.get(name) for name in manifest.attributes},
            **{f"meta.{key}": value for key, value in others.items()},
        }
        for sample, others in zip(samples, rows if names else [{}] * len(samples), strict=True)
    ]


def _refuse_failures(batch: ImageBatch) -> None:
    for sample, (reason, message) in zip(batch.samples, batch.failures, strict=True):
        if reason:
            raise ImageError(
                reason,
                f"Image {sample.id!r} (manifest row {sample.index + 1}) cannot be used: {message} [--strict stops here]",
            )


def _workers(plan: Plan, batches: int) -> int:
    """Decoding processes: all cores but one, at most 8; none for a handful of batches.

    Starting a process then costs more than it saves.
    """
    if plan.run.workers != "auto":
        return min(plan.run.workers, batches)
    return 0 if batches < 4 else max(0, min((os.cpu_count() or 1) - 1, 8))
