"""Sentences that are true: no level beside itself, nothing called left out that was not, no word and no band where no limit was set."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_analysis import a_plan, measured
from test_description import OPEN, by_hand, checks_of, row, sample

from gradaudit.analysis import analyze, audit_verdict
from gradaudit.between import percentile_names
from gradaudit.config import Plan
from gradaudit.description import describe
from gradaudit.limits import data_checks, limits_found
from gradaudit.performance import ALL
from gradaudit.records import FlowRow, HeatRow, Measurements, PerformanceRow
from gradaudit.subgroups import disparity

COMPARING = ("GA408", "GA409", "GA410", "GA411", "GA413")
"""Checks that name the two levels which lie farthest apart."""


# ── no level beside itself ──────────────────────────────────────────────────────────────────────────────────────────


def tables(levels, analysed, area, benign, undefined, accuracy, attribute="tone"):
    """The withheld tables that the checks read, with one value per level; ``undefined``: one tuple per method."""
    flow = [FlowRow(attribute=ALL, level=ALL, n_manifest=900, n_readable=900, n_mask_usable=900, n_heat_usable=900, n_analysed=900, n_clusters=400)]
    heat, performance = [], []
    for k, level in enumerate(levels):
        n = round(1000 * analysed[k])
        prevalence = {"benign": benign[k], "malignant": 1 - benign[k]}
        counts = {"n_manifest": 1000, "n_readable": 1000, "n_mask_usable": 1000, "n_heat_usable": n, "n_analysed": n, "n_clusters": 400}
        flow.append(FlowRow(attribute=attribute, level=level, **counts, label_prevalence=prevalence, area_share={"lesion": area[k]}))
        for method, shares in enumerate(undefined):
            place = {"attribute": attribute, "level": level, "region": "lesion", "method": f"method{method}", "target": "predicted"}
            heat.append(HeatRow(**place, n_images=400, n_clusters=400, undefined_share=shares[k]))
        performance.append(PerformanceRow(attribute=attribute, level=level, metric="accuracy", estimate=accuracy[k], n_images=400))
    return {"flow": tuple(flow), "heat": tuple(heat), "performance": tuple(performance), "attributes": (), "exclusions": ()}


def said_of(parts, plan=OPEN):
    """Code -> (state, detail) of the checks that compare levels."""
    return {c.code: (c.state, c.detail) for c in data_checks(by_hand(), plan, parts) if c.code in COMPARING}


def same_for(levels, **values):
    given_ = {"analysed": 1.0, "area": 0.1, "benign": 0.4, "undefined": 0.0, "accuracy": 0.8, **values}
    each = {name: (value,) * len(levels) for name, value in given_.items()}
    return tables(levels, **(each | {"undefined": (each["undefined"],)}))


def test_levels_that_are_all_equal_are_called_equal_and_none_is_set_against_itself():
    for code, (state, detail) in said_of(same_for(["Ia", "IIb", "IIIc"])).items():
        assert state == "passed", detail
        assert not re.search(r"\b(Ia|IIb|IIIc)\b", detail), (code, detail)
        assert "at most" not in detail
        assert "largest ratio" not in detail


def test_what_is_the_same_in_every_level_is_said_with_its_number():
    said = {code: detail for code, (_, detail) in said_of(same_for(["Ia", "IIb"], analysed=0.97, undefined=0.021)).items()}
    assert said["GA408"] == "Exclusions are alike across groups: 97% of the images could be analysed in every level shown."
    assert said["GA409"] == "Region sizes are alike: each region covers the same part of the image in every level shown."
    assert said["GA410"] == "The mix of labels is the same in every level shown."
    assert said["GA411"] == "Undefined heat is equally frequent in every level shown: 2.1% of the heat maps."
    assert said["GA413"] == "The model performs alike: accuracy is 80% in every level shown."


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_two_tied_levels_and_a_third_name_the_third_and_one_of_the_two(order):
    names = ["Ia", "IIb", "IIIc"]
    pick = [names[k] for k in order]
    values = {"analysed": (0.99, 0.99, 0.97), "area": (0.11, 0.11, 0.1), "benign": (0.4, 0.4, 0.45), "accuracy": (0.8, 0.8, 0.75)}
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
    said = said_of(tables(["Ia", "IIb"], (1, 1), (0.1, 0.1), (0.4, 0.4), ((0.02, 0.02), (0.30, 0.30)), (0.8, 0.8)))
    state, detail = said["GA411"]
    assert state == "passed", detail
    assert not re.search(r"\b(Ia|IIb)\b", detail), detail
    state, detail = said_of(tables(["Ia", "IIb"], (1, 1), (0.1, 0.1), (0.4, 0.4), ((0.02, 0.02), (0.10, 0.30)), (0.8, 0.8)))["GA411"]
    assert state == "issue"
    assert detail == (
        "Undefined heat differs between groups: 30.0% of the heat maps of tone = IIb are undefined, 10.0% of Ia (method1). "
        "The shares compare those that are left."
    )


@pytest.mark.parametrize(
    ("code", "values", "words"),
    [
        ("GA408", {"analysed": (0.998, 0.97)}, "97% of the images of tone = IIb could be analysed, 99.8% of Ia"),
        ("GA413", {"accuracy": (0.996, 0.97)}, "accuracy is 97% in tone = IIb and 99.6% in Ia"),
        ("GA413", {"accuracy": (0.004, 0.0)}, "accuracy is 0% in tone = IIb and 0.4% in Ia"),
        ("GA411", {"undefined": ((0.0004, 0.0),)}, "0.04% of the heat maps of tone = Ia are undefined, 0.0% of IIb"),
        ("GA410", {"benign": (0.9996, 0.95)}, "99.96% of tone = Ia"),
    ],
)  # fmt: skip
def test_a_share_is_called_0_or_100_only_where_it_is(code, values, words):
    given_ = {"analysed": (1, 1), "area": (0.1, 0.1), "benign": (0.4, 0.4), "undefined": ((0.0, 0.0),), "accuracy": (0.8, 0.8), **values}
    state, detail = said_of(tables(["Ia", "IIb"], **given_))[code]
    assert state == "passed"
    assert words in detail


def test_levels_that_differ_by_less_than_the_last_digit_are_called_the_same():
    state, detail = said_of(tables(["Ia", "IIb"], (0.971, 0.969), (0.10001, 0.1), (0.401, 0.399), ((0.0201, 0.0199),), (0.802, 0.798)))["GA413"]
    assert (state, detail) == ("passed", "The model performs alike: accuracy is 80% in every level shown.")
    said = said_of(tables(["Ia", "IIb"], (0.971, 0.969), (0.10001, 0.1), (0.401, 0.399), ((0.0201, 0.0199),), (0.802, 0.798)))
    for _, detail in said.values():
        assert not re.search(r"\b(Ia|IIb)\b", detail), detail


def test_the_largest_ratio_of_region_sizes_names_region_and_levels():
    said = said_of(tables(["Ia", "IIb"], (1, 1), (0.12, 0.1), (0.4, 0.4), ((0.0, 0.0),), (0.8, 0.8)))
    assert said["GA409"] == ("passed", "Region sizes are alike; farthest apart: lesion covers 12.0% of the image in tone = Ia and 10.0% in IIb.")


def test_every_region_whose_size_differs_is_counted():
    sizes = {f"region{k}": 0.05 for k in range(6)}
    parts = same_for(["Ia", "IIb"])
    flow = [r if r.level != "Ia" else r.model_copy(update={"area_share": {k: 2 * v for k, v in sizes.items()}}) for r in parts["flow"]]
    flow = [r if r.level != "IIb" else r.model_copy(update={"area_share": sizes}) for r in flow]
    state, detail = said_of(parts | {"flow": tuple(flow)})["GA409"]
    assert state == "issue"
    assert detail.count("covers") == 4
    assert "; and 2 more regions)" in detail


def test_labels_of_the_label_check_are_called_labels():
    parts = same_for(["Ia", "IIb"])
    mix = {"Ia": {"9": 0.2, "(other)": 0.8}, "IIb": {"9": 0.15, "(other)": 0.85}}
    flow = tuple(r.model_copy(update={"label_prevalence": mix.get(r.level, {})}) for r in parts["flow"])
    assert said_of(parts | {"flow": flow})["GA410"] == ("passed", "The mix of labels is alike; farthest apart: label 9 makes up 20% of tone = Ia and 15% of IIb.")
    mix = {"Ia": {"9": 0.2, "(other)": 0.8}, "IIb": {"9": 0.5, "(other)": 0.5}}
    flow = tuple(r.model_copy(update={"label_prevalence": {"(other)": mix[r.level]["(other)"]} if r.level in mix else {}}) for r in parts["flow"])
    assert "the rarer labels together make up 80% of tone = Ia and 50% of IIb" in said_of(parts | {"flow": flow})["GA410"][1]


NAMES = ["Ia", "IIb", "IIIc", "IVd", "Ve"]
SHARES = st.sampled_from([0.0, 0.004, 0.5, 0.5004, 0.51, 0.62, 0.96, 0.996, 1.0])


@st.composite
def random_tables(draw):
    levels = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=5))
    values = {name: tuple(draw(st.lists(SHARES, min_size=len(levels), max_size=len(levels)))) for name in ("analysed", "area", "benign", "accuracy")}
    undefined = tuple(tuple(draw(st.lists(SHARES, min_size=len(levels), max_size=len(levels)))) for _ in range(draw(st.integers(1, 2))))
    return tables(levels, undefined=undefined, **values)


def beside_itself(text, levels=NAMES):
    """Levels named twice in one clause of a sentence; clauses end at semicolons and full stops, so that each compares one thing."""
    found = []
    for clause in re.split(r"[;.](?=\s|$)", text):
        found += [level for level in levels if len(re.findall(rf"(?<![\w–-]){re.escape(level)}(?![\w–-])", clause)) > 1]
    return found


@given(random_tables())
@settings(deadline=None, max_examples=200)
def test_no_check_ever_sets_a_level_against_itself(parts):
    for code, (_, detail) in said_of(parts).items():
        assert beside_itself(detail) == [], (code, detail)
        assert "at most" not in detail
        assert not re.search(r"\b1[1-9]\d%|\b[2-9]\d\d%", detail), detail  # no share above 100 %


def few_levels(seed):
    """Random measurements with ties: one to three levels, of which some hold the same values, some are small, some unknown."""
    rng = np.random.default_rng(seed)
    meas = sample(int(rng.integers(30, 300)), rng, levels=tuple(NAMES[: rng.integers(1, 4)]), failing=rng.choice([0.0, 0.1]), cold=rng.choice([0.0, 0.2]))
    images, table = meas.images.copy(), meas.table.copy()
    images["subgroup.age"] = np.where(rng.random(len(images)) < rng.choice([0.0, 0.95]), 0.0, rng.integers(2015, 2021, len(images))).astype(str)
    if rng.random() < 0.5:  # everybody's heat is the same
        table["heat_share"] = np.where(table["heat_share"].notna(), 0.25, np.nan)
    if rng.random() < 0.5:
        table["area_share"] = np.where(table["area_share"].notna(), 0.1, np.nan)
    if rng.random() < 0.3:
        images.loc[images.index[:20], "subgroup.tone"] = None
    return Measurements(table, images, None, meas.run)


@pytest.mark.parametrize("seed", range(12))
def test_no_sentence_of_a_random_audit_sets_a_level_against_itself(seed):
    rng = np.random.default_rng(1000 + seed)
    ends = {"tone": {"order": NAMES[:3]}} if rng.random() < 0.5 else {}
    margin = {"criteria": {"margin": 0.1}} if rng.random() < 0.5 else {}
    plan = Plan(privacy={"min_cell": int(rng.choice([1, 11]))}, analysis={"permutations": 199}).updated(
        subgroups=ends | {"age": {"kind": "continuous"}}, **margin
    )
    meas = few_levels(seed)
    findings = analyze(meas, plan)
    parts = describe(meas, plan, findings)
    verdict = audit_verdict(findings, plan)
    texts = [f.sentence for f in findings] + [c.detail for c in parts["checks"]] + list(parts["limits"])
    texts += [verdict.headline, *verdict.sentences, *verdict.cannot_tell]
    for text in texts:
        assert beside_itself(text) == [], text
        ends_named = re.search(r"from (.+?) (?:\(10th percentile\) )?to (.+?)(?: \(90th percentile\))?[:,]", text)
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
    found = disparity(rng.random(400), age, continuous=True, permutations=99, clusters=np.repeat(np.arange(100), 4), within=within)
    assert found.contrasts
    for c in found.contrasts:
        assert (c.group, c.reference, c.reason) == ("P90", "P10", "the attribute has one value from its 10th to its 90th percentile")
        assert np.isnan(c.estimate)
