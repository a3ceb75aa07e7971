"""The control: of the region's size and shape, on free ground, anywhere it fits."""

import numpy as np
import pytest

from gradaudit.checks.control_patches import control_patch

SIDE = 32


def ell():
    """A shape that none of the eight orientations maps on itself."""
    goes = np.zeros((SIDE, SIDE), bool)
    goes[2:12, 2:4] = True
    goes[10:12, 2:8] = True
    return goes


def draws(goes, free, count=300):
    random = np.random.default_rng(0)
    return [control_patch(goes, free, random) for _ in range(count)]


def normalized(patch):
    rows, columns = np.flatnonzero(patch.any(1)), np.flatnonzero(patch.any(0))
    return patch[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_all_eight_orientations_are_drawn_and_nothing_else():
    goes = ell()
    found = {
        normalized(p).tobytes() + bytes(normalized(p).shape)
        for p in draws(goes, ~goes)
        if p.sum() == goes.sum()
    }
    cut = normalized(goes)
    known = {
        np.rot90(s, k).tobytes() + bytes(np.rot90(s, k).shape)
        for s in (cut, cut[:, ::-1])
        for k in range(4)
    }
    assert found == known


def test_a_whole_patch_on_free_pixels_comes_first():
    """A smaller control changes less than the region does, so that a network that reacts to fills alone seems to need it."""
    goes, free = ell(), np.zeros((SIDE, SIDE), bool)
    free[:, 16:26] = True
    assert {int(p.sum()) for p in draws(goes, free)} == {int(goes.sum())}
    assert all(not (p & ~free).any() for p in draws(goes, free))


def test_where_none_is_whole_the_most_free_are_drawn_and_the_rest_is_left_alone():
    goes, free = ell(), np.zeros((SIDE, SIDE), bool)
    free[:, 20:25] = (
        True  # five columns: the longer arm of six does not fit, one pixel row of it sticks out
    )
    free[:9] = False
    found = draws(goes, free)
    free_share = {p.sum() / goes.sum() for p in found}
    assert len(free_share) == 1
    assert 0.8 <= free_share.pop() < 1
    assert all(not (p & ~free).any() for p in found)
    assert len({p.tobytes() for p in found}) > 1


@pytest.mark.parametrize(("free_columns", "found"), [(4, True), (3, False)])
def test_eighty_percent_is_the_limit(free_columns, found):
    goes = np.zeros((8, 5), bool)
    goes[0] = True  # 5 pixels long: 4 of 5 are 80 %
    free = np.zeros_like(goes)
    free[4, :free_columns] = True
    assert (control_patch(goes, free, np.random.default_rng(0)) is not None) == found


def test_there_is_none_where_it_does_not_fit():
    goes = np.ones((8, 8), bool)
    assert control_patch(goes, ~goes, np.random.default_rng(0)) is None
    assert control_patch(np.zeros((8, 8), bool), goes, np.random.default_rng(0)) is None


def test_places_are_drawn_evenly():
    """A region of one pixel has eight times as many shapes as places; every free pixel is as likely."""
    goes = np.zeros((6, 6), bool)
    goes[0, 0] = True
    free = np.zeros_like(goes)
    free[2:4, 2:5] = True
    counts = np.sum(draws(goes, free, 1200), axis=0)[free]
    assert counts.sum() == 1200
    assert counts.min() > 150
    assert counts.max() < 250
