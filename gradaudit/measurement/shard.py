"""Manifest and network in, measurements out: shard by shard, resumable, with thumbnails for the
gallery.

The work on one batch is ``engine.measure_batch``; this room cuts the manifest, keeps the decoding
ahead of the network, and commits each shard when its last batch is done.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.errors import GradauditError, ImageError, ManifestError, PlanError
from gradaudit.labels import is_label, refuse_foreign
from gradaudit.manifest.reading import Manifest
from gradaudit.manifest.unmeasured import Measured, refuse_unmeasured
from gradaudit.measurement.acceleration import Acceleration, accelerated
from gradaudit.measurement.batch_rows import BatchRows, measure_batch
from gradaudit.measurement.batches import ImageBatch, iterate_batches, load_batch
from gradaudit.measurement.devices import Progress, device_of, on_device
from gradaudit.measurement.prepare import run_record, utc_now
from gradaudit.models.classifier import Classifier
from gradaudit.models.sources import with_logits
from gradaudit.plan import Plan
from gradaudit.records import Measurements
from gradaudit.runs.folder import (
    Shard,
    ShardTables,
    cut_into_shards,
    digest_of,
    joined_tables,
    local_path,
    open_run,
    shard_tables,
)


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
    plan = plan or Plan()
    if len(manifest) == 0:
        raise ManifestError(f"{manifest.path} has no rows: there is nothing to measure.")
    if run is not None:
        local_path(run, "The run folder")
    refuse_unmeasured(plan, _measurable(manifest, plan))
    _refuse_labels(manifest, classifier, plan)
    classifier = on_device(classifier, plan.run.device)
    first = _first_images(manifest, classifier, plan)
    classifier = with_logits(classifier, first)
    classifier, layer_reason = resolve_layer(classifier, first[:1])
    speed = (
        accelerated(classifier, first, plan.explain.method)
        if plan.run.accelerate
        else Acceleration(classifier)
    )
    classifier = speed.classifier
    record = run_record(manifest, speed, plan, layer_reason, command)
    folder = open_run(run, record, fresh=fresh) if run is not None else None
    shards = cut_into_shards(len(manifest), plan.run.shard_size)
    pending = folder.pending() if folder is not None else shards
    if progress is not None:
        progress(len(manifest) - sum(s.stop - s.start for s in pending), len(manifest))
    started = time.monotonic()
    in_memory: list[ShardTables] = []
    for shard, tables in _measured_shards(manifest, classifier, plan, pending, strict, progress):
        if folder is not None:
            folder.commit(shard, tables)
        else:
            in_memory.append(tables)
    seconds = time.monotonic() - started
    if folder is None:
        frames = joined_tables(in_memory)
        record |= {"plan_id": digest_of(record["identity"]), "seconds": seconds}
        return Measurements(frames["regions"], frames["images"], frames["maps"], record)
    if pending:
        folder.update_run(
            finished=utc_now(), seconds=float(folder.run.get("seconds") or 0.0) + seconds
        )
    return folder.measurements()


def _measured_shards(
    manifest: Manifest,
    classifier: Classifier,
    plan: Plan,
    pending: Sequence[Shard],
    strict: bool,
    progress: Progress | None,
) -> Iterator[tuple[Shard, ShardTables]]:
    """Run every batch of the pending shards, decoding ahead; yield each shard when it is whole."""
    samples = manifest.samples
    size = plan.run.batch_size
    # Batches never cross a shard's border: which images share a batch is part of what a run is.
    layout = [
        (shard, samples[i : min(i + size, shard.stop)])
        for shard in pending
        for i in range(shard.start, shard.stop, size)
    ]
    workers = _workers(plan, len(layout))
    batches = iterate_batches(
        [chunk for _, chunk in layout],
        manifest.root,
        classifier.preprocess,
        plan,
        manifest.region_names,
        workers,
    )
    extra = _carried_columns(manifest)
    done = len(samples) - sum(s.stop - s.start for s in pending)
    images: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    for (shard, chunk), batch in zip(layout, batches, strict=True):
        if strict:
            _refuse_failures(batch)
        measured: BatchRows = measure_batch(batch, classifier, plan)
        images += [
            {**row, **extra[sample.index]}
            for row, sample in zip(measured.images, chunk, strict=True)
        ]
        regions += measured.regions
        maps += measured.maps
        done += len(chunk)
        if progress is not None:
            progress(done, len(samples))
        if chunk[-1].index == shard.stop - 1:
            yield shard, shard_tables(images, regions, maps)
            images, regions, maps = [], [], []


def _refuse_labels(manifest: Manifest, classifier: Classifier, plan: Plan) -> None:
    """Before hours of work: labels of which none is a class, or a target that needs labels where
    there are none.
    """
    labels = [sample.label for sample in manifest.samples]
    if "label" in plan.explain.target.split(":") and not any(map(is_label, labels)):
        raise ManifestError(
            f"The target {plan.explain.target!r} explains the class of each image's label, and no image has a label in {manifest.path}. "
            "Add the column 'label', or explain the predicted class: [explain] target = \"predicted\"."
        )
    refuse_foreign(labels, classifier.classes, str(manifest.path), manifest.lines)


def _measurable(manifest: Manifest, plan: Plan) -> Measured:
    """The names that a manifest holds; it may have been read with another plan, or with none."""
    carried = _other_columns(manifest)
    derived = [name for name in manifest.region_names if f"region.{name}" not in manifest.table]
    lost = [
        name for name in derived if name not in plan.regions or plan.regions[name].derive is None
    ]
    if lost:
        raise PlanError(
            f"The region {lost[0]!r} is derived in the plan that {manifest.path} was read with, and the plan that is given now does not "
            f"derive it ({len(lost)} such region{'s' * (len(lost) != 1)}). Give the same plan to both."
        )
    return Measured(
        source=f"the manifest {manifest.path}, as it was read,",
        remedy=f"read the manifest with this plan: ga.read_manifest({manifest.path.name!r}, plan)",
        levels={
            name: Counter(level for sample in manifest.samples if (level := sample.subgroups[name]))
            for name in manifest.attributes
        },
        regions=manifest.region_names,
        columns=[
            *carried,
            *manifest.attributes,
            "label",
            "cluster",
            *(f"subgroup.{name}" for name in manifest.attributes),
        ],
        pair_columns=carried,
    )


def _other_columns(manifest: Manifest) -> list[str]:
    """Columns that gradaudit gives no meaning of its own."""
    own = {"id", "image", "label", "cluster"}
    return [
        str(c)
        for c in manifest.table.columns
        if c not in own and not str(c).startswith(("subgroup.", "region."))
    ]


def _carried_columns(manifest: Manifest) -> list[dict[str, str | None]]:
    """Per row: cluster, ``subgroup.*`` and, as ``meta.*``, the other columns."""
    others = _other_columns(manifest)
    others_of = manifest.table[others].to_dict("records") if others else [{}] * len(manifest)
    return [
        {
            "cluster": sample.cluster,
            **{f"subgroup.{name}": sample.subgroups.get(name) for name in manifest.attributes},
            **{f"meta.{key}": value for key, value in others_of[sample.index].items()},
        }
        for sample in manifest.samples
    ]


def _first_images(manifest: Manifest, classifier: Classifier, plan: Plan) -> torch.Tensor:
    """The readable images of the first batch that holds one, on the network's device: (1 to 4, C,
    H, W).
    """
    size = min(plan.run.batch_size, 4)
    for start in range(0, len(manifest), size):
        batch = load_batch(
            manifest.samples[start : start + size],
            manifest.root,
            classifier.preprocess,
            plan,
            manifest.region_names,
        )
        readable = [i for i, failure in enumerate(batch.failures) if not failure[0]]
        if readable:
            return batch.images[readable].to(device_of(classifier))
    reasons = "; ".join(sorted({f"{reason}: {message}" for reason, message in batch.failures})[:3])
    raise GradauditError(
        f"None of the {len(manifest)} images of {manifest.path} can be read ({reasons})."
    )


def _refuse_failures(batch: ImageBatch) -> None:
    for sample, (reason, message) in zip(batch.samples, batch.failures, strict=True):
        if reason:
            raise ImageError(
                reason,
                f"Image {sample.id!r} (manifest row {sample.index + 1}) cannot be used: {message} [--strict stops here]",
            )


def _workers(plan: Plan, batches: int) -> int:
    """Decoding processes: none for a handful of batches (starting one costs more), else all cores
    but one, at most 8.
    """
    if plan.run.workers != "auto":
        return min(plan.run.workers, batches)
    return 0 if batches < 4 else max(0, min((os.cpu_count() or 1) - 1, 8))
