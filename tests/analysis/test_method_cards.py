"""From a number of the report back to one function and one source; and every word of the report in its glossary."""

import inspect
import pkgutil
import re

import pytest
import result_documents as documents
from banned_words import BANNED, NAMES
from html_pages import Page

from gradaudit.analysis import finding_records
from gradaudit.analysis.method_cards import function_name, method_cards
from gradaudit.plan import AnalysisPlan
from gradaudit.records import STATE_WORDS
from gradaudit.report.blocks import Details, Drawing, Table
from gradaudit.report.glossary import TERMS, meaning
from gradaudit.report.render import render_fragment, render_html, render_markdown, to_json
from gradaudit.report.sections.overview import SECTIONS
from gradaudit.report.wording import link_of_test
from gradaudit.stats.family import STATISTICS
from gradaudit.subgroups.contrast import TEST_NAMES

pytestmark = pytest.mark.xdist_group("report")
BUILDERS = documents.BUILDERS
CARDS = method_cards({})
MADE_OF_DATA = re.compile(r"Label .+|Area of .+|\d+ %|\d+|.+, (right|wrong)")
"""Heads that hold a name or a number from the data; the glossary explains what stands before or behind it."""
OF_THE_GLOSSARY = {
    "Term",
    "Meaning",
    "Computed by",
    "State",
    "Name",
    "What it says",
    "Formula, range below",
    "Source",
    "Function",
    "Family",
    "Worded",
}
PLAIN = {
    "Remarks",
    "Examples",
    "Reason",
    "Images",
    "What it is",
    "Check",
    "Outcome",
    "Detail",
    "Condition",
    "What",
}
"""Heads that are plain English and mean nothing else here."""


def tables(blocks):
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Drawing) and block.table:
            yield block.table
        elif isinstance(block, Details):
            yield from tables(block.blocks)


# ── cards ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_test_that_a_finding_can_name_is_the_label_of_one_card():
    names = {
        *TEST_NAMES.values(),
        *re.findall(r'"([^"]*Wald[^"]*)"', inspect.getsource(finding_records)),
    }
    assert len(names) >= 6
    labels = [card["label"] for card in CARDS["statistic"]]
    assert {name: labels.count(name) for name in names} == dict.fromkeys(names, 1)


def test_every_card_names_a_function_that_exists_and_a_source():
    for family, cards in CARDS.items():
        assert len({card["name"] for card in cards}) == len(cards)
        for card in cards:
            assert callable(pkgutil.resolve_name(card["function"])), (family, card["name"])
            assert card["label"]
            assert card["summary"]
            assert card["source"]
            assert not BANNED.search(" ".join(map(str, card.values())))
    assert all(card["formula"] for card in CARDS["statistic"])


def test_cards_of_what_audits_do_not_use_are_left_out():
    names = {card["name"] for card in CARDS["statistic"]}
    assert {"holm", "reference_t", "wilson_clustered", "obuchowski_variance"} <= names
    assert names.isdisjoint({"cr2", "max_t"})
    assert {"cr2", "max_t"} <= set(STATISTICS)


@pytest.mark.parametrize(
    ("key", "value", "own"),
    [
        ("weights", "precision", {"variance_components", "precision_weights", "p_of_sizes"}),
        ("site", "hospital", {"cr2"}),
    ],
)
def test_cards_that_a_key_of_the_plan_brings_in_are_there(key, value, own):
    def names(settings):
        return {card["name"] for card in method_cards({}, settings)["statistic"]}

    plain = names(AnalysisPlan())
    assert names(AnalysisPlan(**{key: value})) - plain == own
    assert names(AnalysisPlan(covariates=("age",))) == plain


def test_functions_are_named_as_a_reader_imports_them():
    assert function_name(STATISTICS.get("holm")) == "gradaudit.stats.multiplicity.holm"
    assert function_name(STATISTICS.get("fisher_exact")) == "scipy.stats.fisher_exact"
    assert function_name(STATISTICS.get("student_t")) == "scipy.special.stdtr"


# ── from a p-value to its source ────────────────────────────────────────────────────────────────────────────────────


