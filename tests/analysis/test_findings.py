"""Questions, findings and verdicts: a planted and a null case each, small cells, sentences, and measurements that are hardly there."""

import re

import numpy as np
import pandas as pd
import pytest
from compared_groups import PLAN, a_plan, audited, measured

from gradaudit.analysis.findings import analyze
from gradaudit.analysis.questions import QUESTIONS
from gradaudit.analysis.study import Study
from gradaudit.analysis.verdict import audit_verdict
from gradaudit.cohort.attributes import Attribute
from gradaudit.cohort.population import take_cohort
from gradaudit.errors import InputError, PlanError
from gradaudit.plan import build_plan
from gradaudit.records import CellState
from gradaudit.runs.measurements import Measurements
from tests.small_audits import store_run, without_clusters

BANNED = re.compile(r"\b(un)?bias(ed)?\b|\bfair(ness)?\b|\bdebiased\b|\bcompliant\b", re.IGNORECASE)
METRICS = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")


def of(findings, code, **where):
    return [
        f for f in findings if f.code == code and all(getattr(f, k) == v for k, v in where.items())
    ]


@pytest.fixture(scope="module")
def planted_audit():
    return audited(measured(gap=0.2, undefined=(0.05, 0.05, 0.4), absent=(0.1, 0.1, 0.6)), a_plan())


@pytest.fixture(scope="module")
def planted(planted_audit):
    return planted_audit.findings


@pytest.fixture(scope="module")
def null_audit():
    return audited(measured(1, patients=500, spread=0.25), a_plan())


@pytest.fixture(scope="module")
def null(null_audit):
    return null_audit.findings


# ── every question, planted and null ────────────────────────────────────────────────────────────────────────────────


def test_a_planted_gap_is_beyond_and_its_own_group_is_named(planted, planted_audit):
    found = of(planted, "GA101", region="ruler", group="V-VI")[0]
    assert found.state is CellState.BEYOND
    assert found.adjusted.estimate == pytest.approx(0.2, abs=0.04)
    assert found.raw.estimate is not None
    assert found.adjusted_for == ("region size", "label")
    assert found.test.family == "confirmatory"
    assert found.effect.ratio.estimate > 1.4
    assert all(f.state is not CellState.BEYOND for f in of(planted, "GA101", region="lesion"))
    assert of(planted, "GA102", region="ruler")[0].state is CellState.BEYOND
    assert planted_audit.verdict.state == "not_met"


def test_nothing_planted_is_within_and_met(null, null_audit):
    decisive = [f for f in of(null, "GA101") if f.test.family == "confirmatory"]
    assert {f.state for f in decisive} == {CellState.WITHIN}
    assert {cell.state for cell in null_audit.cells} == {CellState.WITHIN}
    verdict = null_audit.verdict
    assert verdict.state == "met"
    assert verdict.reasons == ()
    assert 3 <= len(verdict.sentences) <= 5


def test_few_patients_are_insufficient():
    found = audited(measured(2, patients=45), a_plan())
    assert found.verdict.state == "insufficient"
    mine = of(found.findings, "GA101", region="ruler", group="V-VI")
    assert all(f.state is not CellState.WITHIN for f in mine)


def test_a_bend_is_a_departure_and_a_straight_trend_is_not(null):
    bent = analyze(measured(3, bend=0.2), a_plan())
    assert of(bent, "GA104", region="ruler", attribute="tone")[0].shown
    assert not of(null, "GA104", region="ruler", attribute="tone")[0].shown


def test_a_continuous_attribute_is_a_slope(null):
    shapes = of(analyze(measured(4, age_slope=0.004), a_plan()), "GA103", region="ruler")
    found = next(f for f in shapes if f.curve)
    assert found.state is CellState.BEYOND
    assert found.group.startswith("P95")
    flat = next(f for f in of(null, "GA103", region="ruler") if f.curve)
    assert flat.state is CellState.WITHIN


