"""Family SECTIONS: each function turns a ``ResultDocument`` into the blocks of one section.

A section without blocks is left out.

Nothing here computes a result.  What is worded, sorted, grouped or scaled for display comes from
the document as it is. The card's ``label`` is the section's title, its ``summary`` the sentence
below it, its ``source`` the document's fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gradaudit.number_text import count, decimal, share_percent
from gradaudit.plan import plan_toml
from gradaudit.registry import Family
from gradaudit.report.blocks import (
    Block,
    Cell,
    Code,
    Details,
    Downloads,
    Facts,
    Gallery,
    Heading,
    Listing,
    Paragraph,
    Table,
    Tile,
    VerdictPanel,
    anchor_id,
    columns,
    data_files,
    fragment_link,
    row,
)
from gradaudit.report.figures.heat_maps import heat_overlay
from gradaudit.report.glossary import glossary_blocks
from gradaudit.report.sections.cells import cell_blocks
from gradaudit.report.sections.data import (
    attribute_table,
    composition_blocks,
    criteria_blocks,
    exclusion_blocks,
    flow_blocks,
    region_table,
)
from gradaudit.report.sections.findings import contrast_blocks, other_blocks
from gradaudit.report.sections.heat import distribution_blocks, map_blocks
from gradaudit.report.sections.method import (
    card_tables,
    families,
    protocol,
    tests_used,
    verdict_rule,
    verdict_rules,
)
from gradaudit.report.sections.performance import performance_blocks
from gradaudit.report.wording import (
    EACH_TAKES_PART,
    clusters_words,
    grid_words,
    in_brackets,
    left_out_words,
    listed,
    plain,
    size_words,
    target_words,
    unique,
    unmeasured_words,
)
from gradaudit.result_schema import (
    AUDIT_STATE_MEANINGS,
    GalleryItem,
    ResultDocument,
)

SECTIONS: Family[Callable[[ResultDocument], list[Block]]] = Family("report section")

GENERAL_LIMITS = (
    "Where the heat lies is not what the model uses. A heat gap and a change of the score when the region is removed "
    "are evidence together; a heat gap alone is not proof of use.",
    "Maps made after training can point to the wrong place, and no test in this report makes one right.",
    "Maps localise worse on small regions and better where the model is confident. Region size and confidence can "
    "therefore produce a gap by themselves; the adjusted difference takes account of size and class, not of everything.",
    "The quality of the explanation itself may differ between groups, and so may the quality of the region masks.",
    "Images that are missing by strong selection can hide a difference: in trials, 8 to 17 of a hundred such audits "
    "passed all the same.",
)
"""Limits of the method, printed in every report."""


MOST_REASONS = 3
"""Lines of the first screen that say what is in the way of "criteria met"."""


@SECTIONS.register(label="Verdict", summary="", source="verdict, exclusions")
def verdict(document: ResultDocument) -> list[Block]:
    """The first screen: state, sentences, what cannot be told, and what was left out."""
    facts = document.verdict
    return [
        VerdictPanel(
            state=facts.state,
            words=facts.words,
            meaning=AUDIT_STATE_MEANINGS[facts.state],
            headline=". ".join(map(_capital, filter(None, (facts.headline, facts.second)))),
            sentences=facts.sentences,
            links=tuple((fragment_link(anchor_id(a)), a) for a in unique(facts.finding_anchors)),
            cannot_tell=facts.cannot_tell,
            left_out=left_out_words(document),
            in_the_way=in_the_way(document),
            unmeasured=unmeasured_words(document),
            about_unmeasured=EACH_TAKES_PART,
        )
    ]


def in_the_way(document: ResultDocument) -> tuple[str, ...]:
    """What is in the way of "criteria met", where that is the question; a long list is cut."""
    reasons = document.verdict.reasons
    if document.verdict.state not in ("not_met", "insufficient"):
        return ()
    more = len(reasons) - MOST_REASONS
    if more < 2:
        return reasons
    return (*reasons[:MOST_REASONS], f"{more} more, in the table of planned comparisons.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@SECTIONS.register(
    label="Scope",
    summary="What was audited: the model, the explained score, the regions, the groups and the criteria.",
    source="model, data, regions, attributes, criteria",
)
def scope(document: ResultDocument) -> list[Block]:
    """What was audited, and by which criteria.

    Task, explained score, layer, regions with roles, groups, and who declared which criteria when.
    """
    model, method = document.model, document.method
    facts = (
        ("Model", model.source),
        ("Classes", listed(model.classes)),
        ("Explained score", target_words(method.explain_target)),
        (
            "Map",
            f"{method.explain_method}, at layer {model.layer}{in_brackets(grid_words(model.grid))}",
        ),
        ("Why this layer", model.layer_reason),
        ("Input", size_words(model.input_size)),
        (
            "Data",
            f"{document.data.name}: {count(document.data.n_images)} images of {clusters_words(document)}",
        ),
        ("Unit of analysis", method.unit),
    )
    blocks: list[Block] = [Facts(tuple((term, text) for term, text in facts if text))]
    if model.notes:
        blocks += [Heading("Noticed when the model was loaded"), Listing(model.notes)]
    if model.preprocess:
        rows = tuple(
            (key, str(value))
            for key, value in sorted(model.preprocess.items())
            if value is not None
        )
        blocks.append(
            Details("How an image becomes the network's input", (Facts(rows, code=True),))
        )
    return [*blocks, region_table(document), attribute_table(document), *criteria_blocks(document)]


@SECTIONS.register(
    label="Data by subgroup",
    summary="How many images of each group came through every step, and how the groups differ besides.",
    source="flow, exclusions",
)
def data_by_subgroup(document: ResultDocument) -> list[Block]:
    """The groups in numbers, from the manifest to the analysis.

    The flow of images, the composition of the groups, and images left out and regions not measured,
    by reason.
    """
    return [*flow_blocks(document), *composition_blocks(document), *exclusion_blocks(document)]


@SECTIONS.register(
    label="Heat",
    summary="Where the model's heat falls, region by region, and how far the groups differ.",
    source="cells, findings, heat, mean_maps",
)
def heat(document: ResultDocument) -> list[Block]:
    """Contrasts, distributions and mean maps of the heat.

    Each map method and explained score that was analysed has its own.
    """
    pairs = unique((f.method, f.target) for f in document.findings) or unique(
        (h.method, h.target) for h in document.heat
    )
    blocks = cell_blocks(document)
    for index, (method, target) in enumerate(pairs):
        if len(pairs) > 1:
            blocks.append(Heading(f"{method}, {target_words(target)}"))
        blocks += contrast_blocks(document, method, target, f"{index + 1}" if index else "")
        blocks += distribution_blocks(document, method, target, f"{index + 1}" if index else "")
    return [*blocks, *map_blocks(document), *other_blocks(document)]


@SECTIONS.register(
    label="Model performance",
    summary="How well the model classifies the same groups. Where it does worse by more than chance, "
    "the verdict says so; its state rests on heat alone.",
    source="performance",
)
def performance(document: ResultDocument) -> list[Block]:
    """The model's own performance by subgroup, and heat among right and wrong predictions.

    Accuracy, sensitivity, specificity and AUC with intervals, and their differences.
    """
    return performance_blocks(document)


@SECTIONS.register(
    label="Gallery",
    summary="Single images, to see what the numbers are made of. Pictures illustrate; the verdict rests on all images.",
    source="gallery, images_shown",
)
def gallery(document: ResultDocument) -> list[Block]:
    """A random sample and the extremes, labelled as which."""
    if not document.images_shown:
        return [
            Paragraph(
                "The plan withholds images: this report holds no picture of any person or object, not even reduced."
            )
        ]
    if not document.gallery:
        return []
    names = tuple(r.name for r in document.regions)
    levels = tuple(
        (a.name, unique(i.levels[a.name] for i in document.gallery if a.name in i.levels))
        for a in document.attributes
    )
    return [
        Paragraph(
            "Each image is labelled with how it was picked: at random (with the run's seed), or because it is an extreme of its group. "
            "Extremes are not typical. The overlay is the positive part of the map, enlarged bilinearly and scaled to the image's own "
            "maximum for display only; all numbers use the map as it was measured. Outlines show the regions."
        ),
        Gallery(tuple(tile(item, names) for item in document.gallery), names, levels),
    ]


@SECTIONS.register(
    label="Checks",
    summary="What was checked about the data and the explanation, passed or not, and what was not checked.",
    source="checks",
)
def checks(document: ResultDocument) -> list[Block]:
    """Every check with its state and reason, also those that did not run."""
    if not document.checks:
        return []
    words = {
        "passed": "passed",
        "issue": "issue",
        "not_applicable": "not applicable",
        "skipped": "did not run",
    }
    ordered = sorted(
        document.checks,
        key=lambda c: ("issue", "passed", "skipped", "not_applicable").index(c.state),
    )
    rows = [
        row(Cell(c.name, sub=c.code), Cell(words[c.state], icon=f"check-{c.state}"), c.detail)
        for c in ordered
    ]
    return [Table("Checks", columns("Check", "Outcome", "Detail"), tuple(rows))]


@SECTIONS.register(
    label="Method",
    summary="How the numbers came about, with formulas and sources.",
    source="method",
)
def method(document: ResultDocument) -> list[Block]:
    """Protocol settings, the rule behind each verdict, and the cards of what was used."""
    return [
        protocol(document),
        *tests_used(document),
        families(document),
        verdict_rule(),
        *verdict_rules(document),
        *card_tables(document),
    ]


@SECTIONS.register(
    label="Glossary",
    summary="Every term and column head of this report.",
    source="method, and the cards in it",
)
def glossary(document: ResultDocument) -> list[Block]:
    """Terms with the card that computes them, then roles and the states of an audit."""
    return glossary_blocks(document)


@SECTIONS.register(
    label="Limits", summary="What no reader should conclude from this report.", source="limits"
)
def limits(document: ResultDocument) -> list[Block]:
    """The limits of every such audit, then those found in this data."""
    found: Block = (
        Listing(document.limits)
        if document.limits
        else Paragraph("None beyond the general ones was found by the checks that ran.")
    )
    return [
        Heading("Of every audit of this kind"),
        Listing(GENERAL_LIMITS),
        Heading("Found in this data"),
        found,
    ]


@SECTIONS.register(
    label="Reproduction",
    summary="What is needed to run this audit again and to check every number.",
    source="run, plan, and the whole document",
)
def reproduction(document: ResultDocument) -> list[Block]:
    """What is needed to run the audit again: command, digests, versions and plan.

    The data files follow in the page itself (see ``data_files``).
    """
    run = document.run
    facts = [
        ("Started", run.started),
        ("Finished", run.finished),
        ("Duration", f"{decimal(run.seconds, 0)} s" if run.seconds is not None else ""),
        ("Device", " ".join(part for part in (run.device, run.dtype) if part)),
        ("Seed", str(run.seed)),
        ("Plan id", run.plan_id),
        *(
            (f"{name} digest" if re.fullmatch("[0-9a-f]{12,}", value) else plain(name), value)
            for name, value in sorted(run.digests.items())
        ),
        *((plain(name), count(number)) for name, number in sorted(run.counts.items())),
    ]
    blocks: list[Block] = [Code(run.command, "Command")] if run.command else []
    blocks.append(Facts(tuple((term, text) for term, text in facts if text)))
    if run.versions:
        blocks.append(
            Details(
                "Versions of the software", (Facts(tuple(sorted(run.versions.items())), code=True),)
            )
        )
    blocks.append(Details("The resolved plan (TOML)", (Code(plan_toml(document.plan)),)))
    blocks.append(Downloads(data_files(document)))
    return blocks


def tile(item: GalleryItem, regions: Sequence[str]) -> Tile:
    # Only embedded pictures and plain path data pass: a result file may come from elsewhere.
    image = (
        item.image
        if re.fullmatch(r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+", item.image)
        else ""
    )
    # The first region lies on top: where a derived region shares an edge with it, its own line
    # stays visible.
    outlines = tuple(
        (name, path, regions.index(name) % 4 if name in regions else 0)
        for name, path in sorted(
            item.outlines.items(),
            key=lambda pair: -regions.index(pair[0]) if pair[0] in regions else 1,
        )
        if path and re.fullmatch(r"[MLHVCSQTAZmlhvcsqtaz0-9eE+\-., \n]*", path)
    )
    overlay = heat_overlay(item.heat, item.width, item.height)
    right = {True: "right", False: "wrong", None: "not judged"}[item.correct]
    chance = f" ({share_percent(item.probability, 0)})" if item.probability is not None else ""
    lines = [("Label", item.label or "unknown"), ("Predicted", f"{item.predicted}{chance}")]
    lines += [(plain(name), level) for name, level in item.levels.items()]
    lines += [(f"Heat on {name}", share_percent(value)) for name, value in item.values.items()]
    picked = tuple(plain(p) for p in item.picked)
    return Tile(item, image, overlay, outlines, picked, right, tuple(lines), dict(item.values))
