"""From one line of text, or a module at hand, to a ``Classifier``: network, target layer,
preprocess, class names.

    torchvision:resnet50            weights = "DEFAULT" (or another published set, downloaded), or a
    local file
    timm:convnext_tiny              weights = "pretrained", or a local file
    (extra [timm])
    factory:file.py:function        your own Python, which is run: it returns a module, (module,
    preprocess) or a Classifier
    hf:FOLDER                       a local folder of AutoModelForImageClassification
    (extra [hf])
    model.pt2                       a program saved by torch.export
    model.onnx                      converted by onnx2torch
    (extra [onnx])
    model.keras                     a functional or sequential Keras 3 model
    (extra [keras])

A network that ends in a softmax or sigmoid loses it, or is refused: the score that Grad-CAM
explains is the logit (``with_logits``). Local weights are ``.safetensors`` or a state dict
(``.pt``, ``.pth``), read with ``weights_only``: no pickle is ever executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from gradaudit.errors import GradauditError, MissingExtraError, ModelError
from gradaudit.images.preprocessing import Preprocess
from gradaudit.models.classifier import Classifier, check_layer, digest_of_module, unwrap
from gradaudit.models.factory import load_factory, resolved_preprocess
from gradaudit.models.files import FILES, NO_MODELS, BuiltModel, ModelRequest, near_or_known
from gradaudit.models.huggingface import load_huggingface
from gradaudit.models.inputs_outputs import Inputs
from gradaudit.models.output_activation import without_activation
from gradaudit.models.torchvision_compat import import_torchvision
from gradaudit.models.weights import load_state, outputs_of, read_weights
from gradaudit.plan import PreprocessPlan
from gradaudit.spelling import did_you_mean


def with_logits(classifier: Classifier, images: Inputs) -> Classifier:
    """The classifier without a softmax or sigmoid module at the end of its network.

    ``notes`` then says so; without such a module it is the given classifier.

    The network is a copy that shares its weights with the given one, which stays as it is; the
    digest is another, too.
    images : real, preprocessed images on the model's device; a few are enough

    Errors: ``ModelError`` where the network gives probabilities that cannot be undone (see
    ``output_activation``).
    """
    if classifier.gives_logits:
        return classifier
    try:
        module, notes = without_activation(classifier.module, images, classifier.output)
    except GradauditError:
        raise
    # a network is foreign code: what it raises on these images, it raises again where it is explained
    except Exception:
        return classifier
    digest = classifier.digest
    if module is not classifier.module:
        digest = hashlib.sha256(f"{digest}\0{notes[0]}".encode()).hexdigest()
    return replace(
        classifier,
        module=module,
        notes=(*classifier.notes, *notes),
        digest=digest,
        gives_logits=True,
    )


# ── loading ───────────────────────────────────────────────────────────────────────────────────────


def load_classifier(
    spec: str,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    layer: str = "auto",
    preprocess: PreprocessPlan | None = None,
    output: str | int | None = None,
    root: Path | None = None,
) -> Classifier:
    """Load a network by its one-line description (see the top of this file).

    It comes in eval mode on the CPU.

    What is given here comes before what the source declares: class names, layer, logits' key,
    single preprocess settings. Relative paths in ``spec`` and ``weights`` start at ``root``.

    Errors: ``ModelError`` (unknown source or name, no weights, keys that do not fit, pickles),
    ``LayerError``, ``MissingExtraError``, ``PlanError`` for a preprocess that contradicts the
    declared one.
    """
    load = _loader_of(spec)
    with warnings.catch_warnings():
        if load is not load_factory:
            warnings.simplefilter(
                "ignore"
                # libraries warning each other of deprecations; a factory's warnings are its author's to see
            )
        built = load(ModelRequest(spec, None if weights is None else str(weights), root or Path()))
    module = unwrap(built.module).eval()
    chosen = layer if layer != "auto" else built.layer
    check_layer(module, chosen)
    names = built.classes if classes is None else tuple(str(entry) for entry in classes)
    if names is not None and built.outputs is not None and len(names) != built.outputs:
        raise ModelError(
            f"{len(names)} class names are given and {spec} has {built.outputs} outputs."
        )
    return Classifier(
        module=module,
        layer=chosen,
        preprocess=resolved_preprocess(built.preprocess, preprocess),
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
    hint = did_you_mean(scheme, _SOURCES)
    raise ModelError(
        f"No model source {spec!r}{f'; {hint}' if hint else '.'} Known sources: {known}"
    )


def _without_folders(spec: str) -> str:
    """The spec with bare file names: a digest must not depend on where a model lies."""
    return re.sub(r"[^:]*[/\\]", "", spec)


# ── torchvision ───────────────────────────────────────────────────────────────────────────────────

_UNTRAINED = 'its weights are random (weights = "random"): a rehearsal of the pipeline, no audit of a trained network'


def _no_weights(spec: str, published: str) -> ModelError:
    return ModelError(
        f"{spec} without weights is an untrained network, and its heat maps mean nothing. Set weights to {published}, "
        'to a local .safetensors, .pt or .pth file, or to "random" to rehearse the pipeline.'
    )


def _load_torchvision(request: ModelRequest) -> BuiltModel:
    models, spec = import_torchvision().models, f"torchvision:{request.name}"
    known = models.list_models(module=models)
    if request.name not in known:
        raise ModelError(
            f"torchvision has no classification network {request.name!r}; {near_or_known(request.name, known)}"
        )
    all_weights = models.get_model_weights(request.name)
    published = {entry.name: entry for entry in all_weights}
    if request.weights is None:
        raise _no_weights(spec, " or ".join(map(repr, ["DEFAULT", *published])))
    default = all_weights.DEFAULT
    entry = default
    if request.weights != "DEFAULT":
        entry = published.get(request.weights.rpartition(".")[2])
    if entry is None:
        return _torchvision_with_own_weights(models, request, default)
    module = _downloaded(spec, lambda: models.get_model(request.name, weights=entry))
    categories = tuple(entry.meta["categories"])
    return BuiltModel(module, _declared_by_torchvision(entry), categories, len(categories))


def _torchvision_with_own_weights(models: Any, request: ModelRequest, default: Any) -> BuiltModel:
    """The architecture with a local file's weights, or random ones."""
    extra: dict[str, Any] = {}
    if request.name in ("googlenet", "inception_v3"):  # their default warns, and takes a minute
        extra = {"init_weights": False}

    def build(outputs: int | None) -> nn.Module:
        head = {} if outputs is None else {"num_classes": outputs}
        module: nn.Module = models.get_model(request.name, weights=None, **extra, **head)
        return module

    module, notes = _filled(build, request, f"torchvision:{request.name}")
    note = f"the preprocess is torchvision's own for {default}; set [preprocess] if the network was trained with another"
    outputs = _count_outputs(module)
    return BuiltModel(
        module,
        _declared_by_torchvision(default),
        _imagenet_names(outputs),
        outputs,
        notes=(*notes, note),
    )


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
    """The names of ImageNet's 1,000 classes; None for another number of outputs.

    In the order of every ImageNet-1k network.
    """
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
    """Outputs of the last layer with weights: the head, in torchvision and timm classifiers."""
    heads = [child for child in module.modules() if isinstance(child, nn.Linear | nn.Conv2d)]
    return None if not heads else int(heads[-1].weight.shape[0])


