"""The page of a comparison: what differs first, every word with its shape, nothing withheld, nothing that runs or loads."""

import base64
import io
import json
import re
import shutil
import zipfile

import pytest
from banned_words import BANNED
from html_pages import Page

from gradaudit.errors import InputError
from gradaudit.report.changes import (
    comparison_json,
    render_comparison,
    render_comparison_fragment,
    render_comparison_markdown,
    write_comparison,
)
from gradaudit.report.changes.display import page_of
from gradaudit.report.changes.intervals import WIDTH, Scale, move, whiskers
from gradaudit.report.changes.page import scoped_style
from tests.report import comparison_documents as documents

MADE = {
    "all words": documents.comparison, "hostile": documents.hostile, "nothing": documents.nothing_compared, "33 levels": documents.many_levels,
    "same": lambda: documents.comparison(differences=()),
}  # fmt: skip


@pytest.fixture(scope="module", params=MADE)
def document(request):
    return MADE[request.param]()


def test_the_page_is_well_formed_and_loads_nothing(document):
    html = render_comparison(document)
    page = Page(html)
    assert (page.wrong, page.open) == ([], [])
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "image", "iframe")]
    links = [a.get("href", "") for a in page.named("a")]
    assert all(link.startswith(("#", "data:application/zip")) for link in links)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert "<script" not in html.lower()
    assert any("default-src 'none'" in m.get("content", "") for m in page.named("meta"))


def test_two_renders_are_the_same_bytes(document):
    for render in (
        render_comparison,
        render_comparison_fragment,
        render_comparison_markdown,
        comparison_json,
    ):
        assert render(document) == render(document)


def test_what_differs_stands_before_any_number_of_a_change():
    html = render_comparison(documents.comparison())
    places = [
        html.index(text)
        for text in (
            'id="differs"',
            "largest difference in heat held",
            'id="result"',
            "The disparity is smaller in",
            'id="heat"',
            "+34.7",
        )
    ]
    assert places == sorted(places)
    first = html[: html.index('id="result"')]
    for number in ("+34.7", "43 %", "−28.0", "70.9"):
        assert number not in Page(first).text


def test_every_word_is_said_with_a_shape_of_its_own():
    html = render_comparison(documents.comparison())
    for word, said in (
        ("better", "better"),
        ("worse", "worse"),
        ("not_shown", "not shown"),
        ("withheld", "withheld"),
        ("not_compared", "not compared"),
    ):
        found = re.findall(
            rf'<span class="w {word}"><svg class="i {word}"[^>]*>(.*?)</svg>([^<]*)</span>',
            html,
            re.DOTALL,
        )
        assert found, word
        assert any(text.strip().endswith(said) for _, text in found)
    shapes = {
        word: re.search(rf'<svg class="i {word}"[^>]*>(.*?)</svg>', html, re.DOTALL)[1]
        for word in ("better", "worse", "not_shown", "withheld")
    }
    assert len(set(shapes.values())) == 4


def test_the_numbers_of_a_row_are_those_of_the_document():
    page = page_of(documents.comparison())
    rows = {r.first: r for _, own in page.tables[0].groups for r in own}
    r = rows["V–VI"]
    assert (r.before.number, r.after.number, r.change, r.ends) == (
        "+34.7",
        "+6.7",
        "−28.0",
        "−31.0 to −25.0",
    )
    assert (r.word, r.words, r.n) == ("better", "better", "92 patients")
    assert r.own == "its own heat 43 % before, 14 % after: better for it"
    assert rows["III–IV"].changed
    assert page.overall[0].change == "+8.2"
    assert page.overall[1].change == "+0.74"
    assert page.tally == (
        ("better", "1 better"),
        ("worse", "1 worse"),
        ("not_shown", "2 not shown"),
        ("withheld", "1 withheld"),
        ("not_compared", "1 not compared"),
    )


def test_what_has_no_change_is_listed_with_its_reason_and_stands_in_no_table():
    document = documents.comparison()
    page = page_of(document)
    assert [(n.word, n.reason) for n in page.not_compared] == [
        (
            "withheld",
            "a group of this comparison is too small to be shown in one of the two audits",
        ),
        ("not_compared", "only before: the attribute is not in the other manifest"),
        ("withheld", "it is withheld in one of the two audits"),
    ]
    named = [r.first for t in page.tables for _, rows in t.groups for r in rows]
    assert "hand" not in named
    assert len(named) + 2 == len(document.cells)  # no planned comparison is lost


@pytest.mark.parametrize(("words", "expected"), [
    (["better", "not_shown"], "better"), (["worse"], "worse"), (["better", "worse"], "mixed"), (["not_shown", "withheld"], "not_shown"), (["withheld"], "not_compared"), ([], "not_compared"),
])  # fmt: skip
def test_the_head_fails_closed(words, expected):
    cells = tuple(documents.cell("x", 0.1, 0.1, word) for word in words)
    assert page_of(documents.comparison(cells=cells)).word == expected


