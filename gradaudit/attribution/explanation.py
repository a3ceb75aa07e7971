"""Batches to heat maps: ``ga.explain``.

Images and a target come in, raw signed maps go out, one status per image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradaudit.attribution import (
    perturbation_methods,  # noqa: F401  (they register their methods)
    pixel_methods,  # noqa: F401  (they register their methods)
)
from gradaudit.attribution.capture import Capture, capture, capture_scores
from gradaudit.attribution.layer_choice import resolve_layer
from gradaudit.attribution.methods import (
    CAMS,
    NO_LAYER,
    SCORES,
    Method,
    components,
    contributions,
)
from gradaudit.attribution.scores import Score
from gradaudit.attribution.targets import TargetContext, narrowed, resolve_target
from gradaudit.errors import InputError, TargetError
from gradaudit.metrics.upsampling import upsample
from gradaudit.models.classifier import Classifier, unwrap
from gradaudit.models.inputs_outputs import (
    Inputs,
    batch_size,
    first_tensor,
    in_parts,
    map_tensors,
)
from gradaudit.models.output_activation import may_be_activated
from gradaudit.models.sources import with_logits

# a map whose range is below this fraction of its largest absolute value is rounding noise around a constant
_FLAT = 1e-6


@dataclass(frozen=True)
class Explanation:
    """Raw maps of a batch, signed and unnormalized.

    raw : (N, h, w) float32, or (N, K, h, w) where K targets per image were asked for (``sign``
        already applied); (N, d, h, w) and (N, K, d, h, w) of volumes
    score : (N,) or (N, K) the explained score, before ``sign``    outputs : the model's logits,
        float32
    status : per image (per image and target for K): "ok", "no_positive_evidence", "flat" or
        "non_finite"
    layer : name of the explained layer, "" for methods without one    dtype : of the trunk
        input_size : (H, W), or (D, H, W), that the network saw
    """

    raw: Tensor
    score: Tensor
    outputs: Tensor
    status: tuple[Any, ...]
    layer: str
    method: str
    input_size: tuple[int, ...]
    dtype: str = "float32"

    def heat(self) -> Tensor:
        """The positive evidence, ReLU(raw), unnormalized: what region metrics read."""
        return self.raw.clamp_min(0)

    def upsample(self, size: tuple[int, int] | None = None) -> Tensor:
        """Raw maps at (H, W), by default the input's size: float32, bilinear, half-pixel centers.

        Errors: ``InputError`` for maps of volumes, and for a size that is not (H, W).
        """
        self.refuse_volumes("upsample")
        wanted = self.input_size if size is None else tuple(size)
        if len(wanted) != 2:
            raise InputError(f"size: expected (H, W); got {wanted}.")
        result: Tensor = upsample(self.raw, (wanted[0], wanted[1])).float()
        return result

    def refuse_volumes(self, where: str) -> None:
        """``InputError`` for maps of volumes, whose depth no resizing of pictures may keep."""
        if len(self.input_size) != 2:
            cells, pixels = (
                "x".join(map(str, shape))
                for shape in (self.raw.shape[self.score.ndim :], self.input_size)
            )
            raise InputError(
                f"{where}: expected maps (h, w) of pictures; got {len(self)} maps of volumes, each of {cells} cells for an input of {pixels}. "
                'Resize .raw yourself: torch.nn.functional.interpolate(raw[:, None], size, mode="trilinear") for one target.'
            )

    def __len__(self) -> int:
        return len(self.raw)


# ── explaining ────────────────────────────────────────────────────────────────────────────────────


def explain(
    clf: Classifier | nn.Module,
    images: Inputs,
    target: Any = "predicted",
    method: str = "gradcam",
    sign: int = 1,
    labels: Sequence[int] | Tensor | None = None,
    *,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    aug: bool = False,
    eigen: bool = False,
) -> Explanation:
    """Heat maps of a batch, on the layer's own grid.

    clf : Classifier, or a bare module (then the layer is chosen)    images : (N, C, H, W)
        preprocessed, or a tuple or mapping of tensors
    target : text ("predicted", "label", "class:NAME", ...), class ids (N,) or (N, K), a tuple
        ("contrast", "a", "b"), or a callable
        from the model's output to (N,) or (N, K)    method : a name in ``methods.CAMS``    sign : -1
        for the evidence against
    labels : (N,) class ids, for the target "label"    chunk : most images in one pass; out of
        memory halves it and goes on
    dtype : run the trunk under autocast in bfloat16 or float16; the head stays float32
    aug : average with the map of the mirrored image, turned back    eigen : first principal
        component of the channels' contributions instead of their sum (methods that weight channels
        only)
    A softmax or sigmoid module at the end of the network is taken off (``models.with_logits``),
    with a warning where that is new; a callable and "similarity" read the module's output as it is.
    Errors: ``InputError``, ``LayerError``, ``TargetError``; ``ModelError`` when the model itself
    fails, or gives probabilities.
    """
    if sign not in (1, -1):
        raise InputError(f"sign: expected 1 (evidence for) or -1 (evidence against); got {sign!r}.")
    clf = clf if isinstance(clf, Classifier) else Classifier(unwrap(clf))
    images = _on_device(clf.module, _checked(images))
    clf = replace(clf, gives_logits=clf.gives_logits or _reads_output_as_it_is(target))
    function = CAMS.get(method)
    needs_layer = not CAMS.card(method).needs.startswith(NO_LAYER)
    if needs_layer and clf.layer == "auto":
        given = clf
        clf, _ = resolve_layer(clf, images)
        _warn_of_change(given, clf)
    wanted = ("negated", target) if sign == -1 else target
    ids = None if labels is None else torch.as_tensor(labels).long()
    work = _Work(clf, images, wanted, method, function, needs_layer, sign, ids, dtype, aug, eigen)
    raw, score, outputs = work.all_rows(chunk)
    # what came out tells whether the network gives logits, so that looking costs no pass of its own
    if not clf.gives_logits and may_be_activated(outputs):
        settled = with_logits(clf, images)
        _warn_of_change(clf, settled)
        if settled.module is not clf.module:
            raw, score, outputs = replace(work, clf=settled).all_rows(chunk)
    return Explanation(
        raw,
        score,
        outputs,
        _statuses(raw, score),
        clf.layer if needs_layer else "",
        method,
        tuple(first_tensor(images).shape[2:]),
        str(dtype or torch.float32).removeprefix("torch."),
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """One call of ``explain``, checked: which maps are made of which images, by which network."""

    clf: Classifier
    images: Inputs
    target: Any
    method: str
    function: Method
    needs_layer: bool
    sign: int
    labels: Tensor | None
    dtype: torch.dtype | None
    aug: bool
    eigen: bool

    @property
    def count(self) -> int:
        return batch_size(self.images)

    def all_rows(self, chunk: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Raw maps, scores and outputs of every image, in as many passes as memory asks for."""
        parts = in_parts(self.rows, self.count, chunk)
        maps, scores, outputs = (torch.cat(part) for part in zip(*parts, strict=True))
        return maps, scores, outputs

    def rows(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Raw maps, scores and outputs of consecutive images, from one pass."""
        part = map_tensors(lambda t: t[rows] if t.ndim and len(t) == self.count else t, self.images)
        captured = self.captured(part, self.score(rows))
        maps = self.maps(captured)
        if self.aug:
            mirrored = self.maps(self.captured(_mirrored(part), captured.pinned))
            maps = (maps + mirrored.flip(-1)) / 2
        maps, scores = maps.float(), captured.scores.float() * self.sign
        if captured.single:
            maps, scores = maps[:, 0], scores[:, 0]
        return maps, scores, _output_tensor(captured, self.clf.output)

    def score(self, rows: slice) -> Score:
        labels = None if self.labels is None else self.labels[rows]
        context = TargetContext(labels, self.clf.class_index, self.clf.output)
        score = resolve_target(narrowed(self.target, rows, self.count), context)
        return SCORES.get(self.method, _same)(score)

    def captured(self, inputs: Inputs, score: Score) -> Capture:
        if self.needs_layer:
            return capture(self.clf.module, self.clf.layer, inputs, score, autocast=self.dtype)
        return capture_scores(self.clf.module, inputs, score)

    def maps(self, captured: Capture) -> Tensor:
        """(N, K, *grid): the method's map, or the first principal component of what it sums."""
        if self.eigen:
            return captured.on_grid(components(contributions(self.method, captured)))
        return self.function(captured)


def _reads_output_as_it_is(target: Any) -> bool:
    """True for a target that reads the module's own output: a callable, or a similarity."""
    if isinstance(target, tuple) and target and isinstance(target[0], str):
        return target[0] == "similarity" or (
            target[0] == "negated" and len(target) > 1 and _reads_output_as_it_is(target[1])
        )
    return callable(target) and not isinstance(target, Tensor)


def _warn_of_change(before: Classifier, after: Classifier) -> None:
    for note in after.notes[len(before.notes) :]:
        warnings.warn(
            f"explain: {note}. `models.with_logits` does so once for all calls.", stacklevel=3
        )


def _same(score: Score) -> Score:
    return score


def _mirrored(inputs: Inputs) -> Inputs:
    picture = first_tensor(inputs)
    mirrored: Inputs = map_tensors(lambda t: t.flip(-1) if t is picture else t, inputs)
    return mirrored


def _output_tensor(captured: Capture, key: str | int | None) -> Tensor:
    """The tensor of scores, or (N, 0) where the output holds none (detections)."""
    try:
        return first_tensor(captured.output, key).float()
    except TargetError:
        return torch.empty(len(captured.scores), 0)


def fuse(explanations: Sequence[Explanation], how: str = "mean") -> Explanation:
    """Maps of several layers of the same images as one, on the finest grid.

    Of each map the positive part counts, divided by its own maximum.

    how : "mean", "max" or "product".  Layers have no common unit, so each is scaled to [0, 1]
        first; the result has none either.
    Errors: ``InputError`` for an unknown rule, explanations of different images, or maps of
    volumes.
    """
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda t: t.mean(0),
        "max": lambda t: t.amax(0),
        "product": lambda t: t.prod(0),
    }
    if (
        how not in rules
        or not explanations
        or len({(e.score.shape, e.input_size) for e in explanations}) > 1
    ):
        raise InputError(
            f"fuse: needs explanations of the same images and one of {', '.join(rules)}; got {len(explanations)} and {how!r}."
        )
    explanations[0].refuse_volumes("fuse")
    finest = max((e.raw.shape[-2:] for e in explanations), key=lambda grid: grid[0] * grid[1])
    first, maps = explanations[0], []
    for explanation in explanations:
        top = explanation.heat().amax((-2, -1), keepdim=True)
        scaled = explanation.heat() / torch.where(top > 0, top, torch.ones_like(top))
        maps.append(upsample(scaled, (finest[0], finest[1])).float())
    raw = rules[how](torch.stack(maps))
    return replace(
        first,
        raw=raw,
        status=_statuses(raw, first.score),
        layer=" + ".join(e.layer for e in explanations),
        method=f"{first.method}, {how}",
    )