def test_undefined_heat_is_an_outcome_of_its_own(planted, null):
    found = of(planted, "GA111", group="V-VI", attribute="tone")[0]
    assert found.shown
    assert found.state is CellState.BEYOND
    assert {f.state for f in of(null, "GA111")} == {CellState.WITHIN}  # undefined in none of them
    noted = of(planted, "GA101", region="ruler", group="V-VI")[0]
    assert any("undefined heat counted as 0 or 1" in note for note in noted.notes)


def test_region_absent_is_an_outcome_of_its_own(planted, null):
    assert of(planted, "GA112", region="ruler", group="V-VI")[0].shown
    assert not of(null, "GA112")


def test_every_region_has_its_own_share_of_images_without_it():
    """Three regions that are missing at three rates: each finding's means are those of its own region, counted here by pandas."""
    meas = measured(11, absent=(0.1, 0.1, 0.6))
    rng = np.random.default_rng(11)
    for region, rates in (("lesion", (0.5, 0.3, 0.1)), ("skin", (0.85, 0.8, 0.9))):
        rows = np.flatnonzero(meas.table["region"] == region)
        level = meas.images["subgroup.tone"].map({"I-II": 0, "III-IV": 1, "V-VI": 2}).to_numpy(int)
        gone = rows[rng.random(len(rows)) < np.take(rates, level)]
        meas.table.loc[gone, ["heat_share", "area_share", *METRICS]] = np.nan
        meas.table.loc[gone, "reason"] = "empty_mask"
    found = of(analyze(meas, a_plan(privacy={"min_cell": 1})), "GA112")
    joined = meas.table.assign(absent=(meas.table["reason"] == "empty_mask") / 1.0).merge(
        meas.images[["image_id", "cluster", "subgroup.tone"]]
    )
    patients = joined.groupby(["region", "subgroup.tone", "cluster"])["absent"].mean()
    seen = [f for f in found if f.attribute == "tone"]
    assert {(f.region, f.group) for f in seen} == {
        (region, level)
        for region in ("ruler", "lesion", "skin")
        for level in ("I-II", "III-IV", "V-VI")
    }
    for f in seen:
        own = patients[f.region]
        assert f.mean.estimate == pytest.approx(own[f.group].mean(), abs=1e-12), (f.region, f.group)
        assert f.mean_reference.estimate == pytest.approx(own.drop(f.group).mean(), abs=1e-12), (
            f.region,
            f.group,
        )
        assert f.raw.estimate == pytest.approx(
            f.mean.estimate - f.mean_reference.estimate, abs=1e-12
        )


def test_a_region_is_absent_whether_or_not_the_heat_is_defined():
    """Where a map has no heat the row's reason says so; that the region's mask is empty stands in its area alone."""
    meas = measured(13, absent=(0.2, 0.2, 0.5))
    empty = (meas.table["reason"] == "empty_mask").to_numpy()
    meas.table.loc[empty, "area_share"] = 0.0
    cold = meas.table["image_id"].isin(meas.images["image_id"].iloc[::3]).to_numpy()
    meas.table.loc[cold, ["heat_share", *METRICS]] = np.nan
    meas.table.loc[cold, "status"], meas.table.loc[cold, "reason"] = (
        "no_positive_evidence",
        "zero_heat",
    )
    joined = meas.table.assign(absent=empty / 1.0).merge(
        meas.images[["image_id", "cluster", "subgroup.tone"]]
    )
    patients = (
        joined[joined["region"] == "ruler"].groupby(["subgroup.tone", "cluster"])["absent"].mean()
    )
    found = of(
        analyze(meas, a_plan(privacy={"min_cell": 1})), "GA112", region="ruler", attribute="tone"
    )
    assert len(found) == 3
    for f in found:
        assert f.mean.estimate == pytest.approx(patients[f.group].mean(), abs=1e-12)


