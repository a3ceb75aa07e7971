"""Tables by subgroup: numbers known by hand, degenerate data, speed; and limits that are found where they were planted."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from compared_groups import a_plan, measured
from hand_measurements import OPEN, by_hand, sample

from gradaudit.analysis.descriptives import describe
from gradaudit.analysis.findings import analyze
from gradaudit.cohort.heat_distributions import (
    adjusted_means,
    heat_by_correctness,
    heat_table,
    mean_maps,
)
from gradaudit.cohort.image_flow import exclusions, flow_table, region_facts
from gradaudit.cohort.population import attribute_facts, level_groups
from gradaudit.disclosure.decision import suppressed_levels
from gradaudit.plan import Plan
from gradaudit.records import ALL, UNKNOWN, Finding, Interval
from gradaudit.runs.measurements import Measurements
from tests.run_files import run_file


def at(rows, level):
    return next(r for r in rows if r.level == level)


# ── by hand ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_flow_by_hand():
    rows = flow_table(by_hand(), OPEN)
    steps = {
        r.level: (
            r.n_manifest,
            r.n_readable,
            r.n_mask_usable,
            r.n_heat_usable,
            r.n_analysed,
            r.n_clusters,
        )
        for r in rows
    }
    assert steps == {
        ALL: (7, 6, 5, 4, 4, 3),
        "dark": (3, 2, 1, 0, 0, 0),
        "light": (3, 3, 3, 3, 3, 2),
        UNKNOWN: (1, 1, 1, 1, 1, 1),
    }
    assert at(rows, "light").label_prevalence == pytest.approx(
        {"benign": 2 / 3, "malignant": 1 / 3, UNKNOWN: 0}
    )
    assert at(rows, "dark").label_prevalence == {}
    assert at(rows, UNKNOWN).label_prevalence == {"benign": 0, "malignant": 0, UNKNOWN: 1}
    assert at(rows, "light").area_share == {"lesion": pytest.approx(0.1)}
    assert at(rows, "dark").area_share == {"lesion": None}
    assert at(rows, "dark").mean_confidence == pytest.approx(0.8)


def test_exclusions_by_hand():
    found = {(e.reason, e.region): e for e in exclusions(by_hand(), OPEN)}
    assert set(found) == {("truncated", ""), ("zero_heat", ""), ("empty_mask", "lesion")}
    assert found["truncated", ""].by_level == {"tone": {"dark": 1, "light": 0, UNKNOWN: 0}}
    assert found["empty_mask", "lesion"].examples == ("bare",)
    assert found["zero_heat", ""].meaning == "the heat map has no positive evidence"
    hidden = exclusions(by_hand(), OPEN, {"tone": {"dark"}})
    assert all(e.examples == () for e in hidden)


def test_every_image_region_pair_is_measured_or_excluded_once():
    rng = np.random.default_rng(0)
    meas = sample(300, rng)
    flow, heat = flow_table(meas, OPEN), heat_table(meas, OPEN)
    for region in ("lesion", "ruler"):
        excluded = sum(e.count for e in exclusions(meas, OPEN) if e.region in ("", region))
        measured = next(h.n_images for h in heat if h.attribute == ALL and h.region == region)
        assert measured + excluded == flow[0].n_manifest
    assert sum(r.n_analysed for r in flow[1:] if r.attribute == "tone") == flow[0].n_analysed


def test_heat_counts_each_patient_once():
    rows = heat_table(by_hand(), OPEN)
    light = at(rows, "light")
    assert (light.n_images, light.n_clusters) == (3, 2)
    assert light.mean == pytest.approx((0.3 + 0.9) / 2)
    assert light.sd == pytest.approx(np.std([0.3, 0.9], ddof=1))
    assert light.quantiles[2] == pytest.approx(0.6)
    assert (light.ci_low, light.ci_high) == (
        0.0,
        1.0,
    )  # two patients: the interval is cut at the ends
    assert light.pointing_game == pytest.approx(0.75)
    assert light.mean_lift == pytest.approx(6.0)
    assert sum(light.histogram) == 2
    assert light.histogram[6] == 1  # 0.3 opens the bin [0.30, 0.35)
    dark = at(rows, "dark")
    assert (dark.n_images, dark.mean, dark.quantiles, dark.undefined_share) == (0, None, (), 1.0)
    unknown = at(rows, UNKNOWN)
    assert (unknown.mean, unknown.sd, unknown.ci_low) == (pytest.approx(0.1), None, None)


def test_region_facts_by_hand():
    plan = OPEN.updated(regions={"lesion": {"role": "attend", "description": "outlined by hand"}})
    (facts,) = region_facts(by_hand(), plan)
    assert (facts.role, facts.n_annotated, facts.n_present, facts.description) == (
        "attend",
        6,
        5,
        "outlined by hand",
    )
    assert facts.mean_area_share == pytest.approx(0.1)


def test_heat_among_right_and_wrong_predictions():
    rows = {(r.level, r.metric): r for r in heat_by_correctness(by_hand(), OPEN)}
    assert rows["light", "heat_right:lesion"].estimate == pytest.approx((0.2 + 0.9) / 2)
    assert rows["light", "heat_wrong:lesion"].estimate == pytest.approx(0.4)
    assert rows["light", "heat_wrong:lesion"].reason.startswith("one cluster")
    assert rows[UNKNOWN, "heat_right:lesion"].estimate is None  # no label: neither right nor wrong


def test_mean_maps_by_hand():
    def grid(name, kind, values, what):
        content = np.array(values, dtype=np.float32 if kind == "heat" else np.uint8)
        return {
            "image_id": name,
            "kind": kind,
            "name": what,
            "height": 1,
            "width": 2,
            "values": content.tobytes(),
        }

    maps = pd.DataFrame([
        grid("a1", "heat", [1, 0], "predicted"), grid("a2", "heat", [10, 30], "predicted"), grid("b", "heat", [1, -5], "predicted"),
        grid("cold", "heat", [0, 0], "predicted"), grid("who", "heat", [0, 7], "predicted"),
        grid("a1", "region", [255, 0], "lesion"), grid("a2", "region", [255, 0], "lesion"), grid("b", "region", [255, 255], "lesion"),
    ])  # fmt: skip
    found = {m.level: m for m in mean_maps(by_hand(maps), OPEN)}
    assert set(found) == {ALL, "light", UNKNOWN}
    assert found["light"].n_images == 3
    assert found["light"].heat == (
        (pytest.approx(0.75, abs=1e-4), pytest.approx(0.25, abs=1e-4)),
    )  # each map has mass one before the mean
    assert found["light"].regions == {"lesion": ((1.0, pytest.approx(0.3333)),)}
    assert found[UNKNOWN].regions == {}
    assert found[ALL].heat == (
        (pytest.approx((1 + 0.25 + 1 + 0) / 4, abs=1e-3), pytest.approx(0.4375, abs=1e-3)),
    )


def test_adjusted_means_are_those_of_the_regression():
    """Least-squares means at the pooled mix, from the differences to everyone else and from those to one level."""
    rng = np.random.default_rng(2)
    group, x = rng.choice(3, 200, p=[0.6, 0.3, 0.1]), rng.standard_normal(200)
    y = (
        0.4
        + 0.1 * (group == 1)
        - 0.05 * (group == 2)
        + 0.1 * (x + group)
        + 0.02 * rng.standard_normal(200)
    )
    design = np.column_stack([*(group == k for k in range(3)), x + group]).astype(float)
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    wanted = beta[:3] + beta[3] * (x + group).mean()
    n = np.bincount(group)

    def finding(k, reference, others, difference):
        return Finding(
            code="GA101", anchor="", question="", attribute="g", group=str(k), reference=reference, region="r", n_clusters=int(n[k]),
            n_clusters_reference=int(others.sum()), mean=Interval(estimate=y[group == k].mean()), mean_reference=Interval(estimate=y[others].mean()),
            adjusted=Interval(estimate=difference), adjusted_for=("region size",),
        )  # fmt: skip

    rest = [
        finding(
            k,
            "rest",
            group != k,
            beta[k] - np.average(np.delete(beta[:3], k), weights=np.delete(n, k)),
        )
        for k in range(3)
    ]
    named = [finding(k, "0", group == 0, beta[k] - beta[0]) for k in (1, 2)]
    for findings in (rest, named):
        means = adjusted_means(findings)
        assert [means["g", str(k), "r", "", ""] for k in range(3)] == pytest.approx(
            list(wanted), abs=1e-9
        )


def test_a_patient_alone_in_all_small_levels_stands_outside_the_adjusted_means():
    """The model leaves him out, so the means of the others average to the others' plain mean."""
    meas, plan = measured(3, patients=120), a_plan(subgroups={}, privacy={"min_cell": 1})
    one = meas.images["cluster"] == meas.images["cluster"].iloc[-1]
    meas.images.loc[one, "subgroup.tone"] = "alone"
    found = adjusted_means(analyze(meas, plan))
    shares = meas.table.merge(meas.images[["image_id", "cluster", "subgroup.tone"]])
    for region in ("ruler", "lesion", "skin"):
        own = shares[(shares["region"] == region) & (shares["subgroup.tone"] != "alone")]
        patients = own.groupby(["subgroup.tone", "cluster"])["heat_share"].mean()
        sizes = patients.groupby("subgroup.tone").size()
        means = [found["tone", level, region, "gradcam", "predicted"] for level in sizes.index]
        assert np.average(means, weights=sizes) == pytest.approx(patients.mean(), abs=1e-12)


