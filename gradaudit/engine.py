"""Batches to heat maps, and heat maps to rows of measurements.

``explain`` is the public door: images and a target in, raw signed maps out, one status per image.  ``region_metrics`` measures any heat
against any masks.  ``measure_batch`` does both for a batch of an audit, the heat shares through the adjoint of the upsampling.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradaudit import perturbation, pixels  # noqa: F401  (they register their methods)
from gradaudit.batches import ImageBatch
from gradaudit.cams import CAMS, NO_LAYER, SCORES, components, contributions
from gradaudit.capture import Capture, Score, capture, capture_scores, is_out_of_memory
from gradaudit.config import Plan
from gradaudit.errors import ImageError, InputError, ModelError, TargetError
from gradaudit.layouts import Inputs, batch_size, first_tensor, map_tensors
from gradaudit.metrics import METRICS, RANKED, area_share, heat_share, project, ranked_metrics, reasons, upsample, whole_projection
from gradaudit.models import Classifier, resolve_layer, unwrap, with_logits
from gradaudit.output_activation import may_be_activated
from gradaudit.targets import TargetContext, narrowed, resolve_target

_FLAT = 1e-6  # a map whose range is below this fraction of its largest absolute value is rounding noise around a constant
_MOST_CLASS_COLUMNS = 20
_MOST_STORED_CELLS = 64
_PIXELS_AT_ONCE = 250_000  # of masks measured together


@dataclass(frozen=True)
class Explanation:
    """Raw maps of a batch, signed and unnormalised.

    raw : (N, h, w) float32, or (N, K, h, w) where K targets per image were asked for (``sign`` already applied); (N, d, h, w) and
        (N, K, d, h, w) of volumes
    score : (N,) or (N, K) the explained score, before ``sign``    outputs : the model's logits, float32
    status : per image (per image and target for K): "ok", "no_positive_evidence", "flat" or "non_finite"
    layer : name of the explained layer, "" for methods without one    dtype : of the trunk    input_size : (H, W), or (D, H, W), that the network saw
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
        """The positive evidence, ReLU(raw), unnormalised: what region metrics read."""
        return self.raw.clamp_min(0)

    def upsample(self, size: tuple[int, int] | None = None) -> Tensor:
        """Raw maps at (H, W) (default: the input's size), bilinear with half-pixel centres, float32.

        Errors: ``InputError`` for maps of volumes, and for a size that is not (H, W).
        """
        self.refuse_volumes("upsample")
        wanted = self.input_size if size is None else tuple(size)
        if len(wanted) != 2:
            raise InputError(f"size: expected (H, W); got {wanted}.")
        result: Tensor = upsample(self.raw, (wanted[0], wanted[1])).float()
        return result

    def refuse_volumes(self, where: str) -> None:
        """``InputError`` where the input had other than two axes: its maps have a depth, which no resizing of pictures may leave as it is."""
        if len(self.input_size) != 2:
            cells, pixels = ("x".join(map(str, shape)) for shape in (self.raw.shape[self.score.ndim :], self.input_size))
            raise InputError(
                f"{where}: expected maps (h, w) of pictures; got {len(self)} maps of volumes, each of {cells} cells for an input of {pixels}. "
                'Resize .raw yourself: torch.nn.functional.interpolate(raw[:, None], size, mode="trilinear") for one target.'
            )

    def __len__(self) -> int:
        return len(self.raw)


