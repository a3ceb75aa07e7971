"""A starting plan for an existing table, guessed from names, values and files near it."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path

from gradaudit.manifest.column_words import (
    ATTEND_WORD,
    AVOID_WORD,
    COLUMN_WORDS,
    GROUP_WORD,
    MASK_SUFFIXES,
    MASK_WORD,
    NOT_GROUPS,
    ORDER_WORD,
)
from gradaudit.manifest.file_paths import IMAGE_TYPES, file_names
from gradaudit.manifest.rules import as_problem, manifest_error
from gradaudit.manifest.table_formats import (
    DOUBTFUL_WORDS,
    Columns,
    as_number,
    known_text,
    read_table,
)
from gradaudit.number_text import count, plain_number
from gradaudit.plan import build_plan, toml_key, toml_value
from gradaudit.records import Problem
from gradaudit.regions.text import MASK_TYPES, RegionTextError, is_url, parse_region

FEW_LEVELS, TRIED_ROWS, FOLDERS_TRIED = 12, 40, 50

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\ufeff\ufffd]")


def suggest_plan(path: str | Path) -> str:
    """A plan (TOML) for a table, in which a comment gives the reason for every guess.

    The guesses rest on the table's columns, their values and the files near it.

    Errors: ``ManifestError`` where the table cannot be read or has no rows.
    """
    path = Path(path)
    problems: list[Problem] = []
    raw, lines, _ = read_table(path, problems)
    if not raw or not lines:
        raise manifest_error(path, problems or [as_problem("no_rows")])
    raw = {name: [known_text(cell.strip()) for cell in cells] for name, cells in raw.items()}
    used: set[str] = set()
    columns, masks = _guess_files(raw, path.resolve().parent, used)
    drawn = _guess_region_columns(raw, path.resolve().parent, used)
    columns += _guess_parts(raw, used)
    groups, settings = _guess_subgroups(raw, used)
    regions = _guess_regions(
        [name.removeprefix("region.") for name in raw if name.startswith("region.")]
        + [*drawn, *masks]
    )
    shown_name = _CONTROL.sub("?", path.name)
    text = [
        f"# A starting plan for {shown_name} ({count(len(lines))} rows, {len(raw)} columns). Each guess says why: check every line, above all",
        "# the cluster (what may be taken as independent) and the roles of the regions.",
        *_section("columns", columns),
        *_section("columns.subgroups", groups),
        *_section("columns.regions", list(drawn.values())),
        *_section("columns.region_templates", list(masks.values())),
        *settings,
        *regions,
        _PLAN_END,
    ]
    build_plan(tomllib.loads("\n".join(text)), origin="the suggested plan")
    return "\n".join(text)


_NO_REGIONS = """\
# No masks were found. Regions come from columns (region.lesion = path, box, polygon or RLE), from [columns.region_templates]
# (lesion = "masks/{image_id}.png"), or from nothing but the image:
# [regions.border]
# derive = "frame(0.1)"
# role = "avoid"
"""
_PLAN_END = """
# [model]
# source = "torchvision:resnet50"        # or timm:NAME, factory:file.py:function
# classes = ["benign", "malignant"]      # in the order of the network's outputs

