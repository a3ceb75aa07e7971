"""Page one: what is chosen, in which order, and that shape, word, number and whisker say the same."""

import re
from urllib.parse import unquote

import pandas as pd
import pytest
import random_results
import result_documents as documents
from html_pages import Page

from gradaudit.records import CellState
from gradaudit.report.comparisons import LOOKS, read_comparisons
from gradaudit.report.figures.intervals import MINI_WIDTH
from gradaudit.report.matrix import MOST_COLUMNS, MOST_ROWS
from gradaudit.report.render import render_fragment, render_html, render_markdown
from gradaudit.report.sections.page_one import page_one
from gradaudit.result_schema import AUDIT_STATE_WORDS

pytestmark = pytest.mark.xdist_group("report")
BUILDERS = documents.BUILDERS
SEEDS = range(24)
CELL = re.compile(r'<(?:div|a)[^>]*class="cell (\w+)"[^>]*>(.*?)</(?:div|a)></td>', re.S)
NUMBER = r"-?[\d.]+"


def first_page(html: str) -> str:
    return html[html.index('<div class="one"') : html.index("<section ")]


def cells_of(html: str):
    """Every cell with a number: look, icon, hidden word, number, interval, and the path of each line by its class."""
    for look, inner in CELL.findall(html):
        icon = re.findall(r'href="#i-(\w+)"', inner.split('<svg class="mini')[0])
        hidden = re.findall(r'<span class="vh[^"]*">(.*?)</span>', inner)
        word = next((text.strip().rstrip(":") for text in hidden if text.strip().endswith(":")), "")
        after = next((text for text in hidden if not text.strip().endswith(":")), "")
        number = re.search(r"<b>(.*?)</b>", inner).group(1)
        paths = dict(re.findall(r'<path class="(\w+)" d="([^"]+)"', inner))
        yield look, icon, word, number, after, paths


def numbers(text: str) -> list[float]:
    return [
        float(part.replace("−", "-").replace("+", ""))
        for part in re.findall(r"[+−]?\d+(?:\.\d+)?", text)
    ]


def ends_of(path: str) -> tuple[float, float]:
    found = re.match(rf"M({NUMBER}) 8H({NUMBER})", path)
    return float(found[1]), float(found[2])


# ── shape, word, number and whisker ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.slow
def test_shape_word_number_and_whisker_of_every_cell_agree(seed):
    """Beyond exactly where the thin line is drawn outside the band, within exactly where the thick one is drawn inside it."""
    html = render_html(random_results.random_document(seed))
    seen = set()
    for look, icon, word, number, after, paths in cells_of(html):
        if "band" not in paths:
            assert look in ("plain", "differs")
            continue
        assert icon == [look]
        assert word == LOOKS[look]
        left, right = map(float, re.match(rf"M({NUMBER}) 0H({NUMBER})", paths["band"]).groups())
        thin, thick = ends_of(paths["thin"]), ends_of(paths["thick"])
        outside = thin[0] >= right - 0.05 or thin[1] <= left + 0.05
        inside = left - 0.05 <= thick[0] <= thick[1] <= right + 0.05
        assert outside if look == "beyond" else thin[0] <= right + 0.05 and thin[1] >= left - 0.05
        assert (
            inside
            if look in ("within", "loose")
            else not (left + 0.05 < thick[0] and thick[1] < right - 0.05)
        )
        low, high = numbers(after)
        if look == "beyond":
            assert low >= 10 or high <= -10
        elif look in ("within", "loose"):
            assert -10 < low <= high < 10
        else:
            assert low < 10
            assert high > -10
        assert low - 0.51 <= numbers(number)[0] <= high + 0.51
        seen.add(look)
    assert seen <= set(LOOKS)


def test_every_state_was_drawn_somewhere():
    looks = {
        c.look for seed in SEEDS for c in read_comparisons(random_results.random_document(seed))
    }
    assert looks == set(LOOKS) - {"differs", "same"}
    free = read_comparisons(random_results.random_document(1, margin=None))
    assert {c.look for c in free} == {"differs", "same", "withheld", "not_assessed"}


