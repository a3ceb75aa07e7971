"""`gradaudit power` as a user meets it: two tables of 80 columns, JSON, clear refusals, nothing of a withheld group."""

import json

import numpy as np
import pytest

from tests.series.open_runs import a_plan, a_run
from tests.small_audits import store_run

PLANNED = ("power", "--sd", "0.15", "--margin", "0.05", "--cells", "6", "--groups", "100,300")
QUICK = ("--factors", "1,8", "--replicates", "20")


@pytest.fixture(scope="module")
def open_run(tmp_path_factory):
    meas = a_run({"dark": 30, "light": 120}, {"dark": 0.02})
    return store_run(meas, a_plan(), tmp_path_factory.mktemp("runs") / "open")


def test_the_table_of_a_run_fits_80_columns_and_shows_three_truths(open_run, run_command):
    code, out, err = run_command("power", open_run, *QUICK)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    flat = " ".join(out.split())
    for words in ("tone: dark against light, ruler", "as seen none far end", "Read the three together"):  # fmt: skip
        assert words in flat
    rows = [line.split() for line in out.splitlines() if line.startswith(" " * 20)]
    assert [row[:2] for row in rows] == [["1", "30"], ["8", "240"]], out
    assert all(len(row) >= 5 for row in rows)


def test_json_has_every_row(open_run, run_command):
    code, out, _ = run_command("power", open_run, *QUICK, "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["truth"] for row in found["rows"]] == ["as seen", "none", "far end"] * 2
    assert len(found["sentences"]) == 1


def test_before_there_are_data(run_command):
    code, out, err = run_command(*PLANNED)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "all 6 comparisons lie within 5 points with a\nchance of 24 %" in out
    assert json.loads(run_command(*PLANNED, "--json")[1])["rows"][0]["n_group"] == 100


def test_planning_for_25_says_that_it_promises_too_much(run_command):
    out = run_command(*PLANNED[:-1], "25,375")[1]
    assert "far too high where heat is skewed" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "got neither"),
        (("RUN", "--sd", "0.1"), "got both"),
        (("RUN", "--factors", "0"), "each at least 1"),
        (("RUN", "--factors", "-2,1"), "each at least 1"),
        (("RUN", "--factors", "one"), "numbers with commas between; got 'one'"),
        (("RUN", "--replicates", "1"), "At least 10 replicates"),
        (("RUN", "--cells", "6"), "--cells cannot be given with"),
        (("--sd", "0.1"), "--sd needs --margin, --cells and --groups"),
        ((*PLANNED[1:], "--replicates", "50"), "--replicates cannot be given with --sd"),
        ((*PLANNED[1:-1], "100"), "two or more groups"),
        (("--sd", "-1", *PLANNED[3:]), "sd is a positive number"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(arguments, words, open_run, run_command):
    given = [open_run if argument == "RUN" else argument for argument in arguments]
    code, out, err = run_command("power", *given)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())


def test_a_run_without_criteria_is_refused_and_a_margin_helps(tmp_path, run_command):
    plan = a_plan().model_copy(update={"criteria": None})
    run = store_run(a_run({"dark": 30, "light": 120}), plan, tmp_path / "run")
    code, _, err = run_command("power", run)
    assert code == 2
    assert "No criteria are declared" in err
    assert run_command("power", run, "--margin", "0.03", *QUICK)[0] == 0


def test_a_run_that_is_settled_everywhere_says_so(tmp_path, run_command):
    run = store_run(a_run({"dark": 60, "light": 120}, spread=0.02), a_plan(), tmp_path / "run")
    code, out, _ = run_command("power", run)
    assert code == 0
    assert out.startswith("every planned cell is settled")


def test_a_withheld_group_is_named_and_not_counted(tmp_path, run_command):
    meas = a_run({"dark": 7, "light": 120, "mid": 40}, {"mid": 0.02}, seed=3)
    out = run_command("power", store_run(meas, a_plan(), tmp_path / "run"), *QUICK)[1]
    assert "too small to be shown" in out
    assert " 7 " not in out.replace("\n", " ")
    assert "withheld" in out


def test_a_curve_has_its_lines_and_says_how_it_is_scaled(tmp_path, run_command):
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 80)
    values = 0.3 + 0.06 * ((age - 50) / 27) ** 2 + 0.13 * rng.standard_normal(80)
    meas = a_run({"a": 80}, values=values)
    meas.images["subgroup.tone"] = [f"{a:.2f}" for a in age]
    run = store_run(meas, a_plan(0.13), tmp_path / "run")
    code, out, err = run_command("power", run, *QUICK)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines() if line.startswith(" " * 20)]
    assert [row[:2] for row in rows] == [["1", "80"], ["8", "640"]], out
    assert "tone: curve, ruler" in out
    assert "A curve keeps the shape that the run saw" in " ".join(out.split())


def test_the_help_shows_an_example_of_both(run_command):
    out = run_command("power", "--help")[1]
    assert "gradaudit power runs/skin" in out
    assert "gradaudit power --sd 0.15" in out


def test_it_loads_no_torch(open_run):
    import subprocess
    import sys

    code = f"import sys; sys.argv = ['gradaudit', 'power', {str(open_run)!r}, '--factors', '1', '--replicates', '10']\ntry:\n    from gradaudit.cli import main; main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