def test_two_outcomes_of_one_name_are_compared_each_by_itself():
    """Whatever a question calls its outcomes, and whether or not it says a region: other values, other numbers."""
    meas, plan = measured(12, patients=60), a_plan()
    tone = meas.images["subgroup.tone"].to_numpy(object)
    levels = tuple(sorted(set(tone)))
    study = Study(
        take_cohort(meas, plan),
        plan,
        meas.table,
        (Attribute("tone", "categorical", tone, None, "rest", None, levels),),
        primary=True,
    )
    drawn = np.random.default_rng(12).random((2, len(tone)))
    for values in drawn:
        for d in study.drafts("GA199", "anything", values, "", confirmatory=False, sized=False):
            patients = pd.Series(values).groupby([tone, meas.images["cluster"]]).mean()
            assert d.contrast.mean[0] == pytest.approx(patients[d.contrast.group].mean(), abs=1e-12)
            assert d.raw.mean[0] == pytest.approx(patients[d.contrast.group].mean(), abs=1e-12)


def test_secondary_measures_are_signals(planted, null):
    found = of(planted, "GA121", region="ruler", group="V-VI")
    assert {f.outcome for f in found} == {*METRICS, "heat_share_correct"}
    assert all(f.test.family == "exploratory" and f.margin is None for f in found)
    assert of(planted, "GA121", outcome="heat_share_correct", group="V-VI")[0].shown
    assert sum(f.shown for f in of(null, "GA121")) <= 2


def test_an_intersection_that_nobody_sees_alone():
    found = analyze(measured(5, joint=0.15), a_plan())
    shown = {f.group for f in of(found, "GA131", reference="additive prediction") if f.shown}
    assert "I-II × f" in shown
    cell = of(found, "GA131", group="I-II × f", reference="rest")[0]
    assert any("shrunken" in note for note in cell.notes)


def test_every_question_has_a_card_and_was_asked(planted):
    pairs = {"GA105"}  # of three or more unordered levels, which these have not
    assert {f.code for f in planted} == set(QUESTIONS.names()) - pairs
    assert all(
        card.summary and card.source and "statistics.md" not in card.source
        for card in QUESTIONS.cards()
    )


# ── families and settings ───────────────────────────────────────────────────────────────────────────────────────────


def test_neutral_regions_explore_and_declared_regions_decide(planted):
    assert {f.region for f in planted if f.test.family == "confirmatory" and f.code == "GA101"} == {
        "ruler",
        "lesion",
    }
    assert {f.test.family for f in of(planted, "GA101", region="skin")} == {"exploratory"}
    only = analyze(measured(), a_plan(analysis={"permutations": 199, "regions": ["lesion"]}))
    assert {f.region for f in only if f.test.family == "confirmatory" and f.code == "GA101"} == {
        "lesion"
    }


def test_holm_spans_the_whole_confirmatory_family(planted):
    p = np.array(
        [f.test.p for f in planted if f.test.family == "confirmatory" and f.test.p is not None]
    )
    adjusted = np.array(
        [
            f.test.p_adjusted
            for f in planted
            if f.test.family == "confirmatory" and f.test.p is not None
        ]
    )
    assert adjusted[np.argmin(p)] == pytest.approx(min(1.0, len(p) * p.min()))
    assert all(
        f.test.permutations >= 80 * len(p)
        for f in planted
        if f.test.family == "confirmatory" and f.test.permutations
    )


def test_without_criteria_nothing_is_judged():
    plan = a_plan(criteria=None)
    found, cells, verdict = audited(measured(gap=0.2), plan)
    told = of(found, "GA101", region="ruler", group="V-VI")[0]
    assert (told.state, told.shown) == (CellState.NOT_JUDGED, True)
    assert (told.thin.low, told.thick.low) == (None, None)  # no band, no whisker of its word
    assert {cell.state for cell in cells} == {CellState.NOT_JUDGED}
    assert verdict.state == "none_declared"
    assert any("declared limit" in line for line in verdict.cannot_tell)


