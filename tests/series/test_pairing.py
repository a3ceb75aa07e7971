"""Which images and clusters two tables share."""

import pandas as pd

from gradaudit.series.changes.pairing import paired


def table(*rows):
    """(name, digest, cluster)"""
    return pd.DataFrame(rows, columns=["image_id", "digest", "cluster"])


def test_pairs_are_by_digest_then_by_name_where_one_is_missing():
    a = table(("x", "1", "p"), ("y", "2", "p"), ("z", "", "q"), ("w", "4", "q"))
    b = table(("y", "1", "p"), ("x", "9", "p"), ("z", "3", "q"), ("w", None, "q"))
    found = paired(a, b)
    assert list(zip(found.before, found.after, strict=True)) == [(0, 0), (2, 2), (3, 3)]
    assert list(found.by_digest) == [True, False, False]
    assert found.renamed == (("x", "y"),)
    assert found.replaced == ("x", "y")


def test_no_digest_at_all_pairs_by_name():
    a = table(("x", "", "p"), ("y", "", "q")).drop(columns="digest")
    assert len(paired(a, a).before) == 2
    assert not paired(a, a).by_digest.any()


def test_clusters_are_joined_by_name_and_by_an_image():
    a = table(("x", "1", "p"), ("y", "2", "q"), ("v", "5", "r"))
    b = table(("x", "1", "other"), ("u", "7", "q"), ("v2", "6", "s"))
    found = paired(a, b)
    assert found.clusters_before[0] == found.clusters_after[0]  # by the image
    assert found.clusters_before[1] == found.clusters_after[1]  # by the name
    assert found.clusters_before[2] not in found.clusters_after
    assert found.clusters_in_both == 2
    assert found.joined == 0


def test_clusters_that_one_run_holds_together_are_one_and_counted():
    a = table(("x", "1", "p"), ("y", "2", "q"))
    b = table(("x", "1", "pq"), ("y", "2", "pq"))
    found = paired(a, b)
    assert len({*found.clusters_before, *found.clusters_after}) == 1
    assert found.joined == 1


def test_neither_order_nor_side_changes_who_is_who():
    a = table(("x", "1", "p"), ("y", "2", "q"), ("z", "3", "q"))
    b = table(("z", "3", "q"), ("n", "8", "t"), ("x", "1", "p"))
    first, back = paired(a, b), paired(b, a)
    assert {(i, j) for i, j in zip(first.before, first.after, strict=True)} == {
        (j, i) for i, j in zip(back.before, back.after, strict=True)
    }
    assert list(first.clusters_before) == list(back.clusters_after)


def test_nothing_in_common_and_nothing_at_all():
    a, none = table(("x", "1", "p")), table()
    assert len(paired(a, table(("y", "2", "q"))).before) == 0
    assert len(paired(none, none).before) == 0
