"""``Settings``: how one attribute is compared; checked when it is made, then handed on whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradaudit.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one comparison; ``comparison.disparity`` explains each.

    paired : differences are taken within pairs
    pairwise : levels are compared with each other too, besides with their reference
    crossed : levels are cells of two attributes, and their additivity is tested as well
    rest_of_two : "rest" stays the reference where two levels are left, so that what is compared
        does not depend on which levels have usable images
    keep_fit : contrasts keep the fit that they come from (``contrast.Fitted``)
    ends : of a number, between which its slope is quoted; None: its 10 % and 90 % point
    effects : effect sizes beside the difference are wanted too
    attribute, site_name : what reasons call the groups and the sites
    Errors: ``InputError`` for a value out of range.
    """

    reference: str = "rest"
    order: tuple[str, ...] | None = None
    continuous: bool = False
    margin: float | None = None
    alpha: float = 0.05
    permutations: int = 9999
    seed: int = 0
    within: bool | None = None
    family: int | None = None
    unit: Literal["patient", "image"] = "patient"
    weights: Literal["equal", "precision"] = "equal"
    correction: Literal["holm", "max-t"] = "holm"
    omnibus: bool = True
    analytic: bool = False
    paired: bool = False
    crossed: bool = False
    pairwise: bool = False
    rest_of_two: bool = False
    keep_fit: bool = False
    ends: tuple[float, float] | None = None
    effects: bool = True
    attribute: str = "the groups"
    site_name: str = "site"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha lies between 0 and 0.5; got {self.alpha}.")
        if self.margin is not None and not self.margin > 0:
            raise InputError(
                f"The margin is a positive difference in the outcome's unit; got {self.margin}."
            )
        if self.permutations < 99 and not self.analytic:
            raise InputError(f"At least 99 permutations; got {self.permutations}.")
        if self.continuous and self.order is not None:
            raise InputError(
                "An attribute is either continuous or ordered; got both continuous=True and order."
            )
        if self.unit not in ("patient", "image") or self.correction not in ("holm", "max-t"):
            raise InputError(
                "unit is 'patient' or 'image' and correction 'holm' or 'max-t'; "
                f"got {self.unit!r} and {self.correction!r}."
            )
        if self.weights not in ("equal", "precision"):
            raise InputError(f"weights is 'equal' or 'precision'; got {self.weights!r}.")
        if self.weights == "precision" and self.unit == "image":
            raise InputError(
                'unit="image" and weights="precision" exclude each other: image rows are weighted '
                "1/n_patient, so that each patient counts once."
            )
