"""Turn a matplotlib figure into SVG that stands inside the page.

Its names, colours and font become the page's, and nothing in it runs or refers outward.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from matplotlib.figure import Figure

from gradaudit.report.figures.canvas import PALETTE, drawing_style

ELEMENTS = (
    "svg",
    "g",
    "defs",
    "clipPath",
    "pattern",
    "rect",
    "path",
    "use",
    "image",
    "text",
    "tspan",
)
"""What a drawing is made of; any other element that matplotlib writes is left out with what it
holds, links excepted: what a link holds is kept.
"""

_TEXTS = ("text", "tspan")
_PAGE_COLOURS = {light: f"var(--{name}, {light})" for name, (light, _) in PALETTE.items()}
_PICTURE = "data:image/png;base64,"


def svg_markup(figure: Figure, anchor: str, title: str, description: str) -> str:
    """The figure as inline ``<svg>`` with a title and a description.

    anchor : start of every id in it, so that figures of one page share none
    """
    drawing = _drawn(figure)
    _keep_known_elements(drawing)
    for element in drawing.iter():
        _strip_layout(element)
        _keep_inner_references(element, anchor)
        _set_name(element, anchor)
        _use_page_style(element, anchor)
        if "d" in element.attrib:
            element.set("d", _rounded(element.attrib["d"]))
    _dissolve_groups(drawing)
    whole = _frame(drawing.get("viewBox", ""), anchor, title, description)
    whole.extend(drawing)
    return ElementTree.tostring(whole, encoding="unicode")


def _drawn(figure: Figure) -> Element:
    """matplotlib's SVG as a tree, names of elements and attributes without their namespaces."""
    buffer = io.StringIO()
    with drawing_style():
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    return root


def _keep_known_elements(parent: Element) -> None:
    for child in list(parent):
        if child.tag == "a":
            child.tag, child.attrib = "g", {}
        if child.tag not in ELEMENTS:
            parent.remove(child)
            continue
        _keep_known_elements(child)


def _strip_layout(element: Element) -> None:
    """Take out the line breaks and spaces between elements; a text keeps its own."""
    if element.tag not in _TEXTS:
        element.text = None
    if element.tag != "tspan":
        element.tail = None


def _keep_inner_references(element: Element, anchor: str) -> None:
    """Drop what would run, or load from elsewhere; references inside the figure follow its names."""
    for name, value in list(element.attrib.items()):
        inner = value.startswith("#") if name == "href" else value.startswith("url(#")
        if inner:
            element.set(name, value.replace("#", f"#{anchor}-", 1))
        elif name == "href" and value.startswith(_PICTURE):
            element.set(name, "".join(value.split()))
        elif name == "href" or name.startswith("on") or (name != "style" and "url(" in value):
            del element.attrib[name]


def _set_name(element: Element, anchor: str) -> None:
    """Put ``anchor`` before the id of an element, or drop the id where nothing refers to it.

    Groups lose theirs, as matplotlib repeats their names between figures; so do images, as equal
    ones would share one id.
    """
    name = element.attrib.pop("id", None)
    if name is not None and element.tag not in ("g", "image"):
        element.set("id", f"{anchor}-{name}")


def _use_page_style(element: Element, anchor: str) -> None:
    """Make the element's colours and font those of the page.

    The pixels of a map are smoothed, and a fill is never loaded from elsewhere.
    """
    if "style" not in element.attrib:
        return
    declared = [part.partition(":") for part in element.attrib["style"].split(";")]
    style = {name.strip(): value.strip() for name, _, value in declared if value.strip()}
    for name, value in style.items():
        style[name] = _PAGE_COLOURS.get(value, value.replace("url(#", f"url(#{anchor}-"))
    if "font-family" in style:
        style["font-family"] = "var(--sans, sans-serif)"
    if "image-rendering" in style:
        style["image-rendering"] = "auto"
    kept = {
        name: value for name, value in style.items() if "url(" not in value.replace("url(#", "")
    }
    element.set("style", "; ".join(f"{name}: {value}" for name, value in kept.items()))


def _rounded(path: str) -> str:
    """Path data with at most one decimal, a tenth of a user unit, on one line."""
    return " ".join(map(_short_number, path.split()))


def _short_number(token: str) -> str:
    whole, _, decimals = token.partition(".")
    return f"{float(token):.1f}" if whole and len(decimals) > 1 else token


def _dissolve_groups(parent: Element) -> None:
    """Put the children of a group that sets nothing in its place; drop paths that draw nothing."""
    children = list(_shown_children(parent))
    parent[:] = children


def _shown_children(parent: Element) -> Iterator[Element]:
    for child in parent:
        _dissolve_groups(child)
        empty = child.tag in ("g", "defs") and not len(child)
        blank = child.tag == "path" and child.attrib.keys() == {"d", "style"}
        if empty or (blank and child.get("style") == "fill: none"):
            continue
        if child.tag == "g" and not child.attrib:
            yield from child
        else:
            yield child


def _frame(view_box: str, anchor: str, title: str, description: str) -> Element:
    names = {"title": f"{anchor}-t", "desc": f"{anchor}-d"}
    frame = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=view_box, role="img")
    frame.set("aria-labelledby", " ".join(names.values()))
    for (tag, name), text in zip(names.items(), (title, description), strict=True):
        SubElement(frame, tag, id=name).text = text
    return frame
