"""Equivalence, smallest detectable difference and verdicts, on and off their boundaries."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from gradaudit.records import Verdict
from gradaudit.stats import (
    decision,
)


@pytest.mark.parametrize(
    ("estimate", "se", "statistic"),
    [
        (0.03, 0.01, 2.0),
        (-0.03, 0.01, 2.0),
        (0.0, 0.02, 2.5),
        (0.05, 0.01, None),
        (0.07, 0.01, None),
        (-0.07, 0.01, None),
        (0.03, 0.0, None),
    ],
)
def test_only_an_estimate_inside_the_margin_can_be_equivalent(estimate, se, statistic):
    found = decision.equivalence_statistic(estimate, se, 0.05)
    assert found is None if statistic is None else found == pytest.approx(statistic)


@pytest.mark.parametrize(
    ("p", "near", "low", "high", "margin", "verdict"),
    [
        (0.01, 1.0, 0.06, 0.12, 0.05, Verdict.MATERIAL),
        (0.01, 1.0, -0.12, -0.06, 0.05, Verdict.MATERIAL),
        (0.01, 0.30, 0.01, 0.12, 0.05, Verdict.SIZE_UNCERTAIN),
        (0.01, 0.01, 0.01, 0.04, 0.05, Verdict.WITHIN_MARGIN),
        (0.30, 0.01, -0.02, 0.04, 0.05, Verdict.EQUIVALENT),
        (0.30, 0.30, -0.02, 0.09, 0.05, Verdict.INCONCLUSIVE),
        (np.nan, np.nan, np.nan, np.nan, 0.05, Verdict.NOT_ASSESSED),
        (0.01, np.nan, 0.06, 0.12, None, Verdict.SHOWN),
        (0.30, np.nan, -0.02, 0.12, None, Verdict.NOT_SHOWN),
        # on the boundaries: alpha itself is a verdict, the margin itself is not beyond it
        (0.05, 1.0, 0.06, 0.12, 0.05, Verdict.MATERIAL),
        (0.0501, 1.0, 0.06, 0.12, 0.05, Verdict.INCONCLUSIVE),
        (0.01, 1.0, 0.05, 0.12, 0.05, Verdict.SIZE_UNCERTAIN),
        (0.01, 1.0, -0.12, -0.05, 0.05, Verdict.SIZE_UNCERTAIN),
        (0.30, 0.05, -0.02, 0.04, 0.05, Verdict.EQUIVALENT),
        (0.30, 0.0501, -0.02, 0.04, 0.05, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(p, near, low, high, margin, verdict):
    assert decision.verdict(p, near, low, high, margin) is verdict


def test_detectable_difference_has_eighty_percent_power():
    mde = decision.detectable_difference(1.0, 30.0)
    power = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, 30), 30, mde)
    assert power == pytest.approx(0.80, abs=0.01)


def test_detectable_difference_in_closed_form():
    t = scipy_stats.t.ppf
    assert decision.detectable_difference(0.02, 30.0) == pytest.approx(
        0.02 * (t(0.975, 30) + t(0.8, 30))
    )
    assert decision.detectable_difference(0.02, 30.0, alpha=0.1) == pytest.approx(
        0.02 * (t(0.95, 30) + t(0.8, 30))
    )
    assert decision.detectable_difference(0.02, 0.3) == pytest.approx(
        0.02 * (t(0.975, 1) + t(0.8, 1))
    )  # never fewer than one degree of freedom
