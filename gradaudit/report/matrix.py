"""The matrix: which comparisons stand on page one, in which order, and how a cell reads.

At most twelve rows and two columns of heat: each attribute's worst group first, then all that lie
beyond their limit, then the next worst.  Everything else stands under Attributes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradaudit.number_text import count, decimal, points, share_interval, share_percent
from gradaudit.records import ALL, DIFFERENCE, CellState
from gradaudit.report.blocks import WITHHELD, anchor_id, fragment_link
from gradaudit.report.comparisons import (
    LEVEL_KINDS,
    Comparison,
    Key,
    anything_compared,
    key_title,
    row_name,
)
from gradaudit.report.figures.intervals import axis, domain_of, mini, value_mini
from gradaudit.report.page_blocks import Matrix, MatrixCell, MatrixColumn, MatrixRow
from gradaudit.report.wording import grouped, unique, unit_of
from gradaudit.result_schema import PerformanceRow, ResultDocument

MOST_ROWS, MOST_COLUMNS, ROOMY_ROWS = 12, 2, 6
MEASURES = {
    "accuracy": ("Right decisions", "accuracy"),
    "auc": ("AUC", "ranking; .50 is chance"),
}
"""The model's own performance, beside the heat: metric -> head and unit of its column."""

RowKey = tuple[str, str, str, str]
Domain = tuple[float, float]


@dataclass(frozen=True)
class MatrixLine:
    """All that is known of one comparison of groups: its cell in every column."""

    attribute: str
    kind: str
    group: str
    reference: str
    cells: Mapping[Key, Comparison]

    @property
    def first(self) -> Comparison:
        return next(iter(self.cells.values()))

    def severity(self, keys: Sequence[Key] = ()) -> tuple[float, float]:
        """Sort key: the worst of its cells, of all or of those in some columns."""
        own = [c for key, c in self.cells.items() if not keys or key in keys]
        return max((c.severity for c in own), default=(0.0, 0.0))

    @property
    def is_beyond(self) -> bool:
        return any(c.state is CellState.BEYOND for c in self.cells.values())


def matrix_lines(comparisons: Sequence[Comparison]) -> list[MatrixLine]:
    """One line for each pair of groups, in the order of the plan."""
    rows: dict[RowKey, dict[Key, Comparison]] = {}
    for c in comparisons:
        slope = c.kind in ("trend", "curve")
        place = (c.attribute, c.kind, *(("", "") if slope else (c.group, c.reference)))
        row = rows.setdefault(place, {})
        if c.key not in row or c.severity > row[c.key].severity:
            row[c.key] = c
    return [MatrixLine(*place, cells) for place, cells in rows.items()]


def columns_of(comparisons: Sequence[Comparison]) -> tuple[list[Key], list[Key]]:
    """The columns of heat on page one, worst first, and the others in which a group is not within.

    A column without any number is shown only where there is no other.
    """
    by_key: dict[Key, list[Comparison]] = {}
    for c in comparisons:
        by_key.setdefault(c.key, []).append(c)
    ranked = sorted(by_key, key=lambda key: _column_rank(by_key[key]))
    loose = [key for key in ranked if not is_all_within(by_key[key])]
    known = [key for key in loose if any(c.has_number for c in by_key[key])]
    first = (known or loose or ranked)[: MOST_COLUMNS if known else 1]
    return first, [key for key in loose if key not in first]


def _column_rank(column: Sequence[Comparison]) -> tuple[float, bool, float]:
    worst = max(c.severity for c in column)
    return -worst[0], column[0].outcome != "heat_share", -worst[1]


def is_all_within(column: Sequence[Comparison]) -> bool:
    return all(c.state is CellState.WITHIN and c.settled for c in column)


def attribute_order(lines: Sequence[MatrixLine]) -> list[str]:
    """Attributes with their worst line first."""
    by_attribute = grouped(lines, lambda line: line.attribute)
    return sorted(
        by_attribute,
        key=lambda name: max(line.severity() for line in by_attribute[name]),
        reverse=True,
    )


def chosen_lines(lines: Sequence[MatrixLine], most: int = MOST_ROWS) -> list[MatrixLine]:
    """The lines of page one: each attribute's worst group, all beyond, then the next worst."""
    by_attribute = grouped(lines, lambda line: line.attribute)
    order = attribute_order(lines)
    chosen = [_worst_line(by_attribute[name]) for name in order]
    ranked = sorted(lines, key=_line_rank)
    chosen += [line for line in ranked if line.is_beyond and line not in chosen]
    chosen += [line for line in ranked if line.kind != "pair" and line not in chosen]
    return chosen[:most]


