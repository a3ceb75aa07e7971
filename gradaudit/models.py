"""From one line of text, or a module at hand, to a ``Classifier``: network, target layer, preprocess, class names.

    torchvision:resnet50            weights = "DEFAULT" (or another published set, downloaded), or a local file
    timm:convnext_tiny              weights = "pretrained", or a local file                     (extra [timm])
    factory:file.py:function        your own Python, which is run: it returns a module, (module, preprocess) or a Classifier
    hf:FOLDER                       a local folder of AutoModelForImageClassification           (extra [hf])
    model.pt2                       a program saved by torch.export
    model.onnx                      converted by onnx2torch                                     (extra [onnx])
    model.keras                     a functional or sequential Keras 3 model                    (extra [keras])

A file that ends in a softmax or sigmoid loses it: the score that Grad-CAM explains is the logit.  Local weights are
``.safetensors`` or a state dict (``.pt``, ``.pth``), read with ``weights_only``: no pickle is ever executed.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import math
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gradaudit.capture import choose_layer
from gradaudit.config import PreprocessPlan
from gradaudit.errors import GradauditError, LayerError, MissingExtraError, ModelError
from gradaudit.images import Preprocess, Size

# ── torchvision beside a torch that it was not built for ────────────────────────────────────────────────────────────

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library: Any = None  # kept alive: a library that is collected takes its operators along


def import_torchvision() -> Any:
    """``import torchvision``, also where its compiled operators do not load.

    A torchvision wheel built for CUDA beside a CPU-only torch finds no operators, and its import fails with "operator
    torchvision::nms does not exist": it registers shape functions for two operators unconditionally.  Classification networks
    need neither.  Only where they are missing, both are declared, and ``nms`` gets a plain implementation, so that detectors run
    too.  Everything in gradaudit that needs torchvision (timm does) comes through here.
    """
    _declare_missing_operators()
    import torchvision

    if _library is not None:
        torchvision.ops.boxes._assert_has_ops = _nothing  # it guards nms, which exists now
    return torchvision


def _nothing() -> None: ...


def _declare_missing_operators() -> None:
    global _library
    if "torchvision" in sys.modules or _library is not None:
        return
    torch_ops: Any = torch.ops
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).glob("_C.*"):
            try:
                torch_ops.load_library(str(file))  # what torchvision does first itself; loading twice is harmless
            except OSError:
                continue
    missing = [name for name in _SCHEMAS if not hasattr(torch_ops.torchvision, name)]
    if missing:
        declare: Any = torch.library.Library
        _library = declare("torchvision", "FRAGMENT")
        for name in missing:
            _library.define(_SCHEMAS[name])
        if "nms" in missing:
            _library.impl("nms", plain_nms, "CompositeExplicitAutograd")


def plain_nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Greedy non-maximum suppression.

    dets : (N, 4) boxes x0, y0, x1, y1      scores : (N,)      iou_threshold : overlaps above it are suppressed
    returns : int64 indices of the kept boxes, by falling score (equal scores: first come, first kept)
    """
    order = scores.argsort(descending=True, stable=True)
    if iou_threshold >= 1:  # nothing overlaps by more than all
        return order
    x0, y0, x1, y1 = dets[order].unbind(1)
    area = (x1 - x0) * (y1 - y0)
    alive = torch.ones(len(order), dtype=torch.bool, device=dets.device)
    for i in range(len(order)):
        if not alive[i]:
            continue
        rest = slice(i + 1, None)
        width = (torch.minimum(x1[i], x1[rest]) - torch.maximum(x0[i], x0[rest])).clamp(min=0)
        height = (torch.minimum(y1[i], y1[rest]) - torch.maximum(y0[i], y0[rest])).clamp(min=0)
        overlap = width * height
        alive[rest] &= ~(overlap / (area[i] + area[rest] - overlap) > iou_threshold)
    return order[alive]


