"""The guards where they are declared, and the states of a family of contrasts."""

import numpy as np
import pytest

from gradaudit.records import CellState
from gradaudit.stats.decision import MarginTest
from gradaudit.stats.tails import SkewedT
from gradaudit.subgroups import contrast
from gradaudit.subgroups.comparison import disparity


@pytest.mark.parametrize(
    ("n", "zeros", "reason", "provisional"),
    [
        (9, 0.0, "fewer than 10", False),
        (12, 0.9, "nearly every value", False),
        (12, 0.0, "", True),
        (25, 0.0, "", False),
        (25, 1.0, "every value is the same", False),
    ],
)
def test_guards(n, zeros, reason, provisional):
    rng = np.random.default_rng(15)
    value = np.where(rng.random(n + 200) < zeros, 0.0, rng.random(n + 200))
    c = disparity(
        value, ["g"] * n + ["rest of them"] * 200, permutations=99, margin=0.05
    ).contrasts[0]
    assert reason in (c.reason or "".join(c.notes))
    assert bool(c.reason) == bool(reason and zeros < 1)
    assert c.provisional is provisional
    assert np.isnan(c.p) == bool(reason)
    constant = zeros == 1.0  # no group differs from another: within any margin
    expected = CellState.WITHIN if constant else CellState.NOT_ASSESSED if reason else c.state
    assert c.state is expected
    assert (c.state is CellState.NOT_ASSESSED) == bool(reason and not constant)


@pytest.mark.parametrize(
    ("mode_share", "n", "n_other", "reason", "provisional", "analytic"),
    [
        (0.0, 9, 300, "fewer than 10", False, False),
        (0.0, 300, 9, "fewer than 10", False, False),
        (0.0, 10, 300, "", True, False),
        (0.0, 19, 300, "", True, False),
        (0.0, 20, 300, "", False, False),
        (0.75, 20, 300, "", False, False),  # five of twenty differ from the commonest value
        (0.76, 20, 300, "only 4.8 clusters", False, False),
        (0.80, 25, 300, "", False, False),  # 25 · (1 − 0.8) is 4.999999999999999 in floating point
        (0.0, 199, 300, "", False, False),
        (0.0, 200, 300, "", False, True),
        (0.80, 200, 300, "", False, True),  # 40 of 200, 39.99999999999999 in floating point
        (0.805, 200, 300, "", False, False),
    ],
)
def test_guards_stand_where_they_are_declared(
    mode_share, n, n_other, reason, provisional, analytic
):
    found = contrast.guard(mode_share, n, n_other)
    assert reason in found[0]
    assert (bool(found[0]), *found[1:]) == (bool(reason), provisional, analytic)


def test_five_clusters_off_the_commonest_value_are_five():
    """Ten of fifty differ, five of the smaller side's 25: said to be "only 5.0 … 5 needed" where 1 − 0.8 is a hair too small."""
    value = np.zeros(50)
    value[:5], value[25:30] = np.arange(1, 6) / 10, np.arange(1, 6) / 9
    assert disparity(value, ["a"] * 25 + ["b"] * 25, permutations=99).contrasts[0].reason == ""
    value[29] = 0.0
    few = disparity(value, ["a"] * 25 + ["b"] * 25, permutations=99).contrasts[0]
    assert "only 4.5 clusters of the smaller side expected to differ, 5 needed" in few.reason
    assert (
        "only 4.9 clusters" in contrast.guard(1 - 4.96 / 20, 20, 20)[0]
    )  # never "5.0 where 5 are needed"


def test_joint_tests_stand_alone_and_have_no_size():
    def one(kind, p):
        return contrast.Contrast(
            kind,
            "g",
            "r",
            50,
            50,
            50,
            50,
            estimate=0.2,
            ci_low=0.1,
            ci_high=0.3,
            p=p,
            margin_test=MarginTest(0.2, 0.03, 0.05, SkewedT(50)) if kind == "level" else None,
        )

    judged = contrast.judge(
        [one("level", 0.02), one("level", 0.03), one("departure", 0.04), one("nonlinear", 0.045)],
        margin=0.05,
        alpha=0.05,
    )
    assert [c.p_adjusted for c in judged] == pytest.approx([0.04, 0.04, 0.04, 0.045])
    states = [CellState.BEYOND, CellState.BEYOND, CellState.NOT_JUDGED, CellState.NOT_JUDGED]
    assert [c.state for c in judged] == states
    assert all(c.shown for c in judged)
    assert judged[0].p_beyond_adjusted == pytest.approx(2 * judged[0].p_beyond)
