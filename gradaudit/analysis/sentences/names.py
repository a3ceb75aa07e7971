"""Who is compared with whom, where, and on how many: the parts that every sentence is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradaudit.number_text import Noun, count
from gradaudit.outcomes import outcome
from gradaudit.records import CROSS, Finding

REST = "all others"
ADDITIVE = "additive prediction"


def attribute_words(name: str) -> str:
    """ "skin tone" of the column skin_tone, "ITA angle" of ITA_angle; to stand inside a sentence."""
    return uncapital(name.replace("_", " "))


def uncapital(text: str) -> str:
    """The words as they stand inside a sentence; abbreviations keep their capitals."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def capital(text: str) -> str:
    """The words as they begin a sentence."""
    return text[:1].upper() + text[1:]


def group_words(f: Finding) -> str:
    """ "skin tone V–VI"; of a cell "sex male and site head"; of a slope or curve its upper end."""
    if f.is_slope:
        return f"{attribute_words(f.attribute)} {upper_end(f)}"
    names, levels = f.attribute.split(CROSS), own_level(f).split(CROSS)
    if len(names) != len(levels):
        return f"{attribute_words(f.attribute)} {own_level(f)}"
    both = zip(names, levels, strict=True)
    return " and ".join(f"{attribute_words(name)} {level}" for name, level in both)


def reference_words(f: Finding) -> str:
    """ "all others", "I–II"; of a slope or curve its lower end."""
    if f.is_slope:
        return end_words(f.reference)
    return rest_words(f.reference)


def upper_end(f: Finding) -> str:
    """Of a slope or curve the end that is called the group."""
    return end_words(own_level(f))


def own_level(f: Finding) -> str:
    """The group's level; among whom alone it is, is said at the start of the sentence."""
    return f.group.removesuffix(f", within {f.stratum}") if f.stratum else f.group


def rest_words(reference: str) -> str:
    """A reference level, or "all others"."""
    return REST if reference == "rest" else reference


def end_words(name: str) -> str:
    """ "P90 (72)" as "72 (90th percentile)", and levels as they are."""
    found = re.fullmatch(r"P([\d.]+)(?: \((.*)\))?", name)
    if not found:
        return name
    return f"{found[2]} ({found[1]}th percentile)" if found[2] else f"the {found[1]}th percentile"


def subject_words(f: Finding) -> str:
    """ "skin tone V–VI against all others"; of a slope "age, from 31 (…) to 72 (…)"."""
    if f.is_slope and f.group != f.reference:
        ends = f"from {end_words(f.reference)} to {upper_end(f)}"
        return f"{attribute_words(f.attribute)}, {ends}"
    if not f.reference or f.reference in (ADDITIVE, f.group):
        return group_words(f)
    return f"{group_words(f)} against {reference_words(f)}"


def place_words(f: Finding) -> str:
    """ ", heat share on the ruler", to follow the subject; "" where there is no region."""
    return outcome(f.outcome).place_words(f.region)


def n_words(f: Finding, unit: Noun) -> str:
    """ "n = 212 and 1 480 images of 1 200 patients": the group, and what it is compared with."""
    if f.n_withheld:
        return "n withheld"
    sides = [_side(f.n_images, f.n_clusters, unit)]
    if f.n_images_reference:
        sides.append(_side(f.n_images_reference, f.n_clusters_reference, unit))
    return f"n = {' and '.join(sides)}"


def _side(images: int, clusters: int, unit: Noun) -> str:
    if images == clusters:
        return count(images)
    return f"{count(images)} images of {unit.counted(clusters)}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def together(parts: Sequence[str]) -> str:
    """ "a, b and c" """
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))
