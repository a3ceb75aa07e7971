"""The rules for small cells by hand: tables of a few rows, of which it is known what must be withheld and what must stay."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_levels import planted

from gradaudit.analysis.descriptives import describe
from gradaudit.cohort.heat_distributions import heat_rows_of
from gradaudit.cohort.image_flow import exclusion_rows, label_codes
from gradaudit.cohort.population import take_cohort
from gradaudit.disclosure.attacker import (
    _without_rare_totals,
    is_safe,
    population,
)
from gradaudit.disclosure.decision import suppressed_levels
from gradaudit.disclosure.equations import Population, State, published
from gradaudit.disclosure.small_cells import is_small, small_levels
from gradaudit.disclosure.suppression import apply_min_cell, withheld_cells
from gradaudit.performance.table import predictions
from gradaudit.plan import Plan
from gradaudit.records import ALL, DIFFERENCE, OVER_ANALYSED, STEPS, UNKNOWN
from gradaudit.result_schema import FlowRow, HeatRow, MeanMap, PerformanceRow, Tables
from gradaudit.runs.measurements import Measurements

RESTS_ON_ONE_CLASS = ("sensitivity", "specificity", "ppv", "auc", "calibration_slope")


def flow(level, n, readable=None, prevalence=None, attribute="tone"):
    readable = n if readable is None else readable
    return FlowRow(
        attribute=attribute, level=level, n_manifest=n, n_readable=readable, n_mask_usable=readable, n_heat_usable=readable, n_analysed=readable,
        n_clusters=readable, label_prevalence=prevalence or {},
    )  # fmt: skip


def heat(level, n, clusters=None, undefined=None, region="lesion", attribute="tone"):
    return HeatRow(
        attribute=attribute, level=level, region=region, method="gradcam", target="predicted", n_images=n, n_clusters=n if clusters is None else clusters,
        undefined_share=undefined,
    )  # fmt: skip


def figure(level, metric, n, estimate=0.87654):
    return PerformanceRow(
        attribute="tone",
        level=level,
        metric=metric,
        estimate=estimate,
        low=0.81234,
        high=0.92345,
        n_images=n,
        n_clusters=n,
    )


def rules(levels=(), reference="rest", min_cell=11, **tables):
    bare = Tables(**{k: tuple(v) for k, v in tables.items()})
    everyone = flow(ALL, sum(r.n_manifest for r in bare.flow), attribute=ALL)
    bare = replace(bare, flow=(everyone, *bare.flow))
    return apply_min_cell(bare, {"tone": set(levels)}, {"tone": reference}, min_cell)


def at(rows, level, metric=None):
    return next(r for r in rows if r.level == level and (metric is None or r.metric == metric))


# ── which levels ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("count", "small"), [(None, False), (0, False), (1, True), (10, True), (11, False), (12, False)]
)
def test_a_small_cell_holds_one_to_min_cell_minus_one(count, small):
    assert is_small(count, 11) is small


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        (
            [300, 6, 5],
            {"L0", "L1", "L2"},
        ),  # 11 together: one of them could only be small, and so would be known to be
        ([300, 6, 6], {"L1", "L2"}),  # 12 = 11 + 1: either may be 11
        ([300, 5, 4, 3], {"L0", "L1", "L2", "L3"}),
        ([300, 5, 4, 4], {"L1", "L2", "L3"}),  # 13 = 11 + 2
        ([300, 10, 200], {"L0", "L1"}),
        ([300, 11, 200], set()),
    ],
)
def test_hidden_levels_hold_so_many_that_each_may_be_large(counts, hidden):
    sizes = pd.DataFrame({"images": counts}, index=[f"L{k}" for k in range(len(counts))])
    assert small_levels(sizes, "rest", 11) == hidden


def test_few_clusters_left_after_the_exclusions_are_a_small_level():
    """Forty images of twenty patients; twelve images with heat, of six patients."""
    meas = planted(
        {"I": 120, "II": 60, "III": 40},
        0,
        fail=0.0,
        cold=0.0,
        absent=0.0,
        unlabelled=0.0,
        images_per_cluster=2,
    )
    assert suppressed_levels(meas, Plan()) == {}
    images, table = meas.images.copy(), meas.table.copy()
    cold = images.loc[images["subgroup.tone"] == "III", "image_id"].iloc[12:]
    images.loc[images["image_id"].isin(cold), "heat_status"] = "no_positive_evidence"
    table.loc[table["image_id"].isin(cold), ["status", "reason", "heat_share"]] = [
        "no_positive_evidence",
        "zero_heat",
        np.nan,
    ]
    assert "III" in suppressed_levels(Measurements(table, images, None, meas.run), Plan())["tone"]


# ── which counts ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_that_few_images_fail_is_withheld_with_the_largest_other_level():
    found = rules(flow=[flow("I", 90), flow("II", 70), flow("III", 50, readable=49)]).flow
    assert {row.level for row in found if row.n_manifest is None} == {"I", "III"}
    assert [at(found, level).n_analysed for level in ("I", "II", "III")] == [90, 70, 49]
    assert not any(
        row.suppressed
        for row in rules(flow=[flow("I", 90), flow("II", 70), flow("III", 61, readable=50)]).flow
    )


def test_many_images_of_few_patients_are_a_small_cell():
    rows = [heat("I", 90), heat("II", 70), heat("III", 40, clusters=10)]
    assert {level for _, level, *_ in withheld_cells(rows, {}, {"tone": "rest"}, 11)} == {
        "I",
        "III",
    }
    assert (
        withheld_cells([*rows[:2], heat("III", 40, clusters=11)], {}, {"tone": "rest"}, 11) == set()
    )


@pytest.mark.parametrize(("undefined", "hidden"), [(10, True), (11, False), (0, False)])
def test_a_share_of_undefined_heat_gives_its_images_away(undefined, hidden):
    """100 images with heat and so many without: 11 of 111 are 9.9 % and no small cell."""
    share = undefined / (100 + undefined)
    found = rules(
        flow=[flow("I", 100), flow("II", 100)],
        heat=[heat("I", 100, undefined=share), heat("II", 100)],
    )
    assert (at(found.heat, "I").undefined_share is None) == hidden
    assert (at(found.flow, "I").n_manifest is None) == hidden


@pytest.mark.parametrize(
    ("rare", "base", "hidden"), [(1, 49, True), (10, 49, True), (11, 107, False)]
)
def test_a_label_is_rare_by_whole_images(rare, base, hidden):
    """1/49 times 49 is 0.9999999999999999 and 11/107 times 107 is 10.999999999999998 in floating point."""
    prevalence = {"malignant": rare / base, "benign": 1 - rare / base}
    found = rules(
        flow=[flow("I", 200), flow("II", base, prevalence=prevalence)],
        heat=[heat("I", 200), heat("II", base)],
    ).flow
    assert (at(found, "II").label_prevalence == {}) == hidden


def test_no_mean_map_of_few_images():
    maps = [
        MeanMap(attribute="tone", level=level, n_images=n, heat=((1.0,),))
        for level, n in (("I", 10), ("II", 11))
    ]
    assert [
        m.level for m in rules(flow=[flow("I", 90), flow("II", 90)], mean_maps=maps).mean_maps
    ] == ["II"]


# ── which figures ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_difference_to_a_withheld_reference_is_withheld():
    tables = {
        "flow": [flow("I", 90), flow("II", 70), flow("III", 4), flow("IV", 60)],
        "performance": [figure("I", "accuracy", 90), figure("I", f"accuracy{DIFFERENCE}", 90)],
    }
    for reference, hidden in (("III", True), ("II", False)):
        shown = rules(levels=["III", "IV"], reference=reference, **tables).performance
        assert at(shown, "I", "accuracy").estimate == 0.87654
        assert (at(shown, "I", f"accuracy{DIFFERENCE}").estimate is None) == hidden


@pytest.mark.parametrize("metric", RESTS_ON_ONE_CLASS)
def test_figures_that_rest_on_a_small_class_are_withheld(metric):
    tables = {"flow": [flow("I", 90), flow("II", 70)]}
    rows = [
        figure(level, m, 90)
        for level in ("I", "II")
        for m in {metric, f"{metric}{DIFFERENCE}", "accuracy", f"accuracy{DIFFERENCE}"}
    ]
    for positives, hidden in ((10, True), (11, False)):
        small = [
            *(r for r in rows if (r.level, r.metric) != ("II", "sensitivity")),
            figure("II", "sensitivity", positives),
        ]
        shown = rules(**tables, performance=small).performance
        assert (at(shown, "II", metric).estimate is None) == hidden
        assert (
            at(shown, "I", f"{metric}{DIFFERENCE}").estimate is None
        ) == hidden  # with I's own figure it would give II's away
        if metric != "sensitivity":
            assert at(shown, "I", metric).estimate is not None
        assert None not in (
            at(shown, "II", "accuracy").estimate,
            at(shown, "I", f"accuracy{DIFFERENCE}").estimate,
        )


def test_figures_without_their_base_have_two_digits():
    """One label is rare in II: the accuracy of both levels stays, without n and without the digits that would tell it."""
    tables = {
        "flow": [
            flow("I", 90),
            flow("II", 70, prevalence={"malignant": 5 / 70, "benign": 65 / 70}),
        ],
        "heat": [heat("I", 90), heat("II", 70)],
        "performance": [figure("I", "accuracy", 90), figure("II", "accuracy", 70)],
    }
    for row in rules(**tables).performance:
        assert (row.n_images, row.estimate, row.low, row.high) == (None, 0.88, 0.81, 0.92)


def test_a_level_whose_performance_is_narrowed_down_has_a_companion():
    """Three images of III have a label and no heat: accuracy over all labelled ones, beside the base of the heat, would tell."""
    meas = planted(
        {"I": 90, "II": 70, "III": 50}, 0, fail=0.0, cold=0.0, absent=0.0, unlabelled=0.0
    )
    images, table = meas.images.copy(), meas.table.copy()
    cold = images.loc[images["subgroup.tone"] == "III", "image_id"].iloc[:3]
    images.loc[images["image_id"].isin(cold), "heat_status"] = "no_positive_evidence"
    table.loc[table["image_id"].isin(cold), ["status", "reason", "heat_share"]] = [
        "no_positive_evidence",
        "zero_heat",
        np.nan,
    ]
    rows = describe(Measurements(table, images, None, meas.run), Plan()).performance
    assert {r.level for r in rows if OVER_ANALYSED in r.reason and r.attribute == "tone"} == {
        "I",
        "III",
    }


def test_the_base_of_every_region_is_looked_at():
    """The ruler is not there in three labelled images of III; the lesion, which anchors the tables, is there in all."""
    meas = planted(
        {"I": 90, "II": 70, "III": 50}, 0, fail=0.0, cold=0.0, absent=0.0, unlabelled=0.0
    )
    table = meas.table.copy()
    gone = meas.images.loc[meas.images["subgroup.tone"] == "III", "image_id"].iloc[:3]
    table.loc[
        table["image_id"].isin(gone) & (table["region"] == "ruler"),
        ["reason", "heat_share", "area_share"],
    ] = ["empty_mask", np.nan, 0.0]
    rows = describe(Measurements(table, meas.images, None, meas.run), Plan()).performance
    narrowed = {r.level for r in rows if OVER_ANALYSED in r.reason and r.attribute == "tone"}
    assert narrowed == {"I", "III"}


# ── the reader who solves the tables ────────────────────────────────────────────────────────────────────────────────


def people(truth):
    """Two levels, one label, one region, heat always defined: an image is readable or not."""
    return Population(
        "tone",
        ("I", "II"),
        (State(lost="unreadable"), State("", 0, "", ("",))),
        np.array(truth, float),
        ("x",),
        ("lesion",),
        0,
        frozenset(),
        None,
    )


def steps(level, attribute="tone", **counts):
    return FlowRow(
        attribute=attribute, level=level, n_clusters=None, **{**dict.fromkeys(STEPS), **counts}
    )


def solved(*flow_rows):
    return Tables(flow=flow_rows)


def test_a_cell_is_safe_if_it_may_be_larger_or_smaller():
    """Three images of I cannot be read.  Printed: 43 of I, and the readable ones of both levels."""
    parts = solved(steps("I", n_manifest=43), steps(ALL, ALL, n_readable=40))
    assert is_safe(
        people([3, 40, 50, 0]), parts, 11
    )  # all readable ones are I's own, so three is the least: only more is possible
    assert is_safe(
        people([3, 40, 0, 60]),
        solved(steps("I", n_manifest=43), steps(ALL, ALL, n_readable=100)),
        11,
    )  # more or fewer
    assert not is_safe(people([3, 40, 50, 0]), solved(steps("I", n_manifest=43, n_readable=40)), 11)


@pytest.mark.parametrize(
    ("metric", "narrowed", "counted"),
    [
        ("accuracy", False, (40, 30)),
        ("accuracy", True, (40, 30)),
        ("sensitivity", False, (40, 0)),
        ("specificity", False, (0, 30)),
        ("auc", False, None),
    ],
)
def test_the_base_of_a_figure_is_an_equation(metric, narrowed, counted):
    """Three labels, malignant, benign and unknown: of I 40, 30 and 3 images."""
    states = tuple(State("", label, "", ("",)) for label in range(3))
    truth, labels = np.array([40.0, 30, 3, 50, 50, 50]), ("malignant", "benign", UNKNOWN)
    people = Population(
        "tone", ("I", "II"), states, truth, labels, ("lesion",), 0, frozenset({0, 1}), 0
    )
    row = PerformanceRow(
        attribute="tone",
        level="I",
        metric=metric,
        estimate=0.5,
        n_images=sum(counted or (1,)),
        reason=OVER_ANALYSED if narrowed else "",
    )
    found = list(published(people, Tables(performance=(row,))))
    if counted is None:
        assert found == []
    else:
        ((coefficients, low, high),) = found
        assert (coefficients @ truth, low, high) == (sum(counted),) * 3
        assert coefficients.tolist() == [float(n > 0) for n in counted] + [0.0] * 4
    readable = Tables(flow=(steps("I", n_readable=73),), performance=(row,))
    told = metric == "accuracy"  # 73 less 70 are the three unlabelled ones
    assert is_safe(people, readable, 11) == (not told)


def test_a_share_of_labels_is_an_equation():
    """Of 73 anchored images of I 40 are malignant: the printed share holds for the truth, and for no other number."""
    states = (*(State("", label, "", ("",)) for label in range(2)), State("", 0, "cold", ("",)))
    truth = np.array([40.0, 33, 9])
    people = Population(
        "tone", ("I",), states, truth, ("malignant", "benign"), ("lesion",), 0, frozenset({0, 1}), 0
    )
    row = FlowRow(
        attribute="tone",
        level="I",
        n_clusters=None,
        label_prevalence={"malignant": 40 / 73, "benign": None},
        **dict.fromkeys(STEPS),
    )
    ((coefficients, low, high),) = published(people, Tables(flow=(row,)))
    assert coefficients.tolist() == pytest.approx([33 / 73, -40 / 73, 0])
    assert low < coefficients @ truth < high
    assert not low < coefficients @ np.array([41.0, 32, 9]) < high


def test_a_cell_without_an_upper_bound_may_be_larger():
    """Thirty labelled images, three of them cold, and a tenth cold among all: how many have no label, nothing says."""
    states = tuple(State("", label, cold, ("",)) for label in range(2) for cold in ("", "cold"))
    people = Population(
        "tone",
        ("I",),
        states,
        np.array([27.0, 3, 0, 0]),
        ("x", UNKNOWN),
        ("lesion",),
        0,
        frozenset({0}),
        None,
    )
    row = PerformanceRow(attribute="tone", level="I", metric="accuracy", estimate=0.5, n_images=30)
    tables = Tables(performance=(row,), heat=(heat("I", None, undefined=0.1),))
    assert is_safe(people, tables, 11)
    assert not is_safe(people, replace(tables, flow=(steps("I", n_readable=30),)), 11)


def test_tables_that_contradict_the_truth_prove_nothing():
    assert is_safe(people([3, 40, 50, 0]), solved(steps("I", n_manifest=44)), 11) is None
    assert is_safe(people([3, 40, 50, 0]), solved(), 11) is True


def test_the_largest_level_gets_its_count_back_first():
    """Either n_manifest would do, both together would give a small cell away."""
    meas = planted({"I": 90, "II": 70, "III": 40}, 0, absent=0.85)
    found = [
        row
        for row in describe(meas, Plan(privacy={"min_cell": 3})).flow
        if row.attribute == "tone" and row.level in ("I", "II")
    ]
    assert [row.n_manifest for row in found] == [90, None]


def test_rare_undefined_heat_over_all_images_is_counted_from_its_share():
    of_all = [
        heat(ALL, 100, undefined=n / (100 + n), region=f"r{n}", attribute=ALL) for n in (10, 11)
    ]
    rows = (*of_all, heat("I", 100, undefined=10 / 110))
    assert [
        row.undefined_share is None for row in _without_rare_totals(Tables(heat=rows), 11).heat
    ] == [True, False, False]


@pytest.mark.parametrize(("levels", "is_solved"), [(115, True), (116, False)])
def test_fifteen_hundred_unknowns_are_solved_for(levels, is_solved):
    """Thirteen states of an image (unreadable, or three labels, heat or none, ruler or none) in every level."""
    meas = planted({f"L{k:03}": 2 for k in range(levels)}, 0, unlabelled=0.05)
    plan = Plan(privacy={"min_cell": 1})
    cohort = take_cohort(meas, plan)
    parts = Tables(exclusions=exclusion_rows(cohort, {}), heat=heat_rows_of([cohort], plan))
    found = population(cohort, predictions(meas, plan)[0], parts, "tone", label_codes(cohort))
    assert (found is not None) == is_solved
    if found is not None:
        assert (len(found.states), len(found.truth), found.truth.sum()) == (
            13,
            13 * levels,
            2 * levels,
        )
