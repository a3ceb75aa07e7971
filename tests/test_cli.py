"""The command line as a user meets it: one line on stdout, exit codes, clear errors."""

import json
import re
import tomllib

import pytest
from typer.testing import CliRunner

from gradaudit import cli
from gradaudit.config import build_plan
from tests.small_audits import write_audit


def test_report_end_to_end(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=96)
    code, out, err = run_command("report", manifest, "--run", tmp_path / "run")
    assert code in (0, 1, 3), err
    assert len(out.splitlines()) == 1
    assert "report.html" in out
    html = (tmp_path / "run" / "report.html").read_text()
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    assert document["verdict"]["headline"][1:] in html  # the page begins it with a capital
    assert document["data"]["n_images"] == 96
    assert document["data"]["n_clusters"] == 48
    assert "network.py" in err  # user code was run, and that is said


def test_measure_then_analyze_gives_the_same_result_as_report(tmp_path, run_command, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    manifest = write_audit(tmp_path, images=48)
    assert run_command("measure", manifest, "--run", tmp_path / "a")[0] == 0
    run_command("analyze", tmp_path / "a")
    run_command("report", manifest, "--run", tmp_path / "b")
    first, second = (json.loads((tmp_path / name / "result.json").read_text()) for name in "ab")
    for volatile in ("run",):
        first.pop(volatile), second.pop(volatile)
    assert first == second


def test_insufficient_evidence_is_3_and_can_be_allowed(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=12)
    assert run_command("report", manifest, "--run", tmp_path / "run")[0] == 3
    assert run_command("report", manifest, "--run", tmp_path / "run", "--allow-insufficient")[0] == 0
    code, out, _ = run_command("analyze", tmp_path / "run", "--json")
    assert (code, json.loads(out)["verdict"]) == (3, "insufficient")


def test_without_criteria_no_verdict_is_claimed(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=24)
    plan = tmp_path / "audit.toml"
    plan.write_text(plan.read_text().replace('[criteria]\nmargin = 0.2\ndeclared_by = "the test"\n', ""))
    code, out, _ = run_command("report", manifest, "--run", tmp_path / "run")
    assert code == 0
    assert out.startswith("no criteria declared")


def test_validate_lists_every_problem_and_exits_2(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=6)
    lines = manifest.read_text().splitlines()
    lines[2] = lines[2].replace("images/001.png", "images/missing.png")
    lines[4] = lines[4].replace("box:", "box:oops,")
    manifest.write_text("\n".join(lines) + "\n")
    code, out, err = run_command("validate", manifest)
    assert code == 2
    assert out == ""
    assert "images/missing.png" in err
    assert "3" in err
    assert "oops" in err
    assert "5" in err
    assert "Traceback" not in err
    assert run_command("report", manifest, "--run", tmp_path / "run")[0] == 2
    assert not (tmp_path / "run").exists()


def test_validate_passes_a_good_manifest(tmp_path, run_command):
    code, out, _ = run_command("validate", write_audit(tmp_path, images=6))
    assert code == 0
    assert "6 images in 3 clusters, 1 attribute, 2 regions" in out


def test_flags_override_the_plan_and_are_printed(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=2)
    code, out, _ = run_command("report", manifest, "--target", "label", "--margin", "0.07", "--print-config")
    plan = build_plan(tomllib.loads(out))
    assert code == 0
    assert (plan.explain.target, plan.criteria.margin, plan.criteria.declared_by) == ("label", 0.07, "the test")


def test_a_margin_without_criteria_in_the_plan_declares_them(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=2)
    (tmp_path / "audit.toml").unlink()
    _, out, _ = run_command("report", manifest, "--margin", "0.07", "--print-config")
    assert build_plan(tomllib.loads(out)).criteria.margin == 0.07


def test_no_model_is_said_with_what_to_do(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=2)
    (tmp_path / "audit.toml").unlink()
    code, _, err = run_command("report", manifest)
    assert code == 2
    assert "No model is named" in err
    assert "--model" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere.csv", "--model", "factory:x.py:f"], "nowhere.csv"),
        (["analyze", "nowhere"], "not a run folder"),
        (["report", "nowhere.csv", "--config", "nowhere.toml"], "nowhere.toml"),
        (["init", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_is_missing_is_named(arguments, message, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_command(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_init_writes_a_plan_and_spares_an_existing_one(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=6)
    code, _, err = run_command("init", manifest)
    assert code == 2
    assert "--force" in err
    assert run_command("init", manifest, "--output", tmp_path / "new.toml")[0] == 0
    build_plan(tomllib.loads((tmp_path / "new.toml").read_text()))


def test_help_names_every_command():
    text = CliRunner().invoke(cli.app, ["--help"]).output
    for command in ("report", "measure", "analyze", "validate", "init", "demo", "explain", "layers"):
        assert re.search(rf"\b{command}\b", text)


def test_the_default_run_folder_is_named_after_the_data(tmp_path):
    assert str(cli._default_run(tmp_path / "isic" / "manifest.csv", None)) == "runs/isic"
    assert str(cli._default_run(tmp_path / "digits" / "build" / "manifest.csv", tmp_path / "digits" / "audit.toml")) == "runs/digits"
    assert str(cli._default_run(tmp_path / "ham.csv", tmp_path / "strict.toml")) == "runs/ham-strict"


@pytest.mark.parametrize(("command", "said"), [("report", "goes on from there"), ("validate", "nothing else is kept")])
def test_ctrl_c_says_what_is_kept(tmp_path, run_command, monkeypatch, command, said):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_checked_manifest", interrupted)
    monkeypatch.setattr(cli, "_plan_with_flags", interrupted)
    code, _, err = run_command(command, write_audit(tmp_path, images=3))
    assert code == 130
    assert said in " ".join(err.split())


def test_images_without_heat_are_counted_on_stderr(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=8)
    path = tmp_path / "images" / "005.png"
    path.write_bytes(path.read_bytes()[:200])
    code, _, err = run_command("measure", manifest, "--run", tmp_path / "run")
    assert code == 0
    assert "1 of 8 images could not be used (truncated 1)" in " ".join(err.split())
    network = (tmp_path / "network.py").read_text()
    (tmp_path / "network.py").write_text(network.replace("head.bias.zero_()", "head.bias.fill_(float('nan'))"))
    code, _, err = run_command("measure", manifest, "--run", tmp_path / "again")
    assert code == 0
    assert "7 of 8 images have no heat to share out (non_finite 7)" in " ".join(err.split())
