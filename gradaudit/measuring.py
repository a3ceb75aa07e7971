"""Manifest and network in, measurements out: shard by shard, resumable, with thumbnails for the gallery.

The work on one batch is ``engine.measure_batch``; this room cuts the manifest, keeps the decoding ahead of the network,
and commits each shard when its last batch is done.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from gradaudit.acceleration import Acceleration, accelerated
from gradaudit.batches import ImageBatch, iterate_batches, load_batch, thumbnail
from gradaudit.cams import CAMS
from gradaudit.config import Plan
from gradaudit.engine import BatchRows, measure_batch
from gradaudit.errors import GradauditError, ImageError, ManifestError, PlanError
from gradaudit.images import Preprocess
from gradaudit.labels import is_label, refuse_foreign
from gradaudit.manifest import Manifest
from gradaudit.models import Classifier, resolve_layer, with_logits
from gradaudit.records import Measurements
from gradaudit.storage import (
    Shard,
    ShardTables,
    cut_into_shards,
    digest_of,
    joined_tables,
    local_path,
    open_run,
    shard_tables,
    write_atomically,
)
from gradaudit.targets import TARGETS
from gradaudit.unmeasured import Measured, refuse_unmeasured

Progress = Callable[[int, int], None]
"""Called with (images done, images in all), first at the start with what an earlier run had finished."""

_MEASURING_SECTIONS = ("preprocess", "explain", "columns")


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
    fresh : start the folder over.      strict : the first image that cannot be used is an error, not a row.
    progress : see ``Progress``.        command : kept in the run record for reproduction.

    returns : ``Measurements``, rows in manifest order; the same table whether or not the run was interrupted.
    Errors: ``ManifestError`` where no label is a class of the model; ``PlanError`` where the plan names what the manifest, as it was
    read, does not hold; ``RunError`` where the folder belongs to another manifest, model or plan; ``ModelError`` where the network
    cannot be explained, or gives probabilities in the place of logits.  A single image that fails is a row with its reason.
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
    speed = accelerated(classifier, first, plan.explain.method) if plan.run.accelerate else Acceleration(classifier)
    classifier = speed.classifier
    record = _run_record(manifest, speed, plan, layer_reason, command)
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
        folder.update_run(finished=_now(), seconds=float(folder.run.get("seconds") or 0.0) + seconds)
    return folder.measurements()


def write_thumbnails(
    manifest: Manifest, preprocess: Preprocess | None, plan: Plan, image_ids: Iterable[str], folder: Path
) -> dict[str, dict[str, Any]]:
    """Write ``folder``/thumbs for the given images: what the network sees, without metadata, and outlines per region.

    returns : image id -> {"file", "width", "height", "outlines": {region: SVG path data in thumbnail pixels}}; also
    written to thumbs/index.json.  Images that cannot be read are left out.
    """
    samples = {sample.id: sample for sample in manifest.samples}
    thumbs = folder / "thumbs"
    index: dict[str, dict[str, Any]] = {}
    for position, image_id in enumerate(dict.fromkeys(image_ids)):
        try:
            picture, masks = thumbnail(samples[image_id], manifest.root, preprocess, plan, manifest.region_names, plan.report.thumbnail)
        except ImageError:
            continue
        name = f"{position:05d}.jpg"
        write_atomically(thumbs / name, _jpeg(picture))
        outlines = {region: path for region, mask in masks.items() if (path := outline_path(mask))}
        index[image_id] = {"file": name, "width": picture.width, "height": picture.height, "outlines": outlines}
    write_atomically(thumbs / "index.json", (json.dumps(index, indent=1, sort_keys=True) + "\n").encode())
    return index


def outline_path(mask: Any) -> str:
    """Outline of a mask (h, w) in [0, 1] at its half level as SVG path data, in pixels; empty for an empty mask."""
    padded = np.pad(np.asarray(mask, dtype=float), 1)
    pieces = []
    for contour in find_contours(padded, 0.5):  # type: ignore[no-untyped-call]
        points = approximate_polygon(contour, tolerance=0.35)  # type: ignore[no-untyped-call]
        if len(points) >= 4:  # fewer cannot enclose anything
            pieces.append("M" + "L".join(f"{x - 0.5:.1f} {y - 0.5:.1f}" for y, x in points[:-1]) + "Z")
    return "".join(pieces)


def _jpeg(picture: Image.Image) -> bytes:
    """Encoded anew from the bare pixels, so that no metadata of the original travels along."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", picture.size, picture.convert("RGB").tobytes()).save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def _measured_shards(
    manifest: Manifest, classifier: Classifier, plan: Plan, pending: Sequence[Shard], strict: bool, progress: Progress | None
) -> Iterator[tuple[Shard, ShardTables]]:
    """Run every batch of the pending shards, decoding ahead; yield each shard when it is whole."""
    samples = manifest.samples
    size = plan.run.batch_size
    # Batches never cross a shard's border: which images share a batch is part of what a run is.
    layout = [(shard, samples[i : min(i + size, shard.stop)]) for shard in pending for i in range(shard.start, shard.stop, size)]
    workers = _workers(plan, len(layout))
    batches = iterate_batches([chunk for _, chunk in layout], manifest.root, classifier.preprocess, plan, manifest.region_names, workers)
    extra = _carried_columns(manifest)
    done = len(samples) - sum(s.stop - s.start for s in pending)
    images: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    for (shard, chunk), batch in zip(layout, batches, strict=True):
        if strict:
            _refuse_failures(batch)
        measured: BatchRows = measure_batch(batch, classifier, plan)
        images += [{**row, **extra[sample.index]} for row, sample in zip(measured.images, chunk, strict=True)]
        regions += measured.regions
        maps += measured.maps
        done += len(chunk)
        if progress is not None:
            progress(done, len(samples))
        if chunk[-1].index == shard.stop - 1:
            yield shard, shard_tables(images, regions, maps)
            images, regions, maps = [], [], []


