"""The method section: how the numbers and verdicts of the report were made.

It holds settings, tests, families for multiplicity, the rule behind the verdicts, and the cards of
what was used.

The link of a p-value leads to the card of its test here: the formula, one function and one source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradaudit.number_text import MISSING, count, declared_percent, plain_number
from gradaudit.records import STATE_CONDITIONS, STATE_WORDS, CellState
from gradaudit.report.blocks import (
    Block,
    Cell,
    Facts,
    Heading,
    Listing,
    Table,
    columns,
    row,
)
from gradaudit.report.comparisons import LOOKS
from gradaudit.report.glossary import STATES_ANCHOR, meaning
from gradaudit.report.wording import (
    card_anchor,
    find_card,
    grouped,
    level_words,
    link_of_test,
    plain,
    together,
    unit_of,
)
from gradaudit.result_schema import ResultDocument

CAPTIONS = {
    "explanation": "How a map is made",
    "metrics": "Measures of heat in a region",
    "performance figure": "Figures of model performance",
    "question": "Questions put to the measurements",
    "statistic": "Estimates, tests and corrections",
}
FAMILIES = (
    ("confirmatory", "decisive", "holm", "as verdicts"),
    (
        "exploratory",
        "exploratory",
        "benjamini_hochberg",
        "as signals: a reason to look, not a verdict",
    ),
    ("performance", "model performance", "benjamini_hochberg", "beside the difference"),
)
"""Family of a test, the report's word for it, the card of its correction, and how its findings are
worded.
"""


def protocol(document: ResultDocument) -> Block:
    """Settings as they were used."""
    facts = document.method
    rows = (
        (
            "Unit",
            f"{facts.unit}: {meaning('Cluster', document)}"
            if document.data.cluster_declared
            else facts.unit,
        ),
        (
            "Permutations",
            f"{count(facts.permutations)} at least for decisive comparisons, drawn from seed {facts.seed}",
        ),
        ("Level", f"α = {plain_number(facts.alpha)}, so intervals cover {level_words(document)}"),
        ("Adjusted for", together(facts.adjusted_for) or "nothing"),
    )
    return Facts(rows)


def tests_used(document: ResultDocument) -> list[Block]:
    """Which tests gave the p-values of this report, how often, and where each is found."""
    made = [f.test for f in document.findings] + [r.test for r in document.performance]
    tested = grouped([test for test in made if test.p is not None], lambda test: test.name)
    rows = []
    for name, tests in tested.items():
        card = next(
            (c for c in document.method.cards.get("statistic", ()) if c.get("label") == name), {}
        )
        drawn = sorted({test.permutations for test in tests if test.permutations})
        number = (
            MISSING
            if not drawn
            else count(drawn[0])
            if len(drawn) == 1
            else f"{count(drawn[0])} to {count(drawn[-1])}"
        )
        found = Cell(name or MISSING, link=link_of_test(document, name))
        rows.append(
            row(
                found,
                count(len(tests)),
                number,
                card.get("function") or MISSING,
                card.get("source") or MISSING,
            )
        )
    heads = columns("Test", ("Comparisons", ""), ("Permutations", ""), "Function", "Source")
    return [Table("Where the p-values come from", heads, tuple(rows))] if rows else []


def families(document: ResultDocument) -> Block:
    """How p-values are adjusted for the number of comparisons."""
    facts = document.method
    performance = sum(r.test.p is not None for r in document.performance)
    numbers = {
        "confirmatory": facts.confirmatory_contrasts,
        "exploratory": facts.exploratory_contrasts,
        "performance": performance,
    }
    rows = []
    for family, word, name, worded in FAMILIES if performance else FAMILIES[:2]:
        card = find_card(document, "statistic", name)
        link = f"#{card_anchor('statistic', name)}" if card else ""
        rows.append(
            row(
                word.capitalize(),
                count(numbers[family]),
                Cell(card.get("label", plain(name)), link=link),
                worded,
            )
        )
    note = (
        "p of a difference and p beyond are each adjusted over all of them; p within is not adjusted, since every comparison must hold. "
        "A decisive comparison that is withheld is one of the family "
        "and has no p; other comparisons that are withheld belong to none."
    )
    return Table(
        "Families for multiplicity",
        columns("Family", ("Comparisons", ""), "p adjusted by", "Worded"),
        tuple(rows),
        note,
    )


def verdict_rule() -> Block:
    """What the word of each state stands for."""
    rows = tuple(
        row(Cell(_word(state), icon=_icon(state)), text) for state, text in STATE_CONDITIONS.items()
    )
    heads = columns("State", "Condition")
    return Table("What each state means", heads, rows, anchor=STATES_ANCHOR)


RULES = (
    "What is compared is fixed before any number is looked at: every attribute, each of its "
    "groups (and each pair of groups, the trend or the curve), every decisive region, and the "
    "share of images without a defined heat map. A planned comparison that yields no number "
    "stays in the list and counts as open.",
    "Beyond the limit: tests that the true difference is no larger than the limit, by "
    "permutation with the sign kept, corrected by Holm over all planned comparisons. So many "
    "comparisons do not make “not met” likely by chance.",
    "Within the limit: two one-sided tests, against a difference of plus and of minus the "
    "limit, must both reject (TOST). They are not corrected, because “criteria met” needs "
    "every one of them.",
    "Open: neither is shown. It says how far the difference may reach, not that there is none.",
    "A comparison within its limit counts as settled only where it rests on {coverage} of "
    "each group's clusters at least, no side has fewer than 20 clusters, and it stays within "
    "where those who could not be seen (no defined heat, no mask) are put at the 10 % and the "
    "90 % point of their group, in opposite directions.",
    "Criteria met: every planned comparison is settled. Not met: at least one lies beyond its "
    "limit. Else the evidence is insufficient.",
    "What may be claimed of a difference beyond the limit is the inner end of its thin line "
    "only: “even at the cautious end”.",
    "Known limit: where images are missing by strong selection, a difference beyond the "
    "limit still passes as within in 8 to 17 of a hundred audits.",
)
"""The rules of the verdict in plain words."""


def verdict_rules(document: ResultDocument) -> list[Block]:
    """The rules of the verdict, with the plan's floor and its word for a cluster."""
    if document.criteria is None:
        return []
    floor = declared_percent(document.criteria.min_coverage)
    told = (rule.replace("{coverage}", floor) for rule in RULES)
    rules = tuple(unit_of(document).said_in(rule) for rule in told)
    return [Heading("The rules of the verdict"), Listing(rules)]


