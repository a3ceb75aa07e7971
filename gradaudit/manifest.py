"""The manifest: a table of images, groups and regions, checked whole before anything is measured.

Formats: CSV and TSV (UTF-8, with or without BOM; semicolons are recognised), Parquet, JSON Lines, and ``.json`` that holds
a list of records or a COCO annotation file (one ``region.<category>`` per category).  Every cell is text: "007" stays
"007".  Cells are stripped.  These mean unknown, in any case of letters: empty, NA, N/A, NaN, NULL, <NA>, unknown; unless
the plan's ``order`` or ``classes`` names the word.  "none" stays a level (no ruler is not an unknown ruler).

A row number is what a text editor shows: the header is line 1, a quoted cell with line breaks spans several.  In Parquet
and ``.json`` row 1 is the first record.

``RULES`` lists every rule.  A broken one is an error, unless it is marked as a warning; all of them come in one answer.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import html
import importlib.util
import io
import json
import math
import os
import re
import string
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from gradaudit.config import Plan, SubgroupPlan, build_plan
from gradaudit.derivations import OPERATIONS
from gradaudit.errors import ImageError, InputError, ManifestError
from gradaudit.records import Problem, Sample
from gradaudit.regions import MASK_TYPES, RegionSource, RegionTextError, derivation_faults, is_url, load_region, parse_region

UNKNOWN_WORDS = frozenset({"", "na", "n/a", "nan", "null", "<na>", "unknown"})
DOUBTFUL_WORDS = frozenset({"none", "-", "--", "?", ".", "-1", "missing", "not available", "not reported", "unspecified"})
IMAGE_TYPES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".dcm", ".dicom",
)  # fmt: skip
MEASURED_ATTRIBUTES = frozenset({"ita", "brightness", "resolution"})
"""Attributes that are measured from the images, so a plan may declare them without a column."""
MANY_LEVELS = 30
LIST_FROM = 16
"""A folder is listed when at least so many of its files are asked for; fewer are asked for one by one."""
RESERVED_LEVELS = frozenset({"rest", "(unknown)", "(suppressed)"})
PROTOCOL_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "http": "aiohttp", "https": "aiohttp",
}  # fmt: skip
_PARTS = ("image", "label", "cluster", "id")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP", b"P5", b"P6")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\ufeff\ufffd]")
COLUMN_WORDS = {
    "image": ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img", "img_path", "ddi_file"),
    "label": ("label", "dx", "diagnosis", "target", "class", "benign_malignant", "malignant", "y", "ground_truth", "category"),
    "cluster": (
        "cluster", "patient_id", "patientid", "patient", "subject_id", "subject", "participant_id", "person_id", "lesion_id", "case_id", "study_id",
        "video_id", "video", "vehicle_id", "vehicle", "animal_id",
    ),
    "id": ("id", "isic_id", "image_id", "image_name", "md5hash", "ddi_id", "sop_instance_uid", "uid", "name"),
}  # fmt: skip
"""Names under which existing tables keep each part, likeliest first."""
FEW_LEVELS, TRIED_ROWS, FOLDERS_TRIED = 12, 40, 50
_MASK_SUFFIXES = ("", "_segmentation", "_Segmentation", "_mask", "-mask", "_seg", "_gt", "_lesion", "_label")
_MASK_WORD = re.compile("mask|seg|annot|ground.?truth|_gt|label", re.I)
_GROUP_WORD = re.compile(
    r"\b(sex|gender|age|race|ethnic\w*|ancestry|skin|fitzpatrick|phototype|tone|ita|site|location|localization|anatom|body|hospital|cent(er|re)"
    r"|institution|scanner|device|camera|manufacturer|machine|view|insurance|language|country|continent|weather|daytime|light\w*)\b",
    re.I,
)
_ORDER_WORD = re.compile("fitzpatrick|skin_?(tone|type)|phototype|monk|scale|stage|grade|severity", re.I)
_NOT_GROUPS = frozenset({"url", "md5", "width", "height", "split", "fold", "index", "qc", "license", "copyright_license", "attribution"})
_ATTEND_WORD = re.compile(r"\b(lesion|nodule|tumou?r|object|digit|face|organ|lungs?|opacity|polyp|cell|foreground)\b", re.I)
_AVOID_WORD = re.compile(r"\b(ruler|marker|text|hairs?|vignette|border|frame|margin|background|watermark|tag|tags|logo|bubbles?|gel)\b", re.I)


@dataclass(frozen=True)
class Rule:
    """What is wrong, and what to do; ``{...}`` is filled per problem. A warning does not stop the audit."""

    says: str
    fix: str
    warning: bool = False


RULES: dict[str, Rule] = {
    # the file
    "file_missing": Rule("The manifest cannot be read: {why}.", "Check the path."),
    "file_format": Rule("This is no table that gradaudit reads: {why}.", "Save it as CSV (UTF-8), TSV, Parquet or JSON Lines."),
    "encoding": Rule("The text is not UTF-8: {why}.", "Save the table again as CSV UTF-8 (in Excel: 'CSV UTF-8 (Comma delimited)')."),
    "nul_bytes": Rule("The row holds NUL bytes.", "The file is damaged or no text; write it again from its source."),
    "broken_quotes": Rule(
        "Quotes are not closed as CSV asks, so rows after this one may be swallowed.",
        "Put the cell between quotes and double each quote inside it.",
    ),
    "broken_json": Rule("The line is no JSON object.", "Write one JSON object a line."),
    "no_rows": Rule("The table has no rows.", "Write one row per image below the header."),
    "ragged_row": Rule(
        "The row has another number of cells than the header ({expected}).",
        "Quote cells that hold the separator, or add what is missing.",
    ),
    "blank_row": Rule("All cells are empty; the row was skipped.", "Delete it.", warning=True),
    # columns
    "duplicate_column": Rule("Two columns have the same name.", "Rename or delete one."),
    "unnamed_column": Rule("A column with values has no name; it is kept as {name!r}.", "Name it, or delete it.", warning=True),
    "no_image_column": Rule(
        "There is no column 'image'{hint}.",
        "Name the column 'image', or say which it is: [columns] image = \"...\" in the plan.",
    ),
    "misspelt_column": Rule(
        "The column is close to {near!r} and would be ignored.",
        "Rename it to {near!r}; or to something else if it is not meant.",
    ),
    "likely_column": Rule(
        "There is no column {part!r}, and {column!r} looks like one.",
        "If it is, say so: [columns] {part} = \"{column}\" in the plan.",
        warning=True,
    ),
    "bad_name": Rule(
        "The name of the region or attribute is empty, reserved or holds control characters.",
        "Rename the column, e.g. 'region.lesion'.",
    ),
    "plan_column": Rule("The plan's [columns] names a column that the table lacks{hint}.", "Correct the name in the plan."),
    "plan_template": Rule("A template in the plan's [columns] is broken: {why}.", 'Write for example image_template = "images/{{isic_id}}.jpg".'),
    "column_taken_twice": Rule("The plan maps another column to this name; the table's own column is ignored.", "Rename one of them.", warning=True),
    "plan_subgroup": Rule(
        "The plan describes an attribute that has no column{hint}.",
        "Add the column 'subgroup.{name}', or map it under [columns.subgroups].",
    ),
    "plan_region": Rule(
        "The plan describes a region that has no column and no derive{hint}.",
        "Add the column 'region.{name}', or a derive to the plan.",
    ),
    "plan_covariate": Rule("The plan adjusts for a column that the table lacks{hint}.", "Correct [analysis] covariates."),
    "plan_pairs": Rule("The plan pairs images by a column that the table lacks{hint}.", "Correct [analysis] pairs."),
    "plan_confirmatory": Rule("[analysis] regions names a region that does not exist{hint}.", "Correct the name, or add the region."),
    "plan_positive_class": Rule("[analysis] positive_class is none of the labels{hint}.", "Write one of: {expected}."),
    "plan_reference": Rule("The reference level occurs in no row{hint}.", "Choose a level that occurs, or reference = \"rest\"."),
    "plan_order_numeric": Rule("The attribute has an order and is continuous.", "Keep order (levels) or kind = \"continuous\" (numbers)."),
    "no_role": Rule(
        "Criteria are declared, and no region has the role attend or avoid, so nothing will be judged.",
        'Give regions a role, e.g. [regions.lesion] role = "attend".',
        warning=True,
    ),
    "neutral_confirmatory": Rule(
        "[analysis] regions names a region without a role: heat in it is tested, and neither direction counts as adverse.",
        'Set role = "attend" or "avoid" under [regions.{name}] if one is.',
        warning=True,
    ),
    "no_attribute": Rule(
        "There is no attribute, so no groups are compared.",
        "Add columns 'subgroup.<name>', or map them under [columns.subgroups].",
        warning=True,
    ),
    "no_region": Rule("There is no region, so no heat is measured in any.", "Add columns 'region.<name>', or derive one in the plan.", warning=True),
    "derive_syntax": Rule("A derived region cannot be understood.", "Forms: " + ", ".join(op.form for op in OPERATIONS.values()) + "."),
    "derive_unknown": Rule("A derived region refers to a region that does not exist.", "Correct the name, or add the region."),
    "derive_cycle": Rule("Derived regions need each other in a circle.", "Build one of them from columns."),
    "derive_and_column": Rule("A region is both derived and a column.", "Rename one of them."),
    # images
    "empty_image": Rule("The image cell is empty.", "Write the path, or delete the row."),
    "missing_image": Rule("The image file does not exist.", "Correct the path; it is relative to {root}."),
    "image_is_folder": Rule("The image path is a folder.", "Write the path of one file a row."),
    "image_type": Rule(
        "The file is no image that can be read (by its extension, nor by its first bytes).",
        "Convert it to PNG, JPEG, TIFF or DICOM.",
    ),
    "windows_path": Rule("The path is written for Windows and does not exist here.", "Write forward slashes, relative to {root}."),
    "unknown_protocol": Rule("No file system is known for this kind of URL.", "Known: {expected}."),
    "missing_package": Rule("A package is missing to read these files: {why}.", "Install it: pip install {package}."),
    "absolute_path": Rule("The path is absolute, so the manifest works on this machine only.", "Write it relative to {root}.", warning=True),
    "duplicate_image": Rule("The same image stands in several rows.", "Delete the repetitions, or add a column 'id' that tells the rows apart."),
    "repeated_image": Rule(
        "The same image stands in several rows with different ids, and they count as independent of each other.",
        "Give them the same cluster, or delete the repetitions.",
        warning=True,
    ),
    "empty_id": Rule("The id is empty.", "Give every row an id, or delete the column."),
    "duplicate_id": Rule("The id stands in several rows.", "Give every row its own id."),
    # labels, clusters, attributes
    "unknown_label": Rule("The label is none of the plan's classes ({expected}).", "Correct the label, or [model] classes."),
    "empty_cluster": Rule(
        "The cluster is empty; the image counts as independent of all others.",
        "Write the patient (or lesion, vehicle, ...).",
        warning=True,
    ),
    "single_cluster": Rule("All images belong to one cluster, so no difference can be shown.", "Check the column 'cluster'.", warning=True),
    "spread_attribute": Rule(
        "The attribute has several levels within one cluster.",
        "If it may vary (body site), set within = true under [subgroups.{name}]; if not, correct the rows.",
        warning=True,
    ),
    "unknown_level": Rule("The level is not in the plan's order ({expected}).", "Correct the level, or the order."),
    "level_spellings": Rule(
        "One level is spelt in several ways, which splits the group.",
        "Write it in one way; if they are different levels, list both in order under [subgroups.{name}] (labels: [model] classes).",
    ),
    "reserved_level": Rule("The level is a word that the report uses itself.", "Rename it; leave the cell empty where the level is unknown."),
    "not_a_number": Rule("The attribute is continuous, and the value is no number.", "Write a number with a decimal point, or leave the cell empty."),
    "not_finite": Rule("The value is infinite or too large for a number.", "Write a finite number, or leave the cell empty."),
    "one_level": Rule(
        "The attribute has one level only, so there is nothing to compare.",
        "Add the other groups, or delete the column.",
        warning=True,
    ),
    "unknown_throughout": Rule("The attribute is empty in every row.", "Fill it, or delete the column.", warning=True),
    "unused_level": Rule("A level of the plan's order occurs in no row.", "Check its spelling.", warning=True),
    "many_levels": Rule(
        "The attribute has {levels} levels, most of them too small for a verdict.",
        'For numbers set kind = "continuous" under [subgroups.{name}]; otherwise use broader groups.',
        warning=True,
    ),
    "doubtful_word": Rule("The word may mean unknown, and is {read}.", "Leave the cell empty if it does; rename it if it does not.", warning=True),
    "control_characters": Rule("The cell holds a line break, tab, invisible or broken character.", "Write the cell again."),
    "spaces": Rule("Cells begin or end with spaces; they were removed.", "Nothing, or clean the table.", warning=True),
    # regions
    "region_never": Rule("The region is annotated in no row.", "Fill the column, or delete it.", warning=True),
    "missing_mask": Rule(
        "The mask file does not exist.",
        "Correct the path; it is relative to {root}. Empty the cell if the image is not annotated.",
    ),
    "mask_is_folder": Rule("The mask path is a folder.", "Write the path of one file."),
    "unmasked_rows": Rule(
        "The plan's template names no mask file for these rows; they count as not annotated.",
        "Check [columns.region_templates], or add the masks.",
        warning=True,
    ),
    "mask_is_image": Rule("The mask is the image itself.", "Name the mask file; if the image's alpha channel is the mask, add '#alpha'."),
    "shared_mask": Rule("One mask file serves several images.", "Nothing if it is a fixed template; otherwise correct the rows.", warning=True),
    "region_kind": Rule("The kind of region is unknown.", "Known are box:, xywh:, polygon:, rle:, whole, absent, or the path of a mask."),
    "mask_type": Rule("The cell is no mask file.", f"Masks are {', '.join(MASK_TYPES)}, .nii or .nii.gz."),
    "label_value": Rule("What stands after # cannot be used.", "Write one whole number from 0: labels.png#3, or #alpha."),
    "box_malformed": Rule("The box is malformed.", "Write box:x0,y0,x1,y1 with four numbers."),
    "box_empty": Rule("The box has no area.", "Write box:x0,y0,x1,y1 with x1 > x0 and y1 > y0; COCO's x,y,width,height is xywh:."),
    "box_outside": Rule("The box or polygon lies outside the image.", "Count pixels from the upper left corner of the image."),
    "box_fractions": Rule("The coordinates are fractions.", "Write pixels: multiply x by the image's width and y by its height."),
    "polygon_malformed": Rule("The polygon is malformed.", "Write polygon:x0,y0 x1,y1 x2,y2, rings separated by ';'."),
    "polygon_points": Rule("A ring has fewer than three points.", "Write at least three x,y pairs a ring."),
    "rle_malformed": Rule("The run-length code is malformed.", 'Write rle:{{"size": [height, width], "counts": ...}}.'),
    "rle_size": Rule("The run lengths do not fit their size.", "size is [height, width] of the image that the mask was made for."),
}  # fmt: skip


def _problem(rule: str, rows: Iterable[int] = (), column: str = "", example: str = "", **facts: object) -> Problem:
    text = RULES[rule]
    facts.setdefault("hint", "")
    return Problem(rule, text.says.format(column=column, **facts), tuple(rows), example, text.fix.format(column=column, **facts), column)


_Columns = dict[str, list[str]]


# ── the values ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, repr=False, eq=False)
class Manifest:
    """A manifest that passed every check.

    ``table``: id, image, label, cluster, ``subgroup.*``, ``region.*``, then the other columns; text, NaN where unknown.
    ``samples``: one per row, in order.  ``region_names``: columns, then the plan's derived regions.
    ``root``: folder of relative paths.  ``digest``: SHA-256 of the file's bytes.  ``warnings``: what deserves a look.
    """

    path: Path
    root: Path
    table: pd.DataFrame
    samples: tuple[Sample, ...]
    attributes: tuple[str, ...]
    region_names: tuple[str, ...]
    cluster_declared: bool
    digest: str
    warnings: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Always empty: a manifest with problems is a ``ManifestError``."""
        return ()

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Manifest({self.path.name!r}: {self._sentence()})"

    def _sentence(self) -> str:
        clusters = self.table["cluster"].nunique()
        unit = f"{clusters:,} clusters" if self.cluster_declared else "each its own cluster"
        attributes, regions = ", ".join(self.attributes) or "none", ", ".join(self.region_names) or "none"
        return f"{len(self):,} images, {unit}; attributes: {attributes}; regions: {regions}"

    def _repr_html_(self) -> str:
        """Counts of every level and region; for notebooks."""
        rows = []
        for name in self.attributes:
            levels = Counter(sample.subgroups[name] for sample in self.samples)
            known = [f"{level} {count:,}" for level, count in sorted(levels.items(), key=lambda item: -item[1]) if level is not None][:12]
            shown = " · ".join([*known, *(["…"] if len(levels) > 13 else [])])
            rows.append((f"subgroup.{name}", shown, f"{levels[None]:,} unknown" if levels[None] else ""))
        for name in self.region_names:
            count = sum(name in sample.regions for sample in self.samples)
            column = f"region.{name}" in self.table
            rows.append((f"region.{name}", f"annotated in {count:,}" if column else "derived", ""))
        cells = "".join("<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        warned = f"<p>{len(self.warnings)} warnings: see <code>.warnings</code></p>" if self.warnings else ""
        return f"<p><b>{html.escape(self.path.name)}</b>: {html.escape(self._sentence())}</p><table>{cells}</table>{warned}"


@dataclass(frozen=True)
class _Draft:
    """A table on its way to a manifest: ``raw`` as it stands in the file, ``table`` in gradaudit's columns, "" is unknown.

    ``unfilled``: columns that the plan maps to nothing that exists; said once, and not again by every other check.
    """

    path: Path
    plan: Plan
    raw: _Columns
    table: _Columns
    lines: Sequence[int]
    unfilled: frozenset[str] = frozenset()

    @property
    def root(self) -> Path:
        return self.path.parent

    def names(self, prefix: str) -> list[str]:
        return [column.removeprefix(prefix) for column in self.table if column.startswith(prefix)]

    def problem(self, rule: str, where: Sequence[int], column: str, remark: str = "", **facts: object) -> Problem:
        """A problem of the cells ``where`` (positions) of ``column``, with the first one as the example."""
        cell = self.table[column][where[0]] if column in self.table else ""
        shown = repr(cell if len(cell) <= 80 else cell[:77] + "...")
        example = f"row {self.lines[where[0]]}: {shown}" + (f" ({remark})" if remark else "")
        return _problem(rule, (self.lines[i] for i in where), column, example, root=self.root, **facts)


def read_manifest(path: str | Path, plan: Plan | None = None) -> Manifest:
    """Read and check a manifest; the formats are in this module's docstring, the rules in ``RULES``.

    plan : its ``[columns]`` map an existing table; its regions, subgroups and classes are checked against the rows.
    Image and mask files on this machine must exist; URLs are opened when they are measured.

    Errors: ``ManifestError`` with every problem in ``.problems`` (errors first, then warnings) and in its text.
    """
    path, plan = Path(path), plan or Plan()
    problems: list[Problem] = []
    raw, lines, digest = _read_table(path, problems)
    if raw is None or not lines:
        if raw is not None:
            problems.append(_problem("no_rows"))
        raise _error(path, problems)
    draft = _arranged(path, plan, raw, lines, problems)
    for check in CHECKS:
        problems.extend(check(draft))
    if any(not RULES[problem.rule].warning for problem in problems):
        raise _error(path, problems)
    return _manifest(draft, digest, problems)


def _error(path: Path, problems: Sequence[Problem]) -> ManifestError:
    ordered = sorted(problems, key=lambda problem: RULES[problem.rule].warning)
    errors = [problem for problem in ordered if not RULES[problem.rule].warning]
    rows = len({row for problem in errors for row in problem.rows})
    counted = f"{len(errors)} problem{'s' * (len(errors) != 1)}" + (f" in {rows:,} row{'s' * (rows != 1)}" if rows else "")
    warned = len(ordered) - len(errors)
    more = f", and {warned} warning{'s' * (warned != 1)}" if warned else ""
    return ManifestError(f"{path}: {counted}{more}. Nothing was measured.\n\n{render_problems(ordered)}", ordered)


def render_problems(problems: Sequence[Problem]) -> str:
    """The problems as plain text for a terminal, one paragraph each: rule, rows, what is wrong, an example, what to do."""
    return "\n\n".join(_paragraph(problem) for problem in problems)


def _paragraph(problem: Problem) -> str:
    kind = "warning" if problem.rule in RULES and RULES[problem.rule].warning else "error"
    where = [f"{kind}: {problem.rule}"]
    if problem.column:
        where.append(f"column {problem.column!r}")
    if problem.rows:
        where.append(f"{problem.count:,} row{'s' * (problem.count != 1)}: {_row_list(problem.rows)}")
    lines = [" | ".join(where), problem.message]
    lines += [f"Example: {problem.example}"] if problem.example else []
    lines += [f"To do: {problem.fix}"] if problem.fix else []
    return "\n    ".join(lines)


def _row_list(rows: Sequence[int], most: int = 12) -> str:
    """4, 7-9, 20, ...: runs of rows joined, the list cut after ``most`` entries."""
    spans: list[list[int]] = []
    for row in sorted(set(rows)):
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in spans[:most]]
    return ", ".join(shown) + (", ..." if len(spans) > most else "")


