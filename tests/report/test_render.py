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
import numpy as np
import pytest
import result_documents as documents
from html_pages import Page
from packed_files import files_in
from PIL import Image

from gradaudit.errors import InputError
from gradaudit.number_text import points
from gradaudit.plan import plan_toml
from gradaudit.records import STATE_WORDS, CellState
from gradaudit.report import blocks as block_types
from gradaudit.report import read_result, write_report
from gradaudit.report.blocks import csv_text
from gradaudit.report.figures.canvas import PALETTE, STATE_MARKS
from gradaudit.report.figures.distributions import Lane, Panel, distribution_plot
from gradaudit.report.figures.forest import (
    ForestRow,
    forest_plot,
    strip_parts,
    strip_reach,
)
from gradaudit.report.figures.heat_maps import MapTile, bilinear, heat_overlay, mean_map_plot
from gradaudit.report.figures.svg import svg_markup
from gradaudit.report.render import (
    json_schema,
    render_fragment,
    render_html,
    render_markdown,
    to_json,
)
from gradaudit.report.sections.cells import cell_blocks
from gradaudit.report.sections.overview import GENERAL_LIMITS, MOST_REASONS, SECTIONS
from gradaudit.result_schema import AUDIT_STATE_WORDS, CheckOutcome, ResultDocument

pytestmark = pytest.mark.xdist_group("report")
BUILDERS = documents.BUILDERS


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


@pytest.mark.parametrize("name", BUILDERS)
def test_first_section_is_the_verdict_in_words_and_icon(rendered, name):
    document = BUILDERS[name]()
    html = rendered[name]
    first = html[html.index('id="verdict"') : html.index('id="scope"')]
    assert AUDIT_STATE_WORDS[document.verdict.state].capitalize() in first
    assert f"#i-state-{document.verdict.state}" in first
    text = Page(first).text
    for sentence in (*document.verdict.sentences, *document.verdict.cannot_tell):
        assert " ".join(sentence.split()) in text
    assert all(e.meaning in text for e in document.exclusions)


@pytest.mark.parametrize("name", list(SECTIONS))
def test_every_section_returns_known_blocks(name):
    known = {
        kind.kind
        for kind in vars(block_types).values()
        if isinstance(kind, type) and issubclass(kind, block_types.Block)
    }
    template = (Path(block_types.__file__).parent / "blocks.html").read_text()
    found = SECTIONS.get(name)(documents.shortcut_document())
    assert found
    for block in found:
        assert block.kind in known
        assert f'"{block.kind}"' in template
        if isinstance(block, block_types.Table):
            assert all(len(row.cells) == len(block.columns) for row in block.rows), block.caption


def test_sections_without_data_are_left_out_and_the_others_keep_their_numbers(rendered):
    bare = documents.shortcut_document().model_copy(
        update={"performance": (), "gallery": (), "checks": ()}
    )
    text = Page(render_html(bare)).text
    assert "5 Model performance" not in text
    assert "8 Method" in text
    assert "5 Model performance" in Page(rendered["shortcut"]).text


def test_two_builds_are_the_same_bytes(rendered, tmp_path):
    again = read_result(write_report(documents.shortcut_document(), tmp_path / "r.json"))
    assert render_html(again) == rendered["shortcut"]


