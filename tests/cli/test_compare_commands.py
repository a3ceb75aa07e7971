"""`gradaudit compare` as a user meets it: one line, a page, exit codes, clear refusals."""

import json
import subprocess
import sys

import pytest

from tests.series.two_audits import Patients, a_plan
from tests.small_audits import store_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    patients = Patients(sizes=(40, 30, 30))
    shifts = {"before": {("ruler", "tone", "V"): 0.2}, "after": {}}
    return {
        name: store_run(patients.audit(shifts=s, seed=k), a_plan(), folder / name)
        for k, (name, s) in enumerate(shifts.items())
    }


def test_a_page_is_written_and_one_line_says_what_changed(runs, run_command, tmp_path):
    page = tmp_path / "compare.html"
    code, out, err = run_command("compare", runs["before"], runs["after"], "--out", page)
    assert (code, err) == (0, "")
    assert out.startswith("The disparity is smaller in")
    assert str(page) in out
    assert "Smaller disparity" in page.read_text("utf-8")


def test_worse_fails_where_it_is_asked_to(runs, run_command, tmp_path):
    asked = ("--out", tmp_path / "c.md", "--fail-on", "worse")
    assert run_command("compare", runs["before"], runs["after"], *asked)[0] == 0
    code, out, _ = run_command("compare", runs["after"], runs["before"], *asked)
    assert code == 1
    assert "larger in" in out
    assert run_command("compare", runs["after"], runs["before"], *asked[:2])[0] == 0


def test_json_counts_the_words_and_the_default_place_is_in_the_later_run(runs, run_command):
    code, out, _ = run_command("compare", runs["before"], runs["after"], "--json")
    found = json.loads(out)
    assert code == 0
    assert found["words"]["better"] >= 1
    assert found["comparison"] == str(runs["after"] / "compare.html")
    assert (runs["after"] / "compare.html").is_file()


def test_what_cannot_be_compared_is_refused_in_one_line(runs, run_command, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    cases = (
        ((runs["before"], tmp_path / "result.json", "--out", tmp_path / "c.html"), "holds no value of any patient"),
        ((runs["before"], tmp_path, "--out", tmp_path / "c.html"), "is not a run folder"),
        ((runs["before"], runs["after"], "--out", tmp_path / "c.pdf"), "expected one of"),
        ((runs["before"], runs["after"], "--out", runs["before"] / "run.json"), "is the run's own"),
    )  # fmt: skip
    for arguments, words in cases:
        code, out, err = run_command("compare", *arguments)
        assert (code, out) == (2, ""), err
        assert words in err


def test_it_loads_no_torch(runs, tmp_path):
    code = (
        "import sys; from gradaudit.workflows.comparisons import compare\n"
        f"compare({str(runs['before'])!r}, {str(runs['after'])!r}).write({str(tmp_path / 'c.html')!r})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_in_the_runs_is_changed(runs, run_command, tmp_path):
    before = {
        p: p.read_bytes()
        for run in runs.values()
        for p in run.rglob("*")
        if p.is_file() and p.name != "compare.html"
    }
    run_command("compare", runs["before"], runs["after"], "--out", tmp_path / "c.html")
    assert {p: p.read_bytes() for p in before} == before
