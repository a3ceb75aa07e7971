"""The command line as a user meets it: one line on stdout, exit codes, clear errors."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html import unescape
from pathlib import Path
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

import gradaudit as ga
from gradaudit.cli import app, plans
from gradaudit.plan import build_plan
from tests.small_audits import write_audit


def test_report_end_to_end(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=96)
    code, out, err = run_command("report", manifest, "--run", tmp_path / "run")
    assert code in (0, 1, 3), err
    assert len(out.splitlines()) == 1
    assert "report.html" in out
    html = (tmp_path / "run" / "report.html").read_text()
    document = json.loads((tmp_path / "run" / "result.json").read_text())
    fact = document["verdict"]["fact"] or document["verdict"]["headline"]
    assert fact[1:].rstrip(".") in unescape(html)  # the page begins it with a capital
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
    assert (
        run_command("report", manifest, "--run", tmp_path / "run", "--allow-insufficient")[0] == 0
    )
    code, out, _ = run_command("analyze", tmp_path / "run", "--json")
    assert (code, json.loads(out)["verdict"]) == (3, "insufficient")


def test_without_criteria_no_verdict_is_claimed(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=24)
    plan = tmp_path / "audit.toml"
    plan.write_text(
        plan.read_text().replace('[criteria]\nmargin = 0.2\ndeclared_by = "the test"\n', "")
    )
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
    code, out, _ = run_command(
        "report", manifest, "--target", "label", "--margin", "0.07", "--print-config"
    )
    plan = build_plan(tomllib.loads(out))
    assert code == 0
    assert (plan.explain.target, plan.criteria.margin, plan.criteria.declared_by) == (
        "label",
        0.07,
        "the test",
    )


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
    text = CliRunner().invoke(app.app, ["--help"]).output
    for command in (
        "report",
        "measure",
        "analyze",
        "validate",
        "init",
        "demo",
        "explain",
        "layers",
    ):
        assert re.search(rf"\b{command}\b", text)


def test_the_default_run_folder_is_named_after_the_data(tmp_path):
    assert str(plans.default_run(tmp_path / "isic" / "manifest.csv", None)) == "runs/isic"
    assert (
        str(
            plans.default_run(
                tmp_path / "digits" / "build" / "manifest.csv", tmp_path / "digits" / "audit.toml"
            )
        )
        == "runs/digits"
    )
    assert (
        str(plans.default_run(tmp_path / "ham.csv", tmp_path / "strict.toml")) == "runs/ham-strict"
    )


@pytest.mark.parametrize(
    ("command", "said"), [("report", "goes on from there"), ("validate", "nothing else is kept")]
)
def test_ctrl_c_says_what_is_kept(tmp_path, run_command, monkeypatch, command, said):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for module, name in (
        ("audit", "checked_manifest"),
        ("audit", "plan_with_flags"),
        ("data", "checked_manifest"),
    ):
        monkeypatch.setattr(f"gradaudit.cli.{module}_commands.{name}", interrupted)
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
    (tmp_path / "network.py").write_text(
        network.replace("head.bias.zero_()", "head.bias.fill_(float('nan'))")
    )
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
    assert (
        CliRunner()
        .invoke(app.app, ["measure", str(manifest), "--run", str(folder / "run")])
        .exit_code
        == 0
    )
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
def test_a_plan_that_names_what_the_run_did_not_measure_is_refused(
    measured_run, run_command, tmp_path, changes, named
):
    folder, run = measured_run
    plan = with_plan(folder, *changes)
    code, out, err = run_command(
        "analyze", run, "--config", plan, "--output", tmp_path / "report.html"
    )
    err = " ".join(err.split())
    assert (code, out) == (2, "")
    assert all(words in err for words in named), err
    assert "measure" in err  # what to do
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ga.GradauditError, match=re.escape(named[0])):
        ga.build_result(ga.read_run(run).measurements(), ga.read_plan(plan))


def test_everything_that_was_not_measured_is_named_at_once(measured_run, run_command, tmp_path):
    folder, run = measured_run
    added = (
        '[subgroups.ethnicity]\n[regions.hair]\nrole = "avoid"\n[explain]\nmethod = "layercam"',
        '[analysis]\nregions = ["ruler", "hair"]',
    )
    plan = with_plan(folder, ("", added[0]), ("[analysis]", added[1]))
    code, _, err = run_command("analyze", run, "--config", plan)
    assert code == 2
    assert "4 things" in err
    for name in ("ethnicity", "hair", "ruler", "layercam"):
        assert err.count(f"'{name}'") == 1, name  # once each, wherever the plan says it


@pytest.mark.parametrize(
    "change",
    [
        ("", '[subgroups.site]\norder = ["north", "south", "west"]'),
        ("complement(square)", "complement( square )"),
        ('derive = "complement(square)"', ""),
    ],
    ids=["a level without images", "a derivation with spaces", "no derivation"],
)
def test_what_was_measured_is_not_refused(measured_run, run_command, tmp_path, change):
    folder, run = measured_run
    plan = with_plan(folder, change)
    assert (
        run_command("analyze", run, "--config", plan, "--output", tmp_path / "report.html")[0] == 3
    )
    assert (tmp_path / "report.html").exists()


def test_a_plan_is_held_against_the_manifest_before_measuring(tmp_path):
    manifest = write_audit(tmp_path, images=6)
    plan = ga.read_plan(tmp_path / "audit.toml")
    from gradaudit.workflows.audit import classifier_of

    table, classifier = (
        ga.read_manifest(manifest),
        classifier_of(plan, tmp_path),
    )  # read without the plan: nothing was held against it
    with pytest.raises(ga.GradauditError, match=r"region 'surround'.*complement\(square\)"):
        ga.audit(table, classifier, plan, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ga.GradauditError, match="attribute 'ethnicity'"):
        ga.measure(
            ga.read_manifest(manifest, plan), classifier, plan.updated(subgroups={"ethnicity": {}})
        )
    with pytest.raises(ga.GradauditError, match="region 'surround' is derived"):
        ga.measure(
            ga.read_manifest(manifest, plan), classifier
        )  # its derivation is in the plan, and this call has none


def test_a_recorded_plan_that_cannot_be_read_is_one_sentence(measured_run, run_command, tmp_path):
    shutil.copytree(measured_run[1], tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    for damage in (
        {key: value for key, value in record.items() if key != "plan"},
        record | {"plan": {"criterion": 1}},
    ):
        (tmp_path / "run" / "run.json").write_text(json.dumps(damage))
        code, out, err = run_command("analyze", tmp_path / "run")
        assert (code, out) == (2, "")
        assert "plan" in err
        assert "--config" in err
        assert "Traceback" not in err


# ── addresses are no folders ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "{manifest}", "--run", "s3://bucket/run"],
        ["report", "{manifest}", "--run", "run", "--output", "s3://bucket/report.html"],
        ["measure", "{manifest}", "--run", "gs://bucket/run"],
        ["analyze", "s3://bucket/run"],
        ["analyze", "{run}", "--output", "https://host/report.html"],
        ["init", "{manifest}", "--output", "s3://bucket/audit.toml"],
        ["demo", "s3://bucket/demo"],
        ["explain", "{image}", "--model", "factory:{network}:build", "--output", "s3://bucket/x"],
    ],
    ids=lambda arguments: " ".join(arguments[:1] + arguments[-2:]),
)  # fmt: skip
def test_what_is_written_needs_a_local_path_and_that_is_said_before_any_work(
    measured_run, run_command, tmp_path, monkeypatch, arguments
):
    folder, run = measured_run
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "gradaudit.cli.audit_commands.loaded_model",
        lambda *_: pytest.fail("the model was loaded first"),
    )
    places = {
        "manifest": folder / "manifest.csv",
        "run": run,
        "image": folder / "images" / "000.png",
        "network": folder / "network.py",
    }
    code, out, err = run_command(*(text.format(**places) for text in arguments))
    err = " ".join(err.split())
    assert (code, out) == (2, "")
    assert next(text for text in arguments if "://" in text) in err
    assert "local" in err
    assert list(tmp_path.iterdir()) == []


def test_addresses_are_refused_in_code_too(tmp_path, monkeypatch):
    from gradaudit.workflows.audit import classifier_of

    manifest = write_audit(tmp_path / "audit", images=3)
    plan = ga.read_plan(tmp_path / "audit" / "audit.toml")
    table, classifier = ga.read_manifest(manifest, plan), classifier_of(plan, tmp_path / "audit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "gradaudit.measurement.prepare.resolve_layer",
        lambda *_: pytest.fail("the network ran first"),
    )
    for attempt in (ga.measure, ga.audit):
        with pytest.raises(ga.GradauditError, match="s3://bucket/run"):
            attempt(table, classifier, plan, run="s3://bucket/run")
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


# ── exit codes ──────────────────────────────────────────────────────────────────────────────────────────────────────

FORWARD = "        self.seen += len(images)\n"
BUILD = "def build():\n"
USER_CODE = {
    "the factory raises": (BUILD, BUILD + "    raise KeyError('weights')\n", "KeyError: 'weights'"),
    "the factory exits 0": (BUILD, BUILD + "    import sys; sys.exit(0)\n", "calls sys.exit(0)"),
    "the factory exits by typer": (BUILD, BUILD + "    import typer; raise typer.Exit(0)\n", "Exit"),
    "the factory asks on a closed stdin": (BUILD, BUILD + "    input()\n", "Error"),
    "the factory raises what is no Exception": (BUILD, BUILD + "    raise type('Stop', (BaseException,), {})('enough')\n", "Stop: enough"),
    "the file exits when it is read": ("import os\n", "import os\nraise SystemExit\n", "calls sys.exit()"),
    "forward raises": (FORWARD, FORWARD + "        {}['missing']\n", "KeyError: 'missing'"),
    "forward exits 0": (FORWARD, FORWARD + "        raise SystemExit(0)\n", "calls sys.exit(0)"),
    "forward exits 0 after some images": (FORWARD, FORWARD + "        if self.seen > 30: raise SystemExit(0)\n", "calls sys.exit(0)"),
    "backward raises": (
        FORWARD,
        FORWARD + "        class Once(torch.autograd.Function):\n            @staticmethod\n            def forward(ctx, x): return x * 1\n"
        "            @staticmethod\n            def backward(ctx, g): raise ValueError('no way back')\n"
        "        return self.head(Once.apply(torch.relu(self.features(images))).mean((2, 3)))\n",
        "ValueError: no way back",
    ),
    "preprocess exits 0": (
        "    return module\n",
        "    from gradaudit.images.preprocessing import Preprocess\n\n    class Mine(Preprocess):\n        def geometry(self, size):\n            raise SystemExit(0)\n"
        "    return module, Mine(resize=(32, 32), fit='exact')\n",
        "calls sys.exit(0)",
    ),
    "the network cannot be read": (
        "    def forward(self, images):\n", "    def state_dict(self, *a, **k):\n        raise OSError(28, 'disk')\n\n    def forward(self, images):\n", "disk",
    ),
    "the network exits by typer when it is read": (
        "    def forward(self, images):\n", "    def state_dict(self, *a, **k):\n        import typer; raise typer.Exit(0)\n\n    def forward(self, images):\n",
        "ended the command",
    ),
}  # fmt: skip
BY_TYPER = "the network exits by typer when it is read"
"""typer takes its own exit for the end of the command, so where it came from is not known any more."""


def attacked(folder, old, new):
    """The small audit, its network.py changed; and the number of the first line that is new."""
    manifest = write_audit(folder, images=24)
    text = (folder / "network.py").read_text()
    assert text.count(old) == 1
    (folder / "network.py").write_text(text.replace(old, new))
    if "class Mine" in new:  # the plan's own preprocess would replace the factory's
        plan = (folder / "audit.toml").read_text()
        (folder / "audit.toml").write_text(re.sub(r"(?s)\[preprocess\].*?\n\n", "", plan))
    return manifest


@pytest.mark.parametrize("attack", USER_CODE)
def test_what_user_code_raises_is_2_and_says_where(tmp_path, run_command, attack):
    old, new, words = USER_CODE[attack]
    manifest = attacked(tmp_path, old, new)
    code, out, err = run_command("report", manifest, "--run", tmp_path / "run")
    assert (code, out) == (2, ""), err
    assert words in err
    assert attack == BY_TYPER or re.search(r"network\.py, line \d+", err)
    assert "Traceback" not in err
    assert not (tmp_path / "run" / "report.html").exists()
    code, out, err = run_command(
        "report", manifest, "--run", tmp_path / "run", "--fresh", "--debug"
    )
    assert (code, out) == (2, "")
    assert attack == BY_TYPER or ("Traceback" in err and "network.py" in err)


@pytest.mark.parametrize("workers", [0, 2])
def test_user_code_in_other_processes_is_2_too(tmp_path, run_command, workers):
    manifest = attacked(tmp_path, *USER_CODE["preprocess exits 0"][:2])
    text = (
        (tmp_path / "network.py")
        .read_text()
        .replace(
            "raise SystemExit(0)",
            "if os.environ.get('TEST_BREAK'): raise ValueError('bad day')\n            return super().geometry(size)",
        )
    )
    (tmp_path / "network.py").write_text(text)
    (tmp_path / "audit.toml").write_text(
        (tmp_path / "audit.toml").read_text().replace("workers = 0", f"workers = {workers}")
    )
    code, _, err = run_command("measure", manifest, "--run", tmp_path / "whole")
    assert code == 0, err
    started = subprocess.run(
        [sys.executable, "-m", "gradaudit", "measure", str(manifest), "--run", str(tmp_path / "run")],
        env={**os.environ, "TEST_BREAK": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (started.returncode, started.stdout) == (2, "")
    assert "ValueError: bad day" in started.stderr
    assert re.search(r"network\.py, line \d+", started.stderr)
    assert "Traceback" not in started.stderr


def test_a_fault_of_ours_is_70_in_one_line_with_its_place(
    measured_run, run_command, tmp_path, monkeypatch
):
    monkeypatch.setattr("gradaudit.result.tables_of", None)
    arguments = ("analyze", measured_run[1], "--output", tmp_path / "report.html")
    code, out, err = run_command(*arguments)
    assert (code, out) == (70, "")
    assert len(err.strip().splitlines()) == 1
    assert re.search(r"internal error: TypeError: .*result\.py, line \d+.*--debug", err)
    for place in ((*arguments, "--debug"), ("--debug", *arguments)):
        code, out, err = run_command(*place)
        assert (code, out) == (70, "")
        assert "Traceback" in err
        assert "internal error: TypeError" in err.splitlines()[-1]


def test_a_report_that_cannot_be_drawn_is_no_verdict(
    measured_run, run_command, tmp_path, monkeypatch
):
    shutil.copytree(
        measured_run[1],
        tmp_path / "run",
        ignore=shutil.ignore_patterns("report.html", "result.json"),
    )
    monkeypatch.setattr("gradaudit.report.render._sections", None)
    assert run_command("analyze", tmp_path / "run")[:2] == (70, "")
    assert not {"report.html", "result.json"} & set(
        os.listdir(tmp_path / "run")
    )  # neither report.html nor result.json: they would not belong together


@pytest.mark.parametrize("name", ["report.html", "result.json"])
def test_a_full_disk_is_no_verdict(measured_run, run_command, tmp_path, monkeypatch, name):
    shutil.copytree(measured_run[1], tmp_path / "run")
    replace = os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    code, out, err = run_command("analyze", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "No space left on device" in err
    assert name in err
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_an_error_of_the_system_elsewhere_is_2(measured_run, run_command, monkeypatch):
    gone = Mock(
        side_effect=PermissionError(errno.EACCES, "Permission denied", "/somewhere/part.parquet")
    )
    monkeypatch.setattr("gradaudit.runs.folder.RunFolder.measurements", gone)
    code, out, err = run_command("analyze", measured_run[1])
    assert (code, out) == (2, "")
    assert "/somewhere/part.parquet: Permission denied" in err
    monkeypatch.setattr(
        "gradaudit.runs.folder.RunFolder.measurements", Mock(side_effect=MemoryError)
    )
    code, out, err = run_command("analyze", measured_run[1])
    assert (code, out) == (2, "")
    assert "memory" in err


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("{tmp}/report.pdf", ".html"),
        ("{tmp}", "expected one of"),
        ("{tmp}/a.html", "folder"),
        ("{tmp}/file/report.html", "file is no folder"),
        ("{run}/run.json", "record"),
    ],
)
def test_where_no_report_could_be_written_nothing_is_measured(
    tmp_path, run_command, monkeypatch, measured_run, output, said
):
    folder, run = measured_run
    monkeypatch.setattr(
        "gradaudit.cli.audit_commands.loaded_model",
        lambda *_: pytest.fail("the model was loaded first"),
    )
    monkeypatch.setattr(
        "gradaudit.result.build_result", lambda *_: pytest.fail("the run was analysed first")
    )
    (tmp_path / "file").write_text("")
    (tmp_path / "a.html").mkdir()
    place = output.format(tmp=tmp_path, run=run)
    for command in (("report", folder / "manifest.csv", "--run", run), ("analyze", run)):
        code, out, err = run_command(*command, "--output", place)
        assert (code, out) == (2, "")
        assert said in " ".join(err.split())


def test_a_run_that_is_a_file_is_said_before_the_model_is_loaded(
    tmp_path, run_command, monkeypatch
):
    manifest = write_audit(tmp_path, images=3)
    monkeypatch.setattr(
        "gradaudit.cli.audit_commands.loaded_model",
        lambda *_: pytest.fail("the model was loaded first"),
    )
    for command in ("report", "measure"):
        code, out, err = run_command(command, manifest, "--run", manifest)
        assert (code, out) == (2, "")
        assert "is a file" in err


def test_a_folder_that_does_not_exist_is_made(measured_run, run_command, tmp_path):
    code, out, _ = run_command(
        "analyze", measured_run[1], "--output", tmp_path / "a" / "b" / "report.md"
    )
    assert code == 3
    assert "report.md" in out
    assert (tmp_path / "a" / "b" / "report.md").read_text().startswith("#")


@pytest.mark.parametrize(
    "arguments",
    [["analyse"], ["report"], ["report", "x.csv", "--margin", "many"], ["--no-such"], []],
    ids=" ".join,
)
def test_a_wrong_command_is_2(run_command, arguments):
    code, out, err = run_command(*arguments)
    assert code == 2
    assert "Usage" in out + err
    assert "Traceback" not in err


def test_debug_is_documented_and_no_part_of_what_the_command_means(
    run_command, measured_run, tmp_path
):
    assert "--debug" in CliRunner().invoke(app.app, ["--help"]).output
    assert (
        run_command("analyze", measured_run[1], "--debug", "--output", tmp_path / "report.html")[0]
        == 3
    )
    assert run_command("init", "--", "--debug")[0] == 2  # a file of that name
    assert "Traceback" not in run_command("init", "--", "--debug")[2]


def analysed(run, output, **streams):
    command = [sys.executable, "-m", "gradaudit", "analyze", str(run), "--output", str(output)]
    return subprocess.run(command, check=False, text=True, **streams)


def closed_pipe():
    """The writing end of a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_takes_no_verdict_away(measured_run, tmp_path, stream):
    pipe = closed_pipe()
    done = analysed(
        measured_run[1],
        tmp_path / "report.html",
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: pipe},
    )
    os.close(pipe)
    assert done.returncode == 3, done
    assert (tmp_path / "report.html").exists()
    assert not done.stderr
    assert stream == "stdout" or "report.html" in done.stdout


