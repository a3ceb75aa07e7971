"""Factors, what is absorbed of them, and who says something."""

import numpy as np
import pandas as pd
import pytest

from gradaudit.stats.strata import Strata, factor_of, strata_of


def factor(levels, clusters=None, name="site"):
    clusters = np.arange(len(levels)) if clusters is None else np.asarray(clusters)
    return factor_of(name, pd.Series(levels), clusters, int(clusters.max()) + 1)


def test_a_factor_of_one_level_holds_nothing_equal():
    assert factor(["a"] * 5) is None


def test_clusters_of_unknown_level_are_equal_to_nobody():
    found = factor(["b", None, "a", None, "b"])
    assert found.main[0] == found.main[4]
    assert len(set(found.main)) == 4


def test_mixes_are_told_apart_by_their_shares():
    """aab and aba are one mix; ab, abb and aa are others; the main level of ab is the first."""
    levels = list("aab") + list("aba") + list("ab") + list("abb") + list("aa")
    clusters = np.repeat(np.arange(5), [3, 3, 2, 3, 2])
    found = factor(levels, clusters)
    assert found.mixed
    assert found.profile[0] == found.profile[1]
    assert len(set(found.profile)) == 4
    assert found.main.tolist() == [0, 0, 0, 1, 0]


def test_leaving_out_one_may_leave_another_alone():
    """Patient 0 is alone in its class; without it, patient 1 is alone at its site; and so on."""
    klass, site = factor([0, 1, 1, 2, 2, 3, 3, 3], name="class"), factor([0, 0, 1, 1, 2, 2, 3, 3])
    strata = Strata(klass.main, np.column_stack([klass.main, site.main]), ("class", "site"), 1)
    group = np.array([1, 0, 1, 0, 1, 0, 1, 0])
    assert strata.informative(group).tolist() == [False] * 6 + [True] * 2
    assert strata.sharing(group == 1, group == 0).tolist() == [
        False, True, True, True, True, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(("clusters", "absorbed"), [(100, ["many"]), (1000, ["few"])])
def test_factors_are_columns_where_there_are_twenty_clusters_for_each(clusters, absorbed):
    """Seven levels are six columns: too many for 100 clusters."""
    few, many = (
        factor(np.arange(clusters) % 2, name="few"),
        factor(np.arange(clusters) % 7, name="many"),
    )
    strata, columns = strata_of([few, many], clusters)
    assert list(strata.names[: strata.absorbs]) == absorbed
    assert len(columns) == 1
    assert columns[0].columns().sum(axis=1).max() == 1
    assert strata.without(absorbed[0]).absorbs == 0
    assert strata.without("few").without("many") is None


def test_the_order_of_rows_and_the_names_of_levels_change_no_stratum():
    rng = np.random.default_rng(0)
    levels = rng.choice(list("abcd"), 50)
    order = rng.permutation(50)
    first, second = factor(levels), factor(levels[order])
    np.testing.assert_array_equal(first.main[order], second.main)
