"""One batch of an audit becomes rows: predictions, heat per region, coarse maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradaudit.attribution.explanation import Explanation, explain
from gradaudit.errors import ImageError, InputError
from gradaudit.measurement.batches import ImageBatch
from gradaudit.metrics.mass import METRICS, area_share, heat_share, reasons
from gradaudit.metrics.ranking import RANKED, ranked_metrics
from gradaudit.metrics.upsampling import project, upsample, whole_projection
from gradaudit.models.classifier import Classifier
from gradaudit.models.inputs_outputs import probabilities
from gradaudit.number_text import plain_number
from gradaudit.plan import Plan

_MOST_CLASS_COLUMNS = 20
_MOST_STORED_CELLS = 64
_PIXELS_AT_ONCE = 250_000  # of masks measured together


# ── measuring any heat against any masks ──────────────────────────────────────────────────────────


def region_metrics(heat: Any, masks: Any) -> pd.DataFrame:
    """Every metric of every region: one row per image n and region r.

    heat : (N, H, W) float >= 0, array or tensor    masks : (N, R, H, W) in [0, 1], the fraction of
        each pixel that the region covers
    returns : columns n, r, area_share, one per metric (``relevance_mass_accuracy`` is the heat
        share), reason; undefined is NaN with a reason of ``records.REASONS``
    Errors: ``InputError`` for shapes that do not fit, negative heat, or masks outside [0, 1].
    """
    h, m = _array(heat), _array(masks)
    if h.ndim != 3 or m.ndim != 4 or h.shape != (m.shape[0], *m.shape[2:]):
        raise InputError(
            f"region_metrics: expected heat (N, H, W) and masks (N, R, H, W) of the same N, H, W; got {h.shape} and {m.shape}."
        )
    if (h < 0).any():
        images = np.flatnonzero((h < 0).any((1, 2)))
        raise InputError(
            f"heat: {len(images)} of {len(h)} images hold negative values, e.g. image {images[0]}. Take the positive part: heat.clip(min=0)."
        )
    if not ((m >= 0) & (m <= 1)).all():
        raise InputError(
            f"masks: expected values in [0, 1]; got {plain_number(np.nanmin(m))} to {plain_number(np.nanmax(m))}."
        )
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
    return {
        name: ranked[name] if name in RANKED else METRICS.get(name)(heat, masks) for name in METRICS
    }


def projected_shares(
    heat: NDArray[Any], projected: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Heat shares (N, R) of coarse heat (N, h, w) >= 0 and masks projected to its grid.

    projected : (N, R, h, w) projections of masks of ``size``

    Equals upsampling first and masking then, without the full-size map; a projection keeps the
    mask's area.
    """
    whole, h = whole_projection(size, (heat.shape[1], heat.shape[2])), heat.astype(np.float64)
    return np.asarray(
        heat_share(
            (projected * h[:, None]).sum((2, 3)), (h * whole).sum((1, 2)), projected.sum((2, 3))
        )
    )


# ── measuring a batch of an audit ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class BatchRows:
    """Rows of ``Measurements.images``, ``.table`` and ``.maps`` for one batch."""

    images: list[dict[str, Any]]
    regions: list[dict[str, Any]]
    maps: list[dict[str, Any]]