# ── timm ──────────────────────────────────────────────────────────────────────────────────────────


def _load_timm(request: ModelRequest) -> BuiltModel:
    try:
        import_torchvision()
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise MissingExtraError(f"The model timm:{request.name}", "timm", "timm") from error
    spec = f"timm:{request.name}"
    known = timm.list_models()
    if request.name.partition(".")[0] not in known:
        raise ModelError(
            f"timm has no network {request.name!r}; {near_or_known(request.name, known)}"
        )
    if request.weights is None:
        raise _no_weights(spec, "'pretrained'")
    notes: tuple[str, ...] = ()
    if request.weights == "pretrained":
        module = _downloaded(spec, lambda: timm.create_model(request.name, pretrained=True))
    else:

        def build(outputs: int | None) -> nn.Module:
            built: nn.Module = timm.create_model(
                request.name,
                pretrained=False,
                **({} if outputs is None else {"num_classes": outputs}),
            )
            return built

        module, notes = _filled(build, request, spec)
        notes = (
            *notes,
            f"the preprocess is timm's own for {request.name}; set [preprocess] if the network was trained with another",
        )
    outputs = getattr(module, "num_classes", None)
    return BuiltModel(
        module,
        _declared_by_timm(timm.data.resolve_data_config({}, model=module)),
        _imagenet_names(outputs),
        outputs,
        notes=notes,
    )


def _declared_by_timm(config: Mapping[str, Any]) -> Preprocess:
    """The evaluation transform that ``timm.data.create_transform`` builds of these settings."""
    channels, *size = config["input_size"]
    if channels not in (1, 3):
        raise ModelError(f"The network takes {channels} channels; images have 3, or 1 as luma.")
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in size)
    mode = config.get("crop_mode") or "center"
    fits: dict[str, Literal["shorter", "exact", "pad"]] = {
        "center": "shorter",
        "squash": "exact",
        "border": "pad",
    }
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


# ── weights ───────────────────────────────────────────────────────────────────────────────────────


def _filled(
    build: Callable[[int | None], nn.Module], request: ModelRequest, spec: str
) -> tuple[nn.Module, tuple[str, ...]]:
    """The architecture with the requested weights and as many classes as their head has."""
    weights = str(request.weights)
    if weights == "random":
        with torch.random.fork_rng(
            devices=[]
        ):  # the same network in every run, and the caller's random state untouched
            torch.manual_seed(0)
            return build(None), (_UNTRAINED,)
    path = request.file(weights)
    if not path.is_file():
        raise ModelError(
            f"{spec} has no published weights {weights!r}, and there is no file {path}. {_no_weights(spec, 'a published set')}"
        )
    state = read_weights(path)
    with torch.random.fork_rng(devices=[]):
        module = build(None)
        outputs = outputs_of(state, module)
        module = module if outputs is None else build(outputs)
    load_state(module, state, weights)
    return module, ()


_SOURCES: dict[str, Callable[[ModelRequest], BuiltModel]] = {
    "torchvision": _load_torchvision, "timm": _load_timm, "factory": load_factory, "hf": load_huggingface,
}  # fmt: skip