def _manifest(draft: _Draft, digest: str, warnings: Sequence[Problem]) -> Manifest:
    declared = "cluster" in draft.table
    ids = draft.table["id"] if "id" in draft.table else draft.table["image"]
    clusters = [given or f"image:{own}" for given, own in zip(draft.table["cluster"], ids, strict=True)] if declared else list(ids)
    attributes, regions = tuple(draft.names("subgroup.")), tuple(draft.names("region."))
    labels = draft.table.get("label", [""] * len(ids))
    columns: dict[str, list[str]] = {"id": list(ids), "image": draft.table["image"], "label": labels, "cluster": clusters}
    columns |= {name: cells for name, cells in draft.table.items() if name not in columns}
    columns |= {name: [_known(cell.strip()) for cell in cells] for name, cells in draft.raw.items() if name not in columns}
    known = {name: [cell or None for cell in cells] for name, cells in columns.items()}
    groups = zip(*(known[f"subgroup.{name}"] for name in attributes), strict=True) if attributes else repeat(())
    places = zip(*(known[f"region.{name}"] for name in regions), strict=True) if regions else repeat(())
    rows = zip(ids, draft.table["image"], known["label"], clusters, groups, places, strict=False)  # repeat() has no end
    samples = tuple(
        Sample(
            index, own, image, label, cluster, dict(zip(attributes, levels, strict=True)),
            {name: cell for name, cell in zip(regions, texts, strict=True) if cell},
        )
        for index, (own, image, label, cluster, levels, texts) in enumerate(rows)
    )  # fmt: skip
    derived = [name for name, region in draft.plan.regions.items() if region.derive is not None]
    return Manifest(
        path=draft.path, root=draft.root, table=pd.DataFrame(known),
        samples=samples, attributes=attributes, region_names=(*regions, *derived), cluster_declared=declared, digest=digest,
        warnings=tuple(warnings),
    )  # fmt: skip


