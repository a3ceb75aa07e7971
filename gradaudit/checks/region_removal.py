"""What happens to the score when a region goes, and when an equal patch elsewhere does.

Preprocessed images, region masks and a classifier come in; one row per image, region, fill and dose
goes out.  The effect is what removing the region does beyond what filling an equal patch of free
surroundings does: a network that reacts to any filled patch has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradaudit.checks.control_patches import control_patch
from gradaudit.checks.fills import FILLS, Bools, Pixels, filled, part, surroundings, widened
from gradaudit.errors import ImageError, InputError
from gradaudit.models.borrowing import borrowed
from gradaudit.models.classifier import Classifier
from gradaudit.models.inputs_outputs import call, first_tensor, is_out_of_memory
from gradaudit.models.sources import with_logits
from gradaudit.number_text import plain_number
from gradaudit.records import EFFECT_COLUMNS

STANDARD_FILLS = ("ring", "mean")
OK, NO_CONTROL, NO_SURROUNDINGS, NON_FINITE = "ok", "no_control", "full_mask", "non_finite"
_ROUNDING = 1e-5  # of masks that were shrunk to the network's size
_AT_ONCE = 64  # altered images in one pass


@dataclass(frozen=True, kw_only=True)
class RemovalSettings:
    """How regions are removed.

    fills : members of ``FILLS``      doses : shares of the region that go, 0 < dose <= 1
    seed : of the fills and of the control's place
    positive : output whose probability and log odds are told with their sign; None: the second of
        two, and none where there are more
    """

    fills: tuple[str, ...] = STANDARD_FILLS
    doses: tuple[float, ...] = (1.0,)
    seed: int = 0
    positive: int | None = None

    def __post_init__(self) -> None:
        for name in self.fills:
            FILLS.get(name)
        if not self.fills:
            raise InputError(f"fills: name at least one of {', '.join(FILLS)}.")
        wrong = [dose for dose in self.doses if not 0 < dose <= 1]
        if wrong or not self.doses:
            given = ", ".join(map(plain_number, self.doses)) or "none"
            raise InputError(f"doses: expected shares of the region above 0, up to 1; got {given}.")


def region_effects(
    clf: Classifier | torch.nn.Module,
    images: Any,
    masks: Any,
    target: str = "predicted",
    fills: Sequence[str] = STANDARD_FILLS,
    doses: Sequence[float] = (1.0,),
    seed: int = 0,
    *,
    background: Sequence[int] = (),
) -> pd.DataFrame:
    """What removing each region does to the model's probabilities, beside an equal control patch.

    images : (N, C, H, W), preprocessed      masks : (N, R, H, W) coverage, 0 to 1
    target : "class:NAME" or "class:INDEX" is the class whose probability is told with its sign;
        "predicted": the second of two classes, and none where there are more (with the explained
        class the signs of different images cancel)
    fills : members of ``checks.fills.FILLS``      doses : shares of the region that go
    background : numbers of regions that are surroundings themselves (skin, a complement): controls
        and fills may come from there

    returns : one row per (n, r, fill, dose) with
        tv, tv_control : half the summed absolute change of the probabilities (total variation, 0 to
            1), by removing the region, and by filling the control
        effect : tv - tv_control
        signed : probability of the positive class with the region removed, less with the control
            filled      logit : the same of its log odds
        flipped, flipped_control : whether the decision changes
        area_share : of the image that the region covers
        status : "ok", "no_control" (no free place for an equal patch: effect is NaN), "empty_mask",
            "full_mask" (nothing left to fill it with), "non_finite"      reason : in words

    Nothing is changed in place, neither images nor network.
    Errors: ``InputError`` for shapes, values, fills or doses that do not fit; ``ModelError`` as in
    ``explain``.
    """
    clf = clf if isinstance(clf, Classifier) else Classifier.wrap(clf)
    x, m = _checked(images, masks)
    clf = with_logits(clf, x[: min(len(x), 4)].to(_device(clf)))
    positive = _positive(clf, target)
    settings = RemovalSettings(fills=tuple(fills), doses=tuple(doses), seed=seed, positive=positive)
    removal = Removal(clf, settings, frozenset(background))
    wanted = [(n, r) for n in range(m.shape[0]) for r in range(m.shape[1])]
    rows = removal.rows(x.numpy(), m.numpy(), wanted)
    return pd.DataFrame(rows, columns=["n", "r", *EFFECT_COLUMNS])


# ── a batch ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Removal:
    """Region removal by one classifier.

    clf : gives logits      background : numbers of the regions that fills may be taken from
    """

    clf: Classifier
    settings: RemovalSettings
    background: frozenset[int] = frozenset()

    def rows(
        self,
        images: Pixels,
        masks: NDArray[np.float32],
        wanted: Sequence[tuple[int, int]],
        numbers: Sequence[int] | None = None,
        outputs: Tensor | None = None,
    ) -> list[dict[str, Any]]:
        """The rows of ``region_effects`` for the pairs (n, r) that are wanted.

        images : (N, C, H, W)      masks : (N, R, H, W)
        numbers : (N,) what the random numbers of each image start from, so that they do not depend
            on the batch; None: its place
        outputs : (N, ...) what the network gives for the images as they are; None: it is asked
        """
        if not wanted:
            return []
        numbers = range(len(images)) if numbers is None else numbers
        chosen = sorted({n for n, _ in wanted})
        outputs = self.forward([images[n] for n in chosen]) if outputs is None else outputs[chosen]
        plain = dict(zip(chosen, _scores_of(outputs, self.settings.positive), strict=True))
        altered: list[_Altered] = []
        for n, r in wanted:
            altered += self._altered(images[n], masks[n], n, r, numbers[n])
        self._score(altered)
        return [one.row(plain[one.n]) for one in altered]

    def _altered(
        self, image: Pixels, masks: NDArray[np.float32], n: int, r: int, number: int
    ) -> Iterator[_Altered]:
        """One image with one region removed, by each fill and dose, and with its control filled."""
        area, place = float(masks[r].mean()), self._place(masks, r, number)
        names = [(fill, dose) for fill in self.settings.fills for dose in self.settings.doses]
        for k, (fill, dose) in enumerate(names):
            one = _Altered(n, r, fill, dose, area, place.status)
            random = self._random(number, r, k + 1)
            for name, goes, source in place.patches:
                one.pictures[name] = filled(image, part(goes, dose), source, fill, random)
            yield one

    def _place(self, masks: NDArray[np.float32], r: int, number: int) -> _Place:
        """Which pixels go with a region and its control, and where their fills come from."""
        if not (masks[r] > 0).any():
            return _Place("empty_mask")
        others = [k for k in range(len(masks)) if k != r and k not in self.background]
        taken = (masks[others] > 0).any(axis=0)
        # its margin does not reach into another region
        goes = widened(masks[r]) & (~taken | (masks[r] > 0))
        free = ~(taken | goes)
        source = surroundings(goes, free)
        if source is None:
            return _Place(NO_SURROUNDINGS)
        removed = ("removed", goes, source)
        control = control_patch(goes, free, self._random(number, r))
        if control is None:
            return _Place(NO_CONTROL, (removed,))
        around = surroundings(control, free)
        return _Place(OK, (removed, ("control", control, source if around is None else around)))

    def _random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, *numbers])

    def _score(self, altered: Sequence[_Altered]) -> None:
        """Ask the network about every altered picture; the pictures are let go."""
        asked = [(one, name) for one in altered for name in one.pictures]
        for start in range(0, len(asked), _AT_ONCE):
            chunk = asked[start : start + _AT_ONCE]
            outputs = self.forward([one.pictures[name] for one, name in chunk])
            found = _scores_of(outputs, self.settings.positive)
            for (one, name), scores in zip(chunk, found, strict=True):
                one.scores[name] = scores
                one.pictures.pop(name)

    def forward(self, pictures: Sequence[Pixels]) -> Tensor:
        """What the network gives for some pictures, in as many passes as memory asks for.

        Errors: ``ImageError`` with the reason out_of_memory where one picture alone does not fit.
        """
        batch, size, parts = torch.from_numpy(np.stack(pictures)), len(pictures), []
        start = 0
        while start < len(batch):
            part_of_batch, failure = None, ""
            try:
                part_of_batch = self._passed(batch[start : start + size])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failure = str(error)
            if part_of_batch is not None:
                parts.append(part_of_batch)
                start += size
            elif size == 1:
                raise ImageError(
                    "out_of_memory",
                    f"One image alone does not fit into the device's memory: {failure}",
                )
            else:
                size //= 2
        return torch.cat(parts)

    def _passed(self, batch: Tensor) -> Tensor:
        with borrowed(self.clf.module), torch.no_grad():
            output = call(self.clf.module, batch.to(_device(self.clf)))
            return first_tensor(output, self.clf.output).float().cpu()


# ── one altered image ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Scores:
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

    def variation(self, other: _Scores) -> float:
        """Total variation distance of the two distributions, 0 to 1."""
        return 0.5 * float(np.abs(self.probabilities - other.probabilities).sum())


@dataclass(frozen=True, eq=False)
class _Place:
    """What is filled in one image.

    patches : name of the picture, pixels that go (H, W), pixels that their fill is taken from
    """

    status: str
    patches: tuple[tuple[str, Bools, Bools], ...] = ()


@dataclass(frozen=True, eq=False)
class _Altered:
    """One image with a region removed, and with its control filled."""

    n: int
    r: int
    fill: str
    dose: float
    area: float
    status: str
    pictures: dict[str, Pixels] = field(default_factory=dict)
    scores: dict[str, _Scores] = field(default_factory=dict)

    def row(self, plain: _Scores) -> dict[str, Any]:
        """The row of ``region_effects``; ``plain``: of the image as it is."""
        removed, control = self.scores.get("removed"), self.scores.get("control")
        told = [plain, *(scores for scores in (removed, control) if scores is not None)]
        status = self.status
        if removed is not None and not all(np.isfinite(s.probabilities).all() for s in told):
            removed, control, status = None, None, NON_FINITE
        undefined = float("nan")
        row: dict[str, Any] = {"n": self.n, "r": self.r, "fill": self.fill, "dose": self.dose}
        row |= dict.fromkeys(("tv", "tv_control", "effect", "signed", "logit"), undefined)
        row |= {"flipped": None, "flipped_control": None, "area_share": self.area}
        if removed is not None:
            row["tv"] = removed.variation(plain)
            row["flipped"] = removed.decision != plain.decision
        if removed is not None and control is not None:
            row["tv_control"] = control.variation(plain)
            row["effect"] = row["tv"] - row["tv_control"]
            row["signed"] = removed.signed - control.signed
            row["logit"] = removed.logit - control.logit
            row["flipped_control"] = control.decision != plain.decision
        return row | {"status": status, "reason": "" if status == OK else status}


def _scores_of(outputs: Tensor, positive: int | None) -> list[_Scores]:
    """What each row of the network's outputs (N, K), (N, 1) or (N,) says."""
    values = outputs.double()
    if values.ndim == 1 or values.shape[1] == 1:
        z = values.reshape(-1)
        values = torch.stack([torch.zeros_like(z), z], dim=1)
    if values.ndim > 2:
        raise InputError(
            f"The model's output has shape {tuple(outputs.shape)}; class scores (N, K) are needed."
        )
    if positive is None and values.shape[1] == 2:
        positive = 1
    shares = values.softmax(1).numpy()
    if positive is None:
        return [_Scores(p, float("nan"), float("nan")) for p in shares]
    rest = [k for k in range(values.shape[1]) if k != positive]
    odds = (values[:, positive] - values[:, rest].logsumexp(1)).numpy()
    return [_Scores(p, float(p[positive]), float(z)) for p, z in zip(shares, odds, strict=True)]


