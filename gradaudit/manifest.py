"""The manifest: a table of images, groups and regions, checked whole before anything is measured.

The formats are those of ``tables``; ``rules.RULES`` lists every rule.
A broken one is an error, unless it is marked as a warning; all of them come in one answer.
"""

from __future__ import annotations

import difflib
import html
import math
import os
import re
import string
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import pandas as pd

from gradaudit.config import Plan, SubgroupPlan
from gradaudit.paths import IMAGE_TYPES, absent_files, is_installed, is_picture, nearest_file, why_not
from gradaudit.records import Problem, Sample
from gradaudit.regions import RegionSource, RegionTextError, derivation_faults, is_url, parse_region
from gradaudit.rules import RULES, as_problem, manifest_error, render_problems
from gradaudit.starting_plan import COLUMN_WORDS, suggest_plan
from gradaudit.tables import DOUBTFUL_WORDS, Columns, as_number, known_text, read_table

__all__ = ["RULES", "Manifest", "read_manifest", "render_problems", "suggest_plan"]

UNBUILT_ATTRIBUTES = frozenset({"ita", "brightness", "resolution"})
"""Attributes that could be measured from the images, and are not yet: without a column of their name they would be compared nowhere."""
MANY_LEVELS = 30
RESERVED_LEVELS = frozenset({"rest", "(unknown)", "(suppressed)"})
_PARTS = ("image", "label", "cluster", "id")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\ufeff\ufffd]")


