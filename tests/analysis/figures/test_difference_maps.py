"""Difference maps: the mean maps' difference cell by cell, and the cells beyond chance as scipy and statsmodels find them."""

import numpy as np
import pandas as pd
import pytest
from drawings import a_plan, drawn, measured
from scipy import stats
from statsmodels.stats.multitest import multipletests

from gradaudit.analysis.figures.difference_maps import difference_maps, welch
from gradaudit.records import Finding
from gradaudit.result_schema import MeanMap
from gradaudit.runs.measurements import Measurements

SIDE = 5


def with_maps(meas, seed=0, grids=None, dropped=()):
    """A map for every image; in V-VI the upper left corner is hotter."""
    rng = np.random.default_rng(seed)
    heat = rng.gamma(1.0, 1.0, (len(meas.images), SIDE, SIDE))
    heat[(meas.images["subgroup.tone"] == "V-VI").to_numpy(), :2, :2] *= 3
    heat[:, 4, 4] = 0.0  # nobody has heat there
    rows = []
    for k, image in enumerate(meas.images["image_id"]):
        if k in dropped:
            continue
        one = heat[k] if grids is None or k not in grids else heat[k, :3, :3]
        rows.append({
            "image_id": image, "kind": "heat", "name": "predicted", "height": len(one), "width": len(one), "values": one.astype(np.float32).tobytes(),
        })  # fmt: skip
    return Measurements(meas.table, meas.images, pd.DataFrame(rows), meas.run)


def unit_maps_of(meas):
    """Flat maps of mass 1, by image, on the common grid."""
    own = meas.maps[meas.maps["height"] == SIDE]
    flat = {m.image_id: np.frombuffer(m.values, np.float32).astype(float) for m in own.itertuples()}
    maps = pd.DataFrame({image: heat / heat.sum() for image, heat in flat.items()}).T
    lesion = meas.table[(meas.table["region"] == "lesion") & meas.table["heat_share"].notna()]
    return maps.loc[maps.index.isin(lesion["image_id"])]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_cell_is_what_the_maps_say(seed):
    meas = with_maps(
        measured(seed, patients=150, gap=0.2, joint=0.2, absent=(0.3, 0.3, 0.3)),
        seed,
        grids={3, 4},
        dropped={7},
    )
    found = drawn(meas, a_plan(privacy={"min_cell": 1}))
    told = [
        f
        for f in found.findings
        if f.code in ("GA101", "GA105") and not f.suppressed and f.region in ("ruler", "lesion")
    ]
    rows = difference_maps(found.drawing.sides.study.cohort, found.tables.mean_maps, told, 0.05)
    assert {row.finding for row in rows} == {f.anchor for f in told}
    maps, images = unit_maps_of(meas), meas.images.set_index("image_id")
    findings, marks = {f.anchor: f for f in told}, 0
    for row in rows:
        f = findings[row.finding]
        level = images[f"subgroup.{f.attribute}"].reindex(maps.index)
        own, other = (
            maps[level == f.group],
            maps[(level != f.group) if f.reference == "rest" else (level == f.reference)],
        )
        assert (row.n_images, row.n_images_reference) == (len(own), len(other))
        assert np.array(row.difference).ravel() == pytest.approx(
            (own.mean() - other.mean()).to_numpy(), rel=5e-3, abs=1e-12
        )
        a, b = (side.groupby(images["cluster"].reindex(side.index)).mean() for side in (own, other))
        with np.errstate(all="ignore"):
            p = stats.ttest_ind(a.iloc[:, :-1], b.iloc[:, :-1], equal_var=False).pvalue
        beyond = multipletests([*p, 1.0], 0.05, method="fdr_bh")[0]
        same = np.sign(a.mean() - b.mean()) == np.sign(own.mean() - other.mean())
        assert (
            np.array(row.shown).ravel().tolist() == (beyond & same.to_numpy()).astype(int).tolist()
        )
        marks += sum(map(sum, row.shown))
    assert {(findings[row.finding].attribute, findings[row.finding].region) for row in rows} >= {
        ("tone", "ruler"),
        ("tone", "lesion"),
        ("sex", "ruler"),
    }
    dark = np.array(next(row for row in rows if row.finding == "GA101-tone-ruler-V-VI").shown)
    assert dark[:2, :2].all()
    assert not dark[4, 4]
    assert 0 < marks < SIDE * SIDE * len(rows)


