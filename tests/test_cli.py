"""The command line as a user meets it: one line on stdout, exit codes, clear errors."""

import json
import re
import shutil
import tomllib

import pytest
from typer.testing import CliRunner

import gradaudit as ga
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


# ── a plan is held against the run ──────────────────────────────────────────────────────────────────────────────────


def with_plan(folder, *changes, name="later.toml"):
    """The audit's plan with pieces of its text replaced, or added where nothing is replaced; returns the new plan's path."""
    text = (folder / "audit.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new) if old else f"{new}\n{text}"
    (folder / name).write_text(text)
    return folder / name


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory):
    """A small audit that was measured once: (folder, run folder)."""
    folder = tmp_path_factory.mktemp("measured")
    manifest = write_audit(folder, images=24)
    assert CliRunner().invoke(cli.app, ["measure", str(manifest), "--run", str(folder / "run")]).exit_code == 0
    return folder, folder / "run"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ([("", '[subgroups.ethnicity]')], ["attribute 'ethnicity'", "site"]),
        ([("", '[regions.hair]\nrole = "avoid"')], ["region 'hair'", "square, surround"]),
        ([("[analysis]", '[analysis]\nregions = ["square", "hairs"]')], ["region 'hairs'", "[analysis] regions"]),
        ([("", '[regions.edge]\nderive = "frame(0.1)"')], ["region 'edge'", "frame(0.1)"]),
        ([("complement(square)", "ring(square, 0.5)")], ["region 'surround'", "ring(square, 0.5)", "complement(square)"]),
        ([("", '[explain]\nmethod = "layercam"')], ["method 'layercam'", "gradcam"]),
        ([("", '[explain]\ntarget = "label"')], ["target 'label'", "predicted"]),
        ([("", "[explain]\nsign = -1")], ["target 'negated:predicted'"]),
        ([("", '[subgroups.site]\nreference = "North"')], ["reference 'North'", "did you mean 'north'", "north, south"]),
        ([("", '[subgroups.site]\norder = ["north", "south", "west"]\nreference = "west"')], ["reference 'west'"]),
        ([("", '[subgroups.site]\norder = ["north", "west"]')], ["'south'", "12 images"]),
        ([("[analysis]", '[analysis]\ncovariates = ["scanner"]')], ["covariate 'scanner'", "camera"]),
        ([("[analysis]", '[analysis]\npairs = "twin"')], ["pairs 'twin'", "camera"]),
        ([("[analysis]", '[analysis]\npositive_class = "hot"')], ["positive class 'hot'", "warm, cold"]),
    ],
    ids=lambda value: value[0] if isinstance(value[0], str) else "",
)  # fmt: skip
def test_a_plan_that_names_what_the_run_did_not_measure_is_refused(measured_run, run_command, tmp_path, changes, named):
    folder, run = measured_run
    plan = with_plan(folder, *changes)
    code, out, err = run_command("analyze", run, "--config", plan, "--output", tmp_path / "report.html")
    err = " ".join(err.split())
    assert (code, out) == (2, "")
    assert all(words in err for words in named), err
    assert "measure" in err  # what to do
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ga.GradauditError, match=re.escape(named[0])):
        ga.build_result(ga.read_run(run).measurements(), ga.read_plan(plan))


def test_everything_that_was_not_measured_is_named_at_once(measured_run, run_command, tmp_path):
    folder, run = measured_run
    added = ('[subgroups.ethnicity]\n[regions.hair]\nrole = "avoid"\n[explain]\nmethod = "layercam"', '[analysis]\nregions = ["ruler", "hair"]')
    plan = with_plan(folder, ("", added[0]), ("[analysis]", added[1]))
    code, _, err = run_command("analyze", run, "--config", plan)
    assert code == 2
    assert "4 things" in err
    for name in ("ethnicity", "hair", "ruler", "layercam"):
        assert err.count(f"'{name}'") == 1, name  # once each, wherever the plan says it


@pytest.mark.parametrize(
    "change",
    [("", '[subgroups.site]\norder = ["north", "south", "west"]'), ("complement(square)", "complement( square )"), ('derive = "complement(square)"', "")],
    ids=["a level without images", "a derivation with spaces", "no derivation"],
)
def test_what_was_measured_is_not_refused(measured_run, run_command, tmp_path, change):
    folder, run = measured_run
    plan = with_plan(folder, change)
    assert run_command("analyze", run, "--config", plan, "--output", tmp_path / "report.html")[0] == 3
    assert (tmp_path / "report.html").exists()


def test_a_plan_is_held_against_the_manifest_before_measuring(tmp_path):
    manifest = write_audit(tmp_path, images=6)
    plan = ga.read_plan(tmp_path / "audit.toml")
    from gradaudit.auditing import classifier_of

    table, classifier = ga.read_manifest(manifest), classifier_of(plan, tmp_path)  # read without the plan: nothing was held against it
    with pytest.raises(ga.GradauditError, match=r"region 'surround'.*complement\(square\)"):
        ga.audit(table, classifier, plan, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ga.GradauditError, match="attribute 'ethnicity'"):
        ga.measure(ga.read_manifest(manifest, plan), classifier, plan.updated(subgroups={"ethnicity": {}}))
    with pytest.raises(ga.GradauditError, match="region 'surround' is derived"):
        ga.measure(ga.read_manifest(manifest, plan), classifier)  # its derivation is in the plan, and this call has none


def test_a_recorded_plan_that_cannot_be_read_is_one_sentence(measured_run, run_command, tmp_path):
    shutil.copytree(measured_run[1], tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for damage in ({key: value for key, value in record.items() if key != "plan"}, record | {"plan": {"criterion": 1}}):
        (tmp_path / "run" / "run.json").write_text(json.dumps(damage))
        code, out, err = run_command("analyze", tmp_path / "run")
        assert (code, out) == (2, "")
        assert "plan" in err
        assert "--config" in err
        assert "Traceback" not in err
