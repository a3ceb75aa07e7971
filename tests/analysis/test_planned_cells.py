"""What an audit may say, attacked: groups that go missing, masks that cannot be read, many cells, every combination of states."""

import itertools

import numpy as np
import pandas as pd
import pytest
from compared_groups import a_plan, audited, measured
from worlds2 import draw, trimmed

from gradaudit.analysis.planned.cells import Answer, judged_contrasts
from gradaudit.analysis.study import Draft
from gradaudit.analysis.verdict import audit_state, audit_verdict
from gradaudit.plan import build_plan
from gradaudit.records import CellState
from gradaudit.result_schema import PlannedCell
from gradaudit.runs.measurements import Measurements
from gradaudit.stats.decision import MarginTest
from gradaudit.stats.tails import SkewedT
from gradaudit.subgroups.contrast import Contrast

METRICS = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")
TONE = {"tone": {"order": ["I-II", "III-IV", "V-VI"]}}


def of_world(frame, groups=("group",), criteria=None, regions=1, **sections):
    """A world's rows as measurements: values as heat shares of one or more regions, and a plan for them."""
    first = frame if "region" not in frame else frame[frame["region"] == frame["region"].min()]
    n = len(first)
    images = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "path": "x.png",
            "status": "ok",
            "reason": "",
            "probability": 0.9,
        }
    )
    images["cluster"] = first["cluster"].astype(str).to_numpy()
    for name in ("label", "predicted"):
        images[name] = "c"
    images["correct"] = True
    for name in groups:
        level = "L" + first[name].astype(int).astype(str)
        images[f"subgroup.{name}"] = level.where(
            first.get("known", pd.Series(1, first.index)) == 1, None
        ).to_numpy(object)
    tables = []
    for r in range(regions):
        part = frame if "region" not in frame else frame[frame["region"] == r]
        state = part.get("state", pd.Series("ok", part.index)).to_numpy(object)
        area = (
            0.2 if part["log_area"].isna().all() else 1 / (1 + np.exp(-part["log_area"].to_numpy()))
        )
        table = pd.DataFrame(
            {
                "image_id": images["image_id"],
                "region": f"r{r}",
                "role": "avoid",
                "method": "gradcam",
                "target": "predicted",
            }
        )
        table["status"] = np.where(state == "undefined", "no_positive_evidence", "ok")
        table["reason"] = np.select(
            [state == "undefined", state == "no mask"], ["zero_heat", "unreadable_mask"], ""
        )
        table["heat_share"], table["area_share"] = (
            part["value"].to_numpy(),
            np.where(state == "no mask", np.nan, area),
        )
        tables.append(table)
    plan = {
        "regions": {f"r{r}": {"role": "avoid"} for r in range(regions)},
        "criteria": {"margin": 0.10, "undefined_margin": 0.10} | (criteria or {}),
        "analysis": {"permutations": 499},
    }
    return Measurements(pd.concat(tables, ignore_index=True), images), build_plan(plan | sections)


# ── every combination of states ─────────────────────────────────────────────────────────────────────────────────────

CONDITIONS = [
    *((state, True) for state in CellState if state is CellState.WITHIN),
    *((state, False) for state in CellState),
]
"""(state, settled): within may be settled or not, nothing else can be."""


def cell(state, settled):
    margin = None if state is CellState.NOT_JUDGED else 0.1
    return PlannedCell(
        attribute="a", comparison="level", state=state, settled=settled, margin=margin
    )


def test_every_combination_of_four_cells_has_the_state_that_the_rules_give():
    """7^4 = 2401 audits: never met with a judged cell that is not settled, not met exactly where one is beyond."""
    wrong = []
    for combination in itertools.product(CONDITIONS, repeat=4):
        judged = [pair for pair in combination if pair[0] is not CellState.NOT_JUDGED]
        if not judged:
            expected = "none_declared"
        elif (CellState.BEYOND, False) in judged:
            expected = "not_met"
        elif set(judged) == {(CellState.WITHIN, True)}:
            expected = "met"
        else:
            expected = "insufficient"
        found = audit_state([cell(*pair) for pair in combination])
        if found != expected:
            wrong.append((combination, found, expected))
    assert not wrong, f"{len(wrong)} of {len(CONDITIONS) ** 4}, first: {wrong[0]}"


def test_a_criterion_that_nothing_can_be_held_to_is_not_met():
    assert audit_verdict([], [], a_plan()).state == "insufficient"
    assert audit_verdict([], [], a_plan(criteria=None)).state == "none_declared"