def test_covariates_are_adjusted_for_and_must_exist():
    plan = a_plan(analysis={"permutations": 199, "covariates": ["site"]})
    assert of(analyze(measured(), plan), "GA101")[0].adjusted_for == (
        "region size",
        "label",
        "site",
    )
    with pytest.raises(PlanError, match="'scanner' is not a column"):
        analyze(measured(), a_plan(analysis={"permutations": 199, "covariates": ["scanner"]}))


def test_a_bare_table_is_enough():
    meas = measured(patients=60)
    joined = meas.table[["image_id", "region", "heat_share"]].merge(
        meas.images[["image_id", "cluster", "subgroup.sex"]], on="image_id"
    )
    found = analyze(joined, build_plan({"analysis": {"permutations": 199}}))
    assert {f.code for f in found} >= {"GA101"}
    with pytest.raises(InputError, match="lacks region"):
        analyze(joined.drop(columns="region"))
    with pytest.raises(InputError, match="no groups to compare"):
        analyze(joined.drop(columns="subgroup.sex"))


def test_row_order_of_the_table_changes_nothing():
    meas = measured(6, patients=80, gap=0.1)
    mixed = Measurements(meas.table.sample(frac=1, random_state=0), meas.images)
    plan = a_plan(analysis={"permutations": 199})
    assert [f.model_dump() for f in analyze(meas, plan)] == [
        f.model_dump() for f in analyze(mixed, plan)
    ]


# ── measurements that are hardly there ──────────────────────────────────────────────────────────────────────────────


def _zero(meas):
    meas.table.loc[meas.table["region"] == "ruler", "heat_share"] = 0.0


def _undefined(meas):
    meas.table[["heat_share", *METRICS]] = np.nan
    meas.table["status"], meas.table["reason"] = "no_positive_evidence", "zero_heat"


def _one_level(meas):
    meas.images["subgroup.tone"] = "I-II"


def _unknown(meas):
    meas.images["subgroup.tone"] = None


def _all_absent(meas):
    meas.table.loc[meas.table["region"] == "ruler", ["heat_share", "area_share", *METRICS]] = np.nan
    meas.table.loc[meas.table["region"] == "ruler", "reason"] = "empty_mask"


def _unread(meas):
    meas.images["status"], meas.images["reason"] = "failed", "unreadable"
    meas.table[["heat_share", "area_share", *METRICS]] = np.nan
    meas.table["status"], meas.table["reason"] = "not_measured", "unreadable"


def _one_cluster(meas):
    meas.images["cluster"] = "1"


def _constant_area(meas):
    meas.table["area_share"] = 0.25


def _whole_area(meas):
    meas.table["area_share"] = 1.0


@pytest.mark.parametrize(
    "damage",
    [
        _zero,
        _undefined,
        _one_level,
        _unknown,
        _all_absent,
        _unread,
        _one_cluster,
        _constant_area,
        _whole_area,
    ],
    ids=lambda f: f.__name__,
)
def test_odd_measurements_give_reasons_and_never_a_crash(damage):
    meas = measured(7, patients=60)
    damage(meas)
    plan = a_plan(analysis={"permutations": 99})
    found, cells, verdict = audited(meas, plan)
    for f in found:
        assert f.sentence
        without = (CellState.NOT_ASSESSED, CellState.WITHHELD)
        assert (f.state in without) == bool(f.reason), f.anchor
        constant = "every value is the same" in f.notes
        assert f.state in without or f.test.p is not None or f.n_withheld or constant
    assert len(verdict.sentences) >= 3
    assert verdict.state in ("insufficient", "met")
    assert all(cell.settled or cell.reason or cell.state is CellState.OPEN for cell in cells)