# [criteria]                             # without it the report estimates and judges nothing
# margin = 0.05                          # largest disparity in heat share held to be immaterial
# undefined_margin = 0.10                # the same of the share of images without any heat
# min_coverage = 0.80                    # "met" needs this share of each group's patients seen
# declared_by = "..."
# declared_on = 2026-01-31
# rationale = "..."
"""


def _section(name: str, entries: Sequence[str]) -> list[str]:
    """A table of the plan; commented out as a whole where every entry is a comment."""
    title = f"[{name}]" if any(not entry.startswith("#") for entry in entries) else f"# [{name}]"
    return ["", title, *entries] if entries else []


def _entry(key: str, value: str | Sequence[str], why: str) -> str:
    return f"{toml_key(key)} = {toml_value(value)}  # {_CONTROL.sub('?', why)}"


def _listed(values: Iterable[str], most: int = 6) -> str:
    texts = list(values)
    return ", ".join(text[:30] for text in texts[:most]) + (", ..." if len(texts) > most else "")


@dataclass(frozen=True)
class _Place:
    """Where the images of a column lie: ``folder`` near the table, ``ending`` missing in the cells.

    hits : how many of the rows tried have a file there; the folder is empty for URLs
    """

    hits: int = 0
    folder: str = ""
    column: str = ""
    ending: str = ""

    @property
    def template(self) -> str:
        whole = f"{self.folder}/{{{self.column}}}{self.ending}"
        return whole.removeprefix("./").removeprefix("/")


def _guess_files(raw: Columns, root: Path, used: set[str]) -> tuple[list[str], dict[str, str]]:
    """Entries for the image (a column, or a template around an id), and for the regions' masks."""
    spoken = (*COLUMN_WORDS["image"], *COLUMN_WORDS["id"])
    words = [name for word in spoken for name in raw if name.casefold() == word]
    folders = _folders_near(root)
    place = _best_place(raw, root, words, folders)
    if not place.hits:
        near = [name for name in words if name.casefold() in COLUMN_WORDS["image"]]
        named = toml_value(near[0] if near else "...")
        why = "no image file was found near the table: name the column of paths"
        return [f"# image = {named}  # {why}"], {}
    used.add(place.column)
    masks = _guess_masks(raw[place.column], place.column, root, folders, place.template)
    why = _why_there(place, _tried(raw[place.column]), root, folders) if place.folder else ""
    why = why or "it holds URLs"
    if place.template != f"{{{place.column}}}":
        return [_entry("image_template", place.template, why)], masks
    return ([] if place.column == "image" else [_entry("image", place.column, why)]), masks


def _best_place(
    raw: Columns, root: Path, words: Sequence[str], folders: Mapping[str, frozenset[str]]
) -> _Place:
    """The column, folder and ending that lead to a file for most of the rows tried."""
    best = _Place()
    for column in dict.fromkeys([*words, *raw]):
        tried = _tried(raw[column])
        own = MASK_WORD.search(column) or column.startswith(("region.", "subgroup."))
        if own or len(set(tried)) < len(tried):
            continue
        paths = sum(cell.lower().endswith(IMAGE_TYPES) for cell in tried) > len(tried) / 2
        if paths and is_url(tried[0]):
            best = max(best, _Place(1, "", column, ""), key=attrgetter("hits"))
        for folder, names in folders.items():
            if MASK_WORD.search(folder):
                continue
            for ending in ("",) if paths else IMAGE_TYPES:
                hits = _hits(root, folder, names, tried, ending)
                if hits > best.hits:
                    best = _Place(hits, folder, column, ending)
    return best


def _why_there(
    place: _Place, tried: Sequence[str], root: Path, folders: Mapping[str, frozenset[str]]
) -> str:
    why = f"such files are there for {place.hits} of {len(tried)} rows tried"
    elsewhere = []
    for folder, names in folders.items():
        if folder == place.folder or MASK_WORD.search(folder) or place.hits >= len(tried):
            continue
        if count := _hits(root, folder, names, tried, place.ending):
            elsewhere.append(f"{count} in {folder}")
    return f"{why}; {', '.join(elsewhere)}: bring them into one folder" if elsewhere else why