def _refuse_labels(manifest: Manifest, classifier: Classifier, plan: Plan) -> None:
    """Before hours of work: labels of which none is a class, or a target that needs labels where there are none."""
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
    lost = [name for name in derived if name not in plan.regions or plan.regions[name].derive is None]
    if lost:
        raise PlanError(
            f"The region {lost[0]!r} is derived in the plan that {manifest.path} was read with, and the plan that is given now does not "
            f"derive it ({len(lost)} such region{'s' * (len(lost) != 1)}). Give the same plan to both."
        )
    return Measured(
        source=f"the manifest {manifest.path}, as it was read,",
        remedy=f"read the manifest with this plan: ga.read_manifest({manifest.path.name!r}, plan)",
        levels={name: Counter(level for sample in manifest.samples if (level := sample.subgroups[name])) for name in manifest.attributes},
        regions=manifest.region_names,
        columns=[*carried, *manifest.attributes, "label", "cluster", *(f"subgroup.{name}" for name in manifest.attributes)],
        pair_columns=carried,
    )


def _other_columns(manifest: Manifest) -> list[str]:
    """Columns that gradaudit gives no meaning of its own."""
    own = {"id", "image", "label", "cluster"}
    return [str(c) for c in manifest.table.columns if c not in own and not str(c).startswith(("subgroup.", "region."))]


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
    """The readable images of the first batch that holds one, on the network's device: (1 to 4, C, H, W)."""
    size = min(plan.run.batch_size, 4)
    for start in range(0, len(manifest), size):
        batch = load_batch(manifest.samples[start : start + size], manifest.root, classifier.preprocess, plan, manifest.region_names)
        readable = [i for i, failure in enumerate(batch.failures) if not failure[0]]
        if readable:
            return batch.images[readable].to(device_of(classifier))
    reasons = "; ".join(sorted({f"{reason}: {message}" for reason, message in batch.failures})[:3])
    raise GradauditError(f"None of the {len(manifest)} images of {manifest.path} can be read ({reasons}).")