# ── the classifier ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network and what has to be known to audit it.

    module : takes (N, C, H, W), gives logits (N, K), or (N, 1) or (N,) for one logit: class 0 is then -z, class 1 is +z
    layer : name of the layer whose activations are explained, or "auto"
    preprocess : None means that images are used as decoded, RGB in [0, 1]
    classes : names in output order, or None (then classes are called by their index)
    source, digest : where it comes from, and sha256 over that, its structure and every tensor of its state dict
    output : key or index of the logits in a dict or tuple output
    notes : what a reader of the report must know about how this network was loaded
    """

    module: nn.Module
    layer: str = "auto"
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    source: str = ""
    digest: str = ""
    output: str | int | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def wrap(
        cls,
        module: nn.Module,
        layer: str = "auto",
        classes: Sequence[str] | None = None,
        preprocess: Preprocess | None = None,
        output: str | int | None = None,
    ) -> Classifier:
        """A module at hand, as it is: nothing in it is changed, its training flags included.

        ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are unwrapped.

        Errors: ``ModelError`` for TorchScript and for what is no module; ``LayerError`` for a layer that it does not have.
        """
        plain = unwrap(module)
        source = f"module:{type(plain).__module__}.{type(plain).__qualname__}"
        _check_layer(plain, layer)
        names = None if classes is None else tuple(str(name) for name in classes)
        return cls(plain, layer, preprocess, names, source, digest_of_module(plain, source), output)

    @property
    def input_size(self) -> Size | None:
        """(height, width) that the preprocess produces, or None where it follows each image."""
        return None if self.preprocess is None else self.preprocess.output_size

    def class_index(self, label: str) -> int | None:
        """Output index of a label: a class name, or an index as text; None if it is neither."""
        text = label.strip()
        if self.classes is not None and text in self.classes:
            return self.classes.index(text)
        if text.isascii() and text.isdigit() and (self.classes is None or int(text) < len(self.classes)):
            return int(text)
        return None

    def class_name(self, index: int) -> str:
        """Name of an output, or its index as text where the model names none."""
        return self.classes[index] if self.classes is not None and 0 <= index < len(self.classes) else str(index)


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``; TorchScript is refused."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{_TORCHSCRIPT} Wrap the Python module that it was scripted from.")
    if not isinstance(module, nn.Module):
        raise ModelError(f"A torch.nn.Module is needed, got {type(module).__module__}.{type(module).__qualname__}.")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(module.module)
    compiled = module._modules.get("_orig_mod")
    return module if compiled is None else unwrap(compiled)


_TORCHSCRIPT = "This is a TorchScript module: its layers cannot be hooked, so no heat map can be taken."


def digest_of_module(module: nn.Module, source: str) -> str:
    """sha256 (hex) over ``source``, the module's printed structure and every entry of its state dict: name, type, shape, bytes."""
    digest = hashlib.sha256()
    digest.update(f"{source}\0{re.sub(r' at 0x[0-9a-fA-F]+', '', repr(module))}\0".encode())
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            digest.update(f"{name}\0{value!r}\0".encode())
            continue
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def _check_layer(module: nn.Module, layer: str) -> None:
    names = [name for name, _ in module.named_modules() if name]
    if layer == "auto" or layer in names:
        return
    near = difflib.get_close_matches(layer, names, n=3)
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"The last of them: {', '.join(names[-5:])}."
    raise LayerError(f"The model has no layer {layer!r} among its {len(names)}. {hint}")


def resolve_layer(classifier: Classifier, images: Tensor) -> tuple[Classifier, str]:
    """The classifier with a concrete layer, and why that one.

    images : (N, C, H, W) real, preprocessed images on the model's device; one is enough

    Errors: ``LayerError`` where no layer can be explained, or the named one does not exist.
    """
    _check_layer(classifier.module, classifier.layer)
    if classifier.layer != "auto":
        return classifier, "named by the user"
    choice = choose_layer(classifier.module, images, output=classifier.output)
    return replace(classifier, layer=choice.name), choice.reason


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Request:
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
            raise ModelError(f"{self.spec} brings its own weights; leave weights = {self.weights!r} out.")
        if not path.exists():
            raise ModelError(f"There is no model file {path}.")
        return path


@dataclass(frozen=True)
class _Built:
    """What a source gives: ``identity`` is content beside the state dict that makes it this model (a factory's code)."""

    module: nn.Module
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    outputs: int | None = None
    layer: str = "auto"
    output: str | int | None = None
    identity: str = ""
    notes: tuple[str, ...] = ()


