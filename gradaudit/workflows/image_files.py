"""From what a user types to a list of images, and from images to file names that never collide."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradaudit.manifest.file_paths import IMAGE_TYPES, nearest_file
from gradaudit.regions.text import is_url

RECORD = "explanations.json"
"""The file in which ``gradaudit explain`` lists what it wrote into its folder."""


@dataclass(frozen=True)
class Unreadable:
    """A file or pattern that gave no image, and why; ``reason`` as in ``records.REASONS``."""

    file: str
    reason: str
    message: str


@dataclass(frozen=True)
class FoundImages:
    """Images in the order asked for, each once.

    ``others`` counts the files in searched folders whose names are not those of pictures.
    """

    images: tuple[str, ...]
    problems: tuple[Unreadable, ...] = ()
    others: int = 0


def find_images(arguments: Sequence[str | Path], output: Path | None = None) -> FoundImages:
    """List the images named by files, folders (searched to the bottom), glob patterns and URLs.

    output : pictures that an earlier call wrote into this folder are left out, so that no overlay
        is explained in its turn
    """
    written = _written_before(output)
    images: dict[str, str] = {}
    problems, others = [], 0
    for argument in map(str, arguments):
        files, aside = _expanded(argument)
        others += aside
        if not files:
            problems.append(_nothing_there(argument))
        for file in files:
            place = file if is_url(file) else str(Path(file).resolve())
            if place not in written:
                images.setdefault(place, file)
    return FoundImages(tuple(images.values()), tuple(problems), others)


def _expanded(argument: str) -> tuple[list[str], int]:
    if is_url(argument) or os.path.isfile(argument):
        return [argument], 0
    if os.path.isdir(argument):
        return _pictures_below(argument)
    files, others = [], 0
    for match in sorted(glob.glob(argument, recursive=True)):
        found, aside = _expanded(match)
        files += found
        others += aside
    return files, others


def _pictures_below(folder: str) -> tuple[list[str], int]:
    """Sorted files below a folder that have the name of a picture, and how many others there are.

    Hidden files are left out.
    """
    pictures, others = [], 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = [name for name in sorted(files) if not name.startswith(".")]
        named = [name for name in shown if name.lower().endswith(IMAGE_TYPES)]
        pictures += [os.path.join(place, name) for name in named]
        others += len(shown) - len(named)
    return pictures, others


def _nothing_there(argument: str) -> Unreadable:
    if os.path.isdir(argument):
        return Unreadable(
            argument,
            "missing_file",
            f"{argument}: the folder holds no file that is a picture by its name ({', '.join(IMAGE_TYPES)})",
        )
    if glob.has_magic(argument):
        return Unreadable(argument, "missing_file", f"{argument}: no file matches the pattern")
    return Unreadable(
        argument, "missing_file", f"{argument}: no such file; {nearest_file(argument, Path())}"
    )


def _written_before(output: Path | None) -> set[str]:
    """Resolved paths of the files that an earlier call listed in its record."""
    try:
        record = json.loads(((output or Path()) / RECORD).read_text("utf-8")) if output else {}
        names = [
            *record.get("contact_sheets", []),
            *(name for row in record.get("explanations", []) for name in row["files"].values()),
        ]
        return {str((output / str(name)).resolve()) for name in names} if output else set()
    except (
        OSError,
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
    ):  # no record, or one that is not ours
        return set()


def distinct_names(
    images: Sequence[str], folder: Path | None = None, endings: Collection[str] = ()
) -> list[str]:
    """One file name (without ending) per image, all different.

    The stem of the image's file; where two are equal, as many parent folders as tell them apart;
    else a number. Names that differ in letter case only count as equal, because some file systems
    do not distinguish them. Characters that some file systems refuse become "_".

    folder, endings : no name followed by one of the endings is one of the images in this folder, so
        that an input is never overwritten
    """
    parts = [_name_parts(image) for image in images]
    depths = [1] * len(images)
    deepest = max((len(p) for p in parts), default=1)
    for _ in range(deepest):
        names = ["-".join(p[-depth:]) for p, depth in zip(parts, depths, strict=True)]
        meeting = _meeting(names)
        depths = [depth + (row in meeting) for row, depth in enumerate(depths)]
    names = ["-".join(p[-depth:]) for p, depth in zip(parts, depths, strict=True)]
    inputs = {str(Path(image).resolve()) for image in images if not is_url(image)}
    taken: set[str] = set()
    for row, name in enumerate(names):
        number = 2
        while names[row].casefold() in taken or any(
            str(((folder or Path()) / (names[row] + end)).resolve()) in inputs for end in endings
        ):
            names[row], number = f"{name}-{number}", number + 1
        taken.add(names[row].casefold())
    return names


def _name_parts(image: str) -> list[str]:
    path = re.sub(r"[?#].*$", "", image) if is_url(image) else os.path.abspath(image)
    folders, file = os.path.split(path)
    return [
        re.sub(r"[^\w.+-]", "_", part)
        for part in [
            *filter(None, re.split(r"[\\/]+", folders)),
            os.path.splitext(file)[0] or "image",
        ]
    ]


def _meeting(names: Sequence[str]) -> set[int]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name.casefold(), []).append(row)
    return {row for same in rows.values() if len(same) > 1 for row in same}
