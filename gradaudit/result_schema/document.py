"""``result.json``: everything a report shows, and nothing that a report has to compute.

A number that cannot be computed is ``None`` beside a reason, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from gradaudit.records import CellState, Finding, Record, TestResult
from gradaudit.result_schema.figures import (
    CalibrationCurve,
    DifferenceMap,
    Distribution,
    PictureGroup,
    SizeCurve,
)

SCHEMA_VERSION = "2.0"


# ── result.json ───────────────────────────────────────────────────────────────────────────────────


class ModelFacts(Record):
    source: str
    digest: str
    layer: str
    layer_reason: str = ""
    grid: tuple[int, ...] = ()
    input_size: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    preprocess: dict[str, Any] = {}
    notes: tuple[
        str, ...
    ] = ()  # what was noticed on loading: user code run, random weights, an output layer taken off


class DataFacts(Record):
    name: str
    digest: str
    n_images: int
    n_clusters: int
    cluster_declared: bool
    cluster_name: str = "cluster"  # the plan's word, also "person/people"


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
    min_coverage: float = 0.8
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
    "met": "Every planned comparison shows that the groups differ by less than the declared limit.",
    "not_met": "At least one planned comparison shows a disparity between groups that goes beyond its declared limit.",
    "insufficient": "No disparity beyond the declared limit is shown, and at least one planned comparison is not settled.",
    "none_declared": "Disparities are described; nobody declared how large one may be, so none is judged.",
}


class Question(Record):
    """One of page one's three fixed questions, and its answer from this run."""

    question: str
    answer: str