def measure_batch(batch: ImageBatch, clf: Classifier, plan: Plan) -> BatchRows:
    """Explain one batch by the plan and measure every region.

    An image that cannot be read, whose label the target needs and is no class, or that alone
    exceeds the device's memory becomes rows with its reason; its neighbors' numbers do not move.
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
            if not failures[n][0] and (
                sample.label is None or clf.class_index(sample.label) is None
            ):
                failures[n] = (
                    "label_unknown",
                    f"the label {sample.label!r} is not a class of the model",
                )
    return failures


@dataclass(frozen=True)
class _Explained:
    """One image of an explanation."""

    raw: NDArray[np.float32]
    score: float
    status: str
    probabilities: NDArray[np.float64]
    predicted: int


def _explained(
    batch: ImageBatch, usable: list[int], clf: Classifier, plan: Plan
) -> tuple[dict[int, _Explained], dict[int, str]]:
    """Explanations by image, and the messages of images that alone exceed the memory."""
    if not usable:
        return {}, {}
    try:
        found = _explanation(batch, usable, clf, plan)
    except ImageError as error:
        if len(usable) == 1:
            return {}, {usable[0]: str(error)}
        explained: dict[int, _Explained] = {}
        messages: dict[int, str] = {}
        for n in usable:
            alone, message = _explained(batch, [n], clf, plan)
            explained |= alone
            messages |= message
        return explained, messages
    raw, scores = found.raw.cpu().numpy(), found.score.cpu().tolist()
    shares = probabilities(found.outputs).cpu().numpy()
    rows = zip(usable, raw, scores, found.status, shares, strict=True)
    return {n: _Explained(r, s, status, p, int(p.argmax())) for n, r, s, status, p in rows}, {}


def _explanation(batch: ImageBatch, usable: list[int], clf: Classifier, plan: Plan) -> Explanation:
    """``explain`` by the plan.  Errors: ``InputError`` where the target gives several maps."""
    settings = plan.explain
    labels = [-1 if s.label is None else _or(clf.class_index(s.label), -1) for s in batch.samples]
    dtype = None if plan.run.precision == "float32" else getattr(torch, plan.run.precision)
    found = explain(
        clf,
        batch.images[usable],
        settings.target,
        settings.method,
        settings.sign,
        [labels[n] for n in usable],
        dtype=dtype,
    )
    if found.raw.ndim != 3:
        raise InputError(
            f"An audit measures one map per image; the target {settings.target!r} gave maps of shape {tuple(found.raw.shape)}."
        )
    return found


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def _image_row(
    batch: ImageBatch, n: int, clf: Classifier, found: _Explained | None, failure: tuple[str, str]
) -> dict[str, Any]:
    sample = batch.samples[n]
    row: dict[str, Any] = {"image_id": sample.id, "path": sample.image, "label": sample.label}
    row["digest"] = batch.digests[n] if batch.digests else ""
    if found is None:
        empty = {
            "predicted": None,
            "probability": float("nan"),
            "correct": None,
            "score": float("nan"),
            "heat_status": "not_measured",
        }
        return row | empty | {"status": "failed", "reason": failure[0], "message": failure[1]}
    truth = clf.class_index(sample.label) if sample.label is not None else None
    row |= {
        "predicted": clf.class_name(found.predicted),
        "probability": float(found.probabilities[found.predicted]),
    }
    row |= {"correct": None if truth is None else truth == found.predicted, "score": found.score}
    row |= {"heat_status": found.status, "status": "ok", "reason": "", "message": ""}
    if len(found.probabilities) <= _MOST_CLASS_COLUMNS:
        row |= {
            f"probability.{clf.class_name(k)}": float(p) for k, p in enumerate(found.probabilities)
        }
    return row


@dataclass(frozen=True)
class _Measured:
    """The regions of one image: columns (R,), codes (R,), coverage of the map's cells (R, h, w)."""

    columns: dict[str, NDArray[np.float64]]
    codes: list[str]
    coverage: NDArray[np.float64]