# ── explaining ──────────────────────────────────────────────────────────────────────────────────────────────────────


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

    clf : Classifier, or a bare module (then the layer is chosen)    images : (N, C, H, W) preprocessed, or a tuple or mapping of tensors
    target : text ("predicted", "label", "class:NAME", ...), class ids (N,) or (N, K), a tuple ("contrast", "a", "b"), or a callable
        from the model's output to (N,) or (N, K)    method : a name in ``cams.CAMS``    sign : -1 for the evidence against
    labels : (N,) class ids, for the target "label"    chunk : most images in one pass; out of memory halves it and goes on
    dtype : run the trunk under autocast in bfloat16 or float16; the head stays float32
    aug : average with the map of the mirrored image, turned back    eigen : first principal component of the channels' contributions
        instead of their sum (methods that weight channels only)
    A softmax or sigmoid module at the end of the network is taken off (``models.with_logits``), with a warning where that is new; a callable
    and "similarity" read the module's output as it is.
    Errors: ``InputError``, ``LayerError``, ``TargetError``; ``ModelError`` when the model itself fails, or gives probabilities.
    """
    clf = clf if isinstance(clf, Classifier) else Classifier(unwrap(clf))
    if sign not in (1, -1):
        raise InputError(f"sign: expected 1 (evidence for) or -1 (evidence against); got {sign!r}.")
    images = _on_device(clf.module, _checked(images))
    clf = replace(clf, gives_logits=clf.gives_logits or _reads_output_as_it_is(target))
    function = CAMS.get(method)
    needs_layer = not CAMS.card(method).needs.startswith(NO_LAYER)
    if needs_layer and clf.layer == "auto":
        given = clf
        clf, _ = resolve_layer(clf, images)
        _warn_of_change(given, clf)
    count = batch_size(images)
    wanted = ("negated", target) if sign == -1 else target
    ids = None if labels is None else torch.as_tensor(labels).long()

    def mapped(inputs: Inputs, score: Score) -> tuple[Tensor, Capture]:
        captured = capture(clf.module, clf.layer, inputs, score, autocast=dtype) if needs_layer else capture_scores(clf.module, inputs, score)
        return captured.on_grid(components(contributions(method, captured))) if eigen else function(captured), captured

    def work(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        context = TargetContext(None if ids is None else ids[rows], clf.class_index, clf.output)
        score = SCORES.get(method, _same)(resolve_target(narrowed(wanted, rows, count), context))
        part = map_tensors(lambda t: t[rows] if t.ndim and len(t) == count else t, images)
        maps, captured = mapped(part, score)
        if aug:
            maps = (maps + mapped(_mirrored(part), captured.pinned)[0].flip(-1)) / 2
        maps, scores = maps.float(), captured.scores.float() * sign
        if captured.single:
            maps, scores = maps[:, 0], scores[:, 0]
        return maps, scores, _output_tensor(captured, clf.output)

    raw, score, outputs = (torch.cat(parts) for parts in zip(*_backed_off(work, count, chunk), strict=True))
    if not clf.gives_logits and may_be_activated(outputs):  # looked at on the way: a classifier with a named layer costs no pass of its own
        settled = with_logits(clf, images)
        _warn_of_change(clf, settled)
        if settled.module is not clf.module:
            return explain(settled, images, target, method, sign, labels, chunk=chunk, dtype=dtype, aug=aug, eigen=eigen)
    size = tuple(first_tensor(images).shape[2:])
    return Explanation(raw, score, outputs, _statuses(raw, score), clf.layer if needs_layer else "", method, size, str(dtype or torch.float32)[6:])


def _reads_output_as_it_is(target: Any) -> bool:
    """Scores that the user takes from the module's own output, whatever it is: a callable, or a comparison with a reference embedding."""
    if isinstance(target, tuple) and target and isinstance(target[0], str):
        return target[0] == "similarity" or (target[0] == "negated" and len(target) > 1 and _reads_output_as_it_is(target[1]))
    return callable(target) and not isinstance(target, Tensor)


