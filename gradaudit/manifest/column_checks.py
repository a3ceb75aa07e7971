"""Checks of columns: names, ids, labels, levels, clusters, and what the plan says of them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from gradaudit.manifest.column_words import COLUMN_WORDS
from gradaudit.manifest.draft import (
    CONTROL,
    PARTS,
    ManifestDraft,
    repeated_cells,
    spellings_of,
)
from gradaudit.manifest.file_paths import IMAGE_TYPES
from gradaudit.manifest.rules import as_problem
from gradaudit.manifest.table_formats import as_number
from gradaudit.number_text import count
from gradaudit.plan import SubgroupPlan
from gradaudit.records import Problem
from gradaudit.regions.derived import derivation_faults
from gradaudit.spelling import did_you_mean, hint_in_brackets, nearest_names

UNBUILT_ATTRIBUTES = frozenset({"ita", "brightness", "resolution"})
"""Attributes that might be expected to be measured from the images, and are not yet.

A plan that names one without a column for it is refused, as it would be compared nowhere.
"""
MANY_LEVELS = 30
RESERVED_LEVELS = frozenset({"rest", "all others", "(unknown)", "(suppressed)"})


# ── checks: each yields the problems of one part ──────────────────────────────────────────────────


def check_columns(draft: ManifestDraft) -> Iterator[Problem]:
    """Problems of column names: no image column, misspelled or unusable names, unused columns."""
    if "image" not in draft.table and "image" not in draft.unfilled:
        found = ", ".join(map(repr, list(draft.raw)[:12]))
        yield as_problem("no_image_column", example=f"found: {found}", hint=_image_hint(draft))
    mapping = draft.plan.columns.model_dump(exclude_defaults=True)
    for column in draft.raw:
        if not mapping and column not in draft.table and (near := _misspelt(column)):
            yield as_problem("misspelt_column", column=column, near=near)
    for column in draft.table:
        if _is_bad_name(column):
            yield as_problem("bad_name", column=column)
    for part in ("label", "cluster"):
        if part in draft.table or part in draft.unfilled:
            continue
        if near := _likely_column(draft, part, set(map(str, mapping.values()))):
            yield as_problem("likely_column", column=near, part=part)


def _image_hint(draft: ManifestDraft) -> str:
    if any(name.lower().endswith(IMAGE_TYPES) for name in draft.raw):
        return " (the first line looks like data, and should be a header)"
    words = {column.casefold(): column for column in reversed(draft.raw)}
    near = next((words[word] for word in COLUMN_WORDS["image"] if word in words), None)
    return f" (did you mean {near!r}?)" if near else hint_in_brackets("image", draft.raw)


def _is_bad_name(column: str) -> bool:
    """Whether a group or region has no name, or one that would be taken for something else."""
    kind, _, name = column.partition(".")
    if kind not in ("subgroup", "region"):
        return False
    reserved = kind == "region" and name in ("whole", "absent")
    return reserved or not name.strip() or CONTROL.search(name) is not None


def _likely_column(draft: ManifestDraft, part: str, mapped: Collection[str]) -> str | None:
    """The unused column that probably holds ``part``, by a similar name or a synonym; else None."""
    free = {
        column.casefold(): column
        for column in reversed(draft.raw)
        if column not in draft.table and column not in mapped
    }
    words = (*COLUMN_WORDS[part], *nearest_names(part, free, most=3, cutoff=0.8))
    return next((free[word] for word in words if word in free), None)


def _misspelt(column: str) -> str | None:
    """The probable spelling of a column's name, or None where the name says something else.

    "subgroup.sex" for subgrup.sex, Subgroup_sex and subgroups:sex; None for religion.x.
    """
    for mark in ".:_-/ ":
        prefix, found, name = column.partition(mark)
        folded = prefix.casefold().replace("_", "").replace("-", "")
        for kind in ("subgroup", "region"):
            same = folded in (kind, kind + "s")
            close = (
                folded[:3] == kind[:3]
                and not folded.startswith(kind)
                and nearest_names(folded, [kind], cutoff=0.8) != []
            )
            if found and name.strip() and (same or close):
                return f"{kind}.{name.strip()}"
    return None


def check_plan(draft: ManifestDraft) -> Iterator[Problem]:
    """Problems of the plan against the table: what it names and the table lacks, and roles."""
    plan, attributes, regions = draft.plan, draft.names("subgroup."), draft.names("region.")
    derived = {
        name: region.derive for name, region in plan.regions.items() if region.derive is not None
    }
    yield from _check_planned_columns(draft, attributes, regions, derived)
    given = {*regions, *(set(plan.regions) - set(derived))}
    for _, rule, text in derivation_faults(derived, given):
        yield as_problem(rule, example=text)
    yield from _check_planned_analysis(draft, attributes)
    yield from _check_roles(draft, regions, derived)
    if not attributes and not plan.subgroups and not draft.unfilled:
        yield as_problem("no_attribute")
    if not regions and not plan.regions and not draft.unfilled:
        yield as_problem("no_region")


def _check_planned_columns(
    draft: ManifestDraft,
    attributes: Sequence[str],
    regions: Sequence[str],
    derived: Collection[str],
) -> Iterator[Problem]:
    """Attributes and regions that the plan names and the table lacks."""
    present = {*draft.table, *draft.unfilled}
    for name in draft.plan.subgroups:
        column = f"subgroup.{name}"
        if column not in present:
            rule = "unbuilt_attribute" if name in UNBUILT_ATTRIBUTES else "plan_subgroup"
            yield as_problem(
                rule, column=column, name=name, hint=hint_in_brackets(name, attributes)
            )
    for name in draft.plan.regions:
        column = f"region.{name}"
        if column not in present and name not in derived:
            hint = hint_in_brackets(name, regions)
            yield as_problem("plan_region", column=column, name=name, hint=hint)


def _check_planned_analysis(draft: ManifestDraft, attributes: Sequence[str]) -> Iterator[Problem]:
    """Covariates, site and pairs of the plan that are not columns of the table."""
    analysis = draft.plan.analysis
    carried = {
        column
        for column in draft.raw
        if column not in PARTS and not column.startswith(("subgroup.", "region."))
    }
    columns = carried | {*attributes, *(f"subgroup.{name}" for name in attributes)}
    columns |= {"label", "cluster"} & {*draft.table}
    for name in analysis.covariates:
        if name not in columns:
            hint = hint_in_brackets(name, sorted(columns))
            yield as_problem("plan_covariate", example=repr(name), hint=hint)
    if analysis.site is not None and analysis.site not in columns:
        hint = hint_in_brackets(analysis.site, sorted(columns))
        yield as_problem("plan_site", example=repr(analysis.site), hint=hint)
    if analysis.pairs is not None and analysis.pairs not in carried:
        hint = hint_in_brackets(analysis.pairs, carried)
        yield as_problem("plan_pairs", example=repr(analysis.pairs), hint=hint)


def _check_roles(
    draft: ManifestDraft, regions: Sequence[str], derived: Collection[str]
) -> Iterator[Problem]:
    plan = draft.plan
    for name in plan.analysis.regions:
        if name not in regions and name not in plan.regions:
            yield as_problem(
                "plan_confirmatory",
                example=repr(name),
                hint=hint_in_brackets(name, [*regions, *derived]),
            )
        elif plan.region_role(name) == "neutral":
            yield as_problem("neutral_confirmatory", example=repr(name), name=name)
    if (
        plan.criteria
        and not plan.analysis.regions
        and all(region.role == "neutral" for region in plan.regions.values())
    ):
        yield as_problem("no_role")


def check_ids(draft: ManifestDraft) -> Iterator[Problem]:
    """Ids that are empty, repeated or hold control characters."""
    ids = draft.table.get("id", [])
    empty = [i for i, cell in enumerate(ids) if not cell]
    if empty:
        yield draft.problem("empty_id", empty, "id")
    repeated = repeated_cells({i: cell for i, cell in enumerate(ids) if cell})
    if repeated:
        yield draft.problem(
            "duplicate_id",
            [i for rows in repeated for i in rows],
            "id",
            f"also in row {draft.lines[repeated[0][1]]}",
        )
    for column, cells in draft.table.items():
        if not column.startswith("region."):
            odd = (
                [i for i, cell in enumerate(cells) if CONTROL.search(cell)]
                if CONTROL.search("".join(cells))
                else []
            )
            if odd:
                yield draft.problem("control_characters", odd, column)


def check_labels(draft: ManifestDraft) -> Iterator[Problem]:
    """Labels that the plan's classes do not have, and a positive class without images."""
    labels, classes = draft.table.get("label", []), draft.plan.model.classes
    positive = draft.plan.analysis.positive_class
    if classes:
        known = {*classes, *map(str, range(len(classes)))}
        odd = [i for i, cell in enumerate(labels) if cell and cell not in known]
        if odd:
            shown = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
            counts = Counter(labels[i] for i in odd).most_common()
            found = ", ".join(
                f"{label!r} in {count(n)} row{'s' * (n != 1)}" for label, n in counts[:8]
            ) + ", ..." * (len(counts) > 8)
            yield draft.problem(
                "unknown_label",
                odd,
                "label",
                did_you_mean(labels[odd[0]], classes),
                expected=shown,
                found=found,
            )
    else:
        yield from spellings_of(draft, "label")
    choices = list(classes or dict.fromkeys(filter(None, labels)))
    if (
        positive is not None
        and choices
        and positive not in choices
        and not (classes and positive.isdigit() and int(positive) < len(classes))
    ):
        yield as_problem(
            "plan_positive_class",
            example=repr(positive),
            hint=hint_in_brackets(positive, choices),
            expected=", ".join(choices[:8]),
        )


