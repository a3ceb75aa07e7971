"""Sentences that are true: no level beside itself, nothing called left out that was not, no word and no band where no limit was set."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import result_documents as documents
from compared_groups import a_plan, audited, measured
from hand_measurements import OPEN, by_hand, sample
from html_pages import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_files import files_in
from scipy import special

from gradaudit.analysis.data_checks import data_checks
from gradaudit.analysis.descriptives import describe
from gradaudit.analysis.findings import analyze
from gradaudit.analysis.verdict import audit_verdict
from gradaudit.plan import Plan
from gradaudit.records import ALL, CellState
from gradaudit.report.blocks import Details, Facts, Table
from gradaudit.report.comparisons import read_comparisons, row_name
from gradaudit.report.figures.intervals import forest_line, forest_scale
from gradaudit.report.glossary import TERMS
from gradaudit.report.render import (
    json_schema,
    render_fragment,
    render_html,
    render_markdown,
)
from gradaudit.report.sections.data import flow_blocks, group_table, missing_blocks
from gradaudit.report.sections.overview import APPENDIX
from gradaudit.result_schema import AUDIT_STATE_MEANINGS, FlowRow, HeatRow, PerformanceRow, Tables
from gradaudit.runs.measurements import Measurements
from gradaudit.subgroups.comparison import disparity
from gradaudit.subgroups.levels import percentile_names

pytestmark = pytest.mark.xdist_group("report")

COMPARING = ("GA408", "GA409", "GA410", "GA411", "GA413")
"""Checks that name the two levels which lie farthest apart."""


# ── no level beside itself ──────────────────────────────────────────────────────────────────────────────────────────


def tables(levels, analysed, area, benign, undefined, accuracy, attribute="tone"):
    """The withheld tables that the checks read, with one value per level; ``undefined``: one tuple per method."""
    flow = [
        FlowRow(
            attribute=ALL,
            level=ALL,
            n_manifest=900,
            n_readable=900,
            n_mask_usable=900,
            n_heat_usable=900,
            n_analysed=900,
            n_clusters=400,
        )
    ]
    heat, performance = [], []
    for k, level in enumerate(levels):
        n = round(1000 * analysed[k])
        prevalence = {"benign": benign[k], "malignant": 1 - benign[k]}
        counts = {
            "n_manifest": 1000,
            "n_readable": 1000,
            "n_mask_usable": 1000,
            "n_heat_usable": n,
            "n_analysed": n,
            "n_clusters": 400,
        }
        flow.append(
            FlowRow(
                attribute=attribute,
                level=level,
                **counts,
                label_prevalence=prevalence,
                area_share={"lesion": area[k]},
            )
        )
        for method, shares in enumerate(undefined):
            place = {
                "attribute": attribute,
                "level": level,
                "region": "lesion",
                "method": f"method{method}",
                "target": "predicted",
            }
            heat.append(HeatRow(**place, n_images=400, n_clusters=400, undefined_share=shares[k]))
        performance.append(
            PerformanceRow(
                attribute=attribute,
                level=level,
                metric="accuracy",
                estimate=accuracy[k],
                n_images=400,
            )
        )
    return Tables(flow=tuple(flow), heat=tuple(heat), performance=tuple(performance))


def said_of(parts, plan=OPEN):
    """Code -> (state, detail) of the checks that compare levels."""
    return {
        c.code: (c.state, c.detail)
        for c in data_checks(by_hand(), plan, parts)
        if c.code in COMPARING
    }


def same_for(levels, **values):
    given_ = {
        "analysed": 1.0,
        "area": 0.1,
        "benign": 0.4,
        "undefined": 0.0,
        "accuracy": 0.8,
        **values,
    }
    each = {name: (value,) * len(levels) for name, value in given_.items()}
    return tables(levels, **(each | {"undefined": (each["undefined"],)}))


def test_levels_that_are_all_equal_are_called_equal_and_none_is_set_against_itself():
    for code, (state, detail) in said_of(same_for(["Ia", "IIb", "IIIc"])).items():
        assert state == "passed", detail
        assert not re.search(r"\b(Ia|IIb|IIIc)\b", detail), (code, detail)
        assert "at most" not in detail
        assert "largest ratio" not in detail


def test_what_is_the_same_in_every_level_is_said_with_its_number():
    said = {
        code: detail
        for code, (_, detail) in said_of(
            same_for(["Ia", "IIb"], analysed=0.97, undefined=0.021)
        ).items()
    }
    assert (
        said["GA408"]
        == "Exclusions are alike across groups: 97 % of the images could be analysed in every level shown."
    )
    assert (
        said["GA409"]
        == "Region sizes are alike: each region covers the same part of the image in every level shown."
    )
    assert said["GA410"] == "The mix of labels is the same in every level shown."
    assert (
        said["GA411"]
        == "Undefined heat is equally frequent in every level shown: 2.1 % of the heat maps."
    )
    assert said["GA413"] == "The model performs alike: accuracy is 80 % in every level shown."


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_two_tied_levels_and_a_third_name_the_third_and_one_of_the_two(order):
    names = ["Ia", "IIb", "IIIc"]
    pick = [names[k] for k in order]
    values = {
        "analysed": (0.99, 0.99, 0.97),
        "area": (0.11, 0.11, 0.1),
        "benign": (0.4, 0.4, 0.45),
        "accuracy": (0.8, 0.8, 0.75),
    }
    moved = {name: tuple(v[k] for k in order) for name, v in values.items()}
    said = said_of(tables(pick, undefined=(tuple((0.01, 0.01, 0.03)[k] for k in order),), **moved))
    assert {state for state, _ in said.values()} == {"passed"}
    for code, (_, detail) in said.items():
        named = re.findall(r"\b(Ia|IIb|IIIc)\b", detail)
        assert len(named) == 2, (code, detail)
        assert named.count("IIIc") == 1, (code, detail)


def test_one_level_alone_is_compared_with_nothing():
    assert {state for state, _ in said_of(same_for(["Ia"])).values()} == {"not_applicable"}


def test_two_methods_are_two_comparisons_of_undefined_heat():
    """The same level has a share per method: they are no two groups."""
    said = said_of(
        tables(
            ["Ia", "IIb"], (1, 1), (0.1, 0.1), (0.4, 0.4), ((0.02, 0.02), (0.30, 0.30)), (0.8, 0.8)
        )
    )
    state, detail = said["GA411"]
    assert state == "passed", detail
    assert not re.search(r"\b(Ia|IIb)\b", detail), detail
    state, detail = said_of(
        tables(
            ["Ia", "IIb"], (1, 1), (0.1, 0.1), (0.4, 0.4), ((0.02, 0.02), (0.10, 0.30)), (0.8, 0.8)
        )
    )["GA411"]
    assert state == "issue"
    assert detail == (
        "Undefined heat differs between groups: 30.0 % of the heat maps of tone = IIb are undefined, 10.0 % of Ia (method1). "
        "The shares compare those that are left."
    )


@pytest.mark.parametrize(
    ("code", "values", "words"),
    [
        ("GA408", {"analysed": (0.998, 0.97)}, "97 % of the images of tone = IIb could be analysed, 99.8 % of Ia"),
        ("GA413", {"accuracy": (0.996, 0.97)}, "accuracy is 97 % in tone = IIb and 99.6 % in Ia"),
        ("GA413", {"accuracy": (0.004, 0.0)}, "accuracy is 0 % in tone = IIb and 0.4 % in Ia"),
        ("GA411", {"undefined": ((0.0004, 0.0),)}, "0.04 % of the heat maps of tone = Ia are undefined, 0.0 % of IIb"),
        ("GA410", {"benign": (0.9996, 0.95)}, "99.96 % of tone = Ia"),
    ],
)  # fmt: skip
def test_a_share_is_called_0_or_100_only_where_it_is(code, values, words):
    given_ = {
        "analysed": (1, 1),
        "area": (0.1, 0.1),
        "benign": (0.4, 0.4),
        "undefined": ((0.0, 0.0),),
        "accuracy": (0.8, 0.8),
        **values,
    }
    state, detail = said_of(tables(["Ia", "IIb"], **given_))[code]
    assert state == "passed"
    assert words in detail


def test_levels_that_differ_by_less_than_the_last_digit_are_called_the_same():
    state, detail = said_of(
        tables(
            ["Ia", "IIb"],
            (0.971, 0.969),
            (0.10001, 0.1),
            (0.401, 0.399),
            ((0.0201, 0.0199),),
            (0.802, 0.798),
        )
    )["GA413"]
    assert (state, detail) == (
        "passed",
        "The model performs alike: accuracy is 80 % in every level shown.",
    )
    said = said_of(
        tables(
            ["Ia", "IIb"],
            (0.971, 0.969),
            (0.10001, 0.1),
            (0.401, 0.399),
            ((0.0201, 0.0199),),
            (0.802, 0.798),
        )
    )
    for _, detail in said.values():
        assert not re.search(r"\b(Ia|IIb)\b", detail), detail


def test_the_largest_ratio_of_region_sizes_names_region_and_levels():
    said = said_of(
        tables(["Ia", "IIb"], (1, 1), (0.12, 0.1), (0.4, 0.4), ((0.0, 0.0),), (0.8, 0.8))
    )
    assert said["GA409"] == (
        "passed",
        "Region sizes are alike; farthest apart: lesion covers 12.0 % of the image in tone = Ia and 10.0 % in IIb.",
    )


def test_the_attribute_with_the_largest_ratio_is_named_and_not_the_one_with_the_largest_difference():
    wide = same_for(["Ia", "IIb"]).flow
    sizes = {"Ia": 0.60, "IIb": 0.50, "IIIc": 0.12, "IVd": 0.09}
    steep = [
        r.model_copy(update={"attribute": "sex", "level": {"Ia": "IIIc", "IIb": "IVd"}[r.level]})
        for r in wide[1:]
    ]
    flow = tuple(
        r if r.level == ALL else r.model_copy(update={"area_share": {"lesion": sizes[r.level]}})
        for r in (*wide, *steep)
    )
    state, detail = said_of(replace(same_for(["Ia", "IIb"]), flow=flow))["GA409"]
    assert state == "issue"
    assert "(lesion covers 12.0 % of the image in sex = IIIc and 9.0 % in IVd)" in detail


def test_two_shares_that_differ_beyond_a_small_margin_are_written_so_that_they_differ():
    parts = tables(["Ia", "IIb"], (1, 1), (0.1, 0.1), (0.4, 0.4), ((0.0200, 0.0204),), (0.8, 0.8))
    state, detail = said_of(
        parts, OPEN.updated(criteria={"margin": 0.1, "undefined_margin": 0.0001})
    )["GA411"]
    assert state == "issue"
    assert "2.04 % of the heat maps of tone = IIb are undefined, 2.00 % of Ia" in detail


def test_every_region_whose_size_differs_is_counted():
    sizes = {f"region{k}": 0.05 for k in range(6)}
    parts = same_for(["Ia", "IIb"])
    flow = [
        r
        if r.level != "Ia"
        else r.model_copy(update={"area_share": {k: 2 * v for k, v in sizes.items()}})
        for r in parts.flow
    ]
    flow = [r if r.level != "IIb" else r.model_copy(update={"area_share": sizes}) for r in flow]
    state, detail = said_of(replace(parts, flow=tuple(flow)))["GA409"]
    assert state == "issue"
    assert detail.count("covers") == 4
    assert "; and 2 more regions)" in detail


def test_labels_of_the_label_check_are_called_labels():
    parts = same_for(["Ia", "IIb"])
    mix = {"Ia": {"9": 0.2, "(other)": 0.8}, "IIb": {"9": 0.15, "(other)": 0.85}}
    flow = tuple(
        r.model_copy(update={"label_prevalence": mix.get(r.level, {})}) for r in parts.flow
    )
    assert said_of(replace(parts, flow=flow))["GA410"] == (
        "passed",
        "The mix of labels is alike; farthest apart: label 9 makes up 20 % of tone = Ia and 15 % of IIb.",
    )
    mix = {"Ia": {"9": 0.2, "(other)": 0.8}, "IIb": {"9": 0.5, "(other)": 0.5}}
    flow = tuple(
        r.model_copy(
            update={
                "label_prevalence": {"(other)": mix[r.level]["(other)"]} if r.level in mix else {}
            }
        )
        for r in parts.flow
    )
    assert (
        "the rarer labels together make up 80 % of tone = Ia and 50 % of IIb"
        in said_of(replace(parts, flow=flow))["GA410"][1]
    )


NAMES = ["Ia", "IIb", "IIIc", "IVd", "Ve"]
SHARES = st.sampled_from([0.0, 0.004, 0.5, 0.5004, 0.51, 0.62, 0.96, 0.996, 1.0])


@st.composite
def random_tables(draw):
    levels = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=5))
    values = {
        name: tuple(draw(st.lists(SHARES, min_size=len(levels), max_size=len(levels))))
        for name in ("analysed", "area", "benign", "accuracy")
    }
    undefined = tuple(
        tuple(draw(st.lists(SHARES, min_size=len(levels), max_size=len(levels))))
        for _ in range(draw(st.integers(1, 2)))
    )
    return tables(levels, undefined=undefined, **values)


def beside_itself(text, levels=NAMES):
    """Levels named twice in one clause of a sentence; clauses end at semicolons and full stops, so that each compares one thing."""
    found = []
    for clause in re.split(r"[;.](?=\s|$)", text):
        found += [
            level
            for level in levels
            if len(re.findall(rf"(?<![\w–-]){re.escape(level)}(?![\w–-])", clause)) > 1
        ]
    return found


@given(random_tables())
@settings(deadline=None, max_examples=200)
def test_no_check_ever_sets_a_level_against_itself(parts):
    for code, (_, detail) in said_of(parts).items():
        assert beside_itself(detail) == [], (code, detail)
        assert "at most" not in detail
        assert not re.search(r"\b1[1-9]\d ?%|\b[2-9]\d\d ?%", detail), (
            detail
        )  # no share above 100 %


def few_levels(seed):
    """Random measurements with ties: one to three levels, of which some hold the same values, some are small, some unknown."""
    rng = np.random.default_rng(seed)
    meas = sample(
        int(rng.integers(30, 300)),
        rng,
        levels=tuple(NAMES[: rng.integers(1, 4)]),
        failing=rng.choice([0.0, 0.1]),
        cold=rng.choice([0.0, 0.2]),
    )
    images, table = meas.images.copy(), meas.table.copy()
    images["subgroup.age"] = np.where(
        rng.random(len(images)) < rng.choice([0.0, 0.95]),
        0.0,
        rng.integers(2015, 2021, len(images)),
    ).astype(str)
    if rng.random() < 0.5:  # everybody's heat is the same
        table["heat_share"] = np.where(table["heat_share"].notna(), 0.25, np.nan)
    if rng.random() < 0.5:
        table["area_share"] = np.where(table["area_share"].notna(), 0.1, np.nan)
    if rng.random() < 0.3:
        images.loc[images.index[:20], "subgroup.tone"] = None
    return Measurements(table, images, None, meas.run)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow
def test_no_sentence_of_a_random_audit_sets_a_level_against_itself(seed):
    rng = np.random.default_rng(1000 + seed)
    ends = {"tone": {"order": NAMES[:3]}} if rng.random() < 0.5 else {}
    margin = {"criteria": {"margin": 0.1}} if rng.random() < 0.5 else {}
    plan = Plan(
        privacy={"min_cell": int(rng.choice([1, 11]))}, analysis={"permutations": 199}
    ).updated(subgroups=ends | {"age": {"kind": "continuous"}}, **margin)
    meas = few_levels(seed)
    findings, cells, _ = audited(meas, plan)
    parts = describe(meas, plan, findings)
    verdict = audit_verdict(findings, cells, plan, parts.performance)
    texts = [f.sentence for f in findings] + [c.detail for c in parts.checks] + list(parts.limits)
    texts += [verdict.headline, *verdict.sentences, *verdict.cannot_tell, *verdict.reasons]
    for text in texts:
        assert beside_itself(text) == [], text
        ends_named = re.search(
            r"from (.+?) (?:\(10th percentile\) )?to (.+?)(?: \(90th percentile\))?[:,]", text
        )
        assert ends_named is None or ends_named[1] != ends_named[2], text


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (31.24, 72.36, ("P90 (72.4)", "P10 (31.2)")),
        (2016, 2020, ("P90 (2020)", "P10 (2016)")),
        (2015.3, 2026.1, ("P90 (2026)", "P10 (2015)")),
        (0, 1, ("P90 (1)", "P10 (0)")),
        (-3.21, 0.5, ("P90 (0.5)", "P10 (-3.21)")),
        (1e-6, 3e-6, ("P90 (0.000003)", "P10 (0.000001)")),
        (1200.0, 56789.0, ("P90 (56800)", "P10 (1200)")),
        (100.0001, 100.0002, ("P90 (100.0002)", "P10 (100.0001)")),
        (7, 7, ("P90", "P10")),
    ],
)
def test_the_two_ends_of_a_slope_are_told_apart_and_written_out(low, high, names):
    assert percentile_names(low, high) == names


@pytest.mark.parametrize("within", [None, True])
def test_an_attribute_of_one_value_between_its_percentiles_has_no_slope(within):
    rng = np.random.default_rng(0)
    age = np.where(np.arange(400) % 25 == 0, rng.uniform(1, 9, 400), 5.0)
    found = disparity(
        rng.random(400),
        age,
        continuous=True,
        permutations=99,
        clusters=np.repeat(np.arange(100), 4),
        within=within,
    )
    lines = [c for c in found.contrasts if c.kind != "curve"]
    assert lines
    for c in lines:
        assert (c.group, c.reference, c.reason) == (
            "P90",
            "P10",
            "the attribute has one value from its 10th to its 90th percentile",
        )
        assert np.isnan(c.estimate)


# ── where no limit was set, no word and no band says so ─────────────────────────────────────────────────────────────


def margins_and_none():
    """A real audit with every kind of finding: decisive ones with a margin, exploratory ones and departures without."""
    return analyze(
        measured(3, gap=0.08, absent=(0.1, 0.1, 0.3), undefined=(0.02, 0.02, 0.1)), a_plan()
    )


def document_of(findings, margin=0.05):
    source = documents.met_document() if margin is not None else documents.no_criteria_document()
    return source.model_copy(update={"findings": tuple(findings), "cells": ()})


@pytest.fixture(scope="module")
def judged():
    return margins_and_none()


@pytest.fixture(scope="module")
def unjudged():
    return analyze(measured(3, gap=0.08), a_plan(criteria=None))


def test_the_band_stands_behind_rows_with_a_margin_and_behind_no_other(judged):
    found = {True: 0, False: 0}
    by_anchor = {f.anchor: f for f in judged}
    told = [c for c in read_comparisons(document_of(judged)) if c.has_number]
    wanted = [
        f
        for f in judged
        if f.code in ("GA101", "GA102", "GA103", "GA105")
        and (f.raw.estimate, f.adjusted.estimate) != (None, None)
    ]
    assert len(told) == len(wanted)
    for c in told:
        f = by_anchor[c.anchor]
        plot = forest_line(c, forest_scale([c]))
        looks = [shape.look for shape in plot.shapes]
        assert ("band" in looks) == (f.margin is not None), f.anchor
        assert c.state is f.state
        assert f.margin is not None or c.look in ("differs", "same")
        found[f.margin is not None] += 1
    assert min(found.values()) > 5, found


def test_no_band_and_no_word_of_a_limit_where_nobody_declared_one(unjudged):
    document = document_of(unjudged, margin=None)
    html = render_html(document)
    body = html[html.index("<main") : html.index('id="appendix"')]
    assert 'class="band"' not in body
    assert 'class="thick"' not in body
    for text in (body, render_markdown(document), render_fragment(document).split("</style>")[1]):
        assert not re.search(r"(beyond|within) the (margin|limit)", Page(text).text)
        assert "Grey band" not in text
    assert "no limit was set" in render_markdown(document)


def test_a_finding_without_a_margin_is_shown_or_not_shown(judged, unjudged):
    states = {f.state for f in (*judged, *unjudged) if f.margin is None}
    assert states == {CellState.NOT_JUDGED, CellState.NOT_ASSESSED}
    decided = [f for f in judged if f.margin is not None and not f.stratum]
    assert CellState.NOT_JUDGED not in {f.state for f in decided}
    for f in (*judged, *unjudged):
        if f.margin is None:
            assert "stays open" not in f.sentence
            assert "The plan allows" not in f.sentence
    confirmed = [
        f
        for f in unjudged
        if f.test.family == "confirmatory" and f.state is CellState.NOT_JUDGED and not f.shown
    ]
    assert confirmed
    for f in confirmed:
        assert "No disparity is shown" in f.sentence
        assert "no limit was set" in f.sentence


def test_cells_and_files_say_that_no_limit_was_set(judged):
    document = document_of(judged)
    lines = {
        line["anchor"]: line
        for line in csv.DictReader(io.StringIO(files_in(document)["contrasts.csv"]))
    }
    words = {c.anchor: c.word for c in read_comparisons(document)}
    for f in judged:
        if f.margin is None and f.state is CellState.NOT_JUDGED:
            if f.anchor in words:
                assert "no limit was set" in words[f.anchor]
            assert lines[f.anchor]["state"] == "not_judged"
            assert lines[f.anchor]["shown"] == str(f.shown)
        elif f.margin is not None:
            assert float(lines[f.anchor]["margin"]) == pytest.approx(f.margin)


def test_the_picture_does_not_contradict_the_word(judged):
    """Beyond exactly where the thin line stays outside the band, within exactly where the thick one lies inside it."""
    null = analyze(measured(1, patients=400, spread=0.25), a_plan())
    seen = set()
    for f in (*judged, *null):
        if f.margin is None or f.thin.low is None or f.stratum:
            continue
        seen.add(f.state)
        inside = -f.margin < f.thick.low <= f.thick.high < f.margin
        outside = f.thin.low >= f.margin or f.thin.high <= -f.margin
        assert (f.state is CellState.WITHIN) == inside, f.anchor
        assert (f.state is CellState.BEYOND) == outside, f.anchor
        assert ("even at the cautious end" in f.sentence or "if only just" in f.sentence) == outside
        small = "this one is at most" in f.sentence or "no difference at all" in f.sentence
        assert small == inside
    assert {CellState.BEYOND, CellState.WITHIN, CellState.OPEN} <= seen


def test_a_departure_is_no_signed_number_on_the_axis_of_differences(judged):
    """With three levels one number would be left beside the line; it is no difference between groups, and W is never negative."""
    bent = analyze(measured(0, bend=0.15, tone=(0.34, 0.33, 0.33)), a_plan())
    found = [f for f in (*judged, *bent) if f.code == "GA104"]
    assert {(f.state, f.shown) for f in found} == {
        (CellState.NOT_JUDGED, True),
        (CellState.NOT_JUDGED, False),
    }
    for f in found:
        assert f.raw.estimate is f.adjusted.estimate is f.adjusted.low is f.se is f.mde80 is None
        assert f.test.p_within is f.test.p_beyond is None
        assert f.test.statistic >= 0
        assert f.test.df == 1 or f.attribute == "age"
    html = render_html(document_of(bent))
    assert "departure from trend" not in html
    assert {c.finding.code for c in read_comparisons(document_of(bent)) if c.finding} <= {
        "GA101",
        "GA102",
        "GA103",
        "GA105",
    }


def test_the_statistic_of_a_departure_is_the_square_of_the_one_row_that_was_tested():
    rng = np.random.default_rng(5)
    level, value = np.repeat(np.array(["a", "b", "c"]), 60), rng.normal(size=180)
    value[60:120] += 0.4
    found = next(
        c
        for c in disparity(value, level, order=["a", "b", "c"], permutations=1999).contrasts
        if c.kind == "departure"
    )
    means, errors = zip(
        *((value[level == x].mean(), value[level == x].var(ddof=1) / 60) for x in "abc"),
        strict=True,
    )
    t = (means[0] - 2 * means[1] + means[2]) / np.sqrt(errors[0] + 4 * errors[1] + errors[2])
    assert found.statistic == pytest.approx(t**2, rel=1e-6)
    assert found.df == 1
    assert found.p == pytest.approx(2 * special.stdtr(170, -abs(t)), abs=0.01)
    assert np.isnan(
        [
            found.estimate,
            found.se,
            found.ci_low,
            found.ci_high,
            found.critical,
            found.mde80,
        ]
    ).all()


# ── left out, and not measured in one region ────────────────────────────────────────────────────────────────────────


def document_with(meas, plan=OPEN):
    parts = describe(meas, plan)
    return documents.met_document().model_copy(
        update={
            name: getattr(parts, name)
            for name in ("flow", "exclusions", "heat", "regions", "attributes")
        }
    )


def said_of_missing(document):
    """The sentence under the flow of images, and the table behind it."""
    blocks = missing_blocks(document)
    tables = [b for block in blocks if isinstance(block, Details) for b in block.blocks]
    return blocks[0].text, tables[0] if tables else None


def numbers_in(table):
    at = [c.label for c in table.columns].index("Images")
    return {
        (r.cells[0].text, r.cells[1].text): int(r.cells[at].text.replace("\u202f", ""))
        for r in table.rows
    }


def test_an_image_that_lacks_one_region_is_not_left_out():
    meas = sample(200, np.random.default_rng(2), failing=0.0, cold=0.0)
    lesion = meas.table["region"] == "lesion"
    assert meas.table.loc[lesion, "heat_share"].notna().all()
    absent = int(meas.table.loc[~lesion, "heat_share"].isna().sum())
    assert absent > 20
    document = document_with(meas)
    text, table = said_of_missing(document)
    assert text.startswith("No image was left out.")
    assert f"Not left out: {absent} images show no ruler." in text
    assert "Every image takes part for each region that it shows." in text
    markdown = render_markdown(document)
    assert "- No image was left out." in markdown
    assert f"- Not left out: {absent} images show no ruler" in markdown
    assert numbers_in(table) == {
        ("the region is annotated and absent from this image", "ruler"): absent
    }
    assert " ".join(text.split()) in Page(render_html(document)).text


def test_images_left_out_are_those_of_the_manifest_that_were_not_analysed():
    """Unreadable, without heat, or without a heat share in any region; and per region everything adds up to the manifest."""
    for seed in range(6):
        meas = sample(150, np.random.default_rng(seed), failing=0.1, cold=0.1)
        table = meas.table.copy()
        gone = table["image_id"].isin(meas.images["image_id"].iloc[:: 7 + seed])
        table.loc[gone & table["heat_share"].notna(), ["reason", "heat_share", "area_share"]] = [
            "missing_mask",
            np.nan,
            np.nan,
        ]
        meas = Measurements(table, meas.images, None, meas.run)
        with_share = table.groupby("image_id")["heat_share"].apply(lambda s: s.notna().any())
        nowhere = int((~with_share).sum())
        document = document_with(meas)
        assert nowhere == 150 - document.flow[0].n_analysed
        text, found = said_of_missing(document)
        left = text.split("Not left out:")[0]
        assert sum(int(n) for n in re.findall(r"(\d+) images?:", left)) == nowhere
        whole = sum(e.count for e in document.exclusions if not e.region)
        assert f"{nowhere - whole} images: no region of the image has a heat share" in left
        numbers = numbers_in(found)
        assert sum(n for (_, region), n in numbers.items() if region == "the whole image") == whole
        for region in ("lesion", "ruler"):
            own = sum(n for (_, name), n in numbers.items() if name == region)
            share = next(
                h.n_images for h in document.heat if h.attribute == ALL and h.region == region
            )
            assert own + share == 150 - whole


def test_nothing_is_said_of_counts_that_are_withheld():
    document = document_with(sample(200, np.random.default_rng(2), failing=0.0, cold=0.0))
    hidden = document.flow[0].model_copy(update={"n_analysed": None, "suppressed": True})
    for flow in ((hidden, *document.flow[1:]), document.flow[1:]):
        text, _ = said_of_missing(document.model_copy(update={"flow": flow}))
        assert text.startswith(
            "No image was left out for its file or its heat map; how many have no heat share in any region is not told."
        )


def test_the_flow_shows_the_counts_of_the_manifest_and_hides_what_is_withheld():
    document = documents.shortcut_document()
    whole = document.flow[0].model_copy(update={"attribute": ALL, "level": ALL})
    (flow,) = flow_blocks(
        document.model_copy(update={"flow": (whole, *document.flow)}), "skin_tone"
    )
    numbers = [int(step.strong.split(" ")[0].replace("\u202f", "")) for step in flow.steps]
    assert numbers[:2] == [whole.n_manifest, whole.n_heat_usable]
    assert numbers == sorted(numbers, reverse=True)
    assert flow.steps[1].aside.startswith(str(whole.n_manifest - whole.n_heat_usable))
    hidden = documents.insufficient_document()
    (flow,) = flow_blocks(hidden.model_copy(update={"flow": (whole, *hidden.flow)}), "skin_tone")
    lines = {group.name: group.lines for group in flow.groups}
    assert lines["skin tone V–VI"] == ("withheld",)


def test_one_image_is_one_image_and_a_region_is_named_once():
    (only,) = (e for e in document_with(by_hand()).exclusions if e.region)
    text, _ = said_of_missing(document_with(by_hand()))
    for words in (
        "1 image: the heat map has no positive evidence.", "1 image: the image file ends too early.",
        "1 image: no region of the image has a heat share.",
        "1 image shows no lesion.",
    ):  # fmt: skip
        assert text.count(words) == 1
    assert only.count == 1


def test_where_every_region_is_measured_in_every_image_that_is_said():
    meas = sample(60, np.random.default_rng(0), regions=("lesion",), failing=0.0, cold=0.0)
    document = document_with(meas)
    assert document.exclusions == ()
    text, table = said_of_missing(document)
    assert text == "No image was left out."
    assert table is None


def test_the_schema_says_what_an_exclusion_counts():
    fields = json_schema()
    said = (
        fields["$defs"]["Exclusion"]["description"]
        + fields["properties"]["exclusions"]["description"]
    )
    for words in ("pair", "not left out", "n_manifest", "add up"):
        assert words in said


# ── other sentences that were not true ──────────────────────────────────────────────────────────────────────────────


def test_the_state_of_the_audit_claims_what_its_rule_looked_at():
    """Met rests on every planned comparison, undefined heat among them; so does "not met"."""
    _, cells, verdict = audited(measured(1, patients=400, spread=0.25), a_plan())
    settled = [cell.model_copy(update={"state": CellState.WITHIN, "settled": True}) for cell in cells]  # fmt: skip
    assert {cell.outcome for cell in settled} == {"heat_share", "undefined"}
    assert audit_verdict((), settled, a_plan()).state == "met"
    assert AUDIT_STATE_MEANINGS["met"].startswith("Every planned comparison shows")
    for k, cell in enumerate(settled):
        for state, word in ((CellState.BEYOND, "not_met"), (CellState.OPEN, "insufficient")):
            worse = cell.model_copy(update={"state": state, "settled": False})
            moved = [*settled[:k], worse, *settled[k + 1 :]]
            assert audit_verdict((), moved, a_plan()).state == word
    assert verdict.state in ("met", "insufficient")
    assert (
        AUDIT_STATE_MEANINGS["not_met"]
        == "At least one planned comparison shows a disparity between groups that goes beyond its declared limit."
    )


def test_a_coarse_region_is_counted_among_the_images_that_have_it():
    meas = sample(400, np.random.default_rng(1), failing=0.0)
    table = meas.table.copy()
    there = (table["region"] == "ruler") & (table["area_share"] > 0)
    table.loc[table.index[there][: there.sum() // 4], "reason"] = "mask_below_cell"
    found = {
        c.code: c for c in describe(Measurements(table, meas.images, None, meas.run), OPEN).checks
    }["GA412"]
    assert found.state == "issue"
    assert found.detail == (
        "Regions are smaller than a cell of the heat map (ruler in 25 % of the images that have it): heat there cannot be told from its surroundings."
    )


def test_clusters_that_hold_two_levels_are_counted_also_where_they_are_few():
    meas = sample(900, np.random.default_rng(1), failing=0.0)
    images = meas.images.copy()
    several = images["cluster"].value_counts().index[0]
    images.loc[images.index[images["cluster"] == several][0], "subgroup.tone"] = "other"
    found = {
        c.code: c for c in describe(Measurements(meas.table, images, None, meas.run), OPEN).checks
    }["GA404"]
    assert found.state == "passed"
    assert re.search(
        r"^Nearly every cluster has one level .*; levels vary for tone \(0\.\d+ % of clusters\)\.$",
        found.detail,
    )


def test_one_withheld_level_gives_nobody_away():
    rng = np.random.default_rng(0)
    few = sample(8, rng, levels=("Ia",), per_cluster=1, failing=0.0, cold=0.0)
    (line,) = (text for text in describe(few, Plan()).limits if text.startswith("tone: "))
    assert line.startswith(
        "tone: Ia is withheld, because it holds fewer than 11 images or clusters. To keep more"
    )


def test_label_shares_say_over_which_images_they_are_taken():
    document = documents.shortcut_document()
    (details,) = group_table(document)
    assert (
        "Label shares and areas are taken over images with a heat share" in details.blocks[0].note
    )
    assert (
        TERMS["Label"].meaning == "share of a group's images with a heat share that carry the label"
    )


def test_what_is_no_digest_is_not_called_one():
    source = documents.met_document()
    hexadecimal = "9b1c" * 16
    run = source.run.model_copy(
        update={
            "digests": {"manifest": hexadecimal, "layer": "features.12", "batches": "16 of 256"}
        }
    )
    (facts,) = (
        b
        for b in APPENDIX.get("reproduction")(source.model_copy(update={"run": run}))
        if isinstance(b, Facts)
    )
    shown = dict(facts.rows)
    assert shown["manifest digest"] == hexadecimal
    assert shown["layer"] == "features.12"
    assert shown["batches"] == "16 of 256"
    assert not {"layer digest", "batches digest"} & set(shown)


def test_of_two_groups_each_is_compared_with_the_other():
    source = documents.met_document()
    two = source.attributes[1].model_copy(
        update={"name": "sex", "levels": ("female", "male"), "reference": "rest"}
    )
    three = source.attributes[0].model_copy(update={"reference": "rest"})
    table = next(
        b
        for b in APPENDIX.get("scope")(source.model_copy(update={"attributes": (two, three)}))
        if isinstance(b, Table) and b.caption == "Groups"
    )
    assert [r.cells[3].text for r in table.rows] == ["the other", "all others"]


def test_a_row_of_the_matrix_is_named_by_its_kind(judged):
    """A group, a pair, the two ends of a trend, or where a curve differs most."""
    slopes = {"GA102": "from ", "GA103": "largest difference, P"}
    seen = set()
    for c in read_comparisons(document_of(judged)):
        name = row_name(c)
        if c.finding is None:
            continue
        start = slopes.get(c.finding.code)
        if c.kind in ("trend", "curve"):
            assert name.group.startswith(start), name
        else:
            assert name.group == c.group
            assert name.against == ("" if c.reference == "rest" else f"against {c.reference}")
        seen.add(c.kind)
    assert {"level", "trend", "curve"} <= seen


def test_a_percent_sign_stays_on_the_line_of_its_number():
    html = render_html(documents.shortcut_document())
    shown = re.sub(r"<(style|script)[^>]*>.*?</\1>", "", html, flags=re.S)
    broken = [text for text in re.findall(r">([^<]+)<", shown) if re.search(r"\d %", text)]
    assert "\u202f%" in shown
    assert not broken, broken[:5]
