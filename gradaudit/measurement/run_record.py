"""What run.json says of a run: its identity, and what a reader needs to do it again."""

from __future__ import annotations

import datetime
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import torch

from gradaudit.attribution.methods import CAMS
from gradaudit.attribution.targets import TARGETS
from gradaudit.manifest.reading import Manifest
from gradaudit.measurement.acceleration import Acceleration
from gradaudit.models.classifier import Classifier, device_of
from gradaudit.plan import Plan
from gradaudit.runs.record import RunData, RunFile, RunModel, digest_of

_MEASURING_SECTIONS = ("preprocess", "explain", "columns")
"""Sections of the plan that move a measured number."""


def run_record(
    manifest: Manifest, speed: Acceleration, plan: Plan, layer_reason: str, command: str
) -> RunFile:
    """The content of run.json before the first shard is measured.

    speed : the classifier that is used, and the speed-ups that were kept
    layer_reason : why this layer is explained      command : as the user typed it, or ""
    """
    classifier, identity = speed.classifier, _identity(manifest, speed, plan)
    return RunFile(
        identity=identity,
        plan_id=digest_of(identity),
        rows=len(manifest),
        shard_size=plan.run.shard_size,
        model=_model_facts(speed, layer_reason),
        data=RunData(
            name=manifest.path.name,
            digest=manifest.digest,
            cluster_declared=manifest.cluster_declared,
            attributes=tuple(manifest.attributes),
            regions=tuple(manifest.region_names),
        ),
        plan=plan.model_dump(mode="json"),
        cards={
            "method": asdict(CAMS.card(plan.explain.method)),
            "target": asdict(TARGETS.card(plan.explain.target.split(":")[0])),
        },
        versions=versions(),
        device=str(device_of(classifier)),
        dtype=_dtype(classifier, plan),
        seed=plan.run.seed,
        command=command,
        started=utc_now(),
    )


def _identity(manifest: Manifest, speed: Acceleration, plan: Plan) -> dict[str, str]:
    """Everything that moves a measured number, by name; two runs that differ here do not mix."""
    classifier, sections = speed.classifier, plan.model_dump(mode="json")
    measured = {name: sections[name] for name in _MEASURING_SECTIONS}
    derived = {
        name: region["derive"] for name, region in sections["regions"].items() if region["derive"]
    }
    lower_precision = () if plan.run.precision == "float32" else (plan.run.precision,)
    return {
        "manifest": manifest.digest,
        "model": classifier.digest,
        "layer": classifier.layer,
        "preprocess": digest_of(_preprocess_facts(classifier)),
        "plan": digest_of({**measured, "derived": derived, "output": classifier.output}),
        "batches": f"{plan.run.batch_size} of {plan.run.shard_size}",
        "speed": "; ".join((*speed.kept, *lower_precision)),
        "gradaudit": metadata.version("gradaudit"),
    }


def _model_facts(speed: Acceleration, layer_reason: str) -> RunModel:
    classifier = speed.classifier
    return RunModel(
        source=classifier.source,
        digest=classifier.digest,
        layer=classifier.layer,
        layer_reason=layer_reason,
        classes=tuple(classifier.classes or ()),
        input_size=tuple(classifier.input_size or ()),
        preprocess=_preprocess_facts(classifier),
        notes=(*classifier.notes, *speed.notes),
    )


def _preprocess_facts(classifier: Classifier) -> dict[str, Any]:
    return {} if classifier.preprocess is None else classifier.preprocess.as_dict()


def _dtype(classifier: Classifier, plan: Plan) -> str:
    """Of the network up to the explained layer; the head and everything after it are float32."""
    own = next(
        (p.dtype for p in classifier.module.parameters() if p.is_floating_point()), torch.float32
    )
    return (
        str(own).removeprefix("torch.") if plan.run.precision == "float32" else plan.run.precision
    )


def versions() -> dict[str, str]:
    """Versions of what may move a number."""
    found = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for name in ("gradaudit", "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "Pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
