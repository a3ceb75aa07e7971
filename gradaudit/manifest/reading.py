"""The manifest: a table of images, groups and regions, checked completely before any measurement.

``table_formats`` reads the file; ``rules.RULES`` lists every rule. A broken rule is an error,
unless it is marked as a warning. All errors and warnings come in one answer.
"""

from __future__ import annotations

import html
import string
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import pandas as pd

from gradaudit.manifest.draft import PARTS, ManifestDraft
from gradaudit.manifest.file_checks import region_sources
from gradaudit.manifest.file_paths import absent_files
from gradaudit.manifest.plan_suggestion import suggest_plan
from gradaudit.manifest.rules import RULES, as_problem, manifest_error, render_problems
from gradaudit.manifest.table_formats import (
    DOUBTFUL_WORDS,
    Columns,
    as_number,
    known_text,
    read_table,
)
from gradaudit.manifest.validation import CHECKS
from gradaudit.number_text import count
from gradaudit.plan import Plan, SubgroupPlan
from gradaudit.records import Problem, Sample
from gradaudit.regions.text import RegionSource, is_url
from gradaudit.spelling import hint_in_brackets

__all__ = ["RULES", "Manifest", "read_manifest", "render_problems", "suggest_plan"]


# ── the values ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, repr=False, eq=False)
class Manifest:
    """A manifest that passed every check (``ga.Manifest``).

    table : id, image, label, cluster, ``subgroup.*``, ``region.*``, then the other columns; text,
        NaN where unknown
    samples : one per row, in order
    region_names : the columns' regions, then the plan's derived regions
    root : the folder that relative paths start from
    digest : SHA-256 of the file's bytes
    warnings : problems that do not stop the audit
    lines : for each sample, its row as ``Problem.rows`` counts rows
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
        """Always empty: reading a table with problems raises ``ManifestError`` instead."""
        return ()

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Manifest({self.path.name!r}: {self._sentence()})"

    def _sentence(self) -> str:
        clusters = self.table["cluster"].nunique()
        unit = f"{count(clusters)} clusters" if self.cluster_declared else "each its own cluster"
        attributes, regions = (
            ", ".join(self.attributes) or "none",
            ", ".join(self.region_names) or "none",
        )
        return f"{count(len(self))} images, {unit}; attributes: {attributes}; regions: {regions}"

    def _repr_html_(self) -> str:
        """Counts of every level and region; for notebooks."""
        rows = []
        for name in self.attributes:
            levels = Counter(sample.subgroups[name] for sample in self.samples)
            known = [
                f"{level} {count(n)}"
                for level, n in sorted(levels.items(), key=lambda item: -item[1])
                if level is not None
            ][:12]
            shown = " · ".join([*known, *(["…"] if len(levels) > 13 else [])])
            rows.append(
                (
                    f"subgroup.{name}",
                    shown,
                    f"{count(levels[None])} unknown" if levels[None] else "",
                )
            )
        for name in self.region_names:
            n = sum(name in sample.regions for sample in self.samples)
            column = f"region.{name}" in self.table
            rows.append((f"region.{name}", f"annotated in {count(n)}" if column else "derived", ""))
        cells = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row)
            + "</tr>"
            for row in rows
        )
        warned = (
            f"<p>{len(self.warnings)} warnings: see <code>.warnings</code></p>"
            if self.warnings
            else ""
        )
        return f"<p><b>{html.escape(self.path.name)}</b>: {html.escape(self._sentence())}</p><table>{cells}</table>{warned}"


def read_manifest(path: str | Path, plan: Plan | None = None) -> Manifest:
    """Read and check a manifest (``ga.read_manifest``); ``table_formats`` lists the formats.

    plan : its ``[columns]`` map an existing table to gradaudit's columns; its regions, subgroups
        and classes are checked against the rows

    Image and mask files on this machine must exist. URLs are opened only when they are measured.

    Errors: ``ManifestError`` with every problem in ``.problems`` (errors first, then warnings) and
    in its text.
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


def _manifest(draft: ManifestDraft, digest: str, warnings: Sequence[Problem]) -> Manifest:
    attributes, regions = tuple(draft.names("subgroup.")), tuple(draft.names("region."))
    known = _known_cells(draft)
    derived = [name for name, region in draft.plan.regions.items() if region.derive is not None]
    return Manifest(
        path=draft.path,
        root=draft.root,
        table=pd.DataFrame(known),
        samples=_samples(known, attributes, regions),
        attributes=attributes,
        region_names=(*regions, *derived),
        cluster_declared="cluster" in draft.table,
        digest=digest,
        warnings=tuple(warnings),
        lines=tuple(draft.lines),
    )