def _refuse_failures(batch: ImageBatch) -> None:
    for sample, (reason, message) in zip(batch.samples, batch.failures, strict=True):
        if reason:
            raise ImageError(reason, f"Image {sample.id!r} (manifest row {sample.index + 1}) cannot be used: {message} [--strict stops here]")


def on_device(classifier: Classifier, device: str) -> Classifier:
    """The classifier on a device of torch's ("cpu", "cuda:1", ...); "auto" takes the accelerator, if there is one.

    Errors: ``GradauditError`` where the device cannot be used here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        wanted = torch.device(device)
        if wanted == device_of(classifier):
            return classifier
        return dataclasses.replace(classifier, module=classifier.module.to(wanted))
    except (RuntimeError, AssertionError) as error:
        raise GradauditError(f"Device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error


def device_of(classifier: Classifier) -> torch.device:
    """Where the network's weights lie; the processor where it has none."""
    for tensor in (*classifier.module.parameters(), *classifier.module.buffers()):
        return tensor.device
    return torch.device("cpu")


def _workers(plan: Plan, batches: int) -> int:
    """Decoding processes: none for a handful of batches (starting one costs more), else all cores but one, at most 8."""
    if plan.run.workers != "auto":
        return min(plan.run.workers, batches)
    return 0 if batches < 4 else max(0, min((os.cpu_count() or 1) - 1, 8))


def _run_record(manifest: Manifest, speed: Acceleration, plan: Plan, layer_reason: str, command: str) -> dict[str, Any]:
    classifier = speed.classifier
    sections = plan.model_dump(mode="json")
    version = metadata.version("gradaudit")
    measured = {name: sections[name] for name in _MEASURING_SECTIONS}
    derived = {name: region["derive"] for name, region in sections["regions"].items() if region["derive"]}
    preprocess = classifier.preprocess.as_dict() if classifier.preprocess is not None else {}
    identity = {
        "manifest": manifest.digest,
        "model": classifier.digest,
        "layer": classifier.layer,
        "preprocess": digest_of(preprocess),
        "plan": digest_of({**measured, "derived": derived, "output": classifier.output}),
        "batches": f"{plan.run.batch_size} of {plan.run.shard_size}",
        "speed": "; ".join((*speed.kept, *(() if plan.run.precision == "float32" else (plan.run.precision,)))),
        "gradaudit": version,
    }
    return {
        "identity": identity,
        "rows": len(manifest),
        "shard_size": plan.run.shard_size,
        "model": {
            "source": classifier.source,
            "digest": classifier.digest,
            "layer": classifier.layer,
            "layer_reason": layer_reason,
            "classes": list(classifier.classes or ()),
            "input_size": list(classifier.input_size or ()),
            "preprocess": preprocess,
            "notes": [*classifier.notes, *speed.notes],
        },
        "data": {
            "name": manifest.path.name,
            "digest": manifest.digest,
            "cluster_declared": manifest.cluster_declared,
            "attributes": list(manifest.attributes),
            "regions": list(manifest.region_names),
        },
        "plan": sections,
        "cards": {"method": asdict(CAMS.card(plan.explain.method)), "target": asdict(TARGETS.card(plan.explain.target.split(":")[0]))},
        "versions": versions(),
        "device": str(device_of(classifier)),
        "dtype": _dtype(classifier, plan),
        "seed": plan.run.seed,
        "command": command,
        "started": _now(),
    }


def _dtype(classifier: Classifier, plan: Plan) -> str:
    """Of the network up to the explained layer; the head and everything after it are float32."""
    own = next((p.dtype for p in classifier.module.parameters() if p.is_floating_point()), torch.float32)
    return str(own).removeprefix("torch.") if plan.run.precision == "float32" else plan.run.precision


def versions() -> dict[str, str]:
    """Versions of what may move a number."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in ("gradaudit", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "Pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
