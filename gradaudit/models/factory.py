"""Networks that the user's own Python builds: factory:file.py:function.

The file is run; its function returns a module, (module, preprocess) or a ``Classifier``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from gradaudit.errors import GradauditError, ModelError, in_words
from gradaudit.images.preprocessing import Preprocess
from gradaudit.models.classifier import Classifier
from gradaudit.models.files import BuiltModel, ModelRequest, near_or_known
from gradaudit.models.torchvision_compat import declare_missing_operators
from gradaudit.models.weights import load_state, read_weights
from gradaudit.plan import PreprocessPlan


def load_factory(request: ModelRequest) -> BuiltModel:
    """Run the user's own Python.  It returns a module, (module, preprocess) or a ``Classifier``."""
    file, _, function = request.name.rpartition(":")
    path = request.file(file)
    if not file or not function.isidentifier():
        raise ModelError(
            f"factory:{request.name} needs a file and a function: factory:models.py:build"
        )
    if not path.is_file():
        raise ModelError(f"factory:{request.name}: there is no file {path}.")
    declare_missing_operators()
    with _importable_folder(path.resolve().parent):
        namespace = _executed(path)
        build = getattr(namespace, function, None)
        if not callable(build):
            own = [
                name
                for name, value in vars(namespace).items()
                if callable(value) and getattr(value, "__module__", "") == namespace.__name__
            ]
            raise ModelError(f"{path} has no function {function!r}; {near_or_known(function, own)}")
        result = _own_errors(path, build)
    note = f"{path.name} is the auditor's own Python and was run to build the network"
    built = _of_factory_result(path, result, hashlib.sha256(path.read_bytes()).hexdigest(), note)
    if request.weights is not None:
        load_state(built.module, read_weights(request.file(request.weights)), request.weights)
    return built


def _executed(path: Path) -> ModuleType:
    name = f"gradaudit_factory_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling inside the factory look their module up
    loader = spec.loader
    _own_errors(path, lambda: loader.exec_module(module))
    return module


def _own_errors(path: Path, run: Callable[[], Any]) -> Any:
    """Run the user's code; an error in it is reported with its line in the user's file."""
    try:
        return run()
    except (GradauditError, KeyboardInterrupt):
        raise
    except (
        BaseException
    ) as error:  # SystemExit and every other: nothing that user code raises may look like a result
        lines = []
        trace = error.__traceback__
        while trace is not None:
            if Path(trace.tb_frame.f_code.co_filename).name == path.name:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        words = (
            in_words(error) if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        )
        raise ModelError(f"The factory failed at {place}: {words}") from error


@contextmanager
def _importable_folder(folder: Path) -> Iterator[None]:
    """A factory may import the files beside it; the search path is given back."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _of_factory_result(path: Path, result: Any, identity: str, note: str) -> BuiltModel:
    if isinstance(result, Classifier):
        return BuiltModel(
            result.module,
            result.preprocess,
            result.classes,
            None,
            result.layer,
            result.output,
            identity,
            (*result.notes, note),
        )
    module, declared = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"The factory in {path} returned {type(result).__name__}; expected a torch.nn.Module, (module, preprocess) or a Classifier."
        )
    return BuiltModel(
        module, _declared_by_factory(path, declared), identity=identity, notes=(note,)
    )


def _declared_by_factory(path: Path, declared: Any) -> Preprocess | None:
    if declared is None or isinstance(declared, Preprocess):
        return declared
    if isinstance(declared, PreprocessPlan):
        return resolved_preprocess(None, declared)
    known = [field.name for field in fields(Preprocess)]
    if isinstance(declared, Mapping):
        unknown = [str(key) for key in declared if key not in known]
        if not unknown:
            return Preprocess(**declared)
        raise ModelError(
            f"The factory in {path} declares {', '.join(unknown)}, which no preprocess has. Known settings: {', '.join(known)}"
        )
    raise ModelError(
        f"The factory in {path} returned a preprocess of type {type(declared).__name__}; expected a dict of {', '.join(known)}."
    )


def resolved_preprocess(
    declared: Preprocess | None, plan: PreprocessPlan | None
) -> Preprocess | None:
    """What the source declares, with single settings replaced by the plan's."""
    if plan is None or plan == PreprocessPlan():
        return declared
    return (declared or Preprocess()).merged(plan)