def test_an_empty_measurement_has_no_findings():
    meas = measured(patients=20)
    assert analyze(Measurements(meas.table.head(0), meas.images.head(0)), a_plan()) == []
    assert audit_verdict([], [], a_plan()).state == "insufficient"


# ── small cells ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_small_groups_show_no_number_and_give_none_away():
    meas = measured(8, patients=200, tone=(0.6, 0.37, 0.03))
    sizes = meas.images.groupby("subgroup.tone")["cluster"].nunique()
    assert 0 < sizes["V-VI"] < 11
    found = analyze(meas, a_plan())
    small = [
        f for f in found if f.attribute == "tone" and f.group == "V-VI" and f.reference in ("rest",)
    ]
    assert small
    for f in small:
        assert f.suppressed
        assert (
            f.n_images,
            f.n_clusters,
            f.mean.estimate,
            f.raw.estimate,
            f.adjusted.estimate,
            f.se,
            f.test.p,
        ) == (
            0,
            0,
            None,
            None,
            None,
            None,
            None,
        )
        assert "withheld" in f.sentence
        assert not re.search(r"\d", f.sentence.replace("V-VI", "").replace("11", ""))
    shown = [
        f
        for f in of(found, "GA101", attribute="tone", region="ruler")
        if not f.suppressed and not f.n_withheld
    ]
    assert len(shown) < 2  # with two shown and the total known, the third would follow


def test_large_companions_keep_their_verdict_without_counts():
    meas = measured(8, patients=200, tone=(0.6, 0.37, 0.03), gap=0.0, bend=0.2)
    found = [
        f
        for f in of(analyze(meas, a_plan()), "GA101", attribute="tone", region="ruler")
        if f.n_withheld and not f.suppressed
    ]
    assert found
    assert all(
        f.state is not CellState.NOT_ASSESSED
        and f.n_images == 0
        and f.test.df is None
        and f.mde80 is None
        for f in found
    )
    assert all("n withheld" in f.sentence for f in found)


def test_rare_undefined_heat_shows_no_rate():
    found = analyze(measured(9, patients=300, undefined=(0.01, 0.01, 0.01)), a_plan())
    for f in of(found, "GA111", attribute="sex"):
        assert f.n_withheld
        assert (f.mean.estimate, f.raw.estimate) == (None, None)


def test_without_a_smallest_cell_everything_is_shown():
    found = analyze(
        measured(8, patients=200, tone=(0.6, 0.37, 0.03)), a_plan(privacy={"min_cell": 1})
    )
    assert not any(f.suppressed or f.n_withheld for f in found)
    assert of(found, "GA101", group="V-VI", region="ruler")[0].n_clusters > 0


# ── met, although something was left out ────────────────────────────────────────────────────────────────────────────

NO_ORDER = {"tone": {"reference": "rest"}}


@pytest.fixture(scope="module")
def small_group():
    """A shortcut in V-VI, of whom ten patients are left; every other comparison is within the limit."""
    meas = without_clusters(measured(1, patients=700, spread=0.25, gap=0.3), "tone", "V-VI", 10)
    plan = a_plan(subgroups=NO_ORDER)
    return meas, plan, audited(meas, plan)


