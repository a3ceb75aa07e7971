"""The change of a difference: its error by brute force, its permutations by a slow replica, its rates by simulation."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from gradaudit.series.changes.joint_tests import Half, Statistic, change_tests
from gradaudit.subgroups.analysis_set import Observations
from gradaudit.subgroups.comparison import disparity_of
from gradaudit.subgroups.settings import Settings

_spec = importlib.util.spec_from_file_location(
    "change_worlds", Path(__file__).parents[2] / "benchmarks" / "change_worlds.py"
)
worlds = importlib.util.module_from_spec(_spec)
sys.modules["change_worlds"] = worlds
_spec.loader.exec_module(worlds)


def half(values, groups, clusters, **more):
    settings = Settings(reference="r", analytic=True, keep_fit=True, omnibus=False, within=False)
    observations = Observations(values=values, groups=groups, clusters=np.asarray(clusters), **more)
    c = disparity_of(observations, settings).contrasts[0]
    return Half(c.estimate, c.fitted, c.se, c.df)


def two(n=40, first=None, second=None, seed=0, size=False):
    """Patients 0..n-1, one image each, some of them in either audit."""
    rng = np.random.default_rng(seed)
    groups = np.where(np.arange(n) % 2 == 0, "g", "r").astype(object)
    own, area = rng.normal(size=n), rng.uniform(0.05, 0.4, n)
    out = []
    for rows in (
        np.arange(n) if first is None else first,
        np.arange(n) if second is None else second,
    ):
        y = (own + 0.3 * rng.normal(size=n))[rows]
        more = {"area_share": area[rows]} if size else {}
        out.append(half(y, groups[rows], rows, **more))
    return out


@pytest.mark.parametrize("size", [False, True])
@pytest.mark.parametrize("overlap", ["all", "half", "none"])
def test_the_error_of_a_change_is_that_of_the_clusters_influences(overlap, size):
    """Every cluster's influence by leaving the formula to numpy: X (X'X)^-1 c, residuals over sqrt(1 - h)."""
    n = 96
    rows = {
        "all": (np.arange(n), np.arange(n)),
        "half": (np.arange(72), np.arange(24, n)),
        "none": (np.arange(48), np.arange(48, n)),
    }[overlap]
    before, after = two(n, *rows, size=size)
    test = change_tests([(before, after)], 199, 0)[0]
    scores = np.zeros(n)
    for h, sign in ((before, -1), (after, 1)):
        f = h.fitted
        basis = f.fit.basis()
        hat = basis @ basis.T
        left = f.y - hat @ f.y
        np.add.at(scores, f.clusters, sign * f.weights * left / np.sqrt(1 - np.diag(hat)))
    assert test.change.estimate == pytest.approx(after.estimate - before.estimate)
    assert test.change.se == pytest.approx(np.sqrt(np.sum(scores**2)), rel=1e-10)
    if overlap == "none":
        assert test.change.se == pytest.approx(np.hypot(before.se, after.se), rel=1e-10)
        assert test.total.se == pytest.approx(test.change.se, rel=1e-10)


def test_with_the_same_rows_it_is_the_comparison_of_the_changes():
    """Paired with one design: estimate, HC2 error and permuted p of the clusters' own changes."""
    rng = np.random.default_rng(1)
    n = 50
    groups = np.where(np.arange(n) < 15, "g", "r").astype(object)
    a, b = rng.normal(size=n), rng.normal(size=n)
    test = change_tests([(half(a, groups, range(n)), half(b, groups, range(n)))], 4999, 0)[0]
    settings = Settings(reference="r", permutations=4999, omnibus=False, within=False)
    own = disparity_of(
        Observations(values=b - a, groups=groups, clusters=np.arange(n)), settings
    ).contrasts[0]
    assert test.change.estimate == pytest.approx(own.estimate, abs=1e-12)
    assert test.change.se == pytest.approx(own.se, rel=1e-10)
    assert test.change.p == pytest.approx(own.p, abs=0.02)
    assert test.change.interval(0.05)[0] == pytest.approx(own.ci_low, abs=0.05 * own.se)


