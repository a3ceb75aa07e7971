"""Figures: the data of every shape, recounted from what went in."""

import base64
import io
import re

import numpy as np
import pytest
import random_results
import result_documents as documents
from html_pages import Page
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from gradaudit.records import CellState
from gradaudit.report import blocks
from gradaudit.report.comparisons import LOOKS, read_comparisons
from gradaudit.report.figures.curves import Axes, Curve, curve_plot, percent
from gradaudit.report.figures.distributions import Lane, LevelMean, dot_plot, level_plot, median
from gradaudit.report.figures.heat_maps import (
    SIDE,
    bilinear,
    difference_map,
    even_spreads,
    heat_overlay,
    largest_difference,
    marks_shown,
    mean_map,
    outline_paths,
)
from gradaudit.report.figures.intervals import (
    domain_of,
    forest_line,
    forest_scale,
    strip,
    strip_parts,
    strip_reach,
)
from gradaudit.report.figures.shapes import (
    Dot,
    Path,
    Plot,
    Raster,
    Scale,
    Words,
    apart,
    coordinate,
    ticks,
    wrapped,
)

pytestmark = pytest.mark.xdist_group("report")
NUMBER = r"-?[\d.]+"


def paths(plot, look):
    return [s.d for s in plot.shapes if isinstance(s, Path) and s.look == look]


def dots(plot, look):
    return [s for s in plot.shapes if isinstance(s, Dot) and s.look == look]


def words(plot):
    return [s.text for s in plot.shapes if isinstance(s, Words)]


# ── scales, ticks, texts ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_scale_is_linear_between_its_ends_and_stops_there():
    scale = Scale(-1.0, 3.0, 10.0, 90.0)
    assert [scale.at(v) for v in (-1, 1, 3)] == [10, 50, 90]
    assert [scale.at(v) for v in (-9, 9)] == [10, 90]
    assert scale.place(0.999) == "50"


@pytest.mark.parametrize("ends", [(-0.2, 0.4), (0.0, 1.0), (0.31, 0.34), (-0.9, 0.9)])
def test_ticks_are_round_few_and_inside(ends):
    found = ticks(*ends, 4)
    assert 1 <= len(found) <= 5
    assert all(ends[0] - 1e-9 <= v <= ends[1] + 1e-9 for v in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1].repeat(len(steps)))


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "a name of many words that is long",
        "東京大学医学部附属病院皮膚科病棟",
        "x" * 95,
        "a " + "y" * 30 + " b",
    ],
)
def test_a_long_name_is_wrapped_and_never_cut(text):
    lines = wrapped(text, 12)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(len(line) <= 12 for line in lines)


def test_labels_at_the_ends_of_lines_stand_apart_in_their_order():
    moved = apart([10, 11, 50, 10.5], 12)
    assert moved == [10, 34, 50, 22]
    ordered = sorted(moved)
    assert min(np.diff(ordered)) >= 12


def test_coordinates_are_short():
    assert [coordinate(v) for v in (1.0, 12.345, -0.04, 100)] == ["1", "12.3", "0", "100"]


# ── forest and strip ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(6))
def test_a_forest_row_draws_its_numbers_where_they_are(seed):
    cs = [c for c in read_comparisons(random_results.random_document(seed)) if c.has_number]
    scale = forest_scale(cs)
    low, high = domain_of(cs)
    assert scale.low <= low < high <= scale.high
    for c in cs:
        plot = forest_line(c, scale)
        assert paths(plot, "thin") == [f"M{scale.place(c.thin[0])} 14H{scale.place(c.thin[1])}"]
        assert paths(plot, "thick") == [f"M{scale.place(c.thick[0])} 14H{scale.place(c.thick[1])}"]
        assert paths(plot, "raw") == [f"M{scale.place(c.raw)} 0V6"]
        band = re.match(rf"M({NUMBER}) -1H({NUMBER})V", paths(plot, "band")[0])
        assert (band[1], band[2]) == (scale.place(-0.1), scale.place(0.1))
        marks = [s for s in plot.shapes if isinstance(s, Dot)] + paths(plot, "fill")
        assert len(marks) == 1
        assert f"fs {c.look}" == plot.look


def test_shapes_of_words_differ_without_their_colour():
    cs = [
        c
        for seed in range(6)
        for c in read_comparisons(random_results.random_document(seed))
        if c.has_number
    ]
    cs += [
        c for c in read_comparisons(random_results.random_document(1, margin=None)) if c.has_number
    ]
    scale = forest_scale(cs)
    kinds = {}
    for c in cs:
        plot = forest_line(c, scale)
        (mark,) = [s for s in plot.shapes if getattr(s, "look", "") in ("fill", "hollow", "loose")]
        kinds[c.look] = (
            type(mark).__name__,
            mark.look,
            getattr(mark, "d", "")[-12:].split("l")[-1],
        )
    assert set(kinds) == set(LOOKS) - {"withheld", "not_assessed"}
    assert len({k if n != "differs" else (*k, n) for n, k in kinds.items()}) == len(kinds)


