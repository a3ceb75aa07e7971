"""The main job: a manifest and a model come in, an audited result goes out.

``audit`` reads, calls ``measurement`` (torch wing) and then ``analysis`` (table wing).
"""

from __future__ import annotations

from pathlib import Path

from gradaudit.analysis.figures.pictures import pictures_to_keep
from gradaudit.errors import PlanError
from gradaudit.manifest.reading import Manifest, read_manifest
from gradaudit.measurement.devices import Progress
from gradaudit.measurement.shard import measure
from gradaudit.measurement.thumbnails import write_thumbnails
from gradaudit.models.classifier import Classifier
from gradaudit.models.sources import load_classifier
from gradaudit.plan import Plan, find_plan
from gradaudit.result import AuditResult, build_result
from gradaudit.runs.measurements import Measurements


def audit(
    manifest: str | Path | Manifest,
    model: str | Classifier | None = None,
    plan: str | Path | Plan | None = None,
    run: str | Path | None = None,
    *,
    fresh: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> AuditResult:
    """Audit a classifier on a manifest: read, measure, analyze (``ga.audit``).

    manifest : path (CSV, TSV, Parquet, JSON Lines) or a ``Manifest``
    model : a source such as "torchvision:resnet50" or a ``Classifier``; None takes the plan's
        ``[model]``
    plan : path, ``Plan`` or None (``audit.toml`` beside the manifest if there is one)
    run : run folder to write to and to resume from; None keeps the measurements in memory, and the
        report has no gallery
    fresh : throw away what was measured in ``run`` before
    strict : stop at the first image that cannot be read, instead of recording it with its reason
    progress : called with (images done, images in all)
    command : the command line, for the record
    returns : ``AuditResult``; ``result.write("report.html")`` writes the report

    Errors: ``PlanError``, ``ManifestError`` (all problems at once), ``ModelError``, ``RunError``.
    """
    path = manifest.path if isinstance(manifest, Manifest) else Path(manifest)
    resolved, root = (plan, path.parent) if isinstance(plan, Plan) else find_plan(plan, path)
    table = manifest if isinstance(manifest, Manifest) else read_manifest(manifest, resolved)
    classifier = model if isinstance(model, Classifier) else classifier_of(resolved, root, model)
    meas = measure_with_gallery(
        table,
        classifier,
        resolved,
        run,
        fresh=fresh,
        strict=strict,
        progress=progress,
        command=command,
    )
    return build_result(meas, resolved)


def measure_with_gallery(
    manifest: Manifest,
    classifier: Classifier,
    plan: Plan,
    run: str | Path | None,
    *,
    fresh: bool = False,
    strict: bool = False,
    progress: Progress | None = None,
    command: str = "",
) -> Measurements:
    """``measure``, then write thumbnails of the images that the report will show.

    After this no image file is needed any more. The arguments are those of ``audit``.
    """
    meas = measure(
        manifest,
        classifier,
        plan,
        run,
        fresh=fresh,
        strict=strict,
        progress=progress,
        command=command,
    )
    if meas.folder is not None and plan.privacy.images != "none":
        kept = pictures_to_keep(meas, plan)
        write_thumbnails(manifest, classifier.preprocess, plan, kept, meas.folder)
    return meas


def classifier_of(plan: Plan, root: Path, spec: str | None = None) -> Classifier:
    """Load the classifier that the plan names; ``spec``, if given, replaces the plan's source.

    Errors: ``PlanError`` where no model is named; ``ModelError`` where it cannot be loaded.
    """
    source = spec or plan.model.source
    if source is None:
        raise PlanError(
            "No model is named. Give one with --model (torchvision:resnet50, timm:NAME, factory:file.py:function, model.pt2, model.onnx, "
            "model.keras, hf:FOLDER), "
            'or in audit.toml: [model] source = "…".'
        )
    return load_classifier(
        source,
        weights=plan.model.weights,
        classes=plan.model.classes,
        layer=plan.model.layer,
        preprocess=plan.preprocess,
        output=plan.model.output,
        root=root,
    )
