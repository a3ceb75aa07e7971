"""Intersections: where two attributes meet, as one table of mean shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradaudit.number_text import count, share_percent
from gradaudit.records import ALL, CROSS, CellState, Finding
from gradaudit.report.blocks import WITHHELD, Block
from gradaudit.report.page_blocks import HeatCell, HeatRowOfCells, HeatTable
from gradaudit.report.pictures import PictureStore
from gradaudit.report.wording import plain, unique
from gradaudit.result_schema import ResultDocument

STEP, MOST_STEPS = 0.05, 6
CODE = "GA131"
Place = tuple[str, str, str]
"""The other attribute, its level, and the level of the attribute whose levels are the columns."""


def intersection_blocks(document: ResultDocument, leading: Sequence[str]) -> list[Block]:
    """``leading``: attributes, that with the worst finding first."""
    region = PictureStore(document).deciding
    crossed = [f for f in document.findings if f.code == CODE and f.region == region]
    names = unique(name for f in crossed for name in f.attribute.split(CROSS))
    first = next((name for name in leading if name in names), "")
    facts = next((a for a in document.attributes if a.name == first), None)
    if facts is None:
        return []
    means = _by_place(crossed, first, "rest")
    departures = _by_place(crossed, first, "additive prediction")
    base = next((h.mean for h in document.heat if (h.attribute, h.region) == (ALL, region)), None)
    rows = []
    for other in document.attributes:
        for level in other.levels:
            places = [(other.name, level, column) for column in facts.levels]
            if any(place in means for place in places):
                cells = tuple(_cell(means.get(p), departures.get(p), base) for p in places)
                rows.append(HeatRowOfCells(plain(other.name), level, cells))
    if not rows:
        return []
    departing = sum(f.shown for f in departures.values() if not f.suppressed)
    return [
        HeatTable(
            caption=f"Heat on the {plain(region)}",
            subtitle=f"mean over all images {share_percent(base, 0)}" if base is not None else "",
            attribute=plain(first),
            columns=facts.levels,
            rows=tuple(rows),
            note=_note(departing, len(departures)),
        )
    ]


def _by_place(crossed: Sequence[Finding], first: str, reference: str) -> Mapping[Place, Finding]:
    found: dict[Place, Finding] = {}
    for f in crossed:
        names, levels = f.attribute.split(CROSS), f.group.split(CROSS)
        if f.reference != reference or len(names) != 2 or len(levels) != 2 or first not in names:
            continue
        own = names.index(first)
        found[(names[1 - own], levels[1 - own], levels[own])] = f
    return found


def _cell(f: Finding | None, departure: Finding | None, base: float | None) -> HeatCell:
    if f is None:
        return HeatCell("–", hidden="no images, or too few to compare")
    if f.suppressed or f.state is CellState.WITHHELD:
        return HeatCell(WITHHELD)
    if f.mean.estimate is None:
        return HeatCell("–", hidden="too few to compare")
    value = f.mean.estimate
    steps = 0 if base is None else int((value - base) / STEP)
    departs = departure is not None and departure.shown and not departure.suppressed
    return HeatCell(
        share_percent(value, 0),
        max(-MOST_STEPS, min(MOST_STEPS, steps)),
        departs,
        "departs from what the two attributes add up to" if departs else "",
    )


def _note(departing: int, tested: int) -> str:
    colour = "Colour: steps of 5 points above or below the mean of all images."
    if not tested:
        return colour
    if not departing:
        return f"{colour} No pair is shown to depart from what its two attributes add up to."
    return (
        f"{colour} Triangle: {count(departing)} of {count(tested)} pairs depart from what their two "
        "attributes add up to; a signal, not a verdict."
    )
