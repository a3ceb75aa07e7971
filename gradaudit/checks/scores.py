"""What a network says of pictures that were altered: probabilities, the decision, log odds.

A classifier and preprocessed pictures come in; one ``Scores`` for each picture goes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradaudit.checks.fills import Pixels
from gradaudit.errors import InputError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.classifier import Classifier, device_of
from gradaudit.models.inputs_outputs import call, first_tensor, in_parts, probabilities
from gradaudit.models.sources import with_logits

AT_ONCE = 63
"""Pictures in one pass; of an image as it is and of two that were altered, 21."""
ROUNDING = 1e-5
"""By which masks that were shrunk to the network's size may lie outside [0, 1]."""


@dataclass(frozen=True)
class Scores:
    """What a network says of one picture.

    probabilities : (K,)      signed : probability of the positive class, NaN where there is none
    logit : its log odds
    """

    probabilities: NDArray[np.float64]
    signed: float
    logit: float

    @property
    def decision(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.probabilities).all())

    def variation(self, other: Scores) -> float:
        """Total variation distance of the two distributions, 0 to 1."""
        return 0.5 * float(np.abs(self.probabilities - other.probabilities).sum())


def giving_logits(clf: Classifier | nn.Module, images: Pixels) -> Classifier:
    """The classifier, or the module wrapped, without a softmax or sigmoid at its end.

    images : (N, C, H, W), preprocessed; a few of them are shown to it
    """
    clf = clf if isinstance(clf, Classifier) else Classifier.wrap(clf)
    return with_logits(clf, torch.from_numpy(images[:4]).to(device_of(clf)))


def scores_of(
    clf: Classifier, pictures: Sequence[Pixels], positive: str | int | None
) -> list[Scores]:
    """What the network says of each picture, in as many passes as memory asks for.

    clf : gives logits      positive : the class whose probability and log odds are told; None: the
        second of two, and none where there are more

    Errors: ``InputError`` where the positive class is none of the model's; ``ModelError`` where the
    network fails, or gives no class scores (N, K); ``ImageError`` with the reason out_of_memory
    where one picture alone does not fit.
    """
    if not pictures:
        return []

    def passed(rows: slice) -> tuple[Tensor]:
        batch = torch.from_numpy(np.stack(pictures[rows]))
        with borrowed(clf.module), torch.no_grad():
            output = call(clf.module, batch.to(device_of(clf)))
            return (first_tensor(output, clf.output).float().cpu(),)

    outputs = torch.cat([part for (part,) in in_parts(passed, len(pictures), AT_ONCE)])
    shares = probabilities(outputs).numpy()
    index = _positive(clf, positive, shares.shape[1])
    if index is None:
        return [Scores(p, float("nan"), float("nan")) for p in shares]
    odds = _log_odds(outputs.double(), index)
    return [Scores(p, float(p[index]), float(z)) for p, z in zip(shares, odds, strict=True)]


def _log_odds(outputs: Tensor, index: int) -> NDArray[np.float64]:
    """(N,) of one class against all others; a single output is that of the second of two."""
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        z = outputs.reshape(-1)
        return np.asarray((z if index == 1 else -z).numpy())
    rest = [k for k in range(outputs.shape[1]) if k != index]
    return np.asarray((outputs[:, index] - outputs[:, rest].logsumexp(1)).numpy())


def _positive(clf: Classifier, name: str | int | None, classes: int) -> int | None:
    if name is None:
        return 1 if classes == 2 else None
    index = name if isinstance(name, int) else clf.class_index(name)
    if index is None or not 0 <= index < classes:
        known = ", ".join(clf.classes or map(str, range(classes)))
        raise InputError(f"positive: {name!r} is no class of the model ({known}).")
    return index


def as_pixels(value: Any) -> Pixels:
    """An array or tensor as float32 on the processor."""
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    found: Pixels = tensor.detach().to("cpu", torch.float32).numpy()
    return found


def is_coverage(values: Pixels) -> NDArray[np.bool_]:
    """For each value whether it is a share of a pixel, 0 to 1, up to ``ROUNDING``."""
    return np.asarray((values >= -ROUNDING) & (values <= 1 + ROUNDING))