# ── attributes ──────────────────────────────────────────────────────────────────────────────────────────────────────


def with_column(values, **subgroup):
    meas = by_hand()
    images = (
        meas.images.iloc[: len(values)]
        .assign(**{"subgroup.x": pd.Series(values, dtype=object)})
        .drop(columns="subgroup.tone")
    )
    return Measurements(meas.table, images, None, meas.run), OPEN.updated(subgroups={"x": subgroup})


def test_kinds_and_levels():
    meas, plan = with_column(["b", "a", None], order=["b", "a", "never"])
    (facts,) = attribute_facts(meas, plan)
    assert (facts.kind, facts.levels) == ("ordered", ("b", "a", "never"))
    rows = flow_table(meas, plan)
    assert [r.level for r in rows] == [ALL, "b", "a", "never", UNKNOWN]
    assert at(rows, "never").n_manifest == 0
    meas, plan = with_column(["10", "9", "10"], description="number of moles", inferred=True)
    (facts,) = attribute_facts(meas, plan)
    assert (facts.kind, facts.levels, facts.inferred) == ("categorical", ("9", "10"), True)


def test_continuous_attributes_are_cut_at_quartiles_without_printing_extremes():
    meas, plan = with_column([str(v) for v in (18, 30, 41, 55, 62, 70, 93)], kind="continuous")
    (facts,) = attribute_facts(meas, plan)
    assert (facts.kind, facts.levels) == (
        "continuous",
        ("below 35.5", "35.5 to below 55", "55 to below 66", "66 and over"),
    )
    levels = level_groups(meas, plan)["x"].astype(str).tolist()
    assert levels == [facts.levels[k] for k in (0, 0, 1, 2, 2, 3, 3)]


