"""Data: from the manifest to the comparison that decides, and what the groups are made of."""

from __future__ import annotations

from collections.abc import Sequence

from gradaudit.number_text import MISSING, count, declared_percent, declared_points, share_percent
from gradaudit.records import ALL, ROLE_WORDS, UNKNOWN
from gradaudit.report.blocks import (
    WITHHELD,
    Block,
    Cell,
    Details,
    Facts,
    Heading,
    Note,
    Paragraph,
    Row,
    Table,
    columns,
    row,
    shown_count,
)
from gradaudit.report.figures.curves import Axes, Curve, curve_plot, percent
from gradaudit.report.page_blocks import Drawing, Figure, Figures, Flow, FlowGroup, FlowStep
from gradaudit.report.pictures import PictureStore
from gradaudit.report.wording import (
    clusters_words,
    grouped,
    left_out_words,
    listed,
    plain,
    unique,
    unit_of,
    unmeasured_words,
)
from gradaudit.result_schema import Exclusion, FlowRow, ResultDocument

MOST_GROUPS, MOST_CURVES = 6, 6


def data_blocks(document: ResultDocument, leading: Sequence[str]) -> list[Block]:
    """Flow, what is missing, figures, and the table by group.

    ``leading``: attributes, that with the worst finding first.
    """
    first = next(iter(leading), "")
    blocks: list[Block] = [*flow_blocks(document, first), *missing_blocks(document)]
    figures = [*size_figures(document, leading), *calibration_figures(document, leading)]
    blocks += [Figures(tuple(figures))] if figures else []
    return [*blocks, *group_table(document)]


# ── flow ──────────────────────────────────────────────────────────────────────────────────────────


def flow_blocks(document: ResultDocument, first: str) -> list[Block]:
    """The steps for all images, then the groups of the attribute with the worst finding."""
    whole = next((r for r in document.flow if r.attribute == ALL), None)
    if whole is None:
        return []
    region = PictureStore(document).deciding
    present = next((r.n_present for r in document.regions if r.name == region), None)
    steps = [
        FlowStep(f"{_images(whole.n_manifest)}", f"of {clusters_words(document)} in the manifest"),
        FlowStep(
            _images(whole.n_heat_usable),
            "with usable outlines and a heat map",
            _lost(whole.n_manifest, whole.n_heat_usable, "left out on the way"),
        ),
    ]
    if region and present is not None and present != whole.n_heat_usable:
        aside = _lost(whole.n_heat_usable, present, f"show no {plain(region)}")
        steps.append(FlowStep(_images(present), f"show the {plain(region)}", aside))
    own = [r for r in document.flow if r.attribute == first and r.level != UNKNOWN]
    groups = tuple(_flow_group(document, r, region) for r in own[:MOST_GROUPS])
    return [Flow(tuple(steps), groups if len(own) <= MOST_GROUPS else ())]


def _images(number: int | None) -> str:
    return f"{shown_count(number, withheld=True)} image{'s' * (number != 1)}"


def _lost(before: int | None, after: int | None, words: str) -> str:
    if before is None or after is None:
        return ""
    return f"{count(before - after)} {words}" if before > after else ""


def _flow_group(document: ResultDocument, r: FlowRow, region: str) -> FlowGroup:
    name = f"{plain(r.attribute)} {r.level}"
    if r.suppressed and r.n_analysed is None:
        return FlowGroup(name, (WITHHELD,))
    unit = unit_of(document)
    hidden = r.n_clusters is None
    of_whom = f"(number of {unit.many} withheld)" if hidden else f"of {unit.counted(r.n_clusters)}"
    told = [f"{_images(r.n_analysed)} {of_whom}"]
    mix = [
        f"{share_percent(v, 0)} {label}" for label, v in r.label_prevalence.items() if v is not None
    ]
    told.append(", ".join(mix[:3]) + ("" if len(mix) <= 3 else ", …"))
    area = r.area_share.get(region)
    told.append(
        f"{plain(region)} {share_percent(area, 0)} of the image" if area is not None else ""
    )
    return FlowGroup(name, tuple(filter(None, told)))


def missing_blocks(document: ResultDocument) -> list[Block]:
    """Images left out, and apart from them regions that some images do not show."""
    left = [f"{line.rstrip('.')}." for line in left_out_words(document)]
    apart = [f"{line}." for line in unmeasured_words(document)]
    text = " ".join(left)
    if apart:
        text += f" Not left out: {' '.join(apart)} Every image takes part for each region that it shows."
    blocks: list[Block] = [Paragraph(text)]
    inner = exclusion_table(document)
    return [*blocks, Details("Which images, and by group", inner)] if inner else blocks


def exclusion_table(document: ResultDocument) -> tuple[Block, ...]:
    """By reason: how many, three examples, and how many in each group."""
    rows = [_exclusion_row(e) for e in document.exclusions]
    heads = columns("Reason", "Region", ("Images", ""), "Examples", "By group")
    return (Table("Images without a heat share, by reason", heads, tuple(rows)),) if rows else ()


def _exclusion_row(e: Exclusion) -> Row:
    parts = []
    for attribute, levels in e.by_level.items():
        told = (f"{level} {shown_count(n, withheld=True)}" for level, n in levels.items())
        parts.append(f"{plain(attribute)}: {', '.join(told)}")
    return row(
        e.meaning,
        e.region or "the whole image",
        shown_count(e.count, withheld=True),
        listed(e.examples) or MISSING,
        "; ".join(parts) or MISSING,
    )


# ── figures ───────────────────────────────────────────────────────────────────────────────────────


