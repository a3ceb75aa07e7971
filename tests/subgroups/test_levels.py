"""Kinds of attributes and the order of their levels."""

import pandas as pd

from gradaudit.subgroups.levels import attribute_kind, sort_levels


def test_kinds_and_order_of_levels():
    assert attribute_kind(pd.Series(["1", "2"] * 9)) == "categorical"
    assert attribute_kind(pd.Series([str(x) for x in range(30)])) == "continuous"
    assert [attribute_kind(pd.Series([str(x) for x in range(n)])) for n in (10, 11)] == [
        "categorical",
        "continuous",
    ]
    assert attribute_kind(pd.Series(["1", "2"]), kind="continuous") == "continuous"
    assert attribute_kind(pd.Series(["a", "b"]), order=["b", "a"]) == "ordered"
    assert sort_levels(["10", "9", "2"]) == ["2", "9", "10"]
    assert sort_levels(["b", "a", "10"]) == ["10", "a", "b"]


def test_levels_of_one_value_and_those_that_are_no_number_keep_their_order_in_every_process():
    """The order says which level a pair is taken from; sets have another in every process."""
    same = ["1", "01", "001", "1.0", "1.00", "1e0"]
    assert sort_levels(same) == sort_levels(same[::-1]) == sorted(same)
    assert sort_levels(["2", "10", *same]) == [*sorted(same), "2", "10"]
    assert sort_levels(["2", "nan", "10", "0.5", "1"]) == ["0.5", "1", "10", "2", "nan"]