def test_many_numbers_are_continuous_and_words_among_them_are_unknown():
    meas = sample(60, np.random.default_rng(0))
    ages = [str(20 + k) for k in range(60)]
    images = meas.images.assign(**{"subgroup.age": pd.Series(ages, dtype=object)})
    assert [
        a.kind for a in attribute_facts(Measurements(meas.table, images, None, meas.run), OPEN)
    ] == ["categorical", "continuous"]
    images["subgroup.age"] = pd.Series(["unsaid", *ages[1:]], dtype=object)
    groups = level_groups(
        Measurements(meas.table, images, None, meas.run),
        OPEN.updated(subgroups={"age": {"kind": "continuous"}}),
    )
    assert groups["age"].iloc[0] == UNKNOWN


def checks_of(meas, plan=OPEN):
    parts = describe(meas, plan)
    return {c.name: c for c in parts.checks}, parts.limits


def test_clean_data_pass_and_every_check_says_why():
    meas = sample(900, np.random.default_rng(1), failing=0.0)
    found, limits = checks_of(
        meas, OPEN.updated(criteria={"margin": 0.1, "declared_on": "2020-01-01"})
    )
    assert {c.state for c in found.values()} <= {"passed", "not_applicable"}
    assert all(len(c.detail) > 15 for c in found.values())
    assert limits == ()


