"""The method section: the rule behind the verdicts, and the cards of what was used."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.records import VERDICT_WORDS, Verdict
from gradaudit.report.blocks import MISSING, Block, Cell, Table, columns, row
from gradaudit.report.wording import plain


def verdict_rule() -> Block:
    conditions = {
        Verdict.MATERIAL: "a difference is shown, and its whole interval lies beyond the margin",
        Verdict.SIZE_UNCERTAIN: "a difference is shown, and its interval reaches both beyond and within the margin",
        Verdict.WITHIN_MARGIN: "a difference is shown, and so is that it is smaller than the margin",
        Verdict.EQUIVALENT: "no difference is shown, and it is shown that any difference is smaller than the margin",
        Verdict.INCONCLUSIVE: "neither is shown: the data do not suffice",
        Verdict.NOT_ASSESSED: "too few clusters, or too few that vary: numbers only",
        Verdict.SHOWN: "a difference is shown, and no margin was declared to judge it by",
    }
    rows = tuple(row(Cell(VERDICT_WORDS[v], icon=v.value), text) for v, text in conditions.items())
    return Table("What each verdict means", columns("Verdict", "Condition, after adjustment for multiplicity"), rows)


def card_table(family: str, cards: Sequence[dict[str, str]]) -> Block:
    heads = columns("Name", "What it says", "Formula", "Range", "Source")
    rows = []
    for card in cards:
        about = Cell(card.get("summary") or MISSING, sub=card.get("caveat", ""))
        extent = ", ".join(card[key] for key in ("range", "unit", "direction") if card.get(key))
        name = Cell(card.get("label") or card.get("name", ""), sub=card.get("name", ""))
        rows.append(row(name, about, card.get("formula") or MISSING, extent or MISSING, card.get("source") or MISSING))
    return Table(f"{family[:1].upper()}{plain(family[1:])}", heads, tuple(rows))