def _warn_of_change(before: Classifier, after: Classifier) -> None:
    for note in after.notes[len(before.notes) :]:
        warnings.warn(f"explain: {note}. `models.with_logits` does so once for all calls.", stacklevel=3)


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
    """Maps of several layers of the same images as one, on the finest grid: the positive part of each, divided by its own maximum.

    how : "mean", "max" or "product".  Layers have no common unit, so each is scaled to [0, 1] first; the result has none either.
    Errors: ``InputError`` for an unknown rule, explanations of different images, or maps of volumes.
    """
    rules: dict[str, Callable[[Tensor], Tensor]] = {"mean": lambda t: t.mean(0), "max": lambda t: t.amax(0), "product": lambda t: t.prod(0)}
    if how not in rules or not explanations or len({(e.score.shape, e.input_size) for e in explanations}) > 1:
        raise InputError(f"fuse: needs explanations of the same images and one of {', '.join(rules)}; got {len(explanations)} and {how!r}.")
    explanations[0].refuse_volumes("fuse")
    finest = max((e.raw.shape[-2:] for e in explanations), key=lambda grid: grid[0] * grid[1])
    first, maps = explanations[0], []
    for explanation in explanations:
        top = explanation.heat().amax((-2, -1), keepdim=True)
        scaled = explanation.heat() / torch.where(top > 0, top, torch.ones_like(top))
        maps.append(upsample(scaled, (finest[0], finest[1])).float())
    raw = rules[how](torch.stack(maps))
    return replace(
        first, raw=raw, status=_statuses(raw, first.score), layer=" + ".join(e.layer for e in explanations), method=f"{first.method}, {how}"
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
    weights = next((p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()), None)
    if weights is None:
        return images
    moved: Inputs = map_tensors(lambda t: t.to(weights.device, weights.dtype if t.is_floating_point() else t.dtype), images)
    return moved


def _backed_off(work: Callable[[slice], tuple[Tensor, ...]], count: int, chunk: int | None) -> list[tuple[Tensor, ...]]:
    """``work`` over consecutive rows; when memory runs out the rest goes on in chunks of half the size.

    Errors: ``ImageError`` with the reason ``out_of_memory`` when one image alone does not fit.
    """
    parts, start, size = [], 0, max(1, min(chunk or count, count))
    while start < count:
        stop, failure = min(start + size, count), ""
        try:
            parts.append(work(slice(start, stop)))
            start = stop
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error)
        if failure and size == 1:
            raise ImageError("out_of_memory", f"One image alone does not fit into the device's memory: {failure}")
        if failure:  # outside the handler, whose traceback keeps the failed pass alive
            size = max(1, (stop - start) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return parts


def _statuses(raw: Tensor, score: Tensor) -> tuple[Any, ...]:
    """Per map: non_finite, flat (a constant, zero included), no_positive_evidence (nothing above 0), or ok."""
    cells = raw.flatten(score.ndim)
    finite = cells.isfinite().all(-1) & score.isfinite()
    low, high = cells.amin(-1), cells.amax(-1)
    flat = (high - low) <= _FLAT * torch.maximum(high.abs(), low.abs())
    codes = torch.where(finite, torch.where(flat, 2, torch.where(high > 0, 0, 1)), 3)
    names = ("ok", "no_positive_evidence", "flat", "non_finite")
    if score.ndim == 2:
        return tuple(tuple(names[code] for code in row) for row in codes.tolist())
    return tuple(names[code] for code in codes.tolist())


# ── measuring any heat against any masks ────────────────────────────────────────────────────────────────────────────


def region_metrics(heat: Any, masks: Any) -> pd.DataFrame:
    """Every metric of every region: one row per image n and region r.

    heat : (N, H, W) float >= 0, array or tensor    masks : (N, R, H, W) in [0, 1], the fraction of each pixel that the region covers
    returns : columns n, r, area_share, one per metric (``relevance_mass_accuracy`` is the heat share), reason; undefined is NaN with
        a reason of ``records.REASONS``
    Errors: ``InputError`` for shapes that do not fit, negative heat, or masks outside [0, 1].
    """
    h, m = _array(heat), _array(masks)
    if h.ndim != 3 or m.ndim != 4 or h.shape != (m.shape[0], *m.shape[2:]):
        raise InputError(f"region_metrics: expected heat (N, H, W) and masks (N, R, H, W) of the same N, H, W; got {h.shape} and {m.shape}.")
    if (h < 0).any():
        images = np.flatnonzero((h < 0).any((1, 2)))
        raise InputError(
            f"heat: {len(images)} of {len(h)} images hold negative values, e.g. image {images[0]}. Take the positive part: heat.clip(min=0)."
        )
    if not ((m >= 0) & (m <= 1)).all():
        raise InputError(f"masks: expected values in [0, 1]; got {np.nanmin(m):g} to {np.nanmax(m):g}.")
    values = _metric_columns(h, m)
    images, regions = np.divmod(np.arange(m.shape[0] * m.shape[1]), max(1, m.shape[1]))
    columns = {"n": images, "r": regions, "area_share": area_share(m).ravel()}
    columns |= {name: column.ravel() for name, column in values.items()}
    return pd.DataFrame(columns | {"reason": [code for row in reasons(h, m) for code in row]})


def _array(values: Any) -> NDArray[Any]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _metric_columns(heat: NDArray[Any], masks: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """(N, R) per metric of the family; the ranking metrics share one sort per image."""
    ranked = ranked_metrics(heat, masks)
    return {name: ranked[name] if name in RANKED else METRICS.get(name)(heat, masks) for name in METRICS}


def projected_shares(heat: NDArray[Any], projected: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Heat shares (N, R) of coarse heat (N, h, w) >= 0 from the projections (N, R, h, w) of masks of ``size``.

    Equals upsampling first and masking then, without the full-size map; a projection keeps the mask's area.
    """
    whole, h = whole_projection(size, (heat.shape[1], heat.shape[2])), heat.astype(np.float64)
    return np.asarray(heat_share((projected * h[:, None]).sum((2, 3)), (h * whole).sum((1, 2)), projected.sum((2, 3))))


# ── measuring a batch of an audit ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class BatchRows:
    """Rows of ``Measurements.images``, ``.table`` and ``.maps`` for one batch."""

    images: list[dict[str, Any]]
    regions: list[dict[str, Any]]
    maps: list[dict[str, Any]]


def measure_batch(batch: ImageBatch, clf: Classifier, plan: Plan) -> BatchRows:
    """Explain one batch by the plan and measure every region.

    An image that cannot be read, whose label the target needs and is no class, or that alone exceeds the device's memory becomes
    rows with its reason; its neighbours' numbers do not move.
    """
    failures = _failures(batch, clf, plan)
    usable = [n for n, (reason, _) in enumerate(failures) if not reason]
    explained, memory = _explained(batch, usable, clf, plan)
    for n, message in memory.items():
        failures[n] = ("out_of_memory", message)
    images = [_image_row(batch, n, clf, explained.get(n), failures[n]) for n in range(len(batch))]
    regions: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    measured = _measured(batch, explained)
    for n in range(len(batch)):
        regions += _region_rows(batch, n, plan, explained.get(n), measured.get(n), failures[n][0])
        maps += _map_rows(batch, n, plan, explained.get(n), measured.get(n))
    return BatchRows(images, regions, maps)


def _failures(batch: ImageBatch, clf: Classifier, plan: Plan) -> list[tuple[str, str]]:
    failures = list(batch.failures)
    if "label" in plan.explain.target.split(":"):
        for n, sample in enumerate(batch.samples):
            if not failures[n][0] and (sample.label is None or clf.class_index(sample.label) is None):
                failures[n] = ("label_unknown", f"the label {sample.label!r} is not a class of the model")
    return failures


@dataclass(frozen=True)
class _Explained:
    """One image of an explanation."""

    raw: NDArray[np.float32]
    score: float
    status: str
    probabilities: NDArray[np.float64]
    predicted: int


def _explained(batch: ImageBatch, usable: list[int], clf: Classifier, plan: Plan) -> tuple[dict[int, _Explained], dict[int, str]]:
    """Explanations by image, and the messages of images that alone exceed the memory."""
    if not usable:
        return {}, {}
    settings = plan.explain
    labels = [-1 if s.label is None else _or(clf.class_index(s.label), -1) for s in batch.samples]
    try:
        dtype = None if plan.run.precision == "float32" else getattr(torch, plan.run.precision)
        found = explain(clf, batch.images[usable], settings.target, settings.method, settings.sign, [labels[n] for n in usable], dtype=dtype)
    except ImageError as error:
        if len(usable) == 1:
            return {}, {usable[0]: str(error)}
        parts = [_explained(batch, [n], clf, plan) for n in usable]
        return {n: e for part, _ in parts for n, e in part.items()}, {n: m for _, part in parts for n, m in part.items()}
    if found.raw.ndim != 3:
        raise InputError(f"An audit measures one map per image; the target {settings.target!r} gave maps of shape {tuple(found.raw.shape)}.")
    raw, scores = found.raw.cpu().numpy(), found.score.cpu().tolist()
    shares = probabilities(found.outputs).cpu().numpy()
    rows = zip(usable, raw, scores, found.status, shares, strict=True)
    return {n: _Explained(r, s, status, p, int(p.argmax())) for n, r, s, status, p in rows}, {}


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def probabilities(outputs: Tensor) -> Tensor:
    """(N, C) float64: softmax of the logits; sigmoid of a single logit as (1 - p, p)."""
    values = outputs.double()
    if values.ndim == 1 or values.shape[1] == 1:
        p = torch.sigmoid(values.reshape(-1))
        return torch.stack([1 - p, p], dim=1)
    if values.ndim > 2:
        raise ModelError(f"The model's output has shape {tuple(outputs.shape)}; an audit needs class scores (N, C).")
    return values.softmax(1)


def _image_row(batch: ImageBatch, n: int, clf: Classifier, found: _Explained | None, failure: tuple[str, str]) -> dict[str, Any]:
    sample = batch.samples[n]
    row: dict[str, Any] = {"image_id": sample.id, "path": sample.image, "label": sample.label}
    if found is None:
        empty = {"predicted": None, "probability": float("nan"), "correct": None, "score": float("nan"), "heat_status": "not_measured"}
        return row | empty | {"status": "failed", "reason": failure[0], "message": failure[1]}
    truth = clf.class_index(sample.label) if sample.label is not None else None
    row |= {"predicted": clf.class_name(found.predicted), "probability": float(found.probabilities[found.predicted])}
    row |= {"correct": None if truth is None else truth == found.predicted, "score": found.score}
    row |= {"heat_status": found.status, "status": "ok", "reason": "", "message": ""}
    if len(found.probabilities) <= _MOST_CLASS_COLUMNS:
        row |= {f"probability.{clf.class_name(k)}": float(p) for k, p in enumerate(found.probabilities)}
    return row


@dataclass(frozen=True)
class _Measured:
    """The regions of one image: columns (R,), codes (R,), coverage of the map's cells (R, h, w)."""

    columns: dict[str, NDArray[np.float64]]
    codes: list[str]
    coverage: NDArray[np.float64]


def _measured(batch: ImageBatch, explained: dict[int, _Explained]) -> dict[int, _Measured]:
    """A few images at a time: as many as fit the processor's cache with their masks, and those of a whole batch do not."""
    if not batch.region_names:
        return {}
    numbers, images = list(explained), max(1, _PIXELS_AT_ONCE // max(1, batch.masks[0].numel()))
    measured: dict[int, _Measured] = {}
    for chosen in (numbers[start : start + images] for start in range(0, len(numbers), images)):
        masks = batch.masks[chosen[0] : chosen[0] + 1] if len(chosen) == 1 else batch.masks[chosen]
        measured |= zip(chosen, _measured_images([explained[n] for n in chosen], masks.numpy()), strict=True)
    return measured


def _measured_images(found: Sequence[_Explained], masks: NDArray[np.float32]) -> Iterator[_Measured]:
    heat = np.stack([np.maximum(e.raw, 0) if e.status != "non_finite" else np.full_like(e.raw, np.nan) for e in found])
    grid, size = (heat.shape[1], heat.shape[2]), (masks.shape[2], masks.shape[3])
    projected = project(masks, grid)
    full = upsample(heat, size).astype(np.float32)  # through float64, so that values equal by construction stay equal and count as ties
    columns = {"relevance_mass_accuracy": projected_shares(heat, projected, size), "area_share": projected.sum((2, 3)) / (size[0] * size[1])}
    columns["mass_lift"] = columns["relevance_mass_accuracy"] / np.where(columns["area_share"] > 0, columns["area_share"], np.nan)
    columns |= ranked_metrics(full, masks)
    columns |= {name: METRICS.get(name)(full, masks) for name in METRICS if name not in columns}
    codes = reasons(full, masks, cell_area=size[0] * size[1] / (grid[0] * grid[1]))
    coverage = projected / whole_projection(size, grid)
    for n in range(len(found)):
        yield _Measured({name: column[n] for name, column in columns.items()}, codes[n], coverage[n])


def _region_rows(
    batch: ImageBatch, n: int, plan: Plan, found: _Explained | None, measured: _Measured | None, failure: str
) -> list[dict[str, Any]]:  # fmt: skip
    settings, rows = plan.explain, []
    target = f"negated:{settings.target}" if settings.sign == -1 else settings.target
    status = "not_measured" if found is None else found.status
    for r, name in enumerate(batch.region_names):
        reason = failure or batch.reasons[n][r] or _heat_reason(status) or (measured.codes[r] if measured else "")
        row = {"image_id": batch.samples[n].id, "method": settings.method, "target": target, "region": name, "role": plan.region_role(name)}
        values = _region_values(measured, r, masked=not batch.reasons[n][r], heated=status == "ok")
        rows.append(row | {"status": status, "reason": reason} | values)
    return rows


def _heat_reason(status: str) -> str:
    return {"no_positive_evidence": "zero_heat", "flat": "flat", "non_finite": "non_finite"}.get(status, "")


def _region_values(measured: _Measured | None, r: int, masked: bool, heated: bool) -> dict[str, float]:
    """Metrics of one region; the area share needs only the mask, everything else a heat map with status ok as well."""
    names = {("heat_share" if name == "relevance_mass_accuracy" else name): name for name in METRICS}
    undefined = float("nan")
    area = float(measured.columns["area_share"][r]) if measured and masked else undefined
    values = {"heat_share": undefined, "area_share": area}
    for shown, name in names.items():
        values[shown] = float(measured.columns[name][r]) if measured and masked and heated else undefined
    return values


def _map_rows(batch: ImageBatch, n: int, plan: Plan, found: _Explained | None, measured: _Measured | None) -> list[dict[str, Any]]:
    """Coarse maps for display: the positive heat, unnormalised, and each region's coverage of the map's cells in 1/255."""
    if found is None:
        return []
    rows = [_map_row(batch.samples[n].id, "heat", plan.explain.target, np.maximum(found.raw, 0).astype(np.float32))]
    for r, name in enumerate(batch.region_names):
        if measured is not None and not batch.reasons[n][r]:
            rows.append(_map_row(batch.samples[n].id, "region", name, np.rint(measured.coverage[r] * 255).clip(0, 255).astype(np.uint8)))
    return rows


def _map_row(image_id: str, kind: str, name: str, values: NDArray[Any]) -> dict[str, Any]:
    step = -(-max(values.shape) // _MOST_STORED_CELLS)  # pixel-level maps are thinned to their block means; coarse ones stay as they are
    if step > 1:
        height, width = (side // step * step for side in values.shape)
        blocks = values[:height, :width].reshape(height // step, step, width // step, step)
        values = blocks.mean((1, 3)).astype(values.dtype)
    height, width = values.shape
    return {"image_id": image_id, "kind": kind, "name": name, "height": height, "width": width, "values": np.ascontiguousarray(values).tobytes()}
