"""The report as text: every render of a result document, without a browser."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest
import result_documents as documents
from html_pages import Page
from packed_files import files_in

from gradaudit.errors import InputError
from gradaudit.number_text import points
from gradaudit.plan import plan_toml
from gradaudit.records import CellState
from gradaudit.report import blocks as block_types
from gradaudit.report import page_blocks, read_result, write_report
from gradaudit.report.blocks import csv_text
from gradaudit.report.comparisons import LOOKS
from gradaudit.report.render import (
    json_schema,
    render_fragment,
    render_html,
    render_markdown,
    to_json,
)
from gradaudit.report.sections.cells import MOST_ROWS, cell_table
from gradaudit.report.sections.overview import APPENDIX, GENERAL_LIMITS, SECTIONS
from gradaudit.result_schema import AUDIT_STATE_WORDS, CheckOutcome, ResultDocument

pytestmark = pytest.mark.xdist_group("report")
BUILDERS = documents.BUILDERS
PACKAGE = Path(block_types.__file__).parent


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BUILDERS)
def test_page_is_well_formed_and_complete_in_itself(rendered, name):
    page = Page(rendered[name])
    assert page.wrong == []
    assert page.open == []
    assert len(page.named("h1")) == 1
    assert page.named("html")[0]["lang"] == "en"
    assert {"main", "nav", "header", "footer"} <= {tag for tag, _ in page.tags}
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(
                ("#", "data:image/", "data:application/zip")
            ), (tag, attributes[key][:80])
        assert not any(key.startswith("on") for key in attributes)
    targets = [a["href"][1:] for a in page.named("a") if a["href"].startswith("#")] + [
        u["href"][1:] for u in page.named("use")
    ]
    assert {unquote(target) for target in targets} <= set(ids)
    referred = [part for _, a in page.tags for part in a.get("aria-labelledby", "").split()]
    assert set(referred) <= set(ids)
    assert len(page.named("table")) == len(page.named("caption"))
    assert all(a.get("role") == "img" or "aria-hidden" in a for a in page.named("svg"))


def every_block(blocks):
    for block in blocks:
        yield block
        inner = [
            getattr(block, name, None)
            for name in ("blocks", "folds", "figures", "block", "matrix", "pictures")
        ]
        for found in inner:
            if isinstance(found, block_types.Block):
                yield from every_block([found])
            elif isinstance(found, tuple):
                yield from every_block([b for b in found if isinstance(b, block_types.Block)])


@pytest.mark.parametrize("name", [*SECTIONS, *APPENDIX])
def test_every_section_returns_known_blocks(name):
    template = (PACKAGE / "blocks.html").read_text()
    found = (SECTIONS if name in SECTIONS else APPENDIX).get(name)(documents.shortcut_document())
    assert found or name == "intersections"  # these documents hold none
    for block in every_block(found):
        assert f'"{block.kind}"' in template
        if isinstance(block, block_types.Table):
            assert all(len(row.cells) == len(block.columns) for row in block.rows), block.caption
        if isinstance(block, page_blocks.Matrix):
            assert all(len(row.cells) == len(block.columns) for row in block.rows)


def test_sections_without_data_are_left_out_of_page_and_navigation(rendered):
    def titles(html):
        bar = html[html.index("<nav") : html.index("</nav>")]
        return [a["href"][1:] for a in Page(bar).named("a")], re.findall(
            r'<section id="([\w-]+)"', html
        )

    bare = documents.shortcut_document().model_copy(
        update={"performance": (), "gallery": (), "pictures": (), "checks": ()}
    )
    linked, shown = titles(render_html(bare))
    assert linked == ["summary", *shown]
    assert not {"gallery", "checks"} & set(shown)
    linked, shown = titles(rendered["shortcut"])
    assert linked == ["summary", *shown]
    assert {"gallery", "checks"} < set(shown)


def test_navigation_counts_what_it_leads_to():
    document = documents.shortcut_document()
    html = render_html(document)
    bar = Page(html[html.index("<nav") : html.index("</nav>")]).text
    states = [cell.state for cell in document.cells]
    assert (
        f"Findings {states.count(CellState.BEYOND)} beyond , {states.count(CellState.OPEN)} open"
        in bar
    )
    assert f"Attributes {len(document.attributes)}" in bar
    assert f"Gallery {len(document.gallery)}" in bar
    assert f"Checks {sum(c.state == 'issue' for c in document.checks)} to read" in bar
    assert html.count('aria-current="true"') == 1


def test_two_builds_are_the_same_bytes(rendered, tmp_path):
    again = read_result(write_report(documents.shortcut_document(), tmp_path / "r.json"))
    assert render_html(again) == rendered["shortcut"]


def test_style_and_script_run_by_hash_only(rendered):
    html = rendered["shortcut"]
    page = Page(html)
    policy = next(
        m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not [attributes for _, attributes in page.tags if "style" in attributes]


def test_hostile_text_comes_out_as_itself(rendered):
    page = Page(rendered["hostile"])
    assert len(page.named("script")) == 1
    assert len(page.named("style")) == 1
    assert page.named("img") == []
    assert {a["href"][:11] for a in page.named("image")} == {"data:image/"}
    assert "49" not in page.text.replace(documents.HOSTILE, "")[:4000].split()
    assert " ".join(documents.HOSTILE.split()) in page.text
    assert all("script" not in a.get("d", "") for a in page.named("path"))
    assert (
        rendered["hostile"].count("picture not available") == 1
    )  # the foreign address was not embedded


def test_a_text_that_turns_its_direction_ends_where_it_ends(rendered):
    """Every text with such a mark stands in an element of its own that isolates it."""
    html = re.sub(
        r"<(title|style|pre|option).*?</\1>|<text.*?</text>", "", rendered["hostile"], flags=re.S
    )
    html = re.sub(r'"[^"]*"', '""', html)
    for found in re.finditer("\u202e", html):
        before = html[: found.start()]
        assert before.rfind("<bdi>") > before.rfind("</bdi>") or before.rfind(
            "<code>"
        ) > before.rfind("</code>"), html[found.start() - 80 : found.end()]


def test_notice_stands_on_page_one_at_the_end_and_on_every_printed_page():
    notice = 'All images are "rendered"; no person'
    html = render_html(documents.met_document(notice=notice))
    text = Page(html).text
    assert text.count(notice) == 2
    assert text.index(notice) < text.index("Criteria met In every")
    assert 'content:"All images are \\22 rendered\\22 \\3b  no person"' in html


def test_no_pixel_where_images_are_withheld():
    document = documents.shortcut_document(images_shown=False)
    html = render_html(document)
    assert Page(html).named("img") == []
    assert "report holds no picture" in Page(html).text
    assert "data:image/jpeg" not in to_json(document) + html + render_markdown(
        document
    ) + render_fragment(document)
    assert not re.search(r'<symbol id="[pho]\d', html)
    assert not re.search(r'<use href="#[pho]\d', html)


def test_each_picture_is_embedded_once(rendered):
    found = re.findall(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", rendered["shortcut"])
    assert sorted(found) == sorted({item.image for item in documents.shortcut_document().gallery})
    uses = re.findall(r'<use href="#p(\d+)"', rendered["shortcut"])
    assert len(uses) > len(set(uses)) == len(found)  # page one, card and gallery draw the same ones


def test_sizes_stay_within_their_budget():
    html = render_html(documents.shortcut_document(gallery_items=60))
    assert len(html.encode()) < 1_500_000
    bare = re.sub(r"data:[a-z/+-]+;base64,[A-Za-z0-9+/=]+", "", html)
    assert len(bare.encode()) < 400_000
    overlays = re.findall(r'<symbol id="h\d+"[^>]*><image href="([^"]+)"', html)
    assert len(overlays) == 60
    assert max(map(len, overlays)) < 3_000


def test_ids_stay_unique_when_findings_share_an_anchor():
    source = documents.shortcut_document()
    findings = tuple(f.model_copy(update={"anchor": "GA101-x"}) for f in source.findings)
    cells = tuple(c.model_copy(update={"finding": "GA101-x"}) for c in source.cells)
    html = render_html(source.model_copy(update={"findings": findings, "cells": cells}))
    ids = [a["id"] for _, a in Page(html).tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {"GA101-x", "GA101-x-2"} <= set(ids)


def test_suppressed_numbers_are_withheld_everywhere(rendered):
    document = documents.insufficient_document()
    hidden = [f for f in document.findings if f.suppressed]
    assert hidden
    rows = [r for r in cell_table(document).rows if r.muted]
    assert len(rows) == sum(c.state is CellState.WITHHELD for c in document.cells) > 0
    for row in rows:
        numbers = [re.findall(r"\d", cell.text + cell.sub) for cell in row.cells[2:4]]
        assert numbers == [[], []]
        assert row.cells[3].text == "withheld"
    html = rendered["insufficient"]
    for level in ("V–VI", "acral"):
        for found in re.findall(
            rf"<tr><th scope=\"row\">[^/]*<bdi>{level}</bdi>.*?</tr>", html, re.S
        ):
            assert "withheld" in found or "–" in found
            assert not re.search(r"\d", Page(found).text.replace(level, ""))
    contrasts = files_in(document)["contrasts.csv"]
    lines = [
        line for line in csv.DictReader(io.StringIO(contrasts)) if line["suppressed"] == "True"
    ]
    assert len(lines) == len(hidden)
    assert {line["n_images"] for line in lines} == {""}


def test_counts_that_would_give_a_cell_away_are_withheld_while_the_numbers_stand():
    source = documents.met_document()
    counts = ("n_images", "n_clusters", "n_images_reference", "n_clusters_reference")
    finding = source.findings[0].model_copy(update={"n_withheld": True, **dict.fromkeys(counts, 0)})
    document = source.model_copy(update={"findings": (finding,), "cells": source.cells[:1]})
    html = render_html(document)
    row = re.search(r'<tr><th scope="row"><a.*?</tr>', html, re.S).group()
    assert points(finding.adjusted.estimate, 0) in row
    assert '<td class="n">–</td>' in row
    assert not re.search(r"(?<![\d\u202f])0 patients", Page(html).text)
    line = next(csv.DictReader(io.StringIO(files_in(document)["contrasts.csv"])))
    assert line["n_images"] == ""
    assert line["n_withheld"] == "True"


def test_every_state_look_and_check_has_a_shape_of_its_own():
    icons = (PACKAGE / "icons.html").read_text()
    checks = CheckOutcome.model_fields["state"].annotation.__args__
    names = [*LOOKS, *(f"state-{s}" for s in AUDIT_STATE_WORDS), *(f"check-{s}" for s in checks)]
    shapes = dict(re.findall(r'<symbol id="i-([\w-]+)"[^>]*>(.*?)</symbol>', icons))
    assert set(names) == set(shapes)
    own = [shapes[name] for name in LOOKS]
    assert len(own) == len(set(own))
    assert len(set(LOOKS.values())) == len(LOOKS)


@pytest.mark.parametrize("name", ["shortcut", "met", "insufficient", "no_criteria"])
def test_limits_are_printed_and_words_stay_within_what_is_known(rendered, name):
    text = Page(rendered[name]).text
    assert all(limit in text for limit in GENERAL_LIMITS)
    assert not re.search(
        r"\b(un|de)?biased\b|\b(un)?fair(ness)?\b|\bcomplian(t|ce)\b", text, flags=re.I
    )


def test_criteria_say_whether_they_came_before_the_data(rendered):
    before = documents.met_document()
    after = before.model_copy(
        update={"criteria": before.criteria.model_copy(update={"declared_on": "2026-04-01"})}
    )
    assert "2026-02-20, before the measuring (2026-03-14)" in Page(rendered["met"]).text
    assert "2026-04-01, after the measuring (2026-03-14)" in Page(render_html(after)).text
    assert "No criteria were declared" in Page(rendered["no_criteria"]).text


def test_undefined_numbers_are_marked_never_zero():
    source = documents.met_document()
    nothing = source.heat[0].model_copy(
        update={"mean": float("nan"), "sd": float("nan"), "quantiles": (None,) * 5, "histogram": ()}
    )
    document = source.model_copy(update={"heat": (nothing,)})
    html = render_html(document)
    assert "nan" not in Page(html).text.lower().split()
    assert json.loads(to_json(document))["heat"][0]["mean"] is None


def test_all_numbers_of_performance_live_in_the_file():
    document = documents.shortcut_document()
    lines = list(csv.DictReader(io.StringIO(files_in(document)["performance.csv"])))
    assert len(lines) == len(document.performance)
    for line, r in zip(lines, document.performance, strict=True):
        assert (line["attribute"], line["level"], line["metric"]) == (
            r.attribute,
            r.level,
            r.metric,
        )
        assert float(line["estimate"]) == pytest.approx(r.estimate, rel=1e-4)


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_csv_is_inert_in_a_spreadsheet_and_numbers_stay_numbers():
    rows = [["=1+1", "+2", "-3", "@SUM", " =x", "\t=y", "plain", -0.5, None, float("nan")]]
    line = next(
        csv.reader(io.StringIO(csv_text([str(i) for i in range(10)], rows).split("\r\n", 1)[1]))
    )
    assert line == ["'=1+1", "'+2", "'-3", "'@SUM", "' =x", "'\t=y", "plain", "-0.5", "", ""]


def colours(scheme: str) -> dict[str, str]:
    light = dict(re.findall(r"--(\w+): (#\w+)", (PACKAGE / "page_one.css").read_text()))
    dark = re.search(
        r"prefers-color-scheme: dark\) \{(.*?)\} \}", (PACKAGE / "style.css").read_text(), re.S
    )
    found = (
        light if scheme == "light" else light | dict(re.findall(r"--(\w+): (#\w+)", dark.group(1)))
    )
    return {
        name: colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        for name, colour in found.items()
    }


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_colours_reach_contrast_of_4_5(scheme):
    palette = colours(scheme)
    for name in ("ink", "muted", "link", "beyond", "open", "within"):
        for ground in ("paper", "raised", "band"):
            assert contrast(palette[name], palette[ground]) >= 4.5 - 0.05, (name, ground)
    assert contrast(palette["line"], palette["paper"]) >= 3


def test_every_step_of_the_intersections_carries_its_ink():
    css = (PACKAGE / "style.css").read_text()
    steps = dict(re.findall(r"\.([hl][1-6]) \{ background: (#\w+);", css))
    assert len(steps) == 12
    assert min(contrast("#1c2024", colour) for colour in steps.values()) >= 5.3


# ── planned comparisons ───────────────────────────────────────────────────────────────────────────────────────────────


def test_every_planned_comparison_has_a_row_with_state_reason_and_coverage():
    document = documents.shortcut_document()
    table = cell_table(document)
    assert len(table.rows) == len(document.cells)
    for cell, line in zip(document.cells, table.rows, strict=True):
        texts = [c.text for c in line.cells]
        loose = cell.state is CellState.WITHIN and not cell.settled
        assert texts[2] == LOOKS["loose" if loose else cell.state.value]
        assert texts[4:] == ["5", "97\u202f%"]
        assert ("provisional" in line.cells[2].sub) == cell.provisional
        assert line.group == cell.attribute.replace("_", " ")
    assert "patients" in table.note


def test_very_many_planned_comparisons_are_cut_and_what_is_cut_is_counted():
    source = documents.shortcut_document()
    many = tuple(c.model_copy(update={"group": f"g{n}"}) for n in range(30) for c in source.cells)
    table = cell_table(source.model_copy(update={"cells": many}))
    assert len(table.rows) == MOST_ROWS < len(many)
    left = sum(
        int(n)
        for n in re.findall(r"(\d+) (?:within|open|beyond)", table.note.split("Not shown:")[1])
    )
    assert left == len(many) - MOST_ROWS
    shown = [r.cells[2].text for r in table.rows]
    assert shown.count("beyond the limit") == sum(c.state is CellState.BEYOND for c in many)
    assert shown.count("open") == sum(c.state is CellState.OPEN for c in many)


def test_without_a_limit_no_margin_is_shown_and_nothing_is_called_unsettled():
    table = cell_table(documents.no_criteria_document())
    assert [c.label for c in table.columns] == [
        "Comparison",
        "What",
        "State",
        "Difference",
        "Coverage",
    ]
    assert "ettled" not in " ".join(c.text for r in table.rows for c in r.cells)
    assert "Margin" in [c.label for c in cell_table(documents.met_document()).columns]


def test_cells_come_as_a_file_too():
    document = documents.shortcut_document()
    lines = list(csv.DictReader(io.StringIO(files_in(document)["cells.csv"])))
    assert [line["state"] for line in lines] == [str(cell.state) for cell in document.cells]
    assert {"reason", "coverage", "provisional", "settled", "finding"} <= set(lines[0])


@pytest.mark.parametrize("name", ["shortcut", "insufficient"])
def test_what_is_in_the_way_is_said_where_it_is(rendered, name):
    """Every cell that keeps the audit from being met has a card or a line of its own under Findings."""
    document = BUILDERS[name]()
    html = rendered[name]
    section = html[html.index('<section id="findings"') : html.index('<section id="attributes"')]
    within = section.find('<h3 class="h">Within the limit')
    told = section[:within] if within > 0 else section
    for c in document.cells:
        if not c.settled:
            anchor = "-".join(f"f {c.attribute} {c.outcome} {c.region}".split())
            assert f'id="{anchor}"' in told


def test_the_plan_s_word_for_a_cluster_stands_in_every_table(rendered):
    """The document says "patient"; an older one, without the word, says cluster."""
    text = re.sub(r"gradaudit\.[\w.]+", "", Page(rendered["shortcut"]).text)
    method = text.index("Where the p-values come from")
    glossary = text.index("Terms and column heads")
    assert "Group against all others Patients" in text
    assert "cluster" not in text[:method].lower()
    assert "Patients Patients of the analysed images." in text[glossary:]
    older = documents.shortcut_document()
    older = older.model_copy(update={"data": older.data.model_copy(update={"cluster_name": "cluster"})})  # fmt: skip
    assert "Group against all others Clusters" in Page(render_html(older)).text


# ── JSON, Markdown, files ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", BUILDERS)
def test_json_is_canonical_fits_its_schema_and_comes_back(rendered, name, tmp_path):
    document = BUILDERS[name]()
    text = to_json(document)
    data = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(data, json_schema())
    assert list(data) == list(ResultDocument.model_fields)
    path = write_report(document, tmp_path / "r.json")
    assert path.read_text(encoding="utf-8") == text
    again = read_result(path)
    assert again == document
    assert to_json(again) == text
    assert render_html(again) == rendered[name]


@pytest.mark.parametrize("name", BUILDERS)
def test_archive_holds_every_table_and_the_whole_result(name):
    document = BUILDERS[name]()
    files = files_in(document)
    assert set(files) == {
        "result.json",
        "contrasts.csv",
        "cells.csv",
        "heat.csv",
        "flow.csv",
        "performance.csv",
        "exclusions.csv",
    }
    inside = ResultDocument.model_validate_json(files["result.json"]).model_dump(mode="json")
    own = document.model_copy(
        update={"gallery": tuple(i.model_copy(update={"image": ""}) for i in document.gallery)}
    ).model_dump(mode="json")
    assert same_to_six_digits(inside, own)
    assert len(list(csv.DictReader(io.StringIO(files["contrasts.csv"])))) == len(document.findings)
    for text in files.values():
        assert not re.search(r'(^|,)"?[=@]', text, flags=re.M) or text == files["result.json"]


def same_to_six_digits(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_to_six_digits(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_to_six_digits, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-5)
    return one == other


def test_no_sentence_is_stored_twice():
    document = documents.shortcut_document()
    files = files_in(document)
    sentence = next(f.sentence for f in document.findings if f.sentence)
    assert sum(text.count(sentence[:60]) for text in files.values()) == 1


def test_markdown_has_page_one_and_whole_tables():
    text = render_markdown(documents.shortcut_document(notice="Rendered images."))
    assert text.startswith("# Melanoma classifier, dermoscopy validation set: criteria not met\n")
    assert "> **Rendered images.**" in text
    assert "beyond the limit: +17 points (9 to 26)" in text
    assert "**Is it right?** On 86 %" in text
    assert "In the way of “criteria met”:\n\n- Skin tone V–VI against" in text
    assert "**Planned comparisons**" in text
    _tables_are_whole(text)


def test_markdown_takes_no_markup_from_names():
    text = render_markdown(documents.hostile_document())
    assert "<" not in text
    assert not re.search(r"(?<!\\)`", text)
    _tables_are_whole(text)


def _tables_are_whole(text: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
        assert len(widths) == 1, table[:200]


def test_fragment_shows_page_one_in_its_own_scope():
    document = documents.shortcut_document()
    fragment = render_fragment(document)
    page = Page(fragment)
    assert page.wrong == []
    for words in ("Criteria not met", "4 open", "Heat on the ruler", "Is it right?"):
        assert words in page.text
    assert page.named("script") == page.named("img") == page.named("a") == []
    style = re.search(r"<style>(.*?)</style>", fragment, re.S).group(1)
    selectors = [
        part.strip() for rule in re.findall(r"([^{}]+)\{", style) for part in rule.split(",")
    ]
    assert all(part.startswith(".gradaudit-fragment") for part in selectors)
    other = render_fragment(document.model_copy(update={"audit_id": "other"}))
    ids = [
        {a["id"] for _, a in Page(f).tags if "id" in a and not a["id"].startswith("i-")}
        for f in (fragment, other)
    ]
    assert len(ids[0]) >= 6 * 2
    assert ids[0].isdisjoint(ids[1])
    assert len(fragment) < 200_000


def test_plan_as_toml_leaves_out_what_has_no_value():
    assert tomllib.loads(
        plan_toml({"a": None, "b": {"c": None, "d": [1, None, 2]}, "e": (1.5,)})
    ) == {"b": {"d": [1, 2]}, "e": [1.5]}


@pytest.mark.parametrize("name", ["report.html", "sub/report.md", "report.JSON"])
def test_write_report_picks_the_render_by_ending(rendered, tmp_path, name):
    document = documents.met_document()
    path = write_report(document, tmp_path / name)
    text = path.read_text(encoding="utf-8")
    assert text == {".html": lambda _: rendered["met"], ".md": render_markdown, ".json": to_json}[
        path.suffix.lower()
    ](document)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_write_report_names_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"ends in '\.pdf'; expected one of \.html"):
        write_report(documents.met_document(), tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(documents.met_document(), tmp_path / "file" / "report.html")


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / "report.md"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write_report(documents.met_document(), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_read_result_names_the_fields_that_do_not_fit(tmp_path):
    data = json.loads(to_json(documents.met_document())) | {"min_cell": "many", "surprise": 1}
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(
        InputError, match=r"2 fields .*min_cell.*surprise|2 fields .*surprise.*min_cell"
    ):
        read_result(tmp_path / "r.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_result(tmp_path / "none.json")


def test_a_mean_map_that_is_not_finite_is_refused_by_name():
    source = documents.met_document()
    broken = source.mean_maps[0].model_copy(update={"heat": ((float("nan"), 1.0), (0.0, 0.0))})
    with pytest.raises(InputError, match=r"1 of 1 mean maps .*skin_tone = I–II"):
        render_html(source.model_copy(update={"mean_maps": (broken,)}))


def test_a_file_name_that_is_no_text_does_not_stop_the_report():
    source = documents.met_document()
    item = source.gallery[0].model_copy(update={"image_id": "caf\udce9.jpg"})
    html = render_html(source.model_copy(update={"gallery": (item,)}))
    assert "caf?.jpg" in html


def test_blocks_are_frozen():
    kinds = [
        kind
        for module in (block_types, page_blocks)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, block_types.Block)
    ]
    assert len(kinds) > 20
    assert all(
        dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen for kind in kinds
    )
