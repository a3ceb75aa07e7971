"""A figure's SVG: texts stay texts, names are its own, nothing runs and nothing is loaded."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from gradaudit.records import CellState
from gradaudit.report.figures.canvas import PALETTE
from gradaudit.report.figures.forest import ForestRow, forest_plot
from gradaudit.report.figures.svg import ELEMENTS, svg_markup

SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = (
    "<script>alert(1)</script>", "a & b", 'say "x"', "it's", 'id="x1"', "url(#x)", "fill: #ffffff", "> <", "]]>", "<!--", "&lt;",
    "xlink:href", "$x^2$", "ä-日本", 'd="M 1.2345 2"',
)  # fmt: skip


def a_figure(*texts, **options):
    figure = Figure(figsize=(4, 3))
    axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    axes.plot([0.123456, 1, 2], [0.2, 0.4, 0.3], marker="o", color=PALETTE["blue"][0])
    axes.imshow(np.eye(3), extent=(0, 1, 0, 1), interpolation="none")
    for place, text in enumerate(texts):
        axes.text(0.5, place / 10, text, parse_math=False, **options)
    return figure


def tree(figure, anchor="f-1", title="T", description="D"):
    return ElementTree.fromstring(svg_markup(figure, anchor, title, description))


def texts_of(root):
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_is_shown_as_it_is_written(text):
    assert text in texts_of(tree(a_figure(text)))
    root = tree(a_figure(), title=text, description=text)
    assert [root.findtext(f"{SVG}{tag}") for tag in ("title", "desc")] == [text, text]


def test_names_of_groups_with_any_character_can_be_drawn():
    names = [*HOSTILE, "bell\x07", "null\x00", "\ufffe", "two\nlines"]
    rows = [ForestRow(n[:6], n, "1", 0.1, 0.0, 0.2, None, CellState.NOT_JUDGED) for n in names]
    shown = texts_of(tree(forest_plot(rows)))
    assert {"a & b", "it's", "bell", "null", "two lines"} <= {text.strip() for text in shown}


def ids_of(root):
    return [element.get("id") for element in root.iter() if element.get("id")]


def test_ids_are_unique_in_a_page_and_every_reference_finds_its_own():
    roots = [tree(a_figure("x"), anchor) for anchor in ("f-1", "f-11", "f-1-p")]
    every = [name for root in roots for name in ids_of(root)]
    assert len(every) == len(set(every))
    for root in roots:
        names = set(ids_of(root))
        text = ElementTree.tostring(root, encoding="unicode")
        referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert referred
        assert referred <= names
        assert set(root.get("aria-labelledby").split()) <= names


@pytest.mark.parametrize(
    "target", ["https://example.org/x", "javascript:alert(1)", "//example.org", "data:text/html,x"]
)
def test_nothing_runs_and_nothing_refers_outward(target):
    figure = a_figure("kept", url=target, gid='g" onload="alert(1)')
    figure.axes[0].lines[0].set_url(target)
    figure.axes[0].lines[0].set_gid("onload")
    root = tree(figure)
    assert "kept" in texts_of(root)
    allowed = {*(SVG + name for name in ELEMENTS), f"{SVG}title", f"{SVG}desc"}
    assert {element.tag for element in root.iter()} <= allowed
    for element in root.iter():
        assert not [name for name in element.attrib if name.startswith("on") or ":" in name]
        assert re.match(
            r"#f-1-|data:image/png;base64,[A-Za-z0-9+/=]+$", element.get("href", "#f-1-")
        )
    markup = ElementTree.tostring(root, encoding="unicode")
    assert target not in markup
    assert re.findall(r"url\((?!#f-1-)", markup) == []


def test_a_hatched_area_keeps_its_pattern_or_no_fill_at_all():
    figure = Figure(figsize=(2, 2))
    figure.add_axes((0, 0, 1, 1)).bar([0], [1], hatch="/", color="#123456")
    root = tree(figure)
    referred = set(re.findall(r"url\(#([^)]+)\)", ElementTree.tostring(root, encoding="unicode")))
    assert referred <= set(ids_of(root))
    assert any("pattern" in element.tag for element in root.iter())


def test_colours_and_font_are_the_pages_and_paths_are_short():
    root = tree(a_figure("x"))
    styles = " ; ".join(element.get("style", "") for element in root.iter())
    assert f"var(--blue, {PALETTE['blue'][0]})" in styles
    assert "var(--sans, sans-serif)" in styles
    assert "DejaVu" not in styles
    assert "image-rendering: auto" in styles
    numbers = re.findall(r"\d+\.(\d+)", " ".join(e.get("d", "") for e in root.iter()))
    assert numbers
    assert max(map(len, numbers)) == 1
    assert all(e.attrib for e in root.iter(f"{SVG}g"))