def _line_rank(line: MatrixLine) -> tuple[float, bool, float]:
    state, size = line.severity()
    return -state, line.kind not in LEVEL_KINDS, -size


def _worst_line(lines: Sequence[MatrixLine]) -> MatrixLine:
    """The worst group of an attribute; a trend or pair only where its state is worse."""
    return min(lines, key=_line_rank)


def in_order(document: ResultDocument, lines: Sequence[MatrixLine]) -> list[list[MatrixLine]]:
    """Lines by attribute, the worst attribute first.

    Within an ordered attribute the levels keep their order, from the worse end; elsewhere the worst
    comes first.  Trends and pairs follow the groups.
    """
    groups = grouped(lines, lambda line: line.attribute)
    facts = {a.name: a for a in document.attributes}
    ordered = []
    for name in attribute_order(lines):
        own, known = groups[name], facts.get(name)
        if known is not None and known.kind == "ordered":
            ordered.append(_from_worse_end(own, known.levels))
        else:
            ranked = sorted(own, key=_line_rank)
            ordered.append(sorted(ranked, key=lambda line: line.kind not in LEVEL_KINDS))
    return ordered


def _from_worse_end(lines: Sequence[MatrixLine], levels: Sequence[str]) -> list[MatrixLine]:
    of_levels = [line for line in lines if line.kind == "level" and line.group in levels]
    of_levels.sort(key=lambda line: levels.index(line.group))
    if of_levels and of_levels[-1].severity() > of_levels[0].severity():
        of_levels.reverse()
    rest = [line for line in lines if line not in of_levels]
    return [*of_levels, *sorted(rest, key=_line_rank)]


# ── cells ─────────────────────────────────────────────────────────────────────────────────────────


def card_anchor_of(c: Comparison) -> str:
    """Id of the card or folded line that tells of an attribute in one column."""
    return anchor_id(f"f {c.attribute} {c.outcome} {c.region}")


def attribute_anchor(name: str) -> str:
    return anchor_id(f"a {name}")


def heat_cell(c: Comparison | None, domain: Domain, *, linked: bool = False) -> MatrixCell:
    """Shape, hidden word, number and mini interval of one comparison."""
    if c is None:
        return MatrixCell(word="not compared", text="–", quiet=True)
    if not c.has_number:
        return MatrixCell(c.look, "", c.word, f": {c.reason}" if c.reason else "", quiet=True)
    return MatrixCell(
        look=c.look,
        word=f"{c.word}:",
        text=c.number,
        after=f"points ({c.span})" if c.span else "points",
        mini=mini(c, domain),
        link=fragment_link(card_anchor_of(c)) if linked else "",
    )


@dataclass(frozen=True)
class PerformanceColumns:
    """Accuracy and AUC of every level, each column on one scale.

    A difference counts as shown where its adjusted p lies below the plan's level.
    """

    document: ResultDocument

    @cached_property
    def by_place(self) -> dict[tuple[str, str, str], PerformanceRow]:
        return {(r.attribute, r.level, r.metric): r for r in self.document.performance}

    def domain(self, metric: str) -> Domain:
        own = [r for r in self.document.performance if r.metric == metric]
        known = [end for r in own for end in (r.low, r.estimate) if end is not None]
        return math.floor(10 * min([0.9, *known]) + 1e-9) / 10, 1.0

    def line(self, metric: str) -> float | None:
        """What a value is read against: chance for AUC, the value over all images else."""
        if metric == "auc":
            return 0.5
        whole = self.by_place.get((ALL, ALL, metric))
        return None if whole is None else whole.estimate

    def differs(self, attribute: str, level: str, metric: str) -> bool:
        row = self.by_place.get((attribute, level, metric + DIFFERENCE))
        p = None if row is None else row.test.p_adjusted
        return p is not None and p < self.document.method.alpha

    def cell(self, line: MatrixLine, metric: str) -> MatrixCell:
        row = self.by_place.get((line.attribute, line.group, metric))
        if line.kind != "level" or row is None:
            return MatrixCell(word="not given", text="–", quiet=True)
        if row.suppressed or row.estimate is None:
            return MatrixCell(text=WITHHELD if row.suppressed else "not given", quiet=True)
        worded = measure_words(metric)
        shown = self.differs(line.attribute, line.group, metric)
        known = row.low is not None and row.high is not None
        ends = (row.low or 0.0, row.high or 0.0) if known else None
        span = share_interval(row.low, row.high, worded)
        return MatrixCell(
            look="differs" if shown else "",
            word="differs, no limit was set:" if shown else "",
            text=worded(row.estimate),
            after=f"({span})" if span else "",
            mini=value_mini(row.estimate, ends, self.domain(metric), self.line(metric)),
        )