def _checked(images: Inputs) -> Inputs:
    tensor = first_tensor(images)
    if not tensor.is_floating_point() or tensor.ndim < 4 or not len(tensor):
        raise InputError(
            f"images: expected a float tensor (N, C, H, W) with N >= 1, already preprocessed; got {tensor.dtype} of shape {tuple(tensor.shape)}. "
            "`load_batch` or the model's own preprocessing makes it from files."
        )
    return images


def _on_device(module: nn.Module, images: Inputs) -> Inputs:
    """Tensors moved to the module's device, float ones to its dtype."""
    weights = next(
        (p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()), None
    )
    if weights is None:
        return images
    moved: Inputs = map_tensors(
        lambda t: t.to(weights.device, weights.dtype if t.is_floating_point() else t.dtype), images
    )
    return moved


def _statuses(raw: Tensor, score: Tensor) -> tuple[Any, ...]:
    """Per map: ok, or why it shows nothing.

    ``non_finite``, ``flat`` (a constant, also 0) or ``no_positive_evidence`` (nothing above 0).
    """
    cells = raw.flatten(score.ndim)
    finite = cells.isfinite().all(-1) & score.isfinite()
    low, high = cells.amin(-1), cells.amax(-1)
    flat = (high - low) <= _FLAT * torch.maximum(high.abs(), low.abs())
    codes = torch.where(finite, torch.where(flat, 2, torch.where(high > 0, 0, 1)), 3)
    names = ("ok", "no_positive_evidence", "flat", "non_finite")
    if score.ndim == 2:
        return tuple(tuple(names[code] for code in row) for row in codes.tolist())
    return tuple(names[code] for code in codes.tolist())