class AuditVerdict(Record):
    """The verdict of the whole audit: ``sentences`` are generated from findings, 3 to 5 of them,
    worst first.  ``second``: "not the same in every class: ..." where a group's difference lies
    beyond the limit in a part of the patients alone; "" elsewhere.  ``fact``: the plain fact in at
    most 25 words, with both groups' means ("On skin tone V–VI, 43 % of the model's heat map lies on
    the ruler; on other skin tones, 8 %."); ``limit``: what the plan allows, in one sentence.
    ``fact_finding``: anchor of the finding that the fact tells, "" where it tells none.
    """

    state: AuditState
    headline: str
    second: str = ""
    fact: str = ""
    limit: str = ""
    fact_finding: str = ""
    questions: tuple[Question, ...] = ()
    sentences: tuple[str, ...]
    cannot_tell: tuple[str, ...]
    reasons: tuple[str, ...] = ()  # why it is not "met", one per cell that is in the way
    finding_anchors: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The state in words, "criteria met on average; not the same in every class" included."""
        words = AUDIT_STATE_WORDS[self.state]
        if self.state != "met" or not self.second:
            return words
        return f"{words} on average; {self.second.split(':')[0]}"


class PlannedCell(Record):
    """What plan and manifest promised to settle, one attribute x comparison x region x outcome.

    comparison : level | pair | trend | curve; ``group`` and ``reference`` are "" of the last two
    state : see ``records.STATE_CONDITIONS``
    reason : why it is open, withheld or not assessed; of one within its margin, why it does not
        count all the same ("" where it does)
    settled : it lies within its margin, and nothing is left to object: "criteria met" needs every
        cell to be settled
    coverage : smallest share of a side's patients that the numbers rest on
    finding : anchor of the finding with its numbers
    settle : how large its group would have to be, in a sentence; of open cells of heat alone, and
        "" where counts are withheld
    """

    attribute: str
    comparison: Literal["level", "pair", "trend", "curve"]
    group: str = ""
    reference: str = ""
    region: str = ""
    role: str = ""
    outcome: str = "heat_share"
    state: CellState = CellState.NOT_ASSESSED
    reason: str = ""
    settled: bool = False
    estimate: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    margin: float | None = None
    coverage: float | None = None
    provisional: bool = False
    finding: str = ""
    settle: str = ""


class FlowRow(Record):
    """Section 3: how many images of one subgroup came through each step.

    ``level`` "(unknown)" is a row of its own.
    """

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
    """How many images, or pairs of an image and a region, have no heat share, by reason; a pair
    counts once, under its first cause.

    ``region`` "" : images that are left out: not readable, or readable and without a usable heat
    map.
    ``region`` named : readable images with a usable heat map and no share in this region, most
        often because it is absent or not
    annotated.  Such an image is not left out: it takes part for the other regions.  Only where it
    has a share in none is it left out too; those images are n_manifest less n_analysed (flow, all
    images) less the counts without a region. For each region its counts, those without a region,
    and the images with a share in it add up to n_manifest.
    ``by_level`` : attribute -> level -> count, None where withheld.  ``examples`` : up to three
        image ids.
    """

    reason: str
    meaning: str
    region: str = ""
    count: int | None
    by_level: dict[str, dict[str, int | None]] = {}
    examples: tuple[str, ...] = ()


class HeatRow(Record):
    """Distribution of the heat share of one region in one subgroup (patient means); ``histogram``
    over 20 bins of [0, 1].

    ``others``: every other metric of the family -> its mean over patients, None where none has one
    or too few have.
    """

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
    others: dict[str, float | None] = {}
    undefined_share: float | None = None
    suppressed: bool = False


class PerformanceRow(Record):
    """One performance figure of the model in one subgroup, with a cluster-aware interval; or its
    difference to the reference.
    """

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
    test: TestResult = (
        TestResult()
    )  # of a difference; of clusters' means, or of their pseudo-values


class MeanMap(Record):
    """Mean of unit-mass heat maps of one subgroup (values >= 0, h x w) and mean coverage of each
    region (0-1).
    """

    attribute: str
    level: str
    n_images: int
    heat: tuple[tuple[float, ...], ...]
    regions: dict[str, tuple[tuple[float, ...], ...]] = {}


class GalleryItem(Record):
    """One image of the gallery. ``outlines``: region -> SVG path data in thumbnail pixels;
    ``heat``: raw signed grid.
    """

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
    cards: dict[
        str, tuple[dict[str, str], ...]
    ] = {}  # family -> cards as dicts (name, label, formula, source, function, ...)


class CheckOutcome(Record):
    """A check of the explanation or the data: passed, issue, not_applicable or skipped, always with
    its reason.
    """

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


@dataclass(frozen=True)
class Tables:
    """The tables of a result that are not findings, named as the fields of the document."""

    regions: tuple[RegionFacts, ...] = ()
    attributes: tuple[AttributeFacts, ...] = ()
    flow: tuple[FlowRow, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    heat: tuple[HeatRow, ...] = ()
    performance: tuple[PerformanceRow, ...] = ()
    mean_maps: tuple[MeanMap, ...] = ()
    calibration: tuple[CalibrationCurve, ...] = ()
    size_curves: tuple[SizeCurve, ...] = ()
    checks: tuple[CheckOutcome, ...] = ()
    limits: tuple[str, ...] = ()


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
    cells: tuple[PlannedCell, ...] = ()
    findings: tuple[Finding, ...]
    flow: tuple[FlowRow, ...]
    exclusions: tuple[Exclusion, ...] = Field(
        description="images without a heat share, and image-region pairs without one in images that are not left out, by reason"
    )
    heat: tuple[HeatRow, ...]
    performance: tuple[PerformanceRow, ...]
    mean_maps: tuple[MeanMap, ...]
    gallery: tuple[GalleryItem, ...]
    pictures: tuple[PictureGroup, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    difference_maps: tuple[DifferenceMap, ...] = ()
    calibration: tuple[CalibrationCurve, ...] = ()
    size_curves: tuple[SizeCurve, ...] = ()
    checks: tuple[CheckOutcome, ...]
    method: MethodFacts
    limits: tuple[str, ...] = Field(
        description="limits found in this data, beside the general ones"
    )
    plan: dict[str, Any]
    run: RunRecord
    min_cell: int
    images_shown: bool
