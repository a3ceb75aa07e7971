"""The rules of a manifest: what can be wrong and what to do, one rule per kind of problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradaudit.errors import ManifestError
from gradaudit.number_text import count
from gradaudit.records import Problem
from gradaudit.regions.derived import OPERATIONS
from gradaudit.regions.text import MASK_TYPES


@dataclass(frozen=True)
class Rule:
    """What is wrong, and what to do; ``{...}`` is filled in for each problem.

    warning : the problem does not stop the audit
    """

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
    "unbuilt_attribute": Rule(
        "The plan describes the attribute {name!r}, and this version does not measure {name} from the images: nothing would be compared by it.",
        "Write its values into a column 'subgroup.{name}', or map one under [columns.subgroups]; or delete [subgroups.{name}].",
    ),
    "plan_region": Rule(
        "The plan describes a region that has no column and no derive{hint}.",
        "Add the column 'region.{name}', or a derive to the plan.",
    ),
    "plan_covariate": Rule(
        "The plan adjusts for a column that the table lacks, or that holds a path or a region{hint}.",
        "Correct [analysis] covariates: an attribute, label, cluster, or a column without a meaning of its own.",
    ),
    "plan_site": Rule(
        "The plan compares within sites by a column that the table lacks, or that holds a path or a region{hint}.",
        "Correct [analysis] site: an attribute, or a column without a meaning of its own.",
    ),
    "plan_pairs": Rule(
        "The plan pairs images by a column that the table lacks, or that has a meaning of its own{hint}.",
        "Correct [analysis] pairs: a column beside image, label, cluster, id, subgroup.* and region.*.",
    ),
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
    "unknown_label": Rule("The label is none of the plan's classes ({expected}): {found}.", "Correct the label, or [model] classes."),
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


def as_problem(
    rule: str, rows: Iterable[int] = (), column: str = "", example: str = "", **facts: object
) -> Problem:
    """A problem that breaks ``rule``, with the rule's text filled in.

    rows : as an editor counts them
    facts : values for the ``{...}`` of the rule's text
    """
    text = RULES[rule]
    facts.setdefault("hint", "")
    return Problem(
        rule,
        text.says.format(column=column, **facts),
        tuple(rows),
        example,
        text.fix.format(column=column, **facts),
        column,
    )


def manifest_error(path: Path, problems: Sequence[Problem]) -> ManifestError:
    """The error that names all problems of a manifest, errors first, then warnings."""
    ordered = sorted(problems, key=lambda problem: RULES[problem.rule].warning)
    errors = [problem for problem in ordered if not RULES[problem.rule].warning]
    rows = len({row for problem in errors for row in problem.rows})
    counted = f"{len(errors)} problem{'s' * (len(errors) != 1)}" + (
        f" in {count(rows)} row{'s' * (rows != 1)}" if rows else ""
    )
    warned = len(ordered) - len(errors)
    more = f", and {warned} warning{'s' * (warned != 1)}" if warned else ""
    return ManifestError(
        f"{path}: {counted}{more}. Nothing was measured.\n\n{render_problems(ordered)}", ordered
    )


def render_problems(problems: Sequence[Problem]) -> str:
    """The problems as plain text for a terminal.

    One paragraph each: rule, rows, what is wrong, an example, what to do.
    """
    return "\n\n".join(_paragraph(problem) for problem in problems)


def _paragraph(problem: Problem) -> str:
    kind = "warning" if problem.rule in RULES and RULES[problem.rule].warning else "error"
    where = [f"{kind}: {problem.rule}"]
    if problem.column:
        where.append(f"column {problem.column!r}")
    if problem.rows:
        where.append(
            f"{count(problem.count)} row{'s' * (problem.count != 1)}: {_row_list(problem.rows)}"
        )
    lines = [" | ".join(where), problem.message]
    lines += [f"Example: {problem.example}"] if problem.example else []
    lines += [f"To do: {problem.fix}"] if problem.fix else []
    return "\n    ".join(lines)


def _row_list(rows: Sequence[int], most: int = 12) -> str:
    """Rows as text such as "4, 7-9, 20, ...", cut after ``most`` entries."""
    spans: list[list[int]] = []
    for row in sorted(set(rows)):
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    shown = [f"{first}" if first == last else f"{first}-{last}" for first, last in spans[:most]]
    return ", ".join(shown) + (", ..." if len(spans) > most else "")