def _known_cells(draft: ManifestDraft) -> dict[str, list[str | None]]:
    """Every column, gradaudit's own first, with None for an empty cell."""
    images = draft.table["image"]
    ids = draft.table.get("id", images)
    columns: dict[str, list[str]] = {
        "id": list(ids),
        "image": images,
        "label": draft.table.get("label", [""] * len(ids)),
        "cluster": _clusters(draft.table.get("cluster"), ids),
    }
    columns |= {name: cells for name, cells in draft.table.items() if name not in columns}
    for name, cells in draft.raw.items():
        if name not in columns:
            columns[name] = [known_text(cell.strip()) for cell in cells]
    return {name: [cell or None for cell in cells] for name, cells in columns.items()}


def _clusters(declared: Sequence[str] | None, ids: Sequence[str]) -> list[str]:
    """The cluster of each row; where none is given, the image is a cluster of its own."""
    if declared is None:
        return list(ids)
    return [given or f"image:{own}" for given, own in zip(declared, ids, strict=True)]


def _samples(
    known: Mapping[str, list[str | None]], attributes: Sequence[str], regions: Sequence[str]
) -> tuple[Sample, ...]:
    count = len(known["image"])
    groups = _rows_of([known[f"subgroup.{name}"] for name in attributes], count)
    places = _rows_of([known[f"region.{name}"] for name in regions], count)
    own = zip(known["id"], known["image"], known["label"], known["cluster"], strict=True)
    samples = []
    for index, ((id_, image, label, cluster), levels, texts) in enumerate(
        zip(own, groups, places, strict=True)
    ):
        subgroups = dict(zip(attributes, levels, strict=True))
        cells = {name: cell for name, cell in zip(regions, texts, strict=True) if cell}
        samples.append(
            Sample(index, id_ or "", image or "", label, cluster or "", subgroups, cells)
        )
    return tuple(samples)


def _rows_of(columns: Sequence[list[str | None]], count: int) -> Iterable[tuple[str | None, ...]]:
    """The cells of the columns, row by row; ``count`` empty rows if there are no columns."""
    return zip(*columns, strict=True) if columns else repeat((), count)


# ── text to gradaudit's columns ───────────────────────────────────────────────────────────────────


def _arranged(
    path: Path, plan: Plan, raw: Columns, lines: Sequence[int], problems: list[Problem]
) -> ManifestDraft:
    """The table's columns where the plan's ``[columns]``, or their own names, put them.

    Cells are stripped, and those that mean unknown become "".
    """
    mapped, templates = _declared_columns(plan)
    table = {
        name: cells
        for name, cells in raw.items()
        if name in PARTS or name.startswith(("subgroup.", "region."))
    }
    for part, column in mapped.items():
        if column not in raw:
            example, hint = f"{part} = {column!r}", hint_in_brackets(column, raw)
            problems.append(as_problem("plan_column", column=column, example=example, hint=hint))
        table[part] = raw.get(column, [])
    for part, template in templates.items():
        table[part] = _filled(template, raw, len(lines), problems)
    taken = [part for part in (*mapped, *templates) if part in raw and mapped.get(part) != part]
    problems.extend(as_problem("column_taken_twice", column=part) for part in taken)
    used = {}
    for part, cells in table.items():
        if cells:
            used[part] = _cleaned(part, cells, plan, lines, problems)
    unfilled = frozenset(part for part, cells in table.items() if not cells)
    draft = ManifestDraft(path.resolve(), plan, raw, used, lines, unfilled)
    for part in templates:
        if part.startswith("region.") and part in used:
            problems.extend(_without_unmasked(draft, part))
    return draft