def test_measuring_goes_on_where_nobody_reads_its_progress(measured_run, tmp_path):
    pipe, folder = closed_pipe(), measured_run[0]
    command = [
        sys.executable,
        "-m",
        "gradaudit",
        "measure",
        str(folder / "manifest.csv"),
        "--run",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=pipe)
    os.close(pipe)
    assert done.returncode == 0
    assert "24 images measured" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_summary_that_cannot_be_written_is_no_success(measured_run, tmp_path):
    with open("/dev/full", "w") as full:
        done = analysed(
            measured_run[1], tmp_path / "report.html", stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert "stdout" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_network_prints_is_not_the_summary(tmp_path, run_command):
    manifest = write_audit(tmp_path, images=6)
    network = tmp_path / "network.py"
    network.write_text(
        network.read_text()
        .replace(BUILD, BUILD + "    print('building')\n")
        .replace(FORWARD, FORWARD + "        print('looking')\n")
    )
    code, out, err = run_command("measure", manifest, "--run", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["images"] == 6
    assert "building" in err
    assert "looking" in err


def test_completion_still_ends_by_itself(tmp_path):
    environment = {
        **os.environ,
        "_GRADAUDIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "gradaudit an",
        "COMP_CWORD": "1",
    }
    code = "import sys; sys.argv = ['gradaudit']; from gradaudit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["analyze"])


def test_a_method_whose_module_exits_is_an_error(tmp_path, run_command, monkeypatch):
    manifest = write_audit(tmp_path, images=4)
    (tmp_path / "my_methods.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, err = run_command(
        "report", manifest, "--run", tmp_path / "run", "--method", "my_methods:mine"
    )
    assert (code, out) == (2, "")
    assert "my_methods:mine" in err
    assert "calls sys.exit(0)" in err
