"""Sites above patients: compared within them, and from five on they are the unit of the error."""

import numpy as np
import pandas as pd
import pytest
import worlds2

from gradaudit.errors import InputError
from gradaudit.subgroups.comparison import disparity


def compared(d, **settings):
    given = {"reference": "0", "omnibus": False, "permutations": 299, "margin": 0.1}
    return disparity(d["value"], d["group"], site=d["site"], **{**given, **settings}).contrasts[0]


def dense_cr2(y, x, c, sites):
    """Estimate, CR2 error and df with n x n matrices: Pustejovsky & Tipton 2018, eqs. 6 to 11."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    basis = u[:, s > 1e-10 * s[0]]
    left = np.eye(len(y)) - basis @ basis.T
    w, e = np.linalg.pinv(x).T @ c, left @ y
    g, total = [], 0.0
    for site in np.unique(sites):
        own = np.flatnonzero(sites == site)
        value, vector = np.linalg.eigh(left[np.ix_(own, own)])
        root = np.where(value > 1e-9, np.maximum(value, 1e-9) ** -0.5, 0.0)
        a = vector @ np.diag(root) @ vector.T @ w[own]
        total += (a @ e[own]) ** 2
        g.append(left[:, own] @ a)
    gram = np.array(g) @ np.array(g).T
    return w @ y, np.sqrt(total), np.trace(gram) ** 2 / np.sum(gram**2)


@pytest.mark.parametrize("classes", [0, 3, 30])
def test_errors_at_the_site_equal_the_dense_formula(classes):
    """With sites alone, with classes beside them as columns, and with sites beside many classes."""
    d = worlds2.draw("hospitals_10", np.random.default_rng(2))
    rng = np.random.default_rng(3)
    parts, settings = [d["group"], pd.get_dummies(d["site"], dtype=float)], {}
    keep = np.ones(len(d), dtype=bool)
    if classes:
        klass = rng.integers(0, classes, len(d))
        parts.append(np.eye(classes)[klass])
        settings["label"] = klass
        for _ in range(5):
            for codes in (klass, d["site"].to_numpy()):
                part = pd.Series(d["group"].to_numpy()[keep]).groupby(codes[keep])
                keep[np.flatnonzero(keep)[part.transform("nunique").to_numpy() < 2]] = False
    c = compared(d, **settings)
    x = np.column_stack(parts)[keep]
    sites = d["site"].to_numpy()[keep]
    expected = dense_cr2(d["value"].to_numpy()[keep], x, np.eye(x.shape[1])[0], sites)
    assert c.method == "site t"
    assert (c.estimate, c.se, c.df) == pytest.approx(expected, rel=1e-8)


def test_sites_that_are_alike_in_shares_and_not_in_heat_do_not_make_groups_differ():
    p = [
        compared(worlds2.draw("hospitals_20_slopes", np.random.default_rng(s))).p
        for s in range(120)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.11


@pytest.mark.parametrize(("sites", "method"), [(4, "permutation"), (5, "site t")])
def test_five_sites_must_hold_both_groups(sites, method):
    rng = np.random.default_rng(1)
    site = np.repeat(np.arange(sites + 2), 40)
    group = np.tile([0, 1], len(site) // 2)
    group[site == sites], group[site == sites + 1] = 0, 1
    d = pd.DataFrame({"value": rng.random(len(site)), "group": group, "site": site})
    c = compared(d)
    assert c.method == method
    assert (f"in these hospitals ({sites})" in c.notes) == (method == "permutation")
    assert c.entered == (20 * sites, 20 * sites)


def test_site_and_group_that_are_one_are_not_told_apart():
    d = worlds2.draw("aliased", np.random.default_rng(1))
    assert compared(d).reason == "site and the groups cannot be told apart"


def test_a_slope_is_taken_within_sites():
    """x and heat both differ between sites and are unrelated inside them."""
    site = np.repeat(np.arange(8), 40)
    p = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, value = 10 * site + rng.random(320), 0.05 * site + 0.05 * rng.random(320)
        plain = disparity(value, x, continuous=True, permutations=199).contrasts[0]
        inside = disparity(value, x, continuous=True, permutations=199, site=site).contrasts[0]
        assert plain.p < 0.01
        assert inside.method == "site t"
        p.append(inside.p)
    assert np.median(p) > 0.1


def test_site_and_image_rows_exclude_each_other():
    d = worlds2.draw("hospitals_5", np.random.default_rng(1))
    with pytest.raises(InputError, match="site"):
        compared(d, unit="image")