def load_classifier(
    spec: str,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    layer: str = "auto",
    preprocess: PreprocessPlan | None = None,
    output: str | int | None = None,
    root: Path | None = None,
) -> Classifier:
    """Load a network by its one-line description (see the top of this file), in eval mode on the CPU.

    What is given here comes before what the source declares: class names, layer, logits' key, single preprocess settings.
    Relative paths in ``spec`` and ``weights`` start at ``root``.

    Errors: ``ModelError`` (unknown source or name, no weights, keys that do not fit, pickles), ``LayerError``,
    ``MissingExtraError``, ``PlanError`` for a preprocess that contradicts the declared one.
    """
    load = _loader_of(spec)
    with warnings.catch_warnings():
        if load is not _load_factory:
            warnings.simplefilter("ignore")  # libraries warning each other of deprecations; a factory's warnings are its author's to see
        built = load(_Request(spec, None if weights is None else str(weights), root or Path()))
    module = unwrap(built.module).eval()
    chosen = layer if layer != "auto" else built.layer
    _check_layer(module, chosen)
    names = built.classes if classes is None else tuple(str(entry) for entry in classes)
    if names is not None and built.outputs is not None and len(names) != built.outputs:
        raise ModelError(f"{len(names)} class names are given and {spec} has {built.outputs} outputs.")
    return Classifier(
        module=module,
        layer=chosen,
        preprocess=_resolved_preprocess(built.preprocess, preprocess),
        classes=names,
        source=spec,
        digest=digest_of_module(module, f"{_without_folders(spec)}\0{built.identity}"),
        output=built.output if output is None else output,
        notes=built.notes,
    )


def _loader_of(spec: str) -> Callable[[_Request], _Built]:
    scheme, _, name = spec.partition(":")
    suffix = Path(spec).suffix.lower()
    if scheme in _SOURCES and name:
        return _SOURCES[scheme]
    if suffix in _FILES:
        return _FILES[suffix]
    if suffix in _NO_MODELS:
        raise ModelError(f"{spec} {_NO_MODELS[suffix]}")
    known = ", ".join([*(f"{known}:…" for known in _SOURCES), *(f"FILE{known}" for known in _FILES)])
    near = difflib.get_close_matches(scheme, _SOURCES, n=1)
    raise ModelError(f"No model source {spec!r}{f'; did you mean {near[0]}:…?' if near else '.'} Known sources: {known}")


def _resolved_preprocess(declared: Preprocess | None, plan: PreprocessPlan | None) -> Preprocess | None:
    if plan is None or plan == PreprocessPlan():
        return declared
    return (declared or Preprocess()).merged(plan)


def _without_folders(spec: str) -> str:
    """The spec with bare file names: a digest must not depend on where a model lies."""
    return re.sub(r"[^:]*[/\\]", "", spec)


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Known are, among {len(known)}: {', '.join(sorted(known)[:8])} …"


# ── torchvision ─────────────────────────────────────────────────────────────────────────────────────────────────────

_UNTRAINED = 'its weights are random (weights = "random"): a rehearsal of the pipeline, no audit of a trained network'


def _no_weights(spec: str, published: str) -> ModelError:
    return ModelError(
        f"{spec} without weights is an untrained network, and its heat maps mean nothing. Set weights to {published}, "
        'to a local .safetensors, .pt or .pth file, or to "random" to rehearse the pipeline.'
    )


def _load_torchvision(request: _Request) -> _Built:
    models = import_torchvision().models
    known = models.list_models(module=models)
    if request.name not in known:
        raise ModelError(f"torchvision has no classification network {request.name!r}. {_did_you_mean(request.name, known)}")
    published = {entry.name: entry for entry in models.get_model_weights(request.name)}
    if request.weights is None:
        raise _no_weights(f"torchvision:{request.name}", " or ".join(map(repr, ["DEFAULT", *published])))
    default = models.get_model_weights(request.name).DEFAULT
    entry = default if request.weights == "DEFAULT" else published.get(request.weights.rpartition(".")[2])
    if entry is not None:
        module = _downloaded(f"torchvision:{request.name}", lambda: models.get_model(request.name, weights=entry))
        categories = tuple(entry.meta["categories"])
        return _Built(module, _declared_by_torchvision(entry), categories, len(categories))

    extra = {"init_weights": False} if request.name in ("googlenet", "inception_v3") else {}  # their default warns, and takes a minute

    def build(outputs: int | None) -> nn.Module:
        module: nn.Module = models.get_model(request.name, weights=None, **extra, **({} if outputs is None else {"num_classes": outputs}))
        return module

    module, notes = _filled(build, request, f"torchvision:{request.name}")
    notes = (*notes, f"the preprocess is torchvision's own for {default}; set [preprocess] if the network was trained with another")
    outputs = _count_outputs(module)
    return _Built(module, _declared_by_torchvision(default), _imagenet_names(outputs), outputs, notes=notes)


def _declared_by_torchvision(entry: Any) -> Preprocess:
    declared = entry.transforms()
    return Preprocess(
        resize=declared.resize_size[0],
        crop=declared.crop_size[0],
        interpolation=declared.interpolation.value,
        mean=tuple(declared.mean),
        std=tuple(declared.std),
    )


