"""How many patients it takes, before there are data and for one open comparison: by hand, under attack, and against the real decision."""

import math
import re

import numpy as np
import pytest
from scipy import special, stats

import gradaudit as ga
from gradaudit.errors import InputError
from gradaudit.stats.power import (
    planned_power,
    probability_beyond,
    probability_within,
    what_would_settle,
)

# ── chances ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_difference_it_is_the_formula_of_the_page():
    for ratio in (2.0, 3.0, 4.0, 5.0):
        expected = 2 * special.ndtr(ratio - special.ndtri(0.95)) - 1
        assert probability_within(0.0, 1.0, ratio) == pytest.approx(expected, abs=1e-12)
    assert probability_within(0.0, 1.0, 1.0) == 0.0  # never a negative chance


def test_the_chance_of_within_by_counting():
    """200 000 normal estimates with a known error: those whose 90 % interval lies inside the margin."""
    d = 0.02 + 0.015 * np.random.default_rng(0).standard_normal(200_000)
    z = special.ndtri(0.95)
    counted = np.mean((d - z * 0.015 > -0.05) & (d + z * 0.015 < 0.05))
    assert probability_within(0.02, 0.015, 0.05) == pytest.approx(counted, abs=0.004)
    beyond = np.mean(0.09 + 0.015 * (d - 0.02) / 0.015 - special.ndtri(0.975) * 0.015 > 0.05)
    assert probability_beyond(0.09, 0.015, 0.05) == pytest.approx(beyond, abs=0.004)


def test_few_degrees_of_freedom_cost():
    assert probability_within(0, 1, 4, df=10) < probability_within(0, 1, 4, df=math.inf) - 0.03
    assert probability_within(0, 1, 4, df=1e7) == pytest.approx(
        probability_within(0, 1, 4), abs=1e-5
    )


# ── before there are data ───────────────────────────────────────────────────────────────────────────────────────────


def test_planning_multiplies_the_cells():
    frame = ga.power(0.15, margin=0.05, cells=6, groups=(100, 300), alpha=0.05)
    se = 0.15 * math.sqrt(1 / 100 + 1 / 300)
    one = 2 * special.ndtr(0.05 / se - special.ndtri(0.95)) - 1
    assert frame["probability_within"].tolist() == pytest.approx([one])
    assert frame["probability_all"].tolist() == pytest.approx([one**6])


def test_more_than_two_groups_are_each_held_against_the_rest_and_share_the_cells():
    frame = planned_power(0.15, margin=0.05, cells=7, groups=(300, 60, 80))
    assert frame[["n_group", "n_reference"]].to_numpy().tolist() == [
        [300, 140],
        [60, 380],
        [80, 360],
    ]
    assert frame["cells"].tolist() == [2, 3, 2]  # what is left over is the smallest one's
    assert frame["probability_all"].iloc[0] == pytest.approx(
        (frame["probability_within"] ** frame["cells"]).prod()
    )


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ((60, 340), "within 3 points where heat is close to normal"),
        ((25, 375), "far too high where heat is skewed"),
        ((12, 388), "provisional"),
        ((9, 388), "no test is made"),
    ],
)
def test_how_far_it_may_be_trusted_is_said_in_words(groups, words):
    frame = planned_power(0.15, margin=0.2, cells=2, groups=groups)
    assert words in frame["limit"].iloc[0]
    assert words in frame.attrs["limit"]


def test_a_provisional_comparison_never_promises_that_the_criteria_are_met():
    assert planned_power(0.01, margin=0.2, cells=1, groups=(19, 388))["probability_all"].item() == 0
    assert planned_power(0.01, margin=0.2, cells=1, groups=(20, 388))["probability_all"].item() == 1
    assert (
        planned_power(0.01, margin=0.2, cells=1, groups=(9, 388))["probability_within"].item() == 0
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"sd": 0.0}, {"sd": math.nan}, {"margin": -0.1}, {"margin": math.inf}, {"cells": 0}, {"groups": (100,)}, {"groups": (0, 100)},
        {"groups": (50, 50, 50), "cells": 2}, {"alpha": 0.5},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(wrong):
    given = {"sd": 0.15, "margin": 0.05, "cells": 6, "groups": (100, 300), **wrong}
    with pytest.raises(InputError, match=r"got|each"):
        planned_power(given.pop("sd"), **given)


