"""Numbers as text: the awkward values, the agreement of sentence, table and figure, and that no other module formats."""

import ast
import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradaudit import number_text as words

PACKAGE = Path(__file__).parents[1] / "gradaudit"
NAN = float("nan")


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (0.0, 0, "0"), (1.0, 0, "100"), (0.0, 1, "0.0"), (1.0, 1, "100.0"), (0.312, 1, "31.2"),
        (0.004, 0, "0.4"), (0.005, 0, "0.5"), (0.996, 0, "99.6"), (0.994, 0, "99"), (0.9996, 0, "99.96"), (0.9996, 1, "99.96"),
        (0.0004, 1, "0.04"), (1e-9, 0, "< 0.000001"), (1 - 1e-9, 1, "> 99.999999"),
        (-0.0, 1, "0.0"), (-1e-17, 1, "0.0"), (1 - 1e-16, 0, "100"), (-1e-9, 1, "0.0"), (1 + 1e-9, 0, "100"),
        (-0.0004, 1, "−0.04"), (-0.012, 1, "−1.2"), (1.0004, 1, "100.04"), (2.5, 0, "250"), (None, 1, "–"), (NAN, 1, "–"), (math.inf, 1, "–"),
    ],
)  # fmt: skip
def test_only_none_and_all_are_0_and_100_percent(share, digits, text):
    assert words.percent_number(share, digits) == text
    shown = words.share_percent(share, digits)
    assert shown == (text if text == "–" else f"{text}\u202f%")
    assert words.share_percent(share, digits, space=" ") == shown.replace("\u202f", " ")


@given(st.floats(1e-11, 1 - 1e-11), st.integers(0, 3))
@settings(deadline=None)
def test_a_share_between_none_and_all_never_reads_as_either(share, digits):
    text = words.percent_number(share, digits)
    assert text[0] in "<>" or 0 < float(text) < 100


def test_a_signed_share_bears_its_sign():
    assert words.share_percent(0.5, signed=True) == "+50.0\u202f%"
    assert words.share_percent(-0.25, signed=True, space=" ") == "−25.0 %"
    assert words.share_percent(0.0, signed=True, space=" ") == "0.0 %"


@pytest.mark.parametrize(
    ("share", "in_table", "in_text"),
    [
        (0.19, "+19.0", "+19"), (-0.032, "−3.2", "−3.2"), (0.0, "0.0", "0.0"), (-0.0, "0.0", "0.0"), (-0.00001, "0.0", "0.0"),
        (-0.0004, "0.0", "0.0"), (-0.0006, "−0.1", "−0.1"), (0.0996, "+10.0", "+10"), (-0.0996, "−10.0", "−10"), (0.0994, "+9.9", "+9.9"),
        (0.1, "+10.0", "+10"), (None, "–", "–"), (NAN, "–", "–"),
    ],
)  # fmt: skip
def test_points_have_one_digit_below_ten_and_none_from_ten_on(share, in_table, in_text):
    assert words.points(share) == in_table
    assert words.points(share, words.share_digits(share)) == in_text
    assert words.points(share, signed=False) == in_table.removeprefix("+")


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "< 0.001"), (0.0005, "< 0.001"), (0.000999, "< 0.001"), (0.001, "0.001"), (0.25, "0.250"), (0.9996, "1.000"), (1.0, "1.000"),
        (None, "–"), (NAN, "–"),
    ],
)  # fmt: skip
def test_p_is_said_down_to_a_thousandth(p, text):
    assert words.p_value(p, space=" ") == text
    assert words.p_value(p) == text.replace(" ", "\u202f")


def test_counts_set_their_thousands_apart():
    assert [words.count(n) for n in (0, 999, 1_000, 12_480, 10**6, None)] == [
        "0", "999", "1\u202f000", "12\u202f480", "1\u202f000\u202f000", "–",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text", "signed"),
    [
        (1.254, "1.25", "+1.25"), (-0.004, "0.00", "0.00"), (-0.0, "0.00", "0.00"), (0.004, "0.00", "0.00"), (-1.5, "−1.50", "−1.50"),
        (None, "–", "–"), (NAN, "–", "–"), (-math.inf, "–", "–"),
    ],
)  # fmt: skip
def test_zero_has_no_sign(value, text, signed):
    assert words.decimal(value) == text
    assert words.decimal(value, signed=True) == signed


def test_what_is_not_known_has_no_interval():
    assert words.interval(0.141, 0.24, words.percent_number) == "14.1 to 24.0"
    assert words.interval(-0.02, 0.0004, words.points) == "−2.0 to 0.0"
    assert words.interval(0.26, 0.36, words.percent_number, "–") == "26.0–36.0"
    for ends in ((None, 0.2), (0.2, None), (NAN, 0.2), (0.2, math.inf)):
        assert words.interval(*ends, words.points) == ""
        assert words.share_interval(*ends) == ""


