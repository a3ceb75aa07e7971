"""Families SECTIONS and APPENDIX: each function turns a ``ResultDocument`` into blocks.

A section without blocks is left out; the appendix's parts stand folded in the last section.

Nothing here computes a result.  What is worded, sorted, grouped or scaled for display comes from
the document as it is.  The card's ``label`` is the title, its ``summary`` the sentence below it,
its ``source`` the document's fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from gradaudit.number_text import count, decimal
from gradaudit.plan import plan_toml
from gradaudit.registry import Family
from gradaudit.report.blocks import (
    Block,
    Cell,
    Code,
    Details,
    Downloads,
    Facts,
    Heading,
    Listing,
    Paragraph,
    Table,
    columns,
    data_files,
    row,
)
from gradaudit.report.comparisons import read_comparisons
from gradaudit.report.glossary import glossary_blocks
from gradaudit.report.matrix import attribute_order, matrix_lines
from gradaudit.report.page_blocks import Fold, State
from gradaudit.report.sections.attributes import attribute_blocks
from gradaudit.report.sections.cells import cell_blocks
from gradaudit.report.sections.data import (
    attribute_table,
    criteria_blocks,
    data_blocks,
    region_table,
)
from gradaudit.report.sections.findings import finding_blocks
from gradaudit.report.sections.gallery import gallery_blocks
from gradaudit.report.sections.intersections import intersection_blocks
from gradaudit.report.sections.method import (
    card_tables,
    families,
    protocol,
    tests_used,
    verdict_rule,
    verdict_rules,
)
from gradaudit.report.sections.page_one import page_one
from gradaudit.report.wording import (
    clusters_words,
    grid_words,
    in_brackets,
    listed,
    plain,
    size_words,
    target_words,
    unit_of,
)
from gradaudit.result_schema import CheckOutcome, ResultDocument

Blocks = Callable[[ResultDocument], list[Block]]
SECTIONS: Family[Blocks] = Family("report section")
APPENDIX: Family[Blocks] = Family("part of the appendix")

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


CHECK_WORDS = {
    "issue": "read this",
    "passed": "passed",
    "skipped": "did not run",
    "not_applicable": "not applicable",
}
"""Word of a check's state, those to be read first."""


def leading_attributes(document: ResultDocument) -> list[str]:
    """Attributes, that with the worst finding first."""
    comparisons = read_comparisons(document)
    planned = [c for c in comparisons if c.planned] or list(comparisons)
    return attribute_order(matrix_lines(planned))


# ── sections ──────────────────────────────────────────────────────────────────────────────────────


@SECTIONS.register(label="Result", summary="", source="verdict, cells, findings, pictures")
def summary(document: ResultDocument) -> list[Block]:
    """The page that decides."""
    return [page_one(document)]


@SECTIONS.register(
    label="Findings",
    summary="What lies beyond a limit first, then what is open and what would settle it. What lies "
    "within is one line for each attribute.",
    source="cells, findings, distributions, difference_maps, pictures",
)
def findings(document: ResultDocument) -> list[Block]:
    """Cards for what lies beyond its limit, folded lines for the rest."""
    blocks = finding_blocks(document, read_comparisons(document))
    return blocks or [Paragraph("Nothing was compared, so there is nothing to find.")]


@SECTIONS.register(
    label="Attributes",
    summary="Every group of every attribute. Unfolded where something lies beyond a limit or is open.",
    source="cells, findings, performance, heat, mean_maps",
)
def attributes(document: ResultDocument) -> list[Block]:
    """One fold for each attribute: figures, and the matrix of all its groups."""
    return attribute_blocks(document, read_comparisons(document))


@SECTIONS.register(
    label="Intersections",
    summary="Mean share of the heat where two attributes meet. Exploratory.",
    source="findings",
)
def intersections(document: ResultDocument) -> list[Block]:
    """One matrix: the levels of the attribute with the worst finding against those of all others."""
    return intersection_blocks(document, leading_attributes(document))


