"""What happens to the score when a region comes: pasted onto images that do not hold it.

Preprocessed images without a region, donors that hold it and a classifier come in; one row per
image goes out.  A pasted patch brings its edges and the donor's own surroundings along.  So each is
pasted a second time as a sham, with the region in it filled by its surroundings, and the effect is
what the region does beyond its sham.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from gradaudit.checks.fills import FILLS, Bools, Pixels, filled, surroundings, widened
from gradaudit.checks.scores import (
    AT_ONCE,
    Scores,
    as_pixels,
    giving_logits,
    is_coverage,
    scores_of,
)
from gradaudit.errors import InputError
from gradaudit.models.classifier import Classifier
from gradaudit.number_text import plain_number

INSERTION_COLUMNS = (
    "n", "donor", "tv", "tv_sham", "effect", "signed", "signed_sham", "logit", "flipped",
    "flipped_sham", "area_share", "status", "reason",
)  # fmt: skip
RIM = 2
"""Width of the donor's surroundings that are pasted around the pixels the sham fills, in pixels."""
OK, NON_FINITE = "ok", "non_finite"
_WORDS = {
    OK: "",
    "empty_mask": "the donor does not hold the region",
    "full_mask": "the donor has no pixels outside the region to fill the sham with",
    "no_place": "every donor's patch would hide what must stay in view",
    NON_FINITE: "a score is not a finite number",
}