def test_no_cell_at_all_is_not_met():
    assert (
        audit_state([]) == "none_declared"
    )  # audit_verdict makes it insufficient where a criterion was declared
    meas, plan = of_world(draw("undefined_2_2", np.random.default_rng(0)))
    one_group = Measurements(meas.table, meas.images.assign(**{"subgroup.group": "L0"}))
    found = audited(one_group, plan)
    assert {(c.state, c.settled) for c in found.cells} == {(CellState.NOT_ASSESSED, False)}
    assert found.verdict.state == "insufficient"


def answer(estimate, *, withheld=False):
    test = MarginTest(estimate, 0.02, 0.10, SkewedT(200.0))
    contrast = Contrast("level", "g", "rest", 50, 50, 50, 50, estimate=estimate, margin_test=test)
    draft = Draft(
        "GA101", "a", "r", "heat_share", contrast, None, True, 0.10, (), "gradcam", "predicted"
    )
    return Answer(draft, withheld=withheld)


def test_a_withheld_number_decides_nothing_not_even_beside_others():
    """Far beyond the limit as it is, it is one more cell with p = 1: the others stay as cautious as without it."""
    seen = [answer(0.13), answer(0.05)]
    hidden = judged_contrasts([*seen, answer(0.90, withheld=True)], [0.10] * 3, 0.05)
    absent = judged_contrasts([*seen, Answer()], [0.10] * 3, 0.05)
    assert hidden[2].state is CellState.WITHHELD
    assert absent[2] is None
    assert [c.thin for c in hidden[:2]] == [c.thin for c in absent[:2]]
    told = judged_contrasts([*seen, answer(0.90)], [0.10] * 3, 0.05)
    assert told[2].state is CellState.BEYOND
    assert told[0].thin != hidden[0].thin


# ── the list does not depend on what survives ───────────────────────────────────────────────────────────────────────


def keys(found):
    return [
        (c.attribute, c.comparison, c.group, c.reference, c.region, c.outcome) for c in found.cells
    ]


def lose_masks(meas, level, region="ruler", share=1.0, seed=0):
    """``share`` of a level's masks cannot be read."""
    table, images = meas.table.copy(), meas.images
    members = images.loc[images["subgroup.tone"] == level, "image_id"].to_numpy()
    rng = np.random.default_rng(seed)
    gone = rng.permutation(members)[: round(share * len(members))]
    rows = table["image_id"].isin(gone) & (table["region"] == region)
    table.loc[rows, ["heat_share", "area_share", *METRICS]] = np.nan
    table.loc[rows, "reason"] = "unreadable_mask"
    return Measurements(table, images)


def test_the_planned_cells_are_those_of_plan_and_manifest():
    meas, plan = measured(1, patients=300, spread=0.25), a_plan()
    found = audited(meas, plan)
    places = [("ruler", "heat_share"), ("lesion", "heat_share"), ("", "undefined")]
    comparisons = [("tone", "level", g, "rest") for g in ("I-II", "III-IV", "V-VI")]
    larger = meas.images.groupby("subgroup.sex")["cluster"].nunique().idxmax()
    smaller = {"f": "m", "m": "f"}[larger]
    comparisons += [
        ("tone", "trend", "", ""),
        ("sex", "level", smaller, larger),
        ("age", "curve", "", ""),
    ]
    assert sorted(keys(found)) == sorted((*c, *place) for c in comparisons for place in places)


@pytest.mark.parametrize("share", [1.0, 0.97])
def test_masks_that_cannot_be_read_take_no_cell_away(share):
    meas, plan = measured(1, patients=400, spread=0.25), a_plan()
    whole, less = audited(meas, plan), audited(lose_masks(meas, "V-VI", share=share), plan)
    assert keys(less) == keys(whole)
    assert less.verdict.state == "insufficient"


def test_three_unordered_levels_are_planned_in_pairs():
    meas = measured(1, patients=300, spread=0.25)
    pairs = [
        c
        for c in audited(meas, a_plan(subgroups={})).cells
        if c.comparison == "pair" and c.region == "ruler"
    ]
    assert {(c.group, c.reference) for c in pairs} == {
        ("I-II", "III-IV"),
        ("I-II", "V-VI"),
        ("III-IV", "V-VI"),
    }
    declared = audited(meas, a_plan(subgroups={"tone": {"reference": "I-II"}}))
    named = {(c.comparison, c.group, c.reference) for c in declared.cells if c.attribute == "tone"}
    assert named == {
        ("level", "III-IV", "I-II"),
        ("level", "V-VI", "I-II"),
        ("pair", "III-IV", "V-VI"),
    }


# ── attacks that passed ─────────────────────────────────────────────────────────────────────────────────────────────