@SECTIONS.register(
    label="Data",
    summary="From the manifest to the comparison that decides.",
    source="flow, exclusions, size_curves, calibration",
)
def data(document: ResultDocument) -> list[Block]:
    """How many images came through every step, what is missing, and what the groups are made of."""
    return data_blocks(document, leading_attributes(document))


@SECTIONS.register(
    label="Gallery",
    summary="Single images: drawn at random within each group, and the extremes, each labelled as "
    "which. Pictures illustrate; the verdict rests on all images.",
    source="gallery, images_shown",
)
def gallery(document: ResultDocument) -> list[Block]:
    """A random sample and the extremes, in a viewer."""
    return gallery_blocks(document)


@SECTIONS.register(
    label="Checks",
    summary="What was checked about the data and the explanation, and what was not, each with its reason.",
    source="checks",
)
def checks(document: ResultDocument) -> list[Block]:
    """Every check with its state and reason, also those that did not run."""
    if not document.checks:
        return []
    order = tuple(CHECK_WORDS)
    ranked = sorted(document.checks, key=lambda c: order.index(c.state))
    first = [c for c in ranked if c.state != "passed"]
    passed = [c for c in ranked if c.state == "passed"]
    blocks: list[Block] = [_check_table(document, "To read, and not run", first)] if first else []
    if passed:
        table = _check_table(document, "Passed", passed)
        words = State("check-passed", f"{count(len(passed))} passed")
        blocks.append(Fold("passed", "", "Passed", (words,), (table,), keep=True))
    return blocks


def _check_table(document: ResultDocument, caption: str, found: Sequence[CheckOutcome]) -> Table:
    """Name, state and reason of checks, in the plan's word for clusters."""
    said = unit_of(document).said_in
    rows = tuple(
        row(
            Cell(said(c.name), sub=c.code),
            Cell(CHECK_WORDS[c.state], icon=f"check-{c.state}"),
            said(c.detail) or "No reason was recorded.",
        )
        for c in found
    )
    return Table(caption, columns("Check", "State", "What was found"), rows)


@SECTIONS.register(
    label="Appendix",
    summary="How the numbers came about. All of them lie once in the embedded ZIP, as CSV and JSON.",
    source="the whole document",
)
def appendix(document: ResultDocument) -> list[Block]:
    """The files, and the parts of APPENDIX, each folded."""
    blocks: list[Block] = [Downloads(data_files(document))]
    for name in APPENDIX:
        inner = tuple(APPENDIX.get(name)(document))
        if inner:
            blocks.append(Details(APPENDIX.card(name).label, inner, name.replace("_", "-")))
    return blocks


# ── parts of the appendix ─────────────────────────────────────────────────────────────────────────


@APPENDIX.register(label="Planned comparisons", summary="", source="cells")
def planned_comparisons(document: ResultDocument) -> list[Block]:
    """What plan and manifest promised to settle, and what became of each promise."""
    return cell_blocks(document)


@APPENDIX.register(
    label="What was audited", summary="", source="model, data, regions, attributes, criteria"
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


@APPENDIX.register(label="Method", summary="", source="method")
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


@APPENDIX.register(label="Glossary", summary="", source="method, and the cards in it")
def glossary(document: ResultDocument) -> list[Block]:
    """Terms with the card that computes them, then roles and the states of an audit."""
    return glossary_blocks(document)


@APPENDIX.register(label="Limits", summary="", source="limits, verdict")
def limits(document: ResultDocument) -> list[Block]:
    """The limits of every such audit, then those found in this data."""
    said = unit_of(document).said_in
    own = (*document.verdict.cannot_tell, *map(said, document.limits))
    found: Block = (
        Listing(own)
        if own
        else Paragraph("None beyond the general ones was found by the checks that ran.")
    )
    return [
        Heading("Of every audit of this kind"),
        Listing(GENERAL_LIMITS),
        Heading("Of this one"),
        found,
    ]


@APPENDIX.register(label="Reproduction", summary="", source="run, plan")
def reproduction(document: ResultDocument) -> list[Block]:
    """What is needed to run the audit again: command, digests, versions and plan."""
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
    return blocks