def _guess_masks(
    cells: Sequence[str], column: str, root: Path, folders: Mapping[str, frozenset[str]], image: str
) -> dict[str, str]:
    tried = _tried(cells)
    whole = all(cell.lower().endswith(IMAGE_TYPES) for cell in tried)
    masks: dict[str, str] = {}
    for folder, names in folders.items():
        endings = (
            [""]
            if whole
            else [suffix + kind for suffix in MASK_SUFFIXES for kind in MASK_TYPES]
            if names
            else []
        )
        for ending in endings if MASK_WORD.search(folder) else filter(MASK_WORD.search, endings):
            hits = _hits(root, folder, names, tried, ending)
            template = f"{folder}/{{{column}}}{ending}".removeprefix("./")
            if hits and template != image:
                name = "lesion" if any(cell.startswith("ISIC_") for cell in tried) else "object"
                name = name if name not in masks else f"{name}_{len(masks) + 1}"
                masks[name] = _entry(
                    name, template, f"such files are there for {hits} of {len(tried)} rows tried"
                )
    return masks


def _guess_region_columns(raw: Columns, root: Path, used: set[str]) -> dict[str, str]:
    """Entries for columns that hold regions themselves.

    Boxes, polygons, run lengths, or paths of mask files that exist.
    """
    found: dict[str, str] = {}
    for column, cells in raw.items():
        tried = _tried(cells)
        if column in used or column.startswith(("region.", "subgroup.")) or not tried:
            continue
        kinds = Counter(map(_kind_of_region, tried))
        kind, hits = max(((kind, kinds[kind]) for kind in _SHAPES), key=itemgetter(1))
        words = f"{hits} of {len(tried)} rows tried hold {_SHAPES[kind]}"
        if hits <= len(tried) / 2 and MASK_WORD.search(column):
            hits = sum(
                cell.lower().partition("#")[0].endswith(MASK_TYPES)
                and (root / cell.partition("#")[0]).is_file()
                for cell in tried
            )
            words = f"such files are there for {hits} of {len(tried)} rows tried"
        if hits > len(tried) / 2:
            used.add(column)
            name = re.sub(r"\W+", "_", column.casefold()).strip("_") or "object"
            found[name] = _entry(name, column, words)
    return found


_SHAPES = {"box": "boxes", "polygon": "polygons", "rle": "run lengths"}


def _kind_of_region(cell: str) -> str:
    try:
        return parse_region(cell).kind
    except RegionTextError:
        return ""


def _folders_near(root: Path) -> dict[str, frozenset[str]]:
    """Folders near the table, as relative paths, and the files in them.

    Two levels below the table's folder, and one above.
    """
    found = [".", *_subfolders(root, ".")]
    found += [inner for folder in found[1:] for inner in _subfolders(root, folder)][:FOLDERS_TRIED]
    found += ["..", *_subfolders(root, "..")]
    return {
        folder: file_names(os.path.join(root, folder))
        for folder in found
        if folder != f"../{root.name}"
    }


