"""What figures are drawn from gives no small cell away: counts, shares of bins, and what is left when one map is taken from another."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawings import drawn
from planted_levels import planted

from gradaudit.analysis.figures.difference_maps import difference_maps
from gradaudit.analysis.figures.distributions import distributions
from gradaudit.cohort.heat_distributions import map_rows
from gradaudit.plan import Plan
from gradaudit.records import ALL, UNKNOWN, CellState
from gradaudit.result_schema import SizeCurve
from gradaudit.runs.measurements import Measurements
from tests.disclosure.test_suppression import REGIONS, WORLDS, Attacker, recovered

ROLES = {"ruler": {"role": "avoid"}, "lesion": {"role": "attend"}}
SIDE = 4


def with_maps(meas, seed=0):
    """A map for every image, the ruler's heat in one corner."""
    rng = np.random.default_rng(seed)
    heat = rng.gamma(1.0, 1.0, (len(meas.images), SIDE, SIDE)).astype(np.float32)
    maps = pd.DataFrame({
        "image_id": meas.images["image_id"], "kind": "heat", "name": "predicted", "height": SIDE, "width": SIDE,
        "values": [one.tobytes() for one in heat],
    })  # fmt: skip
    return Measurements(meas.table, meas.images, maps, meas.run)


def world(name, seed=0, min_cell=11, gap=0.3, **changes):
    """A planted world in which level I has more heat on the ruler, so that something is drawn."""
    sizes, how = WORLDS[name]
    meas = with_maps(planted(sizes, seed, **how | changes), seed)
    own = meas.table["image_id"].isin(
        meas.images.loc[meas.images["subgroup.tone"] == "I", "image_id"]
    )
    ruler = own & (meas.table["region"] == "ruler")
    meas.table.loc[ruler, "heat_share"] = gap + (1 - gap) * meas.table.loc[ruler, "heat_share"]
    plan = Plan(
        regions=ROLES,
        privacy={"min_cell": min_cell},
        criteria={"margin": 0.05},
        analysis={"permutations": 99},
    )
    return meas, plan


class Onlooker(Attacker):
    """Knows what the figures print beside the tables: images of bins, clusters of bins (one image each), images of maps."""

    def __init__(self, parts, attribute, maps=(), curves=True):
        super().__init__(parts, attribute)
        labelled = lambda s: s != "unreadable" and s[0] != UNKNOWN  # noqa: E731
        for curve in parts.calibration if curves else ():
            if curve.attribute == attribute:
                self.learn(self.count(curve.level, labelled), sum(p.n_images for p in curve.points))
        for curve in parts.size_curves:
            if curve.attribute == attribute:
                r = REGIONS.index(curve.region)
                here = self.count(
                    curve.level, lambda s, r=r: s != "unreadable" and s[1] and s[2 + r]
                )
                self.learn(here, sum(n for *_, n in curve.points))
        for f, row in maps:
            if f.attribute == attribute:
                self.learn(self.count(f.group, self.analysed), row.n_images)
                known = [level for level in self.levels if level not in (f.group, UNKNOWN)]
                others = sum(self.count(level, self.analysed) for level in known)
                self.learn(
                    others if f.reference == "rest" else self.count(f.reference, self.analysed),
                    row.n_images_reference,
                )


def figures_of(meas, plan):
    found = drawn(meas, plan)
    by_anchor = {f.anchor: f for f in found.findings}
    # every decisive finding, not only the few that a page draws
    told = [f for f in found.findings if f.code in ("GA101", "GA105") and not f.suppressed]
    maps = difference_maps(
        found.drawing.sides.study.cohort, found.tables.mean_maps, told, 0.05, plan.privacy.min_cell
    )
    dots = distributions(found.drawing.sides, told, told)
    return (
        found,
        [(by_anchor[m.finding], m) for m in maps],
        [(by_anchor[d.finding], d) for d in dots],
    )


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("min_cell", [3, 11])
@pytest.mark.slow
def test_an_onlooker_solves_for_nothing(name, min_cell, monkeypatch):
    meas, plan = world(name, min_cell=min_cell)
    found, maps, _ = figures_of(meas, plan)
    narrowed = any(
        "over images with a heat share" in row.reason for row in found.tables.performance
    )
    monkeypatch.setattr(
        "tests.disclosure.test_suppression.Attacker",
        lambda parts, attribute: Onlooker(parts, attribute, maps, curves=not narrowed),
    )
    assert recovered(meas, found.tables, min_cell) == []


