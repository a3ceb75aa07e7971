"""gradaudit: does an image classifier look at different things for different groups?

The public names.  They are resolved on first use, so that ``import gradaudit`` and the table wing never load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradaudit.analysis import analyze
    from gradaudit.auditing import audit
    from gradaudit.config import Plan, read_plan
    from gradaudit.engine import Explanation, explain, region_metrics
    from gradaudit.errors import GradauditError
    from gradaudit.manifest import Manifest, read_manifest
    from gradaudit.measuring import measure
    from gradaudit.models import Classifier, load_classifier
    from gradaudit.records import Finding, Measurements, Verdict
    from gradaudit.result import AuditResult, build_result
    from gradaudit.storage import read_run
    from gradaudit.subgroups import Disparity, disparity

_ROOM_OF = {
    "AuditResult": "result",
    "Classifier": "models",
    "Disparity": "subgroups",
    "Explanation": "engine",
    "Finding": "records",
    "GradauditError": "errors",
    "Manifest": "manifest",
    "Measurements": "records",
    "Plan": "config",
    "Verdict": "records",
    "analyze": "analysis",
    "audit": "auditing",
    "build_result": "result",
    "disparity": "subgroups",
    "explain": "engine",
    "load_classifier": "models",
    "measure": "measuring",
    "read_manifest": "manifest",
    "read_plan": "config",
    "read_run": "storage",
    "region_metrics": "engine",
}

__all__ = [
    "AuditResult", "Classifier", "Disparity", "Explanation", "Finding", "GradauditError", "Manifest", "Measurements", "Plan", "Verdict",
    "analyze", "audit", "build_result", "disparity", "explain", "load_classifier", "measure", "read_manifest", "read_plan", "read_run",
    "region_metrics",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'gradaudit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gradaudit.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
