"""Whole networks in one file: torch.export programs, ONNX, Keras 3.

A file that ends in a softmax or sigmoid loses it: the score that Grad-CAM explains is the logit.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.errors import MissingExtraError, ModelError
from gradaudit.images.preprocessing import Preprocess
from gradaudit.models.torchvision_compat import import_torchvision
from gradaudit.models.weights import no_pickles
from gradaudit.spelling import did_you_mean


@dataclass(frozen=True)
class ModelRequest:
    """One model to load; relative paths start at ``root``."""

    spec: str
    weights: str | None
    root: Path

    @property
    def name(self) -> str:
        return self.spec.partition(":")[2]

    def file(self, text: str) -> Path:
        return self.root / text

    def model_file(self) -> Path:
        """The file or folder that the spec names, which brings its own weights."""
        path = self.root / (self.name if self.spec.startswith("hf:") else self.spec)
        if self.weights is not None:
            raise ModelError(
                f"{self.spec} brings its own weights; leave weights = {self.weights!r} out."
            )
        if not path.exists():
            raise ModelError(f"There is no model file {path}.")
        return path


@dataclass(frozen=True)
class BuiltModel:
    """What a source gives.

    ``identity``: what makes it this model beside its state dict (a factory's code).
    """

    module: nn.Module
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    outputs: int | None = None
    layer: str = "auto"
    output: str | int | None = None
    identity: str = ""
    notes: tuple[str, ...] = ()


# ── whole networks in one file ────────────────────────────────────────────────────────────────────


def taken_off(ending: str) -> str:
    """The note on a softmax or sigmoid that a network lost at its end."""
    note = f"its last operation ({ending}) was taken off, so that the logit is explained, as Grad-CAM defines it"
    several = "; where there are several outputs, the class with the highest logit is the prediction, and its probability is a softmax over all"
    return note + (several if ending.endswith("sigmoid") else "")


def _declared_by_input(
    origin: str, shape: Sequence[Any]
) -> tuple[Preprocess, tuple[str, ...], bool]:
    """What an input of 4 dimensions says of size, channels and their order.

    The size where it is fixed, the number of channels, and whether they come last.

    returns : preprocess, notes, channels last
    """
    if len(shape) != 4 or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ModelError(
            f"{origin} takes an input of shape {tuple(shape)}; expected (N, C, H, W) or (N, H, W, C) with 1 or 3 channels."
        )
    last = shape[1] not in (1, 3)
    size, channels = (shape[1:3], shape[3]) if last else (shape[2:], shape[1])
    fixed = all(isinstance(side, int) and side > 0 for side in size)
    preprocess = Preprocess(
        resize=tuple(size) if fixed else None,
        fit="exact" if fixed else "shorter",
        channels=channels,
    )
    note = f"{origin} declares no normalisation, so values in [0, 1] are fed where [preprocess] does not say how the network was trained"
    return preprocess, (note,), last


def _of_file(
    module: nn.Module,
    preprocess: Preprocess,
    last: bool,
    notes: tuple[str, ...],
    ending: str,
    structure: str,
) -> BuiltModel:
    if last:
        module.register_forward_pre_hook(_channels_last)
    return BuiltModel(
        module,
        preprocess,
        identity=structure,
        notes=(*notes, *([taken_off(ending)] if ending else [])),
    )


def _channels_last(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook of networks that take (N, H, W, C): images are (N, C, H, W) everywhere else."""
    return (arguments[0].permute(0, 2, 3, 1), *arguments[1:])


def _load_exported(request: ModelRequest) -> BuiltModel:
    """A program saved by ``torch.export.save``, with the layer names of its source."""
    path = request.model_file()
    with no_pickles(path):
        program = torch.export.load(path)
    inputs = [
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; an image classifier takes one.")
    shape = [side if isinstance(side, int) else None for side in inputs[0].meta["val"].shape]
    dynamic = (
        'torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))'
    )
    if shape[0] not in (None, 1):
        raise ModelError(
            f"{path} was exported for batches of exactly {shape[0]} images. Export it with {dynamic}."
        )
    if any(_trains(node) for node in program.graph.nodes):
        raise ModelError(
            f"{path} was exported in training mode (batch normalisation or dropout is active). Call model.eval() before the export."
        )
    preprocess, notes, last = _declared_by_input(path.name, shape)
    if shape[0] == 1:
        notes = (
            *notes,
            f"{path.name} was exported for one image at a time: set batch_size = 1 under [run], or export it with {dynamic}",
        )
    ending = _cut_exported(program)
    return _of_file(
        torch.export.unflatten(program), preprocess, last, notes, ending, str(program.graph)
    )


def _trains(node: Any) -> bool:
    position = {
        "aten.batch_norm.default": 5,
        "aten.instance_norm.default": 5,
        "aten.dropout.default": 2,
    }.get(str(node.target))
    return position is not None and len(node.args) > position and node.args[position] is True


_ACTIVATION_NODES = {
    "aten.softmax.int": "softmax", "aten._softmax.default": "softmax", "aten.log_softmax.int": "log-softmax",
    "aten._log_softmax.default": "log-softmax", "aten.sigmoid.default": "sigmoid", "aten.log_sigmoid.default": "log-sigmoid",
}  # fmt: skip
_RESHAPING_NODES = (
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "clone",
    "contiguous",
    "alias",
    "permute",
    "transpose",
)


def _cut_exported(program: Any) -> str:
    """Take a final softmax or sigmoid off the graph, also before a change of shape.

    returns : its name, or "" where there is none
    """
    output = next(node for node in program.graph.nodes if node.op == "output")
    if len(output.args[0]) != 1:
        return ""
    last = output.args[0][0]
    while (
        last.op == "call_function"
        and str(last.target).removeprefix("aten.").partition(".")[0] in _RESHAPING_NODES
    ):
        last = last.args[0]
    if str(last.target) not in _ACTIVATION_NODES:
        return ""
    logits = last.args[0]
    last.replace_all_uses_with(logits)
    program.graph_signature.output_specs[0].arg.name = output.args[0][0].name
    program.graph.erase_node(last)
    return _ACTIVATION_NODES[str(last.target)]


# ── ONNX ──────────────────────────────────────────────────────────────────────────────────────────


def _load_onnx(request: ModelRequest) -> BuiltModel:
    path = request.model_file()
    onnx, _ = (
        imported_extra("onnx", "onnx", request),
        import_torchvision(),
    )  # onnx2torch imports torchvision
    converter = imported_extra("onnx2torch", "onnx", request)
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own errors, missing external data
        raise ModelError(
            f"{path} cannot be read as ONNX: {type(error).__name__}: {error}"
        ) from error
    constants = {entry.name for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; an image classifier takes one.")
    shape = [side.dim_value or None for side in inputs[0].type.tensor_type.shape.dim]
    preprocess, notes, last = _declared_by_input(path.name, shape)
    ending = _cut_onnx(model.graph)
    return _of_file(
        _converted(onnx, converter, model, path),
        preprocess,
        last,
        notes,
        ending,
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _cut_onnx(graph: Any) -> str:
    output = graph.output[0]
    last = next((node for node in graph.node if output.name in node.output), None)
    if (
        last is None
        or last.op_type not in ("Softmax", "LogSoftmax", "Sigmoid")
        or len(graph.output) != 1
    ):
        return ""
    output.name = last.input[0]
    graph.node.remove(last)
    return {"LogSoftmax": "log-softmax"}.get(last.op_type, str(last.op_type).lower())


def _converted(onnx: Any, converter: Any, model: Any, path: Path) -> nn.Module:
    """The network as torch modules.

    Operator sets that the converter does not know are brought to version 13 first.
    """
    try:
        try:
            module: nn.Module = converter.convert(model)
        except NotImplementedError:
            module = converter.convert(onnx.version_converter.convert_version(model, 13))
    except NotImplementedError as error:
        raise ModelError(
            f"{path} uses an operator that onnx2torch cannot convert: {error}"
        ) from error
    except Exception as error:
        raise ModelError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
    return module


def imported_extra(module: str, extra: str, request: ModelRequest) -> Any:
    """A module of an optional extra.

    Errors: ``MissingExtraError``, which names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"The model {request.spec}", extra, module) from error


def near_or_known(name: str, known: Collection[str]) -> str:
    """A question after the names nearest to one that is not known; where none is near, some of
    them.
    """
    some = f"known are, among {len(known)}: {', '.join(sorted(known)[:8])} …"
    return did_you_mean(name, known, most=3) or some


# ── Keras ─────────────────────────────────────────────────────────────────────────────────────────


class _KerasLayer(nn.Module):
    """One Keras operation as a torch module, so that hooks fire.

    On Keras layers they never do: those override ``__call__``.
    """

    def __init__(self, operation: Any) -> None:
        super().__init__()
        if isinstance(operation, nn.Module) and getattr(operation, "weights", None):
            # registered: its weights are this module's; a dropout's random state is none, and differs at every load
            self.layer = operation
        self._operation = (operation,)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._operation[0](*args, **kwargs)


class _KerasGraph(nn.Module):
    """A functional Keras model walked node by node; its layers are children under their names.

    A nested model becomes a nested module.
    """

    def __init__(self, model: Any, skipped: Any = None) -> None:
        super().__init__()
        functional = getattr(model, "_functional", None) or model
        if not hasattr(functional, "_run_through_graph"):
            raise ModelError(
                f"The Keras model {type(model).__name__} is a class of its own; only functional and sequential models are read."
            )
        self._functional = (functional,)  # in a tuple, or its layers would be registered twice
        self._child: dict[int, str] = {}
        for operation in functional.operations:
            if type(operation).__name__ == "InputLayer":
                continue
            nested = (
                hasattr(operation, "_run_through_graph")
                or getattr(operation, "_functional", None) is not None
            )
            child = (
                _KerasLayer(lambda x, **_: x)
                if operation is skipped
                else _KerasGraph(operation)
                if nested
                else _KerasLayer(operation)
            )
            self._child[id(operation)] = operation.name.replace(".", "_")
            self.add_module(self._child[id(operation)], child)

    def forward(self, *inputs: Tensor, **options: Any) -> Any:
        with importlib.import_module("keras").device(str(inputs[0].device)):
            outputs = self._functional[0]._run_through_graph(
                inputs,
                operation_fn=lambda operation: self.get_submodule(self._child[id(operation)]),
            )
        return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def _load_keras(request: ModelRequest) -> BuiltModel:
    path = request.model_file()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = imported_extra("keras", "keras", request)
    if keras.config.backend() != "torch":
        raise ModelError(
            f"Keras runs on {keras.config.backend()} in this process; set KERAS_BACKEND=torch before it is first imported."
        )
    try:
        with keras.device("cpu"):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # ValueError, TypeError, zipfile and HDF5 errors
        raise ModelError(
            f"{path} cannot be read as a Keras model: {type(error).__name__}: {str(error).strip()[:400]}"
        ) from error
    if not isinstance(model.input_shape, tuple):
        raise ModelError(
            f"{path} takes {len(model.input_shape)} inputs; an image classifier takes one."
        )
    preprocess, notes, last = _declared_by_input(path.name, model.input_shape)
    skipped, ending = _cut_keras(keras, model)
    return _of_file(_KerasGraph(model, skipped), preprocess, last, notes, ending, model.to_json())


def _cut_keras(keras: Any, model: Any) -> tuple[Any, str]:
    """Turn a final softmax, sigmoid or logarithm of one into a linear activation.

    returns : the layer to skip where it does nothing else, and the function's name
    """
    last = model.outputs[0]._keras_history.operation if len(model.outputs) == 1 else None
    if isinstance(last, keras.layers.Softmax):
        return last, "softmax"
    name = getattr(getattr(last, "activation", None), "__name__", "")
    if last is not None and name in ("softmax", "log_softmax", "sigmoid", "log_sigmoid"):
        last.activation = keras.activations.linear
        return None, name.replace("_", "-")
    return None, ""


FILES: dict[str, Callable[[ModelRequest], BuiltModel]] = {
    ".pt2": _load_exported,
    ".onnx": _load_onnx,
    ".keras": _load_keras,
}
_WEIGHTS_ONLY = "holds weights and no network: name the architecture (torchvision:NAME, timm:NAME or factory:file.py:build) and set weights to it."
NO_MODELS = {
    ".pt": _WEIGHTS_ONLY, ".pth": _WEIGHTS_ONLY, ".ckpt": _WEIGHTS_ONLY, ".safetensors": _WEIGHTS_ONLY,
    ".h5": "is the format before Keras 3: load it there and save it again as .keras.", ".tflite": "cannot give gradients; export it as .onnx.",
    ".pb": "is a TensorFlow graph: save the model as .keras, or as .onnx with tf2onnx.",
}  # fmt: skip
