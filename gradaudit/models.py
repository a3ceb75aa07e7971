"""From one line of text, or a module at hand, to a ``Classifier``: network, target layer, preprocess, class names.

    torchvision:resnet50            weights = "DEFAULT" (or another published set, downloaded), or a local file
    timm:convnext_tiny              weights = "pretrained", or a local file                     (extra [timm])
    factory:file.py:function        your own Python, which is run: it returns a module, (module, preprocess) or a Classifier
    hf:FOLDER                       a local folder of AutoModelForImageClassification           (extra [hf])
    model.pt2                       a program saved by torch.export
    model.onnx                      converted by onnx2torch                                     (extra [onnx])
    model.keras                     a functional or sequential Keras 3 model                    (extra [keras])

A network that ends in a softmax or sigmoid loses it, or is refused: the score that Grad-CAM explains is the logit (``with_logits``).
Local weights are ``.safetensors`` or a state dict (``.pt``, ``.pth``), read with ``weights_only``: no pickle is ever executed.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import math
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradaudit.capture import choose_layer
from gradaudit.config import PreprocessPlan
from gradaudit.errors import GradauditError, LayerError, MissingExtraError, ModelError, in_words
from gradaudit.images import Preprocess, Size
from gradaudit.labels import class_index
from gradaudit.layouts import Inputs
from gradaudit.model_files import FILES, NO_MODELS, BuiltModel, ModelRequest, load_huggingface
from gradaudit.operators import declare_missing_operators, import_torchvision
from gradaudit.output_activation import without_activation
from gradaudit.weights import TORCHSCRIPT, load_state, outputs_of, read_weights

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
    gives_logits : ``with_logits`` has looked at what the network gives
    """

    module: nn.Module
    layer: str = "auto"
    preprocess: Preprocess | None = None
    classes: tuple[str, ...] | None = None
    source: str = ""
    digest: str = ""
    output: str | int | None = None
    notes: tuple[str, ...] = ()
    gives_logits: bool = False

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

        ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are unwrapped.  A softmax or sigmoid at its end is found once
        there are images (``with_logits``).

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
        return class_index(label, self.classes)

    def class_name(self, index: int) -> str:
        """Name of an output, or its index as text where the model names none."""
        return self.classes[index] if self.classes is not None and 0 <= index < len(self.classes) else str(index)


def unwrap(module: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``; TorchScript is refused."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{TORCHSCRIPT} Wrap the Python module that it was scripted from.")
    if not isinstance(module, nn.Module):
        raise ModelError(f"A torch.nn.Module is needed, got {type(module).__module__}.{type(module).__qualname__}.")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(module.module)
    compiled = module._modules.get("_orig_mod")
    return module if compiled is None else unwrap(compiled)


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


def with_logits(classifier: Classifier, images: Inputs) -> Classifier:
    """The classifier without a softmax or sigmoid module at the end of its network, which ``notes`` then says; itself where there is none.

    The network is a copy that shares its weights with the given one, which stays as it is; the digest is another, too.
    images : real, preprocessed images on the model's device; a few are enough

    Errors: ``ModelError`` where the network gives probabilities that cannot be undone (see ``output_activation``).
    """
    if classifier.gives_logits:
        return classifier
    try:
        module, notes = without_activation(classifier.module, images, classifier.output)
    except GradauditError:
        raise
    except Exception:  # a network is foreign code: what it raises on these images, it raises again where it is explained
        return classifier
    digest = classifier.digest
    if module is not classifier.module:
        digest = hashlib.sha256(f"{digest}\0{notes[0]}".encode()).hexdigest()
    return replace(classifier, module=module, notes=(*classifier.notes, *notes), digest=digest, gives_logits=True)