@pytest.mark.parametrize("seed", range(12))
def test_lines_are_drawn_where_their_numbers_are(seed):
    """Coordinates are recounted from the document: one linear scale for every cell of a column."""
    document = random_results.random_document(seed)
    by_number = {}
    for c in read_comparisons(document):
        if c.has_number:
            by_number.setdefault((c.word, c.number, c.span), []).append(c)
    page = page_one(document)
    if page.matrix is None:
        return
    places = {}
    for row in page.matrix.rows:
        for n, cell in enumerate(row.cells):
            if cell.mini is None or cell.look in ("", "differs"):
                continue
            c = by_number[(cell.word.rstrip(":"), cell.text, cell.after[8:-1])][0]
            thin = next(s.d for s in cell.mini.shapes if s.look == "thin")
            low, high = ends_of(thin)
            if len(by_number[(cell.word.rstrip(":"), cell.text, cell.after[8:-1])]) == 1:
                places.setdefault(n, []).extend([(c.thin[0], low), (c.thin[1], high)])
    for known in places.values():
        known.sort()
        (a, x), (b, y) = known[0], known[-1]
        slope = (y - x) / (b - a)
        assert slope > 0
        for value, place in known:
            assert place == pytest.approx(x + slope * (value - a), abs=0.11)
            assert 0 <= place <= MINI_WIDTH


@pytest.mark.parametrize("seed", range(8))
def test_without_a_limit_there_is_no_band_and_no_word_of_one(seed):
    html = render_html(random_results.random_document(seed, margin=None))
    body = html[html.index("<main") : html.index('id="appendix"')]
    assert 'class="band"' not in body
    assert 'class="thick"' not in body
    assert not re.search(r"(beyond|within) the limit", body)
    for look, icon, word, _, _, paths in cells_of(html):
        if "zero" in paths:
            assert look in ("differs", "same")
            assert icon == [look]
            assert word == LOOKS[look]
            assert "no limit was set" in word


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow
def test_what_is_withheld_or_not_assessed_shows_no_number(seed):
    document = random_results.random_document(seed)
    for c in read_comparisons(document):
        if c.state in (CellState.WITHHELD, CellState.NOT_ASSESSED):
            assert c.estimate is c.thin is c.thick is c.raw is None
    for row in re.findall(r"<td><span class=\"quiet.*?</td>", first_page(render_html(document))):
        assert not re.search(r"\d", Page(row).text)


# ── what is chosen ──────────────────────────────────────────────────────────────────────────────────────────────────


def table_of(document) -> pd.DataFrame:
    """The planned cells as plain data, with the rank that the rule speaks of."""
    rows = [c.model_dump(mode="json") for c in document.cells]
    frame = pd.DataFrame(rows)
    order = {"beyond": 5, "open": 4, "not_assessed": 3, "withheld": 2, "within": 1, "not_judged": 1}
    frame["rank"] = frame["state"].map(order).astype(float)
    frame.loc[(frame["state"] == CellState.WITHIN) & ~frame["settled"], "rank"] = 1.5
    frame["size"] = frame["estimate"].abs().fillna(0) / frame["margin"]
    return frame


def row_key(frame: pd.DataFrame) -> pd.Series:
    group = frame["group"].where(frame["comparison"] != "trend", "trend")
    return frame["attribute"] + "|" + group + "|" + frame["reference"]


