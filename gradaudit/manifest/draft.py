"""A manifest while it is checked: cells as text, the plan, and look-ups that checks share."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradaudit.manifest.rules import as_problem
from gradaudit.manifest.table_formats import Columns, as_number
from gradaudit.number_text import count
from gradaudit.plan import Plan
from gradaudit.records import Problem

PARTS = ("image", "label", "cluster", "id")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\ufeff\ufffd]")


@dataclass(frozen=True)
class ManifestDraft:
    """A table that is not a manifest yet.

    raw : the columns as they stand in the file
    table : gradaudit's own columns; "" is unknown
    unfilled : columns for which the plan names a source that does not exist. That is reported once,
        and the other checks leave these columns alone
    """

    path: Path
    plan: Plan
    raw: Columns
    table: Columns
    lines: Sequence[int]
    unfilled: frozenset[str] = frozenset()

    @property
    def root(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.parent

    def names(self, prefix: str) -> list[str]:
        """Columns with a prefix such as "subgroup.", without it."""
        return [column.removeprefix(prefix) for column in self.table if column.startswith(prefix)]

    def problem(
        self, rule: str, where: Sequence[int], column: str, remark: str = "", **facts: object
    ) -> Problem:
        """A problem of the cells ``where`` (positions) of ``column``, the first as example."""
        cell = self.table[column][where[0]] if column in self.table else ""
        shown = repr(cell if len(cell) <= 80 else cell[:77] + "...")
        example = f"row {self.lines[where[0]]}: {shown}" + (f" ({remark})" if remark else "")
        return as_problem(
            rule, (self.lines[i] for i in where), column, example, root=self.root, **facts
        )


def repeated_cells(cells: Mapping[int, str]) -> list[list[int]]:
    """Groups of positions whose cells are equal; cells that occur once are left out."""
    if len(set(cells.values())) == len(cells):
        return []
    same: dict[str, list[int]] = defaultdict(list)
    for i, cell in cells.items():
        same[cell].append(i)
    return [rows for rows in same.values() if len(rows) > 1]


def spellings_of(draft: ManifestDraft, column: str) -> Iterator[Problem]:
    """Levels that differ only in letter case, spaces, dashes or number format.

    The rows of the problem are those of the rarer spellings.
    """
    counts = Counter(cell for cell in draft.table.get(column, []) if cell)
    same: dict[str, list[str]] = defaultdict(list)
    for cell, _ in counts.most_common():
        same[plain_spelling(cell)].append(cell)
    rarer = {cell for cells in same.values() for cell in cells[1:]}
    rows = [i for i, cell in enumerate(draft.table.get(column, [])) if cell in rarer]
    if rows:
        found = same[plain_spelling(draft.table[column][rows[0]])]
        remark = ", ".join(
            f"{cell!r} in {count(counts[cell])} row{'s' * (counts[cell] != 1)}" for cell in found
        )
        yield draft.problem(
            "level_spellings", rows, column, remark, name=column.partition(".")[2] or "..."
        )


def plain_spelling(cell: str) -> str:
    """The cell without differences of letter case, spaces, dashes or number format."""
    number = as_number(cell)
    if number is not None:
        return str(number)
    return re.sub(r"[\s_\-\u2010-\u2015]+", " ", unicodedata.normalize("NFKC", cell).casefold())
