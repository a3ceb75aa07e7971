"""``comparison.json``: two audits side by side, and nothing that a page has to compute.

A number that cannot be computed, or must not be shown, is ``None`` beside a reason, never 0.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gradaudit.records import CellState, Interval, Limits, Record

COMPARISON_VERSION = "1.0"

ChangeWord = Literal["better", "worse", "not_shown", "withheld", "not_compared"]

CHANGE_WORDS: dict[ChangeWord, str] = {
    "better": "better",
    "worse": "worse",
    "not_shown": "not shown",
    "withheld": "withheld",
    "not_compared": "not compared",
}

CHANGE_MEANINGS: dict[ChangeWord, str] = {
    "better": "it is shown that the disparity is smaller in size than before (of performance: that the figure is better)",
    "worse": "it is shown that the disparity is larger in size than before (of performance: that the figure is worse)",
    "not_shown": "neither is shown: it may be as before, smaller or larger",
    "withheld": "a group is too small to be shown in one of the two audits",
    "not_compared": "the two audits do not hold the same comparison, for the reason beside it",
}
"""When a comparison has a word; the rule itself is ``series.changes.cells``."""


class AuditSide(Record):
    """One of the two audits: what was audited, and what it found.

    measured : when measuring ended, ISO 8601, UTC
    """

    audit_id: str
    measured: str
    title: str
    model_source: str
    model_digest: str
    data_name: str
    data_digest: str
    n_images: int
    n_clusters: int
    state: str
    state_words: str
    headline: str
    margin: float | None = None


class ImagePairing(Record):
    """Which images and clusters are in both audits.

    n_by_digest : pairs whose files are the same bytes      n_by_name : pairs by name alone, because
        a digest is missing on one side: an exchanged file would not be noticed there
    n_renamed : pairs under another name      n_replaced : one name, another file: no pair
    n_clusters_both : clusters with images in both audits, the same images or others
    n_clusters_joined : clusters that one audit takes as several and the other as one
    """

    n_before: int
    n_after: int
    n_pairs: int
    n_by_digest: int
    n_by_name: int
    n_renamed: int
    n_replaced: int
    n_only_before: int
    n_only_after: int
    n_clusters_before: int
    n_clusters_after: int
    n_clusters_both: int
    n_clusters_joined: int = 0
    renamed: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


class Difference(Record):
    """Something that differs between the two audits; it is told before any number.

    ``consequence``: what therefore is not compared, or how to read the rest ("" where nothing
    follows)
    """

    area: Literal["criteria", "plan", "explanation", "model", "data", "images", "software"]
    name: str
    before: str
    after: str
    consequence: str = ""


class CellChange(Record):
    """One planned comparison in both audits: the difference before and after, and its change.

    comparison : level | pair | trend | line; ``line``: the slope of a number from its 10 % to its
        90 % point (its curve has no difference that could be taken twice)
    adjusted_for : what is held equal, the same in both audits
    before, after : the adjusted difference with its interval, as each audit has it
    change : after - before, with its own interval
    thin : interval of the change that holds for all planned comparisons together; it leaves out 0
        exactly where ``changed``
    p : of no change      p_size : of no change in size      p_adjusted : Holm of ``p_size``
    changed : the difference is shown to be another one; ``word`` needs more: that it is smaller, or
        larger, in size
    group_before, group_after, group_change : mean of the group itself; ``group_word``: better or
        worse by the region's role
    n_before, n_after : clusters of the group, None where they would give a small group away
    """

    attribute: str
    comparison: Literal["level", "pair", "trend", "line"]
    group: str = ""
    reference: str = ""
    region: str = ""
    role: str = ""
    outcome: str = "heat_share"
    word: ChangeWord
    reason: str = ""
    changed: bool = False
    state_before: CellState | None = None
    state_after: CellState | None = None
    margin_before: float | None = None
    margin_after: float | None = None
    adjusted_for: tuple[str, ...] = ()
    before: Interval = Interval()
    after: Interval = Interval()
    change: Interval = Interval()
    thin: Limits = Limits()
    p: float | None = None
    p_size: float | None = None
    p_adjusted: float | None = None
    group_before: float | None = None
    group_after: float | None = None
    group_change: Interval = Interval()
    group_word: ChangeWord | None = None
    reference_before: float | None = None
    reference_after: float | None = None
    n_before: int | None = None
    n_after: int | None = None
    provisional: bool = False
    notes: tuple[str, ...] = ()


class PerformanceChange(Record):
    """One performance figure of one group (or of all images) in both audits, and its change.

    thin : interval of the change that holds for all figures together
    """

    attribute: str
    level: str
    metric: str
    word: ChangeWord
    reason: str = ""
    before: Interval = Interval()
    after: Interval = Interval()
    change: Interval = Interval()
    thin: Limits = Limits()


class ChangeMethod(Record):
    """How changes were tested."""

    alpha: float
    permutations: int
    seed: int
    family: int = Field(description="planned comparisons of both audits, over which Holm is taken")
    family_performance: int
    smallest: float = Field(description="a change that reads as zero is never shown")
    unit: str
    cluster_name: str


class ComparisonDocument(Record):
    """``comparison.json``, the source of truth of every render."""

    schema_version: str = COMPARISON_VERSION
    comparison_id: str
    created: str  # ISO 8601, UTC
    tool_version: str
    title: str
    notices: tuple[str, ...] = ()
    before: AuditSide
    after: AuditSide
    pairing: ImagePairing
    differences: tuple[Difference, ...]
    headline: str
    facts: tuple[str, ...]
    cells: tuple[CellChange, ...]
    performance: tuple[PerformanceChange, ...]
    cannot_tell: tuple[str, ...]
    method: ChangeMethod
    min_cell: int