def test_seventy_percent_unreadable_masks_are_not_met():
    meas, plan = of_world(draw("unreadable", np.random.default_rng(1)))
    found = audited(meas, plan)
    heat = [c for c in found.cells if c.outcome == "heat_share"]
    assert [(c.state, c.settled) for c in heat] == [(CellState.WITHIN, False)]
    assert heat[0].coverage == pytest.approx(0.3, abs=0.01)
    assert "30 % of the clusters" in heat[0].reason
    assert found.verdict.state == "insufficient"
    assert any("30 %" in reason for reason in found.verdict.reasons)


def test_an_attribute_known_for_two_in_five_is_not_met():
    meas, plan = of_world(draw("unknown", np.random.default_rng(1)))
    found = audited(meas, plan)
    known = meas.images["subgroup.group"].notna().mean()
    assert all(f"known for {known * 100:.0f} %" in c.reason for c in found.cells)
    assert found.verdict.state == "insufficient"


def test_patients_trimmed_away_are_not_met():
    meas, plan = of_world(draw("trimmed", np.random.default_rng(1)))
    found = audited(meas, plan)
    heat = [c for c in found.cells if c.outcome == "heat_share"]
    assert all(not c.settled for c in heat)
    assert found.verdict.state == "insufficient"


def test_those_of_common_size_alone_are_covered():
    """Three of five patients of the group have a region as small as the others have: among them there is no difference."""
    meas, plan = of_world(trimmed(inside=0.6)(np.random.default_rng(1)))
    heat = [c for c in audited(meas, plan).cells if c.outcome == "heat_share"]
    assert [(c.state, c.settled) for c in heat] == [(CellState.WITHIN, False)]
    assert heat[0].coverage == pytest.approx(0.6, abs=0.03)
    assert "it rests on" in heat[0].reason


def test_undefined_heat_that_is_open_against_its_own_margin_is_not_met():
    """Rates 6 points apart against a margin of 5, heat share without a difference."""
    meas, plan = of_world(
        draw("undefined_10_4", np.random.default_rng(1)), criteria={"undefined_margin": 0.05}
    )
    found = audited(meas, plan)
    assert found.verdict.state == "insufficient"
    assert [c.state for c in found.cells if c.outcome == "undefined"] == [CellState.OPEN]


def test_a_suppressed_group_is_never_met():
    meas, plan = of_world(draw("suppressed", np.random.default_rng(1)))
    found = audited(meas, plan)
    assert found.verdict.state == "insufficient"
    hidden = [c for c in found.cells if c.state is CellState.WITHHELD]
    assert hidden
    assert "6" not in " ".join(c.reason for c in hidden)


@pytest.mark.parametrize(
    ("needed", "settled"), [(0.29, True), (0.31, False)], ids=["enough were seen", "too few"]
)
def test_coverage_is_held_against_its_floor(needed, settled):
    """30 % of one group's masks could be read; who was not seen lies at the 10 % or 90 % point, so a wide margin is asked."""
    meas, plan = of_world(
        draw("unreadable", np.random.default_rng(1)),
        criteria={"min_coverage": needed, "margin": 0.40},
    )
    assert {c.settled for c in audited(meas, plan).cells if c.outcome == "heat_share"} == {settled}


def test_the_default_floor_is_four_of_five():
    def settled(lost):
        rng = np.random.default_rng(4)
        group = np.repeat([1, 0], [500, 500])
        gone = np.r_[rng.permutation(500) < lost, np.zeros(500, bool)]
        frame = pd.DataFrame(
            {
                "value": np.where(gone, np.nan, 0.4 + 0.02 * rng.standard_normal(1000)),
                "group": group,
                "cluster": np.arange(1000),
            }
        )
        frame = frame.assign(log_area=np.nan, state=np.where(gone, "no mask", "ok"))
        meas, plan = of_world(frame)
        return {c.settled for c in audited(meas, plan).cells if c.outcome == "heat_share"}

    assert settled(100) == {True}
    assert settled(101) == {False}


def test_one_mask_of_each_patient_is_not_all_of_them():
    """Every patient keeps one readable mask of four: each was seen, and three of four of their images were not."""
    rng = np.random.default_rng(6)
    cluster = np.repeat(np.arange(300), 4)
    group = (cluster < 150).astype(int)
    gone = (np.arange(1200) % 4 > 0) & (group == 1)
    frame = pd.DataFrame(
        {
            "value": np.where(gone, np.nan, 0.4 + 0.05 * rng.standard_normal(1200)),
            "group": group,
            "cluster": cluster,
        }
    )
    meas, plan = of_world(frame.assign(log_area=np.nan, state=np.where(gone, "no mask", "ok")))
    heat = [c for c in audited(meas, plan).cells if c.outcome == "heat_share"]
    assert [(c.coverage, c.settled) for c in heat] == [(0.25, False)]


