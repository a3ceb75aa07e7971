"""The gallery: single images, labelled with why they were picked."""

from __future__ import annotations

from gradaudit.number_text import share_percent
from gradaudit.report.blocks import Block, Paragraph, anchor_id
from gradaudit.report.page_blocks import Gallery, Tile
from gradaudit.report.pictures import PictureStore, decision_words, heat_words
from gradaudit.report.wording import plain, unique
from gradaudit.result_schema import GalleryItem, ResultDocument

FIRST = 24
"""Tiles that are seen at once; where nothing was compared, all are folded."""
WITHHELD_IMAGES = (
    "The plan withholds images: this report holds no picture of any person or object, not even "
    "reduced."
)
VERDICTS = {True: "right", False: "wrong", None: "not judged"}


def gallery_blocks(document: ResultDocument) -> list[Block]:
    """Tiles, twenty-four at first, and the choices of the filters."""
    if not document.images_shown:
        return [Paragraph(WITHHELD_IMAGES)]
    if not document.gallery:
        return []
    store = PictureStore(document)
    numbers = group_numbers(document)
    tiles = tuple(tile(store, item, n, numbers) for n, item in enumerate(document.gallery))
    choices = []
    for name in unique(name for name, _ in numbers):
        levels = tuple((number, level) for (own, level), number in numbers.items() if own == name)
        choices.append((plain(name), levels))
    shares = [c for c in document.cells if c.outcome == "heat_share"]
    compared = not shares or any(c.estimate is not None for c in shares)
    return [Gallery(tiles, tuple(choices), first=FIRST if compared else 0)]


def group_numbers(document: ResultDocument) -> dict[tuple[str, str], str]:
    """A short mark for every group that an image of the gallery belongs to: "0-2"."""
    numbers: dict[tuple[str, str], str] = {}
    names = unique(name for item in document.gallery for name in item.levels)
    for n, name in enumerate(names):
        levels = unique(i.levels[name] for i in document.gallery if name in i.levels)
        numbers |= {(name, level): f"{n}-{k}" for k, level in enumerate(levels)}
    return numbers


def tile(
    store: PictureStore, item: GalleryItem, number: int, numbers: dict[tuple[str, str], str]
) -> Tile:
    region = store.deciding
    chance = f" ({share_percent(item.probability, 0)})" if item.probability is not None else ""
    share = item.values.get(region)
    told = share_percent(share, 0) if share is not None else "no share"
    return Tile(
        picture=store.picture(item, region),
        anchor=anchor_id(f"g {number + 1} {item.image_id}"),
        file=item.image_id,
        strong=next(iter(item.levels.values()), ""),
        text=f"{told} on the {plain(region)}" if region else "",
        verdict=VERDICTS[item.correct],
        groups=" ".join(numbers[place] for place in item.levels.items()),
        heat=heat_words(item, region) if region else "",
        decision=f"{decision_words(item)}{chance}",
        why="; ".join(plain(reason) for reason in item.picked),
    )
