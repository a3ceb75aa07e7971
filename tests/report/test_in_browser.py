"""The report in a real headless Chromium: no request, no error, no accessibility violation, complete without JavaScript."""

import shutil

import pytest
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


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    built = {
        "shortcut": documents.shortcut_document(gallery_items=24, notice=NOTICE),
        "insufficient": documents.insufficient_document(images_shown=False),
        "hostile": documents.hostile_document(),
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


@pytest.mark.parametrize("name", ["shortcut", "insufficient", "hostile"])
@pytest.mark.parametrize("width", [1280, 400])
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


def test_first_screen_holds_the_verdict_its_limits_and_the_exclusions(open_page):
    page = open_page("shortcut")
    for text in (
        "Criteria not met",
        "What this audit cannot tell",
        "21 images: the image file cannot be read",
    ):
        box = page.get_by_text(text, exact=False).first.bounding_box()
        assert box["y"] + box["height"] <= 800, text


def test_complete_without_javascript(open_page):
    with_script, without = open_page("shortcut"), open_page("shortcut", java_script_enabled=False)
    assert without.locator("form.controls").is_hidden()
    assert without.locator(".tile").count() == 24
    assert all(tile.is_visible() for tile in without.locator(".tile").all())
    plain = without.locator("main").text_content()
    assert "Effect sizes and tests" in plain
    assert "gradaudit report manifest.csv" in plain
    assert len(plain) >= 0.99 * len(with_script.locator("main").text_content())


def test_archive_downloads_without_javascript(open_page, tmp_path):
    page = open_page("shortcut", java_script_enabled=False, accept_downloads=True)
    with page.expect_download() as waiting:
        page.get_by_role("link", name="gradaudit-data.zip").click()
    target = tmp_path / "data.zip"
    waiting.value.save_as(target)
    assert target.read_bytes()[:2] == b"PK"


def test_filters_sort_slider_and_outlines(open_page):
    page = open_page("shortcut")
    controls = page.locator("form.controls")
    shown = page.locator(".tile:not([hidden])")
    assert shown.count() == 24

    controls.get_by_label("Group").select_option(label="V–VI")
    assert shown.count() == 8
    assert page.locator("output").text_content() == "8 of 24 images"
    controls.get_by_label("Region").select_option("ruler")
    controls.get_by_label("Order").select_option("down")
    shares = page.eval_on_selector_all(
        ".tile:not([hidden])", "tiles => tiles.map(t => JSON.parse(t.dataset.values).ruler)"
    )
    assert shares == sorted(shares, reverse=True)
    assert len(set(shares)) > 3
    controls.get_by_label("Prediction").select_option("wrong")
    assert {t.get_attribute("data-verdict") for t in shown.all()} <= {"wrong"}
    controls.get_by_label("Prediction").select_option("")
    controls.get_by_label("Group").select_option("")
    assert shown.count() == 16  # the other third has no ruler annotated

    controls.get_by_label("Opacity").fill("0")
    assert (
        page.locator(".tile:not([hidden]) .heat").first.evaluate("e => getComputedStyle(e).opacity")
        == "0"
    )
    assert page.locator(".tile:not([hidden]) .outlines").first.is_visible()
    controls.get_by_label("Outlines").uncheck()
    assert page.locator(".tile:not([hidden]) .outlines").first.is_hidden()
    assert page.heard == []


def test_hostile_names_still_filter(open_page):
    page = open_page("hostile")
    controls = page.locator("form.controls")
    controls.get_by_label("Group").select_option(index=1)
    assert page.locator(".tile:not([hidden])").count() == 1
    assert page.heard == []


def test_print_opens_every_detail_and_keeps_the_verdict_on_one_page(open_page):
    page = open_page("shortcut", java_script_enabled=False)
    hidden = page.locator("details table").first
    assert hidden.is_hidden()
    page.emulate_media(media="print")
    assert all(table.bounding_box() is not None for table in page.locator("details table").all())
    assert page.locator("nav").is_hidden()
    assert page.locator("#scope .notice-line").is_visible()
    page.set_viewport_size(
        {"width": 680, "height": 980}
    )  # the printable part of A4 at 96 dots an inch
    box = page.locator("#verdict").bounding_box()
    assert box["y"] + box["height"] <= 980
    assert page.locator("#verdict").evaluate("e => getComputedStyle(e).breakAfter") == "page"
    assert page.pdf(prefer_css_page_size=True)[:5] == b"%PDF-"


def test_keyboard_reaches_the_skip_link_first_and_focus_is_visible(open_page):
    page = open_page("shortcut")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_a_finding_is_found_by_its_anchor(open_page):
    page = open_page("shortcut")
    page.get_by_role("link", name="GA101-skin_tone-ruler").click()
    page.wait_for_function("document.querySelector(':target') !== null")
    assert page.evaluate("document.querySelector(':target').tagName") == "TR"
    assert page.locator("tr:target").is_visible()
