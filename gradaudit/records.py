"""The values that travel between packages; frozen, and their types never depend on their content.

A number that cannot be computed is ``None`` (in JSON) or NaN (in tables) beside a reason, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

HEAT_STATUSES = ("ok", "no_positive_evidence", "flat", "non_finite", "not_measured")
"""Status of one heat map; only ``ok`` maps have a defined heat share."""

REASONS: dict[str, str] = {
    "": "measured",
    "not_annotated": "the region is not annotated in this image",
    "empty_mask": "the region is annotated and absent from this image",
    "empty_after_crop": "the region lies outside the part of the image that the network sees",
    "mask_below_cell": "the region is smaller than one cell of the heat map's grid: localisation is not resolved",
    "full_mask": "the region covers the whole image, so ranking metrics have nothing to compare with",
    "no_control": "no place in the image is free for a patch like the region",
    "zero_heat": "the heat map has no positive evidence",
    "flat": "the heat map is the same everywhere",
    "non_finite": "the heat map or the score is not a finite number",
    "unreadable": "the image file cannot be read",
    "truncated": "the image file ends too early",
    "decompression_bomb": "the image has more pixels than the limit",
    "missing_file": "the file does not exist",
    "unreadable_mask": "the mask file cannot be read",
    "missing_mask": "the mask file does not exist",
    "mask_size": "the mask's size does not fit the image",
    "label_unknown": "the label is empty or not a class of the model, and the explained score needs it",
    "out_of_memory": "one image alone does not fit into the device's memory",
    "worker_crash": "the process died on this image every time",
}
"""Reason codes of rows and what they mean, in the report's words."""


class Record(BaseModel):
    """Base of the JSON records: frozen, closed against unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ── manifest ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Problem:
    """One broken rule: how often, where, what was expected, one example, and what to do.

    ``rows`` are line numbers as a text editor shows them (the header is line 1; for Parquet: row 1
    is the first), all of them; printing may shorten the list, never the count.
    """

    rule: str
    message: str
    rows: tuple[int, ...]
    example: str = ""
    fix: str = ""
    column: str = ""

    @property
    def count(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Sample:
    """One row of a checked manifest.

    ``regions`` maps each region column to its cell text; an empty cell (not annotated) is absent
    from the mapping. ``subgroups`` maps each attribute to its level as text; unknown is ``None``.
    """

    index: int
    id: str
    image: str
    label: str | None
    cluster: str
    subgroups: dict[str, str | None] = field(default_factory=dict)
    regions: dict[str, str] = field(default_factory=dict)


# ── measurements ──────────────────────────────────────────────────────────────────────────────────

TABLE_COLUMNS = (
    "image_id", "method", "target", "region", "role", "status", "reason",
    "heat_share", "area_share", "mass_lift", "relevance_rank_accuracy", "pointing_game", "auc",
)  # fmt: skip
"""Leading columns of ``Measurements.table``; ``heat_share`` is the metric relevance_mass_accuracy.
"""

IMAGE_COLUMNS = (
    "image_id",
    "path",
    "label",
    "predicted",
    "probability",
    "correct",
    "cluster",
    "status",
    "reason",
    "digest",
)
"""Columns of ``Measurements.images`` beside ``subgroup.<name>``, ``score`` and
``probability.<class>``.  ``digest``: sha256 of the image file; "" where it could not be read, and
missing in runs of versions that took none.
"""


EFFECT_COLUMNS = (
    "fill", "dose", "tv", "tv_control", "effect", "signed", "logit", "flipped", "flipped_control",
    "area_share", "status", "reason",
)  # fmt: skip
"""Columns of ``region_effects`` beside the numbers n of the image and r of the region."""


# ── findings ──────────────────────────────────────────────────────────────────────────────────────


class CellState(StrEnum):
    """What the data say of one comparison and its declared margin."""

    BEYOND = "beyond"
    WITHIN = "within"
    OPEN = "open"
    WITHHELD = "withheld"
    NOT_ASSESSED = "not_assessed"
    NOT_JUDGED = "not_judged"


STATE_WORDS: dict[CellState, str] = {
    CellState.BEYOND: "beyond the limit",
    CellState.WITHIN: "within the limit",
    CellState.OPEN: "open",
    CellState.WITHHELD: "withheld",
    CellState.NOT_ASSESSED: "not assessed",
    CellState.NOT_JUDGED: "no limit was set",
}

STATE_CONDITIONS: dict[CellState, str] = {
    CellState.BEYOND: "it is shown that the difference is larger than the limit, all planned comparisons taken together",
    CellState.WITHIN: "it is shown that the difference is smaller than the limit, in either direction",
    CellState.OPEN: "neither is shown: the data do not suffice",
    CellState.WITHHELD: "a group is too small to be shown: it counts as open",
    CellState.NOT_ASSESSED: "no number can be given, for the reason beside it: it counts as open",
    CellState.NOT_JUDGED: "no limit was declared: a difference is shown or not, its importance is not judged",
}
"""When a comparison has a state; the rule itself is ``stats.decision.decide``."""

ROLE_WORDS: dict[str, str] = {
    "attend": "should draw heat",
    "avoid": "should not draw heat",
    "neutral": "no expectation",
}


class Interval(Record):
    """An estimate with its interval, in the outcome's own unit (a share, 0 to 1)."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None