def shown_keys(document) -> list[str]:
    """The rows of page one as they are printed."""
    keys = []
    for row in page_one(document).matrix.rows:
        name = next(
            a.name for a in document.attributes if a.name.replace("_", " ") == row.name.attribute
        )
        group = "trend" if row.name.group.startswith("from ") else row.name.group
        reference = row.name.against.removeprefix("against ") or (
            "" if group == "trend" else "rest"
        )
        keys.append(f"{name}|{group}|{reference}")
    return keys


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_are_each_attributes_worst_then_what_is_beyond_then_the_next_worst(seed):
    document = random_results.random_document(seed)
    frame = table_of(document)
    frame["key"] = row_key(frame)
    keys = shown_keys(document)
    assert len(keys) == len(set(keys)) <= MOST_ROWS
    worst = frame.groupby("key")["rank"].max()
    names = frame.groupby("key")["attribute"].first()
    for name in list(dict.fromkeys(frame["attribute"]))[:MOST_ROWS]:
        own = [key for key in keys if key.startswith(f"{name}|")]
        if frame["attribute"].nunique() <= MOST_ROWS:
            assert max(worst[key] for key in own) == worst[names == name].max()
    beyond = set(frame.loc[frame["state"] == CellState.BEYOND, "key"])
    others = frame["attribute"].nunique() - len({key.split("|")[0] for key in beyond})
    if len(beyond) + others <= MOST_ROWS:
        assert beyond <= set(keys)
    else:
        assert len(keys) == MOST_ROWS
    plain = frame.loc[frame["comparison"] != "pair", "key"].nunique()
    assert len(keys) >= min(MOST_ROWS, plain)


@pytest.mark.parametrize("seed", SEEDS)
def test_at_most_two_columns_of_heat_and_the_worst_is_among_them(seed):
    document = random_results.random_document(seed)
    matrix = page_one(document).matrix
    heat = [c for c in matrix.columns if c.unit == "difference, points"]
    assert 1 <= len(heat) <= MOST_COLUMNS
    frame = table_of(document)
    frame["column"] = frame["region"].map(
        lambda r: f"Heat on the {r}" if r else "Images without a heat map"
    )
    known = frame[frame["estimate"].notna()]
    if len(known):
        worst = known.loc[known["rank"] == known["rank"].max(), "column"]
        assert heat[0].title in set(worst)


@pytest.mark.parametrize("seed", SEEDS)
def test_ordered_levels_keep_their_order_and_start_at_the_worse_end(seed):
    document = random_results.random_document(seed)
    frame = table_of(document)
    keys = shown_keys(document)
    for a in document.attributes:
        if a.kind != "ordered":
            continue
        own = [key.split("|")[1] for key in keys if key.startswith(f"{a.name}|")]
        levels = [a.levels.index(level) for level in own if level in a.levels]
        assert levels in (sorted(levels), sorted(levels, reverse=True))
        if len(levels) > 1:
            part = frame[(frame["attribute"] == a.name) & (frame["comparison"] == "level")]
            ends = [part[part["group"] == a.levels[n]] for n in (levels[0], levels[-1])]
            first, last = (max(zip(e["rank"], e["size"], strict=True)) for e in ends)
            assert first >= last


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tally_counts_every_planned_comparison_once(seed):
    document = random_results.random_document(seed)
    page = page_one(document)
    assert page.counted.split(" ")[0] == str(len(document.cells))
    states = pd.Series([c.state.value for c in document.cells])
    settled = pd.Series([c.settled for c in document.cells])
    states = states.where(~((states == "within") & ~settled), "loose")
    told = {state.look: int(state.words.split(" ")[0]) for state in page.tally}
    assert told == states.value_counts().to_dict()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_page_one_leaves_out_is_said(seed):
    document = random_results.random_document(seed)
    frame = table_of(document)
    frame["key"] = row_key(frame)
    page, keys = page_one(document), shown_keys(document)
    note = " ".join(page.note)
    hidden = set(frame.loc[frame["state"] == CellState.BEYOND, "key"]) - set(keys)
    assert (f"{len(hidden)} more lie beyond the limit" in note) == bool(hidden)
    if len(keys) < frame["key"].nunique():
        assert f"Shown are {len(keys)} of " in note


def test_an_attribute_in_which_all_is_within_is_shown_too():
    keys = shown_keys(documents.shortcut_document())
    assert {key.split("|")[0] for key in keys} == {"skin_tone", "sex", "site"}


