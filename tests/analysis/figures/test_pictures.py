"""The pictures of a finding: the nearest of different patients, of nobody who is withheld, and the same before and after the analysis."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from drawings import a_plan, drawn, findings_of, measured
from planted_levels import planted
from small_audits import write_audit

from gradaudit.analysis.figures.pictures import (
    A_SIDE,
    MOST_NEAREST,
    Chooser,
    of_findings,
    pictures_to_keep,
)
from gradaudit.analysis.figures.sides import MOST_FINDINGS, drawn_findings
from gradaudit.cohort.gallery import MOST_ITEMS
from gradaudit.cohort.population import level_groups
from gradaudit.plan import Plan
from gradaudit.records import CellState, Finding, Limits, TestResult

ROLES = {"regions": {"ruler": {"role": "avoid"}, "lesion": {"role": "attend"}}}


def side_rows(meas, f, side):
    """Share and cluster of the images on one side, by image id: of groups that do not change inside a patient."""
    rows = meas.table[(meas.table["region"] == f.region) & meas.table["heat_share"].notna()]
    rows = rows.merge(meas.images.drop(columns=["status", "reason"]), on="image_id").set_index(
        "image_id"
    )
    level = rows[f"subgroup.{f.attribute}"]
    if side == "group":
        return rows[level == f.group]
    return (
        rows[(level != f.group) & level.notna()]
        if f.reference == "rest"
        else rows[level == f.reference]
    )


# ── which images ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [0, 1])
def test_the_images_are_the_nearest_of_different_patients(seed):
    meas = measured(seed, patients=150, gap=0.15, joint=0.1)
    found = drawn(meas, a_plan(privacy={"min_cell": 1}))
    checked = set()
    for f in findings_of(found, "GA101", "GA102", "GA105"):
        sides = of_findings(found.drawing.chooser, [f])[f.anchor]
        assert [s.side for s in sides] == ["group", "reference"]
        for s in sides:
            rows = side_rows(meas, f, s.side)
            mean = rows.groupby("cluster")["heat_share"].mean().mean()
            low, high = rows["heat_share"].quantile([0.25, 0.75])
            assert s.centre == ("mean" if low <= mean <= high else "median")
            assert s.value == pytest.approx(
                mean if s.centre == "mean" else rows["heat_share"].median()
            )
            if f.code != "GA102" and s.centre == "mean":
                stated = f.mean if s.side == "group" else f.mean_reference
                assert s.value == pytest.approx(stated.estimate, abs=1e-12)
            away = (rows["heat_share"] - s.value).abs()
            best = away.groupby(rows["cluster"]).min().nsmallest(A_SIDE)
            assert [away[i] for i in s.images] == pytest.approx(list(best))
            assert rows.loc[list(s.images), "cluster"].is_unique
            checked.add((f.attribute, f.region, s.side, f.code))
    assert {(a, r) for a, r, *_ in checked} >= {
        ("tone", "ruler"),
        ("tone", "lesion"),
        ("sex", "ruler"),
    }


def test_where_the_mean_is_nobody_s_share_the_median_is_shown():
    """Nine in ten of V-VI have nothing on the ruler, and one in ten nearly all: the mean lies where nobody is."""
    meas = measured(0, patients=200)
    ruler = meas.table["region"] == "ruler"
    dark = meas.images["subgroup.tone"] == "V-VI"
    clusters = meas.images.loc[dark, "cluster"].unique()
    ids = meas.images.set_index("image_id")
    high = ids["cluster"].isin(clusters[::10]).reindex(meas.table["image_id"]).to_numpy()
    inside = ids["subgroup.tone"].eq("V-VI").reindex(meas.table["image_id"]).to_numpy()
    meas.table.loc[ruler & inside, "heat_share"] = np.where(high[ruler & inside], 0.95, 0.001)
    found = drawn(meas, a_plan(privacy={"min_cell": 1}))
    f = next(f for f in found.findings if f.anchor == "GA101-tone-ruler-V-VI")
    group, reference = of_findings(found.drawing.chooser, [f])[f.anchor]
    assert 0.05 < f.mean.estimate < 0.2
    assert (group.centre, group.value) == ("median", 0.001)
    assert reference.centre == "mean"


def test_images_of_one_patient_near_the_mean_are_one_picture():
    meas = measured(3, patients=120)
    ruler = meas.table["region"] == "ruler"
    f = next(f for f in drawn(meas, a_plan()).findings if f.anchor == "GA101-tone-ruler-I-II")
    many = (
        meas.images.loc[meas.images["subgroup.tone"] == "I-II"]
        .groupby("cluster")
        .filter(lambda g: len(g) > 2)
    )
    patient = many["cluster"].iloc[0]
    ids = meas.images.loc[meas.images["cluster"] == patient, "image_id"]
    meas.table.loc[ruler & meas.table["image_id"].isin(ids), "heat_share"] = f.mean.estimate
    found = drawn(meas, a_plan())
    group, _ = of_findings(found.drawing.chooser, [f])[f.anchor]
    assert sum(image in set(ids) for image in group.images) == 1


def test_pairs_inside_patients_are_of_patients_with_both():
    """An attribute that varies inside patients: who has one level only is on no side."""
    rng = np.random.default_rng(0)
    meas = planted({"a": 60, "b": 60}, 0, fail=0.0, cold=0.0, absent=0.0)
    meas.images["cluster"] = [f"c{k % 40}" for k in range(60)] + [
        f"c{20 + k % 40}" for k in range(60)
    ]
    meas.images["subgroup.tone"] = rng.permuted(meas.images["subgroup.tone"].to_numpy())
    plan = Plan(
        **ROLES,
        subgroups={"tone": {"within": True}},
        privacy={"min_cell": 1},
        analysis={"permutations": 99},
    )
    found = drawn(meas, plan)
    (f,) = [f for f in findings_of(found, "GA101") if f.region == "lesion"]
    levels = meas.images.groupby("cluster")["subgroup.tone"].nunique()
    both = set(levels.index[levels == 2])
    for side, level, stated in zip(
        of_findings(found.drawing.chooser, [f])[f.anchor],
        (f.group, f.reference),
        (f.mean, f.mean_reference),
        strict=True,
    ):
        rows = meas.images.set_index("image_id").loc[list(side.images)]
        assert set(rows["subgroup.tone"]) == {level}
        assert set(rows["cluster"]) <= both
        if side.centre == "mean":
            assert side.value == pytest.approx(stated.estimate, abs=1e-12)
    assert len(both) < meas.images["cluster"].nunique()


# ── who is never shown ──────────────────────────────────────────────────────────────────────────────────────────────


def hidden_members(meas, plan, suppression):
    """Images of withheld levels, and images with heat in a region where their level is withheld."""
    groups = level_groups(meas, plan)
    out = set()
    for name, levels in suppression.levels.items():
        out |= set(meas.images.loc[groups[name].isin(levels).to_numpy(), "image_id"])
    for name, level, region, *_ in suppression.cells:
        rows = meas.table[(meas.table["region"] == region) & meas.table["heat_share"].notna()]
        inside = meas.images.loc[(groups[name] == level).to_numpy(), "image_id"]
        out |= set(rows["image_id"]) & set(inside)
    return out


WITHHELD = {
    "a small level": ({"patients": 160, "tone": (0.6, 0.36, 0.04), "gap": 0.3}, None),
    "few unknown": ({"patients": 160, "gap": 0.3}, "tone"),
    "few unknown ages": ({"patients": 160, "gap": 0.3, "age": True}, "age"),
    "a small region": ({"patients": 160, "absent": (0.3, 0.2, 0.9), "gap": 0.4}, None),
}


@pytest.mark.parametrize("world", WITHHELD)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_nobody_of_a_withheld_cell_is_shown(world, seed):
    how, unknown = WITHHELD[world]
    meas, plan = measured(seed, **how), a_plan(privacy={"min_cell": 11})
    if unknown:
        meas.images.loc[meas.images["cluster"].isin(["7", "8"]), f"subgroup.{unknown}"] = None
    found = drawn(meas, plan)
    members = hidden_members(meas, plan, found.suppression)
    assert members
    free = Chooser(
        found.drawing.sides.__class__(
            found.drawing.sides.study, found.suppression.__class__({}, set(), {}, 1)
        )
    )
    told = [f for f in found.findings if f.region and f.code in ("GA101", "GA102", "GA105")]
    everyone = {
        image for sides in of_findings(free, told).values() for s in sides for image in s.images
    }
    shown = {
        image
        for sides in of_findings(found.drawing.chooser, told).values()
        for s in sides
        for image in s.images
    }
    assert members & everyone, "the world has no picture to keep back"
    assert shown
    assert not members & shown
    nearest = {
        image
        for image, labels in pictures_to_keep(meas, plan).items()
        if any(x.startswith("nearest") for x in labels)
    }
    assert nearest
    assert not members & nearest


def test_a_withheld_side_has_no_value():
    """A mean of a level that is withheld in a region is not told beside pictures either."""
    how, _ = WITHHELD["a small region"]
    found = drawn(measured(0, **how), a_plan(privacy={"min_cell": 11}))
    sides = found.drawing.sides
    hidden = {(a, level) for a, level, region, *_ in found.suppression.cells if region == "ruler"}
    assert hidden
    for attribute, level in hidden:
        slope = found.drawing.chooser.of_comparison(attribute, "ruler", level, "I-II", slope=True)
        own = found.drawing.chooser.of_comparison(attribute, "ruler", level, "rest")
        assert "group" not in {s.side for s in (*own, *slope)}
        assert sides.is_hidden(attribute, level, "ruler")


# ── before and after the analysis ───────────────────────────────────────────────────────────────────────────────────


def test_what_is_kept_does_not_hang_on_what_is_found():
    meas = measured(0, patients=150, gap=0.2)
    kept = pictures_to_keep(meas, a_plan())
    for changes in (
        {"criteria": None},
        {"criteria": {"margin": 0.3}},
        {"analysis": {"permutations": 99, "alpha": 0.2}},
    ):
        assert pictures_to_keep(meas, a_plan(**changes)) == kept


@pytest.mark.parametrize("plan", [a_plan(), a_plan(criteria=None), a_plan(privacy={"min_cell": 1})])
def test_every_picture_of_a_finding_was_kept(plan):
    meas = measured(0, patients=150, gap=0.2, joint=0.2)
    found = drawn(meas, plan)
    kept = pictures_to_keep(meas, plan)
    needed = found.drawing.with_pictures({"x": ()})
    assert len(needed) > 6
    assert {i: set(labels) for i, labels in needed.items() if i != "x"}.items() <= {
        i: {x for x in labels if x.startswith("nearest")} & set(needed.get(i, ()))
        for i, labels in kept.items()
    }.items()


def test_many_levels_keep_a_run_small_and_decisive_differences_first():
    meas = planted({f"L{k:02}": 30 for k in range(33)}, 0, fail=0.0, cold=0.0, absent=0.0)
    odd = meas.images.loc[meas.images["subgroup.tone"] == "L07", "image_id"]
    far = meas.table["image_id"].isin(odd) & (meas.table["region"] == "ruler")
    meas.table.loc[far, "heat_share"] = 0.5 + meas.table.loc[far, "heat_share"] / 2
    kept = pictures_to_keep(meas, Plan(**ROLES))
    nearest = {i for i, labels in kept.items() if any(x.startswith("nearest: ") for x in labels)}
    assert MOST_NEAREST - 2 * A_SIDE < len(nearest) <= MOST_NEAREST
    assert len(kept) <= MOST_ITEMS + MOST_NEAREST
    assert any("nearest: ruler, tone = L07" in labels for labels in kept.values())


def test_too_many_levels_are_for_the_analysis_to_refuse():
    meas = planted({f"L{k:02}": 12 for k in range(41)}, 0)
    assert not [
        x
        for labels in pictures_to_keep(meas, Plan(**ROLES)).values()
        for x in labels
        if x.startswith("nearest")
    ]


def a_finding(anchor, state, width=0.1, **changes):
    base = {
        "attribute": "tone",
        "group": "V",
        "reference": "rest",
        "region": "ruler",
        "code": "GA101",
        "shown": state is not CellState.OPEN,
    }
    return Finding(
        anchor=anchor,
        question="",
        state=state,
        thin=Limits(low=0.0, high=width),
        test=TestResult(family="confirmatory"),
        **base | changes,
    )


def test_the_fact_is_drawn_first_then_what_is_beyond_then_the_widest():
    beyond, open_, within = CellState.BEYOND, CellState.OPEN, CellState.WITHIN
    findings = [
        a_finding("narrow", open_, 0.1),
        a_finding("wide", open_, 0.3),
        a_finding("within", within),
        a_finding("beyond", beyond),
        a_finding("curve", beyond, code="GA103"),
        a_finding("undefined", beyond, outcome="undefined"),
        a_finding("explored", beyond).model_copy(update={"test": TestResult(family="exploratory")}),
        a_finding("other side", beyond, folded_under="beyond"),
        a_finding("withheld", beyond, suppressed=True),
    ]
    assert [f.anchor for f in drawn_findings(findings, "within")] == [
        "within",
        "beyond",
        "wide",
        "narrow",
    ]
    assert [f.anchor for f in drawn_findings(findings, "")] == ["beyond", "wide", "narrow"]
    many = [a_finding(f"f{k}", open_, 0.1 + k / 100) for k in range(30)]
    assert [f.anchor for f in drawn_findings(many, "f3")] == [
        "f3",
        *(f"f{k}" for k in range(29, 29 - MOST_FINDINGS + 1, -1)),
    ]
    unlimited = [
        a_finding("shown", CellState.NOT_JUDGED),
        a_finding("not shown", CellState.NOT_JUDGED, shown=False),
    ]
    assert [f.anchor for f in drawn_findings(unlimited, "")] == ["shown"]


# ── in a run ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small audit measured by the real pipeline: its folder, and the result of ``audit``."""
    from gradaudit.workflows.audit import audit

    folder = tmp_path_factory.mktemp("pictures")
    path = write_audit(folder, images=96)
    plan = (folder / "audit.toml").read_text() + "\n[privacy]\nmin_cell = 5\n"
    (folder / "audit.toml").write_text(plan)
    return folder, audit(path, run=folder / "run").document