def region_insertion(
    clf: Classifier | nn.Module,
    images: Any,
    donors: Any,
    masks: Any,
    *,
    boxes: Any = None,
    keep: Any = None,
    taken: Any = None,
    donors_of: Sequence[int] | None = None,
    fill: str = "ring",
    positive: str | int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """What pasting a region onto images without it does, beyond pasting its empty surroundings.

    images : (N, C, H, W), preprocessed, without the region
    donors : (D, C, H, W), preprocessed, with it      masks : (D, H, W) where it is, 0 to 1
    boxes : (D, H, W) what is pasted, 0 or 1; None: the region, the pixel around it, and ``RIM``
        more
    keep : (N, H, W) what must stay in view (a lesion): donors whose patch covers it are not drawn
    taken : (D, H, W) other signs in the donors, from which the sham is not filled
    donors_of : (N,) the donor of each image; None: one drawn with the seed.  The patch brings the
        donor's surroundings along; where the network reads the region only on such surroundings
        (skin of a tone), draw donors of the same group
    fill : member of ``checks.fills.FILLS`` for the sham
    positive : the class whose probability is told with its sign; None: the second of two, and none
        where there are more

    returns : one row per image with
        donor : number of the donor, -1 where none fits
        tv, tv_sham : half the summed absolute change of the probabilities (total variation, 0 to
            1), with the region pasted, and with its sham      effect : tv - tv_sham
        signed : probability of the positive class with the region, less with the sham
        signed_sham : with the sham, less that of the image as it is
        logit : the same of its log odds
        flipped, flipped_sham : whether the decision changes
        area_share : of the image that is pasted over
        status : "ok", "empty_mask" (the named donor does not hold the region), "full_mask" (nothing
            to fill the sham with), "no_place" (``keep`` leaves none), "non_finite"
        reason : the status in words

    Nothing is changed in place, neither images nor network.  The region is pasted where it lies in
    its donor.
    Errors: ``InputError`` for shapes, values, classes and fills that do not fit, and where no donor
    holds the region; ``ModelError`` as in ``explain``.
    """
    FILLS.get(fill)
    x, y = _pictures(images, donors)
    pasted = _patches(y, masks, boxes, taken, fill)
    in_view = _coverage("keep", keep, (len(x), *x.shape[2:]), "(N, H, W)") > 0
    named = _named(donors_of, len(x), len(y))
    chosen = [
        _choice(pasted, in_view[n], named[n], np.random.default_rng([seed, n]))
        for n in range(len(x))
    ]
    clf = giving_logits(clf, x)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(x), AT_ONCE // 3):
        part = range(start, min(start + AT_ONCE // 3, len(x)))
        rows += _rows(clf, positive, x, pasted, {n: chosen[n] for n in part}, seed)
    return pd.DataFrame(rows, columns=list(INSERTION_COLUMNS))


def _patches(donors: Pixels, masks: Any, boxes: Any, taken: Any, fill: str) -> list[_Patch]:
    """What each donor brings.  Errors: ``InputError`` where none of them holds the region."""
    shape = (len(donors), *donors.shape[2:])
    coverage = _coverage("masks", masks, shape, "(D, H, W)")
    others = _coverage("taken", taken, shape, "(D, H, W)") > 0
    brought = zip(donors, coverage, _box(boxes, coverage), others, strict=True)
    pasted = [_Patch.of(*one, fill) for one in brought]
    if not any(patch.status != "empty_mask" for patch in pasted):
        raise InputError("masks: no donor holds the region; each of them is empty.")
    return pasted


# ── what is pasted ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class _Patch:
    """What one donor brings.

    donor : (C, H, W)      box : (H, W) pixels that are pasted      goes : those that the sham fills
    source : pixels of the donor that the fill may be taken from; None: there are none
    """

    donor: Pixels
    box: Bools
    goes: Bools
    source: Bools | None
    fill: str
    status: str

    @classmethod
    def of(cls, donor: Pixels, mask: Pixels, box: Bools | None, taken: Bools, fill: str) -> _Patch:
        """The patch of one donor; without a box, the region and a rim of its surroundings."""
        goes = widened(mask)
        if box is None:
            box = goes
            for _ in range(RIM):
                box = widened(box)
        goes = goes & box & (~taken | (mask > 0))  # the pixel around does not reach another sign
        source = surroundings(goes, ~(goes | taken))
        status = OK if source is not None else "full_mask"
        return cls(donor, box, goes, source, fill, status if goes.any() else "empty_mask")

    def onto(self, image: Pixels, random: np.random.Generator) -> tuple[Pixels, Pixels]:
        """The image with the region pasted, and with its sham."""
        assert self.source is not None
        with_region, with_sham = image.copy(), image.copy()
        without = filled(self.donor, self.goes, self.source, self.fill, random)
        with_region[:, self.box] = self.donor[:, self.box]
        with_sham[:, self.box] = without[:, self.box]
        return with_region, with_sham


def _choice(
    patches: Sequence[_Patch], in_view: Bools, named: int | None, random: np.random.Generator
) -> tuple[int, str]:
    """The donor of one image and its status: the named one, or one drawn among those that fit."""
    candidates = range(len(patches)) if named is None else [named]
    if named is None:
        candidates = [d for d in candidates if patches[d].status != "empty_mask"]
    fitting = [d for d in candidates if not (patches[d].box & in_view).any()]
    if not fitting:
        return -1 if named is None else named, "no_place"
    usable = [d for d in fitting if patches[d].status == OK]
    if not usable:
        return fitting[0], patches[fitting[0]].status
    return usable[int(random.integers(len(usable)))], OK


# ── what the network says ─────────────────────────────────────────────────────────────────────────


def _rows(
    clf: Classifier,
    positive: str | int | None,
    images: Pixels,
    patches: Sequence[_Patch],
    chosen: dict[int, tuple[int, str]],
    seed: int,
) -> list[dict[str, Any]]:
    """The rows of some images, scored together."""
    shown = {}
    for n, (donor, status) in chosen.items():
        if status == OK:
            random = np.random.default_rng([seed, n, 1])
            shown[n] = (images[n], *patches[donor].onto(images[n], random))
    pictures = [picture for three in shown.values() for picture in three]
    scores = scores_of(clf, pictures, positive)
    told = {n: scores[3 * k : 3 * k + 3] for k, n in enumerate(shown)}
    return [_row(n, *chosen[n], patches, told.get(n, ())) for n in chosen]


def _row(
    n: int, donor: int, status: str, patches: Sequence[_Patch], told: Sequence[Scores]
) -> dict[str, Any]:
    """The row of one image; ``told``: of it as it is, pasted and with its sham, or nothing."""
    row: dict[str, Any] = {"n": n, "donor": donor}
    row |= dict.fromkeys(INSERTION_COLUMNS[2:8], float("nan"))
    row |= {"flipped": None, "flipped_sham": None}
    row["area_share"] = float(patches[donor].box.mean()) if donor >= 0 else float("nan")
    if told and not all(scores.finite for scores in told):
        status = NON_FINITE
    elif told:
        plain, pasted, sham = told
        row["tv"], row["tv_sham"] = pasted.variation(plain), sham.variation(plain)
        row["effect"] = row["tv"] - row["tv_sham"]
        row["signed"] = pasted.signed - sham.signed
        row["signed_sham"] = sham.signed - plain.signed
        row["logit"] = pasted.logit - sham.logit
        row["flipped"] = pasted.decision != plain.decision
        row["flipped_sham"] = sham.decision != plain.decision
    return row | {"status": status, "reason": _WORDS[status]}


# ── what is given ─────────────────────────────────────────────────────────────────────────────────


def _pictures(images: Any, donors: Any) -> tuple[Pixels, Pixels]:
    x, y = as_pixels(images), as_pixels(donors)
    for name, value in (("images", x), ("donors", y)):
        if value.ndim != 4:
            raise InputError(
                f"{name}: expected (N, C, H, W), already preprocessed; got {value.shape}."
            )
        if not len(value):
            raise InputError(f"{name}: there is no image.")
    if x.shape[1:] != y.shape[1:]:
        raise InputError(
            f"donors: expected images of the same C, H, W as images; got {y.shape[1:]} beside {x.shape[1:]}."
        )
    return x, y


def _coverage(name: str, value: Any, shape: tuple[int, ...], letters: str) -> Pixels:
    """Shares of pixels (n, H, W) in [0, 1]; zeros where none are given."""
    if value is None:
        return np.zeros(shape, np.float32)
    found = as_pixels(value)
    if found.shape != shape:
        raise InputError(f"{name}: expected {letters} = {shape}; got {found.shape}.")
    if not is_coverage(found).all():
        raise InputError(
            f"{name}: expected shares of each pixel in [0, 1]; got values "
            f"from {plain_number(float(found.min()))} to {plain_number(float(found.max()))}."
        )
    return found.clip(0, 1)


def _box(boxes: Any, coverage: Pixels) -> Sequence[Bools | None]:
    if boxes is None:
        return [None] * len(coverage)
    found = _coverage("boxes", boxes, coverage.shape, "(D, H, W)") > 0
    cut = [bool((mask[~box] > 0).any()) for mask, box in zip(coverage, found, strict=True)]
    if any(cut):
        raise InputError(
            f"boxes: a box holds the whole region; {sum(cut)} of {len(cut)} do not, "
            f"e.g. that of donor {cut.index(True)}."
        )
    return list(found)


def _named(donors_of: Sequence[int] | None, images: int, donors: int) -> Sequence[int | None]:
    if donors_of is None:
        return [None] * images
    named = [int(d) for d in donors_of]
    if len(named) != images:
        raise InputError(f"donors_of: expected one for each of {images} images; got {len(named)}.")
    outside = [d for d in named if not 0 <= d < donors]
    if outside:
        raise InputError(
            f"donors_of: expected numbers of donors, 0 to {donors - 1}; got {outside[0]}."
        )
    return named