def test_the_strip_says_at_the_declared_limit_what_the_word_says():
    """Beyond, open and within meet at the very limits that the sentence and the table name."""
    seen = set()
    for seed in range(8):
        for c in read_comparisons(random_results.random_document(seed)):
            reach = strip_reach(c)
            if reach is None:
                assert strip(c) is None
                continue
            parts = strip_parts(c, reach)
            assert parts[0][1] == 0
            assert parts[-1][2] == pytest.approx(reach)
            word = next(look for look, start, end in parts if start < c.margin <= end)
            state = {
                "beyond": CellState.BEYOND,
                "open": CellState.OPEN,
                "within": CellState.WITHIN,
            }[word]
            assert state is c.state
            seen.add(state)
    assert len(seen) == 3


# ── distributions and means ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_quantile_is_one_dot_at_its_place():
    rng = np.random.default_rng(3)
    lanes = (
        Lane("a & b", tuple(rng.beta(2, 5, 20)), "g"),
        Lane("b", tuple(rng.beta(2, 9, 20)), "o"),
    )
    plot = dot_plot(lanes, "label")
    top = 1.02 * max(v for lane in lanes for v in lane.values)
    for lane in lanes:
        found = sorted(d.x for d in dots(plot, lane.look))
        wanted = sorted(6 + v / top * 382 for v in lane.values)
        assert len(found) == 20
        assert np.abs(np.array(found) - wanted).max() <= 3.7  # half a dot and its gap
        places = {(d.x, round(d.y, 3)) for d in dots(plot, lane.look)}
        assert len(places) == 20  # none hides another
        shown = f"{lane.label}: median {100 * np.median(lane.values):.0f}\u202f%"
        assert shown in words(plot)
    assert all(0 <= d.y <= plot.height for d in (*dots(plot, "g"), *dots(plot, "o")))
    assert median([3, 1]) == 2


def test_means_of_levels_are_joined_in_order_with_their_intervals():
    levels = [
        LevelMean("I–II", 0.1, (0.05, 0.15)),
        LevelMean("75 and older than everybody else", 0.4),
        LevelMean("c", 0.2, (0.1, 0.3)),
    ]
    plot = level_plot(levels, "x")
    line = [tuple(map(float, p.split())) for p in paths(plot, "lo")[0][1:].split("L")]
    circles = dots(plot, "t")
    assert np.array([(d.x, d.y) for d in circles]) == pytest.approx(np.array(line), abs=0.06)
    slope = (line[1][0] - line[0][0]) / 0.3
    assert line[2][0] == pytest.approx(line[0][0] + 0.1 * slope, abs=0.2)
    assert len(paths(plot, "thin")) == 2
    assert "".join("".join(words(plot)[1:3]).split()).startswith(
        "75andolderthan"
    ) or "75 and older than" in words(plot)
    assert {"10\u202f%", "40\u202f%", "20\u202f%"} <= set(words(plot))


def test_a_curve_lies_in_its_band_and_both_keep_the_axis():
    points = tuple((20 + 5 * n, 0.2 + 0.01 * n) for n in range(13))
    band = tuple((x, y - 0.05, y + 0.08) for x, y in points)
    plot = curve_plot((Curve("", points, band, False),), Axes(str, "age"), "x")
    area = [tuple(map(float, p.split())) for p in paths(plot, "area")[0][1:-1].split("L")]
    line = [tuple(map(float, p.split())) for p in paths(plot, "k0")[0][1:].split("L")]
    assert len(area) == 26
    for (x, y), upper, lower in zip(line, area[:13], reversed(area[13:]), strict=True):
        assert upper[0] == pytest.approx(x, abs=0.11)
        assert upper[1] < y < lower[1]
        assert (y - upper[1]) / (lower[1] - y) == pytest.approx(8 / 5, abs=0.1)


def test_calibration_has_a_diagonal_and_every_line_its_name():
    curves = tuple(
        Curve(name, ((0.5, 0.5), (0.9, 0.8))) for name in ("a", "b", "a very long name of a level")
    )
    plot = curve_plot(curves, Axes(percent, "confidence", square=True), "x")
    (diagonal,) = paths(plot, "ref")
    ends = [float(v) for v in re.findall(NUMBER, diagonal)]
    first = [float(v) for v in re.findall(NUMBER, paths(plot, "k0")[0])]
    assert first[1] == pytest.approx((ends[1] + ends[3]) / 2, abs=0.1)  # 0.5 lies on it
    assert first[3] > ends[1] + 0.9 * (ends[3] - ends[1])  # 0.8 at 0.9 lies below
    assert {"a", "b", "a very long name of", "a level"} <= set(words(plot))
    assert len({s.look for s in plot.shapes if isinstance(s, Path) and s.look.startswith("k")}) == 3


# ── maps ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def pixels(uri: str, mode: str = "RGB") -> np.ndarray:
    picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    return np.asarray(picture.convert("RGBA").convert(mode))


def test_bilinear_follows_the_half_pixel_rule():
    grid = np.array([[0.0, 4.0]])
    assert bilinear(grid, 1, 4)[0] == pytest.approx([0, 1, 3, 4])
    assert bilinear(np.full((3, 2), 7.0), 9, 5) == pytest.approx(np.full((9, 5), 7.0))