def analysed(folder, **changes):
    from gradaudit.result import build_result, recorded_plan
    from gradaudit.runs.folder import read_run

    stored = read_run(folder)
    return build_result(
        stored.measurements(), recorded_plan(stored.run).updated(**changes)
    ).document


def test_a_report_and_a_later_analysis_have_the_same_pictures(run):
    folder, document = run
    assert {p.side for p in document.pictures} == {"group", "reference"}
    assert {len(p.images) for p in document.pictures} == {A_SIDE}
    names = {item.image_id for item in document.gallery}
    assert {image for p in document.pictures for image in p.images} <= names
    later = analysed(folder / "run")
    assert later.pictures == document.pictures
    assert later.gallery == document.gallery


def test_without_images_or_gallery_there_are_none(run):
    folder, _ = run
    for changes in ({"privacy": {"images": "none"}}, {"report": {"gallery_per_cell": 0}}):
        document = analysed(folder / "run", **changes)
        assert document.pictures == ()
        assert document.gallery == ()
        assert "data:image" not in document.model_dump_json()


def test_names_are_hashed_in_pictures_too(run):
    folder, plain = run
    document = analysed(folder / "run", privacy={"hash_names": True})
    assert document.pictures
    names = {image for p in document.pictures for image in p.images}
    assert names <= {item.image_id for item in document.gallery}
    assert not names & {image for p in plain.pictures for image in p.images}


