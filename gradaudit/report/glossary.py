"""The glossary: every term and column head of the report, with the card of the function behind it.

A meaning stands either in a card, and is quoted, or here; the notes of tables quote ``meaning``
too.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradaudit.number_text import MISSING
from gradaudit.outcomes import Outcome, outcome
from gradaudit.records import ROLE_WORDS
from gradaudit.report.blocks import Block, Cell, Table, columns, row
from gradaudit.report.wording import card_anchor, find_card, unit_of
from gradaudit.result_schema import AUDIT_STATE_MEANINGS, AUDIT_STATE_WORDS, ResultDocument

STATES_ANCHOR = "state-words"


@dataclass(frozen=True)
class Term:
    """One term of the glossary.

    ``meaning``: in the report's own words, or "" to quote the first card.  ``cards``: (family,
    name) of what computes it.
    """

    meaning: str = ""
    cards: tuple[tuple[str, str], ...] = ()


def _term(meaning: str = "", *cards: str) -> Term:
    return Term(
        meaning,
        tuple((family, name) for family, _, name in (card.partition(".") for card in cards)),
    )


TERMS: dict[str, Term] = {
    # the subject
    "Heat": _term(
        "positive part of the map that explains the model's score: where evidence for it lies"
    ),
    "Heat share": _term("", "metrics.relevance_mass_accuracy"),
    "Lift": _term("", "metrics.mass_lift"),
    "Pointing game": _term("", "metrics.pointing_game"),
    "Rank accuracy": _term("", "metrics.relevance_rank_accuracy"),
    "Region": _term("part of an image that a mask marks"),
    "Role": _term(
        f"what was expected of a region: {'; '.join(f'{role}, {words}' for role, words in ROLE_WORDS.items())}"
    ),
    "Attribute": _term("property by which images are put into groups, a column of the manifest"),
    "Kind": _term(
        "of an attribute: categorical (levels without order), ordered (levels in order) or continuous (numbers)"
    ),
    "Group": _term(
        "images that share one level of an attribute; in tables by check or reason, what the row is about"
    ),
    "Groups": _term("the levels of an attribute"),
    "Compared with": _term("the level that every other one is held against, or all others"),
    "Cluster": _term(
        "images that belong together, such as those of one patient: the unit of every interval and test",
        "statistic.cluster_means",
    ),
    "n": _term("number of images / number of clusters"),
    # contrasts
    "Comparison": _term("who is compared with whom; of a trend, its two ends"),
    "Margin": _term(
        "declared size below which a difference is held to be immaterial; where none was declared, no limit was set"
    ),
    "Planned comparison": _term(
        "one that plan and manifest fix before any number is looked at; “criteria met” needs every one of them"
    ),
    "Beyond": _term(
        "shown to be larger than the limit, all planned comparisons taken together",
        "statistic.p_beyond",
        "statistic.holm",
    ),
    "Within": _term(
        "shown to be smaller than the limit in either direction, by two one-sided tests (TOST)",
        "statistic.p_within",
    ),
    "Open": _term("neither beyond nor within: the data do not suffice"),
    "Settled": _term(
        "within the limit, on enough of each group, and with nothing to object: what “criteria met” needs of every planned comparison"
    ),
    "Coverage": _term(
        "smallest share of a group's clusters that the numbers of a comparison rest on"
    ),
    "Thin line": _term(
        "in a forest plot, how far the difference may reach when all planned comparisons are taken together; beyond where it stays outside the band",
        "statistic.decide",
    ),
    "Thick line": _term(
        "in a forest plot, how far the difference may reach taken alone; within where it lies inside the band",
        "statistic.decide",
    ),
    "Beyond up to": _term(
        "largest limit at which a comparison would be beyond", "statistic.decide"
    ),
    "Within from": _term("limit from which on a comparison would be within", "statistic.decide"),
    "Difference": _term("group minus comparison, adjusted where something is held equal"),
    "Worse off": _term(
        "the group with more heat on a region that should draw none, or less on one that should draw it"
    ),
    "State": _term(
        "what a comparison says of its limit, if it has one: see “What each state means”"
    ),
    "Provisional": _term("verdict that rests on fewer than 20 clusters on one side"),
    "Decisive": _term(
        "comparison declared beforehand, on which the verdict of the audit rests", "statistic.holm"
    ),
    "Signal": _term(
        "exploratory comparison with a small adjusted p: a reason to look, not a verdict",
        "statistic.benjamini_hochberg",
    ),
    "Mean": _term(
        "average over the clusters of a group", "statistic.cluster_means", "statistic.mean_interval"
    ),
    "Raw": _term(
        "difference of the two means as they are", "statistic.hc2", "statistic.critical_value"
    ),
    "Adjusted": _term(
        "difference at equal region size, class and declared covariates",
        "statistic.spline_basis",
        "statistic.hc2",
    ),
    "Predicted": _term(
        "difference at equal region size and predicted class instead of the label: it stands beside and never decides"
    ),
    "Mask tipping": _term(
        "how much larger (below 0: smaller) the group's masks would have to be drawn for the state to change; – where no such change does"
    ),
    "p": _term(
        "how often so large a difference would be seen if there were none", "statistic.p_value"
    ),
    "p, adjusted": _term(
        "the same after allowing for the number of comparisons",
        "statistic.holm",
        "statistic.benjamini_hochberg",
    ),
    "p beyond": _term("", "statistic.p_beyond"),
    "p within": _term("", "statistic.p_within"),
    "Detectable": _term("", "statistic.detectable_difference"),
    "Interval": _term(
        "every difference that the same test would not reject", "statistic.critical_value"
    ),
    "Ratio": _term("", "statistic.ratio_of_means"),
    "Standardised": _term("", "statistic.standardised_difference"),
    "Cliff's δ": _term("", "statistic.cliffs_delta"),
    "Test": _term(
        "the test that p comes from, and its family: confirmatory (decisive) or exploratory"
    ),
    "Statistic": _term(
        "value that was tested: estimate divided by its standard error; of a departure, Wald's W",
        "statistic.hc2",
        "statistic.wald",
    ),
    "df": _term("", "statistic.bell_mccaffrey"),
    "Adjusted for": _term("what the adjusted difference holds equal", "statistic.spline_basis"),
    # distributions
    "Adjusted mean": _term(
        "mean of the group if it had the mix of region size and class of all images",
        "statistic.spline_basis",
    ),
    "SD": _term("standard deviation between clusters"),
    "Quantile": _term(
        "heat share below which the given part of the clusters lies; columns 5 % to 95 %"
    ),
    "Undefined": _term(
        "readable images that show the region and whose heat map has no positive evidence or is not a number"
    ),
    "Grid row": _term("row of cells of the mean heat map; 1 is heat spread evenly over the image"),
    # the flow of images
    "Manifest": _term("images that the manifest lists"),
    "Readable": _term("images of the manifest that could be read"),
    "Mask usable": _term("readable images with at least one region of known place"),
    "Heat usable": _term("images with a usable mask whose heat map is defined"),
    "Left out": _term(
        "of an image: that takes part in no comparison of heat, as it has a heat share in no region"
    ),
    "Analysed": _term("images with usable heat that have a heat share in at least one region"),
    "Clusters": _term("clusters of the analysed images"),
    "Label": _term("share of a group's images with a heat share that carry the label"),
    "Area": _term("mean part of the image that the region covers"),
    "Mean area": _term("mean part of the image that the region covers, where it is present"),
    "Mean confidence": _term("mean probability of the class that the model predicts"),
    "Annotated": _term(
        "readable images in which the region was looked for, also where it was found absent"
    ),
    "Present": _term("annotated images in which the region covers anything"),
    "Withheld": _term(
        "number that is small enough to point at persons, or from which such a number could be derived"
    ),
    # the model
    "Accuracy": _term("", "performance figure.accuracy", "statistic.wilson_clustered"),
    "Sensitivity": _term("", "performance figure.sensitivity", "statistic.wilson_clustered"),
    "Specificity": _term("", "performance figure.specificity", "statistic.wilson_clustered"),
    "PPV": _term("", "performance figure.ppv", "statistic.wilson_clustered"),
    "AUC": _term("", "performance figure.auc", "statistic.obuchowski_variance"),
    "AUC of a map": _term("", "metrics.auc"),
    "Brier score": _term("", "performance figure.brier"),
    "Calibration slope": _term("", "performance figure.calibration_slope"),
    "Pseudo-value": _term("", "statistic.pseudo_values"),
    "Right, wrong": _term(
        "mean heat share among images that the model classifies rightly, or wrongly",
        "statistic.mean_interval",
    ),
}
"""Column heads and terms by the words that the report uses for them."""


def meaning(label: str, document: ResultDocument) -> str:
    """What a term means, in a sentence for the reader.

    "" where only a card says it and the document, being older, does not hold that card.
    """
    return _meaning(TERMS[label], document)


def _as_headed(label: str, document: ResultDocument) -> str:
    """A term as the report's tables head it: "Patients" for "Clusters"."""
    unit = unit_of(document)
    return {"Cluster": unit.one.capitalize(), "Clusters": unit.many.capitalize()}.get(label, label)