def _word(state: CellState) -> str:
    """The word of a state as the page says it."""
    return LOOKS.get(state.value, STATE_WORDS[state])


def _icon(state: CellState) -> str:
    return "differs" if state is CellState.NOT_JUDGED else state.value


def card_tables(document: ResultDocument) -> list[Block]:
    """One table per family of cards."""
    said = unit_of(document).said_in
    return [_card_table(name, cards, said) for name, cards in sorted(document.method.cards.items())]


def _card_table(family: str, cards: Sequence[dict[str, str]], said: Callable[[str], str]) -> Block:
    heads = columns("Name", "What it says", "Formula, range below", "Source")
    rows = []
    for card in cards:
        about = Cell(said(card.get("summary") or MISSING), sub=said(card.get("caveat", "")))
        extent = ", ".join(card[key] for key in ("range", "unit", "direction") if card.get(key))
        name = Cell(
            card.get("label") or card.get("name", ""),
            sub=card.get("function") or card.get("name", ""),
        )
        formula = Cell(card.get("formula") or (MISSING if not extent else ""), sub=extent)
        rows.append(
            row(
                name,
                about,
                formula,
                card.get("source") or MISSING,
                anchor=card_anchor(family, card.get("name", "")),
            )
        )
    caption = CAPTIONS.get(family.lower(), f"{family[:1].upper()}{plain(family[1:])}")
    if all(r.cells[2] == Cell(MISSING) for r in rows):
        heads, rows = (
            heads[:2] + heads[3:],
            [row(*r.cells[:2], r.cells[3], anchor=r.anchor) for r in rows],
        )
    return Table(caption, heads, tuple(rows))