def test_a_change_of_state_alone_is_not_better_on_the_page():
    same = documents.cell("V", 0.2, 0.2, "not_shown", reason="the change reads as zero")
    page = page_of(documents.comparison(cells=(same,)))
    row = page.tables[0].groups[0][1][0]
    assert (row.before.icon, row.after.icon, row.word) == ("beyond", "within", "not_shown")
    assert page.words == "No change shown"


def test_names_stay_text():
    html = render_comparison(documents.hostile())
    text = Page(html).text
    assert "<script>alert" in text  # as text
    assert "<script>alert" not in html
    assert "العربية" in text
    assert "中文" in text
    markdown = render_comparison_markdown(documents.hostile())
    assert "<script>" not in markdown
    widths = [
        len(re.findall(r"(?<!\\)\|", line))
        for line in markdown.splitlines()
        if line.startswith("|")
    ]
    assert set(widths) <= {4, 5, 7}


def test_the_archive_holds_every_number():
    html = render_comparison(documents.comparison())
    packed = re.search(r"data:application/zip;base64,([^\"]+)", html)[1]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))) as bundle:
        assert set(bundle.namelist()) == {
            "comparison.json",
            "changes.csv",
            "performance.csv",
            "differences.csv",
        }
        held = json.loads(bundle.read("comparison.json"))
    assert held == json.loads(comparison_json(documents.comparison()))


def test_no_render_uses_the_banned_words():
    document = documents.comparison()
    for text in (
        Page(render_comparison(document)).text,
        render_comparison_markdown(document),
        comparison_json(document),
    ):
        assert not BANNED.search(text)


def test_a_file_is_written_by_its_ending(tmp_path):
    document = documents.comparison()
    assert write_comparison(document, tmp_path / "a.html").read_text("utf-8") == render_comparison(
        document
    )
    assert write_comparison(document, tmp_path / "a.md").read_text(
        "utf-8"
    ) == render_comparison_markdown(document)
    for wrong in (tmp_path / "a.pdf", "s3://bucket/a.html", tmp_path):
        with pytest.raises(InputError):
            write_comparison(document, wrong)


def test_small_intervals_lie_on_one_scale():
    scale = Scale.of([0.12, None, -0.03, float("nan")])
    assert scale.reach == 0.20
    assert scale.x(0.0) == WIDTH / 2
    assert scale.x(0.1) - scale.x(0.0) == pytest.approx(scale.x(0.0) - scale.x(-0.1))
    assert scale.x(5.0) == scale.x(0.2) < WIDTH
    drawn = whiskers(scale, 0.1, (0.05, 0.15), (None, 0.2))
    assert drawn.thin is None
    assert drawn.thick == (scale.x(0.05), scale.x(0.15))
    assert whiskers(scale, None, (0, 1), (0, 1)) is None
    assert move(scale, 0.1, None, 0.1) is None
    assert move(scale, 0.1, 0.0, None).band is None
    assert Scale.of([]).reach == 0.02
    assert Scale.of([3.0]).reach == 3.0


def test_styles_of_a_fragment_apply_to_nothing_else():
    css = "/* c */ :root { --a: 1; }\nbody, th:is(a, b), td { x: y }\n@media print { @page { size: A4; } .k, :root .l { z: 1; } }\n@media screen and (prefers-color-scheme: dark) { :root { --a: 2; } }"
    scoped = scoped_style(css, ".s")
    assert (
        " ".join(scoped.split())
        == ".s { --a: 1; } .s, .s th:is(a, b), .s td { x: y } @media print { .s .k, .s .l { z: 1; } }"
    )
    style = re.search(
        r"<style>(.*?)</style>", render_comparison_fragment(documents.comparison()), re.DOTALL
    )[1]
    for selector in re.findall(r"(?:^|[{}])\s*([^{}@;]+?)\s*\{", style):
        assert all(".gradaudit-changes" in part for part in re.split(r",(?![^()]*\))", selector)), (
            selector
        )


# ── in a browser ────────────────────────────────────────────────────────────────────────────────────────────────────

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
in_browser = [
    pytest.mark.browser, pytest.mark.xdist_group("report"), pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]  # fmt: skip
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[*in_browser, *([pytest.mark.slow] if name == "33 levels" else [])]
        )
        for name in MADE
    ],
)
@pytest.mark.slow
def test_no_window_is_too_narrow_and_nothing_is_violated(browser, tmp_path, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    path = write_comparison(MADE[name](), tmp_path / "a.html")
    context = browser.new_context(viewport={"width": 320, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    heard = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("request", lambda request: heard.append(request.url))
    page.goto(path.as_uri())
    for width in (320, 360, 768, 896, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        if width in (320, 1280):
            rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
            found = Axe().run(page, options={"runOnly": rules})
            violations = found.response["violations"]
            assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == [], width
    assert [url for url in heard if not url.startswith(("file:", "data:"))] == []
    context.close()