def term_of(metric: Outcome) -> str:
    """Head of a metric's column, and its entry here: "Rank accuracy"."""
    label = metric.title[:1].upper() + metric.title[1:]
    own = ("metrics", metric.name)
    return label if label not in TERMS or own in TERMS[label].cards else f"{label} ({metric.name})"


def _metrics_without_term(document: ResultDocument) -> dict[str, Term]:
    """A term for each metric of the document that none of ``TERMS`` tells of: its card does."""
    told = {card for term in TERMS.values() for card in term.cards}
    keys = [("metrics", card["name"]) for card in document.method.cards.get("metrics", ())]
    untold = [key for key in keys if key not in told]
    return {term_of(outcome(key[1])): Term("", (key,)) for key in untold}


def _meaning(term: Term, document: ResultDocument) -> str:
    if term.meaning or not term.cards:
        return unit_of(document).said_in(term.meaning)
    text = find_card(document, *term.cards[0]).get("summary", "").rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def glossary_blocks(document: ResultDocument) -> list[Block]:
    """The glossary: the terms in alphabetical order, then the states of an audit.

    Each term links to the card of what computes it.
    """
    rows = []
    terms = TERMS | _metrics_without_term(document)
    shown = {_as_headed(label, document): term for label, term in terms.items()}
    for label in sorted(shown, key=str.casefold):
        term = shown[label]
        if text := _meaning(term, document):
            found = [(key, card) for key in term.cards if (card := find_card(document, *key))]
            labels = [card["label"] for _, card in found]
            link = (
                f"#{card_anchor(*found[0][0])}"
                if found
                else f"#{STATES_ANCHOR}"
                if label == "State"
                else ""
            )
            by = Cell(
                labels[0] if labels else "What each state means" if link else MISSING,
                sub=", ".join(labels[1:]),
                link=link,
            )
            rows.append(row(label, f"{text[:1].upper()}{text[1:]}.", by))
    states = tuple(
        row(words.capitalize(), AUDIT_STATE_MEANINGS[state])
        for state, words in AUDIT_STATE_WORDS.items()
    )
    return [
        Table("Terms and column heads", columns("Term", "Meaning", "Computed by"), tuple(rows)),
        Table("What the audit as a whole can say", columns("State", "Meaning"), states),
    ]
