"""Weights from files, without executing anything: safetensors and state dicts, and their way into a
network.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import ModelError

TORCHSCRIPT = (
    "This is a TorchScript module: its layers cannot be hooked, so no heat map can be taken."
)


def outputs_of(state: Mapping[str, Tensor], module: nn.Module) -> int | None:
    """The checkpoint's number of classes, where no other shape differs from the network's."""
    expected = module.state_dict()
    found = _without_prefix(state, expected)
    changes = {
        (expected[k].shape[0], found[k].shape[0])
        for k in expected
        if k in found and expected[k].shape[:1] != found[k].shape[:1]
    }
    return changes.pop()[1] if len(changes) == 1 else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors``, or from ``torch.save`` (read with ``weights_only``).

    Recognized around it: ``state_dict``, ``model_state_dict``, ``model``, ``net``, ``network``,
    ``weights``.

    Errors: ``ModelError`` for a missing or damaged file, a pickled module, TorchScript, or a file
    without tensors.
    """
    if not path.is_file():
        raise ModelError(f"There is no weights file {path}.")
    with path.open("rb") as stream:
        if stream.read(24) == b"version https://git-lfs.":
            raise ModelError(
                f"{path} is a Git LFS pointer; the weights themselves were not fetched (git lfs pull)."
            )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise ModelError(f"{path} is not a readable safetensors file: {error}") from error
    content = _load_safely(path)
    for wrapping in ("state_dict", "model_state_dict", "model", "net", "network", "weights"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    tensors = (
        {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        what = (
            f"a mapping with {', '.join(map(str, list(content)[:6]))}"
            if isinstance(content, Mapping)
            else f"a {type(content).__name__}"
        )
        raise ModelError(
            f"{path} holds {what}, and no state dict. Save torch.save(model.state_dict(), path)."
        )
    return tensors


def _load_safely(path: Path) -> Any:
    advice = (
        "Save the weights alone, where the model can be built: torch.save(model.state_dict(), path), or as safetensors; "
        "then name the architecture, e.g. factory:file.py:build."
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a TorchScript archive before it raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"the pickled object {named.group(1)}" if named else "pickled objects, or is damaged"
        raise ModelError(
            f"{path} holds {what}. Pickles can run any program and are never executed. {advice}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if "TorchScript" in str(error):
            raise ModelError(f"{path}: {TORCHSCRIPT} {advice}") from error
        raise ModelError(
            f"{path} cannot be read as a PyTorch file: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error


def _without_prefix(state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keys without their common prefix (``DataParallel``, ``torch.compile``, frameworks)."""
    found = dict(state)
    for _ in range(3):
        for prefix in ("module.", "_orig_mod.", "model.", "net.", "network."):
            if any(key in expected for key in found) or not all(
                key.startswith(prefix) for key in found
            ):
                continue
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Fill the network in place.

    Errors: ``ModelError`` that counts and names what is missing, unexpected or of another shape.
    """
    expected = module.state_dict()
    found = _without_prefix(state, expected)
    # Counters of old checkpoints: batch normalization does not read them in eval mode.
    missing = [
        key for key in expected if key not in found and not key.endswith(".num_batches_tracked")
    ]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} (file {tuple(found[key].shape)}, network {tuple(expected[key].shape)})"
        for key in expected
        if key in found
        and isinstance(expected[key], Tensor)
        and found[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:5])}{' …' if len(keys) > 5 else ''}"
        for what, keys in (
            ("missing in the file", missing),
            ("not in the network", unexpected),
            ("of another shape", shapes),
        )
        if keys
    ]
    if problems:
        listing = "\n".join(f"  - {line}" for line in problems)
        raise ModelError(
            f"The weights {origin} do not fit the network ({len(expected)} tensors; the file has {len(found)}):\n{listing}"
        )
    module.load_state_dict(found, strict=False)


@contextmanager
def no_pickles(path: Path) -> Iterator[None]:
    """Refuse pickles inside the block.

    ``torch.export.load`` falls back to pickle for what ``weights_only`` refuses; not here.
    """
    load, loads = torch.load, pickle.loads

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise pickle.UnpicklingError("a pickled object")

    setattr(torch, "load", lambda *args, **kwargs: load(*args, **{**kwargs, "weights_only": True}))  # noqa: B010
    setattr(pickle, "loads", refused)  # noqa: B010
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds pickled objects beside its tensors. Pickles can run any program and are never executed."
        ) from error
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read as a torch.export program: {type(error).__name__}: {error}"
        ) from error
    finally:
        setattr(torch, "load", load)  # noqa: B010
        setattr(pickle, "loads", loads)  # noqa: B010