def check_attributes(draft: ManifestDraft) -> Iterator[Problem]:
    """Problems of attributes: levels, numbers, references, and levels that differ in a cluster."""
    for name in draft.names("subgroup."):
        column, setting = f"subgroup.{name}", draft.plan.subgroups.get(name, SubgroupPlan())
        cells = draft.table[column]
        levels = Counter(cell for cell in cells if cell)
        if setting.order and setting.kind == "continuous":
            yield as_problem("plan_order_numeric", column=column)
        if not levels:
            yield as_problem("unknown_throughout", column=column)
        elif setting.kind == "continuous":
            yield from _check_numbers(draft, column)
        else:
            yield from _check_levels(draft, column, levels, setting)
            yield from _check_clusters_of(draft, column, setting)
        if len(levels) == 1:
            yield as_problem(
                "one_level",
                column=column,
                example=f"{next(iter(levels))!r} in {count(levels.total())} rows",
            )


def _check_numbers(draft: ManifestDraft, column: str) -> Iterator[Problem]:
    numbers = {i: as_number(cell) for i, cell in enumerate(draft.table[column]) if cell}
    odd = [i for i, number in numbers.items() if number is None]
    if odd:
        decimal = (
            "use a decimal point" if re.fullmatch(r"-?\d+,\d+", draft.table[column][odd[0]]) else ""
        )
        yield draft.problem("not_a_number", odd, column, decimal)
    infinite = [
        i for i, number in numbers.items() if number is not None and not math.isfinite(number)
    ]
    if infinite:
        yield draft.problem("not_finite", infinite, column)