# ── performance ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(12))
def test_performance_is_marked_where_its_difference_is_shown_and_withheld_where_it_is(seed):
    document = random_results.random_document(seed)
    rows = {(r.attribute, r.level, r.metric): r for r in document.performance}
    matrix = page_one(document).matrix
    titles = [c.title for c in matrix.columns]
    for title, metric in (("Right decisions", "accuracy"), ("AUC", "auc")):
        at = titles.index(title)
        for row in matrix.rows:
            name = next(
                a.name
                for a in document.attributes
                if a.name.replace("_", " ") == row.name.attribute
            )
            cell, found = row.cells[at], rows.get((name, row.name.group, metric))
            if row.name.against or row.name.group.startswith("from "):
                assert cell.text == "–"
            elif found.suppressed:
                assert cell.text == "withheld"
            else:
                p = rows[(name, row.name.group, f"{metric}_difference")].test.p_adjusted
                assert (cell.look == "differs") == (p < 0.05)
                share = float(cell.text.split("\u202f")[0]) / (100 if metric == "accuracy" else 1)
                assert share == pytest.approx(found.estimate, abs=0.0051)


def test_no_column_is_empty():
    document = documents.shortcut_document().model_copy(update={"performance": ()})
    titles = [c.title for c in page_one(document).matrix.columns]
    assert titles == ["Heat on the ruler", "Heat on the lesion"]
    assert "Right decisions<small>" not in render_html(document)


# ── the words around the matrix ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BUILDERS)
def test_page_one_says_state_fact_limit_questions_and_what_it_cannot_tell(rendered, name):
    document = BUILDERS[name]()
    first = first_page(rendered[name])
    text = Page(first).text
    verdict = document.verdict
    assert AUDIT_STATE_WORDS[verdict.state].capitalize() in text
    assert f"#i-state-{verdict.state}" in first
    said = [
        verdict.fact,
        verdict.limit,
        *(q.answer for q in verdict.questions),
        *verdict.cannot_tell[:2],
    ]
    for sentence in filter(None, said):
        assert "".join(sentence.split()) in "".join(text.split())
    for words in ("What this audit cannot tell", "What was declared", "Decision", "Signature"):
        assert words in text


def test_a_result_without_the_new_fields_still_has_a_page_one():
    source = documents.shortcut_document()
    bare = source.verdict.model_copy(
        update={"fact": "", "limit": "", "fact_finding": "", "questions": ()}
    )
    older = source.model_copy(
        update={
            "verdict": bare, "pictures": (), "distributions": (), "difference_maps": (), "calibration": (), "size_curves": (),
        }
    )  # fmt: skip
    html = render_html(older)
    text = Page(first_page(html)).text
    assert source.verdict.headline in text
    assert " ".join(source.verdict.sentences[0].split()) in text
    assert 'class="six"' not in html
    assert Page(html).wrong == []
    empty = older.model_copy(update={"cells": (), "findings": (), "performance": ()})
    assert Page(render_html(empty)).wrong == []
    assert page_one(empty).matrix is None


def test_the_lines_of_this_run_come_before_those_of_every_audit():
    source = documents.met_document()
    lines = ("general one", "general two", "Withheld: acral.", "Nothing about V–VI.")
    document = source.model_copy(
        update={"verdict": source.verdict.model_copy(update={"cannot_tell": lines})}
    )
    assert page_one(document).cannot_tell == lines[2:]
    html = render_html(document)
    assert all(line in Page(html[html.index('id="limits"') :]).text for line in lines)


def test_who_declared_the_criterion_and_when():
    source = documents.met_document()
    said = " ".join(page_one(source).declared)
    assert "up to 5 points of heat" in said
    assert (
        "By Clinical safety board, on 2026-02-20 as typed, before the measuring (2026-03-14)."
        in said
    )
    criteria = source.criteria.model_copy(update={"declared_by": "", "declared_on": "2026-04-01"})
    late = " ".join(page_one(source.model_copy(update={"criteria": criteria})).declared)
    assert "Nobody signed for it, on 2026-04-01 as typed, after the measuring" in late
    none = " ".join(page_one(documents.no_criteria_document()).declared)
    assert "No limit was set" in none