def test_the_onlooker_has_teeth(monkeypatch):
    """One curve of the withheld level, and its five images are solved for."""
    sizes, _ = WORLDS["small level"]
    meas = with_maps(planted(sizes, 0, fail=0.0, cold=0.0, absent=0.0, unlabelled=0.0))
    found = drawn(meas, Plan(regions=ROLES, analysis={"permutations": 99}))
    assert "III" in found.suppression.levels["tone"]
    monkeypatch.setattr("tests.disclosure.test_suppression.Attacker", Onlooker)
    assert recovered(meas, found.tables, 11) == []
    small = SizeCurve(attribute="tone", level="III", region="ruler", points=((0.1, 0.1, 5),))
    lost = recovered(
        meas, replace(found.tables, size_curves=(*found.tables.size_curves, small)), 11
    )
    assert ("III measured on ruler", 5.0) in lost


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize(("seed", "min_cell"), [(0, 11), (1, 3)])
@pytest.mark.slow
def test_every_count_is_large_and_of_a_shown_cell(name, seed, min_cell):
    meas, plan = world(name, seed, min_cell)
    found, maps, dots = figures_of(meas, plan)
    heat = {(r.attribute, r.level, r.region): r for r in found.tables.heat}
    accuracy = {
        (r.attribute, r.level): r for r in found.tables.performance if r.metric == "accuracy"
    }
    means = {(m.attribute, m.level): m.n_images for m in found.tables.mean_maps}
    for curve in found.tables.calibration:
        counts = [p.n_images for p in curve.points]
        assert min(counts) >= min_cell
        assert sum(counts) == accuracy[curve.attribute, curve.level].n_images
    for curve in found.tables.size_curves:
        counts = [n for *_, n in curve.points]
        row = heat[curve.attribute, curve.level, curve.region]
        assert min(counts) >= min_cell
        assert sum(counts) == row.n_clusters
        assert not row.suppressed
    for f, row in maps:
        others = [
            level for a, level in means if a == f.attribute and level not in (f.group, UNKNOWN)
        ]
        assert row.n_images == means[f.attribute, f.group]
        assert row.n_images_reference == sum(
            means[f.attribute, level]
            for level in (others if f.reference == "rest" else [f.reference])
        )
    for f, row in dots:
        assert len(row.group) == len(row.reference)
        assert len(row.group) * min_cell <= min(f.n_clusters, f.n_clusters_reference)
        assert not heat[f.attribute, f.group, f.region].suppressed
        assert f.reference == "rest" or not heat[f.attribute, f.reference, f.region].suppressed


@pytest.mark.slow
def test_the_worlds_have_figures():
    drawn_of = {name: figures_of(*world(name)) for name in WORLDS}
    assert sum(bool(found.tables.calibration) for found, *_ in drawn_of.values()) >= 4
    assert sum(bool(found.tables.size_curves) for found, *_ in drawn_of.values()) >= 4
    assert sum(bool(maps) for _, maps, _ in drawn_of.values()) >= 4
    assert sum(bool(dots) for *_, dots in drawn_of.values()) >= 1


# ── what is left when one thing is taken from another ───────────────────────────────────────────────────────────────


def known_rest(meas, plan):
    """I and II are shown; III is small and "(unknown)" its companion, so that all others less II would be III."""
    found, maps, dots = figures_of(meas, plan)
    hidden = found.suppression.levels["tone"]
    assert hidden == {"III", UNKNOWN}
    return found, maps, dots


def test_all_others_less_the_shown_ones_is_not_the_hidden_one():
    meas = planted(
        {"I": 120, "II": 90, "III": 5, UNKNOWN: 40},
        0,
        fail=0.0,
        cold=0.0,
        absent=0.0,
        unlabelled=0.0,
    )
    plan = Plan(regions=ROLES, criteria={"margin": 0.05}, analysis={"permutations": 99})
    meas = with_maps(meas)
    found, maps, dots = known_rest(meas, plan)
    # the attack: mean map of all others less that of II, were it told
    bare = {m.level: m for m in map_rows(found.drawing.sides.study.cohort) if m.attribute == "tone"}
    every = [
        f for f in found.findings if f.code == "GA101" and f.group == "I" and f.region == "ruler"
    ]
    open_ = difference_maps(
        found.drawing.sides.study.cohort,
        tuple(bare.values()),
        [every[0].model_copy(update={"n_withheld": False})],
        0.05,
    )
    (told,) = open_
    rest = np.array(bare["I"].heat) - np.array(told.difference)
    small = (rest * told.n_images_reference - 90 * np.array(bare["II"].heat)) / 5
    assert told.n_images_reference - 90 == 5
    assert np.allclose(
        small, np.array(bare["III"].heat), atol=0.02
    )  # five people's map, solved for
    # and it is not told
    for figures in (maps, dots):
        assert not [f for f, _ in figures if f.attribute == "tone" and f.reference == "rest"]