def test_a_p_value_leads_to_its_formula_function_and_source(rendered):
    document = documents.shortcut_document()
    html = rendered["shortcut"]
    tested = [f for f in document.findings if f.test.p is not None]
    assert tested
    contrast = re.search(rf'<tr id="{tested[0].anchor}".*?</tr>', html, re.S).group()
    target = re.search(r'<a href="#([^"]+)">(<\u202f)?[0-9.]+|<a href="#([^"]+)">&lt;', contrast)
    anchor = target.group(1) or target.group(3)
    card = Page(re.search(rf'<tr id="{anchor}".*?</tr>', html, re.S).group()).text
    assert "gradaudit.stats.permutation.reference_t" in card
    assert "DiCiccio & Romano 2017" in card
    assert "t* = wᵀe_π / SE(e_π)" in card


def test_the_method_section_counts_tests_and_families():
    document = documents.shortcut_document()
    found = {t.caption: t for t in tables(SECTIONS.get("method")(document))}
    (line,) = found["Where the p-values come from"].rows
    number = sum(f.test.p is not None for f in document.findings)
    assert [c.text for c in line.cells][:4] == [
        "studentised permutation t",
        str(number),
        "9\u202f999",
        "gradaudit.stats.permutation.reference_t",
    ]
    families = [[c.text for c in r.cells] for r in found["Families for multiplicity"].rows]
    assert [line[:3] for line in families] == [
        ["Decisive", "18", "Holm"],
        ["Exploratory", "12", "Benjamini-Hochberg"],
    ]
    assert [c.text for r in found["What each state means"].rows for c in r.cells[:1]] == list(
        STATE_WORDS.values()
    )


def test_an_older_document_without_these_cards_still_renders_without_dead_links():
    older = documents.shortcut_document(cards=documents.OLDER_CARDS)
    bare = documents.shortcut_document(cards={})
    for document in (older, bare):
        page = Page(render_html(document))
        ids = {a["id"] for _, a in page.tags if "id" in a}
        assert {a["href"][1:] for a in page.named("a") if a["href"].startswith("#card-")} <= ids
        assert link_of_test(document, "studentised permutation t") == ""
        assert "Provisional Verdict that rests on fewer than 20 patients" in page.text
    assert meaning("Lift", older) == "heat share over area share"
    assert meaning("Lift", bare) == ""


def test_what_was_noticed_on_loading_the_model_is_shown(rendered):
    html = rendered["shortcut"]
    scope = Page(html[html.index('id="scope"') : html.index('id="data-by-subgroup"')]).text
    assert "Noticed when the model was loaded melanoma.py is the auditor's own Python" in scope


# ── glossary ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["shortcut", "met", "insufficient", "no_criteria"])
def test_every_column_head_is_in_the_glossary(name):
    document = BUILDERS[name]()
    heads = {
        c.label
        for section in SECTIONS
        for t in tables(SECTIONS.get(section)(document))
        for c in t.columns
    }
    terms = next(tables(SECTIONS.get("glossary")(document)))
    known = {
        *(line.cells[0].text for line in terms.rows),
        *TERMS,
        *OF_THE_GLOSSARY,
        *PLAIN,
        "Comparisons",
        "Permutations",
        "p adjusted by",
        "Grid row, from the top",
    }
    assert {
        head for head in heads if head not in known and not MADE_OF_DATA.fullmatch(head)
    } == set()


def test_every_term_has_a_meaning_and_its_cards_exist():
    document = documents.shortcut_document()
    (terms, states) = tables(SECTIONS.get("glossary")(document))
    headed = {"Cluster": "Patient", "Clusters": "Patients"}  # the document's own word
    assert [r.cells[0].text for r in terms.rows] == sorted(
        (headed.get(label, label) for label in TERMS), key=str.casefold
    )
    for label, term in TERMS.items():
        text = meaning(label, document)
        assert text, label
        assert not text.endswith(".")
        for family, name in term.cards:
            assert any(card["name"] == name for card in CARDS[family]), (label, family, name)
    assert len(states.rows) == 4
    assert {
        "Heat share",
        "Lift",
        "Pointing game",
        "Cluster",
        "Margin",
        "State",
        "Planned comparison",
        "Thin line",
        "Thick line",
        "Coverage",
        "p beyond",
        "p within",
        "Detectable",
        "Role",
    } <= set(TERMS)


@pytest.mark.parametrize("name", ["shortcut", "met", "insufficient", "no_criteria"])
def test_no_render_uses_the_banned_words(rendered, name):
    document = BUILDERS[name]()
    for text in (
        rendered[name],
        render_markdown(document),
        render_fragment(document),
        to_json(document),
    ):
        assert (
            BANNED.findall(
                NAMES.sub("", re.sub(r"data:[a-z/+-]+;base64,[A-Za-z0-9+/=]+", "", text))
            )
            == []
        )