def test_it_is_the_difference_of_the_shown_mean_maps():
    meas = with_maps(measured(0, patients=150, gap=0.2))
    found = drawn(meas, a_plan())
    means = {(m.attribute, m.level): m for m in found.tables.mean_maps}
    (row,) = [
        m
        for m in found.drawing.difference_maps(found.tables.mean_maps)
        if m.finding == "GA101-tone-ruler-V-VI"
    ]
    others = [means["tone", level] for level in ("I-II", "III-IV")]
    rest = sum(m.n_images * np.array(m.heat) for m in others) / sum(m.n_images for m in others)
    assert np.array(row.difference) == pytest.approx(
        np.array(means["tone", "V-VI"].heat) - rest, rel=6e-3, abs=2e-5
    )
    assert row.n_images == means["tone", "V-VI"].n_images


def a_finding(reference="rest", **changes):
    return Finding(
        code="GA101",
        anchor="a",
        question="",
        attribute="tone",
        group="V-VI",
        reference=reference,
        region="ruler",
    ).model_copy(update=changes)


def test_no_map_without_a_shown_mean_map_of_each_level():
    meas = with_maps(measured(0, patients=150))
    found = drawn(meas, a_plan(privacy={"min_cell": 1}))
    cohort, means = found.drawing.sides.study.cohort, found.tables.mean_maps

    def drawn_with(f, hidden):
        return difference_maps(cohort, [m for m in means if m.level != hidden], [f], 0.05)

    assert drawn_with(a_finding(), "nobody")
    assert not drawn_with(a_finding(), "V-VI")
    assert not drawn_with(
        a_finding(), "III-IV"
    )  # all others would be told, and so what is withheld
    assert drawn_with(a_finding("I-II"), "III-IV")
    assert not drawn_with(a_finding("I-II"), "I-II")
    assert not difference_maps(cohort, (), [a_finding()], 0.05)
    for other in (
        {"code": "GA102"},
        {"n_withheld": True},
        {"group": "nobody"},
        {"reference": "nobody"},
    ):
        assert not difference_maps(cohort, means, [a_finding(**other)], 0.05)


@pytest.mark.parametrize(
    ("patients", "min_cell", "told"),
    [(9, 1, 0), (10, 1, 1), (10, 11, 0), (11, 11, 1), (1, 1, 0), (0, 1, 0)],
)
@pytest.mark.slow
def test_a_side_of_few_patients_has_no_map(patients, min_cell, told):
    """Mean maps are given as shown, so that this guard alone decides."""
    meas = measured(0, patients=150)
    dark = meas.images.loc[meas.images["subgroup.tone"] == "V-VI", "cluster"].unique()
    kept = ~meas.images["cluster"].isin(dark[patients:])
    images = meas.images[kept].reset_index(drop=True)
    table = meas.table[meas.table["image_id"].isin(images["image_id"])].reset_index(drop=True)
    meas = with_maps(Measurements(table, images))
    found = drawn(meas, a_plan(privacy={"min_cell": 1}))
    means = [
        MeanMap(attribute="tone", level=level, n_images=50, heat=((1.0,),))
        for level in ("I-II", "III-IV", "V-VI")
    ]
    rows = difference_maps(found.drawing.sides.study.cohort, means, [a_finding()], 0.05, min_cell)
    assert len(rows) == told


def test_no_maps_no_difference():
    meas = measured(0, patients=60)
    assert drawn(meas, a_plan()).drawing.difference_maps(()) == ()
    found = drawn(meas, a_plan(privacy={"min_cell": 1}))
    means = [
        MeanMap(attribute="tone", level=level, n_images=50, heat=((1.0,),))
        for level in ("I-II", "III-IV", "V-VI")
    ]
    assert difference_maps(found.drawing.sides.study.cohort, means, [a_finding()], 0.05) == ()


def test_welch_is_scipys_and_equal_values_are_no_sample():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 3, 2)), rng.normal(0.5, 2.0, size=(40, 3, 2))
    difference, p = welch(a, b)
    known = stats.ttest_ind(a, b, equal_var=False)
    assert p == pytest.approx(known.pvalue)
    assert difference == pytest.approx(a.mean(axis=0) - b.mean(axis=0))
    a[:, 0, 0], b[:, 0, 0] = 0.2, 0.2
    a[:, 0, 1], b[:, 0, 1] = 0.3, 0.2
    a[:, 1, 0] = 0.1  # constant on one side alone
    _, p = welch(a, b)
    assert p[0].tolist() == [1.0, 1.0]
    assert p[1, 0] == pytest.approx(stats.ttest_1samp(b[:, 1, 0], 0.1).pvalue)