def planted_limits():
    def change(name, meas):
        images, table = meas.images.copy(), meas.table.copy()
        dark = images["subgroup.tone"] == "III"
        of_dark = table["image_id"].isin(images.loc[dark, "image_id"])
        if name == "size":
            table.loc[of_dark & (table["region"] == "lesion"), "area_share"] *= 2
        elif name == "labels":
            images.loc[dark, "label"] = "malignant"
        elif name == "cold":
            table.loc[of_dark, ["status", "reason", "heat_share"]] = ["flat", "flat", np.nan]
            keep = images["image_id"].isin(images.loc[dark, "image_id"].iloc[:150])
            table.loc[table["image_id"].isin(images.loc[keep, "image_id"])] = meas.table.loc[
                table["image_id"].isin(images.loc[keep, "image_id"])
            ]
        elif name == "twice":
            images.loc[images.index[:2], "path"] = "same.png"
        elif name == "few":
            images.loc[
                images["cluster"].isin(sorted(images["cluster"].unique())[:12]), "subgroup.tone"
            ] = "IV"
        elif name == "mixed":
            images["subgroup.tone"] = np.random.default_rng(0).permutation(
                images["subgroup.tone"].to_numpy()
            )
        elif name == "coarse":
            table.loc[(table["region"] == "ruler") & (table["area_share"] > 0), "reason"] = (
                "mask_below_cell"
            )
        elif name == "unlabelled":
            images.loc[images.index[:40], "label"] = None
        elif name == "nobody":
            images.loc[images.index[:100], "subgroup.tone"] = None
        elif name == "broken":
            images.loc[images.index[:60], ["status", "reason"]] = ["failed", "truncated"]
        return Measurements(table, images, None, meas.run)

    return change


@pytest.mark.parametrize(
    ("name", "check", "words"),
    [
        ("size", "Region sizes alike across groups", "lesion covers"),
        ("labels", "Label mix alike across groups", "0 % of III"),
        ("cold", "Undefined heat alike across groups", "tone = III"),
        ("twice", "No image twice", "2 rows"),
        ("few", "Enough clusters per group", "tone = IV (12)"),
        ("mixed", "One level per cluster", "tone"),
        ("coarse", "Regions larger than a cell of the map", "ruler in"),
        ("unlabelled", "Labels known", "40 of 900"),
        ("nobody", "Levels known", "tone (11 % of images)"),
        ("broken", "Images can be read", "60 of 900"),
    ],
)
def test_a_planted_limit_is_found_and_said(name, check, words):
    clean = sample(900, np.random.default_rng(1), failing=0.0)
    found, limits = checks_of(planted_limits()(name, clean))
    assert found[check].state == "issue", found[check].detail
    assert words in found[check].detail
    assert found[check].detail in limits
    assert checks_of(clean)[0][check].state != "issue"


def test_checks_and_limits_speak_of_the_units_of_the_plan():
    clean = sample(900, np.random.default_rng(1), failing=0.0)
    few = planted_limits()("few", clean)
    found, limits = checks_of(few, OPEN.updated(analysis={"cluster_name": "person/people"}))
    detail = found["Enough people per group"].detail
    assert detail.startswith("Few people in tone = IV (12)")
    assert detail in limits
    assert not any("cluster" in text for text in limits)


def test_declarations_that_limit_are_said():
    meas = sample(200, np.random.default_rng(0))
    run = run_file(cluster_declared=False, started="2026-03-01T00:00:00+00:00")
    meas = Measurements(meas.table, meas.images, None, run)
    late = OPEN.updated(
        criteria={"margin": 0.1, "declared_on": "2026-04-01"},
        subgroups={"tone": {"inferred": True}},
    )
    text = " ".join(checks_of(meas, late)[1])
    assert "after the measuring began" in text
    assert "estimated by an algorithm" in text
    assert "counts as independent" in text
    assert "No limit was set" in " ".join(checks_of(meas)[1])
    assert "carries no date" in " ".join(checks_of(meas, OPEN.updated(criteria={"margin": 0.1}))[1])


