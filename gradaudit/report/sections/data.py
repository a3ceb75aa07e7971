"""Tables of who and what was audited.

They show regions, groups and criteria; the flow of images; what the groups are made of; and what
was left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import MISSING, count, declared_percent, declared_points, share_percent
from gradaudit.records import ROLE_WORDS
from gradaudit.report.blocks import (
    WITHHELD,
    Block,
    Cell,
    Details,
    Facts,
    Heading,
    Note,
    Paragraph,
    Table,
    columns,
    row,
    shown_count,
)
from gradaudit.report.wording import (
    ALL,
    EACH_TAKES_PART,
    NO_REGION,
    left_out_words,
    listed,
    plain,
    unique,
    unit_of,
    without_any_region,
)
from gradaudit.result_schema import Exclusion, FlowRow, ResultDocument


def region_table(document: ResultDocument) -> Block:
    heads = columns(
        "Region",
        "Role",
        "What it is",
        ("Annotated", "images"),
        ("Present", "images"),
        ("Mean area", "of the image"),
    )
    rows = []
    for region in document.regions:
        about = "; ".join(
            part
            for part in (region.description, f"derived: {region.derive}" if region.derive else "")
            if part
        )
        numbers = (
            count(region.n_annotated),
            count(region.n_present),
            share_percent(region.mean_area_share),
        )
        rows.append(
            row(
                region.name,
                Cell(region.role, sub=ROLE_WORDS.get(region.role, "")),
                about or MISSING,
                *numbers,
            )
        )
    return Table("Regions", heads, tuple(rows))


def attribute_table(document: ResultDocument) -> Block:
    heads = columns("Attribute", "Kind", "Groups", "Compared with", "Remarks")
    rows = []
    for a in document.attributes:
        remarks = [a.description] if a.description else []
        remarks += ["labels estimated by an algorithm, not observed"] if a.inferred else []
        remarks += [f"may vary within a {unit_of(document).one}"] if a.within else []
        rest = "the other" if len(a.levels) == 2 else "all others"
        reference = rest if a.reference == "rest" else a.reference
        rows.append(
            row(
                a.name,
                a.kind,
                listed(a.levels) or MISSING,
                reference,
                "; ".join(remarks) or MISSING,
            )
        )
    return Table("Groups", heads, tuple(rows))


def criteria_blocks(document: ResultDocument) -> list[Block]:
    criteria = document.criteria
    if criteria is None:
        return [
            Heading("Criteria"),
            Note(
                "No criteria were declared: differences are shown with their uncertainty, and none is called acceptable or not.",
                caution=True,
            ),
        ]
    when = criteria.declared_on or "date not declared"
    started = (document.run.started or document.created)[:10]
    if criteria.declared_on and started:
        order = (
            "before"
            if criteria.declared_on < started
            else "on the day of"
            if criteria.declared_on == started
            else "after"
        )
        when = f"{criteria.declared_on}, {order} the measuring ({started})"
    rows = (
        (
            "Margin",
            f"{declared_points(criteria.margin)} percentage points of heat: smaller disparities are held to be immaterial",
        ),
        (
            "Margin for undefined heat",
            f"{declared_points(criteria.undefined_margin)} percentage points",
        ),
        (
            "Least coverage",
            f"{declared_percent(criteria.min_coverage)} of each group must have been compared for a comparison to count as within",
        ),
        ("Declared by", criteria.declared_by or "not stated"),
        ("Declared on", when),
        ("Rationale", criteria.rationale or "not stated"),
    )
    return [Heading("Criteria"), Facts(rows)]


def flow_blocks(document: ResultDocument) -> list[Block]:
    """How many images of each group came through every step."""
    note = f"Withheld: fewer than {document.min_cell} images or {unit_of(document).many}, or a number from which such a cell could be derived."
    heads = columns(
        "Group",
        *(
            (step, "")
            for step in (
                "Manifest",
                "Readable",
                "Mask usable",
                "Heat usable",
                "Analysed",
                unit_of(document).many.capitalize(),
            )
        ),
    )
    rows = []
    for r in document.flow:
        steps = (
            r.n_manifest,
            r.n_readable,
            r.n_mask_usable,
            r.n_heat_usable,
            r.n_analysed,
            r.n_clusters,
        )
        texts = (shown_count(n, withheld=r.suppressed) for n in steps)
        rows.append(
            row(
                plain(r.level), *texts, group=_group(r), muted=r.suppressed and r.n_analysed is None
            )
        )
    hidden = any(r.suppressed for r in document.flow)
    return (
        [Table("Images that came through each step", heads, tuple(rows), note if hidden else "")]
        if rows
        else []
    )


def _group(r: FlowRow) -> str:
    """The row over all images heads the table by itself."""
    return "" if r.attribute == ALL else plain(r.attribute)


def composition_blocks(document: ResultDocument) -> list[Block]:
    """Label mix, region size and confidence of every group."""
    classes = unique(name for r in document.flow for name in r.label_prevalence)
    regions = unique(name for r in document.flow for name in r.area_share)
    confident = any(r.mean_confidence is not None for r in document.flow)
    if not (classes or regions or confident):
        return []
    shares = [
        *((f"Label {name}", "of images") for name in classes),
        *((f"Area of {name}", "of the image") for name in regions),
    ]
    heads = columns("Group", *shares, *([("Mean confidence", "")] if confident else []))
    rows = []
    for r in document.flow:
        values = [
            *(r.label_prevalence.get(name) for name in classes),
            *(r.area_share.get(name) for name in regions),
        ]
        values += [r.mean_confidence] if confident else []
        texts = (
            WITHHELD if r.suppressed and value is None else share_percent(value) for value in values
        )
        rows.append(
            row(
                plain(r.level), *texts, group=_group(r), muted=r.suppressed and r.n_analysed is None
            )
        )
    note = (
        "Label shares and areas are taken over images with a heat share, confidence over readable images. "
        "Groups that differ in label mix, region size or confidence can differ in heat for that reason alone."
    )
    return [Table("What the groups are made of", heads, tuple(rows), note)]


def exclusion_blocks(document: ResultDocument) -> list[Block]:
    """What was left out, by reason and by group.

    Images that are left out come first; apart from them, regions without a heat share in images
    that are not left out.
    """
    whole, parts = (
        [e for e in document.exclusions if not e.region],
        [e for e in document.exclusions if e.region],
    )
    nowhere = without_any_region(document)
    blocks: list[Block] = []
    if whole or nowhere:
        blocks.append(_left_out_table(document, whole, nowhere))
    elif nowhere == 0 and not parts:
        return [Paragraph("No image was left out, and every region was measured in every image.")]
    else:
        blocks.append(Paragraph(left_out_words(document)[0]))
    blocks += [_unmeasured_table(document, parts, [e.count for e in whole])] if parts else []
    titles = (
        ("Images left out, by group", whole),
        ("Regions without a heat share, by group", parts),
    )
    inner = tuple(table for title, found in titles if (table := _by_group(title, found)))
    return [*blocks, Details("The same by group", inner)] if inner else blocks


def _left_out_table(
    document: ResultDocument, whole: Sequence[Exclusion], nowhere: int | None
) -> Block:
    rows = [
        row(
            Cell(e.meaning, sub=e.reason),
            shown_count(e.count, withheld=True),
            listed(e.examples) or MISSING,
        )
        for e in whole
    ]
    rows += [row(Cell(NO_REGION), count(nowhere), MISSING)] if nowhere else []
    note = ""
    if nowhere is not None:
        steps = next(r for r in document.flow if r.attribute == ALL)
        total = (steps.n_manifest or 0) - (steps.n_analysed or 0)
        note = f"{count(total)} in all: {count(steps.n_manifest)} images are in the manifest, {count(steps.n_analysed)} were analysed."
    return Table(
        "Images left out, by reason",
        columns("Reason", ("Images", ""), "Examples"),
        tuple(rows),
        note,
    )


def _unmeasured_table(
    document: ResultDocument, parts: Sequence[Exclusion], whole: Sequence[int | None]
) -> Block:
    rows = [
        row(
            e.region,
            Cell(e.meaning, sub=e.reason),
            shown_count(e.count, withheld=True),
            listed(e.examples) or MISSING,
        )
        for e in parts
    ]
    manifest = next((r.n_manifest for r in document.flow if r.attribute == ALL), None)
    note = EACH_TAKES_PART
    if manifest is not None and None not in whole:
        measured = manifest - sum(n for n in whole if n is not None)
        whole_of = f"the {count(measured)} that are readable and have a heat map"
        note = f"For each region, these images and those with a heat share add up to {whole_of}. {note}"
    return Table(
        "Regions without a heat share, by reason",
        columns("Region", "Reason", ("Images", ""), "Examples"),
        tuple(rows),
        note,
    )


def _by_group(title: str, found: Sequence[Exclusion]) -> Table | None:
    rows = [
        row(
            level,
            f"{e.region}: {e.meaning}" if e.region else e.meaning,
            shown_count(n, withheld=True),
            group=plain(attribute),
        )
        for e in found
        for attribute, levels in e.by_level.items()
        for level, n in levels.items()
    ]
    rows.sort(key=lambda line: line.group)
    return Table(title, columns("Group", "Reason", ("Images", "")), tuple(rows)) if rows else None