def _leading_rows(rows: Sequence, leading: Sequence[str]) -> list:  # type: ignore[type-arg]
    """The rows of the attribute with the worst finding, else of the first that has any."""
    by_attribute = grouped(rows, lambda r: r.attribute)
    names = [name for name in (*leading, *by_attribute) if name in by_attribute]
    return by_attribute[names[0]] if names else []


def size_figures(document: ResultDocument, leading: Sequence[str]) -> list[Figure]:
    """Heat against the size of the deciding region: why the comparison is made at equal size."""
    region = PictureStore(document).deciding
    own = [s for s in document.size_curves if s.region == region and s.points]
    chosen = _leading_rows(own, leading)[:MOST_CURVES]
    if not chosen:
        return []
    curves = tuple(Curve(s.level, tuple((x, y) for x, y, _ in s.points)) for s in chosen)
    axes = Axes(percent, f"size of the {plain(region)}, share of the image")
    title = f"Heat on the {plain(region)} against its size"
    plot = curve_plot(curves, axes, f"{title}: {', '.join(c.label for c in curves)}")
    many = unit_of(document).many
    subtitle = f"Mean share of the heat in equally filled bins of {many}"
    return [Figure(title, subtitle, Drawing((plot,)))]


def calibration_figures(document: ResultDocument, leading: Sequence[str]) -> list[Figure]:
    """How often decisions of a given confidence are right."""
    known = [c for c in document.calibration if c.points]
    own = _leading_rows([c for c in known if c.attribute != ALL], leading) or known
    chosen = own[:MOST_CURVES]
    if not chosen:
        return []
    curves = tuple(
        Curve(plain(c.level), tuple((p.confidence, p.correct) for p in c.points)) for c in chosen
    )
    axes = Axes(percent, "confidence of the decision", square=True)
    title = "Right decisions against confidence"
    plot = curve_plot(curves, axes, f"{title}: {', '.join(c.label for c in curves)}")
    subtitle = (
        "Share of right decisions in equally filled bins; dotted: as often right as confident"
    )
    return [Figure(title, subtitle, Drawing((plot,)))]


# ── tables ────────────────────────────────────────────────────────────────────────────────────────


def group_table(document: ResultDocument) -> list[Block]:
    """What every group is made of: images, clusters, labels, size of the deciding region."""
    region = PictureStore(document).deciding
    labels = unique(name for r in document.flow for name in r.label_prevalence)[:3]
    heads = columns(
        "Group",
        ("Manifest", "images"),
        ("Analysed", "images"),
        (unit_of(document).many.capitalize(), ""),
        *((f"Label {name}", "of images") for name in labels),
        *(((f"Area of {plain(region)}", "of the image"),) if region else ()),
        ("Mean confidence", ""),
    )
    rows = tuple(_group_row(r, labels, region) for r in document.flow)
    if not rows:
        return []
    hidden = any(r.suppressed for r in document.flow)
    note = (
        f"Withheld: fewer than {document.min_cell} images or {unit_of(document).many}, or a number "
        "from which such a cell could be derived. "
    ) * hidden + (
        "Label shares and areas are taken over images with a heat share, confidence over readable "
        "images. Other labels, regions and steps of every group stand in flow.csv."
    )
    return [Details("Every group in numbers", (Table("Every group", heads, rows, note),))]


def _group_row(r: FlowRow, labels: Sequence[str], region: str) -> Row:
    values = [*(r.label_prevalence.get(name) for name in labels)]
    values += [r.area_share.get(region)] if region else []
    values.append(r.mean_confidence)
    shares = (
        WITHHELD if r.suppressed and value is None else share_percent(value, 0) for value in values
    )
    counts = (
        shown_count(n, withheld=r.suppressed) for n in (r.n_manifest, r.n_analysed, r.n_clusters)
    )
    group = "" if r.attribute == ALL else plain(r.attribute)
    muted = r.suppressed and r.n_analysed is None
    return row(plain(r.level), *counts, *shares, group=group, muted=muted)


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
        derived = f"derived: {region.derive}" if region.derive else ""
        about = "; ".join(part for part in (region.description, derived) if part)
        numbers = (
            count(region.n_annotated),
            count(region.n_present),
            share_percent(region.mean_area_share),
        )
        role = Cell(region.role, sub=ROLE_WORDS.get(region.role, ""))
        rows.append(row(region.name, role, about or MISSING, *numbers))
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
        told = "; ".join(remarks) or MISSING
        rows.append(row(a.name, a.kind, listed(a.levels) or MISSING, reference, told))
    return Table("Groups", heads, tuple(rows))


def criteria_blocks(document: ResultDocument) -> list[Block]:
    criteria = document.criteria
    if criteria is None:
        text = (
            "No criteria were declared: differences are shown with their uncertainty, and none is "
            "called acceptable or not."
        )
        return [Heading("Criteria"), Note(text, caution=True)]
    when = criteria.declared_on or "date not declared"
    started = (document.run.started or document.created)[:10]
    if criteria.declared_on and started:
        on = criteria.declared_on
        order = "before" if on < started else "on the day of" if on == started else "after"
        when = f"{on}, {order} the measuring ({started})"
    heat = f"{declared_points(criteria.margin)} percentage points of heat: smaller disparities are held to be immaterial"
    least = f"{declared_percent(criteria.min_coverage)} of each group must have been compared for a comparison to count as within"
    rows = (
        ("Margin", heat),
        (
            "Margin for undefined heat",
            f"{declared_points(criteria.undefined_margin)} percentage points",
        ),
        ("Least coverage", least),
        ("Declared by", criteria.declared_by or "not stated"),
        ("Declared on", when),
        ("Rationale", criteria.rationale or "not stated"),
    )
    return [Heading("Criteria"), Facts(rows)]