def test_a_run_without_thumbnails_has_fewer_pictures_and_the_right_ones(run, tmp_path):
    folder, document = run
    shutil.copytree(folder / "run", tmp_path / "run")
    index = tmp_path / "run" / "thumbs" / "index.json"
    thumbs = json.loads(index.read_text())
    gone = {p.images[0] for p in document.pictures}
    index.write_text(json.dumps({k: v for k, v in thumbs.items() if k not in gone}))
    fewer = analysed(tmp_path / "run")
    assert len(fewer.pictures) == len(document.pictures)
    for have, had in zip(fewer.pictures, document.pictures, strict=True):
        assert have.images == tuple(i for i in had.images if i not in gone)
        assert (have.value, have.centre) == (had.value, had.centre)
    shutil.rmtree(tmp_path / "run" / "thumbs")
    assert analysed(tmp_path / "run").pictures == ()


def test_the_table_is_what_the_values_say(run):
    """The value of each side from the stored parts, by pandas."""
    folder, document = run
    images = pd.concat(
        map(pd.read_parquet, sorted((folder / "run" / "images").glob("*.parquet")))
    ).set_index("image_id")
    regions = pd.concat(
        map(pd.read_parquet, sorted((folder / "run" / "regions").glob("*.parquet")))
    )
    findings = {f.anchor: f for f in document.findings}
    for p in document.pictures:
        f = findings[p.finding]
        shares = regions[regions["region"] == p.region].set_index("image_id")["heat_share"].dropna()
        level = images["subgroup.site"].reindex(shares.index)
        side = shares[level == (f.group if p.side == "group" else f.reference)]
        mean = side.groupby(images["cluster"].reindex(side.index)).mean().mean()
        assert p.value == pytest.approx(mean if p.centre == "mean" else side.median())