def _subfolders(root: Path, folder: str) -> list[str]:
    try:
        with os.scandir(root / folder) as entries:
            names = sorted(
                entry.name
                for entry in islice(entries, 100_000)
                if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:
        return []
    return [f"{folder}/{name}".removeprefix("./") for name in names[:FOLDERS_TRIED]]


def _tried(cells: Sequence[str]) -> list[str]:
    """Some of the cells, spread over the table."""
    given = [cell for cell in cells if cell]
    return given[:: max(1, len(given) // TRIED_ROWS)][:TRIED_ROWS]


def _hits(root: Path, folder: str, names: frozenset[str], cells: Sequence[str], ending: str) -> int:
    """How many of ``cells`` + ``ending`` are files in the folder.

    Paths into subfolders take a look at the disk each, so they are tried only if one of three
    exists.
    """
    deep = [cell for cell in cells if "/" in cell]
    found = sum(cell + ending in names for cell in cells) if names else 0
    if any((root / folder / (cell + ending)).is_file() for cell in deep[:3]):
        found += sum((root / folder / (cell + ending)).is_file() for cell in deep)
    return found


def _guess_parts(raw: Columns, used: set[str]) -> list[str]:
    entries = []
    for part in ("cluster", "label", "id"):
        near = [
            name
            for word in COLUMN_WORDS[part]
            for name in raw
            if name.casefold() == word and name not in used
        ]
        if part == "id":
            near = [name for name in near if len({*raw[name]} - {""}) == len(raw[name])]
        if not near:
            entries += (
                [
                    "# cluster = ...  # no column looks like a patient: every image would count as independent"
                ]
                if part == "cluster"
                else []
            )
            continue
        used.add(near[0])
        levels = dict.fromkeys(filter(None, raw[near[0]]))
        why = (
            "unique"
            if part == "id"
            else f"its name; {count(len(levels))} values in {count(len(raw[near[0]]))} rows"
        )
        why += (
            f": {_listed(levels)}" if part == "label" else ""
        )  # clusters may be names of patients
        also = f"; also there: {', '.join(near[1:])}" if near[1:] else ""
        if near[0] != part:
            entries.append(_entry(part, near[0], why + also))
    return entries


def _guess_subgroups(raw: Columns, used: set[str]) -> tuple[list[str], list[str]]:
    """Entries of [columns.subgroups], and sections [subgroups.*].

    Only ordered and continuous attributes need a section.
    """
    entries, settings = [], []
    for column, cells in raw.items():
        native = column.startswith("subgroup.")
        levels = Counter(cell for cell in cells if cell)
        if (
            column in used
            or column.startswith("region.")
            or len(levels) < 2
            or (column.casefold() in NOT_GROUPS and not native)
        ):
            continue
        numeric = all(as_number(level) is not None for level in levels)
        word = GROUP_WORD.search(column.replace("_", " "))
        if len(levels) > FEW_LEVELS and not (numeric and (word or native)):
            continue
        name = (
            column.removeprefix("subgroup.")
            if native
            else re.sub(r"\W+", "_", column.casefold()).strip("_") or "attribute"
        )
        why = f"{len(levels)} levels: {_listed(level for level, _ in levels.most_common())}"
        if len(levels) > FEW_LEVELS:
            numbers = sorted(map(float, levels))
            why = f"numbers from {plain_number(numbers[0])} to {plain_number(numbers[-1])}"
            settings += ["", f"[subgroups.{toml_key(name)}]", _entry("kind", "continuous", why)]
        elif ORDER_WORD.search(column):
            order = sorted(
                (level for level in levels if level.casefold() not in DOUBTFUL_WORDS), key=_rank
            )
            settings += [
                "",
                f"[subgroups.{toml_key(name)}]",
                _entry(
                    "order", order, "its name says it is ordered; sorted, so check the direction"
                ),
            ]
        if not native:
            used.add(column)
            doubt = "" if word else "; its name does not say that it groups people or scenes"
            entries.append(("" if word else "# ") + _entry(name, column, why + doubt))
            if not word and settings and settings[-2] == f"[subgroups.{toml_key(name)}]":
                del settings[-3:]
    return entries, settings


def _rank(level: str) -> tuple[float, str]:
    """Sort key of ordered levels: numbers, Roman numerals up to X, then text."""
    first = re.split(r"[\s\-\u2010-\u2015/]", level, maxsplit=1)[0]
    roman = {
        text: number
        for number, text in enumerate(
            ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"), 1
        )
    }
    number = as_number(first)
    return (number if number is not None else roman.get(first.casefold(), math.inf), level)


def _guess_regions(names: Sequence[str]) -> list[str]:
    sections: list[str] = []
    if not names:
        sections += ["", *_NO_REGIONS.splitlines()]
    for name in names:
        role = (
            "attend"
            if ATTEND_WORD.search(name.replace("_", " "))
            else "avoid"
            if AVOID_WORD.search(name.replace("_", " "))
            else "neutral"
        )
        why = (
            "guessed from its name"
            if role != "neutral"
            else "attend: evidence belongs here; avoid: a shortcut or protected trait"
        )
        sections += ["", f"[regions.{toml_key(name)}]", _entry("role", role, why)]
    return sections