def test_permuted_statistics_are_those_of_a_slow_replica():
    """Half of the clusters shared: residual pairs move together, the others among themselves; all fits made anew."""
    before, after = two(60, np.arange(40), np.arange(20, 60), seed=2)
    test = change_tests([(before, after)], 800, 3)[0]
    rng = np.random.default_rng(7)
    shared = np.intersect1d(before.fitted.clusters, after.fitted.clusters)
    draws = []
    for _ in range(800):
        order = rng.permutation(len(shared))
        parts, tops = {}, []
        for name, h in (("b", before), ("a", after)):
            f = h.fitted
            inside = np.isin(f.clusters, shared)
            e = f.residuals.copy()
            e[inside] -= e[inside].mean()
            e[~inside] -= e[~inside].mean()
            at = {c: k for k, c in enumerate(f.clusters)}
            moved = e.copy()
            for k, c in enumerate(shared):
                moved[at[c]] = e[at[shared[order[k]]]]
            alone = np.flatnonzero(~inside)
            moved[alone] = e[rng.permutation(alone)]
            basis = f.fit.basis()
            left = moved - basis @ (basis.T @ moved)
            tops.append(f.weights @ moved)
            score = f.weights * left / np.sqrt(1 - f.fit.leverage)
            parts[name] = dict(zip(f.clusters, score, strict=True))
        se = np.sqrt(sum((parts["a"].get(c, 0) - parts["b"].get(c, 0)) ** 2 for c in range(60)))
        draws.append((tops[1] - tops[0]) / se)
    for level in (0.5, 0.8, 0.95):
        assert np.quantile(np.abs(draws), level) == pytest.approx(
            np.quantile(test.change.sizes, level), rel=0.12
        )


def test_p_and_interval_never_disagree():
    for seed in range(20):
        test = change_tests([tuple(two(30, seed=seed))], 199, seed)[0]
        for level in (0.05, 0.2):
            low, high = test.change.interval(level)
            assert (test.change.p <= level) == (low > 0 or high < 0)


def test_without_an_error_there_is_nothing_to_show():
    a, _ = two(40)
    same = change_tests([(a, a)], 199, 0)[0]
    assert (same.change.estimate, same.change.se, same.change.p) == (0.0, 0.0, 1.0)
    constant = change_tests([(Half(0.0, None), Half(0.0, None))], 199, 0)[0]
    assert constant.change.interval(0.05) == (0.0, 0.0)
    one = change_tests([(Half(0.0, None), a)], 199, 0)[0]
    assert one.change.se == pytest.approx(a.se, rel=1e-10)  # a constant side adds no error


def test_above_its_number_of_clusters_student_s_t_is_taken(monkeypatch):
    monkeypatch.setattr("gradaudit.series.changes.joint_tests.MOST_PERMUTED", 30)
    test = change_tests([tuple(two(40))], 199, 0)[0]
    assert test.change.sizes is None
    assert 0 < test.change.p < 1
    assert Statistic(2.0, 1.0, np.inf, None).p == pytest.approx(0.0455, abs=1e-4)


def test_sizes_need_both_signs():
    """From 5 ± 4 to 1 ± 4 with a change of -4 ± 1: it changed, and may have turned to the other side."""
    a, b = (Statistic(x, 1.0, 200.0, None) for x in (-4.0, 1.5))
    from gradaudit.series.changes.joint_tests import ChangeTest

    test = ChangeTest(a, b)
    assert test.shrinks
    assert test.change.p < 0.001 < 0.05 < test.p_size
    assert not ChangeTest(a, Statistic(-6.0, 1.0, 200.0, None)).shrinks


BOUNDS = {  # (shown at most, coverage at least) in 250 replicates, whose standard error is 1.4 points
    "paired": (0.09, 0.91), "paired, 25 against 375, skewed": (0.09, 0.91), "paired, 12 against 188, uneven": (0.10, 0.90),
    "unpaired": (0.09, 0.91), "half shared, uneven": (0.09, 0.91), "same patients, other images": (0.09, 0.91),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BOUNDS)
def test_two_audits_of_one_model_differ_by_nothing(name):
    found = worlds.measured(worlds.WORLDS[name], 250, 199)
    most, least = BOUNDS[name]
    assert found["shown"] <= most
    assert found["coverage"] >= least
    assert found["better"] + found["worse"] <= most


@pytest.mark.slow
def test_a_change_is_found_and_pairing_is_what_finds_it():
    """Teeth: with shared patients counted as strangers the same change is found far less often."""
    world = worlds.WORLDS["paired, 5 points less"]
    rng = np.random.default_rng(0)
    paired = strangers = 0
    for k in range(100):
        pair = worlds.drawn(world, rng)
        paired += worlds.tested(pair, 199, k).change.p <= 0.05
        strangers += worlds.tested(worlds.treated_as_strangers(pair), 199, k).change.p <= 0.05
    assert paired >= 80
    assert strangers <= paired - 30


@pytest.mark.slow
def test_a_difference_that_turns_is_called_neither_better_nor_worse():
    found = worlds.measured(worlds.WORLDS["turned to the other side"], 100, 199)
    assert found["shown"] == 1.0
    assert found["better"] + found["worse"] <= 0.10
