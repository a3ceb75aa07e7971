"""What happens to the score when a region goes, and when an equal patch elsewhere does.

Preprocessed images, region masks and a classifier come in; one row per image, region, fill and dose
goes out.  The effect is what removing the region does beyond what filling an equal patch of free
surroundings does: a network that reacts to any filled patch has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from gradaudit.checks.control_patches import control_patch
from gradaudit.checks.fills import FILLS, Bools, Pixels, filled, part, surroundings, widened
from gradaudit.checks.scores import Scores, as_pixels, giving_logits, is_coverage, scores_of
from gradaudit.errors import InputError
from gradaudit.models.classifier import Classifier
from gradaudit.number_text import plain_number
from gradaudit.records import EFFECT_COLUMNS

STANDARD_FILLS = ("ring", "mean")
OK, NO_CONTROL, NO_SURROUNDINGS, NON_FINITE = "ok", "no_control", "full_mask", "non_finite"


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
    clf: Classifier | nn.Module,
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
            "full_mask" (nothing left to fill it with), "non_finite"
        reason : the status, "" where it is ok

    Nothing is changed in place, neither images nor network.
    Errors: ``InputError`` for shapes, values, fills or doses that do not fit; ``ModelError`` as in
    ``explain``.
    """
    x, m = _checked(images, masks)
    clf = giving_logits(clf, x)
    settings = RemovalSettings(
        fills=tuple(fills), doses=tuple(doses), seed=seed, positive=_positive(clf, target)
    )
    removal = Removal(clf, settings, frozenset(background))
    rows = [row for n in range(len(x)) for row in removal.rows(n, x[n], m[n])]
    return pd.DataFrame(rows, columns=["n", "r", *EFFECT_COLUMNS])


# ── one image ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Removal:
    """Region removal by one classifier.

    clf : gives logits      background : numbers of the regions that fills may be taken from
    """

    clf: Classifier
    settings: RemovalSettings
    background: frozenset[int] = frozenset()

    def rows(self, n: int, image: Pixels, masks: NDArray[np.float32]) -> list[dict[str, Any]]:
        """The rows of ``region_effects`` for one image.

        n : number of the image, from which its random numbers start
        image : (C, H, W)      masks : (R, H, W)
        """
        altered = [one for r in range(len(masks)) for one in self._altered(image, masks, n, r)]
        pictures = [image, *(picture for one in altered for picture in one.pictures)]
        told = iter(scores_of(self.clf, pictures, self.settings.positive))
        plain = next(told)
        return [one.row(plain, list(islice(told, len(one.pictures)))) for one in altered]

    def _altered(
        self, image: Pixels, masks: NDArray[np.float32], n: int, r: int
    ) -> Iterator[_Altered]:
        """One image with one region removed, by each fill and dose, and with its control filled."""
        area, place = float(masks[r].mean()), self._place(masks, n, r)
        names = [(fill, dose) for fill in self.settings.fills for dose in self.settings.doses]
        for k, (fill, dose) in enumerate(names):
            random = self._random(n, r, k + 1)
            pictures = [
                filled(image, part(goes, dose), source, fill, random)
                for goes, source in place.patches
            ]
            yield _Altered(n, r, fill, dose, area, place.status, pictures)

    def _place(self, masks: NDArray[np.float32], n: int, r: int) -> _Place:
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
        control = control_patch(goes, free, self._random(n, r))
        if control is None:
            return _Place(NO_CONTROL, ((goes, source),))
        around = surroundings(control, free)
        return _Place(OK, ((goes, source), (control, source if around is None else around)))

    def _random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, *numbers])


# ── one altered image ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class _Place:
    """What is filled in one image.

    patches : of the region, then of its control where there is one: pixels that go (H, W), pixels
        that their fill is taken from
    """

    status: str
    patches: tuple[tuple[Bools, Bools], ...] = ()


@dataclass(frozen=True, eq=False)
class _Altered:
    """One image with a region removed, and then with its control filled, as far as there are."""

    n: int
    r: int
    fill: str
    dose: float
    area: float
    status: str
    pictures: list[Pixels]

    def row(self, plain: Scores, told: Sequence[Scores]) -> dict[str, Any]:
        """The row of ``region_effects``.

        plain : of the image as it is      told : of each of ``pictures``
        """
        status = self.status
        if told and not all(scores.finite for scores in (plain, *told)):
            told, status = (), NON_FINITE
        removed, control = [*told, None, None][:2]
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


# ── what is given ─────────────────────────────────────────────────────────────────────────────────


def _checked(images: Any, masks: Any) -> tuple[Pixels, Pixels]:
    x, m = (as_pixels(value) for value in (images, masks))
    if x.ndim != 4 or m.ndim != 4 or x.shape[0] != m.shape[0] or x.shape[2:] != m.shape[2:]:
        raise InputError(
            "region_effects: expected images (N, C, H, W) and masks (N, R, H, W) of the same N, H, W; "
            f"got {x.shape} and {m.shape}."
        )
    outside = ~is_coverage(m).all((1, 2, 3))
    if outside.any():
        raise InputError(
            f"masks: expected coverage in [0, 1]; {int(outside.sum())} of {len(m)} images hold other "
            f"values, e.g. image {int(outside.argmax())}."
        )
    if not len(x):
        raise InputError("region_effects: there is no image.")
    return x, m.clip(0, 1)


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
