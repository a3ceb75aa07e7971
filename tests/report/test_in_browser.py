"""The report in a real headless Chromium: no request, no error, no accessibility violation, complete without JavaScript."""

import shutil

import pytest
import random_results
import result_documents as documents

from gradaudit.report import write_report
from gradaudit.report.render import render_fragment

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("report"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NOTICE = "All images in this report are rendered; none shows a person."


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def six_rows():
    """The shortcut's document without its third attribute's last levels: six comparisons of groups."""
    source = documents.shortcut_document(gallery_items=24, notice=NOTICE)
    kept = [c for c in source.cells if c.group not in ("acral", "head")]
    return source.model_copy(update={"cells": tuple(kept)})


def seed_of(attributes):
    """The first random document with so many attributes and at least three regions."""
    found = ((n, random_results.random_document(n)) for n in range(200))
    return next(n for n, d in found if len(d.attributes) == attributes and len(d.regions) > 2)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    built = {
        "shortcut": documents.shortcut_document(gallery_items=24, notice=NOTICE),
        "insufficient": documents.insufficient_document(images_shown=False),
        "hostile": documents.hostile_document(),
        "random": random_results.random_document(seed_of(8)),
        "six rows": six_rows(),
    }
    paths = {
        name: write_report(document, folder / f"{name}.html") for name, document in built.items()
    }
    paths["fragment"] = folder / "fragment.html"
    paths["fragment"].write_text(
        f"<!doctype html><html lang='en'><title>n</title><main><h1>n</h1>{render_fragment(built['shortcut'])}</main></html>"
    )
    return paths


@pytest.fixture
def open_page(browser, reports):
    contexts = []

    def opened(name, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.heard = []
        page.on("console", lambda message: page.heard.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: page.heard.append(f"error: {error}"))
        page.on(
            "dialog",
            lambda dialog: (page.heard.append(f"dialog: {dialog.message}"), dialog.dismiss()),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:"))
                else page.heard.append(request.url)
            ),
        )
        page.goto(reports[name].as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", ["shortcut", "insufficient", "hostile", "random"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.slow
def test_page_opens_quietly_and_fits_the_window(open_page, name, width):
    page = open_page(name, width)
    assert page.heard == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.heard == []


AXE = {
    "resultTypes": ["violations"],
    "preload": False,
}  # nothing outside the page is there to be preloaded
EVERY_RULE, ONLY_CONTRAST = {}, {"runOnly": ["color-contrast"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scheme", "rules"),
    [
        ("shortcut", "light", EVERY_RULE),
        ("shortcut", "dark", ONLY_CONTRAST),  # the dark scheme changes colours and nothing else
        ("insufficient", "light", EVERY_RULE),
        ("hostile", "light", EVERY_RULE),
        ("random", "light", EVERY_RULE),
        ("random", "dark", ONLY_CONTRAST),
        ("fragment", "light", EVERY_RULE),
        ("fragment", "dark", ONLY_CONTRAST),
    ],
)
def test_axe_finds_no_violation(open_page, name, scheme, rules):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page = open_page(name, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    results = axe.Axe().run(page, options=AXE | rules)
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in results.response["violations"]] == []
    checked = {rule["id"] for rule in results.response["passes"]}
    assert "color-contrast" in checked
    assert len(checked) > 10 or rules is ONLY_CONTRAST


def below(page, selector):
    box = page.locator(selector).first.bounding_box()
    return box["y"] + box["height"]


def test_page_one_needs_no_scrolling_up_to_six_rows(open_page):
    page = open_page("six rows")
    page.set_viewport_size({"width": 1280, "height": 1000})
    assert page.locator(".one .matrix tbody tr").count() == 6
    for selector in (".state", ".fact", ".next", ".six", ".matrix", ".foot"):
        assert below(page, selector) <= 1000, selector


def test_complete_without_javascript(open_page):
    with_script, without = open_page("shortcut"), open_page("shortcut", java_script_enabled=False)
    assert all(box.is_hidden() for box in without.locator(".controls").all())
    assert without.locator(".tile").count() == 24
    assert all(tile.is_visible() for tile in without.locator(".tile").all())
    plain = without.locator("main").text_content()
    assert "Where the p-values come from" in plain
    assert "gradaudit report manifest.csv" in plain
    assert len(plain) >= 0.98 * len(with_script.locator("main").text_content())


def test_archive_downloads_without_javascript(open_page, tmp_path):
    page = open_page("shortcut", java_script_enabled=False, accept_downloads=True)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="gradaudit-data.zip").click()
    target = tmp_path / "data.zip"
    waiting.value.save_as(target)
    assert target.read_bytes()[:2] == b"PK"


def test_gallery_filters(open_page):
    page = open_page("shortcut")
    controls = page.locator("#gallery .controls")
    shown = page.locator("#gallery li:not([hidden]) .tile")
    assert shown.count() == 24
    controls.get_by_label("skin tone").select_option(label="V–VI")
    assert shown.count() == 8
    assert page.locator("#gallery output").text_content() == "8 of 24 images"
    controls.get_by_label("Decision").select_option("wrong")
    assert {t.get_attribute("data-verdict") for t in shown.all()} <= {"wrong"}
    controls.get_by_label("Decision").select_option("")
    controls.get_by_label("skin tone").select_option("")
    name = shown.nth(5).get_attribute("data-file")
    controls.get_by_label("File").fill(name[-9:])
    assert shown.count() == 1
    assert page.heard == []


def test_gallery_is_one_tab_stop_and_opens_a_viewer_that_arrow_keys_walk(open_page):
    page = open_page("shortcut")
    assert page.locator('.tile[tabindex="0"]').count() == 1
    page.locator(".tile").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == page.locator(".tile").nth(2).get_attribute(
        "id"
    )
    page.keyboard.press("Enter")
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator("h3").text_content() == page.locator(".tile").nth(2).get_attribute(
        "data-file"
    )
    assert dialog.locator(".three svg").count() == 3
    assert [dialog.locator(".three div").nth(n).locator("use").count() for n in range(3)] == [
        1,
        2,
        4,
    ]
    page.keyboard.press("ArrowRight")
    assert dialog.locator("footer p").text_content() == "4 of 24"
    dialog.get_by_role("button", name="Add to comparison").click()
    page.keyboard.press("ArrowLeft")
    dialog.get_by_role("button", name="Add to comparison").click()
    dialog.get_by_role("button", name="Compare", exact=True).click()
    assert dialog.locator(".four svg").count() == 2
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.className") == "tile"
    assert page.heard == []


def test_hostile_names_still_filter(open_page):
    page = open_page("hostile")
    page.locator("#gallery .controls select").nth(0).select_option(index=1)
    assert 1 <= page.locator("#gallery li:not([hidden]) .tile").count() < 3
    assert page.heard == []


def test_filter_box_hides_rows_and_folds(open_page):
    page = open_page("shortcut")
    page.locator(".find").fill("acral")
    shown = page.locator("#attributes details:not([hidden])")
    assert shown.count() == 1
    assert [
        r.text_content().split()[1] for r in shown.locator("tbody tr:not([hidden]) th").all()
    ] == ["acral"]
    page.locator(".find").fill("")
    assert page.locator("#attributes details:not([hidden])").count() == 3
    assert page.locator("#attributes tbody tr[hidden]").count() == 0


def test_navigation_marks_the_section_in_view(open_page):
    page = open_page("shortcut")
    page.get_by_role("link", name="Checks").click()
    page.wait_for_function("document.querySelector('.bar [aria-current]').hash === '#checks'")
    assert page.locator(".bar [aria-current]").count() == 1


@pytest.mark.parametrize("name", ["shortcut", "insufficient", "random"])
def test_at_most_eighty_tab_stops_before_the_appendix(open_page, name):
    page = open_page(name)
    stops = page.evaluate(
        """() => [...document.querySelectorAll('a[href], summary, input, select, button, [tabindex="0"]')]
        .filter(e => !e.closest('#appendix') && e.checkVisibility() && e.tabIndex >= 0).length"""
    )
    assert 8 < stops <= 80


def test_nothing_sticky_covers_more_than_a_tenth_at_400_percent(open_page):
    page = open_page("shortcut")
    page.set_viewport_size({"width": 320, "height": 256})  # 1280 x 1024 at 400 %
    page.evaluate("scrollTo(0, 2000)")
    covered = page.evaluate(
        """() => [...document.querySelectorAll('*')].filter(e => ['sticky', 'fixed'].includes(getComputedStyle(e).position))
        .map(e => e.getBoundingClientRect()).filter(r => r.top <= 0 && r.bottom > 0 && r.width > 200).map(r => r.bottom)"""
    )
    assert max(covered, default=0) <= 25.6
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("width", [320, 360, 768, 1280, 1920])
@pytest.mark.slow
def test_no_sideways_overflow_with_long_names_at_any_width(open_page, width):
    page = open_page("random", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def printed(page, tmp_path):
    """Number of sheets of the printed page."""
    target = tmp_path / "page.pdf"
    target.write_bytes(page.pdf(prefer_css_page_size=True))
    return target.read_bytes().count(b"/Type /Page\n") or len(
        __import__("re").findall(rb"/Type\s*/Page(?!s)", target.read_bytes())
    )


def test_print_shows_page_one_findings_data_and_checks_and_the_box_the_rest(open_page, tmp_path):
    page = open_page("shortcut", java_script_enabled=False)
    short = printed(page, tmp_path)
    page.emulate_media(media="print")
    for name in ("summary", "findings", "data", "checks"):
        assert page.locator(f"#{name}").is_visible(), name
    for name in ("attributes", "gallery", "appendix"):
        assert page.locator(f"#{name}").is_hidden(), name
    assert page.locator(".bar").is_hidden()
    assert page.locator("#findings details.keep .in").first.bounding_box() is not None
    assert page.locator("#summary").evaluate("e => getComputedStyle(e).breakAfter") == "page"
    page.emulate_media(media="screen")
    page.locator("#print-all").check()
    page.emulate_media(media="print")
    assert all(
        page.locator(f"#{name}").is_visible() for name in ("attributes", "gallery", "appendix")
    )
    assert page.locator("#appendix table").last.bounding_box() is not None
    assert short <= 6 < printed(page, tmp_path)


@pytest.mark.parametrize("name", ["shortcut", "insufficient", "random"])
def test_page_one_is_one_sheet(open_page, name):
    page = open_page(name, java_script_enabled=False)
    page.emulate_media(media="print")
    page.set_viewport_size(
        {"width": 703, "height": 1000}
    )  # the printable part of A4 at 96 dots an inch
    box = page.locator("#summary").bounding_box()
    assert box["y"] + box["height"] <= 1024


def test_keyboard_reaches_the_skip_link_first_and_focus_is_visible(open_page):
    page = open_page("shortcut")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_finding_is_found_by_its_anchor_inside_a_folded_table(open_page, reports):
    page = open_page("shortcut")
    page.goto(f"{reports['shortcut'].as_uri()}#GA101-sex-ruler-female")
    page.wait_for_function("document.querySelector(':target') !== null")
    assert page.evaluate("document.querySelector(':target').tagName") == "TR"
    assert page.locator("tr:target").is_visible()


def test_a_cell_beyond_leads_to_its_card(open_page):
    page = open_page("shortcut")
    page.locator(".one a.cell.beyond").first.click()
    page.wait_for_function("document.querySelector(':target') !== null")
    assert "Beyond the limit" in page.locator(":target").text_content()


def test_the_notebook_fragment_is_at_most_900_pixels_high(open_page):
    page = open_page("fragment")
    assert page.locator(".gradaudit-fragment").bounding_box()["height"] <= 900
    assert page.locator(".gradaudit-fragment .pic").count() == 6
