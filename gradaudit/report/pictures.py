"""Pictures of the gallery: stored once in the page, and drawn wherever a section shows them.

Only embedded pictures and plain path data pass, as a result file may come from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from gradaudit.number_text import decimal, percent_in_text, share_digits, share_percent
from gradaudit.report.comparisons import read_comparisons, worst_first
from gradaudit.report.figures.heat_maps import heat_overlay
from gradaudit.report.page_blocks import Picture, PictureRow, Six, StoredPicture
from gradaudit.report.wording import plain, unique
from gradaudit.result_schema import GalleryItem, PictureGroup, ResultDocument

IMAGE = re.compile(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+")
OUTLINE = re.compile(r"[MLHVCSQTAZmlhvcsqtaz0-9eE+\-., \n]*")


@dataclass(frozen=True)
class PictureStore:
    """The gallery's images by their number, and the regions whose outlines are drawn."""

    document: ResultDocument

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """The deciding regions first: of the planned cells, else all with a role, else all."""
        decided = unique(c.region for c in self.document.cells if c.region)
        roles = tuple(r.name for r in self.document.regions if r.role != "neutral")
        return decided or roles or tuple(r.name for r in self.document.regions)

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {item.image_id: n for n, item in enumerate(self.document.gallery)}

    @cached_property
    def deciding(self) -> str:
        """The region of the fact on page one, else of the worst planned comparison."""
        told = self.document.verdict.fact_finding
        facts = [f.region for f in self.document.findings if f.anchor == told and f.region]
        worst = [c.region for c in worst_first(read_comparisons(self.document)) if c.planned]
        return next((name for name in (*facts, *worst, *self.regions) if name), "")

    def stored(self) -> tuple[StoredPicture, ...]:
        return tuple(self._stored(n, item) for n, item in enumerate(self.document.gallery))

    def _stored(self, number: int, item: GalleryItem) -> StoredPicture:
        lines = ((n, item.outlines.get(region, "")) for n, region in enumerate(self.regions))
        return StoredPicture(
            number=number,
            width=item.width,
            height=item.height,
            image=item.image if IMAGE.fullmatch(item.image) else "",
            heat=heat_overlay(item.heat, item.width, item.height),
            outlines=tuple((n, whole_pixels(d)) for n, d in lines if d and OUTLINE.fullmatch(d)),
        )

    def picture(self, item: GalleryItem, region: str, lines: Sequence[str] = ()) -> Picture:
        """One image with the outline of a region, and what a reader who does not see it needs."""
        number = self.numbers[item.image_id]
        own = self.regions.index(region) if region in self.regions else None
        path = item.outlines.get(region, "")
        outline = own if path and OUTLINE.fullmatch(path) else None
        return Picture(
            number, item.width, item.height, outline, alt_text(item, region), tuple(lines)
        )

    def six(self, finding: str, title: str, reference: str) -> Six | None:
        """Three images of each side of a finding; None where the document names none."""
        groups = [g for g in self.document.pictures if g.finding == finding]
        sides = sorted(groups, key=lambda g: g.side == "reference")
        rows = [self._row(g, title if g.side == "group" else reference) for g in sides]
        kept = tuple(row for row in rows if row.pictures)
        return Six(kept, _note(sides)) if kept and self.document.images_shown else None

    def _row(self, group: PictureGroup, title: str) -> PictureRow:
        items = {item.image_id: item for item in self.document.gallery}
        known = [items[name] for name in group.images if name in items]
        share = percent_in_text(group.value, share_digits(group.value))
        value = f"{share} of the heat on the {plain(group.region)}"
        pictures = tuple(self.picture(i, group.region, _lines(i, group.region)) for i in known[:3])
        return PictureRow(title, value, pictures)


def whole_pixels(path: str) -> str:
    """A polygon's path with whole numbers, neighbours that fall together said once."""
    if re.search("[^MLZ0-9. ]", path):
        return path
    polygons = []
    for polygon in path.split("Z"):
        places = [
            " ".join(decimal(float(number), 0) for number in place.split())
            for place in re.split("[ML]", polygon)
            if place.strip()
        ]
        kept = [p for n, p in enumerate(places) if not n or p != places[n - 1]]
        polygons += [f"M{'L'.join(kept)}Z"] if kept else []
    return "".join(polygons)


def _lines(item: GalleryItem, region: str) -> tuple[str, ...]:
    share = item.values.get(region)
    told = f"{share_percent(share, 0)} of the heat" if share is not None else ""
    return tuple(filter(None, (told, decision_words(item))))


def decision_words(item: GalleryItem) -> str:
    """ "benign, called malignant" """
    label = item.label or "label unknown"
    return f"{label}, called {item.predicted}" if item.predicted else label


def heat_words(item: GalleryItem, region: str) -> str:
    """The heat share of one image in the deciding region, or why there is none."""
    share = item.values.get(region)
    if share is None:
        return f"no heat share on the {plain(region)}"
    return f"{share_percent(share, 0)} of the heat on the {plain(region)}"


def alt_text(item: GalleryItem, region: str) -> str:
    first = next((f"{plain(name)} {level}" for name, level in item.levels.items()), "")
    told = (first, heat_words(item, region) if region else "", decision_words(item))
    return f"{item.image_id}: {'; '.join(filter(None, told))}"


def _note(groups: Sequence[PictureGroup]) -> str:
    centres = unique(g.centre for g in groups)
    near = centres[0] if len(centres) == 1 else "mean (or median, where the mean is not typical)"
    return (
        "Bright: what raised the score most, on each picture’s own scale. White line: the region. "
        f"The images nearest to each group’s {near}, not the extremes."
    )
