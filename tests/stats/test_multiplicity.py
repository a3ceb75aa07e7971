"""Corrections against statsmodels; max-T by hand; every statistic has its card."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from gradaudit.stats import (
    family,
    multiplicity,
    permutation,
)


@settings(max_examples=25)  # statsmodels takes some tenths of a second each
@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=30))
@pytest.mark.slow
def test_corrections_equal_statsmodels(p):
    np.testing.assert_allclose(multiplicity.holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
    np.testing.assert_allclose(
        multiplicity.benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12
    )


def test_corrections_do_not_count_what_is_unknown():
    np.testing.assert_allclose(multiplicity.holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert np.isnan(multiplicity.benjamini_hochberg([np.nan, np.nan])).all()


def test_max_t_is_never_below_the_single_p():
    rng = np.random.default_rng(7)
    reference = np.abs(rng.normal(size=(499, 4)))
    t = np.array([1.0, 2.0, 2.5, 3.0])
    single = np.array([permutation.p_value(v, reference[:, k]) for k, v in enumerate(t)])
    assert (multiplicity.max_t(t, reference) >= single).all()
    adjusted = multiplicity.max_t(t, reference)
    assert adjusted[3] == permutation.p_value(3.0, reference.max(axis=1))
    assert adjusted[2] == max(adjusted[3], permutation.p_value(2.5, reference[:, :3].max(axis=1)))
    assert (np.diff(adjusted) <= 0).all()


def test_every_statistic_names_its_source():
    assert all(card.summary and card.source and card.formula for card in family.STATISTICS.cards())