# ── what is given ─────────────────────────────────────────────────────────────────────────────────


def _checked(images: Any, masks: Any) -> tuple[Tensor, Tensor]:
    x, m = (_tensor(value) for value in (images, masks))
    if x.ndim != 4 or m.ndim != 4 or x.shape[0] != m.shape[0] or x.shape[2:] != m.shape[2:]:
        raise InputError(
            "region_effects: expected images (N, C, H, W) and masks (N, R, H, W) of the same N, H, W; "
            f"got {tuple(x.shape)} and {tuple(m.shape)}."
        )
    outside = ~((m >= -_ROUNDING) & (m <= 1 + _ROUNDING)).flatten(1).all(1)
    if outside.any():
        raise InputError(
            f"masks: expected coverage in [0, 1]; {int(outside.sum())} of {len(m)} images hold other "
            f"values, e.g. image {int(outside.nonzero()[0])}."
        )
    if not len(x):
        raise InputError("region_effects: there is no image.")
    return x, m.clamp(0, 1)


def _tensor(value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    return tensor.detach().to("cpu", torch.float32)


def _positive(clf: Classifier, target: str) -> int | None:
    if target == "predicted":
        return None
    kind, _, name = target.partition(":")
    index = clf.class_index(name) if kind == "class" and name else None
    if index is None:
        known = ", ".join(clf.classes or ()) or "by index"
        raise InputError(
            f'target: expected "predicted", or "class:" and a class of the model ({known}); got {target!r}.'
        )
    return index


def _device(clf: Classifier) -> torch.device:
    tensors: Callable[[], Iterator[Tensor]] = clf.module.parameters
    for tensor in (*tensors(), *clf.module.buffers()):
        return tensor.device
    return torch.device("cpu")