def test_two_shown_levels_are_still_compared_with_each_other():
    """What is withheld is all others; a pair of shown levels has its figures."""
    meas = planted(
        {"I": 120, "II": 90, "III": 5, "IV": 60}, 0, fail=0.0, cold=0.0, absent=0.0, unlabelled=0.0
    )
    plan = Plan(
        regions=ROLES, subgroups={"tone": {"reference": "IV"}}, analysis={"permutations": 99}
    )
    found, maps, dots = figures_of(with_maps(meas), plan)
    hidden = found.suppression.levels["tone"]
    assert "III" in hidden
    shown = {"I", "II", "IV"} - hidden
    assert {(f.group, f.reference) for f, _ in maps} == {(a, "IV") for a in shown - {"IV"}} | set()
    assert all(f.group in shown and f.reference in shown for f, _ in dots)


def test_a_level_withheld_in_one_region_has_no_figure_there():
    meas, plan = world("rare region", min_cell=11)
    found, maps, dots = figures_of(meas, plan)
    hidden = {(level, region) for _, level, region, *_ in found.suppression.cells}
    assert hidden
    assert not {(c.level, c.region) for c in found.tables.size_curves} & hidden
    for f, _ in dots:
        assert (f.group, f.region) not in hidden
        assert f.reference != "rest" or f.region not in {region for _, region in hidden}
    assert not {f.group for f, _ in maps} & {level for level, _ in hidden}


def test_nothing_is_drawn_of_everybody():
    """Curves are of levels alone: bins of everybody less those of one level would be bins of the others."""
    found, *_ = figures_of(*world("nothing fails"))
    assert found.tables.calibration
    assert ALL not in {c.level for c in (*found.tables.calibration, *found.tables.size_curves)}


def test_no_calibration_where_the_base_is_withheld():
    meas, plan = world("rare label", min_cell=11)
    found, *_ = figures_of(meas, plan)
    bases = {
        (r.attribute, r.level): r.n_images
        for r in found.tables.performance
        if r.metric == "accuracy"
    }
    assert None in bases.values()
    assert all(bases[c.attribute, c.level] is not None for c in found.tables.calibration)


def test_the_size_of_the_one_patient_with_two_images_is_not_solved_for():
    """Mean size over images is printed elsewhere; of so few patients with several images sizes keep two digits."""
    meas = planted({"I": 60, "II": 60}, 0, fail=0.0, cold=0.0, absent=0.0, unlabelled=0.0)
    meas.images.loc[1, "cluster"] = meas.images.loc[0, "cluster"]
    plan = Plan(regions=ROLES, analysis={"permutations": 99})
    found = drawn(meas, plan)
    row = next(r for r in found.tables.flow if r.attribute == "tone" and r.level == "I")
    curve = next(c for c in found.tables.size_curves if c.level == "I" and c.region == "ruler")
    truth = meas.table[
        (meas.table["region"] == "ruler") & meas.table["image_id"].isin(["i0", "i1"])
    ]["area_share"].mean()
    solved = 60 * row.area_share["ruler"] - sum(size * n for size, _, n in curve.points)
    assert abs(solved - truth) > 0.01
    assert all(size == float(f"{size:.2g}") for size, *_ in curve.points)
    exact = 60 * row.area_share["ruler"] - 59 * meas_of_clusters(meas)
    assert exact == pytest.approx(truth)  # with all digits it would be


def meas_of_clusters(meas):
    rows = meas.table[meas.table["region"] == "ruler"].merge(
        meas.images[["image_id", "cluster", "subgroup.tone"]], on="image_id"
    )
    return rows[rows["subgroup.tone"] == "I"].groupby("cluster")["area_share"].mean().mean()


def test_a_finding_whose_counts_are_withheld_has_no_dots_and_no_map():
    meas, plan = world("nothing fails")
    found, maps, dots = figures_of(meas, plan)
    f = next(f for f, _ in dots)
    hidden = f.model_copy(update={"n_withheld": True})
    sides = found.drawing.sides
    assert distributions(sides, [f], [f])
    assert not distributions(sides, [hidden], [hidden])
    cohort, own = sides.study.cohort, found.tables.mean_maps
    told = next(f for f, _ in maps)
    assert difference_maps(cohort, own, [told], 0.05)
    assert not difference_maps(cohort, own, [told.model_copy(update={"n_withheld": True})], 0.05)
    assert told.state in CellState