def _imagenet_names(outputs: int | None) -> tuple[str, ...] | None:
    """The names of ImageNet's 1,000 classes, in the order of every ImageNet-1k network; None for another number of outputs."""
    if outputs != 1000:
        return None
    return tuple(import_torchvision().models.ResNet18_Weights.DEFAULT.meta["categories"])


def _downloaded(spec: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except MissingExtraError:
        raise
    except Exception as error:  # URLError, HTTPError, a hub's own errors, a wrong checksum
        raise ModelError(
            f"The weights of {spec} could not be downloaded ({type(error).__name__}: {error}). "
            "Where there is no network, fetch them elsewhere and give weights = their local file."
        ) from error


def _count_outputs(module: nn.Module) -> int | None:
    """Length of the last weight-carrying layer's output, which in every torchvision and timm classifier is the head."""
    heads = [child for child in module.modules() if isinstance(child, nn.Linear | nn.Conv2d)]
    return None if not heads else int(heads[-1].weight.shape[0])


# ── timm ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load_timm(request: _Request) -> _Built:
    try:
        import_torchvision()
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise MissingExtraError(f"The model timm:{request.name}", "timm", "timm") from error
    spec = f"timm:{request.name}"
    known = timm.list_models()
    if request.name.partition(".")[0] not in known:
        raise ModelError(f"timm has no network {request.name!r}. {_did_you_mean(request.name, known)}")
    if request.weights is None:
        raise _no_weights(spec, "'pretrained'")
    notes: tuple[str, ...] = ()
    if request.weights == "pretrained":
        module = _downloaded(spec, lambda: timm.create_model(request.name, pretrained=True))
    else:

        def build(outputs: int | None) -> nn.Module:
            built: nn.Module = timm.create_model(request.name, pretrained=False, **({} if outputs is None else {"num_classes": outputs}))
            return built

        module, notes = _filled(build, request, spec)
        notes = (*notes, f"the preprocess is timm's own for {request.name}; set [preprocess] if the network was trained with another")
    outputs = getattr(module, "num_classes", None)
    return _Built(module, _declared_by_timm(timm.data.resolve_data_config({}, model=module)), _imagenet_names(outputs), outputs, notes=notes)


def _declared_by_timm(config: Mapping[str, Any]) -> Preprocess:
    """The evaluation transform that ``timm.data.create_transform`` builds from the same configuration."""
    channels, *size = config["input_size"]
    if channels not in (1, 3):
        raise ModelError(f"The network takes {channels} channels; images have 3, or 1 as luma.")
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in size)
    mode = config.get("crop_mode") or "center"
    fits: dict[str, Literal["shorter", "exact", "pad"]] = {"center": "shorter", "squash": "exact", "border": "pad"}
    shorter = mode == "center" and scaled[0] == scaled[1]
    return Preprocess(
        resize=scaled[0] if shorter else scaled,
        crop=tuple(size),
        fit=fits[mode],
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels=channels,
    )


# ── factory ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load_factory(request: _Request) -> _Built:
    """Run the user's own Python.  It returns a module, (module, preprocess) or a ``Classifier``."""
    file, _, function = request.name.rpartition(":")
    path = request.file(file)
    if not file or not function.isidentifier():
        raise ModelError(f"factory:{request.name} needs a file and a function: factory:models.py:build")
    if not path.is_file():
        raise ModelError(f"factory:{request.name}: there is no file {path}.")
    _declare_missing_operators()
    with _importable_folder(path.resolve().parent):
        namespace = _executed(path)
        build = getattr(namespace, function, None)
        if not callable(build):
            own = [name for name, value in vars(namespace).items() if callable(value) and getattr(value, "__module__", "") == namespace.__name__]
            raise ModelError(f"{path} has no function {function!r}. {_did_you_mean(function, own)}")
        result = _own_errors(path, build)
    note = f"{path.name} is the auditor's own Python and was run to build the network"
    built = _of_factory_result(path, result, hashlib.sha256(path.read_bytes()).hexdigest(), note)
    if request.weights is not None:
        _load_state(built.module, read_weights(request.file(request.weights)), request.weights)
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
    except GradauditError:
        raise
    except Exception as error:
        lines = []
        trace = error.__traceback__
        while trace is not None:
            if Path(trace.tb_frame.f_code.co_filename).name == path.name:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        raise ModelError(f"The factory failed at {place}: {type(error).__name__}: {error}") from error