def _check_levels(
    draft: ManifestDraft, column: str, levels: Counter[str], setting: SubgroupPlan
) -> Iterator[Problem]:
    cells, order = draft.table[column], setting.order
    reserved = [i for i, cell in enumerate(cells) if cell in RESERVED_LEVELS]
    if reserved:
        yield draft.problem("reserved_level", reserved, column)
    if order:
        odd = [i for i, cell in enumerate(cells) if cell and cell not in order]
        if odd:
            yield draft.problem(
                "unknown_level",
                odd,
                column,
                did_you_mean(cells[odd[0]], order),
                expected=", ".join(order),
            )
        for level in order:
            if level not in levels:
                yield as_problem("unused_level", column=column, example=repr(level))
    else:
        yield from spellings_of(draft, column)
        if len(levels) > MANY_LEVELS:
            yield as_problem(
                "many_levels",
                column=column,
                levels=len(levels),
                name=column.removeprefix("subgroup."),
            )
    if setting.reference != "rest" and setting.reference not in levels:
        yield as_problem(
            "plan_reference",
            column=column,
            example=repr(setting.reference),
            hint=hint_in_brackets(setting.reference, levels),
        )


def _check_clusters_of(
    draft: ManifestDraft, column: str, setting: SubgroupPlan
) -> Iterator[Problem]:
    if setting.within or "cluster" not in draft.table:
        return
    pairs = {
        pair for pair in zip(draft.table["cluster"], draft.table[column], strict=True) if all(pair)
    }
    several = {cluster for cluster, n in Counter(cluster for cluster, _ in pairs).items() if n > 1}
    rows = [i for i, cluster in enumerate(draft.table["cluster"]) if cluster in several]
    if rows:
        cluster = draft.table["cluster"][rows[0]]
        found = ", ".join(sorted(repr(cell) for other, cell in pairs if other == cluster))
        remark = f"cluster {cluster!r} has {found}; {count(len(several))} such clusters"
        yield draft.problem(
            "spread_attribute", rows, column, remark, name=column.removeprefix("subgroup.")
        )


def check_clusters(draft: ManifestDraft) -> Iterator[Problem]:
    """Clusters that are empty in some rows, or the same in all."""
    clusters = draft.table.get("cluster", [])
    empty = [i for i, cell in enumerate(clusters) if not cell]
    if empty:
        yield draft.problem("empty_cluster", empty, "cluster")
    if len(clusters) > 1 and len(set(clusters)) == 1 and clusters[0]:
        yield as_problem("single_cluster", column="cluster", example=repr(clusters[0]))