def test_a_group_that_is_withheld_keeps_the_verdict_open(small_group):
    found, cells, verdict = small_group[2]
    hidden = [f for f in found if f.suppressed and f.code in ("GA101", "GA105")]
    hidden = [f for f in hidden if f.region in ("ruler", "lesion")]
    assert all("V-VI" in (f.group, f.reference) for f in hidden)
    assert {(f.group, f.test.family, f.state) for f in hidden if f.code == "GA101"} == {
        ("V-VI", "confirmatory", CellState.WITHHELD)
    }
    assert {(c.state, c.estimate, c.coverage) for c in cells if c.group == "V-VI"} == {
        (CellState.WITHHELD, None, None)
    }
    others = [
        f
        for f in found
        if f.test.family == "confirmatory" and f.outcome == "heat_share" and not f.suppressed
    ]
    assert {f.state for f in others} == {CellState.WITHIN}
    assert verdict.state == "insufficient"
    assert all("V-VI" in reason and "withheld" in reason for reason in verdict.reasons)
    gone = sum(cell.state is CellState.WITHHELD for cell in cells)
    assert gone >= len(hidden)
    assert verdict.headline == (
        f"{gone} of {len(cells)} planned comparisons are not settled: {gone} are withheld, because a group is too small to be shown"
    )
    assert any(
        f"Of {len(cells)} planned comparisons" in line and f"{gone} are withheld" in line
        for line in verdict.sentences
    )
    assert any(
        "tone V-VI" in line and "cannot be called met" in line for line in verdict.cannot_tell
    )
    # a pair is withheld by either level: the large one is not called too small
    assert any("tone I-II against V-VI" in line for line in verdict.cannot_tell)
    assert not any("tone I-II," in line or "tone I-II." in line for line in verdict.cannot_tell)


def test_a_group_that_is_withheld_is_named_without_any_of_its_numbers(small_group):
    found = small_group[2].findings
    blank = {"n_images", "n_clusters", "n_images_reference", "n_clusters_reference"}
    hidden = [f for f in found if f.suppressed]
    assert hidden
    for f in hidden:
        told = f.model_dump(exclude={"margin"})
        numbers = [told.pop(name) for name in sorted(blank)]
        assert numbers == [0] * 4
        for part in (
            told,
            told["test"],
            *(told[name] for name in ("mean", "mean_reference", "raw", "adjusted", "effect")),
        ):
            assert not [
                v for v in part.values() if isinstance(v, int | float) and not isinstance(v, bool)
            ], f.anchor
    shown = {f.test.p for f in found if f.test.family == "confirmatory"}
    assert len(shown - {None}) > 1


def test_a_withheld_group_with_the_shortcut_does_not_pass_the_gate(
    small_group, tmp_path, run_command
):
    meas, plan, _ = small_group
    run = store_run(meas, plan, tmp_path / "run")
    code, out, err = run_command("analyze", run)
    assert code == 3, err
    assert out.startswith("insufficient evidence")


@pytest.mark.parametrize("order", [NO_ORDER, PLAN["subgroups"]], ids=["no order", "ordered"])
@pytest.mark.parametrize(
    ("reason", "status"), [("not_annotated", "ok"), ("zero_heat", "no_positive_evidence")]
)
def test_a_group_without_any_usable_image_keeps_the_verdict_open(order, reason, status):
    meas = measured(1, patients=500, spread=0.25)
    gone = meas.table["image_id"].isin(
        meas.images.loc[meas.images["subgroup.tone"] == "V-VI", "image_id"]
    )
    gone &= (meas.table["region"] == "ruler") | (status != "ok")
    meas.table.loc[gone, ["heat_share", *METRICS]] = np.nan
    meas.table.loc[gone, ["status", "reason"]] = status, reason
    if status == "ok":
        meas.table.loc[gone, "area_share"] = np.nan
    plan = a_plan(subgroups=order)
    found, _, verdict = audited(meas, plan)
    missing = of(found, "GA101", region="ruler", group="V-VI")
    assert [(f.state, f.reason, f.test.family, f.n_images) for f in missing] == [
        (CellState.NOT_ASSESSED, "no usable image", "confirmatory", 0)
    ]
    assert "Not assessed: no usable image." in missing[0].sentence
    others = [
        f
        for f in found
        if f.test.family == "confirmatory" and f.outcome == "heat_share" and f.group != "V-VI"
    ]
    assert {f.state for f in others} == {CellState.WITHIN}
    assert verdict.state in ("insufficient", "not_met")
    assert (verdict.state == "not_met") == (
        status != "ok"
    )  # heat that is undefined in one group alone is a disparity of its own
    assert any("tone V-VI" in line for line in verdict.cannot_tell)


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_words_and_anchors(planted_audit, null_audit):
    for findings, _, verdict in (planted_audit, null_audit):
        assert len({f.anchor for f in findings}) == len(findings)
        text = " ".join(
            [
                *(f.sentence for f in findings),
                *verdict.sentences,
                *verdict.cannot_tell,
                verdict.headline,
                *(n for f in findings for n in f.notes),
            ]
        )
        assert not BANNED.search(text)
        assert "nan" not in text.lower().split()
        assert set(verdict.finding_anchors) <= {f.anchor for f in findings}


