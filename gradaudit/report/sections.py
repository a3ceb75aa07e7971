"""Family SECTIONS: each function turns a ``ResultDocument`` into the blocks of one section; no blocks, no section.

Nothing here computes a result.  What is worded, sorted, grouped or scaled for display comes from the document as it is.
The card's ``label`` is the section's title, its ``summary`` the sentence below it, its ``source`` the document's fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from matplotlib.figure import Figure

from gradaudit.records import (
    AUDIT_STATE_WORDS,
    REASONS,
    VERDICT_WORDS,
    Exclusion,
    Finding,
    GalleryItem,
    HeatRow,
    Interval,
    PerformanceRow,
    ResultDocument,
    Verdict,
)
from gradaudit.registry import Family
from gradaudit.report.blocks import (
    MISSING,
    WITHHELD,
    Block,
    Cell,
    Code,
    Details,
    Downloads,
    Drawing,
    Facts,
    Gallery,
    Heading,
    Listing,
    Note,
    Paragraph,
    Row,
    Table,
    Tile,
    VerdictPanel,
    anchor_id,
    columns,
    count,
    data_files,
    decimal,
    fragment_link,
    p_value,
    percent,
    percent_cell,
    plan_toml,
    points_cell,
    row,
    span,
    verdict_cell,
)  # fmt: skip
from gradaudit.report.figures import (
    ForestRow,
    IntervalPanel,
    IntervalRow,
    Lane,
    MapTile,
    Panel,
    distribution_plot,
    forest_plot,
    heat_overlay,
    interval_plot,
    mean_map_plot,
    svg_markup,
)  # fmt: skip

SECTIONS: Family[Callable[[ResultDocument], list[Block]]] = Family("report section")

STATE_MEANINGS: dict[str, str] = {
    "met": "Every comparison that was declared decisive shows that the groups differ by less than the declared margin.",
    "not_met": "At least one disparity in region heat between subgroups goes beyond the declared margin.",
    "insufficient": "The data neither show a disparity beyond the declared margin nor exclude one.",
    "none_declared": "Disparities are described; nobody declared how large one may be, so none is judged.",
}

GENERAL_LIMITS = (
    "Where the heat lies is not what the model uses. A heat gap and a change of the score when the region is removed "
    "are evidence together; a heat gap alone is not proof of use.",
    "Maps made after training can point to the wrong place, and no test in this report makes one right.",
    "Maps localise worse on small regions and better where the model is confident. Region size and confidence can "
    "therefore produce a gap by themselves; the adjusted difference takes account of size and class, not of everything.",
    "The quality of the explanation itself may differ between groups, and so may the quality of the region masks.",
)
"""Limits of the method, printed in every report."""

OUTCOMES = {
    "heat_share": "share of heat",
    "heat_share_correct": "share of heat, correctly classified images",
    "undefined": "share of images with undefined heat",
    "absent": "share of images without the region",
}
SHARES = (*OUTCOMES, "pointing_game", "relevance_rank_accuracy", "auc")
"""Outcomes between 0 and 1, shown in % and differences in points."""

ROLES = {"attend": "should draw heat", "avoid": "should not draw heat", "neutral": "no expectation"}
PERCENT_METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "recall", "ppv", "npv", "prevalence")
DECISIVE = ("GA101", "GA102", "GA103", "GA104")
OUTCOMES_OF_THEIR_OWN = ("GA111", "GA112")

Item = TypeVar("Item")


# ── sections ────────────────────────────────────────────────────────────────────────────────────────────────────────


@SECTIONS.register(label="Verdict", summary="", source="verdict, exclusions")
def verdict(document: ResultDocument) -> list[Block]:
    """The first screen: state, sentences, what cannot be told, and what was left out."""
    facts = document.verdict
    return [
        VerdictPanel(
            state=facts.state,
            words=AUDIT_STATE_WORDS[facts.state],
            meaning=STATE_MEANINGS[facts.state],
            headline=facts.headline[:1].upper() + facts.headline[1:],
            sentences=facts.sentences,
            links=tuple((fragment_link(anchor_id(a)), a) for a in _unique(facts.finding_anchors)),
            cannot_tell=facts.cannot_tell,
            exclusions=tuple(_exclusion_words(e) for e in document.exclusions) or ("No image was excluded.",),
        )
    ]


@SECTIONS.register(
    label="Scope",
    summary="What was audited: the model, the explained score, the regions, the groups and the criteria.",
    source="model, data, regions, attributes, criteria",
)
def scope(document: ResultDocument) -> list[Block]:
    """Task, explained score, layer, regions with roles, groups, and who declared which criteria when."""
    model, method = document.model, document.method
    facts = (
        ("Model", model.source),
        ("Classes", _listed(model.classes)),
        ("Explained score", _target_words(method.explain_target)),
        ("Map", f"{method.explain_method}, at layer {model.layer}{_in_brackets(_grid_words(model.grid))}"),
        ("Why this layer", model.layer_reason),
        ("Input", _size_words(model.input_size)),
        ("Data", f"{document.data.name}: {count(document.data.n_images)} images of {_clusters_words(document)}"),
        ("Unit of analysis", method.unit),
    )
    blocks: list[Block] = [Facts(tuple((term, text) for term, text in facts if text))]
    if model.preprocess:
        rows = tuple((key, str(value)) for key, value in sorted(model.preprocess.items()) if value is not None)
        blocks.append(Details("How an image becomes the network's input", (Facts(rows, code=True),)))
    return [*blocks, _region_table(document), _attribute_table(document), *_criteria(document)]


@SECTIONS.register(
    label="Data by subgroup",
    summary="How many images of each group came through every step, and how the groups differ besides.",
    source="flow, exclusions",
)
def data_by_subgroup(document: ResultDocument) -> list[Block]:
    """Flow from manifest to analysis, composition of the groups, exclusions by reason."""
    note = f"Withheld: fewer than {document.min_cell} images or clusters, or a number from which such a cell could be derived."
    heads = columns("Group", *((step, "") for step in ("Manifest", "Readable", "Mask usable", "Heat usable", "Analysed", "Clusters")))
    rows = []
    for r in document.flow:
        steps = (r.n_manifest, r.n_readable, r.n_mask_usable, r.n_heat_usable, r.n_analysed, r.n_clusters)
        texts = (count(n, r.suppressed) for n in steps)
        rows.append(row(_words(r.level), *texts, group=_words(r.attribute), muted=r.suppressed and r.n_analysed is None))
    hidden = any(r.suppressed for r in document.flow)
    blocks: list[Block] = [Table("Images that came through each step", heads, tuple(rows), note if hidden else "")] if rows else []
    return [*blocks, *_composition(document), *_exclusions(document)]


@SECTIONS.register(
    label="Heat", summary="Where the model's heat falls, region by region, and how far the groups differ.", source="findings, heat, mean_maps"
)
def heat(document: ResultDocument) -> list[Block]:
    """Contrasts, distributions and mean maps; apart for every map method and explained score that was analysed."""
    pairs = _unique((f.method, f.target) for f in document.findings) or _unique((h.method, h.target) for h in document.heat)
    blocks: list[Block] = []
    for index, (method, target) in enumerate(pairs):
        if len(pairs) > 1:
            blocks.append(Heading(f"{method}, {_target_words(target)}"))
        blocks += contrast_blocks(document, method, target, f"{index + 1}" if index else "")
        blocks += _distributions(document, method, target, f"{index + 1}" if index else "")
    return [*blocks, *_mean_maps(document), *_other_findings(document)]


@SECTIONS.register(
    label="Model performance",
    summary="How well the model classifies the same groups. This is beside heat, not a part of the verdict.",
    source="performance",
)
def performance(document: ResultDocument) -> list[Block]:
    """Accuracy, sensitivity, specificity, AUC per subgroup with intervals; their differences; heat among right and wrong predictions."""
    blocks: list[Block] = []
    for index, (attribute, rows) in enumerate(_grouped(document.performance, lambda r: r.attribute).items()):
        kinds = _grouped(rows, _metric_kind)
        title = f"Model performance {_of(attribute)}"
        blocks.append(Heading(_by(attribute)))
        if own := kinds.get("merit"):
            names = _unique(r.metric for r in own)
            panels = [IntervalPanel(_metric(m), tuple(_interval_row(r) for r in own if r.metric == m), m in PERCENT_METRICS) for m in names]
            text = f"A dot per group with its {_level(document)} interval; panels: {_listed([_metric(m) for m in names])}."
            caption = f"{title}. Dots: estimates; lines: {_level(document)} intervals that respect clusters."
            draw = _drawn(interval_plot, panels, anchor=f"performance-{index + 1}", title=title, text=text)
            blocks.append(Drawing(draw, caption, _performance_table(title, own)))
        if own := kinds.get("difference"):
            table = _performance_table(f"{title}: difference to the comparison", own)
            blocks.append(Details("Differences between groups", (table,)))
        if own := kinds.get("heat"):
            blocks.append(_performance_table(f"Heat share among right and wrong predictions {_of(attribute)}", own))
    return blocks


@SECTIONS.register(
    label="Gallery",
    summary="Single images, to see what the numbers are made of. Pictures illustrate; the verdict rests on all images.",
    source="gallery, images_shown",
)
def gallery(document: ResultDocument) -> list[Block]:
    """A random sample and the extremes, labelled as which."""
    if not document.images_shown:
        return [Paragraph("The plan withholds images: this report holds no picture of any person or object, not even reduced.")]
    if not document.gallery:
        return []
    names = tuple(r.name for r in document.regions)
    levels = tuple((a.name, _unique(i.levels[a.name] for i in document.gallery if a.name in i.levels)) for a in document.attributes)
    return [
        Paragraph(
            "Each image is labelled with how it was picked: at random (with the run's seed), or because it is an extreme of its group. "
            "Extremes are not typical. The overlay is the positive part of the map, enlarged bilinearly and scaled to the image's own "
            "maximum for display only; all numbers use the map as it was measured. Outlines show the regions."
        ),
        Gallery(tuple(_tile(item, names) for item in document.gallery), names, levels),
    ]


@SECTIONS.register(
    label="Checks", summary="What was checked about the data and the explanation, passed or not, and what was not checked.", source="checks"
)
def checks(document: ResultDocument) -> list[Block]:
    """Every check with its state and reason, also those that did not run."""
    if not document.checks:
        return []
    words = {"passed": "passed", "issue": "issue", "not_applicable": "not applicable", "skipped": "did not run"}
    ordered = sorted(document.checks, key=lambda c: ("issue", "passed", "skipped", "not_applicable").index(c.state))
    rows = [row(Cell(c.name, sub=c.code), Cell(words[c.state], icon=f"check-{c.state}"), c.detail) for c in ordered]
    return [Table("Checks", columns("Check", "Outcome", "Detail"), tuple(rows))]


@SECTIONS.register(label="Method", summary="How the numbers came about, with formulas and sources.", source="method")
def method(document: ResultDocument) -> list[Block]:
    """Protocol settings, the rule behind each verdict, and the cards of what was used."""
    facts = document.method
    rows = (
        ("Unit", facts.unit),
        ("Test", f"studentised permutation test, {count(facts.permutations)} permutations (seed {facts.seed}), which give the interval too"),
        ("Level", f"α = {facts.alpha:g}, so intervals cover {_level(document)}"),
        ("Adjusted for", _together(facts.adjusted_for) or "nothing"),
        ("Decisive", f"{count(facts.confirmatory_contrasts)} comparisons, p-values adjusted by Holm"),
        ("Exploratory", f"{count(facts.exploratory_contrasts)} comparisons, p-values adjusted by Benjamini–Hochberg, worded as signals"),
    )
    blocks: list[Block] = [Facts(rows), _verdict_rule()]
    for family, cards in sorted(facts.cards.items()):
        blocks.append(_card_table(family, cards))
    return blocks


@SECTIONS.register(label="Limits", summary="What no reader should conclude from this report.", source="limits")
def limits(document: ResultDocument) -> list[Block]:
    """The limits of every such audit, then those found in this data."""
    found: Block = Listing(document.limits) if document.limits else Paragraph("None beyond the general ones was found by the checks that ran.")
    return [Heading("Of every audit of this kind"), Listing(GENERAL_LIMITS), Heading("Found in this data"), found]


@SECTIONS.register(
    label="Reproduction", summary="What is needed to run this audit again and to check every number.", source="run, plan, and the whole document"
)
def reproduction(document: ResultDocument) -> list[Block]:
    """Command, digests, versions, plan; the data files follow in the page itself (see ``data_files``)."""
    run = document.run
    facts = [
        ("Started", run.started),
        ("Finished", run.finished),
        ("Duration", f"{run.seconds:.0f} s" if run.seconds is not None else ""),
        ("Device", " ".join(part for part in (run.device, run.dtype) if part)),
        ("Seed", str(run.seed)),
        ("Plan id", run.plan_id),
        *((f"{name} digest", digest) for name, digest in sorted(run.digests.items())),
        *((_words(name), count(number)) for name, number in sorted(run.counts.items())),
    ]
    blocks: list[Block] = [Code(run.command, "Command")] if run.command else []
    blocks.append(Facts(tuple((term, text) for term, text in facts if text)))
    if run.versions:
        blocks.append(Details("Versions of the software", (Facts(tuple(sorted(run.versions.items())), code=True),)))
    blocks.append(Details("The resolved plan (TOML)", (Code(plan_toml(document.plan)),)))
    blocks.append(Downloads(data_files(document)))
    return blocks


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


ALL = "(all)"
"""Attribute and level of rows over every image."""


def _drawn(plot: Callable[..., Figure], *data: Any, anchor: str, title: str, text: str) -> Callable[[], str]:
    return lambda: svg_markup(plot(*data), anchor, title, text)


def _words(name: str) -> str:
    return "all images" if name == ALL else name.replace("_", " ")


def _by(attribute: str) -> str:
    return "All images" if attribute == ALL else f"By {_words(attribute)}"


def _of(attribute: str) -> str:
    return "over all images" if attribute == ALL else f"by {_words(attribute)}"


def _metric(name: str) -> str:
    known = {"auc": "AUC", "ppv": "PPV", "npv": "NPV", "brier": "Brier score"}
    for start, words in (("heat_right:", "right"), ("heat_wrong:", "wrong")):
        if name.startswith(start):
            return f"{name.removeprefix(start)}, {words}"
    base = name.removesuffix("_difference")
    return known.get(base, _words(base).capitalize())


def _unique(items: Iterable[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(items))


def _grouped(items: Iterable[Item], key: Callable[[Item], str]) -> dict[str, list[Item]]:
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items)


def _together(items: Sequence[str]) -> str:
    """ "a, b and c" """
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _grid_words(grid: tuple[int, ...]) -> str:
    return f"a grid of {' × '.join(map(str, grid))} cells" if grid else ""


def _size_words(size: tuple[int, ...]) -> str:
    return f"{' × '.join(map(str, size))} pixels (height × width)" if size else ""


def _clusters_words(document: ResultDocument) -> str:
    data = document.data
    if data.cluster_declared:
        return f"{count(data.n_clusters)} clusters (e.g. patients)"
    return "unknown origin: no clusters were declared, so each image counts as independent"


def _target_words(target: str) -> str:
    known = {"predicted": "the score of the class that the model predicts", "label": "the score of the image's own label"}
    if target in known:
        return known[target]
    return f"the score of class {target.removeprefix('class:')}" if target.startswith("class:") else target


def _level(document: ResultDocument) -> str:
    return f"{100 * (1 - document.method.alpha):g}\u202f%"


def _exclusion_words(exclusion: Exclusion) -> str:
    number = WITHHELD if exclusion.count is None else count(exclusion.count)
    where = f", region {exclusion.region}" if exclusion.region else ""
    noun = "image" if exclusion.count == 1 else "images"
    return f"{number} {noun}{where}: {exclusion.meaning}"


def _is_trend(finding: Finding) -> bool:
    """A slope over ordered levels has two end levels and no group of its own to compare with."""
    slope = finding.reference not in ("", "rest") and not finding.n_clusters_reference and not finding.n_withheld
    return finding.code == "GA102" or (slope and finding.code != "GA104")


def _comparison(finding: Finding) -> str:
    if finding.code == "GA104":
        return "departure from trend"
    if finding.code == "GA103":
        return f"trend, {finding.reference} to {finding.group}" if finding.group and finding.reference else "trend"
    if _is_trend(finding):
        return f"trend, {finding.reference} to {finding.group}"
    reference = "all others" if finding.reference == "rest" else finding.reference
    return f"{finding.group} against {reference}" if reference else finding.group


def _of_clusters(images: int, clusters: int) -> str:
    return f"{count(images)} / {count(clusters)}"


# ── scope ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _region_table(document: ResultDocument) -> Block:
    heads = columns("Region", "Role", "What it is", ("Annotated", "images"), ("Present", "images"), ("Mean area", "of the image"))
    rows = []
    for region in document.regions:
        about = "; ".join(part for part in (region.description, f"derived: {region.derive}" if region.derive else "") if part)
        numbers = (count(region.n_annotated), count(region.n_present), percent(region.mean_area_share))
        rows.append(row(region.name, Cell(region.role, sub=ROLES.get(region.role, "")), about or MISSING, *numbers))
    return Table("Regions", heads, tuple(rows))


def _attribute_table(document: ResultDocument) -> Block:
    heads = columns("Attribute", "Kind", "Groups", "Compared with", "Remarks")
    rows = []
    for a in document.attributes:
        remarks = [a.description] if a.description else []
        remarks += ["labels estimated by an algorithm, not observed"] if a.inferred else []
        remarks += ["may vary within a cluster"] if a.within else []
        reference = "all others" if a.reference == "rest" else a.reference
        rows.append(row(a.name, a.kind, _listed(a.levels) or MISSING, reference, "; ".join(remarks) or MISSING))
    return Table("Groups", heads, tuple(rows))


def _criteria(document: ResultDocument) -> list[Block]:
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


# ── data ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _composition(document: ResultDocument) -> list[Block]:
    classes = _unique(name for r in document.flow for name in r.label_prevalence)
    regions = _unique(name for r in document.flow for name in r.area_share)
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
        rows.append(row(_words(r.level), *texts, group=_words(r.attribute), muted=r.suppressed and r.n_analysed is None))
    note = "Groups that differ in label mix, region size or confidence can differ in heat for that reason alone."
    return [Table("What the groups are made of", heads, tuple(rows), note)]


def _exclusions(document: ResultDocument) -> list[Block]:
    if not document.exclusions:
        return [Paragraph("No image and no region was excluded.")]
    heads = columns("Reason", "Region", ("Images", ""), "Examples")
    rows, by_level = [], []
    for e in document.exclusions:
        number = WITHHELD if e.count is None else count(e.count)
        rows.append(row(Cell(e.meaning, sub=e.reason), e.region or "all", number, _listed(e.examples) or MISSING))
        for attribute, levels in e.by_level.items():
            for level, n in levels.items():
                what = e.meaning + (f", region {e.region}" if e.region else "")
                by_level.append(row(level, what, count(n, withheld=True), group=_words(attribute)))
    blocks: list[Block] = [Table("Excluded images and regions, by reason", heads, tuple(rows))]
    if by_level:
        by_level.sort(key=lambda line: line.group)
        inner = Table("Exclusions by group", columns("Group", "Reason", ("Images", "")), tuple(by_level))
        blocks.append(Details("Exclusions by group", (inner,)))
    return blocks


# ── heat ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def contrast_blocks(document: ResultDocument, method: str, target: str, suffix: str) -> list[Block]:
    """One forest plot and one table per region, over every attribute."""
    chosen = [f for f in document.findings if f.code in DECISIVE and (f.method, f.target) == (method, target)]
    if not chosen:
        return []
    margin = document.criteria.margin if document.criteria else None
    blocks: list[Block] = [_reading_note(document)]
    for index, (region, mixed) in enumerate(_grouped(chosen, lambda f: f.region).items()):
        findings = [f for own in _grouped(mixed, lambda f: f.attribute).values() for f in own]
        role = next((r.role for r in document.regions if r.name == region), "")
        title = f"Heat on {region}: difference between groups"
        band = f" The shaded band is the declared margin of ±{100 * margin:g} points." if margin is not None else ""
        text = " ".join(f.sentence for f in findings if f.sentence) or "One row per comparison with its interval."
        rows = [_forest_row(f) for f in findings]
        draw = _drawn(forest_plot, rows, margin, anchor=f"forest{suffix}-{index + 1}", title=title, text=text)
        caption = (
            f"{title}. Marker and line: adjusted difference (raw where there is no adjustment) with its {_level(document)} interval; "
            f"small tick above: raw difference; n: images of the group.{band}"
        )
        caption += " * provisional: fewer than 20 clusters." if any(r.provisional for r in rows) else ""
        table = _contrast_table(document, title, findings)
        blocks += [Heading(f"Heat on {region}"), *_role_note(role), Drawing(draw, caption), table, _more_on(findings)]
    return blocks


def _role_note(role: str) -> list[Block]:
    return [Paragraph(f"Role: {role} ({ROLES[role]}).", small=True)] if role in ROLES else []


def _reading_note(document: ResultDocument) -> Block:
    text = (
        "How to read: the heat share is the part of an image's heat that falls on a region, from 0 to 100 %. A difference of +10 points means "
        "that ten more of every hundred parts of heat fall there in this group than in the comparison."
    )
    equal = document.method.adjusted_for
    return Note(f"{text} The adjusted difference compares at equal {_together(equal)}." if equal else text)


def _is_share(finding: Finding) -> bool:
    return finding.outcome in SHARES


def _difference_cell(finding: Finding, interval: Interval) -> Cell:
    if finding.suppressed:
        return Cell(WITHHELD)
    if _is_share(finding):
        return points_cell(interval)
    both = f"{decimal(interval.low)} to {decimal(interval.high)}" if interval.low is not None and interval.high is not None else ""
    return Cell(decimal(interval.estimate), both)


def _mean_cell(finding: Finding) -> Cell:
    if finding.suppressed:
        return Cell(WITHHELD)
    if finding.mean.estimate is None:
        return Cell(WITHHELD if finding.n_withheld else MISSING)
    worded = percent if _is_share(finding) else decimal
    reference = f"vs {worded(finding.mean_reference.estimate)}" if finding.mean_reference.estimate is not None else ""
    return Cell(worded(finding.mean.estimate), sub=reference)


def _forest_row(f: Finding) -> ForestRow:
    shown = f.adjusted if f.adjusted.estimate is not None else f.raw
    if f.suppressed:
        shown = Interval()
    return ForestRow(
        heading=_words(f.attribute),
        label=_comparison(f),
        n=WITHHELD if f.suppressed or f.n_withheld else count(f.n_images),
        estimate=shown.estimate,
        low=shown.low,
        high=shown.high,
        raw=f.raw.estimate if f.adjusted.estimate is not None and not f.suppressed else None,
        verdict=f.verdict,
        provisional=f.provisional,
    )


def _contrast_table(document: ResultDocument, title: str, findings: Sequence[Finding]) -> Table:
    heads = columns(
        "Comparison", "Verdict", ("Mean", "compared with"), ("Raw", "difference"), ("Adjusted", "difference"), ("p", "adjusted below"),
        ("p equiv.", "adjusted below"), ("Detectable", "difference"), ("n", "images / clusters"),
    )  # fmt: skip
    note = (
        f"Differences in percentage points, below each its {_level(document)} interval. p: that there is no difference; p equiv.: that the "
        "difference reaches the margin; below each, after adjustment for the number of comparisons. Detectable: what data of this size would "
        "show in 80 % of audits."
    )
    return Table(title, heads, tuple(_contrast_row(f) for f in findings), note)


def _contrast_row(f: Finding) -> Row:
    place: Any = {"anchor": anchor_id(f.anchor), "group": _words(f.attribute)}
    if f.suppressed:
        return row(_comparison(f), _verdict_word(f), *(WITHHELD,) * 7, muted=True, **place)
    tests = (Cell(p_value(f.test.p), sub=p_value(f.test.p_adjusted)), Cell(p_value(f.test.p_equivalence), sub=p_value(f.test.p_equivalence_adjusted)))
    detectable = (f"{100 * f.mde80:.1f}" if _is_share(f) else decimal(f.mde80)) if f.mde80 is not None else MISSING
    against = f"vs {_of_clusters(f.n_images_reference, f.n_clusters_reference)}" if f.n_clusters_reference else ""
    n = Cell(WITHHELD) if f.n_withheld else Cell(_of_clusters(f.n_images, f.n_clusters), sub=against)
    differences = (_difference_cell(f, f.raw), _difference_cell(f, f.adjusted))
    return row(_comparison(f), _verdict_word(f), _mean_cell(f), *differences, *tests, detectable, n, **place)


def _verdict_word(f: Finding) -> Cell:
    word = verdict_cell(f.verdict, f.provisional)
    if f.verdict is Verdict.SHOWN and f.margin is None and f.code == "GA104":
        return Cell("departure shown, not judged by the margin", icon=word.icon)
    if f.verdict is Verdict.NOT_ASSESSED and f.reason:
        return Cell(word.text, sub=REASONS.get(f.reason, _words(f.reason)), icon=word.icon)
    return word


def _more_on(findings: Sequence[Finding]) -> Block:
    """The sentences, and the effect sizes and test details that the table has no room for."""
    sentences = tuple(" ".join(filter(None, (f.sentence, *(note[:1].upper() + note[1:] + "." for note in f.notes)))) for f in findings)
    heads = columns(
        "Comparison", ("Ratio", ""), ("Standardised", "difference"), ("Cliff's δ", ""), "Test", ("Statistic", ""), ("df", ""),
        ("Clusters needed", ""), "Adjusted for",
    )  # fmt: skip
    rows = []
    for f in findings:
        effects = (Cell(decimal(f.effect.ratio.estimate), sub=_ratio_span(f.effect.ratio)), decimal(f.effect.standardised_difference))
        tested = (decimal(f.test.statistic), decimal(f.test.df, 1), count(f.clusters_needed), _listed(f.adjusted_for) or MISSING)
        cells = (*effects, decimal(f.effect.cliffs_delta), Cell(f.test.name or MISSING, sub=f.test.family), *tested)
        rows.append(row(_comparison(f), *((WITHHELD,) * 8 if f.suppressed else cells), group=_words(f.attribute), muted=f.suppressed))
    blocks: list[Block] = [Listing(tuple(filter(None, sentences)))] if any(sentences) else []
    return Details("In sentences, with effect sizes and test details", (*blocks, Table("Effect sizes and tests", heads, tuple(rows))))


def _ratio_span(ratio: Interval) -> str:
    return f"{decimal(ratio.low)} to {decimal(ratio.high)}" if ratio.low is not None and ratio.high is not None else ""


def _distributions(document: ResultDocument, method: str, target: str, suffix: str) -> list[Block]:
    """Per attribute: a lane per group, a panel per region."""
    chosen = [h for h in document.heat if (h.method, h.target) == (method, target)]
    blocks: list[Block] = []
    for index, (attribute, rows) in enumerate(_grouped(chosen, lambda h: h.attribute).items()):
        panels = tuple(Panel(region, tuple(_lane(h) for h in own)) for region, own in _grouped(rows, lambda h: h.region).items())
        title = f"Distribution of the heat share {_of(attribute)}"
        text = "One lane per group and one panel per region: a histogram, quantiles and the mean. The table below holds the numbers."
        draw = _drawn(distribution_plot, panels, anchor=f"distribution{suffix}-{index + 1}", title=title, text=text)
        caption = (
            f"{title}. Bars: clusters (each counts once), scaled to the tallest bar of the lane; triangle: mean; "
            "below: median (ring), middle half (thick) and 5 to 95 % (thin)."
        )
        blocks += [Heading(_by(attribute), level=4), Drawing(draw, caption, _heat_table(document, title, rows))]
    return [Heading("Distributions"), *blocks] if blocks else []


def _lane(h: HeatRow) -> Lane:
    if h.suppressed:
        return Lane(_words(h.level), WITHHELD, note="withheld: too few images")
    note = "" if h.mean is not None or any(h.histogram) else "no defined heat share"
    return Lane(_words(h.level), f"n = {count(h.n_images)}", h.histogram, h.quantiles, h.mean, note)


def _heat_table(document: ResultDocument, title: str, rows: Sequence[HeatRow]) -> Table:
    quantiles = ((f"{q} %", "quantile") for q in (5, 25, 50, 75, 95))
    heads = columns(
        "Group", ("n", "images / clusters"), ("Mean", f"{_level(document)} interval"), ("Adjusted mean", ""), ("SD", "points"), *quantiles,
        ("Lift", "share ÷ area"), ("Pointing game", "hits"), ("Undefined", "of images"),
    )  # fmt: skip
    by_region = _grouped(rows, lambda h: h.region)
    return Table(title, heads, tuple(_heat_row(h) for own in by_region.values() for h in own))


def _heat_row(h: HeatRow) -> Row:
    if h.suppressed:
        return row(_words(h.level), *(WITHHELD,) * 12, group=h.region, muted=True)
    n = MISSING if h.n_images is None or h.n_clusters is None else _of_clusters(h.n_images, h.n_clusters)
    mean = percent_cell(Interval(estimate=h.mean, low=h.ci_low, high=h.ci_high))
    spread = f"{100 * h.sd:.1f}" if h.sd is not None else MISSING
    quantiles = (percent(q) for q in (h.quantiles if len(h.quantiles) == 5 else (None,) * 5))
    rates = (decimal(h.mean_lift), percent(h.pointing_game), percent(h.undefined_share))
    return row(_words(h.level), n, mean, percent(h.adjusted_mean), spread, *quantiles, *rates, group=h.region)


def _mean_maps(document: ResultDocument) -> list[Block]:
    """Per attribute: the mean map of every group on one scale; pixels of heat, never of an image."""
    blocks: list[Block] = []
    for index, (attribute, maps) in enumerate(_grouped(document.mean_maps, lambda m: m.attribute).items()):
        tiles = [MapTile(_words(m.level), f"n = {count(m.n_images)}", m.heat, dict(m.regions)) for m in maps]
        title = f"Mean heat {_of(attribute)}"
        text = "Mean heat map of every group on one colour scale, with region outlines."
        names = [r.name for r in document.regions]
        draw = _drawn(mean_map_plot, tiles, names, anchor=f"maps-{index + 1}", title=title, text=text)
        caption = (
            f"{title}: each image's heat sums to one, then images are averaged. 1× is the value of heat spread evenly over the image; "
            "all groups share the scale. Outlines: where a region covers at least half of its highest mean coverage."
        )
        blocks += [Heading(_by(attribute), level=4), Drawing(draw, caption, _map_table(title, maps))]
    return [Heading("Mean maps"), *blocks] if blocks else []


def _map_table(title: str, maps: Sequence[Any]) -> Table | None:
    width = max(len(line) for m in maps for line in m.heat)
    if width > 14:
        return None  # a finer grid is not for reading; its numbers are in result.json
    heads = columns("Grid row, from the top", *((f"{i + 1}", "") for i in range(width)))
    rows = []
    for m in maps:
        cells = len(m.heat) * len(m.heat[0])
        for number, line in enumerate(m.heat):
            rows.append(row(str(number + 1), *(decimal(v * cells) for v in line), group=_words(m.level)))
    return Table(f"{title}: values of the grid, times an even spread", heads, tuple(rows))


def _other_findings(document: ResultDocument) -> list[Block]:
    """Undefined heat and absent regions, then everything exploratory."""
    own = [f for f in document.findings if f.code in OUTCOMES_OF_THEIR_OWN]
    rest = [f for f in document.findings if f.code not in DECISIVE + OUTCOMES_OF_THEIR_OWN]
    text = "Images without a defined heat share are not counted as zero. Whether they are more frequent in a group is a finding of its own."
    blocks: list[Block] = []
    if own:
        blocks += [Heading("Undefined heat and absent regions"), Paragraph(text), *_tables_by_outcome(document, own)]
    text = "Not declared beforehand as decisive; p-values are adjusted by Benjamini–Hochberg. A signal here is a reason to look, not a verdict."
    if rest:
        inner = Details(f"{count(len(rest))} exploratory comparisons", tuple(_tables_by_outcome(document, rest)))
        blocks += [Heading("Exploratory signals"), Paragraph(text), inner]
    return blocks


def _tables_by_outcome(document: ResultDocument, findings: Sequence[Finding]) -> list[Block]:
    def title(f: Finding) -> str:
        parts = (OUTCOMES.get(f.outcome, _words(f.outcome)), f.region, "intersections" if f.code == "GA131" else "")
        text = ", ".join(filter(None, parts))
        return text[:1].upper() + text[1:]

    tables = _grouped(findings, title)
    return [
        _contrast_table(document, name, [f for part in _grouped(own, lambda f: f.attribute).values() for f in part]) for name, own in tables.items()
    ]


# ── performance, gallery, method ────────────────────────────────────────────────────────────────────────────────────


def _interval_row(r: PerformanceRow) -> IntervalRow:
    note = WITHHELD if r.suppressed else REASONS.get(r.reason, _words(r.reason)) if r.estimate is None else ""
    estimate = None if r.suppressed else r.estimate
    return IntervalRow(_words(r.level), estimate, r.low, r.high, note)


def _metric_kind(r: PerformanceRow) -> str:
    return "heat" if r.metric.startswith(("heat_right:", "heat_wrong:")) else "difference" if r.metric.endswith("_difference") else "merit"


def _performance_table(title: str, rows: Sequence[PerformanceRow]) -> Table:
    metrics = _unique(r.metric for r in rows)
    own_n = any(_metric_kind(r) == "heat" for r in rows)  # right and wrong predictions are different images
    heads = columns("Group", *(() if own_n else (("n", "images / clusters"),)), *((_metric(m), "n below" if own_n else "") for m in metrics))
    lines = []
    for level, own in _grouped(rows, lambda r: r.level).items():
        by_metric = {r.metric: r for r in own}
        hidden = all(r.suppressed for r in own)
        largest = max(own, key=lambda r: r.n_images or 0)
        n = WITHHELD if hidden or not largest.n_images else _of_clusters(largest.n_images, largest.n_clusters or largest.n_images)
        cells = [_performance_cell(by_metric.get(m)) for m in metrics]
        lines.append(row(_words(level), *cells, muted=hidden) if own_n else row(_words(level), n, *cells, muted=hidden))
    return Table(title, heads, tuple(lines))


def _performance_cell(r: PerformanceRow | None) -> Cell:
    if r is None:
        return Cell(MISSING)
    if r.suppressed:
        return Cell(WITHHELD)
    if r.estimate is None:
        return Cell(MISSING, sub=REASONS.get(r.reason, _words(r.reason)))
    interval = Interval(estimate=r.estimate, low=r.low, high=r.high)
    base = r.metric.removesuffix("_difference")
    if _metric_kind(r) == "heat":
        counts = f"n = {count(r.n_images)}" if r.n_images else ""
        return Cell(percent(r.estimate), "; ".join(filter(None, (span(interval), counts))))
    if base in PERCENT_METRICS:
        return points_cell(interval) if base != r.metric else percent_cell(interval)
    return Cell(decimal(r.estimate), _ratio_span(interval))


def _tile(item: GalleryItem, regions: Sequence[str]) -> Tile:
    # Only embedded pictures and plain path data pass: a result file may come from elsewhere.
    image = item.image if re.fullmatch(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+", item.image) else ""
    # The first region lies on top: where a derived region shares an edge with it, its own line stays visible.
    outlines = tuple(
        (name, path, regions.index(name) % 4 if name in regions else 0)
        for name, path in sorted(item.outlines.items(), key=lambda pair: -regions.index(pair[0]) if pair[0] in regions else 1)
        if path and re.fullmatch(r"[MLHVCSQTAZmlhvcsqtaz0-9eE+\-., \n]*", path)
    )
    overlay = heat_overlay(item.heat, item.width, item.height)
    right = {True: "right", False: "wrong", None: "not judged"}[item.correct]
    chance = f" ({percent(item.probability, 0)})" if item.probability is not None else ""
    lines = [("Label", item.label or "unknown"), ("Predicted", f"{item.predicted}{chance}")]
    lines += [(_words(name), level) for name, level in item.levels.items()]
    lines += [(f"Heat on {name}", percent(value)) for name, value in item.values.items()]
    picked = tuple(_words(p) for p in item.picked)
    return Tile(item, image, overlay, outlines, picked, right, tuple(lines), dict(item.values))


def _verdict_rule() -> Block:
    conditions = {
        Verdict.MATERIAL: "a difference is shown, and its whole interval lies beyond the margin",
        Verdict.SIZE_UNCERTAIN: "a difference is shown, and its interval reaches both beyond and within the margin",
        Verdict.WITHIN_MARGIN: "a difference is shown, and so is that it is smaller than the margin",
        Verdict.EQUIVALENT: "no difference is shown, and it is shown that any difference is smaller than the margin",
        Verdict.INCONCLUSIVE: "neither is shown: the data do not suffice",
        Verdict.NOT_ASSESSED: "too few clusters, or too few that vary: numbers only",
        Verdict.SHOWN: "a difference is shown, and no margin was declared to judge it by",
    }
    rows = tuple(row(Cell(VERDICT_WORDS[v], icon=v.value), text) for v, text in conditions.items())
    return Table("What each verdict means", columns("Verdict", "Condition, after adjustment for multiplicity"), rows)


def _card_table(family: str, cards: Sequence[dict[str, str]]) -> Block:
    heads = columns("Name", "What it says", "Formula", "Range", "Source")
    rows = []
    for card in cards:
        about = Cell(card.get("summary") or MISSING, sub=card.get("caveat", ""))
        extent = ", ".join(card[key] for key in ("range", "unit", "direction") if card.get(key))
        name = Cell(card.get("label") or card.get("name", ""), sub=card.get("name", ""))
        rows.append(row(name, about, card.get("formula") or MISSING, extent or MISSING, card.get("source") or MISSING))
    return Table(f"{family[:1].upper()}{_words(family[1:])}", heads, tuple(rows))