def measure_words(metric: str) -> Callable[[float], str]:
    """How a column words its values: "43 %", ".54"."""
    if metric == "auc":
        return lambda value: decimal(value).removeprefix("0")
    return lambda value: share_percent(value, 0)


# ── the whole ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class MatrixMaker:
    """Makes matrices on common scales: a column has one scale in the whole report."""

    document: ResultDocument
    comparisons: Sequence[Comparison]

    @cached_property
    def performance(self) -> PerformanceColumns:
        return PerformanceColumns(self.document)

    @cached_property
    def domains(self) -> dict[Key, Domain]:
        keys = unique(c.key for c in self.comparisons)
        return {key: domain_of([c for c in self.comparisons if c.key == key]) for key in keys}

    def matrix(
        self,
        caption: str,
        groups: Sequence[Sequence[MatrixLine]],
        keys: Sequence[Key],
        *,
        linked: Callable[[Comparison], bool] = lambda c: False,
        first_page: bool = False,
    ) -> Matrix:
        """``linked``: which cells lead to their card; ``first_page``: rows lead to their attribute."""
        lines = [line for group in groups for line in group]
        measures = [m for m in MEASURES if self._is_told(lines, m)]
        wide = len(keys) + len(measures)
        few = 4 if len(keys) < 3 else 3
        columns = [self._heat_column(key, few) for key in keys]
        columns += [self._measure_column(metric, few) for metric in measures]
        rows = tuple(
            tuple(self._row(line, keys, measures, linked, first_page) for line in group)
            for group in groups
        )
        return Matrix(
            caption=caption,
            unit=unit_of(self.document).many.capitalize(),
            columns=tuple(columns),
            groups=rows,
            size="wide" if wide > 4 else "mid" if wide > 3 else "",
            dense=first_page and len(lines) > ROOMY_ROWS,
        )

    def _is_told(self, lines: Sequence[MatrixLine], metric: str) -> bool:
        known = self.performance.by_place
        return any((line.attribute, line.group, metric) in known for line in lines)

    def _heat_column(self, key: Key, few: int) -> MatrixColumn:
        known = any(c.has_number for c in self.comparisons if c.key == key)
        scale = axis(self.domains[key], lambda value: points(value, 0), few) if known else None
        return MatrixColumn(key_title(key), "difference, points", scale)

    def _measure_column(self, metric: str, few: int) -> MatrixColumn:
        title, unit = MEASURES[metric]
        domain = self.performance.domain(metric)

        def worded(value: float) -> str:
            return measure_words(metric)(value) if metric == "auc" else decimal(100 * value, 0)

        return MatrixColumn(title, unit, axis(domain, worded, few - 1))

    def _row(
        self,
        line: MatrixLine,
        keys: Sequence[Key],
        measures: Sequence[str],
        linked: Callable[[Comparison], bool],
        first_page: bool,
    ) -> MatrixRow:
        cells = []
        for key in keys:
            c = line.cells.get(key)
            cells.append(heat_cell(c, self.domains[key], linked=c is not None and linked(c)))
        cells += [self.performance.cell(line, metric) for metric in measures]
        numbers = [line.cells[key].n for key in keys if key in line.cells]
        first = next((n for n in numbers if n is not None), None)
        hidden = any(c.state is CellState.WITHHELD for c in line.cells.values())
        n = count(first) if first is not None else WITHHELD if hidden else "–"
        told = first_page and anything_compared(self.comparisons)
        link = fragment_link(attribute_anchor(line.attribute)) if told else ""
        return MatrixRow(row_name(_named(line)), n, tuple(cells), link)


def _named(line: MatrixLine) -> Comparison:
    """A cell that names the line's groups: of a trend, one that knows its two ends."""
    return next((c for c in line.cells.values() if c.group), line.first)
