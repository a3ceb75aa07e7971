"""Who and what was audited, as tables: regions, groups, criteria; the flow of images; what the groups are made of; exclusions."""

from __future__ import annotations

from gradaudit.records import ROLE_WORDS, FlowRow, ResultDocument
from gradaudit.report.blocks import MISSING, WITHHELD, Block, Cell, Details, Facts, Heading, Note, Paragraph, Table, columns, count, percent, row
from gradaudit.report.wording import ALL, listed, plain, unique


def region_table(document: ResultDocument) -> Block:
    heads = columns("Region", "Role", "What it is", ("Annotated", "images"), ("Present", "images"), ("Mean area", "of the image"))
    rows = []
    for region in document.regions:
        about = "; ".join(part for part in (region.description, f"derived: {region.derive}" if region.derive else "") if part)
        numbers = (count(region.n_annotated), count(region.n_present), percent(region.mean_area_share))
        rows.append(row(region.name, Cell(region.role, sub=ROLE_WORDS.get(region.role, "")), about or MISSING, *numbers))
    return Table("Regions", heads, tuple(rows))


def attribute_table(document: ResultDocument) -> Block:
    heads = columns("Attribute", "Kind", "Groups", "Compared with", "Remarks")
    rows = []
    for a in document.attributes:
        remarks = [a.description] if a.description else []
        remarks += ["labels estimated by an algorithm, not observed"] if a.inferred else []
        remarks += ["may vary within a cluster"] if a.within else []
        reference = "all others" if a.reference == "rest" else a.reference
        rows.append(row(a.name, a.kind, listed(a.levels) or MISSING, reference, "; ".join(remarks) or MISSING))
    return Table("Groups", heads, tuple(rows))


def criteria_blocks(document: ResultDocument) -> list[Block]:
    criteria = document.criteria
    if criteria is None:
        return [
            Heading("Criteria"),
            Note("No criteria were declared: differences are shown with their uncertainty, and none is called acceptable or not.", caution=True),
        ]
    when = criteria.declared_on or "date not declared"
    started = (document.run.started or document.created)[:10]
    if criteria.declared_on and started:
        order = "before" if criteria.declared_on < started else "on the day of" if criteria.declared_on == started else "after"
        when = f"{criteria.declared_on}, {order} the measuring ({started})"
    rows = (
        ("Margin", f"{100 * criteria.margin:g} percentage points of heat: smaller disparities are held to be immaterial"),
        ("Margin for undefined heat", f"{100 * criteria.undefined_margin:g} percentage points"),
        ("Declared by", criteria.declared_by or "not stated"),
        ("Declared on", when),
        ("Rationale", criteria.rationale or "not stated"),
    )
    return [Heading("Criteria"), Facts(rows)]


def flow_blocks(document: ResultDocument) -> list[Block]:
    """How many images of each group came through every step."""
    note = f"Withheld: fewer than {document.min_cell} images or clusters, or a number from which such a cell could be derived."
    heads = columns("Group", *((step, "") for step in ("Manifest", "Readable", "Mask usable", "Heat usable", "Analysed", "Clusters")))
    rows = []
    for r in document.flow:
        steps = (r.n_manifest, r.n_readable, r.n_mask_usable, r.n_heat_usable, r.n_analysed, r.n_clusters)
        texts = (count(n, r.suppressed) for n in steps)
        rows.append(row(plain(r.level), *texts, group=_group(r), muted=r.suppressed and r.n_analysed is None))
    hidden = any(r.suppressed for r in document.flow)
    return [Table("Images that came through each step", heads, tuple(rows), note if hidden else "")] if rows else []


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
    shares = [*((f"Label {name}", "of images") for name in classes), *((f"Area of {name}", "of the image") for name in regions)]
    heads = columns("Group", *shares, *([("Mean confidence", "")] if confident else []))
    rows = []
    for r in document.flow:
        values = [*(r.label_prevalence.get(name) for name in classes), *(r.area_share.get(name) for name in regions)]
        values += [r.mean_confidence] if confident else []
        texts = (WITHHELD if r.suppressed and value is None else percent(value) for value in values)
        rows.append(row(plain(r.level), *texts, group=_group(r), muted=r.suppressed and r.n_analysed is None))
    note = "Groups that differ in label mix, region size or confidence can differ in heat for that reason alone."
    return [Table("What the groups are made of", heads, tuple(rows), note)]


def exclusion_blocks(document: ResultDocument) -> list[Block]:
    """Excluded images and regions by reason, and by group."""
    if not document.exclusions:
        return [Paragraph("No image and no region was excluded.")]
    heads = columns("Reason", "Region", ("Images", ""), "Examples")
    rows, by_level = [], []
    for e in document.exclusions:
        number = WITHHELD if e.count is None else count(e.count)
        rows.append(row(Cell(e.meaning, sub=e.reason), e.region or "all", number, listed(e.examples) or MISSING))
        for attribute, levels in e.by_level.items():
            for level, n in levels.items():
                what = e.meaning + (f", region {e.region}" if e.region else "")
                by_level.append(row(level, what, count(n, withheld=True), group=plain(attribute)))
    blocks: list[Block] = [Table("Excluded images and regions, by reason", heads, tuple(rows))]
    if by_level:
        by_level.sort(key=lambda line: line.group)
        inner = Table("Exclusions by group", columns("Group", "Reason", ("Images", "")), tuple(by_level))
        blocks.append(Details("Exclusions by group", (inner,)))
    return blocks