@contextmanager
def _importable_folder(folder: Path) -> Iterator[None]:
    """A factory may import the files beside it; the search path is given back."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _of_factory_result(path: Path, result: Any, identity: str, note: str) -> _Built:
    if isinstance(result, Classifier):
        return _Built(
            result.module, result.preprocess, result.classes, None, result.layer, result.output, identity, (*result.notes, note)
        )  # fmt: skip
    module, declared = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(module, nn.Module):
        raise ModelError(f"The factory in {path} returned {type(result).__name__}; expected a torch.nn.Module, (module, preprocess) or a Classifier.")
    return _Built(module, _declared_by_factory(path, declared), identity=identity, notes=(note,))


def _declared_by_factory(path: Path, declared: Any) -> Preprocess | None:
    if declared is None or isinstance(declared, Preprocess):
        return declared
    if isinstance(declared, PreprocessPlan):
        return _resolved_preprocess(None, declared)
    known = [field.name for field in fields(Preprocess)]
    if isinstance(declared, Mapping):
        unknown = [str(key) for key in declared if key not in known]
        if not unknown:
            return Preprocess(**declared)
        raise ModelError(f"The factory in {path} declares {', '.join(unknown)}, which no preprocess has. Known settings: {', '.join(known)}")
    raise ModelError(f"The factory in {path} returned a preprocess of type {type(declared).__name__}; expected a dict of {', '.join(known)}.")


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _filled(build: Callable[[int | None], nn.Module], request: _Request, spec: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The architecture with the requested weights; its number of classes follows the checkpoint's head."""
    weights = str(request.weights)
    if weights == "random":
        with torch.random.fork_rng(devices=[]):  # the same network in every run, and the caller's random state untouched
            torch.manual_seed(0)
            return build(None), (_UNTRAINED,)
    path = request.file(weights)
    if not path.is_file():
        raise ModelError(f"{spec} has no published weights {weights!r}, and there is no file {path}. {_no_weights(spec, 'a published set')}")
    state = read_weights(path)
    with torch.random.fork_rng(devices=[]):
        module = build(None)
        outputs = _outputs_of(state, module)
        module = module if outputs is None else build(outputs)
    _load_state(module, state, weights)
    return module, ()


def _outputs_of(state: Mapping[str, Tensor], module: nn.Module) -> int | None:
    """The checkpoint's number of classes, where that is all in which its shapes differ from the network's."""
    expected = module.state_dict()
    found = _without_prefix(state, expected)
    changes = {(expected[k].shape[0], found[k].shape[0]) for k in expected if k in found and expected[k].shape[:1] != found[k].shape[:1]}
    return changes.pop()[1] if len(changes) == 1 else None


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors``, or from ``torch.save`` (read with ``weights_only``), out of the usual wrappings.

    Recognised around it: ``state_dict``, ``model_state_dict``, ``model``, ``net``, ``network``, ``weights``.

    Errors: ``ModelError`` for a missing or damaged file, a pickled module, TorchScript, or a file without tensors.
    """
    if not path.is_file():
        raise ModelError(f"There is no weights file {path}.")
    with path.open("rb") as stream:
        if stream.read(24) == b"version https://git-lfs.":
            raise ModelError(f"{path} is a Git LFS pointer; the weights themselves were not fetched (git lfs pull).")
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
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        what = f"a mapping with {', '.join(map(str, list(content)[:6]))}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelError(f"{path} holds {what}, and no state dict. Save torch.save(model.state_dict(), path).")
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
        raise ModelError(f"{path} holds {what}. Pickles can run any program and are never executed. {advice}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if "TorchScript" in str(error):
            raise ModelError(f"{path}: {_TORCHSCRIPT} {advice}") from error
        raise ModelError(f"{path} cannot be read as a PyTorch file: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def _without_prefix(state: Mapping[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """Keys without what ``DataParallel``, ``torch.compile`` or a training framework put before all of them."""
    found = dict(state)
    for _ in range(3):
        for prefix in ("module.", "_orig_mod.", "model.", "net.", "network."):
            if any(key in expected for key in found) or not all(key.startswith(prefix) for key in found):
                continue
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def _load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    expected = module.state_dict()
    found = _without_prefix(state, expected)
    # Counters of old checkpoints: batch normalisation does not read them in eval mode.
    missing = [key for key in expected if key not in found and not key.endswith(".num_batches_tracked")]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} (file {tuple(found[key].shape)}, network {tuple(expected[key].shape)})"
        for key in expected
        if key in found and isinstance(expected[key], Tensor) and found[key].shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:5])}{' …' if len(keys) > 5 else ''}"
        for what, keys in (("missing in the file", missing), ("not in the network", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        listing = "\n".join(f"  - {line}" for line in problems)
        raise ModelError(f"The weights {origin} do not fit the network ({len(expected)} tensors; the file has {len(found)}):\n{listing}")
    module.load_state_dict(found, strict=False)


# ── whole networks in one file ──────────────────────────────────────────────────────────────────────────────────────

_LOGITS = "its last operation ({}) was taken off, so that the logit is explained, as Grad-CAM defines it"


def _declared_by_input(origin: str, shape: Sequence[Any]) -> tuple[Preprocess, tuple[str, ...], bool]:
    """What an input of 4 dimensions says: size where it is fixed, channels, and whether they come last.

    returns : preprocess, notes, channels last
    """
    if len(shape) != 4 or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ModelError(f"{origin} takes an input of shape {tuple(shape)}; expected (N, C, H, W) or (N, H, W, C) with 1 or 3 channels.")
    last = shape[1] not in (1, 3)
    size, channels = (shape[1:3], shape[3]) if last else (shape[2:], shape[1])
    fixed = all(isinstance(side, int) and side > 0 for side in size)
    preprocess = Preprocess(resize=tuple(size) if fixed else None, fit="exact" if fixed else "shorter", channels=channels)
    note = f"{origin} declares no normalisation, so values in [0, 1] are fed where [preprocess] does not say how the network was trained"
    return preprocess, (note,), last


def _of_file(module: nn.Module, preprocess: Preprocess, last: bool, notes: tuple[str, ...], ending: str, structure: str) -> _Built:
    if last:
        module.register_forward_pre_hook(_channels_last)
    return _Built(module, preprocess, identity=structure, notes=(*notes, *([_LOGITS.format(ending)] if ending else [])))


def _channels_last(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Forward pre-hook of networks that take (N, H, W, C): images are (N, C, H, W) everywhere else."""
    return (arguments[0].permute(0, 2, 3, 1), *arguments[1:])


