"""The values that travel between rooms; frozen, and their types never depend on their content.

A number that cannot be computed is ``None`` (in JSON) or NaN (in tables) beside a reason, never 0.
``ResultDocument`` is ``result.json``: everything a report shows, and nothing that a report has to compute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = "1"

HEAT_STATUSES = ("ok", "no_positive_evidence", "flat", "non_finite", "not_measured")
"""Status of one heat map; only ``ok`` maps have a defined heat share."""

REASONS: dict[str, str] = {
    "": "measured",
    "not_annotated": "the region is not annotated in this image",
    "empty_mask": "the region is annotated and absent from this image",
    "empty_after_crop": "the region lies outside the part of the image that the network sees",
    "mask_below_cell": "the region is smaller than one cell of the heat map's grid: localisation is not resolved",
    "full_mask": "the region covers the whole image, so ranking metrics have nothing to compare with",
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


# ── manifest ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Problem:
    """One broken rule: how often, where, what was expected, one example, and what to do.

    ``rows`` are line numbers as a text editor shows them (the header is line 1; for Parquet: row 1 is the first),
    all of them; printing may shorten the list, never the count.
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

    ``regions`` maps each region column to its cell text; an empty cell (not annotated) is absent from the mapping.
    ``subgroups`` maps each attribute to its level as text; unknown is ``None``.
    """

    index: int
    id: str
    image: str
    label: str | None
    cluster: str
    subgroups: dict[str, str | None] = field(default_factory=dict)
    regions: dict[str, str] = field(default_factory=dict)


# ── measurements ────────────────────────────────────────────────────────────────────────────────────────────────────

TABLE_COLUMNS = (
    "image_id", "method", "target", "region", "role", "status", "reason",
    "heat_share", "area_share", "mass_lift", "relevance_rank_accuracy", "pointing_game", "auc",
)  # fmt: skip
"""Leading columns of ``Measurements.table``; ``heat_share`` is the metric relevance_mass_accuracy."""

IMAGE_COLUMNS = ("image_id", "path", "label", "predicted", "probability", "correct", "cluster", "status", "reason")
"""Columns of ``Measurements.images`` beside ``subgroup.<name>``, ``score`` and ``probability.<class>``."""


@dataclass(frozen=True)
class Measurements:
    """What was measured: the waist between the torch wing and the table wing.

    ``table``: one row per image x method x target x region (``TABLE_COLUMNS`` first).
    ``images``: one row per manifest row, in manifest order, also for images that could not be read.
    ``maps``: coarse maps for display, or None: columns image_id, kind ("heat" | "region"), name (target | region),
    height, width, values (bytes: float32 heat, uint8 0-255 region coverage).
    ``run``: the run record as a plain dict.  ``folder``: the run folder, or None for an in-memory measurement.
    """

    table: pd.DataFrame
    images: pd.DataFrame
    maps: pd.DataFrame | None = None
    run: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


# ── findings ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Verdict(StrEnum):
    """Verdict of one contrast, from its interval and adjusted p against the declared margin.

    Where a margin was declared: the first five.  Where none was: a disparity is shown or not, and nothing else is said of it.
    """

    MATERIAL = "disparity_material"
    SIZE_UNCERTAIN = "disparity_size_uncertain"
    WITHIN_MARGIN = "disparity_within_margin"
    EQUIVALENT = "equivalent_within_margin"
    INCONCLUSIVE = "inconclusive"
    NOT_ASSESSED = "not_assessed"
    SHOWN = "disparity_shown"  # no margin was declared: a difference is shown, its importance is not judged
    NOT_SHOWN = "disparity_not_shown"  # no margin was declared: no difference is shown, none is excluded


VERDICT_WORDS: dict[Verdict, str] = {
    Verdict.MATERIAL: "disparity shown, material",
    Verdict.SIZE_UNCERTAIN: "disparity shown, size uncertain against the margin",
    Verdict.WITHIN_MARGIN: "real but within the margin",
    Verdict.EQUIVALENT: "equivalent within the margin",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NOT_ASSESSED: "not assessed",
    Verdict.SHOWN: "disparity shown, no limit was set",
    Verdict.NOT_SHOWN: "no disparity shown, no limit was set",
}

VERDICT_CONDITIONS: dict[Verdict, str] = {
    Verdict.MATERIAL: "a difference is shown, and its whole interval lies beyond the margin",
    Verdict.SIZE_UNCERTAIN: "a difference is shown, and its interval reaches both beyond and within the margin",
    Verdict.WITHIN_MARGIN: "a difference is shown, and so is that it is smaller than the margin",
    Verdict.EQUIVALENT: "no difference is shown, and it is shown that any difference is smaller than the margin",
    Verdict.INCONCLUSIVE: "neither is shown: the data do not suffice",
    Verdict.NOT_ASSESSED: "too few clusters, or too few that vary: numbers only",
    Verdict.SHOWN: "a difference is shown, and no margin was declared to judge it by",
    Verdict.NOT_SHOWN: "no difference is shown, and no margin was declared to judge one by",
}
"""When a contrast gets a verdict, after adjustment for multiplicity; the rule itself is ``stats.verdict``."""

ROLE_WORDS: dict[str, str] = {"attend": "should draw heat", "avoid": "should not draw heat", "neutral": "no expectation"}


class Interval(Record):
    """An estimate with its interval, in the outcome's own unit (a share, 0 to 1)."""

    estimate: float | None = None
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
    p_equivalence: float | None = None
    p_equivalence_adjusted: float | None = None
    family: Literal["confirmatory", "exploratory", ""] = ""
    permutations: int | None = None


