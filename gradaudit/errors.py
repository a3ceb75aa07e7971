"""Every error that gradaudit raises on purpose.

GradauditError
├── PlanError            the audit plan (audit.toml, flags) breaks a rule
├── ManifestError        the manifest breaks rules: carries every Problem, grouped
├── InputError           arrays handed to a public function have the wrong shape, type or values
│   └── RegionTextError  (in ``regions``) the text of a region's cell cannot be read
├── ImageError           one image (or its mask) cannot be used; carries a short reason code
├── ModelError           a model cannot be loaded or run
│   ├── ForwardError     the network's own forward pass fails
│   ├── LayerError       no layer, or not this layer, can be explained
│   └── TargetError      the score to explain does not exist for this model or label
├── RunError             a run folder belongs to something else, or is damaged
└── MissingExtraError    an optional dependency is needed and not installed

The command line turns each of them into its message and exit code 2.  An ``ImageError`` never ends a run:
it becomes a row with its reason.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
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


class ForwardError(ModelError):
    """The network's own forward pass fails; what it raised is the ``__cause__``."""


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


# ── whose code failed ───────────────────────────────────────────────────────────────────────────────────────────────

_PACKAGE = Path(__file__).parent
_INSTALLED = tuple({Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


def foreign_place(error: BaseException) -> tuple[str, int] | None:
    """File and line of the last call that ran in code which is neither gradaudit's nor that of an installed package: the user's own.

    None where no such code took part, so that what failed is gradaudit or something that it calls.
    """
    return next(((frame.filename, frame.lineno or 0) for frame in reversed(_frames(error)) if _is_foreign(frame.filename)), None)


def place_besides(error: BaseException, *packages: str) -> tuple[str, int] | None:
    """File and line of the last call outside gradaudit, Python's own library and the named packages."""
    inner = (*packages, "gradaudit")
    for frame in reversed(_frames(error)):
        parts = Path(frame.filename).parts
        if _is_foreign(frame.filename) or ("site-packages" in parts and parts[parts.index("site-packages") + 1] not in inner):
            return frame.filename, frame.lineno or 0
    return None


def own_place(error: BaseException, besides: str = "") -> tuple[str, int] | None:
    """File and line of the last call inside gradaudit; ``besides``: a file that does not count."""
    own = [(Path(f.filename).name, f.lineno or 0) for f in _frames(error) if Path(f.filename).is_relative_to(_PACKAGE)]
    return next((place for place in reversed(own) if place[0] != besides), None)


def in_words(error: BaseException) -> str:
    """``KeyError: 'x'``, the first line of what it says; an exit in words, as no code that gradaudit runs may end the process."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)}), which would end the audit without a result"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:400]}" if lines else type(error).__name__


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def _is_foreign(filename: str) -> bool:
    path = Path(filename)
    installed = {"site-packages", "dist-packages"} & set(path.parts) or any(path.is_relative_to(folder) for folder in _INSTALLED)
    return not (filename.startswith("<") or path.is_relative_to(_PACKAGE) or installed)
