"""Everything that is settled once before measuring.

Manifest, model and plan come in; a ``Prepared`` goes out, which holds the layer and the speed-ups
that were chosen, the identity of the run and its folder.  Whoever measures a shard applies what
stands there and chooses nothing again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.errors import GradauditError, InputError, ManifestError, PlanError
from gradaudit.labels import is_label, refuse_foreign
from gradaudit.manifest.reading import Manifest
from gradaudit.manifest.unmeasured import Measured, refuse_unmeasured
from gradaudit.measurement.acceleration import Acceleration, accelerated
from gradaudit.measurement.batches import load_batch
from gradaudit.measurement.devices import on_device
from gradaudit.measurement.run_record import run_record
from gradaudit.models.classifier import Classifier, device_of
from gradaudit.models.sources import with_logits
from gradaudit.plan import Plan
from gradaudit.runs.folder import RunFolder, Shard, cut_into_shards, local_path, open_run
from gradaudit.runs.record import RunFile


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run whose shards can be measured, each on its own and in any order.

    manifest, plan : what is measured, and how
    classifier : on its device, giving logits, with the chosen layer and speed-ups applied
    record : the content of run.json    folder : where shards are written; None: nothing is written
    pending : the shards that were not finished when the run was prepared, in manifest order
    strict : the first image that cannot be used is an error, not a row
    """

    manifest: Manifest
    classifier: Classifier
    plan: Plan
    record: RunFile
    folder: RunFolder | None
    pending: tuple[Shard, ...]
    strict: bool = False

    def run_folder(self) -> RunFolder:
        """The folder; ``InputError`` where the run was prepared without one."""
        if self.folder is None:
            raise InputError(
                "The run was prepared without a folder to write to. Give one: prepare(..., run=FOLDER)."
            )
        return self.folder


def prepare(
    manifest: Manifest,
    classifier: Classifier,
    plan: Plan,
    run: str | Path | None = None,
    *,
    fresh: bool = False,
    strict: bool = False,
    command: str = "",
) -> Prepared:
    """Settle what every shard has in common; see ``measure`` for the arguments and the errors.

    A few images are read and explained, to choose the layer and to try the speed-ups.
    """
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
    speed = Acceleration(classifier)
    if plan.run.accelerate:
        speed = accelerated(classifier, first, plan.explain.method)
    record = run_record(manifest, speed, plan, layer_reason, command)
    folder = None if run is None else open_run(run, record, fresh=fresh)
    shards = cut_into_shards(len(manifest), plan.run.shard_size)
    pending = shards if folder is None else folder.pending()
    return Prepared(manifest, speed.classifier, plan, record, folder, pending, strict)


def _refuse_labels(manifest: Manifest, classifier: Classifier, plan: Plan) -> None:
    """Stop before hours of work where no label is a class, or the target needs labels and none is there."""
    labels = [sample.label for sample in manifest.samples]
    if "label" in plan.explain.target.split(":") and not any(map(is_label, labels)):
        raise ManifestError(
            f"The target {plan.explain.target!r} explains the class of each image's label, and no image has a label in {manifest.path}. "
            "Add the column 'label', or explain the predicted class: [explain] target = \"predicted\"."
        )
    refuse_foreign(labels, classifier.classes, str(manifest.path), manifest.lines)


def _measurable(manifest: Manifest, plan: Plan) -> Measured:
    """The names that a manifest holds; it may have been read with another plan, or with none."""
    carried = other_columns(manifest)
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


def other_columns(manifest: Manifest) -> list[str]:
    """Columns that gradaudit gives no meaning of its own."""
    own = {"id", "image", "label", "cluster"}
    return [
        str(c)
        for c in manifest.table.columns
        if c not in own and not str(c).startswith(("subgroup.", "region."))
    ]


def _first_images(manifest: Manifest, classifier: Classifier, plan: Plan) -> torch.Tensor:
    """The readable images of the first batch that holds one, (1 to 4, C, H, W).

    On the network's device.
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
