"""Checks of files: whether images and masks exist, and whether a region cell can be read."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from gradaudit.manifest.draft import ManifestDraft, repeated_cells
from gradaudit.manifest.file_paths import (
    IMAGE_TYPES,
    absent_files,
    is_installed,
    is_picture,
    nearest_file,
    why_not,
)
from gradaudit.manifest.rules import as_problem
from gradaudit.number_text import count
from gradaudit.records import Problem
from gradaudit.regions.text import RegionSource, RegionTextError, is_url, parse_region


def check_images(draft: ManifestDraft) -> Iterator[Problem]:
    """Images that are missing, repeated, of an unknown type, or named by an absolute path."""
    images = draft.table.get("image", [])
    empty = [i for i, cell in enumerate(images) if not cell]
    if empty:
        yield draft.problem("empty_image", empty, "image")
    given = {i: cell for i, cell in enumerate(images) if cell}
    problems, broken = check_files(draft, "image", given, "missing_image", "image_is_folder")
    yield from problems
    yield from _check_image_types(draft, given, broken)
    absolute = [i for i, cell in given.items() if cell[0] in "/\\" or cell[1:2] == ":"]
    if absolute:
        yield draft.problem("absolute_path", absolute, "image")
    yield from _check_repeated_images(draft, given)


def _check_image_types(
    draft: ManifestDraft, given: Mapping[int, str], broken: set[int]
) -> Iterator[Problem]:
    """Files of no image type, and types whose package is not installed."""
    odd = [
        i
        for i, cell in given.items()
        if not cell.lower().endswith(IMAGE_TYPES)
        and i not in broken
        and not is_picture(cell, draft.root)
    ]
    if odd:
        yield draft.problem("image_type", odd, "image")
    dicom = [i for i, cell in given.items() if cell.lower().endswith((".dcm", ".dicom"))]
    if dicom and not is_installed("pydicom"):
        why, package = "DICOM needs pydicom", "'gradaudit[dicom]'"
        yield draft.problem("missing_package", dicom, "image", why=why, package=package)


def _check_repeated_images(draft: ManifestDraft, given: Mapping[int, str]) -> Iterator[Problem]:
    """Rows that name the same image, even if they write its path differently.

    With ids, rows of one cluster may share an image: the cluster already says that they are
    dependent.
    """
    repeated = repeated_cells({i: _plain_path(cell) for i, cell in given.items()})
    if "id" in draft.table:
        clusters = draft.table.get("cluster", list(map(str, range(len(draft.table["image"])))))
        repeated = [
            rows
            for rows in repeated
            if not clusters[rows[0]] or len({clusters[i] for i in rows}) > 1
        ]
    if repeated:
        rule = "repeated_image" if "id" in draft.table else "duplicate_image"
        remark = f"also in row {draft.lines[repeated[0][1]]}"
        yield draft.problem(rule, [i for rows in repeated for i in rows], "image", remark)


def _plain_path(cell: str) -> str:
    if ("./" in cell or "//" in cell) and not is_url(cell):
        return os.path.normpath(cell)
    return cell


def check_regions(draft: ManifestDraft) -> Iterator[Problem]:
    """Region cells that cannot be parsed, and mask files that are missing or doubtful."""
    for name in draft.names("region."):
        column = f"region.{name}"
        cells = draft.table[column]
        if not any(cells):
            yield as_problem("region_never", column=column)
        faults: dict[str, list[int]] = defaultdict(list)
        sources: dict[int, RegionSource] = {}
        remarks: dict[str, str] = {}
        for i, source in region_sources(cells).items():
            if isinstance(source, RegionSource):
                sources[i] = source
            else:
                faults[source.rule].append(i)
                if source.rule.endswith(
                    ("_malformed", "_value")
                ):  # the other rules' own text says it
                    remarks.setdefault(source.rule, str(source))
        for rule, rows in faults.items():
            yield draft.problem(rule, rows, column, remarks.get(rule, ""))
        yield from _check_masks(
            draft, column, {i: source for i, source in sources.items() if source.path}
        )


def region_sources(cells: Sequence[str]) -> dict[int, RegionSource | RegionTextError]:
    """Position -> parsed source or error, for cells that are not empty; equal cells parsed once."""
    parsed: dict[str, RegionSource | RegionTextError] = {}
    for cell in cells:
        if cell and cell not in parsed:
            try:
                parsed[cell] = parse_region(cell)
            except RegionTextError as error:
                parsed[cell] = error
    return {i: parsed[cell] for i, cell in enumerate(cells) if cell}


def _check_masks(
    draft: ManifestDraft, column: str, sources: Mapping[int, RegionSource]
) -> Iterator[Problem]:
    problems, _ = check_files(
        draft,
        column,
        {i: source.path for i, source in sources.items()},
        "missing_mask",
        "mask_is_folder",
    )
    yield from problems
    volumes = [i for i, source in sources.items() if source.kind == "volume"]
    if volumes and not is_installed("nibabel"):
        yield draft.problem(
            "missing_package",
            volumes,
            column,
            why="NIfTI needs nibabel",
            package="'gradaudit[nifti]'",
        )
    images = draft.table.get("image")
    if images is None:
        return
    same = [i for i, source in sources.items() if source.value is None and source.path == images[i]]
    if same:
        yield draft.problem("mask_is_image", same, column)
    users: dict[str, set[str]] = defaultdict(set)
    for i, source in sources.items():
        if source.kind == "file":
            users[source.path].add(images[i])
    shared = [i for i, source in sources.items() if len(users.get(source.path, ())) > 1]
    if shared:
        sharing = len(users[sources[shared[0]].path])
        yield draft.problem("shared_mask", shared, column, f"{count(sharing)} images")


# ── files ─────────────────────────────────────────────────────────────────────────────────────────


def check_files(
    draft: ManifestDraft, column: str, given: Mapping[int, str], missing: str, folder: str
) -> tuple[list[Problem], set[int]]:
    """Check that the files of a column exist, or that their URLs can be opened.

    given : position of a row -> path or URL. A file must exist on this machine; of a URL only its
        protocol is checked
    missing, folder : rules for a path that is not there, and for one that is a folder
    returns : the problems, and the positions of the rows that fail
    """
    states = absent_files((path for path in given.values() if not is_url(path)), draft.root)
    rows: dict[str, list[int]] = defaultdict(list)
    for i, path in given.items():
        state = states.get(path)
        if state == "missing":
            rows["windows_path" if "\\" in path and os.sep == "/" else missing].append(i)
        elif state == "folder":
            rows[folder].append(i)
    problems = [
        draft.problem(
            rule,
            found,
            column,
            nearest_file(given[found[0]], draft.root) if rule == missing else "",
        )
        for rule, found in rows.items()
    ]
    protocols: dict[str, list[int]] = defaultdict(list)
    for i, path in given.items():
        if is_url(path):
            protocols[path.partition("://")[0].rpartition("::")[2]].append(i)
    for protocol, found in protocols.items():
        why = why_not(protocol)
        if why is not None:
            rule, package = ("missing_package", why) if why else ("unknown_protocol", "")
            expected = (
                "s3, gs, az, https, file, memory, and what fsspec.available_protocols() lists"
            )
            problems.append(
                draft.problem(
                    rule,
                    found,
                    column,
                    why=f"{protocol}:// needs {package}",
                    package=package,
                    expected=expected,
                )
            )
            rows[rule] += found
    return problems, {i for found in rows.values() for i in found}
