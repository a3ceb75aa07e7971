"""What a command works on: plan with flags, checked manifest, loaded model, run folder."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from gradaudit.cli.app import stderr
from gradaudit.plan import Plan, find_plan

if TYPE_CHECKING:
    from gradaudit.manifest.reading import Manifest
    from gradaudit.models.classifier import Classifier


def plan_with_flags(manifest: Path, config: Path | None, **flags: Any) -> tuple[Plan, Path]:
    """The plan, with the flags typed over it, and the folder that its paths are relative to."""
    plan, root = find_plan(config, manifest)
    weights = flags.get("weights")
    if weights is not None and Path(weights).exists():
        weights = str(
            Path(weights).resolve()
        )  # typed at the shell: relative to the current folder, not to the plan
    source = flags.get("model")
    sections = {
        "model": {"source": source, "weights": weights, "layer": flags.get("layer")},
        "explain": {"method": flags.get("method"), "target": flags.get("target")},
        "criteria": {"margin": flags.get("margin")},
        "run": {"device": flags.get("device"), "batch_size": flags.get("batch_size")},
        "report": {"auditor": flags.get("auditor")},
    }
    if source is not None and weights is None and plan.model.weights is not None:
        stderr.print(
            f"note: --model replaces the plan's model; its weights ({escape(plan.model.weights)}) are still used"
        )
    return with_flags(plan, sections), root


def with_flags(plan: Plan, sections: dict[str, dict[str, Any]]) -> Plan:
    """The plan with the flags that were given; None means that a flag was not."""
    given = {
        name: {key: value for key, value in fields.items() if value is not None}
        for name, fields in sections.items()
    }
    given = {name: fields for name, fields in given.items() if fields}
    return plan.updated(**given) if given else plan


def checked_manifest(path: Path, plan: Plan) -> Manifest:
    """Read the manifest before a model is loaded or user code runs; its warnings go to stderr."""
    from gradaudit.manifest.reading import read_manifest
    from gradaudit.manifest.rules import render_problems

    table = read_manifest(path, plan)
    if table.warnings:
        stderr.print(escape(render_problems(table.warnings)))
    return table


def loaded_model(plan: Plan, root: Path) -> Classifier:
    """Load the plan's model; its notes go to stderr."""
    from gradaudit.workflows.audit import classifier_of

    with redirect_stdout(sys.stderr):  # keeps what user code prints out of the summary
        classifier = classifier_of(plan, root)
    for note in classifier.notes:
        stderr.print(f"note: {escape(note)}")
    return classifier


def default_run(manifest: Path, config: Path | None) -> Path:
    """The run folder if none is named: runs/<manifest's name>.

    A file called manifest.* takes the name of its folder; the name of a plan is appended if one is
    named.
    """
    name = manifest.stem
    if name == "manifest":
        parents = [p.name for p in manifest.resolve().parents if p.name not in ("", "build")]
        name = parents[0] if parents else name
    if config is not None and config.stem != "audit":
        name = f"{name}-{config.stem}"
    return Path("runs") / name
