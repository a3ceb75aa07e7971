"""Small cells are not derivable: an attacker who solves the published tables as integer programmes finds no small count."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from planted_levels import REGIONS, planted
from scipy.optimize import Bounds, LinearConstraint, milp

from gradaudit.analysis.descriptives import describe
from gradaudit.cohort.image_flow import flow_table
from gradaudit.disclosure.decision import suppressed_cells, suppressed_levels
from gradaudit.disclosure.small_cells import small_levels
from gradaudit.plan import Plan
from gradaudit.records import ALL, OVER_ANALYSED, UNKNOWN

LABELS = ("benign", "malignant", UNKNOWN)
STEPS = ("n_manifest", "n_readable", "n_mask_usable", "n_heat_usable", "n_analysed")
# what can happen to an image: unreadable, or label x heat usable or not x each region there or not
STATES = ["unreadable", *product(LABELS, (True, False), *([(True, False)] * len(REGIONS)))]


class Attacker:
    """Unknown: how many images of each level are in each state.  Known: everything that the tables of one attribute print."""

    def __init__(self, parts, attribute):
        self.levels = [row.level for row in parts.flow if row.attribute == attribute]
        self.rows, self.low, self.high = [], [], []
        flow = {row.level: row for row in parts.flow if row.attribute in (attribute, ALL)}
        for level, row in flow.items():
            for step in STEPS:
                self.learn(self.count(level, self.at(step)), getattr(row, step))
            self.learn_shares(level, row)
        for row in parts.heat:
            if row.attribute in (attribute, ALL):
                r = REGIONS.index(row.region)
                defined = self.count(
                    row.level, lambda s, r=r: s != "unreadable" and s[1] and s[2 + r]
                )
                self.learn(defined, row.n_images)
                if row.undefined_share is not None:
                    cold = self.count(
                        row.level, lambda s, r=r: s != "unreadable" and not s[1] and s[2 + r]
                    )
                    self.bound(cold - row.undefined_share * (cold + defined), -1e-6, 1e-6)
        for row in parts.exclusions:
            for level, n in [(ALL, row.count), *row.by_level[attribute].items()]:
                self.learn(self.count(level, self.excluded(row)), n)
        labelled = {
            "accuracy": LABELS[:2],
            "sensitivity": ("malignant",),
            "specificity": ("benign",),
        }
        for row in parts.performance:
            if row.attribute in (attribute, ALL) and row.metric in labelled:
                narrowed = OVER_ANALYSED in row.reason
                base = lambda s, m=row.metric, n=narrowed: (  # noqa: E731
                    s != "unreadable" and s[0] in labelled[m] and (not n or self.analysed(s))
                )
                self.learn(self.count(row.level, base), row.n_images)

    @staticmethod
    def at(step):
        if step == "n_manifest":
            return lambda s: True
        if step == "n_readable":
            return lambda s: s != "unreadable"
        if step == "n_mask_usable":
            return lambda s: s != "unreadable" and any(s[2:])
        return lambda s: s != "unreadable" and any(s[2:]) and s[1]

    @staticmethod
    def excluded(row):
        if row.reason == "unreadable":
            return lambda s: s == "unreadable"
        if row.reason == "zero_heat":
            return lambda s: s != "unreadable" and not s[1]
        return lambda s: s != "unreadable" and s[1] and not s[2 + REGIONS.index(row.region)]

    def count(self, level, member):
        """Coefficients of a sum of unknowns: the states that ``member`` accepts, in one level or in all."""
        states = np.array([float(member(s)) for s in STATES])
        return np.concatenate(
            [states if level in (name, ALL) else np.zeros(len(STATES)) for name in self.levels]
        )

    def learn(self, sum_, value):
        if value is not None:
            self.bound(sum_, value, value)

    @staticmethod
    def analysed(state):
        """The lesion is there in every image, so it is the region measured most often."""
        return state != "unreadable" and state[1] and state[2]

    def learn_shares(self, level, row):
        for label, share in row.label_prevalence.items():
            members = self.count(level, lambda s, label=label: self.analysed(s) and s[0] == label)
            self.bound(members - share * self.count(level, self.analysed), -1e-6, 1e-6)

    def bound(self, sum_, low, high):
        self.rows.append(sum_)
        self.low.append(low)
        self.high.append(high)

    def range_of(self, sum_):
        ends = []
        for sign in (1, -1):
            known = LinearConstraint(np.array(self.rows), self.low, self.high) if self.rows else ()
            solution = milp(
                sign * sum_,
                constraints=known,
                integrality=np.ones(len(sum_)),
                bounds=Bounds(0, 100_000),
            )
            assert solution.status in (0, 3), solution.message  # solved, or without bound
            ends.append(sign * solution.fun if solution.status == 0 else sign * -np.inf)
        return ends


def truth_of(meas):
    """The true number of images per level and state."""
    images = meas.images
    table = meas.table.set_index(["image_id", "region"])
    level = images["subgroup.tone"].where(images["subgroup.tone"].notna(), UNKNOWN)
    found = {}
    for row, name in zip(images.itertuples(), level, strict=True):
        if row.status != "ok":
            state = "unreadable"
        else:
            there = tuple(table.loc[(row.image_id, region), "area_share"] > 0 for region in REGIONS)
            state = (
                UNKNOWN if row.label is None or row.label != row.label else row.label,
                row.heat_status == "ok",
                *there,
            )
        found[name, state] = found.get((name, state), 0) + 1
    return found


def protected_sums(attacker):
    """Every cell that the rule protects, by name: levels, steps and their differences, exclusions, labels, regions.

    Not how many fewer images one region's base holds than another's: both bases are printed (see the room's docstring).
    """
    for level in attacker.levels:
        steps = {
            step: attacker.count(level, attacker.at(step))
            for step in ("n_manifest", "n_readable", "n_mask_usable", "n_heat_usable")
        }
        names = list(steps)
        for i, a in enumerate(names):
            yield f"{level} {a}", steps[a]
            for b in names[i + 1 :]:
                yield f"{level} {a} - {b}", steps[a] - steps[b]
        for label in LABELS:
            yield (
                f"{level} {label}",
                attacker.count(
                    level, lambda s, label=label: attacker.analysed(s) and s[0] == label
                ),
            )
            yield (
                f"{level} {label} readable",
                attacker.count(level, lambda s, label=label: s != "unreadable" and s[0] == label),
            )
        yield f"{level} zero heat", attacker.count(level, lambda s: s != "unreadable" and not s[1])
        for r, region in enumerate(REGIONS):
            yield (
                f"{level} measured on {region}",
                attacker.count(level, lambda s, r=r: s != "unreadable" and s[1] and s[2 + r]),
            )
            yield (
                f"{level} undefined on {region}",
                attacker.count(level, lambda s, r=r: s != "unreadable" and not s[1] and s[2 + r]),
            )


def recovered(meas, parts, min_cell):
    """Small counts that the attacker learns exactly."""
    attacker = Attacker(parts, "tone")
    truth = truth_of(meas)
    vector = np.array(
        [truth.get((level, state), 0) for level in attacker.levels for state in STATES], dtype=float
    )
    for row, low, high in zip(attacker.rows, attacker.low, attacker.high, strict=True):
        assert low - 1e-6 <= row @ vector <= high + 1e-6, (
            "the attacker's model contradicts the data"
        )
    lost = []
    for name, sum_ in protected_sums(attacker):
        if 0 < sum_ @ vector < min_cell:
            low, high = attacker.range_of(sum_)
            if high - low < 1 - 1e-6:
                lost.append((name, float(sum_ @ vector)))
    return lost


WORLDS = {
    "small level": ({"I": 120, "II": 60, "III": 5}, {}),
    "two small levels": ({"I": 120, "II": 60, "III": 4, "IV": 3}, {}),
    "few unknown": ({"I": 120, "II": 60, "III": 40, UNKNOWN: 2}, {}),
    "two levels": ({"I": 90, "II": 70}, {}),
    "one broken file": (
        {"I": 90, "II": 70, "III": 50},
        {"fail": 0.005, "cold": 0.0, "absent": 0.0, "unlabelled": 0.0},
    ),
    "rare region": ({"I": 90, "II": 70, "III": 40}, {"absent": 0.85}),
    "rare label": ({"I": 90, "II": 70, "III": 40}, {"rare": 0.06}),
    "nothing fails": (
        {"I": 90, "II": 70, "III": 40},
        {"fail": 0.0, "cold": 0.0, "absent": 0.5, "unlabelled": 0.0},
    ),
    "much fails": (
        {"I": 150, "II": 120, "III": 100},
        {"fail": 0.2, "cold": 0.2, "absent": 0.4, "unlabelled": 0.2},
    ),
    "levels of one": ({"I": 60, **{f"L{k}": 1 for k in range(6)}}, {}),
}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_no_small_cell_can_be_solved_for(world, seed):
    sizes, how = WORLDS[world]
    meas = planted(sizes, seed, **how)
    assert recovered(meas, describe(meas, Plan()), 11) == []


@pytest.mark.slow
@pytest.mark.parametrize("min_cell", [2, 3, 5, 11])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_thresholds_hold_too(min_cell, seed):
    meas = planted({"I": 60, "II": 30, "III": min_cell - 1, "IV": 20}, seed)
    assert recovered(meas, describe(meas, Plan(privacy={"min_cell": min_cell})), min_cell) == []


@pytest.mark.parametrize("world", ["rare label", "much fails", "one broken file"])
@pytest.mark.parametrize("min_cell", [2, 3])
def test_low_thresholds_hold_in_worlds_with_many_small_cells(world, min_cell):
    sizes, how = WORLDS[world]
    meas = planted(sizes, 2, **how)
    assert recovered(meas, describe(meas, Plan(privacy={"min_cell": min_cell})), min_cell) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "min_cell"),
    [
        ("small level", 11),
        ("two levels", 11),
        ("rare region", 5),
        ("rare label", 11),
        ("few unknown", 3),
    ],
)
def test_no_count_of_the_flow_is_withheld_without_need(world, min_cell):
    """Put back any single count, and the attacker recovers a small cell."""
    sizes, how = WORLDS[world]
    meas = planted(sizes, 1, **how)
    parts = describe(meas, Plan(privacy={"min_cell": min_cell}))
    full = {row.level: row for row in flow_table(meas, Plan()) if row.attribute == "tone"}
    hidden = [
        (k, step)
        for k, row in enumerate(parts.flow)
        for step in STEPS[:-1]
        if row.attribute == "tone" and row.n_analysed is not None and getattr(row, step) is None
    ]
    shown = [
        step
        for row in parts.flow
        for step in STEPS[:-1]
        if row.attribute == "tone" and getattr(row, step) is not None
    ]
    assert hidden, "the world asks for nothing to be withheld"
    assert shown
    for k, step in hidden:
        row = parts.flow[k]
        more = row.model_copy(update={step: getattr(full[row.level], step)})
        assert recovered(
            meas, replace(parts, flow=(*parts.flow[:k], more, *parts.flow[k + 1 :])), min_cell
        ), (row.level, step)


def test_too_many_states_to_solve_for_stay_as_the_rules_withhold_them(monkeypatch):
    meas = planted({"I": 60, "II": 30, "III": 2, "IV": 20}, 1)
    plan = Plan(privacy={"min_cell": 3})
    solved = describe(meas, plan)
    monkeypatch.setattr("gradaudit.disclosure.attacker.MOST_UNKNOWNS", 10)
    wide = describe(meas, plan)
    assert recovered(meas, wide, 3) == []
    counts = [
        sum(getattr(row, step) is not None for row in parts.flow for step in STEPS)
        for parts in (wide, solved)
    ]
    assert counts[0] < counts[1]


def test_the_attacker_has_teeth():
    """Against bare tables everything is lost; where only the small cells themselves are blanked, totals give them back."""
    meas = planted({"I": 120, "II": 60, "III": 5}, 0)
    bare = describe(meas, Plan(privacy={"min_cell": 1}))
    assert len(recovered(meas, bare, 11)) > 5
    blanked = replace(
        bare,
        flow=tuple(
            r.model_copy(update={**dict.fromkeys(STEPS), "label_prevalence": {}})
            if r.level == "III"
            else r
            for r in bare.flow
        ),
        heat=tuple(
            r.model_copy(update={"n_images": None, "undefined_share": None})
            if r.level == "III"
            else r
            for r in bare.heat
        ),
        performance=tuple(
            r.model_copy(update={"n_images": None}) if r.level == "III" else r
            for r in bare.performance
        ),
        exclusions=tuple(
            e.model_copy(
                update={
                    "by_level": {
                        a: {k: None if k == "III" else v for k, v in c.items()}
                        for a, c in e.by_level.items()
                    }
                }
            )
            for e in bare.exclusions
        ),
    )
    assert ("III n_manifest", 5.0) in recovered(meas, blanked, 11)


def test_nothing_is_withheld_where_every_cell_is_large():
    meas = planted({"I": 90, "II": 80}, 0, fail=0.0, cold=0.0, absent=0.0, unlabelled=0.0)
    hidden, bare = describe(meas, Plan()), describe(meas, Plan(privacy={"min_cell": 1}))
    for table in ("flow", "exclusions", "heat", "mean_maps"):
        assert getattr(hidden, table) == getattr(bare, table), table
    assert suppressed_levels(meas, Plan()) == {}
    assert suppressed_cells(meas, Plan()) == set()


@pytest.mark.parametrize("world", WORLDS)
def test_no_small_count_is_printed(world):
    sizes, how = WORLDS[world]
    parts = describe(planted(sizes, 0, **how), Plan())
    printed = [
        getattr(row, step)
        for row in parts.flow
        if row.attribute != ALL
        for step in (*STEPS, "n_clusters")
    ]
    printed += [
        n
        for row in (*parts.heat, *parts.performance)
        if row.attribute != ALL
        for n in (row.n_images, row.n_clusters)
    ]
    printed += [
        n for row in parts.exclusions for levels in row.by_level.values() for n in levels.values()
    ]
    assert not [n for n in printed if n is not None and 0 < n < 11]
    assert any(printed) == (world != "levels of one"), "nothing, or too much, is left to read"


def test_a_withheld_level_shows_nothing_anywhere():
    meas = planted({"I": 120, "II": 60, "III": 5}, 0)
    parts = describe(meas, Plan())
    hidden = suppressed_levels(meas, Plan())["tone"]
    assert "III" in hidden
    members = set(meas.images.loc[meas.images["subgroup.tone"].isin(hidden), "image_id"])
    for row in parts.flow:
        if row.level in hidden:
            assert row.suppressed
            assert not row.label_prevalence
            assert not row.area_share
            assert row.mean_confidence is None
    for row in (*parts.heat, *parts.performance):
        if row.level in hidden:
            assert row.suppressed
            assert row.n_images is None
            assert not [v for k, v in row.model_dump().items() if isinstance(v, float)]
    for row in parts.exclusions:
        assert all(row.by_level["tone"][level] is None for level in hidden)
        assert not members & set(row.examples)
    assert {(level, region) for _, level, region, *_ in suppressed_cells(meas, Plan())} >= {
        (level, r) for level in hidden for r in REGIONS
    }
    assert any(
        sentence.startswith("tone: ") and "withheld" in sentence for sentence in parts.limits
    )


def test_a_small_data_set_is_withheld_whole():
    meas = planted({"I": 5, "II": 4}, 0, fail=0.0)
    parts = describe(meas, Plan())
    assert all(row.suppressed for row in (*parts.flow, *parts.heat))
    assert all(row.n_images is None for row in parts.performance)


def sizes(images, clusters=None):
    clusters = clusters or images
    return pd.DataFrame(
        {"images": images, "clusters": clusters}, index=[f"L{k}" for k in range(len(images))]
    )


def test_many_images_of_few_patients_are_a_small_level():
    assert "L1" in small_levels(sizes([300, 40, 200, 150], [300, 4, 200, 150]), "rest", 11)


def test_companions_are_the_unknown_then_the_largest_that_is_not_the_reference():
    assert small_levels(sizes([300, 5, 200, 30]), "L0", 11) == {"L1", "L2"}
    assert small_levels(sizes([300, 5, 200, 30]), "rest", 11) == {"L1", "L0"}
    counts = sizes([300, 5, 200, 30]).rename(index={"L3": UNKNOWN})
    assert small_levels(counts, "rest", 11) == {"L1", UNKNOWN}


def test_hidden_levels_may_each_be_large():
    """Their sum is known; no level may be forced below the threshold by it."""
    hidden = small_levels(sizes([300, 3, 4, 2]), "rest", 11)
    assert hidden == {"L0", "L1", "L2", "L3"}
    assert small_levels(sizes([300, 9, 8, 7]), "rest", 11) == {"L1", "L2", "L3"}


def test_empty_levels_are_no_cells():
    assert small_levels(sizes([300, 0, 200]), "rest", 11) == set()
