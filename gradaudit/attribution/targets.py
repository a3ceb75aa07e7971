"""Family TARGETS: which score is explained.

A member builds a score: a function from the module's output to (N,) or (N, K).  In text (plans,
command line) a target is ``name`` or ``name:argument``; in code it is also a tuple
``("name", argument, ...)``, class ids (N,) or (N, K), or any callable. Scores are logits, in
float32; a softmax would mix every other class into the gradient.

Networks with a single logit z are read as two classes: class 0 has the logit -z, class 1 has +z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradaudit.attribution.scores import (
    BoxScore,
    ClassScore,
    FunctionScore,
    MaskScore,
    Score,
    TokenScore,
    WeightedScore,
)
from gradaudit.errors import GradauditError, InputError, TargetError
from gradaudit.models.inputs_outputs import first_tensor
from gradaudit.registry import Family

TargetBuilder = Callable[..., Score]
TARGETS: Family[TargetBuilder] = Family("targets")


def _index_of_text(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


@dataclass(frozen=True)
class TargetContext:
    """What a target may need to know of the batch and the model.

    Class ids of the labels (-1 unknown), class names, the output's key.
    """

    labels: Tensor | None = None
    class_index: Callable[[str], int | None] = _index_of_text
    output: str | int | None = None

    def index(self, name: Any) -> int:
        """Class index of a name or index; ``TargetError`` where the model has no such class."""
        found = int(name) if isinstance(name, int) else self.class_index(str(name).strip())
        if found is None:
            raise TargetError(
                f"The model has no class {name!r}. Give one of its class names, or an index."
            )
        return found


# ── the family ────────────────────────────────────────────────────────────────────────────────────


@TARGETS.register(
    label="predicted class",
    summary="logit of the class that the network predicts",
    source="Selvaraju et al. 2020, IJCV 128:336",
)
def predicted(context: TargetContext) -> Score:
    return ClassScore(key=context.output)


@TARGETS.register(
    label="labelled class",
    summary="logit of the class in the manifest's label column",
    source="Selvaraju et al. 2020, IJCV 128:336",
    needs="labels",
    caveat="on a wrong prediction it shows the evidence for a class that the network rejected",
)
def label(context: TargetContext) -> Score:
    if context.labels is None:
        raise TargetError(
            "The target 'label' needs a label for every image; none was given. Use `labels=`, or the target 'predicted'."
        )
    unknown = (context.labels < 0).nonzero()
    if len(unknown):
        raise TargetError(
            f"{len(unknown)} of {len(context.labels)} images have a label that is not a class of the model, e.g. image {int(unknown[0, 0])}."
        )
    return ClassScore(context.labels.reshape(-1, 1), context.output)


@TARGETS.register(
    name="class",
    label="one class",
    summary="logit of one named class for every image",
    source="Selvaraju et al. 2020, IJCV 128:336",
    needs="class name or index",
)
def one_class(context: TargetContext, name: Any) -> Score:
    return ClassScore(torch.tensor([[context.index(name)]]), context.output)


@TARGETS.register(
    label="contrast of two classes",
    summary="logit of class A minus logit of class B: why A rather than B",
    needs="two classes: contrast:A,B",
    formula="z_A - z_B",
    source="Prabhushankar et al. 2020, ICIP",
)
def contrast(context: TargetContext, first: Any, second: Any = None) -> Score:
    if second is None:
        first, second = _pair(context, str(first))
    return WeightedScore((one_class(context, first), one_class(context, second)), (1.0, -1.0))


def _pair(context: TargetContext, text: str) -> tuple[str, str]:
    parts = text.split(",")
    for cut in range(1, len(parts)):  # class names may hold commas themselves
        pair = ",".join(parts[:cut]).strip(), ",".join(parts[cut:]).strip()
        if all(context.class_index(name) is not None for name in pair):
            return pair
    raise TargetError(
        f"contrast:{text} does not name two classes of the model. Write contrast:A,B."
    )


@TARGETS.register(
    label="evidence against",
    summary="any other target with its sign turned: which positions lower the score",
    formula="-score",
    needs="a target: negated:predicted",
    source="Selvaraju et al. 2020, IJCV 128:336, sec. 3.3 (counterfactual explanations)",
)
def negated(context: TargetContext, inner: Any) -> Score:
    return WeightedScore((resolve_target(inner, context),), (-1.0,))


@TARGETS.register(
    label="class over a mask",
    summary="mean logit of a class over the pixels of a mask, for segmentation networks",
    formula="mean over the mask of z_class",
    needs="class, mask (H, W) or (N, H, W) at the input's or the output's size; without a mask: where the class is predicted",
    source="Vinogradova et al. 2020, AAAI (Seg-Grad-CAM), eq. 1",
)
def mask(context: TargetContext, name: Any, region: Any = None) -> Score:
    return MaskScore(
        context.index(name),
        None if region is None else torch.as_tensor(region, dtype=torch.float32),
        context.output,
    )


@TARGETS.register(
    label="similarity to a reference",
    summary="cosine between the network's embedding and a reference embedding",
    formula="<e, r> / (|e| |r|)",
    needs="reference (D,) or (N, D)",
    source="Zhu et al. 2021, TIP 30:3733 (visual explanation for deep metric learning)",
    range="-1 to 1",
)
def similarity(context: TargetContext, reference: Any) -> Score:
    key, vectors = context.output, torch.as_tensor(reference, dtype=torch.float32)

    def cosine(output: Any, against: Tensor) -> Tensor:
        embedding = first_tensor(output, key).flatten(1)
        return functional.cosine_similarity(embedding, against.to(embedding).flatten(1), dim=1)

    if vectors.ndim == 1:
        return FunctionScore(lambda output: cosine(output, vectors[None]))
    return FunctionScore(cosine, (vectors,))


@TARGETS.register(
    label="one token",
    summary="logit of one vocabulary entry at one step of a sequence model's output (N, T, V)",
    needs="step, entry (default: the predicted one)",
    source="Selvaraju et al. 2020, IJCV 128:336, sec. 7 (captioning)",
)
def token(context: TargetContext, step: Any, entry: Any = None) -> Score:
    if entry is None and isinstance(step, str) and "," in step:
        step, entry = step.split(",", 1)
    return TokenScore(
        int(step), None if entry is None else torch.tensor([[context.index(entry)]]), context.output
    )


@TARGETS.register(
    label="score of a box",
    summary="score of the detection of one class that overlaps a box best, for detectors that return boxes, labels and scores",
    needs="class index, box (4,) or (N, 4) as x1, y1, x2, y2",
    formula="max over detections of the class with IoU >= 1/2 of score * IoU",
    source="Gildenblat 2022, pytorch-grad-cam (FasterRCNNBoxScoreTarget)",
    caveat="wrap the detector in `AllDetections`, so that suppression does not decide which box is explained",
)
def box(context: TargetContext, name: Any, corners: Any) -> Score:
    return BoxScore(
        context.index(name), torch.as_tensor(corners, dtype=torch.float32).reshape(-1, 4)
    )


class AllDetections(nn.Module):
    """A torchvision detector whose outputs are taken before suppression.

    Every candidate box is there, also weak and overlapping ones.
    """

    _LIMITS = (("nms_thresh", 1.0), ("score_thresh", 0.0), ("detections_per_img", 1_000_000))

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> Any:
        holder: Any = getattr(self.detector, "roi_heads", self.detector)
        kept = {name: getattr(holder, name) for name, _ in self._LIMITS if hasattr(holder, name)}
        try:
            for name, value in self._LIMITS:
                if name in kept:
                    setattr(holder, name, value)
            return self.detector(list(images))
        finally:
            for name, value in kept.items():
                setattr(holder, name, value)


# ── from what the user wrote to a score ───────────────────────────────────────────────────────────


def resolve_target(target: Any, context: TargetContext) -> Score:
    """A score from text, ids (N,) or (N, K), a callable, or a tuple ("name", argument, ...).

    Errors: ``TargetError`` for an unknown name or a missing argument; ``InputError`` for values of
    another kind.
    """
    if isinstance(target, str):
        name, _, argument = target.partition(":")
        return _built(name, (argument.strip(),) if argument else (), context)
    if isinstance(target, tuple) and target and isinstance(target[0], str):
        return _built(target[0], target[1:], context)
    if callable(target) and not isinstance(target, Tensor):
        key = context.output
        return FunctionScore(
            target if key is None else lambda output: target(first_tensor(output, key))
        )
    if isinstance(target, int):
        return ClassScore(torch.tensor([[target]]), context.output)
    return _of_ids(torch.as_tensor(target), context)


def _of_ids(ids: Tensor, context: TargetContext) -> ClassScore:
    if ids.is_floating_point() or ids.ndim not in (1, 2) or not ids.numel():
        raise InputError(
            f"target: class ids are whole numbers of shape (N,) or (N, K); got {ids.dtype} of shape {tuple(ids.shape)}."
        )
    return ClassScore(ids.long().reshape(len(ids), -1), context.output, squeeze=ids.ndim == 1)


def _built(name: str, arguments: Sequence[Any], context: TargetContext) -> Score:
    if name not in TARGETS:
        raise TargetError(
            f"There is no target {name!r}; there are {', '.join(TARGETS)}, class ids and callables."
        )
    try:
        return TARGETS.get(name)(context, *arguments)
    except GradauditError:
        raise
    except (TypeError, ValueError) as error:
        needs = TARGETS.card(name).needs or "nothing"
        raise TargetError(
            f"The target {name!r} cannot be built from {list(map(str, arguments))}: it needs {needs} ({error})."
        ) from error


_PER_IMAGE_FROM = {"negated": 1, "similarity": 2, "box": 2, "mask": 3}
"""Arguments with this many axes and the batch's length are given per image."""


def narrowed(target: Any, rows: slice, count: int) -> Any:
    """The target for some rows of a batch of ``count`` images.

    What is given per image is cut; everything else stays as it is.
    """
    if isinstance(target, (str, int)) or (callable(target) and not isinstance(target, Tensor)):
        return target
    if isinstance(target, tuple) and target and isinstance(target[0], str):
        return (
            target[0],
            *(_narrowed_argument(target[0], value, rows, count) for value in target[1:]),
        )
    try:
        ids = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"target: expected text, class ids (N,) or (N, K), or a callable; got {type(target).__name__}."
        ) from error
    if ids.ndim and len(ids) not in (1, count):
        raise InputError(
            f"target: {len(ids)} rows of class ids for {count} images; expected {count}."
        )
    return ids if ids.ndim and len(ids) == 1 and count > 1 else ids[rows]


def _narrowed_argument(name: str, value: Any, rows: slice, count: int) -> Any:
    if name == "negated" and not isinstance(value, (str, int)):
        return narrowed(value, rows, count)
    axes = getattr(value, "ndim", 0)
    return value[rows] if axes >= _PER_IMAGE_FROM.get(name, 99) and len(value) == count else value