def _load_exported(request: _Request) -> _Built:
    """A program saved by ``torch.export.save``, with the module tree of its source, so that its layers have their names."""
    path = request.model_file()
    with _no_pickles(path):
        program = torch.export.load(path)
    inputs = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in program.graph_signature.user_inputs]
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; an image classifier takes one.")
    shape = [side if isinstance(side, int) else None for side in inputs[0].meta["val"].shape]
    dynamic = 'torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))'
    if shape[0] not in (None, 1):
        raise ModelError(f"{path} was exported for batches of exactly {shape[0]} images. Export it with {dynamic}.")
    if any(_trains(node) for node in program.graph.nodes):
        raise ModelError(f"{path} was exported in training mode (batch normalisation or dropout is active). Call model.eval() before the export.")
    preprocess, notes, last = _declared_by_input(path.name, shape)
    if shape[0] == 1:
        notes = (*notes, f"{path.name} was exported for one image at a time: set batch_size = 1 under [run], or export it with {dynamic}")
    ending = _cut_exported(program)
    return _of_file(torch.export.unflatten(program), preprocess, last, notes, ending, str(program.graph))


def _trains(node: Any) -> bool:
    position = {"aten.batch_norm.default": 5, "aten.instance_norm.default": 5, "aten.dropout.default": 2}.get(str(node.target))
    return position is not None and len(node.args) > position and node.args[position] is True


def _cut_exported(program: Any) -> str:
    """Take a final softmax or sigmoid off the graph; its name, or "" where there is none."""
    output = next(node for node in program.graph.nodes if node.op == "output")
    last = output.args[0][0] if isinstance(output.args[0], tuple | list) else output.args[0]
    if len(output.args[0]) != 1 or str(last.target) not in ("aten.softmax.int", "aten.sigmoid.default"):
        return ""
    logits = last.args[0]
    output.args = ((logits,),)
    program.graph_signature.output_specs[0].arg.name = logits.name
    program.graph.erase_node(last)
    return str(last.target).split(".")[1]


@contextmanager
def _no_pickles(path: Path) -> Iterator[None]:
    """``torch.export.load`` falls back to pickle for what ``weights_only`` refuses; here the fallback is refused too."""
    load, loads = torch.load, pickle.loads

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise pickle.UnpicklingError("a pickled object")

    setattr(torch, "load", lambda *args, **kwargs: load(*args, **{**kwargs, "weights_only": True}))  # noqa: B010
    setattr(pickle, "loads", refused)  # noqa: B010
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds pickled objects beside its tensors. Pickles can run any program and are never executed.") from error
    except Exception as error:
        raise ModelError(f"{path} cannot be read as a torch.export program: {type(error).__name__}: {error}") from error
    finally:
        setattr(torch, "load", load)  # noqa: B010
        setattr(pickle, "loads", loads)  # noqa: B010


