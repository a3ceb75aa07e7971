"""How a report names things: attributes, comparisons, regions, targets, and lists of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from gradaudit.number_text import Noun, count, declared_percent
from gradaudit.records import REASONS
from gradaudit.report.blocks import anchor_id, shown_count
from gradaudit.result_schema import ResultDocument

ALL = "(all)"
"""Attribute and level of rows over every image."""

Item = TypeVar("Item")


def plain(name: str) -> str:
    """A name from a manifest or a record without underscores."""
    return "all images" if name == ALL else name.replace("_", " ")


def reason_words(reason: str) -> str:
    """A reason code in words, or "" where there is no code.

    A reason that is in words already is left as it is, as it may name a setting.
    """
    if not reason:
        return ""
    return REASONS.get(reason) or (reason if " " in reason else plain(reason))


def metric_words(name: str) -> str:
    """Head of a column of the performance tables."""
    known = {"auc": "AUC", "ppv": "PPV", "npv": "NPV", "brier": "Brier score"}
    for start, words in (("heat_right:", "right"), ("heat_wrong:", "wrong")):
        if name.startswith(start):
            return f"{name.removeprefix(start)}, {words}"
    base = name.removesuffix("_difference")
    return known.get(base, plain(base).capitalize())


def unique(items: Iterable[Item]) -> tuple[Item, ...]:
    """Each item once, in the order of their first appearance."""
    return tuple(dict.fromkeys(items))


def grouped(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, list[Item]]:
    """Items under their key, keys in the order of their first appearance."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def listed(items: Sequence[str]) -> str:
    return ", ".join(items)


def together(items: Sequence[str]) -> str:
    """ "a, b and c" """
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def grid_words(grid: tuple[int, ...]) -> str:
    return f"a grid of {' × '.join(map(str, grid))} cells" if grid else ""


def size_words(size: tuple[int, ...]) -> str:
    return f"{' × '.join(map(str, size))} pixels (height × width)" if size else ""


def unit_of(document: ResultDocument) -> Noun:
    """The plan's word for images that belong together."""
    return Noun.of(document.data.cluster_name)


def clusters_words(document: ResultDocument) -> str:
    data = document.data
    if data.cluster_declared:
        return unit_of(document).counted(data.n_clusters)
    return "unknown origin: no clusters were declared, so each image counts as independent"


def target_words(target: str) -> str:
    known = {
        "predicted": "the score of the class that the model predicts",
        "label": "the score of the image's own label",
    }
    if target in known:
        return known[target]
    return (
        f"the score of class {target.removeprefix('class:')}"
        if target.startswith("class:")
        else target
    )


def level_words(document: ResultDocument) -> str:
    """Level of the intervals, "95 %"."""
    return declared_percent(1 - document.method.alpha)


NO_REGION = "no region of the image has a heat share"
"""Why an image that is readable and has a heat map is left out all the same."""


def images_words(number: int | None) -> str:
    return f"{shown_count(number, withheld=True)} {'image' if number == 1 else 'images'}"


def without_any_region(document: ResultDocument) -> int | None:
    """The number of readable images with a heat map but no heat share in any region.

    None where a count that it follows from is withheld.
    """
    whole = next((r for r in document.flow if r.attribute == ALL), None)
    counts = [e.count for e in document.exclusions if not e.region]
    if whole is None or whole.n_manifest is None or whole.n_analysed is None or None in counts:
        return None
    return whole.n_manifest - whole.n_analysed - sum(n for n in counts if n is not None)


def left_out_words(document: ResultDocument) -> tuple[str, ...]:
    """Images that take part in no comparison of heat, by reason; said also where there is none."""
    nowhere = without_any_region(document)
    said = [f"{images_words(e.count)}: {e.meaning}" for e in document.exclusions if not e.region]
    if nowhere is None:
        said = said or [
            "No image was left out for its file or its heat map; how many have no heat share in any region is not told."
        ]
    elif nowhere:
        said.append(f"{images_words(nowhere)}: {NO_REGION}")
    return tuple(said) or ("No image was left out.",)


ABSENT = ("empty_mask", "empty_after_crop")
"""Reasons of an image in which the region was looked for and is not there."""


def unmeasured_words(document: ResultDocument) -> tuple[str, ...]:
    """Regions that have no heat share in some images, which are not left out for that."""
    out = []
    for e in document.exclusions:
        if e.region and e.reason in ABSENT:
            shows = "shows" if e.count == 1 else "show"
            out.append(f"{images_words(e.count)} {shows} no {plain(e.region)}")
        elif e.region:
            out.append(f"{e.region}, {images_words(e.count)}: {e.meaning}")
    return tuple(out)


def of_clusters(images: int, clusters: int) -> str:
    """The cell n: images / clusters."""
    return f"{count(images)} / {count(clusters)}"


def find_card(document: ResultDocument, family: str, name: str) -> dict[str, str]:
    """A card of the document, or nothing: older documents hold fewer."""
    return next(
        (card for card in document.method.cards.get(family, ()) if card.get("name") == name), {}
    )


def card_anchor(family: str, name: str) -> str:
    """Id of a card's row in the method section."""
    return anchor_id(f"card {family} {name}")


def link_of_test(document: ResultDocument, name: str) -> str:
    """The link to the card that explains the test of a finding.

    "" where the document has no card of that name.
    """
    card = next(
        (c for c in document.method.cards.get("statistic", ()) if c.get("label") == name), None
    )
    return f"#{card_anchor('statistic', card['name'])}" if card else ""