def _measured(batch: ImageBatch, explained: dict[int, _Explained]) -> dict[int, _Measured]:
    """Measure a few images at a time: as many as fit the processor's cache with their masks.

    A whole batch does not.
    """
    if not batch.region_names:
        return {}
    numbers, images = list(explained), max(1, _PIXELS_AT_ONCE // max(1, batch.masks[0].numel()))
    measured: dict[int, _Measured] = {}
    for chosen in (numbers[start : start + images] for start in range(0, len(numbers), images)):
        masks = batch.masks[chosen[0] : chosen[0] + 1] if len(chosen) == 1 else batch.masks[chosen]
        measured |= zip(
            chosen, _measured_images([explained[n] for n in chosen], masks.numpy()), strict=True
        )
    return measured


def _measured_images(
    found: Sequence[_Explained], masks: NDArray[np.float32]
) -> Iterator[_Measured]:
    heat = np.stack(
        [
            np.maximum(e.raw, 0) if e.status != "non_finite" else np.full_like(e.raw, np.nan)
            for e in found
        ]
    )
    grid, size = (heat.shape[1], heat.shape[2]), (masks.shape[2], masks.shape[3])
    projected = project(masks, grid)
    full = upsample(heat, size).astype(
        np.float32
    )  # through float64, so that values equal by construction stay equal and count as ties
    columns = {
        "relevance_mass_accuracy": projected_shares(heat, projected, size),
        "area_share": projected.sum((2, 3)) / (size[0] * size[1]),
    }
    columns["mass_lift"] = columns["relevance_mass_accuracy"] / np.where(
        columns["area_share"] > 0, columns["area_share"], np.nan
    )
    columns |= ranked_metrics(full, masks)
    columns |= {name: METRICS.get(name)(full, masks) for name in METRICS if name not in columns}
    codes = reasons(full, masks, cell_area=size[0] * size[1] / (grid[0] * grid[1]))
    coverage = projected / whole_projection(size, grid)
    for n in range(len(found)):
        yield _Measured(
            {name: column[n] for name, column in columns.items()}, codes[n], coverage[n]
        )


def _region_rows(
    batch: ImageBatch,
    n: int,
    plan: Plan,
    found: _Explained | None,
    measured: _Measured | None,
    failure: str,
) -> list[dict[str, Any]]:
    settings, rows = plan.explain, []
    target = f"negated:{settings.target}" if settings.sign == -1 else settings.target
    status = "not_measured" if found is None else found.status
    for r, name in enumerate(batch.region_names):
        reason = (
            failure
            or batch.reasons[n][r]
            or _heat_reason(status)
            or (measured.codes[r] if measured else "")
        )
        row = {
            "image_id": batch.samples[n].id,
            "method": settings.method,
            "target": target,
            "region": name,
            "role": plan.region_role(name),
        }
        values = _region_values(measured, r, masked=not batch.reasons[n][r], heated=status == "ok")
        rows.append(row | {"status": status, "reason": reason} | values)
    return rows


def _heat_reason(status: str) -> str:
    return {"no_positive_evidence": "zero_heat", "flat": "flat", "non_finite": "non_finite"}.get(
        status, ""
    )


def _region_values(
    measured: _Measured | None, r: int, masked: bool, heated: bool
) -> dict[str, float]:
    """Metrics of one region, NaN where undefined.

    The area share needs only the mask; everything else a heat map with status ok as well.
    """
    names = {
        ("heat_share" if name == "relevance_mass_accuracy" else name): name for name in METRICS
    }
    undefined = float("nan")
    area = float(measured.columns["area_share"][r]) if measured and masked else undefined
    values = {"heat_share": undefined, "area_share": area}
    for shown, name in names.items():
        values[shown] = (
            float(measured.columns[name][r]) if measured and masked and heated else undefined
        )
    return values


def _map_rows(
    batch: ImageBatch, n: int, plan: Plan, found: _Explained | None, measured: _Measured | None
) -> list[dict[str, Any]]:
    """Coarse maps for display: the positive heat, and how far each region covers the cells.

    Heat is not normalized; coverage is in steps of 1/255.
    """
    if found is None:
        return []
    rows = [
        _map_row(
            batch.samples[n].id,
            "heat",
            plan.explain.target,
            np.maximum(found.raw, 0).astype(np.float32),
        )
    ]
    for r, name in enumerate(batch.region_names):
        if measured is not None and not batch.reasons[n][r]:
            rows.append(
                _map_row(
                    batch.samples[n].id,
                    "region",
                    name,
                    np.rint(measured.coverage[r] * 255).clip(0, 255).astype(np.uint8),
                )
            )
    return rows


def _map_row(image_id: str, kind: str, name: str, values: NDArray[Any]) -> dict[str, Any]:
    step = -(
        -max(values.shape) // _MOST_STORED_CELLS
    )  # pixel-level maps are thinned to their block means; coarse ones stay as they are
    if step > 1:
        height, width = (side // step * step for side in values.shape)
        blocks = values[:height, :width].reshape(height // step, step, width // step, step)
        values = blocks.mean((1, 3)).astype(values.dtype)
    height, width = values.shape
    return {
        "image_id": image_id,
        "kind": kind,
        "name": name,
        "height": height,
        "width": width,
        "values": np.ascontiguousarray(values).tobytes(),
    }