# ── file to text ────────────────────────────────────────────────────────────────────────────────────────────────────

def _read_table(path: Path, problems: list[Problem]) -> tuple[_Columns | None, list[int], str]:
    """Columns of text, the editor line (or record number) of each row, and the digest; no columns if unreadable."""
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.append(_problem("file_missing", why=f"{path}: {error.strerror or error}"))
        return None, [], ""
    reader = _READERS.get(path.suffix.lower())
    why = "an Excel workbook or a zip archive" if data[:2] == b"PK" else "an old Excel workbook" if data[:4] == b"\xd0\xcf\x11\xe0" else ""
    if reader is None or why or (data[:4] == b"PAR1" and reader is not _read_parquet):
        why = why or ("a Parquet file under another name" if data[:4] == b"PAR1" else f"the extension is {path.suffix!r}")
        problems.append(_problem("file_format", why=why))
        return None, [], ""
    columns, lines = reader(data, path, problems)
    return columns, lines, hashlib.sha256(data).hexdigest()


def _decoded(data: bytes, problems: list[Problem]) -> str:
    """The text; where it is not UTF-8 it is read as what it seems to be, so that the other checks can go on."""
    for mark, codec in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            problems.append(_problem("encoding", why="it begins with the mark of UTF-16"))
            return data.decode(codec, "replace").replace("\0", "")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = data.decode("cp1252", "replace")
        escaped = _lines(data.decode("utf-8", "surrogateescape"))
        rows = [number for number, line in enumerate(escaped, 1) if re.search("[\udc80-\udcff]", line)]
        example = f"row {rows[0]}: byte 0x{data[error.start]:02x} in {_lines(text)[rows[0] - 1].strip()[:60]!r}"
        problems.append(_problem("encoding", rows, example=example, why="probably Windows-1252 or Latin-1"))
    if "\0" in text:
        rows = [number for number, line in enumerate(_lines(text), 1) if "\0" in line]
        problems.append(_problem("nul_bytes", rows))
        text = text.replace("\0", "")
    return text


