"""Heat against size: bins of patients that hold enough, and ties that change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from planted_levels import planted

from gradaudit.cohort.population import take_cohort
from gradaudit.cohort.size_curves import size_curves
from gradaudit.plan import Plan

PLAN = Plan(regions={"ruler": {"role": "avoid"}}, privacy={"min_cell": 1})


def curves_of(meas, plan=PLAN):
    return {(c.level, c.region): c.points for c in size_curves(take_cohort(meas, plan), plan)}


def clean(sizes, seed=0, **how):
    return planted(
        sizes, seed, **{"fail": 0.0, "cold": 0.0, "absent": 0.0, "unlabelled": 0.0, **how}
    )


@pytest.mark.parametrize(
    ("n", "min_cell", "counts"),
    [(29, 1, None), (30, 1, [10, 10, 10]), (35, 1, [12, 12, 11]), (32, 11, None), (33, 11, [11, 11, 11]), (100, 1, [10] * 10), (205, 1, [21] * 5 + [20] * 5), (109, 11, [13] + [12] * 8)],
)  # fmt: skip
def test_bins_are_filled_equally(n, min_cell, counts):
    plan = PLAN.updated(privacy={"min_cell": min_cell})
    found = curves_of(clean({"I": n}), plan)
    assert found.keys() == ({("I", "ruler")} if counts else set())
    if counts:
        assert [c for *_, c in found["I", "ruler"]] == counts


@pytest.mark.parametrize("seed", [0, 1])
def test_each_point_is_a_mean_of_patients(seed):
    meas = clean({"I": 120, "II": 200}, seed, images_per_cluster=2)
    for (level, region), points in curves_of(meas).items():
        rows = meas.table[meas.table["region"] == region].merge(
            meas.images[["image_id", "cluster", "subgroup.tone"]], on="image_id"
        )
        own = (
            rows[rows["subgroup.tone"] == level]
            .groupby("cluster")[["area_share", "heat_share"]]
            .mean()
            .sort_values("area_share")
        )
        assert sum(n for *_, n in points) == len(own)
        start = 0
        for size, heat, n in points:
            part = own.iloc[start : start + n]
            assert size == pytest.approx(part["area_share"].mean(), rel=6e-3)
            assert heat == pytest.approx(part["heat_share"].mean(), rel=6e-3)
            start += n


def test_equal_sizes_share_their_heat():
    """Half of the regions have one size: which of their patients comes first says nothing."""
    meas = clean({"I": 60})
    ruler = meas.table["region"] == "ruler"
    meas.table.loc[ruler & (np.arange(len(meas.table)) % 4 < 2), "area_share"] = 0.2
    points = curves_of(meas)["I", "ruler"]
    turned = clean({"I": 60})
    turned.table["area_share"] = meas.table["area_share"]
    cohort = take_cohort(meas, PLAN)
    order = np.random.default_rng(0).permutation(60)
    mixed = replace(
        cohort, share=cohort.share[order], area=cohort.area[order], cluster=cohort.cluster[order], usable=cohort.usable[order], heat_ok=cohort.heat_ok[order],
        readable=cohort.readable[order], groups={k: v.iloc[order].reset_index(drop=True) for k, v in cohort.groups.items()},
    )  # fmt: skip
    (curve,) = size_curves(mixed, PLAN)
    assert curve.points == points
    level = [heat for size, heat, _ in points if size == 0.2]
    assert len(level) >= 2
    assert len(set(level)) == 1


def test_regions_with_a_role_or_all_where_none_has_one():
    meas = clean({"I": 60})
    assert set(curves_of(meas)) == {("I", "ruler")}
    assert set(curves_of(meas, Plan())) == {("I", "ruler"), ("I", "lesion")}


def test_no_curve_where_a_size_is_not_known():
    meas = clean({"I": 60, "II": 60})
    ruler = meas.table.index[meas.table["region"] == "ruler"]
    meas.table.loc[ruler[3], "area_share"] = np.nan
    assert set(curves_of(meas)) == {("II", "ruler")}


@pytest.mark.parametrize(("several", "digits"), [(0, 3), (1, 2), (9, 2), (10, 3)])
def test_sizes_are_coarse_where_few_patients_have_several_images(several, digits):
    meas = clean({"I": 80})
    for k in range(several):
        meas.images.loc[2 * k + 1, "cluster"] = meas.images.loc[2 * k, "cluster"]
    sizes = [size for size, *_ in curves_of(meas)["I", "ruler"]]
    assert all(size == float(f"{size:.{digits}g}") for size in sizes)
    assert digits == 2 or any(size != float(f"{size:.2g}") for size in sizes)
