"""What ``ga.power`` says and what happens, with the pilot as the truth: curves and pairs; and how wrong an empty version is.

The figures of many pilots are kept in reports/power.json (``python benchmarks/power.py``).
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import pytest

from gradaudit.series import repeated_audits

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("power_benchmark", ROOT / "benchmarks" / "power.py")
bench = importlib.util.module_from_spec(_spec)
sys.modules["power_benchmark"] = bench
_spec.loader.exec_module(bench)

FACTORS, REPLICATES, DRAWS = (1, 4), 60, 40
LOOSE = {"error": 10.0, "size": 10.0}
"""Points, for one pilot: a chance of one half is known to 10 points from so few draws, and most chances are plainer."""
EMPTY = 25.0
"""Mean absolute error, in points, that a version without a part of the question has at least."""


@cache
def rows_of(name):
    return list(bench.compared(bench.WORLDS[name], 0, REPLICATES, DRAWS, FACTORS))


def sizes_of_errors(rows):
    found = bench.figures(rows)
    return found.loc[(found["factor"] == "all") & (found["word"] == "within"), "mean_size"].item()


def said_again(name):
    """The rows with what ``ga.power`` says now."""
    now = bench.foretold(bench.WORLDS[name], 0, REPLICATES, FACTORS)
    out = []
    for row, other in zip(rows_of(name), now, strict=True):
        said = {"within_said": other["probability_within"], "beyond_said": other["probability_beyond"]}  # fmt: skip
        out.append(row | said)
    return out


@pytest.mark.parametrize("name", ["curve", "pairs"])
@pytest.mark.slow
def test_what_is_said_happens(name):
    rows = rows_of(name)
    assert {row["truth"] for row in rows} == {"as seen", "none", "far end"}
    assert len(rows) == len(FACTORS) * 3 * len({row["cell"] for row in rows})
    assert bench.within_bounds(rows, **LOOSE), bench.figures(rows).round(1).to_string()


@pytest.mark.parametrize("name", ["curve", "pairs"])
@pytest.mark.slow
def test_a_version_that_takes_every_truth_for_none_turns_it_red(name, monkeypatch):
    rows_of(name)  # before anything is broken
    monkeypatch.setattr(repeated_audits, "difference_of", lambda cell, truth: 0.0)
    rows = said_again(name)
    assert not bench.within_bounds(rows, **LOOSE)
    assert sizes_of_errors(rows) > EMPTY


@pytest.mark.parametrize("name", ["curve", "pairs"])
@pytest.mark.slow
def test_a_version_that_leaves_estimates_as_they_are_turns_it_red(name, monkeypatch):
    rows_of(name)  # before anything is broken
    monkeypatch.setattr(repeated_audits, "_with_difference", lambda found, cell, truth: iter(found))
    rows = said_again(name)
    assert not bench.within_bounds(rows, **LOOSE)
    assert sizes_of_errors(rows) > EMPTY


@pytest.mark.slow
def test_a_version_that_keeps_the_size_turns_it_red(monkeypatch):
    rows_of("curve")  # before anything is broken
    monkeypatch.setattr(repeated_audits.Pool, "grown", lambda pool, factor, smallest: pool.counts)
    assert not bench.within_bounds(said_again("curve"), **LOOSE)


@pytest.mark.parametrize("name", list(bench.WORLDS))
def test_the_kept_figures_keep_the_bounds(name):
    kept = bench.stored()[name]
    rows = kept["rows"]
    assert kept["replicates"] >= 300
    assert kept["draws"] >= 200
    assert {row["factor"] for row in rows} == set(bench.FACTORS)
    assert len({row["pilot"] for row in rows}) >= 3
    assert bench.within_bounds(rows), bench.figures(rows).round(1).to_string()