def _declared_columns(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """For each part of the manifest, the column or the template that the plan names."""
    columns = plan.columns
    mapped = {part: name for part in PARTS if (name := getattr(columns, part)) is not None}
    mapped |= {f"subgroup.{name}": column for name, column in columns.subgroups.items()}
    mapped |= {f"region.{name}": column for name, column in columns.regions.items()}
    templates = {f"region.{name}": template for name, template in columns.region_templates.items()}
    if columns.image_template is not None:
        templates["image"] = columns.image_template
    return mapped, templates


def _cleaned(
    part: str, cells: Sequence[str], plan: Plan, lines: Sequence[int], problems: list[Problem]
) -> list[str]:
    """Cells without outer spaces, "" where they mean unknown.

    Levels and classes that the plan declares are never taken to mean unknown.
    """
    padded = {cell for cell in set(cells) if cell != cell.strip()}
    spaced = [i for i, cell in enumerate(cells) if cell in padded] if padded else []
    if spaced:
        example = f"row {lines[spaced[0]]}: {cells[spaced[0]][:80]!r}"
        problems.append(as_problem("spaces", (lines[i] for i in spaced), part, example))
    is_group = part.startswith("subgroup.")
    setting = plan.subgroups.get(part.removeprefix("subgroup.")) if is_group else None
    own = plan.model.classes if part == "label" else setting.order if setting else None
    declared = frozenset(own or ())
    meaning = {cell: known_text(cell.strip(), declared) for cell in set(cells)}
    known = [meaning[cell] for cell in cells]
    if is_group:
        _judge_doubtful(part, known, setting, declared, lines, problems)
    return known


def _judge_doubtful(
    part: str,
    known: list[str],
    setting: SubgroupPlan | None,
    declared: Collection[str],
    lines: Sequence[int],
    problems: list[Problem],
) -> None:
    """Report words such as "other", which may or may not mean unknown.

    Words that the plan declares as levels are not doubtful. In an ordered or continuous attribute
    the others become unknown, in place; elsewhere they are kept as levels.
    """
    words = {cell for cell in set(known) if cell.casefold() in DOUBTFUL_WORDS}
    words -= set(declared)
    doubtful = [i for i, cell in enumerate(known) if cell in words] if words else []
    dropped = bool(setting and (setting.order or setting.kind == "continuous"))
    if dropped and not declared:
        doubtful = [i for i in doubtful if as_number(known[i]) is None]
    if not doubtful:
        return
    example = f"row {lines[doubtful[0]]}: {known[doubtful[0]]!r}"
    read = "read as unknown" if dropped else "kept as a level"
    rows = [lines[i] for i in doubtful]
    problems.append(as_problem("doubtful_word", rows, part, example, read=read))
    for i in doubtful if dropped else ():
        known[i] = ""


def _filled(
    template: str, raw: Mapping[str, Sequence[str]], count: int, problems: list[Problem]
) -> list[str]:
    """The template filled in for each row, "" where one of its columns is empty.

    Only cells are put in; nothing else of the template is evaluated. [] for a broken template.
    """
    try:
        parts = [
            (literal, name, form or "")
            for literal, name, form, _ in string.Formatter().parse(template)
        ]
        why = "" if all(format("x", form) for _, _, form in parts) else "empty"
    except ValueError as error:
        parts, why = [], str(error)
    names = [name for _, name, _ in parts if name is not None]
    unknown = [name for name in names if name not in raw]
    if unknown:
        why = f"there is no column {unknown[0]!r}{hint_in_brackets(unknown[0], raw)}"
    elif not names:
        why = why or "it names no column, so every row would be the same"
    if why:
        problems.append(as_problem("plan_template", example=template, why=why))
        return []
    cells = {name: [cell.strip() for cell in raw[name]] for name in names}
    empty = {
        i for column in cells.values() for i, cell in enumerate(column) if not known_text(cell)
    }
    return [
        ""
        if i in empty
        else "".join(
            literal + (format(cells[name][i], form) if name is not None else "")
            for literal, name, form in parts
        )
        for i in range(count)
    ]


def _without_unmasked(draft: ManifestDraft, part: str) -> Iterator[Problem]:
    """Rows for which a template names a file that does not exist count as not annotated.

    Where no row has a file, nothing is changed, and a later check reports the missing files.
    """
    cells = draft.table[part]
    local = {
        i: source.path
        for i, source in region_sources(cells).items()
        if isinstance(source, RegionSource) and source.path and not is_url(source.path)
    }
    absent = absent_files(local.values(), draft.root)
    gone = [i for i, path in local.items() if absent.get(path) == "missing"]
    if gone and len(gone) < len(local):
        yield draft.problem("unmasked_rows", gone, part)
        for i in gone:
            cells[i] = ""