class Limits(Record):
    """Two ends of a whisker, in the outcome's own unit."""

    low: float | None = None
    high: float | None = None


class Effect(Record):
    """Effect sizes beside the difference itself."""

    ratio: Interval = Interval()
    standardised_difference: float | None = None
    cliffs_delta: float | None = None


class TestResult(Record):
    """How the p-values of a finding came about."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    name: str = ""
    statistic: float | None = None
    df: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    p_beyond: float | None = None
    p_beyond_adjusted: float | None = None
    p_within: float | None = None
    family: Literal["confirmatory", "exploratory", ""] = ""
    permutations: int | None = None


SLOPES = ("GA102", "GA103", "GA104")


class Finding(Record):
    """One contrast (or trend) of one outcome in one region, with its state and its sentence.

    ``shown``: a difference is shown, whatever its size.  ``thin`` and ``thick``: the whiskers that
    are the words "beyond" and "within"; ``beyond_up_to`` and ``within_from``: the same words at
    every other margin.  ``reservation``: why one that lies within its margin does not count all
    the same.  ``adjusted``: at equal label, and decisive; ``adjusted_predicted``: at equal
    predicted class instead, which stands beside and never decides.  ``mask_tipping``: by how much
    the group's masks would have to be drawn larger (below 0: smaller) for the state to change, as
    a shift of the logit of their area, so that 0.25 is about a quarter more area where the region
    is small; None where no shift between -1 and 1 changes it.  ``folded_under``: anchor of the
    finding that tells the same fact from the other side.  ``stratum``: among whom alone it is,
    which the group's name says too ("V, within malignant").  ``curve``: (x, estimate, low, high)
    of the points of a curve.

    Codes: GA101 heat share, group against reference; GA102 trend over ordered levels; GA103
    continuous attribute; GA104 departure from trend / non-linearity; GA105 pairs of levels; GA111
    undefined heat; GA112 region absent; GA121 secondary metric; GA131 intersection; GA132 not the
    same everywhere.
    """

    code: str
    anchor: str
    question: str
    attribute: str
    group: str
    reference: str
    stratum: str = ""
    region: str = ""
    role: str = ""
    method: str = ""
    target: str = ""
    outcome: str = "heat_share"
    n_images: int = 0
    n_clusters: int = 0
    n_images_reference: int = 0
    n_clusters_reference: int = 0
    mean: Interval = Interval()
    mean_reference: Interval = Interval()
    raw: Interval = Interval()
    adjusted: Interval = Interval()
    adjusted_predicted: Interval = Interval()
    mask_tipping: float | None = None
    se: float | None = None
    effect: Effect = Effect()
    test: TestResult = TestResult()
    margin: float | None = None
    mde80: float | None = None
    state: CellState = CellState.NOT_ASSESSED
    shown: bool = False
    thin: Limits = Limits()
    thick: Limits = Limits()
    beyond_up_to: float | None = None
    within_from: float | None = None
    reservation: str = ""
    folded_under: str = ""
    curve: tuple[tuple[float, float, float, float], ...] = ()
    provisional: bool = False
    adjusted_for: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    sentence: str = ""
    suppressed: bool = False
    n_withheld: bool = (
        False  # the numbers stand, their counts (0 here) do not: they would give a small cell away
    )

    @property
    def is_slope(self) -> bool:
        """Whether it has two ends and no group of its own; everybody counts as the group then."""
        ends = self.reference not in ("", "rest", "additive prediction")
        return ends and (self.code in SLOPES or not (self.n_clusters_reference or self.n_withheld))


CROSS = " × "
"""Between the two levels of a cell."""

ALL = "(all)"
"""Attribute and level of the row over the whole data set."""
DIFFERENCE = "_difference"
"""Suffix of the rows that compare a level with its reference: ``accuracy_difference``."""

OVER_ANALYSED = "over images with a heat share"
"""Reason on rows of a level that was narrowed down to them."""

UNKNOWN = "(unknown)"
"""Level of the images whose attribute is not given."""

OTHER_LABELS = "(other)"
"""Stands for the labels beyond the most frequent ones, taken together."""

STEPS = ("n_manifest", "n_readable", "n_mask_usable", "n_heat_usable", "n_analysed")

Cell = tuple[str, str, str, str, str]
"""attribute, level, region, method, target"""