def test_heat_overlay_is_relu_scaled_and_transparent_at_zero():
    picture = pixels(heat_overlay([[-5.0, 0.0], [0.0, 2.0]], 40, 40), "RGBA")
    alpha = picture[..., 3]
    assert picture.shape[:2] == (40, 40)
    assert alpha[0, 0] == 0
    assert alpha[-1, -1] == round(255 * 0.8)
    assert (np.diff(alpha.astype(int), axis=1) >= 0).all()
    assert [heat_overlay(grid, 8, 8) for grid in ([[-1.0]], [[float("nan")]], [[0.0]], [])] == [
        ""
    ] * 4
    assert pixels(heat_overlay([[1.0]], 512, 256)).shape[:2] == (24, 48)


def test_mean_maps_share_one_scale_in_times_an_even_spread():
    flat, peaked = np.full((2, 2), 0.25).tolist(), [[0.7, 0.1], [0.1, 0.1]]
    assert even_spreads(peaked).max() == pytest.approx(2.8)
    one, other = (mean_map(grid, 2.8, None, "x").shapes[0].href for grid in (flat, peaked))
    assert pixels(one).std(axis=(0, 1)).max() == 0
    bright = pixels(other).sum(axis=2)
    assert bright[0, 0] == bright.max()
    low = pixels(mean_map(flat, 1.0, None, "x").shapes[0].href).sum(axis=2)
    assert low[0, 0] > pixels(one).sum(axis=2)[0, 0]


def test_outlines_are_drawn_at_a_tenth_and_a_half_and_only_where_they_exist():
    cover = np.zeros((12, 12))
    cover[4:8, 4:8] = 0.3
    found = outline_paths(cover.tolist(), SIDE)
    assert [s.look for s in found] == ["c10"]
    places = np.array(
        [[float(v) for v in p.split()] for p in re.findall(rf"{NUMBER} {NUMBER}", found[0].d)]
    )
    assert (places.min(0) > 3.4 * 16).all()
    assert (places.max(0) < 8.6 * 16).all()
    assert [s.look for s in outline_paths((2 * cover).tolist(), SIDE)] == ["c10", "c50"]
    assert outline_paths(None, SIDE) == outline_paths([[1.0]], SIDE) == []


def test_a_difference_map_has_zero_in_the_middle_and_one_limit_for_the_report():
    grids = [[[0.0, 0.02], [-0.04, 0.0]], [[0.01, 0.0], [0.0, 0.0]]]
    limit = largest_difference(grids)
    assert limit == 0.04
    first, second = (difference_map(g, [[0, 1], [0, 0]], limit, None, "x") for g in grids)
    colours = pixels(first.shapes[0].href).astype(int)
    assert np.ptp(colours[0, 0]) < 12  # nearly grey: no difference
    assert colours[0, 1][0] > colours[0, 1][2]  # more: orange
    assert colours[1, 0][2] > colours[1, 0][0]  # less: purple
    weak = pixels(second.shapes[0].href).astype(int)
    assert np.abs(weak[0, 0] - 245).sum() < np.abs(colours[0, 1] - 245).sum()
    assert "−4.0\u202f%" in words(first)
    assert "+4.0\u202f%" in words(second)


def test_dots_mark_the_rarer_kind_of_cell():
    few, many = [[1, 0], [0, 0]], [[1, 1], [1, 0]]
    assert marks_shown(few)
    assert not marks_shown(many)
    at = [(d.x, d.y) for d in dots(difference_map([[0.1] * 2] * 2, few, 0.1, None, "x"), "mark")]
    assert at == [(SIDE / 4, SIDE / 4)]
    at = [(d.x, d.y) for d in dots(difference_map([[0.1] * 2] * 2, many, 0.1, None, "x"), "mark")]
    assert at == [(3 * SIDE / 4, 3 * SIDE / 4)]


# ── markup ──────────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = (
    "<script>alert(1)</script>",
    "a & b",
    'say "x"',
    "it's",
    "]]>",
    "<!--",
    "&lt;",
    "$x^2$",
    "ä-日本",
    "{{7*7}}",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_label_is_shown_as_it_is_written(text):
    folder = str(__import__("pathlib").Path(blocks.__file__).parent)
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True)
    environment.filters["coordinate"] = coordinate
    module = environment.get_template("figures.html").module
    plot = Plot(10, 10, (Words(0, 0, text), Raster("data:image/png;base64,AA", 0, 0, 1, 1)), text)
    page = Page(str(module.plot(plot)))
    assert page.wrong == page.open == []
    assert page.text == " ".join(text.split())
    assert page.named("svg")[0]["aria-label"] == text
    assert [tag for tag, _ in page.tags] == ["svg", "text", "image"]


def test_every_plot_has_a_name_or_words_beside_it():
    html = documents.Rendered()["shortcut"]
    for found in re.findall(r"<svg[^>]*>", html):
        assert 'role="img" aria-label="' in found or "aria-hidden" in found