# ── ONNX ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _load_onnx(request: _Request) -> _Built:
    path = request.model_file()
    onnx, _ = _extra("onnx", "onnx", request), import_torchvision()  # onnx2torch imports torchvision
    converter = _extra("onnx2torch", "onnx", request)
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own errors, missing external data
        raise ModelError(f"{path} cannot be read as ONNX: {type(error).__name__}: {error}") from error
    constants = {entry.name for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {len(inputs)} inputs; an image classifier takes one.")
    shape = [side.dim_value or None for side in inputs[0].type.tensor_type.shape.dim]
    preprocess, notes, last = _declared_by_input(path.name, shape)
    ending = _cut_onnx(model.graph)
    return _of_file(_converted(onnx, converter, model, path), preprocess, last, notes, ending, hashlib.sha256(path.read_bytes()).hexdigest())


def _cut_onnx(graph: Any) -> str:
    output = graph.output[0]
    last = next((node for node in graph.node if output.name in node.output), None)
    if last is None or last.op_type not in ("Softmax", "Sigmoid") or len(graph.output) != 1:
        return ""
    output.name = last.input[0]
    graph.node.remove(last)
    return str(last.op_type).lower()


def _converted(onnx: Any, converter: Any, model: Any, path: Path) -> nn.Module:
    """The network as torch modules; operator sets that the converter does not know are brought to 13 first."""
    try:
        try:
            module: nn.Module = converter.convert(model)
        except NotImplementedError:
            module = converter.convert(onnx.version_converter.convert_version(model, 13))
    except NotImplementedError as error:
        raise ModelError(f"{path} uses an operator that onnx2torch cannot convert: {error}") from error
    except Exception as error:
        raise ModelError(f"{path} cannot be converted: {type(error).__name__}: {error}") from error
    return module


def _extra(module: str, extra: str, request: _Request) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"The model {request.spec}", extra, module) from error


# ── Keras ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _KerasLayer(nn.Module):
    """One Keras operation as a torch module: Keras layers override ``__call__``, so that hooks on them never fire."""

    def __init__(self, operation: Any) -> None:
        super().__init__()
        if isinstance(operation, nn.Module) and getattr(operation, "weights", None):
            self.layer = operation  # registered: its weights are this module's; a dropout's random state is none, and differs at every load
        self._operation = (operation,)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._operation[0](*args, **kwargs)


class _KerasGraph(nn.Module):
    """A functional Keras model walked node by node, its layers as children under their own names; nested models nest."""

    def __init__(self, model: Any, skipped: Any = None) -> None:
        super().__init__()
        functional = getattr(model, "_functional", None) or model
        if not hasattr(functional, "_run_through_graph"):
            raise ModelError(f"The Keras model {type(model).__name__} is a class of its own; only functional and sequential models are read.")
        self._functional = (functional,)  # in a tuple, or its layers would be registered twice
        self._child: dict[int, str] = {}
        for operation in functional.operations:
            if type(operation).__name__ == "InputLayer":
                continue
            nested = hasattr(operation, "_run_through_graph") or getattr(operation, "_functional", None) is not None
            child = _KerasLayer(lambda x, **_: x) if operation is skipped else _KerasGraph(operation) if nested else _KerasLayer(operation)
            self._child[id(operation)] = operation.name.replace(".", "_")
            self.add_module(self._child[id(operation)], child)

    def forward(self, *inputs: Tensor, **options: Any) -> Any:
        with importlib.import_module("keras").device(str(inputs[0].device)):
            outputs = self._functional[0]._run_through_graph(inputs, operation_fn=lambda operation: self.get_submodule(self._child[id(operation)]))
        return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def _load_keras(request: _Request) -> _Built:
    path = request.model_file()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = _extra("keras", "keras", request)
    if keras.config.backend() != "torch":
        raise ModelError(f"Keras runs on {keras.config.backend()} in this process; set KERAS_BACKEND=torch before it is first imported.")
    try:
        with keras.device("cpu"):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # ValueError, TypeError, zipfile and HDF5 errors
        raise ModelError(f"{path} cannot be read as a Keras model: {type(error).__name__}: {str(error).strip()[:400]}") from error
    if not isinstance(model.input_shape, tuple):
        raise ModelError(f"{path} takes {len(model.input_shape)} inputs; an image classifier takes one.")
    preprocess, notes, last = _declared_by_input(path.name, model.input_shape)
    skipped, ending = _cut_keras(keras, model)
    return _of_file(_KerasGraph(model, skipped), preprocess, last, notes, ending, model.to_json())


