"""The comparisons of an audit as the page shows them: one look, one number and one line each.

Everything on the page that tells of a comparison (matrix, cards, folded lines, tables) starts from
``read_comparisons``, so shape, word and whisker cannot say different things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gradaudit.number_text import interval, points, points_on_its_side
from gradaudit.outcomes import outcome
from gradaudit.records import CellState, Finding, Interval, Limits
from gradaudit.report.wording import plain, reason_words
from gradaudit.result_schema import PlannedCell, ResultDocument

LOOKS: dict[str, str] = {
    "beyond": "beyond the limit",
    "open": "open",
    "within": "within the limit",
    "loose": "within the limit, not settled",
    "withheld": "withheld",
    "not_assessed": "not assessed",
    "differs": "differs (no limit was set)",
    "same": "no difference shown (no limit was set)",
}
"""Look of a comparison -> its word; every look has a shape of its own (icons.html)."""

SEVERITY = {
    CellState.BEYOND: 5,
    CellState.OPEN: 4,
    CellState.NOT_ASSESSED: 3,
    CellState.WITHHELD: 2,
    CellState.WITHIN: 1,
    CellState.NOT_JUDGED: 1,
}
LEVEL_KINDS = ("level", "curve")
"""Comparisons that tell of a group by itself; trends and pairs tell of several at once."""
DESCRIBED = {"GA101": "level", "GA102": "trend", "GA103": "curve", "GA105": "pair"}

Key = tuple[str, str]
"""Outcome and region: a column of the matrix."""
Ends = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """One comparison of one outcome in one region, planned or described beside the plan.

    kind : level | pair | trend | curve
    thin, thick : the whiskers; where no limit was set, ``thin`` is the interval and there is no
        thick one
    n : clusters of the group (of a trend or curve, all), None where they are withheld or unknown
    planned : one of the planned cells; else described, and it never decides
    """

    attribute: str
    kind: str
    group: str
    reference: str
    outcome: str
    region: str
    state: CellState
    shown: bool = False
    estimate: float | None = None
    raw: float | None = None
    thin: Ends | None = None
    thick: Ends | None = None
    margin: float | None = None
    n: int | None = None
    planned: bool = True
    settled: bool = False
    provisional: bool = False
    coverage: float | None = None
    reason: str = ""
    settle: str = ""
    anchor: str = ""
    finding: Finding | None = None

    @property
    def key(self) -> Key:
        return self.outcome, self.region

    @property
    def look(self) -> str:
        if self.state is CellState.WITHIN:
            return "within" if self.settled else "loose"
        if self.state is not CellState.NOT_JUDGED:
            return self.state.value
        return "differs" if self.shown else "same"

    @property
    def word(self) -> str:
        return LOOKS[self.look]

    @property
    def ends(self) -> Ends | None:
        """The whisker that decides the word: the thick one of "within", else the thin one."""
        return self.thick if self.state is CellState.WITHIN and self.thick else self.thin

    @property
    def has_number(self) -> bool:
        return self.estimate is not None

    @property
    def size(self) -> float:
        """Size of the difference, in units of its margin where there is one."""
        return abs(self.estimate or 0.0) / (self.margin or 1.0)

    @property
    def severity(self) -> tuple[float, float]:
        """Sort key: the worst state first, in it the largest difference."""
        loose = self.state is CellState.WITHIN and not self.settled
        shown = self.state is CellState.NOT_JUDGED and self.shown
        return SEVERITY[self.state] + 0.5 * (loose or shown), self.size

    @property
    def number(self) -> str:
        """ "+36": whole points."""
        return points(self.estimate, 0)

    @property
    def span(self) -> str:
        """ "32 to 40": the whisker that decides, each end on its side of the limit."""
        if self.ends is None:
            return ""

        def worded(value: float) -> str:
            return points_on_its_side(value, self.margin, signed=False)

        return interval(*self.ends, worded)

    @property
    def in_brackets(self) -> str:
        return f"{self.number} points ({self.span})" if self.span else f"{self.number} points"


@dataclass(frozen=True)
class RowName:
    """Who is compared, in three parts: attribute, group, and what it is held against."""

    attribute: str
    group: str
    against: str = ""

    @property
    def text(self) -> str:
        return " ".join(filter(None, (self.attribute, self.group, self.against)))


def row_name(c: Comparison) -> RowName:
    """ "skin tone", "V–VI", "against I–II"; nothing is added for a group against all others."""
    name = plain(c.attribute)
    if c.kind == "trend":
        ends = f"from {c.reference} to {c.group}" if c.group else "from first to last"
        return RowName(name, ends)
    if c.kind == "curve":
        ends = f", {c.reference} to {c.group}" if c.group and c.reference else ""
        return RowName(name, f"largest difference{ends}")
    held = "" if c.reference in ("rest", "") else f"against {c.reference}"
    return RowName(name, c.group, held)


def key_title(key: Key) -> str:
    """Head of a column: "Heat on the ruler", "Images without a heat map"."""
    name, region = key
    if name == "heat_share":
        return f"Heat on the {plain(region)}"
    if name == "undefined":
        return "Images without a heat map"
    title = outcome(name).title
    return f"{title[:1].upper()}{title[1:]}" + (f", {plain(region)}" if region else "")


def key_words(key: Key) -> str:
    """A column inside a sentence: "heat on the ruler"."""
    title = key_title(key)
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def read_comparisons(document: ResultDocument) -> tuple[Comparison, ...]:
    """The planned comparisons in the order of the plan, then those that are described beside it."""
    found = _by_place(document.findings)
    planned = [_of_cell(cell, found) for cell in document.cells]
    told = {id(c.finding) for c in planned if c.finding is not None}
    names = (document.method.explain_method, document.method.explain_target)
    own = any((f.method, f.target) == names for f in document.findings)
    rest = [
        _of_finding(f)
        for f in document.findings
        if f.code in DESCRIBED
        and id(f) not in told
        and f.outcome == "heat_share"
        and (not own or (f.method, f.target) == names)
        and not (f.suppressed and _is_planned(f, document.cells))
    ]
    return (*planned, *rest)


def _is_planned(f: Finding, cells: Sequence[PlannedCell]) -> bool:
    """Whether a withheld finding is that of a planned cell, which does not name it."""
    return any((c.attribute, c.region) == (f.attribute, f.region) for c in cells)


def _by_place(findings: Sequence[Finding]) -> Mapping[tuple[str, str], Finding]:
    """Findings by anchor and group, and by their anchor alone, where the first one counts."""
    found: dict[tuple[str, str], Finding] = {}
    for f in findings:
        found.setdefault((f.anchor, f.group), f)
        found.setdefault((f.anchor, ""), f)
    return found


def _of_cell(cell: PlannedCell, found: Mapping[tuple[str, str], Finding]) -> Comparison:
    f = found.get((cell.finding, cell.group)) or found.get((cell.finding, ""))
    base = Comparison(
        attribute=cell.attribute,
        kind=cell.comparison,
        group=cell.group,
        reference=cell.reference,
        outcome=cell.outcome,
        region=cell.region,
        state=cell.state,
        margin=cell.margin,
        settled=cell.settled,
        provisional=cell.provisional,
        coverage=cell.coverage,
        reason=reason_words(cell.reason),
        settle=cell.settle,
        anchor=cell.finding,
    )
    if cell.state is CellState.WITHHELD or f is None or f.suppressed:
        return base
    if cell.state is CellState.NOT_ASSESSED:
        return replace(
            base, finding=f, n=None if f.n_withheld or not f.n_clusters else f.n_clusters
        )
    interval_of_cell = Interval(estimate=cell.estimate, low=cell.ci_low, high=cell.ci_high)
    return _with_numbers(base, f, interval_of_cell)


def _of_finding(f: Finding) -> Comparison:
    base = Comparison(
        attribute=f.attribute,
        kind="curve" if f.curve else DESCRIBED[f.code],
        group=f.group,
        reference=f.reference,
        outcome=f.outcome,
        region=f.region,
        state=f.state,
        margin=f.margin,
        settled=f.state is CellState.WITHIN and not (f.reservation or f.provisional),
        provisional=f.provisional,
        reason=reason_words(f.reason),
        anchor=f.anchor,
        planned=False,
    )
    if f.suppressed or f.state in (CellState.WITHHELD, CellState.NOT_ASSESSED):
        return base
    return _with_numbers(base, f, f.adjusted if f.adjusted.estimate is not None else f.raw)


def _with_numbers(base: Comparison, f: Finding, decisive: Interval) -> Comparison:
    """The comparison with the numbers of its finding, none of which is hidden."""
    slope = base.kind in ("trend", "curve")
    thin, thick = _pair(f.thin), _pair(f.thick)
    limited = base.margin is not None
    alone = _pair(Limits(low=decisive.low, high=decisive.high))
    values = vars(base) | {
        "group": base.group or (f.group if slope else ""),
        "reference": base.reference or (f.reference if slope else ""),
        "shown": f.shown,
        "estimate": decisive.estimate,
        "raw": f.raw.estimate,
        "thin": thin if limited and thin else alone,
        "thick": thick if limited else None,
        "n": None if f.n_withheld or not f.n_clusters else f.n_clusters,
        "finding": f,
    }
    return Comparison(**values)


def _pair(limits: Limits) -> Ends | None:
    if limits.low is None or limits.high is None:
        return None
    return limits.low, limits.high


def anything_compared(comparisons: Sequence[Comparison]) -> bool:
    """Whether any comparison of heat has a number; that no map is undefined compares no heat."""
    heat = [c for c in comparisons if c.outcome == "heat_share"]
    return any(c.has_number for c in heat or comparisons)


def worst_first(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The worst state first; in it groups before trends and pairs, and the largest difference."""
    return sorted(
        comparisons,
        key=lambda c: (-c.severity[0], c.kind not in LEVEL_KINDS, -c.severity[1]),
    )


def largest_words(c: Comparison) -> str:
    """ "largest −2 points (−6 to 2)" """
    return f"largest {c.in_brackets}" if c.has_number else ""