def test_the_interval_of_a_share_stays_between_none_and_all():
    assert words.share_interval(-0.012, 0.05) == "0.0 to 5.0"
    assert words.share_interval(0.92, 1.02, joined="–") == "92.0–100.0"
    assert words.share_interval(0.0004, 0.9996) == "0.04 to 99.96"


def test_what_was_declared_is_told_as_it_was_declared():
    assert [words.declared_points(m) for m in (0.05, 0.07, 0.125, 0.0333, 0.12345, None, NAN)] == [
        "5", "7", "12.5", "3.33", "12.345", "–", "–",
    ]  # fmt: skip
    assert words.declared_percent(1 - 0.05) == "95\u202f%"
    assert words.declared_percent(1 - 0.005, space=" ") == "99.5 %"


def test_numbers_of_the_data_are_as_the_data_hold_them():
    assert [words.plain_number(v) for v in (0.05, 1024.0, -3.0, 1e7)] == [
        "0.05",
        "1024",
        "-3",
        "1e+07",
    ]
    assert [words.plain_number(v, 2) for v in (0.0123, 1234.0, NAN)] == ["0.012", "1200", "nan"]
    assert words.significant(0.012345, 3) == 0.0123
    assert words.significant(2019.7, 4) == 2020.0
    assert math.isnan(words.significant(NAN, 3))


def test_unequal_shares_are_told_apart_and_equal_ones_told_once():
    assert words.told_apart(0.02, 0.0204, 1) == ("2.00 %", "2.04 %")
    assert words.told_apart(0.2, 0.2, 0) == ("20 %", "20 %")
    assert words.told_apart(0.5, 0.5 + 1e-12, 0) == ("50.000000 %", "50.000000 %")
    assert words.one_percent([0.8, 0.801], 0) == "80 %"
    assert words.one_percent([0.8, 0.81], 0) == ""


# ── one place ───────────────────────────────────────────────────────────────────────────────────────────────────────

NUMBER_FORMAT = re.compile(r"[,_]|\.\{?\w*\}?[fFgGeE%n]?$|[fFgGeE%]$")
IN_A_STRING = re.compile(
    r"\{[\w.]*:[-+<>=^0-9]*(?:[,_]|\.\d+|[fFgGeE%](?=\}))[\w%]*\}|%[-+ 0]*\d*\.\d+[fgeFGE]"
)
COORDINATES = {"measurement/thumbnails.py"}
"""Coordinates of SVG paths: a file format."""


def formats_of(tree: ast.AST) -> list[str]:
    """Format specs for floats, percent or thousands: of f-strings, ``format`` and ``str.format``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            spec = ast.unparse(node.format_spec)[2:-1]
            found += [spec] if NUMBER_FORMAT.search(spec) else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += IN_A_STRING.findall(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "format":
            specs = [a.value for a in node.args[1:] if isinstance(a, ast.Constant)]
            found += [spec for spec in specs if NUMBER_FORMAT.search(spec)]
    return found


def test_numbers_are_formatted_in_one_module():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        if not place.startswith("demos/") and place != "number_text.py":
            formats = formats_of(ast.parse(path.read_text(encoding="utf-8")))
            if formats:
                found[place] = formats
    assert {place: f for place, f in found.items() if place not in COORDINATES} == {}
    assert {place: set(f) for place, f in found.items()} == {
        place: {".1f"} for place in COORDINATES
    }


@pytest.mark.parametrize(
    "code",
    ['f"{x:.1f}"', 'f"{n:,}"', 'f"{s:.0%}"', 'f"{x:.2g}"', 'f"{x:g}"', 'f"{x:+.{d}f}"', 'f"{x:.{d}%}"', '"{:.4g}".format(x)', '"{x:,}".format(x=n)', '"{:.0%}".format(s)', '"{0:g}".format(s)', '"%.3f" % x', 'format(x, ".2f")'],
)  # fmt: skip
def test_a_format_elsewhere_would_be_seen(code):
    assert formats_of(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    ['f"{i:04d}"', 'f"{b:02x}"', 'f"{name:<20}"', 'f"{x!r}"', '"{:root{color}}"', '"a 5 % share"', '"{region: (h, w)}"', 'format("x", form)'],
)  # fmt: skip
def test_file_names_and_columns_are_no_number_formats(code):
    assert not formats_of(ast.parse(code))


def test_what_is_counted_has_the_reader_s_word_in_one_and_in_many():
    assert words.Noun.of("patient") == words.Noun("patient", "patients")
    assert words.Noun.of("person/people") == words.Noun("person", "people")
    assert words.Noun.of("patient").counted(1) == "1 patient"
    assert words.Noun.of("patient").counted(1200) == f"1{words.NARROW_SPACE}200 patients"
    said = words.Noun.of("person/people").said_in("fewer than 10 clusters; one cluster, cluster-wise, n_clusters, clusters.")  # fmt: skip
    assert said == "fewer than 10 people; one person, cluster-wise, n_clusters, people."