@pytest.mark.parametrize(
    ("reason", "area"),
    [("empty_mask", 0.0), ("empty_mask", np.nan), ("empty_after_crop", np.nan), ("zero_heat", 0.0)],
)
def test_images_without_the_region_are_no_part_of_the_comparison(reason, area):
    """The marking is absent from most images of one group: what is compared are images that show it, and all of those were seen."""
    rng = np.random.default_rng(6)
    group = np.repeat([1, 0], [600, 600])
    absent = np.r_[rng.random(600) < 0.6, np.zeros(600, bool)]
    frame = pd.DataFrame(
        {
            "value": np.where(absent, np.nan, 0.4 + 0.05 * rng.standard_normal(1200)),
            "group": group,
            "cluster": np.arange(1200),
        }
    )
    meas, plan = of_world(frame.assign(log_area=np.nan))
    meas.table.loc[absent, ["reason", "area_share"]] = [reason, area]
    heat = [c for c in audited(meas, plan).cells if c.outcome == "heat_share"]
    assert [(c.coverage, c.settled) for c in heat] == [(1.0, True)]


def test_fewer_than_twenty_patients_never_settle_a_cell():
    def found(n):
        rng = np.random.default_rng(2)
        group = np.repeat([1, 0], [n, 400])
        frame = pd.DataFrame(
            {
                "value": 0.4 + 0.02 * rng.standard_normal(n + 400),
                "group": group,
                "cluster": np.arange(n + 400),
            }
        )
        meas, plan = of_world(frame.assign(log_area=np.nan))
        return audited(meas, plan)

    few, enough = found(19), found(20)
    assert {(c.state, c.provisional, c.settled) for c in few.cells} == {
        (CellState.WITHIN, True, False)
    }
    assert few.verdict.state == "insufficient"
    assert all("provisional" in reason for reason in few.verdict.reasons)
    assert enough.verdict.state == "met"


def test_patients_lost_by_their_heat_are_put_far_out():
    """A true difference at the margin of which 7.4 points are seen, 80 % of the group: rarely met (as seen: 65 %)."""
    met = 0
    for seed in range(20):
        meas, plan = of_world(
            draw("lost_by_heat", np.random.default_rng(seed)),
            criteria={"undefined_margin": 0.4, "min_coverage": 0.7},
        )
        met += audited(meas, plan).verdict.state == "met"
    assert met <= 3


def test_patients_lost_at_random_do_not_cost_the_verdict():
    met = 0
    for seed in range(10):
        meas, plan = of_world(
            draw("lost_at_random_95", np.random.default_rng(seed)),
            criteria={"undefined_margin": 0.1},
        )
        met += audited(meas, plan).verdict.state == "met"
    assert met >= 9


# ── many cells ──────────────────────────────────────────────────────────────────────────────────────────────────────


def many(name, cells, replicates, **criteria):
    """Whether a level is beyond: "not_met" where a level of a world of many cells is beyond of the last one, else the state.

    The pairs of its other levels truly lie twice as far apart, and are left aside.
    """
    attributes = {
        1: ("a0",),
        4: ("a0", "a1"),
        10: ("a0", "a1", "a2"),
        40: ("a0", "a1", "a2", "a3"),
    }[cells]
    states = []
    for seed in range(replicates):
        frame = draw(name, np.random.default_rng((9, seed)))
        regions = int(frame["region"].max()) + 1
        order = {a: {"reference": f"L{frame[a].max()}"} for a in attributes}
        meas, plan = of_world(frame, attributes, criteria, regions, subgroups=order)
        found = audited(meas, plan)
        beyond = [c for c in found.cells if c.state is CellState.BEYOND and c.comparison == "level"]
        states.append("not_met" if beyond else "insufficient")
    return states


@pytest.mark.slow
def test_true_differences_at_the_margin_are_rarely_not_met():
    """Ten cells at the margin: "not met" was found in 20.6 of a hundred, and may be in 3.5."""
    states = many("M10", 10, 30)
    assert states.count("not_met") <= 4  # binomial: more than 4 of 30 in one of 1000 at 3.5 %


def test_a_cell_far_beyond_among_many_is_found():
    frame = draw("N10", np.random.default_rng(3))
    frame.loc[(frame["a0"] == 0) & (frame["region"] == 0), "value"] += 0.25
    meas, plan = of_world(
        frame,
        ("a0", "a1", "a2"),
        None,
        2,
        subgroups={a: {"reference": f"L{frame[a].max()}"} for a in ("a0", "a1", "a2")},
    )
    found = audited(meas, plan)
    beyond = [c for c in found.cells if c.state is CellState.BEYOND]
    assert [(c.attribute, c.group, c.region) for c in beyond] == [("a0", "L0", "r0")]
    assert found.verdict.state == "not_met"
