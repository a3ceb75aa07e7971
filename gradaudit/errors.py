"""Every error that gradaudit raises on purpose.

GradauditError
├── PlanError            the audit plan (audit.toml, flags) breaks a rule
├── ManifestError        the manifest breaks rules: carries every Problem, grouped
├── InputError           arrays handed to a public function have the wrong shape, type or values
│   └── RegionTextError  (in ``regions``) the text of a region's cell cannot be read
├── ImageError           one image (or its mask) cannot be used; carries a short reason code
├── ModelError           a model cannot be loaded or run
│   ├── LayerError       no layer, or not this layer, can be explained
│   └── TargetError      the score to explain does not exist for this model or label
├── RunError             a run folder belongs to something else, or is damaged
└── MissingExtraError    an optional dependency is needed and not installed

The command line turns each of them into its message and exit code 2.  An ``ImageError`` never ends a run:
it becomes a row with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradaudit.records import Problem


class GradauditError(Exception):
    """Root of the tree; its text is written for the person who ran the command."""


class PlanError(GradauditError):
    """The audit plan breaks a rule."""


class ManifestError(GradauditError):
    """The manifest breaks one rule or more; ``problems`` holds them all, one entry a rule."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = tuple(problems)


class InputError(GradauditError, ValueError):
    """Values handed to a public function do not fit its declared shapes, types or ranges."""


class ImageError(GradauditError):
    """One image or mask cannot be used; ``reason`` is the short code that its row carries."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(GradauditError):
    """A model cannot be loaded, or fails on a well-formed batch."""


class LayerError(ModelError):
    """No layer of the model, or not the named one, can be explained."""


class TargetError(ModelError):
    """The score that was asked for does not exist in the model's output."""


class RunError(GradauditError):
    """A run folder belongs to another manifest, model or plan, or its files are damaged."""


class MissingExtraError(GradauditError, ImportError):
    """An optional dependency is missing; the message names the extra that brings it."""

    def __init__(self, what: str, extra: str, package: str) -> None:
        super().__init__(f"{what} needs the package {package!r}, which is not installed. Install it with: pip install 'gradaudit[{extra}]'")