# ── links, pictures, other renders ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(10))
def test_row_heads_lead_to_their_attribute_and_cells_beyond_to_their_card(seed):
    document = random_results.random_document(seed)
    html = render_html(document)
    page = Page(html)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    first = first_page(html)
    links = [
        unquote(href[1:])
        for href in re.findall(r'href="(#[^"]+)"', first)
        if not href.startswith("#i-")
    ]
    assert set(links) <= ids
    for look, inner in re.findall(r'<a href="#f-[^"]*" class="cell (\w+)">(.*?)</a>', first, re.S):
        assert look in ("beyond", "open"), inner
    heads = re.findall(r'<th scope="row"><a href="#(a-[^"]+)"', first)
    assert len(heads) == len(page_one(document).matrix.rows)
    beyond = sum(look == "beyond" for look, *_ in cells_of(first))
    assert len(re.findall(r'<a href="#f-[^"]*" class="cell beyond">', first)) == beyond


def test_six_pictures_are_drawn_from_the_store_and_named_by_their_share():
    document = documents.shortcut_document()
    first = first_page(render_html(document))
    six = re.search(r'<div class="six">.*?</div>', first, re.S).group()
    told = [g for g in document.pictures if g.finding == document.verdict.fact_finding]
    numbers_ = {item.image_id: n for n, item in enumerate(document.gallery)}
    drawn = [int(n) for n in re.findall(r'href="#p(\d+)"', six)]
    assert drawn == [numbers_[name] for group in told for name in group.images]
    assert len(drawn) == 6
    by_id = {item.image_id: item for item in document.gallery}
    for label, name in zip(
        re.findall(r'aria-label="([^"]+)"', six), [n for g in told for n in g.images], strict=True
    ):
        assert f"{100 * by_id[name].values['ruler']:.0f}\u202f% of the heat on the ruler" in label
    assert "data:image" not in first
    assert page_one(documents.shortcut_document(images_shown=False)).pictures is None


@pytest.mark.parametrize("seed", range(8))
def test_page_notebook_and_markdown_show_the_same_rows(seed):
    document = random_results.random_document(seed)
    rows = page_one(document).matrix.rows
    fragment = render_fragment(document)
    body = re.search(r'<table class="matrix.*?</table>', fragment, re.S).group()
    heads = [Page(head).text for head in re.findall(r'<th scope="row">(.*?)</th>', body, re.S)]
    assert heads == [" ".join(row.name.text.split()) for row in rows]
    assert 'href="#f-' not in fragment
    table = re.findall(
        r"^\| (?!Group)(.*) \|$", render_markdown(document).split("## Findings")[0], re.M
    )
    assert len(table) == len(rows)
    for line, row in zip(table, rows, strict=True):
        told = [" ".join(cell.text.split()) for cell in row.cells if not cell.quiet]
        assert [text for text in told if text not in line] == []


def test_where_nothing_could_be_compared_the_page_is_short_and_leads_nowhere_empty():
    source = documents.shortcut_document()
    cells = tuple(
        c.model_copy(update={"state": CellState.NOT_ASSESSED, "estimate": None, "settled": False, "reason": "no usable image", "finding": ""})
        for c in source.cells
    )  # fmt: skip
    document = source.model_copy(update={"cells": cells, "findings": (), "pictures": ()})
    html = render_html(document)
    ids = {a["id"] for _, a in Page(html).tags if "id" in a}
    assert "attributes" not in ids
    assert 'href="#a-' not in html
    assert "no usable image" in Page(html).text
    assert not re.search(
        r"\d", " ".join(c.text for row in page_one(document).matrix.rows for c in row.cells[:1])
    )
    gallery = html[html.index('<section id="gallery"') :]
    assert gallery.index("<details>") < gallery.index('class="tile"')