# ── degenerate data, shape, speed ───────────────────────────────────────────────────────────────────────────────────


def all_failed():
    meas = sample(40, np.random.default_rng(0))
    images = meas.images.assign(
        status="failed",
        reason="unreadable",
        predicted=None,
        probability=np.nan,
        heat_status="not_measured",
    )
    images["correct"] = pd.array([None] * 40, dtype="boolean")
    return Measurements(meas.table.iloc[:0], images, None, meas.run)


def cut(n):
    meas = sample(40, np.random.default_rng(0))
    images = meas.images.iloc[:n]
    return Measurements(
        meas.table.loc[meas.table["image_id"].isin(images["image_id"])], images, None, meas.run
    )


def bare():
    meas = sample(40, np.random.default_rng(0))
    return Measurements(meas.table.iloc[:0], meas.images.drop(columns="subgroup.tone"))


DEGENERATE = {
    "empty": cut(0),
    "one": cut(1),
    "two": cut(2),
    "all failed": all_failed(),
    "bare": bare(),
    "seven": by_hand(),
}


@pytest.mark.parametrize("meas", DEGENERATE.values(), ids=DEGENERATE.keys())
@pytest.mark.parametrize("min_cell", [1, 11])
def test_degenerate_data_have_rows_and_no_nan(meas, min_cell):
    parts = describe(meas, Plan(privacy={"min_cell": min_cell}))
    text = json.dumps(
        [
            r.model_dump(mode="json")
            for k, rows in vars(parts).items()
            if k != "limits"
            for r in rows
        ],
        allow_nan=False,
    )
    assert "NaN" not in text
    assert parts.flow[0].attribute == ALL
    assert all(c.detail for c in parts.checks)


def test_parts_are_those_of_the_document():
    parts = describe(sample(60, np.random.default_rng(0)), Plan())
    assert set(vars(parts)) == {
        "regions",
        "attributes",
        "flow",
        "exclusions",
        "heat",
        "performance",
        "mean_maps",
        "calibration",
        "size_curves",
        "checks",
        "limits",
    }
    assert all(isinstance(rows, tuple) for rows in vars(parts).values())


def test_another_method_has_its_own_heat_rows():
    meas = sample(60, np.random.default_rng(0))
    both = pd.concat(
        [meas.table, meas.table.assign(method="layercam", heat_share=meas.table["heat_share"] / 2)],
        ignore_index=True,
    )
    rows = heat_table(Measurements(both, meas.images, None, meas.run), OPEN)
    means = {r.method: r.mean for r in rows if r.attribute == ALL and r.region == "lesion"}
    assert means["layercam"] == pytest.approx(means["gradcam"] / 2)
    assert rows[0].method == "gradcam"


def test_row_order_moves_nothing():
    meas = sample(120, np.random.default_rng(0))
    shuffled = Measurements(meas.table.sample(frac=1, random_state=0), meas.images, None, meas.run)
    assert describe(shuffled, Plan()).flow == describe(meas, Plan()).flow
    assert {(r.level, r.region, r.mean) for r in heat_table(shuffled, OPEN)} == {
        (r.level, r.region, r.mean) for r in heat_table(meas, OPEN)
    }


def test_five_thousand_images_take_seconds_not_minutes():
    rng = np.random.default_rng(0)
    meas = sample(5000, rng, regions=("a", "b", "c", "d"), levels=tuple("ABCDEF"))
    for name in ("site", "device"):
        meas.images[f"subgroup.{name}"] = rng.choice(list("xyz"), 5000)
    start = time.process_time()  # what else the machine does is not counted
    describe(meas, Plan())
    assert time.process_time() - start < 8  # about one on an idle core
    assert suppressed_levels(meas, Plan()) == {}
