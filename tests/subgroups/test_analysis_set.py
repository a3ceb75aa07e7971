"""Which rows and covariate columns enter a comparison, and what is counted as left out."""

import numpy as np
import pandas as pd
import pytest
from subgroup_samples import clustered, rows_of

from gradaudit.subgroups.analysis_set import AnalysisSet, with_columns
from gradaudit.subgroups.comparison import disparity


def test_a_stray_level_inside_a_cluster_goes_with_the_majority():
    d = clustered(13)
    stray = d["group"].to_numpy().copy()
    first = d.index[(d.groupby("cluster")["value"].transform("size") >= 3)][0]
    stray[first] = "c" if stray[first] != "c" else "a"
    found = disparity(d["value"], stray, clusters=d["cluster"], permutations=99)
    assert found.excluded == {"another level of the cluster": 1}
    assert "1 clusters carry several levels" in found.notes[0]


def test_what_is_left_out_is_counted_by_reason():
    rng = np.random.default_rng(18)
    value, area = rng.random(60), rng.random(60)
    value[:3], area[3:5] = np.nan, np.nan
    groups = np.array(["a", "b"] * 30, dtype=object)
    groups[5:9] = None
    found = disparity(
        value,
        groups,
        area_share=area,
        covariates=pd.DataFrame({"x": np.r_[[np.nan] * 10, rng.random(50)]}),
        permutations=99,
    )
    assert found.excluded == {
        "unknown level": 4,
        "undefined value": 3,
        "region size unknown": 2,
        "covariate missing": 1,
    }
    assert sum(n for n, _ in found.levels.values()) == 50
    assert found.adjusted_for == ("region size", "x")


def test_unknown_levels_in_a_plain_list_are_unknown():
    found = disparity(
        np.random.default_rng(0).random(61),
        [*["a", "b"] * 30, np.nan],
        klass=[*["x", "y", None] * 20, "x"],
        permutations=99,
    )
    assert found.excluded == {"unknown level": 1}
    assert set(found.levels) == {"a", "b"}


def test_class_is_crossed_with_size_where_patients_suffice():
    d = rows_of("V12")
    z = {
        n: with_columns(rows, {"label": pd.Series(k)}).z.shape[1]
        for n, rows, k in ((n, *_rows(d, n)) for n in (60, 139, 140, 200))
    }
    assert z == {60: 3, 139: 3, 140: 6, 200: 6}  # twenty patients for each of 2 · 4 − 1 columns


@pytest.mark.parametrize(
    ("mixed", "unit"),
    [
        (1, "cluster"),
        (2, "difference within cluster"),
        (3, "difference within cluster"),
    ],
)
def test_half_of_the_clusters_decide_where_differences_are_taken(mixed, unit):
    """Four clusters of two images, some of them with both levels, beside twenty clusters of one image."""
    group = ["a", "b"] * mixed + ["a", "a", "b", "b", "a", "a"][: 2 * (4 - mixed)] + ["a", "b"] * 10
    clusters = np.r_[np.repeat(np.arange(4), 2), np.arange(4, 24)]
    assert (
        disparity(
            np.random.default_rng(0).random(28), group, clusters=clusters, permutations=99
        ).unit
        == unit
    )
    assert disparity(np.random.default_rng(0).random(28), group, permutations=99).unit == "row"


def _rows(d, n):
    d = d.drop_duplicates("cluster").head(n)
    y, codes = d["value"].to_numpy(), d["group"].to_numpy()
    rows = AnalysisSet(
        y,
        codes,
        codes / 1,
        np.arange(n),
        np.arange(n),
        d["log_area"].to_numpy(),
        np.empty((n, 0)),
        ("0", "1"),
        {},
    )
    return rows, d["klass"].to_numpy()
