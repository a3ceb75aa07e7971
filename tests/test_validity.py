"""Worlds with a known answer, in the time that a test run has; the whole table is benchmarks/validity.py.

Type I error over 400 replicates with B = 299 keeps 2.5 to 8 %; the same harness turns red when the protocol is mutated.
"""

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import worlds

from gradaudit.stats import linear_model
from gradaudit.subgroups import analysis_set, contrast, contrast_tests

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("validity", ROOT / "benchmarks" / "validity.py")
validity = importlib.util.module_from_spec(_spec)
sys.modules["validity"] = validity
_spec.loader.exec_module(validity)

LOW, HIGH = 0.025, 0.08


def type_one(name, replicates=400, **settings):
    return validity.rejected(
        validity.simulate(partial(worlds.draw, name), replicates, 7, permutations=299, **settings)[
            "p"
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["V02", "V05", "V08", "V11", "V12"])
def test_null_worlds_are_rejected_as_often_as_promised(name):
    assert LOW <= type_one(name) <= HIGH


def test_a_world_without_information_gets_no_verdict():
    found = validity.simulate(partial(worlds.draw, "V14"), 200, 7, permutations=299)
    assert found["p"].isna().mean() >= 0.99


@pytest.mark.slow
def test_images_instead_of_patients_turn_it_red(monkeypatch):
    monkeypatch.setattr(analysis_set, "cluster_codes", lambda ids: np.arange(len(ids)))
    assert type_one("V05", 100) > HIGH


def test_no_spline_turns_it_red(monkeypatch):
    monkeypatch.setattr(linear_model, "spline_basis", lambda x, knots=None: np.empty((len(x), 0)))
    assert type_one("V11", 100) > HIGH


@pytest.mark.slow
def test_an_analytic_p_turns_it_red(monkeypatch):
    monkeypatch.setattr(contrast, "ANALYTIC_PATIENTS", 0)
    monkeypatch.setattr(contrast_tests, "ANALYTIC_PATIENTS", 0)
    monkeypatch.setattr(contrast, "ANALYTIC_OFF_MODE", 0.0)
    monkeypatch.setattr(contrast_tests, "MOST_SKEWED", np.inf)
    assert type_one("V08", 800) > HIGH


def test_naive_methods_are_seen_to_fail():
    rows = validity.teeth(60, 299, 3)
    assert [row.value > 0.15 for row in rows[:3]] == [True] * 3


def test_every_stored_figure_is_said_with_its_bounds():
    """The report is written from the stored figures; a figure outside its bounds is marked there."""
    stored = json.loads((ROOT / "reports" / "validity.json").read_text())
    text = (ROOT / "reports" / "validity.md").read_text()
    for part in stored.values():
        for row in (validity.Row(**r) for r in part.get("rows", ())):
            line = next(
                line
                for line in text.splitlines()
                if f"| {row.what} |" in line and f"| {row.check} |" in line
            )
            assert ("**outside**" in line) == (not row.kept)
    assert all(line in text for line in stored["notes"]["lines"])


def type_one_of_figures(draw, replicates):
    found = validity.differences(draw, replicates, 299, 7, "c1")
    return {
        figure: validity.rejected(found.loc[found["figure"] == figure, "p"])
        for figure in ("auc", "calibration_slope", "brier")
    }


@pytest.mark.slow
def test_equally_good_classifiers_are_told_apart_as_often_as_promised():
    found = type_one_of_figures(worlds.PREDICTION_WORLDS["P1"].draw, 300)
    assert all(LOW - 0.005 <= rate <= HIGH for rate in found.values()), found


@pytest.mark.slow
def test_images_instead_of_patients_tell_equally_good_classifiers_apart():
    """Teeth: the same samples with every image as its own patient."""
    world = worlds.PredictionWorld(
        "many images of few patients", (40, 80), within=0.8, most_images=8
    )

    def draw(rng):
        d = world.draw(rng)
        return d.assign(cluster=np.arange(len(d)))

    found = type_one_of_figures(draw, 100)
    assert found["auc"] > 2 * HIGH, found
