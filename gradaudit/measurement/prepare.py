"""What is settled once before measuring, and recorded: identity, versions, settings of a run."""

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
from gradaudit.measurement.devices import device_of
from gradaudit.models.classifier import Classifier
from gradaudit.plan import Plan
from gradaudit.runs.folder import digest_of

_MEASURING_SECTIONS = ("preprocess", "explain", "columns")


def run_record(
    manifest: Manifest, speed: Acceleration, plan: Plan, layer_reason: str, command: str
) -> dict[str, Any]:
    classifier = speed.classifier
    sections = plan.model_dump(mode="json")
    version = metadata.version("gradaudit")
    measured = {name: sections[name] for name in _MEASURING_SECTIONS}
    derived = {
        name: region["derive"] for name, region in sections["regions"].items() if region["derive"]
    }
    preprocess = classifier.preprocess.as_dict() if classifier.preprocess is not None else {}
    identity = {
        "manifest": manifest.digest,
        "model": classifier.digest,
        "layer": classifier.layer,
        "preprocess": digest_of(preprocess),
        "plan": digest_of({**measured, "derived": derived, "output": classifier.output}),
        "batches": f"{plan.run.batch_size} of {plan.run.shard_size}",
        "speed": "; ".join(
            (*speed.kept, *(() if plan.run.precision == "float32" else (plan.run.precision,)))
        ),
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
        "cards": {
            "method": asdict(CAMS.card(plan.explain.method)),
            "target": asdict(TARGETS.card(plan.explain.target.split(":")[0])),
        },
        "versions": versions(),
        "device": str(device_of(classifier)),
        "dtype": _dtype(classifier, plan),
        "seed": plan.run.seed,
        "command": command,
        "started": utc_now(),
    }


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