# ── the values ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, repr=False, eq=False)
class Manifest:
    """A manifest that passed every check.

    ``table``: id, image, label, cluster, ``subgroup.*``, ``region.*``, then the other columns; text, NaN where unknown.
    ``samples``: one per row, in order.  ``region_names``: columns, then the plan's derived regions.
    ``root``: folder of relative paths.  ``digest``: SHA-256 of the file's bytes.  ``warnings``: what deserves a look.
    ``lines``: of each sample, its row as ``Problem.rows`` counts them.
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
    lines: tuple[int, ...] = ()

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
    raw: Columns
    table: Columns
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
        return as_problem(rule, (self.lines[i] for i in where), column, example, root=self.root, **facts)


def read_manifest(path: str | Path, plan: Plan | None = None) -> Manifest:
    """Read and check a manifest; the formats are those of ``tables``, the rules are ``RULES``.

    plan : its ``[columns]`` map an existing table; its regions, subgroups and classes are checked against the rows.
    Image and mask files on this machine must exist; URLs are opened when they are measured.

    Errors: ``ManifestError`` with every problem in ``.problems`` (errors first, then warnings) and in its text.
    """
    path, plan = Path(path), plan or Plan()
    problems: list[Problem] = []
    raw, lines, digest = read_table(path, problems)
    if raw is None or not lines:
        if raw is not None:
            problems.append(as_problem("no_rows"))
        raise manifest_error(path, problems)
    draft = _arranged(path, plan, raw, lines, problems)
    for check in CHECKS:
        problems.extend(check(draft))
    if any(not RULES[problem.rule].warning for problem in problems):
        raise manifest_error(path, problems)
    return _manifest(draft, digest, problems)


def _manifest(draft: _Draft, digest: str, warnings: Sequence[Problem]) -> Manifest:
    declared = "cluster" in draft.table
    ids = draft.table["id"] if "id" in draft.table else draft.table["image"]
    clusters = [given or f"image:{own}" for given, own in zip(draft.table["cluster"], ids, strict=True)] if declared else list(ids)
    attributes, regions = tuple(draft.names("subgroup.")), tuple(draft.names("region."))
    labels = draft.table.get("label", [""] * len(ids))
    columns: dict[str, list[str]] = {"id": list(ids), "image": draft.table["image"], "label": labels, "cluster": clusters}
    columns |= {name: cells for name, cells in draft.table.items() if name not in columns}
    columns |= {name: [known_text(cell.strip()) for cell in cells] for name, cells in draft.raw.items() if name not in columns}
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
        warnings=tuple(warnings), lines=tuple(draft.lines),
    )  # fmt: skip


# ── text to gradaudit's columns ─────────────────────────────────────────────────────────────────────────────────────


def _arranged(path: Path, plan: Plan, raw: Columns, lines: Sequence[int], problems: list[Problem]) -> _Draft:
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
            problems.append(as_problem("plan_column", column=column, example=f"{part} = {column!r}", hint=_hint(column, raw)))
            table[part] = []
    for part, template in templates.items():
        table[part] = _filled(template, raw, count, problems)
    taken = [part for part in (*mapped, *templates) if part in raw and mapped.get(part) != part]
    problems.extend(as_problem("column_taken_twice", column=part) for part in taken)
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
        problems.append(as_problem("spaces", (lines[i] for i in spaced), part, f"row {lines[spaced[0]]}: {cells[spaced[0]][:80]!r}"))
    setting = plan.subgroups.get(part.removeprefix("subgroup.")) if part.startswith("subgroup.") else None
    declared = frozenset((plan.model.classes or ()) if part == "label" else (setting and setting.order) or ())
    meaning = {cell: known_text(cell.strip(), declared) for cell in set(cells)}
    known = [meaning[cell] for cell in cells]
    if not part.startswith("subgroup."):
        return known
    words = {cell for cell in set(known) if cell.casefold() in DOUBTFUL_WORDS and cell not in declared}
    doubtful = [i for i, cell in enumerate(known) if cell in words] if words else []
    dropped = bool(setting and (setting.order or setting.kind == "continuous"))
    if dropped and not declared:
        doubtful = [i for i in doubtful if as_number(known[i]) is None]
    if doubtful:
        example = f"row {lines[doubtful[0]]}: {known[doubtful[0]]!r}"
        read = "read as unknown" if dropped else "kept as a level"
        problems.append(as_problem("doubtful_word", (lines[i] for i in doubtful), part, example, read=read))
    for i in doubtful if dropped else ():
        known[i] = ""
    return known


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
        problems.append(as_problem("plan_template", example=template, why=why))
        return []
    cells = {name: [cell.strip() for cell in raw[name]] for name in names}
    empty = {i for column in cells.values() for i, cell in enumerate(column) if not known_text(cell)}
    return [
        "" if i in empty else "".join(literal + (format(cells[name][i], form) if name is not None else "") for literal, name, form in parts)
        for i in range(count)
    ]


def _without_unmasked(draft: _Draft, part: str) -> Iterator[Problem]:
    """A template names a file for every row; where only some exist, the other rows are not annotated. None at all is an error later."""
    cells = draft.table[part]
    local = {i: source.path for i, source in _sources(cells).items() if isinstance(source, RegionSource) and source.path and not is_url(source.path)}
    absent = absent_files(local.values(), draft.root)
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
        yield as_problem("no_image_column", example=f"found: {', '.join(map(repr, list(draft.raw)[:12]))}", hint=hint)
    mapping = draft.plan.columns.model_dump(exclude_defaults=True)
    for column in draft.raw:
        if not mapping and column not in draft.table and (near := _misspelt(column)):
            yield as_problem("misspelt_column", column=column, near=near)
    for column in draft.table:
        kind, _, name = column.partition(".")
        if kind in ("subgroup", "region") and (not name.strip() or _CONTROL.search(name) or (kind == "region" and name in ("whole", "absent"))):
            yield as_problem("bad_name", column=column)
    for part in ("label", "cluster"):
        free = {column.casefold(): column for column in reversed(draft.raw) if column not in draft.table and column not in mapping.values()}
        near = next((free[word] for word in (*COLUMN_WORDS[part], *difflib.get_close_matches(part, free, cutoff=0.8)) if word in free), None)
        if near and part not in draft.table and part not in draft.unfilled:
            yield as_problem("likely_column", column=near, part=part)


def _misspelt(column: str) -> str | None:
    """ "subgroup.sex" for subgrup.sex, Subgroup_sex, subgroups:sex; None for names that are something else (religion.x)."""
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
        if f"subgroup.{name}" not in (*draft.table, *draft.unfilled):
            rule = "unbuilt_attribute" if name in UNBUILT_ATTRIBUTES else "plan_subgroup"
            yield as_problem(rule, column=f"subgroup.{name}", name=name, hint=_hint(name, attributes))
    for name in plan.regions:
        if f"region.{name}" not in (*draft.table, *draft.unfilled) and name not in derived:
            yield as_problem("plan_region", column=f"region.{name}", name=name, hint=_hint(name, regions))
    for _, rule, text in derivation_faults(derived, {*regions, *(set(plan.regions) - set(derived))}):
        yield as_problem(rule, example=text)
    carried = {column for column in draft.raw if column not in _PARTS and not column.startswith(("subgroup.", "region."))}
    columns = carried | {*attributes, *(f"subgroup.{name}" for name in attributes), *({"label", "cluster"} & {*draft.table})}
    for name in plan.analysis.covariates:
        if name not in columns:
            yield as_problem("plan_covariate", example=repr(name), hint=_hint(name, columns))
    if plan.analysis.pairs is not None and plan.analysis.pairs not in carried:
        yield as_problem("plan_pairs", example=repr(plan.analysis.pairs), hint=_hint(plan.analysis.pairs, carried))
    yield from _check_roles(draft, regions, derived)
    if not attributes and not plan.subgroups and not draft.unfilled:
        yield as_problem("no_attribute")
    if not regions and not plan.regions and not draft.unfilled:
        yield as_problem("no_region")


def _check_roles(draft: _Draft, regions: Sequence[str], derived: Collection[str]) -> Iterator[Problem]:
    plan = draft.plan
    for name in plan.analysis.regions:
        if name not in regions and name not in plan.regions:
            yield as_problem("plan_confirmatory", example=repr(name), hint=_hint(name, [*regions, *derived]))
        elif plan.region_role(name) == "neutral":
            yield as_problem("neutral_confirmatory", example=repr(name), name=name)
    if plan.criteria and not plan.analysis.regions and all(region.role == "neutral" for region in plan.regions.values()):
        yield as_problem("no_role")


def _check_images(draft: _Draft) -> Iterator[Problem]:
    images = draft.table.get("image", [])
    empty = [i for i, cell in enumerate(images) if not cell]
    if empty:
        yield draft.problem("empty_image", empty, "image")
    given = {i: cell for i, cell in enumerate(images) if cell}
    problems, broken = _check_files(draft, "image", given, "missing_image", "image_is_folder")
    yield from problems
    other = [i for i, cell in given.items() if not cell.endswith(IMAGE_TYPES) and not cell.lower().endswith(IMAGE_TYPES)]
    odd = [i for i in other if i not in broken and not is_picture(given[i], draft.root)]
    if odd:
        yield draft.problem("image_type", odd, "image")
    dicom = [i for i, cell in given.items() if cell.lower().endswith((".dcm", ".dicom"))]
    if dicom and not is_installed("pydicom"):
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
            counts = Counter(labels[i] for i in odd).most_common()
            found = ", ".join(f"{label!r} in {count:,} row{'s' * (count != 1)}" for label, count in counts[:8]) + ", ..." * (len(counts) > 8)
            yield draft.problem("unknown_label", odd, "label", _near(labels[odd[0]], classes), expected=shown, found=found)
    else:
        yield from _spellings(draft, "label")
    choices = list(classes or dict.fromkeys(filter(None, labels)))
    if positive is not None and choices and positive not in choices and not (classes and positive.isdigit() and int(positive) < len(classes)):
        yield as_problem("plan_positive_class", example=repr(positive), hint=_hint(positive, choices), expected=", ".join(choices[:8]))


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
    number = as_number(cell)
    if number is not None:
        return str(number)
    return re.sub(r"[\s_\-\u2010-\u2015]+", " ", unicodedata.normalize("NFKC", cell).casefold())


def _check_attributes(draft: _Draft) -> Iterator[Problem]:
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
            yield as_problem("one_level", column=column, example=f"{next(iter(levels))!r} in {levels.total():,} rows")


def _check_numbers(draft: _Draft, column: str) -> Iterator[Problem]:
    numbers = {i: as_number(cell) for i, cell in enumerate(draft.table[column]) if cell}
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
                yield as_problem("unused_level", column=column, example=repr(level))
    else:
        yield from _spellings(draft, column)
        if len(levels) > MANY_LEVELS:
            yield as_problem("many_levels", column=column, levels=len(levels), name=column.removeprefix("subgroup."))
    if setting.reference != "rest" and setting.reference not in levels:
        yield as_problem("plan_reference", column=column, example=repr(setting.reference), hint=_hint(setting.reference, levels))


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
        yield as_problem("single_cluster", column="cluster", example=repr(clusters[0]))


def _check_regions(draft: _Draft) -> Iterator[Problem]:
    for name in draft.names("region."):
        column = f"region.{name}"
        cells = draft.table[column]
        if not any(cells):
            yield as_problem("region_never", column=column)
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
    if volumes and not is_installed("nibabel"):
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
    states = absent_files((path for path in given.values() if not is_url(path)), draft.root)
    rows: dict[str, list[int]] = defaultdict(list)
    for i, path in given.items():
        state = states.get(path)
        if state == "missing":
            rows["windows_path" if "\\" in path and os.sep == "/" else missing].append(i)
        elif state == "folder":
            rows[folder].append(i)
    problems = [
        draft.problem(rule, found, column, nearest_file(given[found[0]], draft.root) if rule == missing else "") for rule, found in rows.items()
    ]  # fmt: skip
    protocols: dict[str, list[int]] = defaultdict(list)
    for i, path in given.items():
        if is_url(path):
            protocols[path.partition("://")[0].rpartition("::")[2]].append(i)
    for protocol, found in protocols.items():
        why = why_not(protocol)
        if why is not None:
            rule, package = ("missing_package", why) if why else ("unknown_protocol", "")
            expected = "s3, gs, az, https, file, memory, and what fsspec.available_protocols() lists"
            problems.append(draft.problem(rule, found, column, why=f"{protocol}:// needs {package}", package=package, expected=expected))
            rows[rule] += found
    return problems, {i for found in rows.values() for i in found}