class Finding(Record):
    """One contrast (or trend) of one outcome in one region, with its verdict and its sentence.

    Codes: GA101 heat share, group against reference; GA102 trend over ordered levels; GA103 continuous attribute;
    GA104 departure from trend / non-linearity; GA111 undefined heat; GA112 region absent; GA121 secondary metric;
    GA131 intersection.
    """

    code: str
    anchor: str
    question: str
    attribute: str
    group: str
    reference: str
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
    se: float | None = None
    effect: Effect = Effect()
    test: TestResult = TestResult()
    margin: float | None = None
    mde80: float | None = None
    clusters_needed: int | None = None
    verdict: Verdict = Verdict.NOT_ASSESSED
    provisional: bool = False
    adjusted_for: tuple[str, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    sentence: str = ""
    suppressed: bool = False
    n_withheld: bool = False  # the numbers stand, their counts (0 here) do not: they would give a small cell away

    @model_validator(mode="before")
    @classmethod
    def _without_a_limit_nothing_is_open(cls, data: Any) -> Any:
        """Documents of earlier versions call a finding without a margin inconclusive: what would have to be concluded was never said."""
        if isinstance(data, dict) and data.get("verdict") == Verdict.INCONCLUSIVE and data.get("margin") is None:
            return {**data, "verdict": Verdict.NOT_SHOWN}
        return data


# ── result.json ─────────────────────────────────────────────────────────────────────────────────────────────────────


class ModelFacts(Record):
    source: str
    digest: str
    layer: str
    layer_reason: str = ""
    grid: tuple[int, ...] = ()
    input_size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    preprocess: dict[str, Any] = {}
    notes: tuple[str, ...] = ()  # what was noticed on loading: user code run, random weights, an output layer taken off


class DataFacts(Record):
    name: str
    digest: str
    n_images: int
    n_clusters: int
    cluster_declared: bool


class RegionFacts(Record):
    name: str
    role: str
    derive: str = ""
    description: str = ""
    n_annotated: int = 0
    n_present: int = 0
    mean_area_share: float | None = None


class AttributeFacts(Record):
    name: str
    kind: Literal["categorical", "ordered", "continuous"]
    levels: tuple[str, ...]
    reference: str
    inferred: bool = False
    within: bool = False
    description: str = ""


class CriteriaFacts(Record):
    margin: float
    undefined_margin: float
    declared_by: str = ""
    declared_on: str = ""
    rationale: str = ""


AuditState = Literal["met", "not_met", "insufficient", "none_declared"]

AUDIT_STATE_WORDS: dict[str, str] = {
    "met": "criteria met",
    "not_met": "criteria not met",
    "insufficient": "insufficient evidence",
    "none_declared": "no criteria declared",
}

AUDIT_STATE_MEANINGS: dict[str, str] = {
    "met": "Every decisive comparison of the heat share shows that the groups differ by less than the declared margin.",
    "not_met": "At least one decisive comparison shows a disparity between groups that goes beyond its declared margin.",
    "insufficient": "The data neither show a disparity beyond the declared margin nor exclude one.",
    "none_declared": "Disparities are described; nobody declared how large one may be, so none is judged.",
}


class AuditVerdict(Record):
    """The verdict of the whole audit: ``sentences`` are generated from findings, 3 to 5 of them, worst first."""

    state: AuditState
    headline: str
    sentences: tuple[str, ...]
    cannot_tell: tuple[str, ...]
    finding_anchors: tuple[str, ...] = ()


class FlowRow(Record):
    """Section 3: how many images of one subgroup came through each step. ``level`` "(unknown)" is a row of its own."""

    attribute: str
    level: str
    n_manifest: int | None
    n_readable: int | None
    n_mask_usable: int | None
    n_heat_usable: int | None
    n_analysed: int | None
    n_clusters: int | None
    label_prevalence: dict[str, float | None] = {}
    area_share: dict[str, float | None] = {}
    mean_confidence: float | None = None
    suppressed: bool = False


class Exclusion(Record):
    """How many images, or pairs of an image and a region, have no heat share, by reason; a pair counts once, under its first cause.

    ``region`` "" : images that are left out: not readable, or readable and without a usable heat map.
    ``region`` named : readable images with a usable heat map and no share in this region, most often because it is absent or not
    annotated.  Such an image is not left out: it takes part for the other regions.  Only where it has a share in none is it left out
    too; those images are n_manifest less n_analysed (flow, all images) less the counts without a region.
    For each region its counts, those without a region, and the images with a share in it add up to n_manifest.
    ``by_level`` : attribute -> level -> count, None where withheld.  ``examples`` : up to three image ids.
    """

    reason: str
    meaning: str
    region: str = ""
    count: int | None
    by_level: dict[str, dict[str, int | None]] = {}
    examples: tuple[str, ...] = ()


class HeatRow(Record):
    """Distribution of the heat share of one region in one subgroup (patient means); ``histogram`` over 20 bins of [0, 1]."""

    attribute: str
    level: str
    region: str
    method: str
    target: str
    n_images: int | None
    n_clusters: int | None
    mean: float | None = None
    sd: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    adjusted_mean: float | None = None
    quantiles: tuple[float | None, ...] = ()  # 5, 25, 50, 75, 95 %
    histogram: tuple[int, ...] = ()
    mean_lift: float | None = None
    pointing_game: float | None = None
    undefined_share: float | None = None
    suppressed: bool = False


class PerformanceRow(Record):
    """One performance figure of the model in one subgroup, with a cluster-aware interval; or its difference to the reference."""

    attribute: str
    level: str
    metric: str  # accuracy, sensitivity, specificity, auc, ...
    estimate: float | None
    low: float | None = None
    high: float | None = None
    n_images: int | None = None
    n_clusters: int | None = None
    reason: str = ""
    suppressed: bool = False
    test: TestResult = TestResult()  # of a difference; of clusters' means, or of their pseudo-values


class MeanMap(Record):
    """Mean of unit-mass heat maps of one subgroup (values >= 0, h x w) and mean coverage of each region (0-1)."""

    attribute: str
    level: str
    n_images: int
    heat: tuple[tuple[float, ...], ...]
    regions: dict[str, tuple[tuple[float, ...], ...]] = {}


class GalleryItem(Record):
    """One image of the gallery. ``outlines``: region -> SVG path data in thumbnail pixels; ``heat``: raw signed grid."""

    image_id: str
    path: str
    picked: tuple[str, ...]  # "random: skin_tone=V-VI", "highest: ruler, skin_tone=V-VI", ...
    levels: dict[str, str]
    label: str
    predicted: str
    probability: float | None
    correct: bool | None
    values: dict[str, float | None]  # region -> heat share
    width: int
    height: int
    image: str  # data:image/jpeg;base64,...
    heat: tuple[tuple[float, ...], ...]
    outlines: dict[str, str] = {}


class MethodFacts(Record):
    """What the method section needs beside the cards: settings of the protocol as they were used."""

    explain_method: str
    explain_target: str
    alpha: float
    permutations: int
    seed: int
    unit: str
    confirmatory_contrasts: int = 0
    exploratory_contrasts: int = 0
    adjusted_for: tuple[str, ...] = ()
    cards: dict[str, tuple[dict[str, str], ...]] = {}  # family -> cards as dicts (name, label, formula, source, function, ...)


class CheckOutcome(Record):
    """A check of the explanation or the data: passed, issue, not_applicable or skipped, always with its reason."""

    code: str
    name: str
    state: Literal["passed", "issue", "not_applicable", "skipped"]
    detail: str


class RunRecord(Record):
    """Reproduction: what ran, on what, with which digests."""

    command: str = ""
    plan_id: str = ""
    digests: dict[str, str] = {}
    versions: dict[str, str] = {}
    device: str = ""
    dtype: str = ""
    seed: int = 0
    started: str = ""
    finished: str = ""
    seconds: float | None = None
    counts: dict[str, int] = {}


class ResultDocument(Record):
    """``result.json``, the source of truth of every render."""

    schema_version: str = SCHEMA_VERSION
    audit_id: str
    created: str  # ISO 8601, UTC
    tool_version: str
    title: str
    auditor: str = ""
    notice: str = ""
    model: ModelFacts
    data: DataFacts
    regions: tuple[RegionFacts, ...]
    attributes: tuple[AttributeFacts, ...]
    criteria: CriteriaFacts | None
    verdict: AuditVerdict
    findings: tuple[Finding, ...]
    flow: tuple[FlowRow, ...]
    exclusions: tuple[Exclusion, ...] = Field(
        description="images without a heat share, and image-region pairs without one in images that are not left out, by reason"
    )
    heat: tuple[HeatRow, ...]
    performance: tuple[PerformanceRow, ...]
    mean_maps: tuple[MeanMap, ...]
    gallery: tuple[GalleryItem, ...]
    checks: tuple[CheckOutcome, ...]
    method: MethodFacts
    limits: tuple[str, ...] = Field(description="limits found in this data, beside the general ones")
    plan: dict[str, Any]
    run: RunRecord
    min_cell: int
    images_shown: bool
