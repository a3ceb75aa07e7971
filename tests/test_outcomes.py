"""A metric that is registered anywhere is compared, told and tabled like those of the package."""

import numpy as np
import pytest
from planted_levels import planted

from gradaudit.analysis.findings import analyze
from gradaudit.metrics.mass import METRICS
from gradaudit.outcomes import outcome, secondary_outcomes
from gradaudit.plan import Plan


@pytest.fixture
def heat_near_edge(monkeypatch):
    """A metric with a card, taken out again after the test."""
    monkeypatch.setattr(METRICS, "_members", dict(METRICS._members))
    monkeypatch.setattr(METRICS, "_cards", dict(METRICS._cards))

    @METRICS.register(
        label="heat near the edge",
        summary="share of the region's heat within one cell of its edge",
        unit="share",
        range="0 to 1",
        source="this test",
    )
    def near_edge(heat, masks):
        return np.full(masks.shape[:2], 0.5)

    return "near_edge"


def test_a_registered_metric_is_found_in_findings_and_sentences_in_percent(heat_near_edge):
    meas = planted({"I": 60, "II": 60}, 0)
    share = meas.table["heat_share"]
    meas.table[heat_near_edge] = np.where(share.notna(), 0.4 + 0.2 * share, np.nan)
    found = [
        f
        for f in analyze(meas, Plan(analysis={"permutations": 199}, privacy={"min_cell": 1}))
        if f.outcome == heat_near_edge
    ]
    assert {f.region for f in found} == {"lesion", "ruler"}
    for f in found:
        assert f.code == "GA121"
        assert f"mean heat near the edge on {f.region} " in f.sentence
        assert " % (95 % CI " in f.sentence
        assert "points" in f.sentence
    assert outcome(heat_near_edge).title == "heat near the edge"


def test_every_metric_beside_the_heat_share_is_a_secondary_outcome():
    names = ("mass_lift", "relevance_rank_accuracy", "pointing_game", "auc")
    assert secondary_outcomes() == names
    assert [outcome(name).is_share for name in names] == [False, True, True, True]
