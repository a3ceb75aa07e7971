"""The gallery: single images, labelled with why they were picked."""

from __future__ import annotations

from gradaudit.number_text import share_percent
from gradaudit.report.blocks import Block, Paragraph, anchor_id
from gradaudit.report.page_blocks import Gallery, Tile
from gradaudit.report.pictures import PictureStore, decision_words, heat_words
from gradaudit.report.wording import plain, unique
from gradaudit.result_schema import GalleryItem, ResultDocument

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
    tiles = tuple(tile(store, item, n) for n, item in enumerate(document.gallery))
    choices = []
    for a in document.attributes:
        levels = unique(i.levels[a.name] for i in document.gallery if a.name in i.levels)
        choices.append((plain(a.name), tuple((group_value(a.name, v), v) for v in levels)))
    return [Gallery(tiles, tuple(choices))]


def group_value(name: str, level: str) -> str:
    """What the filter of an attribute compares: "skin_tone = V–VI"."""
    return f"{name} = {level}"


def tile(store: PictureStore, item: GalleryItem, number: int) -> Tile:
    region = store.deciding
    groups = ", ".join(f"{plain(name)} {level}" for name, level in item.levels.items())
    chance = f" ({share_percent(item.probability, 0)})" if item.probability is not None else ""
    facts = (
        ("Heat", heat_words(item, region) if region else ""),
        ("Decision", f"{decision_words(item)}{chance}"),
        ("Groups", groups),
        ("Why it is here", "; ".join(plain(reason) for reason in item.picked)),
    )
    first = next(iter(item.levels.values()), "")
    share = item.values.get(region)
    told = share_percent(share, 0) if share is not None else "no share"
    return Tile(
        picture=store.picture(item, region),
        anchor=anchor_id(f"g {number + 1} {item.image_id}"),
        file=item.image_id,
        strong=first,
        text=f"{told} on the {plain(region)}" if region else "",
        verdict=VERDICTS[item.correct],
        groups=tuple(group_value(name, level) for name, level in item.levels.items()),
        facts=tuple(fact for fact in facts if fact[1]),
    )