def test_the_worst_comes_first(planted_audit):
    verdict = planted_audit.verdict
    assert "ruler" in verdict.sentences[0]
    assert "even at the cautious end" in verdict.sentences[0]
    assert verdict.headline.startswith("the share of the model's heat on the ruler is ")


# ── a plan is held against what was measured ────────────────────────────────────────────────────────────────────────


def bare(meas):
    return meas.table[["image_id", "region", "heat_share", "area_share"]].merge(
        meas.images[["image_id", "cluster", "subgroup.sex"]], on="image_id"
    )


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ({"subgroups": {"ethnicity": {}}}, "attribute 'ethnicity'.*has: sex"),
        ({"regions": {"hair": {"role": "avoid"}}}, "region 'hair'.*has: ruler, lesion, skin"),
        ({"analysis": {"regions": ["ruler", "hair"]}}, "region 'hair'"),
        (
            {"subgroups": {"sex": {"reference": "F"}}},
            "reference 'F'.*did you mean 'f'.*has: (f, m|m, f)",
        ),
        (
            {"subgroups": {"sex": {"order": ["f", "x"]}}},
            "order of the attribute 'sex' leaves out 'm'",
        ),
        ({"analysis": {"covariates": ["scanner"]}}, "covariate 'scanner'"),
        ({"analysis": {"pairs": "twin"}}, "pairs 'twin'"),
    ],
)
def test_a_bare_table_is_held_against_the_plan_too(plan, named):
    with pytest.raises(PlanError, match=f"(?s){named}"):
        analyze(bare(measured(patients=60)), build_plan({"analysis": {"permutations": 199}} | plan))


def test_method_and_target_of_a_table_are_held_against_the_plan_where_it_has_them():
    meas = measured(patients=60)
    with pytest.raises(
        PlanError, match=r"(?s)method 'layercam'.*gradcam.*target 'label'.*predicted"
    ):
        analyze(meas, a_plan(explain={"method": "layercam", "target": "label"}))
    assert analyze(
        bare(meas),
        build_plan({"explain": {"method": "layercam"}, "analysis": {"permutations": 199}}),
    )  # it does not say by which
    meas.table["method"] = "layercam"
    assert analyze(meas)  # no plan, so nothing was asked for


def test_images_with_a_level_outside_the_order_are_not_dropped():
    meas = measured(3, gap=0.3)
    with pytest.raises(
        PlanError, match=r"order of the attribute 'tone' leaves out 'V-VI' \(\d+ images\)"
    ):
        analyze(meas, a_plan(subgroups={"tone": {"order": ["I-II", "III-IV"]}}))


def test_numbers_of_a_table_are_levels_as_the_plan_writes_them():
    table = bare(measured(patients=60)).replace({"subgroup.sex": {"f": 1.0, "m": 2.0}})
    table["subgroup.sex"] = table["subgroup.sex"].astype(float)
    plan = {"analysis": {"permutations": 199}}
    assert {
        f.reference
        for f in of(
            analyze(table, build_plan(plan | {"subgroups": {"sex": {"reference": "2"}}})), "GA101"
        )
    } == {"2"}
    with pytest.raises(PlanError, match="reference '3'"):
        analyze(table, build_plan(plan | {"subgroups": {"sex": {"reference": "3"}}}))