def resolve_layer(classifier: Classifier, images: Inputs) -> tuple[Classifier, str]:
    """The classifier with a concrete layer, and why that one; its network gives logits (``with_logits``).

    images : (N, C, H, W) real, preprocessed images on the model's device; one is enough

    Errors: ``LayerError`` where no layer can be explained, or the named one does not exist; ``ModelError`` as ``with_logits``.
    """
    classifier = with_logits(classifier, images)
    _check_layer(classifier.module, classifier.layer)
    if classifier.layer != "auto":
        return classifier, "named by the user"
    choice = choose_layer(classifier.module, images, output=classifier.output)
    return replace(classifier, layer=choice.name), choice.reason


# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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
        built = load(ModelRequest(spec, None if weights is None else str(weights), root or Path()))
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


def _loader_of(spec: str) -> Callable[[ModelRequest], BuiltModel]:
    scheme, _, name = spec.partition(":")
    suffix = Path(spec).suffix.lower()
    if scheme in _SOURCES and name:
        return _SOURCES[scheme]
    if suffix in FILES:
        return FILES[suffix]
    if suffix in NO_MODELS:
        raise ModelError(f"{spec} {NO_MODELS[suffix]}")
    known = ", ".join([*(f"{known}:…" for known in _SOURCES), *(f"FILE{known}" for known in FILES)])
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


def _load_torchvision(request: ModelRequest) -> BuiltModel:
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
        return BuiltModel(module, _declared_by_torchvision(entry), categories, len(categories))

    extra = {"init_weights": False} if request.name in ("googlenet", "inception_v3") else {}  # their default warns, and takes a minute

    def build(outputs: int | None) -> nn.Module:
        module: nn.Module = models.get_model(request.name, weights=None, **extra, **({} if outputs is None else {"num_classes": outputs}))
        return module

    module, notes = _filled(build, request, f"torchvision:{request.name}")
    notes = (*notes, f"the preprocess is torchvision's own for {default}; set [preprocess] if the network was trained with another")
    outputs = _count_outputs(module)
    return BuiltModel(module, _declared_by_torchvision(default), _imagenet_names(outputs), outputs, notes=notes)


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


def _load_timm(request: ModelRequest) -> BuiltModel:
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
    return BuiltModel(module, _declared_by_timm(timm.data.resolve_data_config({}, model=module)), _imagenet_names(outputs), outputs, notes=notes)


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


def _load_factory(request: ModelRequest) -> BuiltModel:
    """Run the user's own Python.  It returns a module, (module, preprocess) or a ``Classifier``."""
    file, _, function = request.name.rpartition(":")
    path = request.file(file)
    if not file or not function.isidentifier():
        raise ModelError(f"factory:{request.name} needs a file and a function: factory:models.py:build")
    if not path.is_file():
        raise ModelError(f"factory:{request.name}: there is no file {path}.")
    declare_missing_operators()
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
    except BaseException as error:  # SystemExit and every other: nothing that user code raises may look like a result
        lines = []
        trace = error.__traceback__
        while trace is not None:
            if Path(trace.tb_frame.f_code.co_filename).name == path.name:
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        words = in_words(error) if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
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
            result.module, result.preprocess, result.classes, None, result.layer, result.output, identity, (*result.notes, note)
        )  # fmt: skip
    module, declared = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(module, nn.Module):
        raise ModelError(f"The factory in {path} returned {type(result).__name__}; expected a torch.nn.Module, (module, preprocess) or a Classifier.")
    return BuiltModel(module, _declared_by_factory(path, declared), identity=identity, notes=(note,))


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


def _filled(build: Callable[[int | None], nn.Module], request: ModelRequest, spec: str) -> tuple[nn.Module, tuple[str, ...]]:
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
        outputs = outputs_of(state, module)
        module = module if outputs is None else build(outputs)
    load_state(module, state, weights)
    return module, ()


_SOURCES: dict[str, Callable[[ModelRequest], BuiltModel]] = {
    "torchvision": _load_torchvision, "timm": _load_timm, "factory": _load_factory, "hf": load_huggingface,
}  # fmt: skip
