"""torchvision beside a torch that it was not built for: ``import_torchvision`` is the one door to
it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_library: Any = None  # kept alive: a library that is collected takes its operators along


def import_torchvision() -> Any:
    """``import torchvision``, also where its compiled operators do not load.

    A torchvision wheel built for CUDA beside a CPU-only torch finds no operators, and its import
    fails with "operator torchvision::nms does not exist": it registers shape functions for two
    operators unconditionally.  Classification networks need neither.  Only where they are missing,
    both are declared, and ``nms`` gets a plain implementation, so that detectors run too.
    Everything in gradaudit that needs torchvision (timm does) comes through here.
    """
    declare_missing_operators()
    import torchvision

    if _library is not None:
        torchvision.ops.boxes._assert_has_ops = _nothing  # it guards nms, which exists now
    return torchvision


def _nothing() -> None: ...


def declare_missing_operators() -> None:
    """Declare the operators that importing torchvision needs.

    Nothing happens where it is imported already, or its operators load.
    """
    global _library
    if "torchvision" in sys.modules or _library is not None:
        return
    torch_ops: Any = torch.ops
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).glob("_C.*"):
            try:
                torch_ops.load_library(
                    str(file)
                )  # what torchvision does first itself; loading twice is harmless
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

    dets : (N, 4) boxes x0, y0, x1, y1      scores : (N,)      iou_threshold : overlaps above it are
        suppressed
    returns : int64 indices of the kept boxes, by falling score (equal scores: first come, first
        kept)
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