def test_script_runs_by_hash_only(rendered):
    html = rendered["shortcut"]
    policy = next(
        m["content"]
        for m in Page(html).named("meta")
        if m.get("http-equiv") == "Content-Security-Policy"
    )
    script = re.findall(r"<script>(.*?)</script>", html, flags=re.S)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert policy.startswith(
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_hostile_text_comes_out_as_itself(rendered):
    page = Page(rendered["hostile"])
    assert len(page.named("script")) == 1
    assert len(page.named("style")) == 1
    assert {a["src"][:11] for a in page.named("img")} == {"data:image/"}
    assert "49" not in page.text.replace(documents.HOSTILE, "")[:4000].split()
    assert " ".join(documents.HOSTILE.split()) in page.text
    assert all("script" not in a.get("d", "") for a in page.named("path"))
    assert (
        rendered["hostile"].count("picture not available") == 1
    )  # the foreign address was not embedded


def test_notice_stands_on_screen_in_every_section_and_on_every_printed_page():
    notice = 'All images are "rendered"; no person'
    html = render_html(documents.met_document(notice=notice))
    page = Page(html)
    sections = [a["id"] for a in page.named("section")]
    assert page.text.count(notice) == len(sections) + 1
    assert 'content:"All images are \\22 rendered\\22 \\3b  no person"' in html


def test_no_pixel_where_images_are_withheld():
    document = documents.shortcut_document(images_shown=False)
    html = render_html(document)
    page = Page(html)
    assert page.named("img") == []
    assert "report holds no picture" in page.text
    assert "data:image/jpeg" not in to_json(document) + html + render_markdown(document)
    assert page.named("image")  # mean heat maps stay: they hold no picture


def test_each_picture_is_embedded_once(rendered):
    pictures = [
        a["src"] for a in Page(rendered["shortcut"]).named("img") if a.get("class") == "photo"
    ]
    assert len(pictures) == len(documents.shortcut_document().gallery)
    assert all(rendered["shortcut"].count(picture) == 1 for picture in set(pictures))


def test_sizes_stay_within_their_budget():
    html = render_html(documents.shortcut_document(gallery_items=60))
    assert len(html.encode()) < 3_000_000
    assert len(re.sub(r'class="photo" src="[^"]+"', "", html).encode()) < 1_000_000
    overlays = re.findall(r'class="heat" src="([^"]+)"', html)
    assert len(overlays) == 60
    assert max(map(len, overlays)) < 4_000  # 3 kB as base64


def test_finding_anchors_stay_unique_when_groups_share_one(rendered):
    html = rendered["shortcut"]
    assert 'id="GA101-skin_tone-ruler"' in html
    assert 'id="GA101-skin_tone-ruler-2"' in html


def test_suppressed_numbers_are_withheld_everywhere(rendered):
    document = documents.insufficient_document()
    hidden = [f for f in document.findings if f.suppressed]
    assert hidden
    row = re.search(
        r'<tr id="GA101-skin_tone-ruler-3".*?</tr>', rendered["insufficient"], re.S
    ).group()
    assert Page(row).text.count("withheld") == 9
    assert re.findall(r"\d", re.sub(r"<[^>]*>", "", row)) == []
    contrasts = files_in(document)["contrasts.csv"]
    lines = [
        line for line in csv.DictReader(io.StringIO(contrasts)) if line["suppressed"] == "True"
    ]
    assert len(lines) == len(hidden)
    assert {line["n_images"] for line in lines} == {""}


def test_counts_that_would_give_a_cell_away_are_withheld_while_the_numbers_stand():
    source = documents.met_document()
    finding = source.findings[0].model_copy(
        update={
            "n_withheld": True,
            "n_images": 0,
            "n_clusters": 0,
            "n_images_reference": 0,
            "n_clusters_reference": 0,
        }
    )
    document = source.model_copy(update={"findings": (finding,)})
    row = re.search(rf'<tr id="{finding.anchor}".*?</tr>', render_html(document), re.S).group()
    assert "withheld" in row
    assert "0 / 0" not in Page(row).text
    assert points(finding.raw.estimate) in row
    line = next(csv.DictReader(io.StringIO(files_in(document)["contrasts.csv"])))
    assert line["n_images"] == ""
    assert line["n_withheld"] == "True"


def test_every_verdict_state_and_check_has_words_and_an_icon():
    icons = (Path(block_types.__file__).parent / "icons.html").read_text()
    states = CheckOutcome.model_fields["state"].annotation.__args__
    for name in (
        *(s.value for s in CellState if s is not CellState.NOT_JUDGED),
        "shown",
        "not_shown",
        *(f"state-{s}" for s in AUDIT_STATE_WORDS),
        *(f"check-{s}" for s in states),
    ):
        assert f'id="i-{name}"' in icons
    looks = {(marker, filled, colour) for marker, colour, filled, _ in STATE_MARKS.values()}
    assert set(STATE_MARKS) == {*CellState, "shown", "not_shown"} - {CellState.NOT_JUDGED}
    assert len(looks) == len(STATE_MARKS) - 1  # withheld and not assessed have no marker


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


def test_trends_name_their_two_ends_and_have_no_second_group():
    source = documents.shortcut_document()
    slope = {
        "group": "V–VI",
        "reference": "I–II",
        "n_images_reference": 0,
        "n_clusters_reference": 0,
    }
    trend = source.findings[0].model_copy(update=slope | {"code": "GA102", "anchor": "GA102-x"})
    bend = trend.model_copy(
        update={
            "code": "GA104",
            "anchor": "GA104-x",
            "state": CellState.NOT_JUDGED,
            "shown": True,
            "margin": None,
        }
    )
    html = render_html(source.model_copy(update={"findings": (trend, bend)}))
    rows = [
        Page(re.search(rf'<tr id="{anchor}".*?</tr>', html, re.S).group()).text
        for anchor in ("GA102-x", "GA104-x")
    ]
    assert rows[0].startswith("trend, I–II to V–VI")
    assert rows[1].startswith("departure from trend departure shown, no limit was set")
    assert not any("vs 0" in row for row in rows)


def test_performance_shows_merit_differences_and_heat_by_correctness_apart():
    source = documents.met_document()
    base = source.performance[0]
    tested = documents.TestResult(
        name="t, HC2, Bell–McCaffrey df", p=0.012, p_adjusted=0.03, family="exploratory"
    )
    rows = [
        base.model_copy(update={"attribute": "(all)", "level": "(all)"}),
        base.model_copy(
            update={
                "metric": "accuracy_difference",
                "estimate": -0.125,
                "low": -0.2,
                "high": -0.05,
                "test": tested,
            }
        ),
        base.model_copy(
            update={
                "metric": "auc_difference",
                "estimate": 0.191,
                "low": -0.004,
                "high": 0.31,
                "test": tested,
            }
        ),
        base.model_copy(
            update={
                "metric": "heat_right:lesion",
                "estimate": 0.5,
                "low": 0.4,
                "high": 0.6,
                "n_images": 77,
            }
        ),
    ]
    html = render_html(source.model_copy(update={"performance": tuple(rows)}))
    section = html[html.index('<section id="performance"') : html.index('<section id="gallery"')]
    text = Page(section).text
    assert "(all)" not in text
    assert "−12.5 −20.0 to −5.0 p = 0.030" in text
    assert "+0.19 0.00 to +0.31 p = 0.030" in text
    assert "what is compared there is each patient's pseudo-value" in text
    card = re.search(r'<a href="#([^"]+)">−12.5', section).group(1)
    assert (
        "scipy.special.stdtr"
        in Page(re.search(rf'<tr id="{card}".*?</tr>', html, re.S).group()).text
    )
    method = Page(html[html.index('<section id="method"') :]).text
    assert "t, HC2, Bell–McCaffrey df 2 –" in method
    assert "Model performance 2 Benjamini-Hochberg beside the difference" in method
    assert "lesion, right n below" in text
    assert "50.0\u202f% 40.0 to 60.0; n = 77" in text.replace("50.0 %", "50.0\u202f%")
    assert section.count("<svg") == 1  # differences are in no figure of merit


def test_outlines_keep_one_line_style_a_region_and_the_first_lies_on_top(rendered):
    html = rendered["shortcut"]
    tile = re.search(r'<svg class="outlines".*?</svg>', html, re.S).group()
    assert re.findall(r'class="r(\d)"', tile) == ["1", "0"]
    key = re.search(r'<p class="legend">.*?</p>', html, re.S).group()
    assert re.findall(r'class="r(\d)"', key) == ["0", "1", "2"]
    figure = mean_map_plot(
        [MapTile("a", "", [[1.0]], {"z": np.eye(4).tolist(), "a": np.eye(4).tolist()})], ["z", "a"]
    )
    assert [text.get_text() for text in figure.axes[-1].texts] == ["z", "a"]


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_csv_is_inert_in_a_spreadsheet_and_numbers_stay_numbers():
    rows = [["=1+1", "+2", "-3", "@SUM", " =x", "\t=y", "plain", -0.5, None, float("nan")]]
    line = next(
        csv.reader(io.StringIO(csv_text([str(i) for i in range(10)], rows).split("\r\n", 1)[1]))
    )
    assert line == ["'=1+1", "'+2", "'-3", "'@SUM", "' =x", "'\t=y", "plain", "-0.5", "", ""]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_colours_reach_contrast_of_4_5(scheme):
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for name in ("ink", "muted", "link", "vermillion", "blue", "green", "amber", "purple"):
        for ground in ("paper", "raised", "band"):
            light, dark = sorted(
                (luminance(PALETTE[name][scheme]), luminance(PALETTE[ground][scheme])), reverse=True
            )
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_forest_plot_draws_estimates_intervals_and_margin_where_they_are():
    rows = [
        ForestRow(
            "tone",
            "a",
            "10",
            0.19,
            0.14,
            0.24,
            0.2,
            CellState.BEYOND,
            thick=(0.16, 0.22),
            margin=0.05,
        ),
        ForestRow("tone", "b", "10", None, None, None, None, CellState.NOT_ASSESSED),
    ]
    axes = forest_plot(rows).axes[0]
    lines = [tuple(np.round(np.asarray(line.get_xdata(), dtype=float), 6)) for line in axes.lines]
    assert (14.0, 24.0) in lines  # thin
    assert (16.0, 22.0) in lines  # thick
    assert (19.0,) in lines
    assert (20.0,) in lines  # the raw difference
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((-5, 5))
    texts = [text.get_text() for text in axes.texts]
    assert {"beyond", "not assessed", "+19.0  (+14.0 to +24.0)", "–"} <= set(texts)


def test_the_word_at_every_margin_is_drawn_and_written():
    given = {"margin": 0.05, "thick": (0.1, 0.22)}
    rows = [
        ForestRow("t", "a", "1", 0.16, 0.08, 0.24, None, CellState.BEYOND, beyond_up_to=0.08, within_from=0.22, **given),
        ForestRow("t", "b", "1", 0.0, -0.1, 0.1, None, CellState.OPEN, beyond_up_to=0.0, within_from=0.07, **given),
        ForestRow("t", "c", "1", 0.1, 0.0, 0.2, None, CellState.NOT_JUDGED),
    ]  # fmt: skip
    assert strip_reach(rows) == pytest.approx(0.25)
    assert strip_parts(rows[0], 0.25) == [
        (CellState.BEYOND, 0.0, 0.08),
        (CellState.OPEN, 0.08, 0.22),
        (CellState.WITHIN, 0.22, 0.25),
    ]
    assert strip_parts(rows[1], 0.25) == [
        (CellState.OPEN, 0.0, 0.07),
        (CellState.WITHIN, 0.07, 0.25),
    ]
    assert strip_reach(rows[2:]) is None
    axes = forest_plot(rows).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("beyond up to 8.0, within from 22.0") == 1
    assert texts.count("within from 7.0") == 1
    assert not [text for text in texts if "nan" in text or "None" in text]
    bare = forest_plot(rows[2:]).axes[0]
    assert not [text for text in bare.texts if "within from" in text.get_text()]
    assert "difference (interval)" in [text.get_text() for text in bare.texts]


def test_the_strip_says_at_the_declared_margin_what_the_word_says():
    """Beyond, open and within meet at the very margins that the sentence and the table name."""
    for document in (documents.shortcut_document(), documents.met_document()):
        for f in document.findings:
            if f.margin is None or f.beyond_up_to is None:
                continue
            row = ForestRow("", "", "", 0.0, 0.0, 0.0, None, f.state, margin=f.margin, beyond_up_to=f.beyond_up_to, within_from=f.within_from)  # fmt: skip
            parts = strip_parts(row, 1.0)
            assert [state for state, start, end in parts if start < f.margin <= end] == [f.state]


def test_no_strip_where_a_row_is_withheld_or_reaches_further_than_everything():
    far = ForestRow("", "", "", 0.1, -2.0, 2.0, None, CellState.OPEN, margin=0.1, beyond_up_to=0.0, within_from=2.0)  # fmt: skip
    assert strip_reach([far]) == 1.0
    assert strip_parts(far, 1.0) == [(CellState.OPEN, 0.0, 1.0)]
    hidden = dataclasses.replace(far, estimate=None)
    assert strip_reach([hidden]) is None


# ── planned comparisons ───────────────────────────────────────────────────────────────────────────────────────────────


def _cells_table(document):
    _, details = cell_blocks(document)
    return details.summary, details.blocks[0]


def test_every_planned_comparison_has_a_row_with_state_reason_and_coverage():
    document = documents.shortcut_document()
    summary, table = _cells_table(document)
    assert summary == "17 planned comparisons: 1 beyond the margin, 4 open and 12 within the margin"
    assert len(table.rows) == len(document.cells)
    for cell, line in zip(document.cells, table.rows, strict=True):
        texts = [c.text for c in line.cells]
        assert texts[2] == STATE_WORDS[cell.state]
        assert (texts[-1] == "yes") == cell.settled
        assert texts[5] == "±5"
        assert texts[4] == "97\u202f%"
        assert ("provisional" in line.cells[2].sub) == cell.provisional
    assert "patients" in table.note


def test_a_withheld_planned_comparison_shows_no_number():
    document = documents.insufficient_document()
    _, table = _cells_table(document)
    hidden = [
        line
        for cell, line in zip(document.cells, table.rows, strict=True)
        if cell.state is CellState.WITHHELD
    ]
    assert len(hidden) == 4
    for line in hidden:
        assert [c.text for c in line.cells[3:4]] == ["withheld"]
        assert not re.search(r"\d", line.cells[3].text + line.cells[4].text + line.cells[2].sub)


def test_without_a_limit_no_margin_is_shown_and_nothing_is_called_unsettled():
    _, table = _cells_table(documents.no_criteria_document())
    assert [c.label for c in table.columns][-1] == "Coverage"
    assert "ettled" not in table.note
    assert "Settled" in [c.label for c in _cells_table(documents.met_document())[1].columns]


def test_cells_come_as_a_file_too():
    document = documents.shortcut_document()
    lines = list(csv.DictReader(io.StringIO(files_in(document)["cells.csv"])))
    assert [line["state"] for line in lines] == [str(cell.state) for cell in document.cells]
    assert {"reason", "coverage", "provisional", "settled", "finding"} <= set(lines[0])


@pytest.mark.parametrize("name", ["shortcut", "insufficient", "met", "no_criteria"])
def test_what_is_in_the_way_is_said_where_something_is(rendered, name):
    document = BUILDERS[name]()
    html = rendered[name]
    first = Page(html[html.index('id="verdict"') : html.index('id="scope"')]).text
    told = name in ("shortcut", "insufficient")
    assert ("In the way of “criteria met”" in first) == told
    reasons = document.verdict.reasons
    assert bool(reasons) == told
    for line in reasons[: MOST_REASONS if len(reasons) > MOST_REASONS + 1 else None]:
        assert line in first
    if len(reasons) > MOST_REASONS + 1:
        assert f"{len(reasons) - MOST_REASONS} more, in the table of planned comparisons." in first


def test_the_plan_s_word_for_a_cluster_stands_in_every_table(rendered):
    """The document says "patient"; an older one, without the word, says cluster."""
    text = re.sub(r"gradaudit\.[\w.]+", "", Page(rendered["shortcut"]).text)
    method = text.index("Where the p-values come from")
    cards = text.index("Estimates, tests and corrections", method)
    glossary = text.index("Terms and column heads")
    assert "images / patients" in text
    assert "cluster" not in text[:method].lower()
    assert "Patients Patients of the analysed images." in text[glossary:]
    older = documents.shortcut_document()
    older = older.model_copy(update={"data": older.data.model_copy(update={"cluster_name": "cluster"})})  # fmt: skip
    assert "images / clusters" in Page(render_html(older)).text
    assert cards > 0


def test_distribution_plot_draws_quantiles_mean_and_histogram():
    histogram = (0, 4, 2) + (0,) * 17
    lanes = (
        Lane("a", "n = 6", histogram, (0.05, 0.06, 0.08, 0.1, 0.14), 0.09),
        Lane("b", "n = 0", note="withheld"),
    )
    figure = distribution_plot([Panel("ruler", lanes)])
    axes = figure.axes[0]
    lines = [tuple(np.round(line.get_xdata(), 6)) for line in axes.lines]
    assert {(5.0, 14.0), (6.0, 10.0), (8.0,), (9.0,)} <= set(lines)
    values, edges, baseline = axes.patches[0].get_data()
    assert edges[:4] == pytest.approx([0, 5, 10, 15])
    assert (baseline - values)[:3] == pytest.approx([0, 24, 12])
    assert "withheld" in [text.get_text() for text in axes.texts]


def test_mean_maps_share_one_scale_in_times_an_even_spread():
    flat, peaked = np.full((2, 2), 0.25).tolist(), [[0.7, 0.1], [0.1, 0.1]]
    figure = mean_map_plot([MapTile("a", "n = 1", flat), MapTile("b", "n = 1", peaked)])
    first, second = (axes.images[0] for axes in figure.axes[:2])
    assert first.get_clim() == second.get_clim() == (0, pytest.approx(2.8))
    assert np.asarray(first.get_array()) == pytest.approx(np.ones((40, 40)))
    assert np.asarray(second.get_array())[0, 0] == pytest.approx(2.8)


def test_bilinear_follows_the_half_pixel_rule():
    grid = np.array([[0.0, 4.0]])
    assert bilinear(grid, 1, 4)[0] == pytest.approx([0, 1, 3, 4])
    assert bilinear(np.full((3, 2), 7.0), 9, 5) == pytest.approx(np.full((9, 5), 7.0))


def test_heat_overlay_is_relu_scaled_and_transparent_at_zero():
    uri = heat_overlay([[-5.0, 0.0], [0.0, 2.0]], 40, 40)
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA")
    alpha = np.asarray(picture)[..., 3]
    assert picture.size == (40, 40)
    assert alpha[0, 0] == 0
    assert alpha[-1, -1] == 255
    assert [heat_overlay(grid, 8, 8) for grid in ([[-1.0]], [[float("nan")]], [[0.0]], [])] == [
        ""
    ] * 4
    assert Image.open(
        io.BytesIO(base64.b64decode(heat_overlay([[1.0]], 512, 256).split(",")[1]))
    ).size == (96, 48)


def test_svg_has_title_description_and_no_date_style_or_foreign_font():
    svg = svg_markup(
        forest_plot([ForestRow("<b>", "x & y", "1", 0.1, 0.0, 0.2, None, CellState.NOT_JUDGED)]),
        "f1",
        "T <i>",
        "D & e",
    )
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 ')
    assert '<title id="f1-t">T &lt;i&gt;</title><desc id="f1-d">D &amp; e</desc>' in svg
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "DejaVu" not in svg
    assert "&lt;b&gt;" in svg
    assert all(name.startswith("f1-") for name in re.findall(r'\bid="([^"]+)"', svg))


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
    inside = ResultDocument.model_validate_json(files["result.json"])
    assert inside == document.model_copy(
        update={"gallery": tuple(i.model_copy(update={"image": ""}) for i in document.gallery)}
    )
    assert len(list(csv.DictReader(io.StringIO(files["contrasts.csv"])))) == len(document.findings)
    for text in files.values():
        assert not re.search(r'(^|,)"?[=@]', text, flags=re.M) or text == files["result.json"]


def test_markdown_has_verdict_and_whole_tables():
    text = render_markdown(documents.shortcut_document(notice="Rendered images."))
    assert text.startswith("# Melanoma classifier, dermoscopy validation set: criteria not met\n")
    assert "> **Rendered images.**" in text
    assert "beyond the margin" in text
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


def test_fragment_shows_verdict_forest_and_contrasts_in_its_own_scope():
    document = documents.shortcut_document()
    fragment = render_fragment(document)
    page = Page(fragment)
    assert page.wrong == []
    assert "Criteria not met" in page.text
    assert "beyond the margin" in page.text
    assert "Planned comparisons" in page.text
    assert page.named("script") == page.named("img") == []
    style = re.search(r"<style>(.*?)</style>", fragment, re.S).group(1)
    assert all(
        rule.strip().startswith(".gradaudit-fragment") for rule in re.findall(r"([^{}]+)\{", style)
    )
    other = render_fragment(document.model_copy(update={"audit_id": "other"}))
    ids = [
        {a["id"] for _, a in Page(f).tags if "id" in a and not a["id"].startswith("i-")}
        for f in (fragment, other)
    ]
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
        for kind in vars(block_types).values()
        if isinstance(kind, type) and issubclass(kind, block_types.Block)
    ]
    assert len(kinds) > 10
    assert all(
        dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen for kind in kinds
    )