def test_a_number_alone_is_not_enough():
    with pytest.raises(InputError, match="needs margin, cells and groups"):
        ga.power(0.15, margin=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_against_the_real_decision(shape):
    """60 v 340 normal: within 3 points (and the error of 200 draws); 25 v 375 skewed: it promises too much, as it says."""
    n, m = (60, 340) if shape == "normal" else (25, 375)
    truth = stats.norm(0.5, 0.1) if shape == "normal" else stats.lognorm(1.0, scale=0.1)
    margin = 3.5 * truth.std() * math.sqrt(1 / n + 1 / m)
    said = ga.power(truth.std(), margin=margin, cells=1, groups=(n, m))["probability_within"].item()
    rng, found, draws = np.random.default_rng(7), 0, 200
    groups = np.array(["a"] * n + ["b"] * m, dtype=object)
    for i in range(draws):
        d = ga.disparity(
            truth.rvs(n + m, random_state=rng), groups, reference="b", margin=margin, permutations=999, seed=i, omnibus=False,
        )  # fmt: skip
        found += d.contrasts[0].state == "within"
    error = math.sqrt(said * (1 - said) / draws)
    if shape == "normal":
        assert abs(said - found / draws) <= 0.03 + 2 * error
    else:
        assert said - found / draws > 2 * error


# ── one open comparison ─────────────────────────────────────────────────────────────────────────────────────────────

NORMAL = math.inf


def numbers(text):
    return [int(n.replace("\u202f", "")) for n in re.findall("\\d[\\d\u202f]*", text)]


def test_a_million_patients_do_not_help_against_a_reference_of_25():
    text = what_would_settle(0.0, 0.04, 40, 0.05, 60, 25)
    assert "more patients of the group alone do not help" in text
    assert "against a reference of 25 a million do not settle it" in text
    both = re.search(r"about ([\d,]+) and ([\d,]+) do", text)
    grown = [int(n.replace(",", "")) for n in both.groups()]
    # the part of each side, at the sizes that are said to do: the promise is kept, and not by far more than is needed
    spread = 0.04**2 / (1 / 60 + 1 / 25)
    se = math.sqrt(spread * sum(1 / n for n in grown))
    assert 0.80 <= probability_within(0.0, se, 0.05) <= 0.86


def test_the_size_that_is_said_does_and_a_tenth_less_does_not():
    text = what_would_settle(0.0, 0.02, NORMAL, 0.05, 60, 340)
    n = numbers(text.split("about ")[1])[0]
    spread = 0.02**2 / (1 / 60 + 1 / 340)

    def chance(size):
        return probability_within(0.0, math.sqrt(spread * (1 / size + 1 / 340)), 0.05)

    assert chance(n) >= 0.80 > chance(0.9 * n)
    assert n > 60


def test_it_is_never_the_square_of_detectable_over_margin():
    """n (MDE / margin)^2 said 10 where 800 are needed: here it says fewer patients than there are."""
    se, margin = 0.02, 0.06
    naive = 60 * (2.8 * se / margin) ** 2
    text = what_would_settle(0.05, se, NORMAL, margin, 60, 5000)
    needed = numbers(text.split("saw (5 points), about ")[1])[0]
    assert naive < 60 < 800 < needed


def test_both_truths_are_said():
    text = what_would_settle(0.01, 0.02, 60, 0.05, 60, 340)
    assert text.startswith("If there is no difference, about ")
    assert "if the true difference is what this run saw (1 point)" in text


def test_a_difference_at_the_margin_is_never_settled():
    text = what_would_settle(0.05, 0.02, 60, 0.05, 60, 340)
    assert "not even a million settle it" in text


def test_a_difference_beyond_the_margin_is_settled_as_beyond():
    few, many = (
        numbers(what_would_settle(0.12, 0.03, NORMAL, 0.05, 60, 5000, planned=m).split("(12 points), about ")[1])[0] for m in (1, 40)
    )  # fmt: skip
    assert 60 <= few < many  # Holm over forty costs


def test_the_larger_part_of_the_error_decides():
    """A group that varies three times as much gains by growing where one that varies alike cannot."""
    alike = what_would_settle(0.0, 0.021, NORMAL, 0.05, 60, 60)
    wild = what_would_settle(0.0, 0.021, NORMAL, 0.05, 60, 60, group_share=0.9)
    assert numbers(wild.split("about ")[1])[0] < numbers(alike.split("about ")[1])[0]


def test_a_line_through_everybody_has_no_reference():
    text = what_would_settle(0.0, 0.02, 300, 0.05, 400, 0)
    assert "in all settle it (now 400)" in text
    assert "reference" not in text


@pytest.mark.parametrize(
    "given",
    [
        (math.nan, 0.02, 30, 0.05, 60, 340), (0.0, 0.0, 30, 0.05, 60, 340), (0.0, math.nan, 30, 0.05, 60, 340),
        (0.0, 0.02, math.nan, 0.05, 60, 340), (0.0, 0.02, 30, 0.0, 60, 340), (0.0, 0.02, 30, 0.05, 1, 340), (0.0, 0.02, 30, 0.05, 60, 1),
    ],
)  # fmt: skip
def test_without_numbers_nothing_is_said(given):
    assert what_would_settle(*given) is None
