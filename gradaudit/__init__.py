"""gradaudit: does an image classifier look at different things for different groups?

The public names.  They are resolved on first use, so that ``import gradaudit`` and the table wing
never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradaudit.analysis.findings import analyze
    from gradaudit.attribution.explanation import Explanation, explain
    from gradaudit.checks.insertion import region_insertion
    from gradaudit.checks.region_removal import region_effects
    from gradaudit.errors import GradauditError
    from gradaudit.manifest.reading import Manifest, read_manifest
    from gradaudit.measurement.batch_rows import region_metrics
    from gradaudit.measurement.shard import measure
    from gradaudit.models.classifier import Classifier
    from gradaudit.models.sources import load_classifier
    from gradaudit.plan import Plan, read_plan
    from gradaudit.records import CellState, Finding
    from gradaudit.result import AuditResult, build_result
    from gradaudit.runs.folder import read_run
    from gradaudit.runs.measurements import Measurements
    from gradaudit.series.power import power
    from gradaudit.subgroups.comparison import Disparity, disparity
    from gradaudit.workflows.audit import audit
    from gradaudit.workflows.comparisons import AuditComparison, compare

_MODULE_OF = {
    "AuditComparison": "workflows.comparisons",
    "AuditResult": "result",
    "Classifier": "models.classifier",
    "Disparity": "subgroups.comparison",
    "Explanation": "attribution.explanation",
    "Finding": "records",
    "GradauditError": "errors",
    "Manifest": "manifest.reading",
    "Measurements": "runs.measurements",
    "Plan": "plan",
    "CellState": "records",
    "analyze": "analysis.findings",
    "audit": "workflows.audit",
    "build_result": "result",
    "compare": "workflows.comparisons",
    "disparity": "subgroups.comparison",
    "explain": "attribution.explanation",
    "load_classifier": "models.sources",
    "measure": "measurement.shard",
    "power": "series.power",
    "read_manifest": "manifest.reading",
    "read_plan": "plan",
    "read_run": "runs.folder",
    "region_effects": "checks.region_removal",
    "region_insertion": "checks.insertion",
    "region_metrics": "measurement.batch_rows",
}

__all__ = [
    "AuditComparison", "AuditResult", "CellState", "Classifier", "Disparity", "Explanation", "Finding", "GradauditError", "Manifest",
    "Measurements", "Plan", "analyze", "audit", "build_result", "compare", "disparity", "explain", "load_classifier", "measure", "power",
    "read_manifest", "read_plan", "read_run",
    "region_effects", "region_insertion", "region_metrics",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'gradaudit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gradaudit.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