def _lines(text: str) -> list[str]:
    """Lines as an editor and the csv module count them; str.splitlines knows more separators."""
    return re.split("\r\n|\r|\n", text)


def _read_delimited(data: bytes, path: Path, problems: list[Problem]) -> tuple[_Columns | None, list[int]]:
    text = _decoded(data, problems)
    first = next((line for line in _lines(text[:100_000]) if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else max(",;\t", key=lambda mark: (first.count(mark), mark == ","))
    numbers, records = _records(text, delimiter, problems)
    if not records:
        return {}, []
    header = [name.strip() for name in records.pop(0)]
    while header and not header[-1] and all(len(row) < len(header) or not row[len(header) - 1].strip() for row in records):
        header.pop()  # a separator at the end of every line
    names = _column_names(header, records, problems)
    rows, lines, ragged, blank = [], [], [], []
    for line, row in zip(numbers[1:], records, strict=True):
        while len(row) > len(header) and not row[-1].strip():
            row.pop()
        if not row or (not row[0].strip() and not any(map(str.strip, row))):
            blank.append(line)
        elif len(row) != len(header):
            ragged.append((line, len(row)))
        else:
            rows.append(row)
            lines.append(line)
    if ragged:
        example = f"row {ragged[0][0]} has {ragged[0][1]} cells"
        problems.append(_problem("ragged_row", [line for line, _ in ragged], example=example, expected=len(header)))
    if blank:
        problems.append(_problem("blank_row", blank))
    return dict(zip(names, map(list, zip(*rows, strict=True)) if rows else ([] for _ in names), strict=True)), lines


def _records(text: str, delimiter: str, problems: list[Problem]) -> tuple[list[int], list[list[str]]]:
    """First editor line, and cells, of each record that is not an empty line."""
    lines: list[int] = []
    records: list[list[str]] = []
    limit = csv.field_size_limit(max(len(text), 131_072))  # run-length codes are long
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return lines, records
            except csv.Error as error:
                problems.append(_problem("broken_quotes", [line], example=f"row {line}: {error}"))
                continue
            if row:
                lines.append(line)
                records.append(row)
    finally:
        csv.field_size_limit(limit)


def _column_names(header: Sequence[str], rows: Sequence[Sequence[str]], problems: list[Problem]) -> list[str]:
    names: list[str] = []
    for place, name in enumerate(header):
        if not name:
            name = f"unnamed_{place + 1}"
            if any(len(row) > place and row[place].strip() for row in rows):
                problems.append(_problem("unnamed_column", column=name, name=name))
        if name in names:
            places = f"columns {names.index(name) + 1} and {place + 1}"
            problems.append(_problem("duplicate_column", column=name, example=places))
            name = f"{name} ({place + 1})"
        names.append(name)
    return names


def _read_json_lines(data: bytes, path: Path, problems: list[Problem]) -> tuple[_Columns | None, list[int]]:
    records, lines, broken, doubled = [], [], [], []
    for number, line in enumerate(_decoded(data, problems).split("\n"), 1):
        if not line.strip():
            continue
        repeated: list[str] = []
        try:
            record = json.loads(line, object_pairs_hook=partial(_object, repeated))
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
            lines.append(number)
            doubled += [(number, name) for name in repeated]
        else:
            broken.append((number, line))
    if broken:
        example = f"row {broken[0][0]}: {broken[0][1].strip()[:80]!r}"
        problems.append(_problem("broken_json", [number for number, _ in broken], example=example))
    for name in dict.fromkeys(name for _, name in doubled):
        problems.append(_problem("duplicate_column", [row for row, other in doubled if other == name], name))
    return _columns_of(records), lines


def _object(repeated: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    repeated += [name for name, count in counts.items() if count > 1]
    return dict(pairs)


def _columns_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Records to columns of text; {"subgroup": {"sex": ...}} is the column subgroup.sex."""
    flat = [
        {
            (f"{key.strip()}.{inner}" if nested else key).strip(): value
            for key, cell in record.items()
            for nested in [key.strip() in ("subgroup", "region") and isinstance(cell, dict)]
            for inner, value in (cell.items() if nested else [("", cell)])
        }
        for record in records
    ]
    names = dict.fromkeys(name for record in flat for name in record)
    return {name: [_text(record.get(name)) for record in flat] for name in names}


def _text(value: Any) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _read_json(data: bytes, path: Path, problems: list[Problem]) -> tuple[_Columns | None, list[int]]:
    try:
        content = json.loads(_decoded(data, problems))
    except (ValueError, RecursionError) as error:
        problems.append(_problem("file_format", why=f"no valid JSON ({error})"))
        return None, []
    try:
        records = content if isinstance(content, list) else _coco_records(content)
    except (AttributeError, TypeError, ValueError):  # parts of another shape than COCO's
        records = None
    if records is None or not all(isinstance(record, dict) for record in records):
        problems.append(_problem("file_format", why="the JSON is neither a list of records nor a COCO annotation file"))
        return None, []
    return _columns_of(records), list(range(1, len(records) + 1))


def _coco_records(content: Any) -> list[dict[str, Any]] | None:
    """One record per image of a COCO file: its fields, and ``region.<category>``, the union of that category's objects.

    An image without an object of a category is not annotated for it: whether it was looked for is not in the file.
    """
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        return None
    categories = {item.get("id"): str(item.get("name")) for item in content.get("categories", [])}
    objects: dict[tuple[Any, str], list[dict[str, Any]]] = defaultdict(list)
    for item in content.get("annotations", []):
        if item.get("category_id") in categories:
            objects[item.get("image_id"), categories[item["category_id"]]].append(item)
    return [
        {
            "image": image.get("file_name"), **image,
            **{f"region.{name}": _coco_region(objects[image.get("id"), name], image) for name in categories.values()},
        }
        for image in content["images"]
    ]  # fmt: skip


def _coco_region(items: Sequence[Mapping[str, Any]], image: Mapping[str, Any]) -> Any:
    """One cell for all objects: their rings, or the RLE of their union; a broken shape stands as it is, for the checks to name."""
    shapes = [item.get("segmentation") or _ring(item.get("bbox") or ()) for item in items]
    if all(isinstance(shape, list) for shape in shapes):
        return [ring for shape in shapes for ring in shape] or None
    if len(shapes) == 1:
        return shapes[0]
    height, width = image.get("height"), image.get("width")
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        return {"size": [height, width], "counts": "the union of several objects needs the image's height and width"}
    union = np.zeros((height, width), np.bool_)
    for shape in shapes:
        try:
            union |= load_region(json.dumps(shape), Path(), (height, width)) > 0
        except (InputError, ImageError):
            return shape
    code = coco_mask.encode(np.asfortranarray(union.astype(np.uint8)))
    return {"size": [height, width], "counts": code["counts"].decode()}


def _ring(bbox: Sequence[float]) -> list[list[float]]:
    if len(bbox) != 4:
        return []
    x, y, width, height = bbox
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def _read_parquet(data: bytes, path: Path, problems: list[Problem]) -> tuple[_Columns | None, list[int]]:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
        frame = frame.reset_index(allow_duplicates=True) if any(frame.index.names) else frame  # a named index is a column
    except Exception as error:  # pyarrow raises its own and OSError on damaged files
        problems.append(_problem("file_format", why=f"no readable Parquet ({type(error).__name__})"))
        return None, []
    names = _column_names([str(name).strip() for name in frame.columns], [], problems)
    columns = {name: [_text(_plain(value)) for value in _whole(frame.iloc[:, place])] for place, name in enumerate(names)}
    return columns, list(range(1, len(frame) + 1))


def _whole(column: pd.Series) -> Iterable[Any]:
    """Floats that are all whole numbers are integers with gaps, as pandas stores them: 3.0 reads "3"."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        return column.astype("Int64").astype(object)
    return column.astype(object)


def _plain(value: Any) -> Any:
    if value is pd.NA:
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


_READERS: dict[str, Callable[[bytes, Path, list[Problem]], tuple[_Columns | None, list[int]]]] = {
    ".csv": _read_delimited, ".txt": _read_delimited, ".tsv": _read_delimited, ".tab": _read_delimited,
    ".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".json": _read_json, ".parquet": _read_parquet, ".pq": _read_parquet,
}  # fmt: skip


# ── text to gradaudit's columns ─────────────────────────────────────────────────────────────────────────────────────


def _arranged(path: Path, plan: Plan, raw: _Columns, lines: Sequence[int], problems: list[Problem]) -> _Draft:
    """Put the table's columns where the plan's ``[columns]``, or their own names, say they belong; strip, and find the unknown."""
    columns, count = plan.columns, len(lines)
    mapped = {part: name for part in _PARTS if (name := getattr(columns, part)) is not None}
    mapped |= {f"subgroup.{name}": column for name, column in columns.subgroups.items()}
    mapped |= {f"region.{name}": column for name, column in columns.regions.items()}
    templates = {f"region.{name}": template for name, template in columns.region_templates.items()}
    templates |= {"image": columns.image_template} if columns.image_template is not None else {}
    table = {name: cells for name, cells in raw.items() if name in _PARTS or name.startswith(("subgroup.", "region."))}
    for part, column in mapped.items():
        if column in raw:
            table[part] = raw[column]
        else:
            problems.append(_problem("plan_column", column=column, example=f"{part} = {column!r}", hint=_hint(column, raw)))
            table[part] = []
    for part, template in templates.items():
        table[part] = _filled(template, raw, count, problems)
    taken = [part for part in (*mapped, *templates) if part in raw and mapped.get(part) != part]
    problems.extend(_problem("column_taken_twice", column=part) for part in taken)
    used = {part: _cleaned(part, cells, plan, lines, problems) for part, cells in table.items() if cells}
    draft = _Draft(path.resolve(), plan, raw, used, lines, frozenset(part for part, cells in table.items() if not cells))
    for part in templates:
        if part.startswith("region.") and part in used:
            problems.extend(_without_unmasked(draft, part))
    return draft


def _cleaned(part: str, cells: Sequence[str], plan: Plan, lines: Sequence[int], problems: list[Problem]) -> list[str]:
    """Cells without outer spaces, "" where they mean unknown; declared levels and classes always mean themselves."""
    padded = {cell for cell in set(cells) if cell != cell.strip()}
    spaced = [i for i, cell in enumerate(cells) if cell in padded] if padded else []
    if spaced:
        problems.append(_problem("spaces", (lines[i] for i in spaced), part, f"row {lines[spaced[0]]}: {cells[spaced[0]][:80]!r}"))
    setting = plan.subgroups.get(part.removeprefix("subgroup.")) if part.startswith("subgroup.") else None
    declared = frozenset((plan.model.classes or ()) if part == "label" else (setting and setting.order) or ())
    meaning = {cell: _known(cell.strip(), declared) for cell in set(cells)}
    known = [meaning[cell] for cell in cells]
    if not part.startswith("subgroup."):
        return known
    words = {cell for cell in set(known) if cell.casefold() in DOUBTFUL_WORDS and cell not in declared}
    doubtful = [i for i, cell in enumerate(known) if cell in words] if words else []
    dropped = bool(setting and (setting.order or setting.kind == "continuous"))
    if dropped and not declared:
        doubtful = [i for i in doubtful if _number(known[i]) is None]
    if doubtful:
        example = f"row {lines[doubtful[0]]}: {known[doubtful[0]]!r}"
        read = "read as unknown" if dropped else "kept as a level"
        problems.append(_problem("doubtful_word", (lines[i] for i in doubtful), part, example, read=read))
    for i in doubtful if dropped else ():
        known[i] = ""
    return known


def _known(cell: str, declared: Collection[str] = ()) -> str:
    return "" if len(cell) <= 7 and cell.casefold() in UNKNOWN_WORDS and cell not in declared else cell


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None


def _filled(template: str, raw: Mapping[str, Sequence[str]], count: int, problems: list[Problem]) -> list[str]:
    """One text per row, empty where a column in the template is; nothing but cells is put in. [] for a broken template."""
    try:
        parts = [(literal, name, form or "") for literal, name, form, _ in string.Formatter().parse(template)]
        why = "" if all(format("x", form) for _, _, form in parts) else "empty"
    except ValueError as error:
        parts, why = [], str(error)
    names = [name for _, name, _ in parts if name is not None]
    unknown = [name for name in names if name not in raw]
    if unknown:
        why = f"there is no column {unknown[0]!r}{_hint(unknown[0], raw)}"
    elif not names:
        why = why or "it names no column, so every row would be the same"
    if why:
        problems.append(_problem("plan_template", example=template, why=why))
        return []
    cells = {name: [cell.strip() for cell in raw[name]] for name in names}
    empty = {i for column in cells.values() for i, cell in enumerate(column) if not _known(cell)}
    return [
        "" if i in empty else "".join(literal + (format(cells[name][i], form) if name is not None else "") for literal, name, form in parts)
        for i in range(count)
    ]


def _without_unmasked(draft: _Draft, part: str) -> Iterator[Problem]:
    """A template names a file for every row; where only some exist, the other rows are not annotated. None at all is an error later."""
    cells = draft.table[part]
    local = {i: source.path for i, source in _sources(cells).items() if isinstance(source, RegionSource) and source.path and not is_url(source.path)}
    absent = _absent(local.values(), draft.root)
    gone = [i for i, path in local.items() if absent.get(path) == "missing"]
    if gone and len(gone) < len(local):
        yield draft.problem("unmasked_rows", gone, part)
        for i in gone:
            cells[i] = ""


def _near(name: str, known: Iterable[str]) -> str:
    """A question after something known that is close, whatever the case of letters; "" if nothing is."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return f"did you mean {folded[near[0]]!r}?" if near else ""


def _hint(name: str, known: Iterable[str]) -> str:
    near = _near(name, known)
    return f" ({near})" if near else ""


# ── checks: each yields the problems of one part ────────────────────────────────────────────────────────────────────


def _check_columns(draft: _Draft) -> Iterator[Problem]:
    if "image" not in draft.table and "image" not in draft.unfilled:
        words = {column.casefold(): column for column in reversed(draft.raw)}
        near = next((words[word] for word in COLUMN_WORDS["image"] if word in words), None)
        hint = f" (did you mean {near!r}?)" if near else _hint("image", draft.raw)
        if any(name.lower().endswith(IMAGE_TYPES) for name in draft.raw):
            hint = " (the first line looks like data, and should be a header)"
        yield _problem("no_image_column", example=f"found: {', '.join(map(repr, list(draft.raw)[:12]))}", hint=hint)
    mapping = draft.plan.columns.model_dump(exclude_defaults=True)
    for column in draft.raw:
        if not mapping and column not in draft.table and (near := _misspelt(column)):
            yield _problem("misspelt_column", column=column, near=near)
    for column in draft.table:
        kind, _, name = column.partition(".")
        if kind in ("subgroup", "region") and (not name.strip() or _CONTROL.search(name) or (kind == "region" and name in ("whole", "absent"))):
            yield _problem("bad_name", column=column)
    for part in ("label", "cluster"):
        free = {column.casefold(): column for column in reversed(draft.raw) if column not in draft.table and column not in mapping.values()}
        near = next((free[word] for word in (*COLUMN_WORDS[part], *difflib.get_close_matches(part, free, cutoff=0.8)) if word in free), None)
        if near and part not in draft.table and part not in draft.unfilled:
            yield _problem("likely_column", column=near, part=part)


def _misspelt(column: str) -> str | None:
    """"subgroup.sex" for subgrup.sex, Subgroup_sex, subgroups:sex; None for names that are something else (religion.x)."""
    for mark in ".:_-/ ":
        prefix, found, name = column.partition(mark)
        folded = prefix.casefold().replace("_", "").replace("-", "")
        for kind in ("subgroup", "region"):
            same = folded in (kind, kind + "s")
            close = folded[:3] == kind[:3] and not folded.startswith(kind) and difflib.SequenceMatcher(None, folded, kind).ratio() >= 0.8
            if found and name.strip() and (same or close):
                return f"{kind}.{name.strip()}"
    return None


def _check_plan(draft: _Draft) -> Iterator[Problem]:
    plan, attributes, regions = draft.plan, draft.names("subgroup."), draft.names("region.")
    derived = {name: region.derive for name, region in plan.regions.items() if region.derive is not None}
    for name in plan.subgroups:
        if f"subgroup.{name}" not in (*draft.table, *draft.unfilled) and name not in MEASURED_ATTRIBUTES:
            yield _problem("plan_subgroup", column=f"subgroup.{name}", name=name, hint=_hint(name, attributes))
    for name in plan.regions:
        if f"region.{name}" not in (*draft.table, *draft.unfilled) and name not in derived:
            yield _problem("plan_region", column=f"region.{name}", name=name, hint=_hint(name, regions))
    for _, rule, text in derivation_faults(derived, {*regions, *(set(plan.regions) - set(derived))}):
        yield _problem(rule, example=text)
    columns = {*draft.raw, *draft.table}
    for name in plan.analysis.covariates:
        if not {name, f"subgroup.{name}"} & columns:
            yield _problem("plan_covariate", example=repr(name), hint=_hint(name, columns))
    if plan.analysis.pairs is not None and plan.analysis.pairs not in columns:
        yield _problem("plan_pairs", example=repr(plan.analysis.pairs), hint=_hint(plan.analysis.pairs, columns))
    yield from _check_roles(draft, regions, derived)
    if not attributes and not plan.subgroups and not draft.unfilled:
        yield _problem("no_attribute")
    if not regions and not plan.regions and not draft.unfilled:
        yield _problem("no_region")


def _check_roles(draft: _Draft, regions: Sequence[str], derived: Collection[str]) -> Iterator[Problem]:
    plan = draft.plan
    for name in plan.analysis.regions:
        if name not in regions and name not in plan.regions:
            yield _problem("plan_confirmatory", example=repr(name), hint=_hint(name, [*regions, *derived]))
        elif plan.region_role(name) == "neutral":
            yield _problem("neutral_confirmatory", example=repr(name), name=name)
    if plan.criteria and not plan.analysis.regions and all(region.role == "neutral" for region in plan.regions.values()):
        yield _problem("no_role")


def _check_images(draft: _Draft) -> Iterator[Problem]:
    images = draft.table.get("image", [])
    empty = [i for i, cell in enumerate(images) if not cell]
    if empty:
        yield draft.problem("empty_image", empty, "image")
    given = {i: cell for i, cell in enumerate(images) if cell}
    problems, broken = _check_files(draft, "image", given, "missing_image", "image_is_folder")
    yield from problems
    other = [i for i, cell in given.items() if not cell.endswith(IMAGE_TYPES) and not cell.lower().endswith(IMAGE_TYPES)]
    odd = [i for i in other if i not in broken and not _is_picture(given[i], draft.root)]
    if odd:
        yield draft.problem("image_type", odd, "image")
    dicom = [i for i, cell in given.items() if cell.lower().endswith((".dcm", ".dicom"))]
    if dicom and not _installed("pydicom"):
        yield draft.problem("missing_package", dicom, "image", why="DICOM needs pydicom", package="'gradaudit[dicom]'")
    absolute = [i for i, cell in given.items() if cell[0] in "/\\" or cell[1:2] == ":"]
    if absolute:
        yield draft.problem("absolute_path", absolute, "image")
    repeated = _repeats({i: os.path.normpath(cell) if ("./" in cell or "//" in cell) and not is_url(cell) else cell for i, cell in given.items()})
    if "id" in draft.table:  # one cluster for all rows of an image already says that they depend on each other
        clusters = draft.table.get("cluster", list(map(str, range(len(images)))))
        repeated = [rows for rows in repeated if not clusters[rows[0]] or len({clusters[i] for i in rows}) > 1]
    if repeated:
        remark = f"also in row {draft.lines[repeated[0][1]]}"
        yield draft.problem("repeated_image" if "id" in draft.table else "duplicate_image", [i for rows in repeated for i in rows], "image", remark)


def _repeats(cells: Mapping[int, str]) -> list[list[int]]:
    if len(set(cells.values())) == len(cells):
        return []
    same: dict[str, list[int]] = defaultdict(list)
    for i, cell in cells.items():
        same[cell].append(i)
    return [rows for rows in same.values() if len(rows) > 1]


def _check_ids(draft: _Draft) -> Iterator[Problem]:
    ids = draft.table.get("id", [])
    empty = [i for i, cell in enumerate(ids) if not cell]
    if empty:
        yield draft.problem("empty_id", empty, "id")
    repeated = _repeats({i: cell for i, cell in enumerate(ids) if cell})
    if repeated:
        yield draft.problem("duplicate_id", [i for rows in repeated for i in rows], "id", f"also in row {draft.lines[repeated[0][1]]}")
    for column, cells in draft.table.items():
        if not column.startswith("region."):
            odd = [i for i, cell in enumerate(cells) if _CONTROL.search(cell)] if _CONTROL.search("".join(cells)) else []
            if odd:
                yield draft.problem("control_characters", odd, column)


def _check_labels(draft: _Draft) -> Iterator[Problem]:
    labels, classes = draft.table.get("label", []), draft.plan.model.classes
    positive = draft.plan.analysis.positive_class
    if classes:
        known = {*classes, *map(str, range(len(classes)))}
        odd = [i for i, cell in enumerate(labels) if cell and cell not in known]
        if odd:
            shown = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
            yield draft.problem("unknown_label", odd, "label", _near(labels[odd[0]], classes), expected=shown)
    else:
        yield from _spellings(draft, "label")
    choices = list(classes or dict.fromkeys(filter(None, labels)))
    if positive is not None and choices and positive not in choices and not (classes and positive.isdigit() and int(positive) < len(classes)):
        yield _problem("plan_positive_class", example=repr(positive), hint=_hint(positive, choices), expected=", ".join(choices[:8]))


def _spellings(draft: _Draft, column: str) -> Iterator[Problem]:
    """Levels that differ in letter case, spaces, dashes or number format only; the rarer spellings are the rows."""
    counts = Counter(cell for cell in draft.table.get(column, []) if cell)
    same: dict[str, list[str]] = defaultdict(list)
    for cell, _ in counts.most_common():
        same[_normal(cell)].append(cell)
    rarer = {cell for cells in same.values() for cell in cells[1:]}
    rows = [i for i, cell in enumerate(draft.table.get(column, [])) if cell in rarer]
    if rows:
        found = same[_normal(draft.table[column][rows[0]])]
        remark = ", ".join(f"{cell!r} in {counts[cell]:,} row{'s' * (counts[cell] != 1)}" for cell in found)
        yield draft.problem("level_spellings", rows, column, remark, name=column.partition(".")[2] or "...")


def _normal(cell: str) -> str:
    number = _number(cell)
    if number is not None:
        return str(number)
    return re.sub(r"[\s_\-\u2010-\u2015]+", " ", unicodedata.normalize("NFKC", cell).casefold())


def _check_attributes(draft: _Draft) -> Iterator[Problem]:
    for name in draft.names("subgroup."):
        column, setting = f"subgroup.{name}", draft.plan.subgroups.get(name, SubgroupPlan())
        cells = draft.table[column]
        levels = Counter(cell for cell in cells if cell)
        if setting.order and setting.kind == "continuous":
            yield _problem("plan_order_numeric", column=column)
        if not levels:
            yield _problem("unknown_throughout", column=column)
        elif setting.kind == "continuous":
            yield from _check_numbers(draft, column)
        else:
            yield from _check_levels(draft, column, levels, setting)
            yield from _check_clusters_of(draft, column, setting)
        if len(levels) == 1:
            yield _problem("one_level", column=column, example=f"{next(iter(levels))!r} in {levels.total():,} rows")


def _check_numbers(draft: _Draft, column: str) -> Iterator[Problem]:
    numbers = {i: _number(cell) for i, cell in enumerate(draft.table[column]) if cell}
    odd = [i for i, number in numbers.items() if number is None]
    if odd:
        decimal = "use a decimal point" if re.fullmatch(r"-?\d+,\d+", draft.table[column][odd[0]]) else ""
        yield draft.problem("not_a_number", odd, column, decimal)
    infinite = [i for i, number in numbers.items() if number is not None and not math.isfinite(number)]
    if infinite:
        yield draft.problem("not_finite", infinite, column)


def _check_levels(draft: _Draft, column: str, levels: Counter[str], setting: SubgroupPlan) -> Iterator[Problem]:
    cells, order = draft.table[column], setting.order
    reserved = [i for i, cell in enumerate(cells) if cell in RESERVED_LEVELS]
    if reserved:
        yield draft.problem("reserved_level", reserved, column)
    if order:
        odd = [i for i, cell in enumerate(cells) if cell and cell not in order]
        if odd:
            yield draft.problem("unknown_level", odd, column, _near(cells[odd[0]], order), expected=", ".join(order))
        for level in order:
            if level not in levels:
                yield _problem("unused_level", column=column, example=repr(level))
    else:
        yield from _spellings(draft, column)
        if len(levels) > MANY_LEVELS:
            yield _problem("many_levels", column=column, levels=len(levels), name=column.removeprefix("subgroup."))
    if setting.reference != "rest" and setting.reference not in levels:
        yield _problem("plan_reference", column=column, example=repr(setting.reference), hint=_hint(setting.reference, levels))


def _check_clusters_of(draft: _Draft, column: str, setting: SubgroupPlan) -> Iterator[Problem]:
    if setting.within or "cluster" not in draft.table:
        return
    pairs = {pair for pair in zip(draft.table["cluster"], draft.table[column], strict=True) if all(pair)}
    several = {cluster for cluster, count in Counter(cluster for cluster, _ in pairs).items() if count > 1}
    rows = [i for i, cluster in enumerate(draft.table["cluster"]) if cluster in several]
    if rows:
        cluster = draft.table["cluster"][rows[0]]
        found = ", ".join(sorted(repr(cell) for other, cell in pairs if other == cluster))
        remark = f"cluster {cluster!r} has {found}; {len(several):,} such clusters"
        yield draft.problem("spread_attribute", rows, column, remark, name=column.removeprefix("subgroup."))


def _check_clusters(draft: _Draft) -> Iterator[Problem]:
    clusters = draft.table.get("cluster", [])
    empty = [i for i, cell in enumerate(clusters) if not cell]
    if empty:
        yield draft.problem("empty_cluster", empty, "cluster")
    if len(clusters) > 1 and len(set(clusters)) == 1 and clusters[0]:
        yield _problem("single_cluster", column="cluster", example=repr(clusters[0]))


def _check_regions(draft: _Draft) -> Iterator[Problem]:
    for name in draft.names("region."):
        column = f"region.{name}"
        cells = draft.table[column]
        if not any(cells):
            yield _problem("region_never", column=column)
        faults: dict[str, list[int]] = defaultdict(list)
        sources: dict[int, RegionSource] = {}
        remarks: dict[str, str] = {}
        for i, source in _sources(cells).items():
            if isinstance(source, RegionSource):
                sources[i] = source
            else:
                faults[source.rule].append(i)
                if source.rule.endswith(("_malformed", "_value")):  # the other rules say it themselves
                    remarks.setdefault(source.rule, str(source))
        for rule, rows in faults.items():
            yield draft.problem(rule, rows, column, remarks.get(rule, ""))
        yield from _check_masks(draft, column, {i: source for i, source in sources.items() if source.path})


def _sources(cells: Sequence[str]) -> dict[int, RegionSource | RegionTextError]:
    """What each cell that is not empty says; equal cells are parsed once."""
    parsed: dict[str, RegionSource | RegionTextError] = {}
    for cell in cells:
        if cell and cell not in parsed:
            try:
                parsed[cell] = parse_region(cell)
            except RegionTextError as error:
                parsed[cell] = error
    return {i: parsed[cell] for i, cell in enumerate(cells) if cell}


def _check_masks(draft: _Draft, column: str, sources: Mapping[int, RegionSource]) -> Iterator[Problem]:
    problems, _ = _check_files(draft, column, {i: source.path for i, source in sources.items()}, "missing_mask", "mask_is_folder")
    yield from problems
    volumes = [i for i, source in sources.items() if source.kind == "volume"]
    if volumes and not _installed("nibabel"):
        yield draft.problem("missing_package", volumes, column, why="NIfTI needs nibabel", package="'gradaudit[nifti]'")
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
        count = len(users[sources[shared[0]].path])
        yield draft.problem("shared_mask", shared, column, f"{count:,} images")


CHECKS: tuple[Callable[[_Draft], Iterator[Problem]], ...] = (
    _check_columns, _check_plan, _check_images, _check_ids, _check_labels, _check_clusters, _check_attributes, _check_regions,
)  # fmt: skip


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_files(draft: _Draft, column: str, given: Mapping[int, str], missing: str, folder: str) -> tuple[list[Problem], set[int]]:
    """Files on this machine must exist, URLs need a file system that can be loaded; also the rows that fail."""
    states = _absent((path for path in given.values() if not is_url(path)), draft.root)
    rows: dict[str, list[int]] = defaultdict(list)
    for i, path in given.items():
        state = states.get(path)
        if state == "missing":
            rows["windows_path" if "\\" in path and os.sep == "/" else missing].append(i)
        elif state == "folder":
            rows[folder].append(i)
    problems = [
        draft.problem(rule, found, column, _nearest(given[found[0]], draft.root) if rule == missing else "") for rule, found in rows.items()
    ]  # fmt: skip
    protocols: dict[str, list[int]] = defaultdict(list)
    for i, path in given.items():
        if is_url(path):
            protocols[path.partition("://")[0].rpartition("::")[2]].append(i)
    for protocol, found in protocols.items():
        why = _why_not(protocol)
        if why is not None:
            rule, package = ("missing_package", why) if why else ("unknown_protocol", "")
            expected = "s3, gs, az, https, file, memory, and what fsspec.available_protocols() lists"
            problems.append(draft.problem(rule, found, column, why=f"{protocol}:// needs {package}", package=package, expected=expected))
            rows[rule] += found
    return problems, {i for found in rows.values() for i in found}


def _absent(paths: Iterable[str], root: Path) -> dict[str, str]:
    """Of local paths, those that are no file: "missing" or "folder". Folders with many of them are listed once, not asked per file."""
    folders: dict[str, list[str]] = defaultdict(list)
    for path in set(paths):
        folders[path[: path.rfind("/") + 1]].append(path)
    absent: dict[str, str] = {}
    for folder, wanted in folders.items():
        files = _file_names(os.path.join(root, folder)) if len(wanted) >= LIST_FROM else frozenset()
        start = len(folder)
        for path in wanted if not files else [path for path in wanted if path[start:] not in files]:
            whole = os.path.join(root, path)
            if not os.path.isfile(whole):
                absent[path] = "folder" if os.path.isdir(whole) else "missing"
    return absent


def _file_names(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()


def _nearest(path: str, root: Path) -> str:
    """A remark on what is there instead of a missing file."""
    folder, name = os.path.split(os.path.join(root, path))
    if not os.path.isdir(folder):
        return f"there is no folder {os.path.dirname(path) or folder!r}"
    names = sorted(_file_names(folder))[:20_000]
    stem = os.path.splitext(name)[0].casefold()
    same = [other for other in names if os.path.splitext(other)[0].casefold() == stem]
    near = same or difflib.get_close_matches(name, names[:2_000], n=1, cutoff=0.8)
    return f"the folder has {near[0]!r}" if near else f"the folder has {len(names):,} other files" if names else "the folder is empty"


def _why_not(protocol: str) -> str | None:
    """None if fsspec can open such URLs, the package that it lacks, or "" where it knows no such protocol."""
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        return ""
    except ImportError as error:
        return PROTOCOL_PACKAGES.get(protocol) or str(error)
    return None


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # a module without a spec, or blocked in sys.modules
        return False


def _is_picture(path: str, root: Path) -> bool:
    """True if the first bytes are those of an image format; URLs are believed."""
    if is_url(path):
        return True
    try:
        with (root / path).open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start.startswith(_SIGNATURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[128:] == b"DICM"


# ── a starting plan for an existing table ───────────────────────────────────────────────────────────────────────────


def suggest_plan(path: str | Path) -> str:
    """A commented plan (TOML) for a table, guessed from its columns, its values and the files near it; every guess says why.

    Errors: ``ManifestError`` where the table cannot be read or has no rows.
    """
    path = Path(path)
    problems: list[Problem] = []
    raw, lines, _ = _read_table(path, problems)
    if not raw or not lines:
        raise _error(path, problems or [_problem("no_rows")])
    raw = {name: [_known(cell.strip()) for cell in cells] for name, cells in raw.items()}
    used: set[str] = set()
    columns, masks = _guess_files(raw, path.resolve().parent, used)
    columns += _guess_parts(raw, used)
    groups, settings = _guess_subgroups(raw, used)
    regions = _guess_regions([name.removeprefix("region.") for name in raw if name.startswith("region.")] + list(masks))
    text = [
        f"# A starting plan for {path.name} ({len(lines):,} rows, {len(raw)} columns). Each guess says why: check every line, above all",
        "# the cluster (what may be taken as independent) and the roles of the regions.",
        *_section("columns", columns),
        *_section("columns.subgroups", groups),
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
# declared_by = "..."
# declared_on = 2026-01-31
# rationale = "..."
"""


def _section(name: str, entries: Sequence[str]) -> list[str]:
    """A table of the plan; commented out as a whole where every entry is a comment."""
    title = f"[{name}]" if any(not entry.startswith("#") for entry in entries) else f"# [{name}]"
    return ["", title, *entries] if entries else []


def _entry(key: str, value: str | Sequence[str], why: str) -> str:
    texts = [value] if isinstance(value, str) else list(value)
    quoted = [json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") for text in texts]
    shown = quoted[0] if isinstance(value, str) else f"[{', '.join(quoted)}]"
    return f"{_key(key)} = {shown}  # {_CONTROL.sub('?', why)}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _listed(values: Iterable[str], most: int = 6) -> str:
    texts = list(values)
    return ", ".join(text[:30] for text in texts[:most]) + (", ..." if len(texts) > most else "")


def _guess_files(raw: _Columns, root: Path, used: set[str]) -> tuple[list[str], dict[str, str]]:
    """Entries for the image (a column, or a template around an id), and for each region whose masks lie near."""
    words = [name for word in (*COLUMN_WORDS["image"], *COLUMN_WORDS["id"]) for name in raw if name.casefold() == word]
    folders = _folders_near(root)
    best: tuple[int, str, str, str] = (0, "", "", "")
    for column in dict.fromkeys([*words, *raw]):
        tried = _tried(raw[column])
        paths = sum(cell.lower().endswith(IMAGE_TYPES) for cell in tried) > len(tried) / 2
        if len(set(tried)) < len(tried) or _MASK_WORD.search(column) or column.startswith(("region.", "subgroup.")):
            continue
        if paths and is_url(tried[0]):
            best = max(best, (1, "", column, ""), key=itemgetter(0))
        for folder, names in folders.items():
            for ending in ("",) if paths else IMAGE_TYPES:
                hits = _hits(root, folder, names, tried, ending)
                if hits > best[0] and not _MASK_WORD.search(folder):
                    best = hits, folder, column, ending
    hits, folder, column, ending = best
    if not hits:
        near = [name for name in words if name.casefold() in COLUMN_WORDS["image"]]
        return [f"# image = {json.dumps(near[0] if near else '...')}  # no image file was found near the table: name the column of paths"], {}
    used.add(column)
    template = f"{folder}/{{{column}}}{ending}".removeprefix("./").removeprefix("/")
    masks = _guess_masks(raw[column], column, root, folders, template)
    tried = _tried(raw[column])
    elsewhere = {place: _hits(root, place, names, tried, ending) for place, names in folders.items() if place != folder}
    more = ", ".join(f"{count} in {place}" for place, count in elsewhere.items() if count and not _MASK_WORD.search(place) and hits < len(tried))
    why = f"such files are there for {hits} of {len(tried)} rows tried" + (f"; {more}: bring them into one folder" if more else "")
    why = why if folder else "it holds URLs"
    if template != f"{{{column}}}":
        return [_entry("image_template", template, why)], masks
    return ([] if column == "image" else [_entry("image", column, why)]), masks


def _guess_masks(cells: Sequence[str], column: str, root: Path, folders: Mapping[str, frozenset[str]], image: str) -> dict[str, str]:
    tried = _tried(cells)
    whole = all(cell.lower().endswith(IMAGE_TYPES) for cell in tried)
    masks: dict[str, str] = {}
    for folder, names in folders.items():
        endings = [""] if whole else [suffix + kind for suffix in _MASK_SUFFIXES for kind in MASK_TYPES] if names else []
        for ending in endings if _MASK_WORD.search(folder) else filter(_MASK_WORD.search, endings):
            hits = _hits(root, folder, names, tried, ending)
            template = f"{folder}/{{{column}}}{ending}".removeprefix("./")
            if hits and template != image:
                name = "lesion" if any(cell.startswith("ISIC_") for cell in tried) else "object"
                name = name if name not in masks else f"{name}_{len(masks) + 1}"
                masks[name] = _entry(name, template, f"such files are there for {hits} of {len(tried)} rows tried")
    return masks


def _folders_near(root: Path) -> dict[str, frozenset[str]]:
    """Folders beside and below the table, as relative paths, and the files in them; two levels down, one up."""
    found = [".", *_subfolders(root, ".")]
    found += [inner for folder in found[1:] for inner in _subfolders(root, folder)][:FOLDERS_TRIED]
    found += ["..", *_subfolders(root, "..")]
    return {folder: _file_names(os.path.join(root, folder)) for folder in found if folder != f"../{root.name}"}


def _subfolders(root: Path, folder: str) -> list[str]:
    try:
        with os.scandir(root / folder) as entries:
            names = sorted(entry.name for entry in islice(entries, 100_000) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
    return [f"{folder}/{name}".removeprefix("./") for name in names[:FOLDERS_TRIED]]


def _tried(cells: Sequence[str]) -> list[str]:
    """Some of the cells, spread over the table."""
    given = [cell for cell in cells if cell]
    return given[:: max(1, len(given) // TRIED_ROWS)][:TRIED_ROWS]


def _hits(root: Path, folder: str, names: frozenset[str], cells: Sequence[str], ending: str) -> int:
    """How many of ``cells`` + ``ending`` are files in the folder; paths into its subfolders are tried only if one of three is there."""
    deep = [cell for cell in cells if "/" in cell]
    found = sum(cell + ending in names for cell in cells) if names else 0
    if any((root / folder / (cell + ending)).is_file() for cell in deep[:3]):
        found += sum((root / folder / (cell + ending)).is_file() for cell in deep)
    return found


def _guess_parts(raw: _Columns, used: set[str]) -> list[str]:
    entries = []
    for part in ("cluster", "label", "id"):
        near = [name for word in COLUMN_WORDS[part] for name in raw if name.casefold() == word and name not in used]
        if part == "id":
            near = [name for name in near if len({*raw[name]} - {""}) == len(raw[name])]
        if not near:
            entries += ["# cluster = ...  # no column looks like a patient: every image would count as independent"] if part == "cluster" else []
            continue
        used.add(near[0])
        levels = dict.fromkeys(filter(None, raw[near[0]]))
        why = "unique" if part == "id" else f"its name; {len(levels):,} values in {len(raw[near[0]]):,} rows"
        why += f": {_listed(levels)}" if part == "label" else ""  # clusters may be names of patients
        also = f"; also there: {', '.join(near[1:])}" if near[1:] else ""
        if near[0] != part:
            entries.append(_entry(part, near[0], why + also))
    return entries


def _guess_subgroups(raw: _Columns, used: set[str]) -> tuple[list[str], list[str]]:
    """Entries of [columns.subgroups], and the sections [subgroups.*] of ordered and continuous attributes."""
    entries, settings = [], []
    for column, cells in raw.items():
        native = column.startswith("subgroup.")
        levels = Counter(cell for cell in cells if cell)
        if column in used or column.startswith("region.") or len(levels) < 2 or (column.casefold() in _NOT_GROUPS and not native):
            continue
        numeric = all(_number(level) is not None for level in levels)
        word = _GROUP_WORD.search(column.replace("_", " "))
        if len(levels) > FEW_LEVELS and not (numeric and (word or native)):
            continue
        name = column.removeprefix("subgroup.") if native else re.sub(r"\W+", "_", column.casefold()).strip("_") or "attribute"
        why = f"{len(levels)} levels: {_listed(level for level, _ in levels.most_common())}"
        if len(levels) > FEW_LEVELS:
            why = f"numbers from {min(map(float, levels)):g} to {max(map(float, levels)):g}"
            settings += ["", f"[subgroups.{_key(name)}]", _entry("kind", "continuous", why)]
        elif _ORDER_WORD.search(column):
            order = sorted((level for level in levels if level.casefold() not in DOUBTFUL_WORDS), key=_rank)
            settings += ["", f"[subgroups.{_key(name)}]", _entry("order", order, "its name says it is ordered; sorted, so check the direction")]
        if not native:
            used.add(column)
            doubt = "" if word else "; its name does not say that it groups people or scenes"
            entries.append(("" if word else "# ") + _entry(name, column, why + doubt))
            if not word and settings and settings[-2] == f"[subgroups.{_key(name)}]":
                del settings[-3:]
    return entries, settings


def _rank(level: str) -> tuple[float, str]:
    """Sort key of ordered levels: numbers, Roman numerals to X, else text."""
    first = re.split(r"[\s\-\u2010-\u2015/]", level, maxsplit=1)[0]
    roman = {text: number for number, text in enumerate(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"), 1)}
    number = _number(first)
    return (number if number is not None else roman.get(first.casefold(), math.inf), level)


def _guess_regions(names: Sequence[str]) -> list[str]:
    sections: list[str] = []
    if not names:
        sections += ["", *_NO_REGIONS.splitlines()]
    for name in names:
        role = "attend" if _ATTEND_WORD.search(name.replace("_", " ")) else "avoid" if _AVOID_WORD.search(name.replace("_", " ")) else "neutral"
        why = "guessed from its name" if role != "neutral" else "attend: evidence belongs here; avoid: a shortcut or protected trait"
        sections += ["", f"[regions.{_key(name)}]", _entry("role", role, why)]
    return sections