def _cut_keras(keras: Any, model: Any) -> tuple[Any, str]:
    """Make a final softmax or sigmoid linear.  returns : the layer to skip where it is nothing else, and the function's name"""
    last = model.outputs[0]._keras_history.operation if len(model.outputs) == 1 else None
    if isinstance(last, keras.layers.Softmax):
        return last, "softmax"
    name = getattr(getattr(last, "activation", None), "__name__", "")
    if last is not None and name in ("softmax", "sigmoid"):
        last.activation = keras.activations.linear
        return None, name
    return None, ""


# ── Hugging Face ────────────────────────────────────────────────────────────────────────────────────────────────────


def _load_huggingface(request: _Request) -> _Built:
    """A local folder as ``save_pretrained`` writes it; nothing is downloaded and none of its code is run."""
    folder = request.model_file()
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; save_pretrained writes it.")
    import_torchvision()
    transformers = _extra("transformers", "hf", request)
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        module, info = transformers.AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True, **local)
    except Exception as error:
        raise ModelError(f"{folder} cannot be loaded as an image classifier: {type(error).__name__}: {error}") from error
    absent = sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in info.get(kind, ()))
    if absent:
        raise ModelError(f"{folder} lacks {len(absent)} weights, which would be random: {', '.join(absent[:5])}{' …' if len(absent) > 5 else ''}")
    names = tuple(str(module.config.id2label[index]) for index in range(module.config.num_labels))
    unnamed = all(name == f"LABEL_{index}" for index, name in enumerate(names))
    notes: tuple[str, ...] = ("the folder has no preprocessor_config.json: images are used as decoded where [preprocess] says nothing",)
    preprocess = None
    if (folder / "preprocessor_config.json").is_file():
        settings = transformers.AutoImageProcessor.from_pretrained(folder, **local).to_dict()
        preprocess, notes = _declared_by_huggingface(settings), ()
    return _Built(module, preprocess, None if unnamed else names, len(names), "auto", "logits", (folder / "config.json").read_text(), notes)


def _declared_by_huggingface(settings: Mapping[str, Any]) -> Preprocess:
    """An image processor's settings.  Its normalisation ``(value·factor − mean) / std`` is written here on values in [0, 1]."""
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    resize = size.get("shortest_edge") or (size["height"], size["width"]) if settings.get("do_resize") and size else None
    cropped = (crop["height"], crop["width"]) if settings.get("do_center_crop") and crop else None
    if settings.get("crop_pct") is not None and isinstance(resize, int):  # ConvNeXt: below 384 resize more and crop, else squash
        cropped, resize = ((resize, resize), int(resize / settings["crop_pct"])) if resize < 384 else (None, (resize, resize))
    factor = 255 * (settings.get("rescale_factor") or 1 / 255) if settings.get("do_rescale", True) else 255.0
    mean = settings["image_mean"] if settings.get("do_normalize") else (0.0,)
    std = settings["image_std"] if settings.get("do_normalize") else (1.0,)
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    filters = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
    resample = settings.get("resample")
    return Preprocess(
        resize=resize,
        crop=cropped,
        fit="shorter" if isinstance(resize, int) or resize is None else "exact",
        interpolation=cast(Any, "bilinear" if resample is None else filters[int(resample)]),
        mean=tuple((value + offset) / factor for value in mean),
        std=tuple(value / factor for value in std),
    )


_SOURCES: dict[str, Callable[[_Request], _Built]] = {
    "torchvision": _load_torchvision, "timm": _load_timm, "factory": _load_factory, "hf": _load_huggingface,
}  # fmt: skip
_FILES: dict[str, Callable[[_Request], _Built]] = {".pt2": _load_exported, ".onnx": _load_onnx, ".keras": _load_keras}
_WEIGHTS_ONLY = "holds weights and no network: name the architecture (torchvision:NAME, timm:NAME or factory:file.py:build) and set weights to it."
_NO_MODELS = {
    ".pt": _WEIGHTS_ONLY, ".pth": _WEIGHTS_ONLY, ".ckpt": _WEIGHTS_ONLY, ".safetensors": _WEIGHTS_ONLY,
    ".h5": "is the format before Keras 3: load it there and save it again as .keras.", ".tflite": "cannot give gradients; export it as .onnx.",
    ".pb": "is a TensorFlow graph: save the model as .keras, or as .onnx with tf2onnx.",
}  # fmt: skip
